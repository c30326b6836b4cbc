"""
Reading a Kinesis stream: what the platform adds to the bare client's `get_records`.

    scripts/servers/kinesalite.sh
    .venv/bin/python benchmarks/kinesis.py                  # 100,000 events of 300 bytes in 4 shards, on kinesalite
    .venv/bin/python benchmarks/kinesis.py --server moto    # on moto's own server
    .venv/bin/python benchmarks/kinesis.py --aggregated     # put together by the producer, and taken apart

All sides read the same stream from the same server, in turns, `--rounds` times; what counts is the ratio of the medians. The limit is a
loop of `get_records` in a thread for each shard that only counts records. Ours are the reader by itself, and the whole drain into segments
on disk. The pace that Kinesis demands (2 MiB a second and shard) is off, but for the last line, which shows what it allows.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from boto3.session import Session
from botocore.config import Config

from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.sources.drain import Drain
from ingestion_platform.sources.kinesis import KinesisReader, Pace
from ingestion_platform.sources.kinesis_producer import KinesisProducer, Outgoing
from ingestion_platform.sources.landed import LandedStream
from ingestion_platform.sources.reading import Arrived, Oldest
from ingestion_platform.stream import Kinesis, Stream

ROOT = Path(__file__).resolve().parent.parent
UNLIMITED = Pace(read_seconds=0, bytes_per_second=1e12)


@contextmanager
def served(kind: str) -> Iterator[str]:
    """A server in a process of its own: its URL."""
    if kind == "kinesalite":
        command, folder = ["node", "serve.js"], ROOT / ".servers" / "kinesalite"
    else:
        program = (
            "import sys, threading\n"
            "from moto.server import ThreadedMotoServer\n"
            "server = ThreadedMotoServer('127.0.0.1', 0, verbose=False)\n"
            "server.start()\n"
            "print(server.get_host_and_port()[1], flush=True)\n"
            "sys.stdin.read()\n"
            "server.stop()\n"
        )
        command, folder = [sys.executable, "-c", program], ROOT
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()
            process.wait(timeout=20)


def limit(client: Any, stream: str) -> int:
    """Records counted by the bare client."""

    def one(shard: str) -> int:
        iterator = client.get_shard_iterator(StreamName=stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
        token, records = iterator["ShardIterator"], 0
        while True:
            answer = client.get_records(ShardIterator=token, Limit=10_000)
            records += len(answer["Records"])
            token = answer["NextShardIterator"]
            if len(answer["Records"]) < 10_000 and not answer["MillisBehindLatest"]:
                return records

    shards = [shard["ShardId"] for shard in client.list_shards(StreamName=stream)["Shards"]]
    with ThreadPoolExecutor(len(shards)) as pool:
        return sum(pool.map(one, shards))


def read(client: Any, stream: str, pace: Pace) -> int:
    """Records counted as the reader gives them."""
    reader = KinesisReader(Kinesis(stream=stream), client=client, pace=pace)
    events = reader.read(lambda _: Oldest(), until=datetime.now(UTC))
    return sum(event.records.num_rows for event in events if isinstance(event, Arrived))


def drained(client: Any, stream: str) -> int:
    """Records that have landed as segments."""
    declared = Stream(name="pos", description="x", source=Kinesis(stream=stream), first_day=date(2024, 10, 1))
    with tempfile.TemporaryDirectory() as folder:
        landed = LandedStream(declared, LocalLanding(folder), ZoneInfo("Africa/Johannesburg"))
        return Drain(landed, KinesisReader(Kinesis(stream=stream), client=client, pace=UNLIMITED)).to_now().records


def main() -> None:
    """Measure, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", choices=("kinesalite", "moto"), default="kinesalite")
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--bytes", type=int, default=300, help="of an event")
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--aggregated", action="store_true")
    wanted = parser.parse_args()
    with served(wanted.server) as url:
        session = Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name="us-east-1")
        config = Config(retries={"total_max_attempts": 1, "mode": "standard"}, max_pool_connections=32)
        client = session.client("kinesis", endpoint_url=url, config=config)
        client.create_stream(StreamName="pos", ShardCount=wanted.shards)
        while client.describe_stream_summary(StreamName="pos")["StreamDescriptionSummary"]["StreamStatus"] != "ACTIVE":
            time.sleep(0.05)
        event = b'{"type":"sale","n":%08d,"pad":"' + b"x" * max(0, wanted.bytes - 33) + b'"}'
        producer = KinesisProducer("pos", client=client, is_aggregated=wanted.aggregated)
        began = time.perf_counter()
        sent = producer.put(
            Outgoing(f"till-{number % (40 if wanted.aggregated else 5000)}", event % number)
            for number in range(wanted.events)
        )
        seconds = time.perf_counter() - began
        print(f"{wanted.server}: {sent.sent:,} events of {wanted.bytes} bytes in {wanted.shards} shards")
        print(f"producer, keys in order          {sent.sent / seconds:>10,.0f} events/s")
        sides: dict[str, Callable[[], int]] = {
            "get_records, a thread each": lambda: limit(client, "pos"),
            "reader": lambda: read(client, "pos", UNLIMITED),
            "drain into segments": lambda: drained(client, "pos"),
        }
        times: dict[str, list[float]] = {name: [] for name in sides}
        for round_ in range(wanted.rounds + 1):
            for name, side in sides.items():
                began = time.perf_counter()
                records = side()
                if round_:  # the first warms up
                    times[name].append(time.perf_counter() - began)
                if records != wanted.events and not (wanted.aggregated and name.startswith("get_records")):
                    raise SystemExit(f"{name}: {records:,} records, not {wanted.events:,}")
        medians = {name: statistics.median(found) for name, found in times.items()}
        base = medians["get_records, a thread each"]
        for name, median in medians.items():
            print(f"{name:<32} {wanted.events / median:>10,.0f} events/s   {base / median:>6.0%} of get_records")
        began = time.perf_counter()
        read(client, "pos", Pace())
        print(f"reader at the pace of Kinesis    {wanted.events / (time.perf_counter() - began):>10,.0f} events/s")


if __name__ == "__main__":
    main()
