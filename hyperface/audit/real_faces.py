"""Tables of real faces that an audit compares with, their pictures found again and embedded by other networks.

Shape legend: G faces of a table, R faces of a chunk, D embedding dimension.
"""

import hashlib
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hyperface.audit.image_embeddings import Network, folder
from hyperface.audit.real_table import Name, RealTable, real_table
from hyperface.config import Config
from hyperface.errors import ConfigError, EmbeddingError, RunError, UserError
from hyperface.faces import embeddings, source
from hyperface.faces.embeddings import Embeddings
from hyperface.faces.source import Chunk
from hyperface.reading import numpy_file
from hyperface.run import Run, existing_run
from hyperface.run.names import GALLERY
from hyperface.storage import Store, open_file, open_store

GALLERY_TABLE = "gallery"
"""The name of the run's own gallery among the tables."""
_BATCH = 64


@dataclass(frozen=True)
class Faces:
    """A table by the recogniser, and its pictures' source."""

    name: str
    table: Embeddings
    config: Config | None
    """Configuration of the run that embedded them; None for a bare table."""
    chunks: tuple[Chunk, ...]
    """Chunks of the source of its pictures; empty where there are no pictures."""
    no_pictures: str
    digest: str
    """SHA-256 of names and rows."""

    @cached_property
    def names(self) -> frozenset[Name]:
        return frozenset(self.table.names)

    def without_rows(self) -> "Faces":
        """Return the faces without what embedding the pictures does not need: only names, chunks and the digest
        stay."""
        return replace(self, table=Embeddings(self.table.names if self.chunks else [], self.table.vectors_ND[:0]))

    def chunk_name(self, network: Network, number: int) -> str:
        """Return the name of the file with the rows of a chunk by another network."""
        return f"{folder(network.fingerprint)}/real-{self.digest[:12]}/chunk-{number:06d}.npz"


def given(run: Run, embedding_dim: int) -> list[Faces]:
    """The run's gallery, `packing.protected` and each of `audit.against`, in this order.

    Raises:
        ConfigError: audit.against names nothing, a run of another recogniser, something twice, or the run itself.
        EmbeddingError: a table cannot be used, or its rows have not `embedding_dim` numbers.
    """
    config, found = run.config, list[Faces]()
    if run.store.exists(GALLERY):
        found.append(_of_run(GALLERY_TABLE, run, run.config))
    if config.packing.protected:
        protected = embeddings.read_file(config.packing.protected, config.storage)
        found.append(_bare("packing.protected", protected))
    there = {_place(run.store, GALLERY): "this run's gallery, which is compared anyway"}
    if config.packing.protected:
        there[_table(config.packing.protected, config)] = "packing.protected, which is compared anyway"
    for path in config.audit.against:
        if (place := _table(path, config)) in there:
            raise ConfigError(f"audit.against: must name each table once; {path} is {there[place]}; leave it out")
        there[place] = "there twice"
        found.append(_against(path, config))
    for faces in found:
        dim = faces.table.vectors_ND.shape[1]
        if dim != embedding_dim:
            other = f"holds rows of {dim} numbers, and the recogniser gives {embedding_dim}"
            fix = "give a table of this recogniser, made by jobs.embed"
            raise EmbeddingError(f"{faces.name}: {other}: it was made by another one; {fix}")
    return found


def _table(path: str, config: Config) -> str:
    """Return where the table lies that a path of a table, or of a run, means; equal for all spellings."""
    if path.endswith((".parquet", ".npy")):
        return _place(*open_file(path, config.storage))
    return _place(open_store(path, config.storage), GALLERY)


def _place(store: Store, name: str) -> str:
    uri = store.uri(name)
    return uri if "://" in uri else str(Path(uri).resolve())


def _against(path: str, config: Config) -> Faces:
    if path.endswith((".parquet", ".npy")):
        if not embeddings.exists(path, config.storage):
            raise ConfigError(f"audit.against: {path} does not exist; correct the path")
        return _bare(path, embeddings.read_file(path, config.storage))
    try:
        run = existing_run(path, config.storage)
    except ConfigError as error:
        raise ConfigError(f"audit.against: {error}") from error
    theirs, ours = run.config.recognizer, config.recognizer
    if (theirs.kind, theirs.sha256.lower()) != (ours.kind, ours.sha256.lower()):
        other = f"was embedded by another recogniser ({theirs.kind} {theirs.sha256[:12]})".replace(" )", ")")
        raise ConfigError(f"audit.against: {path} {other}; embed its faces with this one (jobs.embed)")
    return _of_run(path, run, replace(run.config, storage=config.storage))


def _bare(name: str, table: Embeddings) -> Faces:
    return Faces(name, table, None, (), "it is a bare table, without pictures", _digest(table))


def _of_run(name: str, run: Run, config: Config) -> Faces:
    table = embeddings.read(run.store, GALLERY, "key")
    try:
        chunks, none = tuple(source.plan_chunks(config.embed, config.storage)), ""
    except (UserError, OSError) as error:
        chunks, none = (), f"its pictures are not there ({error})"
    return Faces(name, table, config, chunks, none, _digest(table))


