"""The one door to bytes, on a local disk and on S3 (moto): first writer wins, nothing half-written, URIs named."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from hyperface.config import StorageConfig
from hyperface.errors import ConfigError, StorageError
from hyperface.storage import S3Store, Store, open_file, open_store


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return open_store(str(tmp_path / "run"))
    endpoint = request.getfixturevalue("s3_endpoint")
    bucket = request.getfixturevalue("s3_bucket")
    return open_store(f"s3://{bucket}/run", StorageConfig(endpoint_url=endpoint))


@pytest.mark.parametrize(
    ("path", "folder", "name"),
    [
        ("/data/sets/lfw.bin", "/data/sets", "lfw.bin"),
        ("file:///data/lfw.bin", "/data", "lfw.bin"),
        ("/lfw.bin", "/", "lfw.bin"),
        ("s3://bucket/sets/lfw.bin", "s3://bucket/sets", "lfw.bin"),
        ("lfw.bin", str(Path.cwd()), "lfw.bin"),
        ("sets/lfw.bin", f"{Path.cwd()}/sets", "lfw.bin"),
    ],
)
def test_a_file_is_found_by_its_folder_and_its_name(path: str, folder: str, name: str):
    store, found = open_file(path, StorageConfig())
    assert (store.url, found) == (folder, name)


def test_what_is_put_is_read_listed_and_sized(store: Store):
    store.put("a/b.bin", b"123")
    store.put("c.bin", b"")
    assert store.read("a/b.bin") == b"123"
    assert store.size("a/b.bin") == 3
    assert store.list() == {"a/b.bin": 3, "c.bin": 0}
    assert store.list("a") == {"a/b.bin": 3}
    with store.open("a/b.bin") as file:
        file.seek(1)
        assert file.read() == b"23"


def test_put_replaces_and_delete_forgets(store: Store):
    store.put("x", b"old")
    store.put("x", b"new")
    assert store.read("x") == b"new"
    store.delete("x")
    store.delete("x")
    assert not store.exists("x")
    assert store.list("nothing") == {}


def test_only_the_first_writer_of_a_name_wins(store: Store):
    assert store.put_new("shard", b"first")
    assert not store.put_new("shard", b"second")
    assert store.read("shard") == b"first"


def test_a_missing_name_is_file_not_found_with_its_uri(store: Store):
    with pytest.raises(FileNotFoundError, match="nope"):
        store.read("nope")


def test_a_store_travels_to_another_process(store: Store):
    store.put("x", b"1")
    assert pickle.loads(pickle.dumps(store)).read("x") == b"1"


def test_a_name_cannot_leave_a_local_store(tmp_path: Path):
    with pytest.raises(StorageError, match="leaves the directory"):
        open_store(str(tmp_path / "run")).put("../outside", b"")


def test_a_full_disk_leaves_nothing_and_names_the_file(tmp_path: Path):
    # A file size limit makes write(2) fail in mid-file just as a full disk does.
    code = (
        "import resource, signal, sys; from hyperface.storage import *\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); store = open_store(sys.argv[1])\n"
        "try: store.put_new('shard', b'x' * 5000)\n"
        "except StorageError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert f"{tmp_path}/shard: cannot be written" in done.stdout, done.stderr
    assert os.listdir(tmp_path) == []


def test_an_interrupted_write_is_never_visible(tmp_path: Path):
    code = (
        "import os, signal, sys; from hyperface.storage import *\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "open_store(sys.argv[1]).put_new('shard', b'x' * 5000)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, check=False)
    assert done.returncode == -9
    assert open_store(str(tmp_path)).list() == {}
    assert open_store(str(tmp_path)).put_new("shard", b"whole")


def test_a_bucket_that_does_not_exist_is_named(s3_endpoint: str):
    store = open_store("s3://no-such-bucket/run", StorageConfig(endpoint_url=s3_endpoint))
    with pytest.raises(
        StorageError, match=r"s3://no-such-bucket/run/x: the bucket does not exist; create it or correct its name"
    ):
        store.put_new("x", b"")


def test_stores_of_one_process_read_the_description_of_s3_once(s3_endpoint: str):
    one, other = (S3Store("s3://bucket/run", s3_endpoint, addressing_style=style) for style in ("path", "virtual"))
    assert one._fs is not other._fs
    assert one._fs.session is other._fs.session is not None


def test_missing_credentials_are_named(s3_endpoint: str, tmp_path: Path):
    code = (
        "import sys; from hyperface.storage import *; from hyperface.config import StorageConfig\n"
        "store = open_store('s3://bucket/run', StorageConfig(endpoint_url=sys.argv[1]))\n"
        "try: store.put_new('x', b'')\n"
        "except StorageError as error: print(error)"
    )
    bare = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    bare |= {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)}
    command = [sys.executable, "-c", code, s3_endpoint]
    done = subprocess.run(command, capture_output=True, text=True, env=bare, check=False)
    assert "s3://bucket/run/x: no AWS credentials found" in done.stdout, done.stderr


@pytest.mark.parametrize("path", ["gs://bucket/x", "s3:///x"])
def test_an_address_of_another_kind_is_refused(path: str):
    with pytest.raises(ConfigError):
        open_store(path)


def test_an_object_that_stands_for_a_folder_is_not_listed(s3_endpoint: str, s3_bucket: str):
    store = S3Store(f"s3://{s3_bucket}/run", s3_endpoint)
    for name in ("x", "", "a/"):
        store._fs.call_s3("put_object", Bucket=s3_bucket, Key=f"run/{name}", Body=b"")
    assert store.list() == {"x": 0}


@pytest.mark.parametrize(("lasts_s", "kept"), [(-1.0, set()), (3600.0, {"_probe-left"})])
def test_probes_of_killed_jobs_are_removed_and_those_in_use_kept(
    s3_endpoint: str, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, lasts_s: float, kept: set[str]
):
    store = open_store(f"s3://{s3_bucket}/run", StorageConfig(endpoint_url=s3_endpoint))
    store.put("_probe-left", b"1")
    store.put("probe", b"1")
    monkeypatch.setattr("hyperface.storage.s3.PROBE_LASTS_S", lasts_s)
    store.prepared()
    assert set(store.list()) == {"probe", *kept}


@pytest.mark.parametrize("before", ["AKIA:hush@", "AKIA:hu/sh@", "hush@", "AKIA:hush"])
def test_credentials_in_an_address_are_refused_and_not_repeated(before: str):
    with pytest.raises(ConfigError, match="credentials come from the standard AWS chain") as error:
        open_store(f"s3://{before}bucket/run")
    assert "hu" not in str(error.value)
