"""Adopting a column: raw and everything behind it are what they would be had the column been declared from the start."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion_platform.dataset import Dataset, Datasets, LandedFiles
from ingestion_platform.errors import DeclarationError
from ingestion_platform.format import Csv, FixedWidth, Xml
from ingestion_platform.landing import LandingZone
from ingestion_platform.table import INTEGER, VARCHAR, Column
from ingestion_platform.warehouse import Warehouse, upkeep
from ingestion_platform_tests.sources.memory_api import MemoryApi
from ingestion_platform_tests.sources.memory_api import records as api_records
from ingestion_platform_tests.warehouse.building import DAY, Bench, differences, export
from ingestion_platform_tests.warehouse.drifting import (
    AMOUNT,
    FORMATS,
    NOTE,
    RENAMED,
    TIP,
    Record,
    Refuses,
    key,
    only,
    sales,
)
from ingestion_platform_tests.warehouse.streaming import REST, SALES, segment
from ingestion_platform_tests.warehouse.test_api_pages import World, snapshots

WEEK = [DAY + timedelta(days=offset) for offset in range(5)]


def records(day: date, shop: str) -> list[Record]:
    """What a shop sends: from the third day on a note and a tip, and shop b calls the amount otherwise."""
    found: list[Record] = []
    for number in range(3):
        record: dict[str, object] = {"id": f"{shop}{day.day}{number}"}
        record["total" if shop == "b" and day >= WEEK[2] else "amount"] = 1.5 + number
        if day >= WEEK[2]:
            record |= {"note": ['said "so", well', "été", None][number], "tip": number, "till": 7}
        found.append(record | {"at": f"{day} 10:0{number}:00"})
    return found


def put_week(bench: Bench, ending: str) -> None:
    """Land it."""
    for day in WEEK:
        for shop in "ab":
            bench.put(key(ending, day, shop), FORMATS[ending][1](records(day, shop)))


def declared_otherwise(bench: Bench, datasets: Datasets, *, refuses: bool = True) -> Warehouse:
    """The same files under another declaration, and a landing zone that refuses whatever is asked of it."""
    zone: LandingZone = Refuses(bench.landing) if refuses else bench.landing  # type: ignore[assignment]  # it lists nothing
    return Warehouse(bench.settings, zone, datasets, bench.sql_tables)


def restate(warehouse: Warehouse) -> None:
    """Compute what is stale, until nothing is."""
    for dataset in warehouse.datasets.values():
        while stale := [day for day in warehouse.stale_days(dataset.processed) if day is not None]:
            for day in stale:
                warehouse.process(dataset, day)


def from_the_start(root: Path, bench: Bench, datasets: Datasets) -> dict[str, str]:
    """The tables of a run that has known the declaration from the start."""
    other = Bench(root, datasets, zone=bench.landing)
    upkeep.catch_up(other.warehouse)
    assert upkeep.verify(other.warehouse) == []
    return export(other.warehouse)


def assert_same(warehouse: Warehouse, expected: dict[str, str]) -> None:
    """Nothing differs, and nothing is damaged."""
    assert list(differences(export(warehouse), expected)) == []
    assert upkeep.verify(warehouse) == []


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("order", ["as it landed", "backwards", "half adopted"])
def test_adopting_columns_in_the_middle_of_a_week_gives_the_tables_of_a_run_that_had_known_them(
    tmp_path: Path, ending: str, order: str
) -> None:
    """New columns and a renamed one, in every order of loading; the landing zone isn't touched, sorted exports are byte-identical."""
    before, after = only(sales(ending, AMOUNT)), only(sales(ending, RENAMED, NOTE, TIP))
    bench = Bench(tmp_path / "one", before)
    put_week(bench, ending)
    days = WEEK[::-1] if order == "backwards" else WEEK
    known = 3 if order == "half adopted" else len(WEEK)
    for day in days[:known]:
        bench.load("sales", day)
    restate(bench.warehouse)
    for day in days[known:]:
        Warehouse(bench.settings, bench.landing, after, bench.sql_tables).load(after["sales"], day)
    warehouse = declared_otherwise(bench, after)
    restate(warehouse)
    assert_same(warehouse, from_the_start(tmp_path / "two", bench, after))
    assert "till" in str(warehouse.query("select _extra from raw.sales where _extra is not null").to_pylist())
    assert not warehouse.news(after["sales"], WEEK[0], bench.open().listing(after["sales"], WEEK[0]))


