"""
Records of DynamoDB's streams as the drain takes them: in envelopes, with the JSON that the service wrote.

Belongs here: from records as boto3 gives them to batches, and when they were made. Doesn't: where they come from
(`dynamodb_streams.py`), what a change means (`formats/dynamodb_values.py`).
"""

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pyarrow as pa

from ingestion_platform.formats.segments import ENVELOPE

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_CANONICAL = msgspec.json.Encoder(order="deterministic")
_AS_GIVEN = msgspec.json.Encoder()
_MICROSECOND = timedelta(microseconds=1)


def envelope(records: Sequence[Any], moments: Sequence[int]) -> tuple[pa.RecordBatch, int]:
    """
    Records as segments hold them, and the bytes of keys and values.

    Args:
        records: as boto3 gives them.
        moments: when each was made, in microseconds since 1970.
    """
    keys = [_CANONICAL.encode(record["dynamodb"].get("Keys", {})) for record in records]
    values = [_value(record) for record in records]
    rows = len(records)
    columns = [
        pa.array([record["dynamodb"]["SequenceNumber"] for record in records], pa.string()),
        pa.nulls(rows, pa.int32()),
        pa.array(moments, pa.int64()).cast(pa.timestamp("us", tz="UTC")),
        pa.array(keys, pa.binary()),
        pa.nulls(rows, ENVELOPE.field("headers").type),
        pa.array(values, pa.binary()),
        pa.nulls(rows, pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=ENVELOPE), sum(map(len, keys)) + sum(map(len, values))


def _value(record: Mapping[str, Any]) -> bytes:
    """
    A record's JSON as the service wrote it.

    boto3 takes one kind of value apart: binary ones, which are base64 again here. Numbers are text on the wire, and stay it.
    """
    try:
        return _AS_GIVEN.encode(record)
    except UnicodeEncodeError:
        # Half of a surrogate pair: no character, but something that JSON can say.
        return json.dumps(record, default=_base64, separators=(",", ":")).encode()


def as_it_is(value: object) -> object:
    """What a client is told to make of moments: nothing; as objects they'd cost more than all else, and had to be written back."""
    return value


def micros_of(record: Mapping[str, Any], otherwise: datetime) -> int:
    """When a record was made, in microseconds since 1970."""
    seconds = record["dynamodb"].get("ApproximateCreationDateTime")
    if not isinstance(seconds, int | float):
        return micros_since_epoch(otherwise)
    return round(seconds * 1_000_000)


def micros_since_epoch(moment: datetime) -> int:
    """A moment in microseconds since 1970."""
    return (moment - EPOCH) // _MICROSECOND


def moment_of(micros: int) -> datetime:
    """A moment from microseconds since 1970."""
    return EPOCH + micros * _MICROSECOND


def _base64(value: object) -> str:
    if not isinstance(value, bytes | bytearray):
        raise TypeError(f"{type(value).__name__} is nothing that a record holds")
    return base64.b64encode(value).decode()


def is_before(made_at: datetime, moment: datetime) -> bool:
    """Whether a change was made before a moment for certain, though what the stream says is rounded down."""
    if made_at.microsecond:
        return made_at < moment
    return made_at < moment.replace(second=moment.second if made_at.second else 0, microsecond=0)
