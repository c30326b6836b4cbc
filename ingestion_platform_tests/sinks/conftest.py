"""What tests of telling need: a landing zone, and a server that takes posts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ingestion_platform.landing.local import LocalLanding
from ingestion_platform_tests.sinks import telling


@pytest.fixture
def zone(tmp_path: Path) -> LocalLanding:
    """An empty landing zone."""
    return telling.zone_in(tmp_path / "landing")


@pytest.fixture
def receiver() -> Iterator[telling.Receiver]:
    """A server on this machine that takes posts."""
    with telling.receiving() as made:
        yield made