def test_adopting_a_member_of_a_nested_object_leaves_its_other_members(tmp_path: Path) -> None:
    """`payment` was unknown as a whole; once `payment.method` is declared, only the others are: `payment.till`."""
    before, after = (
        only(sales("jsonl", AMOUNT)),
        only(sales("jsonl", AMOUNT, Column("method", VARCHAR, "How.", source="payment.method"))),
    )
    bench = Bench(tmp_path / "one", before)
    payments: list[object] = [
        {"method": "card", "till": 1.50},
        {"till": [1, 2]},
        None,
        "cash",
        {"method": None},
        {},
        {"method": {"a": 1.0}},
    ]
    bench.put(
        key("jsonl", DAY, "a"),
        FORMATS["jsonl"][1]([{"id": str(n), "at": f"{DAY} 10:00", "payment": one} for n, one in enumerate(payments)]),
    )
    bench.load("sales")
    warehouse = declared_otherwise(bench, after)
    restate(warehouse)
    assert_same(warehouse, from_the_start(tmp_path / "two", bench, after))
    (entry,) = warehouse.raw_day(after["sales"], DAY).entries
    assert entry.unknown_columns == ("payment", "payment.till")


def test_a_member_that_a_record_has_twice_is_read_again(tmp_path: Path) -> None:
    """`_extra` can't tell two values from a list of two: the object is news, and read as if it had been declared from the start."""
    before, after = only(sales("jsonl", AMOUNT)), only(sales("jsonl", AMOUNT, NOTE))
    bench = Bench(tmp_path / "one", before)
    line = '{"id": "%s", "at": "2024-10-01 10:00", %s}\n'
    bench.put(key("jsonl", DAY, "a"), line % ("1", '"note": "x", "note": "y"'))
    bench.put(key("jsonl", DAY, "b"), line % ("2", '"note": ["x","y"]'))
    bench.load("sales")
    warehouse = declared_otherwise(bench, after, refuses=False)
    restate(warehouse)
    (news,) = warehouse.news(after["sales"], DAY, warehouse.listing(after["sales"], DAY))
    assert news.key == key("jsonl", DAY, "a")
    warehouse.load(after["sales"], DAY)
    restate(warehouse)
    assert_same(warehouse, from_the_start(tmp_path / "two", bench, after))


def test_values_under_both_names_are_read_again_where_the_new_one_counts(tmp_path: Path) -> None:
    """A record with the former and the new name: the new one counts, the other one belongs into `_extra`, and only its file knows how."""
    before, after = only(sales("csv", AMOUNT)), only(sales("csv", RENAMED))
    bench = Bench(tmp_path / "one", before)
    bench.put(key("csv", DAY, "a"), "id,amount,total,at\n1,1.0,2.0,2024-10-01 10:00\n2,,2.5,2024-10-01 10:00\n")
    bench.put(key("csv", DAY, "b"), "id,total,at\n3,3.0,2024-10-01 10:00\n")
    bench.load("sales")
    warehouse = declared_otherwise(bench, after, refuses=False)
    restate(warehouse)
    warehouse.load(after["sales"], DAY)
    restate(warehouse)
    assert_same(warehouse, from_the_start(tmp_path / "two", bench, after))
    found = warehouse.query("select id, amount, _extra from raw.sales order by id").to_pylist()
    assert [row["amount"] for row in found] == ["2.0", "2.5", "3.0"]


def test_a_value_that_has_one_name_at_most_has_no_alias() -> None:
    """Of XML, fixed width and CSV without a header nothing could be found under another name: the declaration is refused."""
    for format_ in (Xml(record="a/b"), FixedWidth(fields=(("total", 3), ("id", 2), ("at", 16))), Csv(header_rows=0)):
        with pytest.raises(DeclarationError, match="one name at most"):
            replace(sales("csv", RENAMED), source=LandedFiles("sales/%Y-%m-%d/{shop}", format_))


def test_only_files_with_values_are_written_anew(tmp_path: Path) -> None:
    """Of a week the first two days' files stay as they are: the column isn't in them."""
    before, after = only(sales("csv", AMOUNT)), only(sales("csv", AMOUNT, NOTE))
    bench = Bench(tmp_path / "one", before)
    put_week(bench, "csv")
    upkeep.catch_up(bench.warehouse)
    former = {file.path for file in bench.warehouse.ledger.files("raw.sales")}
    warehouse = declared_otherwise(bench, after)
    restate(warehouse)
    now = {file.path for file in warehouse.ledger.files("raw.sales")}
    assert {path.split("/")[3] for path in former & now} == {str(day) for day in WEEK[:2]}
    assert len(now) == len(former)


def test_a_column_that_is_no_longer_declared_goes_back_to_extra(tmp_path: Path) -> None:
    """Objects that have it are read again, those that never had it aren't."""
    before, after = only(sales("csv", AMOUNT, NOTE)), only(sales("csv", AMOUNT))
    bench = Bench(tmp_path / "one", before)
    put_week(bench, "csv")
    upkeep.catch_up(bench.warehouse)
    warehouse = declared_otherwise(bench, after, refuses=False)
    news = [len(warehouse.news(after["sales"], day, warehouse.listing(after["sales"], day))) for day in WEEK]
    assert news == [0, 0, 2, 2, 2]
    upkeep.catch_up(warehouse)
    assert_same(warehouse, from_the_start(tmp_path / "two", bench, after))


