"""The gallery: faces to embeddings. Where the packing starts, and what keeps references near real-looking faces.

The source is cut into chunks, the unit of parallel work; a chunk is read and embedded, every problem named.
B: images in a batch, N: faces, D: embedding dimension.
"""

import hashlib
import itertools
import math
import tarfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hyperface import pictures
from hyperface.config import Config, ConfigError, EmbedConfig, StorageConfig
from hyperface.embeddings import UNIT_TOLERANCE, Embeddings
from hyperface.models.protocols import Recognizer
from hyperface.pictures import LARGEST_FILE, SUFFIXES
from hyperface.run import RunError
from hyperface.storage import StorageError, Store, open_store

FACES_PER_CHUNK = 128
TOY_NUISANCE = 0.5
_REPLACE = "copy it again, or take it out of embed.source"


@dataclass(frozen=True)
class Chunk:
    """A part of the source: image names of a folder, one archive, or a range of rendered faces."""

    kind: str
    """`toy`, `folder`, `tar` or `parquet`."""
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


@dataclass(frozen=True)
class EmbeddedFace:
    key: str
    embedding_D: NDArray[np.float32]
    """NaN where there is a problem."""
    digest: str
    problem: str
    norm: float = math.nan
    """Of the recogniser's feature, whose direction the embedding is; NaN where the recogniser gives none."""


@dataclass(frozen=True)
class Gallery:
    embeddings: Embeddings
    """Sound faces, in the order of their keys."""
    problems: list[tuple[str, str]]
    """(key, reason) of every other face."""


def plan_chunks(config: EmbedConfig, storage: StorageConfig) -> list[Chunk]:
    """Cut the source into chunks, in a fixed order.

    Raises:
        ConfigError: the source holds nothing that can be read.
    """
    if config.source == "toy":
        starts = range(0, config.num_faces, FACES_PER_CHUNK)
        return [Chunk("toy", (), start, min(start + FACES_PER_CHUNK, config.num_faces)) for start in starts]
    names = list(source_store(config, storage).list())
    archives = [
        Chunk(suffix, (name,)) for name in names for suffix in ("tar", "parquet") if name.endswith("." + suffix)
    ]
    images = [name for name in names if PurePosixPath(name).suffix.lower() in SUFFIXES]
    images = images[: config.num_faces or None]
    starts = range(0, len(images), FACES_PER_CHUNK)
    folders = [Chunk("folder", tuple(images[start : start + FACES_PER_CHUNK])) for start in starts]
    if not archives and not folders:
        wanted = ", ".join((*SUFFIXES, ".tar", ".parquet"))
        what = f"{'holds' if names else 'is not there, or holds'} no file that ends in {wanted}"
        raise ConfigError(f"embed.source: {config.source} {what}; give a folder of faces")
    return archives + folders


def source_store(config: EmbedConfig, storage: StorageConfig) -> Store:
    return open_store(config.source, storage)


def embed_chunk(chunk: Chunk, config: Config, recognizer: Recognizer) -> list[EmbeddedFace]:
    """Read, check and embed the faces of a chunk; a face that fails is returned with its problem.

    Raises:
        RunError: an archive is truncated or foreign: how many faces it should have had, nobody can say.
    """
    size, done = recognizer.image_size, []
    faces = (_checked(face, size) for face in read_chunk(chunk, config))
    while batch := list(itertools.islice(faces, config.embed.batch_size)):
        done += _embed_batch(batch, recognizer)
    return done


def read_chunk(chunk: Chunk, config: Config) -> Iterator[Face]:
    """The faces of a chunk, in order."""
    if chunk.kind == "toy":
        yield from _toy_faces(chunk, config)
        return
    store = source_store(config.embed, config.storage)
    for name in chunk.names:
        match chunk.kind:
            case "tar":
                encoded: Iterable[tuple[str, bytes | None]] = _tar_members(store, name)
            case "parquet":
                encoded = _parquet_rows(store, name)
            case _:
                encoded = [(name, store.read(name))]
        yield from itertools.starmap(_decode, encoded)


def assemble(faces: Iterable[EmbeddedFace], num_faces: int) -> Gallery:
    """The gallery of all chunks: sorted by key, later duplicates taken out, at most `num_faces` (0: all)."""
    ordered = sorted(faces, key=lambda face: face.key)
    first_with: dict[str, str] = {}
    keys: set[str] = set()
    sound, problems = [], []
    for face in ordered:
        original = first_with.setdefault(face.digest, face.key) if not face.problem else face.key
        if face.key in keys:
            problems.append((face.key, "another face has this key"))
        elif face.problem:
            problems.append((face.key, face.problem))
        elif original != face.key:
            problems.append((face.key, f"duplicate of {original}"))
        else:
            sound.append(face)
        keys.add(face.key)
    sound = sound[: num_faces or None]
    vectors_ND = np.stack([face.embedding_D for face in sound]) if sound else np.empty((0, 0), np.float32)
    norms_N = np.array([face.norm for face in sound], np.float32)
    known = bool(len(sound)) and bool(np.isfinite(norms_N).all())
    return Gallery(Embeddings([face.key for face in sound], vectors_ND, norms_N if known else None), problems)


