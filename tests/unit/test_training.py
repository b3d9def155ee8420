"""A training in one process on the small world: what it learns, where it goes on, what it refuses."""

import functools
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from color_world import ColorRecognizer, color_run, make_dataset
from PIL import Image

from hyperface import config as configuration
from hyperface.config import ConfigError
from hyperface.dataset import jpeg, read_shards
from hyperface.models.protocols import ModelError
from hyperface.models.trained import TrainedRecognizer, load_trained, summary_file, weights_file
from hyperface.ranks import Alone
from hyperface.recognition import checkpoint, stage
from hyperface.recognition.schedule import learning_rate
from hyperface.recognition.trainer import Place
from hyperface.run import Run, RunError
from hyperface.storage import LocalStore, StorageError

OPTIONS = ("train.recipe=toy", "train.embedding_dim=8", "train.epochs=6", "train.batch_size=6", "train.streams=3")
STEPS = 5 * 6
ALONE = Place(0, 1, Alone(), torch.device("cpu"))


def dataset(folder: Path, *overrides: str, store: LocalStore | None = None) -> Run:
    """Six identities of five images."""
    run = color_run(folder, *OPTIONS, *overrides, store=store)
    if not run.store.exists("dataset/index.json"):
        make_dataset(run)
    return run


def train(run: Run) -> Run:
    if not stage.is_done(run):
        stage.begin(run)
        stage.train_rank(run, ALONE)
    return run


