"""The gallery: faces to embeddings. Where the packing starts, and what keeps references near real-looking faces.

The chunks of its source are read and embedded, every problem named.
B: images in a batch, N: faces, D: embedding dimension.
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyperface.config import Config, without_knobs
from hyperface.errors import RunError
from hyperface.faces.embeddings import Embeddings
from hyperface.faces.pictures import counted
from hyperface.faces.source import Chunk, Face, read_chunk
from hyperface.models.protocols import UNIT_TOLERANCE, Recognizer
from hyperface.reading.one_line import shown
from hyperface.run import Run
from hyperface.run.names import EMBEDDED

LEFT_OUT = (
    "unreadable",
    "cannot be read",
    "wrong shape",
    "no embedding",
    "duplicate",
    "another face has this key",
    "a name",
)
"""Beginnings of the reasons for which a face is left out."""


@dataclass(frozen=True)
class EmbeddedFace:
    key: str
    embedding_D: NDArray[np.float32]
    """Embedding of the face; NaN where there is a problem."""
    digest: str
    problem: str
    norm: float = math.nan
    """Norm of the recogniser's feature, whose direction the embedding is; NaN where the recogniser gives none."""


@dataclass(frozen=True)
class Gallery:
    embeddings: Embeddings
    """Sound faces, in the order of their keys."""
    problems: list[tuple[str, str]]
    """(key, reason) of every other face."""
    beyond: int = 0
    """Sound faces that are more than were asked for."""


def embed_chunk(
    chunk: Chunk, config: Config, recognizer: Recognizer, passed_over: Counter[str] | None = None
) -> list[EmbeddedFace]:
    """Read, check and embed the faces of a chunk; a face that fails is returned with its problem.

    Args:
        passed_over: counts the files that are no faces, as in `read_chunk`.

    Raises:
        RunError: an archive is damaged, foreign or cannot be read: how many faces it should have had, nobody can say.
    """
    size, done = recognizer.image_size, []
    faces = (_checked(face, size) for face in read_chunk(chunk, config, passed_over))
    while batch := list(itertools.islice(faces, config.embed.batch_size)):
        done += _embed_batch(batch, recognizer)
    return done


def bind(run: Run) -> None:
    """Record what decides the gallery of a run that has none. Raises as `Run.bind`."""
    sections = {name: without_knobs(getattr(run.config, name)) for name in ("run", "recognizer", "embed")}
    run.bind(EMBEDDED, sections, "gallery (resume with the recorded values, or choose another run.dir)", begun=False)


def assemble(faces: Iterable[EmbeddedFace], num_faces: int) -> Gallery:
    """The gallery of all chunks: sorted by key, later duplicates taken out, at most `num_faces` (0: all).

    Of faces with one key the first sound one is taken.
    """
    ordered = sorted(faces, key=lambda face: (face.key, bool(face.problem)))
    first_with: dict[str, str] = {}
    keys: set[str] = set()
    sound, problems = [], []
    for face in ordered:
        if face.problem:
            problems.append((face.key, face.problem))
        elif face.key in keys:
            problems.append((face.key, "another face has this key"))
        elif face.digest in first_with:
            problems.append((face.key, f"duplicate of {first_with[face.digest]}"))
        else:
            sound.append(face)
            first_with[face.digest] = face.key
        keys.add(face.key)
    beyond = len(sound[num_faces or len(sound) :])
    sound = sound[: num_faces or None]
    vectors_ND = np.stack([face.embedding_D for face in sound]) if sound else np.empty((0, 0), np.float32)
    norms_N = np.array([face.norm for face in sound], np.float32)
    known = bool(len(sound)) and bool(np.isfinite(norms_N).all())
    table = Embeddings([face.key for face in sound], vectors_ND, norms_N if known else None)
    return Gallery(table, problems, beyond)


def left_out(gallery: Gallery) -> Counter[str]:
    """Count the faces that are left out, by kind of reason."""
    return Counter(next((kind for kind in LEFT_OUT if why.startswith(kind)), "other") for _, why in gallery.problems)


def account(gallery: Gallery, passed_over: Counter[str]) -> str:
    """A line that says where every file of the source went.

    `30 faces, 3 left out (duplicate 2, unreadable 1), 24 files passed over (.json 12, .txt 12)`
    """
    said = f"{len(gallery.embeddings.names)} faces, {len(gallery.problems)} left out{_counted(left_out(gallery))}"
    passed = passed_over.total()
    return said + (f", {passed} files passed over{_counted(passed_over)}" if passed else "")


def _counted(kinds: Counter[str]) -> str:
    return f" ({said})" if (said := counted(kinds)) else ""


def refuse_bad(gallery: Gallery, max_bad_fraction: float, passed_over: Counter[str] | None = None) -> None:
    """Raise RunError with the list when no face, or too few of them, can be used."""
    problems, sound = gallery.problems, len(gallery.embeddings.names)
    total = sound + len(problems)
    if not total:
        held = _counted(passed_over or Counter())
        raise RunError(f"embed.source: its archives and tables hold no face{held}; give pictures of faces")
    if sound and len(problems) <= max_bad_fraction * total:
        return
    named = "".join(f"\n  {shown(f'{key}: {reason}')}" for key, reason in problems[:20])
    more = f"\n  and {len(problems) - 20} more, see records/embed.jsonl" if len(problems) > 20 else ""
    raise RunError(
        f"embed: {len(problems)} of {total} faces cannot be used; embed.max_bad_fraction={max_bad_fraction} allows "
        f"{int(max_bad_fraction * total)}. Mend the source or raise embed.max_bad_fraction:{named}{more}"
    )


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
    """Return (embeddings, norms of their features); norms are NaN for a recogniser that gives no features."""
    features: Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None = getattr(recognizer, "features", None)
    if features is None:
        return recognizer.embed(images_BHWC), np.full(len(images_BHWC), np.nan, np.float32)
    import torch

    features_BD = torch.from_numpy(features(images_BHWC))  # `embed` would send the images through the network again
    norms_B = features_BD.norm(dim=1)
    # As the toy world's own recogniser does it, to the last bit: its galleries are what they were.
    return torch.nn.functional.normalize(features_BD).numpy(), norms_B.numpy()
