"""The client of APIs, against a real server on this machine that misbehaves in every way one can be told to."""

import gzip
import json
import logging
import socket
import ssl
import threading
import time
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_plus, urlencode

import httpcore
import pytest

from ingestion_platform.api import (
    Api,
    ApiKey,
    Auth,
    BasicAuth,
    BearerToken,
    ClientCredentials,
    LinkHeader,
    NextLink,
    Rate,
)
from ingestion_platform.errors import DeclarationError, SettingsError, SourceError, SourceUnavailable
from ingestion_platform.sources import http_client
from ingestion_platform.sources.addresses import is_public, resolve
from ingestion_platform.sources.http_client import Access, ApiClient
from ingestion_platform.sources.pace import Pace
from ingestion_platform_tests.sources.api_server import (
    HEADER_KEY,
    SECRETS,
    Answer,
    ApiServer,
    http_date,
    secrets_of,
    serve_api,
    throttled,
)

EVERY_AUTH: list[Auth | None] = [
    None,
    ApiKey(),
    ApiKey(name="api key", where="query"),
    BasicAuth(),
    BearerToken(),
    ClientCredentials(token_url="/oauth/token"),
    ClientCredentials(token_url="/oauth/token", scope="read all", client_in="body", parameters={"audience": "till"}),
]
RECORDS = [{"id": number} for number in range(5)]
AT = datetime.fromtimestamp(1727777777, UTC)


def _auth_id(auth: Auth | None) -> str:
    return str(auth).partition("(")[0]


class Clock:
    """A clock that only goes on when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        """The moment."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.sleeps.append(seconds)
        self.now += seconds


Connect = Callable[..., ApiClient]


@pytest.fixture(scope="module", autouse=True)
def _one_context() -> Iterator[None]:
    """Each client reads the machine's authorities; here once for all of them."""
    context = httpcore.default_ssl_context()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpcore, "default_ssl_context", lambda: context)
        yield


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """A server with a short list under `/items`."""
    with serve_api() as server:
        server.serve("/items", RECORDS)
        yield server


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of clients and their pace, and of whoever sleeps: nobody really waits."""
    clock = Clock()
    monkeypatch.setattr(time, "sleep", clock.sleep)
    return clock


@pytest.fixture
def connect(server: ApiServer, clock: Clock) -> Iterator[Connect]:
    """Makes clients of the server. Anything of `Api` may be declared otherwise."""
    with ExitStack() as open_clients:

        def connect(
            *,
            secrets: dict[str, str] | None = None,
            pace: Pace | None = None,
            private: bool = True,
            resolve: Any = resolve,
            **declared: Any,
        ) -> ApiClient:
            api = Api(**{"name": "till", "base_url": server.base_url, "private_hosts": True, **declared})
            server.auth = api.auth
            access = Access(api.base_url, secrets_of(api.auth) if secrets is None else secrets, private)
            pace = pace or Pace(api.rate, None, clock=clock, sleep=clock.sleep)
            client = ApiClient(api, access, pace, resolve=resolve, clock=clock)
            open_clients.callback(client.close)
            return client

        yield connect


def _elsewhere(monkeypatch: pytest.MonkeyPatch, ports: dict[tuple[str, int], int]) -> list[tuple[str, int]]:
    """Lead connections to an address and port to a port of this machine; gives what is connected to."""
    really = httpcore.SyncBackend.connect_tcp
    connected = []

    def connect_tcp(self: httpcore.SyncBackend, host: str, port: int, *rest: Any, **named: Any) -> Any:
        connected.append((host, port))
        if (host, port) not in ports:
            raise httpcore.ConnectError(f"nothing is at {host}:{port}")
        return really(self, "127.0.0.1", ports[host, port], *rest, **named)

    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect_tcp)
    return connected


# --- what is asked, and what comes back


def test_a_reply_is_what_was_sent(server: ApiServer, connect: Connect) -> None:
    """Status, content and the headers that tell of pages, changes and limits come back; cookies and others don't."""
    kept = {"etag": '"1"', "link": "<x>", "x-total-count": "5", "x-ratelimit-remaining": "7", "last-modified": "now"}
    sent = Answer(201, b"\x00\xffbytes", {**kept, "Set-Cookie": "session=1", "X-Secret": "no"})
    server.faults.add(lambda handler, _: handler.send(sent))
    began = datetime.now(UTC)
    reply = connect().get("items?b=1&a=%2F")
    assert (reply.status, reply.content, reply.url) == (201, b"\x00\xffbytes", f"{server.base_url}/items?b=1&a=%2F")
    assert began <= reply.asked_at <= datetime.now(UTC)
    assert reply.asked_at.tzinfo is UTC
    date = reply.headers["date"]
    assert reply.headers == {**kept, "date": date}


def test_no_cookie_comes_back(server: ApiServer, connect: Connect) -> None:
    """A server's cookie isn't sent again: requests are alike, whatever was answered before."""
    client = connect(headers={"X-Tenant": "seven", "Accept": "application/xml"})
    server.faults.answer(200, b"", Set_Cookie="session=1; Path=/")
    for _ in range(2):
        client.get("items")
    first, second = server.requests
    assert first.headers == second.headers
    assert first.headers["accept-encoding"] == "gzip"
    assert first.headers["user-agent"].startswith("ingestion_platform/")
    assert (first.headers["x-tenant"], first.headers["accept"]) == ("seven", "application/xml")


def test_urls_are_below_the_base(server: ApiServer, connect: Connect) -> None:
    """A path goes below the base URL, its letters and the query's values are percent-encoded, and arrive as they were."""
    client = connect()
    server.serve("/städte/a b?", RECORDS)
    url = client.url("/städte/a b?", {"q": "a&b=c d+é/?#%", "since": "2024-10-01T00:00:00+02:00"})
    assert client.get(url).status == 200
    seen = server.requests[-1]
    assert seen.path == "/v1/städte/a b?"
    assert seen.params == {"q": "a&b=c d+é/?#%", "since": "2024-10-01T00:00:00+02:00"}
    assert client.url("/x%2Fy", {}) == f"{server.base_url}/x%2Fy"


@pytest.mark.parametrize("path", ["/stores/../admin", "/a/.", "/%2e%2E/x", "/.%2e/x"])
def test_no_value_leads_out_of_the_base(connect: Connect, path: str) -> None:
    """A value that climbs out of the path it is put into is refused."""
    with pytest.raises(SourceError, match="leads out of the base URL"):
        connect().url(path, {})


def test_a_link_may_be_relative_or_hold_letters_that_urls_may_not(server: ApiServer, connect: Connect) -> None:
    """Relative links go from the base URL; blanks and letters beyond ASCII are percent-encoded."""
    client = connect()
    server.serve("/ä b", RECORDS)
    for url in ("items", "/v1/items", f"//127.0.0.1:{server.port}/v1/items", "ä b?q=ö x", " items#part "):
        assert client.get(url).status == 200
    assert {seen.path for seen in server.requests} == {"/v1/items", "/v1/ä b"}
    assert server.requests[3].query == "q=%C3%B6%20x"


