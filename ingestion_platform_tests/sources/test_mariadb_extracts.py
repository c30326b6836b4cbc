"""Extracts of a real MariaDB: as of PostgreSQL, with its own types, snapshots and errors."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingestion_platform.database import Database, Extract, RowCursor, Split
from ingestion_platform.errors import SourceChanged, SourceError
from ingestion_platform.sources import mariadb_extract, mariadb_snapshot
from ingestion_platform.sources.extract import Extraction
from ingestion_platform.sources.opening import Connections, open_database
from ingestion_platform.table import BIGINT, Column
from ingestion_platform_tests.sources.extract_world import DAY, ZONE, ExtractWorld
from ingestion_platform_tests.sources.mariadb_server import PASSWORD, Server, serve

THINGS = "create table things (id bigint primary key, name text, changed_at datetime(6))"
MOMENT = "'2024-10-01 08:00:00'"


class MariaDbExtractWorld(ExtractWorld):
    """A database of its own on a MariaDB server, and what is extracted from it."""

    def __init__(self, folder: Path, server: Server) -> None:
        super().__init__(folder, server, THINGS)  # type: ignore[arg-type]  # what it is asked for, both can
        self.mariadb = server
        self.database = Database(name="shop", engine="mariadb")

    def run(self, *statements: str) -> None:
        """Run statements."""
        self.mariadb.run(*statements, database=self.name)

    def declared(self, **changes: Any) -> Extract:
        """An extract of the table `things`."""
        return super().declared(**{"table": f"{self.name}.things", **changes})

    def extraction(self, extract: Extract, **options: Any) -> Extraction:
        """What extracts."""
        options.pop("landing", None)
        properties = {**self.mariadb.properties(self.name), **options.pop("properties", {})}
        opened = open_database(extract.database, Connections(databases={"shop": properties}))
        return Extraction(self.landed(extract), opened, ZONE, now=self.now, first_wait_seconds=0.01, **options)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server for all of these tests; each has a database of its own."""
    with serve() as one:
        yield one


@pytest.fixture
def world(tmp_path: Path, server: Server) -> MariaDbExtractWorld:
    """A database with a table of things."""
    return MariaDbExtractWorld(tmp_path, server)


def insert(first: int, last: int, moment: str = MOMENT) -> str:
    """SQL that inserts things."""
    return f"insert into things select seq, concat('n', seq), {moment} from seq_{first}_to_{last}"


def assert_same(world: MariaDbExtractWorld, extract: Extract) -> None:
    """The table that is made of an extract is the database's."""
    ours = world.table(world.dataset(extract, "id", "name", "changed_at"), "id", "name")
    theirs = world.mariadb.run("select cast(id as char), name from things", database=world.name)
    assert ours == sorted(theirs)


def test_a_table_becomes_a_snapshot(world: MariaDbExtractWorld) -> None:
    """Every row is there; unchanged, nothing lands; changed, the later extract counts; empty is a state, too."""
    world.run(insert(1, 5), "update things set name = '' where id = 2", "update things set name = null where id = 3")
    extract = world.declared()
    assert world.extract(extract).rows == 5
    assert_same(world, extract)
    assert not world.extract(extract).has_landed
    world.run("delete from things where id = 4")
    assert world.extract(extract).has_landed
    assert_same(world, extract)
    world.run("delete from things")
    assert world.extract(extract).has_landed
    assert_same(world, extract)


def test_what_is_new_what_was_late_and_what_is_gone_is_found(world: MariaDbExtractWorld) -> None:
    """By the cursor, its overlap and ties, and by a sweep."""
    world.run(insert(1, 500))
    extract = world.declared(cursor=RowCursor(column="changed_at", overlap_seconds=300), key=("id",))
    assert world.extract(extract).rows == 500
    world.run(insert(501, 600), f"update things set name = 'x', changed_at = {MOMENT} + interval 1 hour where id = 7")
    found = world.extract(extract)
    assert (found.rows, found.known, found.cursor) == (101, 499, "2024-10-01 09:00:00.000000")
    assert not world.extract(extract).has_landed
    world.run(insert(601, 601, f"{MOMENT} + interval 57 minute"), insert(602, 602), "delete from things where id < 4")
    assert world.extract(extract).rows == 1
    swept = world.extract(extract, sweep=True)
    assert (swept.removed, swept.missed, swept.keys) == (3, 1, 599)
    swept = world.extract(extract, sweep=True)
    assert (swept.removed, swept.missed) == (0, 0)
    assert_same(world, extract)
    numbers = world.declared(name="numbers", cursor=RowCursor(column="id", overlap=10), key=("id",))
    assert world.extract(numbers).cursor == "602"
    assert not world.extract(numbers).has_landed


