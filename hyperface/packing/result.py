"""The result of a packing: exact over all pairs in float32, with the certificate of how much better it could be.

N: all rows, L: own rows of this rank, F: frozen rows, D: embedding dimension.
"""

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperface.distributed.ranks import even_sizes
from hyperface.errors import ConfigError, RunError
from hyperface.packing import keep_away, kernel, sampling
from hyperface.packing.bounds import max_cosine_bound
from hyperface.packing.kernel import Block, Nearest, unpack
from hyperface.packing.objective import Value
from hyperface.packing.partition import Partition
from hyperface.packing.problem import Posed
from hyperface.packing.solver import Problem, State, fresh_state

BINS = 40
"""Number of bins of the histogram of nearest cosines."""


@dataclass(frozen=True)
class Measures:
    """Measures that are exact over all rows, blocked, float32."""

    max_cosine: float
    mean_nearest_cosine: float
    mean_gallery_cosine: float | None
    max_protected_cosine: float | None


@dataclass(frozen=True)
class Progress:
    """The numbers of a step as its objective saw it, before the update; of the mini-batch only where there is one."""

    step: int
    """Number of updates done before: 0 is the start."""
    max_cosine: float
    mean_nearest_cosine: float
    mean_gallery_cosine: float | None
    """Mean cosine with the nearest gallery row; None when alpha is 0 or there is no gallery: then nobody looked."""
    loss: float
    seconds: float
    """Seconds spent on steps so far."""

    @classmethod
    def of(cls, value: Value, state: State) -> "Progress":
        """Make numbers of the step just taken, for which it waits."""
        closeness = value.mean_gallery_cosine
        return cls(
            step=state.step - 1,
            max_cosine=value.max_cosine.item(),
            mean_nearest_cosine=value.mean_nearest_cosine.item(),
            mean_gallery_cosine=None if closeness is None else closeness.item(),
            loss=value.loss.item(),
            seconds=state.seconds,
        )

    @classmethod
    def at_the_end(cls, packing: "Packing", problem: Problem) -> "Progress":
        """Return the result itself, as the step after the last."""
        reached = packing.max_cosine, packing.mean_nearest_cosine, packing.mean_gallery_cosine
        hard = problem.separation.score(packing.max_cosine, packing.mean_nearest_cosine)
        alpha = problem.config.alpha
        loss = hard + (0.0 if reached[2] is None else alpha * (1 - reached[2]))
        return cls(packing.steps, *reached, loss, packing.seconds)


@dataclass(frozen=True)
class Packing:
    references_ND: NDArray[np.float32]
    """Unit rows; the frozen ones are not among them."""
    max_cosine: float
    """Cosine of the closest pair with a reference in it, frozen rows included; exact over all pairs."""
    mean_nearest_cosine: float
    mean_gallery_cosine: float | None
    """Mean over references of the cosine with the nearest gallery row; None without a gallery."""
    max_protected_cosine: float | None
    """Largest cosine between a reference and a protected row; None without protected rows."""
    max_protected_cosine_of_frozen: float | None
    """Largest cosine between a frozen and a protected row, which stays whatever it is; None without either."""
    max_cosine_within_frozen: float | None
    """Cosine of the closest pair of frozen rows, which nothing can change; None with fewer than two."""
    bound_cosine: float
    """Lower bound: no packing of so many points, frozen ones included, in so many dimensions has a smaller closest
    pair."""
    bound_angle_share: float
    """Smallest angle between any two, as a share (0..1] of the largest that the bound allows."""
    nearest_histogram: dict[str, list[float]]
    """`edges` (cosines) and `counts` of the references' cosines with their nearest."""
    max_cosine_before: float
    mean_nearest_cosine_before: float
    duplicates_separated: int
    """Number of rows of the start that repeated an earlier one."""
    steps: int
    stopped_by: str
    """Rule that ended it: `steps`, `target_cosine` or `patience`."""
    seconds: float
    """Seconds spent on steps."""
    norms_N: NDArray[np.float32] | None = None
    """Norms of the features that a drawn start came from, whose directions the rows were before the first step."""
    sampled: dict[str, float] | None = None
    """Numbers of a start that was drawn: `start_cosine`, `candidates` and how many of them were `kept`."""

    @property
    def numbers(self) -> dict[str, Any]:
        """Return the certificate: all numbers but those that belong to rows."""
        rows = ("references_ND", "norms_N")
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in rows}


def begin(posed: Posed, partition: Partition) -> tuple[State, Measures | None]:
    """Return the state before the first step, and the measures of the start; None where the result is just that.

    Raises:
        ConfigError: packing.protected_cosine cannot be met.
        RunError: rows that were drawn are closer than they may be.
    """
    problem, x_LD = posed.problem, posed.x_ND[partition.own]
    if not (problem.config.steps or problem.config.polish or problem.protected_PD is not None):
        return fresh_state(x_LD, problem.config, math.inf), None
    before = measure(x_LD, problem, partition)
    _refuse_close(before, posed)
    if problem.protected_PD is not None:  # said before the steps, not after them
        x_LD, stuck_L = _settled(x_LD, problem, partition)
        stuck = int(partition.each(stuck_L.sum()).sum())
        if stuck:
            rule = f"found no place for {stuck} of {sum(partition.sizes)} identities that far from all protected ones"
            fix = "raise it, or protect fewer embeddings"
            raise ConfigError(f"packing.protected_cosine {rule}: {fix}; it is {problem.config.protected_cosine}")
    return fresh_state(x_LD, problem.config, before.max_cosine), before


