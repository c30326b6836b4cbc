"""
Streams of DynamoDB tables: every change of an item, for 24 hours.

Belongs here: the only use of boto3 for DynamoDB. Doesn't: what a change means (`formats/dynamodb_values.py`), what is the same for every
service of AWS (`aws.py`).

How it is read:

- Shards close after about four hours, and others go on in their place. A shard is begun when those it comes from have been read to their
  end, over restarts too, so the changes of an item come in order.
- A stream that was disabled and enabled again is another stream, with other shards; the former one can still be read for 24 hours, and is,
  before the new one. Changes made in between are in neither. A stream that is given by its own ARN is read alone.
- The stream knows no time: reading from a moment on reads everything, and leaves out what was made before. The moments of changes are
  rounded down to a second (DynamoDB Local: to a minute), and what is of the moment's own second or minute is read.
- An empty answer doesn't mean that there is nothing, and no number of them does: it may take many to come to where records are. A closed
  shard is read until it says that it has ended. An open one never says so: it counts as caught up after many empty answers in a row.
- What is lost is told from the landing zone: when it says that less than 24 hours ago nothing had come after the last position, nothing can
  be lost, however old that is. Otherwise records that were trimmed, and shards that came and went unread, are a gap.

The shards are read in turns (`turns.py`); what has been read and not taken yet is bounded in bytes.
"""

import logging
import threading
import time
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from boto3.session import Session
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session as CoreSession

from ingestion_platform import aws
from ingestion_platform.errors import SourceError, SourceUnavailable
from ingestion_platform.sources.dynamodb_records import (
    EPOCH,
    as_it_is,
    envelope,
    is_before,
    micros_of,
    micros_since_epoch,
    moment_of,
)
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
    Latest,
    Oldest,
    Shard,
    Throttled,
    Where,
)
from ingestion_platform.sources.turns import Turn, Turns
from ingestion_platform.stream import DynamoDbStream, Span

if TYPE_CHECKING:
    from types_boto3_dynamodbstreams import DynamoDBStreamsClient
    from types_boto3_dynamodbstreams.type_defs import GetShardIteratorInputTypeDef

log = logging.getLogger(__name__)

RETENTION = timedelta(hours=24)
"""How long a stream keeps a record."""
FEWEST_DIGITS = 21
"""Of a sequence number, as the service takes it; shorter ones have leading zeros."""
EVERYTHING = EPOCH
"""As the moment from which on a shard is read: from its first record."""

_TRIMMED = "the stream keeps records for 24 hours, and nobody had read them by then"
_CAUGHT_UP_SECONDS = 60.0
"""How often a shard that is being followed, and where nothing comes, says so."""
_BEHIND_SECONDS = 1.0

_CREDENTIALS = f"{aws.CREDENTIALS}, and AWS_REGION"
_RIGHTS = (
    "allow dynamodb:ListStreams, dynamodb:DescribeTable, dynamodb:DescribeStream, dynamodb:GetShardIterator and dynamodb:GetRecords"
    " to the user or role that runs this"
)
_ENABLE = "enable it: aws dynamodb update-table --table-name … --stream-specification StreamEnabled=true,StreamViewType=NEW_AND_OLD_IMAGES"


