"""Certificates of replays: equal for a replay, and for whatever has changed the difference row by row, held against plain Python."""

import dataclasses
import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion_platform.dataset import Datasets
from ingestion_platform.errors import LandingError, NotMaterialized, WarehouseError
from ingestion_platform.table import VARCHAR, Column
from ingestion_platform.warehouse import quarantine, upkeep
from ingestion_platform.warehouse.certificates import Certificate, Compared, state_of
from ingestion_platform.warehouse.engine import connect
from ingestion_platform.warehouse.files import FileStore
from ingestion_platform.warehouse.fingerprints import State, compare
from ingestion_platform.warehouse.ledger_rows import FileRow
from ingestion_platform.warehouse.quarantine import Chosen
from ingestion_platform.warehouse.replay import certified_replay
from ingestion_platform_tests.warehouse.building import DAY, HEADER, SHOPS, TILLS, Bench, differences, line
from ingestion_platform_tests.warehouse.test_quarantine import bench, caught_up, mended

WHO: dict[str, Any] = {"by": "Thandi", "why": "to see that it is the same"}
NEXT = DAY + timedelta(days=1)


def certified(one: Bench, first: date = DAY, last: date = NEXT) -> Certificate:
    """A certified replay of tills."""
    return certified_replay(one.warehouse, one.datasets["tills"], first, last, **WHO)


def by_partition(certificate: Certificate) -> dict[str, Compared]:
    """`table day` → what was compared."""
    return {f"{one.table} {one.day}": one for one in certificate.compared}


def rows_of(one: Bench, table: str, key: Sequence[str]) -> dict[tuple[object, ...], dict[str, object]]:
    """A table's rows by key, in plain Python."""
    found = one.warehouse.query(f"select * from {table}").to_pylist()
    return {tuple(row[column] for column in key): row for row in found}


def test_a_replay_is_equal(tmp_path: Path) -> None:
    """Everything was read and computed again, every partition of every layer is compared, and none differs; a second one says the same."""
    one = caught_up(tmp_path)
    before = one.export()
    first, second = certified(one), certified(one)
    assert first.is_equal
    assert sorted(by_partition(first)) == [
        "processed.tills 2024-10-01", "processed.tills 2024-10-02", "quarantine.tills 2024-10-01", "quarantine.tills 2024-10-02",
        "raw.tills 2024-10-01", "raw.tills 2024-10-02", "reports.by_shop 2024-10-01", "reports.by_shop 2024-10-02",
    ]  # fmt: skip
    assert [one.hash_after for one in first.compared] == [one.hash_before for one in second.compared]
    assert str(first) == "8 partitions compared: all equal"
    assert list(differences(before, one.export())) == []
    assert [row[0] for row in one.rows("platform.certificates", "verdict")] == ["equal"] * 16


def test_a_changed_declaration_is_explained_row_by_row(tmp_path: Path) -> None:
    """The rows that the certificate tells are those that plain Python finds, and it says that the declaration has changed."""
    one = caught_up(tmp_path)
    before = rows_of(one, "processed.tills", ["id"])
    one.warehouse.close()
    columns = tuple(
        dataclasses.replace(column, maximum=99) if column.name == "units"
        else dataclasses.replace(column, null_values=("2.50",)) if column.name == "price_zar" else column
        for column in TILLS.columns
    )  # fmt: skip
    two = bench(tmp_path, Datasets([SHOPS, dataclasses.replace(TILLS, columns=columns)]))
    certificate = certified(two)
    after = rows_of(two, "processed.tills", ["id"])
    of_day = {key: row for key, row in after.items() if row["_day"] == DAY}
    found = by_partition(certificate)[f"processed.tills {DAY}"]
    changed = [key for key in before if key in of_day and before[key] != of_day[key]]
    assert (found.rows_before, found.rows_after) == (len(before), len(of_day))
    assert (found.difference.added, found.difference.gone, found.difference.changed) == (
        len(of_day.keys() - before.keys()),
        len(before.keys() - of_day.keys()),
        len(changed),
    )
    assert found.difference.columns == {"price_zar": len(changed)}
    assert found.difference.added == 3
    shown = [one for one in found.difference.examples if one["kind"] == "changed"]
    assert {one["key"]["id"] for one in shown} == {str(key[0]) for key in changed}
    assert all((one["before"], one["after"]) == ({"price_zar": "2.50"}, {"price_zar": None}) for one in shown)
    assert found.why == ("its columns, rules or days are declared otherwise",)
    assert certificate.is_explained
    assert not certificate.is_equal
    report = by_partition(certificate)[f"reports.by_shop {DAY}"]
    assert report.verdict == "differs"
    assert report.difference.columns == {"units": 2}
    assert report.why == (f"processed.tills has changed: {DAY}",)
    assert by_partition(certificate)[f"raw.tills {DAY}"].verdict == "equal"
    assert certified(two).is_equal


