"""
The ledger's file: SQLite in WAL mode, so that any number of readers get along with one writer, and a kill at any moment leaves it whole.

Belongs here: the connection, transactions, waiting for other processes, seals, and words for damage. Doesn't: what its tables are for
(`ledger.py`, `places.py`, and whoever else keeps a table here: each has its own schema).
"""

import hashlib
import logging
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from ingestion_platform.errors import WarehouseBusy, WarehouseDamaged, WarehouseError
from ingestion_platform.warehouse.files import REBUILD
from ingestion_platform.warehouse.waiting import holder_of

log = logging.getLogger(__name__)

T = TypeVar("T")

META = """
create table if not exists meta (name text primary key, value integer not null) strict, without rowid;
insert or ignore into meta values ('schema', 0), ('commits', 0);
"""


def now() -> str:
    """The moment in UTC, as the ledger writes it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def seal(values: Iterable[object]) -> str:
    """What tells a row that was written from one that a fault has changed; SQLite itself has no checksums."""
    return hashlib.blake2b(repr(tuple(values)).encode(), digest_size=8).hexdigest()


_BROKEN = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What Python raises of a broken file; the second when SQLite's own message about it is no UTF-8."""


def _code(error: Exception) -> int:
    """SQLite's primary result code. Text that is no UTF-8 is found by Python, which gives none: that is damage."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)) & 0xFF


class LedgerFile:
    """
    The file. One connection, shared by this process's threads.

    Args:
        path: of the SQLite file; made when first asked.
        schemas: of its tables, each `create … if not exists`; a file of another schema gets what it lacks.
        patience_seconds: how long a transaction waits for another process before it gives up.
    """

    def __init__(self, path: Path, schemas: Sequence[str], *, patience_seconds: float = 600.0) -> None:
        self.path = path
        self._schema = "".join((META, *schemas))
        self._schema_number = zlib.crc32(self._schema.encode())
        self._patience = patience_seconds
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.RLock()

    # --- reaching it

    @property
    def exists(self) -> bool:
        """Whether anything was ever committed here."""
        return self.path.exists()

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=2.0, isolation_level=None, check_same_thread=False)
            connection.row_factory = sqlite3.Row
            try:
                # Looked for first: another process makes the schema before it writes the first file.
                has_files = self._has_files()
                self._patiently(lambda: connection.execute("pragma journal_mode = wal"))
                connection.execute("pragma synchronous = full")
                found = self._patiently(lambda: self._schema_there(connection))
                if found is not None:
                    self._patiently(lambda: self._require_columns(connection, found))
                if found != self._schema_number:
                    if found is None and has_files:
                        raise sqlite3.DatabaseError("it is empty, though files of tables stand beside it")
                    self._patiently(lambda: self._make_schema(connection))
            except WarehouseDamaged:
                connection.close()
                raise
            except _BROKEN as error:
                connection.close()
                raise self.damaged(error) from error
            self._connection = connection
        return self._connection

    def _has_files(self) -> bool:
        """Whether a table has a file, so that there was a ledger once."""
        return next((self.path.parent / "tables").glob("*/*/*/*.parquet"), None) is not None

    def _require_columns(self, connection: sqlite3.Connection, number: int) -> None:
        """See that no table lacks a column: it can't be given one, since what would stand in its rows isn't known."""
        with closing(sqlite3.connect(":memory:")) as wanted:
            wanted.executescript(self._schema)
            tables = [name for (name,) in wanted.execute("select name from sqlite_master where type = 'table'")]
            for table in tables:
                ours, theirs = (
                    {row[1] for row in found.execute(f"pragma table_info({table})")} for found in (wanted, connection)
                )
                # One that isn't there is made where the schema is another one.
                if ours - theirs and (theirs or number == self._schema_number):
                    is_other = number != self._schema_number
                    what = "is that of another version of the platform" if is_other else "is damaged"
                    raise WarehouseDamaged(
                        f"the ledger {self.path} {what}: its table {table} has no {', '.join(sorted(ours - theirs))}",
                        f"`{REBUILD}` makes the warehouse anew from the landing zone",
                    )

    def _make_schema(self, connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            # A former attempt that had to wait in the middle of it.
            connection.execute("rollback")
        noted = f"update meta set value = {self._schema_number} where name = 'schema';"
        connection.executescript(f"begin immediate; {self._schema} {noted} commit;")

    @staticmethod
    def _schema_there(connection: sqlite3.Connection) -> int | None:
        """The number of the schema that the file has; None when it has none."""
        if connection.execute("select 1 from sqlite_master where name = 'meta'").fetchone() is None:
            return None
        row = connection.execute("select value from meta where name = 'schema'").fetchone()
        return int(row[0]) if row is not None else 0

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _patiently(self, act: Callable[[], T]) -> T:
        began = time.monotonic()
        while True:
            try:
                return act()
            except sqlite3.OperationalError as error:
                if _code(error) not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                    raise
                waited = time.monotonic() - began
                holder = holder_of(self.path)
                if waited > self._patience:
                    raise WarehouseBusy(
                        f"the ledger {self.path} has been held by {holder} for {waited:,.0f} s",
                        "end that process, or its transaction; nothing was lost, run again",
                    ) from error
                log.warning("waiting for the ledger %s, held by %s (%.0f s so far)", self.path, holder, waited)

    def damaged(self, error: Exception) -> Exception:
        """What an error of SQLite means, with what helps."""
        code = _code(error)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return WarehouseBusy(
                f"the ledger {self.path} is held by {holder_of(self.path)}: {error}", "nothing was lost, run again"
            )
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            return WarehouseError(
                f"the ledger {self.path} can't be written: {error}", "is the disk full, or the folder read-only?"
            )
        return WarehouseDamaged(
            f"the ledger {self.path} is damaged: {error}", f"`{REBUILD}` makes the warehouse anew from the landing zone"
        )

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Several queries that see one state."""
        with self._lock:
            connection = self._connect()
            try:
                if connection.in_transaction:
                    yield connection
                    return
                connection.execute("begin")
                try:
                    # The state that all of them see is taken by the first, which may have to wait for somebody's recovery.
                    self._patiently(lambda: connection.execute("select 1 from meta").fetchone())
                    yield connection
                finally:
                    self._end(connection)
            except _BROKEN as error:
                raise self.damaged(error) from error

    @staticmethod
    def _end(connection: sqlite3.Connection) -> None:
        """Let go of the state that was read, unless an error has done so."""
        if connection.in_transaction:
            connection.execute("commit")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it, or nothing."""
        with self._lock:
            connection = self._connect()
            try:
                self._patiently(lambda: connection.execute("begin immediate"))
                try:
                    yield connection
                    connection.execute("update meta set value = value + 1 where name = 'commits'")
                    connection.execute("commit")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("rollback")
                    raise
            except _BROKEN as error:
                raise self.damaged(error) from error

    def commits(self) -> int:
        """How many transactions this ledger has seen: a number that grows with every change."""
        with self.reading() as connection:
            row = connection.execute("select value from meta where name = 'commits'").fetchone()
            if row is None:
                raise self.damaged(sqlite3.DatabaseError("the count of its commits is gone"))
            return int(row[0])

    def scrub(self) -> None:
        """Leave nothing in the file of rows that are gone: all of it is written anew, and the log beside it is emptied."""
        with self._lock:
            connection = self._connect()
            try:
                self._patiently(lambda: connection.execute("vacuum"))
                self._patiently(lambda: connection.execute("pragma wal_checkpoint(truncate)").fetchall())
            except _BROKEN as error:
                raise self.damaged(error) from error

    def copy_to(self, target: Path) -> None:
        """
        Copy the file in one committed state, whoever is writing meanwhile. Nothing in it changes, and nobody waits for it.

        Args:
            target: of the copy; nothing is there yet.
        """
        place = f"file:{quote(str(self.path.absolute()))}"
        # Who opens it for writing takes what a killed process left into the file when he closes it; who opens it for reading alone
        # leaves two empty files behind where there were none.
        is_open = self.path.with_name(self.path.name + "-wal").exists()
        how = "ro" if is_open else "rw"
        if not os.access(self.path.parent, os.W_OK):
            how = "ro" if is_open else "ro&immutable=1"
        try:
            with (
                closing(sqlite3.connect(f"{place}?mode={how}", uri=True, timeout=2.0)) as source,
                closing(sqlite3.connect(target)) as copy,
            ):
                self._patiently(lambda: source.backup(copy))
        except _BROKEN as error:
            raise self.damaged(error) from error

    # --- what it holds

    def check_seal(self, row: sqlite3.Row, values: tuple[object, ...], what: str) -> None:
        """Hold a row against the seal that was put on it when it was written."""
        if seal(values) != row["seal"]:
            raise WarehouseDamaged(
                f"the ledger {self.path} is damaged: the entry of {what} isn't what was written",
                f"`{REBUILD}` makes the warehouse anew from the landing zone",
            )

    def date_of(self, day: str) -> date:
        """The day that a text of the file says."""
        try:
            return date.fromisoformat(day)
        except ValueError as error:
            raise self.damaged(sqlite3.DatabaseError(f"{day!r} is no day")) from error