class DynamoDbStreamReader:
    """
    Reads the stream of a DynamoDB table; see `reading.StreamReader`.

    Args:
        source: which table or stream.
        session: botocore's; default: a new one.
        threads: that take turns over the shards.
        attempts: how often one request is sent before the source counts as unavailable.
        first_wait_seconds: upper bound of the random wait after the first failure; it doubles with each.
        longest_wait_seconds: where the doubling ends.
        timeout_seconds: how long to wait for a connection, and for the next bytes of an answer.
        reads_per_second: of one shard; the service allows 5.
        list_seconds: how often new shards are looked for while the stream is followed.
        empty_reads: after so many empty answers in a row a shard that isn't closed counts as caught up.
        buffered_bytes: what has been read and not taken yet.
        clock: the moment in UTC.
    """

    def __init__(
        self,
        source: DynamoDbStream,
        *,
        session: CoreSession | None = None,
        threads: int = 8,
        attempts: int = 10,
        first_wait_seconds: float = 0.25,
        longest_wait_seconds: float = 20.0,
        timeout_seconds: float = 30.0,
        reads_per_second: float = 5.0,
        list_seconds: float = 15.0,
        empty_reads: int = 25,
        buffered_bytes: int = 32 * 1024**2,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.source = source
        self.session = session
        self.threads = threads
        self.waits = aws.Waits(attempts, first_wait_seconds, longest_wait_seconds)
        self.timeout_seconds = timeout_seconds
        self.pause_seconds = 1 / reads_per_second
        self.list_seconds = list_seconds
        self.empty_reads = empty_reads
        self.buffered_bytes = buffered_bytes
        self.clock = clock

    def __repr__(self) -> str:
        return f"DynamoDbStreamReader({self.source.table!r})"

    def read(self, where: Where, *, until: datetime | None, shards: Sequence[str] = ()) -> Generator[Event, None, None]:
        """See `StreamReader.read`."""
        return _Reading(self, where, until, frozenset(shards)).events()


@dataclass(frozen=True, slots=True)
class _Listed:
    """A shard as the stream describes it."""

    id: str
    arn: str
    parent: str | None
    starting: int | None
    ending: int | None
    is_disabled: bool
    """The stream was disabled: nothing comes any more, whether or not the shard says that it is closed."""


class _Reading:
    """One call of `read`: the shards that there are, and whose turn it is to begin."""

    def __init__(
        self, reader: DynamoDbStreamReader, where: Where, until: datetime | None, only: frozenset[str]
    ) -> None:
        self.reader = reader
        self.where = where
        self.until = until
        self.only = only
        self._lock = threading.Lock()
        self.turns = Turns("dynamodb", threads=reader.threads, held_bytes=reader.buffered_bytes)
        self.shards: dict[str, _ShardReading] = {}
        self._listing = _Listing(self)
        self.streams: DynamoDBStreamsClient

    @property
    def name(self) -> str:
        """As messages call it."""
        return f"DynamoDB stream of {self.reader.source.table!r}"

    def events(self) -> Generator[Event, None, None]:
        """Everything that is told of the shards."""
        self._connect()
        with closing(self.streams):
            self.turns.schedule(self._listing.turn, time.monotonic())
            yield from self.turns.events()

    def _connect(self) -> None:
        config = aws.client_config(connections=self.reader.threads, timeout_seconds=self.reader.timeout_seconds)
        with aws.configuring(self.name, SourceError):
            core = self.reader.session or aws.new_session()
            core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=as_it_is)
            self._session = Session(botocore_session=core)
            self.streams = self._session.client("dynamodbstreams", config=config)
            aws.check_endpoint(self.streams.meta.endpoint_url, self.name, SourceError)

    def latest_stream(self, table: str) -> str | None:
        """ARN of the stream that a table has now."""
        with closing(self._session.client("dynamodb", config=self.streams.meta.config)) as client:
            aws.check_endpoint(client.meta.endpoint_url, self.name, SourceError)  # it may have one of its own
            return client.describe_table(TableName=table)["Table"].get("LatestStreamArn")

    # --- shards

    def shards_of(self, arn: str) -> list[_Listed]:
        """What a stream lists."""
        found = []
        after: dict[str, Any] = {}
        while True:
            page = self.streams.describe_stream(StreamArn=arn, **after)["StreamDescription"]
            is_disabled = page.get("StreamStatus") == "DISABLED"
            for shard in page.get("Shards", ()):
                numbers = shard.get("SequenceNumberRange", {})
                found.append(
                    _Listed(
                        shard["ShardId"],
                        arn,
                        shard.get("ParentShardId"),
                        _number(numbers.get("StartingSequenceNumber")),
                        _number(numbers.get("EndingSequenceNumber")),
                        is_disabled,
                    )
                )
            if not page.get("LastEvaluatedShardId"):
                return found
            after = {"ExclusiveStartShardId": page["LastEvaluatedShardId"]}

    def listed(self, found: Sequence[_Listed], *, is_first: bool) -> None:
        """Take in what the streams list: shards by stream, the oldest stream first."""
        arns = list(dict.fromkeys(one.arn for one in found))
        ids = {one.id for one in found}
        with self._lock:
            for one in found:
                known = self.shards.get(one.id)
                if known is not None:
                    known.listed = one
                    continue
                if self.only and one.id not in self.only:
                    continue
                former = [other.id for other in found if arns.index(other.arn) < arns.index(one.arn)]
                parents = tuple(dict.fromkeys([*([one.parent] if one.parent else []), *former]))
                self.shards[one.id] = _ShardReading(self, one, parents, is_first=is_first)
            for id_ in [id_ for id_, shard in self.shards.items() if shard.has_ended and id_ not in ids]:
                del self.shards[id_]
            self._start_ready()

    def _start_ready(self) -> None:
        for shard in self.shards.values():
            before = [self.shards[parent] for parent in shard.parents if parent in self.shards]
            if not shard.has_begun and all(parent.has_ended for parent in before):
                shard.has_begun = True
                self.turns.schedule(shard.turn, time.monotonic())

    def ended(self, shard: "_ShardReading", *, is_news: bool) -> None:
        """
        A shard has been read to its end: those that go on in its place may begin.

        Args:
            shard: which.
            is_news: it was open when it was listed, so those may not be known yet.
        """
        with self._lock:
            shard.has_ended = True
            self._start_ready()
            if is_news:
                self.turns.schedule(self._listing.turn, time.monotonic())

    def is_any_known(self) -> bool:
        """Whether anything has landed of a shard that is listed."""
        with self._lock:
            shards = list(self.shards.values())
        return any(isinstance(self.where(Shard(shard.id, shard.parents)), After | From) for shard in shards)


