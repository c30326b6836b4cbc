"""Text with each field at its place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion_platform.errors import DeclarationError
from ingestion_platform.format import FixedWidth
from ingestion_platform_tests.formats.reading import extras, read, refusal, rejections, rows

LINES = FixedWidth(fields=(("id", 3), ("", 2), ("amount", 5)))


def test_values_are_cut_out_of_their_places() -> None:
    """Spaces around a value are padding; any line end will do, and a blank line is no record."""
    records = read(LINES, b"A1   12.50\r\n\r\nA 2    3.0\n          \r", "id", "amount")
    assert rows(records) == [("A1", "12.50"), ("A 2", "3.0"), ("", "")]
    assert records.table["_row"].to_pylist() == [1, 2, 3]


def test_a_line_of_another_length_costs_itself() -> None:
    """Too short or too long, it is set aside as it stands; characters are counted, not bytes."""
    records = read(LINES, "é1   12.50\nshort\nA2    3.0 and more\n".encode(), "id", "amount")
    assert rows(records) == [("é1", "12.50")]
    assert rejections(records) == [
        (2, "has 5 characters, 10 are declared", "short"),
        (3, "has 18 characters, 10 are declared", "A2    3.0 and more"),
    ]


def test_spaces_at_the_end_may_be_missing_where_that_is_declared() -> None:
    """Some writers take them away."""
    format = FixedWidth(fields=LINES.fields, may_end_early=True)
    assert rows(read(format, b"A1   12\nA\n", "id", "amount")) == [("A1", "12"), ("A", "")]


def test_places_may_count_bytes() -> None:
    """As mainframes do: a character of two bytes takes two places."""
    format = FixedWidth(fields=(("name", 4), ("n", 1)), unit="bytes")
    records = read(format, "éb 1\nabcd2\néé3\néé\n".encode(), "name", "n")
    assert rows(records) == [("éb", "1"), ("abcd", "2"), ("éé", "3")]
    assert [row for row, _, _ in rejections(records)] == [4]


def test_what_nobody_asks_for_is_kept() -> None:
    """Fields without a column, and what stands where nothing should."""
    records = read(LINES, b"A1   12.50\nA2 xy 3.00\n", "id")
    assert extras(records) == [{"amount": "12.50"}, {"4-5": "xy", "amount": "3.00"}]
    assert records.unknown_columns == ("4-5", "amount")


def test_header_lines_are_no_records() -> None:
    """They are passed over, whatever their length; a file that has fewer is cut."""
    format = FixedWidth(fields=LINES.fields, header_lines=2)
    assert rows(read(format, b"SALES\n2024-10-01 of all stores\nA1   12.50\n", "id")) == [("A1",)]
    assert "has fewer lines" in refusal(format, b"SALES\n", "id")


def test_lines_of_the_footer_are_no_records() -> None:
    """Whatever their length, and wherever they stand; they are told, for a trailer's totals, and take no row's number."""
    format = FixedWidth(fields=LINES.fields, footer="(T|END)[0-9 ]*")
    records = read(format, b"A1   12.50\nT0001\nTA   12.50\nT 0001\nEND\n", "id")
    assert rows(records) == [("A1",), ("TA",)]
    assert records.table["_row"].to_pylist() == [1, 2]
    assert records.trailers == ("T0001", "T 0001", "END")


@given(
    st.lists(st.sampled_from(["A1   12.50", "T0001", "T", "short", "é1   12.50", ""]), max_size=30),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_a_footer_is_told_apart_wherever_pieces_end(lines: list[str], end: str) -> None:
    """In pieces of any size, the same lines are records, rejected or the footer's."""
    format = FixedWidth(fields=LINES.fields, footer="T[0-9]*")
    records = read(format, "".join(line + end for line in lines).encode(), "id")
    told = [line for line in lines if line]
    assert rows(records) == [(line[:3].strip(),) for line in told if len(line) == 10]
    assert [text for _, _, text in rejections(records)] == [line for line in told if line == "short"]
    assert records.trailers == tuple(line for line in told if line[0] == "T")[-10:]


def test_a_footer_that_is_no_pattern_is_refused() -> None:
    """Or one that an empty line would match."""
    for footer in ("(", "T*"):
        with pytest.raises(DeclarationError, match="FixedWidth: footer"):
            FixedWidth(fields=LINES.fields, footer=footer)


def test_what_is_cut_or_no_text_is_told() -> None:
    """The last line needs its end; bytes that aren't text, or NUL, cost their line."""
    assert refusal(LINES, b"A1   12.50\nA2   12.50", "id").startswith("is cut")
    open_ended = FixedWidth(fields=LINES.fields, final_newline=False)
    assert rows(read(open_ended, b"A1   12.50\nA2   12.50", "id")) == [("A1",), ("A2",)]
    assert refusal(open_ended, b"A1   12.50\nA2   12.5", "id").startswith("is cut")
    records = read(LINES, b"\xff1   12.50\nA2   12.50\nA3  \x00 2.50\n" + b"A4   12.50\n" * 20, "id")
    assert rejections(records) == [
        (1, "is not text in utf-8", "\\xff1   12.50"),
        (3, "holds a NUL byte", "A3  \\x00 2.50"),
    ]


def test_a_declaration_that_contradicts_itself_is_refused() -> None:
    """Fields without names, twice the same, of no width; a source that is none of them."""
    for fields in ((), (("", 3),), (("a", 3), ("a", 2)), (("a", 0),)):
        with pytest.raises(DeclarationError):
            FixedWidth(fields=fields)
    with pytest.raises(DeclarationError, match="none of its fields"):
        read(LINES, b"", "other")
