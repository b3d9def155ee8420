"""Stage pack on Ray Train workers, against the one-process solver; and killed with SIGKILL on its way."""

import functools
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from full_disk import FullDisk
from scraping import found_by_prometheus
from waiting import wait_for

from cluster.packing import pack_stage
from hyperface.config import Config, PackingConfig, RunConfig
from hyperface.errors import StorageError
from hyperface.faces import embeddings
from hyperface.faces.embeddings import Embeddings
from hyperface.packing import Packing, pack, sphere
from hyperface.run import Run
from hyperface.run.names import CHECKPOINTS, GALLERY, PACKING_SUMMARY, REFERENCES
from hyperface.storage import LocalStore

ROOT = Path(__file__).parents[2]
DRIVER = """
import sys
from cluster.packing import pack_stage
from hyperface.config import Config, PackingConfig, RunConfig
from hyperface.run import Run
from hyperface.storage import LocalStore

config = Config(run=RunConfig(dir=sys.argv[1], seed=3), packing=PackingConfig(50, steps=600, checkpoint_every=40))
pack_stage(Run(LocalStore(sys.argv[1]), config))
"""
SECONDS = 600
GALLERY_GD = sphere.random_points(100, 16, seed=5)


def run_in(folder: Path, config: PackingConfig, store: LocalStore | None = None) -> Run:
    """A run with a gallery of 100 rows."""
    store = store or LocalStore(str(folder))
    store.put(GALLERY, embeddings.to_parquet("key", Embeddings([f"face-{i}" for i in range(100)], GALLERY_GD)))
    return Run(store, Config(run=RunConfig(dir=str(folder), seed=3), packing=config))


@functools.cache
def oracle_of(config: PackingConfig) -> Packing:
    return pack(GALLERY_GD, config, seed=3, gallery_GD=GALLERY_GD)


def oracle(run: Run) -> Packing:
    return oracle_of(replace(run.config.packing, num_workers=1))


def assert_summary_of(packing: Packing, run: Run, tolerance: float) -> None:
    summary = run.get_json(PACKING_SUMMARY)
    for name in ("max_cosine", "max_cosine_before", "mean_nearest_cosine", "mean_gallery_cosine", "steps"):
        assert summary[name] == pytest.approx(getattr(packing, name), abs=tolerance), name


def assert_references_of(packing: Packing, run: Run, tolerance: float) -> None:
    references_ND = embeddings.read(run.store, REFERENCES, "identity").vectors_ND
    np.testing.assert_allclose(references_ND, packing.references_ND, atol=tolerance)


def checkpoint_markers(run: Run) -> list[str]:
    return [name for name in run.store.list(CHECKPOINTS) if name.endswith("marker.json")]


def test_two_workers_agree_with_the_oracle(ray_cluster, tmp_path):
    run = run_in(tmp_path, PackingConfig(51, steps=50, num_workers=2))
    pack_stage(run)
    assert_references_of(oracle(run), run, 1e-4)
    assert_summary_of(oracle(run), run, 1e-4)
    assert [row["step"] for row in run.records("packing")] == list(range(51))
    assert not run.store.list(CHECKPOINTS)


def test_as_many_workers_as_there_is_room_for_agree_with_the_oracle(ray_cluster, tmp_path, capfd):
    protected = tmp_path / "people.npy"
    np.save(protected, sphere.random_points(9, 16, seed=5))  # the first of the gallery
    config = PackingConfig(50, steps=50, num_workers=40, min_workers=1, protected=str(protected), protected_cosine=0.5)
    run = run_in(tmp_path, config)
    pack_stage(run)
    packing = pack(GALLERY_GD, config, seed=3, gallery_GD=GALLERY_GD, protected_PD=np.load(protected))
    assert_references_of(packing, run, 1e-4)
    assert run.get_json(PACKING_SUMMARY)["max_protected_cosine"] <= 0.5
    said = capfd.readouterr()
    assert re.search("16 dimensions, [1-4] workers", said.out)
    assert "Failed to query" not in said.out + said.err


