"""
Processed tables to derived ones, by SQL.

Belongs here: computing one partition of a SQL table, and publishing it as Parquet and CSV. Doesn't: understanding the file
(`sql_tables.py`).

A query sees only the partitions that its day may depend on: its own and `history_days` before it; of `…_current` tables the
newest as of its day, of `…_history` what was known by then. A query that reads its own table carries its state on: it sees the partition
of the day before, which is the last day on which there was anything to compute; where that was never computed, it can't be either.
"""

import hashlib
import json
import logging
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa

from ingestion_platform.dataset import Dataset, Datasets
from ingestion_platform.errors import DayBeforeMissing, WarehouseDamaged, WarehouseError
from ingestion_platform.rules.knowledge import day_known
from ingestion_platform.rules.rule import Rules
from ingestion_platform.warehouse import current, history, judged
from ingestion_platform.warehouse.attendance import Attendance, ReportState
from ingestion_platform.warehouse.contract import Contract
from ingestion_platform.warehouse.days import bounds
from ingestion_platform.warehouse.engine import COPY_OPTIONS, PUBLISHED_OPTIONS, name, parquet, relation, text
from ingestion_platform.warehouse.files import FileStore
from ingestion_platform.warehouse.ledger import Along, Conflict, Ledger, nothing
from ingestion_platform.warehouse.ledger_rows import NO_DAY, FileRow, PartitionRow
from ingestion_platform.warehouse.process import Processor, count_failures
from ingestion_platform.warehouse.results import TableDay
from ingestion_platform.warehouse.row_versions import RowVersions
from ingestion_platform.warehouse.sql_tables import CURRENT, STATE, SqlTable, SqlTables
from ingestion_platform.warehouse.versions import Versions

log = logging.getLogger(__name__)

_LAST = "9999-12-31"

STATE_MARK = "|"
"""Between what the rows are made of and what the partition is said to be, in a digest of inputs."""

VERSION = 1
"""Counts up when the same SQL would give another table: every partition is then computed again."""


