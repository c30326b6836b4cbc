"""Streams of DynamoDB tables: shards in the order of their lineage, what is gone told loudly, every error waited out or named."""

import base64
import itertools
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from boto3.dynamodb.types import TypeDeserializer
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion_platform.dataset import Changes, Daily, Dataset, Datasets
from ingestion_platform.errors import SourceError, SourceUnavailable
from ingestion_platform.formats.segments import ENVELOPE
from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.sources.drain import Drain, Drained
from ingestion_platform.sources.dynamodb_streams import DynamoDbStreamReader
from ingestion_platform.sources.landed import LandedStream
from ingestion_platform.sources.reading import (
    After,
    Arrived,
    Began,
    CaughtUp,
    Ended,
    Event,
    From,
    Gone,
    Idle,
    Latest,
    Oldest,
    Shard,
    Start,
    Throttled,
    Where,
)
from ingestion_platform.stream import DynamoDbChanges, DynamoDbStream, Span, Stream, StreamSegments
from ingestion_platform.table import TIMESTAMP, VARCHAR, Column, decimal
from ingestion_platform.warehouse import upkeep
from ingestion_platform_tests.sources.draining import ZONE, UntilEnded, oldest
from ingestion_platform_tests.sources.dynamodb_fake import ARN, FakeStreams
from ingestion_platform_tests.sources.dynamodb_worlds import (
    DynamoDbWorld,
    SessionAt,
    moto_dynamodb,
)
from ingestion_platform_tests.sources.world import Put, Splitting
from ingestion_platform_tests.warehouse.building import Bench

NOW = datetime.now(UTC)


@pytest.fixture
def fake() -> FakeStreams:
    """A stream without shards."""
    return FakeStreams()


def reader(fake: FakeStreams, **changes: Any) -> DynamoDbStreamReader:
    """A reader of the fake, in a hurry."""
    quick = {
        "threads": 3, "reads_per_second": 500.0, "list_seconds": 0.02, "first_wait_seconds": 0.001, "longest_wait_seconds": 0.01,
    }  # fmt: skip
    return DynamoDbStreamReader(DynamoDbStream(table="orders"), session=fake.session(), **{**quick, **changes})


def read(fake: FakeStreams, where: Where = oldest, *, until: datetime | None = None, **changes: Any) -> list[Event]:
    """Everything up to now, or another moment."""
    events = list(reader(fake, **changes).read(where, until=until or datetime.now(UTC)))
    return [event for event in events if not isinstance(event, Idle)]


def positions(events: Sequence[Event], shard: str = "") -> list[int]:
    """Sequence numbers of the records given, in the order given."""
    found = [event for event in events if isinstance(event, Arrived) and shard in ("", event.shard)]
    return [int(str(position)) for event in found for position in event.records.column("position").to_pylist()]


def follow(events: Iterator[Event], until: Callable[[Event], bool], seconds: float = 20.0) -> list[Event]:
    """Events of a stream that is followed, up to one."""
    found = []
    began = time.monotonic()
    for event in events:
        found.append(event)
        if until(event):
            return found
        assert time.monotonic() - began < seconds, "it doesn't come"
    raise AssertionError("it ended")


# --- what a reader gives


def test_records_come_in_order_with_position_key_and_moment(fake: FakeStreams) -> None:
    """As the envelope has them; the value is the service's own JSON."""
    fake.open("s1")
    made = datetime(2024, 10, 1, 6, 0, 7, tzinfo=UTC)
    (position,) = fake.put("s1", at=made, image={"id": {"S": "s1"}, "n": {"N": "1.50"}, "b": {"B": "AAH/"}})
    (event,) = [event for event in read(fake) if isinstance(event, Arrived)]
    assert event.records.schema == ENVELOPE
    (row,) = event.records.to_pylist()
    assert (row["position"], row["arrived_at"], row["key"]) == (str(position), made, b'{"id":{"S":"s1"}}')
    assert (event.first, event.last) == (position, position)
    assert json.loads(row["value"]) == fake.shards["s1"].records[0]
    assert b" " not in row["value"]


