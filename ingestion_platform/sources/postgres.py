"""
PostgreSQL's log as a stream: every change of chosen tables, by logical replication; and what the tables held when the capture began.

Belongs here: what is read when, and what is confirmed. Doesn't: the log's messages (`postgres_changes.py`), SQL of the catalog
(`postgres_client.py`), reading tables (`postgres_snapshot.py`).

How it is read:

- The database keeps its log for a slot until the slot has been told that it isn't needed any more. It is told what has landed, and never
  more; so the landing zone alone says where to go on, and the slot can't have forgotten it. Where nothing of the tables changes, a mark
  lands that says so, and then the slot moves on too.
- A capture begins with a slot of its own, and the tables as they were when the slot was made: the slot's own snapshot, so nothing is
  missing in between and nothing is there twice. A snapshot that wasn't read to its end counts for nothing: the next slot begins anew, and
  says of each table first that all that was known of it is void (RESTART).
- Going on, the last transaction that has landed is asked for again. It must come, at the same place in the log: so a restored database, or
  another one with a slot of that name, isn't taken for the one that was captured.
- A transaction comes whole, when it has committed, in the order of commits. What has been read and not taken yet is bounded.
"""

import contextlib
import logging
import select
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from queue import Empty, Full, Queue
from struct import Struct
from typing import Any

import psycopg
from psycopg import pq

from ingestion_platform.errors import IngestionError, SourceError, SourceUnavailable, StreamGap
from ingestion_platform.sources import postgres_client as client
from ingestion_platform.sources.captured import BEGIN_ANEW, Gathered
from ingestion_platform.sources.postgres_changes import Decoder, Position, parse_lsn, written_lsn
from ingestion_platform.sources.postgres_snapshot import read_tables
from ingestion_platform.sources.reading import (
    After,
    Anew,
    Arrived,
    Behind,
    CaughtUp,
    Event,
    From,
    Gone,
    Idle,
    Passed,
    Settle,
    Shard,
    Start,
    Throttled,
    Where,
)
from ingestion_platform.stream import Postgres, Span

log = logging.getLogger(__name__)

SHARD = "log"
"""A database has one log."""
OLDEST_VERSION = 140000
BATCH_BYTES = 1024**2
"""What is given at a time, where transactions end; and inside of a large one, four times as much."""
BATCHES_AHEAD = 8
MARK_BYTES = 16 * 1024**2
"""The log goes on by so much without a change of the tables before that is noted: the database keeps it in files of this size."""
LARGE_TRANSACTION_BYTES = 1024**2
"""One that would be asked for again the next time isn't, when it is larger than this: the place behind it is noted."""
SLOT_PREFIX = "ingestion_"

