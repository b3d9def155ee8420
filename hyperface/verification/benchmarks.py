"""Verification sets as others distribute them: InsightFace's `.bin` files, and lists of pairs beside their images.

Shape legend: P pairs.
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from hyperface.config import StorageConfig
from hyperface.errors import ConfigError, RunError
from hyperface.faces.pictures import SUFFIXES, is_picture
from hyperface.storage import Store, open_file
from hyperface.verification import restricted_pickle
from hyperface.verification.pair_set import PairSet, read_picture, shown
from hyperface.verification.restricted_pickle import Array, Refused

LONGEST_NAME = 255
"""Largest number of bytes of a file's or folder's name, in which no disk lets a null byte stand either."""
LARGEST_LIST = 2**30
"""Largest number of bytes of a list of pairs; a larger one is no such list."""


def set_name(path: str) -> str:
    """Return the name of a file's set: the file's name without its ending."""
    return PurePosixPath(path).stem


def read_benchmark(path: str, storage: StorageConfig) -> PairSet:
    """The set of a `.bin` file or a list of pairs (`.txt`, `.csv`, `.tsv`), local or s3://.

    Raises:
        ConfigError: no such file, or another ending.
        RunError: its content is not what its ending says.
    """
    store, file = find_benchmark(path, storage)
    return read_bin(store.read(file), store.uri(file)) if file.lower().endswith(".bin") else read_pairs(store, file)


def find_benchmark(path: str, storage: StorageConfig) -> tuple[Store, str]:
    """Return a file's store, and its name there. Raises ConfigError when there is none, or it has no ending of a
    set."""
    store, file = open_file(path, storage)
    suffix = PurePosixPath(file).suffix.lower()
    if suffix not in (".bin", ".txt", ".csv", ".tsv"):
        rule = "must be `toy`, a .bin file of InsightFace's form or a list of pairs (.txt, .csv, .tsv)"
        raise ConfigError(f"evaluate.benchmarks: {rule}; got {path}")
    if not store.exists(file):
        raise ConfigError(f"evaluate.benchmarks: {store.uri(file)} does not exist; correct the path")
    return store, file


def read_bin(data: bytes, source: str) -> PairSet:
    """Read a pickle of (encoded images, whether each two show one person), as InsightFace's `load_bin` reads it.

    Nothing in the file is run. Images stay encoded: the set takes the memory of the file.

    Args:
        source: name or URI of the file.

    Raises:
        RunError: the file asks for anything but lists of bytes and labels, or images and labels do not fit; names it.
    """
    try:
        content = restricted_pickle.load(data)
        if not isinstance(content, tuple | list) or len(content) != 2:
            raise Refused("something other than (images, labels)")
        labels_P = _labels(content[1])
        images = [_encoded(item, position) for position, item in enumerate(_items(content[0], "images"))]
    except Refused as error:
        raise RunError(
            f"{source}: holds {error}, and must hold two lists, of JPEG or PNG bytes and of truth values; it was not "
            f"run: take the file from InsightFace's data sets"
        ) from error
    if len(images) != 2 * len(labels_P) or not len(labels_P):
        rule = "there must be two images for each label, and at least one label"
        raise RunError(f"{source}: holds {len(images)} images and {len(labels_P)} labels; {rule}; copy the file again")
    first_P = 2 * np.arange(len(labels_P))
    return PairSet(set_name(source), source, images, first_P, first_P + 1, labels_P)


def _items(given: Any, what: str) -> Sequence[Any]:
    if not isinstance(given, list | tuple):
        raise Refused(f"{what} that are no list")
    return given


def _encoded(item: Any, position: int) -> bytes | bytearray:
    """Return the bytes as they are: a copy for each place of a list would let a small file fill the memory."""
    if isinstance(item, Array) and item.code == "u1":
        return item.data
    if isinstance(item, bytes | bytearray):
        return item
    raise Refused(f"an image that is no bytes (image {position})")


def _labels(given: Any) -> NDArray[np.bool_]:
    values = given.labels().tolist() if isinstance(given, Array) else _items(given, "labels")
    for position, value in enumerate(values):
        if not isinstance(value, int) or value not in (0, 1):
            raise Refused(f"a label that is no truth value (label {position})")
    return np.array(values, dtype=bool)


def read_pairs(store: Store, name: str) -> PairSet:
    """Read a list of pairs beside the images it names, in the order of the list. Images are read when they are needed.

    Either LFW's own form (Huang et al., 2007): a first line `folds pairs` or `pairs`, then `name a b` for
    `name/name_000a.jpg` and `name_000b.jpg`, or `name1 a name2 b`. Or lines `path path 1` (one person) and `path path
    0`, paths relative to the list. Fields are separated by commas where there are some, else by tabs, else by spaces.

    Raises:
        RunError: a line that is no pair, an image that is not there, or fewer pairs than the first line promises; names
            file and line.
    """
    uri = store.uri(name)
    if (store.size(name) or 0) > LARGEST_LIST:
        raise RunError(f"{uri}: is too large for a list of pairs; give the list, not the images")
    try:
        text = store.read(name).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RunError(f"{uri}: is no text ({error}); give a list of pairs") from error
    lines = [(number, _fields(line)) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    promised = _promised(lines[0][1]) if lines else None
    known = _Images(store)
    if promised is None:
        pairs = [_plain_pair(fields, known, f"{uri}, line {number}") for number, fields in lines]
    else:
        pairs = [_lfw_pair(fields, known, f"{uri}, line {number}") for number, fields in lines[1:]]
    if not pairs or promised not in (None, len(pairs)):
        wanted = f"the {promised} that its first line promises" if promised is not None else "at least one"
        raise RunError(f"{uri}: holds {len(pairs)} pairs, and must hold {wanted}; copy it again")
    first, second, same = zip(*pairs, strict=True)
    used = sorted({*first, *second})
    at = {image: position for position, image in enumerate(used)}
    return PairSet(
        name=set_name(name),
        source=uri,
        images=StoredImages(store, used),
        first_P=np.array([at[image] for image in first]),
        second_P=np.array([at[image] for image in second]),
        same_P=np.array(same, dtype=bool),
        image_names=[store.uri(image) for image in used],
    )


class StoredImages(Sequence[bytes]):
    """Encoded images that are read one by one, when they are asked for."""

    def __init__(self, store: Store, names: Sequence[str]) -> None:
        self._store, self._names = store, names

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, at: int) -> bytes: ...
    @overload
    def __getitem__(self, at: slice) -> "StoredImages": ...
    def __getitem__(self, at: int | slice) -> "bytes | StoredImages":
        if isinstance(at, slice):
            return StoredImages(self._store, self._names[at])
        return read_picture(self._store, self._names[at])

    def __iter__(self) -> Iterator[bytes]:
        return (read_picture(self._store, name) for name in self._names)


class _Images:
    """The images beside a list, found by one listing of each folder that it names: others may be large."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folders: dict[str, dict[str, int]] = {}

    def _has(self, name: str) -> bool:
        path = PurePosixPath(name)
        if not is_picture(name) or path.is_absolute() or ".." in path.parts:
            return False
        if "\0" in name or any(len(os.fsencode(part)) > LONGEST_NAME for part in path.parts):
            return False
        folder = str(path.parent)
        if folder == ".":
            return self._store.exists(name)
        if folder not in self._folders:
            self._folders[folder] = self._store.list(folder)
        return name in self._folders[folder]

    def named(self, name: str, where: str) -> str:
        plain = str(PurePosixPath(name))
        if not self._has(plain):
            raise RunError(f"{where}: {self._store.uri(shown(plain))} is no image beside the list; copy it there")
        return plain

    def of_person(self, person: str, number: str, where: str) -> str:
        """Return the name of LFW's form, `Name/Name_0001.jpg`, or the same with another ending of an image."""
        if not number.isdigit():
            raise RunError(f"{where}: the number of an image must be a whole number, got '{shown(number)}'")
        stem = f"{person}/{person}_{int(number):04d}"
        endings = (ending for suffix in SUFFIXES for ending in (suffix, suffix.upper()))
        found = (stem + ending for ending in endings if self._has(stem + ending))
        return next(found, None) or self.named(stem + SUFFIXES[0], where)


