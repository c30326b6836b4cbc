"""Pages of APIs: what is around them enters each row, and what isn't such a group is refused."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ingestion_platform.api import Pages
from ingestion_platform.errors import ObjectRejected
from ingestion_platform.format import Csv, Json, Xml
from ingestion_platform.formats import Field, Records, read_records
from ingestion_platform.formats.pages import Page, open_group, write_pages

PAGE = Page(
    request="https://x/things", params={"region": "ZA"}, page=1, url="https://x/things", fetched_at=datetime(2024, 10, 1, 8, tzinfo=UTC),
    headers={"etag": "1"}, skip=0, records=2, same="s", is_stale=False, next="https://x/things?page=2", body=b'[{"a": 1}, {"a": 2}]',
)  # fmt: skip
FETCH = "20241001T080000123456Z-abcdef"


def group(*pages: Page, number: int = 1) -> bytes:
    """Pages as they land."""
    return write_pages(pages, endpoint="things", fetch=FETCH, group=number, plan="p")


def read(content: bytes, *sources: str, inside: Json | Csv | Xml | None = None) -> Records:
    """Read a group."""
    return read_records(Pages(inside or Json()), content, [Field(source, source) for source in sources])


def test_what_is_written_reads_back() -> None:
    """To the byte."""
    found = open_group(group(PAGE, replace(PAGE, page=2, next=None)), 10**9)
    assert (found.fetch, found.number, found.plan) == (FETCH, 1, "p")
    assert list(found.pages()) == [PAGE, replace(PAGE, page=2, next=None)]


def test_what_is_around_a_page_enters_each_of_its_rows() -> None:
    """Beside the record's own fields."""
    records = read(
        group(PAGE, replace(PAGE, page=2, body=b'[{"a": 3}]', is_stale=True), number=7),
        "a", "@page", "@url", "@fetched_at", "@param.region", "@param.other", "@is_stale", "@position",
    )  # fmt: skip
    assert records.table["a"].to_pylist() == ["1", "2", "3"]
    assert records.table["@page"].to_pylist() == ["1", "1", "2"]
    assert records.table["@param.region"].to_pylist() == ["ZA"] * 3
    assert records.table["@param.other"].to_pylist() == [None] * 3
    assert records.table["@is_stale"].to_pylist() == ["false", "false", "true"]
    assert records.table["@fetched_at"].to_pylist() == ["2024-10-01T08:00:00.000000+00:00"] * 3
    assert records.table["@position"].to_pylist() == [f"202410010800001234560000007:{row}" for row in (1, 2, 3)]
    assert records.table["_row"].to_pylist() == [1, 2, 3]


def test_records_that_the_page_before_has_are_left_out() -> None:
    """Rejected ones too; numbers go on."""
    overlapping = replace(PAGE, page=2, skip=1, body=b'[{"a": 2}, 7, {"a": 3}]')
    records = read(group(PAGE, overlapping, replace(PAGE, page=3, skip=1, body=b'[7, {"a": 4}]')), "a")
    assert records.table["a"].to_pylist() == ["1", "2", "3", "4"]
    assert records.table["_row"].to_pylist() == [1, 2, 4, 5]
    assert [(one.row, one.record) for one in records.rejected] == [(3, "7")]
    assert "page 2 of https://x/things" in records.rejected[0].reason


def test_a_page_without_a_body_has_no_rows() -> None:
    """As of a thing that has none."""
    assert read(group(replace(PAGE, body=b""), replace(PAGE, page=2)), "a").table["_row"].to_pylist() == [1, 2]
    assert read(group(), "a", "@page").rows_read == 0


def test_other_formats_may_be_inside() -> None:
    """CSV and XML as well as JSON."""
    assert read(group(replace(PAGE, body=b"a,b\n1,2\n")), "a", inside=Csv()).table["a"].to_pylist() == ["1"]
    xml = replace(PAGE, body=b"<r><l a='1'/><l a='2'/></r>")
    assert read(group(xml), "@page", inside=Xml(record="r/l")).rows_read == 2


def test_what_no_page_has_is_missing_and_what_nobody_asks_for_is_unknown() -> None:
    """A page without records says nothing about that."""
    records = read(group(PAGE, replace(PAGE, body=b"[]"), replace(PAGE, body=b'[{"a": 1, "c": 2}]')), "a", "b")
    assert (records.unknown_columns, records.missing_columns) == (("c",), ("b",))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"[]", group(PAGE)[:-3], group(PAGE).replace(b'"a": 1', b'"a": 9')])
def test_what_is_no_group_of_pages_is_refused(content: bytes) -> None:
    """Cut, flipped, or something else."""
    with pytest.raises(ObjectRejected):
        open_group(content, 10**9)


def test_a_group_larger_than_allowed_is_refused() -> None:
    """Before it is unpacked."""
    with pytest.raises(ObjectRejected, match="more than the 1,000 allowed"):
        open_group(group(replace(PAGE, body=b"[" + b" " * 100_000 + b"]")), 1000)


def test_a_page_that_is_not_as_declared_any_more_is_told_with_its_page() -> None:
    """When the declaration was changed after it had landed."""
    with pytest.raises(
        ObjectRejected, match=r"page 1 of https://x/things: has no records where they are declared, at 'data\[\*\]'"
    ):
        read(group(PAGE), "a", inside=Json("data[*]"))
