r"""
JSON lines to records: one JSON object a line, RFC 8259 to the letter.

Only `\n` ends a line (a `\r` before it is white space to JSON); blank lines are no records. Nothing is converted: numbers keep the digits
they were written with, objects and arrays stay the JSON they are.
"""

import io
from collections.abc import Iterator, Sequence

from ingestion_platform.errors import ObjectRejected
from ingestion_platform.format import JsonLines
from ingestion_platform.formats import tables
from ingestion_platform.formats.content import BLOCK_BYTES, Content
from ingestion_platform.formats.json_members import NotAnObject, Taker
from ingestion_platform.formats.records import Ending, Field, Piece, Pieces, RejectedRecord
from ingestion_platform.formats.texts import as_it_stands, excerpt, is_utf_8
from ingestion_platform.formats.windows import Window

_EDGE_BYTES = 200


def read_json_lines(
    format: JsonLines, content: Content, fields: Sequence[Field], *, block_bytes: int = BLOCK_BYTES
) -> Pieces:
    """
    Read JSON lines.

    Raises:
        ObjectRejected: it isn't text, its last line is cut, or it has several lines and none of them is a JSON object.
    """
    window = Window(content, format.encoding, block_bytes=block_bytes, most_bytes=format.max_record_bytes)
    return (yield from _Reader(format, window, fields).pieces())


class _Reader:
    def __init__(self, format: JsonLines, window: Window, fields: Sequence[Field]) -> None:
        self._format = format
        self._window = window
        self._fields = fields
        self._taker = Taker([wanted.source for wanted in fields])
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
                table = tables.from_rows(self._fields, self._rows(window.data[:end]))
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
            dict.fromkeys(field.source for field in self._fields if field.source not in self._taker.seen)
            if self._records
            else {}
        )
        return Ending(tuple(self._taker.unknown), tuple(missing), departures=self._taker.departures)

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

    def _rows(self, data: bytes) -> Iterator[Sequence[str | int | None]]:
        is_clean = is_utf_8(data)
        for line in io.BytesIO(data):
            stripped = line.strip(b" \t\r\n")
            if not stripped:
                continue
            self._row += 1
            if len(stripped) > self._format.max_record_bytes:
                self._window.refuse_record(self._row)
            try:
                if not is_clean and not is_utf_8(stripped):
                    raise NotAnObject(f"is not text in {self._format.encoding}")
                values, extra = self._taker.take(stripped, is_clean=True)
            except NotAnObject as error:
                if not line.endswith(b"\n"):
                    raise ObjectRejected(
                        f"is cut: its last line has no line end and {error}", "it is read again when it changes"
                    ) from error
                text = self._window.text(line.rstrip(b"\n").removesuffix(b"\r"))
                self._rejected.append(RejectedRecord(self._row, str(error), as_it_stands(text)))
                continue
            self._records += 1
            values.append(extra)
            values.append(self._row)
            yield values
