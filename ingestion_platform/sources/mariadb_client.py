"""
Connections to MariaDB: what the settings say, statements, the binary log's packets, and errors in words that help.

Belongs here: everything that knows the client library. Doesn't: what the packets of the log mean (`mariadb_changes.py`), what is asked of
the catalog for a capture (`mariadb_catalog.py`), when what is asked (`mariadb.py`).
"""

import contextlib
import re
import ssl
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pymysql
from pymysql.constants import FIELD_TYPE
from pymysql.cursors import SSCursor

from ingestion_platform.errors import SettingsError, SourceError, SourceUnavailable, StreamGap
from ingestion_platform.sources.captured import BEGIN_ANEW

KIND = "mariadb"
"""What the settings call a database of this kind."""

_TEXTS = ("host", "user", "password", "database", "unix_socket", "ssl_ca", "ssl_cert", "ssl_key", "ssl_key_password")
_NUMBERS = ("port", "connect_timeout")
_TRUTHS = ("ssl_verify_cert", "ssl_verify_identity", "ssl_disabled")
_HERE = ("127.0.0.1", "::1", "localhost")
_CONNECT_SECONDS = 20
_READ_SECONDS = 120
"""So long nobody waits for an answer that should come at once; statements that may take longer have a limit of their own."""

_WRITTEN_ALIKE = (
    "set session time_zone = '+00:00', sql_mode = '', character_set_results = 'utf8mb4', net_write_timeout = 3600, wait_timeout = 28800,"
    " old_mode = '', autocommit = 1"
)
"""So that a value's text depends on the value alone, whatever the server or the user are set to; and landing may take its time."""

_GONE = re.compile(
    "purged|find first log|find log file|position > file size|impossible position|log truncated", re.IGNORECASE
)
_REFUSED = (1044, 1045, 1049, 1698, 1251, 2059, 2061)
_PRIVILEGES = (1142, 1143, 1227, 1370)
_UNAVAILABLE = (1040, 1053, 1077, 1080, 1129, 1158, 1159, 1160, 1161, 1203, 1205, 1213, 1226, 1290, 1317, 1412, 1927, 1969, 2002, 2003,
                2006, 2013, 2014, 2055)  # fmt: skip
_MASTER_ERROR = 1236

_BINARY = 63
"""The character set of what is no text."""
_TYPE_NAMES = {
    FIELD_TYPE.TINY: "tinyint", FIELD_TYPE.SHORT: "smallint", FIELD_TYPE.INT24: "mediumint", FIELD_TYPE.LONG: "int",
    FIELD_TYPE.LONGLONG: "bigint", FIELD_TYPE.DECIMAL: "decimal", FIELD_TYPE.NEWDECIMAL: "decimal", FIELD_TYPE.FLOAT: "float",
    FIELD_TYPE.DOUBLE: "double", FIELD_TYPE.TIMESTAMP: "timestamp", FIELD_TYPE.BIT: "bit", FIELD_TYPE.YEAR: "year",
    FIELD_TYPE.DATE: "date", FIELD_TYPE.NEWDATE: "date", FIELD_TYPE.DATETIME: "datetime", FIELD_TYPE.TIME: "time",
}  # fmt: skip

_COM_BINLOG_DUMP = 0x12
_COM_REGISTER_REPLICA = 0x15
_NON_BLOCKING = 1
_CHUNK_BYTES = 1024**2
_POLL_SECONDS = 0.1
_LARGEST_PACKET = 0xFFFFFF


@dataclass(frozen=True, slots=True)
class Access:
    """
    Where a database is, and who the platform is there.

    Args:
        where: as messages call the database.
        arguments: of the client, secrets among them.
    """

    where: str
    arguments: Mapping[str, Any] = field(repr=False)


