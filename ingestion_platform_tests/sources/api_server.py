"""
An API on 127.0.0.1: lists of records by every kind of paging, every kind of authentication, and faults on demand.

Belongs here: serving, and faults. Doesn't: what the platform makes of it.
"""

import base64
import gzip
import hashlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, unquote, unquote_plus, urlencode, urlsplit

from ingestion_platform.api import (
    ApiKey,
    Auth,
    BasicAuth,
    BearerToken,
    ClientCredentials,
    LinkHeader,
    NextLink,
    Offset,
    OnePage,
    PageNumber,
    PageToken,
    Paging,
)

Record = Mapping[str, Any]

SECRETS = {
    "key": "s3cret/key+äöü",
    "username": "till-reader",
    "password": "pass:word-ünïcode",
    "token": "token-of-long-life",
    "client_id": "client one",
    "client_secret": "hush hush/hush",
}
"""What the server takes. A key in a header can have no letters beyond ASCII: see `HEADER_KEY`."""
HEADER_KEY = "s3cret/key+header"


def secrets_of(auth: Auth | None) -> dict[str, str]:
    """What a client needs for the server to take it."""
    match auth:
        case ApiKey(where="header"):
            return {"key": HEADER_KEY}
        case ApiKey():
            return {"key": SECRETS["key"]}
        case BasicAuth():
            return {name: SECRETS[name] for name in ("username", "password")}
        case BearerToken():
            return {"token": SECRETS["token"]}
        case ClientCredentials():
            return {name: SECRETS[name] for name in ("client_id", "client_secret")}
    return {}


@dataclass(frozen=True)
class Seen:
    """One request, as it came. `at` is of the monotonic clock; `query` is as written, `params` is taken apart."""

    at: float
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def params(self) -> dict[str, str]:
        """Of the query; of several of one name the last."""
        return {name: values[-1] for name, values in parse_qs(self.query, keep_blank_values=True).items()}


@dataclass
class Answer:
    """What is answered."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, content: object, status: int = 200, **headers: str) -> "Answer":
        """JSON."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(status, json.dumps(content).encode(), {"Content-Type": "application/json", **named})


@dataclass
class ServedList:
    """
    Records under a path.

    Args:
        records: in the order in which they are listed; may be changed while it serves.
        paging: how pages follow. Links and tokens go on after a record's key.
        size: records a page.
        key: member that tells records apart.
        members: that each page has beside.
    """

    records: list[Record]
    paging: Paging
    size: int
    key: str
    members: dict[str, Any]


Act = Callable[["_Handler", Answer], None]


@dataclass
class _Fault:
    act: Act
    times: int | None
    path: str | None
    is_instead: bool


