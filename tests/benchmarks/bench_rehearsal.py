"""Rehearsal of a run of 6.4 million images, which must be bounded in memory, and quick to go on. Everything but the
pictures is real.

    python -m tests.benchmarks.bench_rehearsal [shards that are rendered] [identities]

On a real S3 server (the Ceph gateway of the tests, in memory, on loopback), with a generator that costs nothing:

- pack: 100,000 identities in 64 dimensions, a few steps of the default objective on two Ray Train workers (gloo);
- begin: the job begins all 10,000 shards of the plan, and gets a SIGTERM when 1,000 of them are done;
- stand-ins: all but a few of the others get a marker by the product's own code, with hashes and rejects as a rendered
  shard's, and a file of a few bytes instead of images: 4 GB of pictures would show nothing more, and take half an hour;
- resume: the same job goes on, renders the few that are missing, reads all markers and writes the index;
- again: the same job finds everything done.

Memory is what the driver holds, looked at each second. A shard's time is that between markers, by the server's clock.
Exits with 1, after writing the record, where one of LIMITS is missed.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import boto3
import numpy as np

from hyperface.dataset import Dataset
from hyperface.dataset.plan import Plan, pending_file, shard_file
from hyperface.dataset.verify import shard_problems
from hyperface.faces.embeddings import Embeddings, to_parquet
from hyperface.run import Run, open_run
from hyperface.run.names import DONE, GALLERY, INDEX, PACKING_SUMMARY
from tests.benchmarks import record
from tests.benchmarks.rehearsal import watch, world
from tests.benchmarks.rehearsal.job import BEGINS
from tests.object_store import CREDENTIALS, start_object_store

BUCKET, PREFIX = "rehearsal", "run"
LEFT, LOOKED_AT, WRITERS = 16, 20, 8
LIMITS = {
    "driver, MiB at most": 1024,
    "resume: seconds from the stage's begin to its first line": 5,
    "time per shard, last tenth over first": 1.5,
}


@dataclass(frozen=True)
class Rehearsal:
    run: Run
    client: Any
    options: tuple[str, ...]

    def job(self, stage: str) -> watch.Watched:
        print(f"{stage}:", flush=True)
        return watch.started(stage, self.run.store.url, *self.options)

    def marker_times(self) -> list[float]:
        """Return when each marker was written, by the server's clock."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{PREFIX}/{DONE}/")
        return sorted(entry["LastModified"].timestamp() for page in pages for entry in page.get("Contents", ()))

    def digest(self) -> str:
        digest = Dataset.of(self.run).fingerprint()
        assert digest
        return digest


def packed(rehearsal: Rehearsal) -> dict[str, Any]:
    run = rehearsal.run
    rows_GD = world.gallery(run.config.packing.num_identities)
    run.store.put(GALLERY, to_parquet("key", Embeddings([f"{i:06d}" for i in range(len(rows_GD))], rows_GD)))
    job = rehearsal.job("pack")
    assert job.end() == 0
    found = run.get_json(PACKING_SUMMARY)
    kept = ("steps", "max_cosine_before", "max_cosine", "bound_cosine")
    return {
        **{name: found[name] for name in kept},
        "seconds per step": found["seconds"] / found["steps"],
        "seconds in all": time.monotonic() - job.began,
        "a worker, MiB at most": max(sample.largest_child for sample in job.samples),
        "driver, MiB at most": max(sample.driver for sample in job.samples),
    }


def planned_all(run: Run) -> dict[str, Any]:
    """Time every shard's identities and images, computed as workers do."""
    plan, began = Plan.of(run.config), time.perf_counter()
    for shard in range(plan.num_shards):
        plan.shard(shard)
    seconds = time.perf_counter() - began
    return {"shards": plan.num_shards, "images": plan.num_images, "seconds": seconds}


def begun(rehearsal: Rehearsal, shards: int) -> dict[str, Any]:
    """Make the first shards, from nothing to so many, and send a SIGTERM."""
    job = rehearsal.job("synthesize")
    while len(times := rehearsal.marker_times()) < shards:
        assert job.process.poll() is None, f"the job ended with {job.process.returncode}"
        time.sleep(5)
    told = time.monotonic()
    job.process.terminate()
    assert job.end() == 143
    ended, tenth = time.monotonic() - told, shards // 10
    per_shard = [(times[(n + 1) * tenth - 1] - times[n * tenth]) / (tenth - 1) for n in range(10)]
    first_line = job.said("0 of them done")
    drawing = job.between(first_line, told)
    return {
        "shards begun": Plan.of(rehearsal.run.config).num_shards,
        "shards rendered": len(times),
        "images/s": (len(times) - 1) * rehearsal.run.config.synthesis.images_per_shard / (times[-1] - times[0]),
        "seconds from the stage's begin to its first line": first_line - job.said(BEGINS),
        "seconds from its first line to the first marker": times[0] - time.time() + time.monotonic() - first_line,
        "seconds per shard, by tenths": per_shard,
        "time per shard, last tenth over first": per_shard[-1] / per_shard[0],
        "seconds from SIGTERM to the end": ended,
        **memory(drawing, len(times)),
    }


