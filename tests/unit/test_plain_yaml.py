"""A configuration means what it looks like, whoever wrote it; what does not, and what is made to harm, is one line."""

import re
from pathlib import Path

import pytest
import yaml

from hyperface import config
from hyperface.config.plain_yaml import DEEPEST, LARGEST, refuse_odd
from hyperface.errors import ConfigError

ODD = ["1:30", "190:20:30", "-1:30.5", "010", "-017", "0x10", "0b11", "1_000", "1_0.5", "on", "Off", "yes", "NO"]


def loaded(tmp_path: Path, text: str) -> config.Config:
    (tmp_path / "c.yaml").write_text(text)
    return config.load(str(tmp_path / "c.yaml"))


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("form", ["run: {dir: x}\npacking:\n  steps: %s\n", "run: {dir: x}\nsynthesis: {sigmas: [%s]}"])
def test_a_number_or_truth_value_that_is_not_written_plainly_is_refused(tmp_path: Path, value: str, form: str):
    with pytest.raises(ConfigError, match=r"c\.yaml, line [23]: a number is written with digits .* '.*' is none"):
        loaded(tmp_path, form % value)
    with pytest.raises(ConfigError, match=r"packing\.steps=.*: a number is written with digits"):
        config.load(None, ["run.dir=x", f"packing.steps={value}"])


@pytest.mark.parametrize(
    "value", ["0", "-1", "+5", "90", "0.5", ".5", "5.", "1e-3", "1.5E+6", "true", "False", "2024-01-01", "~"]
)
def test_what_is_written_plainly_is_read(value: str):
    refuse_odd(f"a: {value}", "c.yaml")


@pytest.mark.parametrize("value", [*ODD, "a b", "3", "null", "1e5", ".nan"])
def test_in_quotes_and_as_an_override_a_text_is_a_text(tmp_path: Path, value: str):
    assert loaded(tmp_path, f'run: {{dir: "{value}"}}').run.dir == value
    read = config.load(None, [f"run.dir={value}"])
    assert read.run.dir == value
    assert config.from_yaml(config.to_yaml(read)) == read


@pytest.mark.parametrize(
    "path", sorted(Path(__file__).parents[2].glob("jobs/configs/*.yaml")), ids=lambda path: path.name
)
def test_every_configuration_that_is_given_away_is_plain(path: Path):
    refuse_odd(path.read_text(), path.name)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 100_000, f"must be nested at most {DEEPEST} deep"),
        ("run: " + "[" * 5_000 + "]" * 5_000, f"must be nested at most {DEEPEST} deep"),
        ("{a: " * 5_000, f"must be nested at most {DEEPEST} deep"),
        ("- " * 5_000, f"must be nested at most {DEEPEST} deep"),
        (
            "a: &a [x, x]\n"
            + "".join(
                f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefghijklmnop", "bcdefghijklmnopq", strict=False)
            ),
            "limit",
        ),
        ("run: &a [*a]", "recursive"),
        ("run: {seed: " + "9" * 5_000 + "}", "a number must have at most 100 digits; '9{40}...' has 5000"),
        ("run: {seed: 1." + "9" * 5_000 + "}", "a number must have at most 100 digits"),
        ('run: {seed: !!int "abc"}', "a value must be written without a tag"),
        ("run: !!binary aGk=", "a value must be written without a tag"),
        ("#" * (LARGEST + 1), f"must have at most {LARGEST} characters"),
        ("5", "must be a YAML mapping of sections"),
        ("- 5", "must be a YAML mapping of sections"),
        ("text", "must be a YAML mapping of sections"),
        ("a: 1\n---\nb: 2", "is not YAML: expected a single document"),
        ("run: \0", "is not YAML: unacceptable character"),
        ('run: {dir: "\\ud800"}', "is not YAML: .*invalid Unicode character escape code"),
    ],
    ids=range(17),
)
def test_a_text_that_is_made_to_harm_is_one_line(tmp_path: Path, text: str, why: str):
    with pytest.raises(ConfigError, match=why) as error:
        loaded(tmp_path, text)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 100_000, "!!int x", '"' + "9" * 5000 + '"'])
def test_an_override_that_is_made_to_harm_is_one_short_line(value: str):
    with pytest.raises(ConfigError, match=r"run\.seed") as error:
        config.load(None, ["run.dir=x", f"run.seed={value}"])
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("packing.alpha=1e308", "packing.alpha"),
        ("packing.steps=999999999999999999999999", "packing.steps"),
        ("train.learning_rate=1e300", "train.learning_rate"),
        ("experiment.alphas=[0,1e308]", "experiment.alphas"),
        ("train.milestones=[1,99999999999999999999]", "train.milestones"),
        ("control.tolerance.yaw=1e308", "control.tolerance"),
    ],
)
def test_a_number_that_no_product_could_hold_is_refused(word: str, key: str):
    with pytest.raises(ConfigError, match=rf"{key} must be at most 1e\+12 in size; it is "):
        config.load(None, ["run.dir=x", word])


def test_a_broken_text_stays_a_yaml_error():
    with pytest.raises(yaml.YAMLError):
        refuse_odd("a: [", "c.yaml")


@pytest.mark.parametrize(
    ("word", "rule"),
    [
        ("control.targets=[x]", "control.targets must be a mapping"),
        ("control.targets=3", "control.targets must be a mapping"),
        ("synthesis.sigmas=[[1]]", "synthesis.sigmas must be a list of plain values"),
        ("train.milestones=[{a: 1}]", "train.milestones must be a list of plain values"),
        ("train.milestones={a: 1}", "train.milestones must be a list of plain values"),
        ("evaluate.benchmarks={a: [1]}", "evaluate.benchmarks must be a list of plain values"),
        ("run.seed='010'", "run.seed: a number or truth value is written without quotes"),
        ("packing.polish='on'", "packing.polish: a number or truth value is written without quotes"),
        ("packing.polish=y", "packing.polish: a number or truth value is written without quotes"),
        ("synthesis.sigmas=['1_0']", "synthesis.sigmas: a number or truth value is written without quotes"),
        ("run.seed=???", "run.seed: must have a value"),
        ("run.dir=???", "run.dir: must have a value"),
        ("train=???", "train: must have a value"),
        ("[=5", "[=5: an override is written key=value"),
    ],
)
def test_a_value_of_another_shape_is_refused_by_its_key(word: str, rule: str):
    with pytest.raises(ConfigError, match=re.escape(rule)):
        config.load(None, ["run.dir=runs/x", word])


@pytest.mark.parametrize("text", ["2024.10", "1.10", "12e3", "1e400", "true", "1234e567"])
def test_a_text_that_a_file_writes_like_a_number_is_refused_as_it_would_be_another_one(tmp_path: Path, text: str):
    with pytest.raises(ConfigError, match=r"write it (so, or a text )?in quotes"):
        loaded(tmp_path, f"run: {{dir: {text}}}")
    assert loaded(tmp_path, f"run: {{dir: '{text}'}}").run.dir == text
    assert config.load(None, [f"run.dir={text}"]).run.dir == text
    assert config.from_yaml(config.to_yaml(config.load(None, [f"run.dir={text}"]))).run.dir == text


def test_a_recorded_value_of_any_length_is_shown_in_part():
    text = config.to_yaml(config.load(None, ["run.dir=x"])).replace("alpha: 0.5", f"alpha: 0.{'[' * 5000}")
    with pytest.raises(ConfigError) as refused:
        config.from_yaml(text)
    assert len(str(refused.value)) <= 300
