"""
Events of MariaDB's binary log as records: what a transaction did to which row, each column as text.

Belongs here: the bytes of events, positions, and what is to be made of each event. Doesn't: connections (`mariadb_client.py`), values
(`mariadb_values.py`), what statements do (`mariadb_statements.py`), rows that are read from tables (`mariadb_snapshot.py`).

Source:
    MariaDB, "Replication Protocol: events"; MySQL, "mysql::binlog::event::Table_map_event".
"""

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any, NamedTuple, Protocol

import msgspec

from ingestion_platform.errors import SourceChanged, SourceError, StreamGap
from ingestion_platform.sources import mariadb_values as values
from ingestion_platform.sources.captured import BEGIN_ANEW, Gathered
from ingestion_platform.sources.mariadb_statements import look_through
from ingestion_platform.sources.mariadb_values import Kind, Reader

_WIDTHS = (4, 6, 10, 10, 10, 13)
_SCALES = (*(10 ** sum(_WIDTHS[n + 1 :]) for n in range(len(_WIDTHS) - 1)), 1)
_HEADER = Struct("<IBIIIH").unpack_from
_GTID = Struct("<QIB").unpack_from
_QUERY = Struct("<IIBHH").unpack_from
_ROTATE = Struct("<Q").unpack_from
_UINT32 = Struct("<I").unpack_from
_encode = msgspec.json.Encoder().encode

_NOT_SENT: Any = object()
"""A value that the log doesn't have: somebody has set binlog_row_image for his session."""

_QUERY_EVENT, _ROTATE_EVENT, _FORMAT_EVENT, _XID_EVENT, _TABLE_MAP_EVENT, _INCIDENT_EVENT, _HEARTBEAT_EVENT = (
    2,
    4,
    15,
    16,
    19,
    26,
    27,
)
_XA_PREPARE_EVENT, _GTID_EVENT, _QUERY_COMPRESSED_EVENT = 38, 162, 165
_WRITES = {23: False, 30: False, 166: True, 169: True}
_UPDATES = {24: False, 31: False, 167: True, 170: True}
_DELETES = {25: False, 32: False, 168: True, 171: True}
"""Kinds of events with rows; whether these are compressed."""
_SECOND_VERSION = (30, 31, 32, 169, 170, 171)
_STANDS_ALONE, _IS_PREPARED = 1, 64
_IS_ARTIFICIAL = 0x20
_CHECKSUM_BYTES = 4
_MOST_SHAPES = 1024
"""Of one table: which columns a row has, and which of them are NULL."""


class Catalog(Protocol):
    """What is asked of the database itself, because the log doesn't say it."""

    def charset_of(self, collation: int) -> str:
        """The character set of a collation, by the number of that."""
        ...

    def characters_of(self, charset: str) -> str:
        """The characters of all 256 bytes, in a character set whose characters have one byte."""
        ...

    def shown_as(self, table: str, column: str) -> str:
        """`uuid`, `inet6` or `inet4`, where a column is one of these; otherwise empty."""
        ...

    def check(self, tables: Iterable[str]) -> None:
        """
        Look whether tables whose definition has changed can still be captured.

        Raises:
            SourceError: one can't.
        """
        ...


class Position(NamedTuple):
    """
    Where a change stands, as one number.

    Args:
        beginning: counts how often the capture has begun, from 1.
        tables: a digest of the names of the tables that it began with.
        file: the number at the end of the log file's name; 0 of the rows that were read from the tables at the beginning.
        made: when that file was made, in seconds since 1970: another server, or the same one after RESET MASTER, has other files of that
            number.
        offset: where in the file the transaction begins.
        place: of the change in its transaction, from 1; 0 is before the first.
    """

    beginning: int
    tables: int
    file: int = 0
    made: int = 0
    offset: int = 0
    place: int = 0

    @classmethod
    def parse(cls, position: int) -> "Position":
        """The parts of a number."""
        parts = []
        for scale in _SCALES:
            part, position = divmod(position, scale)
            parts.append(part)
        return cls(*parts)

    def __int__(self) -> int:
        """As one number; as text its digits are those of the parts."""
        return sum(part * scale for part, scale in zip(self, _SCALES, strict=True))

    def __str__(self) -> str:
        """In words."""
        return f"log file {self.file}, offset {self.offset} (beginning {self.beginning}, change {self.place})"


