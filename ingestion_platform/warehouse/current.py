"""
The current table of changes: for each key its last change, without the keys that were removed.

Belongs here: making SQL of the declaration. Doesn't: running it (`derive.py`), the history it is made of (`process.py`).

A day of the table is the state at that day's end: a pure function of every day of the history up to it. It is computed from the newest
earlier state that still holds, where there is one, and gives the same rows as from all days: changes of the days after it, and of the rows
that these touch their last change. A key's changes may stand in other days than their order says (a shard's last record lands after
midnight, the first one of the shard that follows it before): so what an earlier day has removed is looked up among its removals.
"""

from collections.abc import Sequence

from ingestion_platform.dataset import Changes, Dataset
from ingestion_platform.warehouse.contract import in_order
from ingestion_platform.warehouse.engine import name, text

WHERE_FROM = {
    "_landed_on": "Day of the key of the object that the last change came in.",
    "_object": "Key of the landed object that the last change came in.",
    "_row": "The change's number in its object, from 1.",
}
"""What the current table keeps of where the last change came from, with its docs."""


def columns_of(dataset: Dataset) -> list[str]:
    """The current table's columns."""
    changes = _changes(dataset)
    return [*(column.name for column in dataset.columns if column.name not in changes.only_in_history), *WHERE_FROM]


def _changes(dataset: Dataset) -> Changes:
    assert dataset.changes is not None, "only changes have a current table"
    return dataset.changes


def _names(columns: Sequence[str]) -> str:
    return ", ".join(name(column) for column in columns)


def _last_first(dataset: Dataset) -> str:
    order = in_order(_changes(dataset))
    return f"partition by {_names(dataset.primary_key)} order by {order} desc, _landed_on desc, _object desc, _row desc"


def _removes(dataset: Dataset) -> str:
    """SQL: whether a change removes its row."""
    changes = _changes(dataset)
    if changes.operation is None:
        return "false"
    return f"{name(changes.operation)} in ({', '.join(text(value) for value in changes.removes)})"


def whole(dataset: Dataset) -> str:
    """The state as a query over the whole history."""
    columns = _names(columns_of(dataset))
    return (
        f"select {columns}\n"
        f"from (\n    select {columns}, row_number() over ({_last_first(dataset)}) as _place\n    from {dataset.processed}\n) as changes\n"
        f"where _place = 1 and not ({_removes(dataset)})"
    )


def advanced(dataset: Dataset, *, state: str, before: str, after: str) -> str:
    """
    The same rows from an earlier state.

    Args:
        dataset: whose.
        state: SQL of the relation of an earlier state.
        before: SQL of the history that it was made of.
        after: SQL of the history since then.
    """
    key, columns, order = _names(dataset.primary_key), _names(columns_of(dataset)), in_order(_changes(dataset))
    removes = _removes(dataset)
    same_key = " and ".join(f"removed.{name(column)} = lasts.{name(column)}" for column in dataset.primary_key)
    return (
        f"with since as (select {columns} from ({after})),"
        f" state as (select {columns} from ({state})),"
        f" touched as (select distinct {key} from since),"
        f" candidates as (select * from since union all select * from state semi join touched using ({key})),"
        f" lasts as (select *, {order} as _order from candidates qualify row_number() over ({_last_first(dataset)}) = 1),"
        f" removed as (select {key}, max({order}) as _order from ({before}) as before semi join touched using ({key})"
        f" where {removes} group by {key})"
        f" select {columns} from state anti join touched using ({key})"
        f" union all"
        f" select {columns} from lasts where not ({removes})"
        f" and not exists (select 1 from removed where {same_key} and removed._order > lasts._order)"
    )
