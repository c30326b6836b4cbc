"""MariaDB as only MariaDB is: log files that are gone, settings and statements that hide changes, types, restarts."""

import random
import shutil
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pymysql
import pytest

from ingestion_platform.errors import IngestionError, SettingsError, SourceError, SourceUnavailable, StreamGap
from ingestion_platform.sources import mariadb_client as client
from ingestion_platform.sources.drain import Drain
from ingestion_platform.sources.mariadb_catalog import check_tables
from ingestion_platform.sources.mariadb_changes import Decoder, Position
from ingestion_platform.sources.mariadb_statements import Done, look_through
from ingestion_platform.sources.opening import Connections, open_reader
from ingestion_platform_tests.sources.capture_kills import campaign
from ingestion_platform_tests.sources.database_world import Captured
from ingestion_platform_tests.sources.mariadb_server import Server, serve
from ingestion_platform_tests.sources.mariadb_world import MariaDbBank, MariaDbWorld

WITHIN_SECONDS = 90.0


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server for all of these tests; each has a database of its own."""
    with serve() as one:
        yield one


@pytest.fixture
def world(server: Server) -> MariaDbWorld:
    """An empty database."""
    return MariaDbWorld(server)


@pytest.fixture
def captured(tmp_path: Path, world: MariaDbWorld) -> Captured:
    """Its capture."""
    return Captured(tmp_path, world)


def wait_for_another_second() -> None:
    """Wait until a file that is made from now on was made in another second than all there are: a file's moment knows no less."""
    began = int(time.time())
    # Servers read a coarser clock, that is some milliseconds behind.
    wait_until(lambda: time.time() > began + 1.05)


def wait_until(what: Callable[[], bool]) -> None:
    """Wait until something holds."""
    until = time.monotonic() + WITHIN_SECONDS
    while not what():
        assert time.monotonic() < until, "it didn't come to be"
        time.sleep(0.02)


def insert(first: int, last: int) -> str:
    """SQL that inserts customers."""
    return f"insert into customers select seq, concat('n', seq), 'Durban', null from seq_{first}_to_{last}"


def landed_rows(folder: Path) -> list[tuple[dict[str, bytes], dict[str, str | None] | None]]:
    """Headers and value of every record that has landed, in the order of their positions."""
    found: list[tuple[int, dict[str, bytes], Any]] = []
    for path in sorted((folder / "landing").rglob("*.parquet")):
        for row in pq.read_table(path).to_pylist():
            headers = {one["name"]: one["value"] for one in row["headers"]}
            found.append((int(row["position"]), headers, msgspec.json.decode(row["value"]) if row["value"] else None))
    return [(headers, value) for _, headers, value in sorted(found, key=lambda one: one[0])]


# --- rows


KINDS = {
    "tiny": ("tinyint", "-128"),
    "small_plus": ("smallint unsigned", "65535"),
    "medium": ("mediumint", "-8388608"),
    "medium_plus": ("mediumint unsigned", "16777215"),
    "whole": ("int", "-2147483648"),
    "year": ("year", "2024"),
    "no_year": ("year", "0"),
    "big": ("bigint", "-9223372036854775808"),
    "big_plus": ("bigint unsigned", "18446744073709551615"),
    "filled": ("int(8) zerofill", "42"),
    "exact": ("decimal(65,30)", "-12345678901234567890123456789012345.123456789012345678901234567890"),
    "money": ("decimal(14,2)", "-0.05"),
    "cents": ("decimal(2,2)", "0.10"),
    "count_of": ("decimal(9,0)", "999999999"),
    "filled_money": ("decimal(7,2) zerofill", "0.5"),
    "real4": ("float", "0.1"),
    "real4_large": ("float", "16777217"),
    "real8": ("double", "0.1e0 + 0.2e0"),
    "real8_small": ("double", "-1e-300"),
    "bits": ("bit(10)", "b'1000000001'"),
    "yes": ("bit(1)", "1"),
    "day": ("date", "'2024-02-29'"),
    "no_day": ("date", "'0000-00-00'"),
    "some_day": ("date", "'2024-00-10'"),
    "moment": ("timestamp(6) null", "'2024-10-27 00:30:00.123456'"),
    "moment3": ("timestamp(3) null", "'2024-10-27 00:30:00.5'"),
    "no_moment": ("timestamp null", "'0000-00-00 00:00:00'"),
    "last_moment": ("timestamp null", "'2038-01-19 03:14:07'"),
    "local": ("datetime(6)", "'9999-12-31 23:59:59.999999'"),
    "local1": ("datetime(1)", "'1000-01-01 00:00:00.1'"),
    "no_local": ("datetime", "'0000-00-00 00:00:00'"),
    "clock": ("time(2)", "'-12:30:00.50'"),
    "clock3": ("time(3)", "'-00:00:00.001'"),
    "long_clock": ("time", "'838:59:59'"),
    "fixed": ("char(5)", "'ab '"),
    "wide": ("char(200) character set utf8mb4", "'é'"),
    "varied": ("varchar(10)", "'ab '"),
    "long_varied": ("varchar(300)", "repeat('x', 300)"),
    "odd": ("text", r"'tab\t line\n back\\\\slash \"quoted\" é😀 \0'"),
    "empty": ("text", "''"),
    "nothing": ("text", "null"),
    "western": ("varchar(20) character set latin1", "'é€ÿ'"),
    "ascii_only": ("varchar(20) character set ascii", "'ascii'"),
    "greek": ("varchar(20) character set greek", "'Ωδή'"),
    "two_bytes": ("varchar(20) character set ucs2", "'é€'"),
    "chinese": ("varchar(20) character set gbk", "'中文'"),
    "japanese": ("varchar(20) character set sjis", "'日本'"),
    "bytes": ("varbinary(20)", "x'00ff0a5c'"),
    "fixed_bytes": ("binary(6)", "x'01020000'"),
    "blobs": ("blob", "x'00ff'"),
    "doc": ("json", '\'{"a": 1.10, "a":  [1, null]}\''),
    "mood": ("enum('ok','sehr müde')", "'sehr müde'"),
    "no_mood": ("enum('ok','bad')", "''"),
    "western_mood": ("enum('é','ü') character set latin1", "'ü'"),
    "several": ("set('x','y','é')", "'x,é'"),
    "none_of": ("set('x','y')", "''"),
    "place": ("point", "point(1, 2)"),
    "id4": ("uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"),
    "id1": ("uuid", "'a0eebc99-9c0b-1ef8-bb6d-6bb9bd380a00'"),
    "address": ("inet6", "'2001:db8::1'"),
    "mapped": ("inet6", "'::ffff:1.2.3.4'"),
    "any_address": ("inet6", "'::'"),
    "address4": ("inet4", "'10.0.0.0'"),
    "doubled": ("int as (`whole` / 2) stored", ""),
    "shown": ("varchar(20) as (concat(`tiny`, 'x')) virtual", ""),
    "hidden": ("int invisible default 5", "7"),
}


