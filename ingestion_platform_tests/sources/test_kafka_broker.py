"""Kafka as only a real broker is: groups, compaction, transactions, retention, logins."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from ingestion_platform.errors import SourceError, SourceUnavailable
from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.sources import kafka
from ingestion_platform.sources.kafka import KafkaReader
from ingestion_platform.sources.landed import LandedStream, joined
from ingestion_platform.sources.reading import Arrived, CaughtUp, Gone
from ingestion_platform.stream import Kafka, Span
from ingestion_platform_tests.sources.draining import ZONE, oldest, rows
from ingestion_platform_tests.sources.kafka_broker import PASSWORD, USER, Broker, serve
from ingestion_platform_tests.sources.kafka_worlds import BrokerKafkaWorld, forget
from ingestion_platform_tests.sources.world import Put

WITHIN_SECONDS = 90.0
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """A broker for all of these tests."""
    with serve() as one:
        yield one


@pytest.fixture
def world(broker: Broker) -> BrokerKafkaWorld:
    """A topic of two partitions."""
    return BrokerKafkaWorld(broker)


def values(zone: LocalLanding) -> list[int]:
    """Values of what has landed, each position once."""
    by_position = {(row["shard"], row["position"]): int(row["value"]) for row in rows(zone)}
    return sorted(by_position.values())


def some(first: int, after: int) -> list[Put]:
    """Records of many keys, numbered."""
    return [Put(f"k{number % 101}", b"%d" % number) for number in range(first, after)]


def wait_until(what: Callable[[], bool]) -> None:
    """Wait until something holds."""
    until = time.monotonic() + WITHIN_SECONDS
    while not what():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_topic_is_drained_once(world: BrokerKafkaWorld, zone: LocalLanding) -> None:
    """Every record lands; the next drain finds nothing, and the one after it what is new, in new partitions too."""
    world.put(some(0, 500))
    assert world.drained(zone).records == 500
    assert world.drained(zone).records == 0
    world.split()
    world.put(some(500, 900))
    done = world.drained(zone)
    assert done.records == 400
    assert set(done.shards) == {"0", "1", "2", "3"}
    assert values(zone) == list(range(900))


def test_new_partitions_are_found_while_following(
    world: BrokerKafkaWorld, zone: LocalLanding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read from their first record, whatever the stream began with."""
    monkeypatch.setattr(kafka, "LOOKED_FOR_SECONDS", 0.3)
    world.put(some(0, 100))
    with following(world, zone, begin="latest", segment_seconds=0.2) as states:
        wait_until(lambda: len(states()) == 2)
        world.put(some(100, 200))
        wait_until(lambda: values(zone) == list(range(100, 200)))
        world.split()
        world.put(some(200, 300))
        wait_until(lambda: values(zone) == list(range(100, 300)))


class following:
    """A drain that follows in a thread, for as long as the context lasts."""

    def __init__(self, world: BrokerKafkaWorld, zone: LocalLanding, **changes: object) -> None:
        self.drain = world.drain(zone, **changes)
        self.stop = threading.Event()
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.drain.follow(self.stop)
        except BaseException as error:
            self.failure = error

    def __enter__(self) -> Callable[[], Any]:
        self.thread.start()
        return self.drain.states

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join(WITHIN_SECONDS)
        assert not self.thread.is_alive()
        if self.failure is not None:
            raise self.failure


def test_workers_of_a_group_share_a_topic(broker: Broker, zone: LocalLanding) -> None:
    """One joins, takes some of the partitions, and leaves again: no record is lost, and each partition stays in order."""
    world = BrokerKafkaWorld(broker, 4)
    changes = {"group": "workers-" + world.topic, "segment_seconds": 0.2}
    with ExitStack() as stack:
        first = following(world, zone, **changes)
        states = stack.enter_context(first)
        world.put(some(0, 200))
        wait_until(lambda: values(zone) == list(range(200)))
        assert set(states()) == {"0", "1", "2", "3"}
        second = following(world, zone, **changes)
        with second as others:
            sent = 200
            # Records keep coming while partitions move.
            while len([one for one in others().values() if one.records]) < 2:
                world.put(some(sent, sent + 50))
                sent += 50
                assert sent < 50_000
                time.sleep(0.1)
            before = {shard: state.records for shard, state in states().items()}
            world.put(some(sent, sent + 400))
            sent += 400
            wait_until(lambda: values(zone) == list(range(sent)))
            after = {shard: state.records for shard, state in states().items()}
            # The first one no longer reads what the second one does.
            assert sum(after[shard] == before[shard] for shard in after) >= 2
        world.put(some(sent, sent + 200))
        sent += 200
        wait_until(lambda: values(zone) == list(range(sent)))
    for shard in {row["shard"] for row in rows(zone)}:
        by_position = {row["position"]: int(row["value"]) for row in rows(zone) if row["shard"] == shard}
        assert list(by_position) == list(range(len(by_position)))
        numbers = [by_position[position] for position in sorted(by_position)]
        assert numbers == sorted(numbers)


