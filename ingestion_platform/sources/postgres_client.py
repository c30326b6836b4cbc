"""
Connections to PostgreSQL, and what a capture asks and makes there: its publication, its slot, what tables there are.

Belongs here: SQL of the catalog, and errors in words that help. Doesn't: the log's messages (`postgres_changes.py`), when what is asked
(`postgres.py`).
"""

import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from ingestion_platform.errors import SettingsError, SourceError, SourceUnavailable, StreamGap
from ingestion_platform.sources.captured import BEGIN_ANEW
from ingestion_platform.sources.postgres_changes import parse_lsn

_WRITTEN_ALIKE = (
    "-c DateStyle=ISO,YMD -c TimeZone=UTC -c IntervalStyle=iso_8601 -c extra_float_digits=3 -c bytea_output=hex"
    " -c lc_monetary=C -c search_path=pg_catalog -c xmloption=content -c quote_all_identifiers=off"
    " -c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
)
"""
So that a value's text depends on the value alone, whatever the server, the database or the user are set to; and so that the server notices
within a minute that a machine is gone, and lets go of its slot.
"""

_REFUSED = re.compile(
    "authentication failed|no pg_hba.conf entry|does not exist|permission denied|role attribute|not permitted|no password supplied"
    "|SSL|certificate|must be superuser|password is required"
)
_CONNECT_SECONDS = 20
_OUR_KEYWORDS = ("options", "replication", "client_encoding", "application_name")


@dataclass(frozen=True, slots=True)
class Table:
    """
    A table as the database has it.

    Args:
        name: `schema.table`.
        columns: those that its changes have, in order.
        key: columns of its primary key, or of the index that is its replica identity; empty without one.
        pages: how large it is, roughly.
        only: SQL of the rows that are published; None: all.
    """

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    pages: int
    only: str | None


@dataclass(frozen=True, slots=True)
class Slot:
    """
    A replication slot.

    Args:
        confirmed: up to where its log has been confirmed; None when it is invalid.
        is_lost: the log that it needs is gone.
        why: what the database says of that.
        kept_bytes: of the log, that are kept because of it.
    """

    confirmed: int | None
    is_lost: bool
    why: str
    kept_bytes: int


def conninfo(properties: Mapping[str, str], where: str) -> str:
    """
    The connection string of libpq.

    Args:
        properties: by libpq's keywords.
        where: as messages call the database.

    Raises:
        SettingsError: one of them isn't one, or is the platform's own.
    """
    for name in _OUR_KEYWORDS:
        if name in properties:
            raise SettingsError(
                f"the file of INGESTION_DATABASES: {where} has {name!r}", "the platform sets it itself: leave it out"
            )
    try:
        return make_conninfo(
            **{"connect_timeout": str(_CONNECT_SECONDS), "keepalives_idle": "30", **properties},
            options=_WRITTEN_ALIKE,
            client_encoding="UTF8",
            application_name="ingestion_platform",
        )
    except psycopg.Error as error:
        # libpq names the keyword, and never a value.
        raise SettingsError(
            f"the file of INGESTION_DATABASES: {where}: {_line(error)}",
            "its names are libpq's: host, port, user, password, dbname, sslmode",
        ) from None


def connect(info: str, where: str, *, timeout_seconds: float = 0.0) -> "psycopg.Connection[Any]":
    """
    Connect, each statement a transaction of its own.

    Args:
        info: see `conninfo`.
        where: as messages call the database.
        timeout_seconds: of each statement; 0: none.

    Raises:
        SourceUnavailable: nobody answers.
        SourceError: whoever answers refuses.
    """
    with telling(where):
        connection = psycopg.connect(info, autocommit=True)
    with telling(where):
        connection.execute(f"set statement_timeout = {int(timeout_seconds * 1000)}")
        connection.execute("set lock_timeout = '10s'")
        connection.execute("set idle_in_transaction_session_timeout = 0")
    return connection


def connect_replication(info: str, where: str) -> "psycopg.Connection[Any]":
    """Connect to the log; only the simple protocol is spoken there. Errors as of `connect`."""
    with telling(where):
        return psycopg.connect(info, autocommit=True, replication="database")


@contextlib.contextmanager
def telling(where: str) -> Iterator[None]:
    """Errors of the client as the platform's own."""
    try:
        yield
    except psycopg.Error as error:
        raise as_ours(error, where) from error


