"""A code location with one asset, by day, that does nothing."""

import dagster as dg
import tills


@dg.asset(partitions_def=dg.DailyPartitionsDefinition(start_date=f"{tills.DAY}"))
def nothing() -> None:
    """Do nothing."""


defs = dg.Definitions(assets=[nothing], executor=dg.in_process_executor)
