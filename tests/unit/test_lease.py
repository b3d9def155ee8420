"""Stores that do not honour If-None-Match: found out by a probe, written by one driver at a time."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from color_world import color_run, hashes, make_dataset
from fault_proxy import FaultProxy, fault_proxy
from waiting import wait_for

from hyperface.config import StorageConfig
from hyperface.errors import RunError
from hyperface.run.lease import only_driver
from hyperface.run.names import LEASE
from hyperface.storage import LocalStore, S3Store, Store, open_store

FAST = {"beat_s": 0.1, "stale_s": 2.0, "settle_s": 0.2}
ALIVE = {**FAST, "stale_s": 30.0}
"""Times for drivers that nobody may take for dead, however slow the machine is."""
MINUTES = 240
"""Seconds, more than anything here takes on the slowest machine."""
OTHER = b'{"id": "other", "host": "elsewhere", "pid": 7, "beat": 1}'


@pytest.fixture
def never_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, no driver takes itself for one that stood still."""
    monkeypatch.setattr("hyperface.run.lease.SILENT", 1e9)


class OldDisk(LocalStore):
    """A disk that is treated like a server without conditional writes."""

    @property
    def one_writer_wins(self) -> bool:
        return False


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[FaultProxy]:
    with fault_proxy(s3_endpoint) as proxy:
        yield proxy


@pytest.fixture
def refused() -> tuple[int, str] | None:
    """Return a server's answer to a conditional write; None: as to any other."""
    return 501, "NotImplemented"


@pytest.fixture
def old_store(refused: tuple[int, str] | None, proxy: FaultProxy, s3_bucket: str) -> Store:
    """Return the store as a job gets it from a server that does not know conditional writes."""
    if refused is None:
        proxy.without.add("if-none-match")
    else:
        proxy.answer(*refused, when=lambda asked: "if-none-match" in asked.headers, times=-1)
    return open_store(f"s3://{s3_bucket}/run", StorageConfig(endpoint_url=proxy.url, patience_s=2)).prepared()


def lease_of(store: Store) -> dict[str, object]:
    return dict(json.loads(store.read(LEASE)))


def drive(store: Store, happens: Callable[[], None] = lambda: None) -> None:
    """A stage that works until it is interrupted, and what happens meanwhile."""
    with only_driver(store, **FAST):
        happens()
        threading.Event().wait(MINUTES)
        pytest.fail("went on without its lease")


def test_a_server_with_conditional_writes_is_found_out_and_nothing_stays_behind(proxy: FaultProxy, s3_bucket: str):
    store = open_store(f"s3://{s3_bucket}/run", StorageConfig(endpoint_url=proxy.url)).prepared()
    assert store.one_writer_wins
    with only_driver(store):
        assert store.list() == {}


@pytest.mark.parametrize("refused", [None, (501, "NotImplemented"), (400, "InvalidArgument")])
def test_a_server_without_them_is_found_out_and_its_names_are_compared(old_store: Store, capsys):
    assert not old_store.one_writer_wins
    assert old_store.list() == {}
    assert old_store.put_new("x", b"1")
    assert not old_store.put_new("x", b"2")
    assert old_store.read("x") == b"1"


def test_a_write_that_is_refused_for_another_reason_is_no_missing_feature(proxy: FaultProxy, s3_bucket: str):
    proxy.answer(403, "AccessDenied", when=lambda asked: "if-none-match" in asked.headers, times=-1)
    with pytest.raises(OSError, match="access denied"):
        open_store(f"s3://{s3_bucket}/run", StorageConfig(endpoint_url=proxy.url)).prepared()


def test_a_second_driver_is_refused_by_name_while_the_first_is_at_work(old_store: Store):
    with only_driver(old_store, **ALIVE):
        second = only_driver(old_store, **ALIVE)
        with pytest.raises(RunError, match=r"another driver, process \d+ of .*delete s3://.*_driver.json"):
            second.__enter__()
        assert lease_of(old_store)["id"]
    assert old_store.list() == {}


def test_of_two_drivers_that_start_together_one_goes_on(old_store: Store):
    began, outcomes = threading.Barrier(2), []

    def drive() -> None:
        began.wait()
        try:
            with only_driver(old_store, **ALIVE):
                outcomes.append("went on")
                ended.wait(MINUTES)
        except RunError:
            outcomes.append("was refused")
            ended.set()

    ended = threading.Event()
    drivers = [threading.Thread(target=drive) for _ in range(2)]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    assert sorted(outcomes) == ["was refused", "went on"]


@pytest.mark.usefixtures("never_silent")
def test_the_lease_of_a_dead_driver_is_taken_over(old_store: Store):
    old_store.put(LEASE, b'{"id": "dead", "host": "elsewhere", "pid": 1, "beat": 7}')
    with only_driver(old_store, **{**FAST, "stale_s": 0.5}):
        assert lease_of(old_store)["id"] != "dead"
    assert not old_store.exists(LEASE)


