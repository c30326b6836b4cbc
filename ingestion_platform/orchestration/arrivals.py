"""
What has newly landed: which days of a dataset need a run, told from the landing zone, the ledger, and what was seen before.

Belongs here: the decision alone. Doesn't: Dagster's sensor around it (`sensors.py`).

Each look lists the recent days (up to today, and up to the newest day there is), and a few of all others in turn, so that its cost
doesn't grow with history and yet an object that lands for a day of years ago is found. A day whose objects the ledger knows, all in the
version that is there, needs nothing, whoever loaded them: so a lost cursor, or a first look at years of history, starts no run for what
is done.

A dataset with a routing has its new objects shared out among several runs a day: the urgent ones first, the small ones together, each
large one alone. A run is limited to its objects, so whatever isn't in it stays news, and no run waits for another one's.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import islice
from typing import Protocol

from ingestion_platform.dataset import MOST_OBJECTS_A_RUN, Dataset, Route
from ingestion_platform.landing import LandedObject
from ingestion_platform.orchestration.digest import digest, fingerprint
from ingestion_platform.orchestration.partitions import days_between
from ingestion_platform.warehouse import Only, Warehouse
from ingestion_platform.warehouse.results import EVERYTHING

FEWEST_RECENT_DAYS = 8
OTHER_DAYS_A_LOOK = 16
"""Ten years pass by in 2 hours of looking every half minute."""
MOST_RUNS = 1000
"""A look goes through fewer days than that: without a routing, each of them may have its run."""
PATIENCE_SECONDS = 40.0
"""Dagster ends a tick after 60; what was seen until then counts, and the next look goes on."""


@dataclass(frozen=True)
class Cursor:
    """
    What the sensor remembers.

    Args:
        seen: recent day → digest of its objects when it was last settled.
        other: where the turn through all days goes on.
        asked: day of which not all could be asked for yet → fingerprints of the runs that were.
    """

    seen: dict[date, str] = field(default_factory=dict)
    other: date | None = None
    asked: dict[date, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | None) -> "Cursor":
        """Read one; one that can't be read is an empty one, which costs a look at the ledger and nothing else."""
        try:
            values = json.loads(text or "{}")
            seen = {date.fromisoformat(day): str(found) for day, found in values.get("seen", {}).items()}
            asked = {date.fromisoformat(day): tuple(map(str, runs)) for day, runs in values.get("asked", {}).items()}
            other = values.get("other")
            return cls(seen, date.fromisoformat(other) if other else None, asked)
        except (ValueError, AttributeError, TypeError):
            return cls()

    def __str__(self) -> str:
        seen = {day.isoformat(): found for day, found in sorted(self.seen.items())}
        asked = {day.isoformat(): runs for day, runs in sorted(self.asked.items())}
        return json.dumps(
            {
                "seen": seen,
                "other": self.other.isoformat() if self.other else None,
                **({"asked": asked} if asked else {}),
            }
        )


@dataclass(frozen=True)
class Arrival:
    """
    A day that needs a run.

    Args:
        day: which.
        run_key: the same for the same objects, so that they are asked for once; or once a day, where a former run didn't load them.
        objects: what has landed for it.
        route: how the run's objects go; None: the dataset has no routing.
        only: what the run may load.
    """

    day: date
    run_key: str
    objects: tuple[LandedObject, ...]
    route: Route | None = None
    only: Only = EVERYTHING

    @property
    def rank(self) -> tuple[int, date]:
        """Urgent ones first, large ones last; by day within."""
        return (("urgent", "small", "large").index(self.route or "small"), self.day)


class Taken(Protocol):
    """Tells whether an unfinished run takes an object, or anything, of a day; see `runs.Busy`."""

    def __call__(self, day: date, landed: LandedObject | None = None, route: Route | None = None) -> bool:
        """Whether it does."""
        ...


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
    is_busy: Taken,
    clock: Callable[[], float] = time.monotonic,
    most_runs: int = MOST_RUNS,
) -> Look:
    """
    Look what has landed.

    Args:
        dataset: whose.
        warehouse: lists, and knows what is loaded.
        cursor: of the last look.
        today: the business day.
        is_busy: whether a run for that day, or for that object of it, is queued or under way; it is left for the next look then.
        clock: seconds.
        most_runs: to ask for now, urgent ones aside; the others are asked for at later looks.
    """
    end = clock() + PATIENCE_SECONDS
    recent = recent_days(dataset, today, warehouse.newest_day(dataset))
    seen = {day: cursor.seen[day] for day in recent if day in cursor.seen}
    arrivals: list[Arrival] = []
    changed: list[tuple[date, tuple[LandedObject, ...]]] = []
    listed = 0
    known_digests: dict[date, str] = {}
    objects_of: dict[date, tuple[LandedObject, ...]] = {}
    sharing = _Sharing(dataset, warehouse, is_busy, cursor.asked, most_runs)
    for day in reversed(recent):
        if clock() > end:
            break
        objects = objects_of[day] = tuple(warehouse.listing(dataset, day))
        found = known_digests[day] = digest(objects)
        listed += 1
        if found == seen.get(day):
            continue
        if objects:
            asked, is_settled = sharing.share(day, objects, found)
            if is_settled or asked:
                changed.append((day, objects))
            arrivals += asked
            if not is_settled:
                seen.pop(day, None)
                continue
        elif is_busy(day):
            continue
        seen[day] = found
    days_asked = {arrival.day for arrival in arrivals}
    other = cursor.other
    for day in _turn(dataset.daily.from_, today, cursor.other):
        if clock() > end:
            break
        if day in days_asked or (day in recent and day not in seen):
            other = day + timedelta(days=1)
            continue
        if day in objects_of:
            objects, found = objects_of[day], known_digests[day]
        else:
            objects = tuple(warehouse.listing(dataset, day))
            found = digest(objects)
            listed += 1
        # Recent and seen before, or of long ago: not loaded means that nobody has been asked, or that it came to nothing.
        asked, is_settled = sharing.share(day, objects, f"{found}|{today}")
        if asked:
            arrivals += asked
            changed.append((day, objects))
        if not is_settled and sharing.is_used_up:
            break
        other = day + timedelta(days=1)
    arrivals.sort(key=lambda arrival: arrival.rank)
    return Look(
        tuple(arrivals), tuple(sorted(changed, key=lambda one: one[0])), Cursor(seen, other, sharing.asked), listed
    )


