"""
Records of the running stream as the rows that the contract will make of them: cast, judged, masked, a few at a time.

Belongs here: the contract's SQL on what has just come, and on rows that are processed. Doesn't: what rules say of the rows (`rules/`).

What an event says is then the same live and in the table of its day, and one that would be quarantined is no event to any rule.
"""

from collections import namedtuple
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa

from ingestion_platform.dataset import Dataset
from ingestion_platform.errors import DeclarationError, SettingsError
from ingestion_platform.formats.records import Field
from ingestion_platform.rules.rule import OWN, Rule
from ingestion_platform.stream import StreamSegments
from ingestion_platform.warehouse.contract import Contract
from ingestion_platform.warehouse.engine import connect, name, text

_INCOMING = "incoming"
_SALT = "salt_of_hashes"
_MOST_DAYS = 8
"""Days whose statement is kept."""


def columns_of(rules: Sequence[Rule]) -> tuple[str, ...]:
    """The columns of a dataset that its rules read."""
    return tuple(sorted({column for rule in rules for column in (*rule.by, *rule.kind.takes)}))


def event_type(dataset: Dataset, rules: Sequence[Rule]) -> Any:
    """What rules get as an event: a named tuple of `OWN` and the columns that they read."""
    return namedtuple(f"{dataset.name}_event", [*OWN, *columns_of(rules)])


def events_sql(dataset: Dataset, rules: Sequence[Rule], rows: str) -> str:
    """
    SQL of events out of processed rows: `at`, `key`, `_row`, the columns that rules read, and `bits`: which rules want the event.

    Args:
        rows: SQL of a relation with the processed columns and `_row`.
    """
    keys = [f"coalesce({name(column)}::varchar, '')" for column in dataset.primary_key]
    key = keys[0] if len(keys) == 1 else f"concat_ws(chr(31), {', '.join(keys)})"
    bits = " + ".join(
        f"(case when {f'coalesce(({rule.where}), false)' if rule.where else 'true'} then {1 << number} else 0 end)::bigint"
        for number, rule in enumerate(rules)
    )
    assert dataset.event_time is not None, "rules are on events"
    columns = "".join(f", {name(column)}" for column in columns_of(rules))
    return f'select {name(dataset.event_time)} as "at", {key} as "key", _row{columns}, {bits} as bits from ({rows})'


@dataclass(frozen=True, slots=True)
class Judged:
    """
    What became of some records.

    Args:
        events: one each, as `event_type`, in the order of the records.
        bits: which rules want each.
        broken: rows that the contract sets aside.
    """

    events: list[Any]
    bits: list[int]
    broken: int


class _Incoming:
    """What the engine reads as a table, and is another one each time: a statement that is planned once reads whatever it holds."""

    def __init__(self, rows: pa.Table) -> None:
        self.rows = rows

    def __arrow_c_schema__(self) -> Any:
        return self.rows.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.rows.__arrow_c_stream__(requested_schema)  # type: ignore[no-untyped-call]