@pytest.mark.usefixtures("never_silent")
def test_a_driver_whose_lease_was_taken_stops_and_leaves_the_others(old_store: Store):
    with pytest.raises(RunError, match="process 7 of elsewhere"):
        drive(old_store, lambda: old_store.put(LEASE, OTHER))
    assert lease_of(old_store)["id"] == "other"


@pytest.mark.usefixtures("never_silent")
def test_a_driver_of_another_thread_hears_at_its_end_that_its_lease_was_taken(tmp_path: Path):
    seen, told = threading.Event(), list[str]()

    class WatchedDisk(OldDisk):
        def read(self, name: str) -> bytes:
            data = super().read(name)
            if data == OTHER:
                seen.set()
            return data

    store = WatchedDisk(str(tmp_path))

    def drive() -> None:
        try:
            with only_driver(store, **FAST):
                store.put(LEASE, OTHER)
                assert seen.wait(MINUTES)
        except RunError as error:
            told.append(str(error))

    driver = threading.Thread(target=drive)
    driver.start()
    driver.join()
    assert "process 7 of elsewhere" in told[0]


def test_errors_that_pass_before_the_lease_is_stale_do_not_end_the_beats(
    proxy: FaultProxy, old_store: S3Store, s3_endpoint: str
):
    around = open_store(old_store.url, StorageConfig(endpoint_url=s3_endpoint))  # the errors are the driver's alone

    def beat() -> int:
        return int(str(lease_of(around)["beat"]))

    with only_driver(old_store, **ALIVE):
        proxy.answer(503, "SlowDown", when=lambda asked: LEASE in asked.path, times=3)
        before = beat()
        wait_for(lambda: beat() >= before + 2)  # one may have been under way before the errors


def test_a_driver_stops_before_its_lease_is_stale_however_patient_its_store(proxy: FaultProxy, s3_bucket: str):
    proxy.without.add("if-none-match")
    settings = StorageConfig(endpoint_url=proxy.url, patience_s=600)
    store = open_store(f"s3://{s3_bucket}/run", settings).prepared()
    with pytest.raises(RunError, match=r"_driver.json: was not rewritten for .*SlowDown.*same command"):
        drive(store, lambda: proxy.answer(503, "SlowDown", when=lambda asked: LEASE in asked.path, times=-1))


def test_a_beat_that_was_slow_does_not_take_the_lease_back(tmp_path: Path):
    class SlowDisk(OldDisk):
        def read(self, name: str) -> bytes:
            data = super().read(name)
            if name == LEASE and threading.current_thread() is not threading.main_thread():
                LocalStore.put(self, LEASE, OTHER)  # somebody who saw it stand still
                time.sleep(FAST["stale_s"])
            return data

    store = SlowDisk(str(tmp_path))
    with pytest.raises(RunError, match="was not rewritten"):
        drive(store)
    assert lease_of(store)["id"] == "other"


@pytest.mark.usefixtures("never_silent")
def test_a_lease_that_is_lost_while_it_is_written_is_noticed_in_the_same_beat(tmp_path: Path):
    class SharedDisk(OldDisk):
        written = 0

        def put(self, name: str, data: bytes) -> None:
            super().put(name, data)
            SharedDisk.written += 1
            if SharedDisk.written == 2:
                super().put(name, OTHER)

        def read(self, name: str) -> bytes:
            if SharedDisk.written > 2:
                pytest.fail("wrote again")
            found = super().read(name)
            if SharedDisk.written == 2:
                super().delete(name)  # only one look is given
            return found

    with pytest.raises(RunError, match="process 7 of elsewhere"):
        drive(SharedDisk(str(tmp_path)))


@pytest.mark.parametrize("damaged", [b"", b"5", b"[1]", b"{", b"\xff"])
def test_a_damaged_lease_is_named_with_the_fix(tmp_path: Path, damaged: bytes):
    store = OldDisk(str(tmp_path))
    store.put(LEASE, damaged)
    with pytest.raises(RunError, match=r"_driver.json: is not the lease of a driver; .*delete it"):
        only_driver(store, **FAST).__enter__()


def test_a_dataset_on_an_old_server_is_the_same(proxy: FaultProxy, s3_bucket: str, tmp_path):
    make_dataset(color_run(tmp_path / "run"))
    proxy.without.add("if-none-match")
    run = color_run(f"s3://{s3_bucket}/run", f"storage.endpoint_url={proxy.url}")
    assert isinstance(run.store, S3Store)
    assert not run.store.conditional
    make_dataset(run)
    assert hashes(run) == hashes(color_run(tmp_path / "run"))


def test_dangling_uploads_are_mentioned_once_and_only_those_of_the_run(s3_endpoint: str, s3_bucket: str, capsys):
    store = open_store(f"s3://{s3_bucket}/run", StorageConfig(endpoint_url=s3_endpoint))
    assert isinstance(store, S3Store)
    store._fs.call_s3("create_multipart_upload", Bucket=s3_bucket, Key="running/elsewhere")
    store.prepared()
    assert capsys.readouterr().out == ""
    store._fs.call_s3("create_multipart_upload", Bucket=s3_bucket, Key="run/shard")
    store.prepared()
    assert "1 unfinished multipart uploads" in capsys.readouterr().out
