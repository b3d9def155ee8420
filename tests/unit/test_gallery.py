"""The embed stage without Ray: every kind of source is read, every kind of bad face is named, the rest goes on."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from hyperface import config, gallery
from hyperface.config import Config, ConfigError
from hyperface.faces.source import Chunk, plan_chunks, read_chunk
from hyperface.gallery import EmbeddedFace
from hyperface.run import RunError

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
