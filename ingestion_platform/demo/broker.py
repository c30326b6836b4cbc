"""
A Kafka broker for the demo, which needs nothing but what pip installs: the one that librdkafka has inside for tests, on loopback, gone
at the end.

Belongs here: serving, and sending events. Doesn't: which (`events.py`).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from confluent_kafka import KafkaException, Producer

from ingestion_platform.demo.event import TillEvent
from ingestion_platform.errors import SourceUnavailable

ANSWER_SECONDS = 30.0


class Broker:
    """
    A broker that lives as long as this object.

    Args:
        producer: whose process it runs in.
        servers: where others reach it.
    """

    def __init__(self, producer: Producer, servers: str) -> None:
        self._producer = producer
        self.servers = servers

    def send(self, topic: str, events: Iterable[TillEvent]) -> int:
        """
        Send events, those of a key in order; how many.

        Raises:
            SourceUnavailable: not all of them were taken.
        """
        failed: list[str] = []
        count = 0
        for event in events:
            while True:
                try:
                    self._producer.produce(
                        topic,
                        key=event.key,
                        value=event.value,
                        timestamp=int(event.at.timestamp() * 1000),
                        headers=dict(event.headers),
                        on_delivery=lambda error, _: failed.append(str(error)) if error is not None else None,
                    )
                    break
                except BufferError:
                    self._producer.poll(0.1)
            count += 1
        left = self._producer.flush(ANSWER_SECONDS)
        if left or failed:
            raise SourceUnavailable(
                f"the demo's broker took {count - left - len(failed):,} of {count:,} events: {failed[:1] or 'no answer'}",
                "run it again",
            )
        return count


@contextmanager
def serve() -> Iterator[Broker]:
    """A broker on loopback, for as long as the context lasts."""
    # Its log says that it is one for tests, which is what is wanted here.
    producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "localhost", "log_level": 0, "linger.ms": 20})
    try:
        brokers = producer.list_topics(timeout=ANSWER_SECONDS).brokers.values()
    except KafkaException as error:
        raise SourceUnavailable(f"the demo's broker didn't start: {error}", "run it again") from error
    yield Broker(producer, ",".join(f"{broker.host}:{broker.port}" for broker in brokers))
