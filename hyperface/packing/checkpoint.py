"""Checkpoints of a packing: global row ranges, so that any number of ranks can go on from what any number wrote.

packing/checkpoints/step-000012000/rows-0000000000-0000005000.safetensors    one per rank
packing/checkpoints/step-000012000/marker.json                               last; names the objects it vouches for
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import safetensors.torch
import torch

from hyperface.packing.result import Measures, Progress
from hyperface.packing.shard import Shard
from hyperface.packing.solver import State
from hyperface.run import CHECKPOINTS, to_json
from hyperface.storage import Store

KEEP = 2
"""Newest checkpoints that stay."""
ROWS = ("x_LD", "mean_LD", "square_LD", "count_L", "near_L", "wall_L", "best_LD")
"""What of a state belongs to its rows."""


@dataclass
class History:
    """What is known of the steps so far; rank 0's is kept in the marker."""

    before: Measures
    """Of the start."""
    progress: list[Progress] = field(default_factory=list)


def folder(step: int) -> str:
    return f"{CHECKPOINTS}/step-{step:09d}"


def save(store: Store, state: State, history: History, shard: Shard) -> None:
    """Every rank calls it. Rows first, then, when all ranks have written theirs, rank 0's marker; older ones go.

    Raises:
        StorageError: it cannot be written; the checkpoint before stays valid.
    """
    place = folder(state.step)
    tensors = {name: getattr(state, name).cpu().contiguous() for name in ROWS}
    tensors["seen"] = torch.tensor([float(state.best), float(state.max_cosine), state.looked_best], dtype=torch.float64)
    names = [f"{place}/{_rows_name(start, start + size)}" for start, size in _ranges(shard)]
    contents = safetensors.torch.save(tensors)
    store.put(names[shard.rank], contents)
    _wait_for_all(state, shard)
    if shard.rank == 0:
        counts = {"step": state.step, "seconds": state.seconds, "looked_step": state.looked_step}
        marker = {**counts, "objects": names, **asdict(history)}
        store.put(f"{place}/marker.json", to_json(marker))
        for step in sorted(_marked_steps(store))[:-KEEP]:
            _delete(store, folder(step))


def load(store: Store, shard: Shard, device: torch.device) -> tuple[State, History] | None:
    """The newest checkpoint with a marker, of it the rows that this rank owns; None when there is none.

    Every rank calls it, and all take the one that rank 0 saw: a rank of a dying group may still write another.
    """
    newest = torch.tensor(max(_marked_steps(store), default=-1), device=device)
    step = int(shard.each(newest)[0])
    if step < 0:
        return None
    marker = json.loads(store.read(f"{folder(step)}/marker.json"))
    parts = []
    for name in marker["objects"]:
        start, stop = (int(number) for number in name.removesuffix(".safetensors").split("-")[-2:])
        own = slice(max(start, shard.own.start) - start, min(stop, shard.own.stop) - start)
        if own.start < own.stop:
            rows = safetensors.torch.load(store.read(name))
            parts.append({column: rows[column][own] for column in ROWS})
            seen = rows["seen"]
    x_LD, mean_LD, square_LD, count_L, near_L, wall_L, best_LD = (
        torch.cat([part[column] for part in parts]).to(device) for column in ROWS
    )
    best, max_cosine, looked_best = seen.to(x_LD.dtype).to(device).unbind()
    state = State(x_LD, mean_LD, square_LD, count_L, near_L, wall_L, best_LD, best, max_cosine)
    state.step, state.seconds, state.looked_step = (marker[name] for name in ("step", "seconds", "looked_step"))
    state.looked_best = float(looked_best)
    return state, _history(marker)


def clear(store: Store) -> None:
    """Delete every checkpoint, markers first."""
    _delete(store, CHECKPOINTS)


def _history(marker: dict[str, Any]) -> History:
    return History(Measures(**marker["before"]), [Progress(**row) for row in marker["progress"]])


def _marked_steps(store: Store) -> list[int]:
    names = (name.split("/") for name in store.list(CHECKPOINTS))
    return [int(place.removeprefix("step-")) for *_, place, file in names if file == "marker.json"]


def _delete(store: Store, prefix: str) -> None:
    """Markers first: a checkpoint of which an object is gone must not look whole."""
    for name in sorted(store.list(prefix), key=lambda name: not name.endswith("marker.json")):
        store.delete(name)


def _ranges(shard: Shard) -> list[tuple[int, int]]:
    return [(sum(shard.sizes[:rank]), size) for rank, size in enumerate(shard.sizes)]


def _rows_name(start: int, stop: int) -> str:
    return f"rows-{start:010d}-{stop:010d}.safetensors"


def _wait_for_all(state: State, shard: Shard) -> None:
    shard.each(state.x_LD.new_zeros(()))
