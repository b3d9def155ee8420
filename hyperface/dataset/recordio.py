"""RecordIO in the layout of InsightFace: `train.rec`, `train.idx`, `property`. Bytes only; nothing of MXNet is needed.

Record 0 says where things are: labels [N + 1, N + 1 + C], for N images and C classes. Records 1..N are images, those of
a class side by side, each with its class label; records N + 1.. describe the classes in order: [first record, last
record + 1]. The first N records are what InsightFace's and CVLface's readers take, the last C what their samplers take.

Labels are float32, which counts exactly below 2^24: so many records is the most that this layout can hold.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from hyperface.errors import ConfigError

MAGIC = struct.pack("<I", 0xCED7230A)
HEADER = struct.Struct("<IfQQ")
"""Header of a record: number of labels after the header or 0, the label, the record's number, 0."""
MAX_BYTES = 1 << 29
MAX_RECORDS = 1 << 24


def refuse_too_many(images: int, classes: int) -> None:
    """Raise ConfigError when record numbers would not survive float32."""
    records = 1 + images + classes
    if records >= MAX_RECORDS:
        raise ConfigError(
            f"recordio: {images} images and {classes} classes make {records} records, and the labels of this layout, "
            f"float32, are exact only below {MAX_RECORDS}; export another format, or runs of fewer identities"
        )


def image(number: int, label: int, jpeg: bytes) -> bytes:
    """Return the record of an image; `number` is the record's."""
    return framed(HEADER.pack(0, label, number, 0) + jpeg)


def labelled(number: int, labels: Sequence[int]) -> bytes:
    """Return a record that only holds labels: record 0, or the range of a class."""
    return framed(HEADER.pack(len(labels), 0, number, 0) + struct.pack(f"<{len(labels)}f", *labels))


def framed(payload: bytes) -> bytes:
    """Return a record as dmlc's RecordIO stores it: magic, flag and length, payload, zeros up to four bytes.

    A payload that holds the magic word at a multiple of four is cut there; the word is left out and put back by the
    reader, so that whoever looks for the word finds only beginnings of records. The flag says which part of a record it
    is: 0 all, 1 first, 2 middle, 3 last.

    Raises:
        ValueError: 512 MiB or more, which the length field cannot say.
    """
    if len(payload) >= MAX_BYTES:
        raise ValueError(f"a record must be below {MAX_BYTES} bytes; it has {len(payload)}")
    parts = list(_parts(payload))
    last = len(parts) - 1
    framed_parts = []
    for i, part in enumerate(parts):
        flag = 0 if last == 0 else 1 if i == 0 else 3 if i == last else 2
        framed_parts += [MAGIC, struct.pack("<I", flag << 29 | len(part)), part, bytes(-len(part) % 4)]
    return b"".join(framed_parts)


def _parts(payload: bytes) -> Iterator[bytes]:
    begin, at = 0, payload.find(MAGIC)
    while at != -1:
        aligned = at % 4 == 0
        if aligned:
            yield payload[begin:at]
            begin = at + 4
        at = payload.find(MAGIC, at + 4 if aligned else at + 1)
    yield payload[begin:]


def unframed(file: BinaryIO) -> bytes:
    """Read the payload of the record that begins where the file stands.

    Raises:
        ValueError: no record begins here, or it is cut.
    """
    parts: list[bytes] = []
    while True:
        magic, word = file.read(4), file.read(4)
        if magic != MAGIC or len(word) < 4:
            raise ValueError("no record begins here, or it is cut")
        flag, length = divmod(struct.unpack("<I", word)[0], MAX_BYTES)
        part = file.read(length)
        if len(part) < length or flag not in ((2, 3) if parts else (0, 1)):
            raise ValueError("is cut, or its parts are out of order")
        parts.append(part)
        if flag in (0, 3):
            return MAGIC.join(parts)
        file.read(-length % 4)


def property_file(classes: int, height: int, width: int) -> bytes:
    """Return what InsightFace's trainers read: `classes,height,width`."""
    return f"{classes},{height},{width}\n".encode()
