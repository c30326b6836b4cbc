"""Queries that carry a state on, run over days made up at random, against folds in plain Python; no warehouse around them."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pytest
import sqlglot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion_platform import datasets
from ingestion_platform.dataset import find_datasets
from ingestion_platform.warehouse.contract import Contract
from ingestion_platform.warehouse.days import bounds
from ingestion_platform.warehouse.engine import connect
from ingestion_platform.warehouse.sql_tables import SqlTables, load_sql_tables

ZONE = ZoneInfo("Africa/Johannesburg")
DAYS = [date(2024, 10, 8) + timedelta(days=number) for number in range(3)]
STATES = ("account_balances", "loyalty_balances", "stock_levels")
EVENTS = ("account_events", "loyalty_events", "stock_counts", "deliveries")
LOCAL = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)

Row = Mapping[str, Any]


@pytest.fixture(scope="module")
def tables() -> SqlTables:
    """Every SQL table, bound."""
    return load_sql_tables(find_datasets(datasets), zone=ZONE)


@pytest.fixture(scope="module")
def engine(tables: SqlTables) -> Iterator[duckdb.DuckDBPyConnection]:
    """Empty tables."""
    connection = connect(threads=1)
    connection.execute("create schema processed")
    declared = find_datasets(datasets)
    columns = {name: Contract(declared[name], ZONE).processed_columns for name in EVENTS}
    columns |= {name: list(tables[f"processed.{name}"].types.items()) for name in (*STATES, "till_lines")}
    for name, found in columns.items():
        kinds = ", ".join(f'"{column}" {kind}' for column, kind in found)
        connection.execute(f"create table processed.{name} ({kinds})")
    yield connection
    connection.close()


def carried(
    engine: duckdb.DuckDBPyConnection, tables: SqlTables, state: str, of_day: Mapping[date, Mapping[str, Sequence[Row]]]
) -> list[list[dict[str, Any]]]:
    """The rows of a state at the end of each of `DAYS`, by key; *of_day* has the rows of the tables that it reads."""
    table = tables[f"processed.{state}"]
    key = ", ".join(table.primary_key)
    engine.execute(f"delete from processed.{state}")
    found = []
    for day in DAYS:
        for read in table.reads:
            name = read.removeprefix("processed.")
            engine.execute(f"delete from {read}")
            if rows := of_day.get(day, {}).get(name, ()):
                engine.register("arriving", pa.Table.from_pylist(list(rows)))
                engine.execute(f"insert into {read} by name from arriving")
        first, after = bounds(day, ZONE)
        values: dict[str, Any] = {"window_start": first, "window_end": after, "day": day, "time_zone": ZONE.key}
        engine.execute(
            f"create or replace temp table made as select * from ({table.sql}) order by {key}",
            {used: values[used] for used in table.used_parameters},
        )
        engine.execute(f"delete from processed.{state}")
        engine.execute(f"insert into processed.{state} from made")
        found.append(engine.sql(f"select * from processed.{state} order by {key}").to_arrow_table().to_pylist())
    return found


def at(day: date, minute: int) -> datetime:
    """A minute of a business day, UTC."""
    return bounds(day, ZONE)[0] + timedelta(minutes=minute)


moves = st.lists(
    st.tuples(
        st.sampled_from(DAYS),
        st.sampled_from([0, 1, 600, 1439]),
        st.sampled_from("xyz"),
        st.integers(1, 500) | st.integers(-500, -1),
    ),
    max_size=30,
)


@LOCAL
@given(moves=moves, shuffled=st.randoms(use_true_random=False))
def test_accounts_are_as_a_fold_says(
    engine: duckdb.DuckDBPyConnection, tables: SqlTables, moves: list[tuple[date, int, str, int]], shuffled: Any
) -> None:
    """In whatever order rows stand: balances, what was paid in and out, how many were refused, which ones today and at which balance."""
    asked = [(day, minute, f"E{number:02d}", who, cents) for number, (day, minute, who, cents) in enumerate(moves)]
    rows: dict[date, dict[str, list[Row]]] = {day: {"account_events": []} for day in DAYS}
    for day, minute, key, who, cents in shuffled.sample(asked, len(asked)):
        kind = "deposit" if cents > 0 else "withdrawal"
        amount = Decimal(abs(cents)) / 100
        rows[day]["account_events"].append(
            {
                "event_id": key,
                "account_id": who,
                "happened_at": at(day, minute),
                "kind": kind,
                "amount_zar": amount,
                "_day": day,
            }
        )
    cents_of: dict[str, int] = defaultdict(int)
    paid_in: dict[str, int] = defaultdict(int)
    refused: dict[str, int] = defaultdict(int)
    for day, found in zip(DAYS, carried(engine, tables, "account_balances", rows), strict=True):
        today: dict[str, list[tuple[str, Decimal]]] = defaultdict(list)
        for on, _, key, who, cents in sorted(asked):
            if on != day:
                continue
            paid_in[who] += max(cents, 0)
            if cents_of[who] + cents < 0:
                refused[who] += 1
                today[who].append((key, Decimal(cents_of[who]) / 100))
            else:
                cents_of[who] += cents
        assert [
            (
                row["account_id"],
                row["balance_zar"] * 100,
                row["deposited_zar"] * 100,
                row["withdrawn_zar"] * 100,
                row["withdrawals_refused"],
                row["refusals"],
            )
            for row in found
        ] == [
            (who, cents_of[who], paid_in[who], paid_in[who] - cents_of[who], refused[who], today[who])
            for who in sorted({who for on, _, _, who, _ in asked if on <= day})
        ]


@LOCAL
@given(moves=moves)
def test_points_are_as_a_fold_says(
    engine: duckdb.DuckDBPyConnection, tables: SqlTables, moves: list[tuple[date, int, str, int]]
) -> None:
    """More than there are can't be redeemed, and is counted."""
    asked = [(day, minute, f"E{number:02d}", who, points) for number, (day, minute, who, points) in enumerate(moves)]
    rows: dict[date, dict[str, list[Row]]] = {day: {"loyalty_events": []} for day in DAYS}
    for day, minute, key, who, points in reversed(asked):
        kind = "points_earned" if points > 0 else "points_redeemed"
        rows[day]["loyalty_events"].append(
            {
                "event_id": key,
                "customer_id": who,
                "happened_at": at(day, minute),
                "event_type": kind,
                "points": abs(points),
                "_day": day,
            }
        )
    balance: dict[str, int] = defaultdict(int)
    earned: dict[str, int] = defaultdict(int)
    refused: dict[str, int] = defaultdict(int)
    for day, found in zip(DAYS, carried(engine, tables, "loyalty_balances", rows), strict=True):
        for _, _, _, who, points in sorted(one for one in asked if one[0] == day):
            earned[who] += max(points, 0)
            if balance[who] + points < 0:
                refused[who] += 1
            else:
                balance[who] += points
        told = [(row["customer_id"], row["points"], row["points_earned"], row["redemptions_refused"]) for row in found]
        known = sorted({who for on, _, _, who, _ in asked if on <= day})
        assert told == [(who, balance[who], earned[who], refused[who]) for who in known]
        assert [row["level"] for row in found] == [
            "gold" if earned[who] >= 2000 else "silver" if earned[who] >= 500 else "bronze" for who in known
        ]


