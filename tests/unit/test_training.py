"""A training in one process on the small world: what it learns, where it goes on, what it refuses."""

import functools
import json
import math
import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from color_world import ColorRecognizer, color_run, make_dataset
from full_disk import FullDisk
from PIL import Image

from hyperface import config as configuration
from hyperface.dataset import Dataset, jpeg
from hyperface.distributed.place import Place
from hyperface.distributed.ranks import Alone
from hyperface.errors import ConfigError, ModelError, RunError, StorageError
from hyperface.models.trained import TrainedRecognizer, load_trained, summary_file, to_bytes, weights_file
from hyperface.progress.meter import Point
from hyperface.run import Run
from hyperface.storage import LocalStore
from hyperface.training import loop
from hyperface.training.folder import Folder
from hyperface.training.progress import Progress
from hyperface.training.recognizer import stage
from hyperface.training.recognizer.schedule import learning_rate
from hyperface.training.recognizer.trainer import RecognizerTraining
from hyperface.training.sources import open_images

OPTIONS = ("train.recipe=toy", "train.embedding_dim=8", "train.epochs=6", "train.batch_size=6", "train.streams=3")
STEPS = 5 * 6
ALONE = Place(0, 1, Alone(), torch.device("cpu"))


def dataset(folder: Path, *overrides: str, store: LocalStore | None = None) -> Run:
    """Six identities of five images."""
    run = color_run(folder, *OPTIONS, *overrides, store=store)
    if not run.store.exists("dataset/index.json"):
        shutil.copytree(Path(whole().name, "dataset"), folder / "dataset")
    return run


@functools.cache
def whole() -> tempfile.TemporaryDirectory[str]:
    """A run with its dataset, made once: no training changes it."""
    folder = tempfile.TemporaryDirectory(prefix="trained-on-")
    make_dataset(color_run(folder.name))
    return folder


def train(run: Run) -> Run:
    if not Folder(run, "train").is_done():
        stage.begin(run)
        stage.train_rank(run, ALONE)
    return run


def steps_of(run: Run, name: str = "student") -> list[dict[str, float]]:
    return [json.loads(line) for line in run.store.read(f"recognition/{name}/steps.jsonl").splitlines()]


