"""Fetching an endpoint into a landing zone, and what counts of it then."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from ingestion_platform.api import Api, ApiPages, Endpoint, LinkHeader, Rate
from ingestion_platform.format import Json
from ingestion_platform.formats import Field, read_records
from ingestion_platform.landing import open_landing
from ingestion_platform.sources.fetch import Client, Fetch, Fetched
from ingestion_platform.sources.fetched import LandedEndpoint
from ingestion_platform.sources.http_client import Access, ApiClient
from ingestion_platform.sources.pace import Pace
from ingestion_platform_tests.sources.memory_api import DAY

ZONE = ZoneInfo("Africa/Johannesburg")
NOON = datetime(2024, 10, 1, 12, tzinfo=UTC)


class Fetching:
    """An endpoint, who asks its API, and a landing zone."""

    def __init__(self, folder: Path, declared: Endpoint, client: Client) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.landing = open_landing(str(folder))
        self.endpoint = declared
        self.client = client
        self.at = NOON

    def fetch(self, day: date = DAY, **options: Any) -> Fetched:
        """Fetch a day, a second after the one before."""
        self.at += timedelta(seconds=1)
        return Fetch(LandedEndpoint(self.endpoint, self.landing), self.client, ZONE, now=lambda: self.at).run(
            day, **options
        )

    def rows(self, day: date = DAY, *sources: str) -> list[tuple[str | None, ...]]:
        """What counts of a day, as its dataset reads it."""
        wanted = [Field(source, source) for source in sources or ("id",)]
        source = ApiPages(self.endpoint)
        there = {landed.key: landed for landed in self.landing.list(self.endpoint.day_prefix(day))}
        counting, _ = source.choose(there)
        found: list[tuple[str | None, ...]] = []
        for key in sorted(counting):
            table = read_records(source.format, self.landing.read(there[key]), wanted, key=key).table
            found += zip(*(table.column(one.name).to_pylist() for one in wanted), strict=True)
        return found

    def ids(self, day: date = DAY) -> list[int]:
        """The `id`s that count."""
        return [int(one or -1) for (one,) in self.rows(day)]


def fetch_things(folder: Path, base_url: str) -> tuple[Fetching, Fetched]:
    """Fetch what a server lists under `/things`, from links in headers; for processes that are killed meanwhile."""
    api = Api(name="example", base_url=base_url, private_hosts=True, rate=Rate(100))
    declared = Endpoint(
        name="things", description="Things.", api=api, path="/things", params={"day": "{day}"}, format=Json("items[*]"),
        paging=LinkHeader(), first_day=DAY, record_key=("id",),
    )  # fmt: skip
    with ApiClient(api, Access(base_url, {}, True), Pace(api.rate, folder / "example.pace")) as client:
        here = Fetching(folder / "landing", declared, client)
        return here, here.fetch()
