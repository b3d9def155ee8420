"""The loop that every training shares: from the newest checkpoint, step by step, to its results."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TypedDict

from hyperface.distributed.checkpoints import Checkpoints
from hyperface.distributed.place import Stepped
from hyperface.distributed.ranks import speaker
from hyperface.progress.logs import Line
from hyperface.progress.meter import Watch
from hyperface.training import loader
from hyperface.training.folder import Folder
from hyperface.training.progress import Progress, Told
from hyperface.training.training import Training


class Marker(TypedDict):
    """The part of a checkpoint's marker that every training has."""

    step: int
    seconds: float
    progress: Told


def train(folder: Folder, training: Training, say: Callable[[str], None] | None, watch: Watch) -> None:
    """Train from the newest checkpoint to the last step; rank 0 writes the results. Every rank calls it.

    Args:
        say: called with each line of progress, on rank 0; None: standard output.
        watch: called with every recorded step.

    Raises:
        RunError: the loss is no number any more, or an image cannot be read.
        StorageError: something cannot be read or written; the newest checkpoint stays.
    """
    images, place, config = training.images, training.place, training.config
    progress = Progress(training, speaker(place.rank, say), folder.section, watch)
    load(folder.checkpoints, training, progress)
    training.prepare(progress.say)
    where = f"{place.world} worker{'s' if place.world > 1 else ''} on {place.device.type}"
    progress.say(
        f"{folder.section}: {images.num_images} images of {images.num_classes} identities{images.left_out}, "
        f"{training.last_step} steps of {config.batch_size}, from step {training.step}, {where}"
    )
    saved = training.step
    for stepped in steps_left(training):
        progress.add(stepped)
        if stepped.step % training.steps.count == 0 or stepped.step - saved >= config.checkpoint_every:
            save(folder.checkpoints, training, progress)
            saved = stepped.step
    progress.meter.close()
    if place.rank == 0:
        folder.finish(training, progress)
        uri = folder.run.store.uri(folder.network)
        progress.say(Line(folder.section, f"loss {progress.loss:.3f}, {training.seconds:.0f} s -> {uri}"))


def steps_left(training: Training) -> Iterator[Stepped]:
    """Take the steps that are left, epoch after epoch, each in its own order; after a step the state may be saved."""
    config = training.config
    training.parallel.train()
    while training.step < training.last_step:
        epoch, first = divmod(training.step, training.steps.count)
        own, order = training.place.streams(config.streams), loader.order_of(config.seed, epoch)
        size, threads = training.image_size, config.loader_threads
        parts = loader.batches(training.images, training.steps, own, order, first, size, threads)
        with contextlib.closing(parts):
            began = time.monotonic()
            for images_bSSC, labels_b in parts:
                stepped = training.take(images_bSSC, labels_b)
                training.seconds += time.monotonic() - began
                yield stepped
                began = time.monotonic()


def save(checkpoints: Checkpoints, training: Training, progress: Progress) -> None:
    """Write a checkpoint: first each rank's part, and when all are there, the marker. Every rank calls it.

    Raises:
        RunError: the loss is no number any more; nothing is saved.
        StorageError: it cannot be written; the checkpoint before stays valid.
    """
    progress.look()
    written = training.write(checkpoints)
    training.place.wait_for_all()
    if training.place.rank == 0:
        marker = {**written, "step": training.step, "seconds": training.seconds, "progress": progress.state()}
        checkpoints.finish(training.step, training.shared_rows, marker)


def load(checkpoints: Checkpoints, training: Training, progress: Progress) -> None:
    """Put the newest checkpoint's state into the training and its progress, if there is one.

    Every rank calls it, and all take the one that rank 0 saw: a rank of a dying group may still write another.

    Raises:
        RunError: it is damaged; names the object.
    """
    step = training.place.agreed(checkpoints.newest())
    if step < 0:
        return
    marker = checkpoints.marker(step, Marker)
    training.read(checkpoints, step)
    training.step, training.seconds = marker["step"], marker["seconds"]
    progress.restore(marker["progress"])
