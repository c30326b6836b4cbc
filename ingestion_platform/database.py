"""
What is read from a database without its log: a table or a query, whole or only what is new; how kindly; and what rows that are gone become.

Belongs here: the declarations, and the names that extracts have in the landing zone. Doesn't: reading (`sources/`), the tables made of
them (`dataset.py`), a database's log (`stream.py`). Where a database is, and who one is there, is in the settings, by its name.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import field
from datetime import date
from functools import cached_property
from typing import Literal

from pydantic.dataclasses import dataclass

from ingestion_platform.errors import DeclarationError
from ingestion_platform.fetch_folders import choose, day_of_group
from ingestion_platform.key_template import KeyTemplate
from ingestion_platform.lifecycle import Lifecycle
from ingestion_platform.table import IDENTIFIER, STRICT

DAYS = re.compile(r"\$(day|window_start|window_end)\b(?!\$)")
"""What stands for the day in a query: the business day, and the moments at which it begins and the next one begins."""


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Database:
    """
    A database, declared once; any number of extracts read it.

    Extracts of one database wait for each other, so that it never has more connections than these.

    Args:
        name: the settings speak of it by this name.
        engine: what it is.
        connections: at most so many read at the same time.
        rows_per_second: of all connections together; None: as fast as they come.
        statement_timeout_seconds: after which the database ends a statement: the reading of one range, or of a whole query.
        patience_seconds: for how long an extract waits for another one's end.
        from_replica: read from the replica that the settings name, where they name one.
    """

    name: str
    engine: Literal["postgresql", "mariadb"] = "postgresql"
    connections: int = 2
    rows_per_second: int | None = None
    statement_timeout_seconds: float = 3600.0
    patience_seconds: float = 600.0
    from_replica: bool = True

    def __post_init__(self) -> None:
        for what in ("connections", "rows_per_second", "statement_timeout_seconds", "patience_seconds"):
            if getattr(self, what) is not None and getattr(self, what) <= 0:
                raise DeclarationError(f"database {self.name!r}: {what} must be more than 0")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class RowCursor:
    """
    Only rows that are new or changed since the last extract are read: those whose cursor isn't less than the greatest that has landed.

    Rows of the same cursor, and those that the overlap brings again, are told from new ones by their content.

    Args:
        column: that grows with every change: `updated_at`; or with every row that is inserted only, as a serial does.
        overlap_seconds: of moments: read from so long before the greatest one. A row that a transaction gave its moment when it began
            becomes visible when it commits: this is how long transactions may take.
        overlap: of numbers: the same, as a number.
    """

    column: str
    overlap_seconds: float = 600.0
    overlap: int = 0

    def __post_init__(self) -> None:
        if self.overlap_seconds < 0 or self.overlap < 0:
            raise DeclarationError(f"RowCursor {self.column!r}: an overlap isn't less than 0")


@dataclass(frozen=True, config=STRICT)
class Split:
    """
    Ranges that a query is read in, by several connections at once. A table needs none: it is read in ranges of its pages.

    Args:
        column: of the result.
        bounds: where ranges end and the next ones begin, ascending, as the database writes values of the column.
    """

    column: str
    bounds: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.bounds:
            raise DeclarationError(f"Split {self.column!r} has no bounds", "as in Split('id', ('1000000', '2000000'))")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Extract:
    """
    A table or a query of a database, read without its log: it lands as Parquet files of texts, and any number of datasets are made of it
    (`ExtractedRows`).

    Without a cursor, an extract is all that there is, as the database had it at one moment: a dataset of `snapshots`, or of `events` where
    the query asks for a day's. With a cursor, it is what is new since the last one: a dataset of `changes`, declared with
    `changes=EXTRACTED` and `EXTRACTED_COLUMNS`.

    Args:
        name: snake_case; its asset is `landing/<name>`.
        description: what one row is.
        database: which.
        table: `schema.table`, or the two as a tuple where a name has a dot.
        query: SQL instead of a table, names of tables with their schema. `$day`, `$window_start`, `$window_end` stand for the business day
            and the moments at which it begins and ends: then past days can be extracted, too. Any other tells the present.
        columns: that are read; empty: all.
        cursor: read only what is new.
        key: columns that tell rows apart; needed for sweeps.
        sweep_hours: with a cursor: how often all keys are read, to find rows that are gone, and rows that the cursor has missed. None:
            never.
        split: how a query is read by several connections.
        first_day: the first business day.
        group_bytes: an object is closed at this size of text; each connection holds as much in memory.
        schedule: cron, in business time; None: only by hand.
        reextract_days: of a query of days: how many past days the schedule extracts again, beside today.
        lifecycle: how what has landed of it ages; None: it doesn't.
        owners: `team:name` or an e-mail address.
        tags: shown in Dagster.
    """

    name: str
    description: str
    database: Database
    table: str | tuple[str, str] | None = None
    query: str | None = None
    columns: tuple[str, ...] = ()
    cursor: RowCursor | None = None
    key: tuple[str, ...] = ()
    sweep_hours: float | None = 24.0
    split: Split | None = None
    first_day: date
    group_bytes: int = 32 * 1024**2
    schedule: str | None = None
    reextract_days: int = 0
    lifecycle: Lifecycle | None = None
    owners: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._require(
            IDENTIFIER.fullmatch(self.name) is not None, "a name is snake_case and starts with a letter", "rename it"
        )
        self._require(bool(self.description.strip()), "it has no description", "say what one row is")
        self._require(
            (self.table is None) != (self.query is None), "it reads a table or a query", "declare one of them"
        )
        self._require(
            self.table is None or (len(self.table_names) == 2 and all(self.table_names)),
            f"table {self.table!r} is not schema.table",
            "as in 'public.people', or ('public', 'a.b') where a name has a dot",
        )
        self._require(
            self.split is None or self.query is not None,
            "a table is read in ranges of its pages",
            "leave split out",
        )
        self._require(
            self.cursor is None or not self.asks_for_days,
            "it asks for a day, and for what is new since the last time",
            "either, or",
        )
        for role, names in (
            ("cursor", (self.cursor.column,) if self.cursor else ()),
            ("key", self.key),
            ("split", (self.split.column,) if self.split else ()),
        ):
            missing = [name for name in names if self.columns and name not in self.columns]
            self._require(not missing, f"{role} {missing!r} is none of the columns that it reads", "add it to columns")
        self._require(
            self.cursor is None or self.sweep_hours is None or bool(self.key),
            "without a key no sweep can tell which rows are gone",
            "name the key's columns, or say sweep_hours=None: then removed rows are never noticed",
        )
        self._require(self.sweep_hours is None or self.sweep_hours > 0, "sweep_hours must be more than 0")
        self._require(self.reextract_days >= 0, "reextract_days isn't less than 0")
        self._require(1 <= self.group_bytes <= 1024**3, "group_bytes is 1 to 1 GB")

    def __hash__(self) -> int:
        return hash((self.name, self.database, self.table, self.query))

    def _require(self, holds: bool, what: str, hint: str = "") -> None:
        if not holds:
            raise DeclarationError(f"extract {self.name!r}: {what}", hint)

    @property
    def table_names(self) -> tuple[str, ...]:
        """Schema and table; empty of a query."""
        if self.table is None:
            return ()
        return tuple(self.table.split(".")) if isinstance(self.table, str) else self.table

    @property
    def what(self) -> str:
        """What is read, for a person."""
        return f"table {'.'.join(self.table_names)}" if self.table is not None else "a query"

    @property
    def asks_for_days(self) -> bool:
        """Whether a past day can be asked for."""
        return self.query is not None and DAYS.search(self.query) is not None

    @property
    def root(self) -> str:
        """The prefix of everything that lands of it."""
        return f"extracts/{self.name}/"

    @cached_property
    def template(self) -> KeyTemplate:
        """Keys of its groups of rows: the day, when the extract began, and the number of the group in it."""
        return KeyTemplate(f"{self.root}%Y/%m/%d/{{fetch}}/{{group}}.parquet")

    def day_prefix(self, day: date) -> str:
        """The prefix of what has landed for a day."""
        return f"{self.root}{day.year:04}/{day:%m/%d}/"

    def group_key(self, day: date, fetch: str, number: int) -> str:
        """The key of some of an extract's rows."""
        return f"{self.day_prefix(day)}{fetch}/{number:05}.parquet"

    def done_key(self, day: date, fetch: str, groups: int) -> str:
        """The key of the note that an extract is whole, of so many groups."""
        return f"{self.day_prefix(day)}{fetch}/done-{groups}.json"


