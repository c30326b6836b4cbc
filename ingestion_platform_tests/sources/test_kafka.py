"""Reading Kafka, from the client's own mock cluster, which needs no server. What only a real broker does is in `test_kafka_broker.py`."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import Message, Producer
from hypothesis import given
from hypothesis import strategies as st

from ingestion_platform.errors import DeclarationError, SettingsError, SourceError, SourceUnavailable
from ingestion_platform.formats.segments import DENSE_ENVELOPE
from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.sources import kafka, kafka_client
from ingestion_platform.sources.drain import Drain, Drained
from ingestion_platform.sources.kafka import KafkaReader
from ingestion_platform.sources.kafka_records import UNREADABLE, as_batch, in_order
from ingestion_platform.sources.landed import LandedStream
from ingestion_platform.sources.reading import After, Arrived, Behind, CaughtUp, Event, Idle, Throttled, Where
from ingestion_platform.stream import AvroValues, Kafka, StreamSegments
from ingestion_platform_tests.sources.draining import ZONE, oldest, rows
from ingestion_platform_tests.sources.kafka_worlds import MockBrokers, MockKafkaWorld, put_with_header
from ingestion_platform_tests.sources.world import Put


@pytest.fixture
def world() -> MockKafkaWorld:
    """A topic of four partitions."""
    return MockKafkaWorld()


def drained(world: MockKafkaWorld, zone: LocalLanding, **changes: object) -> Drained:
    """What a drain up to now has done; it got everything, and nothing is gone."""
    done = world.drained(zone, **changes)
    assert done.gaps == []
    return done


def some(count: int, first: int = 0) -> list[Put]:
    """Records of seven keys."""
    return [Put(f"k{number % 7}", b"v%d" % number) for number in range(first, first + count)]


def events_of(reader: KafkaReader, where: Where = oldest) -> list[Event]:
    """What a reader tells up to now."""
    return list(reader.read(where, until=datetime.now(UTC)))


def test_a_topic_is_drained_once(world: MockKafkaWorld, zone: LocalLanding) -> None:
    """Every record of every partition lands; the next drain finds nothing, and the one after it what is new."""
    for count, first in ((500, 0), (0, 500), (300, 500)):
        world.put(some(count, first))
        assert drained(world, zone).records == count
    assert sorted(row["value"] for row in rows(zone)) == sorted(put.value for put in some(800))


def test_records_keep_what_is_around_them(world: MockKafkaWorld, zone: LocalLanding) -> None:
    """Key, offset, time, headers in order and repeated, values of no bytes and no value at all."""
    moment = datetime(2024, 10, 1, 6, 0, 0, 123000, UTC)
    puts: list[tuple[bytes | None, bytes | None, Any]] = [
        (b"k", b"v", [("a", b"1"), ("a", b"2"), ("b", None), ("c", b"\xff")]),
        (None, b"", None),
        (b"", None, []),
    ]
    for key, value, headers in puts:
        world.producer.produce(
            "events", key=key, value=value, headers=headers, partition=2, timestamp=int(moment.timestamp() * 1000)
        )
    world.producer.flush()
    drained(world, zone)
    found = rows(zone)
    assert [(row["shard"], row["position"], row["arrived_at"]) for row in found] == [("2", n, moment) for n in range(3)]
    assert [(row["key"], row["value"]) for row in found] == [(b"k", b"v"), (None, b""), (b"", None)]
    assert [(one["name"], one["value"]) for one in found[0]["headers"]] == [
        ("a", b"1"),
        ("a", b"2"),
        ("b", None),
        ("c", b"\xff"),
    ]
    assert [row["headers"] for row in found[1:]] == [None, None]


def test_a_header_that_the_client_cannot_read_stops_nothing(world: MockKafkaWorld, zone: LocalLanding) -> None:
    """Its record lands and says so, and its neighbours have theirs; in the loop that has become hot, too."""
    for number in range(300):
        world.producer.produce("events", value=b"before", headers=[("a", b"%d" % number)], partition=0)
    world.producer.flush()
    put_with_header(world.servers, "events", b"\xff\xfe", 40)
    put_with_header(world.servers, "events", "é".encode(), 2)
    drained(world, zone)
    headers = [(one["name"], one["value"]) for row in rows(zone) for one in row["headers"]]
    assert headers == [
        *(("a", b"%d" % number) for number in range(300)),
        *[(UNREADABLE, None)] * 40,
        *[("é", b"v")] * 2,
    ]


def test_times_that_no_calendar_has_count_as_their_neighbours(world: MockKafkaWorld, zone: LocalLanding) -> None:
    """A producer may stamp what it likes: nothing fails, and every record lands."""
    moment = datetime(2024, 10, 1, 6, tzinfo=UTC)
    good = int(moment.timestamp() * 1000)
    for stamp in (good, 1, 2**62, good + 1000, 253_402_300_800_000, 2**63 - 1):
        world.producer.produce("events", value=b"v", partition=0, timestamp=stamp)
    world.producer.flush()
    drained(world, zone)
    seconds = [(row["arrived_at"] - moment).total_seconds() for row in rows(zone)]
    assert seconds == [0, 0, 0, 1, 1, 1]


def test_latest_is_chosen_once(world: MockKafkaWorld, zone: LocalLanding) -> None:
    """What was there before the first drain stays out; what came after it lands, in partitions that were empty then, too."""
    world.producer.produce("events", value=b"old", partition=1)
    world.producer.flush()
    drained(world, zone, begin="latest")
    for partition in range(4):
        world.producer.produce("events", value=b"new", partition=partition)
    world.producer.flush()
    drained(world, zone, begin="latest")
    assert [(row["shard"], row["value"]) for row in rows(zone)] == [(str(n), b"new") for n in range(4)]


def stamped(world: MockKafkaWorld, minutes: int, since: datetime) -> None:
    """A record a minute, in one partition."""
    for minute in range(minutes):
        at = since + timedelta(minutes=minute)
        world.producer.produce("events", value=b"%d" % minute, partition=0, timestamp=int(at.timestamp() * 1000))
    world.producer.flush()


def hour_ago() -> datetime:
    """In milliseconds, as Kafka has it."""
    return datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


def test_a_start_at_a_moment_leaves_out_what_is_older(world: MockKafkaWorld, zone: LocalLanding) -> None:
    """Also where the broker can't find offsets for times."""
    since = hour_ago()
    stamped(world, 30, since)
    for _ in range(2):
        drained(world, zone, begin=since + timedelta(minutes=20))
    assert [int(row["value"]) for row in rows(zone)] == list(range(20, 30))


