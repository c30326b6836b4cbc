"""
The ledger: which version of which object was loaded, which files make up which table, from what each partition was computed.

Belongs here: the transactions on objects, files and partitions, and nothing long: a few milliseconds each, so that processes get along.
Doesn't: the SQLite file itself (`ledger_file.py`), rows of data (Parquet files, `files.py`), deciding what to load (`load.py`).

Nobody ever holds the ledger while fetching, parsing or computing. A commit is optimistic: the caller says what it found when it began, and
gets `Conflict` when that is no longer so.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

from ingestion_platform.stream import Span
from ingestion_platform.warehouse import (
    certificates,
    discards,
    excuses,
    forgotten,
    places,
    receipts,
    shapes,
    told_lines,
    versions,
)
from ingestion_platform.warehouse.files import StoredFile
from ingestion_platform.warehouse.ledger_file import LedgerFile, now, seal
from ingestion_platform.warehouse.ledger_rows import (
    FILE_COLUMNS,
    NO_DAY,
    OBJECT_COLUMNS,
    PARTITION_COLUMNS,
    FileRow,
    ObjectRow,
    PartitionRow,
    overlaps,
    position_text,
    stands_from,
    weights,
)
from ingestion_platform.warehouse.standing import stand

SCHEMA = """
create table if not exists objects (
    dataset text not null, key text not null, version text not null, day text not null, state text not null, is_current integer not null,
    sha256 text not null, content text, size_bytes integer not null, landed_at text not null, token text not null, reader text not null,
    sender text, reason text not null, duplicate_of text,
    rows_read integer not null, rows_loaded integer not null, rows_quarantined integer not null,
    unknown_columns text not null, missing_columns text not null, departures text not null,
    file_id integer, quarantine_file_id integer, home_days text not null,
    shard text, first_position text, last_position text, stands_from text,
    first_seen_at text not null, decided_at text not null, run_id text not null, seal text not null,
    primary key (dataset, key, version)
) strict, without rowid;
create index if not exists objects_by_day on objects (dataset, day) where is_current = 1;
create index if not exists objects_by_content on objects (dataset, content) where is_current = 1 and content is not null;
create index if not exists objects_by_position on objects (dataset, shard, last_position)
    where is_current = 1 and shard is not null;
create index if not exists objects_pending on objects (dataset) where state = 'pending';
create table if not exists files (
    file_id integer primary key, table_name text not null, day text not null, role text not null, path text not null unique,
    rows integer not null, size_bytes integer not null, sha256 text not null,
    committed_at text not null, run_id text not null, dropped_at text, seal text not null
) strict;
create index if not exists files_by_table on files (table_name, role, day) where dropped_at is null;
create index if not exists files_dropped on files (dropped_at) where dropped_at is not null;
create table if not exists exclusions (file_id integer not null, key text not null, primary key (file_id, key)) strict, without rowid;
create table if not exists file_days (
    file_id integer not null, day text not null, primary key (file_id, day)
) strict, without rowid;
create index if not exists file_days_by_day on file_days (day);
create table if not exists raw_days (
    dataset text not null, day text not null, digest text not null, rows integer not null, rows_unread integer not null,
    primary key (dataset, day)
) strict, without rowid;
create table if not exists partitions (
    table_name text not null, day text not null, inputs text not null, content text not null, rows integer not null, details text not null,
    file_id integer not null, quarantine_file_id integer, computed_at text not null, run_id text not null, seal text not null,
    primary key (table_name, day)
) strict, without rowid;
"""

DRIFTING = """
create index if not exists objects_drifting on objects (dataset)
    where is_current = 1 and (unknown_columns <> '[]' or missing_columns <> '[]');
