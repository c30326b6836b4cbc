"""
What of an object tells of a person: which of its records go, and which are emptied.

Belongs here: reading an object as each of its datasets does, and holding its records against the person's keys. Doesn't: taking records out
(`formats/erasing.py`), which objects there are (`forget.py`).

A record is a person's where a column that is declared to hold the key of such a person holds it. What nobody has declared has no columns:
there, and in records that can't be read, a key tells wherever it stands as a word of its own, if it is long enough.
"""

import hashlib
import io
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute

from ingestion_platform.api import PAGE_FIELDS, Pages
from ingestion_platform.change_log import ChangeLog
from ingestion_platform.database import ExtractFile
from ingestion_platform.dataset import Dataset
from ingestion_platform.errors import ObjectRejected
from ingestion_platform.format import Format
from ingestion_platform.formats import (
    Emptying,
    Erasure,
    Field,
    OfPages,
    Words,
    erase_records,
    open_group,
    open_records,
    read_records,
)
from ingestion_platform.stream import Segments, StreamSegments

pc: Any = pyarrow.compute
"""Its stubs know nothing of texts beside arrays."""

AnyFormat = Format | ChangeLog | Segments | Pages | ExtractFile


@dataclass(frozen=True)
class Person:
    """
    Who is to be forgotten.

    Args:
        keys: kind of key → the person's.
        everywhere: a key tells in any column where it stands as a word, and not only where nobody knows what a text is.
        hashes: what hashed columns show of the keys; they tell wherever they stand, in what lands of tables.
    """

    keys: Mapping[str, frozenset[str]]
    everywhere: bool = False
    hashes: tuple[str, ...] = ()

    @property
    def values(self) -> tuple[str, ...]:
        """All keys."""
        return tuple(sorted({value for values in self.keys.values() for value in values}))

    @property
    def words(self) -> Words:
        """Those that tell wherever they stand."""
        return Words([*self.values, *self.hashes])


@dataclass(frozen=True, slots=True)
class Reading:
    """
    How a dataset reads its objects.

    Args:
        dataset: which.
        format: nothing of it is to be detected any more, as far as that is known.
        fields: all that it wants of records.
    """

    dataset: Dataset
    format: AnyFormat
    fields: Sequence[Field]

    @property
    def framing(self) -> str:
        """The same for datasets to which an object has the same records, each with the same number."""
        if isinstance(self.format, Segments):
            return "segment"
        if isinstance(self.format, ChangeLog):
            return f"{type(self.format).__name__} {getattr(self.format, 'layout', '')}"
        return repr(self.format)


@dataclass
class Judged:
    """
    What of an object tells of a person, to one dataset.

    Args:
        erasure: what is to go.
        pages: of a group of pages: the same of each page, by its number.
        rows: how many rows that is.
        elsewhere: rows that aren't the person's and hold a key in a column that has another meaning.
        spellings: the person's keys as they are written there.
        is_whole: the object's own key tells of the person: all of it goes.
        is_unreadable: it couldn't be read as declared.
    """

    erasure: Erasure = field(default_factory=Erasure)
    pages: dict[int, Erasure] = field(default_factory=dict)
    rows: int = 0
    elsewhere: int = 0
    spellings: set[str] = field(default_factory=set)
    is_whole: bool = False
    is_unreadable: bool = False


def judge(reading: Reading, file: BinaryIO, key: str, person: Person) -> Judged:
    """
    Hold an object's records against a person.

    Args:
        reading: how it is read.
        file: the object; seekable.
        key: its key.
        person: who.
    """
    judged = Judged()
    found = reading.dataset.source.match(key)
    captures = found[1] if found else {}
    for kind, columns in reading.dataset.people.items():
        wanted = person.keys.get(kind, frozenset())
        if any(column.capture is not None and captures.get(column.capture, "") in wanted for column in columns):
            judged.is_whole = True
    file.seek(0)
    try:
        if isinstance(reading.format, Pages):
            _judge_pages(reading, file, person, judged)
        else:
            judged.erasure = _judge_records(reading, reading.format, reading.fields, file, key, person, judged, None)
    except ObjectRejected:
        judged.is_unreadable = True
    return judged


