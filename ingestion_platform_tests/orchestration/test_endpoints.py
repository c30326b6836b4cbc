"""Endpoints as assets: what Dagster is told of a fetch, what is asked about what, and when it is done by itself."""

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._core.storage.defs_state.base import set_defs_state_storage
from pydantic import SecretStr

from ingestion_platform.api import Api, ApiPages, EachRecord, EachRow, EachValue, Endpoint
from ingestion_platform.dataset import Daily, Dataset, Datasets, LandedFiles
from ingestion_platform.errors import DeclarationError, SettingsError, SourceError, SourceUnavailable
from ingestion_platform.format import Json
from ingestion_platform.orchestration.build import build_definitions
from ingestion_platform.orchestration.endpoints import _part, fetch_schedule, followers_of
from ingestion_platform.orchestration.graph import asset_key
from ingestion_platform.orchestration.resource import ApisResource, WarehouseResource
from ingestion_platform.orchestration.runs import RANGE_END, RANGE_START
from ingestion_platform.settings import ApiSettings, Settings
from ingestion_platform.table import BIGINT, BOOLEAN, VARCHAR, Column
from ingestion_platform.warehouse import SqlTables
from ingestion_platform_tests.orchestration.world import run
from ingestion_platform_tests.sources.memory_api import DAY, PAGINGS, MemoryApi, endpoint, records

ZONE = ZoneInfo("Africa/Johannesburg")
NEXT = DAY + timedelta(days=1)

SHOPS = Dataset(
    name="shops",
    description="One row per shop.",
    kind="snapshots",
    source=LandedFiles("shops/%Y-%m-%d.csv"),
    columns=(Column("shop", VARCHAR, "Its number.", required=True),),
    primary_key=("shop",),
    daily=Daily(DAY),
)
LISTED = endpoint(PAGINGS["token"], name="listed", path="/list", schedule="0 * * * *")
DETAILED = endpoint(
    name="detailed", path="/list/{thing_id}/details", params={}, each=EachRecord(LISTED, {"thing_id": "id"})
)
BY_SHOP = endpoint(name="by_shop", path="/shops/{shop}", each=EachRow("shops", {"shop": "shop"}))
PRESENT = endpoint(name="present", path="/present", params={}, fallback="last_known")
BY_REGION = endpoint(name="by_region", path="/regions/{region}", each=EachValue("region", ("za", "ng")))


def table(asked: Endpoint, *columns: Column) -> Dataset:
    """A snapshots table of an endpoint."""
    return Dataset(
        name=f"{asked.name}_things",
        description="Things.",
        source=ApiPages(asked),
        kind="snapshots",
        columns=(Column("thing", BIGINT, "Its number.", source="id", required=True), *columns),
        daily=Daily(DAY),
    )


BUSINESS = Datasets(
    [
        SHOPS,
        table(LISTED),
        table(DETAILED, Column("of_thing", BIGINT, "Whose.", source="@param.thing_id")),
        table(BY_SHOP, Column("shop", VARCHAR, "Whose.", source="@param.shop")),
        table(PRESENT, Column("is_stale", BOOLEAN, "Stands in.", source="@is_stale")),
        table(BY_REGION, Column("region", VARCHAR, "Where.", source="@param.region")),
    ]
)


class Deployment:
    """A deployment whose only API is in memory."""

    def __init__(self, folder: Path) -> None:
        (folder / "landing").mkdir()
        (folder / "apis.toml").write_text("[example]\n")
        self.settings = Settings.model_validate(
            {
                "landing": str(folder / "landing"),
                "warehouse": folder / "warehouse.duckdb",
                "publish": folder / "published",
                "timezone": ZONE.key,
                "pii_salt": SecretStr("salt"),
                "apis": folder / "apis.toml",
            }
        )
        self.folder = folder
        self.api = MemoryApi(records(4))
        self.at = datetime(2024, 10, 1, 12, tzinfo=UTC)
        self.instance = dg.DagsterInstance.ephemeral()
        self.definitions = build_definitions(
            self.settings,
            BUSINESS,
            SqlTables({}),
            apis=ApisResource(self.settings, self._client, self._now),
            retries=dg.RetryPolicy(max_retries=0),
        )

    @contextmanager
    def _client(self, _api: Api, _said: Mapping[str, ApiSettings], _folder: Path) -> Iterator[MemoryApi]:
        yield self.api

    def _now(self) -> datetime:
        self.at += timedelta(seconds=1)
        return self.at

    def run(self, *tables: str, first: date = DAY, last: date | None = None) -> dg.ExecuteInProcessResult:
        """Materialize assets for a day, or a range of them."""
        return run(self.definitions, self.instance, list(tables), first, last)

    def tick(self, schedule: str, at: datetime, *, under_way: str = "") -> dg.RunRequest | str:
        """The run that a schedule asks for at a moment, or why it asks for none; while a fetch of *under_way* is."""
        repository = self.definitions.get_repository_def()
        # The context enters the instance a second time, and what definitions are loaded with would stay behind when both have left.
        with set_defs_state_storage(None), dg.instance_for_test() as instance:
            if under_way:
                job = self.definitions.resolve_implicit_global_asset_job_def()
                tags = {"ingestion/endpoint": under_way}
                instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=tags)
            with dg.build_schedule_context(instance, scheduled_execution_time=at, repository_def=repository) as context:
                data = repository.get_schedule_def(schedule).evaluate_tick(context)
        return data.run_requests[0] if data.run_requests else str(data.skip_message)

    def rows(self, name: str, *columns: str) -> list[tuple[object, ...]]:
        """What a processed table has."""
        resource: WarehouseResource = (self.definitions.resources or {})["warehouse"]
        with resource.opened() as warehouse:
            found = warehouse.query(
                f"select {', '.join(columns)} from processed.{name}_things order by all"
            ).to_pylist()
        return [tuple(row.values()) for row in found]


