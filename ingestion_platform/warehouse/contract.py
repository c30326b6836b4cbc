"""
The contract of a dataset as SQL: from raw text to typed values, the rules a row can break, and the day it belongs to.

Belongs here: making SQL text from a declaration. Doesn't: running it (`load.py`, `process.py`).

Casts are strict: DuckDB's own would round `1.7` to 2 and cut `12.345` to two digits without a word, so a value counts only when
its text says exactly that
value. Each row of raw text becomes a row with `text:<column>` (NULL where the text means NULL) and `value:<column>` (NULL where
it can't be cast).
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo

from ingestion_platform.api import ApiPages
from ingestion_platform.change_log import Captured
from ingestion_platform.database import ExtractedRows
from ingestion_platform.dataset import Changes, Dataset, LandedFiles
from ingestion_platform.stream import StreamSegments
from ingestion_platform.table import Column, Mask
from ingestion_platform.warehouse.days import STEADY_SINCE, bounds, span, start_of, steady_offset
from ingestion_platform.warehouse.engine import name, text
from ingestion_platform.warehouse.shapes import Naming, Reader, Shape, digest, is_headerless

RAW_PLATFORM_COLUMNS = (("_extra", "VARCHAR"), ("_object", "VARCHAR"), ("_row", "BIGINT"), ("_day", "DATE"))
"""What every raw table has beside the declared columns, all of which are VARCHAR there."""

ENVELOPE_COLUMNS = (
    ("_shard", "@shard"), ("_position", "@position"), ("_arrived_at", "@arrived_at"), ("_key", "@key"), ("_headers", "@headers"),
)  # fmt: skip
"""What a raw table made of a stream has beside them, as VARCHAR, and where it is in a record."""

PAGE_COLUMNS = (
    ("_fetched_at", "@fetched_at"), ("_url", "@url"), ("_page", "@page"), ("_position", "@position"),
)  # fmt: skip
"""The same of a raw table made of an API's pages."""

EXTRACT_COLUMNS = (("_extracted_at", "@extracted_at"),)
"""The same of a raw table made of what was extracted from a database."""

PROCESSED_PLATFORM_COLUMNS = (("_day", "DATE"), ("_landed_on", "DATE"), ("_object", "VARCHAR"), ("_row", "BIGINT"))
"""
What every processed table has beside the declared columns: its business day, the day of the object's key,
and where the row came from.
"""

QUARANTINE_COLUMNS = (
    ("dataset", "VARCHAR"), ("_day", "DATE"), ("_landed_on", "DATE"), ("_object", "VARCHAR"), ("_row", "BIGINT"),
    ("rules", "VARCHAR[]"), ("reasons", "VARCHAR[]"), ("record", "VARCHAR"),
)  # fmt: skip
"""
`rules` names what was broken (`quantity: above maximum`), `reasons` says it with the value; `record` is the
row as it was sent, as JSON.
"""

VERSION = 3
"""Counts up when the meaning of a declaration changes: every processed day is then computed again."""

_NUMBER = r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?"


def in_order(changes: Changes) -> str:
    """SQL of a text that a key's changes ascend by: positions have more digits than any number in DuckDB."""
    if changes.position is None:
        return (
            "_landed_on::varchar || lpad(length(_object)::varchar, 5, '0') || _object || lpad(_row::varchar, 19, '0')"
        )
    position = name(changes.position)
    return f"lpad(split_part({position}, ':', 1), 64, '0') || lpad(split_part({position}, ':', 2), 10, '0')"


def is_named_unsent(column: Column, unsent: str) -> str:
    """
    SQL: whether a change names a column among those that it doesn't say.

    Args:
        unsent: SQL of the names, as a JSON array.
    """
    steps = column.field.split(".")
    names = [".".join(steps[: last + 1]) for last in range(len(steps))]
    # A quote inside of a name has a backslash before it, so that no part of a name is taken for the whole.
    found = [f"contains({unsent}, {text(json.dumps(one, ensure_ascii=False))})" for one in names]
    return f"coalesce({' or '.join(found)}, false)"


