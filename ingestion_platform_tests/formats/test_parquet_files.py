"""Parquet: one text for every value, and objects that are cut, damaged or something else."""

import io
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingestion_platform.format import Parquet
from ingestion_platform_tests.formats.reading import extras, read, read_if_possible, refusal, rows

PARQUET = Parquet()


def written(table: pa.Table, **options: Any) -> bytes:
    """The table as a Parquet object."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def texts(array: Any) -> list[Any]:
    """How one column's values enter raw."""
    return [value for (value,) in rows(read(PARQUET, written(pa.table({"a": array})), "a"))]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array(["x", "", None, "é"]), ["x", "", None, "é"]),
        (pa.array(["x", None, "x"]).dictionary_encode(), ["x", None, "x"]),
        (pa.array([2**64 - 1, 0, None], pa.uint64()), ["18446744073709551615", "0", None]),
        (pa.array([True, False, None]), ["true", "false", None]),
        (
            pa.array([Decimal("1.50"), Decimal("0E-8"), Decimal("-1E-8"), None], pa.decimal128(38, 8)),
            ["1.50000000", "0.00000000", "-0.00000001", None],
        ),
        (pa.array([0.1, 1e21, 5e-324, float("nan"), None]), ["0.1", "1e+21", "5e-324", "nan", None]),
        (pa.array([0.1, 16777216.0], pa.float32()), ["0.1", "16777216"]),
        (pa.array(np.array([0.5, 2], np.float16)), ["0.5", "2"]),
        (pa.array([date(2024, 2, 29), None]), ["2024-02-29", None]),
        (pa.array([time(23, 59, 59, 1)]), ["23:59:59.000001"]),
        (pa.array([0], pa.timestamp("ms")), ["1970-01-01T00:00:00.000000"]),
        (pa.array([1, -1], pa.timestamp("us")), ["1970-01-01T00:00:00.000001", "1969-12-31T23:59:59.999999"]),
        (pa.array([1], pa.timestamp("ns")), ["1970-01-01T00:00:00.000000001"]),
        (
            pa.array([datetime(2024, 1, 1, tzinfo=UTC)], pa.timestamp("us", "Africa/Johannesburg")),
            ["2024-01-01T00:00:00.000000+00:00"],
        ),
        (pa.array([b"\x00\xff", b"", None]), ["00ff", "", None]),
        (pa.array([b"ab"], pa.binary(2)), ["6162"]),
        (pa.nulls(2), [None, None]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_every_value_has_one_text(array: Any, expected: list[Any]) -> None:
    """No digit is lost, no exponent appears in a decimal, no zone is guessed."""
    assert texts(array) == expected


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array([[1, None], [], None]), ["[1,null]", "[]", None]),
        (pa.array([{"a": 1, "b": 'q"\n'}, None]), ['{"a":1,"b":"q\\"\\n"}', None]),
        (pa.array([[{"at": datetime(2024, 1, 1)}]]), ['[{"at":"2024-01-01T00:00:00.000000"}]']),
        (pa.array([[Decimal("1.10")]], pa.list_(pa.decimal128(5, 2))), ["[1.10]"]),
        (pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int32())), ['{"k":1}', "{}"]),
        (pa.array([[float("inf"), 1.5]]), ['["inf",1.5]']),
        (pa.array([[True, None]]), ["[true,null]"]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_nested_values_are_json(array: Any, expected: list[Any]) -> None:
    """Lists, structs and maps, with their numbers' digits."""
    assert texts(array) == expected


def test_several_row_groups_are_one_table() -> None:
    """Rows are numbered through."""
    table = pa.table({"a": list(range(1000)), "n": [[number] for number in range(1000)]})
    records = read(PARQUET, written(table, row_group_size=70), "a", "n")
    assert rows(records) == [(str(number), f"[{number}]") for number in range(1000)]


def test_unknown_and_missing_columns_are_told() -> None:
    """What no field asks for is JSON in `_extra`; what isn't there is NULL."""
    records = read(PARQUET, written(pa.table({"a": [1, 2], "x": [1.5, None], "y": ['"', "z"]})), "a", "z")
    assert rows(records) == [("1", None), ("2", None)]
    assert extras(records) == [{"x": 1.5, "y": '"'}, {"x": None, "y": "z"}]
    assert (records.unknown_columns, records.missing_columns) == (("x", "y"), ("z",))


def test_no_rows_are_no_records() -> None:
    """A store without stock sends a file without rows."""
    assert (
        read(
            PARQUET, written(pa.table({"a": pa.array([], pa.int32()), "b": pa.array([], pa.list_(pa.int8()))})), "a"
        ).rows_read
        == 0
    )


def test_old_timestamps_do_not_wrap_around() -> None:
    """INT96 of a year beyond 2262 keeps it."""
    table = pa.table({"a": pa.array([datetime(3000, 1, 1)], pa.timestamp("us"))})
    content = written(table, use_deprecated_int96_timestamps=True)
    assert rows(read(PARQUET, content, "a")) == [("3000-01-01T00:00:00.000000",)]


def test_an_object_cut_anywhere_is_refused() -> None:
    """A prefix of a Parquet object is never one."""
    whole = written(pa.table({"a": [1, 2, 3]}))
    for size in range(len(whole)):
        assert refusal(PARQUET, whole[:size], "a").startswith("is ")
    assert refusal(PARQUET, whole[:-1], "a").startswith("is cut")


def test_a_damaged_page_is_noticed() -> None:
    """Page check sums, where the writer made them, are verified."""
    whole = written(
        pa.table({"a": ["store-1", "store-2"]}), write_page_checksum=True, compression="none", write_statistics=False
    )
    at = whole.index(b"store-2")
    assert "damaged Parquet" in refusal(PARQUET, whole[:at] + b"S" + whole[at + 1 :], "a")


def test_text_that_is_no_text_is_refused() -> None:
    """A column that says it is text is held to it."""
    whole = written(
        pa.table({"a": ["store-1", "store-2"]}), compression="none", use_dictionary=False, write_statistics=False
    )
    at = whole.index(b"store-2")
    assert "damaged Parquet" in refusal(PARQUET, whole[:at] + b"\xff" + whole[at + 1 :], "a")


def test_changed_bytes_never_end_the_process() -> None:
    """Any one byte changed: the object is read or rejected, and nothing else happens."""
    whole = written(pa.table({"a": ["x", None, "y"], "b": [[1], [], None]}))
    for at in range(len(whole)):
        for change in (0x01, 0x80, 0xFF):
            changed = whole[:at] + bytes([whole[at] ^ change]) + whole[at + 1 :]
            read_if_possible(Parquet(max_bytes=1_000_000), changed, "a", "b")


def test_columns_that_cannot_be_told_apart_are_refused() -> None:
    """Two columns of one name, or none of the declared."""
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    assert "names a column twice" in refusal(PARQUET, written(table), "a")
    assert "is not the declared Parquet" in refusal(PARQUET, written(pa.table({"x": [1]})), "a")


def test_something_else_is_refused() -> None:
    """Neither text nor nothing is Parquet."""
    assert "is not Parquet" in refusal(PARQUET, b"a,b\n1,2\n", "a")
    assert "is empty" in refusal(PARQUET, b"", "a")


def test_an_object_that_would_unpack_too_large_is_refused() -> None:
    """A few bytes can stand for millions of rows: what they would become counts."""
    content = written(pa.table({"a": pa.nulls(5_000_000, pa.string())}))
    assert len(content) < 100_000
    assert "once decompressed" in refusal(Parquet(max_bytes=1_000_000), content, "a")
