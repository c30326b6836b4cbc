"""JSON documents: records where they are declared, each with what stands around it, or an error that says what is there instead."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion_platform.errors import DeclarationError, ObjectRejected
from ingestion_platform.format import Json
from ingestion_platform_tests.formats.reading import CASES, read

PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5))


def test_elements_of_the_document_are_records() -> None:
    """The usual shape, values as they are written."""
    records = read(Json(), b'[{"a": 1.50, "b": {"c": "x"}}, {"a": 1e5, "d": [1, 2]}]', "a", "b.c")
    assert records.table["a"].to_pylist() == ["1.50", "1e5"]
    assert records.table["b.c"].to_pylist() == ["x", None]
    assert records.table["_extra"].to_pylist() == [None, '{"d":[1, 2]}']


@pytest.mark.parametrize(
    ("records", "text", "found"),
    [
        ("data.items[*]", '{"data": {"items": [{"a": 1}, {"a": 2}]}}', ["1", "2"]),
        ("data", '{"data": {"a": 1}}', ["1"]),
        ("", '{"a": 1}', ["1"]),
        ("[*].rows[*]", '[{"rows": [{"a": 1}]}, {"rows": []}, {"rows": null}, {}, {"rows": [{"a": 2}]}]', ["1", "2"]),
        ("a[*][*]", '{"a": [[{"a": 1}], [{"a": 2}]]}', ["1", "2"]),
        ("Time Series (Daily)[*]", '{"Time Series (Daily)": [{"a": 1}]}', ["1"]),
        ("data.items[*]", '\ufeff {"data": {"items": []}} ', []),
    ],
)
def test_records_are_found_under_their_path(records: str, text: str, found: list[str]) -> None:
    """In lists, in lists of lists, as one object."""
    assert read(Json(records), text.encode(), "a").table["a"].to_pylist() == found


def test_what_is_around_a_record_can_be_asked_for() -> None:
    """The object that holds the list, and the ones above it."""
    text = b'{"v": 9, "meta": {"n": 3}, "products": [{"id": 1, "variants": [{"s": "x"}, {"s": "y"}]}, {"id": 2, "variants": [{"s": "z"}]}]}'
    records = read(Json("products[*].variants[*]"), text, "s", "../id", "../../v", "../../meta.n")
    assert records.table["../id"].to_pylist() == ["1", "1", "2"]
    assert records.table["../../v"].to_pylist() == ["9", "9", "9"]
    assert records.table["../../meta.n"].to_pylist() == ["3", "3", "3"]


@pytest.mark.parametrize(
    ("records", "text", "told"),
    [
        ("data.items[*]", '{"message": "too many requests"}', "the document has no member 'data' (it has “message”)"),
        ("data.items[*]", '{"data": {"rows": []}}', "'data' has no member 'items' (it has “rows”)"),
        ("data.items[*]", '{"data": {"items": null}}', "'data.items' is no list but “null”"),
        ("data.items[*]", '{"data": []}', "'data' is no object but a list"),
        ("[*]", '{"error": 1}', "the document is no list but an object"),
        ("[*].rows[*]", '[{"rows": {"a": 1}}]', "'[*].rows' is no list"),
    ],
)
def test_records_that_aren_t_there_are_no_empty_list(records: str, text: str, told: str) -> None:
    """The error says where they should be and what is there instead."""
    with pytest.raises(ObjectRejected) as caught:
        read(Json(records), text.encode(), "a")
    assert f"at {records!r}" in str(caught.value)
    assert told in str(caught.value)


def test_null_is_an_empty_list_where_that_is_declared() -> None:
    """Some servers write it so."""
    assert read(Json("data[*]", null_is_empty=True), b'{"data": null}', "a").rows_read == 0


def test_an_element_that_is_no_object_costs_only_itself() -> None:
    """It is rejected as it stands, with its number; at every depth."""
    records = read(Json(), b'[{"a": 1}, 7, "x", null, {"a": 2}]', "a")
    assert records.table["a"].to_pylist() == ["1", "2"]
    assert [(one.row, one.record) for one in records.rejected] == [(2, "7"), (3, '"x"'), (4, "null")]
    records = read(Json("[*].rows[*]"), b'[{"rows": [{"a": 1}]}, 5]', "a")
    assert [(one.row, one.record) for one in records.rejected] == [(2, "5")]


@pytest.mark.parametrize(
    "text", [b"", b"  ", b'[{"a": 1}', b'[{"a": 1}] x', b"[" * 100_000, b"\xff\xfe[\x00]\x00", b'["\xff"]']
)
def test_what_is_cut_or_no_json_is_rejected(text: bytes) -> None:
    """Nothing of it is taken."""
    with pytest.raises(ObjectRejected):
        read(Json(), text, "a")


@pytest.mark.parametrize("path", ["a..b", "a[0]", "[*]a", "a[*", ".a", "a."])
def test_a_path_that_is_none_is_told_at_import(path: str) -> None:
    """Not when the first document has landed."""
    with pytest.raises(DeclarationError, match="no path to records"):
        Json(path)


def test_a_source_above_the_document_is_told() -> None:
    """There is nothing above the outermost list but the object that holds it."""
    with pytest.raises(DeclarationError, match="no path from records"):
        read(Json("a[*]"), b'{"a": []}', "../../x")


@given(st.lists(st.lists(st.dictionaries(st.sampled_from("abc"), PLAIN, max_size=3), max_size=4), max_size=4), PLAIN)
def test_any_document_reads_back(holders: list[list[dict[str, Any]]], above: Any) -> None:
    """Every record once, in order, with its values and what is above it."""
    text = json.dumps({"x": above, "h": [{"id": number, "r": rows} for number, rows in enumerate(holders)]})
    records = read(Json("h[*].r[*]"), text.encode(), "a", "../id", "../../x")

    def shown(value: Any) -> str | None:
        return value if value is None or isinstance(value, str) else json.dumps(value)

    expected = [(shown(row.get("a")), str(number), shown(above)) for number, rows in enumerate(holders) for row in rows]
    columns = [records.table[name].to_pylist() for name in ("a", "../id", "../../x")]
    assert list(zip(*columns, strict=True)) == expected


@pytest.mark.parametrize("case", sorted((CASES / "03-json").rglob("[yn]_*.json")), ids=lambda path: path.name)
def test_the_json_test_suite_is_kept(case: Any) -> None:
    """What must be refused is refused; what must be accepted is, unless it holds what no text can."""
    content = case.read_bytes()
    if case.name.startswith("n_"):
        with pytest.raises(ObjectRejected):
            read(Json(""), content, "a")
        return
    records = read(Json(""), content, "a")
    assert records.rows_read == 1
