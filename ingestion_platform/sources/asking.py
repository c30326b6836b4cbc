"""
What is asked of an API for a day: placeholders filled, one first URL for each request.

Belongs here: text. Doesn't: asking (`http_client.py`), which URL follows (`paging.py`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

from ingestion_platform.api import PLACEHOLDER, Endpoint
from ingestion_platform.errors import SourceError


@dataclass(frozen=True, slots=True)
class Window:
    """
    A business day as it is asked for.

    Args:
        day: which.
        start: UTC; when it begins.
        end: UTC; when the next one begins.
    """

    day: date
    start: datetime
    end: datetime

    @classmethod
    def of(cls, day: date, zone: ZoneInfo) -> "Window":
        """A day of business time."""
        begins = [datetime(one.year, one.month, one.day, tzinfo=zone) for one in (day, day + timedelta(days=1))]
        return cls(day, begins[0].astimezone(UTC), begins[1].astimezone(UTC))


@dataclass(frozen=True, slots=True)
class Ask:
    """
    One request, before its first page.

    Args:
        path: below the base URL, percent-encoded.
        query: its parameters, not yet encoded.
        params: what `each` gave for it.
    """

    path: str
    query: Mapping[str, str]
    params: Mapping[str, str]


def ask(endpoint: Endpoint, window: Window, zone: ZoneInfo, params: Mapping[str, str], cursor: str | None) -> Ask:
    """
    Fill an endpoint's placeholders.

    Args:
        endpoint: whose.
        window: the day asked for.
        zone: business time; moments are written in it unless the endpoint says otherwise.
        params: what `each` gives.
        cursor: the furthest value that has landed.

    Raises:
        SourceError: a value can't be part of a path.
    """
    api_zone = ZoneInfo(endpoint.time_zone) if endpoint.time_zone else zone
    moments = {
        "window_start": window.start,
        "window_end": window.end,
        "window_last": window.end - timedelta(microseconds=1),
    }

    def fill(name: str, how: str) -> str:
        if name in params:
            return params[name]
        if name == "day":
            return format(window.day, how) if how else window.day.isoformat()
        if name == "cursor":
            assert cursor is not None, "an endpoint with a cursor is asked with one"
            return _cursor(endpoint, cursor, how)
        return written(moments[name].astimezone(api_zone), how)

    def in_path(found: re.Match[str]) -> str:
        value = fill(found[1], found[2] or "")
        if value in ("", ".", ".."):
            raise SourceError(
                f"endpoint {endpoint.name!r}: {value!r} can't stand for {{{found[1]}}} in path {endpoint.path!r}",
                "see where the value comes from",
            )
        return quote(value, safe="")

    return Ask(
        PLACEHOLDER.sub(in_path, endpoint.path),
        {
            name: PLACEHOLDER.sub(lambda found: fill(found[1], found[2] or ""), text)
            for name, text in endpoint.params.items()
        },
        params,
    )


def request_name(url: str, params: Mapping[str, str]) -> str:
    """What tells a request from others: its first URL, behind `#` (which isn't sent) what `each` gave for it."""
    return f"{url}#{urlencode(params)}" if params else url


def written(moment: datetime, how: str) -> str:
    """A moment as a placeholder's format says; ISO 8601 without one."""
    if how == "epoch":
        return str(int(moment.timestamp()))
    if how == "epoch_ms":
        return str(int(moment.timestamp() * 1000))
    return moment.strftime(how) if how else moment.isoformat(timespec="seconds")


def _cursor(endpoint: Endpoint, value: str, how: str) -> str:
    assert endpoint.cursor is not None
    if not how and not endpoint.cursor.overlap_seconds:
        return value
    moment = endpoint.cursor.comparable(value)
    if not isinstance(moment, datetime):
        return value
    moment -= timedelta(seconds=endpoint.cursor.overlap_seconds)
    if how:
        return written(moment, how)
    text = moment.isoformat()
    return text.replace("+00:00", "Z") if value.endswith("Z") else text
