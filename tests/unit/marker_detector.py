"""A face detector of a few nodes with SCRFD's outputs: bright red cells of 8 x 8 pixels are faces, green is their size.

Each red cell is a face whose landmarks lie around the cell's corner as ArcFace's lie in a crop, 1/4 as large.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hyperface.models.alignment import ARCFACE_112

SIZE = 64
AROUND_L2 = (ARCFACE_112 - 56) / 4
"""Landmarks of a face, in pixels from its cell's corner."""


def make(
    path: Path, landmarks: bool = True, size: int | str = SIZE, batch: Any = 1, sight: float = 1.0
) -> tuple[str, str]:
    """Write the model, which sees faces less with less sight; (path, SHA-256)."""
    nodes, outputs = [], []
    shapes = {"column": [-1, 1], "both": [1, 2], "axis": [1], "next": [2]}
    for stride in (8, 16, 32):
        s = str(stride)
        nodes += [
            helper.make_node("AveragePool", ["picture"], ["p" + s], kernel_shape=[stride] * 2, strides=[stride] * 2),
            helper.make_node("Mul", ["p" + s, "half"], ["h" + s]),
            helper.make_node("Add", ["h" + s, "half"], ["b" + s]),  # 0 dark .. 1 bright
            helper.make_node("Slice", ["b" + s, "red", "axis", "axis"], ["r" + s]),
            helper.make_node("Slice", ["b" + s, "axis", "next", "axis"], ["g" + s]),
            helper.make_node("Reshape", ["r" + s, "column"], ["rc" + s]),
            helper.make_node("Reshape", ["g" + s, "column"], ["gc" + s]),
            # The first anchor of a cell sees faces at the first stride; all others see none.
            helper.make_node("Mul", ["rc" + s, "first" if stride == 8 else "neither"], ["score2" + s]),
            helper.make_node("Reshape", ["score2" + s, "column"], ["score" + s]),
            helper.make_node("Tile", ["gc" + s, "both"], ["gg" + s]),
            helper.make_node("Reshape", ["gg" + s, "column"], ["side" + s]),
            helper.make_node("Mul", ["side" + s, "four_wide"], ["box" + s]),
            helper.make_node("Mul", ["side" + s, "none"], ["zero" + s]),
            helper.make_node("Add", ["zero" + s, "points"], ["points" + s]),
        ]
        kinds = ("score", "box", "points") if landmarks else ("score", "box")
        outputs += [helper.make_tensor_value_info(kind + s, TensorProto.FLOAT, None) for kind in kinds]
    tensors = {
        "first": np.array([[sight, 0]], np.float32),
        "neither": np.zeros((1, 2), np.float32),
        "points": (AROUND_L2 / 8).reshape(1, 10).astype(np.float32),
        "four_wide": np.full((1, 4), 4, np.float32),
        "half": np.array([0.5], np.float32),
        "none": np.zeros(1, np.float32),
        "red": np.array([0]),
        **{name: np.array(value) for name, value in shapes.items()},
    }
    graph = helper.make_graph(
        nodes,
        "markers",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [batch, 3, size, size])],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return str(path), hashlib.sha256(path.read_bytes()).hexdigest()


def picture(*faces: tuple[int, int, int], size: int = SIZE) -> NDArray[np.uint8]:
    """A dark picture with a face for each (column of cells, row of cells, green level)."""
    drawn = np.zeros((size, size, 3), np.uint8)
    for column, row, green in faces:
        drawn[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = (255, green, 0)
    return drawn
