"""Times at which another line is due."""

from hyperface.progress.points import Every


def test_a_line_is_due_when_its_seconds_are_over_and_not_before():
    assert Every(0.0)()
    assert not Every(3600.0)()


def test_a_line_that_was_said_is_not_due_again_for_as_long():
    due = Every(0.0)
    assert due()
    due._seconds = 3600.0
    assert not due()
