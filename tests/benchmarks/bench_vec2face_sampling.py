"""Identities drawn one by one: rate and memory against the plain batched rejection in torch, in one run.

    python -m tests.benchmarks.bench_vec2face_sampling [rows] [dimensions] [repeats]

`plain`: a batch of torch.randn, its cosines with all kept rows as one matrix, its own cosines, a loop over those that
are near another, and torch.cat of what is kept. `ours`: hyperface.packing.sampling. The two take turns, in float32,
with batches of one size. Of two thresholds one rejects nearly nothing, the other about half of the last candidates.
Whether ours keeps just the rows that the plain loop keeps, given the same candidates, is looked at as well. Memory is
the peak of a process of its own above what it held before, kept rows included.
"""

import functools
import math
import multiprocessing
import statistics
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hyperface.config import PackingConfig
from hyperface.packing import sampling
from hyperface.packing.partition import one_process
from hyperface.packing.sampling import Candidates
from tests.benchmarks import record
from tests.benchmarks.bench_packing import extra_memory_of, seconds_of

Source = Callable[[int, int], Tensor]
BATCH = sampling.BLOCK["cpu"]
CROWDED = 0.8
"""Expected number of kept rows that a last candidate of the crowded sample is too near to."""


def drawn(first: int, last: int, dim: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(last - first, dim))


def plain(n: int, limit: float, source: Source) -> Tensor:
    kept_ND, first = source(0, 1), 1
    while len(kept_ND) < n:
        x_BD = source(first, first + BATCH)
        first += BATCH
        x_BD = x_BD[(x_BD @ kept_ND.T).amax(1) <= limit]
        above_BB = (x_BD @ x_BD.T > limit).tril(-1)
        remains_B = torch.ones(len(x_BD), dtype=torch.bool)
        for row in above_BB.any(1).nonzero().flatten().tolist():
            remains_B[row] = not (above_BB[row] & remains_B).any()
        kept_ND = torch.cat([kept_ND, x_BD[remains_B]])
    return kept_ND[:n]


def ours(n: int, dim: int, limit: float) -> sampling.Sample:
    config = PackingConfig(n, alpha=0.0, start="rejection", start_cosine=limit, start_candidates=100)
    return sampling.sample(Candidates(dim, (0, 0)), config, one_process(n), torch.device("cpu"))


def way(name: str, n: int, dim: int, limit: float) -> Callable[[], object]:
    if name == "plain":
        return lambda: plain(n, limit, functools.partial(drawn, dim=dim))
    return lambda: ours(n, dim, limit)


def crowded(n: int, dim: int) -> float:
    """The cosine above which a random direction has CROWDED of n others, by the normal approximation."""
    return statistics.NormalDist().inv_cdf(1 - CROWDED / n) / math.sqrt(dim)


def peak(name: str, n: int, dim: int, limit: float) -> float:
    """MiB, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (name, n, dim, limit))


def _peak(name: str, n: int, dim: int, limit: float) -> float:
    return extra_memory_of(way(name, 300, dim, 0.9), way(name, n, dim, limit))


def compared(n: int, dim: int, limit: float, repeats: int) -> dict[str, Any]:
    found, candidates = ours(n, dim, limit), Candidates(dim, (0, 0))
    same = plain(n, limit, lambda first, last: torch.from_numpy(candidates.rows(first, last)[0]))
    rates: dict[str, list[float]] = {"plain": [], "ours": []}
    for turn in range(1 + repeats):
        for name, values in rates.items():
            seconds = seconds_of(way(name, n, dim, limit))
            if turn:  # the first warms up
                values.append(n / seconds)
    return {
        "start_cosine": limit,
        "candidates": found.candidates,
        "the same rows as the plain loop": torch.equal(found.x_ND, same),
        **{f"{name}, identities/s": record.spread(values) for name, values in rates.items()},
        "times faster": record.spread([new / old for new, old in zip(rates["ours"], rates["plain"], strict=True)]),
        "peak memory, MiB": {name: peak(name, n, dim, limit) for name in rates},
    }


def sampling_part(n: int = 20_000, dim: int = 512, repeats: int = 3) -> None:
    measured = {
        name: compared(n, dim, limit, repeats)
        for name, limit in (("sparse", 0.3), ("crowded", round(crowded(n, dim), 3)))
    }
    settings = {"n": n, "dim": dim, "batch": BATCH, "repeats": repeats, "threads": torch.get_num_threads()}
    settings["MiB of the rows"] = n * dim * 4 / 2**20
    record.write("vec2face_sampling", settings, measured)


if __name__ == "__main__":
    sampling_part(*map(int, sys.argv[1:]))
