"""
What a dataset is: a raw table, where its objects land, its days, its senders, its contract.

Belongs here: the declaration and what can be told wrong with it alone. Doesn't: reading (`formats/`), loading (`warehouse/`), the datasets
themselves (`datasets/`).
"""

import difflib
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from datetime import date
from functools import cached_property
from itertools import combinations
from types import ModuleType
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from ingestion_platform import api as api_room
from ingestion_platform import change_log as change_room
from ingestion_platform import control as control_room
from ingestion_platform import database as database_room
from ingestion_platform import format as format_room
from ingestion_platform import lifecycle as lifecycle_room
from ingestion_platform import opening_days as opening_days_room
from ingestion_platform import senders as senders_room
from ingestion_platform import stream as stream_room
from ingestion_platform import table as table_room
from ingestion_platform.api import PAGE_FIELDS, Api, ApiPages, EachRecord, EachRow, Endpoint, Pages
from ingestion_platform.change_log import (
    CHANGE_COLUMNS,
    IGNORES,
    REMOVES,
    TRUNCATES,
    Captured,
    CapturedValues,
    ChangeLog,
    is_told_of_change,
)
from ingestion_platform.control import Control
from ingestion_platform.database import EXTRACT_FIELDS, Database, Extract, ExtractedRows, ExtractFile
from ingestion_platform.errors import DeclarationError
from ingestion_platform.format import Csv, FixedWidth, Format, Json, JsonLines, Parquet, Xml
from ingestion_platform.key_template import KeyTemplate, with_day
from ingestion_platform.lifecycle import Lifecycle
from ingestion_platform.own_roots import OWN_ROOTS, claimed
from ingestion_platform.remote import RemoteFiles, RemoteObjects
from ingestion_platform.senders import Senders
from ingestion_platform.stream import (
    ENVELOPE_FIELDS,
    BytesValues,
    CapturedDatabase,
    DynamoDbChanges,
    JsonValues,
    Segments,
    Stream,
    StreamSegments,
)
from ingestion_platform.table import DATE, IDENTIFIER, STRICT, TIMESTAMP, VARCHAR, Check, Column, Mask


@dataclass(frozen=True, config=STRICT)
class LandedFiles:
    """
    Objects that producers put into the landing zone themselves.

    Args:
        templates: one key template or several: `sales/%Y/%m/%d/{store_id}.csv`. `%Y %m %d` give the day, `{name}` captures one path
            segment or a part of it. A name ending in `.gz` is decompressed.
        format: how the bytes are read.
        control: what their sender says of them beside the records, which must be so.
        undated: templates of keys that tell no day, `hr/employee/LOAD{number}.csv`, as of what was there at first.
        undated_day: the day that these belong to.
    """

    templates: str | tuple[str, ...]
    format: Format | ChangeLog = Csv()
    control: Control | None = None
    undated: tuple[str, ...] = ()
    undated_day: date | None = None

    def __post_init__(self) -> None:
        if bool(self.undated) != (self.undated_day is not None):
            raise DeclarationError(
                "LandedFiles: undated and undated_day go together",
                "say which keys tell no day, and which day is theirs",
            )
        control = self.control
        if (
            control is not None
            and control.trailer
            and not (isinstance(self.format, Csv | FixedWidth) and self.format.footer)
        ):
            raise DeclarationError(
                "Control: a trailer is a line of the footer of a CSV or of fixed width, and its format has none",
                f"footer={control.trailer!r}",
            )

    @cached_property
    def keys(self) -> tuple[KeyTemplate, ...]:
        """The templates, compiled."""
        texts = (self.templates,) if isinstance(self.templates, str) else self.templates
        undated = (KeyTemplate(text, self.undated_day) for text in self.undated)
        return (*(KeyTemplate(text) for text in texts), *undated)

    @property
    def captures(self) -> frozenset[str]:
        """Captures that every template gives."""
        return frozenset.intersection(*(frozenset(key.captures) for key in self.keys))

    def match(self, key: str) -> tuple[date, dict[str, str]] | None:
        """The day and the captures of an object's key, or None when it isn't this dataset's."""
        for template in self.keys:
            found = template.match(key)
            if found is not None:
                return found
        return None


Source = LandedFiles | StreamSegments | ApiPages | RemoteObjects | ExtractedRows

WholeFetches = ApiPages | ExtractedRows
"""Sources of which a day's objects count together or not at all: a note says that all of them are there."""

Route = Literal["urgent", "small", "large"]
"""How an object goes: before everything, along with the day's others, or alone."""

MOST_OBJECTS_A_RUN = 10_000
"""A run's configuration names them, and is kept in Dagster's database."""


def overlap(one: Source, other: Source) -> str | None:
    """
    A key that both would take; None when none was found by trying each one's own keys on the other.

    Datasets of one stream, of one endpoint, of one remote or of one extract share its keys.
    """
    if not _begin_alike(one, other):
        return None
    if isinstance(one, StreamSegments) and isinstance(other, StreamSegments) and one.stream.name == other.stream.name:
        return None
    if isinstance(one, ApiPages) and isinstance(other, ApiPages) and one.endpoint.name == other.endpoint.name:
        return None
    if isinstance(one, RemoteObjects) and isinstance(other, RemoteObjects) and one.remote.name == other.remote.name:
        return None
    if isinstance(one, ExtractedRows) and isinstance(other, ExtractedRows) and one.extract.name == other.extract.name:
        return None
    if _are_of_other_tables(one, other):
        return None
    for ours, theirs in ((one, other), (other, one)):
        for template in ours.keys:
            key = template.key(date(2024, 2, 29), **dict.fromkeys(template.captures, "1"))
            if theirs.match(key) is not None:
                return key
    return None


def _begin_alike(one: Source, other: Source) -> bool:
    """Whether keys of both may have the same beginning: those of most pairs haven't, and of 200 datasets there are 20,000 pairs."""
    return any(
        ours.root.startswith(theirs.root) or theirs.root.startswith(ours.root)
        for ours in one.keys
        for theirs in other.keys
    )


