"""Whatever the order in which events come, and however often, they deserve the same alerts."""

from collections import namedtuple
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion_platform.dataset import Daily, Dataset, LandedFiles
from ingestion_platform.rules import subject
from ingestion_platform.rules.judge import Days, Deserved, Judge, fold
from ingestion_platform.rules.kinds import (
    AboveUsual,
    Jumps,
    LastsLonger,
    RunsLow,
    Signs,
    TooMany,
    Unfamiliar,
    UnusualHour,
)
from ingestion_platform.rules.rule import Known, Rule
from ingestion_platform.table import INTEGER, TIMESTAMP, VARCHAR, Column

DAY = date(2024, 10, 1)
BEGINS = datetime(2024, 10, 1)
COLUMNS = ("kind", "subject", "value")
Event: Any = namedtuple("Event", "at key version kind subject value")
Habits: Any = namedtuple("Habits", "usual kinds hours units low full")

events = Dataset(
    name="events",
    description="Events.",
    source=LandedFiles("events/%Y/%m/%d/{name}.csv"),
    columns=(
        Column("id", VARCHAR, "Its number.", required=True),
        Column("happened_at", TIMESTAMP, "When.", required=True),
        Column("subject", VARCHAR, "Whose."),
        Column("kind", VARCHAR, "Which."),
        Column("value", INTEGER, "How much."),
    ),
    primary_key=("id",),
    event_time="happened_at",
    daily=Daily(DAY),
)

KNOWN = Known(table="processed.habits", by=("subject",))
FAST = Rule(
    name="fast",
    description="Too many, or unlike the subject.",
    on=events,
    by=("subject",),
    known=KNOWN,
    kind=Signs(
        signs=(
            TooMany(within=timedelta(minutes=5), more_than=2, weight=0.6),
            TooMany(within=timedelta(minutes=9), more_than=20, sum_of="value", weight=0.3),
            AboveUsual(column="value", usual="usual", times=2, weight=0.5),
            Unfamiliar(column="kind", among="kinds", weight=0.2),
            UnusualHour(among="hours", weight=0.2),
        ),
        from_score=0.5,
        actions=(("hold", 0.8),),
    ),
)
LASTS = Rule(
    name="lasts",
    description="Above for long.",
    on=events,
    by=("subject",),
    kind=LastsLonger(column="value", above=4, longer_than=timedelta(minutes=6), silent_for=timedelta(minutes=20)),
)
LOW = Rule(
    name="low",
    description="Runs low.",
    on=events,
    by=("subject",),
    known=KNOWN,
    kind=RunsLow(minus="value", begins_with="units", threshold="low", up_to="full"),
)
JUMPS = Rule(
    name="jumps", description="More in a minute.", on=events, by=(), kind=Jumps(times=2, minutes=4, at_least=2)
)
SHARE = Rule(
    name="share",
    description="A greater share.",
    on=events,
    by=(),
    kind=Jumps(times=2, minutes=6, at_least=2, share_of="kind", values=("b",)),
)
RULES = [FAST, LASTS, LOW, JUMPS, SHARE]
DAYS = Days(
    lambda day: (
        datetime.combine(day, datetime.min.time()),
        datetime.combine(day + timedelta(days=1), datetime.min.time()),
    ),
    lambda at: at.date(),
)
HABITS = {"s0": Habits(5, ["a"], [0, 1], 12, 4, 20), "s1": Habits(None, None, None, None, None, None)}


