"""
Days as Dagster's partitions, in business time.

Today is a partition too: stores send during the day and at closing time, long before the day is over in Dagster's own sense (hence the
end offset of one). Tables that begin on the same day share one definition, and only those can be chosen together with Dagster's
`--partition`; the platform's own runs cover mixed ones.
"""

from collections.abc import Iterable, Sequence
from datetime import date, timedelta

import dagster as dg

from ingestion_platform.orchestration.quiet import quiet


def daily(first_day: date, time_zone: str) -> dg.DailyPartitionsDefinition:
    """Every day from *first_day* to today."""
    return dg.DailyPartitionsDefinition(first_day.isoformat(), timezone=time_zone, end_offset=1)


def reading_days(first: int, last: int) -> dg.TimeWindowPartitionMapping:
    """A day that reads from *first* to *last* days around itself, as far as they exist."""
    with quiet():
        return dg.TimeWindowPartitionMapping(
            start_offset=first, end_offset=last, allow_nonexistent_upstream_partitions=True
        )


def day_of(partition_key: str) -> date:
    """The day that a partition key stands for."""
    return date.fromisoformat(partition_key)


def runs_of_days(days: Iterable[date], longest: int) -> list[tuple[date, date]]:
    """Days put together to contiguous ranges of *longest* days at most, both ends included."""
    ranges: list[tuple[date, date]] = []
    for day in sorted(set(days)):
        if ranges:
            first, last = ranges[-1]
            if day - last == timedelta(days=1) and (day - first).days < longest:
                ranges[-1] = (first, day)
                continue
        ranges.append((day, day))
    return ranges


def days_between(first: date, last: date) -> Sequence[date]:
    """Every day from *first* to *last*, both included."""
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]