def told(result: dg.ExecuteInProcessResult, table: str) -> dict[str | None, dict[str, Any]]:
    """Partition → metadata, of an asset's materializations."""
    found: dict[str | None, dict[str, Any]] = {}
    for event in result.all_events:
        if event.is_step_materialization and event.asset_key == asset_key(table):
            shown = event.step_materialization_data.materialization
            found[shown.partition] = {name: value.value for name, value in shown.metadata.items()}
    return found


def failure(result: dg.ExecuteInProcessResult) -> str:
    """What a failed step says."""
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    assert failed.step_failure_data.error is not None
    return str(failed.step_failure_data.error)


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """A fresh one."""
    return Deployment(tmp_path)


def test_a_fetch_shows_what_it_took_and_runs_on_to_the_table(deployment: Deployment) -> None:
    """Landing, raw and processed in one run; every call is counted."""
    result = deployment.run("landing.listed", "raw.listed_things", "processed.listed_things")
    assert result.success
    shown = told(result, "landing.listed")[DAY.isoformat()]
    assert {name: shown[name] for name in ("records", "pages", "requests", "has_landed", "fetches", "objects")} == {
        "records": 4, "pages": 2, "requests": 2, "has_landed": True, "fetches": 1, "objects": 1,
    }  # fmt: skip
    assert deployment.rows("listed", "thing") == [(1,), (2,), (3,), (4,)]
    again = told(deployment.run("landing.listed"), "landing.listed")[DAY.isoformat()]
    assert (again["has_landed"], again["not_modified"], again["fetches"]) == (False, 2, 1)


def test_records_of_one_endpoint_are_asked_about_one_by_one(deployment: Deployment) -> None:
    """In the same run, each reply knowing what it was asked about."""
    result = deployment.run("landing.listed", "landing.detailed", "raw.detailed_things", "processed.detailed_things")
    assert result.success
    assert {one for (one,) in deployment.rows("detailed", "of_thing")} == {1, 2, 3, 4}
    assert [url.rpartition("/v1")[2] for url in deployment.api.urls[2:]] == [
        f"/list/{one}/details" for one in range(1, 5)
    ]


def test_records_without_what_they_are_asked_about_with_are_told(deployment: Deployment) -> None:
    """None of them has it: that is a mistake. Some: a sign, in a check."""
    deployment.api.records = [{"id": None, "name": "x"}, {"id": "", "name": "y"}]
    deployment.run("landing.listed")
    assert "none of the 2 records of landing/listed has 'id', which {thing_id} is taken from" in failure(
        deployment.run("landing.detailed")
    )
    deployment.api.records.append({"id": "7", "name": "z"})
    deployment.run("landing.listed")
    result = deployment.run("landing.detailed")
    (check,) = [one for one in result.get_asset_check_evaluations() if one.check_name == "all_pages"]
    assert not check.passed
    assert "2 records lack what they would be asked about with" in str(check.description)


def test_a_part_of_a_value_can_be_what_is_asked_about() -> None:
    """As the number in a record's URL; a record whose value has no such part is left out and counted."""
    each = EachRecord(LISTED, {"thing_id": "url"}, {"thing_id": r"/things/([0-9]+)/$"})
    assert [_part(text, re.compile(each.patterns["thing_id"])) for text in ("https://x/things/7/", "https://x/", None)] == [
        "7", "", "",
    ]  # fmt: skip
    for wrong, told in (
        ({"other": "(x)"}, "takes nothing"),
        ({"thing_id": "x"}, "takes nothing"),
        ({"thing_id": "("}, "no regular"),
    ):
        with pytest.raises(DeclarationError, match=told):
            EachRecord(LISTED, {"thing_id": "url"}, wrong)


