"""
Replay: read landed objects again, compute their days, and every table behind.

Belongs here: going from raw days to whatever is made of them, in order. Doesn't: the work on one day (`load.py`, `process.py`,
`derive.py`), choosing what to replay (`quarantine.py`, a person).
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from ingestion_platform.dataset import Dataset, WholeFetches
from ingestion_platform.decisions import Decision
from ingestion_platform.errors import NotMaterialized, ObjectCold
from ingestion_platform.warehouse.certificates import Certificate, certify, require_days, state_of
from ingestion_platform.warehouse.results import EVERYTHING, Only, Waiting, told_waiting
from ingestion_platform.warehouse.warehouse import Warehouse

log = logging.getLogger(__name__)

Partition = tuple[str, date | None]
"""A table and a day of it; None of a table without days."""


@dataclass
class Replayed:
    """
    What a replay went through.

    Args:
        read: keys of the objects that were read again.
        missing: keys of objects that were asked for and aren't in the landing zone any more; their rows stay as they are.
        waiting: objects that are being fetched back from an archive: replay again when they are there.
        computed: partitions that were computed, or found to be what they would become; in order.
        changed: those of them whose content is another one now.
        raw_days: days whose objects were read.
    """

    read: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    computed: list[Partition] = field(default_factory=list)
    changed: list[Partition] = field(default_factory=list)
    raw_days: set[date] = field(default_factory=set)


def replay(
    warehouse: Warehouse,
    dataset: Dataset,
    days: Mapping[date, Only],
    *,
    also: Iterable[date] = (),
    force: bool = False,
    is_followed: bool = True,
    run_id: str = "",
    tell: Callable[[str], None] = log.info,
) -> Replayed:
    """
    Read objects again by force, and compute what is made of them. Safe beside runs, and after a kill: doing it again goes on.

    Args:
        warehouse: whose.
        dataset: whose objects.
        days: day of keys → which of its objects are read. An API's fetch counts as a whole.
        also: processed days that are looked at whatever the objects hold.
        force: compute what nothing has changed for, too.
        is_followed: compute what is made of the processed days; False: only where one of them has changed.
        run_id: noted in the ledger.
        tell: told of each step.

    Raises:
        LandingUnavailable: the landing zone gave no answer; what is done stays.
    """
    done = Replayed()
    homes = set(also)
    for day, only in sorted(days.items()):
        wanted = EVERYTHING if isinstance(dataset.source, WholeFetches) else only
        homes |= _homes(warehouse, dataset, day, only)
        raw = warehouse.load(dataset, day, reload=True, only=wanted, run_id=run_id)
        homes |= {*raw.touched_days, *_homes(warehouse, dataset, day, only)}
        waiting = {one.key for one in raw.waiting}
        done.read += raw.new_keys
        done.missing += sorted((only.keys or set()) - set(raw.new_keys) - waiting)
        done.waiting += [one for one in raw.waiting if only.takes(one.key, one.size_bytes)]
        done.raw_days |= {day, *raw.other_days}
        tell(f"{dataset.raw} {day}: {len(raw.new_keys):,} objects read again, {raw.rows:,} rows")
    for day in sorted(homes):
        _compute(warehouse, done, (dataset.processed, day), force=force, run_id=run_id, tell=tell)
    seen = set(done.computed) if is_followed else set(done.changed)
    for key, table in warehouse.sql_tables.items():
        for behind in _days_behind(warehouse, key, seen):
            # A state is made of the one before: only those of the replayed days are made in any case.
            is_forced = force and (not table.is_cumulative or behind in homes)
            _compute(warehouse, done, (key, behind), force=is_forced, run_id=run_id, tell=tell)
            seen.add((key, behind))
    return done


def certified_replay(
    warehouse: Warehouse,
    dataset: Dataset,
    first: date,
    last: date,
    *,
    by: str,
    why: str,
    run_id: str = "",
    tell: Callable[[str], None] = log.info,
) -> Certificate:
    """
    Replay days by force, and certify what that has changed. After a kill, the next one of the same days goes on with the certificate.

    Args:
        warehouse: whose.
        dataset: whose objects.
        first: day of keys.
        last: likewise, included.
        by: who asks for it.
        why: his reason.
        run_id: noted in the ledger.
        tell: told of each step.

    Raises:
        NotMaterialized: nothing of these days was ever loaded.
        ObjectCold: objects are being fetched back from an archive; the same replay goes on when they are there.
        LandingError: there is no name or no reason.
        LandingUnavailable: the landing zone gave no answer; the same replay goes on.
    """
    require_days(first, last)
    Decision("certificate", dataset.name, datetime.now(UTC), by, why)
    held = warehouse.certificates.hold(dataset.name, first, last, lambda: state_of(warehouse, dataset, first, last))
    if held.is_resumed:
        tell(
            f"a replay of these days began at {held.began_at} UTC and never ended: the certificate is about the state before it"
        )
    done = replay(
        warehouse, dataset, days_to_replay(warehouse, dataset, first, last), force=True, run_id=run_id, tell=tell
    )
    if done.waiting:
        raise ObjectCold(
            told_waiting(done.waiting), "replay the same days again when they are there: the certificate waits"
        )
    return certify(warehouse, dataset, held, first, last, done.computed, by=by, why=why)


def days_to_replay(warehouse: Warehouse, dataset: Dataset, first: date, last: date) -> dict[date, Only]:
    """
    The days of a range that have objects, all of which are read.

    Raises:
        NotMaterialized: none has.
    """
    require_days(first, last)
    known = {day for day in warehouse.ledger.object_days(dataset.name) if first <= day <= last}
    if (last - first).days < 400:
        span = [first + timedelta(days=number) for number in range((last - first).days + 1)]
        known |= {day for day in span if day not in known and warehouse.listing(dataset, day)}
    if not known:
        raise NotMaterialized(
            f"{dataset.raw} has nothing from {first} to {last}", "is that the day in the objects' keys?"
        )
    return dict.fromkeys(sorted(known), EVERYTHING)


def _homes(warehouse: Warehouse, dataset: Dataset, day: date, only: Only) -> set[date]:
    """The processed days that a raw day's objects have rows of."""
    rows = warehouse.ledger.current(dataset.name, day).values()
    return {
        date.fromisoformat(home)
        for row in rows
        if row.state == "loaded" and only.takes(row.key, row.size_bytes)
        for home in (row.day, *row.days)
    }


