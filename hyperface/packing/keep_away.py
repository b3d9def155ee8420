"""The rows that identities keep away from: frozen identities, and protected embeddings of real people, to which no
reference may come closer than a given cosine.

L: own rows of this rank, F: frozen rows, P: protected rows, D: embedding dimension.
"""

import hashlib
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperface.config import PackingConfig, StorageConfig
from hyperface.errors import ConfigError
from hyperface.faces import embeddings
from hyperface.faces.embeddings import Embeddings
from hyperface.packing.kernel import nearest
from hyperface.packing.sphere import normalise

Rows = NDArray[np.float32]
MARGIN = 2e-6
"""Excess in cosine by which rows stay inside, so that float32 rounding never puts one outside."""
ROUNDS, ATTEMPTS = 100, 10
"""Most projections of a row from one beginning, and most beginnings, after which it is given up."""


def frozen_files(config: PackingConfig) -> list[str]:
    """Return the parts of a dataset that grows, in their order."""
    return [path.strip() for path in config.frozen.split(",") if path.strip()]


def refuse_missing(config: PackingConfig, storage: StorageConfig) -> None:
    """Raise ConfigError, naming the key, for a file that is not there: before a job works for hours, not after."""
    wanted = [("frozen", path) for path in frozen_files(config)]
    wanted += [("protected", config.protected)] if config.protected else []
    for key, path in wanted:
        if not embeddings.exists(path, storage):
            raise ConfigError(f"packing.{key}: {path} does not exist; correct the path")


def read(config: PackingConfig, storage: StorageConfig) -> tuple[Rows | None, Rows | None]:
    """Read (frozen, protected), each None without a file.

    Raises:
        ConfigError: a file is missing; a number from packing.first_identity on is a frozen identity's already.
        EmbeddingError: a file cannot be used.
    """
    refuse_missing(config, storage)
    parts = [embeddings.read_file(path, storage) for path in frozen_files(config)]
    protected_PD = embeddings.read_file(config.protected, storage).vectors_ND if config.protected else None
    if not parts:
        return None, protected_PD
    if len({part.vectors_ND.shape[1] for part in parts}) > 1:
        raise ConfigError(f"packing.frozen: {config.frozen} must hold rows of one dimension; give parts of one model")
    _check_numbers(config, [number for part in parts for number in _numbers(part)])
    return np.concatenate([part.vectors_ND for part in parts]), protected_PD


def identity_of(rows: Tensor | Rows | None) -> dict[str, Any] | None:
    """Describe rows: how many, and the SHA-256 of their float32 numbers."""
    if rows is None:
        return None
    contents = (rows.cpu().numpy() if isinstance(rows, Tensor) else rows).tobytes()
    return {"rows": len(rows), "sha256": hashlib.sha256(contents).hexdigest()}


def _numbers(part: Embeddings) -> list[int]:
    """Return the identities of a table's rows; one without them, such as an .npy file, numbers its rows from 0."""
    return [int(name) if isinstance(name, int) else row for row, name in enumerate(part.names)]


def _check_numbers(config: PackingConfig, taken: list[int]) -> None:
    last, first = max(taken), config.first_identity
    if first <= last:
        rule = f"must be at least {last + 1}: numbers up to {last} belong to the identities of packing.frozen"
        raise ConfigError(f"packing.first_identity {rule}; it is {first}")
    missing = first - len(set(taken))
    if missing:
        warnings.warn(
            f"packing.frozen: {missing} of the identities below packing.first_identity={first} are not in it, and "
            "nothing keeps the new ones away from those; give the references of all parts, separated by commas",
            stacklevel=2,
        )


def push_back(x_LD: Tensor, protected_LD: Tensor, limit: float) -> Tensor:
    """Return rows with those that are closer than `limit` to the given protected row moved along a great circle to that
    cosine."""
    limit = limit - MARGIN
    cosine_L = (x_LD * protected_LD).sum(1, keepdim=True)
    away_LD = x_LD - cosine_L * protected_LD
    # A row that is its protected one has no direction of its own: it takes one that does not depend on anything else.
    other_LD = protected_LD.roll(1, dims=1) * torch.linspace(1, 2, x_LD.shape[1], dtype=x_LD.dtype, device=x_LD.device)
    other_LD -= (other_LD * protected_LD).sum(1, keepdim=True) * protected_LD
    away_LD = torch.where(away_LD.norm(dim=1, keepdim=True) > 1e-6, away_LD, other_LD)
    edge_LD = limit * protected_LD + (1 - limit**2) ** 0.5 * away_LD / away_LD.norm(dim=1, keepdim=True)
    return torch.where(cosine_L > limit, edge_LD / edge_LD.norm(dim=1, keepdim=True), x_LD)


def settle(x_LD: Tensor, protected_PD: Tensor, limit: float, seed: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Push rows back, each from its nearest protected row again and again, until none is closer than `limit`.

    Alternating projections: Boyd and Dattorro, "Alternating Projections" (2003); here onto one violated constraint of
    a row at a time, and the caps are no convex sets, so that a row may get stuck where there is a place. It then tries
    again from random directions.

    Args:
        seed: seed of those directions: the run's, and the number of the first row, so that they do not depend on ranks.

    Returns:
        The rows, and which of them [L] are still too close.
    """
    x_LD = x_LD.clone()
    waiting_l = torch.arange(len(x_LD), device=x_LD.device)
    for attempt in range(ATTEMPTS):
        if attempt:
            x_LD[waiting_l] = _directions(waiting_l, x_LD, seed, attempt)
        for _ in range(ROUNDS):
            cosine_l, index_l = nearest(x_LD[waiting_l], protected_PD)
            near_l = cosine_l > limit - MARGIN / 2
            waiting_l, index_l = waiting_l[near_l], index_l[near_l]
            if not len(waiting_l):
                return x_LD, torch.zeros(len(x_LD), dtype=torch.bool, device=x_LD.device)
            x_LD[waiting_l] = push_back(x_LD[waiting_l], protected_PD[index_l], limit)
    stuck_L = nearest(x_LD, protected_PD)[0] > limit
    return x_LD, stuck_L


def _directions(rows_l: Tensor, like_LD: Tensor, seed: tuple[int, int], attempt: int) -> Tensor:
    run, first = seed
    drawn_lD = [
        np.random.default_rng([run, 4, first + row, attempt]).standard_normal(like_LD.shape[1])
        for row in rows_l.tolist()
    ]
    return normalise(torch.from_numpy(np.stack(drawn_lD)).to(like_LD))
