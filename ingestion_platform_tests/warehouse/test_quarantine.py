"""The quarantine and its ways out: what is chosen, what a decision changes and what it doesn't, twice, and after a rebuild."""

import csv
import dataclasses
import gzip
import itertools
import json
import tempfile
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion_platform.dataset import Dataset, Datasets
from ingestion_platform.decisions import Decision
from ingestion_platform.errors import IngestionError, LandingError, NotMaterialized, WarehouseError
from ingestion_platform.table import INTEGER, VARCHAR, Column
from ingestion_platform.warehouse import quarantine, upkeep
from ingestion_platform.warehouse.discards import ObjectRows, rows_of, runs_of
from ingestion_platform.warehouse.quarantine import Chosen
from ingestion_platform_tests.warehouse.building import DAY, HEADER, SHOPS, TILLS, Bench, differences, line

NEXT = DAY + timedelta(days=1)
WHO: dict[str, Any] = {"by": "Thandi", "why": "a till that was being tested"}
UNITS = "units: above maximum"
UNREADABLE = "record: can't be read"
A, B = f"tills/{DAY}/a.csv", f"tills/{DAY}/b.csv"

REPORT = """/*
description = "Units by shop."
primary_key = ["shop"]
[columns]
shop = "Where."
units = "How many."
*/
select shop, sum(units)::bigint as units from processed.tills where "at" >= $window_start and "at" < $window_end group by shop
"""


def mended(**changes: object) -> Datasets:
    """The business with `units` up to 99."""
    columns = tuple(
        dataclasses.replace(column, maximum=99) if column.name == "units" else column for column in TILLS.columns
    )
    return Datasets([SHOPS, dataclasses.replace(TILLS, columns=columns, **changes)])  # type: ignore[arg-type]


def bench(root: Path, datasets: Datasets | None = None) -> Bench:
    """A warehouse with a report of tills."""
    folder = root / "sql" / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "by_shop.sql").write_text(REPORT)
    return Bench(root, datasets or Datasets([SHOPS, TILLS]), sql=root / "sql")


def land(one: Bench) -> None:
    """Two days: good rows, rows of too many units, one of an unknown shop, one that can't be read."""
    one.put_shops()
    one.put(A, HEADER + line("1") + line("2", units="50") + "cut,short\n" + line("3"))
    one.put(B, HEADER + line("4", shop="b") + line("5", shop="nowhere") + line("6", shop="b", units="70"))
    one.put(
        f"tills/{NEXT}/a.csv",
        HEADER + line("7", at=f"{NEXT} 10:00:00", units="x") + line("8", at="2024-10-01 09:00:00", units="12"),
    )


def caught_up(root: Path, datasets: Datasets | None = None) -> Bench:
    """All of it, loaded and computed."""
    one = bench(root, datasets)
    land(one)
    upkeep.catch_up(one.warehouse)
    return one


def opened(one: Bench, state: quarantine.State = "open") -> list[tuple[str, int]]:
    """Object and number of the rows in that state."""
    found = quarantine.rows(one.warehouse, Chosen(dataset="tills", state=state)).to_pylist()
    return sorted((row["_object"], row["_row"]) for row in found)


def balance(one: Bench, day: date = DAY) -> str:
    """A day's, in words."""
    found = one.warehouse.table_day("processed.tills", day)
    assert found is not None
    assert found.balance is not None
    assert found.balance.holds
    return str(found.balance)


