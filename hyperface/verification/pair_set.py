"""Images and the pairs of them that a recogniser has to tell apart.

Shape legend: P pairs, B images of a batch, H and W pixels.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyperface.errors import RunError
from hyperface.faces import pictures
from hyperface.reading import one_line
from hyperface.storage import Store

_LONGEST_SHOWN = 100


@dataclass(frozen=True)
class PairSet:
    """A verification set. Pairs are in the order of the folds, first fold first."""

    name: str
    source: str
    """Origin of the images, in words or as a URI; it is recorded."""
    images: Sequence[bytes | bytearray] | NDArray[np.uint8]
    """Encoded images, or uint8 RGB [n, H, W, 3]."""
    first_P: NDArray[np.int64]
    """Positions of the first images of the pairs among `images`."""
    second_P: NDArray[np.int64]
    same_P: NDArray[np.bool_]
    """True where both images show one person."""
    image_names: Sequence[str] = ()
    """Names of the images in messages; empty: their numbers are used."""

    def __post_init__(self) -> None:
        pairs = len(self.same_P)
        assert len(self.first_P) == len(self.second_P) == pairs
        assert not pairs or max(self.first_P.max(), self.second_P.max()) < len(self.images)

    def batches(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """Yield uint8 RGB [B, H, W, 3], in order: `size` images each, fewer in the last. Decoded one batch at a time.

        Raises:
            RunError: an image cannot be decoded, or is not of the first one's size; names it.
        """
        shape: tuple[int, ...] | None = None
        for start in range(0, len(self.images), size):
            part = self.images[start : start + size]
            if isinstance(part, np.ndarray):
                yield part
                continue
            decoded = []
            for position, encoded in zip(itertools.count(start), part, strict=False):
                image_HWC = decode(encoded, self.called(position))
                shape = shape or image_HWC.shape
                if image_HWC.shape != shape:
                    raise RunError(
                        f"{self.called(position)}: is {_size(image_HWC.shape)}, the images before it are "
                        f"{_size(shape)}; all images of a set must be of one size"
                    )
                decoded.append(image_HWC)
            yield np.stack(decoded)

    def called(self, position: int) -> str:
        return self.image_names[position] if self.image_names else f"{self.source}: image {position}"


def decode(encoded: bytes | bytearray, called: str) -> NDArray[np.uint8]:
    """Decode an image to uint8 RGB [H, W, 3]. Raises RunError, which names the image, for a broken, cut or far too
    large one."""
    try:
        return pictures.decode(encoded)
    except ValueError as error:
        raise RunError(f"{called}: {error}; copy it again, or make it smaller") from error


def read_picture(store: Store, name: str) -> bytes:
    """Read the bytes of an image that was listed. Raises RunError, which names it, when it is there no more."""
    try:
        return store.read(name)
    except FileNotFoundError as error:
        raise RunError(f"{store.uri(name)}: is gone; copy it again, and evaluate again") from error


def shown(given: object) -> str:
    """Return the words of a foreign file, fit for a message: one short line, without letters that a terminal obeys."""
    text = str(given)
    return one_line.shown(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}...")


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]}x{shape[0]}"
