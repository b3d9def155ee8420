"""Whatever is killed or full, the dataset ends as the undisturbed one; at most the shards in flight are made again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from color_job import command, started
from color_world import hashes
from faults import KillingGenerator, LedgerStore
from small_stage import FILES, seed_of, start, synthesize

from hyperface.dataset import verify
from hyperface.errors import StorageError
from hyperface.run import Run


def shards_of(names: list[str]) -> set[str]:
    return {name.rpartition("/")[2].partition(".")[0] for name in names}


@pytest.mark.usefixtures("ray_cluster")
def test_killed_actors_cost_no_image_and_remake_at_most_their_shard(tmp_path: Path, undisturbed: dict[str, str]):
    """Killed in mid-shard, between data and marker, and after the marker."""
    flags = [str(tmp_path / moment) for moment in ("amid", "before", "after")]
    run = start(tmp_path / "run")
    store = LedgerStore(run.store.url, ledger=str(tmp_path / "ledger"), before=flags[1], after=flags[2])
    run = replace(run, store=store)
    synthesize(run, KillingGenerator(miss_every=5, seed=seed_of(2), flag=flags[0]))
    assert all(Path(flag).exists() for flag in flags)
    assert hashes(run) == undisturbed
    assert verify(run, deep=True) == []
    assert len(set(store.noted("new"))) == len(store.noted("new")) == FILES
    # At each of the three deaths two shards at most were in flight.
    assert len(shards_of(store.noted("adopted"))) <= 3


def test_a_killed_driver_with_its_cluster_is_resumed_by_the_same_command(tmp_path: Path, undisturbed: dict[str, str]):
    """The driver's Ray, raylet and workers die with it."""
    directory, pid = tmp_path / "run", tmp_path / "pid"
    generator = f"KillingGenerator(miss_every=5, seed=seed_of(2), flag='{tmp_path}/killed', victim='{pid}')"
    job = started(generator, directory)
    pid.write_text(str(job.pid))
    output = job.communicate()
    assert job.returncode == -signal.SIGKILL, output

    def same_command(run: Run) -> None:
        again = started("None", run.store.url)
        output = again.communicate()
        assert again.returncode == 0, output

    finished_as(start(directory), undisturbed, same_command)


def finished_as(run: Run, undisturbed: dict[str, str], go_on: Callable[[Run], None] = synthesize) -> None:
    """The stage, without a fault, leaves the undisturbed dataset; what was there is not written again."""
    assert not run.store.exists("dataset/index.json")
    before = {path: path.stat().st_mtime_ns for path in Path(run.store.url).glob("dataset/*/shard-*")}
    go_on(run)
    assert hashes(run) == undisturbed
    assert verify(run, deep=True) == []
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.usefixtures("ray_cluster")
def test_sigterm_in_mid_shard_ends_the_job_and_leaves_no_half_file(tmp_path: Path, undisturbed: dict[str, str]):
    directory, asked = tmp_path / "run", tmp_path / "asked"
    waiting = f"WaitingGenerator(miss_every=5, seed=seed_of(2), asked='{asked}', may_go_on='{tmp_path}/never')"
    job = started(waiting, directory)
    while not asked.exists():
        assert job.poll() is None, job.communicate()
        time.sleep(0.05)
    job.terminate()
    output = job.communicate()
    assert job.returncode == 143, output
    assert output[1].endswith("terminated: the same command goes on where this one stopped\n")
    assert not list(directory.rglob(".*"))
    run = start(directory)
    assert {line.rpartition(": ")[2] for line in verify(run, deep=True)} == {"the shard is not done"}
    finished_as(run, undisturbed)


@pytest.mark.usefixtures("ray_cluster")
def test_ray_job_stop_leaves_a_resumable_run_and_its_last_words_in_the_jobs_log(
    tmp_path: Path, undisturbed: dict[str, str]
):
    directory, asked = tmp_path / "run", tmp_path / "asked"
    waiting = f"WaitingGenerator(miss_every=5, seed=seed_of(2), asked='{asked}', may_go_on='{tmp_path}/never')"
    submit = [sys.executable, str(Path(__file__).with_name("stopped_job.py")), str(asked)]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [*submit, *command(waiting, directory)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "STOPPED in " in done.stdout
    assert "terminated: the same command goes on where this one stopped" in done.stdout
    assert not list(directory.rglob(".*"))
    finished_as(start(directory), undisturbed)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a megabyte."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", path], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a tmpfs: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


@pytest.mark.usefixtures("ray_cluster")
def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(small_disk: Path, undisturbed: dict[str, str]):
    run = start(small_disk / "run")
    ballast, free = small_disk / "ballast", os.statvfs(small_disk)
    ballast.write_bytes(bytes(free.f_bavail * free.f_bsize - 48 * 1024))
    said = r"^\S+/shard-00000\d.*: cannot be written: No space left on device; free space"
    with pytest.raises(StorageError, match=said):
        synthesize(run)
    assert not list(small_disk.rglob(".*"))
    ballast.unlink()
    synthesize(run)
    assert hashes(run) == undisturbed
    assert verify(run, deep=True) == []


def test_actors_are_where_the_gpus_are_and_a_lost_node_costs_no_image(tmp_path: Path, undisturbed: dict[str, str]):
    """SIGKILL of a raylet; its actor is in mid-shard, and waits for the GPU of the node that is left."""
    ledger = tmp_path / "ledger"
    lose = [
        sys.executable,
        Path(__file__).with_name("three_nodes_job.py"),
        tmp_path / "run",
        ledger,
        tmp_path / "asked",
    ]
    job = subprocess.run(lose, capture_output=True, text=True, check=False)
    assert job.returncode == 0, job.stdout + job.stderr
    assert "drawn on: / kept with GPU 0 / lost with GPU 0\n" in job.stdout
    assert "nodes alive: 2" in job.stdout
    assert "1 actor deaths" in job.stdout
    run = start(tmp_path / "run")
    store = LedgerStore(run.store.url, ledger=str(ledger))
    assert hashes(run) == undisturbed
    assert verify(run, deep=True) == []
    assert len(set(store.noted("new"))) == len(store.noted("new")) == FILES
    assert store.noted("adopted") == []
