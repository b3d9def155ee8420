"""A finished run of the small world of `color_world`: packed, drawn, recorded, ready to be reported."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from color_world import ColorGenerator, ColorRecognizer, color_config, make_dataset, references
from numpy.typing import NDArray

from hyperface.faces.embeddings import Embeddings, to_parquet
from hyperface.packing import stage
from hyperface.packing.partition import one_process
from hyperface.report import write_report
from hyperface.run import Run, open_run
from hyperface.run.names import GALLERY

GALLERY_FACES = 20


@dataclass(frozen=True)
class ColorJudge:
    """Sees the same colours in another space of another dimension."""

    embedding_dim: int = 10
    image_size: int = 16
    fingerprint: str = "1d" * 32

    def embed(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        mixing = np.random.default_rng(7).normal(size=(12, self.embedding_dim))
        seen = np.tanh(2 * ColorRecognizer().embed(images_BHWC) @ mixing)
        return (seen / np.linalg.norm(seen, axis=1, keepdims=True)).astype(np.float32)


def finished_run(directory: Path, *overrides: str, generator: ColorGenerator | None = None) -> Run:
    """Six identities of five images, packed in twelve steps from a gallery of twenty faces."""
    run = open_run(color_config(directory, "packing.steps=12", "run.seed=3", *overrides))
    faces = references(GALLERY_FACES, seed=1)
    run.store.put(GALLERY, to_parquet("key", Embeddings([f"face-{i:02d}" for i in range(GALLERY_FACES)], faces)))
    run.record("embed", [{"event": "finished", "faces": GALLERY_FACES, "seconds": 2.0}])
    stage.pack_rows(run, one_process(run.config.packing.num_identities), torch.device("cpu"))
    make_dataset(run, generator or ColorGenerator())
    run.record("synthesis", [{"event": "finished", "seconds": 4.0}])
    return run


def write_color_report(run: Run) -> None:
    write_report(run, ColorRecognizer(), ColorJudge())
