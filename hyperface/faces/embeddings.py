"""Tables of unit embeddings as Parquet: the gallery (`key`: string) and the references (`identity`: int64).

A table may also say which norm each row had before it was brought to norm 1 (`norm`): generators that were trained on
the features themselves want it.

N: rows, D: embedding dimension.
"""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hyperface.config import StorageConfig
from hyperface.errors import EmbeddingError, StorageError
from hyperface.models.protocols import UNIT_TOLERANCE
from hyperface.reading import numpy_file
from hyperface.reading.one_line import one_line
from hyperface.reading.unpacking import read_parquet
from hyperface.storage import Store, open_file

_BLOCK = 4096


@dataclass(frozen=True)
class Embeddings:
    """Rows of a table, in its order."""

    names: list[str] | list[int]
    """The key of each face, or the number of each identity."""
    vectors_ND: NDArray[np.float32]
    norms: NDArray[np.float32] | None = None
    """Norms, above 0, of the features that the rows are the directions of [N]; None where nobody recorded them."""


def to_parquet(column: str, embeddings: Embeddings) -> bytes:
    """A Parquet file with the columns `column`, `embedding`: fixed_size_list<float32>[D] and, where rows have norms,
    `norm`: float32; same rows, same bytes."""
    kind = pa.int64() if column == "identity" else pa.string()
    vectors_ND = np.ascontiguousarray(embeddings.vectors_ND, dtype=np.float32)
    flat = pa.array(vectors_ND.reshape(-1))
    columns = {
        column: pa.array(embeddings.names, kind),
        "embedding": pa.FixedSizeListArray.from_arrays(flat, vectors_ND.shape[1]),
    }
    if embeddings.norms is not None:
        columns["norm"] = pa.array(np.asarray(embeddings.norms, dtype=np.float32))
    table = pa.table(columns)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def read(store: Store, name: str, column: str | None = None) -> Embeddings:
    """Read and check a table written by `to_parquet`, or by others in the same columns: rows of any floating point
    numbers, in lists of any kind.

    Args:
        column: column that names the rows; None: `identity` or `key` where there is such a column, else their numbers.

    Raises:
        EmbeddingError: no such file, not such a table, no rows, a row without a name, NaN, rows that are not of norm 1
            (to 1e-3), or a recorded norm that is none.
    """
    uri = store.uri(name)
    if not store.exists(name):
        raise EmbeddingError(f"{uri}: does not exist; run the stage that writes it first, or jobs.pipeline")
    with store.open(name) as file:
        try:
            there = pq.read_schema(file).names
            if column is None:
                column = next((name for name in ("identity", "key") if name in there), None)
            wanted = [*([column] if column else []), "embedding", *(["norm"] if "norm" in there else [])]
            table = read_parquet(file, wanted, _BLOCK, once=column)
        except StorageError:
            raise
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:  # a damaged page is an OSError
            what = f"is not a readable embedding table ({one_line(error)})"
            raise EmbeddingError(f"{uri}: {what}; write it again") from error
    if table.num_rows == 0:
        raise EmbeddingError(f"{uri}: holds no rows")
    vectors_ND = _rows(table["embedding"], uri)
    check_unit(vectors_ND, uri)
    try:
        names = _names(table[column]) if column else list(range(table.num_rows))
    except (ValueError, OverflowError):  # a time that Python does not have
        names = [None]
    if not all(isinstance(name, str | int) for name in names):
        raise EmbeddingError(f"{uri}: column `{column}` must hold a text or a number for each row; write it again")
    norms = None
    if "norm" in wanted:
        norms = _norms(table["norm"], uri)
    return Embeddings(names, vectors_ND, norms)


def _names(column: pa.ChunkedArray) -> list[Any]:
    if not pa.types.is_dictionary(column.type):
        return list(column.to_pylist())
    names: list[Any] = []
    for chunk in column.chunks:
        known = [*chunk.dictionary.to_pylist(), None]
        names += [known[place] for place in chunk.indices.fill_null(len(known) - 1).to_pylist()]
    return names