def test_an_end_is_told_once_a_shard(fake: FakeStreams) -> None:
    """Up to now: an open shard is caught up, a closed one has ended."""
    fake.open("closed")
    fake.open("open", "closed")
    fake.put("open")
    events = read(fake)
    assert [event.shard for event in events if isinstance(event, CaughtUp)] == ["closed", "open"]
    assert [event.shard for event in events if isinstance(event, Ended)] == ["closed"]


def test_parents_come_before_children(fake: FakeStreams) -> None:
    """However the stream lists them, and with more shards than threads."""
    fake.limit = 2
    for chain in "abc":
        fake.open(f"{chain}1")
        for number in range(1, 5):
            fake.put(f"{chain}{number}", number=5)
            fake.open(f"{chain}{number + 1}", f"{chain}{number}")
    events = read(fake)
    for chain in "abc":
        order = [event.shard for event in events if isinstance(event, Arrived) and event.shard.startswith(chain)]
        assert [shard for shard, _ in itertools.groupby(order)] == [f"{chain}{number}" for number in range(1, 5)]
    assert sorted(positions(events)) == sorted(
        int(one["dynamodb"]["SequenceNumber"]) for shard in fake.shards.values() for one in shard.records
    )


def test_parents_come_first_after_a_restart_too(fake: FakeStreams) -> None:
    """A shard that has landed in part is read to its end before the one that goes on in its place."""
    fake.open("parent")
    first, second = fake.put("parent", number=2)
    fake.open("child", "parent")
    fake.put("child")
    where = {"parent": After(first)}
    events = read(fake, lambda shard: where.get(shard.id, Oldest()))
    assert positions(events)[0] == second
    told = [event for event in events if isinstance(event, Arrived | Ended)]
    assert [event.shard for event in told] == ["parent", "parent", "child"]


def test_a_shard_that_landed_to_its_end_is_not_asked_for(fake: FakeStreams) -> None:
    """A day's closed shards cost a drain nothing."""
    fake.open("parent")
    last = fake.put("parent", number=3)[-1]
    fake.open("child", "parent")
    fake.shards["parent"].ending = last
    events = read(fake, lambda shard: After(last) if shard.id == "parent" else Oldest())
    assert [event for event in events if isinstance(event, Ended)] == [Ended("parent")]
    assert not fake.asked("GetShardIterator", "parent")
    assert fake.asked("GetShardIterator", "child")


def test_shards_that_appear_are_found_while_the_stream_is_followed(fake: FakeStreams) -> None:
    """One that goes on in the place of another, and one more."""
    fake.open("a1")
    fake.put("a1")
    with closing(reader(fake).read(oldest, until=None)) as events:
        follow(events, lambda event: isinstance(event, Arrived))
        fake.open("a2", "a1")
        fake.put("a2")
        found = follow(events, lambda event: isinstance(event, Arrived) and event.shard == "a2")
        assert Ended("a1") in found
        fake.open("b1")
        fake.put("b1")
        follow(events, lambda event: isinstance(event, Arrived) and event.shard == "b1")


def test_up_to_now_takes_in_what_goes_on_in_a_shard_that_closes_meanwhile(fake: FakeStreams) -> None:
    """A shard that was open when shards were listed, and has ended since, is followed into the next."""
    fake.open("a1")
    fake.put("a1")

    def split(name: str, request: dict[str, Any]) -> None:
        if name == "GetRecords" and "a2" not in fake.shards:
            fake.lock.release()
            fake.open("a2", "a1")
            fake.put("a2", at=NOW)
            fake.lock.acquire()

    fake.fail = split
    assert {event.shard for event in read(fake) if isinstance(event, Arrived)} == {"a1", "a2"}


def test_only_the_shards_that_are_asked_for(fake: FakeStreams) -> None:
    """Others aren't touched."""
    for shard in ("a", "b"):
        fake.open(shard)
        fake.put(shard)
    events = list(reader(fake).read(oldest, until=datetime.now(UTC), shards=["b"]))
    assert {event.shard for event in events if isinstance(event, Arrived)} == {"b"}


