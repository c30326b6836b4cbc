"""
What runs by the clock, in business time: the close of the day at 02:00 for yesterday, and whatever a dataset declares.

The close covers everything, whether files have come or not: that is when a missing sender is noticed.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import dagster as dg

from ingestion_platform.api import Endpoint
from ingestion_platform.database import Extract
from ingestion_platform.dataset import Dataset
from ingestion_platform.errors import DeclarationError
from ingestion_platform.orchestration.graph import Graph
from ingestion_platform.orchestration.runs import request
from ingestion_platform.remote import RemoteFiles

CLOSE_OF_THE_DAY = "0 2 * * *"
EVERY_ASSET_JOB = "__ASSET_JOB"
"""Dagster's implicit job over all assets: the only one that takes assets of different partitions definitions."""


def close_of_the_day(
    graph: Graph,
    zone: ZoneInfo,
    fetched: Sequence[Endpoint | RemoteFiles | Extract] = (),
    status: dg.DefaultScheduleStatus = dg.DefaultScheduleStatus.RUNNING,
) -> dg.ScheduleDefinition:
    """The whole graph for yesterday, at 02:00, what is *fetched* for yesterday from APIs, remotes and databases among it."""
    tables = tuple(table.key for table in graph)
    return _schedule("close_of_the_day", CLOSE_OF_THE_DAY, graph, tables, zone, status, fetched)


def dataset_schedule(
    dataset: Dataset, graph: Graph, zone: ZoneInfo, status: dg.DefaultScheduleStatus = dg.DefaultScheduleStatus.RUNNING
) -> dg.ScheduleDefinition | None:
    """
    What *dataset* declares: yesterday's chain, by its cron line; None when it declares nothing.

    Raises:
        DeclarationError: the cron line isn't one.
    """
    if dataset.schedule is None:
        return None
    try:
        return _schedule(f"{dataset.name}_schedule", dataset.schedule, graph, graph.chain(dataset), zone, status)
    except dg.DagsterInvalidDefinitionError as error:
        raise DeclarationError(
            f"dataset {dataset.name!r}: schedule {dataset.schedule!r} is no cron line", "as in '30 5 * * *'"
        ) from error


def _schedule(
    name: str,
    cron: str,
    graph: Graph,
    tables: Sequence[str],
    zone: ZoneInfo,
    status: dg.DefaultScheduleStatus,
    fetched: Sequence[Endpoint | RemoteFiles | Extract] = (),
) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=name,
        cron_schedule=cron,
        execution_timezone=zone.key,
        job_name=EVERY_ASSET_JOB,
        default_status=status,
        description=f"Yesterday, {'everything' if name == 'close_of_the_day' else 'from raw to the reports'}.",
    )
    def run(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        day = yesterday(context, zone)
        chosen = [key for key in tables if not graph.tables[key].is_daily or graph.tables[key].has_day(day)]
        if not any(graph.tables[key].is_daily for key in chosen):
            return dg.SkipReason(f"nothing begins before {day}")
        asked = [one for one in fetched if one.first_day <= day]
        return request(graph, chosen, day, day, run_key=f"{name}|{day}", cause=name, fetched=asked)

    return run


def yesterday(context: dg.ScheduleEvaluationContext, zone: ZoneInfo) -> date:
    """The business day before the one on which the schedule ticks."""
    return context.scheduled_execution_time.astimezone(zone).date() - timedelta(days=1)
