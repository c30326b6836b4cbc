"""
Segments of streams: the envelope in which records land, written and read.

A segment is a Parquet object: one row a record, ascending by position, the value as the bytes it was, and around it where and when it
came. Its own
metadata says whose it is, and holds the schemas that its values were written with, so that reading it needs nothing else.

Belongs here: the columns of a segment, and routing. Doesn't: when a segment is closed and where it lands (`sources/drain.py`), what is
around a value as text (`envelope.py`), what a value's bytes mean (`values.py`).
"""

import json
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestion_platform.change_log import Captured, is_told_of_change
from ingestion_platform.errors import ObjectRejected
from ingestion_platform.formats import tables
from ingestion_platform.formats.change_records import change_decoder, tombstone, without_told
from ingestion_platform.formats.envelope import Envelope, Envelopes
from ingestion_platform.formats.json_columns import Columns, ColumnTaker
from ingestion_platform.formats.json_members import NotAnObject, Taker, peek
from ingestion_platform.formats.parquet_edit import forgotten_rows
from ingestion_platform.formats.records import Field, Records, RejectedRecord
from ingestion_platform.formats.texts import excerpt, is_utf_8
from ingestion_platform.formats.values import decoder_of
from ingestion_platform.stream import EVERYTHING_ELSE, BytesValues, JsonValues, Segments, Span

_HEADERS: Any = pa.list_(pa.struct([pa.field("name", pa.string()), pa.field("value", pa.binary())]))

_FIELDS: "list[pa.Field[Any]]" = [
    pa.field("position", pa.string()),
    pa.field("part", pa.int32()),
    pa.field("arrived_at", pa.timestamp("us", tz="UTC")),
    pa.field("key", pa.binary()),
    pa.field("headers", _HEADERS),
    pa.field("value", pa.binary()),
    pa.field("schema", pa.string()),
]
ENVELOPE = pa.schema(_FIELDS)
"""
`position`: decimal, the source's own. `part`: which of the records that the source holds as one (Kinesis, aggregated), from 0; NULL when
it is
one. `arrived_at`: when the source took it. `key`, `headers`, `value`: as they came; no value is a tombstone. `schema`: name of the
writer's schema in the segment's metadata.
"""
DENSE_ENVELOPE = ENVELOPE.set(0, pa.field("position", pa.int64()))
"""The same where positions fit into 64 bits: smaller and faster, read alike."""

_AGAIN = "it is read again when it changes"
_WHITE = b" \t\r\n"
_BATCH_ROWS = 16_384
_BATCH_BYTES = 16 * 1024**2
"""Records held as Python objects at a time: as many, and about as much."""
_SMALL_SHARE = 0.5


def write_segment(
    batches: Sequence[pa.RecordBatch], *, stream: str, shard: str, span: Span, schemas: Mapping[str, str] | None = None
) -> bytes:
    """
    The bytes of a segment.

    Args:
        batches: of one of the two envelopes, in order of position.
        stream: its name.
        shard: whose records they are.
        span: first and last position.
        schemas: name → writer's schema, of the names that `schema` has.
    """
    metadata = {"stream": stream, "shard": shard, "first": str(span.first), "last": str(span.last)}
    if schemas:
        metadata["schemas"] = json.dumps(dict(schemas), sort_keys=True)
    schema = batches[0].schema.with_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=["schema"],  # type: ignore[arg-type]  # the stubs know of bool only
        write_page_checksum=True,
    ) as writer:
        writer.write_table(pa.Table.from_batches(batches, schema=batches[0].schema).replace_schema_metadata(metadata))
    return sink.getvalue().to_pybytes()


