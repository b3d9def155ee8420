"""The packing of a run: what it leaves, how it goes on after an interruption, and checkpoints across world sizes."""

import hashlib
import json
import subprocess
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import ran
from full_disk import FullDisk
from threaded_ranks import on_ranks

from hyperface.config import Config, PackingConfig, RunConfig
from hyperface.distributed.ranks import even_sizes
from hyperface.errors import ConfigError, EmbeddingError, RunError, StorageError
from hyperface.faces import embeddings
from hyperface.faces.embeddings import Embeddings
from hyperface.packing import checkpoint, pack, result, sphere, stage
from hyperface.packing.checkpoint import History
from hyperface.packing.partition import Partition, one_process
from hyperface.packing.result import Measures, Progress
from hyperface.packing.solver import State
from hyperface.progress.meter import Point
from hyperface.run import Run
from hyperface.run.names import CHECKPOINTS, GALLERY, PACKING_SUMMARY, REFERENCES
from hyperface.storage import LocalStore, Store, open_store

CPU = torch.device("cpu")
N, DIM = 30, 8
PACKING = PackingConfig(N, steps=50, checkpoint_every=20)


def run_in(store: Store, config: PackingConfig = PACKING) -> Run:
    """A run with a gallery of 60 rows."""
    gallery_GD = sphere.random_points(60, DIM, seed=5)
    store.put(GALLERY, embeddings.to_parquet("key", Embeddings([f"face-{i}" for i in range(60)], gallery_GD)))
    return Run(store, Config(run=RunConfig(dir=store.url, seed=3), packing=config))


def references(run: Run) -> np.ndarray:
    return embeddings.read(run.store, REFERENCES, "identity").vectors_ND


def test_a_run_gets_references_summary_and_record_equal_to_the_solvers(tmp_path, capsys):
    run = run_in(LocalStore(str(tmp_path)))
    stage.pack_rows(run, one_process(N), CPU)
    gallery_GD = embeddings.read(run.store, GALLERY, "key").vectors_ND
    packing = pack(gallery_GD, PACKING, seed=3, gallery_GD=gallery_GD)
    table = embeddings.read(run.store, REFERENCES, "identity")
    assert table.names == list(range(N))
    np.testing.assert_array_equal(table.vectors_ND, packing.references_ND)
    summary = run.get_json(PACKING_SUMMARY)
    assert summary.pop("seconds") > 0
    assert summary.pop("references_sha256") == hashlib.sha256(run.store.read(REFERENCES)).hexdigest()
    expected = {**asdict(packing), "num_identities": N, "dim": DIM, "alpha": 0.5, "start": "gallery"}
    expected |= {"separation": "logsumexp", "precision": "float32", "frozen": None, "protected": None}
    del expected["references_ND"], expected["norms_N"], expected["seconds"]
    assert summary == expected
    rows = run.records("packing")
    assert [row["step"] for row in rows] == list(range(51))
    assert rows[-1]["max_cosine"] == packing.max_cosine
    assert set(rows[0]) == {
        "step", "max_cosine", "mean_nearest_cosine", "mean_gallery_cosine", "loss", "seconds"
    }  # fmt: skip
    assert not run.store.list(CHECKPOINTS)
    assert stage.is_done(run)
    assert "packing: max cosine" in capsys.readouterr().out


def test_a_long_run_records_about_eighty_steps_with_the_first_and_the_last(tmp_path):
    run, points = run_in(LocalStore(str(tmp_path)), replace(PACKING, steps=500, alpha=0.0)), list[Point]()
    stage.pack_rows(run, one_process(N), CPU, watch=points.append)
    rows = run.records("packing")
    steps = [row["step"] for row in rows]
    assert steps[0] == 0
    assert steps[-2:] == [499, 500]
    assert 60 <= len(steps) <= 100
    assert rows[0]["mean_gallery_cosine"] is None
    assert [(point.done, point.total) for point in points] == [(step, 500) for step in steps]
    recorded = [{name: row[name] for name in row if name not in ("step", "seconds")} for row in rows]
    assert [dict.fromkeys(row) | point.values for row, point in zip(recorded, points, strict=True)] == recorded


