"""
Asking an API over HTTP: one request, until there is a reply or an error that says what is wrong.

Belongs here: connections, addresses, credentials, redirects, retries, limits. Doesn't: what is asked, and what replies hold (`fetch.py`);
the rate (`pace.py`).

It stands on httpcore alone, without httpx above it: httpx would log each URL with the key in it, unpack what is too large, keep cookies,
and read URLs in its own way after we have checked them in ours.
"""

import logging
import random
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, quote_plus, urlencode

import httpcore
import stamina

from ingestion_platform.api import Api, ApiKey, BasicAuth, BearerToken, ClientCredentials
from ingestion_platform.errors import SettingsError, SourceError, SourceUnavailable
from ingestion_platform.sources.addresses import Resolve, resolve
from ingestion_platform.sources.api_secrets import Secrecy, basic, needed
from ingestion_platform.sources.http_messages import (
    DEFAULT_PORTS,
    PASSING,
    PIECE_BYTES,
    URL_SAFE,
    Answer,
    Place,
    again_after,
    read_headers,
    read_json,
    unpacked,
    words_of,
)
from ingestion_platform.sources.http_network import Network, own_version
from ingestion_platform.sources.pace import HeldBack, Pace

log = logging.getLogger(__name__)

Json = Any

MOST_REDIRECTS = 5
REPLY_TIMEOUTS = 20
"""A whole reply may take so many times as long as the server may keep silent."""
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30.0
RENEWED_BEFORE_SECONDS = 60.0
"""A token is renewed so long before it expires, or a tenth of its life before, if that is less."""

_BROKEN = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, zlib.error, EOFError)
"""No answer, or half of one."""
_REDIRECTS = {301, 302, 303, 307, 308}
_KEPT_HEADERS = {"content-type", "etag", "last-modified", "link", "date", "x-total-count"}
_SERVERS_WORDS = 300
"""Letters of what a server says that an error tells."""
_MOST_ERROR_BYTES = 64 * 1024
_MOST_TOKEN_BYTES = 1024**2


@dataclass(frozen=True, slots=True)
class Reply:
    """
    What an API replied.

    Args:
        status: 2xx, 304, or one of those that mean that there is nothing.
        headers: lower-case name → value; those that tell of pages, changes and limits, no others.
        content: decompressed; secrets in it are replaced by `***`.
        url: as asked, without secrets.
        asked_at: when, UTC.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes = field(repr=False)
    url: str
    asked_at: datetime


@dataclass(frozen=True)
class Access:
    """
    What the deployment knows of an API.

    Args:
        base_url: the declared one, unless the settings name another.
        secrets: by their names in `api.SECRETS`.
        private_hosts: addresses that aren't public may be asked.
    """

    base_url: str
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    private_hosts: bool = False


class Asked:
    """
    What was asked so far; any thread may read and add.

    Attributes:
        requests: sent, those for tokens and after redirects included.
        retries: of requests that had failed in passing.
        throttles: 429, 503 and the like that said when to come again.
        waited_seconds: for one's turn, and before retries.
        bytes: of bodies, as they came over the network.
        not_modified: replies that said that nothing has changed.
        tokens: fetched.
        redirects: followed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests = 0
        self.retries = 0
        self.throttles = 0
        self.waited_seconds = 0.0
        self.bytes = 0
        self.not_modified = 0
        self.tokens = 0
        self.redirects = 0

    def add(self, *, waited_seconds: float = 0.0, **counts: int) -> None:
        """Count."""
        with self._lock:
            self.waited_seconds += waited_seconds
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)

    def counts(self) -> Mapping[str, float]:
        """All of them, as they stand now."""
        with self._lock:
            return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __repr__(self) -> str:
        return f"Asked({', '.join(f'{name}={value}' for name, value in self.counts().items())})"


