"""The last digits of a small packing: Newton's method and linear programmes on its closest pairs.

N: points, D: dimension, t: a point's tangent coordinates, D - 1 of them, P: active pairs, k: numbers of a pair.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_array
from scipy.sparse.linalg import lsmr

from hyperface.errors import ConfigError

LARGEST = 32_768
"""Most coordinates, N x D, of a packing that is polished."""
LARGEST_PROGRAMME = 20_000
"""Most numbers in a linear programme, 2 D - 1 for each active pair: about a second each. Larger ones are left out."""
WINDOWS = (1e-6, 1e-5, 1e-4)
"""Distances below the largest cosine within which a pair is to become equal to it."""
EQUAL = 1e-14
"""Spread of cosines that are equal but for rounding."""
FIRST_RADIUS, LAST_RADIUS = 1e-3, 1e-9
"""Largest and smallest radius of a coordinate's move. What a converged step leaves is of the second order: below 1e-16
at the last."""
STEPS = 40


def polish(x_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the local optimum near a packing: unit rows whose max cosine is never above that of the input.

    First Newton's method on the pairs that are as good as closest; what it cannot settle, linear programmes do. A code
    held together by its active pairs, as the known optimal ones are, is found to 1e-15. With programmes the input may
    be rough, without (see LARGEST_PROGRAMME) it must be near its optimum, as those of `restarts.best_of` are.

    Raises:
        ConfigError: N x D above 32,768.
    """
    refuse_large(*x_ND.shape)
    x_ND = x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)
    radius = FIRST_RADIUS
    for _ in range(STEPS):
        x_ND, settled = _equalised(x_ND)
        if settled or radius < LAST_RADIUS or _numbers(x_ND, radius) > LARGEST_PROGRAMME:
            break
        x_ND, radius = _programmed(x_ND, radius)
    return x_ND


def refuse_large(n: int, dim: int) -> None:
    """Raise ConfigError for a problem that `polish` does not take."""
    if n * dim > LARGEST:
        rule = f"takes at most {LARGEST:,} coordinates"
        raise ConfigError(f"packing.polish {rule}: set packing.polish=false or pack fewer; they are {n} x {dim}")


def _equalised(x_ND: NDArray[np.float64]) -> tuple[NDArray[np.float64], bool]:
    """Take Newton steps to where all active cosines are equal; return the rows, and whether they are equal and fix all
    points between them.

    In a jammed packing they outnumber the coordinates that are free, so that their equality says where the points are.
    Least squares of the smallest norm (D. C.-L. Fong, M. Saunders, LSMR, SIAM J. Sci. Comput. 33, 2011), because
    turning all points changes nothing. A step that does not lower the largest cosine is not taken.
    """
    n, dim = x_ND.shape
    for window in WINDOWS:
        for _ in range(4):
            cosine = max_cosine(x_ND)
            i_P, j_P, gap_P = _active(x_ND, cosine, window)
            involved = len(np.union1d(i_P, j_P))
            free = involved * (dim - 1) - dim * (dim - 1) // 2
            if len(i_P) > free and gap_P.max() < EQUAL:
                return x_ND, True
            matrix = _slopes(_tangent_bases(x_ND), x_ND, i_P, j_P)
            move = lsmr(matrix, gap_P / window, atol=1e-14, btol=1e-14, maxiter=2000)[0] * window
            moved_ND = _moved(x_ND, move[:-1].reshape(n, dim - 1))
            if max_cosine(moved_ND) >= cosine:
                break
            x_ND = moved_ND
    return x_ND, False


def _numbers(x_ND: NDArray[np.float64], radius: float) -> int:
    """Return the number of numbers in the linear programme of a radius."""
    i_P, _, _ = _active(x_ND, max_cosine(x_ND), _reach(x_ND, radius))
    return len(i_P) * int(2 * x_ND.shape[1] - 1)


def _programmed(x_ND: NDArray[np.float64], radius: float) -> tuple[NDArray[np.float64], float]:
    """Return the rows after a step of sequential linear programming, and the radius of the next.

    R. Fletcher, E. Sainz de la Maza, Nonlinear programming and nonsmooth optimization by successive linear programming,
    Mathematical Programming 43, 1989: minimise the largest of the cosines linearised over moves along the spheres, no
    coordinate's larger than a radius. The radius doubles while it is what limits the gain, is divided by 30 once it is
    not, for then what is left is of its square, and by 8 on a step that gains too little.
    """
    moved_ND, promised = _step(x_ND, radius)
    gain = max_cosine(x_ND) - max_cosine(moved_ND)
    if gain < promised / 4:
        radius /= 8
    elif promised > radius / 1000:
        radius *= 2
    else:
        radius /= 30
    return moved_ND if gain > 0 else x_ND, radius


