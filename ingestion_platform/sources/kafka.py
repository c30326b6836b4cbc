"""
A topic of Kafka, or of what speaks its protocol: all partitions, or those that a consumer group gives to this worker.

Belongs here: partitions, what is read of them and what is gone. Doesn't: making the client and telling its errors apart
(`kafka_client.py`), what a message is in the envelope (`kafka_records.py`), servers and secrets, which are the settings'.

Offsets come from the landing zone alone. Nothing is committed, and what somebody else committed isn't asked for: the broker may forget
a group, and it knows nothing of what has landed. A group is for sharing partitions out among workers that follow the topic. Reading up
to now takes every partition, whoever else reads it: so a drain is whole, and a dead worker's share isn't waited for.
"""

import json
import logging
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from ingestion_platform.errors import SourceError, SourceUnavailable
from ingestion_platform.sources.kafka_client import NO_TOPIC, REFUSED, Cluster
from ingestion_platform.sources.kafka_records import Messages, as_batch, in_order
from ingestion_platform.sources.reading import (
    After,
    Arrived,
    Began,
    Behind,
    CaughtUp,
    Event,
    From,
    Gone,
    Idle,
    Latest,
    Oldest,
    Released,
    Shard,
    Start,
    Throttled,
    Where,
)
from ingestion_platform.sources.schema_registry import SchemaRegistry
from ingestion_platform.stream import Kafka, Span

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 60.0
"""How long a cluster may give no answer before reading gives up."""
SETTLES_SECONDS = 10.0
"""How long a new leader may not know of its newest records yet: until then, offsets that went back are asked for again."""
LOOKED_FOR_SECONDS = 60.0
"""How often a topic that is followed is looked at for new partitions, and idle partitions are told to be caught up."""
UNKNOWN_SECONDS = 2.0
"""How long a topic that isn't there is asked for."""
TOLD_SECONDS = 1.0
"""How often a partition's lag is told."""
WAIT_SECONDS = 0.25
"""How long messages are waited for; what has come by then is given."""
FRESH_SECONDS = 5.0
"""Brokers answer twice a second, also when there is nothing: what is known of a partition's end is no older than this."""

UNHEARD_SECONDS = 20.0
"""After how long without a word of a partition's leader nothing is known of its end."""

BATCH_BYTES = 8 * 1024**2
"""Messages that are asked for at once should come to this."""
BATCH_MOST = 20_000
BATCH_FIRST = 500
ASKED_AT_ONCE = 8
"""Partitions whose beginning is looked for at the same time."""

_OUT_OF_RANGE = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class _Partition:
    """
    A partition that is being read.

    Args:
        number: its own.
        next: the offset that is expected next.
        end: the offset to stop before; None when it is followed.
        since_us: older records are left out until the first one that isn't; None when that has come.
        is_timed: whether it was begun at a moment, so that it also ends at one.
        last_us: time of the last record given.
        heard_at: when its leader last gave or told anything; of the monotonic clock.
        told_at: when it was last told that its leader is away; of the same clock.
    """

    number: int
    next: int
    end: int | None = None
    since_us: int | None = None
    is_timed: bool = False
    last_us: int | None = None
    heard_at: float = field(default_factory=time.monotonic)
    told_at: float = 0.0

    def hear(self) -> None:
        """Its leader gave or told something."""
        self.heard_at = time.monotonic()

    @property
    def unheard_seconds(self) -> float:
        """For how long its leader has been away; 0.0 when it isn't."""
        silent = time.monotonic() - self.heard_at
        return silent if silent > UNHEARD_SECONDS else 0.0

    @property
    def shard(self) -> str:
        return str(self.number)