TYPES: dict[str, tuple[str, str, str]] = {
    "whole": ("bigint unsigned", "18446744073709551615", "18446744073709551615"),
    "amount": (
        "decimal(38,10)",
        "-1234567890123456789012345678.0123456789",
        "-1234567890123456789012345678.0123456789",
    ),
    "narrow": ("float", "0.1", "0.1"),
    "wide": ("double", "1e300", "1e+300"),
    "moment": ("timestamp(6)", "'2024-10-01 08:00:00.123456'", "2024-10-01 08:00:00.123456+00"),
    "local": ("datetime", "'2024-10-01 08:00:00'", "2024-10-01 08:00:00"),
    "day": ("date", "'2024-02-29'", "2024-02-29"),
    "clock": ("time(3)", "'-838:59:59.000'", "-838:59:59.000"),
    "flags": ("bit(10)", "b'1000000001'", "513"),
    "mood": ("enum('so so', 'ha''ppy')", "'ha''ppy'", "ha'ppy"),
    "moods": ("set('a', 'b')", "'b,a'", "a,b"),
    "document": ("json", "'{\"a\" : [1.10, null]}'", '{"a" : [1.10, null]}'),
    "bytes": ("varbinary(9)", "x'00ff0a'", "00FF0A"),
    "content": ("text", "'comma, \"quote\" \\\\ \\n\\t👍🏽'", 'comma, "quote" \\ \n\t👍🏽'),
    "number": ("uuid", "'00000000-0000-0000-0000-00000000000a'", "00000000-0000-0000-0000-00000000000a"),
}
"""Column → its type, a value in SQL, and the text that it has."""


def test_every_type_comes_through(world: MariaDbExtractWorld) -> None:
    """With the texts that the log's capture has, too; NULL is none."""
    listed = ", ".join(f"`{name}` {kind} null" for name, (kind, _, _) in TYPES.items())
    values = ", ".join(value for _, value, _ in TYPES.values())
    world.run(
        f"create table kinds (id int primary key, {listed})",
        "set time_zone = '+00:00'",
        f"insert into kinds values (1, {values})",
        "insert into kinds (id) values (2)",
    )
    extract = world.declared(table=f"{world.name}.kinds")
    world.extract(extract)
    first, second = world.table(world.dataset(extract, "id", *TYPES), "id", *TYPES)
    wanted = {name: text for name, (_, _, text) in TYPES.items()}
    found = dict(zip(TYPES, first[1:], strict=True))
    # The session of whoever writes may be of another zone.
    assert str(found.pop("moment")).endswith(":00.123456+00")
    del wanted["moment"]
    assert found == wanted
    assert second[1:] == (None,) * len(TYPES)


