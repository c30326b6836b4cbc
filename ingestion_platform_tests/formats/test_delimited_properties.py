"""Delimited text under any input: what Python's csv module writes is read back, and what is cut or damaged is never believed."""

import csv
import io
from typing import Literal
from unittest import mock

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from ingestion_platform.format import Csv
from ingestion_platform.formats import delimited
from ingestion_platform_tests.formats.reading import read, read_if_possible, rejections, rows
from ingestion_platform_tests.formats.writing import ORDINARY, cells_of
from ingestion_platform_tests.formats.writing import written as written_in

Table = list[list[str]]

# Few characters, so that delimiters, quotes and line ends meet often.
cells = st.text(st.sampled_from("ab,;|\t\"'\n\r é😀\u2028\x85\ufeff"), max_size=6) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6
)


def tables(min_columns: int = 1) -> st.SearchStrategy[Table]:
    """Rows of text, all equally long; none of them could be taken for the header."""
    return st.integers(min_columns, 4).flatmap(
        lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=6)
    )


def header(table: Table) -> list[str]:
    """Names for its columns."""
    return [f"column {index}" for index in range(len(table[0]))]


def written(
    table: Table,
    delimiter: str = ",",
    quote: str = '"',
    end: str = "\n",
    quoting: bool = False,
    names: list[str] | None = None,
) -> str:
    """The table as Python writes it, with its header."""
    buffer = io.StringIO(newline="")
    style: Literal[0, 1] = csv.QUOTE_ALL if quoting else csv.QUOTE_MINIMAL
    writer = csv.writer(buffer, delimiter=delimiter, quotechar=quote, lineterminator=end, quoting=style)
    writer.writerow(names or header(table))
    # Python before 3.13 leaves a lone \r or \n unquoted where it isn't in its line end.
    for row in table:
        if not quoting and any("\r" in cell or "\n" in cell for cell in row):
            csv.writer(
                buffer, delimiter=delimiter, quotechar=quote, lineterminator=end, quoting=csv.QUOTE_ALL
            ).writerow(row)
        else:
            writer.writerow(row)
    return buffer.getvalue()


@given(
    tables(),
    st.sampled_from(",;|\t"),
    st.sampled_from("\"'"),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.booleans(),
)
def test_what_python_writes_is_read_back(
    table: Table, delimiter: str, quote: str, end: str, quoting: bool, is_open_ended: bool
) -> None:
    """Any table, delimiter, quote and line end: equal cells, numbered 1, 2, 3, nothing rejected; with the last line end or without."""
    content = written(table, delimiter, quote, end, quoting)
    if is_open_ended:
        content = content.removesuffix(end)
    format = Csv(delimiter=delimiter, quote=quote, final_newline=not is_open_ended)
    records = read(format, content.encode(), *header(table))
    assert rejections(records) == []
    assert rows(records) == [tuple(row) for row in table]


@given(tables(), st.booleans(), st.integers(0, 5))
def test_one_bad_row_changes_no_other(table: Table, quoting: bool, place: int) -> None:
    """The exact reader, called in by a row with a cell too many, reads the others as the fast one does."""
    at = min(place, len(table))
    extra = ["too", "many", *header(table)]
    content = written([*table[:at], extra, *table[at:]], quoting=quoting, names=header(table))
    records = read(Csv(), content.encode(), *header(table))
    assert rows(records) == [tuple(row) for row in table]
    assert [record.row for record in records.rejected] == [at + 1]


@given(tables(), st.booleans(), st.sampled_from(["\n", "\r\n"]), st.data())
@example([["x", 'y"'], ["z", ""]], True, "\n", None)
def test_a_truncation_is_rejected_or_harmless(
    table: Table, quoting: bool, end: str, data: st.DataObject | None
) -> None:
    """
    A prefix of an object is rejected, or gives the first rows and no others.

    When it ends within a cell, behind a line end, and looks as if a stray quote opened that cell, the record is set aside, which tells it;
    lines of the cell behind that, all of them records by themselves, are rows then.

    Where no final line end is declared, the last cell of the last row may also be the beginning of the true one: that can't be told.
    """
    content = written(table, end=end, quoting=quoting).encode()
    whole = [tuple(row) for row in table]
    sizes = range(len(content)) if data is None else [data.draw(st.integers(0, len(content) - 1))]
    for size in sizes:
        for final_newline in (True, False):
            records = read_if_possible(Csv(final_newline=final_newline), content[:size], *header(table))
            if records is None:
                continue
            found = rows(records)
            if records.rejected:
                ((row, why, _),) = rejections(records)
                assert why == "opens a quote that is never closed"
                assert found[: row - 1] == whole[: row - 1]
            elif final_newline or not found:
                assert found == whole[: len(found)]
            else:
                assert found[:-1] == whole[: len(found) - 1]
                *first, last = found[-1]
                *true_first, true_last = whole[len(found) - 1]
                assert first == true_first
                assert true_last.startswith(last.rstrip("\r\n")) or true_last.startswith(last)


@settings(max_examples=200)
@given(tables(), st.booleans(), st.data())
def test_a_changed_byte_ends_in_records_or_a_rejection(table: Table, quoting: bool, data: st.DataObject) -> None:
    """Whatever one byte becomes, nothing but `ObjectRejected` is raised, and every record is accounted for."""
    content = written(table, quoting=quoting).encode()
    at = data.draw(st.integers(0, len(content) - 1))
    changed = content[:at] + bytes([data.draw(st.integers(0, 255))]) + content[at + 1 :]
    read_if_possible(Csv(), changed, *header(table))


