"""Files that were made of a dataset afterwards and were lost, replaced or overwritten are named by jobs.verify."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from color_world import ColorRecognizer
from finished_run import finished_run, write_color_report

from hyperface.audit import record as audit
from hyperface.dataset import verify
from hyperface.dataset.source import open_source
from hyperface.distributed.place import Place
from hyperface.distributed.ranks import Alone
from hyperface.run import existing_run
from hyperface.status import FAILING, status
from hyperface.training.folder import Folder
from hyperface.training.recognizer import stage

WORDS = ("train.recipe=toy", "train.embedding_dim=8", "train.epochs=1", "train.batch_size=6", "train.streams=3")
STUDENT = "recognition/student"
NETWORK = f"{STUDENT}/backbone.safetensors"
ANCHORS = "synthesis/anchors/0123456789abcdef/block-000000.npy"


@dataclass(frozen=True)
class Trained:
    """A training that took its steps, as far as its folder asks for it."""

    network: bytes
    step: int = 5
    seconds: float = 1.0
    place: Place = field(default_factory=lambda: Place(0, 1, Alone(), torch.device("cpu")))
    history: tuple[dict[str, float], ...] = ({"step": 5, "epoch": 1.0, "loss": 1.5, "learning_rate": 0.1},)

    def result(self) -> tuple[bytes, dict[str, object]]:
        return self.network, {}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs of different seeds, audited and trained on; tests/battery/test_lost_files.py does both in full."""
    places = [tmp_path_factory.mktemp("runs") / "run" for _ in range(2)]
    for seed, place in enumerate(places, start=3):
        run = finished_run(place, *WORDS, f"run.seed={seed}")
        write_color_report(run)
        audit.write(run, audit.asked(open_source(run), {"recognizer": ColorRecognizer()}, {}), {}, {})
        stage.begin(run)
        done = Trained(f"network of {seed}".encode())
        Folder(run, "train").finish(done, done)  # type: ignore[arg-type]
    return places


@pytest.fixture
def place(runs: list[Path], tmp_path: Path) -> Path:
    return shutil.copytree(runs[0], tmp_path / "run")


def problems(place: Path, *, deep: bool = False) -> list[str]:
    return verify(existing_run(str(place)), deep=deep)


def test_a_run_that_was_audited_and_trained_on_has_no_problems(place: Path):
    assert problems(place, deep=True) == []


@pytest.mark.parametrize("value", [None, "0.5", 7.5, float("nan"), []])
def test_a_certificate_without_a_cosine_is_named(place: Path, value: object):
    told = json.loads((place / "packing/summary.json").read_text())
    (place / "packing/summary.json").write_text(json.dumps(told | {"max_cosine": value}))
    (problem,) = problems(place)
    assert problem.startswith(f"{place}/packing/summary.json: max_cosine must ")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("provenance.json", "provenance.json: tells of run.seed=4, and it is 3"),
        ("evaluation/audit.json", "audit.json: is of another dataset; run jobs.audit again"),
        (f"{STUDENT}/summary.json", f"summary.json: is not of the training in {STUDENT}/training.json, by data"),
        (f"{STUDENT}/training.json", f"summary.json: is not of the training in {STUDENT}/training.json, by data"),
        (f"{STUDENT}/steps.jsonl", f"summary.json: is not of the training in {STUDENT}/steps.jsonl"),
        ("evaluation/separation.json", "separation.json: is of another dataset; run jobs.report again"),
        ("packing/summary.json", "summary.json: is of other references than packing/references.parquet; restore it"),
        ("dataset/fingerprint.json", ""),
        ("dataset/wids.json", ""),
    ],
)
def test_a_record_of_another_run_or_garbage_is_named(runs: list[Path], place: Path, name: str, said: str):
    if said and (runs[1] / name).read_bytes() != (place / name).read_bytes():  # both took as many steps
        shutil.copyfile(runs[1] / name, place / name)
        assert [said in problem for problem in problems(place)] == [True]
    for garbage in (b"", b"{", b"[1]", b"{}", b"\xff\x00", b'{"data": 1, "asked": []}'):
        (place / name).write_bytes(garbage)
        assert any(Path(name).name in problem for problem in problems(place)), garbage


def test_a_network_that_was_replaced_is_named_by_a_deep_look_and_anchors_that_are_none_too(
    runs: list[Path], place: Path
):
    shutil.copyfile(runs[1] / NETWORK, place / NETWORK)
    (place / ANCHORS).parent.mkdir(parents=True)
    (place / ANCHORS).write_bytes(b"\x93NUMPY")
    assert problems(place) == []
    network, anchors = problems(place, deep=True)
    assert f"summary.json: is not of the network in {NETWORK}, which has another SHA-256" in network
    assert f"{ANCHORS}: cannot be read" in anchors


@pytest.mark.parametrize("name", [NETWORK, f"{STUDENT}/training.json", f"{STUDENT}/steps.jsonl"])
def test_a_file_of_a_finished_training_that_is_gone_is_named(place: Path, name: str):
    (place / name).unlink()
    (problem,) = problems(place)
    assert f"{name}: is missing although its summary is there; restore it, or train under another train.name" in problem
    if name == NETWORK:
        found = status(existing_run(str(place)))
        assert found.exit_code == FAILING
        assert any(f"{NETWORK}: is missing although its summary is there" in line for line in found.failing)
