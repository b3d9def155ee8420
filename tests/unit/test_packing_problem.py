"""Inputs of a packing: starts, duplicates, and what is refused before the first step."""

import math

import numpy as np
import pytest
from face_like_rows import clustered, free

from hyperface.config import PackingConfig
from hyperface.errors import ConfigError
from hyperface.packing import pack, sphere


def test_the_same_seed_gives_the_same_references_and_another_seed_others():
    gallery_GD = clustered(60, 16)
    config = PackingConfig(30, steps=20, batch_identities=10)
    first, again, other = (pack(gallery_GD, config, seed=seed, gallery_GD=gallery_GD) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.references_ND, again.references_ND)
    assert not np.allclose(first.references_ND, other.references_ND)


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


def test_a_random_start_needs_no_rows():
    packing = pack(np.empty((0, 24), np.float32), free(50, start="random", steps=0), seed=4)
    np.testing.assert_array_equal(packing.references_ND, sphere.random_points(50, 24, 4))


def test_rows_that_are_nearly_of_norm_one_are_normalised_with_a_warning():
    start_ND = clustered(20, 8)
    start_ND[3] *= 1.0005
    with pytest.warns(UserWarning, match=r"packing start: norms are off by up to 5\.0e-04"):
        packing = pack(start_ND, PackingConfig(20, steps=0), seed=0)
    np.testing.assert_allclose(np.linalg.norm(packing.references_ND, axis=1), 1, atol=1e-6)


def test_a_problem_too_large_for_restarts_or_polish_is_refused_before_the_first_step():
    for values, key in (({"restarts": 2}, "restarts"), ({"polish": True}, "polish")):
        with pytest.raises(ConfigError, match=f"packing.{key} "):
            pack(np.empty((0, 512), np.float32), free(3000, start="random", **values), seed=0)


def test_an_algebraic_start_is_kept_where_steps_find_nothing_better():
    packing = pack(np.empty((0, 32), np.float32), free(900, start="algebraic", steps=20), seed=0)
    assert packing.max_cosine <= 0.25 + 1e-6  # 2^((5 + 1) / 2) / 32


def test_the_library_checks_a_configuration_as_a_job_does():
    start_ND = clustered(20, 8)
    with pytest.raises(ConfigError, match=r"packing\.batch_identities must be 0"):
        pack(start_ND, free(20, batch_identities=21), seed=0)
    with pytest.raises(ConfigError, match="the seed must be at least 0"):
        pack(start_ND, free(20), seed=-1)
    with pytest.raises(ConfigError, match="for the free problem"):
        pack(start_ND, free(20, restarts=4), seed=0, frozen_FD=start_ND)
