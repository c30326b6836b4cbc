"""Extracts of a real PostgreSQL: whole tables and queries, what is new, what is gone; and whatever can go wrong on the way."""

import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingestion_platform.__main__ import main
from ingestion_platform.commands import extracts
from ingestion_platform.database import Database, RowCursor, Split
from ingestion_platform.dataset import Dataset, Datasets
from ingestion_platform.errors import SourceChanged, SourceError, SourceUnavailable
from ingestion_platform.sources import postgres_extract, postgres_snapshot
from ingestion_platform.sources.asking import Window
from ingestion_platform.table import BIGINT, BOOLEAN, DATE, JSON, TIMESTAMP, VARCHAR, Column, decimal
from ingestion_platform.warehouse import upkeep
from ingestion_platform_tests.sources.extract_world import DAY, ZONE, ExtractWorld
from ingestion_platform_tests.sources.postgres_server import PASSWORD, Server, replicate, serve
from ingestion_platform_tests.warehouse.building import Bench

THINGS = "create table things (id bigint primary key, name text, changed_at timestamptz)"
MOMENT = "'2024-10-01 08:00:00+00'::timestamptz"
WITHIN_SECONDS = 60.0


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server for all of these tests; each has a database of its own."""
    with serve() as one:
        yield one


@pytest.fixture
def world(tmp_path: Path, server: Server) -> ExtractWorld:
    """A database with a table of things."""
    return ExtractWorld(tmp_path, server, THINGS)


@pytest.fixture
def many_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of some pages is read in several ranges, and in small chunks."""
    monkeypatch.setattr(postgres_snapshot, "PAGES_PER_RANGE", 4)
    monkeypatch.setattr(postgres_extract, "CHUNK_BYTES", 4096)


def insert(first: int, last: int, moment: str = MOMENT) -> str:
    """SQL that inserts things."""
    return f"insert into things select i, 'n' || i, {moment} from generate_series({first}, {last}) i"


def by_cursor(world: ExtractWorld, **changes: Any) -> Any:
    """The extract of what is new."""
    return world.declared(**{"cursor": RowCursor(column="changed_at"), "key": ("id",), **changes})


def wait_until(what: Callable[[], bool]) -> None:
    """Wait until something holds."""
    until = time.monotonic() + WITHIN_SECONDS
    while not what():
        assert time.monotonic() < until, "it didn't come to be"
        time.sleep(0.01)


def assert_same(world: ExtractWorld, extract: Any) -> None:
    """The table that is made of an extract is the database's."""
    dataset = world.dataset(extract, "id", "name", "changed_at")
    ours = world.table(dataset, "id", "name", "changed_at")
    query = "select id::text, name, to_char(changed_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') from things"
    assert [(key, name) for key, name, _ in ours] == sorted((key, name) for key, name, _ in world.rows(query))


# --- whole tables and queries


def test_a_table_becomes_a_snapshot(world: ExtractWorld) -> None:
    """Every row is in the processed table; extracted again, unchanged, nothing lands; changed, the later extract counts."""
    world.run(insert(1, 5, "null"))
    extract = world.declared()
    assert world.extract(extract).rows == 5
    landed = world.keys()
    assert not world.extract(extract).has_landed
    assert world.keys() == landed
    dataset = world.dataset(extract, "id", "name", "changed_at")
    assert len(world.table(dataset)) == 5
    world.run("update things set name = '' where id = 2", "delete from things where id = 3")
    assert world.extract(extract).has_landed
    assert world.table(dataset, "id", "name", "changed_at") == [
        ("1", "n1", None), ("2", "", None), ("4", "n4", None), ("5", "n5", None),
    ]  # fmt: skip
    assert set(world.bench(dataset).states("things").values()) == {"loaded", "replaced"}


def test_an_empty_table_is_a_state_too(world: ExtractWorld) -> None:
    """Of a table that was emptied nothing stays; what was always empty is an empty table."""
    extract = world.declared()
    dataset = world.dataset(extract, "id", "name", "changed_at")
    assert world.extract(extract).has_landed
    assert world.table(dataset) == []
    assert not world.extract(extract).has_landed
    world.run(insert(1, 3))
    world.extract(extract)
    assert len(world.table(dataset)) == 3
    world.run("truncate things")
    assert world.extract(extract).has_landed
    assert world.table(dataset) == []


