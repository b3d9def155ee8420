"""A file of a finished run that is lost or replaced is named in one line or made again: no trace, no silence."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from color_world import ColorRecognizer
from finished_run import ColorJudge, finished_run, write_color_report

from hyperface.audit.auditor import Auditor, audit_here
from hyperface.config import changed
from hyperface.dataset import verify
from hyperface.dataset.export import export_run
from hyperface.dataset.source import open_source
from hyperface.distributed.place import Place
from hyperface.distributed.ranks import Alone
from hyperface.errors import ConfigError, EmbeddingError, ModelError, RunError, StorageError
from hyperface.models.trained import load_trained
from hyperface.run import Run, existing_run, open_run
from hyperface.status import COMPLETE, status
from hyperface.storage import open_store
from hyperface.training.folder import Folder
from hyperface.training.recognizer import stage

OWN = (ConfigError, EmbeddingError, ModelError, RunError, StorageError)
WORDS = ("train.recipe=toy", "train.embedding_dim=8", "train.epochs=1", "train.batch_size=6", "train.streams=3")


def opened(place: Path) -> Run:
    """Open a run as a job does that is given the folder."""
    return open_run(changed(existing_run(str(place)).config, str(place), []))


def train(place: Path) -> None:
    run = opened(place)
    stage.begin(run)
    if not Folder(run, "train").is_done():
        stage.train_rank(run, Place(0, 1, Alone(), torch.device("cpu")))
    load_trained(run.store, "student")


def audit(place: Path) -> None:
    audit_here(Auditor(open_source(opened(place)), {"recognizer": ColorRecognizer(), "judge": ColorJudge()}))


def verified(place: Path) -> None:
    if problems := verify(existing_run(str(place)), deep=False):
        raise RunError("; ".join(problems))


def complete(place: Path) -> None:
    found = status(existing_run(str(place)))
    if found.exit_code != COMPLETE:
        raise RunError(f"{found.failing} {found.next}")


JOBS: dict[str, Callable[[Path], object]] = {
    "verify": verified,
    "status": complete,
    "report": lambda place: write_color_report(opened(place)),
    "report again": lambda place: (
        (place / "evaluation/separation.json").unlink(missing_ok=True),
        write_color_report(opened(place)),
    ),
    "export": lambda place: export_run(existing_run(str(place)), "imagefolder", open_store(f"{place}-export")),
    "train": train,
    "audit": audit,
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs that are finished, audited, trained on and reported, of different seeds."""
    places = [tmp_path_factory.mktemp("runs") / "run" for _ in range(2)]
    for seed, place in enumerate(places, start=3):
        run = finished_run(place, *WORDS, f"run.seed={seed}")
        audit(place)
        train(place)
        write_color_report(run)
    return places


def tried(place: Path) -> dict[str, str]:
    """{job: what it complains of}, each on a copy of its own; anything but an error of ours is let through."""
    told = {}
    for number, (job, call) in enumerate(JOBS.items()):
        own = Path(f"{place}-{number}")
        shutil.copytree(place, own)
        try:
            call(own)
        except OWN as error:
            told[job] = str(error)
    return told


@pytest.mark.parametrize(
    ("name", "jobs"),
    [
        ("config.yaml", {"verify", "status", "report", "report again", "export", "train", "audit"}),
        ("provenance.json", set()),
        ("gallery/embeddings.parquet", {"verify", "report again"}),
        ("packing/references.parquet", {"verify", "status", "report again"}),
        ("packing/summary.json", {"verify", "status", "report", "report again"}),
        ("dataset/index.json", {"verify", "status", "report", "report again", "export", "train", "audit"}),
        ("dataset/fingerprint.json", {"verify", "report again", "export", "train", "audit"}),
        ("dataset/_done/shard-000001.json", {"verify", "status", "report again", "export", "train", "audit"}),
        ("dataset/parquet/shard-000001.parquet", {"verify", "status", "report again", "export", "train", "audit"}),
        ("recognition/student/backbone.safetensors", {"verify", "status", "train"}),
        ("recognition/student/training.json", {"verify", "train"}),
        ("recognition/student/steps.jsonl", {"verify"}),
        ("recognition/student/summary.json", {"status"}),  # trained again
        ("evaluation/audit_faces.json", {"status", "report", "report again"}),
        ("evaluation/separation.json", set()),  # measured again
        ("report/faces.json", set()),
    ],
)
def test_what_is_lost_is_named_or_made_again(runs: list[Path], tmp_path: Path, name: str, jobs: set[str]):
    place = tmp_path / "run"
    shutil.copytree(runs[0], place)
    Path(place, name).unlink()
    told = tried(place)
    assert told.keys() == jobs, told
    if name == "config.yaml":
        open_run(changed(existing_run(str(runs[0])).config, str(place), []))
        assert not tried(shutil.copytree(place, tmp_path / "again"))


@pytest.mark.parametrize(
    ("name", "jobs"),
    [
        ("config.yaml", {"verify", "export", "train", "audit", "report", "report again"}),
        ("packing/references.parquet", {"verify", "report again"}),
        ("packing/summary.json", {"verify"}),
        ("dataset/index.json", {"verify", "export", "train", "audit", "report", "report again"}),
        ("dataset/fingerprint.json", {"verify", "export", "train", "audit", "report", "report again"}),
        ("dataset/_done/shard-000001.json", {"verify", "export", "train", "audit", "report again"}),
        ("dataset/parquet/shard-000001.parquet", {"verify", "export", "train", "audit", "report again"}),
        ("recognition/student/backbone.safetensors", {"train"}),  # and jobs.verify --deep
        ("recognition/student/training.json", {"verify", "train"}),
        ("recognition/student/steps.jsonl", {"verify"}),
        ("recognition/student/summary.json", {"verify", "train"}),
        ("evaluation/audit.json", {"verify"}),
        ("provenance.json", {"verify"}),
    ],
)
def test_what_was_replaced_by_the_file_of_another_run_is_named(
    runs: list[Path], tmp_path: Path, name: str, jobs: set[str]
):
    place = tmp_path / "run"
    shutil.copytree(runs[0], place)
    shutil.copyfile(runs[1] / name, place / name)
    told = tried(place)
    assert told.keys() == jobs, told
