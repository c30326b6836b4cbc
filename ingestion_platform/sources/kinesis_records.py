"""
Records of Kinesis as the drain takes them: in envelopes, aggregated ones taken apart.

Belongs here: from records as the service gives them to batches. Doesn't: where they come from (`kinesis.py`, `aws_events.py`).
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa

from ingestion_platform.formats.segments import ENVELOPE
from ingestion_platform.sources.kpl import MAGIC, take_apart
from ingestion_platform.sources.reading import Arrived

BATCH_BYTES = 8 * 1024**2
"""Of what is given at a time; aggregated records may be larger once taken apart."""
_AROUND_BYTES = 64


def gather(
    shard: str,
    records: Sequence[Mapping[str, Any]],
    numbers: Sequence[int],
    arrivals: Sequence[datetime],
    first: int,
    last: int,
) -> Iterator[Arrived]:
    """Records as the drain wants them, aggregated ones taken apart; parts of one position together."""
    begin = first
    while begin < last:
        positions: list[str] = []
        parts: list[int | None] = []
        moments: list[datetime] = []
        keys: list[bytes | None] = []
        values: list[bytes] = []
        headers: list[list[tuple[str, bytes]] | None] = []
        size = 0
        index = begin
        while index < last and size < BATCH_BYTES:
            record = records[index]
            data = record["Data"]
            taken = take_apart(data) if data[:4] == MAGIC else None
            if taken is None:
                key = record.get("PartitionKey")
                positions.append(record["SequenceNumber"])
                parts.append(None)
                moments.append(arrivals[index])
                keys.append(key.encode("utf-8", "surrogatepass") if key is not None else None)
                values.append(data)
                headers.append(None)
                size += len(data) + _AROUND_BYTES
            else:
                for number, part in enumerate(taken):
                    told_ = [(name.decode("utf-8", "replace"), value) for name, value in part.tags]
                    if part.hash_key is not None:
                        told_.append(("explicit_hash_key", part.hash_key))
                    positions.append(record["SequenceNumber"])
                    parts.append(number)
                    moments.append(arrivals[index])
                    keys.append(part.key)
                    values.append(part.data)
                    headers.append(told_ or None)
                    size += part.size_bytes
            index += 1
        batch = pa.RecordBatch.from_arrays(
            [
                pa.array(positions, pa.string()),
                pa.array(parts, pa.int32()),
                pa.array(moments, pa.timestamp("us", tz="UTC")),
                pa.array(keys, pa.binary()),
                _headers(headers),
                pa.array(values, pa.binary()),
                pa.nulls(len(positions), pa.string()),
            ],
            schema=ENVELOPE,
        )
        yield Arrived(shard, batch, numbers[begin], numbers[index - 1], size)
        begin = index


def _headers(headers: Sequence[list[tuple[str, bytes]] | None]) -> Any:
    kind = ENVELOPE.field("headers").type
    if not any(headers):
        return pa.nulls(len(headers), kind)
    return pa.array(
        [None if one is None else [{"name": name, "value": value} for name, value in one] for one in headers], kind
    )
