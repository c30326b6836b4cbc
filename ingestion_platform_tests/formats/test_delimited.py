"""Delimited text: what is a record, what is rejected, and what is no such object at all."""

import pytest

from ingestion_platform.errors import DeclarationError
from ingestion_platform.format import Csv
from ingestion_platform_tests.formats.reading import extras, read, refusal, rejections, rows

CSV = Csv()
OPEN_ENDED = Csv(final_newline=False)


def test_every_cell_is_text_as_sent() -> None:
    """Nothing is trimmed, typed or taken for missing; an empty cell is empty text."""
    content = b'a,b,c\n 007 ,NULL,\n1.50,NA,nan\n""," x ",-0\n'
    assert rows(read(CSV, content, "a", "b", "c")) == [(" 007 ", "NULL", ""), ("1.50", "NA", "nan"), ("", " x ", "-0")]


def test_columns_come_in_the_order_asked_for() -> None:
    """Columns are found by the header, wherever they stand; one may serve two fields."""
    assert rows(read(CSV, b"a,b\n1,2\n", "b", "a")) == [("2", "1")]


def test_a_missing_column_is_null_and_reported() -> None:
    """What the object doesn't have is NULL, which empty text is not."""
    records = read(CSV, b"a\n\n1\n", "a", "z")
    assert rows(records) == [("1", None)]
    assert records.missing_columns == ("z",)


@pytest.mark.parametrize("broken", [b"", b"1,2,3\n"])
def test_unknown_columns_are_kept_as_json(broken: bytes) -> None:
    """What no field asks for is in `_extra` as strings, with every character JSON needs escaped; both readers agree."""
    content = 'a,"x ""y""",\n1,"q""\\\t\né",2\n1,,\n'.encode() + broken.replace(b",3", b"")
    records = read(CSV, content, "a")
    assert records.unknown_columns == ('x "y"', "")
    assert extras(records)[:2] == [{'x "y"': 'q"\\\t\né', "": "2"}, {'x "y"': "", "": ""}]
    assert extras(read(CSV, b"a\n1\n", "a")) == [None]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bad", ["", "1\n"])
def test_all_line_ends_end_a_record(end: str, bad: str) -> None:
    """LF, CRLF and a lone CR, also mixed; blank lines are no records and have no number; both readers agree."""
    content = end.join(["", "a,b", "1,2", "", "", "3,4", "5,6\n7,8\r\n9,0\r", ""]) + bad
    records = read(CSV, content.encode(), "a", "b")
    assert rows(records) == [("1", "2"), ("3", "4"), ("5", "6"), ("7", "8"), ("9", "0")]
    assert records.table["_row"].to_pylist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("bad", [b"", b'"x"y\n'])
def test_a_column_of_its_own_writes_empty_values_in_quotes(bad: bytes) -> None:
    """With one column, a blank line is still no record; an empty value is written as two quotes; a space is a value."""
    assert rows(read(CSV, b'a\n\n1\n\n""\n \n' + bad, "a")) == [("1",), ("",), (" ",)]


def test_quotes_hold_delimiters_quotes_and_line_ends() -> None:
    """RFC 4180: inside quotes everything is text, a quote is doubled, a line end stays the one it is."""
    content = b'a,b\r\n"1,5","say ""hi"""\r\n"x\ny\r\nz\r",""""\r\n'
    assert rows(read(CSV, content, "a", "b")) == [("1,5", 'say "hi"'), ("x\ny\r\nz\r", '"')]


def test_a_header_may_be_quoted_over_lines() -> None:
    """A header's cell is a cell like any other."""
    assert rows(read(CSV, b'a,"b\n2"\n1,2\n', "a", "b\n2")) == [("1", "2")]


@pytest.mark.parametrize(
    ("delimiter", "quote"), [(";", "'"), ("\t", '"'), ("|", "@"), ("§", "«"), ("^", "]"), (" ", "-")]
)
def test_the_dialect_is_the_declared_one(delimiter: str, quote: str) -> None:
    """Any two characters serve, also ones that are special elsewhere or more than a byte."""
    content = f"a{delimiter}b\n1{delimiter}{quote}x{delimiter}{quote}{quote}{quote}\n".encode()
    assert rows(read(Csv(delimiter=delimiter, quote=quote), content, "a", "b")) == [("1", f"x{delimiter}{quote}")]


