"""PostgreSQL as only PostgreSQL is: slots that are lost, identities, types, restarts; and the whole way through Dagster's command line."""

import os
import re
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import pyarrow.parquet as pq
import pytest

from ingestion_platform.errors import SettingsError, SourceError, SourceUnavailable, StreamGap
from ingestion_platform.sources.drain import Drain
from ingestion_platform.sources.opening import Connections, open_reader
from ingestion_platform.sources.postgres_changes import Position, parse_lsn, written_lsn
from ingestion_platform.sources.postgres_snapshot import values_of
from ingestion_platform.sources.reading import Oldest
from ingestion_platform_tests.sources.capture_kills import campaign
from ingestion_platform_tests.sources.database_world import Captured
from ingestion_platform_tests.sources.postgres_server import PASSWORD, Server, serve
from ingestion_platform_tests.sources.postgres_world import PostgresBank, PostgresWorld

ROOT = Path(__file__).resolve().parents[2]
WITHIN_SECONDS = 90.0


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server for all of these tests; each has a database of its own."""
    with serve() as one:
        yield one


@pytest.fixture
def world(server: Server) -> PostgresWorld:
    """An empty database."""
    return PostgresWorld(server)


@pytest.fixture
def captured(tmp_path: Path, world: PostgresWorld) -> Captured:
    """Its capture."""
    return Captured(tmp_path, world)


def wait_until(what: Callable[[], bool]) -> None:
    """Wait until something holds."""
    until = time.monotonic() + WITHIN_SECONDS
    while not what():
        assert time.monotonic() < until, "it didn't come to be"
        time.sleep(0.02)


def slot_of(captured: Captured, number: int = 1) -> str:
    """The name of a slot of the capture."""
    return f"ingestion_{captured.stream.name}_{number}"


def insert(first: int, last: int) -> str:
    """SQL that inserts customers."""
    return f"insert into customers select i, 'n' || i, 'Durban', null from generate_series({first}, {last}) i"


# --- what is lost is told


def test_a_slot_that_was_dropped_is_told_every_time(captured: Captured, world: PostgresWorld) -> None:
    """Nothing is begun anew unasked; when somebody asks, the gap is recorded and the tables are right again."""
    world.run(insert(1, 5))
    captured.drain()
    world.run(
        f"select pg_drop_replication_slot('{slot_of(captured)}')", "delete from customers where id = 1", insert(6, 6)
    )
    for _ in range(2):
        with pytest.raises(StreamGap, match=r"isn't there any more.*anew: true"):
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


def test_a_slot_that_somebody_else_has_read_is_told(captured: Captured, world: PostgresWorld) -> None:
    """What he has taken is gone."""
    captured.drain()
    world.run(insert(1, 5))
    world.run(f"select pg_replication_slot_advance('{slot_of(captured)}', pg_current_wal_lsn())")
    with pytest.raises(StreamGap, match="has been read by somebody else"):
        captured.drain()


def test_a_slot_that_took_too_much_room_is_told(tmp_path: Path) -> None:
    """The database drops what it keeps when that is more than max_slot_wal_keep_size."""
    with serve() as own:
        own.stop()
        own.start("fsync=off", "max_slot_wal_keep_size=16MB", "max_wal_size=32MB", "min_wal_size=32MB")
        world = PostgresWorld(own)
        captured = Captured(tmp_path, world)
        captured.drain()
        for _ in range(5):
            world.run("insert into orders select i, i, i from generate_series(1, 100000) i", "delete from orders")
            with own.connect(world.database) as connection:
                connection.execute("select pg_switch_wal()")
                connection.execute("checkpoint")
        with pytest.raises(StreamGap, match="max_slot_wal_keep_size"):
            captured.drain()


def test_a_restored_database_is_told(tmp_path: Path) -> None:
    """A copy of the server's disk from before what has landed: its log has other changes at the same places."""
    with serve() as own:
        world = PostgresWorld(own)
        captured = Captured(tmp_path, world)
        captured.drain()
        world.run(insert(1, 5))
        captured.drain()
        own.stop()
        shutil.copytree(own.folder / "data", own.folder / "copy", symlinks=True)
        own.start("fsync=off")
        world.run("update customers set town = 'x'")
        captured.drain()
        own.stop()
        shutil.rmtree(own.folder / "data")
        (own.folder / "copy").rename(own.folder / "data")
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", f"--reference={own.folder}", str(own.folder / "data")], check=True)
        own.start("fsync=off")
        with pytest.raises(StreamGap, match=r"of a log that ends at|isn't the one that has been captured"):
            captured.drain()
        world.run(*(insert(first, first + 999) for first in range(1000, 9000, 1000)))
        with pytest.raises(StreamGap, match="isn't the one that has been captured"):
            captured.drain()
        captured.drain(anew=True)
        captured.assert_same()


