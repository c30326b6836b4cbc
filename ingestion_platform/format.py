"""
What landed bytes are, as declared: each format with its dialect and its limit.

Belongs here: the declarations. Doesn't: reading them (`formats/`), what is inside a stream's or an API's envelope (`stream.py`, `api.py`).
"""

import re
from dataclasses import fields
from enum import Enum
from typing import Literal

from pydantic.dataclasses import dataclass

from ingestion_platform.errors import DeclarationError
from ingestion_platform.table import STRICT

MOST_LINES = 1000
"""Lines that may stand before or after the records."""


MOST_COLUMNS = 5_000
"""Of an object, unless its format says otherwise."""


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Bounded:
    """
    What every format of landed objects can say.

    Objects may be packed: a key that ends in `.gz`, `.zst`, `.bz2` or `.zip` says how.

    Args:
        max_bytes: an object larger than this, once decompressed, is rejected.
        max_record_bytes: an object with a larger record is rejected: one record is held in memory.
        max_columns: an object with more columns is rejected; where each record names its own members, a record with more of them is.
        zip_member: the name of the one file in a `.zip` that counts, as a pattern of file names (`*.csv`); empty: there is exactly one.
    """

    max_bytes: int = 64 * 1024**3
    max_record_bytes: int = 64 * 1024**2
    max_columns: int = MOST_COLUMNS
    zip_member: str = ""

    def __post_init__(self) -> None:
        if min(self.max_bytes, self.max_record_bytes, self.max_columns) < 1:
            raise DeclarationError(f"{type(self).__name__}: max_bytes, max_record_bytes and max_columns are at least 1")


class Detect(Enum):
    """What stands in a declaration for something that is to be found out."""

    DETECT = "detect"


DETECT = Detect.DETECT
"""Found out from the first files, and recorded: later files are held to it."""


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Csv(Bounded):
    r"""
    Delimited text.

    The dialect is declared, and files are held to it: a record that departs from it goes to quarantine as it stands. What is `DETECT`
    instead is found out from the dataset's first files and recorded in the landing zone; a later file that departs from the record is
    told as drift, and read by the record or rejected.

    Args:
        delimiter: between cells: one character or several.
        quote: around cells: one character; empty: none.
        escape: the character that stands before a quote inside a quoted cell; empty: the quote is doubled instead.
        bare_quotes: quotes that neither open nor close a cell are text, as in Men's; otherwise such a record is set aside.
        header_rows: lines of the header. 0: there is none, and the columns are those declared, in that order. Of several, the names in
            each column are joined.
        header_joint: what joins them.
        header_at: how many lines stand before the header (before the first record, where there is none), blank ones counted; or a
            pattern that the whole header line matches (re), and no line before it.
        footer: how many lines stand after the last record, blank ones not counted; or a pattern that a whole line matches which is
            no record, wherever it stands.
        comment: a line that begins with it is no record; empty: there are none.
        line_end: `any`: LF, CRLF and CR, also mixed. Where it is one of them, the others are text.
        encoding: as Python names it; a byte-order mark is always allowed.
        final_newline: every file ends with a line end, so one that doesn't was cut and is rejected. Say False only of senders
            who never write it: then a cut inside the last cell can't be told from the truth.
        may_be_empty: a file without a single character has no records; otherwise somebody began to write it, and it is rejected.
    """

    delimiter: str | Detect = ","
    quote: str | Detect = '"'
    escape: str | Detect = ""
    bare_quotes: bool | Detect = False
    header_rows: int | Detect = 1
    header_joint: str = " "
    header_at: int | str | Detect = 0
    footer: int | str = 0
    comment: str = ""
    line_end: Literal["any", "\n", "\r\n", "\r"] = "any"
    encoding: str | Detect = "utf-8"
    final_newline: bool = True
    may_be_empty: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        marks = {
            name: value
            for name, value in (("delimiter", self.delimiter), ("quote", self.quote), ("escape", self.escape))
            if not isinstance(value, Detect)
        }
        if any("\r" in mark or "\n" in mark for mark in marks.values()) or "\0" in (self.delimiter, self.quote):
            raise DeclarationError("Csv: delimiter and quote can't be a line end or NUL", "a tab is '\\t'")
        if marks.get("delimiter") == "" or any(len(marks.get(name, "")) > 1 for name in ("quote", "escape")):
            raise DeclarationError("Csv: delimiter is one character at least, quote and escape are one each, or none")
        delimiter = marks.get("delimiter", "")
        if any(mark and mark in delimiter for name, mark in marks.items() if name != "delimiter"):
            raise DeclarationError("Csv: neither quote nor escape is a part of the delimiter", "tell them apart")
        for name, number in (("header_rows", self.header_rows), ("header_at", self.header_at), ("footer", self.footer)):
            if isinstance(number, int) and not 0 <= number <= MOST_LINES:
                raise DeclarationError(f"Csv: {name} is 0 to {MOST_LINES:,} lines, not {number}")
            if isinstance(number, str):
                _require_pattern("Csv", name, number)
        if self.header_rows == 0 and isinstance(self.header_at, str):
            raise DeclarationError("Csv: a pattern finds the header, and it has none", "say how many lines to skip")

    @property
    def undetected(self) -> tuple[str, ...]:
        """What is to be found out, by argument."""
        return tuple(each.name for each in fields(self) if isinstance(getattr(self, each.name), Detect))


