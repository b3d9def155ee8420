"""The synthesize job of the soak test: the small world on a bucket, on a cluster of two nodes of one CPU each.

usage: python tests/e2e/soak_job.py CONTROL RUN_URL [key=value ...]

CONTROL is a folder in which the job says what it does, and is told what to die of:
    drawn                 a line for each call of the generator: process and seeds
    raylet                process of the second node
    before, after         taken away by the first actor that is about to write, or has written, a marker; it then dies
"""

import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

ROOT = Path(__file__).parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]  # and this folder, which Python puts there

import numpy as np  # noqa: E402
from color_world import ColorGenerator, ColorRecognizer, color_run  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from hyperface.models.protocols import Models  # noqa: E402
from hyperface.storage import S3Store  # noqa: E402

SECONDS_PER_CALL = 0.3
WORLD = (
    "packing.num_identities=300",
    "synthesis.images_per_identity=8",
    "synthesis.images_per_shard=12",
    "synthesis.batch_size=6",
    "synthesis.num_actors=2",
)
"""2,400 images in 200 shards."""


@dataclass(frozen=True)
class SlowGenerator(ColorGenerator):
    """Takes its time, and notes what it draws."""

    control: str = ""

    def generate(self, embeddings_BD: NDArray[np.float32], seeds_B: Sequence[int]) -> NDArray[np.uint8]:
        with Path(self.control, "drawn").open("a") as file:
            file.write(" ".join(map(str, (os.getpid(), *seeds_B))) + "\n")
        time.sleep(SECONDS_PER_CALL)
        return super().generate(embeddings_BD, seeds_B)


@dataclass(frozen=True)
class DeadlyStore(S3Store):
    """A bucket that kills the process that writes a marker, when it is told to."""

    control: str = ""

    def put_new(self, name: str, data: bytes) -> bool:
        marker = "/_done/" in name
        if marker:
            self._die_of("before")
        won = super().put_new(name, data)
        if marker:
            self._die_of("after")
        return won

    def _die_of(self, flag: str) -> None:
        try:
            Path(self.control, flag).unlink()
        except FileNotFoundError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    control, url, *overrides = sys.argv[1:]
    # Ray reads these when it is imported. The paths of its sockets must be short.
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="r", dir=control)
    Path(os.environ["RAY_TMPDIR"], "ray").mkdir()
    import color_world
    import ray
    import soak_job
    from ray.cluster_utils import Cluster

    from cluster.session import connect
    from cluster.synthesis import synthesize_stage
    from hyperface.config import ClusterConfig

    for module in (color_world, soak_job):  # the workers have no path to the tests
        ray.cloudpickle.register_pickle_by_value(module)
    node = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100_000_000}
    cluster = Cluster(initialize_head=True, head_node_args=node, shutdown_at_exit=False)
    second = cluster.add_node(**node)
    Path(control, "raylet").write_text(str(second.all_processes["raylet"][0].process.pid))
    connect(ClusterConfig(address=cluster.address))
    try:
        run = color_run(url, *WORLD, *overrides)
        given = {f.name: getattr(run.store, f.name) for f in fields(S3Store)}
        run = color_world.replace(run, store=soak_job.DeadlyStore(**given, control=control))
        generator = soak_job.SlowGenerator(miss_every=5, control=control)
        synthesize_stage(run, lambda _: Models(generator, ColorRecognizer()))
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    from jobs.start import exit_code

    raise SystemExit(exit_code(main))
