"""
Replays from the UI: a job that reads days again and certifies what that has changed, each partition shown on its asset.

Belongs here: Dagster's job, and the events of partitions that were computed outside their own assets' steps. Doesn't: the replay
(`warehouse/replay.py`).
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import date

import dagster as dg
from pydantic import Field

from ingestion_platform.errors import IngestionError, NotMaterialized, WarehouseError
from ingestion_platform.orchestration import checks
from ingestion_platform.orchestration import metadata as show
from ingestion_platform.orchestration.assets import agreement_of, rows_there
from ingestion_platform.orchestration.graph import Graph, asset_key
from ingestion_platform.orchestration.resource import WarehouseResource
from ingestion_platform.orchestration.steps import as_failure
from ingestion_platform.orchestration.telling import told_verdicts
from ingestion_platform.warehouse import Warehouse
from ingestion_platform.warehouse.certificates import Certificate, Compared
from ingestion_platform.warehouse.replay import certified_replay, days_to_replay, replay

Told = dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckEvaluation | dg.Output[None]


class ReplayConfig(dg.Config):
    """What is replayed, and who asks for it."""

    dataset: str = Field(description="Whose objects are read again.")
    first: str = Field(description="First day, of the objects' keys: 2024-10-01.")
    last: str = Field(default="", description="Last day; empty: the first.")
    certificate: bool = Field(default=True, description="Compare every table and day before and after.")
    by: str = Field(default="", description="Who asks for the certificate.")
    why: str = Field(default="replay", description="For those who read it.")


@dg.op(name="replay_days", required_resource_keys={"warehouse"}, out=dg.Out(dg.Nothing))
def replay_days(context: dg.OpExecutionContext, config: ReplayConfig) -> Iterator[Told]:
    """Read the days again, compute them and everything behind, and certify what that has changed."""
    resource: WarehouseResource = context.resources.warehouse
    try:
        with resource.opened() as warehouse:
            yield from _replayed(context, config, warehouse)
    except IngestionError as error:
        raise as_failure(error, f"replay of {config.dataset} {config.first}") from error


def _replayed(context: dg.OpExecutionContext, config: ReplayConfig, warehouse: Warehouse) -> Iterator[Told]:
    if config.dataset not in warehouse.datasets:
        raise NotMaterialized(f"there is no dataset {config.dataset!r}", f"datasets: {', '.join(warehouse.datasets)}")
    dataset = warehouse.datasets[config.dataset]
    first = day_from(config.first, "first")
    last = day_from(config.last, "last") if config.last else first
    tell: Callable[[str], None] = context.log.info
    if not config.certificate:
        days = days_to_replay(warehouse, dataset, first, last)
        done = replay(warehouse, dataset, days, force=True, run_id=context.run_id, tell=tell)
        yield from events_of(warehouse, done.computed)
        yield dg.Output(None, metadata={"partitions": len(done.computed), "changed": len(done.changed)})
        return
    made = certified_replay(
        warehouse, dataset, first, last, by=config.by, why=config.why, run_id=context.run_id, tell=tell
    )
    computed = [(one.table, one.day) for one in made.compared if not one.table.startswith(("raw.", "quarantine."))]
    yield from events_of(warehouse, [one for one in computed if warehouse.table_day(*one) is not None])
    for one in made.compared:
        if not one.table.startswith("quarantine."):
            yield _observed(made, one)
            if one.table == dataset.raw:
                verdict = checks.judge_certificate(warehouse.certified(one.table, one.day))
                yield checks.evaluation(one.table, str(one.day), verdict)
    context.log.info(f"{made}; {made.key}")
    if not made.is_explained:
        raise dg.Failure(
            f"{made}\nHint: select * from platform.certificates where certificate = '{made.key}'",
            metadata=_shown(made),
            allow_retries=False,
        )
    yield dg.Output(None, metadata=_shown(made))


def _observed(made: Certificate, one: Compared) -> dg.AssetObservation:
    """What a certificate says of a partition, on its asset."""
    found = one.difference
    return dg.AssetObservation(
        asset_key(one.table),
        partition=one.day.isoformat() if one.day else None,
        description=str(one),
        metadata={
            "certificate": dg.MetadataValue.text(made.key),
            "verdict": dg.MetadataValue.text(one.verdict),
            "hash_before": dg.MetadataValue.text(one.hash_before),
            "hash_after": dg.MetadataValue.text(one.hash_after),
            **show.numbers(
                {
                    "rows_before": one.rows_before, "rows_after": one.rows_after,
                    "added": found.added, "gone": found.gone, "changed": found.changed,
                }
            ),
            "why": dg.MetadataValue.text("; ".join(one.why) or ("" if one.verdict == "equal" else "unknown")),
        },
    )  # fmt: skip


def _shown(made: Certificate) -> dict[str, dg.MetadataValue]:
    return {
        "certificate": dg.MetadataValue.text(made.key),
        "verdict": dg.MetadataValue.text(str(made)),
        "differences": show.table_of_records(
            {"table": "string", "day": "string", "verdict": "string", "added": "int", "gone": "int", "changed": "int", "why": "string"},
            (
                {
                    "table": one.table, "day": str(one.day or ""), "verdict": one.verdict, "added": one.difference.added,
                    "gone": one.difference.gone, "changed": one.difference.changed, "why": "; ".join(one.why),
                }
                for one in made.compared
                if one.verdict != "equal"
            ),
        ),
    }  # fmt: skip


def events_of(warehouse: Warehouse, partitions: Iterable[tuple[str, date | None]]) -> Iterator[Told]:
    """What Dagster is told of partitions that were computed: as if their own steps had done it, checks and all."""
    graph = Graph(warehouse.datasets, warehouse.sql_tables)
    for key, day in partitions:
        done = warehouse.table_day(key, day)
        assert done is not None, "it was computed"
        table = graph.tables[key]
        partition = day.isoformat() if day is not None else None
        yield dg.AssetMaterialization(
            asset_key(key),
            metadata=show.of_table_day(done),
            partition=partition,
            tags={"dagster/data_version": done.content} if done.content else None,
        )
        if table.sql is not None:
            inputs = {other: rows_there(warehouse, graph.tables[other], day) for other in table.sql.depends_on}
            verdicts = checks.judge_sql(table.sql, done, inputs, agreement_of(warehouse, table.sql, done.day))
        else:
            assert table.dataset is not None
            verdicts = [*checks.judge_processed(table.dataset, done), *told_verdicts(warehouse, table.dataset)]
        for verdict in (*verdicts, checks.judge_certificate(warehouse.certified(key, day))):
            yield checks.evaluation(key, partition, verdict)


def day_from(text: str, called: str) -> date:
    """
    A day as somebody wrote it at the launchpad.

    Raises:
        WarehouseError: it is none.
    """
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise WarehouseError(f"{called} {text!r} is no day", "as in 2024-10-01") from error


@dg.job(
    name="certified_replay",
    description="Days are read again from what landed, and a certificate tells what that has changed, by table and day, and why.",
)
def replay_job() -> None:
    """The one step."""
    replay_days()