def test_a_byte_order_mark_is_no_part_of_the_header() -> None:
    """UTF-8 with the mark, and UTF-16 which needs it."""
    assert rows(read(CSV, b"\xef\xbb\xbfa,b\n1,2\n", "a", "b")) == [("1", "2")]
    assert rows(read(CSV, b'\xef\xbb\xbf"a",b\n1,2\n', "a", "b")) == [("1", "2")]
    assert rows(read(Csv(encoding="utf-16"), "a,b\n1,é\n".encode("utf-16"), "a", "b")) == [("1", "é")]


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-16-le", "shift_jis", "gb18030"])
def test_other_encodings_are_decoded(encoding: str) -> None:
    """Text in a declared encoding arrives as text."""
    value = {"shift_jis": "表|ソ", "gb18030": "价格"}.get(encoding, "Ünïté")
    assert rows(read(Csv(encoding=encoding), f"a,b\n1,{value}\n".encode(encoding), "a", "b")) == [("1", value)]


def test_an_encoding_nobody_knows_is_the_declarations_fault() -> None:
    """It would fail for every object, so no object is blamed."""
    for encoding in ("nope", "hex", "utf_8\0"):
        with pytest.raises(DeclarationError, match="encoding"):
            read(Csv(encoding=encoding), b"a\n1\n", "a")
    with pytest.raises(DeclarationError, match="line end"):
        read(Csv(delimiter="\n"), b"a\n1\n", "a")


def test_a_wrong_number_of_cells_costs_one_record() -> None:
    """The record is set aside with both numbers and as it stands; its neighbours load under their own numbers."""
    records = read(CSV, b"a,b,c\n1,2,3\n4,5\n6,7,8,9\r\n,\n0\n1,2,3\n", "a", "b", "c")
    assert rows(records) == [("1", "2", "3"), ("1", "2", "3")]
    assert records.table["_row"].to_pylist() == [1, 6]
    assert rejections(records) == [
        (2, "has 2 cells, the header 3", "4,5"),
        (3, "has 4 cells, the header 3", "6,7,8,9"),
        (4, "has 2 cells, the header 3", ","),
        (5, "has 1 cell, the header 3", "0"),
    ]


def test_misplaced_quotes_cost_one_record() -> None:
    """Text after a closing quote and a quote inside an unquoted cell are rejected up to their line's end."""
    records = read(CSV, b'a,b\n1,"x"y\n2,in"ch\n3,"x" \n4, "x"\n5,ok\n', "a", "b")
    assert rows(records) == [("5", "ok")]
    assert rejections(records) == [
        (1, "has text after a closing quote", '1,"x"y'),
        (2, "has a quote inside an unquoted cell", '2,in"ch'),
        (3, "has text after a closing quote", '3,"x" '),
        (4, "has a quote inside an unquoted cell", '4, "x"'),
    ]


def test_a_stray_quote_swallows_no_good_rows() -> None:
    """Rows between a stray quote and the next one are read, where each is a record by itself."""
    records = read(CSV, b'a,b,c\n1,2,"3\n4,5,6\n7,8,9\n0,"x",1\n2,3,4\n', "a", "b", "c")
    assert rows(records) == [("4", "5", "6"), ("7", "8", "9"), ("0", "x", "1"), ("2", "3", "4")]
    assert rejections(records) == [(1, "has text after a closing quote", '1,2,"3')]


def test_a_broken_cell_over_lines_is_rejected_whole() -> None:
    """Where the lines between aren't records, nobody can tell rows from text: all of it is one rejected record."""
    records = read(CSV, b'a,b\n1,"one\ntwo\nthree"x\n2,ok\n', "a", "b")
    assert rows(records) == [("2", "ok")]
    assert rejections(records) == [(1, "has text after a closing quote", '1,"one\ntwo\nthree"x')]


def test_a_single_column_proves_nothing_about_swallowed_rows() -> None:
    """Any line is a record of one cell, so lines after a stray quote aren't taken for rows."""
    records = read(CSV, b'a\n"one\ntwo\n"three"\n4\n', "a")
    assert rows(records) == [("4",)]
    assert [record.row for record in records.rejected] == [1]


def test_cells_over_lines_are_doubted_beside_stray_quotes() -> None:
    """With one fault in an object's quotes, a record over several lines may be rows that were swallowed: it is set aside."""
    good = b'a,b\n1,"x\ny"\n2,z\n'
    assert rows(read(CSV, good, "a", "b")) == [("1", "x\ny"), ("2", "z")]
    records = read(CSV, good + b'3,q"\n', "a", "b")
    assert rows(records) == [("2", "z")]
    assert rejections(records) == [
        (1, "has a line end inside a cell, in an object with stray quotes", '1,"x\ny"'),
        (3, "has a quote inside an unquoted cell", '3,q"'),
    ]


