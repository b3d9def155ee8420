"""Input that means harm: what others made is read with care, named when it is refused, and never run.

Those that live elsewhere, because they go with a reader: pickles in test_benchmarks_bin.py, test_restricted_pickle.py,
test_arc2face_files.py and test_vec2face.py, paths in lists of pairs in test_benchmarks_pairs.py, tags in records in
test_report*.py, a password in an address in test_config.py, the token of the job API in tests/e2e/test_demo.py.
"""

import hashlib
import io
import pickle
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper
from PIL import Image

from hyperface import config
from hyperface.audit.attributes import read_labels
from hyperface.config import StorageConfig
from hyperface.dataset import jpeg, recordio, webdataset
from hyperface.dataset.classes import classes
from hyperface.errors import ConfigError, EmbeddingError, ModelError, RunError, StorageError
from hyperface.faces.embeddings import read_file
from hyperface.faces.pictures import LARGEST_SIDE, decode
from hyperface.faces.source import Chunk, Face, printable, read_chunk
from hyperface.models.onnx_file import open_session, tried
from hyperface.progress import logs
from hyperface.storage import LocalStore
from hyperface.training.other_images import RecordImages

SIZE = 8
SPARSE = 2**40


def picture(kind: str = "PNG", size: int = SIZE) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (size, size), (200, 100, 50)).save(sink, kind)
    return sink.getvalue()


def read_faces(source: Path, kind: str, *names: str) -> list[Face]:
    chosen = config.load(None, ["run.dir=unused", f"embed.source={source}"])
    return list(read_chunk(Chunk(kind, names), chosen))


def sparse_member(name: str) -> bytes:
    """The header of a member that claims SPARSE bytes and has none, as old GNU tar writes it."""
    head = bytearray(512)
    head[: len(name)] = name.encode()
    for place, field in ((100, b"0000644"), (124, b"00000000000"), (156, b"S"), (257, b"ustar  ")):
        head[place : place + len(field)] = field
    head[483:495] = b"\x80" + SPARSE.to_bytes(11, "big")
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


def test_names_in_an_archive_lead_nowhere_and_links_are_not_followed(tmp_path: Path):
    outside = tmp_path / "secret.png"
    outside.write_bytes(picture())
    source = tmp_path / "source"
    source.mkdir()
    names = ["../../up.png", "/abs.png", "a/../../b.png"]
    with tarfile.open(source / "faces.tar", "w") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(picture())
            archive.addfile(info, io.BytesIO(picture()))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo(f"link-{kind.decode()}.png")
            info.type, info.linkname = kind, str(outside)
            archive.addfile(info)
    before = sorted(tmp_path.rglob("*"))
    assert [face.key for face in read_faces(source, "tar", "faces.tar")] == [f"faces.tar/{name}" for name in names]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_member_that_claims_a_terabyte_is_a_bad_face_and_not_read(tmp_path: Path):
    (tmp_path / "faces.tar").write_bytes(sparse_member("big.png") + bytes(1024))
    (face,) = read_faces(tmp_path, "tar", "faces.tar")
    assert (face.image_HWC, face.problem[:10]) == (None, "unreadable")
    with pytest.raises(ValueError, match=r"shard\.tar: member 'big\.png' must be a file"):
        webdataset.from_bytes(sparse_member("big.png") + bytes(1024), "shard.tar")


@pytest.mark.parametrize("name", ["a\n\x1b[2Jb.png", "caf\udce9.png"])
def test_a_name_that_a_terminal_would_obey_or_a_table_cannot_hold_is_a_bad_face(tmp_path: Path, name: str):
    with tarfile.open(tmp_path / "faces.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        info = tarfile.TarInfo(name)
        info.size = len(picture())
        archive.addfile(info, io.BytesIO(picture()))
    (face,) = read_faces(tmp_path, "tar", "faces.tar")
    assert "control characters" in face.problem
    assert face.key.isprintable()
    for sound in ("日本語 ü.png", "👩\u200d🔬.png", "می\u200cخواهم.png"):
        assert printable(sound) == sound


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(2**16))) + chunk(b"IEND", b"")


