"""Datasets that others made as a training's images, read one by one in a permutation of all."""

import hashlib
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from hyperface.dataset import recordio
from hyperface.dataset.plan import permute
from hyperface.recognition.images import Item, digest
from hyperface.run import RunError
from hyperface.storage import Store

RECORDS, RECORD_INDEX = "train.rec", "train.idx"


@dataclass(frozen=True)
class FolderImages:
    """An ImageFolder: the first folder of a name is the class, and classes are numbered by their sorted names."""

    store: Store
    names: tuple[str, ...]

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
        sizes = self.store.list()
        return digest(f"{name} {sizes[name]}" for name in self.names)

    def stretch(self, order: int, begin: int, end: int) -> Iterator[Item]:
        for number in permute(np.arange(begin, end), self.num_images, order):
            name = self.names[number]
            yield Item(name, self._labels[_person(name)], lambda name=name: self.store.read(name))  # type: ignore[misc]


@dataclass(frozen=True)
class RecordImages:
    """InsightFace's RecordIO: record 0 tells how many images follow it, and each of them tells its label."""

    store: Store
    _files: threading.local = field(default_factory=threading.local, compare=False)

    @cached_property
    def _offsets(self) -> dict[int, int]:
        """{record: offset in the file}"""
        lines = self.store.read(RECORD_INDEX).decode().splitlines()
        try:
            return {int(number): int(offset) for number, offset in (line.split("\t") for line in lines)}
        except ValueError as error:
            raise RunError(
                f"{self.store.uri(RECORD_INDEX)}: must have `number<tab>offset` in each line ({error})"
            ) from error

    @cached_property
    def _numbers(self) -> list[int]:
        """The records that are images: those that record 0 says, else all."""
        flag, _, rest = self._record(0)
        if flag == 0:
            return sorted(self._offsets)
        return list(range(1, int(np.frombuffer(rest[:4], "<f4")[0])))

    @cached_property
    def _labels(self) -> NDArray[np.int64]:
        """The label of each image, read from the header of its record."""
        return np.array([self._label(number) for number in self._numbers], np.int64)

    @property
    def num_images(self) -> int:
        return len(self._numbers)

    @cached_property
    def num_classes(self) -> int:
        found = np.unique(self._labels)
        if found[0] != 0 or found[-1] != len(found) - 1:
            span = f"they are {found[0]} to {found[-1]}, {len(found)} different ones"
            raise RunError(f"{self.store.uri(RECORDS)}: labels must be 0 to classes - 1 without gaps; {span}")
        return len(found)

    @cached_property
    def fingerprint(self) -> str:
        index = hashlib.sha256(self.store.read(RECORD_INDEX)).hexdigest()
        return digest([index, str(self.store.size(RECORDS)), hashlib.sha256(self._labels.tobytes()).hexdigest()])

    def stretch(self, order: int, begin: int, end: int) -> Iterator[Item]:
        for place in permute(np.arange(begin, end), self.num_images, order):
            number = self._numbers[place]
            read = lambda number=number: self._picture(number)  # noqa: E731
            yield Item(f"record {number}", int(self._labels[place]), read)

    def _picture(self, number: int) -> bytes:
        flag, _, rest = self._record(number)
        return rest[4 * flag :]

    def _label(self, number: int) -> int:
        flag, label, rest = self._record(number, only=64)
        value = float(np.frombuffer(rest[:4], "<f4")[0]) if flag else label
        if value != int(value) or value < 0:
            raise RunError(f"{self.store.uri(RECORDS)}: record {number} has the label {value}, which is no class")
        return int(value)

    def _record(self, number: int, only: int | None = None) -> tuple[int, float, bytes]:
        """(labels after the header or 0, label, the rest) of a record; `only` so many bytes of it."""
        if number not in self._offsets:
            raise RunError(f"{self.store.uri(RECORD_INDEX)}: has no line for record {number}, which {RECORDS} counts")
        file = self._file()
        file.seek(self._offsets[number])
        try:
            payload = recordio.unframed(file, only)
            flag, label, _, _ = recordio.HEADER.unpack(payload[: recordio.HEADER.size])
        except (ValueError, struct.error) as error:
            raise RunError(f"{self.store.uri(RECORDS)}: record {number} cannot be read ({error})") from error
        return flag, label, payload[recordio.HEADER.size :]

    def _file(self) -> BinaryIO:
        """A reader of this thread's own."""
        if not hasattr(self._files, "records"):
            self._files.records = self.store.open(RECORDS)
        found: BinaryIO = self._files.records
        return found


def _person(name: str) -> str:
    return name.partition("/")[0]
