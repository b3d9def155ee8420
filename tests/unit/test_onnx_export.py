"""A trained network as an ONNX file: InsightFace's own class and ours read it, and see what the network sees."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from insightface.model_zoo.arcface_onnx import ArcFaceONNX
from numpy.typing import NDArray

from hyperface import config as configuration
from hyperface.errors import ConfigError
from hyperface.models import iresnet
from hyperface.models.iresnet import Backbone
from hyperface.models.trained import load_trained, onnx_file, summary_file, to_bytes, weights_file
from hyperface.run import Run, open_run
from hyperface.run.names import VERIFICATION
from hyperface.run.records import to_json
from jobs.evaluate import main


def trained(folder: Path, backbone: Backbone, size: int, se: bool = False) -> Run:
    """A run with a finished training whose network has random weights and statistics."""
    torch.manual_seed(1)
    network = iresnet.build(backbone, size, 32, se=se)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.momentum = 1.0  # statistics are the batch's, as after a training: rounding does not grow
    network(torch.randn(4, 3, size, size))
    data = to_bytes(network, {"backbone": backbone, "image_size": size, "embedding_dim": 32, "se": se})
    run = open_run(configuration.load(None, [f"run.dir={folder}/run"]))
    run.store.put(weights_file("student"), data)
    told = {"trained_on": str(run), "data": {"fingerprint": "0"}, "steps": 1, "loss": 1.0}
    run.store.put(summary_file("student"), to_json({"sha256": sha256(data).hexdigest(), **told}))
    return run


def faces(count: int, size: int) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (count, size, size, 3), np.uint8)


@pytest.fixture(params=[("small", 32, False), ("iresnet18", 48, True)], ids=["small", "iresnet18"])
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Run:
    monkeypatch.setitem(iresnet.LAYERS, "iresnet18", (1, 1, 1, 1))  # the other blocks are the same again
    return trained(tmp_path, *request.param)


def test_the_job_names_a_file_with_its_hash_in_which_insightface_sees_what_the_network_sees(
    run: Run, capsys: pytest.CaptureFixture[str]
):
    main(run.config, "onnx")
    said = capsys.readouterr().out
    path = Path(run.store.uri(onnx_file("student")))
    assert f"SHA-256 {sha256(path.read_bytes()).hexdigest()}" in said
    assert "nothing was verified: evaluate.benchmarks: is empty" in said
    assert not run.store.list(VERIFICATION)
    with pytest.raises(ConfigError, match="name a set"):
        main(run.config)
    student = load_trained(run.store, "student")
    theirs, size = ArcFaceONNX(str(path)), student.image_size
    assert (theirs.input_mean, theirs.input_std, theirs.input_size) == (127.5, 127.5, (size, size))
    images = faces(3, size)
    rows = theirs.get_feat([image[:, :, ::-1] for image in images])  # it takes BGR, as OpenCV reads
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(rows, student.embed(images), atol=1e-4)