def refuse_bad(gallery: Gallery, max_bad_fraction: float) -> None:
    """Raise RunError with the list when no face, or too few of them, can be used."""
    problems, sound = gallery.problems, len(gallery.embeddings.names)
    total = sound + len(problems)
    if sound and len(problems) <= max_bad_fraction * total:
        return
    shown = "".join(f"\n  {key}: {reason}" for key, reason in problems[:20])
    more = f"\n  and {len(problems) - 20} more, see records/embed.jsonl" if len(problems) > 20 else ""
    raise RunError(
        f"embed: {len(problems)} of {total} faces cannot be used; embed.max_bad_fraction={max_bad_fraction} allows "
        f"{int(max_bad_fraction * total)}. Mend the source or raise embed.max_bad_fraction:{shown}{more}"
    )


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


def _tar_members(store: Store, name: str) -> Iterator[tuple[str, bytes | None]]:
    """(key, encoded image) of every image member of a WebDataset shard; nothing is unpacked to disk."""
    try:
        with store.open(name) as file, tarfile.open(fileobj=file, mode="r|") as archive:
            for member in archive:
                if member.isfile() and PurePosixPath(member.name).suffix.lower() in SUFFIXES:
                    content = archive.extractfile(member)
                    assert content is not None
                    # A member without a byte may claim any size, and would be read as so many zeros.
                    small = member.size <= LARGEST_FILE
                    yield f"{name}/{member.name}", content.read() if small else None
    except tarfile.TarError as error:
        raise RunError(f"{store.uri(name)}: is not a complete tar archive ({error}); {_REPLACE}") from error


def _parquet_rows(store: Store, name: str) -> Iterator[tuple[str, bytes | None]]:
    """(key, encoded image) of every row; column `image`: bytes or {bytes, path}; column `key` is optional."""
    row = 0
    try:
        with store.open(name) as file:
            table = pq.ParquetFile(file)
            columns = [c for c in ("key", "image") if c in table.schema_arrow.names]
            for batch in table.iter_batches(batch_size=FACES_PER_CHUNK, columns=columns):
                for record in batch.to_pylist():
                    image, key = record["image"], record.get("key")
                    data = image.get("bytes") if isinstance(image, dict) else image
                    yield f"{name}/{row:07d}" if key is None else f"{name}/{key}", data
                    row += 1
    except StorageError:
        raise
    except (pa.ArrowException, OSError, KeyError) as error:  # a damaged page is an OSError
        raise RunError(f"{store.uri(name)}: is not a Parquet file with a column `image`; {_REPLACE}") from error


def _decode(key: str, encoded: bytes | None) -> Face:
    if printable(key) != key:  # it will be shown, and written to a table of texts
        return Face(printable(key), None, problem="a name with control characters, or that is no UTF-8")
    if not isinstance(encoded, bytes):
        return Face(key, None, problem="unreadable")
    try:
        return _face(key, pictures.decode(encoded))
    except ValueError:
        return Face(key, None, problem="unreadable")


def printable(key: str) -> str:
    """A name that others gave, with escapes for what a terminal would obey and a table of texts cannot hold."""
    return "".join(ascii(letter)[1:-1] if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in key)


def _face(key: str, image_HWC: NDArray[np.uint8]) -> Face:
    digest = hashlib.sha256(repr(image_HWC.shape).encode() + image_HWC.tobytes()).hexdigest()
    return Face(key, image_HWC, digest)


def _checked(face: Face, size: int) -> Face:
    if face.image_HWC is not None and face.image_HWC.shape != (size, size, 3):
        height, width, _ = face.image_HWC.shape
        return Face(face.key, None, problem=f"wrong shape {width}x{height}, the recogniser takes {size}x{size}")
    return face


def _embed_batch(faces: Sequence[Face], recognizer: Recognizer) -> list[EmbeddedFace]:
    vectors_BD = np.full((len(faces), recognizer.embedding_dim), np.nan, np.float32)
    norms_B = np.full(len(faces), np.nan, np.float32)
    readable = [i for i, face in enumerate(faces) if face.image_HWC is not None]
    if readable:
        images_BHWC = np.stack([image for face in faces if (image := face.image_HWC) is not None])
        vectors_BD[readable], norms_B[readable] = _directions(images_BHWC, recognizer)
    unit_B = np.abs(np.linalg.norm(vectors_BD, axis=1) - 1) <= UNIT_TOLERANCE
    return [
        EmbeddedFace(
            face.key, vector_D, face.digest, face.problem or ("" if unit else "no embedding (NaN or zero)"), float(norm)
        )
        for face, vector_D, unit, norm in zip(faces, vectors_BD, unit_B, norms_B, strict=True)
    ]


def _directions(
    images_BHWC: NDArray[np.uint8], recognizer: Recognizer
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(embeddings, norms of their features): NaN for a recogniser that gives no features."""
    features: Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None = getattr(recognizer, "features", None)
    if features is None:
        return recognizer.embed(images_BHWC), np.full(len(images_BHWC), np.nan, np.float32)
    import torch

    features_BD = torch.from_numpy(features(images_BHWC))  # `embed` would send the images through the network again
    norms_B = features_BD.norm(dim=1)
    # As the toy world's own recogniser does it, to the last bit: its galleries are what they were.
    return torch.nn.functional.normalize(features_BD).numpy(), norms_B.numpy()
