"""
The APIs of others that the example business asks, served on loopback: rates of exchange, weather, a supplier's catalogue, charts of music,
and reviews to try an API with.

Belongs here: HTTP and what servers do with it: tokens, keys, ETags, limits, and what fails in passing. Doesn't: what is answered
(`replies.py`).

Replies are a function of the seed and of what is asked; only a product that appears while the catalogue is read depends on what was asked
before. What fails in passing fails the first time that it is asked, and is answered the second time.
"""

import hashlib
import re
import secrets
import threading
import time
from base64 import b64encode
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from urllib.parse import parse_qs, urlsplit

from ingestion_platform.api import ApiKey, Rate
from ingestion_platform.datasets.exchange_rates import ecb
from ingestion_platform.datasets.music_charts import charts
from ingestion_platform.datasets.supplier_catalogue import catalogue
from ingestion_platform.datasets.weather import meteostat
from ingestion_platform.demo.business import Business
from ingestion_platform.demo.outside import Outside
from ingestion_platform.demo.plan import Plan
from ingestion_platform.demo.replies import APIS, REVIEWS, Replies, Reply, error_reply, json_reply

KEYS = {meteostat.name: "demo-weather-key", REVIEWS: "demo-reviews-key"}
CLIENTS = {catalogue.name: ("demo-shop", "demo-catalogue-secret"), charts.name: ("demo-shop", "demo-charts-secret")}

TOKEN_SECONDS = 120
TOKEN_USES = 150
"""A token is forgotten after so many requests, as by a server that was started anew: clients must be ready for that."""

FAILS_ONE_IN = 60
SLACK = 0.5
"""Requests are counted as they arrive, which is never as evenly as they were sent."""


@dataclass(slots=True)
class Counts:
    """
    What an API was asked, and how it answered.

    Args:
        requests: all of them, tokens included.
        tokens: tokens that were given.
        not_modified: answers that nothing has changed (304).
        throttled: told to wait (429), as when another program of ours asks, too.
        too_fast: of these, the ones that came faster than declared.
        refused: refused for want of a valid token or key (401).
        failed: answered with an error of the server's (503).
        dropped: not answered, or not to the end.
    """

    requests: int = 0
    tokens: int = 0
    not_modified: int = 0
    throttled: int = 0
    too_fast: int = 0
    refused: int = 0
    failed: int = 0
    dropped: int = 0

    @property
    def must_retry(self) -> int:
        """Requests that a client has to make again."""
        return self.throttled + self.refused + self.failed + self.dropped


