"""How near a plan comes to the run that follows: predicted and measured seconds, stage by stage, of equal settings.

    python -m tests.benchmarks.bench_plan [--repeats 3] [key=value ...]

Each repeat measures the rates anew, plans from them, and then times jobs.pipeline from an empty directory. Both share
the machine with whatever else runs on it, so the load during each is recorded: a ratio is worth what these are alike.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks import record

CONFIG = "jobs/configs/toy.yaml"
ACTORS = ["synthesis.num_actors=1", "embed.num_actors=1", "cluster.num_cpus=1", "plan.cpus=1"]


def job(module: str, *words: str) -> str:
    """Standard output of a job."""
    command = [sys.executable, "-m", module, *words]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def planned(folder: str, overrides: list[str]) -> dict[str, float]:
    """{figure: value} from rates measured now."""
    said = job("jobs.plan", CONFIG, f"run.dir={folder}", *overrides, "--calibrate", "--json")
    figures = json.loads(said[said.index('{\n "figures"') :])["figures"]
    return {name: figure["value"] for name, figure in figures.items()}


def measured(folder: str, overrides: list[str]) -> dict[str, float]:
    """Seconds of each stage as the run recorded them, and of the whole job."""
    began = time.perf_counter()
    job("jobs.pipeline", CONFIG, f"run.dir={folder}", *overrides)
    seconds = {"total": time.perf_counter() - began}
    for stage in ("embed", "synthesis", "report"):
        last = Path(folder, f"records/{stage}.jsonl").read_text().splitlines()[-1]
        seconds[stage] = json.loads(last)["seconds"]
    index = json.loads(Path(folder, "dataset/index.json").read_text())
    return seconds | {"bytes": index["bytes"], "shards": len(index["shards"])}


def once(overrides: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="hyperface-bench-") as folder:
        loads = [os.getloadavg()[0]]
        plan = planned(folder, overrides)
        loads.append(os.getloadavg()[0])
        run = measured(folder, overrides)
        loads.append(os.getloadavg()[0])
    pairs = {stage: (plan[f"{stage}.seconds"], run[stage]) for stage in ("embed", "synthesis", "report", "total")}
    pairs["dataset bytes"] = plan["storage.dataset_bytes"], run["bytes"]
    pairs["shards"] = plan["synthesis.shards"], run["shards"]
    print(loads, pairs, flush=True)
    return {"pairs": pairs, "load": loads}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("overrides", nargs="*")
    chosen = parser.parse_args()
    overrides = [*ACTORS, *chosen.overrides]
    seen = [once(overrides) for _ in range(chosen.repeats)]
    numbers: dict[str, Any] = {}
    for name in seen[0]["pairs"]:
        numbers[f"{name}, predicted"] = record.spread([each["pairs"][name][0] for each in seen])
        numbers[f"{name}, measured"] = record.spread([each["pairs"][name][1] for each in seen])
        ratios = [each["pairs"][name][0] / each["pairs"][name][1] for each in seen]
        numbers[f"{name}, predicted over measured"] = record.spread(ratios)
    loads = [[round(load, 1) for load in each["load"]] for each in seen]
    numbers["load of the machine: before, between, after"] = loads
    record.write("plan", {"config": CONFIG, "overrides": overrides, "repeats": chosen.repeats}, numbers)


if __name__ == "__main__":
    main()
