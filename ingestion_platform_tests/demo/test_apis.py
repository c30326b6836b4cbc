"""The server of the example's APIs: it tells what the world outside says, and does what servers do with keys, tokens, pages and ETags."""

import base64
import http.client
import json
import threading
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen
from xml.etree import ElementTree

import pytest

from ingestion_platform.api import SECRETS, Api, ClientCredentials, EachValue
from ingestion_platform.datasets.exchange_rates import ecb
from ingestion_platform.datasets.music_charts import charts, daily_charts
from ingestion_platform.datasets.supplier_catalogue import catalogue
from ingestion_platform.datasets.weather import meteostat
from ingestion_platform.demo import Plan
from ingestion_platform.demo.apis import CLIENTS, KEYS, TOKEN_USES, ApiServer, run, serve
from ingestion_platform.demo.outside import NEW_FAMILY, REGIONS, UNPRICED_FAMILY
from ingestion_platform.demo.replies import REVIEWS

PLAN = Plan(stores=6, days=7)
FRIDAY, SATURDAY, MONDAY = date(2024, 10, 4), date(2024, 10, 5), date(2024, 10, 7)
RATES = "/stats/eurofxref/eurofxref-daily.xml"
ECB = "{http://www.ecb.int/vocabulary/2002-08-01/eurofxref}"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


