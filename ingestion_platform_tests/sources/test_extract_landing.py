"""What of an extract lands, and when: over a database in memory, killed at every step, beside another one, with notes that are damaged."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingestion_platform.database import Database, Extract, ExtractedRows, ExtractFile, RowCursor, Split
from ingestion_platform.dataset import EXTRACTED, EXTRACTED_COLUMNS, Daily, Dataset, Datasets
from ingestion_platform.errors import DeclarationError, LandingError, ObjectRejected, SettingsError, SourceUnavailable
from ingestion_platform.fetch_folders import fetches
from ingestion_platform.formats import Field, read_records
from ingestion_platform.formats.extracts import RowsNote, RowsWriter
from ingestion_platform.landing import LandingZone, open_landing
from ingestion_platform.settings import Settings
from ingestion_platform.sources.extract import Extraction
from ingestion_platform.sources.extracted import ExtractNote, LandedExtract, window_of
from ingestion_platform.sources.opening import Connections, open_database
from ingestion_platform.table import VARCHAR, Column, Mask
from ingestion_platform.warehouse import upkeep
from ingestion_platform.warehouse.forget import forget, person_of
from ingestion_platform_tests.sources.extract_world import DAY, NOON, ZONE
from ingestion_platform_tests.sources.memory_database import MemoryDatabase, Row
from ingestion_platform_tests.warehouse.building import Bench, Through

SHOP = Database(name="shop", connections=2)


def declared(**changes: Any) -> Extract:
    """An extract of all rows, in small groups."""
    said: dict[str, Any] = {
        "name": "things", "description": "Things.", "database": SHOP, "table": "public.things", "first_day": DAY, "group_bytes": 1,
    }  # fmt: skip
    return Extract(**{**said, **changes})


NEW = declared(cursor=RowCursor(column="at"), key=("id",), sweep_hours=None)


def dataset(extract: Extract) -> Dataset:
    """Its table."""
    is_changes = extract.cursor is not None
    columns = (Column("id", VARCHAR, "Key.", required=True), Column("at", VARCHAR, "When."))
    return Dataset(
        name="things",
        description="Things.",
        source=ExtractedRows(extract),
        kind="changes" if is_changes else "snapshots",
        changes=EXTRACTED if is_changes else None,
        columns=(*columns, *EXTRACTED_COLUMNS) if is_changes else columns,
        primary_key=("id",),
        daily=Daily(DAY),
    )


class Killed(BaseException):
    """The process ends here."""


class KillingZone(Through):
    """A landing zone that kills whoever writes the object of a number: before it is written, or just after."""

    def __init__(self, zone: LandingZone, number: int, *, is_written: bool) -> None:
        super().__init__(zone)
        self.left = number
        self.is_written = is_written

    def put_if_absent(self, key: str, content: bytes) -> bool:
        """Count down."""
        self.left -= 1
        if self.left == 0 and not self.is_written:
            raise Killed
        done = super().put_if_absent(key, content)
        if self.left == 0:
            raise Killed
        return done


class Site:
    """A landing zone, a database in memory, and a warehouse."""

    def __init__(self, folder: Path, extract: Extract) -> None:
        (folder / "landing").mkdir(parents=True)
        self.folder = folder
        self.extract = extract
        self.memory = MemoryDatabase(SHOP)
        self.at = NOON
        self._bench: Bench | None = None

    def now(self) -> datetime:
        """A second later each time."""
        self.at += timedelta(seconds=1)
        return self.at

    def landed(self, wrap: Callable[[LandingZone], Any] = lambda zone: zone) -> LandedExtract:
        """As a new process sees it."""
        return LandedExtract(self.extract, wrap(open_landing(str(self.folder / "landing"))))

    def run(self, wrap: Callable[[LandingZone], Any] = lambda zone: zone, day: date = DAY, **options: Any) -> Any:
        """Extract."""
        extraction = Extraction(self.landed(wrap), self.memory, ZONE, now=self.now, first_wait_seconds=0.001)
        return extraction.run(day, **options)

    def rows(self) -> list[tuple[object, ...]]:
        """Of the table that is made of it."""
        self._bench = self._bench or Bench(self.folder, datasets=Datasets([dataset(self.extract)]))
        upkeep.catch_up(self._bench.warehouse)
        return self._bench.rows("processed.things" + ("_current" if self.extract.cursor else ""), "id", "at")

    def assert_same(self) -> None:
        """The table is the database's."""
        assert self.rows() == sorted((row["id"], row["at"]) for row in self.memory.rows)


