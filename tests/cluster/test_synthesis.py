"""Synthesis on Ray: whatever is killed, the dataset ends as the undisturbed one, and nothing is made twice."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import color_world
import faults
import pytest
import ray
from color_world import (
    ColorGenerator,
    ColorRecognizer,
    color_run,
    hashes,
    make_dataset,
    make_models,
    put_references,
    references,
)
from faults import BrokenGenerator, FullStore, KillingGenerator, LedgerStore

from cluster.synthesis import synthesize_stage
from hyperface.config import ConfigError
from hyperface.dataset import read_shards, verify
from hyperface.dataset.plan import Plan, image_seed
from hyperface.embeddings import EmbeddingError
from hyperface.models.protocols import Models
from hyperface.run import REFERENCES, Run, RunError

# The workers have no path to the tests.
ray.cloudpickle.register_pickle_by_value(color_world)
ray.cloudpickle.register_pickle_by_value(faults)

OPTIONS = ("synthesis.num_actors=1", "synthesis.max_failures=3")
PLAN = Plan(seed=0, num_identities=6, images_per_identity=5, images_per_shard=8)
FILES = 3 * PLAN.num_shards
"""Parquet, tar and marker of every shard."""
pytestmark = [pytest.mark.usefixtures("ray_cluster"), pytest.mark.timeout(600)]


def start(path: Path, *overrides: str) -> Run:
    return color_run(path, *OPTIONS, *overrides)


def synthesize(run: Run, generator: ColorGenerator | None = None) -> None:
    synthesize_stage(run, (lambda _: Models(generator, ColorRecognizer())) if generator else make_models)


def seed_of(shard: int, row: int = 4) -> int:
    """The seed of the first draw of an image in the middle of a shard."""
    identities, images = PLAN.shard(shard)
    return image_seed(0, int(identities[row]), int(images[row]), 0)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The hashes of the dataset that one process makes without Ray."""
    run = start(tmp_path_factory.mktemp("undisturbed") / "run")
    make_dataset(run)
    return hashes(run)


def test_ray_makes_the_bytes_of_one_process_and_a_second_run_changes_nothing(
    tmp_path: Path, undisturbed: dict[str, str], capsys: pytest.CaptureFixture[str]
):
    run = start(tmp_path / "run")
    synthesize(run)
    assert hashes(run) == undisturbed
    assert verify(run, deep=True) == []
    events = [row["event"] for row in run.records("synthesis")]
    assert sorted(events) == ["finished"] + ["shard"] * PLAN.num_shards
    assert "30 images in 4 shards, 0 of them done" in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    synthesize(run)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before
    assert capsys.readouterr().out.startswith("synthesize: done, 30 images")


def test_ray_makes_a_part_that_begins_at_a_later_identity_like_one_process(tmp_path: Path):
    one, other = (start(tmp_path / name, "packing.first_identity=6") for name in ("one", "other"))
    make_dataset(one)
    synthesize(other)
    assert hashes(other) == hashes(one)
    assert verify(other, deep=True) == []
    assert {identity for shard in read_shards(other) for identity in shard.identities} == set(range(6, 12))


def test_killed_actors_cost_no_image_and_remake_at_most_their_shard(tmp_path: Path, undisturbed: dict[str, str]):
    """Killed in mid-shard, between data and marker, and after the marker."""
    flags = [str(tmp_path / moment) for moment in ("amid", "before", "after")]
    run = start(tmp_path / "run", "synthesis.max_failures=9")
    store = LedgerStore(run.store.url, str(tmp_path / "ledger"), before=flags[1], after=flags[2])
    run = replace(run, store=store)
    synthesize(run, KillingGenerator(miss_every=5, seed=seed_of(2), flag=flags[0]))
    assert all(Path(flag).exists() for flag in flags)
    assert hashes(run) == undisturbed
    assert verify(run, deep=True) == []
    assert len(set(store.noted("new"))) == len(store.noted("new")) == FILES
    # The shard without marker has two files already when it is made again, the one with marker three.
    assert len(store.noted("adopted")) == 2 + 3
    # Each of the two kills left one shard behind; which, and whether the same, is up to the scheduler.
    assert len({name.rpartition("/")[2].partition(".")[0] for name in store.noted("adopted")}) <= 2


DRIVER = """
import sys
sys.path[:0] = sys.argv[2:]
from faults import *
import color_world, faults, ray
from cluster.synthesis import synthesize_stage
for module in (color_world, faults):
    ray.cloudpickle.register_pickle_by_value(module)
directory = sys.argv[1]
generator = KillingGenerator(miss_every=5, seed=SEED, flag=directory + "-killed", victim=directory + "-pid")
run = color_world.color_run(directory, *OPTIONS, "cluster.num_cpus=2")
Path(generator.victim).write_text(str(os.getpid()))
synthesize_stage(run, lambda _: color_world.Models(generator, color_world.ColorRecognizer()))
"""


def test_a_killed_driver_with_its_cluster_is_resumed_by_the_same_command(tmp_path: Path, undisturbed: dict[str, str]):
    """The driver's Ray, raylet and workers die with it."""
    directory, here = tmp_path / "run", Path(__file__).parent
    script = DRIVER.replace("SEED", str(seed_of(2))).replace("OPTIONS", repr(OPTIONS))
    paths = [str(here), str(here.parent), str(here.parents[1])]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-c", script, str(directory), *paths]
    driver = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert driver.returncode == -signal.SIGKILL, driver.stdout + driver.stderr
    store = LedgerStore(str(directory), str(tmp_path / "ledger"))
    run = replace(start(directory), store=store)
    assert not store.exists("dataset/index.json")
    synthesize(run)
    assert hashes(run) == undisturbed
    assert verify(run, deep=True) == []
    assert len(set(store.noted("new"))) == len(store.noted("new")) <= FILES


