"""Real faces that synthetic ones are compared with: a table of embeddings, the person of each row, and its pictures.

Shape legend: G rows of a table, D embedding dimension.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hyperface.faces.source import ARCHIVES

Name = str | int
Pictures = Callable[[Sequence[Name]], Mapping[Name, NDArray[np.uint8]]]
"""Names of faces to their pictures, uint8 RGB [H, W, 3]; those that can be read."""


@dataclass(frozen=True)
class RealTable:
    """Rows in the order of their people."""

    name: str
    """Name of the table: `gallery`, `packing.protected`, or as it was given in `audit.against`."""
    keys: list[Name]
    people_G: NDArray[np.int64]
    """Number of each row's person, ascending; rows of one number are one person."""
    rows: Mapping[str, NDArray[np.float32]]
    """Rows by each network, {network: unit rows [G, D], NaN where it has no embedding}; a network that never saw the
    faces is missing."""
    pictures: Pictures | None
    no_pictures: str
    """Reason why there are no pictures."""


def real_table(
    name: str,
    keys: Sequence[Name],
    rows: Mapping[str, NDArray[np.float32]],
    classes: Literal["folder", "each"],
    pictures: Pictures | None = None,
    no_pictures: str = "no pictures of this table",
) -> RealTable:
    """A table with its rows in the order of their people."""
    people_G = people(keys, classes)
    order_G = np.argsort(people_G, kind="stable")
    ordered = {network: rows_GD[order_G] for network, rows_GD in rows.items()}
    return RealTable(name, [keys[i] for i in order_G], people_G[order_G], ordered, pictures, no_pictures)


def people(keys: Sequence[Name], classes: Literal["folder", "each"]) -> NDArray[np.int64]:
    """Return a number for the person of each face.

    Args:
        classes: `folder`: faces of one folder are of one person, faces without a folder each of one of their own, and
            the number of an identity is its person. `each`: every face is of another person.
    """
    if classes == "each":
        return np.arange(len(keys))
    persons = [key if isinstance(key, int) else _folder(key) or f"\0{i}" for i, key in enumerate(keys)]
    numbers: dict[Name, int] = {}
    return np.array([numbers.setdefault(person, len(numbers)) for person in persons], np.int64)


def _folder(key: str) -> str:
    """Return the folder in a key, not counting an archive: that is a shard, and no person."""
    parts = PurePosixPath(key).parts
    inside = next((i + 1 for i, part in enumerate(parts) if part.lower().endswith((*ARCHIVES, ".parquet"))), 0)
    return "/".join(parts[inside:-1])
