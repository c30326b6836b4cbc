"""Reading Kinesis while shards split and merge: parents before children, each key in order; on kinesalite behind a layer of faults."""

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingestion_platform.sources.kinesis_producer import KinesisProducer, Outgoing
from ingestion_platform.sources.landed import LandedStream
from ingestion_platform.sources.reading import After, Arrived, CaughtUp, Ended, Event, Gone, Oldest, Shard, Start
from ingestion_platform_tests.sources.draining import (
    ZONE,
    by_key,
    drain,
    gap_keys,
    landing_in,
    oldest,
    records,
    tables,
    values,
)
from ingestion_platform_tests.sources.kinesis_faults import Faults
from ingestion_platform_tests.sources.kinesis_worlds import (
    PATIENT,
    KinesaliteWorld,
    kinesalite_server,
    numbered,
    plain_client,
    puts,
)
from ingestion_platform_tests.sources.world import Put


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Faults]]:
    """One kinesalite for all tests of this module; each has streams of its own."""
    with kinesalite_server() as served:
        yield served


@pytest.fixture
def world(server: tuple[str, Faults]) -> Iterator[KinesaliteWorld]:
    """An empty stream with two shards."""
    url, faults = server
    faults.clear()
    yield KinesaliteWorld(url, faults)
    faults.clear()


def values_of(event: Event) -> list[tuple[bytes, bytes]]:
    """Key and value of the records of an event."""
    if not isinstance(event, Arrived):
        return []
    columns = (event.records.column(name).to_pylist() for name in ("key", "value"))
    return [(key or b"", value or b"") for key, value in zip(*columns, strict=True)]


def assert_keys_in_order(pairs: list[tuple[bytes, bytes]]) -> None:
    """Numbers ascend for each key."""
    last: dict[bytes, bytes] = {}
    for key, value in pairs:
        assert last.get(key, b"") < value
        last[key] = value


def test_children_are_read_after_their_parents(world: KinesaliteWorld) -> None:
    """Split twice and merged: every record comes once, each key's in order over all of its shards."""
    world.put(puts(0, 100))
    world.split()
    world.put(puts(100, 200))
    world.merge()
    world.put(puts(200, 300))
    world.split()
    world.put(puts(300, 400))
    events = list(world.reader().read(oldest, until=datetime.now(UTC)))
    pairs = [pair for event in events for pair in values_of(event)]
    assert sorted(value for _, value in pairs) == numbered(0, 400)
    assert_keys_in_order(pairs)
    ended = [event.shard for event in events if isinstance(event, Ended)]
    open_ = {shard["ShardId"] for shard in world.open_shards()}
    assert {event.shard for event in events if isinstance(event, CaughtUp)} == {*ended, *open_}
    assert not open_ & set(ended)


def test_resharding_while_it_is_followed(world: KinesaliteWorld) -> None:
    """Children appear while the stream is followed, and are read as soon as their parents have ended."""
    world.put(puts(0, 50))
    pairs: list[tuple[bytes, bytes]] = []
    steps: dict[int, list[Callable[[], None]]] = {
        50: [world.split, lambda: world.put(puts(50, 100))],
        100: [world.merge, lambda: world.put(puts(100, 150))],
        150: [world.split, lambda: world.put(puts(150, 200))],
    }
    for event in world.reader().read(oldest, until=None):
        pairs += values_of(event)
        for step in steps.pop(len(pairs), []):
            step()
        if len(pairs) == 200:
            break
    assert sorted(value for _, value in pairs) == numbered(0, 200)
    assert_keys_in_order(pairs)


def test_a_parent_that_is_not_at_its_end_holds_back_its_children(world: KinesaliteWorld) -> None:
    """Also after a restart: only what has landed of it counts."""
    world.put(puts(0, 60))
    parents = [shard["ShardId"] for shard in world.open_shards()]
    world.split()
    world.put(puts(60, 120))
    half: dict[str, Start] = {}
    for event in world.reader().read(oldest, until=datetime.now(UTC), shards=parents):
        if isinstance(event, Arrived):
            middle = event.records.num_rows // 2
            half[event.shard] = After(int(event.records.column("position")[middle].as_py() or 0))
    assert len(half) == 2
    asked: list[str] = []

    def where(shard: Shard) -> Start:
        asked.append(shard.id)
        return half.get(shard.id, Oldest())

    ended: list[str] = []
    for event in world.reader().read(where, until=datetime.now(UTC)):
        if isinstance(event, Ended):
            ended.append(event.shard)
        elif isinstance(event, Arrived) and event.shard not in parents:
            (parent,) = _parents(world)[event.shard]
            assert parent in ended
    assert asked[:2] == sorted(parents) or asked[:2] == sorted(parents, reverse=True)


