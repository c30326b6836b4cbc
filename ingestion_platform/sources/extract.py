"""
One extract of a table or a query: from what a database holds at one moment to groups of rows in the landing zone.

Belongs here: what of it lands, going on after the last one, finding rows that are gone, trying again. Doesn't: reading a database
(`postgres_extract.py`), what there is already (`extracted.py`).

An extract lands in a folder of its own, and counts once the note that it is whole has landed. All of it is one state of the database, so
one that was interrupted can't be gone on with: its groups count for nothing, and the next one begins anew.

- *All rows*: as long as every group is the same as in the extract that counts for the day, nothing lands; with the first that isn't, all
  do.
- *What is new*: rows from the greatest cursor that has landed on, and from the overlap before it. Those that had been read before are told
  by their digests, which the note of the last extract has; so the same moment on many rows, or a row that was committed late, does no harm.
- *A sweep* reads all keys with their cursors, and holds them against those that have landed: a key that isn't there any more is a removal;
  a key that hasn't landed, or has with another cursor, is a row that the cursor has missed, and is read.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol
from uuid import uuid4
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from ingestion_platform.database import Database, Extract
from ingestion_platform.errors import SourceChanged, SourceUnavailable
from ingestion_platform.fetch_folders import LandedFetch
from ingestion_platform.formats.extracts import RowsNote, RowsWriter, with_note
from ingestion_platform.sources.asking import Window
from ingestion_platform.sources.extracted import ExtractNote, LandedExtract, NotedGroup, window_of

log = logging.getLogger(__name__)

ATTEMPTS = 4
FIRST_WAIT_SECONDS = 2.0
"""Before an extract is begun anew; each time four times as long."""
SMOOTH_SECONDS = 0.25
"""Where rows are slowed down, so many come at a time."""


@dataclass(frozen=True, slots=True)
class Rows:
    """
    Some rows, as they came.

    Args:
        table: a text column for each column.
        text: digest of what came.
        window: digests of those that the next extract reads again.
        known: how many more came, and were known.
    """

    table: pa.Table
    text: bytes
    window: Sequence[bytes]
    known: int


class Reader(Protocol):
    """Reads rows of a state by one connection."""

    def rows(self, part: int, known: Collection[bytes]) -> Iterator[Rows]:
        """The rows of a part, without those whose digests are known."""
        ...

    def keys(self, part: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Some columns of a part's rows."""
        ...

    def rows_of(self, keys: pa.Table) -> Iterator[pa.Table]:
        """The rows with these keys."""
        ...


class State(Protocol):
    """What a database holds at one moment."""

    @property
    def extracted_at(self) -> str:
        """The moment, by the database's clock: ISO 8601, UTC."""
        ...

    @property
    def is_replica(self) -> bool:
        """Whether it follows another one."""
        ...

    @property
    def types(self) -> Mapping[str, str]:
        """Column → its type in the database, in order."""
        ...

    def begin(self, since: str | None) -> tuple[int, str | None]:
        """Say which rows are wanted; in how many parts they are read, and the greatest cursor."""
        ...

    def key_parts(self) -> int:
        """In how many parts all keys are read."""
        ...

    def reader(
        self, pace: Callable[[int], None], chunk_rows: int | None, is_stopped: Callable[[], bool]
    ) -> AbstractContextManager[Reader]:
        """A connection that sees this state."""
        ...


class OpenDatabase(Protocol):
    """A database that is extracted from."""

    @property
    def database(self) -> Database:
        """How kindly."""
        ...

    def state(self, extract: Extract, window: Window) -> AbstractContextManager[State]:
        """The database as it is at one moment; while it is open, nobody else extracts."""
        ...


