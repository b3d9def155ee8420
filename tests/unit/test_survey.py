"""Findings of one listing of a dataset: a job that goes on reads no marker before it begins."""

from pathlib import Path

from hyperface.config import Config
from hyperface.dataset import Dataset
from hyperface.dataset.marker import Quarantine
from hyperface.dataset.plan import Plan, marker_file, quarantine_file, shard_file
from hyperface.storage import open_store

PLAN = Plan(seed=0, num_identities=6, images_per_identity=5, images_per_shard=8)


def test_a_glance_tells_done_lost_missing_and_quarantined_shards_by_their_names_alone(tmp_path: Path):
    store = open_store(str(tmp_path))
    dataset = Dataset(store, Config(), PLAN, ("parquet",))
    for shard in (0, 1):
        store.put(marker_file(shard), b"what nobody reads")
    for name in (shard_file("parquet", 0), shard_file("parquet", 2)):
        store.put(name, b"data")
    for shard in (0, 3):
        store.put(
            quarantine_file(shard), Quarantine(shard, 3, "its actor died", "2026-01-02T03:04:05+00:00").to_bytes()
        )
    seen = dataset.glance()
    assert (seen.done, seen.missing, seen.settled) == ([0, 1], [2, 3], [0])
    assert seen.damaged == {1: f"{store.uri(shard_file('parquet', 1))}: is missing although its marker is there"}
    assert list(seen.quarantined) == [3]
    assert "its actor died" in seen.quarantined[3]
    read = dataset.survey()
    assert (read.done, read.missing, read.quarantined) == (seen.done, seen.missing, seen.quarantined)
    assert read.markers == {}
    assert sorted(read.damaged) == [0, 1]
    assert "is not a shard's done marker" in read.damaged[0]
