"""Verification of face recognition, whether two images show one person: the published protocol and its numbers, on
plain arrays.

A rate that the pairs cannot show is `None`, never a number: n impostor pairs show no false accept rate below 1/n.

Shape legend: B images, H and W pixels, D embedding dimension, N rows, P pairs, T thresholds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FARS = {"1e-6": 1e-6, "1e-5": 1e-5, "1e-4": 1e-4, "1e-3": 1e-3, "1e-2": 1e-2, "1e-1": 1e-1}
"""False accept rates at which the true accept rate is reported, by the name they have in a record."""
FOLDS = 10
THRESHOLDS_T = np.arange(0, 4, 0.01)
"""Squared distances that `ten_folds` tries."""
MOST_POINTS = 200
"""Most points of a curve in a record."""

_BLOCK = 8192


@dataclass(frozen=True)
class Folds:
    """Accuracy by cross-validation."""

    accuracy: float
    """Mean over the folds."""
    std: float
    """Standard deviation of the folds' accuracies around the mean (population form, as published)."""
    thresholds: list[float]
    """Squared distance chosen for each fold, on the others."""


@dataclass(frozen=True)
class Roc:
    """One point for each distinct similarity, highest first, after a first point that accepts nothing."""

    far_T: NDArray[np.float64]
    """Share of impostor pairs that are accepted."""
    tar_T: NDArray[np.float64]
    """Share of genuine pairs that are accepted."""
    threshold_T: NDArray[np.float64]
    """Least similarity that is accepted; infinite at the first point."""
    genuine: int
    impostors: int