def test_each_value_lands_as_the_same_text_from_the_table_and_from_the_log(tmp_path: Path, server: Server) -> None:
    """Whatever its type, and whatever the server is set to; rows of NULLs too."""
    world = MariaDbWorld(server)
    columns = ", ".join(f"`{name}` {kind}" for name, (kind, _) in KINDS.items())
    given = {name: value for name, (_, value) in KINDS.items() if value}
    named = ", ".join(f"`{name}`" for name in given)

    def insert_kinds(key: int) -> list[str]:
        return [
            "set session sql_mode = '', time_zone = '+00:00'",
            f"insert into kinds (`key`, {named}) values ({key}, {', '.join(given.values())})",
            f"insert into kinds (`key`) values ({key + 1})",
        ]

    server.run("set global time_zone = '+05:30', global sql_mode = 'ANSI'")
    try:
        world.run(f"create table kinds (`key` int primary key, {columns}) character set utf8mb4", *insert_kinds(1))
        captured = Captured(tmp_path, world, tables=(f"{world.database}.kinds",), datasets=False)
        captured.drain()
        world.run(*insert_kinds(3))
        world.run("update kinds set tiny = 1 where `key` = 4")
        captured.drain()
    finally:
        server.run("set global time_zone = 'SYSTEM', global sql_mode = default")
    values = [value for _, value in landed_rows(tmp_path) if value is not None]
    assert len(values) == 5
    assert list(values[0]) == ["key", *KINDS]
    for read, logged in ((values[0], values[2]), (values[1], values[3])):
        assert {**read, "key": ""} == {**logged, "key": ""}
    full = values[0]
    assert {name: full[name] for name in ("exact", "real4", "real4_large", "real8", "bits", "moment", "moment3", "no_moment")} == {
        "exact": "-12345678901234567890123456789012345.123456789012345678901234567890", "real4": "0.1", "real4_large": "1.6777216e+07",
        "real8": "0.30000000000000004", "bits": "513", "moment": "2024-10-27 00:30:00.123456+00", "moment3": "2024-10-27 00:30:00.500+00",
        "no_moment": "0000-00-00 00:00:00",
    }  # fmt: skip
    assert (full["odd"], full["western"], full["fixed_bytes"], full["no_year"], full["doc"]) == (
        'tab\t line\n back\\\\slash "quoted" é😀 \0', "é€ÿ", "010200000000", "0000", '{"a": 1.10, "a":  [1, null]}',
    )  # fmt: skip
    assert values[4]["tiny"] == "1"
    assert values[4]["shown"] == "1x"


def test_a_capture_killed_again_and_again_misses_nothing(server: Server, tmp_path: Path) -> None:
    """Current tables are the source's, the history has every change once."""
    outcome = campaign(MariaDbBank(server), tmp_path, changes=1_500, kills=5)
    assert outcome.wrong == []
    assert outcome.changes >= 1_500


# --- what is lost is told


