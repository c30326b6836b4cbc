"""Dialects that nobody declares: detected once, recorded where everything lands, and every file held to them."""

import json
from datetime import date, timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from ingestion_platform.dataset import Daily, Dataset, Datasets, LandedFiles
from ingestion_platform.errors import LandingError
from ingestion_platform.format import DETECT, Csv
from ingestion_platform.table import VARCHAR, Column
from ingestion_platform.warehouse import upkeep
from ingestion_platform_tests.warehouse.building import DAY, Bench, differences

NOTE = "dialects/lines.json"
COMMAS = 'id,name,paid\n1,"Alpha, Ltd",2.50\n2,Beta,3.00\n'
SEMICOLONS = 'id;name;paid\n3;"Gamma; Ltd";2.50\n4;Delta;3.00\n'
UNDETECTED = Csv(
    delimiter=DETECT,
    quote=DETECT,
    escape=DETECT,
    bare_quotes=DETECT,
    header_rows=DETECT,
    header_at=DETECT,
    encoding=DETECT,
)


def key(name: str, day: date = DAY) -> str:
    """An object's."""
    return f"lines/{day}/{name}.csv"


def bench(root: Path, format: Csv = UNDETECTED) -> Bench:
    """A warehouse of one dataset."""
    names: tuple[Any, ...] = ("id", "name", "paid")
    dataset = Dataset(
        name="lines",
        description="One row per line.",
        kind="snapshots",
        source=LandedFiles("lines/%Y-%m-%d/{file}.csv", format),
        columns=tuple(Column(name, VARCHAR, "As it was sent.") for name in names),
        daily=Daily(date(2024, 1, 1)),
    )
    return Bench(root, Datasets([dataset]))


def test_a_dialect_is_detected_once_and_recorded(tmp_path: Path) -> None:
    """The first file's is in the landing zone, with what it was detected of; a second load reads by it and writes nothing."""
    one = bench(tmp_path)
    one.put(key("a"), SEMICOLONS)
    one.load("lines")
    note = json.loads((one.landing_folder / NOTE).read_text())
    assert note == {
        "delimiter": ";", "quote": '"', "escape": "", "bare_quotes": False, "header_rows": 1, "header_at": 0, "encoding": "utf-8",
        "detected_of": key("a"),
    }  # fmt: skip
    assert one.rows("raw.lines", "id", "name") == [("3", "Gamma; Ltd"), ("4", "Delta")]
    written = (one.landing_folder / NOTE).stat().st_mtime_ns
    assert not one.load("lines").has_changed
    assert (one.landing_folder / NOTE).stat().st_mtime_ns == written


def test_a_file_that_departs_is_drift_and_never_guessed(tmp_path: Path) -> None:
    """By the recorded dialect none of its columns are there: it is rejected, and told how it departs; the others load."""
    one = bench(tmp_path)
    one.put(key("a"), COMMAS)
    one.load("lines")
    one.put(key("b"), SEMICOLONS)
    (first, second) = one.load("lines").entries
    assert (first.state, second.state) == ("loaded", "rejected")
    assert "it departs from the recorded dialect: delimiter ';', where ',' is recorded" in second.reason
    assert first.departures == ()


def test_a_file_that_departs_and_can_be_read_is_told(tmp_path: Path) -> None:
    """Apostrophes around cells are text by the recorded dialect: that is what is loaded, and what the drift says."""
    one = bench(tmp_path)
    one.put(key("a"), COMMAS)
    one.load("lines")
    one.put(key("b"), "id,name,paid\n'3','Gamma','1'\n'4','Delta','2'\n")
    entry = one.load("lines").entries[1]
    assert entry.state == "loaded"
    assert entry.departures == ("quote \"'\", where '\"' is recorded",)
    assert ("'3'", "'Gamma'") in one.rows("raw.lines", "id", "name")


def test_another_encoding_is_told(tmp_path: Path) -> None:
    """Its records that aren't text by the recorded one are in quarantine."""
    one = bench(tmp_path)
    one.put(key("a"), COMMAS)
    one.load("lines")
    one.put(key("b"), "id,name,paid\n3,Café,1\n4,Delta,2\n".encode("cp1252"))
    entry = one.load("lines").entries[1]
    assert (entry.rows_loaded, entry.rows_quarantined) == (1, 1)
    assert entry.departures == ("encoding 'cp1252' where 'utf-8' is recorded",)


def test_what_is_declared_counts_for_more_than_what_is_recorded(tmp_path: Path) -> None:
    """A dialect that was recorded wrongly is mended by declaring it: everything is read again."""
    one = bench(tmp_path)
    one.put(key("a"), COMMAS)
    one.put(key("b"), SEMICOLONS)
    one.load("lines")
    assert one.states("lines") == {key("a"): "loaded", key("b"): "rejected"}
    two = bench(tmp_path, Csv(delimiter=";", quote=DETECT))
    two.load("lines")
    assert two.states("lines") == {key("a"): "rejected", key("b"): "loaded"}


@pytest.mark.parametrize("order", list(permutations("abc")))
def test_a_rebuild_finds_the_same_dialect(order: tuple[str, ...], tmp_path: Path) -> None:
    """Whatever came first: what a rebuild of the warehouse from the landing zone gives is what was there."""
    contents = {"a": "id,name,paid\n", "b": COMMAS, "c": SEMICOLONS}
    one = bench(tmp_path / "one")
    for number, name in enumerate(order):
        one.put(key(name, DAY + timedelta(days=number)), contents[name])
        upkeep.catch_up(one.warehouse)
    before = one.export()
    other = bench(tmp_path / "other")
    for path in sorted(one.landing_folder.rglob("*.*"), reverse=True):
        other.put(str(path.relative_to(one.landing_folder)), path.read_bytes())
    upkeep.catch_up(other.warehouse)
    assert not list(differences(before, other.export()))


def test_what_came_before_the_dialect_was_known_is_read_again(tmp_path: Path) -> None:
    """A file that tells no dialect is rejected until another one tells it; then it is read by that."""
    one = bench(tmp_path)
    one.put(key("a"), "1,Alpha,x\n")
    one.load("lines")
    assert one.states("lines") == {key("a"): "rejected"}
    assert not (one.landing_folder / NOTE).exists()
    one.put(key("b"), "1,Alpha,2.50\n2,Beta,3.50\n")
    one.load("lines")
    assert one.states("lines") == {key("a"): "loaded", key("b"): "loaded"}


def test_a_header_at_fault_is_no_dialect_for_others(tmp_path: Path) -> None:
    """Alone it is read by the declared order, which is told; nothing is recorded, and a good file decides."""
    one = bench(tmp_path)
    one.put(key("a"), 'id,"name,paid\n1,Alpha,2.50\n2,Beta,3.50\n')
    (entry,) = one.load("lines").entries
    assert (entry.state, entry.rows_loaded) == ("loaded", 2)
    assert "its header can't be read, columns are taken in the declared order" in entry.departures[0]
    assert not (one.landing_folder / NOTE).exists()
    one.put(key("b"), COMMAS)
    one.load("lines")
    assert one.states("lines") == {key("a"): "rejected", key("b"): "loaded"}


def test_a_note_that_somebody_else_wrote_is_named(tmp_path: Path) -> None:
    """The message says which object it is, and what helps."""
    one = bench(tmp_path)
    one.put(key("a"), COMMAS)
    one.put(NOTE, "{")
    with pytest.raises(LandingError, match=r"dialects/lines.json can't be read.*declare the dialect"):
        one.load("lines")
