"""What every kind of stream promises, on every server that is there: one suite for all of them."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from ingestion_platform.errors import LandingUnavailable
from ingestion_platform.landing import LandedObject
from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.sources.drain import Drain, Drained
from ingestion_platform.sources.landed import LandedStream
from ingestion_platform.sources.reading import Arrived, StreamReader
from ingestion_platform.stream import Kafka, LandedName, Stream
from ingestion_platform_tests.sources import draining
from ingestion_platform_tests.sources.dynamodb_worlds import DynamoDbWorld, moto_dynamodb
from ingestion_platform_tests.sources.kafka_worlds import MockKafkaWorld
from ingestion_platform_tests.sources.kinesis_worlds import MotoWorld, moto_server
from ingestion_platform_tests.sources.memory import MemoryStream
from ingestion_platform_tests.sources.servers import NEEDED
from ingestion_platform_tests.sources.world import Forgetting, Put, Splitting, StreamWorld

KEYS = [f"store-{number}" for number in range(6)]
WITHIN_SECONDS = 60.0


class MemoryWorld:
    """The stream that the other tests of the drain use: it has to promise the same."""

    kind = "memory"

    def __init__(self) -> None:
        self._stream = MemoryStream(batch=3)
        for shard in ("0", "1"):
            self._stream.shards[shard] = []

    def declared(self, **changes: object) -> Stream:
        """The declaration of the stream."""
        begin = changes.pop("begin", "oldest")
        source = Kafka(topic="t", begin=begin)  # type: ignore[arg-type]
        return Stream(
            **{"name": "pos", "description": "x", "source": source, "first_day": date(2024, 10, 1), **changes}  # type: ignore[arg-type]
        )

    def reader(self) -> StreamReader:
        """A new reader of it."""
        return self._stream

    def put(self, records: list[Put]) -> None:
        """Write records, in this order."""
        for record in records:
            shard = str(KEYS.index(record.key) % len(self._stream.shards))
            self._stream.put(shard, record.value, datetime.now(UTC), key=record.key.encode())

    def value_of(self, value: bytes) -> bytes:
        """See `StreamWorld.value_of`."""
        return value

    def split(self) -> None:
        """Twice as many shards; a key may be in another one from then on."""
        for number in range(len(self._stream.shards), 2 * len(self._stream.shards)):
            self._stream.shards[str(number)] = []

    def forget(self) -> None:
        """Drop everything that has been written so far."""
        for shard, records in self._stream.shards.items():
            self._stream.forget(shard, len(records))


@contextmanager
def _memory() -> Iterator[Callable[[], StreamWorld]]:
    yield MemoryWorld  # type: ignore[misc]


@contextmanager
def _mock_kafka() -> Iterator[Callable[[], StreamWorld]]:
    yield MockKafkaWorld


@contextmanager
def _moto_kinesis() -> Iterator[Callable[[], StreamWorld]]:
    with moto_server() as (url, faults):
        yield lambda: MotoWorld(url, faults)


@contextmanager
def _moto_dynamodb() -> Iterator[Callable[[], StreamWorld]]:
    with moto_dynamodb() as url:
        yield lambda: DynamoDbWorld(url)


@contextmanager
def _kinesalite() -> Iterator[Callable[[], StreamWorld]]:
    from ingestion_platform_tests.sources.kinesis_worlds import KinesaliteWorld, kinesalite_server

    with kinesalite_server() as (url, faults):
        yield lambda: KinesaliteWorld(url, faults)


@contextmanager
def _kafka() -> Iterator[Callable[[], StreamWorld]]:
    from ingestion_platform_tests.sources.kafka_broker import serve
    from ingestion_platform_tests.sources.kafka_worlds import BrokerKafkaWorld

    with serve() as broker:
        yield lambda: BrokerKafkaWorld(broker)


@contextmanager
def _dynamodb_local() -> Iterator[Callable[[], StreamWorld]]:
    from ingestion_platform_tests.sources.dynamodb_worlds import DynamoDbLocalWorld, dynamodb_local

    with dynamodb_local() as url:
        yield lambda: DynamoDbLocalWorld(url)


KINDS = {"memory": _memory, "mock kafka": _mock_kafka, "moto kinesis": _moto_kinesis, "moto dynamodb": _moto_dynamodb}
KINDS |= {
    name: opened
    for name, opened in (("kinesalite", _kinesalite), ("kafka", _kafka), ("dynamodb_local", _dynamodb_local))
    if name in NEEDED and NEEDED[name][0]
}
FORGETTING = [name for name in KINDS if name in ("memory", "moto kinesis", "kafka")]
SPLITTING = [name for name in KINDS if name in ("memory", "kinesalite", "kafka", "dynamodb_local")]
SLOW_CLOCKS = ("kinesis", "dynamodb", "dynamodb local")
"""Where a start at the newest record is a moment, that the server knows to the second."""


@pytest.fixture(scope="module")
def servers() -> Iterator[Callable[[str], Callable[[], StreamWorld]]]:
    """Each server, begun when the first test asks for it."""
    with ExitStack() as stack:
        begun: dict[str, Callable[[], StreamWorld]] = {}

        def begin(kind: str) -> Callable[[], StreamWorld]:
            if kind not in begun:
                begun[kind] = stack.enter_context(KINDS[kind]())
            return begun[kind]

        yield begin


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest, servers: Callable[[str], Callable[[], StreamWorld]]) -> StreamWorld:
    """A stream of each kind, empty."""
    return servers(request.param)()


@pytest.fixture(params=FORGETTING)
def forgetting(request: pytest.FixtureRequest, servers: Callable[[str], Callable[[], StreamWorld]]) -> Forgetting:
    """A stream of each kind that can be made to forget."""
    world = servers(request.param)()
    assert isinstance(world, Forgetting)
    return world


@pytest.fixture(params=SPLITTING)
def splitting(request: pytest.FixtureRequest, servers: Callable[[str], Callable[[], StreamWorld]]) -> Splitting:
    """A stream of each kind that can be split."""
    world = servers(request.param)()
    assert isinstance(world, Splitting)
    return world


def puts(first: int, last: int) -> list[Put]:
    """Records with ascending values, of all keys in turn; *last* isn't included."""
    return [Put(KEYS[number % len(KEYS)], b"%08d" % number) for number in range(first, last)]