@given(st.text(st.sampled_from('ab,"\n\r é\ufeff'), max_size=40), st.integers(1, 3), st.booleans())
def test_the_two_readers_agree(body: str, width: int, final_newline: bool) -> None:
    """Whatever the fast reader believes that it can prove, the exact one finds, too: the same rows, rejections and refusals."""
    names = ["a", "b", "c"][:width]
    content = f"{','.join(names)}\n{body}".encode()
    format = Csv(final_newline=final_newline)
    fast = read_if_possible(format, content, *names)
    with mock.patch.object(delimited, "_parse_proved", return_value=None):
        exact = read_if_possible(format, content, *names)
    assert (fast is None) == (exact is None)
    if fast is not None and exact is not None:
        assert fast.table.to_pylist() == exact.table.to_pylist()
        assert fast.rejected == exact.rejected


@given(st.binary(max_size=60))
def test_any_bytes_end_in_records_or_a_rejection(content: bytes) -> None:
    """Bytes that nobody meant as CSV."""
    for format in (
        Csv(final_newline=False),
        Csv(encoding="utf-16"),
        Csv(encoding="cp932"),
        Csv(delimiter="é", final_newline=False),
    ):
        read_if_possible(format, b"a,b\n" + content, "a", "b")
        read_if_possible(format, content, "a")


@given(tables(2), st.integers(0, 200), st.sampled_from('",'))
def test_a_stray_character_never_makes_wrong_rows_of_quoted_ones(table: Table, place: int, stray: str) -> None:
    """
    Where every cell is quoted and none holds line ends or quotes, one quote or comma too many costs rows, but makes none up.

    It may become part of the cell that it falls into.
    """
    plain = [[cell.replace('"', "").replace("\n", "").replace("\r", "") or "x" for cell in row] for row in table]
    content = written(plain, quoting=True)
    body = content.index("\n") + 1
    at = body + place % (len(content) - body)
    changed = content[:at] + stray + content[at:]
    records = read_if_possible(Csv(), changed.encode(), *header(plain))
    if records is None:
        return
    originals = {tuple(row) for row in plain}
    for row in rows(records):
        assert tuple(cell.replace(stray, "") for cell in row) in {
            tuple(cell.replace(stray, "") for cell in each) for each in originals
        }


@st.composite
def dialects(draw: st.DrawFn) -> Csv:
    """Any that a declaration can say."""
    quote = draw(st.sampled_from("\"'«"))
    header_rows = draw(st.sampled_from([0, 1]))
    header_at: list[int | str] = [0, 2, ".?c.*1.?"]
    footer: list[int | str] = [0, 2, "TRAILER.*"]
    return Csv(
        delimiter=draw(st.sampled_from([",", ";", "\t", "|", ", ", "||", "§", "a;"])),
        quote=quote,
        escape=draw(st.sampled_from(["", "", "\\", "^"])),
        bare_quotes=draw(st.booleans()),
        header_rows=header_rows,
        header_at=draw(st.sampled_from(header_at[: 2 + header_rows])),
        footer=draw(st.sampled_from(footer)),
        comment=draw(st.sampled_from(["", "#"])),
        line_end=draw(st.sampled_from(["any", "\n", "\r\n", "\r"])),
        encoding=draw(st.sampled_from(["utf-8", "utf-16", "utf-8"])),
    )


@settings(max_examples=300)
@given(dialects(), st.integers(2, 4), st.booleans(), st.data())
def test_any_table_in_any_dialect_is_read_back(format: Csv, width: int, quotes_all: bool, data: st.DataObject) -> None:
    """Equal cells, numbered 1, 2, 3, nothing rejected; what stands before and after is no record, and the footer is handed on."""
    cells = cells_of(ORDINARY + f"{format.delimiter}{format.quote}{format.escape}#,;\"'\\\n\r")
    table = data.draw(st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=6))
    names = [f"c{index}1" for index in range(width)]
    preamble = ["Report", '"of today'][: format.header_at] if isinstance(format.header_at, int) else ["", "Report"]
    footer = ["TRAILER;1", "TRAILER 'x\""] if format.footer else []
    content = written_in(format, names, table, quotes_all=quotes_all, preamble=preamble, footer=footer)
    records = read(format, content.encode(str(format.encoding)), *names)
    assert rejections(records) == []
    assert rows(records) == [tuple(row) for row in table]
    assert records.trailers == tuple(footer)


@settings(max_examples=400)
@given(
    tables(2), st.booleans(), st.sampled_from(["change", "add", "remove"]), st.binary(min_size=1, max_size=1), st.data()
)
def test_a_single_corruption_is_harmless_or_reported(
    table: Table, quoting: bool, kind: str, byte: bytes, data: st.DataObject
) -> None:
    """
    One byte changed, added or removed: the object or a record is rejected, columns are told to be missing or unknown, or no row is missing.

    Then at most one cell says something else: no reader can tell that, only a sender's totals can. Nor can it tell that a lone delimiter,
    a record of two empty cells, has become a blank line.
    """
    assume(all(any(row) for row in table))
    content = written(table, quoting=quoting).encode()
    at = data.draw(st.integers(0, len(content) - 1) | st.sampled_from(structure(content)))
    byte = data.draw(st.sampled_from([byte, b'"', b",", b"\n", b"\r", b"\0"]))
    changed = content[:at] + (b"" if kind == "remove" else byte) + content[at + (kind != "add") :]
    records = read_if_possible(Csv(), changed, *header(table))
    if records is None or records.rejected or records.missing_columns or records.unknown_columns:
        return
    found = rows(records)
    assert len(found) == len(table)
    wrong = [
        (cell, one)
        for row, each in zip(table, found, strict=True)
        for cell, one in zip(row, each, strict=True)
        if cell != one
    ]
    assert len(wrong) <= 1


def structure(content: bytes) -> list[int]:
    """Where the characters stand that make cells and records of a text."""
    return [at for at, byte in enumerate(content) if byte in b'",\r\n']
