"""A small world for tests of synthesis: an image is twelve colours that spell its embedding, and can be read back."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hyperface import config as configuration
from hyperface.config import Config
from hyperface.faces.embeddings import Embeddings, to_parquet
from hyperface.models.protocols import Models, Recognizer
from hyperface.run import Run, open_run
from hyperface.run.names import DATASET, REFERENCES
from hyperface.storage import Store
from hyperface.synthesis import single

DIM, SIZE, BLOCK = 12, 16, 8


@dataclass(frozen=True)
class ColorRecognizer:
    """The mean colours of the four blocks of an image, as a direction."""

    embedding_dim: int = DIM
    image_size: int = SIZE
    fingerprint: str = "0e" * 32

    def embed(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        blocks = images_BHWC.reshape(-1, 2, BLOCK, 2, BLOCK, 3).mean((2, 4)).reshape(-1, DIM) - 128
        return (blocks / np.linalg.norm(blocks, axis=1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class ColorGenerator:
    """Colours spell the embedding, with a little noise from the seed. Some seeds fail, always in the same way."""

    miss_every: int = 0
    """One seed in so many gives the opposite of its embedding; 0: none."""
    fail_every: int = 0
    """One seed in so many raises ValueError; 0: none."""
    embedding_dim: int = DIM
    image_size: int = SIZE
    fingerprint: str = "9e" * 32

    def generate(self, embeddings_BD: NDArray[np.float32], seeds_B: Sequence[int]) -> NDArray[np.uint8]:
        return np.stack([self._image(x, seed) for x, seed in zip(embeddings_BD, seeds_B, strict=True)])

    def _image(self, embedding_d: NDArray[np.float32], seed: int) -> NDArray[np.uint8]:
        if self.fail_every and seed % self.fail_every == 0:
            raise ValueError(f"latents of seed {seed} are not finite")
        sign = -1 if self.miss_every and seed % self.miss_every == 0 else 1
        noise_d = np.random.default_rng(seed).normal(0, 2, DIM)
        colours = np.clip(128 + 120 * sign * embedding_d + noise_d, 0, 255).reshape(2, 2, 3)
        return colours.repeat(BLOCK, 0).repeat(BLOCK, 1).astype(np.uint8)


def make_models(config: Config) -> Models:
    return Models(ColorGenerator(miss_every=5), ColorRecognizer())


def references(count: int, seed: int = 0) -> NDArray[np.float32]:
    points = np.random.default_rng(seed).normal(size=(count, DIM))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def put_references(store: Store, vectors: NDArray[np.float32], first: int = 0) -> None:
    store.put(REFERENCES, to_parquet("identity", Embeddings(list(range(first, first + len(vectors))), vectors)))


def color_config(directory: Path | str, *overrides: str) -> Config:
    """Six identities of five images in shards of eight: four shards, the last of six images."""
    given = ["packing.num_identities=6", "synthesis.images_per_identity=5", "synthesis.images_per_shard=8"]
    given += ["synthesis.batch_size=3", "synthesis.min_cosine=0.9", "dataset.format=both", f"run.dir={directory}"]
    return configuration.load(None, [*given, *overrides])


def color_run(directory: Path | str, *overrides: str, store: Store | None = None) -> Run:
    """A packed run of the small world, ready for synthesis; `store` in place of the one the configuration opens."""
    run = open_run(color_config(directory, *overrides))
    if not run.store.exists(REFERENCES):
        packing = run.config.packing
        put_references(run.store, references(packing.num_identities), packing.first_identity)
    return replace(run, store=store) if store else run


def hashes(run: Run) -> dict[str, str]:
    """{name: SHA-256} of the dataset without the markers, which also tell the time that was spent."""
    names = [name for name in run.store.list(DATASET) if "/_done/" not in name]
    return {name: hashlib.sha256(run.store.read(name)).hexdigest() for name in names}


def make_dataset(run: Run, generator: ColorGenerator | None = None, judge: Recognizer | None = None) -> None:
    """The whole dataset in this process, without Ray: the oracle of the distributed stage."""
    single.make_dataset(run, Models(generator or ColorGenerator(miss_every=5), ColorRecognizer(), judge=judge))