def test_gzip_is_unpacked(server: ApiServer, connect: Connect) -> None:
    """Packed replies come back as they were, several members and trailing zeros included; what went over the network is counted."""
    client = connect()
    server.is_packed = True
    reply = client.get("items")
    assert json.loads(reply.content) == {"items": RECORDS}
    several = gzip.compress(b"one, ") + gzip.compress(b"x" * 300_000) + gzip.compress(b"") + bytes(512)
    server.faults.answer(200, several, Content_Encoding="gzip")
    server.faults.answer(200, b"", Content_Encoding="gzip")
    before = client.asked.bytes
    assert client.get("items").content == b"one, " + b"x" * 300_000
    assert client.asked.bytes - before == len(several)
    assert client.get("items").content == b""


def test_many_threads_ask_at_once(server: ApiServer, connect: Connect) -> None:
    """Any thread may ask; every request is counted once."""
    client = connect()
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(client.get, ["items"] * 160))
    assert {reply.content for reply in replies} == {json.dumps({"items": RECORDS}).encode()}
    assert client.asked.requests == len(server.requests) == 160
    assert client.asked.bytes == sum(len(reply.content) for reply in replies)


# --- who one is


@pytest.mark.parametrize("auth", EVERY_AUTH, ids=_auth_id)
def test_every_way_to_say_who_one_is_is_taken(server: ApiServer, connect: Connect, auth: Auth | None) -> None:
    """The server lets in who has the secrets, with letters of all kinds in them."""
    client = connect(auth=auth)
    for _ in range(3):
        assert json.loads(client.get("items").content) == {"items": RECORDS}
    assert client.asked.tokens == len([seen for seen in server.requests if seen.method == "POST"])
    assert client.asked.tokens == isinstance(auth, ClientCredentials)


@pytest.mark.parametrize("auth", EVERY_AUTH[1:], ids=_auth_id)
def test_wrong_secrets_are_told_without_showing_them(server: ApiServer, connect: Connect, auth: Auth) -> None:
    """Who isn't let in is told so at once, and which table of which file to look into; what the server echoes is hidden."""
    wrong = {name: f"{value[:8]}-wrong"[:30] for name, value in secrets_of(auth).items()}
    client = connect(auth=auth, secrets=wrong)
    with pytest.raises(SourceError, match="401 Unauthorized") as failed:
        client.get("items")
    assert not isinstance(failed.value, SourceUnavailable)
    assert "[till] in the file of INGESTION_APIS" in failed.value.hint
    hidden = {value for name, value in wrong.items() if name not in ("username", "client_id")}
    assert not [value for value in hidden if value in str(failed.value)]
    assert len(server.requests) == 1


@pytest.mark.parametrize("auth", EVERY_AUTH[1:], ids=_auth_id)
def test_a_missing_secret_is_told_before_anything_is_asked(connect: Connect, auth: Auth) -> None:
    """A client without its secrets isn't made; the error says what must stand in the file."""
    complete = secrets_of(auth)
    for missing in complete:
        with pytest.raises(SettingsError, match=rf"API 'till': {missing} isn't known.*INGESTION_APIS needs \[till\]"):
            connect(auth=auth, secrets={name: value for name, value in complete.items() if name != missing})


@pytest.mark.parametrize("value", ["one-q7\ntwo-q7", "end-q7\n", " front-q7", "tab\tq7", "äöü-q7", "q7\0"])
@pytest.mark.parametrize("auth", [ApiKey(), BearerToken()], ids=_auth_id)
def test_a_secret_that_no_header_can_hold_is_told_without_showing_it(connect: Connect, auth: Auth, value: str) -> None:
    """A secret with a line end would end its header and begin another one: it is refused."""
    with pytest.raises(SettingsError, match="letters that no header can hold") as failed:
        connect(auth=auth, secrets=dict.fromkeys(secrets_of(auth), value))
    assert "q7" not in str(failed.value)


def test_a_password_may_be_empty(server: ApiServer, connect: Connect) -> None:
    """Some want the key as user and nothing else; then the user is the secret."""
    client = connect(auth=BasicAuth(), secrets={"username": "sk_live_123456", "password": ""})
    server.auth = None
    server.faults.answer(200, b"you are sk_live_123456")
    assert client.get("items").content == b"you are ***"
    with pytest.raises(SettingsError, match="holds a colon"):
        connect(auth=BasicAuth(), secrets={"username": "a:b", "password": ""})


def test_nothing_shows_secrets_by_accident() -> None:
    """What the deployment knows shows no secret when it is printed."""
    access = Access("https://api.example.com", {"key": "s3cret-key"})
    assert "s3cret-key" not in repr(access)
    client = ApiClient(Api(name="till", base_url="https://api.example.com", auth=ApiKey()), access, Pace(None, None))
    assert "s3cret-key" not in repr(client)


# --- secrets stay here


@pytest.mark.parametrize("paging", [LinkHeader(), NextLink("paging.next")], ids=["header", "body"])
def test_a_key_that_comes_back_in_a_link_is_put_in_again(server: ApiServer, connect: Connect, paging: Any) -> None:
    """A server that writes the key into its links is asked with the key, once; and no reply shows it."""
    server.serve("/items", RECORDS, paging, size=2)
    client = connect(auth=ApiKey(name="api key", where="query"))
    reply = client.get(client.url("/items", {"q": "x"}))
    told = reply.headers.get("link", "") + reply.content.decode()
    assert SECRETS["key"] not in told
    assert quote(SECRETS["key"], safe="") not in told
    link = told[told.rindex("http://") :].split(">")[0].split('"')[0]
    assert "api%20key=***" in link
    following = client.get(link)
    assert [record["id"] for record in json.loads(following.content)["items"]] == [2, 3]
    assert following.url.startswith(f"{server.base_url}/items?q=x&after=")
    assert "key" not in following.url
    assert [seen.params["api key"] for seen in server.requests] == [SECRETS["key"]] * 2


def test_a_key_of_few_letters_stays_out_of_urls_too(server: ApiServer, connect: Connect) -> None:
    """In a URL the key's parameter goes, however short the key is; others with similar names stay."""
    client = connect(auth=ApiKey(name="key", where="query"), secrets={"key": "abc"})
    server.auth = None
    assert client.get("items?key=abc&monkey=abc&k%65y=abc&x=%6b").url == f"{server.base_url}/items?monkey=abc&x=%6b"
    assert server.requests[-1].query == "monkey=abc&x=%6b&key=abc"
    assert client.get("items?key=abc").url == f"{server.base_url}/items"
    with pytest.raises(SourceError) as failed:
        client.get("none?key=abc")
    assert "abc" not in str(failed.value)


