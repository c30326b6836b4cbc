"""
The current table of changes: for each key its last change, without the keys that were removed.

Belongs here: how it is declared and shown. Doesn't: its SQL (`row_versions.py`), running it (`derive.py`), the changes it is made of
(`process.py`).

A day of the table is the state at that day's end: a pure function of every day of the changes up to it. It is computed from the newest
earlier state that still holds, where there is one, and gives the same rows as from all days: changes of the days after it, and of the rows
that these touch their last change. A key's changes may stand in other days than their order says (a shard's last record lands after
midnight, the first one of the shard that follows it before): what they touch is made of all changes.
"""

from zoneinfo import ZoneInfo

from ingestion_platform.dataset import Dataset
from ingestion_platform.warehouse.row_versions import RowVersions, columns_of, names


def whole(dataset: Dataset, zone: ZoneInfo) -> str:
    """The state as a query over all changes."""
    versions = RowVersions(dataset, zone)
    return f"select {names(columns_of(dataset))} from ({versions.state(f'select * from {dataset.processed}')}) as state"


def advanced(dataset: Dataset, zone: ZoneInfo, *, state: str, before: str, after: str, is_truncated: bool) -> str:
    """
    The same rows from an earlier state.

    Args:
        dataset: whose.
        zone: the business time zone.
        state: SQL of the relation of an earlier state.
        before: SQL of the changes that it was made of.
        after: SQL of the changes since then.
        is_truncated: whether one of these removes all rows.
    """
    columns = names(columns_of(dataset))
    versions = RowVersions(dataset, zone).day(
        state=f"select {columns}, null::timestamp as valid_from from ({state}) as state",
        before=before,
        since=after,
        is_truncated=is_truncated,
    )
    return f"select {columns} from ({versions}) as versions where is_current"
