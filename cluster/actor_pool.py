"""One way to fan work out: numbered pieces to a pool of actors on Ray Data, with bounded restarts."""

import warnings
from collections.abc import Sequence
from typing import Any

import ray
import ray.data
from ray.util.annotations import RayDeprecationWarning

from cluster.session import connect
from hyperface.config import ClusterConfig


def fan_out(
    pieces: Sequence[int],
    actor: type,
    arguments: tuple[Any, ...],
    *,
    cluster: ClusterConfig,
    actors: int,
    gpus: float,
    failures: int,
) -> ray.data.Dataset:
    """A dataset of what `actor(*arguments)` returns for each `{"piece": [number]}`, in the order in which they finish.

    Args:
        actors: size of the pool; 0: as many as the cluster's CPUs (or GPUs, where each reserves some) hold. Never more
            than there are pieces.
        gpus: reserved by each actor; above 0 it reserves no CPU.
        failures: times that an actor is restarted, and a piece tried again, before the job fails. Ray's default is
            endless: a piece that kills its actor would do so for ever.
    """
    connect(cluster)
    there = ray.cluster_resources()
    room = there.get("GPU", 0) / gpus if gpus else there.get("CPU", 1)
    size = min(actors or max(1, int(room)), len(pieces))
    rows = ray.data.from_items([{"piece": piece} for piece in pieces], override_num_blocks=len(pieces))
    with warnings.catch_warnings():
        # Ray Data 2.60 bounds restarts through deprecated arguments only.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        return rows.map_batches(
            actor,
            fn_constructor_args=arguments,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=2),
            num_cpus=0 if gpus else 1,
            num_gpus=gpus,
            max_restarts=failures,
            max_task_retries=failures,
        )
