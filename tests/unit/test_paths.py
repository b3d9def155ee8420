"""Paths as people write them: a home, a URL, a step back; and what no file can be called is refused in one line."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hyperface.config import StorageConfig, load, local_path
from hyperface.errors import ConfigError
from hyperface.faces import embeddings
from hyperface.storage import open_file, open_store


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def test_a_home_is_where_the_user_keeps_files(home: Path):
    assert open_store("~/run").url == f"{home}/run"
    assert open_store("~").url == str(home)
    assert local_path("~/model.onnx") == f"{home}/model.onnx"
    store, name = open_file("~/faces.npy")
    assert (store.url, name) == (str(home), "faces.npy")
    open_store("~/run").put("x", b"1")
    assert (home / "run" / "x").exists()
    assert sorted(os.listdir(home.parent)) == ["home"]


def test_a_configuration_and_its_tables_lie_in_a_home(home: Path):
    (home / "my.yaml").write_text("run: {dir: ~/run}\n")
    assert load("~/my.yaml").run.dir == "~/run"
    np.save(home / "rows.npy", np.eye(4, dtype=np.float32))
    assert embeddings.read_file("~/rows.npy", StorageConfig()).vectors_ND.shape == (4, 4)


def test_the_home_of_nobody_is_refused_and_a_name_that_begins_like_it_is_not(home: Path):
    with pytest.raises(ConfigError, match=r"~nobody-knows/run: begins with the home of somebody who is not known"):
        open_store("~nobody-knows/run")
    assert open_store("./~x").url == f"{home.parent}/~x"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///data/my%20faces", "/data/my faces"),
        ("file:///data/100%25", "/data/100%"),
        ("file://localhost/data", "/data"),
        ("file:/data", "/data"),
        ("FILE:///data/%C3%A9", "/data/é"),
        ("file:///data/a%23b%3Fc", "/data/a#b?c"),
        ("file:///data/../other", "/other"),
    ],
)
def test_a_file_url_is_decoded(url: str, path: str):
    assert open_store(url).url == path
    assert local_path(url) == path
    store, name = open_file(url + "/b%20c.npy")
    assert (store.url, name) == (path, "b c.npy")


@pytest.mark.parametrize(
    "url",
    [
        "file:///data/run#1",
        "file:///data/run?x=1",
        "file:///data/run#",
        "file://server/share",
        "file://data",
        "file:relative",
        "file://",
        "file:///data/%ff",
        "file:///data/%00",
        "file://[::1/data",
    ],
)
def test_a_file_url_that_says_more_or_less_than_a_path_is_refused(url: str):
    for opened in (open_store, open_file, local_path):
        with pytest.raises(ConfigError, match="file:"):
            opened(url)


@pytest.mark.parametrize("path", ["a#b", "a?b", "100%25", "a:/b"])
def test_signs_of_urls_are_letters_in_a_path(path: str, tmp_path: Path):
    assert open_store(f"{tmp_path}/{path}").url == f"{tmp_path}/{path}"


def test_a_step_back_in_an_absolute_path_is_taken_as_the_system_takes_it(tmp_path: Path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a" / "b")
    store = open_store(f"{tmp_path}/link/../run")
    assert store.url == f"{tmp_path}/a/run"
    store.put("x/y", b"1")
    assert store.list() == {"x/y": 1}
    assert open_file(f"{tmp_path}/a/../faces.npy")[0].url == str(tmp_path)


@pytest.mark.parametrize("path", ["/tmp/a\0b", "a\0b", "s3://bucket/a\0b", "/tmp/a\udcffb", "~/\udcff"])
def test_what_no_file_can_be_called_is_refused(path: str):
    for opened in (open_store, open_file, local_path):
        with pytest.raises(ConfigError, match=r"must be text in UTF-8 without null bytes; it is '.*\\"):
            opened(path)


@pytest.mark.parametrize("word", ["run.dir=/tmp/\udcff", "recognizer.path=\udcff", "audit.against=[a,\udcff]"])
def test_a_key_that_cannot_be_recorded_is_named(word: str):
    words = [word] if word.startswith("run.dir") else ["run.dir=/tmp/x", word]
    with pytest.raises(ConfigError, match=rf"{word.partition('=')[0]}: must be text in UTF-8"):
        load(None, words)


@pytest.mark.parametrize("job", ["status", "pack"])
def test_a_word_that_is_no_utf8_ends_a_job_in_one_line(job: str):
    command = [sys.executable.encode(), b"-m", f"jobs.{job}".encode(), b"/tmp/no\xff"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr.decode().count("\n") == 1, done.stderr.decode()
    assert done.stderr.startswith(b"error: ")


def test_a_word_that_is_too_long_for_a_path_ends_a_job_in_one_line():
    command = [sys.executable, "-m", "jobs.status", "/" + "x" * 5000]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (1, 2)
    assert done.stderr.count("\n") == 1, done.stderr
