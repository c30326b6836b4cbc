"""SQL files understood, their tables computed, restated and published."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest

from ingestion_platform.errors import DeclarationError, WarehouseError
from ingestion_platform.warehouse import SqlTables, load_sql_tables, upkeep
from ingestion_platform.warehouse.ledger_rows import PartitionRow
from ingestion_platform_tests.warehouse.building import BUSINESS, DAY, HEADER, Bench, line


def days_after(number: int) -> date:
    """A day."""
    return DAY + timedelta(days=number)


def sql(query: str, *columns: str, more: str = "") -> str:
    """A file that describes these columns."""
    described = "\n".join(f'{column} = "Described."' for column in columns)
    return f'/*\ndescription = "One row per thing."\n{more}\n[columns]\n{described}\n*/\n{query}\n'


def write(root: Path, files: Mapping[str, str]) -> Path:
    """A folder of SQL files: `reports/a` → text."""
    for name, text in files.items():
        path = root / "sql" / f"{name}.sql"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root / "sql"


def read(root: Path, files: Mapping[str, str]) -> SqlTables:
    """The tables of these files, over the test business."""
    return load_sql_tables(BUSINESS, zone=Bench(root / "unused").settings.zone, folder=write(root, files))


def bench_with(root: Path, files: Mapping[str, str]) -> Bench:
    """A warehouse with these SQL tables and the roster."""
    bench = Bench(root, sql=write(root, files))
    bench.put_shops()
    return bench


def sell(bench: Bench, number: int, *ids: str, on: int | None = None, file: str = "a") -> None:
    """Land a file of a day with lines of that day, or of the day *on*."""
    happened = days_after(number if on is None else on)
    bench.put(
        f"tills/{days_after(number)}/{file}.csv", HEADER + "".join(line(id_, at=f"{happened} 12:00:00") for id_ in ids)
    )


def stale(bench: Bench, table: str) -> list[int | None]:
    """Days that are to be computed, counted from the first."""
    return [None if day is None else (day - DAY).days for day in bench.warehouse.stale_days(table)]


def has_changed(bench: Bench, before: Mapping[str, str]) -> set[tuple[str, int | None]]:
    """Partitions that are another file than they were."""
    return {
        (row.table_name, (date.fromisoformat(row.day) - DAY).days if row.day else None)
        for row in computed(bench)
        if before.get(f"{row.table_name} {row.day}") != row.computed_at
    }


def computed(bench: Bench) -> list[PartitionRow]:
    """Every computed partition."""
    return bench.warehouse.ledger.everything()[2]


ONE = sql("select id from processed.tills where _day = $day", "id")

MISTAKES = {
    "no comment": ("select 1 as a", r"doesn't start with a /\* TOML comment \*/", "README"),
    "comment not closed": ("/*\ndescription = 'x'\nselect 1 as a", "doesn't start with a", "README"),
    "comment is no TOML": ("/*\ndescription = \n*/\nselect 1 as a", "its comment is no TOML: .*line 2", "README"),
    "unknown key": (sql("select 1 as a", "a", more='owner = "me"'), "comment, owner: Unexpected keyword", "README"),
    "no description": ('/*\n[columns]\na = "x"\n*/\nselect 1 as a', "comment, description: .*required", "README"),
    "no columns": ('/*\ndescription = "x"\n*/\nselect 1 as a', "comment, columns: .*required", "README"),
    "negative history": (sql("select 1 as a", "a", more="history_days = -1"), "history_days is 0 to 366, not -1", ""),
    "check with a bad name": (
        '/*\ndescription = "x"\n[columns]\na = "x"\n[[checks]]\nname = "Not Snake"\nexpression = "true"\n*/\nselect 1 as a',
        "comment, check 'Not Snake'",
        "",
    ),
    "undescribed column": (sql("select 1 as a, 2 as b", "a"), r"gives \['a', 'b'\], its comment describes \['a'\]", "in its order"),
    "described, not given": (sql("select 1 as a", "a", "b"), r"gives \['a'\], its comment describes \['a', 'b'\]", "in its order"),
    "in another order": (sql("select 1 as a, 2 as b", "b", "a"), r"gives \['a', 'b'\]", "in its order"),
    "two columns of one name": (sql("select 1 as a, 2 as a", "a"), r"gives \['a', 'a", "in its order"),
    "two statements": (sql("select 1 as a; select 2 as a", "a"), "holds 2 statements", "one select statement"),
    "no statement": (sql("", "a"), "statement|syntax|parse", "one select statement"),
    "no select": (sql("create table a (a int)", "a"), "SELECT", "one select statement"),
    "syntax": (sql("selekt 1 as a", "a"), "syntax error", "one select statement"),
    "semicolon before a comment": (sql("select 1 as a; -- done", "a"), "doesn't bind: .*syntax error", ""),
    "unknown table": (sql("from processed.till", "a"), "reads processed.till, which there isn't", "did you mean processed.tills"),
    "far from any table": (sql("select id as a from reports.zzzzzzzzzzzz", "a"), "which there isn't", "tables: processed.shops"),
    "raw table": (sql("select id as a from raw.tills", "a"), "it reads raw.tills, which there isn't", "processed.tills"),
    "current of events": (sql("select id as a from processed.tills_current", "a"), "which there isn't", "did you mean"),
    "without a layer": (sql("select id as a from tills", "a"), "reads 'tills' without a layer", "processed.…"),
    "unknown parameter": (sql("select $dey as a", "a"), r"parameter \$dey is not known", r"$window_start"),
    "unnamed parameter": (sql("select ? as a", "a"), r"parameter \$1 is not known", r"$window_start"),
    "unknown column": (sql("select amount as a from processed.tills", "a"), "doesn't bind: .*amount", "declarations"),
    "primary key": (sql("select 1 as a", "a", more='primary_key = ["b"]'), "primary_key 'b' is not among its columns", "fix the name"),
    "check that doesn't bind": (
        sql("select 1 as a", "a") .replace("*/", '[[checks]]\nname = "positive"\nexpression = "b > 0"\n*/'),
        "check 'positive' doesn't bind: .*b",
        "a condition over",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_its_file_and_a_hint(tmp_path: Path, mistake: str) -> None:
    """At import, before anything is computed."""
    text, message, hint = MISTAKES[mistake]
    with pytest.raises(DeclarationError, match=rf"(?s)^sql/reports/wrong\.sql: .*{message}") as told:
        read(tmp_path, {"reports/right": ONE, "reports/wrong": text})
    assert hint in told.value.hint


def test_a_file_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    """By its name, not by a position in nothing."""
    folder = write(tmp_path, {"reports/wrong": ""})
    (folder / "reports" / "wrong.sql").write_bytes(b'/*\ndescription = "caf\xe9"\n*/ select 1 as a')
    with pytest.raises(DeclarationError, match=r"sql/reports/wrong\.sql: it isn't UTF-8"):
        read(tmp_path, {})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raw/wrong", "sql/raw/wrong.sql: SQL tables are of layer processed or reports"),
        ("reports/Wrong-name", "sql/reports/Wrong-name.sql: a table's name is snake_case"),
        ("processed/tills", "sql/processed/tills.sql: a dataset is called 'tills' already"),
        ("processed/shops_current", "sql/processed/shops_current.sql: a dataset is called 'shops_current' already"),
    ],
)
def test_a_file_in_the_wrong_place_is_told(tmp_path: Path, name: str, message: str) -> None:
    """The path is the table's name."""
    with pytest.raises(DeclarationError, match=message):
        read(tmp_path, {name: sql("select 1 as a", "a")})


