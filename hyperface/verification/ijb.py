"""IJB-B and IJB-C: 1:1 verification of templates, from the files that InsightFace distributes.

A template is all that is known of a person at one place: photos and frames of videos, each of them a medium. The
folder holds:
- meta/ijbc_face_tid_mid.txt: image, template, medium, a line for each face;
- meta/ijbc_name_5pts_score.txt: image, five landmarks (x y), score of the detector, in the same order;
- meta/ijbc_template_pair_label.txt: two templates and whether they are of one person;
- loose_crop/: the images.
Landmarks are places in the upright image: InsightFace reads it with OpenCV, which turns it by its EXIF orientation.

Shape legend: N faces, M templates, D embedding dimension, B faces of a batch, L = 5 landmarks, P pairs, S pixels.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperface.config import StorageConfig
from hyperface.errors import ConfigError, RunError
from hyperface.models.alignment import ARCFACE_112, similarity, warp
from hyperface.models.arcface import normalised
from hyperface.models.protocols import FeatureRecognizer
from hyperface.progress.meter import Meter
from hyperface.storage import Store, open_store
from hyperface.verification.pair_set import decode, read_picture, shown
from hyperface.verification.verification import flip_sum, measured, squared_distances

KINDS = ("ijbb", "ijbc")
IMAGES = "loose_crop"

_LANDMARKS = 5
# Bytes of the list of pairs that are parsed at a time; IJB-C's has 15.7 million lines.
_CHUNK = 2**22


@dataclass(frozen=True)
class Faces:
    """The faces of a folder, in the order of its files."""

    images: list[str]
    """Names in the store."""
    landmarks_NL2: NDArray[np.float64]
    weights_N: NDArray[np.float64]
    """Score of the detector, divided by the number of faces of its medium in its template."""
    rows_N: NDArray[np.int64]
    """Row of the face's template among `templates_M`."""
    templates_M: NDArray[np.int64]
    """Numbers of the templates, ascending."""


def verify_on(path: str, storage: StorageConfig, recognizer: FeatureRecognizer, batch_size: int) -> dict[str, Any]:
    """Return the record of one folder: error rates over its list of pairs of templates, and no accuracy.

    Whitelam et al., "IARPA Janus Benchmark-B Face Dataset", CVPRW 2017, and Maze et al., "IARPA Janus Benchmark - C",
    ICB 2018, with features as InsightFace makes them (recognition/_evaluation_/ijb/ijb_11.py with its defaults): see
    `template_features`. Memory: the templates' features, and about 80 bytes a pair.

    Raises:
        ConfigError: the folder is neither IJB-B nor IJB-C.
        RunError: its files contradict each other, or an image is missing, broken or without an embedding.
    """
    began, name = time.monotonic(), name_of(path, storage)
    store = open_store(path, storage)
    faces = read_faces(store, name)
    first_P, second_P, same_P = read_pairs(store, name, faces.templates_M)
    x_MD = template_features(store, faces, recognizer, batch_size, name)
    record = measured(squared_distances(x_MD, first_P, second_P), same_P, folds=False)
    described = {"name": name, "source": str(store), "images": len(faces.images), "templates": len(x_MD)}
    return record | described | {"seconds": round(time.monotonic() - began, 2)}


def name_of(path: str, storage: StorageConfig) -> str:
    """Return `ijbb` or `ijbc`, by the files in the folder. Raises ConfigError when it holds neither, or both."""
    store = open_store(path, storage)
    found = [kind for kind in KINDS if store.exists(_meta(kind, "face_tid_mid"))]
    if len(found) == 1:
        return found[0]
    wanted = " or ".join(_meta(kind, "face_tid_mid") for kind in KINDS)
    raise ConfigError(
        f"evaluate.ijb: {store} must hold {wanted}, and holds {'both' if found else 'neither'}; "
        "give a folder of IJB-B or IJB-C as InsightFace distributes it"
    )


