"""
Rows of raw, and records that couldn't be read, on their way to Parquet files: of many small objects to one, of a large object to its own.

Belongs here: gathering rows until they are worth a row group, and what a large object leaves. Doesn't: which objects count (`load.py`),
the files as bytes (`files.py`).
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestion_platform.formats import Ending, RecordReader, Records, RejectedRecord
from ingestion_platform.warehouse.files import FileStore, StoredFile

ROW_GROUP_ROWS = 122_880
"""DuckDB's own size of a row group: it reads one in one thread."""
GATHERED_BYTES = 64 * 1024**2
"""Rows that are wide are written before they are as many."""
IN_MEMORY_BYTES = 32 * 1024**2
"""An object whose rows take more than this goes to files of its own as it is read."""

_SAMPLED_ROWS = 2000
_REPEATED = 4
"""How often a value stands in the first rows at least, on average, for its column to be written by a dictionary."""
_ALIKE = frozenset({"_object", "_day"})
"""The same in all rows of an object."""

_QUARANTINE_FIELDS: "list[pa.Field[Any]]" = [
    pa.field("dataset", pa.string()),
    pa.field("_day", pa.date32()),
    pa.field("_landed_on", pa.date32()),
    pa.field("_object", pa.string()),
    pa.field("_row", pa.int64()),
    pa.field("rules", pa.list_(pa.string())),
    pa.field("reasons", pa.list_(pa.string())),
    pa.field("record", pa.string()),
]
QUARANTINE_SCHEMA = pa.schema(_QUARANTINE_FIELDS)

UNREADABLE = "record: can't be read"
"""The rule that a record breaks which didn't even become a row."""


def raw_schema(columns: Sequence[tuple[str, str]]) -> pa.Schema:
    """
    The schema of raw's files.

    Args:
        columns: name and SQL type, as `Contract.raw_columns` gives them.
    """
    types: dict[str, pa.DataType] = {"VARCHAR": pa.string(), "BIGINT": pa.int64(), "DATE": pa.date32()}
    return pa.schema([pa.field(name, types[kind]) for name, kind in columns])


class RowsFile:
    """
    Rows on their way to one Parquet file, which begins to be when there are enough of them.

    Args:
        store: where it goes.
        table: `raw.<dataset>` or `quarantine.<dataset>`.
        day: of the objects' keys.
        schema: of the rows.
    """

    def __init__(self, store: FileStore, table: str, day: date, schema: pa.Schema) -> None:
        self._store = store
        self._table = table
        self._day = day
        self._schema = schema
        self._gathered: list[pa.Table] = []
        self._gathered_rows = self._gathered_bytes = 0
        self._writer: pq.ParquetWriter | None = None
        self._rows = 0
        self.path: str | None = None

    def add(self, table: pa.Table) -> None:
        """Take rows."""
        if table.num_rows == 0:
            return
        self._gathered.append(table)
        self._gathered_rows += table.num_rows
        self._gathered_bytes += table.nbytes
        if self._gathered_rows >= ROW_GROUP_ROWS or self._gathered_bytes >= GATHERED_BYTES:
            self._write()

    def _write(self) -> None:
        if not self._gathered:
            return
        if self._writer is None:
            self.path = self._store.new_path(self._table, self._day.isoformat())
            self._writer = pq.ParquetWriter(
                self._store.absolute(self.path),
                self._schema,
                compression="zstd",
                compression_level=1,
                # A dictionary of what hardly repeats takes twice the time, and is thrown away.
                use_dictionary=_repeating(self._gathered[0]),  # type: ignore[arg-type]  # the stubs know of bool only
                # Nobody looks for rows of raw by a value of theirs, and finding the least text takes a quarter of the time.
                write_statistics=["_row"],
            )
        self._writer.write_table(pa.concat_tables(self._gathered), row_group_size=ROW_GROUP_ROWS)
        self._rows += self._gathered_rows
        self._gathered, self._gathered_rows, self._gathered_bytes = [], 0, 0

    def finish(self) -> StoredFile | None:
        """Write what is left and make the file durable; None when there was no row."""
        self._write()
        if self._writer is None or self.path is None:
            return None
        self._writer.close()
        self._writer = None
        return self._store.describe(self.path, self._rows)

    def close(self) -> None:
        """End a file that nobody will want."""
        self._gathered = []
        if self._writer is not None:
            # It writes a footer, which a full disk doesn't take either.
            with contextlib.suppress(OSError):
                self._writer.close()
            self._writer = None


def _repeating(rows: pa.Table) -> list[str]:
    """The columns whose values repeat, as far as the first rows tell."""
    first = rows.slice(0, _SAMPLED_ROWS)
    return [
        name
        for name in first.column_names
        if name in _ALIKE
        or (
            pa.types.is_string(first.schema.field(name).type)
            and pc.count_distinct(first[name], mode="all").as_py() <= first.num_rows / _REPEATED
        )
    ]