class LiveRows:
    """
    One dataset's rows of the running stream.

    To plan the contract takes several times as long as to hold a hundred rows against it, so each day's statement is planned once.

    Args:
        dataset: whose.
        rules: on it.
        zone: business time.
        salt: of hashed columns.

    Raises:
        SettingsError: a column is to be hashed and there is no salt.
        DeclarationError: a column is taken from the names of segments, which there aren't yet.
    """

    def __init__(self, dataset: Dataset, rules: Sequence[Rule], zone: ZoneInfo, salt: str | None) -> None:
        self.dataset = dataset
        self.rules = rules
        self.columns = columns_of(rules)
        self._contract = contract = Contract(dataset, zone)
        if contract.needs_salt and not salt:
            raise SettingsError(
                f"dataset {dataset.name!r} hashes personal values, and there is no salt", "set INGESTION_PII_SALT"
            )
        assert isinstance(dataset.source, StreamSegments), "rules judge streams"
        captured = [column.name for column in dataset.columns if column.capture is not None]
        if captured:
            raise DeclarationError(
                f"dataset {dataset.name!r} has rules, and column {captured[0]!r} is taken from the names of segments",
                "take source='@shard' or '@position'",
            )
        self.fields = [
            Field(column.name, column.field, column.aliases, column.type.sql, column.name in dataset.primary_key)
            for column in dataset.columns
        ] + [Field(column, source) for column, source in contract.envelope]
        self.format = dataset.source.format
        # What `_make` does, without looking at how many values there are.
        self._make = partial(tuple.__new__, event_type(dataset, rules))
        # A thread more has more to wait for than to do in a few thousand rows.
        self._engine = connect(threads=1)
        self._engine.execute(f"set TimeZone = {text(contract.time_zone)}")
        # A macro: what asks for a variable or a table takes longer each time, and what stands in a statement is quoted where one fails.
        self._engine.execute(f"create macro {_SALT}() as {text(salt or '')}")
        self._references: dict[str, str] = {}
        self._planned: dict[date, str] = {}
        self._incoming: _Incoming | None = None

    def refer(self, values: Mapping[str, pa.Table | None]) -> None:
        """
        Take what references are held against.

        Args:
            values: column → a table with one column `value`; None: nobody knows yet, and nothing is held against it.
        """
        self._forget_plans()
        for column, known in values.items():
            table = f"reference_{column}"
            self._references.pop(column, None)
            if known is not None:
                self._engine.register("known", known)
                self._engine.execute(f"create or replace table {name(table)} as select value from known")
                self._engine.unregister("known")
                self._references[column] = f"select value from {name(table)}"

    def events(self, rows: pa.Table, landed_on: date, versions: Sequence[tuple[Any, ...]]) -> Judged:
        """
        The events of some rows of text.

        Args:
            rows: as `RunningRecords.rows` gives them.
            landed_on: the day whose segments they will be in.
            versions: of each record, by `_row`: where it stands in its stream.

        Raises:
            DeclarationError: the condition of a rule fails on an event.
        """
        incoming = self._incoming
        if incoming is None or not incoming.rows.schema.equals(rows.schema):
            self._forget_plans()
            incoming = self._incoming = _Incoming(rows)
            self._engine.register(_INCOMING, incoming)
        planned = self._plan(landed_on)
        incoming.rows = rows
        try:
            # Row by row it costs half of what a table does, which is planned twice.
            found = self._engine.execute(f"execute {planned}").fetchall()
        except duckdb.Error as error:
            # What follows the first line is the statement.
            raise DeclarationError(
                f"rules on dataset {self.dataset.name!r} fail on an event: {str(error).partition(chr(10))[0]}",
                "a condition must take whatever the contract lets through: try_cast(…) instead of a cast",
            ) from None
        finally:
            incoming.rows = rows.slice(0, 0)
        if not found:
            return Judged([], [], rows.num_rows)
        # By columns: a loop over rows in Python would cost as much as a rule does.
        at, key, numbers, *columns, bits = zip(*found, strict=True)
        of_events = zip(at, key, [versions[number - 1] for number in numbers], *columns, strict=True)
        return Judged(list(map(self._make, of_events)), list(bits), rows.num_rows - len(found))

    def _plan(self, landed_on: date) -> str:
        """The name of the statement of a day."""
        planned = self._planned.get(landed_on)
        if planned is None:
            if len(self._planned) >= _MOST_DAYS:
                self._forget_plans()
            planned = f"judge_{landed_on:%Y%m%d}"
            self._engine.execute(f"prepare {planned} as {self._query(landed_on)}")
            self._planned[landed_on] = planned
        return planned

    def _forget_plans(self) -> None:
        for planned in self._planned.values():
            self._engine.execute(f"deallocate {planned}")
        self._planned.clear()

    def _query(self, landed_on: date) -> str:
        contract, day = self._contract, f"date '{landed_on.isoformat()}'"
        unknown = {column.name for column, _, _ in self.dataset.references if column.name not in self._references}
        references = self._references | dict.fromkeys(unknown, "select null as value where false")
        rules = [
            rule
            for rule in contract.rules(landed_on, references)
            if not any(rule.name.startswith(f"{column}: not in ") for column in unknown)
        ]
        broken = " or ".join(f"coalesce({rule.broken}, false)" for rule in rules) or "false"
        shown = ", ".join(
            f"cast({contract.shown(column, f'{_SALT}()')} as {kind}) as {name(column.name)}"
            for column, (_, kind) in zip(self.dataset.columns, contract.processed_columns, strict=False)
        )
        raw = f"select *, '' as _object, {day} as _day from {_INCOMING}"
        good = f"select {shown}, {day} as _landed_on, _row from ({contract.values(raw)}) where not ({broken})"
        return f"{events_sql(self.dataset, self.rules, good)} order by _row"

    def close(self) -> None:
        """Let go of the engine."""
        self._engine.close()


def bind(dataset: Dataset, rules: Sequence[Rule], zone: ZoneInfo) -> None:
    """
    Hold conditions of rules against the processed columns.

    Raises:
        DeclarationError: one can't be understood.
    """
    engine = connect(threads=1)
    try:
        kinds = ", ".join(f"{name(column)} {kind}" for column, kind in Contract(dataset, zone).processed_columns)
        engine.execute(f"create table rows ({kinds})")
        for rule in rules:
            try:
                engine.execute(f"describe {events_sql(dataset, [rule], 'select * from rows')}").fetchall()
            except duckdb.Error as error:
                raise DeclarationError(
                    f"rule {rule.name!r}: where {rule.where!r} can't be understood: {error}",
                    f"a condition over the columns of processed.{dataset.name}",
                ) from error
    finally:
        engine.close()