"""
"""Whether a dataset drifts at all is asked whenever tables are shown."""


Along = Callable[[sqlite3.Connection, PartitionRow], None]
"""Notes something beside a partition, in its transaction."""


def nothing(_: sqlite3.Connection, __: PartitionRow) -> None:
    """Note nothing beside a partition."""


class Conflict(Exception):
    """Somebody else has changed what this commit was planned on; plan again. Never leaves the warehouse."""


class Ledger(LedgerFile):
    """
    The ledger: objects, files and partitions.

    Args:
        path: of the SQLite file; made when first asked.
        patience_seconds: how long a transaction waits for another process before it gives up.
    """

    def __init__(self, path: Path, *, patience_seconds: float = 600.0) -> None:
        super().__init__(
            path,
            (
                SCHEMA,
                places.SCHEMA,
                discards.SCHEMA,
                certificates.SCHEMA,
                receipts.SCHEMA,
                excuses.SCHEMA,
                versions.SCHEMA,
                told_lines.SCHEMA,
                shapes.SCHEMA,
                forgotten.SCHEMA,
                DRIFTING,
            ),
            patience_seconds=patience_seconds,
        )

    # --- rows, sealed

    def _object(self, row: sqlite3.Row) -> ObjectRow:
        values = tuple(row[name] for name in OBJECT_COLUMNS)
        self.check_seal(row, values, f"object {row['key']!r}")
        return ObjectRow(*values)

    def _objects(self, connection: sqlite3.Connection, where: str, *values: object) -> list[ObjectRow]:
        rows = connection.execute(f"select * from objects where {where}", values)
        return [self._object(row) for row in rows]

    def _put_object(self, connection: sqlite3.Connection, row: ObjectRow) -> None:
        values = tuple(getattr(row, name) for name in OBJECT_COLUMNS)
        marks = ", ".join("?" * (len(values) + 1))
        connection.execute(
            f"insert or replace into objects ({', '.join(OBJECT_COLUMNS)}, seal) values ({marks})",
            (*values, seal(values)),
        )

    def _put_file(
        self, connection: sqlite3.Connection, table: str, day: str, role: str, file: StoredFile, run_id: str
    ) -> int:
        cursor = connection.execute("select coalesce(max(file_id), 0) + 1 from files")
        file_id = int(cursor.fetchone()[0])
        values = (file_id, table, day, role, file.path, file.rows, file.size_bytes, file.sha256, now(), run_id, None)
        connection.execute(
            f"insert into files ({', '.join(FILE_COLUMNS)}, seal) values ({', '.join('?' * 12)})",
            (*values, seal(values[:10])),
        )
        return file_id

    def _put_files(
        self,
        connection: sqlite3.Connection,
        dataset: str,
        day: str,
        files: tuple[StoredFile | None, StoredFile | None],
        run_id: str,
    ) -> tuple[int | None, int | None]:
        """Note a file of rows and one of records that couldn't be read, as far as there are any."""
        rows, quarantine = files
        table = f"raw.{dataset}"
        return (
            self._put_file(connection, table, day, "rows", rows, run_id) if rows else None,
            self._put_file(connection, table, day, "quarantine", quarantine, run_id) if quarantine else None,
        )

    def _files(self, connection: sqlite3.Connection, where: str, *values: object) -> list[FileRow]:
        found = []
        for row in connection.execute(f"select * from files where {where} order by day, file_id", values):
            self.check_seal(row, tuple(row[name] for name in FILE_COLUMNS[:10]), f"file {row['path']!r}")
            excluded = connection.execute(
                "select key from exclusions where file_id = ? order by key", (row["file_id"],)
            )
            found.append(
                FileRow(
                    row["file_id"], row["day"], row["path"], row["rows"], row["size_bytes"], row["sha256"],
                    tuple(key for (key,) in excluded),
                )
            )  # fmt: skip
        return found

    def _drop_file(self, connection: sqlite3.Connection, file_id: int | None) -> None:
        if file_id is not None:
            connection.execute(
                "update files set dropped_at = ? where file_id = ? and dropped_at is null", (now(), file_id)
            )

    # --- objects

    def current(self, dataset: str, day: date) -> dict[str, ObjectRow]:
        """The day's objects in their newest version, by key."""
        with self.reading() as connection:
            rows = self._objects(
                connection, "dataset = ? and day = ? and is_current = 1 order by key", dataset, day.isoformat()
            )
        return {row.key: row for row in rows}

    def current_between(self, dataset: str, first: date, last: date) -> list[ObjectRow]:
        """The objects of these days in their newest version, by day and key."""
        with self.reading() as connection:
            return self._objects(
                connection,
                "dataset = ? and day >= ? and day <= ? and is_current = 1 order by day, key",
                dataset,
                first.isoformat(),
                last.isoformat(),
            )

    def current_object(self, dataset: str, key: str) -> ObjectRow | None:
        """An object in its newest version."""
        with self.reading() as connection:
            rows = self._objects(connection, "dataset = ? and key = ? and is_current = 1", dataset, key)
        return rows[0] if rows else None

    def loaded_with_content(self, dataset: str, content: str) -> ObjectRow | None:
        """The object whose rows stand in raw for that content."""
        with self.reading() as connection:
            rows = self._objects(
                connection, "dataset = ? and content = ? and is_current = 1 and state = 'loaded'", dataset, content
            )
        return rows[0] if rows else None

    def segments_around(self, dataset: str, shard: str, span: Span) -> list[ObjectRow]:
        """Objects that hold, or wait to be loaded for, positions of *span*."""
        with self.reading() as connection:
            return self._segments(connection, dataset, shard, span)

    def segments_of(self, dataset: str, shard: str) -> list[tuple[str, Span]]:
        """Key and positions of every object of a shard that holds, or waits to be loaded for, any."""
        with self.reading() as connection:
            rows = connection.execute(
                "select key, first_position, last_position from objects where dataset = ? and shard = ? and is_current = 1"
                " and state in ('loaded', 'duplicate', 'pending')",
                (dataset, shard),
            ).fetchall()
        return [(key, Span(int(first), int(last))) for key, first, last in rows]

    def _segments(self, connection: sqlite3.Connection, dataset: str, shard: str, span: Span) -> list[ObjectRow]:
        return self._objects(
            connection,
            "dataset = ? and shard = ? and is_current = 1 and last_position >= ? and first_position <= ?"
            " and state in ('loaded', 'duplicate', 'pending')",
            dataset,
            shard,
            position_text(span.first),
            position_text(span.last),
        )

    def pending_days(self, dataset: str) -> list[date]:
        """Days with objects that wait to be loaded because the one they were a duplicate of has changed."""
        with self.reading() as connection:
            rows = connection.execute(
                "select distinct day from objects where dataset = ? and state = 'pending' order by day", (dataset,)
            )
            return [self.date_of(day) for (day,) in rows]

    def pending_keys(self, dataset: str, day: date) -> frozenset[str]:
        """Those of a day's objects that wait to be loaded."""
        with self.reading() as connection:
            rows = connection.execute(
                "select key from objects where dataset = ? and state = 'pending' and day = ?",
                (dataset, day.isoformat()),
            )
            return frozenset(key for (key,) in rows)

    def commit_load(
        self,
        dataset: str,
        day: date,
        *,
        found: Mapping[str, ObjectRow | None],
        decided: Sequence[ObjectRow],
        demoted: Mapping[str, str],
        rows_file: StoredFile | None,
        quarantine_file: StoredFile | None,
        own_files: Mapping[str, tuple[StoredFile | None, StoredFile | None]],
        run_id: str,
    ) -> tuple[set[str], set[str]]:
        """
        Make a load visible: rows and ledger entries in one transaction.

        Args:
            dataset: its name.
            day: of the objects' keys.
            found: key → its current row when the load was planned, for every decided and demoted object and for each loaded
                object that a duplicate was
                decided against.
            decided: the objects as they are from now on; `file_id` and `quarantine_file_id` are set here.
            demoted: key of an object that was loaded → key of the one that is loaded in its place.
            rows_file: their rows; None when there are none.
            quarantine_file: their records that couldn't be read.
            own_files: key of a large object → the same two of it alone.
            run_id: whose run this is.

        Returns:
            The processed days touched, and the raw days that now have pending objects.

        Raises:
            Conflict: an object is no longer as it was found.
        """
        touched: set[str] = set()
        pending: set[str] = set()
        with self.writing() as connection:
            found = {key: self._as_found(connection, dataset, key, before) for key, before in found.items()}
            for row in decided:
                if row.content is not None and row.state == "loaded":
                    for other in self._objects(
                        connection,
                        "dataset = ? and content = ? and is_current = 1 and state = 'loaded'",
                        dataset,
                        row.content,
                    ):
                        if other.key not in found:
                            raise Conflict(other.key)
            iso = day.isoformat()
            shared = self._put_files(connection, dataset, iso, (rows_file, quarantine_file), run_id)
            own = {key: self._put_files(connection, dataset, iso, files, run_id) for key, files in own_files.items()}
            homes: set[tuple[int, str]] = set()
            withdrawn: list[ObjectRow] = []
            for row in decided:
                before = found[row.key]
                if before is not None:
                    withdrawn.append(before)
                    if before.version != row.version:
                        self._put_object(connection, replace(before, state="replaced", is_current=0, decided_at=now()))
                    touched |= self._withdraw(connection, before)
                stands = row.state == "loaded"
                file_id, quarantine_id = own.get(row.key, shared)
                if stands and file_id is not None:
                    homes |= {(file_id, home) for home in row.days}
                row = replace(
                    row,
                    file_id=file_id if stands and row.rows_loaded else None,
                    quarantine_file_id=quarantine_id if stands and row.rows_quarantined else None,
                    first_seen_at=before.first_seen_at
                    if before is not None and before.version == row.version
                    else row.first_seen_at,
                )
                self._put_object(connection, row)
                touched |= self._stand(connection, row)
            for key, winner in demoted.items():
                before = found[key]
                assert before is not None, "only a loaded object can be demoted"
                withdrawn.append(before)
                touched |= self._withdraw(connection, before)
                self._put_object(
                    connection,
                    replace(
                        before, state="duplicate", duplicate_of=winner, rows_read=0, rows_loaded=0, rows_quarantined=0, file_id=None,
                        unknown_columns="[]", missing_columns="[]", quarantine_file_id=None, home_days="{}",
                        decided_at=now(), run_id=run_id,
                    ),
                )  # fmt: skip
            for before in withdrawn:
                pending |= self._release_twins(connection, before, run_id)
            changed = [row for row in (*decided, *withdrawn) if row.shard is not None]
            if changed:
                settled, waiting = self._settle(connection, dataset, changed, {row.key for row in decided}, run_id)
                touched |= settled
                pending |= waiting
            connection.executemany("insert or ignore into file_days values (?, ?)", sorted(homes))
            self._drop_files_without_rows(connection, dataset)
        return touched, pending

    def days_read_otherwise(self, dataset: str, first: date, last: date, reader_ending: str) -> list[date]:
        """Days with objects whose reader doesn't end so."""
        with self.reading() as connection:
            rows = connection.execute(
                "select distinct day from objects where dataset = ? and is_current = 1 and day >= ? and day <= ?"
                " and substr(reader, ?) <> ? order by day",
                (dataset, first.isoformat(), last.isoformat(), -len(reader_ending), reader_ending),
            ).fetchall()
        return [self.date_of(day) for (day,) in rows]

    def commit_adoption(
        self,
        dataset: str,
        day: date,
        *,
        found: Sequence[ObjectRow],
        adopted: Sequence[ObjectRow],
        files: Mapping[int, StoredFile],
        run_id: str,
    ) -> set[str]:
        """
        Put objects whose rows stand otherwise in raw, or are only known otherwise, in the place of what they were.

        Args:
            dataset: its name.
            day: of the objects' keys.
            found: what they were when the adoption was planned.
            adopted: the same objects as they are from now on; `file_id` is set here for those whose rows were moved.
            files: file in which rows were → file in which they are; rows of objects that aren't adopted stay where they are.
            run_id: whose run this is.

        Returns:
            The processed days touched.

        Raises:
            Conflict: an object is no longer as it was found.
        """
        touched: set[str] = set()
        with self.writing() as connection:
            standing = [self._as_found(connection, dataset, before.key, before) for before in found]
            moved = {
                former: self._put_file(connection, f"raw.{dataset}", day.isoformat(), "rows", file, run_id)
                for former, file in files.items()
            }
            homes: set[tuple[int, str]] = set()
            for planned, before, row in zip(found, standing, adopted, strict=True):
                assert before is not None, "it is as it was found"
                if before.state == "loaded":
                    touched |= self._weigh(connection, before, -1)
                row = replace(row, quarantine_file_id=before.quarantine_file_id)
                if row.file_id is None and planned.file_id is not None:
                    connection.execute("insert or ignore into exclusions values (?, ?)", (before.file_id, row.key))
                    row = replace(row, file_id=moved[planned.file_id])
                else:
                    row = replace(row, file_id=before.file_id)
                if row.file_id is not None:
                    homes |= {(row.file_id, home) for home in row.days}
                self._put_object(connection, row)
                touched |= self._stand(connection, row)
            connection.executemany("insert or ignore into file_days values (?, ?)", sorted(homes))
            self._drop_files_without_rows(connection, dataset)
        return touched

    def _as_found(
        self, connection: sqlite3.Connection, dataset: str, key: str, before: ObjectRow | None
    ) -> ObjectRow | None:
        """
        An object's current row, where its rows stand by now, if it is what was found.

        Raises:
            Conflict: it is another one.
        """
        rows = self._objects(connection, "dataset = ? and key = ? and is_current = 1", dataset, key)
        now_there = rows[0] if rows else None
        if now_there is not None and before is not None:
            # Rows that were put together with others are the same rows.
            before = replace(before, file_id=now_there.file_id, quarantine_file_id=now_there.quarantine_file_id)
        if now_there != before:
            raise Conflict(key)
        return now_there

    def _withdraw(self, connection: sqlite3.Connection, row: ObjectRow) -> set[str]:
        """Take an object's rows out of the tables."""
        if row.state != "loaded":
            return set()
        for file_id in (row.file_id, row.quarantine_file_id):
            if file_id is not None:
                connection.execute("insert or ignore into exclusions values (?, ?)", (file_id, row.key))
        return self._weigh(connection, row, -1)

    def _stand(self, connection: sqlite3.Connection, row: ObjectRow) -> set[str]:
        return self._weigh(connection, row, +1) if row.state == "loaded" else set()

    def _weigh(self, connection: sqlite3.Connection, row: ObjectRow, sign: int) -> set[str]:
        """
        Add an object to, or take it from, the digests of the processed days that it has rows in.

        A day's digest is the exclusive or of its objects' hashes: whatever their order, and undone by the same call.
        """
        weighed_days = weights(row)
        for home, (identity, rows, unread) in weighed_days.items():
            before = connection.execute(
                "select digest, rows, rows_unread from raw_days where dataset = ? and day = ?", (row.dataset, home)
            ).fetchone()
            digest, total, total_unread = before or ("0", 0, 0)
            try:
                weighed = int(digest, 16) ^ identity
            except ValueError as error:
                raise self.damaged(sqlite3.DatabaseError(f"the digest of raw.{row.dataset} {home} is none")) from error
            connection.execute(
                "insert or replace into raw_days values (?, ?, ?, ?, ?)",
                (
                    row.dataset,
                    home,
                    f"{weighed:064x}",
                    total + sign * rows,
                    total_unread + sign * unread,
                ),
            )
        return set(weighed_days)

    def _release_twins(self, connection: sqlite3.Connection, before: ObjectRow, run_id: str) -> set[str]:
        """When the object that stood for a content has gone, the next one of that content takes its place."""
        # A pending one stands for the others too: it may be another by the time it is loaded.
        if before.content is None or before.state not in ("loaded", "pending"):
            return set()
        holders = self._objects(
            connection, "dataset = ? and content = ? and is_current = 1", before.dataset, before.content
        )
        standing = next((row for row in holders if row.state in ("loaded", "pending")), None)
        twins = sorted((row for row in holders if row.state == "duplicate"), key=lambda row: row.order)
        if not twins:
            return set()
        days: set[str] = set()
        if standing is None:
            standing = replace(twins.pop(0), state="pending", duplicate_of=None, decided_at=now(), run_id=run_id)
            self._put_object(connection, standing)
            days.add(standing.day)
        for twin in twins:
            if twin.duplicate_of != standing.key:
                self._put_object(connection, replace(twin, duplicate_of=standing.key, decided_at=now(), run_id=run_id))
        return days

    def _settle(
        self, connection: sqlite3.Connection, dataset: str, changed: Sequence[ObjectRow], decided: set[str], run_id: str
    ) -> tuple[set[str], set[str]]:
        """
        After segments have come or gone: each position counts in one of those that hold it, whichever was loaded first.

        Returns:
            The processed days touched, and the raw days with segments that wait to be loaded because they stand for other positions now.

        Raises:
            Conflict: a segment of this commit was planned on others than there are.
        """
        touched: set[str] = set()
        days: set[str] = set()
        ranges: dict[str, Span] = {}
        for row in changed:
            if row.shard is not None and row.span is not None:
                known = ranges.get(row.shard, row.span)
                ranges[row.shard] = Span(min(known.first, row.span.first), max(known.last, row.span.last))
        for shard, span in ranges.items():
            rows = self._segments(connection, dataset, shard, span)
            # Those that reach into the range from before it decide too.
            begin = min((row.span.first for row in rows if row.span is not None), default=span.first)
            around = self._segments(connection, dataset, shard, Span(begin, span.last)) if begin < span.first else rows
            standing = stand((row.key, row.span) for row in around if row.span is not None)
            for row in rows:
                if row.state == "pending" or row.span is None:
                    continue
                if row.stands_from == stands_from(standing[row.key]):
                    # The same positions, perhaps in another's stead than before.
                    instead = standing[row.key].instead if row.state == "duplicate" else None
                    reason = standing[row.key].reason(row.span)
                    if (row.duplicate_of, row.reason) != (instead, reason):
                        self._put_object(connection, replace(row, duplicate_of=instead, reason=reason))
                    continue
                if row.key in decided:
                    raise Conflict(row.key)
                touched |= self._withdraw(connection, row)
                self._put_object(
                    connection,
                    replace(
                        row, state="pending", duplicate_of=None, rows_read=0, rows_loaded=0, rows_quarantined=0, file_id=None,
                        quarantine_file_id=None, home_days="{}", stands_from=None, decided_at=now(), run_id=run_id,
                    ),
                )  # fmt: skip
                days.add(row.day)
        return touched, days

    def _drop_files_without_rows(self, connection: sqlite3.Connection, dataset: str) -> None:
        """A file all of whose objects are excluded is no longer part of its table."""
        connection.execute(
            """
            update files set dropped_at = ? where dropped_at is null and table_name = ?
            and file_id in (select file_id from exclusions)
            and not exists (select 1 from objects o where o.dataset = ? and o.is_current = 1 and o.day = files.day
                            and (o.file_id = files.file_id or o.quarantine_file_id = files.file_id))
            """,
            (now(), f"raw.{dataset}", dataset),
        )

    def strike(self, dataset: str, key: str, run_id: str) -> set[str]:
        """
        Strike out an object that was removed from the landing zone for good, with all its versions.

        Returns:
            The processed days touched.
        """
        touched: set[str] = set()
        with self.writing() as connection:
            rows = self._objects(connection, "dataset = ? and key = ? and is_current = 1", dataset, key)
            connection.execute("delete from objects where dataset = ? and key = ?", (dataset, key))
            for row in rows:
                for file_id in (row.file_id, row.quarantine_file_id):
                    if file_id is not None:
                        connection.execute("insert or ignore into exclusions values (?, ?)", (file_id, key))
                if row.state == "loaded":
                    touched |= self._weigh(connection, row, -1)
                self._release_twins(connection, row, run_id)
            changed = [row for row in rows if row.shard is not None]
            if changed:
                touched |= self._settle(connection, dataset, changed, set(), run_id)[0]
            self._drop_files_without_rows(connection, dataset)
        return touched

    def replace_files(
        self, formers: Sequence[FileRow], table: str, role: str, file: StoredFile | None, run_id: str
    ) -> None:
        """
        Put a file with the same rows, but for those of objects that are excluded, in the place of some of raw's.

        Args:
            formers: in use, of one day.
            table: `raw.<dataset>`.
            role: `rows` or `quarantine`.
            file: the other one; None: no row is left.

        Raises:
            Conflict: a file isn't what it was any more.
        """
        column = "file_id" if role == "rows" else "quarantine_file_id"
        day = formers[0].day
        with self.writing() as connection:
            for former in formers:
                if self._files(connection, "file_id = ? and dropped_at is null", former.file_id) != [former]:
                    raise Conflict(former.path)
            new = self._put_file(connection, table, day, role, file, run_id) if file is not None else None
            marks = ", ".join("?" * len(formers))
            ids = [former.file_id for former in formers]
            for row in self._objects(
                connection,
                f"dataset = ? and day = ? and is_current = 1 and {column} in ({marks})",
                table.partition(".")[2],
                day,
                *ids,
            ):
                self._put_object(
                    connection,
                    replace(row, file_id=new) if role == "rows" else replace(row, quarantine_file_id=new),
                )
            if new is not None:
                connection.execute(
                    f"insert or ignore into file_days select distinct ?, day from file_days where file_id in ({marks})",
                    (new, *ids),
                )
            for former in formers:
                self._drop_file(connection, former.file_id)

    def touch(self, rows: Iterable[tuple[ObjectRow, str, str]]) -> None:
        """Note new tokens and landing times of objects whose content is what it was."""
        with self.writing() as connection:
            for row, token, landed_at in rows:
                current = self._objects(connection, "dataset = ? and key = ? and is_current = 1", row.dataset, row.key)
                if current and current[0].version == row.version:
                    self._put_object(connection, replace(current[0], token=token, landed_at=landed_at))

    # --- files and days

    def files(
        self, table: str, *, role: str = "rows", first: date | None = None, last: date | None = None
    ) -> list[FileRow]:
        """The files that make up a table, by day."""
        where = "table_name = ? and role = ? and dropped_at is null and day >= ? and day <= ?"
        with self.reading() as connection:
            return self._files(
                connection,
                where,
                table,
                role,
                first.isoformat() if first else "",
                last.isoformat() if last else "9999-12-31",
            )

    def raw_input(
        self, dataset: str, home: date, *, has_objects: bool = True
    ) -> tuple[list[FileRow], list[FileRow], list[ObjectRow], tuple[str, int, int]]:
        """
        What a processed day is made of, seen in one state.

        Args:
            has_objects: whether objects are asked for; a day may have tens of thousands.

        Returns:
            Files of raw rows; files of records that couldn't be read (of the key's day); the loaded objects of the key's day;
            digest, rows and unread records of the processed day.
        """
        iso = home.isoformat()
        with self.reading() as connection:
            rows = self._files(
                connection,
                "dropped_at is null and role = 'rows' and table_name = ? and file_id in (select file_id from file_days where day = ?)",
                f"raw.{dataset}",
                iso,
            )
            unread = self._files(
                connection,
                "dropped_at is null and role = 'quarantine' and table_name = ? and day = ?",
                f"raw.{dataset}",
                iso,
            )
            wanted = "dataset = ? and day = ? and is_current = 1 and state = 'loaded' order by key"
            objects = self._objects(connection, wanted, dataset, iso) if has_objects else []
            found = connection.execute(
                "select digest, rows, rows_unread from raw_days where dataset = ? and day = ?", (dataset, iso)
            )
            digest, total, total_unread = found.fetchone() or ("0", 0, 0)
        return rows, unread, objects, (digest, total, total_unread)

    def raw_days(self, dataset: str) -> dict[date, str]:
        """Processed day → digest of what raw holds for it."""
        with self.reading() as connection:
            rows = connection.execute("select day, digest from raw_days where dataset = ? order by day", (dataset,))
            return {self.date_of(day): digest for day, digest in rows}

    def object_days(self, dataset: str) -> list[date]:
        """Days of the keys of all objects the ledger knows."""
        with self.reading() as connection:
            rows = connection.execute(
                "select distinct day from objects where dataset = ? and is_current = 1 order by day", (dataset,)
            )
            return [self.date_of(day) for (day,) in rows]

    def newest_object_day(self, dataset: str) -> date | None:
        """The last day that an object is known of."""
        with self.reading() as connection:
            found = connection.execute(
                "select max(day) from objects where dataset = ? and is_current = 1", (dataset,)
            ).fetchone()
        return date.fromisoformat(found[0]) if found[0] else None

    def rows_by_day(self, dataset: str, first: date, last: date) -> list[int]:
        """Rows in raw of each day that has objects, oldest first."""
        with self.reading() as connection:
            rows = connection.execute(
                "select sum(rows_loaded) from objects"
                " where dataset = ? and is_current = 1 and day >= ? and day <= ? group by day order by day",
                (dataset, first.isoformat(), last.isoformat()),
            )
            return [int(count) for (count,) in rows]

    # --- partitions

    def partition(self, table: str, day: date | None) -> PartitionRow | None:
        """A computed partition, or None when it never was."""
        found = self.partitions(table, day.isoformat() if day else NO_DAY, day.isoformat() if day else NO_DAY)
        return found[0] if found else None

    def partitions(self, table: str, first: str = "", last: str = "9999-12-31") -> list[PartitionRow]:
        """The computed partitions of a table, by day."""
        with self.reading() as connection:
            rows = connection.execute(
                "select * from partitions where table_name = ? and day >= ? and day <= ? order by day",
                (table, first, last),
            )
            found = []
            for row in rows:
                values = tuple(row[name] for name in PARTITION_COLUMNS)
                self.check_seal(row, values, f"{table} {row['day']}")
                found.append(PartitionRow(*values))
        return found

    def partition_as_of(self, table: str, day: date) -> PartitionRow | None:
        """
        The newest computed partition that has rows and isn't later than *day*.

        A list that didn't come, or came empty, doesn't make everything that refers to it wrong: the last one that says anything holds.
        """
        with self.reading() as connection:
            row = connection.execute(
                "select max(day) from partitions where table_name = ? and day <= ? and rows > 0",
                (table, day.isoformat()),
            ).fetchone()
            return self.partition(table, date.fromisoformat(row[0])) if row[0] else None

    def last_day_before(self, tables: Sequence[str], day: date, first: date) -> date | None:
        """The last day before *day*, from *first* on, of which any of these tables has a partition, with rows or without."""
        with self.reading() as connection:
            row = connection.execute(
                f"select max(day) from partitions where table_name in ({', '.join('?' * len(tables))}) and day >= ? and day < ?",
                (*tables, first.isoformat(), day.isoformat()),
            ).fetchone()
        return date.fromisoformat(row[0]) if row[0] else None

    def partition_files(self, rows: Sequence[PartitionRow]) -> list[FileRow]:
        """The files of these partitions, in their order."""
        with self.reading() as connection:
            found: dict[int, FileRow] = {}
            for row in rows:
                for file in self._files(connection, "file_id = ?", row.file_id):
                    found[file.file_id] = file
        return [found[row.file_id] for row in rows]

    def quarantine_files(self, rows: Sequence[PartitionRow]) -> list[FileRow]:
        """The files of these partitions' quarantined rows, as far as they have any."""
        with self.reading() as connection:
            return [file for row in rows for file in self._files(connection, "file_id = ?", row.quarantine_file_id)]

    def reading_pace(self, dataset: str) -> tuple[int, float]:
        """Bytes of objects that loads of the past have read, and in how many seconds, as far as their entries tell."""
        with self.reading() as connection:
            # The moments of a load's entries are those at which each object had been read. A run loads a day once; what came by
            # hand, or by a worker, is of the same load when it came within a second.
            found = connection.execute(
                "select sum(size_bytes), sum(seconds) from (select size_bytes, run_id, (julianday(decided_at)"
                " - lag(julianday(decided_at)) over (partition by day, run_id order by decided_at, key)) * 86400 as seconds"
                " from objects where dataset = ? and is_current = 1 and file_id is not null)"
                " where seconds <= case when run_id = '' then 1 else 60 end",
                (dataset,),
            ).fetchone()
        return int(found[0] or 0), float(found[1] or 0)

    def computing_pace(self) -> dict[str, float]:
        """Table → about how many seconds one of its partitions took to compute, as far as their moments tell."""
        with self.reading() as connection:
            found = connection.execute(
                "select table_name, avg(seconds) from (select table_name, run_id, lag(run_id) over latest as former,"
                " (julianday(computed_at) - julianday(lag(computed_at) over latest)) * 86400 as seconds"
                " from partitions window latest as (order by computed_at)) where run_id = former and seconds < 60 group by 1"
            ).fetchall()
        return dict(found)

    def commit_partition(
        self,
        table: str,
        day: date | None,
        *,
        inputs: str,
        content: str,
        file: StoredFile,
        quarantine_file: StoredFile | None,
        details: Mapping[str, Any],
        run_id: str,
        inputs_now: Callable[[], str],
        along: Along = nothing,
    ) -> PartitionRow:
        """
        Put a computed partition in the place of the former one.

        Args:
            inputs: digest of what it was computed from.
            inputs_now: what that digest is now; called inside the transaction.
            along: what else is to be noted in the transaction.

        Raises:
            Conflict: the inputs have changed meanwhile; compute again.
        """
        iso = day.isoformat() if day else NO_DAY
        with self.writing() as connection:
            if inputs_now() != inputs:
                raise Conflict(f"{table} {iso}")
            # A table that now has days, or no longer has any, leaves the other kind behind.
            others = self.partitions(table, NO_DAY, NO_DAY) if iso else self.partitions(table, "0")
            for former in [*self.partitions(table, iso, iso), *others]:
                self._drop_file(connection, former.file_id)
                self._drop_file(connection, former.quarantine_file_id)
                connection.execute("delete from partitions where table_name = ? and day = ?", (table, former.day))
            file_id = self._put_file(connection, table, iso, "rows", file, run_id)
            quarantine_id = (
                self._put_file(connection, table, iso, "quarantine", quarantine_file, run_id)
                if quarantine_file
                else None
            )
            row = PartitionRow(
                table,
                iso,
                inputs,
                content,
                file.rows,
                json.dumps(details, sort_keys=True),
                file_id,
                quarantine_id,
                now(),
                run_id,
            )
            self._put_partition(connection, row)
            along(connection, row)
        return row

    def relabel_partition(
        self,
        former: PartitionRow,
        *,
        inputs: str,
        details: Mapping[str, Any],
        run_id: str,
        inputs_now: Callable[[], str],
        along: Along = nothing,
    ) -> PartitionRow:
        """
        Say something else of a partition whose rows stay as they are.

        Args:
            former: as it was found.
            inputs: as `commit_partition` takes them, and the rest too.

        Raises:
            Conflict: it isn't as it was found, or the inputs have changed meanwhile.
        """
        with self.writing() as connection:
            if inputs_now() != inputs or former not in self.partitions(former.table_name, former.day, former.day):
                raise Conflict(f"{former.table_name} {former.day}")
            row = replace(
                former,
                inputs=inputs,
                details=json.dumps(details, sort_keys=True),
                computed_at=now(),
                run_id=run_id,
            )
            self._put_partition(connection, row)
            along(connection, row)
        return row

    def _put_partition(self, connection: sqlite3.Connection, row: PartitionRow) -> None:
        values = tuple(getattr(row, name) for name in PARTITION_COLUMNS)
        connection.execute(
            f"insert or replace into partitions ({', '.join(PARTITION_COLUMNS)}, seal) values ({', '.join('?' * 11)})",
            (*values, seal(values)),
        )

    # --- housekeeping

    def known_paths(self, paths: Sequence[str]) -> set[str]:
        """Those of *paths* that the ledger has a file for."""
        with self.reading() as connection:
            return {
                path
                for path in paths
                if connection.execute("select 1 from files where path = ?", (path,)).fetchone() is not None
            }

    def dropped(self, before: datetime) -> list[str]:
        """Paths of files that left their table before that moment."""
        with self.reading() as connection:
            rows = connection.execute(
                "select path from files where dropped_at is not null and dropped_at < ?", (before.isoformat(),)
            )
            return [path for (path,) in rows]

    def dropped_all(self) -> list[str]:
        """Paths of all files that left their table and aren't struck out yet."""
        with self.reading() as connection:
            return [path for (path,) in connection.execute("select path from files where dropped_at is not null")]

    def forget(self, paths: Sequence[str]) -> None:
        """Strike out files that left their table and have been deleted."""
        if not paths:
            return
        with self.writing() as connection:
            for path in paths:
                of_it = "file_id = (select file_id from files where path = ? and dropped_at is not null)"
                connection.execute(f"delete from exclusions where {of_it}", (path,))
                connection.execute(f"delete from file_days where {of_it}", (path,))
                connection.execute("delete from files where path = ? and dropped_at is not null", (path,))

    def everything(self) -> tuple[list[ObjectRow], list[FileRow], list[PartitionRow]]:
        """All objects (every version), all files in use, all partitions: each row's seal is checked on the way."""
        with self.reading() as connection:
            problems = [row[0] for row in connection.execute("pragma integrity_check(5)")]
            if problems != ["ok"]:
                raise self.damaged(sqlite3.DatabaseError("; ".join(problems)))
            objects = self._objects(connection, "true order by dataset, key, first_seen_at, version")
            files = self._files(connection, "dropped_at is null")
            tables = [name for (name,) in connection.execute("select distinct table_name from partitions order by 1")]
            return objects, files, [row for table in tables for row in self.partitions(table)]

    def contradictions(self, objects: Sequence[ObjectRow]) -> list[str]:
        """
        Where the tables that follow from the objects (days, exclusions) aren't what follows from them.

        Args:
            objects: as `everything` gives them.
        """
        expected: dict[tuple[str, str], tuple[int, int, int]] = {}
        homes: set[tuple[int, str]] = set()
        standing: set[tuple[int, str]] = set()
        for row in objects:
            if not row.is_current or row.state != "loaded":
                continue
            for home, (identity, rows, unread) in weights(row).items():
                before = expected.get((row.dataset, home), (0, 0, 0))
                expected[row.dataset, home] = (before[0] ^ identity, before[1] + rows, before[2] + unread)
            if row.file_id is not None:
                homes |= {(row.file_id, home) for home in row.days}
            standing |= {(file_id, row.key) for file_id in (row.file_id, row.quarantine_file_id) if file_id is not None}
        found = list(overlaps(objects))
        with self.reading() as connection:
            days = {
                (dataset, day): (digest, rows, unread)
                for dataset, day, digest, rows, unread in connection.execute(
                    "select dataset, day, digest, rows, rows_unread from raw_days"
                )
            }
            known = {tuple(row) for row in connection.execute("select file_id, day from file_days")}
            excluded = {tuple(row) for row in connection.execute("select file_id, key from exclusions")}
        for dataset, day in sorted({*expected, *days}):
            identity, rows, unread = expected.get((dataset, day), (0, 0, 0))
            digest, rows_there, unread_there = days.get((dataset, day), ("0", 0, 0))
            if (f"{identity:064x}", rows, unread) != (digest.zfill(64), rows_there, unread_there):
                found.append(f"what it says of raw.{dataset} for {day} isn't the sum of its objects")
        found += [f"file {file_id} has rows of {day}, and it doesn't know" for file_id, day in sorted(homes - known)]
        found += [f"it leaves {key} out of file {file_id}" for file_id, key in sorted(standing & excluded)]
        return found
