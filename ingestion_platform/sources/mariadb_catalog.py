"""
What a capture asks MariaDB's catalog: whether its log can be read row by row, and what tables and log files there are.

Belongs here: SQL, and what is said where something isn't as it must be, with the statement that mends it. Doesn't: connecting
(`mariadb_client.py`), when what is asked (`mariadb.py`).
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from ingestion_platform.errors import SourceError
from ingestion_platform.sources import mariadb_values as values
from ingestion_platform.sources.mariadb_changes import number_of
from ingestion_platform.sources.mariadb_client import Connection, quoted

OLDEST_VERSION = (10, 5)
"""Since then the log can say the names of columns (binlog_row_metadata)."""
_SETTINGS = {
    "binlog_format": ("ROW", "the log would have statements, and not the rows that they have changed"),
    "binlog_row_metadata": ("FULL", "the log wouldn't say names and types of columns"),
    "binlog_row_image": ("FULL", "the log wouldn't have the values of columns that a statement doesn't name"),
}
"""Variable → what it must be, and what were otherwise."""
TRANSACTIONAL = ("InnoDB", "ROCKSDB")
"""Engines whose tables can be read as of a moment."""
_MARIA_COMMENT = "mariadb-5.3"


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column as the catalog has it: its name, its type's name, and that of the character set or none."""

    name: str
    type: str
    charset: str | None


@dataclass(frozen=True, slots=True)
class Table:
    """
    A table as the database has it.

    Args:
        name: `database.table`.
        columns: in order.
        key: columns of its primary key, in its order; empty without one.
        rows: about how many it has.
    """

    name: str
    columns: tuple[TableColumn, ...]
    key: tuple[str, ...]
    rows: int


@dataclass(frozen=True, slots=True)
class LogFile:
    """A file of the log: its name, the number at the end of that, and its size."""

    name: str
    number: int
    size_bytes: int


def check_server(connection: Connection, tables: Sequence[str]) -> None:
    """
    Look whether the server writes a log that has everything of the tables.

    Raises:
        SourceError: it doesn't; the hint says what to set.
    """
    where = connection.where
    if (version := version_of(connection)) < OLDEST_VERSION:
        raise SourceError(
            f"{where} is MariaDB {version[0]}.{version[1]}, and only 10.5 or later can be captured",
            "capture it after an upgrade",
        )
    if not connection.one("select @@log_bin"):
        raise SourceError(
            f"{where} writes no binary log", "put log_bin and server_id into the server's configuration, and restart it"
        )
    for variable, (wanted, otherwise) in _SETTINGS.items():
        found = str(connection.one(f"select @@global.{variable}"))
        if found.upper() != wanted:
            raise SourceError(
                f"{where}: {variable} is {found}: {otherwise}",
                f"set global {variable} = {wanted}; and put it into the server's configuration. Sessions that are open keep what they had",
            )
    if int(connection.one("select @@global.server_id") or 0) == 0:
        raise SourceError(
            f"{where}: server_id is 0, and such a server gives nobody its log", "set global server_id = 1"
        )
    (_, _, only, left_out), *_ = connection.rows("show master status")
    for table in tables:
        database = table.split(".")[0]
        if (only and database not in only.split(",")) or database in left_out.split(","):
            raise SourceError(
                f"{where}: the log leaves database {database!r} out (binlog_do_db, binlog_ignore_db)",
                "mend that in the server's configuration, and restart it",
            )
    status = dict(connection.rows("show global status like 'Slaves_running'"))
    if int(status.get("Slaves_running", 0)) and not connection.one("select @@global.log_slave_updates"):
        raise SourceError(
            f"{where} is a replica, and its own log doesn't have what it replicates",
            "put log_slave_updates into its configuration, and restart it; or name the primary's host",
        )


def version_of(connection: Connection) -> tuple[int, ...]:
    """The server's version, as in (10, 11)."""
    return tuple(int(part) for part in str(connection.one("select version()")).split("-")[0].split(".")[:2])


def _kind(connection: Connection, database: str, table: str) -> list[Any]:
    """A table's engine and kind, in a list that is empty when there is no such table."""
    return connection.rows(
        "select engine, table_type from information_schema.tables"
        " where table_schema = %s and table_name = %s and engine is not null",
        database,
        table,
    )


def check_tables(connection: Connection, tables: Iterable[str]) -> None:
    """
    Look whether everything that happens to the tables is in the log, and can be understood.

    Raises:
        SourceError: a table isn't there, or isn't so.
    """
    where = connection.where
    for table in tables:
        database, name = table.split(".")
        found = _kind(connection, database, name)
        if not found:
            # TRUNCATE drops a table and makes it anew: whoever reads it waits for that, and whoever asks for its kind doesn't.
            with contextlib.suppress(SourceError):
                connection.rows(f"select 1 from {quoted(table)} limit 0")
            found = _kind(connection, database, name)
        if not found or found[0][1] not in ("BASE TABLE", "SYSTEM VERSIONED"):
            raise SourceError(
                f"{where} has no table {table!r}, or it mayn't be read",
                "check its name: database.table, in the database's own spelling",
            )
        engine, kind = found[0]
        if kind == "SYSTEM VERSIONED":
            raise SourceError(
                f"{where}: table {table!r} is system-versioned: the log has its former rows too, as if they were there",
                "leave it out",
            )
        if engine not in TRANSACTIONAL:
            raise SourceError(
                f"{where}: table {table!r} is one of {engine}, which has no transactions: what it held at a moment can't be told",
                f"alter table {quoted(table)} engine = InnoDB",
            )
        cascading = connection.rows(
            "select constraint_name, update_rule, delete_rule from information_schema.referential_constraints where constraint_schema = %s"
            " and table_name = %s and (update_rule in ('CASCADE', 'SET NULL') or delete_rule in ('CASCADE', 'SET NULL'))",
            database,
            name,
        )
        if cascading:
            constraint, on_update, on_delete = cascading[0]
            raise SourceError(
                f"{where}: rows of {table!r} change with those of another table by its foreign key {constraint!r}"
                f" (on update {on_update}, on delete {on_delete}), and MariaDB writes nothing of that to its log",
                "make the constraint restrict, and do with a trigger what it did: the log has what triggers do; or leave the table out",
            )


