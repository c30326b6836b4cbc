"""
Cutoffs that have passed: whoever hasn't sent is missing from that moment, not before, and a check says so then.

Belongs here: which days are judged again and when, and the sensor that asks for it. Doesn't: the judgement (`checks.py`), reports whose
state moves (`restatements.py` finds them stale).

A dataset without a cutoff, all of whose senders have the business's clock, is judged when the day is closed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from ingestion_platform.dataset import Dataset
from ingestion_platform.orchestration.graph import Graph, asset_key
from ingestion_platform.orchestration.resource import WarehouseResource
from ingestion_platform.orchestration.runs import request
from ingestion_platform.warehouse import Warehouse

CUTOFFS_EVERY_SECONDS = 60
LONGEST_SLEEP = timedelta(days=14)
"""Of a daemon that slept for longer, older cutoffs aren't caught up with one by one: nobody waits for them any more."""


@dataclass(frozen=True)
class Passed:
    """A dataset's day of which a cutoff has passed, and the last moment at which one has."""

    dataset: Dataset
    day: date
    at: datetime


def has_clock(dataset: Dataset) -> bool:
    """Whether a dataset's senders have cutoffs of their own, apart from the close of the day."""
    senders = dataset.senders
    return senders is not None and (
        senders.cutoff is not None
        or senders.time_zone is not None
        or dataset.time_zone is not None
        or any(one.time_zone is not None for one in senders.listed)
    )


def passed(warehouse: Warehouse, datasets: Iterable[Dataset], since: datetime, until: datetime) -> list[Passed]:
    """
    The days of which a cutoff has passed.

    Args:
        warehouse: knows the senders' clocks.
        datasets: those that are looked at.
        since: the moment of the last look; what had passed by then is left out.
        until: the moment of this one.
    """
    since = max(since, until - LONGEST_SLEEP)
    found = []
    for dataset in datasets:
        assert dataset.senders is not None, "asked of datasets with senders only"
        # No clock is more than a day from UTC's.
        day = max(dataset.daily.from_, since.date() - timedelta(days=dataset.senders.due.days_after + 2))
        while day <= until.date() + timedelta(days=1):
            moments = [at for at in warehouse.attendance.cutoffs(dataset, day) if since < at <= until]
            if moments:
                found.append(Passed(dataset, day, max(moments)))
            day += timedelta(days=1)
    return found


def cutoff_sensor(
    datasets: Sequence[Dataset], graph: Graph, status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING
) -> dg.SensorDefinition:
    """Judges a day's senders anew whenever a cutoff of theirs has passed."""

    @dg.sensor(
        name="cutoffs",
        description="At each cutoff: who is missing, late, empty or twice. Loads what has come by then, and judges the raw day.",
        asset_selection=dg.AssetSelection.assets(*(asset_key(dataset.raw) for dataset in datasets)),
        minimum_interval_seconds=CUTOFFS_EVERY_SECONDS,
        default_status=status,
        required_resource_keys={"warehouse"},
    )
    def cutoffs(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        resource: WarehouseResource = context.resources.warehouse
        with resource.opened() as warehouse:
            until = warehouse.clock()
            since = _parse(context.cursor)
            found = passed(warehouse, datasets, since, until) if since is not None else []
        return dg.SensorResult(
            run_requests=[
                request(
                    graph,
                    [one.dataset.raw],
                    one.day,
                    one.day,
                    run_key=f"cutoff|{one.dataset.name}|{one.day}|{one.at.isoformat()}",
                    cause="cutoff",
                )
                for one in found
            ],
            skip_reason=None if found else "no cutoff has passed since the last look",
            cursor=until.isoformat(),
        )

    return cutoffs


def _parse(cursor: str | None) -> datetime | None:
    """The moment of the last look; None when there was none, or it can't be read: what has passed was judged when the day was closed."""
    try:
        found = datetime.fromisoformat(cursor or "")
    except ValueError:
        return None
    return found.astimezone(UTC) if found.tzinfo is not None else None
