"""A group of Ray Train workers, and the verbs by which its ranks speak."""

import itertools
import tempfile
from collections.abc import Callable
from typing import Any

from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError
from torch import Tensor, cat, distributed

from hyperface.config import PackingConfig, TrainConfig
from hyperface.run import RunError

GATHER_TIMEOUT_SECONDS = 120
"""A worker that waits longer than this for the others fails, and the group starts again."""


def fit(
    stage: str, work: Callable[[dict[str, Any]], None], arguments: dict[str, Any], config: PackingConfig | TrainConfig
) -> None:
    """Run `work(arguments)` on each worker. Ray Train keeps its own state aside; ours is in the run's checkpoints.

    Args:
        config: num_workers, min_workers, gpus_per_worker and max_failures are read.

    Raises:
        RunError: the workers failed more than max_failures times; names what each one said last.
    """
    gpus = config.gpus_per_worker
    with tempfile.TemporaryDirectory(prefix="hyperface-") as scratch:
        trainer = TorchTrainer(
            work,
            train_loop_config=arguments,
            scaling_config=ScalingConfig(
                num_workers=(config.min_workers, config.num_workers) if config.min_workers else config.num_workers,
                use_gpu=gpus > 0,
                resources_per_worker={"CPU": 1, "GPU": gpus} if gpus else {"CPU": 1},
            ),
            torch_config=TorchConfig(backend="nccl" if gpus else "gloo", timeout_s=GATHER_TIMEOUT_SECONDS),
            run_config=RunConfig(
                storage_path=scratch, name=stage, failure_config=FailureConfig(max_failures=config.max_failures)
            ),
        )
        try:
            trainer.fit()
        except TrainingFailedError as error:
            reasons = {rank: str(reason).strip().splitlines()[-1] for rank, reason in _worker_failures(error).items()}
            listed = "; ".join(f"worker {rank}: {reason}" for rank, reason in reasons.items()) or str(error)
            raise RunError(f"{stage}: gave up after {config.max_failures} restarts: {listed}") from error


def _worker_failures(error: TrainingFailedError) -> dict[int, Exception]:
    return getattr(error, "worker_failures", {})


class Workers:
    """The ranks of a process group. Shorter shards are padded for the wire, which wants equal ones."""

    def gather(self, own_LD: Tensor, sizes: tuple[int, ...]) -> Callable[[], Tensor]:
        longest = max(sizes)
        padded = own_LD
        if len(own_LD) < longest:
            padded = own_LD.new_zeros(longest, *own_LD.shape[1:])
            padded[: len(own_LD)] = own_LD
        gathered = own_LD.new_empty(longest * len(sizes), *own_LD.shape[1:])
        sending = distributed.all_gather_single(gathered, padded.contiguous(), async_op=True)

        def wait() -> Tensor:
            sending.wait()
            if min(sizes) == longest:
                return gathered
            return cat([gathered[rank * longest : rank * longest + size] for rank, size in enumerate(sizes)])

        return wait

    def sum(self, all_ND: Tensor, sizes: tuple[int, ...]) -> Tensor:
        longest, rank = max(sizes), distributed.get_rank()
        padded = all_ND
        if min(sizes) < longest:
            padded = all_ND.new_zeros(longest * len(sizes), *all_ND.shape[1:])
            starts = itertools.accumulate(sizes, initial=0)
            for place, (start, size) in enumerate(zip(starts, sizes, strict=False)):
                padded[place * longest : place * longest + size] = all_ND[start : start + size]
        own_LD = all_ND.new_empty(longest, *all_ND.shape[1:])
        distributed.reduce_scatter_single(own_LD, padded)
        return own_LD[: sizes[rank]]

    def max(self, all_N: Tensor) -> Tensor:
        largest_N = all_N.clone()
        distributed.all_reduce(largest_N, distributed.ReduceOp.MAX)
        return largest_N
