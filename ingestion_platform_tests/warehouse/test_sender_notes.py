"""A sender's note: what it says, what it doesn't, and to whom it is said once."""

import csv
import io
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingestion_platform.dataset import Datasets
from ingestion_platform.orchestration.notices import Notice
from ingestion_platform.orchestration.senders import tell_notes
from ingestion_platform.warehouse import quarantine
from ingestion_platform.warehouse.quarantine import Chosen
from ingestion_platform.warehouse.sender_notes import COLUMNS, note_for, notes_for
from ingestion_platform_tests.warehouse.building import DAY, HEADER, SHOPS, TILLS, Bench, line

NEXT = DAY + timedelta(days=1)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Shop a sent bad rows and an unreadable file, b everything in order, c nothing."""
    bench = Bench(tmp_path, Datasets([SHOPS, TILLS]), clock=lambda: datetime(2024, 10, 4, tzinfo=UTC))
    bench.put_shops("a", "b", "c")
    bench.load("shops")
    bench.process("shops")
    bench.put(
        f"tills/{DAY}/a.csv",
        HEADER.replace("card\n", "card,tip\n")
        + "".join(
            row.replace("\n", ",1\n")
            for row in (line("1"), line("2", units="many", card="4111"), line("3", units="99"))
        )
        + "only one cell\n",
    )
    bench.put(f"tills/{NEXT}/a.csv", "=cmd()")
    for day in (DAY, NEXT):
        bench.put(f"tills/{day}/b.csv", HEADER + line(f"b{day}", "b", f"{day} 10:00:00"))
    for path in (bench.landing_folder / "tills").rglob("*.csv"):
        os.utime(path, (datetime(2024, 10, 1, 20, tzinfo=UTC).timestamp(),) * 2)
    for day in (DAY, NEXT):
        bench.load(day=day)
        bench.process(day=day)
    return bench


def test_a_note_says_what_needs_attention(bench: Bench) -> None:
    """Files that can't be read, columns that weren't agreed, rows that were set aside, each with its reason and number."""
    note = note_for(bench.warehouse, "a", DAY, NEXT)
    assert note.title == "a, 2024-10-01 to 2024-10-02: 2 files need attention"
    assert {(one.problem, one.day, one.row) for one in note.lines} == {
        ("unreadable", NEXT, None),
        ("columns", DAY, None),
        ("quarantined", DAY, 2),
        ("quarantined", DAY, 3),
        ("quarantined", DAY, 4),
    }
    assert "not agreed: tip" in note.text
    assert "units" in note.text
    assert "many" in note.text
    assert note_for(bench.warehouse, "b", DAY, NEXT).text == "b, 2024-10-01 to 2024-10-02: all is in order\n"
    assert [one.problem for one in note_for(bench.warehouse, "c", DAY, NEXT).lines] == ["missing", "missing"]


def test_a_note_has_nothing_personal_and_nothing_of_others(bench: Bench) -> None:
    """Card numbers are left out, in records, reasons and rows that couldn't be read; other shops' files aren't in it."""
    for note in notes_for(bench.warehouse, DAY, NEXT):
        told = note.text + note.csv
        assert "4111" not in told
        assert "only one cell" not in told
        assert all(f"/{other}.csv" not in told for other in {"a", "b", "c"} - {note.sender})


def test_a_note_as_csv_has_a_line_for_each_thing_and_no_formulas(bench: Bench) -> None:
    """As a program reads it; a cell that a spreadsheet would run is text."""
    note = note_for(bench.warehouse, "a", DAY, NEXT)
    rows = list(csv.reader(io.StringIO(note.csv)))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 1 + len(note.lines)
    assert not any(cell[:1] in ("=", "+", "@") for row in rows for cell in row)