def access(properties: Mapping[str, str], name: str) -> Access:
    """
    What the settings say of a database.

    Args:
        properties: of its table in the file of INGESTION_DATABASES, `kind` among them or not.
        name: the table's.

    Raises:
        SettingsError: one of them isn't one.
    """
    place = f"the file of INGESTION_DATABASES: [{name}]"
    given = {key: value for key, value in properties.items() if key != "kind"}
    unknown = sorted(set(given) - {*_TEXTS, *_NUMBERS, *_TRUTHS})
    if unknown:
        raise SettingsError(
            f"{place} has {unknown[0]!r}, which a MariaDB database has no use for",
            f"it may have {', '.join((*_TEXTS, *_NUMBERS, *_TRUTHS))}",
        )
    arguments: dict[str, Any] = {key: value for key, value in given.items() if key in _TEXTS}
    for key in _NUMBERS:
        if key in given:
            if not given[key].isascii() or not given[key].isdigit():
                raise SettingsError(f"{place}: {key} is no number", f"as in {key} = 3306")
            arguments[key] = int(given[key])
    for key in _TRUTHS:
        if key in given:
            if given[key] not in ("true", "false"):
                raise SettingsError(f"{place}: {key} is neither true nor false", "without quotes")
            arguments[key] = given[key] == "true"
    if arguments.get("ssl_ca"):
        # Whoever names an authority wants to know who answers.
        arguments = {"ssl_verify_cert": True, "ssl_verify_identity": True, **arguments}
    if not any(key.startswith("ssl_") for key in arguments) and arguments.get("host", _HERE[0]) in _HERE:
        # Nobody is in between. Otherwise a connection is encrypted where the server can do that.
        arguments["ssl_disabled"] = True
    return Access(f"MariaDB database {name!r}", arguments)


class Connection:
    """
    A connection, each statement a transaction of its own unless one is begun.

    Args:
        opened: the client's.
        where: as messages call the database.
    """

    def __init__(self, opened: Any, where: str) -> None:
        self._opened = opened
        self.where = where

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """
        Run a statement; its rows, with numbers as numbers and texts as texts.

        Raises:
            SourceUnavailable, SourceError, StreamGap: see `as_ours`.
        """
        with telling(self.where), self._opened.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())

    def one(self, statement: str, *values: object) -> Any:
        """The first value of the first row; None when there is no row."""
        found = self.rows(statement, *values)
        return found[0][0] if found else None

    def fields(self, statement: str) -> list[tuple[str, str, bool]]:
        """The columns that a statement has: name, the type as the catalog calls it, whether it is text. Errors as of `rows`."""
        with telling(self.where), self._opened.cursor() as cursor:
            cursor.execute(statement)
            found = cursor._result.fields
        return [(field.name, _TYPE_NAMES.get(field.type_code, "text"), field.charsetnr != _BINARY) for field in found]

    def stream(self, statement: str) -> Iterator[Sequence[bytes | None]]:
        """
        Yield the rows of a statement as they come, each value as the bytes that the server sends. Errors as of `rows`.

        Nothing else may be asked before the last row was taken. Whoever closes the iterator before that closes the connection.
        """
        with telling(self.where):
            cursor: Any = SSCursor(self._opened)
            cursor.execute(statement)
            result = cursor._result
            # Without converters values are the bytes that came.
            result.converters = [(None, None)] * len(result.converters)
            try:
                while (row := cursor.fetchone()) is not None:
                    yield row
            finally:
                if result.unbuffered_active:
                    # The client would receive all that is left.
                    result.unbuffered_active = False
                    self.close()

    def close(self) -> None:
        """Close it, whatever it is doing."""
        with contextlib.suppress(pymysql.Error, OSError):
            self._opened._force_close()


def connect(to: Access, *, timeout_seconds: float = 0.0) -> Connection:
    """
    Connect.

    Args:
        to: where, and as whom.
        timeout_seconds: of each statement; 0: none.

    Raises:
        SourceUnavailable: nobody answers.
        SourceError: whoever answers refuses, or isn't MariaDB.
    """
    opened = _opened(to, _READ_SECONDS + timeout_seconds if timeout_seconds else None)
    try:
        connection = Connection(opened, to.where)
        connection.rows(_WRITTEN_ALIKE)
        connection.rows(f"set session max_statement_time = {timeout_seconds:f}, lock_wait_timeout = 10")
    except BaseException:
        opened._force_close()
        raise
    return connection


