"""The list inside a JSON document, found piece by piece: whatever is around it and in it, large or damaged."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion_platform.errors import DeclarationError, ObjectRejected
from ingestion_platform.format import Json
from ingestion_platform_tests.formats.reading import extras, read, refusal, rejections, rows

ITEMS = Json("data.items[*]")


def test_numbers_keep_their_digits() -> None:
    """Nothing is converted: neither digits nor exponents are lost."""
    content = b'{"data":{"items":[{"a":1.10,"b":12345678901234567890},{"a":1E5,"b":[1, 2.0]}]}}'
    assert rows(read(ITEMS, content, "a", "b")) == [("1.10", "12345678901234567890"), ("1E5", "[1, 2.0]")]


def test_records_may_be_anywhere() -> None:
    """The elements of the document, of a list in it, of lists in lists; one object; the document itself."""
    assert rows(read(Json(), b'[{"a":1},{"a":2}]', "a")) == [("1",), ("2",)]
    assert rows(read(Json("x"), b'{"x":{"a":1}}', "a")) == [("1",)]
    assert rows(read(Json(""), b'{"a":1}', "a")) == [("1",)]
    nested = b'{"p":[{"id":7,"v":[{"a":1},{"a":2}]},{"id":8},{"id":9,"v":null},{"id":10,"v":[{"a":3}]}]}'
    assert rows(read(Json("p[*].v[*]"), nested, "a", "../id")) == [("1", "7"), ("2", "7"), ("3", "10")]


def test_what_is_around_a_list_may_come_after_it() -> None:
    """Fields of the object that holds the list, before or behind it, however many records there are."""
    records = ",".join(f'{{"a":{number}}}' for number in range(100))
    content = f'{{"data":{{"items":[{records}]}},"big":"{"x" * 70_000}","after":{{"n":5}}}}'.encode()
    found = rows(read(ITEMS, content, "a", "../after.n"))
    assert found == [(str(number), "5") for number in range(100)]
    assert [len(value) for (value,) in rows(read(ITEMS, content, "../big"))] == [70_000] * 100


def test_large_members_beside_the_list_are_passed_over() -> None:
    """Another list of any size in the same document takes no memory, and texts in it aren't taken for structure."""
    other = ",".join('{"x":"]}[{\\\\\\""}' for _ in range(20_000))
    content = f'{{"other":[{other}],"data":{{"skip":[[{other}]],"items":[{{"a":1}}],"more":[{other}]}}}}'.encode()
    assert json.loads(content)["data"]["items"] == [{"a": 1}]
    assert rows(read(Json("data.items[*]", max_record_bytes=100_000), content, "a")) == [("1",)]


def test_what_is_no_object_is_set_aside() -> None:
    """An element that is something else costs only itself."""
    records = read(Json(), b'[1,{"a":2},"x",null,[3]]', "a")
    assert rows(records) == [("2",)]
    assert [(row, record) for row, _, record in rejections(records)] == [(1, "1"), (3, '"x"'), (4, "null"), (5, "[3]")]


def test_members_nobody_declared_are_kept() -> None:
    """In `_extra`, and told by their paths."""
    records = read(Json(), b'[{"a":1,"z":{"y":2}}]', "a")
    assert extras(records) == [{"z": {"y": 2}}]
    assert records.unknown_columns == ("z",)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b'{"data":{"items":[]}', "is cut"),
        (b'{"data":{"items":[{"a":"', "is cut"),
        (b'{"data":{"items":[{"a":1},]}}', "is no JSON"),
        (b'{"data":{"items":[{"a":1},,{"a":2}]}}', "is no JSON"),
        (b'{"data":{"items":[{"a":1} {"a":2}]}}', "no JSON"),
        (b'{"data":{"items":[{"a":1}]}} x', "no JSON"),
        (b'{"data":{"items":[{"a":01}]}}', "no JSON"),
        (b'{"data":{"items":[{"a":1}]},"b":tru}', "no JSON"),
        (b']{"data":1}', "closes a bracket"),
        (b'{"data":{"items":[{"a":"\xff"}]}}', "is not text in utf-8"),
        (b'{"data":{"items":{"a":1}}}', "no list but an object"),
        (b'{"data":{"rows":[]}}', "has no member 'items' (it has “rows”)"),
        (b'{"data":[{"items":[]}]}', "is no object but a list"),
        (b'{"data":{"items":null}}', "is no list but “null”"),
        (b'{"data":{"items":[{"a":1}],"items":[{"a":2}]}}', "twice"),
        (b"<html></html>", "no JSON"),
        ('{"data":{"items":[]}}'.encode("utf-16"), "is not text"),
    ],
)
def test_what_is_no_such_document_is_refused(content: bytes, why: str) -> None:
    """Cut, no JSON, or its records aren't where they should be; the message says what is there."""
    assert why in refusal(ITEMS, content, "a")


def test_null_may_stand_for_an_empty_list() -> None:
    """Where it is declared."""
    assert read(Json("data.items[*]", null_is_empty=True), b'{"data":{"items":null}}', "a").rows_read == 0


def test_a_source_that_leads_nowhere_is_the_declarations_fault() -> None:
    """Above the root, or into the list that the records are in."""
    for source in ("../../x", "../", "../data", "../data.items"):
        with pytest.raises(DeclarationError):
            read(ITEMS, b'{"data":{"items":[{"a":1}]}}', source)


def test_large_elements_and_surroundings_are_refused() -> None:
    """One record is held in memory, and what is around the list is: both have their limit."""
    small = Json("data.items[*]", max_record_bytes=1000)
    long = "x" * 5000
    assert "has a record of more than" in refusal(small, f'{{"data":{{"items":[{{"a":"{long}"}}]}}}}'.encode(), "a")
    assert "around its records" in refusal(small, f'{{"b":"{long}","data":{{"items":[]}}}}'.encode(), "a")
    assert "a record of more than" in refusal(Json("", max_record_bytes=1000), f'{{"a":"{long}"}}'.encode(), "a")


values = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(st.sampled_from('ab"\\\\[]{},: é😀'), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.sampled_from('ab"\\'), max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(
    before=values, inside=values, after=values, items=st.lists(values, max_size=6), indent=st.sampled_from([None, 1])
)
def test_any_document_gives_its_elements(
    before: Any, inside: Any, after: Any, items: list[Any], indent: int | None
) -> None:
    """Whatever is in and around the list, its elements are found, as the standard library finds them."""
    document = {"before": before, "data": {"inside": inside, "items": items}, "after": after}
    content = json.dumps(document, indent=indent, ensure_ascii=indent is None).encode()
    records = read(ITEMS, content, "../data.inside", "../after")
    found = dict(zip(records.table["_row"].to_pylist(), extras(records), strict=True))
    for at, item in enumerate(items, 1):
        if isinstance(item, dict):
            assert (found[at] or {}) == item
        else:
            assert at in [record.row for record in records.rejected]
    assert records.rows_read == len(items)


@settings(deadline=None)
@given(items=st.lists(values, max_size=4), data=st.data())
def test_a_document_that_is_cut_is_refused(items: list[Any], data: st.DataObject) -> None:
    """No beginning of a document is one."""
    content = json.dumps({"data": {"items": items}}).encode()
    size = data.draw(st.integers(0, len(content) - 1))
    with pytest.raises(ObjectRejected):
        read(ITEMS, content[:size], "a")
