"""
The warehouse as the rest of the platform sees it: load, process, derive, and questions.

Belongs here: putting the parts together, and answering. Doesn't: any of the work itself.

No call holds anything that another process could wait for longer than a few milliseconds; see `docs/decisions/`.
"""

import logging
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from types import TracebackType
from typing import Self

import duckdb
import pyarrow as pa

from ingestion_platform.api import ApiPages
from ingestion_platform.completeness import SenderDay, near_senders
from ingestion_platform.dataset import Dataset, Datasets
from ingestion_platform.errors import DeclarationError, NotMaterialized, WarehouseError
from ingestion_platform.landing import LandedObject, LandingZone
from ingestion_platform.rules.notes import Note
from ingestion_platform.settings import Settings
from ingestion_platform.stream import StreamSegments
from ingestion_platform.warehouse.adopt import Adopter
from ingestion_platform.warehouse.agreement import Agreement, as_moment, compare, read_notes
from ingestion_platform.warehouse.attendance import Attendance
from ingestion_platform.warehouse.catalog import Catalog
from ingestion_platform.warehouse.certificates import Certificates, Certified
from ingestion_platform.warehouse.contract import Contract
from ingestion_platform.warehouse.decided import LandedDecisions
from ingestion_platform.warehouse.derive import Deriver
from ingestion_platform.warehouse.discards import Discards
from ingestion_platform.warehouse.drift import DriftEvent, Drifts
from ingestion_platform.warehouse.engine import connect, name, relation
from ingestion_platform.warehouse.excuses import Excuses, require_excuse
from ingestion_platform.warehouse.files import FileStore
from ingestion_platform.warehouse.forgotten import Forgotten
from ingestion_platform.warehouse.ledger import Ledger
from ingestion_platform.warehouse.load import Loader, Progress
from ingestion_platform.warehouse.personal import Reading
from ingestion_platform.warehouse.places import Places
from ingestion_platform.warehouse.process import Processor
from ingestion_platform.warehouse.receipts import Receipts
from ingestion_platform.warehouse.results import EVERYTHING, Only, RawDay, SenderReport, TableDay, Waiting
from ingestion_platform.warehouse.small_files import SmallFiles
from ingestion_platform.warehouse.sql_tables import STATE, SqlTable, SqlTables
from ingestion_platform.warehouse.told_lines import ToldLines
from ingestion_platform.warehouse.versions import Versions

log = logging.getLogger(__name__)

ALERTS = "alerts"
"""The dataset that alerts of live rules land as."""
KEEP_DROPPED = timedelta(hours=24)
"""How long a file that left its table stays on disk, for whoever still reads the state it belongs to."""


@dataclass(frozen=True, slots=True)
class ColumnDoc:
    """A column as docs and the UI show it."""

    name: str
    type: str
    description: str


_GIVE_A_TABLE = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.MULTI)

PLATFORM_DOCS = {
    STATE: "`provisional` while senders are waited for, `final`, or `restated` when something came after that.",
    "_extra": "What the record has beyond the declared columns, as JSON.",
    "_object": "Key of the landed object that the row came in.",
    "_row": "The record's number in its object, from 1.",
    "_landed_on": "Day of the object's key.",
    "_shard": "Shard or partition of the stream.",
    "_position": "The record's position in its shard; behind a colon its number, where the source held several records as one."
    " Of an API's record: its fetch, and behind a colon its number there.",
    "_fetched_at": "When the API was asked, UTC.",
    "_extracted_at": "The moment whose state of the database it is, UTC.",
    "_url": "What it was asked, without secrets.",
    "_page": "Number of the page.",
    "_arrived_at": "When the stream took the record, UTC.",
    "_key": "The record's key.",
    "_headers": "The record's headers, as a JSON array of name and value.",
}


