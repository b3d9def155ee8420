"""Checkpoints of a packing: the state of every row, and rank 0's record of the steps so far."""

from dataclasses import asdict, dataclass, field
from typing import TypedDict

import torch

from hyperface.distributed.checkpoints import Checkpoints
from hyperface.packing.partition import Partition
from hyperface.packing.result import Measures, Progress
from hyperface.packing.solver import State
from hyperface.run.names import CHECKPOINTS
from hyperface.storage import Store

ROWS = ("x_LD", "mean_LD", "square_LD", "count_L", "near_L", "wall_L", "best_LD")
"""Tensors of a state that belong to its rows."""


@dataclass
class History:
    """The record of the steps so far; rank 0's is kept in the marker."""

    before: Measures | None
    """Measures of the start; None where the result is the start, and is measured itself."""
    progress: list[Progress] = field(default_factory=list)


class Marker(TypedDict):
    step: int
    seconds: float
    looked_step: int
    before: Measures | None
    progress: list[Progress]


def of(store: Store) -> Checkpoints:
    """Return the checkpoints of a run's packing."""
    return Checkpoints(store, CHECKPOINTS)


def save(store: Store, state: State, history: History, partition: Partition) -> None:
    """Write a checkpoint: rows first, then, when all ranks have written theirs, rank 0's marker; older ones go. Every
    rank calls it.

    Raises:
        StorageError: it cannot be written; the checkpoint before stays valid.
    """
    tensors = {name: getattr(state, name) for name in ROWS}
    seen = torch.tensor([float(state.best), float(state.max_cosine), state.looked_best], dtype=torch.float64)
    of(store).put_rows(state.step, partition.own, tensors, {"seen": seen})
    _wait_for_all(state, partition)
    if partition.rank == 0:
        counts = {"step": state.step, "seconds": state.seconds, "looked_step": state.looked_step}
        of(store).finish(state.step, partition.sizes, {**counts, **asdict(history)})


def load(store: Store, partition: Partition, device: torch.device) -> tuple[State, History] | None:
    """Read the newest checkpoint with a marker, of it the rows that this rank owns; None when there is none.

    Every rank calls it, and all take the one that rank 0 saw: a rank of a dying group may still write another.
    """
    found = of(store)
    step = int(partition.each(torch.tensor(found.newest(), device=device))[0])
    if step < 0:
        return None
    marker, parts = found.marker(step, Marker), []
    for own, rows in found.parts(step, partition.own):
        parts.append({column: rows[column][own] for column in ROWS})
        seen = rows["seen"]
    x_LD, mean_LD, square_LD, count_L, near_L, wall_L, best_LD = (
        torch.cat([part[column] for part in parts]).to(device) for column in ROWS
    )
    best, max_cosine, looked_best = seen.to(x_LD.dtype).to(device).unbind()
    state = State(x_LD, mean_LD, square_LD, count_L, near_L, wall_L, best_LD, best, max_cosine)
    state.step, state.seconds, state.looked_step = marker["step"], marker["seconds"], marker["looked_step"]
    state.looked_best = float(looked_best)
    return state, History(marker["before"], marker["progress"])


def clear(store: Store) -> None:
    """Delete every checkpoint."""
    of(store).clear()


def _wait_for_all(state: State, partition: Partition) -> None:
    partition.each(state.x_LD.new_zeros(()))
