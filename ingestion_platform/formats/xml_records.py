"""
XML to records: elements under a path, and what is around them.

Names are compared without their namespace. An element with text alone is that text; one with attributes or children, where only its text
is asked for, keeps the rest in `_extra`. An element that a field asks for and that is there twice leaves the field without one value, so
the record is rejected.

In `_extra`, names are paths from the record (`unit_cost/@currency`); an element with more than text is an object: `@name` its attributes,
`#text` its text, an array where a name is repeated.

One record's element is held at a time. Where a field asks for elements around the records, the document is gone through twice: they may
stand at its end. What fields take of each element above records is kept in a temporary file between the two.
"""

import io
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from xml.etree.ElementTree import Element, tostring

import msgspec

from ingestion_platform.errors import DeclarationError, ObjectRejected
from ingestion_platform.format import Xml
from ingestion_platform.formats import tables
from ingestion_platform.formats.content import BLOCK_BYTES, Content
from ingestion_platform.formats.records import Ending, Field, Pieces, RejectedRecord
from ingestion_platform.formats.texts import as_it_stands
from ingestion_platform.formats.xml_events import local_name, walk

_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"
_MOST_AROUND = 100_000
"""Elements that fields ask for above one record."""
_SPOOLED_BYTES = 1024**2


def read_xml(format: Xml, content: Content, fields: Sequence[Field], *, block_bytes: int = BLOCK_BYTES) -> Pieces:
    """
    Read XML.

    Raises:
        ObjectRejected: it isn't well-formed, is cut, has a DTD, is nested beyond measure, or its root isn't the declared one.
    """
    names = format.record.strip("/").split("/")
    if not all(names) or any(name.startswith(("@", ".")) for name in names):
        raise DeclarationError(f"Xml: record {format.record!r} is no path of elements", "as in manifest/lines/line")
    paths = [_Path.of(wanted.source, names) for wanted in fields]
    reader = _Reader(paths, format.max_columns)
    with ExitStack() as stack:
        around = _Around(names, paths, reader, format.max_record_bytes, stack)
        if around.is_needed:
            for _ in walk(
                content.stream(), around.begin, around.end, block_bytes=block_bytes, most_bytes=format.max_record_bytes
            ):
                pass
            around.rewind()
        place = _Place(names, around)
        records = walk(
            content.stream(), place.begin, place.end, block_bytes=block_bytes, most_bytes=format.max_record_bytes
        )
        rows = (reader.row(element, place.above) for element in records)
        yield from tables.in_pieces(fields, rows, reader.rejected, block_bytes)
    missing = dict.fromkeys(
        wanted.source for wanted, path in zip(fields, paths, strict=True) if reader.records and path not in reader.seen
    )
    return Ending(tuple(reader.unknown), tuple(missing))


_Value: TypeAlias = "str | _Repeated | None"


