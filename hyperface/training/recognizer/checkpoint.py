"""Checkpoints of a training: each rank's centres, and rank 0's network, momentum and progress."""

from typing import Annotated, Any, TypedDict

import torch

from hyperface.distributed.checkpoints import Checkpoints
from hyperface.run import Run
from hyperface.run.shapes import TWO
from hyperface.training.folder import Folder
from hyperface.training.progress import Progress, Told
from hyperface.training.recognizer.trainer import Training


class Marker(TypedDict):
    step: int
    seconds: float
    norms: Annotated[list[float], TWO]
    """Their mean and deviation."""
    scale: dict[str, Any]
    progress: Told


def of(run: Run) -> Checkpoints:
    """Where the training of a run keeps them."""
    return Folder(run, "train").checkpoints


def save(run: Run, training: Training, progress: Progress) -> None:
    """Every rank calls it. Centres and network first; when all ranks have written theirs, the marker.

    Raises:
        RunError: the loss is no number any more; nothing is saved.
        StorageError: it cannot be written; the checkpoint before stays valid.
    """
    progress.look()
    place, centres, found = training.place, training.centres, of(run)
    rows = {"weight": centres.weight_cD, "momentum": centres.momentum_cD}
    found.put_rows(training.step, training.ranks.own_classes, rows)
    if place.rank == 0:
        found.put(training.step, "network", training.network.state_dict())
        found.put(training.step, "momentum", training.momentum())
    place.wait_for_all()
    if place.rank == 0:
        marker = {
            "step": training.step,
            "seconds": training.seconds,
            "norms": [centres.norms.mean, centres.norms.deviation],
            "scale": training.scaler.state_dict(),
            "progress": progress.state(),
        }
        found.finish(training.step, training.ranks.classes, marker)


def load(run: Run, training: Training, progress: Progress) -> None:
    """Put the newest checkpoint's state into the training and its progress, if there is one.

    Every rank calls it, and all take the one that rank 0 saw: a rank of a dying group may still write another.
    """
    found, place = of(run), training.place
    step = place.agreed(found.newest())
    if step < 0:
        return
    marker, centres = found.marker(step, Marker), training.centres
    training.network.load_state_dict(found.read(step, "network"))
    training.put_momentum(found.read(step, "momentum"))
    read = found.parts(step, training.ranks.own_classes)
    parts = [(rows["weight"][own], rows["momentum"][own]) for own, rows in read]
    if parts:
        weight_cD, momentum_cD = (torch.cat(column).to(place.device) for column in zip(*parts, strict=True))
        centres.weight_cD, centres.momentum_cD = weight_cD, momentum_cD
    centres.norms.mean, centres.norms.deviation = marker["norms"]
    if marker["scale"]:
        training.scaler.load_state_dict(marker["scale"])
    training.step, training.seconds = marker["step"], marker["seconds"]
    progress.restore(marker["progress"])
