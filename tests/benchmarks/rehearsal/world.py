"""The world that is rehearsed: 6.4 million images of 100,000 identities, drawn by models that cost next to nothing.

The pictures are a few thousand of 8 x 8 random pixels, of which the seed chooses one; what the recogniser gives is the
pixels themselves. One draw in 32 is blank, so that images are drawn again and about one in a thousand is missing.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import md5

import numpy as np
from numpy.typing import NDArray

from hyperface import config as configuration
from hyperface.config import Config
from hyperface.dataset.commit import record
from hyperface.dataset.duplicates import difference_hash, to_text
from hyperface.dataset.marker import Marker, Reject, Statistics
from hyperface.dataset.plan import Plan, key, marker_file, shard_file
from hyperface.models.protocols import Models
from hyperface.storage import Store

DIM, SIZE, PICTURES, BLANK_EVERY, ATTEMPTS = 64, 8, 4096, 32, 2

WORLD = (
    "embed.num_faces=100000",
    "packing.num_identities=100000",
    "packing.num_workers=2",
    "packing.steps=5",
    "synthesis.images_per_identity=64",
    "synthesis.images_per_shard=640",
    "synthesis.batch_size=64",
    "synthesis.num_actors=2",
    f"synthesis.max_attempts={ATTEMPTS}",
    "synthesis.min_cosine=-1",
    "synthesis.min_hash_distance=1",
    "dataset.format=parquet",
)


@functools.cache
def pictures() -> NDArray[np.uint8]:
    """uint8 [PICTURES, SIZE, SIZE, 3]"""
    return np.random.default_rng(0).integers(0, 256, (PICTURES, SIZE, SIZE, 3), dtype=np.uint8)


@dataclass(frozen=True)
class FreeGenerator:
    embedding_dim: int = DIM
    image_size: int = SIZE
    fingerprint: str = "f0" * 32

    def generate(self, embeddings_BD: NDArray[np.float32], seeds_B: Sequence[int]) -> NDArray[np.uint8]:
        seeds = np.array(seeds_B)
        drawn_BHWC = pictures()[seeds % PICTURES]
        drawn_BHWC[seeds // PICTURES % BLANK_EVERY == 0] = 0
        return drawn_BHWC


@dataclass(frozen=True)
class FreeRecognizer:
    embedding_dim: int = DIM
    image_size: int = SIZE
    fingerprint: str = "0f" * 32

    def embed(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        rows_BD = images_BHWC.reshape(len(images_BHWC), -1)[:, :DIM].astype(np.float32) - 127.5
        return rows_BD / np.linalg.norm(rows_BD, axis=1, keepdims=True)


def make_models(config: Config) -> Models:
    return Models(FreeGenerator(), FreeRecognizer())


def world(run_url: str, *overrides: str) -> Config:
    return configuration.load(None, [f"run.dir={run_url}", *WORLD, *overrides])


def gallery(count: int) -> NDArray[np.float32]:
    """Faces that lean to one side, as a recogniser's do: mean cosine of two about 0.2."""
    rows_GD = np.random.default_rng(1).standard_normal((count, DIM), dtype=np.float32)
    rows_GD[:, 0] += 4
    return rows_GD / np.linalg.norm(rows_GD, axis=1, keepdims=True)


@functools.cache
def _hashes() -> NDArray[np.uint64]:
    return np.array([difference_hash(picture) for picture in pictures()], dtype=np.uint64)


def stand_in(plan: Plan, shard: int, fingerprint: str) -> tuple[bytes, Marker]:
    """(data, marker) in place of a shard: the marker says what a rendered one's would, of a file of a few bytes."""
    random, name = np.random.default_rng(shard), shard_file("parquet", shard)
    identities_R, images_R = plan.shard(shard)
    refused_R = random.uniform(size=(len(identities_R), ATTEMPTS)) < 1 / BLANK_EVERY
    missing = [(int(identities_R[row]), int(images_R[row])) for row in np.flatnonzero(refused_R.all(1))]
    rows, redraws = len(identities_R) - len(missing), int(refused_R[:, 0].sum())
    data = f"in place of shard {shard}\n".encode()
    marker = Marker(
        shard=shard,
        files=(record(name, data),),
        rows=rows,
        rejects=tuple(Reject(key(i, j), i, j, ATTEMPTS, None, "blank", "") for i, j in missing),
        statistics=Statistics(len(identities_R) + redraws, redraws, {"blank": int(refused_R.sum())}, 0.0),
        hashes=to_text(_hashes()[random.integers(0, PICTURES, rows)].tolist()),
        seconds={"generate": 0.001, "crop": 0.001, "encode": 0.001, "embed": 0.001},
        fingerprint=fingerprint,
        etags={name: md5(data, usedforsecurity=False).hexdigest()},
    )
    return data, marker


def put_stand_in(store: Store, plan: Plan, shard: int, fingerprint: str) -> None:
    """Bytes first, marker last, where `commit` would look before and after."""
    data, marker = stand_in(plan, shard, fingerprint)
    store.put_new(marker.files[0].name, data)
    store.put_new(marker_file(shard), marker.to_bytes())
