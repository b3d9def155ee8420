"""Jobs as processes of their own, on a small run of the toy world."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import shared_ray

ROOT = Path(__file__).parents[2]
SMALL = (
    "embed.num_faces=48",
    "packing.num_identities=12",
    "packing.steps=20",
    "synthesis.generator=toy_render",
    "synthesis.images_per_identity=4",
    "synthesis.images_per_shard=8",
    "report.grid_identities=4",
    "cluster.num_cpus=2",
)


def command(job: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"jobs.{job}", *arguments]


def run(job: str, *arguments: str, alone: bool = False) -> subprocess.CompletedProcess[str]:
    """A job that has ended. It takes the Ray that tests share; alone it starts one, as its user's would."""
    environment = os.environ if alone else os.environ | {"RAY_ADDRESS": shared_ray.address()}
    return subprocess.run(
        command(job, *arguments), cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def pipeline(directory: Path | str, *overrides: str) -> tuple[str, ...]:
    return ("pipeline", "jobs/configs/toy.yaml", f"run.dir={directory}", *SMALL, *overrides)


def digests(directory: Path) -> dict[str, str]:
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
