"""The procedural faces: determinism, independence of rows, and that identity and nuisance both show."""

import numpy as np
import pytest

from hyperface.models.toy.renderer import (
    IDENTITY_DIM,
    NUISANCE_DIM,
    NUISANCE_TRAITS,
    render,
    sample_identities,
    sample_nuisance,
)


def test_identities_fill_the_box_and_a_longer_draw_starts_with_the_shorter_one():
    few, many = sample_identities(10, seed=7), sample_identities(2000, seed=7)
    assert many.shape == (2000, IDENTITY_DIM)
    assert many.dtype == np.float32
    assert np.array_equal(few, many[:10])
    assert np.abs(many).max() <= 1.0
    assert many.std(axis=0).min() > 0.5


def test_a_row_of_nuisance_depends_on_its_own_seed_alone():
    rows = sample_nuisance([5, 6, 7])
    assert rows.shape == (3, NUISANCE_DIM)
    assert np.array_equal(rows[1], sample_nuisance([6])[0])
    assert not np.array_equal(rows[0], rows[1])
    assert np.array_equal(sample_nuisance([5, 6, 7], strength=0.0), np.zeros_like(rows))


def test_an_image_has_the_same_bytes_alone_and_in_any_batch():
    identities, seeds = sample_identities(19, seed=1), list(range(100, 119))
    nuisance = sample_nuisance(seeds)
    together = render(identities, nuisance, seeds)
    backwards = render(identities[::-1], nuisance[::-1], seeds[::-1])[::-1]
    alone = np.concatenate([render(identities[i : i + 1], nuisance[i : i + 1], seeds[i : i + 1]) for i in range(19)])
    assert together.shape == (19, 64, 64, 3)
    assert together.dtype == np.uint8
    assert np.array_equal(together, backwards)
    assert np.array_equal(together, alone)


def test_every_trait_of_an_identity_changes_the_picture():
    low = np.zeros((IDENTITY_DIM, IDENTITY_DIM), dtype=np.float32)
    high = low + 0.9 * np.eye(IDENTITY_DIM, dtype=np.float32)
    still, seeds = np.zeros((IDENTITY_DIM, NUISANCE_DIM), dtype=np.float32), [0] * IDENTITY_DIM
    still[:, NUISANCE_TRAITS.index("light_azimuth")] = 2.0
    change = np.abs(render(high, still, seeds).astype(int) - render(low, still, seeds)).max(axis=(1, 2, 3))
    assert change.min() > 8


def test_the_seed_changes_sensor_noise_only():
    face, view = sample_identities(1, seed=2), sample_nuisance([3])
    difference = render(face, view, [1]).astype(int) - render(face, view, [2])
    assert 0.0 < np.abs(difference).mean() < 3.0


def test_inputs_that_disagree_are_refused():
    with pytest.raises(ValueError, match="expected identities"):
        render(sample_identities(2, seed=1), sample_nuisance([1]), [1])
