"""Stage pack on Ray Train: rows sharded over workers, which all-gather the references each step."""

import itertools
import tempfile
from collections.abc import Callable
from typing import Any

import ray.train
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.train.v2.api.exceptions import TrainingFailedError
from torch import Tensor, distributed

from cluster.session import connect
from hyperface.packing import checkpoint, stage
from hyperface.packing.shard import Shard, even_sizes, one_process
from hyperface.run import REFERENCES, Run, RunError

GATHER_TIMEOUT_SECONDS = 120
"""A worker that waits longer than this for the others' rows fails, and the group starts again."""


def pack_stage(run: Run) -> None:
    """Write the run's references and their summary; nothing to do when they are there.

    One worker without a GPU runs in this process: a group of workers takes 13 s to start.

    Raises:
        ConfigError, EmbeddingError: the gallery does not fit the configuration.
        RunError: the workers failed more than packing.max_failures times, or other references are there already.
        StorageError: the run cannot be read or written.
    """
    config = run.config.packing
    if stage.is_done(run):
        checkpoint.clear(run.store)
        print(f"packing: done, {run.store.uri(REFERENCES)}")
    elif config.num_workers == 1 and not config.gpus_per_worker:
        stage.pack_rows(run, one_process(config.num_identities), torch.device("cpu"))
    else:
        stage.load_problem(run, torch.device("cpu"))  # what is wrong with it is better said before workers start
        connect(run.config.cluster)
        with tempfile.TemporaryDirectory(prefix="hyperface-") as scratch:
            _fit(run, scratch)


def _fit(run: Run, scratch: str) -> None:
    """Run the workers. Ray Train keeps its own state in `scratch`; ours is in the run's checkpoints."""
    config = run.config.packing
    gpus = config.gpus_per_worker
    trainer = TorchTrainer(
        _work,
        train_loop_config={"run": run},
        scaling_config=ScalingConfig(
            num_workers=(config.min_workers, config.num_workers) if config.min_workers else config.num_workers,
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": 1, "GPU": gpus} if gpus else {"CPU": 1},
        ),
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo", timeout_s=GATHER_TIMEOUT_SECONDS),
        run_config=RunConfig(
            storage_path=scratch, name="packing", failure_config=FailureConfig(max_failures=config.max_failures)
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        reasons = {rank: str(reason).strip().splitlines()[-1] for rank, reason in _worker_failures(error).items()}
        listed = "; ".join(f"worker {rank}: {reason}" for rank, reason in reasons.items()) or str(error)
        raise RunError(f"packing: gave up after {config.max_failures} restarts: {listed}") from error


def _worker_failures(error: TrainingFailedError) -> dict[int, Exception]:
    return getattr(error, "worker_failures", {})


def _work(arguments: dict[str, Any]) -> None:
    """What each worker does."""
    torch.set_num_threads(1)
    run: Run = arguments["run"]
    context = ray.train.get_context()
    sizes = even_sizes(run.config.packing.num_identities, context.get_world_size())
    stage.pack_rows(run, Shard(sizes, context.get_world_rank(), Workers()), get_device())


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
            return torch.cat([gathered[rank * longest : rank * longest + size] for rank, size in enumerate(sizes)])

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
