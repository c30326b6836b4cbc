"""
One behaviour for every way of paging and every way to say who one is: what lands of an API over the network is what it has, once.

Belongs here: fetch and client together, against a server that misbehaves. Doesn't: what a fetch lands in each special case
(`test_fetch.py`), what a request meets (`test_http_client.py`).
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import httpcore
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion_platform.api import (
    Api,
    ApiKey,
    Auth,
    BasicAuth,
    BearerToken,
    ClientCredentials,
    EachRecord,
    EachValue,
    Endpoint,
    LinkHeader,
    NextLink,
    Offset,
    OnePage,
    PageNumber,
    PageToken,
    Paging,
    Rate,
)
from ingestion_platform.errors import SourceChanged, SourceError, SourceUnavailable
from ingestion_platform.format import Json
from ingestion_platform.sources.http_client import Access, ApiClient, Reply
from ingestion_platform.sources.pace import Pace
from ingestion_platform_tests.sources.api_server import ApiServer, Seen, dropped, secrets_of, serve_api, throttled
from ingestion_platform_tests.sources.fetching import Fetching, fetch_things
from ingestion_platform_tests.sources.memory_api import DAY, Killed, keys

AUTHS: dict[str, Auth | None] = {
    "nobody": None,
    "key in header": ApiKey(),
    "key in query": ApiKey(name="api key", where="query"),
    "basic": BasicAuth(),
    "bearer": BearerToken(),
    "client in header": ClientCredentials(token_url="/oauth/token"),
    "client in body": ClientCredentials(token_url="/oauth/token", client_in="body", scope="read"),
}
PAGINGS: dict[str, Paging] = {
    "one page": OnePage(),
    "link header": LinkHeader(),
    "next link": NextLink("paging.next"),
    "token": PageToken(param="after", path="paging.after"),
    "offset": Offset(size=3, begin=1),
    "offset with total": Offset(offset="from", limit=None, size=3, total="total"),
    "page number": PageNumber(size_param="per_page", size=3),
    "page number with pages": PageNumber(page="p", size_param=None, first=0, size=3, pages="paging.pages"),
}
IDS = list(range(1, 12))


class Clock:
    """A clock that only goes on when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The moment."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


class Mortal:
    """A client whose fetch is killed before a request."""

    def __init__(self, client: ApiClient) -> None:
        self.client = client
        self.requests = 0
        self.dies_at = 0

    def url(self, path: str, params: Mapping[str, str]) -> str:
        """The URL of a path."""
        return self.client.url(path, params)

    def clean(self, url: str) -> str:
        """A URL as it may be kept."""
        return self.client.clean(url)

    def counts(self) -> Mapping[str, float]:
        """What asking took."""
        return self.client.counts()

    def get(self, url: str, *, etag: str = "", last_modified: str = "", none_when: Collection[int] = ()) -> Reply:
        """Ask, or die."""
        self.requests += 1
        if self.requests == self.dies_at:
            raise Killed
        return self.client.get(url, etag=etag, last_modified=last_modified, none_when=none_when)


class Here(Fetching):
    """An endpoint of the server, and a landing zone."""

    def __init__(self, folder: Path, declared: Endpoint, client: ApiClient, clock: Clock) -> None:
        self.mortal = Mortal(client)
        self.clock = clock
        super().__init__(folder, declared, self.mortal)

    def requests_of_a_fetch(self) -> int:
        """How many pages are asked for, when nothing goes wrong."""
        before = self.mortal.requests
        self.fetch()
        return self.mortal.requests - before


@pytest.fixture(scope="module", autouse=True)
def _one_context() -> Iterator[None]:
    """Each client reads the machine's authorities; here once for all of them."""
    context = httpcore.default_ssl_context()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpcore, "default_ssl_context", lambda: context)
        yield


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """A server."""
    with serve_api() as server:
        yield server


Make = Callable[..., Here]


