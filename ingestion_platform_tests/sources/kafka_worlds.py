"""Kafka for the behaviour suite: the client's own mock cluster, and a real broker."""

import ctypes
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any
from uuid import uuid4

import confluent_kafka
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]  # the stubs forget it

from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.sources.drain import Drain, Drained
from ingestion_platform.sources.kafka import KafkaReader
from ingestion_platform.stream import Kafka, Stream
from ingestion_platform_tests.sources import draining
from ingestion_platform_tests.sources.kafka_broker import Broker
from ingestion_platform_tests.sources.world import Put

WITHIN_SECONDS = 30.0


def mock_cluster() -> tuple[Producer, str]:
    """A producer with a cluster inside, and where others reach it; gone with the producer. Topics have four partitions."""
    producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "x", "log_level": 0})
    brokers = producer.list_topics(timeout=WITHIN_SECONDS).brokers.values()
    return producer, ",".join(f"{broker.host}:{broker.port}" for broker in brokers)


def _client() -> ctypes.CDLL:
    """The client's library itself."""
    library = next((Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs").glob("librdkafka*.so*"))
    return ctypes.CDLL(str(library))


class MockBrokers:
    """A mock cluster of brokers 1, 2, … that can be taken down; partition n - 1 of topic `events` is led by broker n."""

    def __init__(self, count: int) -> None:
        self._client = client = _client()
        pointer, size, said = ctypes.c_void_p, ctypes.c_ssize_t, ctypes.create_string_buffer(512)
        for one in (client.rd_kafka_conf_new, client.rd_kafka_new, client.rd_kafka_mock_cluster_new):
            one.restype = pointer
        client.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
        config = pointer(client.rd_kafka_conf_new())
        client.rd_kafka_conf_set(config, b"log_level", b"0", said, size(512))
        self._handle = pointer(client.rd_kafka_new(0, config, said, size(512)))
        assert self._handle, said.value
        self._cluster = pointer(client.rd_kafka_mock_cluster_new(self._handle, count))
        assert client.rd_kafka_mock_topic_create(self._cluster, b"events", count, 1) == 0
        for number in range(count):
            assert client.rd_kafka_mock_partition_set_leader(self._cluster, b"events", number, number + 1) == 0
        self.servers: str = client.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def take_down(self, broker: int) -> None:
        """Nobody can reach it from now on."""
        assert self._client.rd_kafka_mock_broker_set_down(self._cluster, broker) == 0

    def bring_up(self, broker: int) -> None:
        """It can be reached again."""
        assert self._client.rd_kafka_mock_broker_set_up(self._cluster, broker) == 0

    def close(self) -> None:
        """End them all."""
        self._client.rd_kafka_mock_cluster_destroy(self._cluster)
        self._client.rd_kafka_destroy(self._handle)


def put_with_header(servers: str, topic: str, name: bytes, times: int) -> None:
    """Write records to partition 0 with a header of any name: Python's client takes none that isn't text, others do."""
    client = _client()
    pointer, size = ctypes.c_void_p, ctypes.c_ssize_t
    for one in (client.rd_kafka_conf_new, client.rd_kafka_new, client.rd_kafka_headers_new):
        one.restype = pointer
    said = ctypes.create_string_buffer(512)
    config = pointer(client.rd_kafka_conf_new())
    client.rd_kafka_conf_set(config, b"bootstrap.servers", servers.encode(), said, size(512))
    client.rd_kafka_conf_set(config, b"log_level", b"0", said, size(512))
    handle = pointer(client.rd_kafka_new(0, config, said, size(512)))
    assert handle, said.value
    for _ in range(times):
        headers = pointer(client.rd_kafka_headers_new(size(1)))
        assert client.rd_kafka_header_add(headers, name, size(len(name)), b"v", size(1)) == 0
        # Topic, partition, value, that it is to be copied, headers, end: pairs of a tag and what it announces.
        parts = [ctypes.c_int(1), topic.encode(), ctypes.c_int(3), ctypes.c_int32(0), ctypes.c_int(4), b"v", size(1)]
        parts += [ctypes.c_int(7), ctypes.c_int(2), ctypes.c_int(10), headers, ctypes.c_int(0)]
        assert client.rd_kafka_producev(handle, *parts) == 0
    assert client.rd_kafka_flush(handle, ctypes.c_int(30_000)) == 0
    client.rd_kafka_destroy(handle)


class _World:
    kind = "kafka"

    def __init__(self, topic: str, servers: str, producer: Producer) -> None:
        self.topic = topic
        self.servers = servers
        self.producer = producer

    def declared(self, **changes: object) -> Stream:
        """The declaration of the stream. Of its source, `group`, `is_sparse`, `is_avro` and `begin` can be changed too."""
        of_source = {name: changes.pop(name) for name in ("group", "is_sparse", "is_avro", "begin") if name in changes}
        told: dict[str, Any] = {
            "name": "events",
            "description": "What is put.",
            "source": Kafka(topic=self.topic, **of_source),  # type: ignore[arg-type]
            "first_day": date(2024, 10, 1),
        }
        return Stream(**{**told, **changes})

    def reader(self, **changes: object) -> KafkaReader:
        """A new reader of it."""
        source = self.declared(**changes).source
        assert isinstance(source, Kafka)
        # Who died is noticed after two seconds.
        own = {"bootstrap.servers": self.servers, "session.timeout.ms": "2000", "heartbeat.interval.ms": "500"}
        return KafkaReader(source, own, patience_seconds=20)

    def drain(self, zone: LocalLanding, **changes: object) -> Drain:
        """A new drain of it."""
        return draining.drain(self.declared(**changes), zone, self.reader(**changes))

    def drained(self, zone: LocalLanding, **changes: object) -> Drained:
        """What a drain up to now has done; it got everything that there is."""
        done = self.drain(zone, **changes).to_now()
        assert done.is_caught_up
        return done

    def value_of(self, value: bytes) -> bytes:
        """See `StreamWorld.value_of`."""
        return value

    def put(self, records: Sequence[Put]) -> None:
        """Write records, in this order."""
        failed: list[str] = []
        for record in records:
            self.producer.produce(
                self.topic,
                key=record.key,
                value=record.value,
                on_delivery=lambda error, _: failed.append(str(error)) if error is not None else None,
            )
            self.producer.poll(0)
        left = self.producer.flush(WITHIN_SECONDS)
        assert not left, left
        assert not failed, failed


class MockKafkaWorld(_World):
    """A topic of a mock cluster of its own."""

    def __init__(self) -> None:
        producer, servers = mock_cluster()
        super().__init__("events", servers, producer)
        # The topic is there before anybody reads it.
        producer.list_topics("events", timeout=WITHIN_SECONDS)


class BrokerKafkaWorld(_World):
    """A topic of a real broker."""

    def __init__(self, broker: Broker, partitions: int = 2, config: Mapping[str, str] | None = None) -> None:
        self.broker = broker
        self.partitions = partitions
        topic = broker.topic(partitions, config, f"events-{uuid4().hex[:8]}")
        super().__init__(topic, broker.servers, Producer({"bootstrap.servers": broker.servers, "log_level": 0}))

    def split(self) -> None:
        """Twice as many partitions; a key may be in another one from then on."""
        self.partitions *= 2
        admin = self.broker.admin()
        admin.create_partitions([NewPartitions(self.topic, self.partitions)])[self.topic].result(WITHIN_SECONDS)
        # The producer learns of them by itself after minutes.
        self.producer = Producer({"bootstrap.servers": self.broker.servers, "log_level": 0})

    def forget(self) -> None:
        """Drop everything that has been written so far."""
        forget(self.broker.admin(), self.broker.servers, self.topic)


def forget(admin: AdminClient, servers: str, topic: str, before: Mapping[int, int] | None = None) -> None:
    """Drop the records of a topic: all, or by partition those before an offset."""
    if before is None:
        consumer = Consumer({"bootstrap.servers": servers, "group.id": "x", "log_level": 0})
        partitions = consumer.list_topics(topic, timeout=WITHIN_SECONDS).topics[topic].partitions
        before = {
            number: consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=WITHIN_SECONDS)[1]
            for number in partitions
        }
        consumer.close()
    wanted = [TopicPartition(topic, number, offset) for number, offset in before.items()]
    for done in admin.delete_records(wanted).values():
        done.result(WITHIN_SECONDS)
