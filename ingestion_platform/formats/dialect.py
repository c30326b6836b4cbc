r"""
A dialect of delimited text, and what it makes of a text: cells, records, lines.

Belongs here: what delimiter, quote, escape and line end mean. Doesn't: objects (`delimited.py`), finding a dialect out (`detection.py`).

The rules, for one record:

- A cell that begins with the quote goes to the next quote that isn't written twice, or after the escape character where one is declared.
  What follows is a delimiter or the record's end: anything else is a fault.
- Any other cell goes to the next delimiter or line end. A quote in it is a fault.
- Where quotes that neither open nor close a cell are declared to be text, neither is a fault.
- The escape character stands for nothing before a quote, a delimiter, a line end (in quotes) or itself; before anything else it is text.
"""

import re
from functools import lru_cache

from ingestion_platform.errors import DeclarationError, NotErasable
from ingestion_platform.format import Csv, Detect

MOST_TRAILERS = 10
"""Lines of a footer that are told."""


class Fault(Exception):
    """The quotes of a record break the dialect."""

    def __init__(self, reason: str, at: int | None) -> None:
        self.reason = reason
        self.at = at
        """Where in the text it shows; None: at its end, where a cell is still open."""
        super().__init__(reason)


class Dialect:
    """
    Takes text apart.

    Args:
        delimiter: between cells.
        quote: around a cell; empty: none.
        escape: before a quote that is text; empty: it is doubled.
        has_bare_quotes: quotes that neither open nor close a cell are text.
        line_end: `any`, or the only one.
    """

    def __init__(
        self, delimiter: str, quote: str, escape: str = "", has_bare_quotes: bool = False, line_end: str = "any"
    ) -> None:
        self.delimiter = delimiter
        self.quote = quote
        self.escape = "" if escape == quote else escape
        self.has_bare_quotes = has_bare_quotes
        self.line_end = line_end
        line = r"\r\n|\r|\n" if line_end == "any" else re.escape(line_end)
        self.lines = re.compile(line)
        self.lines_of_bytes = re.compile(line.encode())
        stops = [re.escape(mark) for mark in (delimiter, "" if has_bare_quotes else quote, self.escape) if mark]
        self._stop = re.compile("|".join([*stops, line]))
        if quote:
            self._quote_or_escape = re.compile(f"[{re.escape(quote + self.escape)}]")
        if self.escape:
            marks = "|".join(re.escape(mark) for mark in (delimiter, quote, self.escape, "\r", "\n") if mark)
            self._escaped = re.compile(f"{re.escape(self.escape)}({marks})")
        self.is_plain = (
            len(delimiter) == 1
            and delimiter.isascii()
            and (not quote or quote.isascii())
            and not self.escape
            and not (has_bare_quotes and quote)
        )
        """It is what the fast reader knows: one byte each, quotes doubled."""

    @classmethod
    def of(cls, format: Csv) -> "Dialect":
        """
        The dialect that a format declares.

        Raises:
            DeclarationError: some of it is still to be detected.
        """
        parts = (format.delimiter, format.quote, format.escape, format.bare_quotes)
        delimiter, quote, escape, bare_quotes = parts
        if (
            isinstance(delimiter, Detect)
            or isinstance(quote, Detect)
            or isinstance(escape, Detect)
            or isinstance(bare_quotes, Detect)
        ):
            raise DeclarationError("Csv: its dialect is still to be detected")
        return _made(delimiter, quote, escape, bare_quotes, format.line_end)

    def record(self, text: str, position: int) -> tuple[list[str], int]:
        """
        The cells of the record that begins at *position*, and where it ends (before its line end).

        Raises:
            Fault: a quote stands where none may stand, or is never closed.
        """
        quote, delimiter, length = self.quote, self.delimiter, len(text)
        cells: list[str] = []
        while True:
            if quote and text.startswith(quote, position):
                cell, position = self._quoted(text, position + 1)
                if not self._closes(text, position):
                    raise Fault("has text after a closing quote", position)
            else:
                cell, position = self._bare(text, position)
            cells.append(cell)
            if position >= length or not text.startswith(delimiter, position):
                return cells, position
            position += len(delimiter)

    def _quoted(self, text: str, begin: int) -> tuple[str, int]:
        quote, escape = self.quote, self.escape
        if not escape and not self.has_bare_quotes:
            close = text.find(quote, begin)
            while close >= 0 and text.startswith(quote, close + 1):
                close = text.find(quote, close + 2)
            if close < 0:
                raise Fault("opens a quote that is never closed", None)
            return text[begin:close].replace(quote + quote, quote), close + 1
        found = self._quote_or_escape.search(text, begin)
        while found is not None:
            if found[0] == escape or (not escape and text.startswith(quote, found.end())):
                past = found.end() + 1
            elif self.has_bare_quotes and not self._closes(text, found.end()):
                past = found.end()
            else:
                break
            found = self._quote_or_escape.search(text, past)
        if found is None:
            raise Fault("opens a quote that is never closed", None)
        cell = text[begin : found.start()]
        return (self._escaped.sub(r"\1", cell) if escape else cell.replace(quote + quote, quote)), found.end()

    def _closes(self, text: str, position: int) -> bool:
        """Whether a quote that ends at *position* can end a cell."""
        return (
            position >= len(text) or text.startswith(self.delimiter, position) or bool(self.lines.match(text, position))
        )

    def _bare(self, text: str, begin: int) -> tuple[str, int]:
        found = self._stop.search(text, begin)
        while found is not None and self.escape and found[0] == self.escape:
            # A line ends where it ends, whatever stands before it.
            past = found.end()
            found = self._stop.search(text, past if self.lines.match(text, past) else past + 1)
        end = found.start() if found else len(text)
        if found and not self.has_bare_quotes and self.quote and found[0] == self.quote:
            raise Fault("has a quote inside an unquoted cell", end)
        cell = text[begin:end]
        return (self._escaped.sub(r"\1", cell) if self.escape and self.escape in cell else cell), end

    def cells(self, line: str) -> list[str] | None:
        """The cells of *line*, when it is a record by itself."""
        if not self.is_split(line):
            try:
                found, end = self.record(line, 0)
            except Fault:
                return None
            return found if end == len(line) else None
        return line.split(self.delimiter)

    def written(self, cells: list[str]) -> str:
        """
        A record of these cells, which is read as them.

        Raises:
            NotErasable: this dialect can't say them.
        """
        plain = self.delimiter.join(cells)
        if plain and not self.lines.search(plain) and self.cells(plain) == cells:
            return plain
        if self.quote:
            before = self.escape or self.quote
            marks = {self.quote: before + self.quote} | ({self.escape: self.escape * 2} if self.escape else {})
            quoted = [self.quote + "".join(marks.get(one, one) for one in cell) + self.quote for cell in cells]
            line = self.delimiter.join(quoted)
            if self.record(line, 0) == (cells, len(line)):
                return line
        raise NotErasable(
            "a record can't be emptied: its other cells can't be written again in its dialect",
            "erase='row' takes it out whole",
        )

    def is_split(self, line: str) -> bool:
        """Whether the cells of *line* are what is between its delimiters."""
        return (not self.quote or self.quote not in line) and (not self.escape or self.escape not in line)

    def is_record(self, line: str, cells: int) -> bool:
        """Whether *line* by itself is a record of that many cells."""
        if self.is_split(line):
            return line.count(self.delimiter) + 1 == cells
        found = self.cells(line)
        return found is not None and len(found) == cells

    def line(self, text: str, position: int) -> tuple[int, int]:
        """Where the line that holds *position* ends, and where the next one begins."""
        found = self.lines.search(text, position)
        return (found.start(), found.end()) if found else (len(text), len(text))

    def last_line_end(self, data: bytes) -> int:
        """Where the last line that ends has ended; 0 when none does."""
        if self.line_end == "any":
            return max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        found = data.rfind(self.line_end.encode())
        return found + len(self.line_end) if found >= 0 else 0

    def without_line_end(self, data: bytes) -> bytes:
        """*data* without the line ends at its end."""
        if self.line_end == "any":
            return data.rstrip(b"\r\n")
        while data.endswith(self.line_end.encode()):
            data = data[: -len(self.line_end)]
        return data

    def ends_a_line(self, data: bytes) -> bool:
        """Whether *data* ends with a line end."""
        return data.endswith((b"\r", b"\n") if self.line_end == "any" else self.line_end.encode())

    def is_plain_in(self, data: bytes, end: int) -> bool:
        """Whether all line ends of *data* up to *end* are this dialect's, whoever looks for them."""
        match self.line_end:
            case "any":
                return True
            case "\n":
                return data.find(b"\r", 0, end) < 0
            case "\r":
                return data.find(b"\n", 0, end) < 0
        return data.count(b"\r\n", 0, end) == data.count(b"\n", 0, end) == data.count(b"\r", 0, end)


