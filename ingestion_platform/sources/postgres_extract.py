"""
One state of a PostgreSQL database, for an extract: its rows by COPY, in ranges, by several connections that see the same snapshot.

Belongs here: SQL, COPY's CSV as columns of text, and errors in words that help. Doesn't: which rows are wanted, and what becomes of them
(`extract.py`); ranges and COPY itself (`postgres_snapshot.py`).

COPY's CSV tells NULL (nothing) from an empty text (`""`), and Arrow takes it apart as fast as it comes. Each row comes as a message of its
own, so that the rows which Arrow gives can be held against those that came.
"""

import contextlib
import hashlib
import io
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.csv
from psycopg import sql

from ingestion_platform.database import DAYS, Database, Extract
from ingestion_platform.errors import SourceChanged, SourceError, SourceUnavailable
from ingestion_platform.sources import postgres_client as client
from ingestion_platform.sources.asking import Window
from ingestion_platform.sources.extract import Rows
from ingestion_platform.sources.extracted import DIGEST_BYTES
from ingestion_platform.sources.postgres_snapshot import copy_out, enter, in_pages, page_ranges

CHUNK_BYTES = 4 * 1024**2
"""Text that is taken apart at a time."""
KEYS_AT_A_TIME = 2_000
RANGES_SINCE = 140000
"""An older server reads the whole table for each range of its pages."""
_LOCK_SECONDS = 0.5
_AHEAD = "1 day"
"""A moment further in the future than this is a clock that is wrong: a cursor that followed it would find nothing new any more."""


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    type: str
    cast: str
    category: str


class PostgresDatabase:
    """
    A PostgreSQL database whose tables are extracted; see `extract.OpenDatabase`.

    Args:
        database: how kindly.
        properties: libpq's, secrets among them.
        is_replica: whether they are a replica's, for messages.

    Raises:
        SettingsError: the properties aren't libpq's.
    """

    def __init__(self, database: Database, properties: Mapping[str, str], *, is_replica: bool = False) -> None:
        self.database = database
        self.is_replica = is_replica
        self.where = f"PostgreSQL database {database.name!r}" + (" (its replica)" if is_replica else "")
        self._info = client.conninfo(properties, f"[{database.name}]")

    def __repr__(self) -> str:
        return f"PostgresDatabase({self.database.name!r})"

    @contextlib.contextmanager
    def state(self, extract: Extract, window: Window) -> "Iterator[PostgresState]":
        """
        The database as it is at one moment.

        Waits for another extract of the database to end. In the context, nobody else extracts.

        Args:
            extract: what is read.
            window: the business day, for a query that asks for it.

        Raises:
            SourceUnavailable: nobody answers, or another extract takes too long.
            SourceError: the database refuses.
        """
        with contextlib.closing(self.connect()) as control:
            self._lock(control)
            with self.telling():
                control.execute("begin isolation level repeatable read read only")
                yield PostgresState(self, control, extract, window)

    def connect(self) -> "psycopg.Connection[Any]":
        """A connection; errors as of `postgres_client.connect`."""
        return client.connect(self._info, self.where, timeout_seconds=self.database.statement_timeout_seconds)

    def _lock(self, control: "psycopg.Connection[Any]") -> None:
        until = time.monotonic() + self.database.patience_seconds
        with self.telling():
            while not client.try_lock(control, f"extracts of {self.database.name}"):
                if time.monotonic() >= until:
                    raise SourceUnavailable(
                        f"{self.where}: another extract of it has been under way for {self.database.patience_seconds:,.0f} s",
                        "extracts of one database wait for each other, to spare it: raise patience_seconds, or let them begin apart",
                    )
                time.sleep(_LOCK_SECONDS)

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Errors of the client as the platform's own, with what helps an extract."""
        try:
            yield
        except psycopg.Error as error:
            found = client.as_ours(error, self.where)
            raise self._told(found, error.sqlstate) from error

    def _told(self, error: SourceError, state: str | None) -> SourceError:
        if state == "57014" and "statement timeout" in error.what:
            return SourceError(
                error.what,
                "raise statement_timeout_seconds of the database's declaration, or read less at a time (split, columns)",
            )
        if "conflict with recovery" in error.what:
            return SourceUnavailable(
                error.what,
                "a replica ends what is in the way of its primary's log: set hot_standby_feedback = on there",
            )
        if state in ("42P01", "42703", "3F000"):
            return SourceChanged(
                error.what,
                "name tables with their schema, all in the database's own spelling; or the database has changed",
            )
        if state == "42501":
            return SourceError(error.what, "the user needs USAGE of the schema, and SELECT on the table")
        return error


