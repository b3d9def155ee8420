"""Measuring rates on a cluster: one actor for each stage, with the resources that the stage gives to its own."""

import sys
import time
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import RayTaskError

from cluster.session import connect
from hyperface.capacity import measure
from hyperface.capacity.measure import SECONDS, Numbers
from hyperface.capacity.rates import RATES, to_bytes
from hyperface.config import Config
from hyperface.run import run_store
from hyperface.run.provenance import PACKAGES, git_sha, package_version

THREADS = 1
"""Threads of torch in an actor, as in the stages."""


class _Measurer:
    """An actor, so that a process of its own is started, as for an actor of a stage."""

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(THREADS)

    def embed(self, config: Config, budget: float) -> tuple[float, Numbers, NDArray[np.float32]]:
        """Return the seconds that the measurement took, the rates, and embeddings."""
        began = time.monotonic()
        numbers, faces_ND = measure.embedding(config, budget)
        return time.monotonic() - began, numbers, faces_ND

    def pack(self, config: Config, budget: float, dim: int) -> Numbers:
        return measure.pairs(config, dim, "cuda" if config.packing.gpus_per_worker else "cpu", budget)

    def draw(self, config: Config, budget: float, faces_ND: NDArray[np.float32]) -> tuple[float, Numbers]:
        """Return the seconds that it took once the models were there, and the rates."""
        ready = time.monotonic()

        def loaded() -> None:
            nonlocal ready
            ready = time.monotonic()

        numbers = measure.drawing(config, faces_ND, budget, loaded)
        return time.monotonic() - ready, numbers

    def machine(self) -> dict[str, Any]:
        return machine()


def calibrate(config: Config, began: float, budget: float = SECONDS) -> bytes:
    """Measure for some minutes, write the table to the run's `plan/rates.json`, and return it.

    Args:
        began: time when the job started, by `time.monotonic()`.
        budget: seconds for which each stage is measured.

    Raises:
        ConfigError, EmbeddingError, ModelError, RunError, StorageError: what a stage would say.
    """
    store = run_store(config)
    measure.sweep(config)
    connect(config.cluster)
    numbers: Numbers = {"driver_seconds": time.monotonic() - began}
    try:
        _say("embeds faces")
        asked = time.monotonic()
        taken, rates, faces_ND = _of(config.embed.gpus_per_actor, "embed", config, budget)
        numbers |= rates | {"embed_start_seconds": max(0.0, time.monotonic() - asked - taken)}
        dim = int(numbers["embedding_dim"])
        _say("packs")
        numbers |= _of(config.packing.gpus_per_worker, "pack", config, budget, dim)
        _say("draws and commits a shard")
        asked = time.monotonic()
        taken, rates = _of(config.synthesis.gpus_per_actor, "draw", config, budget, faces_ND)
        numbers |= rates | {"draw_start_seconds": max(0.0, time.monotonic() - asked - taken)}
        _say("measures it as the report does")
        numbers |= measure.reporting(config, dim)
        measured_on = _of(config.synthesis.gpus_per_actor, "machine")
    finally:
        measure.sweep(config)
    table = to_bytes(numbers, config, measured_on)
    store.put(RATES, table)
    _say(f"the rates are in {store.uri(RATES)}")
    return table


def _of(gpus: float, method: str, *arguments: Any) -> Any:
    """Return what one actor with these GPUs, or else a CPU, says."""
    actor = ray.remote(num_cpus=0 if gpus else 1, num_gpus=gpus, max_restarts=0)(_Measurer).remote()
    try:
        return ray.get(getattr(actor, method).remote(*arguments))
    except RayTaskError as error:
        raise error.cause from None  # Ray's own is of the same type, with a trace of the worker for its message
    finally:
        ray.kill(actor)


def machine() -> dict[str, Any]:
    """Describe the machine on which rates were measured."""
    import os
    import platform

    import torch

    processor = platform.processor() or platform.machine()
    with open("/proc/cpuinfo") as lines:
        processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), processor)
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU {processor}",
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "packages": {name: version for name in PACKAGES if (version := package_version(name))},
        "commit": git_sha(),
    }


def _say(what: str) -> None:
    print(f"calibrate: {what}", file=sys.stderr, flush=True)
