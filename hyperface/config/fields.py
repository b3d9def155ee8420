"""What a field of the configuration may be, and what all rules share."""

import re
from dataclasses import field
from typing import Any

Rule = tuple[str, bool, str]
"""(key, whether it holds, rule)"""
SHA256 = "must be the 64 hex digits of the file's SHA-256 (`sha256sum FILE`)"


def knob(default: Any) -> Any:
    """A field that changes how a stage executes but no byte of what it makes."""
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"knob": True})
    return field(default=default, metadata={"knob": True})


def is_sha256(text: str) -> bool:
    """Whether SHA256 holds."""
    return bool(re.fullmatch(r"[0-9a-fA-F]{64}", text))
