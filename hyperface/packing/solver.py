"""The steps of a packing: Adam on the embeddings, in one process or as one rank of many.

N: all rows, L: own rows of this rank, G: gallery rows, F: frozen rows, P: protected rows, D: embedding dimension,
b: own rows that move in a step.
"""

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperface.config import PackingConfig
from hyperface.packing import keep_away, kernel, objective, objectives, restarts, sphere
from hyperface.packing.objective import Against, Separation, Value
from hyperface.packing.partition import Partition

EPSILON = 1e-4
"""Epsilon of Adam, against gradients of n times the loss: as its usual 1e-8 against those of the loss at n = 10,000."""
BLOCK = {"cpu": 512, "cuda": 1 << 16}
"""Number of rows that are updated at a time: what is needed on the way stays in a CPU's cache, and a GPU has enough to
do."""
LOOK_EVERY = 10
"""Number of steps between looks at whether to stop: a look waits for the device."""
BETTER = 1e-4
"""Smallest improvement that counts, for `patience`."""


@dataclass(frozen=True)
class Problem:
    config: PackingConfig
    seed: int
    gallery_GD: Tensor | None = None
    frozen_FD: Tensor | None = None
    protected_PD: Tensor | None = None

    @cached_property
    def separation(self) -> Separation:
        return objectives.chosen(self.config)


@dataclass
class State:
    """A rank's rows and their optimiser, as a checkpoint holds them."""

    x_LD: Tensor
    mean_LD: Tensor
    square_LD: Tensor
    """Second moments [L, D], or as many numbers a row as `Separation.scales` says."""
    count_L: Tensor
    """Number of updates of each row: in a mini-batch run not all are equal."""
    near_L: Tensor
    """Number of the gallery row that was nearest at the last search: int64."""
    wall_L: Tensor
    """Number of the protected row that was nearest at the last search: int64."""
    best_LD: Tensor
    """The rows of the best step so far."""
    best: Tensor
    """Objective of the best rows with the hard maximum: 0-dimensional, as are all below; the same on every rank."""
    max_cosine: Tensor
    """Largest cosine as the last step saw it, before its update."""
    step: int = 0
    seconds: float = 0.0
    looked_best: float = math.inf
    """Value of `best` when it last was better by enough; the field below is the step at which that was seen."""
    looked_step: int = 0


def fresh_state(x_LD: Tensor, config: PackingConfig, max_cosine: float) -> State:
    """Return the state before the first step, given the largest cosine among all rows."""
    zeros_L = torch.zeros(len(x_LD), dtype=torch.int64, device=x_LD.device)
    width = objectives.chosen(config).scales(x_LD.shape[1])
    return State(
        x_LD=x_LD.clone(),
        mean_LD=torch.zeros_like(x_LD),
        square_LD=x_LD.new_zeros(len(x_LD), width),
        count_L=zeros_L,
        near_L=zeros_L.clone(),
        wall_L=zeros_L.clone(),
        best_LD=x_LD.clone(),
        best=x_LD.new_full((), math.inf),
        max_cosine=x_LD.new_full((), max_cosine),
    )


def iterate(state: State, problem: Problem, partition: Partition) -> Iterator[Value]:
    """Take the remaining steps, until one of the rules to stop holds; yields after each. `state` changes in place."""
    before, clock = state.seconds, time.perf_counter()
    if problem.config.restarts > 1 and state.step < problem.config.steps:
        _restart(state, problem)
        state.seconds = before + time.perf_counter() - clock
    while state.step < problem.config.steps and not stops(state, problem.config):
        value = local_step(state, problem, partition)
        state.seconds = before + time.perf_counter() - clock
        yield value


def _restart(state: State, problem: Problem) -> None:
    """Take all steps of all restarts, of which the start is one. A packing of this kind has one rank."""
    config, (n, dim) = problem.config, state.x_LD.shape
    drawn_RND = restarts.draw(n, dim, config.restarts - 1, problem.seed)
    start_RND = np.concatenate([state.x_LD.double().cpu().numpy()[None], drawn_RND])
    tightest_ND = torch.from_numpy(restarts.best_of(start_RND, config.steps))
    state.x_LD, state.step = tightest_ND.to(state.x_LD), config.steps


def stops(state: State, config: PackingConfig) -> bool:
    """Return whether the target is met or the best step is too old: looked at every LOOK_EVERY steps, alike on all
    ranks."""
    if state.step % LOOK_EVERY or not state.step or not config.stops_early:
        return False
    if float(state.max_cosine) <= config.target_cosine and not config.batched:
        return True
    best = float(state.best)
    if best < state.looked_best - BETTER:
        state.looked_best, state.looked_step = best, state.step
    return 0 < config.patience <= state.step - state.looked_step


def local_step(state: State, problem: Problem, partition: Partition) -> Value:
    """Take one update of this rank's rows. Every rank calls it; what it computes does not depend on how many there
    are."""
    config, separation, dim = problem.config, problem.separation, state.x_LD.shape[1]
    rows, of_step = _rows_of_step(state, problem, partition)
    _find_neighbours(state, problem, rows)
    own_bD = state.x_LD[rows]
    near_bD = None if problem.gallery_GD is None or not config.alpha else problem.gallery_GD[state.near_L[rows]]
    terms = separation.terms(state.step, state.max_cosine, dim)
    against = _against(state, problem, partition, rows, terms.dtype)
    with _tensor_cores(config.precision == "bfloat16"):
        value = objective.evaluate(own_bD, near_bD, of_step, separation, terms, against)
    if isinstance(rows, slice):
        _keep_best(state, value, problem)
    state.max_cosine = value.max_cosine.to(state.max_cosine.dtype)
    # Times n: Adam ignores the scale of a gradient except against its epsilon, which must not depend on n.
    points = sum(partition.sizes) + (0 if problem.frozen_FD is None else len(problem.frozen_FD))
    rate = separation.rate(state.step, points, dim)
    _update(state, rows, value.gradient_LD.mul_(sum(of_step.sizes)), rate, problem)
    state.step += 1
    return value


