"""
Files of captured changes to records: JSON of Debezium, Maxwell and DynamoDB's exports; CSV and Parquet of AWS DMS.

Belongs here: where one change ends and the next begins, and what an object's name says of its changes. Doesn't: what a change says
(`change_records.py`), CSV and Parquet themselves.

`_row` is the number of the record. A change that gives a row another key is two rows of one number, and one of another table is none.
"""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute

from ingestion_platform.change_log import Debezium, Dms, DynamoDbExport, Maxwell
from ingestion_platform.errors import ObjectRejected
from ingestion_platform.format import Csv, JsonLines
from ingestion_platform.formats import tables
from ingestion_platform.formats.change_records import change_decoder, without_told
from ingestion_platform.formats.content import BLOCK_BYTES, Content
from ingestion_platform.formats.delimited import read_delimited
from ingestion_platform.formats.json_lines import read_json_lines
from ingestion_platform.formats.json_members import NotAnObject
from ingestion_platform.formats.json_objects import Objects, Taken
from ingestion_platform.formats.parquet_files import read_parquet
from ingestion_platform.formats.records import Ending, Field, Piece, Pieces, RejectedRecord
from ingestion_platform.formats.texts import as_it_stands, decode_marking, excerpt, is_utf_8

_LISTED = msgspec.json.Decoder(list[msgspec.Raw])
_ANY = msgspec.json.Decoder(msgspec.Raw)
_MOST_STRANGERS = 5
pc: Any = pyarrow.compute
"""Its stubs know nothing of texts beside arrays."""


class ChangeObjects:
    """
    Takes what is wanted out of captured changes.

    Args:
        format: who captured them.
        fields: the values wanted.
        key: of the object they stand in.
    """

    def __init__(self, format: Debezium | Maxwell | DynamoDbExport, fields: Sequence[Field], key: str = "") -> None:
        self.strangers: dict[str, int] = {}
        self._decode = change_decoder(format, fields, key=key, strangers=self.strangers)
        self._objects = Objects([field.source for field in fields], format.max_columns)

    def take(self, texts: Sequence[bytes]) -> Taken:
        """Take what is wanted of each change: a row for each, two where a row got another key, none of another table."""
        told: list[bytes] = []
        of: list[int] = []
        refused: list[tuple[int, str]] = []
        for at, text in enumerate(texts):
            try:
                if not is_utf_8(text):
                    raise NotAnObject("is not text in utf-8")
                found = self._decode(text)
            except NotAnObject as error:
                refused.append((at, str(error)))
                continue
            told += found
            of += [at] * len(found)
        taken = self._objects.take(told)
        lost = {of[at]: why for at, why in taken.refused}
        numbers = np.array(of, np.int64)[taken.good]
        columns, extra = taken.columns, taken.extra
        if lost:
            # Of a change that is two, both are set aside or none.
            kept = pa.array(~np.isin(numbers, list(lost)))
            numbers, columns = numbers[kept.to_numpy(zero_copy_only=False)], [column.filter(kept) for column in columns]
            extra = extra.filter(kept)
        return Taken(numbers, columns, _of_rows_alone(extra), sorted([*refused, *lost.items()]))

    @property
    def unknown(self) -> tuple[str, ...]:
        """Columns that no field asks for."""
        return tuple(name for name in self._objects.unknown if not name.startswith("@"))

    @property
    def seen(self) -> set[str]:
        """Sources of fields that a change had; what is told beside rows needn't be."""
        return self._objects.seen

    @property
    def departures(self) -> tuple[str, ...]:
        """Changes of tables that no dataset takes, and what rows had more than once."""
        if not self.strangers:
            return self._objects.departures
        # Without quotes: what stands in them is hidden where columns are personal, and a table's name isn't.
        shown = [f"{excerpt(name, 80).strip('“”')} ({count:,})" for name, count in sorted(self.strangers.items())]
        rest = f" and {len(shown) - _MOST_STRANGERS:,} more" if len(shown) > _MOST_STRANGERS else ""
        told = f"has changes of tables that no dataset takes: {', '.join(shown[:_MOST_STRANGERS])}{rest}"
        return (*self._objects.departures, told)


