"""
A campaign against the worker: killed at random moments while records come, shards split and merge, and groups rebalance.

The producer numbers the records of each key. In the end the raw table must have each number of each key once, in order.
"""

import base64
import importlib
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd  # noqa: F401  # pyarrow imports it at its first conversion; forked, each worker would do so anew

from ingestion_platform.assembly import declared_sql_tables  # noqa: F401  # imported once, for all that are forked
from ingestion_platform.dataset import Daily, Dataset, Datasets
from ingestion_platform.landing import open_landing
from ingestion_platform.orchestration.resource import StreamsResource
from ingestion_platform.orchestration.worker import run_worker
from ingestion_platform.settings import Settings
from ingestion_platform.sources.reading import StreamReader
from ingestion_platform.stream import Stream, StreamSegments
from ingestion_platform.table import BIGINT, TIMESTAMP, VARCHAR, Column
from ingestion_platform.warehouse import SqlTables, Warehouse
from ingestion_platform_tests.sources.world import Put

WARM = ("boto3.session", "confluent_kafka", "moto.kinesis.models", "ingestion_platform_tests.sources.kinesis_worlds")
ROOT = Path(__file__).parents[2]
KEYS = [f"till-{number}" for number in range(12)]
AT_ONCE = 6
"""Records put at a time."""


@dataclass(frozen=True)
class Site:
    """
    Where a campaign takes place; it can be sent to another process.

    Args:
        folder: of its landing zone and warehouse.
        stream: as declared.
        opened: makes a reader, in the worker's process.
    """

    folder: str
    stream: Stream
    opened: Callable[[], StreamReader]

    def settings(self) -> Settings:
        """Of the deployment."""
        folder = Path(self.folder)
        return Settings.model_validate(
            {
                "landing": str(folder / "landing"),
                "warehouse": folder / "warehouse.duckdb",
                "publish": folder / "p",
                "streams": "all",
            }
        )

    def resource(self) -> StreamsResource:
        """Opens the stream."""
        return StreamsResource(self.settings(), lambda _stream, _connections: self.opened())


class Nursery:
    """Forks workers off a process that has imported everything and has no thread: a worker is at work after a tenth of a second."""

    def __enter__(self) -> "Nursery":
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._ask("")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def start(self, site: Site) -> int:
        """Start a worker; its process id."""
        return int(self._ask(base64.b64encode(pickle.dumps(site)).decode()))

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


def serve() -> None:
    """Be the process that a `Nursery` begins: a line is a site, the answer a worker's process id."""
    # What is asked for first time by time costs half a second each.
    for module in WARM:
        importlib.import_module(module)
    dg.DagsterInstance.ephemeral().dispose()
    # Nobody waits for workers: they leave nothing behind.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        pid = 0
        if line.strip():
            site = pickle.loads(base64.b64decode(line))
            pid = os.fork()
            if pid == 0:
                try:
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    work(site)
                finally:
                    os._exit(1)
        print(pid, flush=True)


def work(site: Site) -> None:
    """A worker's process: what `make worker` runs, with a Dagster that forgets."""
    with dg.DagsterInstance.ephemeral() as instance:
        run_worker(
            {site.stream.name: site.stream}, settings=site.settings(), resource=site.resource(), instance=instance
        )


@dataclass
class Campaign:
    """
    Kills workers.

    Args:
        nursery: has the workers.
        site: where.
        put: writes records.
        change: splits, merges, or nothing.
        seed: of the moments.
        workers: at a time.
    """

    nursery: Nursery
    site: Site
    put: Callable[[Sequence[Put]], None]
    change: Callable[[random.Random], None]
    seed: int = 1
    workers: int = 1
    sent: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KEYS, 0))
    kills: int = 0
    changes: int = 0

    def run(self, kills: int, change_every: int) -> None:
        """Kill so many workers while records come, then let one drain what is left."""
        chance = random.Random(self.seed)
        stop = threading.Event()
        trouble: list[Exception] = []

        def produce() -> None:
            try:
                while not stop.is_set():
                    self._send(chance.sample(KEYS, AT_ONCE))
                    time.sleep(0.02)
            except Exception as error:
                trouble.append(error)

        producer = threading.Thread(target=produce, name="producer")
        producer.start()
        alive: list[int] = []
        try:
            while self.kills < kills:
                while len(alive) < self.workers:
                    alive.append(self.nursery.start(self.site))
                time.sleep(chance.uniform(0.05, 1.0 if self.workers == 1 else 0.5))
                if self.kills % change_every == change_every - 1:
                    self.change(chance)
                    self.changes += 1
                victim = alive.pop(chance.randrange(len(alive)))
                # One that has ended by itself isn't there any more: that is an error.
                os.kill(victim, signal.SIGKILL)
                self.kills += 1
        finally:
            stop.set()
            producer.join()
            for pid in alive:
                os.kill(pid, signal.SIGKILL)
        assert trouble == []

    def _send(self, keys: Sequence[str]) -> None:
        records = []
        for key in keys:
            records.append(Put(key, json.dumps({"key": key, "number": self.sent[key]}).encode()))
            self.sent[key] += 1
        self.put(records)

    def loaded(self) -> list[dict[str, Any]]:
        """What the raw table has of it, by shard and position."""
        settings = self.site.settings()
        landing = open_landing(*settings.landing_places)
        dataset = Dataset(
            name="numbers",
            description="What was put.",
            source=StreamSegments(self.site.stream),
            columns=(
                Column("key", VARCHAR, "Whose."),
                Column("number", BIGINT, "Which."),
                Column("at", TIMESTAMP, "When.", source="@arrived_at"),
            ),
            event_time="at",
            daily=Daily(self.site.stream.first_day),
        )
        found = (dataset.source.match(one.key) for one in landing.list(self.site.stream.root))
        days = {match[0] for match in found if match is not None}
        with Warehouse(settings, landing, Datasets([dataset]), SqlTables({})) as warehouse:
            for day in sorted({*days, *(day + timedelta(days=1) for day in days)}):
                warehouse.load(dataset, day)
            return warehouse.query(
                "select key, number::bigint as number, _shard, _position::varchar as position from raw.numbers"
            ).to_pylist()

    def check(self, order: Callable[[dict[str, Any]], object]) -> None:
        """Hold the raw table against what was sent: each once, in order."""
        rows = sorted(self.loaded(), key=lambda row: (row["key"], order(row)))
        by_key: dict[str, list[int]] = {key: [] for key in KEYS}
        for row in rows:
            by_key[row["key"]].append(row["number"])
        for key, numbers in by_key.items():
            assert numbers == list(range(self.sent[key])), (
                f"{key}: {len(numbers)} of {self.sent[key]}, {_faults(numbers)}"
            )


def _faults(numbers: Sequence[int]) -> str:
    doubled = sorted({one for one in numbers if numbers.count(one) > 1})[:5]
    missing = sorted(set(range(max(numbers, default=0))) - set(numbers))[:5]
    return f"doubled {doubled}, missing {missing}, in order: {list(numbers) == sorted(numbers)}"


if __name__ == "__main__":
    from ingestion_platform_tests.sources.chaos import serve as begin

    begin()
