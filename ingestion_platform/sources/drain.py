"""
Records of a stream into segments in the landing zone, up to now or without end.

Belongs here: gathering, closing, landing, and counting. Doesn't: reading (a `StreamReader`), where to go on (`landed.py`), what starts it
(`orchestration/`).

Nothing is kept anywhere but in the landing zone. A segment is one object, written whole or not at all, and those of a shard are written in
order; a drain that is killed loses what it held in memory, and the next one reads that again, because it goes on after what has landed.
Two drains of one stream don't harm each other: each leaves out what it sees that the other has landed, and what both landed at the same
moment is told apart by the positions in the names when it is loaded.
"""

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from ingestion_platform.errors import IngestionError, SourceError
from ingestion_platform.formats.segments import write_segment
from ingestion_platform.sources import reading
from ingestion_platform.sources.landed import LandedStream, without
from ingestion_platform.sources.reading import (
    After,
    Anew,
    Arrived,
    Confirmed,
    From,
    Latest,
    Oldest,
    Shard,
    Start,
    StreamReader,
)
from ingestion_platform.stream import Span, Stream

log = logging.getLogger(__name__)

BUFFERED_BYTES = 192 * 1024**2
"""What all shards together hold at most before the largest is closed: memory stays the same with ten shards or a thousand."""
LANDING_AT_ONCE = 4
"""Segments that are being compressed and written while reading goes on."""
MARK_HOURS = 6
"""How often it is noted of a shard where nothing comes that nothing came. Well below the shortest retention (a day)."""
_QUARTER_US = 900_000_000
"""No time zone is off UTC by less than a quarter of an hour, or by a part of one."""


@dataclass(frozen=True, slots=True)
class LandedSegment:
    """A segment that this drain has landed."""

    key: str
    shard: str
    span: Span
    hour: datetime
    """Of arrival, in business time, without a zone."""
    records: int
    size_bytes: int
    """Of the object."""