def test_a_missing_secret_fails_at_once(tmp_path: Path) -> None:
    """Trying again wouldn't bring it."""
    place = Deployment(tmp_path)

    def refuse(_api: Api, _said: Mapping[str, ApiSettings], _folder: Path) -> AbstractContextManager[MemoryApi]:
        raise SettingsError("API 'example' needs a key", "put it into the file of INGESTION_APIS")

    place.definitions = build_definitions(
        place.settings, BUSINESS, SqlTables({}), apis=ApisResource(place.settings, refuse),
        retries=dg.RetryPolicy(max_retries=3, delay=60),
    )  # fmt: skip
    result = place.run("landing.listed")
    assert "needs a key" in failure(result)
    assert not [event for event in result.all_events if event.event_type_value == "STEP_UP_FOR_RETRY"]


def test_an_api_that_is_down_is_not_asked_for_all_the_other_days(deployment: Deployment) -> None:
    """Its patience is over once: a year of days would take a year of patience."""
    asked = []

    def down(number: int) -> None:
        asked.append(number)
        raise SourceUnavailable("GET https://api.example.com/v1/list: 503", "is it up?")

    deployment.api.before = down
    result = deployment.run("landing.listed", first=DAY, last=DAY + timedelta(days=9))
    assert "10 of 10 days failed" in failure(result)
    assert len(asked) == 1


def test_records_that_are_not_there_yet_can_t_be_asked_about(deployment: Deployment) -> None:
    """The error names the asset that has to come first."""
    assert "landing/listed has nothing whole for 2024-10-01" in failure(deployment.run("landing.detailed"))


def test_rows_of_a_snapshot_are_asked_about_as_of_the_day(deployment: Deployment) -> None:
    """The dataset's processed table says which there are."""
    (deployment.folder / "landing" / "shops").mkdir()
    (deployment.folder / "landing" / "shops" / f"{DAY}.csv").write_text("shop\nb\na/c\n")
    tables = ("landing.by_shop", "raw.by_shop_things", "processed.by_shop_things")
    assert "has nothing as of 2024-10-01" in failure(deployment.run(tables[0]))
    assert deployment.run("raw.shops", "processed.shops", *tables).success
    assert {one for (one,) in deployment.rows("by_shop", "shop")} == {"a/c", "b"}
    assert any("/shops/a%2Fc?" in url for url in deployment.api.urls)


def test_values_are_asked_about_one_by_one(deployment: Deployment) -> None:
    """As declared."""
    assert deployment.run("landing.by_region", "raw.by_region_things", "processed.by_region_things").success
    assert {one for (one,) in deployment.rows("by_region", "region")} == {"za", "ng"}


def test_a_range_of_days_is_one_run_and_a_day_that_fails_costs_only_itself(deployment: Deployment) -> None:
    """The others are done; the failure names the day."""

    def fail(_: int) -> None:
        if len(deployment.api.urls) == 2:
            deployment.api.urls.append("")
            raise SourceError("GET https://api.example.com/v1/list: 500", "ask the provider")

    deployment.api.before = fail
    result = deployment.run("landing.listed", first=DAY, last=DAY + timedelta(days=2))
    assert not result.success
    assert sorted(map(str, told(result, "landing.listed"))) == ["2024-10-01", "2024-10-03"]
    assert "1 of 3 days failed: 2024-10-02" in failure(result)


def test_what_tells_the_present_is_not_asked_for_a_past_day(deployment: Deployment) -> None:
    """Fetched on the day it stays as it was; a day that was missed is told, and never filled with another's answer."""
    assert deployment.run("landing.present").success
    deployment.at = datetime(2024, 10, 3, 12, tzinfo=UTC)
    asked = len(deployment.api.urls)
    result = deployment.run("landing.present")
    assert result.success
    assert told(result, "landing.present")[DAY.isoformat()]["records"] == 3
    assert "can't be fetched any more" in failure(deployment.run("landing.present", first=NEXT))
    assert len(deployment.api.urls) == asked


