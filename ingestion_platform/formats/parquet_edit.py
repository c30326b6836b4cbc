"""
Parquet written again without some rows: plain files, segments of streams, groups of an API's pages or of a database's rows.

Belongs here: rows out of a table that is written as it was: schema, metadata, compression, row groups. Doesn't: which rows go.

A record of a segment has a position, which its name counts: it stays as a row without anything in it, and the segment's metadata says so.
"""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ingestion_platform.errors import NotErasable, ObjectRejected
from ingestion_platform.formats.content import Content
from ingestion_platform.formats.erasure import Emptying, Erasure, Words
from ingestion_platform.formats.extracts import RowsWriter, note_of
from ingestion_platform.formats.json_edit import emptied
from ingestion_platform.formats.texts import excerpt

FORGOTTEN = "forgotten"
"""In a segment's metadata: first and last number of each run of records that were taken out, as JSON."""


def erase_parquet(content: Content, erasure: Erasure, target: BinaryIO) -> None:
    """
    Write Parquet again without some rows, row group by row group.

    Args:
        content: the object.
        erasure: what goes.
        target: takes the file.

    Raises:
        NotErasable: a value that is to go may not be missing.
        ObjectRejected: it can't be read.
    """
    file = content.searchable()
    source: Any = pa.BufferReader(file.getvalue()) if isinstance(file, io.BytesIO) else file
    try:
        with pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=False) as opened:
            schema = opened.schema_arrow
            with pq.ParquetWriter(target, schema, **_as_written(opened)) as writer:
                before = 0
                for group in range(opened.metadata.num_row_groups):
                    table = opened.read_row_group(group, use_threads=False)
                    rows = range(before + 1, before + table.num_rows + 1)
                    before += table.num_rows
                    left = _empty_rows(table, rows, erasure)
                    if gone := erasure.rows.intersection(rows):
                        keep = np.ones(table.num_rows, np.bool_)
                        keep[[row - rows.start for row in gone]] = False
                        left = left.filter(pa.array(keep))
                    writer.write_table(left, row_group_size=max(left.num_rows, 1))
                if not opened.metadata.num_row_groups:
                    writer.write_table(schema.empty_table())
    except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError) as error:
        raise ObjectRejected(f"is damaged Parquet: {excerpt(str(error), 200)}") from error


def erase_extract(content: Content, erasure: Erasure, target: BinaryIO) -> None:
    """
    Write a group of rows of a database again without some; the others keep their places.

    Args:
        content: the group.
        erasure: what goes.
        target: takes the file.

    Raises:
        NotErasable: a value that is to go may not be missing.
        ObjectRejected: it can't be read.
    """
    try:
        with pq.ParquetFile(content.searchable(), page_checksum_verification=True, pre_buffer=False) as opened:
            note = note_of(opened)
            numbers = note.numbers(opened.metadata.num_rows)
            writer = RowsWriter(list(note.types))
            before = 0
            for group in range(opened.metadata.num_row_groups):
                table = opened.read_row_group(group, use_threads=False)
                rows = range(before + 1, before + table.num_rows + 1)
                before += table.num_rows
                left = _empty_rows(table, rows, erasure)
                keep = np.ones(table.num_rows, np.bool_)
                keep[[row - rows.start for row in erasure.rows.intersection(rows)]] = False
                writer.add(left.filter(pa.array(keep)))
            gone = sorted({*note.gone, *(int(numbers[row - 1]) for row in erasure.rows)})
            target.write(writer.finish(replace(note, gone=gone)))
    except (pa.ArrowException, OSError, ValueError, KeyError, IndexError, OverflowError) as error:
        raise ObjectRejected(f"is a damaged group of rows: {excerpt(str(error), 200)}") from error


def _as_written(file: pq.ParquetFile) -> dict[str, Any]:
    """How a file was written, as far as it tells."""
    metadata = file.metadata
    compression: dict[str, str] | str = "snappy"
    dictionaries: list[str] = []
    if metadata.num_row_groups:
        group = metadata.row_group(0)
        columns = [group.column(at) for at in range(metadata.num_columns)]
        compression = {
            one.path_in_schema: "none" if one.compression == "UNCOMPRESSED" else one.compression.lower()
            for one in columns
        }
        dictionaries = [one.path_in_schema for one in columns if one.has_dictionary_page]
    return {
        "compression": compression,
        "use_dictionary": dictionaries or False,
        "version": metadata.format_version,
        "write_page_checksum": True,
    }


