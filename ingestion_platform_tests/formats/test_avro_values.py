"""Avro values as JSON objects: what was written is what is said, with every digit; and whatever bytes come, nothing worse than a reason."""

import base64
import io
import json
import struct
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion_platform.formats.avro_values import avro_decoder
from ingestion_platform.formats.json_members import NotAnObject, Taker
from ingestion_platform.stream import AvroValues


def written(schema: Any, value: Any) -> bytes:
    """A value as the library writes it."""
    file = io.BytesIO()
    fastavro.schemaless_writer(file, fastavro.parse_schema(schema), value)
    return file.getvalue()


def record(*fields: Any, **more: Any) -> dict[str, Any]:
    """A schema with fields `f0`, `f1` …."""
    named = [{"name": f"f{number}", "type": kind} for number, kind in enumerate(fields)]
    return {"type": "record", "name": "R", "namespace": "shop", "fields": named, **more}


def decoded(schema: Any, value: bytes) -> str:
    """The JSON of a value."""
    return avro_decoder(AvroValues(schema=json.dumps(schema)), {})(value, None).decode()


def said(schema: Any, value: Any) -> Any:
    """What we say of a field of a type."""
    return json.loads(decoded(record(schema), written(record(schema), {"f0": value})))["f0"]


def field(schema: Any, raw: bytes) -> str:
    """The JSON of a field of a type, of bytes as they are."""
    return decoded(record(schema), raw).removeprefix('{"f0":').removesuffix("}")


def zigzag(number: int) -> bytes:
    """A long as Avro has it."""
    number = (number << 1) ^ (number >> 63)
    found = b""
    while number > 0x7F:
        found += bytes([number & 0x7F | 0x80])
        number >>= 7
    return found + bytes([number])


PLAIN: list[tuple[Any, st.SearchStrategy[Any]]] = [
    ("null", st.none()),
    ("boolean", st.booleans()),
    ("int", st.integers(-(2**31), 2**31 - 1)),
    ("long", st.integers(-(2**63), 2**63 - 1)),
    ("double", st.floats(allow_nan=False, allow_infinity=False)),
    ("float", st.floats(allow_nan=False, allow_infinity=False, width=32)),
    ("string", st.text(max_size=10)),
    ({"type": "array", "items": "long"}, st.lists(st.integers(-100, 100), max_size=5)),
    ({"type": "map", "values": "string"}, st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=4)),
    (["null", "string"], st.none() | st.text(max_size=5)),
    ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, st.sampled_from(["A", "B"])),
    (
        {"type": "record", "name": "Inner", "fields": [{"name": "x", "type": ["null", "int"]}]},
        st.fixed_dictionaries({"x": st.none() | st.integers(-5, 5)}),
    ),
]


@given(st.data())
def test_what_was_written_is_what_is_said(data: st.DataObject) -> None:
    """Every plain type, in a record of several."""
    chosen = data.draw(st.lists(st.sampled_from(range(len(PLAIN))), unique=True, max_size=6))
    schema = record(*(PLAIN[number][0] for number in chosen))
    value = {f"f{place}": data.draw(PLAIN[number][1]) for place, number in enumerate(chosen)}
    assert json.loads(decoded(schema, written(schema, value))) == value


@given(
    st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**20), max_value=10**20), st.booleans()
)
def test_decimals_keep_every_digit(value: Decimal, is_fixed: bool) -> None:
    """As JSON numbers, written out."""
    kind = {"type": "fixed", "name": "F", "size": 16} if is_fixed else {"type": "bytes"}
    schema = record({**kind, "logicalType": "decimal", "precision": 30, "scale": 4})
    text = decoded(schema, written(schema, {"f0": value}))
    assert json.loads(text, parse_float=Decimal)["f0"] == value
    assert "E" not in text
    assert len(text.partition(".")[2]) == 5


def test_a_decimal_has_more_digits_than_declared() -> None:
    """Nobody rounds it: the column's own type judges it."""
    schema = {"type": "bytes", "logicalType": "decimal", "precision": 3, "scale": 2}
    raw = (123456789).to_bytes(5, "big", signed=True)
    assert field(schema, zigzag(5) + raw) == "1234567.89"
    assert field({**schema, "scale": 0}, zigzag(5) + raw) == "123456789"
    assert field(schema, zigzag(1) + b"\xff") == "-0.01"
    assert field(schema, zigzag(0)) == "0.00"


def test_a_decimal_that_is_none_is_bytes() -> None:
    """As Avro's specification wants it of a logical type that isn't valid."""
    for scale in (-1, 10**9, "2"):
        assert said({"type": "bytes", "logicalType": "decimal", "precision": 3, "scale": 0}, Decimal(1)) == 1
        assert field({"type": "bytes", "logicalType": "decimal", "scale": scale}, zigzag(1) + b"\x01") == '"AQ=="'


