"""A process that is watched: when it said each line, and the memory of it and of the largest of its children."""

import os
import secrets
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[3]
EVERY_S = 1.0
MB = 2**20


@dataclass(frozen=True)
class Sample:
    """Resident memory, in MiB."""

    at: float
    driver: float
    largest_child: float


@dataclass
class Watched:
    """Seconds are of the monotonic clock."""

    process: subprocess.Popen[str]
    began: float = field(default_factory=time.monotonic)
    lines: list[tuple[float, str]] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._listen, self._weigh)]
        for thread in self._threads:
            thread.start()

    def _listen(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append((time.monotonic(), line.rstrip()))
            print(f"  {line.rstrip()}", flush=True)

    def _weigh(self) -> None:
        driver = psutil.Process(self.process.pid)
        while self.process.poll() is None:
            try:
                children = [_resident(child) for child in driver.children(recursive=True)]
                self.samples.append(Sample(time.monotonic(), _resident(driver), max(children, default=0.0)))
            except psutil.NoSuchProcess:
                pass
            time.sleep(EVERY_S)

    def end(self) -> int:
        """Wait for the end; the exit code."""
        code = self.process.wait()
        for thread in self._threads:
            thread.join(10)
        return code

    def said(self, text: str, last: bool = False) -> float:
        """Return when it first said a line with this in it, or last."""
        times = [at for at, line in self.lines if text in line]
        assert times, f"it never said {text!r}: {self.lines[-20:]}"
        return times[-1 if last else 0]

    def between(self, begin: float, end: float) -> list[Sample]:
        return [sample for sample in self.samples if begin <= sample.at <= end]


def _resident(process: psutil.Process) -> float:
    try:
        return process.memory_info().rss / MB
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0.0


def started(*arguments: str) -> Watched:
    """`job.py` with these arguments, with a Ray of its own that ends with it."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-u", "-m", "tests.benchmarks.rehearsal.job", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return Watched(subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes))