class PostgresState:
    """
    One moment's state, in a transaction that only reads.

    Args:
        opened: the database.
        control: connection of the transaction.
        extract: what is read.
        window: the business day.
    """

    def __init__(
        self,
        opened: PostgresDatabase,
        control: "psycopg.Connection[Any]",
        extract: Extract,
        window: Window,
    ) -> None:
        self.opened = opened
        self.where = opened.where
        self._control = control
        self._is_lent = False
        self._lock = threading.Lock()
        self._extract = extract
        self._base = _base(extract, window)
        moment, self._snapshot, is_standby, encoding = client.rows(
            control, "select clock_timestamp(), pg_export_snapshot(), pg_is_in_recovery(), getdatabaseencoding()::text"
        )[0]
        self._has_encoding = encoding != "SQL_ASCII"
        self.extracted_at = moment.isoformat(timespec="microseconds")
        self.is_replica = bool(is_standby)
        self._columns = self._described()
        self.types = {column.name: column.type for column in self._columns}
        self._is_paged, self._pages = self._size()
        self._cursor = self._column(extract.cursor.column, "cursor") if extract.cursor is not None else None
        for name in extract.key:
            self._column(name, "key")
        self._since: sql.Composable | None = None
        self._begins: sql.Composable | None = None
        self._greatest: str | None = None
        self._ranges: list[sql.Composable] = []

    # --- what there is

    def _described(self) -> list[_Column]:
        chosen = (
            sql.SQL(", ").join(map(sql.Identifier, self._extract.columns)) if self._extract.columns else sql.SQL("*")
        )
        cursor = self._control.execute(sql.SQL("select {} from {} limit 0").format(chosen, self._base))
        result = cursor.pgresult
        assert result is not None, "a select has a result"
        names = [column.name for column in cursor.description or ()]
        if not names:
            raise SourceChanged(f"{self.where}: {self._extract.what} has no columns", "there is nothing to extract")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise SourceError(
                f"{self.where}: {self._extract.what} has two columns {twice[0]!r}",
                "give one of them another name (as …)",
            )
        oids = [int(result.ftype(index)) for index in range(len(names))]
        modifiers = [int(result.fmod(index)) for index in range(len(names))]
        found = client.rows(
            self._control,
            "select format_type(t.oid, w.modifier), format_type(t.oid, -1), t.typcategory::text"
            " from unnest(%s::bigint[], %s::int[]) with ordinality w(oid, modifier, place) join pg_type t on t.oid = w.oid::oid"
            " order by w.place",
            oids,
            modifiers,
        )
        return [_Column(name, *one) for name, one in zip(names, found, strict=True)]

    def _column(self, name: str, role: str) -> _Column:
        found = next((column for column in self._columns if column.name == name), None)
        if found is None:
            raise SourceChanged(
                f"{self.where}: {self._extract.what} has no column {name!r}, which is its {role}",
                f"its columns are {', '.join(column.name for column in self._columns)}",
            )
        return found

    def _size(self) -> tuple[bool, int]:
        """Whether it is read in ranges of pages, and how many it has."""
        if self._extract.table is None or client.version(self._control) < RANGES_SINCE:
            return False, 0
        found = client.rows(
            self._control,
            "select c.relkind::text, (select coalesce(max(pg_relation_size(t.relid)), 0) / current_setting('block_size')::int"
            " from (select c.oid as relid union all select p.relid from pg_partition_tree(c.oid) p where c.relkind = 'p') t)"
            " from pg_class c join pg_namespace n on n.oid = relnamespace where nspname = %s and relname = %s",
            *self._extract.table_names,
        )
        # Views and foreign tables have no pages.
        return (True, int(found[0][1])) if found and found[0][0] in ("r", "p", "m") else (False, 0)

    # --- which rows

    def begin(self, since: str | None) -> tuple[int, str | None]:
        """
        Say which rows are wanted: all, or those from a cursor on.

        Args:
            since: the greatest cursor that has landed; None: all rows.

        Returns:
            How many parts they are read in; and the greatest cursor that there is, or *since*, if that is greater.
        """
        if self._cursor is not None:
            self._greatest = self._find_greatest(self._cursor, since)
            if since is not None:
                self._since = self._from(self._cursor, since)
            self._begins = self._from(self._cursor, self._greatest) if self._greatest is not None else sql.SQL("false")
        self._ranges = [self._since] if self._since is not None and self._extract.split is None else self._all_ranges()
        if self._since is not None and self._extract.split is not None:
            self._ranges = [sql.SQL("({}) and {}").format(one, self._since) for one in self._ranges]
        return len(self._ranges), self._greatest

    def _find_greatest(self, cursor: _Column, since: str | None) -> str | None:
        name, cast = sql.Identifier(cursor.name), sql.SQL(cursor.cast)
        limits: list[sql.Composable] = [sql.SQL("{} is not null").format(name)]
        if cursor.category == "D":
            limits.append(sql.SQL("{} <= now() + interval {}").format(name, sql.Literal(_AHEAD)))
        elif cursor.cast in ("numeric", "real", "double precision"):
            limits.append(sql.SQL("{} < 'Infinity'").format(name))
        query = sql.SQL("select greatest((select max({}) from {} where {}), {}::{})::text").format(
            name, self._base, sql.SQL(" and ").join(limits), sql.Literal(since), cast
        )
        found = self._control.execute(query).fetchone()
        assert found is not None, "greatest() has a row"
        return found[0] if found[0] is None else str(found[0])

    def _from(self, cursor: _Column, value: str) -> sql.Composable:
        """SQL of the rows whose cursor isn't less than a value, and the overlap before it."""
        said = self._extract.cursor
        assert said is not None, "whoever has a cursor's value has a cursor"
        limit = sql.SQL("{}::{}").format(sql.Literal(value), sql.SQL(cursor.cast))
        if cursor.category == "D" and said.overlap_seconds:
            limit = sql.SQL("({} - interval {})").format(limit, sql.Literal(f"{said.overlap_seconds} seconds"))
        elif cursor.category == "N" and said.overlap:
            limit = sql.SQL("({} - {})").format(limit, sql.Literal(said.overlap))
        return sql.SQL("{} >= {}").format(sql.Identifier(cursor.name), limit)

    def _all_ranges(self) -> list[sql.Composable]:
        if self._is_paged:
            return [in_pages(first, after) for first, after in page_ranges(self._pages)]
        split = self._extract.split
        if split is None:
            return [sql.SQL("true")]
        column = self._column(split.column, "split")
        name, cast = sql.Identifier(column.name), sql.SQL(column.cast)
        bounds = [sql.SQL("{}::{}").format(sql.Literal(bound), cast) for bound in split.bounds]
        self._require_ascending(bounds, split.column)
        first = sql.SQL("({} < {} or {} is null)").format(name, bounds[0], name)
        inner = [sql.SQL("({} >= {} and {} < {})").format(name, low, name, high) for low, high in pairwise(bounds)]
        return [first, *inner, sql.SQL("{} >= {}").format(name, bounds[-1])]

    def _require_ascending(self, bounds: Sequence[sql.Composable], column: str) -> None:
        pairs = [sql.SQL("{} < {}").format(low, high) for low, high in pairwise(bounds)]
        if pairs:
            found = self._control.execute(sql.SQL("select {}").format(sql.SQL(" and ").join(pairs))).fetchone()
            if found is None or not found[0]:
                raise SourceError(
                    f"{self.where}: the bounds of {column!r} don't ascend, in the order that the database has",
                    "put them in order: rows would be read twice, or not at all",
                )

    def key_parts(self) -> int:
        """In how many parts all keys are read."""
        self._ranges = self._all_ranges()
        return len(self._ranges)

    @contextlib.contextmanager
    def reader(
        self, pace: Callable[[int], None], chunk_rows: int | None, is_stopped: Callable[[], bool]
    ) -> "Iterator[PostgresReader]":
        """
        A connection that sees this state. The first one is the state's own.

        Args:
            pace: told of rows that came; waits where they come too fast.
            chunk_rows: at most so many at a time.
            is_stopped: whether nobody wants them any more.
        """
        with self._lock:
            is_own, self._is_lent = not self._is_lent, True
        with ExitStack() as stack:
            connection = self._control
            if not is_own:
                connection = stack.enter_context(contextlib.closing(self.opened.connect()))
                with self.opened.telling():
                    enter(connection, self._snapshot)
            try:
                yield PostgresReader(self, connection, pace, chunk_rows, is_stopped)
            finally:
                if is_own:
                    with self._lock:
                        self._is_lent = False


