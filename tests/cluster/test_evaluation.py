"""Verification in a Ray task that reserves a GPU, against the one in this process."""

import io
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cluster.evaluation import evaluate_stage
from hyperface import config as configuration
from hyperface.run import Run, open_run
from hyperface.run.names import VERIFICATION

ROOT = Path(__file__).parents[2]
# A Ray that says it has a GPU: the task is placed by what it reserves, and the toy judge needs none.
DRIVER = """
import sys
import cluster.session
import ray
from cluster.evaluation import evaluate_stage
from hyperface import config as configuration
from hyperface.run import open_run
from jobs.start import exit_code

ray.init(num_cpus=1, num_gpus=1, include_dashboard=False, logging_level=40, _node_ip_address="127.0.0.1")
run = open_run(configuration.load(None, sys.argv[1:]))
code = exit_code(lambda: evaluate_stage(run))
ray.shutdown()
raise SystemExit(code)
"""


def put_faces(path: Path, broken: bool = False) -> None:
    images = []
    for shade in range(20, 220, 5):
        file = io.BytesIO()
        Image.fromarray(np.full((64, 64, 3), shade, np.uint8)).save(file, "PNG")
        images.append(file.getvalue())
    path.write_bytes(pickle.dumps(([*images[:-1], images[-1][:50] if broken else images[-1]], [True, False] * 10)))


def words(folder: Path, name: str) -> list[str]:
    return [f"run.dir={folder}/run", "evaluate.model=judge", f"evaluate.benchmarks=[{folder}/{name}.bin]"]


def driven(*overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", DRIVER, *overrides, "evaluate.gpus=1"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def record(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = run.get_json(f"{VERIFICATION}/judge.json")
    for measured in found["sets"].values():
        del measured["seconds"]
    return found


def test_a_task_that_reserves_a_gpu_finds_what_this_process_finds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_faces(tmp_path / "faces.bin")
    run = open_run(configuration.load(None, words(tmp_path, "faces")))
    evaluate_stage(run)
    here, table = record(run), capsys.readouterr().out.splitlines()[:2]
    run.store.delete(f"{VERIFICATION}/judge.json")
    done = driven(*words(tmp_path, "faces"))
    assert done.returncode == 0, done.stderr
    assert record(run) == here
    assert done.stdout.splitlines()[:2] == table
    assert [row["model"] for row in run.records("evaluate")] == ["judge", "judge"]


def test_what_is_wrong_with_a_set_comes_back_from_the_task_as_one_line(tmp_path: Path) -> None:
    put_faces(tmp_path / "faces.bin", broken=True)
    done = driven(*words(tmp_path, "faces"))
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] == done.stderr.splitlines()[-1:]
    assert "faces.bin: image 39: " in done.stderr
    assert "Traceback" not in done.stderr
