"""The order of shards inside an actor: one is generated at a time, and the one before it is uploaded meanwhile."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from hyperface.errors import RunError

Tell = Callable[..., Any]
"""Function that calls a method of the ledger with the actor's name and these arguments."""


class Stopped(RunError):
    """Raised where no shard is begun any more; the message says why."""


class Lane:
    """The generator of one actor, and the uploads that go on beside it."""

    def __init__(self, tell: Tell) -> None:
        self.tell, self.generator, self._uploads, self._uploading = tell, threading.Lock(), threading.Condition(), 0

    def upload_began(self) -> None:
        with self._uploads:
            self._uploading += 1

    def upload_ended(self) -> None:
        with self._uploads:
            self._uploading -= 1
            self._uploads.notify_all()

    def wait_for_uploads(self, seconds: float | None = None) -> None:
        """Wait until nothing is uploaded, or so many seconds at most."""
        with self._uploads:
            self._uploads.wait_for(lambda: not self._uploading, seconds)


class Turn:
    """One shard's way through the lane: entered before the first call of the generator, left after the last one.

    Args:
        alone: keep the lane from the first call until `leave`, with no upload beside it.
    """

    def __init__(self, lane: Lane, shard: int, *, alone: bool) -> None:
        self.lane, self.shard, self.alone = lane, shard, alone
        self._holds = self._uploads = False

    def __enter__(self) -> None:
        self.lane.generator.acquire()
        self._holds = True
        if self.alone:
            self.lane.wait_for_uploads()
        if stop := self.lane.tell("begin", self.shard):
            raise Stopped(stop)

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if kind is None:
            self.lane.tell("generated", self.shard)
            if not self.alone:
                self.lane.upload_began()
                self._uploads, self._holds = True, False
                self.lane.generator.release()

    def leave(self, row: str = "") -> None:
        """Leave after the marker, with what to report, or after an error: the lane is free for others."""
        try:
            self.lane.tell("left", self.shard, row)
        finally:
            self._let_go()

    def close(self, seconds: float) -> None:
        """Let nobody into the generator any more, and give the upload beside this shard so many seconds to end."""
        if self._uploads:
            self.lane.upload_ended()
        if not self._holds:
            self.lane.generator.acquire()
        self.lane.wait_for_uploads(seconds)

    def _let_go(self) -> None:
        if self._uploads:
            self.lane.upload_ended()
        if self._holds:
            self.lane.generator.release()
        self._uploads = self._holds = False
