"""
XML as it comes: the elements that are wanted, one at a time, and what is refused of any document.

Belongs here: the parser, and letting go of what has been read. Doesn't: which elements are wanted (`xml_records.py`, `excel_sheets.py`).

DTDs and entities are refused where they begin, before anything is expanded or fetched. They can only stand before the root: so a parser
that looks for them reads up to there, and the fast one, which can't be asked to refuse them, reads after it.
"""

from collections.abc import Callable, Iterator
from typing import Any
from xml.etree.ElementTree import Element, ParseError, XMLPullParser
from xml.parsers import expat

from ingestion_platform.errors import ObjectRejected
from ingestion_platform.formats.content import Stream

MAX_DEPTH = 200
MAX_ATTRIBUTES = 1_000
_FED_BYTES = 16 * 1024
"""More at a time is slower by half: elements that live on are looked through again and again for cycles."""
_AGAIN = "it is read again when it changes"


def local_name(tag: str) -> str:
    """A tag without its namespace."""
    return tag.rpartition("}")[2] if tag[:1] == "{" else tag


def walk(
    stream: Stream,
    begin: Callable[[int, Element], bool],
    end: Callable[[int, Element], bool],
    *,
    block_bytes: int,
    most_bytes: int,
) -> Iterator[Element]:
    """
    Go through a document; yields the wanted elements as they end, each with all that is in it.

    Args:
        stream: the document.
        begin: told of each element that begins outside wanted ones, with its depth, from 1: its attributes are there. Whether it is
            wanted.
        end: told of each other element that ends outside wanted ones. Whether it stays in the one that it is in; if not, it is let go of.
        block_bytes: how much is parsed at a time, at most.
        most_bytes: of one wanted element, or of one text, tag or comment, about: larger ones are refused before they are twice as large.

    Raises:
        ObjectRejected: it isn't well-formed, is cut, has a DTD, or is nested beyond measure.
    """
    # Its stubs know of all events, each of which gives something else.
    parser: Any = XMLPullParser(("start", "end"))
    guard: _Guard | None = _Guard()
    size = min(block_bytes, _FED_BYTES, most_bytes)
    is_blank = True
    open_: list[Element] = []
    wanted_depth = depth = 0
    # Fed since a wanted element began, and since anything was told.
    fed = silent = records = 0
    while True:
        piece = stream.read(size)
        is_last = len(piece) < size
        is_blank = is_blank and not piece.strip()
        if is_last and is_blank:
            raise ObjectRejected("is empty: not even a root element", _AGAIN)
        fed, silent = fed + len(piece), silent + len(piece)
        try:
            if guard is not None and guard.has_passed(piece, is_last):
                guard = None
            parser.feed(piece)
            if is_last:
                parser.close()
            for event, element in parser.read_events():
                silent = 0
                if event == "start":
                    depth += 1
                    if depth > MAX_DEPTH:
                        raise ObjectRejected(f"is nested deeper than {MAX_DEPTH} elements")
                    if len(element.attrib) > MAX_ATTRIBUTES:
                        raise ObjectRejected(f"has an element with more than {MAX_ATTRIBUTES:,} attributes")
                    if not wanted_depth:
                        if begin(depth, element):
                            wanted_depth, fed = depth, 0
                        open_.append(element)
                    continue
                if wanted_depth and depth > wanted_depth:
                    depth -= 1
                    continue
                open_.pop()
                stays = False
                if wanted_depth:
                    wanted_depth = 0
                    records += 1
                    yield element
                else:
                    stays = end(depth, element)
                depth -= 1
                if not stays and open_:
                    open_[-1].remove(element)
        except (ParseError, expat.ExpatError, ValueError, LookupError) as error:
            raise ObjectRejected(f"is cut, or no well-formed XML: {error}", _AGAIN) from error
        if (wanted_depth and fed > most_bytes) or silent > most_bytes:
            raise ObjectRejected(
                f"has a record, a text or a tag of more than the {most_bytes:,} bytes allowed, after {records:,} records",
                "raise max_record_bytes of its format if it may be so large",
            )
        if is_last:
            return


class _Guard:
    """Reads up to the root, and refuses what may not stand before it."""

    def __init__(self) -> None:
        self._parser = expat.ParserCreate()
        self._has_passed = False
        self._parser.StartElementHandler = self._pass
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.EntityDeclHandler = self._refuse
        self._parser.UnparsedEntityDeclHandler = self._refuse
        self._parser.ExternalEntityRefHandler = self._refuse

    def has_passed(self, piece: bytes, is_last: bool) -> bool:
        """Whether the root has begun with this piece of the document."""
        try:
            self._parser.Parse(piece, is_last)
        except expat.ExpatError:
            # What is wrong behind the beginning of the root is told by who reads it.
            if not self._has_passed:
                raise
        return self._has_passed

    def _pass(self, *_: object) -> None:
        self._has_passed = True
        self._parser.StartElementHandler = None

    @staticmethod
    def _refuse(*_: object) -> int:
        raise ObjectRejected("has a DTD or entities, which are refused", "send it without DOCTYPE")
