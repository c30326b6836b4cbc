"""
Landing to raw, exactly once.

Belongs here: finding what is new, reading it, deciding what each object is, and committing rows with their ledger entries.
Doesn't: reading bytes as rows
(`formats/`), the transaction (`ledger.py`).

Objects are fetched, hashed and parsed by threads outside any transaction. Small ones are held in memory and written to one Parquet file
a load; a large one is written to a file of its own as it is read, which is thrown away when its end shows that it is none. The work is
planned on what the ledger says; when somebody else has changed that meanwhile, the commit is refused and the load looks again.
"""

import hashlib
import io
import json
import logging
import math
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeAlias

import duckdb
import pyarrow as pa

from ingestion_platform.control import Totals
from ingestion_platform.dataset import Dataset, LandedFiles, WholeFetches
from ingestion_platform.errors import ObjectChanged, ObjectCold, ObjectMissing, ObjectRejected, WarehouseError
from ingestion_platform.format import Csv
from ingestion_platform.formats import (
    Field,
    RecordReader,
    Records,
    arrays,
    detect_dialect,
    dialect_departures,
    open_records,
    packing_of,
)
from ingestion_platform.landing import LandedObject, LandingZone, ObjectFile, same_version
from ingestion_platform.lifecycle import RESTORE_DAYS, RESTORE_TIER
from ingestion_platform.remote import RemoteObjects, digest_in
from ingestion_platform.stream import Span, StreamSegments
from ingestion_platform.warehouse.adopt import count_homes
from ingestion_platform.warehouse.contract import Contract
from ingestion_platform.warehouse.controls import CountedReader, RefusedReader
from ingestion_platform.warehouse.dialects import DialectNote
from ingestion_platform.warehouse.engine import parquet
from ingestion_platform.warehouse.files import FileStore, StoredFile
from ingestion_platform.warehouse.forgotten import Forgotten
from ingestion_platform.warehouse.ledger import Conflict, Ledger
from ingestion_platform.warehouse.ledger_file import now
from ingestion_platform.warehouse.ledger_rows import ObjectRow, position_text
from ingestion_platform.warehouse.moves import AliasReader
from ingestion_platform.warehouse.personal import Reading
from ingestion_platform.warehouse.places import Places
from ingestion_platform.warehouse.raw_files import (
    IN_MEMORY_BYTES,
    QUARANTINE_SCHEMA,
    OwnFiles,
    RowsFile,
    gather,
    raw_schema,
    rejected_table,
)
from ingestion_platform.warehouse.receipts import Receipts, receipt_of
from ingestion_platform.warehouse.results import EVERYTHING, Only, RawDay, Waiting, told_waiting
from ingestion_platform.warehouse.shapes import Passages
from ingestion_platform.warehouse.small_files import put_in_order
from ingestion_platform.warehouse.standing import Overlaps, claims_as_named, order, stand

log = logging.getLogger(__name__)

WHOLE_BYTES = 16 * 1024**2
"""Objects up to this size are fetched whole, as they are; larger ones are opened."""
IN_FLIGHT_BYTES = 256 * 1024**2
"""How many bytes of objects are fetched ahead of the one being written, unpacked as far as can be guessed."""
ALL_AT_ONCE = 8
"""From so many segments of a shard on, all that the ledger has of it are read once."""
ASKING_THREADS = 16
"""Requests at a time that ask an archive for objects."""
MOST_NAMED = 64
"""Objects that are looked for one by one; for more, the day is listed."""
PACKED = 8
"""How much larger a compressed object's rows are in memory: what segments of events came to."""

MOST_MANIFEST_BYTES = 16 * 1024**2

_HASHED_BYTES = 1024**2

Progress: TypeAlias = Callable[[int, int, int], None]
"""Told of each object: its number, how many there are, and its rows."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """
    What came of fetching and parsing one object: records, or the reason why not.

    Args:
        is_double: the ledger had its content loaded from another object, so it wasn't parsed.
        is_archived: it is in an archive, and wasn't read.
        departures: how it isn't as declared or recorded, though it was read.
        unknown_columns: for which it was rejected.
    """

    landed: LandedObject
    sha256: str
    size_bytes: int
    records: Records | OwnFiles | None
    reason: str = ""
    is_final: bool = True
    is_double: bool = False
    is_archived: bool = False
    departures: tuple[str, ...] = ()
    unknown_columns: tuple[str, ...] = ()


class _GivenUp(Exception):
    """The load doesn't come about; a thread that still reads may stop."""


