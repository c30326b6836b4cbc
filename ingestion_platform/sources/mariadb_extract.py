"""
One state of a MariaDB database, for an extract: its rows in ranges, by several connections that see the same.

Belongs here: SQL, and values as columns of text. Doesn't: which rows are wanted, and what becomes of them (`extract.py`); the client
(`mariadb_client.py`), the moment and ranges (`mariadb_snapshot.py`).

A snapshot can't be handed to another connection: connections are begun at the same place of the binary log. Where there is no log, or it
doesn't stand still, fewer read.
"""

import contextlib
import hashlib
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from itertools import pairwise
from queue import SimpleQueue
from typing import Any

import msgspec
import pyarrow as pa

from ingestion_platform.database import DAYS, Database, Extract
from ingestion_platform.errors import SourceChanged, SourceError, SourceUnavailable
from ingestion_platform.sources import mariadb_client as client
from ingestion_platform.sources.asking import Window
from ingestion_platform.sources.extract import Rows
from ingestion_platform.sources.extracted import DIGEST_BYTES
from ingestion_platform.sources.mariadb_catalog import TRANSACTIONAL, TableColumn, described, now, try_lock
from ingestion_platform.sources.mariadb_client import Connection
from ingestion_platform.sources.mariadb_snapshot import begin, quoted_name, ranges, text_of

CHUNK_BYTES = 4 * 1024**2
CHUNK_ROWS = 50_000
KEYS_AT_A_TIME = 500
_LOCK_SECONDS = 0.5
_WHOLE = ("tinyint", "smallint", "mediumint", "int", "bigint", "bit", "year")
_NUMBERS = (*_WHOLE, "decimal", "float", "double")
_MOMENTS = ("timestamp", "datetime", "date")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}( [0-9:.]+)?")
_TIMED_OUT = "(1969)"

_encode = msgspec.msgpack.Encoder().encode


class MariaDbDatabase:
    """
    A MariaDB database whose tables are extracted; see `extract.OpenDatabase`.

    Args:
        database: how kindly.
        properties: of the settings, secrets among them.
        is_replica: whether they are a replica's.

    Raises:
        SettingsError: a property isn't one.
    """

    def __init__(self, database: Database, properties: Mapping[str, str], *, is_replica: bool = False) -> None:
        self.database = database
        self.is_replica = is_replica
        to = client.access(properties, database.name)
        self.where = to.where + (" (its replica)" if is_replica else "")
        self._to = replace(to, where=self.where)

    def __repr__(self) -> str:
        return f"MariaDbDatabase({self.database.name!r})"

    @contextlib.contextmanager
    def state(self, extract: Extract, window: Window) -> "Iterator[MariaDbState]":
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
        try:
            first = self._connect()
            opened = [first]
            try:
                self._lock(first)
                handed = iter(opened[:])
                has_log = bool(first.one("select @@log_bin"))

                def connect() -> Connection:
                    one = next(handed, None) or self._connect()
                    opened.append(one)
                    return one

                if has_log:
                    connections = begin(connect, self.database.connections).connections
                else:
                    first.rows("set session transaction isolation level repeatable read")
                    first.rows("start transaction with consistent snapshot, read only")
                    connections = (first,)
                yield MariaDbState(self, connections, extract, window)
            finally:
                for connection in opened:
                    connection.close()
        except SourceUnavailable as error:
            if _TIMED_OUT in error.what:
                raise SourceError(
                    error.what, "raise statement_timeout_seconds of the database's declaration, or read less at a time"
                ) from error
            raise

    def _connect(self) -> Connection:
        return client.connect(self._to, timeout_seconds=self.database.statement_timeout_seconds)

    def _lock(self, connection: Connection) -> None:
        until = time.monotonic() + self.database.patience_seconds
        while not try_lock(connection, f"extracts of {self.database.name}"):
            if time.monotonic() >= until:
                raise SourceUnavailable(
                    f"{self.where}: another extract of it has been under way for {self.database.patience_seconds:,.0f} s",
                    "extracts of one database wait for each other, to spare it: raise patience_seconds, or let them begin apart",
                )
            time.sleep(_LOCK_SECONDS)


