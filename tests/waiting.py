"""Waiting for something to be there, for as long as a test may take."""

import re
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

Found = TypeVar("Found")


def wait_for(look: Callable[[], Found], seconds: float = 600) -> Found:
    """Return what `look` finds, as soon as it finds something."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "nothing was found"
        time.sleep(0.02)
    return found


def said(capfd: pytest.CaptureFixture[str], pattern: str, times: int) -> list[str]:
    """Return what `pattern` finds so many times in what workers say, which reaches the driver late on a busy
    machine."""
    heard = ""

    def look() -> list[str]:
        nonlocal heard
        heard += capfd.readouterr().out
        found = re.findall(pattern, heard)
        return found if len(found) >= times else []

    return wait_for(look)