class PostgresReader:
    """Reads rows of a state by one connection; see `PostgresState.reader`."""

    def __init__(
        self,
        state: PostgresState,
        connection: "psycopg.Connection[Any]",
        pace: Callable[[int], None],
        chunk_rows: int | None,
        is_stopped: Callable[[], bool],
    ) -> None:
        self._state = state
        self._connection = connection
        self._pace = pace
        self._chunk_rows = chunk_rows
        self._is_stopped = is_stopped

    def rows(self, part: int, known: Collection[bytes]) -> Iterator[Rows]:
        """
        The rows of a part.

        Args:
            known: digests of rows that have landed, and are left out.
        """
        state = self._state
        names = list(state.types)
        listed = _listed(names)
        if state._begins is None:
            query = sql.SQL("select {} from {} where {}").format(listed, state._base, state._ranges[part])
            for lines in self._copy(query):
                text = b"".join(lines)
                yield Rows(self._taken(text, names, len(lines)), hashlib.sha256(text).digest(), (), 0)
            return
        query = sql.SQL("select {}, {} from {} where {}").format(
            listed, state._begins, state._base, state._ranges[part]
        )
        is_going_on = state._since is not None
        for lines in self._copy(query):
            came = len(lines)
            window: list[bytes] = []
            kept: list[bytes] = []
            for line in lines:
                is_window = line.endswith(b",t\n")
                if is_going_on or is_window:
                    digest = hashlib.blake2b(line[: line.rindex(b",")], digest_size=DIGEST_BYTES).digest()
                    if is_window:
                        window.append(digest)
                    if digest in known:
                        continue
                kept.append(line)
            text = b"".join(kept)
            table = self._taken(text, [*names, ""], len(kept)).select(names)
            yield Rows(table, hashlib.sha256(text).digest(), window, came - len(kept))

    def keys(self, part: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Some columns of a part's rows."""
        state = self._state
        query = sql.SQL("select {} from {} where {}").format(_listed(columns), state._base, state._ranges[part])
        for lines in self._copy(query):
            yield self._taken(b"".join(lines), columns, len(lines))

    def rows_of(self, keys: pa.Table) -> Iterator[pa.Table]:
        """The rows with these keys: a text column for each column of the key."""
        state = self._state
        names = list(state.types)
        wanted = keys.column_names
        joined = sql.SQL(" and ").join(
            sql.SQL("extracted.{} = wanted.{}::{}").format(
                sql.Identifier(name),
                sql.Identifier(name),
                sql.SQL(state._column(name, "key").cast),
            )
            for name in wanted
        )
        for first in range(0, keys.num_rows, KEYS_AT_A_TIME):
            some = keys.slice(first, KEYS_AT_A_TIME)
            query = sql.SQL(
                "select {} from (select * from {}) extracted join (select distinct * from unnest({}) w({})) wanted on {}"
            ).format(
                sql.SQL(", ").join(sql.SQL("extracted.{}").format(sql.Identifier(name)) for name in names),
                state._base,
                sql.SQL(", ").join(
                    sql.SQL("{}::text[]").format(sql.Literal(some.column(name).to_pylist())) for name in wanted
                ),
                _listed(wanted),
                joined,
            )
            for lines in self._copy(query):
                yield self._taken(b"".join(lines), names, len(lines))

    def _copy(self, query: sql.Composable) -> Iterator[list[bytes]]:
        copied = sql.SQL("copy ({}) to stdout (format csv)").format(query)
        with self._state.opened.telling():
            for lines in copy_out(
                self._connection,
                copied,
                has_encoding=self._state._has_encoding,
                chunk_bytes=CHUNK_BYTES,
                chunk_rows=self._chunk_rows,
                is_stopped=self._is_stopped,
            ):
                self._pace(len(lines))
                yield lines

    def _taken(self, text: bytes, names: Sequence[str], rows: int) -> pa.Table:
        """COPY's CSV as columns of text."""
        # A database that knows no encoding may hold anything.
        try:
            table = _columns(text, len(names))
        except pa.ArrowInvalid as error:
            if "UTF8" not in str(error):
                raise SourceError(
                    f"{self._state.where}: what it sent can't be taken apart: {error}",
                    "this is a fault of the platform",
                ) from error
            table = _columns(text.decode(errors="backslashreplace").encode(), len(names))
        if table.num_rows != rows:
            raise SourceError(
                f"{self._state.where}: {rows:,} rows came, and {table.num_rows:,} were found in them",
                "this is a fault of the platform",
            )
        return table.rename_columns(list(names))


def _base(extract: Extract, window: Window) -> sql.Composable:
    """SQL of what is read."""
    if extract.query is None:
        return sql.Identifier(*extract.table_names)
    values = {
        "day": f"'{window.day.isoformat()}'::date",
        "window_start": f"'{window.start.isoformat()}'::timestamptz",
        "window_end": f"'{window.end.isoformat()}'::timestamptz",
    }
    text = DAYS.sub(lambda found: values[found[1]], extract.query).strip().removesuffix(";")
    # A comment at its end would take the parenthesis with it.
    return sql.SQL("({}\n) as query").format(sql.SQL(text))


def _listed(names: Sequence[str]) -> sql.Composable:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _columns(text: bytes, count: int) -> pa.Table:
    names = [str(place) for place in range(count)]
    if not text:
        return pa.table({name: pa.array([], pa.string()) for name in names})
    return pyarrow.csv.read_csv(
        io.BytesIO(text),
        read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=len(text) + 1, column_names=names),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        ),
    )