class ApiClient:
    """
    Asks one API. Nothing is connected before it is asked; any number of threads may ask.

    Args:
        api: as declared.
        access: what the deployment knows of it.
        pace: how often it may be asked.
        resolve: names to addresses.
        clock: seconds, for patience and the life of tokens.

    Raises:
        SettingsError: a secret is missing.
    """

    def __init__(
        self,
        api: Api,
        access: Access,
        pace: Pace,
        *,
        resolve: Resolve = resolve,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # Retries are counted, and told by whoever asks; stamina would write each of them to the program's output, too.
        stamina.instrumentation.set_on_retry_hooks(())
        self.asked = Asked()
        self._api = api
        self._secrets = needed(api, access.secrets)
        self._pace = pace
        self._clock = clock
        key = api.auth if isinstance(api.auth, ApiKey) and api.auth.where == "query" else None
        self._secrecy = Secrecy(self._secrets, key.name if key else "")
        self._key = f"{quote(key.name, safe='')}={quote(self._secrets['key'], safe='')}" if key else ""
        self._base_text = access.base_url.rstrip("/")
        try:
            self._base = Place.parse(self._base_text)
            self._hosts = frozenset(Place.parse(f"https://{host}/").host for host in api.hosts)
        except ValueError as error:
            raise SettingsError(
                f"API {api.name!r}: base_url or a host can't be asked: {error}", "as in https://api.example.com/v1"
            ) from error
        self._network = Network(resolve, may_be_private=access.private_hosts)
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpcore.default_ssl_context(),
            max_connections=None,
            max_keepalive_connections=api.concurrency,
            keepalive_expiry=30.0,
            network_backend=self._network,
        )
        self._token_lock = threading.Lock()
        self._token = ""
        self._renew_at = 0.0

    def __repr__(self) -> str:
        return f"ApiClient({self._api.name!r}, {self._base.text})"

    def url(self, path: str, params: Mapping[str, str]) -> str:
        """
        The absolute URL of a path below the base URL. Values of the query are percent-encoded; in the path, what can't stand there.

        Raises:
            SourceError: the path leads out of the base URL.
        """
        if any(part.replace("%2e", ".").replace("%2E", ".") in (".", "..") for part in path.split("/")):
            raise self._error(f"path {path!r} leads out of the base URL", "a value in it is . or ..")
        query = urlencode(params, quote_via=quote)
        return self._base_text + quote(path, safe=URL_SAFE.replace("?", "")) + (f"?{query}" if query else "")

    def clean(self, url: str) -> str:
        """
        A URL as it may be kept and asked for again: absolute, without secrets.

        Raises:
            SourceError: it leads where the API isn't declared to be.
        """
        return self._told(self._place(url, None))

    def get(self, url: str, *, etag: str = "", last_modified: str = "", none_when: Collection[int] = ()) -> Reply:
        """
        Ask for a URL, until there is a reply, it is refused, or patience is over.

        Args:
            url: absolute, or relative to the base URL. A key in its query is replaced by our own.
            etag: of what is known already: without a change since, the reply is a 304 without content.
            last_modified: the same, for servers that know moments only.
            none_when: statuses that are replies too.

        Raises:
            SourceError: the API refuses it, or the URL leads where it may not.
            SourceUnavailable: it failed in passing, and again until patience was over.
        """
        place = self._place(url, None)
        headers = {
            name: value
            for name, value in (("if-none-match", etag), ("if-modified-since", last_modified))
            if value and value.isascii() and value.isprintable()
        }
        trial = _Trial(self._api.patience_seconds, self._clock, f"API {self._api.name!r}: GET {self._told(place)}")
        try:
            # The hook alone says when it is over: patience begins with the first request, not while one waits for one's turn.
            for attempt in stamina.retry_context(on=trial.wait_after, attempts=None, timeout=None):
                with attempt:
                    return self._attempt(place, headers, none_when, trial)
        except _Passing as error:
            raise self._unavailable(place, str(error), trial) from error
        except HeldBack as error:
            told = f"it is to be left alone for {error.seconds:.0f} seconds yet" if error.seconds >= 1 else ""
            raise self._unavailable(place, ", and ".join(filter(None, (trial.last, told))), trial) from error
        raise AssertionError("an attempt returns or raises")

    def counts(self) -> Mapping[str, float]:
        """What asking took until now, by name; see `Asked`."""
        return self.asked.counts()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of connections."""
        self._pool.close()

    # --- one attempt

    def _attempt(self, place: Place, headers: Mapping[str, str], none_when: Collection[int], trial: "_Trial") -> Reply:
        trial.attempts += 1
        if trial.failed_at is not None:
            self.asked.add(retries=1, waited_seconds=self._clock() - trial.failed_at)
        first, redirects, is_renewed = place, 0, False
        while True:
            authorization, token = self._credentials(place, trial)
            answer = self._exchange("GET", place, {**headers, **authorization}, trial)
            if answer.status == 401 and token and not is_renewed:
                self._forget(token)
                is_renewed = True
                continue
            if answer.status not in _REDIRECTS or answer.status in none_when:
                break
            redirects += 1
            if redirects > MOST_REDIRECTS:
                raise self._error(f"GET {self._told(first)} was redirected more than {MOST_REDIRECTS} times")
            self.asked.add(redirects=1)
            place = self._redirected(first, place, answer)
        is_conditional = bool(headers)
        if not (200 <= answer.status < 300 or answer.status in none_when or (answer.status == 304 and is_conditional)):
            raise self._refused("GET", first, answer)
        if answer.status == 304:
            self.asked.add(not_modified=1)
        kept = {
            name: self._secrecy.text(value)
            for name, value in answer.headers.items()
            if name in _KEPT_HEADERS or name.startswith("x-ratelimit-")
        }
        return Reply(answer.status, kept, self._secrecy.content(answer.content), self._told(first), answer.asked_at)

    def _exchange(
        self,
        method: str,
        place: Place,
        headers: Mapping[str, str],
        trial: "_Trial",
        *,
        body: bytes = b"",
        most_bytes: int | None = None,
    ) -> Answer:
        """
        One request, when it is our turn.

        Raises:
            _Passing: no answer, half of one, or one that says to come again.
            SourceError: the answer is too large, or isn't encoded as asked for.
        """
        waited = self._pace.wait(trial.left)
        self.asked.add(requests=1, waited_seconds=waited)
        trial.begin()
        target, most = place.target, most_bytes or self._api.max_page_bytes
        if self._key and place.origin == self._base.origin and method == "GET":
            target = f"{target}{'&' if '?' in target else '?'}{self._key}"
        sent = {
            "accept": "*/*",
            "user-agent": f"ingestion_platform/{own_version()}",
            **{name.lower(): value for name, value in self._api.headers.items()},
            **headers,
            "host": place.netloc,
            "accept-encoding": "gzip",
        }
        if method == "POST":
            sent["content-length"] = str(len(body))
        silence = self._api.timeout_seconds
        asked_at = datetime.now(UTC)
        try:
            with (
                self._network.until(time.monotonic() + silence * REPLY_TIMEOUTS),
                self._pool.stream(
                    method,
                    httpcore.URL(scheme=place.scheme, host=place.host, port=place.port, target=target),
                    headers=[(name.encode("ascii"), value.encode("latin-1")) for name, value in sent.items()],
                    content=body or None,
                    extensions={"timeout": dict.fromkeys(("connect", "read", "write", "pool"), silence)},
                ) as response,
            ):
                came = read_headers(response.headers)
                if 200 <= response.status < 300:
                    content = self._content(place, response, came.get("content-encoding", ""), most)
                else:
                    content = self._words(response, came.get("content-encoding", ""))
        except _BROKEN as error:
            # Without its cause: that may show what was sent, or a server's echo of it.
            raise self._broken(place, error) from None
        answer = Answer(response.status, came, content, asked_at)
        again = again_after(answer)
        if again is not None:
            self.asked.add(throttles=1)
            self._pace.hold(again)
        if answer.status in PASSING or again is not None:
            raise _Passing(self._status(answer), again)
        return answer

    def _content(self, place: Place, response: httpcore.Response, encoding: str, most: int) -> bytes:
        """A reply's body, decompressed as it comes: what is too large is noticed before it is there."""
        encoding = encoding.strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip"):
            raise self._error(
                f"GET {self._told(place)} came encoded as {self._line(encoding)!r}", "only gzip was asked for"
            )
        pieces, size, raw = [], 0, 0
        for piece in unpacked(self._counted(response), is_packed="gzip" in encoding):
            raw += piece.raw
            size += len(piece.content)
            if size > most or raw > most + PIECE_BYTES:
                raise self._error(
                    f"the reply of {self._told(place)} is larger than {most:,} bytes",
                    "ask for smaller pages, or declare a larger max_page_bytes",
                )
            pieces.append(piece.content)
        return b"".join(pieces)

    def _words(self, response: httpcore.Response, encoding: str) -> bytes:
        """The beginning of what comes with an error, as far as it can be read: the status counts, whatever the body is."""
        words = b""
        try:
            for piece in unpacked(self._counted(response), is_packed="gzip" in encoding.lower()):
                words += piece.content
                if len(words) >= _MOST_ERROR_BYTES:
                    break
        except _BROKEN:
            pass
        return words[:_MOST_ERROR_BYTES]

    def _counted(self, response: httpcore.Response) -> Iterator[bytes]:
        for chunk in response.iter_stream():
            self.asked.add(bytes=len(chunk))
            yield chunk

    # --- where it may lead

    def _place(self, url: str, before: Place | None) -> Place:
        """
        Where a URL leads, if it may lead there.

        Args:
            url: absolute; or relative to the place that it comes from, or to the base URL.
            before: where we are redirected from.
        """
        try:
            place = Place.parse(url, before.text if before else self._base_text + "/")
        except ValueError as error:
            raise self._error(
                f"{'a redirect' if before else 'a link'} isn't a URL that can be asked: {error}"
            ) from None
        if place.scheme == "http" and "https" in (self._base.scheme, before.scheme if before else ""):
            raise self._error(f"{'a redirect' if before else 'a link'} leads from https:// to http://{place.host}")
        is_declared = place.host in self._hosts and place.port == DEFAULT_PORTS[place.scheme]
        if (place.host, place.port) != (self._base.host, self._base.port) and not is_declared:
            shown = place.host if place.port == DEFAULT_PORTS[place.scheme] else f"{place.host}:{place.port}"
            how = f"GET {self._told(before)} is redirected" if before else "a link leads"
            raise self._error(
                f"{how} to host {self._line(shown)}, which isn't declared",
                f"{'is base_url right? ' if before else ''}When it is meant: hosts=({self._line(place.host)!r},)",
            )
        path, mark, query = place.target.partition("?")
        query = self._secrecy.query(query)
        return replace(place, target=f"{path}?{query}" if mark and query else path)

    def _redirected(self, first: Place, place: Place, answer: Answer) -> Place:
        location = answer.headers.get("location", "")
        if not location:
            raise self._error(f"GET {self._told(first)} was redirected to nowhere ({answer.status})")
        return self._place(location, place)

    # --- who one is

    def _credentials(self, place: Place, trial: "_Trial") -> tuple[Mapping[str, str], str]:
        """Headers that say who we are, for the base URL's own host alone; and the token that can be renewed."""
        if place.origin != self._base.origin:
            return {}, ""
        match self._api.auth:
            case ApiKey(name=name, where="header"):
                return {name.lower(): self._secrets["key"]}, ""
            case BasicAuth():
                return {"authorization": f"Basic {basic(self._secrets['username'], self._secrets['password'])}"}, ""
            case BearerToken():
                return {"authorization": f"Bearer {self._secrets['token']}"}, ""
            case ClientCredentials() as auth:
                token = self._fresh_token(auth, trial)
                return {"authorization": f"Bearer {token}"}, token
        return {}, ""

    def _fresh_token(self, auth: ClientCredentials, trial: "_Trial") -> str:
        with self._token_lock:
            if not self._token or self._clock() >= self._renew_at:
                self._token, self._renew_at = self._new_token(auth, trial)
            return self._token

    def _forget(self, token: str) -> None:
        """A token was refused: another one is needed, unless somebody has fetched it already."""
        with self._token_lock:
            if self._token == token:
                self._token = ""

    def _new_token(self, auth: ClientCredentials, trial: "_Trial") -> tuple[str, float]:
        """A token, and the moment of the clock at which it is to be renewed."""
        place = self._place(auth.token_url, None)
        form = {"grant_type": "client_credentials", **({"scope": auth.scope} if auth.scope else {}), **auth.parameters}
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        user, password = self._secrets["client_id"], self._secrets["client_secret"]
        if auth.client_in == "body":
            form |= {"client_id": user, "client_secret": password}
        else:
            headers["authorization"] = f"Basic {basic(quote_plus(user), quote_plus(password))}"
            self._secrecy.add(basic(quote_plus(user), quote_plus(password)))
        asked = self._clock()
        answer = self._exchange(
            "POST", place, headers, trial, body=urlencode(form).encode(), most_bytes=_MOST_TOKEN_BYTES
        )
        if not 200 <= answer.status < 300:
            raise self._refused("POST", place, answer)
        told = read_json(answer.content)
        token = told.get("access_token") if isinstance(told, dict) else None
        kind = told.get("token_type", "Bearer") if isinstance(told, dict) else None
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
            words = self._message(answer) if isinstance(told, dict) and "error" in told else "no access_token is in it"
            raise self._error(f"what POST {self._told(place)} answers gives no token: {words}", self._credentials_hint)
        if not isinstance(kind, str) or kind.lower() != "bearer":
            raise self._error(
                f"POST {self._told(place)} gives a token of type {self._line(str(kind))!r}",
                "bearer tokens are understood",
            )
        self._secrecy.add(token)
        self.asked.add(tokens=1)
        try:
            life = max(float(told.get("expires_in") or "inf"), 0.0)
        except (TypeError, ValueError):
            life = float("inf")
        return token, asked + life - min(RENEWED_BEFORE_SECONDS, life / 10)

    # --- what is told

    def _told(self, place: Place) -> str:
        return self._secrecy.text(place.text)

    def _line(self, text: str) -> str:
        """One line of what others say: printable, short, without secrets."""
        printable = "".join(letter if letter.isprintable() else " " for letter in self._secrecy.text(text))
        line = self._secrecy.text(" ".join(printable.split()))
        return line if len(line) <= _SERVERS_WORDS else line[: _SERVERS_WORDS - 1] + "…"

    def _message(self, answer: Answer) -> str:
        """What the server says is wrong."""
        return self._line(words_of(answer, self._secrecy.text))

    def _status(self, answer: Answer) -> str:
        try:
            phrase = f"{answer.status} {HTTPStatus(answer.status).phrase}"
        except ValueError:
            phrase = str(answer.status)
        words = self._message(answer)
        return f"{phrase}: {words}" if words else phrase

    def _refused(self, method: str, place: Place, answer: Answer) -> SourceError:
        hints = {
            401: self._credentials_hint,
            403: self._credentials_hint,
            404: "check the path; when it means that there is nothing: none_when=(404,)",
        }
        return self._error(
            f"{method} {self._told(place)} is answered {self._status(answer)}", hints.get(answer.status, "")
        )

    @property
    def _credentials_hint(self) -> str:
        if self._api.auth is None:
            return "the API asks who one is: declare auth"
        return f"credentials: check [{self._api.name}] in the file of INGESTION_APIS, and what they may do"

    def _broken(self, place: Place, error: Exception) -> Exception:
        """What a failed exchange means: trying again may help, except where the certificate is wrong."""
        # The pool drops the cause; what was raised first is the argument.
        cause = error.args[0] if error.args else None
        if isinstance(cause, ssl.SSLCertVerificationError):
            return self._error(
                f"{place.host} doesn't prove that it is {place.host}: {self._line(cause.verify_message)}",
                "its certificate, or the authorities that this machine trusts",
            )
        said = self._line(str(error))
        match error:
            case httpcore.LocalProtocolError():
                what, said = "the request couldn't be sent", ""  # it would show a header
            case httpcore.TimeoutException():
                what = "no answer in time"
            case httpcore.ConnectError():
                what = "no connection"
            case _:
                what = "no whole answer"
        return _Passing(f"{what} ({said})" if said else what, None)

    def _unavailable(self, place: Place, last: str, trial: "_Trial") -> SourceUnavailable:
        times = "once" if trial.attempts == 1 else f"{trial.attempts} times"
        return SourceUnavailable(
            f"API {self._api.name!r}: GET {self._told(place)}: {last} (tried {times} in {trial.seconds:.0f} seconds)",
            "is the API up? What has landed stays, and the next run goes on from there",
        )

    def _error(self, what: str, hint: str = "") -> SourceError:
        return SourceError(f"API {self._api.name!r}: {what}", hint)


