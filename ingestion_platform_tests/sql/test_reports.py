"""The example's reports, each on a few rows made by hand, against answers worked out by hand."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest
import sqlglot
from sqlglot import exp

from ingestion_platform import datasets
from ingestion_platform.dataset import find_datasets
from ingestion_platform.warehouse.contract import Contract
from ingestion_platform.warehouse.days import bounds
from ingestion_platform.warehouse.engine import connect
from ingestion_platform.warehouse.sql_tables import SqlTables, load_sql_tables

ZONE = ZoneInfo("Africa/Johannesburg")
DAY = date(2024, 10, 8)
STORES = (("S0001", "Sandton", "Gauteng"), ("S0002", "Midrand", "Gauteng"), ("S0003", "Paarl", "Western Cape"))
REPORTS = (
    "best_sellers",
    "daily_sales",
    "marketing_moments",
    "payment_mix",
    "peak_hours",
    "reconciliation",
    "sales_in_euro",
    "stock_position",
    "store_comparison",
)

Rows = Sequence[Mapping[str, Any]]


@pytest.fixture(scope="module")
def tables() -> SqlTables:
    """Every SQL table, bound."""
    return load_sql_tables(find_datasets(datasets), zone=ZONE)


@pytest.fixture
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    """Empty processed tables, but for the stores' newest snapshot."""
    connection = connect(threads=1)
    connection.execute("create schema processed")
    for dataset in find_datasets(datasets).values():
        kinds = ", ".join(f'"{name}" {kind}' for name, kind in Contract(dataset, ZONE).processed_columns)
        for suffix in ("", "_current") if dataset.kind == "snapshots" else ("",):
            connection.execute(f"create table processed.{dataset.name}{suffix} ({kinds})")
    for store_id, name, region in STORES:
        put(connection, "stores_current", {"store_id": store_id, "store_name": name, "region": region})
    yield connection
    connection.close()


def put(engine: duckdb.DuckDBPyConnection, table: str, *rows: Mapping[str, Any]) -> None:
    """Insert rows; columns that they lack are NULL."""
    for row in rows:
        names = ", ".join(f'"{name}"' for name in row)
        places = ", ".join("?" for _ in row)
        engine.execute(f"insert into processed.{table} ({names}) values ({places})", list(row.values()))


def sale(store_id: str, quantity: int, amount: str, **other: Any) -> dict[str, Any]:
    """A till line at noon of the day, unless told otherwise; *local* is its local time."""
    local: datetime = other.pop("local", datetime(2024, 10, 8, 12))
    return {
        "transaction_id": "T",
        "store_id": store_id,
        "sold_at": local.replace(tzinfo=ZONE).astimezone(ZoneInfo("UTC")).replace(tzinfo=None),
        "product_id": "P00001",
        "quantity": quantity,
        "amount_zar": Decimal(amount),
        "payment_method": "cash",
        "_day": local.date(),
    } | other


def of_report(
    engine: duckdb.DuckDBPyConnection, tables: SqlTables, name: str, day: date = DAY
) -> list[tuple[Any, ...]]:
    """The rows of a report's day, without their first column, which is the day."""
    table = tables[f"reports.{name}"]
    first, after = bounds(day, ZONE)
    values = {"window_start": first, "window_end": after, "day": day, "time_zone": ZONE.key}
    rows = engine.execute(table.sql, {each: values[each] for each in table.used_parameters}).fetchall()
    assert all(row[0] == day for row in rows)
    return [row[1:] for row in rows]


def test_these_are_the_example_reports(tables: SqlTables) -> None:
    """The reports are there, partitioned by day, each with a key and docs."""
    assert {f"reports.{name}" for name in REPORTS} <= set(tables)
    for name in REPORTS:
        table = tables[f"reports.{name}"]
        assert table.is_daily
        assert table.primary_key
        assert table.owners


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_is_plain_sql(tables: SqlTables, name: str) -> None:
    """It parses, is written for Spark without a word about what can't be, names every column, and selects no star."""
    sql = tables[f"reports.{name}"].sql
    tree = sqlglot.parse_one(sql, dialect="duckdb")
    assert isinstance(tree, exp.Select)
    assert not list(tree.find_all(exp.Star))
    assert all(
        isinstance(projection, exp.Alias) for select in tree.find_all(exp.Select) for projection in select.expressions
    )
    assert sqlglot.transpile(sql, read="duckdb", write="spark", unsupported_level=sqlglot.ErrorLevel.RAISE)


