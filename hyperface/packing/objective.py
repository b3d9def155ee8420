"""The objective of a packing: how close identities are, plus alpha times how far they lie from the gallery.

Each rank looks at its share of the pairs; what it saw of others' rows is handed to their owners, and all ranks compute
the same value, each the gradient of its own rows. Gradients are analytic and are those of cosines: with respect to rows
of norm 1, before projection. Nothing here waits for a device.

N: rows of the step, L: own rows of this rank, M: what a row can be nearest to, D: embedding dimension.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from hyperface.config import PackingConfig
from hyperface.packing.kernel import Block, Nearest, unpack
from hyperface.packing.partition import Partition

Number = TypeVar("Number", float, Tensor)


@dataclass(frozen=True)
class Terms:
    """The part of the objective that changes from step to step."""

    alpha: float = 0.0
    tau: float = 1.0
    """Temperature of a soft maximum, in cosines."""
    shift: Tensor | None = None
    """Shift of the exponents of a soft maximum, 0-dimensional, near the largest cosine; None: found first, in a pass of
    its own."""
    dtype: torch.dtype = torch.float32
    """Type of the products and of what ranks send each other."""


@dataclass(frozen=True)
class Against:
    """Rows that those of a step look at besides each other."""

    frozen_FD: Tensor | None = None
    """Rows that do not move."""
    all_ND: Tensor | None = None
    """All rows, when those of the step are a choice of them; then they look at these instead of each other."""
    self_L: Tensor | None = None
    """Number of each own row among all rows."""


@dataclass(frozen=True)
class Separated:
    """The closeness of the rows of a step."""

    value: Tensor
    gradient_LD: Tensor
    """Gradient of the value for the own rows."""
    cosine_N: Tensor
    """Cosine of each row of the step with its nearest."""


class Separation(ABC):
    """One way to say how close identities are, and how Adam minimises it; `objectives` has the three there are."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's decays; these are its usual ones."""
    pulls_on_others = False
    """True where a rank computes gradients of other ranks' rows, and sends them."""

    def __init__(self, config: PackingConfig) -> None:
        self.config = config

    @property
    def looks(self) -> int:
        """Return how many times a step looks at its pairs."""
        return 1

    @abstractmethod
    def of(self, own_LD: Tensor, partition: Partition, terms: Terms, against: Against) -> Separated:
        """The separation of the rows of a step, of which this rank owns `own_LD` (unit). Every rank calls it."""

    def score(self, max_cosine: Number, mean_nearest_cosine: Number) -> Number:
        """The number by which packings are compared: the separation, or the hard maximum behind a soft one."""
        return max_cosine

    def scales(self, dim: int) -> int:
        """Return the number of second moments that Adam keeps of a row."""
        return dim

    def terms(self, step: int, max_cosine: Tensor, dim: int) -> Terms:
        """The terms of a step, given the largest cosine as the step before saw it."""
        return Terms(self.config.alpha, dtype=self.dtype(step, max_cosine.dtype, dim))

    def dtype(self, step: int, exact: torch.dtype, dim: int) -> torch.dtype:
        """The numbers in which a step multiplies rows; `exact` where packing.precision asks for no others."""
        return torch.bfloat16 if self.config.precision == "bfloat16" else exact

    def rate(self, step: int, points: int, dim: int) -> float:
        """Return the length of a step in each coordinate. The paper's falls by a factor 0.75 every 5,000 steps
        (recalled only).

        Args:
            points: rows that are packed or frozen.
        """
        return self.config.learning_rate * 0.75 ** (step // 5000)


@dataclass(frozen=True)
class Value:
    """The objective; the same on every rank but for the gradient. Numbers are tensors that nobody has waited for."""

    loss: Tensor
    gradient_LD: Tensor
    """Gradient of the loss with respect to the own rows, taken as free vectors whose cosines are dot products."""
    max_cosine: Tensor
    mean_nearest_cosine: Tensor
    mean_gallery_cosine: Tensor | None


def evaluate(
    own_LD: Tensor,
    near_LD: Tensor | None,
    partition: Partition,
    separation: Separation,
    terms: Terms,
    against: Against | None = None,
) -> Value:
    """Evaluate separation + alpha * mean over all rows of the cosine distance to the nearest gallery row.

    Paper: HyperFace, ICLR 2025: -d(closest pair) + alpha * (1/n) sum_k min_g d(x_k, g), d = 1 - cosine. Here: without
    the constant -1 of the first term, and with two more choices of it.

    Args:
        own_LD: unit rows of this rank.
        near_LD: the gallery row nearest to each; None: no gallery term.
    """
    found = separation.of(own_LD.to(terms.dtype), partition, terms, against or Against())
    loss, gradient_LD, closeness = found.value, found.gradient_LD, None
    if near_LD is not None:
        n = sum(partition.sizes)
        closeness = partition.each((own_LD * near_LD).sum(dtype=torch.float64)).sum() / n
        loss = loss + terms.alpha * (1 - closeness)
        gradient_LD.sub_(near_LD, alpha=terms.alpha / n)
    return Value(loss, gradient_LD, found.cosine_N.max(), found.cosine_N.mean(), closeness)


def nearest_of_each(own_LD: Tensor, partition: Partition, against: Against) -> tuple[Tensor, Tensor, Tensor]:
    """Return (cosine [N], number [N]) of the row nearest to each row of the step, and the rows [M, D] in their numbers'
    order."""
    seen = Nearest(sum(partition.sizes), own_LD.device)
    columns_MD = look(seen.look, own_LD, partition, against)
    return *unpack(partition.group.max(seen.packed_N)), columns_MD


def look(show: Callable[[Block], None], own_LD: Tensor, partition: Partition, against: Against) -> Tensor:
    """Show this rank's share of the pairs, and return the rows that rows can be nearest to, in the order of its
    numbers.

    The own rows are looked at among each other while those of other ranks arrive.
    """
    first = partition.own.start
    if against.all_ND is None:
        arriving = partition.group.gather(own_LD, partition.sizes)
        show(Block(own_LD, first, own_LD, first, both=True))
        columns_MD = arriving()
        for rows, columns in partition.rectangles():
            show(Block(columns_MD[rows], rows.start, columns_MD[columns], columns.start, both=True))
    else:
        columns_MD = against.all_ND.to(own_LD.dtype)
        show(Block(own_LD, first, columns_MD, 0, self_A=against.self_L))
    if against.frozen_FD is not None:
        frozen_FD = against.frozen_FD.to(own_LD.dtype)
        show(Block(own_LD, first, frozen_FD, len(columns_MD)))
        columns_MD = torch.cat([columns_MD, frozen_FD])
    return columns_MD


def sums(like: Tensor) -> torch.dtype:
    """Return the type in which products of such rows are added up."""
    return torch.promote_types(like.dtype, torch.float32)
