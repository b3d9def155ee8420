"""JSON that may be cut, damaged or made to harm: each is a ValueError, whatever Python makes of it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache, partial
from types import UnionType
from typing import Annotated, Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

LARGEST = 2**63
"""Bound of whole numbers of ours, so that they fit wherever they go."""
_NUMBERS = {int: "int", float: "number"}
Reader = Callable[[Any, str], Any]
"""A function that makes a type of (a value, its place), or raises ValueError."""


@dataclass(frozen=True)
class Rule:
    """A rule that a value must keep besides its type; a type has it by `Annotated`."""

    says: str
    """The rule in words, after "must"."""
    holds: Callable[[Any], bool]
    """Function that returns whether a value of the type keeps the rule."""


def from_json(text: bytes | str) -> Any:
    """Return the value of a text.

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
        at: name of the value in messages; empty: the message begins with what is wrong in it.

    Raises:
        ValueError: it is another, or breaks a `Rule`; says where.
    """
    return _reader(kind)(given, at)


def _reader(kind: Any) -> Reader:
    """Return the function that makes values that type. A type is looked at once, and not for each of thousands of
    values of a record."""
    if is_dataclass(kind):
        return partial(_object, kind)
    if is_typeddict(kind):
        return partial(_typed_dict, kind)
    if get_origin(kind) is not None:
        return _of_parts(get_origin(kind), get_args(kind))
    return _any if kind is Any else partial(_number if kind in (int, float) else _plain, kind)


def _of_parts(of: Any, parts: tuple[Any, ...]) -> Reader:
    if of is Literal:
        one_of = Rule(f"be one of {', '.join(map(repr, parts))}", parts.__contains__)
        return _ruled(_reader(type(parts[0])), (one_of,))
    if of is Annotated:
        return _ruled(_reader(parts[0]), parts[1:])
    if of in (Union, UnionType):
        readers = {part: _reader(part) for part in parts}
        return lambda given, at: readers.get(type(given), readers[parts[0]])(given, at)
    return _dict(_reader(parts[1])) if of is dict else _list(of, _reader(parts[0]))


def _any(given: Any, at: str) -> Any:
    return given


def _plain(kind: Any, given: Any, at: str) -> Any:
    return given if type(given) is kind else _refuse(kind.__name__, given, at)


def _number(kind: Any, given: Any, at: str) -> Any:
    if type(given) is float and kind is float:
        return given
    return kind(given) if type(given) is int and abs(given) < LARGEST else _refuse(_NUMBERS[kind], given, at)


def _list(of: Any, each: Reader) -> Reader:
    def read(given: Any, at: str) -> Any:
        if not isinstance(given, list):
            _refuse(of.__name__, given, at)
        return of([each(value, f"{at}[{place}]") for place, value in enumerate(given)])

    return read


def _dict(each: Reader) -> Reader:
    def read(given: Any, at: str) -> Any:
        if not isinstance(given, dict):
            _refuse("dict", given, at)
        return {key: each(value, _inside(at, key)) for key, value in given.items()}

    return read


def _object(kind: Any, given: Any, at: str) -> Any:
    if not isinstance(given, Mapping):
        _refuse("object", given, at)
    known = {f.name: f for f in fields(kind)}
    needed = {name for name, f in known.items() if f.default is MISSING and f.default_factory is MISSING}
    if not needed <= given.keys() <= known.keys():
        raise ValueError(f"{at} must have the fields {', '.join(known)}")
    readers = _readers(kind)
    return kind(**{name: readers[name](value, _inside(at, name)) for name, value in given.items()})


def _typed_dict(kind: Any, given: Any, at: str) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        _refuse("object", given, at)
    readers = _readers(kind)
    for name in readers:
        if name in kind.__required_keys__ and name not in given:
            raise ValueError(f"{at} has no {name!r}".lstrip())
    return {name: readers.get(name, _any)(value, _inside(at, name)) for name, value in given.items()}


@cache
def _readers(kind: Any) -> dict[str, Reader]:
    found = get_type_hints(kind, include_extras=True)
    return {name: _reader(get_args(of)[0] if get_origin(of) is NotRequired else of) for name, of in found.items()}


def _ruled(reader: Reader, rules: tuple[Rule, ...]) -> Reader:
    def read(given: Any, at: str) -> Any:
        value = reader(given, at)
        for rule in rules:
            if not rule.holds(value):
                raise ValueError(f"{at} must {rule.says}; it is {ascii(value)[:60]}".lstrip())
        return value

    return read


def _inside(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def _refuse(wanted: str, given: Any, at: str) -> Any:
    raise ValueError(f"{at} must be of type {wanted}; it is {ascii(given)[:60]}".lstrip())