def _rows(column: pa.ChunkedArray, uri: str) -> NDArray[np.float32]:
    kind, tests = column.type, ("is_list", "is_large_list", "is_fixed_size_list", "is_list_view", "is_large_list_view")
    if not any(getattr(pa.types, test)(kind) for test in tests) or not pa.types.is_floating(kind.value_type):
        raise EmbeddingError(f"{uri}: column `embedding` must hold lists of floating point numbers; it is {kind}")
    lengths = pc.list_value_length(column).to_numpy()  # NaN for a row that is null
    known, counts = np.unique(lengths[lengths > 0], return_counts=True)
    if not len(known):
        raise EmbeddingError(f"{uri}: column `embedding` holds no numbers in any row; write it again")
    dim = int(known[counts.argmax()])
    bad_n = np.flatnonzero(lengths != dim)
    if len(bad_n):
        shown = ", ".join(f"row {i} ({'none' if np.isnan(lengths[i]) else int(lengths[i])})" for i in bad_n[:5])
        raise EmbeddingError(f"{uri}: every row must hold {dim} numbers, as others do; {len(bad_n)} do not: {shown}")
    flat = pa.concat_arrays([chunk.flatten() for chunk in column.chunks])
    return _float32(flat.to_numpy(zero_copy_only=False)).reshape(len(column), dim)


def _float32(numbers: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # infinite then, and refused as such
        return np.ascontiguousarray(numbers, dtype=np.float32)


def _norms(column: pa.ChunkedArray, uri: str) -> NDArray[np.float32]:
    if not pa.types.is_floating(column.type):
        raise EmbeddingError(f"{uri}: column `norm` must hold floating point numbers; it is {column.type}")
    norms_N = _float32(column.to_numpy())
    bad_n = np.flatnonzero(~(np.isfinite(norms_N) & (norms_N > 0)))
    if len(bad_n):
        shown = ", ".join(f"row {i} ({norms_N[i]:.4g})" for i in bad_n[:5])
        rule = "column `norm` must hold a finite number above 0 for each row"
        raise EmbeddingError(f"{uri}: {rule}; {len(bad_n)} are not: {shown}; write it again")
    return norms_N


def exists(path: str, storage: StorageConfig) -> bool:
    """Return whether there is such a file; a path is local, file:// or s3://."""
    store, name = open_file(path, storage)
    return store.exists(name)


def read_file(path: str, storage: StorageConfig) -> Embeddings:
    """The embeddings of a .parquet file with a column `embedding`, or of a two-dimensional .npy file.

    Rows are named by the column `identity` or `key` where there is one, else by their number.

    Raises:
        EmbeddingError: as `read`.
    """
    store, name = open_file(path, storage)
    uri = store.uri(name)
    if name.endswith(".parquet"):
        return read(store, name)
    if not name.endswith(".npy"):
        raise EmbeddingError(f"{uri}: embeddings are read from .parquet or .npy files")
    if not store.exists(name):
        raise EmbeddingError(f"{uri}: does not exist; correct the path")
    try:
        rows_ND = numpy_file.array(store.read(name))
    except ValueError as error:
        raise EmbeddingError(f"{uri}: is not a readable .npy file ({one_line(error)}); write it again") from error
    if rows_ND.ndim != 2 or not np.issubdtype(rows_ND.dtype, np.floating) or not len(rows_ND):
        rule = "must hold rows of floating point numbers"
        raise EmbeddingError(f"{uri}: {rule}; it holds {rows_ND.dtype} of shape {rows_ND.shape}")
    vectors_ND = _float32(rows_ND)
    check_unit(vectors_ND, uri)
    return Embeddings(list(range(len(vectors_ND))), vectors_ND)


def check_unit(vectors_ND: NDArray[np.float32], source: str) -> None:
    """Raise EmbeddingError unless every row is finite and of norm 1 to 1e-3."""
    blocks = range(0, len(vectors_ND), _BLOCK)  # the norm of all rows at once would take their memory once more
    norms_N = np.concatenate([np.linalg.norm(vectors_ND[first : first + _BLOCK], axis=1) for first in blocks] or [[]])
    bad_n = np.flatnonzero(~(np.abs(norms_N - 1) <= UNIT_TOLERANCE))
    if len(bad_n):
        shown = ", ".join(f"row {i} (norm {norms_N[i]:.4g})" for i in bad_n[:5])
        raise EmbeddingError(f"{source}: every row must be finite and of norm 1; {len(bad_n)} are not: {shown}")