def test_log_files_that_are_gone_are_told_every_time(captured: Captured, world: MariaDbWorld) -> None:
    """With which, and which are left; nothing is begun anew unasked. When somebody asks, the gap is recorded and the tables are right."""
    world.run(insert(1, 5))
    captured.drain()
    world.run("delete from customers where id = 1", insert(6, 6))
    world.server.run("flush binary logs")
    (newest, *_), *_ = world.server.run("show master status")
    wait_until(lambda: world.server.run(f"purge binary logs to '{newest}'", "show binary logs")[0][0] == newest)
    for _ in range(2):
        with pytest.raises(StreamGap, match=rf"log files \d+ to \d+ are gone.*{newest}.*anew: true"):
            captured.drain()
    assert captured.gaps() == []
    drained = captured.drain(anew=True)
    assert len(drained.gaps) == 1
    assert len(captured.gaps()) == 1
    captured.assert_same()
    world.run("delete from customers where id = 2")
    captured.drain()
    captured.assert_same()
    assert len(captured.gaps()) == 1


def test_a_log_that_was_begun_anew_is_told(tmp_path: Path) -> None:
    """RESET MASTER makes files of the same names, with other changes at the same places."""
    with serve() as own:
        world = MariaDbWorld(own)
        captured = Captured(tmp_path, world)
        world.run(insert(1, 5))
        captured.drain()
        wait_for_another_second()
        own.run("reset master")
        with pytest.raises(StreamGap, match=r"RESET MASTER was run.*anew: true"):
            captured.drain()
        for first in range(1000, 9000, 1000):
            world.run(insert(first, first + 999))
        with pytest.raises(StreamGap, match=r"isn't the one that has been captured until now: its file 1 was made at"):
            captured.drain()
        captured.drain(anew=True)
        captured.assert_same()


def test_a_restored_database_is_told(tmp_path: Path) -> None:
    """A copy of the server's disk from before what has landed: its log has other changes at the same places."""
    with serve() as own:
        world = MariaDbWorld(own)
        captured = Captured(tmp_path, world)
        captured.drain()
        own.stop()
        subprocess.run(["cp", "-a", str(own.folder / "data"), str(own.folder / "copy")], check=True)
        own.start()
        world.run(insert(1, 5))
        captured.drain()
        captured.assert_same()
        own.stop()
        shutil.rmtree(own.folder / "data")
        (own.folder / "copy").rename(own.folder / "data")
        wait_for_another_second()
        own.start()
        for first in range(1000, 4000, 1000):
            world.run(insert(first, first + 999))
        with pytest.raises(StreamGap, match="isn't the one that has been captured until now"):
            captured.drain()
        captured.drain(anew=True)
        captured.assert_same()


def test_a_snapshot_that_was_not_read_to_its_end_counts_for_nothing(captured: Captured, world: MariaDbWorld) -> None:
    """The next drain reads the tables again, as they are then; rows that are gone since are gone."""
    world.run(insert(1, 5), "insert into orders values (1, 1, 1)")
    reader = world.reader(captured.stream)

    class Interrupted:
        """Ends after the first records."""

        def read(self, *args: Any, **named: Any) -> Iterator[object]:
            with closing(reader.read(*args, **named)) as events:  # type: ignore[type-var]
                for event in events:
                    yield event
                    if type(event).__name__ == "Arrived" and event.records.num_rows > 2:  # type: ignore[union-attr]
                        raise SourceUnavailable("the cable", "plug it in")

    with pytest.raises(SourceUnavailable):
        Drain(captured.landed(), Interrupted()).to_now()  # type: ignore[arg-type]
    world.run("delete from customers where id = 3", insert(6, 6))
    captured.drain()
    captured.assert_same()
    assert {Position.parse(place[1]).beginning for place in captured.places()} == {1, 2}


def test_a_capture_may_begin_with_the_next_change(tmp_path: Path, world: MariaDbWorld) -> None:
    """Then the tables aren't read; what has changed since the first drain comes, also when nothing had landed by then."""
    world.run(insert(1, 3))
    captured = Captured(tmp_path, world, source={"begin": "latest"})
    assert captured.drain().records == 0
    world.run(insert(4, 5))
    assert captured.drain().records == 2
    assert [row[0] for row in captured.current("customers")] == ["4", "5"]


def test_tables_are_read_by_several_connections_at_one_moment(tmp_path: Path, world: MariaDbWorld) -> None:
    """While somebody writes all the time, and no faster than declared."""
    world.run(insert(1, 2000))
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            world.run(
                f"insert into orders values ({number}, {number}, 1)",
                f"update customers set town = 't{number}' where id = 1",
            )

    writer = threading.Thread(target=write)
    writer.start()
    try:
        captured = Captured(tmp_path, world, source={"connections": 4, "rows_per_second": 10_000})
        captured.drain()
    finally:
        stop.set()
        writer.join(WITHIN_SECONDS)
    captured.drain()
    captured.assert_same()
    orders = [row for row in captured.history("orders", "id") if row[0] == "INSERT"]
    assert len(set(orders)) == len(orders)


def test_other_tables_than_the_capture_began_with_are_told(tmp_path: Path, world: MariaDbWorld) -> None:
    """The rows of one that is declared later were never read: that needs a new beginning."""
    world.run(insert(1, 2), "insert into orders values (1, 1, 1)")
    first = Captured(tmp_path, world, tables=(f"{world.database}.customers",), datasets=False)
    first.drain()
    both = Captured(tmp_path, world)
    with pytest.raises(SourceError, match=r"captures other tables now.*anew: true"):
        both.drain()
    both.drain(anew=True)
    both.assert_same()


