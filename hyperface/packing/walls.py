"""Protected embeddings: real people that no reference may come closer to than a given cosine.

L: own rows of this rank, P: protected rows, D: embedding dimension.
"""

import numpy as np
import torch
from torch import Tensor

from hyperface.packing.kernel import nearest
from hyperface.packing.sphere import normalise

MARGIN = 2e-6
"""Cosine by which rows stay inside, so that float32 rounding never puts one outside."""
ROUNDS, ATTEMPTS = 100, 10
"""Projections of a row from one beginning, and beginnings, after which it is given up."""


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


def settle(x_LD: Tensor, protected_PD: Tensor, limit: float, seed: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Rows pushed back, each from its nearest protected row again and again, until none is closer than `limit`.

    Alternating projections: Boyd and Dattorro, "Alternating Projections" (2003); here onto one violated constraint of
    a row at a time, and the caps are no convex sets, so that a row may get stuck where there is a place. It then tries
    again from random directions.

    Args:
        seed: of those directions: the run's, and the number of the first row, so that they do not depend on ranks.

    Returns:
        The rows, and which of them [L] are still too close.
    """
    x_LD = x_LD.clone()
    waiting_l = torch.arange(len(x_LD), device=x_LD.device)
    for attempt in range(ATTEMPTS):
        if attempt:
            x_LD[waiting_l] = _directions(waiting_l, x_LD, seed, attempt)
        for _ in range(ROUNDS):
            cosine_l, index_l = nearest(x_LD[waiting_l], protected_PD)
            near_l = cosine_l > limit - MARGIN / 2
            waiting_l, index_l = waiting_l[near_l], index_l[near_l]
            if not len(waiting_l):
                return x_LD, torch.zeros(len(x_LD), dtype=torch.bool, device=x_LD.device)
            x_LD[waiting_l] = push_back(x_LD[waiting_l], protected_PD[index_l], limit)
    stuck_L = nearest(x_LD, protected_PD)[0] > limit
    return x_LD, stuck_L


def _directions(rows_l: Tensor, like_LD: Tensor, seed: tuple[int, int], attempt: int) -> Tensor:
    run, first = seed
    drawn_lD = [
        np.random.default_rng([run, 4, first + row, attempt]).standard_normal(like_LD.shape[1])
        for row in rows_l.tolist()
    ]
    return normalise(torch.from_numpy(np.stack(drawn_lD)).to(like_LD))
