"""Progress of a synthesis: counts, a line a person can read, and the same numbers as Ray metrics."""

import _thread
import contextlib
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.metrics import GAUGES, counter, gauge, label
from hyperface.progress.curves import Curves
from hyperface.progress.logs import Line
from hyperface.progress.meter import Meter, Point, clock, harmless, rounded, unwatched
from hyperface.run import Run

LOG_SECONDS = 30.0
"""Seconds between lines in a log."""
METRIC_SECONDS = 2.0
"""Seconds between updates of the metrics."""
RECENT = 20
"""Number of shards over which the recent rate is taken."""
CALLED = {
    "shards_failed": "failed",
    "shards_quarantined": "quarantined",
    "images_rejected": "rejects",
    "images_per_second": "recent_images_per_second",
    "actor_deaths": "deaths",
}
"""Metrics whose number has another name here."""


@dataclass(frozen=True)
class Numbers:
    """The numbers to say at one moment. Counts of shards are of the whole run, the others of this job."""

    shards: int
    shards_done: int
    images: int
    images_left: int
    """Planned images of the shards that are neither done nor given up."""
    rejects: int
    refused: Mapping[str, int]
    """Draws that were refused, by reason."""
    failed: int
    quarantined: int
    deaths: int
    images_per_second: float
    recent_images_per_second: float
    """Rate over the last shards; 0 before the first is finished."""

    @property
    def eta_seconds(self) -> float | None:
        """Return the seconds that are left; None as long as there is no rate to take them from."""
        rate = self.recent_images_per_second
        return self.images_left / rate if rate else None if self.images_left else 0.0


@dataclass
class Tally:
    """The results of a job so far. Seconds are of any clock, from the start of the job."""

    shards: int
    shards_before: int
    images_todo: int
    images: int = 0
    accounted: int = 0
    """Planned images of the shards that are finished or given up."""
    rejects: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    done: int = 0
    failed: int = 0
    quarantined: int = 0
    deaths: int = 0
    recent: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=RECENT + 1))
    """Seconds and images so far, at the start and after each of the last shards."""

    def add(self, result: Mapping[str, Any], planned: int, seconds: float) -> None:
        """Add a worker's word on a shard of so many planned images."""
        self.accounted += planned
        self.failed += "failed" in result
        self.quarantined += "quarantined" in result
        if "rows" in result:
            self.recent = self.recent or deque([(0.0, 0)], RECENT + 1)
            self.done, self.images = self.done + 1, self.images + result["rows"]
            self.rejects += result["rejects"]
            self.refused.update(result.get("refused", {}))
            self.recent.append((seconds, self.images))

    def numbers(self, seconds: float) -> Numbers:
        recent, rate = self.recent, 0.0
        if recent:
            (began, before), (ended, _) = recent[0], recent[-1]
            each = (ended - began) / (len(recent) - 1)
            # Between two shards the rate stays; it falls where the next one takes longer than they did.
            rate = (self.images - before) / max(ended - began + max(0.0, seconds - ended - each), 1e-3)
        return Numbers(
            shards=self.shards,
            shards_done=self.shards_before + self.done,
            images=self.images,
            images_left=self.images_todo - self.accounted,
            rejects=self.rejects,
            refused=dict(self.refused),
            failed=self.failed,
            quarantined=self.quarantined,
            deaths=self.deaths,
            images_per_second=self.images / max(seconds, 1e-3),
            recent_images_per_second=rate,
        )


def line(n: Numbers) -> Line:
    """Return a line, `synthesize: 120/400 shards, 1 failed, 31.4 images/s (28.9 overall), ETA 0:38:12, 12 rejects,
    refused: 40 cosine`."""
    eta, parts = n.eta_seconds, [f"{n.shards_done}/{n.shards} shards"]
    troubles = ((n.failed, "failed"), (n.quarantined, "quarantined"), (n.deaths, "actor deaths"))
    parts += [f"{count} {what}" for count, what in troubles if count]
    if n.recent_images_per_second:
        recent, overall = rounded(n.recent_images_per_second), rounded(n.images_per_second)
        parts.append(f"{recent} images/s" + (f" ({overall} overall)" if overall != recent else ""))
    parts += ["ETA unknown" if eta is None else f"ETA {clock(eta)}", f"{n.rejects} rejects"]
    if n.refused:
        parts.append("refused: " + " ".join(f"{count} {reason}" for reason, count in sorted(n.refused.items())))
    about = {"done": n.shards_done, "total": n.shards, "unit": "shards", "eta_seconds": eta}
    return Line("synthesize", ", ".join(parts), **about)


class Metrics:
    """The numbers in Prometheus' form, on the metrics port of the driver's node; `cluster/README.md` lists them."""

    def __init__(self, run: Run) -> None:
        url = run.store.url
        self._gauges = {name: gauge("synthesis", name, url) for name in GAUGES["synthesis"]}
        self._images = counter("synthesis", "images", url)
        self._refused = counter("synthesis", "refused", url, "reason")
        self._counted: Counter[str] = Counter()
        curves = harmless(lambda: Curves(run.store, "synthesis"), "curves")
        self._curves = curves if run.config.cluster.tensorboard else unwatched
        self._drawn = -1

    def __call__(self, n: Numbers) -> None:
        shown = {name: value for name in self._gauges if (value := getattr(n, CALLED.get(name, name))) is not None}
        for name, value in shown.items():
            self._gauges[name].set(value)
        if n.shards_done != self._drawn:
            self._drawn = n.shards_done
            self._curves(Point(n.shards_done, n.shards, shown))
        if more := self._more("", n.images):
            self._images.inc(more)
        for reason, count in n.refused.items():
            if more := self._more(reason, count):
                self._refused.inc(more, {"reason": label(reason)})

    def _more(self, name: str, count: int) -> int:
        """Count up: Ray's counters take increments, and no zero."""
        more, self._counted[name] = count - self._counted[name], count
        return more


@contextlib.contextmanager
def reported(numbers: Callable[[], Numbers], metrics: Callable[[Numbers], None]) -> Iterator[None]:
    """Report while the block runs: the metrics every few seconds, and a line to standard output; both once more at its
    end."""
    done, meter = threading.Event(), Meter("synthesize", numbers().shards, "shards", every_s=LOG_SECONDS)

    def show(now: Numbers) -> None:
        meter.done = now.shards_done
        meter.show(line(now))

    def report() -> None:
        while not done.wait(METRIC_SECONDS):
            now = numbers()
            metrics(now)
            if meter.due():
                try:
                    show(now)
                except OSError:  # nobody reads it, or the disk is full: the job ends by its own last line
                    _thread.interrupt_main()
                    break

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        metrics(now := numbers())
        show(now)
        meter.close()
