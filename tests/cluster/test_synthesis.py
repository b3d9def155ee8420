"""Synthesis on Ray: the bytes of one process, whoever else writes, and no byte that does not belong to the run."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import steerable_world
from color_world import ColorGenerator, color_run, hashes, make_dataset, put_references, references
from faults import LedgerStore, NotingGenerator, PatientStore
from small_stage import FILES, OPTIONS, PLAN, start, synthesize
from steerable_world import STEERED

from cluster.synthesis import synthesize_stage
from hyperface.dataset import Dataset, verify
from hyperface.errors import ConfigError, EmbeddingError, RunError
from hyperface.run.names import INDEX, REFERENCES
from hyperface.synthesis import single

ray.cloudpickle.register_pickle_by_value(steerable_world)
pytestmark = pytest.mark.usefixtures("ray_cluster")


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
    assert {identity for shard in Dataset.of(other) for identity in shard.identities} == set(range(6, 12))


def test_ray_steers_images_and_draws_misses_again_like_one_process(tmp_path: Path):
    reader = ("control.attributes=onnx", "control.attribute_path=elsewhere", f"control.attribute_sha256={'a7' * 32}")
    steered = (*STEERED, *reader, "control.steps=2", "synthesis.beta=0.2")
    one, other = (start(tmp_path / name, *steered) for name in ("one", "other"))
    single.make_dataset(one, steerable_world.models())
    synthesize_stage(other, lambda _: steerable_world.models())
    assert hashes(other) == hashes(one)
    assert verify(other, deep=True) == []
    index = other.get_json(INDEX)
    assert index["redraws"] > 0
    assert index["control"]["red"]["met"] + index["control"]["red"]["not_met"] == index["images"] == 30


def test_two_drivers_at_once_end_with_one_dataset(tmp_path: Path, undisturbed: dict[str, str]):
    run = start(tmp_path / "run")
    store = LedgerStore(run.store.url, ledger=str(tmp_path / "ledger"))
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
    mended = LedgerStore(run.store.url, ledger=str(tmp_path / "ledger"))
    synthesize(replace(start(tmp_path / "run", "synthesis.repair=true"), store=mended))
    assert hashes(run) == undisturbed
    assert verify(run, deep=True) == []
    assert not [name for name in mended.noted("new") + mended.noted("adopted") if "shard-000002" in name]


def test_a_truncated_shard_keeps_the_index_back_but_not_the_shards_that_are_missing(tmp_path: Path):
    run = start(tmp_path / "run")
    make_dataset(run)
    cut, missing = "dataset/parquet/shard-000000.parquet", "dataset/_done/shard-000003.json"
    run.store.put(cut, run.store.read(cut)[:-9])
    run.store.delete(missing)
    with pytest.raises(RunError, match=r"synthesis.repair=true(.|\n)*00.parquet: must have the"):
        synthesize(run)
    assert run.store.exists(missing)
    assert not run.store.exists("dataset/index.json")


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


def test_a_shard_is_uploaded_while_the_next_one_is_generated_and_one_thread_generates_at_a_time(
    tmp_path: Path, undisturbed: dict[str, str]
):
    """The first upload ends only when the generator has gone on to another shard; one actor."""
    run = start(tmp_path / "run", "dataset.format=parquet")
    drawn = tmp_path / "drawn"
    drawn.touch()
    # Four shards of 3 batches and, because some images miss, one more in most of them.
    store = PatientStore(run.store.url, drawn=str(drawn), calls=12)
    synthesize(replace(run, store=store), NotingGenerator(miss_every=5, drawn=str(drawn)))
    assert set(drawn.read_text().split()) == {"1"}
    shards = {name: sha for name, sha in undisturbed.items() if "/parquet/" in name}
    assert shards.items() <= hashes(run).items()