def test_while_the_api_is_down_the_check_fails_and_the_table_says_so(deployment: Deployment) -> None:
    """The run goes on with the last known values, marked; the check `fresh` fails until the API has answered."""
    assets = ("landing.present", "raw.present_things", "processed.present_things")
    deployment.run(*assets)

    def down(_: int) -> None:
        raise SourceUnavailable("GET https://api.example.com/v1/present: 503 Service Unavailable")

    deployment.api.before = down
    deployment.at = datetime(2024, 10, 2, 12, tzinfo=UTC)
    result = deployment.run(*assets, first=NEXT)
    assert result.success
    (check,) = [one for one in result.get_asset_check_evaluations() if one.check_name == "fresh"]
    assert not check.passed
    assert "what it said at 2024-10-01 12:0" in str(check.description)
    assert "503 Service Unavailable" in str(check.description)
    assert {one for (one,) in deployment.rows("present", "is_stale")} == {False, True}
    deployment.api.before = lambda _: None
    result = deployment.run(*assets, first=NEXT)
    (check,) = [one for one in result.get_asset_check_evaluations() if one.check_name == "fresh"]
    assert check.passed
    assert {one for (one,) in deployment.rows("present", "is_stale")} == {False}


def test_a_schedule_asks_for_today_and_the_days_before(deployment: Deployment) -> None:
    """With what asks about its records, in one run."""
    assert [one.name for one in followers_of(LISTED, BUSINESS.endpoints)] == ["detailed"]
    request = deployment.tick("listed_fetch", datetime(2024, 10, 5, 23, tzinfo=UTC))
    assert isinstance(request, dg.RunRequest)
    assert request.tags[RANGE_START] == "2024-10-05"
    assert request.tags[RANGE_END] == "2024-10-06"
    assert [key.path[-1] for key in request.asset_selection or []] == ["listed", "detailed"]
    assert "begins on 2024-10-01" in str(deployment.tick("listed_fetch", datetime(2024, 9, 1, tzinfo=UTC)))
    assert fetch_schedule(PRESENT, [], ZONE, is_running=True) is None


def test_what_is_under_way_is_not_asked_for_again(deployment: Deployment) -> None:
    """A slow API doesn't gather runs behind it."""
    told = deployment.tick("listed_fetch", datetime(2024, 10, 5, 23, tzinfo=UTC), under_way="listed")
    assert "is under way" in str(told)


def test_schedules_are_on_where_the_settings_know_the_api(deployment: Deployment) -> None:
    """A machine that isn't told of an API asks it only by hand."""
    for apis, status in ((deployment.settings.apis, "RUNNING"), (None, "STOPPED")):
        settings = deployment.settings.model_copy(update={"apis": apis})
        definitions = build_definitions(settings, BUSINESS, SqlTables({}))
        schedule = definitions.get_repository_def().get_schedule_def("listed_fetch")
        assert schedule.default_status.value == status


def test_a_schedule_that_is_none_is_told(deployment: Deployment) -> None:
    """At import, with an example."""
    with pytest.raises(DeclarationError, match="is no cron line"):
        fetch_schedule(endpoint(schedule="hourly"), [], ZONE, is_running=True)


def test_the_close_of_the_day_asks_known_apis_for_yesterday(deployment: Deployment) -> None:
    """So that what changed until midnight lands; what tells only the present can't be asked for it."""
    request = deployment.tick("close_of_the_day", datetime(2024, 10, 5, 0, tzinfo=UTC))
    assert isinstance(request, dg.RunRequest)
    asked = {key.path[-1] for key in request.asset_selection or [] if key.path[0] == "landing"}
    assert asked == {"listed", "detailed", "by_shop", "by_region"}


def test_two_things_that_land_under_one_name_are_told() -> None:
    """An endpoint called as a dataset of files would share its asset."""
    with pytest.raises(DeclarationError, match="are called 'shops'"):
        Datasets([SHOPS, table(endpoint(name="shops"))])


def test_a_declaration_of_the_same_endpoint_in_two_ways_is_told() -> None:
    """Whichever was meant."""
    other = Dataset(
        name="others", description="Others.", source=ApiPages(endpoint(name="listed", format=Json("x[*]"))), kind="snapshots",
        columns=(Column("thing", BIGINT, "Its number."),), daily=Daily(DAY),
    )  # fmt: skip
    with pytest.raises(DeclarationError, match="endpoint 'listed' is declared twice"):
        Datasets([table(LISTED), other])


def test_an_api_that_the_deployment_does_not_name_is_not_asked(deployment: Deployment) -> None:
    """Without a table in the file of INGESTION_APIS no request goes out: what has landed stays, and nothing is no failure."""
    assert deployment.run("landing.listed").success
    asked = len(deployment.api.urls)
    (deployment.folder / "apis.toml").write_text("[another]\n")
    result = deployment.run("landing.listed", "raw.listed_things", "processed.listed_things", first=DAY, last=NEXT)
    assert result.success
    assert len(deployment.api.urls) == asked
    assert told(result, "landing.listed")[DAY.isoformat()]["records"] == 4
    assert told(result, "landing.listed")[NEXT.isoformat()]["fetches"] == 0
    assert deployment.rows("listed", "thing") == [(1,), (2,), (3,), (4,)]
