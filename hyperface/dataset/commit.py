"""Bytes first, marker last, and the first writer wins."""

import hashlib
from collections.abc import Sequence

from hyperface.dataset import marker as markers
from hyperface.dataset.layout import marker_file
from hyperface.dataset.marker import FileRecord, Marker
from hyperface.storage import StorageError, Store


class ShardError(RuntimeError):
    """A shard whose name is taken by other bytes. The message names the file and the way out."""


def record(name: str, data: bytes) -> FileRecord:
    """What the marker says about a file."""
    return FileRecord(name, len(data), hashlib.sha256(data).hexdigest())


def commit(store: Store, files: Sequence[tuple[str, bytes]], marker: Marker, *, repair: bool) -> None:
    """Write the files of one shard, then its marker. Whoever is killed in between leaves a shard that is not done.

    A file that is there already with the same bytes is adopted: an earlier attempt died before its marker, or another
    driver was faster.

    Args:
        files: (name, bytes) as `marker.files` describes them.
        repair: replace what is there with other bytes, instead of refusing.

    Raises:
        ShardError: a file or the marker is there with other content.
        StorageError: it cannot be written, or is not there afterwards.
    """
    name = marker_file(marker.shard)
    if repair:
        store.delete(name)
    for file, data in files:
        _put(store, file, data, repair)
    if not store.put_new(name, markers.to_bytes(marker)):
        there = markers.from_bytes(store.read(name), store.uri(name))
        if not there.agrees(marker):
            raise ShardError(_foreign(store, name, "describes another shard than this configuration makes"))


def _put(store: Store, name: str, data: bytes, repair: bool) -> None:
    if not store.put_new(name, data) and store.read(name) != data:
        if not repair:
            raise ShardError(_foreign(store, name, "holds other bytes than this configuration makes"))
        store.put(name, data)
    if (size := store.size(name)) != len(data):
        raise StorageError(f"{store.uri(name)}: has {size} bytes after writing {len(data)}; check the storage")


def _foreign(store: Store, name: str, problem: str) -> str:
    return f"{store.uri(name)}: {problem}; make it again with synthesis.repair=true"
