"""Records of a run: JSON objects, and rows of them that are appended."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from hyperface.errors import RunError
from hyperface.reading_json import from_json
from hyperface.storage import Store


class Record(dict[str, Any]):
    """An object in a record that was read. A key that it lacks is said with the record's name."""

    def __init__(self, given: Mapping[str, Any], uri: str) -> None:
        super().__init__(given)
        self.uri = uri

    def __missing__(self, key: str) -> Any:
        what = f"has no {key!a}, it is damaged or of another version"
        raise RunError(f"{self.uri}: {what}; delete it, and run its job again")


def to_json(value: Any) -> bytes:
    """Readable JSON; equal values give equal bytes."""
    return json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"


def get_json(store: Store, name: str) -> dict[str, Any]:
    """As `Run.get_json`."""
    uri = store.uri(name)
    try:
        return object_of(store.read(name), lambda given: Record(given, uri))
    except FileNotFoundError as error:
        raise RunError(f"{uri}: is missing; run the job that writes it again") from error
    except ValueError as error:
        raise RunError(f"{uri}: is no JSON object ({error}); delete it, and run its job again") from error


def whole_lines(record: bytes) -> bytes:
    """The lines of a record, but a last one that was cut by whatever ended its writer: it is no row."""
    end = record.rfind(b"\n") + 1
    try:
        object_of(record[end:])
    except ValueError:
        return record[:end]
    return record + b"\n"


def object_of(text: bytes, made_of: Callable[[dict[str, Any]], Any] | None = None) -> dict[str, Any]:
    found = from_json(text, made_of)
    if not isinstance(found, dict):
        raise ValueError(f"it is of type {type(found).__name__}")
    return found


def flat(record: Any) -> dict[str, Any]:
    """{"section.key": value} of a record that has {section: {key: value}}, or is flat already. Raises ValueError."""
    if not isinstance(record, dict):
        raise ValueError("must be an object")
    parts = [
        ({f"{k}.{key}": v for key, v in value.items()} if isinstance(value, dict) and "." not in k else {k: value})
        for k, value in record.items()
    ]
    return {key: value for part in parts for key, value in part.items()}
