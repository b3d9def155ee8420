"""One driver at a time, for stores that cannot decide which of two writers was first: a server that does not honour
If-None-Match, a disk without hard links.

Elsewhere `put_new` keeps two drivers apart, and nothing here does anything. A lease is a small object that its driver
rewrites every few seconds. Nobody compares clocks: a newcomer watches it, and takes it over when it stood still for
`STALE_S`. Two newcomers at once both write it, wait, and read who was last. A driver that could not rewrite it for most
of that time no longer tries, as a late write would take it back from a rightful owner: it stops.
"""

import contextlib
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hyperface.errors import RunError, StorageError
from hyperface.reading.json_text import from_json
from hyperface.run.names import LEASE
from hyperface.run.records import to_json
from hyperface.storage import Store

BEAT_S = 5.0
STALE_S = 60.0
"""Seconds, more than the longest silence of a living driver."""
SETTLE_S = 2.0
"""Seconds, more than a write takes to be read everywhere."""
SILENT = 2 / 3
"""Share of the time after which a lease is stale: a driver that was silent for so long writes it no more."""
ANSWER = 1 / 6
"""Share of that time for which a beat waits for an answer. The last write so ends before the lease is stale."""
RELEASE_S = 5.0
"""Seconds for which a driver that is done tries to remove its lease: left behind it makes the next one wait."""


@contextlib.contextmanager
def only_driver(
    store: Store, *, beat_s: float = BEAT_S, stale_s: float = STALE_S, settle_s: float = SETTLE_S
) -> Iterator[None]:
    """Hold the lease of a run for the block, where the store needs one. Lost, it ends a block of the main thread.

    Raises:
        RunError: another driver holds it, or took it meanwhile, or it could not be kept; names who, and how to go on.
    """
    if store.one_writer_wins:
        yield
        return
    lease = _Lease(store, uuid.uuid4().hex, stale_s)
    lease.take(beat_s, settle_s)
    ended = threading.Event()
    with _interruptible() as interrupt:
        beats = threading.Thread(target=lease.keep, args=(ended, beat_s, interrupt), daemon=True)
        beats.start()
        try:
            try:
                yield
            finally:
                ended.set()
                beats.join()
                lease.release()
        except (Exception, KeyboardInterrupt) as error:
            if lease.lost:
                raise RunError(lease.lost) from error
            raise
    if lease.lost:
        raise RunError(lease.lost)


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """An event whose setting raises KeyboardInterrupt in this thread, if it is the main one.

    Ray's calls end early for this exception only. SIGINT itself is ignored by jobs that a script starts with `&`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield threading.Event()
        return
    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    try:
        yield _Interrupt()
    finally:
        signal.signal(signal.SIGUSR1, before)


class _Interrupt(threading.Event):
    def set(self) -> None:
        super().set()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)


@dataclass
class _Lease:
    store: Store
    own: str
    stale_s: float
    beat: int = 0
    written: float = 0.0
    """Time on the monotonic clock when the last write began that was read back."""
    lost: str = ""
    """Reason why it was lost, in words."""

    def take(self, beat_s: float, settle_s: float) -> None:
        before = self._read()
        if before:
            print(
                f"{self.store}: waits up to {self.stale_s:.0f} s to see whether another driver is at work", flush=True
            )
            self._refuse_living(before, beat_s)
        self._write()
        self.written = time.monotonic()
        time.sleep(settle_s)
        now = self._read()
        if now.get("id") != self.own:
            raise RunError(self._held_by(now))
        # A beat is not tried again by the store: the next one comes soon enough.
        self.store = self.store.hasty(0.0, ANSWER * self.stale_s)

    def _refuse_living(self, before: dict[str, Any], beat_s: float) -> None:
        until = time.monotonic() + self.stale_s
        while time.monotonic() < until:
            now = self._read()
            if not now:
                return
            if now != before:
                raise RunError(self._held_by(now))
            time.sleep(beat_s / 2)

    def keep(self, ended: threading.Event, beat_s: float, interrupt: threading.Event) -> None:
        problem = "the driver stood still"
        while not self.lost and not ended.wait(beat_s):
            try:
                self._beat(problem)
            except StorageError as error:  # it may pass before the lease is stale
                problem = str(error)
            except RunError as error:
                self.lost = str(error)
        if self.lost and not ended.is_set():
            interrupt.set()

    def _beat(self, problem: str) -> None:
        self._refuse_late(problem)
        self._refuse_other()
        self._refuse_late(problem)
        began = time.monotonic()
        self._write()
        self._refuse_other()
        self.written = began

    def _refuse_late(self, problem: str) -> None:
        silent = time.monotonic() - self.written
        if silent > SILENT * self.stale_s:
            raise RunError(
                f"{self.store.uri(LEASE)}: was not rewritten for {silent:.0f} s, so another driver may take it over "
                f"({problem}); what is committed stays, and the same command goes on from there"
            )

    def _refuse_other(self) -> None:
        now = self._read()
        if now.get("id") != self.own:
            raise RunError(self._held_by(now))

    def release(self) -> None:
        if self.lost:
            return
        self.store = self.store.hasty(RELEASE_S, RELEASE_S)
        with contextlib.suppress(StorageError, RunError):
            if self._read().get("id") == self.own:
                self.store.delete(LEASE)

    def _write(self) -> None:
        self.beat += 1
        since = datetime.now(UTC).isoformat(timespec="seconds")
        who = {"id": self.own, "host": socket.gethostname(), "pid": os.getpid(), "seen": since, "beat": self.beat}
        self.store.put(LEASE, to_json(who))

    def _read(self) -> dict[str, Any]:
        """Read the lease; empty when there is none. Raises RunError when it is damaged."""
        try:
            found = from_json(self.store.read(LEASE))
        except FileNotFoundError:
            return {}
        except ValueError:
            found = None
        if not isinstance(found, dict):
            fix = "when no other driver is at work, delete it and start again"
            raise RunError(f"{self.store.uri(LEASE)}: is not the lease of a driver; {fix}")
        return found

    def _held_by(self, other: dict[str, Any]) -> str:
        who = f"process {other.get('pid')} of {other.get('host')}" if other else "somebody who removed the lease"
        fix = f"wait for it or end it (if it is dead, delete {self.store.uri(LEASE)})"
        return (
            f"{self.store}: is being written by another driver, {who}; this storage cannot tell who was first, so "
            f"only one may write at a time: {fix}"
        )