def _are_of_other_tables(one: Source, other: Source) -> bool:
    """Whether two datasets take the changes of different tables out of the same objects."""
    if not (isinstance(one, LandedFiles) and isinstance(other, LandedFiles)):
        return False
    ours, theirs = one.format, other.format
    if not (isinstance(ours, Captured) and isinstance(theirs, Captured) and one.templates == other.templates):
        return False
    return bool(ours.table and theirs.table) and ours.table != theirs.table


@dataclass(frozen=True, config=STRICT)
class Daily:
    """
    The days a dataset has.

    Args:
        from_: the first business day, `2024-10-01`.
        allowed_lateness_days: how many days after its event day a row may still land.
    """

    from_: date
    allowed_lateness_days: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.allowed_lateness_days <= 366:
            raise DeclarationError(f"Daily: allowed_lateness_days is 0 to 366, not {self.allowed_lateness_days}")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Routing:
    """
    In which runs a day's new objects are loaded. Without it, all of them in one.

    Args:
        own_run_above_bytes: an object of more bytes gets a run of its own, and nothing else waits for it; None: none does.
        urgent: beginnings of keys, `sales/%Y/%m/%d/HQ`, whose objects are loaded before everything else that waits for a run;
            `%Y %m %d` give the day.
        max_objects_a_run: of more small objects than that, several runs are made; None: one, however many there are.
    """

    own_run_above_bytes: int | None = None
    urgent: tuple[str, ...] = ()
    max_objects_a_run: int | None = None

    def __post_init__(self) -> None:
        if self.own_run_above_bytes is None and not self.urgent and self.max_objects_a_run is None:
            raise DeclarationError(
                "Routing says nothing", "own_run_above_bytes, urgent or max_objects_a_run; or leave it out"
            )
        if self.own_run_above_bytes is not None and self.own_run_above_bytes < 0:
            raise DeclarationError(
                f"Routing: own_run_above_bytes is 0 or more, not {self.own_run_above_bytes}", "as in 500_000_000"
            )
        if self.max_objects_a_run is not None and not 1 <= self.max_objects_a_run <= MOST_OBJECTS_A_RUN:
            raise DeclarationError(
                f"Routing: max_objects_a_run is 1 to {MOST_OBJECTS_A_RUN:,}, not {self.max_objects_a_run:,}",
                "a run that is limited names its objects",
            )

    def route(self, key: str, size_bytes: int, day: date) -> Route:
        """How an object of that day goes."""
        if any(key.startswith(with_day(prefix, day)) for prefix in self.urgent):
            return "urgent"
        return "large" if self.is_large(size_bytes) else "small"

    def is_large(self, size_bytes: int) -> bool:
        """Whether an object of that size gets a run of its own."""
        return self.own_run_above_bytes is not None and size_bytes > self.own_run_above_bytes


VALIDITY = ("valid_from", "valid_to", "is_current")
"""Columns that the history table of changes has beside those of the current one."""


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Changes:
    """
    What a dataset of changes says of each: what happened, and what came before what.

    Args:
        operation: the column that says what happened to the row; None where nothing is ever removed, as of an API that tells what is new.
        removes: its values after which the row is no more. Of such a change only operation, position and key are required.
        truncates: its values after which no row is any more; such a change has no key.
        ignores: its values that change no row; they may be without a key, and are counted in the table of all changes.
        position: the column that a key's changes ascend by: the record's `@position` in its stream, or what its source says. Two changes
            of a key at one position are the same, sent twice. None, of files: they ascend as they landed, by day, key and row.
        moment: the TIMESTAMP column that says when it happened; with it there is `processed.<name>_history`. Where it is NULL, the
            beginning of the day on which the change landed stands for it.
        unsent: the column that names what a change doesn't say, as a JSON array of texts: sources of columns, or what stands before a
            dot in them. These columns keep the value that the key's former change gave them.
        only_in_history: columns that only `processed.<name>` has, as values from before a change.
    """

    operation: str | None = "operation"
    removes: tuple[str, ...] = ("REMOVE",)
    truncates: tuple[str, ...] = ()
    ignores: tuple[str, ...] = ()
    position: str | None = "position"
    moment: str | None = None
    unsent: str | None = None
    only_in_history: tuple[str, ...] = ()


CAPTURED = Changes(removes=("DELETE",), truncates=("TRUNCATE", "RESTART"), moment="changed_at", unsent="unsent")
"""
What the changes are that are captured from a database's log: INSERT, UPDATE, DELETE (also of the former key of a row that gets another
one), TRUNCATE; RESTART before the rows of a table as a capture found them, SNAPSHOT for each of these. For `CAPTURED_COLUMNS`.
"""

EXTRACTED = Changes(removes=("DELETE",), truncates=("RESTART",), moment="extracted_at")
"""What the changes are that an extract with a cursor finds: SNAPSHOT, UPSERT, DELETE, RESTART. For `EXTRACTED_COLUMNS`."""

EXTRACTED_COLUMNS = (
    Column(
        "operation",
        VARCHAR,
        "What was found: SNAPSHOT (a row, at the beginning), UPSERT (it is new or has changed), DELETE (it is gone), RESTART (all anew).",
        source="@operation",
        required=True,
    ),
    Column("position", VARCHAR, "The change's place among all that was extracted.", source="@position", required=True),
    Column("extracted_at", TIMESTAMP, "The moment whose state it is, by the database's clock.", source="@extracted_at"),
)
"""Columns beside those of the table itself, of a dataset of what an extract with a cursor finds."""

