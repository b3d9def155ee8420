"""The first writer wins where there are no hard links too, or one job at a time writes."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hyperface.errors import RunError
from hyperface.run.lease import only_driver
from hyperface.run.names import LEASE
from hyperface.storage import LocalStore, open_store
from hyperface.storage.naming import UndecidedError, file_system, name_new, one_writer_wins, renamed_new


class WithoutLinks(LocalStore):
    """A disk as exFAT of Linux: link(2) is refused, a rename may refuse to replace."""

    def _named(self, temporary: Path, path: Path) -> bool:
        return renamed_new(temporary, path)


class Undecided(LocalStore):
    """A disk as exFAT by FUSE: neither."""

    def _named(self, temporary: Path, path: Path) -> bool:
        raise UndecidedError(errno.EINVAL, "Invalid argument", str(path))


@pytest.mark.parametrize("named", [name_new, renamed_new])
def test_one_of_many_writers_gets_a_name_and_its_bytes_stay(tmp_path: Path, named):
    won = []

    def write(number: int) -> None:
        temporary = tmp_path / f"{number}"
        temporary.write_text(str(number))
        if named(temporary, tmp_path / "name"):
            won.append(number)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(20)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert (tmp_path / "name").read_text() == str(*won)


@pytest.mark.parametrize("kind", [LocalStore, WithoutLinks, Undecided])
def test_the_first_writer_of_a_name_wins_and_leaves_nothing_beside_it(tmp_path: Path, kind: type[LocalStore]):
    store = kind(str(tmp_path / "run"))
    assert store.put_new("a/b", b"1")
    assert not store.put_new("a/b", b"2")
    assert (store.read("a/b"), os.listdir(tmp_path / "run" / "a")) == (b"1", ["b"])


def test_a_name_that_cannot_be_given_at_all_is_no_victory(tmp_path: Path):
    (tmp_path / "x").write_text("1")
    for named in (name_new, renamed_new):
        with pytest.raises(FileNotFoundError):
            named(tmp_path / "x", tmp_path / "no" / "folder")


@pytest.mark.parametrize(("kind", "wins"), [(LocalStore, True), (WithoutLinks, True), (Undecided, False)])
def test_a_disk_that_cannot_tell_who_was_first_lets_one_job_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: type[LocalStore], wins: bool
):
    store = kind(str(tmp_path / "runs" / "new")).prepared()
    assert store.one_writer_wins == wins
    assert os.listdir(tmp_path) == []
    assert capsys.readouterr().out.endswith("" if wins else "one job at a time may write this run\n")
    with only_driver(store, beat_s=0.05, stale_s=5.0, settle_s=0.0):
        assert store.exists(LEASE) != wins
        if not wins:
            with pytest.raises(RunError, match="is being written by another driver"), only_driver(store, beat_s=0.05):
                pass


def test_a_folder_that_cannot_be_written_to_is_left_to_the_first_write():
    assert one_writer_wins(Path("/proc/no/run"), name_new)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else for a while")
def test_a_folder_of_somebody_else_is_named_by_the_first_write(tmp_path: Path):
    code = (
        "import os, sys; from hyperface.storage import *; os.setuid(65534)\n"
        "store = open_store(sys.argv[1] + '/runs/new').prepared()\n"
        "try: store.put_new('x', b'')\n"
        "except StorageError as error: print(error)"
    )
    tmp_path.chmod(0o700)
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert "runs/new/x: cannot be written: Permission denied; check path and permissions" in done.stdout, done.stderr


def test_a_disk_is_named_by_its_kind(tmp_path: Path):
    assert file_system(Path("/proc/self")) == "proc"
    assert file_system(tmp_path / "not" / "there")


def test_a_store_that_is_prepared_travels(tmp_path: Path):
    assert open_store(str(tmp_path)).prepared() == open_store(str(tmp_path))
