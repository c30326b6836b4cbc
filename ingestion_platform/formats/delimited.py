r"""
Delimited text (CSV) to records.

Two readers. The fast one is pyarrow's; it is used only where its answer is proved: no quotes, so that a record is its line, split; or
every quote of the object opens or closes a cell as RFC 4180 says; and the records it gives or sets aside are as many as the line ends
outside quotes.
Everything else goes to the exact one below, which takes text record by record, keeps the good ones and rejects the others. Which of them
reads is decided for each window of an object, a few megabytes that begin with a record.

What a record is: the text up to a line end (`\n`, `\r\n` or `\r`, also mixed) outside quotes. A line without a single character is no
record, also where there is only one column: there an empty value is written `""`. A line that repeats the header, of two columns or more,
is no data and is rejected: files were strung together.

After a fault in its quotes nobody can tell how far a record goes:

- If the fault shows on a later line than the record began on, and all lines after the first are exact records by themselves, a stray
  quote has swallowed them: only the first line is rejected. Otherwise all of it is rejected as one record.
- In an object with such a fault, every record with a line end inside a cell is rejected as well: it may be rows that a stray quote
  swallowed. Where such records had been given before the fault showed, the object is read anew.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, BinaryIO, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from ingestion_platform.errors import ObjectRejected
from ingestion_platform.format import MOST_LINES, Csv
from ingestion_platform.formats import tables
from ingestion_platform.formats.content import BLOCK_BYTES, Content
from ingestion_platform.formats.detection import detect
from ingestion_platform.formats.dialect import MOST_TRAILERS, Dialect, Fault, NoRecords
from ingestion_platform.formats.erasure import EditedWindow, Emptying, Erasure
from ingestion_platform.formats.records import Ending, Field, Piece, Pieces, RejectedRecord, all_names, require_columns
from ingestion_platform.formats.tables import Column
from ingestion_platform.formats.texts import BOM, as_it_stands, excerpt, has_mark, is_utf_8
from ingestion_platform.formats.windows import Window

_NOT_PLAIN_IN_JSON = r'["\\\x00-\x1f]'
_CR, _LF = 13, 10
_BLOCK_BYTES = 16 * 1024**2
_CUT = "it is read again when it changes"
_FOOTER_BYTES = 64 * 1024
_NO_FINAL_NEWLINE = "if its sender never writes the last line end, declare Csv(final_newline=False)"


def read_delimited(format: Csv, content: Content, fields: Sequence[Field], *, block_bytes: int = BLOCK_BYTES) -> Pieces:
    """
    Read delimited text. What of its dialect isn't declared is detected from this object alone.

    Raises:
        ObjectRejected: it is empty, cut, not text, its dialect can't be told, or its header has none of the fields.
    """
    doubts: tuple[str, ...] = ()
    if format.undetected:
        detected = detect(format, content, fields)
        format, doubts = detected.format, detected.doubts
    is_doubted = False
    while True:
        assert isinstance(format.encoding, str)
        window = Window(content, format.encoding, block_bytes=block_bytes, most_bytes=format.max_record_bytes)
        try:
            ending = yield from _Reader(format, window, fields, is_doubted).pieces()
            return replace(ending, departures=doubts)
        except _Doubted:
            is_doubted = True


@dataclass(frozen=True, slots=True)
class _Header:
    """The header's cells, held against the fields."""

    cells: list[str]
    rows: tuple[list[str], ...]
    """As they stand in the object: a record that says the same is none."""
    positions: list[int | None]
    unknown: list[int]
    missing: tuple[str, ...]

    @classmethod
    def declared(cls, fields: Sequence[Field]) -> "_Header":
        """Of an object that has none: the columns in the declared order."""
        cells = list(dict.fromkeys(field.source for field in fields))
        return cls(cells, (cells,), [cells.index(field.source) for field in fields], [], ())

    @classmethod
    def of(cls, rows: list[list[str]], joint: str, line: str, fields: Sequence[Field]) -> "_Header":
        cells = rows[0] if len(rows) == 1 else [joint.join(filter(None, names)) for names in zip(*rows, strict=True)]
        twice = [cell for cell, times in Counter(cells).items() if times > 1]
        wanted = {field.source for field in fields}
        if wanted and all_names(fields).isdisjoint(cells):
            names = ", ".join(list(dict.fromkeys(field.source for field in fields))[:6]) + (
                ", …" if len(wanted) > 6 else ""
            )
            raise ObjectRejected(
                f"is not the declared CSV: its first line {excerpt(line)} has none of the columns {names}",
                "check the delimiter, and that the first line is the header",
            )
        if twice:
            raise ObjectRejected(
                f"names a column twice in its header: {excerpt(twice[0])}", "each column needs a name of its own"
            )
        at = {cell: index for index, cell in enumerate(cells)}
        return cls(
            cells,
            tuple(rows),
            [at.get(field.source) for field in fields],
            [index for index, cell in enumerate(cells) if cell not in wanted],
            tuple(dict.fromkeys(field.source for field in fields if field.source not in at)),
        )

    @property
    def unknown_columns(self) -> tuple[str, ...]:
        return tuple(self.cells[index] for index in self.unknown)


