"""
One fetch of an endpoint: from what is asked for a day to pages in the landing zone.

Belongs here: which request comes next, what of the replies lands, going on after an interruption, standing in while the API is down.
Doesn't: asking (`http_client.py`), what there is already (`fetched.py`).

A fetch lands in a folder of its own, and counts once the note that it is whole has landed. So a killed fetch leaves pages that count for
nothing; the next one begins with them, in its own folder, and goes on where they end. As long as every page is the same as in the fetch
that counts, nothing lands; with the first that isn't, all of them do.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Protocol
from uuid import uuid4
from zoneinfo import ZoneInfo

from ingestion_platform.api import Endpoint, Offset, PageNumber
from ingestion_platform.errors import IngestionError, ObjectRejected, SourceChanged, SourceUnavailable
from ingestion_platform.fetch_folders import LandedFetch
from ingestion_platform.format import Xml
from ingestion_platform.formats import Field, Records, read_records
from ingestion_platform.formats.pages import Page, write_pages
from ingestion_platform.formats.xml_records import elements_instead
from ingestion_platform.sources.asking import Ask, Window, ask, request_name
from ingestion_platform.sources.fetched import LandedEndpoint, Note, NotedPage
from ingestion_platform.sources.paging import Seen, first_params, next_url, sign_of_more

log = logging.getLogger(__name__)

GROUP_BYTES = 8 * 1024**2
"""A group of pages is closed at this size, decompressed."""
GROUP_SECONDS = 2.0
"""A group is closed so long after its first page: a kill loses no more than that."""
RESUME_WITHIN = timedelta(hours=6)
"""A fetch that was interrupted longer ago is begun anew: its pages tell of another state than the ones to come."""
ATTEMPTS = 3
"""How often a list that moves while it is read is read from its beginning."""
AHEAD = timedelta(days=1)
"""A moment further in the future than this is a clock that is wrong: a cursor that followed it would ask for nothing new any more."""
FEW = 10
"""Of fewer records than this nobody wonders that half of them have gone."""
MOST_SIGNS = 3
_AGAIN = "fetch again; if it fails every time, the API pages through something that it changes all the time"


class Reply(Protocol):
    """What a client answers; see `http_client.Reply`."""

    @property
    def status(self) -> int:
        """200, 304, …"""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Some of them, lower-case names."""
        ...

    @property
    def content(self) -> bytes:
        """The body, decompressed."""
        ...

    @property
    def url(self) -> str:
        """What was asked, without secrets."""
        ...

    @property
    def asked_at(self) -> datetime:
        """UTC."""
        ...


class Client(Protocol):
    """What asks; see `http_client.ApiClient`."""

    def url(self, path: str, params: Mapping[str, str]) -> str:
        """The URL of a path below the base URL."""
        ...

    def clean(self, url: str) -> str:
        """A URL as it may be kept and asked for again: absolute, without secrets."""
        ...

    def get(self, url: str, *, etag: str = "", last_modified: str = "", none_when: Collection[int] = ()) -> Reply:
        """Ask, patiently."""
        ...

    def counts(self) -> Mapping[str, float]:
        """What asking took until now: requests, retries, …"""
        ...


@dataclass(frozen=True, slots=True)
class Fetched:
    """
    What came of a fetch.

    Args:
        day: which.
        name: the fetch that counts for the day now.
        has_landed: whether anything landed; it doesn't when nothing has changed.
        requests: how many first pages were asked for.
        pages: of all of them.
        records: the same.
        repeated: records that came more than once, by the endpoint's `record_key`.
        resumed: pages that an interrupted fetch had landed already.
        bytes: of the bodies, decompressed.
        cursor: the furthest value; None of an endpoint without a cursor.
        stale_from: when the pages were fetched that stand in for the day; None where the API answered.
        problem: why they do.
        signs: what says that the API has more than came, or that less came than is likely.
        asked: what it took: requests, retries, …
        seconds: wall time.
        ended_at: UTC.
    """

    day: date
    name: str
    has_landed: bool
    requests: int
    pages: int
    records: int
    repeated: int
    resumed: int
    bytes: int
    cursor: str | None
    stale_from: datetime | None
    problem: str
    signs: tuple[str, ...]
    asked: Mapping[str, float]
    seconds: float
    ended_at: datetime


class _Moved(Exception):
    """A list has moved while it was read: another record stands where the last page ended."""