@pytest.mark.parametrize("name", REPORTS)
def test_every_measure_tells_its_origin(tables: SqlTables, name: str) -> None:
    """Each column but the day comes from columns of processed tables."""
    origins = tables[f"reports.{name}"].origins
    assert [column for column, found in origins.items() if not found] in (
        ["sold_on"],
        ["paid_on"],
        ["position_on"],
        ["charted_on"],
    )


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_of_an_empty_day_is_empty(engine: duckdb.DuckDBPyConnection, tables: SqlTables, name: str) -> None:
    """No input, no rows, no error."""
    assert of_report(engine, tables, name) == []


def test_daily_sales(engine: duckdb.DuckDBPyConnection, tables: SqlTables) -> None:
    """Returns are told apart, positive; the local day from its first to its last moment counts, and no other."""
    put(
        engine,
        "sales",
        sale("S0001", 2, "20.50", local=datetime(2024, 10, 8)),
        sale("S0001", -1, "-10.25"),
        sale("S0001", 1, "5.00", local=datetime(2024, 10, 8, 23, 59, 59)),
        sale("S0003", 0, "0.00"),
        sale("S0001", 9, "99.00", local=datetime(2024, 10, 7, 23, 59, 59)),
        sale("S0001", 9, "99.00", local=datetime(2024, 10, 9)),
    )
    assert of_report(engine, tables, "daily_sales") == [
        ("S0001", "Sandton", "Gauteng", 3, 2, Decimal("25.50"), Decimal("10.25"), Decimal("15.25")),
        ("S0003", "Paarl", "Western Cape", 1, 0, Decimal("0.00"), Decimal("0.00"), Decimal("0.00")),
    ]


def test_best_sellers(engine: duckdb.DuckDBPyConnection, tables: SqlTables) -> None:
    """Ten a region, by units, then revenue, then number; a region's stores are added up."""
    for number in range(1, 13):
        put(engine, "products_current", {"product_id": f"P{number:05d}", "product_name": f"Product {number}"})
        put(engine, "sales", sale("S0001", 1, "3.00", product_id=f"P{number:05d}"))
    put(
        engine,
        "sales",
        sale("S0002", 1, "1.00", product_id="P00012"),
        sale("S0002", 0, "0.01", product_id="P00011"),
        sale("S0003", 5, "50.00", product_id="P00007"),
    )
    found = of_report(engine, tables, "best_sellers")
    assert found[0] == ("Gauteng", 1, "P00012", "Product 12", 2, Decimal("4.00"))
    assert found[1] == ("Gauteng", 2, "P00011", "Product 11", 1, Decimal("3.01"))
    assert [row[2] for row in found[2:10]] == [f"P{number:05d}" for number in range(1, 9)]
    assert found[10:] == [("Western Cape", 1, "P00007", "Product 7", 5, Decimal("50.00"))]


def test_peak_hours(engine: duckdb.DuckDBPyConnection, tables: SqlTables) -> None:
    """Hours are the local clock's; half past midnight is hour 0 of the day, though UTC has the day before."""
    put(
        engine,
        "sales",
        sale("S0001", 1, "1.00", local=datetime(2024, 10, 8, 0, 30)),
        sale("S0001", 1, "2.00", local=datetime(2024, 10, 8, 9)),
        sale("S0002", -1, "-4.00", local=datetime(2024, 10, 8, 9, 59, 59)),
    )
    assert of_report(engine, tables, "peak_hours") == [
        ("Gauteng", 0, 1, Decimal("1.00")),
        ("Gauteng", 9, 2, Decimal("2.00")),
    ]


def test_payment_mix(engine: duckdb.DuckDBPyConnection, tables: SqlTables) -> None:
    """Shares are of the region's net sales; exactly half a hundredth goes up; without sales there is no share."""
    put(
        engine,
        "sales",
        sale("S0001", 1, "0.01", payment_method="card"),
        sale("S0002", 1, "799.99", payment_method="cash"),
        sale("S0001", 1, "0.00", payment_method="voucher"),
        sale("S0003", 1, "5.00", payment_method="card"),
        sale("S0003", -1, "-5.00", payment_method="card"),
    )
    assert of_report(engine, tables, "payment_mix") == [
        ("Gauteng", "card", 1, Decimal("0.01"), Decimal("0.00")),
        ("Gauteng", "cash", 1, Decimal("799.99"), Decimal("100.00")),
        ("Gauteng", "voucher", 1, Decimal("0.00"), Decimal("0.00")),
        ("Western Cape", "card", 2, Decimal("0.00"), None),
    ]
    put(
        engine,
        "sales",
        sale("S0001", -1, "-600.00", payment_method="cash"),
        sale("S0001", 1, "0.00", payment_method="voucher"),
    )
    # 0.01 of 200.00 is exactly 0.005 percent.
    assert of_report(engine, tables, "payment_mix")[0][4] == Decimal("0.01")


