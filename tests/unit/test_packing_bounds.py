"""Lower bounds on the maximal cosine, against codes that are known to be optimal."""

import itertools
import math

import numpy as np
import pytest

from hyperface.packing.bounds import max_cosine_bound
from hyperface.packing.sphere import random_points


@pytest.mark.parametrize("dim", [2, 3, 8, 128, 512])
def test_simplex_and_orthoplex_meet_the_bound(dim):
    assert max_cosine_bound(2, dim) == -1
    assert max_cosine_bound(dim + 1, dim) == pytest.approx(-1 / dim)
    assert max_cosine_bound(dim + 2, dim) == 0
    assert max_cosine_bound(2 * dim, dim) == 0


@pytest.mark.parametrize(
    ("n", "dim", "cosine"),
    [
        (12, 3, 1 / math.sqrt(5)),  # icosahedron
        (240, 8, 1 / 2),  # roots of E8
        (196560, 24, 1 / 2),  # minimal vectors of the Leech lattice
        (56, 7, 1 / 3),
        (27, 6, 1 / 4),
        (275, 22, 1 / 6),
        (552, 23, 1 / 5),
        (100, 2, math.cos(2 * math.pi / 100)),  # regular polygon
    ],
)
def test_the_bound_is_the_cosine_of_a_sharp_code(n, dim, cosine):
    assert max_cosine_bound(n, dim) == pytest.approx(cosine, abs=1e-9)


def test_the_bound_is_below_codes_that_are_not_sharp():
    assert 0.78 < max_cosine_bound(120, 4) < (1 + math.sqrt(5)) / 4  # the 600-cell
    assert max_cosine_bound(10_000, 512) == pytest.approx(0.0238, abs=5e-5)
    for n, dim in itertools.product((5, 30, 200), (3, 16)):
        x_ND = random_points(n, dim, seed=1)
        assert max_cosine_bound(n, dim) < (x_ND @ x_ND.T - 2 * np.eye(n)).max()


def test_the_bound_grows_with_the_number_of_points():
    for dim in (2, 3, 16):
        bounds = [max_cosine_bound(n, dim) for n in range(2, 300)]
        assert all(a <= b + 1e-12 for a, b in itertools.pairwise(bounds))


def test_there_is_a_bound_in_every_dimension():
    bounds = [max_cosine_bound(3 * dim, dim) for dim in (2, 64, 2048, 4096)]
    assert all(0 < bound < 1 for bound in bounds)
    assert bounds == sorted(bounds, reverse=True)
