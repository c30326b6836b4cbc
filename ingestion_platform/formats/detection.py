r"""
The dialect of delimited text, found out from its beginning.

Belongs here: what speaks for a dialect, and how a file departs from one. Doesn't: reading (`delimited.py`), where a dialect is recorded
(`warehouse/dialects.py`).

A dialect explains a file by the declared columns that some line names under it, which is the header then, and by the records behind it
that have as many cells and no fault in their quotes. The one that explains most wins; one that is less usual has to explain more. Without
a header, the first record must look like values where those behind it do. Where two dialects explain as much and read the records
differently, or none explains half of them, nothing is guessed.

Everything here is a pure function of the declaration and of the first bytes of one object.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, TypeVar

from ingestion_platform.errors import ObjectRejected
from ingestion_platform.format import Csv, Detect
from ingestion_platform.formats.content import Content
from ingestion_platform.formats.dialect import Dialect, Fault, NoRecords
from ingestion_platform.formats.records import Field
from ingestion_platform.formats.texts import BOM, excerpt

SAMPLE_BYTES = 64 * 1024
"""That are looked at."""
LATER_SAMPLE_BYTES = 16 * 1024
"""That are looked at of an object whose dialect is recorded."""
DELIMITERS = (",", ";", "\t", "|", ", ", "; ", "^", "~", "\x1f", ":", " ")
"""Those that are tried, the likeliest first. Others have to be declared."""
MOST_LINES_BEFORE = 50
"""Records among which the header is looked for."""
MOST_HEADER_ROWS = 3

MOST_STRAY_SHARE = 0.03
"""Of the records, with stray quotes; where there are more, quotes are text."""

MOST_OPEN_ENDS = 20
"""Quotes that are never closed; where there are more, it is another dialect's text, and each is looked at to the end."""

_SAME = 0.25
"""Two dialects explain as much as each other when their worth differs by less, in records."""
_VALUE = re.compile(r"[-+(]?[$€£¥]?\s?[0-9][0-9.,:/\- TZ%)]*")
"""What numbers, amounts, dates and times look like, and names don't."""

_Option = TypeVar("_Option")


@dataclass(frozen=True, slots=True)
class Detected:
    """
    What was found out.

    Args:
        format: with nothing left to detect.
        is_sure: other files may be held to it: there are records, and a header that names the columns, or surely none.
        doubts: what isn't as it should be, for a person.
    """

    format: Csv
    is_sure: bool
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Record:
    """
    A record of the sample.

    Args:
        begins: physical lines before it.
        line: its first one.
        cells: None where its quotes are at fault.
    """

    begins: int
    line: str
    cells: list[str] | None


@dataclass(frozen=True, slots=True)
class _Explained:
    """
    What a dialect makes of the sample.

    Args:
        format: that dialect, header and all.
        worth: in records.
        records: that have as many cells as the header.
        bad: how many records have not.
        is_all: all declared columns are named, and all records fit.
        before: lines before the first record that name columns, where there is no header.
    """

    format: Csv
    worth: float
    records: list[list[str]]
    bad: int
    is_all: bool = False
    before: str = ""


def detect(format: Csv, content: Content, fields: Sequence[Field]) -> Detected:
    """
    Find out what *format* leaves to be detected.

    Raises:
        ObjectRejected: its dialect can't be told.
    """
    sample, is_whole = _sample(content)
    format = replace(format, encoding=_encoding(format, sample, is_whole))
    if not sample.strip(b"\r\n"):
        # Whatever it is, there is nothing to be read by it.
        return Detected(_usual(format), False)
    names = list(dict.fromkeys(field.source for field in fields))
    text = _text(format, sample, is_whole)
    found = _explanations(format, text, is_whole, names)
    if not found or (found[0].bad > len(found[0].records)):
        raise ObjectRejected(
            f"has a dialect that can't be told: its first line is {excerpt(_first_line(text))}",
            "check that its header names the declared columns, or declare the dialect",
        )
    best = found[0]
    for other in found[1:]:
        if best.worth - other.worth < _SAME and best.records != other.records:
            what = "; ".join(_told(best.format, other.format, "would explain it as well"))
            raise ObjectRejected(f"has a dialect that can't be told: {what}", "declare it")
    doubts = (
        (f"its header can't be read, columns are taken in the declared order: {best.before}",) if best.before else ()
    )
    return Detected(best.format, bool(best.records) and not doubts, doubts)


