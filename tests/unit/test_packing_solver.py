"""The one-process solver: what it reaches, what it refuses, and that ranks as threads agree with it."""

import itertools
import math

import numpy as np
import pytest
import torch
from threaded_ranks import on_ranks
from torch.utils._python_dispatch import TorchDispatchMode

from hyperface.config import ConfigError, PackingConfig
from hyperface.packing import pack, result, solver, sphere
from hyperface.packing.problem import pose
from hyperface.packing.shard import even_sizes, one_process

SEPARATIONS = ["closest_pair", "nearest", "logsumexp"]


def clustered(n: int, dim: int, seed: int = 0) -> np.ndarray:
    """Unit rows with a common direction and a decaying spectrum, as faces have."""
    x_ND = np.random.default_rng(seed).standard_normal((n, dim)) * np.arange(1, dim + 1) ** -0.75
    x_ND[:, 0] += 0.5
    return (x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)).astype(np.float32)


def max_cosine(x_ND: np.ndarray) -> float:
    return float((x_ND.astype(np.float64) @ x_ND.T.astype(np.float64) - 3 * np.eye(len(x_ND))).max())


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
        for alpha in (0.0, 0.1, 0.5, 1.0, 3.0)
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
    packing = pack(start_ND, PackingConfig(dim + 1, alpha=0.0), seed=0)
    assert packing.max_cosine == pytest.approx(-1 / dim, abs=2e-3)
    assert packing.bound_cosine == pytest.approx(-1 / dim)
    assert packing.mean_gallery_cosine is None


@pytest.mark.parametrize("separation", SEPARATIONS)
@pytest.mark.parametrize(("batch_identities", "batch_against"), [(0, "all"), (17, "all"), (17, "batch")])
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_follow_the_one_process_solver(separation, batch_identities, batch_against, world_size):
    gallery_GD = clustered(100, 16)
    batch = {"batch_identities": batch_identities, "batch_against": batch_against}
    config = PackingConfig(50, separation, steps=50, **batch)
    frozen_FD, protected_PD = sphere.random_points(13, 16, 1), sphere.random_points(9, 16, 2)
    rows = {"gallery_GD": gallery_GD, "frozen_FD": frozen_FD, "protected_PD": protected_PD}
    packing = pack(gallery_GD, config, seed=3, **rows)
    posed = pose(gallery_GD, config, 3, torch.device("cpu"), gallery_GD, frozen_FD, protected_PD)

    def work(shard):
        state, before = result.begin(posed, shard)
        assert len(list(solver.iterate(state, posed.problem, shard))) == 50
        return result.finished(state, posed, shard, before)

    for rank in on_ranks(even_sizes(50, world_size), work):
        np.testing.assert_allclose(rank.references_ND, packing.references_ND, atol=1e-4)
        assert rank.max_cosine == pytest.approx(packing.max_cosine, abs=1e-5)
        assert rank.max_cosine_before == pytest.approx(packing.max_cosine_before, abs=1e-6)
        assert rank.mean_gallery_cosine == pytest.approx(packing.mean_gallery_cosine, abs=1e-5)


def test_the_same_seed_gives_the_same_references_and_another_seed_others():
    gallery_GD = clustered(60, 16)
    config = PackingConfig(30, steps=20, batch_identities=10)
    first, again, other = (pack(gallery_GD, config, seed=seed, gallery_GD=gallery_GD) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.references_ND, again.references_ND)
    assert not np.allclose(first.references_ND, other.references_ND)


def test_a_mini_batch_depends_on_seed_and_step_and_the_rows_outside_it_rest():
    batches = [solver.batch(40, 8, seed, step).tolist() for seed in (0, 1) for step in (0, 1, 2)]
    assert batches[0] == solver.batch(40, 8, 0, 0).tolist()
    assert len({tuple(batch) for batch in batches}) == 6
    assert all(batch == sorted(set(batch)) and len(batch) == 8 for batch in batches)
    gallery_GD = clustered(40, 8)
    config = PackingConfig(40, steps=1, batch_identities=8)
    posed = pose(gallery_GD, config, 0, torch.device("cpu"), gallery_GD)
    state, _ = result.begin(posed, one_process(40))
    solver.local_step(state, posed.problem, one_process(40))
    moved = np.flatnonzero(np.abs(state.x_LD.numpy() - gallery_GD).max(1) > 1e-6)
    assert moved.tolist() == batches[0]