MOMENT = datetime(2024, 10, 1, 6, 30, 0, 123456, UTC)


@pytest.mark.parametrize(
    ("kind", "logical", "raw", "expected"),
    [
        ("int", "date", 20_000, '"2024-10-04"'),
        ("int", "time-millis", 3_600_001, '"01:00:00.001000"'),
        ("long", "time-micros", 86_399_999_999, '"23:59:59.999999"'),
        ("long", "timestamp-millis", 1_727_764_200_123, '"2024-10-01T06:30:00.123000+00:00"'),
        ("long", "timestamp-micros", 1_727_764_200_123_456, '"2024-10-01T06:30:00.123456+00:00"'),
        ("long", "timestamp-nanos", 1_727_764_200_123_456_789, '"2024-10-01T06:30:00.123456789+00:00"'),
        ("long", "timestamp-millis", -1, '"1969-12-31T23:59:59.999000+00:00"'),
        ("long", "local-timestamp-millis", 0, '"1970-01-01T00:00:00"'),
        ("long", "local-timestamp-micros", 1, '"1970-01-01T00:00:00.000001"'),
        ("long", "local-timestamp-nanos", -1, '"1969-12-31T23:59:59.999999999"'),
        ("long", "of-tomorrow", 7, "7"),
    ],
)
def test_times_are_iso_8601(kind: str, logical: str, raw: int, expected: str) -> None:
    """Moments with their offset, local times without; what isn't known is what it is made of."""
    assert field({"type": kind, "logicalType": logical}, zigzag(raw)) == expected


@pytest.mark.parametrize(
    ("kind", "logical", "raw"),
    [
        ("int", "date", 2**31 - 1),
        ("int", "time-millis", 86_400_000),
        ("long", "time-micros", -1),
        ("long", "timestamp-millis", 2**62),
        ("long", "timestamp-micros", -(2**63)),
        ("long", "local-timestamp-millis", 2**63 - 1),
    ],
)
def test_times_that_no_calendar_has_are_refused(kind: str, logical: str, raw: int) -> None:
    """The record is set aside, with a reason."""
    with pytest.raises(NotAnObject, match="is not Avro of its schema"):
        field({"type": kind, "logicalType": logical}, zigzag(raw))


def test_other_logical_types() -> None:
    """UUIDs as text, durations as ISO 8601 has them, bytes in base64."""
    name = UUID("12345678-1234-5678-1234-567812345678")
    assert said({"type": "string", "logicalType": "uuid"}, str(name)) == str(name)
    assert field({"type": "string", "logicalType": "uuid"}, zigzag(3) + b"abc") == '"abc"'
    assert field({"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}, name.bytes) == f'"{name}"'
    raw = struct.pack("<III", 14, 3, 5250)
    assert field({"type": "fixed", "name": "D", "size": 12, "logicalType": "duration"}, raw) == '"P14M3DT5.250S"'
    assert base64.b64decode(said("bytes", b"\0\xff")) == b"\0\xff"
    assert base64.b64decode(said({"type": "fixed", "name": "F", "size": 2}, b"\xff\0")) == b"\xff\0"


def test_floats_that_are_no_numbers_are_text() -> None:
    """JSON has no word for them, and a column of DOUBLE takes these."""
    for value, text in ((float("nan"), "NaN"), (float("inf"), "Infinity"), (float("-inf"), "-Infinity")):
        assert said("double", value) == said("float", value) == text
        assert said(["null", "double"], value) == text


def test_dotted_paths_reach_into_records_unions_and_maps() -> None:
    """What a dataset's columns name is found."""
    schema = record(
        ["null", {"type": "record", "name": "P", "fields": [{"name": "m", "type": {"type": "map", "values": "int"}}]}]
    )
    text = decoded(schema, written(schema, {"f0": {"m": {"k": 7}}}))
    assert Taker(["f0.m.k"]).take(text.encode())[0] == ["7"]


def test_names_are_found_in_their_namespaces() -> None:
    """A type is used again by its short name and by its full one, in a namespace inside another."""
    inner = {"type": "record", "name": "other.I", "fields": [{"name": "x", "type": "int"}]}
    same = {"type": "enum", "name": "I", "symbols": ["A"]}
    schema = record(inner, same, "I", "other.I", "shop.I", {"type": "array", "items": "other.I"})
    value = {"f0": {"x": 1}, "f1": "A", "f2": "A", "f3": {"x": 2}, "f4": "A", "f5": [{"x": 3}]}
    assert json.loads(decoded(schema, written(schema, value))) == value


LIST = {
    "type": "record",
    "name": "N",
    "fields": [{"name": "v", "type": "int"}, {"name": "next", "type": ["null", "N"]}],
}


def test_types_that_hold_themselves() -> None:
    """A list of records is read; one that is nested by the thousand is refused, and the process lives."""
    value = {"v": 1, "next": {"v": 2, "next": None}}
    assert json.loads(decoded(LIST, written(LIST, value))) == value
    for depth in (5_000, 1_000_000):
        with pytest.raises(NotAnObject, match="nested too deeply"):
            decoded(LIST, b"\x02\x02" * depth + b"\x02\x00")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": "null"},
        {"type": "array", "items": {"type": "record", "name": "E", "fields": []}},
        {"type": "array", "items": {"type": "fixed", "name": "Z", "size": 0}},
        {
            "type": "array",
            "items": {
                "type": "record",
                "name": "Wide",
                "fields": [{"name": "a", "type": "int"}, *({"name": f"n{n}", "type": "null"} for n in range(500))],
            },
        },
    ],
)
def test_arrays_of_nothing_are_refused(schema: Any) -> None:
    """A few bytes would say that there are a quintillion items."""
    with pytest.raises(NotAnObject, match="take next to no bytes"):
        field(schema, zigzag(2**60))


