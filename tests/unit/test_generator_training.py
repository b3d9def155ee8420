"""A generator's training in one process on a few rendered faces: what it learns, where it goes on, what it refuses."""

import functools
import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from full_disk import FullDisk
from PIL import Image

from hyperface import config as configuration
from hyperface.distributed.place import Place
from hyperface.distributed.ranks import Alone, Group
from hyperface.errors import ConfigError, RunError, StorageError
from hyperface.models.teacher import Teacher, load_teacher
from hyperface.models.toy.faces import render_faces
from hyperface.models.toy.recognizer import load_recognizer
from hyperface.models.vec2face import Vec2FaceGenerator
from hyperface.models.vec2face_network import SIZES
from hyperface.run import Run, open_run
from hyperface.storage import LocalStore
from hyperface.training import loop
from hyperface.training.folder import Folder
from hyperface.training.generator import stage
from hyperface.training.generator.losses import balance
from hyperface.training.generator.trainer import TERMS, GeneratorTraining, learning_rate
from hyperface.training.sources import open_images
from tests.unit.threaded_ranks import ranks_of
from tests.unit.tiny_vec2face import named

IDENTITIES, EACH, STEPS = 4, 2, 6
OPTIONS = (
    "size=small", "batch_size=4", "streams=2", "epochs=3", "precision=float32", "checkpoint_every=2", "dropout=0.1",
    "learning_rate=0.001", "warmup_epochs=0.5", "flip=0.5",
)  # fmt: skip
ALONE = Place(0, 1, Alone(), torch.device("cpu"))


WHOLE = SIZES["small"]
THIN = replace(
    WHOLE, width=32, depth=1, heads=2, decoder_depth=1, decoder_heads=2, latent=16, channels=(16, 16, 16, 8, 8)
)
"""A network of a few thousand numbers: what is compared here byte by byte does not ask how large it is."""