def test_secrets_in_a_body_are_replaced(server: ApiServer, connect: Connect) -> None:
    """A secret of six letters and more is hidden in whatever way it is written; what says who asks isn't a secret."""
    secret = SECRETS["client_secret"]
    client = connect(auth=ClientCredentials(token_url="/oauth/token"))
    forms = [secret, quote(secret, safe=""), quote(secret, safe="").lower(), secret.replace("/", "\\/")]
    server.pages["/v1/echo"] = lambda seen: Answer(200, " ".join([seen.headers["authorization"], *forms]).encode())
    assert client.get("echo").content == b"Bearer *** *** *** *** ***"
    server.pages["/v1/echo"] = lambda seen: Answer.json({"owner": SECRETS["client_id"]})
    assert json.loads(client.get("echo").content) == {"owner": "client one"}
    short = connect(auth=BearerToken(), secrets={"token": "items"})
    server.auth = None
    assert json.loads(short.get("items").content) == {"items": RECORDS}


@pytest.mark.parametrize("auth", EVERY_AUTH[1:], ids=_auth_id)
def test_no_log_shows_a_secret(
    server: ApiServer, connect: Connect, auth: Auth, caplog: pytest.LogCaptureFixture
) -> None:
    """Of requests that work, are tried again and fail, no log of any library at any level holds a secret."""
    caplog.set_level(logging.DEBUG)
    client = connect(auth=auth)
    client.get("items?q=1")
    echo = "; ".join(secrets_of(auth).values())
    server.faults.answer(503, echo, 2, Retry_After="1")
    server.faults.answer(400, echo)
    with pytest.raises(SourceError, match=r"400 Bad Request: .*\*\*\*") as failed:
        client.get("items?q=2")
    told = caplog.text + str(failed.value) + repr(failed.value.__cause__) + repr(failed.value.__context__)
    for name, value in secrets_of(auth).items():
        if name not in ("username", "client_id"):
            assert value not in told
            assert quote(value, safe="") not in told
    assert caplog.records


def test_no_traceback_shows_a_secret(server: ApiServer, connect: Connect) -> None:
    """What a server echoes in the middle of its protocol stands in no error that a run would print, causes included."""
    client = connect(auth=BearerToken(), patience_seconds=0)
    for words in ("{} 200 OK\r\n\r\n", "HTTP/1.1 200 {}: x\r\n{} {}\r\n\r\n", "HTTP/1.1 500 No\r\n\r\n{}"):
        server.faults.say(words.replace("{}", SECRETS["token"]).encode())
        with pytest.raises(SourceUnavailable) as failed:
            client.get("items")
        assert SECRETS["token"] not in "".join(traceback.format_exception(failed.value))


# --- where it may lead


@pytest.mark.parametrize(
    "url",
    [
        "http://evil.test/v1/items",
        "http://files.test:8080/v1/items",
        "https://files.test:80/v1/items",
        "//evil.test/",
        "http://127.0.0.1/v1/items",
        "http://127.0.0.1:{port}@evil.test/",
        "http://user:password@127.0.0.1:{port}/v1/items",
        "http://127.0.0.1:{port}.evil.test/",
        "http://evil.test\\@127.0.0.1:{port}/",
        "http://evil.test\\.127.0.0.1:{port}/",
        "http://evil.test#@127.0.0.1:{port}/",
        "http://127.0.0.1:{port}\n.evil.test/",
        "http://127.0.0.1:{port}/v1/items\r\nX-Evil: 1",
        "https://127.0.0.1:{port}.evil.test/",
        "http://localhost:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://2130706433:{port}/",
        "http://127.1:{port}/",
        "http://127.0.0.1.:{port}/",
        "http://①②⑦.0.0.1:{port}/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:x/",
        "http://[::1",
        "file:///etc/passwd",
        "ftp://127.0.0.1:{port}/",
        "gopher://127.0.0.1:{port}/",
        "javascript:alert(1)",
        "http:///v1/items",
        "http://%65vil.test/",
        "http://evil.test%2f@127.0.0.1:{port}/",
    ],
)
def test_links_to_elsewhere_are_refused(server: ApiServer, connect: Connect, url: str) -> None:
    """A link that leads elsewhere, or that two programs may read in two ways, isn't followed: neither as a link nor as a redirect."""
    url = url.replace("{port}", str(server.port))
    client = connect(auth=ApiKey(), hosts=("files.test",))
    if "①" not in url:  # those digits become the host's own, on the way to the resolver
        with pytest.raises(SourceError, match=r"isn't declared|isn't a URL"):
            client.get(url)
        assert server.requests == []
    if url.isascii() and url.isprintable():
        server.faults.redirect(url)
        with pytest.raises(SourceError, match=r"is redirected to host|a redirect isn't a URL"):
            client.get("items")
    assert {seen.path for seen in server.requests} <= {"/v1/items"}
    assert client.asked.retries == 0


def test_an_undeclared_host_is_named_with_what_to_declare(connect: Connect) -> None:
    """The error says the host, and how to allow it."""
    with pytest.raises(SourceError) as failed:
        connect().get("https://files.example.com:8443/x")
    assert "a link leads to host files.example.com:8443, which isn't declared" in failed.value.what
    assert failed.value.hint == "When it is meant: hosts=('files.example.com',)"


def test_a_link_never_goes_down_to_http(connect: Connect) -> None:
    """An API of https is never asked over http, nor is a host beside it."""
    client = connect(base_url="https://api.test", hosts=("files.test",))
    for url in ("http://api.test/", "http://api.test:443/", "http://files.test/"):
        with pytest.raises(SourceError, match="from https:// to http://"):
            client.get(url)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_by_hand(server: ApiServer, connect: Connect, status: int) -> None:
    """A redirect to the same host is followed, with credentials and the key once; the reply is known by the URL that was asked."""
    client = connect(auth=ApiKey(name="key", where="query"))
    server.faults.redirect("items?moved=1&key=wrong", status=status, path="/v1/old")
    reply = client.get("old?q=1")
    assert json.loads(reply.content) == {"items": RECORDS}
    assert reply.url == f"{server.base_url}/old?q=1"
    assert server.requests[-1].params == {"moved": "1", "key": SECRETS["key"]}
    assert (client.asked.redirects, client.asked.requests) == (1, 2)


def test_redirects_in_a_circle_end(server: ApiServer, connect: Connect) -> None:
    """After five redirects it is told, not tried again."""
    server.faults.redirect("/v1/items", None)
    client = connect()
    with pytest.raises(SourceError, match="redirected more than 5 times"):
        client.get("items")
    assert (len(server.requests), client.asked.redirects, client.asked.retries) == (6, 5, 0)


