"""Files that others packed, which may unpack to far more than they hold: looked at before, and refused in time.

What a table says of its own size is a claim. It is compared here, and readers count besides what they get.
"""

import zipfile
from collections.abc import Sequence
from typing import IO, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

LARGEST_RATIO, ALWAYS_UNPACKED = 100, 2**26
"""Most bytes that may come of one, above a number of bytes that any file may have; gzip could make a thousand."""
_NUMBER = 4
"""Fewest bytes that a value takes in memory, though a million equal ones are stored in ten."""


def believed(size: int) -> int:
    """Return the number of bytes that a file of this size may unpack to."""
    return ALWAYS_UNPACKED + LARGEST_RATIO * size


_TEXTS = (pa.types.is_string, pa.types.is_large_string)
_ANY_LENGTH = (pa.types.is_list, pa.types.is_large_list, pa.types.is_list_view, pa.types.is_large_list_view)
_LISTS = 16
"""Lists of any length that are read at once: a million equal numbers are stored in ten bytes."""


class UnpacksToMore(ValueError):
    """More than is believed. The message says how much."""


class PackedZip(ValueError):
    """A zip archive that may unpack to more than it holds. The message names the rule and the member."""


def check_zip(file: IO[bytes]) -> None:
    """Look at the members of a zip archive as numpy and PyTorch write them: one after the other, as they are.

    Raises:
        PackedZip: a member is compressed, or two of them share their bytes.
        OSError, ValueError, zipfile.BadZipFile and others: it is no zip archive, or damaged.
    """
    with zipfile.ZipFile(file) as archive:
        members, end = archive.infolist(), archive.start_dir
    # Other readers do not look for the list where zipfile does in an archive that begins later than its file.
    if min((member.header_offset for member in members), default=0):
        raise PackedZip("its members must begin at byte 0")
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise PackedZip(f"its members must be stored as they are; {member.filename[:60]!a} is compressed")
    if (size := sum(member.file_size for member in members)) > end:
        raise PackedZip(f"its members must not share their bytes; they have {size} in an archive of {end}")


def read_parquet(file: BinaryIO, columns: Sequence[str], rows: int, once: str | None = None) -> pa.Table:
    """Columns of a Parquet file, counted while they come.

    Args:
        rows: read at once, of each column.
        once: name of a column whose equal values are kept once: as a dictionary, where it holds texts.

    Raises:
        UnpacksToMore: more than is believed. One page, which Arrow unpacks whole, may be 2 GiB of it.
        ArrowException, OSError, ValueError: it is no Parquet file, damaged, or lacks a column.
    """
    size, schema = size_of(file), pq.read_schema(file)
    for name in columns:
        if (count := schema.names.count(name)) != 1:
            raise pa.ArrowInvalid(f"it has {count} columns {name[:60]!a}")
    texts = once is not None and any(test(schema.field(once).type) for test in _TEXTS)
    stored = pq.ParquetFile(file, read_dictionary=[once] if texts else None)
    check_parquet(stored, size)
    found, unpacked = [], 0
    fields = [stored.schema_arrow.field(name) for name in columns]
    for field in fields:
        parts, at_once = [], min(rows, _LISTS) if any(test(field.type) for test in _ANY_LENGTH) else rows
        for batch in stored.iter_batches(at_once, columns=[field.name]):
            parts.append(batch.column(0))
            unpacked += batch.nbytes
            check_unpacked(unpacked, size)
        found.append(pa.chunked_array(parts, field.type))
    return pa.Table.from_arrays(found, schema=pa.schema(fields, schema.metadata))


def check_parquet(table: pq.ParquetFile, size: int, least: int = 0) -> None:
    """Compare what a table claims to unpack to with the bytes of the file.

    Args:
        least: bytes that are believed of a row: a million that hold nothing are stored in ten.

    Raises:
        UnpacksToMore: more than is believed.
    """
    # What is said of a single column is not asked for: where it is damaged, Arrow ends the process.
    groups = map(table.metadata.row_group, range(table.metadata.num_row_groups))
    check_unpacked(sum(max(0, group.total_byte_size) for group in groups), size)
    lists = [field.type for field in table.schema_arrow if pa.types.is_fixed_size_list(field.type)]
    check_unpacked((least + sum(_NUMBER * kind.list_size for kind in lists)) * table.metadata.num_rows, size)


def check_unpacked(unpacked: int, size: int) -> None:
    """Raise UnpacksToMore where so many bytes came, or are to come, of a file of this size."""
    if unpacked > believed(size):
        rule = f"more than {LARGEST_RATIO} times its {size} bytes and {ALWAYS_UNPACKED >> 20} MiB"
        fix = "write it without compression, or without columns that nobody reads"
        raise UnpacksToMore(f"it unpacks to {unpacked} bytes, {rule}; {fix}")


def size_of(file: BinaryIO) -> int:
    """Bytes of a file at its begin, which is left there."""
    size = file.seek(0, 2)
    file.seek(0)
    return size
