"""
Segments of streams: the envelope in which records land, written and read.

A segment is a Parquet object: one row a record, ascending by position, the value as the bytes it was, and around it where and when it
came. Its own
metadata says whose it is, and holds the schemas that its values were written with, so that reading it needs nothing else.

Belongs here: the envelope and routing. Doesn't: when a segment is closed and where it lands (`sources/drain.py`), what a value's bytes mean
(`values.py`).
"""

import base64
import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestion_platform.errors import ObjectRejected
from ingestion_platform.formats import tables
from ingestion_platform.formats.json_members import NotAnObject, Taker, peek
from ingestion_platform.formats.records import Field, Records, RejectedRecord
from ingestion_platform.formats.texts import as_it_stands, decode_marking, excerpt, is_utf_8
from ingestion_platform.formats.values import decoder_of
from ingestion_platform.stream import EVERYTHING_ELSE, BytesValues, Segments, Span

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
_BATCH_ROWS = 65_536


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
    rows = tables.from_rows(fields, reader.rows(table))
    missing = (
        dict.fromkeys(source for source in reader.value_sources if source not in reader.taker.seen)
        if reader.objects
        else {}
    )
    return Records(rows, tuple(reader.rejected), tuple(reader.taker.unknown), tuple(missing), positions)


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


class _Reader:
    """Takes one dataset's rows out of a segment."""

    def __init__(self, format: Segments, fields: Sequence[Field], shard: str, metadata: Mapping[str, str]) -> None:
        self._format = format
        self._shard = shard
        self._decode = decoder_of(format.values, json.loads(metadata.get("schemas", "{}")))
        self._is_opaque = isinstance(format.values, BytesValues)
        self._router = format.routed_by
        wanted = list(fields)
        self._of_envelope = [(index, one.source) for index, one in enumerate(wanted) if one.source.startswith("@")]
        of_value = [(index, one.source) for index, one in enumerate(wanted) if not one.source.startswith("@")]
        self._of_value = [index for index, _ in of_value]
        self._width = len(wanted)
        self.value_sources = [source for _, source in of_value]
        self.taker = Taker(self.value_sources)
        self.rejected: list[RejectedRecord] = []
        self.objects = 0

    def rows(self, table: pa.Table) -> Iterator[Sequence[str | int | None]]:
        """A row for each of the dataset's records; those that can't be read are kept in `rejected`."""
        row = 0
        arrived = pc.strftime(table.column("arrived_at"), "%Y-%m-%dT%H:%M:%S+00:00")
        table = table.set_column(table.schema.get_field_index("arrived_at"), "arrived_at", arrived)
        for batch in table.to_batches(_BATCH_ROWS):
            columns = [column.to_pylist() for column in batch.columns]
            for record in zip(*columns, strict=True):
                row += 1
                taken = self._row(row, *record)
                if taken is not None:
                    yield taken

    def _row(
        self,
        row: int,
        position: str | int,
        part: int | None,
        arrived_at: str,
        key: bytes | None,
        headers: list[dict[str, Any]] | None,
        value: bytes | None,
        schema: str | None,
    ) -> Sequence[str | int | None] | None:
        values: list[str | int | None] = [None] * self._width
        extra, reason, text = None, "", value
        where = str(position) if part is None else f"{position}:{part}"
        if value is not None and not self._is_opaque:
            try:
                text = self._decode(value, schema)
                if not is_utf_8(text):
                    reason = "is not text in utf-8"
            except NotAnObject as error:
                reason = str(error)
        if self._router is not None:
            try:
                if self._router.startswith("@"):
                    type_ = self._around(self._router, where, arrived_at, key, headers, value)
                else:
                    type_ = peek(text, self._router) if text is not None and not reason else None
            except NotAnObject as error:
                type_, reason = None, str(error)
            if not self._is_ours(type_):
                return None
        if text is not None and not self._is_opaque and not reason:
            try:
                taken, extra = self.taker.take(text, is_clean=True)
                for index, one in zip(self._of_value, taken, strict=True):
                    values[index] = one
            except NotAnObject as error:
                reason = str(error)
        for index, source in self._of_envelope:
            try:
                values[index] = self._around(source, where, arrived_at, key, headers, value)
            except NotAnObject as error:
                reason = reason or str(error)
        if reason:
            self.rejected.append(RejectedRecord(row, reason, self._as_it_came(where, arrived_at, key, headers, value)))
            return None
        if value is not None and not self._is_opaque:
            self.objects += 1
        return [*values, extra, row]

    def _around(
        self,
        source: str,
        position: str,
        arrived_at: str,
        key: bytes | None,
        headers: list[dict[str, Any]] | None,
        value: bytes | None,
    ) -> str | None:
        """What is around a value, or all of it."""
        match source:
            case "@position":
                return position
            case "@shard":
                return self._shard
            case "@arrived_at":
                return arrived_at
            case "@key":
                return _text(key)
            case "@is_tombstone":
                return "true" if value is None else "false"
            case "@headers":
                return _headers(headers)
            case "@value":
                if value is None or self._format.values == BytesValues("hex"):
                    return value.hex() if value is not None else None
                try:
                    return value.decode()
                except UnicodeDecodeError as error:
                    raise NotAnObject("is not text in utf-8") from error
        found = [one["value"] for one in headers or () if one["name"] == source.removeprefix("@header.")]
        return _text(found[-1]) if found else None

    def _is_ours(self, type_: str | None) -> bool:
        if self._format.types == EVERYTHING_ELSE:
            return type_ is None or type_ not in self._format.others
        return type_ in self._format.types

    def _as_it_came(
        self,
        position: str,
        arrived_at: str,
        key: bytes | None,
        headers: list[dict[str, Any]] | None,
        value: bytes | None,
    ) -> str:
        """A record that can't be read, as JSON that its bytes can be had from again."""
        kept: dict[str, object] = {"shard": self._shard, "position": position, "arrived_at": arrived_at}
        kept |= _bytes("key", key)
        if headers:
            kept["headers"] = _headers(headers)
        kept |= _bytes("value", value)
        return json.dumps(kept, ensure_ascii=False)


def _bytes(name: str, value: bytes | None) -> dict[str, str | None]:
    """Bytes as text where they are, and in base64 where they aren't."""
    if value is None:
        return {name: None}
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}
    return {f"{name}_base64": base64.b64encode(value).decode()} if "\0" in text else {name: text}


def _text(value: bytes | None) -> str | None:
    return as_it_stands(decode_marking(value, "utf-8")) if value is not None else None


def _headers(headers: list[dict[str, Any]] | None) -> str | None:
    """Headers as a JSON array of pairs: a name may be there twice, and order counts."""
    if not headers:
        return None
    return msgspec.json.encode([[one["name"], _text(one["value"])] for one in headers]).decode()