def test_two_workers_draw_the_identities_that_one_draws(ray_cluster, tmp_path):
    config = PackingConfig(51, start="pca", start_cosine=0.6, steps=0, num_workers=2)
    run = run_in(tmp_path, config)
    pack_stage(run)
    assert_references_of(oracle(run), run, 0.0)
    assert run.get_json(PACKING_SUMMARY)["sampled"] == oracle(run).sampled
    assert oracle(run).sampled["candidates"] > 60


def test_three_workers_go_on_from_the_checkpoint_of_one_and_agree_with_the_oracle(ray_cluster, tmp_path, capfd):
    config = PackingConfig(50, "nearest", steps=50, batch_identities=30, checkpoint_every=20)
    with pytest.raises(StorageError, match="No space left"):
        pack_stage(
            run_in(tmp_path, config, FullDisk(str(tmp_path), refused=f"{CHECKPOINTS}/step-000000040/marker.json"))
        )
    run = run_in(tmp_path, replace(config, num_workers=3))
    assert len(checkpoint_markers(run)) == 1
    pack_stage(run)
    assert_references_of(oracle(run), run, 1e-4)
    assert_summary_of(oracle(run), run, 1e-4)
    seen = (tmp_path / REFERENCES).stat()
    pack_stage(run)
    assert (tmp_path / REFERENCES).stat() == seen
    assert "packing: done" in capfd.readouterr().out


def test_a_group_whose_worker_is_killed_ends_where_an_undisturbed_one_does(ray_cluster, tmp_path):
    run = run_in(tmp_path, PackingConfig(50, steps=600, checkpoint_every=40, num_workers=2))
    with ThreadPoolExecutor(1) as pool:
        packing = pool.submit(pack_stage, run)
        wait_for(lambda: checkpoint_markers(run) or packing.done())
        workers = [each for each in psutil.Process().children(recursive=True) if "RayTrainWorker" in each.name()]
        victim = max(workers, key=lambda worker: worker.create_time())
        victim.kill()
        assert not run.store.exists(REFERENCES)
        found_by_prometheus(run, "packing", {"worker_failures": 1.0})
        packing.result(timeout=SECONDS)
    assert not victim.is_running()
    assert_summary_of(oracle(run), run, 1e-3)


def test_a_killed_driver_of_one_worker_goes_on_from_its_checkpoint(tmp_path, capsys):
    run = run_in(tmp_path, PackingConfig(50, steps=600, checkpoint_every=40))
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)], cwd=ROOT)
    wait_for(lambda: checkpoint_markers(run) or driver.poll() is not None)
    driver.kill()
    assert driver.wait() == -signal.SIGKILL
    assert not run.store.exists(REFERENCES)
    pack_stage(run)
    first_line = capsys.readouterr().out.splitlines()[0]
    assert re.search(r"from step [1-9][0-9]* of 600", first_line)
    assert_summary_of(oracle(run), run, 1e-3)


@pytest.mark.parametrize(
    ("told", "code", "said"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_a_job_of_two_workers_that_is_told_to_leave_says_so_and_goes_on(tmp_path, told, code, said):
    run = run_in(tmp_path, PackingConfig(50, steps=100_000, num_workers=2, checkpoint_every=50))
    words = [f"run.dir={tmp_path}", "run.seed=3", "packing.num_identities=50", "packing.steps=100000"]
    words += ["packing.num_workers=2", "packing.checkpoint_every=50", "cluster.num_cpus=4"]
    job = subprocess.Popen([sys.executable, "-m", "jobs.pack", *words], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: checkpoint_markers(run))
    job.send_signal(told)
    _, complaint = job.communicate()
    assert job.returncode == code, complaint
    assert f"{said}: the same command goes on where this one stopped" in complaint
    assert checkpoint_markers(run)