def flip_sum(
    features: Callable[[NDArray[np.uint8]], NDArray[np.float32]], images_BHWC: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Features of the images and of their mirror images, added: [B, D], of any norm.

    InsightFace, recognition/arcface_torch/eval/verification.py (`test`): what is normalised is the sum, not its terms.
    """
    return features(images_BHWC) + features(np.ascontiguousarray(images_BHWC[:, :, ::-1]))


def squared_distances(
    x_ND: NDArray[np.float32], first_P: NDArray[np.integer[Any]], second_P: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """|x_first - x_second|^2 of each pair, in blocks; 2 - 2 cosine for unit rows."""
    distance_P = np.empty(len(first_P))
    for start in range(0, len(first_P), _BLOCK):
        part = slice(start, start + _BLOCK)
        distance_P[part] = np.square(x_ND[first_P[part]].astype(np.float64) - x_ND[second_P[part]]).sum(axis=1)
    return distance_P


def ten_folds(distance_P: NDArray[np.float64], same_P: NDArray[np.bool_], folds: int = FOLDS) -> Folds:
    """Accuracy of "one person, if nearer than a threshold", the threshold of each fold chosen on the others.

    Huang et al., "Labeled Faces in the Wild", 2007, as InsightFace computes it (`calculate_roc` in
    recognition/arcface_torch/eval/verification.py): squared distances of unit rows, thresholds 0 to 4 by 0.01, the
    first of equally good ones, folds in the order of the pairs. Where the pairs are no multiple of the folds, the first
    folds have one more, as scikit-learn's KFold without shuffling has it.

    Raises:
        ValueError: fewer pairs than folds, or a distance that is not finite.
    """
    if len(same_P) < folds:
        raise ValueError(f"ten_folds: needs at least {folds} pairs, one for each fold; there are {len(same_P)}")
    _check_finite(distance_P)
    parts = np.array_split(np.arange(len(same_P)), folds)
    right_FT = np.stack([_right(distance_P[part], same_P[part]) for part in parts])
    total_T = right_FT.sum(axis=0)
    chosen = [int((total_T - right_T).argmax()) for right_T in right_FT]
    accuracy_F = [right_FT[fold, at] / len(parts[fold]) for fold, at in enumerate(chosen)]
    return Folds(
        float(np.mean(accuracy_F)), float(np.std(accuracy_F)), [round(float(THRESHOLDS_T[at]), 2) for at in chosen]
    )


def roc(similarity_P: NDArray[np.floating[Any]], same_P: NDArray[np.bool_]) -> Roc:
    """Return the whole curve; pairs of equal similarity are accepted together. As scikit-learn's `roc_curve` without
    dropping.

    Holds about 40 bytes a pair.

    Raises:
        ValueError: no genuine or no impostor pair, or a similarity that is not finite.
    """
    genuine, impostors = int(same_P.sum()), int((~same_P).sum())
    if not genuine or not impostors:
        raise ValueError(f"roc: needs pairs of both kinds; there are {genuine} genuine and {impostors} impostor pairs")
    _check_finite(similarity_P)
    order_P = np.argsort(-similarity_P, kind="stable")
    sorted_P = similarity_P[order_P]
    last_T = np.append(np.flatnonzero(np.diff(sorted_P)), len(sorted_P) - 1)
    true_T = np.cumsum(same_P[order_P])[last_T]
    return Roc(
        far_T=np.concatenate([[0.0], (1 + last_T - true_T) / impostors]),
        tar_T=np.concatenate([[0.0], true_T / genuine]),
        threshold_T=np.concatenate([[np.inf], sorted_P[last_T]]),
        genuine=genuine,
        impostors=impostors,
    )


def equal_error_rate(curve: Roc) -> float:
    """Return the rate at which as many impostors are accepted as genuine pairs are refused, on straight lines between
    the points."""
    excess_T = curve.far_T - (1 - curve.tar_T)
    after = int(np.argmax(excess_T >= 0))
    if excess_T[after] == 0:
        return float(curve.far_T[after])
    before = after - 1
    share = excess_T[before] / (excess_T[before] - excess_T[after])
    return float(curve.far_T[before] + share * (curve.far_T[after] - curve.far_T[before]))


def tar_at_far(curve: Roc) -> dict[str, dict[str, Any]]:
    """Return {name in FARS: {tar, far, threshold}} at the largest false accept rate that is not above the wanted one.

    Of the thresholds with that rate, the one with the highest true accept rate. `tar` is None, with a `reason`, where
    the wanted rate is below 1/impostors. InsightFace's scripts take the nearest rate, which may be above.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, far in FARS.items():
        allowed = int(far * curve.impostors + 1e-9)
        if allowed < 1:
            found[name] = {"tar": None, "reason": not_measurable(curve.impostors)}
            continue
        # Counted in pairs: a rate such as 3/3000 is not quite 1e-3 in floating point.
        at = int(np.searchsorted(curve.far_T, (allowed + 0.5) / curve.impostors)) - 1
        found[name] = {
            "tar": float(curve.tar_T[at]),
            "far": float(curve.far_T[at]),
            "threshold": None if at == 0 else float(curve.threshold_T[at]),
        }
    return found


def thinned(curve: Roc, points: int = MOST_POINTS) -> dict[str, list[float]]:
    """Return {far, tar}: at most `points` points of the curve, evenly spaced in the logarithm of the false accept rate.

    Each is the highest true accept rate of its false accept rate; the first has none of the impostors, the last all.
    """
    wanted = np.concatenate([[0.0], np.geomspace(1 / curve.impostors, 1, points - 1)])
    at = np.unique(np.searchsorted(curve.far_T, wanted + 0.5 / curve.impostors) - 1)
    return {"far": curve.far_T[at].tolist(), "tar": curve.tar_T[at].tolist()}


def measured(distance_P: NDArray[np.float64], same_P: NDArray[np.bool_], folds: bool = True) -> dict[str, Any]:
    """The record of a set of pairs, from the squared distances of unit rows; every number that cannot be had is None.

    `reasons` says why, by the name of the number. Thresholds of `tar_at_far` are cosines, those of the accuracy squared
    distances.

    Args:
        folds: True where the pairs are in the order of folds; else there is no accuracy.
    """
    genuine, impostors = int(same_P.sum()), int((~same_P).sum())
    record: dict[str, Any] = {"pairs": len(same_P), "genuine": genuine, "impostors": impostors, "reasons": {}}
    record |= {"accuracy": None, "accuracy_std": None, "thresholds": [], "eer": None, "roc": None}
    if not genuine or not impostors:
        reason = not_measurable(impostors) if genuine else "not measurable (0 genuine pairs)"
        record["reasons"] = {"accuracy": reason, "eer": reason, "roc": reason}
        record["tar_at_far"] = {name: {"tar": None, "reason": reason} for name in FARS}
        return record
    curve = roc(1 - distance_P / 2, same_P)
    record |= {"eer": equal_error_rate(curve), "tar_at_far": tar_at_far(curve), "roc": thinned(curve)}
    if not folds:
        return record
    if len(same_P) < FOLDS:
        record["reasons"]["accuracy"] = f"not measurable ({len(same_P)} pairs for {FOLDS} folds)"
        return record
    tried = ten_folds(distance_P, same_P)
    return record | {"accuracy": tried.accuracy, "accuracy_std": tried.std, "thresholds": tried.thresholds}


def not_measurable(impostors: int) -> str:
    return f"not measurable ({impostors} impostors)"


def _right(distance_P: NDArray[np.float64], same_P: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count the pairs that each of THRESHOLDS_T judges rightly: genuine ones below it, and impostors at or above."""
    accepted_T = np.searchsorted(np.sort(distance_P[same_P]), THRESHOLDS_T)
    wrongly_T = np.searchsorted(np.sort(distance_P[~same_P]), THRESHOLDS_T)
    right_T: NDArray[np.int64] = accepted_T + (~same_P).sum() - wrongly_T
    return right_T


def _check_finite(values_P: NDArray[np.floating[Any]]) -> None:
    bad = np.flatnonzero(~np.isfinite(values_P))
    if len(bad):
        raise ValueError(f"verification: every pair needs a finite number; pair {bad[0]} has {values_P[bad[0]]}")
