"""Two relations compared by key."""

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion_platform.warehouse.differences import Difference, RowChange, SumChange, compare
from ingestion_platform.warehouse.engine import connect

KEY = ("id",)


@pytest.fixture
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    """An engine of one's own."""
    with connect(threads=1) as connection:
        yield connection


def rows(*values: tuple[object, ...], columns: str = "id, units, price") -> str:
    """SQL of a few rows."""
    shown = ", ".join("(" + ", ".join("null" if one is None else repr(one) for one in row) + ")" for row in values)
    return f"select * from (values {shown}) as t({columns})"


def test_equal_relations_are_equal(engine: duckdb.DuckDBPyConnection) -> None:
    """In whatever order their rows are."""
    found = compare(engine, rows(("a", 1, 2.5), ("b", None, 1.5)), rows(("b", None, 1.5), ("a", 1, 2.5)), KEY)
    assert found == Difference(2, 2)
    assert found.is_equal


def test_rows_come_go_and_change(engine: duckdb.DuckDBPyConnection) -> None:
    """Each is counted once, with its columns, its sums and an example."""
    before = rows(("a", 1, 2.5), ("b", 2, 1.5), ("c", 3, 1.0))
    after = rows(("a", 1, 2.5), ("b", None, 1.75), ("d", 4, 8.0))
    found = compare(engine, before, after, KEY)
    assert (found.added, found.gone, found.changed, found.rows) == (1, 1, 1, 3)
    assert found.columns == {"units": 1, "price": 1}
    assert found.emptied == {"units": 1}
    assert found.sums == {
        "units": SumChange(6, 5),
        "price": SumChange(Decimal("5.0"), Decimal("12.25")),
    }
    assert found.sums["price"].delta == Decimal("7.25")
    assert found.examples == (
        RowChange({"id": "d"}, {}, {"units": 4, "price": Decimal("8.00")}),
        RowChange({"id": "c"}, {"units": 3, "price": Decimal("1.00")}, {}),
        RowChange({"id": "b"}, {"units": 2, "price": Decimal("1.50")}, {"units": None, "price": Decimal("1.75")}),
    )


def test_a_key_that_is_null_or_doubled_gives_an_answer(engine: duckdb.DuckDBPyConnection) -> None:
    """NULL is a key as any other; rows that share one are paired in their order, equal ones first."""
    before = rows((None, 1, 1.0), ("a", 1, 1.0), ("a", 2, 1.0), ("a", 2, 1.0))
    after = rows((None, 9, 1.0), ("a", 2, 1.0), ("a", 3, 1.0))
    found = compare(engine, before, after, KEY)
    assert (found.added, found.gone, found.changed) == (0, 1, 2)


def test_without_a_key_rows_come_and_go(engine: duckdb.DuckDBPyConnection) -> None:
    """A changed row can't be told from one that went and another that came."""
    found = compare(engine, rows(("a", 1, 1.0)), rows(("a", 2, 1.0)), ())
    assert (found.added, found.gone, found.changed) == (1, 1, 0)


def test_another_type_alone_is_a_difference_without_rows(engine: duckdb.DuckDBPyConnection) -> None:
    """Values are compared in a type that holds both: 2.50 is 2.500, and 1 is the text 1."""
    before = "select 'a' as id, 2.50::decimal(8, 2) as price, 1 as units, date '2024-10-01' as at"
    after = "select 'a' as id, 2.500::decimal(9, 3) as price, '1' as units, 7 as at"
    found = compare(engine, before, after, KEY, leave_out=("at",))
    assert found.rows == 0
    assert not found.is_equal
    assert found.columns_retyped == {"price": ("DECIMAL(8,2)", "DECIMAL(9,3)"), "units": ("INTEGER", "VARCHAR")}
    assert compare(engine, before, after, KEY).columns == {"at": 1}


def test_a_column_that_only_one_has_is_named(engine: duckdb.DuckDBPyConnection) -> None:
    """Its values are changes of the rows that have one."""
    found = compare(
        engine, rows(("a", 1), ("b", None), columns="id, old"), rows(("a", 1), ("b", 2), columns="id, new"), KEY
    )
    assert (found.columns_gone, found.columns_added) == (("old",), ("new",))
    assert found.columns == {"new": 2, "old": 1}
    assert found.emptied == {"old": 1}
    assert found.sums == {}


def test_what_is_not_there_has_no_rows(engine: duckdb.DuckDBPyConnection) -> None:
    """A table that is new, or goes, is all added or all gone; its columns aren't told as changes."""
    found = compare(engine, None, rows(("a", 1, 2.5)), KEY)
    assert (found.added, found.rows, found.columns_added) == (1, 1, ())
    assert found.sums["units"] == SumChange(None, 1)
    assert compare(engine, rows(("a", 1, 2.5)), None, KEY).gone == 1
    assert compare(engine, None, None, KEY) == Difference(0, 0)


def test_sums_too_large_for_a_decimal_are_told_about(engine: duckdb.DuckDBPyConnection) -> None:
    """A column of 38 digits may not fit its own sum."""
    large = "select id, 99999999999999999999999999999999999999::decimal(38, 0) as n from range({}) t(id)"
    found = compare(engine, large.format(3), large.format(2), KEY)
    assert found.sums["n"].delta == pytest.approx(-1e38)


def test_columns_with_any_name_are_compared(engine: duckdb.DuckDBPyConnection) -> None:
    """Quotes, spaces and our own words included."""
    found = compare(
        engine, 'select 1 as "a ""b", 2 as place, 3 as g', 'select 1 as "a ""b", 2 as place, 4 as g', ('a "b',)
    )
    assert (found.changed, found.columns) == (1, {"g": 1})


few = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([None, 0, 1, 2])), max_size=8)


@settings(max_examples=60, deadline=None)
@given(before=few, after=few)
def test_any_two_relations_add_up(before: list[tuple[str, int | None]], after: list[tuple[str, int | None]]) -> None:
    """Rows before, less those gone, plus those added, are the rows after; and by key as many change as can be paired."""

    def sql(values: list[tuple[str, int | None]]) -> str:
        shown = rows(*values, columns="id, n") if values else "select '' as id, 1 as n where false"
        return f"select id, n::integer as n from ({shown})"

    with connect(threads=1) as engine:
        found = compare(engine, sql(before), sql(after), KEY)
    assert (found.rows_before, found.rows_after) == (len(before), len(after))
    assert found.rows_before - found.gone + found.added == found.rows_after
    gone, come = Counter(before) - Counter(after), Counter(after) - Counter(before)
    paired = 0
    for key in "abc":
        paired += min(
            sum(count for (id_, _), count in gone.items() if id_ == key),
            sum(count for (id_, _), count in come.items() if id_ == key),
        )
    assert found.changed == paired
    assert found.is_equal == (Counter(before) == Counter(after))
