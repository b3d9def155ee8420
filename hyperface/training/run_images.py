"""Runs of this product as a training's images.

Shards are read whole, one after the other: their order, and the order inside, is shuffled for each epoch, and what lies
in a shard was put there by a global permutation.

R: rows of a shard.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from hyperface.dataset.source import Source
from hyperface.errors import RunError
from hyperface.run.records import digest
from hyperface.training.images import Item

_KEPT_SHARDS = 4
"""Number of shards that are kept, the last ones read, for streams that share one."""


@dataclass(frozen=True)
class RunImages:
    """The shards of one or more finished runs, whose classes are numbered one run after the other."""

    parts: tuple[Source, ...]
    _shards: dict[tuple[int, int], list[Item]] = field(default_factory=dict, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, compare=False)

    @cached_property
    def num_images(self) -> int:
        return int(self._sizes.sum())

    @cached_property
    def num_classes(self) -> int:
        return sum(len(part.classes.identities_C) for part in self.parts)

    @cached_property
    def fingerprint(self) -> str:
        return digest(f"{part.fingerprint} {part.index_sha256}" for part in self.parts)

    @property
    def fingerprint_of(self) -> str:
        return "the SHA-256 of every shard"

    @property
    def left_out(self) -> str:
        return ""

    @cached_property
    def _first_labels(self) -> list[int]:
        counts = [len(part.classes.identities_C) for part in self.parts]
        return [sum(counts[:part]) for part in range(len(counts))]

    @cached_property
    def _places(self) -> list[tuple[int, int]]:
        """Return (part, shard) of every shard."""
        return [(i, shard) for i, part in enumerate(self.parts) for shard in range(part.plan.num_shards)]

    @cached_property
    def _sizes(self) -> NDArray[np.int64]:
        """Return the number of images of every shard that are not left out."""
        sizes = [
            rows - (len(part.duplicates.intersection(part.plan.keys(shard))) if part.duplicates else 0)
            for part in self.parts
            for shard, rows in enumerate(part.rows)
        ]
        return np.array(sizes, np.int64)

    def stretch(self, order: int, begin: int, end: int) -> Iterator[Item]:
        shards = np.random.default_rng((order, 0)).permutation(len(self._sizes))
        ends = np.cumsum(self._sizes[shards])
        at, place = begin, int(np.searchsorted(ends, begin, side="right"))
        while at < end:
            shard = int(shards[place])
            first, last = int(ends[place] - self._sizes[shard]), int(ends[place])
            items = self._read(shard)
            rows = np.random.default_rng((order, 1, shard)).permutation(len(items))
            for row in rows[at - first : min(end, last) - first]:
                yield items[row]
            at, place = min(end, last), place + 1

    def _read(self, shard: int) -> list[Item]:
        """Read the images of a shard."""
        part, number = self._places[shard]
        with self._lock:
            if found := self._shards.pop((part, number), None):
                self._shards[part, number] = found  # the last that was asked for
                return found
        items = self._items(part, number)
        if len(items) != self._sizes[shard]:
            raise RunError(f"{self.parts[part].run}: shard {number} must hold {self._sizes[shard]} images")
        with self._lock:
            self._shards[part, number] = items
            for old in list(self._shards)[:-_KEPT_SHARDS]:
                del self._shards[old]
        return items

    def _items(self, part: int, number: int) -> list[Item]:
        source = self.parts[part]
        images = source.read(number, proven=True)
        identities = source.classes.identities_C
        given_R = np.array(images.identities, np.int64)
        labels_R = np.minimum(source.classes.labels(given_R), len(identities) - 1)
        if len(wrong := np.flatnonzero(identities[labels_R] != given_R)):
            key, identity = images.keys[wrong[0]], given_R[wrong[0]]
            uri, span = source.run.store.uri(source.files[number].name), f"{identities[0]} to {identities[-1]}"
            rule = f"{key} has the label {identity}, which is no identity of this run ({span})"
            raise RunError(f"{uri}: {rule}; file and marker were replaced: restore both, or make the dataset again")
        labels = (labels_R + self._first_labels[part]).tolist()
        return [
            Item(key, label, partial(bytes, jpeg))
            for key, label, jpeg in zip(images.keys, labels, images.jpegs, strict=True)
        ]
