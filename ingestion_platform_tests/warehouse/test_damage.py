"""Disks that fail: a cut ledger, lost Parquet files, a garbled DuckDB file, a full disk. Told clearly, made right by a command."""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ingestion_platform.errors import WarehouseDamaged, WarehouseError
from ingestion_platform.warehouse import Warehouse, upkeep
from ingestion_platform_tests.warehouse.building import DAY, HEADER, Bench, differences, export, line

SQL = """/*
description = "One row per shop."
primary_key = ["shop"]
[columns]
shop = "Where."
sold = "Lines."
*/
select tills.shop as shop, count(*) as sold from processed.tills as tills
left join processed.shops_current as shops on shops.shop = tills.shop
where tills."at" >= $window_start and tills."at" < $window_end group by tills.shop
"""


def build(root: Path) -> Bench:
    """Two days with late rows, bad rows, a double, a rewritten file, a rejected one, and a report of them."""
    (root / "sql" / "reports").mkdir(parents=True)
    (root / "sql" / "reports" / "shops_sold.sql").write_text(SQL)
    bench = Bench(root, sql=root / "sql")
    for offset in range(2):
        day = DAY + timedelta(days=offset)
        bench.put_shops("a", "b", day=day)
        for shop in "ab":
            rows = "".join(line(f"{shop}{day}{number}", shop, f"{day} 1{number}:00:00") for number in range(4))
            late = line(f"late{shop}{day}", shop, f"{day - timedelta(days=offset)} 12:00:00")
            bench.put(f"tills/{day}/{shop}.csv", HEADER + rows + late + line("bad", units="oops") + "short\n")
        bench.put(f"tills/{day}/a-copy.csv", (bench.landing_folder / f"tills/{day}/a.csv").read_bytes())
    bench.put(f"tills/{DAY}/cut.csv", HEADER + "1,a")
    upkeep.catch_up(bench.warehouse)
    bench.put(f"tills/{DAY}/b.csv", HEADER + line("rewritten", "b"))
    upkeep.catch_up(bench.warehouse)
    return bench


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A warehouse that is never touched, closed, and its export."""
    root = tmp_path_factory.mktemp("pristine") / "bench"
    bench = build(root)
    whole = bench.export()
    bench.warehouse.publish()
    bench.warehouse.close()
    return root, whole


@pytest.fixture
def bench(pristine: tuple[Path, dict[str, str]], tmp_path: Path) -> Bench:
    """A copy of it, to be damaged."""
    return copy_of(pristine[0], tmp_path / "bench")


def copy_of(root: Path, target: Path) -> Bench:
    """Copied with modification times, so that nothing in the landing zone is news."""
    shutil.copytree(root, target)
    return Bench(target, sql=target / "sql")


def rebuilt(bench: Bench) -> dict[str, str]:
    """What the tables are after the command that rebuilds."""
    bench.warehouse._let_go()
    upkeep.rebuild(bench.open)
    bench.warehouse = bench.open()
    assert upkeep.verify(bench.warehouse) == []
    return bench.export()


def ledger_of(bench: Bench) -> Path:
    """The ledger's file."""
    return bench.warehouse.folder / "ledger.sqlite"


def use(warehouse: Warehouse) -> None:
    """What a night's run does."""
    upkeep.catch_up(warehouse)
    export(warehouse)


def is_noticed(warehouse: Warehouse) -> bool:
    """Whether a night's run says that the warehouse is damaged, with the command that helps."""
    try:
        use(warehouse)
    except WarehouseDamaged as error:
        return "python -m ingestion_platform re" in error.hint
    return False