@pytest.mark.parametrize("holds", [{"type": "array", "items": "R"}, {"type": "map", "values": "R"}, ["null", "R"]])
def test_records_of_nothing_inside_themselves_are_refused(holds: Any) -> None:
    """A thousand nulls for the one byte of an empty array; also where another record is in between."""
    nulls = ["null"] * 1000
    between = {"type": "record", "name": "B", "fields": [{"name": "r", "type": holds}]}
    for schema in (record(holds, *nulls), record(between, *nulls)):
        with pytest.raises(NotAnObject, match=r"takes? next to no bytes"):
            decoded(schema, zigzag(1000) + b"\0" * 1001)


def test_trees_of_records_are_not() -> None:
    """A record with a list of its own kind, and some fields."""
    tree = record({"type": "array", "items": "R"}, "string", ["null", "int"], "null")
    value = {"f0": [{"f0": [], "f1": "b", "f2": None, "f3": None}], "f1": "a", "f2": 1, "f3": None}
    assert json.loads(decoded(tree, written(tree, value))) == value


def test_arrays_of_large_optional_records_are_not() -> None:
    """Many fields are fine where each takes a byte."""
    wide = {"type": "record", "name": "W", "fields": [{"name": f"n{n}", "type": ["null", "int"]} for n in range(300)]}
    assert said({"type": "array", "items": ["null", wide]}, [None, {f"n{n}": n for n in range(300)}])[1]["n7"] == 7


@pytest.mark.parametrize("is_recursive", [False, True])
def test_a_negative_choice_is_none(is_recursive: bool) -> None:
    """The library would count from the end: -1 of a union, or of an enum, is the last one."""
    enum = {"type": "enum", "name": "E", "symbols": ["a", "b"]}
    union = ["null", "int", enum]
    rest = [["null", "R"]] if is_recursive else []
    tail = b"\0" * is_recursive
    inner = {"type": "record", "name": "I", "fields": [{"name": "x", "type": ["null", "int"]}]}
    for kind, good, bad in (
        (["null", "int"], b"\2\2", b"\1\2"),
        (union, b"\4\2", b"\4\1"),
        (enum, b"\2", b"\3"),
        ({"type": "array", "items": ["null", "int"]}, b"\2\2\2\0", b"\2\1\2\0"),
        ({"type": "map", "values": ["null", "int"]}, b"\2\0\2\2\0", b"\2\0\1\2\0"),
        ({"type": "array", "items": inner}, b"\2\2\2\0", b"\2\1\2\0"),
    ):
        assert decoded(record(kind, *rest), good + tail)
        with pytest.raises(NotAnObject, match="is chosen in a union or an enum"):
            decoded(record(kind, *rest), bad + tail)
    again = record(inner, "I", {"type": "array", "items": "I"}, *rest)
    for raw in (b"\0\1\2\0", b"\0\0\2\1\2\0"):
        with pytest.raises(NotAnObject, match="is chosen in a union or an enum"):
            decoded(again, raw + tail)


def test_a_length_that_is_not_there_takes_no_memory() -> None:
    """Sizes are believed once the bytes have come."""
    began = time.monotonic()
    for kind in ("bytes", "string", {"type": "array", "items": "int"}, {"type": "map", "values": "int"}):
        for length in (2**62, 2**40, -(2**62), -1):
            with pytest.raises(NotAnObject):
                field(kind, zigzag(length) + b"\x02ab")
    assert time.monotonic() - began < 5


