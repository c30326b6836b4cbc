"""
MariaDB's binary log as a stream: every change of chosen tables; and what the tables held when the capture began.

Belongs here: what is read when. Doesn't: the log's events (`mariadb_changes.py`), connections (`mariadb_client.py`), SQL of the catalog
(`mariadb_catalog.py`), reading tables (`mariadb_snapshot.py`).

How it is read:

- The platform reads the log as a replica does. The database keeps nothing for it: a log file goes when it is older or more than the
  server's configuration says, or somebody purges it. Going on where it is gone is an error that says what there still is.
- A capture begins with the tables as they were at one place of the log: a consistent snapshot, which knows that place. One that wasn't read
  to its end counts for nothing: the next begins anew, and says of each table first that all that was known of it is void (RESTART).
- Going on, the log is read from the last transaction that has landed. It must be the same log file, by number and by the moment when it was
  made, and the transaction must begin there: so a restored database, or one whose log was begun anew, isn't taken for the one that was
  captured.
- A transaction comes whole, in the order of commits; what hasn't been taken is not received.
"""

import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from ingestion_platform.errors import SourceError, SourceUnavailable, StreamGap
from ingestion_platform.sources import mariadb_catalog as catalog
from ingestion_platform.sources import mariadb_client as client
from ingestion_platform.sources.captured import BEGIN_ANEW, Gathered
from ingestion_platform.sources.mariadb_changes import Decoder, Position, digest_of, number_of
from ingestion_platform.sources.mariadb_client import Connection
from ingestion_platform.sources.mariadb_snapshot import Moment, begin, read_tables
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
    Shard,
    Start,
    Throttled,
    Where,
)
from ingestion_platform.stream import MariaDb, Span

SHARD = "log"
"""A database has one log."""
BATCH_BYTES = 1024**2
"""What is given at a time, where transactions end; and inside of a large one, four times as much."""
MARK_BYTES = 16 * 1024**2
"""The log goes on by so much without a change of the tables before that is noted: otherwise it would be read again and again."""
LARGE_TRANSACTION_BYTES = 1024**2
"""One that would be read again the next time isn't, when it is larger than this: the place behind it is noted."""

log = logging.getLogger(__name__)