# --- what the log is like


@pytest.mark.parametrize(
    ("variable", "wrong", "right"),
    [
        ("binlog_format", "STATEMENT", "ROW"),
        ("binlog_row_metadata", "NO_LOG", "FULL"),
        ("binlog_row_image", "MINIMAL", "FULL"),
    ],
)
def test_a_log_without_everything_is_refused_with_what_mends_it(
    captured: Captured, world: MariaDbWorld, variable: str, wrong: str, right: str
) -> None:
    """Before anything is read; and the statement that the message has does mend it."""
    world.server.run(f"set global {variable} = {wrong}")
    try:
        with pytest.raises(SourceError, match=f"{variable} is {wrong}.*set global {variable} = {right}") as told:
            captured.drain()
        assert not isinstance(told.value, StreamGap)
    finally:
        world.server.run(f"set global {variable} = {right}")
    world.run(insert(1, 2))
    captured.drain()
    captured.assert_same()


def test_a_server_without_a_log_is_told_what_to_set(tmp_path: Path) -> None:
    """That is its default."""
    with serve() as own:
        own.stop()
        own.start(skip_log_bin="", log_bin="")
        world = MariaDbWorld(own)
        with pytest.raises(SourceError, match=r"writes no binary log.*put log_bin and server_id into"):
            Captured(tmp_path, world).drain()


def test_a_table_is_looked_for_again_when_it_was_read(world: MariaDbWorld) -> None:
    """TRUNCATE drops a table and makes it anew: whoever asks for its kind in between is told of none, and reading it waits for that."""
    with closing(client.connect(client.access(world.server.properties(), "shop"))) as connection:
        rows, asked = connection.rows, list[str]()

        def as_if_truncated(statement: str, *values: object) -> list[tuple[Any, ...]]:
            asked.append(statement.split()[1])
            return rows(statement, *values) if len(asked) > 1 else []

        connection.rows = as_if_truncated  # type: ignore[method-assign]
        check_tables(connection, [f"{world.database}.customers"])
        assert asked[:3] == ["engine,", "1", "engine,"]
        del connection.rows
        with pytest.raises(SourceError, match="has no table"):
            check_tables(connection, [f"{world.database}.nothing"])


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("engine = Aria", "has no transactions.*engine = InnoDB"),
        (
            ", foreign key (id) references others (id) on delete cascade",
            "by its foreign key.*writes nothing of that to its log.*trigger",
        ),
        (", foreign key (id) references others (id) on update set null", "by its foreign key"),
        ("with system versioning", "is system-versioned"),
        (", packed text compressed", "COMPRESSED"),
    ],
)
def test_a_table_whose_changes_are_not_all_in_the_log_is_refused(
    tmp_path: Path, world: MariaDbWorld, made: str, said: str
) -> None:
    """Before anything has landed."""
    inside, options = (made, "") if made.startswith(",") else ("", made)
    world.run(
        "create table others (id int primary key)", f"create table those (id int null, key (id) {inside}) {options}"
    )
    captured = Captured(tmp_path, world, tables=(f"{world.database}.those",), datasets=False)
    with pytest.raises(SourceError, match=said):
        captured.drain()
    assert captured.places() == []


def test_a_table_that_becomes_one_whose_changes_are_not_in_the_log_is_told(
    captured: Captured, world: MariaDbWorld
) -> None:
    """Somebody adds a cascade while it is captured; once it is gone, the capture goes on."""
    captured.drain()
    world.run(insert(1, 2))
    world.run(
        "alter table orders add constraint whose foreign key (customer_id) references customers (id) on delete cascade"
    )
    with pytest.raises(SourceError, match="foreign key 'whose'"):
        captured.drain()
    world.run("alter table orders drop foreign key whose", insert(3, 3))
    captured.drain()
    captured.assert_same()


@pytest.mark.parametrize(
    "statement", ["drop table customers", "create or replace table customers like orders", "drop database `{database}`"]
)
def test_a_table_that_is_dropped_is_empty(captured: Captured, world: MariaDbWorld, statement: str) -> None:
    """The log has no removal of its rows."""
    world.run(insert(1, 3))
    captured.drain()
    definition = world.server.run("show create table customers", database=world.database)[0][1]
    world.run(statement.format(database=world.database))
    world.server.run(f"create database if not exists {world.database}")
    world.server.run("drop table if exists customers", definition, insert(2, 2), database=world.database)
    if "database" in statement:
        world.run("create table orders (id bigint primary key, customer_id bigint, amount numeric(12,2))")
    captured.drain()
    captured.assert_same()
    assert len(captured.current("customers")) == 1


def test_a_table_that_is_another_one_now_is_told(captured: Captured, world: MariaDbWorld) -> None:
    """As those who change large tables online do it: which rows it has isn't in the log under its name."""
    captured.drain()
    world.run("create table customers_new like customers", "insert into customers_new values (9, 'n', 't', null)")
    world.run("rename table customers to customers_old, customers_new to customers")
    for _ in range(2):
        with pytest.raises(StreamGap, match=r"rows of '\w+.customers' are others now.*rename table.*anew: true"):
            captured.drain()
    captured.drain(anew=True)
    captured.assert_same()


