"""Images of one identity that are nearly the same picture.

The images of an identity lie in many shards, so each shard's marker carries a hash of every image, and what is too near
is found when all shards are done.

H, W: pixels, I: identities, J: images planned for each identity.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_HASHES_AT_A_TIME = 2**20
"""Number of hashes that are compared at a time, few enough to take a few megabytes."""


def difference_hash(image_HWC: NDArray[np.uint8]) -> int:
    """Return 64 bits that small changes of an image leave alone: is each of 8 x 8 places brighter than its right
    neighbour?

    The difference hash of Krawetz (2013): equal images have distance 0, unrelated ones about 32.
    """
    small = Image.fromarray(image_HWC).convert("L").resize((9, 8), Image.Resampling.BOX)
    levels = np.asarray(small, dtype=np.int16)
    return int.from_bytes(np.packbits(levels[:, 1:] > levels[:, :-1]).tobytes(), "big")


def to_text(hashes: list[int]) -> str:
    """Write hashes as 16 hex digits each, one after another, as a marker carries them."""
    return "".join(f"{value:016x}" for value in hashes)


def from_text(text: str) -> NDArray[np.uint64]:
    """Read what `to_text` wrote. Raises ValueError for anything else."""
    return np.frombuffer(bytes.fromhex(text), dtype=">u8").astype(np.uint64)


def near_duplicates(hashes_IJ: NDArray[np.uint64], there_IJ: NDArray[np.bool_], min_distance: int) -> NDArray[np.bool_]:
    """Return which images nearly repeat another one of their identity that is kept.

    The images of an identity are taken in the order of their numbers; one is kept unless its hash differs in fewer than
    `min_distance` bits from one kept before.

    Args:
        there_IJ: True where there is such an image; the hashes of others are not looked at.

    Returns:
        bool [I, J]; False where there is no image.
    """
    repeats_IJ = np.zeros(hashes_IJ.shape, dtype=np.bool_)
    group = max(1, _HASHES_AT_A_TIME // max(1, hashes_IJ.shape[1]))
    for first in range(0, len(hashes_IJ), group):
        part = slice(first, first + group)
        repeats_IJ[part] = _repeats(hashes_IJ[part], there_IJ[part], min_distance)
    return repeats_IJ & there_IJ


def _repeats(hashes_IJ: NDArray[np.uint64], there_IJ: NDArray[np.bool_], min_distance: int) -> NDArray[np.bool_]:
    repeats_IJ = ~there_IJ
    for j in range(1, hashes_IJ.shape[1]):
        near_Ij = np.bitwise_count(hashes_IJ[:, :j] ^ hashes_IJ[:, j : j + 1]) < min_distance
        repeats_IJ[:, j] |= (near_Ij & ~repeats_IJ[:, :j]).any(1)
    return repeats_IJ