def _judge_pages(reading: Reading, file: BinaryIO, person: Person, judged: Judged) -> None:
    assert isinstance(reading.format, Pages), "asked before"
    inside = reading.format.inside
    inner = [one for one in reading.fields if one.source not in PAGE_FIELDS and not one.source.startswith("@param.")]
    given = {one.name: one.source.removeprefix("@param.") for one in reading.fields if one.source.startswith("@param.")}
    group = open_group(file.read(), reading.format.max_bytes)
    for number, page in enumerate(group.pages()):
        if not page.body:
            continue
        told = {name: page.params.get(source) for name, source in given.items()}
        is_all = any(
            (told.get(column.name) or "").strip() in person.keys.get(kind, ())
            for kind, columns in reading.dataset.people.items()
            for column in columns
        )
        erasure = _judge_records(reading, inside, inner, io.BytesIO(page.body), "", person, judged, is_all)
        if erasure:
            judged.pages[number] = erasure


def _judge_records(
    reading: Reading,
    format: AnyFormat,
    fields: Sequence[Field],
    file: BinaryIO,
    key: str,
    person: Person,
    judged: Judged,
    is_all: bool | None,
) -> Erasure:
    dataset, words = reading.dataset, person.words
    rows: set[int] = set()
    emptied: dict[int, Emptying] = {}
    emptying = emptying_of(dataset)
    unreadable: set[int] = set()
    for piece in open_records(format, file, fields, key=key):
        if piece.is_anew:
            rows, unreadable = set(), set()
        table = piece.table
        mask = np.full(table.num_rows, bool(is_all))
        for kind, columns in dataset.people.items():
            wanted = person.keys.get(kind, frozenset())
            for column in columns if wanted else ():
                if column.name not in table.column_names:
                    continue
                texts = table.column(column.name)
                # What a key is isn't changed by white space around it.
                ours = pc.is_in(pc.utf8_trim_whitespace(texts), value_set=pa.array(sorted(wanted), pa.string()))
                ours = ours.to_numpy(zero_copy_only=False)
                if ours.any():
                    judged.spellings.update(pc.unique(texts.filter(pa.array(ours))).to_pylist())
                mask |= ours
                if column.aliases:
                    mask |= _aliased(table.column("_extra"), column.aliases, wanted)
        if words:
            for name in _undeclared(dataset, fields):
                mask |= _holding(table.column(name), words)
            beside = np.zeros(table.num_rows, np.bool_)
            hashes = Words(person.hashes)
            for name in table.column_names:
                if name != "_row":
                    beside |= _holding(table.column(name), words)
                    mask |= _holding(table.column(name), hashes)
            if person.everywhere:
                mask |= beside
            judged.elsewhere += int((beside & ~mask).sum())
            unreadable |= {record.row for record in piece.rejected if words.hold(record.record)}
        rows |= set(table.column("_row").to_numpy()[mask].tolist())
    judged.rows += len(rows) + len(unreadable)
    if dataset.erase == "columns":
        emptied, rows = dict.fromkeys(sorted(rows), emptying), set()
    return Erasure(frozenset(rows | unreadable), emptied, words)


def _aliased(extra: Any, aliases: Iterable[str], wanted: frozenset[str]) -> Any:
    """Rows that have one of these keys under another name."""
    found = []
    for text in extra.to_pylist():
        members = json.loads(text) if text is not None else {}
        found.append(any(str(members.get(alias, "")).strip() in wanted for alias in aliases))
    return np.array(found, np.bool_)


