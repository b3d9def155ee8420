"""Which rows a rank owns, and the one verb by which it learns of the others'.

N: all rows, L: own rows of this rank, b: rows of a mini-batch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Gather = Callable[[Tensor, tuple[int, ...]], Tensor]
"""(own rows, number of rows of each rank) -> all rows, in the order of ranks; every rank calls it at the same point."""


@dataclass(frozen=True)
class Shard:
    """Consecutive rows: rank 0 owns the first `sizes[0]`, rank 1 the next, and so on."""

    sizes: tuple[int, ...]
    rank: int
    gather: Gather

    @property
    def own(self) -> slice:
        """The own rows among all rows."""
        start = sum(self.sizes[: self.rank])
        return slice(start, start + self.sizes[self.rank])

    def all(self, own_LD: Tensor) -> Tensor:
        """All ranks' rows, given the own."""
        return self.gather(own_LD, self.sizes)

    def of_batch(self, batch_b: NDArray[np.int64]) -> "Shard":
        """The same ranks over the rows `batch_b` (ascending) only; a rank may own none of them."""
        ends_W = np.cumsum(self.sizes)
        sizes = np.diff(np.searchsorted(batch_b, ends_W), prepend=0)
        return Shard(tuple(sizes.tolist()), self.rank, self.gather)


def one_process(n: int) -> Shard:
    """One rank that owns all rows."""
    return Shard((n,), 0, lambda own_ND, sizes: own_ND)


def even_sizes(n: int, world_size: int) -> tuple[int, ...]:
    """Rows of each rank: as equal as can be, larger first."""
    return tuple(n // world_size + (rank < n % world_size) for rank in range(world_size))
