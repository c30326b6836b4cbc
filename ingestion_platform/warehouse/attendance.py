"""
Who sent, who didn't, and what that makes of reports: rosters, closures and what landed, held together.

Belongs here: reading what the judgement needs, for many days at once. Doesn't: the judgement (`completeness.py`), telling it.

All of it is a pure function of the ledger, the declarations and the moment: nothing is kept that could be another thing tomorrow.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import Any
from zoneinfo import ZoneInfo

import duckdb

from ingestion_platform.completeness import (
    Completeness,
    Excuse,
    SenderDay,
    Sent,
    State,
    completeness,
    judge,
    state_of,
)
from ingestion_platform.dataset import Dataset, Datasets
from ingestion_platform.opening_days import WEEKDAYS, Closure, parse_weekdays
from ingestion_platform.public_holidays import public_holidays
from ingestion_platform.senders import Member, Sender, Senders, known_zone
from ingestion_platform.warehouse.days import span
from ingestion_platform.warehouse.engine import name, relation
from ingestion_platform.warehouse.files import FileStore
from ingestion_platform.warehouse.ledger import Ledger
from ingestion_platform.warehouse.ledger_rows import ObjectRow, PartitionRow
from ingestion_platform.warehouse.receipts import Receipt, Receipts

Windows = Mapping[str, int]
"""Dataset with a cutoff → how many days before its own a report also reads of it."""

Excuses = Callable[[str, date, date], Iterable[Excuse]]
"""Gives what persons have excused of a dataset, of days from one to another."""


@dataclass(frozen=True, slots=True)
class ReportState:
    """
    What a report's partition is, and since when.

    Args:
        state: `provisional`, `final` or `restated`.
        final_at: since when it is final, or will be at the latest, UTC; None: it always was.
        late_at: when the last object landed that came after that; None: none did.
        waits_for: `sales 2024-10-02: S0001` for each that is waited for, or that nobody waited for any longer.
    """

    state: State
    final_at: datetime | None
    late_at: datetime | None
    waits_for: tuple[str, ...]

    @property
    def why(self) -> str:
        """What makes it that, in a sentence."""
        some = ", ".join(self.waits_for[:5]) + (
            f" and {len(self.waits_for) - 5:,} more" if len(self.waits_for) > 5 else ""
        )
        if self.state == "provisional":
            return f"waits for {some} until {self.final_at:%Y-%m-%d %H:%M} UTC" if some else "its day isn't over"
        since = f" since {self.final_at:%Y-%m-%d %H:%M} UTC" if self.final_at is not None else ""
        told = f"final{since}, without {some}" if some else f"all who were expected had sent{since}"
        if self.late_at is not None:
            return f"{told}; something came later, last at {self.late_at:%Y-%m-%d %H:%M} UTC"
        return told


@dataclass(frozen=True, slots=True)
class _Arrived:
    """Of a dataset's day: when it was complete, and when the last object landed that has, or had, rows in it."""

    completeness: Completeness
    last_landed: datetime | None


