"""An S3 server that fails in passing or for good: what is tried again, for how long, and what is said."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from fault_proxy import FaultProxy, Request, fault_proxy, gets, puts

from hyperface.config import StorageConfig, load
from hyperface.errors import ConfigError, StorageError
from hyperface.run import existing_run, open_run
from hyperface.storage import S3Store, bounded, open_store, refusals, s3


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[FaultProxy]:
    with fault_proxy(s3_endpoint) as proxy:
        yield proxy


@pytest.fixture
def store(proxy: FaultProxy, s3_bucket: str) -> S3Store:
    store = open_store(f"s3://{s3_bucket}/run", StorageConfig(endpoint_url=proxy.url, patience_s=20))
    assert isinstance(store, S3Store)
    return store


def every(request: Request) -> bool:
    return True


@pytest.mark.parametrize(
    ("status", "code"),
    [(500, "InternalError"), (503, "SlowDown"), (503, "ServiceUnavailable")],
)
def test_a_server_error_is_tried_again(proxy: FaultProxy, store: S3Store, status: int, code: str):
    store.put("x", b"1")
    proxy.answer(status, code, when=every, times=2)
    assert store.read("x") == b"1"
    proxy.answer(status, code, when=every, times=2)
    assert store.put_new("y", b"2")
    proxy.answer(status, code, when=every, times=2)
    assert store.list() == {"x": 1, "y": 1}
    proxy.answer(status, code, when=every, times=2)
    assert store.size("y") == 1


def test_an_upload_that_the_server_found_too_slow_or_damaged_is_tried_again(proxy: FaultProxy, store: S3Store):
    proxy.answer(400, "RequestTimeout", when=puts("x"))
    proxy.answer(400, "BadDigest", when=puts("x"))
    assert store.put_new("x", b"1")


def test_a_reset_connection_is_tried_again(proxy: FaultProxy, store: S3Store):
    proxy.drop(when=puts("x"))
    store.put("x", b"1")
    proxy.cut(when=gets("x"))
    assert store.read("x") == b"1"


def test_a_write_whose_answer_was_lost_is_the_writers_own(proxy: FaultProxy, store: S3Store):
    proxy.cut(when=puts("shard"))
    assert store.put_new("shard", b"bytes")
    assert [status for method, _, status in proxy.journal if method == "PUT"] == [200, 412]
    assert store.read("shard") == b"bytes"


def test_a_name_that_another_writer_took_before_a_failing_attempt_stays_the_others(proxy: FaultProxy, store: S3Store):
    store.put("shard", b"other")
    proxy.answer(500, "InternalError", when=puts("shard"))
    assert not store.put_new("shard", b"bytes")
    assert store.read("shard") == b"other"


def test_a_conflict_of_two_conditional_writes_is_tried_again(proxy: FaultProxy, store: S3Store):
    proxy.answer(409, "ConditionalRequestConflict", when=puts("shard"), times=2)
    assert store.put_new("shard", b"bytes")
    proxy.answer(409, "ConditionalRequestConflict", when=puts("shard"))
    assert not store.put_new("shard", b"others")


def test_a_server_that_does_not_answer_is_noticed_and_asked_again(proxy: FaultProxy, store: S3Store):
    proxy.delay(60, when=puts("x"))
    assert replace(store, answer_s=1.0).put_new("x", b"1")
    assert proxy.count("PUT", "/x", 200) == 1
    assert proxy.count("PUT", "/x", 412) == 1


def test_a_server_that_stops_reading_an_upload_is_noticed(s3_bucket: str, monkeypatch: pytest.MonkeyPatch):
    """The server takes the connection and then no byte: nothing that waits for an answer runs out."""
    monkeypatch.setattr(bounded, "SLOWEST_BYTES_S", 10**8)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        endpoint = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        store = S3Store(f"s3://{s3_bucket}/run", endpoint, addressing_style="path", patience_s=0, answer_s=1.0)
        with pytest.raises(StorageError, match=r"run/x: the object store cannot be reached"):
            store.put("x", bytes(20_000_000))


def test_an_outage_within_the_patience_is_waited_for(proxy: FaultProxy, store: S3Store):
    store.put("x", b"1")
    proxy.refuse()
    threading.Timer(0.5, proxy.listen).start()
    assert store.read("x") == b"1"


def test_an_outage_beyond_the_patience_is_one_clear_error(proxy: FaultProxy, store: S3Store):
    proxy.refuse()
    began = time.monotonic()
    with pytest.raises(
        StorageError, match=r"^s3://\S+/run/x: the object store cannot be reached .*storage.endpoint_url"
    ):
        replace(store, patience_s=1).put_new("x", b"1")
    assert time.monotonic() - began < 60
    proxy.listen()
    proxy.answer(503, "SlowDown", when=every, times=-1)
    with pytest.raises(StorageError, match=r"run/x: the object store answers SlowDown .*still after"):
        replace(store, patience_s=1).put_new("x", b"1")
    with pytest.raises(StorageError, match=r"^.*\Z"):  # one line
        replace(store, patience_s=0).read("x")


def test_a_refusal_is_not_tried_again(proxy: FaultProxy, store: S3Store):
    for status, code in ((403, "AccessDenied"), (501, "NotImplemented"), (404, "NoSuchBucket")):
        proxy.answer(status, code, when=every)
        with pytest.raises(StorageError, match=r"run/x: "):
            store.put_new("x", b"1")
    assert proxy.journal == []


def test_a_file_that_is_read_in_pieces_is_as_patient(proxy: FaultProxy, store: S3Store):
    data = bytes(range(256)) * 40_000
    store.put("x", data)
    with store.open("x") as file:
        proxy.answer(503, "SlowDown", when=gets("/x"), times=2)
        assert file.read(1000) == data[:1000]
        proxy.cut(when=gets("/x"))
        file.seek(-500, 2)
        assert file.read() == data[-500:]
        file.seek(0)
        before = len(proxy.journal)
        assert file.read() == data
        assert len(proxy.journal) == before + 1


def test_a_job_that_meets_no_server_says_so_within_seconds(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(s3, "FIRST_CONTACT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as free:
        dead = f"http://127.0.0.1:{free.getsockname()[1]}"
    storage = [f"storage.endpoint_url={dead}", "storage.patience_s=600"]
    began = time.monotonic()
    with pytest.raises(StorageError, match=r"^s3://nowhere/run: the object store cannot be reached"):
        open_run(load(None, ["run.dir=s3://nowhere/run", *storage]))
    with pytest.raises(StorageError, match=r"^s3://nowhere/run: the object store cannot be reached"):
        existing_run("s3://nowhere/run", StorageConfig(endpoint_url=dead))
    assert time.monotonic() - began < 30


def test_a_job_that_meets_a_busy_server_is_patient(proxy: FaultProxy, store: S3Store):
    proxy.answer(503, "SlowDown", when=every, times=5)
    store.reach()


def test_a_bucket_that_vanishes_is_named_by_whatever_comes_next(proxy: FaultProxy, store: S3Store):
    store.put("x", b"1")
    store.delete("x")
    store._fs.rmdir(store.url.removeprefix("s3://").partition("/")[0])
    for call in (lambda: store.put_new("x", b""), lambda: store.read("x"), lambda: store.exists("x"), store.list):
        with pytest.raises(StorageError, match=r"s3://bucket-\w+/run\S*: the bucket does not exist"):
            call()


def test_credentials_in_an_endpoint_are_refused_by_the_configuration_and_in_no_message():
    with pytest.raises(ConfigError, match=r"storage.endpoint_url must name no user or password") as refused:
        load(None, ["run.dir=x", "storage.endpoint_url=http://somebody:sesame@s3.example"])
    assert "sesame" not in str(refused.value)
    said = refusals.advice(ConnectionError("cannot connect to http://somebody:sesame@s3.example"))
    assert "http://s3.example" in said


REACHES = """
import os, sys
from hyperface.storage import open_store
store = open_store(f"s3://{sys.argv[1]}/run")
print(store.put_new("x", b"1"), store._fs._s3.meta.endpoint_url, store._fs._s3.meta.region_name)
"""


@pytest.mark.parametrize("way", ["environment", "file"])
def test_endpoint_and_region_come_from_the_usual_aws_settings(s3_bucket: str, proxy: FaultProxy, tmp_path, way: str):
    """Endpoint and region are given neither in the configuration nor in code."""
    given = {"AWS_ACCESS_KEY_ID": "testkey", "AWS_SECRET_ACCESS_KEY": "testsecret", "HOME": str(tmp_path)}
    if way == "environment":
        given |= {"AWS_ENDPOINT_URL": proxy.url, "AWS_REGION": "eu-central-1"}
    else:
        file = tmp_path / "config"
        file.write_text(f"[default]\nendpoint_url = {proxy.url}\nregion = eu-central-1\n")
        given |= {"AWS_CONFIG_FILE": str(file)}
    command = [sys.executable, "-c", REACHES, s3_bucket]
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", proxy.url, "eu-central-1"], done.stderr


def reads(part: str) -> Callable[[Request], bool]:
    return lambda asked: asked.method in ("GET", "HEAD") and part in asked.path and "list-type" not in asked.path


def test_what_may_only_be_listed_is_not_there_when_access_to_it_is_denied(proxy: FaultProxy, store: S3Store):
    proxy.answer(403, "AccessDenied", when=reads("marker"), times=-1)
    assert not store.exists("marker.json")
    with pytest.raises(FileNotFoundError):
        store.read("marker.json")
    store.put("marker.json", b"{}")
    with pytest.raises(StorageError, match="access denied"):
        store.read("marker.json")
    with pytest.raises(StorageError, match="access denied"):
        store.exists("marker.json")