@pytest.fixture(autouse=True, scope="module")
def _thin() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "small", THIN)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ImageFolder of rendered faces."""
    root = tmp_path_factory.mktemp("faces")
    faces = render_faces(IDENTITIES, EACH, seed=5)
    for number, (label, image) in enumerate(zip(faces.labels_B, faces.images_BHWC, strict=True)):
        (root / f"{label}").mkdir(exist_ok=True)
        Image.fromarray(image).save(root / f"{label}" / f"{number}.png")
    return root


def run_of(directory: Path, folder: Path, *overrides: str, store: LocalStore | None = None) -> Run:
    given = [f"train_generator.{option}" for option in (*OPTIONS, *overrides)]
    run = open_run(configuration.load(None, [f"run.dir={directory}", f"train_generator.data={folder}", *given]))
    return replace(run, store=store) if store else run


def train(run: Run) -> Run:
    stage.begin(run, ALONE)
    if not Folder(run, "train_generator").is_done():
        stage.train_rank(run, ALONE, lambda line: None)
    return run


def weights(run: Run) -> bytes:
    return run.store.read("generator/vec2face/generator.safetensors")


def steps_of(run: Run) -> list[dict[str, float]]:
    return [json.loads(line) for line in run.store.read("generator/vec2face/steps.jsonl").splitlines()]


@functools.cache
def trained(directory: Path, folder: Path) -> Run:
    return train(run_of(directory, folder))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Run:
    return trained(tmp_path_factory.mktemp("trained"), folder)


def test_the_weights_draw_faces_as_a_generator_and_know_their_features(done: Run):
    path = Path(str(done)) / "generator/vec2face/generator.safetensors"
    generator = Vec2FaceGenerator(named(path), device="cpu")
    summary = done.get_json("generator/vec2face/summary.json")
    assert summary["sha256"] == hashlib.sha256(weights(done)).hexdigest()
    assert generator.norm == summary["norm"]
    faces = render_faces(IDENTITIES, EACH, seed=5)
    norms = np.linalg.norm(load_recognizer().features(faces.images_BHWC), axis=1)
    assert abs(generator.norm - norms.mean()) < 0.01 * norms.mean()
    assert generator.generate(load_recognizer().embed(faces.images_BHWC), range(8)).shape == (8, 64, 64, 3)


def test_the_summary_holds_recipe_recogniser_data_and_every_term_of_the_loss(done: Run):
    summary, rows = done.get_json("generator/vec2face/summary.json"), steps_of(done)
    recipe = configuration.without_knobs(done.config.train_generator)
    assert summary["train_generator"] == json.loads(json.dumps(recipe))
    assert (summary["steps"], summary["data"]["images"], summary["data"]["classes"]) == (STEPS, 8, 4)
    assert summary["recognizer"]["fingerprint"] == load_recognizer().fingerprint
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert summary["terms"].keys() == set(TERMS)
    config = done.config.train_generator
    for row in rows:
        assert abs(row["loss"] - sum(getattr(config, term) * row[term] for term in TERMS)) < 1e-3
    assert not done.store.list(Folder(done, "train_generator").checkpoints.root)


def test_the_loss_falls(done: Run, folder: Path, tmp_path: Path):
    rows = steps_of(train(run_of(tmp_path, folder, "epochs=12", "flip=0", "dropout=0", "checkpoint_every=100")))
    for term in ("loss", "pixel", "identity"):
        assert rows[-1][term] < 0.85 * rows[0][term], term


@pytest.mark.parametrize(
    "refused", ["step-000000002/marker.json", "step-000000004/moments.safetensors", "summary.json"]
)
def test_a_training_that_was_stopped_ends_with_the_same_bytes(done: Run, folder: Path, tmp_path: Path, refused: str):
    with pytest.raises(StorageError, match="No space left"):
        train(run_of(tmp_path, folder, store=FullDisk(str(tmp_path), refused=refused)))
    run = run_of(tmp_path, folder)
    assert not Folder(run, "train_generator").is_done()
    assert weights(train(run)) == weights(done)
    assert steps_of(run) == steps_of(done)


def test_an_adversary_joins_late_and_goes_on_with_the_same_bytes(folder: Path, tmp_path: Path):
    options = ("adversarial=0.8", "adversarial_from=0.5")
    whole = train(run_of(tmp_path / "whole", folder, *options))
    said = [row["discriminator"] for row in steps_of(whole)]
    assert said[:3] == [0.0, 0.0, 0.0]
    assert all(0 < loss < 5 for loss in said[3:])
    stopped = FullDisk(str(tmp_path / "cut"), refused="step-000000006/marker.json")
    with pytest.raises(StorageError):
        train(run_of(tmp_path / "cut", folder, *options, store=stopped))
    assert weights(train(run_of(tmp_path / "cut", folder, *options))) == weights(whole)


def test_another_seed_gives_another_network(done: Run, folder: Path, tmp_path: Path):
    assert weights(train(run_of(tmp_path, folder, "seed=1"))) != weights(done)


def training_of(run: Run, place: Place) -> GeneratorTraining:
    images = open_images(run, run.config.train_generator.data)
    made = GeneratorTraining(
        run.config.train_generator, images, place, 64, load_teacher(run.config, run.store, place.device)
    )
    made.norm = 10.0
    return made


def test_two_ranks_see_the_images_masks_and_losses_that_one_sees(folder: Path, tmp_path: Path):
    run = run_of(tmp_path, folder, "dropout=0", "epochs=1")
    alone = training_of(run, ALONE)
    [wanted] = [next(iter(loop.steps_left(alone)))]

    # Made one after the other: the weights come from a generator that threads share.
    both = [training_of(run, Place(rank, 2, Alone(), torch.device("cpu"))) for rank in range(2)]

    def first(rank: int, group: Group) -> dict[str, float]:
        both[rank].place = replace(both[rank].place, group=group)
        stepped = next(iter(loop.steps_left(both[rank])))
        return {name: float(value) for name, value in {"loss": stepped.loss, **stepped.terms}.items()}

    for found in ranks_of(2, first):
        for name, value in {"loss": wanted.loss, **wanted.terms}.items():
            assert abs(found[name] - float(value)) < 1e-4 * max(1.0, abs(float(value))), name


def test_the_gradients_of_uneven_ranks_are_those_of_one(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(SIZES, "small", WHOLE)  # its gradients are what the tolerances are for
    run = run_of(tmp_path, folder, "dropout=0", "epochs=1", "batch_size=6", "streams=3", "clip_norm=0")
    alone = training_of(run, ALONE)
    next(iter(loop.steps_left(alone)))
    both = [training_of(run, Place(rank, 2, Alone(), torch.device("cpu"))) for rank in range(2)]

    def first(rank: int, group: Group) -> None:
        both[rank].place = replace(both[rank].place, group=group)
        next(iter(loop.steps_left(both[rank])))

    ranks_of(2, first)
    for wanted, *own in zip(*(made.network.parameters() for made in (alone, *both)), strict=True):
        assert wanted.grad is not None
        mean = torch.stack([part.grad for part in own if part.grad is not None]).mean(0)
        torch.testing.assert_close(mean, wanted.grad, rtol=1e-3, atol=1e-5)


def test_an_adversary_is_weighed_by_what_all_ranks_have(folder: Path, tmp_path: Path):
    run, gradients = run_of(tmp_path, folder), torch.randn(2, 2, 3, 5, generator=torch.Generator().manual_seed(1))
    both = [training_of(run, Place(rank, 2, Alone(), torch.device("cpu"))) for rank in range(2)]

    def weight(rank: int, group: Group) -> float:
        both[rank].place = replace(both[rank].place, group=group)
        return float(both[rank]._balance(gradients[rank]))

    wanted = float(balance(*gradients.mean(0)))
    assert ranks_of(2, weight) == pytest.approx([wanted, wanted])


def test_the_learning_rate_warms_up_and_falls_to_nothing(folder: Path, tmp_path: Path):
    config = run_of(tmp_path, folder, "epochs=10", "warmup_epochs=2").config.train_generator
    rates = [learning_rate(config, step, 50) for step in range(500)]
    assert rates[0] < 0.02 * config.learning_rate
    assert abs(max(rates) - config.learning_rate) < 1e-9
    assert rates.index(max(rates)) == 100
    assert all(a > b for a, b in itertools.pairwise(rates[100:]))
    assert rates[-1] < 1e-4 * config.learning_rate


def test_a_training_that_was_begun_otherwise_is_refused_by_its_keys(done: Run, folder: Path):
    other = run_of(Path(str(done)), folder, "identity=0.5")
    with pytest.raises(ConfigError, match=r"train_generator\.identity: 1\.0 -> 0\.5"):
        stage.begin(other, ALONE)


def test_a_recogniser_without_named_maps_is_refused_where_the_loss_compares_maps(folder: Path, tmp_path: Path):
    config = run_of(tmp_path, folder).config
    onnx = replace(config, recognizer=replace(config.recognizer, kind="onnx", path="none.onnx", sha256="0" * 64))
    with pytest.raises(ConfigError, match=r"train_generator\.perceptual: needs feature maps"):
        load_teacher(onnx, run_of(tmp_path, folder).store, torch.device("cpu"))


def test_a_recogniser_without_maps_teaches_identity_alone(folder: Path, tmp_path: Path):
    run, toy = run_of(tmp_path, folder, "perceptual=0"), load_recognizer()
    images = open_images(run, str(folder))
    training = GeneratorTraining(run.config.train_generator, images, ALONE, 64, Teacher(toy, toy.features_of))
    training.prepare(print)
    terms = next(iter(loop.steps_left(training))).terms
    assert float(terms["perceptual"]) == 0.0
    assert float(terms["identity"]) > 0.1


def test_a_teacher_sees_the_features_and_three_stages_of_maps(folder: Path, tmp_path: Path):
    run, faces = run_of(tmp_path, folder), render_faces(1, 2, seed=9).images_BHWC
    teacher = load_teacher(run.config, run.store, torch.device("cpu"))
    signal = torch.from_numpy(faces).permute(0, 3, 1, 2).float() / 127.5 - 1
    features, maps = teacher.look(signal.requires_grad_())
    assert np.allclose(features.detach().numpy(), load_recognizer().features(faces), atol=1e-4)
    assert [tuple(found.shape[2:]) for found in maps] == [(16, 16), (8, 8), (4, 4)]
    [gradient] = torch.autograd.grad(features[0].sum() + maps[0][0].sum(), signal)
    assert gradient[0].norm() > 0
    assert gradient[1].norm() == 0


def test_images_of_another_size_than_the_recogniser_takes_are_refused(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / "faces" / name).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(tmp_path / "faces" / name / "0.png")
    with pytest.raises(ConfigError, match=r"train_generator\.data: images have 32 pixels, the recogniser takes 64"):
        stage.begin(run_of(tmp_path / "run", tmp_path / "faces"), ALONE)


def test_a_batch_larger_than_the_dataset_is_refused(folder: Path, tmp_path: Path):
    with pytest.raises(RunError, match=r"train_generator\.batch_size: must not exceed the images of the dataset, 8"):
        stage.begin(run_of(tmp_path, folder, "batch_size=16"), ALONE)


def overrides() -> Iterator[tuple[str, str]]:
    yield "batch_size=5", "train_generator.batch_size must be a multiple of train_generator.streams=2"
    yield "mask_min=1", "train_generator.mask_min must be at least 0 and below train_generator.mask_max"
    yield "pixel=0,perceptual=0,ssim=0,token=0,identity=0", "train_generator.pixel must be above 0, or another term"
    yield "adversarial=0.8,adversarial_from=1", "train_generator.adversarial_from must be below 1"
    yield "identity=-1", "train_generator.identity must be at least 0"
    yield "warmup_epochs=4", "train_generator.warmup_epochs must be between 0 and train_generator.epochs"
    yield "name=a/b", "train_generator.name must be letters"
    yield "num_workers=3", "train_generator.num_workers must be between 1 and train_generator.streams=2"


@pytest.mark.parametrize(("override", "said"), list(overrides()))
def test_an_impossible_recipe_names_key_and_rule(folder: Path, tmp_path: Path, override: str, said: str):
    with pytest.raises(ConfigError) as error:
        run_of(tmp_path, folder, *override.split(","))
    assert said in str(error.value)


def test_vec2face_needs_a_file_and_its_hash_where_it_draws_and_nowhere_else():
    with pytest.raises(ConfigError) as error:
        configuration.load(None, ["run.dir=somewhere", "synthesis.generator=vec2face"])
    assert "vec2face.path is required" in str(error.value)
    assert "vec2face.sha256 must be the 64 hex digits" in str(error.value)
    configuration.load(None, ["run.dir=somewhere"])