@pytest.mark.parametrize("keep", [0, 100, 4096, 20_000])
def test_a_cut_ledger_is_told_and_rebuilt(pristine: tuple[Path, dict[str, str]], bench: Bench, keep: int) -> None:
    """Even when it is cut to nothing it isn't taken for a new one; the message says which command helps."""
    assert ledger_of(bench).stat().st_size > keep
    os.truncate(ledger_of(bench), keep)
    with pytest.raises(WarehouseDamaged, match=r"ledger\.sqlite is damaged") as told:
        use(bench.warehouse)
    assert "python -m ingestion_platform rebuild" in told.value.hint
    bench.warehouse._let_go()
    damages = upkeep.verify(bench.open())
    assert len(damages) == 1
    assert "ledger" in damages[0].what
    with pytest.raises(WarehouseDamaged, match="ledger"):
        upkeep.repair(bench.open())
    assert not list(differences(pristine[1], rebuilt(bench)))


def test_a_ledger_that_is_gone_is_told(pristine: tuple[Path, dict[str, str]], bench: Bench) -> None:
    """With the tables' files beside it, an absent ledger is no new warehouse."""
    ledger_of(bench).unlink()
    with pytest.raises(WarehouseDamaged, match="it is empty, though files of tables stand beside it"):
        use(bench.warehouse)
    assert not list(differences(pristine[1], rebuilt(bench)))


@pytest.mark.parametrize("seed", range(4))
def test_random_bytes_in_the_ledger_are_told_and_rebuilt(
    pristine: tuple[Path, dict[str, str]], bench: Bench, seed: int
) -> None:
    """Overwritten in the middle, it is damaged by name, never a traceback of SQLite or Python."""
    chance = random.Random(seed)
    size = ledger_of(bench).stat().st_size
    with ledger_of(bench).open("r+b") as file:
        file.seek(chance.randrange(4096, size - 8192))
        file.write(chance.randbytes(8192))
    damages = upkeep.verify(bench.warehouse)
    assert damages
    bench.warehouse._let_go()
    is_noticed(bench.open())
    assert not list(differences(pristine[1], rebuilt(bench)))


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(st.floats(0, 1, exclude_max=True), st.integers(1, 255))
@example(0.046875, 128)
def test_a_flipped_byte_in_the_ledger_is_noticed_or_harmless(
    pristine: tuple[Path, dict[str, str]], place: float, flip: int
) -> None:
    """Wherever it is: `verify` or normal use says WarehouseDamaged, or every table is as it was."""
    root, whole = pristine
    with tempfile.TemporaryDirectory() as folder:
        damaged = copy_of(root, Path(folder) / "bench")
        with ledger_of(damaged).open("r+b") as file:
            position = int(place * ledger_of(damaged).stat().st_size)
            file.seek(position)
            byte = file.read(1)[0]
            file.seek(position)
            file.write(bytes([byte ^ flip]))
        if upkeep.verify(damaged.warehouse):
            damaged.warehouse._let_go()
            return
        if is_noticed(damaged.warehouse):
            return
        assert not list(differences(whole, damaged.export()))
        assert upkeep.verify(damaged.warehouse) == []
        damaged.warehouse._let_go()


