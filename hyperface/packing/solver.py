"""The packing itself: Adam on the embeddings, in one process or as one rank of many.

N: all rows, L: own rows of this rank, G: gallery rows, D: embedding dimension, b: rows of a mini-batch.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperface.config import ConfigError, PackingConfig
from hyperface.embeddings import check_unit
from hyperface.packing import objective, sphere
from hyperface.packing.bounds import max_cosine_bound
from hyperface.packing.shard import Shard, one_process

PAPER_BETAS = (0.9, 0.999)
"""Adam's usual decays, for the paper's rate: constant but for a factor 0.75 every 5,000 steps (recalled only)."""
EPSILON = 1e-4
"""Adam's, against gradients of n times the loss: as its usual 1e-8 against those of the loss at n = 10,000."""
SOFT_BETAS = (0.8, 0.9)
SOFT_RATE = 50.0
"""Steps of `logsumexp` are learning_rate * 50 * temperature in each coordinate.

Paper: a rate that hardly falls. Here: it cools with the temperature, because rows need to move less the finer the soft
maximum tells pairs apart; the factor makes the default of 0.01 right for it as well.
"""
HOT, COLD = 0.6, 0.015
"""First and last temperature of `logsumexp`, in units of 1 / sqrt(dim)."""


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


@dataclass(frozen=True)
class Measures:
    """Exact over all rows, blocked, float32."""

    max_cosine: float
    mean_nearest_cosine: float
    mean_gallery_cosine: float | None


@dataclass(frozen=True)
class Packing:
    references_ND: NDArray[np.float32]
    """Unit rows."""
    max_cosine: float
    """Of the closest pair; exact over all pairs."""
    mean_nearest_cosine: float
    mean_gallery_cosine: float | None
    """Mean over references of the cosine with the nearest gallery row; None without a gallery."""
    bound_cosine: float
    """No packing of so many points in so many dimensions has a smaller max_cosine."""
    max_cosine_before: float
    mean_nearest_cosine_before: float
    duplicates_separated: int
    """Rows of the start that repeated an earlier one."""
    steps: int
    seconds: float
    """Spent on steps."""


@dataclass
class State:
    """A rank's rows and their optimiser: what a checkpoint holds."""

    x_LD: Tensor
    mean_LD: Tensor
    square_LD: Tensor
    count_L: Tensor
    """Updates of each row: in a mini-batch run not all are equal."""
    step: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Problem:
    config: PackingConfig
    seed: int
    gallery_GD: Tensor | None


def fresh_state(x_LD: Tensor) -> State:
    count_L = torch.zeros(len(x_LD), dtype=torch.int64, device=x_LD.device)
    return State(x_LD.clone(), torch.zeros_like(x_LD), torch.zeros_like(x_LD), count_L)


def pack(
    start_ND: NDArray[np.float32],
    config: PackingConfig,
    *,
    seed: int,
    gallery_GD: NDArray[np.float32] | None = None,
    on_step: Callable[[Progress], None] | None = None,
) -> Packing:
    """Spread identities on the hypersphere, near the gallery: HyperFace in one process.

    Paper: HyperFace (Otroshi Shahreza and Marcel, ICLR 2025), algorithms 1 and 2. Minimise, over unit rows,
    separation + alpha * mean over rows of the cosine distance to the nearest gallery row, by Adam on the rows
    themselves, normalising them after each step.

    Args:
        start_ND: at least config.num_identities unit rows; a seeded choice of them, when there are more, is the start.
        gallery_GD: unit rows that stand for the manifold of real embeddings; None: alpha has no effect.
        on_step: called once a step.

    Raises:
        ConfigError: rows or dimensions that do not fit the configuration.
        EmbeddingError: rows that are not finite and of norm 1.
    """
    device = "cuda" if config.gpus_per_worker > 0 else "cpu"
    x_ND, duplicates = prepare(start_ND, gallery_GD, config, seed)
    gallery = None if gallery_GD is None else torch.tensor(gallery_GD, device=device)
    problem, shard = Problem(config, seed, gallery), one_process(len(x_ND))
    state = fresh_state(torch.tensor(x_ND, device=device))
    before = measure(state.x_LD, gallery, shard)
    for progress in iterate(state, problem, shard):
        if on_step is not None:
            on_step(progress)
    return finished(state, problem, shard, before, duplicates)


def prepare(
    start_ND: NDArray[np.float32], gallery_GD: NDArray[np.float32] | None, config: PackingConfig, seed: int
) -> tuple[NDArray[np.float32], int]:
    """The checked start and how many of its rows were moved off an equal one (none when there are no steps)."""
    if gallery_GD is not None:
        if gallery_GD.ndim != 2 or gallery_GD.shape[1:] != start_ND.shape[1:] or not len(gallery_GD):
            shapes = f"gallery {gallery_GD.shape}, start {start_ND.shape}"
            raise ConfigError(f"packing: gallery and start must be rows of the same dimension; give {shapes} one model")
        check_unit(gallery_GD, "packing gallery")
    x_ND = sphere.choose_start(start_ND, config.num_identities, seed)
    return sphere.separate_duplicates(x_ND, seed) if config.steps else (x_ND, 0)


def iterate(state: State, problem: Problem, shard: Shard) -> Iterator[Progress]:
    """Take the remaining steps, yielding after each; `state` is updated in place."""
    before, clock = state.seconds, time.perf_counter()
    while state.step < problem.config.steps:
        progress = local_step(state, problem, shard)
        state.seconds = before + time.perf_counter() - clock
        yield progress