CAPTURED_COLUMNS = (
    Column(
        "operation",
        VARCHAR,
        "What happened to the row: INSERT, UPDATE, DELETE, TRUNCATE (all rows are gone), SNAPSHOT (it was found there), RESTART (all"
        " is found anew).",
        source="@header.operation",
        required=True,
    ),
    Column("position", VARCHAR, "The change's place in the order of commits.", source="@position", required=True),
    Column("changed_at", TIMESTAMP, "When the transaction committed.", source="@arrived_at"),
    Column(
        "unsent",
        VARCHAR,
        "Columns that an update left as they were, and the database didn't send: a JSON array of their names.",
        source="@header.unsent",
    ),
)
"""Columns beside those of the table itself, of a dataset that is captured from a database's log."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"), kw_only=True)
class Dataset:
    """
    One ingested table, declared once: reading, typing, checks, masking, docs and the Dagster assets follow from it.

    Args:
        name: the table's name in `raw` and `processed`.
        description: what one row is.
        source: how its objects get into the landing zone, and how they are read.
        columns: every column of the processed table; what a file has beyond them is kept in `_extra`.
        kind: `events` (things that happened: processed by the day of their event time, one row per key), `snapshots` (the whole state
            as a sender saw it on a day; a later object of the same sender and day replaces it) or `changes` (inserts, updates and removals
            of keyed rows: the processed table has all of them, by the day they came, `processed.<name>_current` for each key the last
            one, and `processed.<name>_history` every state of each row, with when it was so).
        changes: of changes: how they are told apart and put in order.
        primary_key: column names; empty when every row sent is a row of its own.
        event_time: the TIMESTAMP column that says when a row happened; needed for events.
        daily: its first day, and the allowed lateness.
        senders: who is expected, on which days, and by when.
        routing: which of a day's files are loaded in which run.
        lifecycle: how its landed files age; None: they don't. That of segments and pages is declared with the stream or the endpoint.
        owners: `team:name` or an e-mail address.
        time_zone: of timestamps written without an offset. Default: the business time zone.
        on_unknown_column: `keep` in `_extra`, `ignore`, or `fail` (reject the object).
        duplicate_keys: rows that lose against another with their key are counted as superseded, or go to quarantine.
        max_quarantined_pct: above this share of a day's rows the check `quarantine_share` fails.
        volume_tolerance_pct: how far a day's rows may be from the median of the trailing days before `volume` warns.
        erase: what becomes of the rows of a person who is forgotten: `row` (they go), or `columns` (they stay, for the books, and lose
            whatever is personal, or isn't declared).
        checks: what every processed row should satisfy beside the columns' rules.
        schedule: cron, in business time, of one more materialization of yesterday; None: only as files arrive and at the close of the day.
        tags: shown in Dagster.
    """

    name: str
    description: str
    source: Source
    columns: tuple[Column, ...]
    kind: Literal["events", "snapshots", "changes"] = "events"
    changes: Changes | None = None
    primary_key: tuple[str, ...] = ()
    event_time: str | None = None
    daily: Daily
    senders: Senders | None = None
    routing: Routing | None = None
    lifecycle: Lifecycle | None = None
    owners: tuple[str, ...] = ()
    time_zone: str | None = None
    on_unknown_column: Literal["keep", "fail", "ignore"] = "keep"
    duplicate_keys: Literal["supersede", "quarantine"] = "supersede"
    max_quarantined_pct: float = 5.0
    volume_tolerance_pct: float = 50.0
    erase: Literal["row", "columns"] = "row"
    checks: tuple[Check, ...] = ()
    schedule: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._take_what_changes_tell()
        self._require(
            IDENTIFIER.fullmatch(self.name) is not None,
            "a name is snake_case and starts with a letter",
            "rename it",
        )
        self._require(bool(self.description.strip()), "it has no description", "say what one row is")
        names = [column.name for column in self.columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        self._require(not twice, f"columns declared twice: {twice}", "each column once")
        self._require(bool(names), "it has no columns", "declare at least one")
        try:
            _ = self.source.keys
        except DeclarationError as error:
            raise self._error(error.what, error.hint) from error
        for key in self.primary_key:
            mask = self._column(key, "primary_key").pii
            self._require(
                mask in (None, Mask.HASH),
                f"primary_key {key!r} is masked by {mask}: different keys would look the same, and rows be superseded",
                "Mask.HASH keeps different values different",
            )
        if self.kind == "events" or self.event_time is not None:
            if self.event_time is None:
                raise self._error("events need event_time", "name the TIMESTAMP column that says when a row happened")
            column = self._column(self.event_time, "event_time")
            self._require(
                column.type == TIMESTAMP,
                f"event_time {self.event_time!r} is {column.type}, not TIMESTAMP",
                "declare it as TIMESTAMP",
            )
        for column in self.columns:
            if column.capture is not None and column.capture not in self.source.captures:
                raise self._error(
                    f"column {column.name!r} takes capture {column.capture!r}, which its keys {self.source.templates!r} don't have",
                    f"captures: {sorted(self.source.captures)}",
                )
        fields = {column.field: column.name for column in self.columns if column.capture is None}
        for column in self.columns:
            self._require(
                not column.aliases or self._has_names_of_their_own(),
                f"column {column.name!r} has aliases, and in what it is read from a value has one name at most",
                "columns of CSV with a header, Excel and Parquet, and members of JSON and Avro may have several",
            )
            for alias in column.aliases:
                self._require(
                    alias not in fields and not alias.startswith("@"),
                    f"column {column.name!r} has the alias {alias!r}, which is what column {fields.get(alias, alias)!r} reads",
                    "a value belongs to one column",
                )
        if isinstance(self.source, LandedFiles | RemoteObjects):
            self._require_file_fields(self.source)
        if isinstance(self.source, StreamSegments):
            self._require_stream_fields(self.source)
        if isinstance(self.source, ApiPages):
            self._require_api_fields(self.source)
        if isinstance(self.source, ExtractedRows):
            self._require_extract_fields(self.source)
        if self.erase == "columns":
            self._require_emptied()
        if self.senders is not None and self.senders.key_capture not in self.source.captures:
            raise self._error(
                f"senders are named by capture {self.senders.key_capture!r}, which its keys {self.source.templates!r} don't have",
                f"captures: {sorted(self.source.captures)}",
            )
        if self.routing is not None:
            self._require_routes(self.routing)
        self._require(
            self.lifecycle is None or isinstance(self.source, LandedFiles),
            "it says how its objects age, and they are those of a stream, an endpoint or an extract",
            "declare lifecycle there: every dataset of it reads the same objects",
        )
        self._require(
            self.kind == "events" or self.daily.allowed_lateness_days == 0,
            f"{self.kind} have no lateness: they belong to the day of their key",
            "leave allowed_lateness_days out",
        )
        self._require(
            self.kind == "changes" or self.changes is None,
            f"it says what its changes are, and holds {self.kind}",
            "kind='changes', or leave changes out",
        )
        if self.kind == "changes":
            self._require_changes()
        self._require(
            not self.is_captured or self.kind == "changes",
            f"its records are captured changes, and it holds {self.kind}",
            "kind='changes'",
        )
        if self.time_zone is not None:
            try:
                ZoneInfo(self.time_zone)
            except (ZoneInfoNotFoundError, ValueError) as error:
                raise self._error(f"time_zone {self.time_zone!r} is unknown", "as in Africa/Johannesburg") from error

    @property
    def people(self) -> Mapping[str, tuple[Column, ...]]:
        """Kind of person → the columns that tell whose a row is."""
        found: dict[str, tuple[Column, ...]] = {}
        for column in self.columns:
            if column.person is not None:
                found[column.person] = (*found.get(column.person, ()), column)
        return found

    def _require_emptied(self) -> None:
        """Rows that lose what is personal are rows still."""
        format = self.source.format
        inside = format.inside if isinstance(format, Pages) else format
        can_be = isinstance(inside, Csv | FixedWidth | JsonLines | Json | Xml | Parquet | ExtractFile) or (
            isinstance(inside, Segments) and isinstance(inside.values, JsonValues)
        )
        self._require(
            can_be and not self.is_captured,
            "erase='columns', and records of its format can't be emptied",
            "erase='row': of Avro, Excel, captured changes and streams whose values aren't plain JSON rows go whole",
        )
        self._require(
            bool(self.people),
            "erase='columns', and no column tells whose a row is",
            "person='…' at the column with a person's key, or leave erase out",
        )
        for column in self.columns:
            if column.pii is None and column.person is None:
                continue
            self._require(
                not column.required and column.name not in (*self.primary_key, self.event_time),
                f"erase='columns', and {column.name!r}, which is personal, can't be empty: such rows would go to quarantine",
                "erase='row', or let the column be empty",
            )
            self._require(
                column.capture is None,
                f"erase='columns', and {column.name!r}, which is personal, is told by the object's key",
                "erase='row': then the object goes",
            )
            self._require(
                "" in column.null_values,
                f"erase='columns', and in {column.name!r}, which is personal, an empty text is a value",
                "erase='row', or null_values with an empty text",
            )

    def _take_what_changes_tell(self) -> None:
        """Of captured changes: add the columns that every one of them has, and say what their operations mean."""
        if not self.is_captured or self.kind != "changes":
            return
        declared = {column.field: column for column in self.columns}
        names = {column.field: column.name for column in (*CHANGE_COLUMNS, *self.columns)}
        changes = self.changes
        if changes is None:
            changes = Changes(position=names["@source_position"])
        if changes == Changes(position=changes.position, only_in_history=changes.only_in_history):
            changes = replace(
                changes,
                operation=names["@operation"],
                removes=REMOVES,
                truncates=TRUNCATES,
                ignores=IGNORES,
                moment=names["@changed_at"],
                unsent=names["@unsent"],
            )
        added = [column for column in CHANGE_COLUMNS if column.field not in declared]
        if changes.position != names["@source_position"]:
            # Then a change needn't say where in the log it stands.
            added = [replace(column, required=column.required and column.field == "@operation") for column in added]
        object.__setattr__(self, "changes", changes)
        object.__setattr__(self, "columns", (*self.columns, *added))

    @property
    def is_captured(self) -> bool:
        """Whether its records are changes that somebody else captured."""
        match self.source:
            case LandedFiles() | RemoteObjects():
                return isinstance(self.source.format, ChangeLog)
            case StreamSegments():
                return isinstance(self.source.values, CapturedValues)
            case _:
                return False

    def _has_names_of_their_own(self) -> bool:
        """Whether values are found by names, which are in `_extra` when nobody asks for them."""
        if self.is_captured:
            # What a value is may hang on the type that its column is declared of.
            return False
        format = self.source.format
        match format.inside if isinstance(format, Pages) else format:
            case Xml() | FixedWidth():
                return False
            case Csv() as csv:
                return csv.header_rows != 0
            case Segments() as segments:
                keeps_all = any(column.field == "@value" for column in self.columns)
                return not isinstance(segments.values, BytesValues) and not keeps_all
            case _:
                return True

    def _require_routes(self, routing: Routing) -> None:
        self._require(
            isinstance(self.source, LandedFiles),
            "only files are routed: segments are closed before they are large, and a fetch counts as a whole",
            "leave routing out",
        )
        roots = [template.root for template in self.source.keys]
        for prefix in routing.urgent:
            beginning = prefix.partition("%")[0]
            self._require(
                bool(prefix)
                and set(re.findall("%(.?)", prefix)) <= set("Ymd")
                and any(beginning.startswith(root) or root.startswith(beginning) for root in roots),
                f"urgent {prefix!r} begins none of its keys {self.source.templates!r}",
                "the whole beginning of a key, as in 'sales/%Y/%m/%d/HQ'",
            )

    def _require_file_fields(self, source: LandedFiles | RemoteObjects) -> None:
        if isinstance(source.format, FixedWidth):
            names = [name for name, _ in source.format.fields if name]
            for column in self.columns:
                self._require(
                    column.capture is not None or column.field in names,
                    f"column {column.name!r}: {column.field!r} is none of the fields that its lines have",
                    f"one of {', '.join(names)}",
                )
        if isinstance(source, RemoteObjects) or source.control is None:
            return
        if source.control.sum_of:
            column = self._column(source.control.sum_of, "sum_of")
            self._require(
                column.capture is None,
                f"sum_of {column.name!r} is taken from the key: there is nothing to sum up",
                "name a column of the records",
            )
        for template in source.keys:
            key = template.key(date(2024, 2, 29), **dict.fromkeys(template.captures, "1"))
            for companion in source.control.companions(key):
                self._require(
                    source.match(companion) is None,
                    f"its control takes {companion!r} beside {key!r}, which is an object of the dataset itself",
                    "tell their keys apart",
                )

    def _require_stream_fields(self, source: StreamSegments) -> None:
        for column in self.columns:
            of_envelope = column.field.startswith("@") and not (self.is_captured and is_told_of_change(column.field))
            self._require(
                not of_envelope or column.field in ENVELOPE_FIELDS or column.field.startswith("@header."),
                f"column {column.name!r}: {column.field!r} is nothing that a stream's record has",
                f"one of {', '.join(ENVELOPE_FIELDS)}, @header.<name>, or a field of the value",
            )
            self._require(
                of_envelope or column.capture is not None or not isinstance(source.values, BytesValues),
                f"column {column.name!r} is a field of the value, and the values are bytes that nobody looks into",
                "take source='@value', or declare what the values are",
            )
        self._require(
            self.kind != "snapshots",
            f"a stream is no {self.kind}: its segments are no whole state",
            "declare events, or changes",
        )

    def _require_api_fields(self, source: ApiPages) -> None:
        self._require(
            not (isinstance(source.format.inside, Csv) and source.format.inside.undetected),
            "the dialect of its replies is left to be detected",
            "an API's replies are of one dialect: declare it",
        )
        given = source.endpoint.each.names if source.endpoint.each is not None else ()
        fields = (*PAGE_FIELDS, *(f"@param.{name}" for name in given))
        for column in self.columns:
            of_page = column.field.startswith("@") and not isinstance(source.format.inside, Xml)
            self._require(
                not (of_page or column.field.startswith("@param.")) or column.field in fields,
                f"column {column.name!r}: {column.field!r} is nothing that a page of {source.endpoint.name!r} has",
                f"one of {', '.join(fields)}, or a field of the record",
            )
        self._require(
            self.kind != "changes" or source.endpoint.cursor is not None,
            f"endpoint {source.endpoint.name!r} has no cursor: each fetch has all of the day, and is no change of the one before",
            "declare snapshots or events, or give the endpoint a cursor",
        )
        self._require(
            self.kind != "snapshots" or source.endpoint.cursor is None,
            f"endpoint {source.endpoint.name!r} has a cursor: a fetch has only what is new, and is no whole state",
            "declare changes: its current table is the whole state",
        )

    def _require_extract_fields(self, source: ExtractedRows) -> None:
        extract = source.extract
        for column in self.columns:
            of_row = not column.field.startswith("@") or column.field.startswith("@@")
            self._require(
                of_row or column.field in EXTRACT_FIELDS,
                f"column {column.name!r}: {column.field!r} is nothing that an extracted row has",
                f"one of {', '.join(EXTRACT_FIELDS)}, or a column of the database (@@name, where its name is @name)",
            )
            self._require(
                not of_row or not extract.columns or column.field.removeprefix("@") in extract.columns,
                f"column {column.name!r}: extract {extract.name!r} doesn't read {column.field!r}",
                "add it to the extract's columns",
            )
        self._require(
            (self.kind == "changes") == (extract.cursor is not None),
            f"extract {extract.name!r} has {'a cursor' if extract.cursor else 'no cursor'}, and it holds {self.kind}",
            "changes are extracted by a cursor; snapshots, and events of a query of days, without",
        )
        self._require(
            self.kind != "events" or extract.asks_for_days,
            f"extract {extract.name!r} has all rows on each day, and they are no events of it",
            "kind='snapshots', or ask for the day's rows: $day, $window_start and $window_end in its query",
        )

    def _require_changes(self) -> None:
        changes, source = self.changes, self.source
        if changes is None:
            raise self._error(
                "changes need changes=Changes(…)",
                "the current table is made of what it says, in the order in which changes came",
            )
        self._require(
            isinstance(source, ApiPages) or changes.operation is not None,
            "what happened to a row isn't said, and changes remove rows too",
            "name the column in operation",
        )
        self._require(bool(self.primary_key), "changes need primary_key", "name the columns of the row's key")
        self._require(bool(changes.removes), "no operation removes a row", "say in removes which ones do")
        self._require(
            self.duplicate_keys == "supersede",
            "the same change sent twice is one, and nothing to be quarantined",
            "leave duplicate_keys out",
        )
        operations = [changes.operation] if changes.operation is not None else []
        positions = [changes.position] if changes.position is not None else []
        for role, name in (
            *(("operation", one) for one in operations),
            *(("primary_key", key) for key in self.primary_key),
        ):
            column = self._column(name, role)
            self._require(
                column.required,
                f"{role} {name!r} of a change may be missing: nobody could tell what it changed",
                "declare it required: such a change then goes to quarantine",
            )
        for role, column in (
            *(("operation", self._column(one, "operation")) for one in operations),
            *(("position", self._column(one, "position")) for one in positions),
            *(("unsent", self._column(one, "unsent")) for one in (changes.unsent,) if one is not None),
        ):
            self._require(
                column.type == VARCHAR and column.pii is None,
                f"{role} {column.name!r} is {f'masked by {column.pii}' if column.pii else column.type}, not plain VARCHAR",
                "declare it as VARCHAR",
            )
        self._require_order(changes, source)
        if changes.moment is not None:
            column = self._column(changes.moment, "moment")
            self._require(
                column.type == TIMESTAMP and column.pii is None,
                f"moment {column.name!r} is {f'masked by {column.pii}' if column.pii else column.type}, not plain TIMESTAMP",
                "declare it as TIMESTAMP",
            )
            for name in VALIDITY:
                self._require(
                    all(column.name != name for column in self.columns),
                    f"column {name!r} has the name of one that its history table adds",
                    "give it another name, and the record's in source=…",
                )
        for name in changes.only_in_history:
            self._column(name, "only_in_history")
            self._require(
                name not in (*self.primary_key, *operations, *positions, changes.moment, changes.unsent),
                f"the current table can't do without {name!r}",
                "leave it out of only_in_history",
            )
        if isinstance(source, StreamSegments) and isinstance(source.values, DynamoDbChanges):
            for column in self.columns:
                self._require(
                    not (column.required and column.field.split(".")[0] in ("new", "old")),
                    f"column {column.name!r} is required, and not every change has {column.field!r}: what is removed has no new image",
                    "leave required out, or take it from keys",
                )

    def _require_order(self, changes: Changes, source: Source) -> None:
        is_of_files = isinstance(source, LandedFiles | RemoteObjects)
        if changes.position is None:
            self._require(
                is_of_files,
                "no position says in which order its changes came",
                "name the column in position: Column(…, VARCHAR, …, source='@position')",
            )
            return
        position = self._column(changes.position, "position")
        self._require(
            position.capture is None and (is_of_files or position.field in ("@position", "@source_position")),
            f"position {position.name!r} is {position.field!r} of a record, not its place in the order in which they came",
            f"Column({position.name!r}, VARCHAR, …, source='@position')",
        )
        self._require(
            not is_of_files or position.required,
            f"position {position.name!r} of a change may be missing: nobody could tell what came before it",
            "declare it required, or say position=None where they came as they landed",
        )

    def _error(self, what: str, hint: str) -> DeclarationError:
        return DeclarationError(f"dataset {self.name!r}: {what}", hint)

    def _require(self, holds: bool, what: str, hint: str) -> None:
        if not holds:
            raise self._error(what, hint)

    def _column(self, name: str, role: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        names = [column.name for column in self.columns]
        near = difflib.get_close_matches(name, names, 1)
        raise self._error(
            f"{role} {name!r} is not among its columns {names}",
            f"did you mean {near[0]!r}?" if near else "fix the name, or declare the column",
        )

    def column(self, name: str) -> Column:
        """
        The column called *name*.

        Raises:
            DeclarationError: there is none.
        """
        return self._column(name, "column")

    @property
    def raw(self) -> str:
        """The raw table: `raw.<name>`."""
        return f"raw.{self.name}"

    @property
    def processed(self) -> str:
        """The processed table: `processed.<name>`."""
        return f"processed.{self.name}"

    @property
    def current(self) -> str:
        """Of changes: the table of their last ones, `processed.<name>_current`."""
        return f"{self.processed}_current"

    @property
    def history(self) -> str:
        """Of changes: the table of every state of their rows, `processed.<name>_history`."""
        return f"{self.processed}_history"

    @property
    def row_key(self) -> tuple[str, ...]:
        """The columns that tell processed rows apart: the key, and of changes where in its history one is; none where each stands alone."""
        if self.changes is None:
            return self.primary_key
        return (*self.primary_key, self.changes.position) if self.changes.position is not None else ()

    @property
    def ages(self) -> Lifecycle | None:
        """How its objects age, wherever that is declared."""
        match self.source:
            case StreamSegments():
                return self.source.stream.lifecycle
            case ApiPages():
                return self.source.endpoint.lifecycle
            case ExtractedRows():
                return self.source.extract.lifecycle
            case _:
                return self.lifecycle

    @property
    def references(self) -> tuple[tuple[Column, str, str], ...]:
        """`(column, dataset, column there)` for each column that must be found elsewhere."""
        found: list[tuple[Column, str, str]] = []
        for column in self.columns:
            if column.references is not None:
                other, name = column.references.split(".", 1)
                found.append((column, other, name))
        return tuple(found)


class Datasets(Mapping[str, Dataset]):
    """All datasets by name, held against each other: what one names in another must be there."""

    def __init__(self, datasets: Iterable[Dataset]) -> None:
        self._by_name: dict[str, Dataset] = {}
        for dataset in datasets:
            if dataset.name in self._by_name:
                raise DeclarationError(f"dataset {dataset.name!r} is declared twice", "rename one of them")
            self._by_name[dataset.name] = dataset
        self._route()
        self._name_other_tables()
        self._tell_landing_apart()
        self._leave_notes_alone()
        self._tell_ageing_apart()
        for one, other_one in combinations(self._by_name.values(), 2):
            shared = overlap(one.source, other_one.source)
            if shared is not None:
                raise DeclarationError(
                    f"datasets {one.name!r} and {other_one.name!r} both claim keys like {shared!r}",
                    "an object belongs to one dataset: tell their templates apart",
                )
        for dataset in self._by_name.values():
            for table, what in ((dataset.current, "current"), (dataset.history, "history")):
                if dataset.kind == "changes" and table.removeprefix("processed.") in self._by_name:
                    raise DeclarationError(
                        f"dataset {table.removeprefix('processed.')!r} has the name of the {what} table of {dataset.name!r}",
                        "rename one of them",
                    )
            for column, other, name in dataset.references:
                self._named(dataset, f"column {column.name!r} references", other, name)
            if isinstance(dataset.source, ApiPages) and isinstance(dataset.source.endpoint.each, EachRow):
                for column_there in dataset.source.endpoint.each.take.values():
                    self._named(
                        dataset, "its endpoint asks for each of", dataset.source.endpoint.each.dataset, column_there
                    )
            if dataset.senders is not None:
                self._require_senders(dataset, dataset.senders)

    @property
    def streams(self) -> Mapping[str, Stream]:
        """Every stream that a dataset is made of, by name."""
        return {
            dataset.source.stream.name: dataset.source.stream
            for dataset in self._by_name.values()
            if isinstance(dataset.source, StreamSegments)
        }

    @property
    def endpoints(self) -> Mapping[str, Endpoint]:
        """Every endpoint that a dataset is made of, by name, and those whose records are asked about by another one; those first."""
        found: dict[str, Endpoint] = {}

        def add(endpoint: Endpoint) -> None:
            if isinstance(endpoint.each, EachRecord):
                add(endpoint.each.endpoint)
            known = found.setdefault(endpoint.name, endpoint)
            if known != endpoint:
                raise DeclarationError(
                    f"endpoint {endpoint.name!r} is declared twice, and not alike",
                    "declare it once, and import it where it is used",
                )

        for dataset in self._by_name.values():
            if isinstance(dataset.source, ApiPages):
                add(dataset.source.endpoint)
        return found

    @property
    def remotes(self) -> Mapping[str, RemoteFiles]:
        """Every remote that a dataset is made of, by name."""
        found: dict[str, RemoteFiles] = {}
        for dataset in self._by_name.values():
            if isinstance(dataset.source, RemoteObjects):
                remote = dataset.source.remote
                if found.setdefault(remote.name, remote) != remote:
                    raise DeclarationError(
                        f"remote {remote.name!r} is declared twice, and not alike",
                        "declare it once, and import it where it is used",
                    )
        return found

    @property
    def extracts(self) -> Mapping[str, Extract]:
        """Every extract that a dataset is made of, by name."""
        found: dict[str, Extract] = {}
        databases: dict[str, Database] = {}
        for dataset in self._by_name.values():
            if isinstance(dataset.source, ExtractedRows):
                extract = dataset.source.extract
                if (
                    found.setdefault(extract.name, extract) != extract
                    or databases.setdefault(extract.database.name, extract.database) != extract.database
                ):
                    raise DeclarationError(
                        f"extract {extract.name!r}, or its database {extract.database.name!r}, is declared twice, and not alike",
                        "declare it once, and import it where it is used",
                    )
        return found

    def of_endpoint(self, endpoint: Endpoint) -> tuple[Dataset, ...]:
        """The datasets made of an endpoint."""
        return tuple(
            dataset
            for dataset in self._by_name.values()
            if isinstance(dataset.source, ApiPages) and dataset.source.endpoint.name == endpoint.name
        )

    def of_stream(self, stream: Stream) -> tuple[Dataset, ...]:
        """The datasets made of a stream."""
        return tuple(
            dataset
            for dataset in self._by_name.values()
            if isinstance(dataset.source, StreamSegments) and dataset.source.stream.name == stream.name
        )

    @property
    def roots(self) -> Mapping[str, Lifecycle | None]:
        """Beginning of keys → how what is there ages, for everything that lands."""
        found: dict[str, Lifecycle | None] = {}
        for dataset in self._by_name.values():
            match dataset.source:
                case LandedFiles():
                    found |= {template.root: dataset.lifecycle for template in dataset.source.keys}
                case StreamSegments():
                    found[dataset.source.stream.root] = dataset.source.stream.lifecycle
                case _:
                    pass
        found |= {extract.root: extract.lifecycle for extract in self.extracts.values()}
        return found | {endpoint.root: endpoint.lifecycle for endpoint in self.endpoints.values()}

    def lifecycle_of(self, key: str) -> Lifecycle | None:
        """How an object ages; None where nobody says."""
        return next((found for root, found in self.roots.items() if found is not None and key.startswith(root)), None)

    def _tell_ageing_apart(self) -> None:
        """What lands under one prefix ages in one way: S3's rules are told by it."""
        declared = [
            (template.root, dataset.name, dataset.lifecycle)
            for dataset in self._by_name.values()
            if isinstance(dataset.source, LandedFiles)
            for template in dataset.source.keys
        ]
        declared += [(stream.root, stream.name, stream.lifecycle) for stream in self.streams.values()]
        declared += [(endpoint.root, endpoint.name, endpoint.lifecycle) for endpoint in self.endpoints.values()]
        declared += [(extract.root, extract.name, extract.lifecycle) for extract in self.extracts.values()]
        for one, other in combinations(declared, 2):
            if one[2] != other[2] and (one[0].startswith(other[0]) or other[0].startswith(one[0])):
                raise DeclarationError(
                    f"{one[1]!r} and {other[1]!r} age differently, and land under {one[0]!r} and {other[0]!r}, one within the other",
                    "declare the same lifecycle, or tell the beginnings of their keys apart",
                )

    def _leave_notes_alone(self) -> None:
        """Nothing else claims the keys of decisions and notes, and they don't age with what lands beside them."""
        for dataset in self._by_name.values():
            for template in dataset.source.keys:
                own = claimed(template)
                if own is not None:
                    raise DeclarationError(
                        f"dataset {dataset.name!r}: its keys {template.text!r} may be those of notes that the platform keeps under {own}…",
                        f"begin them with a name of their own, as in '{dataset.name}/…': {', '.join(OWN_ROOTS)} are taken",
                    )
        for root, lifecycle in self.roots.items():
            own = next((own for own in OWN_ROOTS if own.startswith(root)), None)
            if lifecycle is not None and own is not None:
                raise DeclarationError(
                    f"a lifecycle is declared of everything under {root!r}, and the platform's own notes, {own}…, would age with it",
                    "give the keys of what ages a beginning of their own",
                )

    def _tell_landing_apart(self) -> None:
        """What lands has one asset a name, whatever it comes from."""
        files = [name for name, dataset in self._by_name.items() if isinstance(dataset.source, LandedFiles)]
        taken: set[str] = set()
        apis: dict[str, Api] = {}
        for name in (*files, *self.streams, *self.endpoints, *self.remotes, *self.extracts):
            if name in taken:
                raise DeclarationError(
                    f"two of the datasets of files, the streams, the endpoints, the remotes and the extracts are called {name!r}",
                    "each has an asset landing/<name>: rename one of them",
                )
            taken.add(name)
        for endpoint in self.endpoints.values():
            if apis.setdefault(endpoint.api.name, endpoint.api) != endpoint.api:
                raise DeclarationError(
                    f"API {endpoint.api.name!r} is declared twice, and not alike",
                    "declare it once, and import it where it is used",
                )

    def _route(self) -> None:
        """Hold the datasets of each stream against each other, and tell the one that takes the rest what the others take."""
        for stream in self.streams.values():
            sharing = self.of_stream(stream)
            sources = {
                dataset.name: dataset.source for dataset in sharing if isinstance(dataset.source, StreamSegments)
            }
            if any(source.stream != stream for source in sources.values()):
                raise DeclarationError(
                    f"stream {stream.name!r} is declared twice, and not alike",
                    "declare it once, and import it where it is used",
                )
            ways = {source.routed_by for source in sources.values()}
            if len(ways) > 1:
                raise DeclarationError(
                    f"datasets {sorted(sources)} of stream {stream.name!r} are routed by different fields: {sorted(map(str, ways))}",
                    "one field tells the type of every record",
                )
            if ways == {None}:
                _require_one_table(stream)
                continue
            taken: dict[str, str] = {}
            for name, source in sources.items():
                for type_ in source.types:
                    if type_ in taken:
                        raise DeclarationError(
                            f"datasets {taken[type_]!r} and {name!r} both take records of type {type_!r} of stream {stream.name!r}",
                            "a record belongs to one dataset",
                        )
                    taken[type_] = name
            rest = [name for name, source in sources.items() if source.takes_the_rest]
            if isinstance(stream.source, CapturedDatabase) and ways == {"@header.table"} and not rest:
                # What comes is known: the tables that are captured.
                left = sorted(set(stream.source.tables) - set(taken))
                if left:
                    raise DeclarationError(
                        f"stream {stream.name!r} captures table {left[0]!r}, and no dataset takes its changes",
                        f"declare one with types=({left[0]!r},), or leave the table out",
                    )
                continue
            if not rest:
                raise DeclarationError(
                    f"stream {stream.name!r}: no dataset takes the records of types that nobody knows",
                    "declare one with types=EVERYTHING_ELSE, so that nothing disappears",
                )
            if ways.isdisjoint(column.field for column in self._by_name[rest[0]].columns):
                raise DeclarationError(
                    f"dataset {rest[0]!r} takes the records of unknown types, and no column of it holds the type",
                    f"declare one with source={next(iter(ways))!r}: the types that nobody knows are reported by it",
                )
            others = tuple(sorted(type_ for type_, name in taken.items() if name != rest[0]))
            self._by_name[rest[0]] = replace(self._by_name[rest[0]], source=replace(sources[rest[0]], others=others))

    def _name_other_tables(self) -> None:
        """Tell each dataset of captured changes which tables the others take of the same objects."""
        for name, dataset in self._by_name.items():
            source = dataset.source
            if not (isinstance(source, LandedFiles) and isinstance(source.format, Captured)):
                continue
            others = tuple(
                sorted(
                    other.source.format.table
                    for other in self._by_name.values()
                    if other is not dataset
                    and isinstance(other.source, LandedFiles)
                    and isinstance(other.source.format, Captured)
                    and _are_of_other_tables(source, other.source)
                )
            )
            if others:
                told = replace(source, format=replace(source.format, others=others))
                self._by_name[name] = replace(dataset, source=told)

    def _require_senders(self, dataset: Dataset, senders: Senders) -> None:
        """What senders are read from is there, and of the types that it is read as."""
        listed = [("senders come from", senders.dataset, senders.columns)] if senders.dataset else []
        if senders.closures is not None:
            listed.append(("closures come from", senders.closures.dataset, senders.closures.columns))
        for role, other, columns in listed:
            for name, kind in columns.items():
                self._named(dataset, role, other, name)
                found = self._by_name[other].column(name)
                if kind == "DATE" and found.type != DATE:
                    raise DeclarationError(
                        f"dataset {dataset.name!r}: {role} {other}.{name}, which is {found.type}, not DATE",
                        "declare it as DATE",
                    )

    def _named(self, dataset: Dataset, role: str, other: str, column: str) -> None:
        if other not in self._by_name:
            near = difflib.get_close_matches(other, self._by_name, 1)
            raise DeclarationError(
                f"dataset {dataset.name!r}: {role} {other}.{column}, but no dataset is called {other!r}",
                f"did you mean {near[0]!r}?" if near else f"datasets: {sorted(self._by_name)}",
            )
        found = self._by_name[other]
        if found.column(column).pii is not None:
            raise DeclarationError(
                f"dataset {dataset.name!r}: {role} {other}.{column}, which is masked: no value would be found there",
                "refer to a column that isn't personal",
            )
        if found.kind != "snapshots":
            raise DeclarationError(
                f"dataset {dataset.name!r}: {role} {other}.{column}, but {other!r} holds {found.kind}",
                "only snapshots have a state as of a day",
            )
        if found.name == dataset.name or found.references:
            raise DeclarationError(
                f"dataset {dataset.name!r}: {role} {other}.{column}, but {other!r} references others itself",
                "reference a dataset that stands alone",
            )

    def __getitem__(self, name: str) -> Dataset:
        return self._by_name[name]

    def __iter__(self) -> Any:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)