_STATUS = Struct(">cqqqqB").pack
_STATUS_SECONDS = 5.0
_CONFIRM_SECONDS = 0.5
_BEHIND_SECONDS = 10.0
_PATIENCE_SECONDS = 0.1
_HELD_ATTEMPTS = 4
"""A process that was killed holds its lock for a moment longer."""
_RECEIVED = Struct(">qqq").unpack_from
_KEEP_ALIVE = Struct(">qqB").unpack_from
_EPOCH_1970 = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_2000 = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class PostgresReader:
    """
    Reads the log of a PostgreSQL database; see `reading.StreamReader`.

    Args:
        source: which tables of which database.
        properties: libpq's, secrets among them.
        name: the stream's; slots and the publication are named after it.
        batch_bytes: what is given at a time, roughly.
        attempts: how often in a row connecting may fail before the source counts as unavailable.
        first_wait_seconds: after the first failure; it doubles with each.
        longest_wait_seconds: where the doubling ends.
        mark_seconds: how often at most it is noted, while the log is followed, that nothing has come.
        clock: the moment in UTC.

    Raises:
        SettingsError: the properties aren't libpq's.
    """

    def __init__(
        self,
        source: Postgres,
        properties: Mapping[str, str],
        *,
        name: str,
        batch_bytes: int = BATCH_BYTES,
        attempts: int = 8,
        first_wait_seconds: float = 0.25,
        longest_wait_seconds: float = 15.0,
        mark_seconds: float = 60.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.source = source
        self.name = name
        self.batch_bytes = batch_bytes
        self.where = f"PostgreSQL database {source.database!r}"
        self.info = client.conninfo(properties, f"[{source.database}]")
        self.attempts = attempts
        self.first_wait_seconds = first_wait_seconds
        self.longest_wait_seconds = longest_wait_seconds
        self.mark_seconds = mark_seconds
        self.clock = clock
        self.confirmed = Position(0, 0, 0)

    def __repr__(self) -> str:
        return f"PostgresReader({self.source.database!r})"

    @property
    def publication(self) -> str:
        """Its publication in the database."""
        return f"{SLOT_PREFIX}{self.name}"

    def slot_name(self, number: int) -> str:
        """A slot in the database."""
        return f"{SLOT_PREFIX}{self.name}_{number}"

    def read(self, where: Where, *, until: datetime | None, shards: Sequence[str] = ()) -> Generator[Event, None, None]:
        """See `StreamReader.read`."""
        if shards and SHARD not in shards:
            return
        yield from _Reading(self, where(Shard(SHARD)), until).events()

    def confirm(self, shard: str, position: int) -> None:
        """See `reading.Confirmed`."""
        self.confirmed = max(self.confirmed, Position.parse(position))


class _Reading:
    """One call of `read`."""

    def __init__(self, reader: PostgresReader, start: Start, until: datetime | None) -> None:
        self.reader = reader
        self.start = start
        self.until = until
        self.where = reader.where
        self.given = Position(0, 0, 0)
        self.is_held = False

    def events(self) -> Iterator[Event]:
        """Everything that is told of the log."""
        if isinstance(self.start, From):
            raise SourceError(
                f"{self.where}: a database keeps its log until it has landed, and no longer: it can't be replayed",
                "what has landed is in the landing zone: load it again",
            )
        failures = 0
        while True:
            given = self.given
            try:
                with contextlib.closing(self._connected()) as control:
                    yield from self._all(control)
                return
            except SourceUnavailable as error:
                # A snapshot can't be gone on with: the next drain begins anew.
                failures = 1 if self.given != given else failures + 1
                if self.is_held and self.until is not None and failures >= _HELD_ATTEMPTS:
                    # A drain by schedule beside a worker: whoever holds it lands what there is. One that hangs shows in what is kept.
                    log.info("%s; it lands what there is", error.what)
                    yield Behind(SHARD, None, 0.0, self._kept_bytes())
                    return
                if failures >= self.reader.attempts or (self.given.slot and not self.given.lsn):
                    raise
                wait = min(self.reader.first_wait_seconds * 2.0 ** (failures - 1), self.reader.longest_wait_seconds)
                yield Throttled(SHARD, str(error), wait)
                time.sleep(wait)
                if self.given.slot:
                    self.start = After(int(self.given))

    def _kept_bytes(self) -> int | None:
        """What the database keeps for the slot that has landed last."""
        if not isinstance(self.start, After):
            return None
        with (
            contextlib.closing(client.connect(self.reader.info, self.where)) as control,
            client.telling(self.where),
        ):
            slot = client.slot(control, self.reader.slot_name(Position.parse(self.start.position).slot))
        return slot.kept_bytes if slot is not None else None

    def _connected(self) -> "psycopg.Connection[Any]":
        """A connection that holds the lock of this capture."""
        control = client.connect(
            self.reader.info, self.where, timeout_seconds=self.reader.source.statement_timeout_seconds
        )
        try:
            with client.telling(self.where):
                if client.version(control) < OLDEST_VERSION:
                    raise SourceError(f"{self.where} is older than PostgreSQL 14", "capture it after an upgrade")
                if client.rows(control, "select pg_is_in_recovery()")[0][0]:
                    raise SourceError(
                        f"{self.where} is a standby, and is captured on its primary only", "name the primary's host"
                    )
                if not client.try_lock(control, self.reader.name):
                    self.is_held = True
                    raise SourceUnavailable(
                        f"{self.where}: another process captures {self.reader.name!r}", "one does for all"
                    )
                self.is_held = False
        except BaseException:
            control.close()
            raise
        return control

    # --- what is read

    def _all(self, control: "psycopg.Connection[Any]") -> Iterator[Event]:
        with client.telling(self.where):
            match self.start:
                case After(position) if Position.parse(position).lsn:
                    after = Position.parse(position)
                    self._check(control, after)
                case After(position) | Anew(position) if not Position.parse(position).lsn:
                    # A beginning that didn't come to its end: nothing is lost by another one.
                    after = yield from self._begin(control, Position.parse(position).slot + 1)
                case Anew(position):
                    number = Position.parse(position).slot + 1
                    span = Span(position + 1, int(Position(number, 0, 0)) - 1)
                    yield Gone(SHARD, span, "it was decided to begin anew: nobody knows what happened in between")
                    after = yield from self._begin(control, number)
                case _:
                    after = yield from self._begin(control, 1)
            self.given = after
            yield from self._follow(control, after)

    def _check(self, control: "psycopg.Connection[Any]", after: Position) -> None:
        """
        Look whether the log can be gone on with.

        Raises:
            StreamGap: it can't: the slot is gone, or has gone on without us.
            SourceError: tables are declared that aren't captured.
        """
        name = self.reader.slot_name(after.slot)
        slot = client.slot(control, name)
        told = f"{self.where}: the slot {name!r}"
        if slot is None:
            raise StreamGap(
                f"{told} isn't there any more: somebody has dropped it, or the database was restored or moved",
                BEGIN_ANEW,
            )
        if slot.is_lost or slot.confirmed is None:
            raise StreamGap(f"{told} can't be read any more: {slot.why}", BEGIN_ANEW)
        if slot.confirmed > after.lsn:
            raise StreamGap(
                f"{told} has been read by somebody else up to {written_lsn(slot.confirmed)}, and what has landed ends at {after}",
                BEGIN_ANEW,
            )
        end = client.end_of_log(control)
        if end < after.lsn:
            raise StreamGap(
                f"{told} is of a log that ends at {written_lsn(end)}, and what has landed ends at {after}", BEGIN_ANEW
            )
        published = client.published(control, self.reader.publication)
        if published is None:
            raise StreamGap(
                f"{self.where}: the publication {self.reader.publication!r} isn't there any more", BEGIN_ANEW
            )
        missing = sorted(set(self.reader.source.tables) - set(published))
        if missing:
            raise SourceError(
                f"{self.where}: table {missing[0]!r} is declared, and isn't captured: its publication has {', '.join(published)}",
                "launch the landing asset with `anew: true`: all tables are then read as they are now, and captured from there",
            )

    def _begin(self, control: "psycopg.Connection[Any]", number: int) -> Generator[Event, None, Position]:
        """Make a slot, and read the tables as they were then; from where on the log is read."""
        reader = self.reader
        name = reader.slot_name(number)
        if client.slot(control, name) is not None:
            raise SourceError(
                f"{self.where} has a slot {name!r} already, and nothing in this landing zone tells of it: it is another one's",
                f"if nobody needs it: select pg_drop_replication_slot('{name}'); or give the stream another name",
            )
        client.check_identity(control, reader.source.tables, self.where)
        # From here on the slot is this landing zone's, whatever happens to this process.
        yield Passed(SHARD, int(Position(number, 0, 0)))
        self.given = Position(number, 0, 0)
        for old in client.slots_of(control, f"{SLOT_PREFIX}{reader.name}_"):
            if int(old.rpartition("_")[2]) < number:
                client.drop_slot(control, old)
        published = client.published(control, reader.publication)
        if published is None or set(published) != set(reader.source.tables):
            client.publish(control, reader.publication, reader.source.tables, is_there=published is not None)
        with contextlib.closing(client.connect_replication(reader.info, self.where)) as replication:
            with_tables = reader.source.begin == "oldest"
            export = "EXPORT_SNAPSHOT" if with_tables else "NOEXPORT_SNAPSHOT"
            log.info("%s: makes slot %s; the database waits for the transactions that are open now", self.where, name)
            made = yield from _patiently(replication, f'CREATE_REPLICATION_SLOT "{name}" LOGICAL pgoutput {export}')
            lsn = parse_lsn((made.get_value(0, 1) or b"").decode())
            log.info("%s: slot %s begins at %s", self.where, name, written_lsn(lsn))
            if with_tables:
                yield from self._tables(control, number, (made.get_value(0, 2) or b"").decode())
        begins = Position(number, lsn, 0)
        yield Passed(SHARD, int(begins))
        return begins

    def _tables(self, control: "psycopg.Connection[Any]", number: int, snapshot: str) -> Iterator[Event]:
        """The rows of the tables, after a word that all that was known of them is void."""
        reader = self.reader
        moment = (client.now(control) - _EPOCH_1970) // _MICROSECOND
        tables = [client.described(control, table, reader.publication) for table in reader.source.tables]
        prefix, place = str(int(Position(number, 0, 0)))[:-13], 0
        gathered = Gathered()
        for table in tables:
            place += 1
            gathered.add(f"{prefix}{place:013d}", moment, None, None, (table.name.encode(), b"RESTART", b""))
        yield _arrived(gathered, goes_on=True)

        def connect() -> "psycopg.Connection[Any]":
            return client.connect(reader.info, self.where, timeout_seconds=reader.source.statement_timeout_seconds * 60)

        rows = read_tables(tables, connect, snapshot=snapshot, connections=reader.source.connections, where=self.where)
        began, first = time.monotonic(), place
        with contextlib.closing(rows):
            for chunk in rows:
                # What isn't taken isn't read: the connections are a few chunks ahead at most.
                due = began + (place - first) / (reader.source.rows_per_second or float("inf"))
                while (wait := due - time.monotonic()) > 0:
                    time.sleep(min(wait, _PATIENCE_SECONDS))
                    yield Idle()
                headers = (chunk.table.encode(), b"SNAPSHOT", b"")
                gathered = Gathered()
                positions = [f"{prefix}{place + number:013d}" for number in range(1, len(chunk.keys) + 1)]
                place += len(positions)
                gathered.add_alike(positions, moment, chunk.keys, chunk.rows, headers)
                # All of it belongs together: a drain that ended here, because it has had its time, would never come to the end.
                yield _arrived(gathered, goes_on=True)

    # --- the log

    def _follow(self, control: "psycopg.Connection[Any]", after: Position) -> Iterator[Event]:
        reader = self.reader
        name = reader.slot_name(after.slot)
        target = parse_lsn(client.rows(control, "select pg_current_wal_flush_lsn()::text")[0][0])
        as_of = reader.clock()
        slot = client.slot(control, name)
        yield Behind(SHARD, None, 0.0, slot.kept_bytes if slot is not None else None)
        lock = threading.Lock()
        decoder = Decoder(after.slot, after, client.Asked(control, lock))
        pump = _Pump(reader, after, decoder, target if self.until is not None else None)
        noted, told, marked = after, float("-inf"), time.monotonic()
        try:
            pump.start(name)
            while True:
                arrived = pump.next()
                now = time.monotonic()
                if arrived is not None:
                    yield arrived
                    self.given = noted = Position.parse(arrived.last)
                    if now - told > _BEHIND_SECONDS:
                        told = now
                        yield self._behind(control, lock, name, arrived)
                    continue
                reached, is_large = pump.reached()
                is_done = self.until is not None and reached >= target
                # What has come has been given: nothing of the tables is between that and the place that the log has come to.
                is_far = reached - noted.lsn >= MARK_BYTES or (is_large and reached > noted.lsn)
                if is_far and (is_done or now - marked > reader.mark_seconds):
                    marked, noted = now, Position(after.slot, reached, 0)
                    yield Passed(SHARD, int(noted))
                    self.given = noted
                if is_done:
                    yield CaughtUp(SHARD, as_of)
                    yield Settle()
                    pump.close()
                    with lock:
                        slot = client.slot(control, name)
                    yield Behind(SHARD, None, 0.0, slot.kept_bytes if slot is not None else None)
                    return
                if self.until is None and now - told > _BEHIND_SECONDS:
                    told = now
                    as_of = reader.clock()
                    with lock:
                        end = client.end_of_log(control)
                        slot = client.slot(control, name)
                    if reached + MARK_BYTES > end:
                        yield Behind(SHARD, None, 0.0, slot.kept_bytes if slot is not None else None)
                        yield CaughtUp(SHARD, as_of)
                yield Idle()
        finally:
            pump.close()

    def _behind(self, control: "psycopg.Connection[Any]", lock: threading.Lock, name: str, arrived: Arrived) -> Behind:
        with lock:
            slot = client.slot(control, name)
        newest = arrived.records.column("arrived_at")[-1].as_py()
        seconds = (self.reader.clock() - newest).total_seconds()
        return Behind(SHARD, None, max(seconds, 0.0), slot.kept_bytes if slot is not None else None)


def _arrived(gathered: Gathered, *, goes_on: bool) -> Arrived:
    batch, first, last = gathered.taken()
    return Arrived(SHARD, batch, first, last, gathered.size_bytes, goes_on=goes_on)


def _patiently(connection: "psycopg.Connection[Any]", command: str) -> "Generator[Event, None, pq.abc.PGresult]":
    """Run a command that may take as long as other people's transactions; whoever takes the events may end it."""
    pgconn = connection.pgconn
    pgconn.send_query(command.encode())
    poll = select.poll()
    poll.register(pgconn.socket, select.POLLIN)
    while pgconn.is_busy():
        if not poll.poll(500):
            yield Idle()
        pgconn.consume_input()
    result = pgconn.get_result()
    assert result is not None, "a command has a result"
    while pgconn.get_result() is not None:
        pass
    return _good(result)


def _exec(connection: "psycopg.Connection[Any]", command: str) -> "pq.abc.PGresult":
    """Run a command of the replication protocol."""
    return _good(connection.pgconn.exec_(command.encode()))


def _good(result: "pq.abc.PGresult") -> "pq.abc.PGresult":
    if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK, pq.ExecStatus.COPY_BOTH):
        raise psycopg.errors.error_from_result(result)
    return result