def jpeg_that_claims(width: int, height: int) -> bytes:
    data = picture("JPEG")
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


@pytest.mark.filterwarnings("ignore:Image size .* exceeds limit")
@pytest.mark.parametrize(("width", "height"), [(LARGEST_SIDE + 1, 1), (9000, 9000), (13_000, 9000), (60_000, 60_000)])
def test_a_picture_that_claims_to_be_huge_is_refused_before_it_is_decoded(width: int, height: int):
    with pytest.raises(ValueError, match=r"at most 4096 pixels|decompression bomb"):
        decode(png_that_claims(width, height))
    with pytest.raises(ValueError, match=r"is not a whole JPEG image .*(at most 4096 pixels|decompression bomb)"):
        jpeg.decode(jpeg_that_claims(width, height))


def npy(header: dict[str, object], data: bytes = b"") -> bytes:
    sink = io.BytesIO()
    np.lib.format.write_array_header_1_0(sink, header)  # type: ignore[arg-type]
    return sink.getvalue() + data


@pytest.mark.parametrize("rows", [10**9, 10**30])
def test_a_table_that_claims_more_rows_than_it_has_is_refused(tmp_path: Path, rows: int):
    (tmp_path / "people.npy").write_bytes(npy({"descr": "<f8", "fortran_order": False, "shape": (rows, 10**6)}))
    with pytest.raises(EmbeddingError, match=r"people\.npy: is not a readable \.npy file"):
        read_file(str(tmp_path / "people.npy"), StorageConfig())