def departures(declared: Csv, recorded: Csv, content: Content, fields: Sequence[Field]) -> tuple[str, ...]:
    """
    How an object departs from the dialect that is recorded for its dataset, for a person; empty when it doesn't.

    Args:
        declared: the format with what is to be detected.
        recorded: the same, with what was.
    """
    sample, is_whole = _sample(content, LATER_SAMPLE_BYTES)
    if not sample.strip(b"\r\n"):
        return ()
    told: list[str] = []
    encoding = _encoding(declared, sample, is_whole)
    if encoding != recorded.encoding and not sample.isascii():
        told.append(f"encoding {encoding!r} where {recorded.encoding!r} is recorded")
    names = list(dict.fromkeys(field.source for field in fields))
    declared, recorded = replace(declared, encoding=encoding), replace(recorded, encoding=encoding)
    text = _text(declared, sample, is_whole)
    ours = _explanations(recorded, text, is_whole, names)
    if ours and ours[0].is_all and not _looks_otherwise(recorded, text):
        return tuple(told)
    found = _explanations(declared, text, is_whole, names)
    if found and (not ours or found[0].worth >= ours[0].worth + 1):
        told += _told(found[0].format, recorded, "is recorded")
    return tuple(told)


def _looks_otherwise(recorded: Csv, text: str) -> bool:
    """Whether a text that a dialect explains shows signs of another one all the same: of other quotes, or other escapes."""
    delimiter, quote = str(recorded.delimiter), str(recorded.quote)
    return any(_wrapped(text, delimiter, other) >= 2 for other in "\"'" if other != quote) or any(
        _has_escapes(text, escape, quote) for escape in ("\\", '"') if escape != recorded.escape
    )


def _told(one: Csv, other: Csv, what: str) -> list[str]:
    names = ("delimiter", "quote", "escape", "bare_quotes", "header_rows", "header_at")
    return [
        f"{name} {getattr(one, name)!r}, where {getattr(other, name)!r} {what}"
        for name in names
        if getattr(one, name) != getattr(other, name)
    ]


# The sample


def _sample(content: Content, size: int = SAMPLE_BYTES) -> tuple[bytes, bool]:
    """The beginning of an object, and whether it is all of it."""
    sample = content.stream().read(size + 1)
    return sample[:size], len(sample) <= size


def _encoding(format: Csv, sample: bytes, is_whole: bool) -> str:
    if not isinstance(format.encoding, Detect):
        return format.encoding
    if sample.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if max(even, odd) * 3 > len(sample) // 2 and max(even, odd) > 8 * min(even, odd):
        return "utf-16-le" if odd > even else "utf-16-be"
    text = sample.decode("utf-8", "replace")
    # The sample may end within a character.
    wrong = (text if is_whole else text[:-3]).count("\ufffd")
    right = sum(char > "\x7f" for char in text) - wrong
    if wrong * 10 <= right:
        return "utf-8"
    try:
        sample.decode("cp1252")
    except UnicodeDecodeError as error:
        raise ObjectRejected("is text in an encoding that can't be told", "declare the encoding") from error
    return "cp1252"


def _text(format: Csv, sample: bytes, is_whole: bool) -> str:
    assert isinstance(format.encoding, str)
    text = sample.removeprefix(BOM).decode(format.encoding, "replace").removeprefix("\ufeff")
    if not is_whole:
        cut = max(text.rfind("\n"), text.rfind("\r")) + 1
        text = text[: cut or None]
    return text


def _lines(text: str) -> list[str]:
    return [line for line in re.split(r"\r\n|\r|\n", text) if line]


def _first_line(text: str) -> str:
    return next(iter(_lines(text)), "")


# Dialects


def _options(format: Csv, name: str, tried: Sequence[_Option]) -> list[_Option]:
    """What an argument may be: what is declared, or whatever is tried."""
    value: Any = getattr(format, name)
    return list(tried) if isinstance(value, Detect) else [value]