def _days_behind(warehouse: Warehouse, table: str, seen: set[Partition]) -> list[date | None]:
    """The partitions of a SQL table that are made of any of these."""
    candidates: set[date | None] = set(warehouse.stale_days(table)) | set(warehouse.days(table))
    if not warehouse.sql_tables[table].is_daily:
        candidates = {None}
    found = [day for day in candidates if seen & warehouse.partitions_read(table, day)]
    if warehouse.sql_tables[table].carries_on and found:
        # Each is made of the one before, and so of all these.
        first = min(day for day in found if day is not None)
        found = [day for day in candidates if day is not None and day >= first]
    return sorted(found, key=lambda day: day or date.min)


def _compute(
    warehouse: Warehouse,
    done: Replayed,
    partition: Partition,
    *,
    force: bool,
    run_id: str,
    tell: Callable[[str], None],
) -> None:
    table, day = partition
    before = warehouse.table_day(table, day)
    if table in warehouse.sql_tables:
        after = warehouse.derive(warehouse.sql_tables[table], day, force=force, run_id=run_id)
    else:
        assert day is not None, "processed datasets have days"
        dataset = warehouse.datasets[table.split(".", 1)[1]]
        after = warehouse.process(dataset, day, force=force, run_id=run_id)
    done.computed.append(partition)
    if before is None or before.content != after.content:
        done.changed.append(partition)
    what = str(after.balance) if after.balance is not None else f"{after.rows:,} rows"
    tell(f"{table} {day or ''}: {what}".replace(" :", ":"))
