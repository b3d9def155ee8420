"""images/s of the whole synthesize stage on Ray against a bare loop over the same generator, in one run.

    python -m tests.benchmarks.bench_pipeline [seconds_per_shard] [repeats]

Both draw as many images in the same batches on one thread each, by turns. The bare loop only calls the generator; the
stage starts its actor, loads the models, encodes, embeds, gates, commits to a local disk and writes the index as well.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from cluster.session import connect, session
from cluster.synthesis import synthesize_stage
from hyperface import config as configuration
from hyperface.faces.embeddings import Embeddings, to_parquet
from hyperface.models.loading import load_generator
from hyperface.models.protocols import Generator
from hyperface.run import open_run
from hyperface.run.names import REFERENCES
from tests.benchmarks import record

SHARDS = 4


def references(count: int, dim: int) -> np.ndarray:
    """Embeddings of real toy faces, so that the quality gate sees what it sees in a run."""
    from hyperface.models.toy import recognizer, renderer

    seeds = range(count)
    identities, nuisance = renderer.sample_identities(count, 77), renderer.sample_nuisance(seeds, 0.3)
    vectors = recognizer.load_recognizer().embed(renderer.render(identities, nuisance, seeds))
    assert vectors.shape == (count, dim)
    return vectors


def bare(generator: Generator, vectors: np.ndarray, images: int, batch: int) -> float:
    """Return images/s of the generator alone."""
    began = time.perf_counter()
    for start in range(0, images, batch):
        rows = [i % len(vectors) for i in range(start, min(start + batch, images))]
        generator.generate(vectors[rows], rows)
    return images / (time.perf_counter() - began)


def stage(vectors: np.ndarray, overrides: list[str]) -> float:
    """Return images/s of the stage, from an empty dataset to its index."""
    with tempfile.TemporaryDirectory(prefix="hyperface-bench-") as folder:
        run = open_run(configuration.load(None, [f"run.dir={folder}", *overrides]))
        run.store.put_new(REFERENCES, to_parquet("identity", Embeddings(list(range(len(vectors))), vectors)))
        began = time.perf_counter()
        synthesize_stage(run)
        seconds = time.perf_counter() - began
        assert len(list(Path(folder, "dataset/_done").glob("*.json"))) == SHARDS
    return run.config.packing.num_identities * run.config.synthesis.images_per_identity / seconds


def main(seconds_per_shard: float = 30.0, repeats: int = 3) -> None:
    torch.set_num_threads(1)
    base = ["synthesis.generator=toy_diffusion", "synthesis.num_actors=1", "synthesis.max_attempts=1"]
    plain = configuration.load(None, ["run.dir=unused", *base])
    generator, batch = load_generator(plain), plain.synthesis.batch_size
    vectors = references(32, generator.embedding_dim)
    rate = bare(generator, vectors, 4 * batch, batch)
    per_identity = -(-int(rate * seconds_per_shard) * SHARDS // len(vectors))
    images = per_identity * len(vectors)
    overrides = [
        *base,
        f"packing.num_identities={len(vectors)}",
        f"synthesis.images_per_identity={per_identity}",
        f"synthesis.images_per_shard={-(-images // SHARDS)}",
    ]
    alone, whole = [], []
    with session():
        connect(plain.cluster)
        for _ in range(repeats):
            alone.append(bare(generator, vectors, images, batch))
            whole.append(stage(vectors, overrides))
    overhead = [1 - pipeline / loop for loop, pipeline in zip(alone, whole, strict=True)]
    record.write(
        "pipeline",
        {"generator": "toy_diffusion", "shards": SHARDS, "images": images, "batch": batch, "threads": 1},
        {
            "bare loop, images/s": record.spread(alone),
            "stage, images/s": record.spread(whole),
            "overhead, share of the bare rate": record.spread(overhead),
            "seconds per shard": images / SHARDS / record.spread(whole)["median"],
        },
    )


if __name__ == "__main__":
    main(*(float(argument) for argument in sys.argv[1:2]), *(int(argument) for argument in sys.argv[2:3]))
