"""
`year`: the backfill of 365 days of 20 stores, in one run of Dagster and as a run for each day, against one bulk load of the same rows.

Dagster runs in the side's own process, on an instance of its own on disk. Its runs as processes of their own would take a few seconds
more each: that is what it costs to start Dagster, not to load a year.
"""

import logging
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import tills
from cases import Case, Ground, Side, Size
from sides import Given, Steps

from items.day import limit as limit

SIZES = {
    "full": {"files": 20, "rows": 685, "days": 365},
    "quick": {"files": 5, "rows": 100, "days": 20},
    "tiny": {"files": 2, "rows": 10, "days": 5},
}
TABLES = ("raw.tills", "processed.tills", "reports.sales_by_store")


def cases(size: Size, ground: Ground) -> Iterator[Case]:
    """One."""
    shape = SIZES[size]
    landing = ground.tills(**shape)
    rows = shape["files"] * shape["rows"] * shape["days"]
    yield Case(
        "year",
        "backfill",
        f"{shape['days']} days of {shape['files']} stores, {rows:,} rows",
        (
            Side("limit"),
            Side("ours, one run", "one_run"),
            Side("ours, without Dagster", "without_dagster"),
            Side("ours, a run a day", "a_run_a_day", most_rounds=1),
        ),
        {"landing": str(landing), "days": shape["days"]},
        rows=rows,
        most_rounds=2,
        has_warm_up=False,
    )


def one_run(given: Given) -> Steps:
    """A backfill as one run, as Dagster's single-run policy has it."""
    from ingestion_platform.orchestration.runs import RANGE_END, RANGE_START

    job, instance, selection, parts = _prepared(given)
    last = tills.DAY + timedelta(days=given["days"] - 1)
    yield None
    job.execute_in_process(
        instance=instance, asset_selection=selection, tags={RANGE_START: f"{tills.DAY}", RANGE_END: f"{last}"}
    )
    yield None
    yield tills.processed(given["landing"], Path(given["out"]), parts)


def a_run_a_day(given: Given) -> Steps:
    """A backfill as so many runs, one after the other."""
    job, instance, selection, parts = _prepared(given)
    yield None
    for number in range(given["days"]):
        day = tills.DAY + timedelta(days=number)
        job.execute_in_process(instance=instance, asset_selection=selection, partition_key=f"{day}")
    yield None
    yield tills.processed(given["landing"], Path(given["out"]), parts)


def _prepared(given: Given) -> tuple[Any, Any, Any, Any]:
    """What asks Dagster for a run, after a run over four rows elsewhere; where runs are kept; which assets; the declarations."""
    logging.disable(logging.INFO)
    parts = tills.declared()
    with tempfile.TemporaryDirectory() as root:
        landing = Path(root) / "landing"
        tills.land(landing, files=2, rows=2)
        job, instance, selection = _in_dagster(str(landing), Path(root), parts)
        job.execute_in_process(instance=instance, asset_selection=selection, partition_key=f"{tills.DAY}")
    return (*_in_dagster(given["landing"], Path(given["out"]), parts), parts)


def _in_dagster(landing: str, out: Path, parts: Any) -> tuple[Any, Any, Any]:
    import dagster as dg

    from ingestion_platform.orchestration.build import build_definitions
    from ingestion_platform.orchestration.graph import asset_key

    definitions = build_definitions(tills.settings(landing, out), *parts)
    (out / "dagster").mkdir()
    instance = dg.DagsterInstance.local_temp(str(out / "dagster"))
    return definitions.resolve_implicit_global_asset_job_def(), instance, [asset_key(table) for table in TABLES]


def without_dagster(given: Given) -> Steps:
    """`python -m ingestion_platform backfill`, from where it has opened the warehouse."""
    from ingestion_platform.warehouse import upkeep

    parts = tills.declared()
    tills.practise()
    out = Path(given["out"])
    yield None
    with tills.opened(given["landing"], out, parts) as warehouse:
        upkeep.catch_up(warehouse)
    yield None
    yield tills.processed(given["landing"], out, parts)
