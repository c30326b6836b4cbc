"""
What starts runs by itself: files that arrive, and results that are out of date.

Belongs here: Dagster's sensors. Doesn't: what they decide by (`arrivals.py`, `restatements.py`), notices (`notices.py`).
"""

from datetime import date

import dagster as dg

from ingestion_platform.dataset import Dataset, LandedFiles, Route
from ingestion_platform.landing import LandedObject
from ingestion_platform.orchestration import arrivals, restatements
from ingestion_platform.orchestration.graph import Graph, asset_key
from ingestion_platform.orchestration.landing_assets import observation
from ingestion_platform.orchestration.resource import WarehouseResource
from ingestion_platform.orchestration.runs import PRIORITY, ROUTE, URGENT_PRIORITY, busy, load_config, request
from ingestion_platform.stream import StreamSegments

ARRIVALS_EVERY_SECONDS = 30
RESTATEMENTS_EVERY_SECONDS = 60
MOST_RUNS_WAITING = 16
"""Unfinished runs of a dataset from which on its sensor asks for no more; what has landed waits, and is found again."""


def arrival_sensor(
    dataset: Dataset, graph: Graph, status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING
) -> dg.SensorDefinition:
    """Starts one run for each day of *dataset* that has something new: raw, its checks, processed, its checks, and the reports."""
    tables = graph.chain(dataset)

    @dg.sensor(
        name=f"{dataset.name}_arrives",
        description=f"New or changed objects of {dataset.name}: {_runs_of(dataset)}, from raw to the reports made of it.",
        asset_selection=dg.AssetSelection.assets(*(asset_key(key) for key in tables)),
        minimum_interval_seconds=dataset.source.load_every_seconds
        if isinstance(dataset.source, StreamSegments)
        else ARRIVALS_EVERY_SECONDS,
        default_status=status,
        required_resource_keys={"warehouse"},
    )
    def arrives(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        resource: WarehouseResource = context.resources.warehouse
        waiting = busy(context.instance)
        free = MOST_RUNS_WAITING - waiting.count([dataset.raw])
        if free <= 0 and (dataset.routing is None or not dataset.routing.urgent):
            return dg.SkipReason(
                f"{waiting.count([dataset.raw])} runs of {dataset.name} are waiting or under way: no more for now"
            )
        today = resource.today()

        def is_busy(day: date, landed: LandedObject | None = None, route: Route | None = None) -> bool:
            if landed is None or route is None:
                return waiting.covers(dataset.raw, day)
            return waiting.takes(dataset.raw, day, landed, route)

        with resource.opened() as warehouse:
            found = arrivals.look(
                dataset,
                warehouse,
                arrivals.Cursor.parse(context.cursor),
                today,
                is_busy,
                most_runs=max(0, free) if dataset.routing is not None else arrivals.MOST_RUNS,
            )
        skip = None if found.arrivals else f"nothing new in {found.listed} days of {dataset.name}"
        return dg.SensorResult(
            run_requests=[
                request(
                    graph,
                    [key for key in tables if not graph.tables[key].is_daily or graph.tables[key].has_day(arrival.day)],
                    arrival.day,
                    arrival.day,
                    run_key=arrival.run_key,
                    cause="arrival",
                    tags={"ingestion/dataset": dataset.name, **_route_tags(arrival.route)},
                    config=load_config(dataset.raw, arrival.only),
                )
                for arrival in found.arrivals
            ],
            skip_reason=skip,
            cursor=str(found.cursor),
            # What lands of a stream or an API is told by whoever lands it.
            asset_events=[observation(dataset, day, objects) for day, objects in found.changed]
            if isinstance(dataset.source, LandedFiles)
            else [],
        )

    return arrives


def _runs_of(dataset: Dataset) -> str:
    routing = dataset.routing
    if routing is None:
        return "one run a day"
    told = [f"those under {', '.join(routing.urgent)} first"] if routing.urgent else []
    told += ["small ones of a day together"]
    told += (
        [f"each above {routing.own_run_above_bytes:,} bytes alone"] if routing.own_run_above_bytes is not None else []
    )
    return ", ".join(told)


def _route_tags(route: Route | None) -> dict[str, str]:
    if route is None:
        return {}
    return {ROUTE: route, **({PRIORITY: URGENT_PRIORITY} if route == "urgent" else {})}


def restatement_sensor(
    graph: Graph, status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING
) -> dg.SensorDefinition:
    """Starts runs for exactly the processed and report days whose inputs have changed since they were computed."""
    tables = graph.computed()

    @dg.sensor(
        name="restatement",
        description="Late data, corrected files, changed declarations and queries: the days concerned are computed again.",
        asset_selection=dg.AssetSelection.assets(*(asset_key(key) for key in tables)),
        minimum_interval_seconds=RESTATEMENTS_EVERY_SECONDS,
        default_status=status,
        required_resource_keys={"warehouse"},
    )
    def restate(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        resource: WarehouseResource = context.resources.warehouse
        waiting = busy(context.instance)
        with resource.opened() as warehouse:
            plan = restatements.plan(
                graph, warehouse, restatements.Asked.parse(context.cursor), resource.today(), waiting.covers
            )
        for held in plan.held_back:
            context.log.warning(f"not computed again: {held}")
        skip = None
        if not plan.runs:
            held = f"; held back: {', '.join(plan.held_back[:10])}" if plan.held_back else ""
            asked = f"; asked for already: {len(plan.asked.states)}" if plan.asked.states else ""
            skip = f"nothing to compute again{asked}{held}"
        return dg.SensorResult(
            run_requests=[
                request(graph, run.tables, run.first, run.last, run_key=run.run_key, cause="restatement")
                for run in plan.runs
            ],
            skip_reason=skip,
            cursor=str(plan.asked),
        )

    return restate
