"""
Records of DynamoDB streams, as plain JSON objects.

A record is what `GetRecords` answers with, or what Lambda is called with; both look alike. Its values carry their types
(`{"N": "1.50"}`), and here lose them without losing anything else: a number keeps every digit that it was sent with, binary values stay
base64.

Belongs here: what the types mean. Doesn't: taking members out of the object (`json_members.py`).
"""

import binascii
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from ingestion_platform.formats.json_members import NotAnObject
from ingestion_platform.formats.texts import excerpt

DEEPEST = 64
"""Levels of lists and maps; the service itself allows 32."""
OPERATIONS = ("INSERT", "MODIFY", "REMOVE")

_NUMBER = re.compile(
    r"(?P<sign>[+-]?)0*(?P<whole>[0-9]*)(?:\.(?P<fraction>[0-9]*))?(?P<exponent>[eE][+-]?[0-9]{1,9})?", re.ASCII
)
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,9})?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_SECONDS = 253_402_300_799
"""The end of the year 9999."""


class _Change(msgspec.Struct):
    keys: dict[str, Any] = msgspec.field(name="Keys")
    sequence_number: str = msgspec.field(name="SequenceNumber")
    new: dict[str, Any] | None = msgspec.field(name="NewImage", default=None)
    old: dict[str, Any] | None = msgspec.field(name="OldImage", default=None)
    changed_at: msgspec.Raw = msgspec.field(name="ApproximateCreationDateTime", default=msgspec.Raw(b"null"))


class _Record(msgspec.Struct):
    operation: str = msgspec.field(name="eventName")
    change: _Change = msgspec.field(name="dynamodb")
    event_id: str | None = msgspec.field(name="eventID", default=None)


_RECORD = msgspec.json.Decoder(_Record)
_json = msgspec.json.Encoder().encode


def decode_change(value: bytes, _schema: str | None = None) -> bytes:
    """
    A change as a plain JSON object; its members are those of `stream.DynamoDbChanges`.

    Sets are arrays in ascending order, so that equal ones look equal. `changed_at` is ISO 8601, UTC.

    Raises:
        NotAnObject: it is no such record; says why.
    """
    try:
        return _plain_object(_RECORD.decode(value))
    except msgspec.ValidationError as error:
        raise NotAnObject(f"is not a record of a DynamoDB stream: {error}") from error
    except msgspec.DecodeError as error:
        raise NotAnObject(f"is not JSON: {str(error).removeprefix('JSON is malformed: ')}") from error
    except UnicodeDecodeError as error:
        raise NotAnObject(f"is not text in utf-8: {error}") from error
    except RecursionError as error:
        raise NotAnObject("is nested too deeply") from error


def plain_members(path: str, members: Mapping[str, Any]) -> dict[str, bytes]:
    """
    Attributes without their types, each as JSON.

    Raises:
        NotAnObject: one has no type that DynamoDB has.
    """
    return {name: _plain(f"{path}.{name}", value, 0) for name, value in members.items()}


def _plain_object(record: _Record) -> bytes:
    change = record.change
    if record.operation not in OPERATIONS:
        raise NotAnObject(
            f"is not a record of a DynamoDB stream: eventName {excerpt(record.operation)} is none of {', '.join(OPERATIONS)}"
        )
    if not (change.sequence_number.isascii() and change.sequence_number.isdigit()):
        raise NotAnObject(
            f"is not a record of a DynamoDB stream: SequenceNumber {excerpt(change.sequence_number)} is no number"
        )
    if not change.keys:
        raise NotAnObject("is not a record of a DynamoDB stream: it has no keys")
    parts = [b'{"operation":', _json(record.operation), b',"keys":', _members("Keys", change.keys)]
    for name, image in (("new", change.new), ("old", change.old)):
        if image is not None:
            parts += [b',"', name.encode(), b'":', _members(name, image)]
    if record.event_id is not None:
        parts += [b',"event_id":', _json(record.event_id)]
    parts += [b',"sequence_number":', _json(change.sequence_number)]
    if bytes(change.changed_at) != b"null":
        parts += [b',"changed_at":', _json(_moment(bytes(change.changed_at)))]
    parts.append(b"}")
    return b"".join(parts)


