"""The ONNX recogniser on tiny models that are built here."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hyperface.errors import ModelError
from hyperface.models.arcface import ArcFaceRecognizer
from hyperface.models.attribute_model import AttributeModel

SIZE, DIM = 16, 6


def tiny_model(
    path: Path,
    batch: int | str = "N",
    shape: tuple[Any, ...] = (3, SIZE, SIZE),
    dtype: Any = np.float32,
) -> tuple[str, str]:
    """Average of each 8 x 8 patch, then a fixed linear map to 6 numbers; (path, SHA-256)."""
    weight = np.random.default_rng(0).standard_normal((DIM, 12)).astype(np.float32)
    taken = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["faces"], ["cast"], to=TensorProto.FLOAT),
            helper.make_node("AveragePool", ["cast"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
            helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
            helper.make_node("Gemm", ["flat", "weight"], ["embedding"], transB=1),
        ],
        "tiny",
        [helper.make_tensor_value_info("faces", taken, [batch, *shape])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return str(path), hashlib.sha256(path.read_bytes()).hexdigest()


def faces(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)


def by_hand(images_BHWC: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Compute what the tiny model means: normalised pixels, patch means in CHW order, the linear map, norm 1."""
    weight = np.random.default_rng(0).standard_normal((DIM, 12)).astype(np.float32)
    signal = (images_BHWC.astype(np.float64) - 127.5) / 127.5
    patches = signal.reshape(-1, 2, 8, 2, 8, 3).mean(axis=(2, 4)).transpose(0, 3, 1, 2).reshape(-1, 12)
    rows = patches @ weight.T.astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_embeds_rgb_pixels_scaled_to_plus_minus_one(tmp_path: Path) -> None:
    recognizer = ArcFaceRecognizer(*tiny_model(tmp_path / "m.onnx"))
    images = faces(5)
    embeddings = recognizer.embed(images)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, by_hand(images), atol=1e-5)


def test_features_are_what_the_model_returns_before_they_are_brought_to_norm_1(tmp_path: Path) -> None:
    recognizer = ArcFaceRecognizer(*tiny_model(tmp_path / "m.onnx"))
    features = recognizer.features(faces(5))
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    assert (np.abs(norms - 1) > 1e-3).all()
    np.testing.assert_array_equal(recognizer.embed(faces(5)), features / norms)


def test_reads_size_dimension_and_fingerprint_from_the_model(tmp_path: Path) -> None:
    path, sha256 = tiny_model(tmp_path / "m.onnx")
    recognizer = ArcFaceRecognizer(path, sha256.upper())
    assert (recognizer.image_size, recognizer.embedding_dim, recognizer.fingerprint) == (SIZE, DIM, sha256)


@pytest.mark.parametrize("batch", ["N", 1, 4])
@pytest.mark.parametrize("count", [0, 1, 4, 7, 130])
def test_any_number_of_images_passes_through_any_batch_size(tmp_path: Path, batch: int | str, count: int) -> None:
    recognizer = ArcFaceRecognizer(*tiny_model(tmp_path / "m.onnx", batch))
    embeddings = recognizer.embed(faces(count))
    assert embeddings.shape == (count, DIM)
    np.testing.assert_allclose(embeddings, by_hand(faces(count)), atol=1e-5)


def test_a_face_without_direction_comes_back_as_nan_and_harms_no_other(tmp_path: Path) -> None:
    path, _ = tiny_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    # The logarithm of a dark patch's negative mean is NaN.
    model.graph.node.insert(2, helper.make_node("Log", ["pooled"], ["logged"]))
    model.graph.node[3].input[0] = "logged"
    onnx.save(model, path)
    recognizer = ArcFaceRecognizer(path, hashlib.sha256(Path(path).read_bytes()).hexdigest())
    images = np.full((3, SIZE, SIZE, 3), 220, np.uint8)
    images[1] = 10
    embeddings = recognizer.embed(images)
    assert np.isnan(embeddings[1]).all()
    np.testing.assert_allclose(np.linalg.norm(embeddings[[0, 2]], axis=1), 1, atol=1e-5)


def test_another_sha256_is_refused_naming_file_expected_and_found(tmp_path: Path) -> None:
    path, sha256 = tiny_model(tmp_path / "m.onnx")
    with pytest.raises(ValueError, match=r"recognizer\.sha256") as error:
        ArcFaceRecognizer(path, "0" * 64)
    assert all(part in str(error.value) for part in (path, "0" * 64, sha256))


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent\.onnx: cannot be read"):
        ArcFaceRecognizer(str(tmp_path / "absent.onnx"), "0" * 64)


def test_a_file_that_is_no_onnx_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(ValueError, match="onnxruntime cannot load it"):
        ArcFaceRecognizer(str(path), hashlib.sha256(b"not a model").hexdigest())


def test_a_model_without_fixed_image_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fixed image size"):
        ArcFaceRecognizer(*tiny_model(tmp_path / "m.onnx", shape=(3, "H", "W")))


@pytest.mark.parametrize(("dtype", "named"), [(np.float16, "float16"), (np.float64, "double"), (np.uint8, "uint8")])
def test_a_model_that_takes_other_numbers_than_float32_is_refused(tmp_path: Path, dtype: Any, named: str) -> None:
    path, sha256 = tiny_model(tmp_path / "m.onnx", dtype=dtype)
    for load in (lambda: ArcFaceRecognizer(path, sha256), lambda: AttributeModel(path, sha256, list("abcdef"))):
        with pytest.raises(ModelError, match=rf"m\.onnx: must take float32 images; it takes {named}; export"):
            load()


def test_a_model_whose_output_is_no_embedding_is_refused(tmp_path: Path) -> None:
    path, _ = tiny_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    del model.graph.node[2:]
    model.graph.output[0].name = "pooled"
    onnx.save(model, path)
    with pytest.raises(ValueError, match=r"\[batch, dimension\]"):
        ArcFaceRecognizer(path, hashlib.sha256(Path(path).read_bytes()).hexdigest())


@pytest.mark.parametrize(
    "images", [np.zeros((2, SIZE, SIZE + 1, 3), np.uint8), np.zeros((2, SIZE, SIZE, 3), np.float32)]
)
def test_images_of_another_shape_or_type_are_refused(tmp_path: Path, images: Any) -> None:
    recognizer = ArcFaceRecognizer(*tiny_model(tmp_path / "m.onnx"))
    with pytest.raises(ValueError, match="expected uint8"):
        recognizer.embed(images)
