"""
Which names of a record went into which raw column when an object was loaded, and what has to be done when the declaration says otherwise.

Belongs here: comparing shapes, and what that means for one object, told from the ledger alone. Doesn't: rewriting rows (`adopt.py`).

A column that is added, renamed or given another name of its values (an alias) takes its values from where they are: another column, or
`_extra`. What was in a column and is to be in `_extra` isn't known exactly (raw is text: was it a number or a text?), so an object that has
such values is read again. Removed columns that an object never had are no reason to read it.
"""

import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias

from ingestion_platform.api import ApiPages, Pages
from ingestion_platform.database import ExtractedRows, ExtractFile
from ingestion_platform.dataset import Dataset
from ingestion_platform.format import MOST_COLUMNS, Csv, FixedWidth, Json
from ingestion_platform.formats import Names, names_in, twice
from ingestion_platform.stream import BytesValues, Segments, StreamSegments
from ingestion_platform.warehouse.ledger_file import LedgerFile
from ingestion_platform.warehouse.ledger_rows import ObjectRow

SCHEMA = """
create table if not exists shapes (shape text primary key, columns text not null) strict, without rowid;
"""

Doing: TypeAlias = Literal["nothing", "note", "move", "read"]
"""What an object needs: nothing; its ledger entry is noted anew; its rows are moved to other columns; it is read from the landing zone."""