def _moment(raw: bytes) -> str:
    """Seconds since 1970 as ISO 8601, UTC. A record that somebody has written as ISO 8601 is taken too."""
    text = raw.decode().strip('"')
    try:
        if not _JSON_NUMBER.fullmatch(text):
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                raise ValueError(text)
            return moment.astimezone(UTC).isoformat()
        seconds = Decimal(text)
        if abs(seconds) > _LATEST_SECONDS:
            raise ValueError(text)
        return (_EPOCH + timedelta(microseconds=int(seconds * 1_000_000))).isoformat()
    except (ValueError, OverflowError, ArithmeticError) as error:
        raise NotAnObject(f"ApproximateCreationDateTime {excerpt(text)} is no moment") from error


def _members(path: str, members: Mapping[str, Any], depth: int = 0) -> bytes:
    inner = [_json(name) + b":" + _plain(f"{path}.{name}", value, depth) for name, value in members.items()]
    return b"{" + b",".join(inner) + b"}"


def _plain(path: str, value: Any, depth: int) -> bytes:
    """A value without its type, as JSON."""
    if depth > DEEPEST:
        raise NotAnObject(f"is nested too deeply: more than {DEEPEST} levels")
    if not isinstance(value, dict) or len(value) != 1:
        raise NotAnObject(f"{excerpt(path)} is not a value with one type: {excerpt(_json(value).decode(), 80)}")
    ((type_, content),) = value.items()
    match type_, content:
        case "S", str():
            return _json(content)
        case "N", str():
            return _number(path, content)
        case "B", str():
            return _binary(path, content)
        case "BOOL", bool():
            return b"true" if content else b"false"
        case "NULL", True:
            return b"null"
        case "M", dict():
            return _members(path, content, depth + 1)
        case "L", list():
            return b"[" + b",".join([_plain(f"{path}[]", one, depth + 1) for one in content]) + b"]"
        case "SS", list():
            return _set(path, content, _text, lambda one: one)
        case "NS", list():
            return _set(path, content, _number, Decimal)
        case "BS", list():
            return _set(path, content, _binary, lambda one: one)
    raise NotAnObject(f"{excerpt(path)} is not of a type that DynamoDB has: {excerpt(_json(value).decode(), 80)}")


def _set(path: str, content: list[Any], written: Callable[[str, str], bytes], order: Callable[[str], Any]) -> bytes:
    if not all(isinstance(one, str) for one in content):
        raise NotAnObject(f"{excerpt(path)} is a set of something that isn't text")
    found = [(one, written(path, one)) for one in content]
    return b"[" + b",".join([text for _, text in sorted(found, key=lambda pair: order(pair[0]))]) + b"]"


def _text(_path: str, content: str) -> bytes:
    return _json(content)


def _number(path: str, content: str) -> bytes:
    """A number with the digits that it has; what JSON can't say so (`.5`, `+1`, `007`) in the nearest way that it can."""
    if _JSON_NUMBER.fullmatch(content):
        return content.encode()
    found = _NUMBER.fullmatch(content)
    if found is None or not any(character.isdigit() for character in content.lower().partition("e")[0]):
        raise NotAnObject(f"{excerpt(path)} is not a number: {excerpt(content, 80)}")
    sign = "-" if found["sign"] == "-" else ""
    fraction = f".{found['fraction']}" if found["fraction"] else ""
    return f"{sign}{found['whole'] or '0'}{fraction}{found['exponent'] or ''}".encode()


def _binary(path: str, content: str) -> bytes:
    try:
        binascii.a2b_base64(content, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise NotAnObject(f"{excerpt(path)} is not base64: {excerpt(content, 80)}") from error
    return _json(content)
