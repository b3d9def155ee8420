"""Ends of jobs: the exit code and the one clear line."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ray.exceptions import RayTaskError

from cluster.session import _sigterm_kept
from hyperface.errors import ConfigError, RunError, StorageError, UserError
from hyperface.run.command_line import READER_LEFT
from jobs.start import INTERRUPTED, TERMINATED, exit_code


def fails_with(error: BaseException):
    def job() -> None:
        raise error

    return job


def test_a_job_that_returns_exits_zero():
    assert exit_code(lambda: None) == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [(kind("three shards failed"), 2 if kind is ConfigError else 1) for kind in UserError.__subclasses__()],
)
def test_what_a_user_can_mend_is_one_line_without_a_traceback(error, code, capsys: pytest.CaptureFixture[str]):
    assert exit_code(fails_with(error)) == code
    assert capsys.readouterr().err == f"error: {error}\n"


def test_a_name_that_the_output_cannot_show_ends_no_job(monkeypatch: pytest.MonkeyPatch):
    said = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(said, "ascii", write_through=True))
    assert exit_code(lambda: print("läuft \udcff")) == 0
    assert said.getvalue() == rb"l\xe4uft \udcff" + b"\n"


def test_the_cause_behind_a_workers_error_is_found(capsys: pytest.CaptureFixture[str]):
    wrapped = RuntimeError("task failed")
    wrapped.__cause__ = StorageError("s3://b/shard: access denied")
    assert exit_code(fails_with(wrapped)) == 1
    assert capsys.readouterr().err == "error: s3://b/shard: access denied\n"


def test_the_error_that_a_workers_error_wraps_is_said_and_not_its_traceback(capsys: pytest.CaptureFixture[str]):
    wrapped = RayTaskError("work", "Traceback: many lines", RunError("three shards failed")).as_instanceof_cause()
    assert isinstance(wrapped, RunError)
    assert exit_code(fails_with(wrapped)) == 1
    assert capsys.readouterr().err == "error: three shards failed\n"


def test_anything_else_keeps_its_traceback(capsys: pytest.CaptureFixture[str]):
    assert exit_code(fails_with(KeyError("bug"))) == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_says_how_to_go_on(capsys: pytest.CaptureFixture[str]):
    assert exit_code(fails_with(KeyboardInterrupt())) == INTERRUPTED
    assert "the same command" in capsys.readouterr().err


def test_a_terminal_that_is_closed_ends_a_job_as_any_other_signal_but_not_under_nohup(
    capsys: pytest.CaptureFixture[str],
):
    def hang_up() -> None:
        os.kill(os.getpid(), signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        assert exit_code(hang_up) == 129
        assert "terminated: the same command goes on" in capsys.readouterr().err
        with pytest.raises(SystemExit) as ended:  # as of a job that reads words of its own first
            exit_code(lambda: sys.exit(exit_code(hang_up)))
        assert ended.value.code == 129
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        assert exit_code(hang_up) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_job_that_is_terminated_inside_of_ray_ends_as_any_other(capsys: pytest.CaptureFixture[str]):
    def job() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except SystemExit:
            raise SystemExit(1) from None  # as Ray's calls do

    assert exit_code(job) == TERMINATED
    assert "terminated: the same command goes on" in capsys.readouterr().err


def test_a_terminal_that_is_closed_while_ray_starts_is_no_sigterm(capsys: pytest.CaptureFixture[str]):
    def job() -> None:
        with _sigterm_kept():
            os.kill(os.getpid(), signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        assert exit_code(job) == 129
        with pytest.raises(SystemExit) as ended:
            exit_code(lambda: sys.exit(exit_code(job)))
        assert ended.value.code == 129
    finally:
        signal.signal(signal.SIGHUP, before)
    assert "terminated: the same command goes on" in capsys.readouterr().err


def test_a_job_that_ends_with_a_code_of_its_own_is_not_spoken_for(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        exit_code(fails_with(SystemExit(3)))
    assert ended.value.code == 3
    assert not capsys.readouterr().err


ROOT = Path(__file__).parents[2]
TELLING = """
import sys
from hyperface.progress import logs
from jobs.start import exit_code

def job():
    if "json" in sys.argv:
        logs.begin("a run")
    while True:
        print("a: line", flush="at once" in sys.argv)
        if "once" in sys.argv:
            break

raise SystemExit(exit_code(job))
"""


def told(*how: str, into: int, options: tuple[str, ...] = ()) -> tuple[int, str]:
    """The exit code and standard error of a job that prints."""
    command = [sys.executable, *options, "-c", TELLING, *how]
    done = subprocess.run(command, cwd=ROOT, stdout=into, stderr=subprocess.PIPE, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize(("how", "options"), [(["once"], ()), (["json"], ()), (["at once"], ("-u",))])
def test_a_job_whose_reader_has_left_ends_without_a_word(how: list[str], options: tuple[str, ...]):
    reading, writing = os.pipe()
    os.close(reading)
    assert told(*how, into=writing, options=options) == (READER_LEFT, "")
    os.close(writing)


def test_the_reader_of_a_help_text_and_of_errors_may_leave():
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, "-m", "jobs.plan", "--help"]
    done = subprocess.run(words, cwd=ROOT, stdout=writing, stderr=writing, check=False)
    os.close(writing)
    assert done.returncode == READER_LEFT


@pytest.mark.parametrize(("how", "options"), [("once", ()), ("json", ("-u",))])
def test_output_that_cannot_be_written_is_one_line(how: str, options: tuple[str, ...]):
    with open("/dev/full", "wb") as full:
        ended = told(how, into=full.fileno(), options=options)
    assert ended == (1, "error: standard output cannot be written: No space left on device\n")


def test_an_error_of_a_file_keeps_its_trace_where_output_has_a_reader(capsys: pytest.CaptureFixture[str]):
    assert exit_code(fails_with(BrokenPipeError(32, "Broken pipe"))) == 1
    assert "Traceback" in capsys.readouterr().err
