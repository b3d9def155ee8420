"""Status of a run directory, in every state that a run can be left in."""

import json
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from color_world import ColorGenerator, color_config, color_run, make_dataset
from finished_run import finished_run

from hyperface.config import StorageConfig
from hyperface.dataset import verify
from hyperface.dataset.export import export_run
from hyperface.dataset.marker import Quarantine
from hyperface.dataset.plan import marker_file, pending_file, quarantine_file, shard_file
from hyperface.dataset.source import open_source
from hyperface.experiment import comparison as experiment
from hyperface.run import Run, open_run
from hyperface.run.command_line import run_of, storage_of
from hyperface.run.names import GALLERY, INDEX, LEASE, PACKING_SUMMARY, REFERENCES, REPORT
from hyperface.run.records import to_json
from hyperface.status import COMPLETE, FAILING, UNFINISHED, Status, lines, status
from hyperface.storage import LocalStore, open_store
from hyperface.training.run_images import RunImages
from hyperface.verification.verification import measured
from jobs import status as job
from jobs.start import exit_code

RECIPE = color_config("unused").train.recipe
SUMMARY = {"trained_on": "here", "data": {"fingerprint": "ff"}, "steps": 2, "loss": 1.25, "sha256": "aa"}
VERIFIED_SET = measured(np.linspace(0, 2, 20), np.arange(20) % 2 == 0) | {"source": "toy"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Packed and drawn: four shards; no report."""
    return finished_run(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def run(finished: Run, tmp_path: Path) -> Run:
    """A copy of it, to be changed."""
    shutil.copytree(str(finished), tmp_path / "run")
    return replace(finished, store=LocalStore(str(tmp_path / "run")))


def states(found: Status) -> dict[str, str]:
    return {stage.name: stage.state for stage in found.stages}


def told(found: Status, name: str) -> str:
    return next(stage.told for stage in found.stages if stage.name == name)


def without(run: Run, *shards: int) -> Run:
    """The run as it was before these shards were done."""
    for shard in shards:
        run.store.delete(marker_file(shard))
    run.store.delete(INDEX)
    return run


def test_a_run_that_was_only_opened_begins_with_the_pipeline(tmp_path: Path):
    found = status(open_run(color_config(tmp_path / "run")))
    assert set(states(found).values()) == {"not begun"}
    assert found.next == f"python -m jobs.pipeline {tmp_path}/run"
    assert found.exit_code == UNFINISHED


def test_a_run_without_its_page_is_reported_next_and_then_complete(run: Run):
    found = status(run)
    assert states(found) == {"embed": "done", "pack": "done", "synthesize": "done", "report": "not begun"}
    assert told(found, "embed") == "20 faces"
    assert told(found, "synthesize") == "30 images in 4 shards"
    assert (found.next, found.exit_code) == (f"python -m jobs.report {run}", UNFINISHED)
    run.store.put(REPORT, b"<html>")
    found = status(run)
    assert (found.next, found.exit_code) == (f"python -m jobs.verify {run} --deep", COMPLETE)


def test_an_index_does_not_make_a_dataset_whole_that_lost_a_marker(run: Run):
    run.store.delete(marker_file(2))
    found = status(run)
    assert states(found)["synthesize"] == "partly"
    assert told(found, "synthesize") == "3 of 4 shards"


def test_shards_are_counted_by_names_alone(run: Run):
    without(run, 1, 3)

    class Reading(LocalStore):
        def read(self, name: str) -> bytes:
            assert "_done/" not in name
            return super().read(name)

    found = status(replace(run, store=Reading(run.store.url)))
    stage = next(stage for stage in found.stages if stage.name == "synthesize")
    assert (stage.state, stage.done, stage.total) == ("partly", 2, 4)
    assert found.next == f"python -m jobs.pipeline {run}"
    assert found.exit_code == UNFINISHED


def test_all_shards_without_an_index_are_not_yet_a_dataset(run: Run):
    found = status(without(run))
    assert told(found, "synthesize") == "4 of 4 shards, no index yet"
    assert states(found)["synthesize"] == "partly"


def test_a_quarantined_shard_is_told_with_its_reason_and_taken_up_again_when_the_others_are_done(run: Run):
    without(run, 2, 3)
    note = Quarantine(2, 3, "its actor died", "2026-01-01T00:00:00+00:00")
    run.store.put(quarantine_file(2), note.to_bytes())
    found = status(run)
    assert found.quarantined == {2: str(note)}
    assert (found.next, found.exit_code) == (f"python -m jobs.pipeline {run}", FAILING)
    run.store.put(marker_file(3), b"{}")
    found = status(run)
    assert found.next == f"python -m jobs.synthesize {run} synthesis.retry_quarantined=true"
    assert f"{'quarantined':<25} {note}" in list(lines(found))


def test_a_shard_that_failed_is_failing_until_it_is_done(run: Run):
    without(run, 1)
    run.record("synthesis", [{"event": "failed", "shard": 1, "failed": "the generator is broken"}])
    assert status(run).failing == ("shard 1: the generator is broken",)
    run.store.put(marker_file(1), b"{}")
    assert status(run).failing == ()


def test_a_file_that_is_gone_is_repaired_before_anything_else(run: Run):
    run.store.delete(shard_file("parquet", 2))
    found = status(run)
    (problem,) = found.failing
    assert problem.startswith(f"{run}/dataset/parquet/shard-000002.parquet: is missing")
    assert found.next == f"python -m jobs.synthesize {run} synthesis.repair=true"
    assert found.exit_code == FAILING


def test_rejects_notes_and_the_driver_are_told(run: Run):
    without(run, 0)
    rows = [{"event": "shard", "shard": shard, "rejects": 2} for shard in (0, 1, 2)]
    run.record("synthesis", rows)
    run.store.put(pending_file(0), b"{}")
    run.put_json(LEASE, {"host": "head", "pid": 7, "seen": "2026-01-01T00:00:00+00:00"})
    found = status(run)
    assert (found.rejects, found.pending) == (4, 1)
    assert found.last["synthesis"] == rows[-1]
    assert any("process 7 of head" in line for line in lines(found))


def test_what_a_record_holds_is_told_in_words_and_never_obeyed(run: Run):
    run.store.delete(GALLERY)
    run.record("embed", [{"event": "problem", "key": "\x1b[2Ja\nnext  x", "problem": "unreadable"}])
    run.store.put("records/odd\x1b.jsonl", b'{"a": 1}\n')
    told = list(lines(status(run)))
    assert all(line.isprintable() for line in told)
    assert not [line for line in told if line.startswith("last of")]
    assert any(r"1 faces could not be used, e.g. \x1b[2Ja\nnext  x: unreadable" in line for line in told)


def test_a_packing_is_told_by_its_newest_checkpoint(run: Run):
    for name in (REFERENCES, PACKING_SUMMARY):
        run.store.delete(name)
    for step in (4, 8):
        marker = {"step": step, "progress": [{"max_cosine": step / 10}]}
        run.put_json(f"packing/checkpoints/step-{step:09d}/marker.json", marker)
    run.store.put("packing/checkpoints/step-000000012/rows.safetensors", b"")
    found = status(run)
    assert told(found, "pack") == "step 8 of 12, max cosine 0.800"


def test_references_from_elsewhere_need_no_gallery(tmp_path: Path):
    run = color_run(tmp_path / "run")
    found = status(run)
    assert "embed" not in states(found)
    assert found.next == f"python -m jobs.synthesize {run}"


def test_faces_that_could_not_be_used_are_failing_while_there_is_no_gallery(tmp_path: Path):
    run = open_run(color_config(tmp_path / "run"))
    run.record("embed", [{"event": "problem", "key": "a.jpg", "problem": "is no image"}])
    found = status(run)
    assert "1 faces could not be used, e.g. a.jpg: is no image" in found.failing[0]


def begun(run: Run, root: str, section: str, name: str, **recipe: object) -> str:
    """A training that wrote what decides its result, and a checkpoint."""
    own = {"batch_size": 6, "epochs": 3, **recipe}
    run.put_json(f"{root}/{name}/training.json", {section: own, "data": {"images": 30}})
    marker = {"step": 5, "progress": {"history": [{"loss": 2.5}]}}
    run.put_json(f"{root}/{name}/checkpoints/step-000000005/marker.json", marker)
    return f"{root}/{name}"


def keys(found: Status) -> dict[str, str]:
    """The key=value words of the next command."""
    return dict(word.split("=", 1) for word in shlex.split(found.next)[4:])


def test_a_training_goes_on_with_the_keys_that_it_was_begun_with(run: Run):
    run.store.put(REPORT, b"<html>")
    folder = begun(run, "recognition", "train", "second", milestones=[1, 2], flip=run.config.train.flip, recipe=RECIPE)
    found = status(run)
    assert told(found, "train second") == "step 5 of 15, loss 2.500"
    assert found.next.startswith(f"python -m jobs.train {run} train.name=second ")
    begun_with = {"train.name": "second", "train.batch_size": "6", "train.epochs": "3", "train.milestones": "[1,2]"}
    assert keys(found) == begun_with
    run.store.put(f"{folder}/backbone.safetensors", b"network")
    run.put_json(f"{folder}/summary.json", {**SUMMARY, "steps": 15, "loss": 1.25})
    found = status(run)
    assert told(found, "train second") == "15 steps, loss 1.250"
    assert found.exit_code == COMPLETE


def test_a_training_by_another_recipe_goes_on_with_what_that_does_not_say(run: Run):
    """A recipe that is given as a key puts its defaults in place of everything that the run recorded."""
    run = replace(run, config=replace(run.config, train=replace(run.config.train, epochs=3)))
    run.store.put(REPORT, b"<html>")
    begun(run, "recognition", "train", "second", recipe="toy", batch_size=128)
    assert keys(status(run)) == {"train.name": "second", "train.recipe": "toy", "train.epochs": "3"}


def test_a_directory_of_trainings_alone_is_asked_for_no_dataset(tmp_path: Path):
    run = open_run(color_config(tmp_path / "run"))
    folder = begun(run, "generator", "train_generator", "vec2face")
    found = status(run)
    assert states(found) == {"train_generator vec2face": "partly"}
    assert found.next.startswith(f"python -m jobs.train_generator {run} train_generator.name=vec2face")
    run.store.put(f"{folder}/generator.safetensors", b"network")
    run.put_json(f"{folder}/summary.json", {**SUMMARY, "steps": 15, "loss": 1.25})
    found = status(run)
    assert (found.next, found.exit_code) == ("", COMPLETE)
    assert list(lines(found))[-1].endswith("nothing is left to do")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"evaluate.model": "judge", "evaluate.benchmarks": [], "train.name": "student"}, "evaluate.model=judge"),
        ({"evaluate.model": "trained", "train.name": "other"}, "train.name=other"),
        ({"evaluate.model": "onnx", "evaluate.path": "/a.onnx"}, "evaluate.model=onnx evaluate.path=/a.onnx"),
    ],
)
def test_a_verification_that_was_stopped_goes_on_with_what_was_asked_for(run: Run, keys: dict[str, Any], words: str):
    run.store.put(REPORT, b"<html>")
    record = {
        "model": {"kind": "judge"},
        "sets": {"easy": VERIFIED_SET},
        "asked": {"sets": ["easy", "pose"], "keys": keys},
    }
    run.put_json("evaluation/verification/some.json", record)
    found = status(run)
    assert told(found, "evaluate") == "some, 1 of 2 sets"
    assert found.next == f"python -m jobs.evaluate {run} {words}"
    run.put_json(
        "evaluation/verification/some.json", {**record, "sets": dict.fromkeys(("easy", "pose", "old"), VERIFIED_SET)}
    )
    assert (states(status(run))["evaluate"], status(run).exit_code) == ("done", COMPLETE)


def test_an_experiment_counts_its_pieces(tmp_path: Path):
    run = open_run(color_config(tmp_path / "run", "experiment.seeds=1"))
    every = experiment.pieces(run.config)
    run.put_json("experiment/begun.json", {})
    run.put_json(every[0].result, {})
    found = status(run)
    assert told(found, "experiment") == f"1 of {len(every)} pieces"
    assert found.next == f"python -m jobs.experiment {run}"


def test_a_broken_record_is_a_trouble_and_not_the_end(run: Run):
    run.store.put("records/embed.jsonl", b"{\n" + b"[" * 100_000)
    run.store.put(PACKING_SUMMARY, b"\xff")
    found = status(run)
    assert [problem.split(": ")[0] for problem in found.failing] == [
        f"{run}/records/embed.jsonl, line 1",
        f"{run}/packing/summary.json",
    ]


def test_the_next_command_reaches_the_same_storage(run: Run):
    found = status(run, StorageConfig(endpoint_url="http://127.0.0.1:9000", addressing_style="path"))
    assert found.next.endswith(" storage.endpoint_url=http://127.0.0.1:9000 storage.addressing_style=path")


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_the_job_prints_it_and_its_exit_code_says_how_it_stands(
    run: Run, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["jobs.status", str(run), *words])
    with pytest.raises(SystemExit) as ended:
        exit_code(job.main)
    said = capsys.readouterr().out
    assert ended.value.code == UNFINISHED
    if words:
        found = json.loads(said)
        assert (found["next"], found["exit_code"]) == (f"python -m jobs.report {run}", UNFINISHED)
    else:
        assert said.splitlines()[-1].split(maxsplit=1) == ["next", f"python -m jobs.report {run}"]


def test_a_run_in_a_bucket_is_told_like_one_on_a_disk(run: Run, s3_endpoint: str, s3_bucket: str):
    without(run, 2)
    words = [f"storage.endpoint_url={s3_endpoint}", "storage.addressing_style=path"]
    url = f"s3://{s3_bucket}/run"
    bucket = open_store(url, storage_of(url, words))
    for name in run.store.list():
        bucket.put(name, run.store.read(name))
    found, local = status(run_of(url, words), storage_of(url, words)), status(run)
    assert found.stages == local.stages
    assert (found.run, found.exit_code) == (url, UNFINISHED)
    assert found.next == " ".join([f"python -m jobs.pipeline {url}", *words])
    last = list(lines(found))[-1].split(maxsplit=3)
    assert last == ["on", "a", "cluster", " ".join([f"python -m jobs.submit pipeline {url}", *words])]


def test_names_of_stages_stand_apart_from_what_is_told_of_them(tmp_path: Path):
    run = open_run(color_config(tmp_path / "run"))
    run.put_json("generator/vec2face/summary.json", {**SUMMARY, "steps": 2})
    assert "train_generator vec2face  done, 2 steps, loss 1.250" in list(lines(status(run)))


def test_no_run_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "argv", ["jobs.status", str(tmp_path)])
    assert exit_code(job.main) == 2
    assert "holds no run" in capsys.readouterr().err


VERIFIED = "evaluation/verification/student.json"
TRAINED = "recognition/student/training.json"
STEP = "packing/checkpoints/step-000000010/marker.json"
TRAINED_STEP = "recognition/student/checkpoints/step-000000010/marker.json"
BEGUN = {"train": {"batch_size": 4, "epochs": 2}, "data": {"images": 8}}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (VERIFIED, {"model": {}}),
        (VERIFIED, {"model": {"kind": "judge"}, "asked": None, "sets": {}}),
        (VERIFIED, {"model": {"kind": "judge"}, "asked": {"sets": ["easy"], "keys": {}}, "sets": None}),
        (VERIFIED, []),
        (TRAINED, {**BEGUN, "data": {}}),
        (TRAINED, {"data": {"images": 8}}),
        (STEP, {"progress": []}),
        (TRAINED_STEP, {"step": 1, "progress": None}),
        ("records/synthesis.jsonl", {"event": "shard", "shard": 0}),
    ],
)
def test_a_record_of_another_shape_is_told_and_ends_nothing(run: Run, name: str, content: Any):
    if name == STEP:
        run.store.delete(REFERENCES)
        run.store.delete(PACKING_SUMMARY)
    if name == TRAINED_STEP:
        run.store.put(TRAINED, to_json(BEGUN))
    run.store.put(name, json.dumps(content).encode())
    found = status(run)
    assert "\n".join(lines(found))
    if not name.startswith("records/"):
        (problem,) = found.failing
        folder = name if "checkpoints" not in name else name.split("/checkpoints", maxsplit=1)[0]
        assert folder in problem
        assert found.exit_code == FAILING
        assert "evaluate" not in states(found)


def test_a_verification_that_has_not_measured_its_first_set_goes_on(run: Run):
    asked = {"sets": ["easy", "hard"], "keys": {"evaluate.benchmarks": ["toy"]}}
    run.store.put(VERIFIED, to_json({"model": {"kind": "judge"}, "asked": asked, "sets": {}}))
    run.store.put(REPORT, b"<html>")
    found = status(run)
    assert told(found, "evaluate") == "student, 0 of 2 sets"
    assert found.next == f"python -m jobs.evaluate {run} 'evaluate.benchmarks=[\"toy\"]'"


def test_a_run_whose_folders_are_links_to_another_disk_is_the_same_for_every_job(run: Run, tmp_path: Path):
    run.store.put(REPORT, b"<html>")
    for folder in ("dataset", "packing"):
        (tmp_path / "disk").mkdir(exist_ok=True)
        moved = shutil.move(Path(run.store.url, folder), tmp_path / "disk" / folder)
        Path(run.store.url, folder).symlink_to(moved)
    assert verify(run, deep=True) == []
    assert status(run).exit_code == COMPLETE
    source = open_source(run)
    done = export_run(run, "imagefolder", open_store(str(tmp_path / "export")))
    assert done["images"] == sum(len(source.read(shard).keys) for shard in range(source.plan.num_shards))
    assert RunImages((source,)).num_images == done["images"]
    run.store.delete(INDEX)
    assert status(run).exit_code != COMPLETE
    make_dataset(run, ColorGenerator())
    assert verify(run, deep=False) == []
    assert Path(run.store.url, "dataset").is_symlink()
