"""A directory. A file appears whole under its name, by link(2) or rename(2) after its bytes are on the disk."""

import builtins
import contextlib
import errno
import itertools
import os
import re
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Self

from hyperface.errors import StorageError
from hyperface.storage.naming import UndecidedError, file_system, name_new, one_writer_wins
from hyperface.storage.store import NAMES, Stat, Store
from hyperface.storage.walk import walk

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}")
"""The hidden name of a file that is being written: its own, between a dot and 33 characters more."""
WRITING_S = 3600.0
"""Seconds, more than one write takes."""


@dataclass(frozen=True)
class LocalStore(Store):
    conditional: bool = True
    """True where the file system lets one of two writers win; see `prepared`."""

    def _path(self, name: str) -> Path:
        if "\0" in name:
            raise StorageError(f"{self.url}: {name!a} has a null byte; correct the name")
        path = Path(os.path.normpath(Path(self.url, name)))
        if not path.is_relative_to(self.url):
            raise StorageError(f"{self.url}: {name!r} leaves the directory; give a name inside it")
        return path

    def list(self, prefix: str = "") -> dict[str, int]:
        """See `Store.list`. Only regular files, and none that is hidden, or lies in a hidden folder, below `prefix`."""
        shown = ((name, size) for name, size in self._walk(prefix) if size is not None and not f"/{name}".count("/."))
        above = self._path(prefix).relative_to(self._path("")).as_posix()
        return {name if above == "." else f"{above}/{name}": size for name, size in shown}

    def list_all(self) -> dict[str, int]:
        return {name: size or 0 for name, size in self._walk("")}

    def _walk(self, prefix: str) -> builtins.list[tuple[str, int | None]]:
        """Return (name below the prefix, size of a regular file) of everything, in order."""
        return sorted(walk(str(self._path(prefix))))

    def names(self) -> tuple[str, ...]:
        """See `Store.names`. Hidden names are left out, as by `list`."""
        try:
            with os.scandir(self.url) as entries:
                shown = (entry for entry in entries if not entry.name.startswith("."))
                return tuple(sorted(e.name + "/" * e.is_dir() for e in itertools.islice(shown, NAMES)))
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except OSError as error:
            raise StorageError(f"{self.url}: cannot be listed: {error.strerror}; check path and permissions") from error

    def stat(self, name: str) -> Stat | None:
        with self._reading(name), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return Stat(self._path(name).stat().st_size, etag="")
        return None

    def open(self, name: str) -> BinaryIO:
        with self._reading(name):
            path = self._path(name)
            if not stat.S_ISREG(path.stat().st_mode):
                rule = "is no file but a folder or a device"  # a pipe would be waited for
                raise StorageError(f"{self.uri(name)}: {rule}; give a file")
            return path.open("rb")

    def read(self, name: str) -> bytes:
        with self._reading(name):
            return super().read(name)

    def put_new(self, name: str, data: bytes) -> bool:
        with self._written(name, data) as (temporary, path):
            try:
                return self._named(temporary, path)
            except UndecidedError:
                if os.path.lexists(path):
                    return False
                temporary.replace(path)
        return self.holds(name, data)

    def put(self, name: str, data: bytes) -> None:
        with self._written(name, data) as (temporary, path):
            temporary.replace(path)

    def delete(self, name: str) -> None:
        path = self._path(name)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            fix = "check path and permissions"
            raise StorageError(f"{self.uri(name)}: cannot be removed: {error.strerror}; {fix}") from error

    def prepared(self) -> Self:
        """See `Store.prepared`."""
        if one_writer_wins(Path(self.url), self._named):
            return self
        kind = file_system(Path(self.url)) or "its file system"
        lack = f"{kind} has neither hard links nor a rename that refuses"
        print(f"storage: {self.url}: {lack}: one job at a time may write this run", flush=True)
        return replace(self, conditional=False)

    @property
    def one_writer_wins(self) -> bool:
        return self.conditional

    def _named(self, temporary: Path, path: Path) -> bool:
        """Return whether a finished file got its name. Raises UndecidedError where the disk cannot tell."""
        return name_new(temporary, path)

    def sweep(self, is_ours: Callable[[str], bool]) -> None:
        """See `Store.sweep`. It goes for hidden files that nobody wrote for a while."""
        folders = [Path(self.url, name) for name in self.names() if name.endswith("/") and is_ours(name)]
        found = [Path(at, file) for folder in folders for at, _, files in os.walk(folder) for file in files]
        found += [path for path in Path(self.url).glob(".*") if is_ours(path.name[1:-33])]
        for path in found:
            if TEMPORARY.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    if time.time() - path.stat().st_mtime > WRITING_S:
                        path.unlink()

    @contextlib.contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        """Raise an error that names the file for every failure but a name that holds nothing."""
        try:
            yield
        except NotADirectoryError as error:
            raise FileNotFoundError(error.errno, error.strerror, self.uri(name)) from error
        except (FileNotFoundError, StorageError):
            raise
        except OSError as error:
            fix = "check path and permissions"
            raise StorageError(f"{self.uri(name)}: cannot be read: {error.strerror}; {fix}") from error

    @contextlib.contextmanager
    def _written(self, name: str, data: bytes) -> Iterator[tuple[Path, Path]]:
        """Write the data, synced, under a hidden name beside its final one; the hidden name is gone afterwards."""
        path = self._path(name)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary, path
        except OSError as error:
            fix = "free space or choose another disk" if error.errno == errno.ENOSPC else "check path and permissions"
            raise StorageError(f"{self.uri(name)}: cannot be written: {error.strerror}; {fix}") from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
