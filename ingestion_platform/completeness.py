"""
What came of who was expected: one status a sender and day, when a day was complete, and what that makes of a report.

Belongs here: the judgement, as pure functions of roster, calendar, what landed when, and the moment. Doesn't: where any of these are read
(`warehouse/`). A moment is UTC throughout.
"""

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import Literal, get_args
from zoneinfo import ZoneInfo

from ingestion_platform.opening_days import Closure, opens
from ingestion_platform.senders import Cutoff, Member, Senders

Status = Literal[
    "awaited", "missing", "unreadable", "repeated", "empty", "late", "twice", "corrected", "on_time",
    "excused", "closed", "unexpected", "unknown",
]  # fmt: skip
STATUSES: tuple[Status, ...] = get_args(Status)
"""
Of somebody who is expected, the worst that holds: `awaited` (nothing yet, and it isn't time), `missing`, `unreadable` (only what can't be
read), `repeated` (only what another day or sender had sent before), `empty` (no rows), `late`, `twice` (a second object of the day),
`corrected` (an object was sent anew with other content), `on_time`. Of others: `excused` by a person, `closed`, `unexpected` (he sent
though closed, or before his first or after his last day), `unknown` (he sent, and no roster lists him).
"""

UNUSABLE: frozenset[Status] = frozenset({"missing", "unreadable", "repeated"})
"""The day lacks what this sender should have sent."""

REMARKABLE: frozenset[Status] = frozenset({"empty", "late", "twice", "unexpected", "unknown"})
"""All is there, and somebody should look."""

State = Literal["provisional", "final", "restated"]


@dataclass(frozen=True, slots=True)
class Sent:
    """
    One version of one object of a sender's day.

    Args:
        key: in the landing zone.
        landed_at: when this content was first there.
        is_usable: it could be read, and isn't what another sender or another day had sent already.
        is_current: it is what stands under its key.
        is_repeated: another object has its content.
        is_empty: it could be read, and has no records.
        rows: records in it that entered raw.
        why: why it can't be used, or whose content it is; empty otherwise.
    """

    key: str
    landed_at: datetime
    is_usable: bool
    is_current: bool = True
    is_repeated: bool = False
    is_empty: bool = False
    rows: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True)
class Excuse:
    """A person's word that a sender needn't send for a day."""

    sender: str
    day: date
    by: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class SenderDay:
    """
    What came of one sender's day.

    Args:
        dataset: whose.
        day: of the keys.
        sender: his id.
        status: see `STATUSES`.
        is_expected: whether he had to send.
        reason: what decides it, for a person; empty when nothing special does.
        cutoff_at: by when it had to be there.
        deadline_at: until when it is waited for.
        first_landed_at: when the first usable object was there; None: none is.
        last_landed_at: when the last object was there, usable or not.
        objects: that stand under his keys of the day.
        duplicates: of them, those whose content another one has.
        rejected: of them, those that can't be read.
        corrections: contents that others took the place of.
        rows: records in them.
    """

    dataset: str
    day: date
    sender: str
    status: Status
    is_expected: bool
    reason: str
    cutoff_at: datetime
    deadline_at: datetime
    first_landed_at: datetime | None
    last_landed_at: datetime | None
    objects: int
    duplicates: int
    rejected: int
    corrections: int
    rows: int


@dataclass(frozen=True, slots=True)
class Completeness:
    """
    When a dataset's day had all that was expected of it.

    Args:
        complete_at: when the last expected sender had sent, or was excused; None: somebody hasn't.
        final_at: when it counts as it is: then, or when the last one's deadline had passed.
        waits_for: expected senders of whom nothing usable is there.
    """

    complete_at: datetime | None
    final_at: datetime
    waits_for: tuple[str, ...] = ()


