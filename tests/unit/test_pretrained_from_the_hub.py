"""A model fetched from a hub: a small server of its protocol on loopback, one process per look."""

import json
import multiprocessing
import os
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WANTED = (("encoder/config.json",), ("encoder/model.safetensors", "encoder/pytorch_model.bin"))

FORKS = multiprocessing.get_context("forkserver")
"""Processes of their own, without the time that torch takes to import; the hub's client is imported in each."""
FORKS.set_forkserver_preload(["hyperface.models.pretrained"])


def find(environment: dict[str, str], repository: str, cache: str, answer: Connection) -> None:
    os.environ |= environment
    from hyperface.models import pretrained

    try:
        found = pretrained.find("arc2face.path", repository, COMMIT, WANTED, cache)
    except pretrained.ModelError as error:
        answer.send(str(error))
    else:
        answer.send(json.dumps({name: path.read_text() for name, path in found.items()}))


class Hub(SimpleHTTPRequestHandler):
    """Serves the files of one commit, with the headers that the hub's client reads."""

    def translate_path(self, path: str) -> str:
        return f"{self.directory}/{path.partition(f'/resolve/{COMMIT}/')[2] or 'absent'}"

    def end_headers(self) -> None:
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{self.path.rpartition("/")[2]}"')
        super().end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self.send_response(code)
        self.send_header("X-Error-Code", "EntryNotFound" if "/some/model/" in self.path else "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        self.server.asked.append(f"{self.command} {self.path.rpartition('/')[2]}")  # type: ignore[attr-defined]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    folder = tmp_path / "served/encoder"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"weights")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, directory=str(tmp_path / "served")))
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def look(port: int, cache: Path, repository: str = "some/model") -> str:
    """Return what `find` gives: a JSON object, or the message of its ModelError."""
    environment = {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
    hear, answer = FORKS.Pipe()
    process = FORKS.Process(target=find, args=(environment, repository, str(cache), answer))
    process.start()
    process.join()
    assert process.exitcode == 0
    return str(hear.recv())


def test_files_are_fetched_once_and_then_come_from_the_cache_without_the_hub(hub, tmp_path):
    expected = {"encoder/config.json": "{}", "encoder/model.safetensors": "weights"}
    assert json.loads(look(hub.server_port, tmp_path / "cache")) == expected
    asked = list(hub.asked)
    assert "GET pytorch_model.bin" in asked
    hub.shutdown()
    assert json.loads(look(hub.server_port, tmp_path / "cache")) == expected
    assert hub.asked == asked


def test_what_the_commit_lacks_and_a_repository_that_is_not_there_are_told_by_name(hub, tmp_path):
    shutil.rmtree(tmp_path / "served/encoder")
    said = look(hub.server_port, tmp_path / "cache")
    assert said.startswith(
        f"arc2face.path: some/model at {COMMIT} lacks encoder/config.json, encoder/model.safetensors or"
    )
    said = look(hub.server_port, tmp_path / "cache", "no/model")
    assert said.startswith(f"arc2face.path: no/model at {COMMIT}, encoder/config.json: cannot be fetched")
