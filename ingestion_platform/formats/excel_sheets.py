"""
A sheet of an Excel workbook to records.

Belongs here: which sheet, which cells, and what is merged or missing. Doesn't: what a cell's number means (`excel_values.py`).

A workbook is a zip of XML files. The sheet's is read row by row; the texts that cells share wait in a temporary file, and cells that are
merged are known before the first row, though Excel writes them behind the last: a sheet that has any is gone through twice.
"""

import posixpath
import re
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO

import msgspec

from ingestion_platform.errors import ObjectRejected
from ingestion_platform.format import Excel
from ingestion_platform.formats import tables
from ingestion_platform.formats.content import BLOCK_BYTES, DAMAGED, Content, Stream, open_zip
from ingestion_platform.formats.excel_values import Kind, NoValue, kind_of, moment_text, number_text
from ingestion_platform.formats.records import Ending, Field, Pieces, RejectedRecord
from ingestion_platform.formats.texts import excerpt
from ingestion_platform.formats.xml_events import parse

_OLD = b"\xd0\xcf\x11\xe0"
_MOST_COLUMNS = 16_384
_MOST_ROWS = 1_048_576
_MOST_MERGED = 100_000
_MOST_STYLES = 100_000
_REFERENCE = re.compile(r"([A-Z]{1,3})([0-9]{1,7})")
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
_AGAIN = "it is read again when it changes"
_SPOOLED_BYTES = 4 * 1024**2


def read_excel(format: Excel, content: Content, fields: Sequence[Field], *, block_bytes: int = BLOCK_BYTES) -> Pieces:
    """
    Read one sheet of a workbook.

    Raises:
        ObjectRejected: it is no workbook, is damaged or encrypted, doesn't have the sheet, or the sheet's header isn't the declared one.
    """
    file = content.searchable()
    beginning = file.read(8)
    file.seek(0)
    if beginning.startswith(_OLD):
        raise ObjectRejected(
            "is an old Excel workbook (.xls), or an encrypted one", "save it as .xlsx, without a password"
        )
    if not beginning.startswith(b"PK"):
        raise ObjectRejected("is no Excel workbook: it is no zip" if beginning else "is empty", _AGAIN)
    with ExitStack() as stack:
        workbook = _Workbook(file, format, stack, block_bytes)
        reader = _Reader(format, fields, workbook)
        yield from tables.in_pieces(fields, reader.rows(), reader.rejected, block_bytes)
    return Ending(reader.unknown_columns, reader.missing)


