"""One captured change: what Debezium's, Maxwell's and DynamoDB's values mean, and what is no change."""

import json
from typing import Any

import pytest

from ingestion_platform.change_log import Debezium, DynamoDbExport, Maxwell
from ingestion_platform.formats.change_records import change_decoder, without_told
from ingestion_platform.formats.json_members import NotAnObject
from ingestion_platform.formats.records import Field


def decoded(
    format: Debezium | Maxwell | DynamoDbExport, value: Any, *fields: Field, key: str = ""
) -> list[dict[str, Any]]:
    """A change's objects."""
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return [json.loads(one) for one in change_decoder(format, fields, key=key)(text)]


def row_of(value: Any, kind: str = "", format: Debezium | None = None, *, schema: dict[str, Any] | None = None) -> Any:
    """What a column's value is taken for."""
    event: dict[str, Any] = {"op": "c", "after": {"it": value}, "before": None, "source": {"lsn": 1}}
    if schema is not None:
        row = {"type": "struct", "field": "after", "fields": [{"field": "it", **schema}]}
        event = {"schema": {"type": "struct", "fields": [row]}, "payload": event}
    (found,) = decoded(format or Debezium(), event, Field("it", "it", kind=kind))
    return found.get("it")


def named(name: str, **parameters: str) -> dict[str, Any]:
    """A column's schema."""
    return {"type": "bytes", "name": name, "parameters": parameters}


CONNECT = "org.apache.kafka.connect.data."

WITH_SCHEMA: dict[str, tuple[Any, dict[str, Any], Any]] = {
    "decimal": ("AeJA", named(CONNECT + "Decimal", scale="2"), "1234.56"),
    "decimal below 0": ("/w==", named(CONNECT + "Decimal", scale="0"), "-1"),
    "large decimal": ("f" + "/" * 42 + "8=", named(CONNECT + "Decimal", scale="38"), None),
    "decimal of any scale": ({"scale": 3, "value": "BNI="}, named("io.debezium.data.VariableScaleDecimal"), "1.234"),
    "date": (19997, named("io.debezium.time.Date"), "2024-10-01"),
    "date of Connect": (-1, named(CONNECT + "Date"), "1969-12-31"),
    "milliseconds": (1727769600123, named("io.debezium.time.Timestamp"), "2024-10-01 08:00:00.123000"),
    "milliseconds of Connect": (-1, named(CONNECT + "Timestamp"), "1969-12-31 23:59:59.999000"),
    "microseconds": (1727769600123456, named("io.debezium.time.MicroTimestamp"), "2024-10-01 08:00:00.123456"),
    "nanoseconds": (1727769600123456789, named("io.debezium.time.NanoTimestamp"), "2024-10-01 08:00:00.123456789"),
    "with a zone": ("2024-10-01T08:00:00.5Z", named("io.debezium.time.ZonedTimestamp"), "2024-10-01T08:00:00.5Z"),
    "time": (3_723_000_000, named("io.debezium.time.MicroTime"), "01:02:03"),
    "json": ('{"a":1}', named("io.debezium.data.Json"), '{"a":1}'),
    "a number": (7, {"type": "int32"}, 7),
    "text that looks like base64": ("1234", {"type": "string"}, "1234"),
}  # fmt: skip


@pytest.mark.parametrize("case", WITH_SCHEMA)
def test_a_value_is_what_its_schema_says(case: str) -> None:
    """Exact numbers with all their digits, days and moments in ISO 8601; a moment without a zone stays without."""
    value, schema, expected = WITH_SCHEMA[case]
    found = row_of(value, "DECIMAL(12,2)" if case.startswith("text") else "", schema=schema)
    if case == "large decimal":
        assert len(found.replace(".", "").lstrip("0")) > 70
    else:
        assert found == expected


WITHOUT: dict[str, tuple[Any, str, Debezium, Any]] = {
    "date": (19997, "DATE", Debezium(), "2024-10-01"),
    "date as text": ("2024-10-01", "DATE", Debezium(), "2024-10-01"),
    "moment": (1727769600123456, "TIMESTAMP", Debezium(timestamps="microseconds"), "2024-10-01 08:00:00.123456"),
    "moment as text": ("2024-10-01T08:00:00Z", "TIMESTAMP", Debezium(), "2024-10-01T08:00:00Z"),
    "decimal in base64": ("AeJA", "DECIMAL(12,2)", Debezium(), "1234.56"),
    "decimal as text": ("12.34", "DECIMAL(12,2)", Debezium(), "12.34"),
    "text for certain": ("1234", "DECIMAL(12,2)", Debezium(decimals="text"), "1234"),
    "base64 for certain": ("1234", "DECIMAL(12,2)", Debezium(decimals="base64"), "-26588.24"),
    "a number": (12.5, "DECIMAL(12,2)", Debezium(), 12.5),
    "whole numbers stay": (1727769600123, "BIGINT", Debezium(), 1727769600123),
}  # fmt: skip


