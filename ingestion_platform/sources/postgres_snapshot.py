"""
Rows of PostgreSQL's tables as they were at one moment, read by several connections at once.

Belongs here: ranges, what COPY sends, and the order in which a capture gets rows. Doesn't: what makes the moment (`postgres.py`), what an
extract makes of rows (`postgres_extract.py`).

A table is read in ranges of its pages: they are found without an index, and cost the database one pass over the table. The rows are given
in the order of the ranges, so that what has been read and not given yet is bounded: each connection is at most a few chunks ahead.
"""

import re
import select
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Any

import msgspec
import psycopg
from psycopg import pq, sql

from ingestion_platform.sources.postgres_client import Table, telling

CHUNK_BYTES = 1024**2
CHUNKS_AHEAD = 8
PAGES_PER_RANGE = 8192
"""64 MB, where pages are of 8 kB."""

_encode = msgspec.json.Encoder().encode
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_MEANT = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows of a table: key and row of each, as JSON objects."""

    table: str
    keys: list[bytes]
    rows: list[bytes]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Range:
    table: Table
    first: int
    after: int | None


def read_tables(
    tables: Sequence[Table],
    connect: Callable[[], "psycopg.Connection[Any]"],
    *,
    snapshot: str,
    connections: int,
    where: str,
) -> Generator[Chunk, None, None]:
    """
    Yield the rows of all tables, in the order of tables and ranges.

    Args:
        tables: which.
        connect: makes a connection.
        snapshot: of the database, exported, whose rows are read.
        connections: at most so many at a time.
        where: as messages call the database.

    Raises:
        SourceUnavailable: a connection was lost.
        SourceError: the database refuses.
    """
    ranges = [one for table in tables for one in _ranges(table)]
    stop = threading.Event()
    queues: list[Queue[Chunk | None]] = [Queue(CHUNKS_AHEAD) for _ in ranges]
    waiting = iter(list(enumerate(ranges)))
    lock = threading.Lock()

    def work() -> None:
        with telling(where), connect() as connection:
            enter(connection, snapshot)
            while not stop.is_set():
                with lock:
                    number, one = next(waiting, (-1, None))
                if one is None:
                    break
                for chunk in _read(connection, one):
                    if not _put(queues[number], chunk, stop):
                        return
                _put(queues[number], None, stop)

    with ThreadPoolExecutor(connections, thread_name_prefix="postgres-snapshot") as pool:
        workers = [pool.submit(work) for _ in range(min(connections, len(ranges)))]
        try:
            for queue in queues:
                while (chunk := _get(queue, workers)) is not None:
                    yield chunk
        finally:
            stop.set()
        for worker in workers:
            worker.result()


def enter(connection: "psycopg.Connection[Any]", snapshot: str) -> None:
    """Begin a transaction that only reads, in an exported snapshot."""
    connection.execute("begin isolation level repeatable read read only")
    connection.execute(sql.SQL("set transaction snapshot {}").format(sql.Literal(snapshot)))


def page_ranges(pages: int) -> Iterator[tuple[int, int | None]]:
    """The first page of each range of a table, and the page after its last one; None: to the end, wherever that is by now."""
    for first in range(0, max(pages, 1), PAGES_PER_RANGE):
        after = first + PAGES_PER_RANGE
        yield first, after if after < pages else None


def in_pages(first: int, after: int | None) -> sql.Composable:
    """SQL of the rows in a range of pages. PostgreSQL reads no other ones (14 and later)."""
    begin = sql.SQL("ctid >= {}::tid").format(sql.Literal(f"({first},0)"))
    if after is None:
        return begin
    return sql.SQL("{} and ctid < {}::tid").format(begin, sql.Literal(f"({after},0)"))


def copy_out(
    connection: "psycopg.Connection[Any]",
    query: sql.Composable,
    *,
    has_encoding: bool = True,
    chunk_bytes: int = CHUNK_BYTES,
    chunk_rows: int | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Iterator[list[bytes]]:
    """
    Yield what `COPY … TO STDOUT` sends: a text for each row, many at a time. The server waits while nobody takes them.

    Args:
        has_encoding: False: the database knows none, and its bytes come as they are.
        chunk_bytes: a chunk has about so much.
        chunk_rows: at most so many rows; None: as many as fit.
        is_stopped: asked now and then; then the rows end, and the connection is of no more use.

    Raises:
        psycopg.Error: the server refuses, or has gone.
    """
    # The client's own way of copying takes three times as long a row.
    pgconn = connection.pgconn
    poll = select.poll()
    poll.register(pgconn.socket, select.POLLIN)

    def wait() -> None:
        poll.poll(_POLL_SECONDS * 1000)
        pgconn.consume_input()

    command = query.as_bytes(connection)
    if not has_encoding:
        connection.execute("set local client_encoding = 'SQL_ASCII'")
    pgconn.send_query(command)
    while pgconn.is_busy():
        if is_stopped():
            return
        wait()
    begun = pgconn.get_result()
    if begun is None or begun.status != pq.ExecStatus.COPY_OUT:
        raise psycopg.errors.error_from_result(begun) if begun is not None else psycopg.OperationalError("no answer")
    rows: list[bytes] = []
    size, most_rows, get = 0, chunk_rows or sys.maxsize, pgconn.get_copy_data
    while True:
        length, data = get(1)
        if length > 0:
            rows.append(bytes(data))
            size += length
            if size < chunk_bytes and len(rows) < most_rows:
                continue
        elif length == 0:
            if is_stopped():
                return
            wait()
            continue
        if rows:
            yield rows
            rows, size = [], 0
        if length < 0:
            break
    while (ended := pgconn.get_result()) is not None:
        if ended.status != pq.ExecStatus.COMMAND_OK:
            raise psycopg.errors.error_from_result(ended)
    if not has_encoding:
        connection.execute("set local client_encoding = 'UTF8'")


def _ranges(table: Table) -> Iterator[_Range]:
    for first, after in page_ranges(table.pages):
        yield _Range(table, first, after)


def _put(queue: "Queue[Chunk | None]", chunk: Chunk | None, stop: threading.Event) -> bool:
    while not stop.is_set():
        try:
            queue.put(chunk, timeout=_POLL_SECONDS)
        except Full:
            continue
        return True
    return False


def _get(queue: "Queue[Chunk | None]", workers: "Sequence[Future[None]]") -> Chunk | None:
    while True:
        try:
            return queue.get(timeout=_POLL_SECONDS)
        except Empty:
            for worker in workers:
                if worker.done():
                    worker.result()


def _read(connection: "psycopg.Connection[Any]", one: _Range) -> Iterator[Chunk]:
    table = one.table
    columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
    wanted = [in_pages(one.first, one.after)]
    if table.only is not None:
        wanted.append(sql.SQL("({})").format(sql.SQL(table.only)))
    query = sql.SQL("copy (select {} from {} where {}) to stdout").format(
        columns, sql.Identifier(*table.name.split(".")), sql.SQL(" and ").join(wanted)
    )
    names = table.columns
    key_names = tuple(name for name in names if name in table.key) or names
    places = [names.index(name) for name in key_names]
    for lines in copy_out(connection, query):
        keys: list[bytes] = []
        rows: list[bytes] = []
        for line in lines:
            values = values_of(line, len(names))
            keys.append(_encode({name: values[place] for name, place in zip(key_names, places, strict=True)}))
            rows.append(_encode(dict(zip(names, values, strict=True))))
        yield Chunk(table.name, keys, rows, sum(map(len, keys)) + sum(map(len, rows)))


def values_of(line: bytes, count: int) -> list[str | None]:
    """The values of a line of COPY's text, which ends with a line end."""
    if count == 0:
        return []
    fields = line[:-1].split(b"\t")
    if b"\\" not in line:
        return _decoded(fields)
    return _decoded([None if field == rb"\N" else _ESCAPED.sub(_meant, field) for field in fields])


def _decoded(fields: Sequence[bytes | None]) -> list[str | None]:
    try:
        return [field.decode() if field is not None else None for field in fields]
    except UnicodeDecodeError:
        return [field.decode(errors="backslashreplace") if field is not None else None for field in fields]


def _meant(found: "re.Match[bytes]") -> bytes:
    return _MEANT.get(found[1], found[1])
