"""
What the behaviour suite needs of every kind of stream: somebody who writes into it, and somebody who reads it; and what only some kinds
can be made to do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ingestion_platform.sources.reading import StreamReader
from ingestion_platform.stream import Stream


@dataclass(frozen=True)
class Put:
    """A record as its producer knows it: the value is unique in a test, and ascends for each key."""

    key: str
    value: bytes


class StreamWorld(Protocol):
    """A real stream of one kind on a server of its own, empty at first."""

    kind: str

    def declared(self, **changes: object) -> Stream:
        """The declaration of the stream."""
        ...

    def reader(self) -> StreamReader:
        """A new reader of it."""
        ...

    def put(self, records: Sequence[Put]) -> None:
        """Write records, in this order; those of a key land in one shard."""
        ...

    def value_of(self, value: bytes) -> bytes:
        """What was put, told from the value of the record that came of it; most kinds give it as it is."""
        ...


@runtime_checkable
class Splitting(StreamWorld, Protocol):
    """One in which the number of shards can grow."""

    def split(self) -> None:
        """Make more shards of those there are."""
        ...


@runtime_checkable
class Forgetting(StreamWorld, Protocol):
    """One whose server can be made to drop old records."""

    def forget(self) -> None:
        """Drop everything that has been written so far, as retention does."""
        ...