def ask(server: ApiServer, api: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
    """Ask one API."""
    request = Request(
        server.base_url(api) + path, body, {name.replace("_", "-"): text for name, text in headers.items()}
    )
    try:
        with urlopen(request, timeout=30) as reply:
            return Answer(reply.status, dict(reply.headers), reply.read())
    except HTTPError as error:
        return Answer(error.code, dict(error.headers), error.read())


def token(server: ApiServer, api: str) -> str:
    """The header of a new token."""
    pair = base64.b64encode(":".join(CLIENTS[api]).encode()).decode()
    reply = ask(server, api, "/oauth/token", b"grant_type=client_credentials", Authorization=f"Basic {pair}")
    assert reply.status == HTTPStatus.OK
    return f"Bearer {reply.json['access_token']}"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """One that fails only when it is asked wrongly."""
    with serve(PLAN, fails=False) as server:
        yield server


def test_rates_are_told_as_the_bank_tells_them(server: ApiServer) -> None:
    """On a Saturday the reply is Friday's, to the byte; on Monday it is another."""
    server.replies.today = FRIDAY
    friday = ask(server, ecb.name, RATES)
    server.replies.today = SATURDAY
    assert ask(server, ecb.name, RATES).body == friday.body
    server.replies.today = MONDAY
    assert ask(server, ecb.name, RATES).body != friday.body
    (day,) = ElementTree.fromstring(friday.body).findall(f"{ECB}Cube/{ECB}Cube")
    assert day.get("time") == str(FRIDAY)
    assert {cube.get("currency"): cube.get("rate") for cube in day} == {
        currency: str(rate) for currency, rate in server.replies.outside.rates(FRIDAY).of_one_eur.items()
    }


def test_rates_that_are_down_stay_down(server: ApiServer) -> None:
    """As long as they are switched off, every request fails; the other APIs answer."""
    server.rates_are_down = True
    assert [ask(server, ecb.name, RATES).status for _ in range(3)] == [HTTPStatus.SERVICE_UNAVAILABLE] * 3
    server.rates_are_down = False
    assert ask(server, ecb.name, RATES).status == HTTPStatus.OK
    assert server.counts[ecb.name].failed == 3


def test_the_weather_is_that_of_the_nearest_store(server: ApiServer) -> None:
    """A record for each day asked for; the same again differs in when it was made, and in nothing else."""
    store = server.replies.outside.business.stores[3]
    path = f"/point/daily?lat={store.latitude}&lon={store.longitude}&start={FRIDAY}&end={SATURDAY}&units=metric"
    first, again = (ask(server, meteostat.name, path, X_RapidAPI_Key=KEYS[meteostat.name]) for _ in range(2))
    assert [record["date"] for record in first.json["data"]] == [str(FRIDAY), str(SATURDAY)]
    weather = server.replies.outside.weather(store, FRIDAY)
    assert Decimal(str(first.json["data"][0]["tmax"])) == Decimal(weather.maximum) / 10
    assert first.body != again.body
    assert first.json["data"] == again.json["data"]


@pytest.mark.parametrize("api", [meteostat.name, REVIEWS])
def test_without_its_key_an_api_says_no(server: ApiServer, api: str) -> None:
    """A wrong key is 401, and counted."""
    for headers in ({}, {"X_Api_Key": "guessed", "X_RapidAPI_Key": "guessed"}):
        assert ask(server, api, "/point/daily", None, **headers).status == HTTPStatus.UNAUTHORIZED
    assert server.counts[api].refused == 2


def test_a_token_is_used_up(server: ApiServer) -> None:
    """It is refused after so many requests, and when it is another API's; a new one is taken."""
    path = "/charts/NA?date=2024-10-04"
    header = token(server, catalogue.name)
    assert ask(server, charts.name, path, Authorization=header).status == HTTPStatus.UNAUTHORIZED
    path = "/products/F001/prices?as_of=2024-10-04"
    header = token(server, catalogue.name)
    while (status := ask(server, catalogue.name, path, Authorization=header).status) != HTTPStatus.UNAUTHORIZED:
        assert status in (HTTPStatus.OK, HTTPStatus.TOO_MANY_REQUESTS)
    used = server.counts[catalogue.name]
    assert used.requests - used.throttled - used.refused - used.tokens == TOKEN_USES


def test_who_isnt_known_gets_no_token(server: ApiServer) -> None:
    """A wrong secret is 401, another way of asking 400."""
    assert ask(server, catalogue.name, "/oauth/token", b"grant_type=password").status == HTTPStatus.BAD_REQUEST
    reply = ask(server, catalogue.name, "/oauth/token", b"grant_type=client_credentials", Authorization="Basic eDp5")
    assert reply.status == HTTPStatus.UNAUTHORIZED


def walk(server: ApiServer, header: str, day: date) -> Iterator[str]:
    """The supplier's product numbers of a day, page after page."""
    following = f"{server.base_url(catalogue.name)}/products?as_of={day}&page_size=10"
    while following:
        path = following.removeprefix(server.base_url(catalogue.name))
        reply = ask(server, catalogue.name, path, Authorization=header)
        yield from (product["product_id"] for product in reply.json["products"])
        following = reply.json["paging"]["next"]


def test_a_product_that_appears_between_pages_doubles_none(server: ApiServer) -> None:
    """It is new on a page that was read already: the first reading lacks it, and has every other product once; the second has it."""
    header, new = token(server, catalogue.name), server.replies.outside.families[NEW_FAMILY]
    all_ = [family.family_id for family in server.replies.outside.families]
    others = [family_id for family_id in all_ if family_id != new.family_id]
    assert list(walk(server, header, PLAN.first_day)) == others
    assert list(walk(server, header, new.listed_on)) == others
    assert list(walk(server, header, new.listed_on)) == all_
    assert list(walk(server, header, PLAN.dates[-1])) == all_


def test_a_product_without_prices_isnt_found(server: ApiServer) -> None:
    """As of one that isn't listed, the reply is 404; of all others there are prices, the dearest first."""
    header = token(server, catalogue.name)
    for place, family in enumerate(server.replies.outside.families[:8]):
        reply = ask(server, catalogue.name, f"/products/{family.family_id}/prices?as_of={MONDAY}", Authorization=header)
        if place == UNPRICED_FAMILY:
            assert reply.status == HTTPStatus.NOT_FOUND
        else:
            found = [Decimal(tier["case_price"]) for tier in reply.json["prices"]]
            assert found == sorted(found, reverse=True)
            assert found[-1] > 0


def test_charts_are_those_of_the_declared_regions(server: ApiServer) -> None:
    """Each region that is asked for has a chart of twenty tracks, in two pages; they differ by region and day."""
    assert isinstance(daily_charts.each, EachValue)
    assert set(daily_charts.each.values) == set(REGIONS)
    assert set(REGIONS.values()) == {store.region for store in server.replies.outside.business.stores}
    header = token(server, charts.name)
    first = ask(server, charts.name, f"/charts/ZA-GP?date={FRIDAY}&limit=10", Authorization=header).json
    path = f"/charts/ZA-GP?date={FRIDAY}&limit=10&page_token={first['next_page_token']}"
    second = ask(server, charts.name, path, Authorization=header).json
    assert [entry["position"] for entry in first["entries"] + second["entries"]] == list(range(1, 21))
    assert "next_page_token" not in second
    found = {
        tuple(server.replies.outside.chart(region, day)) for region in REGIONS.values() for day in (FRIDAY, SATURDAY)
    }
    assert len(found) == 2 * len(REGIONS)


def test_what_hasnt_changed_isnt_sent_again(server: ApiServer) -> None:
    """With the ETag that came with it, a reply is 304 and has no body."""
    server.replies.today = FRIDAY
    first = ask(server, ecb.name, RATES)
    again = ask(server, ecb.name, RATES, If_None_Match=first.headers["ETag"])
    assert (again.status, again.body) == (HTTPStatus.NOT_MODIFIED, b"")
    server.replies.today = MONDAY
    assert ask(server, ecb.name, RATES, If_None_Match=first.headers["ETag"]).status == HTTPStatus.OK
    assert server.counts[ecb.name].not_modified == 1


def test_who_asks_faster_than_declared_is_told_to_wait(server: ApiServer) -> None:
    """Of many requests at once no more than the declared rate are answered; the others are 429, and say for how long."""
    assert charts.rate is not None
    header = token(server, charts.name)
    path = f"{urlsplit(server.base_url(charts.name)).path}/charts/NA?date=2024-10-04"
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    found = []
    for _ in range(charts.rate.requests + 5):
        connection.request("GET", path, headers={"Authorization": header})
        reply = connection.getresponse()
        reply.read()
        found.append((reply.status, reply.headers.get("Retry-After")))
    connection.close()
    assert (HTTPStatus.TOO_MANY_REQUESTS, "1") in found
    assert server.counts[charts.name].throttled == sum(status == 429 for status, _ in found)


def test_what_fails_in_passing_is_answered_the_next_time() -> None:
    """Some requests fail in each of four ways, the same with every server; asked again, they are answered."""
    failed: list[list[str]] = []
    for _ in range(2):
        with serve(PLAN) as server:
            failed.append([])
            server.replies.today = FRIDAY
            for number in range(400):
                path = f"{RATES}?{number}"
                try:
                    reply = ask(server, ecb.name, path)
                    how = "" if reply.status == HTTPStatus.OK else str(reply.status)
                except http.client.IncompleteRead:
                    how = "cut"
                except (URLError, http.client.RemoteDisconnected):
                    how = "dropped"
                if how:
                    failed[-1].append(f"{number} {how}")
                    assert ask(server, ecb.name, path).status == HTTPStatus.OK
            assert server.total().must_retry == len(failed[-1])
    assert failed[0] == failed[1]
    assert {each.split()[1] for each in failed[0]} == {"429", "503", "cut", "dropped"}


@pytest.mark.parametrize(
    ("api", "path"),
    [
        (ecb.name, "/elsewhere"),
        (meteostat.name, "/point/daily?lat=north"),
        (REVIEWS, "/reviews?since=2024-10-01T00:00:00%2B02:00&until=2034-10-01T00:00:00%2B02:00"),
        ("nobody", "/"),
    ],
)
def test_what_nobody_understands_is_refused(server: ApiServer, api: str, path: str) -> None:
    """A wrong path or parameter is 400 or 404 with a message, and the server goes on."""
    key = KEYS.get(api, "")
    reply = ask(server, api, path, X_RapidAPI_Key=key, X_Api_Key=key)
    assert reply.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND)
    assert reply.json["error"]["message"]
    assert ask(server, ecb.name, RATES).status == HTTPStatus.OK


