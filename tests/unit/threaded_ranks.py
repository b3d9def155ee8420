"""Several ranks of one stage as threads of this process, which meet at a barrier."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from hyperface.distributed.ranks import Group
from hyperface.packing.partition import Partition

Result = TypeVar("Result")


def on_ranks(sizes: tuple[int, ...], work: Callable[[Partition], Result]) -> list[Result]:
    """Return what `work` returns on each rank of a packing, in their order; an exception on one rank stops all."""
    return ranks_of(len(sizes), lambda rank, group: work(Partition(sizes, rank, group)))


def ranks_of(world: int, work: Callable[[int, Group], Result]) -> list[Result]:
    """Return what `work(rank, group)` returns on each rank, in their order; an exception on one rank stops all."""
    parts: list[Tensor] = [torch.empty(0)] * world
    barrier = threading.Barrier(world, timeout=600)

    class Threads:
        def __init__(self, rank: int) -> None:
            self.rank = rank

        def _exchange(self, own: Tensor) -> list[Tensor]:
            """Return what each rank brought."""
            parts[self.rank] = own.clone()
            barrier.wait()
            brought = list(parts)
            barrier.wait()
            return brought

        def gather(self, own: Tensor, given: tuple[int, ...]) -> Callable[[], Tensor]:
            assert len(own) == given[self.rank]
            gathered = torch.cat(self._exchange(own))
            return lambda: gathered

        def sum(self, everything: Tensor, given: tuple[int, ...]) -> Tensor:
            assert len(everything) == sum(given)
            return torch.stack(self._exchange(everything)).sum(0).split(given)[self.rank].clone()

        def max(self, everything: Tensor) -> Tensor:
            return torch.stack(self._exchange(everything)).amax(0)

    def run(rank: int) -> Result:
        try:
            return work(rank, Threads(rank))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(world) as pool:
        futures = [pool.submit(run, rank) for rank in range(world)]
        for future in futures:
            if isinstance(error := future.exception(), Exception) and not isinstance(
                error, threading.BrokenBarrierError
            ):
                raise error
        return [future.result() for future in futures]
