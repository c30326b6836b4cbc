"""Threads that take turns: in order of what is due, none forgotten, none left behind."""

import threading
import time
from collections.abc import Iterator

import pytest

from ingestion_platform.sources.reading import Behind, Event, Idle
from ingestion_platform.sources.turns import Stopped, Turn, Turns

WITHIN_SECONDS = 30.0


def new(threads: int | None = 2, held_bytes: int = 1000) -> Turns:
    """Turns without anybody who takes them."""
    return Turns("turn", threads=threads, held_bytes=held_bytes)


def told(events: Iterator[Event]) -> list[str]:
    """Whose events came, until there are no more."""
    return [event.shard for event in events if isinstance(event, Behind)]


def threads() -> list[threading.Thread]:
    """Those that are there for turns."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("turn-")]


def test_turns_are_taken_in_the_order_in_which_they_are_due() -> None:
    """Whoever is due first is first, however late he came; reading ends when nobody wants another turn."""
    turns = new(threads=1)
    are_there = threading.Event()

    def wait() -> None:
        are_there.wait(WITHIN_SECONDS)

    began = time.monotonic()
    turns.schedule(Turn(wait), began)
    for name, due in (("c", 0.03), ("a", 0.01), ("b", 0.02)):
        turns.schedule(Turn(lambda name=name: turns.tell(Behind(name, None, 0.0))), began + due)  # type: ignore[misc]
    are_there.set()
    assert told(turns.events()) == ["a", "b", "c"]
    assert time.monotonic() >= began + 0.03
    assert threads() == []


def test_a_turn_comes_again_when_it_says_so() -> None:
    """Until it wants no other."""
    turns = new()
    left = [3, 2, 1]

    def take() -> float | None:
        turns.tell(Behind(str(left.pop(0)), None, 0.0))
        return time.monotonic() if left else None

    turns.schedule(Turn(take), time.monotonic())
    assert told(turns.events()) == ["3", "2", "1"]


def test_a_turn_that_is_wanted_during_itself_is_taken_again_at_once() -> None:
    """Not only when it wanted to come again by itself, and not never: what it is for may have happened behind its back."""
    turns = new()
    taken = 0

    def take() -> float | None:
        nonlocal taken
        taken += 1
        turns.tell(Behind(str(taken), None, 0.0))
        if taken == 1:
            turns.schedule(turn, time.monotonic())
        return time.monotonic() + (3600 if taken < 3 else 0) if taken < 4 else None

    turn = Turn(take)
    turns.schedule(turn, time.monotonic())
    events = turns.events()
    assert [event.shard for event in (next(events), next(events)) if isinstance(event, Behind)] == ["1", "2"]
    # And whoever has a turn in an hour gets it now when that is wanted.
    turns.schedule(turn, time.monotonic())
    assert told(events) == ["3", "4"]


def test_one_that_takes_long_holds_up_nobody() -> None:
    """While a thread is at work, others take what is due; there are no more of them than may be."""
    turns = new(threads=3)
    goes_on = threading.Event()

    def wait() -> None:
        goes_on.wait(WITHIN_SECONDS)

    turns.schedule(Turn(wait), time.monotonic())
    for number in range(20):
        turns.schedule(
            Turn(lambda number=number: turns.tell(Behind(str(number), None, 0.0))),  # type: ignore[misc]
            time.monotonic() + number / 1000,
        )
    seen = []
    for event in turns.events():
        if isinstance(event, Behind):
            seen.append(event.shard)
            assert len(threads()) <= 3
        if len(seen) == 20:
            goes_on.set()
    assert sorted(map(int, seen)) == list(range(20))


def test_each_has_a_thread_of_his_own_where_that_is_wanted() -> None:
    """Ten that wait for each other come to an end."""
    turns = new(threads=None)
    meeting = threading.Barrier(10)

    def meet() -> None:
        meeting.wait(WITHIN_SECONDS)

    for _ in range(10):
        turns.schedule(Turn(meet), time.monotonic())
    assert told(turns.events()) == []


def test_what_is_held_is_bounded() -> None:
    """Whoever tells more waits until it is taken; one that is larger than the bound goes through alone."""
    turns = new(threads=1, held_bytes=100)
    given = []

    def give() -> None:
        for size in (60, 60, 500, 60):
            turns.tell(Behind(str(size), None, 0.0), size)
            given.append(size)

    turns.schedule(Turn(give), time.monotonic())
    events = turns.events()
    deadline = time.monotonic() + WITHIN_SECONDS
    while not given and time.monotonic() < deadline:
        time.sleep(0.001)
    assert given == [60]
    assert told(events) == ["60", "60", "500", "60"]


def test_what_goes_wrong_in_a_turn_is_raised_where_events_are_taken() -> None:
    """After what was told before it."""
    turns = new()

    def fail() -> None:
        turns.tell(Behind("before", None, 0.0))
        raise KeyError("price")

    turns.schedule(Turn(fail), time.monotonic())
    events = turns.events()
    assert next(events) == Behind("before", None, 0.0)
    with pytest.raises(KeyError, match="price"):
        list(events)
    assert threads() == []


def test_whoever_ends_reading_ends_the_threads() -> None:
    """One that waits for room, one that looks whether it is wanted, and one whose turn comes in an hour."""
    turns = new(threads=3, held_bytes=10)
    how: list[str] = []
    both = threading.Barrier(3)

    def tells() -> None:
        both.wait(WITHIN_SECONDS)
        try:
            while True:
                turns.tell(Behind("0", None, 0.0), 10)
        except Stopped:
            how.append("told")
            raise

    def works() -> None:
        both.wait(WITHIN_SECONDS)
        try:
            while True:
                turns.check()
                time.sleep(0.001)
        except Stopped:
            how.append("at work")
            raise

    for take in (tells, works):
        turns.schedule(Turn(take), time.monotonic())
    turns.schedule(Turn(lambda: None), time.monotonic() + 3600)
    both.wait(WITHIN_SECONDS)
    events = turns.events()
    assert isinstance(next(events), Behind)
    events.close()
    assert sorted(how) == ["at work", "told"]
    assert threads() == []


def test_nothing_to_tell_is_told_too() -> None:
    """Whoever reads isn't left waiting."""
    turns = new()
    is_told = threading.Event()

    def wait() -> None:
        is_told.wait(WITHIN_SECONDS)

    turns.schedule(Turn(wait), time.monotonic())
    for event in turns.events():
        assert event == Idle()
        is_told.set()
    assert is_told.is_set()
