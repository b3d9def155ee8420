"""Identities drawn at random, each kept when no kept one is too near: Vec2Face's sampling, exactly, at any number.

Candidate i depends on the seed and on i alone, and a cosine that float32 leaves in doubt is decided by an exact sum. So
neither blocks nor ranks nor devices change which candidates are kept: those that a loop over one after another keeps.

N: identities, B: candidates of a block, b: some of them, C: rows that they are compared with, S: rows that a normal
distribution is fitted to, F: frozen rows, P: protected rows, D: embedding dimension.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperface.config import PackingConfig
from hyperface.distributed.ranks import even_sizes
from hyperface.errors import ConfigError
from hyperface.packing import kernel
from hyperface.packing.bounds import max_cosine_bound
from hyperface.packing.keep_away import MARGIN
from hyperface.packing.partition import Partition

Rows = NDArray[np.float32]
Tell = Callable[[int, int], None]
"""Function that is called with (identities kept, candidates seen)."""

STARTS = ("rejection", "pca")
"""The values of packing.start that are drawn here."""
GENERATED = 1024
"""Number of candidates of one random generator. Another number gives other identities."""
BLOCK = {"cpu": 1024, "cuda": 4096}
"""Number of candidates that are compared at a time. This number changes nothing."""
SEGMENT = {"cpu": 1 << 13, "cuda": 1 << 18}
"""Number of rows after which candidates that are too near one of them are not looked at any more."""
WINDOW = 8 * GENERATED
"""Number of candidates after which the share that is kept is asked whether there is any hope."""
LARGEST_ADVICE = 1000
"""Number of candidates for each identity above which no more of them are advised."""
FITTED = 4096
"""Number of rows that a distribution takes in at a time."""


@dataclass(frozen=True)
class Sample:
    x_ND: Tensor
    """Unit rows, float32."""
    norms_N: Rows | None
    """Norms of the features drawn, whose directions the rows are; None where there are none to go by."""
    candidates: int
    """Number of candidates up to the one that was kept last."""


@dataclass(frozen=True)
class Normal:
    """A normal distribution: x = mean + root g, g of independent standard normal numbers."""

    mean_D: Tensor
    root_DD: Tensor
    """The symmetric root of the covariance; both float64, on the CPU."""


def rounding(dim: int) -> float:
    """Return the largest error of a float32 product of two unit rows, in whatever order it adds up (twice gamma_D in
    Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1)."""
    return dim * 2.0**-23


def refuse_impossible(config: PackingConfig, dim: int, frozen: int, fitted: int) -> None:
    """Raise ConfigError for a sample that no luck could find.

    Args:
        frozen: rows that identities keep away from besides each other.
        fitted: rows that a normal distribution can be fitted to.
    """
    points = config.num_identities + (frozen > 0)  # frozen rows may be as close to each other as they like
    bound = max_cosine_bound(points, dim)
    if bound > config.start_cosine + MARGIN:
        rule = (
            f"must be at least {bound:.4f}, the bound of Rankin and Levenshtein for {points} points in {dim} dimensions"
        )
        raise ConfigError(
            f"packing.start_cosine {rule}; raise it, or lower packing.num_identities; it is {config.start_cosine}"
        )
    if config.start == "pca" and fitted <= dim:
        rule = f"needs more rows than dimensions to fit a normal distribution to: the gallery has {fitted} in {dim}"
        raise ConfigError(
            f"packing.start=pca {rule} dimensions; embed more faces (embed.num_faces), or take packing.start=rejection"
        )


def fit(features_SD: Rows) -> Normal:
    """Fit a normal distribution with the mean and the covariance of the rows, S > D.

    Vec2Face (Wu et al., ICLR 2025), section 3.1. Paper: a normal distribution in the coordinates of a PCA, fitted to
    the mean feature of each real identity. Here: to all rows given, which are each somebody's as far as is known, and
    drawn by the symmetric root of the covariance: the same distribution, and unlike eigenvectors that root is unique,
    so that no library's choice of signs gives other identities.
    """
    samples, dim = features_SD.shape
    mean_D, covariance_DD = torch.zeros(dim, dtype=torch.float64), torch.zeros(dim, dim, dtype=torch.float64)
    with one_thread():
        for block_sD in _blocks(features_SD):
            mean_D += block_sD.sum(0) / samples
        for block_sD in _blocks(features_SD):
            covariance_DD += (block_sD - mean_D).T @ (block_sD - mean_D) / (samples - 1)
        variance_D, axes_DD = torch.linalg.eigh(covariance_DD)
        root_DD = axes_DD * variance_D.clamp(min=0).sqrt() @ axes_DD.T
    return Normal(mean_D, root_DD)


def _blocks(features_SD: Rows) -> Iterator[Tensor]:
    """Yield some rows at a time, float64."""
    for first in range(0, len(features_SD), FITTED):
        yield torch.from_numpy(features_SD[first : first + FITTED].astype(np.float64))


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread: sums of a product are in an order that depends on the number of threads; identities must
    not."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Candidates:
    """Directions drawn from a seed: of standard normal vectors, or of those of a normal distribution."""

    def __init__(self, dim: int, seed: tuple[int, int], normal: Normal | None = None) -> None:
        """
        Args:
            seed: the run's, and the number of its first identity: a part that is added later draws others.
        """
        self.dim, self._seed, self._normal = dim, seed, normal
        self._block, self._drawn = -1, (np.empty((0, dim), np.float32), np.empty(0, np.float32))

    def rows(self, first: int, last: int) -> tuple[Rows, Rows]:
        """Return (unit rows, their norms before) of the candidates from `first` on, before `last`."""
        parts = []
        for block in range(first // GENERATED, -(-last // GENERATED)):
            own = slice(max(first - block * GENERATED, 0), last - block * GENERATED)
            parts.append([values[own] for values in self._generated(block)])
        unit, norms = (np.concatenate(values) for values in zip(*parts, strict=True))
        return unit, norms

    def _generated(self, block: int) -> tuple[Rows, Rows]:
        if block != self._block:
            run, first_identity = self._seed
            rng = np.random.default_rng([run, 5, first_identity, block])
            x_BD = rng.standard_normal((GENERATED, self.dim))
            if self._normal is not None:
                with one_thread():
                    moved_BD = torch.from_numpy(x_BD) @ self._normal.root_DD + self._normal.mean_D
                x_BD = moved_BD.numpy()
            norms_B = np.sqrt((x_BD * x_BD).sum(1))
            self._drawn = (x_BD / norms_B[:, None]).astype(np.float32), norms_B.astype(np.float32)
            self._block = block
        return self._drawn


def near(x_BD: Tensor, columns_CD: Tensor, limit: float) -> Tensor:
    """Return which rows [B] have a cosine above `limit` with any of the columns: of the float32 rows, without
    rounding."""
    near_B = torch.zeros(len(x_BD), dtype=torch.bool, device=x_BD.device)
    waiting_b, doubt = torch.arange(len(x_BD), device=x_BD.device), rounding(x_BD.shape[1])
    segment = SEGMENT.get(x_BD.device.type, SEGMENT["cpu"])
    for first in range(0, len(columns_CD), segment):
        columns_cD = columns_CD[first : first + segment]
        cosine_b, _ = kernel.nearest(x_BD[waiting_b], columns_cD)
        above_b = cosine_b > limit + doubt
        for b in (~above_b & (cosine_b > limit - doubt)).nonzero().flatten().tolist():
            row_D = x_BD[waiting_b[b]]
            doubtful_cD = columns_cD[columns_cD @ row_D > limit - doubt]
            above_b[b] = any(_cosine(row_D, other_D) > limit for other_D in doubtful_cD)
        near_B[waiting_b[above_b]] = True
        waiting_b = waiting_b[~above_b]
        if not len(waiting_b):
            break
    return near_B


def _cosine(x_D: Tensor, y_D: Tensor) -> float:
    """Return a cosine to the last bit of float64, in which products of two float32 numbers are exact; their sum is
    rounded once."""
    return math.fsum((x_D.double() * y_D.double()).tolist())


def first_come(x_BD: Tensor, limit: float) -> NDArray[np.bool_]:
    """Return which rows [B] remain when each in turn goes that has a cosine above `limit` with one that remains before
    it."""
    cosine_BB, doubt = torch.tril(x_BD @ x_BD.T, -1), rounding(x_BD.shape[1])
    before_BB = torch.ones_like(cosine_BB, dtype=torch.bool).tril_(-1)
    above_BB = before_BB & (cosine_BB > limit + doubt)
    doubtful = before_BB & ~above_BB & (cosine_BB > limit - doubt)
    for row, other in doubtful.nonzero().tolist():
        above_BB[row, other] = _cosine(x_BD[row], x_BD[other]) > limit
    above = above_BB.cpu().numpy()
    remains_B = np.ones(len(x_BD), np.bool_)
    for row in np.flatnonzero(above.any(1)):
        remains_B[row] = not (above[row] & remains_B).any()
    return remains_B


def sample(
    candidates: Candidates,
    config: PackingConfig,
    partition: Partition,
    device: torch.device,
    frozen_FD: Tensor | None = None,
    protected_PD: Tensor | None = None,
    tell: Tell | None = None,
) -> Sample:
    """Return the first config.num_identities candidates that are no closer than config.start_cosine to one kept before.

    Vec2Face (Wu et al., ICLR 2025), section 3.1: random vectors, rejected when too similar to a kept one. Here: frozen
    rows count as kept, and a candidate that is closer than config.protected_cosine to a protected row is rejected too.

    Every rank holds all kept rows, and compares a block with its share of them; rank 0 decides within the block.

    Raises:
        ConfigError: not so many were found, with how many were.
    """
    n, most = config.num_identities, config.num_identities * config.start_candidates
    kept_ND, norms_N = torch.empty(n, candidates.dim, device=device), np.empty(n, np.float32)
    kept, windows = 0, [(0, 0)]
    for first, last in _spans(most, BLOCK.get(device.type, BLOCK["cpu"])):
        rows_BD, norms_B = candidates.rows(first, last)
        x_BD = torch.from_numpy(rows_BD).to(device)
        apart = [(kept_ND[:kept], config.start_cosine), (frozen_FD, config.start_cosine)]
        apart.append((protected_PD, config.protected_cosine - MARGIN))  # what `settle` would move is not kept
        chosen_b = _chosen(x_BD, apart, config.start_cosine, partition)[: n - kept]
        new = slice(kept, kept + len(chosen_b))
        kept_ND[new], norms_N[new] = x_BD[torch.from_numpy(chosen_b).to(device)], norms_B[chosen_b]
        kept = new.stop
        if tell is not None:
            tell(kept, last)
        if kept == n:
            return Sample(kept_ND, norms_N, first + int(chosen_b[-1]) + 1)
        if last % WINDOW == 0:
            if _hopeless(kept - windows[-1][0], n - kept, most - last):
                break
            windows.append((kept, last))
    enough = _enough((kept, last), next(w for w in reversed(windows) if w[1] <= max(0, last - WINDOW)), n)
    raise _not_met(config, kept, last, enough, max_cosine_bound(n, candidates.dim), frozen_FD, protected_PD)


def _spans(most: int, block: int) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of blocks of candidates, none of which crosses the end of a window."""
    first = 0
    while first < most:
        last = min(first + block, (first // WINDOW + 1) * WINDOW, most)
        yield first, last
        first = last


def _chosen(
    x_BD: Tensor, apart: list[tuple[Tensor | None, float]], limit: float, partition: Partition
) -> NDArray[np.int64]:
    """Return which candidates of a block are kept, the same on every rank."""
    near_B = torch.zeros(len(x_BD), dtype=torch.int32, device=x_BD.device)
    for rows_CD, cosine in apart:
        if rows_CD is not None:
            share = Partition(even_sizes(len(rows_CD), len(partition.sizes)), partition.rank, partition.group)
            near_B |= near(x_BD, rows_CD[share.own], cosine)
    left_b = (partition.group.max(near_B) == 0).nonzero().flatten()
    kept_b = torch.zeros(len(left_b), dtype=torch.int32, device=x_BD.device)
    if partition.rank == 0:
        kept_b = torch.from_numpy(first_come(x_BD[left_b], limit)).to(kept_b)
    chosen_b: NDArray[np.int64] = left_b[partition.group.max(kept_b) > 0].cpu().numpy()
    return chosen_b


def _hopeless(kept: int, missing: int, left: int) -> bool:
    """Return whether the candidates left cannot be enough: the share that is kept of a window only ever falls, but for
    chance, for which three standard deviations of its count are allowed."""
    return missing > (kept + 3 * math.sqrt(kept) + 5) / WINDOW * left


def _enough(now: tuple[int, int], before: tuple[int, int], n: int) -> int | None:
    """Return the number of candidates for each identity that would do if the share kept of those between the two
    moments, each (identities kept, candidates seen), remained: at least so many, since it falls. None where that is
    beyond reason."""
    (kept, seen), (kept_before, seen_before) = now, before
    if kept == kept_before:
        return None
    each = math.ceil((seen + (n - kept) * (seen - seen_before) / (kept - kept_before)) / n)
    return each if each <= LARGEST_ADVICE else None


def _not_met(
    config: PackingConfig,
    kept: int,
    seen: int,
    enough: int | None,
    bound: float,
    frozen_FD: Tensor | None,
    protected_PD: Tensor | None,
) -> ConfigError:
    apart, fixes = f"no closer than packing.start_cosine={config.start_cosine} to each other", []
    if enough is not None:
        fixes.append(f"raise packing.start_candidates={config.start_candidates} to {enough} or more")
    fixes.append("raise packing.start_cosine")
    if frozen_FD is not None:
        apart += f" and to {len(frozen_FD)} rows of packing.frozen"
        fixes.append("freeze fewer rows")
    if protected_PD is not None:
        apart += f", nor than packing.protected_cosine={config.protected_cosine} to {len(protected_PD)} protected rows"
        fixes.append("raise packing.protected_cosine, or protect fewer rows")
    fixes.append("lower packing.num_identities")
    found = f"found {kept} of {config.num_identities} identities {apart}, among {seen} candidates"
    bound_text = f"the bound of Rankin and Levenshtein on start_cosine, far below any sample, is {bound:.4f} here"
    return ConfigError(f"packing.start={config.start} {found}: {', or '.join(fixes)}; {bound_text}")


def shared(normal: Normal | None, dim: int, partition: Partition, device: torch.device) -> Normal:
    """Return rank 0's distribution, which alone has to have fitted it: on two kinds of processors it would not be
    one."""
    own = torch.empty(0, dim, dtype=torch.float64)
    if partition.rank == 0:
        assert normal is not None
        own = torch.cat([normal.mean_D[None], normal.root_DD])
    sizes = (dim + 1,) + (0,) * (len(partition.sizes) - 1)
    both = partition.group.gather(own.to(device), sizes)().cpu()
    return Normal(both[0], both[1:])
