"""
Reading a Kinesis data stream: all shards at once, parents before their children.

Belongs here: shards, iterators, pacing, what is gone. Doesn't: making the client and telling its errors apart (`kinesis_client.py`),
taking aggregated records apart (`kpl.py`), what becomes of records (`drain.py`).

Where shards come from. ListShards is asked at first, whenever a shard ends, and now and then when following. A shard is read once each
of its parents that is still listed has been read to its end, so that the records of a key keep their order when shards split or merge.

What is gone. Sequence numbers leave holes, so a hole proves nothing. Neither does the server: asked for what comes after a record that
is past retention, it goes on with the oldest that is left, silently. So when the moment up to which a shard is known to have been read
completely is longer ago than the stream's retention (or unknown), the last record itself is asked for first. If it is still there, so is
whatever followed it. If it isn't, something may be gone, and that is told: up to the next record where there is one, as an empty span
otherwise.

Limits of a shard, shared by all who read it: five reads and 2 MiB a second, and at most 10 MiB at once (which stand for five seconds).

Enhanced fan-out (a declared consumer) is pushed by SubscribeToShard over one connection a shard, for five minutes at a time. No test
server knows it: it is tested with event streams that are made up, and runs on AWS itself only.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from ingestion_platform.aws import Waits, code_of, told
from ingestion_platform.errors import SourceError, SourceUnavailable
from ingestion_platform.sources.kinesis_client import FAILURES, is_passing, new_client, refusal
from ingestion_platform.sources.kinesis_records import gather
from ingestion_platform.sources.reading import (
    After,
    Began,
    Behind,
    CaughtUp,
    Ended,
    Event,
    From,
    Gone,
    Latest,
    Shard,
    Start,
    Throttled,
    Where,
)
from ingestion_platform.sources.turns import Turn, Turns
from ingestion_platform.stream import Kinesis, Span

if TYPE_CHECKING:
    from types_boto3_kinesis import KinesisClient

log = logging.getLogger(__name__)

READ_RECORDS = 10_000
"""Records of one read, the most there may be."""
HELD_BYTES = 32 * 1024**2
"""What has been read and not yet taken. Beside it, each thread holds the answer that it is working on (10 MiB at most)."""
THREADS = 8
"""Shards that are being asked at one moment. When there are more, they take turns, the one that has waited longest first."""
MARGIN = timedelta(minutes=10)
"""How much earlier than the retention a record counts as possibly gone: clocks differ."""
REMEMBERED_AGAIN = timedelta(hours=6)
"""How old the moment may become from which on a shard is read that gives nothing."""
RECENT = timedelta(minutes=1)
CLOCKS_DIFFER = timedelta(seconds=5)
RENEW_SECONDS = 5.0
"""Between two subscriptions of a shard, at least."""
PAUSE = timedelta(seconds=10)
"""
Between two reads of a shard, from which on what follows may have been forgotten meanwhile. A shard takes 1,000 records and 1 MiB a second,
an answer has up to 10,000 and 10 MiB: who reads more often than this is faster than forgetting.
"""
PROBES = 3
"""Empty answers to a question for one record, before the shard is looked through from its oldest record on."""


@dataclass(frozen=True)
class Pace:
    """
    How fast is read.

    Args:
        read_seconds: from one read of a shard to the next at least; five a second are allowed, and others may read it too.
        bytes_per_second: of a shard at most.
        idle_seconds: from one read to the next of a shard where nothing comes.
        list_seconds: how often shards are listed while following.
        caught_up_seconds: how often it is told while following that a shard is caught up.
    """

    read_seconds: float = 0.25
    bytes_per_second: float = 2 * 1024**2
    idle_seconds: float = 1.0
    list_seconds: float = 30.0
    caught_up_seconds: float = 60.0


class KinesisReader:
    """
    A Kinesis stream, open for reading; see `StreamReader`.

    Args:
        source: the stream's declaration.
        client: of Kinesis; None: made when reading begins, from what boto3 finds.
        pace: how fast is read.
        waits: how often a request is sent before the stream counts as unavailable, and what is waited in between.
        clock: the moment in UTC.
    """

    def __init__(
        self,
        source: Kinesis,
        *,
        client: "KinesisClient | None" = None,
        pace: Pace | None = None,
        waits: Waits | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._source = source
        self._client = client
        self._pace = pace or Pace()
        self._waits = waits or Waits()
        self._clock = clock

    def read(self, where: Where, *, until: datetime | None, shards: Sequence[str] = ()) -> Iterator[Event]:
        """See `StreamReader.read`."""
        client = self._client or new_client(connections=THREADS)
        try:
            yield from _Reading(
                self._source, client, where, until, frozenset(shards), self._pace, self._waits, self._clock
            ).events()
        finally:
            if self._client is None:
                client.close()


@dataclass(eq=False)
class _Shard:
    """
    A shard and how far it has been read.

    Attributes:
        parents: those that are listed.
        unlisted: those that aren't, or not any more.
        first: no record's sequence number is below it.
        end: none is above it; None while it is open.
        position: of the last record given, or known to have landed.
        moment: records that arrived before it aren't wanted.
        as_of: at that moment nothing had come after the position.
        is_doubtful: what came after the position may be gone.
        is_searched: it is read from its oldest record on, for what is after the position.
        is_foreign: the server doesn't know the position as one of this shard.
        read_at: when it was last asked and answered.
        is_first: it was there when shards were listed for the first time.
        began_latest: nothing that it had when it was begun was wanted.
        probed: the position that was last asked for because what came after it might be gone.
    """

    id: str
    parents: tuple[str, ...]
    unlisted: tuple[str, ...]
    first: int
    end: int | None = None
    has_begun: bool = False
    start: Start | None = None
    position: int | None = None
    moment: datetime | None = None
    as_of: datetime | None = None
    is_doubtful: bool = False
    is_searched: bool = False
    is_foreign: bool = False
    probes: int = 0
    read_at: datetime | None = None
    is_first: bool = False
    began_latest: bool = False
    probed: int | None = None
    iterator: str | None = None
    continuation: int | None = None
    failures: int = 0
    told_caught_up: float = field(default=-1e9)


class _Reading:
    """One run of reading: the shards that there are, and how far each has come."""

    def __init__(
        self,
        source: Kinesis,
        client: "KinesisClient",
        where: Where,
        until: datetime | None,
        only: frozenset[str],
        pace: Pace,
        waits: Waits,
        clock: Callable[[], datetime],
    ) -> None:
        self._name = source.stream
        self._is_arn = source.stream.startswith("arn:")
        self._stream: dict[str, Any] = {"StreamARN" if self._is_arn else "StreamName": source.stream}
        self._consumer = source.consumer
        self._client = client
        self._where = where
        self._until = until
        self._only = only
        self._pace = pace
        self._waits = waits
        self._clock = clock
        self._cut_at = until
        if until is not None and clock() - until < RECENT:
            # Drained to now: the server's clock may be ahead, and what it has is wanted.
            self._cut_at = until + CLOCKS_DIFFER
        self._lock = threading.Lock()
        # One that is pushed to keeps its thread for minutes; those that are asked take turns.
        threads = None if source.consumer else THREADS
        self._turns = Turns("kinesis", threads=threads, held_bytes=HELD_BYTES)
        self._listing = Turn(self._list)
        self._shards: dict[str, _Shard] = {}
        self._begun: set[str] = set()
        self._ended: set[str] = set()
        self._asked_for: set[str] = set()
        self._has_listed = False
        self._has_warned = False
        self._list_failures = 0
        self._retention = timedelta(hours=24)
        self._created_at: datetime | None = None
        self._described = -1e9

    def events(self) -> Iterator[Event]:
        self._list_soon()
        yield from self._turns.events()

    # --- shards

    def _list_soon(self) -> None:
        self._turns.schedule(self._listing, time.monotonic())

    def _list(self) -> float | None:
        """Look which shards there are, and begin those whose turn it is; when to look again."""
        now = time.monotonic()
        try:
            if now - self._described > 600 and not self._describe():
                return now + self._pace.idle_seconds
            found = self._listed()
        except FAILURES as error:
            if not is_passing(error):
                raise refusal(f"Kinesis stream {self._name}", error) from error
            self._list_failures += 1
            wait = self._give_up_or_wait(self._list_failures, "listing shards", error)
            log.info("%s: %s; waited %.1f s", self._name, told(error), wait)
            return now + wait
        self._list_failures = 0
        self._keep(found)
        self._begin_those_due()
        return now + self._pace.list_seconds if self._until is None else None

    def _describe(self) -> bool:
        """Learn how long the stream keeps records; whether it can be read yet."""
        summary = self._client.describe_stream_summary(**self._stream)["StreamDescriptionSummary"]
        if summary["StreamStatus"] == "CREATING":
            return False
        if summary["StreamStatus"] == "DELETING":
            raise SourceError(
                f"Kinesis stream {self._name} is being deleted", "take the stream out of the declarations"
            )
        self._retention = timedelta(hours=summary["RetentionPeriodHours"])
        self._created_at = summary["StreamCreationTimestamp"].astimezone(UTC)
        self._described = time.monotonic()
        return True

    def _listed(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        request: dict[str, Any] = dict(self._stream)
        while True:
            page = self._client.list_shards(**request)
            found += page["Shards"]  # type: ignore[arg-type]
            token = page.get("NextToken")
            if not token:
                return found
            request = {"NextToken": token}

    def _keep(self, found: Sequence[dict[str, Any]]) -> None:
        listed = {one["ShardId"] for one in found if not self._only or one["ShardId"] in self._only}
        with self._lock:
            for one in found:
                if one["ShardId"] not in listed:
                    continue
                named = [one.get("ParentShardId"), one.get("AdjacentParentShardId")]
                parents = tuple(dict.fromkeys(name for name in named if name))
                numbers = one["SequenceNumberRange"]
                shard = self._shards.get(one["ShardId"])
                if shard is None:
                    shard = self._shards[one["ShardId"]] = _Shard(
                        one["ShardId"],
                        tuple(name for name in parents if name in listed),
                        tuple(name for name in parents if name not in listed) if not self._only else (),
                        int(numbers["StartingSequenceNumber"]),
                        is_first=not self._has_listed,
                    )
                if numbers.get("EndingSequenceNumber"):
                    shard.end = int(numbers["EndingSequenceNumber"])
            self._has_listed = True
            for name in self._shards.keys() - listed - self._begun:
                del self._shards[name]

    def _begin_those_due(self) -> None:
        now = time.monotonic()
        with self._lock:
            due = [
                shard
                for name, shard in self._shards.items()
                if name not in self._begun
                and all(parent in self._ended or parent not in self._shards for parent in shard.parents)
            ]
            self._begun.update(shard.id for shard in due)
        for shard in due:
            self._turns.schedule(Turn(partial(self._step, shard)), now)

    # --- one shard

    def _step(self, shard: _Shard) -> float | None:
        """Ask a shard once; when to ask again, None when never."""
        if not shard.has_begun:
            shard.has_begun = True
            self._begin(shard)
        if shard.end is not None and shard.position is not None and shard.position >= shard.end:
            self._end(shard, self._clock())
            return None
        self._doubt(shard)
        try:
            return self._subscribe(shard) if self._consumer else self._get(shard)
        except FAILURES as error:
            return self._failed(shard, error)

    def _doubt(self, shard: _Shard) -> None:
        """
        Ask for the last record again where reading has been slower than forgetting: what is read next may not be what comes next.

        That costs the iterator, so it is done once from a position: an answer may hold nothing but the record that was asked for.
        """
        if shard.position is None or shard.is_doubtful:
            return
        if not self._may_be_gone(shard.as_of):
            shard.probed = None
        elif shard.probed != shard.position and shard.read_at is not None and self._clock() - shard.read_at > PAUSE:
            shard.is_doubtful, shard.iterator, shard.continuation, shard.probes = True, None, None, 0
            shard.probed = shard.position

    def _begin(self, shard: _Shard) -> None:
        with self._lock:
            before = [self._shards.get(parent) for parent in shard.parents]
        # Whatever is there when a stream is first seen has no past that counts, whichever shard it stands in.
        is_first = shard.is_first and all(parent is not None and parent.began_latest for parent in before)
        shard.start = self._where(Shard(shard.id, () if is_first else shard.parents))
        match shard.start:
            case After(position, as_of):
                shard.position, shard.as_of = position, as_of
                shard.is_doubtful = self._may_be_gone(as_of) or position < shard.first - 1
            case From(moment, is_remembered):
                shard.moment = _milliseconds(moment)
                if is_remembered and self._may_be_gone(moment) and shard.first > 0:
                    shard.as_of = moment
                    self._gone(shard, Span(shard.first, shard.first - 1))
                elif not is_remembered and not shard.parents and self._may_be_gone(moment):
                    self._warn_of(moment)
            case Latest():
                shard.began_latest = True
                shard.moment = _milliseconds(self._clock())
                self._turns.tell(Began(shard.id, shard.moment))
        if not isinstance(shard.start, After):
            self._look_after_parents(shard)

    def _warn_of(self, moment: datetime) -> None:
        """Nobody promised what arrived before retention, so it is no gap; but a replay that lacks it mustn't look complete."""
        with self._lock:
            if self._has_warned:
                return
            self._has_warned = True
        log.warning(
            "Kinesis stream %s: wanted from %s UTC on, and it keeps records for %s: what arrived before %s UTC may be gone",
            self._name,
            f"{moment:%Y-%m-%d %H:%M}",
            _hours(self._retention),
            f"{self._clock() - self._retention:%Y-%m-%d %H:%M}",
        )

    def _look_after_parents(self, shard: _Shard) -> None:
        """
        Nothing has landed of a shard whose parent is past retention: tell what may be gone of that.

        A shard that has been caught up with has left a mark, so this is no shard in which just nothing happened.
        """
        for parent in shard.unlisted:
            with self._lock:
                if parent in self._asked_for:
                    continue
                self._asked_for.add(parent)
            start = self._where(Shard(parent))
            if isinstance(start, After) and self._may_be_gone(start.as_of):
                self._turns.tell(
                    Gone(
                        parent,
                        Span(start.position + 1, start.position),
                        f"the shard is past the retention of {_hours(self._retention)}, and it isn't known that it was read to its end",
                    )
                )
                self._turns.tell(Ended(parent))

    def _get(self, shard: _Shard) -> float | None:
        began = time.monotonic()
        if shard.iterator is None:
            shard.iterator = self._iterator(shard)
        asked_at = self._clock()
        request: dict[str, Any] = {"ShardIterator": shard.iterator, "Limit": READ_RECORDS}
        if self._is_arn:
            request |= self._stream
        answer = self._client.get_records(**request)
        shard.failures, shard.read_at = 0, asked_at
        records: list[Any] = answer["Records"]
        shard.iterator = answer.get("NextShardIterator")
        size_bytes = sum(len(record["Data"]) for record in records)
        behind = timedelta(milliseconds=answer.get("MillisBehindLatest", 0))
        # A server that doesn't tell how far behind it is says 0 with a full answer.
        is_newest = not behind and len(records) < READ_RECORDS
        is_over = not shard.iterator or (shard.end is not None and is_newest and not records)
        is_searching = shard.is_searched
        if self._take(shard, records, behind, asked_at, is_newest=is_newest, is_over=is_over):
            return None
        if shard.is_searched and not is_searching:
            return time.monotonic()
        pause = self._pace.idle_seconds if is_newest and not records else self._pace.read_seconds
        return began + max(pause, size_bytes / self._pace.bytes_per_second)

    def _iterator(self, shard: _Shard) -> str:
        def ask(place: dict[str, Any]) -> str:
            request = dict(self._stream) | {"ShardId": shard.id, "ShardIteratorType": place["Type"]}
            if "SequenceNumber" in place:
                request["StartingSequenceNumber"] = place["SequenceNumber"]
            if "Timestamp" in place:
                request["Timestamp"] = place["Timestamp"]
            return self._client.get_shard_iterator(**request)["ShardIterator"]

        iterator: str = self._from_place(shard, ask)
        return iterator

    def _from_place(self, shard: _Shard, ask: Callable[[dict[str, Any]], Any]) -> Any:
        """Ask from where a shard goes on. Positions that aren't a record's (the end of a gap) are refused by the server."""
        for place in self._places(shard):
            try:
                found = ask(place)
            except FAILURES as error:
                if code_of(error) != "InvalidArgumentException" or "SequenceNumber" not in place:
                    raise
                shard.is_foreign = True
            else:
                shard.is_foreign = False
                return found
        shard.is_searched = True
        # Neither a record's position, nor one before a record's: it is of another stream that had this name.
        shard.is_doubtful = shard.is_doubtful or shard.is_foreign
        return ask({"Type": "TRIM_HORIZON"})

    def _places(self, shard: _Shard) -> Iterator[dict[str, Any]]:
        if shard.continuation is not None:
            yield {"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": str(shard.continuation)}
        if shard.position is None:
            if shard.moment is None:
                yield {"Type": "TRIM_HORIZON"}
            elif isinstance(shard.start, Latest):
                # An iterator that is lost before anything came is found again by time.
                shard.start = From(shard.moment)
                yield {"Type": "LATEST"}
            else:
                yield {"Type": "AT_TIMESTAMP", "Timestamp": min(shard.moment, self._clock() - timedelta(seconds=1))}
        elif not shard.is_searched and shard.position >= shard.first:
            kind = "AT_SEQUENCE_NUMBER" if shard.is_doubtful else "AFTER_SEQUENCE_NUMBER"
            yield {"Type": kind, "SequenceNumber": str(shard.position)}
            yield {"Type": "AT_SEQUENCE_NUMBER", "SequenceNumber": str(shard.position + 1)}

    def _subscribe(self, shard: _Shard) -> float | None:
        """Be pushed what a shard has, for as long as the subscription lasts."""
        began = time.monotonic()

        def ask(place: dict[str, Any]) -> Any:
            return self._client.subscribe_to_shard(
                ConsumerARN=str(self._consumer),
                ShardId=shard.id,
                StartingPosition=place,  # type: ignore[arg-type]
            )

        pushed = self._from_place(shard, ask)["EventStream"]
        try:
            # An empty event comes every few seconds where there is nothing to tell.
            for told_ in pushed:
                asked_at = self._clock()
                event = told_.get("SubscribeToShardEvent")
                if event is None:
                    continue
                shard.failures, shard.read_at = 0, asked_at
                behind = timedelta(milliseconds=event.get("MillisBehindLatest", 0))
                number = event.get("ContinuationSequenceNumber")
                is_over = not number or bool(event.get("ChildShards"))
                was_searched = shard.is_searched
                if self._take(shard, event["Records"], behind, asked_at, is_newest=not behind, is_over=is_over):
                    return None
                if shard.is_searched and not was_searched:
                    shard.continuation = None
                    break
                # Unlike the last record's, this one is never past retention.
                shard.continuation = int(number) if not shard.is_doubtful else None
                self._turns.check()
        finally:
            pushed.close()
        # One subscription of a shard a second, and none within five seconds of the one before.
        return max(time.monotonic(), began + RENEW_SECONDS)

    # --- what came

    def _take(
        self,
        shard: _Shard,
        records: list[Any],
        behind: timedelta,
        asked_at: datetime,
        *,
        is_newest: bool,
        is_over: bool,
    ) -> bool:
        """Tell what came of a shard; whether that was all."""
        numbers = [int(record["SequenceNumber"]) for record in records]
        arrivals = [record.get("ApproximateArrivalTimestamp") or asked_at for record in records]
        first, last = 0, len(records)
        if shard.position is not None:
            while first < last and numbers[first] <= shard.position:
                first += 1
            if first:
                # The last record is still there, or an older one: so is what followed it.
                shard.is_doubtful = False
        if shard.moment is not None and isinstance(shard.start, From):
            # The server is asked by the second.
            while first < last and arrivals[first] < shard.moment:
                first += 1
        is_cut = False
        if self._cut_at is not None:
            for index in range(first, last):
                if arrivals[index] >= self._cut_at:
                    last, is_cut = index, True
                    break
        if shard.is_doubtful and not self._resolve(shard, numbers[first:], is_newest, is_over):
            return False
        for batch in gather(shard.id, records, numbers, arrivals, first, last):
            self._turns.tell(batch, batch.size_bytes)
            shard.position, shard.moment, shard.is_searched = batch.last, None, False
        is_over = is_over or (shard.end is not None and shard.position is not None and shard.position >= shard.end)
        if not is_cut:
            shard.as_of = asked_at - behind
        self._turns.tell(Behind(shard.id, None, 0.0 if is_over else behind.total_seconds()))
        if is_cut:
            self._turns.tell(CaughtUp(shard.id, self._until or asked_at))
            return True
        if is_over:
            self._end(shard, asked_at)
            return True
        if shard.end is not None:
            # Closed: it goes on until it says that it has ended, so that its children can begin.
            return False
        if is_newest and shard.moment is not None and asked_at - shard.moment > REMEMBERED_AGAIN:
            # Nothing has come yet: remembered anew, so that it isn't taken for unread once the first moment is past retention.
            shard.moment = _milliseconds(asked_at - RECENT)
            self._turns.tell(Began(shard.id, shard.moment))
        if is_newest and self._until is not None and asked_at >= self._until:
            self._turns.tell(CaughtUp(shard.id, self._until, self._before_first(shard)))
            return True
        if is_newest and self._until is None:
            now = time.monotonic()
            if now - shard.told_caught_up >= self._pace.caught_up_seconds:
                shard.told_caught_up = now
                self._turns.tell(CaughtUp(shard.id, asked_at, self._before_first(shard)))
        return False

    def _before_first(self, shard: _Shard) -> int | None:
        """Where a shard stands of which everything is wanted, and in which there was nothing."""
        if shard.position is None and shard.moment is None and shard.first > 0:
            return shard.first - 1
        return None

    def _resolve(self, shard: _Shard, numbers: Sequence[int], is_newest: bool, is_over: bool) -> bool:
        """Find out whether something is gone after a position whose own record didn't come; whether that is known by now."""
        position = shard.position or 0
        if numbers:
            shard.is_doubtful = False
            if numbers[0] > position + 1:
                self._gone(shard, Span(position + 1, numbers[0] - 1))
            return True
        if is_newest or is_over:
            shard.is_doubtful = False
            end = shard.end if is_over and shard.end is not None else position
            self._gone(shard, Span(position + 1, max(end, position)))
            return True
        shard.probes += 1
        if shard.probes >= PROBES and not shard.is_searched:
            shard.is_searched, shard.iterator = True, None
        return False

    def _gone(self, shard: _Shard, span: Span) -> None:
        if span.first < shard.first or shard.is_foreign:
            why = f"the shard begins after it: the stream was made anew, or forgot it (it keeps {_hours(self._retention)})"
        else:
            since = f"since {shard.as_of:%Y-%m-%d %H:%M} UTC" if shard.as_of else "after the last that landed"
            why = f"what arrived {since} was kept for {_hours(self._retention)} only, and isn't there any more"
        self._turns.tell(Gone(shard.id, span, why))

    def _may_be_gone(self, as_of: datetime | None) -> bool:
        """Whether something that arrived after a moment may be past retention."""
        oldest = self._clock() - self._retention + MARGIN
        if self._created_at is not None and self._created_at > oldest:
            return False
        return as_of is None or as_of < oldest

    def _end(self, shard: _Shard, asked_at: datetime) -> None:
        if shard.end is None:
            self._learn_end(shard)
        as_of = asked_at if self._until is None else min(asked_at, self._until)
        self._turns.tell(CaughtUp(shard.id, as_of, shard.end))
        self._turns.tell(Ended(shard.id))
        with self._lock:
            self._ended.add(shard.id)
        self._begin_those_due()
        self._list_soon()

    def _learn_end(self, shard: _Shard) -> None:
        """List the shards again, for the number at which one ended that was open before: told with that, it is known to have come whole."""
        try:
            self._keep(self._listed())
        except FAILURES:
            # Its records have come, and the listing that is due for its children waits for as long as it must.
            log.debug("%s: not listed", self._name, exc_info=True)

    # --- what went wrong

    def _failed(self, shard: _Shard, error: Exception) -> float | None:
        code = code_of(error)
        if code == "ResourceNotFoundException" and self._has_vanished(shard):
            if self._may_be_gone(shard.as_of):
                position = shard.position if shard.position is not None else shard.first - 1
                self._gone(shard, Span(position + 1, max(shard.end or position, position)))
            self._end(shard, self._clock())
            return None
        shard.failures += 1
        what = f"Kinesis stream {self._name}, shard {shard.id}"
        if code == "ExpiredIteratorException":
            # It was held for more than five minutes. The next one is taken from the last record given.
            shard.iterator = None
            if shard.failures > 1:
                return time.monotonic() + self._give_up_or_wait(shard.failures, what, error)
            return time.monotonic()
        if not is_passing(error):
            raise refusal(what, error) from error
        wait = self._give_up_or_wait(shard.failures, what, error)
        if code == "ResourceInUseException":
            wait += RENEW_SECONDS
        self._turns.tell(Throttled(shard.id, told(error), wait))
        return time.monotonic() + wait

    def _has_vanished(self, shard: _Shard) -> bool:
        """Whether it was the shard that wasn't found, and not the stream: closed, and past retention since."""
        try:
            return shard.id not in {one["ShardId"] for one in self._listed()}
        except FAILURES:
            # What was asked for first is told, not this.
            log.debug("%s: not listed", self._name, exc_info=True)
            return False

    def _give_up_or_wait(self, failures: int, what: str, error: Exception) -> float:
        if failures >= self._waits.attempts:
            raise SourceUnavailable(
                f"{what}: no usable answer after {failures} attempts; the last: {told(error)}",
                "what landed stays, and the next drain goes on after it; see who else reads the stream, and AWS_ENDPOINT_URL",
            ) from error
        return self._waits.after(failures)


def _milliseconds(moment: datetime) -> datetime:
    """A moment as exactly as Kinesis knows arrivals."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _hours(duration: timedelta) -> str:
    return f"{duration.total_seconds() / 3600:g} h"
