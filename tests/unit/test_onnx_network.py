"""An ONNX file as a PyTorch network: the same numbers as onnxruntime's, with a gradient, or a clear refusal."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from hyperface.errors import ModelError
from hyperface.models.arcface import ArcFaceRecognizer
from hyperface.models.onnx_attributes import METADATA, OnnxAttributes
from hyperface.models.onnx_file import open_session
from hyperface.models.onnx_network import differentiable
from hyperface.models.protocols import AttributeRange, Preprocessing

SIZE = 8
YAW = {"name": "yaw", "low": -60, "high": 60, "tolerance": 5}
QUALITY = {"name": "quality", "low": 0, "high": 40, "tolerance": 1, "at_least": True}


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng((seed, *shape)).standard_normal(shape) * 0.5).astype(np.float32)


def face_nodes() -> tuple[list[Any], dict[str, np.ndarray]]:
    """The operators of InsightFace's recognisers, and of torch's exports of small networks."""
    weights = {
        "w1": numbers(4, 3, 3, 3), "b1": numbers(4), "scale": numbers(4), "shift": numbers(4, seed=1),
        "mean": numbers(4, seed=2), "variance": np.abs(numbers(4, seed=3)) + 0.5, "slope": numbers(4, 1, 1),
        "w2": numbers(4, 2, 3, 3), "fc": numbers(2, 4 * 16), "bias": numbers(2), "two": np.array([2.0], np.float32),
        "axis": np.array([2, 3], np.int64), "ends": np.array([0, -1], np.int64),
        "low": np.array(-50.0, np.float32),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1]),
        node("BatchNormalization", ["c1", "scale", "shift", "mean", "variance"], ["n1"], epsilon=2e-5),
        node("PRelu", ["n1", "slope"], ["p1"]),
        node("Conv", ["p1", "w2"], ["c2"], kernel_shape=[3, 3], pads=[0, 1, 2, 1], strides=[2, 2], group=2),
        node("MaxPool", ["p1"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Add", ["c2", "m"], ["sum"]),
        node("GlobalAveragePool", ["sum"], ["pooled"]),
        node("Sigmoid", ["pooled"], ["gate"]),
        node("Mul", ["sum", "gate"], ["gated"]),
        node("ReduceMean", ["gated", "axis"], ["level"], keepdims=1),
        node("Sub", ["gated", "level"], ["centred"]),
        node("Reshape", ["centred", "ends"], ["flat"]),
        node("Gemm", ["flat", "fc", "bias"], ["out"], transB=1, alpha=0.5),
        node("Div", ["out", "two"], ["halved"]),
        node("Clip", ["halved", "low"], ["y"]),
    ]
    return nodes, weights


def saved(path: Path, nodes: list[Any], weights: dict[str, np.ndarray], metadata: Any = None, batch: Any = "N") -> Any:
    """(path, SHA-256)"""
    graph = helper.make_graph(
        nodes,
        "faces",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 8
    if metadata is not None:
        helper.set_model_props(model, {METADATA: metadata if isinstance(metadata, str) else json.dumps(metadata)})
    onnx.save(model, path)
    return str(path), hashlib.sha256(path.read_bytes()).hexdigest()


def images(count: int) -> torch.Tensor:
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1


def slope_of(of: Callable[[torch.Tensor], torch.Tensor], at: torch.Tensor, along: torch.Tensor) -> float:
    step = 1e-2
    return float((of(at + step * along).sum() - of(at - step * along).sum()) / (2 * step))


def test_a_recogniser_gives_the_same_features_with_a_gradient(tmp_path: Path):
    recognizer = ArcFaceRecognizer(*saved(tmp_path / "m.onnx", *face_nodes()))
    pixels = np.random.default_rng(4).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
    signal = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - 127.5) / 127.5
    found = recognizer.features_of(signal.requires_grad_())
    np.testing.assert_allclose(found.detach().cpu().numpy(), recognizer.features(pixels), atol=1e-4)
    along = torch.randn(signal.shape, generator=torch.Generator().manual_seed(2))
    (gradient,) = torch.autograd.grad(found.sum(), signal)
    with torch.no_grad():
        assert float((gradient * along).sum()) == pytest.approx(
            slope_of(recognizer.features_of, signal, along), rel=0.05
        )


def test_another_preprocessing_is_that_of_the_features(tmp_path: Path):
    path, sha256 = saved(tmp_path / "m.onnx", *face_nodes())
    recognizer = ArcFaceRecognizer(path, sha256, preprocessing=Preprocessing("BGR", 100.0, 64.0))
    pixels = np.random.default_rng(4).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    signal = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    found = recognizer.features_of(signal).cpu().numpy()
    np.testing.assert_allclose(found, recognizer.features(pixels), atol=1e-3)


def test_a_file_of_one_image_a_batch_is_run_on_any_number(tmp_path: Path):
    recognizer = ArcFaceRecognizer(*saved(tmp_path / "m.onnx", *face_nodes(), batch=1))
    assert recognizer.features_of(images(5)).shape == (5, 2)


def test_an_operator_without_a_gradient_here_is_named(tmp_path: Path):
    nodes, weights = face_nodes()
    nodes.append(helper.make_node("Sinh", ["y"], ["z"]))
    recognizer = ArcFaceRecognizer(*saved(tmp_path / "m.onnx", nodes, weights))
    with pytest.raises(ModelError, match=r"m.onnx: no gradient is known here for its operators Sinh; export"):
        recognizer.features_of(images(1))


def test_a_network_that_needs_its_batch_is_refused(tmp_path: Path):
    nodes, weights = face_nodes()
    weights["ends"] = np.array([1, 64], np.int64)
    recognizer = ArcFaceRecognizer(*saved(tmp_path / "m.onnx", nodes, weights, batch=1))
    with pytest.raises(ModelError, match=r"cannot run it on 2 images .* export it with any number of images a batch"):
        recognizer.features_of(images(1))


def test_a_pooling_that_is_not_done_here_is_refused(tmp_path: Path):
    nodes, weights = face_nodes()
    nodes[4] = helper.make_node("MaxPool", ["p1"], ["m"], kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
    recognizer = ArcFaceRecognizer(*saved(tmp_path / "m.onnx", nodes, weights))
    with pytest.raises(ModelError, match=r"PyTorch cannot run it on 2 images \(auto_pad and ceil_mode\)"):
        recognizer.features_of(images(1))


def test_numbers_that_differ_from_onnxruntimes_are_refused(tmp_path: Path):
    nodes, weights = face_nodes()
    keys = ("recognizer.path", "recognizer.sha256")
    session = open_session(*saved(tmp_path / "one.onnx", nodes, weights), keys)
    other = onnx.load(saved(tmp_path / "other.onnx", nodes, {**weights, "fc": weights["fc"] * 1.01})[0])
    with pytest.raises(ModelError, match=r"m.onnx: PyTorch gives other numbers than onnxruntime \(.* apart\)"):
        differentiable(other, "m.onnx", session, SIZE)


def test_a_reader_of_attributes_says_what_it_reads_and_where_to_believe_it(tmp_path: Path):
    reader = OnnxAttributes(*saved(tmp_path / "m.onnx", *face_nodes(), [YAW, QUALITY]))
    assert reader.image_size == SIZE
    assert list(reader.ranges.items()) == [
        ("yaw", AttributeRange(-60.0, 60.0, 5.0)),
        ("quality", AttributeRange(0.0, 40.0, 1.0, at_least=True)),
    ]
    batch = images(3).requires_grad_()
    values = reader.values(batch)
    assert values.shape == (3, 2)
    (gradient,) = torch.autograd.grad(values[0].sum(), batch)
    assert gradient[0].abs().max() > 0
    assert gradient[1:].abs().max() == 0


@pytest.mark.parametrize(
    "metadata",
    [
        None, "", "[]", "{", [YAW, YAW], [{"name": "yaw", "low": -60}], [{**YAW, "low": 60}], [{**YAW, "tolerance": 0}],
        [{**YAW, "at_least": "false"}, QUALITY], "[" * 100_000,
    ],
    ids=range(10),
)  # fmt: skip
def test_a_reader_that_does_not_say_so_is_refused_with_an_example(tmp_path: Path, metadata: Any):
    with pytest.raises(ModelError, match=r"m.onnx: its metadata must say .* hyperface.attributes = \[{"):
        OnnxAttributes(*saved(tmp_path / "m.onnx", *face_nodes(), metadata))


def test_a_reader_that_rounds_what_it_gives_is_refused_since_no_gradient_passes(tmp_path: Path):
    nodes, weights = face_nodes()
    whole = helper.make_node("Cast", [nodes[-1].output[0]], ["whole"], to=TensorProto.INT32)
    back = helper.make_node("Cast", ["whole"], ["back"], to=TensorProto.FLOAT)
    with pytest.raises(ModelError, match=r"m.onnx: must not round what it gives .*control\.attribute_path"):
        OnnxAttributes(*saved(tmp_path / "m.onnx", [*nodes, whole, back], weights, [YAW, QUALITY]))


def test_a_reader_with_another_number_of_numbers_is_refused(tmp_path: Path):
    with pytest.raises(ModelError, match=r"must give \[batch, 1\] for the 1 attributes of its metadata; .* \[1, 2\]"):
        OnnxAttributes(*saved(tmp_path / "m.onnx", *face_nodes(), [YAW]))


def test_a_reader_of_another_hash_is_refused(tmp_path: Path):
    path, _ = saved(tmp_path / "m.onnx", *face_nodes(), [YAW, QUALITY])
    with pytest.raises(ModelError, match=r"expected SHA-256 0000.*control.attribute_sha256"):
        OnnxAttributes(path, "0" * 64)


def test_a_model_without_an_output_or_one_that_cannot_be_run_is_one_line(tmp_path: Path):
    nodes, weights = face_nodes()
    model = onnx.load(saved(tmp_path / "m.onnx", nodes, weights)[0])
    del model.graph.output[:]
    refused(model, tmp_path, r"m\.onnx: (onnxruntime cannot (load|run) it|must take pictures)")
    weights["ends"] = np.array([7, 9], np.int64)
    model = onnx.load(saved(tmp_path / "m.onnx", nodes, weights)[0])
    refused(model, tmp_path, r"m\.onnx: onnxruntime cannot (load|run) it \(.*\); give")


@pytest.mark.parametrize("side", [0, -1, 2**31, 2**62])
def test_a_model_of_pictures_that_nobody_has_is_refused_before_one_is_made(tmp_path: Path, side: int):
    model = onnx.load(saved(tmp_path / "m.onnx", *face_nodes())[0])
    for size in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        size.dim_value = side
    refused(model, tmp_path, r"m\.onnx: (onnxruntime cannot (load|run) it|must take)")


def test_a_graph_in_a_circle_is_refused(tmp_path: Path):
    nodes, weights = face_nodes()
    nodes[5].input[1] = "gated"
    refused(onnx.load(saved(tmp_path / "m.onnx", nodes, weights)[0]), tmp_path, r"m\.onnx: onnxruntime cannot load")


def refused(model: Any, folder: Path, why: str) -> None:
    onnx.save(model, folder / "m.onnx")
    with pytest.raises(ModelError, match=why) as error:
        ArcFaceRecognizer(str(folder / "m.onnx"), hashlib.sha256((folder / "m.onnx").read_bytes()).hexdigest())
    assert "\n" not in str(error.value)