def test_store_comparison(engine: duckdb.DuckDBPyConnection, tables: SqlTables) -> None:
    """The region's average is over stores that sold, the own one over days that sold among the seven before; half a cent goes up."""
    put(
        engine,
        "sales",
        sale("S0001", 1, "100.01"),
        sale("S0002", 1, "200.00"),
        sale("S0003", 1, "50.00"),
        sale("S0001", 1, "30.00", local=datetime(2024, 10, 1, 8)),
        sale("S0001", 1, "10.00", local=datetime(2024, 10, 7, 8)),
        sale("S0001", 1, "10.00", local=datetime(2024, 10, 7, 9)),
        sale("S0002", 1, "999.00", local=datetime(2024, 9, 30, 23)),
        sale("S0003", 1, "999.00", local=datetime(2024, 10, 9, 0)),
    )
    assert of_report(engine, tables, "store_comparison") == [
        (
            "S0001",
            "Sandton",
            "Gauteng",
            Decimal("100.01"),
            Decimal("150.01"),
            Decimal("-33.33"),
            Decimal("25.00"),
            Decimal("300.04"),
        ),
        ("S0002", "Midrand", "Gauteng", Decimal("200.00"), Decimal("150.01"), Decimal("33.32"), None, None),
        ("S0003", "Paarl", "Western Cape", Decimal("50.00"), Decimal("50.00"), Decimal("0.00"), None, None),
    ]


def test_stock_position(engine: duckdb.DuckDBPyConnection, tables: SqlTables) -> None:
    """From the store's last count of the last seven days on, its own day included; an older count says nothing."""

    def count(store_id: str, days_ago: int, units: int, product_id: str = "P00001") -> dict[str, Any]:
        day = DAY - timedelta(days=days_ago)
        counted_at = datetime.combine(day, datetime.min.time()) + timedelta(hours=4)
        return {"store_id": store_id, "product_id": product_id, "counted_at": counted_at, "units": units, "_day": day}

    def delivery(store_id: str, days_ago: int, units: int) -> dict[str, Any]:
        return {"store_id": store_id, "product_id": "P00001", "units": units, "_day": DAY - timedelta(days=days_ago)}

    def sold(store_id: str, days_ago: int, quantity: int) -> dict[str, Any]:
        return sale(store_id, quantity, "0.00", local=datetime(2024, 10, 8, 10) - timedelta(days=days_ago))

    put(
        engine,
        "stock_counts",
        *(count("S0001", 5, 900), count("S0001", 5, 7, "P00002"), count("S0001", 2, 40), count("S0001", -1, 900)),
        *(count("S0002", 7, 10), count("S0003", 8, 900)),
    )
    put(engine, "deliveries", *(delivery("S0001", days, 10**days) for days in (0, 1, 2, 3)), delivery("S0001", -1, 5))
    put(
        engine,
        "sales",
        sold("S0001", 3, 500),
        sold("S0001", 2, 7),
        sold("S0001", 0, -1),
        sold("S0002", 7, 15),
        sold("S0003", 0, 1),
    )
    assert of_report(engine, tables, "stock_position") == [
        ("S0001", "P00001", datetime(2024, 10, 6, 4), 40, 111, 6, 145),
        ("S0002", "P00001", datetime(2024, 10, 1, 4), 10, 0, 15, -5),
    ]


def test_reconciliation(engine: duckdb.DuckDBPyConnection, tables: SqlTables) -> None:
    """Stores that only one side knows are there; what isn't paid by phone or is of another day isn't."""

    def payment(store_id: str, amount: str, hour: int = 10) -> dict[str, Any]:
        return {
            "payment_id": "M",
            "store_id": store_id,
            "amount_zar": Decimal(amount),
            "paid_at": datetime(2024, 10, 8, hour),
        }

    put(
        engine,
        "sales",
        sale("S0001", 1, "10.00", payment_method="mobile"),
        sale("S0001", 1, "2.50", payment_method="mobile"),
        sale("S0001", 1, "77.00"),
        sale("S0002", 1, "8.00", payment_method="mobile"),
    )
    put(
        engine,
        "mobile_payments",
        payment("S0001", "12.50"),
        payment("S0003", "3.00"),
        payment("S0003", "5.00", hour=22),
    )
    assert of_report(engine, tables, "reconciliation") == [
        ("S0001", "Sandton", "Gauteng", 2, 1, Decimal("12.50"), Decimal("12.50"), Decimal("0.00"), True),
        ("S0002", "Midrand", "Gauteng", 1, 0, Decimal("8.00"), Decimal("0.00"), Decimal("8.00"), False),
        ("S0003", "Paarl", "Western Cape", 0, 1, Decimal("0.00"), Decimal("3.00"), Decimal("-3.00"), False),
    ]


