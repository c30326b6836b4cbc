"""Reading Kinesis: every record once and in order, whatever the server does; on moto behind a layer of faults."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, NoReturn

import pytest
from botocore.exceptions import ClientError, EventStreamError

from ingestion_platform.aws import Waits
from ingestion_platform.errors import SourceError, SourceUnavailable
from ingestion_platform.sources import kinesis, kinesis_records, turns
from ingestion_platform.sources.kinesis import KinesisReader, Pace
from ingestion_platform.sources.kinesis_client import new_client
from ingestion_platform.sources.kpl import Part, put_together
from ingestion_platform.sources.reading import (
    After,
    Arrived,
    Began,
    Behind,
    CaughtUp,
    Ended,
    Event,
    From,
    Gone,
    Idle,
    Latest,
    Oldest,
    Settle,
    Shard,
    Start,
    Throttled,
)
from ingestion_platform.stream import Kinesis, Span, Stream
from ingestion_platform_tests.sources.draining import (
    UntilEnded,
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
from ingestion_platform_tests.sources.kinesis_worlds import FAST, PATIENT, MotoWorld, numbered, puts
from ingestion_platform_tests.sources.world import Put


def read(reader: KinesisReader, where: Callable[[Shard], Start] = oldest, **named: Any) -> list[Event]:
    """Everything up to now."""
    return list(reader.read(where, until=named.pop("until", datetime.now(UTC)), **named))


def read_values(events: Sequence[Event]) -> list[bytes]:
    """The values that came, in order."""
    return [
        value
        for event in events
        if isinstance(event, Arrived)
        for value in event.records.column("value").to_pylist()
        if value is not None
    ]


def kinds(events: Sequence[Event], kind: type) -> list[Any]:
    """Events of one kind."""
    return [event for event in events if isinstance(event, kind)]


def started(starts: dict[str, Start]) -> Callable[[Shard], Start]:
    """Where to begin, by shard."""
    return lambda shard: starts.get(shard.id, Oldest())


# --- all of it, once, in order


def test_every_shard_is_read_to_now(moto_world: MotoWorld) -> None:
    """All records come, each with its key, position and arrival; each shard says that it is caught up."""
    moto_world.put(puts(0, 50))
    until = datetime.now(UTC)
    events = read(moto_world.reader(), until=until)
    assert sorted(read_values(events)) == numbered(0, 50)
    assert {event.shard for event in kinds(events, CaughtUp)} == {"shardId-000000000000", "shardId-000000000001"}
    assert {event.as_of for event in kinds(events, CaughtUp)} == {until}
    assert {event.seconds for event in kinds(events, Behind)} == {0.0}
    for event in kinds(events, Arrived):
        rows = event.records.to_pylist()
        assert [int(row["position"]) for row in rows] == list(range(event.first, event.last + 1))
        assert all(row["key"] == f"k{int(row['value']) % 8}".encode() for row in rows)
        assert all(abs(row["arrived_at"] - until) < timedelta(minutes=1) for row in rows)


def test_reading_goes_on_after_a_position(moto_world: MotoWorld) -> None:
    """After a position comes the first record behind it."""
    moto_world.put(puts(0, 50))
    last = {event.shard: After(event.last) for event in kinds(read(moto_world.reader()), Arrived)}
    moto_world.put(puts(50, 60))
    assert sorted(read_values(read(moto_world.reader(), started(dict(last))))) == numbered(50, 60)


def test_a_start_at_a_moment_gives_what_arrived_from_then_on(moto_world: MotoWorld) -> None:
    """The server is asked by the second; what arrived in that second, but before the moment, is left out."""
    moto_world.put(puts(0, 20))
    moment = datetime.now(UTC) + timedelta(milliseconds=2)
    time.sleep(0.005)
    moto_world.put(puts(20, 30))
    assert sorted(read_values(read(moto_world.reader(), lambda _: From(moment)))) == numbered(20, 30)


def test_a_start_at_latest_is_told_so_that_it_is_remembered(moto_world: MotoWorld) -> None:
    """Nothing of what was there comes; from the moment told on, everything does."""
    moto_world.put(puts(0, 20))
    events = read(moto_world.reader(), lambda _: Latest())
    began = {event.shard: event.at for event in kinds(events, Began)}
    assert read_values(events) == []
    assert len(began) == 2
    moto_world.put(puts(20, 30))
    after = read(moto_world.reader(), lambda shard: From(began[shard.id]))
    assert sorted(read_values(after)) == numbered(20, 30)


def test_what_arrives_after_the_end_of_a_replay_is_left_out(moto_world: MotoWorld) -> None:
    """A replay of the past ends where it is told to."""
    moto_world.put(puts(0, 20))
    until = datetime.now(UTC) + timedelta(milliseconds=2)
    time.sleep(0.005)
    moto_world.put(puts(20, 40))
    reader = moto_world.reader(clock=lambda: datetime.now(UTC) + timedelta(hours=1))
    events = read(reader, until=until)
    assert sorted(read_values(events)) == numbered(0, 20)
    assert len(kinds(events, CaughtUp)) == 2


def test_only_the_shards_asked_for_are_read(moto_world: MotoWorld) -> None:
    """Others aren't touched."""
    moto_world.put(puts(0, 50))
    events = read(moto_world.reader(), shards=["shardId-000000000001"])
    assert {event.shard for event in events if not isinstance(event, Idle | Settle)} == {"shardId-000000000001"}


