"""Checkpoints of a stage whose rows are shared among ranks: any number of ranks goes on from what any number wrote.

ROOT/step-000012000/rows-0000000000-0000005000.safetensors    global row ranges, one per rank
ROOT/step-000012000/marker.json                               last; names the objects it vouches for
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import safetensors.torch
from torch import Tensor

from hyperface.run import to_json
from hyperface.storage import Store

KEEP = 2
"""Newest checkpoints that stay."""


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints under one folder of a store."""

    store: Store
    root: str

    def folder(self, step: int) -> str:
        return f"{self.root}/step-{step:09d}"

    def put_rows(self, step: int, rows: slice, tensors: Mapping[str, Tensor]) -> None:
        """One rank's rows [start, stop) of all. Raises StorageError; the checkpoint before stays valid."""
        self.put(step, _rows_name(rows.start, rows.stop), tensors)

    def put(self, step: int, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Tensors that are no rank's own, for one rank to write."""
        contents = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        self.store.put(f"{self.folder(step)}/{name}.safetensors", safetensors.torch.save(contents))

    def finish(self, step: int, sizes: Sequence[int], marker: Mapping[str, Any]) -> None:
        """The marker, once every rank's rows are written; then the oldest checkpoints go. One rank calls it."""
        starts = [sum(sizes[:rank]) for rank in range(len(sizes))]
        names = [
            f"{self.folder(step)}/{_rows_name(start, start + size)}.safetensors"
            for start, size in zip(starts, sizes, strict=True)
        ]
        self.store.put(f"{self.folder(step)}/marker.json", to_json({**marker, "objects": names}))
        for old in sorted(self._marked())[:-KEEP]:
            self._delete(self.folder(old))

    def newest(self) -> int:
        """The step of the newest checkpoint with a marker; -1 when there is none."""
        return max(self._marked(), default=-1)

    def marker(self, step: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.store.read(f"{self.folder(step)}/marker.json"))
        return found

    def read(self, step: int, name: str) -> dict[str, Tensor]:
        return safetensors.torch.load(self.store.read(f"{self.folder(step)}/{name}.safetensors"))

    def parts(self, step: int, rows: slice) -> Iterator[tuple[slice, dict[str, Tensor]]]:
        """(which of its rows are wanted, its tensors) of every object that holds some of `rows`, in their order."""
        for name in self.marker(step)["objects"]:
            start, stop = (int(number) for number in name.removesuffix(".safetensors").split("-")[-2:])
            own = slice(max(start, rows.start) - start, min(stop, rows.stop) - start)
            if own.start < own.stop:
                yield own, safetensors.torch.load(self.store.read(name))

    def clear(self) -> None:
        """Delete every checkpoint, markers first."""
        self._delete(self.root)

    def _marked(self) -> list[int]:
        names = (name.split("/") for name in self.store.list(self.root))
        return [int(place.removeprefix("step-")) for *_, place, file in names if file == "marker.json"]

    def _delete(self, prefix: str) -> None:
        """Markers first: a checkpoint of which an object is gone must not look whole."""
        for name in sorted(self.store.list(prefix), key=lambda name: not name.endswith("marker.json")):
            self.store.delete(name)


def _rows_name(start: int, stop: int) -> str:
    return f"rows-{start:010d}-{stop:010d}"
