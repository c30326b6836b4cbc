"""
XML to records: elements under a path, and what is around them.

DTDs and entities are refused before anything is expanded. Names are compared without their namespace. An element with text alone is that
text; one with attributes or children, where only its text is asked for, keeps the rest in `_extra`. An element that a field asks for
and that is there twice leaves the field without one value, so the record is rejected.

In `_extra`, names are paths from the record (`unit_cost/@currency`); an element with more than text is an object: `@name` its attributes,
`#text` its text, an array where a name is repeated.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element, ParseError, tostring

import defusedxml.ElementTree
import msgspec
from defusedxml.common import DefusedXmlException

from ingestion_platform.errors import DeclarationError, ObjectRejected
from ingestion_platform.format import Xml
from ingestion_platform.formats import tables
from ingestion_platform.formats.records import Field, Records, RejectedRecord
from ingestion_platform.formats.texts import as_it_stands

MAX_DEPTH = 200
MAX_ATTRIBUTES = 1_000
_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"


def read_xml(format: Xml, content: bytes, fields: Sequence[Field]) -> Records:
    """
    Read XML. Holds the whole tree.

    Raises:
        ObjectRejected: it isn't well-formed, is cut, has a DTD, is nested beyond measure, or its root isn't the declared one.
    """
    names = format.record.strip("/").split("/")
    if not all(names) or any(name.startswith(("@", ".")) for name in names):
        raise DeclarationError(f"Xml: record {format.record!r} is no path of elements", "as in manifest/lines/line")
    paths = [_Path.of(wanted.source, len(names)) for wanted in fields]
    if not content.strip():
        raise ObjectRejected("is empty: not even a root element", "it is read again when it changes")
    root = _parse(content)
    if _local(root.tag) != names[0]:
        raise ObjectRejected(
            f"is not the declared XML: its root is <{_local(root.tag)[:80]}>, not <{names[0]}>",
            "check the record's path",
        )
    reader = _Reader(paths)
    table = tables.from_rows(fields, reader.rows(root, names))
    missing = dict.fromkeys(
        wanted.source for wanted, path in zip(fields, paths, strict=True) if reader.records and path not in reader.seen
    )
    return Records(table, tuple(reader.rejected), tuple(reader.unknown), tuple(missing))


def elements_instead(format: Xml, content: bytes) -> str:
    """
    What a document without records has where they should be, in words; empty when there is room for them and nothing else.

    A list without records is a thing of every day; elements of other names in its place are a change.

    Raises:
        ObjectRejected: it isn't well-formed.
    """
    *above, last = format.record.strip("/").split("/")
    if not above:
        return ""
    place = above[0]
    holders = [_parse(content)]
    for name in above[1:]:
        found = [child for holder in holders for child in holder if _local(child.tag) == name]
        if not found:
            return f"{place} has no <{name}>{_has(holders)}"
        holders, place = found, f"{place}/{name}"
    return f"{place} has no <{last}>{_has(holders)}" if any(len(holder) for holder in holders) else ""


def _has(holders: Sequence[Element]) -> str:
    names = list(dict.fromkeys(_local(child.tag)[:40] for holder in holders for child in holder))
    return f" (it has {', '.join(f'<{name}>' for name in names[:8])})" if names else " (it is empty)"


def _parse(content: bytes) -> Element:
    depth = 0
    root: Element | None = None
    try:
        events = defusedxml.ElementTree.iterparse(
            io.BytesIO(content), ("start", "end"), forbid_dtd=True, forbid_entities=True, forbid_external=True
        )
        for event, element in events:
            if event == "end":
                depth -= 1
                continue
            root = element if root is None else root
            depth += 1
            if depth > MAX_DEPTH:
                raise ObjectRejected(f"is nested deeper than {MAX_DEPTH} elements")
            if len(element.attrib) > MAX_ATTRIBUTES:
                raise ObjectRejected(f"has an element with more than {MAX_ATTRIBUTES:,} attributes")
    except DefusedXmlException as error:
        raise ObjectRejected(
            f"has a DTD or entities, which are refused: {type(error).__name__}", "send it without DOCTYPE"
        ) from error
    except (ParseError, ValueError, LookupError) as error:
        raise ObjectRejected(f"is cut, or no well-formed XML: {error}", "it is read again when it changes") from error
    if root is None:
        raise ObjectRejected("is empty: not even a root element")
    return root


def _local(tag: str) -> str:
    return tag.rpartition("}")[2] if tag[:1] == "{" else tag


@dataclass(frozen=True, slots=True)
class _Path:
    """A field's source, taken apart: how far up, which elements down, which attribute there."""

    up: int
    names: tuple[str, ...]
    attribute: str | None

    @classmethod
    def of(cls, source: str, depth: int) -> "_Path":
        steps = source.split("/")
        up = next((index for index, step in enumerate(steps) if step != ".."), len(steps))
        names, attribute = steps[up:], None
        if names and names[-1].startswith("@"):
            attribute = names.pop()[1:]
        if (
            up >= depth
            or not (names or attribute)
            or attribute == ""
            or any(not name or name[0] in "@." for name in names)
        ):
            raise DeclarationError(
                f"Xml: source {source!r} is no path from a record {depth} deep",
                "as in quantity, @id, price/@currency or ../@number",
            )
        return cls(up, tuple(names), attribute)


