"""
What of a stream has landed: told from the names below its root, and from nothing else.

Belongs here: where to go on, which positions are there, which are known to be gone. Doesn't: what is in a segment.

Names are listed by day, newest first. Each drain that goes through a day leaves at least one name of every shard in it (a mark, where
nothing came), so where to go on is found in the days of the last drain; only a shard that nothing is known of is looked for further back.
"""

import json
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from ingestion_platform.landing import LandingZone
from ingestion_platform.sources.reading import After, From, Start
from ingestion_platform.stream import LandedName, Span, Stream

REMEMBERED_SECONDS = 10.0
"""How long a day's listing is used again: the shards of a drain ask one after the other."""

LOOKED_BACK_DAYS = 35
"""How far before the stream's newest name a shard is looked for."""

FILLED_WITHIN_DAYS = 8
"""How far back records of a gap may have arrived: streams keep a week as a rule."""


@dataclass(frozen=True, slots=True)
class Found:
    """
    A name of a stream, understood.

    Args:
        key: whole.
        hour: of arrival, in business time, without a zone.
        name: what the rest of it says.
        size_bytes: of the object.
    """

    key: str
    hour: datetime
    name: LandedName
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Standing:
    """Where a shard goes on, and the newest hour that has a name of it."""

    start: Start
    hour: datetime


class LandedStream:
    """
    A stream in the landing zone. May be asked from several threads.

    Args:
        stream: which.
        zone: where it lands.
        time_zone: of hours in keys: business time.
    """

    def __init__(self, stream: Stream, zone: LandingZone, time_zone: ZoneInfo) -> None:
        self.stream = stream
        self.zone = zone
        self.time_zone = time_zone
        self._lock = threading.Lock()
        self._days: dict[date, tuple[float, dict[str, _Standing]]] = {}

    def hour_of(self, moment: datetime) -> datetime:
        """The hour of business time that a moment (with a zone) is in, without a zone."""
        return moment.astimezone(self.time_zone).replace(minute=0, second=0, microsecond=0, tzinfo=None)

    # --- questions

    def day(self, day: date) -> tuple[Found, ...]:
        """What has landed for a day, by key; segments, gaps and marks."""
        return self._list(f"{self.stream.root}{day:%Y/%m/%d}/")

    def hour(self, hour: datetime, shard: str) -> tuple[Found, ...]:
        """What has landed of a shard for an hour."""
        # The prefix may be that of longer names too.
        prefix = self.stream.segment_key(hour, shard, Span(0, 0)).rpartition("/")[2].split(".")[0]
        return tuple(
            found for found in self._list(f"{self.stream.hour_prefix(hour)}{prefix}.") if found.name.shard == shard
        )

    def start_of(self, shard: str, now: datetime) -> Start | None:
        """
        Where to go on in a shard; None when nothing of it has landed.

        Args:
            now: the moment, with a zone.
        """
        found = self._newest_of(shard, now)
        return found.start if found is not None else None

    def newest_hour(self, shard: str, now: datetime) -> datetime | None:
        """The newest hour that has a name of a shard; None when nothing of it has landed."""
        found = self._newest_of(shard, now)
        return found.hour if found is not None else None

    def _newest_of(self, shard: str, now: datetime) -> "_Standing | None":
        day = self.hour_of(now).date() + timedelta(days=1)
        oldest = self._oldest_day()
        last: date | None = None
        while oldest is not None and day >= oldest:
            standing = self._remembered(day)
            if shard in standing:
                return standing[shard]
            # Each drain leaves a name of every shard: one that has none for long has never landed.
            last = last or (day if standing else None)
            if last is not None and (last - day).days >= LOOKED_BACK_DAYS:
                return None
            day -= timedelta(days=1)
        return None

    def spans(self, first: date, last: date) -> dict[str, list[Span]]:
        """Shard → positions that have landed for these days, both ends included; put together, ascending."""
        found: dict[str, list[Span]] = defaultdict(list)
        for number in range((last - first).days + 1):
            for one in self.day(first + timedelta(days=number)):
                if one.name.kind == "segment" and one.name.span is not None:
                    found[one.name.shard].append(one.name.span)
        return {shard: joined(spans) for shard, spans in found.items()}

    def gaps(self, day: date) -> list[tuple[str, Span, str]]:
        """Shard, positions, and key of the note, of what was found to be gone before records of a day, and hasn't landed since."""
        noted = [one for one in self.day(day) if one.name.kind == "gap"]
        if not noted:
            return []
        # What was gone, and has been had after all (a replay of the stream, another landing zone), arrived before what came after it.
        landed = self.spans(day - timedelta(days=FILLED_WITHIN_DAYS), day)
        found = []
        for one in noted:
            if one.name.span is None:
                continue
            # An empty one says that something is gone after it, and nobody knows how much: nothing that lands proves that it was all.
            is_open = one.name.span.last < one.name.span.first
            left = [one.name.span] if is_open else without(one.name.span, landed.get(one.name.shard, ()))
            found += [(one.name.shard, span, one.key) for span in left]
        return found

    # --- notes

    def put_gap(self, hour: datetime, shard: str, span: Span, why: str) -> bool:
        """Record that positions are gone, in the hour of what came after them; whether this is news."""
        note = {
            "stream": self.stream.name,
            "shard": shard,
            "first": str(span.first),
            "last": str(span.last),
            "why": why,
        }
        key = self.stream.gap_key(hour, shard, span)
        return self.zone.put_if_absent(key, (json.dumps(note, sort_keys=True) + "\n").encode())

    def put_mark(self, hour: datetime, shard: str, at: int | datetime) -> bool:
        """Record that by an hour nothing had come after a position, or that a shard is read from a moment on."""
        key = self.stream.mark_key(hour, shard, at)
        return self.zone.put_if_absent(key, b"{}\n")

    # --- listing

    def _remembered(self, day: date) -> "dict[str, _Standing]":
        """Shard → where a day's names say that it stands."""
        with self._lock:
            now = time.monotonic()
            known = self._days.get(day)
            if known is None or now - known[0] > REMEMBERED_SECONDS:
                self._days = {
                    one: (at, told) for one, (at, told) in self._days.items() if now - at <= REMEMBERED_SECONDS
                }
                by_shard: dict[str, list[Found]] = defaultdict(list)
                for one in self.day(day):
                    by_shard[one.name.shard].append(one)
                standing = {}
                for shard, found in by_shard.items():
                    start = _start_after(found, self.time_zone)
                    if start is not None:
                        standing[shard] = _Standing(start, max(one.hour for one in found))
                known = self._days[day] = (time.monotonic(), standing)
            return known[1]

    def _oldest_day(self) -> date | None:
        for landed in self.zone.list(self.stream.root):
            hour = self._hour_in(landed.key)
            if hour is not None:
                return hour.date()
        return None

    def _list(self, prefix: str) -> tuple[Found, ...]:
        found = []
        for landed in self.zone.list(prefix):
            hour, name = self._hour_in(landed.key), LandedName.parse(landed.key)
            if hour is not None and name is not None:
                found.append(Found(landed.key, hour, name, landed.size_bytes))
        return tuple(found)

    def _hour_in(self, key: str) -> datetime | None:
        try:
            return datetime.strptime(key[len(self.stream.root) :].rpartition("/")[0], "%Y/%m/%d/%H")
        except ValueError:
            return None


