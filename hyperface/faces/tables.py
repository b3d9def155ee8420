"""Parquet files with a picture in each row, as Hugging Face and img2dataset write them."""

from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from hyperface.reading.unpacking import check_parquet, size_of

COLUMNS = ("image", "jpg", "png", "webp")
"""Names of a column with pictures; the first is taken where there are others."""
_ROWS = 1
"""Rows that are read at once: a picture that is stored once may be in every row. More are not faster."""

_SMALLEST = 64
"""Fewest bytes that a picture has."""


class NoPictures(ValueError):
    """A table without a column of pictures. The message says what is wanted and what there is."""


class OddKeys(ValueError):
    """A table of pictures whose column `key` names nothing. The message names the column and the fix."""


def rows(file: BinaryIO) -> Iterator[tuple[str, bytes | None]]:
    """Yield (key, encoded picture) of every row.

    The key is the row's number, in seven digits, where there is no column `key` or nothing in it; the picture is None
    where the row has none.

    Raises:
        NoPictures: no column, or more than one, holds pictures.
        OddKeys: the column `key` holds neither texts nor whole numbers.
        ArrowException, OSError, ValueError: it is no Parquet file, damaged, or unpacks to more than is believed; an
            OSError with a number is the file's.
    """
    size, table = size_of(file), pq.ParquetFile(file)
    picture, keyed = _pictures(table.schema_arrow), table.schema_arrow.names.count("key") == 1
    number, columns = 0, [picture, *(["key"] if keyed else [])]
    check_parquet(table, size, _SMALLEST)
    for batch in table.iter_batches(batch_size=_ROWS, columns=columns):
        pictures = batch.column(picture.removesuffix(".bytes")).to_pylist()
        keys = _texts(batch.column("key")) if keyed else [None] * len(batch)
        for key, found in zip(keys, pictures, strict=True):
            yield f"{number:07d}" if key is None else key, found["bytes"] if isinstance(found, dict) else found
            number += 1


def _pictures(schema: pa.Schema) -> str:
    """The path of the column with the pictures."""
    found = [path for name in COLUMNS if schema.names.count(name) == 1 and (path := _bytes(schema.field(name)))]
    if not found or (len(found) > 1 and not found[0].startswith(COLUMNS[0])):
        has = ", ".join(f"{field.name!a} ({str(field.type)[:60]})" for field in list(schema)[:20])
        rule = f"must have one column {', '.join(COLUMNS[:-1])} or {COLUMNS[-1]} with bytes or {{bytes, path}}"
        raise NoPictures(f"{rule}; it has {has or 'none'}")
    return found[0]


def _bytes(field: pa.Field) -> str:
    """The path of the bytes in a column; empty where it has none."""
    kind, path = field.type, field.name
    if pa.types.is_struct(kind) and len(kind.get_all_field_indices("bytes")) == 1:
        kind, path = kind.field("bytes").type, f"{path}.bytes"
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    return path if any(test(kind) for test in tests) else ""


def _texts(column: pa.Array) -> list[str | None]:
    """Read keys, also those that are no UTF-8, which a table of texts may hold all the same."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary)
    if any(test(column.type) for test in tests):
        keys = column.cast(pa.large_binary()).to_pylist()
        return [None if key is None else key.decode("utf-8", "surrogateescape") for key in keys]
    if pa.types.is_integer(column.type):
        return [None if key is None else str(key) for key in column.to_pylist()]
    rule = f"must hold texts or whole numbers; it holds {str(column.type)[:60]}"
    raise OddKeys(f"column `key` {rule}; cast it to texts, or leave it out: rows are then named by their numbers")