def as_ours(error: psycopg.Error, where: str) -> SourceError:
    """An error of the client in words that help."""
    told = f"{where}: {_line(error)}"
    state = error.sqlstate
    if state in ("55006",):
        return SourceUnavailable(
            told, "another process reads this slot; when it is a killed one, the database notices within a minute"
        )
    if state == "53400" or "replication slots are in use" in told:
        return SourceError(told, "raise max_replication_slots, or drop slots that nobody reads (pg_replication_slots)")
    if state == "42501" or "permission denied" in told:
        return SourceError(
            told,
            "the user needs the attribute REPLICATION, SELECT on the tables, and to own the publication or the tables",
        )
    if "wal_level" in told:
        return SourceError(told, "set wal_level = logical in the server's configuration, and restart it")
    if state == "55000" and "slot" in told:
        return StreamGap(told, BEGIN_ANEW)
    if state is None or state[:2] in ("08", "53", "57", "40") or state == "55P03":
        if state is None and _REFUSED.search(told):
            return SourceError(told, "check user, password and database in the file of INGESTION_DATABASES")
        return SourceUnavailable(told, "is the database up, and reachable from here?")
    return SourceError(told, "")


def _line(error: psycopg.Error) -> str:
    return " ".join(str(error).split())[:500]


def rows(connection: "psycopg.Connection[Any]", query: LiteralString, *args: object) -> list[tuple[Any, ...]]:
    """The rows of a query."""
    return connection.execute(query, args).fetchall()


def try_lock(connection: "psycopg.Connection[Any]", name: str) -> bool:
    """Take the lock of a capture for as long as the connection lasts; whether nobody else holds it."""
    number = int.from_bytes(
        hashlib.sha256(f"ingestion_platform capture {name}".encode()).digest()[:8], "big", signed=True
    )
    return bool(rows(connection, "select pg_try_advisory_lock(%s)", number)[0][0])


def version(connection: "psycopg.Connection[Any]") -> int:
    """Of the server, as in 150004."""
    return connection.info.server_version


def end_of_log(connection: "psycopg.Connection[Any]") -> int:
    """Where the log ends now: whatever has been committed is before it."""
    return parse_lsn(rows(connection, "select pg_current_wal_insert_lsn()::text")[0][0])


def now(connection: "psycopg.Connection[Any]") -> datetime:
    """The database's clock."""
    found = rows(connection, "select clock_timestamp()")[0][0]
    assert isinstance(found, datetime)
    return found


def slot(connection: "psycopg.Connection[Any]", name: str) -> Slot | None:
    """A slot as it is; None when there is none."""
    found = rows(
        connection,
        "select confirmed_flush_lsn::text, wal_status, plugin, database = current_database(),"
        " coalesce(pg_current_wal_insert_lsn() - restart_lsn, 0)::bigint from pg_replication_slots where slot_name = %s",
        name,
    )
    if not found:
        return None
    confirmed, status, plugin, is_here, kept = found[0]
    why = ""
    if status == "lost":
        why = "the database needed the room: what it kept for the slot was more than max_slot_wal_keep_size"
    elif plugin != "pgoutput" or not is_here:
        why = f"it is one of plugin {plugin!r}, or of another database"
    elif confirmed is None:
        why = "it has never been read"
    return Slot(parse_lsn(confirmed) if confirmed else None, bool(why), why, int(kept))


def slots_of(connection: "psycopg.Connection[Any]", prefix: str) -> list[str]:
    """Slots of this database whose names are *prefix* and a number."""
    found = rows(connection, "select slot_name from pg_replication_slots where database = current_database()")
    return sorted(name for (name,) in found if re.fullmatch(f"{re.escape(prefix)}[0-9]+", name))


def drop_slot(connection: "psycopg.Connection[Any]", name: str) -> None:
    """Drop a slot."""
    connection.execute("select pg_drop_replication_slot(%s)", (name,))


def published(connection: "psycopg.Connection[Any]", publication: str) -> tuple[str, ...] | None:
    """
    The tables of a publication; None when there is none.

    Raises:
        SourceError: it doesn't publish all kinds of changes, or partitions as tables of their own.
    """
    found = rows(
        connection,
        "select pubinsert and pubupdate and pubdelete and pubtruncate, pubviaroot from pg_publication where pubname = %s",
        publication,
    )
    if not found:
        return None
    has_all, has_roots = found[0]
    if not has_all or not has_roots:
        raise SourceError(
            f"publication {publication!r} leaves some kinds of changes out, or publishes partitions as tables of their own",
            f"alter publication {publication} set (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)",
        )
    tables = rows(
        connection, "select schemaname || '.' || tablename from pg_publication_tables where pubname = %s", publication
    )
    return tuple(sorted(name for (name,) in tables))


def publish(connection: "psycopg.Connection[Any]", publication: str, tables: Sequence[str], *, is_there: bool) -> None:
    """Make a publication of tables, or give it other ones."""
    listed = sql.SQL(", ").join(sql.Identifier(*table.split(".")) for table in tables)
    if is_there:
        connection.execute(sql.SQL("alter publication {} set table {}").format(sql.Identifier(publication), listed))
        return
    connection.execute(
        sql.SQL(
            "create publication {} for table {} with (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)"
        ).format(sql.Identifier(publication), listed)
    )


