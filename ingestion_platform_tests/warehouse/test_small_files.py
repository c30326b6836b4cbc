"""Many small loads of one day: few files, the same rows; and objects that are loaded by name."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion_platform.dataset import Datasets
from ingestion_platform.errors import WarehouseError
from ingestion_platform.warehouse import load as load_room
from ingestion_platform.warehouse import small_files, upkeep
from ingestion_platform.warehouse.adopt import Adopter
from ingestion_platform_tests.warehouse.building import DAY, HEADER, Bench, differences, line
from ingestion_platform_tests.warehouse.drifting import AMOUNT, FORMATS, NOTE, RENAMED, TIP, only, sales
from ingestion_platform_tests.warehouse.drifting import key as drifting_key
from ingestion_platform_tests.warehouse.streaming import STREAMED, segment, value
from ingestion_platform_tests.warehouse.test_adoption import (
    WEEK,
    assert_same,
    declared_otherwise,
    from_the_start,
    records,
    restate,
)
from ingestion_platform_tests.warehouse.test_api_pages import snapshots

BROKEN = "x,a,b,c,d,e,f,g\n"


def files(bench: Bench, role: str = "rows", day: date = DAY) -> int:
    """How many files a day of tills has in raw."""
    return len(bench.warehouse.ledger.files("raw.tills", role=role, first=day, last=day))


def key(number: int, day: date = DAY) -> str:
    """Of an object of its own."""
    return f"tills/{day}/s{number:03}.csv"


def put(bench: Bench, number: int, *lines: str) -> None:
    """Land an object with a line or more."""
    bench.put(key(number), HEADER + "".join(lines or (line(f"L{number}", f"s{number:03}"),)))


def same(one: Bench, other: Bench) -> None:
    """Two warehouses have the same tables."""
    found, expected = one.export(), other.export()
    assert list(differences(found, expected)) == []


def test_many_loads_leave_few_files_and_the_same_rows(tmp_path: Path) -> None:
    """A day that is loaded object by object is read as fast as one that is loaded at once, and is no other."""
    bench = Bench(tmp_path / "one")
    bench.put_shops(*(f"s{number:03}" for number in range(100)))
    bench.load("shops")
    bench.process("shops")
    most = 0
    for number in range(100):
        put(bench, number, line(f"L{number}", f"s{number:03}"), *([BROKEN] if number % 3 == 0 else []))
        bench.load()
        most = max(most, files(bench), files(bench, "quarantine"))
    assert most <= 3 * (small_files.TOGETHER - 1) + 1
    before = bench.process()
    assert upkeep.verify(bench.warehouse) == []
    other = Bench(tmp_path / "other", zone=bench.landing)
    for name in ("shops", "tills"):
        other.load(name)
        other.process(name)
    same(bench, other)
    (row,) = (one for one in other.warehouse.ledger.partitions("processed.tills") if one.day == DAY.isoformat())
    assert row.content == before.content


def test_what_is_computed_does_not_get_stale(tmp_path: Path) -> None:
    """Rows that stand in another file are the same rows."""
    bench = Bench(tmp_path)
    bench.put_shops(*(f"s{number:03}" for number in range(9)))
    bench.load("shops")
    bench.process("shops")
    for number in range(small_files.TOGETHER - 1):
        put(bench, number)
        bench.load()
    put(bench, 8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small_files, "TOGETHER", 10**9)
        bench.load()
    bench.process()
    assert files(bench) == small_files.TOGETHER
    done = bench.warehouse._small_files(bench.datasets["tills"]).put_together(DAY, run_id="")
    assert done == small_files.TOGETHER
    assert files(bench) == 1
    assert bench.warehouse.stale_days("processed.tills") == []
    assert not bench.process().has_changed
    assert upkeep.verify(bench.warehouse) == []


def test_two_at_once_put_together_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes second leaves everything as it is, and no file of his."""
    bench = Bench(tmp_path)
    monkeypatch.setattr(small_files, "TOGETHER", 10**9)
    for number in range(8):
        put(bench, number)
        bench.load()
    monkeypatch.setattr(small_files, "TOGETHER", 8)
    write = small_files.SmallFiles._write
    other = bench.open()
    has_begun: list[bool] = []

    def between(self: small_files.SmallFiles, *given: object) -> object:
        file = write(self, *given)  # type: ignore[arg-type]
        if not has_begun:
            has_begun.append(True)
            assert other._small_files(bench.datasets["tills"]).put_together(DAY, run_id="") == 8
        return file

    monkeypatch.setattr(small_files.SmallFiles, "_write", between)
    assert bench.warehouse._small_files(bench.datasets["tills"]).put_together(DAY, run_id="") == 0
    assert files(bench) == 1
    assert len(bench.rows("raw.tills")) == 8
    assert upkeep.verify(bench.warehouse) == []


