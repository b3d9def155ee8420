"""A finished run of the small world whose gallery has pictures: what an audit needs."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from color_world import DIM, ColorGenerator, ColorRecognizer, color_run, make_dataset, references
from finished_run import ColorJudge
from numpy.typing import NDArray
from PIL import Image

from hyperface.audit.auditor import Auditor
from hyperface.config import Config
from hyperface.dataset.source import open_source
from hyperface.faces import gallery, source
from hyperface.faces.embeddings import to_parquet
from hyperface.models.protocols import Recognizer
from hyperface.run import Run
from hyperface.run.names import GALLERY

FACES = 160
"""Enough of them: 12,720 pairs of different people measure a false accept rate of 1e-4."""


@dataclass(frozen=True)
class CopyingGenerator(ColorGenerator):
    """Draws what it is asked for, but for one embedding, for which it remembers a picture."""

    copied_HWC: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((16, 16, 3), np.uint8))
    for_d: NDArray[np.float32] = field(default_factory=lambda: np.zeros(DIM, np.float32))

    def generate(self, embeddings_BD: NDArray[np.float32], seeds_B: Sequence[int]) -> NDArray[np.uint8]:
        drawn_BHWC = super().generate(embeddings_BD, seeds_B)
        drawn_BHWC[embeddings_BD @ self.for_d > 0.95] = self.copied_HWC
        return drawn_BHWC


def put_faces(folder: Path, count: int = FACES, per_person: int = 1, seed: int = 11) -> list[Path]:
    """PNG files of so many people, `001/0.png` where a person has several."""
    generator, people = ColorGenerator(), references(-(-count // per_person), seed)
    paths = [folder / f"{i // per_person:03d}/{i % per_person}.png" for i in range(count)]
    paths = paths if per_person > 1 else [folder / f"{i:03d}.png" for i in range(count)]
    for i, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.generate(people[i // per_person][None], [i])[0]).save(path)
    return paths


def embed_gallery(config: Config) -> bytes:
    """The table that jobs.embed writes."""
    chunks = source.plan_chunks(config.embed, config.storage)
    faces = [face for chunk in chunks for face in gallery.embed_chunk(chunk, config, ColorRecognizer())]
    return to_parquet("key", gallery.assemble(faces, 0).embeddings)


def audited_run(
    directory: Path, faces: Path, *overrides: str, generator: ColorGenerator | None = None, images: bool = True
) -> Run:
    """Six identities of five images, and a gallery of the pictures in `faces`."""
    run = color_run(directory, f"embed.source={faces}", *overrides)
    run.store.put(GALLERY, embed_gallery(run.config))
    if images:
        make_dataset(run, generator or ColorGenerator())
    return run


def auditor(run: Run, recognizer: Recognizer | None = None, judge: Recognizer | None = None) -> Auditor:
    networks = {"recognizer": recognizer or ColorRecognizer(), "judge": judge or ColorJudge()}
    return Auditor(open_source(run), networks)


def with_audit(run: Run, **keys: Any) -> Run:
    return replace(run, config=replace(run.config, audit=replace(run.config.audit, **keys)))
