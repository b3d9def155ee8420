"""Giving a finished file its name, unless the name is taken: by a hard link, where a file system has them."""

import contextlib
import ctypes
import errno
import os
import uuid
from collections.abc import Callable
from pathlib import Path

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
"""Errors of link(2) on exFAT, FAT and many FUSE file systems."""
_NO_FLAG = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
"""Errors of renameat2(2) where the kernel or the file system does not know its flag."""
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1


class UndecidedError(OSError):
    """The file system cannot tell which of two writers was first."""


def name_new(temporary: Path, path: Path) -> bool:
    """Return whether the file got the name; False: another one has it.

    Raises:
        UndecidedError: there are neither hard links nor a rename that refuses.
    """
    try:
        os.link(temporary, path)
        return True
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    return renamed_new(temporary, path)


def renamed_new(temporary: Path, path: Path) -> bool:
    """Do what `name_new` does without a hard link: exFAT and FAT of Linux's own have this way."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)  # of Linux alone; Python has none
    if rename and not rename(_AT_FDCWD, os.fsencode(temporary), _AT_FDCWD, os.fsencode(path), _RENAME_NOREPLACE):
        return True
    number = ctypes.get_errno() if rename else errno.ENOSYS
    if number == errno.EEXIST:
        return False
    raise (UndecidedError if number in _NO_FLAG else OSError)(number, os.strerror(number), str(path))


def one_writer_wins(folder: Path, named: Callable[[Path, Path], bool]) -> bool:
    """Return whether the file system of a folder, or of the one that it will be made in, lets one of two writers win.

    Args:
        named: `name_new`.
    """
    there = next(above for above in (folder, *folder.parents) if os.path.isdir(above))
    first, second, name = (there / f".probe.{uuid.uuid4().hex}" for _ in range(3))
    try:
        for path in (first, second):
            path.touch()
        return named(first, name) and not named(second, name)
    except UndecidedError:
        return False
    except OSError:
        return True  # nothing can be written: the first write will say it
    finally:
        for path in (first, second, name):
            with contextlib.suppress(OSError):
                path.unlink()


def file_system(path: Path) -> str:
    """Return the kind of file system that a path lies on, as Linux names it; empty where nobody says."""
    there = next(above for above in (path, *path.parents) if os.path.exists(above))
    device = os.stat(there).st_dev
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return ""
    mounts = (line.split(" - ") for line in lines)
    kinds = {mount.split()[2]: kind.split()[0] for mount, kind in mounts}
    return kinds.get(f"{os.major(device)}:{os.minor(device)}", "")
