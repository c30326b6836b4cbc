"""
How two relations differ, row by row: what came, what went, what changed in which columns, and by how much the sums moved.

Belongs here: comparing any two relations of an engine by a key. Doesn't: where they come from, and what a difference means.

Rows that are the same in both are put aside first, each as often as it stands in both. What is left is paired by the key; rows that
share one are paired in the order of their values. So a key that isn't unique, or has NULLs, gives an answer too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeAlias

import duckdb

from ingestion_platform.warehouse.engine import name

Sum: TypeAlias = int | float | Decimal
"""As the column has it: whole, decimal or floating point."""

EXAMPLES = 5
"""How many rows of each sort are shown."""

_WHOLE = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "UHUGEINT",
)
_FLOATING = ("FLOAT", "DOUBLE")


@dataclass(frozen=True, slots=True)
class RowChange:
    """
    One row that differs.

    Args:
        key: column → value.
        before: column → value: of a changed row the columns that changed, of one that went all of them; empty for one that came.
        after: likewise; empty for one that went.
    """

    key: Mapping[str, Any]
    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SumChange:
    """A numeric column's sum over all rows; None where there is no value at all."""

    before: Sum | None
    after: Sum | None

    @property
    def delta(self) -> Sum:
        """After less before; no value counts as nothing."""
        before, after = self.before or 0, self.after or 0
        if isinstance(before, float) or isinstance(after, float):
            return float(after) - float(before)
        return after - before


@dataclass(frozen=True, slots=True)
class Difference:
    """
    Two relations, compared.

    Args:
        rows_before: in the first; `rows_after` in the second.
        added: rows whose key only the second has; `gone`: only the first; `changed`: both, with other values.
        columns: column → changed rows that have another value in it.
        emptied: column → changed rows that had a value in it and have NULL now.
        columns_added: that only the second relation has; `columns_gone`: only the first.
        columns_retyped: column → its type before and after.
        sums: numeric column → its sums, of all columns that both have and whose sum moved.
        examples: the first rows by key, of each of the three sorts.
    """

    rows_before: int
    rows_after: int
    added: int = 0
    gone: int = 0
    changed: int = 0
    columns: Mapping[str, int] = field(default_factory=dict)
    emptied: Mapping[str, int] = field(default_factory=dict)
    columns_added: tuple[str, ...] = ()
    columns_gone: tuple[str, ...] = ()
    columns_retyped: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    sums: Mapping[str, SumChange] = field(default_factory=dict)
    examples: tuple[RowChange, ...] = ()

    @property
    def rows(self) -> int:
        """How many rows differ."""
        return self.added + self.gone + self.changed

    @property
    def is_equal(self) -> bool:
        """Whether both have the same columns and the same rows."""
        return not (self.rows or self.columns_added or self.columns_gone or self.columns_retyped)


def compare(
    engine: duckdb.DuckDBPyConnection,
    before: str | None,
    after: str | None,
    key: Sequence[str],
    *,
    leave_out: Sequence[str] = (),
    examples: int = EXAMPLES,
) -> Difference:
    """
    Compare two relations.

    Args:
        engine: where they can be read. It may have other work: this takes a connection of its own to it.
        before: SQL of the first; None: it isn't there, and has neither columns nor rows.
        after: SQL of the second.
        key: columns that tell which row is which; those that one of them lacks are left out. None: rows are equal, gone or added.
        leave_out: columns that aren't compared.
        examples: how many rows of each sort to show.
    """
    with engine.cursor() as own:
        return _compare(own, before, after, key, leave_out, examples)


def _compare(
    engine: duckdb.DuckDBPyConnection,
    before: str | None,
    after: str | None,
    key: Sequence[str],
    leave_out: Sequence[str],
    examples: int,
) -> Difference:
    types_before, types_after = (_types(engine, relation, leave_out) for relation in (before, after))
    types = _common_types(engine, (before, after), types_before, types_after)
    if not types:
        return Difference(_count(engine, before), _count(engine, after))
    sides = [_side(relation, types, known) for relation, known in ((before, types_before), (after, types_after))]
    names = [column for column in key if column in types_before and column in types_after]
    rest = [column for column in types if column not in names]
    for table, ours, others in (("gone", sides[0], sides[1]), ("come", sides[1], sides[0])):
        engine.execute(
            f"create or replace temp table {table} as select *, {_place(names, types)} as _place"
            f" from ({ours} except all {others})"
        )
    paired = " and ".join(f"g.{name(column)} is not distinct from c.{name(column)}" for column in names)
    paired = f"{paired} and g._place = c._place" if names else "false"
    counts = ["count(*)"]
    for column in rest:
        g, c = f"g.{name(column)}", f"c.{name(column)}"
        counts.append(f"count(*) filter (where {g} is distinct from {c})")
        counts.append(f"count(*) filter (where {g} is not null and {c} is null)")
    ((changed, *by_column),) = engine.execute(
        f"select {', '.join(counts)} from gone g join come c on {paired}"
    ).fetchall()
    come, gone = (_count(engine, f"select * from {table}") for table in ("come", "gone"))
    is_compared = before is not None and after is not None
    both = [column for column in types if column in types_before and column in types_after]
    return Difference(
        rows_before=_count(engine, before),
        rows_after=_count(engine, after),
        added=come - changed,
        gone=gone - changed,
        changed=changed,
        columns={column: count for column, count in zip(rest, by_column[::2], strict=True) if count},
        emptied={column: count for column, count in zip(rest, by_column[1::2], strict=True) if count},
        columns_added=tuple(column for column in types_after if column not in types_before) if is_compared else (),
        columns_gone=tuple(column for column in types_before if column not in types_after) if is_compared else (),
        columns_retyped={
            column: (types_before[column], types_after[column])
            for column in both
            if types_before[column] != types_after[column]
        },
        sums=_sums(engine, sides, types, [column for column in rest if column in both or not is_compared])
        if come or gone
        else {},
        examples=_examples(engine, names, rest, paired, examples) if come or gone else (),
    )