def test_rows_are_counted_by_rule_sender_and_day(tmp_path: Path) -> None:
    """Rows that couldn't be read are counted with those that break rules; each under the sender of its object."""
    one = caught_up(tmp_path)
    by = {
        kind: dict(quarantine.count(one.warehouse, Chosen(dataset="tills"), kind)) for kind in ("rule", "sender", "day")
    }
    assert by["rule"] == {UNITS: 3, "shop: not in shops.shop": 1, "units: not INTEGER": 1, UNREADABLE: 1}
    assert by["sender"] == {"a": 4, "b": 2}
    assert by["day"] == {str(DAY): 5, str(NEXT): 1}
    assert quarantine.total(one.warehouse, Chosen()) == 6


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (Chosen(rules=(UNITS,)), [(A, 2), (B, 3), (f"tills/{NEXT}/a.csv", 2)]),
        (Chosen(rules=(UNITS, UNREADABLE)), [(A, 2), (A, 3), (B, 3), (f"tills/{NEXT}/a.csv", 2)]),
        (Chosen(rules=("units",)), []),
        (Chosen(reason="NOWHERE"), [(B, 2)]),
        (Chosen(reason="%"), []),
        (Chosen(sender="b"), [(B, 2), (B, 3)]),
        (Chosen(sender="b' or true --"), []),
        (Chosen(first=NEXT), [(f"tills/{NEXT}/a.csv", 1)]),
        (Chosen(last=DAY, rules=(UNITS,)), [(A, 2), (B, 3), (f"tills/{NEXT}/a.csv", 2)]),
        (Chosen(objects=(A,)), [(A, 2), (A, 3)]),
        (Chosen(objects=(A,), rows=(3, 4)), [(A, 3)]),
    ],
)
def test_rows_are_chosen_by_all_conditions_at_once(
    tmp_path: Path, chosen: Chosen, expected: list[tuple[str, int]]
) -> None:
    """Exactly those of the rule, the text, the sender, the days, the object, the number; a quote in one of them is a text."""
    one = caught_up(tmp_path)
    found = quarantine.rows(one.warehouse, dataclasses.replace(chosen, dataset="tills")).to_pylist()
    assert sorted((row["_object"], row["_row"]) for row in found) == sorted(expected)


def test_a_discarded_row_stays_and_counts_no_more(tmp_path: Path) -> None:
    """It has who, when and why; the balance holds and shows it; the share and the reasons leave it out; nothing else changes."""
    one = caught_up(tmp_path)
    before = one.export()
    done = quarantine.discard(one.warehouse, Chosen(dataset="tills", rules=(UNITS,)), **WHO)
    assert (done.rows, done.objects, done.already) == (3, 3, 0)
    assert opened(one) == [(A, 3), (B, 2), (f"tills/{NEXT}/a.csv", 1)]
    assert balance(one) == "8 read = 3 processed + 0 duplicates + 5 quarantined (2 open, 3 discarded)"
    day = one.warehouse.table_day("processed.tills", DAY)
    assert day is not None
    assert day.reasons == {"shop: not in shops.shop": 1}
    found = one.rows("platform.quarantine", "_object", "_row", "discarded_by", "discarded_why")
    assert (A, 2, "Thandi", "a till that was being tested") in found
    assert (A, 3, None, None) in found
    after = one.export()
    assert [told.split(":")[0] for told in differences(before, after)] == ["platform.quarantine"]


def test_discarding_twice_changes_nothing(tmp_path: Path) -> None:
    """The second one says that it is so already, and lands nothing; who did it first did it."""
    one = caught_up(tmp_path)
    chosen = Chosen(dataset="tills", rules=(UNITS,))
    quarantine.discard(one.warehouse, chosen, **WHO)
    before, landed = one.export(), sorted(one.landing_folder.rglob("*.json"))
    done = quarantine.discard(one.warehouse, chosen, by="Mandla", why="me too")
    assert (done.rows, done.already, done.keys) == (0, 3, ())
    assert list(differences(before, one.export())) == []
    assert sorted(one.landing_folder.rglob("*.json")) == landed


