"""
Rows moved from one shape to another: values out of `_extra` or of other columns, into the columns that the declaration has now.

Belongs here: one table of rows, in memory. Doesn't: which rows need it (`shapes.py`), files and the ledger (`adopt.py`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from ingestion_platform.formats import Ending, LeftOver, Piece, RecordReader
from ingestion_platform.warehouse.shapes import Naming, Passage, Shape, ShapeColumn

pc: Any = pyarrow.compute
"""Its stubs know nothing of columns that are neither arrays nor chunked."""


class Mover:
    """
    Moves values by one passage.

    Args:
        passage: from which shape to which.
        takes: names that may be in `_extra`.
    """

    def __init__(self, passage: Passage, takes: Sequence[str]) -> None:
        self._passage = passage
        self._takes = tuple(takes)
        self._names = passage.naming.names
        self._fewer: dict[frozenset[str], LeftOver] = {}
        self.left_over = self._left_over(self._takes) if takes else None

    def _left_over(self, takes: Sequence[str]) -> LeftOver:
        assert self._names is not None, "a passage takes nothing where nothing can be taken"
        return LeftOver(takes, self._names)

    def move(self, table: pa.Table) -> tuple[dict[str, Any], Any, Any]:
        """
        Move values of rows.

        Args:
            table: rows with columns of the old shape, those around values, and `_extra`; a column that no row has may be missing.

        Returns:
            Column of the new shape → values, captured ones left out; `_extra`; and which rows can't be moved because a value would have
            to go back into it, or can't be read (`bool`).
        """
        rows = table.num_rows
        nothing = pa.nulls(rows, pa.string())
        taken, extra, is_unclear = self._take(_flat(table.column("_extra")))
        found: dict[str, Any] = {}
        stays: dict[str, Any] = {}
        for move in self._passage.moves:
            if move.column.capture is not None:
                continue
            value: Any = None
            for kind, name, _ in move.parts:
                if kind == "column":
                    part = _flat(table.column(name)) if name in table.column_names else nothing
                else:
                    part = taken.get(name)
                    if part is None:
                        continue
                if value is None:
                    value = part
                    continue
                both = pc.and_(pc.is_valid(value), pc.is_valid(part))
                if pc.any(both).as_py():
                    if kind == "column":
                        is_unclear = pc.or_(is_unclear, both)
                    else:
                        stays[name] = both
                value = pc.coalesce(value, part)
            found[move.column.name] = nothing if value is None else value
        if stays:
            extra = self._leave(_flat(table.column("_extra")), extra, stays)
        return found, extra, is_unclear

    def _take(self, extra: Any) -> tuple[dict[str, Any], Any, Any]:
        if self.left_over is None or extra.null_count == len(extra):
            return {}, extra, pa.array(np.zeros(len(extra), np.bool_))
        values, left, is_unclear = self.left_over.take_many(extra)
        return dict(zip(self._takes, values, strict=True)), left, is_unclear

    def _leave(self, whole: Any, extra: Any, stays: dict[str, Any]) -> Any:
        """What is left over of rows in which a value was beaten by one that counts before it."""
        texts = extra.to_pylist()
        masks = {name: mask.to_pylist() for name, mask in stays.items()}
        for row in range(len(texts)):
            beaten = frozenset(name for name, mask in masks.items() if mask[row])
            if beaten:
                if beaten not in self._fewer:
                    self._fewer[beaten] = self._left_over([name for name in self._takes if name not in beaten])
                texts[row] = self._fewer[beaten].take(whole[row].as_py())[1]
        return pa.array(texts, pa.string())


class AliasReader(RecordReader):
    """
    Gives what a reader gives, with the values of aliases in their columns.

    Args:
        reader: of one object.
        shape: the declaration's.
        naming: what its names are.
    """

    def __init__(self, reader: RecordReader, shape: Shape, naming: Naming) -> None:
        self._reader = reader
        self._shape = shape
        first = Shape(tuple(ShapeColumn(one.name, one.names[:1], one.capture) for one in shape.columns), shape.unknown)
        passage = Passage(first, shape, naming)
        self._mover = Mover(passage, [alias for one in shape.columns for alias in one.names[1:]])

    def __iter__(self) -> Iterator[Piece]:
        for piece in self._reader:
            if piece.is_anew:
                # What was found before doesn't count.
                self._mover = Mover(self._mover._passage, self._mover._takes)
            table = piece.table
            if _flat(table.column("_extra")).null_count < table.num_rows:
                columns, extra, _ = self._mover.move(table)
                for at, name in enumerate(table.column_names):
                    if name in columns:
                        table = table.set_column(at, name, columns[name].cast(pa.string()))
                table = table.set_column(table.column_names.index("_extra"), "_extra", extra.cast(pa.string()))
            yield replace(piece, table=table)

    @property
    def ending(self) -> Ending:
        """What its end told, aliases considered."""
        ending, left_over = self._reader.ending, self._mover.left_over
        assert left_over is not None, "there are aliases"
        there = left_over.seen | set(ending.unknown_columns)
        missing = [
            one.names[0]
            for one in self._shape.columns
            if one.names and one.names[0] in ending.missing_columns and there.isdisjoint(one.names[1:])
        ]
        return replace(
            ending,
            unknown_columns=left_over.unknown_of(ending.unknown_columns),
            missing_columns=tuple(dict.fromkeys(missing)),
        )


def _flat(column: Any) -> Any:
    """A column in one piece."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) and whole.num_chunks == 1 else whole