def row(number: int, at: str = "a") -> Row:
    """A row of the table."""
    return {"id": f"{number:03}", "at": at}


@pytest.mark.parametrize("is_written", [False, True])
@pytest.mark.parametrize("kind", ["whole", "new"])
def test_a_kill_at_any_step_costs_nothing(tmp_path: Path, kind: str, is_written: bool) -> None:
    """Before or after any object is written: the table is right all the time, and the next extract makes it right for now."""
    site = Site(tmp_path, declared() if kind == "whole" else NEW)
    site.memory.rows = [row(number) for number in range(6)]
    site.run()
    site.assert_same()
    for step in range(1, 12):
        before = site.rows()
        gone = site.memory.rows.pop(0)
        site.memory.rows += [row(100 + step, f"b{step:02}"), {**site.memory.rows.pop(0), "at": f"b{step:02}"}]
        options: dict[str, Any] = {"sweep": True} if kind == "new" else {}
        standing = site.landed().last_whole(DAY)
        killing = partial(KillingZone, number=step, is_written=is_written)
        try:
            site.run(killing, **options)
            is_killed = False
        except Killed:
            is_killed = True
        if site.landed().last_whole(DAY) == standing:
            assert is_killed
            assert site.rows() == before, gone
            site.run(**options)
        site.assert_same()
        if not is_killed:
            return
    pytest.fail("it was killed at every step, and there are fewer")


def test_the_first_difference_lands_everything(tmp_path: Path) -> None:
    """Groups before it are copied, so that the extract is whole by itself; none of it is what another moment had."""
    site = Site(tmp_path, declared())
    site.memory.rows = [row(number) for number in range(5)]
    site.run()
    assert not site.run().has_landed
    site.memory.rows[3]["at"] = "z"
    assert site.run().has_landed
    site.assert_same()
    (tmp_path / "two").mkdir()
    last = site.landed().fetches(DAY)[-1]
    assert len(last.groups) == 5
    for key in last.groups:
        found = pq.ParquetFile(site.folder / "landing" / key).metadata.metadata or {}
        assert json.loads(found[b"extract"])["fetch"] == last.name
    # Fewer rows, the others being the same, are another state too.
    site.memory.rows.pop()
    assert site.run().has_landed
    site.assert_same()


def test_parts_are_read_side_by_side(tmp_path: Path) -> None:
    """By as many connections as are allowed, and the first that fails ends all."""
    site = Site(tmp_path, declared(group_bytes=100))
    site.memory.parts = 7
    site.memory.rows = [row(number) for number in range(100)]
    assert site.run().rows == 100
    site.assert_same()

    def fail(what: str) -> None:
        if what == "row 050":
            raise SourceUnavailable("the cable", "plug it in")

    site.memory.before = fail
    with pytest.raises(SourceUnavailable, match="the cable"):
        site.run()
    assert len([fetch for fetch in site.landed().fetches(DAY) if fetch.is_whole]) == 1
    site.assert_same()


def test_a_sweep_that_is_interrupted_is_due_again(tmp_path: Path) -> None:
    """Nothing of it lands."""
    site = Site(tmp_path, declared(cursor=RowCursor(column="at"), key=("id",), sweep_hours=1))
    site.memory.rows = [row(number) for number in range(4)]
    site.run()
    site.memory.rows.pop()
    site.at += timedelta(hours=2)

    def fail(what: str) -> None:
        if what == "keys":
            raise SourceUnavailable("the cable", "plug it in")

    site.memory.before = fail
    with pytest.raises(SourceUnavailable):
        site.run()
    site.memory.before = lambda _: None
    assert site.run().removed == 1
    site.assert_same()


