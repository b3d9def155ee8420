"""JSON that may be cut, damaged or made to harm: each is a ValueError, whatever Python makes of it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

LARGEST = 2**63
"""Whole numbers of ours are below, so that they fit wherever they go."""


def from_json(text: bytes | str, made_of: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """The value of a text.

    Args:
        made_of: every object of it, from the innermost on; None: dictionaries.

    Raises:
        ValueError: cut, no text, or nested more deeply than anything of ours.
    """
    try:
        return json.loads(text, object_hook=made_of)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def built(kind: Any, given: Any, at: str = "it") -> Any:
    """A value of JSON as a type: a dataclass, a list, tuple, dict or union of types, or a plain one.

    Args:
        kind: of a dataclass every field must be there, but those that have a default.
        at: what messages call the value.

    Raises:
        ValueError: it is another; says where.
    """
    if is_dataclass(kind):
        return _object(kind, given, at)
    of, parts = get_origin(kind), get_args(kind)
    if of is UnionType:
        fitting = next((part for part in parts if part is type(given)), parts[0])
        return built(fitting, given, at)
    if of in (list, tuple) and isinstance(given, list):
        return of(built(parts[0], value, f"{at}[{place}]") for place, value in enumerate(given))
    if of is dict and isinstance(given, dict):
        return {key: built(parts[1], value, f"{at}.{key}") for key, value in given.items()}
    if kind is float and type(given) is int:
        return float(given) if abs(given) < LARGEST else _refuse("number", given, at)
    if of is not None or type(given) is not kind or (kind is int and abs(given) >= LARGEST):
        _refuse(getattr(of or kind, "__name__", str(kind)), given, at)
    return given


def _object(kind: Any, given: Any, at: str) -> Any:
    if not isinstance(given, Mapping):
        _refuse("object", given, at)
    known = {f.name: f for f in fields(kind)}
    needed = {name for name, f in known.items() if f.default is MISSING and f.default_factory is MISSING}
    if not needed <= given.keys() <= known.keys():
        raise ValueError(f"{at} must have the fields {', '.join(known)}")
    types = get_type_hints(kind)
    return kind(**{name: built(types[name], value, f"{at}.{name}") for name, value in given.items()})


def _refuse(wanted: str, given: Any, at: str) -> Any:
    raise ValueError(f"{at} must be of type {wanted}; it is {ascii(given)[:60]}")