def check_identity(connection: "psycopg.Connection[Any]", tables: Sequence[str], where: str) -> None:
    """
    Look whether every table is there, and says in its log which row an update or removal is about.

    Raises:
        SourceError: one isn't there, or publishing it would make the database refuse its updates and removals.
    """
    for table in tables:
        found = rows(
            connection,
            "select relreplident::text, relkind::text, relpersistence::text,"
            " exists (select from pg_index where indrelid = c.oid and indisprimary)"
            " from pg_class c join pg_namespace n on n.oid = relnamespace where nspname = %s and relname = %s",
            *table.split("."),
        )
        if not found or found[0][1] not in ("r", "p"):
            raise SourceError(
                f"{where} has no table {table!r}", "check its name: schema.table, in the database's own spelling"
            )
        identity, _, persistence, has_key = found[0]
        if persistence != "p":
            raise SourceError(f"{where}: table {table!r} is temporary or unlogged, and has no log", "leave it out")
        if identity == "n" or (identity == "d" and not has_key):
            raise SourceError(
                f"{where}: table {table!r} has no replica identity: once published, the database would refuse to update its rows",
                f"give it a primary key, or: alter table {table} replica identity full",
            )


def described(connection: "psycopg.Connection[Any]", table: str, publication: str) -> Table:
    """
    A table's columns, key and size.

    Raises:
        SourceError: it isn't there.
    """
    schema, name = table.split(".")
    found = rows(
        connection,
        "select c.oid, (select coalesce(max(pg_relation_size(t.relid)), 0) / current_setting('block_size')::int"
        " from (select c.oid as relid union all select p.relid from pg_partition_tree(c.oid) p where c.relkind = 'p') t)"
        " from pg_class c join pg_namespace n on n.oid = relnamespace where nspname = %s and relname = %s",
        schema,
        name,
    )
    if not found:
        raise SourceError(
            f"there is no table {table!r}", "check its name: schema.table, in the database's own spelling"
        )
    oid, pages = found[0]
    columns = rows(
        connection,
        "select attname from pg_attribute where attrelid = %s and attnum > 0 and not attisdropped and attgenerated = '' order by attnum",
        oid,
    )
    chosen, only = [column for (column,) in columns], None
    if version(connection) >= 150000:
        limits = rows(
            connection,
            "select attnames::text[], rowfilter from pg_publication_tables where pubname = %s and schemaname = %s and tablename = %s",
            publication,
            schema,
            name,
        )
        if limits:
            listed, only = limits[0]
            chosen = [column for column in chosen if listed is None or column in listed]
    return Table(table, tuple(chosen), key_of(connection, oid) or (), int(pages), only)


def key_of(connection: "psycopg.Connection[Any]", oid: int) -> tuple[str, ...] | None:
    """Columns of a table's replica identity, or of its primary key; None without one."""
    found = rows(
        connection,
        "select a.attname from pg_index i cross join unnest(i.indkey[0:i.indnkeyatts - 1]) with ordinality k(attnum, place)"
        " join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum"
        " where i.indrelid = %s and i.indexrelid ="
        " (select indexrelid from pg_index where indrelid = %s and (indisreplident or indisprimary)"
        " order by indisreplident desc limit 1) order by a.attnum",
        oid,
        oid,
    )
    return tuple(name for (name,) in found) or None


class Asked:
    """
    What the log doesn't say, asked of a connection that others use too; see `postgres_changes.Catalog`.

    Args:
        connection: each statement a transaction of its own.
        lock: held while it is used.
    """

    def __init__(self, connection: "psycopg.Connection[Any]", lock: threading.Lock) -> None:
        self._connection = connection
        self._lock = lock

    def key_of(self, oid: int) -> Sequence[str] | None:
        """See `Catalog`."""
        with self._lock:
            return key_of(self._connection, oid)

    def values_of(
        self, table: str, key: Mapping[str, str | None], columns: Sequence[str]
    ) -> Sequence[str | None] | None:
        """See `Catalog`."""
        query = sql.SQL("select {} from {} where {}").format(
            sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(column)) for column in columns),
            sql.Identifier(*table.split(".")),
            sql.SQL(" and ").join(
                sql.SQL("{} = {}").format(sql.Identifier(column), sql.Literal(value)) for column, value in key.items()
            ),
        )
        try:
            with self._lock:
                found = self._connection.execute(query).fetchall()
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
            return None
        return found[0] if len(found) == 1 else None
