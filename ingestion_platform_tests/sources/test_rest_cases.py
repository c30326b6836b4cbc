"""
Third-party replies with known answers, served on loopback with faults; they stand beside the checkout.

Origin: PokeAPI (BSD-3), octokit's fixtures of GitHub (MIT).
"""

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from zoneinfo import ZoneInfo

import pandas as pd  # noqa: F401  # pyarrow imports it at its first conversion; forked, each process would do so anew
import pytest

from ingestion_platform.api import Api, ApiPages, Endpoint, LinkHeader, NextLink, Offset, Rate
from ingestion_platform.format import Json
from ingestion_platform.formats import Field, read_records
from ingestion_platform.landing import open_landing
from ingestion_platform.sources import fetch as fetch_module
from ingestion_platform.sources.fetch import Fetch
from ingestion_platform.sources.fetched import LandedEndpoint
from ingestion_platform.sources.http_client import Access, ApiClient
from ingestion_platform.sources.pace import Pace

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases" / "07-rest"
EXPECTED = json.loads((CASES / "expected.json").read_text(encoding="utf-8"))
DAY = date(2024, 10, 1)
RATE = Rate(25, 0.5)

PATHS = {
    "pokeapi/berry": Endpoint(
        name="berries", description="Berries.", api=Api(name="pokeapi", base_url="https://pokeapi.co/api/v2"), path="/berry/",
        params={"day": "{day}"}, format=Json("results[*]"), paging=Offset(size=20, total="count"), record_key=("name",), first_day=DAY,
    ),
    "pokeapi/item-category": Endpoint(
        name="categories", description="Categories.", api=Api(name="pokeapi", base_url="https://pokeapi.co/api/v2"),
        path="/item-category/", params={"limit": "7"}, format=Json("results[*]"), paging=NextLink("next"), first_day=DAY,
    ),
    "github/issues": Endpoint(
        name="issues", description="Issues.", api=Api(name="github", base_url="https://api.github.com"),
        path="/repos/octokit-fixture-org/paginate-issues/issues", params={"per_page": "3"}, paging=LinkHeader(), first_day=DAY,
    ),
}  # fmt: skip
BELOW = {"pokeapi": "/pokeapi/api/v2", "github": "/github"}


