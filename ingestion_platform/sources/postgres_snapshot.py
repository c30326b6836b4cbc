"""
Rows of PostgreSQL's tables as they were at one moment, read by several connections at once.

Belongs here: ranges, COPY's text, and the order in which rows are given. Doesn't: what makes the moment (`postgres.py`).

A table is read in ranges of its pages: they are found without an index, and cost the database one pass over the table. The rows are given
in the order of the ranges, so that what has been read and not given yet is bounded: each connection is at most a few chunks ahead.
"""

import re
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Any

import msgspec
import psycopg
from psycopg import sql

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
            connection.execute("begin isolation level repeatable read read only")
            connection.execute(sql.SQL("set transaction snapshot {}").format(sql.Literal(snapshot)))
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


def _ranges(table: Table) -> Iterator[_Range]:
    for first in range(0, max(table.pages, 1), PAGES_PER_RANGE):
        after = first + PAGES_PER_RANGE
        yield _Range(table, first, after if after < table.pages else None)


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
    wanted = [sql.SQL("ctid >= {}::tid").format(sql.Literal(f"({one.first},0)"))]
    if one.after is not None:
        wanted.append(sql.SQL("ctid < {}::tid").format(sql.Literal(f"({one.after},0)")))
    if table.only is not None:
        wanted.append(sql.SQL("({})").format(sql.SQL(table.only)))
    query = sql.SQL("copy (select {} from {} where {}) to stdout").format(
        columns, sql.Identifier(*table.name.split(".")), sql.SQL(" and ").join(wanted)
    )
    names = table.columns
    key_names = tuple(name for name in names if name in table.key) or names
    places = [names.index(name) for name in key_names]
    keys: list[bytes] = []
    rows: list[bytes] = []
    size = 0
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        for data in copy:
            values = values_of(bytes(data), len(names))
            key = _encode({name: values[place] for name, place in zip(key_names, places, strict=True)})
            row = _encode(dict(zip(names, values, strict=True)))
            keys.append(key)
            rows.append(row)
            size += len(key) + len(row)
            if size >= CHUNK_BYTES:
                yield Chunk(table.name, keys, rows, size)
                keys, rows, size = [], [], 0
    if rows:
        yield Chunk(table.name, keys, rows, size)


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