def test_large_files_and_those_of_another_declaration_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first are read as fast as their rows are, the others wait until their values are moved."""
    bench = Bench(tmp_path)
    monkeypatch.setattr(small_files, "SMALL_BYTES", 10)
    for number in range(9):
        put(bench, number)
        bench.load()
    assert files(bench) == 9
    monkeypatch.undo()
    is_as_declared: Callable[..., bool] = lambda *_: False  # noqa: E731
    monkeypatch.setattr(small_files.SmallFiles, "_is_as_declared", is_as_declared)
    put(bench, 9)
    bench.load()
    assert files(bench) == 10
    monkeypatch.undo()
    put(bench, 10)
    bench.load()
    assert files(bench) == 1


def test_a_reload_beside_a_worker_comes_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that were put together with others meanwhile are the same rows: it isn't begun anew for them."""
    bench = Bench(tmp_path)
    monkeypatch.setattr(small_files, "TOGETHER", 10**9)
    for number in range(8):
        put(bench, number, line(f"L{number}", f"s{number:03}"), BROKEN)
        bench.load()
    monkeypatch.setattr(small_files, "TOGETHER", 8)
    other, commits = bench.open(), []
    commit = bench.warehouse.ledger.commit_load

    def after_another(*given: Any, **more: Any) -> Any:
        commits.append(other._small_files(bench.datasets["tills"]).put_together(DAY, run_id=""))
        return commit(*given, **more)

    monkeypatch.setattr(bench.warehouse.ledger, "commit_load", after_another)
    assert len(bench.load(reload=True).new_keys) == 8
    assert commits == [16]
    assert len(bench.rows("raw.tills")) == 8
    assert upkeep.verify(bench.warehouse) == []


def test_a_damaged_file_fails_no_load_of_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The load is committed by then; the damage is logged, and told by whoever reads the file."""
    bench = Bench(tmp_path)
    for number in range(7):
        put(bench, number)
        bench.load()
    file = bench.warehouse.ledger.files("raw.tills")[3]
    bench.warehouse.store.absolute(file.path).write_bytes(b"spoiled")
    bench.warehouse.close()
    bench.warehouse = bench.open()
    put(bench, 7)
    assert bench.load().new_keys == (key(7),)
    assert "its small files stay as they are" in caplog.text
    assert len(upkeep.verify(bench.warehouse)) == 1


def test_files_of_another_declaration_hold_up_no_others(tmp_path: Path) -> None:
    """Those that lack a column for good stay beside those that have it, and these are put together."""
    bench = Bench(tmp_path, only(sales("jsonl", AMOUNT)))
    day = WEEK[2]

    def load(number: int) -> None:
        shop = f"s{number:03}"
        record = [{"id": shop, "at": f"{day} 10:00:00", "amount": "1.00"}]
        bench.put(drifting_key("jsonl", day, shop), FORMATS["jsonl"][1](record))
        bench.load("sales", day)
        bench.process("sales", day)

    for number in range(5):
        load(number)
    bench = Bench(tmp_path, only(sales("jsonl", AMOUNT, TIP)))
    for number in range(5, 40):
        load(number)
    assert len(bench.warehouse.ledger.files("raw.sales", first=day, last=day)) < 5 + 3 * small_files.TOGETHER
    assert len(bench.rows("raw.sales")) == 40
    assert upkeep.verify(bench.warehouse) == []


def test_the_pace_of_loads_is_not_that_of_the_days_between_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was put together has objects of many loads, an hour apart."""
    bench = Bench(tmp_path)
    moment = [datetime(2024, 10, 1, 8)]
    monkeypatch.setattr(load_room, "now", lambda: moment[0].isoformat(timespec="microseconds") + "+00:00")
    row_of = load_room.Loader.row_of

    def later(*given: Any, **more: Any) -> Any:
        moment[0] += timedelta(milliseconds=10)
        return row_of(*given, **more)

    monkeypatch.setattr(load_room.Loader, "row_of", later)
    for number in range(16):
        put(bench, 2 * number)
        put(bench, 2 * number + 1)
        bench.load()
        moment[0] += timedelta(hours=1)
    assert files(bench) < 16
    read, seconds = bench.warehouse.ledger.reading_pace("tills")
    assert read > 16 * len(HEADER)
    assert seconds == pytest.approx(0.16, abs=0.02)


