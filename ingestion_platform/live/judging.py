"""
One stream's records to alerts that are deserved: read, held against the contract, and judged as the tables of their days will be.

Belongs here: the way of a few records through one process. Doesn't: where they come from and who is told (`engine.py`).
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import repeat
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute

from ingestion_platform.dataset import Dataset
from ingestion_platform.formats.segments import RunningRecords
from ingestion_platform.rules.judge import Ask, Days, Deserved, Judge
from ingestion_platform.rules.rule import Rule, Rules
from ingestion_platform.stream import Stream, shard_name
from ingestion_platform.warehouse.days import bounds
from ingestion_platform.warehouse.live_rows import LiveRows

QUIET_SECONDS = 30.0
"""A shard of which nothing has come for so long is waited for no more: what it then gives may be too late."""
_QUARTER_US = 900_000_000
"""No time zone is off UTC by less than a quarter of an hour, or by a part of one."""
_LONGEST_BACKLOG = timedelta(days=1)
pc: Any = pyarrow.compute
"""Its stubs know nothing of scalars beside arrays."""


@dataclass(frozen=True, slots=True)
class Batch:
    """
    Records of one shard, in order, as they came or as they have landed.

    Args:
        shard: whose.
        records: of one of the two envelopes.
        schemas: name → writer's schema.
    """

    shard: str
    records: pa.RecordBatch
    schemas: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Outcome:
    """
    What became of some records.

    Args:
        raised: alerts that are deserved now, and weren't.
        withdrawn: those that were, and aren't any more.
        events: that were judged, those that had been judged before among them.
        broken: rows and records that the contract sets aside.
        late: rule → subject → events that are older than what is held; the batch judges them.
        newest: UTC; when the last of the records arrived.
    """

    raised: list[Deserved] = field(default_factory=list)
    withdrawn: list[Deserved] = field(default_factory=list)
    events: int = 0
    broken: int = 0
    late: dict[tuple[str, date, tuple[Any, ...]], int] = field(default_factory=lambda: defaultdict(int))
    newest: datetime | None = None


@dataclass(slots=True)
class _Judged:
    dataset: Dataset
    rules: Sequence[Rule]
    rows: LiveRows
    judge: Judge
    readers: dict[str, RunningRecords] = field(default_factory=dict)


def joined(batches: Sequence[Batch]) -> list[Batch]:
    """
    The batches that came one after the other from one shard as one.

    A broker's client gives a few dozen records at a time. Reading them costs as much as reading hundreds does: when many wait, that counts.
    """
    runs: list[tuple[list[Batch], dict[str, str]]] = []
    for batch in batches:
        run, schemas = runs[-1] if runs else ([], {})
        if (
            run
            and run[-1].shard == batch.shard
            and run[-1].records.schema.equals(batch.records.schema)
            and all(schemas.get(name, schema) == schema for name, schema in batch.schemas.items())
        ):
            run.append(batch)
            schemas.update(batch.schemas)
        else:
            runs.append(([batch], dict(batch.schemas)))
    return [
        Batch(
            run[0].shard,
            pa.concat_batches([batch.records for batch in run]),  # type: ignore[attr-defined]  # newer than its stubs
            schemas,
        )
        for run, schemas in runs
    ]


def days_of(zone: ZoneInfo) -> Days:
    """Business days."""
    cached: dict[datetime, date] = {}

    def day_of(at: datetime) -> date:
        hour = at.replace(minute=at.minute // 15 * 15, second=0, microsecond=0)
        found = cached.get(hour)
        if found is None:
            if len(cached) > 10_000:
                cached.clear()
            found = cached[hour] = at.replace(tzinfo=UTC).astimezone(zone).date()
        return found

    return Days(lambda day: bounds(day, zone), day_of)


class Judging:
    """
    Judges one stream's records. Of one thread.

    Args:
        stream: which.
        datasets: those of it that have rules.
        rules: all of them.
        zone: business time.
        salt: of hashed columns.
        ask: what is known beforehand.
        horizon: how long after its event time an event may come to be judged here.
        most_held: events that are held at most; with more, the horizon comes nearer.
    """

    def __init__(
        self,
        stream: Stream,
        datasets: Sequence[Dataset],
        rules: Rules,
        *,
        zone: ZoneInfo,
        salt: str | None,
        ask: Ask,
        horizon: timedelta,
        most_held: int,
    ) -> None:
        self.stream = stream
        self._zone = zone
        self._horizon = horizon
        self._most_held = most_held
        days = days_of(zone)
        self._days = days
        self._parts: list[_Judged] = []
        for dataset in datasets:
            of_dataset = rules.on(dataset.name)
            rows = LiveRows(dataset, of_dataset, zone, salt)
            self._parts.append(_Judged(dataset, of_dataset, rows, Judge(of_dataset, rows.columns, days, ask)))
        # What matters most is judged first.
        self._parts.sort(key=lambda part: min(rule.priority for rule in part.rules))
        self._began = time.monotonic()
        self._came: dict[str, tuple[datetime, float]] = {}
        """Shard → when its last record arrived, UTC, and when it was judged (`time.monotonic`)."""

    @property
    def rules(self) -> list[Rule]:
        """Of all its datasets."""
        return [rule for part in self._parts for rule in part.rules]

    @property
    def held(self) -> int:
        """Events that are held."""
        return sum(part.judge.held for part in self._parts)

    def refer(self, references: Callable[[Dataset], Mapping[str, pa.Table | None]]) -> None:
        """Take what references are held against."""
        for part in self._parts:
            if part.dataset.references:
                part.rows.refer(references(part.dataset))

    def judge(self, batches: Sequence[Batch], *, up_to_priority: int = 9, has_backlog: bool = False) -> Outcome:
        """
        Judge records.

        Args:
            batches: in the order in which they came.
            up_to_priority: rules of a lower priority (a greater number) are left out.
            has_backlog: older records are still to come: whatever there is room for is held for them.
        """
        outcome = Outcome()
        batches = joined(batches)
        placed = [self._places(batch) for batch in batches]
        for part in self._parts:
            without = [number for number, rule in enumerate(part.rules) if rule.priority > up_to_priority]
            if len(without) < len(part.rules):
                self._judge_part(part, batches, placed, without, outcome)
        for batch, (_, _, newest) in zip(batches, placed, strict=True):
            if newest is not None:
                outcome.newest = max(newest, outcome.newest or newest)
                came = self._came.get(batch.shard, (datetime.min, 0.0))[0]
                self._came[batch.shard] = max(came, newest.replace(tzinfo=None)), time.monotonic()
        if outcome.newest is not None:
            self._forget(has_backlog=has_backlog)
        return outcome

    def _judge_part(
        self,
        part: _Judged,
        batches: Sequence[Batch],
        placed: Sequence[tuple[list[tuple[Any, ...]], Any, datetime | None]],
        without: Sequence[int],
        outcome: Outcome,
    ) -> None:
        by_day: dict[date, tuple[list[pa.Table], list[tuple[Any, ...]]]] = {}
        for batch, (versions, days, _) in zip(batches, placed, strict=True):
            reader = part.readers.get(batch.shard)
            if reader is None:
                reader = part.readers[batch.shard] = RunningRecords(part.rows.format, part.rows.fields, batch.shard)
            rows, rejected = reader.rows(batch.records, batch.schemas)
            outcome.broken += rejected
            if not rows.num_rows:
                continue
            for day, of_day in self._by_day(rows, days):
                tables, known = by_day.setdefault(day, ([], []))
                numbers = pc.add(of_day.column("_row"), len(known))
                tables.append(of_day.set_column(of_day.num_columns - 1, "_row", numbers))
                known.extend(versions)
        for day, (tables, versions) in sorted(by_day.items()):
            judged = part.rows.events(pa.concat_tables(tables), day, versions)
            outcome.events += len(judged.events)
            outcome.broken += judged.broken
            changes, late = part.judge.take(judged.events, judged.bits, without)
            outcome.raised += changes.raised
            outcome.withdrawn += changes.withdrawn
            for event in late:
                self._leave(part, event, outcome)

    def _leave(self, part: _Judged, event: Any, outcome: Outcome) -> None:
        day = self._days.day_of(event.at)
        for rule in part.rules:
            outcome.late[rule.name, day, tuple(getattr(event, column) for column in rule.by)] += 1

    @staticmethod
    def _by_day(rows: pa.Table, days: Any) -> list[tuple[date, pa.Table]]:
        """The rows of each day that their records land on."""
        if isinstance(days, date):
            return [(days, rows)]
        of_rows = days[rows.column("_row").to_numpy() - 1]
        return [(day, rows.filter(pa.array(of_rows == day))) for day in sorted(set(of_rows))]

    def _places(self, batch: Batch) -> tuple[list[tuple[Any, ...]], Any, datetime | None]:
        """
        Where each record stands in the order in which all that lands is taken: hour of arrival, shard, position, part.

        Returns:
            These; the day that all land on, or an array of days; and when the last one arrived, UTC.
        """
        records = batch.records
        moments = records.column("arrived_at").cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        known, at = np.unique(moments // _QUARTER_US, return_inverse=True)
        hours = [
            datetime.fromtimestamp(int(quarter) * 900, UTC)
            .astimezone(self._zone)
            .replace(minute=0, second=0, tzinfo=None)
            for quarter in known
        ]
        texts: list[Any] = records.column("position").to_pylist()
        positions = [int(one) for one in texts]
        parts = records.column("part").fill_null(0).to_pylist()
        shard = shard_name(batch.shard)
        if len(hours) == 1:
            versions = list(zip(repeat(hours[0]), repeat(shard), positions, parts, strict=False))
        else:
            versions = [
                (hours[place], shard, position, part)
                for place, position, part in zip(at.tolist(), positions, parts, strict=True)
            ]
        newest = datetime.fromtimestamp(int(moments.max()) / 1e6, UTC) if len(moments) else None
        days = [hour.date() for hour in hours]
        if len(set(days)) == 1:
            return versions, days[0], newest
        return versions, np.array(days, dtype=object)[at], newest

    def _forget(self, *, has_backlog: bool) -> None:
        # Shards that are read one ahead of the other, as after a worker was away: none is late by what another one has already given.
        now = time.monotonic()
        speaking = [newest for newest, judged in self._came.values() if now - judged < QUIET_SECONDS]
        reached = min(speaking, default=max(newest for newest, _ in self._came.values()))
        # At first nobody knows which shards will speak.
        is_new = now - self._began < QUIET_SECONDS
        before = reached - (_LONGEST_BACKLOG if has_backlog or is_new else self._horizon)
        for part in self._parts:
            share = self._most_held // len(self._parts)
            over = part.judge.held - share
            nearer = part.judge.oldest(over) if over > share // 10 else None
            part.judge.forget(max(before, nearer) if nearer is not None else before)
            part.judge.forget_days(self._days.day_of(before))

    def deserved(self, day: date) -> list[Deserved]:
        """Every alert that is deserved on a day, by what was judged until now."""
        return [one for part in self._parts for one in part.judge.deserved(day)]

    def know_anew(self, rule: Rule, day: date) -> Outcome:
        """Judge what is held of a rule's day by what is known now."""
        outcome = Outcome()
        for part in self._parts:
            if rule in part.rules:
                changes = part.judge.know_anew(rule, day)
                outcome.raised += changes.raised
                outcome.withdrawn += changes.withdrawn
        return outcome

    def close(self) -> None:
        """Let go of the engines."""
        for part in self._parts:
            part.rows.close()
