"""
The current table of changes: for each key its last change, without the keys that were removed.

Belongs here: making SQL of the declaration. Doesn't: running it (`derive.py`), the history it is made of (`process.py`).

A day of the table is the state at that day's end: a pure function of every day of the history up to it. It is computed from the newest
earlier state that still holds, where there is one, and gives the same rows as from all days: changes of the days after it, and of the rows
that these touch their last change. A key's changes may stand in other days than their order says (a shard's last record lands after
midnight, the first one of the shard that follows it before): so what an earlier day has removed is looked up among its removals.

Of a change that doesn't send what stayed as it was (a database's large values), the current table has those values from the change before.
"""

import json
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


def _is_one_of(dataset: Dataset, operations: Sequence[str]) -> str:
    """SQL: whether a change is one of some operations."""
    changes = _changes(dataset)
    if changes.operation is None or not operations:
        return "false"
    return f"coalesce({name(changes.operation)} in ({', '.join(map(text, operations))}), false)"


def _removes(dataset: Dataset) -> str:
    """SQL: whether a change removes its row."""
    return _is_one_of(dataset, _changes(dataset).removes)


def _clears(dataset: Dataset) -> str:
    """SQL: whether a change removes all rows that were there before it."""
    return _is_one_of(dataset, _changes(dataset).clears)


def _cleared(dataset: Dataset, *relations: str) -> str:
    """SQL of the place of the last change that removes all rows: a text, before all others when there is none."""
    if not _changes(dataset).clears:
        return "''"
    order, clears = in_order(_changes(dataset)), _clears(dataset)
    found = " union all ".join(
        f"select {order} as _order from ({relation}) as changes where {clears}" for relation in relations
    )
    return f"coalesce((select max(_order) from ({found})), '')"


def _filled(dataset: Dataset, relation: str) -> str:
    """
    Changes with the values that weren't sent: those of the change before, of the same key.

    Args:
        dataset: whose.
        relation: SQL of the changes, and of all that came before of the same keys: `columns_of`, and which weren't sent.
    """
    changes = _changes(dataset)
    assert changes.unchanged is not None
    chosen = []
    for column in dataset.columns:
        if column.name in changes.only_in_history:
            continue
        shown = name(column.name)
        if column.field.startswith("@") or column.capture is not None or column.name in dataset.primary_key:
            chosen.append(shown)
            continue
        sent = f"not coalesce(contains({name(changes.unchanged)}, {text(json.dumps(column.field, ensure_ascii=False))}), false)"
        before = f"last_value(case when {sent} then struct_pack(v := {shown}) end ignore nulls) over earlier"
        chosen.append(f"case when {sent} then {shown} else ({before}).v end as {shown}")
    return (
        f"select {', '.join([*chosen, *WHERE_FROM])} from ({relation}) as changes"
        f" window earlier as (partition by {_names(dataset.primary_key)} order by {in_order(changes)}, _landed_on, _object, _row"
        " rows between unbounded preceding and current row)"
    )


def whole(dataset: Dataset) -> str:
    """The state as a query over the whole history."""
    columns, changes = _names(columns_of(dataset)), _changes(dataset)
    relation = dataset.processed
    if changes.unchanged is not None:
        # Few keys have a change of which something wasn't sent: the others are left as they are.
        key, unchanged = _names(dataset.primary_key), name(changes.unchanged)
        partly = f"select distinct {key} from {dataset.processed} where {unchanged} is not null"
        filled = _filled(
            dataset,
            f"select {columns}, {unchanged} from {dataset.processed} semi join ({partly}) as partly using ({key})",
        )
        rest = f"select {columns} from {dataset.processed} anti join ({partly}) as partly using ({key})"
        relation = f"({rest} union all {filled})"
    return (
        f"select {columns}\n"
        f"from (\n    select {columns}, {in_order(changes)} as _order, row_number() over ({_last_first(dataset)}) as _place\n"
        f"    from {relation} as changes\n    where not {_clears(dataset)}\n) as changes\n"
        f"where _place = 1 and not {_removes(dataset)} and _order > {_cleared(dataset, f'from {dataset.processed}')}"
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
    changes = _changes(dataset)
    key, columns, order = _names(dataset.primary_key), _names(columns_of(dataset)), in_order(changes)
    removes, clears, cleared = _removes(dataset), _clears(dataset), _cleared(dataset, before, after)
    same_key = " and ".join(f"removed.{name(column)} = lasts.{name(column)}" for column in dataset.primary_key)
    candidates = f"select * from since union all select * from state semi join touched using ({key})"
    if changes.unchanged is not None:
        # A change that came late may be what a later one, already in the state, took its values from: then all of its key are looked at.
        unchanged = name(changes.unchanged)
        late = (
            f"select distinct {key} from (select {key}, {order} as _order from ({after}) as changes where not {clears}) as since"
            f" join (select {key}, {order} as _state from ({state}) as state) as state using ({key}) where _order < _state"
        )
        candidates = _filled(
            dataset,
            f"select {columns}, {unchanged} from ({after}) as changes where not {clears}"
            f" union all select {columns}, null as {unchanged} from state"
            f" semi join touched using ({key}) anti join ({late}) as late using ({key})"
            f" union all select {columns}, {unchanged} from ({before}) as before semi join ({late}) as late using ({key})",
        )
    return (
        f"with since as (select {columns} from ({after}) as changes where not {clears}),"
        f" state as (select {columns} from ({state}) as state where {order} > {cleared}),"
        f" touched as (select distinct {key} from since),"
        f" candidates as ({candidates}),"
        f" lasts as (select *, {order} as _order from candidates qualify row_number() over ({_last_first(dataset)}) = 1),"
        f" removed as (select {key}, max({order}) as _order from ({before}) as before semi join touched using ({key})"
        f" where {removes} group by {key})"
        f" select {columns} from state anti join touched using ({key})"
        f" union all"
        f" select {columns} from lasts where not {removes} and _order > {cleared}"
        f" and not exists (select 1 from removed where {same_key} and removed._order > lasts._order)"
    )
