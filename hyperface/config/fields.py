"""Properties of a field besides its default: whether it is a knob, and which numbers it may have."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

Rules = Iterator[tuple[str, bool, str]]
"""(key, whether it holds, rule)"""
SHA256 = "must be the 64 hex digits of the file's SHA-256 (`sha256sum FILE`)"


def knob(default: Any, **limits: Any) -> Any:
    """Return a field that changes how a stage executes but no byte of what it makes; `limits` are those of `Range`."""
    metadata = {"knob": True} | ({"range": Range(**limits)} if limits else {})
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def number(default: float, **limits: Any) -> Any:
    """Return a field that decides what is made, and has the limits of `Range`."""
    return field(default=default, metadata={"range": Range(**limits)})


@dataclass(frozen=True)
class Range:
    """The numbers that a field may have; as a text, the rule that a message names."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    least: str = ""
    """Meaning of the smallest number."""
    zero: str = ""
    """Meaning of 0, where it is allowed besides the others."""
    unit: str = ""
    noun: str = ""
    """Noun by which a message calls such a number."""
    reason: str = ""

    def holds(self, value: float) -> bool:
        return (bool(self.zero) and value == 0) or (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        between = self.at_least is not None and self.at_most is not None
        words = ("between", "above", "", "below") if between else ("at least", "above", "at most", "below")
        limits = zip(words, (self.at_least, self.above, self.at_most, self.below), strict=True)
        texts = [f"{word} {_written(limit)}".strip() for word, limit in limits if limit is not None]
        texts[-1] += f" {self.unit}" if self.unit else ""
        texts[0] += f" ({self.least})" if self.least else ""
        text = " ".join(filter(None, ["must be", self.noun, " and ".join(texts)]))
        text += f", or 0 ({self.zero})" if self.zero else ""
        return f"{text}: {self.reason}" if self.reason else text


def _written(limit: float) -> str:
    return "2^63" if limit == 2**63 else f"{limit:g}"


def ranges(name: str, section: Any) -> Rules:
    """Yield the rule of each field of a section that has limits of its own."""
    for f in fields(section):
        if allowed := f.metadata.get("range"):
            yield f"{name}.{f.name}", allowed.holds(getattr(section, f.name)), str(allowed)


def file_rules(key: str, path: str, sha256: str, *, needed: bool, when: str) -> Rules:
    """Yield the rules of a model's file, whose keys are `key` with `path` and `sha256` behind it."""
    yield f"{key}path", bool(path) or not needed, f"is required {when}"
    yield f"{key}sha256", is_sha256(sha256) or not needed, f"{SHA256} {when}"


def is_sha256(text: str) -> bool:
    """Return whether SHA256 holds."""
    return bool(re.fullmatch(r"[0-9a-fA-F]{64}", text))
