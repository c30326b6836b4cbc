"""
What the tests of this room share: fields by name, rows as plain tuples, and where the real files are.

Belongs here: shapes that read well in a test. Doesn't: assertions.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from ingestion_platform.errors import ObjectRejected
from ingestion_platform.format import Format
from ingestion_platform.formats import Field, Records, read_records

SMALL_BLOCK_BYTES = 16
MOST_BLOCKS = 50
CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"


def fields(*sources: str) -> list[Field]:
    """A field per source, with the source as its name."""
    return [Field(source, source) for source in sources]


def read(format: Format, content: bytes, *sources: str, key: str = "") -> Records:
    """
    Read *content*, and hold the result to what every `Records` promises.

    It is read twice, whole and in small blocks: both must give the same, or refuse it.
    """
    block_bytes = max(SMALL_BLOCK_BYTES, len(content) // MOST_BLOCKS)
    try:
        records = read_records(format, content, fields(*sources), key=key)
    except ObjectRejected:
        with pytest.raises(ObjectRejected):
            read_records(format, content, fields(*sources), key=key, block_bytes=block_bytes)
        raise
    in_blocks = read_records(format, content, fields(*sources), key=key, block_bytes=block_bytes)
    assert in_blocks.table.equals(records.table)
    assert in_blocks.rejected == records.rejected
    assert in_blocks.unknown_columns == records.unknown_columns
    assert in_blocks.missing_columns == records.missing_columns
    assert in_blocks.trailers == records.trailers
    table = records.table
    assert table.column_names == [*sources, "_extra", "_row"]
    assert [str(type_) for type_ in table.schema.types] == ["string"] * (len(sources) + 1) + ["int64"]
    table.validate(full=True)
    numbers: list[Any] = table["_row"].to_pylist()
    rejected = [record.row for record in records.rejected]
    assert numbers == sorted(numbers)
    assert rejected == sorted(rejected)
    assert sorted(numbers + rejected) == list(range(1, records.rows_read + 1))
    return records


def read_if_possible(format: Format, content: bytes, *sources: str) -> Records | None:
    """Read *content*, or None where the object is rejected, with a reason that may be shown."""
    try:
        return read(format, content, *sources)
    except ObjectRejected as error:
        why = str(error)
    assert why
    assert why.isprintable()
    return None


def rows(records: Records) -> list[tuple[Any, ...]]:
    """The fields' values, row by row."""
    names = records.table.column_names[:-2]
    return list(zip(*(records.table[name].to_pylist() for name in names), strict=True))


def extras(records: Records) -> list[Any]:
    """What `_extra` holds, parsed."""
    return [None if text is None else json.loads(text) for text in records.table["_extra"].to_pylist()]


def rejections(records: Records) -> list[tuple[int, str, str]]:
    """Rejected records as plain tuples."""
    return [(record.row, record.reason, record.record) for record in records.rejected]


def refusal(format: Format, content: bytes, *sources: str, key: str = "") -> str:
    """Why the object is rejected."""
    try:
        records = read(format, content, *sources, key=key)
    except ObjectRejected as error:
        return str(error)
    raise AssertionError(f"it was read: {rows(records)}, {rejections(records)}")