EXTRACT_FIELDS = ("@operation", "@position", "@extracted_at", "@extract")
"""
Sources of what is around a row: what it tells (SNAPSHOT: it was found there; UPSERT: it is new or has changed; DELETE: it is gone;
RESTART: all that was known is void), its place among all that was extracted, the moment whose state it is, the extract's name. A column of
the database whose name begins with `@` has another `@` before it.
"""


@dataclass(frozen=True, config=STRICT)
class ExtractFile:
    """
    How an extract's groups of rows are read.

    Args:
        max_bytes: a group that is larger, once decompressed, is rejected.
        max_columns: more are refused.
    """

    max_bytes: int = 4 * 1024**3
    max_columns: int = 5000


@dataclass(frozen=True, config=STRICT)
class ExtractedRows:
    """
    What an extract has landed as: a dataset's source. Several datasets may be made of one.

    Of a day's extracts the last whole one counts; of an extract with a cursor all of them do. A column's source is a column's name in the
    database, or one of `@operation`, `@position`, `@extracted_at`, `@extract`. Values are the texts that the database writes (moments in
    UTC); NULL and an empty text are two things in the raw table, and one in the processed table unless the column says `null_values=()`.

    Args:
        extract: which.
    """

    extract: Extract

    @property
    def format(self) -> ExtractFile:
        """How its groups are read."""
        return ExtractFile()

    @property
    def templates(self) -> str:
        """The key template of its groups."""
        return self.extract.template.text

    @property
    def keys(self) -> tuple[KeyTemplate, ...]:
        """The same, compiled."""
        return (self.extract.template,)

    @property
    def captures(self) -> frozenset[str]:
        """What a key tells beside the day: nothing that a table would want."""
        return frozenset()

    def match(self, key: str) -> tuple[date, dict[str, str]] | None:
        """The day and the captures of a group's key, or None when it isn't one."""
        return day_of_group(self.extract.template, key)

    def choose(self, keys: Iterable[str]) -> tuple[frozenset[str], Mapping[str, str]]:
        """
        Which of a day's keys count.

        Returns:
            Those of groups that count; and those of groups that counted before a later extract, with the reason why they don't any more.
        """
        return choose(keys, adds_up=self.extract.cursor is not None, what="extract")