def test_a_start_at_a_moment_that_is_still_to_come_waits_for_it(world: MockKafkaWorld, zone: LocalLanding) -> None:
    """What arrives before it never lands, however often the stream is drained until then."""
    soon = hour_ago() + timedelta(minutes=65)
    stamped(world, 3, hour_ago())
    drained(world, zone, begin=soon)
    stamped(world, 3, datetime.now(UTC))
    drained(world, zone, begin=soon)
    stamped(world, 1, soon)
    drained(world, zone, begin=soon)
    # A time to come counts as none where the end of a drain is told by time.
    assert [int(row["value"]) for row in rows(zone)] == [0]


def test_a_replay_takes_the_window_alone(world: MockKafkaWorld, zone: LocalLanding) -> None:
    """Reading again by time lands neighbours neither before nor after."""
    since = hour_ago()
    stamped(world, 30, since)
    # It was drained to its end; what had landed is lost.
    LandedStream(world.declared(), zone, ZONE).put_mark(hour_ago(), "0", 29)
    world.drain(zone).replay(since + timedelta(minutes=10), since + timedelta(minutes=20))
    assert [int(row["value"]) for row in rows(zone)] == list(range(10, 20))


def test_single_partitions_can_be_read(world: MockKafkaWorld) -> None:
    """Only those that are named."""
    for partition in range(4):
        world.producer.produce("events", value=b"v", partition=partition)
    world.producer.flush()
    events = list(world.reader().read(oldest, until=datetime.now(UTC), shards=("1", "3")))
    assert {event.shard for event in events if isinstance(event, Arrived)} == {"1", "3"}


def test_up_to_now_ends_where_the_topic_ended(world: MockKafkaWorld) -> None:
    """Records that come while it is read are the next drain's."""
    for _ in range(100):
        world.producer.produce("events", value=b"v", partition=0)
    world.producer.flush()
    seen = 0
    for event in world.reader().read(oldest, until=datetime.now(UTC)):
        if isinstance(event, Behind) and not seen:
            world.producer.produce("events", value=b"late", partition=0)
            world.producer.flush()
        if isinstance(event, Arrived):
            seen += event.records.num_rows
        if isinstance(event, CaughtUp) and event.shard == "0":
            assert event.position == 99
    assert seen == 100


def test_a_topic_that_went_back_is_refused(zone: LocalLanding, caplog: pytest.LogCaptureFixture) -> None:
    """A topic with fewer records than have landed of it is another one: loud, and nothing lands."""
    first = MockKafkaWorld()
    first.put(some(100))
    drained(first, zone)
    before = rows(zone)
    other = MockKafkaWorld()
    other.put(some(5))
    stream = other.declared()
    reader = KafkaReader(Kafka(topic="events"), {"bootstrap.servers": other.servers}, patience_seconds=1)
    with pytest.raises(SourceError, match="it is another topic of that name") as caught:
        Drain(LandedStream(stream, zone, ZONE), reader).to_now()
    assert not isinstance(caught.value, SourceUnavailable)
    assert rows(zone) == before