def to_now(world: StreamWorld, zone: LocalLanding, **changes: object) -> Drained:
    """Drain up to now, as a process that has just started."""
    return draining.drain(world.declared(**changes), zone, world.reader()).to_now()


def landed(world: StreamWorld, zone: LocalLanding) -> list[bytes]:
    """What was put and has landed, sorted; each record as often as it stands in a segment."""
    return sorted(world.value_of(value) for value in draining.values(zone))


def wanted(first: int, last: int) -> list[bytes]:
    """What was put."""
    return [one.value for one in puts(first, last)]


def assert_order_of_keys(world: StreamWorld, zone: LocalLanding) -> None:
    """The values of each key ascend within each shard."""
    of_key: dict[tuple[str, bytes], list[bytes]] = defaultdict(list)
    for shard, _, _, key, value in draining.records(zone):
        of_key[shard, key].append(world.value_of(value))
    assert all(values == sorted(values) for values in of_key.values())


def test_everything_lands_once_and_the_next_drain_has_nothing_to_do(world: StreamWorld, zone: LocalLanding) -> None:
    """All records, in the order of each key, caught up at the end; drained again, nothing is written twice."""
    world.put(puts(0, 40))
    assert to_now(world, zone).is_caught_up
    assert landed(world, zone) == wanted(0, 40)
    assert_order_of_keys(world, zone)
    again = to_now(world, zone)
    assert (again.records, again.gaps) == (0, [])
    world.put(puts(40, 50))
    assert to_now(world, zone).records == 10
    assert landed(world, zone) == wanted(0, 50)


