"""Lower bounds on the maximal cosine of any N points on the sphere in D dimensions: how far a packing can still go."""

import math
from functools import cache

import numpy as np


def max_cosine_bound(n: int, dim: int) -> float:
    """The best of the bounds below: no N unit vectors in R^dim have a smaller maximal cosine. -1 to 1.

    The Welch bound is not among them: it bounds the absolute cosine, which points on a sphere need not obey.
    """
    return rankin(n, dim) if n <= 2 * dim else levenshtein(n, dim)


def rankin(n: int, dim: int) -> float:
    """Rankin's bounds (The closest packing of spherical caps in n dimensions, Glasgow Math. J. 2, 1955).

    Simplex bound: max cosine >= -1/(n-1), met for n <= dim + 1. Orthoplex bound: >= 0 for n > dim + 1, met for
    n <= 2 dim.
    """
    return -1.0 / (n - 1) if n <= dim + 1 else 0.0


def levenshtein(n: int, dim: int) -> float:
    """Levenshtein's bound, for n > 2 dim: the cosine at which his largest code size equals n.

    V. I. Levenshtein, Bounds for packings of metric spaces and some of their applications (1983); formulas as in
    Ericson and Zinoviev, Codes on Euclidean Spheres (2001), section 2.5. Met by all sharp codes, such as the 240 roots
    of E8 (1/2), and the icosahedron (1/sqrt 5).
    """
    low, high = 0.0, 1.0 - 1e-9
    for _ in range(100):
        middle = (low + high) / 2
        if _largest_code(dim, middle) >= n:
            high = middle
        else:
            low = middle
    return low


def _largest_code(dim: int, cosine: float) -> float:
    """Levenshtein's upper bound on the number of points whose cosines do not exceed `cosine`, in [0, 1)."""
    too_small, k = 0, 1
    while cosine > _zero_11(k, dim):
        too_small, k = k, 2 * k
    while k - too_small > 1:
        middle = (too_small + k) // 2
        too_small, k = (middle, k) if cosine > _zero_11(middle, dim) else (too_small, middle)
    return _odd(k, dim, cosine) if cosine <= _zero_10(k, dim) else _even(k, dim, cosine)


def _odd(k: int, dim: int, s: float) -> float:
    """L_{2k-1}(dim, s), for s between the largest zeros of the polynomials (1,1) of degree k-1 and (1,0) of k."""
    p, before = _gegenbauer(k, dim, s), _gegenbauer(k - 1, dim, s)
    return _binomial(k + dim - 3, k - 1) * ((2 * k + dim - 3) / (dim - 1) - (before - p) / ((1 - s) * p))


def _even(k: int, dim: int, s: float) -> float:
    """L_{2k}(dim, s), for s between the largest zeros of the polynomials (1,0) and (1,1) of degree k."""
    p, after = _gegenbauer(k, dim, s), _gegenbauer(k + 1, dim, s)
    ratio = (1 + s) * (p - after) / ((1 - s) * (p + after))
    return _binomial(k + dim - 2, k) * ((2 * k + dim - 1) / (dim - 1) - ratio)


def _binomial(n: int, k: int) -> float:
    return math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1))


def _gegenbauer(k: int, dim: int, s: float) -> float:
    """Gegenbauer polynomial of degree k for the sphere in R^dim, 1 at s = 1, by its three-term recurrence."""
    before, p = 0.0, 1.0
    for i in range(k):
        before, p = p, ((2 * i + dim - 2) * s * p - i * before) / (i + dim - 2) if i else s
    return p


@cache
def _zero_11(k: int, dim: int) -> float:
    """Largest zero of the adjacent polynomial (1,1) of degree k."""
    return _largest_jacobi_zero(k, (dim - 1) / 2, (dim - 1) / 2)


@cache
def _zero_10(k: int, dim: int) -> float:
    """Largest zero of the adjacent polynomial (1,0) of degree k."""
    return _largest_jacobi_zero(k, (dim - 1) / 2, (dim - 3) / 2)


def _largest_jacobi_zero(k: int, a: float, b: float) -> float:
    """Largest zero of the Jacobi polynomial P_k^(a,b): the largest eigenvalue of its recurrence's tridiagonal matrix.

    G. H. Golub and J. H. Welsch, Calculation of Gauss quadrature rules, Math. Comp. 23 (1969).
    """
    i = np.arange(1, k)
    s = 2 * i + a + b
    first, second = (b - a) / (a + b + 2), 4 * (1 + a) * (1 + b) / ((2 + a + b) ** 2 * (3 + a + b))
    diagonal = np.concatenate([[first], (b - a) * (b + a) / (s * (s + 2))])
    i, s = i[1:], s[1:]
    beside = np.concatenate([[second], 4 * i * (i + a) * (i + b) * (i + a + b) / (s**2 * (s**2 - 1))])[: k - 1]
    matrix = np.diag(diagonal) + np.diag(np.sqrt(beside), 1) + np.diag(np.sqrt(beside), -1)
    return float(np.linalg.eigvalsh(matrix)[-1])
