"""
The engine of live rules: a watcher of running streams that lands alerts at once.

Belongs here: the queue, what comes before what, starting from what has landed, keeping up. Doesn't: judging (`judging.py`), what stands
(`landed_alerts.py`), telling (`sinks/`).

The thread that drains a stream only puts records into a queue; another one judges them. Nothing is kept on disk: when it starts, it judges
what has landed of the day and holds it against the alerts that have landed. What was judged before a kill and hadn't landed comes again.
"""

import gc
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa

from ingestion_platform.alert import Alert
from ingestion_platform.dataset import Dataset, Datasets
from ingestion_platform.errors import IngestionError, ObjectRejected
from ingestion_platform.formats.segments import open_segment
from ingestion_platform.landing import LandedObject, LandingZone
from ingestion_platform.live.judging import Batch, Judging, Outcome
from ingestion_platform.live.landed_alerts import LandedAlerts
from ingestion_platform.rules.knowledge import Knowledge, day_known
from ingestion_platform.rules.notes import Left, Note
from ingestion_platform.rules.rule import Rule, Rules
from ingestion_platform.settings import Settings
from ingestion_platform.sources.drain import LandedSegment
from ingestion_platform.sources.landed import joined, without
from ingestion_platform.sources.reading import Arrived
from ingestion_platform.stream import JsonValues, LandedName, Segments, Span, Stream
from ingestion_platform.warehouse import Warehouse

log = logging.getLogger(__name__)

