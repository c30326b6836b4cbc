"""
Records held against what their sender says of them.

Belongs here: counting what was read, and comparing. Doesn't: what is said (`control.py`), what becomes of the object (`load.py`).
"""

import json
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation

import pyarrow as pa
import pyarrow.compute as pc

from ingestion_platform.control import Totals
from ingestion_platform.errors import ObjectRejected
from ingestion_platform.formats import Ending, Piece, RecordReader, RejectedRecord

_DIGITS = pa.decimal128(38, 9)


class CountedReader(RecordReader):
    """
    Reads an object, and counts on the way.

    Args:
        reader: reads it.
        column: whose values are summed up; empty: none.
    """

    def __init__(self, reader: RecordReader, column: str) -> None:
        self._reader = reader
        self._column = column
        self._records = self._rejected = self._no_numbers = 0
        self._sum = Decimal(0)

    def __iter__(self) -> Iterator[Piece]:
        for piece in self._reader:
            if piece.is_anew:
                self._records = self._rejected = self._no_numbers = 0
                self._sum = Decimal(0)
            self._records += piece.table.num_rows + len(piece.rejected)
            self._rejected += len(piece.rejected)
            if self._column:
                total, no_numbers = _sum(piece.table.column(self._column))
                self._sum += total
                self._no_numbers += no_numbers
            yield piece

    @property
    def ending(self) -> Ending:
        """What only the end can tell."""
        return self._reader.ending

    def compare(self, said: Totals) -> str:
        """
        Hold what was read against what is *said*.

        Returns:
            Why the sum couldn't be compared; empty where it could, or isn't said.

        Raises:
            ObjectRejected: it isn't so.
        """
        if said.records is not None and said.records != self._records:
            raise ObjectRejected(
                f"has {self._records:,} records, and its sender says {said.records:,}",
                "it is read again when it changes",
            )
        if said.sum is None:
            return ""
        if self._rejected or self._no_numbers:
            what = f"{self._rejected + self._no_numbers:,} of its records have no number there"
            return f"the sum {said.sum} of {self._column} that its sender says can't be compared: {what}"
        if said.sum != self._sum:
            raise ObjectRejected(
                f"has {self._sum.normalize():f} as the sum of {self._column}, and its sender says {said.sum}",
                "it is read again when it changes",
            )
        return ""


def _sum(column: "pa.ChunkedArray[pa.StringScalar]") -> tuple[Decimal, int]:
    """The sum of numbers in text, and how many values are none. What is empty counts nothing."""
    try:
        numbers = pc.cast(pc.if_else(pc.equal(column, ""), None, column), _DIGITS)  # type: ignore[call-overload]
        total = pc.sum(numbers).as_py()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        # Arrow gives up at the first value that is no number, or has more digits than its own: these are counted one by one.
        exact, no_numbers = Decimal(0), 0
        for value in column.to_pylist():
            try:
                number = Decimal(value or 0)
            except InvalidOperation:
                no_numbers += 1
                continue
            if number.is_finite():
                exact += number
            else:
                no_numbers += 1
        return exact, no_numbers
    return (total or Decimal(0)), 0


class RefusedReader(RecordReader):
    """
    Reads an object whose records don't count: each is set aside.

    Args:
        reader: reads it.
        reason: why they don't.
    """

    def __init__(self, reader: RecordReader, reason: str) -> None:
        self._reader = reader
        self._reason = reason

    def __iter__(self) -> Iterator[Piece]:
        for piece in self._reader:
            rejected = list(piece.rejected)
            for row in piece.table.to_pylist():
                number = row.pop("_row")
                extra = json.loads(row.pop("_extra") or "{}")
                record = json.dumps({**row, **extra}, ensure_ascii=False)
                rejected.append(RejectedRecord(number, f"its object {self._reason}", record))
            rejected.sort(key=lambda record: record.row)
            yield Piece(piece.table.slice(0, 0), tuple(rejected), piece.is_anew)

    @property
    def ending(self) -> Ending:
        """What only the end can tell."""
        return self._reader.ending
