"""The cosine of the closest pair, which the paper minimises.

N: rows of the step, L: own rows of this rank, M: what a row can be nearest to, D: embedding dimension.
"""

import torch
from torch import Tensor

from hyperface.packing.objective import Against, Separated, Separation, Terms, nearest_of_each, sums
from hyperface.packing.partition import Partition


class ClosestPair(Separation):
    """HyperFace (Otroshi Shahreza and Marcel, ICLR 2025), algorithm 1: minus the distance of the closest pair."""

    def of(self, own_LD: Tensor, partition: Partition, terms: Terms, against: Against) -> Separated:
        """Evaluate the closest pair: two rows get a gradient each step."""
        cosine_N, index_N, columns_MD = nearest_of_each(own_LD, partition, against)
        gradient_LD = _gradient(cosine_N, index_N, own_LD, columns_MD, partition, against.self_L)
        return Separated(cosine_N.max(), gradient_LD, cosine_N)


def _gradient(
    cosine_N: Tensor,
    index_N: Tensor,
    own_LD: Tensor,
    columns_MD: Tensor,
    partition: Partition,
    self_L: Tensor | None,
) -> Tensor:
    """Return the gradient for the own rows; where one row of the pair does not take part in the step, the other has
    one."""
    if self_L is None:
        self_L = torch.arange(partition.own.start, partition.own.stop, device=own_LD.device)
    i = cosine_N.argmax()[None]
    j = index_N.gather(0, i)
    at_i_L = torch.arange(partition.own.start, partition.own.stop, device=own_LD.device) == i
    row_i = partition.each(torch.where(at_i_L, 1, 0).to(own_LD.dtype) @ own_LD).sum(0)
    is_j_L = (self_L == j) & ~at_i_L
    takes_part_L2 = torch.stack([at_i_L, is_j_L], 1).to(own_LD.dtype)
    return takes_part_L2.matmul(torch.cat([columns_MD.index_select(0, j), row_i[None]])).to(sums(own_LD))
