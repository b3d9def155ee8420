"""A disk that is full when a stage begins: one line, and the same command goes on once there is room again."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = (
    "embed.num_faces=48",
    "packing.num_identities=12",
    "packing.steps=20",
    "synthesis.generator=toy_render",
    "synthesis.images_per_identity=4",
    "synthesis.images_per_shard=8",
    "report.grid_identities=4",
    "train.recipe=toy",
    "train.epochs=2",
    "train.batch_size=16",
    "train.embedding_dim=32",
    "train.checkpoint_every=5",
    "cluster.num_cpus=2",
)
STAGES = ("embed", "pack", "synthesize", "report", "audit", "train", "evaluate")

TRIES = 3
"""Of a command on a machine that is too busy for Ray to start in time."""

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk"),
    pytest.mark.timeout(1800),
]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mount(place)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def job(name: str, run: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"jobs.{name}", "jobs/configs/toy.yaml", f"run.dir={run}", *SMALL]
    for _ in range(TRIES):
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=300, check=False
        )
        if "the machine may be busy" not in done.stderr:
            break
    return done


def mount(place: Path) -> None:
    """A disk of 64 MiB, in memory."""
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", place], check=False).returncode:
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
    for stage in STAGES:
        filler = fill(disk)
        assert "No space left on device" in complaint(job(stage, run)), stage
        filler.unlink()
        done = job(stage, run)
        assert done.returncode == 0, (stage, done.stdout + done.stderr)


def test_a_full_temporary_directory_is_named_where_ray_cannot_start_in_it(tmp_path: Path):
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="full-") as place:  # short, for Ray's sockets
        disk = Path(place)
        mount(disk)
        try:
            filler = fill(disk, but=40 * 2**10)  # enough for Python to take it for a temporary directory
            said = complaint(job("embed", tmp_path / "run", TMPDIR=place))
            assert f"{place} is full: free space, or let TMPDIR name another" in said
            filler.unlink()
            done = job("embed", tmp_path / "run", TMPDIR=place)
            assert done.returncode == 0, done.stdout + done.stderr
        finally:
            subprocess.run(["umount", "--lazy", place], check=True)