def test_a_shard_that_always_kills_its_actor_stops_the_job_and_spoils_nothing(tmp_path: Path):
    run = start(tmp_path / "run", "synthesis.max_failures=1")
    with pytest.raises(RunError, match=r"lost more than synthesis.max_failures=1 times"):
        synthesize(run, KillingGenerator(miss_every=5, seed=seed_of(1)))
    problems = verify(run, deep=True)
    assert problems
    assert all(line.endswith("is missing: the shard is not done") for line in problems)


def test_a_shard_that_fails_is_named_at_the_end_and_the_others_are_done(tmp_path: Path):
    run = start(tmp_path / "run")
    with pytest.raises(RunError, match=r"1 of 4 shards failed(.|\n)*shard 1: RuntimeError: the device is lost"):
        synthesize(run, BrokenGenerator(miss_every=5, seed=seed_of(1)))
    assert [row["shard"] for row in run.records("synthesis") if row["event"] == "failed"] == [1]
    (problem,) = verify(run, deep=True)
    assert problem.endswith("dataset/_done/shard-000001.json: is missing: the shard is not done")


def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(tmp_path: Path, undisturbed: dict[str, str]):
    run = start(tmp_path / "run")
    run = replace(run, store=FullStore(run.store.url, str(tmp_path / "room")))
    with pytest.raises(RunError, match=r"^\S+/shard-00000\d.parquet: cannot be written: No space left.*$"):
        synthesize(run)
    (tmp_path / "room").touch()
    synthesize(run)
    assert hashes(run) == undisturbed


def test_two_drivers_at_once_end_with_one_dataset(tmp_path: Path, undisturbed: dict[str, str]):
    run = start(tmp_path / "run")
    store = LedgerStore(run.store.url, str(tmp_path / "ledger"))
    run = replace(run, store=store)
    other = threading.Thread(target=make_dataset, args=(run,))
    other.start()
    synthesize(run)
    other.join()
    assert hashes(run) == undisturbed
    assert verify(run, deep=True) == []
    assert len(set(store.noted("new"))) == len(store.noted("new")) == FILES


def test_the_same_bytes_reach_s3(s3_bucket: str, s3_endpoint: str, undisturbed: dict[str, str]):
    run = color_run(f"s3://{s3_bucket}/run", *OPTIONS, f"storage.endpoint_url={s3_endpoint}")
    synthesize(run)
    assert hashes(run) == undisturbed
    assert verify(run, deep=True) == []


def test_other_models_or_references_are_refused_by_name(tmp_path: Path):
    run = start(tmp_path / "run")
    make_dataset(run)
    run.store.delete("dataset/_done/shard-000003.json")
    run.store.delete("dataset/index.json")
    before = hashes(run)
    with pytest.raises(ConfigError, match=r"generator: '9e9e.*' -> 'abab") as refused:
        synthesize(run, ColorGenerator(fingerprint="ab" * 32))
    assert "references" not in str(refused.value)
    put_references(run.store, references(6, seed=1))
    with pytest.raises(ConfigError, match=r"packing/references.parquet: "):
        synthesize(run)
    assert hashes(run) == before


def test_damaged_shards_are_found_by_resume_and_remade_only_by_repair(tmp_path: Path, undisturbed: dict[str, str]):
    run = start(tmp_path / "run")
    make_dataset(run)
    cut, lost, flipped = (f"dataset/parquet/shard-00000{shard}.parquet" for shard in (0, 1, 3))
    run.store.put(cut, run.store.read(cut)[:-9])
    run.store.delete(lost)
    run.store.put(flipped, run.store.read(flipped)[:-100] + bytes(100))
    damaged = hashes(run)
    with pytest.raises(
        RunError, match=r"synthesis.repair=true(.|\n)*00.parquet: must have the(.|\n)*01.parquet: is miss"
    ):
        synthesize(run)
    assert hashes(run) == damaged
    mended = LedgerStore(run.store.url, str(tmp_path / "ledger"))
    synthesize(replace(start(tmp_path / "run", "synthesis.repair=true"), store=mended))
    assert hashes(run) == undisturbed
    assert verify(run, deep=True) == []
    assert not [name for name in mended.noted("new") + mended.noted("adopted") if "shard-000002" in name]


def test_references_that_cannot_be_used_are_named_before_anything_is_drawn(tmp_path: Path):
    run = start(tmp_path / "run")
    whole = run.store.read(REFERENCES)
    spoiled = references(6)
    spoiled[3, 2] = float("nan")
    put_references(run.store, spoiled)
    with pytest.raises(EmbeddingError, match=r"references.parquet: every row must be finite"):
        synthesize(run)
    put_references(run.store, references(5))
    with pytest.raises(EmbeddingError, match=r"references.parquet: must hold the identities 0 to 5"):
        synthesize(run)
    run.store.put(REFERENCES, whole[:-50])
    with pytest.raises(EmbeddingError, match=r"references.parquet: is not a readable embedding table"):
        synthesize(run)
    run.store.delete(REFERENCES)
    with pytest.raises(RunError, match=r"references.parquet: there are no references yet; run the pack job first"):
        synthesize(run)
    assert run.store.list("dataset") == {}