@pytest.mark.parametrize(("empty", "is_closed"), [(2, False), (20, False), (20, True), (100, True)])
def test_an_empty_answer_is_not_the_end(fake: FakeStreams, empty: int, is_closed: bool) -> None:
    """The service may take many requests to come to where records are; a closed shard is read until it says that it has ended."""
    fake.open("s1")
    made = fake.put("s1", number=2)
    if is_closed:
        fake.open("s2", "s1")
    hidden = iter(range(empty))
    answer = fake._GetRecords

    def slowly(parameters: dict[str, Any], iterator: dict[str, Any]) -> object:
        if iterator["shard"] == "s1" and next(hidden, None) is not None:
            return {"Records": [], "NextShardIterator": json.dumps(iterator)}
        return answer(parameters, iterator)

    fake._GetRecords = slowly  # type: ignore[method-assign, assignment]
    events = read(fake)
    assert positions(events) == made
    told = [event for event in events if isinstance(event, Arrived | CaughtUp | Ended) and event.shard == "s1"]
    assert [type(event) for event in told] == [Arrived, CaughtUp, *([Ended] if is_closed else [])]


def test_what_comes_after_the_moment_is_left_for_the_next_time(fake: FakeStreams) -> None:
    """Up to a moment: nothing that was made then or later, and nothing left out before it."""
    fake.open("s1")
    made = fake.put("s1", at=NOW - timedelta(hours=2), number=2)
    fake.put("s1", at=NOW, number=2)
    events = read(fake, until=NOW - timedelta(hours=1))
    assert positions(events) == made
    assert [event for event in events if isinstance(event, CaughtUp)] == [CaughtUp("s1", NOW - timedelta(hours=1))]


def test_from_a_moment_on_older_records_are_left_out(fake: FakeStreams) -> None:
    """The stream knows no time: it is read whole."""
    fake.open("s1")
    fake.put("s1", at=NOW - timedelta(hours=2), number=5)
    made = fake.put("s1", at=NOW - timedelta(minutes=30), number=2)
    fake.limit = 2
    assert positions(read(fake, lambda _: From(NOW - timedelta(hours=1)))) == made


def test_a_stream_given_by_its_own_arn_is_read_alone(fake: FakeStreams) -> None:
    """No other stream of the table is."""
    fake.open("old", label="2024-10-01T00:00:00.000")
    fake.open("new", label="2024-10-02T00:00:00.000")
    made = fake.put("new")
    alone = reader(fake)
    alone.source = DynamoDbStream(table=ARN.format(label="2024-10-02T00:00:00.000"))
    assert positions(list(alone.read(oldest, until=datetime.now(UTC)))) == made
    assert not fake.asked("ListStreams")


def test_a_stream_that_was_enabled_again_is_read_after_the_former_one(fake: FakeStreams) -> None:
    """Both are, the former to its end first, though none of its shards says that it is closed."""
    fake.open("old", label="2024-10-01T00:00:00.000")
    first = fake.put("old", number=3)
    fake.open("new", label="2024-10-02T00:00:00.000")
    second = fake.put("new", number=3)
    fake.disabled.add(ARN.format(label="2024-10-01T00:00:00.000"))
    assert positions(read(fake)) == [*first, *second]
    with closing(reader(fake).read(oldest, until=None)) as events:
        follow(events, lambda event: isinstance(event, Arrived) and event.last == second[-1])


# --- where to begin


def test_latest_is_remembered_before_the_first_record(fake: FakeStreams) -> None:
    """Whatever is there when a stream is first seen is left out, in closed shards too; what comes after is not."""
    fake.open("a1")
    fake.put("a1")
    fake.open("a2", "a1")
    fake.put("a2")
    asked: list[Shard] = []

    def latest(shard: Shard) -> Start:
        asked.append(shard)
        return Oldest() if shard.parents else Latest()

    with closing(reader(fake).read(latest, until=None)) as events:
        found = follow(events, lambda event: isinstance(event, CaughtUp) and event.shard == "a2")
        assert not positions(found)
        assert [event.shard for event in found if isinstance(event, Began)] == ["a1", "a2"]
        made = fake.put("a2", number=2)
        fake.open("a3", "a2")
        made += fake.put("a3")
        assert positions(follow(events, lambda event: isinstance(event, Arrived) and event.shard == "a3")) == made
    assert asked == [Shard("a1"), Shard("a2"), Shard("a3", ("a2",))]