class MariaDbState:
    """
    One moment's state, in transactions that only read.

    Args:
        opened: the database.
        connections: that see it.
        extract: what is read.
        window: the business day.
    """

    def __init__(
        self, opened: MariaDbDatabase, connections: Sequence[Connection], extract: Extract, window: Window
    ) -> None:
        self.where = opened.where
        self.is_replica = opened.is_replica
        self._extract = extract
        self._control = connections[0]
        self._free: SimpleQueue[Connection] = SimpleQueue()
        self._base = _base(extract, window)
        self.extracted_at = now(self._control).astimezone(UTC).isoformat(timespec="microseconds")
        listed = ", ".join(map(quoted_name, extract.columns)) if extract.columns else "*"
        fields = self._control.fields(f"select {listed} from {self._base} limit 0")
        names = [name for name, _, _ in fields]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise SourceError(
                f"{self.where}: {extract.what} has two columns {twice[0]!r}",
                "give one of them another name (as …)",
            )
        self.columns = {name: TableColumn(name, kind, "utf8mb4" if is_text else None) for name, kind, is_text in fields}
        self.types = {name: kind if is_text or kind != "text" else "binary" for name, kind, is_text in fields}
        self._cursor = self.column(extract.cursor.column, "cursor") if extract.cursor is not None else None
        for name in extract.key:
            self.column(name, "key")
        self._all = self._all_ranges()
        self.ranges: list[str] = []
        self.since: str | None = None
        self.window: str | None = None
        for connection in connections:
            self._free.put(connection)

    @property
    def base(self) -> str:
        """SQL of what is read."""
        return self._base

    def column(self, name: str, role: str) -> TableColumn:
        """A column by its name."""
        if name not in self.columns:
            raise SourceChanged(
                f"{self.where}: {self._extract.what} has no column {name!r}, which is its {role}",
                f"its columns are {', '.join(self.columns)}",
            )
        return self.columns[name]

    def begin(self, since: str | None) -> tuple[int, str | None]:
        """See `State.begin`."""
        self.ranges, greatest = self._all, None
        if self._cursor is not None:
            greatest = self._greatest(self._cursor, since)
            self.window = self._from(self._cursor, greatest) if greatest is not None else "false"
            if since is not None:
                self.since = self._from(self._cursor, since)
                self.ranges = (
                    [f"({one}) and {self.since}" for one in self._all] if self._extract.split else [self.since]
                )
        return len(self.ranges), greatest

    def _greatest(self, cursor: TableColumn, since: str | None) -> str | None:
        name = quoted_name(cursor.name)
        limit = f" where {name} <= now() + interval 1 day" if cursor.type in _MOMENTS else ""
        found = self._text(cursor, f"select max({name}) from {self._base}{limit}")
        if since is None or found is None:
            return found if since is None else since
        one, other = literal(cursor, found), literal(cursor, since)
        return found if self._control.one(f"select {one} >= {other}") else since

    def _text(self, column: TableColumn, statement: str) -> str | None:
        ((value,),) = list(self._control.stream(statement))
        return text_of(column)(value).removesuffix("+00") if value is not None else None

    def _from(self, cursor: TableColumn, value: str) -> str:
        """SQL of the rows whose cursor isn't less than a value, and the overlap before it."""
        said = self._extract.cursor
        assert said is not None, "whoever has a cursor's value has a cursor"
        limit = literal(cursor, value)
        if cursor.type in _MOMENTS and said.overlap_seconds:
            limit = f"({limit} - interval {said.overlap_seconds:f} second)"
        elif cursor.type in _NUMBERS and said.overlap:
            limit = f"({limit} - {said.overlap})"
        return f"{quoted_name(cursor.name)} >= {limit}"

    def _all_ranges(self) -> list[str]:
        split = self._extract.split
        if split is None:
            names = self._extract.table_names
            if not names or any("." in name for name in names):
                return ["true"]
            if not self._has_transactions(*names):
                # One statement sees one state of such a table, two don't.
                if self._extract.cursor is not None:
                    raise SourceError(
                        f"{self.where}: {self._extract.what} is of an engine without transactions: its keys and rows can't be read as"
                        " of one moment",
                        "alter table … engine = InnoDB, or extract it without a cursor",
                    )
                return ["true"]
            found = ranges(described(self._control, ".".join(names)), self._control)
            return [one.where.removeprefix(" where ") or "true" for one in found]
        column = self.column(split.column, "split")
        name, bounds = quoted_name(column.name), [literal(column, bound) for bound in split.bounds]
        pairs = " and ".join(f"{low} < {high}" for low, high in pairwise(bounds)) or "true"
        if not self._control.one(f"select {pairs}"):
            raise SourceError(
                f"{self.where}: the bounds of {split.column!r} don't ascend, in the order that the database has",
                "put them in order: rows would be read twice, or not at all",
            )
        inner = [f"{name} >= {low} and {name} < {high}" for low, high in pairwise(bounds)]
        return [f"({name} < {bounds[0]} or {name} is null)", *inner, f"{name} >= {bounds[-1]}"]

    def _has_transactions(self, database: str, table: str) -> bool:
        found = self._control.rows(
            "select engine from information_schema.tables where table_schema = %s and table_name = %s", database, table
        )
        # A view has no engine.
        return not found or found[0][0] is None or found[0][0] in TRANSACTIONAL

    def key_parts(self) -> int:
        """See `State.key_parts`."""
        self.ranges = self._all
        return len(self.ranges)

    @contextlib.contextmanager
    def reader(
        self, pace: Callable[[int], None], chunk_rows: int | None, is_stopped: Callable[[], bool]
    ) -> "Iterator[MariaDbReader]":
        """See `State.reader`. Where fewer connections see the same, one waits for another."""
        connection = self._free.get()
        try:
            yield MariaDbReader(self, connection, pace, chunk_rows or CHUNK_ROWS, is_stopped)
        finally:
            self._free.put(connection)