def test_a_stream_is_named_by_its_arn_too(moto_world: MotoWorld) -> None:
    """Streams of other accounts can't be named otherwise."""
    moto_world.put(puts(0, 10))
    arn = f"arn:aws:kinesis:us-east-1:123456789012:stream/{moto_world.stream}"
    reader = KinesisReader(Kinesis(stream=arn), client=moto_world.reader()._client, pace=FAST, waits=PATIENT)
    assert sorted(read_values(read(reader))) == numbered(0, 10)


def test_following_gives_what_comes_and_ends_when_it_is_closed(moto_world: MotoWorld) -> None:
    """Records come while it is followed; a shard in which nothing comes says so; no thread is left behind."""
    before = threading.active_count()
    events = moto_world.reader().read(oldest, until=None)
    seen: list[bytes] = []
    moto_world.put(puts(0, 10))
    for event in events:
        seen += read_values([event])
        if len(seen) == 10:
            break
    moto_world.put(puts(10, 20))
    for event in events:
        seen += read_values([event])
        if len(seen) == 20:
            break
    assert sorted(seen) == numbered(0, 20)
    assert next(event for event in events if isinstance(event, CaughtUp))
    events.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 10
    while any(
        thread.name.startswith("kinesis-") and thread.name != "kinesis-server" for thread in threading.enumerate()
    ):
        assert time.monotonic() < deadline, "a thread of the reader is still there"
        time.sleep(0.01)
    assert threading.active_count() <= before + 5


