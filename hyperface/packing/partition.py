"""The partition of the rows among ranks, and the pairs that each rank looks at.

N: all rows, L: own rows of this rank, W: ranks, b: rows of a mini-batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hyperface.distributed.ranks import Alone, Group, part_of


@dataclass(frozen=True)
class Partition:
    """Consecutive rows: rank 0 owns the first `sizes[0]`, rank 1 the next, and so on."""

    sizes: tuple[int, ...]
    rank: int
    group: Group

    @property
    def own(self) -> slice:
        """The own rows among all rows."""
        return self._rows(self.rank)

    def all(self, own_LD: Tensor) -> Tensor:
        """Gather all ranks' rows, given the own."""
        return self.group.gather(own_LD, self.sizes)()

    def each(self, value: Tensor) -> Tensor:
        """Gather what every rank holds for itself, in the order of ranks: [W, ...]."""
        return self.group.gather(value[None], (1,) * len(self.sizes))()

    def rectangles(self) -> Iterator[tuple[slice, slice]]:
        """Yield (rows, columns) of the pairs with other ranks' rows that this rank looks at, for both sides.

        Ranks stand in a circle and look at the half of it before them, so that each pair of ranks meets once. With an
        even number the opposite ones share their rectangle: the first takes the upper half of its rows.
        """
        world = len(self.sizes)
        for ahead in range(1, (world + 1) // 2):
            yield self.own, self._rows((self.rank + ahead) % world)
        if world % 2 == 0:
            opposite = (self.rank + world // 2) % world
            first, second = self._rows(min(self.rank, opposite)), self._rows(max(self.rank, opposite))
            middle = (first.start + first.stop) // 2
            yield (slice(first.start, middle) if self.own == first else slice(middle, first.stop)), second

    def of_batch(self, batch_b: NDArray[np.int64]) -> "Partition":
        """Return the partition of the rows `batch_b` (ascending) only among the same ranks; a rank may own none of
        them."""
        ends_W = np.cumsum(self.sizes)
        sizes = np.diff(np.searchsorted(batch_b, ends_W), prepend=0)
        return Partition(tuple(sizes.tolist()), self.rank, self.group)

    def _rows(self, rank: int) -> slice:
        return part_of(self.sizes, rank)


def one_process(n: int) -> Partition:
    """Return the partition of one rank that owns all rows."""
    return Partition((n,), 0, Alone())
