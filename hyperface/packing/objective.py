"""What a packing minimises: how close identities are, plus alpha times how far they lie from the gallery.

Each rank looks at its share of the pairs; what it saw of others' rows is handed to their owners, and all ranks compute
the same value, each the gradient of its own rows. Gradients are analytic and are those of cosines: with respect to rows
of norm 1, before projection. Nothing here waits for a device.

N: rows of the step, L: own rows of this rank, M: what a row can be nearest to, D: embedding dimension.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hyperface.packing.kernel import Block, Nearest, SoftPairs, unpack
from hyperface.packing.partition import Partition

AT_A_TIME = 4096
"""Rows that are copied at a time, so that copies stay small."""


@dataclass(frozen=True)
class Terms:
    """The objective of a step."""

    separation: str
    """`closest_pair`, `nearest` or `logsumexp`."""
    alpha: float = 0.0
    tau: float = 1.0
    """Temperature of `logsumexp`, in cosines; the others have none."""
    shift: Tensor | None = None
    """0-dimensional, near the largest cosine, for `logsumexp`; None: found first, in a pass of its own."""
    dtype: torch.dtype = torch.float32
    """Of the products and of what ranks send each other."""


@dataclass(frozen=True)
class Others:
    """Whom the rows of a step look at besides each other."""

    frozen_FD: Tensor | None = None
    """Rows that do not move."""
    all_ND: Tensor | None = None
    """All rows, when those of the step are a choice of them; then they look at these instead of each other."""
    self_L: Tensor | None = None
    """Which of all rows each own row is."""


@dataclass(frozen=True)
class Value:
    """The objective; the same on every rank but for the gradient. Numbers are tensors that nobody has waited for."""

    loss: Tensor
    gradient_LD: Tensor
    """Of the loss with respect to the own rows, taken as free vectors whose cosines are dot products."""
    max_cosine: Tensor
    mean_nearest_cosine: Tensor
    mean_gallery_cosine: Tensor | None


def evaluate(
    own_LD: Tensor, near_LD: Tensor | None, partition: Partition, terms: Terms, others: Others | None = None
) -> Value:
    """separation + alpha * mean over all rows of the cosine distance to the nearest gallery row.

    Paper: HyperFace, ICLR 2025: -d(closest pair) + alpha * (1/n) sum_k min_g d(x_k, g), d = 1 - cosine. Here: without
    the constant -1 of the first term, and with two more choices of it.

    Args:
        own_LD: unit rows of this rank.
        near_LD: the gallery row nearest to each; None: no gallery term.
    """
    others = others or Others()
    separate = _soft_maximum if terms.separation == "logsumexp" else _hard
    loss, gradient_LD, cosine_N = separate(own_LD.to(terms.dtype), partition, terms, others)
    closeness = None
    if near_LD is not None:
        n = sum(partition.sizes)
        closeness = partition.each((own_LD * near_LD).sum(dtype=torch.float64)).sum() / n
        loss = loss + terms.alpha * (1 - closeness)
        gradient_LD.sub_(near_LD, alpha=terms.alpha / n)
    return Value(loss, gradient_LD, cosine_N.max(), cosine_N.mean(), closeness)


Separation = tuple[Tensor, Tensor, Tensor]
"""(value, its gradient for the own rows, cosine of each row of the step with the nearest)."""


def _hard(own_LD: Tensor, partition: Partition, terms: Terms, others: Others) -> Separation:
    seen = Nearest(sum(partition.sizes), own_LD.device)
    columns_MD = _look(seen.look, own_LD, partition, others)
    cosine_N, index_N = unpack(partition.group.max(seen.packed_N))
    if terms.separation == "nearest":
        gradient_LD = nearest_gradient(index_N, columns_MD, partition.own, others.all_ND is None)
        return cosine_N.double().mean(), gradient_LD, cosine_N
    gradient_LD = closest_pair_gradient(cosine_N, index_N, own_LD, columns_MD, partition, others.self_L)
    return cosine_N.max(), gradient_LD, cosine_N


def _soft_maximum(own_LD: Tensor, partition: Partition, terms: Terms, others: Others) -> Separation:
    """tau log sum_{i<j} exp(cosine_ij / tau), one softmax over all pairs, and its gradient.

    Never below the maximal cosine, and equal to it in the limit tau -> 0. The paper knows the limit only.
    """
    shift = terms.shift
    if shift is None:
        seen = Nearest(sum(partition.sizes), own_LD.device)
        _look(seen.look, own_LD, partition, others)
        shift = unpack(partition.group.max(seen.packed_N))[0].max().to(_sums(own_LD))
    pairs = SoftPairs(sum(partition.sizes), own_LD.shape[1], own_LD, shift, terms.tau)
    _look(pairs.look, own_LD, partition, others)
    # A sum that is 0 has gradient 0: the shift was far off, and the next step's is right.
    total = partition.each(pairs.total).sum().clamp_min(torch.finfo(pairs.total.dtype).tiny)
    gradient_LD = partition.group.sum(pairs.pull_ND, partition.sizes).div_(total)
    return pairs.shift + terms.tau * total.log(), gradient_LD, partition.group.max(pairs.cosine_N)


def _look(look: Callable[[Block], None], own_LD: Tensor, partition: Partition, others: Others) -> Tensor:
    """Show this rank's share of the pairs, and return what rows can be nearest to, in the order of its numbers.

    The own rows are looked at among each other while those of other ranks arrive.
    """
    first = partition.own.start
    if others.all_ND is None:
        arriving = partition.group.gather(own_LD, partition.sizes)
        look(Block(own_LD, first, own_LD, first, both=True))
        columns_MD = arriving()
        for rows, columns in partition.rectangles():
            look(Block(columns_MD[rows], rows.start, columns_MD[columns], columns.start, both=True))
    else:
        columns_MD = others.all_ND.to(own_LD.dtype)
        look(Block(own_LD, first, columns_MD, 0, self_A=others.self_L))
    if others.frozen_FD is not None:
        frozen_FD = others.frozen_FD.to(own_LD.dtype)
        look(Block(own_LD, first, frozen_FD, len(columns_MD)))
        columns_MD = torch.cat([columns_MD, frozen_FD])
    return columns_MD


def closest_pair_gradient(
    cosine_N: Tensor, index_N: Tensor, own_LD: Tensor, columns_MD: Tensor, partition: Partition, self_L: Tensor | None
) -> Tensor:
    """Gradient, for the own rows, of the cosine of the closest pair.

    Paper: HyperFace (Otroshi Shahreza and Marcel, ICLR 2025), algorithm 1: the loss is minus the distance of the
    current closest pair, so that two rows get a gradient each step. Of a pair of which one row does not take part in
    the step, the other.
    """
    if self_L is None:
        self_L = torch.arange(partition.own.start, partition.own.stop, device=own_LD.device)
    i = cosine_N.argmax()[None]
    j = index_N.gather(0, i)
    at_i_L = torch.arange(partition.own.start, partition.own.stop, device=own_LD.device) == i
    row_i = partition.each(torch.where(at_i_L, 1, 0).to(own_LD.dtype) @ own_LD).sum(0)
    is_j_L = (self_L == j) & ~at_i_L
    takes_part_L2 = torch.stack([at_i_L, is_j_L], 1).to(own_LD.dtype)
    return takes_part_L2.matmul(torch.cat([columns_MD.index_select(0, j), row_i[None]])).to(_sums(own_LD))


def nearest_gradient(index_N: Tensor, columns_MD: Tensor, own: slice, back: bool) -> Tensor:
    """Gradient, for the own rows, of the mean over the step's rows of the cosine with the nearest.

    A row is pulled on by its nearest row and, if all rows were seen (`back`), by every row whose nearest it is.
    """
    n, length, kind = len(index_N), own.stop - own.start, _sums(columns_MD)
    gradient_LD = columns_MD.new_empty(length + 1, columns_MD.shape[1], dtype=kind)
    for start in range(0, length, AT_A_TIME):
        rows = slice(start, min(start + AT_A_TIME, length))
        gradient_LD[rows] = columns_MD[index_N[own][rows]]
    if back:  # what pulls on no own row goes to one row too many, so that nobody has to wait for a count
        inside_N = (index_N >= own.start) & (index_N < own.stop)
        target_N = torch.where(inside_N, index_N - own.start, length)
        for start in range(0, n, AT_A_TIME):
            rows = slice(start, min(start + AT_A_TIME, n))
            gradient_LD.index_add_(0, target_N[rows], columns_MD[rows].to(kind))
    return gradient_LD[:length].div_(n)


def _sums(like: Tensor) -> torch.dtype:
    return torch.promote_types(like.dtype, torch.float32)
