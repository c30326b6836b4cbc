"""
What has newly landed: which days of a dataset need a run, told from the landing zone, the ledger, and what was seen before.

Belongs here: the decision alone. Doesn't: Dagster's sensor around it (`sensors.py`).

Each look lists the recent days (up to today, and up to the newest day there is), and a few of all others in turn, so that its cost
doesn't grow with history and yet an object that lands for a day of years ago is found. A day whose objects the ledger knows, all in the
version that is there, needs nothing, whoever loaded them: so a lost cursor, or a first look at years of history, starts no run for what
is done.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import islice

from ingestion_platform.dataset import Dataset
from ingestion_platform.landing import LandedObject
from ingestion_platform.orchestration.digest import digest
from ingestion_platform.orchestration.partitions import days_between
from ingestion_platform.warehouse import Warehouse

FEWEST_RECENT_DAYS = 8
OTHER_DAYS_A_LOOK = 16
"""Ten years pass by in 2 hours of looking every half minute."""
PATIENCE_SECONDS = 40.0
"""Dagster ends a tick after 60; what was seen until then counts, and the next look goes on."""


@dataclass(frozen=True)
class Cursor:
    """
    What the sensor remembers.

    Args:
        seen: recent day → digest of its objects when it was last settled.
        other: where the turn through all days goes on.
    """

    seen: dict[date, str] = field(default_factory=dict)
    other: date | None = None

    @classmethod
    def parse(cls, text: str | None) -> "Cursor":
        """Read one; one that can't be read is an empty one, which costs a look at the ledger and nothing else."""
        try:
            values = json.loads(text or "{}")
            seen = {date.fromisoformat(day): str(found) for day, found in values.get("seen", {}).items()}
            other = values.get("other")
            return cls(seen, date.fromisoformat(other) if other else None)
        except (ValueError, AttributeError, TypeError):
            return cls()

    def __str__(self) -> str:
        seen = {day.isoformat(): found for day, found in sorted(self.seen.items())}
        return json.dumps({"seen": seen, "other": self.other.isoformat() if self.other else None})


@dataclass(frozen=True)
class Arrival:
    """
    A day that needs a run.

    Args:
        day: which.
        run_key: the same for the same objects, so that they are asked for once; or once a day, where a former run didn't load them.
        objects: what has landed for it.
    """

    day: date
    run_key: str
    objects: tuple[LandedObject, ...]


@dataclass(frozen=True)
class Look:
    """What a look found: days to run, days that changed (run or not), and the cursor for the next look."""

    arrivals: tuple[Arrival, ...]
    changed: tuple[tuple[date, tuple[LandedObject, ...]], ...]
    cursor: Cursor
    listed: int


def recent_days(dataset: Dataset, today: date, newest: date | None = None) -> list[date]:
    """
    The days that are listed at every look: as far back as rows may be late, a week at least.

    Args:
        dataset: whose.
        today: the business day.
        newest: the last day that has anything. Where it lies long ago, as in a history that is being handed over, files still come
            around it, and for the days after it.
    """
    number = max(dataset.daily.allowed_lateness_days + 1, FEWEST_RECENT_DAYS)
    found: set[date] = set()
    newest = newest or dataset.daily.from_
    for first, last in (
        (today - timedelta(days=number - 1), today),
        (newest - timedelta(days=number - 1), newest + timedelta(days=FEWEST_RECENT_DAYS)),
    ):
        found.update(days_between(max(dataset.daily.from_, first), min(last, today)))
    return sorted(found)


def look(
    dataset: Dataset,
    warehouse: Warehouse,
    cursor: Cursor,
    today: date,
    is_busy: Callable[[date], bool],
    clock: Callable[[], float] = time.monotonic,
) -> Look:
    """
    Look what has landed.

    Args:
        dataset: whose.
        warehouse: lists, and knows what is loaded.
        cursor: of the last look.
        today: the business day.
        is_busy: whether a run for that day is queued or under way; the day is left for the next look then.
        clock: seconds.
    """
    end = clock() + PATIENCE_SECONDS
    recent = recent_days(dataset, today, warehouse.newest_day(dataset))
    seen = {day: cursor.seen[day] for day in recent if day in cursor.seen}
    arrivals: list[Arrival] = []
    changed: list[tuple[date, tuple[LandedObject, ...]]] = []
    listed = 0
    known_digests: dict[date, str] = {}
    objects_of: dict[date, tuple[LandedObject, ...]] = {}
    for day in reversed(recent):
        if clock() > end:
            break
        objects = objects_of[day] = tuple(warehouse.listing(dataset, day))
        found = known_digests[day] = digest(objects)
        listed += 1
        if found == seen.get(day) or is_busy(day):
            continue
        if objects:
            changed.append((day, objects))
            if warehouse.news(dataset, day, objects):
                arrivals.append(Arrival(day, f"{dataset.name}|{day}|{found}", objects))
        seen[day] = found
    asked = {arrival.day for arrival in arrivals}
    other = cursor.other
    for day in _turn(dataset.daily.from_, today, cursor.other):
        if clock() > end:
            break
        other = day + timedelta(days=1)
        if day in asked or is_busy(day):
            continue
        if day in objects_of:
            objects, found = objects_of[day], known_digests[day]
        else:
            objects = tuple(warehouse.listing(dataset, day))
            found = digest(objects)
            listed += 1
        # Recent and seen before, or of long ago: not loaded means that nobody has been asked, or that it came to nothing.
        if objects and warehouse.news(dataset, day, objects):
            arrivals.append(Arrival(day, f"{dataset.name}|{day}|{found}|{today}", objects))
            changed.append((day, objects))
    arrivals.sort(key=lambda arrival: arrival.day)
    return Look(tuple(arrivals), tuple(sorted(changed, key=lambda one: one[0])), Cursor(seen, other), listed)


def _turn(first: date, today: date, after: date | None) -> list[date]:
    """The next days in turn, from the first to today and round again."""
    if first > today:
        return []
    start = after if after is not None and first <= after <= today else first
    days = days_between(start, min(today, start + timedelta(days=OTHER_DAYS_A_LOOK - 1)))
    return list(islice(days, OTHER_DAYS_A_LOOK))
