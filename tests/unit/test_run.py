"""A run directory: created once, resumed only by the same configuration, its records append."""

import json
import os
import time
from pathlib import Path

import pytest

from hyperface import config
from hyperface.config import ConfigError
from hyperface.run import CONFIG, GALLERY, PROVENANCE, RunError, existing_run, open_run


def loaded(tmp_path: Path, *overrides: str) -> config.Config:
    return config.load(None, [f"run.dir={tmp_path / 'run'}", *overrides])


def test_a_run_is_created_with_its_configuration_and_provenance(tmp_path: Path):
    run = open_run(loaded(tmp_path))
    assert set(run.store.list()) == {CONFIG, PROVENANCE}
    assert existing_run(str(tmp_path / "run")).config == run.config
    assert {"git_sha", "packages", "python", "seed"} <= run.get_json(PROVENANCE).keys()


def test_the_same_configuration_opens_it_again_whatever_its_knobs(tmp_path: Path):
    open_run(loaded(tmp_path))
    assert open_run(loaded(tmp_path, "packing.num_workers=2")).config.packing.num_workers == 2


def test_a_configuration_that_writes_other_bytes_is_refused_by_key(tmp_path: Path):
    open_run(loaded(tmp_path)).store.put(GALLERY, b"")
    before = (tmp_path / "run" / CONFIG).read_bytes()
    with pytest.raises(ConfigError) as error:
        open_run(loaded(tmp_path, "packing.alpha=0.7", "dataset.format=parquet"))
    assert "dataset.format: 'webdataset' -> 'parquet'" in str(error.value)
    assert "packing.alpha: 0.5 -> 0.7" in str(error.value)
    assert (tmp_path / "run" / CONFIG).read_bytes() == before


def test_a_first_attempt_that_made_nothing_binds_nobody_to_its_typos(tmp_path: Path):
    open_run(loaded(tmp_path, "packing.alpha=5")).record("embed", [{"event": "problem"}])
    run = open_run(loaded(tmp_path))
    assert existing_run(str(run)).config.packing.alpha == 0.5


@pytest.mark.parametrize("text", ["", "run: {dir: x}", "run: [", "run: {no_such_key: 1}"])
def test_a_damaged_configuration_of_a_run_is_named(tmp_path: Path, text: str):
    open_run(loaded(tmp_path)).store.put(CONFIG, text.encode())
    with pytest.raises(RunError, match=r"config\.yaml: is not the configuration of a run"):
        existing_run(str(tmp_path / "run"))


def test_a_directory_without_a_run_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match="holds no run"):
        existing_run(str(tmp_path))


def test_records_append_and_read_back(tmp_path: Path):
    run = open_run(loaded(tmp_path))
    run.record("embed", [{"a": 1}])
    run.record("embed", [{"b": 2}, {"c": 3}])
    assert run.records("embed") == [{"a": 1}, {"b": 2}, {"c": 3}]
    assert run.records("packing") == []


def test_the_submission_id_of_a_ray_job_is_in_the_provenance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    described = {"metadata": {"job_submission_id": "demo-a1"}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(described))
    monkeypatch.setenv("HYPERFACE_GIT_SHA", "abc123")
    written = open_run(loaded(tmp_path)).get_json(PROVENANCE)
    assert (written["submission_id"], written["git_sha"]) == ("demo-a1", "abc123")


def test_what_a_killed_probe_leaves_binds_nobody_to_a_configuration(tmp_path: Path):
    open_run(loaded(tmp_path, "packing.alpha=5")).store.put("_probe-left", b"1")
    assert open_run(loaded(tmp_path)).config.packing.alpha == 0.5


def test_old_temporaries_of_killed_writers_are_removed_and_nothing_else(tmp_path: Path):
    shards = open_run(loaded(tmp_path)).store.url + "/dataset/parquet"
    left, young = (Path(shards, f".shard.tar.{digit * 32}") for digit in "ab")
    others = [Path(shards, name) for name in (".hidden", f".shard.{'g' * 32}", f"shard.{'a' * 32}")]
    left.parent.mkdir(parents=True)
    for path in (left, young, *others):
        path.write_bytes(b"x")
        if path != young:
            os.utime(path, (0, time.time() - 3700))
    open_run(loaded(tmp_path))
    assert set(left.parent.iterdir()) == {young, *others}
