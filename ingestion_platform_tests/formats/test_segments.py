"""Segments to rows: records taken many at once are what they are one by one, whatever is in them."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingestion_platform.formats import segments
from ingestion_platform.formats.records import Field, Records
from ingestion_platform.formats.segments import DENSE_ENVELOPE, ENVELOPE, read_segment, write_segment
from ingestion_platform.stream import EVERYTHING_ELSE, BytesValues, JsonValues, Segments, Span

SOURCES = (
    "a", "b.c", "b.d", "naïve", "type", "@position", "@shard", "@arrived_at", "@key", "@headers", "@header.h", "@is_tombstone",
)  # fmt: skip
FIELDS = tuple(Field(f"column{number}", source) for number, source in enumerate(SOURCES))
ALL = Segments(values=JsonValues())
SALES = Segments(values=JsonValues(), routed_by="type", types=("sale", "né"))
REST = Segments(values=JsonValues(), routed_by="type", types=EVERYTHING_ELSE, others=("sale", "né"))
BY_HEADER = Segments(values=JsonValues(), routed_by="@header.h", types=("sale",))


class OneByOne:
    """A taker of columns that can take none."""

    @staticmethod
    def can_take(_sources: Sequence[str]) -> bool:
        """Never."""
        return False


def segment(records: Sequence[dict[str, Any]], *, schema: pa.Schema = DENSE_ENVELOPE) -> bytes:
    """A segment of records, of which a test says what matters."""
    is_dense = schema == DENSE_ENVELOPE
    rows = [
        {
            "position": number if is_dense else str(number),
            "part": None,
            "arrived_at": datetime(2024, 10, 1, 6, 0, 0, number, tzinfo=UTC),
            "key": None,
            "headers": None,
            "schema": None,
            **record,
        }
        for number, record in enumerate(records)
    ]
    batch = pa.RecordBatch.from_pylist(rows, schema=schema)
    return write_segment([batch], stream="pos", shard="0", span=Span(0, len(records) - 1))


def read(format: Segments, content: bytes) -> Records:
    """What a dataset with all of `SOURCES` makes of a segment."""
    return read_segment(format, content, FIELDS, named=None)


def values(format: Segments, *records: bytes | None) -> list[dict[str, Any]]:
    """Rows of a segment with these values."""
    return read(format, segment([{"value": one} for one in records])).table.to_pylist()


NAMES = st.sampled_from(["a", "b", "c", "d", "naïve", "type", "x", "a,b", "", 'q"q', "back\\", "line\n"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=6)
    | st.sampled_from(["sale", "né", ",", '"', "\\", "1\n2", "\0"])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)
OBJECTS = st.fixed_dictionaries(
    {},
    optional={
        "a": SCALARS,
        "b": JSON,
        "naïve": SCALARS,
        "type": st.sampled_from(["sale", "né", "z", None, 1]),
        "x": JSON,
    },
)


@st.composite
def written(draw: st.DrawFn) -> bytes | None:
    """A record's value: mostly an object, written in one of the ways that are allowed; now and then anything."""
    kind = draw(st.sampled_from(["plain", "plain", "spread", "ascii", "twice", "cut", "bytes", "nothing"]))
    if kind == "nothing":
        return None
    if kind == "bytes":
        return draw(st.binary(max_size=12))
    found = draw(OBJECTS if kind != "spread" else JSON)
    text = json.dumps(found, ensure_ascii=kind == "ascii", indent=1 if kind == "spread" else None).encode()
    if kind == "twice" and isinstance(found, dict) and found:
        other = json.dumps(draw(OBJECTS), ensure_ascii=False).encode()
        text = text[:-1] + (b"," + other[1:] if len(other) > 2 else b"}")
    return text[: draw(st.integers(0, len(text)))] if kind == "cut" else text


@st.composite
def enveloped(draw: st.DrawFn) -> dict[str, Any]:
    """A record."""
    header = st.fixed_dictionaries(
        {"name": st.sampled_from(["h", "i", '"']), "value": st.none() | st.binary(max_size=4) | st.just(b"sale")}
    )
    return {
        "value": draw(written()),
        "key": draw(st.none() | st.binary(max_size=5) | st.just(b"key")),
        "headers": draw(st.none() | st.lists(header, max_size=3)),
        "part": draw(st.none() | st.integers(0, 3)),
        "schema": None,
    }  # fmt: skip


