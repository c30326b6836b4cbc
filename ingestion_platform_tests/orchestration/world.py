"""A warehouse in memory for tests of orchestration: it counts what it is asked, and fails, rejects and unbalances where it is told to."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pyarrow as pa

from ingestion_platform.completeness import SenderDay, Status
from ingestion_platform.dataset import Daily, Dataset, Datasets, LandedFiles
from ingestion_platform.format import Csv
from ingestion_platform.landing import LandedObject
from ingestion_platform.orchestration.build import build_definitions
from ingestion_platform.orchestration.graph import Graph, asset_key
from ingestion_platform.orchestration.resource import WarehouseResource
from ingestion_platform.orchestration.runs import RANGE_END, RANGE_START
from ingestion_platform.senders import senders_from
from ingestion_platform.settings import Settings
from ingestion_platform.table import INTEGER, TIMESTAMP, VARCHAR, Check, Column, Mask
from ingestion_platform.warehouse import (
    Balance,
    Certified,
    ColumnDoc,
    DriftEvent,
    LedgerEntry,
    Only,
    RawDay,
    SenderReport,
    SqlTable,
    SqlTables,
    TableDay,
    Waiting,
    Warehouse,
)
from ingestion_platform.warehouse.results import EVERYTHING

ROWS = 10
"""Rows of every object of the fake."""
ZONE = ZoneInfo("Africa/Johannesburg")
TODAY = date(2024, 10, 20)


def shops() -> Dataset:
    """A roster."""
    return Dataset(
        name="shops",
        description="One row per shop.",
        kind="snapshots",
        source=LandedFiles("shops/%Y/%m/%d/shops.csv", Csv()),
        columns=(Column("shop_id", VARCHAR, "Its number.", required=True),),
        primary_key=("shop_id",),
        daily=Daily(date(2024, 10, 1)),
    )


def tills(**changes: object) -> Dataset:
    """Events with late rows, senders, references, something personal and declared checks."""
    return Dataset(
        **{  # type: ignore[arg-type]
            "name": "tills",
            "description": "One row per till line.",
            "owners": ("team:retail-data",),
            "source": LandedFiles("tills/%Y/%m/%d/{shop_id}.csv", Csv()),
            "columns": (
                Column("line_id", VARCHAR, "The till's number.", required=True),
                Column("shop_id", VARCHAR, "Where.", references="shops.shop_id"),
                Column("sold_at", TIMESTAMP, "When.", required=True),
                Column("units", INTEGER, "How many.", minimum=1, maximum=9),
                Column("customer_id", VARCHAR, "Who.", pii=Mask.HASH),
            ),
            "primary_key": ("line_id",),
            "event_time": "sold_at",
            "daily": Daily(date(2024, 10, 1), allowed_lateness_days=3),
            "senders": senders_from("shops", "shop_id"),
            "checks": (
                Check("units_make_sense", "units < 9", "Nobody buys nine.", severity="warn"),
                Check("no_future_sales", "sold_at < now()", "No sale of tomorrow.", blocking=True),
            ),
            **changes,
        }
    )


def by_shop(**changes: object) -> SqlTable:
    """A daily report of tills."""
    return SqlTable(
        **{  # type: ignore[arg-type]
            "layer": "reports",
            "name": "by_shop",
            "path": Path("sql/reports/by_shop.sql"),
            "sql": "select shop_id, sum(units) as units from processed.tills group by shop_id",
            "description": "Units by shop.",
            "columns": {"shop_id": "Where.", "units": "How many."},
            "types": {"shop_id": "VARCHAR", "units": "HUGEINT"},
            "primary_key": ("shop_id",),
            "owners": ("team:retail-data",),
            "history_days": 0,
            "checks": (Check("units_are_positive", "units > 0", "Something was sold."),),
            "is_daily": True,
            "depends_on": ("processed.tills",),
            "reads": ("processed.tills",),
            "used_parameters": ("day",),
            "schema": {"processed.tills": {"shop_id": "VARCHAR", "units": "INTEGER"}},
            "first_day": date(2024, 10, 1),
            "tags": {},
            **changes,
        }
    )


def ever() -> SqlTable:
    """A report without days."""
    return by_shop(
        name="ever",
        path=Path("sql/reports/ever.sql"),
        sql="select sum(units) as units from reports.by_shop",
        columns={"units": "How many."},
        types={"units": "HUGEINT"},
        primary_key=(),
        checks=(),
        is_daily=False,
        depends_on=("reports.by_shop",),
        reads=("reports.by_shop",),
        used_parameters=(),
        schema={"reports.by_shop": {"units": "HUGEINT"}},
    )


def landed(key: str, token: str = "1", minute: int = 0, size_bytes: int = 100) -> LandedObject:
    """An object as a listing shows it."""
    return LandedObject(key, size_bytes, token, datetime(2024, 10, 20, 8, minute, tzinfo=UTC))


@dataclass
class World:
    """
    What the fake warehouses share.

    Args:
        datasets: declared.
        sql_tables: declared.
        objects: dataset and day → what has landed.
        raw: dataset and day → what is loaded.
        tables: table and day → what is computed.
        errors: table and day → what working on it raises.
        rejected: keys of objects that can't be read.
        unknown: key of an object → its columns that nobody declared.
        drifts: events of drift.
        unbalanced: tables and days whose balance doesn't hold.
        failed_checks: table and day → check → rows.
        quarantined: table and day → rows.
        stale: table → days.
        missing: table and day → days never computed that it carries on.
        certified: table and day → what the last certificate says.
        expected: senders on the roster.
        trailing: rows of the trailing days.
        calls: how often each question and each work was asked for.
        done: table and day of each work, in order.
        order: of works that changed something.
    """

    datasets: Datasets
    sql_tables: SqlTables
    objects: dict[tuple[str, date], list[LandedObject]] = field(default_factory=dict)
    raw: dict[tuple[str, date], RawDay] = field(default_factory=dict)
    tables: dict[tuple[str, date | None], TableDay] = field(default_factory=dict)
    errors: dict[tuple[str, date | None], Exception] = field(default_factory=dict)
    rejected: set[str] = field(default_factory=set)
    unknown: dict[str, tuple[str, ...]] = field(default_factory=dict)
    drifts: list[DriftEvent] = field(default_factory=list)
    unbalanced: set[tuple[str, date | None]] = field(default_factory=set)
    failed_checks: dict[tuple[str, date | None], dict[str, int]] = field(default_factory=dict)
    quarantined: dict[tuple[str, date | None], int] = field(default_factory=dict)
    stale: dict[str, list[date | None]] = field(default_factory=dict)
    missing: dict[tuple[str, date], list[date]] = field(default_factory=dict)
    versions: Counter[tuple[str, date | None]] = field(default_factory=Counter)
    certified: dict[tuple[str, date | None], Certified] = field(default_factory=dict)
    expected: tuple[str, ...] = ()
    trailing: list[int] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    done: list[tuple[str, date | None]] = field(default_factory=list)
    flags: list[bool] = field(default_factory=list)
    closed: int = 0
    today: date = TODAY

    def land(self, dataset: str, day: date, *names: str, token: str = "1", minute: int = 0) -> None:
        """Put objects of that day there, or put them there anew."""
        keys = {f"{dataset}/{day:%Y/%m/%d}/{name}.csv" for name in names}
        kept = [one for one in self.objects.get((dataset, day), []) if one.key not in keys]
        self.objects[dataset, day] = [*kept, *(landed(key, token, minute) for key in sorted(keys))]

    def open(self) -> Warehouse:
        """A warehouse on this world."""
        return FakeWarehouse(self)

    def definitions(self, settings: Settings | None = None) -> dg.Definitions:
        """The code location over this world."""
        retries = dg.RetryPolicy(max_retries=1, delay=0)
        return build_definitions(
            settings or Settings(), self.datasets, self.sql_tables, warehouse=self.resource, retries=retries
        )

    @property
    def resource(self) -> WarehouseResource:
        """Opens warehouses on this world, on the world's day."""
        return FixedDay(self)

    @property
    def graph(self) -> Graph:
        """The world's tables."""
        return Graph(self.datasets, self.sql_tables)


