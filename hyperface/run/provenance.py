"""The code, packages, machine and submission that made a run."""

import functools
import json
import os
import platform
import subprocess
from importlib import metadata
from typing import Any

from hyperface.config import Config

PACKAGES = ("hyperface", "torch", "ray", "diffusers", "transformers", "numpy", "pyarrow", "s3fs", "onnxruntime")


def provenance(config: Config) -> dict[str, Any]:
    """Return what made the run: code, packages, machine and submission."""
    return {
        "git_sha": git_sha(),
        "packages": {name: version for name in PACKAGES if (version := package_version(name))},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "submission_id": submission_id(),
        "seed": config.run.seed,
    }


def git_sha() -> str:
    """Return the commit of the code, `+changes` when the tree differs; HYPERFACE_GIT_SHA where Ray left .git behind."""
    return os.environ.get("HYPERFACE_GIT_SHA") or _of_the_tree(os.path.dirname(os.path.abspath(__file__)))


@functools.cache  # asked when a process first makes a run: what comes into the tree later is not what it executes
def _of_the_tree(here: str) -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", here, *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    sha = git("rev-parse", "HEAD")
    return sha and sha + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")


def submission_id() -> str:
    """Return the id of the Ray job this process belongs to; empty outside one."""
    described = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    return str(described.get("metadata", {}).get("job_submission_id", ""))


@functools.cache
def package_version(package: str) -> str:
    """Return the installed version; empty when the package is not there."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
