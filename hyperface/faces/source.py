"""Sources of faces: a folder of pictures, archives, tables, or the toy world's renderer.

A source is cut into chunks, the unit of parallel work. Each of its files is read, named with a problem, or counted as
passed over; an archive is read whole or refused.
"""

import hashlib
import itertools
import tarfile
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hyperface.config import Config, EmbedConfig, StorageConfig
from hyperface.errors import ConfigError, RunError, StorageError
from hyperface.faces import pictures, tables, tar
from hyperface.faces.pictures import HIDDEN, LARGEST_FILE, SUFFIXES, is_picture, other_kind
from hyperface.reading.one_line import one_line
from hyperface.reading.unpacking import UnpacksToMore
from hyperface.storage import LocalStore, Store, open_file, open_store

FACES_PER_CHUNK = 128
TOY_NUISANCE = 0.5
ARCHIVES = (".tar", ".tar.gz", ".tgz")
LINKS, BEYOND = "links and devices", "beyond embed.num_faces"
"""Kinds of files that are passed over, besides those of `other_kind`."""
_REPLACE = "copy it again, or take it out of embed.source"
_TOO_LARGE = f"unreadable, larger than {LARGEST_FILE >> 20} MiB"
_SPARSE = "unreadable, stored without its zeros; pack it without --sparse"


@dataclass(frozen=True)
class Chunk:
    """A part of the source: image names of a folder, one archive, or a range of rendered faces."""

    kind: str
    """`toy`, `folder`, `tar`, `parquet`, `beside` (a table that may only describe the archive or folder of its name) or
    `large` (a picture that is not read)."""
    names: tuple[str, ...] = ()
    start: int = 0
    stop: int = 0


@dataclass(frozen=True)
class Face:
    """One image of the source, or why there is none."""

    key: str
    image_HWC: NDArray[np.uint8] | None
    digest: str = ""
    """SHA-256 of the pixels; equal for exact duplicates."""
    problem: str = ""


def plan_chunks(config: EmbedConfig, storage: StorageConfig, passed_over: Counter[str] | None = None) -> list[Chunk]:
    """Cut the source into chunks, in a fixed order.

    Args:
        passed_over: counts the files that no chunk holds, by suffix.

    Raises:
        ConfigError: the source holds nothing that can be read.
    """
    if config.source == "toy":
        starts = range(0, config.num_faces, FACES_PER_CHUNK)
        return [Chunk("toy", (), start, min(start + FACES_PER_CHUNK, config.num_faces)) for start in starts]
    sizes, passed_over = source_store(config, storage).list_all(), Counter() if passed_over is None else passed_over
    places = {name.rpartition("/")[0] for name in sizes}  # there are fewer of them than files
    described = places | {parent.as_posix() for place in places for parent in PurePosixPath(place).parents}
    described |= {name[: -len(suffix)] for name in sizes for suffix in ARCHIVES if name.lower().endswith(suffix)}
    kinds = {name: _kind(name, size, described) for name, size in sizes.items()}
    images = [name for name, kind in kinds.items() if kind in ("folder", "large")]
    for name in images[config.num_faces or len(images) :]:
        kinds[name] = BEYOND
    archives = [Chunk(kind, (name,)) for name, kind in kinds.items() if kind in ("tar", "parquet")]
    folders = _cut("folder", kinds)
    if not archives and not folders:
        wanted = ", ".join((*SUFFIXES, *ARCHIVES, ".parquet"))
        what = f"{'holds' if sizes else 'is not there, or holds'} no file that ends in {wanted}"
        store, name = open_file(config.source, storage)
        if not sizes and name.lower().endswith((*SUFFIXES, *ARCHIVES, ".parquet")) and store.exists(name):
            what = "is a file"
        raise ConfigError(f"embed.source: {config.source} {what}; give a folder of faces, or of archives of them")
    chunks = archives + folders + _cut("large", kinds) + [Chunk("beside", (n,)) for n in kinds if kinds[n] == "beside"]
    read = {chunk.kind for chunk in chunks}
    passed_over.update(kind for kind in kinds.values() if kind not in read)
    return chunks


def _kind(name: str, size: int, described: set[str]) -> str:
    """The kind of chunk that a file of the source belongs to, or what it is passed over as.

    Args:
        described: names of folders, and of archives without their suffix, that a table may be about.
    """
    kind = other_kind(name)
    if not kind:
        return "folder" if size <= LARGEST_FILE else "large"
    if kind == HIDDEN:
        return kind
    if name.lower().endswith(ARCHIVES):
        return "tar"
    if name.lower().endswith(".parquet"):
        return "beside" if name[: -len(".parquet")] in described else "parquet"
    return kind


def _cut(kind: str, kinds: Mapping[str, str]) -> list[Chunk]:
    names = [name for name in kinds if kinds[name] == kind]
    return [Chunk(kind, tuple(names[at : at + FACES_PER_CHUNK])) for at in range(0, len(names), FACES_PER_CHUNK)]


def source_store(config: EmbedConfig, storage: StorageConfig) -> Store:
    return open_store(config.source, storage)


