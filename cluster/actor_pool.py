"""One way to fan work out: numbered pieces to a pool of actors on Ray Data, with bounded restarts."""

import contextlib
import pickle
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ray
import ray.data
from numpy.typing import NDArray
from ray.exceptions import OutOfMemoryError, RayActorError, WorkerCrashedError
from ray.util.annotations import RayDeprecationWarning

from cluster.session import connect
from hyperface.config import ClusterConfig
from hyperface.errors import RunError, UserError, out_of_memory
from hyperface.progress.logs import Line, say
from hyperface.reading.one_line import one_line

DEATHS = (RayActorError, WorkerCrashedError, OutOfMemoryError)
"""Errors by which Ray says that a process is gone."""
LESS = "let fewer run at a time, or use nodes with more of it"
KILLED = f"most likely a node's memory was used up; {LESS}"
"""Advice to the user: nothing but the system's log of a node knows why it killed a process."""

Columns = dict[str, NDArray[Any]]


class PoolActor(ABC):
    """An actor of a pool, that does one numbered piece of work at a time, in one thread."""

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)

    @abstractmethod
    def work(self, piece: int) -> Mapping[str, Sequence[Any]]:
        """The columns of a piece's rows. A UserError ends the job."""

    def __call__(self, batch: Columns) -> Mapping[str, Sequence[Any]]:
        (piece,) = batch["piece"]
        try:
            return self.work(int(piece))
        except UserError as error:
            return stop(error)
        except Exception as error:  # PyTorch refuses memory in a plain RuntimeError too; all else goes up as it is
            if not out_of_memory(error):
                raise
            return {"starved": [one_line(error)]}


@contextlib.contextmanager
def fan_out(
    pieces: Sequence[int],
    actor: type[PoolActor],
    arguments: tuple[Any, ...],
    *,
    stage: str,
    cluster: ClusterConfig,
    actors: int,
    gpus: float,
    failures: int,
    calls: int = 1,
) -> Iterator[Iterator[Columns]]:
    """Give the columns of each piece that `actor(*arguments)` works on, in the order in which they finish.

    The pool ends with the block, however that is left: Ray waits for ever, or starts once more, where it is shut down
    before its pools are. So a block hands nothing out by `yield`.

    Args:
        stage: whose error it is, where an actor is lost too often.
        actors: size of the pool; 0: as many as the cluster's CPUs (or GPUs, where each reserves some) hold. Never more
            than there are pieces.
        gpus: reserved by each actor; above 0 it reserves no CPU.
        failures: times that an actor is restarted, and a piece tried again, before the job fails.
        calls: pieces in an actor at a time, each in a thread of its own.

    Raises:
        UserError: an actor's work raised it; the pieces that are left are given up.
        RunError: actors died too often, or ran out of memory.
        RayError: Ray itself cannot go on.
    """
    connect(cluster)
    there = room(ray.nodes(), gpus)
    if not there:
        say(Line(stage, f"waits for a node with {f'{gpus:g} GPUs' if gpus else 'a CPU'}"))
    pool = ray.data.ActorPoolStrategy(
        size=min(actors or max(1, there), len(pieces)),
        max_tasks_in_flight_per_actor=2,
        max_concurrent_calls_per_actor=calls,
        enable_true_multi_threading=calls > 1,
    )
    rows = ray.data.from_items([{"piece": piece} for piece in pieces], override_num_blocks=len(pieces))
    with warnings.catch_warnings():
        # Ray Data 2.60 bounds restarts through deprecated arguments only.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        made = rows.map_batches(
            actor,
            fn_constructor_args=arguments,
            batch_size=1,
            compute=pool,
            num_cpus=0 if gpus else 1,
            num_gpus=gpus,
            max_restarts=failures,
            max_task_retries=failures,
        )
    # Without prefetching: its thread outlives a loop that is left early, and ends the process when Ray shuts down.
    with contextlib.closing(iter(made.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0))) as said:
        del rows, made  # an error would keep them, and they would keep their actors
        yield _heard(said, stage)


def _heard(batches: Iterator[Columns], stage: str) -> Iterator[Columns]:
    try:
        for batch in batches:
            if "stop" in batch:
                raise pickle.loads(batch["stop"][0])  # noqa: S301  our own actor's
            if "starved" in batch:
                what = f"an actor asked for more memory than there is ({batch['starved'][0]})"
                raise RunError(f"{stage}: {what}: {LESS}")
            yield batch
    except DEATHS as error:
        raise RunError(f"{stage}: actors died too often: {KILLED}; the same command goes on") from error


def room(nodes: Sequence[Mapping[str, Any]], gpus: float) -> int:
    """Count the workers that the nodes that are there hold, with so many GPUs each or, where these are 0, a CPU."""
    having = [node["Resources"] for node in nodes if node["Alive"]]
    if not gpus:
        return sum(int(node.get("CPU", 0)) for node in having)
    if gpus >= 1:
        return sum(int(node.get("GPU", 0) / gpus) for node in having)
    return sum(int(node.get("GPU", 0)) * int(1 / gpus + 1e-6) for node in having)  # parts of two GPUs are no GPU


def stop(error: UserError) -> Mapping[str, list[Any]]:
    """Return what an actor returns for an error that ends the job: as an exception it would lose its type on the
    way."""
    return {"stop": [pickle.dumps(error)]}