def test_a_changed_file_is_named(tmp_path: Path) -> None:
    """Objects that came, were sent anew or are read otherwise stand in the reasons of raw; what is made of them points there."""
    one = caught_up(tmp_path)
    one.put(f"tills/{DAY}/b.csv", HEADER + line("4", shop="b", units="3"))
    one.put(f"tills/{DAY}/c.csv", HEADER + line("9", shop="c"))
    certificate = certified(one)
    raw = by_partition(certificate)[f"raw.tills {DAY}"]
    assert raw.why == (
        f"1 objects came for the first time: tills/{DAY}/c.csv",
        f"1 objects were sent anew: tills/{DAY}/b.csv",
    )
    assert (raw.difference.added, raw.difference.gone, raw.difference.changed) == (1, 2, 1)
    processed = by_partition(certificate)[f"processed.tills {DAY}"]
    assert processed.why == ("its raw rows are others, or are read otherwise",)
    assert (processed.difference.added, processed.difference.changed) == (1, 1)
    assert by_partition(certificate)[f"quarantine.tills {DAY}"].why == raw.why


def test_a_column_that_is_adopted_is_told_as_such(tmp_path: Path) -> None:
    """The new column is named, the rows that changed are those whose values moved."""
    one = bench(tmp_path)
    one.put_shops()
    one.put(f"tills/{DAY}/a.csv", HEADER.strip() + ",till\n" + line("1").strip() + ",T7\n" + line("2").strip() + ",\n")
    upkeep.catch_up(one.warehouse)
    one.warehouse.close()
    two = bench(
        tmp_path,
        Datasets([SHOPS, dataclasses.replace(TILLS, columns=(*TILLS.columns, Column("till", VARCHAR, "Which.")))]),
    )
    found = by_partition(certified(two))
    assert found[f"raw.tills {DAY}"].difference.new_columns == ("till",)
    assert found[f"raw.tills {DAY}"].why == (f"1 objects are read as another declaration says: tills/{DAY}/a.csv",)
    assert found[f"processed.tills {DAY}"].difference.new_columns == ("till",)
    assert found[f"processed.tills {DAY}"].difference.changed == 0


def test_what_is_personal_stays_out_of_a_certificate(tmp_path: Path) -> None:
    """Neither the certificate nor its table has a value of a masked column, nor a record as it was sent."""
    one = bench(tmp_path)
    one.put_shops()
    one.put(f"tills/{DAY}/a.csv", HEADER + line("1", card="SECRET1") + line("2", card="SECRET2", units="x"))
    upkeep.catch_up(one.warehouse)
    one.put(f"tills/{DAY}/a.csv", HEADER + line("1", card="SECRET3") + line("2", card="SECRET4", units="y"))
    certificate = certified(one)
    assert by_partition(certificate)[f"raw.tills {DAY}"].difference.columns["card"] == 2
    landed = (one.landing_folder / certificate.key).read_text()
    assert "(personal)" in landed
    assert "SECRET" not in landed


def test_a_discard_is_a_reason(tmp_path: Path) -> None:
    """What a person has taken back shows in the next certificate as rows that came, and as his decision."""
    one = caught_up(tmp_path)
    quarantine.discard(one.warehouse, Chosen(dataset="tills", rules=("units: above maximum",)), **WHO)
    one.warehouse.close()
    two = bench(tmp_path, mended())
    upkeep.catch_up(two.warehouse)
    held = two.warehouse.certificates.hold(
        "tills", DAY, NEXT, lambda: state_of(two.warehouse, two.datasets["tills"], DAY, NEXT)
    )
    assert not held.is_resumed
    quarantine.reopen(two.warehouse, Chosen(dataset="tills"), **WHO)
    found = by_partition(certified(two))[f"processed.tills {DAY}"]
    assert (found.difference.added, found.why) == (3, ("rows were discarded or reopened",))


def test_a_difference_without_a_reason_is_said_to_have_none(tmp_path: Path) -> None:
    """A query that isn't a function of its tables gives another result of the same: nobody is told that this is all right."""
    one = caught_up(tmp_path)
    folder = tmp_path / "sql" / "reports"
    (folder / "by_shop.sql").write_text(
        (folder / "by_shop.sql")
        .read_text()
        .replace("sum(units)::bigint", "(random() * 1e15)::bigint + 0 * sum(units)::bigint")
    )
    one.warehouse.close()
    two = Bench(tmp_path, one.datasets, sql=tmp_path / "sql")
    upkeep.catch_up(two.warehouse)
    certificate = certified(two)
    found = by_partition(certificate)[f"reports.by_shop {DAY}"]
    assert (found.verdict, found.is_explained, found.why) == ("differs", False, ())
    assert not certificate.is_explained
    assert "for no reason that is known" in str(certificate)