@lru_cache(maxsize=64)
def _header_of(rows: tuple[tuple[str, ...], ...], joint: str, line: str, fields: tuple[Field, ...]) -> _Header:
    """Thousands of objects have the same header; nothing of it changes."""
    return _Header.of([list(cells) for cells in rows], joint, line, fields)


class _Doubted(Exception):
    """A fault in the quotes shows, and records that it makes doubtful were given before."""


class _Reader:
    """
    Reads one object, window by window.

    Args:
        format: nothing of it is to be detected.
        window: its text.
        fields: that are wanted.
        is_doubted: it is known to have a fault in its quotes.
    """

    _keeps_places = False

    def __init__(self, format: Csv, window: Window, fields: Sequence[Field], is_doubted: bool) -> None:
        self._format = format
        self._dialect = Dialect.of(format)
        self._no_records = NoRecords(format.footer, format.comment)
        self._window = window
        self._fields = fields
        self._is_doubted = is_doubted
        self._is_anew = is_doubted
        self._row = 1
        self._has_line_ends_in_cells = False
        """Records that would be doubtful have been given."""
        self._trailers: list[str] = []

    def pieces(self) -> Pieces:
        """Read it."""
        window = self._window
        header = self._read_header()
        is_given = False
        while True:
            is_left = False
            if window.data:
                if window.is_last:
                    self._refuse_unfinished(window.data)
                end = self._end()
                # Lines that are no records are known to the exact reader only: the fast one reads up to the first of them.
                until = self._until(end)
                piece = self._proved(header, end if until is None else until, window.is_last and until is None)
                is_left = piece is not None and until is not None
                if piece is None:
                    piece = self._exact(header, end)
                if piece is not None:
                    yield piece
                    is_given = True
            if is_left:
                continue
            if window.is_last:
                break
            window.grow(self._row)
        if not is_given:
            yield self._piece(header, [tables.no_values(0)] * len(header.cells), ())
        return Ending(header.unknown_columns, header.missing, trailers=tuple(self._trailers[-MOST_TRAILERS:]))

    def _meet(self, header: "_Header", text: str, findings: "_Findings") -> None:
        """Told of the records of a window before it is let go of."""

    def _piece(self, header: "_Header", columns: list[Column], rejected: tuple[RejectedRecord, ...]) -> Piece:
        """A piece of the columns of all cells."""
        rows = len(columns[0])
        table = tables.from_columns(
            self._fields,
            [tables.no_values(rows) if index is None else columns[index] for index in header.positions],
            _extra([(header.cells[index], columns[index]) for index in header.unknown]) or tables.no_values(rows),
            [record.row for record in rejected],
            self._row,
        )
        return self._given(table, rejected)

    def _given(self, table: pa.Table, rejected: tuple[RejectedRecord, ...]) -> Piece:
        self._row += table.num_rows + len(rejected)
        is_anew, self._is_anew = self._is_anew, False
        return Piece(table, rejected, is_anew)

    def _end(self) -> int:
        """Where the last line of the window that may be a record ends."""
        window, dialect, footer = self._window, self._dialect, self._format.footer
        end = len(window.data) if window.is_last else dialect.last_line_end(window.data)
        if not footer or isinstance(footer, str):
            return end
        # They are at the end, most likely a short one; all of a window is looked at only where that isn't enough.
        for begin in (max(0, end - _FOOTER_BYTES), 0):
            tail, lines = window.data[begin:end], list[str]()
            while tail and len(lines) < footer:
                line = dialect.without_line_end(tail)
                tail = line[: dialect.last_line_end(line)]
                if len(tail) < len(line):
                    lines.append(window.text(line[len(tail) :]))
            if tail or not begin:
                break
        end = begin + len(tail)
        if window.is_last:
            if len(lines) < footer:
                raise ObjectRejected(f"is cut: it has no footer of {footer} lines after its header", _CUT)
            self._trailers = lines[::-1]
        return end

    def _until(self, end: int) -> int | None:
        """Where in the window, before *end*, the first line stands that may be no record; None when all of them are."""
        if not self._no_records.are_declared:
            return None
        text = self._window.text(self._window.data[:end])
        found = self._no_records.first(text)
        return None if found is None else self._window.size(text[:found])

    def _refuse_unfinished(self, data: bytes) -> None:
        if self._format.final_newline and not self._dialect.ends_a_line(data):
            raise ObjectRejected("is cut: its last line has no line end", _NO_FINAL_NEWLINE)

    # The header

    def _read_header(self) -> "_Header":
        """The header; the window begins after it then."""
        format, window = self._format, self._window
        window.grow(0)
        if window.is_last and not window.data.strip(b"\r\n"):
            if format.may_be_empty:
                window.consume(len(window.data))
                return _Header.declared(self._fields)
            what = "not even a header" if format.header_rows else "not even a record"
            raise ObjectRejected(f"is empty: {what}", _CUT)
        self._skip_to_header()
        if not format.header_rows:
            return _Header.declared(self._fields)
        assert isinstance(format.header_rows, int)
        read = [self._header_row() for _ in range(format.header_rows)]
        lines, rows = [line for line, _ in read], [cells for _, cells in read]
        require_columns(max(map(len, rows)), format.max_columns)
        widths = {len(cells) for cells in rows}
        if len(widths) > 1:
            raise ObjectRejected(
                f"has a header whose lines have {' and '.join(map(str, sorted(widths)))} cells: {excerpt(lines[-1])}",
                "check how many lines its header has",
            )
        return _header_of(tuple(map(tuple, rows)), format.header_joint, lines[0], tuple(self._fields))

    def _skip_to_header(self) -> None:
        at = self._format.header_at
        if isinstance(at, str):
            pattern = re.compile(at)
            for _ in range(MOST_LINES + 1):
                line = self._first_line()
                if line is None:
                    break
                if pattern.fullmatch(self._window.text(line[0])):
                    return
                self._window.consume(line[1])
            raise ObjectRejected(
                f"has no header: none of its first {MOST_LINES:,} lines matches {excerpt(at)}", "check header_at"
            )
        assert isinstance(at, int)
        for number in range(at):
            line = self._first_line()
            if line is None:
                raise ObjectRejected(f"is cut: it has {number} lines, and {at} stand before its header", _CUT)
            self._window.consume(line[1])

    def _first_line(self) -> tuple[bytes, int] | None:
        """The window's first line, without its end, and where the next one begins; None when there is none."""
        window = self._window
        while True:
            found = self._dialect.lines_of_bytes.search(window.data)
            # A CR at the end may be half of a line end.
            if found is not None and (found.end() < len(window.data) or found[0] != b"\r" or window.is_last):
                return window.data[: found.start()], found.end()
            if window.is_last:
                return (window.data, len(window.data)) if window.data else None
            window.grow(0)

    def _header_row(self) -> tuple[str, list[str]]:
        """The next line of the header, and its cells."""
        window, dialect, format = self._window, self._dialect, self._format
        while (first := self._first_line()) is not None:
            if first[0] and not self._no_records.has(window.text(first[0])):
                break
            window.consume(first[1])
        if first is None:
            raise ObjectRejected("is empty: not even a header", _CUT)
        while True:
            data = window.data
            line, end = first
            if end == len(data) and window.is_last:
                self._refuse_unfinished(data)
            if not dialect.is_plain or line.count(dialect.quote.encode() or b"\0") % 2:
                text = window.text(data if window.is_last else data[: dialect.last_line_end(data)])
                try:
                    _, length = dialect.record(text, 0)
                except Fault as fault:
                    if fault.at is None and not window.is_last and len(data) <= format.max_record_bytes:
                        window.grow(0)
                        continue
                    # Then the first line alone is told to be the faulty header.
                else:
                    line = data[: window.size(text[:length])]
                    found = dialect.lines_of_bytes.match(data, len(line))
                    end = found.end() if found else len(line)
                    if end == len(data) and window.is_last:
                        self._refuse_unfinished(data)
            shown = window.text(line)
            cells = self._header_cells(shown)
            window.consume(end)
            return shown, cells

    def _header_cells(self, line: str) -> list[str]:
        if has_mark(line) or ("\0" in line and self._format.escape != "\0"):
            raise ObjectRejected(
                f"is not text in {self._format.encoding}: its first line is {excerpt(line)}",
                "declare the encoding it has",
            )
        try:
            cells, _ = self._dialect.record(line, 0)
        except Fault as fault:
            raise ObjectRejected(
                f"has no header that can be read: its first line {excerpt(line)} {fault.reason}",
                "check the quote character",
            ) from fault
        return cells

    # The fast reader

    def _proved(self, header: "_Header", end: int, is_last: bool) -> Piece | None:
        """The records of the window up to *end* that are whole; None where the answer can't be proved to be right."""
        if not end or not self._dialect.is_plain or not self._dialect.is_plain_in(self._window.data, end):
            return None
        proved = _parse_proved(
            self._dialect, self._window.data, end, len(header.cells), is_last, self._format.max_record_bytes
        )
        if proved is None or (self._is_doubted and proved.has_line_ends_in_cells):
            return None
        if any(_may_repeat(cells, proved.columns) for cells in header.rows):
            return None
        if proved.longest > self._format.max_record_bytes:
            self._window.refuse_record(self._row + proved.longest_at)
        self._has_line_ends_in_cells |= proved.has_line_ends_in_cells
        self._window.consume(proved.end)
        return self._piece(
            header, proved.columns, tuple(replace(record, row=record.row + self._row - 1) for record in proved.rejected)
        )

    # The exact reader

    def _exact(self, header: "_Header", end: int) -> Piece | None:
        """The records of the window up to *end* that are whole; None where not even one is."""
        if not end:
            return None
        text = self._window.text(self._window.data[:end])
        findings = _Findings(self._row, self._has_line_ends_in_cells)
        findings.keeps_places = self._keeps_places

        def rows() -> Iterator[Sequence[str | int | None]]:
            names = [_json(name) for name in header.cells]
            records = _good_records(
                self._format, self._dialect, self._no_records, header, text, findings, self._window.is_last
            )
            for row, cells in records:
                values: list[str | int | None] = [None if index is None else cells[index] for index in header.positions]
                extra = ",".join(f"{names[index]}:{_json(cells[index])}" for index in header.unknown)
                yield [*values, f"{{{extra}}}" if extra else None, row]

        table = tables.from_rows(self._fields, rows())
        if findings.too_long:
            self._window.refuse_record(findings.too_long)
        if findings.has_fault and not self._is_doubted:
            if self._has_line_ends_in_cells:
                raise _Doubted
            self._is_doubted = True
        rejected = findings.rejected
        if findings.with_line_ends:
            self._has_line_ends_in_cells = True
            if self._is_doubted:
                doubtful = pa.array([record.row for record in findings.with_line_ends], pa.int64())
                table = table.filter(pc.invert(pc.is_in(table["_row"], value_set=doubtful)))
                rejected = sorted([*rejected, *findings.with_line_ends], key=lambda record: record.row)
        self._trailers += findings.trailers
        self._meet(header, text, findings)
        if findings.end == len(text):
            self._window.consume(end)
        else:
            self._window.consume(end - self._window.size(text[findings.end :]))
        return self._given(table, tuple(rejected)) if table.num_rows or rejected else None


