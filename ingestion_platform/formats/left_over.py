"""
What `_extra` holds, taken out of it again: the values that a reader would have given had it been asked for them.

Belongs here: one record's `_extra`. Doesn't: which names are wanted, and by whom (`warehouse/shapes.py`).

`_extra` keeps values as they stood: texts of CSV, sheets and fixed width as JSON texts, JSON's and Avro's as they were written, Parquet's
as JSON. So what comes out of it is what would have come out of the file, for every format whose names are `flat` or `dotted`.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa

from ingestion_platform.format import Avro, Bounded, Csv, Excel, FixedWidth, Json, JsonLines, Parquet
from ingestion_platform.formats.json_members import NotAnObject, Taker, json_text, members_of, value_of
from ingestion_platform.formats.json_objects import Objects

Names: TypeAlias = Literal["flat", "dotted"]
"""What a source is in `_extra`: the name of a column, whatever characters it has; or a path of members."""


def names_in(format: Bounded) -> Names | None:
    """What the names in `_extra` of a format are; None where what is in it isn't enough to be read again."""
    match format:
        case Csv() | Excel() | FixedWidth() | Parquet():
            return "flat"
        case Json() | JsonLines() | Avro():
            return "dotted"
        case _:
            # XML: an element that is there twice is a list in _extra, and a record that can't be read when a field asks for it.
            return None


class LeftOver:
    """
    Takes values out of `_extra`.

    Args:
        sources: wanted, each once.
        names: what they are.
    """

    def __init__(self, sources: Sequence[str], names: Names) -> None:
        self._sources = tuple(sources)
        self._wanted = {source: at for at, source in enumerate(sources)}
        self._taker = Taker(sources) if names == "dotted" else None
        # A name with a dot is a path to those who take many.
        is_many = names == "dotted" or not any("." in source for source in sources)
        self._many = Objects(sources) if is_many else None

    def take_many(self, extra: Any) -> tuple[list[Any], Any, Any]:
        """
        The same of many records.

        Args:
            extra: their `_extra` (an Arrow array); NULL has nothing.

        Returns:
            For each source its values; what is left; and which rows can't be read (`bool`). All as Arrow arrays.
        """
        rows = np.flatnonzero(extra.is_valid().to_numpy(zero_copy_only=False))
        texts = [text.encode() for text in extra.drop_null().to_pylist()]
        values, left, refused = self._taken(texts)
        # Where nothing was, nothing is.
        places = np.full(len(extra), len(texts), np.int64)
        places[rows] = np.arange(len(texts))
        at = pa.array(places)
        nothing = pa.nulls(1, pa.string())
        is_refused = np.zeros(len(extra), np.bool_)
        is_refused[rows[refused]] = True
        return (
            [pa.concat_arrays([one, nothing]).take(at) for one in values],
            pa.concat_arrays([left, nothing]).take(at),
            pa.array(is_refused),
        )

    def _taken(self, texts: Sequence[bytes]) -> tuple[list[Any], Any, list[int]]:
        if self._many is not None:
            try:
                taken = self._many.take(texts)
            except (msgspec.MsgspecError, UnicodeError):
                # Half of a surrogate pair somewhere: who has it is found one by one.
                taken = None
            # In _extra of what has a header, names stand in its order; of one name there is but one.
            if taken is not None and not taken.refused and (self._taker is not None or len(self._many.unknown) <= 1):
                return [_whole(column) for column in taken.columns], _whole(taken.extra), []
        values: list[list[str | None]] = [[None] * len(texts) for _ in self._sources]
        left: list[str | None] = [None] * len(texts)
        refused = []
        for row, text in enumerate(texts):
            try:
                found, left[row] = self.take(text.decode())
            except NotAnObject:
                refused.append(row)
                continue
            for column, value in zip(values, found, strict=True):
                column[row] = value
        return [pa.array(column, pa.string()) for column in values], pa.array(left, pa.string()), refused

    def take(self, extra: str) -> tuple[list[str | None], str | None]:
        """
        The wanted values of a record's `_extra`, in order; and what is left of it.

        Raises:
            NotAnObject: a value can't be read.
        """
        try:
            return self._take(extra)
        except (msgspec.MsgspecError, UnicodeError) as error:
            # Half of a surrogate pair, which only shows where a text is wanted.
            raise NotAnObject(str(error)) from error

    def _take(self, extra: str) -> tuple[list[str | None], str | None]:
        if self._taker is not None:
            values, left = self._taker.take(extra.encode(), is_clean=True)
            return list(values), left  # type: ignore[arg-type]  # values are texts; only a reader's rows have numbers too
        members, _ = members_of(extra.encode())
        found: list[str | None] = [None] * len(self._sources)
        kept = []
        for name, raw in members.items():
            at = self._wanted.get(name)
            if at is None:
                kept.append(f"{json_text(name)}:{raw.decode()}")
            else:
                found[at] = value_of(raw)
        return found, f"{{{','.join(kept)}}}" if kept else None

    def unknown_of(self, before: Iterable[str]) -> tuple[str, ...]:
        """
        The names that nobody wants, of all that was taken so far.

        Args:
            before: the names of what it was taken out of.
        """
        if self._taker is None:
            return tuple(name for name in before if name not in self._wanted)
        parts = {
            ".".join(steps[:count])
            for source in self._sources
            for steps in [source.split(".")]
            for count in range(1, len(steps) + 1)
        }
        return tuple(
            sorted(
                {
                    *(name for name in before if name not in parts),
                    *self._taker.unknown,
                    *(self._many.unknown if self._many else ()),
                }
            )
        )

    @property
    def seen(self) -> frozenset[str]:
        """Of paths: those wanted that were there, in what was taken so far."""
        if self._taker is None:
            return frozenset()
        return frozenset(self._taker.seen) | (self._many.seen if self._many is not None else frozenset())


def _whole(column: Any) -> Any:
    """A column in one array."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return (
        whole
        if not isinstance(whole, pa.ChunkedArray)
        else pa.concat_arrays(whole.chunks or [pa.nulls(0, pa.string())])
    )
