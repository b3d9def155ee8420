"""Bytes and messages are what they were: a change of structure moves none of `tests/goldens/goldens.json`."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.goldens.goldens import PORTABLE

ROOT = Path(__file__).parents[2]
KEPT = json.loads((ROOT / "tests/goldens/goldens.json").read_text())


@pytest.fixture(scope="module")
def made() -> dict[str, dict[str, object]]:
    """Return what today's code makes, in a process of its own: libraries choose their kernels when they are loaded."""
    command = [sys.executable, "-m", "tests.goldens.goldens"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **PORTABLE}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors round differently")
@pytest.mark.parametrize("part", ["references", "shards"])
def test_every_byte_is_what_it_was(made: dict[str, dict[str, object]], part: str) -> None:
    assert made[part] == KEPT[part]


def test_every_refusal_of_the_configuration_says_what_it_said(made: dict[str, dict[str, object]]) -> None:
    assert made["messages"] == KEPT["messages"]