def test_a_certificate_survives_a_rebuild(tmp_path: Path) -> None:
    """It has landed: the warehouse that is made anew shows the same."""
    one = caught_up(tmp_path)
    certified(one)
    before = one.rows("platform.certificates")
    one.warehouse.close()
    upkeep.rebuild(one.open)
    again = one.open()
    rows = again.query("select * from platform.certificates order by all").to_pylist()
    assert [tuple(row.values()) for row in rows] == before
    assert len(before) == 8


def test_a_killed_replay_is_gone_on_with(tmp_path: Path) -> None:
    """The certificate of the next one is about the state before the first, and the files of that state outlive the sweep."""
    one = caught_up(tmp_path)
    one.put(f"tills/{DAY}/c.csv", HEADER + line("9", shop="c"))

    class Killed(Exception):
        pass

    def kill(text: str) -> None:
        if text.startswith("processed.tills"):
            raise Killed

    with pytest.raises(Killed):
        certified_replay(one.warehouse, TILLS, DAY, NEXT, **WHO, tell=kill)
    with one.warehouse.ledger.writing() as connection:
        connection.execute("update files set dropped_at = '2024-01-01' where dropped_at is not null")
    one.warehouse.close()
    two = bench(tmp_path)
    two.load("shops")
    told: list[str] = []
    certificate = certified_replay(two.warehouse, TILLS, DAY, NEXT, **WHO, tell=told.append)
    assert "never ended: the certificate is about the state before it" in told[0]
    found = by_partition(certificate)[f"processed.tills {DAY}"]
    assert (found.difference.added, found.difference.gone, found.difference.changed) == (1, 0, 0)
    assert two.warehouse.certificates.held_paths() == frozenset()
    assert certified(two).is_equal


def test_days_without_anything_are_told(tmp_path: Path) -> None:
    """A certificate about nothing would look like one that says that all is well."""
    one = caught_up(tmp_path)
    with pytest.raises(NotMaterialized, match="has nothing from 2025-01-01"):
        certified(one, date(2025, 1, 1), date(2025, 1, 2))
    with pytest.raises(WarehouseError, match="before the first"):
        certified(one, NEXT, DAY)
    with pytest.raises(LandingError, match="by is a name"):
        certified_replay(one.warehouse, TILLS, DAY, DAY, by="", why="x")


# --- fingerprints alone


def write(folder: Path, table: pa.Table, called: str) -> FileRow:
    """A file as a partition has it."""
    path = folder / f"{called}.parquet"
    engine = duckdb.connect()
    engine.register("rows", table)
    engine.execute(f"copy (select * from rows) to '{path}' (format parquet)")
    engine.close()
    content = path.read_bytes()
    return FileRow(0, "", path.name, table.num_rows, len(content), hashlib.sha256(content).hexdigest())


values = st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4))
numbers = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))
floats = st.one_of(st.none(), st.floats(allow_nan=False))
row = st.tuples(values, numbers, floats)


def table_of(rows: Sequence[tuple[Any, Any, Any]]) -> pa.Table:
    """Rows of text, whole numbers and floating ones."""
    kinds: list[Any] = [pa.string(), pa.int64(), pa.float64()]
    return pa.table({name: pa.array([one[n] for one in rows], kinds[n]) for n, name in enumerate(("t", "i", "f"))})


def fingerprint(folder: Path, *parts: pa.Table) -> str:
    """Of a partition of so many files."""
    engine, store = connect(threads=1), FileStore(folder)
    files = [write(folder, part, f"{os.urandom(4).hex()}") for part in parts]
    found = State(engine, store, files).fingerprint().hex
    engine.close()
    return found