class Faults:
    """
    What the server does wrong, told while it runs.

    Each call adds a fault for the next *times* requests (None: until `clear`) of a *path* (None: any). A request meets the first fault told
    that is left.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[_Fault] = []
        self._every = 0
        self._turns: Sequence[Act] = ()
        self._count = 0
        self.over = threading.Event()
        """Set when the server ends: whoever is slow on purpose stops."""

    def clear(self) -> None:
        """Behave again."""
        with self._lock:
            self._faults.clear()
            self._every = 0

    def add(self, act: Act, times: int | None = 1, *, path: str | None = None, is_instead: bool = True) -> None:
        """Do something with a request; *is_instead*: without looking at who asks for what."""
        with self._lock:
            self._faults.append(_Fault(act, times, path, is_instead))

    def answer(
        self, status: int, body: bytes | str = b"", times: int | None = 1, *, path: str | None = None, **headers: str
    ) -> None:
        """Answer with this, whatever was asked."""
        content = body.encode() if isinstance(body, str) else body
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.add(lambda handler, _: handler.send(Answer(status, content, named)), times, path=path)

    def throttle(
        self, after: float | str | None = 1, times: int | None = 1, *, status: int = 429, path: str | None = None
    ) -> None:
        """Say to come again: in so many seconds, or as a text says; None: not when."""
        self.add(throttled(after, status), times, path=path)

    def throttle_until(self, seconds: float, times: int | None = 1, *, status: int = 503, ahead: float = 0) -> None:
        """Say to come again at a date; the server's own clock may go ahead of everybody's."""
        now = datetime.now(UTC) + timedelta(seconds=ahead)
        dates = {"Date": http_date(now), "Retry-After": http_date(now + timedelta(seconds=seconds))}
        self.add(lambda handler, _: handler.send(Answer(status, b"later", dates)), times)

    def drop(self, times: int | None = 1, *, path: str | None = None) -> None:
        """End the connection without an answer."""
        self.add(dropped, times, path=path)

    def say(self, words: bytes, times: int | None = 1) -> None:
        """Send these bytes for an answer, and end the connection."""

        def act(handler: "_Handler", answer: Answer) -> None:
            del answer
            handler.chunk(words)
            handler.hang_up()

        self.add(act, times)

    def cut(self, times: int | None = 1, *, keep: int = 10, is_chunked: bool = False) -> None:
        """Send the beginning of a body, and end the connection."""

        def act(handler: "_Handler", answer: Answer) -> None:
            handler.head(answer, None if is_chunked else len(answer.body))
            handler.chunk(answer.body[:keep], is_chunked=is_chunked)
            handler.hang_up()

        self.add(act, times, is_instead=False)

    def misstate_length(self, by: int, times: int | None = 1) -> None:
        """Tell a length that is wrong by so much."""

        def act(handler: "_Handler", answer: Answer) -> None:
            handler.head(answer, len(answer.body) + by)
            handler.chunk(answer.body)
            handler.hang_up()

        self.add(act, times, is_instead=False)

    def drip(self, seconds: float, times: int | None = 1, *, part: str = "body") -> None:
        """Send one byte each so many seconds: of the `body`, of the `headers`, or of `chunks`, whose frames hold a byte each."""

        def act(handler: "_Handler", answer: Answer) -> None:
            if part != "headers":
                handler.head(answer, None if part == "chunks" else len(answer.body))
            slow = b"HTTP/1.1 200 OK\r\nX-Slow: " + b"o" * 10_000 if part == "headers" else answer.body
            for byte in slow:
                handler.chunk(bytes([byte]), is_chunked=part == "chunks")
                if self.over.wait(seconds):
                    break
            handler.hang_up()

        self.add(act, times, is_instead=False)

    def keep_silent(self, times: int | None = 1) -> None:
        """Say nothing at all, until the other side goes or the server ends."""

        def act(handler: "_Handler", answer: Answer) -> None:
            del answer
            while not self.over.wait(0.02) and not handler.is_left():
                pass
            handler.hang_up()

        self.add(act, times)

    def redirect(self, to: str, times: int | None = 1, *, status: int = 302, path: str | None = None) -> None:
        """Send elsewhere."""
        self.answer(status, b"", times, path=path, Location=to)

    def bomb(self, size: int, times: int | None = 1) -> None:
        """Send so many zeros, packed."""
        packed = gzip.compress(bytes(size), 9)
        self.answer(200, packed, times, Content_Encoding="gzip", Content_Type="application/json")

    def every(self, number: int, turns: "Sequence[Act]") -> None:
        """Of all requests each so-many-th meets a fault, in turns."""
        with self._lock:
            self._every, self._turns, self._count = number, turns, 0

    def next(self, path: str) -> _Fault | None:
        """The fault that a request meets."""
        with self._lock:
            for fault in self._faults:
                if fault.path in (None, path) and fault.times != 0:
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
            self._count += 1
            if self._every and self._count % self._every == 0:
                return _Fault(self._turns[self._count // self._every % len(self._turns)], 1, None, True)
        return None


def throttled(after: float | str | None = 1, status: int = 429) -> Act:
    """Says to come again."""
    said = {} if after is None else {"Retry-After": str(after)}
    return lambda handler, _: handler.send(Answer(status, b'{"message": "too much"}', dict(said)))


def dropped(handler: "_Handler", answer: Answer) -> None:
    """Ends the connection."""
    del answer
    handler.hang_up()


def http_date(moment: datetime) -> str:
    """A moment as HTTP writes it."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)


