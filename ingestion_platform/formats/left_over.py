"""
What `_extra` holds, taken out of it again: the values that a reader would have given had it been asked for them.

Belongs here: one record's `_extra`. Doesn't: which names are wanted, and by whom (`warehouse/shapes.py`).

`_extra` keeps values as they stood: texts of CSV, sheets and fixed width as JSON texts, JSON's and Avro's as they were written, Parquet's
as JSON. So what comes out of it is what would have come out of the file, for every format whose names are `flat` or `dotted`.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

import msgspec

from ingestion_platform.format import Avro, Bounded, Csv, Excel, FixedWidth, Json, JsonLines, Parquet
from ingestion_platform.formats.json_members import NotAnObject, Taker, json_text, members_of, value_of

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
        return tuple(sorted({*(name for name in before if name not in parts), *self._taker.unknown}))

    @property
    def seen(self) -> frozenset[str]:
        """Of paths: those wanted that were there, in what was taken so far."""
        return frozenset(self._taker.seen) if self._taker is not None else frozenset()