def erase_delimited(
    format: Csv,
    content: Content,
    fields: Sequence[Field],
    erasure: Erasure,
    target: BinaryIO,
    *,
    block_bytes: int = BLOCK_BYTES,
) -> None:
    """
    Write delimited text again without some records.

    A record that is emptied is written anew; all else stays byte for byte.

    Args:
        format: nothing of its dialect is to be detected any more.
        content: the object.
        fields: as it is read with; they name the columns of an object without a header.
        erasure: what goes.
        target: takes the text.

    Raises:
        NotErasable: a record can't be written as it is to be.
        ObjectRejected: it can't be read.
    """
    assert isinstance(format.encoding, str)
    window = EditedWindow(content, format.encoding, target, block_bytes=block_bytes, most_bytes=format.max_record_bytes)
    for _ in _Eraser(format, window, fields, erasure).pieces():
        pass
    window.finish()


class _Eraser(_Reader):
    """Reads an object by the exact reader alone, which knows where each record stands."""

    _keeps_places = True

    def __init__(self, format: Csv, window: EditedWindow, fields: Sequence[Field], erasure: Erasure) -> None:
        # Which records are in doubt is all the same here: nothing is begun anew for it.
        super().__init__(format, window, fields, is_doubted=True)
        self._edited = window
        self._erasure = erasure

    def _proved(self, header: _Header, end: int, is_last: bool) -> Piece | None:
        return None

    def _meet(self, header: _Header, text: str, findings: "_Findings") -> None:
        at = size = 0
        for row, begin, end, following, cells in findings.places:
            if not self._erasure.touches(row):
                continue
            size += self._window.size(text[at:begin])
            first, at = size, begin
            emptied = self._erasure.emptied.get(row)
            until = following if row in self._erasure.rows or emptied is None else end
            size += self._window.size(text[at:until])
            at = until
            instead = b""
            if row not in self._erasure.rows and emptied is not None:
                instead = self._emptied(header, cells, emptied).encode("utf-8", "surrogatepass")
            self._edited.replace(first, size, instead)

    def _emptied(self, header: _Header, cells: list[str], emptied: Emptying) -> str:
        words = self._erasure.words
        return self._dialect.written(
            [
                cell if name in emptied.kept and not words.hold(cell) else ""
                for name, cell in zip(header.cells, cells, strict=True)
            ]
        )