def test_bytes_that_are_no_text_cost_their_record() -> None:
    """Only the record with the invalid bytes is set aside; they are shown in hex."""
    records = read(CSV, b"a,b\n1,caf\xe9\n2,caf\xc3\xa9\n3,\xed\xa0\x80\n", "a", "b")
    assert rows(records) == [("2", "café")]
    assert rejections(records) == [
        (1, "is not text in utf-8", "1,caf\\xe9"),
        (3, "is not text in utf-8", "3,\\xed\\xa0\\x80"),
    ]
    records = read(Csv(encoding="cp1252"), b"a\n\x81\n\x80\n", "a")
    assert (rows(records), rejections(records)) == ([("€",)], [(1, "is not text in cp1252", "\\x81")])


def test_a_nul_byte_costs_its_record() -> None:
    """A NUL never gets into a cell."""
    records = read(CSV, b"a,b\n1,\0\n" + b"2,fine\n" * 100, "a", "b")
    assert rejections(records) == [(1, "holds a NUL byte", "1,\\x00")]
    assert records.table.num_rows == 100


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0", ""),
        (b"PK\x03\x04\x14\0\0\0", ""),
        (b"a,b\n" + b"\0" * 50, ""),
        ("a,b\n1,2\n".encode("utf-16"), "it looks like UTF-16"),
        ("a,b\n1,2\n".encode("utf-16-le"), "it looks like UTF-16"),
    ],
)
def test_what_is_no_text_is_refused(content: bytes, hint: str) -> None:
    """Images, archives, NULs where rows should be, and UTF-16 under the name of UTF-8."""
    why = refusal(CSV, content, "a", "b")
    assert why.startswith("is not text")
    assert hint in why


def test_a_header_that_is_no_text_is_refused() -> None:
    """Columns can't be found in bytes that aren't text; the message shows them safely."""
    assert "\\xff" in refusal(CSV, b"a,\xff\n1,2\n", "a")


def test_an_empty_object_is_refused() -> None:
    """Not even a header: somebody began to write it, or nobody did."""
    for content in (b"", b"\xef\xbb\xbf", b"\n", b"\r\n\r\n"):
        assert refusal(CSV, content, "a").startswith("is empty: not even a header")


def test_a_header_alone_is_an_object_without_records() -> None:
    """A day without sales is a header and nothing else."""
    records = read(CSV, b"a,b\n", "a", "b")
    assert (rows(records), records.rows_read) == ([], 0)
    assert read(OPEN_ENDED, b"a,b", "a", "b").rows_read == 0


def test_an_object_that_is_something_else_is_refused() -> None:
    """Without a single declared column in its first line, an object isn't the one declared; the line is shown short and on one line."""
    why = refusal(CSV, b"<html><body>\x1b[31mError 500 " + b"x" * 500 + b"\n</html>\n", "a", "b")
    assert why.startswith("is not the declared CSV: its first line “<html><body>\\x1b[31mError 500")
    assert "has none of the columns a, b" in why
    assert len(why) < 300
    assert why.isprintable()
    assert "none of the columns" in refusal(CSV, b"a;b\n1;2\n", "a", "b")


def test_a_column_named_twice_is_refused() -> None:
    """Nobody can tell which of them is meant."""
    assert "names a column twice in its header: “a”" in refusal(CSV, b"a,b,a\n1,2,3\n", "a")
    assert "twice" in refusal(CSV, b"a,x,x\n1,2,3\n", "a")


def test_a_header_with_misplaced_quotes_is_refused() -> None:
    """Without a header that can be read, no cell has a name."""
    assert "has text after a closing quote" in refusal(CSV, b'"a"x,b\n1,2\n', "a", "b")
    assert "no header that can be read" in refusal(CSV, b'"a,b\n1,2\n', "a", "b")


def test_a_repeated_header_is_no_data() -> None:
    """Files strung together repeat their header, quoted or not; with one column it may be a value."""
    records = read(CSV, b'a,b\n1,2\n"a",b\na,2\n', "a", "b")
    assert rows(records) == [("1", "2"), ("a", "2")]
    assert rejections(records) == [(2, "repeats the header", '"a",b')]
    assert rows(read(CSV, b"a\na\n", "a")) == [("a",)]


