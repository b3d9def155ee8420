"""The stored images, embedded again: a file of rows for each shard and network, then one map of all in order.

A file lies under `evaluation/embeddings/NETWORK/`, where NETWORK begins the SHA-256 of the network's weights; it holds
the rows of its shard in their order, so that an audit that was killed goes on after one listing. A row without a
direction (NaN) is kept in the file, and left out of the map.

Shape legend: R rows of a shard, N images, D numbers of a row, B images in a batch.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hyperface.dataset import jpeg
from hyperface.dataset.plan import key
from hyperface.dataset.source import Source
from hyperface.errors import RunError
from hyperface.reading import numpy_file
from hyperface.run.names import AUDIT_EMBEDDINGS
from hyperface.run.records import to_json
from hyperface.storage import Store

BATCH = 64


class Network(Protocol):
    """A network that turns a picture into numbers: a recogniser, or a model of attributes."""

    @property
    def embedding_dim(self) -> int: ...
    @property
    def image_size(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    def embed(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Stored:
    """The embeddings of a dataset by one network, in the order of identity and image."""

    rows_ND: NDArray[np.float32]
    """Unit rows in a memory-mapped file."""
    identities_N: NDArray[np.int64]
    images_N: NDArray[np.int64]
    without: list[str]
    """Keys of the images that have no embedding."""

    def key(self, row: int) -> str:
        return key(int(self.identities_N[row]), int(self.images_N[row]))


def folder(fingerprint: str) -> str:
    return f"{AUDIT_EMBEDDINGS}/{fingerprint[:12]}"


def shard_name(fingerprint: str, shard: int) -> str:
    return f"{folder(fingerprint)}/shard-{shard:06d}.npy"


def shards_to_embed(source: Source, networks: Sequence[Network]) -> list[int]:
    """Return the shards of which a file is missing. Files of another dataset, by its index, are removed."""
    store, missing = source.run.store, set[int]()
    for network in networks:
        described, wanted = f"{folder(network.fingerprint)}/source.json", to_json({"index": source.index_sha256})
        there = store.list(folder(network.fingerprint))
        if described not in there or store.read(described) != wanted:
            for name in there:
                if "/shard-" in name:
                    store.delete(name)
            there = {}
            store.put(described, wanted)
        names = {shard: shard_name(network.fingerprint, shard) for shard in range(source.plan.num_shards)}
        missing |= {shard for shard, name in names.items() if name not in there}
    return sorted(missing)


def embed_shard(source: Source, shard: int, networks: Sequence[Network]) -> int:
    """Read a shard once and write the rows of every network that has none yet; return the number of its images.

    Raises:
        RunError: its bytes are not those of its marker, or its images have another size than a network takes.
    """
    images, store = source.read(shard), source.run.store
    for network in networks:
        name = shard_name(network.fingerprint, shard)
        if not store.exists(name):
            store.put_new(name, to_npy(rows_of(images.jpegs, network, store.uri(source.files[shard].name))))
    return len(images.keys)


def rows_of(jpegs: Sequence[bytes], network: Network, name: str) -> NDArray[np.float32]:
    """Embed encoded images, decoded a batch at a time: float32 [R, D]. Raises RunError where a network takes another
    size.

    Args:
        name: name of the file that holds the images, for messages.
    """
    rows_RD = np.empty((len(jpegs), network.embedding_dim), np.float32)
    for first in range(0, len(jpegs), BATCH):
        batch = [jpeg.decode(data) for data in jpegs[first : first + BATCH]]
        size = network.image_size
        other = next((image for image in batch if image.shape[:2] != (size, size)), None)
        if other is not None:
            sizes = f"holds images of {other.shape[1]}x{other.shape[0]} pixels, and the network takes {size}x{size}"
            raise RunError(f"{name}: {sizes}; give a network for these images (judge.*, audit.attribute_*)")
        rows_RD[first : first + BATCH] = network.embed(np.stack(batch))
    return rows_RD


def to_npy(rows_RD: NDArray[np.float32]) -> bytes:
    sink = io.BytesIO()
    np.save(sink, np.ascontiguousarray(rows_RD, dtype=np.float32))
    return sink.getvalue()


def assemble(source: Source, network: Network, path: Path) -> Stored:
    """Write the rows of all shards into one file, at the places of their images; rows without an embedding are left
    out.

    Memory: the rows of one shard, and 16 bytes per image.

    Args:
        path: a local file that is written; its map is part of the result.

    Raises:
        RunError: a file does not hold the rows of its shard; names it.
    """
    classes, store = source.classes, source.run.store
    rows_ND = np.lib.format.open_memmap(path, "w+", np.float32, (classes.num_images, network.embedding_dim))
    identities_N, images_N = np.empty(classes.num_images, np.int64), np.empty(classes.num_images, np.int64)
    for shard in range(source.plan.num_shards):
        identities_R, images_R = _stored(source, shard)
        name = shard_name(network.fingerprint, shard)
        rows_RD = _rows(store, name, (len(identities_R), network.embedding_dim))
        at_R = classes.positions(identities_R, images_R)
        rows_ND[at_R], identities_N[at_R], images_N[at_R] = rows_RD, identities_R, images_R
    return _sound(rows_ND, identities_N, images_N)


def pictures(source: Source, keys: Sequence[str]) -> Mapping[str, bytes]:
    """Return {key: JPEG} of stored images; reads only the shards that hold them."""
    wanted, found = set(keys), dict[str, bytes]()
    numbers = [(int(k[:7]) - source.plan.first_identity) * source.plan.images_per_identity + int(k[8:]) for k in wanted]
    for shard in range(source.plan.num_shards):
        if len(found) == len(wanted):
            break
        identities_R, images_R = source.plan.shard(shard)
        rows_R = (identities_R - source.plan.first_identity) * source.plan.images_per_identity + images_R
        if np.isin(rows_R, numbers).any():
            images = source.read(shard)
            found |= {k: data for k, data in zip(images.keys, images.jpegs, strict=True) if k in wanted}
    return found


def _stored(source: Source, shard: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (identities, images) of the rows of a shard that are there and no duplicates."""
    identities_R, images_R = source.plan.shard(shard)
    keys = source.plan.keys(shard)
    kept_R = np.array([k not in source.rejected and k not in source.duplicates for k in keys], np.bool_)
    return identities_R[kept_R], images_R[kept_R]