def _of_rows_alone(extra: Any) -> Any:
    """What is left over of rows, without what is told beside them."""
    left = [without_told(one) for one in extra.to_pylist()]
    return pa.chunked_array([pa.array(left, pa.string())])


def read_changes(
    format: Debezium | Maxwell | DynamoDbExport,
    content: Content,
    fields: Sequence[Field],
    *,
    key: str,
    block_bytes: int = BLOCK_BYTES,
) -> Pieces:
    """
    Read captured changes in JSON.

    Raises:
        ObjectRejected: it isn't text, is cut, or none of its records is a change.
    """
    taker = ChangeObjects(format, fields, key)
    if isinstance(format, Debezium) and format.layout == "document":
        pieces = _document(format, content, fields, taker)
    else:
        lines = JsonLines(max_bytes=format.max_bytes, max_record_bytes=format.max_record_bytes)
        pieces = read_json_lines(lines, content, fields, block_bytes=block_bytes, taker=taker)
    ending = yield from pieces
    # A column that no change of this object has may be one that was added later.
    return Ending(taker.unknown, _of_rows(ending.missing_columns), departures=taker.departures)


def _document(format: Debezium, content: Content, fields: Sequence[Field], taker: ChangeObjects) -> Pieces:
    """One event, or a list of them."""
    text = content.stream().read(format.max_record_bytes + 1)
    if len(text) > format.max_record_bytes:
        raise ObjectRejected(
            f"has a document of more than the {format.max_record_bytes:,} bytes allowed",
            "raise max_record_bytes of its format, or send one event a line",
        )
    text = text.removeprefix(b"\xef\xbb\xbf").strip(b" \t\r\n")
    if not is_utf_8(text):
        raise ObjectRejected("is not text in utf-8")
    try:
        events = [bytes(one) for one in _LISTED.decode(text)] if text[:1] == b"[" else [bytes(_ANY.decode(text))]
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ObjectRejected(f"is cut, or no JSON document: {error}", "it is read again when it changes") from error
    taken = taker.take(events)
    rejected = tuple(
        RejectedRecord(at + 1, why, as_it_stands(decode_marking(events[at], "utf-8"))) for at, why in taken.refused
    )
    table = tables.numbered(fields, taken.columns, taken.extra, taken.good + 1)
    yield Piece(table, rejected)
    missing = dict.fromkeys(one.source for one in fields if one.source not in taker.seen) if table.num_rows else {}
    return Ending((), tuple(missing))


def _of_rows(sources: Sequence[str] | dict[str, None]) -> tuple[str, ...]:
    return tuple(source for source in sources if not source.startswith("@"))


# --- DMS

_CHANGES_NAME = re.compile(r"(?P<day>[0-9]{8})-(?P<time>[0-9]{6,10})(?![0-9])")
_LOAD_NAME = re.compile(r"LOAD(?P<number>[0-9A-Fa-f]{1,12})")
_OPERATIONS = {"I": "insert", "U": "update", "D": "delete"}


def read_dms(
    format: Dms, content: Content, fields: Sequence[Field], *, key: str, block_bytes: int = BLOCK_BYTES
) -> Pieces:
    """
    Read a file of DMS.

    Raises:
        ObjectRejected: its name isn't one that DMS gives, or it can't be read as what is inside.
    """
    reader = _DmsReader(format, fields, key)
    inside: Pieces
    if isinstance(format.inside, Csv):
        inside = read_delimited(format.inside, content, reader.inner, block_bytes=block_bytes)
    else:
        inside = read_parquet(format.inside, content, reader.inner, block_bytes=block_bytes)
    try:
        while True:
            piece = next(inside)
            yield Piece(reader.told(piece.table), piece.rejected, piece.is_anew)
    except StopIteration as end:
        ending: Ending = end.value
    own = {format.operation} if reader.is_load else set()
    return Ending(
        ending.unknown_columns,
        tuple(name for name in (*ending.missing_columns, *reader.missing) if name not in own),
        trailers=ending.trailers,
        departures=ending.departures,
    )


def inner_fields(format: Dms, fields: Sequence[Field], key: str) -> Sequence[Field]:
    """What a file of DMS is read with inside."""
    return _DmsReader(format, fields, key).inner