def _settled(x_LD: Tensor, problem: Problem, partition: Partition) -> tuple[Tensor, Tensor]:
    """Move the rows out of reach of the protected ones; return them, and which found no place."""
    assert problem.protected_PD is not None
    return keep_away.settle(
        x_LD, problem.protected_PD, problem.config.protected_cosine, (problem.seed, partition.own.start)
    )


def measure(x_LD: Tensor, problem: Problem, partition: Partition) -> Measures:
    """Measure how good all rows are, of which this rank owns `x_LD`; the same on every rank."""
    return _measure(x_LD, problem, partition)[0]


def _refuse_close(start: Measures, posed: Posed) -> None:
    """Refuse a drawn start whose rows are closer than was asked, by a look at all pairs that knows nothing of the
    drawing."""
    limit = posed.problem.config.start_cosine
    if posed.sampled is not None and start.max_cosine > limit + sampling.rounding(posed.x_ND.shape[1]):
        rule = f"packing.start_cosine={limit} is not kept: two rows that were drawn have cosine {start.max_cosine}"
        raise RunError(f"packing: {rule}; this is no fault of the configuration: run it again and report it")


def finished(state: State, posed: Posed, partition: Partition, before: Measures | None) -> Packing:
    """Return all rows, of the best step or the last, and their measures; the same on every rank.

    Raises:
        RunError: as `begin`, where it left the look at all pairs to this.
    """
    problem = posed.problem
    # Without a best step, as of random choices, the start is the other candidate.
    candidates = [state.x_LD, state.best_LD] if state.step else [state.x_LD]
    refined = [_refined(x_LD, posed, partition) for x_LD in candidates]
    reached = [(x_LD, *_measure(x_LD, problem, partition)) for x_LD in refined]
    x_LD, after, cosine_N = min(reached, key=lambda each: score(each[1], problem))
    stopped_by = "steps" if state.step >= problem.config.steps else "target_cosine"
    if before is None:
        before = after
        _refuse_close(before, posed)
    if stopped_by != "steps" and float(state.max_cosine) > problem.config.target_cosine:
        stopped_by = "patience"
    run: dict[str, Any] = {"steps": state.step, "stopped_by": stopped_by, "seconds": state.seconds}
    references_ND = partition.all(x_LD).cpu().numpy()
    run["max_cosine_within_frozen"] = _max_cosine_within_frozen(problem, partition)
    both = problem.frozen_FD is not None and problem.protected_PD is not None
    run["max_protected_cosine_of_frozen"] = _intrusion(problem.frozen_FD, problem.protected_PD) if both else None
    run |= {"norms_N": posed.norms_N, "sampled": posed.sampled}
    return certify(references_ND, cosine_N, after, before, posed.duplicates, problem, run)


def _refined(x_LD: Tensor, posed: Posed, partition: Partition) -> Tensor:
    """Do what is left to do when the steps are over. A row that finds no place goes back to the one it started from."""
    problem = posed.problem
    if problem.protected_PD is not None:
        x_LD, stuck_L = _settled(x_LD, problem, partition)
        start_LD, _ = _settled(posed.x_ND[partition.own], problem, partition)
        return torch.where(stuck_L[:, None], start_LD, x_LD)
    if problem.config.polish:  # of one rank
        from hyperface.packing.polish import polish

        return torch.from_numpy(polish(x_LD.double().cpu().numpy())).to(x_LD)
    return x_LD


def score(measures: Measures, problem: Problem) -> float:
    """Return the objective with the hard maximum, in which the best of several packings is best."""
    hard = problem.separation.score(measures.max_cosine, measures.mean_nearest_cosine)
    closeness = measures.mean_gallery_cosine
    if not math.isfinite(hard):
        return math.inf
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
    """Return the packing with the bound that it is compared with."""
    n, dim = references_ND.shape
    closest = after.max_cosine
    if problem.frozen_FD is not None:
        n, closest = n + len(problem.frozen_FD), max(closest, run["max_cosine_within_frozen"] or -1.0)
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


def _intrusion(x_LD: Tensor | None, protected_PD: Tensor | None) -> float:
    assert x_LD is not None
    assert protected_PD is not None
    return float(kernel.nearest(x_LD, protected_PD)[0].max())


def _max_cosine_within_frozen(problem: Problem, partition: Partition) -> float | None:
    """Return the cosine of the closest pair of frozen rows, shared among the ranks."""
    if problem.frozen_FD is None or len(problem.frozen_FD) < 2:
        return None
    share = Partition(even_sizes(len(problem.frozen_FD), len(partition.sizes)), partition.rank, partition.group)
    return measure(problem.frozen_FD[share.own], Problem(problem.config, problem.seed), share).max_cosine


def _measure(x_LD: Tensor, problem: Problem, partition: Partition) -> tuple[Measures, Tensor]:
    """Return the measures, and each row's cosine with its nearest."""
    seen, first = Nearest(sum(partition.sizes), x_LD.device), partition.own.start
    arriving = partition.group.gather(x_LD, partition.sizes)
    seen.look(Block(x_LD, first, x_LD, first, both=True))
    x_ND = arriving()
    for rows, columns in partition.rectangles():
        seen.look(Block(x_ND[rows], rows.start, x_ND[columns], columns.start, both=True))
    if problem.frozen_FD is not None:
        seen.look(Block(x_LD, first, problem.frozen_FD, len(x_ND)))
    cosine_N, _ = unpack(partition.group.max(seen.packed_N))
    gallery, protected = problem.gallery_GD, problem.protected_PD
    closeness = None if gallery is None else partition.all(kernel.nearest(x_LD, gallery)[0].double()).mean().item()
    intrusion = None if protected is None else partition.all(kernel.nearest(x_LD, protected)[0]).max().item()
    return Measures(cosine_N.max().item(), cosine_N.double().mean().item(), closeness, intrusion), cosine_N
