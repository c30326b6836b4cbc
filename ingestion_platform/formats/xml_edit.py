"""
XML's text with records cut out or emptied, all else byte for byte.

Belongs here: where elements stand in a document. Doesn't: what they mean (`xml_records.py`).

The document is held in memory whole. Where elements begin the parser tells, in bytes; DTDs and entities have been refused when it was read.
"""

import html
import re
from dataclasses import dataclass, field
from typing import BinaryIO
from xml.parsers import expat

from ingestion_platform.errors import NotErasable, ObjectRejected
from ingestion_platform.format import Xml
from ingestion_platform.formats.content import Content
from ingestion_platform.formats.erasure import Emptying, Erasure

_TAG_END = re.compile(rb"""(?:[^>"']|"[^"]*"|'[^']*')*>""", re.DOTALL)
_ATTRIBUTE = re.compile(rb"""(\s)([^\s=/>]+)(\s*=\s*)("[^"]*"|'[^']*')""", re.DOTALL)
_UP = "../"


@dataclass(slots=True)
class _Element:
    """An element, by where its tags stand."""

    name: str
    begin: int
    inside: int
    """Where its first tag ends."""
    children: "list[_Element]" = field(default_factory=list)
    outside: int = 0
    """Where its last tag begins; as `inside` where it is one tag."""
    end: int = 0


def erase_xml(format: Xml, content: Content, erasure: Erasure, target: BinaryIO) -> None:
    """
    Write a document again without some records; all else stays byte for byte.

    An element above records goes when all records in it do.

    Args:
        format: of the object.
        content: the object.
        erasure: what goes.
        target: takes the text.

    Raises:
        NotErasable: its text is in UTF-16 or UTF-32, or the document is one record.
        ObjectRejected: it isn't well-formed.
    """
    text = content.stream().read()
    if b"\0" in text:
        raise NotErasable("its text is in UTF-16 or UTF-32", "have the object removed whole")
    root = _parse(text)
    names = format.record.strip("/").split("/")
    records: list[list[_Element]] = []
    _gather(root, names, [], records)
    gone = {row for row in erasure.rows if row <= len(records)}
    left: dict[int, int] = {}
    for row, way in enumerate(records, start=1):
        for element in way:
            left[element.begin] = left.get(element.begin, 0) + (row not in gone)
    edits: dict[tuple[int, int], bytes] = {}
    for row in gone:
        free = [element for element in records[row - 1][1:] if not left[element.begin]]
        if not free:
            raise NotErasable("the document is one record", "have the object removed whole")
        edits[free[0].begin, free[0].end] = b""
    for row, emptying in erasure.emptied.items():
        if row in gone or row > len(records):
            continue
        way = records[row - 1]
        _empty(text, way[-1], "", emptying, erasure, edits)
        for source in emptying.gone:
            up = source.count(_UP)
            if up:
                _empty_around(text, way[-1 - up], source.replace(_UP, "").split("/"), edits)
    pieces, at = [], 0
    for (begin, end), instead in sorted(edits.items()):
        pieces += [text[at:begin], instead]
        at = end
    target.write(b"".join([*pieces, text[at:]]))


def _parse(text: bytes) -> _Element:
    """
    The document's elements.

    Raises:
        ObjectRejected: it isn't well-formed.
    """
    parser = expat.ParserCreate(namespace_separator="}")
    open_: list[_Element] = []
    roots: list[_Element] = []

    def begin(name: str, _: object) -> None:
        at = parser.CurrentByteIndex
        one = _Element(name.rpartition("}")[2], at, _tag_end(text, at))
        (open_[-1].children if open_ else roots).append(one)
        open_.append(one)

    def end(_: str) -> None:
        one, at = open_.pop(), parser.CurrentByteIndex
        is_one_tag = text[one.begin : one.inside].rstrip(b">").endswith(b"/") and not one.children
        one.outside = one.inside if is_one_tag else at
        one.end = one.inside if is_one_tag else _tag_end(text, at)

    parser.StartElementHandler = begin
    parser.EndElementHandler = end
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise ObjectRejected(f"is cut, or no well-formed XML: {error}", "it is read again when it changes") from error
    return roots[0]


def _tag_end(text: bytes, at: int) -> int:
    found = _TAG_END.match(text, at)
    if found is None:
        raise NotErasable("a tag's end can't be told", "have the object removed whole")
    return found.end()


def _gather(element: _Element, names: list[str], above: list[_Element], records: list[list[_Element]]) -> None:
    if element.name != names[len(above)]:
        return
    way = [*above, element]
    if len(way) == len(names):
        records.append(way)
        return
    for child in element.children:
        _gather(child, names, way, records)


def _empty(
    text: bytes,
    element: _Element,
    path: str,
    emptying: Emptying,
    erasure: Erasure,
    edits: dict[tuple[int, int], bytes],
) -> None:
    """Empty what doesn't stay of an element: texts and attributes."""
    lead = f"{path}/" if path else ""
    tag = text[element.begin : element.inside]

    def attribute(found: "re.Match[bytes]") -> bytes:
        name = found[2].decode(errors="replace")
        value = html.unescape(found[4].decode(errors="replace"))
        is_kept = f"{lead}@{name.rpartition(':')[2]}" in emptying.kept and not erasure.words.hold(value)
        if is_kept or name == "xmlns" or name.startswith(("xmlns:", "xsi:")):
            return found[0]
        return found[1] + found[2] + found[3] + b'""'

    edited = _ATTRIBUTE.sub(attribute, tag)
    if edited != tag:
        edits[element.begin, element.inside] = edited
    at = element.inside
    for child in [*element.children, None]:
        until = child.begin if child is not None else element.outside
        gap = text[at:until]
        holds = erasure.words.hold(html.unescape(gap.decode(errors="replace")))
        if gap.strip() and (path not in emptying.kept or holds):
            edits[at, until] = b""
        at = child.end if child is not None else at
    for child in element.children:
        _empty(text, child, f"{lead}{child.name}", emptying, erasure, edits)


def _empty_around(text: bytes, element: _Element, steps: list[str], edits: dict[tuple[int, int], bytes]) -> None:
    """Empty one attribute or text of an element above records."""
    first, *rest = steps
    if first.startswith("@"):
        name = first[1:].encode()

        def attribute(found: "re.Match[bytes]") -> bytes:
            is_it = found[2].rpartition(b":")[2] == name
            return found[1] + found[2] + found[3] + b'""' if is_it else found[0]

        tag = edits.get((element.begin, element.inside), text[element.begin : element.inside])
        edits[element.begin, element.inside] = _ATTRIBUTE.sub(attribute, tag)
        return
    for child in element.children:
        if child.name == first and rest:
            _empty_around(text, child, rest, edits)
        elif child.name == first:
            edits[child.inside, child.outside] = b""
