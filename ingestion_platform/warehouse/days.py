"""Business days as UTC bounds."""

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

STEADY_SINCE = date(1970, 1, 1)
"""From here on `steady_offset` holds."""


def start_of(day: date, zone: ZoneInfo) -> datetime:
    """The first moment of a business day: UTC, without a zone, as tables hold it."""
    return datetime.combine(day, time.min, zone).astimezone(UTC).replace(tzinfo=None)


def bounds(day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """First moment of a business day, and of the next one."""
    return start_of(day, zone), start_of(day + timedelta(days=1), zone)


def span(first: date, last: date) -> list[date]:
    """All days from *first* to *last*, both included."""
    return [first + timedelta(days=offset) for offset in range((last - first).days + 1)]


@lru_cache(maxsize=32)
def steady_offset(zone: ZoneInfo) -> timedelta | None:
    """The zone's offset from UTC, when it has been the same on every day since `STEADY_SINCE` and will be; None when it changes."""
    noons = (datetime.combine(day, time(12), zone) for day in span(STEADY_SINCE, date(2100, 1, 1))[::7])
    offsets = {noon.utcoffset() for noon in noons}
    return offsets.pop() if len(offsets) == 1 else None
