"""
Runs as Dagster takes and shows them: asking for one over days, and which tables and days are queued or under way.

A run over tables that begin on different days can't be given a partition key (Dagster wants one definition for that); it takes a range of
one day instead, which comes to the same.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import dagster as dg

from ingestion_platform.api import Endpoint
from ingestion_platform.database import Extract
from ingestion_platform.dataset import Route
from ingestion_platform.landing import LandedObject
from ingestion_platform.orchestration.graph import Graph, asset_key, fetched_key, table_of
from ingestion_platform.orchestration.partitions import day_of
from ingestion_platform.remote import RemoteFiles
from ingestion_platform.warehouse import Only

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
PARTITION = "dagster/partition"
CAUSE = "ingestion/cause"
"""Tag: why the platform asked for the run: `arrival`, `restatement`, `close_of_the_day`, `schedule`."""

ROUTE = "ingestion/route"
"""Tag: how the objects go that an arrival's run was asked for: `urgent`, `small`, `large`."""
PRIORITY = "dagster/priority"
"""Dagster's tag: of the runs that wait, the one of the highest begins first; 0 without it."""
URGENT_PRIORITY = "10"

SILENT_AFTER_SECONDS = 3600.0
"""A run under way that has told nothing for so long has died with its process: of a command that was killed, or a machine that went down,
Dagster never finds out. If it lives after all, its days are done twice, which costs time and nothing else."""

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def request(
    graph: Graph,
    tables: Sequence[str],
    first: date | None,
    last: date | None,
    *,
    run_key: str | None,
    cause: str,
    tags: Mapping[str, str] | None = None,
    fetched: Sequence[Endpoint | RemoteFiles | Extract] = (),
    config: Mapping[str, Any] | None = None,
) -> dg.RunRequest:
    """A run over *tables*, and what is *fetched* before them, from day *first* to *last*, both included; None for tables without days."""
    begins = {graph.tables[key].first_day for key in tables if graph.tables[key].is_daily}
    begins |= {one.first_day for one in fetched}
    is_one_partition = first is not None and first == last and len(begins) == 1
    days = {}
    if first is not None and last is not None and not is_one_partition:
        days = {RANGE_START: first.isoformat(), RANGE_END: last.isoformat()}
    return dg.RunRequest(
        run_key=run_key,
        asset_selection=[*(fetched_key(one) for one in fetched), *(asset_key(key) for key in tables)],
        partition_key=first.isoformat() if is_one_partition and first is not None else None,
        tags={CAUSE: cause, **days, **(tags or {})},
        run_config=config,
    )


@dataclass(frozen=True)
class Unfinished:
    """
    A run that is queued or under way.

    Args:
        tables: that it does; None: all.
        first: day; None: it has none.
        last: day, included.
        route: how the objects go that it was asked for; None where nobody said.
        only: what it may load, by raw table; a table that isn't here: everything.
    """

    tables: frozenset[str] | None
    first: date | None
    last: date | None
    route: str | None = None
    only: Mapping[str, Only] = field(default_factory=dict)

    def covers(self, table: str, day: date | None) -> bool:
        """Whether it does that day of that table."""
        if self.tables is not None and table not in self.tables:
            return False
        return day is None or self.first is None or self.last is None or self.first <= day <= self.last

    def takes(self, table: str, landed: LandedObject, route: Route) -> bool:
        """
        Whether an object, of a day that it covers, had better wait for its end.

        An urgent object waits for nobody but a run that was asked for it: when two load it, one does so for nothing. Small ones wait
        for the run of those that came before, so that they go together again.
        """
        limit = self.only.get(table)
        if route == "urgent":
            return limit is not None and limit.keys is not None and landed.key in limit.keys
        if self.route == route == "small" or (limit is None and self.route is None):
            return True
        return limit is not None and limit.takes(landed.key, landed.size_bytes)


