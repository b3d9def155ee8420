"""LMDB: the key of an image -> its JPEG as stored, in one `data.mdb`; `labels.csv` beside it lists key and label.

Keys sort as (identity, image). A reader opens the folder with `lmdb.open(path, readonly=True, lock=False)`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb

from hyperface.dataset.schema import ShardImages
from hyperface.errors import StorageError

PAGE = 4096


@contextmanager
def opened(folder: Path, stored_bytes: int, images: int) -> Iterator[lmdb.Environment]:
    """Open an environment for writing, with room for so many images.

    Args:
        stored_bytes: at least the bytes of all images; an image fills whole pages, and the tree adds a little.

    Raises:
        StorageError: LMDB cannot write there.
    """
    room = stored_bytes + images * 3 * PAGE + 64 * 2**20  # an address range; the file has the pages that are used
    try:
        # meminit stays on: pages in which memory of this process ends up are neither equal nor anybody's business.
        with lmdb.open(str(folder), map_size=room, readahead=False) as environment:
            yield environment
    except lmdb.Error as error:
        fix = "check space and permissions; the same command goes on"
        raise StorageError(f"{folder}: cannot be written: {error}; {fix}") from error


def write(environment: lmdb.Environment, images: ShardImages) -> None:
    """Write all images in one transaction that is on the disk afterwards; again gives the same content."""
    with environment.begin(write=True) as transaction:
        for key, jpeg in zip(images.keys, images.jpegs, strict=True):
            transaction.put(key.encode(), jpeg)


def count(environment: lmdb.Environment) -> int:
    """Return the number of images that are stored."""
    return int(environment.stat()["entries"])
