"""A reader of RecordIO like those of InsightFace's arcface_torch and CVLface, written from the format's description; no
code of ours.

Follows `MXIndexedRecordIO` and `unpack` of MXNet, and the `MXFaceDataset` of both projects: record 0 with a flag above
0 gives the numbers of the images, an image's label is a number or the first of its labels.
"""

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

MAGIC = 0xCED7230A


class IndexedRecords:
    """`train.idx`: a line per record, number, tab, offset; `train.rec`: the records."""

    def __init__(self, folder: Path) -> None:
        lines = (folder / "train.idx").read_text().splitlines()
        self.offsets = {int(line.split("\t")[0]): int(line.split("\t")[1]) for line in lines}
        self.file = (folder / "train.rec").open("rb")

    def read(self, number: int) -> tuple[float | NDArray[np.float32], int, bytes]:
        """(label or labels, the number in the header, the rest) of a record."""
        self.file.seek(self.offsets[number])
        payload = read_record(self.file)
        assert payload is not None
        flag, label, stored_number, _ = struct.unpack("<IfQQ", payload[:24])
        rest = payload[24:]
        if flag == 0:
            return label, stored_number, rest
        return np.frombuffer(rest, np.float32, flag), stored_number, rest[4 * flag :]


def read_record(file: BinaryIO) -> bytes | None:
    """The next record of a dmlc RecordIO file, its parts joined by the magic word that cut them; None at the end."""
    parts: list[bytes] = []
    while header := file.read(8):
        magic, word = struct.unpack("<II", header)
        assert magic == MAGIC, hex(magic)
        flag, length = word >> 29, word & (1 << 29) - 1
        assert flag in ((0, 1) if not parts else (2, 3)), flag
        parts.append(file.read(length))
        assert len(parts[-1]) == length
        assert file.read(-length % 4) == bytes(-length % 4)
        if flag in (0, 3):
            return struct.pack("<I", MAGIC).join(parts)
    assert not parts
    return None


class FaceDataset:
    """`MXFaceDataset`: images in the order of their numbers."""

    def __init__(self, folder: Path) -> None:
        self.records = IndexedRecords(folder)
        labels, _, _ = self.records.read(0)
        assert isinstance(labels, np.ndarray), "a flag of 0 makes the readers take every record for an image"
        self.header0 = int(labels[0]), int(labels[1])
        self.numbers = range(1, self.header0[0])

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        label, _, jpeg = self.records.read(self.numbers[index])
        return jpeg, int(label if isinstance(label, float) else label[0])

    def class_ranges(self) -> list[tuple[int, int]]:
        """[first, last + 1] of each class, which InsightFace's triplet samplers read."""
        ranges = [self.records.read(number)[0] for number in range(*self.header0)]
        return [(int(first), int(end)) for first, end in ranges]  # type: ignore[union-attr,misc]
