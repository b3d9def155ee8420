"""Algebraic starts of the free problem: the best codes that can be written down, exact to the last bit of float32.

N: points, D: dimension, d: coordinates of a simplex, b: rows of one block. Codes are counted in lines: one row and its
opposite.
"""

import math

import numpy as np
from numpy.typing import NDArray

from hyperface.errors import ConfigError

BLOCK_ELEMENTS = 1 << 22
"""Number of signs computed at a time: 16 MiB."""


def algebraic(n: int, dim: int, seed: int) -> NDArray[np.float32]:
    """Return N unit rows [N, D] of the best code known for so many.

    The regular simplex for n <= dim + 1 (max cosine -1/(n-1)), the orthoplex for n <= 2 dim (0), else the Gold code for
    dim = 2^m, m odd and at least 3 (2^((m+1)/2) / dim: 1/16 in R^512). The seed chooses rows where a code has more.

    Raises:
        ConfigError: fewer than 2 rows, a dimension below 2, or no code for so many rows in so many dimensions.
    """
    if n < 2 or dim < 2:
        raise ConfigError(
            f"packing.start=algebraic needs 2 identities and 2 dimensions at least; they are {n} and {dim}"
        )
    if n <= dim + 1:
        return simplex(n, dim)
    if n <= 2 * dim:
        line_n, sign_n = _choose(n, dim, seed)
        return (sign_n[:, None] * np.eye(dim, dtype=np.float32)[line_n]).astype(np.float32)
    m = dim.bit_length() - 1
    codes = f"has no code for {n} identities in {dim} dimensions"
    fix = "set packing.start=random"
    if dim != 1 << m or m % 2 == 0 or m < 3:
        rule = f"up to {2 * dim} there, more only in 2^m dimensions with m odd (8, 32, 128, 512)"
        raise ConfigError(f"packing.start=algebraic {codes}: {rule}; {fix}")
    lines = dim * dim + dim
    if n > 2 * lines:
        raise ConfigError(f"packing.start=algebraic {codes}: {2 * lines} at most there; pack fewer or {fix}")
    return gold(*_choose(n, lines, seed), m)


def simplex(n: int, dim: int) -> NDArray[np.float32]:
    """Return the regular simplex of n <= dim + 1 points: all cosines -1/(n-1). Coordinates from n - 1 on are zero.

    The columns of Helmert's matrix, orthogonal to the vector of ones (H. O. Lancaster, The Helmert matrices, American
    Mathematical Monthly 72, 1965).
    """
    left_d = n - np.arange(n - 1.0)
    x_Nd = np.tril(np.broadcast_to(-1 / np.sqrt(left_d * (left_d - 1)), (n, n - 1)), -1)
    np.fill_diagonal(x_Nd, np.sqrt((left_d - 1) / left_d))
    x_ND = np.zeros((n, dim), dtype=np.float32)
    x_ND[:, : n - 1] = x_Nd * math.sqrt(n / (n - 1))
    return x_ND


def gold(line_N: NDArray[np.int64], sign_N: NDArray[np.float32], m: int) -> NDArray[np.float32]:
    """Rows sign * (-1)^Tr(a x^3 + b x) / sqrt(dim), x in GF(2^m), dim = 2^m, and sign * e_i. m odd.

    R. Gold, Maximal recursive sequences with 3-valued recursive cross-correlation functions, IEEE Transactions on
    Information Theory 14, 1968: for m odd, sums of these signs over x are 0 or +-2^((m+1)/2), unless a = b = 0. For
    m even there are tighter sets of lines, not built here (A. R. Calderbank, P. J. Cameron, W. M. Kantor, J. J. Seidel,
    Z4-Kerdock codes, orthogonal spreads and extremal Euclidean line-sets, Proc. London Mathematical Society 75, 1997).

    Paper: traces. Here: parities of a & x^3 and b & x, bit by bit, because over all a and b those are the same signs:
    both run through all linear functionals of GF(2^m).

    Args:
        line_N: a * dim + b below dim^2, from there on dim^2 + i.
    """
    dim = 1 << m
    element_D = np.arange(dim, dtype=np.int32)
    cube_D = _times(element_D, _times(element_D, element_D, m), m)
    x_ND = np.empty((len(line_N), dim), dtype=np.float32)
    height = max(1, BLOCK_ELEMENTS // dim)
    for start in range(0, len(line_N), height):
        rows = slice(start, start + height)
        a_b, b_b = np.divmod(line_N[rows, None].astype(np.int32), dim)
        bits_bD = (a_b & cube_D) ^ (b_b & element_D)
        x_ND[rows] = (1 - 2.0 * (np.bitwise_count(bits_bD) & 1)) / math.sqrt(dim)
    axes = line_N >= dim * dim
    x_ND[axes] = np.eye(dim, dtype=np.float32)[line_N[axes] - dim * dim]
    x_ND *= sign_N[:, None]
    return x_ND


def _choose(n: int, lines: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Choose lines and signs of n rows, no row twice: of n lines one row each, both rows where there are fewer
    lines."""
    rng = np.random.default_rng([seed, 3])
    if n <= lines:
        return rng.permutation(lines)[:n], rng.choice(np.array([-1, 1], dtype=np.float32), n)
    row_N = rng.permutation(2 * lines)[:n]
    return row_N // 2, (1 - 2 * (row_N % 2)).astype(np.float32)


def _times(a_D: NDArray[np.int32], b_D: NDArray[np.int32], m: int) -> NDArray[np.int32]:
    """Multiply in GF(2^m), whose elements are the bits of polynomials over GF(2), by shift and add."""
    modulus, product_D = _irreducible(m), np.zeros_like(a_D)
    for bit in reversed(range(m)):
        product_D = product_D << 1
        product_D ^= (product_D >> m) * modulus
        product_D ^= (b_D >> bit & 1) * a_D
    return product_D


def _irreducible(m: int) -> int:
    """Return the bits of the first irreducible polynomial of degree m over GF(2), by trial division."""
    return next(p for p in range(1 << m, 2 << m) if all(_remainder(p, q) for q in range(2, 2 << m // 2)))


def _remainder(p: int, q: int) -> int:
    while p.bit_length() >= q.bit_length():
        p ^= q << p.bit_length() - q.bit_length()
    return p