def _opened(to: Access, read_seconds: float | None) -> Any:
    with telling(to.where):
        opened: Any = pymysql.connect(
            **{"host": _HERE[0], "connect_timeout": _CONNECT_SECONDS, **to.arguments},
            charset="utf8mb4",
            autocommit=None,
            read_timeout=read_seconds,
            local_infile=False,
            program_name="ingestion_platform",
        )
    if "MariaDB" not in opened.get_server_info():
        opened._force_close()
        raise SourceError(
            f"{to.where} is {opened.get_server_info()}, which isn't MariaDB",
            "MySQL writes another log: land what Debezium, Maxwell or AWS DMS writes of it instead",
        )
    return opened


class Log:
    """
    The binary log, as the server sends it to whoever says that it is a replica.

    Args:
        to: where, and as whom.
        file: the log file's name.
        offset: where in it the first event begins.
        replica: the number that it is known by; another one with the same number ends it.
        follows: wait for what comes; otherwise the end of the log ends it.
        heartbeat_seconds: how often the server says that there is nothing.

    Raises:
        SourceUnavailable, SourceError, StreamGap: see `as_ours`.
    """

    def __init__(
        self, to: Access, file: str, offset: int, *, replica: int, follows: bool, heartbeat_seconds: float = 5.0
    ) -> None:
        self.where = to.where
        self._heartbeat_seconds = heartbeat_seconds
        self._connection = connect(to)
        self._opened = self._connection._opened
        self._held = bytearray()
        self._at = 0
        try:
            # Transactions come with their own event (GTID), and events with the check sums that they have in the file.
            self._connection.rows(
                "set @mariadb_slave_capability = 4, @master_binlog_checksum = @@global.binlog_checksum"
            )
            self._connection.rows(f"set @master_heartbeat_period = {int(heartbeat_seconds * 1e9)}")
            with telling(self.where):
                self._opened._execute_command(_COM_REGISTER_REPLICA, _registration(replica))
                self._opened._read_ok_packet()
                flags = 0 if follows else _NON_BLOCKING
                self._opened._execute_command(
                    _COM_BINLOG_DUMP, struct.pack("<IHI", offset, flags, replica) + file.encode()
                )
                self._opened._sock.settimeout(_POLL_SECONDS)
        except BaseException:
            self._connection.close()
            raise

    def events(self) -> Iterator[bytes | None]:
        """
        Yield events, check sums included; None when nothing has come for a moment. Ends where the log does, unless it is followed.

        Raises:
            SourceUnavailable: the connection is lost, or nothing was heard for much too long.
            SourceError, StreamGap: the server says that it can't give what was asked for.
        """
        with telling(self.where):
            silent_seconds = 0.0
            while True:
                packet = self._packet()
                if packet is None:
                    silent_seconds += _POLL_SECONDS
                    if silent_seconds > 60.0 + 4 * self._heartbeat_seconds:
                        raise SourceUnavailable(
                            f"{self.where}: nothing was heard of the log for {silent_seconds:.0f} s",
                            "is the database up, and reachable from here?",
                        )
                    yield None
                    continue
                silent_seconds = 0.0
                kind = packet[0]
                if kind == 0x00:
                    yield packet[1:]
                elif kind == 0xFE and len(packet) < 9:
                    return
                elif kind == 0xFF:
                    pymysql.err.raise_mysql_exception(packet)
                else:
                    raise SourceError(f"{self.where}: the log has a packet of kind {kind}, which isn't of the protocol")

    def close(self) -> None:
        """End it."""
        self._connection.close()

    def _packet(self) -> bytes | None:
        """The next packet, its parts together; None when it isn't all there yet."""
        parts: list[bytes] = []
        at = self._at
        while True:
            held = self._held
            if len(held) - at < 4 or len(held) - at - 4 < (size := int.from_bytes(held[at : at + 3], "little")):
                if not self._receive(at if not parts else self._at):
                    return None
                # What was before has been cut off, and the packet is taken from its beginning.
                at, parts = self._at, []
                continue
            parts.append(bytes(held[at + 4 : at + 4 + size]))
            at += 4 + size
            if size < _LARGEST_PACKET:
                self._at = at
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def _receive(self, keep_from: int) -> bool:
        """Receive more; whether something came within a moment. What is before *keep_from* is forgotten."""
        try:
            data = self._opened._sock.recv(_CHUNK_BYTES)
        except TimeoutError:
            return False
        if not data:
            raise SourceUnavailable(
                f"{self.where}: the database has ended the connection",
                "is it being restarted, or did somebody end it (KILL, or a replica with the same number)?",
            )
        del self._held[:keep_from]
        self._at = 0
        self._held += data
        return True


