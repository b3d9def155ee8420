"""A very small experiment on Ray: every arm is made and verified, and what is there is not made again."""

from pathlib import Path

import pytest

from cluster.experiment import experiment_stage
from hyperface import config as configuration
from hyperface.config import Config
from hyperface.dataset.source import open_source
from hyperface.errors import ConfigError
from hyperface.experiment import comparison as experiment
from hyperface.run import existing_run, open_run
from hyperface.run.names import EXPERIMENT

SMALL = ("packing.num_identities=6", "synthesis.images_per_identity=4", "embed.num_faces=8", "packing.steps=4")
SMALL += ("train.epochs=2", "train.batch_size=8", "train.streams=2", "train.embedding_dim=16", "experiment.seeds=1")
SMALL += ("experiment.alphas=[0.5]", "experiment.steps=[4]", "experiment.objectives=[]", "experiment.num_actors=2")
SMALL += ("experiment.folds=1",)


def config(folder: Path, *overrides: str) -> Config:
    return configuration.load("jobs/configs/toy_experiment.yaml", [f"run.dir={folder}", *SMALL, *overrides])


def test_every_arm_gets_a_dataset_of_one_size_and_a_verified_student(
    ray_cluster: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    run = open_run(config(tmp_path))
    experiment_stage(run)
    summary, arms = run.get_json(EXPERIMENT), experiment.arms(run.config)
    assert [row["arm"] for row in summary["arms"]] == [arm.name for arm in arms]
    for row in summary["arms"]:
        assert set(row["accuracy"]) == {"easy", "pose", "light", "hard", "mean"}
        assert all(0.4 < spread["mean"] <= 1 for spread in row["accuracy"].values())
        assert 0 <= row["identity"]["equal_error_rate"]["mean"] <= 1
    for piece in experiment.pieces(run.config):
        result = run.get_json(piece.result)
        data = result["training"]["data"]
        assert (data["classes"], data["images"], data["image_size"]) == (6, 24, 64)
        if piece.arm.parts:
            made = open_source(existing_run(run.store.uri(piece.folder)))
            assert made.classes.num_images == 24
    capfd.readouterr()
    removed = experiment.pieces(run.config)[1]
    run.store.delete(removed.result)
    experiment_stage(run)
    said = capfd.readouterr().out
    assert f"{len(arms)} pieces, {len(arms) - 1} of them done" in said
    assert run.get_json(EXPERIMENT)["arms"] == summary["arms"], "the same seeds give the same numbers"
    with pytest.raises(ConfigError, match=r"train.margin: 0.3 -> 0.1"):
        experiment_stage(open_run(config(tmp_path, "train.margin=0.1")))


def test_photographs_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"needs the toy world.*jobs/configs/toy_experiment.yaml"):
        experiment_stage(open_run(config(tmp_path, f"embed.source={tmp_path}")))
