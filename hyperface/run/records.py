"""Records of a run: JSON objects, and rows of them that are appended."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any, TypeVar, cast

from hyperface.errors import RunError
from hyperface.reading.json_text import built, from_json
from hyperface.reading.one_line import one_line
from hyperface.storage import Store

Shape = TypeVar("Shape")
FIX = "restore it, or move it away and run its job again"


def to_json(value: Any) -> bytes:
    """Write readable JSON; equal values give equal bytes."""
    return json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"


def get_json(store: Store, name: str) -> dict[str, Any]:
    """Read a JSON object; see `Run.get_json`."""
    uri = store.uri(name)
    try:
        return object_of(store.read(name))
    except FileNotFoundError as error:
        raise RunError(f"{uri}: is missing; run the job that writes it again") from error
    except ValueError as error:
        raise RunError(f"{uri}: is no JSON object ({error}); {FIX}") from error


def shaped(store: Store, name: str, shape: type[Shape]) -> Shape:
    """Read a record of a shape; see `Run.shaped`."""
    found = get_json(store, name)
    try:
        return cast(Shape, built(shape, found, ""))
    except ValueError as error:
        raise RunError(f"{store.uri(name)}: {one_line(error)}; {FIX}") from error


def whole_lines(record: bytes) -> bytes:
    """Return the lines of a record, but a last one that was cut by whatever ended its writer: it is no row."""
    end = record.rfind(b"\n") + 1
    try:
        object_of(record[end:])
    except ValueError:
        return record[:end]
    return record + b"\n"


def object_of(text: bytes) -> dict[str, Any]:
    found = from_json(text)
    if not isinstance(found, dict):
        raise ValueError(f"it is of type {type(found).__name__}")
    return found


def flat(record: Any) -> dict[str, Any]:
    """Return {"section.key": value} of a record that has {section: {key: value}}, or is flat already. Raises
    ValueError."""
    if not isinstance(record, dict):
        raise ValueError("must be an object")
    parts = [
        ({f"{k}.{key}": v for key, v in value.items()} if isinstance(value, dict) and "." not in k else {k: value})
        for k, value in record.items()
    ]
    return {key: value for part in parts for key, value in part.items()}


def digest(lines: Iterable[str]) -> str:
    """Return the SHA-256 over lines, in hex."""
    whole = hashlib.sha256()
    for line in lines:
        whole.update(line.encode(errors="surrogateescape") + b"\n")  # a name on a disk may be no UTF-8
    return whole.hexdigest()
