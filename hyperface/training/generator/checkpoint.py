"""Checkpoints of a generator's training: rank 0's networks and moments, and its progress."""

from typing import TypedDict

from hyperface.distributed.checkpoints import Checkpoints
from hyperface.run import Run
from hyperface.training.folder import Folder
from hyperface.training.generator.trainer import Training, moments, put_moments
from hyperface.training.progress import Progress, Told


class Marker(TypedDict):
    step: int
    seconds: float
    norm: float
    progress: Told


def of(run: Run) -> Checkpoints:
    """Where the training of a run keeps them."""
    return Folder(run, "train_generator").checkpoints


def save(run: Run, training: Training, progress: Progress) -> None:
    """Every rank calls it; all have the same weights, and rank 0 writes them, then the marker.

    Raises:
        RunError: the loss is no number any more; nothing is saved.
        StorageError: it cannot be written; the checkpoint before stays valid.
    """
    progress.look()
    if training.place.rank == 0:
        found = of(run)
        found.put(training.step, "network", training.network.state_dict())
        found.put(training.step, "moments", moments(training.network, training.optimizer))
        if training.opponent is not None:
            found.put(training.step, "discriminator", training.opponent.network.state_dict())
            opposing = moments(training.opponent.network, training.opponent.optimizer)
            found.put(training.step, "discriminator-moments", opposing)
        marker = {
            "step": training.step,
            "seconds": training.seconds,
            "norm": training.norm,
            "progress": progress.state(),
        }
        found.finish(training.step, (), marker)
    training.place.wait_for_all()


def load(run: Run, training: Training, progress: Progress) -> None:
    """Put the newest checkpoint's state into the training and its progress, if there is one.

    Every rank calls it, and all take the one that rank 0 saw: a rank of a dying group may still write another.
    """
    found = of(run)
    step = training.place.agreed(found.newest())
    if step < 0:
        return
    marker = found.marker(step, Marker)
    training.network.load_state_dict(found.read(step, "network"))
    put_moments(training.network, training.optimizer, found.read(step, "moments"))
    if training.opponent is not None:
        training.opponent.network.load_state_dict(found.read(step, "discriminator"))
        opposing = found.read(step, "discriminator-moments")
        put_moments(training.opponent.network, training.opponent.optimizer, opposing)
    training.step, training.seconds, training.norm = marker["step"], marker["seconds"], marker["norm"]
    progress.restore(marker["progress"])
