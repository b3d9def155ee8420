"""One driver at a time, for stores that cannot decide which of two writers was first.

Elsewhere `put_new` keeps two drivers apart, and nothing here does anything. A lease is a small object that its driver
rewrites every few seconds. Nobody compares clocks: a newcomer watches it, and takes it over when it stood still for
`STALE_S`. Two newcomers at once both write it, wait, and read who was last.
"""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hyperface.run import LEASE, RunError, to_json
from hyperface.storage import StorageError, Store

BEAT_S = 5.0
STALE_S = 60.0
"""Above the longest silence of a living driver: a beat that is tried again for a while."""
SETTLE_S = 2.0
"""Above the time that a write takes to be read everywhere."""


@contextlib.contextmanager
def only_driver(
    store: Store, *, beat_s: float = BEAT_S, stale_s: float = STALE_S, settle_s: float = SETTLE_S
) -> Iterator[None]:
    """Hold the lease of a run for the block, where the store needs one.

    Raises:
        RunError: another driver holds it, or took it meanwhile; names who, and how to go on.
    """
    if store.one_writer_wins:
        yield
        return
    lease = _Lease(store, uuid.uuid4().hex)
    lease.take(beat_s, stale_s, settle_s)
    ended = threading.Event()
    beats = threading.Thread(target=lease.keep, args=(ended, beat_s), daemon=True)
    beats.start()
    try:
        yield
    finally:
        ended.set()
        beats.join()
        lease.release()
    if lease.lost:
        raise RunError(lease.lost)


@dataclass
class _Lease:
    store: Store
    own: str
    beat: int = 0
    lost: str = ""
    """How it was lost."""

    def take(self, beat_s: float, stale_s: float, settle_s: float) -> None:
        before = self._read()
        if before:
            print(f"{self.store}: waits up to {stale_s:.0f} s to see whether another driver is at work", flush=True)
            self._refuse_living(before, beat_s, stale_s)
        self._write()
        time.sleep(settle_s)
        now = self._read()
        if now.get("id") != self.own:
            raise RunError(self._held_by(now))

    def _refuse_living(self, before: dict[str, Any], beat_s: float, stale_s: float) -> None:
        until = time.monotonic() + stale_s
        while time.monotonic() < until:
            now = self._read()
            if not now:
                return
            if now != before:
                raise RunError(self._held_by(now))
            time.sleep(beat_s / 2)

    def keep(self, ended: threading.Event, beat_s: float) -> None:
        while not ended.wait(beat_s):
            try:
                now = self._read()
                if now.get("id") != self.own:
                    self.lost = self._held_by(now)
                    return
                self._write()
            except (StorageError, ValueError) as error:  # the driver meets the same one at its own next request
                self.lost = str(error)
                return

    def release(self) -> None:
        with contextlib.suppress(StorageError):
            if self._read().get("id") == self.own:
                self.store.delete(LEASE)

    def _write(self) -> None:
        self.beat += 1
        since = datetime.now(UTC).isoformat(timespec="seconds")
        who = {"id": self.own, "host": socket.gethostname(), "pid": os.getpid(), "seen": since, "beat": self.beat}
        self.store.put(LEASE, to_json(who))

    def _read(self) -> dict[str, Any]:
        """What the lease says; empty when there is none."""
        try:
            return dict(json.loads(self.store.read(LEASE)))
        except FileNotFoundError:
            return {}

    def _held_by(self, other: dict[str, Any]) -> str:
        who = f"process {other.get('pid')} of {other.get('host')}" if other else "somebody who removed the lease"
        return (
            f"{self.store}: is being written by another driver, {who}; this storage does not honour If-None-Match, so "
            f"only one may write at a time: wait for it or end it (if it is dead, delete {self.store.uri(LEASE)})"
        )