@dataclass
class Server:
    """The recorded APIs."""

    port: int
    log: Path

    def requests(self) -> list[dict[str, Any]]:
        """Every request that was answered, in order."""
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts the server of the cases, with a fault every so many requests."""
    # It opens a recording that isn't among the cases at hand.
    folder = tmp_path / "cases"
    shutil.copytree(CASES, folder)
    (folder / "reddit").mkdir(exist_ok=True)
    (folder / "reddit" / "test_exhaust_items.json").write_text("[]")
    started: list[subprocess.Popen[bytes]] = []

    def start(fault: str = "", every: int = 5) -> Server:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        log = tmp_path / f"{port}.jsonl"
        faults = ["--fault-every", str(every), "--fault", fault] if fault else []
        command = [sys.executable, str(folder / "replay_server.py"), "--port", str(port), "--log", str(log), *faults]
        started.append(subprocess.Popen(command))
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return Server(port, log)
            time.sleep(0.05)
        raise TimeoutError("the server of the cases doesn't answer")

    yield start
    for process in started:
        process.kill()
        process.wait()


def client(endpoint: Endpoint, server: Server, folder: Path, rate: Rate | None = None) -> ApiClient:
    """What asks the server instead of the real API."""
    access = Access(f"http://127.0.0.1:{server.port}{BELOW[endpoint.api.name]}", private_hosts=True)
    return ApiClient(endpoint.api, access, Pace(rate, folder / "pace"))


def rows(endpoint: Endpoint, folder: Path, *sources: str) -> list[tuple[str | None, ...]]:
    """What counts of the day."""
    landing, source = open_landing(str(folder)), ApiPages(endpoint)
    there = {landed.key: landed for landed in landing.list(endpoint.day_prefix(DAY))}
    wanted = [Field(one, one) for one in sources]
    found: list[tuple[str | None, ...]] = []
    for key in sorted(source.choose(there)[0]):
        table = read_records(source.format, landing.read(there[key]), wanted, key=key).table
        found += zip(*(table.column(one).to_pylist() for one in sources), strict=True)
    return found


def hold_to_what_is_known(name: str, folder: Path) -> None:
    """The rows are those of the known answer."""
    expected = EXPECTED[name]
    if name == "github/issues":
        found = rows(PATHS[name], folder, "id", "number")
        assert sorted(int(number or 0) for _, number in found) == expected["numbers"]
        assert len({id_ for id_, _ in found}) == expected["distinct_ids"]
        return
    names = [one for (one,) in rows(PATHS[name], folder, "name")]
    assert (len(names), len(set(names))) == (expected["rows"], expected["distinct"])
    digest = hashlib.sha256("\n".join(map(str, sorted(map(str, names)))).encode()).hexdigest()[:16]
    assert digest == expected["sha_names"]


@pytest.mark.parametrize("fault", ["", "429", "503", "drop"])
@pytest.mark.parametrize("name", PATHS)
def test_recorded_apis_give_the_rows_that_are_known(
    name: str, fault: str, serve: Callable[..., Server], tmp_path: Path
) -> None:
    """With every third call refused for a while, down, or cut off."""
    server = serve(fault, 3)
    landing = tmp_path / "landing"
    landing.mkdir()
    endpoint = PATHS[name]
    with client(endpoint, server, tmp_path) as asking:
        fetched = Fetch(LandedEndpoint(endpoint, open_landing(str(landing))), asking, ZoneInfo("UTC")).run(DAY)
    hold_to_what_is_known(name, landing)
    answered = [request for request in server.requests() if request["status"] == 200]
    assert len(answered) == fetched.pages
    assert len({request["path"] for request in answered}) == len(answered)
    assert (asking.counts()["retries"] > 0) == (fault != "")


def in_a_process(work: Callable[[], object]) -> int:
    """Start a process that does *work* as this one would; its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def ended(pid: int) -> int:
    """How a process ended: 0, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_requests_stay_within_the_declared_rate(serve: Callable[..., Server], tmp_path: Path) -> None:
    """No more than declared in any half second, though two processes ask at once."""
    server = serve()
    landing = tmp_path / "landing"
    landing.mkdir()
    endpoint = replace(PATHS["pokeapi/berry"], name="one_by_one", paging=Offset(size=1, total="count"), record_key=())

    def fetch() -> None:
        with client(endpoint, server, tmp_path, RATE) as asking:
            Fetch(LandedEndpoint(endpoint, open_landing(str(landing))), asking, ZoneInfo("UTC")).run(DAY)

    assert [ended(pid) for pid in [in_a_process(fetch), in_a_process(fetch)]] == [0, 0]
    moments = sorted(request["t"] for request in server.requests())
    assert len(moments) > 68
    # The server notes when it has answered, a while after it was asked: that differs by how busy the machine is.
    most = max(sum(begin <= one < begin + 0.8 * RATE.seconds for one in moments) for begin in moments)
    assert most <= RATE.requests
    assert len(moments) / (moments[-1] - moments[0] + RATE.seconds) <= RATE.requests / RATE.seconds
    assert len(rows(endpoint, landing, "name")) == 68


@pytest.mark.parametrize("name", PATHS)
def test_a_process_killed_at_any_page_loses_nothing(
    name: str, serve: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after each page in turn, for good; the next one goes on, and the rows are those that are known."""
    monkeypatch.setattr(fetch_module, "GROUP_SECONDS", 0.0)
    server = serve()
    landing = tmp_path / "landing"
    landing.mkdir()
    endpoint = PATHS[name]

    def fetch(pages: int) -> None:
        def die(came: int, _records: int) -> None:
            if came == pages:
                os.kill(os.getpid(), signal.SIGKILL)

        with client(endpoint, server, tmp_path) as asking:
            landed = LandedEndpoint(endpoint, open_landing(str(landing)))
            Fetch(landed, asking, ZoneInfo("UTC"), on_page=die).run(DAY)

    endings = []
    for pages in range(1, 12):
        endings.append(ended(in_a_process(partial(fetch, pages))))
        if endings[-1] == 0:
            break
        assert endings[-1] == -signal.SIGKILL
        assert rows(endpoint, landing, "url") == []
    assert endings[-1] == 0
    assert len(endings) > 3
    hold_to_what_is_known(name, landing)
    asked = [request["path"] for request in server.requests()]
    assert len(asked) == len(set(asked)), "no page is asked for twice"


def test_the_cases_are_served_as_they_are(serve: Callable[..., Server]) -> None:
    """The server of the cases answers as its own client expects."""
    server = serve()
    with urlopen(f"http://127.0.0.1:{server.port}/pokeapi/api/v2/berry/?limit=100", timeout=30) as reply:
        assert json.load(reply)["count"] == EXPECTED["pokeapi/berry"]["count"]
