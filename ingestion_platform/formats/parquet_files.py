"""
Parquet to records: every value as the one text that stands for it.

Numbers as written by hand (decimals with all their digits, floats with the fewest that read back equal), dates and times in ISO 8601 with
microseconds at least, instants in UTC with their offset, bytes in hex, nested values as JSON. A Parquet object counts whole or not at
all: there are no rejected records.

Timestamps of the old INT96 kind are read in microseconds: in nanoseconds, years outside 1678 to 2261 would wrap around unnoticed.
"""

import io
import uuid
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestion_platform.errors import ObjectRejected
from ingestion_platform.format import Parquet
from ingestion_platform.formats import tables
from ingestion_platform.formats.content import BLOCK_BYTES, Content
from ingestion_platform.formats.records import Ending, Field, Piece, Pieces, all_names, require_columns
from ingestion_platform.formats.tables import Column
from ingestion_platform.formats.texts import excerpt

_MAGIC = b"PAR1"
_OFFSET_BYTES = 4
_READ_BYTES = 256 * 1024
_MOST_ROWS = 65_536
_AGAIN = "it is read again when it changes"


def read_parquet(
    format: Parquet, content: Content, fields: Sequence[Field], *, block_bytes: int = BLOCK_BYTES
) -> Pieces:
    """
    Read Parquet, some rows of a row group at a time.

    Raises:
        ObjectRejected: it is cut or damaged, too large once decompressed, names a column twice, or has none of the fields.
    """
    file = content.searchable()
    require_whole(file)
    wanted = {field.source for field in fields}
    try:
        # What is in memory is read where it is; any other file through Python.
        source: Any = pa.BufferReader(file.getvalue()) if isinstance(file, io.BytesIO) else file
        with pq.ParquetFile(
            source,
            page_checksum_verification=True,
            coerce_int96_timestamp_unit="us",
            pre_buffer=False,
            buffer_size=_READ_BYTES,
        ) as opened:
            names = opened.schema_arrow.names
            require_columns(len(names), format.max_columns)
            batch_rows = _batch_rows(format, opened, names, all_names(fields), block_bytes)
            unknown = [name for name in names if name not in wanted]
            rows = 0
            for batch in opened.iter_batches(batch_rows, use_threads=False):
                # Whatever was written in place of text, offsets or indices is only looked at here.
                batch.validate(full=True)
                table = pa.Table.from_batches([batch])
                columns = {name: _texts(column) for name, column in zip(names, table.columns, strict=True)}
                nothing = tables.no_values(batch.num_rows)
                yield Piece(
                    tables.from_columns(
                        fields,
                        [columns.get(field.source, nothing) for field in fields],
                        extra_of(table, unknown),
                        (),
                        rows + 1,
                    )
                )
                rows += batch.num_rows
            if rows != opened.metadata.num_rows:
                raise ObjectRejected(
                    f"is damaged Parquet: it says that it has {opened.metadata.num_rows:,} rows and gives {rows:,}",
                    _AGAIN,
                )
    except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError) as error:
        raise ObjectRejected(f"is damaged Parquet: {excerpt(str(error), 200)}", _AGAIN) from error
    if not rows:
        yield Piece(tables.from_rows(fields, ()))
    missing = dict.fromkeys(field.source for field in fields if field.source not in names)
    return Ending(tuple(unknown), tuple(missing))


def require_whole(file: BinaryIO) -> None:
    """
    See whether a file begins and ends as Parquet does.

    Raises:
        ObjectRejected: it doesn't.
    """
    beginning = file.read(len(_MAGIC))
    if beginning != _MAGIC:
        raise ObjectRejected("is not Parquet: it doesn't begin with PAR1" if beginning else "is empty", _AGAIN)
    size = file.seek(0, io.SEEK_END)
    file.seek(max(size - len(_MAGIC), 0))
    if size < 12 or file.read() != _MAGIC:
        raise ObjectRejected("is cut: Parquet ends with PAR1, and this doesn't", _AGAIN)
    file.seek(0)