class FixedDay(WarehouseResource):
    """Business time stands still where the world says."""

    def __init__(self, world: World) -> None:
        super().__init__(world.open, ZONE)
        self.world = world

    def today(self) -> date:
        """The world's day."""
        return self.world.today


def sender_report(
    expected: Iterable[str],
    came: Iterable[str] = (),
    rejected: Iterable[str] = (),
    *,
    day: date = TODAY,
    is_over: bool = True,
    others: Mapping[str, Status] | None = None,
) -> SenderReport:
    """
    A report on senders of a day.

    Args:
        expected: who is.
        came: who has sent.
        rejected: whose objects can't be read.
        is_over: whether the cutoff has passed.
        others: sender → another status.
    """
    cutoff = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    known = set(expected)
    statuses: dict[str, Status] = dict.fromkeys(known, "missing" if is_over else "awaited")
    statuses |= {one: "unreadable" for one in rejected if one in known}
    # Without a roster nobody is known, and nobody is told to be unknown.
    statuses |= {one: "on_time" if one in known or not known else "unknown" for one in came}
    statuses |= others or {}
    rows = [
        SenderDay(
            "tills", day, sender, status, sender in known, "", cutoff, cutoff, cutoff if sender in set(came) else None, None, 0, 0, 0, 0, 0
        )
        for sender, status in sorted(statuses.items())
    ]  # fmt: skip
    return SenderReport(tuple(rows), cutoff + timedelta(hours=1 if is_over else -1), cutoff, cutoff)