class Attendance:
    """
    Holds what landed against who was expected.

    Args:
        datasets: all of them.
        ledger: what landed.
        store: where rosters are.
        engine: reads them.
        receipts: what was overwritten.
        excuses: what persons have excused.
        zone: the business time zone.
    """

    def __init__(
        self,
        datasets: Datasets,
        ledger: Ledger,
        store: FileStore,
        engine: Callable[[], duckdb.DuckDBPyConnection],
        receipts: Receipts,
        excuses: Excuses,
        zone: ZoneInfo,
    ) -> None:
        self._datasets = datasets
        self._ledger = ledger
        self._store = store
        self._engine = engine
        self._receipts = receipts
        self._excuses = excuses
        self._zone = zone
        self._rosters: dict[tuple[str, str], dict[str, Member]] = {}
        self._closures: dict[tuple[str, str], list[Closure]] = {}
        self._arrived: dict[tuple[str, date], _Arrived] = {}
        self._commits = -1

    # --- who sent

    def rows(self, dataset: Dataset, first: date, last: date, now: datetime) -> list[SenderDay]:
        """One row a sender and day, by day and sender; none of a dataset without senders."""
        if dataset.senders is None or not self._ledger.exists:
            return []
        with self._ledger.reading():
            found: list[SenderDay] = []
            days = _Days(self, dataset, dataset.senders, max(first, dataset.daily.from_), last)
            for day in days.days:
                found += days.judge(day, now)
            return found

    def final_at(self, dataset: Dataset, day: date) -> datetime | None:
        """When a dataset's day counts as it is, or will at the latest; None where nothing is judged by the clock."""
        if dataset.senders is None or not self._ledger.exists:
            return None
        return next((arrived.completeness.final_at for _, arrived in self._arrive(dataset, day, day)), None)

    def zone_of(self, dataset: Dataset) -> ZoneInfo:
        """The clock of senders who have none of their own."""
        return ZoneInfo(dataset.time_zone) if dataset.time_zone is not None else self._zone

    def cutoffs(self, dataset: Dataset, day: date) -> tuple[datetime, ...]:
        """The moments at which some sender's cutoff of a day passes, and that of a day on which nobody is expected."""
        if dataset.senders is None:
            return ()
        zones = {self.zone_of(dataset)} | {member.zone for member in self.listed(dataset, dataset.senders).values()}
        if dataset.senders.dataset and self._ledger.exists:
            with self._ledger.reading():
                roster = _Days(self, dataset, dataset.senders, day, day, of_objects=False).roster(day)
                zones |= {member.zone for member in (roster or {}).values()}
        return tuple(sorted({dataset.senders.due.moment(day, zone) for zone in zones}))

    def everything(self, now: datetime) -> list[SenderDay]:
        """All rows of all datasets, from a dataset's first day to the last that anything is known of."""
        with self._ledger.reading():
            newest = [day for name_ in self._datasets if (day := self._ledger.newest_object_day(name_)) is not None]
            if not newest:
                return []
            return [
                row
                for dataset in self._datasets.values()
                for row in self.rows(dataset, dataset.daily.from_, max(newest), now)
            ]

    def last_cutoff(self, now: datetime) -> datetime | None:
        """The last moment at which a cutoff has passed; None without any in the last days."""
        passed = [
            moment
            for dataset in self._datasets.values()
            if dataset.senders is not None
            for day in span(now.date() - timedelta(days=dataset.senders.due.days_after + 2), now.date())
            for moment in self.cutoffs(dataset, day)
            if moment <= now
        ]
        return max(passed, default=None)

    # --- what that makes of a report

    def prefetch(self, windows: Windows, first: date, last: date) -> None:
        """Find out at once what `state` will be asked of these days."""
        for dataset, before in windows.items():
            self._arrive(self._datasets[dataset], first - timedelta(days=before), last)

    def state(self, windows: Windows, day: date, now: datetime) -> ReportState:
        """What a report's partition is."""
        days: list[Completeness] = []
        landed: list[datetime] = []
        waits_for: list[str] = []
        for name_, before in sorted(windows.items()):
            dataset = self._datasets[name_]
            for one_day, arrived in self._arrive(dataset, day - timedelta(days=before), day):
                days.append(arrived.completeness)
                landed += [arrived.last_landed] if arrived.last_landed is not None else []
                waits_for += [f"{name_} {one_day}: {sender}" for sender in arrived.completeness.waits_for]
        state, final_at, late_at = state_of(days, landed, now=now)
        return ReportState(state, final_at, late_at, tuple(waits_for))

    def _arrive(self, dataset: Dataset, first: date, last: date) -> list[tuple[date, _Arrived]]:
        senders = dataset.senders
        assert senders is not None, "asked of datasets with senders only"
        commits = self._ledger.commits()
        if commits != self._commits:
            self._arrived.clear()
            self._commits = commits
        first = max(first, dataset.daily.from_, senders.judged_from or date.min)
        if first > last:
            return []
        wanted = span(first, last)
        missing = [day for day in wanted if (dataset.name, day) not in self._arrived]
        if missing:
            with self._ledger.reading():
                days = _Days(self, dataset, senders, missing[0], missing[-1])
                for day in missing:
                    self._arrived[dataset.name, day] = days.arrived(day)
        return [(day, self._arrived[dataset.name, day]) for day in wanted]

    # --- rosters and closures

    def roster(self, dataset: Dataset, senders: Senders, partition: PartitionRow) -> dict[str, Member]:
        """The members that a roster's partition lists, by id."""
        key = (dataset.name, partition.content)
        if key not in self._rosters:
            self._rosters[key] = {}
            zone = self.zone_of(dataset)
            for row in self._read(partition, senders.columns):
                if row[senders.column] is not None:
                    member = _member(senders, row, zone)
                    self._rosters[key].setdefault(member.sender, member)
        return self._rosters[key]

    def listed(self, dataset: Dataset, senders: Senders) -> dict[str, Member]:
        """The members that a declaration lists, by id."""
        return {one.id: _listed(one, self.zone_of(dataset)) for one in senders.listed}

    def closures(self, senders: Senders, partition: PartitionRow) -> list[Closure]:
        """The closures that a partition lists."""
        declared = senders.closures
        assert declared is not None, "asked where they are declared"
        key = (declared.dataset, partition.content)
        if key not in self._closures:
            found = []
            for row in self._read(partition, declared.columns):
                first = row[declared.first]
                last = row[declared.last] if declared.last is not None else None
                # A closure that ends before it begins closes no day.
                if first is not None and (last is None or last >= first):
                    found.append(
                        Closure(
                            first=first,
                            last=last,
                            sender=row[declared.sender] if declared.sender is not None else None,
                            country=row[declared.country] if declared.country is not None else None,
                            reason=(row[declared.reason] if declared.reason is not None else None) or "",
                        )
                    )
            self._closures[key] = found
        return self._closures[key]

    def _read(self, partition: PartitionRow, columns: Mapping[str, str]) -> list[dict[str, Any]]:
        source = relation(self._store, self._ledger.partition_files([partition]), list(columns.items()))
        selected = ", ".join(f"cast({name(column)} as {kind}) as {name(column)}" for column, kind in columns.items())
        rows = self._engine().execute(f"select distinct {selected} from ({source}) order by all").fetchall()
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def partitions(self, dataset: str) -> tuple[list[str], list[PartitionRow]]:
        """The days of a list that say anything, and their partitions, oldest first."""
        rows = [row for row in self._ledger.partitions(f"processed.{dataset}") if row.rows]
        return [row.day for row in rows], rows

    def landed(self, dataset: Dataset, first: date, last: date) -> tuple[list[ObjectRow], list[Receipt]]:
        """What landed for these days, and what was overwritten."""
        return self._ledger.current_between(dataset.name, first, last), self._receipts.of(dataset.name, first, last)

    def excused(self, dataset: Dataset, first: date, last: date) -> dict[date, dict[str, Excuse]]:
        """Day → sender → his excuse; of several the first counts."""
        found: dict[date, dict[str, Excuse]] = {}
        for excuse in sorted(self._excuses(dataset.name, first, last), key=lambda one: one.at):
            found.setdefault(excuse.day, {}).setdefault(excuse.sender, excuse)
        return found


