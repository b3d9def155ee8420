"""Points on the unit hypersphere: normalise, draw, project, choose a start.

N: rows, D: embedding dimension, L: own rows of one rank.
"""

import warnings
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hyperface.errors import ConfigError
from hyperface.faces.embeddings import check_unit

ROUNDING = 1e-5
"""Largest distance of the norms of float32 rows from 1."""
_BLOCK = 4096
DUPLICATE_NOISE = 1e-3
"""Length of the noise that parts equal rows: their cosine becomes about 1 - 1e-6."""


def normalise(x_ND: Tensor) -> Tensor:
    """Return rows of length 1. Rows must not be zero."""
    unit_ND: Tensor = x_ND / x_ND.norm(dim=1, keepdim=True)
    return unit_ND


def tangent(gradient_LD: Tensor, x_LD: Tensor) -> Tensor:
    """Return the part of each row's gradient that is perpendicular to the row: the Riemannian gradient on the sphere.

    A cosine's gradient with respect to an unconstrained dot product is mostly radial. Adam rescales each coordinate, so
    that radial part would turn into motion on the sphere, even away from what the gradient points at.
    """
    return gradient_LD - (gradient_LD * x_LD).sum(1, keepdim=True) * x_LD


def random_points(n: int, dim: int, seed: int) -> NDArray[np.float32]:
    """Draw N points uniformly from the sphere in `dim` dimensions."""
    x_ND = np.random.default_rng(seed).standard_normal((n, dim))
    return _unit(x_ND).astype(np.float32)


def unit_rows(rows_ND: NDArray[np.float32], what: str) -> NDArray[np.float32]:
    """Return the rows with norm 1; with a warning when they were not quite.

    Raises:
        EmbeddingError: a row is not finite or not of norm 1 (to 1e-3); names the rows.
    """
    check_unit(rows_ND, what)
    unit_ND, off = np.empty(rows_ND.shape, np.float32), 0.0
    for first in range(0, len(rows_ND), _BLOCK):  # all rows in float64 would take their memory twice more
        block = slice(first, first + _BLOCK)
        exact_bD = rows_ND[block].astype(np.float64)
        off = max(off, float(np.abs(np.linalg.norm(exact_bD, axis=1) - 1).max()))
        unit_ND[block] = _unit(exact_bD)
    if off > ROUNDING:
        warnings.warn(f"{what}: norms are off by up to {off:.1e}; rows were normalised", stacklevel=3)
    return unit_ND


def choose_start(start_ND: NDArray[np.float32], n: int, seed: int, first: int = 0) -> NDArray[np.float32]:
    """Return `n` of the rows: a seeded choice in their order, all of them when there are just as many.

    Args:
        first: number of the first identity. The choice is the next `n` of one seeded order from there on, round and
            round, so that the parts of a growing dataset do not start from the same rows while there are others.

    Raises:
        ConfigError: fewer rows than that to choose from.
    """
    if len(start_ND) < n:
        fix = "embed more faces (embed.num_faces), pack fewer identities, or take packing.start=random"
        rule = f"must not exceed the {len(start_ND)} rows to start from"
        raise ConfigError(f"packing.num_identities {rule}: {fix}; it is {n}")
    order_N = np.random.default_rng([seed, 0]).permutation(len(start_ND))
    return start_ND[np.sort(np.roll(order_N, -first)[:n])]


def separate_duplicates(
    x_ND: NDArray[np.float32], seed: int, frozen_FD: NDArray[np.float32] | None = None
) -> tuple[NDArray[np.float32], int]:
    """Move every row that repeats a frozen or an earlier one by seeded noise of length 1e-3; return the rows, and how
    many were moved.

    Equal rows would have equal gradients and stay together for ever.
    """
    seen = set() if frozen_FD is None else set(map(_digest, frozen_FD))
    repeated_n = []
    for n, digest in enumerate(map(_digest, x_ND)):
        if digest in seen:
            repeated_n.append(n)
        seen.add(digest)
    noise_rD = np.random.default_rng([seed, 1]).standard_normal((len(repeated_n), x_ND.shape[1]))
    parted_ND = x_ND.copy()
    parted_ND[repeated_n] = _unit(x_ND[repeated_n] + DUPLICATE_NOISE * _unit(noise_rD)).astype(np.float32)
    return parted_ND, len(repeated_n)


def _digest(row_D: NDArray[np.float32]) -> bytes:
    """Return a digest that is equal for equal rows only: to compare the rows themselves takes their memory several
    times."""
    return blake2b((row_D + 0.0).tobytes(), digest_size=16).digest()  # -0.0 + 0.0 is 0.0


def _unit(x_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    unit_ND: NDArray[np.float64] = x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)
    return unit_ND
