"""Stores that do not honour If-None-Match: found out by a probe, written by one driver at a time."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from color_world import color_run, hashes, make_dataset
from fault_proxy import FaultProxy, fault_proxy

from hyperface.config import StorageConfig
from hyperface.lease import only_driver
from hyperface.run import LEASE, RunError
from hyperface.storage import S3Store, Store, open_store

FAST = {"beat_s": 0.1, "stale_s": 1.0, "settle_s": 0.2}


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[FaultProxy]:
    with fault_proxy(s3_endpoint) as proxy:
        yield proxy


@pytest.fixture(params=["ignored", "refused with 501", "refused with 400"])
def old_store(request: pytest.FixtureRequest, proxy: FaultProxy, s3_bucket: str) -> Store:
    """As a job gets it from a server that does not know conditional writes."""
    if request.param == "ignored":
        proxy.without.add("if-none-match")
    else:
        status, code = {"501": (501, "NotImplemented"), "400": (400, "InvalidArgument")}[request.param[-3:]]
        proxy.answer(status, code, when=lambda asked: "if-none-match" in asked.headers, times=-1)
    return open_store(f"s3://{s3_bucket}/run", StorageConfig(endpoint_url=proxy.url, patience_s=2)).prepared()


def lease_of(store: Store) -> dict[str, object]:
    return dict(json.loads(store.read(LEASE)))


def test_a_server_with_conditional_writes_is_found_out_and_nothing_stays_behind(proxy: FaultProxy, s3_bucket: str):
    store = open_store(f"s3://{s3_bucket}/run", StorageConfig(endpoint_url=proxy.url)).prepared()
    assert store.one_writer_wins
    with only_driver(store):
        assert store.list() == {}


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
    with only_driver(old_store, **FAST):
        second = only_driver(old_store, **FAST)
        with pytest.raises(RunError, match=r"another driver, process \d+ of .*delete s3://.*_driver.json"):
            second.__enter__()
        assert lease_of(old_store)["id"]
    assert old_store.list() == {}


def test_of_two_drivers_that_start_together_one_goes_on(old_store: Store):
    began, outcomes = threading.Barrier(2), []

    def drive() -> None:
        began.wait()
        try:
            with only_driver(old_store, **FAST):
                outcomes.append("went on")
                ended.wait(5)
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


def test_the_lease_of_a_dead_driver_is_taken_over(old_store: Store):
    old_store.put(LEASE, b'{"id": "dead", "host": "elsewhere", "pid": 1, "beat": 7}')
    with only_driver(old_store, **FAST):
        assert lease_of(old_store)["id"] != "dead"
    assert not old_store.exists(LEASE)


def test_a_driver_whose_lease_was_taken_says_so_and_leaves_the_others(old_store: Store):
    with ExitStack() as driving:
        driving.enter_context(only_driver(old_store, **FAST))
        old_store.put(LEASE, b'{"id": "other", "host": "elsewhere", "pid": 7, "beat": 1}')
        time.sleep(5 * FAST["beat_s"])  # the lease is looked at with every beat
        with pytest.raises(RunError, match="process 7 of elsewhere"):
            driving.close()
    assert lease_of(old_store)["id"] == "other"


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
