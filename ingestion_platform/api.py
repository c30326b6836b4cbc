"""
What an API is, and what is asked of it: where it is, who one says one is, how often one may ask, how pages follow, what makes them new.

Belongs here: the declarations, and the names that pages have in the landing zone. Doesn't: asking (`sources/`), the tables made of the
replies (`dataset.py`). Secrets aren't declared: the settings have them, by the API's name.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import field
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic.dataclasses import dataclass

from ingestion_platform.errors import DeclarationError
from ingestion_platform.fetch_folders import choose, day_of_group
from ingestion_platform.format import Csv, Json, JsonLines, Xml
from ingestion_platform.key_template import KeyTemplate
from ingestion_platform.lifecycle import Lifecycle
from ingestion_platform.table import IDENTIFIER, STRICT

# --- who one says one is


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ApiKey:
    """
    A key that goes along with every request. Setting: `key`.

    Args:
        name: of the header or the parameter.
        where: in which of them.
    """

    name: str = "X-Api-Key"
    where: Literal["header", "query"] = "header"


@dataclass(frozen=True, config=STRICT)
class BasicAuth:
    """User and password (RFC 7617). Settings: `username`, `password`."""


@dataclass(frozen=True, config=STRICT)
class BearerToken:
    """A token that goes along with every request (RFC 6750). Setting: `token`."""


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ClientCredentials:
    """
    OAuth 2 for programs (RFC 6749, 4.4): a token is fetched, renewed before it expires, and fetched again when it is refused.
    Settings: `client_id`, `client_secret`.

    Args:
        token_url: where tokens are given; relative to the base URL, or a URL of its own (its host must then be among the API's hosts).
        scope: asked for, space separated.
        client_in: whether the client says who it is in the header (as the standard prefers) or in the body.
        parameters: more of what the token's request holds, as `audience`.
    """

    token_url: str
    scope: str = ""
    client_in: Literal["header", "body"] = "header"
    parameters: Mapping[str, str] = field(default_factory=dict)


Auth = ApiKey | BasicAuth | BearerToken | ClientCredentials

SECRETS: Mapping[type, tuple[str, ...]] = {
    ApiKey: ("key",),
    BasicAuth: ("username", "password"),
    BearerToken: ("token",),
    ClientCredentials: ("client_id", "client_secret"),
}
"""What the settings must say of an API, by how one says who one is."""


@dataclass(frozen=True, config=STRICT)
class Rate:
    """
    How often one may ask: all processes on the machine together.

    Args:
        requests: at most so many…
        seconds: …in any time of this length.
    """

    requests: int
    seconds: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.requests <= 100_000 or not 0 < self.seconds <= 86_400:
            raise DeclarationError(
                f"Rate({self.requests}, {self.seconds}): 1 to 100,000 requests in up to 86,400 seconds",
                "as in Rate(10, 1)",
            )


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Api:
    """
    One API, declared once; any number of endpoints ask it.

    Args:
        name: snake_case; the settings speak of it by this name.
        base_url: `https://api.example.com/v1`. The settings may name another, as a test server's.
        auth: how one says who one is; None: not at all.
        rate: how often one may ask; None: as fast as `concurrency` goes.
        concurrency: requests under way at a time, of one fetch.
        hosts: hosts beside the base URL's that links, redirects and the token's URL may lead to: `files.example.com`. Credentials only
            ever go to the base URL's own host, and the token's.
        private_hosts: addresses that aren't public (of the own network, of this machine) may be asked.
        headers: that every request has beside the usual ones. No secrets.
        timeout_seconds: without a byte for so long, a request has failed.
        patience_seconds: for how long a request that fails in passing is tried again, waiting included.
        max_page_bytes: a reply larger than this, once decompressed, is refused.
    """

    name: str
    base_url: str
    auth: Auth | None = None
    rate: Rate | None = None
    concurrency: int = 4
    hosts: tuple[str, ...] = ()
    private_hosts: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: float = 30.0
    patience_seconds: float = 300.0
    max_page_bytes: int = 64 * 1024**2

    def __post_init__(self) -> None:
        if IDENTIFIER.fullmatch(self.name) is None:
            raise self._error("a name is snake_case and starts with a letter", "rename it")
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise self._error(f"base_url {self.base_url!r} is no base of URLs", "as in https://api.example.com/v1")
        if parts.username or parts.password:
            raise self._error("base_url holds a user or a password", "declare auth, and put secrets into the settings")
        if parts.scheme == "http" and self.auth is not None and not self.private_hosts:
            raise self._error("secrets would go over the network in clear", "use https://")
        if self.concurrency < 1 or self.timeout_seconds <= 0 or self.patience_seconds < 0 or self.max_page_bytes < 1:
            raise self._error(
                "concurrency, timeout_seconds and max_page_bytes are more than 0, patience_seconds isn't less"
            )
        for host in self.hosts:
            if not host or "/" in host or ":" in host or host != host.lower():
                raise self._error(f"{host!r} is no host", "as in files.example.com, without https:// and port")
        secret = next((name for name in self.headers if name.lower() in ("authorization", "cookie", "x-api-key")), None)
        if secret is not None:
            raise self._error(f"header {secret!r} would hold a secret", "declare auth; the settings have the secret")
        key = {self.auth.name: ""} if isinstance(self.auth, ApiKey) and self.auth.where == "header" else {}
        for name, value in {**self.headers, **key}.items():
            if _HEADER_NAME.fullmatch(name) is None or _HEADER_VALUE.fullmatch(value) is None:
                raise self._error(
                    f"header {name!r} can't be sent", "letters, digits and - in its name; ASCII on one line"
                )

    def __hash__(self) -> int:
        return hash((self.name, self.base_url))

    def _error(self, what: str, hint: str = "") -> DeclarationError:
        return DeclarationError(f"API {self.name!r}: {what}", hint)


# --- how pages follow


@dataclass(frozen=True, config=STRICT)
class OnePage:
    """The reply is all there is."""


@dataclass(frozen=True, config=STRICT, kw_only=True)
class LinkHeader:
    """
    The next page's URL is in the header `Link` (RFC 8288).

    Whether records are lost or doubled when others come or go meanwhile is up to what the server puts into the link.

    Args:
        rel: the relation that it has.
    """

    rel: str = "next"


@dataclass(frozen=True, config=STRICT)
class NextLink:
    """
    The next page's URL is in the reply; without it, or when it is null or empty, there is none.

    Whether records are lost or doubled when others come or go meanwhile is up to what the server puts into the link.

    Args:
        path: dotted path of the member: `paging.next`.
    """

    path: str


@dataclass(frozen=True, config=STRICT)
class PageToken:
    """
    The reply has what the next page is asked with; without it, or when it is null or empty, there is none.

    Where the token says after which record to go on (as most do), no record that was there all the time is lost or doubled when others come
    or go meanwhile.

    Args:
        param: the parameter that takes it.
        path: dotted path of the member: `data.after`.
    """

    param: str
    path: str


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Offset:
    """
    Pages are asked by how many records to leave out. The next page begins after the records that came, not after those asked for: a server
    may give fewer. A page without records is the last, unless the total says it before.

    When records come or go before the offset meanwhile, others move: with the endpoint's `record_key`, each page is asked from the last
    record of the one before, and when another record stands there, the fetch begins anew; no record that was there all the time is then
    lost or doubled, as long as the order of records stays. Without it, records may be lost or doubled.

    Args:
        offset: the parameter.
        limit: the parameter of the page's size; None when there is none.
        size: the page's size asked for.
        total: dotted path of how many records there are; None when the reply doesn't say.
        begin: the first offset.
    """

    offset: str = "offset"
    limit: str | None = "limit"
    size: int = 100
    total: str | None = None
    begin: int = 0


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PageNumber:
    """
    Pages are asked by their number. A page without records is the last, unless the number of pages says it before.

    When records come or go meanwhile, records may be lost or doubled: a page number can promise nothing. With the endpoint's `record_key`,
    doubled ones are counted.

    Args:
        page: the parameter.
        size_param: the parameter of the page's size; None when there is none.
        size: the page's size asked for.
        first: the first page's number.
        pages: dotted path of how many pages there are; None when the reply doesn't say.
    """

    page: str = "page"
    size_param: str | None = None
    size: int = 100
    first: int = 1
    pages: str | None = None


Paging = OnePage | LinkHeader | NextLink | PageToken | Offset | PageNumber

# --- what is asked for


@dataclass(frozen=True, config=STRICT)
class EachValue:
    """
    One request for each of some values.

    Args:
        name: the placeholder.
        values: what it stands for.
    """

    name: str
    values: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Placeholders that it fills."""
        return (self.name,)


@dataclass(frozen=True, config=STRICT)
class EachRow:
    """
    One request for each row of a snapshots dataset, as it stood on the day.

    Args:
        dataset: its name.
        take: placeholder → column.
        where: a condition on its columns, in SQL; empty: every row.
    """

    dataset: str
    take: Mapping[str, str]
    where: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Placeholders that it fills."""
        return tuple(self.take)


@dataclass(frozen=True, config=STRICT)
class EachRecord:
    """
    One request for each record that another endpoint has landed for the same day: `/orders/{order_id}/lines`.

    Args:
        endpoint: the other one.
        take: placeholder → dotted path in its records.
        patterns: placeholder → regular expression whose first group is the part of the value that is meant, where it isn't all of it:
            `{"id": r"/orders/([0-9]+)"}` of a record that has a URL.
    """

    endpoint: "Endpoint"
    take: Mapping[str, str]
    patterns: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, pattern in self.patterns.items():
            try:
                groups = re.compile(pattern).groups
            except re.error as error:
                raise DeclarationError(f"EachRecord: pattern {pattern!r} is no regular expression: {error}") from error
            if name not in self.take or groups < 1:
                raise DeclarationError(
                    f"EachRecord: pattern {pattern!r} of {name!r} takes nothing",
                    "name one of take, and put a group around what is meant",
                )

    @property
    def names(self) -> tuple[str, ...]:
        """Placeholders that it fills."""
        return tuple(self.take)


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Cursor:
    """
    Only what is new since the last fetch is asked for: `{cursor}` in a parameter stands for the furthest value that has landed.

    Which value that is, is read from the landing zone. A record that changes comes again; what a dataset makes of that is up to its kind:
    `changes` gives the history of each record and its last state.

    Args:
        field: dotted path in a record.
        begin: the value to begin with when nothing has landed yet.
        kind: how values are compared: moments (ISO 8601), numbers, or texts.
        overlap_seconds: of moments: ask from so long before the furthest one, for servers whose records become visible out of order.
    """

    field: str
    begin: str
    kind: Literal["moment", "number", "text"] = "moment"
    overlap_seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.overlap_seconds and self.kind != "moment":
            raise DeclarationError("Cursor: only moments have an overlap in seconds", "leave overlap_seconds out")
        try:
            self.comparable(self.begin)
        except ValueError as error:
            raise DeclarationError(
                f"Cursor: begin {self.begin!r} is no {self.kind}", "as its values are written"
            ) from error

    def comparable(self, value: str) -> datetime | float | str:
        """
        What a value is compared by; a moment without an offset is taken as UTC.

        Raises:
            ValueError: it isn't of the kind.
        """
        if self.kind == "text":
            return value
        if self.kind == "number":
            return float(value)
        moment = datetime.fromisoformat(value)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


WINDOW = ("day", "window_start", "window_end", "window_last")
"""
Placeholders of the partition: the business day; the moments at which it begins and the next one begins; its last microsecond, for APIs that
take the end as included.
"""
PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)(?::([^{}]+))?\}")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"([\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?)?")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Endpoint:
    """
    What is asked of an API for a day, declared once: it lands as pages, and any number of datasets are made of them (`ApiPages`).

    `path` and `params` may hold placeholders: `{day}`, `{window_start}`, `{window_end}`, `{window_last}`, `{cursor}` and what `each` gives.
    Moments are written as ISO 8601 in the API's time zone, or as a format says: `{window_start:%d.%m.%Y}`, `{window_end:epoch}` (seconds
    since 1970), `{window_end:epoch_ms}`. What is asked without any of the day's placeholders tells the present: it is fetched for today,
    and past days can't be fetched any more.

    Args:
        name: snake_case; its asset is `landing/<name>`.
        description: what one reply is.
        api: whom to ask.
        path: below the base URL: `/stores/{store_id}/weather`.
        params: of the query.
        format: what replies are, and where their records are in them.
        paging: how pages follow.
        each: one request for each of several values, rows or records; None: one request.
        cursor: ask only for what is new; None: for all of the day.
        record_key: where in a record is what tells it from others: with it, paging by offset notices that records have moved, and records
            that came twice are counted.
        same_when: when a page is the same as the last time: when all its bytes are (`body`), or when its `records` are, whatever stands
            around them.
        none_when: statuses that mean that there are no records, as 404 of a thing that has none.
        first_day: the first business day that can be asked for.
        time_zone: the API's, for the moments asked with. Default: the business time zone.
        schedule: cron, in business time, of its fetches; None: only by hand and at the close of the day.
        refetch_days: how many past days a scheduled fetch asks for again, beside today: what has changed lands, what hasn't doesn't.
        fallback: when the API is down for longer than its patience: `fail`, or `last_known`: the last pages that have landed stand in for
            the day, marked as stale, and the check `fresh` fails.
        max_stale_days: how old those may be.
        max_pages: more pages in one request's row are taken for a list without end.
        lifecycle: how what has landed of it ages; None: it doesn't.
        owners: `team:name` or an e-mail address.
        tags: shown in Dagster.
    """

    name: str
    description: str
    api: Api
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    format: Json | JsonLines | Csv | Xml = Json()
    paging: Paging = OnePage()
    each: EachValue | EachRow | EachRecord | None = None
    cursor: Cursor | None = None
    record_key: tuple[str, ...] = ()
    same_when: Literal["body", "records"] = "body"
    none_when: tuple[int, ...] = ()
    first_day: date
    time_zone: str | None = None
    schedule: str | None = None
    refetch_days: int = 1
    fallback: Literal["fail", "last_known"] = "fail"
    max_stale_days: int = 7
    max_pages: int = 100_000
    lifecycle: Lifecycle | None = None
    owners: tuple[str, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._require(
            IDENTIFIER.fullmatch(self.name) is not None, "a name is snake_case and starts with a letter", "rename it"
        )
        self._require(bool(self.description.strip()), "it has no description", "say what one reply is")
        self._require(
            self.path.startswith("/") and not urlsplit(self.path).query and ".." not in self.path.split("/"),
            f"path {self.path!r} is none",
            "it begins with /, goes below the base URL, and has no ?: parameters go into params",
        )
        allowed = (*WINDOW, *(("cursor",) if self.cursor else ()), *(self.each.names if self.each else ()))
        for text in (self.path, *self.params.values()):
            for name, _ in PLACEHOLDER.findall(text):
                self._require(
                    name in allowed, f"{text!r} has a placeholder {{{name}}}", f"there are {', '.join(allowed)}"
                )
            self._require(
                not re.search("[{}]", PLACEHOLDER.sub("", text)),
                f"{text!r} has a brace that is part of no placeholder",
                "as in {day} or {window_start:%Y-%m-%d}",
            )
        for name in self.each.names if self.each else ():
            self._require(
                IDENTIFIER.fullmatch(name) is not None and name not in (*WINDOW, "cursor"),
                f"{name!r} can't be a placeholder of its own",
                "rename it",
            )
        if isinstance(self.each, EachValue):
            self._require(bool(self.each.values), "each has no values", "name some")
        self._require(
            self.cursor is None or "cursor" in self._placeholders,
            "it has a cursor, and no parameter takes it",
            "as in params={'since': '{cursor}'}",
        )
        self._require(
            self.cursor is None or (not self.asks_for_days and self.each is None),
            "it asks for days or for each of several, and for what is new since the last time",
            "either, or",
        )
        self._require(
            self.fallback == "fail" or self.cursor is None, "what is new can't be stood in for", "fallback='fail'"
        )
        self._require(
            self.refetch_days >= 0 and self.max_stale_days >= 0 and self.max_pages >= 1, "a number is too small"
        )
        self._require(all(400 <= status < 500 for status in self.none_when), "none_when holds statuses from 400 to 499")
        if isinstance(self.paging, Offset | PageNumber):
            self._require(
                self.paging.size >= (2 if self.overlaps else 1), f"a page of {self.paging.size} records is too small"
            )
        if self.time_zone is not None:
            try:
                ZoneInfo(self.time_zone)
            except (ZoneInfoNotFoundError, ValueError) as error:
                raise self._error(f"time_zone {self.time_zone!r} is unknown", "as in Europe/Berlin") from error

    def __hash__(self) -> int:
        return hash((self.name, self.api, self.path))

    def _error(self, what: str, hint: str = "") -> DeclarationError:
        return DeclarationError(f"endpoint {self.name!r}: {what}", hint)

    def _require(self, holds: bool, what: str, hint: str = "") -> None:
        if not holds:
            raise self._error(what, hint)

    @property
    def _placeholders(self) -> frozenset[str]:
        return frozenset(name for text in (self.path, *self.params.values()) for name, _ in PLACEHOLDER.findall(text))

    @property
    def asks_for_days(self) -> bool:
        """Whether a past day can be asked for: the replies are a function of it."""
        if isinstance(self.each, EachRecord) and self.each.endpoint.asks_for_days:
            return True
        return not self._placeholders.isdisjoint(WINDOW)

    @property
    def overlaps(self) -> bool:
        """Whether each page is asked from the last record of the one before."""
        return isinstance(self.paging, Offset) and bool(self.record_key)

    @property
    def root(self) -> str:
        """The prefix of everything that lands of it."""
        return f"apis/{self.name}/"

    @cached_property
    def template(self) -> KeyTemplate:
        """Keys of its pages: the day, when the fetch began, and the number of the group in it."""
        return KeyTemplate(f"{self.root}%Y/%m/%d/{{fetch}}/{{group}}.parquet")

    def day_prefix(self, day: date) -> str:
        """The prefix of what has landed for a day."""
        return f"{self.root}{day.year:04}/{day:%m/%d}/"

    def group_key(self, day: date, fetch: str, number: int) -> str:
        """The key of some of a fetch's pages."""
        return f"{self.day_prefix(day)}{fetch}/{number:05}.parquet"

    def done_key(self, day: date, fetch: str, groups: int) -> str:
        """The key of the note that a fetch is whole, of so many groups."""
        return f"{self.day_prefix(day)}{fetch}/done-{groups}.json"