@pytest.mark.parametrize("refused", [f"{CHECKPOINTS}/step-000000040/marker.json", REFERENCES, PACKING_SUMMARY])
def test_an_interrupted_run_goes_on_from_its_last_checkpoint_to_the_same_bytes(tmp_path, refused, capsys):
    undisturbed = run_in(LocalStore(str(tmp_path / "undisturbed")))
    stage.pack_rows(undisturbed, one_process(N), CPU)
    disk = str(tmp_path / "full")
    interrupted = run_in(FullDisk(disk, refused=refused))
    with pytest.raises(StorageError, match="No space left"):
        stage.pack_rows(interrupted, one_process(N), CPU)
    assert not stage.is_done(interrupted)
    capsys.readouterr()
    resumed = run_in(LocalStore(disk))
    stage.pack_rows(resumed, one_process(N), CPU)
    assert f"from step {20 if 'marker' in refused else 50} of 50" in capsys.readouterr().out
    assert resumed.store.read(REFERENCES) == undisturbed.store.read(REFERENCES)
    times = {"seconds": 0}
    assert resumed.get_json(PACKING_SUMMARY) | times == undisturbed.get_json(PACKING_SUMMARY) | times
    assert [row | times for row in resumed.records("packing")] == [
        row | times for row in undisturbed.records("packing")
    ]
    assert not resumed.store.list(CHECKPOINTS)


def test_a_checkpoint_of_one_world_size_is_gone_on_with_by_another(tmp_path):
    undisturbed = run_in(LocalStore(str(tmp_path / "undisturbed")))
    stage.pack_rows(undisturbed, one_process(N), CPU)
    disk = str(tmp_path / "full")
    interrupted = run_in(FullDisk(disk, refused=f"{CHECKPOINTS}/step-000000040/marker.json"))
    with pytest.raises(StorageError):
        on_ranks(even_sizes(N, 3), lambda shard: stage.pack_rows(interrupted, shard, CPU))
    resumed = run_in(LocalStore(disk))
    on_ranks(even_sizes(N, 2), lambda shard: stage.pack_rows(resumed, shard, CPU))
    np.testing.assert_allclose(references(resumed), references(undisturbed), atol=1e-4)
    maxima = [run.get_json(PACKING_SUMMARY)["max_cosine"] for run in (resumed, undisturbed)]
    assert maxima[0] == pytest.approx(maxima[1], abs=1e-4)


def a_state(step: int, rows: slice) -> State:
    """A state whose every number tells its row."""
    row_N = torch.arange(N, dtype=torch.float32)[rows]
    x_LD = row_N[:, None] + torch.arange(DIM) / 10
    whole = row_N.long()
    rows_LD = (x_LD, x_LD + 1000, x_LD[:, :1] + 2000, whole + step, whole + 7, whole + 9, x_LD + 3000)
    return State(*rows_LD, torch.tensor(0.25), torch.tensor(0.5), step, 1.5, looked_best=0.3, looked_step=2)


@pytest.mark.parametrize("written_by", [1, 2, 3, 7])
@pytest.mark.parametrize("read_by", [1, 3, 4])
def test_any_world_size_reads_its_rows_of_any_others_checkpoint(tmp_path, written_by, read_by):
    store = LocalStore(str(tmp_path))
    history = History(Measures(0.9, 0.8, None, None), [Progress(0, 0.9, 0.8, None, 0.95, 0.1)])
    on_ranks(even_sizes(N, written_by), lambda shard: checkpoint.save(store, a_state(4, shard.own), history, shard))

    def check(shard: Partition) -> None:
        loaded = checkpoint.load(store, shard, CPU)
        assert loaded is not None
        state, told = loaded
        expected = a_state(4, shard.own)
        for field in fields(State):
            found, wanted = getattr(state, field.name), getattr(expected, field.name)
            torch.testing.assert_close(torch.as_tensor(found), torch.as_tensor(wanted), rtol=0, atol=0)
        assert told == history

    on_ranks(even_sizes(N, read_by), check)


def test_only_checkpoints_with_a_marker_count_and_the_newest_two_stay(s3_endpoint, s3_bucket):
    store = open_store(f"s3://{s3_bucket}/run", replace(Config().storage, endpoint_url=s3_endpoint))
    shard, history = one_process(N), History(Measures(0.9, 0.8, None, None))
    assert checkpoint.load(store, shard, CPU) is None
    for step in (20, 40, 60):
        checkpoint.save(store, a_state(step, slice(None)), history, shard)
    assert {name.split("/")[2] for name in store.list(CHECKPOINTS)} == {"step-000000040", "step-000000060"}
    store.put(f"{CHECKPOINTS}/step-000000080/rows-0000000000-0000000015.safetensors", b"half a checkpoint")
    loaded = checkpoint.load(store, shard, CPU)
    assert loaded is not None
    assert loaded[0].step == 60
    checkpoint.clear(store)
    assert not store.list(CHECKPOINTS)