@dataclass(frozen=True, slots=True)
class _Proved:
    """
    What the fast reader read, rows numbered from 1.

    Args:
        columns: of all cells.
        rejected: records with another number of cells.
        end: where the next record begins.
        has_line_ends_in_cells: some cell holds one.
        longest: bytes of the longest record, its line end included.
        longest_at: how many records are before it.
    """

    columns: list[Column]
    rejected: tuple[RejectedRecord, ...]
    end: int
    has_line_ends_in_cells: bool = False
    longest: int = 0
    longest_at: int = 0


def _parse_proved(
    dialect: Dialect, data: bytes, end: int, cells: int, is_last: bool, max_record_bytes: int
) -> _Proved | None:
    """
    The records of *data* up to *end*, without one that isn't whole there; None where the answer can't be proved to be right.

    Args:
        data: begins with a record; UTF-8, if it is text at all.
        end: of a line, or of the object.
        cells: of a record.
        is_last: nothing comes after *end*.
        max_record_bytes: no need to say how long the longest is when all together aren't longer.
    """
    if data.find(b"\0", 0, end) >= 0 or data.startswith(BOM):
        # pyarrow takes a byte-order mark away from the first cell, too.
        return None
    if dialect.escape and data.find(dialect.escape.encode(), 0, end) >= 0:
        return None
    has_quotes = bool(dialect.quote) and data.find(dialect.quote.encode(), 0, end) >= 0
    if not has_quotes and end <= max_record_bytes:
        table = _parse_lines(dialect, data, end, cells)
        if table is not None:
            return _Proved(list(table.columns), (), end)
    octets = np.frombuffer(data, np.uint8, end)
    quotes = None
    if has_quotes:
        if dialect.has_bare_quotes:
            return None
        quotes = _positions(octets, ord(dialect.quote))
        if len(quotes) % 2 and not is_last:
            # A cell is open: up to the last line end that is outside quotes.
            ends = np.flatnonzero((octets == _LF) | (octets == _CR))
            ends = ends[np.searchsorted(quotes, ends) % 2 == 0]
            if len(ends) == 0:
                return None
            end = int(ends[-1]) + 1
            octets = octets[:end]
            quotes = quotes[: np.searchsorted(quotes, end)]
        if len(quotes) and not _is_well_formed(octets, quotes, ord(dialect.delimiter), not dialect.escape):
            return None
    begins, has_line_ends_in_cells = _begins(octets, quotes)
    if len(begins) == 0:
        return _Proved([tables.no_values(0)] * cells, (), end)
    block = memoryview(data)[:end]
    has_quotes = quotes is not None and len(quotes) > 0
    wrong: list[pyarrow.csv.InvalidRow] = []
    try:
        table = _parse(dialect, block, cells, has_quotes, None)
    except pa.ArrowInvalid:
        if not is_utf_8(bytes(block)):
            # pyarrow would stumble over the text of such a record: the exact reader says which it is.
            return None
        try:
            table = _parse(dialect, block, cells, has_quotes, wrong)
        except pa.ArrowInvalid:
            return None
    if table.num_rows + len(wrong) != len(begins):
        return None
    rejected = []
    for row in wrong:
        place = row.number
        if place is None or not 0 < place <= len(begins):
            return None
        record = data[begins[place - 1] : begins[place] if place < len(begins) else end].rstrip(b"\r\n")
        if record != row.text.encode() or data[end - 1] not in (_CR, _LF):
            # Its number isn't the one it seems to be, or the last record may be cut.
            return None
        rejected.append(RejectedRecord(place, _wrong_number(row.actual_columns, cells), row.text))
    lengths = np.diff(begins, append=end)
    longest = int(lengths.argmax())
    return _Proved(list(table.columns), tuple(rejected), end, has_line_ends_in_cells, int(lengths[longest]), longest)