def read_chunk(chunk: Chunk, config: Config, passed_over: Counter[str] | None = None) -> Iterator[Face]:
    """The faces of a chunk, in order.

    Args:
        passed_over: counts the files in archives that are no faces, by suffix.
    """
    passed_over = Counter() if passed_over is None else passed_over
    if chunk.kind == "toy":
        yield from _toy_faces(chunk, config)
        return
    store = source_store(config.embed, config.storage)
    for name in chunk.names:
        match chunk.kind:
            case "tar":
                encoded = _of_archive(_tar_members(store, name, passed_over), store, name, passed_over)
            case "parquet" | "beside":
                encoded = _of_archive(_parquet_rows(store, name), store, name, passed_over, chunk.kind == "beside")
            case "large":
                encoded = iter([(name, _TOO_LARGE)])
            case _:
                encoded = iter([(name, _content(store, name))])
        yield from itertools.starmap(_decode, encoded)


def _toy_faces(chunk: Chunk, config: Config) -> Iterator[Face]:
    from hyperface.models.toy import renderer

    # A seed of its own: the shipped recognisers were trained on identities drawn from small seeds.
    seed = int.from_bytes(hashlib.sha256(f"gallery {config.run.seed}".encode()).digest()[:6])
    identities_NI = renderer.sample_identities(chunk.stop, seed)[chunk.start :] * config.embed.identity_spread
    seeds_N = [seed + 1 + i for i in range(chunk.start, chunk.stop)]
    nuisance_NN = renderer.sample_nuisance(seeds_N, TOY_NUISANCE)
    images_NHWC = renderer.render(identities_NI.astype(np.float32), nuisance_NN, seeds_N)
    for i, image_HWC in zip(range(chunk.start, chunk.stop), images_NHWC, strict=True):
        yield _face(f"toy-{i:07d}", image_HWC)


_Encoded = Iterator[tuple[str, bytes | str]]
"""(key, encoded image, or why there is none) of each face."""


def _content(store: Store, name: str) -> bytes | str:
    """A file, or why it cannot be read: gone, forbidden or on a bad disk, it is one face.

    Raises:
        StorageError: a server does not answer, which is the case of every file.
    """
    try:
        return store.read(name)
    except OSError as error:
        cause = error.__cause__ if isinstance(error, StorageError) else error
        if not (isinstance(cause, FileNotFoundError | PermissionError) or isinstance(store, LocalStore)):
            raise
        return f"cannot be read ({getattr(cause, 'strerror', None) or error})"


def _of_archive(faces: _Encoded, store: Store, name: str, passed_over: Counter[str], beside: bool = False) -> _Encoded:
    """The faces of one archive or table, which is read whole or refused.

    Args:
        beside: True where it may be a table about pictures that lie elsewhere.
    """
    seen = 0
    try:
        for face in faces:
            yield face
            seen += 1
        if not seen:
            passed_over[f"{other_kind(name)} without a face"] += 1
    except tables.NoPictures as error:
        if not beside:
            raise RunError(f"{store.uri(name)}: is not a Parquet file with a column `image`: {error}") from error
        passed_over[".parquet beside its pictures"] += 1
    except tables.OddKeys as error:
        raise RunError(f"{store.uri(name)}: {error}") from error
    except StorageError:
        raise
    except (tarfile.ReadError, pa.ArrowException, OSError, ValueError) as error:
        whole = f"is not a complete {'Parquet file' if name.lower().endswith('.parquet') else 'tar archive'}"
        what = "cannot be read" if isinstance(error, OSError) and error.errno else whole
        if isinstance(error, UnpacksToMore):
            what = "is refused"
        why = f"{one_line(error)}; {seen} faces came before"
        raise RunError(f"{store.uri(name)}: {what} ({why}); {_REPLACE}") from error


def _tar_members(store: Store, name: str, passed_over: Counter[str]) -> _Encoded:
    """Every image member of a WebDataset shard; nothing is unpacked to disk."""
    with store.open(name) as file:
        for member in tar.members(file, is_picture, LARGEST_FILE):
            kind = other_kind(member.name)
            if member.kind == "other" and kind != HIDDEN:
                passed_over[LINKS] += 1
            elif kind:
                passed_over[kind] += 1
            else:
                why = _SPARSE if member.kind == "sparse" else _TOO_LARGE
                yield f"{name}/{member.name}", why if member.content is None else member.content


def _parquet_rows(store: Store, name: str) -> _Encoded:
    with store.open(name) as file:
        for key, image in tables.rows(file):
            yield f"{name}/{key}", "unreadable, there is no picture in its row" if image is None else image


def _decode(key: str, encoded: bytes | str) -> Face:
    if printable(key) != key:  # it will be shown, and written to a table of texts
        return Face(printable(key), None, problem="a name with control characters, or that is no UTF-8")
    if isinstance(encoded, str):
        return Face(key, None, problem=encoded)
    try:
        return _face(key, pictures.decode(encoded))
    except ValueError:
        return Face(key, None, problem="unreadable")


def printable(key: str) -> str:
    """A name that others gave, with escapes for what breaks a line or a terminal, or a table of texts cannot hold.

    Letters that only change how others look, which `one_line.shown` escapes too, are kept: emoji have joiners, Persian
    and Arabic names have marks, and they are part of the keys of sound faces.
    """
    return "".join(ascii(letter)[1:-1] if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in key)


def _face(key: str, image_HWC: NDArray[np.uint8]) -> Face:
    digest = hashlib.sha256(repr(image_HWC.shape).encode() + image_HWC.tobytes()).hexdigest()
    return Face(key, image_HWC, digest)
