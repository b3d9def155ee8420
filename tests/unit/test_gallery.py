"""The embed stage without Ray: every kind of source is read, every kind of bad face is named, the rest goes on."""

import errno
import io
import os
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damaged_tar import packed
from numpy.typing import NDArray
from PIL import Image

from hyperface import config
from hyperface.config import Config
from hyperface.errors import ConfigError, RunError
from hyperface.faces import gallery
from hyperface.faces.gallery import EmbeddedFace
from hyperface.faces.pictures import HIDDEN, LARGEST_FILE
from hyperface.faces.source import BEYOND, Chunk, plan_chunks, read_chunk
from hyperface.storage import LocalStore, open_store

SIZE = 8


class MeanColour:
    """A recogniser small enough to know by heart: the direction of the mean colour; black has none."""

    embedding_dim, image_size, fingerprint = 3, SIZE, "0" * 64

    def embed(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        means_BC = images_BHWC.reshape(len(images_BHWC), -1, 3).mean(1, dtype=np.float32)
        with np.errstate(invalid="ignore"):
            return (means_BC / np.linalg.norm(means_BC, axis=1, keepdims=True)).astype(np.float32)


def png(red: int, green: int, blue: int, size: int = SIZE) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (size, size), (red, green, blue)).save(sink, "PNG")
    return sink.getvalue()


def faces_of(source: Path, **embed: object) -> tuple[Config, list[EmbeddedFace]]:
    overrides = ["run.dir=unused", f"embed.source={source}", *(f"embed.{k}={v}" for k, v in embed.items())]
    chosen = config.load(None, overrides)
    chunks = plan_chunks(chosen.embed, chosen.storage)
    return chosen, [face for chunk in chunks for face in gallery.embed_chunk(chunk, chosen, MeanColour())]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "b").mkdir()
    (tmp_path / "a.png").write_bytes(png(255, 0, 0))
    (tmp_path / "b" / "c.png").write_bytes(png(0, 255, 0))
    (tmp_path / "notes.txt").write_text("not a face")
    return tmp_path


def test_a_folder_gives_one_embedding_a_face_in_the_order_of_keys(folder: Path):
    _, faces = faces_of(folder)
    made = gallery.assemble(faces, 0)
    assert made.embeddings.names == ["a.png", "b/c.png"]
    assert made.problems == []
    np.testing.assert_allclose(made.embeddings.vectors_ND, [[1, 0, 0], [0, 1, 0]], atol=1e-6)


def test_every_kind_of_bad_face_is_named_and_the_rest_goes_on(folder: Path):
    (folder / "d.png").write_bytes(b"no image")
    (folder / "e.png").write_bytes(png(0, 0, 255)[:-30])
    (folder / "f.png").write_bytes(png(0, 0, 255, SIZE + 1))
    (folder / "g.png").write_bytes(png(0, 0, 0))
    (folder / "h.png").write_bytes(png(255, 0, 0))
    _, faces = faces_of(folder)
    made = gallery.assemble(faces, 0)
    assert made.embeddings.names == ["a.png", "b/c.png"]
    reasons = dict(made.problems)
    assert reasons["d.png"] == reasons["e.png"] == "unreadable"
    assert reasons["f.png"] == "wrong shape 9x9, the recogniser takes 8x8"
    assert reasons["g.png"] == "no embedding (NaN or zero)"
    assert reasons["h.png"] == "duplicate of a.png"


def test_a_face_that_is_left_out_for_its_key_takes_nobody_with_it():
    """Such faces come after `tar -r` of a mended photograph, and a copy of it under another name."""
    e = np.eye(2, dtype=np.float32)
    faces = [
        EmbeddedFace("x.jpg", e[0], "old", ""),
        EmbeddedFace("x.jpg", e[1], "new", ""),
        EmbeddedFace("y.jpg", e[1], "new", ""),
    ]
    made = gallery.assemble(faces, 0)
    assert made.embeddings.names == ["x.jpg", "y.jpg"]
    assert made.problems == [("x.jpg", "another face has this key")]


def test_a_face_that_cannot_be_used_keeps_its_key_from_nobody():
    """Such a face is a damaged photograph that was packed again behind itself, or a name whose escape is another's
    name."""
    e = np.eye(2, dtype=np.float32)
    bad, sound = EmbeddedFace("x.jpg", e[0] * np.nan, "", "unreadable"), EmbeddedFace("x.jpg", e[0], "a", "")
    for faces in ([bad, sound, bad], [sound, bad, bad]):
        made = gallery.assemble(faces, 0)
        assert made.embeddings.names == ["x.jpg"]
        assert made.problems == [("x.jpg", "unreadable")] * 2