@pytest.fixture
def make(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes an endpoint that lists records by a way of paging, and who asks it; nobody really waits."""
    clock, numbers = Clock(), count()
    monkeypatch.setattr(time, "sleep", clock.sleep)
    with ExitStack() as opened:

        def make(paging: Paging, auth: Auth | None = None, **declared: Any) -> Here:
            server.serve("/things", [{"id": one, "name": f"thing {one}"} for one in IDS], paging)
            server.auth = auth
            api = Api(
                name="example", base_url=server.base_url, auth=auth, private_hosts=True, max_page_bytes=100_000,
                timeout_seconds=10, patience_seconds=60,
            )  # fmt: skip
            values: dict[str, Any] = {
                "name": "things", "description": "Things.", "api": api, "path": "/things", "params": {"day": "{day}"},
                "format": Json("items[*]"), "paging": paging, "first_day": DAY, "record_key": ("id",),
            }  # fmt: skip
            pace = Pace(None, None, clock=clock, sleep=clock.sleep)
            client = ApiClient(api, Access(server.base_url, secrets_of(auth), True), pace, clock=clock)
            opened.callback(client.close)
            return Here(tmp_path / str(next(numbers)), Endpoint(**{**values, **declared}), client, clock)

        yield make


# --- every way of paging, for everybody


@pytest.mark.parametrize("auth", AUTHS.values(), ids=AUTHS)
@pytest.mark.parametrize("paging", PAGINGS.values(), ids=PAGINGS)
def test_every_record_lands_once_and_in_order(
    server: ApiServer, make: Make, tmp_path: Path, paging: Paging, auth: Auth | None
) -> None:
    """All records land, in the API's order, and no secret; again nothing lands when nothing has changed; a change does."""
    here = make(paging, auth)
    server.has_etags = True
    first = here.fetch()
    assert (here.ids(), first.records, first.repeated) == (IDS, 11, 0)
    landed = keys(here.landing)
    for has_etags in (True, False, True):  # without them, by content
        server.has_etags = has_etags
        again = here.fetch()
        assert not again.has_landed
        assert again.asked["not_modified"] == (again.pages if has_etags else 0)
        assert keys(here.landing) == landed
    server.lists["/v1/things"].records[4] = {"id": 5, "name": "another"}
    assert here.fetch().has_landed
    assert here.rows(DAY, "name")[4] == ("another",)
    assert here.ids() == IDS
    assert not here.fetch().has_landed
    hidden = [value for name, value in secrets_of(auth).items() if name not in ("username", "client_id")]
    # A key's parameter isn't kept either, though servers repeat it in their links.
    assert not [url for (url,) in here.rows(DAY, "@url") if "***" in str(url) or "key" in str(url)]
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    for value in (*hidden, "access-token-1"):
        assert value not in str(here.rows(DAY, "@url", "name"))
        assert not [content for content in files if value.encode() in content]


@pytest.mark.parametrize("auth", ["nobody", "key in query", "client in header"])
@pytest.mark.parametrize("paging", PAGINGS.values(), ids=PAGINGS)
def test_a_fetch_killed_at_any_page_goes_on_there(make: Make, paging: Paging, auth: str) -> None:
    """Before each request a fetch is killed once: half of it counts for nothing, and the next one asks for what is left."""
    requests = make(paging, AUTHS[auth]).requests_of_a_fetch()
    for at in range(1, requests + 1):
        here = make(paging, AUTHS[auth])
        here.mortal.dies_at = at
        with pytest.raises(Killed):
            here.fetch()
        assert here.ids() == []
        fetched = here.fetch()
        assert (here.ids(), fetched.resumed, fetched.repeated) == (IDS, at - 1, 0)
        assert here.mortal.requests == requests + 1


# --- faults that pass


PASSING: dict[str, Callable[[ApiServer], None]] = {
    "throttled": lambda server: server.faults.throttle(5, 2, path="/v1/things"),
    "throttled until": lambda server: server.faults.throttle_until(5),
    "throttled without a word": lambda server: server.faults.throttle(None, 3),
    "unavailable": lambda server: server.faults.answer(503, b"no", 3),
    "error": lambda server: server.faults.answer(500, b"<html>oops</html>"),
    "dropped": lambda server: server.faults.drop(3),
    "cut": lambda server: server.faults.cut(keep=50),
    "chunks cut": lambda server: server.faults.cut(keep=50, is_chunked=True),
    "length": lambda server: server.faults.misstate_length(7),
    "moved": lambda server: server.faults.redirect("/v1/items-moved", path="/v1/things"),
}


def _after(server: ApiServer, requests: int, happens: Callable[[], object]) -> None:
    """Once so many pages were asked for, something happens: before the next one."""
    seen: list[Seen] = []

    def before(request: Seen) -> None:
        seen.append(request)
        if len(seen) == requests:
            happens()

    server.before = before
    if requests == 0:
        happens()


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("paging", PAGINGS.values(), ids=PAGINGS)
def test_faults_that_pass_change_nothing(server: ApiServer, make: Make, paging: Paging, fault: str) -> None:
    """Before the first page and before the third one, something is wrong for a while: what lands is the same."""
    for at in (0, 2):
        here = make(paging, BearerToken())
        server.lists["/v1/items-moved"] = server.lists["/v1/things"]
        if fault == "moved":
            # A redirect says nothing of the query: the whole of it is asked for again there.
            _after(server, at, lambda: server.faults.add(_moved, path="/v1/things"))
        else:
            _after(server, at, lambda: PASSING[fault](server))
        fetched = here.fetch()
        assert (here.ids(), fetched.repeated) == (IDS, 0)
        server.before = lambda _: None
        server.faults.clear()
        # Links lead to where the list had moved to: those pages aren't the ones of before, and land.
        assert here.fetch().has_landed == (fault == "moved" and isinstance(paging, LinkHeader | NextLink))
        assert here.ids() == IDS


def _moved(handler: Any, answer: Any) -> None:
    answer.status, answer.body = 307, b""
    answer.headers = {"Location": handler.path.replace("/v1/things", "/v1/items-moved")}
    handler.send(answer)


@pytest.mark.parametrize("paging", PAGINGS.values(), ids=PAGINGS)
def test_a_token_that_expires_between_pages_changes_nothing(server: ApiServer, make: Make, paging: Paging) -> None:
    """Every page finds its token expired: it is fetched anew, and what lands is the same."""
    here = make(paging, AUTHS["client in header"])
    server.before = lambda _: server.expire_tokens()
    fetched = here.fetch()
    assert here.ids() == IDS
    assert (fetched.asked["tokens"], fetched.asked["retries"]) == (fetched.pages, 0)


# --- faults that don't


FATAL: dict[str, tuple[Callable[[ApiServer], None], type[SourceError], str]] = {
    "a page that isn't one": (
        lambda server: server.faults.answer(200, b"<html>We are sorry</html>", Content_Type="text/html"),
        SourceChanged,
        "things",
    ),
    "an error in a good page": (
        lambda server: server.faults.answer(200, b'{"error": "try later"}'),
        SourceChanged,
        "things",
    ),
    "refused": (lambda server: server.faults.answer(403, b'{"message": "not today"}'), SourceError, "not today"),
    "gone": (lambda server: server.faults.answer(404, b""), SourceError, "404 Not Found"),
    "sent elsewhere": (lambda server: server.faults.redirect("http://evil.test/"), SourceError, r"host evil\.test"),
    "sent round": (lambda server: server.faults.redirect("/v1/things", None), SourceError, "more than 5 times"),
    "a bomb": (lambda server: server.faults.bomb(10_000_000), SourceError, "larger than 100,000 bytes"),
    "down": (lambda server: server.faults.drop(None), SourceUnavailable, r"tried \d+ times in 60 seconds"),
    "left alone": (lambda server: server.faults.throttle(3000, None), SourceUnavailable, "429 Too Many Requests"),
}


@pytest.mark.parametrize("fault", FATAL)
@pytest.mark.parametrize("paging", PAGINGS.values(), ids=PAGINGS)
def test_faults_that_last_are_told_and_cost_nothing(server: ApiServer, make: Make, paging: Paging, fault: str) -> None:
    """The fetch fails with what is wrong; what counted before still does; and when it is over, the next one goes on where it ended."""
    happens, error, what = FATAL[fault]
    here = make(paging)
    here.fetch()
    changed = [{"id": one, "name": "changed"} for one in IDS]
    server.lists["/v1/things"].records[:] = changed
    pages = -(-len(IDS) // 3)
    at = 0 if isinstance(paging, OnePage) else pages // 2
    _after(server, at, lambda: happens(server))
    with pytest.raises(error, match=what):
        here.fetch()
    assert here.rows(DAY, "name")[0] == ("thing 1",)
    server.before = lambda _: None
    server.faults.clear()
    here.clock.sleep(3600)  # however long the API wanted to be left alone
    fetched = here.fetch()
    assert (here.ids(), fetched.resumed) == (IDS, at)
    assert here.rows(DAY, "name")[0] == ("changed",)


# --- many requests at once


def test_many_requests_at_once_keep_the_rate(server: ApiServer, tmp_path: Path) -> None:
    """A hundred requests, of which each fifth meets throttling, an error or a dropped connection: all land once, and the rate is kept."""
    stores = tuple(str(number) for number in range(40))
    for store in stores:
        records = [{"id": int(store) * 10 + one} for one in range(4)]
        server.serve(f"/stores/{store}/sales", records, PageToken(param="after", path="after"), size=2)
    server.faults.every(5, [throttled(None), throttled(None, 503), dropped])
    api = Api(name="example", base_url=server.base_url, private_hosts=True, rate=Rate(25, 0.25), concurrency=8)
    declared = Endpoint(
        name="sales", description="Sales.", api=api, path="/stores/{store}/sales", format=Json("items[*]"), first_day=DAY,
        paging=PageToken(param="after", path="after"), each=EachValue("store", stores),
    )  # fmt: skip
    client = ApiClient(api, Access(api.base_url, {}, True), Pace(api.rate, tmp_path / "example.pace"))
    here = Fetching(tmp_path / "landing", declared, client)
    fetched = here.fetch(DAY, each=[{"store": store} for store in stores])
    client.close()
    expected = [int(store) * 10 + one for store in stores for one in range(4)]
    assert sorted(here.ids()) == sorted(expected)
    assert (fetched.records, fetched.requests, fetched.pages) == (160, 40, 80)
    assert fetched.asked["requests"] == len(server.requests) == 80 + fetched.asked["retries"]
    assert fetched.asked["retries"] >= 16
    # A request may take its time on its way, and those after it none: half the time is sure.
    assert server.most_within(0.125) <= 25
    moments = [seen.at for seen in server.requests]
    assert max(moments) - min(moments) > 0.25 * (len(moments) / 25 - 1) * 0.9


def test_what_each_record_has_inside_is_asked_for(server: ApiServer, make: Make) -> None:
    """The lines of each order are asked for by its key; an order without lines is a 404 that is declared to mean that."""
    orders = make(PageToken(param="after", path="after"), AUTHS["client in header"])
    server.serve("/things/1/lines", [{"id": 1}])
    server.serve("/things/2/lines", [{"id": 2}, {"id": 3}])
    lines = make(
        OnePage(), AUTHS["client in header"], name="lines", path="/things/{thing}/lines", none_when=(404,),
        each=EachRecord(orders.endpoint, {"thing": "id"}), params={},
    )  # fmt: skip
    orders.fetch()
    fetched = lines.fetch(DAY, each=[{"thing": str(one)} for one in orders.ids()])
    assert sorted(lines.ids()) == [1, 2, 3]
    assert (fetched.requests, fetched.records) == (11, 3)


# --- a real kill


FETCHING = """
import sys
from pathlib import Path
from ingestion_platform.sources import fetch
from ingestion_platform_tests.sources.fetching import fetch_things

fetch.GROUP_SECONDS = 0.0
fetch_things(Path(sys.argv[1]), sys.argv[2])
"""


def test_a_process_that_is_killed_is_gone_on_from(server: ApiServer, tmp_path: Path) -> None:
    """A process is killed while its second page is under way, another one two pages later; the third finds what they had landed."""
    server.serve("/things", [{"id": one} for one in IDS], LinkHeader())
    for at in (2, 2):
        arrived = threading.Event()
        _after(server, at, arrived.set)
        process = subprocess.Popen([sys.executable, "-c", FETCHING, str(tmp_path), server.base_url])
        try:
            while not arrived.wait(0.02):
                assert process.poll() is None
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    server.before = lambda _: None
    asked = len(server.requests)
    here, fetched = fetch_things(tmp_path, server.base_url)
    assert here.ids() == IDS
    assert fetched.resumed >= 1
    assert fetched.resumed + len(server.requests) - asked == fetched.pages == 4


# --- lists that move


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    style=st.sampled_from(["token", "link header", "offset", "offset with total"]),
    steps=st.lists(st.tuples(st.integers(1, 9), st.sampled_from(["insert", "remove"]), st.integers(0, 40)), max_size=5),
    every=st.sampled_from([0, 2, 3]),
)
def test_no_record_that_was_there_all_the_time_is_lost_or_doubled(
    server: ApiServer, make: Make, style: str, steps: list[tuple[int, str, int]], every: int
) -> None:
    """While requests fail in between, records come and go between pages: those that stay land once, in order, or it is told."""
    here = make(PAGINGS[style])
    served = server.lists["/v1/things"]
    served.records[:] = [{"id": one} for one in range(2, 36, 3)]
    stays = {int(record["id"]) for record in served.records}
    pages: list[Seen] = []

    def change(seen: Seen) -> None:
        pages.append(seen)
        for at, what, number in steps:
            if at == len(pages):
                there = {int(record["id"]) for record in served.records}
                there = there - {number} if what == "remove" else there | {number}
                stays.intersection_update(there)
                served.records[:] = [{"id": one} for one in sorted(there)]

    server.before = change
    server.faults.every(every, [throttled(None), dropped])
    fetched, told = None, ""
    try:
        fetched = here.fetch()
    except SourceChanged as error:
        told = str(error)
    server.before = lambda _: None
    server.faults.clear()
    ids = here.ids()
    if fetched is None:
        assert "have moved between its pages" in told
        assert style.startswith("offset")
        assert ids == []
    else:
        assert ids == sorted(set(ids))
        assert stays <= set(ids)
        assert fetched.repeated == 0


def test_a_page_number_loses_what_moves_before_it(server: ApiServer, make: Make) -> None:
    """By page number, a record that goes takes another one with it, and nobody can know: the documentation warns of it."""
    here = make(PAGINGS["page number"])
    there = server.lists["/v1/things"].records
    _after(server, 2, lambda: there.pop(0))
    assert here.fetch().repeated == 0
    assert [one["id"] for one in there] == IDS[1:]
    assert here.ids() == [one for one in IDS if one != 4]