def test_two_decisions_about_one_row_are_one(tmp_path: Path) -> None:
    """Two people who decide at the same time have discarded each row once, and it stands in the table once."""
    one = caught_up(tmp_path)
    named = quarantine._named(one.warehouse, Chosen(dataset="tills"))
    for second, who in enumerate(("Thandi", "Mandla")):
        at = datetime(2024, 10, 3, 8, 0, second, tzinfo=UTC)
        what = {"objects": [found.written() for found in named[second:]]}
        one.warehouse.decisions.put(Decision("discard", "tills", at, who, "at once", what))
    upkeep.catch_up(one.warehouse)
    assert opened(one) == []
    rows = one.rows("platform.quarantine", "_object", "_row", "discarded_by")
    assert len(rows) == len(set(rows)) == 6
    assert {row[2] for row in rows} == {"Thandi"}


def test_a_discard_survives_a_rebuild(tmp_path: Path) -> None:
    """The warehouse that is made anew from the landing zone has the same tables, the discards and the history among them."""
    one = caught_up(tmp_path)
    quarantine.discard(one.warehouse, Chosen(dataset="tills", sender="b"), **WHO)
    quarantine.discard(one.warehouse, Chosen(dataset="tills", objects=(A,)), by="Mandla", why="cut")
    quarantine.reopen(one.warehouse, Chosen(dataset="tills", objects=(A,), rows=(3,)), by="Thandi", why="look again")
    before = one.export()
    told = [(row.kind, row.by, row.rows) for row in quarantine.history(one.warehouse, TILLS)]
    one.warehouse.close()
    upkeep.rebuild(one.open)
    assert list(differences(before, one.export())) == []
    assert [(row.kind, row.by, row.rows) for row in quarantine.history(one.open(), TILLS)] == told
    assert told == [("discard", "Thandi", 2), ("discard", "Mandla", 2), ("reopen", "Thandi", 1)]


def test_a_file_that_is_sent_anew_is_not_discarded_with_the_former_one(tmp_path: Path) -> None:
    """A discard is about the bytes that a person saw: the same rows of another version are open again."""
    one = caught_up(tmp_path)
    quarantine.discard(one.warehouse, Chosen(dataset="tills", objects=(B,)), **WHO)
    one.put(B, HEADER + line("4", shop="b") + line("5", shop="nowhere") + line("6", shop="b", units="71"))
    upkeep.catch_up(one.warehouse)
    assert (B, 2) in opened(one)
    assert (B, 3) in opened(one)
    assert opened(one, "discarded") == []


def test_a_discard_follows_its_content_to_the_object_that_stands_for_it(tmp_path: Path) -> None:
    """When the same bytes come under a name that goes first, the rows stand under that one, and stay discarded; also after a rebuild."""
    one = bench(tmp_path)
    one.put_shops()
    content = HEADER + line("1") + line("2", units="50")
    one.put(f"tills/{DAY}/a.csv.gz", gzip.compress(b""))
    one.put(f"tills/{NEXT}/a.csv", content)
    upkeep.catch_up(one.warehouse)
    quarantine.discard(one.warehouse, Chosen(dataset="tills", rules=(UNITS,)), **WHO)
    one.put(A, content)
    upkeep.catch_up(one.warehouse)
    upkeep.catch_up(one.warehouse)
    assert opened(one, "discarded") == [(A, 2)]
    before = one.export()
    one.warehouse.close()
    upkeep.rebuild(one.open)
    assert list(differences(before, one.export())) == []


