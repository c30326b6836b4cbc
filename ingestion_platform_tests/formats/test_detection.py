"""Dialects found out: what speaks for one, what is never guessed, and what departs from a record."""

import io
import itertools
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion_platform.errors import ObjectRejected
from ingestion_platform.format import DETECT, Csv
from ingestion_platform.formats import detect_dialect, dialect_departures
from ingestion_platform.formats.detection import DELIMITERS, Detected
from ingestion_platform_tests.formats.reading import fields, read, read_if_possible, rows
from ingestion_platform_tests.formats.writing import cells_of, written

ALL = Csv(
    delimiter=DETECT, quote=DETECT, escape=DETECT, bare_quotes=DETECT, header_rows=DETECT, header_at=DETECT, encoding=DETECT,
    final_newline=False,
)  # fmt: skip
NAMES = ("id", "name", "price")


def detected(content: str | bytes, format: Csv = ALL, names: tuple[str, ...] = NAMES) -> Detected:
    """What is found out."""
    return detect_dialect(format, io.BytesIO(content.encode() if isinstance(content, str) else content), fields(*names))


@pytest.mark.parametrize("delimiter", [each for each in DELIMITERS if each not in (" ", ":")])
@pytest.mark.parametrize("quote", ['"', "'"])
def test_the_declared_columns_tell_the_dialect(delimiter: str, quote: str) -> None:
    """Whatever other delimiters stand in the cells."""
    format = Csv(delimiter=delimiter, quote=quote)
    table = [["1", "Alpha, Beta; 2|3\tx", "2.50"], ["2", "Gamma " + delimiter, "3.50"], ["3", "x", "1"]]
    found = detected(written(format, NAMES, table))
    assert (found.format.delimiter, found.format.quote, found.is_sure) == (delimiter, quote, True)
    assert rows(read(ALL, written(format, NAMES, table).encode(), *NAMES)) == [tuple(row) for row in table]


def test_a_preamble_is_skipped_to_the_line_with_the_names() -> None:
    """Blank lines before it are counted; the line ends in quotes are no lines of it."""
    found = detected('Report "x"\n\nprinted,today\nid,name,price\n1,"a\nb",2\n')
    assert (found.format.header_at, found.format.header_rows) == (3, 1)


def test_a_header_of_two_lines_is_told_by_the_joined_names() -> None:
    """Where the declaration names what both lines say together."""
    found = detected("Article,,Price\nid,name,net\n1,x,2\n2,y,3\n", names=("Article id", "name", "Price net"))
    assert found.format.header_rows == 2


def test_values_in_the_first_line_mean_that_there_is_no_header() -> None:
    """Numbers and dates where all records have some; as many cells as there are columns."""
    found = detected("1,Alpha,2.50\n2,Beta,3.50\n")
    assert (found.format.header_rows, found.is_sure) == (0, True)


@pytest.mark.parametrize(
    "content",
    [
        "Alpha,Beta,Gamma\nx,y,z\n",  # Names, or values.
        "nr,what,much\n1,Alpha,2.50\n2,Beta,3.50\n",  # A header with other names.
        "1,2\n3,4\n",  # Too few columns.
        "<html><body>1,2,3</body></html>\n",
    ],
)
def test_nothing_is_guessed(content: str) -> None:
    """Without the declared names, or values where a header would be, the object is rejected."""
    with pytest.raises(ObjectRejected, match="a dialect that can't be told"):
        detected(content)


def test_two_dialects_that_explain_as_much_are_told() -> None:
    """Where they read the records differently, nobody can tell which is right."""
    with pytest.raises(ObjectRejected, match="would explain it as well"):
        detected("id,name;price\n1,2;3\n4,5;6\n", names=("id", "price"))


