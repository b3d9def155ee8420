"""One piece of the experiment from end to end: a dataset of two parts, which one student trains on."""

import hashlib
from pathlib import Path

import pytest
import torch

from hyperface import config as configuration
from hyperface.dataset.source import open_source
from hyperface.experiment import comparison as experiment
from hyperface.experiment.comparison import Piece
from hyperface.experiment.trial import make_piece
from hyperface.models.vec2face import Made, to_bytes
from hyperface.models.vec2face_network import Vec2FaceNetwork, sized
from hyperface.run import existing_run, open_run
from hyperface.verification import toy_sets

SMALL = ("packing.num_identities=5", "synthesis.images_per_identity=2", "embed.num_faces=130", "experiment.seeds=1")
SMALL += ("packing.start_cosine=0.8", "packing.steps=2", "train.epochs=1", "train.batch_size=4", "train.streams=2")
SMALL += ("train.embedding_dim=8", "experiment.folds=1")


def test_a_student_of_a_mixture_sees_the_identities_of_both_generators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy_sets, "IDENTITIES", 6)  # of the sets that it is verified on: every picture is drawn
    monkeypatch.setattr(toy_sets, "PAIRS", 20)
    torch.manual_seed(0)
    weights = to_bytes(Vec2FaceNetwork(sized("small", 128, 64)), Made("small", 128, 64, norm=60.0))
    (tmp_path / "generator.safetensors").write_bytes(weights)
    keys = (f"vec2face.path={tmp_path}/generator.safetensors", f"vec2face.sha256={hashlib.sha256(weights).hexdigest()}")
    experiment_file = "jobs/configs/toy_vec2face_experiment.yaml"
    run = open_run(configuration.load(experiment_file, [f"run.dir={tmp_path}/run", *SMALL, *keys]))
    mixture = next(arm for arm in experiment.arms(run.config) if arm.name == "biased-mixture")
    piece = Piece(mixture, 0)
    result = make_piece(run, piece)
    parts = [open_source(existing_run(run.store.uri(f"{piece.folder}/part-{number}"))) for number in range(2)]
    assert [part.classes.identities_C.tolist() for part in parts] == [[0, 1, 2], [3, 4]]
    assert [part.run.config.synthesis.generator for part in parts] == ["toy_render", "vec2face"]
    assert [part.run.config.packing.start for part in parts] == ["gallery", "pca"]
    trained_on = run.get_json(piece.result)["training"]["data"]
    assert (trained_on["classes"], trained_on["images"]) == (5, 10)
    assert 0.4 < result["accuracy"]["mean"] <= 1
    assert {found["pairs"] for found in run.get_json(piece.result)["verified"].values()} == {40}, "of one fold"
    assert result["identity"]["equal_error_rate"] is not None
