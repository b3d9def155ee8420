"""Images of a globally shuffled dataset in the order of their positions, with bounded memory: an external sort.

Spills are files of a few consecutive shards, sorted by position; then the positions are cut into stretches, and each
stretch is gathered from the spills and handed on in order. One spill or one stretch is in memory at a time; on the disk
lies every image once.

R: rows of a spill or of a slice of it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

WORD = np.dtype("<i8")


def batches(sizes: Sequence[int], budget: int) -> list[range]:
    """Cut consecutive shards into groups whose sizes add up to at most the budget; a larger shard is alone."""
    found, begin, total = [], 0, 0
    for shard, size in enumerate(sizes):
        if shard > begin and total + size > budget:
            found.append(range(begin, shard))
            begin, total = shard, 0
        total += size
    return [*found, range(begin, len(sizes))] if sizes else []


def write_spill(path: Path, positions: Sequence[int], jpegs: Sequence[bytes]) -> None:
    """Write count, positions [R], offsets [R + 1] and the images, by position."""
    order = np.argsort(np.array(positions, WORD))
    ends_R = np.cumsum([len(jpegs[row]) for row in order], dtype=WORD)
    with path.open("wb") as file:
        file.write(np.array([len(order)], WORD).tobytes())
        file.write(np.array(positions, WORD)[order].tobytes())
        file.write(np.concatenate([np.zeros(1, WORD), ends_R]).astype(WORD).tobytes())
        for row in order:
            file.write(jpegs[row])


def gather(spills: Sequence[Path], count: int, budget: int) -> Iterator[tuple[int, bytes]]:
    """Yield (position, image) of every spilled image, by position, for positions 0..count - 1.

    Args:
        budget: bytes of images in memory, on average over the stretches.

    Raises:
        ValueError: a position is there twice or not at all.
    """
    stored = sum(path.stat().st_size for path in spills)
    stretch = max(1, budget * count // max(stored, 1))
    for begin in range(0, count, stretch):
        end = min(begin + stretch, count)
        found: list[tuple[int, memoryview]] = []
        for path in spills:
            with path.open("rb") as file:
                found += _slice(file, begin, end)
        found.sort(key=lambda row: row[0])
        if [position for position, _ in found] != list(range(begin, end)):
            raise ValueError(f"images {begin} to {end - 1} must each be in one spill")
        for position, data in found:
            yield position, bytes(data)


def _slice(file: BinaryIO, begin: int, end: int) -> Iterator[tuple[int, memoryview]]:
    """Yield the images of a spill with positions in [begin, end)."""
    rows = int(np.fromfile(file, WORD, 1)[0])
    positions_R = np.fromfile(file, WORD, rows)
    first, last = (int(row) for row in np.searchsorted(positions_R, (begin, end)))
    file.seek(WORD.itemsize * (1 + rows + first))
    offsets = np.fromfile(file, WORD, last - first + 1)
    file.seek(WORD.itemsize * (2 + 2 * rows) + int(offsets[0]))
    data = memoryview(file.read(int(offsets[-1] - offsets[0])))
    for row, position in enumerate(positions_R[first:last]):
        yield int(position), data[int(offsets[row] - offsets[0]) : int(offsets[row + 1] - offsets[0])]