def test_objects_of_an_earlier_attempt_at_a_checkpoint_are_not_mixed_in(tmp_path):
    store, history = LocalStore(str(tmp_path)), History(Measures(0.9, 0.8, None, None))
    store.put(f"{CHECKPOINTS}/step-000000004/rows-0000000000-0000000010.safetensors", b"of three ranks that died")
    checkpoint.save(store, a_state(4, slice(None)), history, one_process(N))
    assert checkpoint.load(store, one_process(N), CPU) is not None


def test_references_of_another_packing_are_not_touched(tmp_path):
    run = run_in(LocalStore(str(tmp_path)))
    run.store.put(REFERENCES, b"something else")
    with pytest.raises(RunError, match=r"references\.parquet: holds other references.*delete it"):
        stage.pack_rows(run, one_process(N), CPU)
    assert run.store.read(REFERENCES) == b"something else"
    assert not run.store.exists(PACKING_SUMMARY)


def test_a_gallery_that_is_too_small_is_refused_before_anything_is_written(tmp_path):
    run = run_in(LocalStore(str(tmp_path)), replace(PACKING, num_identities=61))
    with pytest.raises(ConfigError, match="must not exceed the 60 rows"):
        stage.pack_rows(run, one_process(61), CPU)
    assert list(run.store.list()) == [GALLERY]


def test_no_steps_leave_the_galleries_own_rows_as_references(tmp_path):
    run = run_in(LocalStore(str(tmp_path)), replace(PACKING, steps=0))
    stage.pack_rows(run, one_process(N), CPU)
    posed = stage.load_problem(run, CPU)
    np.testing.assert_array_equal(references(run), posed.x_ND.numpy())
    assert result.measure(posed.x_ND, posed.problem, one_process(N)).mean_gallery_cosine == pytest.approx(1)
    assert run.records("packing") == []
    assert json.loads(run.store.read(PACKING_SUMMARY))["steps"] == 0


def file_of(folder: Path, rows_ND: np.ndarray, name: str) -> str:
    path = folder / name
    if name.endswith(".npy"):
        np.save(path, rows_ND)
    else:
        path.write_bytes(embeddings.to_parquet("identity", Embeddings(list(range(len(rows_ND))), rows_ND)))
    return str(path)


def test_a_run_grows_a_dataset_by_new_identities_with_numbers_of_their_own(tmp_path):
    first = run_in(LocalStore(str(tmp_path / "first")))
    stage.pack_rows(first, one_process(N), CPU)
    before = first.store.read(REFERENCES)
    grown = replace(PACKING, num_identities=20, frozen=str(tmp_path / "first" / REFERENCES), first_identity=N)
    with pytest.raises(ConfigError, match=r"first_identity must be at least 30: numbers up to 29.*it is 29"):
        stage.pack_rows(
            run_in(LocalStore(str(tmp_path / "bad")), replace(grown, first_identity=29)), one_process(20), CPU
        )
    second = run_in(LocalStore(str(tmp_path / "second")), grown)
    stage.pack_rows(second, one_process(20), CPU)
    table = embeddings.read(second.store, REFERENCES, "identity")
    assert table.names == list(range(30, 50))
    assert first.store.read(REFERENCES) == before
    summary = second.get_json(PACKING_SUMMARY)
    assert summary["max_cosine"] >= (table.vectors_ND @ references(first).T).max() - 1e-6
    assert summary["max_cosine_within_frozen"] == pytest.approx(first.get_json(PACKING_SUMMARY)["max_cosine"])


def test_a_run_grows_a_dataset_again_and_its_parts_are_all_kept_away_from(tmp_path):
    parts = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    rows = [sphere.random_points(10, DIM, seed) for seed in (1, 2)]
    for first, (path, rows_ND) in enumerate(zip(parts, rows, strict=True)):
        path.write_bytes(
            embeddings.to_parquet("identity", Embeddings(list(range(10 * first, 10 * first + 10)), rows_ND))
        )
    last = replace(PACKING, num_identities=20, frozen=str(parts[1]), first_identity=10)
    with pytest.raises(ConfigError, match="first_identity must be at least 20: numbers up to 19"):
        stage.pack_rows(run_in(LocalStore(str(tmp_path / "bad")), last), one_process(20), CPU)
    with pytest.warns(UserWarning, match="10 of the identities below packing.first_identity=20 are not in it"):
        stage.load_problem(run_in(LocalStore(str(tmp_path / "bad")), replace(last, first_identity=20)), CPU)
    both = replace(last, frozen=f"{parts[0]}, {parts[1]}", first_identity=20, alpha=0.0)
    run = run_in(LocalStore(str(tmp_path / "run")), both)
    stage.pack_rows(run, one_process(20), CPU)
    summary = run.get_json(PACKING_SUMMARY)
    nearest = (references(run) @ np.concatenate(rows).T).max()
    assert summary["max_cosine"] >= nearest - 1e-6
    assert summary["frozen"]["rows"] == 20


