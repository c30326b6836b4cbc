"""
Fixtures that tests of several rooms need.

Belongs here: servers, landing zones, how property-based tests are run. Doesn't: what one room's tests alone need.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
from hypothesis import HealthCheck, settings

from ingestion_platform.landing import LandingZone
from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.lifecycle import Place
from ingestion_platform_tests.sources import servers

if TYPE_CHECKING:
    from ingestion_platform_tests.s3_faults import Faults, S3Server

CASES = Path(__file__).resolve().parents[2] / "shared" / "cases"
"""Third-party files with known answers; they stand beside the checkout, because not all of their licences allow copies."""

NEED_CASES = ("test_real_files.py", "test_cases.py", "test_change_cases.py")
"""Modules that are about those files alone."""

# How long an example takes is a matter of what else the machine does.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

collect_ignore_glob = [] if CASES.is_dir() else [f"*/{module}" for module in NEED_CASES]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not run, and why."""
    if not CASES.is_dir():
        terminalreporter.write_line(
            f"not run: {', '.join(NEED_CASES)}: the third-party files they are about aren't in {CASES}; all else was run"
        )
    for line in servers.missing():
        terminalreporter.write_line(line)


class Producer(Protocol):
    """Somebody who writes into the landing zone without asking the platform: over what is there, too."""

    def put(self, key: str, content: bytes) -> None:
        """Write an object, over what is there."""
        ...

    def delete(self, key: str) -> None:
        """Take an object away."""
        ...


class LocalProducer:
    """Writes into a folder, by renaming a finished file into place."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, key: str, content: bytes) -> None:
        """Write a file."""
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        finished = self.root.with_name(f"{self.root.name}-finished")
        finished.write_bytes(content)
        finished.rename(path)

    def delete(self, key: str) -> None:
        """Delete a file."""
        (self.root / key).unlink()


class AgeingProducer(LocalProducer):
    """Writes into a folder whose objects are aged at once: to the warm one, the cold one, or not, in turn."""

    def __init__(self, landing: LocalLanding, root: Path) -> None:
        super().__init__(root)
        self.landing = landing
        self.turn: Iterator[Place] = cycle(("warm", "cold", "hot"))

    def put(self, key: str, content: bytes) -> None:
        """Write a file, and age it."""
        super().put(key, content)
        with self.landing.ageing():
            for object_ in self.landing.list(key):
                if object_.key == key:
                    self.landing.age(object_, next(self.turn), "")

    def delete(self, key: str) -> None:
        """Delete a file wherever it is."""
        for root in (self.root, self.root.with_name("warm"), self.root.with_name("cold")):
            (root / key).unlink(missing_ok=True)


class S3Producer:
    """Writes under a prefix of a bucket."""

    def __init__(self, server: S3Server, bucket: str, prefix: str) -> None:
        self.server = server
        self.bucket = bucket
        self.prefix = prefix

    def put(self, key: str, content: bytes) -> None:
        """Write an object."""
        self.server.put(self.bucket, self.prefix + key, content)

    def delete(self, key: str) -> None:
        """Delete an object."""
        self.server.delete(self.bucket, self.prefix + key)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server over HTTP; from then on `AWS_*` of this process lead to it and to no file of the person who runs the tests."""
    # moto takes two seconds to import: only tests that need it wait.
    from ingestion_platform_tests.s3_faults import serve_s3

    nowhere = tmp_path_factory.mktemp("aws")
    with serve_s3() as server, pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ENDPOINT_URL_S3", "AWS_MAX_ATTEMPTS"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_ENDPOINT_URL", server.url)
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing-secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", str(nowhere / "config"))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(nowhere / "credentials"))
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield server


@pytest.fixture
def faults(s3_server: S3Server) -> Iterator[Faults]:
    """What the S3 server does wrong, during this test."""
    s3_server.faults.clear()
    yield s3_server.faults
    s3_server.faults.clear()


@pytest.fixture(autouse=True)
def _no_instance_of_dagster_stays_behind() -> Iterator[None]:
    """An instance that a test enters twice, as contexts of schedules do, would be asked by whoever loads definitions next."""
    loaded = sys.modules.get("dagster._core.storage.defs_state.base")
    if loaded is None:
        yield
        return
    with loaded.set_defs_state_storage(None):
        yield


@pytest.fixture(params=["local", "aged", "s3"])
def landing_and_producer(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[LandingZone, Producer]:
    """An empty landing zone of each kind, and a producer that writes into it."""
    if request.param == "local":
        root = tmp_path / "landing"
        root.mkdir(exist_ok=True)
        return LocalLanding(root), LocalProducer(root)
    if request.param == "aged":
        roots = [tmp_path / name for name in ("landing", "warm", "cold")]
        for root in roots:
            root.mkdir(exist_ok=True)
        ageing = LocalLanding(roots[0], warm=roots[1], cold=roots[2])
        return ageing, AgeingProducer(ageing, roots[0])
    server: S3Server = request.getfixturevalue("s3_server")
    from ingestion_platform.landing.s3 import S3Landing

    bucket = server.new_bucket()
    return S3Landing(f"s3://{bucket}/landing"), S3Producer(server, bucket, "landing/")


@pytest.fixture
def landing(landing_and_producer: tuple[LandingZone, Producer]) -> LandingZone:
    """An empty landing zone: the test runs once in a folder, once in one whose objects have aged, once on S3."""
    return landing_and_producer[0]


@pytest.fixture
def producer(landing_and_producer: tuple[LandingZone, Producer]) -> Producer:
    """A producer that writes into `landing`."""
    return landing_and_producer[1]