def test_a_circle_is_told_without_those_that_merely_read_it(tmp_path: Path) -> None:
    """The files of the circle are named, and no others."""
    files = {
        "reports/a": sql("select x from reports.b", "x"),
        "reports/b": sql("select x from reports.a", "x"),
        "reports/c": sql("select x from reports.b", "x"),
    }
    with pytest.raises(
        DeclarationError,
        match=r"in a circle: sql/reports/a\.sql, sql/reports/b\.sql \(hint",
    ):
        read(tmp_path, files)


def test_dependencies_are_found_wherever_they_stand(tmp_path: Path) -> None:
    """In a CTE, a subquery, a join, a union, and behind a CTE that has a table's name."""
    files = {
        "processed/first": sql("select id from processed.tills", "id"),
        "processed/second": sql("select id from processed.tills where _day = $day", "id"),
        "reports/all": sql(
            """with tills as (select id from processed.first where id in (select shop from processed.shops_current))
            select tills.id as id from tills
            join (select id from processed.second) as other on other.id = tills.id
            where exists (select 1 from processed.shops where shop = tills.id)
            union all select id from processed.tills where _day = $day""",
            "id",
        ),
    }
    table = read(tmp_path, files)["reports.all"]
    assert table.depends_on == ("processed.first", "processed.second", "processed.shops", "processed.tills")
    assert table.reads == (
        "processed.first",
        "processed.second",
        "processed.shops",
        "processed.shops_current",
        "processed.tills",
    )
    assert table.is_daily
    assert list(read(tmp_path, {})) == ["processed.first", "processed.second", "reports.all"]


