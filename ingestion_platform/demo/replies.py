"""
What the APIs of others answer to the example business: each a function of the path and the parameters.

Belongs here: how each writes down what it tells. Doesn't: what that is (`outside.py`), HTTP, tokens, limits and failures (`apis.py`).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from http import HTTPStatus
from urllib.parse import urlencode

from ingestion_platform.datasets.exchange_rates import ecb
from ingestion_platform.datasets.music_charts import charts
from ingestion_platform.datasets.supplier_catalogue import catalogue
from ingestion_platform.datasets.weather import meteostat
from ingestion_platform.demo import files
from ingestion_platform.demo.outside import NEW_FAMILY, REGIONS, Outside, Review
from ingestion_platform.demo.plan import ZONE

REVIEWS = "reviews"
"""The API of the README, which nothing in `datasets/` declares."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered; *fault* says how it is spoilt on the way."""

    status: int
    body: bytes
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: str = ""


class Replies:
    """
    What the APIs answer.

    Args:
        outside: what they know.
        now: the moment, UTC.

    Attributes:
        today: the day that the rates of exchange are told of, since they tell the present only; None: that of the moment.
        has_appeared: whether the product that is new in the catalogue is in it on its first day. It appears once somebody has read
            beyond the page that it belongs to.
    """

    def __init__(self, outside: Outside, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.outside = outside
        self.now = now
        self.today: date | None = None
        self.has_appeared = False

    def answer(self, api: str, path: str, asked: Mapping[str, str], base_url: str) -> Reply:
        """Answer what is asked of an API; links in the reply begin with *base_url*."""
        try:
            return _ROUTES[api](self, path, asked, base_url)
        except (KeyError, ValueError, InvalidOperation) as error:
            return error_reply(HTTPStatus.BAD_REQUEST, f"a parameter is missing or wrong: {error}")

    def _rates(self, path: str, asked: Mapping[str, str], base_url: str) -> Reply:
        if path != "/stats/eurofxref/eurofxref-daily.xml":
            return error_reply(HTTPStatus.NOT_FOUND, "no such file")
        rates = self.outside.rates(self.today or self.now().astimezone(ZONE).date())
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

    def _weather(self, path: str, asked: Mapping[str, str], base_url: str) -> Reply:
        if path != "/point/daily":
            return error_reply(HTTPStatus.NOT_FOUND, "no such endpoint")
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
        return json_reply({"meta": {"generated": self.now().isoformat()}, "data": data})

    def _catalogue(self, path: str, asked: Mapping[str, str], base_url: str) -> Reply:
        day = date.fromisoformat(asked["as_of"])
        listed = [family for family in self.outside.families if family.listed_on <= day]
        product_id = path.removeprefix("/products/").removesuffix("/prices")
        if path == f"/products/{product_id}/prices":
            found = next((family for family in listed if family.family_id == product_id), None)
            tiers = self.outside.prices(found, day) if found else ()
            if not tiers:
                return error_reply(HTTPStatus.NOT_FOUND, f"no prices of {product_id}")
            prices = [{"from_cases": cases, "case_price": files.zar(cents)} for cases, cents in tiers]
            return json_reply({"product_id": product_id, "currency": "ZAR", "prices": prices})
        if path != "/products":
            return error_reply(HTTPStatus.NOT_FOUND, "no such endpoint")
        after, size = asked.get("after", ""), int(asked.get("page_size", "10"))
        new = self.outside.families[NEW_FAMILY]
        if day == new.listed_on:
            if after:
                self.has_appeared = True
            elif not self.has_appeared:
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
        following = f"{base_url}/products?{more}" if more else None
        return json_reply({"products": products, "paging": {"next": following}})

    def _charts(self, path: str, asked: Mapping[str, str], base_url: str) -> Reply:
        code = path.removeprefix("/charts/")
        if code not in REGIONS:
            return error_reply(HTTPStatus.NOT_FOUND, f"no charts of {code!r}")
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
        return json_reply(told)

    def _reviews(self, path: str, asked: Mapping[str, str], base_url: str) -> Reply:
        if path != "/reviews":
            return error_reply(HTTPStatus.NOT_FOUND, "no such endpoint")
        since, until = (datetime.fromisoformat(asked[name]) for name in ("since", "until"))
        begin = int(asked.get("begin", "0"))
        first, last = (moment.astimezone(ZONE).date().toordinal() for moment in (since, until))
        if last - first > 31:
            return error_reply(HTTPStatus.BAD_REQUEST, "a month at most")
        written = [
            review
            for number in range(first, last + 1)
            for review in self.outside.reviews(date.fromordinal(number))
            if since <= review.written_at < until
        ]
        more = urlencode({"since": asked["since"], "until": asked["until"], "begin": begin + 10})
        following = f"{base_url}/reviews?{more}" if begin + 10 < len(written) else None
        return json_reply({"reviews": [_review(review) for review in written[begin : begin + 10]], "next": following})


def _review(review: Review) -> dict[str, object]:
    return {
        "id": review.review_id,
        "written_at": review.written_at.isoformat(),
        "product": {"id": review.product_id},
        "stars": review.stars,
        "text": review.text,
        "reviewer": {"email": review.reviewer},
    }


_ROUTES: dict[str, Callable[[Replies, str, Mapping[str, str], str], Reply]] = {
    ecb.name: Replies._rates,
    meteostat.name: Replies._weather,
    catalogue.name: Replies._catalogue,
    charts.name: Replies._charts,
    REVIEWS: Replies._reviews,
}
APIS = tuple(_ROUTES)
"""Names of those that answer."""


def json_reply(value: object, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Reply:
    """A value as JSON."""
    return Reply(status, json.dumps(value, indent=1).encode(), headers=headers or {})


def error_reply(status: int, message: str, headers: Mapping[str, str] | None = None) -> Reply:
    """What is wrong, as these APIs say it."""
    return json_reply({"error": {"status": int(status), "message": message}}, status, headers)
