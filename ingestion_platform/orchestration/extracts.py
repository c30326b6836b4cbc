"""
Extracts of databases as assets: `landing/<extract>` reads a table or a query for each chosen day, by schedule or by hand.

Belongs here: what Dagster is told of an extract, and when it is done by itself. Doesn't: extracting (`sources/extract.py`).
"""

from collections.abc import Iterator
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import dagster as dg

from ingestion_platform.database import Extract
from ingestion_platform.errors import DeclarationError, IngestionError, SourceError, SourceUnavailable
from ingestion_platform.orchestration import metadata as show
from ingestion_platform.orchestration.checks import Verdict, specs
from ingestion_platform.orchestration.graph import Table, fetched_key, table_of
from ingestion_platform.orchestration.metadata import Metadata
from ingestion_platform.orchestration.partitions import daily
from ingestion_platform.orchestration.progress import ExtractProgress
from ingestion_platform.orchestration.resource import DatabasesResource
from ingestion_platform.orchestration.runs import CAUSE, RANGE_END, RANGE_START, under_way
from ingestion_platform.orchestration.steps import Event, Outcome, as_failure, run_days
from ingestion_platform.sources.extract import Extracted, Extraction, story
from ingestion_platform.sources.extracted import LandedExtract
from ingestion_platform.table import Check
from ingestion_platform.warehouse import Warehouse

ALL_ROWS = Check(
    "all_rows",
    "",
    "Nothing says that rows are missing: no fewer than half of those before, and none that the cursor had missed.",
    severity="warn",
)
FEW = 10
"""Of fewer rows than this nobody wonders that half of them have gone."""
_TAG = "ingestion/extract"


class ExtractConfig(dg.Config):
    """Launch-time choices of an extract's landing asset."""

    restart: bool = False
    """Of an extract with a cursor: all that was known is void, and all rows are read."""
    sweep: bool = False
    """Of an extract with a cursor: compare all keys, whether or not it is time."""


def extract_asset(extract: Extract, *, time_zone: str, store: str, retries: dg.RetryPolicy) -> dg.AssetsDefinition:
    """
    What has landed of *extract*, and its extraction.

    Args:
        extract: which.
        time_zone: business time.
        store: `s3` or `file`, for the icon.
        retries: of an extract that fails by an error that says a retry can help.
    """
    key = fetched_key(extract)
    table = Table(table_of(key), extract.first_day, ())
    partitions = daily(extract.first_day, time_zone)
    check_specs = specs(table.key, (ALL_ROWS,), partitions)

    @dg.multi_asset(
        name=f"landing__{extract.name}",
        specs=[
            dg.AssetSpec(
                key,
                description=f"{extract.description}\n\nAs the database has it: {extract.what} of `{extract.database.name}`.",
                partitions_def=partitions,
                group_name="landing",
                kinds={store, extract.database.engine},
                owners=extract.owners,
                tags=dict(extract.tags),
                metadata={"keys": dg.MetadataValue.text(extract.template.text)},
            )
        ],
        check_specs=check_specs,
        backfill_policy=dg.BackfillPolicy.single_run(),
        retry_policy=retries,
        required_resource_keys={"databases", "warehouse"},
    )
    def read(context: dg.AssetExecutionContext, config: ExtractConfig) -> Iterator[Event]:
        resource: DatabasesResource = context.resources.databases
        landed = resource.landed(extract)
        is_read = resource.extracts(extract.database)
        if not is_read:
            context.log.warning(
                f"{extract.name} isn't extracted from here: the file of INGESTION_DATABASES has no table"
                f" [{extract.database.name}]. What has landed of it stays"
            )
        try:
            opened = resource.opened(extract.database) if is_read else None
        except IngestionError as error:
            raise as_failure(error, table.key) from error
        down: list[date] = []

        def work(_warehouse: Warehouse, day: date | None, _is_shown: bool) -> Outcome:
            assert day is not None
            today = resource.today()
            if opened is None or (day != today and not extract.asks_for_days):
                return _as_it_landed(landed, day, today, is_read=opened is not None)
            progress = ExtractProgress(f"{table.key} {day}", context.log.info)
            if down:
                raise SourceError(
                    f"not extracted: the database was down when {down[0]} was", "extract it when it is back"
                )
            extraction = Extraction(
                landed,
                opened,
                resource.zone,
                now=resource.now,
                on_rows=progress.rows_came,
                first_wait_seconds=resource.first_wait_seconds,
            )
            try:
                extracted = extraction.run(day, restart=config.restart, sweep=config.sweep)
            except SourceUnavailable:
                # It was asked again and again: the days that follow don't ask in vain for as long.
                down.append(day)
                raise
            for problem in extracted.problems:
                context.log.warning(f"{table.key} {day}: begun anew: {problem}")
            shown = _landed_for(landed, day) | of_extract(extracted)
            return Outcome(shown, [judge(extracted)], extracted.name, story(extracted))

        yield from run_days(context, table, check_specs, work)

    return read


