"""
Endpoints of APIs as assets: `landing/<endpoint>` fetches what the API has for each chosen day, by schedule or by hand.

Belongs here: what Dagster is told of a fetch, what requests are made of (rows of a snapshot, records of another endpoint), and when it is
done by itself. Doesn't: fetching (`sources/fetch.py`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import dagster as dg

from ingestion_platform.api import EachRecord, EachRow, EachValue, Endpoint, Pages
from ingestion_platform.dataset import Datasets
from ingestion_platform.errors import (
    DeclarationError,
    IngestionError,
    ObjectRejected,
    SourceChanged,
    SourceError,
    SourceUnavailable,
)
from ingestion_platform.fetch_folders import LandedFetch
from ingestion_platform.formats import Field, read_records
from ingestion_platform.orchestration import metadata as show
from ingestion_platform.orchestration.checks import Verdict, specs
from ingestion_platform.orchestration.graph import Table, asset_key, fetched_key, table_of
from ingestion_platform.orchestration.metadata import Metadata
from ingestion_platform.orchestration.partitions import daily, reading_days
from ingestion_platform.orchestration.progress import FetchProgress
from ingestion_platform.orchestration.resource import ApisResource
from ingestion_platform.orchestration.runs import CAUSE, RANGE_END, RANGE_START, under_way
from ingestion_platform.orchestration.steps import Event, Outcome, as_failure, run_days
from ingestion_platform.sources.fetch import Fetch, Fetched
from ingestion_platform.sources.fetched import LandedEndpoint
from ingestion_platform.table import Check
from ingestion_platform.warehouse import Warehouse

FRESH = Check("fresh", "", "The API answered for the day; no former pages stand in for its answer.")
ALL_PAGES = Check(
    "all_pages",
    "",
    "Nothing says that the API has more than was fetched, or that records are missing.",
    severity="warn",
)


class FetchConfig(dg.Config):
    """Launch-time choices of an endpoint's landing asset."""

    restart: bool = False
    """Of an endpoint with a cursor: ask from its beginning again."""


def endpoint_asset(
    endpoint: Endpoint, *, datasets: Datasets, time_zone: str, store: str, retries: dg.RetryPolicy
) -> dg.AssetsDefinition:
    """
    What has landed of *endpoint*, and its fetch.

    Args:
        endpoint: which.
        datasets: all of them.
        time_zone: business time.
        store: `s3` or `file`, for the icon.
        retries: of a fetch that fails by an error that says a retry can help.
    """
    key = fetched_key(endpoint)
    table = Table(table_of(key), endpoint.first_day, ())
    partitions = daily(endpoint.first_day, time_zone)
    check_specs = specs(table.key, (FRESH, ALL_PAGES), partitions)
    asked = f"`GET {endpoint.api.base_url}{endpoint.path}`"

    @dg.multi_asset(
        name=f"landing__{endpoint.name}",
        specs=[
            dg.AssetSpec(
                key,
                deps=[dg.AssetDep(one, partition_mapping=reading_days(0, 0)) for one in _asked_of(endpoint, datasets)],
                description=f"{endpoint.description}\n\nThe replies as they came: {asked}.",
                partitions_def=partitions,
                group_name="landing",
                kinds={store, "restapi"},
                owners=endpoint.owners,
                tags=endpoint.tags,
                metadata={"keys": dg.MetadataValue.text(endpoint.template.text)},
            )
        ],
        check_specs=check_specs,
        backfill_policy=dg.BackfillPolicy.single_run(),
        retry_policy=retries,
        required_resource_keys={"apis", "warehouse"},
    )
    def fetch(context: dg.AssetExecutionContext, config: FetchConfig) -> Iterator[Event]:
        resource: ApisResource = context.resources.apis
        landed = resource.landed(endpoint)
        is_asked = resource.asks(endpoint.api)
        if not is_asked:
            context.log.warning(
                f"{endpoint.name} isn't fetched from here: the file of INGESTION_APIS has no table [{endpoint.api.name}]."
                " What has landed of it stays"
            )
        down: list[date] = []
        try:
            opened = resource.client(endpoint.api) if is_asked else nullcontext()
        except IngestionError as error:
            raise as_failure(error, table.key) from error
        with opened as client:

            def work(warehouse: Warehouse, day: date | None, _is_shown: bool) -> Outcome:
                assert day is not None
                if client is None:
                    return _as_it_stays(landed, day)
                today = resource.today()
                if not endpoint.asks_for_days and day != today:
                    return _as_it_landed(landed, day, today)
                progress = FetchProgress(f"{table.key} {day}", context.log.info)
                each, left_out = requests_of(endpoint, datasets, warehouse, resource, day)
                if down:
                    raise SourceError(
                        f"not asked for: the API was down when {down[0]} was", "fetch it when the API is back"
                    )
                try:
                    fetched = Fetch(landed, client, resource.zone, now=resource.now, on_page=progress.page_came).run(
                        day, each, restart=config.restart
                    )
                except SourceUnavailable as error:
                    # Its patience is over: neither the days that follow nor the step again ask in vain for as long.
                    down.append(day)
                    raise SourceError(error.what, error.hint) from error
                shown = _landed_for(landed, day) | of_fetch(fetched, left_out)
                return Outcome(
                    shown, [judge(fetched), judge_pages(fetched, left_out)], fetched.name, story(fetched, left_out)
                )

            yield from run_days(context, table, check_specs, work)

    return fetch


