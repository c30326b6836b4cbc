"""Landing to raw: exactly once, whatever is sent, however often and in whatever order."""

import dataclasses
import fcntl
import gzip
import os
from datetime import date, timedelta
from pathlib import Path

import pytest

from ingestion_platform.dataset import Daily, Dataset, Datasets, LandedFiles
from ingestion_platform.errors import DeclarationError, LandingUnavailable, ObjectChanged, WarehouseError
from ingestion_platform.format import Csv
from ingestion_platform.landing import LandedObject, LandingZone
from ingestion_platform.senders import Senders
from ingestion_platform.table import TIMESTAMP, VARCHAR, Column, Mask
from ingestion_platform.warehouse import upkeep
from ingestion_platform.warehouse import warehouse as warehouse_module
from ingestion_platform.warehouse.derive import Deriver
from ingestion_platform_tests.warehouse.building import DAY, HEADER, SHOPS, TILLS, Bench, Through, line

A = "tills/2024-10-01/a.csv"
B = "tills/2024-10-01/b.csv"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A warehouse with nothing in it."""
    return Bench(tmp_path)


def test_every_row_comes_with_its_object_and_number(bench: Bench) -> None:
    """Raw holds the text as sent, with where it came from."""
    bench.put(A, HEADER + line("1", price="2.50") + line("2", units="x"))
    loaded = bench.load()
    assert (loaded.rows, loaded.keys("loaded")) == (2, (A,))
    assert bench.rows("raw.tills", "id", "units", "price_zar", "_object", "_row", "_day") == [
        ("1", "1", "2.50", A, 1, DAY),
        ("2", "x", "2.50", A, 2, DAY),
    ]


def test_loading_again_loads_nothing(bench: Bench) -> None:
    """A second load finds nothing new and changes nothing."""
    bench.put(A, HEADER + line("1"))
    bench.load()
    before = bench.export()
    again = bench.load()
    assert not again.has_changed
    assert bench.export() == before


def test_a_touched_file_is_not_loaded_again(bench: Bench) -> None:
    """A new modification time alone is no new version."""
    bench.put(A, HEADER + line("1"))
    bench.load()
    os.utime(bench.landing_folder / A, (1, 1))
    assert not bench.load().has_changed
    assert bench.rows("raw.tills", "id") == [("1",)]


def test_an_older_modification_time_does_not_hide_a_file(bench: Bench) -> None:
    """What is new is told by the ledger, never by a clock."""
    bench.put(A, HEADER + line("1"))
    bench.load()
    bench.put(B, HEADER + line("2"))
    os.utime(bench.landing_folder / B, (1, 1))
    bench.load()
    assert bench.rows("raw.tills", "id") == [("1",), ("2",)]


def test_a_rewritten_file_replaces_its_rows(bench: Bench) -> None:
    """The former version's rows go in the transaction that brings the new ones; the ledger keeps both versions."""
    bench.put(A, HEADER + line("1") + line("2"))
    bench.load()
    bench.put(A, HEADER + line("1", units="5"))
    bench.load()
    assert bench.rows("raw.tills", "id", "units") == [("1", "5")]
    assert bench.rows("platform.ledger", "key", "state", "rows_loaded") == [(A, "loaded", 1), (A, "replaced", 2)]


def test_a_file_changed_back_is_in_the_ledger_once_a_version(bench: Bench) -> None:
    """A, then B, then A again: two versions, the first one stands."""
    for units in ("1", "2", "1"):
        bench.put(A, HEADER + line("1", units=units))
        bench.load()
    assert bench.rows("raw.tills", "units") == [("1",)]
    assert [row[0] for row in bench.rows("platform.ledger", "state")] == ["loaded", "replaced"]


def test_the_same_content_under_a_second_name_is_not_loaded(bench: Bench) -> None:
    """It is recorded as a duplicate of the first."""
    bench.put(A, HEADER + line("1"))
    bench.put("tills/2024-10-01/a-copy.csv", HEADER + line("1"))
    bench.load()
    assert bench.states() == {A: "loaded", "tills/2024-10-01/a-copy.csv": "duplicate"}
    assert bench.rows("raw.tills", "id") == [("1",)]