def test_an_expired_iterator_is_replaced(fake: FakeStreams) -> None:
    """Reading goes on after the last record that was given, or begins again where nothing was."""
    fake.limit = 2
    fake.open("s1")
    made = fake.put("s1", number=6)
    requests = itertools.count()
    fake.fail = lambda name, _: (
        ("ExpiredIteratorException", 400) if name == "GetRecords" and next(requests) in (0, 2, 3) else None
    )
    assert positions(read(fake)) == made
    assert len(fake.asked("GetShardIterator", "s1")) == 4


# --- what is gone


def test_what_was_trimmed_is_told_before_what_came_after(fake: FakeStreams) -> None:
    """From the last position that landed up to the next record that there is."""
    fake.open("s1")
    made = fake.put("s1", number=10)
    fake.trim("s1", made[5])
    events = read(fake, lambda _: After(made[2]))
    told = [event for event in events if isinstance(event, Gone | Arrived)]
    assert isinstance(told[0], Gone)
    assert told[0].span == Span(made[2] + 1, made[6] - 1)
    assert "24 hours" in told[0].why
    assert positions(events) == made[6:]


@pytest.mark.parametrize(("hours", "is_lost"), [(23, False), (25, True)])
def test_a_position_may_be_old_where_nothing_came(fake: FakeStreams, hours: int, is_lost: bool) -> None:
    """What is known of less than 24 hours ago can't have been lost, though the last record was trimmed long since."""
    fake.open("s1")
    made = fake.put("s1", number=3)
    fake.trim("s1", made[1])
    events = read(fake, lambda _: After(made[0], datetime.now(UTC) - timedelta(hours=hours)))
    assert any(isinstance(event, Gone) for event in events) == is_lost
    assert positions(events) == made[2:]


def test_a_shard_trimmed_to_its_end_is_gone_whole(fake: FakeStreams) -> None:
    """Nothing comes after it, and the rest of it is told all the same."""
    fake.open("s1")
    made = fake.put("s1", number=3)
    fake.close("s1")
    fake.trim("s1", made[2])
    gone = [event for event in read(fake, lambda _: After(made[0])) if isinstance(event, Gone)]
    assert [event.span for event in gone] == [Span(made[0] + 1, made[2])]


def test_a_reader_that_falls_behind_the_horizon_says_so(fake: FakeStreams) -> None:
    """Records that are trimmed while the shard is being read."""
    fake.limit = 2
    fake.open("s1")
    made = fake.put("s1", number=8)

    def trim(name: str, request: dict[str, Any]) -> None:
        if name == "GetRecords" and request["after"] == made[1]:
            fake.trim("s1", made[4])

    fake.fail = trim
    events = read(fake)
    assert [event.span for event in events if isinstance(event, Gone)] == [Span(made[1] + 1, made[5] - 1)]
    assert positions(events) == [*made[:2], *made[5:]]


def test_a_shard_that_vanishes_after_the_listing_is_past(fake: FakeStreams) -> None:
    """It had landed to its end; the others are read."""
    fake.open("gone")
    last = fake.put("gone")[-1]
    fake.open("s1")
    made = fake.put("s1")

    def vanish(name: str, request: dict[str, Any]) -> None:
        if name == "GetShardIterator" and request["ShardId"] == "gone" and "gone" in fake.shards:
            del fake.shards["gone"]

    fake.fail = vanish
    fresh = After(last, datetime.now(UTC))
    events = read(fake, lambda shard: fresh if shard.id == "gone" else Oldest())
    assert Ended("gone") in events
    assert positions(events) == made
    assert not [event for event in events if isinstance(event, Gone)]


# --- through the drain


DECLARED = Stream(
    name="changes", description="Changes.", source=DynamoDbStream(table="orders"), first_day=date(2024, 10, 1)
)


def drain(zone: LocalLanding, fake: FakeStreams, *, later: timedelta = timedelta(0)) -> Drained:
    """Drain up to now, or up to a moment later on."""
    now = datetime.now(UTC) + later
    landed = LandedStream(DECLARED, zone, ZONE)
    return Drain(landed, reader(fake, clock=lambda: now), clock=lambda: now).to_now()