def test_records_keep_key_position_and_arrival(world: StreamWorld, zone: LocalLanding) -> None:
    """Positions ascend and are what the name says; records arrived about now; the key is told."""
    before = datetime.now(UTC) - timedelta(minutes=2)
    world.put(puts(0, 12))
    to_now(world, zone)
    for name, table in draining.tables(zone):
        positions = [int(str(position)) for position in table.column("position").to_pylist()]
        assert name.span is not None
        assert (positions[0], positions[-1]) == (name.span.first, name.span.last)
        assert positions == sorted(positions)
        for moment in table.column("arrived_at").to_pylist():
            assert moment is not None
            assert before < moment < datetime.now(UTC) + timedelta(minutes=2)
    assert {KEYS[0].encode() in key for *_, key, _ in draining.records(zone)} == {True, False}


def test_a_drain_that_breaks_anywhere_is_gone_on_with(world: StreamWorld, tmp_path: Path) -> None:
    """Whichever write fails, the next drain lands the rest, and nothing twice."""
    world.put(puts(0, 30))
    for writes in range(4):
        (tmp_path / str(writes)).mkdir()
        zone = Failing(tmp_path / str(writes), writes)
        with pytest.raises(LandingUnavailable):
            draining.drain(world.declared(segment_bytes=24), zone, world.reader()).to_now()
        zone.left = None
        to_now(world, zone, segment_bytes=24)
        assert landed(world, zone) == wanted(0, 30)
        assert_order_of_keys(world, zone)


class Failing(LocalLanding):
    """A landing zone whose disk is full after some writes."""

    def __init__(self, folder: Path, writes: int) -> None:
        super().__init__(folder)
        self.left: int | None = writes
        self._lock = threading.Lock()

    def put_if_absent(self, key: str, content: bytes) -> bool:
        """See `LandingZone.put_if_absent`."""
        with self._lock:
            if self.left == 0:
                raise LandingUnavailable(f"{key} can't be written: no space left on device")
            if self.left is not None:
                self.left -= 1
        return super().put_if_absent(key, content)


