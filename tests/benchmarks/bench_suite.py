"""Timing of the suite, file by file, its slowest tests, and how often it starts Ray.

    python -m tests.benchmarks.bench_suite

On a machine with nothing else to do. The parts are those of `make test`; seconds of a file are those of its tests, with
what they set up, whichever process had it. A start of Ray is a GCS server, Ray's first process, of this suite.
"""

import os
import re
import secrets
import subprocess
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import psutil

from tests.benchmarks import record

ROOT = Path(__file__).parents[2]
SLOWEST = 30
TARGET = re.search(r"^test:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
assert TARGET
COMMANDS = [line.partition("#")[0].strip() for line in TARGET[1].splitlines()]
PARTS = dict(zip(("without Ray", "with Ray"), COMMANDS, strict=True))
"""The commands of `make test`."""
OURS = "HYPERFACE_SUITE"
"""Variable in the environment of everything that the suite starts."""


class RayStarts(threading.Thread):
    """Counts the GCS servers that come up with a mark in their environment."""

    def __init__(self, mark: str) -> None:
        super().__init__(daemon=True)
        self.mark, self.seen, self.ended = mark, set[tuple[int, float]](), threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.5):
            for process in psutil.process_iter(["name", "create_time"]):
                if process.info["name"] == "gcs_server":
                    try:
                        marked = process.environ().get(OURS) == self.mark
                    except psutil.Error:
                        continue
                    if marked:
                        self.seen.add((process.pid, process.info["create_time"]))


def measured(command: str) -> tuple[dict[str, object], dict[str, float]]:
    """(numbers of a part, seconds of each of its tests)."""
    mark = secrets.token_hex(8)
    starts = RayStarts(mark)
    starts.start()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        words = [*command.split(), f"--junitxml={report}"]
        done = subprocess.run(words, cwd=ROOT, env=os.environ | {OURS: mark}, check=False)
        seconds = time.perf_counter() - began
        cases = list(ElementTree.parse(report).iter("testcase"))
    starts.ended.set()
    starts.join()
    names = [f"{case.get('classname')}::{case.get('name')}".partition("@")[0] for case in cases]  # @: xdist's group
    tests = {name: float(case.get("time", 0)) for name, case in zip(names, cases, strict=True)}
    numbers = {"command": command, "seconds": round(seconds, 1), "tests": len(tests), "exit_code": done.returncode}
    return {**numbers, "ray_starts": len(starts.seen)}, tests


def main() -> None:
    parts, every = dict[str, object](), dict[str, float]()
    for name, command in PARTS.items():
        parts[name], tests = measured(command)
        every |= tests
    files = Counter[str]()
    for test, seconds in every.items():
        files[test.partition("::")[0].replace(".", "/") + ".py"] += seconds
    slowest = dict(sorted(every.items(), key=lambda each: -each[1])[:SLOWEST])
    record.write(
        "suite",
        {"slowest": SLOWEST},
        {
            "parts": parts,
            "slowest": {test: round(seconds, 1) for test, seconds in slowest.items()},
            "files": {file: round(seconds, 2) for file, seconds in sorted(files.items())},
        },
    )


if __name__ == "__main__":
    main()
