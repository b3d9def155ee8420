"""The three verbs by which ranks of a distributed stage exchange rows, the division of rows among them, and the rank
that speaks to the user.

N: all rows, L: own rows of this rank.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from hyperface.progress.logs import say as say_it

if TYPE_CHECKING:
    from torch import Tensor


class Group(Protocol):
    """Ranks that work together. Every rank calls the same verbs in the same order."""

    def gather(self, own_LD: "Tensor", sizes: tuple[int, ...]) -> "Callable[[], Tensor]":
        """Start to send the own rows, of which each rank has sizes[rank]; what is returned waits for all rows."""

    def sum(self, all_ND: "Tensor", sizes: tuple[int, ...]) -> "Tensor":
        """The own rows of the sum of what the ranks hold for all rows."""

    def max(self, all_N: "Tensor") -> "Tensor":
        """The largest of what the ranks hold, element by element."""


class Alone:
    """A group of one."""

    def gather(self, own_LD: "Tensor", sizes: tuple[int, ...]) -> "Callable[[], Tensor]":
        return lambda: own_LD

    def sum(self, all_ND: "Tensor", sizes: tuple[int, ...]) -> "Tensor":
        return all_ND

    def max(self, all_N: "Tensor") -> "Tensor":
        return all_N


def even_sizes(n: int, world_size: int) -> tuple[int, ...]:
    """Rows of each rank: as equal as can be, larger first."""
    return tuple(n // world_size + (rank < n % world_size) for rank in range(world_size))


def part_of(sizes: Sequence[int], rank: int) -> slice:
    """The rows of a rank among all: rank 0 has the first sizes[0], rank 1 the next, and so on."""
    start = sum(sizes[:rank])
    return slice(start, start + sizes[rank])


def speaker(rank: int, say: Callable[[str], None] | None = None) -> Callable[[str], None]:
    """Return where a stage's lines go: those of rank 0 to `say`, standard output where it is None; those of others
    nowhere."""
    if rank:
        return lambda line: None
    return say or say_it