@pytest.mark.parametrize("name", ["people.npy", "people.parquet"])
def test_a_run_keeps_away_from_protected_embeddings_of_a_file(tmp_path, name):
    people_PD = sphere.random_points(10, DIM, seed=5)  # the gallery's first rows
    config = replace(PACKING, protected=file_of(tmp_path, people_PD, name), protected_cosine=0.6)
    run = run_in(LocalStore(str(tmp_path / "run")), config)
    stage.pack_rows(run, one_process(N), CPU)
    largest = (references(run) @ people_PD.T).max()
    assert run.get_json(PACKING_SUMMARY)["max_protected_cosine"] == pytest.approx(largest, abs=1e-6)
    assert largest <= 0.6
    sha256 = hashlib.sha256(people_PD.tobytes()).hexdigest()
    assert run.get_json(PACKING_SUMMARY)["protected"] == {"rows": 10, "sha256": sha256}


def test_files_that_hold_no_embeddings_are_refused_by_name(tmp_path):
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY cut")
    (tmp_path / "people.csv").write_text("0.6,0.8")
    bad = {
        "cut.npy": "cut.npy: is not a readable .npy file",
        file_of(tmp_path, np.ones(4, np.float32), "flat.npy"): r"flat.npy: must hold rows.*shape \(4,\)",
        file_of(tmp_path, np.ones((4, DIM), int), "whole.npy"): "whole.npy: must hold rows.*int64",
        file_of(
            tmp_path, np.ones((4, DIM), np.float32), "long.npy"
        ): "long.npy: every row must be finite and of norm 1",
        "people.csv": "people.csv: embeddings are read from",
    }
    for name, message in bad.items():
        config = replace(PACKING, protected=str(tmp_path / name))
        with pytest.raises(EmbeddingError, match=message):
            stage.pack_rows(run_in(LocalStore(str(tmp_path / "run")), config), one_process(N), CPU)


def test_a_missing_file_is_refused_by_its_key(tmp_path):
    for key in ("frozen", "protected"):
        config = replace(PACKING, **{key: str(tmp_path / "missing.npy")})
        with pytest.raises(ConfigError, match=rf"packing\.{key}: .*missing\.npy does not exist"):
            stage.pack_rows(run_in(LocalStore(str(tmp_path / "run")), config), one_process(N), CPU)


def in_a_process(module: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", module, *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("name", "command"), [("references.npy", in_a_process), ("references.parquet", ran)])
def test_a_file_is_packed_without_a_run(tmp_path, name, command):
    gallery = file_of(tmp_path, sphere.random_points(60, DIM, 5), "faces.npy")
    out = tmp_path / name
    done = command("hyperface.packing", gallery, str(out), "packing.steps=50", "--seed", "3", "num_identities=30")
    assert done.returncode == 0, done.stderr
    assert str(out) in done.stdout
    packing = pack(np.load(gallery), replace(PACKING), seed=3, gallery_GD=np.load(gallery))
    found = embeddings.read_file(str(out), Config().storage)
    np.testing.assert_array_equal(found.vectors_ND, packing.references_ND)
    certificate = json.loads(out.with_suffix(".json").read_text())
    assert certificate["max_cosine"] == packing.max_cosine
    before = out.read_bytes()
    again = ran("hyperface.packing", gallery, str(out))
    assert (again.returncode, out.read_bytes()) == (2, before)
    assert "exists already" in again.stderr


def test_the_command_refuses_what_cannot_work_before_it_works(tmp_path):
    gallery = file_of(tmp_path, sphere.random_points(60, DIM, 5), "faces.npy")
    refused = {
        (gallery, str(tmp_path / "nowhere" / "out.npy")): "is not a folder that can be written to",
        (gallery, str(tmp_path / "out.csv")): "references are written as .npy or .parquet",
        ("16", str(tmp_path / "out.npy")): "is a number of dimensions: add start=random",
        (gallery, str(tmp_path / "out.npy"), "--device", "none"): "--device none: cannot be used",
        (gallery, str(tmp_path / "out.npy"), f"frozen={gallery}", "first_identity=59"): "must be at least 60",
    }
    for words, message in refused.items():
        done = ran("hyperface.packing", *words)
        assert (done.returncode, done.stdout) == (2, ""), done
        assert done.stderr.startswith("error: ")
        assert message in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["faces.npy"]