def test_a_clock_that_is_set_back_does_not_mix_extracts_up(tmp_path: Path) -> None:
    """A name sorts after the one before it."""
    site = Site(tmp_path, NEW)
    site.memory.rows = [row(1, "a")]
    site.run()
    site.at -= timedelta(hours=5)
    site.memory.rows = [row(1, "b")]
    site.run()
    site.at -= timedelta(days=3)
    site.memory.rows = [row(1, "c")]
    site.run(day=DAY + timedelta(days=1))
    site.assert_same()
    names = [fetch.name for day in (DAY, DAY + timedelta(days=1)) for fetch in site.landed().fetches(day)]
    assert names == sorted(names)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"extract": "x"}', b"\xff", b'{"groups": 3}'])
def test_a_note_that_is_none_is_told(tmp_path: Path, content: bytes) -> None:
    """With its key, and what to do."""
    site = Site(tmp_path, NEW)
    site.memory.rows = [row(1)]
    site.run()
    done = site.landed().fetches(DAY)[-1].done
    assert done is not None
    (site.folder / "landing" / done).write_bytes(content)
    with pytest.raises(LandingError, match=r"is no note of an extract.*move it away"):
        site.run()


def test_a_group_that_is_damaged_stops_a_sweep_and_not_the_cursor(tmp_path: Path) -> None:
    """The sweep says so, with the key, and what to do; beginning anew goes on."""
    site = Site(tmp_path, NEW)
    site.memory.rows = [row(1), row(2)]
    site.run()
    fetch = site.landed().fetches(DAY)[-1]
    path = site.folder / "landing" / fetch.groups[-1]
    path.write_bytes(path.read_bytes()[:-9])
    site.memory.rows.append(row(3, "b"))
    assert site.run().rows == 1
    with pytest.raises(LandingError, match=r"is damaged.*restart: true"):
        site.run(sweep=True)
    assert site.run(restart=True).rows == 3


NOTE = RowsNote("things", "20241001T100000000000Z-000000", 1, "SNAPSHOT", "2024-10-01T10:00:00+00:00", {"id": "text"})


def group(table: pa.Table, note: RowsNote = NOTE) -> bytes:
    """A group of rows."""
    writer = RowsWriter(table.column_names)
    writer.add(table)
    return writer.finish(note)


def test_a_group_is_read_as_it_was_written() -> None:
    """NULL and an empty text are two things; what nobody asks for is in _extra; what is around is each row's."""
    content = group(
        pa.table(
            {"id": ["1", "", None], "@x": ["a", None, "c"]},
            schema=pa.schema([("id", pa.string()), ("@x", pa.string())]),
        )
    )
    fields = [Field("id", "id"), Field("op", "@operation"), Field("position", "@position"), Field("gone", "gone")]
    found = read_records(ExtractFile(), content, fields)
    assert found.table.select(["id", "op", "gone"]).to_pydict() == {
        "id": ["1", "", None], "op": ["SNAPSHOT"] * 3, "gone": [None] * 3,
    }  # fmt: skip
    assert found.table.column("_extra").to_pylist() == ['{"@@x":"a"}', '{"@@x":null}', '{"@@x":"c"}']
    assert found.table.column("position").to_pylist()[2] == "202410011000000000000000001:3"
    assert (found.unknown_columns, found.missing_columns) == (("@@x",), ("gone",))


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "another", "typed", "bomb"])
def test_a_group_that_is_none_is_rejected(damage: str) -> None:
    """Whole, with a reason."""
    content = group(pa.table({"id": [f"{number}" * 50 for number in range(1000)]}))
    format = ExtractFile()
    sink = pa.BufferOutputStream()
    match damage:
        case "cut":
            content = content[:-100]
        case "flipped":
            content = content[:100] + bytes([content[100] ^ 1]) + content[101:]
        case "empty":
            content = b""
        case "another":
            pq.write_table(pa.table({"id": ["1"]}), sink)
            content = sink.getvalue().to_pybytes()
        case "typed":
            metadata = {"extract": json.dumps({name: getattr(NOTE, name) for name in NOTE.__slots__})}
            with pq.ParquetWriter(sink, pa.schema([("id", pa.int64())])) as writer:
                writer.add_key_value_metadata(metadata)
            content = sink.getvalue().to_pybytes()
        case "bomb":
            format = ExtractFile(max_bytes=100)
    with pytest.raises(ObjectRejected):
        read_records(format, content, [Field("id", "id")])


