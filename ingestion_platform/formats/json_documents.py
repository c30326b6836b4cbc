"""
JSON documents to records: objects under a path, and what is around them.

What a record has beyond the fields is kept in `_extra`; what stands around the records isn't, unless a field asks for it (`../name`).

The elements of the first list on the path are read one after the other; only one of them is held. Where a field asks for what is around
that list, the document is gone through twice: what is asked for may stand at its end.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import msgspec
import pyarrow as pa

from ingestion_platform.errors import DeclarationError, NotErasable, ObjectRejected
from ingestion_platform.format import Json
from ingestion_platform.formats import tables
from ingestion_platform.formats.content import BLOCK_BYTES, Content
from ingestion_platform.formats.erasure import Erasure
from ingestion_platform.formats.json_edit import (
    Part,
    emptied,
    end_of,
    parts,
    replaced,
    skip_space,
    without,
    without_members,
)
from ingestion_platform.formats.json_members import NotAnObject, Taker, members_of
from ingestion_platform.formats.json_objects import Objects, gathered
from ingestion_platform.formats.json_structure import ListElements
from ingestion_platform.formats.records import Ending, Field, Piece, Pieces, RejectedRecord
from ingestion_platform.formats.texts import BOM, as_it_stands, decode_marking, excerpt, refuse_binary

_ELEMENTS = msgspec.json.Decoder(list[msgspec.Raw])
_UP = "../"
_EVERY = "[*]"
_AGAIN = "it is read again when it changes"


def read_json(format: Json, content: Content, fields: Sequence[Field], *, block_bytes: int = BLOCK_BYTES) -> Pieces:
    """
    Read a JSON document.

    Raises:
        ObjectRejected: it isn't JSON, is cut, or its records aren't where they are declared.
    """
    reader = _Reader(format, fields)
    yield from reader.pieces(content, block_bytes)
    missing = dict.fromkeys(
        wanted.source for wanted in fields if reader.records and wanted.source not in reader.seen_sources
    )
    return Ending(reader.own.unknown, tuple(missing), departures=reader.own.departures)


def _whole(format: Json, content: Content) -> bytes:
    """A document that is one record."""
    text = content.stream().read(format.max_record_bytes + 1)
    if len(text) > format.max_record_bytes:
        raise ObjectRejected(
            f"is a record of more than the {format.max_record_bytes:,} bytes allowed",
            "raise max_record_bytes of its format if it may be so large",
        )
    text = text.removeprefix(BOM).strip(b" \t\r\n")
    if not text:
        raise ObjectRejected("is empty: not even a JSON value", _AGAIN)
    refuse_binary(text, text[:1000], "utf-8")
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise ObjectRejected(f"is not text in utf-8: {error}", "JSON is") from error
    _require_whole(text)
    return text


def _require_whole(content: bytes) -> None:
    try:
        msgspec.json.decode(content, type=msgspec.Raw)
    except msgspec.DecodeError as error:
        what = str(error).removeprefix("JSON is malformed: ")
        raise ObjectRejected(
            f"is cut, or no JSON: {what}; it begins {excerpt(content[:200].decode(errors='replace'))}", _AGAIN
        ) from error
    except RecursionError as error:
        raise ObjectRejected("is nested too deeply") from error


class _Reader:
    def __init__(self, format: Json, fields: Sequence[Field]) -> None:
        self._format = format
        self._steps = format.steps
        self._fields = fields
        depth = self._steps.count(_EVERY)
        self._depth = depth
        # Up to the first list.
        self._lead = self._steps[: self._steps.index(_EVERY)] if depth else ()
        own: list[tuple[int, str]] = []
        above: dict[int, list[tuple[int, str]]] = {}
        for index, field in enumerate(fields):
            path, up = field.source, 0
            while path.startswith(_UP):
                path, up = path[len(_UP) :], up + 1
            if up > depth or not path:
                raise DeclarationError(
                    f"Json: source {field.source!r} is no path from records at {format.records!r}",
                    "as in name, price.currency, or ../name for the object around the list",
                )
            lead = list(self._lead)
            if up == depth and depth and path.split(".") == lead[: path.count(".") + 1]:
                raise DeclarationError(
                    f"Json: source {field.source!r} is, or holds, the list that the records are in",
                    "name a member beside that list",
                )
            (above.setdefault(up, []) if up else own).append((index, path))
        self._own_indexes = [index for index, _ in own]
        self.own = Objects([path for _, path in own], format.max_columns)
        self._above = {
            up: ([index for index, _ in wanted], Taker([path for _, path in wanted])) for up, wanted in above.items()
        }
        self._sources = [field.source for field in fields]
        self._found_above: set[str] = set()
        self.records = 0
        self._row = 0

    @property
    def seen_sources(self) -> set[str]:
        """Sources that a record, or what is above it, had."""
        return self.own.seen | self._found_above

    def pieces(self, content: Content, block_bytes: int) -> Iterator[Piece]:
        """All records, piece by piece."""
        above: list[list[list[str | int | None]]] = []

        def found() -> Iterator[bytes]:
            for record, holders in self._records(content, block_bytes):
                above.append([holders[-up].get(up, self) for up in self._above])
                yield record

        for records in gathered(found(), block_bytes):
            yield self._piece(records, above)
            above.clear()

    def _piece(self, records: Sequence[bytes], above: Sequence[Sequence[Sequence[str | int | None]]]) -> Piece:
        taken = self.own.take(records)
        rejected = []
        for at, reason in taken.refused:
            _require_whole(records[at])
            text = as_it_stands(decode_marking(records[at], "utf-8"))
            rejected.append(RejectedRecord(self._row + at + 1, reason, text))
        columns: list[tables.Column] = [None] * len(self._fields)
        for index, column in zip(self._own_indexes, taken.columns, strict=True):
            columns[index] = column
        good = taken.good.tolist()
        for number, (indexes, _) in enumerate(self._above.values()):
            values = [above[at][number] for at in good]
            for place, index in enumerate(indexes):
                columns[index] = pa.chunked_array([pa.array([one[place] for one in values], pa.string())])
        first = self._row + 1
        self._row += len(records)
        self.records += len(good)
        numbers = [record.row for record in rejected]
        return Piece(tables.from_columns(self._fields, columns, taken.extra, numbers, first), tuple(rejected))

    def _records(self, content: Content, block_bytes: int) -> Iterator[tuple[bytes, list["_Holder"]]]:
        """Each record, with the objects that hold the lists it is in, the outermost first."""
        if not self._depth:
            yield from self._find(_whole(self._format, content), 0, [])
            return
        holder = _Holder(b"{}")
        if self._depth in self._above:
            found = self._elements(content, block_bytes)
            for _ in found:
                pass
            self._judge(found)
            holder = _Holder(found.around)
        found = self._elements(content, block_bytes)
        for element in found:
            yield from self._find(element, len(self._lead) + 1, [holder])
        self._judge(found)

    def _elements(self, content: Content, block_bytes: int) -> ListElements:
        return ListElements(
            content.stream(),
            self._lead,
            block_bytes=block_bytes,
            most_bytes=self._format.max_record_bytes,
            keeps_all=self._depth in self._above,
        )

    def _judge(self, found: ListElements) -> None:
        """See that what is around the list is JSON, and that the list is there."""
        around = found.around
        _require_whole(around)
        if not found.is_found:
            # Nothing is found in it either, and it is told why.
            for _ in self._find(around, 0, []):
                raise AssertionError("a list that isn't there has no elements")

    def take_above(self, up: int, text: bytes) -> list[str | int | None]:
        """What the fields that look *up* so far take of an object."""
        indexes, taker = self._above[up]
        if text[:1] != b"{":
            return [None] * len(indexes)
        values, _ = taker.take(text, is_clean=True)
        self._found_above.update(
            self._sources[index] for index, value in zip(indexes, values, strict=True) if value is not None
        )
        return values

    def _find(self, text: bytes, at: int, holders: list["_Holder"]) -> Iterator[tuple[bytes, list["_Holder"]]]:
        """Each record below a value, with the objects that hold the lists it is in, the outermost first."""
        place = text
        step = at
        while step < len(self._steps) and self._steps[step] != _EVERY:
            if holders and place[:1] != b"{":
                # An element that holds no records: it is told as one that can't be read, and not left out.
                yield place, holders
                return
            found = self._member(place, step)
            if found is None:
                if holders:
                    return
                raise self._not_there(place, step)
            place = found
            step += 1
        if step == len(self._steps):
            yield place, holders
            return
        if place == b"null" and (holders or self._format.null_is_empty):
            return
        if place[:1] != b"[":
            raise self._not_there(place, step)
        # What holds the list is the object that its path starts from.
        inside = [*holders, _Holder(text)]
        try:
            elements = _ELEMENTS.decode(place)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ObjectRejected(f"is no JSON at {self._path(step)!r}: {error}", _AGAIN) from error
        for element in elements:
            yield from self._find(bytes(element), step + 1, inside)

    def _member(self, place: bytes, step: int) -> bytes | None:
        if place[:1] != b"{":
            return None
        try:
            return members_of(place)[0].get(self._steps[step])
        except NotAnObject as error:
            raise ObjectRejected(f"can't be read at {self._path(step) or 'its root'}: it {error}", _AGAIN) from error

    def _path(self, steps: int) -> str:
        return ".".join(self._steps[:steps]).replace(".[*]", "[*]")

    def _not_there(self, place: bytes, step: int) -> ObjectRejected:
        where = self._path(step)
        there = f"{where!r}" if where else "the document"
        if self._steps[step] == _EVERY:
            found = f"{there} is no list but {_kind(place)}"
        elif place[:1] == b"{":
            found = f"{there} has no member {self._steps[step]!r}{_has(place)}"
        else:
            found = f"{there} is no object but {_kind(place)}"
        return ObjectRejected(
            f"has no records where they are declared, at {self._format.records!r}: {found}",
            "the sender has changed, or the declared path is wrong",
        )


class _Holder:
    """An object above records; what fields take of it is taken once."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._taken: dict[int, list[str | int | None]] = {}

    def get(self, up: int, reader: _Reader) -> list[str | int | None]:
        """What the fields that look *up* so far take of it."""
        if up not in self._taken:
            self._taken[up] = reader.take_above(up, self._text)
        return self._taken[up]


