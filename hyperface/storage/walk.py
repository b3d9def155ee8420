"""Listing every file of a folder: links are followed, and nothing is passed over without a word."""

import errno
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePath

from hyperface.errors import StorageError

SYSTEM_NAMES = {
    "__macosx",  # in archives made on a Mac
    "@eadir",  # thumbnails of a Synology station
    "#recycle",
    "#snapshot",
    "@recycle",
    "$recycle.bin",
    "recycler",
    "recycled",
    "network trash folder",  # of AFP
    "temporary items",
    "@recently-snapshot",  # of a QNAP station
    "~snapshot",
    "system volume information",
    "lost+found",
}
"""Folders that systems make beside the files of people, in lower case."""
_FOUND = re.compile(r"found\.\d{3}", re.IGNORECASE)
"""Folders of what Windows found when it repaired a disk."""
MOST_WAYS = 100
"""Most ways by which links may lead to one folder: links to links to links would be followed for ever."""

Folder = tuple[int, int]
"""Device and inode of a folder."""


def hidden(name: str) -> bool:
    """Return whether nobody put a file there: it, or a folder that it lies in, is hidden or a system's own.

    Args:
        name: within a source, as a path on a disk, a key on S3 or a member of an archive.
    """
    parts = (part for part in name.split("/") if part not in ("", ".", ".."))
    return any(part.startswith(".") or part.lower() in SYSTEM_NAMES or _FOUND.fullmatch(part) for part in parts)


def walk(top: str) -> Iterator[tuple[str, int | None]]:
    """Yield (name, size in bytes) of everything below a folder but folders; nothing where there is no such folder.

    No size has what is no regular file: a pipe, a socket, a device, or a link to what is not there.

    Raises:
        StorageError: a folder that is not hidden cannot be listed, or a link leads into a circle, too many lead to
            one folder, or one leads nowhere and may stand for a folder, since its name has no suffix.
    """
    waiting: list[tuple[str, frozenset[Folder]]] = [("", frozenset())]
    ways: Counter[Folder] = Counter()
    while waiting:
        folder, above = waiting.pop()
        path = os.path.join(top, folder).rstrip("/") or "/"
        try:
            here = _identity(path, above, ways)
            with os.scandir(path) as entries:
                found = [(os.path.join(folder, entry.name), _status(entry)) for entry in entries]
        except (FileNotFoundError, NotADirectoryError):  # it was removed meanwhile, or never there
            continue
        except OSError as error:
            if hidden(folder):
                continue
            if isinstance(error, StorageError):
                raise
            raise StorageError(f"{path}: cannot be listed: {error.strerror}; check its permissions") from error
        for name, status in found:
            if status is not None and stat.S_ISDIR(status.st_mode):
                waiting.append((name, above | {here}))
            else:
                yield name, status.st_size if status is not None and stat.S_ISREG(status.st_mode) else None


def _identity(path: str, above: frozenset[Folder], ways: Counter[Folder]) -> Folder:
    status = os.stat(path)
    here = (status.st_dev, status.st_ino)
    ways[here] += 1
    if here in above:
        raise StorageError(f"{path}: is a link in a circle, to {os.path.realpath(path)}; remove the link")
    if ways[here] > MOST_WAYS:
        to = os.path.realpath(path)
        raise StorageError(
            f"{path}: is one of more than {MOST_WAYS} ways through links to {to}; remove some of these links"
        )
    return here


def _status(entry: "os.DirEntry[str]") -> os.stat_result | None:
    """The status of an entry, or of what it links to; None where nobody can say."""
    try:
        return entry.stat()
    except OSError as error:
        if not entry.is_symlink():
            if error.errno != errno.ENOENT:
                raise
            return None  # it was removed meanwhile
        if not PurePath(entry.name).suffix and not hidden(entry.name):
            to = f"{entry.path}: is a link to {os.readlink(entry.path)}, which cannot be followed"
            raise StorageError(f"{to}: {error.strerror}; restore what it links to, or remove the link") from error
        return None
