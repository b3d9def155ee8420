"""Tests of the ledger without Ray: it finds the shard that kills its actors, and no other; the lane keeps the order it
needs."""

import threading
from typing import Any

import pytest

from cluster.ledger import DIED, Ledger
from cluster.turn import Lane, Stopped, Turn

POISON, OTHER = 3, 4


def ledger(max_attempts: int = 3, max_deaths: int = 20) -> Ledger:
    made = Ledger(max_attempts, max_deaths)
    made.started("a")
    made.started("b")
    return made


def attempts(of: Ledger, shard: int) -> int:
    return of.admit("a", shard).standing.attempts


def test_a_shard_that_kills_its_actor_alone_is_given_up_after_so_many_attempts():
    book = ledger(max_attempts=3)
    for attempt in range(3):
        assert not book.admit("a", POISON).given_up
        assert book.admit("a", POISON).standing.alone == (attempt > 0)
        book.begin("a", POISON)
        book.started("a")
    given = book.admit("a", POISON)
    assert given.given_up
    assert (given.standing.attempts, given.standing.error) == (3, DIED)
    assert not book.admit("a", OTHER).given_up


def test_one_in_upload_beside_a_killer_is_not_charged_and_both_are_alone_the_next_time():
    book = ledger()
    book.begin("a", OTHER)
    book.generated("a", OTHER)
    book.begin("a", POISON)
    book.started("a")
    assert (attempts(book, POISON), attempts(book, OTHER)) == (1, 0)
    assert book.admit("a", POISON).standing.alone
    assert book.admit("a", OTHER).standing.alone


def test_a_shard_is_never_given_up_for_a_death_that_it_shared():
    """The guilty one kills in upload, while another one is generated and takes the charge."""
    book = ledger(max_attempts=1)
    book.begin("a", POISON)
    book.generated("a", POISON)
    book.begin("a", OTHER)
    book.started("a")
    assert attempts(book, OTHER) == 1
    assert not book.admit("a", OTHER).given_up
    book.begin("a", POISON)
    book.generated("a", POISON)
    book.started("a")
    assert book.admit("a", POISON).given_up


def test_what_waits_for_its_turn_or_runs_in_another_actor_has_nothing_to_do_with_a_death():
    book = ledger()
    book.admit("a", OTHER)
    book.begin("b", 5)
    book.begin("a", POISON)
    book.started("a")
    for shard in (OTHER, 5):
        assert not book.admit("b", shard).standing.alone
        assert attempts(book, shard) == 0


def test_an_actor_that_ends_itself_charges_the_shard_that_failed_and_no_other():
    book = ledger(max_attempts=2)
    for _ in range(2):
        book.begin("a", OTHER)
        book.generated("a", OTHER)
        book.begin("a", POISON)
        book.failed("a", POISON, "RuntimeError: the device is lost")
        book.started("a")
    given = book.admit("a", POISON)
    assert given.given_up
    assert given.standing.error == "RuntimeError: the device is lost"
    assert attempts(book, OTHER) == 0
    assert book.deaths == 2


def test_deaths_stop_the_job_unless_a_shard_is_finished_in_between():
    book = ledger(max_deaths=2)
    for shard in range(6):
        book.begin("a", shard)
        assert book.started("a") == ""
        book.left("a", shard, '{"rows": 8}')
    for _ in range(3):  # one more is borne than max_deaths: of two actors, both may be lost at once
        assert book.started("a") == ""
    stop = book.started("a")
    assert "4 times" in stop
    assert "synthesis.max_failures=2" in stop
    assert book.started("c") == book.begin("b", 9) == stop
    assert book.counts() == {"deaths": 10, "generating": 0, "uploading": 0}


def test_a_finished_shard_is_remembered_with_its_row():
    book = ledger()
    book.begin("a", OTHER)
    book.left("a", OTHER, '{"rows": 8}')
    book.started("a")
    assert book.admit("a", OTHER).row == '{"rows": 8}'
    assert attempts(book, OTHER) == 0


def test_an_actor_without_models_tries_afresh_only_where_models_loaded_before():
    book = ledger()
    assert not book.ends("a", "RuntimeError: no device")
    book.left("b", OTHER, "{}")
    assert book.ends("a", "RuntimeError: no device")
    book.started("a")
    assert book.last == "RuntimeError: no device"


class Heard:
    """A lane whose messages to the ledger are kept, and answered by a real one."""

    def __init__(self) -> None:
        self.book, self.heard = ledger(), list[tuple[Any, ...]]()
        self.lane = Lane(self.tell)

    def tell(self, what: str, *arguments: Any) -> Any:
        self.heard.append((what, *arguments))
        return getattr(self.book, what)("a", *arguments)


def begun_in_a_thread(turn: Turn) -> tuple[threading.Thread, threading.Event]:
    inside = threading.Event()

    def enter() -> None:
        turn.__enter__()
        inside.set()

    thread = threading.Thread(target=enter, daemon=True)
    thread.start()
    return thread, inside


def test_the_next_shard_is_generated_while_the_one_before_is_uploaded():
    world = Heard()
    first, second = (Turn(world.lane, shard, alone=False) for shard in (1, 2))
    with first:
        _, inside = begun_in_a_thread(second)
        assert not inside.wait(0.05)
    assert inside.wait(60)
    first.leave("row")
    assert world.heard == [("begin", 1), ("generated", 1), ("begin", 2), ("left", 1, "row")]


def test_a_suspect_waits_for_the_upload_before_it_and_keeps_the_lane_until_its_end():
    world = Heard()
    before, suspect, after = (
        Turn(world.lane, 1, alone=False),
        Turn(world.lane, 2, alone=True),
        Turn(world.lane, 3, alone=False),
    )
    with before:
        pass
    _, suspect_inside = begun_in_a_thread(suspect)
    assert not suspect_inside.wait(0.05)
    before.leave("row")
    assert suspect_inside.wait(60)
    suspect.__exit__(None, None, None)
    _, after_inside = begun_in_a_thread(after)
    assert not after_inside.wait(0.05)
    suspect.leave("row")
    assert after_inside.wait(60)


def test_a_shard_that_fails_in_the_generator_frees_the_lane_when_it_leaves():
    world = Heard()
    failing = Turn(world.lane, 1, alone=False)
    with pytest.raises(ValueError, match="broken"), failing:
        raise ValueError("broken")
    failing.leave()
    with Turn(world.lane, 2, alone=False):
        pass
    assert world.heard[:2] == [("begin", 1), ("left", 1, "")]


def test_a_stopped_job_begins_no_shard_and_blocks_nobody():
    world = Heard()
    world.book.stop("the job was told to end")
    for shard in (1, 2):
        turn = Turn(world.lane, shard, alone=False)
        with pytest.raises(Stopped, match="told to end"), turn:
            pass
        turn.leave()
    assert world.book.counts()["generating"] == 0
