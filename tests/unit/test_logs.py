"""Output of a job: lines for people, or records with the run, the stage, the shard and the attempt."""

import contextlib
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from hyperface.config import Config
from hyperface.distributed.ranks import speaker
from hyperface.errors import RunError
from hyperface.progress.logs import LOG, Line, begin, complain, note, say
from jobs.start import start


@contextlib.contextmanager
def put_back() -> Iterator[None]:
    """Undo after a block of a test what `begin` does to a process; pytest does to standard output after fixtures."""
    before = sys.stdout
    yield
    sys.stdout, LOG.handlers, LOG.propagate = before, [], True
    LOG.setLevel(logging.WARNING)


@contextlib.contextmanager
def records() -> Iterator[None]:
    with put_back():
        begin("/runs/a", "raysubmit_1")
        yield


def said(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_last_line_that_nobody_ended_is_a_record_too():
    code = "from hyperface.progress.logs import begin; begin('/runs/a'); print('nearly', end='')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["message"] == "nearly"


@pytest.mark.parametrize("root", [logging.WARNING, logging.DEBUG])
def test_in_text_lines_are_lines_and_events_are_nothing(
    root: int, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
):
    """Whatever others, as Ray Train in its workers, make of the root logger."""
    caplog.set_level(root)
    say(Line("synthesize", "1/2 shards"))
    note("failed", logging.ERROR, shard=7)
    complain("error: no")
    assert tuple(capsys.readouterr()) == ("synthesize: 1/2 shards\n", "error: no\n")


def test_a_record_names_run_stage_shard_and_attempt(capsys: pytest.CaptureFixture[str]):
    with records():
        note("failed", logging.ERROR, stage="synthesize", shard=7, attempt=2, error="no memory")
    (record,) = said(capsys)
    wanted = {"run": "/runs/a", "submission_id": "raysubmit_1", "levelname": "ERROR", "message": "failed"}
    assert record.items() >= (wanted | {"stage": "synthesize", "shard": 7, "attempt": 2, "error": "no memory"}).items()
    assert set(record) - {"asctime", "error", "stage", "shard", "attempt"} == set(wanted)


def test_a_line_has_its_stage_and_fields_apart_and_what_others_print_becomes_records_too(
    capsys: pytest.CaptureFixture[str],
):
    with records():
        say(Line("packing", "3/20 steps", done=3))
        print("a library: speaks\n\ndataset  /runs/a", flush=True)
        speaker(0)(Line("train", "epoch 1"))
        complain("error: s3://b: no bucket")
    found = said(capsys)
    assert [(record.get("stage"), record["message"]) for record in found] == [
        ("packing", "3/20 steps"),
        (None, "a library: speaks"),
        (None, "dataset  /runs/a"),
        ("train", "epoch 1"),
        (None, "error: s3://b: no bucket"),
    ]
    assert found[0]["done"] == 3
    assert found[-1]["levelname"] == "ERROR"


def test_lines_of_two_threads_are_not_mixed(capsys: pytest.CaptureFixture[str]):
    with records():
        sys.stdout.write("one ")
        other = threading.Thread(target=print, args=("another",))
        other.start()
        other.join()
        sys.stdout.write("line\n")
    assert [record["message"] for record in said(capsys)] == ["another", "one line"]


def test_an_error_has_its_trace(capsys: pytest.CaptureFixture[str]):
    with records():
        try:
            raise ValueError("not finite")
        except ValueError:
            LOG.exception("broken")
    (record,) = said(capsys)
    assert "ValueError: not finite" in str(record["exc_text"])


def test_a_job_says_records_where_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def job(config: Config) -> None:
        say(Line("synthesize", "1/2 shards"))
        raise RunError("one shard failed")

    monkeypatch.setattr(sys, "argv", ["jobs.synthesize", "run.dir=/runs/b", "cluster.log_format=json"])
    with put_back(), pytest.raises(SystemExit) as ended:
        start(job, "jobs.synthesize")
    assert ended.value.code == 1
    found = said(capsys)
    assert [record["message"] for record in found] == ["1/2 shards", "error: one shard failed"]
    assert all(record["run"] == "/runs/b" for record in found)
