"""How far apart identities are, as distributions of cosines. Blocked: memory does not grow with the number of pairs.

What is counted:
- a pair is unordered, of two different rows, and counts once;
- intra: pairs of one identity; inter: pairs of two identities;
- nearest: for each row, its highest cosine to another row; nearest_other: to a row of another identity;
- to_centre: for each row, its cosine to the mean of the *other* rows of its identity. Identities of one row have none.

Pairs are not weighted: an identity with twice the images has four times the intra pairs. Nearest cosines grow with
the number of rows, so compare them at equal numbers only.

Shape legend: N rows, G rows of another set, D embedding dimension, R and C rows of two blocks of the N.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyperface.embeddings import check_unit

BINS = 200
"""Bins of a histogram: equal, over [-1, 1]; the last one includes 1."""
QUANTILES = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)

# Quantiles are read from this many bins over [-1, 1]: to 5e-5.
_FINE = 20_000
_BLOCK = 1024


@dataclass(frozen=True)
class Distribution:
    """Cosines of `count` pairs (or rows)."""

    count: int
    mean: float
    least: float
    most: float
    quantiles: dict[str, float]
    """{"0.05": cosine, ...} for QUANTILES, each to 1e-4."""
    histogram: list[int]
    """Counts in BINS equal bins over [-1, 1]."""


@dataclass(frozen=True)
class ReferenceSeparation:
    """One embedding per identity."""

    pairs: Distribution
    nearest: Distribution


@dataclass(frozen=True)
class ClosestPair:
    """Two rows of different identities, by position, and their cosine."""

    first: int
    second: int
    cosine: float


@dataclass(frozen=True)
class ImageSeparation:
    """Several embeddings per identity. None: there is no such pair."""

    identities: int
    intra: Distribution | None
    inter: Distribution | None
    nearest_other: Distribution | None
    to_centre: Distribution | None
    equal_error_rate: float | None
    """Share of intra pairs below, and of inter pairs at or above, the threshold where both are equal."""
    threshold: float | None
    """Cosine at which the two error rates are equal, to 1e-4."""
    closest: list[ClosestPair]
    """Most alike rows of different identities, most alike first; no identity twice."""


class _Tally:
    """A distribution that grows by arrays of cosines."""

    def __init__(self) -> None:
        self.fine = np.zeros(_FINE, np.int64)
        self.total, self.least, self.most = 0.0, 1.0, -1.0

    def add(self, cosines: NDArray[np.float32]) -> None:
        if not cosines.size:
            return
        kept = np.clip(cosines, -1, 1)
        bins = np.minimum(((kept + 1) * (_FINE / 2)).astype(np.int32), _FINE - 1)
        self.fine += np.bincount(bins, minlength=_FINE)
        self.total += float(kept.sum(dtype=np.float64))
        self.least, self.most = min(self.least, float(kept.min())), max(self.most, float(kept.max()))

    def distribution(self) -> Distribution | None:
        """None when nothing was added."""
        count = int(self.fine.sum())
        if count == 0:
            return None
        reached = np.cumsum(self.fine)
        rank = np.ceil(np.array(QUANTILES) * count)
        middle = (np.searchsorted(reached, rank) + 0.5) * (2 / _FINE) - 1
        at = np.clip(middle, self.least, self.most)
        return Distribution(
            count=count,
            mean=self.total / count,
            least=self.least,
            most=self.most,
            quantiles={str(q): round(float(value), 5) for q, value in zip(QUANTILES, at, strict=True)},
            histogram=[int(n) for n in self.fine.reshape(BINS, -1).sum(axis=1)],
        )


def distribution(cosines: NDArray[np.float32]) -> Distribution | None:
    """Distribution of given cosines; None for an empty array."""
    tally = _Tally()
    tally.add(cosines)
    return tally.distribution()


def of_references(x_ND: NDArray[np.float32]) -> ReferenceSeparation:
    """All pairs, and the nearest of each, of unit rows.

    Raises:
        EmbeddingError: a row is not finite or not of norm 1.
        ValueError: fewer than two rows.
    """
    if len(x_ND) < 2:
        raise ValueError(f"separation: needs at least 2 rows to make a pair; there are {len(x_ND)}")
    check_unit(x_ND, "separation")
    pairs, nearest_N = _Tally(), np.full(len(x_ND), -2, np.float32)
    for rows, columns, cosines_RC in _blocks(x_ND):
        pairs.add(cosines_RC[_above(rows, columns)])
        _raise_nearest(nearest_N, None, rows, columns, np.where(_same_row(rows, columns), -2, cosines_RC))
    every, nearest = pairs.distribution(), distribution(nearest_N)
    assert every is not None
    assert nearest is not None
    return ReferenceSeparation(every, nearest)


def of_images(x_ND: NDArray[np.float32], identities_N: NDArray[np.int64], closest: int = 0) -> ImageSeparation:
    """Intra- and inter-identity cosines of unit rows, and the `closest` most alike rows of different identities.

    Raises:
        EmbeddingError: a row is not finite or not of norm 1.
        ValueError: no rows, or not one identity per row.
    """
    if len(x_ND) == 0 or identities_N.shape != (len(x_ND),):
        raise ValueError(f"separation: needs one identity per row; {len(x_ND)} rows, {identities_N.shape} identities")
    check_unit(x_ND, "separation")
    intra, inter = _Tally(), _Tally()
    nearest_N, index_N = np.full(len(x_ND), -2, np.float32), np.full(len(x_ND), -1)
    for rows, columns, cosines_RC in _blocks(x_ND):
        above_RC = _above(rows, columns)
        same_RC = identities_N[rows, None] == identities_N[None, columns]
        intra.add(cosines_RC[above_RC & same_RC])
        inter.add(cosines_RC[above_RC & ~same_RC])
        _raise_nearest(nearest_N, index_N, rows, columns, np.where(same_RC, -2, cosines_RC))
    rate, threshold = _equal_error(intra.fine, inter.fine)
    return ImageSeparation(
        identities=len(np.unique(identities_N)),
        intra=intra.distribution(),
        inter=inter.distribution(),
        nearest_other=distribution(nearest_N[index_N >= 0]),
        to_centre=distribution(to_centre(x_ND, identities_N)),
        equal_error_rate=rate,
        threshold=threshold,
        closest=_closest(nearest_N, index_N, identities_N, closest),
    )


def to_centre(x_ND: NDArray[np.float32], identities_N: NDArray[np.int64]) -> NDArray[np.float32]:
    """Cosine of each row to the mean of the other rows of its identity; rows that are alone are left out."""
    _, label_N, count_I = np.unique(identities_N, return_inverse=True, return_counts=True)
    total_ID = np.zeros((len(count_I), x_ND.shape[1]), np.float64)
    np.add.at(total_ID, label_N, x_ND)
    kept = count_I[label_N] > 1
    others_ND = total_ID[label_N[kept]] - x_ND[kept]
    norm_N = np.maximum(np.linalg.norm(others_ND, axis=1), 1e-12)
    cosines_N: NDArray[np.float32] = ((others_ND * x_ND[kept]).sum(axis=1) / norm_N).astype(np.float32)
    return cosines_N


def nearest_of(x_ND: NDArray[np.float32], others_GD: NDArray[np.float32]) -> NDArray[np.float32]:
    """Highest cosine of each row to any row of another set; all of them unit rows."""
    nearest_N = np.full(len(x_ND), -1, np.float32)
    for row in range(0, len(x_ND), _BLOCK):
        own = slice(row, row + _BLOCK)
        for column in range(0, len(others_GD), _BLOCK):
            best = (x_ND[own] @ others_GD[column : column + _BLOCK].T).max(axis=1)
            np.maximum(nearest_N[own], best, out=nearest_N[own])
    return nearest_N


def mean_pairwise(x_ND: NDArray[np.float32]) -> float | None:
    """Mean cosine over all pairs of unit rows; None for fewer than two."""
    count = len(x_ND)
    if count < 2:
        return None
    total_D = x_ND.sum(axis=0, dtype=np.float64)
    return float(total_D @ total_D - count) / (count * (count - 1))


def _blocks(x_ND: NDArray[np.float32]) -> Iterator[tuple[slice, slice, NDArray[np.float32]]]:
    """(rows, columns, cosines) of every block on or above the diagonal: together all pairs."""
    for first in range(0, len(x_ND), _BLOCK):
        rows = slice(first, min(first + _BLOCK, len(x_ND)))
        for second in range(first, len(x_ND), _BLOCK):
            columns = slice(second, min(second + _BLOCK, len(x_ND)))
            yield rows, columns, x_ND[rows] @ x_ND[columns].T


def _above(rows: slice, columns: slice) -> NDArray[np.bool_]:
    """Where the row comes before the column: each pair once."""
    above: NDArray[np.bool_] = np.arange(rows.start, rows.stop)[:, None] < np.arange(columns.start, columns.stop)
    return above


def _same_row(rows: slice, columns: slice) -> NDArray[np.bool_]:
    same: NDArray[np.bool_] = np.arange(rows.start, rows.stop)[:, None] == np.arange(columns.start, columns.stop)
    return same


def _raise_nearest(
    nearest_N: NDArray[np.float32],
    index_N: NDArray[np.int64] | None,
    rows: slice,
    columns: slice,
    cosines_RC: NDArray[np.float32],
) -> None:
    """Take the block's highest cosine of each row and column where it is higher; -2 in the block stands for none."""
    for own, other, axis in ((rows, columns, 1), (columns, rows, 0)):
        best = cosines_RC.max(axis=axis)
        higher = best > nearest_N[own]
        nearest_N[own][higher] = best[higher]
        if index_N is not None:
            index_N[own][higher] = cosines_RC.argmax(axis=axis)[higher] + other.start