@pytest.mark.parametrize("first", [A, "tills/2024-10-02/a.csv"])
def test_which_of_two_equal_files_stands_does_not_depend_on_the_order(bench: Bench, first: str) -> None:
    """The earlier day's file stands, whichever was loaded first."""
    later = "tills/2024-10-02/a.csv"
    for key in (first, later if first == A else A):
        bench.put(key, HEADER + line("1"))
        bench.load(day=date.fromisoformat(key[6:16]))
    assert bench.states() == {A: "loaded"}
    assert bench.states(day=date(2024, 10, 2)) == {later: "duplicate"}
    assert bench.rows("raw.tills", "_object") == [(A,)]


def test_when_the_original_changes_its_double_takes_its_place(bench: Bench) -> None:
    """No row is lost with the file that stood for it, even when the double is of another day."""
    later = "tills/2024-10-02/b.csv"
    bench.put(A, HEADER + line("1"))
    bench.put(later, HEADER + line("1"))
    bench.load()
    bench.load(day=date(2024, 10, 2))
    bench.put(A, HEADER + line("9"))
    changed = bench.load()
    assert bench.rows("raw.tills", "id", "_object") == [("1", later), ("9", A)]
    assert changed.other_days == (date(2024, 10, 2),)


def test_a_double_that_has_gone_is_not_waited_for(bench: Bench) -> None:
    """The original changes after its double was deleted: the load ends, says so, and reads the double when it comes back."""
    later = "tills/2024-10-02/b.csv"
    bench.put(A, HEADER + line("1"))
    bench.put(later, HEADER + line("1"))
    bench.load()
    bench.load(day=date(2024, 10, 2))
    (bench.landing_folder / later).unlink()
    bench.put(A, HEADER + line("9"))
    bench.load()
    assert bench.states(day=date(2024, 10, 2)) == {later: "rejected"}
    assert bench.rows("raw.tills", "id") == [("9",)]
    bench.put(later, HEADER + line("1"))
    bench.load(day=date(2024, 10, 2))
    assert bench.rows("raw.tills", "id") == [("1",), ("9",)]


@pytest.mark.parametrize("is_deleted", [False, True])
def test_when_the_double_in_line_has_changed_too_the_next_takes_its_place(bench: Bench, is_deleted: bool) -> None:
    """Three equal files, the first two are rewritten (or the second deleted) before the next load: the third one's rows stand."""
    days = {A: DAY, "tills/2024-10-02/b.csv": date(2024, 10, 2), "tills/2024-10-03/c.csv": date(2024, 10, 3)}
    for key, day in days.items():
        bench.put(key, HEADER + line("1"))
        bench.load(day=day)
    bench.put(A, HEADER + line("2"))
    second = bench.landing_folder / "tills/2024-10-02/b.csv"
    if is_deleted:
        second.unlink()
    else:
        bench.put("tills/2024-10-02/b.csv", HEADER + line("3"))
    for day in days.values():
        bench.load(day=day)
    assert bench.rows("raw.tills", "id") == [("1",), ("2",), *([] if is_deleted else [("3",)])]


def test_a_longer_lateness_finds_the_rows_new_days(bench: Bench) -> None:
    """What was too late is in its own day after the declaration is mended and the day loaded: as after a rebuild, and balanced."""
    last = date(2024, 10, 4)
    bench.put_shops()
    bench.load("shops")
    bench.process("shops")
    bench.put("tills/2024-10-04/a.csv", HEADER + line("1") + line("2", at="2024-10-04 10:00:00"))
    bench.load(day=last)
    bench.process(day=last)
    assert len(bench.rows("platform.quarantine")) == 1
    mended = dataclasses.replace(TILLS, daily=Daily(DAY, allowed_lateness_days=3))
    again = Bench(bench.root, Datasets([SHOPS, mended]))
    again.load(day=last)
    for day in again.warehouse.stale_days("processed.tills"):
        assert day is not None
        done = again.process(day=day)
        assert done.balance is not None
        assert done.balance.holds
    assert again.rows("processed.tills", "id", "_day") == [("1", DAY), ("2", last)]
    assert again.rows("platform.quarantine") == []


