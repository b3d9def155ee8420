"""Folders that others made: links are followed, and nothing is passed over without a word."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hyperface.errors import StorageError
from hyperface.storage import open_store


def filled(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"123")
    return folder


def test_linked_folders_and_files_are_followed(tmp_path: Path):
    other = filled(tmp_path / "other", "b.jpg", "deep/c.jpg")
    store = filled(tmp_path / "faces", "ada/a.jpg")
    (store / "bob").symlink_to(other)
    (store / "ada" / "z.jpg").symlink_to(other / "b.jpg")
    (tmp_path / "all").symlink_to(store)
    expected = {"ada/a.jpg": 3, "ada/z.jpg": 3, "bob/b.jpg": 3, "bob/deep/c.jpg": 3}
    assert open_store(str(store)).list() == expected
    assert list(open_store(str(tmp_path / "all")).list()) == list(expected)
    assert open_store(str(store)).list("bob") == {"bob/b.jpg": 3, "bob/deep/c.jpg": 3}


def test_one_folder_that_is_linked_twice_is_listed_twice(tmp_path: Path):
    store = filled(tmp_path, "ada/a.jpg")
    (store / "ada2").symlink_to(store / "ada")
    assert list(open_store(str(store)).list()) == ["ada/a.jpg", "ada2/a.jpg"]


@pytest.mark.parametrize("target", ["..", ".", "../..", "loop"])
def test_a_link_in_a_circle_is_named(tmp_path: Path, target: str):
    store = filled(tmp_path / "faces", "ada/a.jpg")
    (store / "ada" / "loop").symlink_to(target)
    if target == "../..":
        (tmp_path / "more").mkdir()
    with pytest.raises(StorageError, match=r"faces/ada/loop.*remove the link$"):
        open_store(str(store)).list()


def test_links_that_double_at_every_step_end(tmp_path: Path):
    for step in range(30):
        (tmp_path / f"{step}").mkdir()
    for step in range(29):
        for link in "ab":
            (tmp_path / f"{step}" / link).symlink_to(tmp_path / f"{step + 1}")
    with pytest.raises(StorageError, match="is one of more than 100 ways through links"):
        open_store(str(tmp_path / "0")).list()


def test_a_folder_that_too_many_links_lead_to_is_not_called_a_circle(tmp_path: Path):
    (tmp_path / "nobody").mkdir()
    store = filled(tmp_path / "faces", "ada/a.jpg")
    for person in range(150):
        (store / f"person{person}").symlink_to(tmp_path / "nobody")
    with pytest.raises(
        StorageError, match=r"/faces/person\d+: is one of more than 100 ways through links to \S+/nobody; remove"
    ) as error:
        open_store(str(store)).list()
    assert "circle" not in str(error.value)


def test_a_link_to_nothing_that_may_be_a_person_is_refused(tmp_path: Path):
    store = filled(tmp_path, "ada/a.jpg")
    (store / "bob").symlink_to("/not/mounted/bob")
    with pytest.raises(StorageError, match=r"bob: is a link to /not/mounted/bob.*No such file.*restore"):
        open_store(str(store)).list_all()


def test_a_linked_file_that_is_gone_is_told_of_a_source_and_not_part_of_a_run(tmp_path: Path):
    store = filled(tmp_path, "ada/a.jpg")
    (store / "ada" / "b.jpg").symlink_to("/not/mounted/b.jpg")
    assert open_store(str(store)).list_all() == {"ada/a.jpg": 3, "ada/b.jpg": 0}
    assert open_store(str(store)).list() == {"ada/a.jpg": 3}


def test_only_regular_files_are_listed_and_a_source_tells_the_others(tmp_path: Path):
    store = filled(tmp_path, "a.jpg")
    os.mkfifo(store / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(store / "s.jpg"))
        assert open_store(str(store)).list() == {"a.jpg": 3}
        assert open_store(str(store)).list_all() == {"a.jpg": 3, "pipe.jpg": 0, "s.jpg": 0}


def test_a_folder_where_a_file_belongs_is_not_removed_and_named(tmp_path: Path):
    filled(tmp_path, "a/b")
    with pytest.raises(StorageError, match="a: cannot be removed: Is a directory"):
        open_store(str(tmp_path)).delete("a")


def test_hidden_files_are_told_of_a_source_and_not_part_of_a_run(tmp_path: Path):
    store = open_store(str(filled(tmp_path, "a.jpg", ".b.jpg", ".c/d.jpg", "e/._f.jpg")))
    assert list(store.list()) == ["a.jpg"]
    assert list(store.list(".c")) == [".c/d.jpg"]
    assert list(store.list_all()) == [".b.jpg", ".c/d.jpg", "a.jpg", "e/._f.jpg"]


def test_what_is_no_folder_holds_nothing(tmp_path: Path):
    filled(tmp_path, "file")
    assert open_store(str(tmp_path / "file")).list() == {}
    assert open_store(str(tmp_path / "nowhere")).list() == {}
    assert open_store(str(tmp_path)).list("file") == {}


def test_a_deep_folder_is_listed(tmp_path: Path):
    deep = "/".join("d" * 1500)
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=folder)
        inner = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(os.open("a.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.close(folder)
    found = list(open_store(str(tmp_path)).list())
    subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # pytest's own clean-up would recurse into it
    assert found == [f"{deep}/a.jpg"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else for a while")
@pytest.mark.parametrize(("mode", "said"), [(0o000, "cannot be listed"), (0o644, "cannot be listed")])
def test_a_folder_that_cannot_be_read_is_named_and_a_hidden_one_passed_over(tmp_path: Path, mode: int, said: str):
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(0o755)
    store = filled(tmp_path / "faces", "ada/a.jpg", "lost+found/x.jpg", ".hidden/x.jpg")
    for folder in ("lost+found", ".hidden"):
        (store / folder).chmod(0)
    code = (
        "import os, sys; from hyperface.storage import *; os.setuid(65534)\n"
        "try: print(list(open_store(sys.argv[1]).list_all()))\n"
        "except StorageError as error: print(error)"
    )

    def told() -> str:
        command = [sys.executable, "-c", code, str(store)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert told() == "['ada/a.jpg']\n"
    (store / "ada").chmod(mode)
    assert told() == f"{store}/ada: {said}: Permission denied; check its permissions\n"