def test_a_redirect_to_nowhere_is_told(server: ApiServer, connect: Connect) -> None:
    """A redirect without a place, and a status of the same hundred that is none, are errors."""
    server.faults.answer(302, b"")
    server.faults.answer(300, b"choose")
    server.faults.answer(304, b"")
    for what in ("redirected to nowhere", "300 Multiple Choices: choose", "304 Not Modified"):
        with pytest.raises(SourceError, match=what):
            connect().get("items")


@pytest.mark.parametrize("auth", EVERY_AUTH[1:], ids=_auth_id)
def test_credentials_go_to_the_api_alone(
    server: ApiServer, connect: Connect, auth: Auth, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A declared host is asked, by link and by redirect, and gets neither headers nor keys nor tokens."""
    with serve_api() as files:
        files.serve("/file", RECORDS)
        _elsewhere(monkeypatch, {("127.0.0.1", server.port): server.port, ("192.0.2.7", 80): files.port})
        client = connect(
            auth=auth,
            hosts=("files.test",),
            resolve=lambda host, port: {"127.0.0.1": ["127.0.0.1"], "files.test": ["192.0.2.7"]}[host],
        )
        client.get("items")
        echoed = {"api key": SECRETS["key"]} if auth == EVERY_AUTH[2] else {}
        key = urlencode({**echoed, "q": "1"}, quote_via=quote)
        assert json.loads(client.get(f"http://files.test/v1/file?{key}").content) == {"items": RECORDS}
        server.faults.redirect(f"http://files.test/v1/file?{key}", path="/v1/moved")
        client.get("moved")
        assert len(files.requests) == 2
        for seen in files.requests:
            told = f"{unquote_plus(seen.query)} {dict(seen.headers)}"
            assert "authorization" not in seen.headers
            assert "x-api-key" not in seen.headers
            assert not [value for value in (*SECRETS.values(), HEADER_KEY, "access-token") if value in told]
            assert seen.headers["host"] == "files.test"


# --- addresses


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("1.1.1.1", True),
        ("93.184.216.34", True),
        ("2606:4700::1111", True),
        ("::ffff:1.1.1.1", True),
        ("64:ff9b::1.1.1.1", True),
        ("2002:101:101::1", True),
        ("127.0.0.1", False),
        ("127.1.2.3", False),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("192.0.0.1", False),
        ("192.0.2.1", False),
        ("198.18.0.1", False),
        ("224.0.0.1", False),
        ("233.1.1.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::127.0.0.1", False),
        ("::1.1.1.1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:0:127.0.0.1", False),
        ("64:ff9b::10.0.0.1", False),
        ("64:ff9b::169.254.169.254", False),
        ("64:ff9b:1::1", False),
        ("2002:7f00:1::1", False),
        ("2002:a9fe:a9fe::1", False),
        ("2001:0:7f00:1::fefe:fefe", False),
        ("2001:db8::1", False),
        ("fc00::1", False),
        ("fd00:ec2::254", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("fec0::1", False),
        ("ff02::1", False),
        ("ff0e::1", False),
        ("4000::1", False),
        ("127.0.0.1%1", False),
        ("not an address", False),
        ("", False),
    ],
)
def test_an_address_is_public_or_not(address: str, expected: bool) -> None:
    """Only addresses of the public internet count; IPv4 addresses inside IPv6 ones are looked at."""
    assert is_public(address) is expected


def test_private_addresses_are_refused(server: ApiServer, connect: Connect) -> None:
    """Unless it is allowed, no address of the own network or machine is asked; it is told at once, with what to set."""
    client = connect(private=False)
    with pytest.raises(SourceError, match=r"127\.0\.0\.1, which isn't public .*private_hosts = true") as failed:
        client.get("items")
    assert not isinstance(failed.value, SourceUnavailable)
    assert server.requests == []


@pytest.mark.parametrize("private", ["127.0.0.1", "::1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "169.254.169.254"])
def test_one_private_address_among_public_ones_is_refused(
    server: ApiServer, connect: Connect, monkeypatch: pytest.MonkeyPatch, private: str
) -> None:
    """A name with one address that isn't public isn't asked at all."""
    connected = _elsewhere(monkeypatch, {("1.1.1.1", 80): server.port})
    client = connect(base_url="http://api.test/v1", private=False, resolve=lambda host, port: ["1.1.1.1", private])
    with pytest.raises(SourceError, match="isn't public"):
        client.get("items")
    assert connected == []


def test_the_address_that_was_checked_is_connected_to(
    server: ApiServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that changes its address after the check leads nowhere else: it is looked up once per connection, and each time checked."""
    answers = iter([["1.1.1.1"], ["127.0.0.1"]])
    asked = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return next(answers)

    def never(*arguments: object, **named: object) -> Any:
        raise AssertionError(f"a second look-up: {arguments}")

    connected = _elsewhere(monkeypatch, {("1.1.1.1", 80): server.port, ("127.0.0.1", 80): server.port})
    client = connect(base_url="http://api.test/v1", private=False, resolve=rebinding)
    assert client.get("items").status == 200
    assert client.get("items").status == 200
    assert (asked, connected) == ([("api.test", 80)], [("1.1.1.1", 80)])
    server.faults.drop()
    with pytest.raises(SourceError, match=r"api\.test has the address 127\.0\.0\.1, which isn't public"):
        client.get("items")
    assert connected == [("1.1.1.1", 80)]


def test_further_addresses_are_tried(server: ApiServer, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one address of a name takes no connection, the next one is tried, within the same attempt."""
    connected = _elsewhere(monkeypatch, {("1.0.0.1", 80): server.port})
    client = connect(base_url="http://api.test/v1", private=False, resolve=lambda host, port: ["1.1.1.1", "1.0.0.1"])
    assert client.get("items").status == 200
    assert [address for address, _ in connected] == ["1.1.1.1", "1.0.0.1"]
    assert client.asked.retries == 0


def test_proxies_of_the_environment_are_ignored(
    server: ApiServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy would make the connections, to addresses that nobody checked: none is used."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert connect().get("items").status == 200


def test_tls_checks_the_name(
    server: ApiServer, connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A certificate counts for the name that was asked, not for the address; a wrong one is told at once, and nothing is sent."""
    certificate, trusting = _certificate(tmp_path, "api.test")
    monkeypatch.setattr(httpcore, "default_ssl_context", lambda: trusting)
    with serve_api(certificate) as secure:
        secure.serve("/items", RECORDS)
        _elsewhere(monkeypatch, {("1.1.1.1", 443): secure.port})
        for host in ("api.test", "other.test"):
            client = connect(
                base_url=f"https://{host}/v1",
                private=False,
                resolve=lambda host, port: ["1.1.1.1"],
                hosts=("api.test",),
            )
            if host == "api.test":
                assert client.get("items").status == 200
                secure.faults.redirect("http://api.test/v1/items")
                with pytest.raises(SourceError, match="a redirect leads from https:// to http://"):
                    client.get("items")
            else:
                with pytest.raises(SourceError, match=r"doesn't prove that it is other\.test"):
                    client.get("items")
                assert client.asked.retries == 0
        assert {seen.headers["host"] for seen in secure.requests} == {"api.test"}


def _certificate(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """A file with a certificate for a name and its key, and a context that trusts it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    written = made.public_bytes(serialization.Encoding.PEM)
    file = folder / "certificate.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + written
    )
    return file, ssl.create_default_context(cadata=written.decode())


# --- what fails in passing


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_be_over_soon_is_tried_again(server: ApiServer, connect: Connect, status: int) -> None:
    """A status that says that something is wrong at the moment is tried again until there is a reply."""
    server.faults.answer(status, b"not now", 3)
    client = connect()
    assert json.loads(client.get("items").content) == {"items": RECORDS}
    assert (client.asked.requests, client.asked.retries, client.asked.throttles) == (4, 3, 0)


BREAKS: dict[str, Callable[[ApiServer], None]] = {
    "dropped": lambda server: server.faults.drop(),
    "cut": lambda server: server.faults.cut(),
    "cut at once": lambda server: server.faults.cut(keep=0),
    "cut in chunks": lambda server: server.faults.cut(is_chunked=True),
    "chunks without an end": lambda server: server.faults.cut(keep=10_000, is_chunked=True),
    "a length too large": lambda server: server.faults.misstate_length(5),
    "gzip cut": lambda server: server.faults.answer(200, gzip.compress(b"x" * 99)[:-9], Content_Encoding="gzip"),
    "gzip flipped": lambda server: server.faults.answer(
        200, gzip.compress(b"x" * 99)[:-8] + bytes(8), Content_Encoding="gzip"
    ),
    "no gzip": lambda server: server.faults.answer(200, b"plain", Content_Encoding="gzip"),
    "no HTTP": lambda server: server.faults.say(b"SSH-2.0\r\n\r\n"),
    "silence": lambda server: server.faults.keep_silent(),
    "a slow body": lambda server: server.faults.drip(0.005),
    "slow headers": lambda server: server.faults.drip(0.005, part="headers"),
    "slow chunks": lambda server: server.faults.drip(0.005, part="chunks"),
}


@pytest.mark.parametrize("broken", BREAKS)
def test_half_a_reply_is_none(
    server: ApiServer, connect: Connect, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """A connection that ends, a body that is cut, a server that says nothing or says it too slowly: it is asked again."""
    server.serve("/items", [{"id": number, "name": "x" * 90} for number in range(5)])
    BREAKS[broken](server)
    monkeypatch.setattr(http_client, "REPLY_TIMEOUTS", 2)
    is_slow = broken[0] == "s" or broken == "a slow body"
    client = connect(timeout_seconds=0.3 if is_slow else 30)
    assert len(json.loads(client.get("items").content)["items"]) == 5
    assert (client.asked.requests, client.asked.retries) == (2, 1)


def test_a_refused_connection_and_an_unknown_name_are_told(connect: Connect) -> None:
    """When nobody is there until patience is over, the error says what happened last, how often and for how long it was tried."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        with pytest.raises(SourceUnavailable, match=r"no connection .*tried \d+ times in 60 seconds"):
            connect(base_url=f"http://127.0.0.1:{port}", patience_seconds=60).get("items")

    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    with pytest.raises(SourceUnavailable, match=r"no connection \(api\.test has no address\)"):
        connect(base_url="http://api.test", resolve=unknown, patience_seconds=1).get("items")


def test_waits_grow_and_patience_ends(server: ApiServer, connect: Connect, clock: Clock) -> None:
    """Waits double, with jitter, up to half a minute; the last attempt is made when patience is over, and then it is told."""
    server.faults.answer(503, b'{"message": "closed for the night"}', None)
    client = connect(patience_seconds=300)
    began = clock.now
    with pytest.raises(SourceUnavailable) as failed:
        client.get("items?x=1")
    assert clock.now - began == pytest.approx(300, abs=0.1)
    tries = len(server.requests)
    assert f"503 Service Unavailable: closed for the night (tried {tries} times in 300 seconds)" in failed.value.what
    assert f"GET {server.base_url}/items?x=1" in failed.value.what
    assert failed.value.can_retry
    longest = [min(0.5 * 2**number, 30) for number in range(tries)]
    waits = clock.sleeps
    assert all(half / 2 <= wait <= half for wait, half in zip(waits[:-1], longest, strict=False))
    assert client.asked.retries == tries - 1 == len(waits)
    assert client.asked.waited_seconds == pytest.approx(300, abs=0.1)
    clock.sleeps = []
    with pytest.raises(SourceUnavailable):
        client.get("items")
    assert clock.sleeps != waits


def test_without_patience_there_is_one_attempt(server: ApiServer, connect: Connect) -> None:
    """Patience of no seconds means once."""
    server.faults.answer(500, b"", None)
    with pytest.raises(SourceUnavailable, match=r"500 Internal Server Error \(tried once in 0 seconds\)"):
        connect(patience_seconds=0).get("items")
    assert len(server.requests) == 1


def test_patience_begins_with_the_first_request(server: ApiServer, connect: Connect, clock: Clock) -> None:
    """Waiting for one's turn takes no patience."""
    client = connect(rate=Rate(1, 600), patience_seconds=5)
    client.get("items")
    assert client.get("items").status == 200
    assert clock.now > 1600


# --- when the server says how long to wait


@pytest.mark.parametrize("status", [429, 503])
def test_the_wait_is_as_the_server_says(server: ApiServer, connect: Connect, clock: Clock, status: int) -> None:
    """`Retry-After` in seconds is waited for, no less and hardly more."""
    server.faults.throttle(7, 2, status=status)
    client = connect()
    assert client.get("items").status == 200
    assert clock.now == pytest.approx(1014, abs=0.1)
    assert (client.asked.throttles, client.asked.retries) == (2, 2)
    assert client.asked.waited_seconds == pytest.approx(14, abs=0.1)


@pytest.mark.parametrize("ahead", [0, 5000, -5000])
def test_a_date_counts_from_the_servers_own_clock(
    server: ApiServer, connect: Connect, clock: Clock, ahead: float
) -> None:
    """`Retry-After` as a date is held against the reply's own date: the server's clock may be wrong."""
    server.faults.throttle_until(20, ahead=ahead)
    assert connect().get("items").status == 200
    assert clock.now == pytest.approx(1020, abs=1.1)


@pytest.mark.parametrize(
    "after", ["soon", "-5", "0", "", "nan", "1e3", "Thu, 99 Foo 2024 00:00:00 GMT", "٣", "9" * 40, "1, 2"]
)
def test_a_wait_that_cannot_be_read_is_ours(server: ApiServer, connect: Connect, clock: Clock, after: str) -> None:
    """`Retry-After` that says nothing usable, or not to wait at all, leaves the growing waits: no server is asked without pause."""
    server.faults.throttle(after, 4)
    assert connect().get("items").status == 200
    assert 3.7 <= clock.now - 1000 <= 7.6


def test_a_date_in_the_past_is_no_wait(server: ApiServer, connect: Connect, clock: Clock) -> None:
    """A date that is over leaves the growing waits."""
    server.faults.throttle_until(-100, 2)
    assert connect().get("items").status == 200
    assert 0.7 <= clock.now - 1000 <= 1.6


@pytest.mark.parametrize("status", [500, 502, 504, 408, 403])
def test_whoever_says_when_to_come_again_is_heard(
    server: ApiServer, connect: Connect, clock: Clock, status: int
) -> None:
    """`Retry-After` counts with other statuses too, and makes of a 403 one that passes."""
    server.faults.throttle(9, status=status)
    assert connect().get("items").status == 200
    assert clock.now == pytest.approx(1009, abs=0.1)


@pytest.mark.parametrize(
    ("headers", "waits"),
    [
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "40"}, 40),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(1727777777 + 50), "Date": http_date(AT)}, 50),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "40", "Retry-After": "3"}, 3),
        ({"X-RateLimit-Remaining": "1", "X-RateLimit-Reset": "40"}, None),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "soon"}, None),
        ({"X-RateLimit-Remaining": "0"}, None),
    ],
)
def test_a_limit_that_is_used_up_is_waited_for(
    server: ApiServer, connect: Connect, clock: Clock, headers: dict[str, str], waits: float | None
) -> None:
    """A 403 that says that no request is left, and when there are some again, passes then; any other 403 is a refusal."""
    server.faults.add(lambda handler, _: handler.send(Answer(403, b"limit exceeded", dict(headers))))
    client = connect()
    if waits is None:
        with pytest.raises(SourceError, match="403 Forbidden: limit exceeded"):
            client.get("items")
        assert len(server.requests) == 1
    else:
        assert client.get("items").status == 200
        assert clock.now == pytest.approx(1000 + waits, abs=0.1)


