"""
Rows that were extracted from a database: the envelope in which they land, written and read.

A group of rows is a Parquet file with a text column for each column of the database, its values as the database writes them. What all
of its rows share (what they tell, of which moment, in which extract) is in its metadata. A column of the database whose name begins with
`@` has another `@` before it.

Belongs here: the file. Doesn't: reading a database (`sources/`).
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ingestion_platform.database import EXTRACT_FIELDS, ExtractFile
from ingestion_platform.errors import ObjectRejected
from ingestion_platform.formats import tables
from ingestion_platform.formats.content import BLOCK_BYTES, Content
from ingestion_platform.formats.parquet_files import extra_of, require_whole
from ingestion_platform.formats.records import Ending, Field, Piece, Pieces, require_columns
from ingestion_platform.formats.texts import excerpt

_MOST_ROWS = 65_536
_ROW_GROUP_ROWS = 262_144
_ROW_GROUP_BYTES = 4 * 1024**2
_READ_BYTES = 256 * 1024
_AGAIN = "it is read again when it changes"
_METADATA = "extract"


@dataclass(frozen=True, slots=True)
class RowsNote:
    """
    What the rows of a group share.

    Args:
        extract: the extract's name.
        fetch: when it began, and a few letters that tell it from another one.
        group: its number in that.
        operation: what the rows tell: SNAPSHOT, UPSERT, DELETE, RESTART.
        extracted_at: whose state they are: ISO 8601, UTC, by the database's clock.
        types: column → the type that it has in the database.
        gone: numbers, as they were at first, of rows that were taken out since: those of the others stay what they are.
    """

    extract: str
    fetch: str
    group: int
    operation: str
    extracted_at: str
    types: Mapping[str, str]
    gone: Sequence[int] = ()

    def numbers(self, rows: int) -> "npt.NDArray[np.int64]":
        """The numbers that the rows of a group had at first."""
        return np.delete(np.arange(1, rows + len(self.gone) + 1), [number - 1 for number in self.gone])


def column_name(name: str) -> str:
    """The name of a column of the database in a group."""
    return f"@{name}" if name.startswith("@") else name


class RowsWriter:
    """
    Writes a group of rows as it lands, some rows at a time, so that memory holds little more than what has been compressed.

    Args:
        names: of the columns in the database.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._schema = pa.schema([(column_name(name), pa.string()) for name in names])
        self._sink = pa.BufferOutputStream()
        # Texts that are mostly different cost more time in a dictionary than they save room.
        self._writer = pq.ParquetWriter(
            self._sink,
            self._schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=False,
            write_statistics=False,
            write_page_checksum=True,
        )
        self._waiting: list[pa.Table] = []
        self._waiting_bytes = 0
        self.rows = 0
        self.size_bytes = 0

    def add(self, table: pa.Table) -> None:
        """Take some rows: all columns text, in their order."""
        self.rows += table.num_rows
        self.size_bytes += table.nbytes
        self._waiting.append(table)
        self._waiting_bytes += table.nbytes
        if self._waiting_bytes >= _ROW_GROUP_BYTES:
            self._write()

    def _write(self) -> None:
        if self._waiting:
            table = pa.concat_tables(self._waiting).rename_columns(self._schema.names)
            self._writer.write_table(table, row_group_size=_ROW_GROUP_ROWS)
            self._waiting, self._waiting_bytes = [], 0

    def finish(self, note: RowsNote) -> bytes:
        """
        The group.

        Args:
            note: what its rows share.
        """
        self._write()
        self._writer.add_key_value_metadata({_METADATA: json.dumps(asdict(note), ensure_ascii=False)})
        self._writer.close()
        return self._sink.getvalue().to_pybytes()


def with_note(content: bytes, note: RowsNote) -> bytes:
    """The same rows in another extract."""
    with pq.ParquetFile(io.BytesIO(content), page_checksum_verification=True) as file:
        writer = RowsWriter(list(note.types))
        for batch in file.iter_batches(_MOST_ROWS, use_threads=False):
            writer.add(pa.Table.from_batches([batch]))
        return writer.finish(note)