def test_rows_of_before_the_first_day_are_quarantined_with_their_object(bench: Bench) -> None:
    """There is no partition that they could be in: nobody would ever compute it."""
    bench.put_shops()
    bench.load("shops")
    bench.process("shops")
    bench.put(A, HEADER + line("1", at="2024-09-30 10:00:00") + line("2"))
    assert bench.load().touched_days == (DAY,)
    done = bench.process()
    assert done.balance is not None
    assert done.balance.holds
    assert bench.warehouse.stale_days("processed.tills") == []
    assert bench.rows("platform.quarantine", "reasons") == [
        (["at: 2024-09-30 08:00:00 UTC is before 2024-10-01, the first day"],)
    ]


def test_empty_files_are_no_doubles_of_each_other(bench: Bench) -> None:
    """A header without rows says that nothing was sold; each sender may say so."""
    bench.put(A, HEADER)
    bench.put(B, HEADER)
    bench.load()
    assert bench.states() == {A: "loaded", B: "loaded"}


def test_the_same_snapshot_on_two_days_is_two_snapshots(bench: Bench) -> None:
    """A state that hasn't changed is still the state of each day."""
    bench.put_shops()
    bench.put_shops(day=date(2024, 10, 2))
    bench.load("shops")
    bench.load("shops", date(2024, 10, 2))
    assert len(bench.rows("raw.shops")) == 6


def test_what_a_capture_adds_to_the_rows_makes_files_differ(tmp_path: Path) -> None:
    """Equal bytes of two shops are two facts when the shop's name comes from the key."""
    visits = Dataset(
        name="visits",
        description="One row per visit.",
        source=LandedFiles("visits/%Y-%m-%d/{shop}.csv"),
        columns=(Column("at", TIMESTAMP, "When."), Column("shop", VARCHAR, "Where.", capture="shop")),
        event_time="at",
        daily=Daily(DAY),
    )
    bench = Bench(tmp_path, Datasets([visits]))
    for shop in "ab":
        bench.put(f"visits/2024-10-01/{shop}.csv", "at\n2024-10-01 10:00:00\n")
    bench.load("visits")
    assert bench.rows("raw.visits", "shop") == [("a",), ("b",)]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (HEADER + line("1") + "2,a,2024-10-0", "cut"),
        (HEADER + line("1") + '2,"a,2024-10-01 10:00:00,1,2.50,c\nx\n', "quot"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "text"),
        ("<html><body>404</body></html>\n", "columns"),
        ("", "empty"),
    ],
)
def test_a_broken_file_costs_the_others_nothing(bench: Bench, content: str | bytes, reason: str) -> None:
    """It is rejected with the reason; the rest loads; it is tried again when it changes, and only then."""
    bench.put(A, content)
    bench.put(B, HEADER + line("2", shop="b"))
    loaded = bench.load()
    assert bench.states() == {A: "rejected", B: "loaded"}
    entry = next(entry for entry in loaded.entries if entry.key == A)
    assert reason in entry.reason.lower()
    assert not bench.load().has_changed
    bench.put(A, HEADER + line("1"))
    bench.load()
    assert bench.rows("raw.tills", "id") == [("1",), ("2",)]


def test_a_truncated_gzip_is_rejected(bench: Bench) -> None:
    """What was cut inside the compressed stream is no whole file, though its first rows could be read."""
    whole = gzip.compress((HEADER + "".join(line(str(number)) for number in range(500))).encode())
    bench.put(f"{A}.gz", whole[:-20])
    bench.load()
    assert bench.states() == {f"{A}.gz": "rejected"}


def test_a_bad_record_goes_to_quarantine_and_the_file_loads(bench: Bench) -> None:
    """A row with too few cells is kept as it stands, with its number; the ledger's numbers add up."""
    bench.put(A, HEADER + line("1") + "2,a\n" + line("3"))
    loaded = bench.load()
    entry = loaded.entries[0]
    assert (entry.rows_read, entry.rows_loaded, entry.rows_quarantined) == (3, 2, 1)
    assert bench.rows("raw.tills", "id", "_row") == [("1", 1), ("3", 3)]
    assert bench.rows("platform.quarantine", "_object", "_row", "record") == [(A, 2, "2,a")]


