"""Several ranks of one packing as threads of this process, which gather by a barrier."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from hyperface.packing.shard import Shard

Result = TypeVar("Result")


def on_ranks(sizes: tuple[int, ...], work: Callable[[Shard], Result]) -> list[Result]:
    """What `work` returns on each rank, in their order; an exception on one rank stops all."""
    parts: list[Tensor] = [torch.empty(0)] * len(sizes)
    barrier = threading.Barrier(len(sizes), timeout=30)

    def gather_of(rank: int) -> Callable[[Tensor, tuple[int, ...]], Tensor]:
        def gather(own: Tensor, given: tuple[int, ...]) -> Tensor:
            assert len(own) == given[rank]
            parts[rank] = own
            barrier.wait()
            gathered = torch.cat(parts)
            barrier.wait()
            return gathered

        return gather

    def run(rank: int) -> Result:
        try:
            return work(Shard(sizes, rank, gather_of(rank)))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(len(sizes)) as pool:
        futures = [pool.submit(run, rank) for rank in range(len(sizes))]
        for future in futures:
            if isinstance(error := future.exception(), Exception) and not isinstance(
                error, threading.BrokenBarrierError
            ):
                raise error
        return [future.result() for future in futures]