@dataclass(frozen=True)
class Busy:
    """Unfinished runs."""

    runs: tuple[Unfinished, ...]

    def covers(self, table: str, day: date | None) -> bool:
        """Whether an unfinished run does that day of that table."""
        return any(run.covers(table, day) for run in self.runs)

    def takes(self, table: str, day: date, landed: LandedObject, route: Route) -> bool:
        """Whether an object had better wait for an unfinished run's end."""
        return any(run.takes(table, landed, route) for run in self.runs if run.covers(table, day))

    def count(self, tables: Iterable[str]) -> int:
        """Unfinished runs that do any of these tables."""
        wanted = set(tables)
        return sum(1 for run in self.runs if run.tables is None or wanted & run.tables)


def busy(instance: dg.DagsterInstance, clock: Callable[[], float] = time.time) -> Busy:
    """
    What is queued or under way now.

    Args:
        instance: keeps the runs.
        clock: seconds since 1970.
    """
    found: list[Unfinished] = []
    for record in instance.get_run_records(filters=dg.RunsFilter(statuses=UNFINISHED)):
        run = record.dagster_run
        if (
            run.status is not dg.DagsterRunStatus.QUEUED
            and clock() - _last_heard(instance, record) > SILENT_AFTER_SECONDS
        ):
            continue
        tables = frozenset(table_of(key) for key in run.asset_selection) if run.asset_selection else None
        first, last = days_of(run)
        found.append(Unfinished(tables, first, last, run.tags.get(ROUTE), only_of(run.run_config)))
    return Busy(tuple(found))


def load_config(table: str, only: Only) -> dict[str, object]:
    """A run's configuration by which its load of a raw table takes these objects only."""
    limits: dict[str, object] = {}
    if only.keys is not None:
        limits["keys"] = sorted(only.keys)
    if only.up_to_bytes is not None:
        limits["up_to_bytes"] = only.up_to_bytes
    return {"ops": {op_name(table): {"config": limits}}} if limits else {}


def only_of(run_config: Mapping[str, Any]) -> dict[str, Only]:
    """Raw table → what a run's configuration lets its load take, where that isn't everything."""
    found = {}
    ops = run_config.get("ops")
    for op, config in (ops if isinstance(ops, Mapping) else {}).items():
        limits = config.get("config") if isinstance(config, Mapping) else None
        if isinstance(limits, Mapping) and op.startswith("raw__"):
            # Somebody at the launchpad may have written anything; Dagster refuses what isn't of the type, before it starts.
            keys, up_to_bytes = limits.get("keys"), limits.get("up_to_bytes")
            only = Only(
                frozenset(map(str, keys)) if isinstance(keys, list) and keys else None,
                up_to_bytes if isinstance(up_to_bytes, int) else None,
            )
            if not only.takes_all:
                found[f"raw.{op.removeprefix('raw__')}"] = only
    return found


def op_name(table: str) -> str:
    """What the step that makes a table is called in a run's configuration."""
    return table.replace(".", "__")


def under_way(instance: dg.DagsterInstance, tag: str, value: str, clock: Callable[[], float] = time.time) -> str | None:
    """The id of an unfinished run with that tag; None without one, or when its process has died without a word."""
    for record in instance.get_run_records(filters=dg.RunsFilter(statuses=UNFINISHED, tags={tag: value})):
        run = record.dagster_run
        is_waiting = run.status is dg.DagsterRunStatus.QUEUED
        if is_waiting or clock() - _last_heard(instance, record) <= SILENT_AFTER_SECONDS:
            return run.run_id
    return None


def _last_heard(instance: dg.DagsterInstance, record: dg.RunRecord) -> float:
    """When a run last told anything, in seconds since 1970."""
    events = instance.get_records_for_run(record.dagster_run.run_id, limit=1, ascending=False).records
    return max(record.update_timestamp.timestamp(), *(event.timestamp for event in events), 0.0)


def days_of(run: dg.DagsterRun) -> tuple[date | None, date | None]:
    """First and last day of a run; None where it has none."""
    first = run.tags.get(RANGE_START) or run.tags.get(PARTITION)
    last = run.tags.get(RANGE_END) or run.tags.get(PARTITION)
    try:
        return (day_of(first) if first else None, day_of(last) if last else None)
    except ValueError:
        # Somebody else's partitions in the same Dagster: no days of ours.
        return None, None
