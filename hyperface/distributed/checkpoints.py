"""Checkpoints of a stage whose rows are shared among ranks: any number of ranks goes on from what any number wrote.

ROOT/step-000012000/rows-0000000000-0000005000.safetensors    global row ranges, one or more per rank
ROOT/step-000012000/marker.json                               last; names the objects it vouches for
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from hyperface.distributed.ranks import part_of
from hyperface.errors import RunError
from hyperface.reading.one_line import one_line
from hyperface.run.records import Shape, shaped, to_json
from hyperface.storage import Store

KEEP = 2
"""Number of the newest checkpoints that stay."""
ROWS_EACH = 2**18
"""Most rows of an object: S3 takes 5 GiB in one piece, and a rank reads no more than it owns, or little more."""


class _Objects(TypedDict):
    objects: list[str]


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints under one folder of a store."""

    store: Store
    root: str

    def folder(self, step: int) -> str:
        return f"{self.root}/step-{step:09d}"

    def put_rows(
        self, step: int, rows: slice, tensors: Mapping[str, Tensor], beside: Mapping[str, Tensor] | None = None
    ) -> None:
        """Write one rank's rows [start, stop) of all, in objects of ROWS_EACH.

        Args:
            tensors: a row of each for each row.
            beside: tensors that are no rows, and go into every object.

        Raises:
            StorageError: it cannot be written; the checkpoint before stays valid.
        """
        for part in _parts(rows):
            own = slice(part.start - rows.start, part.stop - rows.start)
            of_part = {name: tensor[own] for name, tensor in tensors.items()}
            self.put(step, _rows_name(part), {**of_part, **(beside or {})})

    def put(self, step: int, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Write tensors that are no rank's own; one rank calls it."""
        contents = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        self.store.put(f"{self.folder(step)}/{name}.safetensors", safetensors.torch.save(contents))

    def finish(self, step: int, sizes: Sequence[int], marker: Mapping[str, Any]) -> None:
        """Write the marker, once every rank's rows are written; then the oldest checkpoints go. One rank calls it.

        Args:
            sizes: rows of each rank.
        """
        parts = [part for rank in range(len(sizes)) for part in _parts(part_of(sizes, rank))]
        names = [f"{self.folder(step)}/{_rows_name(part)}.safetensors" for part in parts]
        self.store.put(f"{self.folder(step)}/marker.json", to_json({**marker, "objects": names}))
        for old in sorted(self._marked())[:-KEEP]:
            self._delete(self.folder(old))

    def newest(self) -> int:
        """Return the step of the newest checkpoint with a marker; -1 when there is none."""
        return max(self._marked(), default=-1)

    def marker(self, step: int, shape: type[Shape]) -> Shape:
        """Read a marker. Raises RunError: it is damaged; names it, and the place in it."""
        return shaped(self.store, f"{self.folder(step)}/marker.json", shape)

    def read(self, step: int, name: str) -> dict[str, Tensor]:
        """Read an object's tensors. Raises RunError: it is missing or damaged; names it."""
        return self._tensors(f"{self.folder(step)}/{name}.safetensors")

    def parts(self, step: int, rows: slice) -> Iterator[tuple[slice, dict[str, Tensor]]]:
        """Yield (which of its rows are wanted, its tensors) of every object that holds some of `rows`, in their
        order."""
        for name in self.marker(step, _Objects)["objects"]:
            start, stop = (int(number) for number in name.removesuffix(".safetensors").split("-")[-2:])
            own = slice(max(start, rows.start) - start, min(stop, rows.stop) - start)
            if own.start < own.stop:
                yield own, self._tensors(name)

    def clear(self) -> None:
        """Delete every checkpoint, markers first."""
        self._delete(self.root)

    def _tensors(self, name: str) -> dict[str, Tensor]:
        uri = self.store.uri(name)
        fix = f"delete the folder of this checkpoint, and the job goes on from the one before ({KEEP} are kept)"
        try:
            return safetensors.torch.load(self.store.read(name))
        except FileNotFoundError as error:
            raise RunError(f"{uri}: is missing although the checkpoint's marker names it; {fix}") from error
        except (SafetensorError, KeyError, ValueError) as error:
            raise RunError(f"{uri}: is damaged ({one_line(error)}); {fix}") from error

    def _marked(self) -> list[int]:
        names = (name.split("/") for name in self.store.list(self.root))
        return [int(place.removeprefix("step-")) for *_, place, file in names if file == "marker.json"]

    def _delete(self, prefix: str) -> None:
        """Delete objects, markers first: a checkpoint of which an object is gone must not look whole."""
        for name in sorted(self.store.list(prefix), key=lambda name: not name.endswith("marker.json")):
            self.store.delete(name)


def _parts(rows: slice) -> list[slice]:
    """Return the objects that hold a rank's rows; one also where it has none."""
    starts = range(rows.start, max(rows.stop, rows.start + 1), ROWS_EACH)
    return [slice(start, min(start + ROWS_EACH, rows.stop)) for start in starts]


def _rows_name(rows: slice) -> str:
    return f"rows-{rows.start:010d}-{rows.stop:010d}"