def local_step(state: State, problem: Problem, shard: Shard) -> Progress:
    """One update of this rank's rows. Every rank calls it; what it computes does not depend on how many there are."""
    config = problem.config
    rows, shard = _rows_of_step(state, problem, shard)
    own_LD = state.x_LD[rows]
    tau = temperature(state.step, config.steps, own_LD.shape[1])
    gallery_GD = problem.gallery_GD if config.alpha > 0 else None
    value = objective.evaluate(own_LD, gallery_GD, shard, config.separation, config.alpha, tau)
    gradient_LD = sphere.tangent(value.gradient_LD, own_LD)
    # Times n: Adam ignores the scale of a gradient except against its epsilon, which must not depend on n.
    if config.separation == "logsumexp":
        change_LD = _adam(state, rows, sum(shard.sizes) * gradient_LD, SOFT_BETAS)
        rate = SOFT_RATE * config.learning_rate * tau
    else:
        change_LD = _adam(state, rows, sum(shard.sizes) * gradient_LD, PAPER_BETAS)
        rate = config.learning_rate * 0.75 ** (state.step // 5000)
    state.x_LD[rows] = sphere.normalise(own_LD - rate * change_LD)
    state.step += 1
    seen = value.max_cosine, value.mean_nearest_cosine, value.mean_gallery_cosine
    return Progress(state.step - 1, *seen, value.loss, state.seconds)


def _rows_of_step(state: State, problem: Problem, shard: Shard) -> tuple[slice | Tensor, Shard]:
    """Which of the own rows take part in this step, and the ranks' shares of it.

    Paper: algorithm 2, a random mini-batch of identities each step. Here: drawn from (seed, step) alone, the same on
    every rank; rows outside it rest, with their optimiser state.
    """
    size, n = problem.config.batch_identities, sum(shard.sizes)
    if size in (0, n):
        return slice(None), shard
    batch_b = batch(n, size, problem.seed, state.step)
    of_batch = shard.of_batch(batch_b)
    own_b = torch.from_numpy(batch_b[of_batch.own] - shard.own.start)
    return own_b.to(state.x_LD.device), of_batch


def batch(n: int, size: int, seed: int, step: int) -> NDArray[np.int64]:
    """The rows of a step's mini-batch, ascending: a uniform choice that depends on its arguments only."""
    return np.sort(np.random.default_rng([seed, 2, step]).choice(n, size, replace=False, shuffle=False))


def temperature(step: int, steps: int, dim: int) -> float:
    """Temperature of the soft maximum, in cosines: from hot, where all pairs count, to cold, where the closest do.

    In units of 1 / sqrt(dim), the spread of the cosines of random points, one schedule serves every dimension.
    """
    share = step / max(1, steps - 1)
    return float(dim**-0.5 * HOT * (COLD / HOT) ** (share**1.4))


def _adam(state: State, rows: slice | Tensor, gradient_LD: Tensor, betas: tuple[float, float]) -> Tensor:
    """Adam (Kingma and Ba, ICLR 2015, algorithm 1): the direction of a step, of size about 1 in each coordinate.

    Paper: one count of steps. Here: one for each row, because rows outside a mini-batch rest.
    """
    count_L = state.count_L[rows] + 1
    mean_LD = torch.lerp(gradient_LD, state.mean_LD[rows], betas[0])
    square_LD = torch.lerp(gradient_LD.square(), state.square_LD[rows], betas[1])
    state.count_L[rows], state.mean_LD[rows], state.square_LD[rows] = count_L, mean_LD, square_LD
    unbiased_mean_LD = mean_LD / (1 - betas[0] ** count_L)[:, None]
    unbiased_square_LD = square_LD / (1 - betas[1] ** count_L)[:, None]
    return unbiased_mean_LD / (unbiased_square_LD.sqrt() + EPSILON)


def measure(x_LD: Tensor, gallery_GD: Tensor | None, shard: Shard) -> Measures:
    """How good all rows are, of which this rank owns `x_LD`; the same on every rank."""
    seen = objective.nearest(x_LD, shard.all(x_LD), shard.own.start)
    near = None if gallery_GD is None else objective.nearest(x_LD, gallery_GD, None)
    cosine_N = shard.all(seen.cosine_L.double())
    near_N = None if near is None else shard.all(near.cosine_L.double())
    closeness = None if near_N is None else near_N.mean().item()
    return Measures(cosine_N.max().item(), cosine_N.mean().item(), closeness)


def finished(state: State, problem: Problem, shard: Shard, before: Measures, duplicates: int) -> Packing:
    """All rows and what they reached; the same on every rank."""
    after = measure(state.x_LD, problem.gallery_GD, shard)
    references_ND = shard.all(state.x_LD).cpu().numpy()
    return Packing(
        references_ND=references_ND,
        max_cosine=after.max_cosine,
        mean_nearest_cosine=after.mean_nearest_cosine,
        mean_gallery_cosine=after.mean_gallery_cosine,
        bound_cosine=max_cosine_bound(*references_ND.shape),
        max_cosine_before=before.max_cosine,
        mean_nearest_cosine_before=before.mean_nearest_cosine,
        duplicates_separated=duplicates,
        steps=state.step,
        seconds=state.seconds,
    )
