"""What a packing reached: exact over all pairs in float32, with the certificate of how much better it could be.

N: all rows, L: own rows of this rank, F: frozen rows, D: embedding dimension.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperface.packing import kernel, walls
from hyperface.packing.bounds import max_cosine_bound
from hyperface.packing.kernel import Block, Nearest, unpack
from hyperface.packing.objective import Value
from hyperface.packing.polish import polish
from hyperface.packing.problem import Posed
from hyperface.packing.shard import Shard, even_sizes
from hyperface.packing.solver import Problem, State, fresh_state

BINS = 40
"""Of the histogram of nearest cosines."""


@dataclass(frozen=True)
class Measures:
    """Exact over all rows, blocked, float32."""

    max_cosine: float
    mean_nearest_cosine: float
    mean_gallery_cosine: float | None
    max_protected_cosine: float | None


@dataclass(frozen=True)
class Progress:
    """A step as its objective saw it, before the update; of the mini-batch only where there is one."""

    step: int
    """Updates done before: 0 is the start."""
    max_cosine: float
    mean_nearest_cosine: float
    mean_gallery_cosine: float | None
    """None when alpha is 0 or there is no gallery: then nobody looked."""
    loss: float
    seconds: float
    """Spent on steps so far."""

    @classmethod
    def of(cls, value: Value, state: State) -> "Progress":
        """In numbers, for which it waits, of the step just taken."""
        closeness = value.mean_gallery_cosine
        return cls(
            step=state.step - 1,
            max_cosine=value.max_cosine.item(),
            mean_nearest_cosine=value.mean_nearest_cosine.item(),
            mean_gallery_cosine=None if closeness is None else closeness.item(),
            loss=value.loss.item(),
            seconds=state.seconds,
        )


@dataclass(frozen=True)
class Packing:
    references_ND: NDArray[np.float32]
    """Unit rows; the frozen ones are not among them."""
    max_cosine: float
    """Of the closest pair with a reference in it, frozen rows included; exact over all pairs."""
    mean_nearest_cosine: float
    mean_gallery_cosine: float | None
    """Mean over references of the cosine with the nearest gallery row; None without a gallery."""
    max_protected_cosine: float | None
    """The largest between a reference and a protected row; None without protected rows."""
    max_frozen_cosine: float | None
    """Of the closest pair of frozen rows, which nothing can change; None without frozen rows."""
    bound_cosine: float
    """No packing of so many points, frozen ones included, in so many dimensions has a smaller closest pair."""
    bound_angle_share: float
    """The smallest angle between any two, as a share (0..1] of the largest that the bound allows."""
    nearest_histogram: dict[str, list[float]]
    """`edges` (cosines) and `counts` of the references' cosines with their nearest."""
    max_cosine_before: float
    mean_nearest_cosine_before: float
    duplicates_separated: int
    """Rows of the start that repeated an earlier one."""
    steps: int
    stopped_by: str
    """`steps`, `target_cosine`, `patience` or `restarts`: what ended it."""
    seconds: float
    """Spent on steps."""


def begin(posed: Posed, shard: Shard) -> tuple[State, Measures]:
    """The state before the first step, and how good the start is.

    Raises:
        ConfigError: packing.protected_cosine cannot be met.
    """
    problem, x_LD = posed.problem, posed.x_ND[shard.own]
    before = measure(x_LD, problem, shard)
    if problem.protected_PD is not None:  # said before the steps, not after them
        x_LD = walls.settle(x_LD, problem.protected_PD, problem.config.protected_cosine, shard)
    return fresh_state(x_LD, problem.config, before.max_cosine), before


def measure(x_LD: Tensor, problem: Problem, shard: Shard) -> Measures:
    """How good all rows are, of which this rank owns `x_LD`; the same on every rank."""
    return _measure(x_LD, problem, shard)[0]


