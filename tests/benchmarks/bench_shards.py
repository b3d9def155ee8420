"""MB/s at which shards are committed, against the disk's and the S3 server's own rate, in one run.

    python -m tests.benchmarks.bench_shards [megabytes_per_shard] [repeats]

A commit hashes, writes under a temporary name, syncs, links, looks again and adds the marker; on S3 it is a conditional
PUT with MD5, a HEAD and the marker. What it is compared with is the least that stores the same bytes: write and fsync,
and one plain PUT by botocore. The S3 server is the Ceph gateway of the tests, on loopback, with its data in memory.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import boto3
import numpy as np

from hyperface.config import StorageConfig
from hyperface.dataset import parquet, webdataset
from hyperface.dataset.commit import commit, record
from hyperface.dataset.marker import Marker, Statistics
from hyperface.dataset.plan import key
from hyperface.dataset.schema import Sample
from hyperface.storage import Store, open_store
from tests.benchmarks import record as records
from tests.object_store import CREDENTIALS, start_object_store

SHARDS = 8
IMAGE_BYTES = 6000
"""Bytes of a 112 x 112 JPEG of quality 95."""
MB = 1e6


def samples(megabytes: float) -> list[Sample]:
    """Rows with JPEG-sized random bytes: neither format looks inside."""
    random = np.random.default_rng(0)
    count = int(megabytes * MB / IMAGE_BYTES)
    embeddings = random.normal(size=(count, 512)).astype(np.float32)
    return [Sample(key(i, 0), i, 0, random.bytes(IMAGE_BYTES), i, 0, 0.9, embeddings[i]) for i in range(count)]


def rate(call: Callable[[int], int]) -> float:
    """MB/s of so many calls, each of which says how many bytes it wrote."""
    began = time.perf_counter()
    written = sum(call(shard) for shard in range(SHARDS))
    return written / MB / (time.perf_counter() - began)


def committed(store: Store, data: bytes) -> Callable[[int], int]:
    def one(shard: int) -> int:
        name = f"dataset/webdataset/shard-{shard:06d}.tar"
        statistics = Statistics(1, 0, {}, 0.9)
        marker = Marker(shard, (record(name, data),), 1, (), statistics, "", {}, "f" * 64)
        commit(store, [(name, data)], marker, repair=False)
        return len(data)

    return one


def written(directory: str, data: bytes) -> Callable[[int], int]:
    def one(shard: int) -> int:
        with Path(directory, f"{shard}").open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return len(data)

    return one


def on_disk(data: bytes) -> tuple[float, float]:
    """(commit, write and fsync)"""
    with tempfile.TemporaryDirectory(prefix="hyperface-bench-") as folder:
        store = open_store(f"{folder}/run")
        return rate(committed(store, data)), rate(written(folder, data))


def on_s3(endpoint: str, data: bytes, repeat: int) -> tuple[float, float]:
    """(commit, plain PUT)"""
    client, bucket = boto3.client("s3", endpoint_url=endpoint), f"bench-{repeat}"
    client.create_bucket(Bucket=bucket)
    store = open_store(f"s3://{bucket}/run", StorageConfig(endpoint_url=endpoint, addressing_style="path"))
    store.list()  # connected

    def put(shard: int) -> int:
        client.put_object(Bucket=bucket, Key=f"plain/{shard}", Body=data)
        return len(data)

    rates = rate(committed(store, data)), rate(put)
    for name in [*store.list(), *(f"../plain/{shard}" for shard in range(SHARDS))]:
        client.delete_object(Bucket=bucket, Key=name.replace("../", "") if name.startswith("../") else f"run/{name}")
    return rates


def encoded(call: Callable[[], bytes]) -> float:
    """MB/s of one shard's encoding."""
    began = time.perf_counter()
    return len(call()) / MB / (time.perf_counter() - began)


def main(megabytes: float = 32.0, repeats: int = 5) -> None:
    os.environ.update(CREDENTIALS)
    rows = samples(megabytes)
    data = webdataset.to_bytes(rows)
    measured: dict[str, list[float]] = {}
    server = start_object_store()
    try:
        for repeat in range(repeats):
            disk, s3 = on_disk(data), on_s3(server.endpoint, data, repeat)
            values = {
                "encoding as tar, MB/s": encoded(lambda: webdataset.to_bytes(rows)),
                "encoding as Parquet, MB/s": encoded(lambda: parquet.to_bytes(rows, 512)),
                "disk, commit, MB/s": disk[0],
                "disk, write and fsync, MB/s": disk[1],
                "disk, share of its own rate": disk[0] / disk[1],
                "S3, commit, MB/s": s3[0],
                "S3, plain PUT, MB/s": s3[1],
                "S3, share of its own rate": s3[0] / s3[1],
            }
            for name, value in values.items():
                measured.setdefault(name, []).append(value)
    finally:
        server.stop()
    settings = {"megabytes per shard": len(data) / MB, "shards": SHARDS, "repeats": repeats}
    records.write("shards", settings, {name: records.spread(values) for name, values in measured.items()})


if __name__ == "__main__":
    main(*(float(argument) for argument in sys.argv[1:2]), *(int(argument) for argument in sys.argv[2:3]))