def test_a_discarded_row_stays_discarded_when_the_declaration_would_take_it(tmp_path: Path) -> None:
    """A person has said so: it is in quarantine with its own reason, the others of its rule go into the table, and the balance holds."""
    one = caught_up(tmp_path)
    quarantine.discard(one.warehouse, Chosen(dataset="tills", objects=(A,), rules=(UNITS,)), **WHO)
    two = bench(tmp_path, mended())
    upkeep.catch_up(two.warehouse)
    assert [row[0] for row in two.rows("processed.tills", "id")] == ["1", "3", "4", "6", "8"]
    (row,) = quarantine.rows(two.warehouse, Chosen(dataset="tills", state="discarded")).to_pylist()
    assert (row["_object"], row["_row"], row["rules"]) == (A, 2, ["discarded"])
    assert row["discarded_by"] == "Thandi"
    assert balance(two) == "8 read = 5 processed + 0 duplicates + 3 quarantined (2 open, 1 discarded)"
    done = quarantine.reopen(two.warehouse, Chosen(dataset="tills"), by="Thandi", why="it was right after all")
    assert done.rows == 1
    assert done.behind == (("reports.by_shop", DAY),)
    assert [row[0] for row in two.rows("processed.tills", "id")] == ["1", "2", "3", "4", "6", "8"]
    clean = caught_up(tmp_path / "clean", mended())
    for table in ("processed.tills", "reports.by_shop"):
        assert two.rows(table) == clean.rows(table)


def test_a_discard_lapses_when_the_file_is_taken_apart_otherwise(tmp_path: Path) -> None:
    """With another number of records in it, row 2 may be another record: nothing good is discarded by a number."""
    one = caught_up(tmp_path)
    quarantine.discard(one.warehouse, Chosen(dataset="tills", objects=(B,)), **WHO)
    source = dataclasses.replace(TILLS.source, format=dataclasses.replace(TILLS.source.format, footer=1))  # type: ignore[arg-type]
    two = bench(tmp_path, Datasets([SHOPS, dataclasses.replace(TILLS, source=source)]))
    upkeep.catch_up(two.warehouse)
    assert (B, 2) in opened(two)
    assert opened(two, "discarded") == []


def test_a_redrive_releases_what_the_declaration_takes_by_now(tmp_path: Path) -> None:
    """It says how many went into the table, how many remain and why; other rows and tables are as a run that knew it from the start."""
    caught_up(tmp_path).warehouse.close()
    two = bench(tmp_path, mended())
    two.load("shops")
    two.process("shops")
    done = quarantine.redrive(two.warehouse, Chosen(dataset="tills", last=DAY), **WHO)
    assert str(done.outcome) == "of 5 rows 3 are in the table now, 2 are still in quarantine"
    assert done.outcome.why == {"shop: not in shops.shop": 1, UNREADABLE: 1}
    assert done.has_changed
    assert done.replayed is not None
    assert sorted(done.replayed.read) == [A, B, f"tills/{NEXT}/a.csv"]
    assert ("reports.by_shop", DAY) in done.replayed.changed
    clean = caught_up(tmp_path / "clean", mended())
    upkeep.catch_up(two.warehouse)
    assert list(differences(clean.export(), two.export())) == []


def test_redriving_twice_changes_nothing(tmp_path: Path) -> None:
    """The second one finds what remains, reads it again, and says that nothing is different; every table is as it was."""
    caught_up(tmp_path).warehouse.close()
    two = bench(tmp_path, mended())
    upkeep.catch_up(two.warehouse)
    chosen = Chosen(dataset="tills", last=DAY)
    quarantine.redrive(two.warehouse, chosen, **WHO)
    before = two.export()
    done = quarantine.redrive(two.warehouse, chosen, **WHO)
    assert not done.has_changed
    assert done.replayed is not None
    assert done.replayed.changed == []
    assert (done.outcome.chosen, done.outcome.released, done.outcome.remaining) == (2, 0, 2)
    assert list(differences(before, two.export())) == []
    nothing = quarantine.redrive(two.warehouse, Chosen(dataset="tills", rules=("no such rule",)), **WHO)
    assert nothing.replayed is None
    assert nothing.keys == ()
    assert [row.kind for row in quarantine.history(two.warehouse, TILLS)] == ["redrive", "redrive"]


def test_a_redrive_without_a_mended_declaration_says_so(tmp_path: Path) -> None:
    """Everything remains, with its reasons, and nothing has changed."""
    one = caught_up(tmp_path)
    before = one.export()
    done = quarantine.redrive(one.warehouse, Chosen(dataset="tills", objects=(A,)), **WHO)
    assert (done.outcome.chosen, done.outcome.remaining, done.has_changed) == (2, 2, False)
    assert any(f"{A}:2 units: '50' is above 9" in example for example in done.outcome.examples)
    assert list(differences(before, one.export())) == []


