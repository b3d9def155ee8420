"""The spread of attributes over a dataset, beside the gallery's, and how separate the identities of a group are.

A dataset may be separate as a whole and hold hardly any old faces, or hold them too near to each other. Numbers read by
a model are its opinion of a picture, not the truth about a person: compare them with the same model's on the gallery.

Shape legend: N values, I identities, G faces of the gallery, D embedding dimension.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperface.audit import pairs
from hyperface.audit.machine import CPU, Machine
from hyperface.config import StorageConfig
from hyperface.dataset.classes import Classes
from hyperface.errors import ConfigError
from hyperface.reading.one_line import one_line
from hyperface.storage import open_file

BINS = 20
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
GROUPED = ("skin_light", "face_width", "hair_light")
"""Attributes of the toy world by whose terciles identities are grouped; of other sources the first three are taken."""
MAX_GROUPS = 20
"""The largest groups of a label; the others are counted."""

Record = dict[str, Any]
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Column:
    """One attribute of a dataset."""

    name: str
    values: Numbers | list[str]
    """A value for each place; NaN or empty where there is none."""
    identities: NDArray[np.int64]
    """Identity that each value belongs to."""


@dataclass(frozen=True)
class Attributes:
    """The known attributes of a dataset, and the same ones of the gallery where they can be read."""

    source: str
    unit: str
    """Unit that a value belongs to: `identity` or `image`."""
    columns: list[Column]
    gallery: Mapping[str, Numbers]
    notes: list[str]


@dataclass(frozen=True)
class Centred:
    """The identities as one network sees them."""

    identities_I: NDArray[np.int64]
    centres_ID: NDArray[np.float32]
    threshold: float | None


def spread(found: Attributes, seen: Mapping[str, Centred], on: Machine = CPU) -> Record:
    """Return the record: {"source", "unit", "columns": {name: ...}, "groups": {name: ...}}.

    Args:
        seen: {network: centres}: within which groups are compared.
    """
    columns = {}
    for column in found.columns:
        if isinstance(column.values, list):
            columns[column.name] = {"dataset": _texts(column.values), "gallery": None}
        else:
            columns[column.name] = _numbers(column.values, found.gallery.get(column.name))
    chosen = {column.name: _grouped(column) for column in _chosen(found.columns)}
    every = {network: _within(of.centres_ID, of.threshold, on) for network, of in seen.items()} if chosen else {}
    groups = {
        name: {network: _compared(members, of, every[network], on) for network, of in seen.items()}
        for name, members in chosen.items()
    }
    return {"source": found.source, "unit": found.unit, "columns": columns, "groups": groups}


def read_labels(path: str, storage: StorageConfig, classes: Classes) -> Attributes:
    """Read `audit.labels`: CSV with a column `identity` or `key`, and a column for each attribute.

    A column is of numbers when every value in it is one. Rows of other identities or images are counted, not used.

    Raises:
        ConfigError: no such file, no header of this kind, or a line that cannot be used; names file and line.
    """
    reader = _reader(path, storage)
    header = list(reader.fieldnames or ())
    by = "identity" if "identity" in header else "key"
    columns: dict[str, list[str]] = {name: [] for name in header if name != by}
    of_rows, foreign, seen = list[int](), 0, set[str]()
    for row in _rows(reader, path):
        where = f"audit.labels: {path} line {reader.line_num}"
        if None in row or None in row.values():
            raise ConfigError(f"{where}: must have {len(header)} values, as the header has")
        name = row[by].strip()
        if not re.fullmatch(_NAMES[by], name):
            raise ConfigError(f"{where}: {by} must look like {_EXAMPLES[by]}; it is {name!r}")
        if name in seen:
            raise ConfigError(f"{where}: {by} {name} is there twice; keep one")
        seen.add(name)
        identity, _, image = name.partition("-")
        if not _is_there(classes, int(identity), image):
            foreign += 1
            continue
        of_rows.append(int(identity))
        for column, values in columns.items():
            values.append(row[column].strip())
    if not of_rows:
        raise ConfigError(f"audit.labels: {path}: names no {by} of this dataset; give a table of it")
    there, unit = (len(classes.identities_C), "identity") if by == "identity" else (classes.num_images, "image")
    units = "identities" if by == "identity" else "images"
    notes = [f"attributes: {path} has {len(of_rows)} of {there} {units}"] if len(of_rows) < there else []
    notes += [f"attributes: {foreign} rows of {path} name no {by} of this dataset"] if foreign else []
    identities = np.array(of_rows, np.int64)
    found = [Column(name, _typed(values), identities) for name, values in columns.items()]
    return Attributes(f"labels of {path}", unit, found, {}, notes)


_NAMES = {"identity": r"[0-9]{1,18}", "key": r"[0-9]{7,18}-[0-9]{4,9}"}
_EXAMPLES = {"identity": "12", "key": "0000012-0003"}


def _is_there(classes: Classes, identity: int, image: str) -> bool:
    """Return whether the dataset has this image or, without one, an image of this identity."""
    row, each = identity - classes.first_identity, classes.images_per_identity
    if not 0 <= row < classes.num_identities:
        return False
    if not image:
        return bool(classes.counts[row])
    number = row * each + int(image)
    at = int(np.searchsorted(classes.absent_A, number))
    return int(image) < each and not (at < len(classes.absent_A) and classes.absent_A[at] == number)


def labels_file(path: str, storage: StorageConfig) -> bytes:
    """Read the table of labels; a path is local, file:// or s3://. Raises ConfigError when there is no such file."""
    store, name = open_file(path, storage)
    try:
        return store.read(name)
    except FileNotFoundError as error:
        raise ConfigError(f"audit.labels: {path} is no file; correct the path") from error


