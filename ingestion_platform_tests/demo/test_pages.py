"""What lands in examples without a server is what a real fetch lands of the served APIs, whatever fails in passing."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from ingestion_platform.api import EachRecord, EachRow, EachValue, Endpoint
from ingestion_platform.demo import Plan
from ingestion_platform.demo.apis import ApiServer, serve
from ingestion_platform.demo.business import Business
from ingestion_platform.demo.outside import NEW_FAMILY
from ingestion_platform.demo.pages import ENDPOINTS, EVENING, down_on, fetched
from ingestion_platform.demo.plan import ZONE
from ingestion_platform.fetch_folders import fetches
from ingestion_platform.formats.pages import Page, open_group
from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.settings import Settings
from ingestion_platform.sources.fetch import Fetch
from ingestion_platform.sources.fetched import LandedEndpoint, Note
from ingestion_platform.sources.opening import open_client

PLAN = Plan(stores=4, days=5)
DAY = PLAN.dates[1]
LANDED = dict(fetched(Business(PLAN), 1))
LATER = dict(fetched(Business(PLAN), 2))


def pages_of(landed: Mapping[str, bytes], endpoint: Endpoint, day: date) -> list[Page]:
    """The pages of a day's only fetch."""
    (fetch,) = fetches(key for key in landed if key.startswith(endpoint.day_prefix(day)))
    assert fetch.is_whole
    return [page for key in fetch.groups for page in open_group(landed[key], 2**30).pages()]


def told(pages: Sequence[Page], base_url: str) -> list[tuple[object, ...]]:
    """What pages say, wherever the server was and whenever it was asked."""
    found: list[tuple[object, ...]] = []
    for page in pages:
        body = page.body.decode().replace(base_url, "")
        if body.startswith("{") and "meta" in json.loads(body):
            body = json.dumps(json.loads(body)["data"])
        urls = (
            page.request.replace(base_url, ""),
            page.url.replace(base_url, ""),
            (page.next or "").replace(base_url, ""),
        )
        found.append((sorted(page.params.items()), page.page, page.records, page.skip, *urls, body))
    return sorted(found, key=repr)


def each_of(endpoint: Endpoint) -> list[dict[str, str]]:
    """What a deployment that has everything else asks about."""
    match endpoint.each:
        case EachValue(name=name, values=values):
            return [{name: value} for value in values]
        case EachRow(take=take):
            rows = [(one.store_id, f"{one.latitude:.5f}", f"{one.longitude:.5f}") for one in Business(PLAN).roster(DAY)]
            return [dict(zip(take, row, strict=True)) for row in rows]
        case EachRecord(endpoint=other):
            records = [record for page in pages_of(LANDED, other, DAY) for record in json.loads(page.body)["products"]]
            return [{"product_id": record["product_id"]} for record in records]
        case None:
            return [{}]


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_a_fetch_lands_what_the_example_says(endpoint: Endpoint, tmp_path: Path) -> None:
    """The same requests, pages and records, through real connections that now and then fail; and asked again, nothing lands."""
    server: ApiServer
    with serve(PLAN, settings_file=tmp_path / "apis.toml") as server:
        server.replies.today = DAY
        settings = Settings(landing=str(tmp_path / "landing"), apis=tmp_path / "apis.toml")
        landed = LandedEndpoint(endpoint, LocalLanding(tmp_path / "landing"))
        (tmp_path / "landing").mkdir()
        moment = datetime.combine(DAY, EVENING, ZONE).astimezone(UTC)
        with open_client(endpoint.api, settings.api_settings(), tmp_path) as client:
            done = Fetch(landed, client, ZONE, now=lambda: moment).run(DAY, each_of(endpoint))
            (fetch,) = landed.fetches(DAY)
            real = list(landed.pages(fetch))
            again = Fetch(landed, client, ZONE, now=lambda: moment).run(DAY, each_of(endpoint))
        assert done.has_landed
        assert not again.has_landed
        assert done.repeated == 0
        assert server.total().too_fast == 0
        base_url = server.base_url(endpoint.api.name)
    assert told(real, base_url) == told(pages_of(LANDED, endpoint, DAY), endpoint.api.base_url)


def test_the_example_stands_in_for_the_day_that_is_down() -> None:
    """The pages of the day before, marked stale, and a note that names their fetch."""
    rates, down = ENDPOINTS[0], down_on(PLAN)
    assert down is not None
    pages = pages_of(LANDED, rates, down)
    before = pages_of(LANDED, rates, PLAN.dates[PLAN.dates.index(down) - 1])
    assert [page.body for page in pages] == [page.body for page in before]
    assert all(page.is_stale for page in pages)
    assert not any(page.is_stale for page in before)
    (key,) = [key for key in LANDED if key.startswith(rates.day_prefix(down)) and key.endswith(".json")]
    stale_from = Note.parse(LANDED[key], key).stale_from
    assert stale_from is not None
    assert any(f"/{stale_from}/" in each for each in LANDED)


def test_the_second_step_has_the_product_that_appeared() -> None:
    """Only the catalogue and its prices of that day land again, with one product more."""
    new_on = PLAN.first_day.replace(day=PLAN.first_day.day + 3)
    products, prices = ENDPOINTS[2], ENDPOINTS[3]
    assert {key.split("/")[1] for key in LATER} == {products.name, prices.name}
    counts = [sum(page.records for page in pages_of(landed, products, new_on)) for landed in (LANDED, LATER)]
    assert counts[1] == counts[0] + 1
    new = f"F{NEW_FAMILY + 1:03d}"
    asked = [{page.params["product_id"] for page in pages_of(landed, prices, new_on)} for landed in (LANDED, LATER)]
    assert asked[1] - asked[0] == {new}
