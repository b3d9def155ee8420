"""Exports that read from a bucket and write to one; moto stands in for it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from color_world import ColorGenerator, color_run, make_dataset

from hyperface.config import StorageConfig
from hyperface.dataset.export import FORMATS, Kind, export_run
from hyperface.errors import ConfigError, RunError
from hyperface.run import Run
from hyperface.storage import LocalStore, S3Store, Store, open_store

FILE_BY_FILE: list[Kind] = ["imagefolder", "huggingface"]


@pytest.fixture
def open_bucket(s3_endpoint: str, s3_bucket: str) -> Callable[[str], Store]:
    storage = StorageConfig(endpoint_url=s3_endpoint, addressing_style="path", patience_s=1)
    return lambda prefix: open_store(f"s3://{s3_bucket}/{prefix}", storage)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a disk with its dataset, which no test changes."""
    folder = tmp_path_factory.mktemp("made")
    make_dataset(color_run(folder), ColorGenerator(miss_every=3))
    return folder


@pytest.fixture
def run(made: Path, open_bucket: Callable[[str], Store], tmp_path: Path) -> Run:
    """Return the run in a bucket, and leave a copy of it on a disk to spoil."""
    shutil.copytree(made, tmp_path / "run")
    local = LocalStore(str(made))
    bucket = open_bucket("run")
    for name in local.list():
        bucket.put(name, local.read(name))
    return color_run(tmp_path / "run", store=bucket)


def quiet(run: Run, kind: Kind, store: Store) -> None:
    export_run(run, kind, store, say=lambda line: None)


def content(store: Store) -> dict[str, bytes]:
    return {name: store.read(name) for name in store.list()}


@pytest.mark.parametrize("kind", FORMATS)
def test_a_run_in_a_bucket_is_exported_as_a_local_one(run: Run, tmp_path: Path, kind: Kind):
    quiet(run, kind, open_store(str(tmp_path / "from bucket")))
    quiet(color_run(tmp_path / "run"), kind, open_store(str(tmp_path / "from disk")))
    assert content(open_store(str(tmp_path / "from bucket"))) == content(open_store(str(tmp_path / "from disk")))


@pytest.mark.parametrize("kind", FILE_BY_FILE)
def test_an_export_to_a_bucket_has_the_objects_of_a_local_one(
    run: Run, open_bucket: Callable[[str], Store], tmp_path: Path, kind: Kind
):
    quiet(run, kind, open_bucket("out"))
    quiet(run, kind, open_store(str(tmp_path / "out")))
    assert content(open_bucket("out")) == content(open_store(str(tmp_path / "out")))
    quiet(run, kind, open_bucket("out"))  # finds it done


@pytest.mark.parametrize("kind", FILE_BY_FILE)
def test_an_export_to_a_bucket_goes_on_after_a_failure(
    run: Run, open_bucket: Callable[[str], Store], tmp_path: Path, kind: Kind
):
    name = "dataset/parquet/shard-000002.parquet"
    data = run.store.read(name)
    run.store.put(name, bytes(len(data)))
    with pytest.raises(RunError, match=r"shard-000002\.parquet: must have the SHA-256"):
        quiet(run, kind, open_bucket("out"))
    assert not open_bucket("out").exists("export.json")
    assert {"shard-000000", "shard-000001"} == {name[-12:] for name in open_bucket("out").list(".export/done")}
    run.store.put(name, data)
    said: list[str] = []
    export_run(run, kind, open_bucket("out"), said.append)
    assert said[0] == f"{kind}: goes on after 2 of 4 shards"
    assert not open_bucket("out").list(".export")
    quiet(run, kind, open_store(str(tmp_path / "out")))
    assert content(open_bucket("out")) == content(open_store(str(tmp_path / "out")))


def test_a_prefix_that_holds_something_else_is_refused(run: Run, open_bucket: Callable[[str], Store]):
    open_bucket("out").put("thesis.tex", b"")
    with pytest.raises(ConfigError, match="out: holds something else"):
        quiet(run, "imagefolder", open_bucket("out"))
    with pytest.raises(ConfigError, match="lies in the dataset"):
        quiet(run, "imagefolder", open_bucket("run/dataset/images"))


def interrupted(store: Store, happens: Callable[[], None]) -> Store:
    """The store, when something happens just before an export to it begins."""
    assert isinstance(store, S3Store)

    class Late(S3Store):
        def put_new(self, name: str, data: bytes) -> bool:
            if name == ".export/begun.json":
                happens()
            return super().put_new(name, data)

    return Late(**{f.name: getattr(store, f.name) for f in fields(store)})


@pytest.mark.parametrize("wholly", [True, False])
def test_two_exports_to_one_prefix_at_a_time_are_not_mixed(
    run: Run, open_bucket: Callable[[str], Store], tmp_path: Path, wholly: bool
):
    other = color_run(tmp_path / "other", "run.seed=7")
    make_dataset(other)

    def faster() -> None:
        if wholly:
            quiet(other, "huggingface", open_bucket("out"))
        else:
            begun = {"format": "huggingface", "layout": 2, "source": {"index.json": "of another"}}
            open_bucket("out").put(".export/begun.json", json.dumps(begun).encode())

    with pytest.raises(ConfigError, match="out: holds an export of something else"):
        quiet(run, "huggingface", interrupted(open_bucket("out"), faster))
    if wholly:
        quiet(other, "huggingface", open_store(str(tmp_path / "alone")))
        assert content(open_bucket("out")) == content(open_store(str(tmp_path / "alone")))
    assert bool(open_bucket("out").list(".export")) != wholly


def test_a_summary_without_its_files_is_refused(run: Run, open_bucket: Callable[[str], Store]):
    quiet(run, "imagefolder", open_bucket("out"))
    done = json.loads(open_bucket("out").read("export.json"))
    del done["files"]
    open_bucket("out").put("export.json", json.dumps(done).encode())
    with pytest.raises(ConfigError, match=r"export\.json: is not of an export"):
        quiet(run, "imagefolder", open_bucket("out"))