@LOCAL
@given(
    counts=st.dictionaries(st.tuples(st.sampled_from(DAYS), st.sampled_from("xyz")), st.integers(0, 50)),
    deliveries=st.lists(st.tuples(st.sampled_from(DAYS), st.sampled_from("xyz"), st.integers(1, 50)), max_size=6),
    sales=st.lists(st.tuples(st.sampled_from(DAYS), st.sampled_from("xyz"), st.integers(-3, 9)), max_size=12),
)
def test_stock_is_as_a_fold_says(
    engine: duckdb.DuckDBPyConnection,
    tables: SqlTables,
    counts: dict[tuple[date, str], int],
    deliveries: list[tuple[date, str, int]],
    sales: list[tuple[date, str, int]],
) -> None:
    """Each day opens as it was counted, or as the day before ended; what is missing is what the count is below that."""
    rows: dict[date, dict[str, list[Row]]] = {
        day: {"stock_counts": [], "deliveries": [], "till_lines": []} for day in DAYS
    }
    for (day, product), units in counts.items():
        rows[day]["stock_counts"].append(
            {"store_id": "S", "product_id": product, "counted_at": at(day, 300), "units": units, "_day": day}
        )
    for day, product, units in deliveries:
        rows[day]["deliveries"].append(
            {"store_id": "S", "product_id": product, "delivered_at": at(day, 1439), "units": units, "_day": day}
        )
    for day, product, units in sales:
        rows[day]["till_lines"].append(
            {"store_id": "S", "product_id": product, "sold_at": at(day, 0), "quantity": units}
        )
    hand: dict[str, int] = {}
    for day, found in zip(DAYS, carried(engine, tables, "stock_levels", rows), strict=True):
        wanted = []
        for product in "xyz":
            counted = counts.get((day, product))
            came = sum(units for on, what, units in deliveries if (on, what) == (day, product))
            went = [units for on, what, units in sales if (on, what) == (day, product)]
            before = hand.get(product)
            if before is None and counted is None and not came and not went:
                continue
            opening = counted if counted is not None else before or 0
            missing = before - counted if before is not None and counted is not None else None
            hand[product] = opening + came - sum(went)
            wanted.append((product, opening, missing, came, sum(went), hand[product]))
        shown = ("product_id", "units_opening", "units_missing", "units_delivered", "units_sold", "units_on_hand")
        assert [tuple(row[column] for column in shown) for row in found] == wanted


@pytest.mark.parametrize("state", [*STATES, "refused_withdrawals"])
def test_a_state_is_sql_that_sqlglot_knows(tables: SqlTables, state: str) -> None:
    """It parses, names every column, and selects no star: other engines can be given it."""
    tree = sqlglot.parse_one(tables[f"processed.{state}"].sql, dialect="duckdb")
    assert isinstance(tree, sqlglot.exp.Select)
    assert [column.alias_or_name for column in tree.selects] == list(tables[f"processed.{state}"].columns)
    assert not list(tree.find_all(sqlglot.exp.Star))