def _as_it_landed(landed: LandedExtract, day: date, today: date, *, is_read: bool) -> Outcome:
    """A day that can't be extracted, or not from here: what has landed of it."""
    extract = landed.extract
    fetch = landed.last_whole(day)
    if fetch is None:
        if is_read and extract.cursor is None:
            raise SourceError(
                f"it can't be extracted any more: what {extract.what} has today, {today}, isn't what it had then",
                "extract it on the day itself (its schedule does); a query can ask for past days: $day, $window_start, $window_end",
            )
        return Outcome(
            _landed_for(landed, day), [Verdict(ALL_ROWS, True, "nothing was extracted")], "", "nothing has landed"
        )
    note = landed.note(fetch)
    shown = _landed_for(landed, day) | show.numbers({"rows": note.rows})
    how = "extracted on the day itself" if is_read else "extracted before"
    return Outcome(shown, [Verdict(ALL_ROWS, True, how)], fetch.name, f"{how}, {note.rows:,} rows; it isn't read again")


def _landed_for(landed: LandedExtract, day: date) -> Metadata:
    """What has landed for a day, of all its extracts."""
    found = landed.fetches(day)
    whole = [fetch for fetch in found if fetch.is_whole]
    return show.numbers(
        {
            "extracts": len(whole),
            "interrupted_extracts": len(found) - len(whole),
            "objects": sum(len(fetch.groups) for fetch in found),
            "bytes": sum(landed.size_bytes(fetch) for fetch in found),
        }
    )


def of_extract(extracted: Extracted) -> Metadata:
    """The numbers of an extract."""
    numbers: dict[str, int | float] = {
        "rows": extracted.rows,
        "groups": extracted.groups,
        "bytes_landed": extracted.bytes,
        "begun_anew": len(extracted.problems),
        "rows_per_second": round((extracted.rows + extracted.known) / max(extracted.seconds, 0.001)),
        "seconds": round(extracted.seconds, 3),
    }
    if extracted.cursor is not None:
        numbers |= {"known_rows": extracted.known}
    if extracted.keys is not None:
        numbers |= {
            "compared_keys": extracted.keys,
            "removed_rows": extracted.removed,
            "missed_rows": extracted.missed,
        }
    shown = show.numbers(numbers)
    shown["extract"] = dg.MetadataValue.text(extracted.name)
    shown["has_landed"] = dg.MetadataValue.bool(extracted.has_landed)
    shown["from_replica"] = dg.MetadataValue.bool(extracted.is_replica)
    if extracted.cursor is not None:
        shown["cursor"] = dg.MetadataValue.text(extracted.cursor)
    return shown


def judge(extracted: Extracted) -> Verdict:
    """Whether anything says that rows are missing."""
    details = show.numbers({"rows": extracted.rows, "missed_rows": extracted.missed})
    before = extracted.rows_before
    if before is not None and before >= FEW and extracted.rows * 2 < before:
        return Verdict(
            ALL_ROWS, False, f"{extracted.rows:,} rows, {before:,} the time before: were so many removed?", details
        )
    if extracted.missed:
        return Verdict(
            ALL_ROWS,
            False,
            f"the cursor had missed {extracted.missed:,} rows, which the sweep has found: transactions take longer than the overlap,"
            " or somebody writes without moving the cursor on",
            details,
        )
    return Verdict(ALL_ROWS, True, f"{extracted.rows:,} rows, and no sign of more", details)


def extract_schedule(extract: Extract, zone: ZoneInfo, *, is_running: bool) -> dg.ScheduleDefinition | None:
    """
    What extracts again and again; None when *extract* declares no schedule.

    Args:
        extract: which.
        zone: business time.
        is_running: whether it is on from the start: where this deployment knows the database.

    Raises:
        DeclarationError: the cron line isn't one.
    """
    if extract.schedule is None:
        return None
    key = fetched_key(extract)
    back = extract.reextract_days if extract.asks_for_days else 0

    def run(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        today = context.scheduled_execution_time.astimezone(zone).date()
        if today < extract.first_day:
            return dg.SkipReason(f"{extract.name} begins on {extract.first_day}")
        run_id = under_way(context.instance, _TAG, extract.name)
        if run_id is not None:
            return dg.SkipReason(f"an extract of {extract.name} is under way: {run_id}")
        first = max(today - timedelta(days=back), extract.first_day)
        return dg.RunRequest(
            run_key=f"{extract.name}|{context.scheduled_execution_time.isoformat()}",
            asset_selection=[key],
            tags={
                CAUSE: "extract",
                _TAG: extract.name,
                RANGE_START: first.isoformat(),
                RANGE_END: today.isoformat(),
            },
        )

    try:
        return dg.ScheduleDefinition(
            name=f"{extract.name}_extract",
            target=dg.AssetSelection.assets(key),
            cron_schedule=extract.schedule,
            execution_timezone=zone.key,
            execution_fn=run,
            default_status=dg.DefaultScheduleStatus.RUNNING if is_running else dg.DefaultScheduleStatus.STOPPED,
            description=f"Extracts {extract.name} for today" + (f" and {back} days before." if back else "."),
        )
    except dg.DagsterInvalidDefinitionError as error:
        raise DeclarationError(
            f"extract {extract.name!r}: schedule {extract.schedule!r} is no cron line", "as in '30 3 * * *'"
        ) from error
