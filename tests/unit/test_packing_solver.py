"""The one-process solver: what it reaches, when it stops, and that ranks as threads agree with it."""

import itertools
import math

import numpy as np
import pytest
import torch
from face_like_rows import SEPARATIONS, clustered, free, max_cosine
from threaded_ranks import on_ranks
from torch.utils._python_dispatch import TorchDispatchMode

from hyperface.config import PackingConfig
from hyperface.distributed.ranks import even_sizes
from hyperface.packing import pack, result, solver, sphere
from hyperface.packing.partition import one_process
from hyperface.packing.problem import Inputs, pose


@pytest.mark.parametrize("separation", SEPARATIONS)
def test_identities_part_and_the_numbers_describe_the_references(separation):
    gallery_GD = clustered(200, 32)
    config = PackingConfig(num_identities=100, separation=separation, steps=100)
    packing = pack(gallery_GD, config, seed=0, gallery_GD=gallery_GD)
    references_ND = packing.references_ND
    assert references_ND.shape == (100, 32)
    assert references_ND.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(references_ND, axis=1), 1, atol=1e-6)
    assert packing.max_cosine == pytest.approx(max_cosine(references_ND), abs=1e-6)
    assert packing.max_cosine < packing.max_cosine_before - 0.2
    assert packing.mean_nearest_cosine < packing.mean_nearest_cosine_before
    assert packing.mean_nearest_cosine <= packing.max_cosine
    assert packing.mean_gallery_cosine == pytest.approx((references_ND @ gallery_GD.T).max(1).mean(), abs=1e-6)
    assert packing.bound_cosine < packing.max_cosine
    assert packing.steps == 100


@pytest.mark.parametrize("separation", SEPARATIONS)
def test_more_alpha_brings_references_nearer_to_the_gallery(separation):
    gallery_GD = clustered(120, 32)
    reached = [
        pack(gallery_GD, PackingConfig(60, separation, alpha, steps=150), seed=0, gallery_GD=gallery_GD)
        for alpha in (0.0, 0.5, 3.0)
    ]
    closeness = [packing.mean_gallery_cosine for packing in reached]
    assert closeness == sorted(closeness)
    assert closeness[-1] > closeness[0] + 0.1


def test_the_default_objective_packs_tighter_than_the_papers_in_as_many_steps():
    gallery_GD = clustered(300, 64)
    soft, nearest, pair = (
        pack(gallery_GD, PackingConfig(150, separation, steps=200), seed=0, gallery_GD=gallery_GD)
        for separation in ("logsumexp", "nearest", "closest_pair")
    )
    assert soft.max_cosine < nearest.max_cosine < pair.max_cosine


@pytest.mark.parametrize("dim", [3, 8, 32])
def test_the_simplex_is_found_from_random_points(dim):
    start_ND = sphere.random_points(dim + 1, dim, seed=0)
    packing = pack(start_ND, PackingConfig(dim + 1, alpha=0.0, steps=500), seed=0)
    assert packing.max_cosine == pytest.approx(-1 / dim, abs=2e-3)
    assert packing.bound_cosine == pytest.approx(-1 / dim)
    assert packing.mean_gallery_cosine is None


@pytest.mark.parametrize("separation", SEPARATIONS)
@pytest.mark.parametrize(("batch_identities", "batch_against"), [(0, "all"), (17, "all"), (17, "batch")])
def test_ranks_follow_the_one_process_solver(separation, batch_identities, batch_against):
    gallery_GD = clustered(100, 16)
    batch = {"batch_identities": batch_identities, "batch_against": batch_against}
    config = PackingConfig(50, separation, steps=20, **batch)
    frozen_FD, protected_PD = sphere.random_points(13, 16, 1), sphere.random_points(9, 16, 2)
    rows = {"gallery_GD": gallery_GD, "frozen_FD": frozen_FD, "protected_PD": protected_PD}
    packing = pack(gallery_GD, config, seed=3, **rows)
    posed = pose(Inputs(gallery_GD, gallery_GD, frozen_FD, protected_PD), config, 3, torch.device("cpu"))

    def work(shard):
        state, before = result.begin(posed, shard)
        assert len(list(solver.iterate(state, posed.problem, shard))) == 20
        return result.finished(state, posed, shard, before)

    for rank in on_ranks(even_sizes(50, 3), work):
        np.testing.assert_allclose(rank.references_ND, packing.references_ND, atol=1e-4)
        assert rank.max_cosine == pytest.approx(packing.max_cosine, abs=1e-5)
        assert rank.max_cosine_before == pytest.approx(packing.max_cosine_before, abs=1e-6)
        assert rank.mean_gallery_cosine == pytest.approx(packing.mean_gallery_cosine, abs=1e-5)