@dataclass(frozen=True, slots=True)
class Extracted:
    """
    What came of an extract.

    Args:
        day: which.
        name: the extract that counts for the day now; with a cursor, the last one.
        has_landed: whether anything landed; it doesn't when nothing has changed.
        rows: that came, and aren't known: all rows where there is no cursor.
        known: rows of the overlap, that had landed before.
        removed: keys that a sweep found gone.
        missed: rows that the cursor had missed, found by a sweep.
        keys: how many a sweep has compared; None without one.
        has_restarted: whether all that was known is void.
        groups: that it has.
        bytes: that landed.
        cursor: the greatest value; None without a cursor.
        rows_before: of the last extract before this one; None where there is none, or with a cursor.
        is_replica: whether a replica was read.
        problems: why it was begun anew.
        seconds: wall time.
        ended_at: UTC.
    """

    day: date
    name: str
    has_landed: bool
    rows: int
    known: int
    removed: int
    missed: int
    keys: int | None
    has_restarted: bool
    groups: int
    bytes: int
    cursor: str | None
    rows_before: int | None
    is_replica: bool
    problems: tuple[str, ...]
    seconds: float
    ended_at: datetime


def story(extracted: Extracted) -> str:
    """One line of what an extract did."""
    landed = "landed" if extracted.has_landed else "nothing is new, nothing landed"
    parts = [f"{extracted.rows:,} rows, {landed}"]
    for number, words in (
        (extracted.known, "of the overlap were known"),
        (extracted.missed, "that the cursor had missed"),
        (extracted.removed, "removed"),
        (len(extracted.problems), "times begun anew"),
    ):
        if number:
            parts.append(f"{number:,} {words}")
    if extracted.keys is not None:
        parts.append(f"{extracted.keys:,} keys compared")
    return ", ".join(parts) + f", {extracted.bytes / 1e6:,.1f} MB, {extracted.seconds:.1f} s"


class Pace:
    """
    Keeps rows from coming faster than is wanted, all connections together.

    Args:
        rows_per_second: None: as fast as they come.
        is_stopped: set when nobody wants them any more.
    """

    def __init__(self, rows_per_second: int | None, is_stopped: threading.Event) -> None:
        self._rows_per_second = rows_per_second
        self._is_stopped = is_stopped
        self._lock = threading.Lock()
        self._due = time.monotonic()

    @property
    def chunk_rows(self) -> int | None:
        """How many may come at a time; None: as many as like."""
        return max(1, int(self._rows_per_second * SMOOTH_SECONDS)) if self._rows_per_second is not None else None

    def __call__(self, rows: int) -> None:
        """Wait until so many rows may have come."""
        if self._rows_per_second is None:
            return
        with self._lock:
            self._due = max(self._due, time.monotonic()) + rows / self._rows_per_second
            wait = self._due - time.monotonic()
        self._is_stopped.wait(wait)


