"""Objects that are too large for memory: read piece by piece into files of their own, or into none."""

import dataclasses
import gzip
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from ingestion_platform.dataset import Dataset, Datasets, LandedFiles
from ingestion_platform.errors import ObjectChanged
from ingestion_platform.format import Csv, JsonLines
from ingestion_platform.formats import open_records
from ingestion_platform.landing import LandedObject, LandingZone, ObjectFile
from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.warehouse import load, raw_files
from ingestion_platform_tests.warehouse.building import DAY, HEADER, SHOPS, TILLS, Bench, line

A = "tills/2024-10-01/a.csv"
B = "tills/2024-10-01/b.csv"
ROWS = "".join(line(f"{number}") for number in range(2000))

COPY = "tills/2024-10-01/a.copy.csv"
TWO_NAMES = dataclasses.replace(
    TILLS, source=LandedFiles(("tills/%Y-%m-%d/{shop}.copy.csv", "tills/%Y-%m-%d/{shop}.csv"))
)


@pytest.fixture(params=["all are large", "some are large"])
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything counts as large, or what has more than some hundred rows; pieces are of a dozen rows."""
    monkeypatch.setattr(load, "WHOLE_BYTES", 10)
    monkeypatch.setattr(load, "IN_MEMORY_BYTES", 10 if request.param == "all are large" else 10_000)
    monkeypatch.setattr(raw_files, "ROW_GROUP_ROWS", 100)
    monkeypatch.setattr(load, "open_records", partial(open_records, block_bytes=500))


@pytest.fixture
def bench(tmp_path: Path, small: None) -> Bench:
    """A warehouse with nothing in it."""
    return Bench(tmp_path)


def files(bench: Bench) -> list[Path]:
    """The Parquet files of raw tables and their quarantine."""
    return sorted(
        path
        for path in bench.root.rglob("*.parquet")
        if {"raw", "quarantine"} & {*path.parts} and "plain" not in path.parts
    )


def test_large_objects_give_the_tables_that_small_ones_give(
    tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows, numbers, quarantine, drift and ledger are the same, whichever way an object went; processed, too."""
    plain = Bench(tmp_path / "plain")
    broken = ROWS.replace("\n100,", "\n100,one too many,").replace("\n7,", "\n7;")
    for one in (bench, plain):
        one.put_shops()
        one.put(A, HEADER + ROWS)
        one.put(B, HEADER.replace("card", "card,lane") + "".join(f"{text},9\n" for text in broken.splitlines()))
        one.put(f"{A}.gz", gzip.compress((HEADER + ROWS.replace("\n", "x\n")).encode()))
    bench.load()
    bench.process()
    monkeypatch.undo()
    plain.load()
    plain.process()
    assert bench.export() == plain.export()
    assert len(files(bench)) > len(files(plain))


def test_a_large_object_that_is_cut_leaves_nothing(bench: Bench) -> None:
    """Its end shows it: no row of it is there, no file of it stays, and its neighbour is loaded."""
    bench.put(A, HEADER + ROWS + "cut")
    bench.put(B, HEADER + line("good"))
    bench.load()
    assert bench.states() == {A: "rejected", B: "loaded"}
    assert bench.rows("raw.tills", "id") == [("good",)]
    assert len(files(bench)) == 1


def test_a_large_object_sent_again_is_known_without_being_parsed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its hash tells that another object of the same content counts."""
    bench = Bench(bench.root / "other", Datasets([SHOPS, TWO_NAMES]))
    bench.put(A, HEADER + ROWS)
    bench.load()
    bench.put(COPY, HEADER + ROWS)
    with monkeypatch.context() as patched:
        patched.setattr(load, "open_records", None)
        bench.load()
    assert bench.states() == {A: "loaded", COPY: "duplicate"}
    assert len(bench.rows("raw.tills", "id")) == 2000
    bench.put(A, HEADER + line("other"))
    bench.load()
    assert bench.states() == {A: "loaded", COPY: "loaded"}
    assert len(bench.rows("raw.tills", "id")) == 2001


def test_of_two_large_objects_alike_one_is_loaded(bench: Bench) -> None:
    """Found in the same load, one of them stands for both, and the other's files are gone."""
    bench = Bench(bench.root / "other", Datasets([SHOPS, TWO_NAMES]))
    bench.put(A, HEADER + ROWS)
    bench.put(COPY, HEADER + ROWS)
    bench.load()
    assert bench.states() == {A: "loaded", COPY: "duplicate"}
    assert len(files(bench)) == 1