def test_a_mini_batch_depends_on_seed_and_step_and_the_rows_outside_it_rest():
    batches = [solver.batch(40, 8, seed, step).tolist() for seed in (0, 1) for step in (0, 1, 2)]
    assert batches[0] == solver.batch(40, 8, 0, 0).tolist()
    assert len({tuple(batch) for batch in batches}) == 6
    assert all(batch == sorted(set(batch)) and len(batch) == 8 for batch in batches)
    gallery_GD = clustered(40, 8)
    config = PackingConfig(40, steps=1, batch_identities=8)
    posed = pose(Inputs(gallery_GD, gallery_GD), config, 0, torch.device("cpu"))
    state, _ = result.begin(posed, one_process(40))
    solver.local_step(state, posed.problem, one_process(40))
    moved = np.flatnonzero(np.abs(state.x_LD.numpy() - gallery_GD).max(1) > 1e-6)
    assert moved.tolist() == batches[0]


def test_every_identity_is_drawn_as_often_as_another():
    counts = np.bincount(np.concatenate([solver.batch(20, 5, 7, step) for step in range(2000)]), minlength=20)
    assert np.abs(counts - 500).max() < 5 * math.sqrt(500)


def test_the_papers_steps_are_those_of_torchs_adam_on_the_sphere():
    start_ND = clustered(30, 16)
    x_ND = torch.tensor(start_ND).requires_grad_()
    adam = torch.optim.Adam([x_ND], lr=0.01, eps=solver.EPSILON)
    for _ in range(10):
        unit_ND = torch.nn.functional.normalize(x_ND)
        loss = (unit_ND @ unit_ND.T - 3 * torch.eye(30)).amax(1).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            x_ND.copy_(torch.nn.functional.normalize(x_ND))
    packing = pack(start_ND, PackingConfig(30, "nearest", alpha=0.0, steps=10), seed=0)
    np.testing.assert_allclose(packing.references_ND, x_ND.detach().numpy(), atol=1e-5)


def test_on_step_sees_every_step_from_the_start():
    gallery_GD, seen = clustered(40, 8), []
    packing = pack(
        gallery_GD, PackingConfig(20, "nearest", steps=5), seed=0, gallery_GD=gallery_GD, on_step=seen.append
    )
    assert [progress.step for progress in seen] == [0, 1, 2, 3, 4]
    assert seen[0].max_cosine == pytest.approx(packing.max_cosine_before)
    assert seen[0].mean_gallery_cosine == pytest.approx(1)
    assert seen[0].loss == pytest.approx(seen[0].mean_nearest_cosine, abs=1e-6)
    assert all(a.seconds <= b.seconds for a, b in itertools.pairwise(seen))


def test_the_result_is_the_best_step_and_never_worse_than_the_start():
    axes_ND = np.eye(16, dtype=np.float32)
    start_ND, seen = np.concatenate([axes_ND, -axes_ND])[:31], []  # optimal, and nothing holds it there
    packing = pack(start_ND, free(31, steps=30, learning_rate=0.05), seed=0, on_step=seen.append)
    assert seen[5].max_cosine > 0.05
    assert packing.max_cosine <= packing.max_cosine_before + 1e-7
    jumping = free(60, separation="closest_pair", steps=40, learning_rate=0.2)
    seen.clear()
    packing = pack(clustered(60, 8), jumping, seed=0, on_step=seen.append)
    assert packing.max_cosine <= min(progress.max_cosine for progress in seen) + 1e-6
    assert packing.max_cosine < seen[-1].max_cosine - 1e-3


def test_a_met_target_ends_the_packing():
    packing = pack(clustered(100, 32), free(100, target_cosine=0.4), seed=0)
    assert packing.stopped_by == "target_cosine"
    assert packing.max_cosine <= 0.4
    assert 0 < packing.steps < 200
    assert packing.steps % solver.LOOK_EVERY == 0