@settings(max_examples=25)
@given(st.lists(row, min_size=1, max_size=8), st.randoms(use_true_random=False), st.data())
def test_a_fingerprint_is_of_the_rows_alone(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], random: Any, data: Any
) -> None:
    """In any order, in any files, with its columns in any order it is the same; with any one value another, or a row twice, it isn't."""
    folder = tmp_path_factory.mktemp("rows")
    whole = fingerprint(folder, table_of(rows))
    shuffled = list(rows)
    random.shuffle(shuffled)
    cut = data.draw(st.integers(0, len(rows)))
    parts = [table_of(part) for part in (shuffled[:cut], shuffled[cut:]) if part]
    assert fingerprint(folder, *parts) == whole
    assert fingerprint(folder, table_of(rows).select(["f", "t", "i"])) == whole
    assert fingerprint(folder, table_of([*rows, rows[0]])) != whole
    assert fingerprint(folder, table_of(rows[1:])) != whole
    place, column = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.integers(0, 2))
    other = list(rows[place])
    other[column] = data.draw(
        [values, numbers, floats][column].filter(lambda new: repr(new) != repr(rows[place][column]))
    )
    assert fingerprint(folder, table_of([*rows[:place], tuple(other), *rows[place + 1 :]])) != whole


def test_a_fingerprint_is_the_sum_of_md5s(tmp_path: Path) -> None:
    """Plain Python finds the same number: of each row the texts by column, with their length, NULL told from every text."""
    rows = [("a", 1, 0.5), ("a", 1, 0.5), (None, 12, None), ("é;1:n", None, -0.0)]
    engine, store = connect(threads=1), FileStore(tmp_path)
    found = State(engine, store, [write(tmp_path, table_of(rows), "x")]).fingerprint()
    total = 0
    for text, whole, real in rows:
        shown = [None if real is None else repr(real), None if whole is None else str(whole), text]
        canonical = ";".join("n" if one is None else f"{len(one)}:{one}" for one in shown)
        digest = hashlib.md5(canonical.encode()).digest()
        total += (int.from_bytes(digest[:8], "little") << 64) + int.from_bytes(digest[8:], "little")
    assert (found.rows, found.sum) == (4, total % 2**128)


def test_a_type_that_changes_is_another_fingerprint(tmp_path: Path) -> None:
    """1 as a number and 1 as text look alike, and aren't; NULL isn't the empty text."""
    one = fingerprint(tmp_path, pa.table({"x": pa.array([1], pa.int64())}))
    assert len({
        one,
        fingerprint(tmp_path, pa.table({"x": pa.array([1], pa.int32())})),
        fingerprint(tmp_path, pa.table({"x": pa.array(["1"])})),
        fingerprint(tmp_path, pa.table({"y": pa.array([1], pa.int64())})),
        fingerprint(tmp_path, pa.table({"x": pa.array([None], pa.int64())})),
        fingerprint(tmp_path, pa.table({"x": pa.array([""])})),
    }) == 6  # fmt: skip


keyed = st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["a", "b", None]), st.integers(0, 2)), max_size=10)


@settings(max_examples=40)
@given(keyed, keyed)
def test_a_difference_is_what_plain_python_finds(
    tmp_path_factory: pytest.TempPathFactory, before: list[Any], after: list[Any]
) -> None:
    """Rows that came, went and changed, by key, with keys that come more than once."""
    folder = tmp_path_factory.mktemp("rows")
    engine, store = connect(threads=1), FileStore(folder)

    def state(rows: list[Any], called: str) -> State:
        table = pa.table({
            "k": pa.array([one[0] for one in rows], pa.int64()), "t": pa.array([one[1] for one in rows], pa.string()),
            "i": pa.array([one[2] for one in rows], pa.int64()),
        })  # fmt: skip
        return State(engine, store, [write(folder, table, called)])

    found = compare(engine, state(before, "b"), state(after, "a"), ["k"], frozenset())
    added, gone, changed = expected(before, after)
    assert (found.added, found.gone, found.changed) == (added, gone, changed)  # fmt: skip
    assert sum(found.columns.values()) >= found.changed
    assert set(found.columns) <= {"t", "i"}


def expected(before: list[Any], after: list[Any]) -> tuple[int, int, int]:
    """Rows that are the same in both count as such first; what is left of a key changed as far as both have it."""

    def canonical(one: Any) -> str:
        texts = [str(one[2]), str(one[0]), one[1]]
        return hashlib.md5(
            ";".join("n" if text is None else f"{len(text)}:{text}" for text in (texts[0], texts[1], texts[2])).encode()
        ).hexdigest()

    left, right = Counter(map(canonical, before)), Counter(map(canonical, after))
    keys = {canonical(one): one[0] for one in (*before, *after)}
    counts: Counter[str] = Counter()
    for key in set(keys.values()):
        gone = sum(count for hash_, count in (left - right).items() if keys[hash_] == key)
        added = sum(count for hash_, count in (right - left).items() if keys[hash_] == key)
        counts["changed"] += min(gone, added)
        counts["gone"] += gone - min(gone, added)
        counts["added"] += added - min(gone, added)
    return counts["added"], counts["gone"], counts["changed"]
