"""
Which page follows: from a reply to the URL of the next one.

Belongs here: what each way of paging says. Doesn't: asking (`http_client.py`), what of it lands (`fetch.py`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from ingestion_platform.api import LinkHeader, NextLink, Offset, OnePage, PageNumber, PageToken, Paging
from ingestion_platform.errors import SourceChanged
from ingestion_platform.formats.json_members import NotAnObject, peek

_LINK = re.compile(r"<([^>]*)>((?:\s*;\s*[^\s;,=]+\s*(?:=\s*(?:\"(?:[^\"\\]|\\.)*\"|[^\s;,\"]*))?)*)")
_PARAMETER = re.compile(r";\s*([^\s;,=]+)\s*(?:=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s;,\"]*)))?")


_NEXT = (
    "next",
    "next_url",
    "nextUrl",
    "next_page",
    "nextPage",
    "nextLink",
    "@odata.nextLink",
    "next_cursor",
    "nextCursor",
)
_SAY_MORE = (
    *_NEXT, "next_page_token", "nextPageToken", "has_more", "hasMore", "has_next", "hasNext",
    *(f"{holder}.{name}" for holder in ("paging", "pagination", "links", "_links", "meta", "page", "data") for name in _NEXT[:3]),
)  # fmt: skip
"""Members in which APIs commonly say that there is more."""
_SAY_NO_MORE = (None, "", "false", "0", "{}", "[]")


@dataclass(frozen=True, slots=True)
class Seen:
    """
    Where a request stands after a page.

    Args:
        url: of the page, without secrets.
        headers: of the reply, lower-case names.
        body: of the reply.
        page: its number, from 1.
        new_records: those that the page before didn't have.
        records: those of all pages until now.
    """

    url: str
    headers: Mapping[str, str]
    body: bytes
    page: int
    new_records: int
    records: int


def first_params(paging: Paging) -> dict[str, str]:
    """Parameters of the first page."""
    match paging:
        case Offset():
            size = {paging.limit: str(paging.size)} if paging.limit else {}
            return {paging.offset: str(paging.begin), **size}
        case PageNumber():
            size = {paging.size_param: str(paging.size)} if paging.size_param else {}
            return {paging.page: str(paging.first), **size}
        case _:
            return {}


def next_url(paging: Paging, seen: Seen, *, overlaps: bool) -> str | None:
    """
    The URL of the page that follows; None after the last.

    Args:
        paging: as declared.
        seen: the page.
        overlaps: whether a page begins with the last record of the one before.

    Raises:
        SourceChanged: the reply doesn't say what it should.
    """
    match paging:
        case OnePage():
            return None
        case LinkHeader():
            link = _link(seen.headers.get("link", ""), paging.rel)
            return urljoin(seen.url, link) if link is not None else None
        case NextLink():
            link = _told(seen, paging.path)
            return urljoin(seen.url, link) if link else None
        case PageToken():
            token = _told(seen, paging.path)
            return with_params(seen.url, {paging.param: token}) if token else None
        case Offset():
            if seen.new_records == 0 or _is_over(seen, paging.total, seen.records):
                return None
            at = paging.begin + seen.records - (1 if overlaps else 0)
            return with_params(seen.url, {paging.offset: str(at)})
        case PageNumber():
            if seen.new_records == 0 or _is_over(seen, paging.pages, seen.page):
                return None
            return with_params(seen.url, {paging.page: str(paging.first + seen.page)})


def sign_of_more(seen: Seen) -> str:
    """What of a reply after which no page follows says that there is more, in words; empty when nothing does."""
    link = _link(seen.headers.get("link", ""), "next")
    if link is not None:
        return f"its Link header names a next page, {link[:200]}"
    body = seen.body.strip(b" \t\r\n\xef\xbb\xbf")
    if not body.startswith(b"{"):
        return ""
    for path in _SAY_MORE:
        try:
            found = peek(body, path)
        except NotAnObject:
            return ""
        if found not in _SAY_NO_MORE:
            return f"its {path!r} is {found[:200]!r}"
    return ""


def _told(seen: Seen, path: str) -> str | None:
    """The text or number under a path; None when there is none."""
    if not seen.body:
        return None
    try:
        found = peek(seen.body.strip(b" \t\r\n\xef\xbb\xbf"), path)
    except NotAnObject as error:
        raise SourceChanged(
            f"{seen.url}: what follows is declared under {path!r}, and the reply {error}",
            "the API has changed, or the paging is declared wrong",
        ) from error
    if found is not None and found[:1] in ("{", "["):
        raise SourceChanged(
            f"{seen.url}: what follows is declared under {path!r}, and there is no text but {found[:60]}",
            "the API has changed, or the paging is declared wrong",
        )
    return found


def _is_over(seen: Seen, path: str | None, reached: int) -> bool:
    """Whether as many were reached as the reply says there are."""
    if path is None or not seen.body:
        return False
    found = _told(seen, path)
    if found is None or not re.fullmatch("[0-9]{1,15}", found):
        raise SourceChanged(
            f"{seen.url}: how many there are is declared under {path!r}, and there is {found!r}",
            "the API has changed, or the paging is declared wrong",
        )
    return reached >= int(found)


def with_params(url: str, params: Mapping[str, str]) -> str:
    """A URL with some of its parameters set."""
    parts = urlsplit(url)
    kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in params]
    return urlunsplit(parts._replace(query=urlencode([*kept, *params.items()]), fragment=""))


def _link(header: str, rel: str) -> str | None:
    """The target of a relation in a `Link` header (RFC 8288)."""
    for target, parameters in _LINK.findall(header):
        for name, quoted, plain in _PARAMETER.findall(parameters):
            if name.lower() == "rel" and rel.lower() in (quoted or plain).lower().split():
                return str(target)
    return None