def read_segment(
    format: Segments, content: bytes, fields: Sequence[Field], *, named: tuple[str, Span] | None
) -> Records:
    """
    Read a segment's records of one dataset.

    `_row` is a record's number in the segment, whatever dataset it belongs to.

    Args:
        named: shard and positions, as the object's key says; None when it says nothing.

    Raises:
        ObjectRejected: it is cut or damaged, or isn't what its key says.
    """
    table, metadata = _open(format, content)
    positions = _positions(table, named)
    shard = metadata.get("shard", "")
    if named is not None and shard != named[0]:
        raise ObjectRejected(f"is a segment of shard {excerpt(shard)}, and its key says {excerpt(named[0])}")
    reader = _Reader(format, fields, shard, metadata)
    rows = reader.table(table, forgotten_rows(metadata))
    missing = (
        dict.fromkeys(
            source for source in reader.value_sources if source not in reader.taker.seen and source[:1] != "@"
        )
        if reader.objects
        else {}
    )
    return Records(
        rows, tuple(reader.rejected), reader.unknown, tuple(missing), positions, departures=reader.taker.departures
    )


def open_segment(format: Segments, content: bytes) -> tuple[str, pa.Table, dict[str, str]]:
    """
    A segment's shard, its records, and the schemas that they were written with, by name.

    Raises:
        ObjectRejected: it is cut or damaged.
    """
    table, metadata = _open(format, content)
    return metadata.get("shard", ""), table, json.loads(metadata.get("schemas", "{}"))


def _open(format: Segments, content: bytes) -> tuple[pa.Table, dict[str, str]]:
    if len(content) < 12 or not (content.startswith(b"PAR1") and content.endswith(b"PAR1")):
        raise ObjectRejected("is no segment, or a cut one: it doesn't begin and end with PAR1", _AGAIN)
    try:
        with pq.ParquetFile(pa.BufferReader(pa.py_buffer(content)), page_checksum_verification=True) as file:
            groups = range(file.metadata.num_row_groups)
            unpacked = sum(max(file.metadata.row_group(group).total_byte_size, 0) for group in groups)
            if unpacked > format.max_bytes:
                raise ObjectRejected(
                    f"has {unpacked:,} bytes once decompressed, more than the {format.max_bytes:,} allowed",
                    "raise max_bytes of its format",
                )
            table = file.read(use_threads=False)
        table.validate(full=True)
        metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError) as error:
        raise ObjectRejected(f"is a damaged segment: {excerpt(str(error), 200)}", _AGAIN) from error
    if table.schema.remove_metadata() not in (ENVELOPE, DENSE_ENVELOPE):
        raise ObjectRejected(
            f"is no segment: its columns {excerpt(', '.join(table.column_names), 200)} aren't those of one",
            "only the platform writes below streams/",
        )
    return table, metadata


def _positions(table: pa.Table, named: tuple[str, Span] | None) -> "Positions":
    found = Positions(table.column("position"))
    if table.num_rows == 0:
        raise ObjectRejected("is a segment without records", "delete it")
    if table.column("position").null_count or not found.ascend():
        raise ObjectRejected("is a damaged segment: its positions don't ascend")
    if named is not None and (found[0], found[-1]) != (named[1].first, named[1].last):
        raise ObjectRejected(
            f"holds positions {found[0]} to {found[-1]}, and its key says {named[1].first} to {named[1].last}",
            "it was renamed, or written by somebody else",
        )
    return found


class Positions(Sequence[int]):
    """The positions of a segment's records, in order; held as Arrow has them."""

    def __init__(self, column: Any) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, index: Any) -> Any:
        return int(self._column[index].as_py())

    def ascend(self) -> bool:
        """Whether each is at least the one before."""
        if pa.types.is_integer(self._column.type):
            values = self._column.combine_chunks()
            return bool(pc.all(pc.greater_equal(values[1:], values[:-1])).as_py() is not False)
        try:
            values = [int(text) for text in self._column.to_pylist()]
        except (TypeError, ValueError):
            return False
        return all(one <= other for one, other in pairwise(values))

    def before(self, position: int) -> int:
        """How many records come before *position*."""
        return bisect_left(self, position)


