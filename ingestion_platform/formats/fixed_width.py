"""
Text with each field at its place to records.

A record is a line (ended by LF, CRLF or CR, also mixed). Lines are cut up many at once; those that can't be, because they aren't text or
their places count bytes, one by one.
"""

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, BinaryIO

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute

from ingestion_platform.errors import DeclarationError, NotErasable, ObjectRejected
from ingestion_platform.format import FixedWidth
from ingestion_platform.formats import tables
from ingestion_platform.formats.content import BLOCK_BYTES, Content
from ingestion_platform.formats.dialect import MOST_TRAILERS, NoRecords
from ingestion_platform.formats.erasure import EditedWindow, Emptying, Erasure
from ingestion_platform.formats.records import Ending, Field, Piece, Pieces, RejectedRecord
from ingestion_platform.formats.texts import as_it_stands, is_utf_8
from ingestion_platform.formats.windows import Window

pc: Any = pyarrow.compute
"""Its stubs know nothing of texts beside arrays."""

_CR, _LF = 13, 10
_CUT = "it is read again when it changes"


def read_fixed_width(
    format: FixedWidth, content: Content, fields: Sequence[Field], *, block_bytes: int = BLOCK_BYTES
) -> Pieces:
    """
    Read text with each field at its place.

    Raises:
        ObjectRejected: it is cut, or isn't text.
        DeclarationError: a field's source is none of the declared names.
    """
    names = [name for name, _ in format.fields if name]
    for field in fields:
        if field.source not in names:
            raise DeclarationError(
                f"FixedWidth: source {field.source!r} is none of its fields {', '.join(names)}", "add it to fields"
            )
    window = Window(content, format.encoding, block_bytes=block_bytes, most_bytes=format.max_record_bytes)
    return (yield from _Reader(format, window, fields).pieces())


_LINE = re.compile(rb"([^\r\n]*)(\r\n|\r|\n|\Z)")


def erase_fixed_width(
    format: FixedWidth, content: Content, erasure: Erasure, target: BinaryIO, *, block_bytes: int = BLOCK_BYTES
) -> None:
    """
    Write text with each field at its place again without some records; what is emptied has spaces in its place.

    Args:
        format: of the object.
        content: the object.
        erasure: what goes.
        target: takes the text.

    Raises:
        NotErasable: a line that is to be emptied can't be.
        ObjectRejected: it can't be read.
    """
    window = EditedWindow(content, format.encoding, target, block_bytes=block_bytes, most_bytes=format.max_record_bytes)
    row, skip, no_records = 0, format.header_lines, NoRecords(format.footer)
    while not window.is_last:
        window.grow(row + 1)
        data = window.data
        end = len(data) if window.is_last else max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if not window.is_last and data[end - 1 : end] == b"\r" and end == len(data):
            # It may be half of a line end.
            end = max(data.rfind(b"\n", 0, end - 1), data.rfind(b"\r", 0, end - 1)) + 1
        for found in _LINE.finditer(data, 0, end):
            line = found[1]
            if not line:
                continue
            if skip:
                skip -= 1
                continue
            if no_records.are_declared and no_records.is_footer(window.text(line)):
                continue
            row += 1
            if row in erasure.rows:
                window.replace(found.start(), found.end())
            elif row in erasure.emptied:
                left = _emptied(format, window.text(line), erasure.emptied[row], erasure)
                window.replace(found.start(), found.start() + len(line), left.encode("utf-8", "surrogatepass"))
        if end:
            window.consume(end)
    window.finish()