@pytest.mark.parametrize("case", WITHOUT)
def test_without_a_schema_the_declared_type_says(case: str) -> None:
    """And the declaration, where a type can be written in several ways."""
    value, kind, format, expected = WITHOUT[case]
    assert row_of(value, kind, format) == expected


@pytest.mark.parametrize(
    ("value", "kind", "why"),
    [
        (1727769600, "TIMESTAMP", "neither a schema nor timestamps"),
        ("1234", "DECIMAL(12,2)", "a number or one in base64"),
        ("n/a", "DECIMAL(12,2)", "no number in base64"),
        (10**12, "DATE", "out of all years"),
    ],
)
def test_what_could_be_either_is_no_value(value: Any, kind: str, why: str) -> None:
    """Nothing is guessed: the change is set aside, and says why."""
    with pytest.raises(NotAnObject, match=why):
        row_of(value, kind)


NONE: dict[str, Any] = {
    "no object": b"[1]",
    "no JSON": b"{",
    "no op": {"after": {"id": 1}},
    "an unknown op": {"op": "x"},
    "no row": {"op": "c", "after": None},
    "a column twice": b'{"op": "c", "after": {"id": 1, "id": 2}}',
    "a row that is none": {"op": "c", "after": 7},
    "a deletion of nothing": {"op": "d"},
    "a file without a number": {"op": "c", "after": {}, "source": {"file": "binlog", "pos": 4}},
    "a schema that is none": {"schema": {"fields": 7}, "payload": {"op": "c", "after": {"a": 1}}},
    "a schema without scale": {
        "schema": {"fields": [{"field": "after", "fields": [{"field": "a", "name": CONNECT + "Decimal"}]}]},
        "payload": {"op": "c", "after": {"a": "AQ=="}},
    },
}


@pytest.mark.parametrize("case", NONE)
def test_what_is_no_event_of_debezium_says_why(case: str) -> None:
    """It is kept as it stands, and stops nothing."""
    with pytest.raises(NotAnObject, match=r"is|has|holds"):
        decoded(Debezium(), NONE[case])


def position(source: dict[str, Any], op: str = "c") -> str | None:
    """The position of a change."""
    (found,) = decoded(Debezium(), {"op": op, "after": {"id": 1}, "source": source})
    position: str | None = found.get("@source_position")
    return position


def test_positions_ascend_as_the_source_s_log_does() -> None:
    """PostgreSQL, MySQL and SQL Server; what was found at the beginning comes before what happened there."""
    assert [position({"lsn": 7}, "r"), position({"lsn": 7, "snapshot": True}), position({"lsn": 7})] == [
        "7:0",
        "7:0",
        "7:1",
    ]
    mysql = [
        position({"file": "bin.000009", "pos": 900, "row": 0}),
        position({"file": "bin.000009", "pos": 900, "row": 1}),
        position({"file": "bin.000010", "pos": 4, "row": 0}),
        position({"file": "bin.1000000", "pos": 4, "row": 0}),
    ]
    assert mysql == sorted(mysql, key=str)
    server = [
        position({"commit_lsn": "00000027:00000758:0005", "change_lsn": "00000027:00000758:0002"}),
        position({"commit_lsn": "00000027:00000758:0005", "change_lsn": "00000027:00000758:0003"}),
        position({"commit_lsn": "00000027:0000ff58:0001", "change_lsn": "00000027:00000758:0002"}),
    ]
    assert server == sorted(server, key=str)
    assert position({"file": "", "pos": 0}) is None