def test_a_last_line_without_its_end_means_cut() -> None:
    """A sender who ends every line has been interrupted; the message says what to declare for one who never does."""
    for content in (b"a,b\n1,2", b"a,b\n1,2\n3", b"a,b", b'a,b\n1,"2"'):
        why = refusal(CSV, content, "a", "b")
        assert why.startswith("is cut")
        assert "final_newline=False" in why
    assert rows(read(OPEN_ENDED, b"a,b\n1,2", "a", "b")) == [("1", "2")]
    assert rows(read(OPEN_ENDED, b'a,b\n1,"2"', "a", "b")) == [("1", "2")]


def test_a_last_record_with_too_few_cells_means_cut() -> None:
    """Also where the last line end is never written; a complete line with too few cells is only a bad record."""
    assert refusal(OPEN_ENDED, b"a,b\n1,2\n3", "a", "b").startswith("is cut: its last record has 1 cell, the header 2")
    assert refusal(OPEN_ENDED, b"a,b\n1,caf\xc3", "a", "b").startswith("is cut: its last character is not whole")
    assert rejections(read(OPEN_ENDED, b"a,b\n1,2\n3\n", "a", "b")) == [(2, "has 1 cell, the header 2", "3")]
    assert rejections(read(OPEN_ENDED, b"a,b\n1,2,3", "a", "b")) == [(1, "has 3 cells, the header 2", "1,2,3")]


def test_a_quote_open_at_the_end_means_cut() -> None:
    """Where nothing tells that a stray quote opened it, a cell that never ends makes the object half-written."""
    for content in (
        b'a,b\n1,"x""\ny\n',
        b'a,b\n1,2\n3,"x\n4,5,6\n6,7\n',
        b'a,b\n1,"x\n\ny',
        b'a,b\n1,"x\ny"\n2,"x\n',
        b'a\n"x\n',
    ):
        assert "is never closed" in refusal(OPEN_ENDED, content, *("ab" if b"," in content else "a"))


def test_a_stray_quote_before_the_end_costs_its_record() -> None:
    """All lines behind it are records, or it stands in the last one, of an object without a line end in a cell: no cell was cut there."""
    records = read(CSV, b'a,b\n1,2\n3,"x\n4,5\n6,7\n', "a", "b")
    assert rows(records) == [("1", "2"), ("4", "5"), ("6", "7")]
    assert rejections(records) == [(2, "opens a quote that is never closed", '3,"x')]
    records = read(CSV, b'a,b\n1,"2"\n3,"\n', "a", "b")
    assert rows(records) == [("1", "2")]
    assert rejections(records) == [(2, "opens a quote that is never closed", '3,"')]


def test_large_objects_are_read_in_blocks_without_a_seam() -> None:
    """Records are whole and counted across the blocks that the fast reader works in, quoted line ends among them."""
    line = '{0},"x\n{0}",' + "y" * 500 + "\n"
    content = ("a,b,c\n" + "".join(line.format(number) for number in range(70_000))).encode()
    assert len(content) > 2 * 16 * 1024**2
    records = read(CSV, content, "a", "b")
    assert records.rows_read == 70_000
    assert rows(records)[69_999] == ("69999", "x\n69999")


def test_hostile_quotes_take_linear_time() -> None:
    """A hundred thousand stray quotes, doubled quotes or open cells are read or refused in seconds."""
    many = 100_000
    assert len(read(CSV, b"a,b\n" + b'1,"x"y\n' * many, "a", "b").rejected) == many
    assert read(CSV, b'a,b\n1,"' + b'""' * many + b'"\n2,q"\n', "a", "b").rows_read == 2
    assert read(CSV, b"a,b\n" + b'1,"\n' * many + b'1,"x"\n', "a", "b").rows_read > 0


def test_hostile_headers_take_linear_time() -> None:
    """Twenty thousand columns are refused, and so is one of them twice where so many are allowed; else they are read."""
    names = ",".join(f"c{number}" for number in range(20_000))
    wide = Csv(max_columns=20_001)
    assert "has 20,000 columns, more than the 5,000 allowed" in refusal(CSV, f"{names}\n".encode(), "c7")
    assert "twice" in refusal(wide, f"{names},c7\n".encode(), "c7")
    records = read(wide, f"{names}\n{names.replace('c', '')}\n".encode(), "c7")
    assert rows(records) == [("7",)]
    assert len(records.unknown_columns) == 19_999