def rejected_table(dataset: str, day: date, key: str, rejected: "tuple[RejectedRecord, ...]") -> pa.Table:
    """Records of an object that couldn't be read, as the quarantine has them."""
    count = len(rejected)
    landed_on = pa.repeat(pa.scalar(day, pa.date32()), count)
    offsets = pa.array(range(count + 1), pa.int32())
    rules = pa.repeat(pa.scalar(UNREADABLE, pa.string()), count)
    reasons = pa.array([f"record: {record.reason}" for record in rejected], pa.string())
    columns: list[Any] = [
        pa.repeat(pa.scalar(dataset, pa.string()), count),
        landed_on,
        landed_on,
        pa.repeat(pa.scalar(key, pa.string()), count),
        pa.array([record.row for record in rejected], pa.int64()),
        pa.ListArray.from_arrays(offsets, rules),
        pa.ListArray.from_arrays(offsets, reasons),
        pa.array([record.record for record in rejected], pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=QUARANTINE_SCHEMA)


@dataclass(frozen=True, slots=True)
class OwnFiles:
    """
    What was read of an object too large for memory: files of its own, not yet part of any table. As `Records` in all else.

    Args:
        rows_file: its rows.
        quarantine_file: its records that couldn't be read.
        ending: what its end told.
    """

    rows_file: StoredFile | None
    quarantine_file: StoredFile | None
    ending: Ending

    @property
    def rows_read(self) -> int:
        """Records in the object, whatever became of them."""
        return self.rows_loaded + self.rows_quarantined

    @property
    def rows_loaded(self) -> int:
        """Those that became rows."""
        return self.rows_file.rows if self.rows_file else 0

    @property
    def rows_quarantined(self) -> int:
        """Those that couldn't be read."""
        return self.quarantine_file.rows if self.quarantine_file else 0

    @property
    def unknown_columns(self) -> tuple[str, ...]:
        """Names in the object that no field asks for."""
        return self.ending.unknown_columns

    @property
    def missing_columns(self) -> tuple[str, ...]:
        """Sources of fields that the object doesn't have at all."""
        return self.ending.missing_columns

    @property
    def departures(self) -> tuple[str, ...]:
        """What isn't as it should be, and is read all the same."""
        return self.ending.departures

    @property
    def paths(self) -> tuple[str, ...]:
        """Of its files."""
        return tuple(file.path for file in (self.rows_file, self.quarantine_file) if file is not None)


def gather(
    reader: RecordReader,
    new_files: Callable[[], tuple[RowsFile, RowsFile]],
    as_raw: Callable[[pa.Table], pa.Table],
    as_quarantine: Callable[[tuple[RejectedRecord, ...]], pa.Table],
    go_on: Callable[[], None],
    most_bytes: float,
) -> Records | OwnFiles:
    """
    Read an object to its end: into memory, or, when it is large, into files of its own.

    Args:
        reader: of the object.
        new_files: begins them: for rows, and for records that couldn't be read.
        as_raw: rows of a reader as raw has them.
        as_quarantine: records that couldn't be read as the quarantine has them.
        go_on: called before each piece; raises when the work isn't wanted any more.
        most_bytes: that may be in memory.

    Raises:
        ObjectRejected: it isn't a whole object of its format. Files that were begun are left to whoever gave them.
    """
    tables: list[pa.Table] = []
    rejected: list[RejectedRecord] = []
    size = 0
    files: tuple[RowsFile, RowsFile] | None = None
    for piece in reader:
        go_on()
        if piece.is_anew:
            tables, rejected, size = [], [], 0
            if files is not None:
                for file in files:
                    file.close()
                files = None
        if files is None:
            tables.append(piece.table)
            rejected += piece.rejected
            size += piece.table.nbytes + sum(len(record.record) + 200 for record in piece.rejected)
            if size <= most_bytes:
                continue
            files = new_files()
            files[0].add(as_raw(pa.concat_tables(tables)))
            files[1].add(as_quarantine(tuple(rejected)))
            tables, rejected = [], []
        else:
            files[0].add(as_raw(piece.table))
            files[1].add(as_quarantine(piece.rejected))
    ending = reader.ending
    if files is not None:
        return OwnFiles(files[0].finish(), files[1].finish(), ending)
    table = tables[0] if len(tables) == 1 else pa.concat_tables(tables)
    return Records(
        table,
        tuple(rejected),
        ending.unknown_columns,
        ending.missing_columns,
        ending.positions,
        ending.trailers,
        ending.departures,
    )
