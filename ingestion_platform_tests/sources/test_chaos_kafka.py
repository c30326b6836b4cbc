"""Workers of one Kafka group killed again and again: each kill and each newcomer is a rebalance."""

import random
from functools import partial
from pathlib import Path

from ingestion_platform.sources.kafka import KafkaReader
from ingestion_platform.sources.reading import StreamReader
from ingestion_platform.stream import Kafka, Stream
from ingestion_platform_tests.sources import draining
from ingestion_platform_tests.sources.chaos import Campaign, Nursery, Site
from ingestion_platform_tests.sources.kafka_broker import serve
from ingestion_platform_tests.sources.kafka_worlds import BrokerKafkaWorld

KILLS = 60


def opened(servers: str, stream: Stream) -> StreamReader:
    """A reader in another process, whose death the broker notices soon."""
    source = stream.source
    assert isinstance(source, Kafka)
    return KafkaReader(
        source, {"bootstrap.servers": servers, "session.timeout.ms": "1000", "heartbeat.interval.ms": "200"}
    )


def test_killed_and_rebalanced_again_and_again_each_record_counts_once_and_in_order(tmp_path: Path) -> None:
    """Sixty kills of two and three workers of a group; half of the time they read every partition each, without a group."""
    with Nursery() as nursery, serve() as broker:
        world = BrokerKafkaWorld(broker, partitions=4)
        (tmp_path / "landing").mkdir()
        alone, grouped = world.declared(segment_seconds=0.1), world.declared(segment_seconds=0.1, group="workers")
        campaign = Campaign(
            nursery, Site(str(tmp_path), alone, partial(opened, world.servers, alone)), world.put, _nothing
        )
        for stream, workers, kills in ((grouped, 2, 24), (alone, 2, 36), (grouped, 3, KILLS)):
            campaign.site = Site(str(tmp_path), stream, partial(opened, world.servers, stream))
            campaign.workers = workers
            campaign.run(kills, change_every=1000)
        assert campaign.kills == KILLS
        zone = draining.landing_in(tmp_path / "landing")
        assert len(draining.values(zone)) > sum(campaign.sent.values()) // 2, "the workers did nothing before they died"
        while not draining.drain(alone, zone, world.reader()).to_now().is_caught_up:
            pass
        campaign.check(lambda row: (row["_shard"], int(row["position"])))
        assert draining.gap_keys(zone) == []


def _nothing(_chance: random.Random) -> None:
    """Partitions stay as they are: keys would move."""