WORKER = """
import sys, threading
from ingestion_platform.landing.local import LocalLanding
from ingestion_platform_tests.sources.kafka_worlds import BrokerKafkaWorld
servers, topic, folder = sys.argv[1:]
world = BrokerKafkaWorld.__new__(BrokerKafkaWorld)
world.topic, world.servers = topic, servers
world.drain(LocalLanding(folder), group="workers-" + topic, segment_seconds=0.2).follow(threading.Event())
"""


def test_a_worker_that_is_killed_is_replaced(world: BrokerKafkaWorld, zone: LocalLanding) -> None:
    """What it had not landed is read again by the one that takes its partitions; nothing is lost."""
    asked = [sys.executable, "-c", WORKER, world.servers, world.topic, zone.url]
    process = subprocess.Popen(asked, cwd=ROOT)
    try:
        world.put(some(0, 200))
        wait_until(lambda: values(zone) == list(range(200)))
        world.put(some(200, 300))
    finally:
        process.kill()
        process.wait(30)
    with following(world, zone, group="workers-" + world.topic, segment_seconds=0.2):
        world.put(some(300, 400))
        wait_until(lambda: values(zone) == list(range(400)))


def test_a_broker_that_hangs_is_waited_for(broker: Broker, world: BrokerKafkaWorld, zone: LocalLanding) -> None:
    """For a few seconds nobody answers; then everything goes on by itself, with nothing lost and no error."""
    world.put(some(0, 100))
    with following(world, zone, segment_seconds=0.2):
        wait_until(lambda: values(zone) == list(range(100)))
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            time.sleep(3)
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        world.put(some(100, 200))
        wait_until(lambda: values(zone) == list(range(200)))


def test_up_to_now_reads_all_partitions_whoever_else_does(world: BrokerKafkaWorld, zone: LocalLanding) -> None:
    """A drain by schedule is whole while a worker of the group follows."""
    group = "workers-" + world.topic
    world.put(some(0, 100))
    with following(world, zone, group=group, segment_seconds=0.2):
        wait_until(lambda: values(zone) == list(range(100)))
        world.put(some(100, 200))
        world.drained(zone, group=group)
        assert values(zone) == list(range(200))


def transactions(broker: Broker, topic: str, *ends: bool) -> int:
    """Write a transaction of ten records for each of *ends*: whether it is committed. How many are."""
    producer = Producer({"bootstrap.servers": broker.servers, "transactional.id": topic, "log_level": 0})
    producer.init_transactions(30)
    count = 0
    for is_committed in ends:
        producer.begin_transaction()
        for _ in range(10):
            producer.produce(topic, value=b"%d" % count if is_committed else b"-1", partition=0)
            count += is_committed
        producer.flush()
        if is_committed:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)
    return count


def test_transactions_that_were_aborted_never_were(world: BrokerKafkaWorld, zone: LocalLanding) -> None:
    """Committed records alone land; the offsets between them are no gap where that is declared, also at the end of the topic."""
    count = transactions(world.broker, world.topic, True, False, True, False)
    for records in (count, 0):
        done = world.drained(zone, is_sparse=True)
        assert (done.records, done.gaps) == (records, [])
    assert values(zone) == list(range(count))
    more = transactions(world.broker, world.topic, False, True)
    assert world.drained(zone, is_sparse=True).records == more


def test_missing_offsets_are_a_gap_where_none_may_miss(world: BrokerKafkaWorld, zone: LocalLanding) -> None:
    """The markers of transactions take offsets: without the declaration that is loud, and says what to declare."""
    transactions(world.broker, world.topic, True, True)
    done = world.drained(zone)
    assert [(shard, span) for shard, span, _ in done.gaps] == [("0", Span(10, 10)), ("0", Span(21, 21))]
    assert "is_sparse" in done.gaps[0][2]
    assert done.records == 20