def _asked_of(endpoint: Endpoint, datasets: Datasets) -> list[dg.AssetKey]:
    """The assets that an endpoint's requests are made of."""
    match endpoint.each:
        case EachRow(dataset=name):
            return [asset_key(datasets[name].processed)]
        case EachRecord(endpoint=other):
            return [fetched_key(other)]
        case _:
            return []


def requests_of(
    endpoint: Endpoint, datasets: Datasets, warehouse: Warehouse, resource: ApisResource, day: date
) -> tuple[Sequence[Mapping[str, str]], int]:
    """
    What `each` gives for every request of a day.

    Returns:
        Placeholders with their values; and how many records were left out because one of the values is missing.

    Raises:
        SourceError: the other endpoint has nothing for the day.
        NotMaterialized: the dataset has nothing as of the day.
    """
    match endpoint.each:
        case None:
            return [{}], 0
        case EachValue(name=name, values=values):
            return [{name: value} for value in values], 0
        case EachRow(dataset=dataset, take=take, where=where):
            rows = warehouse.rows_as_of(datasets[dataset], list(take.values()), day, where=where)
            return [dict(zip(take, row, strict=True)) for row in rows], 0
        case EachRecord(endpoint=other):
            return _records_of(endpoint.each, resource.landed(other), day)


def _records_of(each: EachRecord, landed: LandedEndpoint, day: date) -> tuple[list[dict[str, str]], int]:
    take = each.take
    fetch = landed.last_whole(day)
    if fetch is None:
        raise SourceError(
            f"landing/{landed.endpoint.name} has nothing whole for {day}, and its records are asked about",
            f"materialize landing/{landed.endpoint.name} for that day first, or both together",
        )
    fields = [Field(name, path) for name, path in take.items()]
    patterns = [re.compile(each.patterns[name]) if name in each.patterns else None for name in take]
    found: dict[tuple[str, ...], None] = {}
    left_out, others = 0, dict[str, None]()
    for key in fetch.groups:
        try:
            records = read_records(Pages(landed.endpoint.format), landed.content(key), fields, key=key)
        except ObjectRejected as error:
            raise SourceError(f"{key} {error.what}", error.hint) from error
        left_out += len(records.rejected)
        others |= dict.fromkeys(records.unknown_columns)
        for row in zip(*(records.table.column(name).to_pylist() for name in take), strict=True):
            meant = tuple(_part(value, pattern) for value, pattern in zip(row, patterns, strict=True))
            if all(meant):
                found[meant] = None
            else:
                left_out += 1
    if left_out and not found:
        raise SourceChanged(
            f"none of the {left_out:,} records of landing/{landed.endpoint.name} has {', '.join(map(repr, take.values()))}, which"
            f" {', '.join(f'{{{name}}}' for name in take)} {'is' if len(take) == 1 else 'are'} taken from"
            + (f" (beside it they have {', '.join(list(others)[:8])})" if others else ""),
            "fix take, or its pattern",
        )
    return [dict(zip(take, row, strict=True)) for row in found], left_out