def _empty_rows(table: pa.Table, rows: range, erasure: Erasure) -> pa.Table:
    of_group = {
        row - rows.start: one for row, one in erasure.emptied.items() if row in rows and row not in erasure.rows
    }
    if not of_group:
        return table
    for at, name in enumerate(table.column_names):
        column = table.column(at)
        gone = np.zeros(table.num_rows, np.bool_)
        for row, emptying in of_group.items():
            value = column[row].as_py()
            gone[row] = value is not None and (
                name not in emptying.kept or erasure.words.hold(value if isinstance(value, str) else str(value))
            )
        if not gone.any():
            continue
        field = table.schema.field(at)
        if not field.nullable:
            raise NotErasable(
                f"its column {excerpt(name)} may not be empty in a row that is to be emptied",
                "erase='row' takes it out whole",
            )
        values = pa.chunked_array([column.combine_chunks()]).to_pylist()
        table = table.set_column(
            at, field, pa.array([None if out else one for one, out in zip(values, gone, strict=True)], field.type)
        )
    return table


# --- segments


def erase_segment(content: bytes, erasure: Erasure, target: BinaryIO) -> None:
    """
    Write a segment again without some records: they keep their position, and nothing else.

    Args:
        content: the segment.
        erasure: what goes; values that are emptied are JSON.
        target: takes the segment.

    Raises:
        NotErasable: a value that is to be emptied is no JSON object.
        ObjectRejected: it can't be read.
    """
    try:
        with pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True) as file:
            table = file.read(use_threads=False)
            how = _as_written(file)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ObjectRejected(f"is a damaged segment: {excerpt(str(error), 200)}") from error
    names = ("key", "headers", "value", "schema")
    columns: dict[str, list[Any]] = {name: table.column(name).to_pylist() for name in names}
    for row in sorted(erasure.rows):
        for name in names:
            columns[name][row - 1] = None
    for row, emptying in erasure.emptied.items():
        if row not in erasure.rows:
            _empty_record(columns, row - 1, emptying, erasure.words)
    for name in names:
        at = table.schema.get_field_index(name)
        field = table.schema.field(at)
        table = table.set_column(at, field, pa.array(columns[name], field.type))
    metadata = dict(table.schema.metadata or {})
    gone = {*forgotten_rows({key.decode(): value.decode() for key, value in metadata.items()}), *erasure.rows}
    if gone:
        metadata[FORGOTTEN.encode()] = json.dumps(runs(gone)).encode()
    table = table.replace_schema_metadata(metadata)
    with pq.ParquetWriter(target, table.schema, **how) as writer:
        writer.write_table(table)


def _empty_record(columns: dict[str, list[Any]], at: int, emptying: Emptying, words: Words) -> None:
    value = columns["value"][at]
    if value is not None:
        begin = len(value) - len(value.lstrip(b" \t\r\n"))
        columns["value"][at] = emptied(value[begin:].rstrip(b" \t\r\n"), emptying, words)
    if words.hold_bytes(columns["key"][at]):
        columns["key"][at] = None
    columns["headers"][at] = [
        {**one, "value": None} if words.hold_bytes(one["value"]) else one for one in columns["headers"][at] or ()
    ] or columns["headers"][at]


def runs(numbers: set[int]) -> list[list[int]]:
    """First and last of each run of numbers, ascending."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


def forgotten_rows(metadata: dict[str, str]) -> set[int]:
    """
    Numbers of a segment's records that were taken out.

    Raises:
        ObjectRejected: its metadata says something else.
    """
    try:
        told = json.loads(metadata.get(FORGOTTEN, "[]"))
        return {row for first, last in told for row in range(int(first), int(last) + 1)}
    except (ValueError, TypeError) as error:
        raise ObjectRejected(f"is a damaged segment: what it has forgotten isn't told: {error}") from error


# --- pages


def erase_pages(
    content: bytes,
    of_pages: Mapping[int, Erasure],
    words: Words,
    erase_inside: Callable[[bytes, Erasure], bytes],
    target: BinaryIO,
) -> None:
    """
    Write a group of pages again without some records.

    Args:
        content: the group.
        of_pages: number of a page in it, from 0 → what goes out of its body, by the numbers that records have there.
        words: what may stand nowhere around bodies either.
        erase_inside: gives a body without records; raises `NotErasable` where it would be none.
        target: takes the group.
    """
    with pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True) as file:
        table = file.read(use_threads=False)
        how = _as_written(file)
    columns: dict[str, list[Any]] = {name: table.column(name).to_pylist() for name in table.column_names}
    for at, erasure in of_pages.items():
        skip = columns["skip"][at]
        columns["skip"][at] -= len([row for row in erasure.rows if row <= skip])
        columns["records"][at] -= len([row for row in erasure.rows if row > skip])
        try:
            columns["body"][at] = erase_inside(columns["body"][at], erasure)
        except NotErasable:
            if columns["records"][at] or erasure.emptied:
                raise
            columns["body"][at] = b""
    for name in ("request", "params", "url", "headers", "next"):
        columns[name] = [words.blanked(one, FORGOTTEN) if one is not None else None for one in columns[name]]
    arrays = [pa.array(columns[field.name], field.type) for field in table.schema]
    left = pa.Table.from_arrays(arrays, schema=table.schema)
    with pq.ParquetWriter(target, table.schema, **how) as writer:
        writer.write_table(left, row_group_size=64)
