"""Steering on a GPU: a Vec2Face there, the toy world's readers on the CPU."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hyperface.config import ControlConfig
from hyperface.models.protocols import Models
from hyperface.models.toy.attributes import load_attributes
from hyperface.models.toy.recognizer import EMBEDDING_DIM, load_recognizer
from hyperface.models.toy.renderer import IMAGE_SIZE
from hyperface.models.vec2face import Made, Vec2FaceGenerator, to_bytes
from hyperface.models.vec2face_network import Vec2FaceNetwork, sized
from hyperface.synthesis import steering
from tests.unit import tiny_vec2face as tiny

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def generator(folder: Path, device: str) -> Vec2FaceGenerator:
    torch.manual_seed(0)
    network = Vec2FaceNetwork(sized("small", EMBEDDING_DIM, IMAGE_SIZE))
    path = folder / "generator.safetensors"
    path.write_bytes(to_bytes(network, Made("small", EMBEDDING_DIM, IMAGE_SIZE, 8.0)))
    return Vec2FaceGenerator(tiny.named(path, "small", precision="float32"), device=device)


def test_the_toy_readers_steer_what_is_drawn_on_a_gpu_as_what_is_drawn_on_a_cpu(tmp_path: Path) -> None:
    reader = load_attributes()
    control = steering.chosen(ControlConfig(targets={"sharpness": [40.0]}, steps=3), reader.ranges)
    assert control is not None
    rows = np.random.default_rng(0).standard_normal((4, EMBEDDING_DIM)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    moved = {}
    for device in ("cpu", "cuda"):
        models = Models(generator(tmp_path, device), load_recognizer(), attributes=reader)
        steering.check_fit(models, IMAGE_SIZE)
        moved[device], steps = control.steered(models, rows, [1, 2, 3, 4], rows, np.full((4, 1), 40.0))
        assert steps == [3, 3, 3, 3]
    assert np.abs(moved["cuda"] - rows).max() > 0.01
    assert (moved["cuda"] * moved["cpu"]).sum(1).min() > 0.99