TYPES: dict[str, tuple[str, tuple[str | None, ...]]] = {
    "numeric": (
        "numeric",
        (
            "0",
            "-0.000000000000000000000000000001",
            "12345678901234567890123456789012345678901234567890.5",
            "NaN",
            "1.10",
        ),
    ),
    "double": ("double precision", ("0.1", "1e+300", "-Infinity", "NaN", "4.9406564584124654e-324")),
    "moment": (
        "timestamptz",
        (
            "2024-10-01 08:00:00.123456+02",
            "infinity",
            "-infinity",
            "0044-03-15 12:00:00+00 BC",
            "294276-12-31 23:59:59+00",
        ),
    ),
    "local": (
        "timestamp",
        ("2024-10-01 08:00:00", "infinity", "0001-01-01 00:00:00 BC", None, "1900-01-01 00:00:00.5"),
    ),
    "day": ("date", ("2024-02-29", "infinity", "4713-01-01 BC", None, "5874897-12-31")),
    "clock": ("timetz", ("24:00:00+00", "00:00:00.000001+05:30", None, "12:00+02", "12:00-08")),
    "span": ("interval", ("1 year 2 mons -3 days 04:05:06.7", "-1 hour", "0", None, "178000000 years")),
    "document": ("json", ('{"a" : 1,  "a": [1.10, null, "\\u00e9"]}', "null", '"x"', None, "[]")),
    "binary_document": ("jsonb", ('{"b": 1.10, "a": "q\\"\\n"}', "null", "1e400", None, "[]")),
    "bytes": ("bytea", ("\\x00ff0a0d22", "\\x", None, "\\x5c", "\\x2c")),
    "mood": ("public.mood", ("so so", 'ha"ppy', "", None, "new\nline")),
    "number": ("uuid", ("00000000-0000-0000-0000-000000000000", None, None, None, None)),
    "words": ("text[]", ('{a,"b c","\\"",NULL,"NULL",""}', "{}", "{{a,b},{c,d}}", None, "[2:3]={x,y}")),
    "moods": ("public.mood[]", ('{"ha\\"ppy",""}', None, None, None, None)),
    "pair": ("public.pair", ('(1,"a ""b"", c")', "(,)", '(1,"")', None, "(2,x)")),
    "bounds": ("int4range", ("[1,10)", "empty", "(,)", None, "[5,6)")),
    "fixed": ("char(5)", ("ab", "", "  x", None, "abcde")),
    "switches": ("bit varying(8)", ("101", "", None, None, "1")),
    "yes": ("boolean", ("t", "f", None, None, "t")),
    "place": ("point", ("(1.5,-2)", None, None, None, "(0,0)")),
    "address": ("inet", ("10.0.0.1/8", "::1", None, None, "::ffff:1.2.3.4")),
    "money": ("money", ("12.34", "-1", None, None, "0")),
    "document_xml": ("xml", ("<a b='c'>&lt;</a>", "x", None, None, "")),
    "words_found": ("tsvector", ("'a':1 'b''c':2A", "", None, None, "x")),
    "content": (
        "text",
        ("comma, \"quote\", '\\'", "tab\tline\nreturn\r\r\nend", "\\N", "\\.", " spaces  é ﷽ 👍🏽 \u2028"),
    ),
    "nothing": ("text", ("", None, "NULL", '""', "null")),
}
"""Column → its type, and five values."""


def test_every_type_comes_through_as_the_database_writes_it(world: ExtractWorld, many_ranges: None) -> None:
    """The processed table has the text of each value, whatever user, database or server are set to; NULL is none."""
    listed = ", ".join(f'"{name}" {kind}' for name, (kind, _) in TYPES.items())
    world.run(
        "create type mood as enum ('so so', 'ha\"ppy', '', E'new\\nline')",
        "create type pair as (a int, b text)",
        f"create table kinds (id int primary key, {listed})",
        f"alter database {world.name} set datestyle = 'German, DMY'",
        f"alter database {world.name} set timezone = 'Asia/Kathmandu'",
        f"alter database {world.name} set intervalstyle = 'sql_standard'",
        f"alter database {world.name} set bytea_output = 'escape'",
        f"alter database {world.name} set extra_float_digits = 0",
    )
    with server_connection(world) as connection:
        for row in range(5):
            values = [values[row] for _, values in TYPES.values()]
            places = ", ".join(f"%s::text::{kind}" for kind, _ in TYPES.values())
            connection.execute(f"insert into kinds values ({row}, {places})", values)
        # As written in a session that is set as the platform's are.
        for setting in (
            "datestyle = 'ISO, YMD'", "timezone = 'UTC'", "intervalstyle = 'iso_8601'", "bytea_output = 'hex'", "lc_monetary = 'C'",
            "extra_float_digits = 3",
        ):  # fmt: skip
            connection.execute(f"set {setting}")
        # Not by a cast to text, which drops blanks of char(n) and writes out truths.
        texts = ", ".join(
            f"""case when "{name}" is distinct from null then format('%s', "{name}") end""" for name in TYPES
        )
        wanted = connection.execute(f"select id::text, {texts} from kinds order by id").fetchall()
    extract = world.declared(table="public.kinds")
    world.extract(extract)
    found = world.table(world.dataset(extract, "id", *TYPES), "id", *TYPES)
    for ours, theirs in zip(found, wanted, strict=True):
        assert dict(zip(TYPES, ours[1:], strict=True)) == dict(zip(TYPES, theirs[1:], strict=True))