def digest_of(tables: Iterable[str]) -> int:
    """A number of six digits that tells sets of tables apart."""
    said = "\n".join(sorted(tables)).encode()
    return int.from_bytes(hashlib.sha256(said).digest()[:8]) % int(10 ** _WIDTHS[1])


@dataclass(slots=True)
class _Table:
    """A table as the log describes it."""

    name: str
    columns: tuple[str, ...]
    readers: tuple[Reader, ...]
    sizes: tuple[tuple[int, int], ...]
    key: tuple[int, ...]
    plans: dict[bytes, tuple[tuple[int, Reader], ...]]
    steps: dict[bytes, tuple[tuple[int, int, Reader | None], ...]]

    def row(self, found: Sequence[str | None]) -> bytes:
        return _encode(dict(zip(self.columns, found, strict=True)))

    def key_of(self, found: Sequence[str | None]) -> bytes:
        return _encode({self.columns[index]: found[index] for index in self.key})


class Decoder:
    """
    Turns the events of one connection into records.

    Args:
        after: positions up to this one are left out: they have landed. The log is read from its transaction on, which comes again.
        tables: those that are captured.
        catalog: asked what the log doesn't say.
        where: as messages call the database.
        fold: makes one spelling of the names that the server takes for the same.
    """

    def __init__(
        self, after: Position, tables: Iterable[str], catalog: Catalog, where: str, *, fold: Callable[[str], str] = str
    ) -> None:
        self._after = after
        self._fold = fold
        self._captured = {fold(name): name for name in tables}
        self._catalog = catalog
        self._where = where
        self._known: dict[bytes, _Table] = {}
        self._maps: dict[bytes, _Table | None] = {}
        self._has_checksums = True
        self._file = after.file
        self._made = after.made
        self._offset = after.offset
        self._begins = after.offset
        self._prefix = ""
        self._place = 0
        self._least = 0
        self._awaits = after.place > 0
        self._transaction = b""
        self._began_with = 0
        self._savepoints: dict[str, tuple[int, int]] = {}
        self._is_prepared = False
        self._has_given = False
        self.gathered = Gathered()
        self.moment_us = 0
        self.is_inside = False
        self.transaction_bytes = 0

    @property
    def reached(self) -> tuple[int, int, int]:
        """File, when it was made, and offset up to which the log has been read, between transactions."""
        return self._file, self._made, self._begins if self.is_inside else self._offset

    def flushed(self) -> Gathered:
        """What has been gathered, to be given; the next is gathered anew."""
        gathered, self.gathered = self.gathered, Gathered()
        self._has_given = self.is_inside
        self._began_with = 0
        return gathered

    def take(self, event: bytes) -> None:
        """
        Take an event.

        Raises:
            SourceChanged: it can't be understood.
            SourceError: a table is as it can't be captured.
            StreamGap: the log isn't the one of which records have landed, or has lost something.
        """
        try:
            self._take(event)
        except (IndexError, KeyError, ValueError, OverflowError, struct.error, zlib.error) as error:
            raise SourceChanged(
                f"{self._where}: an event of the log behind offset {self._offset} of file {self._file} can't be understood:"
                f" {type(error).__name__}: {error}",
                "this is a fault of the platform, or of the log",
            ) from error

    def _take(self, event: bytes) -> None:
        moment, kind, _, size, ends, flags = _HEADER(event, 0)
        if len(event) != size:
            raise SourceChanged(
                f"{self._where}: the log has an event of {len(event)} bytes that says it has {size}", ""
            )
        if kind == _FORMAT_EVENT:
            self._format(event, moment)
            return
        if self._has_checksums:
            if zlib.crc32(memoryview(event)[:-_CHECKSUM_BYTES]) != _UINT32(event, size - _CHECKSUM_BYTES)[0]:
                raise StreamGap(
                    f"{self._where}: an event of the log behind offset {self._offset} of file {self._file} isn't as it was written: its"
                    " check sum differs. The log is damaged, or no event begins where reading did",
                    BEGIN_ANEW,
                )
            event = event[:-_CHECKSUM_BYTES]
        if kind == _ROTATE_EVENT:
            self._rotate(event, is_artificial=bool(flags & _IS_ARTIFICIAL) or not moment)
            return
        if kind == _HEARTBEAT_EVENT or flags & _IS_ARTIFICIAL or not ends:
            return
        if kind == _TABLE_MAP_EVENT:
            self._table_map(event)
        elif kind in _WRITES:
            self._rows(event, kind, self._insert)
        elif kind in _UPDATES:
            self._rows(event, kind, self._update)
        elif kind in _DELETES:
            self._rows(event, kind, self._delete)
        elif kind == _GTID_EVENT:
            self._gtid(event, moment, self._unwrapped(ends) - size)
        elif kind in (_XID_EVENT, _XA_PREPARE_EVENT):
            self._commit()
        elif kind in (_QUERY_EVENT, _QUERY_COMPRESSED_EVENT):
            self._query(event, is_compressed=kind == _QUERY_COMPRESSED_EVENT)
        elif kind == _INCIDENT_EVENT:
            raise StreamGap(
                f"{self._where}: the log says that it has lost events, at offset {self._offset} of file {self._file}",
                BEGIN_ANEW,
            )
        self._offset = self._unwrapped(ends)

    def _unwrapped(self, ends: int) -> int:
        """An offset that has 32 bits in the log; a file whose last transaction is a large one may be longer than these say."""
        offset = self._offset & ~0xFFFFFFFF | ends
        return offset if offset >= self._offset else offset + (1 << 32)

    # --- where it is

    def _format(self, event: bytes, moment: int) -> None:
        self._has_checksums = event[-1 - _CHECKSUM_BYTES] == 1
        if self._made and moment != self._made:
            raise _other_log(
                self._where,
                f"its file {self._file} was made at {moment} (seconds since 1970), and the one that has been captured at {self._made}",
            )
        self._made = moment
        ends = _HEADER(event, 0)[4]
        if ends and self._offset < ends:
            self._offset = self._begins = ends

    def _rotate(self, event: bytes, *, is_artificial: bool) -> None:
        (offset,) = _ROTATE(event, 19)
        file = number_of(event[27:].decode(errors="replace"))
        if is_artificial and file == self._file:
            # The first word of the server: where it begins.
            return
        self._file, self._made, self._offset, self._begins = file, 0, offset, offset
        self._maps.clear()

    # --- transactions

    def _gtid(self, event: bytes, moment: int, offset: int) -> None:
        number, domain, flags = _GTID(event, 19)
        server = _UINT32(event, 5)[0]
        self._begins = offset
        self.is_inside = True
        self._is_prepared = bool(flags & _IS_PREPARED)
        self._has_given = False
        self._began_with = len(self.gathered)
        self._savepoints.clear()
        self._transaction = f"{domain}-{server}-{number}".encode()
        self.moment_us = moment * 1_000_000
        self.transaction_bytes = 0
        after = self._after
        here = Position(after.beginning, after.tables, self._file, self._made, offset)
        self._prefix = str(int(here))[: -_WIDTHS[-1]]
        self._place = 0
        is_same = (self._file, offset) == (after.file, after.offset)
        self._least = after.place if is_same else 0
        if self._awaits and not is_same:
            raise _other_log(
                self._where, f"the last change that has landed was at {after}, and no transaction begins there"
            )
        self._awaits = False
        self._stands_alone = bool(flags & _STANDS_ALONE)

    _stands_alone = False

    def _commit(self) -> None:
        if self._place < self._least:
            raise _other_log(
                self._where,
                f"the transaction at {self._after} has {self._place} changes, and {self._least} of it have landed",
            )
        self.is_inside = False

    def check_end(self) -> None:
        """
        Look, at the end of the log, whether the last change that has landed has come again.

        Raises:
            StreamGap: it hasn't: the log is another one.
        """
        if self._awaits:
            raise _other_log(
                self._where, f"the last change that has landed was at {self._after}, and the log ends there"
            )

    def _roll_back(self, place: int, length: int) -> None:
        if self._place <= place:
            return
        if self._has_given:
            raise StreamGap(
                f"{self._where}: a transaction that was too large to be kept back has changed rows and taken that back, at offset"
                f" {self._begins} of log file {self._file}: tables of several engines were changed in it",
                BEGIN_ANEW,
            )
        self.gathered.cut(length)
        self._place = place

    def _query(self, event: bytes, *, is_compressed: bool) -> None:
        _, _, database_size, _, status_size = _QUERY(event, 19)
        at = 19 + 13 + status_size
        database = event[at : at + database_size].decode(errors="backslashreplace")
        data = event[at + database_size + 1 :]
        statement = (unpacked(data) if is_compressed else data).decode(errors="backslashreplace")
        start = statement[:24].lstrip().upper()
        if start.startswith("COMMIT"):
            self._commit()
            return
        if start.startswith("SAVEPOINT"):
            self._savepoints[statement.split(None, 1)[1].strip()] = self._place, len(self.gathered)
            return
        if start.startswith("ROLLBACK"):
            words = statement.split()
            if len(words) > 1 and words[1].upper() == "TO":
                place, length = self._savepoints.get(words[-1], (0, self._began_with))
                self._roll_back(place, length)
                return
            self._roll_back(0, self._began_with)
            self._commit()
            return
        if not start.startswith(("BEGIN", "XA ", "SET ", "FLUSH", "GRANT", "REVOKE")):
            self._statement(statement, database)
        if self._stands_alone or not self.is_inside:
            self._commit()

    def _statement(self, statement: str, database: str) -> None:
        done = look_through(statement, database)
        shown = " ".join(statement.split())[:200]
        if done.named:
            bare = {self._fold(name) for name in done.named}
            found = [name for folded, name in self._captured.items() if folded.split(".")[1] in bare]
            if found:
                raise StreamGap(
                    f"{self._where}: rows of {found[0]!r} were changed by a statement that the log has as it was said, not row by"
                    f" row: {shown}",
                    "somebody has set binlog_format for his session: set it to ROW there, and then " + BEGIN_ANEW,
                )
            return
        swapped = [self._captured[self._fold(name)] for name in done.swapped if self._fold(name) in self._captured]
        if swapped:
            raise StreamGap(
                f"{self._where}: the rows of {swapped[0]!r} are others now, and the log doesn't say which: {shown}",
                BEGIN_ANEW,
            )
        emptied = [self._captured[self._fold(name)] for name in done.emptied if self._fold(name) in self._captured]
        if done.emptied_database:
            whose = self._fold(done.emptied_database)
            emptied += [name for folded, name in self._captured.items() if folded.split(".")[0] == whose]
        for table in emptied:
            position = self._next()
            if position is not None:
                self._put(position, table.encode(), b"TRUNCATE", None, None)
        altered = [self._captured[self._fold(name)] for name in done.altered if self._fold(name) in self._captured]
        if altered:
            self._known.clear()
            self._maps.clear()
            self._catalog.check(altered)

    # --- tables

    def _table_map(self, event: bytes) -> None:
        id_ = event[19:25]
        body = event[27:]
        if body in self._known:
            self._maps[id_] = self._known[body]
            return
        size = body[0]
        database = body[1 : 1 + size].decode(errors="backslashreplace")
        at = 2 + size
        size = body[at]
        name = f"{database}.{body[at + 1 : at + 1 + size].decode(errors='backslashreplace')}"
        captured = self._captured.get(self._fold(name))
        if captured is None:
            self._maps[id_] = None
            return
        if self._is_prepared:
            raise StreamGap(
                f"{self._where}: an XA transaction has changed {captured!r}: it stands in the log where it was prepared, and whether it is"
                " committed is decided later",
                "let whoever writes to captured tables do so without XA, and then " + BEGIN_ANEW,
            )
        self._known[body] = self._maps[id_] = self._described(captured, body, at + 2 + size)

    def _described(self, name: str, body: bytes, at: int) -> _Table:
        count, at = _packed(body, at)
        types = list(body[at : at + count])
        at += count
        size, at = _packed(body, at)
        metas = list(_metas(types, body[at : at + size]))
        at += size + (count + 7) // 8
        told = dict(_optional(body, at))
        if 4 not in told:
            raise StreamGap(
                f"{self._where}: the log of {name!r} doesn't say its columns: it was written while binlog_row_metadata wasn't FULL",
                "set global binlog_row_metadata = FULL; and put it into the server's configuration; then " + BEGIN_ANEW,
            )
        columns = tuple(_strings(told[4]))
        kinds = self._kinds(name, columns, types, metas, told)
        readers, sizes = [], []
        for column, kind in zip(columns, kinds, strict=True):
            try:
                readers.append(values.reader_of(kind, self._catalog.characters_of))
                sizes.append(values.size_of(kind))
            except SourceChanged as error:
                raise SourceError(f"{self._where}: column {column!r} of {name!r}: {error.what}", error.hint) from None
        return _Table(name, columns, tuple(readers), tuple(sizes), _key(told) or tuple(range(count)), {}, {})

    def _kinds(
        self, table: str, columns: Sequence[str], types: Sequence[int], metas: Sequence[int], told: Mapping[int, bytes]
    ) -> Iterator[Kind]:
        """The types of columns, put together of what stands in several places."""
        real = [
            meta >> 8 if type_ == values.STRING and meta >> 8 in (values.ENUM, values.SET) else type_
            for type_, meta in zip(types, metas, strict=True)
        ]
        texts = [index for index, type_ in enumerate(real) if type_ in values.CHARACTER]
        choices = [index for index, type_ in enumerate(real) if type_ in (values.ENUM, values.SET)]
        numbers = [index for index, type_ in enumerate(real) if type_ in values.NUMERIC]
        charsets = self._charsets(texts, told.get(2), told.get(3)) | self._charsets(choices, told.get(10), told.get(11))
        signs = told.get(1, b"")
        is_unsigned = {
            index: bool(signs[n >> 3] >> (7 - (n & 7)) & 1) for n, index in enumerate(numbers) if n >> 3 < len(signs)
        }
        named = {
            index: found
            for type_, field in ((values.ENUM, 6), (values.SET, 5))
            for index, found in zip(
                [one for one in choices if real[one] == type_], _lists(told.get(field, b"")), strict=True
            )
        }
        for index, (type_, meta) in enumerate(zip(real, metas, strict=True)):
            charset = charsets.get(index, "binary")
            names: tuple[str, ...] = ()
            if index in named:
                decode = (
                    values.text_reader(charset, self._catalog.characters_of) if charset != "binary" else bytes.decode
                )
                names = tuple(decode(one) for one in named[index])
            is_address = type_ == values.STRING and charset == "binary" and meta & 0xFF in (4, 16)
            shown_as = self._catalog.shown_as(table, columns[index]) if is_address else ""
            yield Kind(type_, meta, is_unsigned.get(index, False), charset, names, shown_as)

    def _charsets(self, indexes: Sequence[int], default: bytes | None, each: bytes | None) -> dict[int, str]:
        if default is not None:
            numbers = _numbers(default)
            collations = [numbers[0]] * len(indexes)
            for n, collation in zip(numbers[1::2], numbers[2::2], strict=True):
                collations[n] = collation
        else:
            collations = _numbers(each or b"")
        return {index: self._catalog.charset_of(one) for index, one in zip(indexes, collations, strict=True)}

    # --- rows

    def _rows(self, event: bytes, kind: int, take: "Callable[[_Table, bytes, int, bytes, bytes | None], int]") -> None:
        id_ = event[19:25]
        if id_ not in self._maps:
            raise SourceChanged(f"{self._where}: the log has rows of a table that it hasn't described", "")
        table = self._maps[id_]
        if table is None:
            return
        at = 27
        if kind in _SECOND_VERSION:
            at += int.from_bytes(event[27:29], "little")
        count, at = _packed(event, at)
        if count != len(table.columns):
            raise SourceChanged(
                f"{self._where}: the log has rows of {count} columns of {table.name!r}, which has {len(table.columns)}",
                "",
            )
        width = (count + 7) // 8
        present, at = event[at : at + width], at + width
        after = None
        if kind in _UPDATES:
            after, at = event[at : at + width], at + width
        if _WRITES.get(kind, False) or _UPDATES.get(kind, False) or _DELETES.get(kind, False):
            event, at = unpacked(event[at:]), 0
        end = len(event)
        while at < end:
            begins, at = at, take(table, event, at, present, after)
            if at == begins:
                raise SourceChanged(f"{self._where}: the log has rows of {table.name!r} that have no bytes", "")
        if at != end:
            raise SourceChanged(f"{self._where}: the rows of {table.name!r} don't end where their event does", "")

    def _image(self, table: _Table, event: bytes, at: int, present: bytes) -> tuple[list[str | None], int]:
        """The values of a row; `_NOT_SENT` where the log doesn't have one."""
        plan = table.plans.get(present)
        if plan is None:
            plan = table.plans[present] = tuple(
                (index, reader) for index, reader in enumerate(table.readers) if present[index >> 3] >> (index & 7) & 1
            )
        count = len(plan)
        width = (count + 7) // 8
        nulls = int.from_bytes(event[at : at + width], "little")
        at += width
        if count == len(table.readers):
            found: list[str | None] = []
            append = found.append
            if not nulls:
                for reader in table.readers:
                    text, at = reader(event, at)
                    append(text)
                return found, at
            for reader in table.readers:
                if nulls & 1:
                    append(None)
                else:
                    text, at = reader(event, at)
                    append(text)
                nulls >>= 1
            return found, at
        found = [_NOT_SENT] * len(table.readers)
        for index, reader in plan:
            if nulls & 1:
                found[index] = None
            else:
                found[index], at = reader(event, at)
            nulls >>= 1
        return found, at

    def _key_image(self, table: _Table, event: bytes, at: int, present: bytes) -> tuple[list[str | None] | None, int]:
        """Only the key of a row, and where the row ends; None instead of a key that isn't all there, or may be NULL."""
        width = (sum(one.bit_count() for one in present) + 7) // 8
        shape = present + event[at : at + width]
        steps = table.steps.get(shape)
        if steps is None:
            if len(table.steps) > _MOST_SHAPES:
                table.steps.clear()
            steps = table.steps[shape] = _steps(table, present, int.from_bytes(shape[len(present) :], "little"))
        at += width
        key: list[str | None] = []
        for size, length_bytes, reader in steps:
            if reader is not None:
                text, at = reader(event, at)
                key.append(text)
                continue
            at += size
            if length_bytes:
                at += length_bytes + int.from_bytes(event[at : at + length_bytes], "little")
        return (key if len(key) == len(table.key) else None), at

    def _insert(self, table: _Table, event: bytes, at: int, present: bytes, _: bytes | None) -> int:
        found, at = self._image(table, event, at, present)
        self._add(table, b"INSERT", self._whole(table, found))
        return at

    def _delete(self, table: _Table, event: bytes, at: int, present: bytes, _: bytes | None) -> int:
        found, at = self._image(table, event, at, present)
        self._add(table, b"DELETE", found)
        return at

    def _update(self, table: _Table, event: bytes, at: int, present: bytes, after: bytes | None) -> int:
        assert after is not None
        begins = at
        key, at = self._key_image(table, event, at, present)
        now, at = self._image(table, event, at, after)
        if key is not None and key == [now[index] for index in table.key]:
            self._add(table, b"UPDATE", now)
            return at
        before, _ = self._image(table, event, begins, present)
        for index in table.key:
            # What an update didn't touch may be in the former row only.
            if now[index] is _NOT_SENT:
                now[index] = before[index]
        if all(before[index] == now[index] for index in table.key):
            self._add(table, b"UPDATE", now)
            return at
        self._add(table, b"DELETE", before)
        now = [old if new is _NOT_SENT else new for old, new in zip(before, now, strict=True)]
        self._add(table, b"INSERT", self._whole(table, now))
        return at

    def _whole(self, table: _Table, found: list[str | None]) -> list[str | None]:
        if _NOT_SENT in found:
            missing = table.columns[found.index(_NOT_SENT)]
            raise StreamGap(
                f"{self._where}: the log has a new row of {table.name!r} without its {missing!r}, at offset {self._begins} of file"
                f" {self._file}",
                "somebody has set binlog_row_image for his session: set it to FULL there, and then " + BEGIN_ANEW,
            )
        return found

    def _next(self) -> str | None:
        """The position of the next change; None when it has landed."""
        self._place = place = self._place + 1
        return f"{self._prefix}{place:013d}" if place > self._least else None

    def _add(self, table: _Table, operation: bytes, found: Sequence[str | None]) -> None:
        position = self._next()
        if position is None:
            return
        if _NOT_SENT not in found:
            self._put(position, table.name.encode(), operation, table.key_of(found), table.row(found))
            return
        pairs = dict(zip(table.columns, found, strict=True))
        sent = {name: value for name, value in pairs.items() if value is not _NOT_SENT}
        key = _encode({name: sent.get(name) for name in (table.columns[index] for index in table.key)})
        unsent = _encode([name for name in pairs if name not in sent]) if operation != b"DELETE" else None
        self._put(position, table.name.encode(), operation, key, _encode(sent), unsent)

    def _put(
        self,
        position: str,
        table: bytes,
        operation: bytes,
        key: bytes | None,
        value: bytes | None,
        unsent: bytes | None = None,
    ) -> None:
        before = self.gathered.size_bytes
        self.gathered.add(position, self.moment_us, key, value, (table, operation, self._transaction), unsent)
        self.transaction_bytes += self.gathered.size_bytes - before