def _usual(format: Csv) -> Csv:
    """The format, all that is to be detected as it usually is."""
    usual = Csv()
    values: dict[str, Any] = {name: getattr(usual, name) for name in format.undetected}
    return replace(format, **values)


def _explanations(format: Csv, text: str, is_whole: bool, names: Sequence[str]) -> list[_Explained]:
    """What can be made of the sample, the best first."""
    lines = _lines(text)
    # A delimiter stands in most lines, unless there is nothing that it could stand between.
    delimiters = [each for each in DELIMITERS if sum(each in line for line in lines) * 2 >= len(lines)]
    if len(names) < 2:
        delimiters.append(next(each for each in DELIMITERS if each not in text)) if not delimiters else None
    quotes = [quote for quote in ('"', "'") if quote in text] or ['"']
    found: list[_Explained] = []
    for order, (delimiter, quote) in enumerate(
        product(_options(format, "delimiter", delimiters), _options(format, "quote", quotes))
    ):
        usual = (1.6 if quote and _wrapped(text, delimiter, quote) >= 2 else 0.0) - 0.5 * (quote == "'") - order * 0.001
        escapes = _options(format, "escape", [each for each in ("", "\\", '"') if _has_escapes(text, each, quote)])
        # Some stray quotes are faults. Where there are many, however they are escaped, they are text.
        fewest, most_stray = len(lines), max(2, len(lines) * MOST_STRAY_SHARE)
        for bare, escape in product(_options(format, "bare_quotes", (False, True)), escapes):
            if bare and isinstance(format.bare_quotes, Detect) and fewest <= most_stray:
                continue
            resolved = replace(format, delimiter=delimiter, quote=quote, escape=escape, bare_quotes=bare)
            records = list(_records(Dialect.of(resolved), NoRecords(resolved.footer, resolved.comment), text, is_whole))
            if not bare:
                fewest = min(fewest, sum(record.cells is None for record in records))
            # A quote that is always doubled, though another one quotes, is an evidence of its own.
            worth = usual + (0.5 if escape == '"' else -0.5 * bool(escape)) - 2 * bare
            explained = _explained(resolved, records, names, len(lines), worth)
            if explained is not None:
                found.append(explained)
    return sorted(found, key=lambda each: -each.worth)


def _has_escapes(text: str, escape: str, quote: str) -> bool:
    """Whether a character may be what escapes: a backslash before a quote; a quote that is always doubled, though another one quotes."""
    if escape == '"':
        doubled = text.count('""')
        return quote != '"' and doubled > 1 and doubled * 2 == text.count('"')
    return not escape or (bool(quote) and escape + quote in text)


def _wrapped(text: str, delimiter: str, quote: str) -> int:
    """About how many cells are in quotes."""
    mark, between = re.escape(quote), re.escape(delimiter)
    opened = re.findall(rf"(?:^|{between}){mark}", text, re.MULTILINE)
    closed = re.findall(rf"{mark}(?={between}|\r|\n|\Z)", text)
    return min(len(opened), len(closed))


def _records(dialect: Dialect, no_records: NoRecords, text: str, is_whole: bool) -> Iterator[_Record]:
    position, number, open_ends = 0, 0, 0
    while position < len(text) and open_ends < MOST_OPEN_ENDS:
        line_end, following = dialect.line(text, position)
        line = text[position:line_end]
        if not line or no_records.has(line):
            position, number = following, number + 1
            continue
        cells: list[str] | None = None
        end = line_end
        try:
            cells, end = dialect.record(text, position)
        except Fault as fault:
            open_ends += fault.at is None
            if fault.at is None and not is_whole and len(dialect.lines.findall(text, position)) > 1:
                # Perhaps the sample ends in it.
                tail = dialect.lines.split(text[following:])
                if not all(dialect.cells(each) is not None for each in tail[:MOST_HEADER_ROWS]):
                    return
        yield _Record(number, line, cells)
        if end > line_end:
            number += len(dialect.lines.findall(text[position:end]))
            following = dialect.line(text, end)[1]
        position, number = following, number + 1


