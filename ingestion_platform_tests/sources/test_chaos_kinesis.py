"""The worker killed again and again while a Kinesis stream's shards split and merge."""

import random
from functools import partial
from pathlib import Path

from ingestion_platform.sources.kinesis import KinesisReader
from ingestion_platform.sources.reading import StreamReader
from ingestion_platform.stream import Kinesis
from ingestion_platform_tests.sources import draining
from ingestion_platform_tests.sources.chaos import Campaign, Nursery, Site
from ingestion_platform_tests.sources.kinesis_worlds import (
    FAST,
    PATIENT,
    KinesaliteWorld,
    kinesalite_server,
    plain_client,
)

KILLS = 60
MOST_SHARDS = 6


def opened(url: str, stream: str) -> StreamReader:
    """A reader in another process."""
    return KinesisReader(Kinesis(stream=stream), client=plain_client(url), pace=FAST, waits=PATIENT)


def test_killed_and_resharded_again_and_again_each_record_counts_once_and_in_order(tmp_path: Path) -> None:
    """Sixty kills, ten splits and merges in between, two workers beside each other half of the time."""
    with Nursery() as nursery, kinesalite_server() as (url, faults):
        world = KinesaliteWorld(url, faults)
        stream = world.declared(segment_seconds=0.1)
        (tmp_path / "landing").mkdir()
        site = Site(str(tmp_path), stream, partial(opened, url, world.stream))

        def reshard(chance: random.Random) -> None:
            shards = world.open_shards()
            if len(shards) >= MOST_SHARDS or (len(shards) > 1 and chance.random() < 0.4):
                world.merge()
            else:
                world.split_one(chance.choice(shards))

        campaign = Campaign(nursery, site, world.put, reshard)
        for workers in (1, 2):
            campaign.workers = workers
            campaign.run(KILLS * workers // 2, change_every=6)
        assert (campaign.kills, campaign.changes) == (KILLS, KILLS // 6)
        zone = draining.landing_in(tmp_path / "landing")
        assert len(draining.values(zone)) > sum(campaign.sent.values()) // 2, "the workers did nothing before they died"
        while not draining.drain(stream, zone, world.reader()).to_now().is_caught_up:
            pass
        # A child's numbers are above all of its parents'.
        campaign.check(lambda row: int(row["position"].partition(":")[0]))
        assert draining.gap_keys(zone) == []