@functools.cache
def trained(folder: Path) -> Run:
    return train(dataset(folder / "run"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained")


def test_a_trained_network_tells_identities_of_its_dataset_apart(folder: Path):
    run = trained(folder)
    student = load_trained(run.store, "student")
    shards = list(Dataset.of(run))
    identities = np.concatenate([shard.identities for shard in shards])
    rows = student.embed(np.stack([jpeg.decode(data) for shard in shards for data in shard.jpegs]))
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    cosines, same = rows @ rows.T, identities[:, None] == identities
    assert cosines[same].mean() > cosines[~same].mean() + 0.5


def test_every_recorded_step_is_shown_with_its_loss_and_rate(tmp_path: Path):
    run, points = dataset(tmp_path / "run", "train.epochs=1", "train.warmup_epochs=0"), list[Point]()
    stage.begin(run)
    stage.train_rank(run, ALONE, watch=points.append)
    assert [(point.done, point.total) for point in points] == [(step, 5) for step in range(1, 6)]
    assert [point.values["loss"] for point in points] == [row["loss"] for row in steps_of(run)]
    assert all(point.values["images_per_second"] > 0 for point in points)


def test_a_line_tells_the_loss_also_when_nobody_has_looked_at_it_yet(tmp_path: Path):
    run, said = dataset(tmp_path / "run", "train.epochs=40"), list[str]()
    made = RecognizerTraining(run.config.train, open_images(run, run.config.train.data), ALONE, 16)
    progress = Progress(made, said.append)
    progress._every, progress.meter._every_s = 100, 0.0  # steps between looks, as in a long training; a line each
    progress.add(next(loop.steps_left(made)))
    assert re.match(r"train: 1/200 steps, epoch 0\.2/40, loss \d", said[0])


def test_the_summary_holds_recipe_data_and_what_was_done(folder: Path):
    run = trained(folder)
    summary = run.get_json(summary_file("student"))
    assert summary["train"] == json.loads(json.dumps(configuration.without_knobs(run.config.train)))
    assert (summary["steps"], summary["images_seen"]) == (STEPS, STEPS * 6)
    assert summary["data"]["classes"] == 6
    assert len(summary["data"]["fingerprint"]) == 64
    rows = steps_of(run)
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert rows[-1]["loss"] == summary["loss"] < rows[0]["loss"]
    assert summary["trained_on"] == str(run)
    assert not run.store.list(Folder(run, "train").checkpoints.root)


@pytest.mark.parametrize(
    ("refused", "every"),
    [("step-000000005/marker.json", 3), ("step-000000010/marker.json", 1), ("summary.json", 3)],
)
def test_a_training_that_was_stopped_ends_with_the_same_bytes(folder: Path, tmp_path: Path, refused: str, every: int):
    options = (f"train.checkpoint_every={every}",)
    stopped = dataset(tmp_path, *options, store=FullDisk(str(tmp_path), refused=refused))
    with pytest.raises(StorageError, match="No space left"):
        train(stopped)
    assert not Folder(stopped, "train").is_done()
    run = train(dataset(tmp_path, *options))
    assert run.store.read(weights_file("student")) == trained(folder).store.read(weights_file("student"))
    assert steps_of(run) == steps_of(trained(folder))


def test_adaface_and_sampled_classes_go_on_with_the_same_bytes_too(tmp_path: Path):
    options = ("train.head=adaface", "train.sample_rate=0.5", "train.erasing=0.5", "train.crop=0.5", "train.epochs=3")
    whole = train(dataset(tmp_path / "whole", *options))
    stopped = FullDisk(str(tmp_path / "cut"), refused="step-000000010/marker.json")
    with pytest.raises(StorageError):
        train(dataset(tmp_path / "cut", *options, store=stopped))
    cut = train(dataset(tmp_path / "cut", *options))
    assert cut.store.read(weights_file("student")) == whole.store.read(weights_file("student"))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_learns_too(tmp_path: Path, precision: str, capsys: pytest.CaptureFixture[str]):
    rows = steps_of(train(dataset(tmp_path, f"train.precision={precision}")))
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
    assert [len(steps_of(run, name)) for name in ("student", "other")] == [STEPS, 5]


def with_train(run: Run, **changes: object) -> Run:
    return replace(run, config=replace(run.config, train=replace(run.config.train, **changes)))  # type: ignore[arg-type]


def test_a_training_begun_with_something_else_is_refused_by_key(folder: Path, tmp_path: Path):
    stopped = dataset(tmp_path, store=FullDisk(str(tmp_path), refused="step-000000010/marker.json"))
    with pytest.raises(StorageError):
        train(stopped)
    for run in (dataset(tmp_path), trained(folder)):  # one that has a checkpoint, and one that is finished
        with pytest.raises(ConfigError, match=r"choose another train.name\):\n  train.margin: 0.3 -> 0.2$"):
            stage.begin(with_train(run, margin=0.2, num_workers=2))


def test_a_training_without_a_checkpoint_binds_nobody(tmp_path: Path):
    run = dataset(tmp_path)
    with pytest.raises(RunError, match="must not exceed"):
        stage.begin(with_train(run, batch_size=60))
    stage.begin(run)
    other = with_train(run, margin=0.2, epochs=1)
    stage.begin(other)
    assert other.get_json(Folder(other, "train").training)["train"]["margin"] == 0.2


def test_data_that_changed_since_the_training_was_begun_is_noticed(tmp_path: Path):
    run = dataset(tmp_path)
    stage.begin(run)
    recorded = run.get_json(Folder(run, "train").training)
    run.put_json(Folder(run, "train").training, {**recorded, "data": {**recorded["data"], "fingerprint": "0" * 64}})
    with pytest.raises(RunError, match="is not of these images any more"):
        stage.train_rank(run, ALONE)


def test_of_two_drivers_of_one_training_the_first_one_s_result_is_kept(tmp_path: Path):
    run = dataset(tmp_path, "train.epochs=1")
    stage.begin(run)
    both = [RecognizerTraining(run.config.train, open_images(run, run.config.train.data), ALONE, 16) for _ in range(2)]
    for made, seed in zip(both, (1, 2), strict=True):
        progress = Progress(made, lambda line: None)
        for stepped in loop.steps_left(made):
            progress.add(stepped)
        made.network.fc.bias.data += seed  # what another device would have made
        Folder(run, "train").finish(made, progress)
    assert load_trained(run.store, "student").network.fc.bias.allclose(both[0].network.fc.bias)


def test_a_checkpoint_is_never_of_a_loss_that_is_no_number(tmp_path: Path):
    run = dataset(tmp_path, "train.epochs=40")
    stage.begin(run)
    made = RecognizerTraining(run.config.train, open_images(run, run.config.train.data), ALONE, 16)
    progress, steps = Progress(made, lambda line: None), loop.steps_left(made)
    progress.add(next(steps))
    loop.save(Folder(run, "train").checkpoints, made, progress)
    progress._every = 100  # steps between looks, as in a long training
    progress.add(replace(next(steps), loss=torch.tensor(float("nan"))))
    with pytest.raises(RunError, match="no number any more"):
        loop.save(Folder(run, "train").checkpoints, made, progress)
    assert Folder(run, "train").checkpoints.newest() == 1


def test_weight_decay_is_for_convolutions_and_the_last_layer_only(tmp_path: Path):
    run = dataset(tmp_path)
    made = RecognizerTraining(run.config.train, open_images(run, run.config.train.data), ALONE, 16)
    decayed, kept = made.optimizer.param_groups
    assert (decayed["weight_decay"], kept["weight_decay"]) == (run.config.train.weight_decay, 0.0)
    names = {id(parameter): name for name, parameter in made.network.named_parameters()}
    decayed_names = {names[id(parameter)] for parameter in decayed["params"]}
    norms = {name for name, module in made.network.named_modules() if "Norm" in type(module).__name__}
    assert "fc.weight" in decayed_names
    assert not {name.rpartition(".")[0] for name in decayed_names} & norms
    assert not [name for name in decayed_names if "prelu" in name.lower() or name.endswith("bias")]


def test_a_batch_larger_than_the_dataset_is_refused(tmp_path: Path):
    with pytest.raises(RunError, match=r"train.batch_size: must not exceed the images of the dataset, \d+; it is 60"):
        train(dataset(tmp_path, "train.batch_size=60"))


def test_a_loss_that_is_no_number_stops_the_training_with_advice(tmp_path: Path):
    with pytest.raises(RunError, match=r"no number any more before step \d+; lower train.learning_rate"):
        train(dataset(tmp_path, "train.learning_rate=1e12", "train.clip_norm=0", "train.warmup_epochs=0"))


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


def test_a_file_that_describes_more_than_it_holds_takes_no_memory():
    described = {"backbone": "small", "image_size": 64, "embedding_dim": 10**14}
    data = to_bytes(torch.nn.Linear(1, 1), described)
    with pytest.raises(ModelError, match=r"w\.safetensors: is not a backbone of this product \(Error.* in loading"):
        TrainedRecognizer(data, "w.safetensors")
