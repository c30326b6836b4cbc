"""
What a partition holds, as one number, and how two states of it differ, row by row.

Belongs here: the SQL of both. Doesn't: which states are compared (`certificates.py`).

The number is the sum, modulo 2^128, of the MD5 of each row's canonical text: the same in whatever order rows stand, in however many files,
and another one as soon as one value is, or a row is there once more. A canonical text has every value by the name of its column, as exact
text with its length before it; NULL is told from every text. Names and types of the columns go into the fingerprint beside the sum. DuckDB
does the work, on disk where memory is short.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb

from ingestion_platform.warehouse.engine import name, relation, text
from ingestion_platform.warehouse.files import FileStore
from ingestion_platform.warehouse.ledger_rows import FileRow

EXAMPLES = 5
"""Rows of each kind of difference that are shown."""
LONGEST_VALUE = 200
PERSONAL = "(personal)"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """
    What a partition holds.

    Args:
        rows: how many.
        sum: of the rows' MD5s, modulo 2^128.
        columns: name → type, by name.
    """

    rows: int
    sum: int
    columns: Mapping[str, str]

    @property
    def hex(self) -> str:
        """Changes whenever the content does: 32 digits."""
        whole = json.dumps([sorted(self.columns.items()), self.rows, f"{self.sum:032x}"])
        return hashlib.sha256(whole.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Difference:
    """
    How one state of a partition differs from a former one, by key; rows of the same key are told apart by their number.

    Args:
        added: rows whose key is new.
        gone: rows whose key isn't there any more.
        changed: rows of a key that is in both, with other values.
        columns: column → rows of `changed` in which it is another value.
        examples: some rows of each kind: their key, and what changed.
        new_columns: names that the former state hadn't.
        lost_columns: names that the former state had.
        retyped: name → both types.
    """

    added: int = 0
    gone: int = 0
    changed: int = 0
    columns: Mapping[str, int] = field(default_factory=dict)
    examples: Sequence[Mapping[str, Any]] = ()
    new_columns: tuple[str, ...] = ()
    lost_columns: tuple[str, ...] = ()
    retyped: Mapping[str, tuple[str, str]] = field(default_factory=dict)


class State:
    """
    The files of a partition, as they were at a moment; later commits don't change it.

    Args:
        engine: computes; its time zone is set to UTC.
        store: where the files are.
        files: of the partition, with what is left out of them.
    """

    def __init__(self, engine: duckdb.DuckDBPyConnection, store: FileStore, files: Sequence[FileRow]) -> None:
        self._engine = engine
        engine.execute("set TimeZone = 'UTC'")
        self.columns: dict[str, str] = {}
        self.sql = "select null where false"
        if files:
            # The files' own columns: today's declaration may have others.
            paths = ", ".join(text(str(store.absolute(file.path).absolute())) for file in files)
            described = engine.execute(
                f"describe select * from read_parquet([{paths}], union_by_name = true, hive_partitioning = false)"
            ).fetchall()
            self.columns = {row[0]: row[1] for row in described}
            self.sql = relation(store, files, list(self.columns.items()))

    def fingerprint(self) -> Fingerprint:
        """What it holds."""
        if not self.columns:
            return Fingerprint(0, 0, {})
        row = canonical(self.columns, sorted(self.columns))
        (found,) = self._engine.execute(
            f"select count(*), coalesce(sum(md5_number_upper(row_)), 0), coalesce(sum(md5_number_lower(row_)), 0)"
            f" from (select {row} as row_ from ({self.sql}))"
        ).fetchall()
        rows, upper, lower = found
        return Fingerprint(int(rows), ((int(upper) << 64) + int(lower)) % 2**128, self.columns)


def exact_text(column: str, kind: str) -> str:
    """SQL of a value as text that no other value of its type has."""
    is_nested = kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION"))
    return f"to_json({name(column)})::varchar" if is_nested else f"{name(column)}::varchar"


def canonical(kinds: Mapping[str, str], columns: Sequence[str]) -> str:
    """SQL of a row's canonical text: each value with its length before it, NULL as what no text is."""
    parts = []
    for column in columns:
        value = exact_text(column, kinds[column])
        parts.append(f"case when {name(column)} is null then 'n' else length({value})::varchar || ':' || {value} end")
    return f"concat_ws(';', {', '.join(parts)})" if parts else "''"


