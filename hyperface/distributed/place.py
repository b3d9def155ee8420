"""Where a rank of a training stands, and what a step tells of itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from hyperface.distributed.ranks import Group, even_sizes, part_of


@dataclass(frozen=True)
class Place:
    """Where a rank stands."""

    rank: int
    world: int
    group: Group
    device: torch.device
    parallel: Callable[[nn.Module], nn.Module] = lambda network: network
    """Makes a network whose gradients are the means over ranks (DistributedDataParallel)."""

    def streams(self, count: int) -> slice:
        """The loader's streams of this rank."""
        return part_of(even_sizes(count, self.world), self.rank)

    def wait_for_all(self) -> None:
        """Returns when every rank has called it."""
        here = torch.zeros(1, device=self.device)
        self.group.gather(here, (1,) * self.world)()

    def agreed(self, number: int) -> int:
        """What rank 0 says. Every rank calls it."""
        mine = torch.tensor([number], device=self.device)
        return int(self.group.gather(mine, (1,) * self.world)()[0])


@dataclass(frozen=True)
class Stepped:
    """What a step saw."""

    step: int
    """Steps taken, this one included."""
    loss: Tensor
    """Mean over the B images, before the update."""
    learning_rate: float
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    """What the loss is made of, by name, where there are several; the same names in every step."""
