"""A run and its exports on a real exFAT, by FUSE: a disk with neither hard links nor a rename that refuses.

Needs root, `mkfs.exfat` and `mount.exfat-fuse` (Debian: exfatprogs, exfat-fuse) and a free loop device.
"""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from color_world import color_run, make_dataset

from hyperface.dataset.export import FORMATS, export_run
from hyperface.dataset.verify import verify
from hyperface.storage import open_store

TOOLS = ("mkfs.exfat", "mount.exfat-fuse", "losetup", "umount")
DISK_BYTES = 64 * 2**20


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if os.geteuid() or not all(map(shutil.which, TOOLS)) or not Path("/dev/fuse").exists():
        pytest.skip(f"needs root, /dev/fuse and {', '.join(TOOLS)}")
    folder = tmp_path_factory.mktemp("exfat")
    image, mounted = folder / "image", folder / "disk"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    subprocess.run(["mkfs.exfat", image], check=True, capture_output=True)
    loop = subprocess.run(
        ["losetup", "-f", "--show", image], capture_output=True, text=True, check=False
    ).stdout.strip()
    if not loop:
        pytest.skip("no loop device is free")
    try:
        subprocess.run(["mount.exfat-fuse", loop, mounted], check=True, capture_output=True)
        yield mounted
        subprocess.run(["umount", mounted], check=True)
    finally:
        subprocess.run(["losetup", "-d", loop], check=True)


def test_it_has_no_hard_links(disk: Path):
    (disk / "a").touch()
    with pytest.raises(PermissionError):
        os.link(disk / "a", disk / "b")


def test_a_name_is_given_once_and_shows_no_half_file(disk: Path):
    store, seen, ended = open_store(str(disk / "names")).prepared(), set(), threading.Event()
    assert not store.one_writer_wins
    data = os.urandom(2**20)

    def look() -> None:
        while not ended.is_set():
            seen.update(store.list().values())

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(20):
        assert store.put_new(f"{number}", data)
        assert not store.put_new(f"{number}", b"second")
    ended.set()
    reader.join()
    assert seen <= {len(data)}


@pytest.mark.parametrize("kind", FORMATS)
def test_a_dataset_and_its_exports_are_made(disk: Path, kind: str):
    run = color_run(disk / "run", "synthesis.max_attempts=1")
    if not run.store.exists("dataset/index.json"):
        make_dataset(run)
    assert verify(run, deep=True) == []
    export_run(run, kind, open_store(str(disk / kind)))
    assert (disk / kind / "export.json").exists()