def test_a_large_object_that_changes_replaces_its_rows(bench: Bench) -> None:
    """Its former file leaves the table with the commit that brings the new one."""
    bench.put(A, HEADER + ROWS)
    bench.load()
    bench.put(A, HEADER + ROWS.replace("2.50", "3.50"))
    bench.load()
    assert {price for _, price in bench.rows("raw.tills", "id", "price_zar")} == {"3.50"}
    assert bench.load(reload=True).rows == 2000
    assert len(bench.rows("raw.tills", "id")) == 2000


def test_a_large_object_that_changes_while_it_is_read_leaves_nothing(bench: Bench) -> None:
    """It is told as such, even where it looked broken; the next load reads it."""
    bench.put(A, HEADER + ROWS)
    changing = Bench(bench.root, zone=_Changing(LocalLanding(bench.landing_folder)))
    changing.load()
    (entry,) = changing.warehouse.raw_day(TILLS, DAY).entries
    assert (entry.state, "changed while being read" in entry.reason) == ("rejected", True)
    assert files(bench) == []
    assert bench.load().rows == 2000


class _Changing:
    """A landing zone whose objects are never what they were at their end."""

    def __init__(self, zone: LandingZone) -> None:
        self._zone = zone
        self.url = zone.url

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[LandedObject]:
        """As the zone does."""
        return self._zone.list(prefix, start_after=start_after)

    def read(self, object_: LandedObject) -> bytes:
        """As the zone does."""
        return self._zone.read(object_)

    def open(self, object_: LandedObject) -> ObjectFile:
        """As the zone does, but for the end."""

        def check() -> None:
            raise ObjectChanged(f"{object_.key} grew")

        return ObjectFile(self._zone.open(object_).file, check)

    def put_if_absent(self, key: str, content: bytes) -> bool:
        """As the zone does."""
        return self._zone.put_if_absent(key, content)


def test_a_load_that_fails_leaves_no_file(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends it: files that were begun are deleted, and the next load starts anew."""
    for number in range(5):
        bench.put(f"tills/2024-10-01/s{number}.csv", HEADER + ROWS)

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(bench.warehouse.ledger, "commit_load", fail)
        with pytest.raises(KeyboardInterrupt):
            bench.load()
    assert files(bench) == []
    assert bench.load().rows == 2000


def test_many_records_that_cannot_be_read_are_quarantined(tmp_path: Path, small: None) -> None:
    """Millions of bad records would fill memory: they go to a file of the object's own, each with its number."""
    lines = Dataset(
        name="lines",
        description="JSON lines.",
        source=LandedFiles("lines/%Y-%m-%d.jsonl", JsonLines()),
        columns=TILLS.columns[:1] + TILLS.columns[2:3],
        primary_key=("id",),
        event_time="at",
        daily=TILLS.daily,
    )
    bench = Bench(tmp_path, Datasets([lines]))
    good = '{"id":"1","at":"2024-10-01 10:00:00"}\n'
    bench.put("lines/2024-10-01.jsonl", good + "nothing\n" * 3000 + good)
    loaded = bench.load("lines")
    assert (loaded.rows, loaded.rows_quarantined) == (2, 3000)
    bench.process("lines")
    numbers = [number for (number,) in bench.rows("platform.quarantine", "_row")]
    assert numbers == list(range(2, 3002))


def test_rows_read_before_a_stray_quote_do_not_stay(tmp_path: Path, small: None) -> None:
    """A fault late in a file makes records doubtful that were written already: they are in quarantine, once, and in no table."""
    text = "".join(f'{number},"two\nlines"\n' for number in range(500)) + '500,stray"quote\n501,fine\n'
    notes = Dataset(
        name="notes",
        description="Notes.",
        kind="snapshots",
        source=LandedFiles("notes/%Y-%m-%d.csv", Csv()),
        columns=SHOPS.columns,
        primary_key=("shop",),
        daily=SHOPS.daily,
    )
    bench = Bench(tmp_path, Datasets([notes]))
    bench.put("notes/2024-10-01.csv", "shop,since\n" + text)
    loaded = bench.load("notes")
    assert (loaded.rows, loaded.rows_quarantined) == (1, 501)
    assert bench.rows("raw.notes", "shop", "_row") == [("501", 502)]
