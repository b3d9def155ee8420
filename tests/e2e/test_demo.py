"""The demo as its user runs it: a Ray head on loopback, `ray job submit`, and nothing left running."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = (
    "embed.num_faces=24",
    "packing.num_identities=6",
    "packing.steps=5",
    "synthesis.generator=toy_render",
    "synthesis.images_per_identity=2",
    "synthesis.images_per_shard=6",
)


def ray_processes() -> set[int]:
    listed = subprocess.run(["pgrep", "-f", "raylet|gcs_server|dashboard"], capture_output=True, text=True, check=False)
    return {int(pid) for pid in listed.stdout.split()}


@pytest.mark.timeout(400)
def test_the_demo_leaves_a_dataset_and_no_process(tmp_path: Path):
    before = ray_processes()
    environment = dict(os.environ, PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}", HOME=str(tmp_path))
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        environment.pop(name, None)
    command = ["infra/local/demo.sh", str(tmp_path / "run"), *SMALL]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"dataset  {tmp_path}/run/dataset" in done.stdout
    assert (tmp_path / "run/report/index.html").exists()
    assert not (tmp_path / ".ray").exists(), "the demo must not turn token mode on for this user's other clusters"
    for pid in ray_processes() - before:
        os.kill(pid, signal.SIGKILL)
        raise AssertionError(f"process {pid} was left running")