class _Around:
    """
    What fields ask for above the records.

    Takes it out of each element above records, in the order in which they begin, and keeps it in a file for each depth. Elements of one
    depth end in the order in which they begin, so that `next` gives them back in the order of the document.

    Args:
        names: the path of the records.
        paths: of the fields.
        reader: finds values in elements.
        most_bytes: of what is asked for above one record.
        stack: closes the files.
    """

    def __init__(
        self, names: list[str], paths: "Sequence[_Path]", reader: "_Reader", most_bytes: int, stack: ExitStack
    ) -> None:
        self._names = names
        self._most_bytes = most_bytes
        self._reader = reader
        self.of_level: dict[int, list[_Path]] = {}
        self._wanted = _Wanted()
        for path in paths:
            if not path.up:
                continue
            level = len(names) - path.up
            of_level = self.of_level.setdefault(level, [])
            if path not in of_level:
                of_level.append(path)
            node = self._wanted
            for name in names[:level]:
                node = node.children.setdefault(name, _Wanted())
            for name in path.names:
                node = node.children.setdefault(name, _Wanted())
                node.is_below_another = True
        self.is_needed = any(path.names for of_level in self.of_level.values() for path in of_level)
        self._nodes: list[_Wanted | None] = [self._wanted]
        self._on_path = 0
        self._kept = self._kept_bytes = 0
        self._files: dict[int, tempfile.SpooledTemporaryFile[bytes]] = {}
        if self.is_needed:
            for level in self.of_level:
                self._files[level] = stack.enter_context(tempfile.SpooledTemporaryFile(_SPOOLED_BYTES))  # noqa: SIM115

    def begin(self, depth: int, element: Element) -> bool:
        """An element begins: whether it is a record, which is passed over."""
        name = local_name(element.tag)
        parent = self._nodes[-1]
        if self._on_path == depth - 1 and self._names[depth - 1 : depth] == [name]:
            if depth == len(self._names):
                return True
            self._on_path += 1
        self._nodes.append(parent.children.get(name) if parent is not None else None)
        return False

    def end(self, depth: int, element: Element) -> bool:
        """An element ends: what fields ask for of it is taken. Whether fields ask for it further up."""
        node = self._nodes.pop()
        is_on_path = self._on_path == depth
        if is_on_path:
            self._on_path -= 1
        if node is None:
            return False
        if is_on_path and depth in self.of_level:
            values = [_written(self._reader.find_once(element, path)) for path in self.of_level[depth]]
            self._files[depth].write(msgspec.json.encode(values) + b"\n")
        if not node.is_below_another:
            self._kept = self._kept_bytes = 0
            return False
        self._kept += 1
        self._kept_bytes += len(element.text or "") + sum(map(len, element.attrib.values()))
        if self._kept > _MOST_AROUND or self._kept_bytes > self._most_bytes:
            raise ObjectRejected(
                f"has more than {_MOST_AROUND:,} elements, or {self._most_bytes:,} bytes, that fields ask for above a record",
                "raise max_record_bytes of its format if it may be so much",
            )
        return True

    def rewind(self) -> None:
        """Begin to give back what was taken."""
        for file in self._files.values():
            file.seek(0)

    def next(self, level: int, element: Element) -> "dict[_Path, _Value]":
        """What fields ask for of the element that begins on this depth of the records' path."""
        wanted = self.of_level.get(level)
        if not wanted:
            return {}
        if self.is_needed:
            line = self._files[level].readline()
            return dict(zip(wanted, map(_read_back, msgspec.json.decode(line)), strict=True))
        return {path: self._reader.find_once(element, path) for path in wanted}


def _written(value: _Value) -> list[str | None]:
    return [None, str(value)] if isinstance(value, _Repeated) else [value]


def _read_back(written: list[str | None]) -> _Value:
    return written[0] if len(written) == 1 else _Repeated(written[1])


class _Place:
    """
    Where in a document its reader is.

    Args:
        names: the path of the records.
        around: what fields ask for above them.
    """

    def __init__(self, names: list[str], around: _Around) -> None:
        self._names = names
        self._around = around
        self.above: list[dict[_Path, _Value]] = []
        """What fields ask for of each element above the records to come, the root first."""

    def begin(self, depth: int, element: Element) -> bool:
        """An element begins: whether it is a record."""
        if len(self.above) != depth - 1:
            return False
        name = local_name(element.tag)
        if depth > len(self._names) or name != self._names[depth - 1]:
            if depth == 1:
                raise ObjectRejected(
                    f"is not the declared XML: its root is <{name[:80]}>, not <{self._names[0]}>",
                    "check the record's path",
                )
            return False
        if depth == len(self._names):
            return True
        self.above.append(self._around.next(depth, element))
        return False

    def end(self, depth: int, _: Element) -> bool:
        """An element ends; nothing of it is wanted any more."""
        if len(self.above) == depth:
            self.above.pop()
        return False


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
        found = [child for holder in holders for child in holder if local_name(child.tag) == name]
        if not found:
            return f"{place} has no <{name}>{_has(holders)}"
        holders, place = found, f"{place}/{name}"
    return f"{place} has no <{last}>{_has(holders)}" if any(len(holder) for holder in holders) else ""


def _has(holders: Sequence[Element]) -> str:
    names = list(dict.fromkeys(local_name(child.tag)[:40] for holder in holders for child in holder))
    return f" (it has {', '.join(f'<{name}>' for name in names[:8])})" if names else " (it is empty)"