def _parents(world: KinesaliteWorld) -> dict[str, list[str]]:
    shards = world.client.list_shards(StreamName=world.stream)["Shards"]
    return {shard["ShardId"]: [shard["ParentShardId"]] for shard in shards if "ParentShardId" in shard}


def test_a_shard_read_to_its_end_is_not_read_again(world: KinesaliteWorld, tmp_path: Path) -> None:
    """Drained, split and drained again: the next drain asks the closed shards for as little as may be, and finds nothing."""
    zone = landing_in(tmp_path / "landing")
    world.put(puts(0, 50))
    drain(world.declared(), zone, world.reader()).to_now()
    world.split()
    world.put(puts(50, 100))
    second = drain(world.declared(), zone, world.reader()).to_now()
    assert second.is_caught_up
    assert values(zone) == numbered(0, 100)
    again = drain(world.declared(), zone, world.reader()).to_now()
    assert (again.records, again.is_caught_up) == (0, True)


def test_positions_that_are_no_records_are_understood(world: KinesaliteWorld) -> None:
    """Before a shard's first record, at the end of a gap, where no record ever was: reading goes on behind them."""
    world.put(puts(0, 40))
    first = [event for event in world.reader().read(oldest, until=datetime.now(UTC)) if isinstance(event, Arrived)]
    event = first[0]
    for position, expected in (
        (event.first - 1, values_of(event)),
        (1, values_of(event)),
        (event.last - 1, values_of(event)[-1:]),
        (event.last, []),
        (event.last + 1, []),
    ):
        found = [
            pair
            for one in world.reader().read(
                lambda _, at=position: After(at),  # type: ignore[misc]
                until=datetime.now(UTC),
                shards=[event.shard],
            )
            for pair in values_of(one)
        ]
        assert found == expected


def test_an_idle_child_leaves_a_mark(world: KinesaliteWorld, tmp_path: Path) -> None:
    """A shard in which nothing has come yet is known to have been empty: that it is empty later is no gap."""
    zone = landing_in(tmp_path / "landing")
    world.put([Put("k", b"1")])
    drain(world.declared(), zone, world.reader()).to_now()
    landed = LandedStream(world.declared(), zone, ZONE)
    for shard in world.open_shards():
        assert isinstance(landed.start_of(shard["ShardId"], datetime.now(UTC)), After)
    world.put(puts(0, 30))
    drained = drain(world.declared(), zone, world.reader()).to_now()
    assert drained.gaps == []
    assert values(zone) == sorted([b"1", *numbered(0, 30)])
    assert gap_keys(zone) == []


def test_with_every_trouble_at_once_each_record_lands_once(world: KinesaliteWorld, tmp_path: Path) -> None:
    """Short drains while shards split and merge, records are refused, iterators expire and connections break: complete, once, in order."""
    zone = landing_in(tmp_path / "landing")
    chance = random.Random(5)
    producer = KinesisProducer(
        world.stream, client=plain_client(world.url), waits=PATIENT, dead_letters=tmp_path / "dead.jsonl"
    )
    number = 0
    for step in range(12):
        some = chance.randint(20, 80)
        world.faults.fail_records(1, every=chance.randint(2, 5))
        told = producer.put([Outgoing(put.key, put.value) for put in puts(number, number + some)])
        assert told.failed == 0
        number += some
        if step % 4 == 1:
            world.split_one(chance.choice(world.open_shards()))
        if step % 4 == 3:
            world.merge()
        harm: list[Any] = [
            lambda: world.faults.throttle(2),
            lambda: world.faults.cut(2, operation="GetRecords"),
            lambda: world.faults.cut(1, operation="GetRecords", is_done=True),
            lambda: world.faults.expire_iterators(2),
            lambda: world.faults.refuse(500, "InternalFailure", 2),
        ]
        chance.choice(harm)()
        drain(world.declared(segment_bytes=300, drain_bytes=chance.randint(100, 3000)), zone, world.reader()).to_now()
        world.faults.clear()
    last = drain(world.declared(), zone, world.reader()).to_now()
    assert last.is_caught_up
    assert values(zone) == numbered(0, number)
    assert all(found == sorted(found) for found in _by_key_and_descent(world, zone).values())
    assert gap_keys(zone) == []


def _by_key_and_descent(world: KinesaliteWorld, zone: Any) -> dict[bytes, list[bytes]]:
    """Key → values; shards are named in the order in which they were made, so parents come first."""
    assert [name.shard for name, _ in tables(zone)] == sorted(name.shard for name, _ in tables(zone))
    return by_key(zone)