def test_an_unknown_column_is_kept_and_a_missing_one_is_null(bench: Bench) -> None:
    """Drift is seen, and costs no value."""
    bench.put(A, "id,shop,at,units,till\n1,a,2024-10-01 10:00:00,1,T9\n")
    entry = bench.load().entries[0]
    assert (entry.unknown_columns, entry.missing_columns) == (("till",), ("price_zar", "card"))
    assert bench.rows("raw.tills", "id", "price_zar", "_extra") == [("1", None, '{"till":"T9"}')]


def test_a_rewritten_file_that_is_broken_withdraws_its_rows(bench: Bench) -> None:
    """The tables are what the landing zone says now; what it said before is no longer there to be read."""
    bench.put(A, HEADER + line("1"))
    bench.load()
    bench.put(A, HEADER + "1,a")
    bench.load()
    assert bench.states() == {A: "rejected"}
    assert bench.rows("raw.tills") == []


def test_reload_reads_everything_again_and_changes_nothing(bench: Bench) -> None:
    """A replay of a day that nobody changed gives the same tables."""
    bench.put(A, HEADER + line("1") + "2,a\n")
    bench.put("tills/2024-10-01/a-copy.csv", HEADER + line("1") + "2,a\n")
    bench.load()
    before = bench.export()
    assert set(bench.load(reload=True).new_keys) == {A, "tills/2024-10-01/a-copy.csv"}
    assert bench.export() == before


def test_a_day_touches_the_days_of_its_rows(bench: Bench) -> None:
    """The load says which processed days its rows belong to: those of their events, in business time."""
    bench.put(
        "tills/2024-10-03/a.csv", HEADER + line("1", at="2024-10-01 23:59:59") + line("2", at="2024-10-03 00:00:00")
    )
    assert bench.load(day=date(2024, 10, 3)).touched_days == (date(2024, 10, 1), date(2024, 10, 3))


def test_an_object_that_changes_while_it_is_read_is_tried_again(tmp_path: Path) -> None:
    """It is rejected as still being written, and looked at again by the next load, whatever its listing says."""
    bench = Bench(tmp_path)
    bench.put(A, HEADER + line("1"))
    flaky = Flaky(bench.landing, ObjectChanged(f"{A} grew"))
    moving = Bench(tmp_path, zone=flaky)
    assert moving.load().keys("rejected") == (A,)
    assert moving.load().keys("loaded") == (A,)
    assert bench.rows("raw.tills", "id") == [("1",)]


def test_when_the_landing_zone_fails_nothing_is_half_loaded(tmp_path: Path) -> None:
    """The load fails, leaves no file behind, and the next one goes on."""
    bench = Bench(tmp_path)
    bench.put(A, HEADER + line("1"))
    bench.put(B, HEADER + line("2"))
    failing = Bench(tmp_path, zone=Flaky(bench.landing, LandingUnavailable("no answer"), key=B))
    with pytest.raises(LandingUnavailable):
        failing.load()
    assert bench.rows("raw.tills") == []
    assert not list(tmp_path.rglob("*.parquet"))
    failing.load()
    assert len(bench.rows("raw.tills")) == 2


def test_a_declaration_that_reads_otherwise_reads_again(tmp_path: Path) -> None:
    """When the dialect is mended, what was rejected under the old one is read under the new one."""

    def declared(delimiter: str) -> Datasets:
        return Datasets(
            [
                Dataset(
                    name="visits",
                    description="One row per visit.",
                    source=LandedFiles("visits/%Y-%m-%d.csv", Csv(delimiter=delimiter)),
                    columns=(Column("at", TIMESTAMP, "When."), Column("shop", VARCHAR, "Where.")),
                    event_time="at",
                    daily=Daily(DAY),
                )
            ]
        )

    bench = Bench(tmp_path, declared(","))
    bench.put("visits/2024-10-01.csv", "at;shop\n2024-10-01 10:00:00;a\n")
    assert bench.load("visits").keys("rejected")
    mended = Bench(tmp_path, declared(";"))
    assert mended.load("visits").keys("loaded")
    assert mended.rows("raw.visits", "shop") == [("a",)]


def test_a_hostile_name_is_only_a_name(bench: Bench) -> None:
    """Quotes, semicolons and line ends in a key are data."""
    key = 'tills/2024-10-01/a\'; drop table "x" --\n.csv'
    bench.put(key, HEADER + line("1"))
    bench.put(B, HEADER + line("2"))
    bench.load()
    bench.put(key, HEADER + line("3"))
    bench.load()
    assert bench.rows("raw.tills", "id", "_object") == [("2", B), ("3", key)]