class _Workbook:
    """
    An opened workbook.

    Args:
        file: seekable.
        format: as declared.
        stack: closes what is opened.
        block_bytes: that are parsed at a time.
    """

    def __init__(self, file: BinaryIO, format: Excel, stack: ExitStack, block_bytes: int) -> None:
        self._format = format
        self._block_bytes = block_bytes
        self._archive = open_zip(file)
        names = self._archive.namelist()
        if len(set(names)) < len(names):
            raise ObjectRejected("is a damaged workbook: it holds a file twice", _AGAIN)
        if any(one.flag_bits & 0x1 for one in self._archive.infolist()):
            raise ObjectRejected("is an encrypted zip", "send it without a password")
        part = self._related("", "officeDocument").values()
        self._main = next(iter(part), "")
        if self._main.endswith(".bin"):
            raise ObjectRejected("is a binary workbook (.xlsb)", "save it as .xlsx")
        if not self._main:
            raise ObjectRejected("is no Excel workbook: it names no main part", _AGAIN)
        book = _Book()
        self._parse(self._main, book)
        self.is_1904 = book.is_1904
        self.sheet = self._choose(book)
        styles = _Styles()
        for path in self._related(self._main, "styles").values():
            self._parse(path, styles)
        self.kinds = styles.kinds()
        self.texts = _Texts(stack.enter_context(tempfile.SpooledTemporaryFile(_SPOOLED_BYTES)), format.max_record_bytes)  # noqa: SIM115
        for path in self._related(self._main, "sharedStrings").values():
            self._parse(path, self.texts)
        self.texts.finish()

    def _related(self, of: str, kind: str) -> dict[str, str]:
        """Paths of the parts that a part names, by id, as far as they are of one kind."""
        folder, name = posixpath.split(of)
        path = posixpath.join(folder, "_rels", f"{name}.rels")
        if path not in self._archive.NameToInfo:
            return {}
        relations = _Relations(kind)
        self._parse(path, relations)
        # A name in the zip, never a path on this machine.
        return {
            id_: target[1:] if target.startswith("/") else posixpath.normpath(posixpath.join(folder, target))
            for id_, target in relations.found.items()
        }

    def _choose(self, book: "_Book") -> str:
        sheets = self._related(self._main, "worksheet")
        wanted = self._format.sheet
        found = [
            (name, sheets[id_])
            for name, id_, is_hidden in book.sheets
            if id_ in sheets and (name == wanted if wanted else not is_hidden)
        ]
        if len(found) != 1:
            names = ", ".join(excerpt(name, 40) for name, _, _ in book.sheets[:8])
            what = f"no sheet {excerpt(wanted, 40)}" if wanted else f"{len(found)} sheets that aren't hidden"
            raise ObjectRejected(f"has {what}, only {names or 'none'}", "declare Excel(sheet=…)")
        return found[0][1]

    def _parse(self, path: str, handler: "_Handler") -> None:
        for _ in self.events(path, handler):
            pass

    def may_have(self, path: str, name: bytes) -> bool:
        """Whether a part may have elements of a name: a look at its bytes, which is much faster than parsing it."""
        before = b""
        with self._open(path) as stream:
            while piece := stream.read(self._block_bytes):
                # In UTF-16, the name would be written otherwise.
                if name in before + piece or b"\0" in piece:
                    return True
                before = piece[-len(name) :]
        return False

    def events(self, path: str, handler: "_Handler") -> Iterator[None]:
        """Parse a part; yields now and then."""
        with self._open(path) as stream:
            for _ in parse(stream, handler, block_bytes=self._block_bytes, most_bytes=self._format.max_record_bytes):
                yield

    @contextmanager
    def _open(self, path: str) -> Iterator[Stream]:
        info = self._archive.NameToInfo.get(path)
        if info is None:
            raise ObjectRejected(f"is a damaged workbook: it has no part {excerpt(path, 80)}", _AGAIN)
        try:
            opened = self._archive.open(info)
        except DAMAGED as error:
            raise ObjectRejected(f"is a damaged workbook: {excerpt(str(error), 200)}", _AGAIN) from error
        with opened:
            yield Stream(opened, "zip", info.compress_size, self._format.max_bytes)