class FakeWarehouse(Warehouse):
    """The world through the warehouse's interface."""

    def __init__(self, world: World) -> None:
        self.world = world

    def _begin(self, call: str, table: str, day: date | None, flag: bool) -> None:
        self.world.calls[call] += 1
        self.world.done.append((table, day))
        self.world.flags.append(flag)
        error = self.world.errors.get((table, day))
        if error is not None:
            raise error

    def certified(self, table: str, day: date | None) -> Certified | None:
        """As the world says."""
        return self.world.certified.get((table, day))

    def load(
        self,
        dataset: Dataset,
        day: date,
        *,
        reload: bool = False,
        only: Only = EVERYTHING,
        run_id: str = "",
        progress: Callable[[int, int, int], None] | None = None,
    ) -> RawDay:
        """Everything listed that it may take becomes `ROWS` rows an object."""
        self._begin("load", dataset.raw, day, reload)
        before = self.world.raw.get((dataset.name, day))
        there = self.world.objects.get((dataset.name, day), [])
        left = {one.key for one in there if not only.takes(one.key, one.size_bytes)}
        entries = [entry for entry in before.entries if entry.key in left] if before else []
        for one in there:
            if one.key in left:
                continue
            is_rejected = one.key in self.world.rejected
            rows = 0 if is_rejected else ROWS
            lost = 1 if (dataset.raw, day) in self.world.unbalanced else 0
            sender = one.key.rsplit("/", 1)[-1].removesuffix(".csv") if dataset.senders else None
            entries.append(
                LedgerEntry(
                    dataset=dataset.name,
                    key=one.key,
                    day=day,
                    state="rejected" if is_rejected else "loaded",
                    sha256=sha256(f"{one.key}{one.token}".encode()).hexdigest(),
                    size_bytes=one.size_bytes,
                    landed_at=one.landed_at,
                    sender=sender,
                    reason="the last record is cut off" if is_rejected else "",
                    rows_read=rows + lost,
                    rows_loaded=rows,
                    unknown_columns=self.world.unknown.get(one.key, ()),
                )
            )
        raw = RawDay(
            dataset=dataset.name,
            day=day,
            entries=tuple(entries),
            new_keys=tuple(entry.key for entry in entries),
            rows=sum(entry.rows_loaded for entry in entries),
            rows_quarantined=0,
            bytes_read=100 * len(entries),
            seconds=0.5,
            touched_days=(day,),
        )
        self.world.raw[dataset.name, day] = raw
        return raw

    def news(self, dataset: Dataset, day: date, objects: Sequence[LandedObject]) -> tuple[LandedObject, ...]:
        """Those that weren't there, or not in this version, at the last load."""
        raw = self.world.raw.get((dataset.name, day))
        known = {entry.key: entry.sha256 for entry in raw.entries} if raw else {}
        return tuple(
            one for one in objects if known.get(one.key) != sha256(f"{one.key}{one.token}".encode()).hexdigest()
        )

    def process(self, dataset: Dataset, day: date, *, force: bool = False, run_id: str = "") -> TableDay:
        """Every raw row of the day is processed, but those that are set aside."""
        self._begin("process", dataset.processed, day, force)
        read = self.raw_day(dataset, day).rows
        aside = self.world.quarantined.get((dataset.processed, day), 0)
        lost = 1 if (dataset.processed, day) in self.world.unbalanced else 0
        balance = Balance(read, read - aside - lost, 0, aside)
        return self._keep(
            dataset.processed, day, balance.rows_processed, balance, {"units: at most 9": aside} if aside else {}
        )

    def derive(self, table: SqlTable, day: date | None, *, force: bool = False, run_id: str = "") -> TableDay:
        """As many rows as the first table it reads."""
        self._begin("derive", table.key, day, force)
        source = self.table_day(table.depends_on[0], day)
        return self._keep(table.key, day, source.rows if source else 0, None, {})

    def missing_before(self, table: SqlTable, day: date) -> list[date]:
        """As the world says, but for days that have been computed since."""
        return [
            one for one in self.world.missing.get((table.key, day), ()) if (table.key, one) not in self.world.tables
        ]

    def _keep(
        self, table: str, day: date | None, rows: int, balance: Balance | None, reasons: dict[str, int]
    ) -> TableDay:
        made = TableDay(
            table=table,
            day=day,
            rows=rows,
            bytes=rows * 8,
            seconds=0.25,
            has_changed=True,
            balance=balance,
            reasons=reasons,
            failed_checks=self.world.failed_checks.get((table, day), {}),
            content=sha256(f"{table}{day}{rows}".encode()).hexdigest(),
        )
        self.world.tables[table, day] = made
        days = self.world.stale.get(table, [])
        if day in days:
            days.remove(day)
        return made

    def close(self) -> None:
        """Count it."""
        self.world.closed += 1

    def waiting(self, dataset: Dataset, day: date | None = None) -> tuple[Waiting, ...]:
        """Nothing is in an archive."""
        return ()

    def raw_day(self, dataset: Dataset, day: date) -> RawDay:
        """What load left."""
        self.world.calls["raw_day"] += 1
        found = self.world.raw.get((dataset.name, day))
        if found is None:
            return RawDay(dataset.name, day, (), (), 0, 0, 0, 0.0, ())
        return replace(found, new_keys=(), bytes_read=0, seconds=0.0)

    def table_day(self, table: str, day: date | None) -> TableDay | None:
        """What process or derive left."""
        return self.world.tables.get((table, day))

    def days(self, table: str) -> list[date]:
        """Days that were computed."""
        raw = [day for name, day in self.world.raw if f"raw.{name}" == table]
        return sorted([*raw, *(day for name, day in self.world.tables if name == table and day is not None)])

    def newest_day(self, dataset: Dataset) -> date | None:
        """Of the loads."""
        return max((day for name, day in self.world.raw if name == dataset.name), default=None)

    def stale_days(self, table: str) -> list[date | None]:
        """As the world says."""
        self.world.calls["stale_days"] += 1
        return list(self.world.stale.get(table, []))

    def inputs(self, table: str, day: date | None) -> str:
        """As the world says."""
        return f"{table} {day} {self.world.versions[table, day]}"

    def senders(self, dataset: Dataset, day: date) -> SenderReport:
        """The world's roster against what is loaded."""
        entries = self.raw_day(dataset, day).entries
        came = {entry.sender or "" for entry in entries if entry.state == "loaded"}
        rejected = {entry.sender or "" for entry in entries if entry.state == "rejected"} - came
        is_over = day < self.world.today
        return sender_report(self.world.expected, came, rejected, day=day, is_over=is_over)

    def drift(self, dataset: Dataset | None = None) -> list[DriftEvent]:
        """As the world says."""
        return [event for event in self.world.drifts if dataset is None or event.dataset == dataset.name]

    def volume(self, table: str, day: date, trailing: int = 14) -> list[int]:
        """As the world says."""
        return list(self.world.trailing)

    def preview(self, table: str, day: date | None, limit: int = 10) -> pa.Table:
        """Something hostile."""
        self.world.calls["preview"] += 1
        return pa.table({"name": ["<script>alert(1)</script>|x\ny"], "units": [1]})

    def columns(self, table: str) -> tuple[ColumnDoc, ...]:
        """Two columns."""
        return (ColumnDoc("name", "VARCHAR", "Who."), ColumnDoc("units", "INTEGER", "How many."))

    def listing(self, dataset: Dataset, day: date) -> list[LandedObject]:
        """What has landed."""
        self.world.calls["listing"] += 1
        return sorted(self.world.objects.get((dataset.name, day), []), key=lambda one: one.key)


