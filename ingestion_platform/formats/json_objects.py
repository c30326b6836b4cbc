"""
JSON objects to rows: the plain ones many at once (`json_columns.py`), the others one by one (`json_members.py`).

Belongs here: putting both together, in the objects' order. Doesn't: where the objects come from. Where both ways can take an object, both
give the same; so which way one went is seen in nothing but the time.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from ingestion_platform.format import MOST_COLUMNS
from ingestion_platform.formats.json_columns import MOST_LEARNED, ColumnTaker
from ingestion_platform.formats.json_members import NotAnObject, Taker
from ingestion_platform.formats.tables import Column

pc: Any = pyarrow.compute
"""Its stubs know nothing of texts beside arrays."""

BATCH_OBJECTS = 16_384
"""Taken at a time."""
_TEXT_BYTES = 50
"""What Python needs for one beside its bytes."""


@dataclass(frozen=True, slots=True)
class Taken:
    """
    What was taken of some objects.

    Args:
        good: which of them could be read, ascending; rows are theirs.
        columns: a text for each of them, source by source.
        extra: what they have beside that, as JSON objects; NULL where there is nothing.
        refused: of the others: which, and why.
    """

    good: "np.typing.NDArray[np.int64]"
    columns: list[Column]
    extra: Column
    refused: list[tuple[int, str]]


def gathered(texts: Iterable[bytes], block_bytes: int) -> Iterator[list[bytes]]:
    """*texts* in lists of about *block_bytes*; one at least."""
    held: list[bytes] = []
    size, is_given = 0, False
    for text in texts:
        held.append(text)
        size += len(text) + _TEXT_BYTES
        if size >= block_bytes:
            yield held
            held, size, is_given = [], 0, True
    if held or not is_given:
        yield held


class Objects:
    """
    Takes the values of wanted members out of objects.

    Args:
        sources: dotted paths of the members wanted.
        most_members: see `Taker`.
    """

    def __init__(self, sources: Sequence[str], most_members: int = MOST_COLUMNS) -> None:
        self._sources = list(sources)
        self._taker = Taker(sources, most_members)
        wanted = list(dict.fromkeys(sources))
        is_plain_possible = ColumnTaker.can_take(wanted) and len(wanted) + MOST_LEARNED <= most_members
        self._columns = ColumnTaker(wanted) if is_plain_possible else None

    @property
    def seen(self) -> set[str]:
        """Sources that an object had."""
        return self._taker.seen

    @property
    def unknown(self) -> tuple[str, ...]:
        """Members that nobody asks for, by name: which came first depends on how they were taken."""
        return tuple(sorted(self._taker.unknown))

    @property
    def departures(self) -> tuple[str, ...]:
        """What objects had more than once, told."""
        return self._taker.departures

    def take(self, texts: Sequence[bytes]) -> Taken:
        """
        Take what is wanted of each object.

        Args:
            texts: the objects; one that isn't any is told so.
        """
        parts = [
            self._take(texts[begin : begin + BATCH_OBJECTS], begin)
            for begin in range(0, max(len(texts), 1), BATCH_OBJECTS)
        ]
        if len(parts) == 1:
            return parts[0]
        return Taken(
            np.concatenate([part.good for part in parts]),
            [_joined([part.columns[at] for part in parts]) for at in range(len(self._sources))],
            _joined([part.extra for part in parts]),
            [refused for part in parts for refused in part.refused],
        )

    def _take(self, texts: Sequence[bytes], begin: int) -> Taken:
        done, columns, extra = self._plain(texts)
        if len(done) == len(texts):
            return Taken(done + begin, columns, extra, [])
        is_left = np.ones(len(texts), np.bool_)
        is_left[done] = False
        good: list[int] = []
        rows: list[Sequence[str | int | None]] = []
        refused: list[tuple[int, str]] = []
        for at in np.flatnonzero(is_left).tolist():
            try:
                values, left = self._taker.take(texts[at])
            except NotAnObject as error:
                refused.append((at + begin, str(error)))
                continue
            good.append(at)
            rows.append([*values, left])
        found = [*columns, extra]
        if rows:
            one_by_one = [pa.array(list(values), pa.string()) for values in zip(*rows, strict=True)]
            both = np.concatenate([done, np.array(good, np.int64)])
            order = np.argsort(both)
            found = [
                pa.chunked_array([*column.chunks, more]).take(order)
                for column, more in zip(found, one_by_one, strict=True)
            ]
            done = both[order]
        return Taken(done + begin, found[:-1], found[-1], refused)

    def _plain(self, texts: Sequence[bytes]) -> tuple[Any, list[Column], Column]:
        """Which objects are plain, and their values."""
        if self._columns is None or not texts:
            nothing = pa.chunked_array([pa.nulls(0, pa.string())])
            return np.zeros(0, np.int64), [nothing] * len(self._sources), nothing
        taken = self._columns.take_learning(texts, _column(texts))
        done = np.flatnonzero(taken.is_plain)
        chosen = None if len(done) == len(texts) else pa.array(done)
        self._taker.seen.update(source for source, has in taken.has.items() if has[done].any())
        for path, has in taken.has_extra.items():
            if has[done].any():
                self._taker.note_unknown(path)
        values = {source: _only(column, chosen) for source, column in taken.values.items()}
        return done, [values[source] for source in self._sources], _only(taken.extra, chosen)


def _only(column: Any, chosen: Any) -> Column:
    return pa.chunked_array([column if chosen is None else column.take(chosen)])


def _joined(columns: Sequence[Column]) -> Column:
    return pa.chunked_array([chunk for column in columns for chunk in column.chunks], pa.string())


def _column(texts: Sequence[bytes]) -> Any:
    """The texts as Arrow bytes."""
    # pa.array would import pandas, half a second of CPU, to see whether it is given something of it.
    offsets = np.zeros(len(texts) + 1, np.int32)
    offsets[1:] = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
    return pa.Array.from_buffers(
        pa.binary(), len(texts), [None, pa.py_buffer(offsets.data), pa.py_buffer(b"".join(texts))]
    )
