"""
Rows of MariaDB's tables as they were at one moment, read by several connections at once; and the place in the log that belongs to it.

Belongs here: the moment, ranges, and the text of values. Doesn't: what is made of the rows (`mariadb.py`).

A transaction with a consistent snapshot knows which place in the log it stands at. A snapshot can't be handed to another connection; but
one that was begun at the same place sees the same. So they are begun again until they agree, and where the log doesn't stand still for so
long, fewer read. No table is locked, and no right to do so is needed.
"""

import logging
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, Full, Queue

import msgspec

from ingestion_platform.sources.mariadb_catalog import Table, TableColumn
from ingestion_platform.sources.mariadb_client import Connection, quoted
from ingestion_platform.sources.mariadb_values import float4_text, float8_text, hex_text

log = logging.getLogger(__name__)

CHUNK_BYTES = 1024**2
CHUNKS_AHEAD = 8
ROWS_PER_RANGE = 250_000
ATTEMPTS_TO_AGREE = 50

_encode = msgspec.json.Encoder().encode
_POLL_SECONDS = 0.2
_WHOLE = ("tinyint", "smallint", "mediumint", "int", "bigint")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows of a table: key and row of each, as JSON objects."""

    table: str
    keys: list[bytes]
    rows: list[bytes]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Moment:
    """
    Connections that see the same, and where in the log that is.

    Args:
        connections: each in a transaction.
        file: of the log.
        offset: in it.
    """

    connections: tuple[Connection, ...]
    file: str
    offset: int

    def close(self) -> None:
        """End them."""
        for connection in self.connections:
            connection.close()


@dataclass(frozen=True, slots=True)
class Range:
    """Some rows of a table: what stands behind its name."""

    table: Table
    where: str


def begin(connect: Callable[[], Connection], count: int) -> Moment:
    """
    Begin transactions that see the same state.

    Args:
        connect: makes a connection.
        count: of connections; fewer come when the log doesn't stand still.

    Raises:
        SourceUnavailable, SourceError: the database can't be reached, or refuses.
    """
    opened: list[Connection] = []
    try:
        for _ in range(count):
            opened.append(connect())
        places = [_begin(connection) for connection in opened]
        for attempt in range(ATTEMPTS_TO_AGREE):
            newest = max(places, key=lambda place: (place[0].rpartition(".")[2].zfill(20), place[1]))
            behind = [number for number, place in enumerate(places) if place != newest]
            if not behind:
                break
            if attempt == ATTEMPTS_TO_AGREE - 1:
                log.info(
                    "the log doesn't stand still: the tables are read by %s connections", len(opened) - len(behind)
                )
                for number in reversed(behind):
                    opened.pop(number).close()
                places = [newest]
                break
            for number in behind:
                places[number] = _begin(opened[number])
        return Moment(tuple(opened), *places[0])
    except BaseException:
        for connection in opened:
            connection.close()
        raise


def _begin(connection: Connection) -> tuple[str, int]:
    connection.rows("set session transaction isolation level repeatable read")
    connection.rows("start transaction with consistent snapshot, read only")
    found = dict(connection.rows("show status like 'binlog_snapshot%'"))
    return str(found["Binlog_snapshot_file"]), int(found["Binlog_snapshot_position"])


def read_tables(tables: Sequence[Table], moment: Moment) -> Generator[Chunk, None, None]:
    """
    Yield the rows of all tables, in the order of tables and ranges.

    Args:
        tables: which.
        moment: whose connections read them.

    Raises:
        SourceUnavailable: a connection was lost, or a table was altered meanwhile.
        SourceError: the database refuses.
    """
    found = [one for table in tables for one in ranges(table, moment.connections[0])]
    stop = threading.Event()
    queues: list[Queue[Chunk | None]] = [Queue(CHUNKS_AHEAD) for _ in found]
    waiting = iter(list(enumerate(found)))
    lock = threading.Lock()

    def work(connection: Connection) -> None:
        while not stop.is_set():
            with lock:
                number, one = next(waiting, (-1, None))
            if one is None:
                break
            # Once it has been read, nobody could alter the table until the transaction ends.
            connection.rows("savepoint before_table")
            for chunk in _read(connection, one):
                if not _put(queues[number], chunk, stop):
                    return
            connection.rows("rollback to savepoint before_table")
            _put(queues[number], None, stop)

    with ThreadPoolExecutor(len(moment.connections), thread_name_prefix="mariadb-snapshot") as pool:
        workers = [pool.submit(work, connection) for connection in moment.connections]
        try:
            for queue in queues:
                while (chunk := _get(queue, workers)) is not None:
                    yield chunk
        finally:
            stop.set()
        for worker in workers:
            worker.result()


def ranges(table: Table, connection: Connection) -> Iterator[Range]:
    """The ranges that a table is read in: of the first column of the key, where that is a whole number and the table a large one."""
    kinds = {column.name: column.type for column in table.columns}
    count = table.rows // ROWS_PER_RANGE
    if count < 2 or not table.key or kinds[table.key[0]] not in _WHOLE:
        yield Range(table, "")
        return
    column = quoted_name(table.key[0])
    first, last = connection.rows(f"select min({column}), max({column}) from {quoted(table.name)}")[0]
    if first is None or last - first < count:
        yield Range(table, "")
        return
    edges = [int(first) + (int(last) - int(first)) * number // count for number in range(1, count)]
    for number in range(count):
        limits = [f"{column} >= {edges[number - 1]}"] if number else []
        limits += [f"{column} < {edges[number]}"] if number < count - 1 else []
        yield Range(table, " where " + " and ".join(limits))


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


def _read(connection: Connection, one: Range) -> Iterator[Chunk]:
    table = one.table
    names = [column.name for column in table.columns]
    texts = [text_of(column) for column in table.columns]
    # In the order of the columns, as in the log.
    key_names = [name for name in names if name in table.key] or names
    places = [names.index(name) for name in key_names]
    listed = ", ".join(_selected(column) for column in table.columns)
    keys: list[bytes] = []
    rows: list[bytes] = []
    size = 0
    for raw in connection.stream(f"select {listed} from {quoted(table.name)}{one.where}"):
        values = [text(value) if value is not None else None for text, value in zip(texts, raw, strict=True)]
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


def _selected(column: TableColumn) -> str:
    name = quoted_name(column.name)
    # As text, six digits of a FLOAT are shown.
    return f"cast({name} as double)" if column.type == "float" else name


def text_of(column: TableColumn) -> Callable[[bytes], str]:
    """What makes of a value that the server sends the text that it has in the log too."""
    match column.type:
        case "tinyint" | "smallint" | "mediumint" | "int" | "bigint":
            # Those of ZEROFILL come filled.
            return lambda data: str(int(data))
        case "decimal":
            return _unfilled
        case "float":
            return lambda data: float4_text(float(data))
        case "double":
            return lambda data: float8_text(float(data))
        case "timestamp":
            return lambda data: data.decode() if data.startswith(b"0000") else data.decode() + "+00"
        case "bit":
            return lambda data: str(int.from_bytes(data))
        case "year" | "date" | "datetime" | "time" | "uuid" | "inet6" | "inet4":
            return bytes.decode
        case _ if column.charset is not None:
            return _text
    return hex_text


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode(errors="backslashreplace")


def _unfilled(data: bytes) -> str:
    text = data.decode()
    if text[0] != "0":
        return text
    rest = text.lstrip("0")
    return rest if rest[:1].isdigit() else "0" + rest


def quoted_name(name: str) -> str:
    """A column's name as SQL has it."""
    return "`" + name.replace("`", "``") + "`"
