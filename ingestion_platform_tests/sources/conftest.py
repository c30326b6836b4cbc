"""
What tests of several sources need: an empty landing zone, and a Kinesis stream on moto.

Tests that need a server which pip doesn't install are collected where it is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ingestion_platform.landing.local import LocalLanding
from ingestion_platform_tests.sources import draining
from ingestion_platform_tests.sources.servers import BEHAVIOURS, NEEDED

if TYPE_CHECKING:
    from ingestion_platform_tests.sources.kinesis_faults import Faults
    from ingestion_platform_tests.sources.kinesis_worlds import MotoWorld

collect_ignore = [
    *(module for is_there, modules in NEEDED.values() if not is_there for module in modules),
    *(module for module, servers in BEHAVIOURS.items() if not any(NEEDED[server][0] for server in servers)),
]


@pytest.fixture
def zone(tmp_path: Path) -> LocalLanding:
    """An empty landing zone."""
    return draining.landing_in(tmp_path / "landing")


@pytest.fixture(scope="module")
def moto_kinesis() -> Iterator[tuple[str, Faults]]:
    """One moto for all tests of a module; each has streams of its own."""
    # moto takes two seconds to import: only tests that need it wait.
    from ingestion_platform_tests.sources.kinesis_worlds import moto_server

    with moto_server() as served:
        yield served


@pytest.fixture
def moto_world(moto_kinesis: tuple[str, Faults]) -> Iterator[MotoWorld]:
    """An empty stream with two shards."""
    from ingestion_platform_tests.sources.kinesis_worlds import MotoWorld

    url, faults = moto_kinesis
    faults.clear()
    yield MotoWorld(url, faults)
    faults.clear()