def test_too_many_bad_faces_stop_the_job_with_the_list(folder: Path):
    (folder / "d.png").write_bytes(b"no image")
    made = gallery.assemble(faces_of(folder)[1], 0)
    gallery.refuse_bad(made, max_bad_fraction=0.34)
    with pytest.raises(RunError, match=r"1 of 3 faces.*embed\.max_bad_fraction=0\.3 .*\n  d\.png: unreadable"):
        gallery.refuse_bad(made, max_bad_fraction=0.3)


def test_a_webdataset_shard_is_read_and_a_truncated_one_is_named(tmp_path: Path):
    with tarfile.open(tmp_path / "faces.tar", "w") as archive:
        for key, colour in (("0", (255, 0, 0)), ("1", (0, 0, 255))):
            member = tarfile.TarInfo(f"{key}.png")
            member.size = len(png(*colour))
            archive.addfile(member, io.BytesIO(png(*colour)))
    made = gallery.assemble(faces_of(tmp_path)[1], 0)
    assert made.embeddings.names == ["faces.tar/0.png", "faces.tar/1.png"]
    (tmp_path / "broken.tar").write_bytes((tmp_path / "faces.tar").read_bytes()[:560])
    with pytest.raises(RunError, match=r"broken\.tar: is not a complete tar archive"):
        faces_of(tmp_path)


@pytest.mark.parametrize("nested", [True, False])
def test_a_parquet_file_is_read_with_or_without_keys(tmp_path: Path, nested: bool):
    images = [png(255, 0, 0), png(0, 255, 0)]
    column = [{"bytes": image, "path": None} for image in images] if nested else images
    table = pa.table({"image": column} | ({"key": ["x", "y"]} if nested else {}))
    pq.write_table(table, tmp_path / "part.parquet")
    made = gallery.assemble(faces_of(tmp_path)[1], 0)
    assert made.embeddings.names == (
        [f"part.parquet/{key}" for key in (["x", "y"] if nested else ["0000000", "0000001"])]
    )


def test_a_foreign_parquet_file_is_named(tmp_path: Path):
    pq.write_table(pa.table({"other": [1]}), tmp_path / "part.parquet")
    with pytest.raises(RunError, match=r"part\.parquet: is not a Parquet file with a column `image`"):
        faces_of(tmp_path)


def test_rows_without_bytes_or_with_a_key_twice_are_named(tmp_path: Path):
    keys = ["x", "x", None, "z"]
    images = [png(255, 0, 0), png(0, 255, 0), png(0, 0, 255), None]
    pq.write_table(pa.table({"image": images, "key": keys}), tmp_path / "part.parquet")
    made = gallery.assemble(faces_of(tmp_path)[1], 0)
    assert made.embeddings.names == ["part.parquet/0000002", "part.parquet/x"]
    expected = [
        ("part.parquet/x", "another face has this key"),
        ("part.parquet/z", "unreadable, there is no picture in its row"),
    ]
    assert made.problems == expected


def test_num_faces_takes_the_first_of_the_source(folder: Path):
    assert gallery.assemble(faces_of(folder, num_faces=1)[1], 1).embeddings.names == ["a.png"]


def test_an_empty_source_says_what_it_wants(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"embed\.source: .* is not there, or holds no file .*\.tar, .*\.parquet"):
        faces_of(tmp_path)


def test_toy_faces_do_not_depend_on_how_they_are_cut_into_chunks():
    chosen = config.load(None, ["run.dir=unused", "embed.num_faces=200", "packing.num_identities=2"])
    chunks = plan_chunks(chosen.embed, chosen.storage)
    assert [(chunk.start, chunk.stop) for chunk in chunks] == [(0, 128), (128, 200)]
    (whole,) = [list(read_chunk(Chunk("toy", (), 0, 130), chosen))]
    (part,) = [list(read_chunk(Chunk("toy", (), 128, 130), chosen))]
    assert [face.key for face in part] == ["toy-0000128", "toy-0000129"]
    assert [face.digest for face in part] == [face.digest for face in whole[128:]]


def test_a_narrow_identity_spread_makes_faces_alike():
    def spread(share: float) -> float:
        chosen = config.load(None, ["run.dir=unused", f"embed.identity_spread={share}", "packing.num_identities=2"])
        faces = read_chunk(Chunk("toy", (), 0, 24), chosen)
        images = np.stack([face.image_HWC for face in faces if face.image_HWC is not None]).astype(float)
        return float(images[:, 20:44, 20:44].std(0).mean())

    assert spread(0.1) < 0.8 * spread(1.0)