def server_connection(world: ExtractWorld) -> Any:
    """A connection to its database."""
    return world.server.connect(world.name)


def test_values_become_what_their_columns_are_declared_as(world: ExtractWorld) -> None:
    """Numbers with all their digits, moments in UTC, JSON, truths."""
    world.run(
        "create table typed (id bigint primary key, amount numeric(38,10), at timestamptz, day date, doc jsonb, is_open boolean)",
        "insert into typed values (9223372036854775807, 1234567890123456789012345678.0123456789, '2024-10-01 10:00:00.000001+02',"
        " '2024-02-29', '{\"a\": 1.10}', true)",
    )
    extract = world.declared(table="public.typed")
    world.extract(extract)
    dataset = world.dataset(
        extract,
        Column("id", BIGINT, "Key.", required=True),
        Column("amount", decimal(38, 10), "Amount."),
        Column("at", TIMESTAMP, "When."),
        Column("day", DATE, "Day."),
        Column("doc", JSON, "Document."),
        Column("is_open", BOOLEAN, "Whether."),
    )
    names = ("id", "amount", "at", "day", "doc", "is_open")
    (row,) = world.table(dataset, *names)
    assert [str(value) for value in row] == [
        "9223372036854775807", "1234567890123456789012345678.0123456789", "2024-10-01 08:00:00.000001", "2024-02-29", '{"a": 1.10}', "True",
    ]  # fmt: skip


def test_an_extract_is_of_one_moment(world: ExtractWorld, many_ranges: None) -> None:
    """However many connections read however many ranges while rows move money from one to another: the sum is what it was."""
    world.database = Database(name="shop", connections=4)
    world.run(
        "create table accounts (id int primary key, balance int, filler text)",
        "insert into accounts select i, 100, repeat('x', 200) from generate_series(1, 4000) i",
    )
    extract = world.declared(table="public.accounts", group_bytes=65_536)
    stop = threading.Event()

    def move() -> None:
        with server_connection(world) as connection:
            number = 0
            while not stop.is_set():
                number += 1
                one, other = number * 37 % 4000 + 1, number * 101 % 4000 + 1
                with connection.transaction():
                    connection.execute("update accounts set balance = balance - 7 where id = %s", (one,))
                    connection.execute("update accounts set balance = balance + 7 where id = %s", (other,))

    mover = threading.Thread(target=move)
    mover.start()
    try:
        dataset = world.dataset(extract, "id", Column("balance", BIGINT, "Money."), "filler")
        for _ in range(3):
            extracted = world.extract(extract)
            assert (extracted.rows, extracted.has_landed) == (4000, True)
            assert extracted.groups > 4
            found = world.bench(dataset).rows("processed.things", "id", "balance")
            assert len(found) == 4000
            assert sum(int(str(balance)) for _, balance in found) == 400_000
    finally:
        stop.set()
        mover.join()


def test_names_can_be_anything(world: ExtractWorld) -> None:
    """Quotes, line ends, dots, dollars, signs of ours: of schemas, tables and columns."""
    names = ['a"b', "c\nd", "@operation", "@@x", "e.f", "x'y", "ü %s {}", "$day", "select", "G"]
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    world.run(
        'create schema "we""ird.schema"',
        f'create table "we""ird.schema"."ta\n""ble; --" (id int, {", ".join(f"{name} text" for name in quoted)})',
    )
    with server_connection(world) as connection:
        connection.execute(
            'insert into "we""ird.schema"."ta\n""ble; --" values (1' + ", %s" * len(names) + ")",
            [f"<{name}>" for name in names],
        )
    extract = world.declared(table=('we"ird.schema', 'ta\n"ble; --'))
    world.extract(extract)
    columns = [
        Column(f"c{place}", VARCHAR, "x", source=f"@{name}" if name.startswith("@") else name)
        for place, name in enumerate(names)
    ]
    dataset = world.dataset(extract, "id", *columns)
    assert world.table(dataset, *(column.name for column in columns)) == [tuple(f"<{name}>" for name in names)]
    assert world.bench(dataset).warehouse.raw_day(dataset, DAY).entries[0].unknown_columns == ()


def test_a_query_is_read_in_declared_ranges(world: ExtractWorld) -> None:
    """Each row once, those without a value too; bounds that don't ascend are refused."""
    world.run(insert(1, 1000), "insert into things select 1000 + i, null, null from generate_series(1, 5) i")
    part = "case when name is null then null else id end as part"
    query = f"select id, name, {part} from public.things where name is null or name <> '%' -- ;"
    extract = world.declared(query=query, split=Split("part", ("9", "100", "500")))
    assert world.extract(extract).rows == 1005
    dataset = world.dataset(extract, "id", "name", "part")
    assert len({row[0] for row in world.table(dataset, "id")}) == 1005
    with pytest.raises(SourceError, match="bounds of 'part' don't ascend"):
        world.extract(world.declared(query=query, split=Split("part", ("100", "9"))))