class Extraction:
    """
    Extracts a table or a query.

    Args:
        landed: the extract in the landing zone.
        opened: the database.
        zone: business time.
        now: the moment, UTC.
        on_rows: told of rows that came: all until now.
        attempts: how often it is tried, where trying again can help.
        first_wait_seconds: before it is tried again.
    """

    def __init__(
        self,
        landed: LandedExtract,
        opened: OpenDatabase,
        zone: ZoneInfo,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_rows: Callable[[int], None] | None = None,
        attempts: int = ATTEMPTS,
        first_wait_seconds: float = FIRST_WAIT_SECONDS,
    ) -> None:
        self._landed = landed
        self._extract = landed.extract
        self._opened = opened
        self._zone = zone
        self._now = now
        self._on_rows = on_rows
        self._attempts = attempts
        self._first_wait_seconds = first_wait_seconds

    def run(self, day: date, *, restart: bool = False, sweep: bool = False) -> Extracted:
        """
        Extract what the database holds, and land what of it is new.

        Args:
            day: business day.
            restart: with a cursor: all that was known is void, and all rows are read.
            sweep: with a cursor and a key: compare all keys, whether or not it is time.

        Raises:
            SourceUnavailable: the database gave no answer, or ended what was read, each time.
            SourceChanged: what is declared isn't there.
            SourceError: it refuses.
        """
        problems: list[str] = []
        began = time.perf_counter()
        while True:
            try:
                return self._attempt(day, restart, sweep, tuple(problems), began)
            except SourceUnavailable as error:
                problems.append(error.what)
                if len(problems) >= self._attempts:
                    raise
                wait = self._first_wait_seconds * 4.0 ** (len(problems) - 1)
                log.warning("%s: %s; begun anew in %.0f s", self._extract.name, error, wait)
                time.sleep(wait)

    # --- one attempt

    def _attempt(self, day: date, restart: bool, sweep: bool, problems: tuple[str, ...], began: float) -> Extracted:
        extract = self._extract
        here = self._landed.fetches(day)
        days_before = (day - extract.first_day).days
        if extract.cursor is not None:
            found = self._landed.last_whole_before(day, days_before)
        else:
            whole = [fetch for fetch in here if fetch.is_whole]
            found = (day, whole[-1]) if whole else None
        standing = found[1] if found is not None else None
        note = self._landed.note(standing) if standing is not None else None
        with self._opened.state(extract, Window.of(day, self._zone)) as state:
            plan = self._plan(state)
            name = self._name([*here, *([standing] if standing is not None else [])])
            is_same_plan = note is not None and note.plan == plan
            since = None
            if extract.cursor is not None and note is not None and is_same_plan and not restart:
                since = note.cursor
            writing = _Writing(self._landed, day, name, state, standing if is_same_plan else None, note)
            work = _Work(self, state, writing)
            parts, greatest = state.begin(since)
            is_still_without = (
                note is not None and is_same_plan and not restart and note.cursor is None and greatest is None
            )
            is_anew = extract.cursor is not None and since is None and not is_still_without
            if extract.cursor is not None and is_still_without:
                # No row has a cursor, as before: those without are a sweep's.
                parts = 0
            if is_anew:
                writing.land_alone("RESTART", _nothing(state.types, 1))
            known = note.digests if note is not None and since is not None else frozenset()
            operation = "SNAPSHOT" if since is None else "UPSERT"
            work.read(parts, known, operation)
            swept = note.swept if note is not None and not is_anew else None
            began_at = note.began if note is not None and not is_anew else (day.isoformat(), name)
            keys = None
            if is_anew and extract.key:
                # All rows have just been read.
                swept = name
            elif extract.cursor is not None and extract.key and (sweep or self._is_due(note)):
                assert began_at is not None, "whatever has a cursor has begun once"
                keys = work.sweep(began_at, day)
                swept = name
            is_note_needed = keys is not None
            rows_before = self._rows_before(day) if extract.cursor is None else None
            took = {"seconds": time.perf_counter() - began, "attempts": 1.0 + len(problems)}
            has_landed = writing.finish(
                plan,
                cursor=greatest,
                window=window_of(work.window),
                began=began_at if extract.cursor is not None else None,
                swept=swept,
                took=took,
                is_note_needed=is_note_needed,
            )
            return Extracted(
                day=day, name=name if has_landed or standing is None else standing.name, has_landed=has_landed, rows=work.rows,
                known=work.known, removed=work.removed, missed=work.missed, keys=keys, has_restarted=is_anew and standing is not None,
                groups=writing.groups, bytes=writing.bytes, cursor=greatest, rows_before=rows_before, is_replica=state.is_replica,
                problems=problems, seconds=time.perf_counter() - began, ended_at=self._now(),
            )  # fmt: skip

    def _is_due(self, note: ExtractNote | None) -> bool:
        if self._extract.sweep_hours is None or note is None:
            return False
        return note.swept_at is None or self._now() - note.swept_at >= timedelta(hours=self._extract.sweep_hours)

    def _name(self, before: Sequence[LandedFetch]) -> str:
        """A name for an extract that begins now: it sorts after those before it, whatever the clock was set to meanwhile."""
        moment = max([self._now(), *(fetch.began_at + timedelta(microseconds=1) for fetch in before)])
        return f"{moment:%Y%m%dT%H%M%S%fZ}-{uuid4().hex[:6]}"

    def _plan(self, state: State) -> str:
        """Changes whenever what has landed before isn't what would be compared, or gone on with."""
        extract = self._extract
        parts: tuple[object, ...] = (
            extract.table_names,
            extract.query,
            extract.cursor and extract.cursor.column,
            extract.key,
        )
        if extract.cursor is None:
            # A column more or less makes every row another one; of what is new, only rows that change have it.
            parts = (*parts, list(state.types.items()), extract.split, extract.group_bytes)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def _rows_before(self, day: date) -> int | None:
        found = self._landed.last_whole_before(day, min((day - self._extract.first_day).days, 7))
        return self._landed.note(found[1]).rows if found is not None else None


