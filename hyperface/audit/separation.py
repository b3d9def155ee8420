"""Separation of identities, as distributions of cosines. Blocked: memory does not grow with the number of pairs.

What is counted:
- a pair is unordered, of two different rows, and counts once;
- intra: pairs of one identity; inter: pairs of two identities;
- nearest: for each row, its highest cosine to another row; nearest_other: to a row of another identity;
- to_centre: for each row, its cosine to the mean of the *other* rows of its identity. Identities of one row have none.

Pairs are not weighted: an identity with twice the images has four times the intra pairs. Nearest cosines grow with
the number of rows, so compare them at equal numbers only.

Shape legend: N rows, G rows of another set, D embedding dimension, R and C rows of two blocks of the N.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperface.audit import pairs
from hyperface.audit.distribution import Distribution, Tally, distribution, equal_error
from hyperface.audit.machine import CPU, Machine
from hyperface.audit.pairs import AllPairs, Nearest
from hyperface.faces.embeddings import check_unit

BLOCK = 2048
"""Rows that are averaged at a time, and centres that are compared at a time."""


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
    """Separation of several embeddings per identity; a field is None where there is no such pair."""

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


def of_references(x_ND: NDArray[np.float32], on: Machine = CPU) -> ReferenceSeparation:
    """All pairs, and the nearest of each, of unit rows.

    Raises:
        EmbeddingError: a row is not finite or not of norm 1.
        ValueError: fewer than two rows.
    """
    if len(x_ND) < 2:
        raise ValueError(f"separation: needs at least 2 rows to make a pair; there are {len(x_ND)}")
    check_unit(x_ND, "separation")
    found = pairs.all_pairs(x_ND, on=on)
    every, nearest = found.between.distribution(), distribution(found.nearest.cosines_N)
    assert every is not None
    assert nearest is not None
    return ReferenceSeparation(every, nearest)


def of_images(
    x_ND: NDArray[np.float32], identities_N: NDArray[np.int64], closest: int = 0, on: Machine = CPU
) -> ImageSeparation:
    """Intra- and inter-identity cosines of unit rows, and the `closest` most alike rows of different identities.

    Rows in the order of their identities are read where they lie; others are copied into it.

    Raises:
        EmbeddingError: a row is not finite or not of norm 1.
        ValueError: no rows, or not one identity per row.
    """
    if len(x_ND) == 0 or identities_N.shape != (len(x_ND),):
        raise ValueError(f"separation: needs one identity per row; {len(x_ND)} rows, {identities_N.shape} identities")
    order_N = None if (np.diff(identities_N) >= 0).all() else np.argsort(identities_N, kind="stable")
    if order_N is not None:
        x_ND, identities_N = x_ND[order_N], identities_N[order_N]
    found = images(x_ND, identities_N, on)
    shown = closest_rows(found.pairs.nearest, x_ND, identities_N, closest)
    if order_N is not None:
        at = [sorted((int(order_N[pair.first]), int(order_N[pair.second]))) for pair in shown]
        shown = [ClosestPair(first, second, p.cosine) for (first, second), p in zip(at, shown, strict=True)]
    rate, threshold = equal_error(found.pairs.within, found.pairs.between)
    return ImageSeparation(
        identities=len(found.centres.identities_I),
        intra=found.pairs.within.distribution(),
        inter=found.pairs.between.distribution(),
        nearest_other=distribution(found.pairs.nearest.cosines_N[found.pairs.nearest.there_N]),
        to_centre=found.centres.to_centre.distribution(),
        equal_error_rate=rate,
        threshold=threshold,
        closest=shown,
    )


@dataclass(frozen=True)
class Centres:
    """The mean directions of the identities."""

    identities_I: NDArray[np.int64]
    rows_ID: NDArray[np.float32]
    """Unit rows; zero where the rows of an identity cancel out."""
    to_centre: Tally


@dataclass(frozen=True)
class Images:
    """Counts of the images that are made once and read several times."""

    pairs: AllPairs
    centres: Centres


def images(x_ND: NDArray[np.float32], identities_N: NDArray[np.int64], on: Machine = CPU) -> Images:
    """Count all pairs of unit rows in the order of their identities, and average each identity.

    Raises:
        EmbeddingError: a row is not finite or not of norm 1.
    """
    check_unit(x_ND, "separation")
    return Images(pairs.all_pairs(x_ND, identities_N, on), centres(x_ND, identities_N, on))


@torch.inference_mode()
def centres(x_ND: NDArray[np.float32], identities_N: NDArray[np.int64], on: Machine = CPU) -> Centres:
    """Return the centre of each identity, and the cosine of each row to the centre of the others. Rows ascend by
    identity.

    Memory: the centres, and BLOCK rows or one identity in float64.
    """
    identities_I, starts_I = np.unique(identities_N, return_index=True)
    ends_I = np.append(starts_I[1:], len(x_ND))
    rows_ID, tally = np.zeros((len(identities_I), x_ND.shape[1]), np.float32), Tally()
    first = 0
    while first < len(identities_I):
        last = max(first + 1, int(np.searchsorted(ends_I, starts_I[first] + BLOCK, side="right")))
        block_RD = pairs.tensor(x_ND[starts_I[first] : ends_I[last - 1]], on.device).double()
        count_K = torch.from_numpy(ends_I[first:last] - starts_I[first:last]).to(on.device)
        totals_KD = torch.segment_reduce(block_RD, "sum", lengths=count_K, axis=0)
        rows_ID[first:last] = (totals_KD / _norm(totals_KD)).float().cpu().numpy()
        tally.add(_to_others(block_RD, totals_KD, count_K))
        first = last
    return Centres(identities_I, rows_ID, tally)


def to_centre(x_ND: NDArray[np.float32], identities_N: NDArray[np.int64]) -> NDArray[np.float32]:
    """Cosine of each row to the mean of the other rows of its identity; rows that are alone are left out."""
    _, label_N, count_I = np.unique(identities_N, return_inverse=True, return_counts=True)
    order_N = np.argsort(label_N, kind="stable")
    sorted_ND, lengths_I = torch.from_numpy(x_ND[order_N]).double(), torch.from_numpy(count_I)
    totals_ID = torch.segment_reduce(sorted_ND, "sum", lengths=lengths_I, axis=0)
    kept_N = np.repeat(count_I, count_I) > 1
    cosines_N = np.empty(len(x_ND), np.float32)
    cosines_N[order_N[kept_N]] = _to_others(sorted_ND, totals_ID, lengths_I)
    return cosines_N[count_I[label_N] > 1]


def _to_others(x_ND: Tensor, totals_ID: Tensor, count_I: Tensor) -> NDArray[np.float32]:
    """Cosine of each row to the sum of its identity less the row itself; without rows that are alone."""
    label_N = torch.arange(len(count_I), device=count_I.device).repeat_interleave(count_I)
    kept_N = count_I[label_N] > 1
    others_ND = totals_ID[label_N[kept_N]] - x_ND[kept_N]
    cosines_N: NDArray[np.float32] = (others_ND * x_ND[kept_N] / _norm(others_ND)).sum(dim=1).float().cpu().numpy()
    return cosines_N


def _norm(x_ND: Tensor) -> Tensor:
    """Return the norm of each row, [N, 1], above 0."""
    norm_N1: Tensor = torch.linalg.vector_norm(x_ND, dim=1, keepdim=True)
    return norm_N1.clamp_min(1e-12)


def nearest_of(x_ND: NDArray[np.float32], others_GD: NDArray[np.float32], on: Machine = CPU) -> NDArray[np.float32]:
    """Highest cosine of each row to any row of another set; all of them unit rows."""
    return pairs.cross_pairs(x_ND, others_GD, on).nearest.cosines_N


def mean_pairwise(x_ND: NDArray[np.float32]) -> float | None:
    """Mean cosine over all pairs of unit rows; None for fewer than two."""
    count = len(x_ND)
    if count < 2:
        return None
    total_D = x_ND.sum(axis=0, dtype=np.float64)
    return float(total_D @ total_D - count) / (count * (count - 1))


def closest_rows(
    nearest: Nearest, x_ND: NDArray[np.float32], identities_N: NDArray[np.int64], count: int
) -> list[ClosestPair]:
    """The most alike rows of different identities, most alike first; no identity twice. Rows ascend by identity."""
    found: list[ClosestPair] = []
    shown: set[int] = set()
    for row in pairs.by_cosine(nearest):
        if len(found) == count or nearest.tiles_N[row] < 0:
            break
        if int(identities_N[row]) in shown:
            continue
        other = pairs.partner(nearest, row, x_ND, x_ND, identities_N)
        of_pair = {int(identities_N[row]), int(identities_N[other])}
        if not of_pair & shown:
            shown |= of_pair
            found.append(ClosestPair(min(row, other), max(row, other), float(nearest.cosines_N[row])))
    return found


@torch.inference_mode()
def greedy_count(centres_ID: NDArray[np.float32], threshold: float, on: Machine = CPU) -> int:
    """Count the identities that are left when one that is too near to an earlier one does not count.

    Identities are taken in their order; one counts unless its centre reaches the threshold with one counted before: the
    size of a maximal set of centres of which no two reach it, between the covering number of the centres at that cosine
    and their packing number (Kolmogorov and Tikhomirov, 1959), which is hard to find. Exact for this order, in blocks:
    O(I K D) for K that count.
    """
    x_ID, count = pairs.tensor(centres_ID, on.device), 0
    kept_KD = torch.empty_like(x_ID)
    blocks = -(-len(x_ID) // BLOCK)
    meter = on.meter("pairs of blocks", blocks * (blocks + 1) // 2)  # at most: if all count
    for block, first in enumerate(range(0, len(x_ID), BLOCK), start=1):
        left_RD = x_ID[first : first + BLOCK]
        for start in range(0, count, BLOCK):
            near_RK = left_RD @ kept_KD[start : min(start + BLOCK, count)].T >= threshold
            left_RD = left_RD[~near_RK.any(dim=1)]
        counted = _counted((left_RD @ left_RD.T >= threshold).cpu().numpy())
        kept_KD[count : count + len(counted)] = left_RD[counted]
        count += len(counted)
        meter.reach(meter.done + block)
    return count


def _counted(near_RR: NDArray[np.bool_]) -> list[int]:
    """The rows that are near no earlier one of these."""
    counted, hidden_R = list[int](), np.zeros(len(near_RR), np.bool_)
    for row in range(len(near_RR)):
        if not hidden_R[row]:
            counted.append(row)
            hidden_R |= near_RR[row]
    return counted