@pytest.mark.parametrize("moment", ["before its files are looked up", "before it commits"])
def test_files_that_are_put_together_during_an_adoption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """A process with the former declaration does it while another one moves their values: that one looks again."""
    before, after = only(sales("jsonl", AMOUNT)), only(sales("jsonl", RENAMED, NOTE, TIP))
    day, bench = WEEK[2], Bench(tmp_path / "one", before)
    monkeypatch.setattr(small_files, "TOGETHER", 10**9)
    for shop in "ab":
        bench.put(drifting_key("jsonl", day, shop), FORMATS["jsonl"][1](records(day, shop)))
        bench.load("sales", day)
    restate(bench.warehouse)
    warehouse = declared_otherwise(bench, after)
    what, name = (warehouse.ledger, "files") if moment == "before its files are looked up" else (Adopter, "_commit")
    original = getattr(what, name)
    together: list[int] = []

    def between(*given: Any, **more: Any) -> Any:
        if not together:
            with monkeypatch.context() as patch:
                patch.setattr(small_files, "TOGETHER", 2)
                together.append(bench.warehouse._small_files(before["sales"]).put_together(day, run_id=""))
        return original(*given, **more)

    monkeypatch.setattr(what, name, between)
    restate(warehouse)
    assert together == [2]
    monkeypatch.undo()
    assert_same(warehouse, from_the_start(tmp_path / "two", bench, after))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.booleans(), st.booleans()), min_size=4, max_size=24),
    st.sampled_from([2, 3]),
)
def test_any_history_of_small_loads_gives_what_one_load_gives(
    acts: list[tuple[int, int, bool, bool]], together: int
) -> None:
    """Objects come, are overwritten, say the same as others: whatever is put together when, the tables are those of a rebuild."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(small_files, "TOGETHER", together)
        bench = Bench(Path(folder) / "one")
        bench.put_shops(*(f"s{number:03}" for number in range(7)))
        bench.load("shops")
        bench.process("shops")
        for number, variant, is_loaded, is_processed in acts:
            more = [BROKEN] if variant == 3 else [line(f"L{number}-{variant}", f"s{number:03}", units=str(variant))]
            put(bench, number, line(f"L{number}", f"s{number:03}"), *more)
            if is_loaded:
                bench.load()
            if is_processed:
                bench.process()
        bench.load()
        bench.process()
        assert upkeep.verify(bench.warehouse) == []
        other = Bench(Path(folder) / "other", zone=bench.landing)
        for name in ("shops", "tills"):
            other.load(name)
            other.process(name)
        same(bench, other)


# --- by name


def test_objects_are_taken_by_name(tmp_path: Path) -> None:
    """Only those, once, however often they are named; what else has landed stays news, and comes with the next load."""
    bench = Bench(tmp_path)
    for number in range(4):
        put(bench, number)
    tills = bench.datasets["tills"]
    assert bench.warehouse.take(tills, DAY, [key(1), key(2), key(99)]) == {DAY}
    assert bench.states() == {key(1): "loaded", key(2): "loaded"}
    assert bench.warehouse.take(tills, DAY, [key(1)]) == set()
    assert len(bench.load().new_keys) == 2
    assert bench.warehouse.take(tills, DAY, [key(number) for number in range(4)]) == set()
    put(bench, 1, line("other", "s001"))
    assert bench.warehouse.take(tills, DAY, [key(1)]) == {DAY}
    assert [row[0] for row in bench.rows("raw.tills", "id")] == ["L0", "L2", "L3", "other"]


def test_many_names_are_listed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request for each would take longer than all of the day's."""
    monkeypatch.setattr(load_room, "MOST_NAMED", 2)
    bench = Bench(tmp_path)
    for number in range(5):
        put(bench, number)
    bench.warehouse.take(bench.datasets["tills"], DAY, [key(number) for number in range(1, 4)])
    assert sorted(bench.states()) == [key(1), key(2), key(3)]


