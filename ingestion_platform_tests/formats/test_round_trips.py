"""Any table, written by any format, packing and encoding, is read back equal; cut or damaged, nothing wrong is believed in silence."""

import bz2
import codecs
import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from xml.sax.saxutils import escape

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion_platform.errors import ObjectRejected
from ingestion_platform.format import Avro, Csv, Excel, FixedWidth, Format, Json, JsonLines, Parquet, Xml
from ingestion_platform.formats import Records
from ingestion_platform_tests.formats.reading import read, rejections, rows
from ingestion_platform_tests.formats.workbooks import avro, sheet, text, workbook

Table = list[list[str]]

NAMES = ["a", "b", "c"]
WIDTHS = (8, 8, 8)
SCHEMA = {"type": "record", "name": "r", "fields": [{"name": name, "type": "string"} for name in NAMES]}

plain = st.text(st.sampled_from("ab 1,;\"'{}[]:\\<&>é😀\u2028"), min_size=1, max_size=6).map(lambda cell: f"x{cell}x")
tables = st.lists(st.lists(plain, min_size=3, max_size=3), min_size=1, max_size=8)


def as_csv(table: Table) -> bytes:
    """As Python writes it."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerows([NAMES, *table])
    return buffer.getvalue().encode()


def as_objects(table: Table) -> list[str]:
    """Each row as a JSON object, some of them with text that isn't ASCII as it is."""
    return [
        json.dumps(dict(zip(NAMES, row, strict=True)), ensure_ascii=bool(at % 2), indent=at % 3 or None)
        for at, row in enumerate(table)
    ]


def as_json_lines(table: Table) -> bytes:
    """One object a line."""
    return "".join(json.dumps(dict(zip(NAMES, row, strict=True)), ensure_ascii=False) + "\n" for row in table).encode()


def as_json(table: Table) -> bytes:
    """A list inside an object, with things around it."""
    return (
        f'{{"n": {{"rows": [9]}}, "rows" : [ {" , ".join(as_objects(table))} ] , "z": ["]", {{}}, "\\\\"]}}\n'.encode()
    )


def as_xml(table: Table) -> bytes:
    """A list inside a root."""
    lines = (
        "".join(f"<{name}>{escape(cell)}</{name}>" for name, cell in zip(NAMES, row, strict=True)) for row in table
    )
    return f"<m><h>1</h><rows>{''.join(f'<r>{line}</r> ' for line in lines)}</rows></m>".encode()


def as_fixed_width(table: Table) -> bytes:
    """Padded by spaces."""
    return "".join("".join(cell.ljust(8) for cell in row) + "\r\n" for row in table).encode()


def as_parquet(table: Table) -> bytes:
    """Two rows in a group."""
    sink = io.BytesIO()
    columns = {name: [row[at] for row in table] for at, name in enumerate(NAMES)}
    pq.write_table(pa.table(columns), sink, row_group_size=2, write_page_checksum=True)
    return sink.getvalue()


def as_avro(table: Table) -> bytes:
    """Three records in a block."""
    records = [b"".join(text(cell.encode()) for cell in row) for row in table]
    return avro(SCHEMA, [records[at : at + 3] for at in range(0, len(records), 3)])


def as_excel(table: Table) -> bytes:
    """Texts in their cells."""
    return workbook(("S", sheet(NAMES, *table)))


WAYS: dict[str, tuple[Format, Callable[[Table], bytes]]] = {
    "csv": (Csv(), as_csv),
    "json lines": (JsonLines(), as_json_lines),
    "json": (Json("rows[*]"), as_json),
    "xml": (Xml(record="m/rows/r"), as_xml),
    "fixed width": (FixedWidth(fields=tuple(zip(NAMES, WIDTHS, strict=True))), as_fixed_width),
    "parquet": (Parquet(), as_parquet),
    "avro": (Avro(), as_avro),
    "excel": (Excel(), as_excel),
}
WHOLE_OR_NOTHING = ("parquet", "excel")


