"""The main job as its user runs it: a process of its own, on a local directory, killed and run again."""

import json
import os
import shutil
import signal
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from processes import ROOT, command, digests, pipeline, run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("e2e") / "run"
    done = run(*pipeline(directory), alone=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"report   {directory}/report/index.html" in done.stdout
    return directory


def test_one_command_leaves_a_verified_dataset_and_a_report(finished: Path):
    index = json.loads((finished / "dataset/index.json").read_text())
    assert index["images"] + len(index["rejects"]) == 48
    assert (finished / "dataset/README.md").exists()
    assert "<html" in (finished / "report/index.html").read_text()
    checked = run("verify", str(finished), "--deep")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_same_command_again_finds_everything_done_and_changes_no_byte(finished: Path):
    before = digests(finished)
    again = run(*pipeline(finished))
    assert again.returncode == 0, again.stderr
    assert digests(finished) == before


def test_another_configuration_is_refused_by_name_and_changes_no_byte(finished: Path):
    before = digests(finished)
    refused = run(*pipeline(finished, "packing.alpha=0.1"))
    assert refused.returncode == 2
    assert "packing.alpha: 0.5 -> 0.1" in refused.stderr
    assert digests(finished) == before


def test_a_driver_killed_at_any_moment_is_resumed_to_the_same_dataset(finished: Path, tmp_path: Path):
    directory = tmp_path / "run"
    markers = directory / "dataset" / "_done"
    with subprocess.Popen(
        command(*pipeline(directory)), cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True
    ) as job:
        while job.poll() is None and not (markers.exists() and any(markers.glob("*.json"))):
            pass
        os.kill(job.pid, signal.SIGKILL)
    resumed = run(*pipeline(directory))
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr

    def dataset(root: Path) -> dict[str, str]:
        shards = digests(root / "dataset")
        return {name: digest for name, digest in shards.items() if name.endswith((".tar", ".parquet"))}

    assert dataset(directory) == dataset(finished)
    assert (directory / "dataset/index.json").read_bytes() == (finished / "dataset/index.json").read_bytes()


def test_each_stage_is_a_job_of_its_own(finished: Path, tmp_path: Path):
    directory = tmp_path / "run"
    for job in ("embed", "pack", "synthesize", "report"):
        done = run(job, *pipeline(directory)[1:])
        assert done.returncode == 0, (job, done.stderr)
    assert digests(directory)["packing/references.parquet"] == digests(finished)["packing/references.parquet"]
    assert (directory / "report/index.html").exists()


def test_verify_names_a_damaged_shard_and_only_repair_makes_it_again(finished: Path, tmp_path: Path):
    directory = Path(shutil.copytree(finished, tmp_path / "run"))
    shard = sorted((directory / "dataset/webdataset").glob("*.tar"))[0]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-512])
    found = run("verify", str(directory))
    assert found.returncode == 1
    assert shard.name in found.stderr
    refused = run(*pipeline(directory))
    assert refused.returncode == 1
    assert shard.name in refused.stderr
    assert "synthesis.repair=true" in refused.stderr
    mended = run(*pipeline(directory, "synthesis.repair=true"))
    assert mended.returncode == 0, mended.stderr
    assert shard.read_bytes() == whole


def test_a_job_whose_workers_cannot_go_on_says_why(finished: Path, tmp_path: Path):
    directory = Path(shutil.copytree(finished, tmp_path / "run"))
    fingerprint = directory / "dataset/fingerprint.json"
    fingerprint.write_text(json.dumps({**json.loads(fingerprint.read_text()), "generator": "another"}))
    for marker in (directory / "dataset/_done").glob("*.json"):
        marker.unlink()
    refused = run("synthesize", *pipeline(directory)[1:])
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert "generator: 'another' -> " in refused.stderr


def test_an_embed_worker_that_cannot_go_on_says_why(tmp_path: Path):
    """A first attempt that made nothing does not bind the directory to its configuration, either; its last line
    accounts for every file of a source."""
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces/a.png").write_bytes(b"")
    model = tmp_path / "model.onnx"
    model.write_bytes(b"another file")
    wrong = ("recognizer.kind=onnx", f"recognizer.path={model}", f"recognizer.sha256={'0' * 64}")
    refused = run("embed", *pipeline(tmp_path / "run")[1:], f"embed.source={tmp_path / 'faces'}", *wrong)
    assert refused.returncode == 1, refused.stdout + refused.stderr
    assert f"error: {model}" in refused.stderr
    assert "Traceback" not in refused.stderr
    rng = np.random.default_rng(0)
    for name in ("b.png", "c.png", ".d.png"):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "faces" / name)
    with tarfile.open(tmp_path / "faces/e.tar", "w") as archive:
        archive.add(tmp_path / "faces/b.png", "f.txt")
        archive.add(tmp_path / "faces/b.png", "__MACOSX/g.png")
    source = (f"embed.source={tmp_path / 'faces'}", "embed.num_faces=0", "embed.max_bad_fraction=0.5")
    done = run("embed", *pipeline(tmp_path / "run")[1:], *source)
    assert done.returncode == 0, done.stderr
    passed_over = "4 files passed over (hidden 2, .tar without a face 1, .txt 1)"
    assert f"\nembed: 2 faces, 1 left out (unreadable 1), {passed_over}, " in done.stdout


def test_an_unknown_key_exits_with_two_before_anything_is_written(tmp_path: Path):
    refused = run("pipeline", "jobs/configs/toy.yaml", f"run.dir={tmp_path / 'run'}", "packing.num_identites=3")
    assert refused.returncode == 2
    assert "num_identities" in refused.stderr
    assert not (tmp_path / "run").exists()


def test_weights_that_are_missing_are_named_before_a_face_is_embedded(tmp_path: Path):
    words = pipeline(tmp_path / "run", "synthesis.generator=vec2face", "vec2face.size=small")
    refused = run(*words, f"vec2face.path={tmp_path}/missing.safetensors", f"vec2face.sha256={'5e' * 32}")
    assert refused.returncode == 1, refused.stderr
    assert f"{tmp_path}/missing.safetensors" in refused.stderr.strip().splitlines()[-1]
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "run/gallery").exists()
