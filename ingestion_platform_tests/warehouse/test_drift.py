"""Drift: what changes in the files is told once, from the object that landed first with it, with what adopts it."""

import os
import random
from datetime import date, timedelta
from pathlib import Path

import pytest

from ingestion_platform.table import INTEGER, VARCHAR, Column, Mask
from ingestion_platform.warehouse import DriftEvent, upkeep
from ingestion_platform.warehouse.drift import Sighting, _episodes, declaration, guessed_type
from ingestion_platform_tests.warehouse.building import DAY, Bench
from ingestion_platform_tests.warehouse.drifting import AMOUNT, FORMATS, NOTE, Record, key, only, sales
from ingestion_platform_tests.warehouse.streaming import STREAMED, segment

WEEK = [DAY + timedelta(days=offset) for offset in range(7)]
METHOD = Column("method", VARCHAR, "How it was paid.", one_of=("cash", "card"))
UNITS = Column("units", INTEGER, "How many.")


def put(bench: Bench, ending: str, day: date, shop: str, records: list[Record]) -> None:
    """Land a file, in the order of days and shops, whenever that is done."""
    where = key(ending, day, shop)
    bench.put(where, FORMATS[ending][1](records))
    moment = 1_727_700_000 + (day - DAY).days * 86_400 + ord(shop)
    os.utime(bench.landing_folder / where, (moment, moment))


def record(day: date, shop: str, number: int) -> Record:
    """A note from the third day to the fifth; b renames a column on the fourth, a drops one and retypes one on the sixth."""
    found: dict[str, object] = {"id": f"{shop}{day.day}{number}", "at": f"{day} 10:00"}
    found["tender" if shop == "b" and day >= WEEK[3] else "method"] = ["cash", "card"][number % 2]
    found["units"] = f"{number} pcs" if shop == "a" and day >= WEEK[5] else str(number)
    if not (shop == "a" and day >= WEEK[5]):
        found["amount"] = f"{number}.50"
    if WEEK[2] <= day <= WEEK[4]:
        found["note"] = f"said {number}"
    return found


def drifted(root: Path, ending: str, days: list[date]) -> tuple[Bench, list[DriftEvent]]:
    """A week's events, its days loaded in an order."""
    bench = Bench(root, only(sales(ending, METHOD, UNITS, AMOUNT)))
    for day in WEEK:
        for shop in "ab":
            put(bench, ending, day, shop, [record(day, shop, number) for number in range(4)])
    for day in days:
        bench.load("sales", day)
    upkeep.catch_up(bench.warehouse)
    return bench, bench.warehouse.drift()


@pytest.mark.parametrize("ending", FORMATS)
def test_each_kind_of_drift_is_told_with_its_file_its_moment_and_its_end(tmp_path: Path, ending: str) -> None:
    """New, renamed, missing, retyped: where each began, how many files and rows have it, whether it lasts, and what adopts it."""
    _, events = drifted(tmp_path, ending, WEEK)
    told = {
        (event.kind, event.column, event.now): (
            event.began_object, event.began_on, event.ended_object, event.objects, event.rows, event.senders, event.example,
        )
        for event in events
    }  # fmt: skip
    assert told == {
        ("new", "note", ""): (key(ending, WEEK[2], "a"), WEEK[2], key(ending, WEEK[5], "b"), 6, 24, 2, "said 0"),
        ("renamed", "method", "tender"): (key(ending, WEEK[3], "b"), WEEK[3], None, 4, 16, 1, "cash"),
        ("missing", "amount", ""): (key(ending, WEEK[5], "a"), WEEK[5], None, 2, 8, 1, ""),
        ("retyped", "units", ""): (key(ending, WEEK[5], "a"), WEEK[5], None, 2, 8, 1, "0 pcs"),
    }
    adopt = {event.kind: event.adopt for event in events}
    assert adopt["new"] == 'Column("note", VARCHAR, "…")'
    assert adopt["renamed"] == 'Column("method", …, source="tender", aliases=("method",))'
    assert adopt["retyped"] == 'Column("units", VARCHAR, …)'


def test_what_is_told_depends_on_what_landed_and_not_on_when_it_was_loaded(tmp_path: Path) -> None:
    """Whatever day was loaded first, and after a rebuild, events are the same, in the table too."""
    _, expected = drifted(tmp_path / "0", "csv", WEEK)
    for number in range(1, 4):
        bench, events = drifted(tmp_path / str(number), "csv", random.Random(number).sample(WEEK, len(WEEK)))
        assert events == expected
    upkeep.rebuild(bench.open)
    again = bench.open()
    assert again.drift() == expected
    rows = again.query(
        "select kind, column_name, began_object, objects from platform.drift order by began_at, kind"
    ).to_pylist()
    assert [(row["kind"], row["column_name"]) for row in rows] == [
        (one.kind, one.column) for one in sorted(expected, key=lambda one: (one.began_at, one.kind))
    ]


def test_a_stream_drifts_as_files_do(tmp_path: Path) -> None:
    """A member that nobody declared is told from the first segment that has it."""
    bench = Bench(tmp_path, STREAMED)
    bench.put(*segment(0, 9))
    where, content = segment(
        10, 12, values=[b'{"type": "sale", "id": "x", "units": 1, "at": "2024-10-01T08:00:00Z", "clerk": 12}'] * 3
    )
    bench.put(where, content)
    upkeep.catch_up(bench.warehouse)
    (event,) = bench.warehouse.drift(STREAMED["pos_sales"])
    assert (event.kind, event.column, event.began_object, event.rows) == ("new", "clerk", where, 3)
    assert event.adopt == 'Column("clerk", INTEGER, "…")'


