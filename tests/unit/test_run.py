"""A run directory: created once, resumed only by the same configuration, its records append."""

import json
import os
import pwd
import time
from pathlib import Path

import pytest

from hyperface import config
from hyperface.errors import ConfigError, RunError, StorageError
from hyperface.run import existing_run, open_run
from hyperface.run.names import CONFIG, GALLERY, PROVENANCE, REFERENCES
from hyperface.run.provenance import git_sha
from hyperface.storage import open_store


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
    open_run(loaded(tmp_path)).store.put("dataset/x", b"")
    before = (tmp_path / "run" / CONFIG).read_bytes()
    with pytest.raises(ConfigError) as error:
        open_run(loaded(tmp_path, "packing.alpha=0.7", "dataset.format=parquet"))
    assert "dataset.format: 'webdataset' -> 'parquet'" in str(error.value)
    assert "packing.alpha: 0.5 -> 0.7" in str(error.value)
    assert (tmp_path / "run" / CONFIG).read_bytes() == before


@pytest.mark.parametrize(
    ("made", "free", "bound"),
    [
        (GALLERY, ["packing.alpha=0.7", "synthesis.max_attempts=3"], "embed.num_faces=7"),
        (REFERENCES, ["synthesis.images_per_identity=3", "dataset.format=parquet"], "packing.num_identities=7"),
    ],
)
def test_keys_of_stages_that_made_nothing_may_change(tmp_path: Path, made: str, free: list[str], bound: str):
    """Such keys change after an embedding of hours whose faces turn out to be too few for the packing."""
    open_run(loaded(tmp_path)).store.put(made, b"")
    open_run(loaded(tmp_path, *free))
    with pytest.raises(ConfigError, match=bound.partition("=")[0]):
        open_run(loaded(tmp_path, *free, bound))
    with pytest.raises(ConfigError, match=r"run\.seed"):
        open_run(loaded(tmp_path, *free, "run.seed=9"))


def test_a_first_attempt_that_made_nothing_binds_nobody_to_its_typos(tmp_path: Path):
    run = open_run(loaded(tmp_path, "packing.alpha=5"))
    run.record("embed", [{"event": "problem"}])
    for declared in ("recognition/one/training.json", "experiment/begun.json", "experiment/arms/one/1/config.yaml"):
        run.store.put(declared, b"{}")
    run = open_run(loaded(tmp_path))
    assert existing_run(str(run)).config.packing.alpha == 0.5
    run.store.put("recognition/one/checkpoints/1", b"x")
    with pytest.raises(ConfigError, match=r"packing\.alpha"):
        open_run(loaded(tmp_path, "packing.alpha=5"))


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


def test_a_process_asks_git_once_for_the_commit_of_what_it_executes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HYPERFACE_GIT_SHA", raising=False)
    first = git_sha()
    git = tmp_path / "git"
    git.write_text("#!/bin/sh\necho another\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert git_sha() == first


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


@pytest.mark.parametrize(
    "name",
    [
        *("photo.jpg", "models/weights.bin", "run1/config.yaml", "dataset/images/1.jpg", "report/index.html"),
        *("_claim-insurance.pdf", "_claim-letters.json", "dataset", "report"),
        *("plan/garden.pdf", "gallery/index.html", "records/1982/lp.flac", "train.py/x", "evaluation/audit.json"),
    ],
)
def test_a_folder_that_holds_something_else_is_refused_and_nothing_is_touched(tmp_path: Path, name: str):
    other, left = Path(tmp_path, "run", name), Path(tmp_path, "run", f".notes.{'a' * 32}")
    other.parent.mkdir(parents=True)
    for path in (other, left):
        path.write_bytes(b"x")
        os.utime(path, (0, time.time() - 3700))
    before = sorted(tmp_path.rglob("*"))
    held = name.partition("/")[0]
    with pytest.raises(ConfigError, match=rf"^run.dir: {tmp_path}/run holds no run \(no config.yaml\), but {held}"):
        open_run(loaded(tmp_path))
    assert sorted(tmp_path.rglob("*")) == before


HOME = Path(pwd.getpwuid(os.getuid()).pw_dir)
"""Home directory as the system knows it, whatever the environment says."""


@pytest.mark.parametrize("place", ["/", "~", f"{HOME}/../{HOME.name}/"])
def test_a_home_and_the_root_are_no_run(place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))  # an empty one
    with pytest.raises(ConfigError, match="is a home directory or that of the system, and holds no run"):
        open_run(config.load(None, [f"run.dir={place}"]))
    assert not list(tmp_path.iterdir())


