"""Separation: counted by hand on a few points, by brute force on a few thousand pairs."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from numpy.typing import NDArray

from hyperface.audit import pairs, separation
from hyperface.audit.distribution import BINS, distribution
from hyperface.errors import EmbeddingError


def unit(count: int, dim: int = 16, seed: int = 0) -> NDArray[np.float32]:
    x = np.random.default_rng(seed).standard_normal((count, dim))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def compass() -> NDArray[np.float32]:
    """East, north, west: cosines 0 (E-N), -1 (E-W), 0 (N-W)."""
    return np.array([[1, 0], [0, 1], [-1, 0]], np.float32)


def test_each_unordered_pair_counts_once() -> None:
    pairs = separation.of_references(compass()).pairs
    assert (pairs.count, pairs.least, pairs.most) == (3, -1, 0)
    assert pairs.mean == pytest.approx(-1 / 3)
    assert sum(pairs.histogram) == 3
    assert pairs.histogram[0] == 1
    assert pairs.histogram[BINS // 2] == 2


def test_a_row_is_not_its_own_neighbour() -> None:
    nearest = separation.of_references(compass()).nearest
    assert (nearest.count, nearest.most) == (3, 0)


def test_blocks_give_what_brute_force_gives() -> None:
    x = unit(pairs.TILE + 300)
    found = separation.of_references(x)
    cosines = x.astype(np.float64) @ x.T
    above = cosines[np.triu_indices(len(x), 1)]
    np.fill_diagonal(cosines, -2)
    assert found.pairs.count == len(above)
    assert found.pairs.mean == pytest.approx(above.mean(), abs=1e-6)
    assert found.pairs.most == pytest.approx(above.max(), abs=1e-5)
    for q, value in found.pairs.quantiles.items():
        assert value == pytest.approx(np.quantile(above, float(q)), abs=3e-4)
    assert found.nearest.mean == pytest.approx(cosines.max(axis=1).mean(), abs=1e-5)
    assert found.nearest.least == pytest.approx(cosines.max(axis=1).min(), abs=1e-5)


def test_identities_split_the_pairs_into_intra_and_inter() -> None:
    x = unit(700)
    identities = np.random.default_rng(1).integers(0, 90, 700)
    found = separation.of_images(x, identities, closest=3)
    cosines = x.astype(np.float64) @ x.T
    same = identities[:, None] == identities[None, :]
    above = np.triu(np.ones_like(same), 1)
    assert found.intra is not None
    assert found.inter is not None
    assert found.nearest_other is not None
    assert found.intra.count == (same & above).sum()
    assert found.inter.count == (~same & above).sum()
    assert found.intra.mean == pytest.approx(cosines[same & above].mean(), abs=1e-6)
    assert found.inter.mean == pytest.approx(cosines[~same & above].mean(), abs=1e-6)
    others = np.where(same, -2, cosines)
    assert found.nearest_other.mean == pytest.approx(others.max(axis=1).mean(), abs=1e-5)
    best = found.closest[0]
    assert best.cosine == pytest.approx(others.max(), abs=1e-5)
    assert cosines[best.first, best.second] == pytest.approx(best.cosine, abs=1e-5)


def test_nearest_is_found_across_blocks_in_both_directions() -> None:
    x = unit(2 * pairs.TILE, dim=64)
    x[-1] = x[0]
    found = separation.of_images(x, np.arange(len(x)), closest=1)
    assert (found.closest[0].first, found.closest[0].second) == (0, len(x) - 1)
    nearest = separation.of_references(x).nearest
    assert nearest.most == pytest.approx(1, abs=1e-6)
    assert nearest.histogram[-1] == 2


def test_closest_pairs_show_no_identity_twice() -> None:
    x = np.array([[1, 0], [0.999, 0.0447], [0.998, 0.0632], [0, 1]], np.float32)
    found = separation.of_images(x, np.arange(4), closest=5)
    assert [(p.first, p.second) for p in found.closest] == [(1, 2)]


def test_equal_error_rate_is_zero_for_apart_and_half_for_meaningless_identities() -> None:
    apart = np.repeat(np.eye(4, dtype=np.float32), 3, axis=0)
    found = separation.of_images(apart, np.repeat(np.arange(4), 3))
    assert found.equal_error_rate == 0
    assert found.threshold is not None
    assert 0 < found.threshold < 1
    meaningless = separation.of_images(unit(600), np.random.default_rng(2).integers(0, 20, 600))
    assert meaningless.equal_error_rate == pytest.approx(0.5, abs=0.02)


def test_the_centre_of_an_image_leaves_the_image_itself_out() -> None:
    x = np.array([[1, 0], [0, 1], [1, 0]], np.float32)
    np.testing.assert_allclose(separation.to_centre(x[:2], np.array([5, 5])), [0, 0], atol=1e-7)
    np.testing.assert_allclose(separation.to_centre(x, np.array([5, 6, 5])), [1, 1], atol=1e-7)


def test_one_image_per_identity_has_no_intra_pairs() -> None:
    found = separation.of_images(compass(), np.arange(3))
    assert found.intra is None
    assert found.to_centre is None
    assert found.equal_error_rate is None
    assert found.inter is not None
    assert found.inter.count == 3


def test_results_survive_json() -> None:
    found = separation.of_images(unit(40), np.arange(40) // 4)
    assert json.loads(json.dumps(asdict(found))) == asdict(found)


def test_a_nan_row_is_refused_by_number() -> None:
    x = unit(5)
    x[3] = np.nan
    with pytest.raises(EmbeddingError, match="row 3"):
        separation.of_references(x)


@pytest.mark.parametrize("cosine", [-1.0, 1.0])
def test_the_ends_of_the_range_have_a_bin(cosine: float) -> None:
    found = distribution(np.array([cosine], np.float32))
    assert found is not None
    assert found.histogram[0 if cosine < 0 else -1] == 1
    assert found.quantiles["0.5"] == pytest.approx(cosine, abs=1e-4)
