"""
Kinesis for the behaviour suite and for tests of its own: moto (fast; never splits) and kinesalite (sequence numbers and closed shards as
on AWS).

Belongs here: servers, streams, producers. Doesn't: faults (`kinesis_faults.py`).
"""

import json
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from boto3.session import Session
from botocore.config import Config

from ingestion_platform.aws import Waits
from ingestion_platform.sources.kinesis import KinesisReader, Pace
from ingestion_platform.stream import Kinesis, Stream
from ingestion_platform_tests.sources.kinesis_faults import Answer, Faults, Request, Server, at, moto, serve
from ingestion_platform_tests.sources.world import Put

if TYPE_CHECKING:
    from types_boto3_kinesis import KinesisClient

KINESALITE = Path(__file__).resolve().parents[2] / ".servers" / "kinesalite"
"""Where `scripts/servers/kinesalite.sh` installs it."""

FAST = Pace(read_seconds=0.02, bytes_per_second=1024**3, idle_seconds=0.05, list_seconds=0.2, caught_up_seconds=0.1)
"""For servers that have no limits."""
PATIENT = Waits(attempts=12, first_seconds=0.01, longest_seconds=0.05)


def puts(first: int, last: int, keys: int = 8) -> list[Put]:
    """Numbered records, the last not included."""
    return [Put(f"k{number % keys}", f"{number:06}".encode()) for number in range(first, last)]


def numbered(first: int, last: int) -> list[bytes]:
    """Their values."""
    return [put.value for put in puts(first, last)]


@cache
def client(url: str) -> "KinesisClient":
    """A client for producers, that tries again by itself."""
    return _session().client("kinesis", endpoint_url=url, config=_config(attempts=5))


@cache
def plain_client(url: str) -> "KinesisClient":
    """A client for the platform, that leaves trying again to it."""
    return _session().client("kinesis", endpoint_url=url, config=_config(attempts=1))


@cache
def _session() -> Session:
    return Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name="us-east-1")


def _config(*, attempts: int) -> Config:
    return Config(
        retries={"total_max_attempts": attempts, "mode": "standard"}, max_pool_connections=32, read_timeout=30
    )


class KinesisWorld:
    """
    A stream on a running server; see `StreamWorld`.

    Attributes:
        url: of the server.
        faults: what the server does wrong.
        client: a producer's.
        stream: the stream's name.
    """

    kind = "kinesis"

    def __init__(self, url: str, faults: Faults, *, shards: int = 2) -> None:
        self.url = url
        self.faults = faults
        self.client = client(url)
        self.stream = f"pos-{uuid4().hex[:12]}"
        self.pace = FAST
        self._plain = plain_client(url)
        self.client.create_stream(StreamName=self.stream, ShardCount=shards)
        self.wait()

    def declared(self, **changes: object) -> Stream:
        """The declaration of the stream."""
        wanted: dict[str, Any] = {"name": "pos", "description": "x", "first_day": date(2024, 10, 1), **changes}
        begin = wanted.pop("begin", "oldest")
        return Stream(source=Kinesis(stream=self.stream, begin=begin), **wanted)

    def reader(self, **changes: Any) -> KinesisReader:
        """A new reader of it."""
        named: dict[str, Any] = {"client": self._plain, "pace": self.pace, "waits": PATIENT, **changes}
        return KinesisReader(Kinesis(stream=self.stream), **named)

    def slowly(self, **changes: Any) -> None:
        """Readers made from now on keep this pace."""
        self.pace = replace(self.pace, **changes)

    def put(self, records: Sequence[Put]) -> None:
        """Write records, in this order; those of a key land in one shard."""
        for begin in range(0, len(records), 500):
            some = records[begin : begin + 500]
            told = self.client.put_records(
                StreamName=self.stream, Records=[{"Data": one.value, "PartitionKey": one.key} for one in some]
            )
            assert told["FailedRecordCount"] == 0

    def value_of(self, value: bytes) -> bytes:
        """See `StreamWorld.value_of`."""
        return value

    def wait(self) -> None:
        """Wait until the stream is active."""
        until = time.monotonic() + 30
        while self._status() != "ACTIVE":
            assert time.monotonic() < until, "the stream never became active"
            time.sleep(0.01)

    def _status(self) -> str:
        return self.client.describe_stream_summary(StreamName=self.stream)["StreamDescriptionSummary"]["StreamStatus"]


