"""
Messages of PostgreSQL's pgoutput as records: what a transaction did to which row, each column as the text that the database wrote.

Belongs here: the bytes of the protocol (version 1), positions, and envelopes. Doesn't: connections (`postgres_client.py`), where messages
come from (`postgres.py`), rows that are read from tables (`postgres_snapshot.py`).

Source:
    PostgreSQL, "Logical Replication Message Formats".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any, NamedTuple, Protocol

import msgspec

from ingestion_platform.errors import SourceChanged, StreamGap
from ingestion_platform.sources.captured import BEGIN_ANEW, Gathered

_LSN_DIGITS = 20
_PLACE_DIGITS = 13
_LSNS, _PLACES = int(10**_LSN_DIGITS), int(10**_PLACE_DIGITS)
_EPOCH_2000_US = 946_684_800_000_000
"""Microseconds from 1970 to 2000, where PostgreSQL's moments begin."""

_TEXT, _NULL, _UNCHANGED_KIND = b"tnu"
_KEY, _OLD, _NEW = b"KON"
_BEGIN = Struct(">qqi").unpack_from
_COMMIT = Struct(">qq").unpack_from
_INT32 = Struct(">i").unpack_from
_INT16 = Struct(">h").unpack_from
_encode = msgspec.json.Encoder().encode

_NOT_SENT: Any = object()
"""A large value that an update left as it was: the database doesn't send it."""


class Catalog(Protocol):
    """What is asked of the database itself, because the log doesn't say it."""

    def key_of(self, oid: int) -> Sequence[str] | None:
        """Columns of a table's primary key; None without one."""
        ...

    def values_of(
        self, table: str, key: Mapping[str, str | None], columns: Sequence[str]
    ) -> Sequence[str | None] | None:
        """Values of a row as it is now, as text; None when it isn't there."""
        ...


class Position(NamedTuple):
    """
    Where a change stands, as one number: that of the slot, of the transaction's commit in the log, and of the change in its transaction.

    Args:
        slot: counts the slots that a capture has had, from 1: with each it begins anew.
        lsn: of the commit; 0 of the rows that were read from the tables at the beginning.
        place: from 1; 0 is before the transaction's first change.
    """

    slot: int
    lsn: int
    place: int

    @classmethod
    def parse(cls, position: int) -> "Position":
        """The parts of a number."""
        rest, place = divmod(position, _PLACES)
        slot, lsn = divmod(rest, _LSNS)
        return cls(slot, lsn, place)

    def __int__(self) -> int:
        """As one number; as text its digits are those of the parts."""
        return (self.slot * _LSNS + self.lsn) * _PLACES + self.place

    def __str__(self) -> str:
        """In words."""
        return f"{written_lsn(self.lsn)} (slot {self.slot}, change {self.place})"


def written_lsn(lsn: int) -> str:
    """A place in the log as PostgreSQL writes it: `16/B374D848`."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def parse_lsn(text: str) -> int:
    """The other way round."""
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


@dataclass(frozen=True, slots=True)
class _Relation:
    """A table as the log describes it, from one description to the next."""

    name: str
    columns: tuple[str, ...]
    key: tuple[int, ...]

    def row(self, values: Sequence[str | None]) -> bytes:
        """A row as a JSON object, without what wasn't sent."""
        return _encode(dict(zip(self.columns, values, strict=True)))

    def key_of(self, values: Sequence[str | None]) -> bytes:
        """The key of a row, the same."""
        return _encode({self.columns[index]: values[index] for index in self.key})