def zipped(content: bytes) -> bytes:
    """One file, and a folder."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("folder")
        archive.writestr("folder/data", content)
    return buffer.getvalue()


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda content: pa.compress(content, codec="zstd", asbytes=True),
    ".zip": zipped,
}


def holds(records: Records, table: Table) -> None:
    """All rows of the table are there, in order, by their numbers, and nothing else."""
    assert rejections(records) == []
    assert rows(records) == [tuple(row) for row in table]
    assert records.table["_row"].to_pylist() == list(range(1, len(table) + 1))
    assert (records.unknown_columns, records.missing_columns) == ((), ())


@pytest.mark.parametrize("way", WAYS)
@settings(deadline=None)
@given(table=tables, ending=st.sampled_from(list(PACKINGS)))
def test_what_is_written_is_read_back(way: str, table: Table, ending: str) -> None:
    """Any format, packed in any way: equal cells, numbered 1, 2, 3, in one piece or many."""
    format, write = WAYS[way]
    holds(read(format, PACKINGS[ending](write(table)), *NAMES, key=f"x{ending}"), table)


@pytest.mark.parametrize("way", ["csv", "json lines", "fixed width"])
@settings(deadline=None)
@given(
    table=tables,
    encoding=st.sampled_from(["utf-8", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "latin-1"]),
    has_mark=st.booleans(),
)
def test_every_encoding_is_read_back(way: str, table: Table, encoding: str, has_mark: bool) -> None:
    """With a byte-order mark and without; UTF-16 of either order under its general name, too."""
    format, write = WAYS[way]
    if encoding in ("cp1252", "latin-1"):
        table = [[cell.replace("😀", "ü").replace("\u2028", "ß") for cell in row] for row in table]
    content = write(table).decode().encode(encoding)
    marks = {"utf-8": codecs.BOM_UTF8, "utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}
    content = marks.get(encoding, b"") * has_mark + content
    holds(read(_in(format, encoding), content, *NAMES), table)
    if encoding.startswith("utf-16-"):
        holds(read(_in(format, "utf-16"), content, *NAMES), table)


def _in(format: Any, encoding: str) -> Any:
    return replace(format, encoding=encoding)


def _read_if_possible(format: Format, content: bytes, key: str) -> Records | None:
    try:
        return read(format, content, *NAMES, key=key)
    except ObjectRejected as error:
        why = str(error)
    assert why.isprintable()
    return None


@pytest.mark.parametrize("way", WAYS)
@settings(deadline=None)
@given(table=tables, ending=st.sampled_from(list(PACKINGS)), data=st.data())
def test_what_is_cut_is_refused_or_harmless(way: str, table: Table, ending: str, data: st.DataObject) -> None:
    """A prefix of an object gives the first rows and no others, or it is refused; one that is packed is always refused."""
    format, write = WAYS[way]
    whole = PACKINGS[ending](write(table))
    size = data.draw(st.integers(0, len(whole) - 1))
    records = _read_if_possible(format, whole[:size], f"x{ending}")
    if records is None:
        return
    assert not ending
    assert way not in (*WHOLE_OR_NOTHING, "json")
    found = rows(records)
    assert found == [tuple(row) for row in table][: len(found)]
    assert rejections(records) == []


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=200, deadline=None)
@given(table=tables, ending=st.sampled_from([".gz", ".bz2", ".zip"]), data=st.data())
def test_a_flipped_bit_of_what_is_packed_is_refused_or_harmless(
    way: str, table: Table, ending: str, data: st.DataObject
) -> None:
    """A packing has a check sum over all that is in it: what can be read is what was written."""
    format, write = WAYS[way]
    content = bytearray(PACKINGS[ending](write(table)))
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    records = _read_if_possible(format, bytes(content), f"x{ending}")
    if records is not None:
        holds(records, table)


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=200, deadline=None)
@given(table=tables, data=st.data())
def test_a_flipped_bit_costs_what_it_is_in(way: str, table: Table, data: st.DataObject) -> None:
    """
    The object is refused; or at most the one or two records that the bit is in, or between, are other ones, or in quarantine.

    A digit that became another digit, nobody can tell where the format has no check sum. A name in the header that became another one is
    told as a missing and an unknown column.
    """
    format, write = WAYS[way]
    content = bytearray(write(table))
    # What the footer of a Parquet file says has no check sum.
    footer = int.from_bytes(content[-8:-4], "little") + 8 if way == "parquet" else 0
    content[data.draw(st.integers(0, len(content) - 1 - footer))] ^= 1 << data.draw(st.integers(0, 7))
    records = _read_if_possible(format, bytes(content), "x")
    if records is None or records.missing_columns:
        return
    if way in WHOLE_OR_NOTHING:
        holds(records, table) if way == "excel" else None
    expected = [tuple(row) for row in table]
    for row in rows(records):
        if row in expected:
            expected.remove(row)
    changed = len(expected)
    assert changed <= 2 + len(records.rejected)


@settings(deadline=None)
@given(table=tables, data=st.data())
def test_one_bad_line_costs_only_itself(table: Table, data: st.DataObject) -> None:
    """Between good ones, a line that can't be read is set aside with its number, in every format that has lines."""
    for way, bad in (("csv", b"one"), ("json lines", b"{nothing}"), ("fixed width", b"short")):
        format, write = WAYS[way]
        lines = write(table).splitlines(keepends=True)
        first = 1 if way == "csv" else 0
        at = data.draw(st.integers(0, len(table)))
        content = b"".join([*lines[: first + at], bad + b"\n", *lines[first + at :]])
        records = read(format, content, *NAMES)
        assert rows(records) == [tuple(row) for row in table]
        assert [record.row for record in records.rejected] == [at + 1]
