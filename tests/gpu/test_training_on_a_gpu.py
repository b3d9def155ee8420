"""Training on a GPU: a step is that of the CPU, and a network in bfloat16 learns. Run by `pytest tests/gpu`."""

import json
from pathlib import Path

import pytest
import torch
from color_world import color_run, make_dataset

from hyperface.distributed.place import Place
from hyperface.distributed.ranks import Alone
from hyperface.models.onnx_export import export_trained
from hyperface.run import Run
from hyperface.training import loop
from hyperface.training.recognizer import stage
from hyperface.training.recognizer.trainer import RecognizerTraining
from hyperface.training.sources import open_images

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
OPTIONS = ("train.recipe=toy", "train.embedding_dim=8", "train.batch_size=6", "train.streams=3", "train.epochs=30")


def dataset(folder: Path, *overrides: str) -> Run:
    run = color_run(folder, *OPTIONS, *overrides)
    make_dataset(run)
    return run


@pytest.mark.parametrize("head", ["arcface", "cosface", "adaface"])
def test_a_step_gives_the_loss_of_the_cpu(tmp_path: Path, head: str):
    run = dataset(tmp_path, f"train.head={head}")
    losses = []
    for device in ("cpu", "cuda"):
        images = open_images(run, run.config.train.data)
        training = RecognizerTraining(run.config.train, images, Place(0, 1, Alone(), torch.device(device)), 16)
        losses.append(float(next(loop.steps_left(training)).loss))
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_learns_and_leaves_a_finite_network(tmp_path: Path, precision: str):
    run = dataset(tmp_path, f"train.precision={precision}")
    stage.begin(run)
    stage.train_rank(run, Place(0, 1, Alone(), torch.device("cuda")))
    rows = [json.loads(line) for line in run.store.read("recognition/student/steps.jsonl").splitlines()]
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]


def test_a_network_trained_on_a_gpu_is_exported(tmp_path: Path):
    run = dataset(tmp_path, "train.epochs=1")
    stage.begin(run)
    stage.train_rank(run, Place(0, 1, Alone(), torch.device("cuda")))
    assert len(export_trained(run)) == 64
