"""
Messages of Kafka as record batches, column by column.

Belongs here: what a message is in the envelope. Doesn't: reading them (`kafka.py`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from confluent_kafka import Message

from ingestion_platform.formats.segments import DENSE_ENVELOPE

Offsets = npt.NDArray[np.int64]

_OLDEST_MS = 946_684_800_000
"""2000-01-01: Kafka is younger. What claims to be older was stamped by a wrong clock, or not at all."""
_NEWEST_MS = 253_402_300_799_999
"""The end of year 9999: Python and SQL know no later one."""

UNREADABLE = "@unreadable"
"""The one header that a record has whose headers the client can't read: one of their names isn't UTF-8."""

_HEADERS = DENSE_ENVELOPE.field("headers").type
_HEADER = _HEADERS.value_type


@dataclass(frozen=True, slots=True)
class Messages:
    """
    Messages of one partition, in order, and what is asked of them more than once.

    Args:
        messages: without errors.
        offsets: theirs.
        arrived_us: when each was taken, microseconds since 1970.
    """

    messages: Sequence[Message]
    offsets: Offsets
    arrived_us: Offsets

    def __len__(self) -> int:
        return len(self.messages)

    def slice(self, first: int, after: int) -> "Messages":
        """Some of them."""
        if first == 0 and after == len(self.messages):
            return self
        return Messages(self.messages[first:after], self.offsets[first:after], self.arrived_us[first:after])


def in_order(messages: Sequence[Message], earlier_us: int | None, now_us: int) -> Messages:
    """
    The messages with their offsets and times.

    Where reading was set back among them, only those after that count: it comes to the others again.

    Args:
        messages: of one partition, as the client gave them.
        earlier_us: time of the message before them.
        now_us: this moment: the time of a message without a usable one, when there is none before it.
    """
    offsets = np.fromiter(map(Message.offset, messages), np.int64, len(messages))
    back = np.flatnonzero(offsets[1:] <= offsets[:-1])
    if back.size:
        messages, offsets = messages[back[-1] + 1 :], offsets[back[-1] + 1 :]
    return Messages(messages, offsets, _arrived(messages, now_us if earlier_us is None else earlier_us))


def _arrived(messages: Sequence[Message], before_us: int) -> Offsets:
    """
    Microseconds since 1970.

    Producers set what they like, also nothing, or a year that no calendar has. Such a message came when the one before it did.
    """
    moments = np.array([message.timestamp()[1] for message in messages], np.int64)
    is_usable = (moments >= _OLDEST_MS) & (moments <= _NEWEST_MS)
    if is_usable.all():
        return moments * 1000
    places = np.maximum.accumulate(np.where(is_usable, np.arange(len(moments)), -1))
    return np.where(places >= 0, np.where(is_usable, moments, 0)[places] * 1000, before_us)


def as_batch(some: Messages, schema_of: Callable[[bytes], str | None] | None = None) -> tuple[pa.RecordBatch, int]:
    """
    A record batch of `DENSE_ENVELOPE`, and the size of keys, headers and values in bytes.

    Args:
        some: at least one.
        schema_of: the name of the schema of a value, told by its first five bytes.
    """
    rows = len(some)
    values = list(map(Message.value, some.messages))
    value = pa.array(values, pa.binary())
    key = pa.array(list(map(Message.key, some.messages)), pa.binary())
    headers = _headers(_headers_of(some.messages))
    schema: Any
    if schema_of is None:
        schema = pa.nulls(rows, pa.string())
    else:
        schema = pa.array([schema_of(one[:5]) if one is not None else None for one in values], pa.string())
    columns: list[Any] = [
        pa.array(some.offsets),
        pa.nulls(rows, pa.int32()),
        pa.array(some.arrived_us).cast(pa.timestamp("us", tz="UTC")),
        key,
        headers,
        value,
        schema,
    ]
    size = value.nbytes + key.nbytes + (headers.nbytes if headers.null_count < rows else 0)
    return pa.RecordBatch.from_arrays(columns, schema=DENSE_ENVELOPE), size


def _headers_of(messages: Sequence[Message]) -> list[Any]:
    """
    The headers of each message.

    The client fails at a name that isn't UTF-8, keeps a list with a hole in it, and would end the process when it is looked at: so each
    message is asked once, and through `map`, which notices that a call gave a result and an error. (A hot loop of Python 3.11's doesn't.)
    """
    found: list[Any] = []
    rest = iter(messages)
    while True:
        try:
            found.extend(map(Message.headers, rest))
            return found
        except (SystemError, UnicodeDecodeError):
            found.append([(UNREADABLE, None)])


def _headers(headers: Sequence[Any]) -> Any:
    if not any(headers):
        return pa.nulls(len(headers), _HEADERS)
    names: list[str] = []
    values: list[bytes | None] = []
    ends = [0]
    for some in headers:
        for name, value in some or ():
            names.append(name)
            values.append(value)
        ends.append(len(names))
    return pa.ListArray.from_arrays(
        pa.array(ends, pa.int32()),
        pa.StructArray.from_arrays(
            [pa.array(names, pa.string()), pa.array(values, pa.binary())], fields=[_HEADER.field(0), _HEADER.field(1)]
        ),
        type=_HEADERS,
        mask=pa.array([not some for some in headers]),
    )