def test_reviews_are_those_of_the_moments_asked_for(server: ApiServer) -> None:
    """The pages of a day have its reviews, each once."""
    following = (
        f"{server.base_url(REVIEWS)}/reviews?since=2024-10-04T00:00:00%2B02:00&until=2024-10-05T00:00:00%2B02:00"
    )
    found: list[str] = []
    while following:
        path = following.removeprefix(server.base_url(REVIEWS))
        reply = ask(server, REVIEWS, path, X_Api_Key=KEYS[REVIEWS]).json
        found += [review["id"] for review in reply["reviews"]]
        following = reply["next"]
    assert found == [review.review_id for review in server.replies.outside.reviews(FRIDAY)]


@pytest.mark.parametrize("api", [ecb, meteostat, catalogue, charts], ids=lambda api: api.name)
def test_the_settings_lead_to_the_server(server: ApiServer, api: Api) -> None:
    """Each declared API has a table with where it is, and the secrets that its way of saying who one is needs."""
    told = tomllib.loads(server.settings())[api.name]
    assert told.pop("base_url") == server.base_url(api.name)
    assert told.pop("private_hosts") is True
    assert set(told) == set(SECRETS[type(api.auth)] if api.auth is not None else ())


def test_the_declared_hosts_arent_this_machine() -> None:
    """Without settings the example's APIs are real ones, over HTTPS; hosts that are made up can't be anybody's."""
    for api in (ecb, meteostat, catalogue, charts):
        assert api.base_url.startswith("https://")
        assert not api.private_hosts
        assert isinstance(api.auth, ClientCredentials) == (urlsplit(api.base_url).hostname or "").endswith(".example")


def test_the_command_serves_until_it_is_ended(tmp_path: Path) -> None:
    """It writes the settings, says what to export, and takes the same port the next time."""
    said: list[str] = []
    file, over = tmp_path / "deep" / "apis.toml", threading.Event()

    def tell(line: str) -> None:
        said.append(line)
        if line.startswith("export"):
            over.set()

    for _ in range(2):
        run(file, tell=tell, until=over)
    assert said[1] == said[3] == f"export INGESTION_APIS={file}"
    assert said[0] == said[2]
    assert set(tomllib.loads(file.read_text())) >= {ecb.name, REVIEWS}