HORIZON = timedelta(hours=1)
"""How long after its event time an event may come to be judged live; the batch judges the others."""
MOST_HELD = 500_000
"""Events that are held, a few hundred bytes each; with more, the horizon comes nearer."""
MOST_QUEUED = 20_000
"""Records that wait to be judged; what is more goes to the backlog."""
AT_ONCE = 4_000
"""Records that are judged together: each time costs some milliseconds of its own, whatever they are."""
SETTLED_SECONDS = 60.0
"""When nothing has come for so long that had arrived before the start, all that was judged before it has come again."""
KNOWN_SECONDS = 30.0
"""How often it is looked whether what is known beforehand is another."""
LAND_AGAIN_SECONDS = 1.0
"""After which landing is tried again."""
SLOW_SECONDS = 1.0
"""When the oldest record has waited for so long, and others wait behind it, only the most urgent rules are judged at once."""
GATHERED = 10_000
"""Records that have landed that are judged together when it starts."""
NOTE_SECONDS = 60.0
"""How often it is noted until when was judged, and what was left to the batch."""
TOO_LATE = "it came later than what is held for late events"
CHUNK = 2_000
"""Records of the backlog that are judged before it is looked whether new ones have come."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    stream: str
    batch: Batch
    span: Span
    since: float


@dataclass(slots=True)
class Backlog:
    """
    Records that weren't judged when they came, and are judged when they have landed.

    Args:
        spans: stream and shard → positions.
        records: how many that are.
        done: records that were worked off since it was last empty.
        began: when that was begun (`time.monotonic`).
        since: the same, UTC.
    """

    spans: dict[tuple[str, str], list[Span]] = field(default_factory=dict)
    records: int = 0
    done: int = 0
    began: float = 0.0
    since: datetime = datetime(9999, 1, 1, tzinfo=UTC)

    @property
    def seconds_left(self) -> float | None:
        """About how long it takes to work off; None while nobody knows."""
        if not self.records:
            return 0.0
        return self.records * (time.monotonic() - self.began) / self.done if self.done else None


@dataclass(frozen=True, slots=True)
class Standing:
    """
    How the engine stands.

    Args:
        judged: events judged.
        raised: alerts raised.
        withdrawn: alerts withdrawn.
        broken: records that the contract sets aside.
        queued: records that wait.
        held: events that late ones can be put among.
        left_out: records that weren't judged at once, by why.
        late: events that came later than the horizon: the batch judges them.
        backlog: records that are still to be judged.
        backlog_seconds: about how long that takes; None while nobody knows.
        unknown: rules that nothing is known beforehand for.
        problem: why nothing is judged, or nothing lands; empty: all is well.
    """

    judged: int
    raised: int
    withdrawn: int
    broken: int
    queued: int
    held: int
    left_out: Mapping[str, int]
    late: int
    backlog: int
    backlog_seconds: float | None
    unknown: tuple[str, ...]
    problem: str

    def __str__(self) -> str:
        """In a line."""
        told = [f"{self.judged:,} events judged, {self.raised:,} alerts raised, {self.withdrawn:,} withdrawn"]
        if self.backlog:
            left = (
                f"about {self.backlog_seconds:,.0f} s" if self.backlog_seconds is not None else "nobody knows how long"
            )
            told.append(f"{self.backlog:,} records of the backlog left ({left})")
        told += [f"{count:,} records left for later: {why}" for why, count in self.left_out.items()]
        if self.late:
            told.append(f"{self.late:,} events came too late and are left to the batch")
        if self.unknown:
            told.append(f"nothing is known beforehand for {', '.join(self.unknown)}")
        if self.problem:
            told.append(self.problem)
        return "; ".join(told)


class LiveRules:
    """
    Judges running streams; a `Watcher` of drains.

    Args:
        rules: all of them.
        datasets: all of them.
        streams: those that are followed.
        zone: where segments and alerts are.
        settings: of the deployment.
        open_warehouse: opens one for what is known beforehand.
        on_landed: told of alerts that have landed, in the judging thread.
        on_objects: told of the day and the key of each object that they have landed in.
        clock: the moment in UTC.
        horizon: see `HORIZON`.
        most_held: see `MOST_HELD`.
        most_queued: see `MOST_QUEUED`.
        settled_seconds: see `SETTLED_SECONDS`.
        slow_seconds: see `SLOW_SECONDS`.
    """

    def __init__(
        self,
        rules: Rules,
        datasets: Datasets,
        streams: Sequence[Stream],
        *,
        zone: LandingZone,
        settings: Settings,
        open_warehouse: Callable[[], Warehouse],
        on_landed: Sequence[Callable[[Sequence[Alert]], None]] = (),
        on_objects: Callable[[Sequence[tuple[date, str]]], None] = lambda _: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        horizon: timedelta = HORIZON,
        most_held: int = MOST_HELD,
        most_queued: int = MOST_QUEUED,
        settled_seconds: float = SETTLED_SECONDS,
        slow_seconds: float = SLOW_SECONDS,
    ) -> None:
        self._rules = rules
        self._datasets = datasets
        self._streams = {stream.name: stream for stream in streams if judged_of(stream, datasets, rules)}
        self._zone = zone
        self._settings = settings
        self._open_warehouse = open_warehouse
        self._on_landed = on_landed
        self._on_objects = on_objects
        self._clock = clock
        self._horizon = horizon
        self._most_held = most_held
        self._most_queued = most_queued
        self._settled_seconds = settled_seconds
        self._slow_seconds = slow_seconds
        self._alerts = LandedAlerts(zone, clock)
        self._queue: deque[_Waiting] = deque()
        self._news = threading.Condition()
        self._queued = 0
        self._backlog = Backlog()
        self._landed_segments: deque[tuple[str, str]] = deque()
        self._pieces: deque[_Waiting] = deque()
        self._is_closed = False
        self._problem = ""
        self._judged = self._raised = self._withdrawn = self._broken = self._late = 0
        self._left_out: dict[str, int] = {}
        self._unknown: dict[str, date] = {}
        self._pending: list[Alert] = []
        self._judging: dict[str, Judging] = {}
        self._knowledge: Knowledge | None = None
        self._known_contents: dict[tuple[str, date], str | None] = {}
        self._warehouse: Warehouse | None = None
        self._started_at = datetime.max.replace(tzinfo=UTC)
        self._last_old = 0.0
        self._is_settled = False
        self._days: set[date] = set()
        self._known_at = 0.0
        self._left: dict[date, dict[tuple[str, tuple[tuple[str, str], ...], str], int]] = {}
        self._noted_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="live-rules", daemon=True)

    # --- the watcher: in the threads that drain

    def arrived(self, stream: Stream, arrived: Arrived) -> None:
        """Put records into the queue; those for which there is no room are judged when they have landed."""
        if stream.name not in self._streams:
            return
        rows = arrived.records.num_rows
        last: Any = arrived.records.column("arrived_at")[rows - 1].as_py()
        if last is not None and last < self._started_at:
            self._last_old = time.monotonic()
        batch = Batch(arrived.shard, arrived.records, arrived.schemas)
        waiting = _Waiting(stream.name, batch, Span(arrived.first, arrived.last), time.monotonic())
        with self._news:
            if self._queued and self._queued + rows > self._most_queued:
                self._leave(waiting, "more came than could be judged")
                return
            self._queue.append(waiting)
            self._queued += rows
            self._news.notify()

    def landed(self, stream: Stream, segment: LandedSegment) -> None:
        """Take note of a segment that holds some of the backlog."""
        spans = self._backlog.spans.get((stream.name, segment.shard))
        if spans:
            with self._news:
                self._landed_segments.append((stream.name, segment.key))
                self._news.notify()

    def _leave(self, waiting: _Waiting, why: str) -> None:
        """Leave records for when they have landed. The lock is held."""
        rows = waiting.batch.records.num_rows
        if not self._backlog.records:
            self._backlog.began, self._backlog.done, self._backlog.since = time.monotonic(), 0, self._clock()
        self._backlog.records += rows
        self._backlog.spans.setdefault((waiting.stream, waiting.batch.shard), []).append(waiting.span)
        self._left_out[why] = self._left_out.get(why, 0) + rows

    # --- beginning and ending

    def start(self) -> None:
        """Begin to judge."""
        if self._streams:
            self._thread.start()

    def close(self) -> None:
        """Judge what waits, land it, and end. What couldn't be judged comes again, or is judged when the next one starts."""
        with self._news:
            self._is_closed = True
            self._news.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def standing(self) -> Standing:
        """How it stands; may be asked from any thread."""
        with self._news:
            return Standing(
                judged=self._judged,
                raised=self._raised,
                withdrawn=self._withdrawn,
                broken=self._broken,
                queued=self._queued,
                held=sum(judging.held for judging in self._judging.values()),
                left_out=dict(self._left_out),
                late=self._late,
                backlog=self._backlog.records,
                backlog_seconds=self._backlog.seconds_left,
                unknown=tuple(sorted(self._unknown)),
                problem=self._problem,
            )

    @property
    def is_settled(self) -> bool:
        """Whether all that had been judged before the start has come again, and what stands is what is deserved."""
        return self._is_settled

    # --- the judging thread

    def _run(self) -> None:
        try:
            self._open()
            while self._goes_on():
                self._once()
            self._note()
        except IngestionError as error:
            self._problem = f"live rules are off: {error}"
            log.error("live rules are off, streams land on: %s", error)
        except Exception as error:
            # The streams land without it; the batch judges what it didn't.
            self._problem = f"live rules have ended: {type(error).__name__}: {error}"
            log.exception("live rules have ended; streams land on")
        finally:
            with self._news:
                self._streams = {}
                self._queue.clear()
            for judging in self._judging.values():
                judging.close()
            if self._warehouse is not None:
                self._warehouse.close()

    def _open(self) -> None:
        self._warehouse = warehouse = self._open_warehouse()
        self._knowledge = Knowledge(list(self._rules.values()), warehouse.newest_rows, self._is_unknown)
        salt = self._settings.pii_salt.get_secret_value() if self._settings.pii_salt else None
        for stream in self._streams.values():
            self._judging[stream.name] = Judging(
                stream,
                judged_of(stream, self._datasets, self._rules),
                self._rules,
                zone=self._settings.zone,
                salt=salt,
                ask=self._knowledge,
                horizon=self._horizon,
                most_held=self._most_held,
            )
        self._started_at = self._clock()
        self._last_old = time.monotonic()
        self._refer()
        self._look_at_known()
        for stream in self._streams.values():
            self._judge_landed(stream)
        log.info("live rules: %s", self.standing())

    def _goes_on(self) -> bool:
        with self._news:
            while not (self._queue or self._landed_segments or self._pieces or self._is_closed):
                if not self._news.wait(0.5):
                    return True
            return bool(self._queue) or not self._is_closed

    def _once(self) -> None:
        """Judge what waits; when nothing waits, some of the backlog."""
        taken, rows = [], 0
        with self._news:
            while self._queue and rows < AT_ONCE:
                taken.append(self._queue.popleft())
                rows += taken[-1].batch.records.num_rows
            self._queued -= rows
        if taken:
            self._judge(taken)
        elif self._pieces:
            self._work_off()
        elif self._landed_segments:
            self._read_backlog()
        self._land()
        self._settle()
        self._look_at_known()
        if time.monotonic() - self._noted_at >= NOTE_SECONDS:
            self._note()
            if not self._pieces and not self._landed_segments:
                self._look_for_backlog()

    def _judge(self, taken: Sequence[_Waiting]) -> None:
        waited = time.monotonic() - taken[0].since
        up_to = self._most_urgent() if waited > self._slow_seconds else 9
        if up_to < 9:
            with self._news:
                for one in taken:
                    self._leave(one, f"only rules of priority {up_to} were judged at once")
        for stream, of_stream in _by_stream(taken).items():
            judging = self._judging[stream]
            outcome = judging.judge(
                [one.batch for one in of_stream], up_to_priority=up_to, has_backlog=bool(self._backlog.records)
            )
            self._take(outcome)

    def _most_urgent(self) -> int:
        return min(rule.priority for rule in self._rules.values())

    def _take(self, outcome: Outcome) -> None:
        alerts = self._alerts.changes(outcome.raised, outcome.withdrawn)
        with self._news:
            self._judged += outcome.events
            self._broken += outcome.broken
        for (name, day, about), count in outcome.late.items():
            rule = self._rules[name]
            subject = tuple((column, str(value)) for column, value in zip(rule.by, about, strict=True))
            left = self._left.setdefault(day, {})
            left[name, subject, TOO_LATE] = left.get((name, subject, TOO_LATE), 0) + count
            self._late += count
        self._pending += alerts
        self._land()

    def _land(self) -> None:
        """Land what has been found, and tell whoever wants to know."""
        while self._pending:
            alerts, self._pending = self._pending, []
            try:
                objects = self._alerts.land(alerts)
            except IngestionError as error:
                self._problem = f"{len(alerts):,} alerts don't land: {error}"
                log.error("%s", self._problem)
                self._pending = alerts
                with self._news:
                    if self._is_closed:
                        return
                    self._news.wait(LAND_AGAIN_SECONDS)
                continue
            self._problem = ""
            with self._news:
                self._raised += sum(1 for one in alerts if one.change == "raised")
                self._withdrawn += sum(1 for one in alerts if one.change == "withdrawn")
            for told in self._on_landed:
                told(alerts)
            self._on_objects(objects)

    def _note(self) -> None:
        """Note until when was judged, and what was left to the batch."""
        self._noted_at = time.monotonic()
        now = self._clock()
        with self._news:
            waiting = self._queue[0].since if self._queue else None
            until = now - timedelta(seconds=time.monotonic() - waiting) if waiting is not None else now
            backlog, seconds = self._backlog.records, self._backlog.seconds_left
            if backlog:
                until = min(until, self._backlog.since)
        known = {f"{table}@{day}": content or "" for (table, day), content in self._known_contents.items()}
        today = now.astimezone(self._settings.zone).date()
        for day in sorted({today, *self._left}):
            entries = self._left.pop(day, {})
            left = tuple(Left(rule, dict(about), why, count) for (rule, about, why), count in sorted(entries.items()))
            note = Note(day, self._started_at, until, left, backlog, seconds, known)
            try:
                self._zone.put_if_absent(note.key, note.written())
            except IngestionError as error:
                # What can't be noted now is noted with the next one.
                log.warning("live rules: a note doesn't land: %s", error)
                self._left[day] = entries
                return

    # --- what has landed

    def _judge_landed(self, stream: Stream) -> None:
        """Judge what has landed of the days that late events may still come for, and raise what is deserved and doesn't stand."""
        now = self._clock()
        zone = self._settings.zone
        first = (now - self._horizon).astimezone(zone).date()
        days = [first + timedelta(days=number) for number in range((now.astimezone(zone).date() - first).days + 1)]
        longest = max((rule.kind.looks_back for rule in self._judging[stream.name].rules), default=timedelta())
        since = datetime.combine(first, datetime.min.time()) - longest
        outcomes = Outcome()
        gathered: list[Batch] = []
        for day in [first - timedelta(days=1), *days]:
            for landed, name in self._segments(stream, day):
                hour = datetime.strptime(landed.key[len(stream.root) :].rpartition("/")[0], "%Y/%m/%d/%H")
                if name.kind == "segment" and hour >= since - timedelta(hours=1):
                    gathered += self._read(landed)
                    if sum(batch.records.num_rows for batch in gathered) >= GATHERED:
                        outcomes.events += self._judging[stream.name].judge(gathered).events
                        gathered = []
        if gathered:
            outcomes.events += self._judging[stream.name].judge(gathered).events
        for day in days:
            self._days.add(day)
            outcomes.raised += self._judging[stream.name].deserved(day)
        self._take(outcomes)

    def _segments(self, stream: Stream, day: date) -> list[tuple[LandedObject, LandedName]]:
        named = [(landed, LandedName.parse(landed.key)) for landed in self._zone.list(f"{stream.root}{day:%Y/%m/%d}/")]
        return [(landed, name) for landed, name in named if name is not None]

    def _read(self, landed: LandedObject) -> list[Batch]:
        try:
            shard, table, schemas = open_segment(Segments(values=JsonValues()), self._zone.read(landed))
        except ObjectRejected as error:
            log.warning("%s isn't judged: %s", landed.key, error)
            return []
        return [Batch(shard, batch, schemas) for batch in table.to_batches(max_chunksize=CHUNK)]

    def _settle(self) -> None:
        """
        Once all that was judged before the start has come again, withdraw what stands and isn't deserved.

        Before that, what isn't deserved by what has landed may be by what comes again.
        """
        with self._news:
            waits = bool(self._queue or self._backlog.records)
        if self._is_settled or waits or time.monotonic() - self._last_old < self._settled_seconds:
            return
        self._is_settled = True
        rules = {rule.name for judging in self._judging.values() for rule in judging.rules}
        for day in self._days:
            deserved = [one for judging in self._judging.values() for one in judging.deserved(day)]
            told = {(one.alert("raised", 0, self._started_at).id, one.action) for one in deserved}
            standing = [
                one for one in self._alerts.of_day(day).values() if one.change == "raised" and one.rule in rules
            ]
            gone = [one.id for one in standing if (one.id, one.action) not in told]
            self._pending += self._alerts.withdrawals(gone, day)
            self._land()
            # Whoever was told to do something else is told anew.
            self._take(Outcome(raised=deserved))

    # --- the backlog

    def _read_backlog(self) -> None:
        """Read a segment that has landed, and queue what of it is to be judged."""
        with self._news:
            stream, key = self._landed_segments.popleft()
        name = LandedName.parse(key)
        landed = next((one for one in self._zone.list(key) if one.key == key), None)
        if name is None or name.span is None or landed is None:
            return
        with self._news:
            spans = joined(self._backlog.spans.get((stream, name.shard), []))
            # A batch may have landed in two segments.
            self._backlog.spans[stream, name.shard] = [left for span in spans for left in without(span, [name.span])]
        first, last = name.span.first, name.span.last
        within = [Span(max(span.first, first), min(span.last, last)) for span in spans]
        within = [span for span in within if span.first <= span.last]
        for batch in self._read(landed) if within else []:
            texts: list[Any] = batch.records.column("position").to_pylist()
            positions = [int(one) for one in texts]
            mask = pa.array([any(span.first <= one <= span.last for span in within) for one in positions])
            records = batch.records.filter(mask)
            if records.num_rows:
                span = Span(positions[0], positions[-1])
                self._pieces.append(_Waiting(stream, replace(batch, records=records), span, time.monotonic()))

    def _look_for_backlog(self) -> None:
        """Find what of the backlog has landed by somebody else's hand."""
        with self._news:
            waits = {place: list(spans) for place, spans in self._backlog.spans.items() if spans}
        today = self._clock().astimezone(self._settings.zone).date()
        for stream in list(self._streams.values()) if waits else []:
            for day in (today - timedelta(days=1), today):
                for landed, name in self._segments(stream, day):
                    spans = waits.get((stream.name, name.shard), [])
                    if (
                        name.kind == "segment"
                        and name.span is not None
                        and any(_meet(name.span, span) for span in spans)
                    ):
                        with self._news:
                            self._landed_segments.append((stream.name, landed.key))

    def _work_off(self) -> None:
        piece = self._pieces.popleft()
        self._take(self._judging[piece.stream].judge([piece.batch], has_backlog=True))
        with self._news:
            rows = piece.batch.records.num_rows
            self._backlog.records -= rows
            self._backlog.done += rows
            if not self._backlog.records:
                log.info("live rules: the backlog is worked off")

    # --- what is known beforehand

    def _is_unknown(self, rule: Rule, day: date) -> None:
        assert rule.known is not None, "it knows something"
        log.warning(
            "live rule %s: %s has nothing up to %s, so that the rule judges without",
            rule.name, rule.known.table, day_known(rule, day),
        )  # fmt: skip
        self._unknown[rule.name] = day

    def _refer(self) -> None:
        """Take the newest of what references are held against."""
        warehouse = self._warehouse
        assert warehouse is not None, "it is open"
        today = self._clock().astimezone(self._settings.zone).date()

        def references(dataset: Dataset) -> dict[str, pa.Table | None]:
            found: dict[str, pa.Table | None] = {}
            for column, other, there in dataset.references:
                rows = warehouse.newest_rows(self._datasets[other].processed, today, [there])
                found[column.name] = _as_texts(rows) if rows is not None else None
            return found

        for judging in self._judging.values():
            judging.refer(references)
            for rule in judging.rules:
                for _, other, _ in rule.on.references:
                    table = self._datasets[other].processed
                    self._known_contents[table, today] = warehouse.newest_content(table, today)

    def _look_at_known(self) -> None:
        """Judge anew what is held when something that is known beforehand is another by now, and on a new day."""
        now = time.monotonic()
        warehouse = self._warehouse
        if now - self._known_at < KNOWN_SECONDS or warehouse is None or self._knowledge is None:
            return
        self._known_at = now
        today = self._clock().astimezone(self._settings.zone).date()
        self._alerts.forget((self._clock() - self._horizon).astimezone(self._settings.zone).date())
        contents: dict[tuple[str, date], str | None] = {}
        for judging in self._judging.values():
            for rule in judging.rules:
                for _, other, _ in rule.on.references:
                    table = self._datasets[other].processed
                    contents[table, today] = warehouse.newest_content(table, today)
                if rule.known is not None:
                    day = day_known(rule, today)
                    contents[rule.known.table, day] = warehouse.newest_content(rule.known.table, day)
        changed = {place for place, content in contents.items() if self._known_contents.get(place, "") != content}
        is_first = not any(place in self._known_contents for place in changed)
        self._known_contents = contents
        if not changed:
            return
        self._unknown.clear()
        self._refer()
        self._knowledge.forget()
        if is_first:
            return
        for judging in self._judging.values():
            for rule in judging.rules:
                if rule.known is not None and (rule.known.table, day_known(rule, today)) in changed:
                    self._take(judging.know_anew(rule, today))


def collect_less_often() -> None:
    """
    Have Python look for cyclic garbage a few times a second at most.

    What rules hold are hundreds of thousands of small tuples without a cycle; going through the young ones every 700 of them takes as
    long as judging does.
    """
    gc.set_threshold(50_000, 20, 50)


def judged_of(stream: Stream, datasets: Datasets, rules: Rules) -> list[Dataset]:
    """The datasets of a stream that have rules."""
    return [dataset for dataset in datasets.of_stream(stream) if rules.on(dataset.name)]


def _meet(one: Span, other: Span) -> bool:
    return one.first <= other.last and other.first <= one.last


def _by_stream(taken: Sequence[_Waiting]) -> dict[str, list[_Waiting]]:
    found: dict[str, list[_Waiting]] = {}
    for one in taken:
        found.setdefault(one.stream, []).append(one)
    return found


def _as_texts(rows: pa.Table) -> pa.Table:
    return rows.rename_columns(["value"]).cast(pa.schema([("value", pa.string())]))
