"""Bytes first, marker last, the first writer wins: on a local disk and on S3 (moto)."""

from dataclasses import replace
from pathlib import Path

import pytest

from hyperface.config import StorageConfig
from hyperface.dataset import marker as markers
from hyperface.dataset.commit import ShardError, commit, record
from hyperface.dataset.marker import Marker, Reject, Statistics
from hyperface.storage import LocalStore, StorageError, Store, open_store

FILES = [("dataset/parquet/shard-000002.parquet", b"columns"), ("dataset/webdataset/shard-000002.tar", b"members")]
MARKER = Marker(
    shard=2,
    files=tuple(record(name, data) for name, data in FILES),
    rows=3,
    rejects=(
        Reject("0000001-0002", 1, 2, 3, None, "error", "generator: broke"),
        Reject("0000001-0003", 1, 3, 3, 0.1, "cosine", ""),
    ),
    statistics=Statistics(draws=9, redraws=4, refused={"error": 3, "cosine": 3}, mean_cosine=0.91),
    hashes="",
    seconds={"generate": 1.5},
    fingerprint="f" * 64,
)
DONE = "dataset/_done/shard-000002.json"


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return open_store(str(tmp_path / "run"))
    endpoint, bucket = request.getfixturevalue("s3_endpoint"), request.getfixturevalue("s3_bucket")
    return open_store(f"s3://{bucket}/run", StorageConfig(endpoint_url=endpoint))


class Stopped(Exception):
    pass


class StoppingStore(LocalStore):
    """A disk whose writer dies when it comes to the marker."""

    def put_new(self, name: str, data: bytes) -> bool:
        if "_done" in name:
            raise Stopped
        return super().put_new(name, data)


class ShorteningStore(LocalStore):
    """A disk that loses the end of what it is given."""

    def put_new(self, name: str, data: bytes) -> bool:
        return super().put_new(name, data[:-1])


def test_a_commit_leaves_the_files_and_a_marker_that_describes_them(store: Store):
    commit(store, FILES, MARKER, repair=False)
    assert {name: store.read(name) for name, _ in FILES} == dict(FILES)
    assert markers.from_bytes(store.read(DONE), DONE) == MARKER
    assert set(store.list()) == {DONE, *dict(FILES)}


def test_a_second_commit_of_the_same_shard_changes_nothing(store: Store):
    commit(store, FILES, MARKER, repair=False)
    before = store.read(DONE)
    commit(store, FILES, replace(MARKER, seconds={"generate": 9.9}), repair=False)
    assert store.read(DONE) == before


def test_files_of_a_writer_that_died_before_its_marker_are_adopted(tmp_path: Path):
    with pytest.raises(Stopped):
        commit(StoppingStore(str(tmp_path)), FILES, MARKER, repair=False)
    store = LocalStore(str(tmp_path))
    assert not store.exists(DONE)
    written = (tmp_path / FILES[0][0]).stat().st_ino
    commit(store, FILES, MARKER, repair=False)
    assert store.exists(DONE)
    assert (tmp_path / FILES[0][0]).stat().st_ino == written


@pytest.mark.parametrize("there", [b"", b"col", b"columns of another", b"COLUMNS"])
def test_other_bytes_under_the_name_are_refused_and_kept(store: Store, there: bytes):
    store.put(FILES[0][0], there)
    with pytest.raises(ShardError, match=r"shard-000002.parquet: holds other bytes.*synthesis.repair=true"):
        commit(store, FILES, MARKER, repair=False)
    assert store.read(FILES[0][0]) == there
    assert not store.exists(DONE)


def test_repair_replaces_files_and_marker(store: Store):
    commit(store, [(name, b"old") for name, _ in FILES], replace(MARKER, rows=1), repair=False)
    commit(store, FILES, MARKER, repair=True)
    assert {name: store.read(name) for name, _ in FILES} == dict(FILES)
    assert markers.from_bytes(store.read(DONE), DONE) == MARKER


def test_a_repair_that_dies_leaves_no_marker_on_other_bytes(tmp_path: Path):
    commit(LocalStore(str(tmp_path)), FILES, MARKER, repair=False)
    with pytest.raises(Stopped):
        commit(StoppingStore(str(tmp_path)), [(name, b"new") for name, _ in FILES], MARKER, repair=True)
    assert not LocalStore(str(tmp_path)).exists(DONE)


def test_a_marker_of_another_shard_is_refused(store: Store):
    commit(store, FILES, MARKER, repair=False)
    with pytest.raises(ShardError, match="describes another shard"):
        commit(store, FILES, replace(MARKER, fingerprint="0" * 64), repair=False)


def test_a_storage_that_loses_bytes_is_noticed_before_the_marker(tmp_path: Path):
    store = ShorteningStore(str(tmp_path))
    with pytest.raises((StorageError, ShardError), match=r"shard-000002.parquet"):
        commit(store, FILES, MARKER, repair=False)
    assert not store.exists(DONE)


def test_a_vanished_bucket_is_one_line_with_its_uri(s3_endpoint: str):
    store = open_store("s3://no-such-bucket/run", StorageConfig(endpoint_url=s3_endpoint))
    with pytest.raises(StorageError, match=r"^s3://no-such-bucket/run/dataset/.*the bucket does not exist.*$"):
        commit(store, FILES, MARKER, repair=False)


@pytest.mark.parametrize(
    "damaged",
    [b"", b"{", b"[]", b"{}", markers.to_bytes(MARKER)[:-30], markers.to_bytes(MARKER).replace(b"sha256", b"sha1")],
)
def test_a_damaged_marker_is_refused_by_name(damaged: bytes):
    with pytest.raises(ValueError, match=r"m.json: is not a shard's done marker"):
        markers.from_bytes(damaged, "m.json")