def test_a_statement_instead_of_rows_is_told(captured: Captured, world: MariaDbWorld) -> None:
    """Somebody has set another format for his session; that of other tables is his own business."""
    world.run("create table noise (id int)")
    captured.drain()
    as_statements = "set session binlog_format = STATEMENT"
    world.server.run(as_statements, "insert into noise values (1)", database=world.database)
    world.run(insert(1, 2))
    captured.drain()
    captured.assert_same()
    world.server.run(as_statements, "update customers set town = 'x'", database=world.database)
    with pytest.raises(StreamGap, match=r"were changed by a statement.*update customers.*binlog_format"):
        captured.drain()
    captured.drain(anew=True)
    captured.assert_same()


def test_values_that_a_session_does_not_log_stay_what_they_were(captured: Captured, world: MariaDbWorld) -> None:
    """Of an update; a new row of which something is missing is told."""
    world.run(insert(1, 3))
    captured.drain()
    world.run(
        "set session binlog_row_image = MINIMAL", "update customers set town = 'x' where id = 1", "delete from customers where id = 2",
        "update customers set notes = 'long' where id = 1",
    )  # fmt: skip
    captured.drain()
    captured.assert_same()
    world.run("set session binlog_row_image = MINIMAL", "insert into customers (id) values (7)")
    with pytest.raises(StreamGap, match=r"a new row .* without its 'name'.*binlog_row_image"):
        captured.drain()


def test_what_was_rolled_back_does_not_land(captured: Captured, world: MariaDbWorld) -> None:
    """Though the log has it, because a table without transactions was changed in between."""
    world.run("create table noise (id int) engine = MyISAM")
    captured.drain()
    world.run(
        insert(1, 1), "savepoint here", insert(2, 3), "insert into noise values (1)", "create temporary table t (id int)",
        "rollback to savepoint here", insert(4, 4),
    )  # fmt: skip
    with closing(world.server.connect(world.database)) as connection, connection.cursor() as cursor:
        connection.begin()
        cursor.execute(insert(5, 6))
        cursor.execute("insert into noise values (2)")
        cursor.execute("create temporary table t (id int)")
        connection.rollback()
    world.run(insert(7, 7))
    captured.drain()
    captured.assert_same()
    assert [row[0] for row in captured.current("customers")] == ["1", "4", "7"]


def test_a_transaction_that_is_decided_later_is_told(captured: Captured, world: MariaDbWorld) -> None:
    """XA writes it to the log before it has committed; that of other tables is nobody's business."""
    world.run("create table noise (id int)")
    captured.drain()
    for table, name in (("noise", "a"), ("customers (id)", "b")):
        with closing(world.server.connect(world.database)) as connection, connection.cursor() as cursor:
            for statement in (
                f"xa start '{name}'",
                f"insert into {table} values (1)",
                f"xa end '{name}'",
                f"xa prepare '{name}'",
            ):
                cursor.execute(statement)
        wait_until(lambda: bool(world.server.run("xa recover")))
        if table == "noise":
            captured.drain()
        else:
            with pytest.raises(StreamGap, match="an XA transaction has changed"):
                captured.drain()
        world.server.run(f"xa rollback '{name}'")


def test_a_compressed_log_is_read(captured: Captured, world: MariaDbWorld) -> None:
    """Rows and statements."""
    captured.drain()
    world.server.run("set global log_bin_compress = ON", "set global log_bin_compress_min_len = 10")
    try:
        world.run(
            "alter table customers add column extra varchar(100) default 'a long text, so that it is worth while'",
            insert_long(1, 50),
        )
        world.run("update customers set name = repeat('y', 500)", "delete from customers where id = 5")
        world.run(
            "truncate table customers /* long enough to be compressed, compressed, compressed */", insert_long(60, 61)
        )
    finally:
        world.server.run("set global log_bin_compress = OFF")
    captured.drain()
    captured.assert_same()
    assert len(captured.current("customers")) == 2


def insert_long(first: int, last: int) -> str:
    """SQL that inserts customers whose rows are worth being compressed."""
    return f"insert into customers (id, name, notes) select seq, repeat('x', 100), repeat('z', 200) from seq_{first}_to_{last}"


def test_rows_larger_than_a_packet_are_read(captured: Captured, world: MariaDbWorld) -> None:
    """A packet has 16 MB at most; one that is exactly as large is followed by an empty one."""
    world.server.run("set global max_allowed_packet = 67108864")
    world.run(
        "alter table customers modify notes longtext",
        "insert into customers values (1, 'a', 'b', repeat('x', 17000000))",
    )
    captured.drain()
    # Around its row an event has some bytes of its own: one of these fills a packet to the last byte.
    lengths = range(16_777_215 - 55, 16_777_215 - 50)
    world.run(
        "delete from customers", *(f"insert into customers values ({n}, 'a', 'b', repeat('y', {n}))" for n in lengths)
    )
    captured.drain()
    sizes = sorted(
        len(value["notes"] or "")
        for headers, value in landed_rows(captured.folder)
        if value and headers["operation"] == b"INSERT"
    )
    assert sizes == list(lengths)