def _part(value: str | None, pattern: re.Pattern[str] | None) -> str:
    """What of a value is meant; empty when it isn't there."""
    if value is None or pattern is None:
        return value or ""
    found = pattern.search(value)
    return (found[1] or "") if found else ""


def _as_it_landed(landed: LandedEndpoint, day: date, today: date) -> Outcome:
    """A past day of an endpoint that tells the present: what was fetched on that day."""
    fetch = landed.last_whole(day)
    if fetch is None:
        raise SourceError(
            f"it can't be fetched any more: what {landed.endpoint.path} answers today, {today}, isn't what it answered then",
            "fetch it on the day itself (its schedule does); if the API can be asked for past days, put {day} or {window_start}"
            " into params",
        )
    return _standing(landed, day, fetch, "fetched on the day itself")


def _as_it_stays(landed: LandedEndpoint, day: date) -> Outcome:
    """A day of an endpoint that isn't asked from here: what has landed of it."""
    fetch = landed.last_whole(day)
    if fetch is None:
        return Outcome(
            _landed_for(landed, day), [Verdict(FRESH, True, "not fetched from here")], "", "nothing has landed"
        )
    return _standing(landed, day, fetch, "fetched before")


def _standing(landed: LandedEndpoint, day: date, fetch: LandedFetch, how: str) -> Outcome:
    """A fetch that stands, and isn't asked for again."""
    note = landed.note(fetch)
    stale_from = note.stale_from
    shown = _landed_for(landed, day) | show.numbers({"records": note.records})
    verdict = Verdict(
        FRESH, stale_from is None, how if stale_from is None else f"fetch {stale_from} stands in for the API's answer"
    )
    return Outcome(shown, [verdict], fetch.name, f"{how}, {note.records:,} records; it isn't asked again")


def _landed_for(landed: LandedEndpoint, day: date) -> Metadata:
    """What has landed for a day, of all its fetches."""
    found = landed.fetches(day)
    whole = [fetch for fetch in found if fetch.is_whole]
    return show.numbers(
        {
            "fetches": len(whole),
            "interrupted_fetches": len(found) - len(whole),
            "objects": sum(len(fetch.groups) for fetch in found),
            "bytes": sum(landed.size_bytes(fetch) for fetch in found),
        }
    )


def of_fetch(fetched: Fetched, left_out: int) -> Metadata:
    """The numbers of a fetch."""
    shown = show.numbers(
        {
            "records": fetched.records,
            "repeated_records": fetched.repeated,
            "records_not_asked_about": left_out,
            "first_pages": fetched.requests,
            "pages": fetched.pages,
            "resumed_pages": fetched.resumed,
            "bytes_of_pages": fetched.bytes,
            **{name: round(value, 3) if isinstance(value, float) else value for name, value in fetched.asked.items()},
            "seconds": round(fetched.seconds, 3),
        }
    )
    shown["fetch"] = dg.MetadataValue.text(fetched.name)
    shown["has_landed"] = dg.MetadataValue.bool(fetched.has_landed)
    if fetched.cursor is not None:
        shown["cursor"] = dg.MetadataValue.text(fetched.cursor)
    if fetched.stale_from is not None:
        shown["stale_from"] = dg.MetadataValue.text(fetched.stale_from.isoformat(timespec="seconds"))
    return shown


def judge(fetched: Fetched) -> Verdict:
    """Whether the API answered."""
    if fetched.stale_from is None:
        return Verdict(FRESH, True, f"the API answered: {fetched.records:,} records")
    return Verdict(
        FRESH,
        False,
        f"the API is down, and what it said at {fetched.stale_from:%Y-%m-%d %H:%M} UTC stands in for its answer: {fetched.problem}."
        " Fetch the day again when it is back: its answer takes that place",
        show.numbers({"stale_hours": round(_age_hours(fetched), 1)}),
    )


