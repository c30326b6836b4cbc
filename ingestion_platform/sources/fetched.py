"""
What is fetched as folders that are whole by their notes, in the landing zone: which fetches of a day there are, what each has landed; and
of an endpoint its pages, and where its cursor stands.

Belongs here: what the names and an endpoint's notes say. Doesn't: asking the API (`fetch.py`), an extract's notes (`extracted.py`).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from typing import Protocol

from ingestion_platform.api import Endpoint
from ingestion_platform.errors import LandingError, ObjectRejected
from ingestion_platform.fetch_folders import LandedFetch, fetches
from ingestion_platform.formats.pages import Group, Page, open_group
from ingestion_platform.landing import LandedObject, LandingZone

MAX_GROUP_BYTES = 1024**3
"""A group larger than this, once decompressed, isn't one that the platform wrote."""


@dataclass(frozen=True, slots=True)
class NotedPage:
    """
    A page as the note of its fetch has it.

    Args:
        url: what was asked for it.
        same: digest of what makes two pages the same.
        etag: that came with it; empty without one.
        last_modified: the same.
        records: how many it has beyond those of the page before.
        group: number of the group that holds it.
        row: its place there, from 0.
        is_last: whether none follows.
    """

    url: str
    same: str
    etag: str
    last_modified: str
    records: int
    group: int
    row: int
    is_last: bool


@dataclass(frozen=True, slots=True)
class Note:
    """
    What lands last of a fetch, and says that it is whole.

    Args:
        plan: digest of how was asked.
        pages: first URL of a request → its pages, in order.
        cursor: the furthest value; None of an endpoint without a cursor.
        stale_from: the fetch whose pages stand in for the day; None where the API answered.
        records: of all pages.
        asked: what it took: requests, retries, …
    """

    plan: str
    pages: Mapping[str, tuple[NotedPage, ...]]
    cursor: str | None = None
    stale_from: str | None = None
    records: int = 0
    asked: Mapping[str, float] = field(default_factory=dict)

    def written(self, endpoint: str, day: date) -> bytes:
        """As it lands."""
        values = asdict(self)
        return json.dumps(
            {"endpoint": endpoint, "day": day.isoformat(), **values}, ensure_ascii=False, indent=1
        ).encode()

    @classmethod
    def parse(cls, content: bytes, key: str) -> "Note":
        """
        Read one.

        Raises:
            LandingError: it isn't one that the platform wrote.
        """
        try:
            values = json.loads(content)
            pages = {url: tuple(NotedPage(**page) for page in found) for url, found in values["pages"].items()}
            return cls(
                values["plan"], pages, values["cursor"], values["stale_from"], values["records"], values["asked"]
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise LandingError(
                f"{key} is no note of a fetch: {error}", "move it away: the day can be fetched again"
            ) from error


class Fetchable(Protocol):
    """What lands as fetches: an endpoint, an extract."""

    @property
    def name(self) -> str:
        """Snake_case."""
        ...

    @property
    def first_day(self) -> date:
        """The first business day."""
        ...

    def day_prefix(self, day: date) -> str:
        """The prefix of what has landed for a day."""
        ...

    def group_key(self, day: date, fetch: str, number: int) -> str:
        """The key of a group of a fetch."""
        ...

    def done_key(self, day: date, fetch: str, groups: int) -> str:
        """The key of the note that a fetch is whole, of so many groups."""
        ...


class LandedFetches:
    """
    What has landed of something that is fetched.

    Args:
        fetched: what.
        landing: where.
    """

    def __init__(self, fetched: Fetchable, landing: LandingZone) -> None:
        self._fetched = fetched
        self._landing = landing
        self._objects: dict[str, LandedObject] = {}

    def fetches(self, day: date) -> list[LandedFetch]:
        """The fetches of a day, the oldest first."""
        objects = {landed.key: landed for landed in self._landing.list(self._fetched.day_prefix(day))}
        self._objects.update(objects)
        return fetches(objects)

    def last_whole(self, day: date) -> LandedFetch | None:
        """The day's last fetch that has come to its end; None without one."""
        whole = [fetch for fetch in self.fetches(day) if fetch.is_whole]
        return whole[-1] if whole else None

    def last_whole_before(self, day: date, days: int) -> tuple[date, LandedFetch] | None:
        """The last whole fetch of *day* or one of the *days* before it, never before its first day."""
        for back in range(days + 1):
            earlier = day - timedelta(days=back)
            if earlier < self._fetched.first_day:
                return None
            found = self.last_whole(earlier)
            if found is not None:
                return earlier, found
        return None

    def content(self, key: str) -> bytes:
        """A group as it stands."""
        return self._read(key)

    def size_bytes(self, fetch: LandedFetch) -> int:
        """What the groups of a fetch weigh, as they were listed."""
        return sum(self._objects[key].size_bytes for key in fetch.groups)

    def put_group(self, day: date, fetch: str, number: int, content: bytes) -> None:
        """
        Land a group.

        Raises:
            LandingError: something else is there already.
        """
        self._put(self._fetched.group_key(day, fetch, number), content)

    def _put(self, key: str, content: bytes) -> None:
        if self._landing.put_if_absent(key, content):
            return
        # A store that answered too late is asked twice, and has it from the first time.
        there = next(iter(self._landing.list(key)), None)
        if there is None or there.key != key or self._landing.read(there) != content:
            raise LandingError(f"{key} is there already, and nobody else should have written it", "fetch again")

    def _read(self, key: str) -> bytes:
        return self._landing.read(self._objects[key])


class LandedEndpoint(LandedFetches):
    """
    What has landed of an endpoint.

    Args:
        endpoint: which.
        landing: where.
    """

    def __init__(self, endpoint: Endpoint, landing: LandingZone) -> None:
        super().__init__(endpoint, landing)
        self.endpoint = endpoint

    def note(self, fetch: LandedFetch) -> Note:
        """
        The note of a whole fetch.

        Raises:
            LandingError: it isn't one that the platform wrote.
        """
        assert fetch.done is not None, "only a whole fetch has a note"
        return Note.parse(self._read(fetch.done), fetch.done)

    def group(self, key: str) -> Group:
        """
        A group of pages.

        Raises:
            LandingError: it is damaged.
        """
        try:
            return open_group(self._read(key), MAX_GROUP_BYTES)
        except ObjectRejected as error:
            raise LandingError(f"{key} {error.what}", "move it away: the day can be fetched again") from error

    def pages(self, fetch: LandedFetch) -> Iterator[Page]:
        """What has landed of a fetch, in order."""
        for key in fetch.groups:
            yield from self.group(key).pages()

    def put_note(self, day: date, fetch: str, groups: int, note: Note) -> None:
        """Land the note that makes a fetch whole."""
        self._put(self.endpoint.done_key(day, fetch, groups), note.written(self.endpoint.name, day))
