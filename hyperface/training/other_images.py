"""Datasets that others made as a training's images, read one by one in a permutation of all."""

import hashlib
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from hyperface.dataset import recordio
from hyperface.dataset.plan import permute
from hyperface.errors import RunError
from hyperface.faces.pictures import counted
from hyperface.reading.one_line import one_line
from hyperface.run.records import digest
from hyperface.storage import LocalStore, Store
from hyperface.training.images import Item

RECORDS, RECORD_INDEX = "train.rec", "train.idx"
_BLOCK = 2**16
_HEAD = 8 + recordio.HEADER.size + 4
"""Number of bytes of a record up to the first of several labels: frame, header, label."""


@dataclass(frozen=True)
class FolderImages:
    """An ImageFolder: the first folder of a name is the class, and classes are numbered by their sorted names."""

    store: Store
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    """Sizes of the files in bytes."""
    kinds_left_out: Counter[str]
    """Number of other files in the folder, by kind."""

    @property
    def num_images(self) -> int:
        return len(self.names)

    @cached_property
    def _labels(self) -> dict[str, int]:
        return {folder: label for label, folder in enumerate(sorted({_person(name) for name in self.names}))}

    @property
    def num_classes(self) -> int:
        return len(self._labels)

    @cached_property
    def fingerprint(self) -> str:
        return digest(f"{name} {size}" for name, size in zip(self.names, self.sizes, strict=True))

    @property
    def fingerprint_of(self) -> str:
        return "names and sizes of the files, not their pixels"

    @property
    def left_out(self) -> str:
        count = self.kinds_left_out.total()
        return f" ({count} files left out: {counted(self.kinds_left_out)})" if count else ""

    def stretch(self, order: int, begin: int, end: int) -> Iterator[Item]:
        for number in permute(np.arange(begin, end), self.num_images, order):
            name = self.names[number]
            yield Item(self.store.uri(name), self._labels[_person(name)], partial(self.store.read, name))