class Payload:
    """An object that runs when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("it was run",)


def test_a_table_that_is_a_pickle_is_never_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    header = {"descr": "|O", "fortran_order": False, "shape": (1, 1)}
    (tmp_path / "people.npy").write_bytes(npy(header, pickle.dumps(np.array([[Payload()]]))))
    (tmp_path / "bare.npy").write_bytes(pickle.dumps(Payload()))
    for name in ("people.npy", "bare.npy"):
        with pytest.raises(EmbeddingError, match=f"{name}: is not a readable"):
            read_file(str(tmp_path / name), StorageConfig())
    assert capsys.readouterr().out == ""


def test_a_damaged_page_of_a_parquet_file_is_refused_by_name(tmp_path: Path):
    rows = pa.array([[1.0, 0.0]] * 1000, pa.list_(pa.float32(), 2))
    table = pa.table({"image": pa.array([picture()] * 1000), "embedding": rows})
    pq.write_table(table, tmp_path / "faces.parquet", use_dictionary=False)
    data = bytearray((tmp_path / "faces.parquet").read_bytes())
    for column in range(2):
        at = pq.ParquetFile(tmp_path / "faces.parquet").metadata.row_group(0).column(column).data_page_offset
        data[at : at + 8] = b"\xff" * 8
    (tmp_path / "faces.parquet").write_bytes(data)
    with pytest.raises(RunError, match=r"faces\.parquet: is not a complete Parquet file"):
        read_faces(tmp_path, "parquet", "faces.parquet")
    with pytest.raises(EmbeddingError, match=r"faces\.parquet: is not a readable embedding table"):
        read_file(str(tmp_path / "faces.parquet"), StorageConfig())


@pytest.mark.parametrize(
    "header", [b"{'descr': '<f4', (", b"{" * 100, b"\xff" * 40, b"()", b"{'descr': 'O', 'shape': 3}"]
)
def test_a_table_whose_header_is_no_header_is_refused_by_name(tmp_path: Path, header: bytes):
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    (tmp_path / "people.npy").write_bytes(data)
    with pytest.raises(EmbeddingError, match=r"people\.npy: is not a readable \.npy file .*; write it again"):
        read_file(str(tmp_path / "people.npy"), StorageConfig())


@pytest.mark.parametrize(
    ("index", "why"),
    [
        (b"", "must have lines"),
        (b"0\t0\n1", "must have `number<tab>offset` in each line"),
        (b"0\t0\n1\tx", "must have `number<tab>offset` in each line"),
        (b"0\t0\n1\t" + b"9" * 30, "must have `number<tab>offset` in each line"),
        (b"0\t0\n1\t" + b"9" * 5000, "must have `number<tab>offset` in each line"),
        (b"0\t0\n1\t-1", r"record 1 begins at -1, which is no place in the \d+ bytes of train\.rec"),
        (b"0\t0\n1\t9223372036854775807", "record 1 begins at 9223372036854775807, which is no place"),
        (b"0\t0\n-1\t0", "must have lines, and each a number of its own"),
        (b"0\t0\n0\t0", "must have lines, and each a number of its own"),
        (b"1\t0\n2\t0", "has no line for record 0"),
    ],
    ids=range(10),
)
def test_an_index_of_records_that_leads_nowhere_is_one_line(tmp_path: Path, index: bytes, why: str):
    (tmp_path / "train.rec").write_bytes(recordio.labelled(0, (2, 3)) + recordio.image(1, 0, picture()))
    (tmp_path / "train.idx").write_bytes(index)
    with pytest.raises(RunError, match=rf"train\.idx: {why}") as error:
        _ = RecordImages(LocalStore(str(tmp_path))).num_classes
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


def test_an_index_without_records_is_one_line(tmp_path: Path):
    (tmp_path / "train.rec").write_bytes(b"")
    (tmp_path / "train.idx").write_bytes(b"0\t0\n")
    with pytest.raises(RunError, match=r"train\.idx: record 0 begins at 0, which is no place in the 0 bytes"):
        _ = RecordImages(LocalStore(str(tmp_path))).num_classes


def test_what_a_job_says_of_a_name_is_not_obeyed_by_a_terminal(capsys: pytest.CaptureFixture[str]):
    logs.complain("error: a\x1b[2Jb\u202egnp.exe\x07: bad\n  日本語 \udce9.png")
    logs.say("embed: a\x9bb\rc")
    said = capsys.readouterr()
    assert said.err == "error: a\\x1b[2Jb\\u202egnp.exe\\x07: bad\n  日本語 \\udce9.png\n"
    assert said.out == "embed: a\\x9bb\\rc\n"


@pytest.mark.parametrize("end", [np.inf, np.nan, -5, 3e30, 1e6, 0])
def test_records_that_claim_more_images_than_there_are_lines_are_refused(tmp_path: Path, end: float):
    first = recordio.framed(recordio.HEADER.pack(2, 0.0, 0, 0) + struct.pack("<ff", end, 3))
    (tmp_path / "train.rec").write_bytes(first + recordio.image(1, 0, picture()))
    (tmp_path / "train.idx").write_text(f"0\t0\n1\t{len(first)}\n")
    with pytest.raises(RunError, match=r"train\.rec: record 0 must tell how many of the 2 records are images"):
        _ = RecordImages(LocalStore(str(tmp_path))).num_images


def test_a_csv_file_whose_field_has_no_end_is_refused_by_name(tmp_path: Path):
    (tmp_path / "ages.csv").write_text("identity,age\n0," + "9" * 200_000)
    with pytest.raises(ConfigError, match=r"audit\.labels: .*ages\.csv: is no CSV file"):
        read_labels(str(tmp_path / "ages.csv"), StorageConfig(), classes(0, 2, 2, []))


@pytest.mark.parametrize("place", ["weights.bin", "/etc/hostname", "../weights.bin"])
def test_a_model_with_weights_in_another_file_which_has_no_hash_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
):
    (tmp_path / "here").mkdir()
    for folder in (tmp_path, tmp_path / "here"):
        (folder / "weights.bin").write_bytes(bytes(64))
    monkeypatch.chdir(tmp_path / "here")  # where onnxruntime looks
    weights = TensorProto(name="w", data_type=TensorProto.UINT8, dims=[8], data_location=TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value=place)
    value = helper.make_tensor_value_info("y", TensorProto.UINT8, [8])
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [], [value], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data = onnx.ModelProto.SerializeToString(model)
    (tmp_path / "m.onnx").write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    with pytest.raises(ModelError, match=r"m\.onnx: onnxruntime cannot load it .*[Ee]xternal data"):
        open_session(str(tmp_path / "m.onnx"), sha256, ("recognizer.path", "recognizer.sha256"))


def test_a_name_with_a_null_byte_is_refused(tmp_path: Path):
    store = LocalStore(str(tmp_path))
    for call in (store.read, store.stat, store.list, store.delete, lambda n: store.put_new(n, b"")):
        with pytest.raises(StorageError, match=r"'a\\x00b' has a null byte; correct the name"):
            call("a\0b")


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "/etc/hostname"])
def test_no_name_leads_out_of_a_run(tmp_path: Path, name: str):
    store = LocalStore(str(tmp_path / "run"))
    for call in (store.read, store.stat, store.list, store.delete, lambda n: store.put_new(n, b"")):
        with pytest.raises(StorageError, match="leaves the directory; give a name inside it"):
            call(name)


@pytest.mark.parametrize("key", ["train.name", "train_generator.name"])
@pytest.mark.parametrize("name", ["../../elsewhere", "/tmp/x", "..", "a\nb"])
def test_a_name_of_a_training_is_no_path(key: str, name: str):
    with pytest.raises(ConfigError, match=f"{key} must be letters, digits"):
        config.load(None, ["run.dir=runs/x", f"{key}={name}"])


@pytest.mark.parametrize("value", ["${oc.env:AWS_SECRET_ACCESS_KEY}", "a ${run.dir}", "${${run.dir}.env:HOME}"])
def test_a_configuration_cannot_copy_the_environment_into_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    (tmp_path / "c.yaml").write_text(f'run: {{dir: x}}\nstorage: {{region: "{value}"}}\n')
    text = config.to_yaml(config.load(None, ["run.dir=x"])).replace("dir: x", f'dir: "{value}"')
    for read in (
        lambda: config.load(str(tmp_path / "c.yaml")),
        lambda: config.load(None, ["run.dir=x", f"storage.region={value}"]),
        lambda: config.from_yaml(text),
    ):
        with pytest.raises(ConfigError, match="a value must be written out") as error:
            read()
        assert "hidden" not in str(error.value)


def test_a_configuration_is_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "c.yaml").write_text('run: !!python/object/apply:builtins.print ["it was run"]\n')
    with pytest.raises(ConfigError, match="a value must be written without a tag"):
        config.load(str(tmp_path / "c.yaml"))
    assert capsys.readouterr().out == ""


def test_a_model_that_counts_for_ever_is_refused_when_its_time_is_over(tmp_path: Path):
    """The loop has 2^62 rounds, which onnxruntime would take one by one."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Add", ["x", "x"], ["y"]),
        ],
        "round",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        ],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["rounds", "", "images"], ["found"], body=body)],
        "for ever",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [None, 3, 8, 8])],
        [helper.make_tensor_value_info("found", TensorProto.FLOAT, None)],
        [helper.make_tensor("rounds", TensorProto.INT64, [], [2**62])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    (tmp_path / "m.onnx").write_bytes(data := model.SerializeToString())
    session = open_session(str(tmp_path / "m.onnx"), hashlib.sha256(data).hexdigest(), ("a.path", "a.sha256"))
    with pytest.raises(ModelError, match=r"m\.onnx: has no answer for 2 pictures after 0\.5 s; give another model"):
        tried("m.onnx", session, np.zeros((2, 3, 8, 8), np.float32), at_most_s=0.5)