def test_a_wait_longer_than_patience_fails_at_once(server: ApiServer, connect: Connect, clock: Clock) -> None:
    """Nobody waits for what is known to come too late; and others don't ask meanwhile either."""
    server.faults.throttle(301, None)
    client = connect(patience_seconds=300)
    with pytest.raises(SourceUnavailable, match=r"429 Too Many Requests: too much \(tried once in 0 seconds\)"):
        client.get("items")
    assert (len(server.requests), clock.sleeps) == (1, [])
    with pytest.raises(SourceUnavailable, match=r"left alone for 301 seconds"):
        client.get("items")
    assert len(server.requests) == 1
    server.faults.clear()
    clock.now += 301
    assert client.get("items").status == 200


def test_the_whole_api_is_held_back_for_all_processes(
    server: ApiServer, connect: Connect, clock: Clock, tmp_path: Path
) -> None:
    """Another client with the same file waits too, and whoever isn't so patient fails without asking."""
    first, second, third = (Pace(None, tmp_path / "till.pace", clock=clock, sleep=clock.sleep) for _ in range(3))
    server.faults.throttle(30)
    connect(pace=first).get("items")
    assert clock.now == pytest.approx(1030, abs=0.1)
    server.faults.throttle(50)
    with pytest.raises(SourceUnavailable):
        connect(pace=first, patience_seconds=40).get("items")
    with pytest.raises(SourceUnavailable, match="left alone for 50 seconds yet"):
        connect(pace=third, patience_seconds=40).get("items")
    count = len(server.requests)
    connect(pace=second, patience_seconds=60).get("items")
    assert clock.now == pytest.approx(1080, abs=0.1)
    assert len(server.requests) == count + 1