def _rows(store: Store, name: str, shape: tuple[int, int]) -> NDArray[np.float32]:
    try:
        rows_RD: NDArray[np.float32] = numpy_file.array(store.read(name))
    except FileNotFoundError as error:
        raise RunError(f"{store.uri(name)}: is missing; run jobs.audit again") from error
    except ValueError as error:
        raise RunError(f"{store.uri(name)}: is not a readable .npy file; delete it and run jobs.audit again") from error
    if rows_RD.shape != shape or rows_RD.dtype != np.float32:
        rule = f"must hold float32 rows of shape {shape}, it holds {rows_RD.dtype} of shape {rows_RD.shape}"
        raise RunError(f"{store.uri(name)}: {rule}; delete it and run jobs.audit again")
    return rows_RD


def _sound(rows_ND: NDArray[np.float32], identities_N: NDArray[np.int64], images_N: NDArray[np.int64]) -> Stored:
    """Move the rows that have a direction to the front, in place."""
    kept, without = 0, list[str]()
    for first in range(0, len(rows_ND), 4096):
        block = slice(first, first + 4096)
        there_R = np.isfinite(rows_ND[block]).all(axis=1)
        numbers = first + np.flatnonzero(~there_R)
        without += [key(int(identities_N[i]), int(images_N[i])) for i in numbers]
        to = slice(kept, kept + int(there_R.sum()))
        for values in (rows_ND, identities_N, images_N):
            values[to] = values[block][there_R]
        kept = to.stop
    return Stored(rows_ND[:kept], identities_N[:kept], images_N[:kept], without)