def test_a_redrive_leaves_discarded_rows_alone(tmp_path: Path) -> None:
    """What a person discarded isn't chosen, and isn't released with the others."""
    one = caught_up(tmp_path)
    quarantine.discard(one.warehouse, Chosen(dataset="tills", objects=(A,), rules=(UNITS,)), **WHO)
    two = bench(tmp_path, mended())
    done = quarantine.redrive(two.warehouse, Chosen(dataset="tills", rules=(UNITS,)), **WHO)
    assert (done.outcome.chosen, done.outcome.released) == (2, 2)
    assert opened(two, "discarded") == [(A, 2)]


def test_a_redrive_of_an_object_that_is_gone_keeps_its_rows_and_says_so(tmp_path: Path) -> None:
    """Somebody has deleted it from the landing zone: nobody loses rows by asking."""
    one = caught_up(tmp_path)
    (one.landing_folder / B).unlink()
    before = one.export()
    told: list[str] = []
    done = quarantine.redrive(one.warehouse, Chosen(dataset="tills", objects=(B,)), **WHO, tell=told.append)
    assert done.replayed is not None
    assert done.replayed.missing == [B]
    assert any("aren't in the landing zone any more" in text for text in told)
    assert list(differences(before, one.export())) == []


def test_a_decision_brings_stale_days_up_to_date_first(tmp_path: Path) -> None:
    """A file was sent anew and isn't processed yet: the quarantine still names its former rows, and those aren't what is discarded."""
    one = caught_up(tmp_path)
    one.put(B, HEADER + line("6", shop="b", units="70") + line("4", shop="b") + line("5", shop="b"))
    one.load("tills")
    done = quarantine.discard(one.warehouse, Chosen(dataset="tills", objects=(B,)), **WHO)
    assert done.rows == 1
    assert opened(one, "discarded") == [(B, 1)]
    assert {row[0] for row in one.rows("processed.tills", "id")} >= {"4", "5"}


@pytest.mark.parametrize(
    ("decide", "chosen", "who", "error"),
    [
        (quarantine.discard, Chosen(rules=(UNITS,)), WHO, WarehouseError),
        (quarantine.discard, Chosen(dataset="nothing"), WHO, NotMaterialized),
        (quarantine.discard, Chosen(dataset="tills"), {"by": "", "why": "x"}, LandingError),
        (quarantine.redrive, Chosen(dataset="tills"), {"by": "x", "why": "  "}, LandingError),
        (quarantine.redrive, Chosen(), WHO, WarehouseError),
        (quarantine.reopen, Chosen(dataset="tills"), {"by": "a\nb", "why": "x"}, LandingError),
    ],
)
def test_a_decision_needs_a_dataset_a_name_and_a_reason(
    tmp_path: Path, decide: Callable[..., object], chosen: Chosen, who: dict[str, str], error: type[IngestionError]
) -> None:
    """Without one of them it is refused, and nothing lands."""
    one = caught_up(tmp_path)
    with pytest.raises(error):
        decide(one.warehouse, chosen, **who)
    assert not (one.landing_folder / "decisions").exists()


def test_a_broken_decision_is_told_and_the_others_hold(tmp_path: Path) -> None:
    """One that was cut counts for nothing, says so at every look, and stops neither a load nor the other decisions."""
    one = caught_up(tmp_path)
    quarantine.discard(one.warehouse, Chosen(dataset="tills", sender="b"), **WHO)
    done = quarantine.discard(one.warehouse, Chosen(dataset="tills", sender="a"), **WHO)
    path = one.landing_folder / done.keys[0]
    path.write_bytes(path.read_bytes()[:-9])
    forged = Decision("discard", "tills", datetime(2024, 10, 3, tzinfo=UTC), "x", "y", {"objects": [{"object": 5}]})
    one.put(forged.key, forged.content)
    one.warehouse.close()
    upkeep.rebuild(one.open)
    again = one.open()
    assert [broken.key for broken in again.discards.broken("tills")] == sorted([done.keys[0], forged.key])
    assert opened(dataclasses.replace(one), "discarded") == [(B, 2), (B, 3)]


