"""A sender's note: what it says, what it doesn't, and to whom it is said once."""

import csv
import io
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingestion_platform.dataset import Datasets
from ingestion_platform.orchestration.alerts import Alert
from ingestion_platform.orchestration.senders import tell_notes
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


class Post:
    """Takes what is told."""

    def __init__(self) -> None:
        self.told: list[Alert] = []

    def send(self, alert: Alert) -> None:
        """Keep it."""
        self.told.append(alert)


def test_nobody_is_told_the_same_thing_twice(bench: Bench) -> None:
    """One note a sender; another one when there is something new, and after a delivery that failed."""
    post = Post()

    class Broken(Post):
        def send(self, alert: Alert) -> None:
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
