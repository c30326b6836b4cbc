"""An API in memory, for tests of what a fetch lands: every way of paging, conditional answers, and whatever a test does between pages."""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from ingestion_platform.api import (
    Api,
    Endpoint,
    LinkHeader,
    NextLink,
    Offset,
    OnePage,
    PageNumber,
    PageToken,
    Paging,
)
from ingestion_platform.format import Json
from ingestion_platform.landing import LandingZone
from ingestion_platform.sources.fetch import Reply

DAY = date(2024, 10, 1)
BASE = "https://api.example.com/v1"
API = Api(name="example", base_url=BASE)


class Killed(BaseException):
    """What a kill does to a fetch."""


@dataclass(frozen=True)
class MemoryReply:
    """A reply."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    url: str
    asked_at: datetime


@dataclass
class MemoryApi:
    """
    A list of records, served in the order of their `id`.

    Args:
        records: what there is; tests change it.
        size: records of a page where the request doesn't say.
        before: called with the number of each request before it is answered.
        has_etags: whether answers can be conditional.
    """

    records: list[dict[str, Any]]
    size: int = 3
    before: Callable[[int], None] = lambda _: None
    has_etags: bool = True
    urls: list[str] = field(default_factory=list)
    not_modified: int = 0

    def url(self, path: str, params: Mapping[str, str]) -> str:
        """The URL of a path."""
        return f"{BASE}{path}" + (f"?{urlencode(params)}" if params else "")

    def clean(self, url: str) -> str:
        """The same: nothing here is secret."""
        return url

    def counts(self) -> Mapping[str, float]:
        """Requests until now."""
        return {"requests": len(self.urls), "not_modified": self.not_modified}

    def get(self, url: str, *, etag: str = "", last_modified: str = "", none_when: Collection[int] = ()) -> Reply:
        """Answer."""
        self.before(len(self.urls) + 1)
        self.urls.append(url)
        query = dict(parse_qsl(urlsplit(url).query))
        body, headers = self._page(urlsplit(url).path, query)
        content = json.dumps(body).encode()
        if self.has_etags:
            headers["etag"] = f'"{sha256(content).hexdigest()[:12]}"'
        if etag and etag == headers.get("etag"):
            self.not_modified += 1
            return MemoryReply(304, {}, b"", url, datetime.now(UTC))
        return MemoryReply(200, headers, content, url, datetime.now(UTC))

    def _page(self, path: str, query: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
        there = sorted(self.records, key=lambda record: int(record["id"] or 0))
        if "since" in query:
            there = [record for record in there if record["at"] >= query["since"]]
        begin = 0
        size = int(query.get("limit", self.size))
        if "offset" in query:
            begin = int(query["offset"])
        elif "page" in query:
            begin = (int(query["page"]) - 1) * size
        elif "after" in query:
            begin = sum(record["id"] <= int(query["after"]) for record in there)
        page = there[begin : begin + size]
        more = begin + size < len(there)
        after = {**query, "after": str(page[-1]["id"])} if page and more else None
        link = self.url(path.removeprefix("/v1"), after) if after else None
        body = {
            "data": {"items": page, "after": str(page[-1]["id"]) if after else None},
            "next": link,
            "total": len(there),
        }
        return body, {"link": f'<{link}>; rel="next"'} if link else {}


PAGINGS: dict[str, Paging] = {
    "link header": LinkHeader(),
    "next link": NextLink("next"),
    "token": PageToken(param="after", path="data.after"),
    "offset": Offset(size=3),
    "offset with total": Offset(size=3, total="total"),
    "page number": PageNumber(size_param="limit", size=3),
}


def endpoint(paging: Paging | None = None, **changes: Any) -> Endpoint:
    """An endpoint of the API in memory."""
    values: dict[str, Any] = {
        "name": "things", "description": "Things.", "api": API, "path": "/things", "params": {"day": "{day}"},
        "format": Json("data.items[*]"), "paging": paging or OnePage(), "first_day": DAY,
    }  # fmt: skip
    return Endpoint(**{**values, **changes})


def records(number: int) -> list[dict[str, Any]]:
    """So many records."""
    return [{"id": one, "name": f"thing {one}"} for one in range(1, number + 1)]


def keys(landing: LandingZone) -> list[str]:
    """Whatever has landed."""
    return [landed.key for landed in landing.list("apis/")]