def test_keys_tell_what_counts() -> None:
    """Of a day the last whole extract, with a cursor all whole ones; what isn't named as the platform names it is nobody's."""
    extract = declared()
    first, second, third = (f"20241001T10000{number}000000Z-00000{number}" for number in range(3))
    keys = [extract.group_key(DAY, name, number) for name in (first, second, third) for number in (1, 2)]
    keys += [extract.done_key(DAY, first, 2), extract.done_key(DAY, second, 2), extract.done_key(DAY, third, 3)]
    counting, replaced = ExtractedRows(extract).choose(keys)
    assert counting == frozenset(keys[2:4])
    assert set(replaced) == set(keys[0:2])
    counting, replaced = ExtractedRows(NEW).choose(keys)
    assert (counting, replaced) == (frozenset(keys[0:4]), {})
    assert ExtractedRows(extract).match(keys[0]) == (DAY, {})
    for other in (
        "extracts/things/2024/10/01/x/00001.parquet",
        keys[0] + ".tmp",
        f"{extract.root}2024/10/01/{first}/1.parquet",
    ):
        assert ExtractedRows(extract).match(other) is None
    assert [fetch.is_whole for fetch in fetches(keys)] == [True, True, False]


def test_a_note_is_read_as_it_was_written() -> None:
    """Digests of the window among it."""
    digests = [bytes([number]) * 16 for number in range(3)]
    note = ExtractNote("plan", (), 3, "2024-10-01T10:00:00+00:00", "x", window_of(digests), ("2024-10-01", "n"), None)
    again = ExtractNote.parse(note.written("things", DAY), "key")
    assert again == note
    assert again.digests == frozenset(digests)
    assert again.swept_at is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": "No"}, "snake_case"),
        ({"description": " "}, "no description"),
        ({"table": None}, "a table or a query"),
        ({"query": "select 1"}, "a table or a query"),
        ({"table": "things"}, "not schema.table"),
        ({"table": "a.b.c"}, "not schema.table"),
        ({"split": Split("id", ("1",))}, "ranges of its pages"),
        ({"cursor": RowCursor(column="at")}, "without a key"),
        ({"cursor": RowCursor(column="at"), "key": ("id",), "columns": ("id",)}, "none of the columns"),
        ({"cursor": RowCursor(column="at"), "key": ("id",), "table": None, "query": "select $day"}, "either, or"),
        ({"sweep_hours": 0}, "more than 0"),
        ({"group_bytes": 0}, "group_bytes"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_told(changes: dict[str, Any], told: str) -> None:
    """With the extract's name."""
    with pytest.raises(DeclarationError, match=told):
        declared(**changes)


@pytest.mark.parametrize(
    ("extract", "changes", "told"),
    [
        (declared(), {"kind": "events", "event_time": "at", "changes": None}, "no events of it|not TIMESTAMP"),
        (declared(), {"kind": "changes", "changes": EXTRACTED}, "has no cursor|EXTRACTED|operation"),
        (NEW, {"kind": "snapshots", "changes": None}, "has a cursor"),
        (declared(columns=("id",)), {}, "doesn't read 'at'"),
    ],
)
def test_a_dataset_that_does_not_fit_its_extract_is_told(extract: Extract, changes: dict[str, Any], told: str) -> None:
    """A table of another kind, or of columns that aren't read."""
    said = {
        "name": "things",
        "description": "x",
        "source": ExtractedRows(extract),
        "kind": "snapshots",
        "daily": Daily(DAY),
    }
    columns = (Column("id", VARCHAR, "Key.", required=True), Column("at", VARCHAR, "When."))
    with pytest.raises(DeclarationError, match=told):
        Dataset(**{**said, "columns": columns, "primary_key": ("id",), **changes})


def test_a_field_that_no_row_has_is_told() -> None:
    """What begins with @ is around a row, or is written @@."""
    with pytest.raises(DeclarationError, match="nothing that an extracted row has"):
        Dataset(
            name="things", description="x", source=ExtractedRows(declared()), kind="snapshots", daily=Daily(DAY),
            columns=(Column("id", VARCHAR, "Key.", source="@nope"),),
        )  # fmt: skip
    other = declared(database=Database(name="shop", connections=9))
    with pytest.raises(DeclarationError, match="declared twice, and not alike"):
        _ = Datasets([dataset(declared()), Dataset(
            name="others", description="x", source=ExtractedRows(other), kind="snapshots", daily=Daily(DAY),
            columns=(Column("id", VARCHAR, "Key."),),
        )]).extracts  # fmt: skip
    with pytest.raises(DeclarationError, match="connections must be more than 0"):
        Database(name="shop", connections=0)
    for broken in ({"overlap": -1}, {"overlap_seconds": -1.0}):
        with pytest.raises(DeclarationError, match="isn't less than 0"):
            RowCursor(column="at", **broken)
    with pytest.raises(DeclarationError, match="no bounds"):
        Split("id", ())


def test_a_replica_has_what_its_database_has_but_what_it_says(tmp_path: Path) -> None:
    """The settings' file says what is different there; a password that stands there is shown nowhere."""
    file = tmp_path / "databases.toml"
    file.write_text('[shop]\nhost = "one"\nport = 5432\npassword = "hunter2"\n[shop.replica]\nhost = "two"\n[other]\n')
    settings = Settings.model_validate({"databases": file})
    assert settings.database_properties() == {
        "shop": {"host": "one", "port": "5432", "password": "hunter2"}, "other": {},
    }  # fmt: skip
    assert settings.replica_properties() == {"shop": {"host": "two", "port": "5432", "password": "hunter2"}}
    connections = Connections(databases=settings.database_properties(), replicas=settings.replica_properties())
    assert "replica" in str(vars(open_database(SHOP, connections))["where"])
    assert "hunter2" not in repr(connections)
    primary = Database(name="shop", from_replica=False)
    assert "replica" not in str(vars(open_database(primary, connections))["where"])
    with pytest.raises(SettingsError, match="database 'none', and no such database is configured"):
        open_database(Database(name="none"), connections)
    for text, told in (
        ('[shop]\nreplica = "two"\n', "replica of 'shop' is no table"),
        ("[shop]\nhost = [1]\n", "'host' of 'shop'"),
    ):
        file.write_text(text)
        with pytest.raises(SettingsError, match=told):
            settings.replica_properties()
    assert Settings.model_validate({}).replica_properties() == {}
    assert datetime.now(UTC) > NOON


@pytest.mark.parametrize("kind", ["whole", "new"])
def test_a_person_is_forgotten_in_extracts(tmp_path: Path, kind: str) -> None:
    """Rows of others stay as they are, with their places; the next sweep goes on."""
    site = Site(tmp_path, declared(group_bytes=10**6) if kind == "whole" else replace(NEW, group_bytes=10**6))
    site.memory.rows = [row(number, f"person-{number}") for number in range(4)]
    site.run()
    found = dataset(site.extract)
    columns = [replace(one, person="member", pii=Mask.HASH) if one.name == "id" else one for one in found.columns]
    bench = Bench(tmp_path, datasets=Datasets([replace(found, columns=tuple(columns))]))
    upkeep.catch_up(bench.warehouse)
    names = ("at", "operation", "position") if kind == "new" else ("at",)
    before = bench.rows("processed.things", *names)
    assert len(before) == (5 if kind == "new" else 4)
    done = forget(bench.warehouse, person_of(bench.warehouse, [("member", "001")]), by="me", why="asked")
    assert (done.stuck, done.waiting, done.is_done) == ((), (), True)
    assert bench.rows("processed.things", *names) == [one for one in before if one[0] != "person-1"]
    if kind == "new":
        site.memory.rows.pop(1)
        swept = site.run(sweep=True)
        assert (swept.removed, swept.missed, swept.keys) == (0, 0, 3)
