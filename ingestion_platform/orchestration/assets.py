"""
The tables as assets: one factory a layer, the same for every dataset and SQL file.

Belongs here: what Dagster is told of a table (key, days, upstream, docs, owners, checks) and which call of the warehouse makes a day of it.
Doesn't: how days are gone through (`steps.py`), what is judged (`checks.py`).
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from functools import lru_cache

import dagster as dg
from pydantic import Field

from ingestion_platform.api import Pages
from ingestion_platform.dataset import Dataset
from ingestion_platform.errors import IngestionError
from ingestion_platform.format import Csv, Json, JsonLines, Xml
from ingestion_platform.orchestration import checks
from ingestion_platform.orchestration import metadata as show
from ingestion_platform.orchestration.graph import Graph, Table, asset_key, landing_key
from ingestion_platform.orchestration.metadata import Metadata
from ingestion_platform.orchestration.partitions import daily, reading_days
from ingestion_platform.orchestration.progress import LoadProgress
from ingestion_platform.orchestration.resource import WarehouseResource
from ingestion_platform.orchestration.runs import op_name
from ingestion_platform.orchestration.steps import Event, Outcome, run_days
from ingestion_platform.orchestration.telling import told_verdicts
from ingestion_platform.stream import Segments
from ingestion_platform.table import Check
from ingestion_platform.warehouse import ALERTS, Agreement, Only, RawDay, SqlTable, TableDay, Warehouse, told_waiting
from ingestion_platform.warehouse.forget import returned

RETRIES = dg.RetryPolicy(max_retries=3, delay=20, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
"""On top of the landing zone's and the warehouse's own waiting, and only for errors that say it can help: 20, 60, 140 s."""
FRESH_BY = "0 4 * * *"
"""Business time by when yesterday must be done: two hours after the close of the day."""
FRESH_SINCE = timedelta(hours=3)

Materialize = Callable[[dg.AssetExecutionContext], Iterator[Event]]


class RawConfig(dg.Config):
    """Launch-time choices of a raw asset."""

    reload: bool = False
    """Read every object of the day again, known to the ledger or not."""
    keys: list[str] = Field(default=[])
    """Load these objects of the day alone; the others stay as they are, and are found by the next run. Empty: all of them."""
    up_to_bytes: int | None = None
    """Load no object that is larger."""


class ComputedConfig(dg.Config):
    """Launch-time choices of a processed or report asset."""

    force: bool = False
    """Compute the day again although nothing it is made of has changed."""


def format_kind(dataset: Dataset) -> str:
    """What its objects are, in Dagster's word."""
    format = dataset.source.format
    match format.inside if isinstance(format, Pages) else format:
        case Csv():
            return "csv"
        case Json() | JsonLines():
            return "json"
        case Xml():
            return "xml"
        case Segments():
            return "parquet"
        case _:
            return "parquet"


def raw_asset(dataset: Dataset, *, time_zone: str, retries: dg.RetryPolicy = RETRIES) -> dg.AssetsDefinition:
    """The raw table of *dataset*: its landed objects, loaded exactly once."""
    table = Table(dataset.raw, dataset.daily.from_, (), dataset=dataset)
    partitions = daily(dataset.daily.from_, time_zone)
    specs = checks.specs(table.key, checks.raw_checks(dataset), partitions)

    @dg.multi_asset(
        name=op_name(table.key),
        specs=[
            dg.AssetSpec(
                asset_key(table.key),
                deps=[dg.AssetDep(landing_key(dataset), partition_mapping=reading_days(0, 0))],
                description=f"{dataset.description}\n\nAs sent: text, each row with its object and its number.",
                partitions_def=partitions,
                group_name="raw",
                kinds={"duckdb", format_kind(dataset)},
                owners=dataset.owners,
                tags=dataset.tags,
                freshness_policy=_freshness(time_zone),
                metadata={
                    "dagster/column_schema": show.declared_schema(dataset, "raw"),
                    "keys": dg.MetadataValue.md("\n".join(f"- `{key.text}`" for key in dataset.source.keys)),
                },
            )
        ],
        check_specs=specs,
        backfill_policy=dg.BackfillPolicy.single_run(),
        retry_policy=retries,
        required_resource_keys={"warehouse"},
    )
    def load(context: dg.AssetExecutionContext, config: RawConfig) -> Iterator[Event]:
        resource: WarehouseResource = context.resources.warehouse

        def work(warehouse: Warehouse, day: date | None, is_shown: bool) -> Outcome:
            assert day is not None
            progress = LoadProgress(f"{dataset.raw} {day}", context.log.info)
            raw = warehouse.load(
                dataset,
                day,
                reload=config.reload,
                only=Only(frozenset(config.keys) or None, config.up_to_bytes),
                run_id=context.run.run_id,
                progress=progress.object_read,
            )
            senders = warehouse.senders(dataset, day) if dataset.senders is not None else None
            trailing = warehouse.volume(dataset.raw, day)
            unknown = (
                warehouse.unknown_types(dataset, day) if checks.KNOWN_TYPES in checks.raw_checks(dataset) else None
            )
            verdicts = checks.judge_raw(
                dataset,
                raw,
                senders,
                trailing,
                is_over=day < resource.today(),
                unknown_types=unknown,
                drift=warehouse.drift(dataset),
                returned=returned(warehouse, dataset, day, day) if dataset.people else (),
            )
            shown = show.of_raw_day(raw, senders)
            if is_shown:
                shown |= _shown(context, warehouse, dataset.raw, day, raw.rows)
            return Outcome(shown, verdicts, _content(raw), _raw_story(raw))

        yield from run_days(context, table, specs, work)

    return load