def test_every_request_waits_for_its_turn(server: ApiServer, connect: Connect, clock: Clock) -> None:
    """Retries, redirects and requests for tokens keep the rate too."""
    client = connect(rate=Rate(1, 10), auth=ClientCredentials(token_url="/oauth/token"))
    server.faults.answer(503, b"", path="/v1/items")
    server.faults.redirect("items", path="/v1/items")
    client.get("items")
    assert [seen.path for seen in server.requests] == ["/oauth/token", *["/v1/items"] * 3]
    assert clock.now >= 1030


# --- what is refused


MESSAGES = [
    (b'{"message": "no such store"}', "no such store"),
    (b'{"error": "invalid", "error_description": "no such day"}', "no such day"),
    (b'{"error": {"code": 7, "message": "deep inside"}}', "deep inside"),
    (b'{"title": "Bad", "detail": "the details"}', "the details"),
    (b'{"errors": [{"detail": "one"}, {"detail": "two"}, "three", "four"]}', "one; two; three"),
    (b'["a list"]', "a list"),
    (b'{"code": 5}', '{"code": 5}'),
    (b"  plain\r\n\r\n text\x00\x1b[31m ", "plain text [31m"),
    (b"<html><head><style>b {}</style></head><body><h1>Sorry</h1>no</body></html>", "Sorry no"),
    (b'"only text"', '"only text"'),
    (b"\xff\xfe", "��"),
    (b"[" * 50_000, "[" * 299 + "…"),
    (b'{"message": "' + b"long " * 1000 + b'"}', ("long " * 1000)[:299] + "…"),
    (b"", ""),
]


@pytest.mark.parametrize(("body", "expected"), MESSAGES, ids=range(len(MESSAGES)))
def test_a_refusal_is_told_in_the_servers_own_words(
    server: ApiServer, connect: Connect, body: bytes, expected: str
) -> None:
    """What won't get better by waiting fails at once, with what the server says about it, on one line of at most 300 letters."""
    server.faults.answer(422, body)
    with pytest.raises(SourceError) as failed:
        connect().get("items?day=1")
    assert not isinstance(failed.value, SourceUnavailable)
    said = f"API 'till': GET {server.base_url}/items?day=1 is answered 422 "
    assert failed.value.what.startswith(said)
    assert failed.value.what.partition(said)[2].partition(": ")[2] == expected
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 404, 405, 410, 418, 451, 499, 501, 505, 599])
def test_every_other_status_fails_at_once(server: ApiServer, connect: Connect, status: int) -> None:
    """Statuses that aren't known to pass aren't tried again."""
    server.faults.answer(status, b"no")
    with pytest.raises(SourceError, match=rf"is answered {status}.*: no"):
        connect().get("items")
    assert len(server.requests) == 1


