"""
Captured changes, as plain JSON objects: what Debezium and Maxwell write of one change, and lines of DynamoDB's exports.

An object has the row's columns as its members, and what is told beside them under the names of `change_log.CHANGE_FIELDS`; `@before` holds
what is said of the row before. A change that gives its row another key is two: the removal of the former, and the other one's insertion.

Belongs here: one change's text. Doesn't: where it comes from (`change_files.py`, `segments.py`), taking members out (`json_members.py`).
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Context, Decimal, InvalidOperation
from typing import Any, TypeAlias

import msgspec

from ingestion_platform.change_log import CapturedValues, Debezium, DynamoDbExport, Maxwell, is_told_of_change
from ingestion_platform.formats.dynamodb_values import plain_members
from ingestion_platform.formats.json_members import Members, NotAnObject, members_of
from ingestion_platform.formats.records import Field
from ingestion_platform.formats.texts import excerpt

Decoder: TypeAlias = Callable[[bytes], "list[bytes]"]
"""A change's text → objects: none where it is another table's, two where it gives its row another key. Raises `NotAnObject`."""

_NULL = b"null"
_EPOCH = datetime(1970, 1, 1)
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,4})?", re.ASCII)
_INTEGER = re.compile(rb"-?[0-9]{1,25}")
_EXPORT = re.compile(r"(?:^|/)(?P<ms>[0-9]{14})-[0-9a-f]{8}/")
_TICKS = {"milliseconds": 1_000, "microseconds": 1_000_000, "nanoseconds": 1_000_000_000}
_LAST = "9999999999"
"""Behind every other change of its transaction."""
_TOLD = re.compile('"@(operation|source_position|changed_at|unsent|table|transaction|before)":')
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_EXACT = Context(prec=20_000)
_ANY = msgspec.json.Decoder().decode
_json = msgspec.json.Encoder().encode

_DATES = ("io.debezium.time.Date", "org.apache.kafka.connect.data.Date")
_TIMESTAMPS = {
    "io.debezium.time.Timestamp": "milliseconds", "org.apache.kafka.connect.data.Timestamp": "milliseconds",
    "io.debezium.time.MicroTimestamp": "microseconds", "io.debezium.time.NanoTimestamp": "nanoseconds",
}  # fmt: skip
_TIMES = {
    "io.debezium.time.Time": "milliseconds", "org.apache.kafka.connect.data.Time": "milliseconds",
    "io.debezium.time.MicroTime": "microseconds", "io.debezium.time.NanoTime": "nanoseconds",
}  # fmt: skip
_DECIMAL, _ANY_SCALE = "org.apache.kafka.connect.data.Decimal", "io.debezium.data.VariableScaleDecimal"


class Wanted:
    """
    What the declared columns say of the captured table's: which are its key, and of what types they are.

    Args:
        fields: the values wanted.
    """

    def __init__(self, fields: Sequence[Field]) -> None:
        of_row = [field for field in fields if not is_told_of_change(field.source)]
        self.kinds = {field.source: field.kind for field in of_row}
        self.kinds |= {field.source.removeprefix("@before."): field.kind for field in fields if field.source[:1] == "@"}
        self.key = tuple(field.source for field in of_row if field.is_key)
        self.columns = tuple(dict.fromkeys(field.source.partition(".")[0] for field in of_row))


def change_decoder(
    format: CapturedValues | DynamoDbExport,
    fields: Sequence[Field],
    *,
    key: str = "",
    strangers: dict[str, int] | None = None,
) -> Decoder:
    """
    What turns a change's text into objects.

    Args:
        format: who captured it.
        fields: the values wanted.
        key: of the object it stands in.
        strangers: counts changes of tables that no dataset takes.
    """
    wanted, others = Wanted(fields), strangers if strangers is not None else {}
    match format:
        case Debezium():
            return _DebeziumDecoder(format, wanted, others).decode
        case Maxwell():
            return _MaxwellDecoder(format, wanted, others).decode
        case DynamoDbExport():
            return _ExportDecoder(key).decode


def without_told(extra: str | None) -> str | None:
    """What is left over of a change, without what it tells beside its row."""
    if extra is None or _TOLD.search(extra) is None:
        return extra
    left = {name: bytes(raw) for name, raw in _MEMBERS.decode(extra.encode()).items() if not name.startswith("@")}
    return _object(left).decode() if left else None


def tombstone() -> bytes:
    """What a record without a value says."""
    return _told("tombstone")


def _told(
    operation: str,
    row: Mapping[str, bytes] | None = None,
    *,
    before: Mapping[str, bytes] | None = None,
    position: str | None = None,
    changed_at: str | None = None,
    unsent: Iterable[str] = (),
    table: str = "",
    transaction: str | None = None,
) -> bytes:
    """A change as an object; members of the row are JSON."""
    members = dict(row or {})
    told = {
        "@operation": operation, "@source_position": position, "@changed_at": changed_at, "@table": table or None,
        "@transaction": transaction,
    }  # fmt: skip
    members |= {name: _json(value) for name, value in told.items() if value is not None}
    if names := sorted(unsent):
        members["@unsent"] = _json(names)
    if before:
        members["@before"] = _object(before)
    return _object(members)


def _object(members: Mapping[str, bytes]) -> bytes:
    return b"{" + b",".join([_json(name) + b":" + value for name, value in members.items()]) + b"}"


def _two_where_the_key_changed(
    wanted: Wanted, row: Members, before: Members, told: Callable[..., bytes]
) -> list[bytes]:
    """An update, or what it is when its row got another key; *told* makes an object of an operation and a row."""
    if not any(name in before and before[name] != row.get(name) for name in wanted.key):
        return [told("update", row, before=before)]
    former = {name: before.get(name, row.get(name, _NULL)) for name in wanted.key}
    return [told("delete", {**before, **former}, before=before), told("insert", row, before=before)]


def _once(text: bytes) -> Members:
    """An object's members, none of which is there twice: a change that says two things of a column says none."""
    members, repeated = members_of(text)
    if repeated:
        raise NotAnObject(f"has {excerpt(next(iter(repeated)), 40)} twice in one object")
    return members


