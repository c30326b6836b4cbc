"""
The DuckDB file that people open: a view for every table, and the ledger as a table.

Belongs here: writing that file. Doesn't: the data, which stays in Parquet files beside it.

The file is made anew after changes and put in the place of the former one, so that whoever has it open keeps what he opened, and
nobody ever waits for him.
"""

import atexit
import fcntl
import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from ingestion_platform.dataset import Datasets
from ingestion_platform.errors import WarehouseError
from ingestion_platform.warehouse.attendance import Attendance
from ingestion_platform.warehouse.certificates import Certificates
from ingestion_platform.warehouse.contract import QUARANTINE_COLUMNS, Contract
from ingestion_platform.warehouse.derive import Deriver
from ingestion_platform.warehouse.discards import Discards, discards_table
from ingestion_platform.warehouse.drift import DRIFT_COLUMNS, DriftEvent, as_rows
from ingestion_platform.warehouse.engine import name, relation, text
from ingestion_platform.warehouse.files import FileStore
from ingestion_platform.warehouse.ledger import Ledger
from ingestion_platform.warehouse.ledger_rows import FileRow, PartitionRow
from ingestion_platform.warehouse.sql_tables import CURRENT, STATE, SqlTables

log = logging.getLogger(__name__)

SHARE = 20.0
"""Making the file anew takes longer as the ledger grows: at most one second in so many is spent on it while runs are at work."""

PAUSE_SECONDS = 5.0
"""A process that changes one table after the other makes the file anew no more often than this, and once more when it ends."""

LEDGER_COLUMNS = {
    "dataset": "VARCHAR", "key": "VARCHAR", "day": "DATE", "state": "VARCHAR", "reason": "VARCHAR", "duplicate_of": "VARCHAR",
    "sender": "VARCHAR", "sha256": "VARCHAR", "size_bytes": "BIGINT", "landed_at": "TIMESTAMP",
    "rows_read": "BIGINT", "rows_loaded": "BIGINT",
    "rows_quarantined": "BIGINT", "unknown_columns": "VARCHAR", "missing_columns": "VARCHAR",
    "departures": "VARCHAR", "first_seen_at": "TIMESTAMP",
    "decided_at": "TIMESTAMP", "run_id": "VARCHAR", "place": "VARCHAR",
}  # fmt: skip

"""`place`: where an object is; none of a version that is no more."""

WAITING_COLUMNS = {
    "dataset": "VARCHAR", "day": "DATE", "key": "VARCHAR", "size_bytes": "BIGINT", "asked_at": "TIMESTAMP", "expected_at": "TIMESTAMP",
}  # fmt: skip
"""Objects that are to be read, and are being fetched back from an archive."""

SENDER_COLUMNS = {
    "dataset": "VARCHAR", "day": "DATE", "sender": "VARCHAR", "status": "VARCHAR", "is_expected": "BOOLEAN", "reason": "VARCHAR",
    "cutoff_at": "TIMESTAMP", "deadline_at": "TIMESTAMP", "first_landed_at": "TIMESTAMP", "last_landed_at": "TIMESTAMP",
    "objects": "BIGINT", "duplicates": "BIGINT", "rejected": "BIGINT", "corrections": "BIGINT", "rows": "BIGINT",
}  # fmt: skip
"""Who was expected to send, and what came of it; see `completeness.SenderDay`. `judged_at` beside them: by which moment."""

VERSION_COLUMNS = {
    "table_name": "VARCHAR", "day": "DATE", "version": "BIGINT", "state": "VARCHAR", "content": "VARCHAR", "rows": "BIGINT",
    "why": "VARCHAR", "at": "TIMESTAMP", "run_id": "VARCHAR",
}  # fmt: skip
"""The versions of reports that wait for senders."""


CERTIFICATE_COLUMNS = {
    "certificate": "VARCHAR", "dataset": "VARCHAR", "made_at": "TIMESTAMP", "made_by": "VARCHAR", "why": "VARCHAR",
    "first_day": "DATE", "last_day": "DATE", "table_name": "VARCHAR", "day": "DATE", "verdict": "VARCHAR",
    "rows_before": "BIGINT", "rows_after": "BIGINT", "hash_before": "VARCHAR", "hash_after": "VARCHAR",
    "added": "BIGINT", "gone": "BIGINT", "changed": "BIGINT", "reasons": "VARCHAR", "details": "VARCHAR",
}  # fmt: skip
"""What each replay with a certificate has found of each table and day."""