def test_a_comment_after_the_query_is_no_part_of_it(tmp_path: Path) -> None:
    """A query whose last line is a comment is computed like any other."""
    bench = bench_with(
        tmp_path, {"reports/lines": sql("select id from processed.tills where _day = $day -- only of the day", "id")}
    )
    sell(bench, 0, "1")
    upkeep.catch_up(bench.warehouse)
    assert bench.rows("reports.lines") == [("1",)]


def test_origins_of_columns(tmp_path: Path) -> None:
    """Through expressions, aliases, CTEs, joins, windows and unions, to the tables that are read; what is made of nothing has none."""
    query = """
    with sold as (select id, shop as place, units * price_zar as amount from processed.tills where _day = $day),
    ranked as (select *, row_number() over (partition by place order by amount) as rank from sold)
    select $day as sold_on, ranked.place as shop, shops.since as since, sum(ranked.amount) + max(ranked.rank) as mixed, count(*) as lines,
        case when min(shops.since) is null then 'x' else min(ranked.id) end as chosen
    from ranked left join processed.shops_current as shops on shops.shop = ranked.place group by all
    """
    table = read(tmp_path, {"reports/origins": sql(query, "sold_on", "shop", "since", "mixed", "lines", "chosen")})[
        "reports.origins"
    ]
    tills, shops = "processed.tills", "processed.shops_current"
    assert table.origins["shop"] == ((tills, "shop"),)
    assert table.origins["since"] == ((shops, "since"),)
    assert set(table.origins["mixed"]) >= {(tills, "price_zar"), (tills, "units")}
    assert set(table.origins["chosen"]) == {(shops, "since"), (tills, "id")}
    assert table.origins["sold_on"] == table.origins["lines"] == ()


SOLD = sql(
    "select shop, count(*) as sold from processed.tills where _day = $day group by shop",
    "shop",
    "sold",
    more='primary_key = ["shop"]',
)
WEEK = sql("select $day as sold_on, count(*) as sold from processed.tills", "sold_on", "sold", more="history_days = 2")
BOTH = sql("select sold from reports.sold where shop = 'a' and $day is not null", "sold")
NAMED = sql(
    """select tills.id as id, shops.since as since from processed.tills as tills
    join processed.shops_current as shops on shops.shop = tills.shop where tills._day = $day""",
    "id", "since",
)  # fmt: skip
TOTAL = sql("select count(*) as sold from processed.tills", "sold")


def test_a_change_makes_exactly_the_days_stale_that_see_it(tmp_path: Path) -> None:
    """Its own day; with history, as many days after it; what reads that, likewise; a table without days, whole."""
    bench = bench_with(
        tmp_path, {"reports/sold": SOLD, "reports/week": WEEK, "reports/both": BOTH, "reports/total": TOTAL}
    )
    for number in range(6):
        sell(bench, number, f"{number}")
    upkeep.catch_up(bench.warehouse)
    assert [stale(bench, key) for key in bench.sql_tables] == [[], [], [], []]
    sell(bench, 2, "2", "2 more")
    bench.load(day=days_after(2))
    assert stale(bench, "processed.tills") == [2]
    assert stale(bench, "reports.sold") == [], "what processed doesn't show yet is no change for a report"
    bench.process(day=days_after(2))
    assert stale(bench, "reports.sold") == [2]
    assert stale(bench, "reports.week") == [2, 3, 4]
    assert stale(bench, "reports.both") == []
    assert stale(bench, "reports.total") == [None]
    bench.warehouse.derive(bench.sql_tables["reports.sold"], days_after(2))
    assert stale(bench, "reports.both") == [2]
    upkeep.catch_up(bench.warehouse)
    assert bench.rows("reports.total", "sold") == [(7,)]
    assert bench.rows("reports.week", "sold") == [(1,), (2,), (3,), (4,), (4,), (4,)]


