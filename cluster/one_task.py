"""A single task on Ray, on a node that has what it needs."""

from collections.abc import Callable
from typing import TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from cluster.actor_pool import KILLED, LESS
from cluster.session import connect
from hyperface.config import ClusterConfig
from hyperface.errors import RunError, UserError, out_of_memory
from hyperface.progress.logs import Line, say
from hyperface.reading.one_line import one_line

T = TypeVar("T")
RETRIES = 3
"""Number of times that it is done again after its process or node was lost."""


def in_a_task(call: Callable[..., T], *arguments: object, stage: str, cluster: ClusterConfig, gpus: float) -> T:
    """Return the result of `call(*arguments)` in one Ray task, which may be done again. Its process ends soon after it:
    memory and GPUs are free again.

    Args:
        stage: name of the stage whose error it is, where its process is lost.
        gpus: GPUs that the task reserves; 0: it reserves a CPU instead.

    Raises:
        UserError: what `call` raised, as itself.
        RunError: its process was lost RETRIES times, or ran out of memory.
        RayTaskError: `call` raised another error; with the worker's trace.
    """
    connect(cluster)
    if gpus > (there := ray.cluster_resources().get("GPU", 0)):
        say(Line(stage, f"waits for a node with {gpus:g} GPUs; the cluster has {there:g}"))
    task = ray.remote(num_cpus=0 if gpus else 1, num_gpus=gpus, max_retries=RETRIES, max_calls=1)(call)
    try:
        found: T = ray.get(task.remote(*arguments))
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None  # Ray's own is of the same type, with a trace of the worker for its message
        if out_of_memory(error.cause):
            what = f"a task asked for more memory than there is ({one_line(error.cause)})"
            raise RunError(f"{stage}: {what}: {LESS}") from error
        raise
    except RayError as error:
        what = f"{type(error).__name__}: {one_line(error)}"
        lost = f"{stage}: a task was lost {RETRIES + 1} times ({what})"
        raise RunError(f"{lost}: {KILLED}; the same command tries again") from error
    return found
