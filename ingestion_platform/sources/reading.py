"""
What every kind of stream can do, and what it tells while it is read: the contract between a stream's reader and the drain.

Belongs here: plain values and one protocol. Doesn't: a client of anything (`kinesis.py`, `kafka.py`, `dynamodb_streams.py`), what is
done with
records (`drain.py`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeAlias, runtime_checkable

import pyarrow as pa

from ingestion_platform.stream import Span

# --- where to begin


@dataclass(frozen=True, slots=True)
class Shard:
    """
    An ordered part of a stream: a shard, a partition.

    Args:
        id: its name in the source.
        parents: shards that must have been read to their end before this one, so that the order of each key is kept.
    """

    id: str
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class After:
    """
    Go on after what has landed.

    Args:
        position: the last one that has landed, or is known to be gone.
        as_of: UTC; at that moment nothing had come after it. None when that isn't known.
    """

    position: int
    as_of: datetime | None = None


@dataclass(frozen=True, slots=True)
class From:
    """
    Begin with the first record that arrived at or after a moment (UTC).

    Args:
        moment: from when on.
        is_remembered: an earlier drain began there (`Began`), and nothing has landed since: whatever arrived from then on should be there.
    """

    moment: datetime
    is_remembered: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Oldest:
    """
    Begin with the oldest record that there is.

    Args:
        has_landed: something of the stream has landed before, of other shards.
    """

    has_landed: bool = False


@dataclass(frozen=True, slots=True)
class Latest:
    """Begin with whatever comes next."""


@dataclass(frozen=True, slots=True)
class Anew:
    """
    Begin anew, though something has landed: what has happened since is gone, and somebody has decided to go on without it.

    Args:
        position: the last one that has landed.
    """

    position: int


Start: TypeAlias = After | From | Oldest | Latest | Anew

Where: TypeAlias = Callable[[Shard], Start]
"""Asked for each shard when its reading begins, from any thread; told from the landing zone, so it may take a while."""

# --- what a reader tells


@dataclass(frozen=True, slots=True)
class Arrived:
    """
    Records of one shard, in order.

    Args:
        shard: whose.
        records: of `formats.segments.ENVELOPE` or `DENSE_ENVELOPE`; positions ascend, and those of one batch come after all before it.
            Parts of one position are never split between batches.
        first: position of the first record.
        last: position of the last one.
        size_bytes: of keys, headers and values, roughly.
        goes_on: what belongs together with the last record comes next: a transaction's changes stand in one segment, unless they are many.
        schemas: name → writer's schema, of the names that `records` has in `schema`.
    """

    shard: str
    records: pa.RecordBatch
    first: int
    last: int
    size_bytes: int
    schemas: Mapping[str, str] = field(default_factory=dict)
    goes_on: bool = False


@dataclass(frozen=True, slots=True)
class Began:
    """
    A shard that nothing has landed of is read from here on; told before its first record. What was chosen is then remembered in the
    landing zone,
    so that a start at `latest` isn't chosen again after a kill.

    Args:
        shard: which.
        at: the position before the first record, where that is known (Kafka), or the moment from which on records are read.
    """

    shard: str
    at: int | datetime


@dataclass(frozen=True, slots=True)
class Behind:
    """
    How far behind the newest record of its shard the reader is.

    Args:
        shard: which.
        records: None when the source doesn't tell.
        seconds: 0.0 at the newest record.
        kept_bytes: of a log: what of it the source keeps until the reader has confirmed it, or, where it keeps nothing for a reader, what
            the reader hasn't read. None when the source has no log.
    """

    shard: str
    records: int | None
    seconds: float
    kept_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """
    A shard has given all that it had at a moment. Told once a shard when reading up to a moment, and now and then when following.

    Args:
        shard: which.
        as_of: UTC; whatever has not been given arrived later.
        position: of the last record there is, or was, when the source tells; whatever is missing up to it never was a record.
    """

    shard: str
    as_of: datetime
    position: int | None = None


@dataclass(frozen=True, slots=True)
class Passed:
    """
    The source has gone on to a position, and up to it there is no record but those that have come: what has come is to land, and the
    position to be noted, before the reader is asked for more.
    """

    shard: str
    position: int


@dataclass(frozen=True, slots=True)
class Settle:
    """What has come is to land, and to be confirmed (`Confirmed`), before the reader is asked for more."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A closed shard has been read to its end: nothing will ever come of it again."""

    shard: str


@dataclass(frozen=True, slots=True)
class Released:
    """A shard is now read by somebody else: what is held of it is to land at once."""

    shard: str


@dataclass(frozen=True, slots=True)
class Gone:
    """
    Records that should be there aren't.

    Args:
        shard: whose.
        span: positions after the last that landed, up to the one before the next that there is. Empty: there is no next one, and nobody
            knows how much is gone.
        why: in words.
    """

    shard: str
    span: Span
    why: str


@dataclass(frozen=True, slots=True)
class Throttled:
    """The source asked to go slower, and that was done; or it failed, and is asked again."""

    shard: str
    why: str
    waited_seconds: float


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing has come for a moment. Told every second or more often while there is nothing else to tell."""


Event: TypeAlias = Arrived | Began | Behind | CaughtUp | Passed | Settle | Ended | Released | Gone | Throttled | Idle


class StreamReader(Protocol):
    """One stream of any kind, open for reading. Opening it does nothing; `read` connects."""

    def read(self, where: Where, *, until: datetime | None, shards: Sequence[str] = ()) -> Iterator[Event]:
        """
        Yield what there is of every shard, shards in parallel, until each is caught up.

        Holds a bounded number of records. Closing the iterator ends every thread and connection. Records are given at least once a call and
        in order within a shard.

        Args:
            where: says where to begin in a shard.
            until: UTC; a shard is caught up when it has given everything that arrived before. None: goes on without end.
            shards: only these; none: all that there are, and all that appear.

        Raises:
            SourceUnavailable: no answer after every attempt.
            SourceError: the stream isn't there, or access is refused.
        """
        ...


@runtime_checkable
class Confirmed(Protocol):
    """A reader whose source keeps records until it is told that they have landed."""

    def confirm(self, shard: str, position: int) -> None:
        """
        Take note that a shard has safely landed up to a position, or is known to have nothing there.

        Told by the thread that takes the events.
        """
        ...