PAGE_FIELDS = ("@fetched_at", "@page", "@url", "@position", "@is_stale")
"""
Sources of what is around a record; beside them `@param.<name>`, what `each` gave. `@position` ascends with the fetch and the record in it;
`@is_stale` is `true` for what stands in for a day on which the API was down.
"""


@dataclass(frozen=True, config=STRICT)
class Pages:
    """
    How an endpoint's pages are read as rows.

    Args:
        inside: what each page is.
        max_bytes: a group of pages that is larger is rejected.
    """

    inside: Json | JsonLines | Csv | Xml
    max_bytes: int = 1024**3


@dataclass(frozen=True, config=STRICT)
class ApiPages:
    """
    The pages that an endpoint has landed as: a dataset's source. Several datasets may be made of one endpoint.

    Of a day's fetches the last whole one counts; of an endpoint with a cursor all of them do, since each has what is new. A column's source
    is a field of the record as its format has it, or one of `@fetched_at`, `@page`, `@url`, `@position`, `@is_stale`, `@param.<name>`.

    Args:
        endpoint: which.
        other_format: where this dataset's records are in the replies, when elsewhere than the endpoint's own.
    """

    endpoint: Endpoint
    other_format: Json | JsonLines | Csv | Xml | None = None

    @cached_property
    def format(self) -> Pages:
        """How pages are read."""
        return Pages(self.other_format or self.endpoint.format)

    @property
    def templates(self) -> str:
        """The key template of the pages."""
        return self.endpoint.template.text

    @property
    def keys(self) -> tuple[KeyTemplate, ...]:
        """The same, compiled."""
        return (self.endpoint.template,)

    @property
    def captures(self) -> frozenset[str]:
        """What a key tells beside the day: nothing that a table would want."""
        return frozenset()

    def match(self, key: str) -> tuple[date, dict[str, str]] | None:
        """The day and the captures of a page group's key, or None when it isn't one."""
        return day_of_group(self.endpoint.template, key)

    def choose(self, keys: Iterable[str]) -> tuple[frozenset[str], Mapping[str, str]]:
        """
        Which of a day's keys count.

        Returns:
            Those of pages that count; and those of pages that counted before a later fetch, with the reason why they don't any more.
        """
        return choose(keys, adds_up=self.endpoint.cursor is not None, what="fetch")
