"""images/s and memory of an export per format, from a dataset and from one ten times as large.

    python -m tests.benchmarks.bench_export [images] [repeats]

The datasets are made here: JPEGs of 112 x 112 pixels, in the WebDataset form, 500 to a shard. Each export is a process
of its own. Its memory is the highest RssAnon that a thread of it sees in steps of 5 ms, less what it has before it
opens the run: what the process holds, without pages of files that the system may take back. The sort of RecordIO gets
less memory than the smaller dataset has bytes, so that both need many spills. `reading` is what every export begins
with, and all that a bare loop does: read a shard, compare its hash, take it apart.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from hyperface import config as configuration
from hyperface.dataset import Dataset, fingerprint, index, jpeg, webdataset
from hyperface.dataset.commit import commit
from hyperface.dataset.commit import record as file_record
from hyperface.dataset.export import FORMATS, export_run
from hyperface.dataset.marker import Marker, Statistics
from hyperface.dataset.plan import Plan, image_seed, shard_file
from hyperface.dataset.schema import Sample
from hyperface.dataset.source import open_source
from hyperface.run import existing_run, open_run
from hyperface.run.names import FINGERPRINT
from hyperface.storage import open_store
from tests.benchmarks import record

SIZE, PER_SHARD, PER_IDENTITY, TIMES = 112, 500, 20, 10
BUDGET = 8 * 2**20
READING = "reading"


def faces(count: int) -> list[bytes]:
    """JPEGs with about the detail of a photograph: noise that is smooth over a few pixels."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (count, SIZE // 8, SIZE // 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    fine = random.normal(0, 6, (count, SIZE, SIZE, 3))
    return [jpeg.encode(image, 95) for image in np.clip(coarse + fine, 0, 255).astype(np.uint8)]


def make(folder: Path, images: int, jpegs: list[bytes]) -> int:
    """A finished run of so many images; the bytes of its shards."""
    overrides = [f"run.dir={folder}", f"packing.num_identities={images // PER_IDENTITY}", "dataset.format=webdataset"]
    overrides += [f"synthesis.images_per_identity={PER_IDENTITY}", f"synthesis.images_per_shard={PER_SHARD}"]
    run = open_run(configuration.load(None, overrides))
    plan = Plan.of(run.config)
    parts = fingerprint.chosen(run.config, "0" * 64)
    run.put_json(FINGERPRINT, parts)
    digest = fingerprint.digest(parts)
    found = {}
    for shard in range(plan.num_shards):
        rows = zip(plan.keys(shard), *(column.tolist() for column in plan.shard(shard)), strict=True)
        unused = np.zeros(1, np.float32)
        samples = [
            Sample(key, i, j, jpegs[(i * 7 + j) % len(jpegs)], image_seed(0, i, j, 0), 0, 0.9, unused)
            for key, i, j in rows
        ]
        name, data = shard_file("webdataset", shard), webdataset.to_bytes(samples)
        statistics = Statistics(draws=len(samples), redraws=0, refused={}, mean_cosine=0.9)
        marker = Marker(shard, (file_record(name, data),), len(samples), (), statistics, "", {}, digest)
        commit(run.store, [(name, data)], marker, repair=False)
        found[shard] = marker
    return int(index.write(Dataset.of(run), found)["bytes"])


def resident() -> int:
    """Bytes of this process that are no pages of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def one(run_dir: str, kind: str, out: str) -> None:
    """Export once and print seconds and bytes: what the processes of this benchmark run."""
    before = peak = resident()
    stop = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.005):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    run = existing_run(run_dir)
    if kind == READING:
        source = open_source(run)
        for shard in range(source.plan.num_shards):
            source.read(shard)
    else:
        (chosen,) = (name for name in FORMATS if name == kind)
        export_run(run, chosen, open_store(out), say=lambda line: None, budget=BUDGET)
    seconds = time.perf_counter() - began
    stop.set()
    watcher.join()
    print(json.dumps({"seconds": seconds, "bytes": peak - before}))


def measured(run: Path, kind: str, out: Path) -> tuple[float, float]:
    """(seconds, MiB) of one export in a process of its own; what it wrote is removed."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_export", "--one", str(run), kind, str(out)]
    done = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    shutil.rmtree(out, ignore_errors=True)
    return done["seconds"], done["bytes"] / 2**20


def main(images: int = 4_000, repeats: int = 3) -> None:
    jpegs = faces(256)
    kinds = (READING, *FORMATS)
    with tempfile.TemporaryDirectory(prefix="hyperface-bench-") as folder:
        runs = {count: Path(folder, f"run-{count}") for count in (images, images * TIMES)}
        stored = {count: make(run, count, jpegs) for count, run in runs.items()}
        found = {
            (kind, count): [measured(runs[count], kind, Path(folder, "out")) for _ in range(repeats)]
            for count in runs
            for kind in kinds
        }
    record.write(
        "export",
        {
            "images": list(runs),
            "MB of shards": [round(size / 1e6, 1) for size in stored.values()],
            "MB of a shard": round(stored[images] / 1e6 / (images / PER_SHARD), 2),
            "MiB that the sort of recordio may hold": BUDGET / 2**20,
        },
        {
            kind: {
                f"{count} images": {
                    "images/s": record.spread([count / seconds for seconds, _ in found[kind, count]]),
                    "MiB of memory": record.spread([mebibytes for _, mebibytes in found[kind, count]]),
                }
                for count in runs
            }
            for kind in kinds
        },
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(*sys.argv[2:5])
    else:
        main(*(int(argument) for argument in sys.argv[1:3]))