def processed_asset(
    dataset: Dataset, *, datasets: Mapping[str, Dataset], time_zone: str, retries: dg.RetryPolicy = RETRIES
) -> dg.AssetsDefinition:
    """The processed table of *dataset*: typed, checked, masked, one row per key."""
    table = Table(dataset.processed, dataset.daily.from_, (), dataset=dataset)
    partitions = daily(dataset.daily.from_, time_zone)
    specs = checks.specs(table.key, checks.processed_checks(dataset), partitions)
    others = sorted({other for _, other, _ in dataset.references})
    origins = show.origins_of(dataset)

    @dg.multi_asset(
        name=op_name(table.key),
        specs=[
            dg.AssetSpec(
                asset_key(table.key),
                deps=[
                    dg.AssetDep(
                        asset_key(dataset.raw), partition_mapping=reading_days(0, dataset.daily.allowed_lateness_days)
                    ),
                    # The newest state on or before the day is read, so a day that was never sent holds nothing up.
                    *(
                        dg.AssetDep(asset_key(datasets[other].processed), partition_mapping=reading_days(0, 0))
                        for other in others
                    ),
                ],
                description=_with_key(dataset.description, dataset.primary_key),
                partitions_def=partitions,
                group_name="processed",
                kinds={"duckdb"},
                owners=dataset.owners,
                tags=dataset.tags,
                freshness_policy=_freshness(time_zone),
                metadata={
                    "dagster/column_schema": show.declared_schema(dataset, "processed"),
                    "column_origins": show.origins_table(origins),
                },
            )
        ],
        check_specs=specs,
        backfill_policy=dg.BackfillPolicy.single_run(),
        retry_policy=retries,
        required_resource_keys={"warehouse"},
    )
    def process(context: dg.AssetExecutionContext, config: ComputedConfig) -> Iterator[Event]:
        def work(warehouse: Warehouse, day: date | None, is_shown: bool) -> Outcome:
            assert day is not None
            done = warehouse.process(dataset, day, force=config.force, run_id=context.run.run_id)
            shown = show.of_table_day(done)
            if is_shown:
                shown |= _shown(context, warehouse, dataset.processed, day, done.rows, dataset.primary_key, origins)
            verdicts = [*checks.judge_processed(dataset, done), *told_verdicts(warehouse, dataset)]
            return Outcome(shown, verdicts, done.content, _story(done))

        yield from run_days(context, table, specs, work)

    return process


def sql_asset(sql: SqlTable, *, graph: Graph, time_zone: str, retries: dg.RetryPolicy = RETRIES) -> dg.AssetsDefinition:
    """A table that a SQL file computes."""
    table = graph.tables[sql.key]
    partitions = daily(table.first_day, time_zone) if table.first_day is not None else None
    specs = checks.specs(table.key, checks.sql_checks(sql), partitions)

    @dg.multi_asset(
        name=op_name(table.key),
        specs=[
            dg.AssetSpec(
                asset_key(table.key),
                deps=[
                    *(_sql_dep(graph.tables[other], sql, table) for other in sql.depends_on),
                    # Its own state at the end of the day before.
                    *(
                        [dg.AssetDep(asset_key(sql.key), partition_mapping=reading_days(-1, -1))]
                        if sql.carries_on
                        else []
                    ),
                ],
                description=f"{_with_key(sql.description, sql.primary_key)}\n\n```sql\n{sql.sql.strip()}\n```",
                partitions_def=partitions,
                group_name=sql.layer,
                kinds={"duckdb", "sql"},
                owners=sql.owners,
                tags=sql.tags,
                freshness_policy=_freshness(time_zone),
                metadata={
                    "dagster/column_schema": show.sql_schema(sql),
                    **({"file": dg.MetadataValue.text(f"sql/{sql.layer}/{sql.path.name}")} if sql.path else {}),
                },
            )
        ],
        check_specs=specs,
        backfill_policy=dg.BackfillPolicy.single_run() if partitions is not None else None,
        retry_policy=retries,
        required_resource_keys={"warehouse"},
    )
    def derive(context: dg.AssetExecutionContext, config: ComputedConfig) -> Iterator[Event]:
        def work(warehouse: Warehouse, day: date | None, is_shown: bool) -> Outcome:
            done = warehouse.derive(sql, day, force=config.force, run_id=context.run.run_id)
            inputs = {other: rows_there(warehouse, graph.tables[other], day) for other in sql.depends_on}
            shown = show.of_table_day(done)
            if is_shown:
                shown |= _shown(context, warehouse, sql.key, day, done.rows, sql.primary_key, sql.origins)
            verdicts = checks.judge_sql(sql, done, inputs, agreement_of(warehouse, sql, day))
            return Outcome(shown, verdicts, done.content, _story(done))

        yield from run_days(context, table, specs, work)

    return derive