def _parse_lines(dialect: Dialect, data: bytes, end: int, cells: int) -> pa.Table | None:
    """
    The records of *data* up to *end* where each line is one, none is blank and all have their cells, as in most objects; None in any other.

    Args:
        data: without a quote.
    """
    if not end or data[0] in (_CR, _LF) or data.find(b"\n\n", 0, end) >= 0 or data.find(b"\n\r", 0, end) >= 0:
        return None
    if (returns := data.count(b"\r", 0, end)) and returns != data.count(b"\r\n", 0, end):
        return None
    lines = data.count(b"\n", 0, end) + (data[end - 1] != _LF)
    try:
        table = _parse(dialect, memoryview(data)[:end], cells, False, None)
    except pa.ArrowInvalid:
        return None
    return table if table.num_rows == lines else None


def _parse(
    dialect: Dialect,
    block: memoryview,
    cells: int,
    has_quotes: bool,
    wrong: list[pyarrow.csv.InvalidRow] | None,
) -> pa.Table:
    """What pyarrow reads; records with another number of cells go to *wrong*, or raise where that is None."""

    def set_aside(row: pyarrow.csv.InvalidRow) -> Literal["skip", "error"]:
        if wrong is not None:
            wrong.append(row)
        return "skip"

    source: Any = pa.BufferReader(pa.py_buffer(block))
    read_options, convert_options = _options(cells)
    return pyarrow.csv.read_csv(
        source,
        read_options=read_options,
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=dialect.delimiter,
            quote_char=dialect.quote if has_quotes else False,
            double_quote=has_quotes,
            escape_char=False,
            newlines_in_values=has_quotes,
            ignore_empty_lines=True,
            invalid_row_handler=None if wrong is None else set_aside,
        ),
        convert_options=convert_options,
    )