def _members(what: str, raw: bytes | None) -> Members | None:
    """The members of an object that may be missing or null."""
    if raw is None or raw == _NULL:
        return None
    if raw[:1] != b"{":
        raise NotAnObject(
            f"is no change event: its {what!r} is no object but {excerpt(raw[:100].decode(errors='replace'))}"
        )
    return _once(raw)


def _plain(raw: bytes | None) -> Any:
    """
    What a small value says.

    Raises:
        NotAnObject: it holds half of a surrogate pair, or is nested too deeply.
    """
    if raw is None:
        return None
    try:
        return _ANY(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NotAnObject(
            f"holds {excerpt(raw[:100].decode(errors='replace'))}, which can't be read: {error}"
        ) from error


def _moment(ticks: int, per_second: int) -> str:
    """ISO 8601, as it was written: without an offset."""
    seconds, rest = divmod(ticks, per_second)
    try:
        moment = (_EPOCH + timedelta(seconds=seconds)).isoformat(sep=" ")
    except OverflowError as error:
        raise NotAnObject(f"holds {ticks} where a moment should be, which is out of all years") from error
    digits = f"{rest:0{len(str(per_second)) - 1}d}".rstrip("0")
    return f"{moment}.{digits.ljust(6, '0')}" if digits else moment


def _others(format: Debezium | Maxwell, name: str, strangers: dict[str, int]) -> bool:
    """Whether a change is another table's; counts those that no dataset takes."""
    if not format.table or not name:
        return False
    if name == format.table or name.endswith("." + format.table):
        return False
    if not any(name == other or name.endswith("." + other) for other in format.others):
        strangers[name] = strangers.get(name, 0) + 1
    return True


# --- Debezium


_DEBEZIUM = {"c": "insert", "u": "update", "d": "delete", "r": "snapshot", "t": "truncate", "m": "message"}


class _DebeziumDecoder:
    """Events of Debezium."""

    def __init__(self, format: Debezium, wanted: Wanted, strangers: dict[str, int]) -> None:
        self._format = format
        self._wanted = wanted
        self._strangers = strangers
        self._schemas: dict[bytes, dict[str, tuple[str, Mapping[str, Any]]]] = {}
        self._mark = format.unavailable
        mark = format.unavailable.encode()
        in_base64 = (base64.b64encode(mark).decode(), base64.urlsafe_b64encode(mark).decode())
        self._unavailable = {_json(one) for one in (format.unavailable, mark.hex(), *in_base64)}

    def _is_sent(self, raw: bytes) -> bool:
        """Whether a value isn't what stands for one that wasn't sent: as text, as bytes, in an array or a map."""
        if raw in self._unavailable:
            return False
        is_nested = raw[:1] in (b"[", b"{") and self._mark.encode() in raw
        return not (is_nested and _plain(raw) in ([self._mark], {self._mark: self._mark}))

    def decode(self, text: bytes) -> list[bytes]:
        """A change's objects."""
        if text == _NULL:
            return [tombstone()]
        members = _once(text)
        kinds: Mapping[str, tuple[str, Mapping[str, Any]]] | None = None
        if "payload" in members and "op" not in members:
            if members["payload"] == _NULL:
                return [tombstone()]
            schema = members.get("schema", _NULL)
            kinds = self._kinds(schema) if schema != _NULL else None
            members = _members("payload", members["payload"]) or {}
        if "op" not in members:
            return [self._message(members)]
        operation = _DEBEZIUM.get(str(_plain(members["op"])))
        if operation is None:
            raise NotAnObject(f"is no change event of Debezium: its op is {excerpt(members['op'].decode())}")
        source = _plain(members.get("source")) or {}
        if not isinstance(source, dict):
            raise NotAnObject("is no change event of Debezium: its source is no object")
        name = ".".join(str(source[part]) for part in ("db", "schema", "table") if source.get(part))
        if not source.get("table"):
            name = ""
        if _others(self._format, name, self._strangers):
            return []
        told: dict[str, Any] = {
            "position": _position_of(source, operation),
            "changed_at": _changed_at(source) or _changed_at({one: _plain(members.get(one)) for one in _CLOCKS}),
            "table": name,
            "transaction": str(source["txId"]) if source.get("txId") is not None else None,
        }
        if operation in ("truncate", "message"):
            return [_told(operation, **told)]
        return self._rows(operation, members, kinds, told)

    def _rows(self, operation: str, members: Members, kinds: Any, told: dict[str, Any]) -> list[bytes]:
        after, before = _members("after", members.get("after")), _members("before", members.get("before"))
        row = before if operation == "delete" else after
        if row is None:
            where = "before" if operation == "delete" else "after"
            raise NotAnObject(f"is no change event of Debezium: it has op {members['op'].decode()} and no {where!r}")
        was = {name: self._value(name, raw, kinds) for name, raw in (before or {}).items() if self._is_sent(raw)}
        if operation == "delete":
            return [_told("delete", was, before=was, **told)]
        unsent = [name for name, raw in row.items() if not self._is_sent(raw)]
        if self._format.partial_updates and operation == "update":
            unsent += [name for name in self._wanted.columns if name not in row]
        values = {name: self._value(name, raw, kinds) for name, raw in row.items() if self._is_sent(raw)}
        if operation != "update":
            return [_told(operation, values, before=was, unsent=unsent, **told)]

        def one(what: str, row: Members, *, before: Members) -> bytes:
            return _told(what, row, before=before, unsent=() if what == "delete" else unsent, **told)

        return _two_where_the_key_changed(self._wanted, values, was, one)

    @staticmethod
    def _message(members: Members) -> bytes:
        """What Debezium writes beside changes: of transactions, of the schema, and that it is alive."""
        has = set(members)
        if {"status", "id"} <= has or "ddl" in has or "tableChanges" in has or has == {"ts_ms"}:
            return _told("message", changed_at=_changed_at({one: _plain(members.get(one)) for one in _CLOCKS}))
        raise NotAnObject("is no change event of Debezium: it has no op")

    # --- values

    def _kinds(self, schema: bytes) -> dict[str, tuple[str, Mapping[str, Any]]]:
        """Column → what its schema calls it, and its parameters."""
        found = self._schemas.get(schema)
        if found is None:
            found = {}
            try:
                fields = json.loads(schema)["fields"]
                rows = [one for one in fields if one.get("field") in ("before", "after")]
                for one in (field for row in rows for field in row.get("fields", ())):
                    found[one["field"]] = (one.get("name") or "", one.get("parameters") or {})
            except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
                raise NotAnObject(f"has a schema that isn't one of Kafka Connect: {error!r}") from error
            self._schemas[schema] = found
        return found

    def _value(self, name: str, raw: bytes, kinds: Mapping[str, tuple[str, Mapping[str, Any]]] | None) -> bytes:
        """A value as JSON that says what it means."""
        if raw == _NULL:
            return raw
        if kinds is not None and name in kinds:
            meaning, parameters = kinds[name]
            return self._named(name, raw, meaning, parameters) if meaning else raw
        kind = self._wanted.kinds.get(name, "")
        if kind == "DATE" and _INTEGER.fullmatch(raw):
            return _json(_date(name, raw))
        if kind == "TIMESTAMP" and _INTEGER.fullmatch(raw):
            if self._format.timestamps is None:
                raise NotAnObject(
                    f"holds a whole number as {excerpt(name, 40)}, and neither a schema nor timestamps of Debezium(…) says what it counts"
                )
            return _json(_moment(int(raw), _TICKS[self._format.timestamps]))
        if kind.startswith("DECIMAL("):
            return self._decimal(name, raw, int(kind[:-1].partition(",")[2]))
        return raw

    @staticmethod
    def _named(name: str, raw: bytes, meaning: str, parameters: Mapping[str, Any]) -> bytes:
        if meaning in _DATES:
            return _json(_date(name, raw))
        if meaning in _TIMESTAMPS:
            return _json(_moment(_whole(name, raw), _TICKS[_TIMESTAMPS[meaning]]))
        if meaning in _TIMES:
            return _json(_moment(_whole(name, raw), _TICKS[_TIMES[meaning]]).partition(" ")[2])
        if meaning == _DECIMAL:
            try:
                scale = int(parameters["scale"])
            except (KeyError, TypeError, ValueError) as error:
                raise NotAnObject(f"has a schema without the scale of {excerpt(name, 40)}") from error
            return _unscaled(name, _plain(raw), scale)
        if meaning == _ANY_SCALE:
            return _any_scale(name, raw)
        return raw

    def _decimal(self, name: str, raw: bytes, scale: int) -> bytes:
        if raw[:1] == b"{":
            return _any_scale(name, raw)
        if raw[:1] != b'"':
            return raw
        text = _plain(raw)
        if self._format.decimals == "text":
            return raw
        if self._format.decimals == "base64":
            return _unscaled(name, text, scale)
        if _NUMBER.fullmatch(text) is None:
            return _unscaled(name, text, scale)
        if _bytes(text) is None:
            return raw
        raise NotAnObject(
            f"holds {excerpt(text, 40)} as {excerpt(name, 40)}, a number or one in base64: neither a schema nor decimals of"
            " Debezium(…) says which"
        )


_CLOCKS = ("ts_us", "ts_ms", "ts_ns")


def _changed_at(clocks: Mapping[str, Any]) -> str | None:
    """The moment that `ts_us`, `ts_ms` or `ts_ns` say, UTC; of a source that doesn't know it, 0."""
    for name, per_second in (("ts_us", 1_000_000), ("ts_ms", 1_000), ("ts_ns", 1_000_000_000)):
        value = clocks.get(name)
        if value is not None and re.fullmatch("[0-9]{1,19}", str(value)) and int(value):
            # The warehouse's moments have microseconds.
            return _moment(int(value) * 1_000_000 // per_second, 1_000_000) + "+00:00"
    return None


def _position_of(source: Mapping[str, Any], operation: str) -> str | None:
    """Where in its source's log a change stands; what was found at the beginning comes before what happened there."""
    is_found = operation == "snapshot" or str(source.get("snapshot", "false")).lower() in (
        "true",
        "first",
        "last",
        "incremental",
    )
    try:
        if source.get("lsn") is not None:
            return f"{int(source['lsn'])}:{0 if is_found else 1}"
        if source.get("commit_lsn"):
            commit, change = _digits(source["commit_lsn"]), _digits(source.get("change_lsn") or "0:0:0")
            serial = int(source.get("event_serial_no") or 0)
            return f"{commit}.{change}:{0 if is_found else serial + 1}"
        if source.get("file"):
            number = int(str(source["file"]).rpartition(".")[2])
            return f"{number:010d}.{int(source['pos']):020d}:{0 if is_found else int(source.get('row') or 0) + 1}"
    except (ValueError, KeyError, TypeError) as error:
        raise NotAnObject(f"has a source whose position can't be read: {error}") from error
    return None


def _digits(lsn: str) -> str:
    """A position of SQL Server, `00000027:00000758:0005`, in decimal digits."""
    parts = [int(part, 16) for part in str(lsn).split(":")]
    if len(parts) != 3:
        raise ValueError(f"{excerpt(str(lsn), 40)} has no three parts")
    return f"{parts[0]:010d}{parts[1]:010d}{parts[2]:05d}"


def _whole(name: str, raw: bytes) -> int:
    if not _INTEGER.fullmatch(raw):
        raise NotAnObject(
            f"holds {excerpt(raw[:60].decode(), 40)} as {excerpt(name, 40)}, and its schema says a whole number"
        )
    return int(raw)


def _date(name: str, raw: bytes) -> str:
    try:
        return (date(1970, 1, 1) + timedelta(days=_whole(name, raw))).isoformat()
    except OverflowError as error:
        raise NotAnObject(f"holds {raw.decode()} as {excerpt(name, 40)}, which is out of all years") from error


def _bytes(text: str) -> bytes | None:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError):
        return None


def _unscaled(name: str, text: Any, scale: int) -> bytes:
    """A number of which the bytes without its point are given."""
    found = _bytes(text) if isinstance(text, str) else None
    if not found:
        raise NotAnObject(f"holds {excerpt(str(text), 40)} as {excerpt(name, 40)}, and that is no number in base64")
    try:
        value = Decimal(int.from_bytes(found, "big", signed=True)).scaleb(-scale, _EXACT)
    except InvalidOperation as error:
        raise NotAnObject(f"holds a number of {len(found)} bytes as {excerpt(name, 40)}") from error
    return _json(format(value, "f"))


def _any_scale(name: str, raw: bytes) -> bytes:
    found = _plain(raw)
    if not isinstance(found, dict) or not isinstance(found.get("scale"), int) or abs(found["scale"]) > 10_000:
        raise NotAnObject(f"holds an object as {excerpt(name, 40)} that is no number with its scale")
    return _unscaled(name, found.get("value"), found["scale"])


# --- Maxwell


_MAXWELL = {"insert": "insert", "update": "update", "delete": "delete", "bootstrap-insert": "snapshot"}
_MESSAGES = re.compile("bootstrap-(start|complete)|(table|database)-(create|alter|drop)|heartbeat")


class _MaxwellDecoder:
    """Events of Maxwell."""

    def __init__(self, format: Maxwell, wanted: Wanted, strangers: dict[str, int]) -> None:
        self._format = format
        self._wanted = wanted
        self._strangers = strangers

    def decode(self, text: bytes) -> list[bytes]:
        """A change's objects."""
        if text == _NULL:
            return [tombstone()]
        members = _once(text)
        type_ = _plain(members.get("type"))
        name = ".".join(
            str(_plain(members[part])) for part in ("database", "table") if members.get(part, _NULL) != _NULL
        )
        if not isinstance(type_, str):
            raise NotAnObject("is no change event of Maxwell: it has no type")
        if "table" in members and _others(self._format, name, self._strangers):
            return []
        told: dict[str, Any] = {"changed_at": self._changed_at(members), "table": name}
        if _MESSAGES.fullmatch(type_):
            return [_told("message", **told)]
        if type_ not in _MAXWELL:
            raise NotAnObject(f"is no change event of Maxwell: its type is {excerpt(type_)}")
        data = _members("data", members.get("data"))
        if data is None:
            raise NotAnObject("is no change event of Maxwell: it has no data")
        operation, was = _MAXWELL[type_], _members("old", members.get("old")) or {}
        xid = _plain(members.get("xid"))
        told |= {"position": self._position(members), "transaction": str(xid) if xid is not None else None}
        if operation == "delete":
            return [_told("delete", data, before=data, **told)]
        if operation != "update":
            return [_told(operation, data, **told)]
        unsent = [one for one in self._wanted.columns if one not in data] if self._format.partial_updates else []

        def one(what: str, row: Members, *, before: Members) -> bytes:
            return _told(what, row, before=before, unsent=() if what == "delete" else unsent, **told)

        return _two_where_the_key_changed(self._wanted, data, was, one)

    @staticmethod
    def _changed_at(members: Members) -> str | None:
        ts = members.get("ts", _NULL)
        if ts == _NULL:
            return None
        if not _INTEGER.fullmatch(ts):
            raise NotAnObject(f"is no change event of Maxwell: its ts is {excerpt(ts[:60].decode(), 40)}")
        return _moment(int(ts), 1) + "+00:00"

    @staticmethod
    def _position(members: Members) -> str | None:
        where = _plain(members.get("position"))
        if where is None:
            return None
        found = re.fullmatch(r".*\.([0-9]{1,10}):([0-9]{1,20})", str(where), re.ASCII)
        if found is None:
            raise NotAnObject(f"has a position that can't be read: {excerpt(str(where), 40)}")
        offset = _plain(members.get("xoffset"))
        # The last change of a transaction has none.
        last = _LAST if members.get("commit") == b"true" and offset is None else str(offset or 0)
        return f"{int(found[1]):010d}.{int(found[2]):020d}:{last}"


# --- exports of DynamoDB


class _ExportDecoder:
    def __init__(self, key: str) -> None:
        found = _EXPORT.search(key)
        self._exported_at = int(found["ms"]) * 1_000 if found else None

    def decode(self, text: bytes) -> list[bytes]:
        """An item's or a change's object."""
        members = _once(text)
        if "Item" in members:
            at = self._exported_at
            return [
                _told(
                    "snapshot", self._row("Item", members), position=self._position(at, 0), changed_at=self._moment(at)
                )
            ]
        if "Keys" not in members:
            raise NotAnObject("is no line of an export of DynamoDB: it has neither Item nor Keys")
        written = _plain((_members("Metadata", members.get("Metadata")) or {}).get("WriteTimestampMicros"))
        if not isinstance(written, dict) or not re.fullmatch("[0-9]{1,17}", str(written.get("N"))):
            raise NotAnObject("is no line of an export of DynamoDB: its metadata don't say when it was written")
        at = int(written["N"])
        told: dict[str, Any] = {"position": self._position(at, 1), "changed_at": self._moment(at)}
        keys = self._row("Keys", members)
        before = self._row("OldImage", members) if members.get("OldImage", _NULL) != _NULL else None
        if members.get("NewImage", _NULL) == _NULL:
            return [_told("delete", {**(before or {}), **keys}, before=before, **told)]
        row = {**self._row("NewImage", members), **keys}
        return [_told("update" if before else "insert", row, before=before, **told)]

    @staticmethod
    def _row(what: str, members: Members) -> Members:
        found = _plain(members[what])
        if not isinstance(found, dict):
            raise NotAnObject(f"is no line of an export of DynamoDB: its {what} is no object")
        return plain_members(what, found)

    @staticmethod
    def _position(at: int | None, rank: int) -> str | None:
        return f"{at}:{rank}" if at is not None else None

    @staticmethod
    def _moment(at: int | None) -> str | None:
        return _moment(at, 1_000_000) + "+00:00" if at is not None else None
