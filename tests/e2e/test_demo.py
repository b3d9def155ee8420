"""The demo as its user runs it: a Ray head on loopback, `ray job submit`, and nothing left running."""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
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


def processes_with(token: str) -> list[int]:
    """Everything that inherited the demo's environment, whatever it is called."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if token.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


@pytest.mark.timeout(400)
def test_the_demo_leaves_a_dataset_and_no_process(tmp_path: Path):
    token = secrets.token_hex(32)
    environment = dict(os.environ, PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}", HOME=str(tmp_path))
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE"):
        environment.pop(name, None)
    environment["RAY_AUTH_TOKEN"] = token
    command = ["infra/local/demo.sh", str(tmp_path / "run"), *SMALL]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"dataset  {tmp_path}/run/dataset" in done.stdout
    assert (tmp_path / "run/report/index.html").exists()
    assert not (tmp_path / ".ray").exists(), "the demo must not turn token mode on for this user's other clusters"
    deadline = time.monotonic() + 20
    while (left := processes_with(token)) and time.monotonic() < deadline:
        time.sleep(0.2)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, "the demo left processes running"
