"""
JSON objects to the values wanted of them: numbers keep the digits they were written with, objects and arrays stay the JSON they are.

Belongs here: one object's text. Doesn't: where one object ends and the next begins (`json_lines.py`, `segments.py`).

A member that an object has twice is legal JSON, and readers differ in what they make of it: here the last value counts, as nearly
everywhere, and `_extra` keeps an array of all of them under that name.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec

from ingestion_platform.format import MOST_COLUMNS
from ingestion_platform.formats.texts import is_utf_8

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_HALF_OF_A_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")
_QUOTE, _BACKSLASH, _NULL, _BRACE = b'"\\n{'

Members: TypeAlias = dict[str, bytes]


@dataclass(slots=True)
class _Node:
    """What is wanted of one member: its value for some fields, members of its own for others."""

    source: str = ""
    fields: list[int] = field(default_factory=list)
    members: dict[str, "_Node"] = field(default_factory=dict)


class NotAnObject(Exception):
    """A text isn't a JSON object that can be kept as text; says why."""


class Taker:
    """
    Takes the values of wanted members out of JSON objects.

    Args:
        sources: dotted paths of the members wanted.
        most_members: of one object; and so many that nobody asks for are told by name.
    """

    def __init__(self, sources: Sequence[str], most_members: int = MOST_COLUMNS) -> None:
        self._most_members = most_members
        self._root = _Node()
        for index, source in enumerate(sources):
            node = self._root
            for name in source.split("."):
                node = node.members.setdefault(name, _Node())
            node.fields.append(index)
            node.source = source
        self._width = len(sources)
        self.unknown: dict[str, None] = {}
        self.seen: set[str] = set()
        self.repeated: dict[str, None] = {}

    @property
    def departures(self) -> tuple[str, ...]:
        """What objects had more than once, told."""
        return tuple(twice(name) for name in sorted(self.repeated))

    def take(self, text: bytes, *, is_clean: bool = False) -> tuple[list[str | int | None], str | None]:
        """
        The wanted values of one object, in order, and what it has beside them as JSON.

        Args:
            is_clean: it is known to be UTF-8.

        Raises:
            NotAnObject: says why it isn't one.
        """
        if not is_clean and not is_utf_8(text):
            raise NotAnObject("is not text in utf-8")
        values: list[str | int | None] = [None] * self._width
        extra = self._take(members_of(text), self._root, values, "")
        return values, extra

    def _take(
        self, found: tuple[Members, dict[str, str]], node: _Node, values: list[str | int | None], path: str
    ) -> str | None:
        """Fill *values* from an object's members; give what is left of the object, as JSON."""
        members, repeated = found
        if len(members) > self._most_members:
            raise NotAnObject(f"has {len(members):,} members, more than the {self._most_members:,} allowed")
        wanted, left = node.members, []
        if repeated and len(self.repeated) < self._most_members:
            self.repeated.update(dict.fromkeys(path + name for name in repeated))
        for name, raw in members.items():
            member = wanted.get(name)
            if member is None:
                self.note_unknown(path + name)
                left.append((name, repeated.pop(name, "") or raw.decode()))
                continue
            if member.fields:
                self.seen.add(member.source)
                text = value_of(raw)
                for index in member.fields:
                    values[index] = text
            if member.members:
                if raw[0] == _BRACE:
                    inner = self._take(members_of(raw), member, values, f"{path}{name}.")
                    if inner is not None and not member.fields:
                        left.append((name, inner))
                elif raw[0] != _NULL and not member.fields:
                    self.note_unknown(path + name)
                    left.append((name, raw.decode()))
        if repeated:
            left = [pair for pair in left if pair[0] not in repeated] + list(repeated.items())
        if not left:
            return None
        # In the order of their names: that in which they were written says nothing.
        left.sort()
        return "{" + ",".join(f"{json_text(name)}:{raw}" for name, raw in left) + "}"

    def note_unknown(self, name: str) -> None:
        """Note a member that nobody asks for, unless so many are noted that no more is worth it."""
        if len(self.unknown) < self._most_members:
            self.unknown[name] = None


def twice(name: str) -> str:
    """What is told of a member that an object has more than once."""
    return f"has {name} more than once in a record: the last value counts, _extra has all"


def peek(text: bytes, path: str) -> str | None:
    """
    The value of one member, without a look at the others; None when there is none.

    Raises:
        NotAnObject: the text isn't an object.
    """
    raw = text
    for name in path.split("."):
        if raw[:1] != b"{":
            if raw is text:
                break
            return None
        found = members_of(raw)[0].get(name)
        if found is None:
            return None
        raw = found
    else:
        return value_of(raw)
    members_of(text)
    return None


def members_of(text: bytes) -> tuple[Members, dict[str, str]]:
    """
    The members of a JSON object, each value as it is written; and those that it has more than once, as arrays.

    Raises:
        NotAnObject: says why it isn't one.
    """
    try:
        members = {name: bytes(raw) for name, raw in _MEMBERS.decode(text).items()}
    except msgspec.ValidationError as error:
        raise NotAnObject(f"is not a JSON object: {error}") from error
    except msgspec.DecodeError as error:
        if _HALF_OF_A_PAIR.search(text) and text.endswith(b"}"):
            raise NotAnObject("is not JSON, or holds half of a surrogate pair, which is no character") from error
        raise NotAnObject(f"is not JSON: {str(error).removeprefix('JSON is malformed: ')}") from error
    except UnicodeDecodeError as error:
        raise NotAnObject(f"is not text in utf-8: {error}") from error
    except RecursionError as error:
        raise NotAnObject("is nested too deeply") from error
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
        raise NotAnObject("is nested too deeply") from error
    return {name: f"[{','.join(all_)}]" for name, all_ in values.items() if len(all_) > 1}


def _written(value: Any) -> str:
    if isinstance(value, _Pairs):
        return "{" + ",".join(f"{json_text(name)}:{_written(member)}" for name, member in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    return str(value) if isinstance(value, _Number) else json_text(value)


def value_of(raw: bytes) -> str | None:
    """The text that a member's value is: a JSON string without its quotes, `null` as NULL, anything else as it is written."""
    first = raw[0]
    if first == _QUOTE:
        return unquoted(raw)
    return None if first == _NULL else raw.decode()


def unquoted(raw: bytes) -> str:
    """
    The text that a JSON string is.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError: it holds half of a surrogate pair, or isn't UTF-8.
    """
    return _TEXT.decode(raw) if _BACKSLASH in raw else raw[1:-1].decode()


def json_text(value: Any) -> str:
    """*value* as JSON."""
    return msgspec.json.encode(value).decode()