@dataclass(slots=True)
class _Wanted:
    """What fields ask for at one element of a record."""

    text: bool = False
    attributes: set[str] = field(default_factory=set)
    children: dict[str, "_Wanted"] = field(default_factory=dict)


class _Repeated(Exception):
    """A field's element is there twice."""


class _Reader:
    def __init__(self, paths: Sequence[_Path]) -> None:
        self.paths = paths
        self.wanted = _Wanted()
        for path in paths:
            if path.up:
                continue
            node = self.wanted
            for name in path.names:
                node = node.children.setdefault(name, _Wanted())
            if path.attribute is None:
                node.text = True
            else:
                node.attributes.add(path.attribute)
        self.rejected: list[RejectedRecord] = []
        self.unknown: dict[str, None] = {}
        self.seen: set[_Path] = set()
        self.records = 0

    def rows(self, root: Element, names: list[str]) -> Iterator[Sequence[str | int | None]]:
        # What is above a record is the same for its brothers and sisters.
        above: dict[tuple[int, _Path], str | _Repeated | None] = {}
        for row, line in enumerate(_records(root, names), 1):
            self.records += 1
            values: list[str | int | None] = []
            try:
                for path in self.paths:
                    if not path.up:
                        values.append(self._find(line[-1], path))
                        continue
                    start = line[-1 - path.up]
                    place = (id(start), path)
                    if place not in above:
                        above[place] = self._find_once(start, path)
                    found = above[place]
                    if isinstance(found, _Repeated):
                        raise found
                    values.append(found)
            except _Repeated as error:
                self.rejected.append(
                    RejectedRecord(row, str(error), as_it_stands(tostring(line[-1], "unicode").strip()))
                )
                continue
            left: dict[str, Any] = {}
            self._gather(line[-1], self.wanted, "", left)
            self.unknown.update(dict.fromkeys(left))
            yield [*values, msgspec.json.encode(left).decode() if left else None, row]

    def _find_once(self, start: Element, path: _Path) -> str | _Repeated | None:
        try:
            return self._find(start, path)
        except _Repeated as error:
            return error

    def _find(self, start: Element, path: _Path) -> str | None:
        found = [start]
        for name in path.names:
            found = [child for element in found for child in element if _local(child.tag) == name]
        if path.attribute is not None:
            values = [
                value for element in found for tag, value in element.attrib.items() if _local(tag) == path.attribute
            ]
        else:
            values = [element.text or "" for element in found]
        if not values:
            return None
        self.seen.add(path)
        if len(values) > 1:
            place = "/".join([*path.names, *([f"@{path.attribute}"] if path.attribute else [])])
            raise _Repeated(f"has {place} {len(values)} times, one was expected")
        if path.attribute is None and found[0].attrib.get(_NIL) in ("true", "1"):
            return None
        return values[0]

    def _gather(self, element: Element, wanted: _Wanted, path: str, left: dict[str, Any]) -> None:
        """Put into *left* what of the element no field asks for."""
        for tag, value in element.attrib.items():
            if tag != _NIL and _local(tag) not in wanted.attributes:
                _add(left, f"{path}@{_local(tag)}", value)
        texts = [] if wanted.text else [element.text]
        for child in element:
            name = _local(child.tag)
            inner = wanted.children.get(name)
            if inner is None:
                _add(left, path + name, _plain(child))
            else:
                self._gather(child, inner, f"{path}{name}/", left)
            texts.append(child.tail)
        text = "".join(text for text in texts if text and not text.isspace())
        if text:
            _add(left, f"{path}#text", text)


def _records(element: Element, names: list[str]) -> Iterator[list[Element]]:
    """Each record with all elements above it, the root first; in the order of the document."""
    if len(names) == 1:
        yield [element]
        return
    for child in element:
        if _local(child.tag) == names[1]:
            for line in _records(child, names[1:]):
                yield [element, *line]


def _plain(element: Element) -> Any:
    """An element as JSON has it."""
    if not len(element) and not element.attrib:
        return element.text or ""
    members: dict[str, Any] = {}
    for tag, value in element.attrib.items():
        _add(members, f"@{_local(tag)}", value)
    for child in element:
        _add(members, _local(child.tag), _plain(child))
    texts = [element.text, *(child.tail for child in element)]
    text = "".join(text for text in texts if text and not text.isspace())
    if text:
        _add(members, "#text", text)
    return members


def _add(members: dict[str, Any], name: str, value: Any) -> None:
    if name not in members:
        members[name] = value
    elif isinstance(members[name], list):
        members[name].append(value)
    else:
        members[name] = [members[name], value]