def test_a_snapshot_that_was_not_read_to_its_end_counts_for_nothing(captured: Captured, world: PostgresWorld) -> None:
    """The next drain reads the tables again, as they are then, with another slot; rows that are gone since are gone."""
    world.run(insert(1, 5), "insert into orders values (1, 1, 1)")
    reader = world.reader(captured.stream)
    events = reader.read(lambda _: Oldest(), until=datetime.now(UTC))

    class Interrupted:
        """Ends after the first records."""

        def read(self, *_: object, **__: object) -> Iterator[object]:
            for event in events:
                yield event
                if type(event).__name__ == "Arrived" and event.records.num_rows > 2:  # type: ignore[union-attr]
                    raise SourceUnavailable("the cable", "plug it in")

    with pytest.raises(SourceUnavailable):
        Drain(captured.landed(), Interrupted()).to_now()  # type: ignore[arg-type]
    events.close()  # type: ignore[attr-defined]
    world.run("delete from customers where id = 3", insert(6, 6))
    captured.drain()
    captured.assert_same()
    slots = world.one(
        f"select string_agg(slot_name, ' ') from pg_replication_slots where slot_name like '{slot_of(captured)[:-1]}%'"
    )
    assert slots == slot_of(captured, 2)


def test_a_capture_may_begin_with_the_next_change(tmp_path: Path, world: PostgresWorld) -> None:
    """Then the tables aren't read; what has changed since the first drain comes, also when nothing had landed by then."""
    world.run(insert(1, 3))
    captured = Captured(tmp_path, world, source={"begin": "latest"})
    assert captured.drain().records == 0
    world.run(insert(4, 5))
    assert captured.drain().records == 2
    assert [row[0] for row in captured.current("customers")] == ["4", "5"]


def test_a_beginning_that_waits_for_somebodys_transaction_can_be_ended(
    captured: Captured, world: PostgresWorld
) -> None:
    """A slot is made when all transactions of that moment have ended; until then the drain can be stopped, and begins again later."""
    stop = threading.Event()
    with world.server.connect(world.database) as other, other.transaction():
        other.execute("insert into orders values (1, 1, 1)")
        follower = threading.Thread(target=lambda: Drain(captured.landed(), world.reader(captured.stream)).follow(stop))
        follower.start()
        waits = f"select count(*) from pg_stat_activity where datname = '{world.database}' and query like 'CREATE_REPLICATION%'"
        wait_until(lambda: world.one(waits) == 1)
        stop.set()
        follower.join(WITHIN_SECONDS)
        assert not follower.is_alive()
    captured.drain()
    captured.assert_same()


def test_the_tables_are_read_no_faster_than_declared(tmp_path: Path, world: PostgresWorld) -> None:
    """So that the database has time for others."""
    world.run(f"insert into customers select i, 'n', 't', '{'x' * 2000}' from generate_series(1, 2000) i")
    captured = Captured(tmp_path, world, source={"rows_per_second": 1_000})
    began = time.monotonic()
    captured.drain()
    # What is there at first isn't waited for.
    assert time.monotonic() - began > 1.0
    captured.assert_same()


# --- the slot