def max_cosine(x_ND: NDArray[np.float64]) -> float:
    cosine_NN = x_ND @ x_ND.T
    np.fill_diagonal(cosine_NN, -math.inf)
    return float(cosine_NN.max())


def _step(x_ND: NDArray[np.float64], radius: float) -> tuple[NDArray[np.float64], float]:
    """Return the rows after the best moves of at most `radius` a coordinate, and the gain if cosines were linear in
    them.

    The programme is in units of the radius, so that the solver's tolerance of 1e-7 is relative to it.
    """
    n, dim = x_ND.shape
    i_P, j_P, gap_P = _active(x_ND, max_cosine(x_ND), _reach(x_ND, radius))
    cost = np.zeros(n * (dim - 1) + 1)
    cost[-1] = 1
    bounds = [(-1, 1)] * (n * (dim - 1)) + [(None, None)]
    matrix = _slopes(_tangent_bases(x_ND), x_ND, i_P, j_P)
    solved = linprog(cost, A_ub=matrix, b_ub=gap_P / radius, bounds=bounds, method="highs")
    if solved.x is None:
        return x_ND, 0.0
    return _moved(x_ND, radius * solved.x[:-1].reshape(n, dim - 1)), -radius * float(solved.x[-1])


def _reach(x_ND: NDArray[np.float64], radius: float) -> float:
    """Return the distance below the largest cosine within which a pair matters: each changes by half as much at
    most."""
    return float(4 * radius * math.sqrt(x_ND.shape[1] - 1))


def _moved(x_ND: NDArray[np.float64], move_Nt: NDArray[np.float64]) -> NDArray[np.float64]:
    moved_ND = x_ND + np.einsum("nt,ntd->nd", move_Nt, _tangent_bases(x_ND))
    unit_ND: NDArray[np.float64] = moved_ND / np.linalg.norm(moved_ND, axis=1, keepdims=True)
    return unit_ND


def _active(
    x_ND: NDArray[np.float64], cosine: float, window: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Return pairs i < j whose cosine is within the window of the largest, and how far each is below it."""
    gap_NN = cosine - x_ND @ x_ND.T
    i_P, j_P = np.nonzero(np.triu(gap_NN < window, 1))
    return i_P, j_P, gap_NN[i_P, j_P]


def _tangent_bases(x_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return orthonormal bases [N, t, D] of the tangent spaces: rows of the Householder reflection that takes x to an
    axis."""
    mirror_ND = x_ND.copy()
    mirror_ND[:, 0] += np.where(x_ND[:, 0] < 0, -1, 1)
    mirror_ND /= np.linalg.norm(mirror_ND, axis=1, keepdims=True)
    basis_NtD: NDArray[np.float64] = np.eye(x_ND.shape[1])[1:] - 2 * mirror_ND[:, 1:, None] * mirror_ND[:, None, :]
    return basis_NtD


def _slopes(
    basis_NtD: NDArray[np.float64], x_ND: NDArray[np.float64], i_P: NDArray[np.intp], j_P: NDArray[np.intp]
) -> csr_array:
    """Return the slopes of each pair's cosine above the maximum, in all points' tangent coordinates and, last column,
    the maximum."""
    n, t, _ = basis_NtD.shape
    ones_P, columns_t = np.ones((len(i_P), 1)), np.arange(t)
    of_i_Pt = np.einsum("ptd,pd->pt", basis_NtD[i_P], x_ND[j_P])
    of_j_Pt = np.einsum("ptd,pd->pt", basis_NtD[j_P], x_ND[i_P])
    slope_Pk = np.concatenate([of_i_Pt, of_j_Pt, -ones_P], 1)
    column_Pk = np.concatenate([i_P[:, None] * t + columns_t, j_P[:, None] * t + columns_t, n * t * ones_P], 1)
    ends_P = np.arange(len(i_P) + 1) * slope_Pk.shape[1]
    return csr_array((slope_Pk.ravel(), column_Pk.ravel().astype(np.int32), ends_P), shape=(len(i_P), n * t + 1))
