"""Algebraic starts, against the cosines that their codes are known for."""

import numpy as np
import pytest

from hyperface.errors import ConfigError
from hyperface.packing import starts


def max_cosine(x_ND: np.ndarray) -> float:
    x_ND = x_ND.astype(np.float64)
    return (x_ND @ x_ND.T - 3 * np.eye(len(x_ND))).max()


@pytest.mark.parametrize(("n", "dim"), [(2, 2), (3, 2), (2, 512), (9, 8), (17, 16), (10, 30), (513, 512)])
def test_up_to_dim_plus_one_points_are_a_regular_simplex(n, dim):
    x_ND = starts.algebraic(n, dim, seed=0).astype(np.float64)
    expected_NN = np.full((n, n), -1 / (n - 1)) + np.eye(n) * n / (n - 1)
    np.testing.assert_allclose(x_ND @ x_ND.T, expected_NN, atol=3e-7)


@pytest.mark.parametrize(("n", "dim"), [(4, 2), (10, 8), (16, 8), (21, 13), (1000, 512)])
def test_up_to_twice_dim_points_are_part_of_an_orthoplex(n, dim):
    x_ND = starts.algebraic(n, dim, seed=0)
    assert set(np.unique(x_ND)) == {-1, 0, 1}
    assert max_cosine(x_ND) == 0
    assert len(np.unique(x_ND, axis=0)) == n


@pytest.mark.parametrize(
    ("n", "dim", "cosine"),
    [
        (17, 8, 1 / 2),
        (72, 8, 1 / 2),  # all lines, one row each
        (144, 8, 1 / 2),  # all rows
        (1056, 32, 1 / 4),
        (1500, 32, 1 / 4),
        (2112, 32, 1 / 4),
        (3000, 128, 1 / 8),
        (2000, 512, 1 / 16),
    ],
)
def test_more_points_are_gold_code_signs_of_the_known_cosine(n, dim, cosine):
    x_ND = starts.algebraic(n, dim, seed=0)
    assert max_cosine(x_ND) == pytest.approx(cosine, abs=1e-7)
    assert x_ND.dtype == np.float32
    assert x_ND.shape == (n, dim)
    np.testing.assert_allclose(np.linalg.norm(x_ND, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(np.unique(np.abs(x_ND)), [0, dim**-0.5, 1][-len(np.unique(np.abs(x_ND))) :], atol=1e-7)
    assert len(np.unique(x_ND, axis=0)) == n


def test_one_row_of_each_line_comes_before_any_opposite():
    one_ND, both_ND = starts.algebraic(72, 8, seed=0), starts.algebraic(73, 8, seed=0)
    assert (one_ND @ one_ND.T).min() == pytest.approx(-0.5)
    assert (both_ND @ both_ND.T).min() == pytest.approx(-1)


def test_the_whole_code_of_dimension_128_is_built_in_blocks_and_has_cosine_one_eighth(monkeypatch):
    whole_ND = starts.algebraic(33024, 128, seed=0)
    monkeypatch.setattr(starts, "BLOCK_ELEMENTS", 12345)
    assert np.array_equal(starts.algebraic(33024, 128, seed=0), whole_ND)
    some_nD = whole_ND[:1000].astype(np.float64)
    cosine_nN = some_nD @ whole_ND.T.astype(np.float64)
    cosine_nN[np.arange(1000), np.arange(1000)] = -1
    assert cosine_nN.max() == pytest.approx(1 / 8, abs=1e-7)


@pytest.mark.parametrize(("n", "dim"), [(12, 8), (50, 8), (120, 8), (3000, 512)])
def test_a_seed_always_chooses_the_same_rows_and_another_seed_others(n, dim):
    x_ND = starts.algebraic(n, dim, seed=1)
    assert np.array_equal(x_ND, starts.algebraic(n, dim, seed=1))
    assert not np.array_equal(x_ND, starts.algebraic(n, dim, seed=2))


@pytest.mark.parametrize(
    ("n", "dim", "said"),
    [
        (1, 8, "2 identities"),
        (5, 1, "2 dimensions"),
        (21, 10, "up to 20 there"),
        (33, 16, "m odd"),
        (5, 2, "up to 4 there"),
        (145, 8, "144 at most"),
        (2113, 32, "2112 at most"),
    ],
)
def test_where_there_is_no_code_the_error_names_the_key_the_rule_and_the_fix(n, dim, said):
    with pytest.raises(ConfigError, match=r"^packing.start=algebraic") as raised:
        starts.algebraic(n, dim, seed=0)
    assert said in str(raised.value)
    assert str(n) in str(raised.value)
    assert n < 2 or dim < 2 or "packing.start=random" in str(raised.value)