class MotoWorld(KinesisWorld):
    """The stream on moto: positions count from 1; shards are better not split (moto puts their records in again)."""

    def forget(self) -> None:
        """Drop everything that has been written so far, and let the stream be older than its retention."""
        from moto.core.models import DEFAULT_ACCOUNT_ID
        from moto.kinesis.models import kinesis_backends

        stream = kinesis_backends[DEFAULT_ACCOUNT_ID]["us-east-1"].streams[self.stream]
        stream.creation_datetime -= timedelta(days=30)
        for shard in stream.shards.values():
            shard.records = _Trimmed(shard.get_max_sequence_number())


class _Trimmed(dict[int, Any]):
    """The records of a shard that has forgotten some: it numbers on from there."""

    def __init__(self, last: int) -> None:
        super().__init__()
        self._last = last

    def __bool__(self) -> bool:
        return True

    def keys(self) -> Any:
        return super().keys() if len(self) else [self._last]

    def values(self) -> Any:
        return super().values() if len(self) else [SimpleNamespace(created_at=float("inf"))]


class KinesaliteWorld(KinesisWorld):
    """The stream on kinesalite: shards split and merge, and closed ones end."""

    def split(self) -> None:
        """Split every open shard in the middle."""
        for shard in self.open_shards():
            self.split_one(shard)

    def split_one(self, shard: dict[str, Any]) -> None:
        """Split one shard in the middle."""
        keys = shard["HashKeyRange"]
        middle = (int(keys["StartingHashKey"]) + int(keys["EndingHashKey"])) // 2
        self.client.split_shard(StreamName=self.stream, ShardToSplit=shard["ShardId"], NewStartingHashKey=str(middle))
        self.wait()

    def merge(self) -> None:
        """Merge the two open shards with the lowest keys."""
        one, other = self.open_shards()[:2]
        self.client.merge_shards(
            StreamName=self.stream, ShardToMerge=one["ShardId"], AdjacentShardToMerge=other["ShardId"]
        )
        self.wait()

    def open_shards(self) -> list[dict[str, Any]]:
        """Shards that take records, by the keys that they take."""
        shards = self.client.list_shards(StreamName=self.stream)["Shards"]
        found: list[dict[str, Any]] = [
            dict(shard) for shard in shards if not shard["SequenceNumberRange"].get("EndingSequenceNumber")
        ]
        return sorted(found, key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))


@contextmanager
def moto_server() -> Iterator[tuple[str, Faults]]:
    """Moto behind faults."""
    with serve(moto()) as served:
        client(served[0]).list_streams()  # moto imports its Kinesis at the first request
        yield served


def _answering(port: int) -> Server:
    """Kinesalite, which never answers when it is asked for an iterator at a moment after which nothing came: that is the latest one."""
    server, hasty = at(port), at(port, timeout=0.5)

    def answer(request: Request) -> Answer:
        if request.operation != "GetShardIterator" or request.arguments["ShardIteratorType"] != "AT_TIMESTAMP":
            return server(request)
        try:
            return hasty(request)
        except TimeoutError:
            asked = {name: value for name, value in request.arguments.items() if name != "Timestamp"}
            asked["ShardIteratorType"] = "LATEST"
            return server(Request(request.operation, request.headers, json.dumps(asked).encode()))

    return answer


@contextmanager
def kinesalite_server() -> Iterator[tuple[str, Faults]]:
    """Kinesalite behind faults, in a process of its own that ends with the context."""
    with subprocess.Popen(
        ["node", "serve.js"], cwd=KINESALITE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            port = int(process.stdout.readline())
            threading.Thread(target=process.stdout.read, daemon=True).start()
            with serve(_answering(port)) as served:
                yield served
        finally:
            process.stdin.close()
            process.wait(timeout=10)
