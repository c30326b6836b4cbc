"""
The table that every reader gives: a text column for each field, what the record has beyond them, its number.

Belongs here: putting columns together. Doesn't: finding the values.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from ingestion_platform.formats import arrays
from ingestion_platform.formats.records import Field, Piece, RejectedRecord

Column: TypeAlias = Any
"""A `pyarrow.ChunkedArray` of strings; its stubs are generic where the class itself isn't."""

_ROW_BYTES = 100
BATCH_ROWS = 50_000
"""Rows held as Python objects at a time."""


def schema(fields: Sequence[Field]) -> pa.Schema:
    """The schema of `Records.table`."""
    return _schema((*(field.name for field in fields), "_extra"))


@lru_cache(maxsize=64)
def _schema(names: tuple[str, ...]) -> pa.Schema:
    columns: list[tuple[str, pa.DataType]] = [(name, pa.string()) for name in names]
    return pa.schema([*columns, ("_row", pa.int64())])


def from_columns(
    fields: Sequence[Field], columns: Sequence[Column], extra: Column, without: Sequence[int] = (), first: int = 1
) -> pa.Table:
    """The table of whole columns; rows are numbered *first*, *first* + 1, … *without* the numbers of rejected records."""
    rows = len(extra)
    row_numbers = np.arange(first, first + rows + len(without), dtype=np.int64)
    if without:
        row_numbers = np.delete(row_numbers, [number - first for number in without])
    return numbered(fields, columns, extra, row_numbers)


def numbered(
    fields: Sequence[Field], columns: Sequence[Column], extra: Column, row_numbers: "np.typing.NDArray[np.int64]"
) -> pa.Table:
    """The table of whole columns, and the numbers of their rows."""
    return pa.Table.from_arrays([*columns, extra, arrays.integers(row_numbers)], schema=schema(fields))


def from_rows(fields: Sequence[Field], rows: Iterable[Sequence[str | int | None]]) -> pa.Table:
    """The table of *rows*, each a value per field, then `_extra` and `_row`; made in batches, so that memory stays near its size."""
    wanted = schema(fields)
    iterator: Iterator[Sequence[str | int | None]] = iter(rows)
    batches = []
    while batch := list(islice(iterator, BATCH_ROWS)):
        columns = [
            pa.array(list(values), type=field.type)
            for values, field in zip(zip(*batch, strict=True), wanted, strict=True)
        ]
        batches.append(pa.RecordBatch.from_arrays(columns, schema=wanted))
    return pa.Table.from_batches(batches, schema=wanted)


def in_pieces(
    fields: Sequence[Field],
    rows: Iterable[Sequence[str | int | None] | None],
    rejected: list[RejectedRecord],
    block_bytes: int,
) -> Iterator[Piece]:
    """
    *rows* in pieces of about *block_bytes* of text; one at least.

    Args:
        rows: each a value per field, then `_extra` and `_row`; None after a record was rejected.
        rejected: where *rows* puts rejected records; emptied with each piece.
    """
    held: list[Sequence[str | int | None]] = []
    size, is_given = 0, False
    for row in rows:
        if row is None:
            size += len(rejected[-1].record) + _ROW_BYTES
        else:
            held.append(row)
            size += sum([len(value) for value in row if type(value) is str]) + _ROW_BYTES
        if size >= block_bytes:
            yield Piece(from_rows(fields, held), tuple(rejected))
            held, size, is_given = [], 0, True
            rejected.clear()
    if held or rejected or not is_given:
        yield Piece(from_rows(fields, held), tuple(rejected))
        rejected.clear()


def no_values(rows: int) -> Column:
    """A column of NULLs."""
    return pa.chunked_array([pa.nulls(rows, pa.string())])