CHANGES = [
    "update exclusions set key = key || 'x'",
    "delete from exclusions",
    "insert into exclusions select file_id, key from objects where file_id is not null and is_current = 1 limit 1",
    "update or ignore file_days set day = '2024-09-01'",
    "delete from file_days",
    "update raw_days set rows = rows + 1",
    "update raw_days set digest = 'soon'",
    "update raw_days set day = 'soon' where dataset = 'tills' and day = '2024-10-02'",
    "delete from raw_days",
    "update objects set rows_loaded = rows_loaded + 1, rows_read = rows_read + 1",
    "update objects set state = 'rejected'",
    "update objects set day = 'soon'",
    "update objects set is_current = 0",
    "delete from objects where state = 'loaded'",
    "update files set sha256 = upper(sha256)",
    "update files set dropped_at = '2024-01-01' where role = 'quarantine'",
    "update files set dropped_at = null",
    "delete from files where role = 'rows'",
    "update partitions set inputs = ''",
    "update partitions set day = '2024-10-09' where day = '2024-10-01'",
    "update meta set name = 'omits' where name = 'commits'",
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_entry_of_the_ledger_is_noticed(bench: Bench, change: str) -> None:
    """Whatever a row of any of its tables says otherwise than was written: `verify` or the next run tells it, or nothing comes of it."""
    whole = bench.export()
    bench.warehouse._let_go()
    connection = sqlite3.connect(ledger_of(bench))
    with connection:
        assert connection.execute(change).rowcount > 0
    connection.close()
    if not upkeep.verify(bench.open()) and not is_noticed(bench.open()):
        assert not list(differences(whole, export(bench.open())))


def harm(path: Path, how: str) -> None:
    """Cut, flip or delete a file."""
    if how == "deleted":
        path.unlink()
    elif how == "cut":
        os.truncate(path, path.stat().st_size // 2)
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


def files_in_use(bench: Bench) -> Iterator[tuple[str, str, Path]]:
    """Table, role and place of every file."""
    for table in ("raw.tills", "raw.shops", "processed.tills", "processed.shops", "reports.shops_sold"):
        for role in ("rows", "quarantine"):
            for file in bench.warehouse.ledger.files(table, role=role):
                yield table, role, bench.warehouse.store.absolute(file.path)


@pytest.mark.parametrize("how", ["deleted", "cut", "flipped"])
def test_a_damaged_table_file_is_named_and_repaired(
    pristine: tuple[Path, dict[str, str]], bench: Bench, how: str
) -> None:
    """One file after the other, of every layer and the quarantine: told by its path with the command, and made anew by `repair`."""
    kinds = sorted({(table, role) for table, role, _ in files_in_use(bench)})
    assert len(kinds) == 7, kinds
    for table, role in kinds:
        path = {(table, role): path for table, role, path in files_in_use(bench)}[table, role]
        harm(path, how)
        other = bench.open()
        with pytest.raises(WarehouseDamaged) as told:
            export(other)
        assert str(path) in told.value.what
        assert "python -m ingestion_platform repair" in told.value.hint
        damages = upkeep.repair(other)
        assert {damage.table for damage in damages} == {table}
        assert not list(differences(pristine[1], export(other)))
        assert upkeep.verify(bench.open()) == []
        other.close()


@pytest.mark.parametrize("how", ["deleted", "cut", "flipped"])
def test_all_table_files_damaged_at_once_are_repaired(
    pristine: tuple[Path, dict[str, str]], bench: Bench, how: str
) -> None:
    """References before what refers to them, raw before processed before reports."""
    paths = [path for _, _, path in files_in_use(bench)]
    for path in paths:
        harm(path, how)
    assert len(upkeep.repair(bench.warehouse)) == len(paths)
    assert not list(differences(pristine[1], bench.export()))


def test_what_the_landing_zone_no_longer_has_is_not_called_repaired(bench: Bench) -> None:
    """A raw file is damaged and its object has been taken away: `repair` says that it can't, and how to go on."""
    (bench.landing_folder / f"tills/{DAY}/a.csv").unlink()
    (bench.landing_folder / f"tills/{DAY}/a-copy.csv").unlink()
    for table, role, path in files_in_use(bench):
        if (table, role) == ("raw.tills", "rows"):
            harm(path, "flipped")
    with pytest.raises(WarehouseDamaged, match="still damaged after the repair") as told:
        upkeep.repair(bench.warehouse)
    assert "landing zone" in told.value.hint


def test_everything_but_the_landing_zone_deleted(pristine: tuple[Path, dict[str, str]], bench: Bench) -> None:
    """The landing zone alone gives the tables again, and the file that people open."""
    bench.warehouse._let_go()
    shutil.rmtree(bench.warehouse.folder)
    bench.settings.warehouse.unlink()
    assert not list(differences(pristine[1], rebuilt(bench)))
    assert bench.settings.warehouse.exists()


def test_rebuild_keeps_the_former_warehouse_aside(pristine: tuple[Path, dict[str, str]], bench: Bench) -> None:
    """Nothing is deleted before a person trusts the new one."""
    aside = upkeep.rebuild(bench.open)
    assert aside is not None
    assert (aside / "ledger.sqlite").exists()
    bench.warehouse._let_go()
    bench.warehouse = bench.open()
    assert not list(differences(pristine[1], bench.export()))


@pytest.mark.parametrize("how", ["deleted", "cut", "garbage", "empty"])
def test_a_damaged_file_of_views_is_published_anew(bench: Bench, how: str) -> None:
    """No commit is needed for that: the file isn't the one that was made."""
    path = bench.settings.warehouse
    bench.warehouse.publish()
    if how == "garbage":
        path.write_bytes(random.Random(1).randbytes(20_000))
    elif how == "empty":
        os.truncate(path, 0)
    else:
        harm(path, how)
    bench.warehouse.publish()
    with duckdb.connect(str(path), read_only=True) as engine:
        assert engine.sql("select count(*) from processed.tills").fetchall() == [
            (len(bench.rows("processed.tills", "id")),)
        ]


def test_a_journal_of_somebody_who_was_killed_does_not_spoil_the_file_of_views(bench: Bench) -> None:
    """A person's session wrote into the file and was killed: what it left beside it isn't applied to the next one."""
    bench.warehouse.publish()
    path = bench.settings.warehouse
    script = f"""
import duckdb, os, signal
engine = duckdb.connect({str(path)!r})
engine.execute("set checkpoint_threshold = '1GB'")
engine.execute("create table mine as select range as n from range(1000)")
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert path.with_name(path.name + ".wal").exists()
    bench.put(f"tills/{DAY}/late.csv", HEADER + line("late"))
    upkeep.catch_up(bench.warehouse)
    bench.warehouse.publish()
    with duckdb.connect(str(path), read_only=True) as engine:
        assert engine.sql("select count(*) from raw.tills where id = 'late'").fetchall() == [(1,)]


FULL = """
import resource, sys
from datetime import date
from pathlib import Path
from ingestion_platform.errors import IngestionError
from ingestion_platform_tests.warehouse.building import Bench
folder, limit, work = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
bench = Bench(folder)
bench.warehouse.ledger.exists and bench.warehouse.ledger.commits()
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
try:
    if work == "load":
        bench.load()
    elif work == "process":
        bench.process()
    else:
        bench.warehouse.publish()
except IngestionError as error:
    print(type(error).__name__, error)
    sys.exit(7)
finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


@pytest.mark.parametrize("work", ["load", "process", "publish"])
@pytest.mark.parametrize("limit", [0, 20_000])
def test_a_full_disk_leaves_nothing_half(tmp_path: Path, work: str, limit: int) -> None:
    """Writing fails in the middle: the message says so, nothing is visible of it, and the next run goes on."""
    chance = random.Random(1)
    rows = "".join(
        line(chance.randbytes(16).hex(), at=f"2024-10-01 10:{number % 60:02}:00", card=chance.randbytes(16).hex())
        for number in range(4_000)
    )
    bench = Bench(tmp_path / "bench")
    bench.put_shops()
    bench.load("shops")
    bench.process("shops")
    bench.put(f"tills/{DAY}/a.csv", HEADER + rows)
    if work != "load":
        bench.load()
    bench.warehouse._let_go()
    before = export(bench.open())
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(bench.root), str(limit), work],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 7, done.stdout + done.stderr
    assert "is the disk full" in done.stdout
    assert not list(differences(before, export(bench.open())))
    assert upkeep.verify(bench.open()) == []
    bench.warehouse = bench.open()
    upkeep.catch_up(bench.warehouse)
    bench.warehouse.publish()
    assert len(bench.rows("processed.tills", "id")) == 4_000
    files = {
        str(path.relative_to(bench.warehouse.folder)) for path in (bench.warehouse.folder / "tables").rglob("*.parquet")
    }
    assert files == bench.warehouse.ledger.known_paths(sorted(files)), "half-written files were not swept up"
    with pytest.raises(WarehouseError, match="there is no table"):
        bench.warehouse.read("raw.nothing")