class _Asker(ABC):
    """Somebody who asks the service, once in a turn."""

    def __init__(self, reading: _Reading) -> None:
        self.reading = reading
        self.reader = reading.reader
        self.turn = Turn(self.take)
        self._failures = 0
        self._first_failure = 0.0

    def take(self) -> float | None:
        """Take a turn; see `Turn`."""
        wait = self._try()
        return None if wait is None else time.monotonic() + wait

    def _try(self) -> float | None:
        """Seconds until the next turn; None when none is wanted."""
        try:
            wait = self._take()
        except ClientError as error:
            if not aws.is_busy(error):
                return self._refused(error)
            return self._wait(error, "the service is busy: try again later, or read with fewer readers")
        except aws.BROKEN as error:
            endpoint = self.reading.streams.meta.endpoint_url
            return self._wait(error, f"check the network, and AWS_ENDPOINT_URL: it was sent to {endpoint}")
        except BotoCoreError as error:
            raise SourceError(f"{self.reading.name}: {aws.first_line(error)}", _CREDENTIALS) from error
        self._failures = 0
        return wait

    @abstractmethod
    def _take(self) -> float | None:
        """Ask; see `_try`."""

    def _refused(self, error: ClientError) -> float | None:
        """What is done about what the service refuses."""
        raise _refusal(self.reading.name, error) from error

    def _wait(self, error: Exception, hint: str) -> float:
        """How long to wait until it is asked again."""
        self._failures += 1
        if self._failures == 1:
            self._first_failure = time.monotonic()
        if self._failures >= self.reader.waits.attempts:
            seconds = time.monotonic() - self._first_failure
            raise SourceUnavailable(
                f"{self.reading.name}: no usable answer after {self._failures} attempts in {seconds:.1f} s; the last: {aws.told(error)}",
                hint,
            ) from error
        wait = self.reader.waits.after(self._failures)
        self._tell_wait(aws.told(error), wait)
        return wait

    def _tell_wait(self, why: str, seconds: float) -> None:
        log.info("%s: %s; waiting %.1f s", self.reading.name, why, seconds)