def test_a_query_can_ask_for_a_day(world: ExtractWorld) -> None:
    """In business time, and for past days too; a trailing semicolon and braces do no harm."""
    world.run(
        "insert into things values (1, '{x}', '2024-09-30 22:30+00'), (2, 'y', '2024-10-01 21:59+00'), (3, 'z', '2024-10-01 22:00+00')"
    )
    when = "changed_at >= $window_start and changed_at < $window_end"
    query = f"select id, name, changed_at, $day as day from public.things where {when};"
    extract = world.declared(query=query)
    dataset = world.dataset(
        extract, "id", "name", Column("changed_at", TIMESTAMP, "When."), "day", kind="events", event_time="changed_at"
    )
    world.extract(extract)
    world.extract(extract, DAY + timedelta(days=1))
    assert world.table(dataset, "id", "name", "day") == [
        ("1", "{x}", "2024-10-01"),
        ("2", "y", "2024-10-01"),
        ("3", "z", "2024-10-02"),
    ]


def test_what_has_no_pages_is_read_all_the_same(world: ExtractWorld, many_ranges: None) -> None:
    """A view, a materialized view, a table in partitions, one with children, one without a key and with rows that are alike."""
    world.run(
        insert(1, 300),
        "create view seen as select * from things",
        "create materialized view kept as select * from things",
        "create table parted (id bigint, name text) partition by range (id)",
        "create table parted_1 partition of parted for values from (0) to (100)",
        "create table parted_2 partition of parted default",
        "insert into parted select i, repeat('x', 500) from generate_series(1, 300) i",
        "create table parent (id bigint, name text)",
        "create table child () inherits (parent)",
        "insert into parent select i, 'x' from generate_series(1, 10) i",
        "insert into child select i, repeat('x', 500) from generate_series(11, 300) i",
        "create table alike (id bigint, name text)",
        "insert into alike select 1, 'x' from generate_series(1, 300)",
    )
    for number, table in enumerate(("seen", "kept", "parted", "parent", "alike")):
        extract = world.declared(name=f"extract_{number}", table=f"public.{table}")
        assert world.extract(extract).rows == 300, table
        dataset = world.dataset(extract, "id", "name", primary_key=())
        found = world.table(dataset, "id", "name")
        assert len(found) == 300, table
        assert len(set(found)) == (1 if table == "alike" else 300), table


def test_a_row_larger_than_a_group_comes_whole(world: ExtractWorld, many_ranges: None) -> None:
    """And one column that is NULL in a table of one column is a row."""
    world.run(
        "insert into things values (1, repeat('é\"', 300000), null)",
        "create table single (id text)",
        "insert into single values (null), (''), ('x')",
    )
    extract = world.declared(group_bytes=10_000)
    world.extract(extract)
    assert world.table(world.dataset(extract, "id", "name"), "name") == [('é"' * 300_000,)]
    single = world.declared(name="single", table="public.single")
    assert world.extract(single).rows == 3
    column = Column("id", VARCHAR, "x", null_values=())
    assert world.table(world.dataset(single, column, primary_key=()), "id") == [("",), ("x",), (None,)]


def test_a_column_that_is_dropped_is_told_and_one_that_is_added_is_kept(world: ExtractWorld) -> None:
    """As of a file that changes: the drift says so, and the values of the new column are in _extra."""
    world.run(insert(1, 3))
    extract = world.declared()
    dataset = world.dataset(extract, "id", "name", "changed_at")
    world.extract(extract)
    world.table(dataset)
    world.run("alter table things drop column name", "alter table things add column town text default 'George'")
    assert world.extract(extract).has_landed
    assert world.table(dataset, "id", "name") == [("1", None), ("2", None), ("3", None)]
    entries = world.bench(dataset).warehouse.raw_day(dataset, DAY).entries
    assert {(entry.missing_columns, entry.unknown_columns) for entry in entries if entry.state == "loaded"} == {
        (("name",), ("town",))
    }
    assert world.bench(dataset).rows("raw.things", "_extra") == [('{"town":"George"}',)] * 3


def test_a_database_without_an_encoding_may_hold_anything(world: ExtractWorld) -> None:
    """What is no text is shown as its bytes."""
    with world.server.connect() as connection:
        connection.execute(f"create database {world.name}_raw encoding 'SQL_ASCII' template template0")
    with world.server.connect(f"{world.name}_raw") as connection:
        connection.execute("create table things (id int, name text)")
        connection.execute(r"insert into things values (1, E'a\xff,'), (2, 'b')")
    world.name = f"{world.name}_raw"
    extract = world.declared()
    world.extract(extract)
    assert world.table(world.dataset(extract, "id", "name"), "id", "name") == [("1", "a\\xff,"), ("2", "b")]


# --- what is new, and what is gone


