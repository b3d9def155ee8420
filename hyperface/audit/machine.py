"""The device on which rows are compared, and the progress that is reported: a million images take hours."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from hyperface.progress.points import Every


@dataclass(frozen=True)
class Machine:
    """A device, and a function that hears about progress."""

    device: str = "cpu"
    """Name of a torch device."""
    say: Callable[[str], None] | None = None
    """Function that is called with a line every `seconds`; None: nobody hears."""
    seconds: float = 30.0
    what: str = "rows"
    """Name of the work, as a line of progress calls it."""

    def at(self, what: str) -> "Machine":
        """Return a machine that is busy with `what`, else the same."""
        return replace(self, what=what)

    def begin(self, unit: str, total: int) -> "Progress":
        """Begin work of so many units."""
        return Progress(self, unit, total)


CPU = Machine()


class Progress:
    """Counter of the share of some work that is done. Units are of equal cost."""

    def __init__(self, machine: Machine, unit: str, total: int) -> None:
        self.machine, self.unit, self.total = machine, unit, total
        self.done, self.began, self.due = 0, time.monotonic(), Every(machine.seconds)

    def add(self, units: int = 1) -> None:
        """Count so many more units as done."""
        self.done += units
        say = self.machine.say
        if say is not None and self.due():
            say(line(self.machine.what, self.unit, self.done, self.total, time.monotonic() - self.began))


def line(what: str, unit: str, done: int, total: int, seconds: float) -> str:
    """Return a line of progress, `images by the judge: 12,000 of 1,909,000 tiles, 3:41:20 left`, from the seconds that
    it took so far."""
    left = timedelta(seconds=round(seconds / done * (total - done)))
    return f"{what}: {done:,} of {total:,} {unit}, {left} left"
