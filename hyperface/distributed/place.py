"""The place of a rank of a training among all, and the numbers that a step reports."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from hyperface.distributed.ranks import Group, even_sizes, part_of


@dataclass(frozen=True)
class Place:
    """The place of a rank: its number, its group and its device."""

    rank: int
    world: int
    group: Group
    device: torch.device
    parallel: Callable[[nn.Module], nn.Module] = lambda network: network
    """Function that makes a network whose gradients are the means over ranks (DistributedDataParallel)."""

    def streams(self, count: int) -> slice:
        """Return the loader's streams of this rank."""
        return part_of(even_sizes(count, self.world), self.rank)

    def wait_for_all(self) -> None:
        """Return when every rank has called it."""
        here = torch.zeros(1, device=self.device)
        self.group.gather(here, (1,) * self.world)()

    def agreed(self, number: int) -> int:
        """Return rank 0's number. Every rank calls it."""
        mine = torch.tensor([number], device=self.device)
        return int(self.group.gather(mine, (1,) * self.world)()[0])


@dataclass(frozen=True)
class Stepped:
    """The numbers that a step saw."""

    step: int
    """Number of steps taken, this one included."""
    loss: Tensor
    """Mean over the B images, before the update."""
    learning_rate: float
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    """Terms of the loss by name, where there are several; the same names in every step."""