def test_a_change_of_the_key_is_a_removal_and_an_insertion() -> None:
    """Of Debezium and of Maxwell; a former image that says nothing of the key changes none."""
    key = Field("id", "id", kind="INTEGER", is_key=True)
    debezium = {"op": "u", "before": {"id": 1, "name": "a"}, "after": {"id": 2, "name": "b"}, "source": {"lsn": 1}}
    maxwell = {"type": "update", "data": {"id": 2, "name": "b"}, "old": {"id": 1}, "ts": 1}
    for found in (decoded(Debezium(), debezium, key), decoded(Maxwell(), maxwell, key)):
        assert [(one["@operation"], one["id"]) for one in found] == [("delete", 1), ("insert", 2)]
    (same,) = decoded(Maxwell(), {**maxwell, "old": {"name": "a"}}, key)
    assert (same["@operation"], same["@before"]) == ("update", {"name": "a"})


def test_what_maxwell_writes_beside_changes_changes_nothing() -> None:
    """The beginning and the end of a bootstrap, and changes of tables; its rows are those found."""
    types = ["bootstrap-start", "bootstrap-insert", "bootstrap-complete", "table-create", "insert"]
    found = [
        decoded(Maxwell(), {"type": one, "table": "t", "ts": 1, "data": {"id": 1}})[0]["@operation"] for one in types
    ]
    assert found == ["message", "snapshot", "message", "message", "insert"]
    for value in (
        {"type": "what"},
        {"table": "t"},
        {"type": "insert", "ts": 1},
        {"type": "insert", "data": {}, "ts": "now"},
    ):
        with pytest.raises(NotAnObject, match="no change event of Maxwell"):
            decoded(Maxwell(), value)


def test_the_last_change_of_a_transaction_comes_last() -> None:
    """It has no offset."""
    told = {"type": "insert", "data": {"id": 1}, "ts": 1, "position": "bin.000002:700"}
    first = decoded(Maxwell(), {**told, "xoffset": 11})[0]["@source_position"]
    last = decoded(Maxwell(), {**told, "commit": True})[0]["@source_position"]
    assert first.partition(":")[0] == last.partition(":")[0]
    assert int(first.partition(":")[2]) < int(last.partition(":")[2])


@pytest.mark.parametrize("format", [Debezium(partial_updates=True), Maxwell(partial_updates=True)])
def test_an_update_may_have_only_what_has_changed(format: Debezium | Maxwell) -> None:
    """Where it is declared so: the declared columns that it doesn't have weren't sent."""
    fields = (Field("id", "id", is_key=True), Field("name", "name"), Field("city", "address.city"))
    value: dict[str, Any] = (
        {"op": "u", "after": {"id": 1, "name": "a"}}
        if isinstance(format, Debezium)
        else {"type": "update", "data": {"id": 1, "name": "a"}}
    )
    (found,) = decoded(format, value, *fields)
    assert found["@unsent"] == ["address"]


def test_values_that_weren_t_sent_are_known_in_each_form() -> None:
    """As text, bytes, an array or a map; and are no values."""
    mark = "__debezium_unavailable_value"
    forms = [mark, [mark], {mark: mark}, "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==", mark.encode().hex()]
    for form in forms:
        (found,) = decoded(Debezium(), {"op": "u", "after": {"id": 1, "it": form}})
        assert found["@unsent"] == ["it"]
        assert "it" not in found


def test_lines_of_exports_are_items_and_changes() -> None:
    """Digits stay; an item of a full export stands where the export does."""
    key = "AWSDynamoDB/01693685827463-2d8752fd/data/a.json"
    (item,) = decoded(DynamoDbExport(), {"Item": {"id": {"S": "a"}, "price": {"N": "1.50"}}}, key=key)
    assert (item["@operation"], item["@source_position"], item["price"]) == ("snapshot", "1693685827463000:0", 1.5)
    written = {"WriteTimestampMicros": {"N": "1693685827463001"}}
    (removed,) = decoded(
        DynamoDbExport(), {"Metadata": written, "Keys": {"id": {"S": "a"}}, "OldImage": {"n": {"N": "1"}}}
    )
    assert (removed["@operation"], removed["id"], removed["n"]) == ("delete", "a", 1)
    assert removed["@changed_at"] == "2023-09-02 20:17:07.463001+00:00"
    broken: list[dict[str, Any]] = [{"Keys": {}}, {"item": {}}, {"Item": {"id": "a"}}, {"Item": 7}]
    for value in broken:
        with pytest.raises(NotAnObject):
            decoded(DynamoDbExport(), value)


def test_what_is_left_over_is_the_row_s() -> None:
    """Not what is told beside it."""
    assert without_told('{"@operation":"insert","b":[1, 2]}') == '{"b":[1, 2]}'
    assert without_told('{"@table":"t"}') is None
    assert without_told('{"b":1}') == '{"b":1}'