def test_a_file_of_another_day_or_kind_is_left_alone(bench: Bench) -> None:
    """Only keys that fit the template exactly, with a day that exists, are the dataset's."""
    for key in (
        "tills/2024-10-01/x/a.csv",
        "tills/2024-10-01/a.txt",
        "tills/2024-02-30/a.csv",
        "tills/2024-10-02/a.csv",
    ):
        bench.put(key, HEADER + line("1"))
    assert bench.load().entries == ()


def test_many_files_are_one_parquet_file(bench: Bench) -> None:
    """A load writes its rows together, however many objects they came in."""
    for number in range(200):
        bench.put(f"tills/2024-10-01/s{number:03}.csv", HEADER + line(str(number)))
    bench.load()
    assert len(list((bench.root / "warehouse" / "tables" / "raw").rglob("*.parquet"))) == 1
    assert len(bench.rows("raw.tills")) == 200


def test_trailing_volume_counts_days_that_have_objects(bench: Bench) -> None:
    """Days without objects don't pull the usual volume down."""
    for offset, count in ((0, 2), (1, 4), (3, 6)):
        day = DAY + timedelta(days=offset)
        bench.put(
            f"tills/{day}/a.csv",
            HEADER + "".join(line(f"{day}{number}", at=f"{day} 10:00:00") for number in range(count)),
        )
        bench.load(day=day)
    assert bench.warehouse.volume("raw.tills", date(2024, 10, 5)) == [2, 4, 6]
    assert bench.warehouse.usual_volume("raw.tills", date(2024, 10, 5)) == 4


def test_a_kill_between_commit_and_publication_is_made_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one that asks for the day publishes it, though nothing has changed since."""
    folder = tmp_path / "sql" / "reports"
    folder.mkdir(parents=True)
    (folder / "lines.sql").write_text(
        '/*\ndescription = "Lines of the day."\n[columns]\nlines = "How many."\n*/\n'
        'select count(*) as lines from processed.tills where "at" >= $window_start and "at" < $window_end'
    )
    bench = Bench(tmp_path, sql=tmp_path / "sql")
    table = bench.sql_tables["reports.lines"]
    bench.put_shops()
    bench.load("shops")
    bench.process("shops")
    for number, key in enumerate((A, B)):
        bench.put(key, HEADER + line(str(number)))
        bench.load()
        bench.process()
        with monkeypatch.context() as patched:
            if key == B:
                patched.setattr(Deriver, "_publish_row", lambda *_: None)
            bench.warehouse.derive(table, DAY)
    assert not bench.warehouse.derive(table, DAY).has_changed
    assert (tmp_path / "published" / "lines" / "2024-10-01.csv").read_text().split() == ["lines", "2"]


def test_the_next_run_publishes_what_a_killed_one_did_not_come_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was committed, so that nothing is stale and nobody asks for the day again; half-written files go, too."""
    folder = tmp_path / "sql" / "reports"
    folder.mkdir(parents=True)
    (folder / "lines.sql").write_text(
        '/*\ndescription = "Lines of the day."\n[columns]\nlines = "How many."\n*/\n'
        'select count(*) as lines from processed.tills where "at" >= $window_start and "at" < $window_end'
    )
    bench = Bench(tmp_path, sql=tmp_path / "sql")
    bench.put_shops()
    bench.put(A, HEADER + line("1"))
    published = tmp_path / "published" / "lines"
    with monkeypatch.context() as patched:
        patched.setattr(Deriver, "_publish_row", lambda *_: None)
        upkeep.catch_up(bench.warehouse)
    writer = bench.warehouse.store._writer
    published.mkdir(parents=True)
    (published / f".2024-10-01.csv.{writer}.half").write_text("li")
    bench.warehouse.close()
    assert not (published / "2024-10-01.csv").exists()

    other = bench.open()
    other.load(bench.datasets["shops"], DAY)
    assert (published / "2024-10-01.csv").read_text().split() == ["lines", "1"]
    assert sorted(path.name for path in published.iterdir()) == ["2024-10-01.csv", "2024-10-01.parquet"]