@dataclass(slots=True)
class ShardState:
    """What a drain knows of a shard; see `Drained`."""

    records: int = 0
    bytes: int = 0
    segments: int = 0
    already_landed: int = 0
    beyond: int = 0
    behind_records: int | None = None
    behind_seconds: float | None = None
    kept_bytes: int | None = None
    throttles: int = 0
    throttled_seconds: float = 0.0
    is_caught_up: bool = False
    has_ended: bool = False
    gaps: list[tuple[Span, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Drained:
    """
    What a drain has done.

    Args:
        stream: its name.
        shards: shard → records and bytes read, segments landed, records left out because they had landed before or because a replay may
            not land them, how far behind it was
        at the
            end, how often and how long the source made it wait, and what was found to be gone.
        segments: those landed, in order.
        seconds: wall time.
        is_caught_up: whether every shard gave all that it had when the drain began.
    """

    stream: str
    shards: dict[str, ShardState]
    segments: tuple[LandedSegment, ...]
    seconds: float
    is_caught_up: bool

    @property
    def records(self) -> int:
        """Records landed."""
        return sum(segment.records for segment in self.segments)

    @property
    def gaps(self) -> list[tuple[str, Span, str]]:
        """Shard, positions and reason of everything that was found to be gone."""
        return [(shard, span, why) for shard, state in self.shards.items() for span, why in state.gaps]

    @property
    def behind_seconds(self) -> float:
        """The lag of the shard that is furthest behind."""
        return max((state.behind_seconds or 0.0 for state in self.shards.values()), default=0.0)


class Watcher(Protocol):
    """Somebody who looks at the running stream; what he does must take no longer than the records themselves."""

    def arrived(self, stream: Stream, arrived: Arrived) -> None:
        """Records have come, and will land; they come again after a kill."""
        ...

    def landed(self, stream: Stream, segment: LandedSegment) -> None:
        """A segment has landed: its records don't come again."""
        ...


class _Open:
    """A shard's segment that is being filled."""

    def __init__(self, shard: str, hour: int) -> None:
        self.shard = shard
        self.hour = hour
        self.began = time.monotonic()
        self.batches: list[pa.RecordBatch] = []
        self.schemas: dict[str, str] = {}
        self.size_bytes = 0
        self.goes_on = False

    def add(self, records: pa.RecordBatch, size_bytes: int, schemas: Any) -> None:
        self.batches.append(records)
        self.size_bytes += size_bytes
        self.schemas.update(schemas)


class Drain:
    """
    Drains one stream.

    Args:
        landed: the stream in the landing zone.
        reader: of the stream.
        watchers: look at what arrives.
        on_landed: told of each segment, in this thread.
        clock: the moment in UTC.
    """

    def __init__(
        self,
        landed: LandedStream,
        reader: StreamReader,
        *,
        watchers: Sequence[Watcher] = (),
        on_landed: Callable[[LandedSegment, "ShardState"], None] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._landed = landed
        self._stream = landed.stream
        self._reader = reader
        self._watchers = watchers
        self._on_landed = on_landed
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[str, _Open] = {}
        self._held_bytes = 0
        self._states: dict[str, ShardState] = {}
        self._at: dict[str, int | datetime] = {}
        self._noted_at: dict[str, int | datetime] = {}
        self._ahead: dict[str, int] = {}
        self._marked: dict[str, tuple[datetime, int | datetime]] = {}
        self._caught_up: dict[str, datetime] = {}
        self._unfinished: set[str] = set()
        self._newest: dict[str, datetime] = {}
        self._noted: dict[str, list[tuple[Span, str]]] = {}
        self._segments: list[LandedSegment] = []
        self._futures: deque[tuple[str, Future[list[LandedSegment]]]] = deque()
        self._before: dict[str, Future[list[LandedSegment]]] = {}
        self._replayed: dict[str, list[Span]] | None = None
        self._replayed_from = datetime.max.replace(tzinfo=UTC)
        self._may_replay: dict[str, bool] = {}
        first_day = landed.stream.first_day
        self._first_hour = int(datetime(first_day.year, first_day.month, first_day.day, tzinfo=UTC).timestamp()) // 3600
        self._newest_named: dict[str, datetime] = {}
        self._keeps_segments = True
        self._began = time.monotonic()

    # --- the two ways to run

    def to_now(self, *, stop: threading.Event | None = None, anew: bool = False) -> Drained:
        """
        Land what has arrived until now, as far as the declared time and size allow.

        Args:
            stop: ends it when set.
            anew: somebody has decided to begin anew, and to go on without what is gone.

        Raises:
            SourceUnavailable, SourceError: see `StreamReader.read`. What had been read by then has landed.
            LandingError: it can't be written.
        """
        return self._run(
            self._where_anew if anew else self._where,
            until=self._clock(),
            seconds=self._stream.drain_seconds,
            size_bytes=self._stream.drain_bytes,
            stop=stop,
        )

    def follow(self, stop: threading.Event) -> Drained:
        """Land whatever comes until *stop* is set; what is held then lands too. What is given back names no segments."""
        self._keeps_segments = False
        return self._run(self._where, until=None, seconds=None, size_bytes=None, stop=stop)

    def replay(self, first: datetime, until: datetime, *, stop: threading.Event | None = None) -> Drained:
        """
        Read the stream again for what arrived from *first* to *until* (UTC, the second not included), and land what of it isn't there.

        What has landed stays as it is, under the names that it has. A shard is replayed only from where it has landed already: going on is
        after the last that has landed, so that records between that and a later window would never be read.

        Raises:
            SourceError: the window begins after what has landed of some shard. The others have been replayed.
            SourceUnavailable, LandingError: see `to_now`.
        """
        days = self._landed.hour_of(first).date(), self._landed.hour_of(until).date()
        # What a neighbouring hour took in stands under another day's name.
        self._replayed = self._landed.spans(days[0] - timedelta(days=1), days[1] + timedelta(days=1))
        self._replayed_from = first
        done = self._run(lambda _: From(first), until=until, seconds=None, size_bytes=None, stop=stop, since=first)
        beyond = {shard: state.beyond for shard, state in done.shards.items() if state.beyond}
        if beyond:
            raise SourceError(
                f"stream {self._stream.name!r}: {sum(beyond.values()):,} records of {len(beyond)} shards weren't replayed, because what has"
                f" landed of them ends before {first:%Y-%m-%d %H:%M} UTC: {', '.join(sorted(beyond)[:5])}",
                "drain the stream up to now first: that lands them",
            )
        return done

    def states(self) -> dict[str, ShardState]:
        """Each shard as it stands now; may be asked from another thread while the drain runs."""
        with self._lock:
            return {shard: replace(state, gaps=list(state.gaps)) for shard, state in sorted(self._states.items())}

    def so_far(self) -> Drained:
        """What has been done; also after an error, when what had been read before it has landed."""
        states = self.states()
        return Drained(
            stream=self._stream.name,
            shards=states,
            segments=tuple(self._segments),
            seconds=time.monotonic() - self._began,
            is_caught_up=all(state.is_caught_up or state.has_ended for state in states.values()),
        )

    # --- the loop

    def _where(self, shard: Shard) -> Start:
        found = self._landed.start_of(shard.id, self._clock())
        with self._lock:
            if isinstance(found, After):
                self._at[shard.id] = found.position
                if found.as_of is not None:
                    self._noted_at[shard.id] = found.position
            elif isinstance(found, From):
                self._at[shard.id] = self._noted_at[shard.id] = found.moment
        if found is not None:
            return found
        begin = self._stream.source.begin
        if isinstance(begin, datetime):
            return From(begin if begin.tzinfo else begin.replace(tzinfo=self._landed.time_zone))
        # Shards that appear in a stream that is being followed are read from their first record.
        if begin == "latest" and not shard.parents and not self._is_known():
            return Latest()
        return Oldest(has_landed=self._is_known())

    def _where_anew(self, shard: Shard) -> Start:
        found = self._where(shard)
        return Anew(found.position) if isinstance(found, After) else found

    def _is_known(self) -> bool:
        """Whether any shard of this stream has landed anything before this drain began."""
        if self._was_known is None:
            self._was_known = next(iter(self._landed.zone.list(self._stream.root)), None) is not None
        return self._was_known

    _was_known: bool | None = None

    def _run(
        self,
        where: reading.Where,
        *,
        until: datetime | None,
        seconds: float | None,
        size_bytes: int | None,
        stop: threading.Event | None,
        since: datetime | None = None,
    ) -> Drained:
        began = self._began = time.monotonic()
        self._is_known()
        read_bytes = 0
        is_cut = False
        with ThreadPoolExecutor(LANDING_AT_ONCE, thread_name_prefix="land") as pool:
            self._pool = pool
            with closing(_closable(self._reader.read(where, until=until))) as events:
                try:
                    for event in events:
                        self._take(event, is_replay=since is not None)
                        if isinstance(event, Arrived):
                            read_bytes += event.size_bytes
                        self._close_what_is_due()
                        self._gather_landed(LANDING_AT_ONCE * 2)
                        if stop is not None and stop.is_set():
                            is_cut = True
                            break
                        if self._goes_on(event):
                            continue
                        if (seconds is not None and time.monotonic() - began > seconds) or (
                            size_bytes is not None and read_bytes >= size_bytes
                        ):
                            is_cut = True
                            log.info("%s: enough for one drain; the next one goes on", self._stream.name)
                            break
                finally:
                    # Whatever ended the reading: what it gave is good. The reader is closed when all of it has landed, and can say so.
                    self._land_the_rest(is_replay=since is not None)
        done = self.so_far()
        return done if not is_cut else replace(done, is_caught_up=False)

    def _goes_on(self, event: reading.Event) -> bool:
        """Whether a drain isn't to end here: what comes next belongs to what has come."""
        match event:
            case Arrived(shard=shard, goes_on=True):
                self._unfinished.add(shard)
            case Arrived(shard=shard) | reading.Gone(shard=shard):
                self._unfinished.discard(shard)
            case reading.Passed(shard=shard):
                self._unfinished.discard(shard)
                return True
        return bool(self._unfinished)

    def _land_the_rest(self, *, is_replay: bool) -> None:
        for shard in list(self._open):
            self._close(shard)
        try:
            self._gather_landed(0)
        finally:
            # One that couldn't land doesn't keep the others from being told.
            self._gather_rest()
        if not is_replay:
            for shard in list(self._noted):
                self._note_gaps(shard, self._landed.hour_of(self._clock()))
            for shard, as_of in self._caught_up.items():
                self._mark(shard, as_of)

    def _state(self, shard: str) -> ShardState:
        found = self._states.get(shard)
        if found is None:
            with self._lock:
                found = self._states.setdefault(shard, ShardState())
        return found

    def _take(self, event: reading.Event, *, is_replay: bool) -> None:
        match event:
            case Arrived():
                self._arrive(event)
            case reading.Idle():
                pass
            case reading.Behind(shard, records, seconds, kept_bytes):
                state = self._state(shard)
                state.behind_records, state.behind_seconds, state.kept_bytes = records, seconds, kept_bytes
            case reading.Passed(shard, position):
                self._pass(shard, position)
            case reading.Settle():
                for shard in list(self._open):
                    self._close(shard)
                self._gather_landed(0)
            case reading.Throttled(shard, why, seconds):
                state = self._state(shard)
                state.throttles += 1
                state.throttled_seconds += seconds
                log.info("%s %s: %s; waited %.1f s", self._stream.name, shard, why, seconds)
            case reading.Released(shard):
                self._close(shard)
                # Whoever reads it now lands what comes next, and knows its lag: this one begins anew when it comes back.
                self._at.pop(shard, None)
                state = self._state(shard)
                state.behind_records = state.behind_seconds = None
            case reading.Ended(shard):
                self._state(shard).has_ended = True
                self._close(shard)
                self._caught_up.pop(shard, None)
                if not is_replay:
                    self._mark_end(shard)
            case reading.CaughtUp(shard, as_of, position):
                state = self._state(shard)
                state.is_caught_up = True
                self._caught_up[shard] = as_of
                state.behind_seconds = 0.0 if state.behind_seconds is None else state.behind_seconds
                if is_replay:
                    return
                if shard not in self._open:
                    self._move(shard, position)
                    self._mark(shard, as_of)
                elif position is not None:
                    self._ahead[shard] = position
            case reading.Began(shard, at):
                self._state(shard)
                if not is_replay:
                    self._at.setdefault(shard, at)
                    self._landed.put_mark(self._landed.hour_of(self._clock()), shard, at)
            case reading.Gone(shard, span, why):
                self._gone(shard, span, why, is_replay=is_replay)

    def _gone(self, shard: str, span: Span, why: str, *, is_replay: bool) -> None:
        self._state(shard).gaps.append((span, why))
        log.error("%s %s: %s: gone: %s", self._stream.name, shard, span, why)
        # A segment holds every record between its first and its last: what comes after a gap is in another one.
        self._close(shard)
        if not is_replay:
            self._noted.setdefault(shard, []).append((span, why))

    def _note_gaps(self, shard: str, hour: datetime) -> None:
        """Record what is gone under the hour of what came after it, so that where to go on is found beside it."""
        for span, why in self._noted.pop(shard, []):
            # What came before the gap lands first: once the gap is noted, reading goes on after it.
            self._finish(shard)
            self._landed.put_gap(hour, shard, span, why)
            known = self._at.get(shard)
            self._at[shard] = max(known, span.last) if isinstance(known, int) else span.last

    def _move(self, shard: str, position: int | None) -> None:
        """Take note that a shard has no record up to a position but those that have come."""
        known = self._at.get(shard)
        if position is not None and (not isinstance(known, int) or position > known):
            self._at[shard] = position

    def _pass(self, shard: str, position: int) -> None:
        """Note at once that a shard has nothing more up to a position: whoever goes on there knows that nothing is missing."""
        self._close(shard)
        self._gather_landed(0)
        hour = self._landed.hour_of(self._clock())
        self._note_gaps(shard, hour)
        self._move(shard, position)
        self._put_mark(hour, shard, position)
        if isinstance(self._reader, Confirmed):
            self._reader.confirm(shard, position)

    def _put_mark(self, hour: datetime, shard: str, at: int | datetime) -> None:
        self._landed.put_mark(hour, shard, at)
        # A segment of an older day that lands after it is pointed to from here.
        known = self._newest_named.get(shard)
        if known is not None:
            self._newest_named[shard] = max(known, hour)

    def _mark_end(self, shard: str) -> None:
        """
        Note where a shard ended, beside its last records and in their hour.

        Nobody who follows it comes back to note it later. Without it, whoever asks once they are past retention couldn't tell that
        nothing came after them.
        """
        self._move(shard, self._ahead.pop(shard, None))
        self._mark(shard, self._clock(), is_final=self._at.get(shard) != self._noted_at.get(shard))

    def _mark(self, shard: str, moment: datetime, *, is_final: bool = False) -> None:
        """
        Note where a shard stands in which nothing comes, so that where to go on is always found among the newest names.

        Args:
            shard: which.
            moment: when nothing had come.
            is_final: nothing will ever come: noted to the hour, and also where the shard's newest name is as new.
        """
        self._note_gaps(shard, self._landed.hour_of(moment))
        at = self._at.get(shard)
        if at is None:
            return
        hour = self._landed.hour_of(moment)
        block = hour if is_final else hour.replace(hour=hour.hour // MARK_HOURS * MARK_HOURS)
        # What is still being written comes first: a mark never runs ahead of its shard's segments.
        self._finish(shard)
        self._gather_landed(LANDING_AT_ONCE * 2)
        is_news = is_final or self._newest.get(shard, datetime.min) < block
        if is_news and self._marked.get(shard) != (block, at):
            self._marked[shard] = (block, at)
            self._put_mark(block, shard, at)

    # --- gathering

    def _arrive(self, arrived: Arrived) -> None:
        self._tell(lambda watcher: watcher.arrived(self._stream, arrived))
        shard, records = arrived.shard, arrived.records
        state = self._state(shard)
        if not self._continues(shard, arrived.first):
            state.beyond += records.num_rows
            return
        state.records += records.num_rows
        state.bytes += arrived.size_bytes
        state.is_caught_up = False
        self._caught_up.pop(shard, None)
        self._at[shard] = arrived.last
        for hour, begin, end in self._pieces(shard, arrived):
            held = self._open.get(shard)
            if held is not None and (held.hour != hour or self._is_full(held)):
                self._close(shard)
                held = None
            if held is None:
                if shard in self._noted:
                    self._note_gaps(shard, _hour(hour))
                    self._at[shard] = arrived.last
                held = self._open[shard] = _Open(shard, hour)
            size = arrived.size_bytes * (end - begin) // records.num_rows
            held.add(records.slice(begin, end - begin), size, arrived.schemas)
            self._held_bytes += size
        held = self._open.get(shard)
        if held is not None:
            held.goes_on = arrived.goes_on

    def _continues(self, shard: str, first: int) -> bool:
        """Whether a replay that begins with a position leaves nothing out between it and what has landed of the shard."""
        if self._replayed is None:
            return True
        if shard not in self._may_replay:
            stands = self._landed.start_of(shard, self._clock())
            self._may_replay[shard] = (isinstance(stands, After) and first <= stands.position + 1) or (
                isinstance(stands, From) and self._replayed_from <= stands.moment
            )
        return self._may_replay[shard]

    def _pieces(self, shard: str, arrived: Arrived) -> Iterator[tuple[int, int, int]]:
        """
        Hour, first and last row (not included) of the pieces of a batch, each within one hour and no larger than a segment.

        Producers may set Kafka's times as they like: one from the future, or from before the first day, counts as now; one that jumps ahead
        and back again counts as its neighbour; one that is older than its segment goes along with it. So every segment holds all
        records between its first and its last.
        """
        rows = arrived.records.num_rows
        moments = arrived.records.column("arrived_at").cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        quarters = np.minimum(moments, int(self._clock().timestamp() * 1_000_000)) // _QUARTER_US
        known, places = np.unique(quarters, return_inverse=True)
        hours = np.array([self._hour_number(int(quarter)) for quarter in known])[places]
        # Before the stream's first day nobody would look for it: such a clock is wrong.
        now = self._hour_number(int(self._clock().timestamp()) // 900)
        hours = np.where(hours < self._first_hour, now, hours)
        hours[:-1] = np.minimum(hours[:-1], hours[1:])
        held = self._open.get(shard)
        if held is not None:
            hours[0] = max(hours[0], held.hour)
        hours = np.maximum.accumulate(hours)
        edges = [0, *(np.flatnonzero(np.diff(hours)) + 1).tolist(), rows]
        most = max(1, int(self._stream.segment_bytes * rows // max(arrived.size_bytes, 1)))
        for begin, end in pairwise(edges):
            at = begin
            while at < end:
                cut = self._whole(arrived.records, min(end, at + most), end)
                yield int(hours[begin]), at, cut
                at = cut

    @staticmethod
    def _whole(records: pa.RecordBatch, cut: int, end: int) -> int:
        """The first row at or after *cut* where a position begins: parts of one stay together."""
        positions = records.column("position")
        while cut < end and positions[cut].equals(positions[cut - 1]):
            cut += 1
        return cut

    def _hour_number(self, quarter: int) -> int:
        """Hours of business time since 1970, from quarters of an hour in UTC."""
        moment = datetime.fromtimestamp(quarter * 900, UTC)
        return int(self._landed.hour_of(moment).replace(tzinfo=UTC).timestamp()) // 3600

    # --- closing and landing

    def _close_what_is_due(self) -> None:
        now = time.monotonic()
        for shard, held in list(self._open.items()):
            if self._is_full(held) or (now - held.began >= self._stream.segment_seconds and not held.goes_on):
                self._close(shard)
        while self._held_bytes > BUFFERED_BYTES:
            self._close(max(self._open, key=lambda shard: self._open[shard].size_bytes))

    def _is_full(self, held: _Open) -> bool:
        """Whether a segment is large enough; one that holds the first part of a transaction may become twice as large."""
        return held.size_bytes >= self._stream.segment_bytes * (2 if held.goes_on else 1)

    def _close(self, shard: str) -> None:
        held = self._open.pop(shard, None)
        if held is None:
            return
        self._held_bytes -= held.size_bytes
        self._gather_landed(LANDING_AT_ONCE)
        future = self._pool.submit(self._land, held, self._before.get(shard))
        self._before[shard] = future
        self._futures.append((shard, future))

    def _land(self, held: _Open, before: "Future[list[LandedSegment]] | None") -> list[LandedSegment]:
        """Write what a shard holds, after what it held before. Runs in a thread of its own."""
        if before is not None:
            before.result()
        hour = _hour(held.hour)
        table = pa.Table.from_batches(held.batches)
        positions = table.column("position")
        span = Span(int(positions[0].as_py()), int(positions[-1].as_py()))
        landed = [
            found.name.span
            for found in self._landed.hour(hour, held.shard)
            if found.name.kind == "segment" and found.name.span is not None
        ]
        landed += (self._replayed or {}).get(held.shard, [])
        done = []
        for left in without(span, landed):
            piece = table if left == span else _within(table, left)
            if piece.num_rows == 0:
                continue
            if left != span and self._replayed is None:
                log.warning(
                    "%s %s: somebody else drains it too; what he has landed is left out", self._stream.name, held.shard
                )
            ends = piece.column("position")
            own = Span(int(ends[0].as_py()), int(ends[-1].as_py()))
            used = set(piece.column("schema").unique().to_pylist())
            content = write_segment(
                piece.to_batches(),
                stream=self._stream.name,
                shard=held.shard,
                span=own,
                schemas={name: schema for name, schema in held.schemas.items() if name in used},
            )
            key = self._stream.segment_key(hour, held.shard, own)
            if self._landed.zone.put_if_absent(key, content):
                done.append(LandedSegment(key, held.shard, own, hour, piece.num_rows, len(content)))
        left_out = table.num_rows - sum(segment.records for segment in done)
        if left_out:
            # Those of a shard come one after the other: nobody else counts here meanwhile.
            self._state(held.shard).already_landed += left_out
        return done

    def _finish(self, shard: str) -> None:
        """Wait until what is on its way of a shard has landed."""
        before = self._before.get(shard)
        if before is not None:
            before.result()

    def _gather_landed(self, most: int) -> None:
        """Take note of what has landed; wait until no more than *most* are on their way."""
        while self._futures and (len(self._futures) > most or self._futures[0][1].done()):
            shard, future = self._futures.popleft()
            for segment in future.result():
                if self._keeps_segments:
                    self._segments.append(segment)
                self._newest[shard] = max(self._newest.get(shard, datetime.min), segment.hour)
                self._point_to(segment)
                state = self._state(shard)
                state.segments += 1
                self._tell(lambda watcher, segment=segment: watcher.landed(self._stream, segment))  # type: ignore[misc]
                if self._on_landed is not None:
                    self._on_landed(segment, state)
                if isinstance(self._reader, Confirmed) and self._replayed is None:
                    self._reader.confirm(shard, segment.span.last)

    def _gather_rest(self) -> None:
        while self._futures:
            with contextlib.suppress(IngestionError):
                self._gather_landed(0)

    def _point_to(self, segment: LandedSegment) -> None:
        """
        Note beside the newest names of a shard that it goes on after a segment of an older day.

        Kafka's times may go back by days (a mirror, a backfill into a topic); the newest day is where is looked for the last position.
        """
        newest = self._newest_named.get(segment.shard)
        if newest is None:
            newest = self._landed.newest_hour(segment.shard, self._clock()) or segment.hour
        self._newest_named[segment.shard] = max(newest, segment.hour)
        if segment.hour.date() < newest.date() and self._replayed is None:
            self._landed.put_mark(newest, segment.shard, segment.span.last)

    def _tell(self, what: Callable[[Watcher], None]) -> None:
        for watcher in self._watchers:
            try:
                what(watcher)
            except Exception:
                # A rule that is wrong must not keep records from landing.
                log.exception("%s: a watcher failed: %r", self._stream.name, watcher)


def _hour(number: int) -> datetime:
    """An hour of business time, from its number since 1970."""
    return datetime.fromtimestamp(number * 3600, UTC).replace(tzinfo=None)


def _within(table: pa.Table, span: Span) -> pa.Table:
    """The rows of *span*; positions ascend."""
    column = table.column("position")
    if pa.types.is_integer(column.type):
        values = column.to_numpy()
        first, after = int(np.searchsorted(values, span.first)), int(np.searchsorted(values, span.last, side="right"))
    else:
        numbers = [int(text) for text in column.to_pylist() if text is not None]
        first = sum(1 for number in numbers if number < span.first)
        after = sum(1 for number in numbers if number <= span.last)
    return table.slice(first, after - first)


class _closable:
    """An iterator that can be closed, whether or not it is a generator."""

    def __init__(self, events: Iterator[reading.Event]) -> None:
        self._events = events

    def __iter__(self) -> Iterator[reading.Event]:
        return self._events

    def close(self) -> None:
        close = getattr(self._events, "close", None)
        if close is not None:
            close()