def _steps(table: _Table, present: bytes, nulls: int) -> tuple[tuple[int, int, Reader | None], ...]:
    """
    How a row is gone through for its key: so many bytes on, and then past one value whose length stands in so many bytes; or a reader.

    Args:
        table: whose.
        present: bits of the columns that the row has.
        nulls: bits of those of them that are NULL.
    """
    steps: list[tuple[int, int, Reader | None]] = []
    fixed = 0
    for index, (size, length_bytes) in enumerate(table.sizes):
        if not present[index >> 3] >> (index & 7) & 1:
            continue
        is_null, nulls = nulls & 1, nulls >> 1
        if is_null:
            continue
        if index in table.key:
            if fixed:
                steps.append((fixed, 0, None))
                fixed = 0
            steps.append((0, 0, table.readers[index]))
        elif length_bytes:
            steps.append((fixed, length_bytes, None))
            fixed = 0
        else:
            fixed += size
    if fixed:
        steps.append((fixed, 0, None))
    return tuple(steps)


def number_of(file: str) -> int:
    """
    The number at the end of a log file's name.

    Raises:
        SourceChanged: there is none.
    """
    number = file.rstrip("\0").rpartition(".")[2]
    if not number.isascii() or not number.isdigit():
        raise SourceChanged(f"the log file {file!r} has no number at its end", "")
    return int(number)