class _Listing(_Asker):
    """Finds the streams of the table, and their shards."""

    def __init__(self, reading: _Reading) -> None:
        super().__init__(reading)
        self._is_first = True

    def _take(self) -> float | None:
        found = [shard for arn in self._arns() for shard in self.reading.shards_of(arn)]
        self.reading.listed(found, is_first=self._is_first)
        self._is_first = False
        return self.reader.list_seconds if self.reading.until is None else None

    def _arns(self) -> list[str]:
        """The table's streams, the oldest first."""
        table = self.reader.source.table
        if ":stream/" in table or table.rpartition("/")[0].endswith("/stream"):
            return [table]
        found: dict[str, str] = {}
        after: dict[str, Any] = {}
        while True:
            page = self.reading.streams.list_streams(TableName=table.rpartition("/")[2], **after)
            for stream in page.get("Streams", ()):
                if stream.get("StreamArn"):
                    found[stream["StreamArn"]] = stream.get("StreamLabel", "")
            if not page.get("LastEvaluatedStreamArn"):
                break
            after = {"ExclusiveStartStreamArn": page["LastEvaluatedStreamArn"]}
        if found:
            # A label is the moment when the stream was enabled.
            return sorted(found, key=lambda arn: found[arn])
        latest = self.reading.latest_stream(table)
        if not latest:
            raise SourceError(f"DynamoDB table {table!r} has no stream", _ENABLE)
        return [latest]