def test_every_identity_is_drawn_as_often_as_another():
    counts = np.bincount(np.concatenate([solver.batch(20, 5, 7, step) for step in range(2000)]), minlength=20)
    assert np.abs(counts - 500).max() < 5 * math.sqrt(500)


def test_no_steps_give_the_start_as_it_is():
    gallery_GD = np.concatenate([clustered(10, 8), clustered(10, 8)])
    packing = pack(gallery_GD, PackingConfig(20, steps=0), seed=0, gallery_GD=gallery_GD)
    np.testing.assert_allclose(packing.references_ND, gallery_GD, atol=1e-7)
    assert packing.max_cosine == packing.max_cosine_before == pytest.approx(1)
    assert packing.mean_gallery_cosine == pytest.approx(1)
    assert packing.duplicates_separated == packing.steps == 0


def test_a_start_of_more_rows_is_a_seeded_choice_in_their_order():
    rows_ND = clustered(50, 8)
    config = PackingConfig(20, steps=0)
    chosen = [pack(rows_ND, config, seed=seed).references_ND for seed in (0, 0, 1)]
    np.testing.assert_array_equal(chosen[0], chosen[1])
    assert not np.array_equal(chosen[0], chosen[2])
    origin = (chosen[0] @ rows_ND.T).argmax(1)
    assert (np.diff(origin) > 0).all()


def test_duplicates_are_counted_and_end_apart():
    start_ND = clustered(12, 16)
    start_ND[[3, 7]] = start_ND[1]
    packing = pack(start_ND, PackingConfig(12, alpha=0.0, steps=200), seed=0)
    assert packing.duplicates_separated == 2
    assert packing.max_cosine_before > 0.999
    assert packing.max_cosine < 0.1


def test_repeated_rows_are_moved_a_thousandth_and_no_others():
    x_ND = clustered(12, 16)
    x_ND[[3, 7]] = x_ND[1]
    parted_ND, moved = sphere.separate_duplicates(x_ND, seed=0)
    distance_N = np.linalg.norm(parted_ND - x_ND, axis=1)
    assert moved == np.count_nonzero(distance_N) == 2
    np.testing.assert_allclose(distance_N[[3, 7]], 1e-3, rtol=0.1)
    np.testing.assert_array_equal(parted_ND, sphere.separate_duplicates(x_ND, seed=0)[0])


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


def test_rows_that_are_not_unit_vectors_are_refused_by_number():
    for bad in (math.nan, math.inf, 0.0):
        start_ND = clustered(10, 8)
        start_ND[4] = bad
        with pytest.raises(ValueError, match=r"norm 1; 1 are not: row 4"):
            pack(start_ND, PackingConfig(10), seed=0)
        with pytest.raises(ValueError, match=r"gallery.*row 4"):
            pack(clustered(10, 8), PackingConfig(10), seed=0, gallery_GD=start_ND)


def test_an_impossible_problem_is_refused_with_the_fix():
    rows_ND = clustered(10, 8)
    with pytest.raises(ConfigError, match=r"num_identities must not exceed the 10 rows.*num_faces.*it is 11"):
        pack(rows_ND, PackingConfig(11), seed=0)
    with pytest.raises(ConfigError, match="num_identities must be at least 2"):
        pack(rows_ND, PackingConfig(1), seed=0)
    with pytest.raises(ConfigError, match=r"same dimension.*\(5, 9\).*\(10, 8\)"):
        pack(rows_ND, PackingConfig(10), seed=0, gallery_GD=clustered(5, 9))
    with pytest.raises(ConfigError, match="at least 2 numbers"):
        pack(np.ones((10, 1), np.float32), PackingConfig(10), seed=0)


def free(n: int, **values) -> PackingConfig:
    return PackingConfig(n, alpha=0.0, **values)


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