def test_patience_ends_a_packing_that_gets_no_better():
    axes_ND = np.eye(16, dtype=np.float32)
    packing = pack(np.concatenate([axes_ND, -axes_ND]), free(32, steps=500, patience=50), seed=0)
    assert packing.stopped_by == "patience"
    assert 50 <= packing.steps <= 80
    patient = pack(clustered(100, 16), free(100, steps=200, patience=50), seed=0)
    assert (patient.stopped_by, patient.steps) == ("steps", 200)


def test_a_random_choice_against_all_packs_tighter_than_against_itself():
    start_ND = clustered(200, 16)
    against = {
        name: pack(start_ND, free(200, steps=400, batch_identities=50, batch_against=name), seed=0).max_cosine
        for name in ("all", "batch")
    }
    assert against["all"] < against["batch"] < max_cosine(start_ND) - 0.3


def test_a_search_every_tenth_step_reaches_the_objective_of_one_in_every_step():
    gallery_GD = clustered(300, 32)
    reached = []
    for every in (1, 10):
        config = PackingConfig(200, steps=200, neighbours_every=every)
        packing = pack(gallery_GD, config, seed=0, gallery_GD=gallery_GD)
        reached.append(packing.max_cosine + 0.5 * (1 - packing.mean_gallery_cosine))
    assert reached[1] == pytest.approx(reached[0], rel=0.02)


@pytest.mark.parametrize("separation", ["nearest", "logsumexp"])
def test_bfloat16_packs_nearly_as_tightly(separation):
    start_ND = clustered(300, 64)
    exact, rough = (
        pack(start_ND, free(300, separation=separation, steps=150, precision=precision), seed=0).max_cosine
        for precision in ("float32", "bfloat16")
    )
    assert rough == pytest.approx(exact, rel=0.06)  # processors round their products differently


class Waiting(TorchDispatchMode):
    """Refuses what makes the host wait for the device."""

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        assert operation.overloadpacket not in (
            torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten.masked_select
        ), operation  # fmt: skip
        return operation(*arguments, **(named or {}))


@pytest.mark.parametrize("separation", SEPARATIONS)
@pytest.mark.parametrize(("batch_identities", "batch_against"), [(0, "all"), (17, "all"), (17, "batch")])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_no_step_waits_for_the_device(separation, batch_identities, batch_against, precision):
    gallery_GD = clustered(60, 16)
    batch = {"batch_identities": batch_identities, "batch_against": batch_against, "precision": precision}
    config = PackingConfig(50, separation, steps=12, **batch)
    posed = pose(Inputs(gallery_GD, gallery_GD, gallery_GD[:5], gallery_GD[5:9]), config, 0, torch.device("cpu"))
    state, _ = result.begin(posed, one_process(50))
    with Waiting():
        for _ in solver.iterate(state, posed.problem, one_process(50)):
            pass
    assert state.step == 12
    with Waiting(), pytest.raises(AssertionError, match="_local_scalar_dense"):
        float(state.max_cosine)


def test_a_small_code_is_found_to_the_last_digit_of_float32_by_restarts_and_polish():
    config = free(12, start="random", restarts=8, steps=300, polish=True)
    packing = pack(np.empty((0, 3), np.float32), config, seed=0)
    assert packing.max_cosine == pytest.approx(5**-0.5, abs=2e-7)  # the icosahedron
    assert packing.bound_angle_share == pytest.approx(1, abs=1e-6)
    assert packing.steps == 300


@pytest.mark.parametrize("batch_against", ["all", "batch"])
def test_a_random_choice_stays_finite_when_cold_and_ends_no_worse_than_the_start(batch_against):
    start_ND = clustered(120, 64)
    start_ND[1] = start_ND[0]
    batch = {"batch_identities": 15, "batch_against": batch_against}
    packing = pack(start_ND, free(120, steps=300, **batch), seed=0)
    assert packing.max_cosine < packing.max_cosine_before
    tight = pack(start_ND, free(120, steps=200), seed=0)
    again = pack(tight.references_ND, free(120, steps=20, **batch), seed=0)
    assert again.max_cosine <= tight.max_cosine + 1e-6


@pytest.mark.parametrize(("n", "dim", "rate"), [(2, 4096, 0.01), (50, 512, 1.0), (40, 1024, 0.1)])
def test_exponents_that_leave_their_range_leave_no_nan(n, dim, rate):
    packing = pack(np.empty((0, dim), np.float32), free(n, start="random", steps=40, learning_rate=rate), seed=0)
    assert np.isfinite(packing.references_ND).all()
    assert packing.max_cosine <= packing.max_cosine_before