def test_what_is_new_is_found_by_the_cursor_and_what_is_gone_by_a_sweep(world: ExtractWorld) -> None:
    """New and changed rows come, known ones don't; a removed row goes with the next sweep, and may come back."""
    world.run(insert(1, 5))
    extract = by_cursor(world)
    assert world.extract(extract).rows == 5
    later = f"{MOMENT} + interval '1 hour'"
    world.run(
        f"update things set name = 'x', changed_at = {later} where id = 2",
        "delete from things where id = 3",
        insert(6, 6, later),
    )
    found = world.extract(extract)
    assert (found.rows, found.removed) == (2, 0)
    assert not world.extract(extract).has_landed
    swept = world.extract(extract, sweep=True)
    assert (swept.rows, swept.removed, swept.missed, swept.keys) == (0, 1, 0, 5)
    assert_same(world, extract)
    # As it was, long before the cursor: only a sweep can see that.
    world.run(insert(3, 3))
    assert not world.extract(extract).has_landed
    swept = world.extract(extract, sweep=True)
    assert (swept.removed, swept.missed) == (0, 1)
    assert_same(world, extract)
    swept = world.extract(extract, sweep=True)
    assert (swept.removed, swept.missed, swept.rows) == (0, 0, 0)
    dataset = world.dataset(extract, "id", "name", "changed_at")
    operations = {str(row[0]) for row in world.table(dataset, "operation", table="processed.things")}
    assert sorted(operations) == ["DELETE", "RESTART", "SNAPSHOT", "UPSERT"]
    history = world.table(dataset, "id", "name", "is_current", table="processed.things_history")
    assert [row for row in history if row[0] == "2"] == [("2", "n2", False), ("2", "x", True)]


def test_rows_of_the_same_moment_are_told_apart(world: ExtractWorld) -> None:
    """Without any overlap: those that had come don't come again, those that hadn't do, and one that has changed does."""
    extract = by_cursor(world, cursor=RowCursor(column="changed_at", overlap_seconds=0))
    world.run(insert(1, 500))
    assert world.extract(extract).rows == 500
    world.run(insert(501, 700), "update things set name = 'other' where id = 7")
    found = world.extract(extract)
    assert (found.rows, found.known) == (201, 499)
    assert not world.extract(extract).has_landed
    assert_same(world, extract)


def test_a_serial_is_a_cursor_too(world: ExtractWorld) -> None:
    """With an overlap of numbers; a text is one without any."""
    extract = by_cursor(world, cursor=RowCursor(column="id", overlap=10))
    world.run(insert(1, 20), insert(25, 30))
    assert world.extract(extract).rows == 26
    world.run(insert(21, 24), insert(31, 32), insert(0, 0))
    found = world.extract(extract)
    assert (found.rows, found.known, found.cursor) == (6, 7, "32")
    assert world.extract(extract, sweep=True).missed == 1
    assert_same(world, extract)
    texts = by_cursor(world, name="texts", cursor=RowCursor(column="name"))
    assert world.extract(texts).cursor == "n9"


def test_a_row_that_is_committed_late_is_found(world: ExtractWorld) -> None:
    """Inside the overlap by the cursor; later than that by a sweep, an update of a known row as well."""
    extract = by_cursor(world, cursor=RowCursor(column="changed_at", overlap_seconds=300))
    world.run(insert(1, 3))
    with server_connection(world) as slow, slow.transaction():
        slow.execute(insert(10, 10, f"{MOMENT} + interval '1 minute'"))
        world.run(insert(4, 4, f"{MOMENT} + interval '2 minutes'"))
        assert world.extract(extract).rows == 4
    assert world.extract(extract).rows == 1
    assert_same(world, extract)
    with server_connection(world) as slow, slow.transaction():
        slow.execute(insert(11, 11, f"{MOMENT} + interval '3 minutes'"))
        slow.execute(f"update things set name = 'late', changed_at = {MOMENT} + interval '3 minutes' where id = 1")
        world.run(insert(5, 5, f"{MOMENT} + interval '1 hour'"))
        assert world.extract(extract).rows == 1
    assert world.extract(extract).rows == 0
    assert world.extract(extract, sweep=True).missed == 2
    assert_same(world, extract)


def test_a_sweep_comes_when_it_is_time(world: ExtractWorld) -> None:
    """And lands a note also where it finds nothing, so that the next one knows."""
    extract = by_cursor(world, sweep_hours=1)
    world.run(insert(1, 3))
    world.extract(extract)
    world.run("delete from things where id = 1")
    assert world.extract(extract).keys is None
    world.at += timedelta(hours=1)
    assert world.extract(extract).removed == 1
    assert world.extract(extract).keys is None
    world.at += timedelta(hours=1)
    found = world.extract(extract)
    assert (found.keys, found.has_landed, found.groups) == (2, True, 0)
    assert world.extract(extract).keys is None
    assert_same(world, extract)


