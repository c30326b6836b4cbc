"""How far long work is: what is done, how fast, and about how long it still takes, as lines of the run's log."""

import time
from collections.abc import Callable
from datetime import datetime

from ingestion_platform.sources.drain import LandedSegment, ShardState
from ingestion_platform.stream import Stream

TOLD_EVERY_SECONDS = 10.0


class DaysProgress:
    """
    Says how far a range of days is.

    Args:
        days: how many there are to do.
        clock: seconds.
    """

    def __init__(self, days: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._days = days
        self._clock = clock
        self._began = clock()
        self._done = 0

    def day_done(self) -> str:
        """Take note of a day; what to say behind its story."""
        self._done += 1
        if self._days == 1:
            return ""
        seconds = self._clock() - self._began
        left = seconds * (self._days - self._done) / self._done
        return f" ({self._done:,} of {self._days:,} days" + (f", about {left:,.0f} s to go)" if left >= 1 else ")")


class _NowAndThen:
    """
    Says something once in a while.

    Args:
        what: the table or asset, and the day.
        say: takes each line.
        clock: seconds.
    """

    def __init__(self, what: str, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._say = say
        self._clock = clock
        self._began = self._told = clock()

    def _seconds_if_due(self) -> float | None:
        """How long it has taken until now, when it is time to say something again."""
        now = self._clock()
        if now - self._told < TOLD_EVERY_SECONDS:
            return None
        self._told = now
        return now - self._began


class LoadProgress(_NowAndThen):
    """Says how far the load of a day is."""

    _rows = 0

    def object_read(self, number: int, of: int, rows: int) -> None:
        """Take note of an object: which of how many, and its rows."""
        self._rows = rows if number == 1 else self._rows + rows
        seconds = self._seconds_if_due()
        if seconds is not None:
            self._say(
                f"{self._what}: {number:,} of {of:,} objects, {self._rows:,} rows, {self._rows / seconds:,.0f} a second,"
                f" {seconds * (of - number) / number:,.0f} s to go"
            )


class FetchProgress(_NowAndThen):
    """Says how far a fetch is. How many pages there will be, an API doesn't say."""

    def page_came(self, pages: int, records: int) -> None:
        """Take note of a page: how many there are by now, and their records."""
        seconds = self._seconds_if_due()
        if seconds is not None:
            self._say(f"{self._what}: {pages:,} pages, {records:,} records, {pages / seconds:,.1f} pages a second")


class ExtractProgress(_NowAndThen):
    """Says how far an extract is."""

    def rows_came(self, rows: int) -> None:
        """Take note of rows: how many there are by now."""
        seconds = self._seconds_if_due()
        if seconds is not None:
            self._say(f"{self._what}: {rows:,} rows, {rows / seconds:,.0f} a second")


class CopyProgress:
    """
    Says how far a copy of remote files is.

    Args:
        what: the asset and the day.
        say: takes each line.
        clock: seconds.
    """

    def __init__(self, what: str, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._say = say
        self._clock = clock
        self._began = self._told = clock()

    def read(self, number: int, of: int, bytes_read: int) -> None:
        """Take note of bytes that were read: how many files are done by now, of how many that are to be copied, and all their bytes."""
        now = self._clock()
        if now - self._told < TOLD_EVERY_SECONDS:
            return
        self._told = now
        self._say(
            f"{self._what}: {number:,} of {of:,} files, {bytes_read / 1e6:,.1f} MB,"
            f" {bytes_read / 1e6 / (now - self._began):,.1f} MB a second"
        )


class DrainProgress:
    """
    Says how far a drain is, while it runs.

    Args:
        stream: which.
        say: takes each line.
    """

    def __init__(self, stream: Stream, say: Callable[[str], None]) -> None:
        self._stream = stream
        self._say = say
        self._began = self._told = time.monotonic()
        self._records = 0
        self._window: tuple[datetime, datetime] | None = None
        self._reached: dict[str, datetime] = {}

    def covers(self, first: datetime, until: datetime) -> None:
        """Set the window (UTC) that a replay covers: then it is known how much is left."""
        self._window = (first, until)

    def landed(self, segment: LandedSegment, state: ShardState) -> None:
        """Take note of a segment."""
        self._records += segment.records
        self._reached[segment.shard] = segment.hour
        now = time.monotonic()
        if now - self._told < TOLD_EVERY_SECONDS:
            return
        self._told = now
        seconds = now - self._began
        left = ""
        if self._window is not None:
            first, until = (moment.replace(tzinfo=None) for moment in self._window)
            hours = sum((hour - first).total_seconds() for hour in self._reached.values()) / len(self._reached)
            done = min(max(hours / max((until - first).total_seconds(), 1.0), 0.01), 1.0)
            left = f", about {done * 100:.0f} %, {seconds / done - seconds:.0f} s to go"
        self._say(
            f"{self._stream.name}: {self._records:,} records landed, {self._records / seconds:,.0f} a second,"
            f" at {max(self._reached.values()):%Y-%m-%d %H}h{left}"
        )
