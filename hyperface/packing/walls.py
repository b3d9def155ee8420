"""Protected embeddings: real people that no reference may come closer to than a given cosine.

L: own rows of this rank, P: protected rows, D: embedding dimension.
"""

import torch
from torch import Tensor

from hyperface.config import ConfigError
from hyperface.packing.kernel import nearest
from hyperface.packing.shard import Shard

MARGIN = 2e-6
"""Cosine by which rows stay inside, so that float32 rounding never puts one outside."""
ROUNDS = 1000
"""Projections after which rows that are still too close are given up."""


def push_back(x_LD: Tensor, wall_LD: Tensor, limit: float) -> Tensor:
    """Rows that are closer than `limit` to the given protected row, moved along a great circle to that cosine."""
    limit = limit - MARGIN
    cosine_L = (x_LD * wall_LD).sum(1, keepdim=True)
    away_LD = x_LD - cosine_L * wall_LD
    # A row that is its protected one has no direction of its own: it takes one that does not depend on anything else.
    other_LD = wall_LD.roll(1, dims=1) * torch.linspace(1, 2, x_LD.shape[1], dtype=x_LD.dtype, device=x_LD.device)
    other_LD -= (other_LD * wall_LD).sum(1, keepdim=True) * wall_LD
    away_LD = torch.where(away_LD.norm(dim=1, keepdim=True) > 1e-6, away_LD, other_LD)
    edge_LD = limit * wall_LD + (1 - limit**2) ** 0.5 * away_LD / away_LD.norm(dim=1, keepdim=True)
    return torch.where(cosine_L > limit, edge_LD / edge_LD.norm(dim=1, keepdim=True), x_LD)


def settle(x_LD: Tensor, protected_PD: Tensor, limit: float, shard: Shard) -> Tensor:
    """Rows pushed back, each from its nearest protected row again and again, until none is closer than `limit`.

    Alternating projections: Boyd and Dattorro, "Alternating Projections" (2003); here onto one violated constraint of
    a row at a time, and the caps are no convex sets, so that it may fail where there is a solution.

    Raises:
        ConfigError: rows are still too close after many rounds; the same on every rank.
    """
    x_LD = x_LD.clone()
    waiting_l = torch.arange(len(x_LD), device=x_LD.device)
    for _ in range(ROUNDS):
        cosine_l, index_l = nearest(x_LD[waiting_l], protected_PD)
        near_l = cosine_l > limit - MARGIN / 2
        waiting_l, index_l = waiting_l[near_l], index_l[near_l]
        if not len(waiting_l):
            break
        x_LD[waiting_l] = push_back(x_LD[waiting_l], protected_PD[index_l], limit)
    worst_l = nearest(x_LD[waiting_l], protected_PD)[0]
    told = torch.tensor([len(waiting_l), float(worst_l.max()) if len(worst_l) else -1.0], device=x_LD.device)
    told_W2 = shard.each(told)
    count, worst = int(told_W2[:, 0].sum()), float(told_W2[:, 1].max())
    if count and worst > limit:
        fix = f"raise it (these reached {worst:.4f}), pack fewer identities or protect fewer embeddings"
        rule = (
            f"cannot be met: {count} of {sum(shard.sizes)} identities found no place that far from all protected ones"
        )
        raise ConfigError(f"packing.protected_cosine {rule}: {fix}; it is {limit}")
    return x_LD
