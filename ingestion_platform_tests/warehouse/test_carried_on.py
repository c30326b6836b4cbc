"""Tables that carry their state on: each day is made of the one before and its own events, and is right whatever comes when."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from ingestion_platform.errors import DayBeforeMissing, DeclarationError
from ingestion_platform.warehouse import Warehouse, upkeep
from ingestion_platform.warehouse.backfill import Backfill, ask, backfill
from ingestion_platform.warehouse.derive import Deriver
from ingestion_platform.warehouse.plan import plan
from ingestion_platform.warehouse.replay import certified_replay
from ingestion_platform.warehouse.trial import judge, last_days
from ingestion_platform_tests.warehouse.building import DAY, HEADER, Bench, differences, line
from ingestion_platform_tests.warehouse.test_sql_tables import (
    bench_with,
    days_after,
    has_changed,
    read,
    sell,
    sql,
    stale,
)

EVER = sql(
    """
    with today as (select shop, sum(units) as units from processed.tills where _day = $day group by shop)
    select
        coalesce(before.shop, today.shop) as shop,
        cast(coalesce(before.units, 0) + coalesce(today.units, 0) as bigint) as units
    from today
    full outer join processed.ever as before on before.shop = today.shop
    """,
    "shop",
    "units",
    more='primary_key = ["shop"]',
)
SEEN = sql("select $day as day, shop, units from processed.ever", "day", "shop", "units", more='primary_key = ["shop"]')
FILES = {"processed/ever": EVER, "reports/seen": SEEN}
KEY = "processed.ever"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Three days of sales that are loaded and computed: one, two and one line of shop a."""
    one = bench_with(tmp_path, FILES)
    sell(one, 0, "1")
    sell(one, 1, "2", "3")
    sell(one, 2, "4")
    upkeep.catch_up(one.warehouse)
    return one


def units(bench: Bench, number: int | None = None, shop: str = "a") -> int | None:
    """The state of a shop at the end of a day; of the newest, where none is named."""
    last = days_after(number) if number is not None else None
    found = {row["shop"]: row["units"] for row in bench.warehouse.read(KEY, last=last).to_pylist()}
    return found.get(shop)


def stamps(bench: Bench) -> dict[str, str]:
    """When each partition was computed."""
    return {f"{row.table_name} {row.day}": row.computed_at for row in bench.warehouse.ledger.everything()[2]}


def filled(bench: Bench, first: int | None = None, last: int | None = None) -> Backfill:
    """A backfill of tills."""
    asked = ask(
        bench.warehouse,
        [bench.datasets["tills"]],
        first=days_after(first) if first is not None else None,
        last=days_after(last) if last is not None else None,
    )
    return backfill(bench.warehouse, asked)


def test_each_day_goes_on_where_the_one_before_ended(bench: Bench) -> None:
    """The first begins with nothing; a reader sees the newest state, or that of the day asked for; a report that of its own."""
    assert [units(bench, number) for number in range(3)] == [1, 3, 4]
    assert units(bench) == 4
    assert bench.rows(KEY) == [("a", 4)]
    assert [row[2] for row in bench.rows("reports.seen")] == [1, 3, 4]
    assert stale(bench, KEY) == []
    assert bench.sql_tables[KEY].types == {"shop": "VARCHAR", "units": "BIGINT"}


def test_a_day_reads_its_own_events_and_the_day_before_and_nothing_else(bench: Bench) -> None:
    """However long the past is."""
    seen = bench.warehouse.partitions_read(KEY, days_after(2))
    assert seen == {(KEY, days_after(1)), ("processed.tills", days_after(2))}


def test_late_data_goes_through_all_days_after_it(bench: Bench) -> None:
    """A late row of the first day makes that day stale, and so all that carry it on; in the end each has counted it."""
    sell(bench, 2, "late", on=0, file="b")
    bench.load(day=days_after(2))
    for number in range(3):
        bench.process(day=days_after(number))
    assert stale(bench, KEY) == [0, 1, 2]
    upkeep.catch_up(bench.warehouse)
    assert [units(bench, number) for number in range(3)] == [2, 4, 5]
    assert stale(bench, KEY) == []


def test_a_day_that_comes_out_as_before_ends_it(bench: Bench) -> None:
    """A late row that changes nothing of the state: the day is computed again, none of those after it is, and none is counted."""
    before = stamps(bench)
    bench.put(f"tills/{days_after(2)}/b.csv", HEADER + line("late", at=f"{DAY} 12:00:00", units="0"))
    done = filled(bench)
    made = [(one.table, (one.day - DAY).days) for one in done.computed if one.day is not None]
    assert {one for one in made if one[0] != "processed.tills"} == {(KEY, 0)}
    assert {one for one in has_changed(bench, before) if one[0] != "processed.tills"} == {(KEY, 0)}
    assert stale(bench, KEY) == stale(bench, "reports.seen") == []


