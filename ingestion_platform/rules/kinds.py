"""
The kinds of rules that there are.

Belongs here: pure steps from event to event. Doesn't: whose events they are (`rule.py`). States are tuples, replaced and never changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any, Protocol

from ingestion_platform.alert import Action
from ingestion_platform.errors import DeclarationError
from ingestion_platform.rules.rule import Finding, Step

_NONE, _MINUTE = timedelta(), timedelta(minutes=1)


def _get(row: Any, column: str) -> Any:
    return getattr(row, column) if row is not None else None


# --- signs that add up


class Sign(Protocol):
    """One thing about an event that is remarkable, and how much it weighs."""

    weight: float

    @property
    def takes(self) -> tuple[str, ...]:
        """The columns that it reads of events."""
        ...

    @property
    def asks(self) -> tuple[str, ...]:
        """The columns that it reads of what is known."""
        ...

    @property
    def looks_back(self) -> timedelta:
        """How long former events matter."""
        ...

    def found(self, recent: Sequence[Any], event: Any, known: Any) -> str:
        """Why the event is remarkable, in words; empty when it isn't. *recent*: the subject's events that it looks back at, in order."""
        ...


class _OfOneEvent:
    """A sign that looks at the event alone."""

    @property
    def looks_back(self) -> timedelta:
        """See `Sign`."""
        return timedelta()


@dataclass(frozen=True, kw_only=True)
class AboveUsual(_OfOneEvent):
    """
    A value is so many times what is usual.

    Args:
        column: of the event.
        usual: column of what is known; NULL or 0: nobody knows.
        times: how many.
        weight: in the score.
    """

    column: str
    usual: str
    times: float
    weight: float

    @property
    def takes(self) -> tuple[str, ...]:
        """See `Sign`."""
        return (self.column,)

    @property
    def asks(self) -> tuple[str, ...]:
        """See `Sign`."""
        return (self.usual,)

    def found(self, recent: Sequence[Any], event: Any, known: Any) -> str:
        """See `Sign`."""
        value, usual = getattr(event, self.column), _get(known, self.usual)
        if value is None or not usual or value < Decimal(str(self.times)) * Decimal(usual):
            return ""
        return f"{self.column} {value} is {Decimal(value) / Decimal(usual):.1f} times the usual {Decimal(usual):.2f}"


@dataclass(frozen=True, kw_only=True)
class Unfamiliar(_OfOneEvent):
    """
    A value is none of those that are known of the subject.

    Args:
        column: of the event; NULL is nothing to judge.
        among: column of what is known, a list; NULL or empty: nobody knows.
        weight: in the score.
    """

    column: str
    among: str
    weight: float

    @property
    def takes(self) -> tuple[str, ...]:
        """See `Sign`."""
        return (self.column,)

    @property
    def asks(self) -> tuple[str, ...]:
        """See `Sign`."""
        return (self.among,)

    def found(self, recent: Sequence[Any], event: Any, known: Any) -> str:
        """See `Sign`."""
        value, usual = getattr(event, self.column), _get(known, self.among)
        if value is None or not usual or value in usual:
            return ""
        return f"{self.column} {str(value)[:40]} is none of the {len(usual)} known"


@dataclass(frozen=True, kw_only=True)
class UnusualHour(_OfOneEvent):
    """
    It happened in an hour of the day in which the subject has hardly ever done anything.

    Args:
        among: column of what is known: the hours (0 to 23, UTC) that are usual, a list; NULL or empty: nobody knows.
        weight: in the score.
    """

    among: str
    weight: float

    @property
    def takes(self) -> tuple[str, ...]:
        """See `Sign`."""
        return ()

    @property
    def asks(self) -> tuple[str, ...]:
        """See `Sign`."""
        return (self.among,)

    def found(self, recent: Sequence[Any], event: Any, known: Any) -> str:
        """See `Sign`."""
        usual, hour = _get(known, self.among), event.at.hour
        # A neighbour of a usual hour is no surprise.
        if not usual or any((hour + step) % 24 in usual for step in (-1, 0, 1)):
            return ""
        return f"at {event.at:%H:%M} UTC, and it is usually in {len(usual)} other hours of the day"


@dataclass(frozen=True, kw_only=True)
class TooMany:
    """
    More events, or more in sum, within a trailing window than are allowed (velocity).

    Args:
        within: the window, the event's own moment included.
        more_than: events, or units of the sum.
        sum_of: column that is summed up; None: events are counted.
        weight: in the score.
    """

    within: timedelta
    more_than: float
    weight: float
    sum_of: str | None = None

    @property
    def takes(self) -> tuple[str, ...]:
        """See `Sign`."""
        return (self.sum_of,) if self.sum_of else ()

    @property
    def asks(self) -> tuple[str, ...]:
        """See `Sign`."""
        return ()

    @property
    def looks_back(self) -> timedelta:
        """See `Sign`."""
        return self.within

    def found(self, recent: Sequence[Any], event: Any, known: Any) -> str:
        """See `Sign`."""
        since = event.at - self.within
        if self.sum_of is None:
            if len(recent) < self.more_than:
                return ""
            many: Any = sum(1 for one in recent if one.at > since) + 1
            what = "events"
        else:
            values = [getattr(one, self.sum_of) for one in (*recent, event) if one.at > since]
            many, what = sum(value for value in values if value is not None), f"of {self.sum_of}"
        if many <= self.more_than:
            return ""
        return f"{many} {what} within {_minutes(self.within)}, and more than {self.more_than:g} are too many"


@dataclass(frozen=True, kw_only=True)
class Signs:
    """
    Signs that add up to a score; from some score on there is an alert (fraud).

    Args:
        signs: each with its weight; the score is their sum, 1 at most.
        from_score: below it there is no alert.
        actions: action → the score from which on it is taken; the highest that is reached counts.
    """

    signs: tuple[Any, ...]
    from_score: float
    actions: tuple[tuple[Action, float], ...] = ()

    def __post_init__(self) -> None:
        if not self.signs:
            raise DeclarationError("Signs: there are none", "signs=(AboveUsual(…), …)")
        if not 0 < self.from_score <= 1:
            raise DeclarationError(f"Signs: from_score is above 0 and 1 at most, not {self.from_score}")

    @cached_property
    def takes(self) -> tuple[str, ...]:
        """See `Kind`."""
        return tuple(dict.fromkeys(column for sign in self.signs for column in sign.takes))

    @property
    def asks(self) -> tuple[str, ...]:
        """See `Kind`."""
        return tuple(dict.fromkeys(column for sign in self.signs for column in sign.asks))

    @cached_property
    def looks_back(self) -> timedelta:
        """See `Kind`."""
        return max((sign.looks_back for sign in self.signs), default=timedelta())

    def step(self, state: Any, event: Any, known: Any) -> Step:
        """State: the events that are still looked back at."""
        recent: tuple[Any, ...] = state or ()
        if recent:
            since = event.at - self.looks_back
            # They are in order: where the first is recent, all are.
            if recent[0].at <= since:
                recent = tuple([one for one in recent if one.at > since])
        told = []
        score = 0.0
        for sign in self.signs:
            why = sign.found(recent, event, known)
            if why:
                told.append((-sign.weight, why))
                score += sign.weight
        state = (*recent, event) if self.looks_back else ()
        if not told:
            return state, ()
        score = min(round(score, 3), 1.0)
        if score < self.from_score:
            return state, ()
        action = next(
            (action for action, least in sorted(self.actions, key=lambda one: -one[1]) if score >= least), None
        )
        reasons = tuple(why for _, why in sorted(told))
        return state, (Finding(event.key, event.at, score, reasons, {}, action),)


# --- a level that runs low


@dataclass(frozen=True, kw_only=True)
class RunsLow:
    """
    A level that begins the day at what is known, and goes down by every event, is below its threshold (stock).

    There is one alert each time that it falls below. Where nobody knows the level, nothing is judged.

    Args:
        minus: column of the event that is taken off; what is negative is put back.
        begins_with: column of what is known: the level at the beginning of the day.
        threshold: column of what is known.
        up_to: column of what is known: what it is to be filled up to.
        unit: what the level counts.
        beside: columns of what is known that are told along, as they are.
    """

    minus: str
    begins_with: str
    threshold: str
    up_to: str
    unit: str = "units"
    beside: tuple[str, ...] = ()

    @property
    def takes(self) -> tuple[str, ...]:
        """See `Kind`."""
        return (self.minus,)

    @property
    def asks(self) -> tuple[str, ...]:
        """See `Kind`."""
        return (self.begins_with, self.threshold, self.up_to, *self.beside)

    @property
    def looks_back(self) -> timedelta:
        """See `Kind`."""
        return timedelta()

    def step(self, state: Any, event: Any, known: Any) -> Step:
        """State: what has been taken off since the beginning of the day."""
        taken = (state or 0) + (getattr(event, self.minus) or 0)
        begins, threshold = _get(known, self.begins_with), _get(known, self.threshold)
        if begins is None or threshold is None:
            return taken, ()
        before, level = begins - (state or 0), begins - taken
        # What was below in the morning already is told by the first event of the day.
        if level >= threshold or (before < threshold and state is not None):
            return taken, ()
        up_to = _get(known, self.up_to) or threshold
        details = {
            "level": str(level),
            "threshold": str(threshold),
            "reorder": str(max(up_to - level, 0)),
            **{column: str(value) for column in self.beside if (value := _get(known, column)) is not None},
        }
        why = f"{level} {self.unit} are left, below {threshold}: reorder {details['reorder']}"
        return taken, (Finding(event.key, event.at, 1.0 if level <= 0 else 0.8, (why,), details),)


# --- a state that lasts


@dataclass(frozen=True, kw_only=True)
class LastsLonger:
    """
    A value is above its limit for longer than so long, event after event (a warm freezer). One alert an episode.

    Args:
        column: of the event.
        above: the limit, the same for all.
        limit: column of the event that has the limit; where it is NULL, `above` counts.
        longer_than: how long.
        silent_for: when nothing is told for so long, the episode has ended: nobody knows what was meanwhile.
        unit: of the value.
    """

    column: str
    above: float
    longer_than: timedelta
    limit: str | None = None
    silent_for: timedelta = timedelta(minutes=30)
    unit: str = ""

    @property
    def takes(self) -> tuple[str, ...]:
        """See `Kind`."""
        return (self.column, *((self.limit,) if self.limit else ()))

    @property
    def asks(self) -> tuple[str, ...]:
        """See `Kind`."""
        return ()

    @property
    def looks_back(self) -> timedelta:
        """See `Kind`."""
        return self.longer_than + self.silent_for

    def step(self, state: Any, event: Any, known: Any) -> Step:
        """State: when the episode began and by which event, its last event, the highest value, and whether it was told."""
        value, limit = getattr(event, self.column), getattr(event, self.limit) if self.limit else None
        limit = self.above if limit is None else limit
        if value is None or value <= limit:
            return None, ()
        if state is None or event.at - state[2] > self.silent_for:
            return (event.at, event.key, event.at, value, False), ()
        began, key, _, highest, is_told = state
        highest = max(highest, value)
        lasts = event.at - began
        if is_told or lasts <= self.longer_than:
            return (began, key, event.at, highest, is_told), ()
        why = f"above {limit}{self.unit} for {_minutes(lasts)}, {highest}{self.unit} at most"
        details = {"since": began.isoformat() + "Z", "limit": str(limit), "highest": str(highest)}
        return (began, key, event.at, highest, True), (Finding(key, event.at, 1.0, (why,), details),)


# --- a rate that jumps


@dataclass(frozen=True, kw_only=True)
class Jumps:
    """
    More events in a minute, or a greater share of them, than in the minutes before (a spike). One alert until a minute is calm again.

    Args:
        times: how many times the mean of the minutes before.
        minutes: how many minutes before.
        at_least: events in a minute below which nothing is a spike; of a share, those that are counted.
        share_of: column of the event whose values are counted; None: every event.
        values: those of its values that count.
        calm: a share is compared with this one at least.
    """

    times: float
    minutes: int
    at_least: int
    share_of: str | None = None
    values: tuple[Any, ...] = ()
    calm: float = 0.01

    @property
    def takes(self) -> tuple[str, ...]:
        """See `Kind`."""
        return (self.share_of,) if self.share_of else ()

    @property
    def asks(self) -> tuple[str, ...]:
        """See `Kind`."""
        return ()

    @property
    def looks_back(self) -> timedelta:
        """See `Kind`."""
        return timedelta(minutes=self.minutes + 1)

    def step(self, state: Any, event: Any, known: Any) -> Step:
        """
        State: the minute, its events, those that count, whether it has jumped, whether the one before had; and minute, events, counting
        of each before.
        """
        counts = self.share_of is None or getattr(event, self.share_of) in self.values
        if state is None:
            state = (event.at.replace(second=0, microsecond=0), 0, 0, False, False, ())
        now, events, counting, has_jumped, had_jumped, before = state
        if not _NONE <= event.at - now < _MINUTE:
            minute = event.at.replace(second=0, microsecond=0)
            is_next = minute - now == _MINUTE
            oldest = minute - timedelta(minutes=self.minutes)
            before = tuple([one for one in (*before, (now, events, counting)) if one[0] >= oldest])
            now, events, counting, had_jumped, has_jumped = minute, 0, 0, has_jumped and is_next, False
        events += 1
        counting += counts
        # Too short a time before says nothing of what is usual.
        if has_jumped or counting < self.at_least or not counts or self._span(before, now) < self.minutes / 2:
            return (now, events, counting, has_jumped, had_jumped, before), ()
        usual, found = self._usual(before, now), self._now(events, counting)
        if found <= self.times * usual:
            return (now, events, counting, False, had_jumped, before), ()
        state = (now, events, counting, True, had_jumped, before)
        if had_jumped:
            return state, ()
        return state, (self._finding(now, event.at, found, usual, counting),)

    @staticmethod
    def _span(before: Sequence[tuple[datetime, int, int]], now: datetime) -> float:
        """Minutes that are told by what came before."""
        return (now - before[0][0]).total_seconds() / 60 if before else 0.0

    def _usual(self, before: Sequence[tuple[datetime, int, int]], now: datetime) -> float:
        if self.share_of is None:
            return float(sum(one[1] for one in before)) / self._span(before, now)
        return max(sum(one[2] for one in before) / max(sum(one[1] for one in before), 1), self.calm)

    def _now(self, events: int, counting: int) -> float:
        return float(counting) if self.share_of is None else counting / events

    def _finding(self, minute: datetime, at: datetime, found: float, usual: float, counting: int) -> Finding:
        if self.share_of is None:
            why = f"{counting} within the minute, and {usual:.1f} a minute in the {self.minutes} before"
        else:
            why = (
                f"{self.share_of} is {' or '.join(map(str, self.values))} in {found:.0%}, and was in {usual:.0%} before"
            )
        details = {"minute": minute.isoformat() + "Z", "now": f"{found:.4g}", "before": f"{usual:.4g}"}
        return Finding(minute.isoformat() + "Z", at, 1.0, (why,), details)


def _minutes(span: timedelta) -> str:
    minutes = span.total_seconds() / 60
    return f"{minutes:.0f} minutes" if minutes >= 2 else f"{span.total_seconds():.0f} seconds"
