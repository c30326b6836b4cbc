"""Cutoffs, opening days and their judgement, as pure functions."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion_platform.completeness import STATUSES, UNUSABLE, Excuse, Sent, completeness, judge, state_of
from ingestion_platform.errors import DeclarationError
from ingestion_platform.opening_days import Closure, Opening, OpeningDays, opens, parse_weekdays
from ingestion_platform.public_holidays import public_holidays
from ingestion_platform.senders import Cutoff, Member, Sender, Senders, senders_from, senders_listed

DAY = date(2024, 10, 2)
ZONES = ("Africa/Johannesburg", "Europe/Berlin", "America/New_York", "Pacific/Kiritimati", "Asia/Kathmandu", "UTC")
DAYS = st.dates(date(2000, 1, 1), date(2035, 12, 31))
TIMES = st.times().map(lambda at: at.replace(microsecond=0))


@pytest.mark.parametrize(
    ("day", "at", "expected"),
    [
        # Berlin: 02:30 isn't on the clock of 31 March 2024, and twice on that of 27 October.
        (date(2024, 3, 30), time(2, 30), datetime(2024, 3, 31, 1, 30, tzinfo=UTC)),
        (date(2024, 10, 26), time(2, 30), datetime(2024, 10, 27, 1, 30, tzinfo=UTC)),
        (date(2024, 3, 30), time(6), datetime(2024, 3, 31, 4, tzinfo=UTC)),
        (date(2024, 3, 29), time(6), datetime(2024, 3, 30, 5, tzinfo=UTC)),
        (date(2024, 10, 26), time(6), datetime(2024, 10, 27, 5, tzinfo=UTC)),
    ],
)
def test_a_cutoff_holds_through_changes_of_the_clock(day: date, at: time, expected: datetime) -> None:
    """An hour that is left out ends with the gap; of one that comes twice the second counts: nobody is late by the clock's doing."""
    assert Cutoff(at=at).moment(day, ZoneInfo("Europe/Berlin")) == expected


@given(DAYS, TIMES, st.integers(0, 31), st.integers(0, 744), st.sampled_from(ZONES))
def test_cutoffs_follow_one_another_as_days_do(day: date, at: time, days_after: int, grace: int, zone: str) -> None:
    """The next day's is later, by a day give or take a change of the clock; a deadline is so many hours after it."""
    cutoff, clock = Cutoff(at=at, days_after=days_after, grace_hours=grace), ZoneInfo(zone)
    apart = cutoff.moment(day + timedelta(days=1), clock) - cutoff.moment(day, clock)
    assert timedelta(hours=22) <= apart <= timedelta(hours=26)
    assert cutoff.deadline(day, clock) - cutoff.moment(day, clock) == timedelta(hours=grace)


def test_the_last_days_of_the_calendar_have_cutoffs() -> None:
    """A roster may hold any day: none overflows."""
    assert Cutoff(days_after=31).deadline(date.max, ZoneInfo("UTC")) == datetime.max.replace(tzinfo=UTC)


def test_what_counts_for_more() -> None:
    """A closure before an opening, that before a holiday, and that before a weekday."""
    days = OpeningDays(weekdays=("mon",), closed_on_public_holidays=True)
    heritage_day = date(2024, 9, 24)
    assert opens(days, heritage_day, "a", country="ZA").reason == "public holiday: Heritage Day"
    opened = OpeningDays(closed_on_public_holidays=True, openings=(Opening(first=heritage_day, country="ZA"),))
    assert opens(opened, heritage_day, "a", country="ZA").is_open
    closed = Closure(first=heritage_day, reason="fire", sender="a")
    assert opens(opened, heritage_day, "a", country="ZA", closures=[closed]).reason == "closed: fire"
    assert opens(opened, heritage_day, "b", country="ZA", closures=[closed]).is_open
    assert opens(days, date(2024, 9, 25), "a").reason == "closed on Wednesdays"


def test_holidays_are_those_of_the_country() -> None:
    """Namibia's aren't South Africa's; a country that nobody knows has none, and is told."""
    independence = date(2024, 3, 21)
    assert dict(public_holidays("NA", 2024) or {})[independence] == "Independence Day"
    assert dict(public_holidays("ZA", 2024) or {})[independence] == "Human Rights Day"
    assert public_holidays("XX", 2024) is None
    assert public_holidays("DE-XX", 2024) is None
    assert public_holidays("ZA", 9999) == {}


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("mon-fri", {0, 1, 2, 3, 4}),
        ("Sat - Tue", {5, 6, 0, 1}),
        ("mon,wed;Friday", {0, 2, 4}),
        ("mo", None),
        ("", None),
        ("mon--fri", None),
    ],
)
def test_weekdays_are_read_as_people_write_them(text: str, days: set[int] | None) -> None:
    """Spans, lists, over the end of the week; what is none gives none."""
    assert parse_weekdays(text) == days


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Senders(), "Senders are listed by a dataset, or here"),
        (lambda: Senders("shops", "shop", listed=(Sender("a"),)), "Senders are listed by a dataset, or here"),
        (lambda: Senders("shops"), "column isn't said"),
        (lambda: senders_listed("a", "b", "a", capture="shop"), r"listed twice: \['a'\]"),
        (lambda: Sender("a", time_zone="Mars/Base"), "time_zone 'Mars/Base' is unknown"),
        (lambda: Cutoff(at=time(6, tzinfo=UTC)), "at is a local time"),
        (lambda: Cutoff(days_after=32), "days_after is 0 to 31, not 32"),
        (lambda: Closure(first=DAY, last=DAY - timedelta(days=1)), "it ends on 2024-10-01, before it begins"),
        (lambda: OpeningDays(weekdays=()), "nobody is open on any weekday"),
    ],
)
def test_a_mistake_is_told(make: Callable[[], object], message: str) -> None:
    """When it is declared."""
    with pytest.raises(DeclarationError, match=message):
        make()