class KafkaReader:
    """
    Reads a topic.

    Args:
        source: as declared.
        properties: librdkafka's, secrets among them; beside them `schema.registry.url` and `schema.registry.basic.auth.user.info`.
        patience_seconds: how long a cluster may give no answer.
    """

    def __init__(
        self, source: Kafka, properties: Mapping[str, str], *, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self._source = source
        self._properties = dict(properties)
        self._patience = patience_seconds

    def read(self, where: Where, *, until: datetime | None, shards: Sequence[str] = ()) -> Iterator[Event]:
        """
        See `StreamReader.read`. A shard is a partition, by its number; a position is an offset.

        Up to a moment, a partition ends where it does when reading begins. One that is begun at a moment ends before the first record that
        isn't older than `until`, too.
        """
        reading = _Reading(self._source, self._properties, self._patience, where, until, shards)
        return reading.events()


class _Schemas:
    """Names of the schemas that values are framed with: the registry's ids."""

    def __init__(self, registry: SchemaRegistry) -> None:
        self.registry = registry
        self._names: dict[bytes, str] = {}
        self._texts: dict[str, str] = {}

    def name_of(self, head: bytes) -> str | None:
        """The name told by a value's first five bytes; None when they are no frame, or of a schema that the registry doesn't know."""
        name = self._names.get(head)
        if name is None and len(head) == 5 and head[0] == 0:
            number = int.from_bytes(head[1:], "big")
            text = self.registry.schema(number)
            if text is not None:
                name = self._names[head] = str(number)
                self._texts[name] = text
        return name

    def of(self, records: pa.RecordBatch) -> dict[str, str]:
        """Name → schema, of the names in a batch."""
        return {name: self._texts[name] for name in records.column("schema").unique().to_pylist() if name is not None}


class _Reading:
    """One reading, with a client of its own."""

    def __init__(
        self,
        source: Kafka,
        properties: Mapping[str, str],
        patience: float,
        where: Where,
        until: datetime | None,
        shards: Sequence[str],
    ) -> None:
        self._source = source
        self._properties = properties
        self._cluster = Cluster(source, properties)
        self._patience = patience
        self._where = where
        self._until = until
        self._until_us = None if until is None else _microseconds(until)
        self._shards = frozenset(shards)
        self._group = source.group if until is None and not shards else None
        self._partitions: dict[int, _Partition] = {}
        self._pending: deque[Event] = deque()
        self._there_at_first: frozenset[int] = frozenset()
        self._known: set[int] = set()
        self._failures: deque[KafkaError] = deque()
        self._failure: BaseException | None = None
        self._trouble = ""
        self._heard_at = self._answered_at = self._told_at = self._looked_at = time.monotonic()
        self._down_since: float | None = None
        self._began_at = datetime.now(UTC)
        self._consumer: Consumer
        self._schemas: _Schemas | None = None

    # --- the loop

    def events(self) -> Iterator[Event]:
        self._schemas = _Schemas(SchemaRegistry(self._properties)) if self._source.is_avro else None
        self._consumer = self._cluster.consumer(
            self._group, on_error=self._failures.append, on_statistics=self._on_statistics
        )
        try:
            numbers = yield from self._find_topic()
            if self._group is not None:
                self._consumer.subscribe(
                    [self._source.topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
                )
            else:
                self._consumer.incremental_assign(self._open(numbers))
            yield from self._read()
        finally:
            self._consumer.close()
            if self._schemas is not None:
                self._schemas.registry.close()

    def _read(self) -> Iterator[Event]:
        most = BATCH_FIRST
        yield from self._told()
        while self._until is None or self._partitions:
            messages = self._consumer.consume(most, WAIT_SECONDS)
            self._raise_failure()
            yield from self._told()
            records: dict[int, list[Message]] = {}
            others: list[Message] = []
            for message in messages:
                if message.error() is None:
                    number: int = message.partition()  # type: ignore[assignment]
                    try:
                        records[number].append(message)
                    except KeyError:
                        records[number] = [message]
                else:
                    others.append(message)
            size_bytes = 0
            for number, some in records.items():
                for event in self._take(number, some):
                    if isinstance(event, Arrived):
                        size_bytes += event.size_bytes
                    yield event
            for message in others:
                yield from self._explain(message)
            if messages:
                yield from self._heard()
            if size_bytes:
                count = len(messages) - len(others)
                most = max(10, min(BATCH_MOST, BATCH_BYTES * count // size_bytes))
            del messages, records, others
            yield from self._look_after()
            if not size_bytes:
                yield Idle()

    def _told(self) -> Iterator[Event]:
        while self._pending:
            yield self._pending.popleft()

    # --- records

    def _take(self, number: int, messages: Sequence[Message]) -> Iterator[Event]:
        """What messages of one partition are, as events."""
        partition = self._partitions.get(number)
        if partition is None:
            return  # It was given to somebody else, who reads them.
        partition.hear()
        now_us = _microseconds(datetime.now(UTC))
        found = in_order(messages, partition.last_us, now_us)
        first = int(np.searchsorted(found.offsets, partition.next))
        after = len(found) if partition.end is None else int(np.searchsorted(found.offsets, partition.end))
        is_at_end = after < len(found)
        if partition.since_us is not None and first < after:
            fresh = np.flatnonzero(found.arrived_us[first:after] >= partition.since_us)
            first = first + int(fresh[0]) if fresh.size else after
            partition.next = int(found.offsets[first - 1]) + 1 if first else partition.next
            if fresh.size:
                partition.since_us = None
                yield Began(partition.shard, int(found.offsets[first]) - 1)
        if partition.is_timed and self._until_us is not None and first < after:
            moments = found.arrived_us[first:after]
            wanted = np.flatnonzero(moments < self._until_us)
            rest = int(wanted[-1]) + 1 if wanted.size else 0
            # A time that is still to come was stamped by a wrong clock: it says nothing of when the record came.
            if (moments[rest:] <= now_us).any():
                yield from self._give(partition, found.slice(first, first + rest))
                yield from self._finish(partition, None)
                return
        yield from self._give(partition, found.slice(first, after))
        if partition.end is not None and (is_at_end or partition.next >= partition.end):
            yield from self._finish(partition, partition.end)

    def _give(self, partition: _Partition, some: Messages) -> Iterator[Event]:
        if not len(some):
            return
        jumps = [] if self._source.is_sparse else (np.flatnonzero(np.diff(some.offsets) > 1) + 1).tolist()
        edges = [0, *jumps, len(some)]
        for begin, end in pairwise(edges):
            piece = some.slice(begin, end)
            first, last = int(piece.offsets[0]), int(piece.offsets[-1])
            yield from self._skip_to(partition, first)
            records, size_bytes = as_batch(piece, self._schemas.name_of if self._schemas is not None else None)
            schemas = self._schemas.of(records) if self._schemas is not None else {}
            partition.next = last + 1
            partition.last_us = int(piece.arrived_us[-1])
            yield Arrived(partition.shard, records, first, last, size_bytes, schemas)

    def _skip_to(self, partition: _Partition, offset: int) -> Iterator[Event]:
        """Go on at an offset; what is missing before it is told, where nothing may be."""
        if offset > partition.next:
            if not self._source.is_sparse and partition.since_us is None:
                yield Gone(
                    partition.shard,
                    Span(partition.next, offset - 1),
                    "these offsets are missing in the topic; if it is compacted or written in transactions, declare is_sparse",
                )
            partition.next = offset

    def _finish(self, partition: _Partition, end: int | None) -> Iterator[Event]:
        """
        A partition has given all that was asked for.

        Args:
            end: everything before it has been given, or isn't there; None when that isn't what ended it.
        """
        position = None
        if end is not None:
            yield from self._skip_to(partition, end)
            position = end - 1 if partition.since_us is None else None
        yield self._behind(partition)
        yield CaughtUp(partition.shard, self._began_at, position)
        del self._partitions[partition.number]
        self._consumer.incremental_unassign([self._place(partition.number)])

    # --- where to begin

    def _open(self, numbers: Sequence[int], *, is_callback: bool = False) -> list[TopicPartition]:
        """
        Begin with partitions; where each of them is to be read from.

        Args:
            is_callback: the client waits for this to end, and no other thread can ask it anything meanwhile.
        """
        if not numbers:
            return []
        with ThreadPoolExecutor(min(ASKED_AT_ONCE, len(numbers)), thread_name_prefix="kafka") as pool:
            starts = pool.map(lambda number: self._where(Shard(str(number))), numbers)
            begun = list((map if is_callback else pool.map)(self._begin, numbers, starts))
        for partition, events in begun:
            self._partitions[partition.number] = partition
            self._pending.extend(events)
        places = []
        for partition, _ in begun:
            if partition.end is not None and partition.next >= partition.end:
                del self._partitions[partition.number]
                position = partition.end - 1 if partition.since_us is None else None
                self._pending.append(Behind(partition.shard, 0, 0.0))
                self._pending.append(CaughtUp(partition.shard, self._began_at, position))
            else:
                places.append(self._place(partition.number, partition.next))
        return places

    def _begin(self, number: int, start: Start) -> tuple[_Partition, list[Event]]:
        """A partition as it is to be read, and what is to be told before."""
        shard = str(number)
        low, high = self._ends(number)
        partition = _Partition(number, low, high if self._until is not None else None)
        events: list[Event] = []
        match start:
            case After(position):
                partition.next = position + 1
                low, high = self._settled(number, position + 1, low, high)
                if low > partition.next:
                    events.append(Gone(shard, Span(partition.next, low - 1), "older than the retention"))
                    partition.next = low
            case Latest():
                # One that appeared since reading began is followed from its first record.
                partition.next = high if number in self._there_at_first else low
                events.append(Began(shard, partition.next - 1))
            case From(moment):
                partition.since_us = _microseconds(moment)
                partition.is_timed = True
                partition.next = self._offset_at(number, moment, low, high)
            case Oldest():
                pass
        if partition.end is not None:
            partition.end = max(partition.end, high)
        return partition, events

    def _ends(self, number: int) -> tuple[int, int]:
        """The oldest offset of a partition, and the one after its newest."""
        try:
            found = self._consumer.get_watermark_offsets(self._place(number), timeout=self._patience)
        except KafkaException as error:
            raise self._cluster.as_error(error.args[0], f"partition {number}") from error
        if found is None:
            raise self._unavailable(f"partition {number} gave no answer for {self._patience:.0f} s")
        return found

    def _settled(self, number: int, next_: int, low: int, high: int) -> tuple[int, int]:
        """
        The same, once the newest offset is at least the last one that has been read.

        Raises:
            SourceError: the partition has fewer records than have been read from it: it is another one.
        """
        waited_until = time.monotonic() + min(SETTLES_SECONDS, self._patience)
        while high < next_:
            if time.monotonic() > waited_until:
                raise SourceError(
                    f"topic {self._source.topic!r}: partition {number} ends at offset {high - 1}, and {next_ - 1} of it has landed:"
                    " it is another topic of that name, or it lost records",
                    "if it was made anew, drain it under another stream name; if the broker lost records, bring them back",
                )
            time.sleep(0.5)
            low, high = self._ends(number)
        return low, high

    def _offset_at(self, number: int, moment: datetime, low: int, high: int) -> int:
        """The offset of the first record that isn't older than a moment, or one before it."""
        if low >= high:
            return high
        found = self._first_at(number, max(0, _microseconds(moment) // 1000))
        if found >= 0:
            return max(found, low)
        # None is that new; or this broker doesn't know times at all, and then it knows no record since 1970 either.
        return high if self._first_at(number, 0) >= 0 else low

    def _first_at(self, number: int, milliseconds: int) -> int:
        try:
            found = self._consumer.offsets_for_times([self._place(number, milliseconds)], timeout=self._patience)[0]
        except KafkaException as error:
            raise self._cluster.as_error(error.args[0], f"partition {number}") from error
        if found.error is not None:
            raise self._cluster.as_error(found.error, f"partition {number}")
        return found.offset

    def _place(self, number: int, offset: int = -1001) -> TopicPartition:
        return TopicPartition(self._source.topic, number, offset)

    # --- the group

    def _on_assign(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        try:
            self._consumer.incremental_assign(self._open([one.partition for one in partitions], is_callback=True))
        except BaseException as error:
            # The client's own thread of control is no place for it: the loop raises it.
            self._failure = error

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for one in partitions:
            if self._partitions.pop(one.partition, None) is not None:
                self._pending.append(Released(str(one.partition)))

    # --- beside the records

    def _explain(self, message: Message) -> Iterator[Event]:
        """What the client says instead of a record."""
        error: KafkaError = message.error()  # type: ignore[assignment]
        number: int = message.partition()  # type: ignore[assignment]
        partition = self._partitions.get(number)
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            if partition is not None:
                partition.hear()
                yield from self._at_end(partition, int(message.offset() or 0))
        elif code in _OUT_OF_RANGE:
            if partition is not None:
                yield from self._set_right(partition)
        elif code in REFUSED or code in NO_TOPIC or error.fatal():
            raise self._cluster.as_error(error, f"partition {number}" if number >= 0 else "")
        elif code == KafkaError.GROUP_AUTHORIZATION_FAILED:
            if self._group is not None:
                raise self._cluster.as_error(error, f"group {self._group!r}")
        else:
            self._trouble = error.str()
            for shard in [str(number)] if number >= 0 else [one.shard for one in self._partitions.values()]:
                yield Throttled(shard, error.str(), 0.0)

    def _at_end(self, partition: _Partition, offset: int) -> Iterator[Event]:
        """There is nothing in a partition from an offset on, or there was nothing when the broker said so."""
        if offset < partition.next:
            return
        if partition.end is not None:
            yield from self._finish(partition, min(partition.end, offset))
            return
        yield from self._skip_to(partition, offset)
        yield from self._caught_up(partition)

    def _caught_up(self, partition: _Partition) -> Iterator[Event]:
        yield Behind(partition.shard, 0, 0.0)
        silent = time.monotonic() - partition.heard_at
        as_of = datetime.fromtimestamp(time.time() - silent - 2 * FRESH_SECONDS, UTC)
        yield CaughtUp(partition.shard, as_of, partition.next - 1 if partition.since_us is None else None)

    def _set_right(self, partition: _Partition) -> Iterator[Event]:
        """The broker doesn't have the offset that is next: find out why, and go on."""
        low, _ = self._settled(partition.number, partition.next, *self._ends(partition.number))
        if low > partition.next:
            yield Gone(partition.shard, Span(partition.next, low - 1), "older than the retention")
            partition.next = low
        if partition.end is not None and partition.next >= partition.end:
            yield from self._finish(partition, partition.end)
        else:
            # A partition that was refused an offset is no longer fetched, and can't be sought in.
            self._consumer.incremental_unassign([self._place(partition.number)])
            self._consumer.incremental_assign([self._place(partition.number, partition.next)])

    def _behind(self, partition: _Partition) -> Behind:
        _, high = self._consumer.get_watermark_offsets(self._place(partition.number), cached=True)
        records = max(0, high - partition.next)
        since = self._began_at.timestamp() if partition.last_us is None else partition.last_us / 1_000_000
        seconds = max(0.0, time.time() - since) if records else 0.0
        if unheard := partition.unheard_seconds:
            # What the client remembers of its end says nothing of what has come since.
            return Behind(partition.shard, records or None, max(seconds, unheard))
        return Behind(partition.shard, records, seconds)

    def _look_after(self) -> Iterator[Event]:
        """What is due every second or minute."""
        now = time.monotonic()
        if now - self._told_at >= TOLD_SECONDS:
            self._told_at = now
            for partition in self._partitions.values():
                yield self._behind(partition)
                unheard = partition.unheard_seconds
                if unheard and now - partition.told_at >= UNHEARD_SECONDS:
                    waited = now - max(partition.told_at, partition.heard_at)
                    partition.told_at = now
                    yield Throttled(partition.shard, "the partition's leader can't be reached", waited)
            yield from self._look_for_silence(now)
        if self._until is None and now - self._looked_at >= LOOKED_FOR_SECONDS:
            self._looked_at = now
            yield from self._look_for_partitions()
            if self._down_since is None:
                for partition in list(self._partitions.values()):
                    if self._behind(partition).records == 0 and not partition.unheard_seconds:
                        yield from self._caught_up(partition)

    def _look_for_partitions(self) -> Iterator[Event]:
        """Partitions are added to topics; a group hears of it from the broker."""
        if self._group is not None:
            return
        known = self._known
        numbers = [number for number in self._numbers(1.0) if number not in known]
        if numbers:
            log.info("%s: new partitions %s", self._source.topic, numbers)
            self._known |= set(numbers)
            self._consumer.incremental_assign(self._open(numbers))
            yield from self._told()

    def _on_statistics(self, text: str) -> None:
        """The client tells which brokers have just answered: partitions that they lead are heard of, also when there is nothing new."""
        told = json.loads(text)
        # They wait their turn behind messages; `time` is when they were made, in seconds.
        heard_at = time.monotonic() - max(0.0, time.time() - told["time"])
        up = {
            broker["nodeid"]
            for broker in told["brokers"].values()
            if broker["state"] == "UP" and broker["rxidle"] < FRESH_SECONDS * 1_000_000
        }
        places = told["topics"].get(self._source.topic, {}).get("partitions", {})
        for number, partition in self._partitions.items():
            place = places.get(str(number))
            if place is not None and place["leader"] in up and place["fetch_state"] == "active":
                partition.heard_at = max(partition.heard_at, heard_at)

    def _look_for_silence(self, now: float) -> Iterator[Event]:
        """
        Ask whether anybody is there when nothing has come for a while: the client doesn't tell a quiet topic from a cluster that is gone.

        Raises:
            SourceUnavailable: nobody has answered for too long, or records are waited for that nobody gives.
        """
        if now - self._heard_at >= self._patience:
            waiting = [
                one.shard for one in self._partitions.values() if one.end is not None or self._behind(one).records
            ]
            if waiting:
                raise self._unavailable(
                    f"partitions {', '.join(waiting[:5])} have records and gave none for {self._patience:.0f} s"
                )
        silent = now - max(self._heard_at, self._answered_at)
        if silent < self._patience / 4:
            return
        if self._numbers(1.0):
            yield from self._answered()
        elif silent > self._patience:
            raise self._unavailable(f"no broker has answered for {silent:.0f} s")

    def _heard(self) -> Iterator[Event]:
        """Messages have come."""
        self._heard_at = time.monotonic()
        yield from self._answered()

    def _answered(self) -> Iterator[Event]:
        self._answered_at = time.monotonic()
        if self._down_since is not None:
            waited, self._down_since = self._answered_at - self._down_since, None
            for partition in self._partitions.values():
                yield Throttled(partition.shard, f"no broker answered: {self._trouble}", waited)

    # --- the cluster

    def _find_topic(self) -> Generator[Event, None, list[int]]:
        """
        Wait for the cluster, and find the topic's partitions.

        Raises:
            SourceUnavailable, SourceError: no answer, or it isn't there.
        """
        began = time.monotonic()
        while True:
            found = self._topic(0.6)
            # Nothing is assigned yet: it gives errors alone.
            self._consumer.poll(0.3 if found is None else 0.0)
            self._raise_failure()
            waited = time.monotonic() - began
            if found is not None:
                if found.error is None and found.partitions:
                    self._there_at_first = frozenset(filter(self._is_wanted, found.partitions))
                    self._known = set(self._there_at_first)
                    return sorted(self._known)
                # One that has just been made isn't known to every broker.
                error = found.error
                if error is not None and (
                    error.code() in REFUSED or (error.code() in NO_TOPIC and waited > UNKNOWN_SECONDS)
                ):
                    raise self._cluster.as_error(error, "")
            if waited > self._patience:
                raise self._unavailable(f"no answer for {waited:.0f} s")
            yield Idle()

    def _topic(self, seconds: float) -> Any:
        try:
            return self._consumer.list_topics(self._source.topic, timeout=seconds).topics.get(self._source.topic)
        except KafkaException as error:
            self._trouble = self._trouble or error.args[0].str()
            return None

    def _numbers(self, seconds: float) -> list[int]:
        """The topic's partitions; none when there is no answer."""
        found = self._topic(seconds)
        return [] if found is None else sorted(number for number in found.partitions if self._is_wanted(number))

    def _is_wanted(self, number: int) -> bool:
        return not self._shards or str(number) in self._shards

    def _raise_failure(self) -> None:
        """Raise what the client or a callback met since the last time, when it is the end."""
        if self._failure is not None:
            raise self._failure
        while self._failures:
            error = self._failures.popleft()
            if error.code() in REFUSED or error.fatal():
                raise self._cluster.as_error(error, "")
            if error.code() == KafkaError._ALL_BROKERS_DOWN:
                self._down_since = self._down_since or time.monotonic()
            else:
                self._trouble = error.str()

    def _unavailable(self, what: str) -> SourceUnavailable:
        return self._cluster.unavailable(what, self._trouble)


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
