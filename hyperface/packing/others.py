"""The rows that identities keep away from, as their files hold them: frozen identities and protected embeddings.

F: frozen rows, P: protected rows, D: embedding dimension.
"""

import hashlib
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hyperface.config import PackingConfig, StorageConfig
from hyperface.errors import ConfigError
from hyperface.faces import embeddings
from hyperface.faces.embeddings import Embeddings

Rows = NDArray[np.float32]


def frozen_files(config: PackingConfig) -> list[str]:
    """The parts of a dataset that grows, in their order."""
    return [path.strip() for path in config.frozen.split(",") if path.strip()]


def refuse_missing(config: PackingConfig, storage: StorageConfig) -> None:
    """Raise ConfigError, naming the key, for a file that is not there: before a job works for hours, not after."""
    wanted = [("frozen", path) for path in frozen_files(config)]
    wanted += [("protected", config.protected)] if config.protected else []
    for key, path in wanted:
        if not embeddings.exists(path, storage):
            raise ConfigError(f"packing.{key}: {path} does not exist; correct the path")


def read(config: PackingConfig, storage: StorageConfig) -> tuple[Rows | None, Rows | None]:
    """(frozen, protected), each None without a file.

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
    """Which rows they were: how many, and the SHA-256 of their float32 numbers."""
    if rows is None:
        return None
    contents = (rows.cpu().numpy() if isinstance(rows, Tensor) else rows).tobytes()
    return {"rows": len(rows), "sha256": hashlib.sha256(contents).hexdigest()}


def _numbers(part: Embeddings) -> list[int]:
    """The identities of a table's rows; one without them, such as an .npy file, numbers its rows from 0."""
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
