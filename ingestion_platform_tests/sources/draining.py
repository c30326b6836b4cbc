"""Draining a stream into a landing zone, and looking at what has landed; the same for every kind of stream."""

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq

from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.sources.drain import Drain
from ingestion_platform.sources.landed import LandedStream
from ingestion_platform.sources.reading import Ended, Event, Oldest, Shard, Start, StreamReader, Where
from ingestion_platform.stream import LandedName, Stream

ZONE = ZoneInfo("Africa/Johannesburg")


def oldest(_: Shard) -> Start:
    """Where to begin: every shard at its first record."""
    return Oldest()


def landing_in(folder: Path) -> LocalLanding:
    """A landing zone in a folder, made if need be."""
    folder.mkdir(exist_ok=True)
    return LocalLanding(folder)


def drain(stream: Stream, zone: LocalLanding, reader: StreamReader, **named: Any) -> Drain:
    """A new drain, as a process that has just started has it."""
    return Drain(LandedStream(stream, zone, ZONE), reader, **named)


class UntilEnded:
    """
    A reader that tells whoever follows to stop once a shard has ended.

    Args:
        reader: that is asked.
    """

    def __init__(self, reader: StreamReader) -> None:
        self.reader = reader
        self.stop = threading.Event()

    def read(self, where: Where, *, until: datetime | None, shards: Sequence[str] = ()) -> Iterator[Event]:
        """See `StreamReader.read`."""
        for event in self.reader.read(where, until=until, shards=shards):
            yield event
            if isinstance(event, Ended):
                self.stop.set()


def tables(zone: LocalLanding) -> list[tuple[LandedName, pa.Table]]:
    """Every segment, by shard and position."""
    found = []
    for landed in zone.list():
        name = LandedName.parse(landed.key)
        if name is not None and name.kind == "segment" and name.span is not None:
            found.append((name, pq.read_table(pa.BufferReader(zone.read(landed)))))
    return sorted(found, key=lambda one: (one[0].shard, one[0].span or 0))


def rows(zone: LocalLanding) -> list[dict[str, Any]]:
    """Every record that has landed, as its segment holds it, and its shard."""
    return [{"shard": name.shard, **row} for name, table in tables(zone) for row in table.to_pylist()]


def records(zone: LocalLanding) -> list[tuple[str, int, int | None, bytes, bytes]]:
    """Shard, position, part, key and value of every record that has landed."""
    return [(row["shard"], int(row["position"]), row["part"], row["key"], row["value"]) for row in rows(zone)]


def values(zone: LocalLanding) -> list[bytes]:
    """Values of all records, sorted."""
    return sorted(value for *_, value in records(zone))


def by_key(zone: LocalLanding) -> dict[bytes, list[bytes]]:
    """Key → values, in the order of shards' names and positions."""
    found: dict[bytes, list[bytes]] = defaultdict(list)
    for *_, key, value in records(zone):
        found[key].append(value)
    return dict(found)


def gap_keys(zone: LocalLanding) -> list[str]:
    """Names of the notes of gaps."""
    return [landed.key for landed in zone.list() if landed.key.endswith(".gap.json")]
