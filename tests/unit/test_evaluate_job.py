"""The command line of jobs.evaluate beside the configuration."""

import pytest

from hyperface.config import ConfigError
from jobs.evaluate import taken_export


def test_the_export_is_taken_out_of_the_words_wherever_it_stands() -> None:
    for words in (
        ["job", "toy.yaml", "run.dir=x", "--export", "onnx"],
        ["job", "--export", "onnx", "toy.yaml", "run.dir=x"],
    ):
        assert taken_export(words) == "onnx"
        assert words == ["job", "toy.yaml", "run.dir=x"]
    words = ["job", "toy.yaml"]
    assert (taken_export(words), words) == ("", ["job", "toy.yaml"])


@pytest.mark.parametrize("given", [["--export"], ["--export", "coreml"], ["--export", "run.dir=x"]])
def test_another_export_than_onnx_is_bad_input(given: list[str]) -> None:
    with pytest.raises(ConfigError, match="--export: must be followed by onnx"):
        taken_export(["job", "toy.yaml", *given])
