"""The whole path in Dagster on a real landing zone and warehouse: runs, sensors and restatement until nothing is left to do."""

from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest
from pydantic import SecretStr

from ingestion_platform import datasets as declarations
from ingestion_platform.dataset import find_datasets
from ingestion_platform.demo import FolderProducer, Plan, Trouble, tell
from ingestion_platform.orchestration.build import build_definitions, warehouse_of
from ingestion_platform.orchestration.graph import Graph, table_of
from ingestion_platform.orchestration.resource import WarehouseResource
from ingestion_platform.orchestration.runs import RANGE_END, RANGE_START
from ingestion_platform.settings import Settings
from ingestion_platform.warehouse import load_sql_tables
from ingestion_platform_tests.orchestration.world import materializations, run

PLAN = Plan(
    stores=8,
    days=3,
    lines_per_store_day=6,
    troubles=frozenset({Trouble.LATE_FILE, Trouble.REWRITTEN_FILE, Trouble.LATE_ROWS}),
)


class Place:
    """A deployment in a folder, its sensors ticked by hand."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(
            landing=str(folder / "landing"),
            warehouse=folder / "warehouse.duckdb",
            publish=folder / "published",
            pii_salt=SecretStr("salt"),
        )
        self.datasets = find_datasets(declarations)
        self.sql_tables = load_sql_tables(self.datasets, zone=self.settings.zone)
        self.graph = Graph(self.datasets, self.sql_tables)
        self.resource = WarehouseResource(
            warehouse_of(self.settings, self.datasets, self.sql_tables), self.settings.zone
        )
        self.definitions = build_definitions(self.settings, self.datasets, self.sql_tables)
        self.instance = dg.DagsterInstance.ephemeral()
        self.cursors: dict[str, str | None] = {}

    def tick(self, name: str) -> list[dg.RunRequest]:
        """The runs that a sensor asks for."""
        with dg.build_sensor_context(
            self.instance,
            cursor=self.cursors.get(name),
            definitions=self.definitions,
            resources={"warehouse": self.resource},
        ) as context:
            result = self.definitions.get_repository_def().get_sensor_def(name).evaluate_tick(context)
        self.cursors[name] = result.cursor
        return list(result.run_requests or ())

    def obey(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """Run what was asked for."""
        first = request.partition_key or request.tags[RANGE_START]
        last = request.partition_key or request.tags[RANGE_END]
        tables = [table_of(key) for key in request.asset_selection or ()]
        return run(self.definitions, self.instance, tables, date.fromisoformat(first), date.fromisoformat(last))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A fresh deployment."""
    return Place(tmp_path)


def test_files_that_land_become_reports_without_anybody(place: Place) -> None:
    """What lands starts runs; late and corrected files restate the days concerned; then nothing is left to do, and every balance holds."""
    story = tell(PLAN)
    producer = FolderProducer(Path(place.settings.landing))
    names = [f"{dataset}_arrives" for dataset in place.datasets]
    for step in story.steps:
        step.land(producer)
        for _ in range(12):
            asked = [one for name in [*names, "restatement"] for one in place.tick(name)]
            if not asked:
                break
            for one in asked:
                assert place.obey(one).success
        else:
            raise AssertionError("the sensors find no end")
    with place.resource.opened() as warehouse:
        for table in place.graph.computed():
            assert warehouse.stale_days(table) == [], table
        for dataset in place.datasets.values():
            days = warehouse.days(dataset.processed)
            assert days
            for day in days:
                found = warehouse.table_day(dataset.processed, day)
                assert found is not None
                assert found.balance is not None
                assert found.balance.holds
        assert set(warehouse.days("reports.daily_sales")) >= set(PLAN.dates)


def test_a_range_of_everything_shows_numbers_of_each_day(place: Place) -> None:
    """One run over all tables and days: each partition once, with columns, preview and numbers from the real warehouse."""
    Path(place.settings.landing).mkdir()
    for step in tell(Plan(stores=2, days=2, lines_per_store_day=4)).steps:
        step.land(FolderProducer(Path(place.settings.landing)))
    first = PLAN.first_day
    tables = [table.key for table in place.graph]
    result = run(place.definitions, place.instance, tables, first, first + timedelta(days=1))
    assert result.success
    assert all(
        check.passed or check.severity is dg.AssetCheckSeverity.WARN for check in result.get_asset_check_evaluations()
    )
    for table in tables:
        if place.graph.tables[table].is_daily:
            assert materializations(result, table) == [str(first), str(first + timedelta(days=1))]
    for event in result.all_events:
        if event.is_step_materialization:
            shown = event.step_materialization_data.materialization.metadata
            assert isinstance(shown["rows"].value, int)
            assert isinstance(shown["preview"], dg.MarkdownMetadataValue)
            assert isinstance(shown["dagster/column_schema"], dg.TableSchemaMetadataValue)


def test_every_report_column_has_an_origin_or_is_computed(place: Place) -> None:
    """The origins that are shown name tables that the report reads."""
    for sql in place.sql_tables.values():
        assert set(sql.origins) == set(sql.columns)
        for sources in sql.origins.values():
            assert {table for table, _ in sources} <= set(sql.reads)