@lru_cache(maxsize=64)
def _made(delimiter: str, quote: str, escape: str, has_bare_quotes: bool, line_end: str) -> Dialect:
    """One for all objects: nothing of it changes, and of a small object its expressions take as long as the text."""
    return Dialect(delimiter, quote, escape, has_bare_quotes, line_end)


class NoRecords:
    """
    Lines that are no records: comments, and what matches the footer.

    Args:
        footer: a pattern that a whole line matches; a number of lines at the end is none, and nor is an empty one.
        comment: what a comment begins with; empty: there are none.
    """

    def __init__(self, footer: int | str, comment: str = "") -> None:
        self._comment = comment
        self._footer = re.compile(footer) if footer and isinstance(footer, str) else None
        parts = [re.escape(comment)] if comment else []
        if self._footer is not None:
            parts.append(f"(?:{footer})(?=[\r\n]|\\Z)")
        # It may find more than there are, never less: lines inside cells, line ends that are none.
        self._somewhere = re.compile(rf"(?:\A|(?<=[\r\n]))(?:{'|'.join(parts)})") if parts else None

    def has(self, line: str) -> bool:
        """Whether *line* is no record."""
        return (bool(self._comment) and line.startswith(self._comment)) or self.is_footer(line)

    def is_footer(self, line: str) -> bool:
        """Whether *line* is one of the footer."""
        return self._footer is not None and self._footer.fullmatch(line) is not None

    @property
    def are_declared(self) -> bool:
        """Whether there are any."""
        return self._somewhere is not None

    def first(self, text: str) -> int | None:
        """Where in *text* the first line stands that may be none; None when all of them are records."""
        found = self._somewhere.search(text) if self._somewhere is not None else None
        return found.start() if found else None
