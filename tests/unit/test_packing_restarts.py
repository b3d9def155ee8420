"""Small packings by many starts, and their polish, against codes that are known to be optimal."""

import math

import numpy as np
import pytest
import torch

from hyperface.errors import ConfigError
from hyperface.packing.polish import polish
from hyperface.packing.restarts import LARGEST, best_of, draw, soft_maximum_gradient
from hyperface.packing.sphere import random_points


def max_cosine(x_ND: np.ndarray) -> float:
    return (x_ND @ x_ND.T - 3 * np.eye(len(x_ND))).max()


def uniform(n: int, dim: int, restarts: int) -> np.ndarray:
    return np.stack([random_points(n, dim, seed) for seed in range(restarts)])


@pytest.mark.parametrize(
    ("n", "dim", "cosine", "restarts"),
    [
        (9, 8, -1 / 8, 4),  # simplex
        (16, 8, 0, 4),  # cross-polytope
        (12, 3, 1 / math.sqrt(5), 4),  # icosahedron
        (120, 4, (1 + math.sqrt(5)) / 4, 4),  # 600-cell
        (240, 8, 1 / 2, 4),  # roots of E8
        (24, 4, 1 / 2, 16),  # 24-cell
        (16, 5, 1 / 5, 4),
        (27, 6, 1 / 4, 4),
        (56, 7, 1 / 3, 4),
    ],
)
def test_known_optimal_codes_are_found_from_uniform_starts_and_polished_to_the_last_digit(n, dim, cosine, restarts):
    x_ND = best_of(uniform(n, dim, restarts))
    assert max_cosine(x_ND) == pytest.approx(cosine, abs=1e-6)
    assert max_cosine(polish(x_ND)) == pytest.approx(cosine, abs=1e-13)


def test_thirteen_points_are_found_from_mild_temperatures():
    angle = math.degrees(math.acos(max_cosine(polish(best_of(draw(13, 3, 24, seed=0))))))
    assert angle == pytest.approx(57.1367031, abs=1e-7)


@pytest.mark.parametrize(("n", "dim"), [(72, 6), (126, 7)])
def test_roots_of_e6_and_e7_are_found_from_symmetric_starts(n, dim):
    assert max_cosine(polish(best_of(draw(n, dim, 16, seed=0)))) == pytest.approx(1 / 2, abs=1e-13)


def test_a_quarter_of_the_starts_is_uniform_a_quarter_antipodal_and_half_invariant_under_a_rotation():
    start_RND = draw(24, 5, 16, seed=0)
    np.testing.assert_allclose(np.linalg.norm(start_RND, axis=2), 1, atol=1e-6)
    for r, x_ND in enumerate(start_RND):
        cosine_NN = x_ND @ x_ND.T
        values = len(np.unique(np.round(cosine_NN[np.triu_indices(24, 1)], 9)))
        assert values == 276 if r % 4 == 0 else values < 200
        assert r % 4 != 1 or cosine_NN.min(axis=1) == pytest.approx(-np.ones(24), abs=1e-6)


def test_starts_depend_on_the_seed_and_their_number_but_not_on_how_many_there_are():
    assert np.array_equal(draw(20, 4, 3, seed=5), draw(20, 4, 8, seed=5)[:3])
    assert not np.array_equal(draw(20, 4, 3, seed=5), draw(20, 4, 3, seed=6))
    assert draw(2, 2, 9, seed=0).shape == (9, 2, 2)


def test_the_first_steps_keep_a_start_symmetric():
    start_RND = draw(40, 6, 2, seed=0)[1:]
    x_ND = best_of(start_RND, steps=40)
    assert max_cosine(x_ND) < max_cosine(start_RND[0]) - 0.1
    assert (x_ND @ x_ND.T).min(axis=1) == pytest.approx(-np.ones(40), abs=1e-9)