class _Days:
    """Some days of a dataset, with all that is needed to judge them. Lives as long as one state of the ledger is looked at."""

    def __init__(
        self, of: Attendance, dataset: Dataset, senders: Senders, first: date, last: date, *, of_objects: bool = True
    ) -> None:
        self._of = of
        self._dataset = dataset
        self._senders = senders
        self._first, self._last = first, last
        self._zone = of.zone_of(dataset)
        self._rosters = of.partitions(senders.dataset) if senders.dataset else None
        self._closures = of.partitions(senders.closures.dataset) if senders.closures is not None else None
        self._listed = of.listed(dataset, senders)
        self._excused = of.excused(dataset, first, last) if of_objects else {}
        self._sent: dict[date, dict[str, list[Sent]]] = {}
        self._last_landed: dict[date, datetime] = {}
        if of_objects and first <= last:
            self._gather()

    @property
    def days(self) -> list[date]:
        """All of them, oldest first."""
        return span(self._first, self._last) if self._first <= self._last else []

    def _gather(self) -> None:
        # A row may be in an object of a later day.
        until = self._last + timedelta(days=self._dataset.daily.allowed_lateness_days)
        rows, receipts = self._of.landed(self._dataset, self._first, until)
        former = {key: list(found) for key, found in groupby(receipts, key=lambda one: one.key)}
        for row in rows:
            day = date.fromisoformat(row.day)
            since, before = _since(row, former.get(row.key, ()))
            if row.sender is not None and day <= self._last:
                self._sent.setdefault(day, {}).setdefault(row.sender, []).extend(self._versions(row, since, before))
            if row.state == "loaded" and row.rows_loaded:
                for home in row.days or {row.day: 0}:
                    self._note_landed(date.fromisoformat(home), since)
            if any(one.rows for one in before):
                self._note_landed(day, since)

    def _note_landed(self, day: date, at: datetime) -> None:
        self._last_landed[day] = max(at, self._last_landed.get(day, at))

    def _versions(self, row: ObjectRow, since: datetime, before: Sequence[Receipt]) -> list[Sent]:
        is_retired = row.state == "replaced"
        is_double = row.state == "duplicate"
        is_own = is_double and self._is_own(row)
        found = [
            Sent(
                row.key,
                since,
                is_usable=row.state in ("loaded", "pending", "replaced") or is_own,
                is_current=not is_retired,
                is_repeated=is_double,
                is_empty=row.state == "loaded" and row.rows_read == 0,
                rows=row.rows_loaded,
                why=row.reason,
            )
        ]
        for _, same in groupby(before, key=lambda one: one.version):
            one = next(same)
            found.append(Sent(row.key, one.at, one.is_usable, is_current=False, rows=one.rows))
        return found

    def _is_own(self, row: ObjectRow) -> bool:
        """Whether the object that a double is of is the same sender's, of the same day."""
        found = self._dataset.source.match(row.duplicate_of or "")
        return (
            found is not None
            and found[0].isoformat() == row.day
            and found[1].get(self._senders.key_capture) == row.sender
        )

    def roster(self, day: date) -> Mapping[str, Member] | None:
        """Who is a sender, as it stood on a day; None: nobody has said yet."""
        if self._rosters is None:
            return self._listed
        days, partitions = self._rosters
        found = bisect_right(days, day.isoformat())
        return self._of.roster(self._dataset, self._senders, partitions[found - 1]) if found else None

    def _closed(self, day: date) -> list[Closure]:
        if self._closures is None:
            return []
        days, partitions = self._closures
        found = bisect_right(days, day.isoformat())
        listed = self._of.closures(self._senders, partitions[found - 1]) if found else []
        return [one for one in listed if one.first <= day <= (one.last or one.first)]

    def judge(self, day: date, now: datetime) -> list[SenderDay]:
        """One row for each sender of a day."""
        return judge(
            self._dataset.name,
            self._senders,
            day,
            roster=self.roster(day),
            closures=self._closed(day),
            sent=self._sent.get(day, {}),
            excuses=self._excused.get(day, {}),
            zone=self._zone,
            now=now,
        )

    def arrived(self, day: date) -> _Arrived:
        """When a day was complete, whatever the moment is."""
        excuses = self._excused.get(day, {})
        rows = self.judge(day, datetime.max.replace(tzinfo=self._zone))
        found = completeness(
            self._senders, day, rows, excuses=excuses, zone=self._zone, has_roster=self.roster(day) is not None
        )
        return _Arrived(found, self._last_landed.get(day))