def test_more_shards_than_threads_take_turns(moto_kinesis: tuple[str, Faults], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten shards are followed by two threads, and none of them is forgotten."""
    monkeypatch.setattr(kinesis, "THREADS", 2)
    moto_world = MotoWorld(*moto_kinesis, shards=10)
    moto_world.put(puts(0, 200, keys=100))
    seen: list[bytes] = []
    events = moto_world.reader().read(oldest, until=None)
    more = iter([puts(200, 300, keys=100), puts(300, 400, keys=100)])
    for event in events:
        seen += read_values([event])
        if len(seen) in (200, 300):
            moto_world.put(next(more, []))
        if len(seen) == 400:
            break
    events.close()  # type: ignore[attr-defined]
    assert sorted(seen) == numbered(0, 400)


def test_what_is_read_ahead_is_bounded(moto_world: MotoWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nobody takes what was read, reading stops; all of it comes in the end."""
    monkeypatch.setattr(kinesis, "HELD_BYTES", 1000)
    monkeypatch.setattr(kinesis, "READ_RECORDS", 10)
    monkeypatch.setattr(kinesis_records, "BATCH_BYTES", 500)
    moto_world.put(puts(0, 400))
    events = moto_world.reader().read(oldest, until=datetime.now(UTC))
    first = next(event for event in events if isinstance(event, Arrived))
    moto_world.faults.clear()
    settled = -1
    while settled != len(moto_world.faults.requests):
        settled = len(moto_world.faults.requests)
        time.sleep(0.2)
    assert settled < 20
    assert sorted(read_values([first, *events])) == numbered(0, 400)


def test_reads_of_a_shard_keep_to_the_limits_of_kinesis(moto_world: MotoWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five reads a second are allowed; at the reader's own pace the server never has to say so."""
    monkeypatch.setattr(kinesis, "READ_RECORDS", 10)
    moto_world.put(puts(0, 60))
    moto_world.faults.limit_reads(5)
    moto_world.pace = Pace()
    events = read(moto_world.reader())
    assert sorted(read_values(events)) == numbered(0, 60)
    assert kinds(events, Throttled) == []


class Hurried(threading.Condition):
    """A condition on which nobody sleeps until a moment: the clock is put forward to it. Who waits for another thread, waits."""

    shown: ClassVar[list[float]] = []

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for another thread, or put the clock forward."""
        if timeout is None:
            return super().wait()
        self.shown[0] += timeout
        return False

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Wait for another thread."""
        while not predicate():
            super().wait()
        return True


@pytest.mark.parametrize(
    "sizes",
    [[100] * 30, [5 * 1024**2] * 6, [10 * 1024**2, 100, 100, 1024**2, 100, 3 * 1024**2, 100]],
    ids=["small", "large", "mixed"],
)
def test_a_shard_is_asked_neither_too_often_nor_for_too_much(sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """At most five reads a second, and 2 MiB a second on average, whatever the answers hold; and no slower than that needs."""
    now = datetime.now(UTC)
    client = Polled({"a": [(100 + number, now) for number in range(len(sizes))]}, [shard_of("a", 99)])
    asked_at: list[float] = []
    answered = client.get_records
    clock = [1000.0]

    def get_records(**named: Any) -> dict[str, Any]:
        answer = answered(**named)
        for record in answer["Records"]:
            record["Data"] = bytes(sizes[len(asked_at)])
            # As long as there are more, it is behind.
            answer["MillisBehindLatest"] = int(len(asked_at) + 1 < len(sizes))
        asked_at.append(clock[0])
        return answer

    monkeypatch.setattr(Hurried, "shown", clock)
    monkeypatch.setattr(client, "get_records", get_records)
    for module in (kinesis, turns):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(turns, "threading", SimpleNamespace(**vars(threading) | {"Condition": Hurried}))
    reader = KinesisReader(Kinesis(stream="pos"), client=client, pace=Pace(), waits=PATIENT)  # type: ignore[arg-type]
    assert sum(event.size_bytes for event in kinds(read(reader, until=now), Arrived)) >= sum(sizes)
    pauses = [after - before for before, after in pairwise(asked_at)]
    # What came last is waited for only where it is asked again.
    assert len(pauses) >= len(sizes) - 1
    for pause, size in zip(pauses, sizes, strict=False):
        assert pause == pytest.approx(max(0.25, size / (2 * 1024**2)))
    assert min(pauses) >= 0.2


# --- aggregated records


def test_aggregated_records_are_taken_apart(moto_world: MotoWorld) -> None:
    """Parts share their position and are numbered; each has its own key; a record that only looks like one is kept whole."""
    whole = put_together([Part(b"a", b"1"), Part(b"b", b"2", b"99", ((b"tag", b"x"),)), Part(b"a", b"3")])
    poison = whole[:-1] + bytes([whole[-1] ^ 1])
    moto_world.put([Put("k0", b"before"), Put("k0", whole), Put("k0", poison), Put("k0", b"after")])
    (event,) = kinds(read(moto_world.reader()), Arrived)
    rows = event.records.to_pylist()
    assert [(row["part"], row["key"], row["value"]) for row in rows] == [
        (None, b"k0", b"before"),
        (0, b"a", b"1"),
        (1, b"b", b"2"),
        (2, b"a", b"3"),
        (None, b"k0", poison),
        (None, b"k0", b"after"),
    ]
    assert [row["position"] for row in rows] == ["1", "2", "2", "2", "3", "4"]
    assert [row["headers"] for row in rows][2] == [
        {"name": "tag", "value": b"x"},
        {"name": "explicit_hash_key", "value": b"99"},
    ]


def test_parts_of_one_record_stay_together(
    moto_world: MotoWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """However small batches and segments are, none begins in the middle of an aggregated record."""
    monkeypatch.setattr(kinesis_records, "BATCH_BYTES", 200)
    for number in range(10):
        parts = [Part(b"k0", f"{number}.{part}".encode()) for part in range(7)]
        moto_world.put([Put("k0", put_together(parts))])
    zone = landing_in(tmp_path / "landing")
    drain(moto_world.declared(segment_bytes=100), zone, moto_world.reader()).to_now()
    assert [value for *_, value in records(zone)] == [f"{a}.{b}".encode() for a in range(10) for b in range(7)]
    ends = [(name.span.first, name.span.last) for name, _ in tables(zone) if name.span]
    assert len(ends) > 3
    assert all(one[1] < other[0] for one, other in pairwise(ends))


# --- what goes wrong


@pytest.mark.parametrize(
    "harm",
    [
        lambda faults: faults.throttle(3),
        lambda faults: faults.throttle(2, operation="GetShardIterator"),
        lambda faults: faults.refuse(400, "LimitExceededException", 2, operation="ListShards"),
        lambda faults: faults.refuse(500, "InternalFailure", 3, operation="GetRecords"),
        lambda faults: faults.refuse(503, "ServiceUnavailable", 2, operation="DescribeStreamSummary"),
        lambda faults: faults.refuse(400, "KMSThrottlingException", 2, operation="GetRecords"),
        lambda faults: faults.cut(3, operation="GetRecords"),
        lambda faults: faults.cut(3, operation="GetRecords", is_done=True),
        lambda faults: faults.expire_iterators(3),
    ],
    ids=["throttled", "iterators", "listing", "500", "503", "kms", "cut", "cut after", "expired"],
)
def test_what_passes_is_waited_out(moto_world: MotoWorld, harm: Callable[[Faults], None]) -> None:
    """Throttling, errors of the server, cut connections, iterators that expired: everything comes, once and in order."""
    moto_world.put(puts(0, 30))
    harm(moto_world.faults)
    events = read(moto_world.reader())
    assert sorted(read_values(events)) == numbered(0, 30)
    for event in kinds(events, Arrived):
        assert [int(one) for one in event.records.column("position").to_pylist()] == list(
            range(event.first, event.last + 1)
        )


def test_waits_are_told(moto_world: MotoWorld) -> None:
    """Which shard, why, and for how long."""
    moto_world.put(puts(0, 30))
    moto_world.faults.throttle(4)
    told = kinds(read(moto_world.reader()), Throttled)
    assert len(told) == 4
    assert {event.why for event in told} == {"400 ProvisionedThroughputExceededException"}
    assert all(0 <= event.waited_seconds <= PATIENT.longest_seconds for event in told)


def test_an_iterator_that_expires_goes_on_after_the_last_record(
    moto_world: MotoWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new one is taken behind what was given, not where the old one began."""
    monkeypatch.setattr(kinesis, "READ_RECORDS", 5)
    moto_world.put(puts(0, 60))
    seen: list[bytes] = []
    for event in moto_world.reader().read(oldest, until=datetime.now(UTC)):
        if isinstance(event, Arrived):
            seen += read_values([event])
            moto_world.faults.expire_iterators(1)
    assert sorted(seen) == numbered(0, 60)


def test_a_server_that_stays_away_is_given_up(moto_world: MotoWorld) -> None:
    """After every attempt it is an error that says that trying again later may help."""
    moto_world.faults.refuse(503, "ServiceUnavailable", None, operation="GetRecords")
    with pytest.raises(SourceUnavailable, match="after 3 attempts; the last: 503 ServiceUnavailable"):
        read(moto_world.reader(waits=Waits(attempts=3, first_seconds=0.01)))
    moto_world.faults.clear()
    moto_world.faults.cut(None)
    with pytest.raises(SourceUnavailable, match="listing shards"):
        read(moto_world.reader(waits=Waits(attempts=3, first_seconds=0.01)))


@pytest.mark.parametrize(
    ("code", "operation", "hint"),
    [
        ("AccessDeniedException", "GetRecords", "allow kinesis:"),
        ("AccessDeniedException", "DescribeStreamSummary", "allow kinesis:"),
        ("KMSAccessDeniedException", "GetRecords", "kms:Decrypt"),
        ("KMSDisabledException", "GetRecords", "kms:Decrypt"),
        ("UnrecognizedClientException", "ListShards", "AWS_ACCESS_KEY_ID"),
        ("ExpiredTokenException", "GetShardIterator", "credentials"),
    ],
)
def test_what_does_not_pass_is_told_with_a_hint(moto_world: MotoWorld, code: str, operation: str, hint: str) -> None:
    """Asking again wouldn't help, so it isn't asked again."""
    moto_world.faults.refuse(400, code, None, operation=operation)
    with pytest.raises(SourceError, match=code) as told:
        read(moto_world.reader())
    assert not told.value.can_retry
    assert hint in told.value.hint


def test_a_stream_that_is_not_there_is_told(moto_world: MotoWorld) -> None:
    """With its name, and what to check."""
    reader = KinesisReader(Kinesis(stream="nowhere"), client=moto_world.reader()._client, pace=FAST, waits=PATIENT)
    with pytest.raises(SourceError, match="nowhere") as told:
        read(reader)
    assert "AWS_REGION" in told.value.hint


def test_a_client_without_a_region_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """boto3's own complaint, with the variable that mends it; an endpoint with a password in it isn't shown."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(SourceError, match="region"):
        new_client()
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    for url in ("http://me:secret@127.0.0.1:1", "http://me:secret@a_b c"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(SourceError) as told:
            new_client()
        assert "secret" not in str(told.value)


def test_an_error_of_where_comes_out(moto_world: MotoWorld) -> None:
    """What goes wrong in a thread is raised where records are taken."""

    def fails(_: Shard) -> Start:
        raise SourceError("no landing zone")

    with pytest.raises(SourceError, match="no landing zone"):
        read(moto_world.reader(), fails)


def test_a_stream_that_is_being_made_is_waited_for(moto_world: MotoWorld) -> None:
    """It is empty until it is there."""
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.kinesis.models import kinesis_backends

    stream = kinesis_backends[DEFAULT_ACCOUNT_ID]["us-east-1"].streams[moto_world.stream]
    moto_world.put(puts(0, 10))
    stream.status = "CREATING"
    threading.Timer(0.3, lambda: setattr(stream, "status", "ACTIVE")).start()
    assert sorted(read_values(read(moto_world.reader()))) == numbered(0, 10)


def test_a_closed_shard_that_never_says_so_ends(moto_world: MotoWorld) -> None:
    """Moto goes on giving iterators of a closed shard; its end is known, so it is at its end when nothing comes."""
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.kinesis.models import kinesis_backends

    moto_world.put(puts(0, 20))
    stream = kinesis_backends[DEFAULT_ACCOUNT_ID]["us-east-1"].streams[moto_world.stream]
    stream.shards["shardId-000000000000"].is_open = False
    events = read(moto_world.reader())
    assert [event.shard for event in kinds(events, Ended)] == ["shardId-000000000000"]
    assert sorted(read_values(events)) == numbered(0, 20)


# --- what is gone


def later() -> datetime:
    """A clock that goes three weeks fast."""
    return datetime.now(UTC) + timedelta(days=21)


def test_records_past_retention_are_told_before_the_next(moto_world: MotoWorld) -> None:
    """The last record that landed isn't there any more, and neither is what came after it."""
    moto_world.put([Put("k0", b"a"), Put("k0", b"b"), Put("k0", b"lost"), Put("k0", b"lost too")])
    shard = kinds(read(moto_world.reader()), Arrived)[0].shard
    moto_world.forget()
    moto_world.put([Put("k0", b"c")])
    events = [
        event for event in read(moto_world.reader(), started({shard: After(2)})) if isinstance(event, (Gone, Arrived))
    ]
    assert isinstance(events[0], Gone)
    assert (events[0].shard, events[0].span) == (shard, Span(3, 4))
    assert "24 h" in events[0].why
    assert read_values(events) == [b"c"]


def test_a_record_that_is_still_there_proves_that_nothing_is_gone(moto_world: MotoWorld) -> None:
    """However long ago the stream was last read: no alarm, and the record itself doesn't come again."""
    moto_world.put([Put("k0", b"a"), Put("k0", b"b"), Put("k0", b"c")])
    shard = kinds(read(moto_world.reader()), Arrived)[0].shard
    old = datetime.now(UTC) - timedelta(days=3)
    for start in (After(2), After(2, old)):
        events = read(moto_world.reader(clock=later), started({shard: start}), until=later())
        assert kinds(events, Gone) == []
        assert read_values(events) == [b"c"]


def test_an_idle_shard_raises_no_alarm(moto_world: MotoWorld) -> None:
    """Its last record is past retention; but a mark says that lately nothing had come after it."""
    moto_world.put([Put("k0", b"a"), Put("k0", b"b")])
    shard = kinds(read(moto_world.reader()), Arrived)[0].shard
    moto_world.forget()
    lately = datetime.now(UTC) - timedelta(hours=20)
    assert kinds(read(moto_world.reader(), started({shard: After(2, lately)})), Gone) == []
    moto_world.put([Put("k0", b"c")])
    events = read(moto_world.reader(), started({shard: After(2, lately)}))
    assert kinds(events, Gone) == []
    assert read_values(events) == [b"c"]


def test_a_shard_that_was_left_alone_for_too_long_is_told_at_once(moto_world: MotoWorld) -> None:
    """Nothing is there, and nobody looked for longer than the retention: something may be gone, nobody knows how much."""
    moto_world.put([Put("k0", b"a"), Put("k0", b"b")])
    shard = kinds(read(moto_world.reader()), Arrived)[0].shard
    moto_world.forget()
    events = read(moto_world.reader(), started({shard: After(2, datetime.now(UTC) - timedelta(days=2))}))
    (gone,) = kinds(events, Gone)
    assert (gone.shard, gone.span) == (shard, Span(3, 2))


def test_a_start_that_was_remembered_for_too_long_is_told(moto_world: MotoWorld) -> None:
    """Begun at a moment, killed, and left alone for longer than the retention: what came meanwhile may be gone."""
    moto_world.put([Put("k0", b"a"), Put("k0", b"b")])
    shard = kinds(read(moto_world.reader()), Arrived)[0].shard
    old = datetime.now(UTC) - timedelta(days=2)
    moto_world.client.increase_stream_retention_period(StreamName=moto_world.stream, RetentionPeriodHours=72)
    moto_world.forget()
    assert kinds(read(moto_world.reader(), started({shard: From(old, is_remembered=True)})), Gone) == []
    moto_world.client.decrease_stream_retention_period(StreamName=moto_world.stream, RetentionPeriodHours=24)
    events = read(moto_world.reader(), started({shard: From(old, is_remembered=True)}))
    assert [(event.shard, event.span) for event in kinds(events, Gone)] == [(shard, Span(2, 1))]
    # A declared beginning is no promise.
    assert kinds(read(moto_world.reader(), started({shard: From(old)})), Gone) == []


def test_a_shard_that_gives_nothing_is_remembered_anew(moto_world: MotoWorld, tmp_path: Path) -> None:
    """Begun at the latest record, drained for days without one: no alarm, and what comes at last lands."""
    zone = landing_in(tmp_path / "landing")
    stream = moto_world.declared(begin="latest")
    moto_world.forget()
    for hours in (40, 30, 20, 10, 0):
        earlier = partial(moment_ago, timedelta(hours=hours))
        drained = drain(stream, zone, moto_world.reader(clock=earlier), clock=earlier).to_now()
        assert (drained.gaps, drained.records, drained.is_caught_up) == ([], 0, True)
    moto_world.put([Put("k0", b"a")])
    assert drain(stream, zone, moto_world.reader()).to_now().gaps == []
    assert values(zone) == [b"a"]


def moment_ago(duration: timedelta) -> datetime:
    """A clock that goes slow."""
    return datetime.now(UTC) - duration


def test_a_gap_is_noted_once_and_reading_goes_on_behind_it(moto_world: MotoWorld, tmp_path: Path) -> None:
    """Through the drain: the note names what is gone, the records behind it land, and the next drain is silent."""
    zone = landing_in(tmp_path / "landing")
    moto_world.put([Put("k0", b"a"), Put("k0", b"b")])
    drain(moto_world.declared(), zone, moto_world.reader()).to_now()
    moto_world.put([Put("k0", b"lost"), Put("k0", b"lost too")])
    moto_world.forget()
    moto_world.put([Put("k0", b"c")])
    drained = drain(moto_world.declared(), zone, moto_world.reader(clock=later)).to_now()
    assert [span for _, span, _ in drained.gaps] == [Span(3, 4)]
    assert len(gap_keys(zone)) == 1
    assert values(zone) == [b"a", b"b", b"c"]
    assert drain(moto_world.declared(), zone, moto_world.reader()).to_now().gaps == []


def test_reading_that_is_slower_than_forgetting_is_told(moto_world: MotoWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that go while they wait to be read are noticed, not skipped."""
    monkeypatch.setattr(kinesis, "READ_RECORDS", 10)
    moto_world.put([Put("k0", b"%d" % number) for number in range(40)])
    moment = [datetime.now(UTC)]
    found: list[Event] = []
    moto_world.slowly(read_seconds=0.3)
    for event in moto_world.reader(clock=lambda: moment[0]).read(oldest, until=None):
        if isinstance(event, (Arrived, Gone)):
            found.append(event)
            if len(found) == 1:
                moto_world.forget()
                moment[0] += timedelta(days=40)
                moto_world.put([Put("k0", b"next")])
            if read_values([event])[-1:] == [b"next"]:
                break
    assert [type(event) for event in found] == [Arrived, Gone, Arrived]
    assert found[1] == Gone(found[0].shard, Span(11, 40), found[1].why)  # type: ignore[union-attr]


class Polled:
    """A client of Kinesis whose answers are as small as they may be, and whose records are as old as they are told to be."""

    def __init__(self, shards: dict[str, list[tuple[int, datetime]]], listed: list[dict[str, Any]]) -> None:
        self.shards = shards
        self.listed = listed
        self.asked: list[tuple[str, str]] = []
        self.on_read: Callable[[], object] = lambda: None

    describe_stream_summary = property(lambda self: FanOut({}, []).describe_stream_summary)

    def list_shards(self, **_: Any) -> dict[str, Any]:
        """The shards, as they were declared."""
        return {"Shards": self.listed}

    def get_shard_iterator(
        self, *, ShardId: str, ShardIteratorType: str, StartingSequenceNumber: str = "0", **more: Any
    ) -> dict[str, Any]:
        """By place among the records."""
        self.asked.append((ShardId, ShardIteratorType))
        number = int(StartingSequenceNumber)
        is_wanted: dict[str, Callable[[int, datetime], bool]] = {
            "TRIM_HORIZON": lambda *_: True,
            "LATEST": lambda *_: False,
            "AT_TIMESTAMP": lambda _, at: at >= more["Timestamp"],
            "AT_SEQUENCE_NUMBER": lambda one, _: one >= number,
            "AFTER_SEQUENCE_NUMBER": lambda one, _: one > number,
        }
        found = self.shards[ShardId]
        index = next((index for index, one in enumerate(found) if is_wanted[ShardIteratorType](*one)), len(found))
        return {"ShardIterator": f"{ShardId}|{index}"}

    def get_records(self, *, ShardIterator: str, **_: Any) -> dict[str, Any]:
        """One record."""
        self.on_read()
        shard, index = ShardIterator.split("|")
        found = self.shards[shard]
        some = found[int(index) : int(index) + 1]
        following = int(index) + len(some)
        (listed,) = [one for one in self.listed if one["ShardId"] == shard]
        is_over = following == len(found) and "EndingSequenceNumber" in listed["SequenceNumberRange"]
        behind = (datetime.now(UTC) - found[following][1]).total_seconds() if following < len(found) else 0
        records_ = [
            {
                "SequenceNumber": str(number),
                "Data": b"%d" % number,
                "PartitionKey": "k",
                "ApproximateArrivalTimestamp": at,
            }
            for number, at in some
        ]
        iterator = None if is_over else f"{shard}|{following}"
        return {"Records": records_, "MillisBehindLatest": int(behind * 1000), "NextShardIterator": iterator}


def polled(client: Polled, **named: Any) -> KinesisReader:
    """A reader of it."""
    return KinesisReader(Kinesis(stream="pos"), client=client, pace=FAST, waits=PATIENT, **named)  # type: ignore[arg-type]


def test_a_shard_that_ended_while_it_was_followed_is_not_called_gone(tmp_path: Path) -> None:
    """It is closed with its last records held; a day later they are past retention, and the shard is still listed: all of it landed."""
    zone = landing_in(tmp_path / "landing")
    now = datetime.now(UTC)
    client = Polled({"a": [(100, now), (101, now)]}, [shard_of("a", 99)])
    stream = Stream(name="pos", description="-", source=Kinesis(stream="pos"), first_day=date(2024, 1, 1))
    reads = count(1)

    def close() -> None:
        # Behind its last record, and before anybody has listed it as closed.
        if next(reads) == 3:
            client.listed[0]["SequenceNumberRange"]["EndingSequenceNumber"] = "150"

    client.on_read = close
    reader = UntilEnded(polled(client))
    drain(stream, zone, reader).follow(reader.stop)
    client.on_read = lambda: None
    assert values(zone) == [b"100", b"101"]
    client.shards["a"].clear()
    clock = partial(moment_ago, timedelta(hours=-25))
    assert drain(stream, zone, polled(client, clock=clock), clock=clock).to_now().gaps == []


def not_found(operation: str, code: str = "ResourceNotFoundException") -> ClientError:
    """What Kinesis says of something that isn't there, or whatever the code says."""
    return ClientError({"Error": {"Code": code, "Message": "no"}}, operation)


@pytest.mark.parametrize(
    ("listing", "raised"),
    [
        (not_found("ListShards", "AccessDeniedException"), SourceError),
        (ConnectionResetError(), SourceError),
        (KeyError("Shards"), KeyError),
    ],
    ids=["refused", "broken", "a mistake"],
)
def test_a_shard_that_is_not_found_is_told_when_the_others_cannot_be_listed(
    listing: Exception, raised: type[Exception]
) -> None:
    """What was asked for first counts, not why the listing that was to explain it failed; but a mistake of ours isn't passed over."""
    client = Polled({"a": [(100, datetime.now(UTC))]}, [shard_of("a", 99)])

    def vanish() -> None:
        client.list_shards = lambda **_: fail(listing)  # type: ignore[method-assign]
        fail(not_found("GetRecords"))

    client.on_read = vanish
    with pytest.raises(raised, match="ResourceNotFoundException" if raised is SourceError else "Shards"):
        read(polled(client))


def test_a_shard_that_vanished_while_it_was_read_has_ended() -> None:
    """It isn't listed any more: what it still had is gone, and the others go on."""
    old = datetime.now(UTC) - timedelta(hours=30)
    client = Polled({"a": [(100, old)], "b": [(200, old)]}, [shard_of("a", 99), shard_of("b", 199)])

    def vanish() -> None:
        if not client.shards["a"]:
            client.listed = [shard_of("b", 199)]
            fail(not_found("GetRecords"))

    client.shards["a"] = []
    client.on_read = vanish
    events = read(polled(client), started({"a": After(99, old)}), shards=["a"])
    assert [(event.shard, event.span) for event in kinds(events, Gone)] == [("a", Span(100, 99))]
    assert [event.shard for event in kinds(events, Ended)] == ["a"]


def fail(error: Exception) -> NoReturn:
    """Raise, where only an expression may stand."""
    raise error


@pytest.mark.parametrize("pause", [timedelta(0), timedelta(seconds=20)])
def test_records_at_the_edge_of_retention_are_read_on(pause: timedelta) -> None:
    """The first drain of an old stream begins there: one record an answer, with and without pauses, and every one comes."""
    moment = [datetime.now(UTC)]
    old = moment[0] - timedelta(hours=23, minutes=55)
    client = Polled({"a": [(100 + number, old) for number in range(5)]}, [shard_of("a", 99)])

    def on_read() -> None:
        moment[0] += pause
        # Twice for each record at most, and once to see that there are no more.
        assert len(client.asked) <= 10, "it asks for the same again and again"

    client.on_read = on_read
    events = read(polled(client, clock=lambda: moment[0]), until=moment[0])
    assert read_values(events) == [b"%d" % number for number in range(100, 105)]
    assert kinds(events, Gone) == []
    # A place is asked for again only after a pause.
    assert (len(client.asked) == 1) == (not pause)


@pytest.mark.parametrize(("hours", "is_told"), [(60, True), (22, False)])
def test_a_start_before_retention_is_told_in_the_log(
    caplog: pytest.LogCaptureFixture, hours: int, is_told: bool
) -> None:
    """Declared or replayed: it is no gap, because nothing of it was promised, but it doesn't pass for complete; once for all shards."""
    made = datetime.now(UTC) - timedelta(hours=20)
    client = Polled({"a": [(100, made)], "b": [(200, made)]}, [shard_of("a", 99), shard_of("b", 199)])
    moment = datetime.now(UTC) - timedelta(hours=hours)
    events = read(polled(client), lambda _: From(moment))
    assert sorted(read_values(events)) == [b"100", b"200"]
    assert kinds(events, Gone) == []
    told = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert len(told) == is_told
    assert all(f"{moment:%Y-%m-%d %H:%M} UTC" in one and "24 h" in one for one in told)


@pytest.mark.parametrize("is_closed_parent_empty", [True, False])
def test_latest_leaves_out_what_is_in_shards_that_were_split_before(
    is_closed_parent_empty: bool, tmp_path: Path
) -> None:
    """The children of a shard that nothing was wanted of begin at their newest records too; what comes after lands."""
    old = datetime.now(UTC) - timedelta(hours=5)
    listed = [shard_of("a", 99), shard_of("b", 200, "a"), shard_of("c", 200, "a")]
    listed[0]["SequenceNumberRange"]["EndingSequenceNumber"] = "150"
    shards = {"a": [] if is_closed_parent_empty else [(100, old)], "b": [(201, old), (202, old)], "c": [(203, old)]}
    client = Polled(shards, listed)
    zone = landing_in(tmp_path / "landing")
    stream = Stream(
        name="pos", description="-", source=Kinesis(stream="pos", begin="latest"), first_day=date(2024, 1, 1)
    )
    drained = drain(stream, zone, polled(client)).to_now()
    assert (drained.records, drained.gaps, drained.is_caught_up) == (0, [], True)
    assert client.asked == [(shard, "LATEST") for shard in "abc"] or client.asked == [
        (shard, "LATEST") for shard in "acb"
    ]
    client.shards["b"].append((204, datetime.now(UTC)))
    # One that was split after that is read whole.
    listed[2]["SequenceNumberRange"]["EndingSequenceNumber"] = "250"
    listed.append(shard_of("d", 300, "c"))
    client.shards["d"] = [(301, datetime.now(UTC))]
    assert drain(stream, zone, polled(client)).to_now().gaps == []
    assert sorted(values(zone)) == [b"204", b"301"]


# --- through the drain


def test_a_drain_that_is_ended_anywhere_goes_on(moto_world: MotoWorld, tmp_path: Path) -> None:
    """Bounded drains one after the other land everything once; each key's records in order."""
    zone = landing_in(tmp_path / "landing")
    moto_world.put(puts(0, 300))
    stream = moto_world.declared(segment_bytes=200, drain_bytes=1500)
    for number in range(20):
        moto_world.put(puts(300 + number * 5, 305 + number * 5))
        moto_world.faults.throttle(1)
        moto_world.faults.expire_iterators(1)
        drain(stream, zone, moto_world.reader()).to_now()
    drain(moto_world.declared(), zone, moto_world.reader()).to_now()
    assert values(zone) == numbered(0, 400)
    assert all(found == sorted(found) for found in by_key(zone).values())


# --- enhanced fan-out: no server knows it, so what AWS pushes is made up


class Pushed:
    """An event stream as botocore gives it."""

    def __init__(self, events: Sequence[dict[str, Any] | Exception]) -> None:
        self._events = events
        self.is_closed = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for event in self._events:
            if isinstance(event, Exception):
                raise event
            yield {"SubscribeToShardEvent": event}

    def close(self) -> None:
        """End the subscription."""
        self.is_closed = True


class FanOut:
    """A client of Kinesis that pushes what it is told to, one subscription after the other."""

    def __init__(self, subscriptions: dict[str, list[Pushed]], shards: list[dict[str, Any]]) -> None:
        self._subscriptions = subscriptions
        self._shards = shards
        self.places: list[tuple[str, dict[str, Any]]] = []

    def describe_stream_summary(self, **_: Any) -> dict[str, Any]:
        """A stream of a month ago."""
        created = datetime.now(UTC) - timedelta(days=30)
        return {
            "StreamDescriptionSummary": {
                "StreamStatus": "ACTIVE",
                "RetentionPeriodHours": 24,
                "StreamCreationTimestamp": created,
            }
        }

    def list_shards(self, **_: Any) -> dict[str, Any]:
        """The shards, as they were declared."""
        return {"Shards": self._shards}

    def subscribe_to_shard(self, *, ConsumerARN: str, ShardId: str, StartingPosition: dict[str, Any]) -> dict[str, Any]:
        """The next subscription."""
        assert ConsumerARN == CONSUMER
        self.places.append((ShardId, StartingPosition))
        return {"EventStream": self._subscriptions[ShardId].pop(0)}


CONSUMER = "arn:aws:kinesis:us-east-1:123456789012:stream/pos/consumer/platform:1"


def pushed(numbers: Sequence[int], continuation: str | None, *, behind: int = 0, **more: Any) -> dict[str, Any]:
    """One event of a subscription."""
    records_ = [
        {
            "SequenceNumber": str(number),
            "Data": b"%d" % number,
            "PartitionKey": "k",
            "ApproximateArrivalTimestamp": datetime.now(UTC),
        }
        for number in numbers
    ]
    return {"Records": records_, "ContinuationSequenceNumber": continuation, "MillisBehindLatest": behind, **more}


def shard_of(name: str, first: int, parent: str | None = None) -> dict[str, Any]:
    """A shard as ListShards gives it."""
    found: dict[str, Any] = {"ShardId": name, "SequenceNumberRange": {"StartingSequenceNumber": str(first)}}
    return found | ({"ParentShardId": parent} if parent else {})


def test_pushed_records_come_and_children_after_their_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A subscription that breaks or ends is renewed behind its continuation; a shard's end begins its children."""
    monkeypatch.setattr(kinesis, "RENEW_SECONDS", 0.01)
    broken = EventStreamError({"Error": {"Code": "InternalFailureException", "Message": "x"}}, "SubscribeToShard")
    streams = {
        "a": [
            Pushed([pushed([100, 101], "105", behind=500), broken]),
            Pushed([pushed([106], "107", behind=5)]),
            Pushed([pushed([108], None, ChildShards=[{"ShardId": "b"}])]),
        ],
        "b": [Pushed([pushed([], "205", behind=5), pushed([206], "206")])],
    }
    client = FanOut(streams, [shard_of("a", 99), shard_of("b", 200, "a")])
    reader = KinesisReader(
        Kinesis(stream="pos", consumer=CONSUMER),
        client=client,  # type: ignore[arg-type]
        pace=FAST,
        waits=PATIENT,
    )
    events = read(reader)
    assert read_values(events) == [b"100", b"101", b"106", b"108", b"206"]
    assert [event.shard for event in kinds(events, Ended)] == ["a"]
    assert [event.why for event in kinds(events, Throttled)] == ["InternalFailureException"]
    assert client.places == [
        ("a", {"Type": "TRIM_HORIZON"}),
        ("a", {"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": "105"}),
        ("a", {"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": "107"}),
        ("b", {"Type": "TRIM_HORIZON"}),
    ]


def test_a_gap_is_found_when_records_are_pushed_too() -> None:
    """The last record is asked for first; another one comes."""
    client = FanOut({"a": [Pushed([pushed([150], "150")])]}, [shard_of("a", 99)])
    reader = KinesisReader(Kinesis(stream="pos", consumer=CONSUMER), client=client, pace=FAST, waits=PATIENT)  # type: ignore[arg-type]
    events = read(reader, lambda _: After(120))
    assert client.places == [("a", {"Type": "AT_SEQUENCE_NUMBER", "SequenceNumber": "120"})]
    assert [event.span for event in kinds(events, Gone)] == [Span(121, 149)]
    assert read_values(events) == [b"150"]


def test_a_parent_that_went_unread_is_told() -> None:
    """Its records are past retention with it, and nothing has landed of its child: what it still had is gone."""
    client = FanOut({"b": [Pushed([pushed([200], "200")])]}, [shard_of("b", 199, "a")])
    reader = KinesisReader(Kinesis(stream="pos", consumer=CONSUMER), client=client, pace=FAST, waits=PATIENT)  # type: ignore[arg-type]
    events = read(reader, started({"a": After(120)}))
    assert [(event.shard, event.span) for event in kinds(events, Gone)] == [("a", Span(121, 120))]
    assert [event.shard for event in kinds(events, Ended)] == ["a"]
    assert read_values(events) == [b"200"]