class _Sharing:
    """
    Shares a day's news out among runs.

    Args:
        dataset: whose.
        warehouse: knows what is loaded.
        is_busy: what unfinished runs take.
        asked: of the cursor.
        most_runs: as in `look`.
    """

    def __init__(
        self,
        dataset: Dataset,
        warehouse: Warehouse,
        is_busy: Taken,
        asked: Mapping[date, tuple[str, ...]],
        most_runs: int,
    ) -> None:
        self._dataset = dataset
        self._warehouse = warehouse
        self._is_busy = is_busy
        self._left = most_runs
        self.asked = dict(asked)

    @property
    def is_used_up(self) -> bool:
        """Whether no more runs may be asked for now."""
        return self._left <= 0

    def share(self, day: date, objects: tuple[LandedObject, ...], found: str) -> tuple[list[Arrival], bool]:
        """
        The runs to ask for, and whether that is all that the day needs.

        Args:
            day: whose.
            objects: what has landed for it.
            found: a digest of that; for a run that was asked for and came to nothing, with today's date.
        """
        if self._dataset.routing is None:
            if self._is_busy(day):
                return [], False
            news = self._warehouse.news(self._dataset, day, objects) if objects else ()
            if not news:
                return [], True
            found += self._back(day, news)
            if self.is_used_up:
                return [], False
            self._left -= 1
            return [Arrival(day, f"{self._dataset.name}|{day}|{found}", objects)], True
        former = self.asked.pop(day, ())
        runs: list[Arrival] = []
        asked: list[str] = []
        is_settled = True
        for route, group, only in self._groups(day, self._warehouse.news(self._dataset, day, objects)):
            free = tuple(one for one in group if not self._is_busy(day, one, route))
            if len(free) < len(group):
                is_settled = False
            if not free:
                continue
            if only.keys is not None:
                only = Only(keys=frozenset(one.key for one in free))
            today = found.partition("|")[2]
            run_key = "|".join(
                [self._dataset.name, str(day), route, digest(free) + self._back(day, free), *([today] if today else [])]
            )
            mark = fingerprint([run_key])
            if mark not in former:
                if route != "urgent":
                    if self.is_used_up:
                        is_settled = False
                        continue
                    self._left -= 1
                runs.append(Arrival(day, run_key, objects, route, only))
            asked.append(mark)
        if not is_settled and asked:
            self.asked[day] = tuple(asked)
        return runs, is_settled

    def _back(self, day: date, news: Sequence[LandedObject]) -> str:
        """What tells a run that reads what has come back from an archive from the one that asked for it."""
        if all(one.is_at_hand for one in news):
            return ""
        keys = {one.key for one in news}
        asked = [f"{one.asked_at}" for one in self._warehouse.waiting(self._dataset, day) if one.key in keys]
        return f"|{fingerprint(asked)}" if asked else ""

    def _groups(
        self, day: date, news: Sequence[LandedObject]
    ) -> Iterator[tuple[Route, tuple[LandedObject, ...], Only]]:
        """What goes in one run."""
        routing = self._dataset.routing
        assert routing is not None, "asked of datasets with one only"
        by_route: dict[Route, list[LandedObject]] = {"urgent": [], "small": [], "large": []}
        for one in news:
            by_route[routing.route(one.key, one.size_bytes, day)].append(one)
        most = routing.max_objects_a_run
        urgent = [one for one in by_route["urgent"] if not routing.is_large(one.size_bytes)]
        for group in _pieces(urgent, most or MOST_OBJECTS_A_RUN):
            yield "urgent", group, _named(group)
        for one in by_route["urgent"]:
            if routing.is_large(one.size_bytes):
                yield "urgent", (one,), _named((one,))
        if most is None:
            # Whatever small comes until the run begins goes along.
            if by_route["small"]:
                yield "small", tuple(by_route["small"]), Only(up_to_bytes=routing.own_run_above_bytes)
        else:
            for group in _pieces(by_route["small"], most):
                yield "small", group, _named(group)
        for one in by_route["large"]:
            yield "large", (one,), _named((one,))


def _named(objects: Sequence[LandedObject]) -> Only:
    return Only(keys=frozenset(one.key for one in objects))


def _pieces(objects: Sequence[LandedObject], most: int) -> Iterator[tuple[LandedObject, ...]]:
    for begin in range(0, len(objects), most):
        yield tuple(objects[begin : begin + most])


def _turn(first: date, today: date, after: date | None) -> list[date]:
    """The next days in turn, from the first to today and round again."""
    if first > today:
        return []
    start = after if after is not None and first <= after <= today else first
    days = days_between(start, min(today, start + timedelta(days=OTHER_DAYS_A_LOOK - 1)))
    return list(islice(days, OTHER_DAYS_A_LOOK))
