"""The whole path in Dagster on a real landing zone and warehouse: runs, sensors and restatement until nothing is left to do."""

from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from pydantic import SecretStr

from ingestion_platform import datasets as declarations
from ingestion_platform.dataset import find_datasets
from ingestion_platform.demo import FolderProducer, Plan, Trouble, tell
from ingestion_platform.orchestration.build import build_definitions, warehouse_of
from ingestion_platform.orchestration.graph import Graph
from ingestion_platform.orchestration.resource import WarehouseResource
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


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A fresh deployment."""
    return Place(tmp_path)


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
            assert {table for table, _ in sources} <= {*sql.reads, sql.key}