def memory(samples: list[watch.Sample], shards: int) -> dict[str, Any]:
    """Summarise the memory of the driver and its largest actor while shards are drawn; the slope is of the last nine
    tenths."""
    settled = samples[len(samples) // 10 :]
    progress = np.linspace(0, 0.9 * shards / 1000, len(settled))
    return {
        "driver, MiB at the begin": samples[0].driver,
        "driver, MiB at most": max(sample.driver for sample in samples),
        "driver, MiB per 1,000 shards": float(np.polyfit(progress, [sample.driver for sample in settled], 1)[0]),
        "an actor, MiB at most": max(sample.largest_child for sample in samples),
        "an actor, MiB per 1,000 shards": float(
            np.polyfit(progress, [sample.largest_child for sample in settled], 1)[0]
        ),
    }


def stood_in(rehearsal: Rehearsal) -> dict[str, Any]:
    """Markers for the missing shards, but the last few and those that were in upload when the job was told to end."""
    store, plan, began = rehearsal.run.store, Plan.of(rehearsal.run.config), time.monotonic()
    seen, digest = Dataset.of(rehearsal.run).glance(), rehearsal.digest()
    in_upload = {
        shard for shard in seen.missing if {pending_file(shard), shard_file("parquet", shard)} & set(seen.listing)
    }
    shards = [shard for shard in seen.missing[:-LEFT] if shard not in in_upload]
    with ThreadPoolExecutor(WRITERS) as writers:
        for n, _ in enumerate(writers.map(lambda shard: world.put_stand_in(store, plan, shard, digest), shards)):
            if n % 1000 == 0:
                print(f"stand-ins: {n} of {len(shards)}", flush=True)
    return {"shards": len(shards), "seconds": time.monotonic() - began}


def resumed(rehearsal: Rehearsal) -> dict[str, Any]:
    """The few shards that are left, all markers, the index."""
    run, plan = rehearsal.run, Plan.of(rehearsal.run.config)
    there = len(rehearsal.marker_times())
    job = rehearsal.job("synthesize")
    assert job.end() == 0
    first, drawn = job.said(f"{there} of them done"), job.said("shards, ", last=True)
    ended = job.said(" rejects", last=True)
    made = run.get_json(INDEX)
    assert made["images"] + len(made["rejects"]) == plan.num_images
    assert len(made["shards"]) == plan.num_shards
    before, after = job.between(first, drawn), job.between(drawn, ended)
    return {
        "markers": there,
        "shards that were left": plan.num_shards - there,
        "seconds from the stage's begin to its first line": first - job.said(BEGINS),
        "seconds to read all markers and write the index": ended - drawn,
        "images in the index": made["images"],
        "rejects in the index": len(made["rejects"]),
        "near-duplicates in the index": len(made["duplicates"]),
        "index, bytes": run.store.size(INDEX),
        "driver, MiB before the index": before[-1].driver,
        "driver, MiB at most": max(sample.driver for sample in [*before, *after]),
    }


def found_done(rehearsal: Rehearsal) -> dict[str, Any]:
    job = rehearsal.job("synthesize")
    assert job.end() == 0
    done = job.said("synthesize: done")
    return {
        "seconds from the stage's begin to its end": done - job.said(BEGINS),
        "driver, MiB at most": max(sample.driver for sample in job.samples),
    }


def looked_at(rehearsal: Rehearsal) -> dict[str, Any]:
    """Some of the rendered shards, byte for byte and image for image."""
    dataset = Dataset.of(rehearsal.run)
    found = dataset.survey()
    assert (found.missing, found.damaged) == ([], {})
    rendered = [shard for shard, marker in found.markers.items() if marker.files[0].bytes > 1000]
    chosen = rendered[:: max(1, len(rendered) // LOOKED_AT)]
    problems = [p for shard in chosen for p in shard_problems(dataset, found.markers[shard])]
    assert problems == []
    return {"rendered": len(rendered), "verified to every byte": len(chosen)}


def missed(measured: dict[str, Any]) -> list[str]:
    """Return which of LIMITS are not held, and by what."""
    drivers = [part["driver, MiB at most"] for part in measured.values() if "driver, MiB at most" in part]
    first_line = measured["resume"]["seconds from the stage's begin to its first line"]
    reached = (max(drivers), first_line, measured["begin"]["time per shard, last tenth over first"])
    pairs = zip(LIMITS.items(), reached, strict=True)
    return [f"{name}: {value:.2f}, not {limit}" for (name, limit), value in pairs if value > limit]


def main(shards: int = 1000, identities: int = 100_000) -> int:
    os.environ.update(CREDENTIALS)
    server, measured = start_object_store(), dict[str, Any]()
    try:
        client = boto3.client("s3", endpoint_url=server.endpoint)
        client.create_bucket(Bucket=BUCKET)
        options = (f"storage.endpoint_url={server.endpoint}", f"packing.num_identities={identities}")
        run = open_run(world.world(f"s3://{BUCKET}/{PREFIX}", *options))
        rehearsal = Rehearsal(run, client, options)
        parts = {
            "pack": lambda: packed(rehearsal),
            "plan": lambda: planned_all(run),
            "begin": lambda: begun(rehearsal, shards),
            "stand-ins": lambda: stood_in(rehearsal),
            "resume": lambda: resumed(rehearsal),
            "again": lambda: found_done(rehearsal),
            "shards": lambda: looked_at(rehearsal),
        }
        for name, part in parts.items():
            measured[name] = part()
            print(name, measured[name], flush=True)
    finally:
        server.stop()
    misses = missed(measured)
    settings = {"identities": identities, "world": list(world.WORLD), "limits": LIMITS}
    record.write("rehearsal", settings, {**measured, "limits that are missed": misses})
    return 1 if misses else 0


if __name__ == "__main__":
    raise SystemExit(main(*(int(argument) for argument in sys.argv[1:3])))
