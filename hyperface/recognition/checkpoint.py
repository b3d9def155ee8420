"""Checkpoints of a training: each rank's centres, and rank 0's network, momentum and progress."""

import torch

from hyperface.checkpoints import Checkpoints
from hyperface.recognition.trainer import Training
from hyperface.run import RECOGNITION, Run


def of(run: Run) -> Checkpoints:
    """Where the training of a run keeps them."""
    return Checkpoints(run.store, f"{RECOGNITION}/{run.config.train.name}/checkpoints")


def save(run: Run, training: Training, history: list[dict[str, float]]) -> None:
    """Every rank calls it. Centres and network first; when all ranks have written theirs, the marker.

    Raises:
        StorageError: it cannot be written; the checkpoint before stays valid.
    """
    place, centres, found = training.place, training.centres, of(run)
    own = training.ranks.own_classes
    found.put_rows(training.step, own, {"weight": centres.weight_cD, "momentum": centres.momentum_cD})
    if place.rank == 0:
        found.put(
            training.step,
            "network",
            {k: v.detach().cpu().contiguous() for k, v in training.network.state_dict().items()},
        )
        found.put(training.step, "momentum", {k: v.detach().cpu().contiguous() for k, v in training.momentum().items()})
    _wait_for_all(training)
    if place.rank == 0:
        marker = {
            "step": training.step,
            "seconds": training.seconds,
            "norms": [centres.norms.mean, centres.norms.deviation],
            "scale": training.scaler.state_dict(),
            "history": history,
        }
        found.finish(training.step, training.ranks.classes, marker)


def load(run: Run, training: Training) -> list[dict[str, float]]:
    """Put the newest checkpoint's state into the training; its recorded steps, none without a checkpoint.

    Every rank calls it, and all take the one that rank 0 saw: a rank of a dying group may still write another.
    """
    found, place = of(run), training.place
    mine = torch.tensor(found.newest(), device=place.device)
    step = int(place.group.gather(mine[None], (1,) * place.world)()[0])
    if step < 0:
        return []
    marker, centres = found.marker(step), training.centres
    training.network.load_state_dict(found.read(step, "network"))
    training.put_momentum(found.read(step, "momentum"))
    parts = list(found.parts(step, training.ranks.own_classes))
    if parts:
        centres.weight_cD = torch.cat([rows["weight"][own] for own, rows in parts]).to(place.device)
        centres.momentum_cD = torch.cat([rows["momentum"][own] for own, rows in parts]).to(place.device)
    centres.norms.mean, centres.norms.deviation = marker["norms"]
    if marker["scale"]:
        training.scaler.load_state_dict(marker["scale"])
    training.step, training.seconds = marker["step"], marker["seconds"]
    history: list[dict[str, float]] = marker["history"]
    return history


def _wait_for_all(training: Training) -> None:
    here = torch.zeros(1, device=training.place.device)
    training.place.group.gather(here, (1,) * training.place.world)()