def test_a_cursor_goes_on_over_days_on_an_empty_disk(world: ExtractWorld) -> None:
    """The landing zone alone says where: other days, other processes."""
    extract = by_cursor(world)
    world.run(insert(1, 3))
    world.extract(extract)
    world.run(insert(4, 4, f"{MOMENT} + interval '1 day'"))
    world.at += timedelta(days=3)
    found = world.extract(extract, DAY + timedelta(days=3))
    assert (found.rows, found.known, found.has_restarted) == (1, 3, False)
    world.run("delete from things where id = 2")
    assert world.extract(extract, DAY + timedelta(days=4), sweep=True).removed == 1
    assert_same(world, extract)


def test_a_clock_that_runs_ahead_does_not_take_the_cursor_with_it(world: ExtractWorld) -> None:
    """Rows of the future come once; rows of the present are still found, as are rows without a cursor by a sweep."""
    extract = by_cursor(world)
    world.run(insert(1, 2), insert(3, 3, "'2999-01-01'"), insert(4, 4, "'infinity'"), insert(5, 5, "null"))
    found = world.extract(extract)
    assert (found.rows, found.cursor) == (5, "2024-10-01 08:00:00+00")
    assert not world.extract(extract).has_landed
    world.run(insert(6, 6, f"{MOMENT} + interval '1 minute'"), insert(7, 7, "null"))
    found = world.extract(extract)
    assert (found.rows, found.known) == (1, 4)
    assert not world.extract(extract).has_landed
    assert world.extract(extract, sweep=True).missed == 1
    assert_same(world, extract)


def test_a_restart_voids_what_was_known(world: ExtractWorld) -> None:
    """Asked for, or because the cursor is another column now: rows that went away meanwhile go away."""
    extract = by_cursor(world, sweep_hours=None)
    world.run(insert(1, 5))
    world.extract(extract)
    world.run("delete from things where id < 3")
    found = world.extract(extract, restart=True)
    assert (found.rows, found.has_restarted) == (3, True)
    assert_same(world, extract)
    world.run("delete from things where id = 3")
    other = by_cursor(world, sweep_hours=None, cursor=RowCursor(column="id"))
    found = world.extract(other)
    assert (found.rows, found.has_restarted) == (2, True)
    assert not world.extract(other).has_landed
    assert_same(world, other)


def test_an_empty_table_has_no_cursor_yet(world: ExtractWorld) -> None:
    """It begins when there is a row."""
    extract = by_cursor(world)
    assert world.extract(extract).rows == 0
    assert not world.extract(extract).has_landed
    world.run(insert(9, 9, "null"))
    assert not world.extract(extract).has_landed
    assert world.extract(extract, sweep=True).missed == 1
    world.run(insert(1, 2))
    assert world.extract(extract).rows == 3
    assert_same(world, extract)
    world.run("delete from things")
    assert world.extract(extract, sweep=True).removed == 3
    assert_same(world, extract)


def test_keys_of_several_columns_and_any_text_are_compared(world: ExtractWorld) -> None:
    """And a key that isn't one is told."""
    world.run(
        "create table pairs (id text, name char(3), changed_at timestamptz, primary key (id, name))",
        f"insert into pairs values ('a', 'b', {MOMENT}), ('a=b', '', {MOMENT}), (E'x\\n''\"', 'c', {MOMENT}), ('', 'x', {MOMENT})",
    )
    extract = by_cursor(world, table="public.pairs", key=("id", "name"))
    assert world.extract(extract).rows == 4
    world.run(
        "delete from pairs where id = 'a'", f"insert into pairs values (E'q\\\\\\'', 'z', {MOMENT} - interval '1 year')"
    )
    swept = world.extract(extract, sweep=True)
    assert (swept.removed, swept.missed) == (1, 1)
    swept = world.extract(extract, sweep=True)
    assert (swept.removed, swept.missed) == (0, 0)
    odd = by_cursor(world, name="odd", table="public.pairs", key=("changed_at",))
    world.extract(odd)
    with pytest.raises(SourceChanged, match="several rows have the same changed_at"):
        world.extract(odd, sweep=True)


def test_what_landed_makes_the_same_tables_again(world: ExtractWorld, tmp_path: Path) -> None:
    """A warehouse that is lost comes out of the landing zone as it was; the database isn't asked."""
    extract = by_cursor(world)
    world.run(insert(1, 50))
    world.extract(extract)
    world.run("delete from things where id < 9", insert(60, 70, f"{MOMENT} + interval '1 day'"))
    world.extract(extract, sweep=True)
    dataset = world.dataset(extract, "id", "name", "changed_at")
    before = world.bench(dataset).export()
    world.forget_warehouse()
    assert world.bench(dataset).export() == before


# --- what goes wrong


