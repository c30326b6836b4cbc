"""The calls for notebooks: any table as Arrow or pandas, exact types, in nobody's way."""

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from ingestion_platform.assembly import open_warehouse
from ingestion_platform.errors import NotMaterialized, WarehouseError
from ingestion_platform.reading import query, read_table
from ingestion_platform.settings import Settings
from ingestion_platform.warehouse import upkeep
from ingestion_platform_tests.example import land_example


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Two days of the example business, loaded and reported."""
    root = tmp_path_factory.mktemp("reading")
    settings = Settings.model_validate(
        {
            "landing": str(root / "landing"),
            "warehouse": root / "warehouse.duckdb",
            "publish": root / "published",
            "pii_salt": "salt",
            "threads": 1,
        }
    )
    land_example(root / "landing")
    with open_warehouse(settings) as warehouse:
        upkeep.catch_up(warehouse)
    return settings


def test_a_table_has_exact_types(settings: Settings) -> None:
    """Money is decimal, moments are UTC without a zone, days are dates, people are hashed."""
    table = read_table("processed.sales", settings=settings)
    kinds = {field.name: field.type for field in table.schema}
    assert (kinds["amount_zar"], kinds["sold_at"], kinds["_day"]) == (
        pa.decimal128(12, 2),
        pa.timestamp("us"),
        pa.date32(),
    )
    row = table.sort_by("transaction_id").to_pylist()[0]
    assert (row["amount_zar"], row["sold_at"], row["_day"]) == (
        Decimal("25.00"),
        datetime(2024, 10, 1, 8),
        date(2024, 10, 1),
    )
    assert len(row["customer_id"]) == 64


def test_days_may_be_dates_or_text(settings: Settings) -> None:
    """Both bounds are included; either may be left out."""
    both = read_table("reports.daily_sales", settings=settings)
    assert both.num_rows == 2
    assert read_table("reports.daily_sales", first="2024-10-02", settings=settings).num_rows == 1
    assert read_table("reports.daily_sales", last=date(2024, 10, 1), settings=settings).num_rows == 1
    assert read_table("reports.daily_sales", first="2024-10-01", last="2024-10-02", settings=settings).equals(both)


def test_pandas_takes_it(settings: Settings) -> None:
    """`.to_pandas()` keeps money exact."""
    frame = read_table("reports.daily_sales", settings=settings).to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert sum(frame["net_zar"]) == Decimal("50.00")


def test_a_query_joins_any_tables(settings: Settings) -> None:
    """Layers, the ledger, the quarantine, and the current snapshot."""
    found = query(
        """
        select (select count(*) from raw.sales) as raw, (select count(*) from processed.sales) as processed,
            (select count(*) from platform.quarantine where dataset = 'sales') as quarantined,
            (select count(*) from platform.ledger where dataset = 'sales' and state = 'loaded') as objects,
            (select count(*) from processed.stores_current) as stores
        """,
        settings=settings,
    ).to_pylist()
    assert found == [{"raw": 3, "processed": 2, "quarantined": 1, "objects": 2, "stores": 1}]


@pytest.mark.parametrize(
    ("table", "first", "message"),
    [
        ("reports.daily_sale", None, "there is no table 'reports.daily_sale'"),
        ("sales", None, "there is no table 'sales'"),
        ("raw.nothing", None, "there is no table 'raw.nothing'"),
        ("reports.daily_sales", "2030-01-01", "reports.daily_sales has nothing yet from 2030-01-01"),
    ],
)
def test_what_is_not_there_is_told(settings: Settings, table: str, first: str | None, message: str) -> None:
    """With the tables there are, or the command that makes it."""
    with pytest.raises(NotMaterialized, match=message) as told:
        read_table(table, first=first, settings=settings)
    assert "reports.daily_sales" in told.value.hint or "dagster asset materialize" in told.value.hint


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("select nonsense from raw.sales", "the query failed: .*nonsense"),
        ("selekt", "the query failed: .*syntax error"),
        ("select 1 / 'x'", "the query failed"),
        ("create table mine (a int)", "the query gives no table"),
        ("", "the query gives no table"),
    ],
)
def test_a_query_that_cannot_be_answered_is_told(settings: Settings, sql: str, message: str) -> None:
    """As an error of the platform, with DuckDB's own words in it."""
    with pytest.raises(WarehouseError, match=f"(?s){message}") as told:
        query(sql, settings=settings)
    assert "one select statement" in told.value.hint


def test_reading_changes_nothing(settings: Settings) -> None:
    """No commit, no file."""
    folder = settings.warehouse.with_suffix("")
    before = {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*.parquet")}
    with open_warehouse(settings) as warehouse:
        commits = warehouse.ledger.commits()
    read_table("raw.sales", settings=settings)
    query("select 1 as one", settings=settings)
    assert {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*.parquet")} == before
    with open_warehouse(settings) as warehouse:
        assert warehouse.ledger.commits() == commits