def test_drains_go_on_where_the_last_one_ended(zone: LocalLanding, fake: FakeStreams) -> None:
    """Over shards that close and shards that open; nothing lands twice, and in the end nothing is asked of closed ones."""
    fake.open("a1")
    made = fake.put("a1", number=5)
    assert drain(zone, fake).records == 5
    made += fake.put("a1", number=2)
    fake.open("a2", "a1")
    made += fake.put("a2", number=3)
    drained = drain(zone, fake)
    assert (drained.records, drained.is_caught_up, drained.gaps) == (5, True, [])
    assert drain(zone, fake).records == 0


def test_an_idle_stream_loses_nothing_however_long_it_is_idle(zone: LocalLanding, fake: FakeStreams) -> None:
    """Shards without a record come, close and go; what is drained regularly has no gaps, and the first record lands."""
    fake.open("a1")
    (last,) = fake.put("a1")
    assert drain(zone, fake).records == 1
    for number in range(2, 9):
        fake.open(f"a{number}", f"a{number - 1}")
        if "a1" in fake.shards:
            fake.trim("a1", last)
        if number > 4:
            fake.drop(f"a{number - 4}")
        drained = drain(zone, fake, later=timedelta(hours=5 * (number - 1)))
        assert (drained.records, drained.gaps, drained.is_caught_up) == (0, [], True)
    later = timedelta(hours=40)
    fake.put("a8", at=datetime.now(UTC) + later)
    assert (drain(zone, fake, later=later).records, drain(zone, fake, later=later).gaps) == (1, [])


def test_the_first_drain_of_an_old_stream_finds_no_gap(zone: LocalLanding, fake: FakeStreams) -> None:
    """What was trimmed before anybody wanted it isn't missing."""
    fake.open("a7", "a6")
    fake.put("a7")
    assert drain(zone, fake).gaps == []


@pytest.mark.parametrize("known", [True, False])
def test_shards_that_came_and_went_unread_are_a_gap(zone: LocalLanding, fake: FakeStreams, known: bool) -> None:
    """A drain that was away for longer than records are kept says so once, of the shard that is gone, whether or not it ever saw that."""
    fake.open("a1")
    (last,) = fake.put("a1")
    assert drain(zone, fake).gaps == []
    fake.open("a2", "a1")
    fake.put("a2")
    fake.open("a3", "a2")
    away = timedelta(hours=30)
    made = fake.put("a3", at=datetime.now(UTC) + away)
    fake.drop("a1")
    if known:
        fake.shards["a3"].parent = "a1"
    fake.drop("a2")
    drained = drain(zone, fake, later=away)
    first = fake.shards["a3"].starting - 1
    assert [(shard, span) for shard, span, _ in drained.gaps] == (
        [("a1", Span(last + 1, first))] if known else [("a2", Span(0, first))]
    )
    assert drained.records == len(made)
    assert drain(zone, fake, later=away).gaps == []


def test_a_shard_that_ended_while_it_was_followed_is_not_called_gone(zone: LocalLanding, fake: FakeStreams) -> None:
    """It is closed with its last records held; a day later they are trimmed, and the shard is still listed: all of it landed."""
    fake.open("a1")
    last = fake.put("a1", number=2)[-1]

    def close(name: str, request: dict[str, Any]) -> None:
        if name == "GetRecords" and request["after"] == last:
            fake.shards["a1"].ending = last + 10

    fake.fail = close
    # Nobody lists it as closed before it has ended.
    watched = UntilEnded(reader(fake, list_seconds=60.0))
    Drain(LandedStream(DECLARED, zone, ZONE), watched).follow(watched.stop)
    fake.trim("a1", last + 10)
    assert drain(zone, fake, later=timedelta(hours=25)).gaps == []


# --- errors


