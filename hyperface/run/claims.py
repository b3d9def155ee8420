"""Claims of drivers that are about to make something that nobody has made yet: a run before its first file, a training
before its first checkpoint.

What was made binds everybody who comes later. Before that a record may be replaced, as by somebody who mends a typo,
unless a driver is at work by it. So each driver keeps a small object that names what it is about to make, removes it at
its end, and looks for those of others before it replaces anything. Nobody compares clocks: a driver that was killed on
this machine is known by its process; one of another machine may live, until somebody who knows better deletes its
object.
"""

import contextlib
import json
import os
import re
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from hyperface.errors import ConfigError, StorageError
from hyperface.reading.json_text import built, from_json
from hyperface.storage import Store

RELEASE_S = 5.0
"""Seconds for which a driver that is done tries to withdraw its claims."""
CLAIM = "_claim-"
"""The names of these objects begin with it; the rest is the driver's id, and `.json`."""


@dataclass(frozen=True)
class _Claim:
    host: str
    pid: int
    machine: str
    born: str
    since: str
    claims: list[str]


@contextlib.contextmanager
def driver(store: Store) -> Iterator[str]:
    """The id of a driver for the block, at whose end its claims are withdrawn."""
    own = uuid.uuid4().hex
    try:
        yield own
    finally:
        with contextlib.suppress(StorageError, OSError):  # left behind it is known to be of a process that has ended
            store.hasty(RELEASE_S, RELEASE_S).delete(_name(own))


def bind(
    store: Store,
    driver: str,
    name: str,
    data: bytes,
    changed: Callable[[bytes], Sequence[str]],
    begun: Callable[[Sequence[str]], bool],
    what: str,
) -> bool:
    """Write a record under its name, unless there is one that says the same; return whether this wrote it.

    Args:
        driver: id of the driver that is about to make what the record is of; empty: none.
        changed: a line for each key in which a record that is there differs.
        begun, what: as `refuse`.

    Raises:
        ConfigError: as `refuse`.
        StorageError: the name is a link to what is not there.
    """
    if driver:
        _claim(store, driver, name)
    if store.put_new(name, data):
        return True
    try:
        before = store.read(name)
    except FileNotFoundError as error:
        rule = "has a name that is taken, and nothing in it: a link to what is not there"
        raise StorageError(f"{store.uri(name)}: {rule}; take it away, or mount what it leads to") from error
    if not (lines := changed(before)):
        return False
    refuse(store, driver, name, lines, begun, what)
    store.put(name, data)
    try:
        refuse(store, driver, name, lines, lambda lines: False, what)
    except ConfigError:  # somebody came between, who saw what was there before
        store.put(name, before)
        raise
    return True


def refuse(
    store: Store, driver: str, name: str, lines: Sequence[str], begun: Callable[[Sequence[str]], bool], what: str
) -> None:
    """Raise ConfigError with the lines where a record may not be replaced.

    Args:
        begun: returns whether something was made of it that one of these lines would change.
        what: words for the record's subject, and how to begin another one, for the message.
    """
    if begun(lines):
        raise ConfigError(f"{store.uri(name)}: is of another {what}:\n  " + "\n  ".join(lines))
    if who := _other(store, driver, name):
        raise ConfigError(f"{store.uri(name)}: {who}, is about to make another {what}:\n  " + "\n  ".join(lines))


def _claim(store: Store, driver: str, what: str) -> None:
    """Say that a driver is about to make something. A worker of the driver, which says it too, changes nothing."""
    before = _read(store, _name(driver))
    claimed = before.claims if before else []
    if what in claimed:
        return
    since, pid = datetime.now(UTC).isoformat(timespec="seconds"), os.getpid()
    claim = _Claim(socket.gethostname(), pid, _machine(), _born(pid), since, sorted([*claimed, what]))
    store.put(_name(driver), json.dumps(asdict(claim), indent=1).encode())


def _other(store: Store, driver: str, what: str) -> str:
    """Return another driver that is about to make the same and may be alive, for a message; empty where there is none.

    Objects of drivers that have ended are removed.
    """
    for name in store.names():
        if not is_claim(name) or name == _name(driver) or (found := _read(store, name)) is None:
            continue
        if _has_ended(found):
            store.delete(name)
        elif what in found.claims:
            who = f"process {found.pid} of {found.host}, at work since {found.since}"
            return f"{who} (if it is dead, delete {store.uri(name)})"
    return ""


def is_claim(name: str) -> bool:
    """Return whether an object of a store is a driver's."""
    return re.fullmatch(rf"{CLAIM}[0-9a-f]{{32}}\.json", name) is not None


def _name(driver: str) -> str:
    return f"{CLAIM}{driver}.json"


def _read(store: Store, name: str) -> _Claim | None:
    """Read a claim; None where there is none, or none that can be read."""
    try:
        return cast(_Claim, built(_Claim, from_json(store.read(name))))
    except (FileNotFoundError, ValueError):
        return None


def _has_ended(found: _Claim) -> bool:
    """Return whether a driver is known to be gone: its process here is gone, or is another one."""
    return bool(_machine()) and found.machine == _machine() and found.born != _born(found.pid)


def _machine() -> str:
    """Name the space in which the number of a process means the same process; empty where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _born(pid: int) -> str:
    """Return when a process of this machine began, in the system's own count; empty where it has ended."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state == "Z" else rest[18]