def finished(state: State, problem: Problem, shard: Shard, before: Measures, duplicates: int) -> Packing:
    """All rows, of the best step or the last, and what they reached; the same on every rank.

    Raises:
        ConfigError: packing.protected_cosine cannot be met.
    """
    candidates = [state.x_LD] if state.step == 0 or math.isinf(float(state.best)) else [state.x_LD, state.best_LD]
    refined = [_refined(x_LD, problem, shard) for x_LD in candidates]
    reached = [(x_LD, *_measure(x_LD, problem, shard)) for x_LD in refined]
    x_LD, after, cosine_N = min(reached, key=lambda each: score(each[1], problem))
    stopped_by = "steps" if state.step >= problem.config.steps else "target_cosine"
    if stopped_by != "steps" and float(state.max_cosine) > problem.config.target_cosine:
        stopped_by = "patience"
    run = {"steps": state.step, "stopped_by": stopped_by, "seconds": state.seconds}
    references_ND = shard.all(x_LD).cpu().numpy()
    run["max_frozen_cosine"] = _max_frozen_cosine(problem, shard)
    return certify(references_ND, cosine_N, after, before, duplicates, problem, run)


def _refined(x_LD: Tensor, problem: Problem, shard: Shard) -> Tensor:
    """What is left to do when the steps are over."""
    if problem.protected_PD is not None:
        return walls.settle(x_LD, problem.protected_PD, problem.config.protected_cosine, shard)
    if problem.config.polish:  # of one rank
        return torch.from_numpy(polish(x_LD.double().cpu().numpy())).to(x_LD)
    return x_LD


def score(measures: Measures, problem: Problem) -> float:
    """The objective with the hard maximum: what the best of several packings is best in."""
    hard = measures.mean_nearest_cosine if problem.config.separation == "nearest" else measures.max_cosine
    closeness = measures.mean_gallery_cosine
    return hard if closeness is None else hard + problem.config.alpha * (1 - closeness)


def certify(
    references_ND: NDArray[np.float32],
    cosine_N: Tensor,
    after: Measures,
    before: Measures,
    duplicates: int,
    problem: Problem,
    run: dict[str, Any],
) -> Packing:
    """The packing with the bound that it is compared with."""
    n, dim = references_ND.shape
    closest = after.max_cosine
    if problem.frozen_FD is not None:
        n, closest = n + len(problem.frozen_FD), max(closest, run["max_frozen_cosine"])
    bound = max_cosine_bound(n, dim)
    nearest_N = cosine_N.double().cpu().numpy()
    counts, edges = np.histogram(nearest_N, BINS, (nearest_N.min() - 1e-6, nearest_N.max() + 1e-6))
    return Packing(
        references_ND=references_ND,
        max_cosine=after.max_cosine,
        mean_nearest_cosine=after.mean_nearest_cosine,
        mean_gallery_cosine=after.mean_gallery_cosine,
        max_protected_cosine=after.max_protected_cosine,
        bound_cosine=bound,
        bound_angle_share=math.acos(min(1.0, max(-1.0, closest))) / math.acos(bound),
        nearest_histogram={"edges": edges.tolist(), "counts": counts.tolist()},
        max_cosine_before=before.max_cosine,
        mean_nearest_cosine_before=before.mean_nearest_cosine,
        duplicates_separated=duplicates,
        **run,
    )


def _max_frozen_cosine(problem: Problem, shard: Shard) -> float | None:
    """Of the closest pair of frozen rows, shared among the ranks."""
    if problem.frozen_FD is None:
        return None
    share = Shard(even_sizes(len(problem.frozen_FD), len(shard.sizes)), shard.rank, shard.group)
    return measure(problem.frozen_FD[share.own], Problem(problem.config, problem.seed), share).max_cosine


def _measure(x_LD: Tensor, problem: Problem, shard: Shard) -> tuple[Measures, Tensor]:
    """The measures, and each row's cosine with its nearest."""
    seen, first = Nearest(sum(shard.sizes), x_LD.device), shard.own.start
    arriving = shard.group.gather(x_LD, shard.sizes)
    seen.look(Block(x_LD, first, x_LD, first, both=True))
    x_ND = arriving()
    for rows, columns in shard.rectangles():
        seen.look(Block(x_ND[rows], rows.start, x_ND[columns], columns.start, both=True))
    if problem.frozen_FD is not None:
        seen.look(Block(x_LD, first, problem.frozen_FD, len(x_ND)))
    cosine_N, _ = unpack(shard.group.max(seen.packed_N))
    gallery, protected = problem.gallery_GD, problem.protected_PD
    closeness = None if gallery is None else shard.all(kernel.nearest(x_LD, gallery)[0].double()).mean().item()
    intrusion = None if protected is None else shard.all(kernel.nearest(x_LD, protected)[0]).max().item()
    return Measures(cosine_N.max().item(), cosine_N.double().mean().item(), closeness, intrusion), cosine_N
