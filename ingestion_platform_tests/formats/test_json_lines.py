"""JSON lines: exact values, nested paths, and lines that aren't JSON objects."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion_platform.format import JsonLines
from ingestion_platform_tests.formats.reading import extras, read, refusal, rejections, rows

LINES = JsonLines()


def test_values_are_the_text_they_were_written_as() -> None:
    """Numbers keep their digits, strings are decoded, null is NULL, objects and arrays stay JSON."""
    content = rb'{"a":1.10,"b":"x\n\u00e9\ud83d\ude00","c":null,"d":[1, {"x":2.0}],"e":true,"f":{}}' + b"\n"
    content += b'{"a":-0,"b":"","c":123456789012345678901234567890,"d":1E400,"e":false,"f":"\xc3\xa9"}\n'
    assert rows(read(LINES, content, *"abcdef")) == [
        ("1.10", "x\né😀", None, '[1, {"x":2.0}]', "true", "{}"),
        ("-0", "", "123456789012345678901234567890", "1E400", "false", "é"),
    ]


def test_a_source_is_a_dotted_path() -> None:
    """Values are found inside objects; where the path leads nowhere they are NULL."""
    content = b'{"p":{"method":"qr","who":{"id":7}}}\n{"p":{"who":3}}\n{"p":null}\n{"p":[1]}\n{}\n'
    records = read(LINES, content, "p.method", "p.who.id")
    assert rows(records) == [("qr", "7"), (None, None), (None, None), (None, None), (None, None)]


def test_what_no_field_asks_for_is_kept() -> None:
    """Unknown members stay JSON in `_extra`, by name, nested ones under their parent; so does a parent that turns out to be no object."""
    content = b'{"a":1,"p":{"x":1,"y":2.50,"z":{"u":"v"}},"new":[1.0]}\n{"a":1,"p":{"x":1}}\n{"p":"text"}\n{"p":null}\n'
    records = read(LINES, content, "a", "p.x", "p.z.w")
    texts = records.table["_extra"].to_pylist()
    assert texts == ['{"new":[1.0],"p":{"y":2.50,"z":{"u":"v"}}}', None, '{"p":"text"}', None]
    assert records.unknown_columns == ("new", "p", "p.y", "p.z.u")


def test_a_parent_may_be_asked_for_beside_its_members() -> None:
    """Then the whole of it is a value, and nothing of it is left over."""
    records = read(LINES, b'{"p":{"x":1,"y":2}}\n', "p", "p.x")
    assert rows(records) == [('{"x":1,"y":2}', "1")]
    assert extras(records) == [None]


def test_sources_that_no_record_has_are_reported() -> None:
    """A field that one record has isn't missing, null or not; without records nothing is."""
    records = read(LINES, b'{"a":1}\n{"b":null}\n', "a", "b", "c", "p.x")
    assert records.missing_columns == ("c", "p.x")
    assert read(LINES, b"", "a").missing_columns == ()


@pytest.mark.parametrize("spaces", ["", " "])
def test_members_that_are_there_twice_are_all_kept(spaces: str) -> None:
    """The last value counts; `_extra` has all of them, digit for digit, in their order."""
    content = '{"a":1.0,"b":{"x":1.50,"x":"2"},"a":2.00,"u":1,"u":[null,"é"]}\n'.replace(":", f":{spaces}").encode()
    records = read(LINES, content, "a")
    assert rows(records) == [("2.00",)]
    text = records.table["_extra"].to_pylist()[0]
    assert text is not None
    assert '"a":[1.0,2.00]' in text
    assert '"u":[1,[null,"é"]]' in text


def test_a_repeated_member_is_never_hidden_by_white_space_or_commas() -> None:
    """However a line is written, a value that is overwritten shows in `_extra`."""
    for line in (
        b'{"a":"","b":1,"c":2,"d":3,"a":"x"}',
        b'{"a":1, "b" : "," ,"a":2}',
        b'{"a":1,"b,":2,"a":3}',
        b'{"a":1,"b\\u002c":2,"a":3}',
        b'{"a":1,"\\u0061":3}',
        b'{"p":{"a":1,"a":2}}',
    ):
        records = read(LINES, line + b"\n", "a", "p.a")
        assert "[" in str(records.table["_extra"].to_pylist()[0]), line


