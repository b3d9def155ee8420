"""Deliberate breaks that the suite must notice."""

import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def breaks() -> list[dict[str, Any]]:
    """The breaks of breaks.toml, each of which still fits its file."""
    found: list[dict[str, Any]] = tomllib.loads(Path(__file__).with_name("breaks.toml").read_text())["break"]
    for each in found:
        times = (ROOT / each["file"]).read_text().count(each["text"])
        assert times == 1, f"{each['room']}: `{each['text']}` must be there once in {each['file']}; it is {times} times"
    return found
