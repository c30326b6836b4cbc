r"""
JSON lines to records: one JSON object a line, RFC 8259 to the letter.

Only `\n` ends a line (a `\r` before it is white space to JSON); blank lines are no records. Nothing is converted: numbers keep the digits
they were written with, objects and arrays stay the JSON they are.

A member that an object has twice is legal JSON, and readers differ in what they make of it: here the last value counts, as nearly
everywhere, and `_extra` keeps an array of all of them under that name.
"""

import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec

from ingestion_platform.errors import ObjectRejected
from ingestion_platform.formats import tables
from ingestion_platform.formats.records import Field, Records, RejectedRecord
from ingestion_platform.formats.texts import BOM, as_it_stands, decode_marking, excerpt, is_utf_8, refuse_binary

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_HALF_OF_A_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")
_QUOTE, _BACKSLASH, _NULL, _BRACE = b'"\\n{'

Members: TypeAlias = dict[str, bytes]


def read_json_lines(content: bytes, fields: Sequence[Field]) -> Records:
    """
    Read JSON lines.

    Raises:
        ObjectRejected: it isn't text, its last line is cut, or it has several lines and none of them is a JSON object.
    """
    if content.startswith(BOM):
        content = content[len(BOM) :]
    refuse_binary(content, content[: content.find(b"\n") + 1] or content, "utf-8")
    if content[:200].lstrip().startswith(b"[") and content[-200:].rstrip().endswith(b"]") and b"\n" in content.strip():
        raise ObjectRejected(
            "is not JSON lines: it is one JSON array over several lines", "one object a line, no array around them"
        )
    reader = _Reader(fields)
    table = tables.from_rows(fields, reader.rows(content))
    if not table.num_rows and len(reader.rejected) > 1:
        first = reader.rejected[0]
        raise ObjectRejected(
            f"is not JSON lines: none of its {len(reader.rejected):,} lines is a JSON object; the first: {excerpt(first.record)}",
            "one object a line, no array around them",
        )
    missing = (
        dict.fromkeys(field.source for field in fields if field.source not in reader.seen) if reader.records else {}
    )
    return Records(table, tuple(reader.rejected), tuple(reader.unknown), tuple(missing))


@dataclass(slots=True)
class _Node:
    """What is wanted of one member: its value for some fields, members of its own for others."""

    source: str = ""
    fields: list[int] = field(default_factory=list)
    members: dict[str, "_Node"] = field(default_factory=dict)


class _NotAnObject(Exception):
    """A line isn't a JSON object that can be kept as text."""


class _Reader:
    def __init__(self, fields: Sequence[Field]) -> None:
        self.root = _Node()
        for index, wanted in enumerate(fields):
            node = self.root
            for name in wanted.source.split("."):
                node = node.members.setdefault(name, _Node())
            node.fields.append(index)
            node.source = wanted.source
        self.width = len(fields)
        self.rejected: list[RejectedRecord] = []
        self.unknown: dict[str, None] = {}
        self.seen: set[str] = set()
        self.records = 0

    def rows(self, content: bytes) -> Iterator[Sequence[str | int | None]]:
        row = 0
        is_clean = is_utf_8(content)
        for line in io.BytesIO(content):
            stripped = line.strip(b" \t\r\n")
            if not stripped:
                continue
            row += 1
            try:
                if not is_clean and not is_utf_8(stripped):
                    raise _NotAnObject("is not text in utf-8")
                values: list[str | int | None] = [None] * self.width
                extra = self._take(_members(stripped), self.root, values, "")
            except _NotAnObject as error:
                if not line.endswith(b"\n"):
                    raise ObjectRejected(
                        f"is cut: its last line has no line end and {error}", "it is read again when it changes"
                    ) from error
                text = decode_marking(line.rstrip(b"\n").removesuffix(b"\r"), "utf-8")
                self.rejected.append(RejectedRecord(row, str(error), as_it_stands(text)))
                continue
            self.records += 1
            values.append(extra)
            values.append(row)
            yield values

    def _take(
        self, found: tuple[Members, dict[str, str]], node: _Node, values: list[str | int | None], path: str
    ) -> str | None:
        """Fill *values* from an object's members; give what is left of the object, as JSON."""
        members, repeated = found
        wanted, left = node.members, []
        for name, raw in members.items():
            member = wanted.get(name)
            if member is None:
                self.unknown[path + name] = None
                left.append((name, repeated.pop(name, "") or raw.decode()))
                continue
            if member.fields:
                self.seen.add(member.source)
                text = _value(raw)
                for index in member.fields:
                    values[index] = text
            if member.members:
                if raw[0] == _BRACE:
                    inner = self._take(_members(raw), member, values, f"{path}{name}.")
                    if inner is not None and not member.fields:
                        left.append((name, inner))
                elif raw[0] != _NULL and not member.fields:
                    self.unknown[path + name] = None
                    left.append((name, raw.decode()))
        if repeated:
            left = [pair for pair in left if pair[0] not in repeated] + list(repeated.items())
        if not left:
            return None
        return "{" + ",".join(f"{_json(name)}:{raw}" for name, raw in left) + "}"


