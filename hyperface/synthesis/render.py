"""One shard: vary, generate, encode, embed what will be stored, and draw again what misses the gate.

N: identities, R: rows planned for the shard, B: rows of a batch, d: embedding dimension.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hyperface.dataset import jpeg
from hyperface.dataset.marker import Reject, Statistics
from hyperface.dataset.plan import Plan, image_seed, key
from hyperface.dataset.schema import Sample
from hyperface.models.protocols import Generator, Recognizer
from hyperface.synthesis.variation import vary

IMAGE_FAILURES = (ValueError, ArithmeticError)
"""What a generator may raise for an image it cannot draw. Anything else (out of memory, a lost device) is not the
image's fault and goes up, so that the shard is tried again elsewhere."""


class RenderError(RuntimeError):
    """A shard of which no image could be drawn: the generator is broken, not an image."""


@dataclass(frozen=True)
class Gate:
    """How images are drawn and which are kept; see the fields of `SynthesisConfig` and `DatasetConfig`."""

    beta: float
    batch_size: int
    min_cosine: float
    max_attempts: int
    jpeg_quality: int


@dataclass(frozen=True)
class RenderedShard:
    samples: list[Sample]
    """In the order of the plan."""
    rejects: list[Reject]
    """The planned images that are missing in `samples`, in the order of the plan."""
    statistics: Statistics
    seconds: dict[str, float]
    """Time spent to generate, encode and embed."""


@dataclass
class _Drawing:
    """What is known so far, by planned row."""

    passed: dict[int, Sample] = field(default_factory=dict)
    best_cosine: dict[int, float] = field(default_factory=dict)
    error: dict[int, str] = field(default_factory=dict)
    draws: int = 0
    errors: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("generate", "encode", "embed"), 0.0))

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - began

    def failed(self, row: int, error: str) -> None:
        self.errors += 1
        self.error[row] = error


def render_shard(
    plan: Plan,
    shard: int,
    references_Nd: NDArray[np.float32],
    generator: Generator,
    recognizer: Recognizer,
    gate: Gate,
) -> RenderedShard:
    """Draw the images of one shard.

    The first attempt draws all planned rows in batches of `gate.batch_size`, each further attempt those that failed,
    again in such batches: which images share a batch depends on the plan and the models alone. The cosine of an image
    is that of its decoded JPEG, so it describes what is stored.

    Raises:
        RenderError: the first attempt failed for every image with an error.
    """
    identities_R, images_R = plan.shard(shard)
    references_Rd = references_Nd[identities_R - plan.first_identity]
    names = [(int(i), int(j)) for i, j in zip(identities_R, images_R, strict=True)]
    drawing, pending = _Drawing(), list(range(len(names)))
    for attempt in range(gate.max_attempts):
        for begin in range(0, len(pending), gate.batch_size):
            rows = pending[begin : begin + gate.batch_size]
            seeds = [image_seed(plan.seed, *names[row], attempt) for row in rows]
            drawn = _draw(drawing, rows, seeds, references_Rd[rows], generator, gate)
            for row, seed, stored, embedding_d in _measured(drawing, rows, seeds, drawn, recognizer):
                identity, image = names[row]
                cosine = round(float(embedding_d @ references_Rd[row]), 6)
                drawing.best_cosine[row] = max(cosine, drawing.best_cosine.get(row, -2.0))
                if cosine >= gate.min_cosine:
                    sample = Sample(key(identity, image), identity, image, stored, seed, attempt, cosine, embedding_d)
                    drawing.passed[row] = sample
        pending = [row for row in pending if row not in drawing.passed]
        if attempt == 0 and drawing.errors == len(names):
            raise RenderError(f"shard {shard}: not one image could be drawn; the first: {drawing.error[0]}")
    return _finished(drawing, names, gate)


def _draw(
    drawing: _Drawing,
    rows: Sequence[int],
    seeds: Sequence[int],
    references_Bd: NDArray[np.float32],
    generator: Generator,
    gate: Gate,
) -> list[bytes | None]:
    """The JPEG of each row; None where the generator failed."""
    varied_Bd = np.stack([vary(x_d, seed, gate.beta) for x_d, seed in zip(references_Bd, seeds, strict=True)])
    drawing.draws += len(rows)
    with drawing.timed("generate"):
        images = _generate(drawing, rows, seeds, varied_Bd, generator)
    with drawing.timed("encode"):
        return [None if image is None else jpeg.encode(image, gate.jpeg_quality) for image in images]


def _generate(
    drawing: _Drawing, rows: Sequence[int], seeds: Sequence[int], varied_Bd: NDArray[np.float32], generator: Generator
) -> Sequence[NDArray[np.uint8] | None]:
    """One call for the batch; when it fails, one call per image, to find those that cannot be drawn."""
    size = generator.image_size
    try:
        images_BHWC = generator.generate(varied_Bd, seeds)
    except IMAGE_FAILURES as error:
        if len(rows) == 1:
            drawing.failed(rows[0], f"generator: {type(error).__name__}: {error}")
            return [None]
        singly = [
            _generate(drawing, [row], [seed], varied_Bd[[b]], generator)
            for b, (row, seed) in enumerate(zip(rows, seeds, strict=True))
        ]
        return [images[0] for images in singly]
    assert images_BHWC.shape == (len(rows), size, size, 3), f"{images_BHWC.shape} from a generator of {size} pixels"
    assert images_BHWC.dtype == np.uint8, images_BHWC.dtype
    return list(images_BHWC)


def _measured(
    drawing: _Drawing,
    rows: Sequence[int],
    seeds: Sequence[int],
    drawn: Sequence[bytes | None],
    recognizer: Recognizer,
) -> Iterator[tuple[int, int, bytes, NDArray[np.float32]]]:
    """(row, seed, JPEG, embedding of the decoded JPEG) of every image that has a finite embedding."""
    there = [(row, seed, data) for row, seed, data in zip(rows, seeds, drawn, strict=True) if data is not None]
    if not there:
        return
    with drawing.timed("encode"):
        decoded_BHWC = np.stack([jpeg.decode(data) for _, _, data in there])
    with drawing.timed("embed"):
        embedded_Bd = recognizer.embed(decoded_BHWC)
    for (row, seed, data), embedding_d in zip(there, embedded_Bd, strict=True):
        if np.isfinite(embedding_d).all():
            yield row, seed, data, embedding_d
        else:
            drawing.failed(row, "recognizer: the embedding is not finite")


def _finished(drawing: _Drawing, names: list[tuple[int, int]], gate: Gate) -> RenderedShard:
    samples = [drawing.passed[row] for row in range(len(names)) if row in drawing.passed]
    rejects = [
        Reject(
            key(*names[row]), *names[row], gate.max_attempts, drawing.best_cosine.get(row), drawing.error.get(row, "")
        )
        for row in range(len(names))
        if row not in drawing.passed
    ]
    mean = round(float(np.mean([s.cosine for s in samples])), 6) if samples else 0.0
    statistics = Statistics(drawing.draws, drawing.draws - len(names), drawing.errors, mean)
    return RenderedShard(samples, rejects, statistics, {k: round(v, 3) for k, v in drawing.seconds.items()})