# --- who reads when


def test_the_place_of_a_quiet_table_moves_on(captured: Captured, world: MariaDbWorld) -> None:
    """With the log's files: those that it doesn't need may be purged."""
    world.run(insert(1, 1))
    captured.drain()
    world.run("create table noise (id int)")
    for number in range(3):
        world.run(f"insert into noise values ({number})")
        world.server.run("flush binary logs")
    places = captured.places()
    assert captured.drain().records == 0
    assert captured.places() == places
    (newest, *_), *_ = world.server.run("show master status")
    wait_until(lambda: world.server.run(f"purge binary logs to '{newest}'", "show binary logs")[0][0] == newest)
    world.run(insert(2, 2))
    assert captured.drain().records == 1
    captured.assert_same()


def test_a_log_that_others_write_to_without_a_pause_is_followed(tmp_path: Path, world: MariaDbWorld) -> None:
    """What has come lands in time, and whoever follows it can be stopped."""
    world.run("create table noise (id int auto_increment primary key, t int)")
    captured = Captured(tmp_path, world, segment_seconds=0.1)
    captured.drain()
    reader: Any = world.reader(captured.stream)
    # A note now and then: one for each transaction of others would be more work than they are.
    reader.mark_seconds = 0.5
    stop, enough = threading.Event(), threading.Event()

    def write() -> None:
        with closing(world.server.connect(world.database)) as connection, connection.cursor() as cursor:
            while not enough.wait(0.005):
                cursor.execute("insert into noise (t) values (1), (2), (3)")

    threads = [
        threading.Thread(target=write),
        threading.Thread(target=lambda: Drain(captured.landed(), reader).follow(stop)),
    ]
    for thread in threads:
        thread.start()
    try:
        world.run(insert(1, 2))
        wait_until(lambda: len(captured.places()) == 2)
        world.server.run("flush binary logs")
        # One was noted when the capture began, another one when the log went on to its next file.
        wait_until(lambda: len(list((tmp_path / "landing").rglob("*.mark.json"))) >= 2)
    finally:
        stop.set()
        threads[1].join(WITHIN_SECONDS)
        enough.set()
        threads[0].join(WITHIN_SECONDS)
    assert not threads[1].is_alive()
    captured.drain()
    captured.assert_same()


def test_a_server_that_is_restarted_is_followed_again(tmp_path: Path) -> None:
    """In order or killed; each time it begins another file of its log."""
    # A server that is killed remembers what it has committed only if it is told to.
    durable = {"innodb_flush_log_at_trx_commit": "1"}
    with serve(**durable) as own:
        world = MariaDbWorld(own)
        captured = Captured(tmp_path, world, segment_seconds=0.1)
        captured.drain()
        stop = threading.Event()
        follower = threading.Thread(target=lambda: Drain(captured.landed(), world.reader(captured.stream)).follow(stop))
        follower.start()
        try:
            for number, end in enumerate((own.stop, own.kill)):
                world.run(insert(10 * number + 1, 10 * number + 5))
                wait_until(lambda number=number: len(captured.places()) == 2 + number)  # type: ignore[misc]
                end()
                own.start(**durable)
            world.run(insert(30, 31))
            wait_until(lambda: len(captured.places()) == 4)
        finally:
            stop.set()
            follower.join(WITHIN_SECONDS)
        captured.drain()
        captured.assert_same()
        assert len(captured.history("customers", "id")) == 12


def test_a_connection_that_is_ended_is_made_again(tmp_path: Path, world: MariaDbWorld) -> None:
    """By KILL in the middle of a transaction, and by another replica with the same number: nothing is lost, nothing comes twice."""
    captured = Captured(tmp_path, world, segment_seconds=0.1, segment_bytes=40_000)
    captured.drain()
    reader: Any = world.reader(captured.stream)
    numbers = [4_000_000_001, 4_000_000_002, 4_000_000_003, 4_000_000_004]
    reader.replica = lambda: numbers.pop(0)
    stop = threading.Event()
    drain = Drain(captured.landed(), reader)
    follower = threading.Thread(target=lambda: drain.follow(stop))
    reading = "select id from information_schema.processlist where command = 'Binlog Dump' and user = 'owner'"
    follower.start()
    try:
        wait_until(lambda: world.one(reading) is not None)
        first = world.one(reading)
        world.run(*(insert(number, number + 999) for number in range(1, 10_000, 1000)))
        world.server.run(f"kill {first}")
        wait_until(lambda: world.one(reading) not in (None, first))
        second = world.one(reading)
        other = pymysql.connect(**{**arguments(world), "user": "owner"})
        with closing(other):
            # Whoever comes with the same number takes its place.
            sent: Any = other
            (file, offset, *_), *_ = world.server.run("show master status")
            sent._execute_command(
                0x12, offset.to_bytes(4, "little") + b"\0\0" + (4_000_000_002).to_bytes(4, "little") + file.encode()
            )
            wait_until(lambda: str(second) not in str(world.server.run(reading)))
            world.run(insert(20_000, 20_001))
            wait_until(lambda: len(numbers) == 1)
    finally:
        stop.set()
        follower.join(WITHIN_SECONDS)
    captured.drain()
    captured.assert_same()
    assert len(captured.history("customers", "id")) == 10_002
    assert drain.so_far().shards["log"].throttles >= 2


