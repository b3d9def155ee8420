"""One way to fan work out: numbered pieces to a pool of actors on Ray Data, with bounded restarts."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ray
import ray.data
from numpy.typing import NDArray
from ray.exceptions import OutOfMemoryError, RayActorError, WorkerCrashedError
from ray.util.annotations import RayDeprecationWarning

from cluster.session import connect
from hyperface.config import ClusterConfig, ConfigError
from hyperface.embeddings import EmbeddingError
from hyperface.models.protocols import ModelError
from hyperface.run import RunError
from hyperface.storage import StorageError

DEATHS = (RayActorError, WorkerCrashedError, OutOfMemoryError)
"""Errors by which Ray says that a process is gone."""
KILLED = "most likely a node's memory was used up; let fewer run at a time, or use nodes with more of it"
"""Advice to the user: nothing but the system's log of a node knows why it killed a process."""
MENDABLE = (ConfigError, EmbeddingError, ModelError, RunError, StorageError)
"""Errors that say what is wrong and how to mend it; they would say so again."""

Columns = dict[str, NDArray[Any]]


@contextlib.contextmanager
def fan_out(
    pieces: Sequence[int],
    actor: type,
    arguments: tuple[Any, ...],
    *,
    stage: str,
    cluster: ClusterConfig,
    actors: int,
    gpus: float,
    failures: int,
    calls: int = 1,
) -> Iterator[Iterator[Columns]]:
    """Give what `actor(*arguments)` returns for each `{"piece": [number]}`, in the order in which they finish.

    The pool ends with the block, however that is left: Ray waits for ever, or starts once more, where it is shut down
    before its pools are. So a block hands nothing out by `yield`.

    Args:
        stage: whose error it is, where an actor is lost too often.
        actors: size of the pool; 0: as many as the cluster's CPUs (or GPUs, where each reserves some) hold. Never more
            than there are pieces.
        gpus: reserved by each actor; above 0 it reserves no CPU.
        failures: times that an actor is restarted, and a piece tried again, before the job fails; -1: without end, for
            actors that find out themselves which piece kills them.
        calls: pieces in an actor at a time, each in a thread of its own.

    Raises:
        ConfigError, RunError: what an actor returned by `stop`, or actors died too often; the pieces that are left are
            given up.
        RayError: Ray itself cannot go on.
    """
    connect(cluster)
    there = room(ray.nodes(), gpus)
    if not there:
        print(f"{stage}: waits for a node with {f'{gpus:g} GPUs' if gpus else 'a CPU'}", flush=True)
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
                raise (ConfigError if batch["refused"][0] else RunError)(str(batch["stop"][0]))
            yield batch
    except DEATHS as error:
        raise RunError(f"{stage}: actors died too often: {KILLED}; the same command goes on") from error


def room(nodes: Sequence[Mapping[str, Any]], gpus: float) -> int:
    """How many workers the nodes that are there hold, with so many GPUs each or, where these are 0, a CPU."""
    having = [node["Resources"] for node in nodes if node["Alive"]]
    if not gpus:
        return sum(int(node.get("CPU", 0)) for node in having)
    if gpus >= 1:
        return sum(int(node.get("GPU", 0) / gpus) for node in having)
    return sum(int(node.get("GPU", 0)) * int(1 / gpus + 1e-6) for node in having)  # parts of two GPUs are no GPU


def stop(error: Exception) -> Mapping[str, list[Any]]:
    """What an actor returns for an error that ends the job: as an exception it would lose its type on the way."""
    return {"stop": [str(error)], "refused": [isinstance(error, ConfigError)]}
