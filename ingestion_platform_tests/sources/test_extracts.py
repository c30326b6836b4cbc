"""Extracts of a real PostgreSQL: whole tables and queries, what is new, what is gone; and whatever can go wrong on the way."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ingestion_platform.database import RowCursor
from ingestion_platform_tests.sources.extract_world import ExtractWorld
from ingestion_platform_tests.sources.postgres_server import Server, serve

THINGS = "create table things (id bigint primary key, name text, changed_at timestamptz)"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server for all of these tests; each has a database of its own."""
    with serve() as one:
        yield one


@pytest.fixture
def world(tmp_path: Path, server: Server) -> ExtractWorld:
    """A database with a table of things."""
    return ExtractWorld(tmp_path, server, THINGS)


def test_a_table_becomes_a_snapshot(world: ExtractWorld) -> None:
    """Every row is in the processed table; extracted again, unchanged, nothing lands; changed, the later extract counts."""
    world.run("insert into things select i, 'n' || i, null from generate_series(1, 5) i")
    extract = world.declared()
    assert world.extract(extract).rows == 5
    landed = world.keys()
    assert not world.extract(extract).has_landed
    assert world.keys() == landed
    world.run("update things set name = '' where id = 2", "delete from things where id = 3")
    assert world.extract(extract).has_landed
    dataset = world.dataset(extract, "id", "name", "changed_at")
    assert world.table(dataset, "id", "name", "changed_at") == [
        ("1", "n1", None),
        ("2", "", None),
        ("4", "n4", None),
        ("5", "n5", None),
    ]


def test_what_is_new_is_found_by_the_cursor_and_what_is_gone_by_a_sweep(world: ExtractWorld) -> None:
    """New and changed rows come, known ones don't; a removed row goes with the next sweep."""
    moment = "'2024-10-01 08:00:00+00'::timestamptz"
    world.run(f"insert into things select i, 'n' || i, {moment} from generate_series(1, 5) i")
    extract = world.declared(cursor=RowCursor(column="changed_at"), key=("id",))
    assert world.extract(extract).rows == 5
    world.run(
        f"update things set name = 'x', changed_at = {moment} + interval '1 hour' where id = 2",
        "delete from things where id = 3",
        f"insert into things values (6, 'n6', {moment} + interval '1 hour')",
    )
    found = world.extract(extract)
    assert (found.rows, found.removed) == (2, 0)
    assert not world.extract(extract).has_landed
    swept = world.extract(extract, sweep=True)
    assert (swept.rows, swept.removed, swept.missed, swept.keys) == (0, 1, 0, 5)
    dataset = world.dataset(extract, "id", "name")
    assert world.table(dataset, "id", "name") == [
        ("1", "n1"),
        ("2", "x"),
        ("4", "n4"),
        ("5", "n5"),
        ("6", "n6"),
    ]