def test_a_late_row_restates_its_own_day_and_nothing_else(tmp_path: Path) -> None:
    """A file of day 4 brings a row of day 2: processed and reports of both are computed, all others are left as they are."""
    bench = bench_with(tmp_path, {"reports/sold": SOLD, "reports/week": WEEK})
    for number in range(7):
        sell(bench, number, f"{number}")
    upkeep.catch_up(bench.warehouse)
    before = {f"{row.table_name} {row.day}": row.computed_at for row in bench.warehouse.ledger.everything()[2]}
    sell(bench, 4, "late", on=2, file="late")
    loaded = bench.load(day=days_after(4))
    assert loaded.touched_days == (days_after(2), days_after(4))
    assert stale(bench, "processed.tills") == [2, 4]
    upkeep.catch_up(bench.warehouse)
    assert has_changed(bench, before) == {
        *(("processed.tills", number) for number in (2, 4)),
        ("reports.sold", 2),
        *(("reports.week", number) for number in (2, 3, 4)),
    }
    assert bench.rows("reports.sold", "sold") == [(1,)] * 6 + [(2,)]


def test_a_computation_that_gives_the_same_stops_there(tmp_path: Path) -> None:
    """A processed day that was computed again and came out equal leaves reports alone."""
    bench = bench_with(tmp_path, {"reports/sold": SOLD})
    sell(bench, 0, "1")
    upkeep.catch_up(bench.warehouse)
    assert bench.process(force=True).has_changed
    assert stale(bench, "reports.sold") == []
    bench.load(reload=True)
    bench.process(force=True)
    assert stale(bench, "reports.sold") == []


def test_current_is_as_of_the_day(tmp_path: Path) -> None:
    """A report of an old day sees the snapshot of that day, whatever came later; a new snapshot makes stale what it is the newest for."""
    bench = bench_with(tmp_path, {"reports/named": NAMED})
    for number in (0, 2, 4):
        sell(bench, number, f"{number}")
    bench.put(f"shops/{days_after(2)}.csv", "shop,since\na,second\n")
    upkeep.catch_up(bench.warehouse)
    assert bench.rows("reports.named", "id", "since") == [("0", None), ("2", "second"), ("4", "second")]
    bench.put(f"shops/{days_after(3)}.csv", "shop,since\na,third\n")
    bench.load("shops", days_after(3))
    bench.process("shops", days_after(3))
    assert stale(bench, "reports.named") == [4]
    upkeep.catch_up(bench.warehouse)
    assert bench.rows("reports.named", "id", "since") == [("0", None), ("2", "second"), ("4", "third")]
    assert bench.rows("processed.shops_current", "since") == [("third",)]


def test_an_empty_snapshot_does_not_become_the_current_one(tmp_path: Path) -> None:
    """For a query of a person as for a report: the last list that says anything holds."""
    bench = bench_with(tmp_path, {"reports/named": NAMED})
    sell(bench, 0, "0")
    bench.put(f"shops/{days_after(1)}.csv", "shop,since\n")
    sell(bench, 1, "1")
    upkeep.catch_up(bench.warehouse)
    assert bench.rows("processed.shops_current", "shop") == [("a",), ("b",), ("c",)]
    assert bench.rows("reports.named", "id") == [("0",), ("1",)]