class Decoder:
    """
    Turns the messages of one connection into records.

    Args:
        slot: the slot's number, the first part of positions.
        after: positions up to this one are left out: they have landed. The log is read from its transaction on, which comes again and
            proves that the log is the same.
        catalog: asked for the key of tables whose log doesn't say it (REPLICA IDENTITY FULL or NOTHING), and for large values of rows that
            get another key.
    """

    def __init__(self, slot: int, after: Position, catalog: Catalog) -> None:
        self._slot = slot
        self._after = after
        self._catalog = catalog
        self._relations: dict[int, _Relation] = {}
        self._prefix = ""
        self._place = 0
        self._least = 0
        self._awaits = after.place > 0
        self._transaction = b""
        self.gathered = Gathered()
        self.commit_lsn = 0
        self.committed_at_us = 0
        self.is_inside = False
        self.has_come_to = 0
        self.transaction_bytes = 0

    def take(self, data: bytes) -> None:
        """
        Take a message.

        Raises:
            SourceChanged: it isn't one of the protocol.
            StreamGap: the log isn't the one of which records have landed.
        """
        kind = data[:1]
        if kind == b"I":
            self._insert(data)
        elif kind == b"U":
            self._update(data)
        elif kind == b"D":
            self._delete(data)
        elif kind == b"B":
            self._begin(data)
        elif kind == b"C":
            self._commit(data)
        elif kind == b"R":
            self._relation(data)
        elif kind == b"T":
            self._truncate(data)
        elif kind not in (b"Y", b"O", b"M"):
            raise SourceChanged(f"the database sent a message {kind!r} that pgoutput's protocol 1 doesn't have", "")

    def _begin(self, data: bytes) -> None:
        lsn, moment, transaction = _BEGIN(data, 1)
        lsn &= 0xFFFFFFFFFFFFFFFF
        self.commit_lsn = lsn
        self.committed_at_us = moment + _EPOCH_2000_US
        self.is_inside = True
        self.transaction_bytes = 0
        self._transaction = str(transaction & 0xFFFFFFFF).encode()
        self._prefix = f"{self._slot}{lsn:0{_LSN_DIGITS}d}"
        self._place = 0
        self._least = self._after.place if lsn == self._after.lsn else 0
        if self._awaits:
            self._awaits = False
            if lsn != self._after.lsn:
                raise _other_log(
                    f"where the last change that has landed was, at {self._after}, it has one at {written_lsn(lsn)}"
                )

    def _commit(self, data: bytes) -> None:
        if self._place < self._least:
            raise _other_log(
                f"the transaction at {self._after} has {self._place} changes, and {self._least} of it have landed"
            )
        self.is_inside = False
        self.has_come_to = _COMMIT(data, 2)[1] & 0xFFFFFFFFFFFFFFFF

    def check_reached(self, lsn: int) -> None:
        """
        Look whether the last change that has landed has come again, by the time when the log has been read up to a place.

        Raises:
            StreamGap: it hasn't: the log is another one.
        """
        if self._awaits and lsn > self._after.lsn:
            raise _other_log(f"the last change that has landed was at {self._after}, and it has none there")

    def _relation(self, data: bytes) -> None:
        (oid,) = _INT32(data, 1)
        schema, at = _string(data, 5)
        table, at = _string(data, at)
        identity = data[at : at + 1]
        (count,) = _INT16(data, at + 1)
        at += 3
        columns, flagged = [], []
        for index in range(count):
            if data[at]:
                flagged.append(index)
            column, at = _string(data, at + 1)
            columns.append(column)
            at += 8
        name = f"{schema}.{table}"
        if identity in (b"f", b"n") or not flagged:
            found = self._catalog.key_of(oid)
            # Without a key all that tells rows apart is all of them.
            known = [columns.index(column) for column in found or () if column in columns]
            flagged = known if found and len(known) == len(found) else list(range(count))
        self._relations[oid] = _Relation(name, tuple(columns), tuple(flagged))

    def _insert(self, data: bytes) -> None:
        relation = self._relation_of(data)
        values, _, _ = _tuple(data, 6)
        self._add(relation, b"INSERT", values)

    def _update(self, data: bytes) -> None:
        relation = self._relation_of(data)
        old: list[str | None] | None = None
        at = 5
        has_all = data[5] == _OLD
        if data[5] != _NEW:
            old, at, _ = _tuple(data, 6)
        values, _, has_gaps = _tuple(data, at + 1)
        if has_gaps and old is not None:
            # The former row has them: all of them, or those of its key.
            for index in range(len(values)) if has_all else relation.key:
                if values[index] is _NOT_SENT:
                    values[index] = old[index]
            has_gaps = any(value is _NOT_SENT for value in values)
        if old is None:
            self._add(relation, b"UPDATE", values, has_gaps=has_gaps)
        elif all(old[index] == values[index] for index in relation.key):
            # Which key it is may be asked of a table that has another one by then: places don't depend on that.
            self._next()
            self._add(relation, b"UPDATE", values, has_gaps=has_gaps)
        else:
            # Another key is another row: the former one is no more.
            self._remove(relation, old)
            if has_gaps:
                values, has_gaps = self._completed(relation, values)
            self._add(relation, b"INSERT", values, has_gaps=has_gaps)

    def _completed(self, relation: _Relation, values: list[str | None]) -> tuple[list[str | None], bool]:
        """
        A row that has got another key, with what wasn't sent as it stands in the table now.

        Whatever changes there later comes by the log, and so does it when the row is gone or gets yet another key.
        """
        missing = [name for name, value in zip(relation.columns, values, strict=True) if value is _NOT_SENT]
        key = {relation.columns[index]: values[index] for index in relation.key}
        found = self._catalog.values_of(relation.name, key, missing)
        if found is None:
            return values, True
        now = dict(zip(missing, found, strict=True))
        return [
            now[name] if value is _NOT_SENT else value for name, value in zip(relation.columns, values, strict=True)
        ], False

    def _delete(self, data: bytes) -> None:
        old, _, _ = _tuple(data, 6)
        self._remove(self._relation_of(data), old)

    def _truncate(self, data: bytes) -> None:
        (count,) = _INT32(data, 1)
        for number in range(count):
            (oid,) = _INT32(data, 6 + 4 * number)
            position = self._next()
            if position is not None:
                self._put(position, self._relations[oid].name, b"TRUNCATE", None, None)

    def _relation_of(self, data: bytes) -> _Relation:
        return self._relations[_INT32(data, 1)[0]]

    def _next(self) -> str | None:
        """The position of the next change; None when it has landed."""
        self._place = place = self._place + 1
        return f"{self._prefix}{place:0{_PLACE_DIGITS}d}" if place > self._least else None

    def _add(
        self, relation: _Relation, operation: bytes, values: Sequence[str | None], *, has_gaps: bool = False
    ) -> None:
        position = self._next()
        if position is None:
            return
        if not has_gaps:
            self._put(position, relation.name, operation, relation.key_of(values), relation.row(values))
            return
        pairs = dict(zip(relation.columns, values, strict=True))
        unsent = _encode([name for name, value in pairs.items() if value is _NOT_SENT])
        sent = {name: value for name, value in pairs.items() if value is not _NOT_SENT}
        key = _encode({name: sent.get(name) for name in (relation.columns[index] for index in relation.key)})
        self._put(position, relation.name, operation, key, _encode(sent), unsent)

    def _remove(self, relation: _Relation, old: Sequence[str | None]) -> None:
        position = self._next()
        if position is not None:
            self._put(position, relation.name, b"DELETE", relation.key_of(old), relation.row(old))

    def _put(
        self,
        position: str,
        table: str,
        operation: bytes,
        key: bytes | None,
        value: bytes | None,
        unsent: bytes | None = None,
    ) -> None:
        before = self.gathered.size_bytes
        headers = (table.encode(), operation, self._transaction)
        self.gathered.add(position, self.committed_at_us, key, value, headers, unsent)
        self.transaction_bytes += self.gathered.size_bytes - before