def test_a_cluster_that_is_not_there_is_waited_for_and_told() -> None:
    """While it is waited for, the drain hears that nothing comes; then it is unavailable, and a retry can help."""
    reader = KafkaReader(Kafka(topic="events"), {"bootstrap.servers": "127.0.0.1:1"}, patience_seconds=1.5)
    told: list[Event] = []
    with pytest.raises(SourceUnavailable, match=r"bootstrap\.servers"):
        told.extend(reader.read(oldest, until=None))
    assert told
    assert set(told) == {Idle()}


def test_a_cluster_that_goes_away_is_noticed(world: MockKafkaWorld) -> None:
    """A reader that follows gives up once nobody has answered for long."""
    world.put(some(10))
    reader = KafkaReader(Kafka(topic="events"), {"bootstrap.servers": world.servers}, patience_seconds=3)
    with closing(_generator(reader.read(oldest, until=None))) as events:
        records = 0
        for event in events:
            records += event.records.num_rows if isinstance(event, Arrived) else 0
            if records == 10:
                break
        del world.producer
        with pytest.raises(SourceUnavailable, match="no broker has answered"):
            for _ in events:
                pass


def test_a_wrong_property_is_told_without_secrets() -> None:
    """The message names the property; no password is in it."""
    properties = {"bootstrap.servers": "x", "sasl.pasword": "open sesame", "sasl.password": "open sesame"}
    with pytest.raises(SettingsError, match=r"sasl\.pasword") as caught:
        events_of(KafkaReader(Kafka(topic="t"), properties))
    assert "sesame" not in str(caught.value)


def test_the_registry_is_not_the_clients_business(world: MockKafkaWorld, zone: LocalLanding) -> None:
    """Its properties stand beside the client's, and aren't handed to it."""
    world.put(some(3))
    reader = KafkaReader(
        Kafka(topic="events"),
        {"bootstrap.servers": world.servers, "schema.registry.url": "http://127.0.0.1:1"},
    )
    assert sum(event.records.num_rows for event in events_of(reader) if isinstance(event, Arrived)) == 3


def _generator(events: Iterator[Event]) -> Any:
    return events


def test_following_tells_what_comes_and_ends_when_closed(world: MockKafkaWorld) -> None:
    """Records within a second or so, that a partition is at its end, and that nothing came; closing it ends every thread."""
    before = len(os.listdir("/proc/self/task"))
    world.put(some(10))
    until = time.monotonic() + 60
    with closing(_generator(world.reader().read(oldest, until=None))) as events:
        kinds: set[type] = set()
        records, again = 0, False
        for event in events:
            kinds.add(type(event))
            if isinstance(event, Arrived):
                records += event.records.num_rows
            if records == 10 and Idle in kinds and CaughtUp in kinds and not again:
                again = True
                world.put(some(5, 10))
            if records == 15:
                break
            assert time.monotonic() < until
    while len(os.listdir("/proc/self/task")) > before:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_partition_whose_leader_is_away_is_not_caught_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the client remembers of its end isn't taken for an answer; the others go on; once the leader is back, it is caught up again."""
    monkeypatch.setattr(kafka, "LOOKED_FOR_SECONDS", 0.5)
    monkeypatch.setattr(kafka, "UNHEARD_SECONDS", 3.0)
    monkeypatch.setattr(kafka_client, "FIXED", {**kafka_client.FIXED, "statistics.interval.ms": "200"})
    monkeypatch.setattr(kafka, "TOLD_SECONDS", 0.1)
    monkeypatch.setattr(kafka, "FRESH_SECONDS", 1.0)
    until = time.monotonic() + 40
    with closing(MockBrokers(2)) as brokers:
        producer = Producer({"bootstrap.servers": brokers.servers, "log_level": 0})
        for number in (0, 1):
            producer.produce("events", value=b"v", partition=number)
        assert producer.flush(30) == 0
        reader = KafkaReader(
            Kafka(topic="events"),
            {"bootstrap.servers": brokers.servers, "reconnect.backoff.max.ms": "500"},
        )
        with closing(_generator(reader.read(oldest, until=None))) as events:

            def hear(*kinds: type[Event]) -> list[Event]:
                """What is told until the shards have told these: the first one's, the second one's …."""
                told: list[Event] = []
                missing = {(str(number), kind) for number, kind in enumerate(kinds)}
                for event in events:
                    told.append(event)
                    missing.discard((getattr(event, "shard", ""), type(event)))
                    if not missing:
                        break
                    assert time.monotonic() < until, missing
                return told

            hear(Arrived, Arrived)
            hear(CaughtUp, CaughtUp)
            brokers.take_down(2)
            down = datetime.now(UTC)
            told = hear(CaughtUp, Throttled)
            producer.produce("events", value=b"more", partition=0)
            told += hear(Arrived, Behind) + hear(CaughtUp, Behind) + hear(CaughtUp, Throttled)
            assert [one for one in told if isinstance(one, CaughtUp) and one.shard == "1" and one.as_of > down] == []
            behind = [one for one in told if isinstance(one, Behind) and one.shard == "1"][-1]
            assert behind.records is None
            assert behind.seconds > 0.5
            brokers.bring_up(2)
            producer.produce("events", value=b"again", partition=1)
            hear(CaughtUp, Arrived)
            hear(CaughtUp, CaughtUp)