HOSTILE = record(
    "string",
    ["null", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}],
    {"type": "array", "items": {"type": "map", "values": ["null", "long", "string"]}},
    {"type": "enum", "name": "E", "symbols": ["A", "B"]},
    {"type": "long", "logicalType": "timestamp-micros"},
    "double",
    {"type": "fixed", "name": "F", "size": 3},
    "boolean",
)
GOOD = written(
    HOSTILE,
    {
        "f0": "é",
        "f1": Decimal("1.25"),
        "f2": [{"k": 1, "l": "x"}],
        "f3": "B",
        "f4": MOMENT,
        "f5": 0.5,
        "f6": b"abc",
        "f7": True,
    },
)


@settings(max_examples=400)
@given(st.binary(max_size=60) | st.integers(0, len(GOOD)).map(lambda cut: GOOD[:cut]))
def test_any_bytes_are_an_object_or_have_a_reason(raw: bytes) -> None:
    """Nothing else is raised, and an object is whole JSON."""
    with suppress(NotAnObject):
        assert isinstance(json.loads(decoded(HOSTILE, raw)), dict)


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_one_flipped_byte_does_no_harm(place: int, byte: int) -> None:
    """As any bytes, but nearer to good ones."""
    raw = bytearray(GOOD)
    raw[place] = byte
    test_any_bytes_are_an_object_or_have_a_reason.hypothesis.inner_test(bytes(raw))  # type: ignore[attr-defined]


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(max_size=8)
        | st.sampled_from(["record", "int", "null", "R"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "type",
                        "name",
                        "fields",
                        "items",
                        "values",
                        "symbols",
                        "size",
                        "namespace",
                        "logicalType",
                        "scale",
                    ]
                ),
                inner | st.sampled_from(["record", "array", "map", "enum", "fixed", "decimal", "bytes"]),
                max_size=5,
            )
        ),
        max_leaves=12,
    ),
    st.binary(max_size=10),
)
def test_any_schema_is_used_or_has_a_reason(schema: Any, raw: bytes) -> None:
    """A registry may hold what it likes."""
    with suppress(NotAnObject):
        decoded(schema, raw)


def test_schemas_that_cannot_be_used_say_why() -> None:
    """Not JSON, not a record, not defined, defined twice, nested by the thousand."""
    deep: Any = "int"
    for _ in range(200):
        deep = {"type": "array", "items": deep}
    twice = {"type": "enum", "name": "T", "symbols": ["A"]}
    for schema, why in (
        (record("Z"), "doesn't define"),
        (record(twice, twice), "twice"),
        (record(deep), "nested too deeply"),
        ("string", "is no record"),
        ({"type": "array", "items": "int"}, "is no record"),
        (None, "where a type should be"),
    ):
        with pytest.raises(NotAnObject, match=why):
            decoded(schema, b"\x00")
    decode = avro_decoder(AvroValues(), {"7": "{", "8": "[" * 100_000})
    for name in ("7", "8"):
        with pytest.raises(NotAnObject, match="schema that"):
            decode(b"\0\0\0\0\7", name)


def test_bytes_after_the_end_are_a_reason() -> None:
    """They say that it was written with another schema."""
    with pytest.raises(NotAnObject, match="1 bytes are left"):
        decoded(HOSTILE, GOOD + b"\0")


def test_framed_values_are_read_with_the_schema_they_name() -> None:
    """Several schemas in one segment; a value without one, or without a frame, says so."""
    schemas = {"1": json.dumps(record("int")), "2": json.dumps(record("string"))}
    decode = avro_decoder(AvroValues(), schemas)
    assert decode(b"\0\0\0\0\1" + zigzag(5), "1") == b'{"f0":5}'
    assert decode(b"\0\0\0\0\2" + zigzag(1) + b"x", "2") == b'{"f0":"x"}'
    with pytest.raises(NotAnObject, match="of schema 3, which the schema registry didn't know"):
        decode(b"\0\0\0\0\3abc", None)
    for value in (b"", b'{"a":1}', b"\0\0"):
        with pytest.raises(NotAnObject, match="as schema registries frame it"):
            decode(value, None)


def test_the_library_stays_as_it_was_for_others() -> None:
    """Our readers of logical types have names of their own."""
    schema = record({"type": "long", "logicalType": "timestamp-micros"})
    decoded(schema, zigzag(0))
    value = fastavro.schemaless_reader(io.BytesIO(zigzag(1)), fastavro.parse_schema(schema), None)
    assert value == {"f0": datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=1)}