@lru_cache(maxsize=64)
def _options(cells: int) -> tuple[pyarrow.csv.ReadOptions, pyarrow.csv.ConvertOptions]:
    """How cells become texts; made once, since of a small file that takes as long as its cells."""
    names = [str(index) for index in range(cells)]
    return pyarrow.csv.ReadOptions(
        use_threads=False, block_size=_BLOCK_BYTES, column_names=names
    ), pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False, check_utf8=True
    )


def _may_repeat(header: list[str], columns: list[Column]) -> bool:
    # The first test needs no value made of Python's text, for which pyarrow imports pandas (half a second of CPU).
    return (
        len(header) > 1
        and pc.any(pc.starts_with(columns[0], header[0])).as_py() is True
        and pc.any(pc.equal(columns[0], pa.scalar(header[0], pa.string()))).as_py() is True
    )


def _positions(octets: npt.NDArray[np.uint8], value: int) -> npt.NDArray[np.int64]:
    # In steps: the comparison of 4 GB at once would need 4 GB more.
    found = [
        np.flatnonzero(octets[begin : begin + _BLOCK_BYTES] == value) + begin
        for begin in range(0, len(octets), _BLOCK_BYTES)
    ]
    return found[0] if len(found) == 1 else np.concatenate([np.empty(0, np.int64), *found])