def _explained(
    format: Csv, records: list[_Record], names: Sequence[str], lines: int, usual: float
) -> _Explained | None:
    """The records with the header, or the lack of one, that explains most of them."""
    found: list[_Explained] = []
    for at, rows, named in _headers(format, records, names):
        cells = records[at].cells
        assert cells is not None
        header = replace(
            format,
            header_rows=rows,
            header_at=records[at].begins if isinstance(format.header_at, Detect) else format.header_at,
        )
        weighed = _weighed(
            header, records[at + rows :], len(cells), named / len(names) * lines + usual - 0.5 * (rows - 1)
        )
        found.append(replace(weighed, is_all=named == len(names) and not weighed.bad))
    if not found or found[0].bad > len(found[0].records):
        found += _without_header(format, records, names, usual)
    return max(found, key=lambda each: each.worth, default=None)


def _headers(format: Csv, records: list[_Record], names: Sequence[str]) -> list[tuple[int, int, int]]:
    """The header that names most of the columns: which record it is, its lines, how many columns it names. One, or none."""
    wanted = set(names)
    found = []
    for rows in _options(format, "header_rows", range(1, MOST_HEADER_ROWS + 1)):
        for at in range(min(len(records) - rows + 1, MOST_LINES_BEFORE)) if rows else ():
            read = [record.cells for record in records[at : at + rows]]
            if isinstance(format.header_at, int) and records[at].begins < format.header_at:
                continue
            if isinstance(format.header_at, str) and not re.fullmatch(format.header_at, records[at].line):
                continue
            if any(cells is None or len(cells) != len(read[0] or ()) for cells in read):
                named = 0
            else:
                joined = [
                    format.header_joint.join(filter(None, cells)) for cells in zip(*filter(None, read), strict=True)
                ]
                named = len(wanted.intersection(joined))
            if named:
                found.append((named, -rows, -at))
            if not isinstance(format.header_at, Detect):
                break
    return [(-at, -rows, named) for named, rows, at in sorted(found, reverse=True)[:1]]


def _without_header(format: Csv, records: list[_Record], names: Sequence[str], usual: float) -> Iterator[_Explained]:
    """The records by themselves: the first one that has a cell for each column is the first one."""
    if format.header_rows not in (0, Detect.DETECT):
        return
    for at, record in enumerate(records[: MOST_LINES_BEFORE + 1]):
        if isinstance(format.header_at, int) and record.begins < format.header_at:
            continue
        if record.cells is not None and len(record.cells) == len(names):
            if format.header_rows != 0 and not _looks_like_values(record.cells, [each.cells for each in records[at:]]):
                return
            before = [each.line for each in records[:at] if any(name in each.line for name in names)]
            if not all(_names_in_order(line, names) for line in before):
                return
            header = replace(
                format,
                header_rows=0,
                header_at=record.begins if isinstance(format.header_at, Detect) else format.header_at,
            )
            explained = _weighed(header, records[at:], len(names), usual)
            yield replace(
                explained, before=excerpt(before[0]) if before and not isinstance(format.header_at, int) else ""
            )
            return
        if not isinstance(format.header_at, Detect):
            return


def _looks_like_values(first: list[str], records: Sequence[list[str] | None]) -> bool:
    """Whether *first* looks like a value in each column in which those of most records do, and there is such a column."""
    same = [cells for cells in records[1:] if cells is not None and len(cells) == len(first)]
    if not same:
        return False
    columns = [
        index
        for index in range(len(first))
        if sum(_VALUE.fullmatch(cells[index]) is not None for cells in same) * 10 >= len(same) * 9
    ]
    return bool(columns) and all(_VALUE.fullmatch(first[index]) for index in columns)


def _names_in_order(line: str, names: Sequence[str]) -> bool:
    """Whether the names that a line has stand in the declared order, and are most of them."""
    places = [line.find(name) for name in names]
    there = [place for place in places if place >= 0]
    return there == sorted(there) and len(there) * 2 > len(names)


def _weighed(format: Csv, records: list[_Record], width: int, worth: float) -> _Explained:
    good = [record.cells for record in records if record.cells is not None and len(record.cells) == width]
    bad = len(records) - len(good)
    return _Explained(format, worth - 2 * bad, good, bad)