def test_the_gradient_of_the_soft_maximum_is_autograds_on_the_sphere():
    x_RND = torch.tensor(uniform(15, 4, 3), dtype=torch.float64)
    x_RND = (x_RND / x_RND.norm(dim=2, keepdim=True)).requires_grad_()
    tau_R = torch.tensor([0.3, 0.1, 0.02], dtype=torch.float64)
    cosine_RNN = (x_RND @ x_RND.mT).masked_fill(torch.eye(15, dtype=torch.bool), -math.inf)
    loss = (tau_R * torch.logsumexp(cosine_RNN.flatten(1) / tau_R[:, None], 1)).sum()
    (free_RND,) = torch.autograd.grad(loss, x_RND)
    x_RND = x_RND.detach()
    expected_RND = 15 * (free_RND - (free_RND * x_RND).sum(2, keepdim=True) * x_RND)
    max_R, gradient_RND = soft_maximum_gradient(x_RND, tau_R)
    torch.testing.assert_close(gradient_RND, expected_RND)
    torch.testing.assert_close(max_R, cosine_RNN.detach().amax((1, 2)))


def test_the_result_is_unit_deterministic_and_never_worse_than_the_best_start():
    optimal_ND = polish(best_of(uniform(12, 3, 2)))
    start_RND = np.stack([random_points(12, 3, 0), optimal_ND])
    x_ND = best_of(start_RND, steps=1)
    assert max_cosine(x_ND) <= max_cosine(optimal_ND) + 1e-15
    assert np.array_equal(x_ND, best_of(start_RND, steps=1))
    np.testing.assert_allclose(np.linalg.norm(x_ND, axis=1), 1, atol=1e-15)
    assert best_of(start_RND[0], steps=10).shape == (12, 3)


def test_more_points_than_fit_in_memory_are_refused():
    with pytest.raises(ConfigError, match=r"^packing.restarts .* 2048 points: .*; they are 2049$"):
        best_of(np.ones((1, LARGEST + 1, 2)))


@pytest.mark.parametrize(("n", "dim"), [(2, 2), (2, 5), (5, 2), (30, 3), (40, 10), (200, 12)])
def test_polish_is_never_worse_than_its_input(n, dim):
    x_ND = random_points(n, dim, seed=0).astype(np.float64)
    polished_ND = polish(x_ND)
    assert max_cosine(polished_ND) <= max_cosine(x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True))
    np.testing.assert_allclose(np.linalg.norm(polished_ND, axis=1), 1, atol=1e-15)


def test_linear_programmes_polish_what_newtons_method_is_too_far_from():
    icosahedron_ND = polish(best_of(uniform(12, 3, 2)))
    rough_ND = icosahedron_ND + 0.003 * np.random.default_rng(0).standard_normal((12, 3))
    assert max_cosine(rough_ND / np.linalg.norm(rough_ND, axis=1, keepdims=True)) > 0.4485
    assert max_cosine(polish(rough_ND)) == pytest.approx(1 / math.sqrt(5), abs=1e-13)


def test_a_programme_that_overshoots_is_not_followed(monkeypatch):
    monkeypatch.setattr("hyperface.packing.polish.FIRST_RADIUS", 0.5)
    monkeypatch.setattr("hyperface.packing.polish.STEPS", 1)
    x_ND = best_of(uniform(12, 3, 2)) + 3e-3 * np.random.default_rng(0).standard_normal((12, 3))
    x_ND /= np.linalg.norm(x_ND, axis=1, keepdims=True)
    assert max_cosine(polish(x_ND)) <= max_cosine(x_ND) + 1e-15


def test_polish_moves_points_that_touch_nothing_no_closer_than_the_rest():
    free_ND = np.concatenate([best_of(uniform(12, 3, 2)), [[1.0, 0.0, 0.0]]])
    x_ND = polish(best_of(free_ND, steps=400))
    assert max_cosine(x_ND) < 0.56


def test_a_packing_too_large_to_polish_is_refused():
    with pytest.raises(ConfigError, match=r"^packing.polish takes at most 32,768 .*packing.polish=false.* 4097 x 8$"):
        polish(np.ones((4097, 8)))
