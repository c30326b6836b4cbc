"""
Events a second from Kafka into landed segments, against the raw client on the same topic in the same run.

    .venv/bin/python benchmarks/kafka.py                    # 2 million events of 300 bytes, a real broker (scripts/servers/kafka.sh)
    .venv/bin/python benchmarks/kafka.py --broker mock      # the client's own mock cluster: it keeps 5 MB a partition
    .venv/bin/python benchmarks/kafka.py --sizes 1 2 4      # memory over growing input, in millions of events

Each side runs in a process of its own, one after the other, `--rounds` times; what counts is the ratio of the medians. The limit is
`consume` in batches, whose messages are counted and thrown away. Ours is all of a drain up to now: reading, Arrow, compression, and
segments in a folder. Starting Python and importing isn't counted. What has landed must be what was sent before a time counts.
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from confluent_kafka import Consumer, Producer, TopicPartition

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

TOPIC_PARTITIONS = 4
EVENT_BYTES = 300


def send(servers: str | Producer, topic: str, events: int) -> None:
    """Write events as tills do: JSON of a few members, a key, no headers."""
    producer = (
        servers
        if isinstance(servers, Producer)
        else Producer({"bootstrap.servers": servers, "linger.ms": 20, "batch.size": 500_000, "log_level": 0})
    )
    chance = random.Random(7)
    bodies = []
    for number in range(5000):
        event = {
            "event_id": f"{chance.getrandbits(64):016x}",
            "type": "sale_line",
            "store_id": f"S{number % 2900:05}",
            "sold_at": datetime.now(UTC).isoformat(),
            "product_id": f"P{chance.randint(0, 9999):05}",
            "quantity": chance.randint(1, 5),
            "amount_zar": f"{chance.randint(100, 99999) / 100:.2f}",
            "note": "",
        }
        event["note"] = f"{chance.getrandbits(2048):x}"[: EVENT_BYTES - len(json.dumps(event))]
        bodies.append(json.dumps(event).encode())
    for number in range(events):
        while True:
            try:
                producer.produce(topic, key=b"S%05d" % (number % 2900), value=bodies[number % len(bodies)])
                break
            except BufferError:
                producer.poll(0.05)
    if producer.flush(120):
        raise SystemExit("the broker didn't take every event")


Told = dict[str, float]


def told(events: int, began: tuple[float, float]) -> Told:
    """What a side says of itself."""
    return {
        "events": events,
        "wall_seconds": time.perf_counter() - began[0],
        "cpu_seconds": time.process_time() - began[1],
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def limit(servers: str, topic: str, events: int) -> Told:
    """The raw client: every message of the topic, in batches."""
    began = time.perf_counter(), time.process_time()
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "limit",
            "enable.auto.commit": False,
            "queued.max.messages.kbytes": 32768,
        }
    )
    consumer.assign([TopicPartition(topic, number, 0) for number in range(TOPIC_PARTITIONS)])
    seen = 0
    while seen < events:
        seen += len(consumer.consume(10_000, 1.0))
    consumer.close()
    return told(seen, began)


def ours(servers: str, topic: str, out: Path) -> Told:
    """A drain up to now."""
    import pyarrow as pa

    from ingestion_platform.landing.local import LocalLanding
    from ingestion_platform.sources.drain import Drain
    from ingestion_platform.sources.kafka import KafkaReader
    from ingestion_platform.sources.landed import LandedStream
    from ingestion_platform.stream import Kafka, Stream

    pa.array([b""])  # Imports pandas.
    began = time.perf_counter(), time.process_time()
    source = Kafka(topic=topic)
    stream = Stream(
        name="events",
        description="x",
        source=source,
        first_day=date(2024, 10, 1),
        drain_seconds=3600,
        drain_bytes=2**40,
    )
    landed = LandedStream(stream, LocalLanding(out), ZoneInfo("Africa/Johannesburg"))
    done = Drain(landed, KafkaReader(source, {"bootstrap.servers": servers})).to_now()
    if not done.is_caught_up or done.gaps:
        raise SystemExit("the drain isn't whole")
    return told(done.records, began)


def measure(side: str, servers: str, topic: str, events: int) -> Told:
    """Run one side in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-") as out:
        asked = [sys.executable, __file__, "--side", side, "--servers", servers, "--topic", topic, "--out", out]
        done = subprocess.run([*asked, "--events", str(events)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    said: Told = json.loads(done.stdout.splitlines()[-1])
    if said["events"] != events:
        raise SystemExit(f"{side}: {said['events']:,} events instead of {events:,}")
    return said


@contextmanager
def cluster(kind: str) -> Iterator[tuple[str, Producer | None]]:
    """A broker for as long as the context lasts."""
    if kind == "mock":
        producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "x", "log_level": 0})
        found = producer.list_topics(timeout=30).brokers.values()
        yield ",".join(f"{broker.host}:{broker.port}" for broker in found), producer
        return
    from ingestion_platform_tests.sources.kafka_broker import serve

    with serve(heap_mb=512) as broker:
        for events in {CHOSEN.events, *(int(millions * 1_000_000) for millions in CHOSEN.sizes)}:
            broker.topic(TOPIC_PARTITIONS, name=_topic(events))
        yield broker.servers, None


def _topic(events: int) -> str:
    return f"events-{events}"


def main() -> None:
    """Measure, and print."""
    if CHOSEN.side:
        if CHOSEN.side == "limit":
            print(json.dumps(limit(CHOSEN.servers, CHOSEN.topic, CHOSEN.events)))
        else:
            print(json.dumps(ours(CHOSEN.servers, CHOSEN.topic, CHOSEN.out)))
        return
    events = 50_000 if CHOSEN.broker == "mock" else CHOSEN.events
    print(f"load before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores; {events:,} events of {EVENT_BYTES} bytes")
    with cluster(CHOSEN.broker) as (servers, producer):
        send(producer or servers, _topic(events), events)
        found: dict[str, list[Told]] = {"limit": [], "ours": []}
        for _ in range(CHOSEN.rounds):
            for side, done in found.items():
                done.append(measure(side, servers, _topic(events), events))
        rates = {side: events / statistics.median(one["wall_seconds"] for one in done) for side, done in found.items()}
        for side, done in found.items():
            cpu = statistics.median(one["cpu_seconds"] for one in done)
            print(
                f"{side:>6}: {rates[side]:>9,.0f} events/s, {cpu * 1e6 / events:5.2f} CPU µs an event,"
                f" {max(one['peak_mb'] for one in done):,.0f} MB at most"
            )
        print(f"ratio: {rates['ours'] / rates['limit']:.2f} of the raw client")
        for millions in CHOSEN.sizes:
            number = int(millions * 1_000_000)
            if _topic(number) != _topic(events):
                send(producer or servers, _topic(number), number)
            told = measure("ours", servers, _topic(number), number)
            print(
                f"{number:>12,} events: {told['peak_mb']:,.0f} MB at most, {number / told['wall_seconds']:,.0f} events/s"
            )


def _choose() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--broker", choices=("real", "mock"), default="real")
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", type=float, nargs="*", default=[], help="millions of events to measure memory with")
    parser.add_argument("--side", choices=("limit", "ours"), help=argparse.SUPPRESS)
    parser.add_argument("--servers", help=argparse.SUPPRESS)
    parser.add_argument("--topic", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    CHOSEN = _choose()
    main()