def test_an_open_transaction_is_waited_for_by_nobody(world: BrokerKafkaWorld, zone: LocalLanding) -> None:
    """A drain ends before the first record of a transaction that is still open; those records are the next one's."""
    producer = Producer({"bootstrap.servers": world.broker.servers, "transactional.id": world.topic, "log_level": 0})
    producer.init_transactions(30)
    world.producer.produce(world.topic, value=b"0", partition=0)
    world.producer.flush()
    producer.begin_transaction()
    producer.produce(world.topic, value=b"1", partition=0)
    producer.flush()
    world.producer.produce(world.topic, value=b"2", partition=0)
    world.producer.flush()
    assert world.drained(zone, is_sparse=True).records == 1
    producer.commit_transaction(30)
    assert world.drained(zone, is_sparse=True).records == 2
    assert values(zone) == [0, 1, 2]


def test_a_compacted_topic_lands_what_is_left(broker: Broker, zone: LocalLanding) -> None:
    """The newest record of each key, tombstones among them; what compaction took is no gap."""
    config = {
        "cleanup.policy": "compact",
        "segment.ms": "100",
        "min.cleanable.dirty.ratio": "0.01",
        "min.compaction.lag.ms": "0",
        "max.compaction.lag.ms": "200",
    }
    world = BrokerKafkaWorld(broker, 1, config)
    for number in range(5):
        world.put([Put(f"k{key}", b"%d" % number) for key in range(20)])
        time.sleep(0.15)
    world.producer.produce(world.topic, key=b"k0", value=None)
    world.producer.flush()

    def is_compacted() -> bool:
        time.sleep(0.2)
        world.put([Put("other", b"9")])
        events = list(world.reader(is_sparse=True).read(oldest, until=datetime.now(UTC)))
        return sum(event.records.num_rows for event in events if isinstance(event, Arrived)) < 60

    wait_until(is_compacted)
    done = world.drained(zone, is_sparse=True)
    assert done.gaps == []
    newest = {row["key"]: row["value"] for row in sorted(rows(zone), key=lambda row: row["position"])}
    assert newest == {b"k0": None, b"other": b"9"} | {b"k%d" % key: b"4" for key in range(1, 20)}
    assert world.drained(zone, is_sparse=True).records == 0


def test_a_start_at_a_moment(world: BrokerKafkaWorld, zone: LocalLanding) -> None:
    """The broker finds the offset; a moment after all of them begins at the end, one before all of them at the beginning."""
    since = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    for minute in range(30):
        at = int((since + timedelta(minutes=minute)).timestamp() * 1000)
        world.producer.produce(world.topic, value=b"%d" % minute, partition=0, timestamp=at)
    world.producer.flush()
    world.drained(zone, begin=since + timedelta(minutes=20))
    assert values(zone) == list(range(20, 30))
    for begin, count in ((since + timedelta(minutes=50), 0), (since - timedelta(days=1), 30)):
        other = LocalLanding(zone.url + str(count))
        Path(other.url).mkdir()
        world.drained(other, begin=begin)
        assert len(rows(other)) == count
    replayed = LocalLanding(zone.url + "-replayed")
    Path(replayed.url).mkdir()
    LandedStream(world.declared(), replayed, ZONE).put_mark(since, "0", 29)
    world.drain(replayed).replay(since + timedelta(minutes=5), since + timedelta(minutes=7))
    assert values(replayed) == [5, 6]


def test_what_retention_took_is_a_gap(broker: Broker, zone: LocalLanding) -> None:
    """Records that were dropped before they landed are told with their range, recorded, and what came after them lands."""
    world = BrokerKafkaWorld(broker, 1)
    world.put(some(0, 10))
    world.drained(zone)
    world.put(some(10, 20))
    forget(broker.admin(), broker.servers, world.topic, {0: 15})
    done = world.drained(zone)
    assert [(shard, span) for shard, span, _ in done.gaps] == [("0", Span(10, 14))]
    assert values(zone) == [*range(10), *range(15, 20)]
    assert world.drained(zone).gaps == []


def test_a_gap_at_the_end_is_told_too(broker: Broker, zone: LocalLanding) -> None:
    """Everything was dropped, and nothing has come since: the range is told at once, and once."""
    world = BrokerKafkaWorld(broker, 1)
    world.put(some(0, 10))
    world.drained(zone)
    world.put(some(10, 20))
    world.forget()
    assert [span for _, span, _ in world.drained(zone).gaps] == [Span(10, 19)]
    assert world.drained(zone).gaps == []


