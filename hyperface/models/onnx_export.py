"""A trained recogniser as an ONNX file that InsightFace's tools, and this product, take by path."""

import hashlib
import logging
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hyperface.errors import ModelError
from hyperface.models.arcface import ArcFaceRecognizer
from hyperface.models.trained import TrainedRecognizer, load_trained, onnx_file
from hyperface.progress.logs import Line, say
from hyperface.run import Run

TOLERANCE = 1e-4
"""Largest difference of a coordinate of a unit embedding between the network and its file."""


def export_trained(run: Run) -> str:
    """Write recognition/NAME/backbone.onnx, checked against the network it came from; its SHA-256.

    Raises:
        RunError: the training `train.name` is not finished.
        ModelError: the file does not give the network's embeddings.
    """
    name = run.config.train.name
    student = load_trained(run.store, name, "cpu")
    data = to_onnx(student.network, student.image_size)
    sha256 = hashlib.sha256(data).hexdigest()
    _check(data, sha256, student)
    run.store.put(onnx_file(name), data)
    say(Line("evaluate", f"{run.store.uri(onnx_file(name))} SHA-256 {sha256}"))
    return sha256


def to_onnx(network: nn.Module, image_size: int) -> bytes:
    """The file: `input` float32 [batch, 3, S, S] as `to_signal` makes it -> `embedding` float32 [batch, D]."""
    example = torch.zeros(2, 3, image_size, image_size)
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)  # torchvision is not needed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network.eval(),
                (example,),
                input_names=["input"],
                output_names=["embedding"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                verbose=False,
            )
    finally:
        log.setLevel(level)
    assert program is not None
    data: bytes = program.model_proto.SerializeToString()
    return data


def _check(data: bytes, sha256: str, student: TrainedRecognizer) -> None:
    """Raise ModelError unless the file gives the embeddings of the network, one at a time and several at once."""
    size = student.image_size
    images = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8)
    with tempfile.TemporaryDirectory(prefix="hyperface-") as folder:
        path = Path(folder, "backbone.onnx")
        path.write_bytes(data)
        read = ArcFaceRecognizer(str(path), sha256, section="evaluate")
        for part in (images, images[:1]):
            difference = float(np.abs(read.embed(part) - student.embed(part)).max())
            if not difference <= TOLERANCE:
                raise ModelError(f"the ONNX file differs from its network by {difference:.2g}; report this as a defect")