def check_columns(connection: Connection, tables: Iterable[str]) -> None:
    """
    Look whether the values of the tables' columns can be understood; what comes by the log later is told when it comes.

    Raises:
        SourceError: a column's can't.
    """
    where = connection.where
    for table in tables:
        database, name = table.split(".")
        for column, type_ in connection.rows(
            "select column_name, column_type from information_schema.columns where table_schema = %s and table_name = %s",
            database,
            name,
        ):
            if "COMPRESSED" in type_:
                raise SourceError(
                    f"{where}: column {column!r} of {table!r} is {type_}", values.hint_of(values.VARCHAR_COMPRESSED)
                )
            if _MARIA_COMMENT in type_:
                raise SourceError(
                    f"{where}: column {column!r} of {table!r} is {type_}", values.hint_of(values.DATETIME)
                )


def described(connection: Connection, table: str) -> Table:
    """
    A table's columns, key and size.

    Raises:
        SourceError: it isn't there.
    """
    database, name = table.split(".")
    columns = connection.rows(
        "select column_name, data_type, character_set_name from information_schema.columns"
        " where table_schema = %s and table_name = %s order by ordinal_position",
        database,
        name,
    )
    if not columns:
        raise SourceError(
            f"{connection.where} has no table {table!r}",
            "check its name: database.table, in the database's own spelling",
        )
    key = connection.rows(
        "select column_name from information_schema.statistics where table_schema = %s and table_name = %s and index_name = 'PRIMARY'"
        " order by seq_in_index",
        database,
        name,
    )
    count = connection.one(
        "select table_rows from information_schema.tables where table_schema = %s and table_name = %s", database, name
    )
    return Table(
        table,
        tuple(TableColumn(column, type_.lower(), charset) for column, type_, charset in columns),
        tuple(one for (one,) in key),
        int(count or 0),
    )


def try_lock(connection: Connection, name: str) -> bool:
    """Take the lock of a capture for as long as the connection lasts; whether nobody else holds it."""
    number = hashlib.sha256(f"ingestion_platform capture {name}".encode()).hexdigest()[:32]
    return int(connection.one("select get_lock(%s, 0)", number) or 0) == 1


def end_of_log(connection: Connection) -> tuple[str, int]:
    """The name of the file that is written to now, and how long it is: whatever has been committed is before that."""
    file, offset, *_ = connection.rows("show master status")[0]
    return str(file), int(offset)


def log_files(connection: Connection) -> list[LogFile]:
    """The files of the log that are still there, in order."""
    return [LogFile(name, number_of(name), int(size)) for name, size, *_ in connection.rows("show binary logs")]


def now(connection: Connection) -> datetime:
    """The database's clock."""
    found = connection.one("select now(6)")
    assert isinstance(found, datetime)
    return found.replace(tzinfo=UTC)


def spelling(connection: Connection) -> Callable[[str], str]:
    """What makes one of the names that the server takes for the same."""
    return str.casefold if int(connection.one("select @@lower_case_table_names")) else str


class Asked:
    """
    What the log doesn't say, asked of the database; see `mariadb_changes.Catalog`.

    Args:
        connection: that nobody else uses at the same time.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @cached_property
    def _collations(self) -> dict[int, str]:
        # Since 10.10 some collations are of several character sets, with a number for each.
        place = "collations" if version_of(self._connection) < (10, 10) else "collation_character_set_applicability"
        found = self._connection.rows(f"select id, character_set_name from information_schema.{place}")
        return {int(number): str(charset) for number, charset in found if number is not None and charset is not None}

    def charset_of(self, collation: int) -> str:
        """See `Catalog`."""
        try:
            return self._collations[collation]
        except KeyError:
            raise SourceError(
                f"{self._connection.where}: the log has a text of collation number {collation}, which the database doesn't know",
                "",
            ) from None

    def characters_of(self, charset: str) -> str:
        """See `Catalog`."""
        if not charset.isidentifier():
            return ""
        told = self._connection.one(f"select hex(convert(_{charset} x'{bytes(range(256)).hex()}' using utf32))")
        return bytes.fromhex(str(told)).decode("utf-32-be", "replace")

    def shown_as(self, table: str, column: str) -> str:
        """See `Catalog`."""
        database, name = table.split(".")
        found = self._connection.one(
            "select data_type from information_schema.columns where table_schema = %s and table_name = %s and column_name = %s",
            database,
            name,
            column,
        )
        return str(found) if found in ("uuid", "inet6", "inet4") else ""

    def check(self, tables: Iterable[str]) -> None:
        """See `Catalog`."""
        check_tables(self._connection, tables)