@dataclass(frozen=True)
class RecordImages:
    """InsightFace's RecordIO on a local disk: record 0 gives the number of images that follow, and each of them its
    label.

    N: images.
    """

    store: LocalStore
    _files: threading.local = field(default_factory=threading.local, compare=False)

    @cached_property
    def _index(self) -> NDArray[np.int64]:
        """Return numbers, ascending, and offsets in the file: [records, 2]."""
        try:
            pairs = np.array(self.store.read(RECORD_INDEX).split(), np.int64).reshape(-1, 2)
        except (ValueError, OverflowError) as error:
            rule = f"must have `number<tab>offset` in each line ({one_line(error)}); export the data set again"
            raise RunError(f"{self.store.uri(RECORD_INDEX)}: {rule}") from error
        pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
        numbers, size = pairs[:, 0], self.store.size(RECORDS) or 0
        if not len(pairs) or numbers[0] < 0 or (numbers[1:] == numbers[:-1]).any():
            rule = "must have lines, and each a number of its own, from 0 on; export the data set again"
            raise RunError(f"{self.store.uri(RECORD_INDEX)}: {rule}")
        outside = (pairs[:, 1] < 0) | (pairs[:, 1] >= size)
        if outside.any():
            number, offset = pairs[int(outside.argmax())].tolist()
            rule = f"record {number} begins at {offset}, which is no place in the {size} bytes of {RECORDS}"
            raise RunError(f"{self.store.uri(RECORD_INDEX)}: {rule}; copy both again")
        return pairs

    @cached_property
    def _numbers_N(self) -> NDArray[np.int64]:
        """Return the records that are images: those that record 0 names, else all."""
        count, _, rest = self._record(0)
        if count == 0:
            return self._index[:, 0]
        (end,) = struct.unpack("<f", rest[:4].ljust(4, b"\0"))
        if not 1 < end <= len(self._index):
            rule = f"must tell how many of the {len(self._index)} records are images; it says {end}"
            raise RunError(f"{self.store.uri(RECORDS)}: record 0 {rule}; export the data set again")
        return np.arange(1, int(end))

    @cached_property
    def _labels_N(self) -> NDArray[np.int64]:
        """Return the label of each image, read from the header of its record."""
        offsets_N, labels_N = self._offsets(self._numbers_N), np.empty(len(self._numbers_N))
        stored = np.memmap(Path(self.store.url, RECORDS), np.uint8, "r")
        for first in range(0, len(offsets_N), _BLOCK):
            at = offsets_N[first : first + _BLOCK, None] + np.arange(_HEAD)
            head = stored[np.minimum(at, len(stored) - 1)]
            wrong = (head[:, :4] != np.frombuffer(recordio.MAGIC, np.uint8)).any(axis=1) | (at[:, -1] >= len(stored))
            if wrong.any():
                number = self._numbers_N[first + int(wrong.argmax())]
                raise RunError(
                    f"{self.store.uri(RECORDS)}: record {number} cannot be read: none begins where it should"
                )
            counts, alone, several = (np.ascontiguousarray(head[:, a : a + 4]) for a in (8, 12, 32))
            chosen = np.where(counts.view("<u4") > 0, several.view("<f4"), alone.view("<f4"))
            labels_N[first : first + _BLOCK] = chosen[:, 0]
        wrong = ~(np.isfinite(labels_N) & (labels_N >= 0) & (labels_N == np.floor(labels_N)))
        if wrong.any():
            row = int(wrong.argmax())
            label = f"record {self._numbers_N[row]} has the label {labels_N[row]}"
            raise RunError(f"{self.store.uri(RECORDS)}: {label}, which is no class")
        return labels_N.astype(np.int64)

    @property
    def num_images(self) -> int:
        return len(self._numbers_N)

    @cached_property
    def num_classes(self) -> int:
        found = np.unique(self._labels_N)
        if found[0] != 0 or found[-1] != len(found) - 1:
            span = f"they are {found[0]} to {found[-1]}, {len(found)} different ones"
            raise RunError(f"{self.store.uri(RECORDS)}: labels must be 0 to classes - 1 without gaps; {span}")
        return len(found)

    @cached_property
    def fingerprint(self) -> str:
        index = hashlib.sha256(self.store.read(RECORD_INDEX)).hexdigest()
        return digest([index, str(self.store.size(RECORDS)), hashlib.sha256(self._labels_N.tobytes()).hexdigest()])

    @property
    def fingerprint_of(self) -> str:
        return "index, labels and size of the records, not their pixels"

    @property
    def left_out(self) -> str:
        return ""

    def stretch(self, order: int, begin: int, end: int) -> Iterator[Item]:
        for place in permute(np.arange(begin, end), self.num_images, order):
            number = int(self._numbers_N[place])
            read = partial(self._picture, number)
            yield Item(f"{self.store.uri(RECORDS)}: record {number}", int(self._labels_N[place]), read)

    def _offsets(self, numbers_N: NDArray[np.int64]) -> NDArray[np.int64]:
        known = self._index
        rows_N = np.minimum(np.searchsorted(known[:, 0], numbers_N), len(known) - 1)
        missing = known[rows_N, 0] != numbers_N
        if missing.any():
            number = numbers_N[int(missing.argmax())]
            raise RunError(f"{self.store.uri(RECORD_INDEX)}: has no line for record {number}, which {RECORDS} counts")
        offsets_N: NDArray[np.int64] = known[rows_N, 1]
        return offsets_N

    def _picture(self, number: int) -> bytes:
        count, _, rest = self._record(number)
        return rest[4 * count :]

    def _record(self, number: int) -> tuple[int, float, bytes]:
        """Read (labels after the header or 0, label, the rest) of a record."""
        file = self._file()
        file.seek(int(self._offsets(np.array([number]))[0]))
        try:
            payload = recordio.unframed(file)
            count, label, _, _ = recordio.HEADER.unpack(payload[: recordio.HEADER.size])
        except (ValueError, struct.error) as error:
            raise RunError(f"{self.store.uri(RECORDS)}: record {number} cannot be read ({one_line(error)})") from error
        return count, label, payload[recordio.HEADER.size :]

    def _file(self) -> BinaryIO:
        """Return a reader of this thread's own."""
        if not hasattr(self._files, "records"):
            self._files.records = self.store.open(RECORDS)
        found: BinaryIO = self._files.records
        return found


def _person(name: str) -> str:
    return name.partition("/")[0]