@pytest.mark.parametrize(
    "what",
    [
        {},
        {"objects": 5},
        {"objects": [{"object": "k", "sha256": "s", "day": "2024-10-01", "records": 3, "rows": [[2, 1]]}]},
        {"objects": [{"object": "k", "sha256": "s", "day": "2024-10-01", "records": 3, "rows": [[1, 5], [5, 6]]}]},
        {"objects": [{"object": "k", "sha256": "s", "day": "2024-10-01", "records": -1, "rows": [[1, 1]]}]},
        {"objects": [{"object": "k", "sha256": "s", "day": "2024-10-01", "records": 3, "rows": [[1, 10**400]]}]},
        {"objects": [{"object": "k", "sha256": "s", "day": "2024-10-01", "records": 3, "rows": [[True, 2]]}]},
        {"objects": [{"object": "k", "sha256": "s", "day": "once", "records": 3, "rows": []}]},
        {"objects": [{"object": "k", "sha256": None, "day": "2024-10-01", "records": 3, "rows": []}]},
        {"objects": ["k"]},
    ],
)
def test_details_that_name_no_rows_are_refused(what: dict[str, object]) -> None:
    """Whatever they are, they are told with the decision's key."""
    decision = Decision("discard", "tills", datetime(2024, 10, 3, tzinfo=UTC), "x", "y", what)
    with pytest.raises(LandingError, match=r"decisions/discard/tills/.* doesn't say which rows"):
        rows_of(decision)


@given(st.sets(st.integers(0, 60)))
def test_runs_hold_exactly_the_rows_they_were_made_of(numbers: set[int]) -> None:
    """In order, apart from each other, and as few as there can be."""
    runs = runs_of(numbers)
    assert {row for first, last in runs for row in range(first, last + 1)} == numbers
    assert all(left[1] + 1 < right[0] for left, right in itertools.pairwise(runs))
    assert ObjectRows("k", "s", DAY, None, runs).count == len(numbers)


@settings(max_examples=15)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12), st.integers(0, 4)), max_size=12))
def test_the_last_decision_about_a_row_counts(steps: list[tuple[bool, int, int]]) -> None:
    """Whatever was discarded and reopened in whatever runs: row by row it is as the last word said, and who began it has done it."""
    with tempfile.TemporaryDirectory() as folder:
        one = Bench(Path(folder))
        one.put_shops()
        one.put(A, HEADER + "".join(line(str(number)) for number in range(20)))
        one.load("tills")
        (entry,) = one.warehouse.raw_day(TILLS, DAY).entries
        expected: dict[int, str] = {}
        for number, (is_discard, first, more) in enumerate(steps):
            at = datetime(2024, 10, 3, 8, 0, number, tzinfo=UTC)
            named = ObjectRows(A, entry.sha256, DAY, 20, ((first, first + more),))
            kind = "discard" if is_discard else "reopen"
            one.warehouse.decisions.put(Decision(kind, "tills", at, f"p{number}", "x", {"objects": [named.written()]}))
            for row in range(first, first + more + 1):
                if is_discard:
                    expected.setdefault(row, f"p{number}")
                else:
                    expected.pop(row, None)
        one.warehouse.take_in(TILLS)
        found = one.warehouse.discards.effective("tills")
        rows = [(row, run.by) for run in found for row in range(run.first_row, run.last_row + 1)]
        assert len(rows) == len({row for row, _ in rows})
        assert dict(rows) == expected
        one.warehouse.close()


