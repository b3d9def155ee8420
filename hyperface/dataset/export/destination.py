"""The destination of an export: what may be there, what is done, and how nothing half-written ever looks whole.

`export.json` is written last and says that the export is whole. Until then `.export/` holds what was begun, a mark per
finished part and files in the making; it goes when the export is whole. A file gets its name when all its bytes are
written, so a kill leaves files that are whole or absent, and the marks say which parts need not be made again.
"""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hyperface.errors import ConfigError, RunError, StorageError
from hyperface.reading.json_text import from_json
from hyperface.run.records import to_json
from hyperface.storage import LocalStore, Store
from hyperface.storage.naming import file_system

DONE = "export.json"
STATE = ".export"
BEGUN = f"{STATE}/begun.json"
MARKS = f"{STATE}/done"


class Destination:
    """A local directory, or a prefix in a bucket for the formats that are written file by file."""

    def __init__(self, store: Store, described: Mapping[str, Any], sync_bytes: int) -> None:
        """
        Args:
            described: all that decides the bytes; an export goes on only where it agrees.
            sync_bytes: written to a local disk before what was written is made durable and marked as done.
        """
        self.store = store
        self.described = from_json(to_json(described))
        self.folder = Path(store.url) if isinstance(store, LocalStore) else None
        self._sync_bytes = sync_bytes
        self._unsynced: list[str] = []
        self._notes: dict[str, str] = {}
        self._unsynced_bytes = 0

    @property
    def scratch(self) -> Path:
        """Return a directory on the destination's disk for files in the making."""
        assert self.folder is not None, self.store
        return self.folder / STATE

    def finished(self) -> dict[str, Any] | None:
        """Return the content of `export.json`; None while the export is not whole.

        Raises:
            ConfigError: it is the export of something else, or something else is in the way.
            RunError: the export was whole, and a file of it is gone or has another size.
        """
        if self.folder is not None and os.path.exists(self.folder) and not os.path.isdir(self.folder):
            raise ConfigError(f"{self.store}: is a file; give a directory that is empty or does not exist")
        done = self._read(DONE)
        if done is not None:
            self._agree(done)
            self._whole(done["files"])
            return done
        begun = self._read(BEGUN)
        if begun is not None:
            self._agree(begun)
        elif not self._empty():
            raise ConfigError(f"{self.store}: holds something else; give a directory that is empty or does not exist")
        return None

    def _read(self, name: str) -> dict[str, Any] | None:
        if not self.store.exists(name):
            return None
        try:
            found = from_json(self.store.read(name))
            files = {"files": dict(found["files"])} if name == DONE else {}
            return dict(found, source=dict(found["source"]), format=str(found["format"]), **files)
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{self.store.uri(name)}: is not of an export ({error}); give another directory"
            ) from error

    def _agree(self, before: Mapping[str, Any]) -> None:
        for key, value in self.described.items():
            if before.get(key) != value:
                other = f"{key} was {before.get(key)}, is now {value}"
                if key == "source":
                    other = "it was made of another dataset, or of this one before it changed"
                raise ConfigError(
                    f"{self.store}: holds an export of something else ({other}); "
                    "give another directory, or empty this one"
                )

    def _whole(self, files: Mapping[str, int]) -> None:
        for name, size in files.items():
            if (there := self.store.size(name)) != size:
                state = "is missing" if there is None else f"has {there} bytes"
                raise RunError(
                    f"{self.store.uri(name)}: {state}, was exported with {size}; empty the directory, export again"
                )

    def _empty(self) -> bool:
        if self.folder is None:
            return not self.store.list()
        try:
            return all(name == STATE for name in os.listdir(self.folder))
        except FileNotFoundError:
            return True
        except OSError as error:
            fix = "check path and permissions"
            raise StorageError(f"{self.store}: cannot be listed: {error.strerror}; {fix}") from error

    @contextlib.contextmanager
    def begun(self) -> Iterator[None]:
        """Hold the destination, alone on a local disk, and record what is put into it."""
        if self.folder is None:  # equal parts have equal bytes: a second writer of the same does no harm
            first = self.store.put_new(BEGUN, to_json(self.described))
            try:
                self.finished()  # once more: somebody else may have begun, or ended, since it was looked at
            except ConfigError:
                if first:
                    self.store.delete(BEGUN)
                raise
            yield
            return
        with self.written(STATE):
            self.scratch.mkdir(parents=True, exist_ok=True)
            lock = (self.scratch / "lock").open("w")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunError(f"{self.store}: another export is writing here; wait for it, or stop it") from error
            except OSError as error:  # some Lustre, and NFS without its lock service
                kind = file_system(self.folder) or "its file system"
                rule = f"{kind} knows no flock ({error.strerror}), without which two exports at once would mix"
                raise StorageError(f"{self.store}: {rule}; mount it with flock, or export to another disk") from error
            self.finished()  # once more: somebody else may have begun, or ended, since it was looked at
            self.put(BEGUN, to_json(self.described), durable=True)
            yield

    def put(self, name: str, data: bytes, *, durable: bool = False) -> None:
        """Write all of `data` under its name, or nothing. Otherwise a local file is durable after the next sync."""
        if self.folder is None:
            self.store.put(name, data)
            return
        with self.writing(name) as path, path.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A path on the local disk to write to, which gets its name when all went well."""
        assert self.folder is not None, self.store
        temporary, path = self.scratch / f"writing-{name.replace('/', '-')}", self.folder / name
        with self.written(name):
            yield temporary
            self.wrote(temporary.stat().st_size)
            try:
                temporary.replace(path)
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary.replace(path)

    @contextlib.contextmanager
    def written(self, name: str) -> Iterator[None]:
        """Make of what the operating system refuses one line that names the file and the way out."""
        try:
            yield
        except StorageError:
            raise
        except OSError as error:
            full = error.errno == errno.ENOSPC
            fix = "free space; the same command goes on" if full else "check path and permissions"
            raise StorageError(f"{self.store.uri(name)}: cannot be written: {error.strerror}; {fix}") from error

    def wrote(self, size: int) -> None:
        """Count bytes towards the next sync."""
        self._unsynced_bytes += size

    def marked(self) -> set[str]:
        """Return the parts that are done."""
        return {name.removeprefix(f"{MARKS}/") for name in self.store.list(MARKS)}

    def mark(self, part: str, note: str = "") -> None:
        """Remember that a part is done, once its bytes are on the disk, and a note of it."""
        self._notes[part] = note
        self._unsynced.append(part)
        if self.folder is None or self._unsynced_bytes >= self._sync_bytes:
            self._sync()

    def note(self, part: str) -> str:
        """Return the note of a part that is done, perhaps by an earlier attempt."""
        if part not in self._notes:
            self._notes[part] = self.store.read(f"{MARKS}/{part}").decode()
        return self._notes[part]

    def _sync(self) -> None:
        """Bring every byte to the disk, then record the marks that waited for it."""
        if self.folder is not None:
            os.sync()
        parts, self._unsynced, self._unsynced_bytes = self._unsynced, [], 0
        for part in parts:
            self.put(f"{MARKS}/{part}", self._notes[part].encode())

    def finish(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Say that the export is whole, and remove what was needed until then."""
        if self.folder is not None:
            os.sync()  # the bytes first
        done = {**self.described, **summary}
        self.put(DONE, to_json(done), durable=True)
        self.clean()
        return done

    def clean(self) -> None:
        """Remove the state of an export that is whole."""
        if self.folder is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)
            return
        for name in self.store.list(STATE):
            self.store.delete(name)