def test_a_changed_query_makes_every_day_stale_and_a_changed_doc_none(tmp_path: Path) -> None:
    """The query is one of the inputs, its description isn't."""
    bench = bench_with(tmp_path, {"reports/sold": SOLD})
    for number in range(3):
        sell(bench, number, f"{number}")
    upkeep.catch_up(bench.warehouse)
    write(tmp_path, {"reports/sold": SOLD.replace("One row per thing.", "Told otherwise.")})
    assert stale(Bench(tmp_path, sql=tmp_path / "sql"), "reports.sold") == []
    write(tmp_path, {"reports/sold": SOLD.replace("count(*)", "count(*) + 1")})
    assert stale(Bench(tmp_path, sql=tmp_path / "sql"), "reports.sold") == [0, 1, 2]


@pytest.mark.parametrize("daily_first", [True, False])
def test_a_table_that_gets_or_loses_its_days_keeps_no_rows_of_before(tmp_path: Path, daily_first: bool) -> None:
    """Rows of the former partitions don't stand beside the new ones."""
    daily = sql("select id from processed.tills where _day = $day", "id")
    whole = sql("select id from processed.tills", "id")
    bench = bench_with(tmp_path, {"reports/lines": daily if daily_first else whole})
    for number in range(2):
        sell(bench, number, f"{number}")
    upkeep.catch_up(bench.warehouse)
    write(tmp_path, {"reports/lines": whole if daily_first else daily})
    other = Bench(tmp_path, sql=tmp_path / "sql")
    assert stale(other, "reports.lines") == ([None] if daily_first else [0, 1])
    upkeep.catch_up(other.warehouse)
    assert other.rows("reports.lines") == [("0",), ("1",)]
    assert upkeep.verify(other.warehouse) == []


def test_the_primary_key_and_checks_are_counted(tmp_path: Path) -> None:
    """Rows beyond the first of a key, and rows for which a condition is false."""
    text = sql(
        "select shop, units from processed.tills where _day = $day", "shop", "units", more='primary_key = ["shop"]'
    )
    text = text.replace("*/", '[[checks]]\nname = "sold_something"\nexpression = "units > 0"\n*/')
    bench = bench_with(tmp_path, {"reports/units": text})
    bench.put(f"tills/{DAY}/a.csv", HEADER + line("1") + line("2", units="0") + line("3", "b", units=""))
    upkeep.catch_up(bench.warehouse)
    done = bench.warehouse.table_day("reports.units", DAY)
    assert done is not None
    assert done.failed_checks == {"primary_key": 1, "sold_something": 1}


def test_a_query_that_fails_on_the_data_names_table_and_day(tmp_path: Path) -> None:
    """What binds can still fail; the former partition stays."""
    bench = bench_with(
        tmp_path, {"reports/numbers": sql("select id::integer as id from processed.tills where _day = $day", "id")}
    )
    sell(bench, 0, "1")
    upkeep.catch_up(bench.warehouse)
    sell(bench, 0, "one")
    bench.load()
    bench.process()
    with pytest.raises(WarehouseError, match=r"reports.numbers 2024-10-01: the query failed: .*'one'") as told:
        bench.warehouse.derive(bench.sql_tables["reports.numbers"], DAY)
    assert "numbers.sql" in told.value.hint
    assert bench.rows("reports.numbers", "id") == [(1,)]


def published(bench: Bench) -> dict[str, list[str]]:
    """Names of published files, by report."""
    return {
        folder.name: sorted(path.name for path in folder.iterdir())
        for folder in sorted(bench.settings.publish.iterdir())
    }


def test_reports_are_published_as_parquet_and_csv(tmp_path: Path) -> None:
    """A file a day of each, equal to the table, whole, with no rest of writing; processed SQL tables aren't published."""
    between = sql("select shop, price_zar from processed.tills where _day = $day", "shop", "price_zar")
    report = sql(
        "select shop, price_zar as price_zar, null::varchar as nothing, 'a \"b\",\nc' as words from processed.between",
        "shop",
        "price_zar",
        "nothing",
        "words",
    )
    report = report.replace("from processed.between", "from processed.between where $day is not null")
    bench = bench_with(tmp_path, {"processed/between": between, "reports/prices": report, "reports/total": TOTAL})
    for number in range(2):
        sell(bench, number, f"{number}")
    upkeep.catch_up(bench.warehouse)
    days = [str(days_after(number)) for number in range(2)]
    assert published(bench) == {
        "prices": sorted(f"{day}.{ending}" for day in days for ending in ("csv", "parquet")),
        "total": ["total.csv", "total.parquet"],
    }
    with duckdb.connect() as engine:
        for day in days:
            truth = bench.warehouse.read(
                "reports.prices", first=date.fromisoformat(day), last=date.fromisoformat(day)
            ).to_pylist()
            path = bench.settings.publish / "prices" / day
            assert engine.sql(f"from '{path}.parquet'").to_arrow_table().to_pylist() == truth
            found = engine.sql(f"from read_csv('{path}.csv', all_varchar = true)").to_arrow_table().to_pylist()
            assert found == [
                {name: None if value is None else str(value) for name, value in row.items()} for row in truth
            ]


