"""Frozen identities and protected embeddings: rows that a packing keeps away from."""

import numpy as np
import pytest
from face_like_rows import SEPARATIONS, clustered, free, max_cosine

from hyperface.config import PackingConfig
from hyperface.errors import ConfigError
from hyperface.packing import pack, result, sphere


@pytest.fixture(scope="module")
def packed_FD() -> np.ndarray:
    gallery_GD = clustered(200, 32)
    return pack(gallery_GD, PackingConfig(60, steps=100), seed=1, gallery_GD=gallery_GD).references_ND


@pytest.mark.parametrize("separation", SEPARATIONS)
def test_identities_keep_away_from_frozen_ones_which_stay(separation, packed_FD):
    gallery_GD, frozen_FD, kept_FD = clustered(200, 32), packed_FD.copy(), packed_FD
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


def test_a_tight_protected_request_that_was_begun_is_met_at_the_end():
    for seed in range(2):
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