def test_sales_in_euro(engine: duckdb.DuckDBPyConnection, tables: SqlTables) -> None:
    """Sales are divided by the rand's rate, to the cent, half a cent up; the rate says which day it is of, and whether it stands in."""
    rates = (("USD", "1.095", DAY), ("ZAR", "20.000000", DAY - timedelta(days=3)))
    for currency, rate, rated_on in rates:
        put(
            engine,
            "exchange_rates_current",
            {"currency": currency, "units_per_eur": Decimal(rate), "rated_on": rated_on, "is_stale": False},
        )
    put(
        engine,
        "sales",
        sale("S0001", 1, "100.00"),
        sale("S0002", -1, "-0.30"),
        sale("S0003", -1, "-0.30"),
        sale("S0003", 1, "1000.00", local=datetime(2024, 10, 7, 12)),
    )
    friday = DAY - timedelta(days=3)
    assert of_report(engine, tables, "sales_in_euro") == [
        ("Gauteng", Decimal("99.70"), Decimal("20.000000"), friday, True, False, Decimal("4.99")),
        ("Western Cape", Decimal("-0.30"), Decimal("20.000000"), friday, True, False, Decimal("-0.02")),
    ]


def test_sales_without_a_rate_are_told_in_rand_alone(engine: duckdb.DuckDBPyConnection, tables: SqlTables) -> None:
    """As long as no rate has been fetched the sales are there, and what they are worth in euro isn't known."""
    put(engine, "sales", sale("S0001", 1, "100.00"))
    assert of_report(engine, tables, "sales_in_euro") == [("Gauteng", Decimal("100.00"), None, None, None, None, None)]


def test_marketing_moments(engine: duckdb.DuckDBPyConnection, tables: SqlTables) -> None:
    """A moment is a track that climbs or is new while its region sells above its own average; a region's first chart has no news."""

    def charted(region: str, track: str, position: int, days_ago: int = 0) -> dict[str, Any]:
        return {
            "region": region,
            "track_id": track,
            "title": f"Song {track}",
            "artist": "A",
            "chart_position": position,
            "streams": 1_000 - position,
            "_day": DAY - timedelta(days=days_ago),
        }

    put(
        engine,
        "trending_music",
        *(charted("Gauteng", "T1", 1), charted("Gauteng", "T2", 2), charted("Gauteng", "T3", 3)),
        *(charted("Gauteng", "T4", 11), charted("Gauteng", "T1", 12, 1), charted("Gauteng", "T2", 1, 1)),
        *(charted("Western Cape", "T1", 1), charted("Limpopo", "T1", 1), charted("Limpopo", "T1", 2, 1)),
    )
    put(
        engine,
        "sales",
        sale("S0001", 1, "60.00"),
        sale("S0002", 1, "60.00"),
        sale("S0001", 1, "50.01", local=datetime(2024, 10, 1, 8)),
        sale("S0002", 1, "50.00", local=datetime(2024, 10, 7, 8)),
        sale("S0001", 1, "999.00", local=datetime(2024, 9, 30, 8)),
        sale("S0003", 1, "80.00"),
        sale("S0003", 1, "40.00", local=datetime(2024, 10, 7, 8)),
    )
    nets = (Decimal("120.00"), Decimal("50.01"), Decimal("139.95"))
    assert of_report(engine, tables, "marketing_moments") == [
        ("Gauteng", "T1", "Song T1", "A", 1, 11, 999, *nets, True),
        ("Gauteng", "T2", "Song T2", "A", 2, -1, 998, *nets, False),
        ("Gauteng", "T3", "Song T3", "A", 3, None, 997, *nets, True),
        ("Limpopo", "T1", "Song T1", "A", 1, 1, 999, Decimal("0.00"), None, None, False),
        (
            "Western Cape",
            "T1",
            "Song T1",
            "A",
            1,
            None,
            999,
            Decimal("80.00"),
            Decimal("40.00"),
            Decimal("100.00"),
            False,
        ),
    ]
