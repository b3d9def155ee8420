"""Rendered training sets of the toy world, kept in one file each so that stages and processes share them.

Shape legend: P identities, K images of each, B = P * K images, I = IDENTITY_DIM. Image b shows identity b // K.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hyperface.models.toy.renderer import IMAGE_SIZE, render, sample_identities, sample_nuisance

# Seeds of the identities. The sets never share one: two draws of 45 uniform numbers do not meet.
RECOGNIZER_SEED = 1001
JUDGE_SEED = 2002
GENERATOR_SEED = 3003
HELD_OUT_SEED = 4004

_BLOCK = 512


@dataclass(frozen=True, slots=True)
class FaceSet:
    """Renders of P identities, K each: identities_PI float32, images_BHWC uint8 (may be memory-mapped)."""

    identities_PI: NDArray[np.float32]
    images_BHWC: NDArray[np.uint8]

    @property
    def images_each(self) -> int:
        return len(self.images_BHWC) // len(self.identities_PI)

    @property
    def labels_B(self) -> NDArray[np.int64]:
        return np.arange(len(self.images_BHWC)) // self.images_each


def render_faces(identities: int, images_each: int, seed: int, strength: float = 1.0) -> FaceSet:
    """Render `images_each` views of `identities` identities drawn from `seed`, in memory."""
    drawn_PI = sample_identities(identities, seed)
    images_BHWC = np.empty((identities * images_each, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    _render_into(images_BHWC, drawn_PI, images_each, seed, strength)
    return FaceSet(drawn_PI, images_BHWC)


def cached_faces(path: Path, identities: int, images_each: int, seed: int, strength: float = 1.0) -> FaceSet:
    """Read a face set from `path` (.npy), rendered first when the file is not there. The pixels are memory-mapped."""
    drawn_PI = sample_identities(identities, seed)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        shape = (identities * images_each, IMAGE_SIZE, IMAGE_SIZE, 3)
        images_BHWC = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
        _render_into(images_BHWC, drawn_PI, images_each, seed, strength)
        images_BHWC.flush()
        # Renamed when complete: a run that was stopped half-way renders again instead of training on black images.
        part.rename(path)
    return FaceSet(drawn_PI, np.load(path, mmap_mode="c"))


def _render_into(
    images_BHWC: NDArray[np.uint8], drawn_PI: NDArray[np.float32], images_each: int, seed: int, strength: float
) -> None:
    for start in range(0, len(images_BHWC), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(images_BHWC)))
        seeds = [seed * 1_000_000 + int(row) for row in rows]
        images_BHWC[rows] = render(drawn_PI[rows // images_each], sample_nuisance(seeds, strength), seeds)