def compare(
    engine: duckdb.DuckDBPyConnection, before: State, after: State, key: Sequence[str], hidden: frozenset[str]
) -> Difference:
    """
    Tell how *after* differs from *before*.

    Args:
        engine: of both.
        before: the former state.
        after: the later one.
        key: the columns that tell rows apart; where one of them isn't in both states, or there are none, rows are told apart by all values.
        hidden: columns whose values aren't shown.
    """
    engine.execute("set TimeZone = 'UTC'")
    shared = sorted(before.columns.keys() & after.columns.keys())
    retyped = {
        column: (before.columns[column], after.columns[column])
        for column in shared
        if before.columns[column] != after.columns[column]
    }
    schema = Difference(
        new_columns=tuple(sorted(after.columns.keys() - before.columns.keys())),
        lost_columns=tuple(sorted(before.columns.keys() - after.columns.keys())),
        retyped=retyped,
    )
    if not before.columns or not after.columns:
        # Nothing was there, or nothing is: rows are all that differs.
        there = after if after.columns else before
        shared = sorted(there.columns)
        schema = Difference()
    kinds = {**before.columns, **after.columns}
    keys = [column for column in key if column in shared] if set(key) <= set(shared) else []
    keys = keys or shared
    # Once: what differs is asked four questions.
    engine.execute(f"create or replace temp table row_differences as {_joined(before, after, shared, keys)}")
    joined = "select * from row_differences"
    values = [column for column in shared if column not in keys]
    counted = "".join(
        f", count(*) filter (where kind = 'changed' and {name('b:' + column)} is distinct from {name('a:' + column)})"
        for column in values
    )
    (found,) = engine.execute(
        "select count(*) filter (where kind = 'added'), count(*) filter (where kind = 'gone'),"
        f" count(*) filter (where kind = 'changed'){counted} from ({joined})"
    ).fetchall()
    changed = {column: int(count) for column, count in zip(values, found[3:], strict=True) if count}
    examples = _examples(engine, joined, keys, values, hidden, kinds)
    engine.execute("drop table row_differences")
    return Difference(
        int(found[0]),
        int(found[1]),
        int(found[2]),
        changed,
        examples,
        schema.new_columns,
        schema.lost_columns,
        schema.retyped,
    )


def _joined(before: State, after: State, shared: Sequence[str], keys: Sequence[str]) -> str:
    """SQL of the rows that differ: what kind of difference, the key, and the values of both sides as text."""
    rows, sides = {}, []
    for side, state in (("b", before), ("a", after)):
        if not state.columns:
            columns = ", ".join(f"null::varchar as {name(f'{side}:{column}')}" for column in shared)
            rows[side] = f"select {columns}, null::varchar as h, null::bigint as twin where false"
            continue
        columns = ", ".join(
            f"{exact_text(column, state.columns[column])} as {name(f'{side}:{column}')}" for column in shared
        )
        hashed = f"md5({canonical(state.columns, shared)})"
        rows[side] = (
            f"select *, row_number() over (partition by h) as twin from (select {columns}, {hashed} as h from ({state.sql}))"
        )
    for side, other in (("b", "a"), ("a", "b")):
        # What is the same in both goes first: of rows with one key, only those that differ are held against each other.
        of_key = ", ".join(name(f"{side}:{column}") for column in keys)
        differing = f"select * from ({rows[side]}) as mine anti join ({rows[other]}) as theirs using (h, twin)"
        sides.append(
            f"(select *, row_number() over (partition by {of_key} order by h, twin) as n from ({differing})) as {side}"
        )
    same = " and ".join(f"b.{name('b:' + column)} is not distinct from a.{name('a:' + column)}" for column in keys)
    return (
        "select case when b.h is null then 'added' when a.h is null then 'gone' else 'changed' end as kind, *"
        f" exclude (h, twin, n) from {sides[0]} full join {sides[1]} on {same} and b.n = a.n"
    )


def _examples(
    engine: duckdb.DuckDBPyConnection,
    joined: str,
    keys: Sequence[str],
    values: Sequence[str],
    hidden: frozenset[str],
    kinds: Mapping[str, str],
) -> list[dict[str, Any]]:
    shown = [*keys, *values]
    columns = ", ".join(f"{name(f'{side}:{column}')}" for side in ("b", "a") for column in shown)
    order = ", ".join(f"coalesce({name('b:' + column)}, {name('a:' + column)})" for column in keys)
    found: list[dict[str, Any]] = []
    for kind in ("added", "gone", "changed"):
        rows = engine.execute(
            f"select {columns} from ({joined}) where kind = '{kind}' order by {order} limit {EXAMPLES}"
        ).fetchall()
        for row in rows:
            old = dict(zip(shown, row[: len(shown)], strict=True))
            new = dict(zip(shown, row[len(shown) :], strict=True))
            side = new if kind == "added" else old
            example: dict[str, Any] = {"kind": kind, "key": {key: _cut(key, side[key], hidden) for key in keys}}
            if kind == "changed":
                differing = [column for column in values if old[column] != new[column]]
                example["before"] = {column: _cut(column, old[column], hidden) for column in differing}
                example["after"] = {column: _cut(column, new[column], hidden) for column in differing}
            found.append(example)
    return found


def _cut(column: str, value: str | None, hidden: frozenset[str]) -> str | None:
    if column in hidden and value is not None:
        return PERSONAL
    return value if value is None or len(value) <= LONGEST_VALUE else f"{value[:LONGEST_VALUE]}…"