@dataclass(frozen=True, slots=True)
class ShapeColumn:
    """
    Where a raw column's values came from.

    Args:
        name: of the column.
        names: what it may be called in a record, the one that counts first.
        capture: of the key instead.
    """

    name: str
    names: tuple[str, ...]
    capture: str | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """
    Where all of a raw table's columns came from.

    Args:
        columns: in their order.
        unknown: what became of other names: `keep`, `fail`, `ignore`.
    """

    columns: tuple[ShapeColumn, ...]
    unknown: str

    @classmethod
    def of(cls, dataset: Dataset) -> "Shape":
        """That of the declaration."""
        columns = tuple(ShapeColumn(column.name, column.names, column.capture) for column in dataset.columns)
        return cls(columns, dataset.on_unknown_column)

    def text(self) -> str:
        """As the ledger holds it."""
        return json.dumps([self.unknown, [[one.name, list(one.names), one.capture] for one in self.columns]])

    @classmethod
    def parse(cls, text: str) -> "Shape":
        """From what `text` gave."""
        unknown, columns = json.loads(text)
        return cls(tuple(ShapeColumn(name, tuple(names), capture) for name, names, capture in columns), unknown)

    @property
    def digest(self) -> str:
        """Of it."""
        return hashlib.sha256(self.text().encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Reader:
    """
    How an object was read, as its ledger entry says it.

    Args:
        content: digest of how its bytes become records.
        dialect: of what was recorded about them; empty where all is declared.
        homes: of what decides to which day a row belongs.
        shape: of which name goes into which column; empty when nobody knows any more.
    """

    content: str
    dialect: str
    homes: str
    shape: str

    def __str__(self) -> str:
        return ".".join((self.content, self.dialect, self.homes, self.shape))

    @classmethod
    def parse(cls, text: str) -> "Reader":
        """From its text."""
        return cls(*text.split("."))


@dataclass(frozen=True, slots=True)
class Naming:
    """
    What names are to a dataset's source.

    Args:
        names: in `_extra`; None where nothing can be taken out of it.
        hidden: names that are never in it: what a stream is routed by.
        around: what stands around values, raw column and name.
        is_in_pages: whether other names that begin with `@` are of what is around, too.
        goes_up: whether names that begin with `../` are of what is around.
        keeps_whole: whether nothing is left over where a column holds `@value`.
        header_tells: whether names are there or not whatever the records have.
        may_lack: whether a declared name can be missing at all.
        most_names: of unknown ones that are noted.
    """

    names: Names | None
    hidden: frozenset[str]
    around: tuple[tuple[str, str], ...]
    is_in_pages: bool
    goes_up: bool
    header_tells: bool
    may_lack: bool
    most_names: int

    @classmethod
    def of(cls, dataset: Dataset, around: tuple[tuple[str, str], ...]) -> "Naming":
        """Those of a declaration."""
        format = dataset.source.format
        hidden: set[str] = set()
        inner = format.inside if isinstance(format, Pages) else format
        names: Names | None
        if isinstance(inner, Segments):
            names = None if isinstance(inner.values, BytesValues) else "dotted"
            hidden = {inner.routed_by} if inner.routed_by else set()
        elif isinstance(inner, ExtractFile):
            names = "flat"
        else:
            names = names_in(inner)
        return cls(
            names,
            frozenset(hidden),
            around,
            isinstance(dataset.source, StreamSegments | ApiPages | ExtractedRows),
            isinstance(inner, Json),
            names == "flat" and not isinstance(inner, FixedWidth) and not isinstance(format, Pages),
            not isinstance(inner, FixedWidth),
            getattr(inner, "max_columns", MOST_COLUMNS),
        )

    def is_outside(self, name: str) -> bool:
        """Whether a name is never in `_extra`."""
        return (
            name in self.hidden
            or (self.is_in_pages and name.startswith("@"))
            or (self.goes_up and name.startswith("../"))
        )

    def are_entangled(self, one: str, other: str) -> bool:
        """Whether one is a part of the other, or the same."""
        if one == other:
            return True
        return self.names == "dotted" and (one.startswith(other + ".") or other.startswith(one + "."))

    def holds(self, present: Iterable[str], name: str) -> str | None:
        """The name among *present* under which *name* is to be looked for; itself, or what it is a part of."""
        there = set(present)
        if name in there:
            return name
        if self.names == "dotted":
            steps = name.split(".")
            for count in range(1, len(steps)):
                if (part := ".".join(steps[:count])) in there:
                    return part
        return None


@dataclass(frozen=True, slots=True)
class Move:
    """
    How a column of the new shape comes about.

    Args:
        column: which.
        parts: columns of the old shape (`column`, name, first source) and names in `_extra` (`extra`, name, name) that may hold its value,
            the one that counts first.
        former: the old column of its name.
    """

    column: ShapeColumn
    parts: tuple[tuple[Literal["column", "extra"], str, str], ...]
    former: ShapeColumn | None


@dataclass(frozen=True, slots=True)
class Need:
    """
    What one object needs.

    Args:
        doing: see there.
        takes: names that are to be taken out of its `_extra`.
        unknown: its unknown columns afterwards; None: as they were, or as is found while rows are moved.
        missing: its missing columns afterwards.
    """

    doing: Doing
    takes: tuple[str, ...] = ()
    unknown: tuple[str, ...] | None = ()
    missing: tuple[str, ...] = ()


NOTHING, READ = Need("nothing"), Need("read")


class Passage:
    """
    From one shape to another.

    Args:
        old: under which objects were loaded.
        new: the declaration's.
        naming: what their names are.
    """

    def __init__(self, old: Shape, new: Shape, naming: Naming) -> None:
        self.old, self.new, self.naming = old, new, naming
        by_name = {column.name: column for column in old.columns}
        held = [*old.columns, *(ShapeColumn(name, (source,)) for name, source in naming.around)]
        moves: list[Move] = []
        used: set[str] = set()
        self._doubtful: set[str] = set()
        self._is_hopeless = False
        for column in new.columns:
            parts: list[tuple[Literal["column", "extra"], str, str]] = []
            for at, source in enumerate(column.names):
                holders = [one for one in held if source in one.names]
                holders.sort(key=lambda one: one.name != column.name)
                if not holders:
                    self._is_hopeless |= naming.is_outside(source)
                    parts.append(("extra", source, source))
                elif ("column", holders[0].name, holders[0].names[0]) not in parts:
                    holder = holders[0]
                    used.add(holder.name)
                    parts.append(("column", holder.name, holder.names[0]))
                    if column.names[at : at + len(holder.names)] != holder.names:
                        # Which of its names a value came from isn't known.
                        self._doubtful.add(holder.names[0])
            moves.append(Move(column, tuple(parts), by_name.get(column.name)))
        self.moves = tuple(moves)
        self._doubtful |= {one.names[0] for one in old.columns if one.names and one.name not in used}
        self._extras = tuple(dict.fromkeys(name for move in moves for kind, name, _ in move.parts if kind == "extra"))
        former = {name for one in old.columns for name in one.names} | naming.hidden
        self._entangled = tuple(
            name for name in self._extras if any(naming.are_entangled(name, other) for other in former)
        )
        if self._extras and any(one.names[:1] == ("@value",) for one in old.columns):
            self._is_hopeless |= naming.is_in_pages

    def need(self, row: ObjectRow) -> Need:
        """What an object needs, told from its ledger entry."""
        if row.state in ("rejected", "pending"):
            return READ
        if row.state != "loaded":
            return Need("note")
        unknown, missing = set(json.loads(row.unknown_columns)), set(json.loads(row.missing_columns))
        if self._is_hopeless or self._entangled or not self._doubtful <= missing:
            return READ
        if self.old.unknown != self.new.unknown and (unknown or "ignore" in (self.old.unknown, self.new.unknown)):
            return READ
        naming, found = self.naming, {name: self.naming.holds(unknown, name) for name in self._extras}
        takes = tuple(name for name in self._extras if found[name] is not None)
        if takes and (naming.names is None or self.old.unknown != "keep"):
            return READ
        if any(twice(name) in json.loads(row.departures) for name in takes):
            # An array in _extra is all that it had; nobody could tell that from one value that is an array.
            return READ
        if self._extras and (naming.names is None or len(unknown) >= naming.most_names):
            return READ
        has_no_facts = not naming.header_tells and not row.rows_loaded and not missing and not unknown
        if naming.header_tells and not row.rows_read and not missing and not unknown and not row.size_bytes:
            # Not even a header.
            has_no_facts = True
        is_explored = all(found[name] == name for name in takes)
        if not is_explored and row.stands_from is not None and row.stands_from != row.first_position:
            return READ
        lacking = []
        is_moved = bool(takes)
        for move in self.moves:
            if move.column.capture is not None:
                is_moved |= move.former is None or move.former.capture != move.column.capture
                continue
            columns = [name for kind, name, source in move.parts if kind == "column" and source not in missing]
            if not columns and not any(name in takes for kind, name, _ in move.parts if kind == "extra"):
                lacking.append(move.column.names[0])
                former = move.former
                is_moved |= former is not None and (not former.names or former.names[0] not in missing)
            elif columns != [move.column.name]:
                is_moved = True
        if has_no_facts or not naming.may_lack:
            lacking = []
        is_moved = is_moved and row.rows_loaded > 0
        return Need(
            "move" if is_moved else "note",
            takes,
            tuple(sorted(unknown - set(takes))) if is_explored or not is_moved else None,
            tuple(dict.fromkeys(lacking)),
        )

    def missing(self, before: Iterable[str], there: Collection[str]) -> tuple[str, ...]:
        """
        The columns that are missing in an object whose rows were moved.

        Args:
            before: those that were missing.
            there: names that were in `_extra`.
        """
        lacking = set(before)
        return tuple(
            dict.fromkeys(
                move.column.names[0]
                for move in self.moves
                if move.column.names
                and all(
                    source in lacking if kind == "column" else name not in there for kind, name, source in move.parts
                )
            )
        )


class Shapes:
    """
    The ledger's table of shapes.

    Args:
        file: the ledger's.
    """

    def __init__(self, file: LedgerFile) -> None:
        self._file = file

    def note(self, shape: Shape) -> None:
        """Note a shape that objects are about to have."""
        if self.get(shape.digest) is None:
            with self._file.writing() as connection:
                connection.execute("insert or ignore into shapes values (?, ?)", (shape.digest, shape.text()))

    def get(self, digest: str) -> Shape | None:
        """The shape of that digest; None when the ledger doesn't know it."""
        with self._file.reading() as connection:
            row = connection.execute("select columns from shapes where shape = ?", (digest,)).fetchone()
        found = Shape.parse(row[0]) if row is not None else None
        return found if found is not None and found.digest == digest else None


class Passages:
    """
    What objects of one dataset need, whatever shape they were loaded under.

    Args:
        file: the ledger's.
        reader: how objects would be read now.
        shape: likewise.
        naming: what their names are.
    """

    def __init__(self, file: LedgerFile, reader: Reader, shape: Shape, naming: Naming) -> None:
        self.reader, self.shape, self.naming = reader, shape, naming
        self._shapes = Shapes(file)
        self._known: dict[str, Passage | None] = {}

    def passage(self, digest: str) -> Passage | None:
        """From the shape of that digest; None when nobody knows it."""
        if digest not in self._known:
            old = self._shapes.get(digest)
            self._known[digest] = Passage(old, self.shape, self.naming) if old is not None else None
        return self._known[digest]

    def need(self, row: ObjectRow, dialect: str | None = None) -> Need:
        """
        What an object needs.

        Args:
            row: its ledger entry.
            dialect: the recorded one's digest; None where that doesn't matter.
        """
        former = Reader.parse(row.reader)
        if former.content != self.reader.content or row.state == "pending" or dialect not in (None, former.dialect):
            return READ
        if former.shape == self.reader.shape:
            return NOTHING if former.homes == self.reader.homes else Need("note", (), None)
        passage = self.passage(former.shape)
        return passage.need(row) if passage is not None else READ

    def note(self) -> None:
        """Note the shape, before objects have it."""
        self._shapes.note(self.shape)


@cache
def digest(text: str) -> str:
    """Of a text, short."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_headerless(format: object) -> bool:
    """Whether columns are told by their place, or may be: then which are declared decides how bytes become records."""
    inner = format.inside if isinstance(format, Pages) else format
    return isinstance(inner, Csv) and not (isinstance(inner.header_rows, int) and inner.header_rows > 0)