class _ShardReading(_Asker):
    """One shard that is being read."""

    def __init__(self, reading: _Reading, listed: _Listed, parents: tuple[str, ...], *, is_first: bool) -> None:
        super().__init__(reading)
        self.id = listed.id
        self.listed = listed
        self.parents = parents
        self.has_begun = False
        self.has_ended = False
        self.began_latest = False
        self._is_first = is_first
        self._is_missing = False
        self._way: Literal["LATEST", "TRIM_HORIZON", "AFTER_SEQUENCE_NUMBER"] | None = None
        self._iterator: str | None = None
        self._position: int | None = None
        self._as_of: datetime | None = None
        self._moment: datetime | None = None
        self._is_from_oldest = False
        self._lost_after: int | None = None
        self._empty = 0
        self._empty_since = EVERYTHING
        self._told_caught_up = float("-inf")
        self._told_behind = float("-inf")
        self._last_read = float("-inf")

    # --- turns

    def _take(self) -> float | None:
        if self._is_missing:
            if self._look_up() is not None:
                raise SourceError(
                    f"{self.reading.name}: shard {self.id} is listed, and can't be found when it is read", _RIGHTS
                )
            if not self._is_fresh(self._as_of):
                starting = self.listed.starting
                never_read = starting - 1 if starting is not None and self._is_from_oldest else None
                self._lost_after = self._position if self._position is not None else never_read
            self._end()
            return None
        if self._way is None:
            self._way = self._begin()
            if self._way is None:
                return None
        if self._iterator is None:
            self._iterator = self._new_iterator()
        pause = self._last_read + self.reader.pause_seconds - time.monotonic()
        return pause if pause > 0 else self._read()

    def _refused(self, error: ClientError) -> float | None:
        match aws.code_of(error):
            case "ExpiredIteratorException":
                # After 15 minutes: whoever takes what is read is slow.
                self._iterator = None
                return self._wait(error, "what is read isn't taken in time")
            case "TrimmedDataAccessException":
                self._iterator, self._way = None, "TRIM_HORIZON"
                if self._position is not None and self._lost_after is None and not self._is_fresh(self._as_of):
                    self._lost_after = self._position
                return self._wait(error, "the stream drops records faster than they are read: drain more often")
            case "ResourceNotFoundException" if not self._is_missing:
                self._is_missing = True
                return 0.0
        raise _refusal(f"{self.reading.name}, shard {self.id}", error) from error

    def _tell_wait(self, why: str, seconds: float) -> None:
        self.reading.turns.tell(Throttled(self.id, why, seconds))

    def _look_up(self) -> _Listed | None:
        """How the shard is listed now; None when it isn't any more."""
        return next((one for one in self.reading.shards_of(self.listed.arn) if one.id == self.id), None)

    # --- where to begin

    def _begin(self) -> Literal["LATEST", "TRIM_HORIZON", "AFTER_SEQUENCE_NUMBER"] | None:
        """How to begin; None when the shard has been read to its end before."""
        before = [parent for parent in map(self.reading.shards.get, self.parents) if parent is not None]
        # Whatever is there when a stream is first seen has no past that counts, whichever shard it stands in.
        is_first = self._is_first and all(parent.began_latest for parent in before)
        start = self.reading.where(Shard(self.id, () if is_first else self.parents))
        starting, ending = self.listed.starting, self.listed.ending
        match start:
            case After(position, as_of):
                self._position, self._as_of = position, as_of
                if ending is not None and position >= ending:
                    self._end()
                    return None
                if starting is None or position >= starting:
                    return "AFTER_SEQUENCE_NUMBER"
                # Noted when nothing had come yet: no sequence number of this shard.
                if not self._is_fresh(as_of):
                    self._lost_after = position
            case From(moment):
                self._moment = moment
                self._is_from_oldest = moment == EVERYTHING
            case Oldest(has_landed):
                self._look_back(has_landed=has_landed)
                self._is_from_oldest = True
                self.reading.turns.tell(Began(self.id, EVERYTHING))
            case Latest():
                self.began_latest = True
                self._moment = self.reader.clock()
                if ending is None:
                    return "LATEST"
                self.reading.turns.tell(Began(self.id, self._moment))
                self._end()
                return None
        return "TRIM_HORIZON"

    def _look_back(self, *, has_landed: bool) -> None:
        """Tell what is gone when the shard that this one comes from was trimmed before it was read to its end."""
        parent = self.listed.parent
        if parent is None or parent in self.reading.shards or self.listed.starting is None or self.reading.only:
            return
        first, last = 0, self.listed.starting - 1
        match self.reading.where(Shard(parent)):
            case After(position, as_of):
                if position >= last or self._is_fresh(as_of):
                    return
                first = position + 1
            case From():
                pass
            case _:
                if not has_landed or self.reading.is_any_known():
                    return
        self.reading.turns.tell(
            Gone(parent, Span(first, last), f"the shard is gone and wasn't read to its end: {_TRIMMED}")
        )
        self.reading.turns.tell(Ended(parent))

    def _is_fresh(self, as_of: datetime | None) -> bool:
        """Whether nothing can be lost that came after a moment at which nothing had come."""
        return as_of is not None and self.reader.clock() - as_of < RETENTION

    def _new_iterator(self) -> str:
        assert self._way is not None
        request: GetShardIteratorInputTypeDef = {
            "StreamArn": self.listed.arn,
            "ShardId": self.id,
            "ShardIteratorType": self._way,
        }
        if self._way == "AFTER_SEQUENCE_NUMBER":
            request["SequenceNumber"] = str(self._position).zfill(FEWEST_DIGITS)
        iterator = self.reading.streams.get_shard_iterator(**request)["ShardIterator"]
        if self._way == "LATEST":
            assert self._moment is not None
            self.reading.turns.tell(Began(self.id, self._moment))
            self._way = "TRIM_HORIZON"  # another iterator is to give what has come since
        return iterator

    # --- reading

    def _read(self) -> float | None:
        assert self._iterator is not None
        asked_at = self.reader.clock()
        self._last_read = time.monotonic()
        answer = self.reading.streams.get_records(ShardIterator=self._iterator)
        following: str | None = answer.get("NextShardIterator")
        self._iterator = following
        found = answer.get("Records", [])
        numbers = [int(record["dynamodb"]["SequenceNumber"]) for record in found]
        moments = [micros_of(record, asked_at) for record in found]
        begin, end = 0, len(found)
        if self._position is not None:
            begin = bisect_right(numbers, self._position)
        if self._moment is not None:
            while begin < end and is_before(moment_of(moments[begin]), self._moment):
                begin += 1
            if begin < end:
                self._moment = None
        if self.reading.until is not None:
            # What comes after the first that is too new is left for the next time, whatever its moment: nothing is left out between.
            until = micros_since_epoch(self.reading.until)
            end = next((at for at in range(begin, end) if moments[at] >= until), end)
        if begin < end:
            self._give(found[begin:end], numbers[begin:end], moments[begin:end])
        if end:
            self._position = max(numbers[end - 1], self._position or 0)
            self._way, self._as_of = "AFTER_SEQUENCE_NUMBER", None
        if end < len(found):
            assert self.reading.until is not None
            self._caught_up(self.reading.until)
            return None
        if following is None:
            self._end()
            return None
        if found:
            self._empty = 0
            return self.reader.pause_seconds
        return self._nothing(asked_at)

    def _nothing(self, asked_at: datetime) -> float | None:
        """What follows from an empty answer."""
        if self.listed.ending is not None:
            # Closed: its records may come after any number of these, and its end is told.
            return self.reader.pause_seconds
        until = self.reading.until
        if not self._empty or (until is not None and self._empty_since < until):
            self._empty, self._empty_since = 0, asked_at
        self._empty += 1
        if self._empty < self.reader.empty_reads:
            return self.reader.pause_seconds
        self._as_of = self._empty_since
        if self.listed.is_disabled:
            self._end()
            return None
        if until is not None:
            self._caught_up(self._empty_since)
            return None
        if time.monotonic() - self._told_caught_up > _CAUGHT_UP_SECONDS or self._empty == self.reader.empty_reads:
            self._caught_up(self._empty_since)
        self._empty_since = asked_at
        return min(1.0, self.reader.pause_seconds * (1 << min(self._empty - self.reader.empty_reads, 3)))

    def _give(self, records: Sequence[Any], numbers: Sequence[int], moments: Sequence[int]) -> None:
        first, last = numbers[0], numbers[-1]
        if self._lost_after is not None:
            if first > self._lost_after + 1:
                self.reading.turns.tell(Gone(self.id, Span(self._lost_after + 1, first - 1), _TRIMMED))
            self._lost_after = None
        batch, size = envelope(records, moments)
        self.reading.turns.tell(Arrived(self.id, batch, first, last, size), size)
        if time.monotonic() - self._told_behind > _BEHIND_SECONDS:
            self._told_behind = time.monotonic()
            behind = (self.reader.clock() - moment_of(moments[-1])).total_seconds()
            self.reading.turns.tell(Behind(self.id, None, max(behind, 0.0)))

    def _caught_up(self, as_of: datetime) -> None:
        self._told_caught_up = time.monotonic()
        position = None
        if self._is_from_oldest and self._position is None and self.listed.starting is not None:
            position = self.listed.starting - 1
        self.reading.turns.tell(Behind(self.id, None, 0.0))
        self.reading.turns.tell(CaughtUp(self.id, as_of, position))

    def _end(self) -> None:
        was_open = self.listed.ending is None and not self.listed.is_disabled
        if was_open and not self._is_missing:
            # Told with the number at which it ended, it is known to have come whole.
            self.listed = self._look_up() or self.listed
        ending = self.listed.ending
        if self._lost_after is not None and ending is not None and ending > self._lost_after:
            self.reading.turns.tell(Gone(self.id, Span(self._lost_after + 1, ending), _TRIMMED))
        self.reading.turns.tell(Behind(self.id, None, 0.0))
        self.reading.turns.tell(CaughtUp(self.id, self.reader.clock(), ending))
        self.reading.turns.tell(Ended(self.id))
        self.reading.ended(self, is_news=was_open)


def _number(text: str | None) -> int | None:
    return int(text) if text else None


def _refusal(where: str, error: ClientError) -> SourceError:
    """What the service refuses, in words that help."""
    code = aws.code_of(error)
    told = f"{where}: {aws.told(error)}"
    if code == "ResourceNotFoundException":
        return SourceError(f"{told}: there is no such table or stream", f"check name and AWS_REGION; or {_ENABLE}")
    if code in ("AccessDeniedException", "AccessDenied"):
        return SourceError(told, _RIGHTS)
    if code in (
        "UnrecognizedClientException",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "IncompleteSignature",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "MissingAuthenticationTokenException",
    ) or aws.status_of(error) in (401, 403):
        return SourceError(told, f"{_CREDENTIALS}; and this machine's clock")
    return SourceError(f"{told}: {aws.message_of(error)}", "see whether this server knows the request")
