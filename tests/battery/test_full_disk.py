"""A disk that is full when a stage begins: one line, and the same command goes on once there is room again."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.battery.finishing_jobs import JOBS, words
from tests.e2e.processes import ROOT, command, pipeline

STAGES = ("embed", "pack", "synthesize", "report")

TRIES = 3
"""Number of tries of a command on a machine that is too busy for Ray to start in time."""

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk"),
    pytest.mark.timeout(1800),
]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mount(place, "1g")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def job(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    for _ in range(TRIES):
        done = subprocess.run(
            arguments, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=300, check=False
        )
        if "the machine may be busy" not in done.stderr:
            break
    return done


def mount(place: Path, size: str = "64m") -> None:
    """A disk in memory."""
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=False).returncode:
        pytest.skip("no disk may be mounted here")


def fill(disk: Path, but: int = 0) -> Path:
    """A file that leaves so many bytes free."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - but)
    return filler


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of an error."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    (line,) = [text for text in done.stderr.splitlines() if text.startswith("error: ")]
    return line


def test_a_run_whose_disk_is_full_says_so_at_every_stage_and_goes_on_when_there_is_room(disk: Path):
    run = disk / "run"
    jobs = {stage: command(stage, *pipeline(run)[1:]) for stage in STAGES} | {
        name: words(name, run) for name in JOBS if name != "synthesize"
    }
    for name, arguments in jobs.items():
        filler = fill(disk)
        assert "No space left on device" in complaint(job(arguments)), name
        filler.unlink()
        done = job(arguments)
        assert done.returncode == 0, (name, done.stdout + done.stderr)


def test_a_full_temporary_directory_is_named_where_ray_cannot_start_in_it(tmp_path: Path):
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="full-") as place:  # short, for Ray's sockets
        disk, embed = Path(place), command("embed", *pipeline(tmp_path / "run")[1:])
        mount(disk)
        try:
            filler = fill(disk, but=40 * 2**10)  # enough for Python to take it for a temporary directory
            said = complaint(job(embed, TMPDIR=place))
            assert f"{place} is full: free space, or let TMPDIR name another" in said
            filler.unlink()
            done = job(embed, TMPDIR=place)
            assert done.returncode == 0, done.stdout + done.stderr
        finally:
            subprocess.run(["umount", "--lazy", place], check=True)


def test_a_temporary_directory_that_fills_up_while_ray_works_in_it_ends_a_job_in_one_line_or_not_at_all(tmp_path: Path):
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="full-") as place:
        disk, arguments = Path(place), command(*pipeline(tmp_path / "run"))
        mount(disk)
        try:
            with subprocess.Popen(
                arguments,
                cwd=ROOT,
                env=os.environ | {"TMPDIR": place},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as running:
                assert running.stdout
                print(running.stdout.readline())  # Ray is there
                filler = fill(disk)
                out, said = running.communicate(timeout=600)
            done = subprocess.CompletedProcess(arguments, running.returncode, out, said)
            print(done.returncode, done.returncode and complaint(done))
            filler.unlink()
            done = job(arguments, TMPDIR=place)
            assert done.returncode == 0, done.stdout + done.stderr
        finally:
            subprocess.run(["umount", "--lazy", place], check=True)
