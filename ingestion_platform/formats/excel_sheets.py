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
from dataclasses import dataclass
from typing import BinaryIO
from xml.etree.ElementTree import Element

import msgspec

from ingestion_platform.errors import ObjectRejected
from ingestion_platform.format import Excel
from ingestion_platform.formats import tables
from ingestion_platform.formats.content import BLOCK_BYTES, DAMAGED, Content, Stream, open_zip
from ingestion_platform.formats.excel_values import Kind, NoValue, kind_of, moment_text, number_text
from ingestion_platform.formats.records import Ending, Field, Pieces, RejectedRecord, all_names, require_columns
from ingestion_platform.formats.texts import excerpt
from ingestion_platform.formats.xml_events import local_name, walk

_OLD = b"\xd0\xcf\x11\xe0"
_MOST_COLUMNS = 16_384
_MOST_ROWS = 1_048_576
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
        self._sheets: list[tuple[str, str, bool]] = []
        self.is_1904 = False
        self._read_book()
        self.sheet = self._choose()
        self.kinds = self._read_kinds()
        self.texts = _Texts(stack.enter_context(tempfile.SpooledTemporaryFile(_SPOOLED_BYTES)))  # noqa: SIM115
        for path in self._related(self._main, "sharedStrings").values():
            for element in self.elements(path, "si"):
                self.texts.add(_text_of(element))

    def _related(self, of: str, kind: str) -> dict[str, str]:
        """Paths of the parts that a part names, by id, as far as they are of one kind."""
        folder, name = posixpath.split(of)
        path = posixpath.join(folder, "_rels", f"{name}.rels")
        if path not in self._archive.NameToInfo:
            return {}
        found: dict[str, str] = {}
        for element in self.elements(path, "Relationship"):
            named = _attributes(element)
            if named.get("Type", "").rpartition("/")[2] == kind and named.get("TargetMode") != "External":
                found[named.get("Id", "")] = named.get("Target", "")
        # A name in the zip, never a path on this machine.
        return {
            id_: target[1:] if target.startswith("/") else posixpath.normpath(posixpath.join(folder, target))
            for id_, target in found.items()
        }

    def _read_book(self) -> None:
        for element in self.elements(self._main, "sheet", "workbookPr"):
            named = _attributes(element)
            if local_name(element.tag) == "workbookPr":
                self.is_1904 = named.get("date1904") in ("1", "true")
            elif len(self._sheets) < _MOST_STYLES:
                is_hidden = named.get("state", "visible") != "visible"
                self._sheets.append((named.get("name", ""), named.get("id", ""), is_hidden))

    def _read_kinds(self) -> list[Kind]:
        """What numbers are, for each style of a cell."""
        codes: dict[int, str] = {}
        formats: list[int] = []
        for path in self._related(self._main, "styles").values():
            for element in self.elements(path, "numFmts", "cellXfs", "dxfs"):
                for named in map(_attributes, element):
                    match local_name(element.tag):
                        case "numFmts":
                            codes[_number(named.get("numFmtId", "0"))] = named.get("formatCode", "")
                        case "cellXfs":
                            formats.append(_number(named.get("numFmtId", "0")))
        if len(formats) > _MOST_STYLES:
            raise ObjectRejected("is a damaged workbook: it has more styles than Excel knows")
        return [kind_of(number, codes.get(number)) for number in formats]

    def _choose(self) -> str:
        sheets = self._related(self._main, "worksheet")
        wanted = self._format.sheet
        found = [
            (name, sheets[id_])
            for name, id_, is_hidden in self._sheets
            if id_ in sheets and (name == wanted if wanted else not is_hidden)
        ]
        if len(found) != 1:
            names = ", ".join(excerpt(name, 40) for name, _, _ in self._sheets[:8])
            what = f"no sheet {excerpt(wanted, 40)}" if wanted else f"{len(found)} sheets that aren't hidden"
            raise ObjectRejected(f"has {what}, only {names or 'none'}", "declare Excel(sheet=…)")
        return found[0][1]

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

    def elements(self, path: str, *names: str) -> Iterator[Element]:
        """The elements of some names in a part, as they end; they are let go of."""
        with self._open(path) as stream:
            yield from walk(
                stream,
                lambda _, element: local_name(element.tag) in names,
                lambda *_: False,
                block_bytes=self._block_bytes,
                most_bytes=self._format.max_record_bytes,
            )

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


def _attributes(element: Element) -> dict[str, str]:
    return {local_name(name): value for name, value in element.attrib.items()}