class Loader:
    """
    Loads a dataset's objects.

    Args:
        contract: the dataset's, for the days its rows belong to.
        landing: where the objects are.
        ledger: what is known of them.
        places: where they were seen.
        store: where rows are written.
        engine: counts rows by processed day.
        threads: that fetch and parse.
        receipts: keep what senders' objects were before they were overwritten.
        forgotten: tells which objects are others because somebody was forgotten.
    """

    def __init__(
        self,
        contract: Contract,
        landing: LandingZone,
        ledger: Ledger,
        places: Places,
        store: FileStore,
        engine: duckdb.DuckDBPyConnection,
        threads: int,
        receipts: Receipts,
        forgotten: Forgotten,
    ) -> None:
        self._receipts = receipts
        self._forgotten = forgotten
        self._contract = contract
        self._dataset = contract.dataset
        self._landing = landing
        self._ledger = ledger
        self._places = places
        self._store = store
        self._engine = engine
        self._threads = threads or (os.cpu_count() or 1)
        self._reader = contract.reader()
        self._passages = Passages(ledger, self._reader, contract.shape, contract.naming)
        self._format = self._dataset.source.format
        self._note = DialectNote(landing, self._dataset)
        self._control = self._dataset.source.control if isinstance(self._dataset.source, LandedFiles) else None
        self._manifests: dict[str, LandedObject] = {}
        self._as_landed: dict[str, LandedObject] = {}
        self._unmarked: dict[date, tuple[str, ...]] = {}
        self._progress: Progress | None = None
        columns = self._dataset.columns
        self._fields = [
            Field(column.name, column.field, column.aliases, column.type.sql, column.name in self._dataset.primary_key)
            for column in columns
            if column.capture is None
        ]
        self._has_aliases = any(column.aliases for column in columns)
        self._fields += [Field(name, source) for name, source in contract.envelope]
        self._schema = raw_schema(contract.raw_columns)

    # --- what has landed

    def listing(self, day: date) -> list[LandedObject]:
        """The day's objects in the landing zone that count, by key."""
        return self._listed(day)[0]

    def _listed(
        self, day: date, looks_at: Sequence[str] | None = None
    ) -> tuple[list[LandedObject], list[tuple[LandedObject, str]]]:
        """
        The day's objects that count, by key; and those of an API or a remote that a later one has replaced, with the reason.

        Args:
            looks_at: the keys that are looked for; None: all that there are.
        """
        found: dict[str, LandedObject] = {}
        prefixes = {template.prefix(day) for template in self._dataset.source.keys} if looks_at is None else {*looks_at}
        for prefix in sorted(prefixes):
            for landed in self._landing.list(prefix):
                if looks_at is None or landed.key == prefix:
                    found[landed.key] = landed
        source = self._dataset.source
        ours = {key for key in found if (match := source.match(key)) is not None and match[0] == day}
        replaced: dict[str, str] = {}
        if isinstance(source, WholeFetches | RemoteObjects):
            # What counts is told by the notes that stand beside the pages, and by the other versions of a file.
            counting, reasons = source.choose(found)
            replaced = {key: reasons[key] for key in ours if key in reasons}
            ours &= counting
        self._unmarked[day] = tuple(sorted(key for key in ours if not self._is_whole(key, found)))
        ours.difference_update(self._unmarked[day])
        return [self._with_manifest(found[key]) for key in sorted(ours)], [
            (found[key], replaced[key]) for key in sorted(replaced)
        ]

    def _is_whole(self, key: str, found: dict[str, LandedObject]) -> bool:
        """Whether all is there that has to be before an object is read; notes its manifest."""
        if self._control is None:
            return True
        for number, companion in enumerate(self._control.companions(key)):
            if companion not in found:
                there = next((one for one in self._landing.list(companion) if one.key == companion), None)
                if there is None:
                    return False
                found[companion] = there
            if self._control.manifest and number == 0:
                self._manifests[key] = found[companion]
        return True

    def _with_manifest(self, landed: LandedObject) -> LandedObject:
        """The object as it is listed here: it has changed, too, when its manifest has."""
        manifest = self._manifests.get(landed.key)
        if manifest is None:
            return landed
        self._as_landed[landed.key] = landed
        return replace(landed, token=f"{landed.token} {manifest.token}")

    def _parts(self, landed: LandedObject) -> tuple[LandedObject, ...]:
        """What has to be at hand before an object can be read, as it landed: itself, and its manifest."""
        manifest = self._manifests.get(landed.key)
        own = self._as_landed.get(landed.key, landed)
        return (own,) if manifest is None else (own, manifest)

    def _look_up_dialect(self) -> bool:
        """Read by the dialect that is recorded; whether it is known, or there is none to be recorded."""
        declared = self._dataset.source.format
        if not isinstance(declared, Csv) or not declared.undetected:
            return True
        recorded = self._note.read(declared)
        if recorded is None:
            return False
        self._format = recorded
        # What was read before it was recorded is read again.
        self._reader = self._contract.reader(repr(recorded))
        return True

    def _record_dialect(self, objects: Sequence[LandedObject]) -> bool:
        """Record the dialect of the first object that tells it surely; whether there is one."""
        declared = self._dataset.source.format
        assert isinstance(declared, Csv)
        for landed in objects:
            try:
                with self._open(landed) as opened:
                    found = detect_dialect(declared, opened.file, self._fields, key=landed.key)
                    opened.check()
            except (ObjectRejected, ObjectChanged, ObjectCold, ObjectMissing):
                # Why it can't be read is told when it is read; what is in an archive isn't waited for where others tell as much.
                continue
            if found.is_sure:
                self._note.write(found.format, landed.key)
                return self._look_up_dialect()
        return False

    def reading(self) -> Reading:
        """How objects are read, by what is recorded of their dialect."""
        self._look_up_dialect()
        return Reading(self._dataset, self._format, self._fields)

    def news(self, day: date, objects: Sequence[LandedObject]) -> tuple[LandedObject, ...]:
        """Those of a day's objects that a load would read."""
        self._look_up_dialect()
        known = self._ledger.current(self._dataset.name, day)
        waits = self._places.waits(self._dataset.name, day)
        first = next((landed for landed in objects if landed.key in waits), None)
        if first is not None and self._control is not None and self._control.manifest:
            # Its manifest has to be back too, and is known from a listing.
            self._listed(day)
        # What was asked for together is back together: one is asked about, not thousands at every look.
        is_back = first is not None and all(self._landing.is_at_hand(part) for part in self._parts(first))
        return tuple(
            landed
            for landed in objects
            if (is_back if landed.key in waits else self._is_news(landed, known.get(landed.key)))
        )

    def waiting(self, day: date) -> tuple[Waiting, ...]:
        """The day's objects that are being fetched back from an archive, by key."""
        return tuple(self._places.waits(self._dataset.name, day).values())

    def day(self, day: date) -> RawDay:
        """The raw partition as it stands."""
        entries = self._ledger.current(self._dataset.name, day)
        places = self._places.known(min(entries), max(entries)) if entries else {}
        return RawDay(
            dataset=self._dataset.name,
            day=day,
            entries=tuple(row.entry(places.get(row.key, "hot")) for row in entries.values()),
            new_keys=(),
            rows=sum(row.rows_loaded for row in entries.values()),
            rows_quarantined=sum(row.rows_quarantined for row in entries.values()),
            bytes_read=0,
            seconds=0.0,
            touched_days=(),
            waiting=self.waiting(day),
        )

    # --- loading

    def load(
        self,
        day: date,
        *,
        reload: bool,
        only: Only = EVERYTHING,
        run_id: str,
        progress: Progress | None = None,
    ) -> RawDay:
        """
        Load the day's new and changed objects, and whatever that sets free elsewhere.

        Args:
            reload: read every object of the day again, known or not.
            only: what it may take.
            run_id: noted in the ledger.
            progress: told of each object that was read.
        """
        if isinstance(self._dataset.source, WholeFetches) and not only.takes_all:
            raise WarehouseError(
                f"{self._dataset.raw} {day}: part of its objects was asked for, and a fetch counts as a whole",
                "leave keys and up_to_bytes out",
            )
        began = time.perf_counter()
        self._progress = progress
        keys, touched, bytes_read = self._load_until_settled(day, reload, run_id, only)
        others: set[date] = set()
        # What waits because its double elsewhere has changed, here or in a run that was killed before it came to it.
        while pending := self._pending_days():
            for other in pending:
                # A limited load takes what waits and nothing else with it.
                waiting = only if only.takes_all else Only(keys=self._ledger.pending_keys(self._dataset.name, other))
                more_keys, more_touched, more_bytes = self._load_until_settled(other, False, run_id, waiting)
                touched |= more_touched
                bytes_read += more_bytes
                if other == day:
                    keys = sorted({*keys, *more_keys})
                else:
                    others.add(other)
        state = self.day(day)
        return RawDay(
            dataset=state.dataset,
            day=day,
            entries=state.entries,
            new_keys=tuple(keys),
            rows=state.rows,
            rows_quarantined=state.rows_quarantined,
            bytes_read=bytes_read,
            seconds=time.perf_counter() - began,
            touched_days=tuple(sorted(date.fromisoformat(home) for home in touched)),
            other_days=tuple(sorted(others)),
            waiting=state.waiting,
            unmarked=self._unmarked[day],
        )

    def take(self, day: date, keys: Sequence[str], *, run_id: str) -> set[date]:
        """
        Load some objects whose keys are known, without looking what else a day has.

        Args:
            keys: of them; those that aren't there are left out.
            run_id: noted in the ledger.

        Returns:
            The processed days touched.

        Raises:
            WarehouseError: what counts of this dataset is told by all that has landed of a day.
        """
        if isinstance(self._dataset.source, WholeFetches | RemoteObjects):
            raise WarehouseError(
                f"{self._dataset.raw} {day}: some of its objects were asked for, and which count is told by all of them",
                "load the day",
            )
        _, touched, _ = self._load_until_settled(
            day, False, run_id, Only(keys=frozenset(keys)), looks_at=keys if len(keys) <= MOST_NAMED else None
        )
        while pending := self._pending_days():
            for other in pending:
                waiting = Only(keys=self._ledger.pending_keys(self._dataset.name, other))
                touched |= self._load_until_settled(other, False, run_id, waiting)[1]
        return {date.fromisoformat(home) for home in touched}

    def _pending_days(self) -> list[date]:
        """Days with objects that wait to be loaded, and for nothing else."""
        name = self._dataset.name
        return [
            day
            for day in self._ledger.pending_days(name)
            if self._ledger.pending_keys(name, day) - self._places.waits(name, day).keys()
        ]

    def _load_until_settled(
        self, day: date, reload: bool, run_id: str, only: Only, looks_at: Sequence[str] | None = None
    ) -> tuple[list[str], set[str], int]:
        attempt = 0
        while True:
            try:
                return self._load_once(day, reload, run_id, only, looks_at)
            except Conflict as conflict:
                attempt += 1
                log.info(
                    "%s %s: another run has loaded %s meanwhile; looking again (%d)",
                    self._dataset.raw,
                    day,
                    conflict,
                    attempt,
                )

    def _load_once(
        self, day: date, reload: bool, run_id: str, only: Only, looks_at: Sequence[str] | None
    ) -> tuple[list[str], set[str], int]:
        """
        Load what is news.

        Args:
            looks_at: the keys of a day that are looked at; None: all.
        """
        known = self._known(day, looks_at)
        # What is known is asked before what has landed: an object that changes in between is news then.
        listed, replaced = self._listed(day, looks_at)
        if not self._look_up_dialect():
            # Which one is recorded mustn't depend on what was named first.
            all_there = listed if looks_at is None else self._listed(day)[0]
            self._record_dialect(sorted(all_there, key=self._claim_order))
        self._places.note({landed.key: landed.place for landed in (*listed, *(one for one, _ in replaced))})
        # What was asked for from an archive is read when it is there, whatever it was wanted for.
        waits = self._places.waits(self._dataset.name, day)
        if looks_at is not None:
            waits = {key: waiting for key, waiting in waits.items() if key in looks_at}
        todo = [
            landed
            for landed in listed
            if only.takes(landed.key, landed.size_bytes)
            and (reload or landed.key in waits or self._is_news(landed, known.get(landed.key)))
        ]
        todo, is_whole = self._without_archived(day, todo, waits, {landed.key for landed in listed})
        # What waits to be loaded and isn't there any more would be waited for for ever.
        there = {landed.key for landed in listed}
        gone = [row for row in known.values() if row.state == "pending" and row.key not in there]
        retired = [
            (landed, reason)
            for landed, reason in replaced
            if (row := known.get(landed.key)) is None or row.state != "replaced" or not self._is_read(row)
        ]
        if not is_whole:
            # Part of a fetch would be loaded, or a former one be taken back before the one that counts can be read.
            todo, retired = [], []
        if not todo and not gone and not retired:
            return [], set(), 0
        todo, is_in_order = self._in_order(todo)
        batch = _Batch(self, day, known, {landed.key for landed in todo}, run_id, is_in_order=is_in_order)
        try:
            for row in gone:
                batch.miss(row)
            for landed, reason in retired:
                batch.retire(landed, reason)
            again = {landed.key for landed in todo if reload or landed.key in waits}
            with closing(self._readings(todo, known, again, batch)) as readings:
                for number, reading in enumerate(readings, start=1):
                    batch.add(reading)
                    if self._progress is not None:
                        self._progress(number, len(todo), reading.records.rows_read if reading.records else 0)
            touched = batch.commit()
        except BaseException:
            batch.discard()
            raise
        self._places.note_waits(
            self._dataset.name, (), waits.keys() & {landed.key for landed in todo} - {one.key for one in batch.archived}
        )
        if batch.archived:
            # Fetched back once, and gone again before it was read.
            self._without_archived(day, batch.archived, waits, {landed.key for landed in listed})
        return batch.keys, touched, batch.bytes_read

    def _without_archived(
        self, day: date, todo: Sequence[LandedObject], waits: Mapping[str, Waiting], listed: set[str]
    ) -> tuple[list[LandedObject], bool]:
        """
        Ask for what is in an archive.

        Returns:
            What can be read now; and whether a load of that alone may count.
        """
        archived = [landed for landed in todo if not all(part.is_at_hand for part in self._parts(landed))]
        lifecycle = self._dataset.ages
        days = lifecycle.restore_days if lifecycle is not None else RESTORE_DAYS
        tier = lifecycle.restore_tier if lifecycle is not None else RESTORE_TIER

        def fetch_back(landed: LandedObject) -> timedelta | None:
            takes = []
            for part in self._parts(landed):
                # What is missing is told, and noted, when it is read.
                with suppress(ObjectMissing):
                    takes.append(self._landing.fetch_back(part, days=days, tier=tier))
            return max(filter(None, takes), default=None)

        if not archived:
            self._places.note_waits(self._dataset.name, (), waits.keys() - listed)
            return list(todo), True
        with ThreadPoolExecutor(ASKING_THREADS, thread_name_prefix="ask") as pool:
            takes = dict(zip((landed.key for landed in archived), pool.map(fetch_back, archived), strict=True))
        moment = datetime.now(UTC)
        waiting = []
        for landed in archived:
            how_long = takes[landed.key]
            if how_long is not None:
                asked_at = waits[landed.key].asked_at if landed.key in waits else moment
                waiting.append(
                    Waiting(self._dataset.name, day, landed.key, landed.size_bytes, asked_at, asked_at + how_long)
                )
        self._places.note_waits(
            self._dataset.name, [one for one in waiting if waits.get(one.key) != one], waits.keys() - listed
        )
        if waiting:
            log.info("%s %s: %s", self._dataset.raw, day, told_waiting(waiting))
        keys = {one.key for one in waiting}
        return (
            [landed for landed in todo if landed.key not in keys],
            not (waiting and isinstance(self._dataset.source, WholeFetches)),
        )

    def _known(self, day: date, looks_at: Sequence[str] | None) -> dict[str, ObjectRow]:
        """Key → what the ledger says of the day's objects that are looked at."""
        if looks_at is None:
            return self._ledger.current(self._dataset.name, day)
        rows = [self._ledger.current_object(self._dataset.name, key) for key in looks_at]
        return {row.key: row for row in rows if row is not None and row.day == day.isoformat()}

    def _in_order(self, todo: Sequence[LandedObject]) -> tuple[list[LandedObject], bool]:
        """Objects in the order in which they claim a content or positions; and whether that is the order of rows in raw."""
        named = sorted(todo, key=lambda landed: (len(landed.key), landed.key))
        spans = [(span[0], landed.key, span[1]) for landed in named if (span := self.span_of(landed.key))]
        if claims_as_named(spans):
            return named, True
        return sorted(todo, key=self._claim_order), False

    def _claim_order(self, landed: LandedObject) -> tuple[object, ...]:
        span = self.span_of(landed.key)
        return (span[0], *order(landed.key, span[1])) if span is not None else (len(landed.key), landed.key)

    def _is_news(self, landed: LandedObject, row: ObjectRow | None) -> bool:
        return row is None or not same_version(row.token, landed.token) or not self._is_read(row)

    def _is_read(self, row: ObjectRow) -> bool:
        """Whether an object was read as it would be read now, or raw has all that is needed of it."""
        return self._passages.need(row, self._reader.dialect).doing != "read"

    def _readings(
        self, todo: Sequence[LandedObject], known: dict[str, ObjectRow], again: set[str], batch: "_Batch"
    ) -> Generator[_Reading, None, None]:
        """
        Fetch and parse by threads, in order, no more than `IN_FLIGHT_BYTES` ahead.

        Args:
            again: keys of those that are read whether or not they are known.
        """
        is_far = "://" in self._landing.url
        with ThreadPoolExecutor(self._threads * (8 if is_far else 1), thread_name_prefix="read") as pool:
            waiting: list[tuple[Future[_Reading], int]] = []
            in_flight = 0
            position = 0
            try:
                while position < len(todo) or waiting:
                    while position < len(todo):
                        landed = todo[position]
                        size = landed.size_bytes * (
                            PACKED if packing_of(landed.key) or landed.key.endswith(".parquet") else 1
                        )
                        # What is larger doesn't stay in memory.
                        size = min(size, 2 * IN_MEMORY_BYTES)
                        if waiting and in_flight + size > IN_FLIGHT_BYTES:
                            break
                        row = None if landed.key in again else known.get(landed.key)
                        waiting.append((pool.submit(self._read, landed, row, batch), size))
                        in_flight += size
                        position += 1
                    future, size = waiting.pop(0)
                    in_flight -= size
                    yield future.result()
            finally:
                batch.is_given_up = bool(waiting) or position < len(todo)
                for future, _ in waiting:
                    future.cancel()

    def _read(self, landed: LandedObject, row: ObjectRow | None, batch: "_Batch") -> _Reading:
        try:
            with self._open(landed) as opened:
                return self._read_opened(landed, opened, row, batch)
        except ObjectChanged as error:
            return _Reading(
                landed, "", landed.size_bytes, None, f"it changed while being read: {error.what}", is_final=False
            )
        except ObjectCold:
            if isinstance(self._dataset.source, WholeFetches):
                raise
            return _Reading(landed, "", landed.size_bytes, None, is_archived=True)
        except ObjectMissing:
            return _Reading(landed, "", landed.size_bytes, None, "it was gone when it was to be read", is_final=False)

    def _open(self, landed: LandedObject) -> ObjectFile:
        landed = self._as_landed.get(landed.key, landed)
        if landed.size_bytes > WHOLE_BYTES:
            return self._landing.open(landed)
        return ObjectFile(io.BytesIO(self._landing.read(landed)), lambda: None)

    def _read_opened(
        self, landed: LandedObject, opened: ObjectFile, row: ObjectRow | None, batch: "_Batch"
    ) -> _Reading:
        digest = hashlib.sha256()
        while piece := opened.file.read(_HASHED_BYTES):
            batch.go_on()
            digest.update(piece)
        sha256, size_bytes = digest.hexdigest(), opened.file.tell()
        is_known = row is not None and row.version == sha256 and self._is_read(row)
        if is_known and landed.key not in self._manifests:
            opened.check()
            return _Reading(landed, sha256, size_bytes, None)
        if landed.size_bytes > WHOLE_BYTES and batch.has_double(landed.key, sha256):
            opened.check()
            return _Reading(landed, sha256, size_bytes, None, is_double=True)
        source = self._dataset.source
        if (
            isinstance(source, RemoteObjects)
            and not sha256.startswith(digest_in(landed.key))
            and not self._forgotten.is_rewritten(landed.key, sha256)
        ):
            opened.check()
            return _Reading(landed, sha256, size_bytes, None, "isn't what was copied: its digest is another one")
        departures: tuple[str, ...] = ()
        unknown: tuple[str, ...] = ()
        try:
            declared = self._dataset.source.format
            if isinstance(declared, Csv) and isinstance(self._format, Csv) and declared != self._format:
                departures = dialect_departures(declared, self._format, opened.file, self._fields, key=landed.key)
            records, more = self._gather(landed, opened, batch, sha256)
            departures = tuple(map(self._without_excerpts, (*departures, *records.departures, *more)))
            opened.check()
            if self._dataset.on_unknown_column == "fail" and records.unknown_columns:
                batch.throw_away(records)
                unknown = records.unknown_columns
                raise ObjectRejected(f"it has columns that aren't declared: {', '.join(unknown)}")
        except ObjectRejected as error:
            # What changed while it was read may look broken.
            opened.check()
            why = (
                str(error)
                if not departures
                else f"{error}; it departs from the recorded dialect: {'; '.join(departures)}"
            )
            return _Reading(landed, sha256, size_bytes, None, self._without_excerpts(why), unknown_columns=unknown)
        return _Reading(landed, sha256, size_bytes, records, departures=departures)

    def _gather(
        self, landed: LandedObject, opened: ObjectFile, batch: "_Batch", sha256: str
    ) -> tuple[Records | OwnFiles, tuple[str, ...]]:
        """
        Read an object to its end, and hold it against what its sender says of it.

        Returns:
            Its records, and what couldn't be compared.

        Raises:
            ObjectRejected: it can't be read, or isn't as its sender says.
        """
        reader = self._open_records(opened, landed.key)
        control = self._control
        if control is None or not (control.trailer or control.manifest):
            return batch.gather(landed.key, reader), ()
        if self._forgotten.is_rewritten(landed.key, sha256):
            # What its sender has counted was counted before somebody in it was forgotten, and was compared then.
            return batch.gather(landed.key, reader), ()
        totals: Totals | None = None
        if control.manifest:
            manifest = self._manifests[landed.key]
            if manifest.size_bytes > MOST_MANIFEST_BYTES:
                raise ObjectRejected(f"has a manifest of {manifest.size_bytes:,} bytes", "it should say a few numbers")
            totals = control.totals_of_manifest(self._landing.read(manifest).decode(errors="replace"), landed.key)
        counted = CountedReader(reader, control.sum_of)
        records = batch.gather(landed.key, counted)
        try:
            said = totals or control.totals_of_trailers(counted.ending.trailers)
            not_compared = counted.compare(said)
        except ObjectRejected as error:
            batch.throw_away(records)
            if control.on_mismatch == "reject":
                raise
            again = self._open_records(opened, landed.key)
            return batch.gather(landed.key, RefusedReader(again, error.what)), ()
        return records, (not_compared,) if not_compared else ()

    def _open_records(self, opened: ObjectFile, key: str) -> RecordReader:
        reader = open_records(self._format, opened.file, self._fields, key=key)
        return AliasReader(reader, self._passages.shape, self._passages.naming) if self._has_aliases else reader

    def _without_excerpts(self, reason: str) -> str:
        """A reason is shown where masked tables are: what it quotes of a file with personal columns stays out."""
        if all(column.pii is None for column in self._dataset.columns):
            return reason
        return re.sub("“.*”", "“(may be personal)”", reason, flags=re.DOTALL)

    # --- pieces that a batch uses

    def span_of(self, key: str) -> tuple[str, Span] | None:
        """Shard and positions of a segment; None of any other object."""
        source = self._dataset.source
        return source.span(key) if isinstance(source, StreamSegments) else None

    def content_of(self, key: str, sha256: str, day: date) -> str | None:
        """What makes two objects with records the same: bytes, and whatever of the key goes into the rows. None: nothing can be doubled."""
        if self.span_of(key) is not None:
            # What two segments have in common is told by their positions.
            return None
        if isinstance(self._dataset.source, WholeFetches):
            # Two fetches may well have been told the same.
            return None
        found = self._dataset.source.match(key)
        captures = found[1] if found else {}
        of_the_key = [captures[column.capture] for column in self._dataset.columns if column.capture is not None]
        if packing := packing_of(key):
            # The same bytes under a plain name are something else.
            of_the_key.append(packing)
        if self._dataset.kind == "snapshots":
            # A sender's later snapshot replaces the former even when it says what an earlier one had said.
            of_the_key += [day.isoformat(), key if self._dataset.senders is not None else ""]
        return hashlib.sha256(json.dumps([sha256, of_the_key]).encode()).hexdigest()

    def _sender(self, captures: dict[str, str]) -> str | None:
        return captures.get(self._dataset.senders.key_capture) if self._dataset.senders is not None else None

    def row_of(self, reading: _Reading, day: date, state: str, run_id: str) -> ObjectRow:
        """The ledger's row of an object that was read."""
        records = reading.records if state == "loaded" else None
        has_records = reading.is_double or (reading.records is not None and reading.records.rows_read > 0)
        found = self._dataset.source.match(reading.landed.key)
        span = self.span_of(reading.landed.key)
        moment = now()
        return ObjectRow(
            dataset=self._dataset.name,
            key=reading.landed.key,
            version=reading.sha256 or f"unread:{reading.landed.token}",
            day=day.isoformat(),
            state=state,
            is_current=1,
            sha256=reading.sha256,
            content=self.content_of(reading.landed.key, reading.sha256, day) if has_records else None,
            size_bytes=reading.size_bytes,
            landed_at=_utc(reading.landed),
            # An object that moved under us is looked at again, whatever its token says then.
            token=reading.landed.token if reading.is_final else "",
            reader=str(self._reader),
            sender=self._sender(found[1]) if found else None,
            reason=reading.reason,
            duplicate_of=None,
            rows_read=records.rows_read if records else 0,
            rows_loaded=records.rows_loaded if records else 0,
            rows_quarantined=records.rows_quarantined if records else 0,
            unknown_columns=json.dumps(sorted(records.unknown_columns if records else reading.unknown_columns)),
            missing_columns=json.dumps(records.missing_columns if records else ()),
            departures=json.dumps(reading.departures),
            file_id=None,
            quarantine_file_id=None,
            home_days="{}",
            shard=span[0] if span else None,
            first_position=position_text(span[1].first) if span else None,
            last_position=position_text(span[1].last) if span else None,
            stands_from=None,
            first_seen_at=moment,
            decided_at=moment,
            run_id=run_id,
        )

    def table_of(self, table: pa.Table, key: str, day: date) -> pa.Table:
        """An object's rows as raw has them."""
        rows = table.num_rows
        found = self._dataset.source.match(key)
        captures = found[1] if found else {}
        columns: list[pa.ChunkedArray[Any] | pa.Array[Any]] = []
        for column in self._dataset.columns:
            if column.capture is not None:
                columns.append(arrays.repeated_text(captures[column.capture], rows))
            else:
                columns.append(table.column(column.name))
        columns += [table.column(name) for name, _ in self._contract.envelope]
        extra = table.column("_extra") if self._dataset.on_unknown_column == "keep" else pa.nulls(rows, pa.string())
        columns += [
            extra,
            arrays.repeated_text(key, rows),
            table.column("_row"),
            arrays.repeated_day(day, rows),
        ]
        return pa.Table.from_arrays(columns, schema=self._schema)

    def count_home_days(self, path: str, day: date) -> dict[str, dict[str, int]]:
        """Object → processed day → rows, of a file just written."""
        raw = f"select * from {parquet(self._store.absolute(path))}"
        return count_homes(self._engine, self._contract, raw, day)