@lru_cache(maxsize=65536)
def _moments(cutoff: Cutoff, day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    return cutoff.moment(day, zone), cutoff.deadline(day, zone)


def is_judged(senders: Senders, day: date) -> bool:
    """Whether a day is held against the clock."""
    return senders.judged_from is None or day >= senders.judged_from


def judge(
    dataset: str,
    senders: Senders,
    day: date,
    *,
    roster: Mapping[str, Member] | None,
    closures: Sequence[Closure],
    sent: Mapping[str, Sequence[Sent]],
    excuses: Mapping[str, Excuse],
    zone: ZoneInfo,
    now: datetime,
) -> list[SenderDay]:
    """
    One status for each sender who was expected, was closed, or sent.

    Args:
        dataset: its name.
        senders: as declared.
        day: of the keys.
        roster: by id, as it stood on the day; None: there is none yet.
        closures: beside the declared ones.
        sent: sender → his objects of the day, versions that are no more among them.
        excuses: of the day, by sender.
        zone: of senders who are on no roster.
        now: the moment.

    Returns:
        By sender.
    """
    found = []
    for sender in sorted({*(roster or {}), *sent}):
        member = (roster or {}).get(sender)
        objects = sent.get(sender, ())
        cutoff, deadline = _moments(senders.due, day, member.zone if member else zone)
        expected, reason = False, ""
        status: Status | None = None
        if roster is None:
            status, reason = _came(objects, None, now=now, cutoff_at=cutoff)[0], "the roster isn't loaded yet"
        elif member is None:
            status, reason = "unknown", "no roster lists him"
        elif (away := _away(member, day)) is not None:
            if not objects:
                continue
            status, reason = "unexpected", away
        else:
            calendar = opens(
                senders.opening_days,
                day,
                sender,
                country=member.country,
                weekdays=member.weekdays,
                closures=closures,
            )
            reason = calendar.reason
            if not calendar.is_open:
                status = "unexpected" if objects else "closed"
            else:
                expected = True
        usable = [one for one in objects if one.is_usable]
        first = min((one.landed_at for one in usable), default=None)
        if expected:
            excuse = excuses.get(sender)
            came, why = _came(objects, cutoff if is_judged(senders, day) else None, now=now, cutoff_at=cutoff)
            reason = why or reason
            if excuse is not None:
                expected = False
                reason = f"excused by {excuse.by}: {excuse.reason}"
                came = "excused" if came in UNUSABLE or came == "awaited" else came
            status = came
        assert status is not None, "whoever isn't expected has one by now"
        current = [one for one in objects if one.is_current]
        found.append(
            SenderDay(
                dataset=dataset,
                day=day,
                sender=sender,
                status=status,
                is_expected=expected,
                reason="; ".join(filter(None, (reason, member.remark if member else ""))),
                cutoff_at=cutoff,
                deadline_at=deadline,
                first_landed_at=first,
                last_landed_at=max((one.landed_at for one in objects), default=None),
                objects=len(current),
                duplicates=sum(one.is_repeated for one in current),
                rejected=sum(not one.is_usable and not one.is_repeated for one in current),
                corrections=len(objects) - len(current),
                rows=sum(one.rows for one in current),
            )
        )
    return found


def _away(member: Member, day: date) -> str | None:
    """Why a member isn't expected on a day although the roster lists him; None when he is."""
    if member.active_from is not None and day < member.active_from:
        return f"active from {member.active_from}"
    if member.active_until is not None and day > member.active_until:
        return f"active until {member.active_until}"
    return None


def _came(
    objects: Sequence[Sent], judged_by: datetime | None, *, now: datetime, cutoff_at: datetime
) -> tuple[Status, str]:
    """The worst that holds of what an expected sender sent."""
    current = [one for one in objects if one.is_current]
    usable = [one for one in current if one.is_usable]
    if not usable:
        unread = next((one for one in current if not one.is_repeated), None)
        if unread is not None:
            return "unreadable", unread.why
        if current:
            return "repeated", current[0].why
        return ("awaited", "") if now < cutoff_at else ("missing", "")
    if all(one.is_empty for one in usable):
        return "empty", ""
    first = min(one.landed_at for one in objects if one.is_usable)
    if judged_by is not None and first > judged_by:
        return "late", ""
    if len(usable) > 1:
        return "twice", ""
    if len(objects) > len(current):
        return "corrected", ""
    return "on_time", ""


def completeness(
    senders: Senders,
    day: date,
    rows: Iterable[SenderDay],
    *,
    excuses: Mapping[str, Excuse],
    zone: ZoneInfo,
    has_roster: bool,
) -> Completeness:
    """
    When a dataset's day was complete, and when it counts as it is.

    Args:
        senders: as declared.
        day: which.
        rows: as `judge` gave them.
        excuses: of the day, by sender.
        zone: of a day on which nobody is expected.
        has_roster: without one nobody knows who is expected, and the deadline is waited for.
    """
    cutoff, deadline = _moments(senders.due, day, zone)
    if not has_roster:
        return Completeness(None, deadline)
    came: list[datetime | None] = []
    final: list[datetime] = []
    waits_for: list[str] = []
    for row in rows:
        excuse = excuses.get(row.sender)
        if not row.is_expected and excuse is None:
            continue
        moments = [moment for moment in (row.first_landed_at, excuse.at if excuse else None) if moment is not None]
        at = min(moments, default=None)
        came.append(at)
        final.append(min(at, row.deadline_at) if at is not None else row.deadline_at)
        if at is None:
            waits_for.append(row.sender)
    if not came:
        # Somebody may open after all until then.
        return Completeness(cutoff, cutoff)
    known = [at for at in came if at is not None]
    return Completeness(max(known) if len(known) == len(came) else None, max(final), tuple(waits_for))


def state_of(
    days: Iterable[Completeness], landed: Iterable[datetime], *, now: datetime
) -> tuple[State, datetime | None, datetime | None]:
    """
    What a report's partition is.

    Args:
        days: of everything with senders that it is made of; none of them: it always was final.
        landed: when the objects landed that have, or had, rows in it.
        now: the moment.

    Returns:
        The state; since when it is final, or will be at the latest, None when it always was; and the last late arrival.
    """
    final_at = max((day.final_at for day in days), default=None)
    if final_at is None:
        return "final", None, None
    if now < final_at:
        return "provisional", final_at, None
    late = max((moment for moment in landed if moment > final_at), default=None)
    return ("restated" if late is not None else "final"), final_at, late


def near_senders(sender: str, known: Collection[str]) -> str:
    """A hint for somebody who mistook a sender's id."""
    near = difflib.get_close_matches(sender, known, 3, cutoff=0.5) or sorted(known)[:3]
    return (
        f"known are {', '.join(near)}{', …' if len(near) < len(known) else ''}"
        if near
        else "has its roster been loaded?"
    )