def _rows_of_step(state: State, problem: Problem, partition: Partition) -> tuple[slice | Tensor, Partition]:
    """Return which of the own rows take part in this step, and the ranks' shares of it.

    Paper: algorithm 2, a random mini-batch of identities each step. Here: drawn from (seed, step) alone, the same on
    every rank; rows outside it rest, with their optimiser state.
    """
    size, n = problem.config.batch_identities, sum(partition.sizes)
    if size in (0, n):
        return slice(None), partition
    batch_b = batch(n, size, problem.seed, state.step)
    of_batch = partition.of_batch(batch_b)
    own_b = torch.from_numpy(batch_b[of_batch.own] - partition.own.start)
    return own_b.to(state.x_LD.device), of_batch


def batch(n: int, size: int, seed: int, step: int) -> NDArray[np.int64]:
    """Choose the rows of a step's mini-batch, ascending: uniformly, depending on the arguments only."""
    return np.sort(np.random.default_rng([seed, 2, step]).choice(n, size, replace=False, shuffle=False))


@contextlib.contextmanager
def _tensor_cores(rough: bool) -> Iterator[None]:
    """Let a GPU's float32 products take its faster 19-bit format, where bfloat16 is welcome but too coarse."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = before or rough
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _against(state: State, problem: Problem, partition: Partition, rows: slice | Tensor, dtype: torch.dtype) -> Against:
    if isinstance(rows, slice) or problem.config.batch_against == "batch":
        return Against(problem.frozen_FD)
    return Against(problem.frozen_FD, partition.all(state.x_LD.to(dtype)), rows + partition.own.start)


def _find_neighbours(state: State, problem: Problem, rows: slice | Tensor) -> None:
    """Search the gallery and protected rows nearest to the rows of the step; of all rows not in every step.

    Neighbours change slowly: with a search every tenth step the objective reached was the same in half the time.
    """
    if isinstance(rows, slice) and state.step % problem.config.neighbours_every:
        return
    own_bD = state.x_LD[rows]
    if problem.gallery_GD is not None and problem.config.alpha:
        state.near_L[rows] = kernel.nearest(own_bD, problem.gallery_GD)[1]
    if problem.protected_PD is not None:
        state.wall_L[rows] = kernel.nearest(own_bD, problem.protected_PD)[1]


def _keep_best(state: State, value: Value, problem: Problem) -> None:
    """Remember the rows, as they were before this step's update, if no step before had better ones."""
    score = problem.separation.score(value.max_cosine, value.mean_nearest_cosine)
    if value.mean_gallery_cosine is not None:
        score = score + problem.config.alpha * (1 - value.mean_gallery_cosine)
    score = score.to(state.best.dtype)
    torch.where(score < state.best, state.x_LD, state.best_LD, out=state.best_LD)
    state.best = torch.minimum(score, state.best)


def _update(state: State, rows: slice | Tensor, gradient_bD: Tensor, rate: float, problem: Problem) -> None:
    """Take one step of Adam for the rows of the step, a block at a time."""
    config = problem.config
    height = BLOCK.get(gradient_bD.device.type, BLOCK["cpu"])
    for start in range(0, len(gradient_bD), height):
        part = slice(start, min(start + height, len(gradient_bD)))
        at = part if isinstance(rows, slice) else rows[part]
        old = state.x_LD[at], state.mean_LD[at], state.square_LD[at], state.count_L[at]
        x, mean, square, count = _adam(*old, gradient_bD[part], rate, problem.separation.betas)
        if problem.protected_PD is not None:
            x = keep_away.push_back(x, problem.protected_PD[state.wall_L[at]], config.protected_cosine)
        state.x_LD[at], state.mean_LD[at], state.square_LD[at], state.count_L[at] = x, mean, square, count


def _adam(
    x_bD: Tensor,
    mean_bD: Tensor,
    square_bD: Tensor,
    count_b: Tensor,
    gradient_bD: Tensor,
    rate: float,
    betas: tuple[float, float],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return rows after Adam (Kingma and Ba, ICLR 2015, algorithm 1) with the gradient on the sphere, and back onto it.

    Paper: one count of steps, and a scale for each coordinate. Here: a count for each row, because rows outside a
    mini-batch rest; and one scale a row where `square_bD` has one column.
    """
    gradient_bD, count_b = sphere.tangent(gradient_bD, x_bD), count_b + 1
    squared_bD = gradient_bD.square()
    if square_bD.shape[1] == 1:
        squared_bD = squared_bD.mean(1, keepdim=True)
    mean_bD = torch.lerp(gradient_bD, mean_bD, betas[0])
    square_bD = torch.lerp(squared_bD, square_bD, betas[1])
    unbiased_mean_bD = mean_bD / (1 - betas[0] ** count_b)[:, None]
    unbiased_square_bD = square_bD / (1 - betas[1] ** count_b)[:, None]
    x_bD = x_bD - rate * unbiased_mean_bD / (unbiased_square_bD.sqrt() + EPSILON)
    return sphere.normalise(x_bD), mean_bD, square_bD, count_b
