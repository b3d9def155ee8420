"""Lines that show a person how far an export is; they decide nothing."""

import sys
import time
from collections.abc import Callable

from hyperface.progress.points import Every


class Progress:
    """Progress that prints counts and rates: every two seconds on a terminal, every thirty in a log, and at the last
    shard."""

    def __init__(self, what: str, shards: int, say: Callable[[str], None]) -> None:
        self._what, self._shards, self._say = what, shards, say
        self._done = self._images = 0
        self._began, self._due = time.monotonic(), Every(2.0 if sys.stdout.isatty() else 30.0)

    def passed(self, shards: int) -> None:
        """Count shards that an earlier attempt did."""
        self._done += shards
        if shards:
            self._say(f"{self._what}: goes on after {shards} of {self._shards} shards")

    def add(self, images: int) -> None:
        """Count one more shard as done."""
        self._done, self._images = self._done + 1, self._images + images
        if not (self._due() or self._done == self._shards):
            return
        rate = self._images / max(time.monotonic() - self._began, 1e-9)
        self._say(f"{self._what}: {self._done} of {self._shards} shards, {rate:,.0f} images/s")
