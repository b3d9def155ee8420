"""A group of Ray Train workers, and the verbs by which its ranks speak."""

import itertools
import logging
from collections.abc import Callable
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError
from torch import Tensor, cat, device, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from cluster.actor_pool import DEATHS, KILLED, LESS, room
from cluster.metrics import gauge
from hyperface.config import PackingConfig, TrainConfig, TrainGeneratorConfig
from hyperface.errors import RunError, UserError, out_of_memory
from hyperface.progress.logs import Line, as_asked, note, say
from hyperface.progress.meter import harmless
from hyperface.reading.one_line import one_line
from hyperface.run import Run
from hyperface.storage.scratch import scratch

GATHER_TIMEOUT_SECONDS = 120
"""A worker that waits longer than this for the others fails, and the group starts again; and, above that, as long as
some of them may be waiting for their store."""
OUTAGES = 3
"""Number of requests of a step that may each be waited for."""


def fit(
    stage: str, work: Callable[[Run], None], run: Run, config: PackingConfig | TrainConfig | TrainGeneratorConfig
) -> None:
    """Run `work(run)` on each worker. Ray Train keeps its own state aside; ours is in the run's checkpoints.

    Args:
        config: num_workers, min_workers, gpus_per_worker and max_failures are read.

    Raises:
        RunError: the workers failed more than max_failures times; names what each one said last.
        ConfigError, EmbeddingError, ModelError, StorageError: what one of them said last.
    """
    gpus, patience = config.gpus_per_worker, GATHER_TIMEOUT_SECONDS + OUTAGES * run.config.storage.patience_s
    least, there = config.min_workers or config.num_workers, room(ray.nodes(), gpus)
    if least > there:
        each = f"with {gpus:g} GPUs each" if gpus else "with a CPU each"
        key = f"{stage}.{'min' if config.min_workers else 'num'}_workers"
        say(Line(stage, f"waits for room for {key}={least} {each}; the nodes that are there hold {there}"))
    with scratch() as place:
        trainer = _Trainer(
            lambda arguments: _begin(arguments["run"], work),
            train_loop_config={"run": run},
            scaling_config=ScalingConfig(
                num_workers=(config.min_workers, config.num_workers) if config.min_workers else config.num_workers,
                use_gpu=gpus > 0,
                resources_per_worker={"CPU": 1, "GPU": gpus} if gpus else {"CPU": 1},
            ),
            torch_config=TorchConfig(backend="nccl" if gpus else "gloo", timeout_s=round(patience)),
            run_config=RunConfig(
                storage_path=place,
                name=stage,
                failure_config=FailureConfig(max_failures=config.max_failures),
                callbacks=[_Failures(stage, run.store.url, run.config.cluster.log_format)],
            ),
        )
        try:
            trainer.fit()
        except TrainingFailedError as error:
            raise _last_words(stage, error, config.max_failures) from error


class _Trainer(TorchTrainer):  # type: ignore[misc] # Ray's class is untyped
    def _register_sigint_handler(self, controller: Any) -> None:
        """Leave Ctrl-C to the job: Ray Train's own answer to it ends the process with 1."""


def _begin(run: Run, work: Callable[[Run], None]) -> None:
    as_asked(run.config.cluster.log_format)
    work(run)


class _Failures(UserCallback):  # type: ignore[misc] # Ray's class is untyped
    """A count of how often the group was lost. It lives where Ray Train leads the group from."""

    def __init__(self, stage: str, run: str, log_format: str) -> None:
        self.stage, self.run, self.log_format, self.count = stage, run, log_format, 0

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        as_asked(self.log_format)
        self.count += 1
        harmless(lambda: gauge(self.stage, "worker_failures", self.run).set, "metrics")(self.count)
        about = {"run": self.run, "stage": self.stage, "attempt": self.count}
        for rank, error in worker_exceptions.items():
            note("worker failed", logging.ERROR, **about, rank=rank, error=str(error).strip())


def _last_words(stage: str, error: TrainingFailedError, restarts: int) -> Exception:
    """Return what the workers said last: the error itself, where it is one that a user can mend."""
    wrapped: dict[int, Exception] = getattr(error, "worker_failures", {})
    failures = {rank: getattr(failure, "_base_exc", failure) for rank, failure in wrapped.items()}
    for failure in failures.values():
        if isinstance(failure, UserError):
            return failure
    listed = "; ".join(f"worker {rank}: {_last_line(failure)}" for rank, failure in failures.items())
    if not failures:  # it was no worker's, but of what leads them
        listed = _last_line(getattr(error, "controller_failure", error))
    return RunError(f"{stage}: gave up after {restarts} restarts: {listed}")


def _last_line(failure: Exception) -> str:
    if isinstance(getattr(failure, "health_check_failure", failure), DEATHS):  # Ray's own words are a paragraph
        return f"its process died: {KILLED}"
    if out_of_memory(failure):
        return f"it asked for more memory than there is ({one_line(failure)}): {LESS}"
    return (str(failure).strip().splitlines() or [type(failure).__name__])[-1]


def averaged(place: device) -> Callable[[nn.Module], nn.Module]:
    """Return a function that makes networks whose gradients are the means over all workers."""
    ids = [place] if place.type == "cuda" else None
    return lambda network: DistributedDataParallel(network, device_ids=ids)


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
