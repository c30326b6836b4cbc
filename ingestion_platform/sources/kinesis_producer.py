"""
Writing into a Kinesis stream: for the demo, for tests, and for whoever has records to send.

Belongs here: requests, sending again exactly what failed, and where records go that can't be sent. Doesn't: reading (`kinesis.py`).

PutRecords takes what it can: a record that it refuses comes later than those behind it that it took. So that the records of a key stay in
order, a request has no more than one record of each key, or (`is_aggregated`) those of a key put together into one record as the Kinesis
Producer Library does. Either way a record may arrive twice: when an answer is lost, nobody knows whether the request was done.
"""

import base64
import json
import os
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion_platform.aws import Waits, told
from ingestion_platform.sources.kinesis_client import FAILURES, is_passing, new_client, refusal
from ingestion_platform.sources.kpl import Part, put_together

if TYPE_CHECKING:
    from types_boto3_kinesis import KinesisClient

REQUEST_RECORDS = 500
REQUEST_BYTES = 5 * 1024**2
"""Of data and keys together. AWS takes twice that since records may be large; others don't, and a larger request gains nothing."""
RECORD_BYTES = 1024**2
"""Of data and key of one record, unless the stream was told to take larger ones (10 MiB at most)."""
AGGREGATED_BYTES = 50 * 1024
"""An aggregated record is closed at this size, as the Kinesis Producer Library closes its own."""
KEY_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class Outgoing:
    """
    A record to be sent.

    Args:
        key: its partition key, 1 to 256 characters.
        data: its bytes.
        hash_key: decides on the shard instead of the key; decimal.
    """

    key: str
    data: bytes
    hash_key: str | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that wasn't sent, and why."""

    record: Outgoing
    why: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Sent:
    """
    What became of records.

    Args:
        sent: how many the stream has taken.
        retried: how often one was sent again.
        dead: those that it hasn't taken, in order.
        dead_letters: the file that they have been written to.
    """

    sent: int
    retried: int
    dead: tuple[DeadLetter, ...]
    dead_letters: Path | None

    @property
    def failed(self) -> int:
        """How many weren't sent."""
        return len(self.dead)


@dataclass(slots=True)
class _Waiting:
    """A record of the stream that is to be sent, and those of the caller that are in it."""

    key: str
    hash_key: str | None
    data: bytes
    records: Sequence[Outgoing]
    attempts: int = 0
    why: str = ""

    @property
    def size_bytes(self) -> int:
        return len(self.data) + len(self.key.encode())


@dataclass(slots=True)
class _Lanes:
    """Records waiting by key; only the first of each may be sent."""

    lanes: dict[tuple[str, str | None], deque[_Waiting]] = field(default_factory=dict)

    def add(self, waiting: _Waiting) -> None:
        self.lanes.setdefault((waiting.key, waiting.hash_key), deque()).append(waiting)

    def request(self) -> list[_Waiting]:
        """The first of as many keys as a request may hold. Who was in one goes to the end of the line."""
        found: list[_Waiting] = []
        size = 0
        for lane in self.lanes.values():
            first = lane[0]
            if len(found) == REQUEST_RECORDS or (found and size + first.size_bytes > REQUEST_BYTES):
                break
            found.append(first)
            size += first.size_bytes
        for one in found:
            name = (one.key, one.hash_key)
            self.lanes[name] = self.lanes.pop(name)
        return found

    def done(self, waiting: _Waiting) -> None:
        name = (waiting.key, waiting.hash_key)
        lane = self.lanes[name]
        lane.popleft()
        if not lane:
            del self.lanes[name]


