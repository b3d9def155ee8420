"""Comparison of a plan with the run that follows: predicted and measured seconds, stage by stage, of equal settings.

    python -m tests.benchmarks.bench_plan [--repeats 3] [--alone] [key=value ...]

Each repeat measures the rates anew, plans from them, and then times jobs.pipeline from an empty directory. Both share
the machine with whatever else runs on it, so the load during each is recorded: a ratio is worth what these are alike.

`--alone` does the same in one process without Ray, by the functions of the stages, and counts seconds of the processor
instead of those on the wall, which a machine with much else to do stretches: it says whether the plan adds up, not how
long Ray takes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from hyperface import config as configuration
from hyperface.capacity import measure
from hyperface.capacity.estimate import Estimate, estimate
from hyperface.capacity.rates import Rates
from hyperface.config import Config
from hyperface.faces import gallery, source
from hyperface.faces.embeddings import to_parquet
from hyperface.models.loading import load_judge, load_models, load_recognizer
from hyperface.packing.partition import one_process
from hyperface.packing.stage import pack_rows
from hyperface.report import write_report
from hyperface.run import open_run
from hyperface.run.names import GALLERY, INDEX
from hyperface.synthesis.single import make_dataset
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


def compared(plan: dict[str, Any], run: dict[str, Any], loads: list[float]) -> dict[str, Any]:
    """{what: (planned, measured)} of one repeat, and how busy the machine was."""
    pairs = {stage: (plan[f"{stage}.seconds"], run[stage]) for stage in ("embed", "synthesis", "report", "total")}
    pairs["dataset bytes"] = plan["storage.dataset_bytes"], run["bytes"]
    pairs["shards"] = plan["synthesis.shards"], run["shards"]
    print(loads, pairs, flush=True)
    return {"pairs": pairs, "load": loads}


def once(overrides: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="hyperface-bench-") as folder:
        loads = [os.getloadavg()[0]]
        plan = planned(folder, overrides)
        loads.append(os.getloadavg()[0])
        run = measured(folder, overrides)
        loads.append(os.getloadavg()[0])
    return compared(plan, run, loads)


def once_alone(overrides: list[str]) -> dict[str, Any]:
    """Plan and run as `once` does, in this process and in seconds of the processor."""
    measure.time = SimpleNamespace(perf_counter=time.process_time)
    with tempfile.TemporaryDirectory(prefix="hyperface-bench-") as folder:
        loads = [os.getloadavg()[0]]
        config = configuration.load(CONFIG, [f"run.dir={folder}", *overrides])
        plan = planned_alone(config)
        loads.append(os.getloadavg()[0])
        run = measured_alone(config)
        loads.append(os.getloadavg()[0])
    return compared(plan, run, loads)


def planned_alone(config: Config) -> Estimate:
    numbers, faces_ND = measure.embedding(config)
    numbers |= measure.pairs(config, faces_ND.shape[1], "cpu") | measure.drawing(config, faces_ND)
    numbers |= measure.reporting(config, faces_ND.shape[1])
    measure.sweep(config)
    starts = dict.fromkeys(("driver_seconds", "embed_start_seconds", "draw_start_seconds"), 0.0)
    return estimate(config, Rates("measured now", numbers | starts))


def measured_alone(config: Config) -> dict[str, float]:
    run, models, spent = open_run(config), load_models(config), [time.process_time()]
    chunks = source.plan_chunks(config.embed, config.storage)
    faces = [face for chunk in chunks for face in gallery.embed_chunk(chunk, config, models.recognizer)]
    made = gallery.assemble(faces, config.embed.num_faces)
    run.store.put_new(GALLERY, to_parquet("key", made.embeddings))
    spent.append(time.process_time())
    pack_rows(run, one_process(config.packing.num_identities), torch.device("cpu"))
    spent.append(time.process_time())
    make_dataset(run, models)
    spent.append(time.process_time())
    write_report(run, load_recognizer(config.recognizer), load_judge(config))
    spent.append(time.process_time())
    seconds = dict(zip(("embed", "packing", "synthesis", "report"), np.diff(spent).tolist(), strict=True))
    index = run.get_json(INDEX)
    return seconds | {"total": spent[-1] - spent[0], "bytes": index["bytes"], "shards": len(index["shards"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("overrides", nargs="*")
    chosen = parser.parse_args()
    overrides = [*ACTORS, *chosen.overrides]
    torch.set_num_threads(1)
    seen = [(once_alone if chosen.alone else once)(overrides) for _ in range(chosen.repeats)]
    numbers: dict[str, Any] = {}
    for name in seen[0]["pairs"]:
        numbers[f"{name}, predicted"] = record.spread([each["pairs"][name][0] for each in seen])
        numbers[f"{name}, measured"] = record.spread([each["pairs"][name][1] for each in seen])
        ratios = [each["pairs"][name][0] / each["pairs"][name][1] for each in seen]
        numbers[f"{name}, predicted over measured"] = record.spread(ratios)
    loads = [[round(load, 1) for load in each["load"]] for each in seen]
    numbers["load of the machine: before, between, after"] = loads
    settings = {
        "config": CONFIG,
        "overrides": overrides,
        "seconds": "processor" if chosen.alone else "wall",
        "threads": 1,
    }
    record.write("plan_alone" if chosen.alone else "plan", settings, numbers)


if __name__ == "__main__":
    main()