def agreement_of(warehouse: Warehouse, sql: SqlTable, day: date | None) -> Agreement | None:
    """How what a table judges agrees with what was raised live; None of any other table."""
    if sql.judges is None or day is None or ALERTS not in warehouse.datasets:
        return None
    # Whether or not the worker has made rows of what it landed.
    warehouse.load(warehouse.datasets[ALERTS], day)
    warehouse.process(warehouse.datasets[ALERTS], day)
    return warehouse.agreement(sql, day)


def checks_of(table: Table) -> tuple[Check, ...]:
    """The checks that a table's asset has."""
    if table.sql is not None:
        return checks.sql_checks(table.sql)
    assert table.dataset is not None
    return checks.raw_checks(table.dataset) if table.layer == "raw" else checks.processed_checks(table.dataset)


def _with_key(description: str, primary_key: Sequence[str]) -> str:
    return f"{description}\n\nKey: {', '.join(f'`{name}`' for name in primary_key)}." if primary_key else description


@lru_cache(maxsize=8)
def _freshness(time_zone: str) -> dg.FreshnessPolicy:
    """One for all assets: Dagster goes through a thousand days to see that a schedule isn't too dense, each time one is made."""
    return dg.FreshnessPolicy.cron(deadline_cron=FRESH_BY, lower_bound_delta=FRESH_SINCE, timezone=time_zone)


def _sql_dep(other: Table, sql: SqlTable, table: Table) -> dg.AssetDep:
    if other.is_daily and table.is_daily:
        return dg.AssetDep(asset_key(other.key), partition_mapping=reading_days(-sql.history_days, 0))
    return dg.AssetDep(asset_key(other.key))


def rows_there(warehouse: Warehouse, table: Table, day: date | None) -> int | None:
    """Rows that a table has on a day; None where it has no such day."""
    if table.layer == "raw":
        assert table.dataset is not None
        return warehouse.raw_day(table.dataset, day).rows if day is not None else None
    if table.is_daily and day is None:
        return None
    found = warehouse.table_day(table.key, day if table.is_daily else None)
    return found.rows if found is not None else None


def _shown(
    context: dg.AssetExecutionContext,
    warehouse: Warehouse,
    table: str,
    day: date | None,
    rows: int,
    primary_key: Sequence[str] = (),
    origins: show.Origins | None = None,
) -> Metadata:
    try:
        shown: Metadata = {
            "dagster/column_schema": dg.MetadataValue.table_schema(
                show.schema_of(warehouse.columns(table), primary_key)
            ),
            "preview": show.preview(warehouse.preview(table, day)) if rows else dg.MetadataValue.md("no rows"),
        }
    except IngestionError as error:
        # The day itself is done and committed: what can't be shown of it is told, and fails nothing.
        context.log.warning(f"{table} {day or ''}: no preview: {error}")
        shown = {"preview": dg.MetadataValue.text(f"no preview: {error}")}
    if origins:
        shown["column_origins"] = show.origins_table(origins)
        shown["dagster/column_lineage"] = dg.MetadataValue.column_lineage(show.lineage(origins))
    return shown


def _content(raw: RawDay) -> str:
    lines = (f"{entry.key}\t{entry.sha256}\t{entry.state}\n" for entry in raw.entries)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _raw_story(raw: RawDay) -> str:
    waiting = [told_waiting(raw.waiting)] if raw.waiting else []
    if not raw.has_changed:
        objects = len(raw.entries) - len(raw.keys("replaced"))
        return "; ".join([f"nothing new; {raw.rows:,} rows of {objects:,} objects", *waiting])
    told = [f"{raw.rows:,} rows", f"{len(raw.new_keys):,} objects read ({raw.bytes_read:,} bytes, {raw.seconds:.1f} s)"]
    told += [
        f"{len(keys):,} {word}"
        for keys, word in ((raw.keys("duplicate"), "duplicate objects"), (raw.keys("rejected"), "rejected objects"))
        if keys
    ]
    if raw.rows_quarantined:
        told.append(f"{raw.rows_quarantined:,} rows quarantined")
    return "; ".join([", ".join(told), *waiting])


def _story(done: TableDay) -> str:
    told = str(done.balance) if done.balance is not None else f"{done.rows:,} rows"
    told += f", {done.state}" if done.state else ""
    return f"{told} ({done.seconds:.1f} s)" if done.has_changed else f"nothing has changed; {told}"
