"""Committing a shard: bytes first, marker last, and the first writer wins.

What the marker will say is written before the data, as a pending note. Whoever finds whole data without a marker can so
finish the shard without drawing it again: the note holds what cannot be read from the data, such as the rejects.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from hyperface.dataset.dataset import Dataset
from hyperface.dataset.marker import FileRecord, Marker
from hyperface.dataset.plan import marker_file, pending_file
from hyperface.errors import ConfigError, ShardError, StorageError
from hyperface.storage import LARGEST_OBJECT, Store


def record(name: str, data: bytes) -> FileRecord:
    """Return the record of a file that the marker holds."""
    return FileRecord(name, len(data), hashlib.sha256(data).hexdigest())


def check_size(images_per_shard: int, image_size: int, embedding_dim: int) -> None:
    """Refuse shards that could grow beyond what S3 takes in one PUT, before anything is drawn.

    Every image is counted as the most that a JPEG of `image_size` pixels a side can have: noise at quality 100 takes
    4.8 bytes a pixel.

    Raises:
        ConfigError: names synthesis.images_per_shard and the largest value that fits.
    """
    bytes_per_image = 5 * image_size**2 + 4 * embedding_dim + 6_000  # header of the JPEG, labels, tar members
    most = LARGEST_OBJECT // bytes_per_image
    if images_per_shard > most:
        raise ConfigError(
            f"synthesis.images_per_shard must be at most {most} for images of {image_size} pixels: a shard is written "
            f"in one PUT of at most {LARGEST_OBJECT} bytes; it is {images_per_shard}"
        )


def commit(store: Store, files: Sequence[tuple[str, bytes]], marker: Marker, *, repair: bool) -> Marker:
    """Write the files of one shard, then its marker. Whoever is killed in between leaves a shard that is not done.

    A file that is there already with the same bytes is taken as it is: an earlier attempt died before its marker, or
    another driver was faster. Other bytes are replaced where a note without a marker announces exactly these files: a
    repair was interrupted, and whoever else may be writing there writes the same.

    Args:
        files: (name, bytes) as `marker.files` describes them.
        repair: replace what is there with other bytes, instead of refusing.

    Returns:
        The marker with the ETags of its files.

    Raises:
        ShardError: a file or the marker is there with other content, or a file is larger than S3 takes.
        StorageError: it cannot be written, or is not there afterwards.
    """
    for file, data in files:
        if len(data) > LARGEST_OBJECT:
            fits = marker.rows * LARGEST_OBJECT // len(data)
            fix = f"set synthesis.images_per_shard to {fits} or less and choose another run.dir"
            raise ShardError(f"{store.uri(file)}: has {len(data)} bytes; at most {LARGEST_OBJECT} are possible; {fix}")
    replace_others = repair or _is_announced(store, marker)
    store.put(pending_file(marker.shard), marker.to_bytes())
    if repair:
        store.delete(marker_file(marker.shard))
    try:
        for file, data in files:
            _put(store, file, data, replace_others)
    except ShardError:
        store.delete(pending_file(marker.shard))  # what was refused is not announced to the next attempt
        raise
    return _finish(store, marker)


def adopt(dataset: Dataset, shard: int, fingerprint: str) -> Marker | None:
    """Return the marker of a shard that somebody made already, written now if only it was missing; None: draw the
    shard.

    Not for a shard whose files are known to be damaged: where there is a marker, it is believed.

    Args:
        fingerprint: the one that the marker must carry.

    Raises:
        ShardError: another driver wrote another marker meanwhile.
        StorageError: the storage cannot be read or written.
    """
    store = dataset.store
    for name in (marker_file(shard), pending_file(shard)):
        try:
            found = Marker.from_bytes(store.read(name), name)
        except (FileNotFoundError, ValueError):  # drawn again; `commit` refuses a marker that is in the way
            continue
        fits = (found.shard, found.fingerprint) == (shard, fingerprint)
        if not fits or [file.name for file in found.files] != dataset.files(shard):
            continue
        if found.rows + len(found.rejects) != dataset.plan.rows(shard):
            continue
        if name == marker_file(shard):
            store.delete(pending_file(shard))
            return found
        if all(_is_whole(store, file) for file in found.files):
            return _finish(store, found)
    return None


def sweep(store: Store, listing: Iterable[str]) -> None:
    """Remove the pending notes of shards that have their marker: their writer died just before the end.

    Args:
        listing: names of what is there.
    """
    there = set(listing)
    for name in sorted(there):
        found = re.fullmatch(pending_file(0).replace(f"{0:06d}", r"(\d{6,})"), name)
        if found and marker_file(int(found[1])) in there:
            store.delete(name)


def _finish(store: Store, marker: Marker) -> Marker:
    name = marker_file(marker.shard)
    etags = {file.name: _etag(store, file) for file in marker.files}
    marker = replace(marker, etags={file: etag for file, etag in etags.items() if etag})
    if not store.put_new(name, marker.to_bytes()):
        there = Marker.from_bytes(store.read(name), store.uri(name))
        if not there.agrees(marker):
            raise ShardError(_foreign(store, name, "describes another shard than this configuration makes"))
    store.delete(pending_file(marker.shard))
    return marker


def _is_announced(store: Store, marker: Marker) -> bool:
    """Return whether somebody who has not finished said that these very files would be written."""
    name = pending_file(marker.shard)
    try:
        note = Marker.from_bytes(store.read(name), name)
    except (FileNotFoundError, ValueError):
        return False
    return note.agrees(marker) and not store.exists(marker_file(marker.shard))


def _put(store: Store, name: str, data: bytes, replace_others: bool) -> None:
    if not store.put_new(name, data) and not store.holds(name, data):
        if not replace_others:
            raise ShardError(_foreign(store, name, "holds other bytes than this configuration makes"))
        store.put(name, data)


def _etag(store: Store, file: FileRecord) -> str:
    """Return the ETag of a file that was just written; the last look before the marker says that it is there."""
    found = store.stat(file.name)
    if found is None or found.bytes != file.bytes:
        size = "nothing" if found is None else f"{found.bytes} bytes"
        raise StorageError(f"{store.uri(file.name)}: has {size} after writing {file.bytes} bytes; check the storage")
    return found.etag


def _is_whole(store: Store, file: FileRecord) -> bool:
    if store.size(file.name) != file.bytes:
        return False
    return hashlib.sha256(store.read(file.name)).hexdigest() == file.sha256


def _foreign(store: Store, name: str, problem: str) -> str:
    return f"{store.uri(name)}: {problem}; make it again with synthesis.repair=true"
