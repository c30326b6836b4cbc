"""
JSON's text with parts of it cut out or emptied, all else byte for byte.

Belongs here: where members and elements stand in a text that is known to be JSON. Doesn't: what values are (`json_members.py`), judging
whether a text is JSON.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ingestion_platform.errors import NotErasable
from ingestion_platform.formats.erasure import Emptying, Words

_SPACE = re.compile(rb"[ \t\r\n]*")
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_BRACKET_OR_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)
_PLAIN = re.compile(rb"[^\s,\]}]+")
_MOST_DEPTH = 500
UP = "../"


@dataclass(frozen=True, slots=True)
class Part:
    """
    A member of an object or an element of a list, as it stands in a text.

    Args:
        name: of a member; empty of an element.
        begin: where it begins: of a member its name.
        value: where its value begins.
        end: where that ends.
    """

    name: str
    begin: int
    value: int
    end: int


def skip_space(text: bytes, at: int) -> int:
    """Where something stands again."""
    found = _SPACE.match(text, at)
    return found.end() if found else at


def end_of(text: bytes, at: int) -> int:
    """Where the value that begins at *at* ends."""
    first = text[at : at + 1]
    if first == b'"':
        found = _TEXT.match(text, at)
    elif first in (b"{", b"["):
        depth = 0
        for one in _BRACKET_OR_TEXT.finditer(text, at):
            mark = one[0]
            if mark in (b"{", b"["):
                depth += 1
            elif mark in (b"}", b"]"):
                depth -= 1
                if not depth:
                    return one.end()
        found = None
    else:
        found = _PLAIN.match(text, at)
    if found is None:
        raise NotErasable("it is no JSON where a value should be", "have the object removed whole")
    return found.end()


def parts(text: bytes, at: int) -> Iterator[Part]:
    """The members or elements of the object or list that begins at *at*."""
    is_object = text[at : at + 1] == b"{"
    position = skip_space(text, at + 1)
    while text[position : position + 1] not in (b"}", b"]", b""):
        begin, name = position, ""
        if is_object:
            ended = end_of(text, position)
            name = json.loads(text[position:ended])
            position = skip_space(text, skip_space(text, ended) + 1)
        end = end_of(text, position)
        yield Part(name, begin, position, end)
        position = skip_space(text, end)
        if text[position : position + 1] == b",":
            position = skip_space(text, position + 1)


def replaced(text: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """*text* with other bytes in the place of some: begin, end, instead."""
    pieces, at = [], 0
    for begin, end, instead in sorted(edits):
        pieces += [text[at:begin], instead]
        at = end
    return b"".join([*pieces, text[at:]])


def without(text: bytes, of_list: list[Part], gone: set[int]) -> list[tuple[int, int, bytes]]:
    """
    The edits that take elements out of a list, each with its comma.

    Args:
        text: in which the list stands.
        of_list: all its elements.
        gone: numbers of those that go, from 0.
    """
    edits = []
    last_kept = max((at for at in range(len(of_list)) if at not in gone), default=-1)
    for at in sorted(gone):
        one = of_list[at]
        if at < last_kept:
            edits.append((one.begin, of_list[at + 1].begin, b""))
        else:
            # After the last one that stays there is no comma: it goes with what comes after it.
            before = of_list[at - 1].end if at else one.begin
            edits.append((before, one.end, b""))
    return edits


def emptied(text: bytes, emptying: Emptying, words: Words) -> bytes:
    """
    A record, a JSON object, with `null` in the place of whatever doesn't stay.

    Args:
        text: begins with the object.
        emptying: dotted paths of what stays.
        words: what may stand nowhere.

    Raises:
        NotErasable: it is no object.
    """
    if text[:1] != b"{":
        raise NotErasable("a record that is to be emptied is no JSON object", "erase='row' takes it out whole")
    edits: list[tuple[int, int, bytes]] = []
    _empty(text, 0, "", emptying.kept, words, edits, 0)
    return replaced(text, edits)


def without_members(text: bytes, at: int, sources: frozenset[str]) -> list[tuple[int, int, bytes]]:
    """The edits that put `null` in the place of some members, by dotted path, of the object that begins at *at*."""
    edits: list[tuple[int, int, bytes]] = []
    if text[at : at + 1] != b"{":
        return edits
    for part in parts(text, at):
        if part.name in sources:
            edits.append((part.value, part.end, b"null"))
            continue
        inner = frozenset(one[len(part.name) + 1 :] for one in sources if one.startswith(f"{part.name}."))
        if inner:
            edits += without_members(text, part.value, inner)
    return edits


def _empty(
    text: bytes,
    at: int,
    path: str,
    kept: frozenset[str],
    words: Words,
    edits: list[tuple[int, int, bytes]],
    depth: int,
) -> None:
    if depth > _MOST_DEPTH:
        raise NotErasable("a record is nested too deeply to be emptied", "erase='row' takes it out whole")
    for part in parts(text, at):
        name = path + part.name
        value = text[part.value : part.end]
        if words.hold(part.name):
            raise NotErasable("a member is named by the person", "erase='row' takes the record out whole")
        if name in kept:
            if _holds(value, words):
                edits.append((part.value, part.end, b"null"))
        elif value[:1] == b"{" and any(one.startswith(f"{name}.") for one in kept):
            _empty(text, part.value, f"{name}.", kept, words, edits, depth + 1)
        elif value != b"null":
            edits.append((part.value, part.end, b"null"))


def _holds(value: bytes, words: Words) -> bool:
    if b"\\" not in value:
        return words.hold(value.decode(errors="replace"))
    return words.hold(json.dumps(json.loads(value), ensure_ascii=False)) or any(map(words.hold, _texts(value)))


def _texts(value: bytes) -> Iterator[str]:
    for found in _TEXT.finditer(value):
        yield json.loads(found[0])
