"""What a packing minimises: how close identities are, plus alpha times how far they lie from the gallery.

Every rank looks from its own rows at all rows, block by block; no N x N matrix is ever held. What it sees of each own
row is a few numbers; these are gathered, and from all ranks' numbers each computes the same value and the gradient of
its own rows. Gradients are analytic and are those of cosines: with respect to rows of norm 1, before projection.

N: all rows, L: own rows of this rank, G: gallery rows, D: embedding dimension, b: rows of one block.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hyperface.packing.shard import Shard

BLOCK_ELEMENTS = 1 << 24
"""Cosines held at a time: 64 MiB in float32."""


@dataclass(frozen=True)
class Value:
    """The objective of all rows; the same on every rank but for the gradient."""

    loss: float
    gradient_LD: Tensor
    """Of the loss with respect to the own rows, taken as free vectors whose cosines are dot products."""
    max_cosine: float
    mean_nearest_cosine: float
    mean_gallery_cosine: float | None


@dataclass(frozen=True)
class Seen:
    """What each own row sees of all other rows."""

    cosine_L: Tensor
    """Cosine of the nearest."""
    index_L: Tensor
    """Which row that is: int64."""


@dataclass(frozen=True)
class SoftlySeen(Seen):
    log_sum_L: Tensor
    """log sum_j exp(cosine_ij / tau) over all other rows j: float64, since its terms reach 1 / tau."""
    pull_LD: Tensor
    """sum_j softmax_j(cosine_ij / tau) x_j: the gradient of tau * log_sum with respect to row i."""


def evaluate(
    own_LD: Tensor, gallery_GD: Tensor | None, shard: Shard, separation: str, alpha: float, tau: float
) -> Value:
    """separation + alpha * mean over all rows of the cosine distance to the nearest gallery row.

    Paper: HyperFace, ICLR 2025: -d(closest pair) + alpha * (1/n) sum_k min_g d(x_k, g), d = 1 - cosine. Here: without
    the constant -1 of the first term, and with two more choices of it.

    Args:
        own_LD: unit rows of this rank.
        separation: `closest_pair`, `nearest` or `logsumexp`.
        gallery_GD: unit rows; None: no gallery term.
        tau: temperature of `logsumexp`, in cosines; the others have none.
    """
    all_ND, own = shard.all(own_LD), shard.own
    soft = separation == "logsumexp"
    seen = softly(own_LD, all_ND, own.start, tau) if soft else nearest(own_LD, all_ND, own.start)
    near = None if gallery_GD is None else nearest(own_LD, gallery_GD, None)

    zeros_L = own_LD.new_zeros(len(own_LD))
    log_sum_L = seen.log_sum_L if isinstance(seen, SoftlySeen) else zeros_L
    columns = seen.cosine_L, seen.index_L, log_sum_L, near.cosine_L if near else zeros_L
    cosine_N, index_N, log_sum_N, near_N = shard.all(torch.stack([c.double() for c in columns], 1)).unbind(1)

    if isinstance(seen, SoftlySeen):
        value, gradient_LD = soft_maximum(log_sum_N, seen.pull_LD, own, tau)
    elif separation == "nearest":
        value, gradient_LD = mean_nearest(cosine_N, index_N.long(), all_ND, own)
    else:
        value, gradient_LD = closest_pair(cosine_N, index_N.long(), all_ND, own)
    loss, closeness = value.item(), None
    if near is not None and gallery_GD is not None:
        closeness = near_N.mean().item()
        loss += alpha * (1 - closeness)
        gradient_LD = gradient_LD - alpha / len(all_ND) * gallery_GD[near.index_L]
    return Value(loss, gradient_LD, cosine_N.max().item(), cosine_N.mean().item(), closeness)


def nearest(own_LD: Tensor, all_ND: Tensor, first: int | None) -> Seen:
    """The nearest of all rows to each own row.

    Args:
        first: which of all rows the first own row is, so that no row sees itself; None: they are not among them.
    """
    cosine_L, index_L = own_LD.new_empty(len(own_LD)), torch.empty(len(own_LD), dtype=torch.int64, device=own_LD.device)
    for rows, cosine_bN in _blocks(own_LD, all_ND, first):
        torch.max(cosine_bN, dim=1, out=(cosine_L[rows], index_L[rows]))
    return Seen(cosine_L, index_L)


def softly(own_LD: Tensor, all_ND: Tensor, first: int, tau: float) -> SoftlySeen:
    """As `nearest`, and the soft maximum at temperature `tau` with its gradient, in the same pass."""
    seen = Seen(own_LD.new_empty(len(own_LD)), torch.empty(len(own_LD), dtype=torch.int64, device=own_LD.device))
    log_sum_L, pull_LD = torch.empty_like(seen.cosine_L, dtype=torch.float64), torch.empty_like(own_LD)
    for rows, cosine_bN in _blocks(own_LD, all_ND, first):
        cosine_b = torch.max(cosine_bN, dim=1, out=(seen.cosine_L[rows], seen.index_L[rows]))[0]
        weight_bN = cosine_bN.sub_(cosine_b[:, None]).div_(tau).exp_()
        sum_b = weight_bN.sum(1)
        log_sum_L[rows] = cosine_b.double() / tau + sum_b.log()
        pull_LD[rows] = weight_bN @ all_ND / sum_b[:, None]
    return SoftlySeen(seen.cosine_L, seen.index_L, log_sum_L, pull_LD)


def _blocks(own_LD: Tensor, all_ND: Tensor, first: int | None) -> Iterator[tuple[slice, Tensor]]:
    """Own rows and their cosines with all rows, a block at a time; a row's cosine with itself is -inf."""
    height = max(1, BLOCK_ELEMENTS // len(all_ND))
    for start in range(0, len(own_LD), height):
        rows = slice(start, min(start + height, len(own_LD)))
        cosine_bN = own_LD[rows] @ all_ND.T
        if first is not None:
            cosine_bN.diagonal(first + start).fill_(-math.inf)
        yield rows, cosine_bN


def closest_pair(cosine_N: Tensor, index_N: Tensor, all_ND: Tensor, own: slice) -> tuple[Tensor, Tensor]:
    """Cosine of the closest pair of all rows, and its gradient for the own rows.

    Paper: HyperFace (Otroshi Shahreza and Marcel, ICLR 2025), algorithm 1: the loss is minus the distance of the
    current closest pair, so that two rows get a gradient each step.
    """
    i = int(cosine_N.argmax())
    j = int(index_N[i])
    gradient_ND = {i: all_ND[j], j: all_ND[i]}
    gradient_LD = torch.zeros_like(all_ND[own])
    for row, gradient_D in gradient_ND.items():
        if own.start <= row < own.stop:
            gradient_LD[row - own.start] = gradient_D
    return cosine_N[i], gradient_LD


def mean_nearest(cosine_N: Tensor, index_N: Tensor, all_ND: Tensor, own: slice) -> tuple[Tensor, Tensor]:
    """Mean over all rows of the cosine with the nearest other row, and its gradient for the own rows.

    A row is pulled on by its nearest row, and by every row whose nearest it is.
    """
    gradient_LD = all_ND[index_N[own]]
    met_m = ((index_N >= own.start) & (index_N < own.stop)).nonzero()[:, 0]
    gradient_LD.index_add_(0, index_N[met_m] - own.start, all_ND[met_m])
    return cosine_N.mean(), gradient_LD / len(all_ND)


def soft_maximum(log_sum_N: Tensor, pull_LD: Tensor, own: slice, tau: float) -> tuple[Tensor, Tensor]:
    """tau log sum_{i<j} exp(cosine_ij / tau), one softmax over all pairs, and its gradient for the own rows.

    Never below the maximal cosine, and equal to it in the limit tau -> 0. The paper knows the limit only.
    """
    total = torch.logsumexp(log_sum_N, 0)  # over ordered pairs: each pair twice
    weight_L = 2 * torch.exp(log_sum_N[own] - total)
    return tau * (total - math.log(2)), weight_L[:, None].to(pull_LD.dtype) * pull_LD
