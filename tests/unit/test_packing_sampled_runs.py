"""A run whose packing begins from a drawn sample: what it leaves, and when it draws again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from face_like_rows import features
from full_disk import FullDisk
from threaded_ranks import on_ranks

from hyperface.config import Config, PackingConfig, RunConfig
from hyperface.distributed.ranks import even_sizes
from hyperface.errors import ConfigError, StorageError
from hyperface.faces import embeddings
from hyperface.faces.embeddings import Embeddings
from hyperface.packing import kept_start, pack, sampling, sphere, stage
from hyperface.packing.partition import Partition, one_process
from hyperface.run import Run
from hyperface.run.names import CHECKPOINTS, GALLERY, PACKING_SUMMARY, REFERENCES, START, START_SUMMARY
from hyperface.storage import LocalStore

CPU = torch.device("cpu")
DIM = 16
STEP_10 = "step-000000010/marker.json"


def run_in(folder: Path, config: PackingConfig, norms: bool = True, refused: str = "") -> Run:
    disk, (rows_ND, norms_N) = str(folder), features(400, DIM)
    store = FullDisk(disk, refused=refused) if refused else LocalStore(disk)
    table = Embeddings([f"face-{i}" for i in range(400)], rows_ND, norms_N if norms else None)
    store.put(GALLERY, embeddings.to_parquet("key", table))
    return Run(store, Config(run=RunConfig(dir=str(folder), seed=3), packing=config))


@pytest.mark.parametrize("steps", [0, 10])
def test_a_run_leaves_norms_beside_references_and_says_what_was_drawn(tmp_path, steps):
    config = PackingConfig(50, start="pca", start_cosine=0.8, steps=steps)
    run = run_in(tmp_path / "one", config)
    stage.refuse_impossible(run)
    stage.pack_rows(run, one_process(50), CPU)
    found = embeddings.read(run.store, REFERENCES, "identity")
    rows_ND, norms_N = features(400, DIM)
    packing = pack(rows_ND, config, seed=3, gallery_GD=rows_ND, norms_N=norms_N)
    np.testing.assert_array_equal(found.vectors_ND, packing.references_ND)
    np.testing.assert_array_equal(found.norms, packing.norms_N)
    assert run.get_json(PACKING_SUMMARY)["sampled"] == packing.sampled
    drawn = pack(rows_ND, replace(config, steps=0), seed=3, norms_N=norms_N)
    np.testing.assert_array_equal(stage.start_of(run), drawn.references_ND)
    assert run.store.exists(START) == (steps > 0)
    two = run_in(tmp_path / "two", config)
    on_ranks((25, 25), lambda shard: stage.pack_rows(two, shard, CPU))
    np.testing.assert_allclose(embeddings.read(two.store, REFERENCES).vectors_ND, found.vectors_ND, atol=1e-4)
    np.testing.assert_array_equal(embeddings.read(two.store, REFERENCES).norms, found.norms)


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("norms", [True, False])
def test_a_resume_reads_the_sample_that_was_drawn(tmp_path, world, norms):
    config = PackingConfig(50, start="pca", start_cosine=0.8, steps=10, checkpoint_every=5)
    undisturbed = run_in(tmp_path / "undisturbed", config, norms)
    stage.pack_rows(undisturbed, one_process(50), CPU)
    with pytest.raises(StorageError, match="No space left"):
        stage.pack_rows(run_in(tmp_path / "run", config, norms, f"{CHECKPOINTS}/{STEP_10}"), one_process(50), CPU)
    run = run_in(tmp_path / "run", config, norms)
    # Drawn again there would be another number.
    run.put_json(START_SUMMARY, run.get_json(START_SUMMARY) | {"candidates": 12_345})
    written = (tmp_path / "run" / START).stat().st_mtime_ns
    on_ranks(even_sizes(50, world), lambda shard: stage.pack_rows(run, shard, CPU))
    assert (tmp_path / "run" / START).stat().st_mtime_ns == written
    sampled = undisturbed.get_json(PACKING_SUMMARY)["sampled"]
    assert run.get_json(PACKING_SUMMARY)["sampled"] == sampled | {"candidates": 12_345}
    found, wanted = (embeddings.read(each.store, REFERENCES) for each in (run, undisturbed))
    np.testing.assert_allclose(found.vectors_ND, wanted.vectors_ND, atol=1e-4)
    np.testing.assert_array_equal(found.norms, wanted.norms)
    kept = embeddings.read(run.store, START, "identity")
    np.testing.assert_array_equal(stage.start_of(run), kept.vectors_ND)


DRAWN = PackingConfig(50, start="rejection", start_cosine=0.8, steps=1)


@pytest.mark.parametrize("refused", [START, START_SUMMARY])
def test_a_sample_that_was_not_kept_whole_is_drawn_again(tmp_path, refused):
    with pytest.raises(StorageError, match="No space left"):
        stage.pack_rows(run_in(tmp_path, DRAWN, refused=refused), one_process(50), CPU)
    run = run_in(tmp_path, DRAWN)
    assert not run.store.exists(START_SUMMARY)
    stage.pack_rows(run, one_process(50), CPU)
    assert run.get_json(PACKING_SUMMARY)["sampled"]["kept"] == 50


@pytest.mark.parametrize("damaged", [(START, b"PAR1"), (START_SUMMARY, b"{"), (START_SUMMARY, b"null"), (START, b"")])
def test_a_kept_sample_that_is_damaged_is_drawn_again(tmp_path, damaged):
    run, (name, contents) = run_in(tmp_path, DRAWN), damaged
    stage.pack_rows(run, one_process(50), CPU)
    wanted = stage.start_of(run)
    run.store.put(name, contents)
    np.testing.assert_array_equal(stage.start_of(run), wanted)
    run.store.delete(START)
    np.testing.assert_array_equal(stage.start_of(run), wanted)


def test_a_sample_is_drawn_again_where_the_rows_that_it_keeps_away_from_are_others(tmp_path):
    frozen = tmp_path / "frozen.npy"
    np.save(frozen, sphere.random_points(20, DIM, seed=8))
    config = replace(DRAWN, frozen=str(frozen), first_identity=20)
    run = run_in(tmp_path / "run", config)
    stage.pack_rows(run, one_process(50), CPU)
    first = stage.start_of(run)
    np.save(frozen, first[:20])  # as near as can be
    again = stage.start_of(run)
    assert (again @ first[:20].T).max() <= 0.8 + sampling.rounding(DIM)


class Late(LocalStore):
    """A store in which the summary of a start is not seen yet."""

    def exists(self, name: str) -> bool:
        return name != START_SUMMARY and super().exists(name)


@pytest.mark.parametrize("late", [0, 1])
def test_all_ranks_go_by_what_the_first_sees_of_a_kept_sample(tmp_path, late):
    run = run_in(tmp_path, DRAWN)
    stage.pack_rows(run, one_process(50), CPU)
    blind = replace(run, store=Late(str(tmp_path)))

    def seen(shard: Partition) -> bool:
        own = blind if shard.rank == late else run
        return kept_start.kept(own, None, None, CPU, shard) is not None

    assert on_ranks((25, 25), seen) == [late == 1] * 2


def test_a_gallery_without_norms_gives_references_without(tmp_path):
    run = run_in(tmp_path, PackingConfig(50, start="pca", start_cosine=0.9, steps=0), norms=False)
    stage.pack_rows(run, one_process(50), CPU)
    assert embeddings.read(run.store, REFERENCES).norms is None


def test_a_run_refuses_an_impossible_sample_before_it_draws(tmp_path):
    run = run_in(tmp_path, PackingConfig(2000, start="rejection"))
    with pytest.raises(ConfigError, match="must be at least"):
        stage.refuse_impossible(run)
