"""Reading Kafka: from the client's own mock cluster, which needs no server."""

from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from confluent_kafka import Producer

from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.sources.drain import Drain
from ingestion_platform.sources.kafka import KafkaReader
from ingestion_platform.sources.landed import LandedStream
from ingestion_platform.stream import Kafka, Stream

ZONE = ZoneInfo("Africa/Johannesburg")


@pytest.fixture
def producer() -> Producer:
    """Writes to a mock cluster of its own: four partitions a topic."""
    return Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "x", "log_level": 0})


@pytest.fixture
def servers(producer: Producer) -> str:
    """Where the mock cluster is."""
    return ",".join(f"{broker.host}:{broker.port}" for broker in producer.list_topics(timeout=30).brokers.values())


@pytest.fixture
def zone(tmp_path: Path) -> LocalLanding:
    """An empty landing zone."""
    (tmp_path / "landing").mkdir()
    return LocalLanding(tmp_path / "landing")


def test_a_topic_is_drained_once(producer: Producer, servers: str, zone: LocalLanding) -> None:
    """Every record of every partition lands; the next drain finds nothing, and the one after it what is new."""
    stream = Stream(name="pos", description="x", source=Kafka(topic="t"), first_day=date(2024, 10, 1))

    def drained() -> int:
        reader = KafkaReader(Kafka(topic="t"), {"bootstrap.servers": servers})
        done = Drain(LandedStream(stream, zone, ZONE), reader).to_now()
        assert done.is_caught_up
        assert done.gaps == []
        return done.records

    for count in (500, 0, 300):
        for number in range(count):
            producer.produce("t", key=f"k{number % 7}", value=f"v{number}")
        producer.flush()
        assert drained() == count
