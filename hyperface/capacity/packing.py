"""The cost of a packing, computed, sent and held, counted from how `hyperface/packing` works.

N: all rows, L: own rows of a worker, G: gallery rows, F: frozen rows, P: protected rows, D: embedding dimension,
b: rows that move in a step.
"""

import math
from dataclasses import dataclass

import torch

from hyperface.config import PackingConfig
from hyperface.packing import objectives

FLOAT = 4
"""Bytes of a float32."""
UPDATED_AT_ONCE = 8
"""Copies of the rows under update: gradient, mean, square and what is made of them (`solver._adam`)."""
HOST_COPIES = 4.4
"""float32 copies of the gallery, or of the references where these are more, that a worker's own process holds while it
poses its problem (`problem.pose`). Measured over the given rows: 3.4 for 40,000 of them, 3.2 for 80,000."""


@dataclass(frozen=True)
class Rows:
    """Numbers of rows of each kind, and their dimension."""

    dim: int
    gallery: int
    frozen: int = 0
    protected: int = 0


def moved(config: PackingConfig) -> int:
    """Return the number of identities that move in a step."""
    return config.batch_identities or config.num_identities


def _soft(config: PackingConfig) -> bool:
    """Return whether what a pair pulls on is computed with its cosine, for both of its rows, and sent to their
    owners."""
    return objectives.chosen(config).pulls_on_others


def _is_choice(config: PackingConfig) -> bool:
    return moved(config) < config.num_identities


def _sees_all(config: PackingConfig) -> bool:
    """Return whether the rows of a step look at all rows, of which they are a choice."""
    return _is_choice(config) and config.batch_against == "all"


def step_flop(config: PackingConfig, rows: Rows) -> float:
    """Return the operations of all workers in a step: each pair's cosine once, and for `logsumexp` what either row of
    the pair takes from the other."""
    b = moved(config)
    pairs = b * config.num_identities if _sees_all(config) else b * (b - 1) / 2
    back = 1 if _sees_all(config) else 2  # rows of a pair that are pulled on
    products = 1 + back if _soft(config) else 1
    others = b * rows.frozen * (2 if _soft(config) else 1)
    extra = (pairs + b * rows.frozen) * (objectives.chosen(config).looks - 1)
    return 2.0 * rows.dim * (pairs * products + others + extra)


def searches(config: PackingConfig) -> int:
    """Return the number of steps that search the nearest gallery and protected rows."""
    return config.steps if _is_choice(config) else -(-config.steps // config.neighbours_every)


def search_flop(config: PackingConfig, rows: Rows) -> float:
    """Return the operations of all workers in one search."""
    return 2.0 * rows.dim * moved(config) * ((rows.gallery if config.alpha else 0) + rows.protected)


def draw_flop(config: PackingConfig, rows: Rows) -> float:
    """Return the operations of all workers to draw a start (`packing/sampling.py`) of which hardly any candidate is
    rejected."""
    if config.start not in ("rejection", "pca"):
        return 0.0
    n = config.num_identities
    return 2.0 * rows.dim * n * ((n - 1) / 2 + rows.frozen + rows.protected)


def looks(config: PackingConfig) -> int:
    """Return the number of exact measurements of all rows: of the start, and of the two candidates for the result."""
    return 3 if config.steps else 1


def look_flop(config: PackingConfig, rows: Rows) -> float:
    """Return the operations of all workers in one exact measurement of all rows."""
    n = config.num_identities
    return 2.0 * rows.dim * n * ((n - 1) / 2 + rows.gallery + rows.frozen + rows.protected)


def cold_steps(config: PackingConfig, dim: int) -> int:
    """Return the number of steps whose products are float32 although bfloat16 is asked for."""
    if config.precision == "float32":
        return config.steps
    separation = objectives.chosen(config)
    return sum(separation.dtype(step, torch.float32, dim) == torch.float32 for step in range(config.steps))


@dataclass(frozen=True)
class Wire:
    """Bytes that each worker sends, and receives, in a step; in a ring of W workers (W - 1) / W of everything."""

    gather: float
    """Bytes of all workers' rows, sent to all."""
    reduce: float
    """Bytes of what each worker computed for the rows of others, sent to their owners; `logsumexp` only."""
    maxima: float

    @property
    def bytes(self) -> float:
        return self.gather + self.reduce + self.maxima


def wire(config: PackingConfig, dim: int, workers: int, product_bytes: int = FLOAT) -> Wire:
    """Count the bytes of a step; `product_bytes` are those of a number as it is sent, 2 in a step of bfloat16."""
    share, b = (workers - 1) / workers, moved(config)
    sent = config.num_identities if _sees_all(config) else b * objectives.chosen(config).looks
    soft = _soft(config)
    first = 8 * b * (objectives.chosen(config).looks - 1)
    return Wire(
        gather=share * sent * dim * product_bytes,
        reduce=share * b * dim * FLOAT if soft else 0.0,
        maxima=2 * share * ((FLOAT if soft else 8) * b + first),
    )


@dataclass(frozen=True)
class Memory:
    """Bytes on the device of one worker: a GPU's, or the machine's where there is none."""

    problem: float
    """Bytes of all rows of the start, the gallery, frozen and protected rows: each worker holds them whole."""
    state: float
    """Bytes of own rows, the best ones so far, Adam's moments."""
    step: float
    """Bytes of the gathered rows, what is computed for all of them, the gallery rows of the own ones, tiles."""

    @property
    def bytes(self) -> float:
        return self.problem + self.state + self.step


def device_memory(config: PackingConfig, rows: Rows, workers: int) -> Memory:
    """Return the peak of a step, or of the exact look at all rows at the end where that takes more."""
    n, dim, b = config.num_identities, rows.dim, moved(config)
    own = math.ceil(n / workers)
    size = 2 if config.precision == "bfloat16" else FLOAT
    gpu = config.gpus_per_worker > 0
    tile, block = (4096, 1 << 16) if gpu else (1024, 512)
    own_b = math.ceil(b / workers)
    uneven = 2 if n % workers else 1
    gathered = 0 if workers == 1 else (n if _sees_all(config) else b) * dim
    copied = own_b * dim * size if size < FLOAT else 0
    near = own_b * dim * FLOAT if config.alpha and rows.gallery else 0
    gradient = own_b * dim * FLOAT
    update = UPDATED_AT_ONCE * min(block, own_b) * dim * FLOAT
    frozen = (rows.frozen + b) * dim * size if rows.frozen else 0
    pull = b * dim * FLOAT if _soft(config) else 0
    step = pull + gathered * size * uneven + copied + near + gradient + update + frozen + 2 * tile * tile * FLOAT
    look = (0 if workers == 1 else uneven) * n * dim * FLOAT + 2 * own * dim * FLOAT + tile * tile * FLOAT + 24 * n
    scales = objectives.chosen(config).scales(dim)
    return Memory(
        problem=float(dim * FLOAT * (n + rows.gallery + rows.frozen + rows.protected)),
        state=float(own * FLOAT * (3 * dim + scales) + own * 24),
        step=float(max(step, look)),
    )


def host_memory(config: PackingConfig, rows: Rows) -> float:
    """Return the bytes that a worker's process holds while it reads and checks the rows."""
    return HOST_COPIES * rows.dim * FLOAT * max(rows.gallery, config.num_identities)