def arguments(world: MariaDbWorld) -> dict[str, Any]:
    """What PyMySQL wants of the server."""
    said = world.server.properties(world.database)
    return {"host": said["host"], "port": int(said["port"]), "password": said["password"]}


def test_a_drain_leaves_it_to_a_worker_that_captures(captured: Captured, world: MariaDbWorld) -> None:
    """A schedule beside a worker fails at nothing, and lands nothing twice; it tells how much of the log hasn't landed."""
    captured.drain()
    stop = threading.Event()
    follower = threading.Thread(target=lambda: Drain(captured.landed(), world.reader(captured.stream)).follow(stop))
    follower.start()
    try:
        wait_until(
            lambda: world.one("select count(*) from information_schema.processlist where command = 'Binlog Dump'") == 1
        )
        world.run(insert(1, 3))
        drained = captured.drain()
    finally:
        stop.set()
        follower.join(WITHIN_SECONDS)
    assert drained.records == 0
    assert not drained.is_caught_up
    assert (drained.shards["log"].kept_bytes or 0) > 0
    captured.drain()
    captured.assert_same()
    assert len(captured.history("customers", "id")) == 3


# --- who may, and what is said of it


def test_whoever_may_not_is_told_what_is_needed(tmp_path: Path, world: MariaDbWorld) -> None:
    """Until he has what the message says; no message has the password."""
    world.run(insert(1, 2))
    user = f"r{world.database[:10]}"
    world.server.run(f"create user {user}@'127.0.0.1' identified by 'hidden-thing'")
    properties = world.server.properties(world.database) | {"user": user, "password": "hidden-thing"}
    del properties["database"]
    captured = Captured(tmp_path, world)

    def drain(**changes: str) -> None:
        Drain(
            captured.landed(), open_reader(captured.stream, Connections(databases={"shop": properties | changes}))
        ).to_now()

    for grant in ("replication slave on *.*", "binlog monitor on *.*", f"select on {world.database}.*"):
        with pytest.raises(SourceError, match=r"replication slave, binlog monitor|mayn't be read") as told:
            drain()
        assert "hidden-thing" not in str(told.value)
        world.server.run(f"grant {grant} to {user}@'127.0.0.1'")
    drain()
    captured.assert_same()
    with pytest.raises(SourceError, match=r"Access denied.*check user, password") as told:
        drain(password="wrong-thing")
    assert "wrong-thing" not in str(told.value)
    for changes, said in (
        ({"hots": "x"}, "'hots', which a MariaDB database has no use for"),
        ({"port": "many"}, "port is no number"),
        ({"ssl_verify_cert": "maybe"}, "neither true nor false"),
        ({"kind": "postgresql"}, "as one of kind 'mariadb', and the file of INGESTION_DATABASES says 'postgresql'"),
    ):
        with pytest.raises(SettingsError, match=said) as refused:
            drain(**changes)
        assert "hidden-thing" not in str(refused.value)
    with pytest.raises(SettingsError, match="no such database is configured"):
        open_reader(captured.stream, Connections())


def test_a_log_cannot_be_replayed(captured: Captured, world: MariaDbWorld) -> None:
    """What has landed is in the landing zone."""
    captured.drain()
    with pytest.raises(IngestionError, match="can't be replayed"):
        Drain(captured.landed(), world.reader(captured.stream)).replay(
            datetime(2024, 10, 1, tzinfo=UTC), datetime.now(UTC)
        )


# --- small parts


def test_a_position_is_the_digits_of_its_parts() -> None:
    """So that names sort as positions do, and say where in the log they are."""
    position = Position(12, 345678, 7, 1_732_221_000, 4_711, 3)
    assert str(int(position)) == "12" + "345678" + "0000000007" + "1732221000" + "0000004711" + "0000000000003"
    assert Position.parse(int(position)) == position
    assert int(Position(1, 999_999, 10**10 - 1, 10**10 - 1, 10**10 - 1, 10**13 - 1)) < int(Position(2, 0))