@dataclass(frozen=True, slots=True)
class Rule:
    """
    One rule.

    Args:
        name: what it is about, the same for every row: `quantity: above maximum`.
        broken: SQL; true for rows that break it (NULL is no).
        reason: SQL text for such a row, with its value.
    """

    name: str
    broken: str
    reason: str


class Contract:
    """
    A dataset's SQL.

    Args:
        dataset: the declaration.
        business_zone: whose days partitions are.
    """

    def __init__(self, dataset: Dataset, business_zone: ZoneInfo) -> None:
        self.dataset = dataset
        self.business_zone = business_zone
        self.time_zone = dataset.time_zone or business_zone.key
        self._offset = steady_offset(ZoneInfo(self.time_zone))

    # --- schema

    @property
    def raw_columns(self) -> list[tuple[str, str]]:
        """`(name, type)` of the raw table."""
        declared = [column.name for column in self.dataset.columns]
        return [(name, "VARCHAR") for name in [*declared, *(name for name, _ in self.envelope)]] + list(
            RAW_PLATFORM_COLUMNS
        )

    @property
    def envelope(self) -> tuple[tuple[str, str], ...]:
        """Column and source of what a raw table made of a stream, an API or a database has around each value."""
        match self.dataset.source:
            case StreamSegments():
                return ENVELOPE_COLUMNS
            case ApiPages():
                return PAGE_COLUMNS
            case ExtractedRows():
                return EXTRACT_COLUMNS
            case _:
                return ()

    @property
    def processed_columns(self) -> list[tuple[str, str]]:
        """`(name, type)` of the processed table."""
        return [(column.name, self._shown_type(column)) for column in self.dataset.columns] + list(
            PROCESSED_PLATFORM_COLUMNS
        )

    @staticmethod
    def _shown_type(column: Column) -> str:
        return "VARCHAR" if column.pii is not None else column.type.sql

    @cached_property
    def digest(self) -> str:
        """Changes whenever the same raw rows would be processed otherwise. Docs, owners and thresholds don't count."""
        columns = [
            {key: value for key, value in dataclasses.asdict(column).items() if key not in ("description", "person")}
            for column in self.dataset.columns
        ]
        dataset, daily = self.dataset, self.dataset.daily
        parts = (
            VERSION, daily.from_, columns, dataset.kind, dataset.primary_key, dataset.event_time, dataset.daily.allowed_lateness_days,
            self.time_zone, self.business_zone.key, dataset.duplicate_keys, [(check.name, check.expression) for check in dataset.checks],
        )  # fmt: skip
        whole = (*parts, repr(dataset.changes)) if dataset.changes is not None else parts
        return hashlib.sha256(repr(whole).encode()).hexdigest()

    def reader(self, dialect: str = "") -> Reader:
        """
        How objects are read.

        Args:
            dialect: what was recorded of it, as text.
        """
        dataset = self.dataset
        # The ledger notes with each object the days that its rows belong to and who sent it.
        homes: tuple[object, ...] = ()
        if dataset.kind == "events" and dataset.event_time is not None:
            event = dataset.column(dataset.event_time).null_values
            daily = dataset.daily
            homes = (
                event,
                daily.allowed_lateness_days,
                daily.from_,
                dataset.event_time,
                self.time_zone,
                self.business_zone.key,
            )
        sender = dataset.senders.key_capture if dataset.senders is not None else None
        control = dataset.source.control if isinstance(dataset.source, LandedFiles) else None
        format = dataset.source.format
        if isinstance(format, Captured):
            # Which tables others take changes nothing of these rows.
            format = replace(format, others=())
        content = (
            VERSION,
            repr(format),
            # Without a header, the columns' places are what is declared.
            [column.names for column in dataset.columns] if is_headerless(format) else None,
            # What a captured value is may hang on the type that it is to have, and how many rows a change is on the key.
            [(column.names, column.type.sql) for column in dataset.columns] if dataset.is_captured else None,
            dataset.primary_key if dataset.is_captured else None,
            # What of the key goes into rows makes two objects the same, or not.
            [column.capture for column in dataset.columns if column.capture is not None],
            dataset.kind,
            sender,
            control,
        )
        return Reader(digest(repr(content)), digest(dialect) if dialect else "", digest(repr(homes)), self.shape.digest)

    @property
    def shape(self) -> Shape:
        """Which names of a record go into which raw column."""
        return Shape.of(self.dataset)

    @property
    def naming(self) -> Naming:
        """What names are to the dataset's source."""
        return Naming.of(self.dataset, self.envelope)

    # --- values

    def values(self, raw: str, columns: Sequence[Column] | None = None) -> str:
        """
        The relation *raw* (SQL) with `text:` and `value:` columns beside the raw ones.

        Args:
            columns: of which; None: of all. To plan it takes as long as there are columns.
        """
        columns = self.dataset.columns if columns is None else columns
        texts = ", ".join(f"{self.text_of(column)} as {name('text:' + column.name)}" for column in columns)
        values = ", ".join(f"{self._value(column)} as {name('value:' + column.name)}" for column in columns)
        cast = f"select *, {values} from (select *, {texts} from ({raw}))"
        moments = [name("value:" + column.name) for column in columns if column.type.sql == "TIMESTAMP"]
        if not moments:
            return cast
        # DuckDB writes an expression into every condition that uses it, and computes it there again. What is volatile it
        # leaves where it is: casting moments takes longer than all else, and is done once.
        once = ", ".join(f"case when random() >= 0 then {moment} end as {moment}" for moment in moments)
        return f"select * replace ({once}) from ({cast})"

    def fits(self, column: Column) -> str:
        """SQL over raw columns: whether a value that isn't NULL is of the column's type, and one of those it may have."""
        value = self._value(column).replace(name("text:" + column.name), f"({self.text_of(column)})")
        fits = f"({value}) is not null"
        if column.one_of:
            fits += f" and ({value}) in ({', '.join(self._literal(column, one) for one in column.one_of)})"
        if column.pattern is not None:
            fits += f" and regexp_full_match({self.text_of(column)}, {text(column.pattern)})"
        return fits

    @staticmethod
    def text_of(column: Column) -> str:
        """SQL of a raw column's text: NULL where it means NULL."""
        source = name(column.name)
        if not column.null_values:
            return source
        if len(column.null_values) == 1:
            return f"nullif({source}, {text(column.null_values[0])})"
        return f"case when {source} in ({', '.join(text(value) for value in column.null_values)}) then null else {source} end"

    def _value(self, column: Column) -> str:
        source = name("text:" + column.name)
        kind = column.type.sql
        cast = f"try_cast({source} as {kind})"
        if kind == "VARCHAR":
            return source
        if kind in ("INTEGER", "BIGINT"):
            return self._exactly(cast, source, "[+-]?[0-9]+")
        if column.type.is_decimal:
            scale = column.type.scale
            return self._exactly(
                cast, source, rf"[+-]?([0-9]+(\.[0-9]{{0,{scale}}}0*)?|\.[0-9]{{1,{max(scale, 1)}}}0*)"
            )
        if kind == "DOUBLE":
            return f"case when regexp_full_match({source}, '{_NUMBER}') and isfinite({cast}) then {cast} end"
        if kind == "BOOLEAN":
            return (
                f"case when lower({source}) in ('true', 't', 'yes', 'y', '1') then true"
                f" when lower({source}) in ('false', 'f', 'no', 'n', '0') then false end"
            )
        if kind == "DATE":
            return f"case when {cast}::varchar = {source} then {cast} end"
        if kind == "TIMESTAMP":
            # A date alone is no moment; DuckDB would read it as midnight, and accept spaces around it.
            exactly = (
                f"when length({source}) >= 16 and trim({source}) = {source}"
                f" then timezone('UTC', try_cast({source} as timestamptz))"
            )
            if self._offset is None:
                return f"case {exactly} end"
            # Text as the warehouse itself writes a moment has no offset of its own. Where the zone's never changes, a
            # subtraction gives what the calendar library gives, in a third of the time.
            plain = f"try_cast({source} as timestamp)"
            return (
                f"case when {plain}::varchar = {source} and {plain} >= {_moment(datetime.combine(STEADY_SINCE, time.min))}"
                f" then {plain} - interval {int(self._offset.total_seconds())} second {exactly} end"
            )
        return f"case when json_valid({source}) then {source}::json end"

    @staticmethod
    def _exactly(cast: str, source: str, pattern: str) -> str:
        # Most texts are written as the warehouse itself writes the value; only the others need the regular expression.
        return f"case when {cast}::varchar = {source} then {cast} when regexp_full_match({source}, '{pattern}') then {cast} end"

    def shown(self, column: Column, salt: str = "getvariable('pii_salt')") -> str:
        """
        A column's value as the processed table shows it: masked when it is personal.

        Args:
            salt: SQL of what hashes are salted with.
        """
        value = name("value:" + column.name)
        if column.pii is None:
            return value
        if column.pii is Mask.HASH:
            return f"sha256({salt} || {value}::varchar)"
        if column.pii is Mask.LAST4:
            shown = f"case when length({value}::varchar) < 8 then 0 else 4 end"
            return f"repeat('*', length({value}::varchar) - {shown}) || right({value}::varchar, {shown})"
        return f"case when {value} is null then null end::varchar"

    @property
    def needs_salt(self) -> bool:
        """Whether a column is hashed."""
        return any(column.pii is Mask.HASH for column in self.dataset.columns)

    # --- days

    def has_late_rows(self, landed_on: date) -> bool:
        """Whether rows whose object's key is of a day may belong to another one."""
        return self.dataset.kind == "events" and self._earliest(landed_on) < landed_on

    def home_day(self, landed_on: date) -> str:
        """
        SQL of the processed day that a row belongs to, for rows whose object's key is of *landed_on*.

        The business day of the event time when that is allowed; otherwise the key's own day, where the row is quarantined.
        """
        own = f"date '{landed_on.isoformat()}'"
        if not self.has_late_rows(landed_on):
            return own
        event = name(f"value:{self.dataset.event_time}")
        cases = " ".join(
            f"when {self._within(event, day, day)} then date '{day.isoformat()}'"
            for day in reversed(span(self._earliest(landed_on), landed_on))
        )
        return f"case {cases} else {own} end"

    def belongs_to(self, day: date) -> str:
        """SQL: whether a row belongs to the processed day *day*; the counterpart of `home_day`."""
        landed_on = "_day"
        own = f"{landed_on} = date '{day.isoformat()}'"
        if self.dataset.kind != "events":
            return own
        event = name(f"value:{self.dataset.event_time}")
        is_kept = day >= self.dataset.daily.from_
        last = day + timedelta(days=self.dataset.daily.allowed_lateness_days if is_kept else 0)
        in_time = f"({self._within(event, day, day)} and {landed_on} between date '{day.isoformat()}' and date '{last.isoformat()}')"
        homeless = f"({own} and not coalesce({self._within(event, self._earliest(day), day)}, false))"
        return f"(coalesce({in_time}, false) or {homeless})"

    def _earliest(self, landed_on: date) -> date:
        """The first day that rows landing on a day may belong to. Before the dataset's own first day there is none."""
        earliest = landed_on - timedelta(days=self.dataset.daily.allowed_lateness_days)
        return min(landed_on, max(earliest, self.dataset.daily.from_))

    def _within(self, event: str, first: date, last: date) -> str:
        return f"({event} >= {_moment(start_of(first, self.business_zone))} and {event} < {_moment(bounds(last, self.business_zone)[1])})"

    # --- rules

    def rules(self, day: date, references: Mapping[str, str]) -> list[Rule]:
        """
        Every rule of a row of *day*.

        Args:
            day: the processed day.
            references: column → SQL of a relation with one column `value` that lists what may be there.
        """
        rules: list[Rule] = []
        for column in self.dataset.columns:
            rules.extend(self._column_rules(column, references))
        if self.dataset.kind == "events":
            rules.extend(self._day_rules(day))
        return rules

    def _column_rules(self, column: Column, references: Mapping[str, str]) -> list[Rule]:
        source, value = name("text:" + column.name), name("value:" + column.name)
        # What is personal stays out of reasons: they are shown where the masked table is.
        shown = "'the value'" if column.pii is not None else f"'''' || left({source}, 100) || ''''"
        rules = []

        says_nothing, is_unsent = self._says_nothing(column), self._is_unsent(column)

        def rule(kind: str, broken: str, reason: str) -> None:
            holds = f"({broken}) and not {says_nothing}" if says_nothing else broken
            rules.append(Rule(f"{column.name}: {kind}", holds, f"{text(column.name + ': ')} || {reason}"))

        if column.required:
            missing = f"{source} is null and not {is_unsent}" if is_unsent else f"{source} is null"
            rule("missing", missing, "'required, but there is no value'")
        if column.type.sql != "VARCHAR":
            rule(
                f"not {column.type}",
                f"{source} is not null and {value} is null",
                f"{shown} || {text(f' is not exactly of type {column.type}')}",
            )
        if column.minimum is not None:
            rule(
                "below minimum",
                f"{value} < {self._literal(column, column.minimum)}",
                f"{shown} || {text(f' is below {column.minimum}')}",
            )
        if column.maximum is not None:
            rule(
                "above maximum",
                f"{value} > {self._literal(column, column.maximum)}",
                f"{shown} || {text(f' is above {column.maximum}')}",
            )
        if column.one_of:
            allowed = ", ".join(self._literal(column, one) for one in column.one_of)
            rule(
                "not an allowed value",
                f"{value} not in ({allowed})",
                f"{shown} || {text(' is not one of ' + ', '.join(column.one_of))}",
            )
        if column.pattern is not None:
            rule(
                "not of the pattern",
                f"not regexp_full_match({source}, {text(column.pattern)})",
                f"{shown} || {text(f' does not match {column.pattern}')}",
            )
        if column.references is not None:
            rule(
                f"not in {column.references}",
                f"{value} is not null and {value}::varchar not in (select value from ({references[column.name]}))",
                f"{shown} || {text(f' is not in {column.references}')}",
            )
        return rules

    def _says_nothing(self, column: Column) -> str:
        """SQL: whether a change says nothing of a column, whatever it has there: what is removed has no values to be judged."""
        changes = self.dataset.changes
        if changes is None or changes.operation is None or column.name == changes.operation:
            return ""
        operations = changes.ignores
        if column.name != changes.position:
            operations += changes.truncates
        if column.name not in (*self.dataset.primary_key, changes.position):
            operations += changes.removes
        if not operations:
            return ""
        return f"coalesce({name('text:' + changes.operation)} in ({', '.join(map(text, operations))}), false)"

    def _is_unsent(self, column: Column) -> str:
        """SQL: whether a change says that it doesn't have a column's value."""
        changes = self.dataset.changes
        own = (changes.operation, changes.position, changes.unsent) if changes is not None else ()
        if changes is None or changes.unsent is None or column.name in (*own, *self.dataset.primary_key):
            return ""
        return is_named_unsent(column, name("text:" + changes.unsent))

    def _day_rules(self, day: date) -> list[Rule]:
        event_time = self.dataset.event_time
        value = name(f"value:{event_time}")
        lateness = self.dataset.daily.allowed_lateness_days
        too_late = f" UTC is more than {lateness} days before {day}, the day of its object"
        if self._earliest(day) > day - timedelta(days=lateness):
            too_late = f" UTC is before {self._earliest(day)}, the first day"
        first, after = start_of(self._earliest(day), self.business_zone), bounds(day, self.business_zone)[1]
        own = f"_day = date '{day.isoformat()}'"
        return [
            Rule(
                f"{event_time}: too late",
                f"{own} and {value} < {_moment(first)}",
                f"{text(f'{event_time}: ')} || {value}::varchar || {text(too_late)}",
            ),
            Rule(
                f"{event_time}: after its object's day",
                f"{own} and {value} >= {_moment(after)}",
                f"{text(f'{event_time}: ')} || {value}::varchar || {text(f' UTC is after {day}, the day of its object')}",
            ),
        ]

    @staticmethod
    def _literal(column: Column, value: Any) -> str:
        return f"{text(str(value))}::{column.type.sql}"

    def record(self) -> str:
        """SQL of the row as it was sent, as JSON text."""
        pairs = ", ".join(f"{text(column.name)}, {name(column.name)}" for column in self.dataset.columns)
        return f"json_object({pairs}, '_extra', _extra::json)::varchar"


def _moment(moment: datetime) -> str:
    return f"timestamp '{moment.isoformat(sep=' ')}'"