def note_of(file: pq.ParquetFile) -> RowsNote:
    """
    What the rows of a group share.

    Raises:
        ObjectRejected: it isn't one that the platform wrote.
    """
    schema = file.schema_arrow
    try:
        note = RowsNote(**json.loads((file.metadata.metadata or {})[_METADATA.encode()]))
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise ObjectRejected(
            f"is no group of extracted rows: its metadata has no {error}", "only the platform writes below extracts/"
        ) from error
    other = next((field for field in schema if field.type != pa.string()), None)
    if other is not None:
        raise ObjectRejected(f"is no group of extracted rows: its column {excerpt(other.name)} is {other.type}")
    return note


def read_extract(
    format: ExtractFile, content: Content, fields: Sequence[Field], *, block_bytes: int = BLOCK_BYTES
) -> Pieces:
    """
    Read a group of rows, some of a row group at a time.

    Args:
        fields: the values wanted of every row; those of `EXTRACT_FIELDS` are the group's.

    Raises:
        ObjectRejected: it is none, or damaged, or larger than allowed.
    """
    file = content.searchable()
    require_whole(file)
    # What is known stands around the rows, by the fields' own names.
    try:
        with pq.ParquetFile(file, page_checksum_verification=True, pre_buffer=False, buffer_size=_READ_BYTES) as opened:
            note = note_of(opened)
            names = opened.schema_arrow.names
            require_columns(len(names), format.max_columns)
            groups = [opened.metadata.row_group(group) for group in range(opened.metadata.num_row_groups)]
            size = sum(max(group.total_byte_size, 0) for group in groups)
            if size > format.max_bytes:
                raise ObjectRejected(
                    f"has {size:,} bytes once decompressed, more than the {format.max_bytes:,} allowed", _AGAIN
                )
            wanted = {field.source for field in fields}
            unknown = [name for name in names if name not in wanted]
            largest = max((group.total_byte_size // max(group.num_rows, 1) for group in groups), default=0)
            numbers = note.numbers(opened.metadata.num_rows)
            rows = 0
            for batch in opened.iter_batches(
                max(1, min(_MOST_ROWS, block_bytes // max(largest, 1))), use_threads=False
            ):
                batch.validate(full=True)
                yield Piece(_with_note(fields, pa.Table.from_batches([batch]), unknown, note, numbers, rows + 1))
                rows += batch.num_rows
            if rows != opened.metadata.num_rows:
                raise ObjectRejected(
                    f"is damaged: it says that it has {opened.metadata.num_rows:,} rows and gives {rows:,}", _AGAIN
                )
    except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError) as error:
        raise ObjectRejected(f"is a damaged group of rows: {excerpt(str(error), 200)}", _AGAIN) from error
    if not rows:
        yield Piece(tables.from_rows(fields, ()))
    missing = dict.fromkeys(
        field.source for field in fields if field.source not in names and field.source not in EXTRACT_FIELDS
    )
    return Ending(tuple(unknown), tuple(missing))


def _with_note(
    fields: Sequence[Field],
    table: pa.Table,
    unknown: Sequence[str],
    note: RowsNote,
    numbers: "npt.NDArray[np.int64]",
    first: int,
) -> pa.Table:
    rows = table.num_rows
    names = set(table.column_names)
    columns: list[Any] = []
    for field in fields:
        if field.source in names:
            columns.append(table.column(field.source))
        elif field.source == "@position":
            began = "".join(filter(str.isdigit, note.fetch.partition("-")[0]))
            own = numbers[first - 1 : first - 1 + rows]
            columns.append(pa.chunked_array([[f"{began}{note.group:07}:{number}" for number in own]], pa.string()))
        elif field.source in EXTRACT_FIELDS:
            columns.append(pa.chunked_array([pa.repeat(pa.scalar(_told(note, field.source), pa.string()), rows)]))
        else:
            columns.append(tables.no_values(rows))
    return tables.from_columns(fields, columns, extra_of(table, unknown), (), first)


def _told(note: RowsNote, source: str) -> str:
    match source:
        case "@operation":
            return note.operation
        case "@extracted_at":
            return note.extracted_at
        case _:
            return note.extract