@pytest.mark.parametrize(
    ("statement", "done"),
    [
        ("truncate customers", Done("TRUNCATE", emptied=("d.customers",))),
        ("TRUNCATE TABLE `o``d`.`customers` WAIT 5", Done("TRUNCATE", emptied=("o`d.customers",))),
        ("/* a */ truncate -- b\n table # c\n other . customers", Done("TRUNCATE", emptied=("other.customers",))),
        ("DROP TABLE IF EXISTS `a`,`b`.`c` /* generated by server */", Done("DROP", emptied=("d.a", "b.c"))),
        ("drop temporary table if exists a", Done("DROP")),
        ("drop index a on b", Done("DROP")),
        ("drop schema if exists `x`", Done("DROP", emptied_database="x")),
        ("create or replace table a (id int)", Done("CREATE", emptied=("d.a",), altered=("d.a",))),
        ("create temporary table a (id int)", Done("CREATE")),
        ("create table if not exists a like b", Done("CREATE", altered=("d.a",))),
        ("rename table a to b, c.d wait 3 to e", Done("RENAME", swapped=("d.a", "d.b", "c.d", "d.e"))),
        ("alter table a add column b int", Done("ALTER", altered=("d.a",))),
        ("alter online table a.b rename column c to d, rename key e to f", Done("ALTER", altered=("a.b",))),
        ("alter table a add b int, rename to c.d", Done("ALTER", swapped=("d.a", "c.d"), altered=("d.a",))),
        ("alter table a rename b", Done("ALTER", swapped=("d.a", "d.b"), altered=("d.a",))),
        ("alter table a truncate partition p", Done("ALTER", swapped=("d.a",), altered=("d.a",))),
        ("alter table a exchange partition p with table b", Done("ALTER", swapped=("d.a", "d.b"), altered=("d.a",))),
        ("alter table a comment 'rename to b'", Done("ALTER", altered=("d.a",))),
        ("create /*M!100101 or replace */ table a (b int)", Done("CREATE", emptied=("d.a",), altered=("d.a",))),
        ("optimize table a", Done("OPTIMIZE")),
        ("", Done("")),
        ("'", Done("")),
    ],
)
def test_statements_are_looked_through_for_what_they_do_to_tables(statement: str, done: Done) -> None:
    """However they are written."""
    assert look_through(statement, "d") == done


class Told:
    """A catalog that knows one character set."""

    def charset_of(self, collation: int) -> str:
        """See `Catalog`."""
        return "utf8mb4" if collation != 63 else "binary"

    def characters_of(self, charset: str) -> str:
        """See `Catalog`."""
        return ""

    def shown_as(self, table: str, column: str) -> str:
        """See `Catalog`."""
        return ""

    def check(self, tables: Iterable[str]) -> None:
        """See `Catalog`."""


def test_events_that_are_damaged_end_in_the_platforms_own_errors(world: MariaDbWorld) -> None:
    """Whichever byte is another one, with a check sum that fits: nothing else is raised, and nothing hangs."""
    world.server.run("flush binary logs")
    (file, offset, *_), *_ = world.server.run("show master status")
    world.run(
        insert(1, 2), "update customers set id = id + 10, name = null", "delete from customers", "truncate orders"
    )
    access = client.access(world.server.properties(), "shop")
    with closing(client.Log(access, file, offset, replica=4_000_000_009, follows=False)) as log:
        events = [event for event in log.events() if event is not None]

    def decoded(found: list[bytes]) -> int:
        decoder = Decoder(Position(1, 2, int(file[-6:]), 0, offset), [f"{world.database}.customers"], Told(), "here")
        for event in found:
            decoder.take(event)
        return len(decoder.gathered)

    assert decoded(events) == 8
    chance, refused = random.Random(3), 0
    for _ in range(1_000):
        number = chance.randrange(2, len(events))
        body = bytearray(events[number][:-4])
        body[chance.randrange(13, len(body))] = chance.randrange(256)
        event = bytes(body) + zlib.crc32(body).to_bytes(4, "little")
        try:
            decoded([*events[:number], event, *events[number + 1 :]])
        except IngestionError:
            refused += 1
    assert refused > 50


def test_a_connection_is_encrypted_and_its_server_known(tmp_path: Path) -> None:
    """Where the settings name an authority: the log comes through it, and a server that it doesn't vouch for is refused."""
    for name in ("server", "stranger"):
        subprocess.run(
            [
                "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
                "subjectAltName=IP:127.0.0.1", "-keyout", str(tmp_path / f"{name}.key"), "-out", str(tmp_path / f"{name}.pem"),
            ],
            check=True, capture_output=True,
        )  # fmt: skip
    with serve() as own:
        own.stop()
        for ending in ("key", "pem"):
            shutil.copy(tmp_path / f"server.{ending}", own.folder)
            (own.folder / f"server.{ending}").chmod(0o644)
        own.start(ssl_cert=str(own.folder / "server.pem"), ssl_key=str(own.folder / "server.key"))
        world = MariaDbWorld(own)
        own.run("create user safe@'127.0.0.1' identified by 'x' require ssl", "grant all on *.* to safe@'127.0.0.1'")
        captured = Captured(tmp_path, world)
        properties = own.properties() | {"user": "safe", "password": "x"}

        def drain(**changes: str) -> None:
            databases = {"shop": properties | changes}
            Drain(captured.landed(), open_reader(captured.stream, Connections(databases=databases))).to_now()

        with pytest.raises(SourceError, match="Access denied"):
            drain()
        with pytest.raises(SourceError, match="check ssl_ca"):
            drain(ssl_ca=str(tmp_path / "stranger.pem"))
        with pytest.raises(SourceError, match="check ssl_ca"):
            drain(ssl_ca=str(tmp_path / "nobody.pem"))
        drain(ssl_ca=str(tmp_path / "server.pem"))
        world.run(insert(1, 3), *(insert(first, first + 999) for first in range(10, 4000, 1000)))
        drain(ssl_ca=str(tmp_path / "server.pem"))
        captured.assert_same()