def test_a_changed_type_or_rule_touches_neither_the_landing_zone_nor_raws_files(tmp_path: Path) -> None:
    """Raw is text: a type, a rule, a mask, another name of the column, or the allowed lateness are applied to what raw has."""
    before = only(sales("csv", AMOUNT))
    stricter = Column("amount", INTEGER, "How much.", minimum=2)
    after = only(sales("csv", stricter))
    bench = Bench(tmp_path / "one", before)
    put_week(bench, "csv")
    upkeep.catch_up(bench.warehouse)
    former = {file.path for file in bench.warehouse.ledger.files("raw.sales")}
    warehouse = declared_otherwise(bench, after)
    restate(warehouse)
    assert {file.path for file in warehouse.ledger.files("raw.sales")} == former
    assert_same(warehouse, from_the_start(tmp_path / "two", bench, after))


@pytest.mark.parametrize("unknown", ["ignore", "fail"])
def test_what_was_not_kept_is_read_again(tmp_path: Path, unknown: str) -> None:
    """Values that were ignored, and objects that were rejected, are in no file of raw: they are news once the column is declared."""
    before, after = only(sales("csv", AMOUNT, unknown=unknown)), only(sales("csv", RENAMED, NOTE, TIP, unknown=unknown))
    bench = Bench(tmp_path / "one", before)
    put_week(bench, "csv")
    upkeep.catch_up(bench.warehouse)
    warehouse = declared_otherwise(bench, after, refuses=False)
    news = [len(warehouse.news(after["sales"], day, warehouse.listing(after["sales"], day))) for day in WEEK]
    assert news == [0, 0, 2, 2, 2]
    upkeep.catch_up(warehouse)
    assert_same(warehouse, from_the_start(tmp_path / "two", bench, after))


def test_adopting_a_member_of_a_streams_records_touches_no_segment(tmp_path: Path) -> None:
    """What records had beyond the declaration, and what stands around them, is taken from raw; what is routed by is read again."""
    columns = (
        *SALES.columns, Column("clerk", VARCHAR, "Who."), Column("tip", INTEGER, "More."),
        Column("arrived", VARCHAR, "When it came.", source="@arrived_at"),
    )  # fmt: skip
    after = Datasets([replaced(SALES, columns), REST])
    bench = Bench(tmp_path / "one", Datasets([SALES, REST]))
    for first in range(0, 40, 10):
        values = [
            json.dumps(
                {"type": "sale", "id": str(at), "units": 1, "at": "2024-10-01T08:00:00+02:00"}
                | ({"clerk": f"c{at}", "tip": at / 2, "deep": {"x": [1, 2.50]}} if at >= 15 else {})
            ).encode()
            for at in range(first, first + 10)
        ]
        bench.put(*segment(first, first + 9, values=values))
    # A part of what another segment stands for, landed later.
    bench.put(
        *segment(
            25, 44, values=[b'{"type": "sale", "id": "x", "tip": 1, "only": 2, "at": "2024-10-01T08:00:00+02:00"}'] * 20
        )
    )
    upkeep.catch_up(bench.warehouse)
    warehouse = declared_otherwise(bench, after)
    restate(warehouse)
    assert_same(warehouse, from_the_start(tmp_path / "two", bench, after))


def test_adopting_columns_of_an_apis_records_touches_no_page(tmp_path: Path) -> None:
    """New members, a renamed one, and what stands around records: taken from raw, as a run that had known them from the start."""
    api = MemoryApi(api_records(5))
    here = World(tmp_path / "one", snapshots(), api)
    days = WEEK[:3]
    for number, day in enumerate(days):
        if number:
            for record in api.records:
                record["title"] = record.pop("name", None) or record["title"]
                record |= {"note": 'said "so", été', "tip": number / 2, "deep": {"x": [1, 2.50]}}
        here.fetch(day)
        here.settle(day)
    title = Column("name", VARCHAR, "Its name.", source="title", aliases=("name",))
    more = (Column("tip", VARCHAR, "Given."), Column("page", INTEGER, "Which.", source="@page"), NOTE)
    columns = tuple(title if one.name == "name" else one for one in here.dataset.columns)
    after = Datasets([replaced(here.dataset, (*columns, *more))])
    former = {file.path for file in here.bench.warehouse.ledger.files("raw.things")}
    warehouse = declared_otherwise(here.bench, after)
    restate(warehouse)
    assert_same(warehouse, from_the_start(tmp_path / "two", here.bench, after))
    assert former.isdisjoint({file.path for file in warehouse.ledger.files("raw.things", first=days[1])})
    found = warehouse.query("select distinct name is null, tip, note, page is null from processed.things").to_pylist()
    assert len(found) == len(days)
    assert not any(row['("name" IS NULL)'] or row["(page IS NULL)"] for row in found)