def test_what_a_run_holds_before_it_begins_and_what_systems_leave_is_in_nobodys_way(tmp_path: Path):
    for name in ("plan/rates.json", "gallery/embeddings.parquet", "lost+found/x", ".DS_Store", ".Trash-1000/x"):
        path = Path(tmp_path, "run", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    Path(tmp_path, "other disk").mkdir()
    Path(tmp_path, "run", "dataset").symlink_to(tmp_path / "other disk")
    open_run(loaded(tmp_path))


@pytest.mark.parametrize("name", ["dataset", "records"])
def test_a_folder_of_a_run_that_is_a_file_or_leads_nowhere_is_said_before_the_first_stage(tmp_path: Path, name: str):
    run = open_run(loaded(tmp_path))
    Path(tmp_path, "run", name).symlink_to("/mnt/unmounted")
    with pytest.raises(ConfigError, match=rf"run/{name} must be a folder, or a link to one that is there; mount"):
        open_run(run.config)


def test_a_configuration_that_is_a_link_to_nothing_is_one_line(tmp_path: Path):
    Path(tmp_path, "run").mkdir()
    Path(tmp_path, "run", CONFIG).symlink_to("/mnt/unmounted/config.yaml")
    with pytest.raises(StorageError, match=r"config.yaml: has a name that is taken, and nothing in it: a link"):
        open_run(loaded(tmp_path))


def test_a_gallery_that_was_put_there_binds_nobody_to_the_typos_of_a_first_attempt(tmp_path: Path):
    Path(tmp_path, "run/gallery").mkdir(parents=True)
    Path(tmp_path, "run", GALLERY).write_bytes(b"x")
    open_run(loaded(tmp_path, "packing.alpha=5"))
    assert open_run(loaded(tmp_path)).config.packing.alpha == 0.5


@pytest.mark.parametrize("told", [b"{}", b'{"who": "me"}', b'{"seed": "1", "git_sha": ""}', b"{", b"\xff"])
def test_a_provenance_of_somebody_else_shows_no_run(tmp_path: Path, told: bytes):
    for name, data in ((PROVENANCE, told), ("dataset/photo.jpg", b"x")):
        path = Path(tmp_path, "run", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"holds no run .*but dataset/, provenance\.json; give a folder"):
        open_run(loaded(tmp_path))
    Path(tmp_path, "run/dataset/photo.jpg").unlink()
    with pytest.raises(ConfigError, match=r"holds no run .*but provenance\.json; give a folder"):
        open_run(loaded(tmp_path))


@pytest.mark.parametrize("name", ["_claim-letters.json", f"_claim-{'a' * 32}.json"])
def test_an_object_that_no_driver_wrote_is_kept_whatever_its_name(tmp_path: Path, name: str):
    open_run(loaded(tmp_path, "packing.alpha=5"))
    Path(tmp_path, "run", name).write_bytes(b"of somebody")
    open_run(loaded(tmp_path))
    assert Path(tmp_path, "run", name).read_bytes() == b"of somebody"


def test_a_run_whose_configuration_was_deleted_is_known_by_its_provenance(tmp_path: Path):
    run = open_run(loaded(tmp_path))
    run.store.put("packing/references.parquet", b"x")
    Path(tmp_path, "run", CONFIG).unlink()
    assert open_run(loaded(tmp_path)).store.read("packing/references.parquet") == b"x"
    Path(tmp_path, "run", PROVENANCE).unlink()
    Path(tmp_path, "run", CONFIG).unlink()
    with pytest.raises(ConfigError, match=r"holds no run .*but packing/; give a folder"):
        open_run(loaded(tmp_path))


def test_a_prefix_of_a_bucket_that_holds_something_else_is_refused_as_well(s3_bucket: str, s3_endpoint: str):
    words = [f"storage.endpoint_url={s3_endpoint}", "storage.patience_s=5"]
    run = open_run(config.load(None, [f"run.dir=s3://{s3_bucket}/runs/one", *words]))
    for above in (f"s3://{s3_bucket}", f"s3://{s3_bucket}/runs"):
        with pytest.raises(ConfigError, match=r"holds no run .*but (runs|one)/; give a folder that is empty"):
            open_run(config.load(None, [f"run.dir={above}", *words]))
    assert set(run.store.names()) == {CONFIG, PROVENANCE}
    open_run(config.load(None, [f"run.dir=s3://{s3_bucket}/other", *words]))
    bucket = open_store(f"s3://{s3_bucket}", run.config.storage)
    bucket.put("third/dataset/photo.jpg", b"x")
    with pytest.raises(ConfigError, match=r"holds no run .*but dataset/; give a folder that is empty"):
        open_run(config.load(None, [f"run.dir=s3://{s3_bucket}/third", *words]))
    assert bucket.names() == ("other/", "runs/", "third/")


def test_only_what_a_run_writes_is_swept_and_only_in_a_run_that_was_there(tmp_path: Path):
    run = Path(tmp_path, "run")
    ours = [run / f".config.yaml.{'a' * 32}", run / "dataset/parquet" / f".shard.parquet.{'b' * 32}"]
    others = [run / f".notes.txt.{'a' * 32}", run / "mine" / f".letter.{'b' * 32}", run / f".{'c' * 32}"]
    open_run(loaded(tmp_path))
    for path in (*ours, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        os.utime(path, (0, time.time() - 3700))
    (run / CONFIG).rename(tmp_path / "kept")
    with pytest.raises(ConfigError, match="holds no run"):
        open_run(loaded(tmp_path))
    assert all(path.exists() for path in ours)
    (tmp_path / "kept").rename(run / CONFIG)
    open_run(loaded(tmp_path))
    assert [path.exists() for path in (*ours, *others)] == [False, False, True, True, True]
