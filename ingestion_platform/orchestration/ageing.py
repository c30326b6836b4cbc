"""
Ageing by the clock: once a day, what is due goes to colder places, and the ledger learns where everything is.

Belongs here: Dagster's job and schedule. Doesn't: what is due (`warehouse/ageing.py`).
"""

from zoneinfo import ZoneInfo

import dagster as dg

from ingestion_platform.errors import IngestionError
from ingestion_platform.orchestration.resource import WarehouseResource
from ingestion_platform.orchestration.steps import as_failure
from ingestion_platform.warehouse.ageing import age

EVERY_NIGHT = "0 5 * * *"
"""After the close of the day, and whatever that has left to do."""


@dg.op(name="age_landed_objects", required_resource_keys={"warehouse"})
def age_landed_objects(context: dg.OpExecutionContext) -> None:
    """Move what is due, and note where everything is."""
    resource: WarehouseResource = context.resources.warehouse
    try:
        with resource.opened() as warehouse:
            done = age(warehouse, tell=context.log.warning)
    except IngestionError as error:
        raise as_failure(error, "ageing") from error
    context.log.info(str(done))
    context.add_output_metadata(
        {
            **{f"moved_{place}": done.moved[place] for place in ("warm", "cold")},
            **{f"objects_{place}": done.there[place] for place in ("hot", "warm", "cold")},
            "bytes_moved": done.bytes_moved,
            "left": len(done.left),
        }
    )


@dg.job(name="ageing", description="Landed objects go to colder places, as is declared. Nothing is ever deleted.")
def ageing_job() -> None:
    """The one step."""
    age_landed_objects()


def ageing_schedule(zone: ZoneInfo, *, is_running: bool) -> dg.ScheduleDefinition:
    """Every night at 05:00, where this deployment has colder places."""
    return dg.ScheduleDefinition(
        name="ageing_every_night",
        job=ageing_job,
        cron_schedule=EVERY_NIGHT,
        execution_timezone=zone.key,
        default_status=dg.DefaultScheduleStatus.RUNNING if is_running else dg.DefaultScheduleStatus.STOPPED,
        description="What is due goes to colder places, and the ledger learns where everything is.",
    )