def _batch_rows(format: Parquet, file: pq.ParquetFile, names: list[str], wanted: set[str], block_bytes: int) -> int:
    """How many rows are read at a time."""
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise ObjectRejected(f"names a column twice: {excerpt(twice[0])}", "each column needs a name of its own")
    if wanted and wanted.isdisjoint(names):
        raise ObjectRejected(
            f"is not the declared Parquet: its columns {excerpt(', '.join(names))} are none of {excerpt(', '.join(sorted(wanted)))}"
        )
    rows = file.metadata.num_rows
    groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
    unpacked = sum(max(group.total_byte_size, 0) for group in groups)
    size = max(unpacked, rows * len(names) * _OFFSET_BYTES)
    if size > format.max_bytes:
        raise ObjectRejected(
            f"has {size:,} bytes once decompressed, more than the {format.max_bytes:,} allowed",
            "raise max_bytes of its format, or split it",
        )
    largest = max((group.total_byte_size // max(group.num_rows, 1) for group in groups), default=0)
    if largest > format.max_record_bytes:
        raise ObjectRejected(
            f"has records of {largest:,} bytes, more than the {format.max_record_bytes:,} allowed",
            "raise max_record_bytes of its format if they may be so large",
        )
    return max(1, min(_MOST_ROWS, block_bytes // max(largest, len(names) * _OFFSET_BYTES, 1)))


def _texts(column: Column) -> Column:
    return pa.chunked_array([_text(chunk) for chunk in column.chunks], pa.string())


def _text(array: Any) -> Any:
    type_ = array.type
    if isinstance(type_, pa.BaseExtensionType):
        if type_.extension_name == "arrow.uuid":
            values = array.storage.to_pylist()
            return pa.array([None if value is None else str(uuid.UUID(bytes=value)) for value in values], pa.string())
        return _text(array.storage)
    if pa.types.is_dictionary(type_):
        return _text(array.dictionary_decode())
    if pa.types.is_nested(type_):
        return pa.array([None if text == "null" else text for text in _jsons(array)], pa.string())
    if pa.types.is_timestamp(type_):
        # The instant is what is stored, in UTC; the zone is only how somebody liked to see it.
        plain = pc.cast(array, pa.timestamp(type_.unit)) if type_.tz is not None else array
        return _time_text(plain, "+00:00" if type_.tz is not None else "")
    if pa.types.is_time(type_):
        return _time_text(array, "")
    if pa.types.is_date(type_):
        return _in_range(pc.cast(array, pa.string()))
    if pa.types.is_decimal(type_):
        text = pc.cast(array, pa.string())
        if not pc.any(pc.match_substring(text, "E")).as_py():
            return text
        values = array.to_pylist()
        return pa.array([None if value is None else _digits(value) for value in values], pa.string())
    if pa.types.is_binary(type_) or pa.types.is_large_binary(type_) or pa.types.is_fixed_size_binary(type_):
        return pa.array([None if value is None else value.hex() for value in array.to_pylist()], pa.string())
    if pa.types.is_float16(type_):
        array = pc.cast(array, pa.float32())
    if pa.types.is_duration(type_):
        array = pc.cast(array, pa.int64())
    return pc.cast(array, pa.string())


def _time_text(array: Any, offset: str) -> Any:
    text = _in_range(pc.replace_substring(pc.cast(array, pa.string()), " ", "T"))
    digits = {"s": ".000000", "ms": "000"}.get(array.type.unit, "")
    return pc.binary_join_element_wise(text, digits + offset, "") if digits + offset else text


def _in_range(text: Any) -> Any:
    if pc.any(pc.starts_with(text, "<")).as_py():
        raise ValueError("a date or time is beyond the years that can be written")
    return text


def _digits(value: Decimal) -> str:
    return format(value, "f")


def _jsons(array: Any) -> list[str]:
    """Each value as JSON; a missing one as `null`."""
    type_ = array.type
    if isinstance(type_, pa.BaseExtensionType):
        return _jsons(array.storage) if type_.extension_name != "arrow.uuid" else _quoted(_text(array))
    if pa.types.is_dictionary(type_):
        return _jsons(array.dictionary_decode())
    valid = array.is_valid().to_pylist()
    if pa.types.is_struct(type_):
        names = [_json(type_.field(index).name) for index in range(type_.num_fields)]
        members = [_jsons(pc.struct_field(array, [index])) for index in range(type_.num_fields)]
        rows = zip(*members, strict=True) if members else (() for _ in valid)
        return [
            "{" + ",".join(f"{name}:{value}" for name, value in zip(names, row, strict=True)) + "}"
            if is_valid
            else "null"
            for row, is_valid in zip(rows, valid, strict=True)
        ]
    if pa.types.is_map(type_):
        keys, items = _texts_of_keys(array.keys), _jsons(array.items)
        return _sliced([f"{key}:{item}" for key, item in zip(keys, items, strict=True)], array, valid, "{}")
    if pa.types.is_fixed_size_list(type_):
        return _jsons(pc.cast(array, pa.list_(type_.value_field)))
    if pa.types.is_nested(type_):
        return _sliced(_jsons(array.values), array, valid, "[]")
    text = _text(array)
    if pa.types.is_boolean(type_) or pa.types.is_integer(type_) or pa.types.is_decimal(type_):
        return [value if value is not None else "null" for value in text.to_pylist()]
    if pa.types.is_floating(type_):
        # JSON has no infinity and no NaN: they become text.
        is_number = pc.fill_null(pc.is_finite(array), False).to_pylist()
        return [
            "null" if value is None else value if finite else _json(value)
            for value, finite in zip(text.to_pylist(), is_number, strict=True)
        ]
    return _quoted(text)


def _sliced(values: list[str], array: Any, valid: list[bool], brackets: str) -> list[str]:
    offsets = array.offsets.to_pylist()
    return [
        brackets[0] + ",".join(values[begin:end]) + brackets[1] if is_valid else "null"
        for begin, end, is_valid in zip(offsets[:-1], offsets[1:], valid, strict=True)
    ]


def _texts_of_keys(keys: Any) -> list[str]:
    return [_json(key) for key in _text(keys).to_pylist()]


def _quoted(text: Any) -> list[str]:
    return ["null" if value is None else _json(value) for value in text.to_pylist()]


def extra_of(table: pa.Table, unknown: Sequence[str]) -> Column:
    """`_extra` of some rows: the columns that nobody asks for, as JSON."""
    if not unknown:
        return tables.no_values(table.num_rows)
    names = [_json(name) for name in unknown]
    columns = [[text for chunk in table[name].chunks for text in _jsons(chunk)] for name in unknown]
    rows = zip(*columns, strict=True)
    texts = ["{" + ",".join(map(":".join, zip(names, row, strict=True))) + "}" for row in rows]
    return pa.chunked_array([pa.array(texts, pa.string())])


def _json(text: str) -> str:
    return msgspec.json.encode(text).decode()
