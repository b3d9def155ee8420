"""The command line of jobs.evaluate beside the configuration."""

import sys

import pytest

from hyperface.errors import ConfigError
from jobs.evaluate import run_job, taken_export


def test_the_export_is_taken_out_of_the_words_wherever_it_stands() -> None:
    for words in (
        ["job", "toy.yaml", "run.dir=x", "--export", "onnx"],
        ["job", "--export", "onnx", "toy.yaml", "run.dir=x"],
        ["job", "toy.yaml", "--export=onnx", "run.dir=x"],
    ):
        assert taken_export(words) == "onnx"
        assert words == ["job", "toy.yaml", "run.dir=x"]
    words = ["job", "toy.yaml"]
    assert (taken_export(words), words) == ("", ["job", "toy.yaml"])


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["--export"], "nothing"),
        (["--export", "coreml"], "coreml"),
        (["--export", "run.dir=x"], "run.dir=x"),
        (["--export="], "nothing"),
        (["--export=coreml", "onnx"], "coreml"),
    ],
)
def test_another_export_than_onnx_is_bad_input(given: list[str], found: str) -> None:
    with pytest.raises(ConfigError, match=f"--export: must be followed by onnx, got {found}"):
        taken_export(["job", "toy.yaml", *given])


def test_the_help_says_that_there_is_an_export(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["jobs.evaluate", "--help"])
    with pytest.raises(SystemExit, match="0"):
        run_job()
    usage = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("usage: "))
    assert usage == "usage: python -m jobs.evaluate CONFIG.yaml|RUN [key=value ...] [--export onnx]"