HOSTILE = ["=1+1", "@SUM(A1)", "-2+3", "+1", "\tx", 'a"b', "a,b", "x\x1b[31m", "é", "'q"]


def _hostile(root: Path) -> Bench:
    dataset = Dataset(
        name="notes", description="x", kind="snapshots", source=SHOPS.source, daily=SHOPS.daily,
        columns=(Column("note", VARCHAR, "x"), Column("number", INTEGER, "x")),
    )  # fmt: skip
    one = Bench(root, Datasets([dataset]))
    text = "note,number\n" + "".join(
        f'"{note.replace(chr(34), chr(34) * 2)}",{note[:1]}z\n' for note in HOSTILE if note[0] != "a"
    )
    one.put(f"shops/{DAY}.csv", text)
    upkeep.catch_up(one.warehouse)
    return one


def test_an_export_is_safe_and_says_the_same_in_every_format(tmp_path: Path) -> None:
    """No cell of the CSV begins a formula, the rows are the same in all three, and nobody but the owner can read them."""
    one = _hostile(tmp_path)
    counts = {
        kind: quarantine.export(one.warehouse, Chosen(), tmp_path / f"rows.{kind}", kind)
        for kind in ("csv", "parquet", "jsonl")
    }
    assert set(counts.values()) == {8}
    with (tmp_path / "rows.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert all(not value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for row in cells for value in row.values())
    lines = [json.loads(text) for text in (tmp_path / "rows.jsonl").read_text().splitlines()]
    parquet = duckdb.execute(f"select record from '{tmp_path}/rows.parquet'").fetchall()
    assert [row["record"] for row in lines] == [record for (record,) in parquet] == [row["record"] for row in cells]
    assert all((tmp_path / f"rows.{kind}").stat().st_mode & 0o077 == 0 for kind in counts)
    with pytest.raises(WarehouseError, match="can't be written"):
        quarantine.export(one.warehouse, Chosen(), tmp_path / "nowhere" / "rows.csv", "csv")


def test_a_discarded_row_whose_column_is_adopted_stays_discarded(tmp_path: Path) -> None:
    """Its record is another text then, and raw another file: the decision names the object's bytes and the row, and so does a rebuild."""
    one = bench(tmp_path)
    one.put_shops()
    wide = HEADER.replace("card\n", "card,till\n")
    one.put(
        A,
        wide + "".join(row.replace("\n", ",7\n") for row in (line("1"), line("2", units="50"), line("3", units="60"))),
    )
    upkeep.catch_up(one.warehouse)
    quarantine.discard(one.warehouse, Chosen(dataset="tills", objects=(A,), rows=(2,)), **WHO)
    records = "select _row, record, discarded_by from platform.quarantine order by _row"
    before = one.warehouse.query(records).to_pylist()
    former = {file.path for file in one.warehouse.ledger.files("raw.tills")}
    one.warehouse.close()
    adopted = dataclasses.replace(TILLS, columns=(*TILLS.columns, Column("till", INTEGER, "Which.")))
    later = bench(tmp_path, Datasets([SHOPS, adopted]))
    upkeep.catch_up(later.warehouse)
    after = later.warehouse.query(records).to_pylist()
    assert [json.loads(row["record"]).get("till") for row in after] == ["7", "7"]
    assert [row["record"] for row in after] != [row["record"] for row in before]
    assert [row["discarded_by"] for row in after] == [row["discarded_by"] for row in before] == ["Thandi", None]
    assert opened(later) == [(A, 3)]
    assert balance(later) == "3 read = 1 processed + 0 duplicates + 2 quarantined (1 open, 1 discarded)"
    assert {file.path for file in later.warehouse.ledger.files("raw.tills")}.isdisjoint(former)
    export = later.export()
    later.warehouse.close()
    upkeep.rebuild(later.open)
    later.warehouse = later.open()
    assert list(differences(export, later.export())) == []