class Catalog:
    """
    The file of views.

    Args:
        path: of the file.
        datasets: whose tables are shown.
        sql_tables: likewise.
        ledger: what there is.
        store: where rows are.
        deriver: knows the columns of tables.
        contracts: by dataset.
        drift: tells the events of all datasets.
        attendance: who sent.
        clock: the moment, UTC.
    """

    def __init__(
        self,
        path: Path,
        datasets: Datasets,
        sql_tables: SqlTables,
        ledger: Ledger,
        store: FileStore,
        deriver: Deriver,
        contracts: Mapping[str, Contract],
        drift: Callable[[], Iterable[DriftEvent]],
        attendance: Attendance,
        clock: Callable[[], datetime],
    ) -> None:
        self._drift = drift
        self._attendance = attendance
        self._clock = clock
        self._path = path
        self._datasets = datasets
        self._sql_tables = sql_tables
        self._ledger = ledger
        self._store = store
        self._deriver = deriver
        self._contracts = contracts
        self._is_due_at_exit = False

    def publish_soon(self) -> None:
        """Publish now, or, when that was done a moment ago, before this process ends."""
        if self._age() < max(PAUSE_SECONDS, SHARE * self._took()):
            if not self._is_due_at_exit:
                self._is_due_at_exit = True
                atexit.register(self._publish_at_exit)
            return
        self.publish()

    def _publish_at_exit(self) -> None:
        # While it takes no time worth mentioning, whoever ends a run finds its tables; else the share holds here too.
        took = self._took()
        if self._ledger.exists and (took < 1 or self._age() >= SHARE * took):
            self.publish()

    def _age(self) -> float:
        """Seconds since the file was made; without end when there is none."""
        try:
            return time.time() - self._path.stat().st_mtime
        except FileNotFoundError:
            return math.inf

    def publish(self) -> None:
        """Make the file anew, unless it already shows the ledger's newest state."""
        folder = self._store.root
        if not self._ledger.exists:
            return
        with (folder / ".catalog.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            shown = folder / "catalog.commit"
            commits = self._ledger.commits()
            if shown.exists() and shown.read_text() == self._state(commits):
                return
            began = time.perf_counter()
            half = self._path.with_name(f".{self._path.name}.half")
            for leftover in (half, half.with_name(half.name + ".wal")):
                leftover.unlink(missing_ok=True)
            try:
                with duckdb.connect(str(half)) as engine:
                    self.show(engine)
                    # Closing does it too, but keeps silent when the disk is full.
                    engine.execute("checkpoint")
                half.replace(self._path)
            except (duckdb.Error, OSError) as error:
                half.unlink(missing_ok=True)
                raise WarehouseError(
                    f"{self._path} can't be made anew: {error}",
                    "is the disk full, the folder read-only, or a file damaged? `python -m ingestion_platform verify` tells",
                ) from error
            # Of somebody who had the former file open for writing: DuckDB would take it for the new one's.
            self._path.with_name(self._path.name + ".wal").unlink(missing_ok=True)
            shown.write_text(self._state(commits))
            (folder / "catalog.seconds").write_text(f"{time.perf_counter() - began:.3f}")

    def _took(self) -> float:
        """Seconds that it took to make the file the last time."""
        try:
            return float((self._store.root / "catalog.seconds").read_text())
        except (FileNotFoundError, ValueError):
            return 0.0

    def _state(self, commits: int) -> str:
        """What tells whether the file is the one that was made of this many commits and of these declarations."""
        columns = {dataset: contract.raw_columns for dataset, contract in self._contracts.items()}
        columns |= {table: self._deriver.columns_of(table) for table in self._sql_tables}
        # A cutoff that passes makes missing what was awaited, though nothing is committed.
        cutoff = self._attendance.last_cutoff(self._clock())
        declared = hashlib.sha256(repr((columns, str(self._store.root.absolute()), cutoff)).encode()).hexdigest()
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return ""
        return f"{commits} {declared} {status.st_size} {status.st_mtime_ns} {status.st_ino}"

    def show(self, engine: duckdb.DuckDBPyConnection, *, read_by: str = "") -> None:
        """
        Create every table's view in *engine*, and the ledger as tables.

        Args:
            engine: where.
            read_by: the query that will be run: files of tables that it may name are held against their hashes first.
        """
        for layer in ("raw", "processed", "reports", "platform"):
            engine.execute(f"create schema if not exists {name(layer)}")
        with self._ledger.reading():
            quarantined: list[FileRow] = []
            for dataset in self._datasets.values():
                files = self._ledger.files(dataset.raw)
                self._view(engine, dataset.raw, files, self._contracts[dataset.name].raw_columns, read_by=read_by)
                quarantined += self._ledger.files(dataset.raw, role="quarantine")
                quarantined += self._ledger.files(dataset.processed, role="quarantine")
            for table, (base, rows) in self._computed().items():
                self._table_view(engine, table, base, rows, read_by=read_by)
            self._show_ledger(engine)
            if not read_by or "drift" in read_by.lower():
                _create(engine, "drift", DRIFT_COLUMNS, as_rows(self._drift()))
            self._show_discards(engine)
            if not read_by or "senders" in read_by.lower():
                self._show_senders(engine)
            self._view(
                engine, "platform.quarantine", quarantined, QUARANTINE_COLUMNS, read_by=read_by, around=with_decisions
            )

    def _view(
        self,
        engine: duckdb.DuckDBPyConnection,
        table: str,
        files: Sequence[FileRow],
        columns: Sequence[tuple[str, str]],
        *,
        read_by: str,
        around: Callable[[str], str] = str,
    ) -> None:
        verify = _is_named(table, read_by)
        self._create_view(engine, table, lambda: around(relation(self._store, files, columns, verify=verify)), columns)

    def _table_view(
        self, engine: duckdb.DuckDBPyConnection, table: str, base: str, rows: list[PartitionRow], *, read_by: str
    ) -> None:
        """A processed or report table as readers see it; of a report that waits for senders, with what each of its days is."""
        verify = _is_named(table, read_by)
        columns = self._deriver.columns_of(base)
        if base in self._sql_tables and self._sql_tables[base].has_state:
            columns = [*columns, (STATE, "VARCHAR")]
        self._create_view(
            engine, table, lambda: self._deriver.shown(base, rows, verify=verify, says_state=True), columns
        )

    def _create_view(
        self,
        engine: duckdb.DuckDBPyConnection,
        table: str,
        source: Callable[[], str],
        columns: Sequence[tuple[str, str]],
    ) -> None:
        layer, table_name = table.split(".", 1)
        view = f"create or replace view {name(layer)}.{name(table_name)} as"
        try:
            engine.execute(f"{view} {source()}")
        except duckdb.Error as error:
            # A file whose head can't be read costs its own table, which says so to whoever asks, and no other.
            what = (
                f"{table} has a damaged file: `python -m ingestion_platform repair` makes it anew from the landing zone"
            )
            log.warning("%s: %s", what, str(error).splitlines()[0])
            selected = ", ".join(f"null::{kind} as {name(column)}" for column, kind in columns)
            engine.execute(f"{view} select {selected} where error({text(what)})::varchar is null")

    def _show_discards(self, engine: duckdb.DuckDBPyConnection) -> None:
        discards = Discards(self._ledger)
        tables = [discards_table(name, discards.effective(name)) for name in self._datasets]
        engine.register("arriving", pa.concat_tables([discards_table("", ()), *tables]))
        engine.execute(
            "create or replace table platform.discards as"
            " select * replace (timezone('UTC', discarded_at) as discarded_at) from arriving"
        )
        engine.unregister("arriving")

    def _computed(self) -> dict[str, tuple[str, list[PartitionRow]]]:
        """Name → the table it shows, and the partitions that count of it."""
        tables = {}
        for dataset in self._datasets.values():
            tables[dataset.processed] = (dataset.processed, self._ledger.partitions(dataset.processed))
            if dataset.kind == "snapshots":
                newest = self._ledger.partition_as_of(dataset.processed, date.max)
                tables[dataset.processed + CURRENT] = (dataset.processed, [newest] if newest else [])
        for key in self._sql_tables:
            tables[key] = (key, self._deriver.counting(key, self._ledger.partitions(key)))
        return tables

    def _show_ledger(self, engine: duckdb.DuckDBPyConnection) -> None:
        with self._ledger.reading() as connection:
            rows = connection.execute(
                f"select {', '.join(list(LEDGER_COLUMNS)[:-1])}, iif(is_current, coalesce(place, 'hot'), null)"
                " from objects left join places using (key) order by dataset, key, first_seen_at"
            ).fetchall()
            waits = connection.execute(f"select {', '.join(WAITING_COLUMNS)} from waits order by 1, 2, 3").fetchall()
            versions = connection.execute(
                f"select {', '.join(VERSION_COLUMNS)} from versions order by 1, 2, 3"
            ).fetchall()
            parts = connection.execute(
                "select table_name, nullif(day, ''), rows, content, computed_at, run_id, details from partitions order by 1, 2"
            ).fetchall()
        _create(engine, "ledger", LEDGER_COLUMNS, [tuple(row) for row in rows])
        _create(engine, "waiting", WAITING_COLUMNS, [tuple(row) for row in waits])
        _create(engine, "versions", VERSION_COLUMNS, [tuple(row) for row in versions])
        columns = {
            "table_name": "VARCHAR", "day": "DATE", "rows": "BIGINT", "content": "VARCHAR", "computed_at": "TIMESTAMP", "run_id": "VARCHAR",
            "details": "VARCHAR",
        }  # fmt: skip
        _create(engine, "partitions", columns, [tuple(row) for row in parts])
        # A table without days has none.
        made = [(*row[:8], row[8] or None, *row[9:]) for row in Certificates(self._ledger).rows()]
        _create(engine, "certificates", CERTIFICATE_COLUMNS, made)

    def _show_senders(self, engine: duckdb.DuckDBPyConnection) -> None:
        moment = self._clock()
        rows = [
            (
                row.dataset, row.day.isoformat(), row.sender, row.status, str(row.is_expected).lower(), row.reason,
                *(at.isoformat() if at is not None else None
                  for at in (row.cutoff_at, row.deadline_at, row.first_landed_at, row.last_landed_at)),
                row.objects, row.duplicates, row.rejected, row.corrections, row.rows, moment.isoformat(),
            )
            for row in self._attendance.everything(moment)
        ]  # fmt: skip
        _create(engine, "senders", SENDER_COLUMNS | {"judged_at": "TIMESTAMP"}, rows)


def with_decisions(rows: str) -> str:
    """SQL of quarantined rows with who sent them, and who has discarded them, when and why."""
    return (
        "select q.*, l.sender, d.discarded_at, d.discarded_by, d.discarded_why"
        f" from ({rows}) as q"
        " left join (select dataset, key, sender from platform.ledger where place is not null) as l"
        " on l.dataset = q.dataset and l.key = q._object"
        " left join platform.discards as d"
        " on d.dataset = q.dataset and d.discarded_object = q._object and q._row between d.first_row and d.last_row"
    )


def _is_named(table: str, query: str) -> bool:
    return table.split(".", 1)[1].lower() in query.lower()


def _create(
    engine: duckdb.DuckDBPyConnection, table: str, columns: Mapping[str, str], rows: list[tuple[Any, ...]]
) -> None:
    values = {column: [row[index] for row in rows] for index, column in enumerate(columns)}
    kinds = [(column, pa.int64() if kind == "BIGINT" else pa.string()) for column, kind in columns.items()]
    arrow = pa.Table.from_pydict(values, schema=pa.schema(kinds))
    engine.register("arriving", arrow)
    # Moments are written with their offset, and mean UTC.
    selected = ", ".join(
        f"timezone('UTC', {name(column)}::timestamptz) as {name(column)}"
        if kind == "TIMESTAMP"
        else f"{name(column)}::{kind} as {name(column)}"
        for column, kind in columns.items()
    )
    engine.execute(f"create or replace table platform.{name(table)} as select {selected} from arriving")
    engine.unregister("arriving")
