"""What reading an object gives: rows of text, the records that couldn't be read, and how its columns differ from the declared ones."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import pyarrow as pa

from ingestion_platform.errors import ObjectRejected


class Positions(Protocol):
    """Where each record of a segment stands in its shard, ascending."""

    def before(self, position: int) -> int:
        """How many records come before *position*."""
        ...


@dataclass(frozen=True, slots=True)
class Field:
    """
    A value wanted of every record.

    Args:
        name: the column of the result.
        source: where it is in a record; see the formats in `dataset.py`.
        kind: its type by the name in the warehouse's SQL, for what can be read in several ways; empty: any.
        is_key: whether it is a part of the row's key.
        aliases: other names of it, which tell that a header is the declared one. Their values are left in `_extra`.
    """

    name: str
    source: str
    aliases: tuple[str, ...] = ()
    kind: str = ""
    is_key: bool = False


def all_names(fields: Sequence[Field]) -> set[str]:
    """Every name that one of the fields may have."""
    return {name for field in fields for name in (field.source, *field.aliases)}


@dataclass(frozen=True, slots=True)
class RejectedRecord:
    r"""
    A record that couldn't be read.

    Args:
        row: its number in the object, 1 is the first record (a header isn't one).
        reason: the rule it broke, for a person.
        record: its text as it stands in the object; bytes that aren't text are written `\\xNN`.
    """

    row: int
    reason: str
    record: str


@dataclass(frozen=True, slots=True)
class Piece:
    """
    Some of an object's records, next to each other.

    Args:
        table: as `Records.table`; rows go on where those of the piece before ended.
        rejected: ascending by row.
        is_anew: what was given before doesn't count: something was found that changes how it is to be read, and this is the first piece
            again.
    """

    table: pa.Table
    rejected: tuple[RejectedRecord, ...] = ()
    is_anew: bool = False


@dataclass(frozen=True, slots=True)
class Ending:
    """What only the end of an object can tell; see `Records`."""

    unknown_columns: tuple[str, ...] = ()
    missing_columns: tuple[str, ...] = ()
    positions: Positions | None = None
    trailers: tuple[str, ...] = ()
    departures: tuple[str, ...] = ()


Pieces: TypeAlias = Generator[Piece, None, Ending]
"""Reads an object: one piece at least, then what its end tells. What it gave counts only when it has come to its end."""


def require_columns(found: int, most: int) -> None:
    """
    Refuse an object that has more columns than its format allows.

    Raises:
        ObjectRejected: it has.
    """
    if found > most:
        raise ObjectRejected(
            f"has {found:,} columns, more than the {most:,} allowed",
            "raise max_columns of its format if it may have so many",
        )


@dataclass(frozen=True, slots=True)
class Records:
    """
    An object's records.

    Args:
        table: one `string` column for each field, in the order asked for, then `_extra` (`string`: a JSON object of what the record has
            beyond the fields, or NULL) and `_row` (`int64`: the record's number, from 1, rejected ones counted). Ascending by `_row`.
        rejected: ascending by row.
        unknown_columns: names in the object that no field asks for.
        missing_columns: sources of fields that the object doesn't have at all.
        positions: of a stream's segment: those of all its records, whichever dataset's they are.
        trailers: lines that are no records and may tell how many there are; the last ones.
        departures: what isn't as it should be, and is read all the same.
    """

    table: pa.Table
    rejected: tuple[RejectedRecord, ...] = ()
    unknown_columns: tuple[str, ...] = ()
    missing_columns: tuple[str, ...] = ()
    positions: Positions | None = None
    trailers: tuple[str, ...] = ()
    departures: tuple[str, ...] = ()

    @property
    def rows_read(self) -> int:
        """Records in the object, whatever became of them."""
        return self.table.num_rows + len(self.rejected)

    @property
    def rows_loaded(self) -> int:
        """Those that became rows."""
        return self.table.num_rows

    @property
    def rows_quarantined(self) -> int:
        """Those that couldn't be read."""
        return len(self.rejected)

    def since(self, position: int) -> "Records":
        """The same without the records before *position*."""
        if self.positions is None or (before := self.positions.before(position)) == 0:
            return self
        rows = self.table.column("_row").to_numpy()
        return replace(
            self,
            table=self.table.slice(int(rows.searchsorted(before, side="right"))),
            rejected=tuple(record for record in self.rejected if record.row > before),
        )