def test_bad_lines_cost_one_record_each() -> None:
    """A line that isn't a JSON object is set aside with its number and text; blank lines have no number."""
    content = b'{"a":1}\n\n{"a":}\n[1]\n \t\r\n"x"\n{"a":NaN}\n{"a":1}{"a":2}\n{"a":01}\n{"a":"\xff"}\n{"a":"\\ud800"}\n{"a":2}\r\n'
    records = read(LINES, content, "a")
    assert rows(records) == [("1",), ("2",)]
    assert [row for row, _, _ in rejections(records)] == [2, 3, 4, 5, 6, 7, 8, 9]
    by_row = {row: (reason, text) for row, reason, text in rejections(records)}
    assert by_row[2] == ("is not JSON: invalid character (byte 5)", '{"a":}')
    assert by_row[3] == ("is not a JSON object: Expected `object`, got `array`", "[1]")
    assert by_row[8] == ("is not text in utf-8", '{"a":"\\xff"}')
    assert "surrogate" in by_row[9][0]


def test_half_a_surrogate_pair_is_no_text() -> None:
    """Neither in a value nor in a name, nor deep inside, nor as the second half alone."""
    for line in (
        rb'{"a":"\udc00"}',
        rb'{"a":"\ud800\u0041"}',
        rb'{"\ud800":1}',
        rb'{"a":[{"b":"\udfff"}]}',
        rb'{"a":"\ud83d\ud83d\ude00"}',
    ):
        records = read(LINES, line + b'\n{"a":1}\n', "a")
        assert [record.row for record in records.rejected] == [1], line


def test_only_line_feeds_end_a_line() -> None:
    """U+2028, U+0085 and the like are text inside a string, where they may stand unescaped."""
    value = "x\u2028y\u0085z\u2029\x7f"
    assert rows(read(LINES, f'{{"a":"{value}"}}\n'.encode(), "a")) == [(value,)]


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    """Some tools write it even here."""
    assert rows(read(LINES, b'\xef\xbb\xbf{"a":1}\n', "a")) == [("1",)]


def test_a_last_line_that_does_not_parse_means_cut() -> None:
    """Without its line end, an incomplete last line makes the object half-written; a complete one is a record."""
    assert refusal(LINES, b'{"a":1}\n{"a":2', "a").startswith("is cut: its last line has no line end")
    assert refusal(LINES, b'{"a":1}\n{"a":"\xc3', "a").startswith("is cut")
    assert rows(read(LINES, b'{"a":1}\n{"a":2}', "a")) == [("1",), ("2",)]


def test_an_object_without_a_single_json_object_is_refused() -> None:
    """A JSON array over several lines, an error page, CSV: none of it is JSON lines."""
    for content in (b'[\n{"a":1},\n{"a":2}\n]\n', b"<html>\n<body>\n</html>\n", b"a,b\n1,2\n"):
        assert "is not JSON lines" in refusal(LINES, content, "a")
    assert refusal(LINES, '{"a":1}\n'.encode("utf-16"), "a").startswith("is not text")


def test_an_empty_object_has_no_records() -> None:
    """There is no header to miss: nothing was sent."""
    assert read(LINES, b"", "a").rows_read == 0
    assert read(LINES, b"\n\n", "a").rows_read == 0


def test_nesting_beyond_measure_costs_one_record() -> None:
    """A hundred thousand brackets end neither the process nor the object."""
    deep = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b'}\n{"a":1}\n'
    records = read(LINES, deep, "a")
    assert [(record.row, record.reason) for record in records.rejected] == [(1, "is nested too deeply")]
    assert rows(records) == [("1",)]


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
)


@given(st.lists(st.dictionaries(text | st.sampled_from(["a", "p"]), values, max_size=4), max_size=5), st.booleans())
def test_what_python_writes_is_read_back(objects: list[dict[str, Any]], is_compact: bool) -> None:
    """Any objects, however spaced: each member is a field's value or in `_extra`, and none is in both."""
    separators = (",", ":") if is_compact else (", ", ": ")
    content = "".join(
        json.dumps(each, separators=separators, ensure_ascii=is_compact) + "\n" for each in objects
    ).encode()
    records = read(LINES, content, "a")
    assert not records.rejected
    for each, (value,), extra in zip(objects, rows(records), extras(records), strict=True):
        assert (extra or {}) == {name: member for name, member in each.items() if name != "a"}
        expected = each.get("a")
        assert (
            value == expected if expected is None or isinstance(expected, str) else json.loads(str(value)) == expected
        )