def _since(row: ObjectRow, receipts: Sequence[Receipt]) -> tuple[datetime, list[Receipt]]:
    """
    Since when an object has its content, and what it was before, oldest first.

    Args:
        row: as it is.
        receipts: of its key, in the order in which they landed.
    """
    since = datetime.fromisoformat(row.landed_at)
    before = [one for one in receipts if one.at <= since]
    while before and before[-1].version == row.version:
        since = min(since, before.pop().at)
    return since, before


def _member(senders: Senders, row: Mapping[str, Any], zone: ZoneInfo) -> Member:
    """A row of a roster. What can't be understood of it is remarked, and as if it weren't said."""

    def text(column: str | None) -> str | None:
        value = row[column] if column is not None else None
        return (str(value).strip() or None) if value is not None else None

    def day(column: str | None) -> date | None:
        value = row[column] if column is not None else None
        assert value is None or isinstance(value, date), "cast when it was read"
        return value

    remarks = []
    own = zone
    if (zone_name := text(senders.time_zone)) is not None:
        known = known_zone(zone_name)
        own = known or zone
        if known is None:
            remarks.append(f"time zone {zone_name!r} is unknown: {zone.key} is taken")
    country = text(senders.country)
    if (
        country is not None
        and senders.opening_days.closed_on_public_holidays
        and public_holidays(country, 2024) is None
    ):
        remarks.append(f"country {country!r} is unknown: no public holidays")
    weekdays = None
    if (said := text(senders.weekdays)) is not None:
        weekdays = parse_weekdays(said)
        if weekdays is None:
            remarks.append(f"weekdays {said!r} aren't understood: as declared")
    return Member(
        sender=str(row[senders.column]),
        zone=own,
        country=country,
        active_from=day(senders.active_from),
        active_until=day(senders.active_until),
        weekdays=weekdays,
        remark="; ".join(remarks),
    )


def _listed(sender: Sender, zone: ZoneInfo) -> Member:
    own = known_zone(sender.time_zone) if sender.time_zone is not None else None
    return Member(
        sender=sender.id,
        zone=own or zone,
        country=sender.country,
        active_from=sender.active_from,
        active_until=sender.active_until,
        weekdays=frozenset(WEEKDAYS.index(name) for name in sender.weekdays) if sender.weekdays else None,
    )
