"""Lower bounds on the maximal cosine of any N points on the sphere in D dimensions: how far a packing can still go."""

import functools
import math
from collections.abc import Iterator
from itertools import count, islice


@functools.cache
def max_cosine_bound(n: int, dim: int) -> float:
    """Return the best of the bounds below: no N unit vectors in R^dim have a smaller maximal cosine. -1 to 1.

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


def _largest_code(dim: int, s: float) -> float:
    """Levenshtein's upper bound on the number of points whose cosines do not exceed s, in [0, 1).

    Its degree k is the first at which s does not exceed the largest zero of the adjacent polynomial (1,1), which is the
    Gegenbauer polynomial of R^(dim+2). Largest zeros grow with the degree, so that this is the first one not positive
    at s. Below the largest zero of (1,0), which is P_k - P_{k+1} up to a positive factor, the odd formula holds.
    """
    k = next(k for k, value in enumerate(_gegenbauer(dim + 2, s)) if value <= 0)
    before, p, after = islice(_gegenbauer(dim, s), k - 1, k + 2)
    return _odd(k, dim, s, before, p) if p <= after else _even(k, dim, s, p, after)


def _odd(k: int, dim: int, s: float, before: float, p: float) -> float:
    """L_{2k-1}(dim, s), with P_{k-1}(s) and P_k(s)."""
    return _binomial(k + dim - 3, k - 1) * ((2 * k + dim - 3) / (dim - 1) - (before - p) / ((1 - s) * p))


def _even(k: int, dim: int, s: float, p: float, after: float) -> float:
    """L_{2k}(dim, s), with P_k(s) and P_{k+1}(s)."""
    ratio = (1 + s) * (p - after) / ((1 - s) * (p + after))
    return _binomial(k + dim - 2, k) * ((2 * k + dim - 1) / (dim - 1) - ratio)


def _binomial(n: int, k: int) -> float:
    # More than any number of points, and still a float.
    return math.exp(min(600.0, math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)))


def _gegenbauer(dim: int, s: float) -> Iterator[float]:
    """P_0(s), P_1(s), ...: Gegenbauer polynomials for the sphere in R^dim, 1 at s = 1, by their recurrence."""
    before, p = 1.0, s
    yield before
    for i in count(1):
        yield p
        before, p = p, ((2 * i + dim - 2) * s * p - i * before) / (i + dim - 2)
