"""
What is around a stream record's value, as text: of one record, and of many at once.

Belongs here: shard, position, arrival, key, headers, and the value as it came. Doesn't: what the value says (`values.py`,
`json_members.py`).
"""

import base64
import json
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from ingestion_platform.formats.json_members import NotAnObject
from ingestion_platform.formats.texts import as_it_stands, decode_marking
from ingestion_platform.stream import BytesValues, Values

_MOMENT_CHARS = len("2024-10-01 06:00:00.000001")
_NEEDS_ESCAPING = r'["\\\x00-\x1f]'
pc: Any = pyarrow.compute
"""Its stubs know nothing of texts beside arrays."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """
    One record with what is around it.

    Args:
        shard: its shard's name.
        position: as text; of one of several that the source holds as one, with its number behind a colon.
        arrived_at: ISO 8601, UTC; None when the source doesn't tell.
        key: as it came.
        headers: pairs of `name` and `value`.
        value: as it came; None is a tombstone.
    """

    shard: str
    position: str
    arrived_at: str | None
    key: bytes | None
    headers: list[dict[str, Any]] | None
    value: bytes | None

    def get(self, source: str, values: Values) -> str | None:
        """
        One of `stream.ENVELOPE_FIELDS`, or a header.

        Raises:
            NotAnObject: the value is asked for, and isn't text.
        """
        match source:
            case "@position":
                return self.position
            case "@shard":
                return self.shard
            case "@arrived_at":
                return self.arrived_at
            case "@key":
                return _text(self.key)
            case "@is_tombstone":
                return "true" if self.value is None else "false"
            case "@headers":
                return _headers(self.headers)
            case "@value":
                if self.value is None or values == BytesValues("hex"):
                    return self.value.hex() if self.value is not None else None
                try:
                    return self.value.decode()
                except UnicodeDecodeError as error:
                    raise NotAnObject("is not text in utf-8") from error
        found = [one["value"] for one in self.headers or () if one["name"] == source.removeprefix("@header.")]
        return _text(found[-1]) if found else None

    def as_it_came(self) -> str:
        """All of it as JSON that its bytes can be had from again."""
        kept: dict[str, object] = {"shard": self.shard, "position": self.position, "arrived_at": self.arrived_at}
        kept |= _bytes("key", self.key)
        if self.headers:
            kept["headers"] = _headers(self.headers)
        kept |= _bytes("value", self.value)
        return json.dumps(kept, ensure_ascii=False)


class Envelopes:
    """
    Many records of a segment with what is around them.

    Args:
        shard: their shard's name.
        batch: of `segments.ENVELOPE` or `DENSE_ENVELOPE`.
    """

    def __init__(self, shard: str, batch: pa.RecordBatch) -> None:
        self.shard = shard
        self.batch = batch

    def column(self, name: str) -> Any:
        """A column as it is in the segment."""
        return self.batch.column(name)

    @property
    def rows(self) -> int:
        """How many records there are."""
        return self.batch.num_rows

    def only(self, rows: npt.NDArray[np.int64]) -> "Envelopes":
        """Some of the records."""
        return self if len(rows) == self.rows else Envelopes(self.shard, self.batch.take(rows))

    def some(self, rows: npt.NDArray[np.int64]) -> list[Envelope]:
        """Some of the records, one by one."""
        some = self.batch.take(rows)
        names = ("position", "part", "key", "headers", "value")
        return [
            Envelope(
                self.shard, str(position) if part is None else f"{position}:{part}", arrived_at, key, headers, value
            )
            for arrived_at, position, part, key, headers, value in zip(
                _moments(some.column("arrived_at")).to_pylist(),
                *(some.column(name).to_pylist() for name in names),
                strict=True,
            )
        ]

    def get(self, source: str, values: Values) -> Any:
        """
        One of `stream.ENVELOPE_FIELDS`, or a header, of every record: a string array.

        Raises:
            NotAnObject: a value is asked for, and isn't text.
        """
        match source:
            case "@position":
                text = self.column("position").cast(pa.string())
                part = self.column("part")
                if part.null_count == len(part):
                    return text
                return pc.coalesce(pc.binary_join_element_wise(text, part.cast(pa.string()), ":"), text)
            case "@shard":
                return pa.repeat(self.shard, len(self.batch))
            case "@arrived_at":
                return _moments(self.column("arrived_at"))
            case "@key":
                return _texts(self.column("key"))
            case "@is_tombstone":
                return pc.if_else(pc.is_null(self.column("value")), "true", "false")
            case "@headers":
                return _all_headers(self.column("headers"))
            case "@value":
                return self._value(values)
        return self._header(source.removeprefix("@header."))

    def _value(self, values: Values) -> Any:
        column = self.column("value")
        if values == BytesValues("hex"):
            return pa.array([one.hex() if one is not None else None for one in column.to_pylist()], pa.string())
        try:
            return column.cast(pa.string())
        except pa.ArrowInvalid as error:
            raise NotAnObject("is not text in utf-8") from error

    def _header(self, name: str) -> Any:
        headers = self.column("headers")
        flat = headers.flatten()
        at = np.flatnonzero(pc.equal(flat.field("name"), name).to_numpy(zero_copy_only=False))
        if len(at) == 0:
            return pa.nulls(len(headers), pa.string())
        where = np.full(len(headers), -1, np.int64)
        # Of several with the same name the last one counts: it is written last.
        where[pc.list_parent_indices(headers).to_numpy(zero_copy_only=False)[at]] = at
        return _texts(flat.field("value").take(pa.array(where, mask=where < 0)))


def _moments(column: Any) -> Any:
    """Moments in UTC as ISO 8601. Formatting by a pattern would take ten times as long."""
    plain = column.cast(pa.timestamp("us")).cast(pa.string()).cast(pa.binary())
    # A year beyond 9999 or before 0 is longer; its text is no moment to anybody.
    ends = _MOMENT_CHARS if pc.all(pc.equal(pc.binary_length(plain), _MOMENT_CHARS)).as_py() is not False else 2**31 - 1
    with_t = pc.binary_replace_slice(plain, 10, 11, b"T")
    return pc.binary_replace_slice(with_t, ends, ends, b"+00:00").cast(pa.string())


def _texts(column: Any) -> Any:
    """Bytes as text, whatever they are."""
    try:
        texts = column.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([_text(one) for one in column.to_pylist()], pa.string())
    if pc.any(pc.match_substring(column, "\0")).as_py():
        return pa.array([_text(one) for one in column.to_pylist()], pa.string())
    return texts


def _all_headers(column: Any) -> Any:
    if column.null_count == len(column):
        return pa.nulls(len(column), pa.string())
    flat = column.flatten()
    names, values = flat.field("name"), flat.field("value")
    try:
        texts = values.cast(pa.string())
    except pa.ArrowInvalid:
        texts = None
    if texts is None or any(
        pc.any(pc.match_substring_regex(texts_, _NEEDS_ESCAPING)).as_py() for texts_ in (names, texts)
    ):
        return pa.array([_headers(one) for one in column.to_pylist()], pa.string())
    quoted = pc.coalesce(pc.binary_join_element_wise('"', texts, '"', ""), "null")
    pairs = pc.binary_join_element_wise('["', names, '",', quoted, "]", "")
    ends = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(ends, dtype=np.int32)]).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pairs)
    written = pc.binary_join_element_wise("[", pc.binary_join(lists, ","), "]", "")
    return pc.if_else(pa.array(ends == 0), None, written)


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