def test_a_stop_lands_what_came(world: MockKafkaWorld, zone: LocalLanding) -> None:
    """A worker that is told to end has landed everything that it was given."""
    world.put(some(50))
    work, stop = world.drain(zone), threading.Event()

    def watch() -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until and sum(one.records for one in work.states().values()) < 50:
            time.sleep(0.02)
        stop.set()

    threading.Thread(target=watch).start()
    work.follow(stop)
    assert len(rows(zone)) == 50


def test_the_client_logs_where_python_does(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing of it goes to the terminal behind our back."""
    with caplog.at_level(logging.INFO), pytest.raises(SourceUnavailable):
        events_of(KafkaReader(Kafka(topic="t"), {"bootstrap.servers": "127.0.0.1:1"}, patience_seconds=1))
    assert capfd.readouterr().err == ""
    assert any("127.0.0.1:1" in record.getMessage() for record in caplog.records)


# --- messages as batches


def message(offset: int, stamp: int = 1_700_000_000_000, **changes: Any) -> Message:
    """A message as the client gives it."""
    return Message(
        **{"topic": "t", "partition": 0, "offset": offset, "value": b"v", "timestamp": (1, stamp), **changes}
    )


@given(
    st.lists(
        st.tuples(
            st.integers(-(2**63), 2**63 - 1),
            st.none() | st.binary(max_size=5),
            st.none() | st.binary(max_size=5),
            st.none() | st.lists(st.tuples(st.text(max_size=3), st.none() | st.binary(max_size=3)), max_size=3),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_any_messages_are_a_batch(found: list[tuple[int, bytes | None, bytes | None, Any]]) -> None:
    """Whatever a producer wrote is in the envelope as it was; times are ones that calendars have."""
    messages = [
        message(offset, stamp, key=key, value=value, headers=headers)
        for offset, (stamp, key, value, headers) in enumerate(found)
    ]
    batch, size = as_batch(in_order(messages, None, 1_700_000_000_000_000))
    batch.validate(full=True)
    assert batch.schema == DENSE_ENVELOPE
    rows = batch.to_pylist()
    assert [(row["position"], row["key"], row["value"]) for row in rows] == [
        (offset, key, value) for offset, (_, key, value, _) in enumerate(found)
    ]
    assert all(2000 <= row["arrived_at"].year <= 9999 for row in rows)
    assert [[(one["name"], one["value"]) for one in row["headers"] or ()] for row in rows] == [
        headers or [] for _, _, _, headers in found
    ]
    assert size >= sum(len(key or b"") + len(value or b"") for _, key, value, _ in found)


def test_a_reading_that_was_set_back_counts_from_there() -> None:
    """Messages from before a partition was given back and taken again are dropped when they come again."""
    found = in_order([message(offset) for offset in (7, 8, 5, 6, 7)], None, 0)
    assert found.offsets.tolist() == [5, 6, 7]


def test_reading_goes_on_after_a_position(world: MockKafkaWorld) -> None:
    """After(p) is followed by p + 1."""
    for number in range(20):
        world.producer.produce("events", value=b"%d" % number, partition=0)
    world.producer.flush()
    events = [
        event
        for event in world.reader().read(lambda _: After(11), until=datetime.now(UTC), shards=("0",))
        if isinstance(event, Arrived)
    ]
    assert [value for event in events for value in event.records.column("value").to_pylist()] == [
        b"%d" % number for number in range(12, 20)
    ]


def test_values_in_a_registrys_framing_need_their_schemas() -> None:
    """A dataset of Avro values is refused while it is declared, when no schema would land with them."""
    world = MockKafkaWorld()
    with pytest.raises(DeclarationError, match="no schema lands"):
        StreamSegments(world.declared(), AvroValues())
    StreamSegments(world.declared(is_avro=True), AvroValues())
    StreamSegments(world.declared(), AvroValues(schema='{"type": "record", "name": "R", "fields": []}'))
    with pytest.raises(DeclarationError, match="isn't JSON"):
        AvroValues(schema="record")
