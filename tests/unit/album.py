"""Pictures of people whose embeddings can be worked out by hand, for tests of the audit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperface.audit.real_table import RealTable, real_table
from hyperface.models.arcface import normalised

DIM, SIZE = 12, 8
Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Pixels:
    """Sees the mean colour of each quarter of a picture; a shade over 250 in its corner leaves it without a row."""

    embedding_dim: int = DIM
    image_size: int = SIZE
    fingerprint: str = "4d" * 32

    def embed(self, images_BHWC: NDArray[np.uint8]) -> Rows:
        quarters = images_BHWC.reshape(-1, 2, SIZE // 2, 2, SIZE // 2, 3).mean((2, 4)).reshape(-1, DIM) - 127.5
        rows_BD = normalised(quarters.astype(np.float32))
        rows_BD[images_BHWC[:, -1, -1].min(axis=-1) > 250] = np.nan
        return rows_BD


class Album:
    """Pictures of faces: of each person a pattern, and noise in each picture; one in `blind` has no embedding."""

    def __init__(self, faces: int, people: int, seed: int, noise: float = 25, blind: int = 0) -> None:
        rng = np.random.default_rng(seed)
        quarters = rng.integers(40, 215, (people, 2, 1, 2, 1, 3)) * np.ones((1, 1, SIZE // 2, 1, SIZE // 2, 1))
        patterns = quarters.reshape(people, SIZE, SIZE, 3)
        drawn = patterns[np.arange(faces) % people] + rng.normal(0, noise, (faces, 2, 1, 2, 1, 3)).repeat(4, 2).repeat(
            4, 4
        ).reshape(faces, SIZE, SIZE, 3)
        images = np.clip(drawn, 0, 250).astype(np.uint8)
        if blind:
            images[::blind, -1, -1] = 255
        self.by_name = {f"{i % people:03d}/{i:03d}.png": image for i, image in enumerate(images)}

    def __call__(self, names: Sequence[Any]) -> dict[Any, NDArray[np.uint8]]:
        return {name: self.by_name[name] for name in names}

    @property
    def seen(self) -> list[str]:
        """Names of the faces that have an embedding, by person."""
        return sorted(name for name, image in self.by_name.items() if np.isfinite(Pixels().embed(image[None])).all())

    def table(self, name: str) -> RealTable:
        rows = {"recognizer": Pixels().embed(np.stack(list(self.by_name.values())))}
        return real_table(name, list(self.by_name), rows, "folder", self)