def test_a_statement_that_takes_too_long_is_ended(world: ExtractWorld) -> None:
    """The error says what to raise; it isn't tried again."""
    world.database = Database(name="shop", statement_timeout_seconds=0.3)
    extract = world.declared(query="select 1 as id, pg_sleep(60)")
    with pytest.raises(SourceError, match=r"statement timeout.*raise statement_timeout_seconds") as told:
        world.extract(extract)
    assert not told.value.can_retry


def test_who_is_not_let_in_reads_why_and_no_password(world: ExtractWorld) -> None:
    """A wrong password, a table that isn't there, one that isn't his, a server that isn't there."""
    extract = world.declared()
    with pytest.raises(SourceError, match="authentication failed") as told:
        _attempt(world, extract, password="hunter2-secret")
    assert "hunter2" not in str(told.value)
    assert "hunter2" not in repr(world.opened(extract, password="hunter2-secret"))
    with pytest.raises(SourceChanged, match="name tables with their schema"):
        world.extract(world.declared(query="select * from things"))
    with pytest.raises(SourceChanged, match="no column 'nope', which is its cursor"):
        world.extract(by_cursor(world, cursor=RowCursor(column="nope")))
    with pytest.raises(SourceError, match="two columns 'id'"):
        world.extract(world.declared(query="select id, id from public.things"))
    world.run(
        f"drop role if exists guest_{world.name}",
        f"create role guest_{world.name} login password 'guest'",
    )
    with pytest.raises(SourceError, match=r"permission denied.*SELECT on the table"):
        _attempt(world, extract, user=f"guest_{world.name}", password="guest")
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(SourceUnavailable) as refused:
            _attempt(world, extract, port=str(free.getsockname()[1]))
    assert PASSWORD not in str(refused.value)
    assert world.keys() == []


def _attempt(world: ExtractWorld, extract: Any, **properties: str) -> None:
    with world.opened(extract, **properties).state(extract, Window.of(DAY, ZONE)):
        pass


def test_a_connection_that_is_lost_is_begun_anew(world: ExtractWorld, many_ranges: None) -> None:
    """What had landed of the attempt counts for nothing, and the table is whole."""
    world.database = Database(name="shop", connections=2)
    world.run("insert into things select i, repeat('x', 500), null from generate_series(1, 2000) i")
    extract = world.declared(group_bytes=20_000)
    killed: list[int] = []

    def kill(rows: int) -> None:
        if not killed and rows > 500:
            killed.append(rows)
            with world.server.connect() as connection:
                connection.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s and pid <> pg_backend_pid()",
                    (world.name,),
                )

    extracted = world.extraction(extract, on_rows=kill).run(DAY)
    assert len(extracted.problems) == 1
    assert extracted.rows == 2000
    dataset = world.dataset(extract, "id", "name")
    assert len(world.table(dataset, "id")) == 2000
    assert len(world.landed(extract).fetches(DAY)) == 2


def test_two_extracts_of_one_database_take_no_double_connections(world: ExtractWorld) -> None:
    """One waits for the other's end, or, after its patience, says so."""
    extract = world.declared()
    world.run(insert(1, 10))
    with world.opened(extract).state(extract, Window.of(DAY, ZONE)):
        world.database = Database(name="shop", patience_seconds=0.1)
        impatient = world.declared()
        with pytest.raises(SourceUnavailable, match="another extract of it has been under way"):
            world.extraction(impatient, attempts=1).run(DAY)
        waiting = threading.Thread(target=lambda: world.extract(extract))
        waiting.start()
        wait_until(lambda: _connections(world) == 2)
        assert world.keys() == []
    waiting.join(WITHIN_SECONDS)
    assert len(world.keys()) == 2
    wait_until(lambda: _connections(world) == 0)


def _connections(world: ExtractWorld) -> int:
    with world.server.connect() as connection:
        found = connection.execute("select count(*) from pg_stat_activity where datname = %s", (world.name,)).fetchone()
    return int(found[0]) if found else 0


def test_an_extract_takes_no_more_connections_and_no_more_rows_a_second_than_it_may(
    world: ExtractWorld, many_ranges: None
) -> None:
    """Counted by the database while it goes on."""
    world.database = Database(name="shop", connections=3, rows_per_second=2000)
    world.run("insert into things select i, repeat('x', 500), null from generate_series(1, 1000) i")
    extract = world.declared()
    seen: list[int] = []
    began = time.monotonic()
    extracted = world.extraction(extract, on_rows=lambda _: seen.append(_connections(world))).run(DAY)
    assert extracted.rows == 1000
    assert time.monotonic() - began > 0.4
    assert max(seen) == 3


