"""Business days as UTC bounds."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo


def start_of(day: date, zone: ZoneInfo) -> datetime:
    """The first moment of a business day: UTC, without a zone, as tables hold it."""
    return datetime.combine(day, time.min, zone).astimezone(UTC).replace(tzinfo=None)


def bounds(day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """First moment of a business day, and of the next one."""
    return start_of(day, zone), start_of(day + timedelta(days=1), zone)


def span(first: date, last: date) -> list[date]:
    """All days from *first* to *last*, both included."""
    return [first + timedelta(days=offset) for offset in range((last - first).days + 1)]
