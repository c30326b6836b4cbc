r"""
JSON lines to records: one JSON object a line, RFC 8259 to the letter.

Only `\n` ends a line (a `\r` before it is white space to JSON); blank lines are no records. Nothing is converted: numbers keep the digits
they were written with, objects and arrays stay the JSON they are.
"""

import io
from collections.abc import Sequence
from typing import BinaryIO, Protocol

import pyarrow as pa

from ingestion_platform.errors import ObjectRejected
from ingestion_platform.format import JsonLines
from ingestion_platform.formats import tables
from ingestion_platform.formats.content import BLOCK_BYTES, Content
from ingestion_platform.formats.erasure import EditedWindow, Erasure
from ingestion_platform.formats.json_edit import emptied
from ingestion_platform.formats.json_objects import Objects, Taken
from ingestion_platform.formats.records import Ending, Field, Piece, Pieces, RejectedRecord
from ingestion_platform.formats.texts import as_it_stands, excerpt, is_utf_8
from ingestion_platform.formats.windows import Window

_EDGE_BYTES = 200


class LineTaker(Protocol):
    """Takes the rows out of lines, of which one may be several, or none; see `Objects`."""

    @property
    def seen(self) -> set[str]:
        """Sources that a line had."""
        ...

    @property
    def unknown(self) -> tuple[str, ...]:
        """Members that nobody asks for."""
        ...

    @property
    def departures(self) -> tuple[str, ...]:
        """What isn't as it should be, told."""
        ...

    def take(self, texts: Sequence[bytes]) -> Taken:
        """Take what is wanted of each line."""
        ...


def read_json_lines(
    format: JsonLines,
    content: Content,
    fields: Sequence[Field],
    *,
    block_bytes: int = BLOCK_BYTES,
    taker: LineTaker | None = None,
) -> Pieces:
    """
    Read JSON lines.

    Args:
        taker: takes the rows out of lines; None: each is one.

    Raises:
        ObjectRejected: it isn't text, its last line is cut, or it has several lines and none of them is a JSON object.
    """
    window = Window(content, format.encoding, block_bytes=block_bytes, most_bytes=format.max_record_bytes)
    found = taker or Objects([wanted.source for wanted in fields], format.max_columns)
    return (yield from _Reader(format, window, fields, found).pieces())


def erase_json_lines(
    format: JsonLines, content: Content, erasure: Erasure, target: BinaryIO, *, block_bytes: int = BLOCK_BYTES
) -> None:
    """
    Write JSON lines again without some of them; all others stay byte for byte.

    Args:
        format: of the object.
        content: the object.
        erasure: what goes.
        target: takes the text.

    Raises:
        NotErasable: a line that is to be emptied isn't an object.
        ObjectRejected: it can't be read.
    """
    window = EditedWindow(content, format.encoding, target, block_bytes=block_bytes, most_bytes=format.max_record_bytes)
    row = 0
    while not window.is_last:
        window.grow(row + 1)
        end = len(window.data) if window.is_last else window.data.rfind(b"\n") + 1
        position = 0
        for line in io.BytesIO(window.data[:end]):
            begin, position = position, position + len(line)
            stripped = line.strip(b" \t\r\n")
            if not stripped:
                continue
            row += 1
            if row in erasure.rows:
                window.replace(begin, position)
            elif row in erasure.emptied:
                begin += line.index(stripped)
                window.replace(begin, begin + len(stripped), emptied(stripped, erasure.emptied[row], erasure.words))
        if end:
            window.consume(end)
    window.finish()


class _Reader:
    def __init__(self, format: JsonLines, window: Window, fields: Sequence[Field], objects: LineTaker) -> None:
        self._format = format
        self._window = window
        self._fields = fields
        self._objects = objects
        self._row = 0
        self._records = 0
        self._rejected: list[RejectedRecord] = []
        self._first_rejected = ""
        self._is_array = False

    def pieces(self) -> Pieces:
        """Read it."""
        window, ending = self._window, b""
        while True:
            window.grow(self._row + 1)
            if not self._row:
                self._is_array = window.data[:_EDGE_BYTES].lstrip().startswith(b"[")
            end = len(window.data) if window.is_last else window.data.rfind(b"\n") + 1
            ending = (ending + window.data[:end][-_EDGE_BYTES:])[-_EDGE_BYTES:]
            if window.is_last:
                self._refuse_array(ending)
            if end or window.is_last:
                table = self._table(window.data[:end])
                rejected, self._rejected = tuple(self._rejected), []
                if rejected and not self._first_rejected:
                    self._first_rejected = rejected[0].record[:_EDGE_BYTES]
                if window.is_last:
                    self._refuse_others()
                window.consume(end)
                yield Piece(table, rejected)
            if window.is_last:
                break
        missing = (
            dict.fromkeys(field.source for field in self._fields if field.source not in self._objects.seen)
            if self._records
            else {}
        )
        return Ending(self._objects.unknown, tuple(missing), departures=self._objects.departures)

    def _refuse_array(self, ending: bytes) -> None:
        has_lines = self._row > 0 or b"\n" in self._window.data.strip()
        if self._is_array and has_lines and ending.rstrip().endswith(b"]"):
            raise ObjectRejected(
                "is not JSON lines: it is one JSON array over several lines", "one object a line, no array around them"
            )

    def _refuse_others(self) -> None:
        if not self._records and self._row > 1:
            raise ObjectRejected(
                f"is not JSON lines: none of its {self._row:,} lines is a JSON object; the first: {excerpt(self._first_rejected)}",
                "one object a line, no array around them",
            )

    def _table(self, data: bytes) -> pa.Table:
        lines, texts, first = list[bytes](), list[bytes](), self._row + 1
        for line in io.BytesIO(data):
            stripped = line.strip(b" \t\r\n")
            if not stripped:
                continue
            self._row += 1
            if len(stripped) > self._format.max_record_bytes:
                self._window.refuse_record(self._row)
            lines.append(line)
            texts.append(stripped)
        taken = self._objects.take(texts)
        for at, why in taken.refused:
            reason = why if is_utf_8(texts[at]) else f"is not text in {self._format.encoding}"
            if not lines[at].endswith(b"\n"):
                raise ObjectRejected(
                    f"is cut: its last line has no line end and {reason}", "it is read again when it changes"
                )
            text = self._window.text(lines[at].rstrip(b"\n").removesuffix(b"\r"))
            self._rejected.append(RejectedRecord(first + at, reason, as_it_stands(text)))
        self._records += len(texts) - len(taken.refused)
        return tables.numbered(self._fields, taken.columns, taken.extra, taken.good + first)
