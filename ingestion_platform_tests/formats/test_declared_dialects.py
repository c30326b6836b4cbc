"""Delimited text as senders really write it: what a declaration can say of it, and what is read then."""

import pytest

from ingestion_platform.format import Csv
from ingestion_platform_tests.formats.reading import extras, read, refusal, rejections, rows


def test_a_delimiter_may_be_several_characters() -> None:
    """One of them alone is text."""
    records = read(Csv(delimiter=", "), b'a, b\n1,5, 2\n"x, y", "z"\n1, 2, 3\n', "a", "b")
    assert rows(records) == [("1,5", "2"), ("x, y", "z")]
    assert rejections(records) == [(3, "has 3 cells, the header 2", "1, 2, 3")]
    assert rows(read(Csv(delimiter="||"), b"a||b\n1|5||2\n", "a", "b")) == [("1|5", "2")]


def test_quotes_may_be_escaped() -> None:
    """By a backslash, or whatever is declared; before anything else it is text; a doubled quote is a fault then."""
    content = b'a,b\n"48\\"","x\\\\"\n"C:\\new","\\,"\nx\\,y,2\n"p""q",5\n'
    records = read(Csv(escape="\\"), content, "a", "b")
    assert rows(records) == [('48"', "x\\"), ("C:\\new", ","), ("x,y", "2")]
    assert rejections(records) == [(4, "has text after a closing quote", '"p""q",5')]
    assert rows(read(Csv(quote="'", escape='"'), b"a,b\n'48\"\"','it\"'s'\n", "a", "b")) == [('48"', "it's")]


def test_an_escape_at_the_end_of_a_line_ends_nothing_else() -> None:
    """A path that ends with a backslash doesn't take the next line with it."""
    records = read(Csv(escape="\\"), b"a,b\n1,C:\\dir\\\n2,x\n", "a", "b")
    assert rows(records) == [("1", "C:\\dir\\"), ("2", "x")]


def test_quotes_may_be_text() -> None:
    """Where declared, one that neither opens nor closes a cell is an apostrophe; one that takes in a delimiter still costs its record."""
    records = read(
        Csv(quote="'", bare_quotes=True), b"a,b\nMen's,'won't, he said'\n'x','y'\n'dogs', cats',1\n", "a", "b"
    )
    assert rows(records) == [("Men's", "won't, he said"), ("x", "y")]
    assert [record.row for record in records.rejected] == [3]


def test_there_may_be_no_quotes() -> None:
    """Then they are text."""
    assert rows(read(Csv(quote=""), b'a,b\n"1,2"\n', "a", "b")) == [('"1', '2"')]


@pytest.mark.parametrize("broken", [b"", b"1\n"])
def test_lines_before_the_header(broken: bytes) -> None:
    """A number of them, blank ones counted, or whatever stands before the line that is the header; both readers agree."""
    content = b'Report of "today\n\n\na,b\n1,2\n' + broken
    assert rows(read(Csv(header_at=3), content, "a", "b")) == [("1", "2")]
    assert rows(read(Csv(header_at="a,.*"), content, "a", "b")) == [("1", "2")]
    assert rows(read(Csv(header_at=3), content.replace(b"\n", b"\r\n"), "a", "b")) == [("1", "2")]
    assert "its first 1,000 lines matches “id,.*”" in refusal(Csv(header_at="id,.*"), content, "a")
    assert "9 stand before its header" in refusal(Csv(header_at=9), content, "a")


def test_a_header_that_is_missing() -> None:
    """The columns are those declared, in that order; a record with more or fewer is set aside, and the names as a record are no data."""
    records = read(Csv(header_rows=0), b"1,2\n3\na,b\n4,5\n", "a", "b")
    assert rows(records) == [("1", "2"), ("4", "5")]
    assert rejections(records) == [(2, "has 1 cell, the header 2", "3"), (3, "repeats the header", "a,b")]
    assert rows(read(Csv(header_rows=0, header_at=1), b"any thing,x,y\n1,2\n", "a", "b")) == [("1", "2")]
    assert read(Csv(header_rows=0, header_at=1), b"a,b\n", "a", "b").rows_read == 0