@pytest.mark.parametrize("keeps_all", [False, True], ids=["", "value"])
@pytest.mark.parametrize("format", [ALL, SALES, REST, BY_HEADER], ids=["all", "sales", "rest", "by header"])
@pytest.mark.parametrize("schema", [DENSE_ENVELOPE, ENVELOPE], ids=["dense", "texts"])
@settings(max_examples=40, deadline=None)
@example(records=[{"value": b'{"a":1,"q\\"q":2}'}, {"value": b'{"a":2,"line\\n":[1]}'}])
@example(records=[{"value": b'{"a":1,"x":' + b"[" * 900 + b"]" * 900 + b',"x":1}'}])
@example(records=[{"value": b'{"a":1'}, {"value": b'"b":{}},{"a":2}'}])
@example(records=[{"value": b'{"a":"\\ud800"}'}, {"value": b'{"a":"\\u00e9,"}'}, {"value": b'{"\\u0061":1}'}])
@example(
    records=[{"value": b'{"b":{}}'}, {"value": b'{"b":null}'}, {"value": b'{"b":{"c":1,"c":2}}'}, {"value": b"{}"}]
)
@example(records=[{"value": b'{"a":1,"b":{"c":[1,\n2]}}'}, {"value": b'{"a":"\xff"}'}])
@given(records=st.lists(enveloped(), min_size=1, max_size=12))
def test_many_at_once_give_what_one_by_one_gives(
    format: Segments, schema: pa.Schema, keeps_all: bool, records: list[dict[str, Any]]
) -> None:
    """Rows, rejects, unknown and missing columns are the same, however records are written and batched."""
    content = segment(records, schema=schema)
    fields = (*FIELDS, Field("whole", "@value")) if keeps_all else FIELDS
    for batch_rows in (2, 16_384):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(segments, "_BATCH_ROWS", batch_rows)
            at_once = read_segment(format, content, fields, named=None)
            patch.setattr(segments, "ColumnTaker", OneByOne)
            one_by_one = read_segment(format, content, fields, named=None)
        assert at_once.table.to_pylist() == one_by_one.table.to_pylist()
        assert at_once.rejected == one_by_one.rejected
        assert at_once.unknown_columns == one_by_one.unknown_columns
        assert at_once.missing_columns == one_by_one.missing_columns


def test_numbers_keep_their_digits_and_texts_their_characters() -> None:
    """Values are the text that JSON means; what isn't a text stays as it is written."""
    found = values(ALL, b'{"a": 1.10, "b": {"c": "\\u00e9\\n", "d": [1, 2.50]}, "na\xc3\xafve": true}')
    assert [found[0][f"column{number}"] for number in range(4)] == ["1.10", "é\n", "[1, 2.50]", "true"]
    assert found[0]["_extra"] is None


def test_the_type_is_no_unknown_column_though_no_column_is_made_of_it() -> None:
    """A dataset that doesn't want the type as a column has declared it all the same."""
    fields = (Field("a", "a"),)
    content = segment([{"value": b'{"type":"sale","a":1}'}, {"value": b'{"type":"sale","a":2,"z":3}'}])
    found = read_segment(SALES, content, fields, named=None)
    assert [(row["a"], row["_extra"]) for row in found.table.to_pylist()] == [("1", None), ("2", '{"z":3}')]
    assert found.unknown_columns == ("z",)


def test_what_isn_t_a_record_is_kept_with_its_bytes_and_position() -> None:
    """The reject can be turned back into the bytes that came."""
    content = segment([{"value": b'{"a":1}'}, {"value": b"\xff\x00{"}, {"value": b'{"a":2}'}])
    found = read(ALL, content)
    assert [row["_row"] for row in found.table.to_pylist()] == [1, 3]
    (rejected,) = found.rejected
    assert json.loads(rejected.record) == {"shard": "0", "position": "1", "arrived_at": "2024-10-01T06:00:00.000001+00:00", "key": None,
                                           "value_base64": "/wB7"}  # fmt: skip


def test_members_that_nobody_declared_are_taken_along_however_many_there_are() -> None:
    """Learned where they come again and again; the order of their names is that of the result, whatever that in the records is."""
    records = [b'{"z":1.50,"a":%d,"b":{"y":[1,2],"c":"in"}}' % number for number in range(50)]
    records[10] = b'{"b":{"c":"in"},"a":10,"new":null,"z":{"x":1}}'
    records[11] = b'{"a":11}'
    found = values(ALL, *records)
    assert [row["column0"] for row in found] == [str(number) for number in range(50)]
    assert found[0]["_extra"] == '{"b":{"y":[1,2]},"z":1.50}'
    assert (found[10]["_extra"], found[11]["_extra"]) == ('{"new":null,"z":{"x":1}}', None)
    crowded = [b'{"a":1,"m%d":%d}' % (number, number) for number in range(200)]
    assert [row["_extra"] for row in values(ALL, *crowded)] == [f'{{"m{one}":{one}}}' for one in range(200)]


def test_a_rare_type_is_found_among_others() -> None:
    """Types are looked at first where most records are others'."""
    records = [b'{"type":"z","a":%d,"more":{"b":1}}' % number for number in range(100)]
    records[37] = b'{"type":"n\\u00e9","a":"here"}'
    records[61] = b'{"type":"sale","a":"and","x":"here"}'
    found = values(SALES, *records)
    assert [(row["_row"], row["column0"], row["_extra"]) for row in found] == [
        (38, "here", None),
        (62, "and", '{"x":"here"}'),
    ]


def test_bytes_that_aren_t_looked_into_are_shown_as_hex() -> None:
    """A tombstone has none."""
    format = Segments(values=BytesValues("hex"))
    found = read_segment(format, segment([{"value": b"\xff"}, {"value": None}]), (Field("v", "@value"),), named=None)
    assert [row["v"] for row in found.table.to_pylist()] == ["ff", None]
