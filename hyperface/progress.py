"""How far a stage is, in numbers: what metrics and curves are made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Point:
    """One moment of a stage."""

    done: int
    """Units of work: chunks, steps, shards or pieces."""
    total: int
    values: Mapping[str, float] = field(default_factory=dict)
    """What else is known, by name; `cluster/metrics.py` says what each is."""


Watch = Callable[[Point], None]
"""Told of every moment that is worth recording."""


def unwatched(point: Point) -> None:
    """Nobody looks."""