def test_an_empty_landing_zone_does_not_take_another_ones_place(
    captured: Captured, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What the database keeps for somebody else isn't dropped unasked."""
    captured.drain()
    other = Captured(tmp_path_factory.mktemp("other"), captured.world)
    with pytest.raises(Exception, match="it is another one's"):
        other.drain()
    captured.world.run(insert(1, 1))
    captured.drain()
    captured.assert_same()


def test_the_slot_is_confirmed_when_the_segment_has_landed(captured: Captured, world: PostgresWorld) -> None:
    """Neither before it nor much later: the drain's own end tells the database."""
    captured.drain()
    confirmed = f"select confirmed_flush_lsn - '0/0' from pg_replication_slots where slot_name = '{slot_of(captured)}'"
    before = world.one(confirmed)
    world.run(insert(1, 5))
    landed = captured.landed()
    put = landed.zone.put_if_absent

    def refuse(key: str, content: bytes) -> bool:
        if key.endswith(".parquet"):
            raise OSError("the disk is full")
        return put(key, content)

    landed.zone.put_if_absent = refuse  # type: ignore[method-assign]
    with pytest.raises(OSError, match="full"):
        Drain(landed, world.reader(captured.stream)).to_now()
    assert world.one(confirmed) == before
    captured.drain()
    wait_until(lambda: world.one(confirmed) != before)
    last = Position.parse(captured.places()[-1][2])
    assert world.one(confirmed) == last.lsn


def test_the_slot_of_an_idle_table_moves_on(captured: Captured, world: PostgresWorld) -> None:
    """What others write to the log isn't kept for ever: a mark lands that says that nothing of it is ours."""
    captured.drain()
    world.run(
        "create table noise (id int, t text)",
        "insert into noise select i, repeat('x', 900) from generate_series(1, 25000) i",
    )
    confirmed = f"select (confirmed_flush_lsn - '0/0')::bigint from pg_replication_slots where slot_name = '{slot_of(captured)}'"
    before, places = world.one(confirmed), captured.places()
    kept = captured.drain().shards["log"].kept_bytes
    assert captured.places() == places
    wait_until(lambda: int(str(world.one(confirmed))) > int(str(before)) + 16_000_000)
    assert kept is not None
    world.run(insert(1, 1))
    captured.drain()
    captured.assert_same()


def test_a_server_that_is_stopped_does_not_wait_for_the_capture(tmp_path: Path) -> None:
    """And the capture goes on when it is back."""
    with serve() as own:
        world = PostgresWorld(own)
        captured = Captured(tmp_path, world, segment_seconds=0.1)
        captured.drain()
        stop = threading.Event()
        follower = threading.Thread(target=lambda: Drain(captured.landed(), world.reader(captured.stream)).follow(stop))
        follower.start()
        try:
            world.run(insert(1, 5))
            wait_until(lambda: len(captured.places()) == 2)
            began = time.monotonic()
            own.stop()
            assert time.monotonic() - began < 30
            own.start("fsync=off")
            world.run(insert(6, 8))
            wait_until(lambda: len(captured.places()) >= 3)
        finally:
            stop.set()
            follower.join(WITHIN_SECONDS)
        captured.drain()
        captured.assert_same()


def test_a_drain_leaves_it_to_a_worker_that_captures(captured: Captured, world: PostgresWorld) -> None:
    """A schedule beside a worker fails at nothing, and lands nothing twice; it tells what the database keeps."""
    captured.drain()
    stop = threading.Event()
    follower = threading.Thread(target=lambda: Drain(captured.landed(), world.reader(captured.stream)).follow(stop))
    follower.start()
    active = f"select active from pg_replication_slots where slot_name = '{slot_of(captured)}'"
    try:
        wait_until(lambda: world.one(active) is True)
        world.run(insert(1, 3))
        drained = captured.drain()
    finally:
        stop.set()
        follower.join(WITHIN_SECONDS)
    assert drained.records == 0
    assert not drained.is_caught_up
    assert drained.shards["log"].kept_bytes is not None
    captured.drain()
    captured.assert_same()
    assert len(captured.history("customers", "id")) == 3


def test_a_capture_killed_again_and_again_misses_nothing(server: Server, tmp_path: Path) -> None:
    """Current tables are the source's, the history has every change once."""
    outcome = campaign(PostgresBank(server), tmp_path, changes=3_000, kills=8)
    assert outcome.wrong == []
    assert outcome.changes >= 3_000


# --- rows


TYPES = {
    "small": ("smallint", "-32768"),
    "big": ("bigint", "9223372036854775807"),
    "exact": ("numeric", "'123456789012345678901234567890.123450'"),
    "not_a_number": ("numeric", "'NaN'"),
    "real4": ("real", "0.1"),
    "real8": ("double precision", "0.1::float8 + 0.2::float8"),
    "yes": ("boolean", "true"),
    "fixed": ("char(5)", "'ab'"),
    "tabbed": ("text", r"E'tab\t line\n back\\slash \"quoted\" \u00e9\U0001F600'"),
    "empty": ("text", "''"),
    "null_word": ("text", r"'\N'"),
    "nothing": ("text", "null"),
    "bytes": ("bytea", r"'\x00ff0a5c'"),
    "day": ("date", "'0044-03-15 BC'"),
    "moment": ("timestamptz", "'2024-10-27 02:30:00.123456+02'"),
    "local": ("timestamp", "'infinity'"),
    "clock": ("timetz", "'10:00:00.5+05:30'"),
    "span": ("interval", "'1 year -2 days 3.5 seconds'"),
    "id": ("uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"),
    "doc": ("json", '\'{"a": 1.10, "a":  2}\''),
    "docb": ("jsonb", "'{\"b\": [1, 1.50, null]}'"),
    "numbers": ("int[]", "'{{1,NULL},{3,4}}'"),
    "texts": ("text[]", "array['a,b', '\"', 'NULL', null]"),
    "mood": ("mood", "'very sad'"),
    "pair": ("pair", "row(1, 'a,b')::pair"),
    "network": ("inet", "'10.0.0.1/8'"),
    "range": ("int4range", "'[1,5)'"),
    "point": ("point", "'(1.5,-2)'"),
    "money": ("money", "'12.34'"),
    "bits": ("varbit", "B'101'"),
    "search": ("tsvector", "'a b'::tsvector"),
}


def test_each_value_lands_as_the_text_that_the_database_writes(tmp_path: Path, server: Server) -> None:
    """The same when it is read from the table and when it comes by the log, whatever the session or the user is set to."""
    world = PostgresWorld(server)
    columns = ", ".join(f"{name} {kind}" for name, (kind, _) in TYPES.items())
    values = ", ".join(value for _, value in TYPES.values())
    world.run(
        "create type mood as enum ('ok', 'very sad')",
        "create type pair as (a int, b text)",
        f"create table kinds (key int primary key, {columns}, doubled int generated always as (key * 2) stored)",
        f"insert into kinds values (1, {values})",
        f"alter database {world.database} set datestyle = 'SQL, DMY'",
        f"alter database {world.database} set timezone = 'Asia/Tokyo'",
        f"alter database {world.database} set bytea_output = 'escape'",
        f"alter database {world.database} set intervalstyle = 'sql_standard'",
    )
    captured = Captured(tmp_path, world, tables=("public.kinds",), datasets=False)
    captured.drain()
    world.run(f"insert into kinds values (2, {values})")
    captured.drain()
    found = []
    for path in sorted((tmp_path / "landing").rglob("*.parquet")):
        found += [value for value in pq.read_table(path).column("value").to_pylist() if value is not None]
    assert len(found) == 2
    assert found[0].replace(b'"key":"1"', b'"key":"2"') == found[1]
    assert b'"exact":"123456789012345678901234567890.123450"' in found[0]
    assert b'"moment":"2024-10-27 00:30:00.123456+00"' in found[0]
    assert b'"real8":"0.30000000000000004"' in found[0]
    assert rb'"bytes":"\\x00ff0a5c"' in found[0]
    assert b'"doc":"{\\"a\\": 1.10, \\"a\\":  2}"' in found[0]
    assert b"doubled" not in found[0]


def test_a_table_that_says_all_of_a_row_before_each_change_needs_no_key(tmp_path: Path, world: PostgresWorld) -> None:
    """REPLICA IDENTITY FULL: an update is told by the whole former row, and large values are in it."""
    world.run(
        "alter table customers drop constraint customers_pkey", "alter table customers replica identity full",
        f"insert into customers values (1, 'a', 't', '{'x' * 5000}'), (2, 'b', 't', null)",
    )  # fmt: skip
    captured = Captured(tmp_path, world)
    captured.drain()
    world.run(
        "update customers set town = 'u'",
        "update customers set id = 3 where id = 2",
        "delete from customers where id = 1",
    )
    captured.drain()
    captured.assert_same()


def test_a_row_of_which_not_all_was_sent_keeps_it_under_another_key(tmp_path: Path, world: PostgresWorld) -> None:
    """Where the whole former row is in the log, a large value goes along when the key changes."""
    world.run(
        "alter table customers replica identity full", f"insert into customers values (1, 'a', 't', '{'x' * 5000}')"
    )
    captured = Captured(tmp_path, world)
    captured.drain()
    world.run("update customers set id = 9")
    captured.drain()
    captured.assert_same()


def test_a_large_value_goes_along_with_another_key(captured: Captured, world: PostgresWorld) -> None:
    """The log has it under no key then: it is read from the table."""
    world.run(f"insert into customers values (1, 'a', 't', '{'x' * 5000}')")
    captured.drain()
    world.run("update customers set id = 9")
    world.run("update customers set town = 'u'")
    captured.drain()
    captured.assert_same()


def test_a_table_without_identity_is_refused_before_it_is_published(tmp_path: Path, world: PostgresWorld) -> None:
    """Published, the database would refuse the source's own updates."""
    world.run("alter table orders drop constraint orders_pkey")
    with pytest.raises(
        SourceError, match=r"orders' has no replica identity.*alter table public.orders replica identity full"
    ):
        Captured(tmp_path, world).drain()
    assert world.one("select count(*) from pg_publication") == 0
    assert world.one(f"select count(*) from pg_replication_slots where database = '{world.database}'") == 0


def test_a_table_that_is_declared_later_is_not_taken_for_captured(tmp_path: Path, world: PostgresWorld) -> None:
    """Its rows were never read: that needs a new beginning."""
    world.run(insert(1, 2), "insert into orders values (1, 1, 1)")
    first = Captured(tmp_path, world, tables=("public.customers",), datasets=False)
    first.drain()
    both = Captured(tmp_path, world)
    with pytest.raises(SourceError, match=r"orders' is declared, and isn't captured.*anew: true"):
        both.drain()
    both.drain(anew=True)
    both.assert_same()


# --- who may, and what is said of it


def test_whoever_may_not_is_told_what_is_needed(tmp_path: Path, world: PostgresWorld) -> None:
    """And no message has the password."""
    stream = world.declared()
    world.run("create user reader_" + world.database + " password 'hidden-thing'")
    properties = {
        **world.server.properties(world.database),
        "user": f"reader_{world.database}",
        "password": "hidden-thing",
    }
    captured = Captured(tmp_path, world)
    with pytest.raises(SourceError, match="REPLICATION") as told:
        Drain(captured.landed(), open_reader(stream, Connections(databases={"shop": properties}))).to_now()
    assert "hidden-thing" not in str(told.value)
    with pytest.raises(SourceError, match="password authentication failed") as told:
        Drain(
            captured.landed(),
            open_reader(stream, Connections(databases={"shop": properties | {"password": "wrong-thing"}})),
        ).to_now()
    assert "wrong-thing" not in str(told.value)
    with pytest.raises(SettingsError, match="no such database is configured"):
        open_reader(stream, Connections())
    with pytest.raises(SettingsError, match="libpq") as refused:
        open_reader(stream, Connections(databases={"shop": properties | {"hots": "x"}}))
    assert "hidden-thing" not in str(refused.value)
    with pytest.raises(SettingsError, match="leave it out"):
        open_reader(stream, Connections(databases={"shop": properties | {"options": "-c a=b"}}))


def test_a_server_without_a_logical_log_is_told_what_to_set(tmp_path: Path) -> None:
    """Its default isn't enough; when it has been set, the capture begins."""
    with serve() as own:
        own.stop()
        own.start("fsync=off", "wal_level=replica")
        world = PostgresWorld(own)
        captured = Captured(tmp_path, world)
        for _ in range(2):
            with pytest.raises(SourceError, match="wal_level = logical") as told:
                captured.drain()
            assert not isinstance(told.value, StreamGap)
        own.stop()
        own.start("fsync=off")
        world.run(insert(1, 2))
        captured.drain()
        captured.assert_same()


def test_a_log_cannot_be_replayed(captured: Captured, world: PostgresWorld) -> None:
    """It is kept until it has landed, and no longer."""
    captured.drain()
    with pytest.raises(SourceError, match="can't be replayed"):
        Drain(captured.landed(), world.reader(captured.stream)).replay(
            datetime(2024, 10, 1, tzinfo=UTC), datetime.now(UTC)
        )


# --- small parts


def test_a_position_is_the_digits_of_its_parts() -> None:
    """So that names sort as positions do, and say where in the log they are."""
    position = Position(12, parse_lsn("16/B374D848"), 7)
    assert str(int(position)) == "12" + f"{0x16B374D848:020d}" + "0000000000007"
    assert Position.parse(int(position)) == position
    assert written_lsn(position.lsn) == "16/B374D848"
    assert int(Position(1, 2**64 - 1, 10**13 - 1)) < int(Position(2, 0, 0))


@pytest.mark.parametrize(
    ("line", "values"),
    [
        (b"a\tb\n", ["a", "b"]),
        (b"\\N\t\n", [None, ""]),
        (rb"a\tb\\\n\q" + b"\t\\\\N\n", ["a\tb\\\nq", "\\N"]),
        (b"\xff\t\xc3\xa9\n", ["\\xff", "é"]),
    ],
)
def test_copied_lines_are_read_as_they_were_written(line: bytes, values: list[str | None]) -> None:
    """Tabs, line ends and backslashes come back; what is no text is shown as its bytes."""
    assert values_of(line, 2) == values


# --- all the way


README = (ROOT / "README.md").read_text(encoding="utf-8")
DEFINED = """
from pathlib import Path
from ingestion_platform.dataset import Datasets
from ingestion_platform.orchestration.build import build_definitions
from ingestion_platform.settings import Settings
from ingestion_platform.warehouse import load_sql_tables

settings = Settings.load()
datasets = Datasets([members])
defs = build_definitions(settings, datasets, load_sql_tables(datasets, zone=settings.zone, folder=Path("no-sql")))
"""


def block(language: str, holding: str) -> str:
    """The README's code block that holds a text."""
    return next(
        found[1] for found in re.finditer(rf"```{language}\n(.*?)```", README, re.DOTALL) if holding in found[1]
    )


def test_changes_come_to_the_current_table_by_dagsters_command_line(tmp_path: Path, world: PostgresWorld) -> None:
    """The README's declaration and settings file; a run lands, loads and processes."""
    day = datetime.now(ZoneInfo("Africa/Johannesburg")).date().isoformat()
    (tmp_path / "loyalty.py").write_text(block("python", "CAPTURED_COLUMNS") + DEFINED)
    named = tomllib.loads(block("toml", "[loyalty]"))["loyalty"]
    said = {name: world.server.properties(world.database)[name] for name in (*named, "port")}
    (tmp_path / "databases.toml").write_text(
        "[loyalty]\n" + "".join(f'{name} = "{value}"\n' for name, value in said.items())
    )
    (tmp_path / "landing").mkdir()
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": f"{ROOT}:{tmp_path}", "DAGSTER_HOME": str(tmp_path / "home"),
        "INGESTION_LANDING": str(tmp_path / "landing"), "INGESTION_WAREHOUSE": str(tmp_path / "warehouse.duckdb"),
        "INGESTION_PUBLISH": str(tmp_path / "published"), "INGESTION_STREAMS": "all", "INGESTION_PII_SALT": "s",
        "INGESTION_DATABASES": str(tmp_path / "databases.toml"),
    }  # fmt: skip
    (tmp_path / "home").mkdir()

    def materialize() -> str:
        done = subprocess.run(
            [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "loyalty", "--select", "*", "--partition", day],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == 0, said[-4000:]
        assert PASSWORD not in said
        return said

    world.run(
        "create table members (id bigint primary key, email text, tier text)",
        "insert into members select i, 'e' || i, 'basic' from generate_series(1, 3) i",
    )
    materialize()
    world.run("update members set tier = 'gold' where id = 1", "delete from members where id = 2")
    assert "2 records in 1 segments" in materialize()
    with duckdb.connect(str(tmp_path / "warehouse.duckdb"), read_only=True) as shell:
        rows = shell.sql("select id, tier from processed.members_current order by id").fetchall()
        history = shell.sql("select operation, id from processed.members order by position").fetchall()
        quarantined = shell.sql("select count(*) from platform.quarantine").fetchall()
    assert rows == [(1, "gold"), (3, "basic")]
    assert history == [("RESTART", None), *(("SNAPSHOT", number) for number in (1, 2, 3)), ("UPDATE", 1), ("DELETE", 2)]
    assert quarantined == [(0,)]
