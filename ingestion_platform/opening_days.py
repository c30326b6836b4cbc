"""
On which days a sender is open: weekdays, public holidays, closures, openings.

Belongs here: what a declaration says of it, and whether one is open on a day, as a pure function. Doesn't: by when he must have sent
(`senders.py`), where closures that are no declaration come from (`warehouse/`).
"""

from collections.abc import Iterable
from dataclasses import dataclass as plain
from datetime import date
from typing import Literal, get_args

from pydantic.dataclasses import dataclass

from ingestion_platform.errors import DeclarationError
from ingestion_platform.public_holidays import public_holidays
from ingestion_platform.table import STRICT

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)
"""In the order of `date.weekday()`."""


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Span:
    """
    Days on which senders are closed, or open, whatever else is said.

    Args:
        first: the first of them.
        last: the last of them; None: the first alone.
        reason: why, for a person.
        sender: whom it is about; None: every sender.
        country: about the senders of that country alone, `ZA`; None: of any.
    """

    first: date
    last: date | None = None
    reason: str = ""
    sender: str | None = None
    country: str | None = None

    def __post_init__(self) -> None:
        if self.last is not None and self.last < self.first:
            raise DeclarationError(f"{type(self).__name__}: it ends on {self.last}, before it begins on {self.first}")

    def covers(self, day: date, sender: str, country: str | None) -> bool:
        """Whether it is about that sender on that day."""
        return (
            self.first <= day <= (self.last or self.first)
            and self.sender in (None, sender)
            and self.country in (None, country)
        )


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Closure(Span):
    """Days on which senders are closed: a holiday that the library doesn't know, a stock-taking, a renovation."""


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Opening(Span):
    """Days on which senders are open although a weekday or a holiday says otherwise: the Sundays before Christmas."""


@dataclass(frozen=True, config=STRICT, kw_only=True)
class OpeningDays:
    """
    The days on which senders are open, and are expected to send.

    A closure counts for more than an opening, that for more than a holiday, and that for more than a weekday.

    Args:
        weekdays: those of every sender; a roster may say each one's own.
        closed_on_public_holidays: those of a sender's country.
        closures: own holidays, and whatever else is known when this is written; others come from a dataset (`ClosuresFrom`).
        openings: days that are none of these after all.
    """

    weekdays: tuple[Weekday, ...] = WEEKDAYS
    closed_on_public_holidays: bool = False
    closures: tuple[Closure, ...] = ()
    openings: tuple[Opening, ...] = ()

    def __post_init__(self) -> None:
        if not self.weekdays:
            raise DeclarationError("OpeningDays: nobody is open on any weekday", "weekdays=('mon', 'tue', …)")


@plain(frozen=True, slots=True)
class Open:
    """Whether one is open on a day, and what decides it; empty when nothing special does."""

    is_open: bool
    reason: str = ""


OPEN = Open(True)


def parse_weekdays(text: str) -> frozenset[int] | None:
    """
    The weekdays that a roster's cell says, as `date.weekday()` counts.

    Args:
        text: `mon-sat`, `mon,wed,fri`, `sat-tue`; in any case, with blanks.

    Returns:
        None when it says none.
    """
    found: set[int] = set()
    for part in text.lower().replace(" ", "").replace(";", ",").split(","):
        first, _, last = part.partition("-")
        last = last or first
        if first[:3] not in WEEKDAYS or last[:3] not in WEEKDAYS:
            return None
        begin, end = WEEKDAYS.index(first[:3]), WEEKDAYS.index(last[:3])
        found.update(number % 7 for number in range(begin, end + 1 + (7 if end < begin else 0)))
    return frozenset(found)


def opens(
    days: OpeningDays,
    day: date,
    sender: str,
    *,
    country: str | None = None,
    weekdays: frozenset[int] | None = None,
    closures: Iterable[Closure] = (),
) -> Open:
    """
    Whether a sender is open on a day.

    Args:
        days: as declared.
        day: which, in the sender's own calendar.
        sender: his id.
        country: his; None: no public holidays are his.
        weekdays: his own; None: as declared.
        closures: beside the declared ones.
    """
    for closure in (*days.closures, *closures):
        if closure.covers(day, sender, country):
            return Open(False, f"closed: {closure.reason}" if closure.reason else "closed")
    for opening in days.openings:
        if opening.covers(day, sender, country):
            return Open(True, f"open: {opening.reason}" if opening.reason else "open")
    if days.closed_on_public_holidays and country is not None:
        known = public_holidays(country, day.year)
        if known is not None and day in known:
            return Open(False, f"public holiday: {known[day]}")
    own = weekdays if weekdays is not None else frozenset(WEEKDAYS.index(name) for name in days.weekdays)
    if day.weekday() not in own:
        return Open(False, f"closed on {day:%A}s")
    return OPEN
