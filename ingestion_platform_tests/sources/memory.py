"""A stream in memory, for tests of what is the same for every kind: it holds records, forgets old ones, and fails where it is told to."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pyarrow as pa

from ingestion_platform.formats.segments import DENSE_ENVELOPE
from ingestion_platform.sources.reading import (
    After,
    Arrived,
    Began,
    CaughtUp,
    Event,
    From,
    Gone,
    Idle,
    Latest,
    Shard,
    Where,
)
from ingestion_platform.stream import Span


@dataclass
class Record:
    """One record of the fake."""

    position: int
    arrived_at: datetime
    value: bytes | None
    key: bytes | None = None
    headers: list[tuple[str, bytes]] = field(default_factory=list)


def envelope(records: Sequence[Record]) -> pa.RecordBatch:
    """Records as readers give them."""
    rows = [
        {
            "position": one.position,
            "part": None,
            "arrived_at": one.arrived_at,
            "key": one.key,
            "headers": [{"name": name, "value": value} for name, value in one.headers] or None,
            "value": one.value,
            "schema": None,
        }
        for one in records
    ]
    return pa.RecordBatch.from_pylist(rows, schema=DENSE_ENVELOPE)


class MemoryStream:
    """
    Records by shard.

    Args:
        batch: records given at a time.
        before: called before each batch is given; what it raises comes out of the reading.
    """

    def __init__(self, *, batch: int = 10, before: Callable[[str, int], None] | None = None) -> None:
        self.shards: dict[str, list[Record]] = {}
        self.oldest: dict[str, int] = {}
        self.batch = batch
        self.before = before
        self.idles = 0

    def put(self, shard: str, value: bytes | None, arrived_at: datetime, *, key: bytes | None = None) -> int:
        """Add a record; its position."""
        records = self.shards.setdefault(shard, [])
        position = records[-1].position + 1 if records else 0
        records.append(Record(position, arrived_at, value, key))
        return position

    def forget(self, shard: str, before: int) -> None:
        """Let go of what is older than a position."""
        self.oldest[shard] = before

    def read(self, where: Where, *, until: datetime | None, shards: Sequence[str] = ()) -> Iterator[Event]:
        """See `StreamReader.read`."""
        given: dict[str, int] = {}
        for shard in list(self.shards):
            if shards and shard not in shards:
                continue
            start = where(Shard(shard))
            oldest = self.oldest.get(shard, 0)
            given[shard] = len(self.shards[shard])
            records = [one for one in self.shards[shard][: given[shard]] if one.position >= oldest]
            if isinstance(start, After):
                if start.position + 1 < oldest:
                    yield Gone(shard, Span(start.position + 1, oldest - 1), "older than the retention")
                records = [one for one in records if one.position > start.position]
            elif isinstance(start, From):
                records = [one for one in records if one.arrived_at >= start.moment]
            elif isinstance(start, Latest):
                yield Began(shard, given[shard] - 1)
                records = []
            if until is not None:
                records = [one for one in records if one.arrived_at < until]
            for at in range(0, len(records), self.batch):
                some = records[at : at + self.batch]
                if self.before is not None:
                    self.before(shard, some[0].position)
                size = sum(len(one.value or b"") for one in some)
                yield Arrived(shard, envelope(some), some[0].position, some[-1].position, size)
            yield CaughtUp(shard, until or datetime.now(UTC))
        while until is None:
            self.idles += 1
            yield Idle()
            time.sleep(0.002)
            for shard, records in list(self.shards.items()):
                new = records[given.get(shard, 0) :]
                given[shard] = given.get(shard, 0) + len(new)
                if new:
                    size = sum(len(one.value or b"") for one in new)
                    yield Arrived(shard, envelope(new), new[0].position, new[-1].position, size)
