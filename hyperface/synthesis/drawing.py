"""Drawing a batch: generate, then crop, encode, embed what will be stored, and ask the gate.

N: identities, B: rows of a batch, d: embedding dimension.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hyperface.dataset import jpeg
from hyperface.dataset.duplicates import difference_hash
from hyperface.dataset.plan import Plan, key
from hyperface.dataset.schema import Outcome, Sample
from hyperface.models.protocols import Models
from hyperface.synthesis.quality import Gate, Reason, is_blank, sharpness
from hyperface.synthesis.steering import Control
from hyperface.synthesis.variation import Variation

IMAGE_FAILURES = (ValueError, ArithmeticError)
"""Errors that a generator may raise for an image it cannot draw. Anything else (out of memory, a lost device) is not
the image's fault and goes up, so that the shard is tried again elsewhere."""


@dataclass(frozen=True)
class Drawing:
    """Settings of the drawing of images; see the fields of `SynthesisConfig` and `DatasetConfig`."""

    variation: Variation
    gate: Gate
    batch_size: int
    max_attempts: int
    jpeg_quality: int
    control: Control | None = None
    """Control of attributes; None: no image is steered."""


@dataclass(frozen=True)
class Identities:
    """The packed identities; row i is the identity `Plan.first_identity` + i."""

    references_Nd: NDArray[np.float32]
    anchors_Nd: NDArray[np.float32] | None = None
    """The judge's embedding of an image of each reference, in its own dimension; None without a judge."""
    norms_N: NDArray[np.float32] | None = None
    """Norms of the features that the references are the directions of; None where the generator takes directions, or
    nobody knows them."""


@dataclass(frozen=True)
class Row:
    """A planned image."""

    identity: int
    image: int
    sigma: float
    """Sigma of its variation."""
    targets: tuple[float, ...] = ()
    """Target of each attribute that is controlled, NaN for none."""


@dataclass(frozen=True)
class Batch:
    """Rows that are drawn together, by their place in the shard, with the seed of each draw."""

    rows: Sequence[int]
    seeds: Sequence[int]
    attempt: int


@dataclass
class Progress:
    """The state of a shard so far, by the place of a row in it."""

    passed: dict[int, tuple[Sample, int]] = field(default_factory=dict)
    """Sample and hash of its image."""
    last: dict[int, tuple[Reason, str]] = field(default_factory=dict)
    """Reason why the last draw was refused, with the message of an error."""
    best_cosine: dict[int, float] = field(default_factory=dict)
    missed: dict[int, tuple[float, Sample, int]] = field(default_factory=dict)
    """The draw that misses least, of those that miss a target and nothing else: its miss in tolerances, then what
    `passed` has."""
    steps: dict[int, int] = field(default_factory=dict)
    """Steps by which the last draw was steered."""
    draws: int = 0
    refused: list[Reason] = field(default_factory=list)
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("generate", "crop", "encode", "embed"), 0.0)
    )

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - began

    def refuse(self, row: int, reason: Reason, error: str = "") -> None:
        self.refused.append(reason)
        self.last[row] = reason, error


Pictures = Sequence[NDArray[np.uint8] | None]
"""Pictures that the generator drew for each row of a batch; None where it failed."""


