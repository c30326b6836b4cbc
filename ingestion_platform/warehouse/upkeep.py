"""
Whole-warehouse work without Dagster: catch up with the landing zone, verify, repair, rebuild.

Belongs here: what a person does when a disk has failed. Doesn't: what runs every night (`orchestration/`).
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from ingestion_platform.dataset import Dataset
from ingestion_platform.errors import DayBeforeMissing, ObjectCold, WarehouseDamaged, WarehouseError
from ingestion_platform.warehouse.ageing import fetch_everything_back
from ingestion_platform.warehouse.ledger_rows import FileRow, ObjectRow
from ingestion_platform.warehouse.results import told_waiting
from ingestion_platform.warehouse.sql_tables import SqlTable
from ingestion_platform.warehouse.warehouse import Warehouse

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Damage:
    """
    One thing that isn't as it was written.

    Args:
        table: whose it is; empty when the ledger itself is damaged.
        day: of the partition; empty for a table without days.
        what: in words.
    """

    table: str
    day: str
    what: str


def landed_days(warehouse: Warehouse, dataset: Dataset) -> list[date]:
    """The days that a dataset has objects of in the landing zone. Lists everything under its prefix."""
    days: set[date] = set()
    for root in sorted({template.root for template in dataset.source.keys}):
        for landed in warehouse.landing.list(root):
            found = dataset.source.match(landed.key)
            if found is not None and found[0] >= dataset.daily.from_:
                days.add(found[0])
    return sorted(days)


def catch_up(warehouse: Warehouse, *, tell: Callable[[str], None] = log.info) -> None:
    """
    Load whatever has landed, then compute whatever is stale, until nothing is.

    Safe beside runs, and after a kill: everything in it is a step of its own.
    """
    warehouse.receipts.take_in()
    for dataset in warehouse.datasets.values():
        warehouse.take_in(dataset)
        days = landed_days(warehouse, dataset)
        rows = sum(warehouse.load(dataset, day).rows for day in days)
        waiting = warehouse.waiting(dataset)
        tell(f"{dataset.raw}: {rows:,} rows of {len(days):,} days" + (f"; {told_waiting(waiting)}" if waiting else ""))
    for dataset in references_first(warehouse):
        stale = warehouse.stale_days(dataset.processed)
        for day in stale:
            if day is not None:
                warehouse.process(dataset, day)
        tell(f"{dataset.processed}: {len(stale):,} days computed")
    for key, table in warehouse.sql_tables.items():
        tell(f"{key}: {_derive_stale(warehouse, table):,} partitions computed")


def _derive_stale(warehouse: Warehouse, table: SqlTable) -> int:
    """Compute what is stale of a SQL table; how many partitions that were."""
    done = 0
    while True:
        try:
            for day in warehouse.stale_days(table.key):
                done += warehouse.derive(table, day).has_changed
            return done
        except DayBeforeMissing:
            # Another process has put a day in between: it is stale now, and comes first.
            continue


def verify(warehouse: Warehouse) -> list[Damage]:
    """Hold every entry of the ledger against its seal and the others, and every file against its hash and the ledger."""
    try:
        # One state, whatever is loaded meanwhile.
        with warehouse.ledger.reading():
            return _damages(warehouse)
    except WarehouseDamaged as error:
        return [Damage("", "", error.what)]


def _damages(warehouse: Warehouse) -> list[Damage]:
    objects, files, partitions = warehouse.ledger.everything()
    damages = [Damage(table, file.day, what) for table, file, what in _damaged_files(warehouse)]
    used = {row.file_id for row in partitions} | {row.file_id for row in objects if row.is_current}
    used |= {row.quarantine_file_id for row in partitions} | {
        row.quarantine_file_id for row in objects if row.is_current
    }
    lost = sorted({file_id for file_id in used if file_id is not None} - {file.file_id for file in files})
    damages += [Damage("", "", f"the ledger counts on file {file_id}, which it doesn't have") for file_id in lost]
    damages += [
        Damage("", "", f"the ledger contradicts itself: {what}") for what in warehouse.ledger.contradictions(objects)
    ]
    idle = sorted({file.file_id for file in files} - used)
    damages += [Damage("", "", f"the ledger has file {file_id} in use, and nothing counts on it") for file_id in idle]
    if not damages:
        damages += [Damage("", "", what) for what in _miscounted(warehouse, objects)]
    for row in objects:
        if row.rows_read != row.rows_loaded + row.rows_quarantined:
            damages.append(
                Damage(
                    f"raw.{row.dataset}",
                    row.day,
                    f"{row.key}: {row.rows_read} read, {row.rows_loaded} + {row.rows_quarantined} kept",
                )
            )
    return damages


def _miscounted(warehouse: Warehouse, objects: Sequence[ObjectRow]) -> Iterator[str]:
    """Objects whose rows in raw, or whose unreadable records, aren't as many as the ledger says."""
    for dataset in warehouse.datasets.values():
        current = [row for row in objects if row.dataset == dataset.name and row.is_current]
        for role, expected in (
            ("rows", {row.key: row.rows_loaded for row in current if row.rows_loaded}),
            ("quarantine", {row.key: row.rows_quarantined for row in current if row.rows_quarantined}),
        ):
            found = warehouse.count_by_object(dataset.raw, role)
            for key in sorted(expected.keys() | found.keys()):
                if expected.get(key, 0) != found.get(key, 0):
                    yield f"the ledger counts {expected.get(key, 0)} {role} of {key}, its files hold {found.get(key, 0)}"


