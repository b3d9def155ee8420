"""Points on the unit hypersphere: normalise, draw, project, choose a start.

N: rows, D: embedding dimension, L: own rows of one rank.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hyperface.config import ConfigError
from hyperface.embeddings import check_unit

DUPLICATE_NOISE = 1e-3
"""Length of the noise that parts equal rows: their cosine becomes about 1 - 1e-6."""


def normalise(x_ND: Tensor) -> Tensor:
    """Rows of length 1. Rows must not be zero."""
    unit_ND: Tensor = x_ND / x_ND.norm(dim=1, keepdim=True)
    return unit_ND


def tangent(gradient_LD: Tensor, x_LD: Tensor) -> Tensor:
    """The part of each row's gradient that is perpendicular to the row: the Riemannian gradient on the sphere.

    A cosine's gradient with respect to an unconstrained dot product is mostly radial. Adam rescales each coordinate, so
    that radial part would turn into motion on the sphere, even away from what the gradient points at.
    """
    return gradient_LD - (gradient_LD * x_LD).sum(1, keepdim=True) * x_LD


def random_points(n: int, dim: int, seed: int) -> NDArray[np.float32]:
    """N points drawn uniformly from the sphere in `dim` dimensions."""
    x_ND = np.random.default_rng(seed).standard_normal((n, dim))
    return _unit(x_ND).astype(np.float32)


def choose_start(start_ND: NDArray[np.float32], n: int, seed: int) -> NDArray[np.float32]:
    """`n` unit rows of `start_ND`: a seeded choice in their order, all of them when there are just as many.

    Raises:
        EmbeddingError: a row is not finite or not of norm 1 (to 1e-3); names the rows.
        ConfigError: fewer than 2 rows asked for or fewer rows than that to choose from; dimension below 2.
    """
    if n < 2:
        raise ConfigError(f"packing.num_identities must be at least 2: one identity has no neighbour; it is {n}")
    if start_ND.ndim != 2 or start_ND.shape[1] < 2:
        raise ConfigError(f"packing: embeddings must be rows of at least 2 numbers; their shape is {start_ND.shape}")
    if len(start_ND) < n:
        fix = "embed more faces (embed.num_faces), pack fewer identities, or start from packing.sphere.random_points"
        rule = f"must not exceed the {len(start_ND)} rows to start from"
        raise ConfigError(f"packing.num_identities {rule}: {fix}; it is {n}")
    check_unit(start_ND, "packing start")
    chosen_n = np.sort(np.random.default_rng([seed, 0]).permutation(len(start_ND))[:n])
    return _unit(start_ND[chosen_n].astype(np.float64)).astype(np.float32)


def separate_duplicates(x_ND: NDArray[np.float32], seed: int) -> tuple[NDArray[np.float32], int]:
    """Move every row that repeats an earlier one by seeded noise of length 1e-3; also how many were moved.

    Equal rows would have equal gradients and stay together for ever.
    """
    _, first_n = np.unique(x_ND, axis=0, return_index=True)
    repeated_n = np.setdiff1d(np.arange(len(x_ND)), first_n)
    noise_rD = np.random.default_rng([seed, 1]).standard_normal((len(repeated_n), x_ND.shape[1]))
    parted_ND = x_ND.copy()
    parted_ND[repeated_n] = _unit(x_ND[repeated_n] + DUPLICATE_NOISE * _unit(noise_rD)).astype(np.float32)
    return parted_ND, len(repeated_n)


def _unit(x_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    unit_ND: NDArray[np.float64] = x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)
    return unit_ND