class KinesisProducer:
    """
    Sends records to one stream. Not for several threads at once.

    Args:
        stream: its name, or its ARN.
        client: of Kinesis; None: made at the first record, from what boto3 finds.
        waits: how often a record is sent, and what is waited in between.
        dead_letters: where records are added that couldn't be sent, a JSON object a line: `stream`, `key`, `hash_key`, `data_base64`,
            `why`, `attempts`, `at`. None: they are only in what `put` gives.
        is_aggregated: put records of a key together, as many as fit into 50 KiB.
        record_bytes: the largest record that the stream takes, its key included.
    """

    def __init__(
        self,
        stream: str,
        *,
        client: "KinesisClient | None" = None,
        waits: Waits | None = None,
        dead_letters: Path | None = None,
        is_aggregated: bool = False,
        record_bytes: int = RECORD_BYTES,
    ) -> None:
        self._stream: dict[str, Any] = {"StreamARN" if stream.startswith("arn:") else "StreamName": stream}
        self._name = stream
        self._client = client
        self._waits = waits or Waits()
        self._dead_letters = dead_letters
        self._is_aggregated = is_aggregated
        self._record_bytes = record_bytes

    def put(self, records: Iterable[Outgoing]) -> Sent:
        """
        Send records, those of a key in order, until each is taken or given up.

        Raises:
            SourceError: the stream isn't there, or access is refused. What wasn't sent is in the dead-letter file.
        """
        if self._client is None:
            self._client = new_client()
        dead: list[DeadLetter] = []
        lanes = _Lanes()
        sent = retried = failures = 0
        try:
            self._fill(lanes, records, dead)
            while request := lanes.request():
                retried += sum(1 for one in request if one.attempts)
                taken = self._send(request)
                sent += sum(len(one.records) for one in taken)
                for one in taken:
                    lanes.done(one)
                left = [one for one in request if one.why]
                for one in left:
                    if one.attempts >= self._waits.attempts:
                        dead += [DeadLetter(record, one.why, one.attempts) for record in one.records]
                        lanes.done(one)
                failures = failures + 1 if left else 0
                if failures:
                    # What is throttled is the shard, so whoever was taken goes on behind the same wait.
                    time.sleep(self._waits.after(failures))
        except BaseException as error:  # ended by hand, too
            why = told(error)
            dead += [
                DeadLetter(record, why, one.attempts)
                for lane in lanes.lanes.values()
                for one in lane
                for record in one.records
            ]
            raise
        finally:
            self._bury(dead)
        return Sent(sent, retried, tuple(dead), self._dead_letters if dead else None)

    def _fill(self, lanes: _Lanes, records: Iterable[Outgoing], dead: list[DeadLetter]) -> None:
        """Records by key; those that the stream would refuse, and the whole request with them, aren't sent at all."""
        gathered: dict[tuple[str, str | None], list[Outgoing]] = {}
        sizes: dict[tuple[str, str | None], int] = {}

        def close(name: tuple[str, str | None]) -> None:
            some = gathered.pop(name)
            parts = [
                Part(one.key.encode(), one.data, one.hash_key.encode() if one.hash_key is not None else None)
                for one in some
            ]
            lanes.add(_Waiting(*name, put_together(parts) if len(some) > 1 else some[0].data, some))

        try:
            for record in records:
                why = self._misfit(record)
                if why:
                    dead.append(DeadLetter(record, why, 0))
                elif self._is_aggregated:
                    name = (record.key, record.hash_key)
                    size = len(record.data) + 32
                    if name in gathered and sizes[name] + size > AGGREGATED_BYTES:
                        close(name)
                    sizes[name] = size + (sizes[name] if name in gathered else 2 * len(record.key.encode()) + 64)
                    gathered.setdefault(name, []).append(record)
                else:
                    lanes.add(_Waiting(record.key, record.hash_key, record.data, (record,)))
        finally:
            # Those that came before one that can't be had aren't forgotten.
            for name in list(gathered):
                close(name)

    def _misfit(self, record: Outgoing) -> str:
        if not 1 <= len(record.key) <= KEY_CHARACTERS:
            return f"a partition key has 1 to {KEY_CHARACTERS} characters, not {len(record.key)}"
        try:
            size = len(record.data) + len(record.key.encode())
        except UnicodeEncodeError:
            return "a partition key is text, and half of a surrogate pair isn't"
        if size > self._record_bytes:
            return f"a record has at most {self._record_bytes:,} bytes with its key, not {size:,}"
        return ""

    def _send(self, request: Sequence[_Waiting]) -> list[_Waiting]:
        """Send once: those that were taken. The others know why not."""
        entries: list[Any] = []
        for one in request:
            entries.append({"Data": one.data, "PartitionKey": one.key})
            if one.hash_key is not None:
                entries[-1]["ExplicitHashKey"] = one.hash_key
            one.attempts += 1
        assert self._client is not None
        try:
            answer = self._client.put_records(**self._stream, Records=entries)
        except FAILURES as error:
            if not is_passing(error):
                raise refusal(f"Kinesis stream {self._name}: putting records", error) from error
            for one in request:
                one.why = told(error)
            return []
        for one, result in zip(request, answer["Records"], strict=True):
            one.why = str(result.get("ErrorCode") or "")
        return [one for one in request if not one.why]

    def _bury(self, dead: Sequence[DeadLetter]) -> None:
        """Add records to the dead-letter file; they are on the disk when this ends."""
        if not dead or self._dead_letters is None:
            return
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        lines = [
            json.dumps(
                {
                    "stream": self._name,
                    "key": one.record.key,
                    "hash_key": one.record.hash_key,
                    "data_base64": base64.b64encode(one.record.data).decode(),
                    "why": one.why,
                    "attempts": one.attempts,
                    "at": at,
                }
            )
            for one in dead
        ]
        with self._dead_letters.open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
