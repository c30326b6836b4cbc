"""
XML as it comes: elements that begin and end, their text, and what is refused of any document.

Belongs here: the parser, and building elements. Doesn't: which elements are records (`xml_records.py`).

DTDs and entities are refused where they begin, before anything is expanded or fetched.
"""

from collections.abc import Iterator
from typing import Protocol
from xml.etree.ElementTree import Element
from xml.parsers import expat

from ingestion_platform.errors import ObjectRejected
from ingestion_platform.formats.content import Stream

MAX_DEPTH = 200
MAX_ATTRIBUTES = 1_000
_FED_BYTES = 1024**2
_AGAIN = "it is read again when it changes"


class Handler(Protocol):
    """What is told of a document, in its order."""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins; its tag is `{namespace}name`, or a name alone."""
        ...

    def text(self, text: str) -> None:
        """Some text, perhaps not all up to the next tag."""
        ...

    def end(self) -> None:
        """The element that began last and hasn't ended ends."""
        ...


def parse(stream: Stream, handler: Handler, *, block_bytes: int, most_bytes: int) -> Iterator[int]:
    """
    Parse a document; yields, after each block of it, how far its elements have come, in bytes.

    Args:
        stream: the document.
        handler: is told of it.
        block_bytes: how much is parsed at a time, at most.
        most_bytes: of one tag, comment or other thing that is known only when it is whole.

    Raises:
        ObjectRejected: it isn't well-formed, is cut, has a DTD, or is nested beyond measure.
    """
    # Without names kept for ever: a hostile document has ever new ones.
    parser = expat.ParserCreate(None, "}", None)
    parser.buffer_text = True
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise ObjectRejected(f"is nested deeper than {MAX_DEPTH} elements")
        if len(attributes) > MAX_ATTRIBUTES:
            raise ObjectRejected(f"has an element with more than {MAX_ATTRIBUTES:,} attributes")
        handler.start(_tag(name), {_tag(one): value for one, value in attributes.items()})

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1
        handler.end()

    def refuse(*_: object) -> int:
        raise ObjectRejected("has a DTD or entities, which are refused", "send it without DOCTYPE")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = handler.text
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.UnparsedEntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse
    size = min(block_bytes, _FED_BYTES)
    fed, is_blank = 0, True
    while True:
        piece = stream.read(size)
        fed += len(piece)
        is_blank = is_blank and not piece.strip()
        is_last = len(piece) < size
        if is_last and is_blank:
            raise ObjectRejected("is empty: not even a root element", _AGAIN)
        try:
            parser.Parse(piece, is_last)
        except (expat.ExpatError, ValueError, LookupError) as error:
            raise ObjectRejected(f"is cut, or no well-formed XML: {error}", _AGAIN) from error
        done = fed if is_last else parser.CurrentByteIndex
        if fed - done > most_bytes:
            raise ObjectRejected(
                f"has a tag or a comment of more than the {most_bytes:,} bytes allowed",
                "raise max_record_bytes of its format if it may be so large",
            )
        yield done
        if is_last:
            return


def _tag(name: str) -> str:
    return "{" + name if "}" in name else name


class Builder:
    """Builds elements, each with all that is in it."""

    def __init__(self) -> None:
        self._open: list[Element] = []
        self._last: Element | None = None
        self._texts: list[str] = []
        self.chars = 0
        """Of text, in what is being built."""

    @property
    def depth(self) -> int:
        """How many elements have begun and haven't ended."""
        return len(self._open)

    def start(self, tag: str, attributes: dict[str, str]) -> Element:
        """Begin an element."""
        self._flush()
        element = Element(tag, attributes)
        self.chars += len(tag) + sum(len(value) for value in attributes.values())
        if self._open:
            self._open[-1].append(element)
        self._open.append(element)
        self._last = None
        return element

    def text(self, text: str) -> None:
        """Add text where the document is."""
        if self._open:
            self._texts.append(text)
            self.chars += len(text)

    def end(self) -> Element:
        """End an element."""
        self._flush()
        element = self._open.pop()
        self._last = element
        if not self._open:
            self._last, self.chars = None, 0
        return element

    def skip(self) -> None:
        """Pass over an element that isn't built: text after it isn't text before it."""
        if self._open:
            self._flush()
            self._last = Element("passed-over")

    def drop(self) -> None:
        """Take the element that ended last out of the one that it is in."""
        self.chars = 0
        if self._open and self._last is not None:
            self._open[-1].remove(self._last)

    def _flush(self) -> None:
        if not self._texts:
            return
        text = "".join(self._texts)
        self._texts.clear()
        if self._last is not None:
            self._last.tail = (self._last.tail or "") + text
        elif self._open:
            self._open[-1].text = (self._open[-1].text or "") + text
