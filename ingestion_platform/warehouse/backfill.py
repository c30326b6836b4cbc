"""
A backfill without Dagster: load some days of some datasets, then compute what that makes stale, and whatever is made of it.

Belongs here: which partitions are a backfill's. Doesn't: loading and computing one (`load.py`, `process.py`, `derive.py`), telling
beforehand what it does (`plan.py`, by the same code in a shadow).

It computes what is stale of the days asked for, and what it has itself made stale elsewhere: late rows' days, reports of a changed roster.
What was stale before on other days stays so, and is counted. Every step is a commit of its own, safe beside runs and after a kill.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date

import duckdb

from ingestion_platform.dataset import Dataset
from ingestion_platform.errors import (
    DayBeforeMissing,
    IngestionError,
    LandingUnavailable,
    WarehouseBusy,
    WarehouseDamaged,
)
from ingestion_platform.warehouse.days import span
from ingestion_platform.warehouse.results import RawDay, TableDay
from ingestion_platform.warehouse.upkeep import landed_days, references_first
from ingestion_platform.warehouse.warehouse import Warehouse

log = logging.getLogger(__name__)

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """
    What a backfill is asked to do.

    Args:
        days: dataset → days of its objects' keys.
        first: of the processed and report days that are computed when they are stale; None: from the beginning.
        last: included; None: to the end.
        replay: read every object of the days again, known or not.
        is_bounded: compute a dataset's own days alone, and of tables made of several the days of any; whatever else becomes stale is left.
        has_whole_tables: whether tables without days are computed.
    """

    days: dict[str, list[date]]
    first: date | None = None
    last: date | None = None
    replay: bool = False
    is_bounded: bool = False
    has_whole_tables: bool = True

    def has(self, table: str, day: date | None) -> bool:
        """Whether a processed or report day is among those asked for."""
        if day is None:
            return self.has_whole_tables
        if self.is_bounded:
            layer, name = table.split(".", 1)
            if layer == "processed" and name in self.days:
                return day in self.days[name]
            return any(day in days for days in self.days.values())
        return (self.first is None or self.first <= day) and (self.last is None or day <= self.last)


@dataclass(frozen=True, slots=True)
class Failure:
    """A partition that couldn't be made, and why."""

    table: str
    day: date | None
    what: str
    hint: str


@dataclass(frozen=True, slots=True)
class Backfill:
    """
    What a backfill did.

    Args:
        loads: each day that was looked at.
        computed: processed and report partitions that were computed, in order.
        failures: what couldn't be done; the rest is done.
        left: table → partitions that were stale before, on days that weren't asked for, and still are.
        seconds: that it took, wall time.
    """

    loads: tuple[RawDay, ...]
    computed: tuple[TableDay, ...]
    failures: tuple[Failure, ...]
    left: dict[str, int]
    seconds: float


def ask(
    warehouse: Warehouse,
    datasets: Sequence[Dataset],
    *,
    first: date | None = None,
    last: date | None = None,
    replay: bool = False,
) -> Asked:
    """
    Which days a backfill of these datasets has. Lists what has landed, where the days have no first and last.

    Args:
        datasets: none: all.
        first: of the days; None: from the beginning.
        last: included; None: to the end.
        replay: read every object of the days again.
    """
    days = {}
    for dataset in datasets or warehouse.datasets.values():
        if first is not None and last is not None:
            days[dataset.name] = span(max(first, dataset.daily.from_), last)
        else:
            landed = landed_days(warehouse, dataset)
            days[dataset.name] = [
                day for day in landed if (first is None or first <= day) and (last is None or day <= last)
            ]
    return Asked(days, first, last, replay)


def backfill(warehouse: Warehouse, asked: Asked, *, tell: Tell = log.info) -> Backfill:
    """
    Do it.

    Raises:
        LandingUnavailable: the landing zone gave no answer; what was done until then stays.
        WarehouseDamaged: the ledger or a file isn't what was written.
        WarehouseError: the disk is full.
    """
    began = time.perf_counter()
    affected = followers(warehouse, asked.days)
    was_stale = {table: set(warehouse.stale_days(table)) for table in affected}
    failures: list[Failure] = []
    loads: list[RawDay] = []
    touched: dict[str, set[date]] = {}
    for dataset in references_first(warehouse):
        for landed_on in asked.days.get(dataset.name, ()):
            with _kept(dataset.raw, landed_on, failures):
                done = warehouse.load(dataset, landed_on, reload=asked.replay)
                loads.append(done)
                touched.setdefault(dataset.processed, set()).update(done.touched_days)
        if asked.days.get(dataset.name):
            objects = sum(len(done.new_keys) for done in loads if done.dataset == dataset.name)
            tell(f"{dataset.raw}: {objects:,} objects of {len(asked.days[dataset.name]):,} days read")
    computed: list[TableDay] = []
    left: dict[str, int] = {}
    for table in affected:
        count = 0
        for day in warehouse.stale_days(table):
            follows = day not in was_stale[table] or day in touched.get(table, ())
            if not (asked.has(table, day) or (follows and not asked.is_bounded)):
                left[table] = left.get(table, 0) + 1
                continue
            with _kept(table, day, failures):
                try:
                    made = _compute(warehouse, table, day)
                except DayBeforeMissing:
                    if not asked.is_bounded:
                        raise
                    # Of some days only: a state whose past isn't there can't be tried.
                    left[table] = left.get(table, 0) + 1
                    continue
                # Where the day before came out as it was, nothing was to be done for a state that is carried on.
                if made.has_changed:
                    computed.append(made)
                    count += 1
        if count:
            tell(f"{table}: {count:,} partitions computed")
    return Backfill(tuple(loads), tuple(computed), tuple(failures), left, time.perf_counter() - began)


def followers(warehouse: Warehouse, datasets: dict[str, list[date]]) -> list[str]:
    """The processed tables of datasets, and all tables that are made of them or refer to them, each after those that it needs."""
    found = [warehouse.datasets[name].processed for name in datasets]
    for dataset in references_first(warehouse):
        refers = any(warehouse.datasets[other].processed in found for _, other, _ in dataset.references)
        if refers and dataset.processed not in found:
            found.append(dataset.processed)
    for key, table in warehouse.sql_tables.items():
        if any(other in found for other in table.depends_on):
            found.append(key)
    order = [*(dataset.processed for dataset in references_first(warehouse)), *warehouse.sql_tables]
    return sorted(found, key=order.index)


@contextmanager
def _kept(table: str, day: date | None, failures: list[Failure]) -> Iterator[None]:
    """Note what goes wrong with one partition, so that it doesn't cost the others; what goes wrong with everything goes on."""
    try:
        yield
    except (LandingUnavailable, WarehouseBusy, WarehouseDamaged):
        raise
    except IngestionError as error:
        if isinstance(error.__cause__, (OSError, duckdb.IOException, duckdb.OutOfMemoryException)):
            raise
        failures.append(Failure(table, day, error.what, error.hint))


def _compute(warehouse: Warehouse, table: str, day: date | None) -> TableDay:
    if table in warehouse.sql_tables:
        return warehouse.derive(warehouse.sql_tables[table], day)
    assert day is not None, "processed datasets have days"
    return warehouse.process(warehouse.datasets[table.split(".", 1)[1]], day)