@pytest.mark.parametrize("separation", SEPARATIONS)
def test_identities_keep_away_from_frozen_ones_which_stay(separation):
    gallery_GD = clustered(200, 32)
    frozen_FD = pack(gallery_GD, PackingConfig(60, steps=100), seed=1, gallery_GD=gallery_GD).references_ND
    kept_FD = frozen_FD.copy()
    config = PackingConfig(40, separation, steps=200, first_identity=60)
    blind, grown = (
        pack(gallery_GD, config, seed=1, gallery_GD=gallery_GD, frozen_FD=frozen) for frozen in (None, frozen_FD)
    )
    np.testing.assert_array_equal(frozen_FD, kept_FD)
    assert grown.references_ND.shape == (40, 32)
    union_ND = np.concatenate([grown.references_ND, frozen_FD])
    new_cosine = (np.triu(union_ND @ union_ND.T, 1) + np.tril(np.full((100, 100), -3.0)))[:40].max()
    assert grown.max_cosine == pytest.approx(new_cosine, abs=1e-6)
    assert grown.max_cosine_within_frozen == pytest.approx(max_cosine(frozen_FD), abs=1e-6)
    assert grown.bound_cosine == result.max_cosine_bound(100, 32)
    assert new_cosine < (blind.references_ND @ frozen_FD.T).max() - 0.02


def test_a_grown_part_starts_from_other_gallery_rows_than_the_first():
    rows_ND = clustered(50, 8)
    first, second, third = (
        pack(rows_ND, PackingConfig(20, steps=0, first_identity=first), seed=0).references_ND for first in (0, 20, 40)
    )
    assert (first @ second.T).max() < 1 - 1e-6
    assert ((third @ np.concatenate([first, second]).T).max(1) > 1 - 1e-6).sum() == 10


@pytest.mark.parametrize("separation", SEPARATIONS)
@pytest.mark.parametrize("batch_identities", [0, 15])
def test_no_identity_comes_near_a_protected_one_and_the_summary_proves_it(separation, batch_identities):
    gallery_GD = clustered(150, 32)
    protected_PD = gallery_GD[:70]  # the very rows that the gallery term draws references to
    config = PackingConfig(
        100, separation, alpha=1.0, steps=60, protected_cosine=0.4, batch_identities=batch_identities
    )
    rows = {"gallery_GD": gallery_GD, "protected_PD": protected_PD}
    packing = pack(gallery_GD, config, seed=0, **rows)
    largest = (packing.references_ND.astype(np.float64) @ protected_PD.T.astype(np.float64)).max()
    assert largest <= 0.4
    assert packing.max_protected_cosine == pytest.approx(largest, abs=1e-6)
    assert pack(gallery_GD, config, seed=0, gallery_GD=gallery_GD).mean_gallery_cosine > packing.mean_gallery_cosine


def test_protected_embeddings_that_leave_no_room_are_refused_before_the_first_step():
    protected_PD, seen = sphere.random_points(200, 3, 0), []
    config = PackingConfig(10, start="random", alpha=0.0, protected_cosine=0.5)
    with pytest.raises(ConfigError, match=r"protected_cosine found no place for 10 of 10.*raise it.*it is 0\.5"):
        pack(np.empty((0, 3), np.float32), config, seed=0, protected_PD=protected_PD, on_step=seen.append)
    assert not seen


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
    assert rough == pytest.approx(exact, rel=0.03)


def test_a_random_start_needs_no_rows():
    packing = pack(np.empty((0, 24), np.float32), free(50, start="random", steps=0), seed=4)
    np.testing.assert_array_equal(packing.references_ND, sphere.random_points(50, 24, 4))


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
    config = PackingConfig(50, separation, steps=30, **batch)
    posed = pose(gallery_GD, config, 0, torch.device("cpu"), gallery_GD, gallery_GD[:5], gallery_GD[5:9])
    state, _ = result.begin(posed, one_process(50))
    with Waiting():
        for _ in solver.iterate(state, posed.problem, one_process(50)):
            pass
    assert state.step == 30
    with Waiting(), pytest.raises(AssertionError, match="_local_scalar_dense"):
        float(state.max_cosine)


