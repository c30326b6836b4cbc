"""What every captured database keeps to: its current tables are those of the source, its history has every change once, in order."""

import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from ingestion_platform.sources.drain import Drain
from ingestion_platform_tests.sources.database_world import Captured, DatabaseWorld
from ingestion_platform_tests.sources.servers import NEEDED

if TYPE_CHECKING:
    from ingestion_platform_tests.sources import mariadb_server, postgres_server

KINDS = [kind for kind in ("postgres", "mariadb") if NEEDED[kind][0]]
"""Those whose server is there."""


@pytest.fixture(scope="module")
def postgres() -> "Iterator[postgres_server.Server]":
    """A server for all of these tests; each has a database of its own."""
    from ingestion_platform_tests.sources.postgres_server import serve

    with serve() as server:
        yield server


@pytest.fixture(scope="module")
def mariadb() -> "Iterator[mariadb_server.Server]":
    """The same of the other kind."""
    from ingestion_platform_tests.sources.mariadb_server import serve

    with serve() as server:
        yield server


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest) -> DatabaseWorld:
    """A database of each kind."""
    server = request.getfixturevalue(request.param)
    if request.param == "postgres":
        from ingestion_platform_tests.sources.postgres_world import PostgresWorld

        return PostgresWorld(server)
    from ingestion_platform_tests.sources.mariadb_world import MariaDbWorld

    return MariaDbWorld(server)


@pytest.fixture
def captured(tmp_path: Path, world: DatabaseWorld) -> Captured:
    """Its capture."""
    return Captured(tmp_path, world)


def customers(first: int, last: int, town: str = "Durban") -> str:
    """SQL that inserts customers."""
    rows = ", ".join(f"({number}, 'n{number}', '{town}', null)" for number in range(first, last + 1))
    return f"insert into customers values {rows}"


def test_what_the_tables_held_and_every_change_since_make_the_current_table(captured: Captured) -> None:
    """Inserts, updates and removals, before the capture began and after."""
    run = captured.world.run
    run(customers(1, 20), "insert into orders values (1, 1, 10.50), (2, 2, -3.00)")
    captured.drain()
    captured.assert_same()
    run("update customers set town = 'Paarl' where id <= 3", "delete from customers where id = 5", customers(21, 22))
    run("update orders set amount = 0.10 where id = 2", "insert into orders values (3, null, null)")
    assert captured.drain().records == 8
    captured.assert_same()
    assert captured.history("orders", "id", "amount") == [("UPDATE", "2", "0.10"), ("INSERT", "3", None)]


def test_nothing_lands_twice_and_nothing_lands_when_nothing_has_changed(captured: Captured) -> None:
    """Drains go on where the last one ended, each with new objects of its own or none."""
    captured.world.run(customers(1, 3))
    captured.drain()
    captured.world.run(customers(4, 4))
    captured.drain()
    before = captured.places()
    assert captured.drain().records == 0
    assert captured.drain().records == 0
    assert captured.places() == before
    assert all(one[2] < other[1] for one, other in pairwise(before))


def test_changes_while_the_tables_are_read_come_after_them(captured: Captured) -> None:
    """What commits between the reading of the tables and the log is in the log, and once."""
    world = captured.world
    world.run(customers(1, 50))
    reader = world.reader(captured.stream)
    read = reader.read

    class Interfering:
        """Changes rows at the first that is told of them."""

        confirm = getattr(reader, "confirm", None)

        def read(self, *args: object, **named: object) -> Iterator[object]:
            has_changed = False
            for event in read(*args, **named):  # type: ignore[arg-type]
                if type(event).__name__ == "Arrived" and not has_changed:
                    has_changed = True
                    world.run(
                        "delete from customers where id = 50",
                        customers(51, 52),
                        "update customers set name = 'x' where id = 1",
                    )
                yield event

    Drain(captured.landed(), Interfering()).to_now()  # type: ignore[arg-type]
    captured.drain()
    captured.assert_same()
    assert sorted(captured.history("customers", "id")) == [
        ("DELETE", "50"),
        ("INSERT", "51"),
        ("INSERT", "52"),
        ("UPDATE", "1"),
    ]


def test_another_key_is_another_row(captured: Captured) -> None:
    """A row whose key changes is removed under the former one, and is there under the new one."""
    captured.world.run(customers(1, 3))
    captured.drain()
    captured.world.run(
        "update customers set id = 30, town = 'Knysna' where id = 3", "update customers set id = id + 100 where id < 3"
    )
    captured.drain()
    captured.assert_same()
    assert captured.history("customers", "id")[:2] == [("DELETE", "3"), ("INSERT", "30")]


def test_a_truncated_table_is_empty_and_fills_again(captured: Captured) -> None:
    """Every row that was there is gone; those that come after it stay, in the same transaction too."""
    captured.world.run(customers(1, 5), "insert into orders values (1, 1, 1)")
    captured.drain()
    captured.world.run("truncate customers", customers(3, 4, "Upington"))
    captured.drain()
    captured.assert_same()
    assert len(captured.current("customers")) == 2
    assert len(captured.current("orders")) == 1
    captured.world.run("truncate customers")
    captured.drain()
    assert captured.current("customers") == []
    assert captured.bench.rows("platform.quarantine", "reasons") == []


