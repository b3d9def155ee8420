"""Watches of a stage, which cannot end it."""

import pytest

from hyperface.progress.meter import Point, harmless


def test_the_first_error_of_a_watch_is_said_and_nothing_told_after_it(capsys: pytest.CaptureFixture[str]):
    seen: list[int] = []

    def watch(point: Point) -> None:
        seen.append(point.done)
        if point.done == 2:
            raise UnicodeEncodeError("ascii", "ä", 0, 1, "ordinal not in range(128)")

    tell = harmless(lambda: watch, "metrics")
    for done in range(1, 5):
        tell(Point(done, 9))
    assert seen == [1, 2]
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("metrics: UnicodeEncodeError: 'ascii' codec can't encode")
    assert line.endswith("; the job goes on without them")


def test_a_watch_that_cannot_be_made_is_not_made_again(capsys: pytest.CaptureFixture[str]):
    def make() -> None:
        raise ValueError("two\nlines")

    tell = harmless(make, "curves")
    tell(Point(1, 2))
    tell(Point(2, 2))
    assert capsys.readouterr().out == "curves: ValueError: two lines; the job goes on without them\n"


def test_an_interrupt_is_no_error_of_the_watch():
    def watch(point: Point) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        harmless(lambda: watch, "metrics")(Point(1, 2))
