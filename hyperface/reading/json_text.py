"""JSON that may be cut, damaged or made to harm: each is a ValueError, whatever Python makes of it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

LARGEST = 2**63
"""Whole numbers of ours are below, so that they fit wherever they go."""


@dataclass(frozen=True)
class Rule:
    """What a value must be besides its type; a type has it by `Annotated`."""

    says: str
    """In words, after "must"."""
    holds: Callable[[Any], bool]
    """Asked of a value that has the type."""


def from_json(text: bytes | str) -> Any:
    """The value of a text.

    Raises:
        ValueError: cut, no text, or nested more deeply than anything of ours.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def built(kind: Any, given: Any, at: str = "it") -> Any:
    """A value of JSON as a type: a dataclass, a typed dict, a list, tuple, dict or union of types, or a plain one.

    Args:
        kind: of a dataclass every field must be there, but those that have a default, and no other. A typed dict may
            have more keys than its type, as a record of a later version has; they are kept.
        at: what messages call the value; empty: the message begins with what is wrong in it.

    Raises:
        ValueError: it is another, or breaks a `Rule`; says where.
    """
    if is_dataclass(kind):
        return _object(kind, given, at)
    if is_typeddict(kind):
        return _typed_dict(kind, given, at)
    if get_origin(kind) is not None:
        return _of_parts(get_origin(kind), get_args(kind), given, at)
    if kind is float and type(given) is int and abs(given) < LARGEST:
        return float(given)
    if kind is not Any and (type(given) is not kind or (kind is int and abs(given) >= LARGEST)):
        _refuse("number" if kind is float else kind.__name__, given, at)
    return given


def _of_parts(of: Any, parts: tuple[Any, ...], given: Any, at: str) -> Any:
    if of is Annotated:
        return _ruled(built(parts[0], given, at), parts[1:], at)
    if of is Literal:
        one_of = Rule(f"be one of {', '.join(map(repr, parts))}", parts.__contains__)
        return _ruled(built(type(parts[0]), given, at), (one_of,), at)
    if of in (Union, UnionType):
        fitting = next((part for part in parts if part is type(given)), parts[0])
        return built(fitting, given, at)
    if of in (list, tuple) and isinstance(given, list):
        return of(built(parts[0], value, f"{at}[{place}]") for place, value in enumerate(given))
    if of is dict and isinstance(given, dict):
        return {key: built(parts[1], value, _inside(at, key)) for key, value in given.items()}
    return _refuse(of.__name__, given, at)


def _object(kind: Any, given: Any, at: str) -> Any:
    if not isinstance(given, Mapping):
        _refuse("object", given, at)
    known = {f.name: f for f in fields(kind)}
    needed = {name for name, f in known.items() if f.default is MISSING and f.default_factory is MISSING}
    if not needed <= given.keys() <= known.keys():
        raise ValueError(f"{at} must have the fields {', '.join(known)}")
    types = _types(kind)
    return kind(**{name: built(types[name], value, _inside(at, name)) for name, value in given.items()})


def _typed_dict(kind: Any, given: Any, at: str) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        _refuse("object", given, at)
    types = _types(kind)
    for name in types:
        if name in kind.__required_keys__ and name not in given:
            raise ValueError(f"{at} has no {name!r}".lstrip())
    return {name: built(types.get(name, Any), value, _inside(at, name)) for name, value in given.items()}


@cache
def _types(kind: Any) -> dict[str, Any]:
    found = get_type_hints(kind, include_extras=True)
    return {name: get_args(of)[0] if get_origin(of) is NotRequired else of for name, of in found.items()}


def _ruled(value: Any, rules: tuple[Rule, ...], at: str) -> Any:
    for rule in rules:
        if not rule.holds(value):
            raise ValueError(f"{at} must {rule.says}; it is {ascii(value)[:60]}".lstrip())
    return value


def _inside(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def _refuse(wanted: str, given: Any, at: str) -> Any:
    raise ValueError(f"{at} must be of type {wanted}; it is {ascii(given)[:60]}".lstrip())