def _registration(replica: int) -> bytes:
    """What SHOW SLAVE HOSTS shows of whom it is that reads the log."""
    name = b"ingestion_platform"
    return struct.pack("<I", replica) + bytes([len(name)]) + name + b"\0\0" + struct.pack("<HII", 0, 0, 0)


@contextlib.contextmanager
def telling(where: str) -> Iterator[None]:
    """Errors of the client as the platform's own."""
    try:
        yield
    except pymysql.Error as error:
        raise as_ours(error, where) from error
    except (FileNotFoundError, PermissionError, ssl.SSLError) as error:
        raise SourceError(
            f"{where}: {error}", "check ssl_ca, ssl_cert and ssl_key in the file of INGESTION_DATABASES"
        ) from error
    except OSError as error:
        raise SourceUnavailable(f"{where}: {error}", "is the database up, and reachable from here?") from error


def as_ours(error: pymysql.Error, where: str) -> SourceError:
    """An error of the client in words that help."""
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    said = " ".join(str(error.args[1] if len(error.args) > 1 else error).split())[:500]
    told = f"{where}: {said} ({code})" if code else f"{where}: {said}"
    if "same server_uuid/server_id" in said:
        return SourceUnavailable(told, "another replica has the same number; another one is taken")
    if code == _MASTER_ERROR:
        if _GONE.search(said):
            return StreamGap(told, BEGIN_ANEW)
        if "bogus data" in said.lower():
            return StreamGap(
                f"{told}: no event begins where reading stood, so the log is another one than was captured until now, or damaged",
                BEGIN_ANEW,
            )
        if "server id" in said.lower() or "misconfigured" in said.lower():
            return SourceError(
                told, "set server_id in the server's configuration to a number of its own, and restart it"
            )
        if "max_allowed_packet" in said:
            return SourceError(
                told, "set global max_allowed_packet = 1073741824: an event of the log is larger than it is now"
            )
        return SourceError(told, "")
    if code in _PRIVILEGES:
        return SourceError(
            told,
            "the user needs: grant replication slave, binlog monitor on *.* to …; grant select on … to …"
            " (before MariaDB 10.5: replication client instead of binlog monitor)",
        )
    if code in _REFUSED:
        return SourceError(told, "check user, password and database in the file of INGESTION_DATABASES")
    if code == 1146:
        return SourceError(told, "check its name: database.table, in the database's own spelling")
    if code in _UNAVAILABLE or (code == 0 and isinstance(error, pymysql.OperationalError | pymysql.InterfaceError)):
        if "SSL" in said or "certificate" in said:
            return SourceError(told, "check ssl_ca and the host's name in the file of INGESTION_DATABASES")
        return SourceUnavailable(told, "is the database up, and reachable from here?")
    return SourceError(told, "")


def quoted(name: str) -> str:
    """A name as SQL has it; `shop.customers` as two."""
    return ".".join("`" + part.replace("`", "``") + "`" for part in name.split("."))