def unpacked(data: bytes) -> bytes:
    """What MariaDB compresses in its log: how many bytes say the length, the length, and zlib's bytes."""
    if data[0] >> 4 & 7 != 0:
        raise SourceChanged("the log is compressed in a way that isn't understood", "set global log_bin_compress = OFF")
    size = data[0] & 7
    length = int.from_bytes(data[1 : 1 + size])
    found = zlib.decompressobj().decompress(data[1 + size :], length + 1)
    if len(found) != length:
        raise SourceChanged("a compressed event of the log has another length than it says", "")
    return found


def _other_log(where: str, why: str) -> StreamGap:
    return StreamGap(
        f"{where}: its log isn't the one that has been captured until now: {why}. It is a restored database or another one, or"
        " RESET MASTER was run",
        BEGIN_ANEW,
    )


def _packed(data: bytes, at: int) -> tuple[int, int]:
    """A number whose first byte says how many more it has."""
    first = data[at]
    if first < 251:
        return first, at + 1
    size = {252: 2, 253: 3, 254: 8}[first]
    return int.from_bytes(data[at + 1 : at + 1 + size], "little"), at + 1 + size


def _numbers(data: bytes) -> list[int]:
    found, at = [], 0
    while at < len(data):
        number, at = _packed(data, at)
        found.append(number)
    return found