class ApiServer:
    """
    The APIs, for as long as the context of `serve` lasts.

    Args:
        outside: what they tell.
        fails: whether some requests fail in passing.
        port: where it would like to listen; another one when that is taken.

    Attributes:
        replies: what they answer when nothing comes in between.
        rates_are_down: the rates answer with an error, whoever asks and however often.
        counts: by API.
    """

    def __init__(self, outside: Outside, *, fails: bool = True, port: int = 0) -> None:
        self.replies = Replies(outside)
        self.rates_are_down = False
        self.counts: dict[str, Counts] = {name: Counts() for name in APIS}
        self._fails = fails
        self._lock = threading.Lock()
        self._asked: set[str] = set()
        self._tokens: dict[str, tuple[str, float]] = {}
        self._uses = Counter[str]()
        self._moments: dict[str, deque[float]] = {name: deque() for name in APIS}
        try:
            self._http = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        except OSError:
            self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), name="apis", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        """Where it listens, on loopback."""
        return int(self._http.server_address[1])

    def base_url(self, api: str) -> str:
        """Where an API is."""
        return f"http://127.0.0.1:{self.port}/{api}"

    def settings(self) -> str:
        """The file of `INGESTION_APIS` that leads to this server."""
        lines = ["# Where the example's APIs are, and with which secrets they are asked.", ""]
        for api in APIS:
            lines += [f"[{api}]", f'base_url = "{self.base_url(api)}"', "private_hosts = true"]
            if api in KEYS:
                lines.append(f'key = "{KEYS[api]}"')
            if api in CLIENTS:
                lines += [f'client_id = "{CLIENTS[api][0]}"', f'client_secret = "{CLIENTS[api][1]}"']
            lines.append("")
        return "\n".join(lines)

    def total(self) -> Counts:
        """The counts of all APIs together."""
        with self._lock:
            all_ = list(self.counts.values())
            return Counts(*(sum(getattr(one, name) for one in all_) for name in Counts.__slots__))

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Answer a request; header names are in lower case."""
        url = urlsplit(target)
        api, _, path = url.path.removeprefix("/").partition("/")
        if api not in APIS:
            return error_reply(HTTPStatus.NOT_FOUND, f"no API is called {api!r}")
        with self._lock:
            reply = self._answer(api, method, f"/{path}", target, headers, body)
            self._count(api, reply)
        return reply

    def _count(self, api: str, reply: Reply) -> None:
        counts = self.counts[api]
        counts.requests += 1
        counts.dropped += bool(reply.fault)
        counts.not_modified += reply.status == HTTPStatus.NOT_MODIFIED
        counts.throttled += reply.status == HTTPStatus.TOO_MANY_REQUESTS
        counts.refused += reply.status == HTTPStatus.UNAUTHORIZED
        counts.failed += reply.status == HTTPStatus.SERVICE_UNAVAILABLE

    def _answer(self, api: str, method: str, path: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply:
        if api == ecb.name and self.rates_are_down:
            return error_reply(HTTPStatus.SERVICE_UNAVAILABLE, "the rates can't be had at the moment")
        if (reply := self._fail(target)) is not None:
            return reply
        if (reply := self._throttle(api)) is not None:
            return reply
        if method == "POST":
            return self._give_token(api, path, headers, body)
        if (reply := self._refuse(api, headers)) is not None:
            return reply
        asked = {name: values[-1] for name, values in parse_qs(urlsplit(target).query, keep_blank_values=True).items()}
        reply = self.replies.answer(api, path, asked, self.base_url(api))
        if reply.status != HTTPStatus.OK:
            return reply
        tag = f'"{hashlib.sha256(reply.body).hexdigest()[:32]}"'
        if headers.get("if-none-match") == tag:
            return Reply(HTTPStatus.NOT_MODIFIED, b"", reply.kind, {"ETag": tag})
        return Reply(reply.status, reply.body, reply.kind, {**reply.headers, "ETag": tag})

    def _fail(self, target: str) -> Reply | None:
        """What fails in passing: the same requests with every seed alike, the first time that they are asked."""
        if not self._fails or target in self._asked:
            return None
        self._asked.add(target)
        chance = Random(f"{self.replies.outside.business.plan.seed}:fails:{target}")
        if chance.randrange(FAILS_ONE_IN):
            return None
        how = chance.choice(("busy", "unavailable", "drop", "cut"))
        if how == "busy":
            return error_reply(
                HTTPStatus.TOO_MANY_REQUESTS, "another of your programs asks too often", {"Retry-After": "1"}
            )
        if how == "unavailable":
            return error_reply(HTTPStatus.SERVICE_UNAVAILABLE, "try again later")
        return Reply(HTTPStatus.OK, b'{"records": [', fault=how)

    def _throttle(self, api: str) -> Reply | None:
        rate = _RATES.get(api)
        if rate is None:
            return None
        now, moments = time.monotonic(), self._moments[api]
        while moments and now - moments[0] > rate.seconds * SLACK:
            moments.popleft()
        if len(moments) >= rate.requests:
            self.counts[api].too_fast += 1
            return error_reply(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"more than {rate.requests} requests in {rate.seconds:g} seconds",
                {"Retry-After": "1"},
            )
        moments.append(now)
        return None

    def _give_token(self, api: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        asked = {name: values[-1] for name, values in parse_qs(body.decode(errors="replace")).items()}
        if api not in CLIENTS or path != "/oauth/token" or asked.get("grant_type") != "client_credentials":
            return error_reply(HTTPStatus.BAD_REQUEST, "unsupported_grant_type")
        if headers.get("authorization") != _basic(*CLIENTS[api]):
            return error_reply(HTTPStatus.UNAUTHORIZED, "invalid_client")
        token = secrets.token_urlsafe(24)
        self._tokens[token] = (api, time.monotonic() + TOKEN_SECONDS)
        self.counts[api].tokens += 1
        return json_reply({"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_SECONDS})

    def _refuse(self, api: str, headers: Mapping[str, str]) -> Reply | None:
        if api in KEYS and headers.get(_KEY_HEADERS[api]) != KEYS[api]:
            return error_reply(HTTPStatus.UNAUTHORIZED, "this key isn't known")
        if api not in CLIENTS:
            return None
        token = headers.get("authorization", "").removeprefix("Bearer ")
        owner, ends = self._tokens.get(token, ("", 0.0))
        self._uses[token] += 1
        if owner != api or time.monotonic() > ends or self._uses[token] > TOKEN_USES:
            return error_reply(
                HTTPStatus.UNAUTHORIZED, "the token has expired", {"WWW-Authenticate": 'Bearer error="invalid_token"'}
            )
        return None


_RATES: dict[str, Rate] = {api.name: api.rate for api in (ecb, meteostat, catalogue, charts) if api.rate is not None}
_KEY_HEADERS = {
    meteostat.name: meteostat.auth.name.lower() if isinstance(meteostat.auth, ApiKey) else "",
    REVIEWS: ApiKey().name.lower(),
}


def _basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


def _handler(server: ApiServer) -> type[BaseHTTPRequestHandler]:
    """A handler of *server*: the standard library makes one for each connection."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Replies are small; waiting for more of them would cost forty milliseconds each.
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._reply(b"")

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "0")
            self._reply(self.rfile.read(min(int(length), 65_536)) if length.isdigit() else b"")

        def _reply(self, body: bytes) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = server.answer(self.command, self.path, headers, body)
            if reply.fault == "drop":
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if reply.status != HTTPStatus.NOT_MODIFIED:
                self.send_header("Content-Type", reply.kind)
                self.send_header("Content-Length", str(len(reply.body) + (1_000 if reply.fault == "cut" else 0)))
            self.end_headers()
            self.wfile.write(reply.body)
            if reply.fault == "cut":
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            # What matters is counted.
            return

    return Handler