def test_a_large_value_that_is_not_sent_stays_what_it_was(captured: Captured) -> None:
    """However the changes are loaded: it is the value of the last change that had it."""
    run = captured.world.run
    run(customers(1, 3))
    captured.drain()
    run(
        f"update customers set notes = '{'x' * 10_000}' where id = 1",
        f"update customers set notes = '{'y' * 9_000}' where id = 2",
    )
    run("update customers set town = 'Ceres' where id <= 2")
    captured.drain()
    captured.assert_same()
    run("update customers set town = 'Wellington' where id = 1", "update customers set notes = null where id = 2")
    run("update customers set name = 'again' where id <= 2")
    captured.drain()
    captured.assert_same()
    again = Captured(captured.folder / "again", captured.world)
    (captured.folder / "again").mkdir(exist_ok=True)
    (captured.folder / "again" / "landing").symlink_to(captured.folder / "landing")
    again.assert_same()


def test_a_transaction_stands_in_one_segment(tmp_path: Path, world: DatabaseWorld) -> None:
    """Segments are closed between transactions, unless one is larger than a segment may be."""
    captured = Captured(tmp_path, world, segment_bytes=20_000)
    captured.drain()
    for first in range(1, 400, 40):
        world.run(customers(first, first + 39))
    captured.drain()
    world.run(*(customers(first, first + 999) for first in range(1_000, 9_000, 1_000)))
    captured.drain()
    captured.assert_same()
    transactions: dict[bytes, set[str]] = {}
    for path in sorted((tmp_path / "landing").rglob("*.parquet")):
        found: list[Any] = pq.read_table(path, columns=["headers"]).column("headers").to_pylist()
        for headers in found:
            told = {one["name"]: one["value"] for one in headers}
            if told["operation"] == b"INSERT":
                transactions.setdefault(told["transaction"], set()).add(path.name)
    assert len(transactions) == 11
    assert sorted(len(names) for names in transactions.values())[:10] == [1] * 10
    assert max(len(names) for names in transactions.values()) > 1


def test_columns_that_come_and_go_are_kept(captured: Captured) -> None:
    """A column that nobody declared is in `_extra` from its first change on; one that is gone is NULL."""
    captured.world.run(customers(1, 2))
    captured.drain()
    captured.world.run("alter table customers add column loyalty int", "update customers set loyalty = 7 where id = 1")
    captured.world.run("alter table customers drop column town", "update customers set name = 'y' where id = 2")
    captured.drain()
    assert captured.current("customers") == [("1", "n1", "Durban", None), ("2", "y", None, None)]
    extra = captured.bench.rows("raw.customers", "id", "_extra")
    assert ("1", '{"loyalty":"7"}') in extra


def test_an_empty_disk_goes_on_from_the_landing_zone(
    captured: Captured, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Nothing but the landing zone is kept: a copy of it on another machine goes on where it stood."""
    captured.world.run(customers(1, 10))
    captured.drain()
    captured.world.run("delete from customers where id = 4")
    captured.drain()
    elsewhere = Captured(tmp_path_factory.mktemp("elsewhere"), captured.world)
    for path in (captured.folder / "landing").rglob("*"):
        if path.is_file():
            target = elsewhere.folder / path.relative_to(captured.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    captured.world.run(customers(11, 12))
    assert elsewhere.drain().records == 2
    elsewhere.assert_same()


def test_a_drain_that_has_had_enough_reads_the_tables_to_their_end(tmp_path: Path, world: DatabaseWorld) -> None:
    """It would begin anew each time; the log is left for the next one."""
    captured = Captured(tmp_path, world, drain_bytes=1)
    world.run(*(customers(first, first + 999) for first in range(1, 30_000, 1_000)))
    first = captured.drain()
    assert first.records >= 30_000
    world.run(customers(40_000, 40_001))
    while not captured.drain().is_caught_up:
        pass
    captured.assert_same()


@pytest.mark.parametrize("seed", range(3))
def test_any_changes_in_any_drains_give_the_source_table(captured: Captured, seed: int) -> None:
    """Whatever happens, in whatever transactions, drained and loaded whenever: the current tables are the source's."""
    chance = random.Random(seed)
    run = captured.world.run
    known: set[int] = set()
    for _ in range(30):
        statements = []
        for _ in range(chance.randint(1, 6)):
            id_ = chance.randint(1, 8)
            what = chance.random()
            if what < 0.35 and id_ not in known:
                known.add(id_)
                statements.append(f"insert into customers values ({id_}, 'n', 't', '{chance.choice('xyz') * 5_000}')")
            elif what < 0.7:
                statements.append(f"update customers set town = 't{chance.randint(0, 99)}' where id = {id_}")
            elif what < 0.8:
                statements.append(f"update customers set notes = '{chance.choice('xyz') * 6_000}' where id = {id_}")
            elif what < 0.9:
                known.discard(id_)
                statements.append(f"delete from customers where id = {id_}")
            elif what < 0.94:
                known.clear()
                statements.append("truncate customers")
            else:
                statements.append(f"insert into orders select coalesce(max(id), 0) + 1, {id_}, {id_}.25 from orders")
        run(*statements)
        if chance.random() < 0.3:
            captured.drain()
        if chance.random() < 0.15:
            captured.drain()
            captured.assert_same()
    captured.drain()
    captured.assert_same()