def test_a_service_that_is_busy_is_asked_again(fake: FakeStreams) -> None:
    """Throttled, failing or hung up on: it is told, waited for, and nothing is lost."""
    fake.limit = 3
    for shard in ("a", "b"):
        fake.open(shard)
        fake.put(shard, number=30)
    errors = itertools.cycle(
        [("LimitExceededException", 400), ("ThrottlingException", 400), ("InternalServerError", 500), ("Hm", 503)]
    )
    chance = random.Random(7)
    fake.fail = lambda *_: next(errors) if chance.random() < 0.4 else None
    events = read(fake, attempts=50)
    for shard in ("a", "b"):
        assert positions(events, shard) == [
            int(one["dynamodb"]["SequenceNumber"]) for one in fake.shards[shard].records
        ]
    waits = [event for event in events if isinstance(event, Throttled)]
    assert {"400 LimitExceededException", "500 InternalServerError"} <= {event.why for event in waits}
    assert all(0 <= event.waited_seconds <= 0.01 for event in waits)


def test_a_service_that_stays_busy_is_unavailable(fake: FakeStreams) -> None:
    """In the end, with the last thing it said; what was given until then stands."""
    fake.limit = 2
    fake.open("s1")
    made = fake.put("s1", number=4)
    fake.fail = lambda name, request: (
        ("ThrottlingException", 400) if name == "GetRecords" and request["after"] == made[1] else None
    )
    given: list[Event] = []
    with pytest.raises(SourceUnavailable, match=r"after 4 attempts .* 400 ThrottlingException") as told:
        given.extend(reader(fake, attempts=4).read(oldest, until=datetime.now(UTC)))
    assert told.value.can_retry


def test_a_service_that_cannot_be_reached_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is said where it was looked for."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    away = DynamoDbStreamReader(DynamoDbStream(table="orders"), attempts=2, first_wait_seconds=0.001)
    with pytest.raises(SourceUnavailable, match="no usable answer after 2 attempts") as told:
        list(away.read(oldest, until=NOW))
    assert "http://127.0.0.1:9" in told.value.hint


@pytest.mark.parametrize(
    "url", ["http://me:s3cret@127.0.0.1:9", "http://me:s3cret@127.0.0.1:port", "http://me:s3cret@a_b c"]
)
def test_an_endpoint_with_a_password_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Neither by the reader, nor by what boto3 says of it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    away = DynamoDbStreamReader(DynamoDbStream(table="orders"), attempts=2, first_wait_seconds=0.001)
    with pytest.raises(SourceError) as told:
        list(away.read(oldest, until=NOW))
    assert "s3cret" not in f"{told.value} {told.value.hint}"
    assert "AWS_ENDPOINT_URL" in told.value.hint
    assert not told.value.can_retry


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("AccessDeniedException", "allow dynamodb:ListStreams"),
        ("UnrecognizedClientException", "credentials"),
        ("ExpiredTokenException", "credentials"),
        ("ResourceNotFoundException", "enable it"),
        ("ValidationException", "knows the request"),
    ],
)
def test_a_refusal_says_what_to_do(fake: FakeStreams, code: str, hint: str) -> None:
    """It isn't asked again."""
    fake.open("s1")
    fake.fail = lambda *_: (code, 400)
    with pytest.raises(SourceError) as told:
        read(fake)
    assert code in told.value.what
    assert hint in told.value.hint
    assert not told.value.can_retry
    assert len(fake.calls) == 1


def test_a_table_without_a_stream_says_how_to_enable_it(fake: FakeStreams) -> None:
    """There is a table, and no stream."""
    with pytest.raises(SourceError, match="table 'orders' has no stream") as told:
        read(fake)
    assert "StreamEnabled=true" in told.value.hint


def test_what_goes_wrong_while_asking_where_to_begin_comes_out(fake: FakeStreams) -> None:
    """As it is, from whichever thread."""
    fake.open("s1")

    def where(_shard: Shard) -> Start:
        raise LookupError("no landing zone")

    with pytest.raises(LookupError, match="no landing zone"):
        read(fake, where)


# --- threads, pace and memory


def test_a_shard_is_read_no_more_often_than_allowed(fake: FakeStreams) -> None:
    """Each shard has its own pace."""
    fake.limit = 1
    fake.open("s1")
    fake.put("s1", number=6)
    read(fake, reads_per_second=25.0)
    asked = fake.asked("GetRecords", "s1")
    assert len(asked) >= 6
    assert min(after - before for before, after in itertools.pairwise(asked)) > 0.03


