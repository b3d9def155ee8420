"""Small packings for the tests: rows that lie as embeddings of faces do, and how tight a set of rows is."""

import numpy as np
from numpy.typing import NDArray

from hyperface.config import PackingConfig

SEPARATIONS = ["closest_pair", "nearest", "logsumexp"]


def clustered(n: int, dim: int, seed: int = 0) -> np.ndarray:
    """Unit rows with a common direction and a decaying spectrum, as faces have."""
    x_ND = np.random.default_rng(seed).standard_normal((n, dim)) * np.arange(1, dim + 1) ** -0.75
    x_ND[:, 0] += 0.5
    return (x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)).astype(np.float32)


def max_cosine(x_ND: np.ndarray) -> float:
    return float((x_ND.astype(np.float64) @ x_ND.T.astype(np.float64) - 3 * np.eye(len(x_ND))).max())


def free(n: int, **values) -> PackingConfig:
    return PackingConfig(n, alpha=0.0, **values)


def features(n: int, dim: int, seed: int = 3) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(unit rows, norms) of vectors that are nothing like a round cloud around nought."""
    x_ND = np.random.default_rng(seed).standard_normal((n, dim)) * np.linspace(1, 5, dim) + 0.5
    norms_N = np.linalg.norm(x_ND, axis=1)
    return (x_ND / norms_N[:, None]).astype(np.float32), norms_N.astype(np.float32)
