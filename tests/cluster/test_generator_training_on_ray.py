"""Stage train_generator on Ray Train workers, one of which is killed: the steps of one worker."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from waiting import said, wait_for

from cluster.training import train_generator_stage
from hyperface import config as configuration
from hyperface.models.toy.faces import render_faces
from hyperface.run import Run, open_run
from hyperface.training.folder import Folder

SECONDS = 600
OPTIONS = (
    "size=small", "batch_size=4", "streams=2", "epochs=12", "precision=float32", "dropout=0", "flip=0.5",
    "adversarial=0.5", "adversarial_from=0.5", "learning_rate=0.0003", "warmup_epochs=5",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ImageFolder of eight rendered faces."""
    root = tmp_path_factory.mktemp("faces")
    faces = render_faces(4, 2, seed=5)
    for number, (label, image) in enumerate(zip(faces.labels_B, faces.images_BHWC, strict=True)):
        (root / f"{label}").mkdir(exist_ok=True)
        Image.fromarray(image).save(root / f"{label}" / f"{number}.png")
    return root


def run_of(directory: Path, folder: Path, *overrides: str) -> Run:
    given = [f"train_generator.{option}" for option in (*OPTIONS, *overrides)]
    return open_run(configuration.load(None, [f"run.dir={directory}", f"train_generator.data={folder}", *given]))


def rows_of(run: Run) -> list[dict[str, float]]:
    return [json.loads(line) for line in run.store.read("generator/vec2face/steps.jsonl").splitlines()]


def test_two_workers_of_which_one_is_killed_take_the_steps_that_one_takes(
    ray_cluster: str, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    alone = run_of(tmp_path / "alone", folder)
    train_generator_stage(alone)
    capfd.readouterr()
    run = run_of(tmp_path / "two", folder, "num_workers=2", "checkpoint_every=5")
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(train_generator_stage, run)
        wait_for(lambda: Folder(run, "train_generator").checkpoints.newest() > 0 or training.done(), SECONDS)
        workers = [each for each in psutil.Process().children(recursive=True) if "RayTrainWorker" in each.name()]
        max(workers, key=lambda worker: worker.create_time()).kill()
        assert not run.store.exists("generator/vec2face/summary.json")
        training.result(timeout=SECONDS)
    first, second = said(capfd, r"train_generator: 8 images of 4 .* from step (\d+),", 2)
    assert int(first) == 0 < int(second)
    one, two = rows_of(alone), rows_of(run)
    assert [row["step"] for row in two] == list(range(1, 25))
    # The first update shows whether gradients are the means over ranks; later ones carry rounding on, and it grows.
    for term in ("loss", "pixel", "identity"):
        assert np.allclose([row[term] for row in one[:3]], [row[term] for row in two[:3]], rtol=2e-3), term
        assert two[-1][term] < 0.8 * two[0][term], term
    assert all(row["discriminator"] > 0 for row in two[12:])