def _is_well_formed(
    octets: npt.NDArray[np.uint8], quotes: npt.NDArray[np.int64], delimiter: int, may_double: bool
) -> bool:
    """Whether quotes open cells at their beginning only, close them at their end only, and are doubled inside, if they may."""
    if len(quotes) % 2:
        return False
    opening, closing = quotes[0::2], quotes[1::2]
    doubled = opening[1:] == closing[:-1] + 1
    if not may_double and doubled.any():
        return False
    before = octets[opening - 1]
    is_begin = (before == delimiter) | (before == _LF) | (before == _CR)
    is_begin[0] |= opening[0] == 0
    is_begin[1:] |= doubled
    after = octets[np.minimum(closing + 1, len(octets) - 1)]
    is_end = (after == delimiter) | (after == _LF) | (after == _CR)
    is_end[-1] |= closing[-1] + 1 == len(octets)
    is_end[:-1] |= doubled
    return bool(is_begin.all() and is_end.all())


def _begins(octets: npt.NDArray[np.uint8], quotes: npt.NDArray[np.int64] | None) -> tuple[npt.NDArray[np.int64], bool]:
    """
    Where records begin: at the beginning, and after each line end outside quotes; blank lines are none.

    And whether there are line ends inside quotes.
    """
    ends = _positions(octets, _LF)
    returns = _positions(octets, _CR) if _CR in octets else ends[:0]
    if len(returns):
        following = octets[np.minimum(returns + 1, len(octets) - 1)]
        alone = (following != _LF) | (returns + 1 == len(octets))
        if alone.any():
            ends = np.sort(np.concatenate([ends, returns[alone]]))
    has_inner = False
    if quotes is not None:
        outside = np.searchsorted(quotes, ends) % 2 == 0
        has_inner = not outside.all()
        ends = ends[outside]
    begins = np.concatenate([np.zeros(1, np.int64), ends + 1])
    if begins[-1] == len(octets):
        begins = begins[:-1]
    first = octets[begins]
    is_blank = (first == _LF) | (first == _CR)
    return begins[~is_blank] if is_blank.any() else begins, has_inner


def _extra(unknown: list[tuple[str, Column]]) -> Column | None:
    """JSON objects of the columns that no field asks for, made column by column."""
    if not unknown:
        return None
    pieces: list[Any] = []
    for index, (name, column) in enumerate(unknown):
        opening = ("{" if index == 0 else ",") + _json(name) + ":"
        if pc.any(pc.match_substring_regex(column, _NOT_PLAIN_IN_JSON)).as_py():
            pieces += [opening, pa.chunked_array([pa.array([_json(text) for text in column.to_pylist()], pa.string())])]
        else:
            pieces += [opening + '"', column, '"']
    combined: Column = pc.binary_join_element_wise(*pieces, "}", "")
    return combined


def _json(text: str) -> str:
    return msgspec.json.encode(text).decode()


# The exact reader


@dataclass(slots=True)
class _Findings:
    """
    What the exact reader meets beside good records.

    Args:
        next_row: number of the record that comes next.
        has_line_ends_in_cells: the object has records, before these, with a line end inside a cell.
    """

    next_row: int
    has_line_ends_in_cells: bool
    rejected: list[RejectedRecord] = field(default_factory=list)
    with_line_ends: list[RejectedRecord] = field(default_factory=list)
    """Good records with a line end inside a cell, as they would be rejected."""
    trailers: list[str] = field(default_factory=list)
    """Lines of the footer."""
    has_fault: bool = False
    too_long: int = 0
    """Number of the first record that is too long."""
    end: int = 0
    """Where the text of the records ended that could be read whole."""
    keeps_places: bool = False
    places: list[tuple[int, int, int, int, list[str]]] = field(default_factory=list)
    """Of each record, if they are kept: its number, where it begins and ends, where the next one begins, its cells."""