def template_features(
    store: Store, faces: Faces, recognizer: FeatureRecognizer, batch_size: int, name: str
) -> NDArray[np.float32]:
    """Return unit rows [M, D]: what each template's faces have in common.

    As in InsightFace's ijb_11.py: a face's feature is that of its crop plus that of the mirrored crop, not normalised,
    times the score of the detector; a medium's is the mean of its faces, a template's the sum of its media, normalised.
    There: OpenCV's bilinear warp. Here: `alignment.warp`, which averages where the picture is larger than the crop.

    Raises:
        RunError: an image is broken or has no embedding, or landmarks are no face's.
    """
    total_MD = np.zeros((len(faces.templates_M), recognizer.embedding_dim))
    meter = Meter(f"evaluate: {name}", len(faces.images), "images")
    for start in range(0, len(faces.images), batch_size):
        part = slice(start, start + batch_size)
        crops = [_crop(store, faces, at, recognizer.image_size) for at in range(*part.indices(len(faces.images)))]
        rows_BD = flip_sum(recognizer.features, np.stack(crops))
        bad = np.flatnonzero(~np.isfinite(rows_BD).all(axis=1))
        if len(bad):
            image = store.uri(faces.images[start + int(bad[0])])
            raise RunError(f"{image}: the recogniser has no embedding of it (NaN); evaluate another recogniser")
        np.add.at(total_MD, faces.rows_N[part], rows_BD * faces.weights_N[part, None])
        meter.reach(start + len(crops))
    meter.close()
    x_MD = normalised(total_MD.astype(np.float32))
    bad = np.flatnonzero(~np.isfinite(x_MD).all(axis=1))
    if len(bad):
        raise RunError(
            f"{store}: template {faces.templates_M[bad[0]]} has no embedding: its features add up to nothing"
        )
    return x_MD


def read_faces(store: Store, name: str) -> Faces:
    """The faces of a folder, from its two lists of them.

    Raises:
        RunError: a list is missing, a line of it is wrong, the lists differ, or an image is not there; names the line.
    """
    members, points = _meta(name, "face_tid_mid"), _meta(name, "name_5pts_score")
    there = set(store.list(IMAGES))
    images, people, places = [], [], []
    for (number, member), (_, point) in _together(store, members, points):
        image, *ids = _fields(store, members, number, member, 3)
        same_image, *values = _fields(store, points, number, point, 2 + 2 * _LANDMARKS)
        if image != same_image:
            raise _wrong(store, points, number, f"is of {shown(same_image)}, not of {shown(image)} as in {members}")
        if f"{IMAGES}/{image}" not in there:
            raise _wrong(store, members, number, f"names {shown(image)}, which is not in {store.uri(IMAGES)}")
        images.append(f"{IMAGES}/{image}")
        people.append(_numbers(store, members, number, ids, int))
        places.append(_numbers(store, points, number, values, float))
    if not images:
        raise RunError(f"{store.uri(members)}: holds no faces; copy it again")
    ids_N2, places_NV = np.array(people, np.int64), np.array(places, np.float64)
    bad = np.flatnonzero(~(np.isfinite(places_NV).all(axis=1) & (places_NV[:, -1] >= 0)))
    if len(bad):
        raise _wrong(store, points, int(bad[0]) + 1, "must hold finite landmarks and a score of at least 0")
    templates_M, rows_N = np.unique(ids_N2[:, 0], return_inverse=True)
    _, medium_N, count_m = np.unique(ids_N2, axis=0, return_inverse=True, return_counts=True)
    weights_N = places_NV[:, -1] / count_m[medium_N.ravel()]
    return Faces(images, places_NV[:, :-1].reshape(-1, _LANDMARKS, 2), weights_N, rows_N, templates_M)