def _members(text: bytes) -> tuple[Members, dict[str, str]]:
    """
    The members of a JSON object, each value as it is written; and those that it has more than once, as arrays.

    Raises:
        _NotAnObject: says why it isn't one.
    """
    try:
        members = {name: bytes(raw) for name, raw in _MEMBERS.decode(text).items()}
    except msgspec.ValidationError as error:
        raise _NotAnObject(f"is not a JSON object: {error}") from error
    except msgspec.DecodeError as error:
        if _HALF_OF_A_PAIR.search(text) and text.endswith(b"}"):
            raise _NotAnObject("is not JSON, or holds half of a surrogate pair, which is no character") from error
        raise _NotAnObject(f"is not JSON: {str(error).removeprefix('JSON is malformed: ')}") from error
    except UnicodeDecodeError as error:
        raise _NotAnObject(f"is not text in utf-8: {error}") from error
    except RecursionError as error:
        raise _NotAnObject("is nested too deeply") from error
    return members, {} if _is_single(text, members) else _repeated(text)


def _is_single(text: bytes, members: Members) -> bool:
    """
    Whether no member is there twice, proved by its commas: those inside the values kept, and one between each two of them.

    One more member, which the decoder dropped, would need one comma more.
    """
    if not members:
        return b'"' not in text
    between = len(members) - 1
    # A comma in a name may be written \u002c, and then be none in the text.
    return (
        ",".join(members).count(",") == between and text.count(b",") == b"".join(members.values()).count(b",") + between
    )


class _Pairs(list[tuple[str, Any]]):
    """An object with all its members, also those that are there twice."""


class _Number(str):
    """A number as it is written."""


def _repeated(text: bytes) -> dict[str, str]:
    try:
        pairs = json.loads(text, object_pairs_hook=_Pairs, parse_int=_Number, parse_float=_Number)
        values: dict[str, list[str]] = {}
        for name, value in pairs:
            values.setdefault(name, []).append(_written(value))
    except RecursionError as error:
        raise _NotAnObject("is nested too deeply") from error
    return {name: f"[{','.join(all_)}]" for name, all_ in values.items() if len(all_) > 1}


def _written(value: Any) -> str:
    if isinstance(value, _Pairs):
        return "{" + ",".join(f"{_json(name)}:{_written(member)}" for name, member in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    return str(value) if isinstance(value, _Number) else _json(value)


def _value(raw: bytes) -> str | None:
    first = raw[0]
    if first == _QUOTE:
        return _TEXT.decode(raw) if _BACKSLASH in raw else raw[1:-1].decode()
    return None if first == _NULL else raw.decode()


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