def test_a_killed_process_leaves_nothing_that_counts_and_nobody_connected(
    world: ExtractWorld, many_ranges: None
) -> None:
    """At whatever row: the next extract isn't held up by its lock, and the table is whole."""
    world.run("insert into things select i, repeat('x', 500), null from generate_series(1, 400) i")
    extract = world.declared(group_bytes=4096)
    for rows in (1, 100, 399):
        child = os.fork()
        if child == 0:
            try:
                world.extraction(
                    extract, on_rows=lambda done, at=rows: os.kill(os.getpid(), signal.SIGKILL) if done >= at else None
                ).run(DAY)
            finally:
                os._exit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert all(not fetch.is_whole for fetch in world.landed(extract).fetches(DAY))
    assert world.extract(extract).rows == 400
    dataset = world.dataset(extract, "id", "name")
    assert len(world.table(dataset, "id")) == 400
    wait_until(lambda: _connections(world) == 0)


def test_a_replica_is_read_where_there_is_one(world: ExtractWorld, many_ranges: None) -> None:
    """A conflict with the primary's log is told, and the extract begun anew; the primary sees nobody."""
    # More than fits into the buffers between there and here.
    world.run("insert into things select i, repeat('x', 2000), null from generate_series(1, 10000) i")
    extract = world.declared()
    with replicate(world.server, "max_standby_streaming_delay=0", "hot_standby_feedback=off") as replica:
        world.replica = replica
        disturbed: list[int] = []

        def disturb(_rows: int) -> None:
            if not disturbed:
                disturbed.append(_connections(world))
                world.run("delete from things where id > 9000")
                with server_connection(world) as connection:
                    connection.execute("vacuum (freeze) things")
                    connection.execute("select pg_switch_wal()")
                wait_until(lambda: _replayed(world, replica))

        extracted = world.extraction(extract, on_rows=disturb).run(DAY)
    assert disturbed == [0]
    assert extracted.is_replica
    assert extracted.rows == 9000
    assert len(extracted.problems) == 1
    assert "conflict with recovery" in extracted.problems[0]
    assert len(world.table(world.dataset(extract, "id", "name"), "id")) == extracted.rows


def _replayed(world: ExtractWorld, replica: Server) -> bool:
    with world.server.connect() as connection, replica.connect() as other:
        (end,) = connection.execute("select pg_current_wal_flush_lsn()::text").fetchone() or ("0/0",)
        (is_there,) = other.execute("select pg_last_wal_replay_lsn() >= %s::pg_lsn", (end,)).fetchone() or (False,)
    return bool(is_there)


def test_the_moment_is_the_databases(world: ExtractWorld) -> None:
    """Each row can say whose state it is."""
    extract = world.declared()
    world.run(insert(1, 1))
    before = datetime.now(UTC)
    world.extract(extract)
    moment = Column("extracted_at", TIMESTAMP, "When.", source="@extracted_at")
    ((found,),) = world.table(world.dataset(extract, "id", moment), "extracted_at")
    assert isinstance(found, datetime)
    assert before - timedelta(minutes=1) < found.replace(tzinfo=UTC) < datetime.now(UTC) + timedelta(minutes=1)


README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_extracts_of_the_readme_work(
    world: ExtractWorld, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its declarations, by its command; what isn't declared, or tells no other day, is told."""
    (code,) = (
        found[1] for found in re.finditer(r"```python\n(.*?)```", README, re.DOTALL) if "EXTRACTED_COLUMNS" in found[1]
    )
    declared: dict[str, Any] = {}
    exec(code, declared)
    datasets = Datasets([one for one in declared.values() if isinstance(one, Dataset)])
    monkeypatch.setattr(extracts, "declared_datasets", lambda: datasets)
    world.run(
        "create table tiers (tier text, points bigint)",
        "insert into tiers values ('gold', 1000)",
        "create table bookings (id bigint primary key, points bigint, updated_at timestamptz default now())",
        "insert into bookings select i, i from generate_series(1, 3) i",
    )
    said = "".join(f'{name} = "{value}"\n' for name, value in world.server.properties(world.name).items())
    (world.folder / "databases.toml").write_text(f"[loyalty]\n{said}[loyalty.replica]\nconnect_timeout = 7\n")
    monkeypatch.chdir(world.folder)
    monkeypatch.setenv("INGESTION_LANDING", str(world.folder / "landing"))
    monkeypatch.setenv("INGESTION_DATABASES", str(world.folder / "databases.toml"))
    assert main(["extract", "tiers_table", "bookings_table"]) == 0
    world.run("delete from bookings where id = 2", "insert into bookings values (4, 4)")
    assert main(["extract", "bookings_table", "--sweep"]) == 0
    told = capsys.readouterr().out
    assert "1 rows, landed" in told
    assert "1 removed, 3 keys compared" in told
    bench = Bench(world.folder, datasets=datasets)
    upkeep.catch_up(bench.warehouse)
    assert bench.rows("processed.tiers", "tier", "points") == [("gold", 1000)]
    assert bench.rows("processed.bookings_current", "id") == [(1,), (3,), (4,)]
    assert main(["extract", "nope"]) == 1
    assert "there is no extract 'nope'" in capsys.readouterr().err
    assert main(["extract", "tiers_table", "--day", "2024-10-01"]) == 1
    assert "tells the present" in capsys.readouterr().err