def test_closing_ends_every_thread(fake: FakeStreams) -> None:
    """Also when the queue is full, and before anything was taken."""
    fake.limit = 1
    for number in range(10):
        fake.open(f"s{number}")
        fake.put(f"s{number}", number=50)
    before = set(threading.enumerate())
    with closing(reader(fake, buffered_bytes=100).read(oldest, until=None)) as events:
        next(events)
        assert len(set(threading.enumerate()) - before) == 3
    assert not set(threading.enumerate()) - before
    reader(fake).read(oldest, until=None)
    assert not set(threading.enumerate()) - before


def test_what_is_not_taken_is_not_read(fake: FakeStreams) -> None:
    """Whoever takes slowly holds the reading up, and not the memory."""
    fake.limit = 10
    for number in range(20):
        fake.open(f"s{number:02}")
        fake.put(f"s{number:02}", number=100)
    with closing(reader(fake, buffered_bytes=20_000).read(oldest, until=datetime.now(UTC))) as events:
        first = follow(events, lambda event: isinstance(event, Arrived))
        size = next(event.size_bytes for event in first if isinstance(event, Arrived))
        time.sleep(0.5)
        read_ahead = sum(len(fake.asked("GetRecords", f"s{number:02}")) for number in range(20))
        assert read_ahead * size < 20_000 + 6 * size
        assert len(positions(list(events))) + len(positions(first)) == 2000


strings = st.text(max_size=8)
typed = st.recursive(
    st.one_of(
        strings.map(lambda text: {"S": text}),
        st.decimals(allow_nan=False, allow_infinity=False).map(lambda number: {"N": str(number)}),
        st.binary(max_size=9).map(lambda value: {"B": base64.b64encode(value).decode()}),
        st.booleans().map(lambda value: {"BOOL": value}),
        st.just({"NULL": True}),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: {"L": items}),
        st.dictionaries(strings, inner, max_size=3).map(lambda items: {"M": items}),
    ),
    max_leaves=8,
)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.dictionaries(strings, typed, min_size=1, max_size=4), min_size=1, max_size=40))
def test_a_value_is_the_json_that_the_service_gave(images: list[dict[str, Any]]) -> None:
    """Whatever boto3 makes of it on the way: text, numbers, binary values and moments come back as they were."""
    fake = FakeStreams()
    fake.open("s1")
    for image in images:
        fake.put("s1", image=image)
    values = [
        value
        for event in read(fake)
        if isinstance(event, Arrived)
        for value in event.records.column("value").to_pylist()
        if value is not None
    ]
    assert [json.loads(value) for value in values] == json.loads(json.dumps(fake.shards["s1"].records))


# --- on a server; `test_dynamodb_local.py` does the same on another


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server's URL."""
    with moto_dynamodb() as url:
        yield url


@pytest.fixture
def world(server: str) -> DynamoDbWorld:
    """An empty table on it."""
    return DynamoDbWorld(server)


