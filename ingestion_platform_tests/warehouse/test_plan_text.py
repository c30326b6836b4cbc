"""A plan in words: what decides first, in numbers that a person reads at a glance."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from ingestion_platform.warehouse import plan_text
from ingestion_platform.warehouse.differences import Difference, Sum, SumChange
from ingestion_platform_tests.warehouse.building import DAY, HEADER, line
from ingestion_platform_tests.warehouse.planning import CHANGES, bench_of
from ingestion_platform_tests.warehouse.test_plan import planned, two_days


def test_a_restated_report_is_told_in_one_line() -> None:
    """How many rows, which columns, by how much."""
    difference = Difference(
        60, 61, added=1, changed=2, columns={"revenue_zar": 2, "lines": 1},
        sums={
            "revenue_zar": SumChange(Decimal("100.00"), Decimal("1304.50")),
            "lines": SumChange(3, 2),
            "share_pct": SumChange(1.0, 2.0),
        },
    )  # fmt: skip
    assert plan_text.story(difference) == (
        "2 of 60 rows change (revenue_zar, lines), 1 comes; revenue_zar +1,204.50, lines -1"
    )


def test_columns_that_come_go_and_change_their_type_are_told() -> None:
    """And values that are NULL now."""
    difference = Difference(
        3, 2, gone=1, changed=1, columns={"a": 1}, emptied={"a": 1}, columns_added=("b",), columns_gone=("c",),
        columns_retyped={"d": ("INTEGER", "VARCHAR")},
    )  # fmt: skip
    assert plan_text.story(difference) == (
        "1 of 3 rows changes (a), 1 goes, new columns: b, columns that go: c, d becomes VARCHAR (INTEGER before), NULL now: a (1)"
    )


def test_a_new_day_is_told_by_its_rows_alone() -> None:
    """Sums of what wasn't there say nothing."""
    assert (
        plan_text.story(Difference(0, 60, added=60, sums={"n": SumChange(None, 7)}))
        == "60 rows, where there are none yet"
    )
    assert plan_text.story(Difference(2, 2)) == "2 rows, all with the same values"


@pytest.mark.parametrize(
    ("delta", "told"),
    [
        (Decimal("1204.50"), "+1,204.50"),
        (-3, "-3"),
        (0.25, "+0.25"),
        (-1234567.8, "-1,234,568"),
        (Decimal("-0.01"), "-0.01"),
    ],
)
def test_a_change_of_a_sum_has_its_sign(delta: Sum, told: str) -> None:
    """Money to the cent, large numbers with commas."""
    assert plan_text.signed(delta) == told


@pytest.mark.parametrize(
    ("size", "told"), [(1, "1 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2_500_000_000_000, "2.5 TB")]
)
def test_bytes_are_told_as_a_person_says_them(size: int, told: str) -> None:
    """In thousands."""
    assert plan_text.size(size) == told


def test_the_whole_is_told(tmp_path: Path) -> None:
    """Objects with why they are read, rows with where they go, reports with their sums, and that nothing was changed."""
    two_days(tmp_path).warehouse.close()
    bench = bench_of(tmp_path, CHANGES["a rule tightened"])
    bench.put(f"tills/{DAY}/c.csv", HEADER + line("7", price="4.25"))
    made = planned(bench, "tills")
    told = plan_text.as_text(made)
    head, *lines = told.splitlines()
    assert head.startswith(
        f"The backfill reads 1 object ({plan_text.size(len(HEADER + line('7', price='4.25')))}), adds 1 processed row,"
        " takes away 1 processed row, quarantines 1, restates 1 processed day and 2 partitions"
    )
    assert head.endswith("1 row that is processed now would be lost.")
    assert f"  {DAY}: 1 of 1 rows changes (units, price_zar); units -1, price_zar +1.75" in lines
    assert "    into quarantine: units: above maximum (1)" in lines
    assert lines[-1] == "Nothing was changed."
    assert json.loads(plan_text.as_json(made))["headline"] == head


def test_an_estimate_says_that_it_is_one(tmp_path: Path) -> None:
    """What was tried, what wasn't, and what nobody knows."""
    bench = bench_of(tmp_path)
    bench.put_shops("a")
    bench.put(f"tills/{DAY}/a.csv", HEADER + line("1"))
    told = plan_text.as_text(planned(bench, sample_days=0))
    assert told.startswith("The backfill reads about 2 objects (")
    assert "Nothing was tried: what becomes of rows and reports isn't known." in told
    assert "shops, tills: 0 of 1 days were tried; the numbers above are theirs alone" in told
    assert "time for the rest: a time that nobody can tell" in told


def test_many_days_are_summed_up(tmp_path: Path) -> None:
    """The largest are told one by one; a reason that many days have is told once."""
    bench = bench_of(tmp_path, more="and error('no')::int = 1")
    bench.put_shops("a")
    for day in range(1, 12):
        bench.put(f"tills/2024-10-{day:02}/a.csv", HEADER + line("1", at=f"2024-10-{day:02} 10:00:00"))
    told = plan_text.as_text(planned(bench))
    assert "4 more days: 4 rows come, go or change" in told
    assert told.count("the query failed") == 1
    assert "reports.by_shop 2024-10-01 and 10 more days: " in told
