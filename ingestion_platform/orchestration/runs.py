"""
Runs as Dagster takes and shows them: asking for one over days, and which tables and days are queued or under way.

A run over tables that begin on different days can't be given a partition key (Dagster wants one definition for that); it takes a range of
one day instead, which comes to the same.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import dagster as dg

from ingestion_platform.api import Endpoint
from ingestion_platform.orchestration.graph import Graph, asset_key, endpoint_key, table_of
from ingestion_platform.orchestration.partitions import day_of

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
PARTITION = "dagster/partition"
CAUSE = "ingestion/cause"
"""Tag: why the platform asked for the run: `arrival`, `restatement`, `close_of_the_day`, `schedule`."""

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
    endpoints: Sequence[Endpoint] = (),
) -> dg.RunRequest:
    """A run over *tables*, and *endpoints* before them, from day *first* to *last*, both included; None for tables without days."""
    begins = {graph.tables[key].first_day for key in tables if graph.tables[key].is_daily}
    begins |= {endpoint.first_day for endpoint in endpoints}
    is_one_partition = first is not None and first == last and len(begins) == 1
    days = {}
    if first is not None and last is not None and not is_one_partition:
        days = {RANGE_START: first.isoformat(), RANGE_END: last.isoformat()}
    return dg.RunRequest(
        run_key=run_key,
        asset_selection=[*(endpoint_key(one) for one in endpoints), *(asset_key(key) for key in tables)],
        partition_key=first.isoformat() if is_one_partition and first is not None else None,
        tags={CAUSE: cause, **days, **(tags or {})},
    )


@dataclass(frozen=True)
class Busy:
    """Tables and days of unfinished runs."""

    spans: tuple[tuple[frozenset[str] | None, date | None, date | None], ...]

    def covers(self, table: str, day: date | None) -> bool:
        """Whether an unfinished run does that day of that table."""
        for tables, first, last in self.spans:
            if tables is not None and table not in tables:
                continue
            if day is None or first is None or last is None or first <= day <= last:
                return True
        return False

    def count(self, tables: Iterable[str]) -> int:
        """Unfinished runs that do any of these tables."""
        wanted = set(tables)
        return sum(1 for names, _, _ in self.spans if names is None or wanted & names)


def busy(instance: dg.DagsterInstance, clock: Callable[[], float] = time.time) -> Busy:
    """
    What is queued or under way now.

    Args:
        instance: keeps the runs.
        clock: seconds since 1970.
    """
    spans: list[tuple[frozenset[str] | None, date | None, date | None]] = []
    for record in instance.get_run_records(filters=dg.RunsFilter(statuses=UNFINISHED)):
        run = record.dagster_run
        if (
            run.status is not dg.DagsterRunStatus.QUEUED
            and clock() - _last_heard(instance, record) > SILENT_AFTER_SECONDS
        ):
            continue
        tables = frozenset(table_of(key) for key in run.asset_selection) if run.asset_selection else None
        first, last = days_of(run)
        spans.append((tables, first, last))
    return Busy(tuple(spans))


def under_way(instance: dg.DagsterInstance, tag: str, value: str) -> str | None:
    """The id of an unfinished run with that tag; None without one."""
    statuses = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
    runs = instance.get_runs(dg.RunsFilter(statuses=statuses, tags={tag: value}), limit=1)
    return runs[0].run_id if runs else None


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
