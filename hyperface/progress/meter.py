"""Progress of a stage: one meter for its rate, the time left, its line or bar, and whoever watches it in numbers."""

import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

from hyperface.progress import logs

Told = TypeVar("Told")
LOG_SECONDS, TERMINAL_SECONDS = 10.0, 0.2
"""Seconds between lines in a log, and between looks of a bar on a terminal."""
BAR = 20
"""Columns of a bar, where the terminal has room for it."""
MARKS, MARK_SECONDS = 20, 0.5
"""The rate is over so many moments, at least so far apart."""


@dataclass(frozen=True)
class Point:
    """One moment of a stage."""

    done: int
    """Units of work: chunks, steps, shards or pieces."""
    total: int
    values: Mapping[str, float] = field(default_factory=dict)
    """Values of what else is known, {name: value}; `cluster/metrics.py` says what each is."""
    rate: float = 0.0
    """Units a second, lately."""
    eta_seconds: float | None = None
    """Seconds until the last unit at that rate; None: not known yet."""


Watch = Callable[[Point], None]
"""Function that is called with every moment that is worth recording."""


def unwatched(point: Point) -> None:
    """Ignore a point: nobody looks."""


def harmless(make: Callable[[], Callable[[Told], object]], what: str) -> Callable[[Told], None]:
    """Return a watch that ends nothing: the first error of what `make` makes is said, and it is called no more.

    Args:
        make: called when there is something to watch.
        what: name of what is lost with it; the line begins with that.
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
            logs.say(f"{what}: {type(error).__name__}: {' '.join(str(error).split())}; the job goes on without them")

    return tell


class Meter:
    """A meter that counts the units of a stage, and says now and then how far it is.

    In a log it says a line, `embed: 12/40 chunks, 1.3 chunks/s, ETA 0:00:21`; on a terminal that line stands beside a
    bar, and changes. A block (`with`) leaves the bar as it is at its end.
    """

    def __init__(
        self,
        what: str,
        total: int,
        unit: str,
        *,
        done: int = 0,
        worth: tuple[float, str] = (1, ""),
        say: Callable[[str], None] = logs.say,
        watch: Watch = unwatched,
        every_s: float = LOG_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            what: name of the work; every line begins with it.
            done: units that an earlier attempt did.
            worth: worth of a unit in the rate, e.g. (64, "images") for a step; points have it as a value too.
            say: takes the lines; where it is that of the logs, a terminal has a bar.
            watch: is called with the points that have values.
            every_s: seconds between two lines in a log.
            clock: the seconds now.
        """
        self.what, self.total, self.unit, self.done, self.worth = what, total, unit, done, worth
        self._say, self._watch, self._clock = say, watch, clock
        self._terminal = say is logs.say and sys.stdout.isatty() and not logs.structured()
        self._every_s = min(every_s, TERMINAL_SECONDS) if self._terminal else every_s
        self._began, self._before = clock(), done
        self._shown, self._says_the_last = self._began, False
        self._marks = deque([(self._began, done)], MARKS + 1)
        self._bar: Any = None

    def reach(self, done: int, values: Mapping[str, float] | None = None, extra: Callable[[], str] | str = "") -> None:
        """Count up to so many units, in all.

        Args:
            values: numbers for the watch, which is else not called.
            extra: returns what else a line says, when one is due.
        """
        self.done = done
        if self._clock() - self._marks[-1][0] >= MARK_SECONDS:
            self._marks.append((self._clock(), done))
        if values is not None:
            each, called = self.worth
            worth = {f"{called}_per_second": each * self.rate} if called else {}
            self._watch(Point(done, self.total, {**values, **worth}, self.rate, self.eta_seconds))
        if self.due() or (self._says_the_last and done >= self.total):
            self.show(self.line(extra if isinstance(extra, str) else extra()))

    @property
    def rate(self) -> float:
        """Return units a second, lately."""
        began, before = self._marks[0]
        seconds = self._clock() - began
        return (self.done - before) / seconds if seconds > 0 else 0.0

    @property
    def eta_seconds(self) -> float | None:
        """Return seconds until the last unit at that rate; None while nothing is done."""
        left = self.total - self.done
        return max(0, left) / self.rate if self.rate else None if left > 0 else 0.0

    def due(self) -> bool:
        """Return whether it is time for a line: asked once, it is not again for as long."""
        now = self._clock()
        if now - self._shown < self._every_s:
            return False
        self._shown = now
        return True

    def line(self, extra: str = "") -> logs.Line:
        """Return a line, `train: 120/400 steps, loss 3.210, 31.4 images/s, ETA 0:38:12`."""
        each, called = self.worth[0], self.worth[1] or self.unit
        left = "unknown" if self.eta_seconds is None else clock(self.eta_seconds)
        parts = [f"{self.done:,}/{self.total:,} {self.unit}", extra, f"{rounded(self.rate * each)} {called}/s"]
        about = {"done": self.done, "total": self.total, "unit": self.unit, "eta_seconds": self.eta_seconds}
        return logs.Line(self.what, f"{', '.join(filter(None, parts))}, ETA {left}", **about)

    def show(self, line: str) -> None:
        """Say a line, or put it beside the bar."""
        self._says_the_last = True
        if not self._terminal:
            self._say(line)
            return
        columns, rows = shutil.get_terminal_size()
        if self._bar is None:
            from tqdm import tqdm  # a quarter of a second, for terminals only

            self._bar = tqdm(total=self.total, file=sys.stdout, ncols=columns, nrows=rows, bar_format="{desc}")
        room = min(BAR, columns - len(line) - 2)  # the line comes first, what it says is not in the bar
        self._bar.bar_format = f"{{bar:{room}}} {{desc}}" if room > 0 else "{desc}"
        self._bar.n, self._bar.ncols = self.done, columns
        self._bar.set_description_str(line)

    def close(self) -> None:
        """Leave the bar, if there is one, as it is."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def rounded(rate: float) -> str:
    """Return a rate as lines show it: 1,234 or 31.4 or 0.021."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}" if rate >= 1 or rate == 0 else f"{rate:.2g}"


def clock(seconds: float) -> str:
    """Return a time as 1:02:03, or 4 days 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return (f"{days} days " if days else "") + f"{hours}:{minutes:02d}:{rest:02d}"