def test_a_day_without_anything_is_passed_over(tmp_path: Path) -> None:
    """It has no partition; when something of it comes after all, it is carried on."""
    one = bench_with(tmp_path, FILES)
    sell(one, 0, "1")
    sell(one, 2, "2")
    upkeep.catch_up(one.warehouse)
    assert one.warehouse.days(KEY) == [days_after(0), days_after(2)]
    assert [units(one, number) for number in range(3)] == [1, 1, 2]
    sell(one, 1, "3")
    upkeep.catch_up(one.warehouse)
    assert [units(one, number) for number in range(3)] == [1, 2, 3]


def test_a_gap_is_told(tmp_path: Path) -> None:
    """A day can't be computed while the one before never was: it says which, and what to do; trying again can help."""
    one = bench_with(tmp_path, FILES)
    upkeep.catch_up(one.warehouse)
    for number in range(3):
        sell(one, number, str(number))
        one.load(day=days_after(number))
        one.process(day=days_after(number))
    table = one.sql_tables[KEY]
    assert one.warehouse.missing_before(table, days_after(2)) == [days_after(0), days_after(1)]
    assert one.warehouse.missing_before(table, days_after(0)) == []
    with pytest.raises(
        DayBeforeMissing, match=r"processed\.ever 2024-10-03 carries on .* 2024-10-02, which was never computed"
    ) as told:
        one.warehouse.derive(table, days_after(2))
    assert "compute 2024-10-02 first" in told.value.hint
    assert told.value.can_retry
    done = filled(one, 2, 2)
    assert [(failure.table, failure.day) for failure in done.failures] == [(KEY, days_after(2))]
    assert "which was never computed" in done.failures[0].what
    assert filled(one).failures == ()
    assert [units(one, number) for number in range(3)] == [1, 2, 3]


def test_a_trial_leaves_a_state_whose_past_is_not_there(tmp_path: Path) -> None:
    """A table that is new can lose nothing: of the last days alone it can't be made, which fails no check of a pull request."""
    one = bench_with(tmp_path, {})
    for number in range(3):
        sell(one, number, str(number))
    upkeep.catch_up(one.warehouse)
    one.warehouse.close()
    two = bench_with(tmp_path, FILES)
    asked = last_days(two.warehouse, [two.datasets["tills"]], 1)
    tried = judge(plan(two.warehouse, asked))
    assert tried.passed
    assert KEY not in {one.table for one in tried.plan.partitions}


def test_days_before_the_first_are_no_state(tmp_path: Path) -> None:
    """A table begins on the day on which all that it is made of has begun."""
    one = bench_with(tmp_path, FILES)
    assert one.sql_tables[KEY].first_day == DAY
    sell(one, 0, "1")
    sell(one, 1, "2")
    upkeep.catch_up(one.warehouse)
    assert one.warehouse.ledger.last_day_before([KEY, "processed.tills"], DAY, DAY) is None
    assert one.warehouse.ledger.last_day_before([KEY], days_after(5), DAY) == days_after(1)


def test_a_plan_foretells_it(bench: Bench) -> None:
    """The partitions that a backfill computes, and what is in them, to the byte."""
    sell(bench, 2, "late", on=0, file="b")
    asked = ask(bench.warehouse, [bench.datasets["tills"]])
    foretold = {
        (one.table, one.day): one.content for one in plan(bench.warehouse, asked).partitions if one.table == KEY
    }
    done = filled(bench)
    assert {(one.table, one.day): one.content for one in done.computed if one.table == KEY} == foretold
    assert [day for _, day in foretold] == [days_after(number) for number in range(3)]


def test_a_replay_is_certified_as_equal(bench: Bench) -> None:
    """Read and computed again from the middle on, every day that carries on is compared, and equal."""
    certificate = certified_replay(
        bench.warehouse, bench.datasets["tills"], days_after(1), days_after(1), by="Thandi", why="to see"
    )
    assert certificate.is_equal
    assert {one.day for one in certificate.compared if one.table == KEY} == {days_after(1), days_after(2)}


def test_a_rebuild_and_a_repair_come_to_the_same(bench: Bench) -> None:
    """From the landing zone alone, and from a state whose file is damaged in the middle."""
    before = bench.export()
    (row,) = [one for one in bench.warehouse.ledger.partitions(KEY) if one.day == days_after(1).isoformat()]
    (file,) = bench.warehouse.ledger.partition_files([row])
    bench.warehouse.store.absolute(file.path).write_bytes(b"damaged")
    assert [damage.table for damage in upkeep.repair(bench.warehouse)] == [KEY]
    assert list(differences(before, bench.export())) == []
    bench.warehouse.close()
    upkeep.rebuild(bench.open)
    assert list(differences(before, bench.export())) == []


