"""One way to have something done once, on a node that has what it needs."""

from collections.abc import Callable
from typing import TypeVar

import ray
from ray.exceptions import RayTaskError

from cluster.session import connect
from hyperface.config import ClusterConfig

T = TypeVar("T")


def in_a_task(call: Callable[..., T], *arguments: object, cluster: ClusterConfig, gpus: float) -> T:
    """What `call(*arguments)` returns in one Ray task. Its process ends with it: memory and GPUs are free again.

    Args:
        gpus: reserved by the task; 0: it reserves a CPU instead.

    Raises:
        Exception: what `call` raised, as itself.
        RayError: Ray itself cannot go on.
    """
    connect(cluster)
    task = ray.remote(num_cpus=0 if gpus else 1, num_gpus=gpus, max_retries=0, max_calls=1)(call)
    try:
        found: T = ray.get(task.remote(*arguments))
    except RayTaskError as error:
        raise error.cause from None  # Ray's own is of the same type, with a trace of the worker for its message
    return found