def _equal_error(intra: NDArray[np.int64], inter: NDArray[np.int64]) -> tuple[float | None, float | None]:
    """(rate, threshold) where as large a share of intra pairs lies below as of inter pairs at or above."""
    if not intra.sum() or not inter.sum():
        return None, None
    rejected = np.concatenate([[0], np.cumsum(intra)]) / intra.sum()
    accepted = 1 - np.concatenate([[0], np.cumsum(inter)]) / inter.sum()
    distance = np.abs(rejected - accepted)
    # Where the distributions do not overlap every threshold between them is as good: take the middle.
    edges = np.flatnonzero(distance == distance.min())
    edge = int(edges[len(edges) // 2])
    return float(rejected[edge] + accepted[edge]) / 2, round(edge * (2 / _FINE) - 1, 5)


def _closest(
    nearest_N: NDArray[np.float32], index_N: NDArray[np.int64], identities_N: NDArray[np.int64], count: int
) -> list[ClosestPair]:
    pairs: list[ClosestPair] = []
    shown: set[int] = set()
    for row in np.argsort(-nearest_N, kind="stable"):
        other = int(index_N[row])
        of_pair = {int(identities_N[row]), int(identities_N[other])}
        if len(pairs) == count:
            break
        if other >= 0 and not of_pair & shown:
            shown |= of_pair
            pairs.append(ClosestPair(min(int(row), other), max(int(row), other), float(nearest_N[row])))
    return pairs