class Deriver:
    """
    Computes SQL tables.

    Args:
        datasets: whose processed tables are read.
        sql_tables: all of them.
        ledger: which partitions there are.
        store: where rows are.
        engine: computes.
        zone: the business time zone.
        publish: folder for finished reports.
        attendance: which reports are complete.
        versions: notes what they were.
        clock: the moment, UTC.
    """

    def __init__(
        self,
        datasets: Datasets,
        sql_tables: SqlTables,
        ledger: Ledger,
        store: FileStore,
        engine: duckdb.DuckDBPyConnection,
        zone: ZoneInfo,
        publish: Path,
        attendance: Attendance,
        versions: Versions,
        clock: Callable[[], datetime],
    ) -> None:
        self._attendance = attendance
        self._versions = versions
        self._clock = clock
        self._datasets = datasets
        self._sql_tables = sql_tables
        self._ledger = ledger
        self._store = store
        self._engine = engine
        self._zone = zone
        self._publish = publish

    # --- what it depends on

    def columns_of(self, table: str) -> list[tuple[str, str]]:
        """`(name, type)` of a processed or report table."""
        if table in self._sql_tables:
            return list(self._sql_tables[table].types.items())
        return Contract(self._datasets[table.split(".", 1)[1]], self._zone).processed_columns

    def _read_by(self, table: SqlTable, day: date | None) -> dict[str, list[PartitionRow]]:
        """Name in the query → the partitions it sees, oldest first."""
        seen: dict[str, list[PartitionRow]] = {}
        if table.judges is not None and day is not None:
            for rule in table.judges.values():
                if rule.known is not None:
                    known = day_known(rule, day)
                    seen[f"{rule.known.table}@{known}"] = self._current(rule.known.table, known)
        for read in table.reads:
            source = read if read in self._sql_tables or self._is_dataset(read) else read.removesuffix(CURRENT)
            if source != read:
                seen[read] = self._current(source, day)
            elif table.of_changes is not None:
                seen[read] = self._ledger.partitions(source, "", day.isoformat() if day else _LAST)
            elif self._is_state(source):
                seen[read] = self.counting(
                    source, self._ledger.partitions(source, "", day.isoformat() if day else _LAST)
                )
            elif source in self._sql_tables and not self._sql_tables[source].is_daily:
                seen[read] = self._ledger.partitions(source, "", "")
            elif day is None:
                seen[read] = self._ledger.partitions(source)
            else:
                first = day - timedelta(days=table.history_days)
                seen[read] = self._ledger.partitions(source, first.isoformat(), day.isoformat())
        if table.carries_on and day is not None:
            before = self._day_before(table, day)
            row = self._ledger.partition(table.key, before) if before else None
            seen[table.key] = [row] if row else []
        return seen

    def _day_before(self, table: SqlTable, day: date) -> date | None:
        """The last day before *day* that a table has or should have; None when *day* is its first."""
        moving = [source for source in table.depends_on if not self._is_reference(table, source)]
        return self._ledger.last_day_before([table.key, *moving], day, table.first_day)

    def _require_day_before(self, table: SqlTable, day: date | None, seen: Mapping[str, list[PartitionRow]]) -> None:
        if not table.carries_on or day is None or seen[table.key]:
            return
        before = self._day_before(table, day)
        if before is not None:
            raise DayBeforeMissing(
                f"{table.key} {day} carries on the state at the end of {before}, which was never computed",
                f"compute {before} first, and after it {day}: a backfill of both does it in this order",
            )

    def missing_before(self, table: SqlTable, day: date) -> list[date]:
        """The days that must be computed before *day* can be, the first of them first; none for a table that carries nothing on."""
        missing: list[date] = []
        if table.carries_on:
            with self._ledger.reading():
                before = self._day_before(table, day)
                while before is not None and self._ledger.partition(table.key, before) is None:
                    missing.append(before)
                    before = self._day_before(table, before)
        return missing[::-1]

    def partitions_read(self, table: SqlTable, day: date | None) -> set[tuple[str, date | None]]:
        """The partitions that a table's day sees."""
        return {
            (row.table_name, date.fromisoformat(row.day) if row.day else None)
            for rows in self._read_by(table, day).values()
            for row in rows
        }

    def _is_dataset(self, table: str) -> bool:
        return table.split(".", 1)[1] in self._datasets

    def _current(self, source: str, day: date | None) -> list[PartitionRow]:
        row = self._ledger.partition_as_of(source, day or date.max)
        return [row] if row else []

    def _is_state(self, table: str) -> bool:
        """Whether a table tells at each day's end what all days up to it have made."""
        return table in self._sql_tables and self._sql_tables[table].is_cumulative

    def counting(self, table: str, rows: list[PartitionRow]) -> list[PartitionRow]:
        """Those of a table's partitions, by day, that a reader of all of them sees: of states the last one."""
        made = self._sql_tables.get(table)
        if made is not None and (made.carries_on or made.state_of is not None):
            return rows[-1:]
        return rows

    def shown(self, table: str, rows: Sequence[PartitionRow], *, verify: bool = True, says_state: bool = False) -> str:
        """
        SQL of what a reader sees of a processed or report table's partitions, by day.

        Args:
            says_state: of a report that waits for senders, with what each of its days is.
        """
        made = self._sql_tables.get(table)
        if says_state and made is not None and made.has_state:
            return stated(self._store, self._ledger, list(rows), self.columns_of(table), verify=verify)
        files = self._ledger.partition_files(rows)
        if made is None or made.history_of is None or not rows:
            return relation(self._store, files, self.columns_of(table), verify=verify)
        kept = relation(self._store, files, [*self.columns_of(table), *history.KEPT], verify=verify)
        return history.shown(self._changing(made), kept, rows[-1].day)

    def _changing(self, table: SqlTable) -> Dataset:
        assert table.of_changes is not None, "only tables of changes are made of one dataset"
        return self._datasets[table.of_changes.partition(".")[2]]

    def inputs(self, table: SqlTable, day: date | None) -> str:
        """Changes whenever the partition would come out otherwise, or be said to be something else."""
        return _with_state(self._row_inputs(table, day), self._report_state(table, day))

    def _report_state(self, table: SqlTable, day: date | None) -> ReportState | None:
        """Whether a report is provisional, final or restated by now; None where that isn't said."""
        if not table.has_state or day is None:
            return None
        return self._attendance.state(table.sender_days, day, self._clock())

    def _row_inputs(self, table: SqlTable, day: date | None) -> str:
        """Changes whenever the rows would come out otherwise."""
        if table.of_changes is not None:
            return self._state_inputs(table)(day.isoformat() if day else _LAST)
        return hashlib.sha256(repr(sorted(self.made_of(table, day).items())).encode()).hexdigest()

    def made_of(self, table: SqlTable, day: date | None) -> dict[str, object]:
        """What a partition is made of, each as a digest: so that a person can be told what has changed."""
        checks = [(check.name, check.expression) for check in table.checks]
        query = (VERSION, table.sql, self._zone.key, table.history_days, checks)
        seen = self._read_by(table, day)
        return {
            "query": hashlib.sha256(repr(query).encode()).hexdigest(),
            "reads": {
                # Of its own state the content alone: on which day there last was anything to compute makes no other one of it.
                read: hashlib.sha256(
                    repr([(row.day if read != table.key else "", row.content) for row in rows]).encode()
                ).hexdigest()
                for read, rows in sorted(seen.items())
            },
        }

    def _state_inputs(self, table: SqlTable) -> Callable[[str], str]:
        """Day → the inputs of a state: every day of the history up to it, each hashed onto those before."""
        assert table.of_changes is not None
        digest = hashlib.sha256(repr((VERSION, table.sql)).encode()).hexdigest()
        days, digests = [""], [digest]
        for row in self._ledger.partitions(table.of_changes):
            digest = hashlib.sha256(f"{digest} {row.day} {row.content}".encode()).hexdigest()
            days.append(row.day)
            digests.append(digest)
        return lambda day: digests[bisect_right(days, day) - 1]

    def stale_days(self, table: SqlTable) -> list[date | None]:
        """
        Partitions whose inputs have changed since they were computed, or that never were though their inputs are there.

        Of a table that carries its state on, all days from the first of these on: each may become stale when the one before it is computed.
        Computing one whose day before came out as it was does nothing.
        """
        computed = {row.day: row.inputs for row in self._ledger.partitions(table.key)}
        if not table.is_daily:
            has_input = any(self._ledger.partitions(source) for source in table.depends_on)
            return [None] if has_input and computed.get("") != self.inputs(table, None) else []
        days = set(computed) - {NO_DAY}
        for source in table.depends_on:
            if not self._is_reference(table, source):
                days |= {row.day for row in self._ledger.partitions(source) if row.day}
        if table.of_changes is not None:
            inputs = self._state_inputs(table)
            return [date.fromisoformat(iso) for iso in sorted(days) if computed.get(iso) != inputs(iso)]
        if table.has_state and days:
            self._attendance.prefetch(table.sender_days, date.fromisoformat(min(days)), date.fromisoformat(max(days)))
        if table.carries_on:
            days = {iso for iso in days if iso >= table.first_day.isoformat()}
        stale: list[date | None] = []
        for iso in sorted(days):
            day = date.fromisoformat(iso)
            if (table.carries_on and stale) or computed.get(iso) != self.inputs(table, day):
                stale.append(day)
        return stale

    def _is_reference(self, table: SqlTable, source: str) -> bool:
        """Whether the table reads only the current state of *source*: its new days alone make no new partition, if it reads others."""
        return source not in table.reads or (
            self._is_state(source) and not all(self._is_state(other) for other in table.depends_on)
        )

    # --- computing

    def derive(self, table: SqlTable, day: date | None, *, force: bool, run_id: str) -> TableDay:
        """
        Compute a partition, unless nothing that it depends on has changed, and publish reports.

        Raises:
            DayBeforeMissing: the table carries its state on, and that of the day before was never computed.
            WarehouseError: the query fails on the data there is.
        """
        began = time.perf_counter()
        while True:
            # In one state: what is read is what the digest is of.
            with self._ledger.reading():
                seen = self._read_by(table, day)
                self._require_day_before(table, day, seen)
                row_inputs, state = self._row_inputs(table, day), self._report_state(table, day)
                inputs = _with_state(row_inputs, state)
                made_of = self.made_of(table, day)
                former_state = self._former_state(table, day) if not force else None
            former = self._ledger.partition(table.key, day)
            if former is not None and former.inputs == inputs and not force:
                self._publish_if_other(table, former)
                return Processor.describe(former, has_changed=False)
            if former is not None and former.inputs.partition(STATE_MARK)[0] == row_inputs and not force:
                # Nothing but the moment, or who has sent, is another.
                details = {
                    name_: value for name_, value in json.loads(former.details).items() if name_ not in _STATE_DETAILS
                }
                try:
                    row = self._ledger.relabel_partition(
                        former,
                        inputs=inputs,
                        details=details | _told(state),
                        run_id=run_id,
                        inputs_now=lambda: self.inputs(table, day),
                        along=self._noting(state),
                    )
                except Conflict:
                    continue
                self._publish_row(table, row)
                return Processor.describe(row, has_changed=True, seconds=time.perf_counter() - began)
            path = self._store.new_path(table.key, day.isoformat() if day else "all")
            rows = self._run(table, day, seen, path, former_state)
            file = self._store.describe(path, rows)
            quoted = parquet(self._store.absolute(path))
            failed = count_failures(self._engine, table.checks, quoted)
            if table.primary_key:
                key = ", ".join(name(column) for column in table.primary_key)
                distinct = self._engine.execute(
                    f"select count(*) from (select distinct {key} from {quoted})"
                ).fetchall()[0][0]
                failed["primary_key"] = rows - int(distinct)
            try:
                row = self._ledger.commit_partition(
                    table.key,
                    day,
                    inputs=inputs,
                    content=file.sha256,
                    file=file,
                    quarantine_file=None,
                    details={"failed_checks": failed, "bytes": file.size_bytes, "made_of": made_of} | _told(state),
                    run_id=run_id,
                    inputs_now=lambda: self.inputs(table, day),
                    along=self._noting(state),
                )
            except Conflict:
                log.info("%s %s: its inputs have changed meanwhile; computing again", table.key, day or "")
                self._store.discard(path)
                continue
            self._publish_row(table, row)
            return Processor.describe(row, has_changed=True, seconds=time.perf_counter() - began)

    def _noting(self, state: ReportState | None) -> Along:
        """Notes the version that a partition then is."""
        if state is None:
            return nothing
        return lambda connection, row: self._versions.note(connection, row, state.state, state.why)

    def _former_state(self, table: SqlTable, day: date | None) -> PartitionRow | None:
        """The newest state before *day* that is still what the history says; None when there is none, or the table is no state."""
        if table.of_changes is None or day is None:
            return None
        inputs = self._state_inputs(table)
        before = (day - timedelta(days=1)).isoformat()
        first = ""
        if table.history_of is not None:
            # What the days between have ended stands in their own partitions.
            first = next((row.day for row in reversed(self._ledger.partitions(table.history_of, "", before))), _LAST)
        for row in reversed(self._ledger.partitions(table.key, first, before)):
            if row.inputs == inputs(row.day):
                return row
        return None

    def _run(
        self,
        table: SqlTable,
        day: date | None,
        seen: Mapping[str, list[PartitionRow]],
        path: str,
        former_state: PartitionRow | None,
    ) -> int:
        engine = self._engine
        engine.execute("set TimeZone = 'UTC'")
        if table.history_of is not None:
            assert day is not None, "a history has days"
            return self._end_versions(table, day, former_state, seen[table.history_of], path)
        if former_state is not None:
            return self._advance(table, former_state, seen, path)
        if table.judges is not None:
            assert day is not None, "what is judged has days"
            self._judge(table.judges, day, seen)
        for read, rows in seen.items():
            if table.judges is not None:
                break
            layer, table_name = read.split(".", 1)
            engine.execute(f"create schema if not exists {name(layer)}")
            engine.execute(
                f"create or replace view {name(layer)}.{name(table_name)} as {self.shown(self._base(read), rows)}"
            )
        values: dict[str, object] = {"time_zone": self._zone.key}
        if day is not None:
            start, end = bounds(day, self._zone)
            values |= {"window_start": start, "window_end": end, "day": day}
        order = ", ".join(name(column) for column in table.primary_key) or "all"
        target = text(str(self._store.absolute(path).absolute()))
        try:
            copied = engine.execute(
                f"copy (select * from ({table.sql}\n) order by {order}) to {target} {COPY_OPTIONS}",
                {used: values[used] for used in table.used_parameters},
            ).fetchall()
        except duckdb.Error as error:
            raise WarehouseError(
                f"{table.key} {day or ''}: the query failed: {error}",
                f"see {table.path.name if table.path else table.sql}",
            ) from error
        return int(copied[0][0])

    def _judge(self, rules: Rules, day: date, seen: Mapping[str, list[PartitionRow]]) -> None:
        """Judge a day by rules, for the query to read."""

        def known(table: str, of_day: date, columns: Sequence[str]) -> pa.Table | None:
            rows = seen[f"{table}@{of_day}"]
            if not rows:
                return None
            wanted = ", ".join(name(column) for column in columns)
            found: Any = self._engine.sql(f"select {wanted} from ({self.shown(table, rows)})").to_arrow_table()
            made: pa.Table = found
            return made

        judged.register(
            self._engine,
            rules,
            self._datasets,
            day,
            self._zone,
            relation=lambda table: self.shown(table, seen[table]),
            known=known,
        )

    def _advance(self, table: SqlTable, state: PartitionRow, seen: Mapping[str, list[PartitionRow]], path: str) -> int:
        """Compute a state from a former one and the changes since."""
        assert table.state_of is not None
        dataset, changes = self._changing(table), seen[table.state_of]
        after = self._changes_of(table.state_of, [row for row in changes if row.day > state.day])
        query = current.advanced(
            dataset,
            self._zone,
            state=self._kept([state], list(table.types.items())),
            # Held against their hashes when the former states were made of them. Doing it again for years of history every few
            # minutes costs more than all else here.
            before=self._changes_of(table.state_of, [row for row in changes if row.day <= state.day], verify=False),
            after=after,
            is_truncated=self._is_truncated(dataset, after),
        )
        key = ", ".join(name(column) for column in table.primary_key)
        return self._write(f"select * from ({query}) order by {key}", path)

    def _end_versions(
        self, table: SqlTable, day: date, state: PartitionRow | None, changes: Sequence[PartitionRow], path: str
    ) -> int:
        """Compute what a day's changes have ended, and what stands at its end."""
        assert table.history_of is not None
        dataset = self._changing(table)
        since = self._changes_of(table.history_of, [row for row in changes if row.day == day.isoformat()])
        before = [row for row in changes if row.day < day.isoformat()]
        query = history.of_day(
            dataset,
            self._zone,
            day.isoformat(),
            state=self._kept([state], [*table.types.items(), *history.KEPT]) if state is not None else None,
            before=self._changes_of(table.history_of, before, verify=state is None),
            since=since,
            is_truncated=self._is_truncated(dataset, since),
        )
        return self._write(query, path)

    def _kept(self, rows: Sequence[PartitionRow], columns: Sequence[tuple[str, str]], *, verify: bool = True) -> str:
        """SQL of what is in the files of some partitions."""
        return relation(self._store, self._ledger.partition_files(rows), columns, verify=verify)

    def _changes_of(self, table: str, rows: Sequence[PartitionRow], *, verify: bool = True) -> str:
        return self._kept(rows, self.columns_of(table), verify=verify)

    def _is_truncated(self, dataset: Dataset, changes: str) -> bool:
        """Whether one of *changes* removes all rows."""
        versions = RowVersions(dataset, self._zone)
        if not versions.can_be_truncated:
            return False
        found = self._engine.execute(f"select count(*) from ({changes}) where {versions.truncates}").fetchall()
        return int(found[0][0]) > 0

    def _write(self, query: str, path: str) -> int:
        target = text(str(self._store.absolute(path).absolute()))
        return int(self._engine.execute(f"copy ({query}) to {target} {COPY_OPTIONS}").fetchall()[0][0])

    def _base(self, read: str) -> str:
        return read if read in self._sql_tables or self._is_dataset(read) else read.removesuffix(CURRENT)

    # --- publishing

    def published(self, table: SqlTable, day: str, ending: str) -> Path:
        """Where a partition of a report is published."""
        return self._publish / table.name / f"{day or table.name}.{ending}"

    def _noted(self, table: SqlTable, row: PartitionRow) -> Path:
        """Where it is noted of which content the published files are."""
        return self._store.root / "published" / table.name / f"{row.day or table.name}.content"

    def finish(self, writer: str, paths: Sequence[str]) -> None:
        """
        Publish what a writer that has ended had committed and may not have come to publish, and delete its half-written files.

        Args:
            writer: that is dead.
            paths: of its journal.
        """
        begun = {tuple(path.split("/")[1:4]) for path in paths if path.startswith("tables/reports/")}
        for layer, table_name, part in sorted(begun):
            table = self._sql_tables.get(f"{layer}.{table_name}")
            if table is None:
                continue
            for folder in (self._publish / table_name, self._store.root / "published" / table_name):
                for half in folder.glob(f"*.{writer}.half"):
                    half.unlink(missing_ok=True)
            row = self._ledger.partition(table.key, None if part == "all" else date.fromisoformat(part))
            if row is None:
                continue
            try:
                self._publish_if_other(table, row)
            except WarehouseDamaged as error:
                # Another table's damage fails nobody's work.
                log.warning("%s; what is published of it is older until then", error)

    def _publish_if_other(self, table: SqlTable, row: PartitionRow) -> None:
        """Publish what a killed process didn't come to, and what was deleted."""
        if table.layer != "reports":
            return
        noted = self._noted(table, row)
        is_there = all(self.published(table, row.day, ending).exists() for ending in ("csv", "parquet"))
        if not is_there or not noted.exists() or noted.read_text() != _published_as(row):
            self._publish_row(table, row)

    def _publish_row(self, table: SqlTable, row: PartitionRow) -> None:
        """Write a report's partition for readers, each file whole or not at all; the newest stands in the end, whoever writes last."""
        if table.layer != "reports":
            return
        while True:
            self._write_published(table, row)
            newest = self._ledger.partition(table.key, date.fromisoformat(row.day) if row.day else None)
            if newest is None or _published_as(newest) == _published_as(row):
                return
            row = newest

    def _write_published(self, table: SqlTable, row: PartitionRow) -> None:
        file: FileRow = self._ledger.partition_files([row])[0]
        state = state_in(row)
        source = parquet(self._store.absolute(file.path))
        shown = f"*, {text(state)} as {STATE}" if state else "*"
        folder = self.published(table, row.day, "csv").parent
        folder.mkdir(parents=True, exist_ok=True)
        noted = self._noted(table, row)
        noted.unlink(missing_ok=True)
        writer = self._store.begin_publishing(table.key, row.day or "all")
        for ending, options in (("parquet", PUBLISHED_OPTIONS), ("csv", "(format csv, header true)")):
            target = self.published(table, row.day, ending)
            half = target.with_name(f".{target.name}.{writer}.half")
            try:
                self._engine.execute(
                    f"copy (select {shown} from {source}) to {text(str(half.absolute()))} {options}"
                ).fetchall()
                half.replace(target)
            finally:
                half.unlink(missing_ok=True)
        noted.parent.mkdir(parents=True, exist_ok=True)
        half = noted.with_name(f"{noted.name}.{writer}.half")
        half.write_text(_published_as(row))
        half.replace(noted)