def _undeclared(dataset: Dataset, fields: Sequence[Field]) -> list[str]:
    """Columns of what is read that hold texts of which nobody knows what they say, or that are personal."""
    personal = {column.name for column in dataset.columns if column.pii is not None or column.person is not None}
    opaque = {one.name for one in fields if one.source in ("@value", "@key", "@headers", "@url")}
    there = {one.name for one in fields}
    return ["_extra", *sorted((personal | opaque) & there)]


def _holding(column: Any, words: Words) -> Any:
    """Which texts hold one of these words."""
    may = np.zeros(len(column), np.bool_)
    for value in words.values:
        may |= pc.fill_null(pc.match_substring(column, value), False).to_numpy(zero_copy_only=False)
        escaped = json.dumps(value)[1:-1]
        if escaped != value:
            may |= pc.fill_null(pc.match_substring(column, escaped), False).to_numpy(zero_copy_only=False)
    for at in np.flatnonzero(may).tolist():
        text = column[at].as_py()
        may[at] = words.hold(text) or words.hold(_unescaped(text))
    return may


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    try:
        return json.dumps(json.loads(text), ensure_ascii=False)
    except ValueError:
        return text


def emptying_of(dataset: Dataset) -> Emptying:
    """What of a record of a dataset stays when it is emptied."""
    kept = {
        name
        for column in dataset.columns
        if column.pii is None and column.person is None
        for name in column.names
        if not name.startswith("@header.")
    }
    gone = {
        name
        for column in dataset.columns
        if column.pii is not None or column.person is not None
        for name in column.names
    }
    source = dataset.source
    if isinstance(source, StreamSegments) and source.routed_by is not None:
        kept.add(source.routed_by)
    return Emptying(frozenset(kept), frozenset(gone))


def together(judged: Iterable[Judged]) -> Erasure:
    """What goes for any of several datasets that have the same records."""
    rows: set[int] = set()
    emptied: dict[int, Emptying] = {}
    words = Words(())
    for one in judged:
        rows |= one.erasure.rows
        words = one.erasure.words or words
        for row, emptying in one.erasure.emptied.items():
            before = emptied.get(row)
            emptied[row] = (
                emptying if before is None else Emptying(before.kept & emptying.kept, before.gone | emptying.gone)
            )
    return Erasure(frozenset(rows), {row: one for row, one in emptied.items() if row not in rows}, words)


def pages_together(judged: Iterable[Judged], words: Words) -> OfPages:
    """The same of a group of pages."""
    several = list(judged)
    numbers = sorted({number for one in several for number in one.pages})
    found = {
        number: together(Judged(one.pages[number]) for one in several if number in one.pages) for number in numbers
    }
    return OfPages(found, Erasure(words=words))


def erase(
    readings: Sequence[Reading],
    file: BinaryIO,
    key: str,
    person: Person,
    new_file: Callable[[], BinaryIO],
) -> tuple[BinaryIO, list[tuple[Reading, Judged]], Erasure]:
    """
    Write an object again without a person.

    Args:
        readings: of every dataset that reads it.
        file: the object.
        key: its key.
        person: who.
        new_file: an empty file.

    Returns:
        The bytes; what each dataset had of the person; the records that are gone or emptied, where their numbers mean anything.

    Raises:
        NotErasable: this can't be done without touching other records.
    """
    all_judged: list[tuple[Reading, Judged]] = []
    whole = Erasure()
    framings: dict[str, list[Reading]] = {}
    for reading in readings:
        framings.setdefault(reading.framing, []).append(reading)
    for several in framings.values():
        judged = [(reading, judge(reading, file, key, person)) for reading in several]
        all_judged += judged
        first = several[0]
        if isinstance(first.format, Pages):
            of_pages = pages_together((one for _, one in judged), person.words)
            what: Erasure | OfPages = of_pages
            is_any = bool(of_pages.pages) or _stands_around(file, person.words)
        else:
            what = whole = together(one for _, one in judged)
            is_any = bool(what)
        if not is_any:
            continue
        target = new_file()
        file.seek(0)
        erase_records(first.format, file, first.fields, what, target, key=key)
        target.seek(0)
        file = target
    return file, all_judged, whole


