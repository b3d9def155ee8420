"""Files that unpack to far more than they hold are refused in one line, before memory goes."""

import io
import re
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hyperface import config
from hyperface.config import StorageConfig
from hyperface.dataset import parquet
from hyperface.errors import EmbeddingError, ModelError, RunError
from hyperface.faces import tables
from hyperface.faces.embeddings import read_file
from hyperface.faces.source import Chunk, read_chunk
from hyperface.models import pretrained, vec2face_published
from hyperface.reading import numpy_file
from hyperface.reading.unpacking import ALWAYS_UNPACKED

ROOT = Path(__file__).parents[2]
MORE = ALWAYS_UNPACKED + 2**22
UNIT = pa.list_(pa.float32(), 2)


def torch_file() -> bytes:
    sink = io.BytesIO()
    torch.save({"a": torch.zeros(1000)}, sink)
    return sink.getvalue()


def numpy_archive() -> bytes:
    sink = io.BytesIO()
    np.savez(sink, a=np.zeros(1000), names=np.array(["ü"]))
    return sink.getvalue()


def packed(data: bytes) -> bytes:
    """Return the archive with its members compressed."""
    sink = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as whole, zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as small:
        for name in whole.namelist():
            small.writestr(name, whole.read(name))
    return sink.getvalue()


def shared(data: bytes) -> bytes:
    """Return the archive with its largest member listed many times."""
    sink = io.BytesIO(data)
    with zipfile.ZipFile(sink, "a") as archive:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
        archive.filelist += [largest] * 20
        archive._didModify = True  # type: ignore[attr-defined]
    return sink.getvalue()


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (packed, r"its members must be stored as they are; '[^']+' is compressed"),
        (shared, "its members must not share their bytes"),
        (lambda data: b"PK\3\4" + data, "its members must begin at byte 0"),
    ],
)
def test_an_archive_that_may_unpack_to_more_than_it_holds_is_refused(tmp_path: Path, spoil, rule: str):
    data = spoil(torch_file())
    (tmp_path / "weights.pth").write_bytes(data)
    for read in (
        lambda: pretrained.read_tensors(tmp_path / "weights.pth"),
        lambda: vec2face_published.read(data, "weights.pth"),
    ):
        with pytest.raises(ModelError, match=rf"weights\.pth: cannot be read as weights: {rule}.*; write it again"):
            read()
    with pytest.raises(ValueError, match=rule):
        numpy_file.arrays(spoil(numpy_archive()))


def test_archives_as_their_libraries_write_them_are_read(tmp_path: Path):
    (tmp_path / "weights.pth").write_bytes(torch_file())
    assert pretrained.read_tensors(tmp_path / "weights.pth")["a"].shape == (1000,)
    assert vec2face_published.read(torch_file(), "weights.pth").keys() == {"a"}
    assert numpy_file.arrays(numpy_archive())["names"].tolist() == ["ü"]


@pytest.mark.parametrize("kind", ["<f4", "|S0", "<U0"])
def test_a_header_that_claims_more_numbers_than_follow_takes_no_memory(kind: str):
    sink = io.BytesIO()
    np.lib.format.write_array_header_1_0(sink, {"descr": kind, "fortran_order": False, "shape": (2**30, 1)})
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"its header claims 1\.07e\+09|its header claims 4\.29e\+09"):
            numpy_file.array(sink.getvalue() + bytes(100))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def faces(source: Path) -> int:
    chosen = config.load(None, ["run.dir=unused", f"embed.source={source}"])
    return len(list(read_chunk(Chunk("parquet", ("t.parquet",)), chosen)))