def test_hints_say_where_to_look(server: ApiServer, connect: Connect) -> None:
    """Refused credentials lead to the file of secrets, or to the declaration when there are none; an unknown path to the path."""
    for auth, status, hint in (
        (None, 401, "declare auth"),
        (BearerToken(), 401, "[till] in the file of INGESTION_APIS"),
        (BearerToken(), 403, "[till] in the file of INGESTION_APIS"),
        (None, 404, "check the path"),
    ):
        client = connect(auth=auth)
        server.faults.answer(status, b"")
        with pytest.raises(SourceError) as failed:
            client.get("items")
        assert hint in failed.value.hint


def test_an_error_counts_even_when_its_page_is_cut(server: ApiServer, connect: Connect) -> None:
    """The status is known before the words are: what of them came is told."""
    server.faults.say(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\nyou may n")
    with pytest.raises(SourceError, match="403 Forbidden: you may n"):
        connect().get("items")


def test_some_statuses_mean_that_there_is_nothing(server: ApiServer, connect: Connect) -> None:
    """A status that is declared to mean that is a reply."""
    reply = connect().get("none", none_when=(404,))
    assert (reply.status, json.loads(reply.content)) == (404, {"message": "there is no /v1/none"})


@pytest.mark.parametrize(
    "declared",
    [
        {"headers": {"X-Tenant": "a\r\nX-Evil: 1"}},
        {"headers": {"X-Tenant": " blank"}},
        {"headers": {"X-Tenant": "ä"}},
        {"headers": {"X Tenant": "a"}},
        {"headers": {"": "a"}},
        {"auth": ApiKey(name="X-Key:")},
    ],
)
def test_a_header_that_cannot_be_sent_is_no_declaration(connect: Connect, declared: dict[str, Any]) -> None:
    """A declared header that would begin another one, or that no request can have, is told when it is declared."""
    with pytest.raises(DeclarationError, match="can't be sent"):
        connect(**declared)


# --- what is too much


def test_a_gzip_bomb_is_not_unpacked(server: ApiServer, connect: Connect) -> None:
    """A reply that is small on the network and too large unpacked is refused before it is in memory."""
    server.faults.bomb(100 * 1024**2)
    client = connect(max_page_bytes=1024**2)
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match=r"larger than 1,048,576 bytes .*larger max_page_bytes"):
            client.get("items")
        assert tracemalloc.get_traced_memory()[1] < 8 * 1024**2
    finally:
        tracemalloc.stop()
    assert client.asked.retries == 0


def test_a_reply_that_is_too_large_is_refused(server: ApiServer, connect: Connect) -> None:
    """The bound holds for plain replies and for chunks without end; a reply that just fits is taken."""
    client = connect(max_page_bytes=100_000)
    server.faults.answer(200, b"x" * 100_000)
    assert len(client.get("items").content) == 100_000
    server.faults.answer(200, b"x" * 100_001)
    server.faults.add(lambda handler, answer: _endless(handler, answer, b"x" * 10_000))
    empty = gzip.compress(b"")
    server.faults.add(lambda handler, answer: _endless(handler, answer, empty * 1000, Content_Encoding="gzip"))
    for _ in range(3):
        with pytest.raises(SourceError, match="larger than 100,000 bytes"):
            client.get("items")


def _endless(handler: Any, answer: Answer, content: bytes, **headers: str) -> None:
    """Send the same again and again, until the other side has enough."""
    answer.headers = {name.replace("_", "-"): value for name, value in headers.items()}
    handler.head(answer, None)
    while True:
        handler.chunk(content, is_chunked=True)


def test_an_encoding_that_was_not_asked_for_is_refused(server: ApiServer, connect: Connect) -> None:
    """What can't be unpacked isn't landed as if it were the content."""
    server.faults.answer(200, b"...", Content_Encoding="br")
    with pytest.raises(SourceError, match=r"came encoded as 'br' .*only gzip was asked for"):
        connect().get("items")


def test_long_words_of_an_error_are_not_read_whole(server: ApiServer, connect: Connect) -> None:
    """Of an error's page the beginning is enough."""
    server.faults.add(lambda handler, answer: _endless(handler, Answer(400), b"sorry " * 1000))
    client = connect()
    with pytest.raises(SourceError, match="400 Bad Request: sorry"):
        client.get("items")
    assert client.asked.bytes < 1_000_000


# --- what is known already


def test_what_has_not_changed_is_not_sent_again(server: ApiServer, connect: Connect) -> None:
    """With the ETag or the moment of the last reply, an unchanged one is a 304, and a changed one comes whole."""
    server.has_etags, server.last_modified = True, "Tue, 01 Oct 2024 00:00:00 GMT"
    client = connect()
    reply = client.get("items")
    again = client.get("items", etag=reply.headers["etag"])
    assert (again.status, again.content, again.headers["etag"]) == (304, b"", reply.headers["etag"])
    server.has_etags = False
    assert client.get("items", last_modified=reply.headers["last-modified"]).status == 304
    server.lists["/v1/items"].records.append({"id": 9})
    server.has_etags, server.last_modified = True, "Tue, 01 Oct 2024 00:00:01 GMT"
    changed = client.get("items", etag=reply.headers["etag"], last_modified=reply.headers["last-modified"])
    assert (changed.status, len(json.loads(changed.content)["items"])) == (200, 6)
    assert client.asked.not_modified == 2


def test_an_etag_that_no_header_can_hold_is_not_sent(server: ApiServer, connect: Connect) -> None:
    """Whoever landed such an ETag can't make the request say something else; the reply then comes whole."""
    assert connect().get("items", etag='"1"\r\nX-Evil: 1', last_modified="ä").status == 200
    assert not {"x-evil", "if-none-match", "if-modified-since"} & set(server.requests[0].headers)


# --- tokens


OAUTH = ClientCredentials(token_url="/oauth/token")


def _tokens_asked(server: ApiServer) -> int:
    return len([seen for seen in server.requests if seen.method == "POST"])


def test_many_threads_share_a_token(server: ApiServer, connect: Connect) -> None:
    """A token is fetched once, however many wait for it."""
    client = connect(auth=OAUTH)
    with ThreadPoolExecutor(8) as threads:
        assert {reply.status for reply in threads.map(client.get, ["items"] * 32)} == {200}
    assert _tokens_asked(server) == client.asked.tokens == 1