class RunningRecords:
    """
    Takes one dataset's rows out of records as they come, as they are taken out of a segment once they have landed.

    Args:
        format: how they are read.
        fields: wanted.
        shard: whose records they are.
    """

    def __init__(self, format: Segments, fields: Sequence[Field], shard: str) -> None:
        self._format = format
        self._fields = fields
        self._shard = shard
        self._schemas: dict[str, str] = {}
        self._reader = _Reader(format, fields, shard, {})

    def rows(self, records: pa.RecordBatch, schemas: Mapping[str, str]) -> tuple[pa.Table, int]:
        """
        The rows, `_row` counting the records of the batch from 1, and how many of the dataset's records can't be read.

        Args:
            records: of one of the two envelopes.
            schemas: name → writer's schema, of the names that `schema` has.
        """
        if any(self._schemas.get(name) != schema for name, schema in schemas.items()):
            self._schemas.update(schemas)
            self._reader = _Reader(self._format, self._fields, self._shard, {"schemas": json.dumps(self._schemas)})
        self._reader.rejected.clear()
        table = self._reader.table(pa.Table.from_batches([records]))
        return table, len(self._reader.rejected)


class _Reader:
    """
    Takes one dataset's rows out of a segment.

    Most records are plain, and are taken many at once; the others one by one. Where both ways are open, they give the same.
    """

    def __init__(self, format: Segments, fields: Sequence[Field], shard: str, metadata: Mapping[str, str]) -> None:
        self._format = format
        self._fields = fields
        self._shard = shard
        self._decode = decoder_of(format.values, json.loads(metadata.get("schemas", "{}")))
        self._is_opaque = isinstance(format.values, BytesValues)
        self._router = format.routed_by
        self._type_member = self._router if self._router and not self._router.startswith("@") else None
        captured = format.values if isinstance(format.values, Captured) else None
        around = [
            one.source.startswith("@") and not (captured is not None and is_told_of_change(one.source))
            for one in fields
        ]
        self._of_envelope = [(index, one.source) for index, one in enumerate(fields) if around[index]]
        self._of_value = [(index, one.source) for index, one in enumerate(fields) if not around[index]]
        of_value = [fields[index] for index, _ in self._of_value]
        self._changes = change_decoder(captured, of_value) if captured is not None else None
        self.value_sources = [source for _, source in self._of_value]
        # The type is declared: an object that has it has nothing unknown.
        types = [self._type_member] if self._type_member is not None else []
        wanted = [*self.value_sources, *types]
        self.taker = Taker(wanted)
        # What keeps the value whole has nothing left over.
        self._keeps_all = any(source == "@value" for _, source in self._of_envelope)
        self._columns = _column_taker(wanted) if not self._is_opaque else None
        self._types = _column_taker(types) if not self._is_opaque else None
        # Which part of the records is the dataset's: where it is small, types are looked at first.
        self._share = 0.0 if format.types == EVERYTHING_ELSE else 1.0
        self.rejected: list[RejectedRecord] = []
        self.objects = 0

    def table(self, table: pa.Table, forgotten: Collection[int] = ()) -> pa.Table:
        """A row for each of the dataset's records; those that can't be read are kept in `rejected`. What is forgotten is none."""
        found: list[pa.RecordBatch] = []
        rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES * table.num_rows // max(table.nbytes, 1)))
        begin = 1
        for last in [*sorted(row for row in forgotten if row <= table.num_rows), table.num_rows + 1]:
            for batch in table.slice(begin - 1, last - begin).to_batches(rows):
                found += self._batch(Envelopes(self._shard, batch), begin)
                begin += batch.num_rows
            begin = last + 1
        return pa.Table.from_batches(found, schema=tables.schema(self._fields))

    def _batch(self, records: Envelopes, begin: int) -> list[pa.RecordBatch]:
        """The rows of some of the records; *begin* is the first one's number."""
        plain, left = self._plain(records, begin)
        rows = []
        if len(left):
            schemas = records.column("schema").take(pa.array(left, pa.int64())).to_pylist()
            for at, record, schema in zip(left, records.some(left), schemas, strict=True):
                rows += self._rows(begin + int(at), record, schema)
        if not rows:
            return [plain] if plain is not None else []
        found = tables.from_rows(self._fields, rows).to_batches()
        if plain is None:
            return found
        both = pa.Table.from_batches([plain, *found])
        return both.take(pc.sort_indices(both, [("_row", "ascending")])).to_batches()

    # --- many at once

    def _plain(self, records: Envelopes, begin: int) -> tuple[pa.RecordBatch | None, npt.NDArray[np.int64]]:
        """The rows of those records that are plain; and which others may be the dataset's, to be looked at one by one."""
        at = np.arange(records.rows)
        if self._columns is None:
            return None, at
        if self._router is not None and self._type_member is None:
            try:
                types = records.get(self._router, self._format.values)
            except NotAnObject:
                return None, at
            at = at[self._are_ours(types)]
        texts, column = self._texts(records, at)
        if self._types is not None and self._share < _SMALL_SHARE:
            looked = self._types.take(texts, column)
            keep = np.flatnonzero(~looked.is_read | self._are_ours(looked.values[self._type_member or ""]))
            at, texts, column = at[keep], [texts[one] for one in keep.tolist()], column.take(pa.array(keep))
        learning = (
            self._columns.take if self._keeps_all else partial(self._columns.take_learning, ours=self._may_be_ours)
        )
        taken = learning(texts, column)
        are_ours = self._may_be_ours(taken)
        self._share = int(are_ours.sum()) / max(records.rows, 1)
        is_plain = taken.is_read if self._keeps_all else taken.is_plain
        done, left = np.flatnonzero(are_ours & is_plain), at[are_ours & ~is_plain]
        rows = at[done]
        columns: list[Any] = [None] * len(self._fields)
        for index, source in self._of_value:
            columns[index] = taken.values[source].take(pa.array(done))
            if taken.has[source][done].any():
                self.taker.seen.add(source)
        around = records.only(rows)
        for index, source in self._of_envelope:
            try:
                columns[index] = around.get(source, self._format.values)
            except NotAnObject:
                return None, np.sort(np.concatenate([rows, left]))
        self.objects += len(rows)
        if self._keeps_all:
            columns.append(pa.nulls(len(rows), pa.string()))
        else:
            extra = taken.extra.take(pa.array(done))
            if self._changes is not None:
                extra = pa.array([without_told(one) for one in extra.to_pylist()], pa.string())
            columns.append(extra)
            for path, has in taken.has_extra.items():
                if has[done].any():
                    self.taker.note_unknown(path)
        columns.append(pa.array(rows + begin))
        return pa.RecordBatch.from_arrays(columns, schema=tables.schema(self._fields)), left

    def _may_be_ours(self, taken: Columns) -> npt.NDArray[np.bool_]:
        """Which records are the dataset's, as far as that could be read."""
        if self._type_member is None:
            return np.ones(len(taken.is_read), np.bool_)
        return ~taken.is_read | self._are_ours(taken.values[self._type_member])

    def _texts(self, records: Envelopes, at: npt.NDArray[np.int64]) -> tuple[list[bytes | None], Any]:
        """The values of some of the records as JSON, None where they can't be; and the same as an array."""
        column = records.column("value")
        if len(at) < len(column):
            column = column.take(pa.array(at))
        values: list[bytes | None] = column.to_pylist()
        if isinstance(self._format.values, JsonValues):
            return values, column
        schemas = records.column("schema").take(pa.array(at)).to_pylist()
        if self._changes is not None:
            values = [self._only_change(value) for value in values]
        else:
            values = [self._decoded(value, schema) for value, schema in zip(values, schemas, strict=True)]
        return values, pa.array(values, pa.binary())

    def _decoded(self, value: bytes | None, schema: str | None) -> bytes | None:
        try:
            return self._decode(value, schema) if value is not None else None
        except NotAnObject:
            return None

    def _only_change(self, value: bytes | None) -> bytes | None:
        """A captured change that is one row."""
        assert self._changes is not None
        try:
            found = self._changes(value.strip(_WHITE)) if value is not None else []
        except NotAnObject:
            return None
        return found[0] if len(found) == 1 else None

    def _are_ours(self, types: Any) -> npt.NDArray[np.bool_]:
        is_rest = self._format.types == EVERYTHING_ELSE
        known = pa.array(self._format.others if is_rest else self._format.types, pa.string())
        is_known: npt.NDArray[np.bool_] = pc.is_in(types, known).to_numpy(zero_copy_only=False)
        return ~is_known if is_rest else is_known

    # --- one by one

    def _rows(self, row: int, record: Envelope, schema: str | None) -> list[Sequence[str | int | None]]:
        """The rows of a record: of a captured change none, one or two."""
        if self._changes is None:
            one = self._row(row, record, schema)
            return [one] if one is not None else []
        try:
            if record.value is not None and not is_utf_8(record.value):
                raise NotAnObject("is not text in utf-8")
            told = self._changes(record.value.strip(_WHITE)) if record.value is not None else [tombstone()]
            around = [(index, record.get(source, self._format.values)) for index, source in self._of_envelope]
            found: list[Sequence[str | int | None]] = []
            for text in told:
                values: list[str | int | None] = [None] * len(self._fields)
                taken, extra = self.taker.take(text, is_clean=True)
                for (index, _), value in zip(self._of_value, taken, strict=False):
                    values[index] = value
                for index, text_around in around:
                    values[index] = text_around
                extra = None if self._keeps_all else without_told(extra)
                found.append([*values, extra, row])
        except NotAnObject as error:
            self.rejected.append(RejectedRecord(row, str(error), record.as_it_came()))
            return []
        self.objects += len(found)
        return found

    def _row(self, row: int, record: Envelope, schema: str | None) -> Sequence[str | int | None] | None:
        values: list[str | int | None] = [None] * len(self._fields)
        extra, reason, text = None, "", record.value
        if record.value is not None and not self._is_opaque:
            try:
                text = self._decode(record.value, schema)
                if not is_utf_8(text):
                    reason = "is not text in utf-8"
            except NotAnObject as error:
                reason = str(error)
        if self._router is not None:
            try:
                if self._type_member is None:
                    type_ = record.get(self._router, self._format.values)
                else:
                    type_ = peek(text, self._type_member) if text is not None and not reason else None
            except NotAnObject as error:
                type_, reason = None, str(error)
            if not self._is_ours(type_):
                return None
        if text is not None and not self._is_opaque and not reason:
            try:
                taken, extra = self.taker.take(text, is_clean=True)
                for (index, _), one in zip(self._of_value, taken, strict=False):
                    values[index] = one
            except NotAnObject as error:
                reason = str(error)
        for index, source in self._of_envelope:
            try:
                values[index] = record.get(source, self._format.values)
            except NotAnObject as error:
                reason = reason or str(error)
        if reason:
            self.rejected.append(RejectedRecord(row, reason, record.as_it_came()))
            return None
        if record.value is not None and not self._is_opaque:
            self.objects += 1
        return [*values, None if self._keeps_all else extra, row]

    @property
    def unknown(self) -> tuple[str, ...]:
        """Members that no field asks for, by name: which came first depends on how they are taken."""
        found = [name for name in self.taker.unknown if self._changes is None or not name.startswith("@")]
        return () if self._keeps_all else tuple(sorted(found))

    def _is_ours(self, type_: str | None) -> bool:
        if self._format.types == EVERYTHING_ELSE:
            return type_ is None or type_ not in self._format.others
        return type_ in self._format.types


def _column_taker(sources: Sequence[str]) -> ColumnTaker | None:
    wanted = list(dict.fromkeys(sources))
    return ColumnTaker(wanted) if ColumnTaker.can_take(wanted) else None
