"""Whichever process of Ray dies, the job ends soon, with one line of its own and a code, and so that it goes on."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from color_job import started
from waiting import wait_for

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def job(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A synthesis in mid-shard, with a Ray of its own."""
    asked = tmp_path / "asked"
    waiting = f"WaitingGenerator(miss_every=5, seed=seed_of(2), asked='{asked}', may_go_on='{tmp_path}/never')"
    job = started(waiting, tmp_path / "run")
    wait_for(lambda: asked.exists() or job.poll() is not None)
    yield job
    if job.poll() is None:
        job.kill()


@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_job_whose_ray_dies_says_what_died_and_leaves_no_process(job: subprocess.Popen[str], name: str):
    """Ray itself waits a minute for its GCS, and shows a hundred lines of traces for its raylet."""
    there = psutil.Process(job.pid).children(recursive=True)
    (victim,) = (each for each in there if each.name() == name)
    os.kill(victim.pid, signal.SIGKILL)
    output = job.communicate(timeout=30)
    assert job.returncode == 1, output
    errors = [line for line in output[1].splitlines() if line.startswith("error: ")]
    died = f"error: Ray's {name} (process {victim.pid}) has died (killed by signal 9)"
    assert errors == [f"{died}; the same command goes on where this one stopped"], output
    assert not psutil.wait_procs(there, timeout=30)[1]
