"""The mean, over rows, of the cosine with the nearest.

N: rows of the step, L: own rows of this rank, M: what a row can be nearest to, D: embedding dimension.
"""

from typing import TypeVar

import torch
from torch import Tensor

from hyperface.packing.objective import Against, Separated, Separation, Terms, nearest_of_each, sums
from hyperface.packing.partition import Partition

AT_A_TIME = 4096
"""Number of rows that are copied at a time, so that copies stay small."""
Number = TypeVar("Number", float, Tensor)


class NearestRows(Separation):
    """Every row is pulled on by its nearest, so that all of them move in each step."""

    def of(self, own_LD: Tensor, partition: Partition, terms: Terms, against: Against) -> Separated:
        """A row is pulled on by its nearest row and, if all rows were seen, by every row whose nearest it is."""
        cosine_N, index_N, columns_MD = nearest_of_each(own_LD, partition, against)
        gradient_LD = _gradient(index_N, columns_MD, partition.own, back=against.all_ND is None)
        return Separated(cosine_N.double().mean(), gradient_LD, cosine_N)

    def score(self, max_cosine: Number, mean_nearest_cosine: Number) -> Number:
        return mean_nearest_cosine


def _gradient(index_N: Tensor, columns_MD: Tensor, own: slice, back: bool) -> Tensor:
    n, length, kind = len(index_N), own.stop - own.start, sums(columns_MD)
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