def _utc(landed: LandedObject) -> str:
    return landed.landed_at.astimezone(UTC).isoformat(timespec="microseconds")


class _Batch:
    """One load on its way: rows go to a file as they come, decisions are gathered for the commit."""

    def __init__(
        self,
        loader: Loader,
        day: date,
        known: dict[str, ObjectRow],
        todo: set[str],
        run_id: str,
        *,
        is_in_order: bool,
    ) -> None:
        self._loader = loader
        self._is_in_order = is_in_order
        self._dataset: Dataset = loader._dataset
        self._day = day
        self._known = known
        self._todo = todo
        self._run_id = run_id
        self.keys: list[str] = []
        self.bytes_read = 0
        self.archived: list[LandedObject] = []
        self._found: dict[str, ObjectRow | None] = {}
        self._decided: list[ObjectRow] = []
        self._demoted: dict[str, str] = {}
        self._touched: list[tuple[ObjectRow, str, str]] = []
        self._claims: dict[str, str] = {}
        self._retired: set[str] = set()
        self._furthest: dict[str, tuple[str, Span]] = {}
        self._shards: Counter[str] | None = None
        self._segments: dict[str, Overlaps] = {}
        self.is_given_up = False
        self._files: list[RowsFile] = []
        self._shared = self._new_files()
        self._own: dict[str, OwnFiles] = {}

    # --- for the threads that read

    def _new_files(self) -> tuple[RowsFile, RowsFile]:
        store, name = self._loader._store, self._dataset.name
        files = (
            RowsFile(store, self._dataset.raw, self._day, self._loader._schema),
            RowsFile(store, f"quarantine.{name}", self._day, QUARANTINE_SCHEMA),
        )
        self._files += files
        return files

    def go_on(self) -> None:
        """Stop a thread whose work isn't wanted any more."""
        if self.is_given_up:
            raise _GivenUp

    def gather(self, key: str, reader: RecordReader) -> Records | OwnFiles:
        """Read an object to its end; see `raw_files.gather`."""
        if self._loader.span_of(key) is not None:
            # A segment is closed before it is large, and what counts of it is decided by its positions.
            return gather(reader, self._new_files, lambda table: table, lambda _: pa.table({}), self.go_on, math.inf)
        return gather(
            reader,
            self._new_files,
            lambda table: self._loader.table_of(table, key, self._day),
            lambda rejected: rejected_table(self._dataset.name, self._day, key, rejected),
            self.go_on,
            IN_MEMORY_BYTES,
        )

    def has_double(self, key: str, sha256: str) -> bool:
        """Whether the ledger has this content loaded, from an object that stands for it whatever this load finds."""
        content = self._loader.content_of(key, sha256, self._day)
        other = self._loader._ledger.loaded_with_content(self._dataset.name, content) if content is not None else None
        if other is None or other.key == key or other.key in self._todo or other.key in self._retired:
            return False
        return other.order < (self._day.isoformat(), len(key), key)

    def throw_away(self, records: Records | OwnFiles) -> None:
        """Delete the files of an object that doesn't count."""
        if isinstance(records, OwnFiles):
            for path in records.paths:
                self._loader._store.discard(path)

    # --- in order

    def add(self, reading: _Reading) -> None:
        """Decide what an object is."""
        key = reading.landed.key
        before = self._known.get(key)
        if reading.is_archived:
            self.archived.append(reading.landed)
            return
        self.bytes_read += reading.size_bytes
        if reading.records is None and not reading.reason and not reading.is_double:
            assert before is not None, "only a known object can be merely touched"
            self._touched.append((before, reading.landed.token, _utc(reading.landed)))
            self._claim_positions(key)
            if before.state == "loaded" and before.content is not None:
                winner = self._claims.setdefault(before.content, key)
                if winner != key:
                    self._found[key] = before
                    self._demoted[key] = winner
            return
        self.keys.append(key)
        self._found[key] = before
        if reading.reason:
            self._decided.append(self._loader.row_of(reading, self._day, "rejected", self._run_id))
            return
        row = self._loader.row_of(reading, self._day, "loaded", self._run_id)
        records = reading.records
        if row.span is not None and row.shard is not None and isinstance(records, Records):
            row, records = self._stand(row, row.shard, row.span, records)
            if row.state == "duplicate":
                self._decided.append(row)
                return
        if row.content is not None:
            original = self._original(row)
            if original is not None:
                if records is not None:
                    self.throw_away(records)
                duplicate = self._loader.row_of(reading, self._day, "duplicate", self._run_id)
                self._decided.append(replace(duplicate, duplicate_of=original, reason=f"same content as {original}"))
                return
            if records is None:
                # The object that it was a double of has gone meanwhile.
                raise Conflict(key)
            self._claims[row.content] = key
        self._decided.append(row)
        if isinstance(records, OwnFiles):
            self._own[key] = records
        elif records is not None:
            self._shared[0].add(self._loader.table_of(records.table, key, self._day))
            if records.rejected:
                self._shared[1].add(rejected_table(self._dataset.name, self._day, key, records.rejected))

    def _stand(self, row: ObjectRow, shard: str, span: Span, records: Records) -> tuple[ObjectRow, Records]:
        """A segment with what of it counts: positions that another segment stands for are left out."""
        others = [(key, other) for key, other in self._around(shard, span) if key not in self._todo]
        # Segments come in the order of their claims: of those before, the one that reaches furthest decides.
        before = [self._furthest[shard]] if shard in self._furthest else []
        standing = stand([(row.key, span), *others, *before])[row.key]
        self._claim_positions(row.key)
        left = records.since(standing.since)
        row = replace(row, stands_from=position_text(standing.since))
        if standing.counts_nothing_of(span):
            row = replace(
                row, state="duplicate", duplicate_of=standing.instead, rows_read=0, rows_loaded=0, rows_quarantined=0,
                unknown_columns="[]", missing_columns="[]", reason=standing.reason(span),
            )  # fmt: skip
        else:
            row = replace(
                row, rows_read=left.rows_read, rows_loaded=left.rows_loaded, rows_quarantined=left.rows_quarantined,
                reason=standing.reason(span),
            )  # fmt: skip
        return row, left

    def _around(self, shard: str, span: Span) -> list[tuple[str, Span]]:
        """Key and positions of the segments in the ledger that hold some of these."""
        ledger, name = self._loader._ledger, self._dataset.name
        if self._shards is None:
            self._shards = Counter(found[0] for key in self._todo if (found := self._loader.span_of(key)))
        # The newest are found at once among the last; to look for many of long ago is to look through all each time.
        if self._shards[shard] < ALL_AT_ONCE:
            return [(row.key, row.span) for row in ledger.segments_around(name, shard, span) if row.span is not None]
        if shard not in self._segments:
            self._segments[shard] = Overlaps(ledger.segments_of(name, shard))
        return self._segments[shard].with_some_of(span)

    def _claim_positions(self, key: str) -> None:
        found = self._loader.span_of(key)
        if found is not None:
            shard, span = found
            if shard not in self._furthest or span.last > self._furthest[shard][1].last:
                self._furthest[shard] = (key, span)

    def miss(self, before: ObjectRow) -> None:
        """Give up an object that is to be loaded and has gone; when it comes back, it is read."""
        self.keys.append(before.key)
        self._found[before.key] = before
        self._decided.append(
            replace(
                before, state="rejected", reason="it was gone when it was to be read", version=f"unread:{before.token}", token="",
                sha256="", content=None, decided_at=now(), run_id=self._run_id,
            )
        )  # fmt: skip

    def retire(self, landed: LandedObject, reason: str) -> None:
        """Take back a former fetch or version: a later one counts. What was never loaded isn't read any more."""
        before = self._known.get(landed.key)
        self._found[landed.key] = before
        self._retired.add(landed.key)
        unread = _Reading(landed, "", landed.size_bytes, None, reason)
        row = self._loader.row_of(unread, self._day, "replaced", self._run_id)
        if before is not None:
            row = replace(row, version=before.version, sha256=before.sha256, size_bytes=before.size_bytes)
        self._decided.append(row)

    def _original(self, row: ObjectRow) -> str | None:
        """The key of the object that stands for this content; None when it is this one."""
        assert row.content is not None
        if row.content in self._claims:
            return self._claims[row.content]
        other = self._loader._ledger.loaded_with_content(self._dataset.name, row.content)
        if other is None or other.key == row.key or (other.key in self._todo and other.day == row.day):
            return None
        if other.key in self._retired:
            return None
        self._found[other.key] = other
        if other.order < row.order:
            return other.key
        self._demoted[other.key] = row.key
        return None

    def commit(self) -> set[str]:
        """
        Make everything visible.

        Raises:
            Conflict: the ledger has changed meanwhile.
        """
        loader = self._loader
        loader._passages.note()
        self._keep_receipts()
        if self._touched:
            loader._ledger.touch(self._touched)
        if not self._decided:
            return set()
        rows_file, quarantine_file = (file.finish() for file in self._shared)
        if rows_file is not None and not self._is_in_order:
            rows_file = self._put_in_order(rows_file)
        counts: dict[str, dict[str, int]] = {}
        for file in (rows_file, *(own.rows_file for own in self._own.values())):
            if file is not None:
                counts |= loader.count_home_days(file.path, self._day)
        touched, _ = loader._ledger.commit_load(
            self._dataset.name,
            self._day,
            found=self._found,
            decided=[
                replace(row, home_days=json.dumps(counts[row.key], sort_keys=True)) if row.key in counts else row
                for row in self._decided
            ],
            demoted=self._demoted,
            rows_file=rows_file,
            quarantine_file=quarantine_file,
            own_files={key: (own.rows_file, own.quarantine_file) for key, own in self._own.items()},
            run_id=self._run_id,
        )
        self._throw_away_others()
        return touched

    def _keep_receipts(self) -> None:
        """Note what senders' objects were that can't be seen in the landing zone any more: true, whatever becomes of the commit."""
        senders = self._dataset.senders
        if senders is None:
            return
        gone = [before for before, _, landed_at in self._touched if landed_at != before.landed_at]
        for row in self._decided:
            before = self._found.get(row.key)
            if before is not None and before.version != row.version and before.state != "replaced":
                is_same = self._loader._forgotten.is_rewritten(row.key, row.sha256)
                # Nobody has sent anything: the object has been there all the time.
                gone.append(replace(before, version=row.version) if is_same else before)
        if gone:
            self._loader._receipts.note([receipt_of(row) for row in gone], lands=senders.cutoff is not None)

    def _put_in_order(self, rows_file: StoredFile) -> StoredFile | None:
        """Write rows again in the order in which raw has them: what is computed of one file depends on it."""
        loader = self._loader
        rows, _ = self._new_files()
        source = f"select * from {parquet(loader._store.absolute(rows_file.path))}"
        return put_in_order(loader._engine, source, rows, loader._schema)

    def discard(self) -> None:
        """Delete what was written for a commit that didn't come about."""
        self._throw_away_others()

    def _throw_away_others(self) -> None:
        """Delete the files that no commit has made part of a table: of objects that were rejected, or of all."""
        for file in self._files:
            file.close()
        paths = {file.path for file in self._files if file.path is not None}
        # An interrupt may come just after the commit.
        for path in paths - self._loader._ledger.known_paths(list(paths)):
            self._loader._store.discard(path)