def test_a_changed_query_computes_every_day_again(bench: Bench, tmp_path: Path) -> None:
    """From the first one on."""
    bench.warehouse.close()
    two = Bench(tmp_path, sql=tmp_path / "sql")
    assert stale(two, KEY) == []
    text = EVER.replace("coalesce(today.units, 0)", "2 * coalesce(today.units, 0)")
    (tmp_path / "sql/processed/ever.sql").write_text(text)
    three = Bench(tmp_path, sql=tmp_path / "sql")
    assert stale(three, KEY) == [0, 1, 2]
    upkeep.catch_up(three.warehouse)
    assert [units(three, number) for number in range(3)] == [2, 6, 8]


def test_a_day_that_comes_in_between_meanwhile_is_computed_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process processes a day after it was asked what is stale: catching up computes that day before those after it."""
    one = bench_with(tmp_path, FILES)
    for number in range(3):
        sell(one, number, str(number))
    upkeep.catch_up(one.open())
    one.put(f"tills/{days_after(4)}/a.csv", HEADER + line("4", at=f"{days_after(4)} 12:00:00"))
    sell(one, 3, "3")
    asked = Warehouse.stale_days

    def interrupted(warehouse: Warehouse, table: str) -> list[date | None]:
        found = asked(warehouse, table)
        if table == KEY:
            monkeypatch.setattr(Warehouse, "stale_days", asked)
            with one.open() as other:
                other.load(one.datasets["tills"], days_after(3))
                other.process(one.datasets["tills"], days_after(3))
        return found

    one.load(day=days_after(4))
    one.process(day=days_after(4))
    monkeypatch.setattr(Warehouse, "stale_days", interrupted)
    monkeypatch.setattr(upkeep, "landed_days", lambda warehouse, dataset: [])
    upkeep.catch_up(one.warehouse)
    assert [units(one, number) for number in range(5)] == [1, 2, 3, 4, 5]
    assert stale(one, KEY) == []


def test_a_state_that_changes_meanwhile_is_noticed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process computes the day before anew while a day is computed: it is computed again on what is there then."""
    sell(bench, 2, "late", on=0, file="b")
    sell(bench, 2, "5", file="c")
    bench.load(day=days_after(2))
    for number in range(3):
        bench.process(day=days_after(number))
    table, run = bench.sql_tables[KEY], Deriver._run
    others: list[date] = [days_after(0), days_after(1)]

    def interrupted(deriver: Deriver, *arguments: object) -> int:
        if others:
            todo, others[:] = list(others), []
            with bench.open() as other:
                for day in todo:
                    other.derive(table, day)
        return run(deriver, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Deriver, "_run", interrupted)
    bench.warehouse.derive(table, days_after(2))
    assert units(bench, 2) == 6
    assert stale(bench, KEY) == []


MISTAKES: dict[str, tuple[str, str, str, str]] = {
    "no days": ("processed/a", sql("select a from processed.a", "a"), "reads itself, and has no days", "sees its own day before"),
    "a report": ("reports/a", sql("select a from reports.a where $day is not null", "a"), "reads itself, and is a report", "processed"),
    "types that never end": (
        "processed/a",
        sql("select [a] as a from processed.a where $day is not null", "a"),
        "the types of its columns depend on themselves",
        "cast what is carried on",
    ),
    "a check over it": (
        "processed/a",
        sql("select 1 as a, $day as b from processed.a", "a", "b").replace("*/", '[[checks]]\nname = "c"\nexpression = "d"\n*/'),
        "check 'c' doesn't bind",
        "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told(tmp_path: Path, mistake: str) -> None:
    """At import, with the file."""
    file, text, message, hint = MISTAKES[mistake]
    with pytest.raises(DeclarationError, match=message) as told:
        read(tmp_path, {file: text})
    assert hint in told.value.hint
    assert f"{file}.sql" in told.value.what


def test_a_circle_is_still_one(tmp_path: Path) -> None:
    """Two tables that read each other, one of them itself, are told."""
    one = sql("select a from processed.a union all select a from processed.b where $day is not null", "a")
    other = sql("select a from processed.a where $day is not null", "a")
    with pytest.raises(DeclarationError, match=r"in a circle: sql/processed/a\.sql, sql/processed/b\.sql"):
        read(tmp_path, {"processed/a": one, "processed/b": other})


def test_many_days_are_carried_on_in_order(tmp_path: Path) -> None:
    """In one backfill, each day after the one before it, nothing twice."""
    one = bench_with(tmp_path, {"processed/ever": EVER})
    upkeep.catch_up(one.warehouse)
    days = 20
    for number in range(days):
        sell(one, number, str(number))
    done = filled(one)
    assert [one.day for one in done.computed if one.table == KEY] == [
        DAY + timedelta(days=number) for number in range(days)
    ]
    assert units(one) == days