@contextmanager
def serve(plan: Plan | None = None, *, fails: bool = True, settings_file: Path | None = None) -> Iterator[ApiServer]:
    """
    The APIs on loopback, for as long as the context lasts.

    Args:
        plan: whose business; default: the demo's.
        fails: whether some requests fail in passing.
        settings_file: where to write what `INGESTION_APIS` should name. When it names a port of before, that is taken again: an address
            is part of what was asked, and pages from another one are other pages.
    """
    server = ApiServer(Outside(Business(plan or Plan())), fails=fails, port=_former_port(settings_file))
    if settings_file is not None:
        settings_file.parent.mkdir(parents=True, exist_ok=True)
        settings_file.write_text(server.settings(), encoding="utf-8")
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _former_port(settings_file: Path | None) -> int:
    if settings_file is None or not settings_file.exists():
        return 0
    found = re.search(
        r"^base_url = \"http://127\.0\.0\.1:(\d+)/", settings_file.read_text(encoding="utf-8"), re.MULTILINE
    )
    return int(found[1]) if found and int(found[1]) < 65_536 else 0


def run(settings_file: Path, *, tell: Callable[[str], None] = print, until: threading.Event | None = None) -> None:
    """
    Serve until interrupted.

    Args:
        settings_file: where to write what `INGESTION_APIS` should name.
        tell: takes lines for a person.
        until: end when it is set; None: never.
    """
    with serve(settings_file=settings_file) as server:
        # Days of the past are asked for as often as one likes: nothing should be new in them.
        server.replies.has_appeared = True
        tell(f"{', '.join(APIS)} on 127.0.0.1:{server.port}, until ctrl-C")
        tell(f"export INGESTION_APIS={settings_file}")
        (until or threading.Event()).wait()