class _Handler:
    """As a handler of a document: keeps the names of the elements that are open, and the text where it is wanted."""

    def __init__(self) -> None:
        self._open: list[str] = []
        self._chars: list[str] | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        name = _local(tag)
        self._open.append(name)
        self.begin(name, {_local(one): value for one, value in attributes.items()})

    def text(self, text: str) -> None:
        """Some text."""
        if self._chars is not None:
            self._chars.append(text)

    def end(self) -> None:
        """An element ends."""
        self.finish_element(self._open.pop())

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins; names are without namespaces."""

    def finish_element(self, name: str) -> None:
        """An element ends."""

    def taken(self) -> str:
        """The text since it was wanted."""
        text, self._chars = "".join(self._chars or ()), None
        return text


def _local(name: str) -> str:
    return name.rpartition("}")[2]


class _Relations(_Handler):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self._kind = kind
        self.found: dict[str, str] = {}

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        if name == "Relationship" and attributes.get("Type", "").rpartition("/")[2] == self._kind:
            if attributes.get("TargetMode") == "External":
                return
            self.found[attributes.get("Id", "")] = attributes.get("Target", "")


class _Book(_Handler):
    def __init__(self) -> None:
        super().__init__()
        self.sheets: list[tuple[str, str, bool]] = []
        self.is_1904 = False

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        if name == "sheet" and len(self.sheets) < _MOST_STYLES:
            self.sheets.append(
                (attributes.get("name", ""), attributes.get("id", ""), attributes.get("state", "visible") != "visible")
            )
        elif name == "workbookPr":
            self.is_1904 = attributes.get("date1904") in ("1", "true")


class _Styles(_Handler):
    def __init__(self) -> None:
        super().__init__()
        self._codes: dict[int, str] = {}
        self._formats: list[int] = []

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        if name == "numFmt" and "cellXfs" not in self._open and "dxfs" not in self._open:
            self._codes[_number(attributes.get("numFmtId", "0"))] = attributes.get("formatCode", "")
        elif name == "xf" and "cellXfs" in self._open:
            self._formats.append(_number(attributes.get("numFmtId", "0")))
        if len(self._codes) + len(self._formats) > _MOST_STYLES:
            raise ObjectRejected("is a damaged workbook: it has more styles than Excel knows")

    def kinds(self) -> list[Kind]:
        """What numbers are, for each style."""
        return [kind_of(number, self._codes.get(number)) for number in self._formats]


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise ObjectRejected(f"is a damaged workbook: {excerpt(text, 40)} stands where a number should", _AGAIN)
    return int(text)


class _Texts(_Handler):
    """
    The texts that cells share, in a file.

    Args:
        file: for them.
        most_bytes: of one.
    """

    def __init__(self, file: "tempfile.SpooledTemporaryFile[bytes]", most_bytes: int) -> None:
        super().__init__()
        self._file = file
        self._most_bytes = most_bytes
        self._ends = array("Q", [0])
        self._pieces: list[str] = []
        self._size = 0
        self._recent: dict[int, str] = {}

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        if name == "si":
            self._pieces, self._size = [], 0
        elif name == "t" and "rPh" not in self._open:
            self._chars = []

    def text(self, text: str) -> None:
        super().text(text)
        self._size += len(text)
        if self._size > self._most_bytes:
            raise ObjectRejected(f"has a text of more than the {self._most_bytes:,} bytes allowed in a cell")

    def finish_element(self, name: str) -> None:
        if name == "t" and self._chars is not None:
            self._pieces.append(self.taken())
        elif name == "si":
            text = _unescaped("".join(self._pieces)).encode(errors="surrogatepass")
            self._file.write(text)
            self._ends.append(self._ends[-1] + len(text))

    def finish(self) -> None:
        """All of them are there."""
        self._file.flush()

    def get(self, index: int) -> str:
        """
        One of them.

        Raises:
            NoValue: there is none of that number.
        """
        found = self._recent.get(index)
        if found is None:
            if not 0 <= index < len(self._ends) - 1:
                raise NoValue(f"refers to text {index}, and there are {len(self._ends) - 1}")
            self._file.seek(self._ends[index])
            found = self._file.read(self._ends[index + 1] - self._ends[index]).decode(errors="surrogatepass")
            if len(self._recent) >= 10_000:
                self._recent.clear()
            if len(found) < 1_000:
                self._recent[index] = found
        return found


def _unescaped(text: str) -> str:
    """Excel writes characters that XML can't hold as `_x001F_`."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text) if "_x" in text else text


@dataclass(slots=True)
class _Cell:
    kind: str
    style: int
    reference: str
    has_formula: bool = False
    value: str | None = None
    pieces: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Row:
    number: int
    cells: dict[int, _Cell]