def test_two_drains_at_once_lose_nothing_and_double_nothing_that_counts(world: StreamWorld, zone: LocalLanding) -> None:
    """What both land has the same positions, so that the load tells it apart."""
    world.put(puts(0, 60))
    done: list[Drained] = []
    threads = [threading.Thread(target=lambda: done.append(to_now(world, zone, segment_bytes=64))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WITHIN_SECONDS)
    assert len(done) == 2
    by_position = {
        (shard, position, part): world.value_of(value) for shard, position, part, _, value in draining.records(zone)
    }
    assert sorted(by_position.values()) == wanted(0, 60)


def test_a_small_drain_is_gone_on_with(world: StreamWorld, zone: LocalLanding) -> None:
    """Bounded by bytes, drain after drain comes to the end."""
    world.put(puts(0, 40))
    for _ in range(60):
        if to_now(world, zone, drain_bytes=8).is_caught_up:
            break
    assert landed(world, zone) == wanted(0, 40)


def test_what_comes_while_it_is_followed_lands(world: StreamWorld, zone: LocalLanding) -> None:
    """Without end, until it is told to stop; what is held then lands too, and every thread has ended."""
    before = set(threading.enumerate())
    world.put(puts(0, 10))
    stop = threading.Event()
    follower = draining.drain(world.declared(segment_seconds=0.2), zone, world.reader())
    thread = threading.Thread(target=follower.follow, args=(stop,))
    thread.start()
    try:
        _wait(lambda: len(landed(world, zone)) >= 10)
        world.put(puts(10, 20))
        _wait(lambda: len(landed(world, zone)) >= 20)
        world.put(puts(20, 24))
        _wait(lambda: sum(state.records for state in follower.states().values()) >= 24)
    finally:
        stop.set()
        thread.join(WITHIN_SECONDS)
    assert not thread.is_alive()
    assert landed(world, zone) == wanted(0, 24)
    _wait(lambda: {one for one in set(threading.enumerate()) - before if not one.daemon} == set())


def _wait(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + WITHIN_SECONDS
    while not is_so():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.05)


def test_a_start_at_the_newest_is_remembered(world: StreamWorld, zone: LocalLanding) -> None:
    """What was there isn't landed; what comes is, though nothing had come when the first drain ended."""
    world.put(puts(0, 12))
    pause = 1.1 if world.kind in SLOW_CLOCKS else 0
    time.sleep(pause)
    assert to_now(world, zone, begin="latest").records == 0
    time.sleep(pause)
    world.put(puts(12, 24))
    to_now(world, zone, begin="latest")
    found = landed(world, zone)
    assert found[-12:] == wanted(12, 24)
    # DynamoDB Local tells moments to the minute: what it may have been told in that one is landed too.
    assert len(found) == 12 or world.kind == "dynamodb local"


def test_a_replay_brings_back_what_is_missing_into_the_same_names(
    world: StreamWorld, zone: LocalLanding, tmp_path: Path
) -> None:
    """From the stream, by time: what is there stays, what is gone comes back under the name it had."""
    began = datetime.now(UTC) - timedelta(minutes=1)
    world.put(puts(0, 30))
    to_now(world, zone, segment_bytes=32)
    there = {one.key: zone.read(one) for one in zone.list() if one.key.endswith(".parquet")}
    lost = sorted(there)[:: max(1, len(there) // 3)]
    for key in lost:
        (tmp_path / "landing" / key).unlink()
    until = datetime.now(UTC) + timedelta(seconds=1)
    draining.drain(world.declared(segment_bytes=32), zone, world.reader()).replay(began, until)
    assert landed(world, zone) == wanted(0, 30)
    spans = {one.key for one in zone.list() if one.key.endswith(".parquet")}
    assert {key for key in there if key not in lost} <= spans


def test_what_was_forgotten_is_told_and_recorded_once(forgetting: Forgetting, zone: LocalLanding) -> None:
    """A gap has its range and a note in the landing zone; what came after it has landed; the next drain is calm."""
    world = forgetting
    world.put(puts(0, 12))
    to_now(world, zone)
    world.put(puts(12, 24))
    world.forget()
    world.put(puts(24, 36))
    drained = to_now(world, zone)
    assert drained.gaps
    assert draining.gap_keys(zone)
    assert landed(world, zone) == wanted(0, 12) + wanted(24, 36)
    assert to_now(world, zone).gaps == []


def test_more_shards_lose_nothing_and_keep_the_order_of_keys(splitting: Splitting, zone: LocalLanding) -> None:
    """Records before, between and after two splits."""
    world = splitting
    world.put(puts(0, 24))
    to_now(world, zone)
    world.split()
    world.put(puts(24, 48))
    world.split()
    world.put(puts(48, 72))
    to_now(world, zone)
    to_now(world, zone)
    assert landed(world, zone) == wanted(0, 72)
    assert_order_of_keys(world, zone)


def test_a_reader_that_is_closed_early_ends(world: StreamWorld) -> None:
    """Its threads are gone soon after, whatever they were doing."""
    before = set(threading.enumerate())
    world.put(puts(0, 30))
    stream = world.declared()
    where = Drain(LandedStream(stream, Nothing(), draining.ZONE), world.reader())._where
    events = world.reader().read(where, until=None)
    for event in events:
        if isinstance(event, Arrived):
            break
    events.close()  # type: ignore[attr-defined]  # it is a generator
    _wait(lambda: {one for one in set(threading.enumerate()) - before if not one.daemon} == set())


class Nothing(LocalLanding):
    """A landing zone in which nothing has ever landed."""

    def __init__(self) -> None:
        super().__init__(Path("/nonexistent"))

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[LandedObject]:
        """Nothing."""
        return iter(())


def test_names_of_all_that_landed_can_be_read(world: StreamWorld, zone: LocalLanding) -> None:
    """Every object below the stream's root has a name that tells what it is."""
    world.put(puts(0, 12))
    to_now(world, zone)
    assert all(LandedName.parse(one.key) is not None for one in zone.list())