def read_pairs(
    store: Store, name: str, templates_M: NDArray[np.int64], chunk: int = _CHUNK
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]:
    """Return (first_P, second_P, same_P): rows among `templates_M` of each pair, and whether it is one person.

    Args:
        chunk: bytes that are parsed at a time.

    Raises:
        RunError: the list is missing, or a line is no pair of known templates; names the line.
    """
    file = _meta(name, "template_pair_label")
    _check_there(store, file)
    parts: list[tuple[NDArray[np.int32], NDArray[np.bool_]]] = []
    before = 0
    for lines in _chunks(store, file, chunk):
        values = _whole_numbers(store, file, before, lines)
        rows_P2 = np.searchsorted(templates_M, values[:, :2])
        known_P2 = templates_M[np.minimum(rows_P2, len(templates_M) - 1)] == values[:, :2]
        good_P = known_P2.all(axis=1) & np.isin(values[:, 2], (0, 1))
        if not good_P.all():
            at = int(np.argmin(good_P))
            if not known_P2[at].all():
                unknown = values[at, :2][~known_P2[at]][0]
                raise _wrong(store, file, before + at + 1, f"names template {unknown}, which has no face")
            raise _wrong(store, file, before + at + 1, f"must end in 0 or 1, ends in {values[at, 2]}")
        parts.append((rows_P2.astype(np.int32), values[:, 2] == 1))
        before += len(values)
    if not parts:
        raise RunError(f"{store.uri(file)}: holds no pairs; copy it again")
    every_P2: NDArray[np.int32] = np.concatenate([rows for rows, _ in parts])
    same_P: NDArray[np.bool_] = np.concatenate([same for _, same in parts])
    return every_P2[:, 0], every_P2[:, 1], same_P


def _crop(store: Store, faces: Faces, at: int, size: int) -> NDArray[np.uint8]:
    """The aligned face [S, S, 3]."""
    image = faces.images[at]
    picture_HWC = decode(read_picture(store, image), store.uri(image))
    try:
        return warp(picture_HWC, similarity(faces.landmarks_NL2[at], ARCFACE_112 * (size / 112)), size)
    except (ValueError, np.linalg.LinAlgError) as error:
        raise RunError(
            f"{store.uri(image)}: its landmarks are no face's ({error}); copy the meta files again"
        ) from error


def _meta(name: str, what: str) -> str:
    return f"meta/{name}_{what}.txt"


Line = tuple[int, str]


def _together(store: Store, one: str, other: str) -> Iterator[tuple[Line, Line]]:
    """The numbered lines of two files of equal length."""
    lines = []
    for file in (one, other):
        _check_there(store, file)
        lines.append(store.read(file).decode(errors="replace").splitlines())
    if len(lines[0]) != len(lines[1]):
        rule = f"must have as many lines as {one}"
        raise RunError(f"{store.uri(other)}: {rule}: {len(lines[1])} and {len(lines[0])}; copy both again")
    return zip(enumerate(lines[0], start=1), enumerate(lines[1], start=1), strict=True)


def _fields(store: Store, file: str, number: int, line: str, count: int) -> list[str]:
    fields = line.split()
    if len(fields) != count:
        raise _wrong(store, file, number, f"must have {count} fields, has {len(fields)}")
    return fields


def _numbers(store: Store, file: str, number: int, fields: list[str], kind: type) -> list[Any]:
    try:
        values = [kind(field) for field in fields]
        np.array(values, np.int64 if kind is int else np.float64)
        return values
    except (ValueError, OverflowError) as error:
        raise _wrong(store, file, number, f"must hold numbers ({shown(error)})") from error


def _chunks(store: Store, file: str, size: int) -> Iterator[list[bytes]]:
    """The lines of a file, a few megabytes of them at a time."""
    with store.open(file) as opened:
        rest = b""
        while read := opened.read(size):
            *lines, rest = (rest + read).split(b"\n")
            if lines:
                yield lines
        if rest.strip():
            yield [rest]


def _whole_numbers(store: Store, file: str, before: int, lines: list[bytes]) -> NDArray[np.int64]:
    """Parse n lines of three numbers each, [n, 3]."""
    fields = [line.split() for line in lines]
    for number, found in enumerate(fields, start=before + 1):
        if len(found) != 3:
            raise _wrong(store, file, number, f"must have 3 fields, has {len(found)}")
    try:
        return np.array(fields, dtype=np.int64)
    except (ValueError, OverflowError):
        for number, found in enumerate(fields, start=before + 1):
            _numbers(store, file, number, [field.decode(errors="replace") for field in found], int)
        raise


def _check_there(store: Store, file: str) -> None:
    if not store.exists(file):
        raise RunError(f"{store.uri(file)}: is missing; copy the folder again, with all of meta/")


def _wrong(store: Store, file: str, number: int, rule: str) -> RunError:
    return RunError(f"{store.uri(file)}, line {number}: {rule}; copy it again")