@pytest.mark.parametrize(("life", "good_for"), [(3600, 3540), (100, 90), ("50", 45)])
def test_a_token_is_renewed_before_it_expires(
    server: ApiServer, connect: Connect, clock: Clock, life: Any, good_for: float
) -> None:
    """A minute before its end, or a tenth of its life before, it is fetched anew; no request is refused for it."""
    server.token_seconds = life if isinstance(life, int) else 50
    if not isinstance(life, int):  # some write it as a text
        told = {"access_token": "access-token-9", "token_type": "Bearer", "expires_in": life}
        server.faults.answer(200, json.dumps(told), path="/oauth/token")
    client = connect(auth=OAUTH)
    server.auth = None if not isinstance(life, int) else OAUTH
    client.get("items")
    clock.now += good_for - 1
    client.get("items")
    assert client.asked.tokens == 1
    clock.now += 2
    server.auth = OAUTH
    client.get("items")
    assert client.asked.tokens == 2
    assert len(server.requests) - client.asked.tokens == 3


def test_a_token_without_an_end_is_kept(server: ApiServer, connect: Connect, clock: Clock) -> None:
    """When nobody says how long a token is good, it is kept until it is refused."""
    server.token_seconds = None
    client = connect(auth=OAUTH)
    client.get("items")
    clock.now += 10**6
    client.get("items")
    assert client.asked.tokens == 1


def test_a_refused_token_is_fetched_anew_once(server: ApiServer, connect: Connect) -> None:
    """A token that expires early is fetched anew, by one of all who notice; that isn't counted as a retry."""
    client = connect(auth=OAUTH)
    client.get("items")
    server.expire_tokens()
    with ThreadPoolExecutor(8) as threads:
        assert {reply.status for reply in threads.map(client.get, ["items"] * 16)} == {200}
    assert (client.asked.tokens, client.asked.retries) == (2, 0)


def test_who_is_refused_with_a_new_token_too_is_told(server: ApiServer, connect: Connect) -> None:
    """A 401 with a token that was just fetched is no matter of the token."""
    client = connect(auth=OAUTH)
    server.faults.answer(401, b'{"message": "not you"}', None, path="/v1/items")
    with pytest.raises(SourceError, match="401 Unauthorized: not you"):
        client.get("items")
    assert (client.asked.tokens, len(server.requests)) == (2, 4)


def test_errors_of_the_tokens_endpoint_are_told(server: ApiServer, connect: Connect) -> None:
    """The standard's `error` and `error_description` are told, for the endpoint's own URL, without the secret that it echoes."""
    client = connect(auth=OAUTH, secrets={"client_id": "nobody", "client_secret": "wrong-secret"})
    with pytest.raises(SourceError) as failed:
        client.get("items")
    told = f"POST {server.url}/oauth/token is answered 401 Unauthorized: nobody with *** is nobody"
    assert told in failed.value.what
    assert "[till] in the file of INGESTION_APIS" in failed.value.hint


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"<html>please log in</html>", "gives no token"),
        (b"{}", "no access_token is in it"),
        (b'{"access_token": 5}', "no access_token is in it"),
        (b'{"access_token": "a\\nb"}', "no access_token is in it"),
        (b'{"error": "slow_down", "error_description": "later"}', "gives no token: later"),
        (b'{"access_token": "abcdef", "token_type": "mac"}', "a token of type 'mac'"),
        (b'{"access_token": "abcdef", "token_type": 1}', "a token of type '1'"),
        (b"x" * 2_000_000, "larger than 1,048,576 bytes"),
    ],
)
def test_what_is_no_token_is_told(server: ApiServer, connect: Connect, body: bytes, what: str) -> None:
    """An answer with status 200 that holds no token that can be used is an error."""
    client = connect(auth=OAUTH)
    server.faults.answer(200, body, path="/oauth/token")
    with pytest.raises(SourceError, match=what):
        client.get("items")
    assert client.asked.tokens == 0


def test_the_tokens_endpoint_may_fail_in_passing(server: ApiServer, connect: Connect) -> None:
    """It is tried again like everything else."""
    client = connect(auth=OAUTH)
    server.faults.answer(503, b"", path="/oauth/token")
    server.faults.drop(path="/oauth/token")
    server.faults.throttle(2, path="/oauth/token")
    assert client.get("items").status == 200
    assert (client.asked.retries, client.asked.tokens) == (3, 1)


def test_the_tokens_endpoint_does_not_send_us_elsewhere(server: ApiServer, connect: Connect) -> None:
    """A redirect of it isn't followed: the client's secret would go along."""
    client = connect(auth=OAUTH)
    server.faults.redirect("/v1/other", path="/oauth/token", status=307)
    with pytest.raises(SourceError, match="307 Temporary Redirect"):
        client.get("items")
    assert [seen.path for seen in server.requests] == ["/oauth/token"]


def test_the_tokens_url_is_checked_like_a_link(connect: Connect) -> None:
    """Tokens are fetched from declared hosts alone."""
    client = connect(auth=ClientCredentials(token_url="https://login.evil.test/token"))
    with pytest.raises(SourceError, match=r"leads to host login\.evil\.test, which isn't declared"):
        client.get("items")


def test_tokens_may_come_from_another_host(
    server: ApiServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A declared host gives tokens; it alone gets the client's secret, and the API alone the token."""
    with serve_api() as login:
        login.faults.answer(200, b'{"access_token": "from-elsewhere", "expires_in": 60}')
        _elsewhere(monkeypatch, {("127.0.0.1", server.port): server.port, ("192.0.2.7", 80): login.port})
        client = connect(
            auth=ClientCredentials(token_url="http://login.test/token"),
            hosts=("login.test",),
            resolve=lambda host, port: {"127.0.0.1": ["127.0.0.1"], "login.test": ["192.0.2.7"]}[host],
        )
        server.auth = None
        client.get("items")
        assert login.requests[0].headers["authorization"].startswith("Basic ")
        assert [seen.headers["authorization"] for seen in server.requests] == ["Bearer from-elsewhere"]


# --- all of it at once


@pytest.mark.parametrize("auth", EVERY_AUTH, ids=_auth_id)
def test_faults_in_every_third_request_change_nothing(server: ApiServer, connect: Connect, auth: Auth | None) -> None:
    """With throttling, errors and dropped connections in between, from eight threads, each gets what he asked for."""
    client = connect(auth=auth)
    for number in range(20):
        server.serve(f"/list/{number}", [{"id": number}])
    turns = [throttled(1), throttled(1, 503), lambda handler, _: handler.hang_up()]
    server.faults.every(3, turns)
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(client.get, [f"list/{number}" for number in range(20)]))
    assert [json.loads(reply.content)["items"] for reply in replies] == [[{"id": number}] for number in range(20)]
    assert client.asked.requests == len(server.requests)
    assert client.asked.retries >= 5


def test_a_closed_client_lets_go_of_its_connections(server: ApiServer, connect: Connect) -> None:
    """After it was closed, no connection stays."""
    before = threading.active_count()
    client = connect()
    client.get("items")
    assert threading.active_count() > before
    client.close()
    for _ in range(500):
        if threading.active_count() <= before:
            break
        threading.Event().wait(0.01)
    assert threading.active_count() <= before
