"""
What fetches of the example's APIs land, for examples without a server: groups of pages, and the notes that make them whole.

Belongs here: asking `replies.py` as a fetch asks an API, a day after the other. Doesn't: what is answered, fetching itself
(`sources/fetch.py`).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from urllib.parse import parse_qs, urlencode, urlsplit

from ingestion_platform.api import EachRecord, EachRow, EachValue, Endpoint
from ingestion_platform.datasets.exchange_rates import daily_rates
from ingestion_platform.datasets.music_charts import daily_charts
from ingestion_platform.datasets.supplier_catalogue import prices, products
from ingestion_platform.datasets.weather import point_daily
from ingestion_platform.demo.business import Business
from ingestion_platform.demo.outside import NEW_FAMILY, Outside
from ingestion_platform.demo.plan import ZONE, Plan
from ingestion_platform.demo.replies import Replies
from ingestion_platform.formats import read_records
from ingestion_platform.formats.pages import Page, write_pages
from ingestion_platform.sources.asking import Window, ask, request_name
from ingestion_platform.sources.fetched import Note, NotedPage
from ingestion_platform.sources.paging import Seen, next_url

ENDPOINTS = (daily_rates, point_daily, products, prices, daily_charts)
"""Everything that the example asks of APIs; an endpoint that is asked about comes before the one that asks."""

EVENING = time(18)
"""When the example's days are fetched."""

_PLAN = "example"


def down_on(plan: Plan) -> date | None:
    """The day on which the rates of exchange can't be had; it needs one before it."""
    return plan.dates[min(2, plan.days - 1)] if plan.days > 1 else None


def fetched(business: Business, step: int) -> Iterator[tuple[str, bytes]]:
    """
    Keys and contents of what the fetches of a step land.

    Args:
        business: who asks.
        step: 1: every day, each on its evening. 2: what has changed when everything is asked for again two days later.
    """
    outside = Outside(business)
    new_on = outside.families[NEW_FAMILY].listed_on
    if step == 1:
        rates: list[Page] = []
        replies = Replies(outside)
        for day in business.plan.dates:
            catalogue: list[Page] = []
            for endpoint in ENDPOINTS:
                moment = datetime.combine(day, EVENING, ZONE).astimezone(UTC)
                if endpoint is daily_rates and day == down_on(business.plan):
                    stale = [replace(page, is_stale=True) for page in rates]
                    yield from _landed(endpoint, day, moment, stale, _name(moment - timedelta(days=1)))
                    continue
                pages = _asked(replies, endpoint, day, moment, catalogue)
                if endpoint is products:
                    catalogue = pages
                if endpoint is daily_rates:
                    rates = pages
                yield from _landed(endpoint, day, moment, pages)
    elif new_on in business.plan.dates:
        replies = Replies(outside)
        replies.has_appeared = True
        moment = datetime.combine(new_on + timedelta(days=2), EVENING, ZONE).astimezone(UTC)
        catalogue = _asked(replies, products, new_on, moment, [])
        yield from _landed(products, new_on, moment, catalogue)
        yield from _landed(prices, new_on, moment, _asked(replies, prices, new_on, moment, catalogue))


def _name(moment: datetime) -> str:
    return f"{moment:%Y%m%dT%H%M%S%fZ}-0a1b2c"


def _landed(
    endpoint: Endpoint, day: date, moment: datetime, pages: list[Page], stale_from: str | None = None
) -> Iterator[tuple[str, bytes]]:
    """A fetch in one group, and its note."""
    name = _name(moment)
    noted: dict[str, list[NotedPage]] = {}
    for row, page in enumerate(pages):
        noted.setdefault(page.request, []).append(
            NotedPage(page.url, page.same, "", "", page.records, 1, row, page.next is None)
        )
    note = Note(
        _PLAN,
        {request: tuple(found) for request, found in noted.items()},
        stale_from=stale_from,
        records=sum(page.records for page in pages),
    )
    yield (
        endpoint.group_key(day, name, 1),
        write_pages(pages, endpoint=endpoint.name, fetch=name, group=1, plan=_PLAN),
    )
    yield endpoint.done_key(day, name, 1), note.written(endpoint.name, day)


def _asked(replies: Replies, endpoint: Endpoint, day: date, moment: datetime, asked_about: list[Page]) -> list[Page]:
    """The pages of a day. *asked_about* are those of the endpoint whose records are asked about."""
    replies.today, replies.now = day, lambda: moment
    found = []
    for params in _each(replies.outside.business, endpoint, day, asked_about):
        first = ask(endpoint, Window.of(day, ZONE), ZONE, params, None)
        url: str | None = endpoint.api.base_url + first.path + (f"?{urlencode(first.query)}" if first.query else "")
        request, number, records = request_name(str(url), params), 0, 0
        while url is not None:
            parts = urlsplit(url)
            path = parts.path.removeprefix(urlsplit(endpoint.api.base_url).path)
            query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
            reply = replies.answer(endpoint.api.name, path, query, endpoint.api.base_url)
            body = reply.body if reply.status not in endpoint.none_when else b""
            new = read_records(endpoint.format, body, []).rows_read if body else 0
            number, records = number + 1, records + new
            following = next_url(endpoint.paging, Seen(url, {}, body, number, new, records), overlaps=False)
            found.append(
                Page(
                    request=request, params=params, page=number, url=url, fetched_at=moment, headers={}, skip=0, records=new,
                    same=hashlib.sha256(body).hexdigest(), is_stale=False, next=following, body=body,
                )
            )  # fmt: skip
            url = following
    return found


def _each(business: Business, endpoint: Endpoint, day: date, asked_about: list[Page]) -> list[Mapping[str, str]]:
    match endpoint.each:
        case EachValue(name=name, values=values):
            return [{name: value} for value in values]
        case EachRow():
            return [
                {"store_id": store.store_id, "latitude": f"{store.latitude:.5f}", "longitude": f"{store.longitude:.5f}"}
                for store in business.roster(day)
            ]
        case EachRecord():
            records = [record for page in asked_about for record in json.loads(page.body)["products"]]
            return [{"product_id": record["product_id"]} for record in records]
        case None:
            return [{}]
