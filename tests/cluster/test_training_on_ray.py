"""Stage train on Ray Train workers: several of them, more or fewer than before, and one that is killed."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from color_world import color_run, make_dataset
from full_disk import FullDisk
from waiting import said, wait_for

from cluster.training import train_stage
from hyperface.dataset import Dataset, jpeg
from hyperface.errors import StorageError
from hyperface.models.trained import load_trained, summary_file
from hyperface.run import Run
from hyperface.storage import LocalStore
from hyperface.training import loop
from hyperface.training.folder import Folder

OPTIONS = ("train.recipe=toy", "train.embedding_dim=8", "train.batch_size=12", "train.streams=3", "train.margin=0.1")
SECONDS = 600


def dataset(folder: Path, *overrides: str, store: LocalStore | None = None) -> Run:
    """Six identities of five images."""
    run = color_run(folder, *OPTIONS, *overrides, store=store)
    if not run.store.exists("dataset/index.json"):
        make_dataset(run)
    return run


def margin(run: Run) -> float:
    """Mean cosine of two images of one identity, minus that of two identities."""
    shards = list(Dataset.of(run))
    identities = np.concatenate([shard.identities for shard in shards])
    images = np.stack([jpeg.decode(data) for shard in shards for data in shard.jpegs])
    rows = load_trained(run.store, "student").embed(images)
    same = identities[:, None] == identities
    return float((rows @ rows.T)[same].mean() - (rows @ rows.T)[~same].mean())


def test_three_workers_go_on_from_the_checkpoint_of_one_and_finish(ray_cluster: str, tmp_path: Path):
    options = ("train.epochs=40", "train.sample_rate=0.5")
    with pytest.raises(StorageError, match="No space left"):
        train_stage(dataset(tmp_path, *options, store=FullDisk(str(tmp_path), refused="step-000000020/marker.json")))
    run = dataset(tmp_path, *options, "train.num_workers=3")
    checkpoints = Folder(run, "train").checkpoints
    before = checkpoints.marker(checkpoints.newest(), loop.Marker)["progress"]["history"]
    train_stage(run)
    summary = run.get_json(summary_file("student"))
    rows = [json.loads(line) for line in run.store.read("recognition/student/steps.jsonl").splitlines()]
    assert (summary["workers"], summary["steps"]) == (3, 80)
    assert [row["step"] for row in rows] == list(range(1, 81))
    assert [row["loss"] for row in rows[:18]] == [row["loss"] for row in before]
    assert margin(run) > 0.2


def test_a_group_whose_worker_is_killed_goes_on_from_its_checkpoint(ray_cluster: str, tmp_path: Path, capfd):
    run = dataset(tmp_path, "train.epochs=100", "train.num_workers=2", "train.checkpoint_every=20")
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(train_stage, run)
        wait_for(lambda: Folder(run, "train").checkpoints.newest() > 0 or training.done(), SECONDS)
        workers = [each for each in psutil.Process().children(recursive=True) if "RayTrainWorker" in each.name()]
        max(workers, key=lambda worker: worker.create_time()).kill()
        assert not run.store.exists(summary_file("student"))
        training.result(timeout=SECONDS)
    assert run.get_json(summary_file("student"))["steps"] == 200
    first, second = said(capfd, r"train: 30 images of 6 identities, .* from step (\d+),", 2)
    assert int(first) == 0 < int(second)
    assert margin(run) > 0.2


def test_a_finished_training_is_not_done_again(ray_cluster: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = dataset(tmp_path, "train.epochs=1")
    train_stage(run)
    seen = (tmp_path / summary_file("student")).stat()
    train_stage(replace(run, config=replace(run.config, train=replace(run.config.train, num_workers=2))))
    assert (tmp_path / summary_file("student")).stat() == seen
    assert "train: done" in capsys.readouterr().out