def _strings(data: bytes) -> Iterator[str]:
    at = 0
    while at < len(data):
        size, at = _packed(data, at)
        yield data[at : at + size].decode(errors="backslashreplace")
        at += size


def _lists(data: bytes) -> Iterator[list[bytes]]:
    """Names of several ENUMs or SETs: of each how many, and then the names."""
    at = 0
    while at < len(data):
        count, at = _packed(data, at)
        found = []
        for _ in range(count):
            size, at = _packed(data, at)
            found.append(data[at : at + size])
            at += size
        yield found


def _optional(data: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """What is said of a table beside its types: kind and bytes."""
    while at < len(data):
        kind = data[at]
        size, at = _packed(data, at + 1)
        yield kind, data[at : at + size]
        at += size


def _key(told: Mapping[int, bytes]) -> tuple[int, ...]:
    """Places of the columns of the primary key; empty without one."""
    if 8 in told:
        return tuple(sorted(_numbers(told[8])))
    # Of each also how much of it is in the key.
    return tuple(sorted(_numbers(told.get(9, b""))[::2]))


def _metas(types: Sequence[int], data: bytes) -> Iterator[int]:
    """What is said of each type: nothing, one byte, or two."""
    at = 0
    for type_ in types:
        if type_ in (values.STRING, values.ENUM, values.SET, values.NEWDECIMAL):
            yield data[at] << 8 | data[at + 1]
            at += 2
        elif type_ in (values.VARCHAR, values.VAR_STRING, values.BIT, values.VARCHAR_COMPRESSED):
            yield data[at] | data[at + 1] << 8
            at += 2
        elif type_ in (
            values.FLOAT, values.DOUBLE, values.BLOB, values.GEOMETRY, values.TIMESTAMP2, values.DATETIME2, values.TIME2,
            values.BLOB_COMPRESSED,
        ):  # fmt: skip
            yield data[at]
            at += 1
        else:
            yield 0