def _other_log(why: str) -> StreamGap:
    return StreamGap(
        f"the database's log isn't the one that has been captured until now: {why}. It is a restored database, or another one",
        BEGIN_ANEW,
    )


def _string(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(b"\0", at)
    return _decoded(data[at:end]), end + 1


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        # Of a database whose encoding is SQL_ASCII, which doesn't know what its own texts are.
        return data.decode(errors="backslashreplace")


def _tuple(data: bytes, at: int) -> tuple[list[str | None], int, bool]:
    """A row's values, where the message goes on, and whether some of them weren't sent."""
    (count,) = _INT16(data, at)
    at += 2
    values: list[str | None] = []
    has_gaps = False
    for _ in range(count):
        kind = data[at]
        if kind == _TEXT:
            start = at + 5
            at = start + _INT32(data, at + 1)[0]
            try:
                values.append(data[start:at].decode())
            except UnicodeDecodeError:
                values.append(_decoded(data[start:at]))
        else:
            at += 1
            if kind == _NULL:
                values.append(None)
            elif kind == _UNCHANGED_KIND:
                values.append(_NOT_SENT)
                has_gaps = True
            else:
                raise SourceChanged(f"the database sent a value of kind {chr(kind)!r}, which isn't text", "")
    return values, at, has_gaps
