"""Bytes first, marker last, the first writer wins: on a local disk and on S3 (moto)."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hyperface.config import Config, StorageConfig
from hyperface.dataset import Dataset, jpeg, parquet, webdataset
from hyperface.dataset.commit import adopt, check_size, commit, record, sweep
from hyperface.dataset.marker import Marker, Reject, Statistics
from hyperface.dataset.plan import Format, Plan
from hyperface.dataset.schema import Sample
from hyperface.errors import ConfigError, ShardError, StorageError
from hyperface.storage import LARGEST_OBJECT, LocalStore, S3Store, Store, open_store

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
OTHER_FILES = [(name, data + b" of another world") for name, data in FILES]
OTHER = replace(MARKER, files=tuple(record(name, data) for name, data in OTHER_FILES))
DONE = "dataset/_done/shard-000002.json"
PENDING = "dataset/_pending/shard-000002.json"
PLAN = Plan(seed=0, num_identities=3, images_per_identity=5, images_per_shard=5)
KINDS: tuple[Format, ...] = ("parquet", "webdataset")


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
    written = Marker.from_bytes(store.read(DONE), DONE)
    assert replace(written, etags={}) == MARKER
    assert set(written.etags) == (set(dict(FILES)) if isinstance(store, S3Store) else set())
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
    commit(store, OTHER_FILES, OTHER, repair=False)
    commit(store, FILES, MARKER, repair=True)
    assert {name: store.read(name) for name, _ in FILES} == dict(FILES)
    assert Marker.from_bytes(store.read(DONE), DONE).agrees(MARKER)


def test_a_repair_that_dies_leaves_no_marker_on_other_bytes(tmp_path: Path):
    commit(LocalStore(str(tmp_path)), FILES, MARKER, repair=False)
    with pytest.raises(Stopped):
        commit(StoppingStore(str(tmp_path)), OTHER_FILES, OTHER, repair=True)
    assert not LocalStore(str(tmp_path)).exists(DONE)


class RepairStopped(LocalStore):
    """A disk whose writer dies when it replaces the last file."""

    def put(self, name: str, data: bytes) -> None:
        if name == FILES[-1][0]:
            raise Stopped
        super().put(name, data)


@pytest.mark.parametrize("damage", [b"", b"memb", b"MEMBERS"])
def test_a_repair_that_dies_between_two_files_is_finished_without_repair(tmp_path: Path, damage: bytes):
    store = LocalStore(str(tmp_path))
    commit(store, FILES, MARKER, repair=False)
    for name, _ in FILES:
        store.put(name, damage)
    with pytest.raises(Stopped):
        commit(RepairStopped(str(tmp_path)), FILES, MARKER, repair=True)
    assert not store.exists(DONE)
    assert adopted(store) is None
    commit(store, FILES, MARKER, repair=False)
    assert {name: store.read(name) for name, _ in FILES} == dict(FILES)
    assert set(store.list()) == {DONE, *dict(FILES)}


def test_a_note_that_announces_other_files_replaces_nothing(store: Store):
    store.put(PENDING, OTHER.to_bytes())
    store.put(FILES[0][0], b"other")
    for _ in range(2):  # a refusal announces nothing to the next attempt
        with pytest.raises(ShardError, match="holds other bytes"):
            commit(store, FILES, MARKER, repair=False)
    assert store.read(FILES[0][0]) == b"other"


def test_a_repair_is_announced_before_the_marker_goes(tmp_path: Path):
    class NoteStopped(LocalStore):
        def put(self, name: str, data: bytes) -> None:
            raise Stopped

    commit(LocalStore(str(tmp_path)), FILES, MARKER, repair=False)
    with pytest.raises(Stopped):
        commit(NoteStopped(str(tmp_path)), FILES, MARKER, repair=True)
    assert LocalStore(str(tmp_path)).exists(DONE)


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
    [b"", b"{", b"[]", b"{}", MARKER.to_bytes()[:-30], MARKER.to_bytes().replace(b"sha256", b"sha1")],
)
def test_a_damaged_marker_is_refused_by_name(damaged: bytes):
    with pytest.raises(ValueError, match=r"m.json: is not a shard's done marker"):
        Marker.from_bytes(damaged, "m.json")


def adopted(
    store: Store, plan: Plan = PLAN, kinds: tuple[Format, ...] = KINDS, digest: str = "f" * 64
) -> Marker | None:
    return adopt(Dataset(store, Config(), plan, kinds), 2, digest)


def interrupted(store: Store) -> Store:
    """A shard whose writer died between data and marker."""
    store.put(PENDING, MARKER.to_bytes())
    for name, data in FILES:
        store.put_new(name, data)
    return store


def test_a_shard_that_lacks_only_its_marker_is_finished_from_its_note(store: Store):
    found = adopted(interrupted(store))
    assert found is not None
    assert found.agrees(MARKER)
    assert Marker.from_bytes(store.read(DONE), DONE) == found
    assert set(store.list()) == {DONE, *dict(FILES)}
    assert adopted(store) == found


def test_a_writer_that_dies_before_its_marker_leaves_what_is_adopted(tmp_path: Path):
    with pytest.raises(Stopped):
        commit(StoppingStore(str(tmp_path)), FILES, MARKER, repair=False)
    assert adopted(LocalStore(str(tmp_path))) == MARKER


def test_nothing_is_adopted_where_nothing_was_begun(store: Store):
    assert adopted(store) is None
    assert store.list() == {}


@pytest.mark.parametrize("missing", [name for name, _ in FILES])
def test_a_shard_without_one_of_its_files_is_not_adopted(store: Store, missing: str):
    interrupted(store).delete(missing)
    assert adopted(store) is None
    assert not store.exists(DONE)


@pytest.mark.parametrize("damage", [b"", b"colum", b"COLUMNS", b"columns and more"])
def test_a_shard_with_other_bytes_than_its_note_says_is_not_adopted(store: Store, damage: bytes):
    interrupted(store).put(FILES[0][0], damage)
    assert adopted(store) is None
    assert not store.exists(DONE)


@pytest.mark.parametrize(
    "note",
    [
        b"",
        MARKER.to_bytes()[:-40],
        replace(MARKER, shard=1).to_bytes(),
        replace(MARKER, fingerprint="0" * 64).to_bytes(),
        replace(MARKER, rows=4).to_bytes(),
        replace(MARKER, files=MARKER.files[:1]).to_bytes(),
    ],
    ids=["empty", "cut", "another shard", "another fingerprint", "another plan", "another format"],
)
@pytest.mark.parametrize("place", [PENDING, DONE])
def test_a_note_or_marker_of_something_else_is_not_adopted(tmp_path: Path, note: bytes, place: str):
    store = interrupted(LocalStore(str(tmp_path)))
    store.delete(PENDING)
    store.put(place, note)
    assert adopted(store) is None


def test_a_shard_that_another_driver_finished_is_not_made_again(store: Store):
    commit(store, FILES, MARKER, repair=False)
    found = adopted(store)
    assert found is not None
    assert found.agrees(MARKER)


def test_notes_of_finished_shards_are_swept_and_those_of_others_kept(store: Store):
    commit(store, FILES, MARKER, repair=False)
    other = PENDING.replace("000002", "000001")
    for name in (PENDING, other):
        store.put(name, b"{}")
    sweep(store, store.list())
    assert set(store.list()) == {DONE, other, *dict(FILES)}


def test_an_etag_is_what_the_server_calls_the_file(s3_bucket: str, s3_endpoint: str):
    store = open_store(f"s3://{s3_bucket}/run", StorageConfig(endpoint_url=s3_endpoint))
    written = commit(store, FILES, MARKER, repair=False)
    assert written.etags == {name: hashlib.md5(data).hexdigest() for name, data in FILES}
    assert Marker.from_bytes(store.read(DONE), DONE) == written


def test_a_marker_from_before_etags_is_read(store: Store):
    old = {name: value for name, value in json.loads(MARKER.to_bytes()).items() if name != "etags"}
    assert Marker.from_bytes(json.dumps(old).encode(), "m.json") == MARKER


def test_shards_that_could_outgrow_one_put_are_refused_with_the_number_that_fits():
    with pytest.raises(
        ConfigError, match=r"synthesis.images_per_shard must be at most (\d+) for images of 112"
    ) as error:
        check_size(10_000_000, image_size=112, embedding_dim=512)
    most = int(re.findall(r"at most (\d+) for", str(error.value))[0])
    check_size(most, image_size=112, embedding_dim=512)
    with pytest.raises(ConfigError):
        check_size(most + 1, image_size=112, embedding_dim=512)


@pytest.mark.parametrize("size", [16, 64, 112])
def test_no_image_is_larger_than_the_planning_counts_it(size: int):
    """Random black and white pixels are the worst that JPEG can be given."""
    picture = np.random.default_rng(0).integers(0, 2, (size, size, 3)).astype(np.uint8) * 255
    noise_d = np.random.default_rng(1).normal(size=512).astype(np.float32)
    sample = Sample("0000001-0002", 1, 2, jpeg.encode(picture, 100), 2**63 - 1, 9, 0.123456, noise_d)
    most = max(len(webdataset.to_bytes([sample] * 100)), len(parquet.to_bytes([sample] * 100, 512))) / 100
    with pytest.raises(ConfigError):
        check_size(int(LARGEST_OBJECT / most) + 1, size, 512)


def test_a_file_larger_than_one_put_is_refused_before_it_is_sent(tmp_path: Path):
    class Large(bytes):
        def __len__(self) -> int:
            return LARGEST_OBJECT * 3

    with pytest.raises(ShardError, match=r"parquet: has \d+ bytes; .*synthesis.images_per_shard to 1 or less"):
        commit(LocalStore(str(tmp_path)), [(FILES[0][0], Large(b"x"))], MARKER, repair=False)
    assert LocalStore(str(tmp_path)).list() == {}