def _start_after(found: Sequence[Found], time_zone: ZoneInfo) -> Start | None:
    """Where a day's names of a shard say that it goes on."""
    last: int | None = None
    as_of: datetime | None = None
    moment: datetime | None = None
    for one in found:
        if one.name.span is None:
            moment = max(moment, one.name.moment) if moment and one.name.moment else one.name.moment
            continue
        if last is None or one.name.span.last >= last:
            is_same = one.name.span.last == last
            last = one.name.span.last
            known = one.hour.replace(tzinfo=time_zone).astimezone(UTC) if one.name.kind == "mark" else None
            as_of = max(filter(None, (as_of, known)), default=None) if is_same else known
    if last is not None:
        return After(last, as_of)
    return From(moment, is_remembered=True) if moment is not None else None


def joined(spans: Iterable[Span]) -> list[Span]:
    """The same positions in as few spans as can be, ascending."""
    found: list[Span] = []
    for span in sorted(spans):
        if found and span.first <= found[-1].last + 1:
            found[-1] = Span(found[-1].first, max(found[-1].last, span.last))
        else:
            found.append(span)
    return found


def without(span: Span, others: Iterable[Span]) -> list[Span]:
    """What of *span* is in none of the others, ascending."""
    left = []
    first = span.first
    for other in joined(others):
        if other.last < first:
            continue
        if other.first > span.last:
            break
        if other.first > first:
            left.append(Span(first, other.first - 1))
        first = max(first, other.last + 1)
    if first <= span.last:
        left.append(Span(first, span.last))
    return left