def _parse(content: bytes) -> Element:
    """A small document, whole."""
    stream = Content(io.BytesIO(content), "", max_bytes=max(len(content), 1)).stream()
    (root,) = walk(stream, lambda *_: True, lambda *_: False, block_bytes=BLOCK_BYTES, most_bytes=max(len(content), 1))
    return root


@dataclass(frozen=True, slots=True)
class _Path:
    """A field's source, taken apart: how far up, which elements down, which attribute there."""

    up: int
    names: tuple[str, ...]
    attribute: str | None

    @classmethod
    def of(cls, source: str, record: Sequence[str]) -> "_Path":
        depth = len(record)
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
        way = [*record[: depth - up], *names]
        if up and way[:depth] == list(record):
            raise DeclarationError(
                f"Xml: source {source!r} leads into the records themselves: there are many of them",
                "take what is the record's own without ../",
            )
        return cls(up, tuple(names), attribute)


@dataclass(slots=True)
class _Wanted:
    """What fields ask for at one element of a record."""

    text: bool = False
    attributes: set[str] = field(default_factory=set)
    children: dict[str, "_Wanted"] = field(default_factory=dict)
    is_below_another: bool = False
    """An element further up is asked for it."""


class _Repeated(Exception):
    """A field's element is there twice."""


class _Reader:
    def __init__(self, paths: Sequence[_Path], most_members: int) -> None:
        self._most_members = most_members
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

    def row(self, element: Element, above: "Sequence[dict[_Path, _Value]]") -> Sequence[str | int | None] | None:
        """A record's row; None when it is rejected."""
        self.records += 1
        values: list[str | int | None] = []
        children: dict[str, list[Element]] = {}
        for child in element:
            children.setdefault(local_name(child.tag), []).append(child)
        try:
            for path in self.paths:
                if not path.up:
                    if path.names:
                        values.append(self._found(children.get(path.names[0], []), path, 1))
                    else:
                        values.append(self._found([element], path, 0))
                    continue
                found = above[-path.up][path]
                if isinstance(found, _Repeated):
                    raise found
                values.append(found)
        except _Repeated as error:
            self.rejected.append(
                RejectedRecord(self.records, str(error), as_it_stands(tostring(element, "unicode").strip()))
            )
            return None
        left: dict[str, Any] = {}
        self._gather(element, self.wanted, "", left)
        if len(left) > self._most_members:
            reason = f"has {len(left):,} values that nobody asks for, more than the {self._most_members:,} allowed"
            self.rejected.append(
                RejectedRecord(self.records, reason, as_it_stands(tostring(element, "unicode").strip()))
            )
            return None
        if len(self.unknown) < self._most_members:
            self.unknown.update(dict.fromkeys(left))
        return [*values, msgspec.json.encode(left).decode() if left else None, self.records]

    def find_once(self, start: Element, path: _Path) -> "_Value":
        """What a field asks for, or why it can't be told."""
        try:
            return self._find(start, path)
        except _Repeated as error:
            return error

    def _find(self, start: Element, path: _Path) -> str | None:
        return self._found([start], path, 0)

    def _found(self, found: list[Element], path: _Path, step: int) -> str | None:
        """The one value that a path has, from some elements that its first steps have led to."""
        for name in path.names[step:]:
            found = [child for element in found for child in element if local_name(child.tag) == name]
        if path.attribute is not None:
            values = [
                value for element in found for tag, value in element.attrib.items() if local_name(tag) == path.attribute
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
            if tag != _NIL and local_name(tag) not in wanted.attributes:
                _add(left, f"{path}@{local_name(tag)}", value)
        texts = [] if wanted.text else [element.text]
        for child in element:
            name = local_name(child.tag)
            inner = wanted.children.get(name)
            if inner is None:
                _add(left, path + name, _plain(child))
            else:
                self._gather(child, inner, f"{path}{name}/", left)
            texts.append(child.tail)
        text = "".join(text for text in texts if text and not text.isspace())
        if text:
            _add(left, f"{path}#text", text)


def _plain(element: Element) -> Any:
    """An element as JSON has it."""
    if not len(element) and not element.attrib:
        return element.text or ""
    members: dict[str, Any] = {}
    for tag, value in element.attrib.items():
        _add(members, f"@{local_name(tag)}", value)
    for child in element:
        _add(members, local_name(child.tag), _plain(child))
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
