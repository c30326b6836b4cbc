"""
The history of changes: every state of each row, from when to when it was so (a slowly changing dimension of type 2).

Belongs here: how it is declared, kept and shown. Doesn't: its SQL (`row_versions.py`), running it (`derive.py`).

A day of the table holds the versions that the day's changes have ended, and those that stand at its end. So each version that has ended is
kept once, and of the others those of the last day count. A change that came late in its order makes all versions of its key anew: they
stand in its day, marked, and what earlier days said of the key doesn't count any more.
"""

from zoneinfo import ZoneInfo

from ingestion_platform.dataset import VALIDITY, Dataset
from ingestion_platform.warehouse.engine import name
from ingestion_platform.warehouse.row_versions import WHERE_FROM, RowVersions, columns_of, names

DOCS = {
    "valid_from": "UTC: since when the row was so.",
    "valid_to": "UTC: until when, that moment excluded; NULL while it is so.",
    "is_current": "Whether it is so still.",
}
KEPT = (("_day", "DATE"), ("_rewrites", "BOOLEAN"))
"""What a day's file has beside the shown columns: its day, and whether it tells all of the key."""


def shown_columns(dataset: Dataset) -> list[str]:
    """The table's columns."""
    return [*(column for column in columns_of(dataset) if column not in WHERE_FROM), *VALIDITY, *WHERE_FROM]


def whole(dataset: Dataset, zone: ZoneInfo) -> str:
    """All of it as a query over all changes."""
    versions = RowVersions(dataset, zone).all(f"select * from {dataset.processed}")
    return f"select {names(shown_columns(dataset))} from ({versions}) as versions"


def of_day(
    dataset: Dataset, zone: ZoneInfo, day: str, *, state: str | None, before: str, since: str, is_truncated: bool
) -> str:
    """
    What a day's file holds, in its order.

    Args:
        dataset: whose.
        zone: the business time zone.
        day: which.
        state: SQL of the file of the day before it; None makes the state of *before*.
        before: SQL of the changes of all days before.
        since: SQL of those of the day.
        is_truncated: whether one of these removes all rows.
    """
    versions = RowVersions(dataset, zone)
    former = f"select * from ({state}) as state where is_current" if state is not None else versions.state(before)
    rows = versions.day(state=former, before=before, since=since, is_truncated=is_truncated)
    shown = names(shown_columns(dataset))
    return (
        f"select {shown}, date '{day}' as _day, _rewrites from ({rows}) as versions"
        f" order by is_current, {names(dataset.primary_key)}, valid_from, {versions.order}"
    )


def shown(dataset: Dataset, files: str, last: str) -> str:
    """
    The table as readers see it.

    Args:
        dataset: whose.
        files: SQL of what the days' files hold.
        last: the last of these days.
    """
    same = " and ".join(f"later.{name(column)} = ended.{name(column)}" for column in dataset.primary_key)
    columns = names(shown_columns(dataset))
    return (
        f"select {columns} from ({files}) as ended where not is_current and not exists"
        f" (select 1 from ({files}) as later where later._rewrites and {same} and later._day > ended._day)"
        f" union all select {columns} from ({files}) as standing where is_current and _day = date '{last}'"
    )
