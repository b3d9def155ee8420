"""Use of a finished dataset, as its user does it: train (and be killed), verify, export, audit, report."""

import hashlib
import io
import json
import pickle
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from processes import ROOT, command, digests, pipeline, run

from hyperface.config import StorageConfig
from hyperface.models.trained import weights_file
from hyperface.storage import Store, open_store

TRAIN = (
    "train.recipe=toy",
    "train.epochs=40",
    "train.batch_size=16",
    "train.embedding_dim=32",
    "train.checkpoint_every=5",
)
SECONDS = 600


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("e2e") / "run"
    for job in ("pipeline", "train"):
        done = run(job, *pipeline(directory, *TRAIN)[1:])
        assert done.returncode == 0, (job, done.stdout + done.stderr)
    assert "train: 48 images of 12 identities" in done.stdout
    return directory


def checkpoints(store: Store) -> set[str]:
    return {name for name in store.list("recognition/student/checkpoints") if name.endswith("marker.json")}


def stop_at_a_checkpoint(arguments: tuple[str, ...], store: Store, number: signal.Signals) -> int:
    """Start a training and signal it once it has written a checkpoint; its exit code."""
    before, deadline = checkpoints(store), time.monotonic() + SECONDS
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command("train", *arguments), cwd=ROOT, **quiet) as job:
        while checkpoints(store) <= before:
            assert job.poll() is None, "it ended before its first checkpoint"
            assert time.monotonic() < deadline
        job.send_signal(number)
        return job.wait(timeout=SECONDS)


def test_a_training_in_a_bucket_that_was_killed_ends_with_the_bytes_of_an_undisturbed_one(
    trained: Path, object_store: str, object_bucket: str
):
    url = f"s3://{object_bucket}/run"
    there = (f"storage.endpoint_url={object_store}", "storage.addressing_style=path")
    arguments = pipeline(url, *TRAIN, *there)[1:]
    made = run("pipeline", *arguments)
    assert made.returncode == 0, made.stdout + made.stderr
    store = open_store(url, StorageConfig(endpoint_url=object_store, addressing_style="path"))
    assert stop_at_a_checkpoint(arguments, store, signal.SIGKILL) == -signal.SIGKILL
    assert stop_at_a_checkpoint(arguments, store, signal.SIGTERM) == 143
    assert not store.exists("recognition/student/summary.json")
    resumed = run("train", *arguments)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "from step 0" not in resumed.stdout
    assert store.read(weights_file("student")) == (trained / weights_file("student")).read_bytes()


def bin_of_the_dataset(directory: Path, file: Path) -> None:
    """A verification file in InsightFace's form: pairs of the renderer's faces, as PNG."""
    from hyperface.models.toy.faces import render_faces

    faces = render_faces(60, 2, seed=99).images_BHWC
    encoded = []
    for image in faces:
        sink = io.BytesIO()
        Image.fromarray(image).save(sink, format="PNG")
        encoded.append(np.frombuffer(sink.getvalue(), np.uint8))
    genuine = [encoded[i] for p in range(60) for i in (2 * p, 2 * p + 1)]
    impostor = [encoded[i] for p in range(60) for i in (2 * p, (2 * p + 3) % 120)]
    file.write_bytes(pickle.dumps((genuine + impostor, [True] * 60 + [False] * 60)))


def test_a_student_is_verified_and_its_onnx_file_measures_the_same(trained: Path, tmp_path: Path):
    bin_of_the_dataset(trained, tmp_path / "people.bin")
    there = f"evaluate.benchmarks=[{tmp_path / 'people.bin'}]"
    done = run("evaluate", *pipeline(trained, *TRAIN, there)[1:], "--export", "onnx")
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((trained / "evaluation/verification/student.json").read_text())
    assert record["model"]["training"]["train"]["recipe"] == "toy"
    assert record["sets"]["people"]["accuracy"] > 0.6
    onnx = trained / "recognition/student/backbone.onnx"
    sha256 = hashlib.sha256(onnx.read_bytes()).hexdigest()
    model = ("evaluate.model=onnx", f"evaluate.path={onnx}", f"evaluate.sha256={sha256}")
    again = run("evaluate", *pipeline(trained, *TRAIN, there, *model)[1:])
    assert again.returncode == 0, again.stdout + again.stderr
    other = json.loads((trained / f"evaluation/verification/onnx-{sha256[:12]}.json").read_text())
    assert other["sets"]["people"]["accuracy"] == record["sets"]["people"]["accuracy"]


def test_a_hostile_benchmark_ends_with_one_line_and_is_not_run(trained: Path, tmp_path: Path):
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            import os

            return os.system, (f"touch {tmp_path / 'owned'}",)

    (tmp_path / "lfw.bin").write_bytes(pickle.dumps(([], Payload())))
    refused = run("evaluate", *pipeline(trained, *TRAIN, f"evaluate.benchmarks=[{tmp_path / 'lfw.bin'}]")[1:])
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: ")
    assert "lfw.bin" in refused.stderr
    assert not (tmp_path / "owned").exists()


def test_an_audit_is_recorded_and_the_report_shows_it(trained: Path):
    done = run("audit", *pipeline(trained, *TRAIN)[1:])
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((trained / "evaluation/audit.json").read_text())
    assert set(record["networks"]) == {"recognizer", "judge"}
    before = digests(trained)
    assert run("audit", *pipeline(trained, *TRAIN)[1:]).returncode == 0
    assert digests(trained) == before, "it is done, and nothing is measured again"
    reported = run("report", *pipeline(trained, *TRAIN)[1:])
    assert reported.returncode == 0, reported.stderr
    assert "evaluation/audit.json" in (trained / "report/index.html").read_text()