def test_a_table_without_a_stream_on_a_server(world: DynamoDbWorld) -> None:
    """Named, with what to do; as is one that isn't there."""
    world.client.create_table(
        TableName="plain",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    for table, message in (("plain", "'plain' has no stream"), ("nowhere", "there is no such table")):
        away = DynamoDbStreamReader(DynamoDbStream(table=table), session=SessionAt(world.url))
        with pytest.raises(SourceError, match=message) as told:
            list(away.read(oldest, until=NOW))
        assert "enable it" in told.value.hint
    world.client.delete_table(TableName="plain")


def test_what_is_put_arrives_once_in_order(world: DynamoDbWorld) -> None:
    """Of each key in its order, over a stream that is disabled and enabled again where the server can."""
    puts = [Put(f"k{number % 3}", f"{number:04}".encode()) for number in range(40)]
    world.put(puts[:20])
    if isinstance(world, Splitting):
        world.split()
    world.put(puts[20:])
    events = list(world.reader().read(oldest, until=datetime.now(UTC)))
    values = [
        (row["key"], world.value_of(row["value"]))
        for event in events
        if isinstance(event, Arrived)
        for row in event.records.to_pylist()
    ]
    assert sorted(value for _, value in values) == [put.value for put in puts]
    for key in {key for key, _ in values}:
        own = [value for other, value in values if other == key]
        assert own == sorted(own)


def test_latest_gives_what_comes_next(world: DynamoDbWorld) -> None:
    """And nothing that was there."""
    world.put([Put("a", b"before")])
    with closing(world.reader().read(lambda _: Latest(), until=None)) as events:
        follow(events, lambda event: isinstance(event, CaughtUp))
        world.put([Put("a", b"after")])
        (*_, arrived) = follow(events, lambda event: isinstance(event, Arrived))
    assert isinstance(arrived, Arrived)
    assert [world.value_of(value or b"") for value in arrived.records.column("value").to_pylist()] == [b"after"]


# --- the whole way


ITEMS = Dataset(
    name="items",
    description="One row per change of an item.",
    kind="changes",
    changes=Changes(only_in_history=("amount_before",)),
    source=StreamSegments(
        Stream(
            name="changes",
            description="Changes.",
            source=DynamoDbStream(table="x"),
            first_day=NOW.date() - timedelta(2),
        ),
        DynamoDbChanges(),
    ),
    columns=(
        Column("id", VARCHAR, "Its key.", source="keys.id", required=True),
        Column("operation", VARCHAR, "What happened.", required=True),
        Column("position", VARCHAR, "Where in the stream.", source="@position"),
        Column("changed_at", TIMESTAMP, "When.", required=True),
        Column("amount", decimal(38, 20), "A number.", source="new.amount"),
        Column("amount_before", decimal(38, 20), "What it was.", source="old.amount"),
        Column("note", VARCHAR, "Text.", source="new.note"),
    ),
    primary_key=("id",),
    daily=Daily(NOW.date() - timedelta(2)),
)


def test_from_a_table_to_its_history_and_its_current_state(world: DynamoDbWorld, tmp_path: Path) -> None:
    """Whatever is written, changed and removed: drained and loaded piece by piece, the current table is the table, digit for digit."""
    bench = Bench(tmp_path, datasets=Datasets([ITEMS]))
    chance = random.Random(11)
    made: list[tuple[str, str]] = []
    there: set[str] = set()
    for number in range(90):
        key = f"k{chance.randrange(12)}"
        amount = Decimal(chance.randrange(-(10**18), 10**18)).scaleb(-chance.randrange(20))
        named: dict[str, Any] = {"TableName": world.table, "Key": {"id": {"S": key}}}
        match chance.randrange(4):
            case 0:
                world.client.delete_item(**named)
                made += [(key, "REMOVE")] if key in there else []
                there.discard(key)
            case 1 if key in there:
                values = {":a": {"N": str(amount)}}
                world.client.update_item(**named, UpdateExpression="SET amount = :a", ExpressionAttributeValues=values)
                made.append((key, "MODIFY"))
            case _:
                item = {"id": {"S": key}, "amount": {"N": str(amount)}, "note": {"S": f"n{number} 🛒"}}
                world.client.put_item(TableName=world.table, Item=item)
                made.append((key, "MODIFY" if key in there else "INSERT"))
                there.add(key)
        if number % 30 == 29:
            landed = LandedStream(ITEMS.source.stream, bench.landing, bench.settings.zone)  # type: ignore[union-attr]
            drained = Drain(landed, world.reader()).to_now()
            assert drained.is_caught_up
            upkeep.catch_up(bench.warehouse)
            if isinstance(world, Splitting):
                world.split()
    changes = bench.warehouse.query("select id, operation from processed.items order by length(position), position")
    assert [(row["id"], row["operation"]) for row in changes.to_pylist()] == made
    found = bench.warehouse.query("select id, amount, note from processed.items_current").to_pylist()
    plain = TypeDeserializer()
    scanned = [
        {name: plain.deserialize(value) for name, value in item.items()}
        for item in world.client.scan(TableName=world.table)["Items"]
    ]
    assert {row["id"]: (row["amount"], row["note"]) for row in found} == {
        item["id"]: (item.get("amount"), item.get("note")) for item in scanned
    }
    assert upkeep.verify(bench.warehouse) == []