def test_a_journal_of_one_who_died_before_it_was_a_journal_goes(bench: Bench) -> None:
    """Killed between making and naming it, he had written nothing; one that is held stays."""
    bench.warehouse.folder.mkdir(parents=True)
    (bench.warehouse.folder / ".writer-0123456789abcdef").touch()
    with (bench.warehouse.folder / ".writer-fedcba9876543210").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        bench.put(A, HEADER + line("1"))
        bench.load()
        assert [path.name for path in bench.warehouse.folder.glob(".writer-*")] == [".writer-fedcba9876543210"]


def test_files_of_former_versions_go_even_after_a_kill_in_the_middle(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep that ends before the file is deleted leaves it to the next one."""
    for units in ("1", "2"):
        bench.put(A, HEADER + line("1", units=units))
        bench.load()
    monkeypatch.setattr(warehouse_module, "KEEP_DROPPED", timedelta(0))
    killed = bench.open()
    with monkeypatch.context() as patched:
        patched.setattr(killed.store, "discard", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            killed.load(bench.datasets["tills"], DAY)
    bench.open().load(bench.datasets["tills"], DAY)
    assert len(list((bench.root / "warehouse" / "tables").rglob("*.parquet"))) == 1


def _cards(mask: Mask, *, primary_key: tuple[str, ...] = ()) -> Dataset:
    return Dataset(
        name="cards",
        description="One row per payment.",
        source=LandedFiles("cards/%Y-%m-%d/{shop}.csv"),
        columns=(Column("card", VARCHAR, "Whose.", pii=mask), Column("at", TIMESTAMP, "When.")),
        primary_key=primary_key,
        event_time="at",
        daily=Daily(DAY),
    )


@pytest.mark.parametrize("mask", [Mask.LAST4, Mask.REDACT])
def test_a_mask_that_merges_values_is_refused_for_a_key(mask: Mask) -> None:
    """Rows of different keys would be taken for versions of one row, and all but one left out."""
    with pytest.raises(DeclarationError, match="masked by"):
        _cards(mask, primary_key=("card",))


def test_of_a_short_value_nothing_is_shown(tmp_path: Path) -> None:
    """The last four of four characters are the value itself."""
    bench = Bench(tmp_path, Datasets([_cards(Mask.LAST4)]))
    bench.put("cards/2024-10-01/a.csv", "card,at\n1234,2024-10-01 10:00:00\n12345678,2024-10-01 10:00:00\n")
    bench.load("cards")
    bench.process("cards")
    assert bench.rows("processed.cards", "card") == [("****",), ("****5678",)]


def test_the_names_of_folders_above_the_warehouse_are_no_columns(tmp_path: Path) -> None:
    """DuckDB would take `shop=elsewhere` for a partition, and put it in the place of every row's own shop."""
    bench = Bench(tmp_path / "shop=elsewhere")
    bench.put_shops()
    bench.load("shops")
    bench.process("shops")
    bench.put(A, HEADER + line("1"))
    bench.load()
    bench.process()
    assert bench.rows("raw.tills", "shop") == bench.rows("processed.tills", "shop") == [("a",)]


def test_a_damaged_file_of_another_day_fails_no_load(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """The rows are committed; the damage is told, with the command that mends it."""
    second = date(2024, 10, 2)
    bench.put(A, HEADER + line("1"))
    with bench.open() as warehouse:
        warehouse.load(TILLS, DAY)
    next((bench.root / "warehouse" / "tables" / "raw").rglob("*.parquet")).write_bytes(b"PAR1")
    os.utime(bench.settings.warehouse, (1, 1))
    bench.put("tills/2024-10-02/a.csv", HEADER + line("2"))
    with bench.open() as warehouse:
        assert warehouse.load(TILLS, second).rows == 1
    assert "repair" in caplog.text


def test_the_salt_is_not_to_be_read_by_a_query(bench: Bench) -> None:
    """Nor by a report's SQL, which would put it into a table."""
    bench.put(A, HEADER + line("1"))
    bench.load()
    bench.process()
    assert bench.warehouse.query("select getvariable('pii_salt') as salt").to_pylist() == [{"salt": None}]


def test_the_reason_of_a_rejection_quotes_nothing_personal(bench: Bench) -> None:
    """The ledger and Dagster show it, where the card's number is masked."""
    bench.put(A, line("1", card="4000111122223333"))
    bench.put(B, HEADER + line("1") + '"' + line("2", card="4000111122223333") + "x\n")
    (first, second) = bench.load().entries
    assert (first.state, second.state) == ("rejected", "rejected")
    assert "4000111122223333" not in first.reason + second.reason


def test_a_snapshot_that_goes_back_to_a_former_state_counts(tmp_path: Path) -> None:
    """Five, seven, five again: the last one sent is the state, although its bytes were there before."""
    stock = Dataset(
        name="stock",
        description="One row per article.",
        kind="snapshots",
        source=LandedFiles("stock/%Y-%m-%d/{shop}-{hour}.csv"),
        columns=(Column("article", VARCHAR, "Which."), Column("units", VARCHAR, "How many.")),
        primary_key=("article",),
        senders=Senders("shops", "shop"),
        daily=Daily(DAY),
    )
    bench = Bench(tmp_path, Datasets([SHOPS, stock]))
    for hour, units in (("08", 5), ("12", 7), ("16", 5)):
        bench.put(f"stock/2024-10-01/a-{hour}.csv", f"article,units\nx,{units}\n")
    bench.load("stock")
    bench.process("stock")
    assert bench.rows("processed.stock", "units", "_object") == [("5", "stock/2024-10-01/a-16.csv")]


def test_what_a_load_would_read_is_news(bench: Bench) -> None:
    """Also a file rewritten within the tick of its clock, and one whose bytes are read otherwise; not one that lacks a new column."""
    bench.put(A, HEADER + line("1"))
    bench.load()
    landed = bench.warehouse.listing(TILLS, DAY)
    assert bench.warehouse.news(TILLS, DAY, landed) == ()
    status = os.stat(bench.landing_folder / A)
    bench.put(A, HEADER + line("1") + line("2"))
    os.utime(bench.landing_folder / A, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert bench.warehouse.news(TILLS, DAY, bench.warehouse.listing(TILLS, DAY))
    mended = dataclasses.replace(TILLS, columns=(*TILLS.columns, Column("lane", VARCHAR, "Which till.")))
    assert not Bench(bench.root, Datasets([SHOPS, mended])).warehouse.news(mended, DAY, landed)
    other = dataclasses.replace(TILLS, source=LandedFiles(TILLS.source.templates, Csv(delimiter=";")))
    assert Bench(bench.root, Datasets([SHOPS, other])).warehouse.news(other, DAY, landed)


def test_a_processed_day_has_the_same_content_whatever_was_loaded_first(tmp_path: Path) -> None:
    """Byte for byte, so that nothing made of it comes out otherwise or is computed again."""
    contents = set()
    for keys in ((A, B), (B, A)):
        bench = Bench(tmp_path / keys[0][-5])
        bench.put_shops()
        bench.load("shops")
        bench.process("shops")
        for key in keys:
            bench.put(key, HEADER + line(key))
            bench.load()
        contents.add(bench.process().content)
    assert len(contents) == 1


class Flaky(Through):
    """A landing zone whose first read (of *key*, when given) fails."""

    def __init__(self, zone: LandingZone, error: Exception, key: str = "") -> None:
        super().__init__(zone)
        self._errors = [error]
        self._key = key

    def read(self, object_: LandedObject) -> bytes:
        """As the zone does, after the failure."""
        if self._errors and object_.key.endswith(self._key):
            raise self._errors.pop()
        return super().read(object_)

    def put_file_if_absent(self, key: str, file: Path, part_bytes: int) -> bool:
        """As the zone does."""
        return self._zone.put_file_if_absent(key, file, part_bytes)


def test_a_warehouse_is_not_rebuilt_from_an_empty_landing_zone(bench: Bench) -> None:
    """A disk that isn't mounted over its folder would end in an empty warehouse, told as done; what is there stays."""
    bench.put(A, HEADER + line("1"))
    bench.load()
    (bench.landing_folder / A).unlink()
    with pytest.raises(WarehouseError, match="holds nothing"):
        upkeep.rebuild(bench.open)
    assert bench.rows("raw.tills", "id") == [("1",)]
