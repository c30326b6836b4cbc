"""Memory doesn't grow with the file: seen in small, with small blocks; `benchmarks/memory.py` shows it in large."""

import gzip
import io
import tracemalloc
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingestion_platform.format import Csv, Format, Json, JsonLines, Parquet, Xml
from ingestion_platform.formats import open_records
from ingestion_platform_tests.formats.reading import fields
from ingestion_platform_tests.formats.test_round_trips import NAMES, WAYS

BLOCK_BYTES = 4 * 1024
FEW, MANY = 500, 5_000


def in_groups(table: list[list[str]]) -> bytes:
    """Parquet in row groups as large as ten blocks or so: its footer grows by group."""
    sink = io.BytesIO()
    columns = {name: [row[at] for row in table] for at, name in enumerate(NAMES)}
    pq.write_table(pa.table(columns), sink, row_group_size=1000)
    return sink.getvalue()


WITH_ABOVE: dict[str, tuple[Format, Callable[[list[list[str]]], bytes]]] = {
    **WAYS,
    "parquet": (Parquet(), in_groups),
    "csv, stray quote at the end": (Csv(), lambda table: WAYS["csv"][1](table) + b'x,"1\n2",x\nx,x"x,x\n'),
    "csv, nothing but bad records": (Csv(), lambda table: b"a,b,c\n" + b"one\n" * len(table) * 5),
    "csv, gzip": (Csv(), lambda table: gzip.compress(WAYS["csv"][1](table))),
    "csv, utf-16": (Csv(encoding="utf-16"), lambda table: WAYS["csv"][1](table).decode().encode("utf-16")),
    "json lines, nothing but bad records": (JsonLines(), lambda table: b'{"a":1}\n' + b"nothing\n" * len(table) * 5),
    "json, and what is above": (Json("rows[*]"), WAYS["json"][1]),
    "xml, and what is above": (Xml(record="m/rows/r"), WAYS["xml"][1]),
    "xml, and other elements": (Xml(record="m/r"), lambda table: b"<m>" + WAYS["xml"][1](table) + b"</m>"),
    "json, and other lists": (
        Json("x[*]"),
        lambda table: b'{"other":' + WAYS["json"][1](table).strip() + b',"x":[{"a":1}]}',
    ),
}
ABOVE = {"json, and what is above": "../z", "xml, and what is above": "../../h"}


def peak(way: str, rows: int) -> int:
    """The most bytes that Python and Arrow held at a time while so many rows were read."""
    format, write = WITH_ABOVE[way]
    table = [[f"x{row}x", "text", f'{row * 7}"'] for row in range(rows)]
    content = io.BytesIO(write(table))
    wanted = fields(*NAMES, *([ABOVE[way]] if way in ABOVE else []))
    del table
    arrow_before, arrow = pa.total_allocated_bytes(), 0
    tracemalloc.start()
    try:
        key = "x.gz" if "gzip" in way else "x"
        for _ in open_records(format, content, wanted, key=key, block_bytes=BLOCK_BYTES):
            arrow = max(arrow, pa.total_allocated_bytes() - arrow_before)
        return arrow + tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("way", WITH_ABOVE)
def test_memory_does_not_grow_with_the_file(way: str) -> None:
    """Ten times the rows take no more memory, but for a little that names and numbers of rows take."""
    peak(way, 10)
    assert peak(way, MANY) < 1.3 * peak(way, FEW) + 150_000