CUTOFF = datetime(2024, 10, 3, 6, tzinfo=UTC)
WAITED_FOR = senders_from("shops", "shop", cutoff=Cutoff(at=time(6), grace_hours=12))
ROSTER = {one: Member(one, ZoneInfo("UTC")) for one in "abc"}
MOMENTS = st.integers(-2000, 2000).map(lambda minutes: CUTOFF + timedelta(minutes=minutes))


@st.composite
def objects(draw: st.DrawFn) -> Sent:
    """Any version of any object."""
    is_repeated = draw(st.booleans())
    return Sent(
        key=draw(st.sampled_from("xyz")),
        landed_at=draw(MOMENTS),
        is_usable=draw(st.booleans()),
        is_current=draw(st.integers(0, 3)) > 0,
        is_repeated=is_repeated,
        is_empty=draw(st.integers(0, 4)) == 0,
        rows=draw(st.integers(0, 3)),
    )


SENT = st.dictionaries(st.sampled_from("abcd"), st.lists(objects(), min_size=1, max_size=3))


@given(SENT, MOMENTS, MOMENTS, st.sets(st.sampled_from("ab")))
def test_a_judgement_never_goes_back(
    sent: dict[str, list[Sent]], one: datetime, other: datetime, excused: set[str]
) -> None:
    """As time goes by, only who was awaited becomes missing; everybody has one status, and the moment of being final doesn't move."""
    first, second = sorted((one, other))
    excuses = {name: Excuse(name, DAY, "Nomsa", "flood", first) for name in excused}

    def at(now: datetime) -> dict[str, str]:
        rows = judge(
            "tills", WAITED_FOR, DAY, roster=ROSTER, closures=(), sent=sent, excuses=excuses, zone=ZoneInfo("UTC"), now=now
        )  # fmt: skip
        found = completeness(WAITED_FOR, DAY, rows, excuses=excuses, zone=ZoneInfo("UTC"), has_roster=True)
        assert found.final_at <= CUTOFF + timedelta(hours=12)
        assert found.complete_at is None or found.final_at <= max(found.complete_at, CUTOFF)
        assert {row.sender for row in rows if row.is_expected and row.first_landed_at is None} <= set(found.waits_for)
        final_at.add(found.final_at)
        return {row.sender: row.status for row in rows}

    final_at: set[datetime] = set()
    before, after = at(first), at(second)
    assert set(before) == {*ROSTER, *sent}
    assert set(before.values()) <= set(STATUSES)
    assert len(final_at) == 1
    for name, status in before.items():
        assert after[name] == status or (status, after[name]) == ("awaited", "missing")
        assert name in ROSTER or status == "unknown"
        assert not (status in UNUSABLE and name in excuses)


@given(st.lists(MOMENTS, max_size=4), MOMENTS, MOMENTS, MOMENTS)
def test_a_state_is_provisional_then_final_then_restated(
    landed: list[datetime], final_at: datetime, one: datetime, other: datetime
) -> None:
    """In this order, whatever the moments are."""
    rows = judge(
        "tills", WAITED_FOR, DAY, roster=ROSTER, closures=(), sent={}, excuses={}, zone=ZoneInfo("UTC"), now=one
    )
    found = completeness(WAITED_FOR, DAY, rows, excuses={}, zone=ZoneInfo("UTC"), has_roster=True)
    order = ("provisional", "final", "restated")
    states = [
        state_of([found], [at for at in landed if at <= now], now=now)[0] for now in sorted((one, other, final_at))
    ]
    assert [order.index(state) for state in states] == sorted(order.index(state) for state in states)


def test_a_sender_is_judged_by_his_own_clock() -> None:
    """At the same moment one is missing and another awaited."""
    roster = {name: Member(name, ZoneInfo(name)) for name in ("Pacific/Kiritimati", "America/New_York")}
    now = datetime(2024, 10, 3, 8, tzinfo=UTC)
    rows = judge(
        "tills", WAITED_FOR, DAY, roster=roster, closures=(), sent={}, excuses={}, zone=ZoneInfo("UTC"), now=now
    )
    assert {row.sender: row.status for row in rows} == {"America/New_York": "awaited", "Pacific/Kiritimati": "missing"}


def test_history_that_was_handed_over_is_late_for_nobody() -> None:
    """Days before `judged_from` came when they came."""
    senders = senders_from("shops", "shop", cutoff=Cutoff(at=time(6)), judged_from=DAY + timedelta(days=1))
    sent = {"a": [Sent("x", CUTOFF + timedelta(days=900), is_usable=True, rows=1)]}
    rows = judge(
        "tills", senders, DAY, roster=ROSTER, closures=(), sent=sent, excuses={}, zone=ZoneInfo("UTC"), now=CUTOFF
    )
    assert {row.sender: row.status for row in rows}["a"] == "on_time"
