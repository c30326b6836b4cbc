"""
States of rows made of their changes, as SQL: what the current table and the history are computed with.

Belongs here: the order of changes, values that a change doesn't say, from when to when a row was as it was. Doesn't: which days are
computed of what (`derive.py`), how the tables are declared (`current.py`, `history.py`).

A version is what a change made of a row: it begins with the change and ends with the next one of its key, or with a truncation. Moments
never go back: a change that says an earlier moment than the one before it begins when that one did. A value that a change doesn't say is
that of the version before it; of a row that was removed nothing is left.
"""

from zoneinfo import ZoneInfo

from ingestion_platform.dataset import Changes, Dataset
from ingestion_platform.warehouse.contract import in_order, is_named_unsent
from ingestion_platform.warehouse.engine import name, text

WHERE_FROM = {
    "_landed_on": "Day of the key of the object that the last change came in.",
    "_object": "Key of the landed object that the last change came in.",
    "_row": "The change's number in its object, from 1.",
}
"""What is kept of where a version's change came from, with its docs."""

_LAST_LANDED = "_landed_on desc, length(_object) desc, _object desc, _row desc"


class RowVersions:
    """
    SQL over a dataset's changes.

    Args:
        dataset: whose.
        zone: the business time zone: a change that says no moment counts from the beginning of the day on which it landed.
    """

    def __init__(self, dataset: Dataset, zone: ZoneInfo) -> None:
        assert dataset.changes is not None, "only changes make versions"
        self._dataset = dataset
        self._changes: Changes = dataset.changes
        self._zone = zone
        self._key = names(dataset.primary_key)
        self._columns = names(columns_of(dataset))

    @property
    def can_be_truncated(self) -> bool:
        """Whether an operation removes all rows."""
        return bool(self._changes.truncates) and self._changes.operation is not None

    # --- changes

    @property
    def order(self) -> str:
        """SQL: what a key's changes ascend by."""
        return f"coalesce({in_order(self._changes)}, '')"

    def _is(self, operations: tuple[str, ...]) -> str:
        if self._changes.operation is None or not operations:
            return "false"
        return f"{name(self._changes.operation)} in ({', '.join(map(text, operations))})"

    @property
    def removes(self) -> str:
        """SQL: whether a change removes its row."""
        return self._is(self._changes.removes)

    @property
    def truncates(self) -> str:
        """SQL: whether a change removes all rows."""
        return self._is(self._changes.truncates)

    @property
    def _moment(self) -> str:
        if self._changes.moment is None:
            return "null::timestamp"
        landed = f"timezone('UTC', timezone({text(self._zone.key)}, _landed_on::timestamp))"
        return f"coalesce({name(self._changes.moment)}, {landed})"

    def _prepared(self, changes: str) -> str:
        changing = f" where not {self._is(self._changes.ignores)}" if self._changes.ignores else ""
        return (
            f"select {self._columns}, {self._moment} as _moment, {self.order} as _order, {self.removes} as _removes,"
            f" {self.truncates} as _truncates, false as _is_state from ({changes}) as changes{changing}"
        )

    # --- versions

    def _resolved(self, column: str) -> str:
        """SQL of a column's value, with that of the version before where the change doesn't say it."""
        changes, unsent = self._changes, self._changes.unsent
        own = (*self._dataset.primary_key, changes.operation, changes.position, changes.moment, unsent, *WHERE_FROM)
        if unsent is None or column in own:
            return name(column)
        is_unsent = is_named_unsent(self._dataset.column(column), name(unsent))
        said = f"struct_pack(v := case when not _removes then {name(column)} end)"
        return (
            f"(last_value(case when _is_state or _removes or not {is_unsent} then {said} end ignore nulls) over"
            f" (partition by {self._key} order by _order rows between unbounded preceding and current row)).v as {name(column)}"
        )

    def _one_each(self, rows: str) -> str:
        """Of changes at one position the last to land; `valid_from` is the latest moment so far."""
        from_ = f"max(_moment) over (partition by {self._key} order by _order range between unbounded preceding and current row)"
        return (
            f"select * from (select *, {from_} as valid_from from {rows}) as moved"
            f" qualify row_number() over (partition by {self._key}, _order order by {_LAST_LANDED}) = 1"
        )

    def _told(self, rows: str) -> str:
        """*rows* with all that a change doesn't say."""
        columns = ", ".join(self._resolved(column) for column in columns_of(self._dataset))
        return f"select {columns}, valid_from, _order, _removes from {rows}"

    def _chained(self, rows: str, rewrites: str = "false") -> str:
        """*rows* with their end, removals among them."""
        columns = ", ".join(self._resolved(column) for column in columns_of(self._dataset))
        by_key = f"(partition by {self._key} order by _order)"
        return (
            f"select {columns}, valid_from, lead(valid_from) over {by_key} as valid_to, lead(_order) over {by_key} is null as is_current,"
            f" {rewrites} as _rewrites, _removes from {rows}"
        )

    def state(self, changes: str) -> str:
        """The rows there are after all of *changes* (SQL), with `valid_from`."""
        truncated, since_then = "", ""
        latest = "valid_from"
        if self.can_be_truncated:
            truncated = (
                " truncated as (select max(_order) as _order, max(_moment) as _moment from changes where _truncates),"
            )
            since_then = " where _order > coalesce((select _order from truncated), '')"
            latest = "greatest(valid_from, (select _moment from truncated))"
        return (
            f"with changes as ({self._prepared(changes)}),{truncated}"
            " placed as (select * from changes where not _truncates),"
            f" once as ({self._one_each('placed')}),"
            f" alive as (select * replace ({latest} as valid_from) from once{since_then}),"
            f" told as ({self._told('alive')})"
            f" select {self._columns}, valid_from from told"
            f" qualify row_number() over (partition by {self._key} order by _order desc) = 1 and not _removes"
        )

    def all(self, changes: str) -> str:
        """Every version that *changes* (SQL) make."""
        rest = "_moment, _order, _removes, _is_state"
        rows = f"select {self._columns}, {rest} from changes where not _truncates"
        if self.can_be_truncated:
            kept = {*self._dataset.primary_key, *WHERE_FROM}
            columns = [name(one) if one in kept else f"null as {name(one)}" for one in columns_of(self._dataset)]
            ends = self._ends(f"(select distinct {self._key} from changes where not _truncates)", "changes")
            # Where columns come from is told of the query by a library that knows no "by name".
            rows += f" union all select {', '.join(columns)}, {rest} from ({ends}) as ends"
        return (
            f"with changes as ({self._prepared(changes)}), placed as ({rows}), once as ({self._one_each('placed')}),"
            f" chained as ({self._chained('once')})"
            f" select {self._columns}, valid_from, valid_to, is_current from chained where not _removes"
        )

    def _ends(self, keys: str, changes: str) -> str:
        """Each truncation among *changes* as a removal of each of *keys*."""
        return (
            f"select {self._key}, _landed_on, _object, _row, _moment, _order, true as _removes, false as _is_state"
            f" from {keys} as keys cross join (select _landed_on, _object, _row, _moment, _order from {changes} where _truncates) as ends"
        )

    def day(self, *, state: str, before: str, since: str, is_truncated: bool) -> str:
        """
        The versions that a day's changes have ended, and those that stand at its end.

        A change that came before one of an earlier day in their order makes all versions of its key anew (`_rewrites`): what earlier days
        had said of the key doesn't count any more.

        Args:
            state: SQL of the rows there were before, with `valid_from`.
            before: SQL of the changes of all days before.
            since: SQL of those of the day.
            is_truncated: whether one of these removes all rows.
        """
        key = self._key
        known = self._prepared(before)
        by_key = " and ".join(f"since.{name(one)} = known.{name(one)}" for one in self._dataset.primary_key)
        touched = f"select distinct {key} from since where not _truncates"
        latest, floor = "known._order", "known._moment"
        parts = [
            f"since as materialized ({self._prepared(since)})",
            f"state as (select {self._columns}, valid_from, {self.order} as _order from ({state}) as former)",
        ]
        if self.can_be_truncated:
            parts.append(
                "truncated as materialized"
                f" (select max(_order) as _order, max(_moment) as _moment from ({known}) as known where _truncates)"
            )
            latest = f"greatest({latest}, (select _order from truncated))"
            floor = f"{floor}, (select _moment from truncated)"
        rewritten = ""
        if is_truncated:
            late = f"(select min(_order) from since where _truncates) <= (select max(_order) from ({known}) as known)"
            rewritten = f" union select distinct {key} from ({known}) as known where not _truncates and {late}"
            touched += f" union select {key} from state{rewritten}"
        parts += [
            f"touched as materialized ({touched})",
            f"known as materialized (select {key}, max(_order) as _order, max(_moment) as _moment from ({known}) as known"
            f" semi join touched using ({key}) where not _truncates group by {key})",
            f"odd as materialized (select distinct {_of('since', self._dataset)} from since left join known on {by_key}"
            f" where not since._truncates and since._order <= {latest}{rewritten})",
        ]
        rows = [
            f"select {self._columns}, valid_from as _moment, _order, false as _removes, true as _is_state, false as _rewrites"
            f" from state semi join touched using ({key}) anti join odd using ({key})",
            f"select since.* exclude (_moment, _truncates), greatest(since._moment, {floor}) as _moment, false as _rewrites"
            f" from (select * from since anti join odd using ({key})) as since left join known on {by_key} where not since._truncates",
            f"select * exclude (_truncates), true as _rewrites"
            f" from ({known} union all by name select * from since) as known semi join odd using ({key}) where not _truncates",
        ]
        if is_truncated:
            rows.append(
                f"select *, false as _rewrites from ({self._ends(f'(select * from touched anti join odd using ({key}))', 'since')}) as ends"
            )
        if self.can_be_truncated:
            every = f"({known} union all by name select * from since)"
            rows.append(f"select *, true as _rewrites from ({self._ends('odd', every)}) as ends")
        parts += [
            f"placed as ({' union all by name '.join(rows)})",
            f"once as ({self._one_each('placed')})",
            f"chained as ({self._chained('once', '_rewrites')})",
        ]
        return (
            f"with {', '.join(parts)}"
            f" select {self._columns}, valid_from, valid_to, is_current, _rewrites and not is_current as _rewrites"
            " from chained where not _removes"
            f" union all by name select {self._columns}, valid_from, null::timestamp as valid_to, true as is_current, false as _rewrites"
            f" from state anti join touched using ({key})"
        )


def columns_of(dataset: Dataset) -> list[str]:
    """What is kept of each change."""
    assert dataset.changes is not None, "only changes make versions"
    left_out = dataset.changes.only_in_history
    return [*(column.name for column in dataset.columns if column.name not in left_out), *WHERE_FROM]


def names(columns: tuple[str, ...] | list[str]) -> str:
    """Columns for SQL."""
    return ", ".join(name(column) for column in columns)


def _of(relation: str, dataset: Dataset) -> str:
    return ", ".join(f"{relation}.{name(column)}" for column in dataset.primary_key)