def test_a_header_of_several_lines() -> None:
    """The names of each column are joined; each of the lines, repeated, is no data; lines that don't agree are refused."""
    content = b'Sales,,Costs\nnet,"gross\n2",total\n1,2,3\nnet,"gross\n2",total\nSales,,Costs\n'
    format = Csv(header_rows=2, header_joint=": ")
    records = read(format, content, "Sales: net", "gross\n2")
    assert rows(records) == [("1", "2")]
    assert extras(records) == [{"Costs: total": "3"}]
    assert [record.reason for record in records.rejected] == ["repeats the header"] * 2
    assert "has a header whose lines have 2 and 3 cells" in refusal(format, b"a,b\nc,d,e\n", "a")
    assert "is empty: not even a header" in refusal(format, b"Sales\n", "Sales")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("footer", [2, "(Total|printed).*"])
def test_a_footer(footer: int | str, end: str) -> None:
    """So many lines, or those that look like it, are no records and have no number; they are handed on."""
    lines = ["a,b", *(f"{number},x" for number in range(40)), "Total,40", "", "printed by 'x\"", ""]
    records = read(Csv(footer=footer), end.join(lines).encode(), "a", "b")
    assert [row[0] for row in rows(records)] == [str(number) for number in range(40)]
    assert records.trailers == ("Total,40", "printed by 'x\"")
    assert records.rejected == ()


def test_a_footer_of_so_many_lines_has_to_be_there() -> None:
    """With fewer lines behind the header than that, the object is cut; a cell's own lines are never a footer."""
    assert "it has no footer of 3 lines" in refusal(Csv(footer=3), b"a,b\n1,2\nx\n", "a")
    assert rows(read(Csv(footer=1), b'a,b\n1,"x\ny"\nend\n', "a", "b")) == [("1", "x\ny")]
    records = read(Csv(footer="Total.*"), b'a,b\n1,"x\nTotal\ny"\n2,3\nTotal\n', "a", "b")
    assert rows(records) == [("1", "x\nTotal\ny"), ("2", "3")]
    assert records.trailers == ("Total",)


def test_comments() -> None:
    """A line that begins with the prefix is no record, before the header and between records; inside a cell it is text."""
    records = read(Csv(comment="#"), b'# of "x\n\n#\na,b\n1,2\n#3,4\n5,"\n#6"\n7,#8\n', "a", "b")
    assert rows(records) == [("1", "2"), ("5", "\n#6"), ("7", "#8")]
    assert records.table["_row"].to_pylist() == [1, 2, 3]


def test_one_line_end_may_be_the_only_one() -> None:
    """The others are text then."""
    assert rows(read(Csv(line_end="\r\n"), b"a,b\r\n1\n,2\r\n3,4\r\r\n", "a", "b")) == [("1\n", "2"), ("3", "4\r")]
    assert rows(read(Csv(line_end="\n"), b"a,b\n1\r,2\n3,4\n", "a", "b")) == [("1\r", "2"), ("3", "4")]
    assert rows(read(Csv(line_end="\r"), b"a,b\r1,2\n\r3,4\r", "a", "b")) == [("1", "2\n"), ("3", "4")]
    assert "is cut" in refusal(Csv(line_end="\r\n"), b"a,b\r\n1,2\n", "a", "b")


def test_an_object_may_be_empty() -> None:
    """Where declared, nothing to send is an object without a character; half a header still isn't."""
    for content in (b"", b"\xef\xbb\xbf", b"\r\n"):
        records = read(Csv(may_be_empty=True), content, "a", "b")
        assert (records.rows_read, records.missing_columns) == (0, ())
    assert "is cut" in refusal(Csv(may_be_empty=True), b"a,", "a")


def test_several_tables_in_one_object() -> None:
    """The second one's header and records of another width are set aside; of the same width, its records are records."""
    first = b"a,b,c\n1,2,3\n\n"
    assert [record.row for record in read(Csv(), first + b"d,e\n1,2\n", "a", "b", "c").rejected] == [2, 3]
    records = read(Csv(), first + b"a,b,c\n4,5,6\n", "a", "b", "c")
    assert rows(records) == [("1", "2", "3"), ("4", "5", "6")]
    assert rejections(records) == [(2, "repeats the header", "a,b,c")]


def test_a_nul_may_be_what_escapes() -> None:
    """And is no value then, either."""
    records = read(Csv(escape="\0"), b'a,b\n1,"48\0""\n2,x\0y\n' + b"3,z\n" * 99, "a", "b")
    assert rows(records)[:2] == [("1", '48"'), ("3", "z")]
    assert rejections(records) == [(2, "holds a NUL byte", "2,x\\x00y")]