Pair = tuple[str, str, bool]


def _fields(line: str) -> list[str]:
    for separator in (",", "\t"):
        if separator in line:
            return [field.strip() for field in line.split(separator)]
    return line.split()


def _promised(fields: list[str]) -> int | None:
    """Return the number of pairs that LFW's first line promises: half of them genuine in each fold. None: it is no such
    line."""
    if len(fields) > 2 or not all(re.fullmatch(r"\d{1,9}", field) for field in fields):
        return None
    return 2 * int(fields[-1]) * (int(fields[0]) if len(fields) == 2 else 1)


def _lfw_pair(fields: list[str], images: _Images, where: str) -> Pair:
    if len(fields) == 3:
        person, first, second = fields
        return images.of_person(person, first, where), images.of_person(person, second, where), True
    if len(fields) == 4:
        one, first, other, second = fields
        if one == other:
            raise RunError(f"{where}: names {shown(one)} twice in the form of two people; write `name a b`")
        return images.of_person(one, first, where), images.of_person(other, second, where), False
    raise RunError(f"{where}: must be `name a b` or `name1 a name2 b`, has {len(fields)} fields")


def _plain_pair(fields: list[str], images: _Images, where: str) -> Pair:
    if len(fields) != 3 or fields[2] not in ("0", "1"):
        form = "must be `path path 1` (one person) or `path path 0`, or the list begin with LFW's line of numbers"
        raise RunError(f"{where}: {form}; got '{shown(' '.join(fields))}'")
    return images.named(fields[0], where), images.named(fields[1], where), fields[2] == "1"
