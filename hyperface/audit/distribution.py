"""Distributions of cosines, counted in fine bins: small, mergeable, exact to a bin.

Shape legend: F fine bins.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

BINS = 200
"""Bins of a histogram: equal, over [-1, 1]; the last one includes 1."""
QUANTILES = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)
FINE = 20_000
"""Bins over [-1, 1] that are counted in; quantiles and thresholds are read from them, to 5e-5."""


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


@dataclass
class Tally:
    """A distribution that grows: by arrays of cosines, or by what was counted elsewhere."""

    fine_F: NDArray[np.int64] = field(default_factory=lambda: np.zeros(FINE, np.int64))
    total: float = 0.0
    least: float = 1.0
    most: float = -1.0

    @property
    def count(self) -> int:
        return int(self.fine_F.sum())

    def add(self, cosines: NDArray[np.float32]) -> None:
        if not cosines.size:
            return
        kept = np.clip(cosines, -1, 1)
        bins = np.minimum(((kept + 1) * (FINE / 2)).astype(np.int32), FINE - 1)
        self.fine_F += np.bincount(bins, minlength=FINE)
        self.total += float(kept.sum(dtype=np.float64))
        self.least, self.most = min(self.least, float(kept.min())), max(self.most, float(kept.max()))

    def merge(self, other: "Tally") -> None:
        """Take over what another one counted."""
        self.fine_F += other.fine_F
        self.total += other.total
        self.least, self.most = min(self.least, other.least), max(self.most, other.most)

    def distribution(self) -> Distribution | None:
        """Return the distribution; None when nothing was added."""
        count = self.count
        if count == 0:
            return None
        reached_F = np.cumsum(self.fine_F)
        rank = np.ceil(np.array(QUANTILES) * count)
        middle = (np.searchsorted(reached_F, rank) + 0.5) * (2 / FINE) - 1
        at = np.clip(middle, self.least, self.most)
        return Distribution(
            count=count,
            mean=self.total / count,
            least=self.least,
            most=self.most,
            quantiles={str(q): round(float(value), 5) for q, value in zip(QUANTILES, at, strict=True)},
            histogram=[int(n) for n in self.fine_F.reshape(BINS, -1).sum(axis=1)],
        )

    def at_or_above(self, threshold: float) -> int:
        """Count the cosines at or above an edge between two bins, as `threshold_at` and `equal_error` return them."""
        return int(self.fine_F[_edge(threshold) :].sum())

    def below(self, threshold: float) -> int:
        return self.count - self.at_or_above(threshold)


def distribution(cosines: NDArray[np.float32]) -> Distribution | None:
    """Distribution of given cosines; None for an empty array."""
    tally = Tally()
    tally.add(cosines)
    return tally.distribution()


def threshold_at(impostors: Tally, false_accept_rate: float) -> float | None:
    """The lowest cosine that at most this share of the impostor pairs reaches, to 1e-4.

    None when there are fewer than 1 / false_accept_rate of them: so few say nothing about so rare an event.
    """
    allowed = int(impostors.count * false_accept_rate + 1e-9)  # a product such as 9.000000000 may be just below 9
    if allowed < 1:
        return None
    reaching_F = np.cumsum(impostors.fine_F[::-1])[::-1]
    edge = int(np.searchsorted(-reaching_F, -allowed))  # the first bin that no more than `allowed` reach
    return round(edge * (2 / FINE) - 1, 5)


def equal_error(genuine: Tally, impostors: Tally) -> tuple[float | None, float | None]:
    """Return (rate, threshold) where as large a share of genuine pairs lies below as of impostors at or above.

    None without pairs of either kind.
    """
    if not genuine.count or not impostors.count:
        return None, None
    rejected = np.concatenate([[0], np.cumsum(genuine.fine_F)]) / genuine.count
    accepted = 1 - np.concatenate([[0], np.cumsum(impostors.fine_F)]) / impostors.count
    distance = np.abs(rejected - accepted)
    # Where the distributions do not overlap every threshold between them is as good: take the middle.
    edges = np.flatnonzero(distance == distance.min())
    edge = int(edges[len(edges) // 2])
    return float(rejected[edge] + accepted[edge]) / 2, round(edge * (2 / FINE) - 1, 5)


def _edge(threshold: float) -> int:
    return round((threshold + 1) * (FINE / 2))