def test_an_extract_is_of_one_moment(world: MariaDbExtractWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """While rows move money from one to another, read in ranges: the sum is what it was."""
    monkeypatch.setattr(mariadb_snapshot, "ROWS_PER_RANGE", 500)
    monkeypatch.setattr(mariadb_extract, "CHUNK_ROWS", 100)
    world.run(
        "create table accounts (id int primary key, balance int) engine = InnoDB",
        "insert into accounts select seq, 100 from seq_1_to_3000",
        "analyze table accounts",
    )
    world.database = Database(name="shop", engine="mariadb", connections=3)
    extract = world.declared(table=f"{world.name}.accounts", group_bytes=10_000)
    stop = threading.Event()

    def move() -> None:
        number = 0
        while not stop.wait(0.001):
            number += 1
            one, other = number * 37 % 3000 + 1, number * 101 % 3000 + 1
            world.run("begin", f"update accounts set balance = balance - 7 where id = {one}",
                      f"update accounts set balance = balance + 7 where id = {other}", "commit")  # fmt: skip

    mover = threading.Thread(target=move)
    mover.start()
    try:
        dataset = world.dataset(extract, "id", Column("balance", BIGINT, "Money."))
        for _ in range(2):
            assert world.extract(extract).rows == 3000
            found = world.bench(dataset).rows("processed.things", "id", "balance")
            assert sum(int(str(balance)) for _, balance in found) == 300_000
    finally:
        stop.set()
        mover.join()


def test_names_can_be_anything_and_keys_any_text(world: MariaDbExtractWorld) -> None:
    """Backticks, quotes, dots, line ends; and keys of several columns are found again by a sweep."""
    world.run(
        "create table `ta``ble.\"x` (`i'd` varchar(20), `a\nb` varbinary(9), `@at` datetime, primary key (`i'd`, `a\nb`))",
        f"insert into `ta``ble.\"x` values ('q\\\\''`', x'00ff', {MOMENT}), ('', x'', {MOMENT})",
    )
    extract = world.declared(
        table=(world.name, 'ta`ble."x'), cursor=RowCursor(column="@at", overlap_seconds=0), key=("i'd", "a\nb")
    )
    assert world.extract(extract).rows == 2
    world.run(f"insert into `ta``ble.\"x` values ('%s {{}}', x'27', {MOMENT} - interval 1 day)")
    assert world.extract(extract, sweep=True).missed == 1
    swept = world.extract(extract, sweep=True)
    assert (swept.missed, swept.removed, swept.keys) == (0, 0, 3)


def test_a_query_is_read_in_ranges_and_for_days(world: MariaDbExtractWorld) -> None:
    """Each row once."""
    world.run(insert(1, 100), insert(200, 210, "'2024-10-02 08:00:00'"))
    whole = world.declared(query=f"select id, name from {world.name}.things", split=Split("id", ("10", "50")))
    assert world.extract(whole).rows == 111
    when = "changed_at >= $window_start and changed_at < $window_end"
    of_day = world.declared(name="of_day", query=f"select id, $day as day from {world.name}.things where {when};")
    assert world.extract(of_day).rows == 100


def test_a_table_without_transactions_is_read_by_one_statement(world: MariaDbExtractWorld) -> None:
    """As it is then; by a cursor it can't be. A view is read as its tables are."""
    world.run(insert(1, 20), "create table old (id bigint primary key, at datetime) engine = MyISAM",
              f"insert into old values (1, {MOMENT})", "create view seen as select * from things")  # fmt: skip
    assert world.extract(world.declared(table=f"{world.name}.old")).rows == 1
    assert world.extract(world.declared(name="seen", table=f"{world.name}.seen")).rows == 20
    with pytest.raises(SourceError, match="engine without transactions"):
        world.extract(world.declared(name="o", table=f"{world.name}.old", cursor=RowCursor(column="at"), key=("id",)))


def test_what_goes_wrong_is_told_without_the_password(world: MariaDbExtractWorld) -> None:
    """A wrong password, a table that isn't there, a column that isn't, a statement that takes too long."""
    with pytest.raises(SourceError, match="Access denied") as told:
        world.extraction(world.declared(), properties={"password": "hunter2-secret"}).run(DAY)
    assert "hunter2" not in str(told.value)
    with pytest.raises(SourceError, match="doesn't exist") as told:
        world.extract(world.declared(table=f"{world.name}.nothing"))
    assert PASSWORD not in str(told.value)
    with pytest.raises(SourceChanged, match="no column 'nope', which is its cursor"):
        world.extract(world.declared(cursor=RowCursor(column="nope"), key=("id",)))
    world.database = Database(name="shop", engine="mariadb", statement_timeout_seconds=0.3)
    with pytest.raises(SourceError, match="raise statement_timeout_seconds"):
        world.extract(world.declared(query="select 1 as id, sleep(20) as s"))
    assert world.keys() == []
