"""Tests of the meter of a stage: the rate, the time left, when a line is due, and a bar on a terminal."""

import os
import pty
import subprocess
import sys
from dataclasses import dataclass

import pytest

from hyperface.progress.meter import MARKS, Meter, Point, clock, rounded


@dataclass
class Clock:
    """The seconds that a test says it is."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_rate_is_of_the_last_moments_and_the_time_left_follows_it():
    at, points = Clock(), list[Point]()
    meter = Meter("packing", 1000, "steps", watch=points.append, clock=at)
    assert meter.eta_seconds is None
    for step in range(1, 101):  # slow ones first, that are forgotten
        at.now = 10.0 * step
        meter.reach(step)
    for step in range(101, 102 + MARKS):
        at.now += 1.0
        meter.reach(step, {"loss": 2.0})
    assert meter.rate == pytest.approx(1.0)
    assert meter.eta_seconds == pytest.approx(1000 - 101 - MARKS)
    assert points[-1] == Point(101 + MARKS, 1000, {"loss": 2.0}, meter.rate, meter.eta_seconds)
    meter.reach(1000)
    assert meter.eta_seconds == 0


def test_what_an_earlier_attempt_did_is_no_speed_of_this_one():
    at = Clock()
    meter = Meter("embed", 40, "chunks", done=30, clock=at)
    at.now = 2.0
    meter.reach(31)
    assert (meter.rate, meter.eta_seconds) == (0.5, 18.0)


def test_a_line_is_said_when_its_seconds_are_over_and_a_last_one_after_it():
    at, said, asked = Clock(), list[str](), list[int]()
    meter = Meter("train", 4, "steps", worth=(64, "images"), say=said.append, every_s=10.0, clock=at)

    def extra() -> str:
        asked.append(1)
        return "loss 3.210"

    for step, at.now in ((1, 9.0), (2, 10.0), (3, 19.0), (4, 19.5)):
        meter.reach(step, extra=extra)
    assert said == [
        "train: 2/4 steps, loss 3.210, 12.8 images/s, ETA 0:00:10",
        "train: 4/4 steps, loss 3.210, 13.1 images/s, ETA 0:00:00",
    ]
    assert len(asked) == 2  # nobody computes what no line shows


def test_a_stage_that_is_over_before_its_first_line_says_none():
    said = list[str]()
    meter = Meter("train", 1, "steps", say=said.append)
    meter.reach(1)
    assert said == []


def test_a_terminal_has_a_bar_with_the_line_beside_it_and_a_log_has_lines():
    code = (
        "from hyperface.progress.meter import Meter\n"
        "with Meter('embed', 4, 'chunks', every_s=0) as meter:\n"
        "    for done in range(1, 5): meter.reach(done)\n"
    )
    log = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert [line.split(" chunks")[0] for line in log.splitlines()] == [f"embed: {done}/4" for done in range(1, 5)]
    ours, theirs = pty.openpty()
    narrow = os.environ | {"COLUMNS": "52"}  # room for the line, and little for a bar
    with subprocess.Popen([sys.executable, "-c", code], stdout=theirs, env=narrow) as job:
        os.close(theirs)
        shown = bytearray()
        try:
            while part := os.read(ours, 1024):
                shown += part
        except OSError:  # Linux says so where the other end is closed
            pass
        os.close(ours)
    assert job.returncode == 0
    assert shown.count(b"\r") >= 4
    last = shown.decode().splitlines()[-1].split("\r")[-1]
    assert "embed: 4/4 chunks" in last
    assert last.rstrip().endswith("ETA 0:00:00")
    assert "█" in shown.decode()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00:00"), (59.6, "0:01:00"), (3723, "1:02:03"), (90061, "1 days 1:01:01")]
)
def test_times_are_clocks(seconds: float, text: str):
    assert clock(seconds) == text


@pytest.mark.parametrize(("rate", "text"), [(0, "0.0"), (0.0213, "0.021"), (3.14, "3.1"), (1234.5, "1,234")])
def test_a_rate_has_as_many_digits_as_one_can_tell(rate: float, text: str):
    assert rounded(rate) == text
