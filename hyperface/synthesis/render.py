"""One shard: draw every planned image, and draw again what the gate refuses.

The generator runs on the calling thread. What comes after it runs on another one, behind a short queue, so that a GPU
draws the next batch while the last one is cropped, encoded and embedded.

R: rows planned for the shard.
"""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np

from hyperface.dataset.marker import Reject, Statistics
from hyperface.dataset.plan import Plan, image_seed, key
from hyperface.dataset.schema import Sample
from hyperface.errors import RenderError
from hyperface.models.protocols import Models
from hyperface.synthesis import steering
from hyperface.synthesis.drawing import Batch, Drawing, Identities, Painter, Progress, Row
from hyperface.synthesis.quality import Reason, count

BATCHES_BEHIND = 2
"""Number of batches that may wait for what comes after the generator: enough that it never waits, few enough to fit in
memory."""


SHOWS_NOTHING: tuple[Reason, ...] = ("error", "blank", "no_face", "no_embedding")
"""Reasons that say more of a broken model than of an image, when there is no other in a whole shard."""


TELLING_ROWS = 8
"""Images of a shard below which such a shard may be bad luck: the last one may hold a single image."""


@dataclass(frozen=True)
class RenderedShard:
    samples: list[Sample]
    """Samples in the order of the plan."""
    hashes: list[int]
    """`difference_hash` of each sample's image."""
    rejects: list[Reject]
    """The planned images that are missing in `samples`, in the order of the plan."""
    statistics: Statistics
    seconds: dict[str, float]
    """Seconds spent to steer and generate, and on the other thread to crop, encode and embed."""
    control: dict[str, dict[str, int]]
    """Samples by attribute and outcome, {attribute: {met: images, not_met: images}}; empty where none is steered."""


def render_shard(
    plan: Plan,
    shard: int,
    identities: Identities,
    models: Models,
    drawing: Drawing,
    turn: AbstractContextManager[object] | None = None,
) -> RenderedShard:
    """Draw the images of one shard.

    The first attempt draws all planned rows in batches, each further attempt those that were refused, again in such
    batches: which images share a batch depends on the plan and the models alone. The cosine of an image is that of its
    decoded JPEG, so it describes what is stored.

    Args:
        turn: entered before the generator is first called and left after it was last called, so that threads can share
            one generator.

    Raises:
        RenderError: the first attempt failed for every image with an error, or no draw of any image shows a face.
    """
    rows = _rows(plan, shard, drawing)
    progress, painter = Progress(), Painter(plan, rows, identities, models, drawing)
    with turn or nullcontext():
        for attempt in range(drawing.max_attempts):
            _attempt(painter, progress, attempt)
            if attempt == 0 and progress.refused.count("error") == len(rows):
                raise RenderError(f"shard {shard}: not one image could be drawn; the first: {progress.last[0][1]}")
    for place, (_, sample, looks) in progress.missed.items():
        progress.passed.setdefault(place, (sample, looks))
    enough = len(rows) >= TELLING_ROWS
    if enough and len(progress.refused) == progress.draws and set(progress.refused) <= set(SHOWS_NOTHING):
        refused = ", ".join(f"{number} {reason}" for reason, number in count(progress.refused).items())
        raise RenderError(
            f"shard {shard}: not one of {progress.draws} draws shows a face ({refused}); check the models"
        )
    return _finished(progress, rows, drawing)


def _rows(plan: Plan, shard: int, drawing: Drawing) -> list[Row]:
    identities_R, images_R = (numbers.tolist() for numbers in plan.shard(shard))
    each, control = plan.images_per_identity, drawing.control
    there = sorted(set(identities_R))
    sigmas = {identity: drawing.variation.image_sigmas(plan.seed, identity, each) for identity in there}
    targets = {identity: control.image_targets(plan.seed, identity, each) for identity in there if control}
    return [
        Row(i, j, float(sigmas[i][j]), tuple(targets[i][j].tolist()) if control else ())
        for i, j in zip(identities_R, images_R, strict=True)
    ]


def _attempt(painter: Painter, progress: Progress, attempt: int) -> None:
    """Draw once each row that has not passed; returns when what comes after the generator is done as well."""
    rows, size, behind = painter.rows, painter.drawing.batch_size, deque[Future[None]]()
    pending = [place for place in range(len(rows)) if place not in progress.passed]
    with ThreadPoolExecutor(1) as finisher:
        for begin in range(0, len(pending), size):
            places = pending[begin : begin + size]
            seeds = [image_seed(painter.plan.seed, rows[p].identity, rows[p].image, attempt) for p in places]
            batch = Batch(places, seeds, attempt)
            pictures = painter.generate(progress, batch)
            if len(behind) == BATCHES_BEHIND:
                behind.popleft().result()
            behind.append(finisher.submit(painter.finish, progress, batch, pictures))
        while behind:
            behind.popleft().result()


def _finished(progress: Progress, rows: Sequence[Row], drawing: Drawing) -> RenderedShard:
    there = [progress.passed[place] for place in range(len(rows)) if place in progress.passed]
    samples, hashes = [sample for sample, _ in there], [value for _, value in there]
    rejects = [
        Reject(
            key(row.identity, row.image),
            row.identity,
            row.image,
            drawing.max_attempts,
            progress.best_cosine.get(place),
            *progress.last[place],
        )
        for place, row in enumerate(rows)
        if place not in progress.passed
    ]
    mean = round(float(np.mean([s.cosine for s in samples])), 6) if samples else 0.0
    statistics = Statistics(progress.draws, progress.draws - len(rows), count(progress.refused), mean)
    seconds = {part: round(spent, 3) for part, spent in progress.seconds.items()}
    met = steering.count([sample.control for sample in samples])
    return RenderedShard(samples, hashes, rejects, statistics, seconds, met)
