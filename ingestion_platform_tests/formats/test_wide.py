"""Ten thousand columns, in every format: what is refused, and that a declaration may allow them."""

import io
import json
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingestion_platform.errors import ObjectRejected
from ingestion_platform.format import Avro, Bounded, Csv, Excel, Format, Json, JsonLines, Parquet, Xml
from ingestion_platform.formats import read_records
from ingestion_platform_tests.formats.reading import extras, fields, read, rejections, rows
from ingestion_platform_tests.formats.workbooks import avro, sheet, text, workbook

MANY = tuple(f"c{number}" for number in range(10_000))


def csv(names: Sequence[str]) -> bytes:
    """A row of x in each column."""
    return f"{','.join(names)}\n{','.join('x' for _ in names)}\n".encode()


def parquet(names: Sequence[str]) -> bytes:
    """As above."""
    sink = io.BytesIO()
    pq.write_table(pa.table({name: ["x"] for name in names}), sink, write_page_checksum=True)
    return sink.getvalue()


@pytest.mark.parametrize(("format", "written"), [(Csv(), csv), (Parquet(), parquet)], ids=["csv", "parquet"])
def test_an_object_of_too_many_columns_is_refused(format: Format, written: object) -> None:
    """With how many it has, how many are allowed, and what allows more; then it is read."""
    assert callable(written)
    assert isinstance(format, Bounded)
    content = written(MANY)
    with pytest.raises(ObjectRejected, match="has 10,000 columns, more than the 5,000 allowed") as told:
        read_records(format, content, fields("c7"))
    assert "max_columns" in told.value.hint
    records = read_records(replace(format, max_columns=10_000), content, fields("c7"))
    assert rows(records) == [("x",)]
    assert len(records.unknown_columns) == 9_999


def test_a_sheet_of_too_many_columns_is_refused() -> None:
    """Excel itself ends at 16,384."""
    content = workbook(("S", sheet(MANY[:20], MANY[:20])))
    with pytest.raises(ObjectRejected, match="has 20 columns, more than the 19 allowed"):
        read_records(Excel(max_columns=19), content, fields("c7"))
    assert rows(read_records(Excel(max_columns=20), content, fields("c7"))) == [("c7",)]


def json_lines(names: Sequence[str]) -> bytes:
    """A good record, a wide one, and a good one."""
    good = json.dumps({"c7": "c7"})
    return f"{good}\n{json.dumps(dict(zip(names, names, strict=True)))}\n{good}\n".encode()


def json_list(names: Sequence[str]) -> bytes:
    """As above."""
    return b"[" + json_lines(names).strip().replace(b"\n", b",") + b"]"


def xml(names: Sequence[str]) -> bytes:
    """As above."""
    good = "<r><c7>c7</c7></r>"
    return f"<m>{good}<r>{''.join(f'<{name}>{name}</{name}>' for name in names)}</r>{good}</m>".encode()


def avro_file(names: Sequence[str]) -> bytes:
    """Three wide records: all records of a file have the same columns."""
    schema = {"type": "record", "name": "r", "fields": [{"name": name, "type": "string"} for name in names]}
    return avro(schema, [[b"".join(text(name.encode()) for name in names)] * 3])


@pytest.mark.parametrize(
    ("format", "content", "good"),
    [
        (JsonLines(), json_lines(MANY), 2),
        (Json("[*]"), json_list(MANY), 2),
        (Xml(record="m/r"), xml(MANY), 2),
        (Avro(), avro_file(MANY), 0),
    ],
    ids=["json lines", "json", "xml", "avro"],
)
def test_a_record_of_too_many_members_costs_itself(format: Format, content: bytes, good: int) -> None:
    """It is set aside, and nothing else is disturbed; where so many are declared to be right, it is read."""
    assert isinstance(format, Bounded)
    records = read(format, content, "c7")
    assert rows(records) == [("c7",)] * good
    assert len(rejections(records)) == 3 - good
    assert all("more than the 5,000 allowed" in reason for _, reason, _ in rejections(records))
    assert rows(read(replace(format, max_columns=10_000), content, "c7")) == [("c7",)] * 3


@pytest.mark.parametrize("way", ["json lines", "xml"])
def test_names_without_end_are_not_all_told(way: str) -> None:
    """Each record with a name of its own would fill the ledger with names: the first are told, and every value is kept."""
    if way == "json lines":
        content = "".join(f'{{"c7":"x","n{number}":1}}\n' for number in range(30)).encode()
        records = read(JsonLines(max_columns=5), content, "c7")
    else:
        lines = "".join(f"<r><c7>x</c7><n{number}>1</n{number}></r>" for number in range(30))
        records = read(Xml(record="m/r", max_columns=5), f"<m>{lines}</m>".encode(), "c7")
    assert records.unknown_columns == ("n0", "n1", "n2", "n3", "n4")
    assert [list(extra) for extra in extras(records)] == [[f"n{at}"] for at in range(30)]