def _stands_around(file: BinaryIO, words: Words) -> bool:
    """Whether a group of pages has one of these words around its bodies."""
    file.seek(0)
    group = open_group(file.read(), 2**62)
    return any(
        words.hold(text)
        for page in group.pages()
        for text in (page.request, page.url, page.next, *page.params.values(), *page.headers.values())
    )


def same_otherwise(reading: Reading, before: BinaryIO, after: BinaryIO, key: str, erasure: Erasure) -> bool:
    """
    Whether the records that were not to be touched are the same in two objects, in the same order.

    Args:
        reading: how they are read.
        before: the object as it was.
        after: as it is to be.
        key: its key.
        erasure: what was to go.
    """
    touched = erasure.rows | frozenset(erasure.emptied)
    gone = 0 if isinstance(reading.format, Segments) else len(erasure.rows)
    # Of a file whose changes have their place by their number, it is another one: their order is what it was.
    numbered = (
        {one.name for one in reading.fields if one.source in ("@position", "@source_position")} if gone else set()
    )
    was, is_ = _Sum(numbered), _Sum(numbered)
    _sum_up(reading, before, key, was, lambda row: row not in touched)
    after_numbers = _numbers_after(erasure) if gone else {row: row for row in erasure.emptied}
    emptied = frozenset(after_numbers[row] for row in erasure.emptied if row in after_numbers)
    _sum_up(reading, after, key, is_, lambda row: row not in emptied)
    return was.digests() == is_.digests()


def _numbers_after(erasure: Erasure) -> dict[int, int]:
    """Number of each emptied record → its number when the others have gone."""
    gone = np.array(sorted(erasure.rows), np.int64)
    return {row: row - int(np.searchsorted(gone, row)) for row in erasure.emptied}


class _Sum:
    """
    Digests of columns, whatever pieces they come in.

    Args:
        left_out: columns that don't count.
    """

    def __init__(self, left_out: Collection[str]) -> None:
        self._left_out = {*left_out, "_row"}
        self._lengths: dict[str, Any] = {}
        self._texts: dict[str, Any] = {}
        self.rejected: list[str] = []

    def add(self, table: pa.Table) -> None:
        """Take some more rows."""
        for name in table.column_names:
            if name in self._left_out:
                continue
            for chunk in table.column(name).chunks:
                if not len(chunk):
                    continue
                lengths = pc.fill_null(pc.binary_length(chunk), -1).to_numpy(zero_copy_only=False)
                self._lengths.setdefault(name, hashlib.sha256()).update(lengths.astype("<i4").tobytes())
                joined = "".join(pc.fill_null(chunk, "").to_pylist())
                self._texts.setdefault(name, hashlib.sha256()).update(joined.encode())

    def digests(self) -> tuple[object, ...]:
        """What was taken, in few words."""
        return (
            sorted((name, one.hexdigest()) for name, one in self._lengths.items()),
            sorted((name, one.hexdigest()) for name, one in self._texts.items()),
            self.rejected,
        )


def _sum_up(reading: Reading, file: BinaryIO, key: str, sum_: _Sum, counts: Callable[[int], bool]) -> None:
    file.seek(0)
    tables: list[pa.Table] = []
    if isinstance(reading.format, Pages):
        records = read_records(reading.format, file.read(), reading.fields, key=key)
        tables, rejected = [records.table], list(records.rejected)
    else:
        rejected = []
        for piece in open_records(reading.format, file, reading.fields, key=key):
            if piece.is_anew:
                tables, rejected = [], []
            tables.append(piece.table)
            rejected += piece.rejected
    for table in tables:
        keep = pa.array([counts(int(row)) for row in table.column("_row").to_numpy()], pa.bool_())
        sum_.add(table.filter(keep))
    sum_.rejected += [record.record for record in rejected if counts(record.row)]