def test_a_kill_at_any_step_of_an_adoption_is_as_if_there_had_been_none(tmp_path: Path) -> None:
    """
    Before each step that lasts (files begun, noted, made durable, transactions begun and committed) a process is killed. What it leaves
    is whole, and the next run, for which the landing zone isn't asked, gives the tables of a run without it; nothing is left over.
    """
    run = subprocess.run(
        [sys.executable, "-m", "ingestion_platform_tests.warehouse.adopting", str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    found = json.loads(run.stdout)
    assert found["wrong"] == []
    assert found["kills"] == found["steps"]
    assert found["adoptions"] >= 1
    assert {"a table's file is noted", "a table's file is written", "a transaction is committed"} <= set(found["met"])


def replaced(dataset: Dataset, columns: Sequence[Column]) -> Dataset:
    """A dataset with other columns."""
    return replace(dataset, columns=tuple(columns))


NAMES = ("amount", "total", "note", "deep", "tip")
VALUES: list[object] = [
    "1.5",
    "x",
    'a "b", c',
    "",
    7,
    2.50,
    None,
    True,
    "12",
    [1, "x"],
    {"in": 1.0, "out": "y"},
    {"in": None},
]
POOL = (
    AMOUNT,
    RENAMED,
    Column("total", VARCHAR, "Another column of its own."),
    NOTE,
    Column("words", VARCHAR, "The note, called otherwise.", source="note"),
    Column("inside", VARCHAR, "A member.", source="deep.in"),
    Column("deep", VARCHAR, "All of it."),
    Column("tip", VARCHAR, "Given.", source="gratuity", aliases=("tip", "note")),
    Column("gift", VARCHAR, "Given.", source="tip", aliases=("gratuity",)),
)

chosen_columns = st.lists(st.sampled_from(POOL), unique_by=lambda column: column.name, max_size=4).map(tuple)
files = st.lists(
    st.fixed_dictionaries({}, optional={name: st.sampled_from(VALUES) for name in (*NAMES, "gratuity")}),
    min_size=1,
    max_size=3,
)
steps: st.SearchStrategy[tuple[str, object, str, list[Record]]] = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(WEEK[:2]), st.sampled_from("ab"), files),
    st.tuples(st.sampled_from(["load", "process"]), st.sampled_from(WEEK[:2]), st.just(""), st.just([])),
    st.tuples(st.just("declare"), chosen_columns, st.just(""), st.just([])),
)


def flat(records_: Sequence[Record], names: Sequence[str]) -> list[Record]:
    """Records that all have the same columns, of one type each, as files with columns do."""
    return [
        {name: None if record.get(name) is None else json.dumps(record[name]) for name in names} for record in records_
    ]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    st.sampled_from(["csv", "jsonl", "parquet"]),
    chosen_columns,
    st.lists(steps, min_size=4, max_size=12),
    chosen_columns,
)
def test_any_history_of_columns_ends_as_a_run_that_had_known_the_last_declaration(
    ending: str,
    first: tuple[Column, ...],
    history: list[tuple[str, object, str, list[Record]]],
    last: tuple[Column, ...],
) -> None:
    """Columns come, go, change their names and are adopted, in any order with loads: the end is that of a rebuild under the last one."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            for _, columns, _, _ in [step for step in history if step[0] == "declare"]:
                sales(ending, *columns)  # type: ignore[misc]
            datasets, end = only(sales(ending, *first)), only(sales(ending, *last))
        except Exception as error:
            if type(error).__name__ != "DeclarationError":
                raise
            # One column's alias is another one's source.
            return
        bench = Bench(Path(folder) / "one", datasets)
        warehouse = bench.warehouse
        for number, (action, of, shop, content) in enumerate(history):
            if action == "put":
                assert isinstance(of, date)
                known = [name for name in (*NAMES, "gratuity") if any(name in record for record in content)]
                rows = content if ending == "jsonl" else flat(content, known)
                whole = [{"id": f"{number}{at}", "at": f"{of} 10:00", **row} for at, row in enumerate(rows)]
                bench.put(key(ending, of, shop), FORMATS[ending][1](whole))
            elif action == "declare":
                warehouse = declared_otherwise(bench, only(sales(ending, *of)), refuses=False)  # type: ignore[misc]
            elif action == "load":
                warehouse.load(warehouse.datasets["sales"], of)  # type: ignore[arg-type]
            else:
                warehouse.process(warehouse.datasets["sales"], of)  # type: ignore[arg-type]
        warehouse = declared_otherwise(bench, end, refuses=False)
        upkeep.catch_up(warehouse)
        assert_same(warehouse, from_the_start(Path(folder) / "two", bench, end))