class MariaDbReader:
    """Reads rows of a state by one connection; see `MariaDbState.reader`."""

    def __init__(
        self,
        state: MariaDbState,
        connection: Connection,
        pace: Callable[[int], None],
        chunk_rows: int,
        is_stopped: Callable[[], bool],
    ) -> None:
        self._state = state
        self._connection = connection
        self._pace = pace
        self._chunk_rows = chunk_rows
        self._is_stopped = is_stopped

    def rows(self, part: int, known: Collection[bytes]) -> Iterator[Rows]:
        """See `extract.Reader.rows`."""
        state = self._state
        columns = list(state.columns.values())
        listed, where = _listed(columns), state.ranges[part]
        if state.window is None:
            for rows in self._read(f"select {listed} from {state.base} where {where}"):
                yield Rows(_table(columns, rows), hashlib.sha256(_encode(rows)).digest(), (), 0)
            return
        for rows in self._read(f"select {listed}, {state.window} from {state.base} where {where}"):
            window: list[bytes] = []
            kept: list[Sequence[bytes | None]] = []
            for *values, is_window in rows:
                if state.since is not None or is_window == b"1":
                    digest = hashlib.blake2b(_encode(values), digest_size=DIGEST_BYTES).digest()
                    if is_window == b"1":
                        window.append(digest)
                    if digest in known:
                        continue
                kept.append(values)
            yield Rows(_table(columns, kept), hashlib.sha256(_encode(kept)).digest(), window, len(rows) - len(kept))

    def keys(self, part: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        """See `extract.Reader.keys`."""
        state = self._state
        wanted = [state.columns[name] for name in columns]
        for rows in self._read(f"select {_listed(wanted)} from {state.base} where {state.ranges[part]}"):
            yield _table(wanted, rows)

    def rows_of(self, keys: pa.Table) -> Iterator[pa.Table]:
        """See `extract.Reader.rows_of`."""
        state = self._state
        columns = list(state.columns.values())
        of_key = [state.columns[name] for name in keys.column_names]
        names = ", ".join(quoted_name(column.name) for column in of_key)
        for first in range(0, keys.num_rows, KEYS_AT_A_TIME):
            some = keys.slice(first, KEYS_AT_A_TIME).to_pylist()
            listed = ", ".join(
                "(" + ", ".join(literal(column, row[column.name]) for column in of_key) + ")" for row in some
            )
            for rows in self._read(f"select {_listed(columns)} from {state.base} where ({names}) in ({listed})"):
                yield _table(columns, rows)

    def _read(self, statement: str) -> Iterator[list[Sequence[bytes | None]]]:
        # Once it has been read, nobody could alter the table until the transaction ends.
        self._connection.rows("savepoint before_table")
        rows: list[Sequence[bytes | None]] = []
        size = 0
        with contextlib.closing(self._connection.stream(statement)) as stream:  # type: ignore[type-var]  # it is a generator
            for row in stream:
                rows.append(row)
                size += sum([len(value) for value in row if value is not None])
                if size >= CHUNK_BYTES or len(rows) >= self._chunk_rows:
                    if self._is_stopped():
                        return
                    self._pace(len(rows))
                    yield rows
                    rows, size = [], 0
        if rows:
            self._pace(len(rows))
            yield rows
        self._connection.rows("rollback to savepoint before_table")


def _base(extract: Extract, window: Window) -> str:
    """SQL of what is read."""
    if extract.query is None:
        return ".".join(map(quoted_name, extract.table_names))
    values = {
        "day": f"date'{window.day.isoformat()}'",
        "window_start": f"timestamp'{window.start:%Y-%m-%d %H:%M:%S}'",
        "window_end": f"timestamp'{window.end:%Y-%m-%d %H:%M:%S}'",
    }
    text = DAYS.sub(lambda found: values[found[1]], extract.query).strip().removesuffix(";")
    return f"({text}\n) as query"


def literal(column: TableColumn, text: str) -> str:
    """A column's value, as it lands, in SQL."""
    if column.type in _NUMBERS:
        # As a text it would be compared as a DOUBLE.
        if _NUMBER.fullmatch(text) is None:
            raise SourceError(f"{text!r} is no number, and column {column.name!r} has numbers")
        return text
    if column.type in _MOMENTS:
        moment = text.removesuffix("+00")
        if _MOMENT.fullmatch(moment) is None:
            raise SourceError(f"{text!r} is no moment, and column {column.name!r} has moments")
        return f"cast('{moment}' as datetime(6))"
    if column.charset is None:
        return f"x'{bytes.fromhex(text).hex()}'"
    return f"_utf8mb4 x'{text.encode().hex()}'"


def _listed(columns: Sequence[TableColumn]) -> str:
    return ", ".join(
        # As text, six digits of a FLOAT are shown.
        f"cast({quoted_name(column.name)} as double)" if column.type == "float" else quoted_name(column.name)
        for column in columns
    )


def _table(columns: Sequence[TableColumn], rows: Sequence[Sequence[bytes | None]]) -> pa.Table:
    values: list[Sequence[Any]] = list(zip(*rows, strict=True)) if rows else [() for _ in columns]
    arrays = []
    for column, found in zip(columns, values, strict=True):
        text = text_of(column)
        arrays.append(pa.array([None if value is None else text(value) for value in found], pa.string()))
    return pa.Table.from_arrays(arrays, names=[column.name for column in columns])