def _damaged_files(warehouse: Warehouse) -> Iterator[tuple[str, FileRow, str]]:
    tables = [table for dataset in warehouse.datasets.values() for table in (dataset.raw, dataset.processed)]
    for table in [*tables, *warehouse.sql_tables]:
        for role in ("rows", "quarantine"):
            for file in warehouse.ledger.files(table, role=role):
                try:
                    warehouse.store.verify(file.path, file.size_bytes, file.sha256)
                except WarehouseDamaged as error:
                    yield table, file, error.what


def repair(warehouse: Warehouse, *, tell: Callable[[str], None] = log.info) -> list[Damage]:
    """
    Make every damaged file anew: raw from the landing zone, the others from raw.

    Returns:
        What was damaged.

    Raises:
        ObjectCold: objects of a damaged file are being fetched back from an archive; the rest is repaired.
        WarehouseDamaged: it is the ledger, or a file holds objects that the landing zone no longer has.
    """
    damages = verify(warehouse)
    for damage in damages:
        if not damage.table:
            raise WarehouseDamaged(
                damage.what, "`python -m ingestion_platform rebuild` makes the warehouse anew from the landing zone"
            )
    order = _upstream_first(warehouse)
    for table, day in sorted(
        {(damage.table, damage.day) for damage in damages}, key=lambda of: (order.index(of[0]), of[1])
    ):
        tell(f"making {table} {day} anew")
        layer, name = table.split(".", 1)
        if table in warehouse.sql_tables:
            warehouse.derive(warehouse.sql_tables[table], date.fromisoformat(day) if day else None, force=True)
        elif layer == "raw":
            warehouse.load(warehouse.datasets[name], date.fromisoformat(day), reload=True)
        else:
            warehouse.process(warehouse.datasets[name], date.fromisoformat(day), force=True)
    waiting = [one for dataset in warehouse.datasets.values() for one in warehouse.waiting(dataset)]
    if waiting and verify(warehouse):
        raise ObjectCold(told_waiting(waiting), "run the repair again when they are there: the rest is repaired")
    if damages and (left := verify(warehouse)):
        raise WarehouseDamaged(
            f"{len(left)} still damaged after the repair, the first: {left[0].what}",
            "it holds objects that are no longer in the landing zone: put them back there, or rebuild without them",
        )
    return damages


def references_first(warehouse: Warehouse) -> list[Dataset]:
    """A dataset that others refer to refers to none itself."""
    return sorted(warehouse.datasets.values(), key=lambda dataset: bool(dataset.references))


def _upstream_first(warehouse: Warehouse) -> list[str]:
    """Every table after those that it is made of."""
    datasets = references_first(warehouse)
    return [
        *(dataset.raw for dataset in datasets), *(dataset.processed for dataset in datasets), *warehouse.sql_tables,
    ]  # fmt: skip


def rebuild(make: Callable[[], Warehouse], *, tell: Callable[[str], None] = log.info) -> Path | None:
    """
    Set the warehouse aside and make another from the landing zone alone.

    Args:
        make: makes a warehouse; called once, after the former one was set aside.

    Returns:
        Where the former one is now; None when there was none.

    Raises:
        ObjectCold: objects are being fetched back from an archive, all of which were asked for; the former warehouse is where it was.
    """
    warehouse = make()
    if warehouse.folder.exists() and next(iter(warehouse.landing.list()), None) is None:
        raise WarehouseError(
            f"the landing zone {warehouse.landing.url} holds nothing: a rebuild from it would be an empty warehouse",
            "is INGESTION_LANDING right?",
        )
    fetch_everything_back(warehouse)
    aside: Path | None = None
    if warehouse.folder.exists():
        aside = warehouse.folder.with_name(f"{warehouse.folder.name}.aside-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}")
        tell(f"setting the former warehouse aside as {aside}")
        warehouse.folder.rename(aside)
        warehouse.settings.warehouse.unlink(missing_ok=True)
    with warehouse:
        catch_up(warehouse, tell=tell)
        warehouse.publish()
    return aside