class Warehouse:
    """
    One warehouse, in one process. Making it touches nothing; the first call does.

    Args:
        settings: where it is, and what it may use.
        landing: where objects come from.
        datasets: all of them.
        sql_tables: all of them.
        store: where files are; default: beside the warehouse's file.
        clock: the moment, UTC, by which senders are late and reports final.
    """

    def __init__(
        self,
        settings: Settings,
        landing: LandingZone,
        datasets: Datasets,
        sql_tables: SqlTables,
        *,
        store: FileStore | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.settings = settings
        self.landing = landing
        self.datasets = datasets
        self.sql_tables = sql_tables
        self.folder = settings.warehouse_folder
        self.ledger = Ledger(self.folder / "ledger.sqlite")
        self.places = Places(self.ledger)
        self.decisions = LandedDecisions(landing)
        self.discards = Discards(self.ledger)
        self.certificates = Certificates(self.ledger)
        self.forgotten = Forgotten(self.ledger, landing)
        self._taken_in: set[str] = set()
        self.store = store or FileStore(self.folder)
        self.clock = clock
        self.receipts = Receipts(self.ledger, landing)
        self.versions = Versions(self.ledger)
        self.told_lines = ToldLines(self.ledger)
        self.excuses = Excuses(self.ledger, landing)
        self.attendance = Attendance(
            datasets, self.ledger, self.store, lambda: self.engine, self.receipts, self.excuses.of, settings.zone
        )
        self._contracts = {dataset.name: Contract(dataset, settings.zone) for dataset in datasets.values()}
        self._engine: duckdb.DuckDBPyConnection | None = None
        self._has_swept = False
        self._commits = -1

    # --- parts

    @property
    def engine(self) -> duckdb.DuckDBPyConnection:
        """The engine of this warehouse alone."""
        if self._engine is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._engine = connect(
                threads=self.settings.threads, memory_limit=self.settings.memory_limit, spill=self.folder / "spill"
            )
        return self._engine

    def _loader(self, dataset: Dataset) -> Loader:
        return Loader(
            self._contracts[dataset.name],
            self.landing,
            self.ledger,
            self.places,
            self.store,
            self.engine,
            self.settings.threads,
            self.receipts,
            self.forgotten,
        )

    def _processor(self, dataset: Dataset) -> Processor:
        salt = self.settings.pii_salt.get_secret_value() if self.settings.pii_salt else None
        contract = self._contracts[dataset.name]
        return Processor(contract, self.datasets, self.ledger, self.store, self.engine, salt, self._adopter(dataset))

    def _adopter(self, dataset: Dataset) -> Adopter:
        return Adopter(self._contracts[dataset.name], self.ledger, self.store, self.engine)

    def _small_files(self, dataset: Dataset) -> SmallFiles:
        return SmallFiles(self._contracts[dataset.name], self.ledger, self.store, self.engine)

    @property
    def _deriver(self) -> Deriver:
        return Deriver(
            self.datasets,
            self.sql_tables,
            self.ledger,
            self.store,
            self.engine,
            self.settings.zone,
            self.settings.publish,
            self.attendance,
            self.versions,
            self.clock,
        )

    @property
    def _catalog(self) -> Catalog:
        return Catalog(
            self.settings.warehouse,
            self.datasets,
            self.sql_tables,
            self.ledger,
            self.store,
            self._deriver,
            self._contracts,
            self.drift,
            self.attendance,
            self.clock,
        )

    # --- work

    def load(
        self,
        dataset: Dataset,
        day: date,
        *,
        reload: bool = False,
        only: Only = EVERYTHING,
        run_id: str = "",
        progress: Progress | None = None,
    ) -> RawDay:
        """
        Load a day's new and changed objects into raw, exactly once.

        Args:
            reload: read every object of the day again, known or not.
            only: what it may take; what else has come stays news. Nothing waits for what is left out.
            run_id: noted in the ledger.
            progress: told of each object that was read: its number, how many there are, its rows.

        Raises:
            LandingUnavailable: the landing zone gave no answer; nothing was loaded, and the next load goes on.
            WarehouseError: part of an API's fetch was asked for, which counts as a whole.
            WarehouseDamaged: the ledger isn't what was written.
        """
        with self._told(f"{dataset.raw} {day}"):
            self._sweep()
            if dataset.name not in self._taken_in:
                self.take_in(dataset)
            touched, _ = self._adopter(dataset).adopt(day, day, run_id=run_id)
            loaded = self._loader(dataset).load(day, reload=reload, only=only, run_id=run_id, progress=progress)
            if loaded.new_keys:
                self._put_together(dataset, day, run_id)
            others = {date.fromisoformat(home) for home in touched}
            return replace(loaded, touched_days=tuple(sorted({*loaded.touched_days, *others}))) if others else loaded

    def take(self, dataset: Dataset, day: date, keys: Sequence[str], *, run_id: str = "") -> set[date]:
        """
        Load some objects of a day, exactly once, without looking what else it has: what a load costs doesn't grow with the day.

        Args:
            keys: of objects that have landed.
            run_id: noted in the ledger.

        Returns:
            The processed days touched.

        Raises:
            LandingUnavailable, WarehouseDamaged: see `load`.
            WarehouseError: which objects of this dataset count is told by all of them.
        """
        with self._told(f"{dataset.raw} {day}"):
            self._sweep()
            if dataset.name not in self._taken_in:
                self.take_in(dataset)
            touched = self._loader(dataset).take(day, keys, run_id=run_id)
            self._put_together(dataset, day, run_id)
            return touched

    def _put_together(self, dataset: Dataset, day: date, run_id: str) -> None:
        """Put a day's small files together. What has been loaded is loaded, whatever comes of that."""
        try:
            self._small_files(dataset).put_together(day, run_id=run_id)
        except (WarehouseError, OSError, duckdb.Error) as error:
            # A damaged file is told by whoever reads it, and a full disk by whoever writes next.
            log.warning("%s %s: its small files stay as they are: %s", dataset.raw, day, error)

    def take_in(self, dataset: Dataset) -> None:
        """
        Take in what people have decided about a dataset; done by the first load of each process, too.

        Raises:
            LandingUnavailable: the landing zone gave no answer.
        """
        if not self._taken_in:
            self.forgotten.take_in()
        self.discards.take_in(self.decisions, dataset.name)
        self.certificates.take_in(self.decisions, dataset.name)
        if dataset.senders is not None:
            self.excuses.take_in(dataset)
        self._taken_in.add(dataset.name)

    def process(self, dataset: Dataset, day: date, *, force: bool = False, run_id: str = "") -> TableDay:
        """
        Compute a processed day, unless nothing that it depends on has changed.

        Args:
            force: compute in any case.
            run_id: noted in the ledger.

        Raises:
            SettingsError: a column is to be hashed and there is no salt.
            WarehouseDamaged: a file isn't what was written.
        """
        with self._told(f"{dataset.processed} {day}"):
            self._sweep()
            return self._processor(dataset).process(day, force=force, run_id=run_id)

    def derive(self, table: SqlTable, day: date | None, *, force: bool = False, run_id: str = "") -> TableDay:
        """
        Compute a SQL table's partition, unless nothing that it depends on has changed; publish it when it is a report.

        Args:
            day: None for a table without days.
            force: compute in any case.
            run_id: noted in the ledger.

        Raises:
            DayBeforeMissing: the table carries its state on, and that of the day before was never computed.
            WarehouseError: the query fails on the data there is.
        """
        with self._told(f"{table.key} {day or ''}".strip()):
            self._sweep()
            return self._deriver.derive(table, day, force=force, run_id=run_id)

    def missing_before(self, table: SqlTable, day: date) -> list[date]:
        """The days of a state that is carried on which must be computed before *day* can be, in their order."""
        return self._deriver.missing_before(table, day)

    @staticmethod
    @contextmanager
    def _told(work: str) -> Iterator[None]:
        """Say of an error of the disk or the engine what it came to pass in."""
        try:
            yield
        except (OSError, duckdb.IOException) as error:
            raise WarehouseError(
                f"{work}: a file can't be written or read: {error}",
                "is the disk full, or the folder read-only? Nothing half is in the tables: run again when that is mended",
            ) from error
        except duckdb.OutOfMemoryException as error:
            raise WarehouseError(
                f"{work}: {error}", "more memory or disk: see INGESTION_MEMORY_LIMIT, or lower INGESTION_THREADS"
            ) from error

    def publish(self) -> None:
        """Bring the file that people open up to date."""
        if self.ledger.exists:
            self._catalog.publish()

    def close(self) -> None:
        """Bring the file that people open up to date, now or when this process ends, and let go of everything."""
        try:
            if self.ledger.exists and self.ledger.commits() != self._commits:
                self._commits = self.ledger.commits()
                self._catalog.publish_soon()
        except WarehouseError as error:
            # What was to be done is done and committed: a damaged file of another table fails nobody's work.
            log.warning("%s; it shows an older state until then", error)
        finally:
            self._let_go()

    def _let_go(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None
        self.store.close()
        self.ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _sweep(self) -> None:
        """Once per process: delete what killed runs and replaced tables left."""
        if self._has_swept:
            return
        self._has_swept = True
        swept = self.store.sweep(self.ledger.known_paths, self._deriver.finish)
        if swept:
            log.info("swept up %d files that a killed run had begun", len(swept))
        # Files first: what a kill leaves is then still in the ledger for the next one.
        held = self.certificates.held_paths()
        dropped = [path for path in self.ledger.dropped(datetime.now(UTC) - KEEP_DROPPED) if path not in held]
        for path in dropped:
            self.store.discard(path)
        self.ledger.forget(dropped)

    def ledger_forgets_decision(self, key: str) -> None:
        """Strike out a decision that was removed from the landing zone, because another one says the same of what is there now."""
        self.discards.strike(key)
        self.certificates.strike(key)
        self.excuses.strike(key)

    # --- questions

    def reading(self, dataset: Dataset) -> Reading:
        """How a dataset's objects are read."""
        return self._loader(dataset).reading()

    def raw_columns(self, dataset: Dataset) -> Sequence[tuple[str, str]]:
        """Name and type of each column of a raw table."""
        return self._contracts[dataset.name].raw_columns

    def listing(self, dataset: Dataset, day: date) -> list[LandedObject]:
        """What has landed for a day."""
        return self._loader(dataset).listing(day)

    def news(self, dataset: Dataset, day: date, objects: Sequence[LandedObject]) -> tuple[LandedObject, ...]:
        """
        Those of a day's objects that a load would read: new, changed, still being written when last seen, or to be read otherwise by now.

        Args:
            objects: as `listing` gave them.
        """
        return self._loader(dataset).news(day, objects)

    def waiting(self, dataset: Dataset, day: date | None = None) -> tuple[Waiting, ...]:
        """Objects that are to be read and are being fetched back from an archive, of one day or of all, by key."""
        return tuple(self.places.waits(dataset.name, day).values())

    def raw_day(self, dataset: Dataset, day: date) -> RawDay:
        """A raw partition as it stands."""
        return self._loader(dataset).day(day)

    def table_day(self, table: str, day: date | None) -> TableDay | None:
        """A processed or report partition as it stands; None when it was never computed."""
        row = self.ledger.partition(table, day)
        return Processor.describe(row, has_changed=False) if row else None

    def days(self, table: str) -> list[date]:
        """The days that a table has."""
        layer, table_name = table.split(".", 1)
        if layer == "raw":
            return self.ledger.object_days(table_name)
        return [date.fromisoformat(row.day) for row in self.ledger.partitions(table) if row.day]

    def newest_day(self, dataset: Dataset) -> date | None:
        """The last day that raw knows an object of; None when it knows none."""
        return self.ledger.newest_object_day(dataset.name)

    def stale_days(self, table: str) -> list[date | None]:
        """
        Partitions of a processed or report table whose inputs have changed since they were computed, or that never were though
        inputs are there.

        A pure function of the ledger, the declarations and the SQL: asking changes nothing.
        """
        if table in self.sql_tables:
            return self._deriver.stale_days(self.sql_tables[table])
        return list(self._processor(self.datasets[table.split(".", 1)[1]]).stale_days())

    def inputs(self, table: str, day: date | None) -> str:
        """A digest of what a processed or report partition would be computed from now; the same until something changes."""
        if table in self.sql_tables:
            return self._deriver.inputs(self.sql_tables[table], day)
        assert day is not None, "processed datasets have days"
        dataset = self.datasets[table.split(".", 1)[1]]
        return self._processor(dataset).inputs(day, self.ledger.raw_days(dataset.name).get(day, "0"))

    def certified(self, table: str, day: date | None) -> Certified | None:
        """What the newest certificate of a replay says of a partition; None when none speaks of it."""
        return self.certificates.last(table, day)

    def partitions_read(self, table: str, day: date | None) -> set[tuple[str, date | None]]:
        """The partitions that a SQL table's day is made of: table and day of each."""
        return self._deriver.partitions_read(self.sql_tables[table], day)

    def senders(self, dataset: Dataset, day: date) -> SenderReport:
        """Who was expected to send on a day, by the roster as of that day and the calendar, and what came of it by now."""
        moment = self.clock()
        rows = self.attendance.rows(dataset, day, day, moment)
        cutoffs = [row.cutoff_at for row in rows] or list(self.attendance.cutoffs(dataset, day))
        return SenderReport(tuple(rows), moment, self.attendance.final_at(dataset, day), max(cutoffs, default=None))

    def sender_days(self, dataset: Dataset, first: date, last: date) -> list[SenderDay]:
        """One row a sender and day: who was expected, and what came of it by now. By day and sender."""
        return self.attendance.rows(dataset, first, last, self.clock())

    def excuse(
        self,
        dataset: Dataset,
        senders: Sequence[str],
        first: date,
        last: date,
        *,
        by: str,
        why: str,
        is_withdrawn: bool = False,
    ) -> str:
        """
        Expect nothing of senders for some days; see `Excuses.excuse`.

        Raises:
            DeclarationError: the dataset has no senders, the days are none, or nothing knows one of these senders on them.
            LandingError: it can't land.
        """
        require_excuse(dataset, senders, first, last)
        known = {row.sender for row in self.sender_days(dataset, first, last)}
        unknown = sorted(set(senders) - known)
        # Where the roster itself hasn't come, nobody can say who is unknown; and what was mistaken once can be taken back.
        if known and unknown and not is_withdrawn:
            raise DeclarationError(
                f"dataset {dataset.name!r}: nothing is known of a sender {unknown[0]!r} from {first} to {last}",
                near_senders(unknown[0], known),
            )
        return self.excuses.excuse(
            dataset, senders, first, last, by=by, why=why, at=self.clock(), is_withdrawn=is_withdrawn
        )

    def drift(self, dataset: Dataset | None = None) -> list[DriftEvent]:
        """
        Columns that came, went, changed their name or type, of one dataset or of all: the first that began first.

        A pure function of what is loaded and processed.
        """
        found: list[DriftEvent] = []
        for one in self.datasets.values() if dataset is None else [dataset]:
            found += Drifts(self._contracts[one.name], self.ledger, self.store, self.engine).events()
        return found

    def volume(self, table: str, day: date, trailing: int = 14) -> list[int]:
        """Rows of the trailing days that exist, oldest first, *day* left out."""
        first, last = day - timedelta(days=trailing), day - timedelta(days=1)
        layer, table_name = table.split(".", 1)
        if layer == "raw":
            return self.ledger.rows_by_day(table_name, first, last)
        return [row.rows for row in self.ledger.partitions(table, first.isoformat(), last.isoformat())]

    def usual_volume(self, table: str, day: date, trailing: int = 14) -> float | None:
        """Median rows of the trailing days; None with fewer than three of them."""
        rows = self.volume(table, day, trailing)
        return statistics.median(rows) if len(rows) >= 3 else None

    def unknown_types(self, dataset: Dataset, day: date) -> dict[str, int]:
        """
        What a dataset that takes the rest of its stream holds of a raw day.

        Returns:
            Type → rows, the most frequent first; records without a type under an empty one. Nothing for any other dataset.
        """
        source = dataset.source
        if not (isinstance(source, StreamSegments) and source.takes_the_rest):
            return {}
        column = next(column for column in dataset.columns if column.field == source.routed_by)
        files = self.ledger.files(dataset.raw, first=day, last=day)
        if not files:
            return {}
        rows = relation(self.store, files, [(column.name, "VARCHAR")])
        return dict(
            self.engine.execute(
                f"select coalesce({name(column.name)}, ''), count(*) from ({rows}) group by 1 order by 2 desc, 1"
            ).fetchall()
        )

    def rows_as_of(
        self, dataset: Dataset, columns: Sequence[str], day: date, *, where: str = ""
    ) -> list[tuple[str, ...]]:
        """
        The rows of a snapshots dataset as they stood on a day.

        Args:
            dataset: whose.
            columns: which of its columns, as text.
            day: business day.
            where: a condition on its columns, in SQL; empty: every row.

        Returns:
            Distinct, in order; rows in which one of these is NULL are left out.

        Raises:
            NotMaterialized: it has nothing up to that day.
            WarehouseError: the condition isn't one.
        """
        found = self.ledger.partition_as_of(dataset.processed, day) if self.ledger.exists else None
        if found is None:
            raise NotMaterialized(
                f"{dataset.processed} has nothing as of {day}",
                f"materialize {dataset.processed.replace('.', '/')} first",
            )
        types = self._contracts[dataset.name].processed_columns
        source = relation(self.store, self.ledger.partition_files([found]), types)
        wanted = ", ".join(f"{name(column)}::varchar as {name(column)}" for column in columns)
        conditions = [f"{name(column)} is not null" for column in columns] + ([f"({where})"] if where else [])
        try:
            return self.engine.execute(
                f"select distinct {wanted} from ({source}) where {' and '.join(conditions)} order by all"
            ).fetchall()
        except (duckdb.BinderException, duckdb.ParserException) as error:
            raise WarehouseError(
                f"{dataset.processed}: the condition {where!r} can't be understood: {error}",
                "as in opened_on < '2024-10-01'",
            ) from error

    def newest_content(self, table: str, day: date) -> str | None:
        """Changes whenever the newest partition of a table up to a day is another; None when there is none."""
        row = self.ledger.partition_as_of(table, day) if self.ledger.exists else None
        return f"{row.day} {row.content}" if row is not None else None

    def newest_rows(self, table: str, day: date, columns: Sequence[str]) -> pa.Table | None:
        """
        Some columns of the newest partition of a processed table up to a day.

        Returns:
            None when there is none.

        Raises:
            WarehouseDamaged: a file isn't what was written.
        """
        row = self.ledger.partition_as_of(table, day) if self.ledger.exists else None
        if row is None:
            return None
        wanted = ", ".join(name(column) for column in columns)
        return _arrow(self.engine.sql(f"select {wanted} from ({self._deriver.shown(table, [row])})"))

    def agreement(self, table: SqlTable, day: date) -> Agreement:
        """
        How the alerts that were raised live on a day agree with those of a table that judges; see `agreement.py`.

        Raises:
            LandingError: what workers noted can't be read.
        """
        assert table.judges is not None, "it judges"
        live = self.ledger.partition(f"processed.{ALERTS}", day)
        batch = self.ledger.partition(table.key, day)
        kinds = self._contracts[ALERTS].processed_columns
        return compare(
            self.engine,
            day,
            live=relation(self.store, self.ledger.partition_files([live] if live else []), kinds),
            batch=relation(
                self.store, self.ledger.partition_files([batch] if batch else []), list(table.types.items())
            ),
            noted=read_notes(self.landing, day),
            rules=table.judges,
            arrivals=lambda dataset, subject: self._last_arrival(dataset, day, subject),
            content=self.newest_content,
        )

    def judged_live(self, day: date) -> list[Note]:
        """
        What workers noted of judging a day live, by time.

        Raises:
            LandingError: it can't be read.
        """
        return read_notes(self.landing, day)

    def _last_arrival(self, dataset: Dataset, day: date, subject: str) -> datetime | None:
        """When the last record arrived of the rows of a day, and the one before, that fulfil a condition; UTC."""
        contract, before = self._contracts[dataset.name], day - timedelta(days=1)
        rows = self.ledger.partitions(dataset.processed, before.isoformat(), day.isoformat())
        processed = relation(self.store, self.ledger.partition_files(rows), contract.processed_columns, verify=False)
        last = day + timedelta(days=dataset.daily.allowed_lateness_days)
        files = self.ledger.files(dataset.raw, first=before, last=last)
        raw = relation(self.store, files, contract.raw_columns, verify=False)
        found = self.engine.execute(
            f"select max(raw._arrived_at) from ({raw}) as raw"
            f" semi join (select _object, _row from ({processed}) where {subject}) as rows using (_object, _row)"
        ).fetchall()
        return as_moment(found[0][0])

    def columns(self, table: str) -> tuple[ColumnDoc, ...]:
        """A table's columns with their docs."""
        layer, table_name = table.split(".", 1)
        if table in self.sql_tables:
            sql_table = self.sql_tables[table]
            state = (ColumnDoc(STATE, "VARCHAR", PLATFORM_DOCS[STATE]),) if sql_table.has_state else ()
            docs_of = sql_table.columns
            return (*(ColumnDoc(column, kind, docs_of[column]) for column, kind in sql_table.types.items()), *state)
        dataset = self.datasets[table_name]
        contract = self._contracts[table_name]
        kinds = contract.raw_columns if layer == "raw" else contract.processed_columns
        docs = {column.name: column.description for column in dataset.columns} | PLATFORM_DOCS
        docs["_day"] = "Day of the object's key." if layer == "raw" else "Business day of the row; the partition."
        return tuple(ColumnDoc(column, kind, docs[column]) for column, kind in kinds)

    def read(self, table: str, *, first: date | None = None, last: date | None = None) -> pa.Table:
        """
        Read a table, or some days of it. Sees one committed state, and is in nobody's way.

        Raises:
            NotMaterialized: there is no such table, or nothing of it in these days.
        """
        source = self._source(table, first, last)
        return _arrow(self.engine.sql(source))

    def query(self, sql: str) -> pa.Table:
        """
        Run a query over all tables, on one committed state.

        Raises:
            WarehouseError: it can't be run, or gives no table.
        """
        self._catalog.show(self.engine, read_by=sql)
        try:
            statements = self.engine.extract_statements(sql)
            # Anything else would seem to be done, and be gone with this engine. MULTI is how a pivot is taken apart.
            if [each.type for each in statements] in ([kind] for kind in _GIVE_A_TABLE):
                return _arrow(self.engine.sql(sql))
        except duckdb.Error as error:
            raise WarehouseError(f"the query failed: {error}", "one select statement, in DuckDB's SQL") from error
        raise WarehouseError(f"the query gives no table: {sql}", "one select statement, in DuckDB's SQL")

    def _source(self, table: str, first: date | None, last: date | None) -> str:
        layer, _, table_name = table.partition(".")
        if table_name in self.datasets and layer == "raw":
            files = self.ledger.files(table, first=first, last=last)
            if files:
                return relation(self.store, files, self._contracts[table_name].raw_columns)
        elif (table_name in self.datasets and layer == "processed") or table in self.sql_tables:
            is_made = table in self.sql_tables and self.sql_tables[table].is_cumulative
            rows = self.ledger.partitions(
                # Whatever day is asked for: what all days up to the last one have made.
                table,
                first.isoformat() if first and not is_made else "",
                last.isoformat() if last else "9999-12-31",
            )
            rows = self._deriver.counting(table, rows)
            if rows:
                return self._deriver.shown(table, rows, says_state=True)
        else:
            known = [dataset.raw for dataset in self.datasets.values()] + [
                dataset.processed for dataset in self.datasets.values()
            ]
            raise NotMaterialized(f"there is no table {table!r}", f"tables: {', '.join([*known, *self.sql_tables])}")
        days = f" from {first or '…'} to {last or '…'}" if first or last else ""
        raise NotMaterialized(
            f"{table} has nothing yet{days}",
            f"dagster asset materialize -m ingestion_platform.definitions --select {table.replace('.', '/')}",
        )

    def count_by_object(self, raw_table: str, role: str) -> dict[str, int]:
        """
        Count what raw's files hold of each object.

        Args:
            raw_table: `raw.sales`.
            role: `rows`, or `quarantine` for the records that couldn't be read.
        """
        source = relation(self.store, self.ledger.files(raw_table, role=role), [("_object", "VARCHAR")])
        return dict(self.engine.execute(f"select _object, count(*) from ({source}) group by 1").fetchall())

    def preview(self, table: str, day: date | None, limit: int = 10) -> pa.Table:
        """The first rows of a partition, for showing: nothing personal, no values of undeclared columns."""
        layer, _, table_name = table.partition(".")
        source = self._source(table, day, day)
        shown = "*"
        if layer == "raw":
            hidden = [
                f"'(personal)' as {name(column.name)}"
                for column in self.datasets[table_name].columns
                if column.pii is not None
            ]
            if hidden and isinstance(self.datasets[table_name].source, StreamSegments):
                hidden += ["'(personal)' as _key", "'(personal)' as _headers"]
            if hidden and isinstance(self.datasets[table_name].source, ApiPages):
                hidden += ["'(personal)' as _url"]
            shown = f"* replace ({', '.join([*hidden, 'json_keys(_extra)::varchar as _extra'])})"
        order = "order by _object, _row" if layer in ("raw", "processed") and table not in self.sql_tables else ""
        return _arrow(self.engine.sql(f"select {shown} from ({source}) {order} limit {int(limit)}"))


def _arrow(relation: duckdb.DuckDBPyRelation) -> pa.Table:
    table: pa.Table = relation.to_arrow_table()
    return table