def _digest(table: Embeddings) -> str:
    found = hashlib.sha256("\n".join(map(str, table.names)).encode() + b"\0")
    found.update(np.ascontiguousarray(table.vectors_ND).reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def embed_chunk(faces: Faces, number: int, networks: Sequence[Network], store: Store) -> int:
    """Embed the pictures of a chunk that are in the table, and write their rows by each network; return their number.

    Memory: a batch of pictures and the rows, however many an archive holds.

    Raises:
        RunError: an archive is truncated or foreign.
    """
    todo = [_Seen(network) for network in networks if not store.exists(faces.chunk_name(network, number))]
    shown = _pictures(faces, number, {seen.network.image_size for seen in todo}) if todo else iter(())
    count = 0
    while batch := list(itertools.islice(shown, _BATCH)):
        for seen in todo:
            seen.add(batch)
        count += len(batch)
    for seen in todo:
        store.put_new(faces.chunk_name(seen.network, number), seen.to_npz())
    return count


_Picture = tuple[Name, NDArray[np.uint8]]


def _pictures(faces: Faces, number: int, sizes: set[int]) -> Iterator[_Picture]:
    """Yield the pictures of a chunk that are in the table and of one of the sizes; of equal names the first of these,
    as the table."""
    assert faces.config is not None
    shown = set[Name]()
    for face in source.read_chunk(faces.chunks[number], faces.config):
        image_HWC, new = face.image_HWC, face.key in faces.names and face.key not in shown
        if new and image_HWC is not None and any(image_HWC.shape == (size, size, 3) for size in sizes):
            shown.add(face.key)
            yield face.key, image_HWC


class _Seen:
    """The rows of a chunk by one network, as far as it has been shown."""

    def __init__(self, network: Network) -> None:
        self.network, self.names = network, list[Name]()
        self.rows_RD = [np.empty((0, network.embedding_dim), np.float32)]

    def add(self, pictures: Sequence[_Picture]) -> None:
        size = self.network.image_size
        fitting = [picture for picture in pictures if picture[1].shape == (size, size, 3)]
        if fitting:
            self.names += [name for name, _ in fitting]
            self.rows_RD.append(self.network.embed(np.stack([image_HWC for _, image_HWC in fitting])))

    def to_npz(self) -> bytes:
        sink = io.BytesIO()
        np.savez(sink, names=np.array(self.names, np.str_), rows=np.concatenate(self.rows_RD))
        return sink.getvalue()


def chunks_to_embed(faces: Faces, networks: Sequence[Network], there: Mapping[str, int]) -> list[int]:
    """Return the chunks of which a file is missing among those that are there."""
    numbers = range(len(faces.chunks))
    return [number for number in numbers if any(faces.chunk_name(n, number) not in there for n in networks)]


def rows_by(faces: Faces, network: Network, store: Store) -> NDArray[np.float32]:
    """Read the rows of all faces by another network, float32 [G, D], NaN where there is none. Raises RunError."""
    at = {name: row for row, name in enumerate(faces.table.names)}
    rows_GD = np.full((len(at), network.embedding_dim), np.nan, np.float32)
    for number in range(len(faces.chunks)):
        name = faces.chunk_name(network, number)
        try:
            kept = numpy_file.arrays(store.read(name))
            names, rows_RD = kept["names"].tolist(), kept["rows"]
        except (OSError, ValueError, KeyError) as error:
            raise RunError(f"{store.uri(name)}: is missing or not readable; delete it, run jobs.audit again") from error
        if len(names):
            rows_GD[[at[name] for name in names]] = rows_RD
    return rows_GD


def table_of(faces: Faces, rows: Mapping[str, NDArray[np.float32]], classes: Literal["folder", "each"]) -> RealTable:
    """Return the table as the audit takes it.

    Args:
        rows: rows by every network, the recogniser's own among them.
    """
    pictures = _Pictures(faces) if faces.chunks else None
    return real_table(faces.name, faces.table.names, rows, classes, pictures, faces.no_pictures)


class _Pictures:
    """Names of faces to their pictures: reads the parts of the source that may hold them."""

    def __init__(self, faces: Faces) -> None:
        self.faces = faces

    def __call__(self, names: Sequence[Name]) -> dict[Name, NDArray[np.uint8]]:
        wanted, found = set(names), dict[Name, NDArray[np.uint8]]()
        assert self.faces.config is not None
        for chunk in self.faces.chunks:
            left = {name for name in wanted - found.keys() if _may_hold(chunk, str(name))}
            for face in source.read_chunk(_part(chunk, left), self.faces.config) if left else ():
                if face.key in left and face.image_HWC is not None:
                    found[face.key] = face.image_HWC
        return found


def _may_hold(chunk: Chunk, name: str) -> bool:
    if chunk.kind == "toy":
        number = name.removeprefix("toy-")
        return number.isdecimal() and chunk.start <= int(number) < chunk.stop
    return any(name == file or name.startswith(file + "/") for file in chunk.names)


def _part(chunk: Chunk, names: set[Name]) -> Chunk:
    """Return a chunk with only the files that are wanted, where it is made of files."""
    return replace(chunk, names=tuple(n for n in chunk.names if n in names)) if chunk.kind == "folder" else chunk