def find_datasets(package: ModuleType) -> Datasets:
    """
    Import every module of *package* and gather the datasets declared there at top level.

    Raises:
        DeclarationError: a declaration is wrong; the message names the file.
    """
    found: list[Dataset] = []
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        place = f"{package.__name__.replace('.', '/')}/{info.name}.py"
        try:
            module = importlib.import_module(f"{package.__name__}.{info.name}")
        except DeclarationError as error:
            raise DeclarationError(f"{place}: {error.what}", error.hint) from error
        except ValidationError as error:
            raise _told(place, error) from error
        found.extend(_declared_in(module))
    return Datasets(found)


def _declared_in(module: ModuleType) -> Sequence[Dataset]:
    return [value for _, value in inspect.getmembers(module, lambda value: isinstance(value, Dataset))]


def _told(place: str, error: ValidationError) -> DeclarationError:
    """Pydantic's complaint in our words: the file, the argument, and what was most likely meant."""
    complaints = error.errors(include_url=False)
    # An argument that is misspelt is also one that is missing: the first of these says it better.
    first = next((one for one in complaints if one["type"] == "unexpected_keyword_argument"), complaints[0])
    argument = str(first["loc"][0]) if first["loc"] else ""
    declared = next(
        (
            found
            for room in (
                sys.modules[__name__],
                api_room,
                change_room,
                control_room,
                database_room,
                format_room,
                lifecycle_room,
                opening_days_room,
                senders_room,
                stream_room,
                table_room,
            )
            if (found := vars(room).get(error.title)) is not None
        ),
        Dataset,
    )
    known = list(inspect.signature(declared).parameters)
    if argument.isdigit() and int(argument) < len(known):
        argument = known[int(argument)]
    if first["type"] == "unexpected_keyword_argument":
        near = difflib.get_close_matches(argument, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"arguments: {', '.join(known)}"
        return DeclarationError(f"{place}: {error.title} has no argument {argument!r}", hint)
    if first["type"].startswith("missing"):
        return DeclarationError(f"{place}: {error.title} needs {argument}", "see its docstring")
    found = first.get("input")
    hint = (
        f"write ({found!r},): the comma makes it a tuple"
        if first["type"] == "tuple_type" and isinstance(found, str)
        else ""
    )
    return DeclarationError(
        f"{place}: {error.title}, {argument}: {first['msg']}, not {found!r}", hint or "see its docstring"
    )


def _require_one_table(stream: Stream) -> None:
    if isinstance(stream.source, CapturedDatabase) and len(stream.source.tables) > 1:
        raise DeclarationError(
            f"stream {stream.name!r} captures {len(stream.source.tables)} tables, and a dataset takes the changes of all of them",
            "routed_by='@header.table', and the table in types",
        )