class _Pump:
    """
    Reads the log in a thread of its own, so that the database is answered however long landing takes.

    Args:
        reader: whose.
        after: from where on.
        decoder: takes the messages.
        target: up to where it is read; None: without end.
    """

    def __init__(self, reader: PostgresReader, after: Position, decoder: Decoder, target: int | None) -> None:
        self._reader = reader
        self._after = after
        self._decoder = decoder
        self._target = target
        self._queue: Queue[Arrived | IngestionError] = Queue(BATCHES_AHEAD)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._reached = 0
        self._is_large = False
        self._received = after.lsn
        self._told_flush = 0
        self._told_at = time.monotonic()
        self._gathered_since = 0.0
        self._has_asked = 0.0
        self._thread: threading.Thread | None = None

    def start(self, slot: str) -> None:
        """Begin to read."""
        self._connection = client.connect_replication(self._reader.info, self._reader.where)
        with client.telling(self._reader.where):
            try:
                _exec(
                    self._connection,
                    f'START_REPLICATION SLOT "{slot}" LOGICAL {written_lsn(self._after.lsn)}'
                    f" (proto_version '1', publication_names '\"{self._reader.publication}\"')",
                )
            except BaseException:
                self._connection.close()
                raise
        self._connection.pgconn.nonblocking = 1
        self._thread = threading.Thread(target=self._run, name="postgres-log", daemon=True)
        self._thread.start()

    def next(self) -> Arrived | None:
        """What comes next; None when nothing has come for a moment."""
        try:
            found = self._queue.get(timeout=_PATIENCE_SECONDS)
        except Empty:
            return None
        if isinstance(found, IngestionError):
            raise found
        return found

    def reached(self) -> tuple[int, bool]:
        """Up to where the log has been read and everything been given; and whether the last transaction is a large one."""
        with self._lock:
            # What stands in the queue was put there before the place was told.
            return (self._reached, self._is_large) if self._queue.empty() else (0, False)

    def close(self) -> None:
        """Tell the database what has landed by now, and end."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    # --- in the thread

    def _run(self) -> None:
        try:
            with client.telling(self._reader.where):
                self._read()
        except IngestionError as error:
            self._put(error)
        except Exception as error:
            problem = SourceError(
                f"{self._reader.where}: {type(error).__name__}: {error}", "this is a fault of the platform"
            )
            problem.__cause__ = error
            self._put(problem)
        finally:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()

    def _read(self) -> None:
        pgconn, decoder = self._connection.pgconn, self._decoder
        take, get = decoder.take, pgconn.get_copy_data
        batch_bytes = self._reader.batch_bytes
        poll = select.poll()
        poll.register(pgconn.socket, select.POLLIN)
        while not self._stop.is_set():
            size, data = get(1)
            if size > 0:
                if data[0] == 0x77:
                    take(bytes(data[25:]))
                    gathered = decoder.gathered
                    if gathered.size_bytes >= batch_bytes and (
                        not decoder.is_inside or gathered.size_bytes >= 4 * batch_bytes
                    ):
                        self._flush()
                elif data[0] == 0x6B:
                    self._keep_alive(bytes(data))
                continue
            if size < 0:
                raise SourceUnavailable(
                    f"{self._reader.where}: the database has ended the connection", "is it being restarted?"
                )
            self._rest(pgconn)
            poll.poll(20 if len(decoder.gathered) else 100)
            pgconn.consume_input()
        # What has landed by now is confirmed; whatever else was read comes again.
        self._tell_confirmed(pgconn)
        pgconn.flush()

    def _rest(self, pgconn: "pq.abc.PGconn") -> None:
        """What is done when nothing is there to read."""
        now = time.monotonic()
        decoder = self._decoder
        if len(decoder.gathered) and not decoder.is_inside:
            if not self._gathered_since:
                self._gathered_since = now
            elif now - self._gathered_since > _PATIENCE_SECONDS:
                self._flush()
        if now - self._told_at > _CONFIRM_SECONDS:
            self._tell_confirmed(pgconn)
        is_short = self._target is not None and self._reached < self._target
        if now - self._told_at > _STATUS_SECONDS:
            self._tell(pgconn, flush=0)
        if is_short and now - self._has_asked > _PATIENCE_SECONDS and not decoder.is_inside:
            self._has_asked = now
            self._tell(pgconn, flush=0, wants_answer=True)

    def _keep_alive(self, data: bytes) -> None:
        lsn, _, wants_answer = _KEEP_ALIVE(data, 1)
        lsn &= 0xFFFFFFFFFFFFFFFF
        self._received = max(self._received, lsn)
        if not self._decoder.is_inside:
            self._decoder.check_reached(lsn)
            if len(self._decoder.gathered):
                self._flush()
            with self._lock:
                self._reached = max(self._reached, lsn)
                self._is_large = self._decoder.transaction_bytes > LARGE_TRANSACTION_BYTES
        if wants_answer:
            self._tell(self._connection.pgconn, flush=0)

    def _flush(self) -> None:
        gathered, self._decoder.gathered = self._decoder.gathered, Gathered()
        self._gathered_since = 0.0
        self._received = max(self._received, self._decoder.has_come_to)
        self._put(_arrived(gathered, goes_on=self._decoder.is_inside))

    def _put(self, what: Arrived | IngestionError) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(what, timeout=1.0)
            except Full:
                # Whoever takes it is slow; the database is told that we live.
                if time.monotonic() - self._told_at > _STATUS_SECONDS:
                    self._tell_confirmed(self._connection.pgconn)
                    self._tell(self._connection.pgconn, flush=0)
                continue
            return

    def _tell_confirmed(self, pgconn: "pq.abc.PGconn") -> None:
        """Tell the database what has landed, once."""
        confirmed = self._reader.confirmed
        if confirmed.slot == self._after.slot and confirmed.lsn > self._told_flush:
            self._told_flush = confirmed.lsn
            self._tell(pgconn, flush=confirmed.lsn)
            # A server that is to stop waits until all that it has sent is confirmed, or, of one who confirms nothing, received.
            self._tell(pgconn, flush=0)

    def _tell(self, pgconn: "pq.abc.PGconn", *, flush: int, wants_answer: bool = False) -> None:
        """The protocol's status: received, confirmed (0: nothing new), time."""
        self._told_at = time.monotonic()
        moment = (datetime.now(UTC) - _EPOCH_2000) // _MICROSECOND
        received = max(self._received, flush)
        pgconn.put_copy_data(_STATUS(b"r", received, flush, flush, moment, int(wants_answer)))
        pgconn.flush()