def _reader(path: str, storage: StorageConfig) -> "csv.DictReader[str]":
    """Return a reader of the rows after the header, which is checked."""
    try:
        text = labels_file(path, storage).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"audit.labels: {path}: must be a CSV file in UTF-8 ({error})") from error
    reader = csv.DictReader(io.StringIO(text))
    try:
        header = list(reader.fieldnames or ())
    except csv.Error as error:
        raise _no_csv(path, error) from error
    naming = [column for column in ("identity", "key") if column in header]
    if len(naming) != 1 or len(header) < 2 or len(set(header)) < len(header):
        rule = "must begin with a header: `identity` or `key`, and a different name for each attribute"
        raise ConfigError(f"audit.labels: {path}: {rule}; it has {one_line(', '.join(header) or 'none')}")
    return reader


def _rows(reader: "csv.DictReader[str]", path: str) -> Iterator[dict[str, str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise _no_csv(path, error) from error


def _no_csv(path: str, error: csv.Error) -> ConfigError:
    return ConfigError(f"audit.labels: {path}: is no CSV file ({error}); write it again")


def _typed(values: list[str]) -> Numbers | list[str]:
    try:
        return np.array([float(value) if value else np.nan for value in values])
    except ValueError:
        return values


def _texts(values: Sequence[str]) -> Record:
    """Count how often each value is there, and how evenly: entropy over that of as many equal shares, 0 to 1.

    Evenness is over the values that are there: that one is missing does not lower it.
    """
    counts = Counter(value for value in values if value)
    shares = np.array(list(counts.values())) / max(1, counts.total())
    entropy = float(-(shares * np.log(shares)).sum() / np.log(len(counts))) if len(counts) > 1 else 0.0
    return {"kind": "text", "count": counts.total(), "counts": dict(counts.most_common()), "evenness": entropy}


def _numbers(values_N: Numbers, gallery_G: Numbers | None) -> Record:
    """Return both spreads, over one range, and the dataset's standard deviation as a share of the gallery's."""
    both = [values_N] if gallery_G is None else [values_N, gallery_G]
    there = np.concatenate([part[np.isfinite(part)] for part in both])
    ends = (float(there.min()), float(there.max())) if len(there) else (0.0, 1.0)
    dataset, gallery = (_spread(part, ends) if part is not None else None for part in (values_N, gallery_G))
    wide = dataset and gallery and gallery["std"]
    return {
        "dataset": dataset,
        "gallery": gallery,
        "std_ratio": dataset["std"] / gallery["std"] if wide and dataset and gallery else None,
        "mean_shift": (dataset["mean"] - gallery["mean"]) / gallery["std"] if wide and dataset and gallery else None,
    }


def _spread(values_N: Numbers, ends: tuple[float, float]) -> Record | None:
    """Return the spread of some values over one range; None where there is no value."""
    there_N = values_N[np.isfinite(values_N)]
    if not len(there_N):
        return None
    return {
        "kind": "number",
        "count": len(there_N),
        "mean": float(there_N.mean()),
        "std": float(there_N.std()),
        "quantiles": {str(q): float(np.quantile(there_N, q)) for q in QUANTILES},
        "range": list(ends),
        "histogram": np.histogram(there_N, BINS, ends)[0].tolist(),
    }


def _chosen(columns: Sequence[Column]) -> list[Column]:
    """Return every label, and three of the numbers."""
    numbers = [column for column in columns if not isinstance(column.values, list)]
    known = [column for column in numbers if column.name in GROUPED]
    chosen = {column.name for column in (known or numbers)[: len(GROUPED)]}
    return [column for column in columns if isinstance(column.values, list) or column.name in chosen]


def _grouped(column: Column) -> dict[str, NDArray[np.int64]]:
    """Return {group: identities}: by their label, where all their images have the same; or by terciles of their
    mean."""
    if isinstance(column.values, list):
        labels: dict[int, set[str]] = {}
        for identity, value in zip(column.identities.tolist(), column.values, strict=True):
            labels.setdefault(identity, set()).add(value)
        one = {identity: next(iter(found)) for identity, found in labels.items() if len(found) == 1}
        groups: dict[str, list[int]] = {}
        for identity, label in one.items():
            if label:
                groups.setdefault(label, []).append(identity)
        return {label: np.array(sorted(members), np.int64) for label, members in groups.items()}
    there = np.isfinite(column.values)
    identities_I, at = np.unique(column.identities[there], return_inverse=True)
    mean_I = np.bincount(at, column.values[there]) / np.maximum(1, np.bincount(at))
    low, high = np.quantile(mean_I, (1 / 3, 2 / 3)) if len(mean_I) else (0.0, 0.0)
    places = {"low": mean_I < low, "middle": (mean_I >= low) & (mean_I < high), "high": mean_I >= high}
    return {name: identities_I[inside] for name, inside in places.items()}


def _compared(groups: Mapping[str, NDArray[np.int64]], seen: Centred, every: Record, on: Machine) -> Record:
    """Compare the centres of the identities of a group with each other, and those of all: {"all", "groups",
    "left_out"}."""
    largest = sorted(groups, key=lambda name: (-len(groups[name]), name))[:MAX_GROUPS]
    inside = {name: np.isin(seen.identities_I, groups[name]) for name in largest}
    return {
        "all": every,
        "groups": {name: _within(seen.centres_ID[rows], seen.threshold, on) for name, rows in inside.items()},
        "left_out": sum(len(members) for name, members in groups.items() if name not in largest),
    }


def _within(centres_ID: NDArray[np.float32], threshold: float | None, on: Machine) -> Record:
    """Count pairs of centres, None for fewer than two, and the share of the identities with another at the
    threshold."""
    found = pairs.all_pairs(centres_ID, on=on)
    between, nearest_I = found.between.distribution(), found.nearest.cosines_N
    near = None if threshold is None or between is None else float((nearest_I >= threshold).mean())
    return {
        "identities": len(centres_ID),
        "pairs": None
        if between is None
        else {key: asdict(between)[key] for key in ("count", "mean", "most", "quantiles")},
        "mean_nearest": None if between is None else float(nearest_I.mean()),
        "near_another": near,
    }
