"""
The APIs of others that the example business asks, served on loopback: rates of exchange, weather, a supplier's catalogue, charts of music,
and reviews to try an API with.

Belongs here: HTTP and what servers do with it: tokens, keys, pages, ETags, limits, and what fails in passing. Doesn't: what is told
(`outside.py`).

Replies are a function of the seed and of what is asked; only a product that appears while the catalogue is read depends on what was asked
before. What fails in passing fails the first time that it is asked, and is answered the second time.
"""

import hashlib
import json
import re
import secrets
import threading
import time
from base64 import b64encode
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from urllib.parse import parse_qs, urlencode, urlsplit

from ingestion_platform.api import ApiKey, Rate
from ingestion_platform.datasets.exchange_rates import ecb
from ingestion_platform.datasets.music_charts import charts
from ingestion_platform.datasets.supplier_catalogue import catalogue
from ingestion_platform.datasets.weather import meteostat
from ingestion_platform.demo import files
from ingestion_platform.demo.business import Business
from ingestion_platform.demo.outside import NEW_FAMILY, REGIONS, Outside, Review
from ingestion_platform.demo.plan import ZONE, Plan

REVIEWS = "reviews"
"""The API of the README, which nothing in `datasets/` declares."""

KEYS = {meteostat.name: "demo-weather-key", REVIEWS: "demo-reviews-key"}
CLIENTS = {catalogue.name: ("demo-shop", "demo-catalogue-secret"), charts.name: ("demo-shop", "demo-charts-secret")}

TOKEN_SECONDS = 120
TOKEN_USES = 150
"""A token is forgotten after so many requests, as by a server that was started anew: clients must be ready for that."""

FAILS_ONE_IN = 60
SLACK = 0.8
"""Requests are counted as they arrive, which is never as evenly as they were sent."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered; *fault* says how it is spoilt on the way."""

    status: int
    body: bytes
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: str = ""