def test_a_table_that_was_compressed_to_nothing_is_refused_before_it_is_read(tmp_path: Path):
    image = pa.array([bytes(MORE // 16)] * 16)
    pq.write_table(pa.table({"image": image}), tmp_path / "t.parquet", compression="zstd", use_dictionary=False)
    before = pa.default_memory_pool().max_memory()
    with pytest.raises(RunError, match=r"t\.parquet: .*it unpacks to \d+ bytes, more than 100 times its"):
        faces(tmp_path)
    numbers = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(MORE // 4, np.float32)), 2**16)
    pq.write_table(pa.table({"embedding": numbers}), tmp_path / "t.parquet")
    before = max(before, pa.default_memory_pool().max_memory())
    with pytest.raises(EmbeddingError, match=r"t\.parquet: .*it unpacks to \d+ bytes.*; write it again"):
        read_file(str(tmp_path / "t.parquet"), StorageConfig())
    with pytest.raises(ValueError, match=r"^t\.parquet: it unpacks to \d+ bytes"):
        parquet.from_bytes((tmp_path / "t.parquet").read_bytes(), "t.parquet")
    assert pa.default_memory_pool().max_memory() == before


FLIP_ALL = """
import io, sys
from pathlib import Path
from hyperface.faces import tables
from hyperface.reading.unpacking import read_parquet

whole, read = Path(sys.argv[1]).read_bytes(), {
    "pictures": lambda file: list(tables.rows(file)),
    "embeddings": lambda file: read_parquet(file, ["key", "embedding"], 4096, once="key"),
}[sys.argv[2]]
footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
for bit in range(8 * footer, 8 * len(whole), 3):
    data = bytearray(whole)
    data[bit // 8] ^= 1 << bit % 8
    try:
        read(io.BytesIO(data))
    except (ValueError, OSError, KeyError):
        pass
"""


@pytest.mark.parametrize("kind", ["pictures", "embeddings"])
def test_no_bit_of_a_footer_ends_the_process(tmp_path: Path, kind: str):
    """Arrow does so where what it says of a column is damaged, and is asked for it: no `except` helps."""
    columns = {"key": ["a", "b"]}
    columns |= {"image": [b"1", b"2"]} if kind == "pictures" else {"embedding": pa.array([[1.0, 0.0]] * 2, UNIT)}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet", store_schema=False)
    code = [sys.executable, "-c", FLIP_ALL, tmp_path / "t.parquet", kind]
    assert subprocess.run(code, cwd=ROOT, capture_output=True, text=True, check=False).returncode == 0


def test_columns_whose_names_begin_alike_are_not_taken_for_one_another(tmp_path: Path):
    table = pa.table({"image": [b"1"] * 9, "image_mask": [bytes(2**20)] * 9, "keypoints": [[0.0] * 10**5] * 9})
    pq.write_table(table, tmp_path / "t.parquet", compression="zstd")
    with (tmp_path / "t.parquet").open("rb") as file:
        assert len(list(tables.rows(file))) == 9
    twice = pa.schema([pa.field("bytes", pa.binary())] * 2)
    pictures = pa.StructArray.from_arrays([pa.array([b"1"])] * 2, fields=list(twice))
    pq.write_table(pa.table({"image": pictures}), tmp_path / "t.parquet")
    with (tmp_path / "t.parquet").open("rb") as file, pytest.raises(tables.NoPictures):
        list(tables.rows(file))


def once(value: object, count: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([value]))


def test_what_is_stored_once_and_is_in_every_row_is_kept_once(tmp_path: Path):
    table = pa.table({"image": once(bytes(2**20), 100), "key": once("k", 100)})
    pq.write_table(table, tmp_path / "t.parquet", store_schema=False)
    before = pa.total_allocated_bytes()
    with (tmp_path / "t.parquet").open("rb") as file:
        taken = [pa.total_allocated_bytes() - before for _ in tables.rows(file)]
    assert len(taken) == 100
    assert max(taken) < 2**24
    rows = pa.array([[1.0, 0.0]] * 10_000, UNIT)
    table = pa.table({"key": once("k" * 2**20, 10_000), "embedding": rows})
    pq.write_table(table, tmp_path / "t.parquet", store_schema=False)
    names = read_file(str(tmp_path / "t.parquet"), StorageConfig()).names
    assert len(names) == 10_000
    assert len({id(name) for name in names}) <= 3  # one for each part of the table


def test_a_table_that_lies_about_its_size_is_found_out_while_it_is_read(tmp_path: Path):
    names = [f"{row}" * (MORE // 8) for row in range(8)]
    path = tmp_path / "t.parquet"
    table = pa.table({"key": names, "embedding": pa.array([[1.0, 0.0]] * 8, UNIT)})
    pq.write_table(table, path, use_dictionary=False, compression="zstd", write_statistics=False)
    claimed = varint(pq.ParquetFile(path).metadata.row_group(0).column(0).total_uncompressed_size)
    data = path.read_bytes()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    assert data.count(claimed, footer)
    path.write_bytes(data[:footer] + data[footer:].replace(claimed, varint(2 ** (7 * len(claimed) - 8))))
    with pytest.raises(EmbeddingError, match=r"t\.parquet: .*it unpacks to \d+ bytes"):
        read_file(str(path), StorageConfig())


def test_long_lists_of_equal_numbers_are_found_out_before_there_are_many(tmp_path: Path):
    numbers, count = 2**18, 256
    rows = pa.ListArray.from_arrays(
        np.arange(count + 1, dtype=np.int32) * numbers, np.zeros(count * numbers, np.float32)
    )
    pq.write_table(pa.table({"embedding": rows}), tmp_path / "t.parquet", compression="zstd")
    with pytest.raises(EmbeddingError, match=r"t\.parquet: .*it unpacks to \d+ bytes") as error:
        read_file(str(tmp_path / "t.parquet"), StorageConfig())
    unpacked = re.search(r"unpacks to (\d+)", str(error.value))
    assert unpacked
    assert int(unpacked[1]) < ALWAYS_UNPACKED + 2**25


def test_rows_without_pictures_have_a_bound(tmp_path: Path):
    pq.write_table(pa.table({"image": pa.nulls(2 * 10**6, pa.binary())}), tmp_path / "t.parquet")
    with pytest.raises(
        RunError, match=r"t\.parquet: is refused \(it unpacks to 128000000 bytes, .*; 0 faces came before"
    ):
        faces(tmp_path)


def varint(number: int) -> bytes:
    """A whole number as Thrift's compact protocol writes it."""
    number, out = number * 2, bytearray()
    while number >= 128:
        out.append(number % 128 | 128)
        number //= 128
    return bytes([*out, number])


def test_a_shard_with_a_column_twice_is_refused_with_its_name():
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 2, ["key", "key"]), sink)
    with pytest.raises(ValueError, match=r"^s\.parquet: is not a whole Parquet file .it has 2 columns 'key'"):
        parquet.from_bytes(sink.getvalue(), "s.parquet")