class ApiServer:
    """
    Answers requests.

    Attributes:
        lists: path → what is listed there.
        auth: how one has to say who one is; None: anybody may ask.
        token_seconds: how long tokens are good; None: for ever, and nobody says so.
        has_etags: replies have an ETag, and who knows it gets a 304.
        last_modified: of all replies; empty: they don't say.
        is_packed: replies are gzipped for those who take that.
        before: called before a list is asked for, with the request.
        pages: path → any answer, for what isn't a list.
    """

    def __init__(self) -> None:
        self.faults = Faults()
        self.lists: dict[str, ServedList] = {}
        self.pages: dict[str, Callable[[Seen], Answer]] = {}
        self.auth: Auth | None = None
        self.token_seconds: float | None = 3600.0
        self.has_etags = False
        self.last_modified = ""
        self.is_packed = False
        self.before: Callable[[Seen], None] = lambda seen: None
        self.url = ""
        self._lock = threading.Lock()
        self._requests: list[Seen] = []
        self._tokens: dict[str, float] = {}
        self._issued = 0

    # --- what it serves

    def serve(
        self,
        path: str,
        records: Sequence[Record],
        paging: Paging | None = None,
        *,
        size: int = 3,
        key: str = "id",
        **members: object,
    ) -> ServedList:
        """List records under a path of the API, as `/items`; a page is `{"items": […]}` with what paging needs, and *members*."""
        served = ServedList(list(records), paging or OnePage(), size, key, members)
        self.lists["/v1" + path] = served
        return served

    @property
    def base_url(self) -> str:
        """The API's."""
        return self.url + "/v1"

    @property
    def port(self) -> int:
        """Where it listens."""
        return urlsplit(self.url).port or 0

    @property
    def requests(self) -> list[Seen]:
        """All since the last `forget`, those that met a fault included."""
        with self._lock:
            return list(self._requests)

    def forget(self) -> None:
        """Forget the requests."""
        with self._lock:
            self._requests.clear()

    def expire_tokens(self) -> None:
        """Take no token any more that was given so far."""
        with self._lock:
            self._tokens.clear()

    def most_within(self, seconds: float) -> int:
        """The most requests that came in any time of this length."""
        moments = sorted(seen.at for seen in self.requests)
        begin = most = 0
        for end, moment in enumerate(moments):
            while moment - moments[begin] >= seconds:
                begin += 1
            most = max(most, end - begin + 1)
        return most

    # --- answering

    def note(self, seen: Seen) -> None:
        """Remember a request."""
        with self._lock:
            self._requests.append(seen)

    def answer(self, seen: Seen) -> Answer:
        """What a request is answered when nothing goes wrong."""
        if seen.path == "/oauth/token":
            return self._token(seen)
        trouble = self._stranger(seen)
        if trouble:
            return Answer.json({"message": trouble}, 401)
        if seen.path in self.pages:
            return self.pages[seen.path](seen)
        if seen.path not in self.lists:
            return Answer.json({"message": f"there is no {seen.path}"}, 404)
        self.before(seen)
        return self._conditional(seen, self._page(seen, self.lists[seen.path]))

    def _conditional(self, seen: Seen, answer: Answer) -> Answer:
        if self.has_etags:
            answer.headers["ETag"] = etag = f'"{hashlib.sha256(answer.body).hexdigest()[:16]}"'
            if seen.headers.get("if-none-match") == etag:
                return Answer(304, b"", {"ETag": etag})
        if self.last_modified:
            answer.headers["Last-Modified"] = self.last_modified
            if seen.headers.get("if-modified-since") == self.last_modified:
                return Answer(304)
        if self.is_packed and "gzip" in seen.headers.get("accept-encoding", ""):
            answer.body = gzip.compress(answer.body)
            answer.headers["Content-Encoding"] = "gzip"
        return answer

    def _page(self, seen: Seen, served: ServedList) -> Answer:
        records, size = list(served.records), served.size
        content: dict[str, Any] = {**served.members}
        answered = Answer.json({})
        match served.paging:
            case OnePage():
                page = records
            case Offset() as paging:
                size = int(seen.params.get(paging.limit, size)) if paging.limit else size
                begin = int(seen.params.get(paging.offset, paging.begin)) - paging.begin
                page = records[begin : begin + size]
                if paging.total:
                    _put(content, paging.total, len(records))
            case PageNumber() as number:
                size = int(seen.params.get(number.size_param, size)) if number.size_param else size
                begin = (int(seen.params.get(number.page, number.first)) - number.first) * size
                page = records[begin : begin + size]
                if number.pages:
                    _put(content, number.pages, -(-len(records) // size))
            case keyset:
                name = keyset.param if isinstance(keyset, PageToken) else "after"
                token = seen.params.get(name, "")
                left = records
                if token:
                    after = json.loads(base64.urlsafe_b64decode(token))
                    left = [record for record in records if record[served.key] > after]
                page = left[:size]
                following = None
                if len(left) > size:
                    following = base64.urlsafe_b64encode(json.dumps(page[-1][served.key]).encode()).decode()
                match keyset:
                    case PageToken(path=path):
                        _put(content, path, following)
                    case NextLink(path=path):
                        _put(content, path, self._link(seen, following) if following else None)
                    case LinkHeader(rel=rel) if following:
                        first = self._link(seen, "")
                        answered.headers["Link"] = (
                            f'<{first}>; rel="first", <{self._link(seen, following)}>; rel="{rel}"'
                        )
        content["items"] = page
        answered.body = json.dumps(content).encode()
        return answered

    def _link(self, seen: Seen, after: str) -> str:
        # As servers do it: what was asked comes again in the link, a key included.
        kept = [(name, value) for name, value in parse_qsl(seen.query, keep_blank_values=True) if name != "after"]
        return f"{self.url}{seen.path}?{urlencode([*kept, ('after', after)], quote_via=quote)}"

    def _stranger(self, seen: Seen) -> str:
        """Why somebody isn't let in; empty when he is."""
        said = seen.headers.get("authorization", "")
        match self.auth:
            case ApiKey(name=name, where="header"):
                return "" if seen.headers.get(name.lower()) == HEADER_KEY else "no such key"
            case ApiKey(name=name):
                keys = [value for found, value in parse_qsl(seen.query) if found == name]
                return "" if keys == [SECRETS["key"]] else f"no such key: {keys}"
            case BasicAuth():
                expected = f"{SECRETS['username']}:{SECRETS['password']}".encode()
                return "" if said == "Basic " + base64.b64encode(expected).decode() else f"not {said}"
            case BearerToken():
                return "" if said == f"Bearer {SECRETS['token']}" else f"not {said}"
            case ClientCredentials():
                with self._lock:
                    until = self._tokens.get(said.removeprefix("Bearer "), 0.0)
                return "" if time.monotonic() < until else f"the token {said} has expired"
        return ""

    def _token(self, seen: Seen) -> Answer:
        if not isinstance(self.auth, ClientCredentials) or seen.method != "POST":
            return Answer.json({"error": "invalid_request"}, 400)
        form = dict(parse_qsl(seen.body.decode(), keep_blank_values=True))
        user, secret = form.get("client_id", ""), form.get("client_secret", "")
        if self.auth.client_in == "header":
            if user or secret:
                return Answer.json({"error": "invalid_request", "error_description": "twice"}, 400)
            pair = base64.b64decode(seen.headers.get("authorization", "").removeprefix("Basic ")).decode()
            user, secret = (unquote_plus(part) for part in (pair.split(":", 1) if ":" in pair else (pair, "")))
        if (user, secret) != (SECRETS["client_id"], SECRETS["client_secret"]):
            told = {"error": "invalid_client", "error_description": f"{user} with {secret} is nobody"}
            return Answer.json(told, 401)
        asked = {name: value for name, value in form.items() if name not in ("client_id", "client_secret")}
        scope = {"scope": self.auth.scope} if self.auth.scope else {}
        if asked != {"grant_type": "client_credentials", **scope, **self.auth.parameters}:
            return Answer.json({"error": "invalid_scope"}, 400)
        with self._lock:
            self._issued += 1
            token = f"access-token-{self._issued}"
            self._tokens[token] = time.monotonic() + (86_400 if self.token_seconds is None else self.token_seconds)
        life = {} if self.token_seconds is None else {"expires_in": self.token_seconds}
        return Answer.json({"access_token": token, "token_type": "bearer", **life})


def _put(content: dict[str, Any], path: str, value: object) -> None:
    """Set a member by its dotted path."""
    *folders, last = path.split(".")
    for folder in folders:
        content = content.setdefault(folder, {})
    content[last] = value


class _Handler(BaseHTTPRequestHandler):
    """Reads a request and sends what it is answered; one object per connection."""

    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_GET(self) -> None:
        """Answer."""
        length = int(self.headers.get("Content-Length") or 0)
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(time.monotonic(), self.command, unquote(parts.path), parts.query, headers, self.rfile.read(length))
        api = self.server.api
        api.note(seen)
        fault = api.faults.next(seen.path)
        if fault is not None:
            fault.act(self, Answer() if fault.is_instead else api.answer(seen))
        else:
            self.send(api.answer(seen))

    do_POST = do_GET

    def send(self, answer: Answer) -> None:
        """Send an answer as it should be."""
        self.head(answer, len(answer.body))
        self.chunk(answer.body)

    def head(self, answer: Answer, length: int | None) -> None:
        """Send status and headers; without a length, what follows comes in chunks."""
        self.send_response_only(answer.status)
        if "Date" not in answer.headers:
            self.send_header("Date", self.date_time_string())
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
        elif answer.status != 304:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def chunk(self, content: bytes, *, is_chunked: bool = False) -> None:
        """Send some of a body."""
        if content:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(content), content) if is_chunked else content)
            self.wfile.flush()

    def hang_up(self) -> None:
        """End the connection."""
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def is_left(self) -> bool:
        """Whether the other side has gone."""
        try:
            self.connection.setblocking(False)
            return not self.connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self.connection.setblocking(True)

    def handle(self) -> None:
        """Serve a connection; the other side may go at any time."""
        with suppress(OSError):
            super().handle()

    def finish(self) -> None:
        """End it, whoever went first."""
        with suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: thousands of request lines would bury a failing test's own output."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, api: ApiServer, certificate: Path | None) -> None:
        self.api = api
        super().__init__(("127.0.0.1", 0), _Handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            # The handshake is the connection's own thread's matter.
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)


@contextmanager
def serve_api(certificate: Path | None = None) -> Iterator[ApiServer]:
    """Run a server on a free port of 127.0.0.1, in threads of this process; with a file of certificate and key it speaks TLS."""
    api = ApiServer()
    with _Server(api, certificate) as serving:
        api.url = f"{'https' if certificate else 'http'}://127.0.0.1:{serving.server_port}"
        thread = threading.Thread(target=serving.serve_forever, args=(0.005,), name="api-server", daemon=True)
        thread.start()
        try:
            yield api
        finally:
            api.faults.over.set()
            serving.shutdown()
            thread.join()