def _types(engine: duckdb.DuckDBPyConnection, relation: str | None, leave_out: Sequence[str]) -> dict[str, str]:
    if relation is None:
        return {}
    described = engine.execute(f"describe select * from ({relation})").fetchall()
    return {column: kind for column, kind, *_ in described if column not in leave_out}


def _common_types(
    engine: duckdb.DuckDBPyConnection,
    relations: Sequence[str | None],
    before: Mapping[str, str],
    after: Mapping[str, str],
) -> dict[str, str]:
    """Column → the type in which both sides are compared: text where nothing else holds the values of both."""
    types = {}
    for column in [*after, *(column for column in before if column not in after)]:
        ours, theirs = before.get(column), after.get(column)
        if ours is None or theirs is None or ours == theirs:
            types[column] = ours or theirs or "VARCHAR"
            continue
        try:
            found = engine.execute(
                f"describe select null::{ours} as value union all select null::{theirs} as value"
            ).fetchall()
            types[column] = found[0][1]
            for relation in relations:
                # Two decimals may have no common one that holds both.
                engine.execute(f"select count(cast({name(column)} as {types[column]})) from ({relation})").fetchall()
        except duckdb.Error:
            types[column] = "VARCHAR"
    return types


def _side(relation: str | None, types: Mapping[str, str], known: Mapping[str, str]) -> str:
    """The relation with all columns of both, in the types in which they are compared."""
    shown = ", ".join(
        f"cast({name(column)} as {kind}) as {name(column)}" if column in known else f"null::{kind} as {name(column)}"
        for column, kind in types.items()
    )
    return f"select {shown} from ({relation})" if relation is not None else f"select {shown} where false"


def _place(names: Sequence[str], types: Mapping[str, str]) -> str:
    """Which of the rows that share a key a row is."""
    order = ", ".join(name(column) for column in types)
    by = f"partition by {', '.join(name(column) for column in names)} " if names else ""
    return f"row_number() over ({by}order by {order})"


def _sums(
    engine: duckdb.DuckDBPyConnection, sides: Sequence[str], types: Mapping[str, str], columns: Sequence[str]
) -> dict[str, SumChange]:
    numeric = [column for column in columns if _is_numeric(types[column])]
    if not numeric:
        return {}
    totals = ", ".join(
        f"fsum({name(column)})" if types[column] in _FLOATING else f"sum({name(column)})" for column in numeric
    )
    try:
        found = [engine.execute(f"select {totals} from ({side})").fetchall()[0] for side in sides]
    except duckdb.OutOfRangeException:
        # More digits than any decimal has: about is all that can be said.
        totals = ", ".join(f"fsum({name(column)}::double)" for column in numeric)
        found = [engine.execute(f"select {totals} from ({side})").fetchall()[0] for side in sides]
    return {
        column: SumChange(before, after)
        for column, before, after in zip(numeric, *found, strict=True)
        if before != after
    }


def _is_numeric(kind: str) -> bool:
    return kind in _WHOLE or kind in _FLOATING or kind.startswith("DECIMAL")


def _examples(
    engine: duckdb.DuckDBPyConnection, names: Sequence[str], rest: Sequence[str], paired: str, limit: int
) -> tuple[RowChange, ...]:
    found: list[RowChange] = []
    columns = [*names, *rest]
    for sort in ("added", "gone"):
        ours, others = ("come c", "gone g") if sort == "added" else ("gone g", "come c")
        side = ours[-1]
        shown = ", ".join(f"{side}.{name(column)}" for column in columns)
        order = ", ".join(str(place + 1) for place in range(len(columns)))
        rows = engine.execute(
            f"select {shown} from {ours} anti join {others} on {paired} order by {order} limit {int(limit)}"
        ).fetchall()
        for row in rows:
            values = dict(zip(columns, row, strict=True))
            key = {column: values.pop(column) for column in names}
            found.append(RowChange(key, values, {}) if sort == "gone" else RowChange(key, {}, values))
    shown = ", ".join(
        [*(f"g.{name(column)}" for column in names), *(f"{side}.{name(column)}" for column in rest for side in "gc")]
    )
    if names:
        order = ", ".join(str(place + 1) for place in range(len(names)))
        pairs = engine.execute(
            f"select {shown} from gone g join come c on {paired} order by {order} limit {int(limit)}"
        ).fetchall()
        for row in pairs:
            values_before = dict(zip(rest, row[len(names) :: 2], strict=True))
            values_after = dict(zip(rest, row[len(names) + 1 :: 2], strict=True))
            other = [column for column in rest if values_before[column] != values_after[column]]
            found.append(
                RowChange(
                    dict(zip(names, row, strict=False)),
                    {column: values_before[column] for column in other},
                    {column: values_after[column] for column in other},
                )
            )
    return tuple(found)


def _count(engine: duckdb.DuckDBPyConnection, relation: str | None) -> int:
    if relation is None:
        return 0
    return int(engine.execute(f"select count(*) from ({relation})").fetchall()[0][0])