def test_every_file_of_a_folder_is_a_face_named_or_counted(folder: Path):
    for name in (".hidden/a.png", "@eaDir/a.png", "b/._c.png", "b/notes.JSON", "b/no_suffix"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(png(1, 2, 3))
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "pipe.png")
    with (folder / "large.png").open("wb") as file:
        file.truncate(LARGEST_FILE + 1)
    passed_over = Counter[str]()
    chosen = config.load(None, ["run.dir=unused", f"embed.source={folder}", "embed.num_faces=0"])
    chunks = plan_chunks(chosen.embed, chosen.storage, passed_over)
    faces = [face for chunk in chunks for face in gallery.embed_chunk(chunk, chosen, MeanColour(), passed_over)]
    made = gallery.assemble(faces, 0)
    assert made.embeddings.names == ["a.png", "b/c.png"]
    reasons = dict(made.problems)
    assert reasons["gone.png"].startswith("cannot be read")
    assert reasons["pipe.png"].startswith("cannot be read")
    assert reasons["large.png"] == "unreadable, larger than 64 MiB"
    assert passed_over == {HIDDEN: 3, ".txt": 1, ".json": 1, "no suffix": 1}
    said = "2 faces, 3 left out (cannot be read 2, unreadable 1), 6 files passed over"
    assert gallery.account(made, passed_over) == f"{said} (hidden 3, .json 1, .txt 1, no suffix 1)"


def test_faces_beyond_the_number_that_is_asked_for_are_counted(folder: Path):
    (folder / "d.png").write_bytes(png(0, 0, 255))
    passed_over = Counter[str]()
    chosen = config.load(None, ["run.dir=unused", f"embed.source={folder}", "embed.num_faces=1"])
    plan_chunks(chosen.embed, chosen.storage, passed_over)
    assert passed_over == {BEYOND: 2, ".txt": 1}
    assert gallery.assemble(faces_of(folder, num_faces=0)[1], 1).beyond == 2


def test_a_file_that_vanishes_or_is_forbidden_is_one_face(folder: Path):
    chosen = config.load(None, ["run.dir=unused", f"embed.source={folder}"])
    (chunk,) = plan_chunks(chosen.embed, chosen.storage)
    (folder / "a.png").unlink()
    (folder / "a.png").mkdir()
    (folder / "b" / "c.png").unlink()
    faces = list(read_chunk(chunk, chosen))
    assert [(face.key, face.problem[:14]) for face in faces] == [
        ("a.png", "cannot be read"),
        ("b/c.png", "cannot be read"),
    ]
    assert faces[1].problem == "cannot be read (No such file or directory)"