class _Gathered:
    """
    Rows of a part, on their way to a group.

    Args:
        part: which.
        operation: what they tell.
        names: of the columns.
    """

    def __init__(self, part: int, operation: str, names: Sequence[str]) -> None:
        self.part = part
        self.operation = operation
        self.place = 0
        self._names = names
        self.begin_again()

    def begin_again(self) -> None:
        """Gather for the next group."""
        self.writer = RowsWriter(self._names)
        self.digest = hashlib.sha256()


class _Work:
    """
    Reads a state by several connections.

    Args:
        extraction: whose.
        state: what is read.
        writing: takes the rows.
    """

    def __init__(self, extraction: Extraction, state: State, writing: "_Writing") -> None:
        self._extract = extraction._extract
        self._opened = extraction._opened
        self._landed = extraction._landed
        self._on_rows = extraction._on_rows
        self._state = state
        self._writing = writing
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._pace = Pace(self._opened.database.rows_per_second, self._stop)
        self._new: list[pa.Table] = []
        self.window: list[bytes] = []
        self.rows = 0
        self.known = 0
        self.removed = 0
        self.missed = 0

    def read(self, parts: int, known: frozenset[bytes], operation: str) -> None:
        """Read and land all parts."""

        def work(reader: Reader, part: int) -> None:
            gathered = _Gathered(part, operation, list(self._state.types))
            for rows in reader.rows(part, known):
                with self._lock:
                    self.window += rows.window
                    self.known += rows.known
                self._take(gathered, rows.table, rows.text)
            self._land(gathered)

        self._share_out(parts, work)

    def _share_out(self, parts: int, work: Callable[[Reader, int], None]) -> None:
        """Do something for each part, several at a time; the first that fails ends all."""
        waiting = iter(range(parts))

        def turns() -> None:
            try:
                with self._state.reader(self._pace, self._pace.chunk_rows, self._stop.is_set) as reader:
                    while not self._stop.is_set():
                        with self._lock:
                            part = next(waiting, None)
                        if part is None:
                            return
                        work(reader, part)
            except BaseException:
                self._stop.set()
                raise

        threads = min(self._opened.database.connections, parts)
        if threads <= 1:
            turns()
            return
        with ThreadPoolExecutor(threads, thread_name_prefix="extract") as pool:
            workers = [pool.submit(turns) for _ in range(threads)]
            try:
                for worker in workers:
                    worker.result()
            except BaseException:
                self._stop.set()
                raise

    def _take(self, gathered: _Gathered, table: pa.Table, text: bytes) -> None:
        if not table.num_rows:
            return
        gathered.writer.add(table)
        gathered.digest.update(text)
        with self._lock:
            self.rows += table.num_rows
            if self._extract.cursor is not None and self._extract.key:
                self._new.append(table.select(self._compared))
            if self._on_rows is not None:
                self._on_rows(self.rows)
        if gathered.writer.size_bytes >= self._extract.group_bytes:
            self._land(gathered)

    def _land(self, gathered: _Gathered) -> None:
        if not gathered.writer.rows:
            return
        digest = gathered.digest.hexdigest()
        self._writing.take(gathered.part, gathered.place, digest, gathered.operation, gathered.writer)
        gathered.place += 1
        gathered.begin_again()

    # --- sweeps

    @property
    def _compared(self) -> list[str]:
        """Columns by which rows are compared: key, and cursor."""
        assert self._extract.cursor is not None, "only extracts with a cursor are swept"
        return list(dict.fromkeys((*self._extract.key, self._extract.cursor.column)))

    def sweep(self, began: tuple[str, str], day: date) -> int:
        """Compare all keys with those that have landed; land what is gone, and what was missed. How many keys there are."""
        extract = self._extract
        assert extract.cursor is not None, "only extracts with a cursor are swept"
        present = self._present()
        known = self._known(began, day)
        keys = list(extract.key)
        cursor = extract.cursor.column
        there, landed = _joined(present, keys), _joined(known, keys)
        if pc.count_distinct(there).as_py() != present.num_rows:
            raise SourceChanged(
                f"extract {extract.name!r}: several rows have the same {', '.join(keys)}, which is its key",
                "name the columns that tell rows apart, or say sweep_hours=None",
            )
        gone = known.filter(pc.invert(pc.is_in(landed, there)))
        both, before = _joined(present, [*keys, cursor]), _joined(known, [*keys, cursor])
        missed = present.filter(pc.invert(pc.is_in(both, before)))
        if gone.num_rows:
            columns = [
                gone.column(name) if name in keys else pa.nulls(gone.num_rows, pa.string())
                for name in self._state.types
            ]
            removed = RowsWriter(list(self._state.types))
            removed.add(pa.table(columns, names=list(self._state.types)))
            self._writing.land_alone("DELETE", removed)
        if missed.num_rows:
            gathered = _Gathered(-1, "UPSERT", list(self._state.types))
            with self._state.reader(self._pace, self._pace.chunk_rows, self._stop.is_set) as reader:
                for table in reader.rows_of(missed.select(keys)):
                    self.missed += table.num_rows
                    self._take(gathered, table, b"")
            self._land(gathered)
        self.removed = gone.num_rows
        return present.num_rows

    def _present(self) -> pa.Table:
        """Keys and cursors of all rows; rows without a key are nobody's."""
        found: list[pa.Table] = []

        def work(reader: Reader, part: int) -> None:
            for table in reader.keys(part, self._compared):
                with self._lock:
                    found.append(table)

        self._share_out(self._state.key_parts(), work)
        return self._with_key(found)

    def _known(self, began: tuple[str, str], day: date) -> pa.Table:
        """Keys and cursors as they have landed last, those of rows that are gone left out."""
        found: list[pa.Table] = []
        for operation, table in self._landed.landed_since(began, day, self._compared):
            if operation != "RESTART":
                is_gone = pa.repeat(pa.scalar(operation == "DELETE"), table.num_rows)
                found.append(table.append_column("", is_gone))
        found += [
            table.append_column("", pa.repeat(pa.scalar(False), table.num_rows)) for table in self._new
        ]  # what this extract has found is the last to land
        all_ = self._with_key(found, has_mark=True)
        numbered = pa.arange(0, all_.num_rows)  # type: ignore[attr-defined]  # newer than its stubs
        places = pa.table({"key": _joined(all_, list(self._extract.key)), "place": numbered})
        last = places.group_by("key", use_threads=False).aggregate([("place", "max")]).column("place_max")
        states = all_.take(last)
        return states.filter(pc.invert(states.column(""))).select(self._compared)

    def _with_key(self, found: Sequence[pa.Table], *, has_mark: bool = False) -> pa.Table:
        names: list[tuple[str, pa.DataType]] = [(name, pa.string()) for name in self._compared]
        schema = pa.schema([*names, *([("", pa.bool_())] if has_mark else [])])
        table = pa.concat_tables([one.cast(schema) for one in found]) if found else schema.empty_table()
        for name in self._extract.key:
            table = table.filter(pc.is_valid(table.column(name)))
        return table


