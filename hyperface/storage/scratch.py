"""Directories for files of one process: no other user may enter them, and they are gone when it ends.

A process that is killed leaves its own behind; the next one that makes a directory removes it.
"""

import contextlib
import fcntl
import os
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator

PREFIX = "hyperface-"
OLD_S = 3600.0
"""Age in seconds after which a directory without a file is nobody's: processes that outlive their owner make it
again."""
OWNER = "owner"
"""A file that names the machine, and whose lock is held as long as the process lives: another may get its number."""


@contextlib.contextmanager
def scratch(place: str = "") -> Iterator[str]:
    """Make a new directory inside of `place` (default: the temporary directory), removed after the block."""
    place = place or tempfile.gettempdir()
    sweep(place)
    made = tempfile.mkdtemp(prefix=PREFIX, dir=place)
    try:
        with open(f"{made}/{OWNER}", "w+") as owner:
            with contextlib.suppress(OSError):  # a file system without locks: never swept
                fcntl.flock(owner, fcntl.LOCK_EX)  # who sweeps meanwhile has it for a moment
                owner.write(socket.gethostname())
                owner.flush()
            yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def sweep(place: str) -> None:
    """Remove the directories of processes of this user, on this machine, that are not there any more."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(place):
            if entry.name.startswith(PREFIX) and _is_left(entry):
                shutil.rmtree(entry.path, ignore_errors=True)


def _is_left(entry: os.DirEntry[str]) -> bool:
    """Return whether a directory's owner has ended, or it was made again after that; False where that cannot be
    known."""
    try:
        found = entry.stat(follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            return False
        if not any(files for _, _, files in os.walk(entry.path)):
            return time.time() - found.st_mtime > OLD_S
        with open(f"{entry.path}/{OWNER}", "r+") as owner:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return owner.read() == socket.gethostname()
    except OSError:
        return False