def _emptied(format: FixedWidth, line: str, emptied: Emptying, erasure: Erasure) -> str:
    ends = list(accumulate(width for _, width in format.fields))
    in_bytes = format.unit == "bytes" and not line.isascii()
    if in_bytes and any("\ud800" <= mark <= "\udfff" for mark in line):
        raise NotErasable("a line that isn't text can't be emptied", "erase='row' takes it out whole")
    units: Any = line.encode(format.encoding) if in_bytes else line
    blank: Any = " ".encode(format.encoding) if in_bytes else " "
    parts = []
    for (name, width), end in zip(format.fields, ends, strict=True):
        part = units[end - width : end]
        shown = part.decode(format.encoding, "replace") if in_bytes else part
        keeps = name in emptied.kept and not erasure.words.hold(shown)
        parts.append(part if keeps else blank * (len(part) // len(blank)))
    left: Any = (b"" if in_bytes else "").join(parts)
    return str(left.decode(format.encoding)) if in_bytes else str(left)


class _Reader:
    def __init__(self, format: FixedWidth, window: Window, fields: Sequence[Field]) -> None:
        self._format = format
        self._window = window
        self._fields = fields
        ends = list(accumulate(width for _, width in format.fields))
        # Name, first place (from 0), and the one after the last.
        self._places = [
            (name or f"{end - width + 1}-{end}", end - width, end)
            for (name, width), end in zip(format.fields, ends, strict=True)
        ]
        wanted = {field.source for field in fields}
        self._unknown = [
            place
            for place, (name, _) in zip(self._places, format.fields, strict=True)
            if place[0] not in wanted or not name
        ]
        self._fillers = {place[0] for place, (name, _) in zip(self._places, format.fields, strict=True) if not name}
        self._found_unknown: set[str] = set()
        self._row = 1
        self._skip = format.header_lines
        self._no_records = NoRecords(format.footer)
        self._trailers: list[str] = []

    def pieces(self) -> Pieces:
        """Read it."""
        window = self._window
        while True:
            window.grow(self._row)
            data = window.data
            if window.is_last and data and self._format.final_newline and data[-1] not in (_CR, _LF):
                raise ObjectRejected(
                    "is cut: its last line has no line end",
                    "if its sender never writes the last line end, declare FixedWidth(final_newline=False)",
                )
            end = len(data) if window.is_last else max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
            if end or window.is_last:
                yield self._piece(data[:end], window.is_last)
                window.consume(end)
            if window.is_last:
                break
        if self._skip:
            raise ObjectRejected(f"has fewer lines than the {self._format.header_lines} of its header", _CUT)
        return Ending(
            tuple(name for name, _, _ in self._unknown if name in self._found_unknown),
            trailers=tuple(self._trailers[-MOST_TRAILERS:]),
        )

    def _piece(self, data: bytes, is_last: bool) -> Piece:
        lines = _lines(data)
        if self._skip:
            skipped = min(self._skip, len(lines))
            self._skip -= skipped
            lines = lines.slice(skipped)
        if self._no_records.are_declared and self._no_records.first(self._window.text(data)) is not None:
            lines = self._without_footer(lines)
        lengths = pc.binary_length(lines)
        if len(lines) and pc.max(lengths).as_py() > self._format.max_record_bytes:
            self._window.refuse_record(
                self._row + int(pc.index(pc.greater(lengths, self._format.max_record_bytes), True).as_py())
            )
        good, reasons = self._judge(lines)
        if reasons and is_last and data[-1] not in (_CR, _LF) and len(lines) - 1 in reasons:
            raise ObjectRejected(f"is cut: its last line {reasons[len(lines) - 1]}", _CUT)
        rejected = tuple(
            RejectedRecord(self._row + at, reason, as_it_stands(self._window.text(lines[at].as_py())))
            for at, reason in sorted(reasons.items())
        )
        values = self._cut(good)
        rows = len(good)
        table = tables.from_columns(
            self._fields,
            [pa.chunked_array([values[field.source]]) for field in self._fields],
            self._extra(values, rows),
            [record.row for record in rejected],
            self._row,
        )
        self._row += rows + len(rejected)
        return Piece(table, rejected)

    def _without_footer(self, lines: Any) -> Any:
        texts = [self._window.text(line) for line in lines.to_pylist()]
        is_footer = [self._no_records.is_footer(text) for text in texts]
        self._trailers += [text for text, is_it in zip(texts, is_footer, strict=True) if is_it]
        return lines.filter(pa.array([not is_it for is_it in is_footer], pa.bool_()))

    def _judge(self, lines: Any) -> tuple[Any, dict[int, str]]:
        """Those lines that can be cut up, as text; and of the others, why not."""
        reasons: dict[int, str] = {}
        try:
            texts = lines.cast(pa.string())
        except pa.ArrowInvalid:
            for at, line in enumerate(lines.to_pylist()):
                if not is_utf_8(line):
                    reasons[at] = f"is not text in {self._format.encoding}"
            texts = self._without(lines, reasons).cast(pa.string())
        left = np.delete(np.arange(len(lines)), list(reasons))
        width, unit = self._format.width, self._format.unit
        if unit == "bytes":
            lengths = pa.array([len(self._encoded(text)) for text in texts.to_pylist()], pa.int32())
        else:
            lengths = pc.utf8_length(texts)
        is_wrong = pc.greater(lengths, width) if self._format.may_end_early else pc.not_equal(lengths, width)
        has_nul = pc.match_substring(texts, "\0")
        if pc.any(pc.or_(is_wrong, has_nul)).as_py():
            for at in np.flatnonzero(is_wrong.to_numpy(zero_copy_only=False)).tolist():
                reasons[int(left[at])] = f"has {lengths[at].as_py()} {unit}, {width} are declared"
            for at in np.flatnonzero(has_nul.to_numpy(zero_copy_only=False)).tolist():
                reasons[int(left[at])] = "holds a NUL byte"
            texts = self._without(lines, reasons).cast(pa.string())
        return texts, reasons

    def _encoded(self, text: str) -> bytes:
        return text.encode(self._format.encoding, "replace")

    @staticmethod
    def _without(lines: Any, reasons: dict[int, str]) -> Any:
        return lines.take(pa.array(np.delete(np.arange(len(lines)), list(reasons)), pa.int64()))

    def _cut(self, texts: Any) -> dict[str, Any]:
        """The values of each place."""
        if self._format.unit == "bytes" and not pc.all(pc.string_is_ascii(texts)).as_py():
            rows = [self._encoded(text) for text in texts.to_pylist()]
            encoding = self._format.encoding
            return {
                name: pc.utf8_trim(
                    pa.array([row[begin:end].decode(encoding, "replace") for row in rows], pa.string()), " "
                )
                for name, begin, end in self._places
            }
        return {
            name: pc.utf8_trim(pc.utf8_slice_codeunits(texts, begin, end), " ") for name, begin, end in self._places
        }

    def _extra(self, values: dict[str, Any], rows: int) -> Any:
        """JSON objects of what no field asks for; places that should hold nothing are there only where they hold something."""
        columns = {}
        for name, _, _ in self._unknown:
            if name not in self._fillers or pc.any(pc.not_equal(values[name], "")).as_py():
                columns[name] = values[name].to_pylist()
                self._found_unknown.add(name)
        if not columns or not rows:
            return tables.no_values(rows)
        texts = []
        for row in zip(*columns.values(), strict=True):
            members = {
                name: value for name, value in zip(columns, row, strict=True) if value or name not in self._fillers
            }
            texts.append(msgspec.json.encode(members).decode() if members else None)
        return pa.chunked_array([pa.array(texts, pa.string())])


def _lines(data: bytes) -> Any:
    """The lines of *data* that have a character, without their ends, as Arrow bytes."""
    octets = np.frombuffer(data, np.uint8)
    is_end = (octets == _LF) | (octets == _CR)
    ends = np.flatnonzero(is_end)
    lengths = np.diff(np.concatenate([[-1], ends, [len(octets)]])) - 1
    lengths = lengths[lengths > 0]
    offsets = np.zeros(len(lengths) + 1, np.int32)
    offsets[1:] = np.cumsum(lengths)
    text = octets[~is_end].tobytes()
    return pa.Array.from_buffers(pa.binary(), len(lengths), [None, pa.py_buffer(offsets.data), pa.py_buffer(text)])