class _Sheet(_Handler):
    """The rows of a sheet, as they end; and the ranges of merged cells."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__()
        self._most_bytes = most_bytes
        self._row = _Row(0, {})
        self._column = -1
        self._cell: _Cell | None = None
        self._size = 0
        self.rows: list[_Row] = []
        self.merged: list[tuple[int, int, int, int]] = []

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        if name == "row":
            number = _number(attributes["r"]) if "r" in attributes else self._row.number + 1
            if not self._row.number < number <= _MOST_ROWS:
                raise ObjectRejected(f"is a damaged workbook: row {number} comes after row {self._row.number}", _AGAIN)
            self._row, self._column, self._size = _Row(number, {}), -1, 0
        elif name == "c":
            reference = attributes.get("r", "")
            column = self._column + 1
            if reference:
                column, row = _place(reference)
                if row != self._row.number or column <= self._column:
                    raise ObjectRejected(
                        f"is a damaged workbook: cell {excerpt(reference, 20)} isn't in its place", _AGAIN
                    )
            if column >= _MOST_COLUMNS:
                raise ObjectRejected("is a damaged workbook: it has more columns than Excel knows", _AGAIN)
            self._column = column
            self._cell = _Cell(attributes.get("t", "n"), _number(attributes.get("s", "0")), reference)
        elif self._cell is not None:
            if name == "f":
                self._cell.has_formula = True
            elif name == "v" or (name == "t" and "rPh" not in self._open):
                self._chars = []
        elif name == "mergeCell":
            first, _, last = attributes.get("ref", "").partition(":")
            left, top = _place(first)
            right, bottom = _place(last or first)
            self.merged.append((top, left, bottom, right))
            if len(self.merged) > _MOST_MERGED:
                raise ObjectRejected(f"has more than {_MOST_MERGED:,} ranges of merged cells", "unmerge them")

    def text(self, text: str) -> None:
        super().text(text)
        if self._chars is not None:
            self._size += len(text)
            if self._size > self._most_bytes:
                raise ObjectRejected(
                    f"has a record of more than the {self._most_bytes:,} bytes allowed: row {self._row.number:,}",
                    "raise max_record_bytes of its format if it may be so large",
                )

    def finish_element(self, name: str) -> None:
        cell = self._cell
        if cell is not None:
            if name == "v":
                cell.value = self.taken()
            elif name == "t" and self._chars is not None:
                cell.pieces.append(self.taken())
            elif name == "c":
                self._row.cells[self._column] = cell
                self._cell = None
        elif name == "row":
            self.rows.append(self._row)

    def take(self) -> list[_Row]:
        """The rows that have ended since this was last asked."""
        found, self.rows = self.rows, []
        return found


def _place(reference: str) -> tuple[int, int]:
    """Column from 0 and row from 1 of a reference like B7."""
    found = _REFERENCE.fullmatch(reference.replace("$", ""))
    if found is None:
        raise ObjectRejected(f"is a damaged workbook: {excerpt(reference, 20)} is no cell", _AGAIN)
    column = 0
    for letter in found[1]:
        column = column * 26 + ord(letter) - 64
    return column - 1, int(found[2])


def _letters(column: int) -> str:
    text = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        text = chr(65 + rest) + text
    return text


class _Reader:
    def __init__(self, format: Excel, fields: Sequence[Field], workbook: _Workbook) -> None:
        self._format = format
        self._fields = fields
        self._workbook = workbook
        self._names: dict[int, str] = {}
        self._columns: list[int | None] = []
        self._unknown: list[int] = []
        self._row = 0
        self._merged: dict[int, list[tuple[int, int, int, int]]] = {}
        self.rejected: list[RejectedRecord] = []
        self.missing: tuple[str, ...] = ()

    @property
    def unknown_columns(self) -> tuple[str, ...]:
        """Names in the header that no field asks for."""
        return tuple(self._names[column] for column in self._unknown)

    def rows(self) -> Iterator[Sequence[str | int | None] | None]:
        """A row for each record, None for each that is rejected."""
        self._merged = self._merged_cells()
        sheet = _Sheet(self._format.max_record_bytes)
        has_header = False
        for _ in self._workbook.events(self._workbook.sheet, sheet):
            for row in sheet.take():
                if row.number == self._format.header_row:
                    self._read_header(row)
                    has_header = True
                elif row.number > self._format.header_row:
                    if not has_header:
                        break
                    if any(self._is_filled(cell) for cell in row.cells.values()):
                        self._row += 1
                        yield self._record(row)
        if not has_header:
            raise ObjectRejected(
                f"has no header: row {self._format.header_row} of its sheet is empty", "declare Excel(header_row=…)"
            )

    def _merged_cells(self) -> dict[int, list[tuple[int, int, int, int]]]:
        """Row → the ranges of merged cells below the header that reach into it."""
        sheet = _Sheet(self._format.max_record_bytes)
        if self._workbook.may_have(self._workbook.sheet, b"mergeCell"):
            for _ in self._workbook.events(self._workbook.sheet, sheet):
                sheet.take()
        found: dict[int, list[tuple[int, int, int, int]]] = {}
        reached = 0
        for merged in sheet.merged:
            top, _, bottom, _ = merged
            reached += bottom - top
            if reached > _MOST_ROWS:
                raise ObjectRejected("has merged cells over more rows than Excel knows", "unmerge them")
            for row in range(max(top, self._format.header_row + 1), bottom + 1):
                found.setdefault(row, []).append(merged)
        return found

    @staticmethod
    def _is_filled(cell: _Cell) -> bool:
        return cell.value not in (None, "") or any(cell.pieces) or cell.has_formula

    def _read_header(self, row: _Row) -> None:
        names: dict[int, str] = {}
        for column, cell in row.cells.items():
            try:
                text = self._text(cell)
            except NoValue as error:
                raise ObjectRejected(f"has no header that can be read: cell {cell.reference} {error}") from error
            if text:
                names[column] = text
        if not names:
            raise ObjectRejected(
                f"has no header: row {self._format.header_row} of its sheet is empty", "declare Excel(header_row=…)"
            )
        wanted = {field.source for field in self._fields}
        if wanted and wanted.isdisjoint(names.values()):
            raise ObjectRejected(
                f"is not the declared sheet: its header {excerpt(', '.join(names.values()))} has none of the columns"
                f" {excerpt(', '.join(sorted(wanted)))}",
                "check the sheet and header_row",
            )
        twice = [name for name, times in Counter(names.values()).items() if times > 1]
        if twice:
            raise ObjectRejected(
                f"names a column twice in its header: {excerpt(twice[0])}", "each column needs a name of its own"
            )
        at = {name: column for column, name in names.items()}
        self._names = names
        self._columns = [at.get(field.source) for field in self._fields]
        self._unknown = [column for column, name in names.items() if name not in wanted]
        self.missing = tuple(dict.fromkeys(field.source for field in self._fields if field.source not in at))

    def _record(self, row: _Row) -> Sequence[str | int | None] | None:
        texts: dict[int, str] = {}
        reason = self._merged_reason(row.number)
        for column, cell in row.cells.items():
            try:
                text = self._text(cell)
            except NoValue as error:
                text = cell.value
                reason = reason or f"cell {_letters(column)}{row.number} {error}"
            if text is None:
                continue
            texts[column] = text
            if column not in self._names:
                reason = reason or f"has a value in column {_letters(column)}, which has no name"
        if reason:
            shown = {self._names.get(column, _letters(column)): text for column, text in texts.items()}
            self.rejected.append(RejectedRecord(self._row, reason, _json(shown)))
            return None
        extra = {self._names[column]: texts[column] for column in self._unknown if column in texts}
        values = [None if column is None else texts.get(column) for column in self._columns]
        return [*values, _json(extra) if extra else None, self._row]

    def _merged_reason(self, row: int) -> str:
        for top, left, bottom, right in self._merged.get(row, ()):
            if any(left <= column <= right for column in self._names):
                if top == bottom and left == right:
                    continue
                return (
                    f"has merged cells, {_letters(left)}{top}:{_letters(right)}{bottom}: one value stands for several"
                )
        return ""

    def _text(self, cell: _Cell) -> str | None:
        """
        A cell's value; None when it is empty.

        Raises:
            NoValue: it has none that can be told.
        """
        value = cell.value
        if cell.kind == "inlineStr":
            return _checked(_unescaped("".join(cell.pieces))) or None
        if value is None or (value == "" and cell.kind != "str"):
            if cell.has_formula:
                raise NoValue("has a formula without a value: open the workbook in Excel and save it")
            return None
        match cell.kind:
            case "s":
                return _checked(self._workbook.texts.get(_index(value))) or None
            case "str":
                return _checked(_unescaped(value)) or None
            case "b":
                if value.strip() not in ("0", "1"):
                    raise NoValue(f"is no truth value: {value[:40]!r}")
                return "true" if value.strip() == "1" else "false"
            case "e" | "d":
                return value
            case "n":
                kinds = self._workbook.kinds
                kind = kinds[cell.style] if cell.style < len(kinds) else "number"
                if kind == "number":
                    return number_text(value)
                return moment_text(value.strip(), kind, is_1904=self._workbook.is_1904)
        raise NoValue(f"is of a kind that nobody knows: {cell.kind[:40]!r}")


def _index(text: str) -> int:
    text = text.strip()
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise NoValue(f"refers to text {text[:40]!r}")
    return int(text)


def _checked(text: str) -> str:
    if "\0" in text:
        raise NoValue("holds a NUL")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise NoValue("holds half of a surrogate pair, which is no character")
    return text


def _json(members: dict[str, str]) -> str:
    return msgspec.json.encode(
        {name: text.encode(errors="replace").decode() for name, text in members.items()}
    ).decode()
