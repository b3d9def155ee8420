"""What a field of the configuration may be."""

from dataclasses import field
from typing import Any


class ConfigError(ValueError):
    """A configuration that cannot be used. The message names the key, the rule, the value and the fix."""


def knob(default: Any) -> Any:
    """A field that changes how a stage executes but no byte of what it makes."""
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"knob": True})
    return field(default=default, metadata={"knob": True})