# --- parts of it


class _Passing(Exception):
    """A request failed in a way that may be over soon. `again` says in how many seconds the server wants to be asked again."""

    def __init__(self, what: str, again: float | None) -> None:
        self.again = again
        super().__init__(what)


class _Trial:
    """The attempts at *what*, and the patience that is left."""

    def __init__(self, patience: float, clock: Callable[[], float], what: str) -> None:
        self._what = what
        self.attempts = 0
        self.last = ""
        self.failed_at: float | None = None
        self._patience = patience
        self._clock = clock
        self._began: float | None = None

    def begin(self) -> None:
        """A request goes out: from the first one on, time counts."""
        if self._began is None:
            self._began = self._clock()

    @property
    def seconds(self) -> float:
        """Since the first request."""
        return self._clock() - self._began if self._began is not None else 0.0

    @property
    def left(self) -> float:
        """Seconds of patience."""
        return max(self._patience - self.seconds, 0.0)

    def wait_after(self, error: Exception) -> bool | float:
        """How many seconds to wait before another attempt; False: there is none."""
        if not isinstance(error, _Passing) or not self.left:
            return False
        if error.again is not None and error.again > self.left:
            return False
        self.last, self.failed_at = str(error), self._clock()
        longest = min(FIRST_WAIT_SECONDS * 2.0 ** min(self.attempts - 1, 20), LONGEST_WAIT_SECONDS)
        is_told = error.again is not None and error.again >= 1
        # As long as the server says, the pace holds everybody back.
        wait = 0.0 if is_told else min(longest * random.uniform(0.5, 1.0), self.left)
        log.info("%s: %s; trying again in %.1f s", self._what, error, error.again if is_told else wait)
        return wait