_BEHIND_SECONDS = 10.0
_PATIENCE_SECONDS = 0.1
_HELD_ATTEMPTS = 4
"""A process that was killed holds its lock for a moment longer."""
_FIRST_OFFSET = 4
_LOOK_EVERY = 64
"""Events, after which the clock is looked at."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class MariaDbReader:
    """
    Reads the log of a MariaDB server; see `reading.StreamReader`.

    Args:
        source: which tables of which database.
        properties: the client's, secrets among them.
        name: the stream's.
        batch_bytes: what is given at a time, roughly.
        attempts: how often in a row connecting may fail before the source counts as unavailable.
        first_wait_seconds: after the first failure; it doubles with each.
        longest_wait_seconds: where the doubling ends.
        mark_seconds: how often at most it is noted, while the log is followed, that nothing has come.
        clock: the moment in UTC.
        replica: makes the number by which the server knows who reads its log.

    Raises:
        SettingsError: the properties aren't the client's.
    """

    def __init__(
        self,
        source: MariaDb,
        properties: Mapping[str, str],
        *,
        name: str,
        batch_bytes: int = BATCH_BYTES,
        attempts: int = 8,
        first_wait_seconds: float = 0.25,
        longest_wait_seconds: float = 15.0,
        mark_seconds: float = 60.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        # People number their servers from 1 on: those above are for whoever isn't one.
        replica: Callable[[], int] = lambda: 2**31 + secrets.randbelow(2**31 - 1),
    ) -> None:
        self.source = source
        self.name = name
        self.batch_bytes = batch_bytes
        self.access = client.access(properties, source.database)
        self.where = self.access.where
        self.attempts = attempts
        self.first_wait_seconds = first_wait_seconds
        self.longest_wait_seconds = longest_wait_seconds
        self.mark_seconds = mark_seconds
        self.clock = clock
        self.replica = replica
        self.digest = digest_of(source.tables)

    def __repr__(self) -> str:
        return f"MariaDbReader({self.source.database!r})"

    def read(self, where: Where, *, until: datetime | None, shards: Sequence[str] = ()) -> Generator[Event, None, None]:
        """See `StreamReader.read`."""
        if shards and SHARD not in shards:
            return
        yield from _Reading(self, where(Shard(SHARD)), until).events()


class _Reading:
    """One call of `read`."""

    def __init__(self, reader: MariaDbReader, start: Start, until: datetime | None) -> None:
        self.reader = reader
        self.start = start
        self.until = until
        self.where = reader.where
        self.given: Position | None = None
        self.is_held = False

    def events(self) -> Iterator[Event]:
        """Everything that is told of the log."""
        if isinstance(self.start, From):
            raise SourceError(
                f"{self.where}: its log is read on from what has landed, and can't be replayed",
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
                    # A drain by schedule beside a worker: whoever holds it lands what there is.
                    log.info("%s; it lands what there is", error.what)
                    yield Behind(SHARD, None, 0.0, self._bytes_behind())
                    return
                if failures >= self.reader.attempts or (self.given is not None and not self.given.file):
                    raise
                wait = min(self.reader.first_wait_seconds * 2.0 ** (failures - 1), self.reader.longest_wait_seconds)
                yield Throttled(SHARD, str(error), wait)
                time.sleep(wait)
                if self.given is not None:
                    self.start = After(int(self.given))

    def _connect(self, *, timeout_seconds: float | None = None) -> Connection:
        return client.connect(
            self.reader.access, timeout_seconds=timeout_seconds or self.reader.source.statement_timeout_seconds
        )

    def _bytes_behind(self) -> int | None:
        """How much of the log hasn't landed."""
        if not isinstance(self.start, After):
            return None
        after = Position.parse(self.start.position)
        with contextlib.closing(self._connect()) as control:
            return _left(control, after.file, after.offset)

    def _connected(self) -> Connection:
        """A connection that holds the lock of this capture."""
        control = self._connect()
        try:
            if not catalog.try_lock(control, self.reader.name):
                self.is_held = True
                raise SourceUnavailable(
                    f"{self.where}: another process captures {self.reader.name!r}", "one does for all"
                )
            self.is_held = False
            catalog.check_server(control, self.reader.source.tables)
            catalog.check_tables(control, self.reader.source.tables)
        except BaseException:
            control.close()
            raise
        return control

    # --- what is read

    def _all(self, control: Connection) -> Iterator[Event]:
        match self.start:
            case After(position) if Position.parse(position).file:
                after = Position.parse(position)
                self._check(control, after)
            case After(position) | Anew(position) if not Position.parse(position).file:
                # A beginning that didn't come to its end: nothing is lost by another one.
                after = yield from self._begin(control, Position.parse(position).beginning + 1)
            case Anew(position):
                number = Position.parse(position).beginning + 1
                span = Span(position + 1, int(Position(number, self.reader.digest)) - 1)
                yield Gone(SHARD, span, "it was decided to begin anew: nobody knows what happened in between")
                after = yield from self._begin(control, number)
            case _:
                after = yield from self._begin(control, 1)
        self.given = after
        yield from self._follow(control, after)

    def _check(self, control: Connection, after: Position) -> None:
        """
        Look whether the log can be gone on with.

        Raises:
            StreamGap: it can't: files are gone, or it is another log.
            SourceError: other tables are declared than the capture began with.
        """
        if after.tables != self.reader.digest:
            raise SourceError(
                f"{self.where}: stream {self.reader.name!r} captures other tables now than when its capture began",
                "launch the landing asset with `anew: true`: all tables are then read as they are now, and captured from there; or declare"
                " the former ones again",
            )
        files = catalog.log_files(control)
        oldest, newest = files[0], files[-1]
        if after.file < oldest.number:
            raise StreamGap(
                f"{self.where}: the log files {after.file} to {oldest.number - 1} are gone, and what has landed ends in the first of them,"
                f" at offset {after.offset}. The oldest that there is, is {oldest.name}. They were purged by somebody, or because of"
                " binlog_expire_logs_seconds",
                BEGIN_ANEW,
            )
        known = {file.number: file for file in files}.get(after.file)
        if known is None or known.size_bytes < after.offset:
            raise StreamGap(
                f"{self.where}: its log ends in {newest.name} at offset {newest.size_bytes}, and what has landed ends at {after}. It is a"
                " restored database or another one, or RESET MASTER was run",
                BEGIN_ANEW,
            )

    def _begin(self, control: Connection, number: int) -> Generator[Event, None, Position]:
        """Read the tables as they are at one place of the log; from there on it is read."""
        reader = self.reader
        catalog.check_columns(control, reader.source.tables)
        beginning = Position(number, reader.digest)
        if reader.source.begin == "oldest":
            patience = reader.source.statement_timeout_seconds * 60
            moment = begin(lambda: self._connect(timeout_seconds=patience), reader.source.connections)
            file, offset = moment.file, moment.offset
            with contextlib.closing(moment):
                log.info("%s: the tables are read as they are at offset %s of %s", self.where, offset, file)
                yield from self._tables(control, beginning, moment)
        else:
            file, offset = catalog.end_of_log(control)
        begins = beginning._replace(file=number_of(file), made=self._made(control, file), offset=offset)
        yield Passed(SHARD, int(begins))
        return begins

    def _made(self, control: Connection, file: str) -> int:
        """When a file of the log was made."""
        decoder = self._decoder(Position(0, 0, number_of(file), 0, _FIRST_OFFSET), catalog.Asked(control))
        source = client.Log(self.reader.access, file, _FIRST_OFFSET, replica=self.reader.replica(), follows=False)
        with contextlib.closing(source):
            for event in source.events():
                if event is not None:
                    decoder.take(event)
                    if decoder.reached[1]:
                        return decoder.reached[1]
        raise StreamGap(f"{self.where}: the log file {file} has no beginning", BEGIN_ANEW)

    def _tables(self, control: Connection, beginning: Position, moment: Moment) -> Iterator[Event]:
        """The rows of the tables, after a word that all that was known of them is void."""
        reader = self.reader
        moment_us = (catalog.now(control) - _EPOCH) // _MICROSECOND
        tables = [catalog.described(control, table) for table in reader.source.tables]
        prefix, place = str(int(beginning))[:-13], 0
        gathered = Gathered()
        for table in tables:
            place += 1
            gathered.add(f"{prefix}{place:013d}", moment_us, None, None, (table.name.encode(), b"RESTART", b""))
        yield _arrived(gathered, goes_on=True)
        self.given = beginning
        rows = read_tables(tables, moment)
        began, first = time.monotonic(), place
        with contextlib.closing(rows):
            for chunk in rows:
                # What isn't taken isn't read: the connections are a few chunks ahead at most.
                due = began + (place - first) / (reader.source.rows_per_second or float("inf"))
                while (wait := due - time.monotonic()) > 0:
                    time.sleep(min(wait, _PATIENCE_SECONDS))
                    yield Idle()
                gathered = Gathered()
                positions = [f"{prefix}{place + number:013d}" for number in range(1, len(chunk.keys) + 1)]
                place += len(positions)
                gathered.add_alike(
                    positions, moment_us, chunk.keys, chunk.rows, (chunk.table.encode(), b"SNAPSHOT", b"")
                )
                # All of it belongs together: a drain that ended here, because it has had its time, would never come to the end.
                yield _arrived(gathered, goes_on=True)

    # --- the log

    def _decoder(self, after: Position, asked: catalog.Asked) -> Decoder:
        return Decoder(after, self.reader.source.tables, asked, self.where, fold=self._fold)

    _fold: Callable[[str], str] = staticmethod(str)

    def _follow(self, control: Connection, after: Position) -> Iterator[Event]:
        reader = self.reader
        end = catalog.end_of_log(control)
        target = number_of(end[0]), end[1]
        as_of = reader.clock()
        self._fold = catalog.spelling(control)
        yield Behind(SHARD, None, 0.0, _left(control, after.file, after.offset))
        decoder = self._decoder(after, catalog.Asked(control))
        file = next(one.name for one in catalog.log_files(control) if one.number == after.file)
        source = client.Log(reader.access, file, after.offset, replica=reader.replica(), follows=self.until is None)
        noted, told, marked = after, float("-inf"), time.monotonic()
        rested, count, is_overdue = marked, 0, False
        with contextlib.closing(source):
            for event in source.events():
                if event is not None:
                    decoder.take(event)
                    count += 1
                size = decoder.gathered.size_bytes
                # Others may write to the log without a pause: what has come isn't kept back for that. Transactions of as many events as
                # are counted would always be looked at inside: it is due as soon as one ends.
                is_overdue |= count % _LOOK_EVERY == 0 and time.monotonic() - rested > _PATIENCE_SECONDS
                is_due = event is None or (is_overdue and not decoder.is_inside)
                if (is_due and size and not decoder.is_inside) or (
                    size >= reader.batch_bytes and (not decoder.is_inside or size >= 4 * reader.batch_bytes)
                ):
                    arrived = _arrived(decoder.flushed(), goes_on=decoder.is_inside)
                    yield arrived
                    self.given = noted = Position.parse(arrived.last)
                    rested, is_overdue = time.monotonic(), False
                    if rested - told > _BEHIND_SECONDS:
                        told = rested
                        yield self._behind(control, decoder)
                    continue
                if not is_due:
                    continue
                rested = now = time.monotonic()
                is_overdue = False
                if (
                    not decoder.is_inside
                    and not size
                    and now - marked > reader.mark_seconds
                    and _is_far(decoder, noted)
                ):
                    marked, noted = now, _place(decoder, after)
                    yield Passed(SHARD, int(noted))
                    self.given = noted
                if self.until is None and now - told > _BEHIND_SECONDS:
                    told, as_of = now, reader.clock()
                    end = catalog.end_of_log(control)
                    if not decoder.is_inside and decoder.reached[::2] >= (number_of(end[0]), end[1]):
                        yield Behind(SHARD, None, 0.0, _left(control, decoder.reached[0], decoder.reached[2]))
                        yield CaughtUp(SHARD, as_of)
                    elif decoder.moment_us:
                        yield self._behind(control, decoder)
                yield Idle()
        # The log has ended, as it does for whoever doesn't follow it.
        decoder.check_end()
        if len(decoder.gathered):
            arrived = _arrived(decoder.flushed(), goes_on=False)
            yield arrived
            self.given = noted = Position.parse(arrived.last)
        if decoder.is_inside or decoder.reached[::2] < target:
            raise SourceUnavailable(
                f"{self.where}: the log has ended before the place where it was to end",
                "is the database being stopped?",
            )
        if _is_far(decoder, noted):
            noted = _place(decoder, after)
            yield Passed(SHARD, int(noted))
            self.given = noted
        yield CaughtUp(SHARD, as_of)
        yield Behind(SHARD, None, 0.0, _left(control, decoder.reached[0], decoder.reached[2]))

    def _behind(self, control: Connection, decoder: Decoder) -> Behind:
        seconds = self.reader.clock().timestamp() - decoder.moment_us / 1_000_000
        file, _, offset = decoder.reached
        return Behind(SHARD, None, max(seconds, 0.0), _left(control, file, offset))


def _left(control: Connection, file: int, offset: int) -> int:
    """Bytes of the log behind a place."""
    files = catalog.log_files(control)
    return sum(one.size_bytes for one in files if one.number > file) + sum(
        max(one.size_bytes - offset, 0) for one in files if one.number == file
    )


def _place(decoder: Decoder, after: Position) -> Position:
    """Up to where the log has been read."""
    file, made, offset = decoder.reached
    return Position(after.beginning, after.tables, file, made, offset)


def _is_far(decoder: Decoder, noted: Position) -> bool:
    """Whether it is to be noted how far the log has been read, though nothing of the tables is there."""
    file, made, offset = decoder.reached
    if not made or (file, offset) <= (noted.file, noted.offset):
        return False
    is_large = decoder.transaction_bytes > LARGE_TRANSACTION_BYTES
    return is_large or file > noted.file or offset - noted.offset >= MARK_BYTES


def _arrived(gathered: Gathered, *, goes_on: bool) -> Arrived:
    batch, first, last = gathered.taken()
    return Arrived(SHARD, batch, first, last, gathered.size_bytes, goes_on=goes_on)