def world(*sql: SqlTable, datasets: tuple[Dataset, ...] | None = None) -> World:
    """Shops, tills, a daily report and one without days; or what is given."""
    tables = sql or (by_shop(), ever())
    return World(Datasets(datasets or (shops(), tills())), SqlTables({table.key: table for table in tables}))


def run(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    tables: list[str],
    first: date | None = None,
    last: date | None = None,
    config: dict[str, dict[str, object]] | None = None,
) -> dg.ExecuteInProcessResult:
    """Materialize as the UI and the sensors do: by Dagster's implicit job."""
    job = definitions.resolve_implicit_global_asset_job_def()
    tags = {RANGE_START: str(first), RANGE_END: str(last)} if first is not None and last is not None else {}
    return job.execute_in_process(
        instance=instance,
        asset_selection=[asset_key(table) for table in tables],
        partition_key=str(first) if first is not None and last is None else None,
        tags=tags,
        run_config={"ops": {op: {"config": values} for op, values in (config or {}).items()}},
        raise_on_error=False,
    )


def materializations(result: dg.ExecuteInProcessResult, table: str) -> list[str | None]:
    """The partitions of *table* that a run materialized, in order, each as often as Dagster was told."""
    return [
        event.partition
        for event in result.all_events
        if event.is_step_materialization and event.asset_key == asset_key(table)
    ]


def evaluations(result: dg.ExecuteInProcessResult, table: str, check: str) -> dict[str | None, dg.AssetCheckEvaluation]:
    """The results of a check by partition."""
    return {
        found.partition: found
        for found in result.get_asset_check_evaluations()
        if found.asset_key == asset_key(table) and found.check_name == check
    }