def test_rows_that_are_nearly_of_norm_one_are_normalised_with_a_warning():
    start_ND = clustered(20, 8)
    start_ND[3] *= 1.0005
    with pytest.warns(UserWarning, match=r"packing start: norms are off by up to 5\.0e-04"):
        packing = pack(start_ND, PackingConfig(20, steps=0), seed=0)
    np.testing.assert_allclose(np.linalg.norm(packing.references_ND, axis=1), 1, atol=1e-6)


def test_a_small_code_is_found_to_the_last_digit_of_float32_by_restarts_and_polish():
    config = free(12, start="random", restarts=8, steps=300, polish=True)
    packing = pack(np.empty((0, 3), np.float32), config, seed=0)
    assert packing.max_cosine == pytest.approx(5**-0.5, abs=2e-7)  # the icosahedron
    assert packing.bound_angle_share == pytest.approx(1, abs=1e-6)
    assert packing.steps == 300


def test_a_problem_too_large_for_restarts_or_polish_is_refused_before_the_first_step():
    for values, key in (({"restarts": 2}, "restarts"), ({"polish": True}, "polish")):
        with pytest.raises(ConfigError, match=f"packing.{key} "):
            pack(np.empty((0, 512), np.float32), free(3000, start="random", **values), seed=0)


def test_an_algebraic_start_is_kept_where_steps_find_nothing_better():
    packing = pack(np.empty((0, 32), np.float32), free(900, start="algebraic", steps=20), seed=0)
    assert packing.max_cosine <= 0.25 + 1e-6  # 2^((5 + 1) / 2) / 32


@pytest.mark.parametrize("batch_against", ["all", "batch"])
def test_a_random_choice_stays_finite_when_cold_and_ends_no_worse_than_the_start(batch_against):
    start_ND = clustered(300, 128)
    start_ND[1] = start_ND[0]
    batch = {"batch_identities": 15, "batch_against": batch_against}
    packing = pack(start_ND, free(300, steps=300, **batch), seed=0)
    assert packing.max_cosine < packing.max_cosine_before
    tight = pack(start_ND, free(300, steps=200), seed=0)
    again = pack(tight.references_ND, free(300, steps=20, **batch), seed=0)
    assert again.max_cosine <= tight.max_cosine + 1e-6


@pytest.mark.parametrize(("n", "dim", "rate"), [(2, 4096, 0.01), (50, 512, 1.0), (40, 1024, 0.1)])
def test_exponents_that_leave_their_range_leave_no_nan(n, dim, rate):
    packing = pack(np.empty((0, dim), np.float32), free(n, start="random", steps=40, learning_rate=rate), seed=0)
    assert np.isfinite(packing.references_ND).all()
    assert packing.max_cosine <= packing.max_cosine_before


def test_a_tight_protected_request_that_was_begun_is_met_at_the_end():
    for seed in range(8):
        protected_PD = sphere.random_points(200, 16, 100 + seed)
        config = free(60, start="random", steps=40, learning_rate=0.03, protected_cosine=0.42)
        packing = pack(np.empty((0, 16), np.float32), config, seed=seed, protected_PD=protected_PD)
        assert packing.max_protected_cosine <= 0.42
        assert packing.max_cosine < 0.999


def test_one_frozen_row_is_kept_away_from_also_by_a_reference_that_starts_on_it():
    start_ND = clustered(20, 16)
    for separation in SEPARATIONS:
        config = free(20, separation=separation, steps=200)
        packing = pack(start_ND, config, seed=0, frozen_FD=start_ND[3:4])
        assert packing.duplicates_separated == 1
        assert packing.max_cosine < 0.9
        assert packing.max_cosine_within_frozen is None


def test_the_library_checks_a_configuration_as_a_job_does():
    start_ND = clustered(20, 8)
    with pytest.raises(ConfigError, match=r"packing\.batch_identities must be 0"):
        pack(start_ND, free(20, batch_identities=21), seed=0)
    with pytest.raises(ConfigError, match="the seed must be at least 0"):
        pack(start_ND, free(20), seed=-1)
    with pytest.raises(ConfigError, match="for the free problem"):
        pack(start_ND, free(20, restarts=4), seed=0, frozen_FD=start_ND)