def _good_records(
    format: Csv,
    dialect: Dialect,
    no_records: NoRecords,
    header: _Header,
    text: str,
    findings: _Findings,
    is_last: bool,
) -> Iterator[tuple[int, list[str]]]:
    """
    The good records of *text*, with their numbers.

    Where *text* isn't the last of an object, it ends with a line end, and a record that it has only the beginning of isn't looked at.
    """
    delimiter, width, length = dialect.delimiter, len(header.cells), len(text)
    is_clean = ("\0" not in text or format.escape == "\0") and not has_mark(text)
    position = 0
    while position < length:
        findings.end = position
        line_end, following = dialect.line(text, position)
        if line_end == position:
            position = following
            continue
        row = findings.next_row
        end, reason = line_end, ""
        line = text[position:line_end]
        if no_records.has(line):
            if no_records.is_footer(line):
                findings.trailers.append(line)
            position = following
            continue
        if dialect.is_split(line):
            cells = line.split(delimiter)
        else:
            try:
                cells, end = dialect.record(text, position)
            except Fault as fault:
                if fault.at is None:
                    if not is_last:
                        return
                    _refuse_open(dialect, text, line, following, width, findings)
                findings.has_fault = True
                reason, cells = fault.reason, []
                at = length if fault.at is None else fault.at
                if at > line_end and not _is_swallowed(dialect, text, following, at, width):
                    end, following = dialect.line(text, at)
            else:
                if end != line_end:
                    following = dialect.line(text, end)[1]
        findings.next_row += 1
        if findings.keeps_places:
            findings.places.append((row, position, end, following, cells))
        record = line if end == line_end else text[position:end]
        if len(record) * 4 > format.max_record_bytes and len(record.encode(errors="replace")) > format.max_record_bytes:
            findings.too_long = row
            return
        if not is_clean and not reason:
            if "\0" in record and format.escape != "\0":
                reason = "holds a NUL byte"
            elif has_mark(record):
                if end == length and has_mark(record[-1]):
                    raise ObjectRejected(f"is cut: its last character is not whole in {format.encoding}", _CUT)
                reason = f"is not text in {format.encoding}"
        if not reason and any("\0" in cell for cell in cells):
            reason = "holds a NUL byte"
        if not reason and len(cells) != width:
            if end == length and len(cells) < width:
                raise ObjectRejected(f"is cut: its last record has {_counted(len(cells))}, the header {width}", _CUT)
            reason = _wrong_number(len(cells), width)
        if not reason and width > 1 and cells in header.rows:
            reason = "repeats the header"
        if reason:
            findings.rejected.append(RejectedRecord(row, reason, as_it_stands(record)))
        else:
            if end != line_end:
                findings.with_line_ends.append(
                    RejectedRecord(row, "has a line end inside a cell, in an object with stray quotes", record)
                )
            yield row, cells
        position = following
    findings.end = length


def _refuse_open(dialect: Dialect, text: str, line: str, following: int, width: int, findings: _Findings) -> None:
    """
    Refuse an object whose last record has an open cell at its end, unless a stray quote opens it.

    It is a stray one where its line is a record but for the quote, all lines after it, if there are any, are records by themselves, and no
    cell of the object has a line end: a cell that was cut would have to be the first one that has.
    """
    if (
        width > 1
        and text != line
        and not findings.has_line_ends_in_cells
        and not findings.with_line_ends
        and line.count(dialect.delimiter) + 1 >= width
        and dialect.ends_a_line(text[-2:].encode(errors="replace"))
        and _is_swallowed(dialect, text, following, len(text) - 1, width)
    ):
        return
    raise ObjectRejected(
        f"is cut, or has a stray quote: record {findings.next_row} opens a quote that is never closed: {excerpt(line)}",
        _CUT,
    )


def _is_swallowed(dialect: Dialect, text: str, position: int, fault: int, width: int) -> bool:
    """Whether all lines from *position* to the one where the *fault* shows are records by themselves."""
    if width == 1:
        # Any text is a record of one cell: that proves nothing.
        return False
    while position <= fault and position < len(text):
        line_end, following = dialect.line(text, position)
        if line_end != position and not dialect.is_record(text[position:line_end], width):
            return False
        position = following
    return True


def _wrong_number(cells: int, width: int) -> str:
    return f"has {_counted(cells)}, the header {width}"


def _counted(cells: int) -> str:
    return "1 cell" if cells == 1 else f"{cells} cells"
