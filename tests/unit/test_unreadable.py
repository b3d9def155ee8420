"""Files that are there and cannot be read: folders, pipes, and what belongs to somebody else."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hyperface.config import StorageConfig, load
from hyperface.errors import ConfigError, ModelError, StorageError
from hyperface.faces.embeddings import read_file
from hyperface.models.onnx_file import checked_bytes
from hyperface.storage import LocalStore, open_file
from hyperface.verification.benchmarks import read_benchmark

NOBODY = 65534


@pytest.fixture
def shut() -> Iterator[Path]:
    """A folder that anybody may enter, with a file and a folder that nobody may read; we are nobody."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    (folder / "inside").mkdir()
    (folder / "inside" / "file.npy").write_bytes(b"1")
    for name in ("file.npy", "file.yaml", "file.bin", "file.onnx"):
        (folder / name).write_bytes(b"1")
        (folder / name).chmod(0)
    (folder / "inside").chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    yield folder
    if root:
        os.seteuid(0)
    (folder / "inside").chmod(0o700)
    shutil.rmtree(folder)


def one_line(call: Callable[[], object], kind: type[Exception], what: str) -> None:
    with pytest.raises(kind, match=what) as error:
        call()
    assert "\n" not in str(error.value)


def read(path: Path) -> bytes:
    store, name = open_file(str(path), StorageConfig())
    return store.read(name)


def test_a_file_of_somebody_else_is_named_with_the_reason(shut: Path):
    for name in ("file.npy", "inside/file.npy"):
        one_line(
            lambda name=name: read(shut / name), StorageError, rf"{name}: cannot be read: Permission denied; check"
        )
    one_line(lambda: read_file(f"{shut}/file.npy", StorageConfig()), StorageError, r"npy: cannot be read: Permission")
    one_line(lambda: read_file(f"{shut}/inside/file.npy", StorageConfig()), StorageError, "cannot be read: Permission")
    one_line(lambda: read_benchmark(f"{shut}/file.bin", StorageConfig()), StorageError, "bin: cannot be read: Permiss")
    one_line(lambda: load(f"{shut}/file.yaml"), ConfigError, r"file\.yaml: cannot be read: Permission denied; give")
    keys = ("recognizer.path", "recognizer.sha256")
    digest = hashlib.sha256(b"1").hexdigest()
    one_line(lambda: checked_bytes(f"{shut}/file.onnx", digest, keys), ModelError, "onnx: cannot be read: Permission")


def test_a_folder_or_a_pipe_where_a_file_belongs_is_named_and_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.npy")
    for name in ("folder.npy", "folder.bin", "folder.yaml", "folder.onnx"):
        (tmp_path / name).mkdir()
    for name in ("pipe.npy", "folder.npy"):
        one_line(lambda name=name: read(tmp_path / name), StorageError, f"{name}: is no file but a folder or a device")
    one_line(lambda: read_file(f"{tmp_path}/folder.npy", StorageConfig()), StorageError, "npy: is no file but a folder")
    one_line(lambda: read_benchmark(f"{tmp_path}/folder.bin", StorageConfig()), StorageError, "bin: is no file but")
    one_line(lambda: load(f"{tmp_path}/folder.yaml"), ConfigError, r"folder\.yaml: cannot be read: Is a directory")


def test_a_name_below_a_file_holds_nothing(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"1")
    store = LocalStore(str(tmp_path))
    assert not store.exists("file/inside")
    with pytest.raises(FileNotFoundError, match="file/inside"):
        store.read("file/inside")


def test_a_link_that_leads_to_itself_is_named(tmp_path: Path):
    (tmp_path / "loop.npy").symlink_to("loop.npy")
    one_line(lambda: read(tmp_path / "loop.npy"), StorageError, r"loop\.npy: cannot be read: Too many levels")