def test_an_object_that_says_what_another_has_said_is_a_double_by_name_too(tmp_path: Path) -> None:
    """The first in the order of claims stands, whichever was named first."""
    bench = Bench(tmp_path)
    put(bench, 5, line("A", "s005"))
    tills = bench.datasets["tills"]
    bench.warehouse.take(tills, DAY, [key(5)])
    content = HEADER + line("A", "s005")
    later = DAY + timedelta(days=1)
    bench.put(f"tills/{later}/s005.csv", content)
    bench.warehouse.take(tills, later, [f"tills/{later}/s005.csv"])
    assert bench.states(day=later) == {f"tills/{later}/s005.csv": "duplicate"}
    put(bench, 5, line("B", "s005"))
    bench.warehouse.take(tills, DAY, [key(5)])
    assert bench.states(day=later) == {f"tills/{later}/s005.csv": "loaded"}
    assert upkeep.verify(bench.warehouse) == []


def test_what_waits_for_another_is_settled_by_name_too(tmp_path: Path) -> None:
    """A twin of a twin: when the one that stood for both says something else, the next stands for the last."""
    bench, tills = Bench(tmp_path), Bench(tmp_path).datasets["tills"]
    days = [DAY + timedelta(days=number) for number in range(3)]
    for day in days:
        bench.put(f"tills/{day}/a.csv", HEADER + line("A", "a"))
        bench.load(day=day)
    assert [bench.states(day=day)[f"tills/{day}/a.csv"] for day in days] == ["loaded", "duplicate", "duplicate"]
    for number, day in enumerate(days[:2]):
        bench.put(f"tills/{day}/a.csv", HEADER + line(f"B{number}", "a"))
    bench.put(f"tills/{days[2]}/news.csv", HEADER + line("N", "a"))
    bench.warehouse.take(tills, days[0], [f"tills/{days[0]}/a.csv"])
    assert [bench.states(day=day)[f"tills/{day}/a.csv"] for day in days] == ["loaded"] * 3
    # What nobody waited for stays news.
    assert f"tills/{days[2]}/news.csv" not in bench.states(day=days[2])
    assert upkeep.verify(bench.warehouse) == []


def test_a_key_of_another_day_is_left_alone(tmp_path: Path) -> None:
    """Whatever that day's object waits for, it isn't missing."""
    bench, tills = Bench(tmp_path), Bench(tmp_path).datasets["tills"]
    put(bench, 1)
    bench.load()
    assert bench.warehouse.take(tills, DAY + timedelta(days=1), [key(1)]) == set()
    ledger = bench.warehouse.ledger
    with ledger.writing() as connection:
        row = ledger.current_object("tills", key(1))
        assert row is not None
        ledger._put_object(connection, replace(row, state="pending"))
    bench.warehouse.take(tills, DAY - timedelta(days=1), [key(1)])
    assert bench.states()[key(1)] == "loaded"


def test_a_fetch_counts_as_a_whole(tmp_path: Path) -> None:
    """Which pages count is told by all of them: they aren't taken by name."""
    dataset = snapshots()
    bench = Bench(tmp_path, Datasets([dataset]))
    with pytest.raises(WarehouseError, match="told by all of them"):
        bench.warehouse.take(dataset, DAY, ["any"])


# --- the order of rows


def test_rows_of_several_shards_and_hours_have_one_order(tmp_path: Path) -> None:
    """Whether they are loaded at once or one after the other, and although a segment landed again with others around it."""
    at = datetime(DAY.year, DAY.month, DAY.day, 8)

    def of_shard(shard: str, first: int, last: int, hours: int) -> tuple[str, bytes]:
        values = [value(one).replace(b'"S', f'"S{shard}-'.encode()) for one in range(first, last + 1)]
        return segment(first, last, shard=shard, hour=at + timedelta(hours=hours), values=values)

    some = [
        of_shard(shard, first, first + 4, number) for number, first in enumerate((0, 5, 10)) for shard in ("0", "1")
    ]
    # Positions that come earlier, in a later hour.
    some += [of_shard("1", 20, 24, 3), of_shard("1", 15, 22, 4)]
    contents = []
    for name, groups in {
        "at once": [some],
        "one by one": [[one] for one in some],
        "backwards": [[one] for one in reversed(some)],
    }.items():
        bench = Bench(tmp_path / name, STREAMED)
        for group in groups:
            for where, content in group:
                bench.put(where, content)
            bench.load("pos_sales")
        bench.process("pos_sales")
        (row,) = bench.warehouse.ledger.partitions("processed.pos_sales")
        contents.append(row.content)
        assert upkeep.verify(bench.warehouse) == []
        assert len(bench.rows("processed.pos_sales")) == 40
    assert len(set(contents)) == 1