@dataclass(slots=True)
class Counts:
    """
    What an API was asked, and how it answered.

    Args:
        requests: all of them, tokens included.
        tokens: tokens that were given.
        not_modified: answers that nothing has changed (304).
        throttled: refused because they came too fast (429).
        refused: refused for want of a valid token or key (401).
        failed: answered with an error of the server's (503).
        dropped: not answered, or not to the end.
    """

    requests: int = 0
    tokens: int = 0
    not_modified: int = 0
    throttled: int = 0
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
        today: the day that the rates of exchange are told of, since they tell the present only; None: of the real one.
        rates_are_down: the rates answer with an error, whoever asks and however often.
        counts: by API.
    """

    def __init__(self, outside: Outside, *, fails: bool = True, port: int = 0) -> None:
        self.outside = outside
        self.today: date | None = None
        self.rates_are_down = False
        self.counts: dict[str, Counts] = {name: Counts() for name in _ROUTES}
        self._fails = fails
        self._lock = threading.Lock()
        self._asked: set[str] = set()
        self._tokens: dict[str, tuple[str, float]] = {}
        self._uses = Counter[str]()
        self._moments: dict[str, deque[float]] = {name: deque() for name in _ROUTES}
        self._has_appeared = False
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
        for api in _ROUTES:
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
        if api not in _ROUTES:
            return _error(HTTPStatus.NOT_FOUND, f"no API is called {api!r}")
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
            return _error(HTTPStatus.SERVICE_UNAVAILABLE, "the rates can't be had at the moment")
        if (reply := self._fail(target)) is not None:
            return reply
        if (reply := self._throttle(api)) is not None:
            return reply
        if method == "POST":
            return self._give_token(api, path, headers, body)
        if (reply := self._refuse(api, headers)) is not None:
            return reply
        asked = {name: values[-1] for name, values in parse_qs(urlsplit(target).query, keep_blank_values=True).items()}
        try:
            reply = _ROUTES[api](self, path, asked)
        except (KeyError, ValueError, InvalidOperation) as error:
            return _error(HTTPStatus.BAD_REQUEST, f"a parameter is missing or wrong: {error}")
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
        chance = Random(f"{self.outside.business.plan.seed}:fails:{target}")
        if chance.randrange(FAILS_ONE_IN):
            return None
        how = chance.choice(("busy", "unavailable", "drop", "cut"))
        if how == "busy":
            return _error(HTTPStatus.TOO_MANY_REQUESTS, "another of your programs asks too often", {"Retry-After": "1"})
        if how == "unavailable":
            return _error(HTTPStatus.SERVICE_UNAVAILABLE, "try again later")
        return Reply(HTTPStatus.OK, b'{"records": [', fault=how)

    def _throttle(self, api: str) -> Reply | None:
        rate = _RATES.get(api)
        if rate is None:
            return None
        now, moments = time.monotonic(), self._moments[api]
        while moments and now - moments[0] > rate.seconds * SLACK:
            moments.popleft()
        if len(moments) >= rate.requests:
            return _error(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"more than {rate.requests} requests in {rate.seconds:g} seconds",
                {"Retry-After": "1"},
            )
        moments.append(now)
        return None

    def _give_token(self, api: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        asked = {name: values[-1] for name, values in parse_qs(body.decode(errors="replace")).items()}
        if api not in CLIENTS or path != "/oauth/token" or asked.get("grant_type") != "client_credentials":
            return _error(HTTPStatus.BAD_REQUEST, "unsupported_grant_type")
        if headers.get("authorization") != _basic(*CLIENTS[api]):
            return _error(HTTPStatus.UNAUTHORIZED, "invalid_client")
        token = secrets.token_urlsafe(24)
        self._tokens[token] = (api, time.monotonic() + TOKEN_SECONDS)
        self.counts[api].tokens += 1
        return _json({"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_SECONDS})

    def _refuse(self, api: str, headers: Mapping[str, str]) -> Reply | None:
        if api in KEYS and headers.get(_KEY_HEADERS[api]) != KEYS[api]:
            return _error(HTTPStatus.UNAUTHORIZED, "this key isn't known")
        if api not in CLIENTS:
            return None
        token = headers.get("authorization", "").removeprefix("Bearer ")
        owner, ends = self._tokens.get(token, ("", 0.0))
        self._uses[token] += 1
        if owner != api or time.monotonic() > ends or self._uses[token] > TOKEN_USES:
            return _error(
                HTTPStatus.UNAUTHORIZED, "the token has expired", {"WWW-Authenticate": 'Bearer error="invalid_token"'}
            )
        return None

    # --- what each API tells

    def _rates(self, path: str, asked: Mapping[str, str]) -> Reply:
        if path != "/stats/eurofxref/eurofxref-daily.xml":
            return _error(HTTPStatus.NOT_FOUND, "no such file")
        rates = self.outside.rates(self.today or datetime.now(ZONE).date())
        cubes = "".join(
            f"\t\t\t<Cube currency='{currency}' rate='{rate}'/>\n" for currency, rate in rates.of_one_eur.items()
        )
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<gesmes:Envelope xmlns:gesmes="http://www.gesmes.org/xml/2002-08-01"'
            ' xmlns="http://www.ecb.int/vocabulary/2002-08-01/eurofxref">\n'
            "\t<gesmes:subject>Reference rates</gesmes:subject>\n"
            "\t<gesmes:Sender>\n\t\t<gesmes:name>European Central Bank</gesmes:name>\n\t</gesmes:Sender>\n"
            f"\t<Cube>\n\t\t<Cube time='{rates.rated_on}'>\n{cubes}\t\t</Cube>\n\t</Cube>\n</gesmes:Envelope>\n"
        )
        return Reply(HTTPStatus.OK, text.encode(), "text/xml")

    def _weather(self, path: str, asked: Mapping[str, str]) -> Reply:
        if path != "/point/daily":
            return _error(HTTPStatus.NOT_FOUND, "no such endpoint")
        store = self.outside.nearest(Decimal(asked["lat"]), Decimal(asked["lon"]))
        first, last = date.fromisoformat(asked["start"]), date.fromisoformat(asked["end"])
        days = [date.fromordinal(number) for number in range(first.toordinal(), last.toordinal() + 1)]
        data = []
        for day in days:
            weather = self.outside.weather(store, day)
            data.append(
                {
                    "date": str(day),
                    "tavg": weather.average / 10,
                    "tmin": weather.minimum / 10,
                    "tmax": weather.maximum / 10,
                    "prcp": None if weather.rain is None else weather.rain / 10,
                }
            )
        # When it was made is told, so that no two replies are the same to the byte.
        return _json({"meta": {"generated": datetime.now(UTC).isoformat()}, "data": data})

    def _catalogue(self, path: str, asked: Mapping[str, str]) -> Reply:
        day = date.fromisoformat(asked["as_of"])
        listed = [family for family in self.outside.families if family.listed_on <= day]
        product_id = path.removeprefix("/products/").removesuffix("/prices")
        if path == f"/products/{product_id}/prices":
            found = next((family for family in listed if family.family_id == product_id), None)
            tiers = self.outside.prices(found, day) if found else ()
            if not tiers:
                return _error(HTTPStatus.NOT_FOUND, f"no prices of {product_id}")
            prices = [{"from_cases": cases, "case_price": files.zar(cents)} for cases, cents in tiers]
            return _json({"product_id": product_id, "currency": "ZAR", "prices": prices})
        if path != "/products":
            return _error(HTTPStatus.NOT_FOUND, "no such endpoint")
        after, size = asked.get("after", ""), int(asked.get("page_size", "10"))
        new = self.outside.families[NEW_FAMILY]
        if day == new.listed_on:
            if after:
                self._has_appeared = True
            elif not self._has_appeared:
                listed.remove(new)
        page = [family for family in listed if family.family_id > after][:size]
        has_more = bool(page) and page[-1] != listed[-1]
        more = urlencode({"as_of": str(day), "page_size": size, "after": page[-1].family_id}) if has_more else ""
        products = [
            {
                "product_id": family.family_id,
                "name": family.name,
                "category": family.category,
                "listed_on": str(family.listed_on),
                "variants": [
                    {"sku": product.product_id, "size": size_name, "units_per_case": units}
                    for (size_name, product), units in zip(family.variants, (24, 12, 6), strict=True)
                ],
            }
            for family in page
        ]
        following = f"{self.base_url(catalogue.name)}/products?{more}" if more else None
        return _json({"products": products, "paging": {"next": following}})

    def _charts(self, path: str, asked: Mapping[str, str]) -> Reply:
        code = path.removeprefix("/charts/")
        if code not in REGIONS:
            return _error(HTTPStatus.NOT_FOUND, f"no charts of {code!r}")
        day, limit = date.fromisoformat(asked["date"]), int(asked.get("limit", "10"))
        token = asked.get("page_token", "")
        begin = int(token.removeprefix("p")) if token else 0
        tracks = self.outside.chart(REGIONS[code], day)
        page = [
            {
                "position": position,
                "track": {"id": track.track_id, "title": track.title, "genre": track.genre},
                "artist": {"name": track.artist},
                "streams": track.streams,
            }
            for position, track in enumerate(tracks[begin : begin + limit], begin + 1)
        ]
        chart = {"date": str(day), "region": {"code": code, "name": REGIONS[code]}}
        told: dict[str, object] = {"chart": chart, "entries": page}
        if begin + limit < len(tracks):
            told["next_page_token"] = f"p{begin + limit}"
        return _json(told)

    def _reviews(self, path: str, asked: Mapping[str, str]) -> Reply:
        if path != "/reviews":
            return _error(HTTPStatus.NOT_FOUND, "no such endpoint")
        since, until = (datetime.fromisoformat(asked[name]) for name in ("since", "until"))
        begin = int(asked.get("begin", "0"))
        first, last = (moment.astimezone(ZONE).date().toordinal() for moment in (since, until))
        if last - first > 31:
            return _error(HTTPStatus.BAD_REQUEST, "a month at most")
        written = [
            review
            for number in range(first, last + 1)
            for review in self.outside.reviews(date.fromordinal(number))
            if since <= review.written_at < until
        ]
        more = urlencode({"since": asked["since"], "until": asked["until"], "begin": begin + 10})
        following = f"{self.base_url(REVIEWS)}/reviews?{more}" if begin + 10 < len(written) else None
        return _json({"reviews": [_review(review) for review in written[begin : begin + 10]], "next": following})


def _review(review: Review) -> dict[str, object]:
    return {
        "id": review.review_id,
        "written_at": review.written_at.isoformat(),
        "product": {"id": review.product_id},
        "stars": review.stars,
        "text": review.text,
        "reviewer": {"email": review.reviewer},
    }


_ROUTES: dict[str, Callable[[ApiServer, str, Mapping[str, str]], Reply]] = {
    ecb.name: ApiServer._rates,
    meteostat.name: ApiServer._weather,
    catalogue.name: ApiServer._catalogue,
    charts.name: ApiServer._charts,
    REVIEWS: ApiServer._reviews,
}
_RATES: dict[str, Rate] = {api.name: api.rate for api in (ecb, meteostat, catalogue, charts) if api.rate is not None}
_KEY_HEADERS = {
    meteostat.name: meteostat.auth.name.lower() if isinstance(meteostat.auth, ApiKey) else "",
    REVIEWS: ApiKey().name.lower(),
}


def _json(value: object, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(status, json.dumps(value, indent=1).encode(), headers=headers or {})


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Reply:
    return _json({"error": {"status": int(status), "message": message}}, status, headers)


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
        tell(f"{', '.join(_ROUTES)} on 127.0.0.1:{server.port}, until ctrl-C")
        tell(f"export INGESTION_APIS={settings_file}")
        (until or threading.Event()).wait()