@dataclass(frozen=True)
class Painter:
    """The two halves of drawing a batch of a shard: `generate` on one thread, `finish` on another."""

    plan: Plan
    rows: Sequence[Row]
    identities: Identities
    models: Models
    drawing: Drawing

    def generate(self, progress: Progress, batch: Batch) -> Pictures:
        """Vary the references, steer and draw."""
        varied = [
            self.drawing.variation.vary(self._reference(row), seed, self.rows[row].sigma) * self._norm(row)
            for row, seed in zip(batch.rows, batch.seeds, strict=True)
        ]
        progress.draws += len(batch.rows)
        return self._pictures(progress, batch.rows, batch.seeds, np.stack(varied))

    def _pictures(
        self, progress: Progress, rows: Sequence[int], seeds: Sequence[int], varied_Bd: NDArray[np.float32]
    ) -> Pictures:
        """Draw by one call for the batch; when it fails, one call per image, to find those that cannot be drawn."""
        generator = self.models.generator
        try:
            moved_Bd = self._steered(progress, rows, seeds, varied_Bd)
            with progress.timed("generate"):
                drawn_BHWC = generator.generate(moved_Bd, seeds)
        except IMAGE_FAILURES as error:
            if len(rows) == 1:
                progress.refuse(rows[0], "error", f"generator: {type(error).__name__}: {error}")
                return [None]
            return [
                self._pictures(progress, [row], [seed], varied_Bd[[b]])[0]
                for b, (row, seed) in enumerate(zip(rows, seeds, strict=True))
            ]
        shape = (len(rows), generator.image_size, generator.image_size, 3)
        assert drawn_BHWC.shape == shape, f"{drawn_BHWC.shape} from a generator of {generator.image_size} pixels"
        assert drawn_BHWC.dtype == np.uint8, drawn_BHWC.dtype
        return list(drawn_BHWC)

    def _steered(
        self, progress: Progress, rows: Sequence[int], seeds: Sequence[int], varied_Bd: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        control = self.drawing.control
        if control is None:
            return varied_Bd
        references_Bd = np.stack([self._reference(row) for row in rows])
        with progress.timed("steer"):
            moved_Bd, steps = control.steered(self.models, varied_Bd, seeds, references_Bd, self._targets(rows))
        progress.steps.update(zip(rows, steps, strict=True))
        return moved_Bd

    def _targets(self, rows: Sequence[int]) -> NDArray[np.float64]:
        return np.array([self.rows[row].targets for row in rows])

    def finish(self, progress: Progress, batch: Batch, pictures: Pictures) -> None:
        """Crop, encode, embed what will be stored; note what passes the gate and why the others do not."""
        drawn = [(b, picture) for b, picture in enumerate(pictures) if picture is not None]
        with progress.timed("crop"):
            cropped = self._cropped(progress, batch, drawn)
        with progress.timed("encode"):
            stored = [(b, jpeg.encode(image, self.drawing.jpeg_quality)) for b, image in cropped]
            decoded = [jpeg.decode(data) for _, data in stored]
        if not decoded:
            return
        with progress.timed("embed"):
            embedded_Bd = self.models.recognizer.embed(np.stack(decoded))
            judged = self._judged(batch, [b for b, _ in stored], decoded)
            outcomes = self._outcomes(progress, [batch.rows[b] for b, _ in stored], decoded)
        for (b, data), image_HWC, embedding_d, judge_cosine, outcome in zip(
            stored, decoded, embedded_Bd, judged, outcomes, strict=True
        ):
            self._decide(progress, batch, b, data, image_HWC, embedding_d, judge_cosine, outcome)

    def _cropped(
        self, progress: Progress, batch: Batch, drawn: Sequence[tuple[int, NDArray[np.uint8]]]
    ) -> list[tuple[int, NDArray[np.uint8]]]:
        """Return the crops that show one sharp face, with their place in the batch."""
        aligner, gate = self.models.aligner, self.drawing.gate
        seen = []
        for b, picture_HWC in drawn:
            if is_blank(picture_HWC):
                progress.refuse(batch.rows[b], "blank")
            else:
                seen.append((b, picture_HWC))
        crops = aligner.align(np.stack([picture for _, picture in seen])) if aligner and seen else None
        kept = []
        for n, (b, picture_HWC) in enumerate(seen):
            image_HWC, faces = (crops[n].image_HWC, crops[n].faces) if crops else (picture_HWC, 1)
            if image_HWC is None:
                progress.refuse(batch.rows[b], "no_face")
            elif gate.one_face and faces > 1:
                progress.refuse(batch.rows[b], "many_faces")
            elif gate.min_sharpness > 0 and sharpness(image_HWC) < gate.min_sharpness:
                progress.refuse(batch.rows[b], "blurred")
            else:
                kept.append((b, image_HWC))
        return kept

    def _judged(self, batch: Batch, places: Sequence[int], decoded: Sequence[NDArray[np.uint8]]) -> list[float]:
        """Return the judge's cosine of each image to the anchor of its identity; 1 without a judge."""
        judge, anchors_Nd = self.models.judge, self.identities.anchors_Nd
        if judge is None or anchors_Nd is None:
            return [1.0] * len(decoded)
        numbers = [self.rows[batch.rows[b]].identity - self.plan.first_identity for b in places]
        cosines = (judge.embed(np.stack(decoded)) * anchors_Nd[numbers]).sum(1)
        return [float(cosine) for cosine in cosines]

    def _outcomes(
        self, progress: Progress, rows: Sequence[int], decoded: Sequence[NDArray[np.uint8]]
    ) -> Sequence[Outcome | None]:
        control, reader = self.drawing.control, self.models.attributes
        if control is None or reader is None:
            return [None] * len(rows)
        return control.outcomes(reader, np.stack(decoded), self._targets(rows), [progress.steps[row] for row in rows])

    def _decide(
        self,
        progress: Progress,
        batch: Batch,
        b: int,
        data: bytes,
        image_HWC: NDArray[np.uint8],
        embedding_d: NDArray[np.float32],
        judge_cosine: float,
        outcome: Outcome | None,
    ) -> None:
        place, gate = batch.rows[b], self.drawing.gate
        if not np.isfinite(embedding_d).all():
            progress.refuse(place, "no_embedding")
            return
        cosine = round(float(embedding_d @ self._reference(place)), 6)
        progress.best_cosine[place] = max(cosine, progress.best_cosine.get(place, -2.0))
        if cosine < gate.min_cosine:
            progress.refuse(place, "cosine")
        elif not self._anchored(place):
            progress.refuse(place, "no_anchor")
        elif not judge_cosine >= gate.min_judge_cosine:  # a judge that gives no number refuses
            progress.refuse(place, "judge")
        else:
            row, seed = self.rows[place], batch.seeds[b]
            name = key(row.identity, row.image)
            sample = Sample(name, row.identity, row.image, data, seed, batch.attempt, cosine, embedding_d, outcome)
            self._keep(progress, place, sample, difference_hash(image_HWC))

    def _keep(self, progress: Progress, place: int, sample: Sample, looks: int) -> None:
        """Keep a draw that shows its identity, unless it misses a target and is drawn again."""
        control = self.drawing.control
        miss = control.miss(sample.control) if control and control.redraw and sample.control else 0.0
        if miss == 0:
            progress.passed[place] = sample, looks
        else:
            progress.refuse(place, "attribute")
            before = progress.missed.get(place)
            if before is None or miss < before[0]:
                progress.missed[place] = miss, sample, looks

    def _anchored(self, place: int) -> bool:
        anchors_Nd = self.identities.anchors_Nd
        if anchors_Nd is None:
            return True
        return bool(np.isfinite(anchors_Nd[self.rows[place].identity - self.plan.first_identity]).all())

    def _norm(self, place: int) -> np.float32:
        norms_N = self.identities.norms_N
        return np.float32(1) if norms_N is None else norms_N[self.rows[place].identity - self.plan.first_identity]

    def _reference(self, place: int) -> NDArray[np.float32]:
        row_d: NDArray[np.float32] = self.identities.references_Nd[self.rows[place].identity - self.plan.first_identity]
        return row_d