def test_discarded_rows_are_left_out(bench: Bench) -> None:
    """A person has decided that nobody need look at them; taken back, they are told again."""
    chosen = Chosen(dataset="tills", rules=("units: above maximum",))
    quarantine.discard(bench.warehouse, chosen, by="Thandi", why="a till that was tested")
    note = note_for(bench.warehouse, "a", DAY, NEXT)
    assert {one.row for one in note.lines if one.problem == "quarantined"} == {2, 4}
    quarantine.discard(bench.warehouse, Chosen(dataset="tills"), by="Thandi", why="all of it")
    assert "quarantined" not in {one.problem for one in note_for(bench.warehouse, "a", DAY, NEXT).lines}
    quarantine.reopen(bench.warehouse, chosen, by="Thandi", why="it was no test")
    note = note_for(bench.warehouse, "a", DAY, NEXT)
    assert {one.row for one in note.lines if one.problem == "quarantined"} == {3}


def test_columns_are_told_as_drift_is(tmp_path: Path) -> None:
    """What came new, what went, what has another name; not what he never sent, and nothing of another sender's files."""
    bench = Bench(tmp_path, Datasets([SHOPS, TILLS]), clock=lambda: datetime(2024, 10, 4, tzinfo=UTC))
    bench.put_shops("a", "b")
    bench.load("shops")
    bench.process("shops")
    days = [DAY + timedelta(days=number) for number in range(3)]
    for number, day in enumerate(days):
        moment = f"{day} 10:00:00"
        a = HEADER + "".join(line(f"a{number}{one}", "a", moment, price=f"{one}.50") for one in range(4))
        # The card was never sent by b; from the second day on the price is called otherwise, on the third it has a tip.
        b = "".join(f"b{number}{one},b,{moment},1,{one}.50" + (",2" if number == 2 else "") + "\n" for one in range(4))
        header = "id,shop,at,units," + ("price" if number else "price_zar") + (",tip" if number == 2 else "") + "\n"
        for name, content in (("a", a), ("b", header + b)):
            bench.put(f"tills/{day}/{name}.csv", content)
            landed = datetime(2024, 10, 1 + number, 20, tzinfo=UTC).timestamp()
            os.utime(bench.landing_folder / f"tills/{day}/{name}.csv", (landed, landed))
        bench.load(day=day)
        bench.process(day=day)
    notes = {one.sender: one for one in notes_for(bench.warehouse, days[0], days[-1])}
    told = {line.day: line.why for line in notes["b"].lines if line.problem == "columns"}
    assert told == {
        days[1]: "agreed as price_zar, and most likely called price",
        days[2]: "not agreed: tip; agreed as price_zar, and most likely called price",
    }
    assert "a" not in notes
    assert note_for(bench.warehouse, "b", days[0], days[-1]) == notes["b"]


class Post:
    """Takes what is told."""

    def __init__(self) -> None:
        self.told: list[Notice] = []

    def send(self, notice: Notice) -> None:
        """Keep it."""
        self.told.append(notice)


def test_nobody_is_told_the_same_thing_twice(bench: Bench) -> None:
    """One note a sender; another one when there is something new, and after a delivery that failed."""
    post = Post()

    class Broken(Post):
        def send(self, notice: Notice) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tell_notes(bench.warehouse, notes_for(bench.warehouse, DAY, NEXT), [Broken()], "run")
    assert tell_notes(bench.warehouse, notes_for(bench.warehouse, DAY, NEXT), [post], "run") == ["a", "c"]
    assert tell_notes(bench.warehouse, notes_for(bench.warehouse, DAY, NEXT), [post], "run") == []
    assert tell_notes(bench.warehouse, notes_for(bench.warehouse, NEXT, NEXT), [post], "run") == []
    bench.put(f"tills/{NEXT}/b.csv", "no till line")
    bench.load(day=NEXT)
    assert tell_notes(bench.warehouse, notes_for(bench.warehouse, DAY, NEXT), [post], "run") == ["b"]
    assert [(one.kind, one.sender) for one in post.told] == [("sender_note", name) for name in ("a", "c", "b")]
    assert b"sender_note" in post.told[0].as_json()