_STATE_DETAILS = ("state", "final_at", "late_at", "why")


def _told(state: ReportState | None) -> dict[str, str]:
    """What the ledger keeps of a state beside a partition."""
    if state is None:
        return {}
    values = {
        "state": state.state,
        "final_at": state.final_at.isoformat() if state.final_at else "",
        "late_at": state.late_at.isoformat() if state.late_at else "",
        "why": state.why,
    }
    return {name_: value for name_, value in values.items() if value}


def _with_state(row_inputs: str, state: ReportState | None) -> str:
    if state is None:
        return row_inputs
    return f"{row_inputs}{STATE_MARK}{state.state} {state.final_at.isoformat() if state.final_at else ''}"


def state_in(row: PartitionRow) -> str:
    """What a report's partition is said to be; empty where nothing is said."""
    return str(json.loads(row.details).get("state", ""))


def _published_as(row: PartitionRow) -> str:
    """What tells whether the published files are of this partition."""
    state = state_in(row)
    return f"{row.content} {state}" if state else row.content


def stated(
    store: FileStore, ledger: Ledger, rows: list[PartitionRow], columns: list[tuple[str, str]], *, verify: bool = True
) -> str:
    """SQL of partitions of a report, each row with what its partition is."""
    by_state: dict[str, list[PartitionRow]] = {}
    for row in rows:
        by_state.setdefault(state_in(row), []).append(row)
    parts = [
        f"select *, {text(state) if state else 'null'}::varchar as {STATE}"
        f" from ({relation(store, ledger.partition_files(of_it), columns, verify=verify)})"
        for state, of_it in sorted((by_state or {"": []}).items())
    ]
    return " union all ".join(parts)
