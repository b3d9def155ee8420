"""The norms that features had before they were brought to norm 1: measured, stored, read, and refused when bad."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from hyperface import config
from hyperface.errors import EmbeddingError
from hyperface.faces import embeddings, gallery, source
from hyperface.faces.embeddings import Embeddings
from hyperface.models.toy import recognizer as toy
from hyperface.packing import sphere
from hyperface.storage import LocalStore

ROWS_ND = sphere.random_points(5, 4, 0)
NORMS_N = np.array([0.5, 21.75, 22.0, 1e-3, 3.0], np.float32)


class Colour:
    """A recogniser by the mean colour, without features; black has no direction."""

    embedding_dim, image_size, fingerprint = 3, 8, "0" * 64

    def embed(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        means_BC = images_BHWC.mean((1, 2), dtype=np.float32)
        with np.errstate(invalid="ignore"):
            return (means_BC / np.linalg.norm(means_BC, axis=1, keepdims=True)).astype(np.float32)


class ColourFeatures(Colour):
    """A recogniser of colours with features, which are looked at alone: nobody pays for the network twice."""

    def embed(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        raise AssertionError("the images went through the network again")

    def features(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        return images_BHWC.mean((1, 2), dtype=np.float32)


def test_norms_come_back_as_they_were_written_beside_the_same_rows(tmp_path: Path):
    store = LocalStore(str(tmp_path))
    for column, names in (("key", list("abcde")), ("identity", [3, 4, 5, 6, 7])):
        written = embeddings.to_parquet(column, Embeddings(names, ROWS_ND, NORMS_N))
        assert written == embeddings.to_parquet(column, Embeddings(names, ROWS_ND, NORMS_N))
        store.put("table.parquet", written)
        for found in (
            embeddings.read(store, "table.parquet", column),
            embeddings.read(store, "table.parquet"),
            embeddings.read_file(str(tmp_path / "table.parquet"), config.StorageConfig()),
        ):
            assert found.names == names
            np.testing.assert_array_equal(found.vectors_ND, ROWS_ND)
            np.testing.assert_array_equal(found.norms, NORMS_N)
        assert pq.read_schema(io.BytesIO(written)).field("norm").type == pa.float32()


def test_a_table_without_norms_is_written_and_read_as_before(tmp_path: Path):
    store = LocalStore(str(tmp_path))
    store.put("table.parquet", embeddings.to_parquet("key", Embeddings(list("abcde"), ROWS_ND)))
    assert pq.read_schema(tmp_path / "table.parquet").names == ["key", "embedding"]
    assert embeddings.read(store, "table.parquet", "key").norms is None


@pytest.mark.parametrize(
    ("norms", "said"),
    [
        (pa.array([1, 2, 0, 4, 5], pa.float32()), r"above 0 for each row; 1 are not: row 2 \(0\)"),
        (pa.array([1, -2, 3, float("nan"), 5], pa.float32()), r"2 are not: row 1 \(-2\), row 3 \(nan\)"),
        (pa.array([1, None, 3, 4, 5], pa.float32()), r"1 are not: row 1 \(nan\)"),
        (pa.array([1, 2, 3, 4, float("inf")], pa.float32()), r"1 are not: row 4 \(inf\)"),
        (pa.array(list("abcde")), "must hold floating point numbers; it is string"),
    ],
)
def test_a_norm_that_is_none_is_refused_with_file_and_row(tmp_path: Path, norms: pa.Array, said: str):
    flat = pa.array(ROWS_ND.reshape(-1))
    table = pa.table({"embedding": pa.FixedSizeListArray.from_arrays(flat, 4), "norm": norms})
    pq.write_table(table, tmp_path / "table.parquet")
    with pytest.raises(EmbeddingError, match=rf"table\.parquet: column `norm` .*{said}"):
        embeddings.read(LocalStore(str(tmp_path)), "table.parquet")


def test_a_gallery_keeps_the_norms_of_features_and_a_recogniser_without_them_leaves_none(tmp_path: Path):
    for name, colour in (("a", (30, 40, 0)), ("b", (0, 0, 7)), ("black", (0, 0, 0))):
        Image.new("RGB", (8, 8), colour).save(tmp_path / f"{name}.png")
    chosen = config.load(None, ["run.dir=unused", f"embed.source={tmp_path}"])
    (chunk,) = source.plan_chunks(chosen.embed, chosen.storage)
    with_features = gallery.assemble(gallery.embed_chunk(chunk, chosen, ColourFeatures()), 0)
    without = gallery.assemble(gallery.embed_chunk(chunk, chosen, Colour()), 0)
    np.testing.assert_array_equal(with_features.embeddings.norms, np.array([50, 7], np.float32))
    np.testing.assert_allclose(with_features.embeddings.vectors_ND, [[0.6, 0.8, 0], [0, 0, 1]], atol=1e-7)
    assert with_features.problems == without.problems == [("black.png", "no embedding (NaN or zero)")]
    assert without.embeddings.norms is None


def test_the_toy_worlds_gallery_is_what_its_recogniser_says_to_the_last_bit():
    chosen = config.load(None, ["run.dir=unused", "embed.num_faces=20", "packing.num_identities=2"])
    recognizer = toy.load_recognizer()
    faces = gallery.embed_chunk(source.Chunk("toy", (), 0, 20), chosen, recognizer)
    found = gallery.assemble(faces, 0).embeddings
    images = np.stack([face.image_HWC for face in source.read_chunk(source.Chunk("toy", (), 0, 20), chosen)])
    np.testing.assert_array_equal(found.vectors_ND, recognizer.embed(images))
    features_ND = recognizer.features(images)
    np.testing.assert_allclose(found.norms, np.linalg.norm(features_ND, axis=1), rtol=1e-6)
    np.testing.assert_allclose(found.vectors_ND * found.norms[:, None], features_ND, atol=1e-5)