def test_a_published_file_that_was_deleted_is_published_again(tmp_path: Path) -> None:
    """The next time the day is asked for, though nothing has changed; a restated day replaces its file."""
    bench = bench_with(tmp_path, {"reports/sold": SOLD})
    sell(bench, 0, "1")
    upkeep.catch_up(bench.warehouse)
    path = bench.settings.publish / "sold" / f"{DAY}.csv"
    assert path.read_text() == "shop,sold\na,1\n"
    path.unlink()
    assert not bench.warehouse.derive(bench.sql_tables["reports.sold"], DAY).has_changed
    assert path.read_text() == "shop,sold\na,1\n"
    sell(bench, 0, "1", "2")
    upkeep.catch_up(bench.warehouse)
    assert path.read_text() == "shop,sold\na,2\n"


def test_a_report_computed_while_its_input_changes_is_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is committed is never older than what the ledger says it was made of."""
    bench = bench_with(tmp_path, {"reports/sold": SOLD})
    sell(bench, 0, "1")
    upkeep.catch_up(bench.warehouse)
    sell(bench, 0, "1", "2")
    bench.load()
    bench.process()
    other = bench.open()
    deriver = type(bench.warehouse._deriver)
    run, times = deriver._run, list[int]()

    def meanwhile(self: object, *arguments: object) -> object:
        if not times:
            sell(bench, 0, "1", "2", "3")
            other.load(bench.datasets["tills"], DAY)
            other.process(bench.datasets["tills"], DAY)
        times.append(1)
        return run(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(deriver, "_run", meanwhile)
    bench.warehouse.derive(bench.sql_tables["reports.sold"], DAY)
    assert len(times) == 2
    assert bench.rows("reports.sold", "sold") == [(3,)]
    assert stale(bench, "reports.sold") == []


def test_every_business_days_window_is_its_own(tmp_path: Path) -> None:
    """Windows are UTC bounds of local days: midnight in Johannesburg is ten in the evening in UTC."""
    window = sql(
        """select $window_start as opened_at, $window_end as closed_at, $day as day, $time_zone as zone
        from processed.tills where _day = $day""",
        "opened_at",
        "closed_at",
        "day",
        "zone",
    )
    bench = bench_with(tmp_path, {"reports/windows": window})
    bench.put(f"tills/{DAY}/a.csv", HEADER + line("1"))
    upkeep.catch_up(bench.warehouse)
    ((opened, closed, day, zone),) = bench.rows("reports.windows")
    assert (str(opened), str(closed), day, zone) == (
        "2024-09-30 22:00:00",
        "2024-10-01 22:00:00",
        DAY,
        "Africa/Johannesburg",
    )


def test_processed_columns_may_change_between_days(tmp_path: Path) -> None:
    """A column that is declared later is NULL in the days computed before it."""
    bench = bench_with(tmp_path, {"reports/total": TOTAL})
    sell(bench, 0, "1")
    upkeep.catch_up(bench.warehouse)
    tills = bench.datasets["tills"]
    extra = replace(tills.columns[-1], name="basket", pii=None, source="basket")
    wider = Bench(
        tmp_path,
        type(bench.datasets)([bench.datasets["shops"], replace(tills, columns=(*tills.columns, extra))]),
        sql=tmp_path / "sql",
    )
    assert wider.rows("processed.tills", "id", "basket") == [("1", None)]
    upkeep.catch_up(wider.warehouse)
    assert wider.rows("processed.tills", "id", "basket") == [("1", None)]
