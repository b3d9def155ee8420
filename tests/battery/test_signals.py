"""Tests of every job that goes on with a finished dataset, killed or terminated at a random moment.

It ends soon with its code and one line, leaves no process and no scratch, and the same command finishes to the same
result.

BATTERY_SEED=N repeats the moments of one run.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.battery.finishing_jobs import JOBS, words
from tests.e2e.processes import ROOT, command, digests, pipeline

SEED = int(os.environ.get("BATTERY_SEED") or random.randrange(10**6))
SOON_S = 60
"""Seconds from the signal to the end, on a busy machine."""
LOADED_S = 3.0
"""Seconds before which a process imports, and has nothing that it could lose."""
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129, signal.SIGKILL: -9}

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    print(f"\nBATTERY_SEED={SEED}")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a shell, as by its children
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    directory = tmp_path_factory.mktemp("base") / "run"
    done = subprocess.run(command(*pipeline(directory)), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


def begun(job: str, finished: Path, folder: Path) -> Path:
    """A copy of the finished run; for the index, one that lacks it and its last shards' markers."""
    directory = Path(shutil.copytree(finished, folder / "run"))
    if job == "synthesize":
        (directory / "dataset/index.json").unlink()
        for marker in sorted((directory / "dataset/_done").glob("*.json"))[3:]:
            marker.unlink()
    return directory


def result(job: str, directory: Path) -> dict[str, Any]:
    """{file: digest, or what a JSON says but for times and machines}."""
    every = digests(directory)
    files = [path.relative_to(directory).as_posix() for path in directory.glob(JOBS[job][1]) if path.is_file()]
    assert files, f"{job} left nothing"
    return {
        name: _lasting(json.loads((directory / name).read_text())) if name.endswith(".json") else every[name]
        for name in sorted(files)
    }


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        passing = ("seconds", "provenance", "created", "when", "etag")
        return {key: _lasting(each) for key, each in value.items() if not any(word in key for word in passing)}
    return [_lasting(each) for each in value] if isinstance(value, list) else value


def ended(arguments: Sequence[str], number: signal.Signals, after: float, scratch: Path) -> tuple[int, str, float]:
    """Exit code, standard error and the seconds from the signal to the end; no process of it is left."""
    environment = os.environ | {"TMPDIR": str(scratch)}
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(arguments, cwd=ROOT, env=environment, **pipes) as job:
        time.sleep(after)
        there = psutil.Process(job.pid).children(recursive=True)
        sent = time.monotonic()
        job.send_signal(number)
        try:
            _, said = job.communicate(timeout=SOON_S)
        finally:
            job.kill()
        took = time.monotonic() - sent
    assert not psutil.wait_procs(there, timeout=30)[1]
    return job.returncode, said, took


@pytest.mark.parametrize("job", JOBS)
def test_a_job_that_is_ended_at_any_moment_goes_on_to_the_same_result(job: str, finished: Path, tmp_path: Path):
    chance, began = random.Random(f"{SEED} {job}"), time.monotonic()
    undisturbed = begun(job, finished, tmp_path / "undisturbed")
    done = subprocess.run(words(job, undisturbed), cwd=ROOT, capture_output=True, text=True, check=False)
    whole = time.monotonic() - began
    assert done.returncode == 0, done.stdout + done.stderr
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL):
        folder = tmp_path / number.name
        folder.mkdir()
        scratch = Path(tempfile.mkdtemp(prefix="s", dir="/tmp"))  # short: the paths of sockets are bounded
        directory, after = begun(job, finished, folder), chance.uniform(LOADED_S, max(LOADED_S + 1, whole))
        code, said, took = ended(words(job, directory), number, after, scratch)
        print(f"{job}: {number.name} after {after:.1f} of {whole:.1f} s: code {code}, {took:.1f} s", file=sys.stderr)
        assert code in (CODES[number], 0), said
        if code > 0:
            last = said.strip().splitlines()[-1]
            assert last.endswith("ed: the same command goes on where this one stopped"), said
            assert "Traceback" not in said, said
        environment = os.environ | {"TMPDIR": str(scratch)}
        again = subprocess.run(
            words(job, directory), cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert again.returncode == 0, again.stdout + again.stderr
        left = [path.name for path in scratch.iterdir() if path.name.startswith("hyperface-")]
        shutil.rmtree(scratch)
        assert not left
        assert result(job, directory) == result(job, undisturbed)