def test_a_header_alone_is_read_and_decides_nothing() -> None:
    """It has no records to tell a dialect by."""
    found = detected("id;name;price\n")
    assert (found.format.delimiter, found.is_sure) == (";", False)


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("id,name\n1,é\n2,ü\n".encode(), "utf-8"),
        ("id,name\n1,é\n2,ü\n".encode("cp1252"), "cp1252"),
        ("id,name\n1,é\n2,ü\n".encode("utf-16"), "utf-16"),
        ("id,name\n1,é\n2,ü\n".encode("utf-16-le"), "utf-16-le"),
        ("id,name\n1,é\n2,ü\n".encode("utf-16-be"), "utf-16-be"),
        ("\ufeffid,name\n1,é\n2,ü\n".encode(), "utf-8"),
        (b"id,name\n" + "é,ü\n".encode() * 20 + b"1,\xe9\n", "utf-8"),
    ],
)
def test_encodings(content: bytes, encoding: str) -> None:
    """Text that is UTF-8, a stray byte or not; UTF-16 by its mark or its NULs; otherwise Windows' own."""
    assert detected(content, names=("id", "name")).format.encoding == encoding
    assert ("1", "é") in rows(read(ALL, content, "id", "name")) or encoding == "utf-8"


def test_an_encoding_that_cannot_be_told() -> None:
    """Bytes that are text in none of them."""
    with pytest.raises(ObjectRejected, match="an encoding that can't be told"):
        detected(b"id,name\n1,\x81\x8d\n", names=("id", "name"))


def test_some_stray_quotes_are_faults_and_many_are_text() -> None:
    """One in a hundred is set aside; where every third record has one, it is how they write."""
    stray = [["1", "x", "2"]] * 100 + [["2", "Men's", "3"]]
    content = written(Csv(quote="'"), NAMES, [["1", "a, b", "2"]] * 3) + "".join(",".join(row) + "\n" for row in stray)
    assert detected(content).format.bare_quotes is False
    assert detected(content + "2,Men's,3\n" * 40).format.bare_quotes is True


def test_departures_are_named() -> None:
    """Against what is recorded; a file that the recorded dialect explains as well departs from nothing."""
    recorded = detected(written(Csv(), NAMES, [["1", "a, b", "2"]] * 3)).format

    def departs(content: str) -> tuple[str, ...]:
        return dialect_departures(ALL, recorded, io.BytesIO(content.encode()), fields(*NAMES))

    assert departs(written(Csv(), NAMES, [["1", "x", "2"]])) == ()
    assert departs("id,name,price\n") == departs("") == ()
    assert departs("id;name;price\n1;x;2\n2;y;3\n") == ("delimiter ';', where ',' is recorded",)
    assert departs("Report\nid,name,price\n1,x,2\n") == ("header_at 1, where 0 is recorded",)
    assert departs("1,x,2\n2,y,3\n") == ("header_rows 0, where 1 is recorded",)


@settings(max_examples=60)
@given(
    st.sampled_from([",", ";", "\t", "|", "; "]),
    st.sampled_from(['"', "'"]),
    st.sampled_from(["", "\\"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.data(),
)
def test_what_is_detected_reads_back_equal_or_is_refused(
    delimiter: str, quote: str, escape: str, end: str, data: st.DataObject
) -> None:
    """Any table of some records in a usual dialect: its rows, or no word of it."""
    format = Csv(delimiter=delimiter, quote=quote, escape=escape)
    # No text that is itself a cell in another dialect's quotes.
    other = "'" if quote == '"' else '"'
    cells = cells_of("ab12 é" + delimiter[0] + ",;" + quote).filter(lambda cell: other not in cell)
    values = st.integers(0, 99).map(str)
    table = data.draw(st.lists(st.tuples(values, cells, values).map(list), min_size=4, max_size=12))
    content = written(format, NAMES, table, end=end, quotes_all=data.draw(st.booleans()))
    records = read_if_possible(ALL, content.encode(), *NAMES)
    if records is not None and not records.rejected:
        assert rows(records) == [tuple(row) for row in table]


def test_detection_takes_linear_time() -> None:
    """Of hostile beginnings: nothing but quotes, delimiters, backslashes, one line; quotes that are never closed in each line."""
    for mark, other in (*itertools.product("\"'\\,\n", repeat=2), ('"""', "\n"), ('"', '""\n')):
        with suppress(ObjectRejected):
            detected("id,name,price\n" + (mark + other) * 30_000)