@dataclass(slots=True)
class _Row:
    """The pages of one request, on their way."""

    ask: Ask
    first: str
    url: str
    page: int = 0
    records: int = 0
    last_key: tuple[str | None, ...] | None = None
    last_digest: str = ""
    asked: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Known:
    """A page that the fetch that counts has."""

    note: NotedPage
    fetch: LandedFetch


class Fetch:
    """
    Fetches an endpoint.

    Args:
        landed: the endpoint in the landing zone.
        client: asks.
        zone: business time.
        now: the moment, UTC.
        on_page: told of each page that came: pages and records until now.
    """

    def __init__(
        self,
        landed: LandedEndpoint,
        client: Client,
        zone: ZoneInfo,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_page: Callable[[int, int], None] | None = None,
    ) -> None:
        self._landed = landed
        self._endpoint = landed.endpoint
        self._client = client
        self._zone = zone
        self._now = now
        self._on_page = on_page
        self._counts_before: dict[str, float] = {}
        self._fields = [Field(f"key{index}", path) for index, path in enumerate(self._endpoint.record_key)]
        if self._endpoint.cursor is not None:
            self._fields.append(Field("cursor", self._endpoint.cursor.field))

    def run(self, day: date, each: Sequence[Mapping[str, str]] = ({},), *, restart: bool = False) -> Fetched:
        """
        Fetch what the API has for a day, and land what of it is new.

        Args:
            day: business day.
            each: what `each` gives for every request; one without anything where the endpoint has none.
            restart: of an endpoint with a cursor: ask from its beginning again.

        Raises:
            SourceUnavailable: the API gave no answer; what came until then has landed, and the next fetch goes on after it.
            SourceChanged: it answered otherwise than declared.
            SourceError: it refused.
        """
        began = time.perf_counter()
        self._counts_before = dict(self._client.counts())
        window = Window.of(day, self._zone)
        try:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    return self._fetch(window, each, restart, may_resume=attempt == 1, began=began)
                except _Moved as moved:
                    log.info("%s: %s; reading it again (%d)", self._endpoint.name, moved, attempt)
                    last = str(moved)
            raise SourceChanged(
                f"endpoint {self._endpoint.name!r}: {last}, each of {ATTEMPTS} times it was read", _AGAIN
            )
        except SourceUnavailable as error:
            if self._endpoint.fallback != "last_known":
                raise
            return self._stand_in(window, error, began)

    # --- one attempt

    def _fetch(
        self, window: Window, each: Sequence[Mapping[str, str]], restart: bool, *, may_resume: bool, began: float
    ) -> Fetched:
        endpoint = self._endpoint
        here = self._landed.fetches(window.day)
        whole = [fetch for fetch in here if fetch.is_whole]
        standing = whole[-1] if whole else None
        cursor = None
        if endpoint.cursor is not None:
            found = self._landed.last_whole_before(window.day, (window.day - endpoint.first_day).days)
            standing = found[1] if found is not None else None
        note = self._landed.note(standing) if standing is not None else None
        if endpoint.cursor is not None:
            cursor = endpoint.cursor.begin if note is None or note.cursor is None or restart else note.cursor
        asks = [ask(endpoint, window, self._zone, params, cursor) for params in each]
        plan = self._plan()
        name = self._name(here)
        writing = _Writing(self._landed, window.day, name, plan, standing if note and note.plan == plan else None, note)
        state = _State()
        rows = [self._row(one) for one in asks]
        started = {row.first: row for row in rows}
        if len(started) < len(rows):
            rows = list(started.values())
        if may_resume:
            newest = whole[-1].name if whole else ""
            for fetch in reversed([one for one in here if not one.is_whole and one.name > newest]):
                if self._resume(fetch, plan, started, writing, state):
                    break
        try:
            self._walk([row for row in rows if row.url], writing, state)
        except _Moved:
            raise
        except BaseException:
            # What came until now needn't be asked for again.
            writing.flush()
            raise
        if endpoint.cursor is not None and state.records and state.cursor is None:
            raise SourceChanged(
                f"endpoint {endpoint.name!r}: none of {state.records:,} records has a {endpoint.cursor.kind}"
                f" at {endpoint.cursor.field!r}" + (" that isn't in the future" if state.ahead else ""),
                "the API has changed, or the cursor is declared wrong",
            )
        if state.ahead:
            log.warning(
                "%s: %d records have a cursor in the future; it doesn't follow them", endpoint.name, state.ahead
            )
        asked = self._asked()
        furthest = state.cursor if state.cursor is not None else cursor
        has_landed = writing.finish({row.first for row in rows}, furthest, state.records, asked)
        if not has_landed and standing is not None:
            name = standing.name
        return Fetched(
            day=window.day, name=name, has_landed=has_landed, requests=len(rows), pages=writing.pages, records=state.records,
            repeated=state.repeated, resumed=writing.resumed, bytes=writing.bytes, cursor=furthest, stale_from=None, problem="",
            signs=self._signs(state, note),
            asked=asked, seconds=time.perf_counter() - began, ended_at=self._now(),
        )  # fmt: skip

    def _name(self, here: Sequence[LandedFetch]) -> str:
        """A name for a fetch that begins now: it sorts after those of the day, whatever the clock was set to meanwhile."""
        moment = self._now()
        if here:
            moment = max(moment, here[-1].began_at + timedelta(microseconds=1))
        return f"{moment:%Y%m%dT%H%M%S%fZ}-{uuid4().hex[:6]}"

    def _signs(self, state: "_State", note: Note | None) -> tuple[str, ...]:
        """What says that the API has more than came, or that less came than is likely."""
        signs = list(state.signs)
        is_same_question = self._endpoint.cursor is None and note is not None and note.stale_from is None
        if note is not None and is_same_question and note.records >= FEW and state.records * 2 < note.records:
            signs.append(f"{state.records:,} records, {note.records:,} the time before")
        return tuple(signs)

    def _row(self, one: Ask) -> _Row:
        url = self._client.clean(self._client.url(one.path, {**one.query, **first_params(self._endpoint.paging)}))
        # Two stores at one place are asked about by the same URL, and are two requests: a fragment, which isn't sent, tells them apart.
        return _Row(one, request_name(url, one.params), url)

    def _plan(self) -> str:
        """Changes whenever the same pages would be asked for, or told apart, otherwise."""
        endpoint = self._endpoint
        parts = (endpoint.format, endpoint.paging, endpoint.record_key, endpoint.same_when, endpoint.cursor)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def _resume(
        self, fetch: LandedFetch, plan: str, rows: Mapping[str, _Row], writing: "_Writing", state: "_State"
    ) -> bool:
        """Take over what an interrupted fetch has landed; whether it had anything that can be used."""
        if not fetch.groups or self._now() - fetch.began_at > RESUME_WITHIN:
            return False
        if self._landed.group(fetch.groups[0]).plan != plan:
            return False
        for page in self._landed.pages(fetch):
            row = rows.get(page.request)
            # Only what follows page after page: what another fetch had taken over stands before what it asked itself.
            if row is None or page.page != row.page + 1 or row.url != page.url:
                continue
            self._advance(row, page, self._inspect(page.body, page.url), state)
            writing.take(page, is_resumed=True)
        return writing.resumed > 0

    def _walk(self, rows: Sequence[_Row], writing: "_Writing", state: "_State") -> None:
        """Ask for every page that is left; those of one request one after the other, several requests at a time."""
        waiting = list(reversed(rows))
        with ThreadPoolExecutor(self._endpoint.api.concurrency, thread_name_prefix="ask") as pool:
            under_way: dict[Future[tuple[Page, _Inspected]], _Row] = {}
            try:
                while waiting or under_way:
                    while waiting and len(under_way) < self._endpoint.api.concurrency:
                        row = waiting.pop()
                        under_way[pool.submit(self._ask, row, writing)] = row
                    done, _ = wait(under_way, timeout=GROUP_SECONDS, return_when=FIRST_COMPLETED)
                    for future in sorted(done, key=lambda one: under_way[one].first):
                        row = under_way.pop(future)
                        page, inspected = future.result()
                        self._advance(row, page, inspected, state)
                        writing.take(page)
                        if self._on_page is not None:
                            self._on_page(writing.pages, state.records)
                        if row.url:
                            waiting.append(row)
                    writing.flush_in_time()
            except BaseException:
                # What is under way is let come in, and lands: it has been asked for.
                for future in under_way:
                    future.cancel()
                for future, row in under_way.items():
                    if not future.cancelled() and future.exception() is None:
                        page, inspected = future.result()
                        try:
                            self._advance(row, page, inspected, state)
                        except (_Moved, IngestionError):
                            continue
                        writing.take(page)
                raise

    def _ask(self, row: _Row, writing: "_Writing") -> tuple[Page, "_Inspected"]:
        """Ask for a request's next page. Runs in a thread; changes nothing."""
        known = writing.known(row.first, row.page)
        if known is not None and known.note.url != row.url:
            known = None
        etag, modified = (known.note.etag, known.note.last_modified) if known is not None else ("", "")
        reply = self._client.get(row.url, etag=etag, last_modified=modified, none_when=self._endpoint.none_when)
        headers, body = reply.headers, reply.content
        if reply.status == 304:
            if known is None:
                raise SourceChanged(f"{reply.url}: 304 Not Modified, though nothing was said to be known", _AGAIN)
            before = writing.landed(known)
            headers, body = before.headers, before.body
        elif reply.status >= 400:
            body = b""
        inspected = self._inspect(body, row.url)
        same = _digest(body) if self._endpoint.same_when == "body" else inspected.digest
        skip = 0
        paging = self._endpoint.paging
        if (
            isinstance(paging, Offset | PageNumber)
            and inspected.digest == row.last_digest
            and inspected.rows > (1 if self._endpoint.overlaps else 0)
        ):
            raise SourceChanged(
                f"{row.url}: page {row.page + 1} is the same as page {row.page}",
                f"does the API know the parameter {(paging.offset if isinstance(paging, Offset) else paging.page)!r}?"
                " It seems to give the first page whatever is asked for",
            )
        if self._endpoint.overlaps and row.records:
            # Of a record that can't be read nobody knows which one it is.
            is_known = row.last_key is not None and inspected.first_key is not None
            if inspected.rows == 0 or (is_known and inspected.first_key != row.last_key):
                raise _Moved(f"records of {row.first} have moved between its pages {row.page} and {row.page + 1}")
            skip = 1
        new = inspected.rows - skip
        seen = Seen(row.url, headers, body, row.page + 1, new, row.records + new)
        following = next_url(self._endpoint.paging, seen, overlaps=self._endpoint.overlaps and row.records + new > 0)
        if following is not None:
            # Servers repeat what they were asked with in their links, a key as well.
            following = self._client.clean(following)
        sign = sign_of_more(seen) if following is None else ""
        page = Page(
            request=row.first, params=row.ask.params, page=row.page + 1, url=row.url, fetched_at=reply.asked_at, headers=headers,
            skip=skip, records=new, same=same, is_stale=False, next=following, body=body,
        )  # fmt: skip
        return page, replace(inspected, sign=sign)

    def _inspect(self, body: bytes, url: str) -> "_Inspected":
        if not body:
            return _Inspected(0, [], [], _digest(b""), None, None)
        try:
            records = read_records(self._endpoint.format, body, self._fields)
            digest = ""
            if self._endpoint.same_when == "records" or isinstance(self._endpoint.paging, Offset | PageNumber):
                digest = _digest_of(read_records(self._endpoint.format, body, []))
        except ObjectRejected as error:
            raise SourceChanged(
                f"{url}: the reply {error.what}", error.hint or "the API has changed, or the endpoint is declared wrong"
            ) from error
        if records.rows_read == 0 and isinstance(self._endpoint.format, Xml):
            instead = elements_instead(self._endpoint.format, body)
            if instead:
                raise SourceChanged(
                    f"{url}: the reply has no records where they are declared, at {self._endpoint.format.record!r}: {instead}",
                    "the API has changed, or the endpoint is declared wrong",
                )
        columns = [records.table.column(field.name).to_pylist() for field in self._fields if field.name != "cursor"]
        cursors = records.table.column("cursor").to_pylist() if self._endpoint.cursor is not None else []
        keys, numbers = list(zip(*columns, strict=True)), records.table.column("_row").to_pylist()
        first = keys[0] if keys and numbers[0] == 1 else None
        last = keys[-1] if keys and numbers[-1] == records.rows_read else None
        return _Inspected(records.rows_read, keys, cursors, digest, first, last)

    def _advance(self, row: _Row, page: Page, inspected: "_Inspected", state: "_State") -> None:
        """Note where a request stands after a page."""
        row.page, row.last_digest = page.page, inspected.digest
        if inspected.sign and len(state.signs) < MOST_SIGNS:
            state.signs.append(f"{page.url}: {inspected.sign}, and isn't followed")
        row.records += page.records
        state.records += page.records
        row.asked.add(page.url)
        if inspected.rows:
            row.last_key = inspected.last_key
        for key in inspected.keys[page.skip :]:
            state.count(key)
        if self._endpoint.cursor is not None:
            for value in inspected.cursors:
                state.reach(self._endpoint, value, self._now() + AHEAD)
        if page.next is not None and page.next in row.asked:
            raise SourceChanged(
                f"{page.url}: the page that follows is one that came before, {page.next}",
                "its pages go round: the API has changed, or the paging is declared wrong",
            )
        if page.next is not None and page.page >= self._endpoint.max_pages:
            raise SourceChanged(
                f"{row.first} has more than {self._endpoint.max_pages:,} pages",
                "raise max_pages, or ask for less at a time",
            )
        row.url = page.next or ""

    def _asked(self) -> dict[str, float]:
        """What asking took since the fetch began."""
        return {name: value - self._counts_before.get(name, 0) for name, value in self._client.counts().items()}

    # --- while the API is down

    def _stand_in(self, window: Window, error: SourceUnavailable, began: float) -> Fetched:
        """Let the last pages that have landed stand in for a day."""
        found = self._landed.last_whole_before(window.day, self._endpoint.max_stale_days)
        while found is not None:
            day, fetch = found
            note = self._landed.note(fetch)
            if day == window.day or note.stale_from is None:
                break
            # What stood in for that day is older than it.
            found = self._landed.last_whole_before(
                day - timedelta(days=1), self._endpoint.max_stale_days - (window.day - day).days - 1
            )
        if found is None:
            raise SourceUnavailable(
                f"{error.what}; and nothing has landed in the {self._endpoint.max_stale_days} days before that could stand in for it",
                error.hint,
            ) from error
        day, fetch = found
        stale_from = fetch.began_at
        if day == window.day:
            name, has_landed = fetch.name, False
            if note.stale_from is not None:
                stale_from = LandedFetch(note.stale_from, (), None).began_at
        else:
            name, has_landed = self._name(self._landed.fetches(window.day)), True
            writing = _Writing(self._landed, window.day, name, note.plan, None, None)
            for page in self._landed.pages(fetch):
                writing.take(replace(page, is_stale=True))
            writing.finish(set(note.pages), None, note.records, self._asked(), stale_from=fetch.name)
        return Fetched(
            day=window.day, name=name, has_landed=has_landed, requests=len(note.pages), pages=sum(map(len, note.pages.values())),
            records=note.records, repeated=0, resumed=0, bytes=0, cursor=None, stale_from=stale_from, problem=error.what, signs=(),
            asked=self._asked(), seconds=time.perf_counter() - began, ended_at=self._now(),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Inspected:
    """
    What is looked at in a page: its records, their keys and cursors, the keys of the first and the last if those can be read, and what says
    that there is more, though no page follows.
    """

    rows: int
    keys: list[tuple[str | None, ...]]
    cursors: list[str | None]
    digest: str
    first_key: tuple[str | None, ...] | None
    last_key: tuple[str | None, ...] | None
    sign: str = ""


@dataclass(slots=True)
class _State:
    """Where a fetch stands."""

    counted: set[int] = field(default_factory=set)
    cursor: str | None = None
    records: int = 0
    repeated: int = 0
    ahead: int = 0
    signs: list[str] = field(default_factory=list)

    def count(self, key: tuple[str | None, ...]) -> None:
        """Note that a record came."""
        identity = hash(key)
        if identity in self.counted:
            self.repeated += 1
        self.counted.add(identity)

    def reach(self, endpoint: Endpoint, value: str | None, until: datetime) -> None:
        """Note how far a record's cursor goes; what can't be compared, or is ahead of *until*, is left to the rules of its dataset."""
        assert endpoint.cursor is not None
        if value is None:
            return
        try:
            found = endpoint.cursor.comparable(value)
        except ValueError:
            return
        if isinstance(found, datetime) and found > until:
            self.ahead += 1
            return
        furthest = endpoint.cursor.comparable(self.cursor) if self.cursor is not None else None
        if furthest is None or found > furthest:  # type: ignore[operator]  # one cursor's values are of one kind
            self.cursor = value


class _Writing:
    """
    What of a fetch lands, and when.

    Args:
        landed: the endpoint in the landing zone.
        day: which.
        name: the fetch's.
        plan: digest of how is asked.
        standing: the fetch that counts until now, if it was asked for in the same way.
        note: of that fetch.
    """

    def __init__(
        self, landed: LandedEndpoint, day: date, name: str, plan: str, standing: LandedFetch | None, note: Note | None
    ) -> None:
        self._landed = landed
        self._day = day
        self._name = name
        self._plan = plan
        self._standing = standing
        self._note = note if standing is not None else None
        # As long as every page is the same as there, nothing lands. What stood in for the API is never the same as its answer.
        self._is_same = self._note is not None and self._note.stale_from is None
        self._unlanded: list[NotedPage] = []
        self._gathered: list[Page] = []
        self._gathered_bytes = 0
        self._gathered_since = 0.0
        self._noted: dict[str, list[NotedPage]] = {}
        self._groups = 0
        self.pages = 0
        self.resumed = 0
        self.bytes = 0

    def known(self, request: str, pages: int) -> _Known | None:
        """The page that comes after so many in the fetch that counts; None when it has none."""
        if self._note is None or self._standing is None:
            return None
        found = self._note.pages.get(request, ())
        return _Known(found[pages], self._standing) if pages < len(found) else None

    def landed(self, known: _Known) -> Page:
        """A page as it has landed."""
        group = self._landed.group(known.fetch.groups[known.note.group - 1])
        for page in replace(group, table=group.table.slice(known.note.row, 1)).pages():
            return page
        raise SourceChanged(f"{known.note.url}: the page that was to be the same isn't where its note says", _AGAIN)

    def take(self, page: Page, *, is_resumed: bool = False) -> None:
        """Take a page: it lands, or is the same as one that has."""
        self.pages += 1
        self.resumed += is_resumed
        self.bytes += len(page.body)
        if self._is_same:
            known = self.known(page.request, page.page - 1)
            if known is not None and self._is_same_page(known.note, page):
                self._unlanded.append(known.note)
                return
            self._land_the_same()
        self._add(page)

    @staticmethod
    def _is_same_page(note: NotedPage, page: Page) -> bool:
        return (note.url, note.same, note.is_last) == (page.url, page.same, page.next is None)

    def _land_the_same(self) -> None:
        """Something has changed: what is the same lands all the same, so that the fetch is whole by itself."""
        self._is_same = False
        assert self._standing is not None
        for note in self._unlanded:
            self._add(self.landed(_Known(note, self._standing)))
        self._unlanded = []

    def _add(self, page: Page) -> None:
        if not self._gathered:
            self._gathered_since = time.monotonic()
        self._noted.setdefault(page.request, []).append(
            NotedPage(
                page.url, page.same, page.headers.get("etag", ""), page.headers.get("last-modified", ""), page.records,
                self._groups + 1, len(self._gathered), page.next is None,
            )
        )  # fmt: skip
        self._gathered.append(page)
        self._gathered_bytes += len(page.body)
        if self._gathered_bytes >= GROUP_BYTES:
            self.flush()
        else:
            self.flush_in_time()

    def flush_in_time(self) -> None:
        """Land what has been gathered for long enough."""
        if self._gathered and time.monotonic() - self._gathered_since >= GROUP_SECONDS:
            self.flush()

    def flush(self, *, is_needed: bool = False) -> None:
        """Land what has been gathered; when a group *is_needed*, even of nothing."""
        if not self._gathered and not is_needed:
            return
        number = self._groups + 1
        content = write_pages(
            self._gathered, endpoint=self._landed.endpoint.name, fetch=self._name, group=number, plan=self._plan
        )
        self._landed.put_group(self._day, self._name, number, content)
        self._groups, self._gathered, self._gathered_bytes = number, [], 0

    def finish(
        self,
        requests: set[str],
        cursor: str | None,
        records: int,
        asked: Mapping[str, float],
        *,
        stale_from: str | None = None,
    ) -> bool:
        """Land the note that makes the fetch whole; whether anything landed, which it doesn't when nothing has changed."""
        if self._is_same and self._note is not None:
            if requests == set(self._note.pages) and len(self._unlanded) == sum(map(len, self._note.pages.values())):
                return False
            self._land_the_same()
        # A fetch without any request is whole too, and replaces what counted before: by a group without pages.
        self.flush(is_needed=self._groups == 0)
        pages = {request: tuple(self._noted.get(request, ())) for request in sorted(requests)}
        note = Note(self._plan, pages, cursor, stale_from, records, dict(asked))
        self._landed.put_note(self._day, self._name, self._groups, note)
        return True


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _digest_of(records: Records) -> str:
    """Of records, whatever stands around them."""
    found = hashlib.sha256()
    for text in records.table.column("_extra").to_pylist():
        found.update(json.dumps(text).encode())
    for record in records.rejected:
        found.update(json.dumps(record.record).encode())
    return found.hexdigest()