@functools.cache
def trained(folder: Path) -> Run:
    return train(dataset(folder / "run"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained")


@dataclass(frozen=True)
class Failing(LocalStore):
    """A disk that is full when one name is written."""

    refused: str = ""

    def put(self, name: str, data: bytes) -> None:
        if name.endswith(self.refused):
            raise StorageError(f"{self.uri(name)}: cannot be written: No space left on device")
        super().put(name, data)


def test_a_trained_network_tells_identities_of_its_dataset_apart(folder: Path):
    run = trained(folder)
    student = load_trained(run.store, "student")
    shards = list(read_shards(run))
    identities = np.concatenate([shard.identities for shard in shards])
    rows = student.embed(np.stack([jpeg.decode(data) for shard in shards for data in shard.jpegs]))
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    cosines, same = rows @ rows.T, identities[:, None] == identities
    assert cosines[same].mean() > cosines[~same].mean() + 0.5


def test_the_summary_holds_recipe_data_and_what_was_done(folder: Path):
    run = trained(folder)
    summary = run.get_json(summary_file("student"))
    assert summary["train"] == json.loads(json.dumps(configuration.without_knobs(run.config.train)))
    assert (summary["steps"], summary["images_seen"]) == (STEPS, STEPS * 6)
    assert summary["data"]["classes"] == 6
    assert len(summary["data"]["fingerprint"]) == 64
    rows = run.records("recognition")
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert rows[-1]["loss"] == summary["loss"] < rows[0]["loss"]
    assert not run.store.list(checkpoint.of(run).root)


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("refused", ["step-000000005/marker.json", "step-000000010/marker.json", "summary.json"])
def test_a_training_that_was_stopped_ends_with_the_same_bytes(folder: Path, tmp_path: Path, refused: str, every: int):
    options = (f"train.checkpoint_every={every}",)
    stopped = dataset(tmp_path, *options, store=Failing(str(tmp_path), refused=refused))
    with pytest.raises(StorageError, match="No space left"):
        train(stopped)
    assert not stage.is_done(stopped)
    run = train(dataset(tmp_path, *options))
    assert run.store.read(weights_file("student")) == trained(folder).store.read(weights_file("student"))
    assert run.records("recognition") == trained(folder).records("recognition")


def test_adaface_and_sampled_classes_go_on_with_the_same_bytes_too(tmp_path: Path):
    options = ("train.head=adaface", "train.sample_rate=0.5", "train.erasing=0.5", "train.crop=0.5")
    whole = train(dataset(tmp_path / "whole", *options))
    stopped = Failing(str(tmp_path / "cut"), refused="step-000000010/marker.json")
    with pytest.raises(StorageError):
        train(dataset(tmp_path / "cut", *options, store=stopped))
    cut = train(dataset(tmp_path / "cut", *options))
    assert cut.store.read(weights_file("student")) == whole.store.read(weights_file("student"))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_learns_too(tmp_path: Path, precision: str, capsys: pytest.CaptureFixture[str]):
    rows = train(dataset(tmp_path, f"train.precision={precision}")).records("recognition")
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"]
    assert "train.precision=float32 is faster" in capsys.readouterr().out


def test_another_seed_gives_another_network(folder: Path, tmp_path: Path):
    other = train(dataset(tmp_path, "train.seed=1"))
    assert other.store.read(weights_file("student")) != trained(folder).store.read(weights_file("student"))


def test_several_trainings_of_one_run_have_names_of_their_own(folder: Path):
    run = trained(folder)
    other = replace(run, config=replace(run.config, train=replace(run.config.train, name="other", epochs=1)))
    train(other)
    assert load_trained(run.store, "other").fingerprint != load_trained(run.store, "student").fingerprint
    assert {row["name"] for row in run.records("recognition")} == {"student", "other"}


def test_a_training_begun_with_something_else_is_refused_by_key(tmp_path: Path):
    run = dataset(tmp_path)
    stage.begin(run)
    other = replace(run, config=replace(run.config, train=replace(run.config.train, margin=0.2, num_workers=2)))
    with pytest.raises(ConfigError, match=r"choose another train.name\):\n  train.margin: 0.3 -> 0.2$"):
        stage.begin(other)


def test_a_batch_larger_than_the_dataset_is_refused(tmp_path: Path):
    with pytest.raises(RunError, match=r"train.batch_size: must not exceed the images of the dataset, \d+; it is 60"):
        train(dataset(tmp_path, "train.batch_size=60"))


def test_a_loss_that_is_no_number_stops_the_training_with_advice(tmp_path: Path):
    with pytest.raises(RunError, match=r"the loss is nan before step \d+; lower train.learning_rate"):
        train(dataset(tmp_path, "train.learning_rate=1e30", "train.clip_norm=0", "train.warmup_epochs=0"))


def test_images_whose_size_no_network_takes_are_refused(folder: Path, tmp_path: Path):
    for person in "ab":
        (tmp_path / person).mkdir()
        Image.new("RGB", (20, 20)).save(tmp_path / person / "1.png")
    run = trained(folder)
    other = replace(run, config=replace(run.config, train=replace(run.config.train, data=str(tmp_path), name="sizes")))
    with pytest.raises(
        RunError, match=r"1.png: images must be square, with a multiple of 16 pixels a side; it has 20x20"
    ):
        stage.begin(other)


def test_a_damaged_or_unfinished_training_is_not_loaded(folder: Path, tmp_path: Path):
    run = trained(folder)
    with pytest.raises(RunError, match=r"the training is not finished; run jobs.train first, or correct train.name"):
        load_trained(run.store, "nobody")
    for name in (summary_file("student"), weights_file("student")):
        LocalStore(str(tmp_path)).put(name, run.store.read(name))
    damaged = bytearray(run.store.read(weights_file("student")))
    damaged[-1] ^= 1
    LocalStore(str(tmp_path)).put(weights_file("student"), bytes(damaged))
    with pytest.raises(ModelError, match="is not a backbone of this product"):
        TrainedRecognizer(b"nothing", "some file")
    with pytest.raises(ModelError, match="must have the SHA-256 of its summary"):
        load_trained(LocalStore(str(tmp_path)), "student")


def test_a_trained_network_refuses_images_of_another_size(folder: Path):
    student = load_trained(trained(folder).store, "student")
    with pytest.raises(ValueError, match=r"expected uint8 \[B, 16, 16, 3\]"):
        student.embed(np.zeros((1, 32, 32, 3), np.uint8))
    assert ColorRecognizer().image_size == student.image_size


def test_the_rate_warms_up_and_falls_at_its_milestones_or_along_a_cosine():
    config = configuration.load(None, ["run.dir=x", "train.warmup_epochs=2"]).train
    rates = [learning_rate(config, step, 10) for step in range(260)]
    assert rates[0] == pytest.approx(0.1 / 20)
    assert rates[19] == rates[119] == pytest.approx(0.1)
    assert [rates[step] for step in (120, 200, 240)] == pytest.approx([0.01, 0.001, 0.0001])
    cosine = replace(config, schedule="cosine")
    assert learning_rate(cosine, 130, 10) == pytest.approx(0.05)
    assert learning_rate(cosine, 259, 10) == pytest.approx(0.05 * (1 + math.cos(math.pi * 25.9 / 26)))