WORKER = """
import sys, threading
from pathlib import Path
from zoneinfo import ZoneInfo
from datetime import date
from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.sources.drain import Drain
from ingestion_platform.sources.kinesis import KinesisReader, Pace
from ingestion_platform.sources.landed import LandedStream
from ingestion_platform.stream import Kinesis, Stream
stream = Stream(name="pos", description="x", source=Kinesis(stream=sys.argv[1]), first_day=date(2024, 10, 1),
                segment_bytes=2000, segment_seconds=0.1)
reader = KinesisReader(stream.source, pace=Pace(read_seconds=0.02, idle_seconds=0.02, list_seconds=0.2))
landed = LandedStream(stream, LocalLanding(sys.argv[2]), ZoneInfo("Africa/Johannesburg"))
Drain(landed, reader, on_landed=lambda segment, state: print(segment.key, flush=True)).follow(threading.Event())
"""


def test_killed_at_any_moment_nothing_is_lost_and_nothing_lands_twice(world: KinesaliteWorld, tmp_path: Path) -> None:
    """A worker is killed again and again while records come and shards split; the last drain completes it."""
    zone = landing_in(tmp_path / "landing")
    chance = random.Random(11)
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": world.url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    number = 0
    for step in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", WORKER, world.stream, str(tmp_path / "landing")],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        ) as worker:
            assert worker.stdout is not None
            world.put(puts(number, number + 300))
            number += 300
            # Killed after so many segments: at any moment of its work, not of its start.
            watchdog = threading.Timer(30, worker.kill)
            watchdog.start()
            for _ in range(chance.randint(1, 6)):
                worker.stdout.readline()
            if step % 2:
                world.split_one(world.open_shards()[0])
            worker.kill()
            watchdog.cancel()
    world.put(puts(number, number + 50))
    last = drain(world.declared(), zone, world.reader()).to_now()
    assert last.is_caught_up
    assert values(zone) == numbered(0, number + 50)
    assert all(found == sorted(found) for found in _by_key_and_descent(world, zone).values())
    assert len({(shard, position) for shard, position, *_ in records(zone)}) == number + 50


def test_a_stream_that_was_made_anew_is_told(world: KinesaliteWorld) -> None:
    """What has landed is of another stream of that name: whether all of that one landed, nobody knows."""
    world.put(puts(0, 40))
    events = list(world.reader().read(oldest, until=datetime.now(UTC)))
    last = {event.shard: event.last for event in events if isinstance(event, Arrived)}
    world.client.delete_stream(StreamName=world.stream)
    while world.stream in world.client.list_streams(Limit=1000)["StreamNames"]:
        time.sleep(0.01)
    # Streams are told apart by the second in which they were made. The new one's numbers may still begin before the old one's last:
    # kinesalite dates them back by two seconds.
    time.sleep(1.0)
    world.client.create_stream(StreamName=world.stream, ShardCount=2)
    world.wait()
    world.put(puts(40, 60))
    events = list(world.reader().read(lambda shard: After(last[shard.id]), until=datetime.now(UTC)))
    gone = {event.shard: event for event in events if isinstance(event, Gone)}
    assert gone.keys() == last.keys()
    assert all("made anew" in event.why for event in gone.values())
    assert sorted(value for event in events for _, value in values_of(event)) == numbered(40, 60)


def test_nothing_is_called_gone_that_is_not(world: KinesaliteWorld) -> None:
    """A stream younger than its retention has lost nothing, whatever is asked for."""
    world.put(puts(0, 20))
    events = list(world.reader().read(oldest, until=datetime.now(UTC)))
    last = {event.shard: event.last for event in events if isinstance(event, Arrived)}
    world.split()
    again = list(
        world.reader().read(
            lambda shard: After(last[shard.id]) if shard.id in last else Oldest(), until=datetime.now(UTC)
        )
    )
    assert not [event for event in again if isinstance(event, (Gone, Arrived))]


def test_a_replay_reads_over_a_reshard(world: KinesaliteWorld, tmp_path: Path) -> None:
    """By time, from before it and from after it: what somebody deleted lands again, from parents and children alike."""
    zone = landing_in(tmp_path / "landing")
    began = datetime.now(UTC)
    world.put(puts(0, 40))
    world.split()
    world.put(puts(40, 80))
    drain(world.declared(segment_bytes=100), zone, world.reader()).to_now()
    whole = values(zone)
    for number, landed in enumerate(zone.list()):
        if landed.key.endswith(".parquet") and number % 3 == 0:
            Path(zone.url, landed.key).unlink()
    assert values(zone) != whole
    # kinesalite's clock runs ahead in shards that have just been made.
    drained = drain(world.declared(), zone, world.reader()).replay(began, datetime.now(UTC) + timedelta(seconds=3))
    assert drained.is_caught_up
    assert values(zone) == whole == numbered(0, 80)
    again = drain(world.declared(), zone, world.reader()).replay(datetime.now(UTC), datetime.now(UTC))
    assert values(zone) == whole
    assert again.is_caught_up