def test_retention_that_overtakes_a_reader_is_a_gap(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker drops what a slow reader has not read yet: the range is told before what comes after it."""
    world = BrokerKafkaWorld(broker, 1)
    for number in range(0, 100, 10):
        world.put([Put("k", b"%d " % one + b"x" * 2000) for one in range(number, number + 10)])
    # It prefetches next to nothing.
    monkeypatch.setattr(kafka, "BATCH_FIRST", 5)
    slow = {"queued.max.messages.kbytes": "1", "queued.min.messages": "1", "fetch.message.max.bytes": "1000"}
    reader = KafkaReader(Kafka(topic=world.topic), {"bootstrap.servers": world.servers, **slow})
    told: list[Arrived | Gone] = []
    for event in reader.read(oldest, until=datetime.now(UTC)):
        if isinstance(event, Arrived | Gone):
            if not told:
                forget(broker.admin(), broker.servers, world.topic, {0: 70})
            told.append(event)
    spans = [event.span if isinstance(event, Gone) else Span(event.first, event.last) for event in told]
    assert joined(spans) == [Span(0, 99)]
    assert spans == sorted(spans)
    assert [span.last for event, span in zip(told, spans, strict=True) if isinstance(event, Gone)] == [69]


def test_a_topic_made_anew_is_refused(
    world: BrokerKafkaWorld, zone: LocalLanding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has fewer records than have landed: nobody knows which they are, so nothing is skipped in silence."""
    monkeypatch.setattr(kafka, "SETTLES_SECONDS", 1.0)
    world.put(some(0, 100))
    world.drained(zone)
    admin = world.broker.admin()
    admin.delete_topics([world.topic])[world.topic].result(30)
    wait_until(lambda: world.topic not in admin.list_topics(timeout=10).topics)
    world.broker.topic(2, name=world.topic)
    world.put(some(100, 110))
    with pytest.raises(SourceError, match="it is another topic of that name") as caught:
        world.drain(zone).to_now()
    assert not caught.value.can_retry


def test_a_topic_that_is_not_there_is_said_quickly(world: BrokerKafkaWorld) -> None:
    """Its name is in the message, and a retry won't help."""
    reader = KafkaReader(Kafka(topic="nowhere"), {"bootstrap.servers": world.servers})
    began = time.monotonic()
    with pytest.raises(SourceError, match="nowhere") as caught:
        list(reader.read(oldest, until=datetime.now(UTC)))
    assert not isinstance(caught.value, SourceUnavailable)
    assert time.monotonic() - began < 15


def test_a_login_is_used_and_a_wrong_one_is_said_quickly(world: BrokerKafkaWorld) -> None:
    """SASL/PLAIN; no password stands in the message."""
    world.put(some(0, 10))
    properties = {
        "bootstrap.servers": world.broker.sasl_servers,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanisms": "PLAIN",
        "sasl.username": USER,
        "sasl.password": PASSWORD,
    }
    source = Kafka(topic=world.topic)
    events = list(KafkaReader(source, properties).read(oldest, until=datetime.now(UTC)))
    assert sum(event.records.num_rows for event in events if isinstance(event, Arrived)) == 10
    began = time.monotonic()
    wrong = KafkaReader(source, {**properties, "sasl.password": "guessed-wrong"})
    with pytest.raises(SourceError, match=r"sasl\.username") as caught:
        list(wrong.read(oldest, until=datetime.now(UTC)))
    assert not isinstance(caught.value, SourceUnavailable)
    assert "guessed-wrong" not in str(caught.value)
    assert time.monotonic() - began < 15


def test_a_broker_that_speaks_otherwise_is_unavailable(world: BrokerKafkaWorld) -> None:
    """A listener that wants a login is met without one: what to check is said."""
    reader = KafkaReader(Kafka(topic=world.topic), {"bootstrap.servers": world.broker.sasl_servers}, patience_seconds=3)
    with pytest.raises(SourceError, match=r"security\.protocol"):
        list(reader.read(oldest, until=datetime.now(UTC)))


def test_caught_up_tells_the_last_offset_there_is(world: BrokerKafkaWorld) -> None:
    """So that what is missing up to it is known never to have been a record."""
    transactions(world.broker, world.topic, True)
    events = list(world.reader(is_sparse=True).read(oldest, until=datetime.now(UTC)))
    assert {event.shard: event.position for event in events if isinstance(event, CaughtUp)} == {"0": 10, "1": -1}
