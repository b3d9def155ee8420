"""Tables of embeddings that others wrote: floating point numbers of any size in lists of any kind."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hyperface.config import StorageConfig
from hyperface.errors import EmbeddingError
from hyperface.faces.embeddings import Embeddings, read_file

ROWS = np.random.default_rng(0).normal(size=(9000, 64))
ROWS /= np.linalg.norm(ROWS, axis=1, keepdims=True)
LISTS = {
    "list": pa.list_,
    "large_list": pa.large_list,
    "fixed_size_list": lambda kind: pa.list_(kind, 64),
    "list_view": pa.list_view,
}


def table(path: Path, rows: object, kind: pa.DataType, **columns: object) -> str:
    pq.write_table(
        pa.table({"embedding": pa.array(rows, kind), **columns}), path / "people.parquet", row_group_size=4000
    )
    return str(path / "people.parquet")


def read(path: str) -> Embeddings:
    return read_file(path, StorageConfig())


@pytest.mark.parametrize("shape", LISTS)
@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
def test_a_table_of_any_floating_point_numbers_is_read_as_a_npy_file_is(tmp_path: Path, shape: str, kind: pa.DataType):
    numbers = ROWS.astype(kind.to_pandas_dtype())
    np.save(tmp_path / "people.npy", numbers)
    found = read(table(tmp_path, list(numbers), LISTS[shape](kind)))
    assert found.vectors_ND.dtype == np.float32
    np.testing.assert_array_equal(found.vectors_ND, read(str(tmp_path / "people.npy")).vectors_ND)
    np.testing.assert_array_equal(found.vectors_ND, numbers.astype(np.float32))


@pytest.mark.parametrize("shape", ["list", "large_list", "list_view"])
@pytest.mark.parametrize(
    ("row", "said"),
    [(None, "row 2 (none)"), ([], "row 2 (0)"), ([1.0], "row 2 (1)"), ([1.0, 0.0, 0.0], "row 2 (3)")],
)
def test_a_row_of_another_length_is_named(tmp_path: Path, shape: str, row: object, said: str):
    path = table(tmp_path, [[1.0, 0.0], [0.0, 1.0], row, [1.0, 0.0]], LISTS[shape](pa.float64()))
    with pytest.raises(EmbeddingError) as error:
        read(path)
    assert str(error.value) == f"{path}: every row must hold 2 numbers, as others do; 1 do not: {said}"


def test_a_null_row_of_fixed_length_and_a_null_number_are_named(tmp_path: Path):
    with pytest.raises(EmbeddingError, match=r"every row must hold 2 numbers, as others do; 1 do not: row 1 \(none\)$"):
        read(table(tmp_path, [[1.0, 0.0], None], pa.list_(pa.float32(), 2)))
    for kind in (pa.list_(pa.float32(), 2), pa.list_(pa.float64())):
        with pytest.raises(
            EmbeddingError, match=r"every row must be finite and of norm 1; 1 are not: row 1 \(norm nan\)"
        ):
            read(table(tmp_path, [[1.0, 0.0], [1.0, None]], kind))


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ([[1, 0]], pa.list_(pa.int64())),
        ([["1", "0"]], pa.list_(pa.string())),
        ([[[1.0], [0.0]]], pa.list_(pa.list_(pa.float32()))),
        ([1.0], pa.float32()),
        (["[1, 0]"], pa.string()),
        ([None], pa.null()),
    ],
)
def test_other_columns_are_refused_by_their_kind(tmp_path: Path, rows: list[object], kind: pa.DataType):
    with pytest.raises(EmbeddingError, match=r"column `embedding` must hold lists of floating point numbers; it is "):
        read(table(tmp_path, rows, kind))


def test_numbers_beyond_float32_and_rows_without_any_are_refused(tmp_path: Path):
    with pytest.raises(EmbeddingError, match=r"people\.parquet: every row must be finite"):
        read(table(tmp_path, [[1e300, 0.0]], pa.list_(pa.float64())))
    for rows in ([[]], [None], [[], None]):
        with pytest.raises(EmbeddingError, match=r"people\.parquet: column `embedding` holds no numbers in any row"):
            read(table(tmp_path, rows, pa.list_(pa.float64())))
    with pytest.raises(EmbeddingError, match=r"must hold 2 numbers, as others do; 2 do not: row 1 \(0\), row 2"):
        read(table(tmp_path, [[1.0, 0.0], [], []], pa.list_(pa.float64())))


def test_what_arrow_says_of_a_damaged_table_is_shown_in_one_line(tmp_path: Path):
    path = Path(table(tmp_path, list(ROWS[:50]), pa.list_(pa.float32(), 64)))
    at = pq.ParquetFile(path).metadata.row_group(0).column(0).data_page_offset
    data = path.read_bytes()
    path.write_bytes(data[:at] + b"\x1f" * 8 + data[at + 8 :])
    with pytest.raises(EmbeddingError) as error:
        read(str(path))
    assert str(error.value).isprintable()


def test_names_that_are_no_texts_are_refused_in_one_line(tmp_path: Path):
    rows, kind = [[1.0, 0.0]] * 2, pa.list_(pa.float32(), 2)
    for names in (pa.array([b"\xff", b"a"]).view(pa.string()), pa.array([1.5, 2.5]), pa.array(["a", None])):
        with pytest.raises(EmbeddingError, match=r"column `key` must hold a text or a number for each row"):
            read(table(tmp_path, rows, kind, key=names))


@pytest.mark.parametrize("kind", [pa.float16(), pa.float64()])
def test_norms_may_be_of_other_floating_point_numbers(tmp_path: Path, kind: pa.DataType):
    norms = pa.array(np.array([20.0, 21.5]).astype(kind.to_pandas_dtype()))
    found = read(table(tmp_path, [[1.0, 0.0]] * 2, pa.list_(pa.float32(), 2), norm=norms))
    assert found.norms is not None
    np.testing.assert_array_equal(found.norms, np.float32([20.0, 21.5]))