class BadDisk(io.BytesIO):
    """A file whose later bytes cannot be read."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() > 1024:
            raise OSError(errno.EIO, "Input/output error")
        return super().read(size)


def test_an_archive_that_cannot_be_read_to_its_end_is_a_refusal(folder: Path, monkeypatch: pytest.MonkeyPatch):
    chosen = config.load(None, ["run.dir=unused", f"embed.source={folder}"])
    with pytest.raises(RunError, match=r"gone\.tar: cannot be read .*0 faces came before\); copy it again"):
        list(read_chunk(Chunk("tar", ("gone.tar",)), chosen))
    (folder / "faces.tar").write_bytes(packed(3))
    monkeypatch.setattr(LocalStore, "open", lambda store, name: BadDisk(Path(store.url, name).read_bytes()))
    with pytest.raises(RunError, match=r"faces\.tar: cannot be read \(.*Input/output error; 1 faces came before\)"):
        list(read_chunk(Chunk("tar", ("faces.tar",)), chosen))


@pytest.mark.parametrize("column", ["image", "jpg", "png", "webp"])
@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.binary_view(), pa.dictionary(pa.int32(), pa.binary())]
)
def test_pictures_of_a_table_may_lie_in_a_column_of_another_name_and_kind(
    tmp_path: Path, column: str, kind: pa.DataType
):
    images = [png(255, 0, 0), None, png(0, 255, 0)]
    keys = pa.array([b"x", b"y", b"\xff"]).view(pa.string())
    table = pa.table({"url": ["u"] * 3, column: pa.array(images, pa.binary()).cast(kind), "key": keys})
    pq.write_table(table, tmp_path / "00000.parquet")
    made = gallery.assemble(faces_of(tmp_path)[1], 0)
    assert made.embeddings.names == ["00000.parquet/x"]
    assert [key for key, _ in made.problems] == ["00000.parquet/\\udcff", "00000.parquet/y"]


@pytest.mark.parametrize(
    "columns",
    [
        {"jpg": [b"a"], "png": [b"b"]},
        {"image": ["a/path.png"]},
        {"image": [{"path": "a.png"}]},
        {"image": [[b"a"]]},
        {"url": ["x"]},
    ],
)
def test_a_table_whose_pictures_nobody_can_name_is_refused(tmp_path: Path, columns: dict[str, list[object]]):
    pq.write_table(pa.table(columns), tmp_path / "part.parquet")
    with pytest.raises(RunError, match=r"part\.parquet: is not a Parquet file with a column `image`: [^\n]*$"):
        faces_of(tmp_path)


def test_the_layouts_of_img2dataset_are_read(tmp_path: Path):
    about = pa.table({"url": ["u"], "caption": ["c"], "key": ["000000000"], "status": ["success"]})
    (tmp_path / "00001").mkdir()
    for name in ("00000.parquet", "00001.parquet"):
        pq.write_table(about, tmp_path / name)
    for name in ("00000_stats.json", "00001_stats.json", "00001/000010000.json", "00001/000010000.txt"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "00000.tar").write_bytes(packed(2))
    (tmp_path / "00001" / "000010000.jpg").write_bytes(png(255, 0, 0))
    pq.write_table(about.append_column("jpg", pa.array([png(0, 255, 0)])), tmp_path / "00002.parquet")
    passed_over = Counter[str]()
    chosen = config.load(None, ["run.dir=unused", f"embed.source={tmp_path}"])
    chunks = plan_chunks(chosen.embed, chosen.storage, passed_over)
    keys = [face.key for chunk in chunks for face in read_chunk(chunk, chosen, passed_over)]
    assert keys == ["00000.tar/000.png", "00000.tar/001.png", "00002.parquet/000000000", "00001/000010000.jpg"]
    assert passed_over == {".json": 3, ".txt": 3, ".parquet beside its pictures": 2}


def test_an_archive_without_a_face_is_no_gallery(tmp_path: Path):
    with tarfile.open(tmp_path / "texts.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))
    passed_over = Counter[str]({".txt": 1})
    made = gallery.assemble(faces_of(tmp_path)[1], 0)
    with pytest.raises(RunError, match=r"embed\.source: its archives and tables hold no face \(\.txt 1\)"):
        gallery.refuse_bad(made, 0.5, passed_over)


def test_a_source_on_s3_is_read_and_counted_as_one_on_a_disk(s3_endpoint: str, s3_bucket: str):
    storage = [f"storage.endpoint_url={s3_endpoint}", "storage.addressing_style=path", "storage.patience_s=1"]
    chosen = config.load(None, ["run.dir=unused", f"embed.source=s3://{s3_bucket}/faces", *storage])
    store = open_store(chosen.embed.source, chosen.storage)
    whole = packed(3)
    content = {"p/a.png": png(255, 0, 0), "@eaDir/a.png": png(0, 0, 9), ".x/b.png": b"", "c.txt": b"", "d.tar": whole}
    for name, data in (content | {"gone.png": png(1, 1, 1)}).items():
        store.put(name, data)
    passed_over = Counter[str]()
    chunks = plan_chunks(chosen.embed, chosen.storage, passed_over)
    store.delete("gone.png")
    faces = [face for chunk in chunks for face in read_chunk(chunk, chosen, passed_over)]
    assert [face.key for face in faces] == [*(f"d.tar/00{n}.png" for n in range(3)), "gone.png", "p/a.png"]
    assert [face.key for face in faces if face.problem.startswith("cannot be read")] == ["gone.png"]
    assert passed_over == {HIDDEN: 2, ".txt": 4}
    store.put("d.tar", whole[:2048] + b"!" + whole[2049:])
    with pytest.raises(RunError, match=r"d\.tar: is not a complete tar archive \(byte 2048 .*; 1 faces came before\)"):
        list(read_chunk(Chunk("tar", ("d.tar",)), chosen))


@pytest.mark.parametrize("beside", [False, True])
def test_keys_that_are_no_texts_are_refused_with_their_column_and_the_fix(tmp_path: Path, beside: bool):
    pq.write_table(pa.table({"image": [png(255, 0, 0)], "key": [1.5]}), tmp_path / "part.parquet")
    if beside:
        (tmp_path / "part").mkdir()
        (tmp_path / "part" / "x.png").write_bytes(png(0, 255, 0))
    with pytest.raises(RunError, match=r"/part\.parquet: column `key` must hold texts or whole .* double; cast it to"):
        faces_of(tmp_path)


def test_an_archive_in_place_of_its_folder_is_said_to_be_a_file(tmp_path: Path):
    (tmp_path / "faces.tar").write_bytes(packed(2))
    chosen = config.load(None, ["run.dir=unused", f"embed.source={tmp_path}/faces.tar"])
    with pytest.raises(ConfigError, match=r"faces\.tar is a file; give a folder of faces, or of archives of them"):
        plan_chunks(chosen.embed, chosen.storage)