class _DmsReader:
    def __init__(self, format: Dms, fields: Sequence[Field], key: str) -> None:
        self._format = format
        self._fields = fields
        self.is_load = format.is_load(key)
        self._first, self._at = _named(key, self.is_load)
        sources = list(dict.fromkeys(self._source(one.source) for one in fields))
        sources = [one for one in sources if one]
        has_operation = not self.is_load or format.load_has_operation
        self.missing: tuple[str, ...] = ()
        if format.columns:
            there = [one for one in format.columns if has_operation or one != format.operation]
            self.missing = tuple(one for one in sources if one not in there)
            sources = there if isinstance(format.inside, Csv) and format.inside.header_rows == 0 else sources
        if not has_operation:
            sources = [one for one in sources if one != format.operation]
        self.inner = [Field(f"c{number}", source) for number, source in enumerate(sources)]
        self._of = {field.source: field.name for field in self.inner}

    def _source(self, source: str) -> str:
        """The file's column that a field is made of; empty: none."""
        match source:
            case "@operation":
                return self._format.operation
            case "@changed_at":
                return self._format.changed_at
            case "@source_position":
                return self._format.position
        return "" if source.startswith("@") else source

    def told(self, table: pa.Table) -> pa.Table:
        """The inner table's rows as changes."""
        columns: list[Any] = []
        for field in self._fields:
            found = self._of.get(self._source(field.source))
            column = table.column(found) if found is not None else None
            columns.append(self._column(field.source, column, table))
        columns += [self._extra(table), table.column("_row")]
        return pa.Table.from_arrays(columns, schema=tables.schema(self._fields))

    def _column(self, source: str, column: Any, table: pa.Table) -> Any:
        rows = table.num_rows
        if source == "@operation":
            if self.is_load:
                return _always("snapshot", rows)
            for code, operation in _OPERATIONS.items():
                column = pc.if_else(pc.equal(column, code), operation, column)
            return column
        if source == "@changed_at":
            if column is None:
                return _always(self._at, rows)
            column = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
            has_offset = pc.match_substring_regex(column, r"([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)$")
            is_date = pc.match_substring_regex(column, r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")
            return pc.if_else(pc.or_(has_offset, is_date), column, pc.binary_join_element_wise(column, "+00:00", ""))
        if source == "@source_position" and column is None:
            numbers = table.column("_row").cast(pa.string())
            return pc.binary_join_element_wise(_always(self._first, rows), numbers, ":")
        return column if column is not None else tables.no_values(rows)

    def _extra(self, table: pa.Table) -> Any:
        """What the file has beside the declared columns, where its columns are named by place."""
        wanted = {self._source(field.source) for field in self._fields}
        left = [one for one in self.inner if one.source not in wanted and one.source != self._format.operation]
        extra = table.column("_extra")
        if not left:
            return extra
        columns = [table.column(one.name).to_pylist() for one in left]
        found = []
        for row, before in enumerate(extra.to_pylist()):
            members = {
                one.source: column[row]
                for one, column in zip(left, columns, strict=True)
                if column[row] not in (None, "")
            }
            if before is not None:
                members |= msgspec.json.decode(before)
            found.append(msgspec.json.encode(dict(sorted(members.items()))).decode() if members else None)
        return pa.chunked_array([pa.array(found, pa.string())])


def _always(value: str | None, rows: int) -> Any:
    return pa.chunked_array([pa.repeat(pa.scalar(value, pa.string()), rows)])


def _named(key: str, is_load: bool) -> tuple[str, str | None]:
    """What an object's name says: where its changes stand among those of other objects, and when they were, UTC."""
    name = PurePosixPath(key).name
    if is_load:
        found = _LOAD_NAME.match(name)
        if found is not None:
            return str(int(found["number"], 16)), None
    else:
        found = _CHANGES_NAME.search(name)
        if found is not None:
            day, time = found["day"], found["time"].ljust(10, "0")
            moment = f"{day[:4]}-{day[4:6]}-{day[6:]} {time[:2]}:{time[2:4]}:{time[4:6]}.{time[6:]}00+00:00"
            return day + time, moment
    raise ObjectRejected(
        f"has a name that DMS doesn't give: {excerpt(name, 80)}", "as in LOAD00000001.csv or 20141029-1134010000.csv"
    )
