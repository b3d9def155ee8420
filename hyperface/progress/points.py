"""How far a stage is, in numbers: what metrics and curves are made of; and when it is time to say so."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from hyperface.progress.logs import say

Told = TypeVar("Told")


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


def harmless(make: Callable[[], Callable[[Told], object]], what: str) -> Callable[[Told], None]:
    """A watch that ends nothing: the first error of what `make` makes is said, and it is told nothing more.

    Args:
        make: called when there is something to tell.
        what: is lost with it; the line begins with that.
    """
    watch: Callable[[Told], object] | None = None
    lost = False

    def tell(told: Told) -> None:
        nonlocal watch, lost
        if lost:
            return
        try:
            watch = watch or make()
            watch(told)
        except Exception as error:  # whatever it is: nothing that a job makes depends on who watches it
            lost = True
            say(f"{what}: {type(error).__name__}: {' '.join(str(error).split())}; the job goes on without them")

    return tell


class Every:
    """Whether it is time for another line: not more than one in so many seconds, counted from here."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._said = seconds, time.monotonic()

    def __call__(self) -> bool:
        now = time.monotonic()
        if now - self._said < self._seconds:
            return False
        self._said = now
        return True