@pytest.mark.parametrize(("ending", "is_told"), [("jsonl", False), ("json", False), ("csv", True)])
def test_a_member_that_few_records_have_is_not_missing_where_few_came(
    tmp_path: Path, ending: str, is_told: bool
) -> None:
    """One in four has a note: that four records have none is chance, and that hundreds have none isn't. A header says it at once."""
    bench = Bench(tmp_path, only(sales(ending, NOTE)))

    def put_day(number: int, count: int, *, has_notes: bool) -> None:
        records: list[dict[str, object]] = [
            {"id": f"{number}-{one}", "at": f"{WEEK[number]} 10:00"} for one in range(count)
        ]
        for one in range(0, count if has_notes else 0, 4):
            records[one]["note"] = "said"
        put(bench, ending, WEEK[number], "a", list(records))
        upkeep.catch_up(bench.warehouse)

    put_day(0, 40, has_notes=True)
    put_day(1, 4, has_notes=False)
    assert [event.kind for event in bench.warehouse.drift()] == ["missing"] * is_told
    put_day(2, 40, has_notes=True)
    ended = [event.ended_object for event in bench.warehouse.drift()]
    assert ended == [key(ending, WEEK[2], "a")] * is_told
    put_day(3, 40, has_notes=False)
    put_day(4, 40, has_notes=False)
    told = bench.warehouse.drift()[-1]
    assert (told.kind, told.column, told.began_object, told.rows) == ("missing", "note", key(ending, WEEK[3], "a"), 80)


def test_an_adopted_column_is_no_drift_any_more(tmp_path: Path) -> None:
    """What is declared now is told neither as new nor as missing before it came."""
    drifted(tmp_path, "csv", WEEK)
    renamed = Column("method", VARCHAR, "How it was paid.", source="tender", aliases=("method",))
    datasets = only(sales("csv", renamed, UNITS, AMOUNT, NOTE))
    other = Bench(tmp_path, datasets)
    upkeep.catch_up(other.warehouse)
    assert {(event.kind, event.column) for event in other.warehouse.drift()} == {
        ("missing", "amount"), ("retyped", "units"), ("missing", "note"),
    }  # fmt: skip


def test_values_of_a_dataset_with_personal_columns_are_not_shown(tmp_path: Path) -> None:
    """A column that nobody has declared may be personal, too."""
    bench = Bench(tmp_path, only(sales("csv", Column("card", VARCHAR, "Whose.", pii=Mask.HASH))))
    put(bench, "csv", DAY, "a", [{"id": "1", "at": f"{DAY} 10:00", "card": "4", "mobile": "0821234567"}])
    bench.load("sales")
    (event,) = bench.warehouse.drift()
    assert (event.column, event.example) == ("mobile", "")
    assert "0821234567" not in event.told()


def test_another_column_in_place_of_a_missing_one_is_no_rename(tmp_path: Path) -> None:
    """Its values aren't like those that were: it is new, and the other one is missing."""
    bench = Bench(tmp_path, only(sales("csv", METHOD)))
    put(bench, "csv", WEEK[0], "a", [{"id": "1", "at": f"{WEEK[0]} 10:00", "method": "cash"}])
    put(bench, "csv", WEEK[1], "a", [{"id": "2", "at": f"{WEEK[1]} 10:00", "comment": "was late"}])
    upkeep.catch_up(bench.warehouse)
    assert {(event.kind, event.column) for event in bench.warehouse.drift()} == {
        ("new", "comment"),
        ("missing", "method"),
    }


def test_what_was_rejected_for_a_new_column_is_told_too(tmp_path: Path) -> None:
    """With `fail` the object is rejected, and the event names it."""
    bench = Bench(tmp_path, only(sales("csv", unknown="fail")))
    put(bench, "csv", DAY, "a", [{"id": "1", "at": f"{DAY} 10:00", "extra": "1"}])
    bench.load("sales")
    (event,) = bench.warehouse.drift()
    assert (event.kind, event.column, event.began_object) == ("new", "extra", key("csv", DAY, "a"))


def test_an_event_ends_with_the_last_of_its_senders_and_another_begins_after_that() -> None:
    """Two senders have it; one goes back, then the other: that is the end. What comes later is another event."""

    def sight(number: int, sender: str, *unknown: str) -> Sighting:
        nothing: frozenset[str] = frozenset()
        return Sighting(f"{number}", "2024-10-01", f"{number:02}", sender, 1, frozenset(unknown), nothing, nothing)

    found = _episodes(
        [sight(1, "a", "x"), sight(2, "b", "x"), sight(3, "a"), sight(4, "c"), sight(5, "b"), sight(6, "a", "x")]
    )
    assert [(one.first.key, one.end.key if one.end else None, one.objects) for one in found] == [
        ("1", "5", 2),
        ("6", None, 1),
    ]


def test_a_line_that_adopts_a_column_can_be_pasted_into_a_declaration() -> None:
    """Its name is one that a column may have, its type that of the values."""
    assert (
        declaration("Betrag (EUR)", ["1.5", "20"]) == 'Column("betrag_eur", decimal(12, 1), "…", source="Betrag (EUR)")'
    )
    assert declaration("tillNumber", ["7"]) == 'Column("till_number", INTEGER, "…", source="tillNumber")'
    assert declaration("1st", []) == 'Column("column_1st", VARCHAR, "…", source="1st")'
    assert guessed_type(["0821234567"]) == "VARCHAR"
    assert guessed_type(["2024-10-01"]) == "DATE"
    assert guessed_type(["2024-10-01T10:00:00Z"]) == "TIMESTAMP"
    assert guessed_type(["12345678901"]) == "BIGINT"
    assert guessed_type(["true", "FALSE"]) == "BOOLEAN"
