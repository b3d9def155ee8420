"""The configuration: what is refused and how, what belongs to a run's identity, what --help says."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from hyperface import config
from hyperface.config import is_override
from hyperface.config.fields import Range
from hyperface.errors import ConfigError
from hyperface.run import command_line, open_run

ROOT = Path(__file__).parents[2]
RUN = "run.dir=somewhere"


def test_an_unknown_key_is_refused_with_a_suggestion():
    with pytest.raises(ConfigError, match=r"packing\.num_identites.*num_identities"):
        config.load(None, [RUN, "packing.num_identites=3"])


@pytest.mark.parametrize("override", ["pakcing.steps=3", "pakcing=3"])
def test_an_unknown_section_is_refused(override: str):
    with pytest.raises(ConfigError, match=r"^pakcing: Key 'pakcing' not in 'Config'"):
        config.load(None, [RUN, override])


def test_a_value_of_the_wrong_type_names_the_key():
    with pytest.raises(ConfigError, match=r"packing\.steps.*abc"):
        config.load(None, [RUN, "packing.steps=abc"])


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("packing.num_identities=1", "packing.num_identities must be at least 2"),
        ("packing.num_identities=5000", "must not exceed embed.num_faces=2000"),
        ("packing.first_identity=-1", "packing.first_identity must be at least 0; it is -1"),
        ("packing.first_identity=9999001", "plus packing.first_identity=9999001 must not exceed 10000000"),
        ("packing.alpha=-0.1", "packing.alpha must be at least 0"),
        ("packing.alpha=.nan", "packing.alpha must be at least 0"),
        ("packing.learning_rate=.inf", "packing.learning_rate must be a finite number"),
        ("packing.batch_identities=1", "packing.batch_identities must be 0"),
        ("synthesis.images_per_identity=0", "synthesis.images_per_identity must be between 1 and 10000"),
        ("synthesis.min_cosine=1.5", "synthesis.min_cosine must be between -1 and 1; it is 1.5"),
        ("embed.max_bad_fraction=2", "embed.max_bad_fraction must be between 0 and 1"),
        ("embed.num_actors=-1", "embed.num_actors must be at least 0"),
        ("recognizer.kind=onnx", "recognizer.path is required"),
        ("run.seed=9223372036854775808", "run.seed must be at least 0 and below 2^63"),
        ("storage.endpoint_url=notaurl", "storage.endpoint_url must begin with http://"),
        ("dataset.jpeg_quality=0", "dataset.jpeg_quality must be between 1 and 100"),
    ],
)
def test_an_impossible_value_names_key_rule_and_value(override: str, named: str):
    with pytest.raises(ConfigError) as error:
        config.load(None, [RUN, override])
    assert named in str(error.value)


@pytest.mark.parametrize(
    ("allowed", "rule", "inside", "outside"),
    [
        (Range(at_least=1), "must be at least 1", [1, 9], [0, float("nan")]),
        (Range(at_least=0, at_most=64, least="off", unit="bits"), "must be between 0 (off) and 64 bits", [0, 64], [65]),
        (Range(above=0, at_most=1), "must be above 0 and at most 1", [0.1, 1], [0, 1.1]),
        (Range(at_least=0, below=2**63), "must be at least 0 and below 2^63", [0, 2**63 - 1], [-1, 2**63]),
        (Range(at_least=1, least="none", zero="its own"), "must be at least 1 (none), or 0 (its own)", [0, 1], [0.5]),
        (Range(at_least=2, reason="two are a pair"), "must be at least 2: two are a pair", [2], [1]),
        (Range(at_least=0, at_most=1, noun="a share"), "must be a share between 0 and 1", [0.5], [-0.1]),
    ],
)
def test_a_range_says_in_words_what_it_holds(allowed: Range, rule: str, inside: list[float], outside: list[float]):
    assert str(allowed) == rule
    assert all(map(allowed.holds, inside))
    assert not any(map(allowed.holds, outside))


def onnx_files(recognizer: str, judge: str) -> list[str]:
    given = {"recognizer": recognizer, "judge": judge}
    keys = {"kind": "onnx", "path": "m.onnx"}
    words = [f"{section}.{key}={value}" for section in given for key, value in keys.items()]
    return [*words, *(f"{section}.sha256={sha256}" for section, sha256 in given.items()), "embed.source=faces"]


def test_a_recogniser_is_not_its_own_judge():
    with pytest.raises(ConfigError, match=r"judge\.sha256 must be another file than the recogniser's"):
        config.load(None, [RUN, *onnx_files("ab" * 32, "AB" * 32)])
    assert config.load(None, [RUN, *onnx_files("ab" * 32, "cd" * 32)]).judge.sha256 == "cd" * 32
    unused = config.load(None, [RUN, *onnx_files("ab" * 32, "ab" * 32), "judge.kind=none"])
    assert unused.judge.kind == "none"


def test_two_numbers_of_an_attribute_model_have_two_names():
    with pytest.raises(ConfigError, match=r"audit\.attribute_names must be different names.*\['age', 'age'\]"):
        config.load(None, [RUN, "audit.attribute_names=[age,age]"])


def test_every_broken_rule_is_named_at_once():
    with pytest.raises(ConfigError) as error:
        config.load(None, ["packing.steps=-1"])
    assert "run.dir" in str(error.value)
    assert "packing.steps" in str(error.value)


def test_an_override_without_a_value_says_how_to_write_one():
    with pytest.raises(ConfigError, match="key=value"):
        config.load(None, ["run.dir"])


def test_text_on_the_command_line_is_never_read_as_a_number():
    made = config.load(None, ["run.dir=007", f"recognizer.sha256={'0' * 64}", "recognizer.path=1e3"])
    assert (made.run.dir, made.recognizer.sha256, made.recognizer.path) == ("007", "0" * 64, "1e3")


def test_text_that_is_not_yaml_is_refused(tmp_path: Path):
    (tmp_path / "bad.yaml").write_text("a: [b")
    with pytest.raises(ConfigError, match=r"bad\.yaml: is not YAML"):
        config.load(str(tmp_path / "bad.yaml"), [RUN])
    with pytest.raises(ConfigError, match="is not YAML"):
        config.load(None, [RUN, "packing.alpha=[1"])


def test_a_missing_or_shapeless_file_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(str(tmp_path / "none.yaml"), [RUN])
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="mapping"):
        config.load(str(tmp_path / "list.yaml"), [RUN])


def test_what_is_written_reads_back_equal():
    made = config.load(str(ROOT / "jobs/configs/toy.yaml"), [RUN, "packing.alpha=0.25", "dataset.format=parquet"])
    assert config.from_yaml(config.to_yaml(made)) == made


@pytest.mark.parametrize(
    ("key", "text", "rule"),
    [
        ("targets: {}", "targets: [x]", "control.targets must be a mapping"),
        ("against: []", "against: {a: 1}", "a list"),
    ],
)
def test_a_recorded_list_in_the_place_of_a_mapping_is_refused_and_the_other_way_round(key: str, text: str, rule: str):
    recorded = config.to_yaml(config.load(None, [RUN]))
    assert key in recorded
    with pytest.raises(ConfigError, match=rule):
        config.from_yaml(recorded.replace(key, text))


def given(tmp_path: Path, text: str, *overrides: str) -> config.Config:
    (tmp_path / "config.yaml").write_text(text)
    return config.load(str(tmp_path / "config.yaml"), [RUN, *overrides])


def test_a_value_that_is_written_as_its_default_outlives_a_recipe_that_has_another(tmp_path: Path):
    default = config.Config().train.epochs
    assert default != config.RECIPES["toy"]["epochs"]
    made = given(tmp_path, f"train: {{recipe: toy, epochs: {default}, schedule: cosine}}")
    assert (made.train.epochs, made.train.backbone) == (default, "small")
    assert config.changed(made, "there", []).train == made.train


def test_a_key_that_is_there_twice_is_refused_by_its_line_though_both_have_the_default(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"line 2, column 3 found duplicate key alpha .*line 4, column 3"):
        given(tmp_path, "packing:\n  alpha: 0.5\n  steps: 20\n  alpha: 0.5\n")
    with pytest.raises(ConfigError, match=r"found duplicate key report .*line 2, column 1"):
        given(tmp_path, "report: {}\nreport: {}\n")


def test_two_sections_that_are_one_to_yaml_have_its_values_both(tmp_path: Path):
    assert config.Config().vec2face.mask_mean != config.Config().train_generator.mask_mean == 0.75
    made = given(tmp_path, "train_generator: &same {mask_mean: 0.75, size: small}\nvec2face: *same\n")
    assert (made.vec2face.mask_mean, made.vec2face.size) == (0.75, "small")


def test_a_default_in_another_kind_of_value_is_refused_as_any_other(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"packing\.steps: .*'20'"):
        given(tmp_path, "packing: {steps: '20'}")
    with pytest.raises(ConfigError, match=r"storage\.region"):
        given(tmp_path, "storage: {region: null}")


def test_the_last_identity_may_be_the_last_that_a_key_can_number():
    assert config.load(None, [RUN, "packing.first_identity=9999000"]).packing.first_identity == 9_999_000


def test_a_configuration_recorded_before_a_key_existed_is_that_of_its_default():
    made = config.load(None, [RUN])
    recorded = config.to_yaml(made).replace("  first_identity: 0\n", "")
    assert "first_identity" not in recorded
    assert config.identity(config.from_yaml(recorded)) == config.identity(made)


def test_knobs_do_not_belong_to_the_identity_of_a_run():
    one = config.load(None, [RUN])
    other = config.load(None, ["run.dir=elsewhere", "packing.num_workers=3", "synthesis.num_actors=2"])
    assert config.identity(one) == config.identity(other)


def test_a_changed_alpha_is_a_difference_with_both_values():
    one, other = config.load(None, [RUN]), config.load(None, [RUN, "packing.alpha=0.9"])
    assert config.differences(config.identity(one), config.identity(other)) == ["packing.alpha: 0.5 -> 0.9"]


def test_the_keys_that_others_rely_on_exist():
    relied_on = {
        "run.dir", "run.seed", "embed.source", "embed.num_faces", "recognizer.kind", "recognizer.path",
        "packing.num_identities", "packing.alpha", "packing.steps", "packing.num_workers", "synthesis.generator",
        "synthesis.images_per_identity", "synthesis.images_per_shard", "dataset.format",
    }  # fmt: skip
    assert relied_on <= config.flat(config.Config()).keys()


def test_every_key_has_a_meaning_in_the_help():
    text = command_line.describe()
    for section in dataclasses.fields(config.Config):
        cls = type(getattr(config.Config(), section.name))
        for field in dataclasses.fields(cls):
            assert len(command_line._field_docs(cls)[field.name]) > 15, (section.name, field.name)
            assert f"{section.name}.{field.name}=" in text


def said_to(words: list[str], monkeypatch, capsys) -> tuple[int, str]:
    """(exit code, what a job without a configuration says)"""
    monkeypatch.setattr(sys, "argv", ["jobs.pack", *words])
    with pytest.raises(SystemExit) as ended:
        command_line.from_command_line("Pack.", "jobs.pack")
    return ended.value.code, capsys.readouterr().out


def test_help_lists_the_keys_of_the_sections_that_are_named(monkeypatch, capsys):
    code, said = said_to(["--help", "dataset", "run"], monkeypatch, capsys)
    assert code == 0
    assert "dataset.format=" in said
    assert "run.seed=" in said
    assert "packing." not in said


def test_a_job_without_words_says_how_it_is_called_and_where_its_keys_are_listed(monkeypatch, capsys):
    code, said = said_to([], monkeypatch, capsys)
    assert code == 2
    assert "usage: python -m jobs.pack CONFIG.yaml|RUN [key=value ...]" in said
    assert "--help SECTION" in said
    assert len(said.splitlines()) < 12


def test_help_needs_neither_torch_nor_ray():
    code = (
        "import sys, runpy; sys.argv = ['jobs.pipeline', '--help']\n"
        "try: runpy.run_module('jobs.pipeline', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "heavy = {'torch', 'ray', 'diffusers', 'pandas'} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "packing.num_identities=1000" in done.stdout


def test_a_relative_path_inside_a_submitted_job_is_refused_or_taken_from_the_users_folder(monkeypatch):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.delenv("HYPERFACE_BASE_DIR", raising=False)
    with pytest.raises(ConfigError, match="would be lost"):
        config.local_path("runs/demo")
    monkeypatch.setenv("HYPERFACE_BASE_DIR", "/somewhere")
    assert config.local_path("runs/demo") == "/somewhere/runs/demo"
    assert config.local_path("s3://bucket/run") == "s3://bucket/run"


@pytest.mark.parametrize("before", ["AKIA:hush@", "AKIA:hu/sh@", "hush@", "AKIA:hush"])
def test_credentials_in_the_place_of_a_run_are_refused_and_not_repeated(before: str):
    with pytest.raises(ConfigError, match=r"run.dir must name no user or password.*s3://\*\*\*") as error:
        config.load(None, [f"run.dir=s3://{before}bucket/run"])
    assert "hu" not in str(error.value)


def recorded_run(folder: Path, *overrides: str) -> str:
    open_run(config.load(None, [f"run.dir={folder}", *overrides]))
    return str(folder)


def test_a_job_that_is_given_a_run_takes_what_it_recorded_and_then_the_overrides(tmp_path: Path):
    directory = recorded_run(tmp_path / "run", "packing.alpha=0.25", "train.epochs=7", "train.milestones=[3,5]")
    found = command_line.of_run(directory, ["packing.num_workers=2"])
    assert (found.run.dir, found.packing.alpha, found.packing.num_workers) == (directory, 0.25, 2)
    assert found.train.epochs == 7


def test_a_recipe_that_is_given_anew_replaces_the_recorded_training(tmp_path: Path):
    directory = recorded_run(tmp_path / "run", "train.epochs=7", "train.milestones=[3,5]")
    found = command_line.of_run(directory, ["train.recipe=toy", "train.margin=0.2"]).train
    assert (found.backbone, found.epochs, found.margin) == ("small", config.RECIPES["toy"]["epochs"], 0.2)


def test_a_run_that_was_moved_is_where_it_is(tmp_path: Path):
    recorded_run(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "moved")
    assert command_line.of_run(str(tmp_path / "moved"), []).run.dir == str(tmp_path / "moved")


def test_a_folder_without_a_run_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"holds no run \(no config.yaml\)"):
        command_line.of_run(str(tmp_path), [])


def test_a_path_is_no_override_even_with_an_equals_sign_in_it():
    assert is_override("run.dir=x")
    assert not is_override("s3://bucket/date=2026/run")
    assert not is_override("runs/date=2026")