def _joined(table: pa.Table, names: Sequence[str]) -> Any:
    """Some columns as one text: no database lets a text hold a NUL."""
    join: Any = pc.binary_join_element_wise
    marked = [pc.fill_null(join("=", table.column(name), ""), "") for name in names]
    return marked[0] if len(marked) == 1 else join(*marked, "\0")


def _nothing(types: Mapping[str, str], rows: int) -> RowsWriter:
    """Rows without any value."""
    writer = RowsWriter(list(types))
    writer.add(pa.table([pa.nulls(rows, pa.string()) for _ in types], names=list(types)))
    return writer


class _Writing:
    """
    What of an extract lands, and when. Its calls may be made from several threads at once.

    Args:
        landed: the extract in the landing zone.
        day: which.
        name: the extract's.
        state: whose rows land.
        standing: the extract that counts until now, where it was read in the same way.
        note: of that extract.
    """

    def __init__(
        self,
        landed: LandedExtract,
        day: date,
        name: str,
        state: State,
        standing: LandedFetch | None,
        note: ExtractNote | None,
    ) -> None:
        self._landed = landed
        self._extract = landed.extract
        self._day = day
        self._name = name
        self._state = state
        self._lock = threading.Lock()
        is_compared = landed.extract.cursor is None and standing is not None and note is not None
        self._before = {(one.part, one.place): one for one in note.groups} if is_compared and note is not None else {}
        self._standing = standing
        # As long as every group is the same as there, nothing lands.
        self._is_same = is_compared
        self._unlanded: list[NotedGroup] = []
        self._noted: list[NotedGroup] = []
        self._next = 1
        self.rows = 0
        self.bytes = 0

    @property
    def groups(self) -> int:
        """How many the extract has."""
        return len(self._noted) + len(self._unlanded)

    def take(self, part: int, place: int, same: str, operation: str, writer: RowsWriter) -> None:
        """Take a group of rows: it lands, or is the same as one that has."""
        rows = writer.rows
        with self._lock:
            self.rows += rows
            before = self._before.get((part, place))
            if self._is_same and before is not None and before.same == same:
                self._unlanded.append(before)
                return
            unlanded = self._give_up_being_same()
            number = self._numbered(1 + len(unlanded))
        for offset, one in enumerate(unlanded, start=1):
            self._copy(one, number + offset)
        self._put(NotedGroup(part, place, same, rows, number), operation, writer)

    def land_alone(self, operation: str, writer: RowsWriter) -> None:
        """Land rows that are of no part."""
        with self._lock:
            self.rows += writer.rows
            number = self._numbered(1)
        self._put(NotedGroup(-1, number, "", writer.rows, number), operation, writer)

    def _give_up_being_same(self) -> list[NotedGroup]:
        """Something has changed: what is the same lands all the same, so that the extract is whole by itself."""
        self._is_same = False
        unlanded, self._unlanded = self._unlanded, []
        return unlanded

    def _numbered(self, count: int) -> int:
        number = self._next
        self._next += count
        return number

    def _copy(self, group: NotedGroup, number: int) -> None:
        assert self._standing is not None, "what is the same is so as something that stands"
        key = next(key for key in self._standing.groups if int(key.rpartition("/")[2][:-8]) == group.number)
        copied = NotedGroup(group.part, group.place, group.same, group.rows, number)
        self._landed_group(copied, with_note(self._landed.content(key), self._note(copied, "SNAPSHOT")))

    def _put(self, group: NotedGroup, operation: str, writer: RowsWriter) -> None:
        self._landed_group(group, writer.finish(self._note(group, operation)))

    def _note(self, group: NotedGroup, operation: str) -> RowsNote:
        return RowsNote(
            self._extract.name, self._name, group.number, operation, self._state.extracted_at, dict(self._state.types)
        )

    def _landed_group(self, group: NotedGroup, content: bytes) -> None:
        self._landed.put_group(self._day, self._name, group.number, content)
        with self._lock:
            self._noted.append(group)
            self.bytes += len(content)

    def finish(
        self,
        plan: str,
        *,
        cursor: str | None,
        window: str,
        began: tuple[str, str] | None,
        swept: str | None,
        took: Mapping[str, float],
        is_note_needed: bool,
    ) -> bool:
        """Land the note that makes the extract whole; whether anything landed, which it doesn't when nothing has changed."""
        if self._extract.cursor is None and not self.groups:
            # No rows are a state, too: by a group without rows.
            self.take(0, 0, hashlib.sha256().hexdigest(), "SNAPSHOT", _nothing(self._state.types, 0))
        if self._is_same and len(self._unlanded) == len(self._before):
            return False
        for one in self._give_up_being_same():
            self._copy(one, self._numbered(1))
        if not self._noted and not is_note_needed:
            return False
        note = ExtractNote(
            plan, tuple(sorted(self._noted, key=lambda one: one.number)), self.rows, self._state.extracted_at, cursor, window, began,
            swept, dict(took),
        )  # fmt: skip
        self._landed.put_note(self._day, self._name, len(self._noted), note)
        return True