def judge_pages(fetched: Fetched, left_out: int) -> Verdict:
    """Whether anything says that there is more."""
    signs = list(fetched.signs)
    if left_out:
        signs.append(f"{left_out:,} records lack what they would be asked about with")
    details = show.numbers({"signs": len(signs)})
    if not signs:
        return Verdict(
            ALL_PAGES, True, f"{fetched.records:,} records on {fetched.pages:,} pages, and no sign of more", details
        )
    return Verdict(
        ALL_PAGES, False, "; ".join(signs) + ". See whether paging and each are declared as the API means it", details
    )


def _age_hours(fetched: Fetched) -> float:
    from_ = fetched.stale_from
    assert from_ is not None
    return (fetched.ended_at - from_).total_seconds() / 3600


def story(fetched: Fetched, left_out: int) -> str:
    """One line of what a fetch did."""
    if fetched.stale_from is not None:
        return f"the API is down; {fetched.records:,} records of {fetched.stale_from:%Y-%m-%d %H:%M} UTC stand in for its answer"
    landed = "landed" if fetched.has_landed else "nothing has changed, nothing landed"
    took = fetched.asked
    parts = [
        f"{fetched.records:,} records on {fetched.pages:,} pages, {landed}; {took.get('requests', 0):,.0f} requests"
    ]
    for name, words in (("not_modified", "not modified"), ("retries", "retries"), ("throttles", "throttled")):
        if took.get(name):
            parts.append(f"{took[name]:,.0f} {words}")
    if fetched.resumed:
        parts.append(f"{fetched.resumed:,} pages of an interrupted fetch taken over")
    if fetched.repeated:
        parts.append(f"{fetched.repeated:,} records came more than once")
    return ", ".join(parts) + f", {fetched.seconds:.1f} s"


def fetch_schedule(
    endpoint: Endpoint, followers: Sequence[Endpoint], zone: ZoneInfo, *, is_running: bool
) -> dg.ScheduleDefinition | None:
    """
    What fetches *endpoint* again and again; None when it declares no schedule.

    Args:
        endpoint: which.
        followers: endpoints that ask about its records and have no schedule of their own: they are fetched in the same run.
        zone: business time.
        is_running: whether it is on from the start: where this deployment knows the API.

    Raises:
        DeclarationError: the cron line isn't one.
    """
    if endpoint.schedule is None:
        return None
    keys = [fetched_key(one) for one in (endpoint, *followers)]
    back = endpoint.refetch_days if endpoint.asks_for_days else 0

    def run(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        today = context.scheduled_execution_time.astimezone(zone).date()
        if today < endpoint.first_day:
            return dg.SkipReason(f"{endpoint.name} begins on {endpoint.first_day}")
        run_id = under_way(context.instance, "ingestion/endpoint", endpoint.name)
        if run_id is not None:
            return dg.SkipReason(f"a fetch of {endpoint.name} is under way: {run_id}")
        first = max(today - timedelta(days=back), endpoint.first_day)
        return dg.RunRequest(
            run_key=f"{endpoint.name}|{context.scheduled_execution_time.isoformat()}",
            asset_selection=keys,
            tags={
                CAUSE: "fetch",
                "ingestion/endpoint": endpoint.name,
                RANGE_START: first.isoformat(),
                RANGE_END: today.isoformat(),
            },
        )

    try:
        return dg.ScheduleDefinition(
            name=f"{endpoint.name}_fetch",
            target=dg.AssetSelection.assets(*keys),
            cron_schedule=endpoint.schedule,
            execution_timezone=zone.key,
            execution_fn=run,
            default_status=dg.DefaultScheduleStatus.RUNNING if is_running else dg.DefaultScheduleStatus.STOPPED,
            description=f"Fetches {endpoint.name} for today" + (f" and {back} days before." if back else "."),
        )
    except dg.DagsterInvalidDefinitionError as error:
        raise DeclarationError(
            f"endpoint {endpoint.name!r}: schedule {endpoint.schedule!r} is no cron line", "as in '30 * * * *'"
        ) from error


def followers_of(endpoint: Endpoint, endpoints: Mapping[str, Endpoint]) -> list[Endpoint]:
    """The endpoints without a schedule of their own that ask about an endpoint's records, or about those of one of them."""
    found: list[Endpoint] = []
    for other in endpoints.values():
        if isinstance(other.each, EachRecord) and other.each.endpoint == endpoint and other.schedule is None:
            found += [other, *followers_of(other, endpoints)]
    return found
