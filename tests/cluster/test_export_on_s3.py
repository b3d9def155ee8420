"""Exports from and to a real S3 server; the unit tests try the same on an emulator."""

from pathlib import Path

import pytest
from color_world import ColorGenerator, color_run, make_dataset

from hyperface.config import StorageConfig
from hyperface.dataset.export import FORMATS, Kind, export_run
from hyperface.storage import Store, open_store


def content(store: Store) -> dict[str, bytes]:
    return {name: store.read(name) for name in store.list()}


@pytest.mark.parametrize("kind", FORMATS)
def test_an_export_from_a_real_bucket_is_that_from_a_disk_and_so_is_one_to_it(
    object_store: str, object_bucket: str, tmp_path: Path, kind: Kind
):
    storage = StorageConfig(endpoint_url=object_store, addressing_style="path")
    local = color_run(tmp_path / "run")
    make_dataset(local, ColorGenerator(miss_every=3))
    remote = color_run(tmp_path / "run", store=open_store(f"s3://{object_bucket}/run", storage))
    for name in local.store.list():
        remote.store.put(name, local.store.read(name))
    export_run(local, kind, open_store(str(tmp_path / "disk to disk")))
    export_run(remote, kind, open_store(str(tmp_path / "bucket to disk")))
    expected = content(open_store(str(tmp_path / "disk to disk")))
    assert content(open_store(str(tmp_path / "bucket to disk"))) == expected
    if kind in ("imagefolder", "huggingface"):
        out = open_store(f"s3://{object_bucket}/{kind}", storage)
        for _ in range(2):  # the second finds it done
            export_run(remote, kind, out)
        assert content(out) == expected