@pytest.fixture(scope="module", autouse=True)
def _states_are_kept_often() -> Iterator[None]:
    """After every third event, so that a few of them begin anew from states that are kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject, "KEPT_EVERY", 3)
        yield


def ask(_rule: Rule, _day: date, about: tuple[Any, ...]) -> Any:
    """What is known."""
    return HABITS.get(about[0])


def judge(rules: list[Rule] | None = None) -> Judge:
    """A judge of `RULES`."""
    return Judge(rules or RULES, COLUMNS, DAYS, ask)


ALL = (1 << len(RULES)) - 1


def ids(deserved: list[Deserved]) -> set[tuple[str, date, Any, str, str]]:
    """What tells alerts apart."""
    return {(one.rule.name, one.day, one.about, one.finding.deserved_by, one.action) for one in deserved}


@st.composite
def some_events(draw: st.DrawFn) -> list[Any]:
    """Events around a midnight, several of them at one moment."""
    count = draw(st.integers(0, 40))
    return [
        Event(
            BEGINS + timedelta(seconds=30 * draw(st.integers(-80, 80))),
            f"k{number}",
            (number,),
            draw(st.sampled_from(["a", "b"])),
            draw(st.sampled_from(["s0", "s1", "s2"])),
            draw(st.integers(0, 9)),
        )
        for number in range(count)
    ]


@settings(max_examples=60, deadline=None)
@given(some_events(), st.data())
def test_any_order_any_split_and_any_replay_deserve_the_same(made: list[Any], data: st.DataObject) -> None:
    """Live comes to what a plain fold over the sorted events says, and its changes add up to that."""
    replayed = data.draw(st.lists(st.sampled_from(made), max_size=20)) if made else []
    order = data.draw(st.permutations([*made, *replayed]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(order)), max_size=6)))
    judging = judge()
    standing: set[Any] = set()
    for begin, end in zip([0, *cuts], [*cuts, len(order)], strict=True):
        some = order[begin:end]
        changes, late = judging.take(some, [ALL] * len(some))
        assert not late
        assert not ids(changes.withdrawn) - standing
        standing = (standing - ids(changes.withdrawn)) | ids(changes.raised)
    for day in (DAY - timedelta(days=1), DAY):
        wanted = {one for rule in RULES for one in ids(fold(rule, COLUMNS, made, day, DAYS, ask))}
        assert ids(judging.deserved(day)) == wanted
        assert {one for one in standing if one[1] == day} == wanted


@settings(max_examples=40, deadline=None)
@given(some_events(), st.data())
def test_the_last_of_events_with_one_key_counts(made: list[Any], data: st.DataObject) -> None:
    """Of a key and a day the last by event time, then by its place in the stream, stands; in whatever order they come."""
    changed = [
        event._replace(
            version=(100 + number,), at=event.at + timedelta(seconds=data.draw(st.integers(-60, 60))), value=9
        )
        for number, event in enumerate(made)
        if data.draw(st.booleans())
    ]
    kept: dict[tuple[date, str], Any] = {}
    for event in [*made, *changed]:
        place = (event.at.date(), event.key)
        if place not in kept or (event.at, event.version) > (kept[place].at, kept[place].version):
            kept[place] = event
    judging = judge()
    order = data.draw(st.permutations([*made, *changed]))
    for event in order:
        judging.take([event], [ALL])
    for day in (DAY - timedelta(days=1), DAY):
        wanted = {one for rule in RULES for one in ids(fold(rule, COLUMNS, list(kept.values()), day, DAYS, ask))}
        assert ids(judging.deserved(day)) == wanted


@settings(max_examples=40, deadline=None)
@given(some_events(), st.integers(-80, 80), st.data())
def test_what_is_forgotten_stays_what_it_came_to(made: list[Any], cut: int, data: st.DataObject) -> None:
    """Once events are let go of, later ones still deserve what they do; earlier ones are given back as too late."""
    at = BEGINS + timedelta(seconds=30 * cut)
    before, after = [one for one in made if one.at < at], [one for one in made if one.at >= at]
    judging = judge()
    judging.take(before, [ALL] * len(before))
    judging.forget(at)
    assert all(one.at >= at - timedelta(minutes=1) for one, _ in judging._events.values())
    order = data.draw(st.permutations(after))
    assert not judging.take(order, [ALL] * len(order))[1]
    for day in (DAY - timedelta(days=1), DAY):
        wanted = {one for rule in RULES for one in ids(fold(rule, COLUMNS, made, day, DAYS, ask))}
        assert ids(judging.deserved(day)) == wanted
    too_late = [one for one in made if one.at < judging.floor]
    assert judging.take(too_late, [ALL] * len(too_late))[1] == too_late


@settings(max_examples=60, deadline=None)
@given(some_events(), st.lists(st.integers(-80, 80), max_size=4), st.data())
def test_forgetting_again_and_again_changes_nothing(made: list[Any], cuts: list[int], data: st.DataObject) -> None:
    """However often events are let go of, what comes in between in any order deserves what it does."""
    judging = judge()
    left = list(made)
    for at in [*(BEGINS + timedelta(seconds=30 * cut) for cut in sorted(cuts)), datetime.max]:
        some = data.draw(st.permutations([one for one in left if one.at < at]))
        left = [one for one in left if one.at >= at]
        assert not judging.take(some, [ALL] * len(some))[1]
        if left:
            judging.forget(at)
    for day in (DAY - timedelta(days=1), DAY):
        wanted = {one for rule in RULES for one in ids(fold(rule, COLUMNS, made, day, DAYS, ask))}
        assert ids(judging.deserved(day)) == wanted


def test_rules_that_were_left_out_judge_the_same_events_later() -> None:
    """Under load only some rules judge; when the events come again, the others do, and the first ones don't again."""
    some = [Event(BEGINS + timedelta(seconds=number), f"k{number}", (number,), "a", "s1", 1) for number in range(4)]
    judging = judge([FAST, LASTS, JUMPS])
    changes, _ = judging.take(some, [0b111] * 4, without=[0])
    assert not changes.raised
    changes, _ = judging.take(some, [0b111] * 4)
    assert {one.finding.deserved_by for one in changes.raised} == {"k2", "k3"}
    assert not judging.take(some, [0b111] * 4)[0].raised


def test_an_alert_says_who_when_and_why() -> None:
    """Score, reasons and action follow from the signs; the weightiest reason comes first."""
    event = Event(BEGINS + timedelta(hours=12), "k", (1,), "b", "s0", 10)
    (one,) = judge([FAST]).take([event], [1])[0].raised
    alert = one.alert("raised", 0, datetime.now(UTC))
    assert (alert.score, alert.action, dict(alert.about)) == (0.9, "hold", {"subject": "s0"})
    assert alert.reasons[0] == "value 10 is 2.0 times the usual 5.00"
    assert len(alert.reasons) == 3


def test_a_level_that_is_low_in_the_morning_is_told_by_the_first_event() -> None:
    """Whoever begins the day below is told once, and again only when it was filled up in between."""
    values = [9, 1, -9, 9]
    some = [Event(BEGINS + timedelta(minutes=n), f"k{n}", (n,), "a", "s0", value) for n, value in enumerate(values)]
    changes, _ = judge([LOW]).take(some, [1] * 4)
    found = {one.finding.deserved_by: one.finding.details["reorder"] for one in changes.raised}
    assert found == {"k0": "17", "k3": "18"}


@pytest.mark.parametrize("gap", [19, 21])
def test_an_episode_ends_when_nothing_is_told_for_long(gap: int) -> None:
    """A sensor that was silent for longer than allowed begins a new episode."""
    minutes = [0, gap]
    some = [Event(BEGINS + timedelta(minutes=n), f"k{n}", (n,), "a", "s0", 9) for n in minutes]
    changes, _ = judge([LASTS]).take(some, [1] * 2)
    assert len(changes.raised) == (1 if gap < 20 else 0)
