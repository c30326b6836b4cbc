"""
The job `plan`: what a backfill would do, shown before it is started.

Belongs here: Dagster's job. Doesn't: the plan (`warehouse/plan.py`), its words (`warehouse/plan_text.py`).

It works in a shadow of the warehouse: it changes nothing, holds no lock, and needs no pool.
"""

from datetime import date

import dagster as dg
from pydantic import Field

from ingestion_platform.errors import IngestionError, SettingsError
from ingestion_platform.orchestration.metadata import numbers
from ingestion_platform.orchestration.resource import WarehouseResource
from ingestion_platform.orchestration.steps import as_failure
from ingestion_platform.warehouse import plan_text
from ingestion_platform.warehouse.backfill import ask
from ingestion_platform.warehouse.plan import Objects, plan


class PlanConfig(dg.Config):
    """What the backfill would be asked to do."""

    # A default of their own, and no factory: what has none isn't shown at the launchpad.
    datasets: list[str] = Field(default=[], description="Names; none: all.")
    first: str = Field(default="", description="First day: 2024-10-01. Empty: from the beginning.")
    last: str = Field(default="", description="Last day, included. Empty: to the end.")
    replay: bool = Field(default=False, description="Read every object of the days again, known or not.")
    sample_days: int | None = Field(
        default=None, description="Try so many days of each dataset, and estimate the rest; 0: estimate everything."
    )


@dg.op(name="plan_backfill", required_resource_keys={"warehouse"})
def plan_backfill(context: dg.OpExecutionContext, config: PlanConfig) -> None:
    """Do the backfill in a shadow of the warehouse, and show the difference."""
    resource: WarehouseResource = context.resources.warehouse
    warehouse = resource.unopened()
    try:
        unknown = sorted(set(config.datasets) - set(warehouse.datasets))
        if unknown:
            raise SettingsError(f"there is no dataset {unknown[0]!r}", f"datasets: {', '.join(warehouse.datasets)}")
        asked = ask(
            warehouse,
            [warehouse.datasets[name] for name in config.datasets],
            first=_day("first", config.first),
            last=_day("last", config.last),
            replay=config.replay,
        )
        made = plan(warehouse, asked, sample_days=config.sample_days, tell=context.log.info)
    except IngestionError as error:
        raise as_failure(error, "plan") from error
    context.log.info(plan_text.headline(made))
    objects = sum((one.objects for one in made.datasets), Objects())
    processed = [one for one in made.partitions if one.balance is not None]
    values: dict[str, int | float] = {
        "objects_read": objects.count,
        "bytes_read": objects.bytes,
        "rows_added": sum(one.difference.added for one in processed),
        "rows_changed": sum(one.difference.changed for one in processed),
        "rows_gone": sum(one.difference.gone for one in processed),
        "rows_lost": sum(sum(one.lost.rows.values()) for one in made.datasets),
        "quarantined": sum(sum(one.quarantined.values()) for one in processed),
        "released": sum(sum(one.released.values()) for one in processed),
        "partitions_restated": sum(not one.is_same for one in made.partitions),
        "reports_under_another_state": sum(one.is_other_state for one in made.partitions),
        "failures": len(made.failures),
    }
    if made.expected_seconds is not None:
        values["expected_seconds"] = round(made.expected_seconds, 1)
    context.add_output_metadata({"plan": dg.MetadataValue.md(plan_text.as_markdown(made)), **numbers(values)})


def _day(name: str, text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError as error:
        raise SettingsError(f"{name}: {text!r} is no day", "as in 2024-10-01") from error


@dg.job(
    name="plan",
    description="Shows what a backfill would do: objects, rows, quarantine, reports, time. Nothing is changed.",
)
def plan_job() -> None:
    """The one step."""
    plan_backfill()