def _kind(text: bytes) -> str:
    first = text[:1]
    if first == b"{":
        return "an object" + _has(text)
    if first == b"[":
        return "a list"
    return excerpt(text[:100].decode(errors="replace"))


def _has(text: bytes) -> str:
    try:
        names = list(members_of(text)[0])
    except NotAnObject:
        return ""
    shown = ", ".join(excerpt(name, 40) for name in names[:8])
    return f" (it has {shown}{', …' if len(names) > 8 else ''})" if names else " (it is empty)"


# --- erasing


@dataclass(frozen=True, slots=True)
class _Found:
    """A record in a document's text: where it stands, in which elements of which lists, and where what holds these begins."""

    begin: int
    end: int
    elements: tuple[tuple[int, int], ...]
    holders: tuple[int, ...]


def erase_json(format: Json, content: Content, erasure: Erasure, target: BinaryIO) -> None:
    """
    Write a JSON document again without some records; all else stays byte for byte. It is held in memory whole.

    An element of an outer list goes when all records in it do.

    Args:
        format: of the object.
        content: the object.
        erasure: what goes.
        target: takes the text.

    Raises:
        NotErasable: the document is one record, or one that is to be emptied is no object.
        ObjectRejected: it can't be read.
    """
    text = content.stream().read()
    finder = _Finder(format.steps, text)
    found = list(finder.find(skip_space(text, len(BOM) if text.startswith(BOM) else 0), 0, (), ()))
    edits: dict[tuple[int, int], bytes] = {}
    gone = {at + 1 for at in range(len(found))} & erasure.rows
    if any(not found[row - 1].elements for row in gone):
        raise NotErasable("the document is one record", "have the object removed whole")
    left: dict[tuple[int, int], int] = {}
    for row, one in enumerate(found, start=1):
        for element in one.elements:
            left[element] = left.get(element, 0) + (row not in gone)
    cut: dict[int, set[int]] = {}
    for row in gone:
        # The outermost element that has nothing else.
        of_list, at = next(element for element in found[row - 1].elements if not left[element])
        cut.setdefault(of_list, set()).add(at)
    for of_list, numbers in cut.items():
        edits |= {(begin, end): instead for begin, end, instead in without(text, finder.lists[of_list], numbers)}
    for row, emptying in erasure.emptied.items():
        if row in gone or row > len(found):
            continue
        one = found[row - 1]
        edits[one.begin, one.end] = emptied(text[one.begin : one.end], emptying, erasure.words)
        for source in emptying.gone:
            up = source.count(_UP)
            if up:
                path = frozenset({source.replace(_UP, "")})
                more = without_members(text, one.holders[-up], path)
                edits |= {(begin, end): instead for begin, end, instead in more}
    target.write(replaced(text, [(begin, end, instead) for (begin, end), instead in edits.items()]))


class _Finder:
    """Finds records in a document's text as `_Reader` does, in the same order."""

    def __init__(self, steps: Sequence[str], text: bytes) -> None:
        self._steps = steps
        self._text = text
        self.lists: dict[int, list[Part]] = {}

    def find(
        self, at: int, step: int, elements: tuple[tuple[int, int], ...], holders: tuple[int, ...]
    ) -> Iterator[_Found]:
        """Each record below the value that begins at *at*."""
        origin, text = at, self._text
        while step < len(self._steps) and self._steps[step] != _EVERY:
            if text[at : at + 1] != b"{":
                if holders:
                    yield _Found(at, end_of(text, at), elements, holders)
                return
            named = [part for part in parts(text, at) if part.name == self._steps[step]]
            if not named:
                return
            at = named[-1].value
            step += 1
        if step == len(self._steps):
            yield _Found(at, end_of(text, at), elements, holders)
            return
        if text[at : at + 1] != b"[":
            return
        self.lists[at] = list(parts(text, at))
        for number, part in enumerate(self.lists[at]):
            yield from self.find(part.value, step + 1, (*elements, (at, number)), (*holders, origin))
