"""Benchmark records: a number without provenance is not a result."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hyperface.run.provenance import PACKAGES, git_sha, package_version

RESULTS = Path(__file__).parent / "results"


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, extremes and every repeat."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "repeats": [round(value, 4) for value in values],
    }


def write(name: str, settings: dict[str, Any], measured: dict[str, Any]) -> Path:
    """Write results/NAME.json and print it."""
    record = {
        "benchmark": name,
        "settings": settings,
        "measured": measured,
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "system": platform.platform()},
        "packages": {package: package_version(package) for package in PACKAGES},
        "commit": git_sha(),
    }
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))
    return path


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