def _text_of(element: Element) -> str:
    """The text of a cell, which may be in pieces of different looks; how it is pronounced isn't part of it."""
    pieces = []
    for child in element:
        match local_name(child.tag):
            case "t":
                pieces.append(child.text or "")
            case "r":
                pieces += [part.text or "" for part in child if local_name(part.tag) == "t"]
    return _unescaped("".join(pieces))


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise ObjectRejected(f"is a damaged workbook: {excerpt(text, 40)} stands where a number should", _AGAIN)
    return int(text)


class _Texts:
    """
    The texts that cells share, in a file.

    Args:
        file: for them.
    """

    def __init__(self, file: "tempfile.SpooledTemporaryFile[bytes]") -> None:
        self._file = file
        self._ends = array("Q", [0])
        self._recent: dict[int, str] = {}

    def add(self, text: str) -> None:
        """Take the next one."""
        encoded = text.encode(errors="surrogatepass")
        self._file.write(encoded)
        self._ends.append(self._ends[-1] + len(encoded))

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


@dataclass(frozen=True, slots=True)
class _Cell:
    kind: str
    style: int
    has_formula: bool
    value: str | None


@dataclass(frozen=True, slots=True)
class _Row:
    number: int
    cells: dict[int, _Cell]

    @classmethod
    def of(cls, element: Element, before: int) -> "_Row":
        """
        A row as the sheet has it.

        Args:
            element: of the row.
            before: the number of the row before.
        """
        written = element.get("r")
        number = _number(written) if written is not None else before + 1
        if not before < number <= _MOST_ROWS:
            raise ObjectRejected(f"is a damaged workbook: row {number} comes after row {before}", _AGAIN)
        cells: dict[int, _Cell] = {}
        last = -1
        for child in element:
            if local_name(child.tag) != "c":
                continue
            reference, column = child.get("r"), last + 1
            if reference:
                column, row = _place(reference)
                if row != number or column <= last:
                    raise ObjectRejected(
                        f"is a damaged workbook: cell {excerpt(reference, 20)} isn't in its place", _AGAIN
                    )
            if column >= _MOST_COLUMNS:
                raise ObjectRejected("is a damaged workbook: it has more columns than Excel knows", _AGAIN)
            last = column
            value, has_formula = None, False
            for part in child:
                match local_name(part.tag):
                    case "v":
                        value = part.text or ""
                    case "is":
                        value = _text_of(part)
                    case "f":
                        has_formula = True
            cells[column] = _Cell(child.get("t", "n"), _number(child.get("s", "0")), has_formula, value)
        return cls(number, cells)


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
        has_header, number = False, 0
        for element in self._workbook.elements(self._workbook.sheet, "row"):
            row = _Row.of(element, number)
            number = row.number
            if number == self._format.header_row:
                self._read_header(row)
                has_header = True
            elif number > self._format.header_row:
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
        found: dict[int, list[tuple[int, int, int, int]]] = {}
        if not self._workbook.may_have(self._workbook.sheet, b"mergeCell"):
            return found
        reached = 0
        for element in self._workbook.elements(self._workbook.sheet, "row", "mergeCell"):
            if local_name(element.tag) == "row":
                continue
            first, _, last = element.get("ref", "").partition(":")
            left, top = _place(first)
            right, bottom = _place(last or first)
            reached += 1 + max(bottom - top, 0)
            if reached > _MOST_ROWS:
                raise ObjectRejected("has merged cells over more rows than Excel knows", "unmerge them")
            for row in range(max(top, self._format.header_row + 1), bottom + 1):
                found.setdefault(row, []).append((top, left, bottom, right))
        return found

    @staticmethod
    def _is_filled(cell: _Cell) -> bool:
        return cell.value not in (None, "") or cell.has_formula

    def _read_header(self, row: _Row) -> None:
        names: dict[int, str] = {}
        for column, cell in row.cells.items():
            try:
                text = self._text(cell)
            except NoValue as error:
                raise ObjectRejected(
                    f"has no header that can be read: cell {_letters(column)}{row.number} {error}"
                ) from error
            if text:
                names[column] = text
        if not names:
            raise ObjectRejected(
                f"has no header: row {self._format.header_row} of its sheet is empty", "declare Excel(header_row=…)"
            )
        wanted = {field.source for field in self._fields}
        if wanted and all_names(self._fields).isdisjoint(names.values()):
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
        require_columns(len(names), self._format.max_columns)
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
        if value is None or (value == "" and cell.kind != "str"):
            if cell.has_formula:
                raise NoValue("has a formula without a value: open the workbook in Excel and save it")
            return None
        match cell.kind:
            case "s":
                return _checked(self._workbook.texts.get(_index(value))) or None
            case "str":
                return _checked(_unescaped(value)) or None
            case "inlineStr":
                return _checked(value) or None
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
