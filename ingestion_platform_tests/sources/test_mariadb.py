"""MariaDB as only MariaDB is: log files that are gone, settings and statements that hide changes, types, restarts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

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


def test_a_capture_killed_again_and_again_misses_nothing(server: Server, tmp_path: Path) -> None:
    """Current tables are the source's, the history has every change once."""
    outcome = campaign(MariaDbBank(server), tmp_path, changes=2_000, kills=6)
    assert outcome.wrong == []
    assert outcome.changes >= 2_000