def _require_pattern(kind: str, name: str, pattern: str) -> None:
    try:
        found = re.compile(f"(?:{pattern})")
    except re.error as error:
        raise DeclarationError(
            f"{kind}: {name} {pattern!r} is no pattern: {error}", "as Python's re writes them"
        ) from error
    if found.fullmatch(""):
        raise DeclarationError(
            f"{kind}: {name} {pattern!r} matches a line without a single character", "say more of it"
        )


@dataclass(frozen=True, config=STRICT, kw_only=True)
class JsonLines(Bounded):
    """
    One JSON object a line (RFC 8259, strictly). A column's source is a dotted path: `payment.method`.

    Numbers enter raw as they were written, digit for digit; objects and arrays as JSON text.

    Args:
        encoding: as Python names it; a byte-order mark is always allowed.
    """

    encoding: str = "utf-8"


_STEP = re.compile(r"[^.*\[\]]+")


@dataclass(frozen=True, config=STRICT)
class Json(Bounded):
    """
    One JSON document whose records are under a path (RFC 8259, strictly).

    A column's source is a dotted path from the record (`payment.method`); `../` goes up to the object that holds the list the record is
    in (`../invoice_number`), `../../` to the one above it. Numbers enter raw as they were written, digit for digit; objects and arrays as
    JSON text.

    Args:
        records: where the records are: `[*]` the elements of the document itself, `data.items[*]` those of a list inside it,
            `products[*].variants[*]` those of a list in each element of another, `data` one object, an empty text the document itself.
            The first list must be there; in the elements of a list, an inner one may be missing or null.
        null_is_empty: take `null` where the first list should be for an empty one, as some servers write it.
    """

    records: str = "[*]"
    null_is_empty: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(_STEP.fullmatch(name) for name in self.steps if name != "[*]"):
            raise DeclarationError(
                f"Json: records {self.records!r} is no path to records",
                "as in [*], data.items[*] or products[*].variants[*]",
            )

    @property
    def steps(self) -> tuple[str, ...]:
        """The path taken apart: names of members, and `[*]` for the elements of a list."""
        if not self.records:
            return ()
        path = self.records.replace("[*]", ".[*]")
        return tuple((path[1:] if self.records.startswith("[*]") else path).split("."))


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Xml(Bounded):
    """
    XML whose records are elements under a path. DTDs and entities are refused.

    A column's source is read from the record's element: `quantity` (child's text), `@id` (own attribute), `price/@currency`
    (a child's attribute), `../delivered_at` or `../@number` (the parent's), `../../@version` (further up). Names are matched without
    their namespace.

    Args:
        record: path of the record elements from the root, root included: `manifest/line`.
    """

    record: str


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Parquet(Bounded):
    """
    Parquet. Values enter raw as text in their canonical form; nested ones as JSON text.

    Pages are held against their check sums, where the writer has made any. What the footer says has none: a flipped bit there is mostly
    noticed, and may be believed.
    """


@dataclass(frozen=True, config=STRICT, kw_only=True)
class FixedWidth(Bounded):
    """
    Text whose lines have each field at its place. A column's source is the field's name.

    Spaces around a value are taken away; a line without a single character is no record. A line that is too short or too long goes to
    quarantine as it stands.

    Args:
        fields: name and width of each, from the left; an empty name for places that hold nothing. What they hold nevertheless is kept
            in `_extra`, under its first and last place (`12-20`).
        encoding: as Python names it; a byte-order mark is always allowed.
        unit: what widths count: characters, or bytes of the encoding.
        may_end_early: spaces at the end of a line may be missing.
        header_lines: at the beginning; they are no records.
        footer: a pattern; a line that matches it, whole, is no record, as a trailer with totals: `T[0-9 ]*`.
        final_newline: as in `Csv`.
    """

    fields: tuple[tuple[str, int], ...]
    encoding: str = "utf-8"
    unit: Literal["characters", "bytes"] = "characters"
    may_end_early: bool = False
    header_lines: int = 0
    footer: str = ""
    final_newline: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.footer:
            _require_pattern("FixedWidth", "footer", self.footer)
        names = [name for name, _ in self.fields if name]
        if not names or len(set(names)) < len(names) or any(width < 1 for _, width in self.fields):
            raise DeclarationError(
                "FixedWidth: fields have names of their own, and are at least 1 wide", 'as in (("store", 5), ("", 2))'
            )
        if self.header_lines < 0:
            raise DeclarationError("FixedWidth: header_lines can't be less than 0")

    @property
    def width(self) -> int:
        """Of a whole line."""
        return sum(width for _, width in self.fields)


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Avro(Bounded):
    """
    Avro object container files. A column's source is a dotted path: `payment.method`.

    Values enter raw as in streams of Avro: decimals with all their digits, dates and times in ISO 8601, `bytes` and `fixed` in base64,
    what is nested as JSON text. A file that is cut between two of its blocks can't be told from a whole one: Avro writes no end.
    """


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Excel(Bounded):
    """
    A sheet of an Excel workbook (.xlsx, .xlsm). A column's source is its name in the header.

    Values enter raw as the cell shows them, without its decoration: numbers with the 15 digits that Excel has (whole ones with all),
    dates and times in ISO 8601, what formulas gave when the workbook was saved. An empty cell is NULL, an empty row is no record.
    A record goes to quarantine where its value stands in another cell (merged cells), where a formula has no value, or where a column
    without a name holds one.

    Args:
        sheet: its name; empty: there is one only that isn't hidden.
        header_row: the number of the row that names the columns; what is above isn't read.
    """

    sheet: str = ""
    header_row: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.header_row < 1:
            raise DeclarationError("Excel: rows are numbered from 1")


Format = Csv | FixedWidth | JsonLines | Json | Xml | Parquet | Avro | Excel
