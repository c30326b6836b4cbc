"""One `dg.Definitions` of the settings and declarations: every asset, sensor and schedule follows from them, none is listed by hand."""

from collections.abc import Callable

import dagster as dg

from ingestion_platform.dataset import Datasets, LandedFiles
from ingestion_platform.landing import open_landing
from ingestion_platform.orchestration import (
    ageing,
    assets,
    cutoffs,
    endpoints,
    extracts,
    forgetting,
    notices,
    plans,
    quarantine,
    remotes,
    replays,
    schedules,
    senders,
    sensors,
    streams,
)
from ingestion_platform.orchestration.graph import Graph
from ingestion_platform.orchestration.landing_assets import landing_asset
from ingestion_platform.orchestration.quiet import quiet
from ingestion_platform.orchestration.resource import (
    ApisResource,
    DatabasesResource,
    RemotesResource,
    StreamsResource,
    WarehouseResource,
    is_drained,
)
from ingestion_platform.settings import Settings
from ingestion_platform.warehouse import SqlTables, Warehouse


def build_definitions(
    settings: Settings,
    datasets: Datasets,
    sql_tables: SqlTables,
    *,
    warehouse: WarehouseResource | None = None,
    opened: StreamsResource | None = None,
    apis: ApisResource | None = None,
    databases: DatabasesResource | None = None,
    elsewhere: RemotesResource | None = None,
    retries: dg.RetryPolicy = assets.RETRIES,
) -> dg.Definitions:
    """
    Assemble the code location. Opens nothing.

    Args:
        settings: of the deployment.
        datasets: all of them.
        sql_tables: all of them.
        warehouse: what opens the warehouse; default: the one that the settings name.
        opened: what opens streams; default: those that the settings name.
        apis: what asks APIs; default: as the settings say.
        databases: what extracts from databases; default: as the settings say.
        elsewhere: what opens remotes; default: as the settings say.
        retries: of steps that fail by an error that says a retry can help.
    """
    zone = settings.zone
    graph = Graph(datasets, sql_tables)
    store = "s3" if settings.landing.startswith("s3://") else "file"
    made: list[dg.AssetsDefinition] = []
    with quiet():
        for stream in datasets.streams.values():
            made.append(streams.stream_asset(stream, time_zone=zone.key, store=store, retries=retries))
        for endpoint in datasets.endpoints.values():
            made.append(
                endpoints.endpoint_asset(endpoint, datasets=datasets, time_zone=zone.key, store=store, retries=retries)
            )
        for extract in datasets.extracts.values():
            made.append(extracts.extract_asset(extract, time_zone=zone.key, store=store, retries=retries))
        for remote in datasets.remotes.values():
            made.append(remotes.remote_asset(remote, time_zone=zone.key, store=store, retries=retries))
        for dataset in datasets.values():
            if isinstance(dataset.source, LandedFiles):
                made.append(landing_asset(dataset, time_zone=zone.key, store=store))
            made.append(assets.raw_asset(dataset, time_zone=zone.key, retries=retries))
            made.append(assets.processed_asset(dataset, datasets=datasets, time_zone=zone.key, retries=retries))
        for sql in sql_tables.values():
            made.append(assets.sql_asset(sql, graph=graph, time_zone=zone.key, retries=retries))
        to = notices.messengers(settings.notice_webhook)
        declared = [schedules.dataset_schedule(dataset, graph, zone) for dataset in datasets.values()]
        declared += [
            streams.drain_schedule(stream, zone, is_running=is_drained(stream, settings))
            for stream in datasets.streams.values()
        ]
        known_apis = settings.api_settings()
        declared += [
            endpoints.fetch_schedule(
                endpoint,
                endpoints.followers_of(endpoint, datasets.endpoints),
                zone,
                is_running=endpoint.api.name in known_apis,
            )
            for endpoint in datasets.endpoints.values()
        ]
        has_colder = store == "s3" or bool(settings.landing_warm or settings.landing_cold)
        ages = [ageing.ageing_schedule(zone, is_running=has_colder)] if any(datasets.roots.values()) else []
        known_remotes = settings.remote_settings()
        declared += [
            remotes.copy_schedule(remote, zone, is_running=remote.name in known_remotes)
            for remote in datasets.remotes.values()
        ]
        known_databases = settings.database_properties()
        declared += [
            extracts.extract_schedule(extract, zone, is_running=extract.database.name in known_databases)
            for extract in datasets.extracts.values()
        ]
        sending = [dataset for dataset in datasets.values() if dataset.senders is not None]
        by_the_clock = [dataset for dataset in sending if cutoffs.has_clock(dataset)]
        notes = [senders.notes_job(to)] if sending else []
        return dg.Definitions(
            assets=made,
            jobs=[
                plans.plan_job,
                quarantine.quarantine_job,
                replays.replay_job,
                *([forgetting.forget_job] if any(one.people for one in datasets.values()) else []),
                *notes,
                *([senders.excuse_job] if sending else []),
            ],
            sensors=[
                *(sensors.arrival_sensor(dataset, graph) for dataset in datasets.values()),
                sensors.restatement_sensor(graph),
                *([cutoffs.cutoff_sensor(by_the_clock, graph)] if by_the_clock else []),
                notices.failed_run_sensor(to),
                notices.failed_check_sensor(to),
            ],
            schedules=[
                schedules.close_of_the_day(
                    graph,
                    zone,
                    [
                        *(
                            one
                            for one in datasets.endpoints.values()
                            if one.asks_for_days and one.api.name in known_apis
                        ),
                        *(one for one in datasets.remotes.values() if one.name in known_remotes),
                        *(
                            one
                            for one in datasets.extracts.values()
                            if one.asks_for_days and one.database.name in known_databases
                        ),
                    ],
                ),
                *(one for one in declared if one is not None),
                *ages,
                *(senders.notes_schedule(job, zone) for job in notes),
            ],
            resources={
                "warehouse": warehouse or WarehouseResource(warehouse_of(settings, datasets, sql_tables), zone),
                "streams": opened or StreamsResource(settings),
                "apis": apis or ApisResource(settings),
                "databases": databases or DatabasesResource(settings),
                "remotes": elsewhere or RemotesResource(settings),
            },
            # A step here is short and the warehouse does its own parallel work: a process for each costs seconds and gains nothing.
            executor=dg.in_process_executor,
        )


def warehouse_of(settings: Settings, datasets: Datasets, sql_tables: SqlTables) -> Callable[[], Warehouse]:
    """What makes the warehouse that the settings name."""
    return lambda: Warehouse(settings, open_landing(*settings.landing_places), datasets, sql_tables)
