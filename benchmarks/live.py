"""
Live rules: how long it takes from an event to its alert, landed, told and as a row; and how many events a second can be judged.

    .venv/bin/python benchmarks/live.py                        # 1,000 events a second of 300 bytes, 20 rules
    .venv/bin/python benchmarks/live.py --replaying            # the same while another process loads six hours of the stream
    .venv/bin/python benchmarks/live.py --highest              # the highest rate at which p99 stays within 2 s, nothing left for later

A reader in memory gives batches every few milliseconds, as a broker's client would; the drain lands segments of them on disk, and all
that is behind it is what the worker has: queue, contract, rules, alerts on disk, rows of `processed.alerts`, and a webhook on loopback as a
sink. An event's time begins when the reader gives it.
"""

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import ClassVar
from zoneinfo import ZoneInfo

import pyarrow as pa
from pydantic import SecretStr

from ingestion_platform.alert import Alert
from ingestion_platform.dataset import Daily, Dataset, Datasets
from ingestion_platform.datasets.alerts import alerts
from ingestion_platform.formats.segments import DENSE_ENVELOPE, write_segment
from ingestion_platform.landing import open_landing
from ingestion_platform.live.engine import LiveRules, Standing, collect_less_often
from ingestion_platform.live.visible_process import VisibleProcess
from ingestion_platform.rules import Rule, Rules
from ingestion_platform.rules.kinds import Jumps, LastsLonger, Signs, TooMany
from ingestion_platform.settings import Settings
from ingestion_platform.sinks.outbox import Outbox
from ingestion_platform.sinks.sink import Sink
from ingestion_platform.sources.drain import Drain
from ingestion_platform.sources.landed import LandedStream
from ingestion_platform.sources.reading import Arrived, CaughtUp, Event, Idle, Where
from ingestion_platform.stream import EVERYTHING_ELSE, Kafka, Span, Stream, StreamSegments
from ingestion_platform.table import TIMESTAMP, VARCHAR, Column, Mask, decimal
from ingestion_platform.warehouse import Warehouse, load_sql_tables

ZONE = ZoneInfo("Africa/Johannesburg")
FIRST = date(2024, 10, 1)
SHOP = Stream(
    name="shop", description="What the shop tells.", source=Kafka(topic="shop"), first_day=FIRST, segment_seconds=10
)
CUSTOMERS, FREEZERS = 20_000, 2_000
PLANTED_ONE_IN = 500

paid = Dataset(
    name="paid",
    description="One row per payment.",
    source=StreamSegments(SHOP, routed_by="type", types=("paid",)),
    columns=(
        Column("id", VARCHAR, "Its number.", required=True),
        Column("paid_at", TIMESTAMP, "When.", required=True),
        Column("customer", VARCHAR, "Who.", pii=Mask.HASH),
        Column("store", VARCHAR, "Where.", required=True, pattern=r"S\d{4}"),
        Column("status", VARCHAR, "What became of it.", required=True, one_of=("approved", "declined", "error")),
        Column("amount_zar", decimal(12, 2), "How much.", required=True, minimum=0),
    ),
    primary_key=("id",),
    event_time="paid_at",
    daily=Daily(FIRST, allowed_lateness_days=2),
)
readings = Dataset(
    name="readings",
    description="One row per reading.",
    source=StreamSegments(SHOP, routed_by="type", types=("reading",)),
    columns=(
        Column("id", VARCHAR, "Its number.", required=True),
        Column("read_at", TIMESTAMP, "When.", required=True),
        Column("freezer", VARCHAR, "Which.", required=True),
        Column("celsius", decimal(5, 2), "Inside.", required=True, minimum=-80, maximum=80),
    ),
    primary_key=("id",),
    event_time="read_at",
    daily=Daily(FIRST, allowed_lateness_days=2),
)
rest = Dataset(
    name="shop_rest",
    description="One row per record of another type.",
    source=StreamSegments(SHOP, routed_by="type", types=EVERYTHING_ELSE),
    columns=(
        Column("type", VARCHAR, "What it is."),
        Column("arrived_at", TIMESTAMP, "When it came.", source="@arrived_at", required=True),
    ),
    event_time="arrived_at",
    daily=Daily(FIRST),
)
DATASETS = Datasets([paid, readings, rest, alerts])


def twenty_rules() -> Rules:
    """Ten on payments, by customer, store and all; ten on readings."""
    found = [
        Rule(
            name="large",
            description="What is planted.",
            on=paid,
            by=("customer",),
            where="amount_zar > 9000",
            kind=Signs(signs=(TooMany(within=timedelta(seconds=1), more_than=0, weight=1.0),), from_score=0.5),
            priority=1,
        )
    ]
    for number in range(5):
        fast = TooMany(within=timedelta(minutes=2 + number), more_than=40 + number, weight=1.0)
        found.append(
            Rule(
                name=f"fast_{number}",
                description="Too many.",
                on=paid,
                by=("customer",),
                kind=Signs(signs=(fast,), from_score=0.5),
            )
        )
    for number in range(2):
        jumps = Jumps(times=8 + number, minutes=15, at_least=100, share_of="status", values=("error",))
        found.append(Rule(name=f"fail_{number}", description="Errors.", on=paid, by=("store",), kind=jumps))
    for number in range(2):
        found.append(
            Rule(
                name=f"jump_{number}",
                description="More.",
                on=paid,
                by=(),
                kind=Jumps(times=8 + number, minutes=15, at_least=100),
            )
        )
    for number in range(10):
        warm = LastsLonger(column="celsius", above=-15 + number, longer_than=timedelta(minutes=10 + number))
        found.append(Rule(name=f"warm_{number}", description="Warm.", on=readings, by=("freezer",), kind=warm))
    return Rules(found)


class Paced:
    """
    A reader that gives events at a rate.

    Args:
        rate: events a second.
        seconds: how long.
        seed: of all that is left to chance.
    """

    def __init__(self, rate: int, seconds: float, seed: int = 1) -> None:
        self._rate = rate
        self._seconds = seconds
        self._random = Random(seed)
        self.given_at: dict[str, float] = {}
        self.number = 0
        self.behind = 0.0

    def batch(self, count: int, now: datetime) -> pa.RecordBatch:
        """So many events, all of this moment."""
        at, random, values = now.isoformat(), self._random.random, []
        for _ in range(count):
            self.number += 1
            number = self.number
            if number % 10 < 7:
                amount = "9500.00" if number % PLANTED_ONE_IN == 1 else "120.50"
                customer, store = int(random() * CUSTOMERS), int(random() * 1000)
                text = (
                    f'{{"type":"paid","id":"P{number:09}","paid_at":"{at}","customer":"C{customer:07}","store":"S{store:04}",'
                    f'"status":"approved","amount_zar":{amount}'
                )
            else:
                text = (
                    f'{{"type":"reading","id":"R{number:09}","read_at":"{at}","freezer":"F{int(random() * FREEZERS):05}",'
                    f'"celsius":-18.50'
                )
            values.append(f'{text},"id2":"{"x" * max(0, 288 - len(text))}"}}'.encode())
        first = self.number - count
        empty, moments = pa.nulls(count), pa.array([now] * count, pa.timestamp("us", tz="UTC"))
        headers = empty.cast(DENSE_ENVELOPE.field("headers").type)
        columns = [
            pa.array(range(first, first + count), pa.int64()), empty.cast(pa.int32()), moments,
            empty.cast(pa.binary()), headers, pa.array(values, pa.binary()), empty.cast(pa.string()),
        ]  # fmt: skip
        return pa.RecordBatch.from_arrays(columns, schema=DENSE_ENVELOPE)

    def read(self, where: Where, *, until: datetime | None, shards: Sequence[str] = ()) -> Iterator[Event]:
        """See `StreamReader.read`."""
        began = time.monotonic()
        while (passed := time.monotonic() - began) < self._seconds:
            due = int(passed * self._rate) - self.number
            if due < max(1, self._rate // 100):
                time.sleep(0.002)
                continue
            first = self.number
            count = min(due, 5_000)
            batch = self.batch(count, datetime.now(UTC))
            moment = time.monotonic()
            for number in range(first + 1, first + count + 1):
                if number % PLANTED_ONE_IN == 1:
                    self.given_at[f"P{number:09}"] = moment
            self.behind = (due - count) / self._rate
            yield Arrived("0", batch, first, first + count - 1, count * 300)
        yield CaughtUp("0", datetime.now(UTC))
        while True:
            yield Idle()
            time.sleep(0.01)


class Hook(BaseHTTPRequestHandler):
    """Takes messages of a webhook, and keeps when each alert was told."""

    protocol_version = "HTTP/1.1"
    told_at: ClassVar[dict[str, float]] = {}

    def do_POST(self) -> None:
        """Take one."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        now = time.monotonic()
        for one in body["ids"]:
            self.told_at.setdefault(one.partition(".")[0], now)
        self.send_response(204)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def hook() -> Iterator[Sink]:
    """A sink that a webhook on loopback is told by, one message an alert."""
    Hook.told_at.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = SecretStr(f"http://127.0.0.1:{server.server_port}/alerts")
        yield Sink(
            name="hook", kind="webhook", where=url, private_hosts=True, window_seconds=0, messages_per_minute=100_000
        )
        server.shutdown()


def open_warehouse(settings: Settings) -> Warehouse:
    """One of the deployment, in whichever process."""
    sql_tables = load_sql_tables(DATASETS, zone=ZONE, folder=settings.warehouse.parent / "sql", rules=twenty_rules())
    return Warehouse(settings, open_landing(settings.landing), DATASETS, sql_tables)


@dataclass(frozen=True)
class Measured:
    """Seconds from event to alert, sorted; and how the engine stood."""

    landed: list[float]
    told: list[float]
    visible: list[float]
    planted: int
    standing: Standing
    behind: float


def measure(folder: Path, rate: int, seconds: float) -> Measured:
    """Give events at a rate, and time the alerts."""
    settings = Settings(
        landing=str(folder / "landing"), warehouse=folder / "warehouse.duckdb", publish=folder / "published",
        timezone=ZONE.key, pii_salt=SecretStr("salt"), threads=1,
    )  # fmt: skip
    (folder / "landing").mkdir(parents=True)
    zone, rules = open_landing(settings.landing), twenty_rules()
    source, landed_at, visible_at, keys_of = Paced(rate, seconds), {}, {}, {}

    def is_landed(told: Sequence[Alert]) -> None:
        now = time.monotonic()
        outbox.offer(told)
        for one in told:
            landed_at.setdefault(one.deserved_by, now)
            keys_of[one.id] = one.deserved_by

    def is_visible(_: date, since: float) -> None:
        now = time.monotonic()
        for key in [key for key, at in list(landed_at.items()) if at <= since and key not in visible_at]:
            visible_at[key] = now

    opened = partial(open_warehouse, settings)
    visible = VisibleProcess(opened, is_visible)
    engine = LiveRules(
        rules,
        DATASETS,
        [SHOP],
        zone=zone,
        settings=settings,
        open_warehouse=opened,
        on_landed=[is_landed],
        on_objects=visible.landed,
    )
    stop = threading.Event()
    drain = Drain(LandedStream(SHOP, zone, ZONE), source, watchers=[engine])
    following = threading.Thread(target=drain.follow, args=(stop,))
    with hook() as sink, Outbox(zone, [sink]) as outbox:
        visible.start()
        engine.start()
        time.sleep(1.0)
        following.start()
        time.sleep(seconds)
        until = time.monotonic() + 30
        while time.monotonic() < until and len(visible_at) < len(source.given_at):
            time.sleep(0.05)
        standing = engine.standing()
        stop.set()
        following.join()
        engine.close()
        visible.close()
    told_at = {keys_of[id_]: at for id_, at in Hook.told_at.items() if id_ in keys_of}
    # Of the first seconds, everything is opened for the first time.
    keys = list(source.given_at)[len(source.given_at) // 10 :]
    return Measured(
        sorted(landed_at[key] - source.given_at[key] for key in keys if key in landed_at),
        sorted(told_at[key] - source.given_at[key] for key in keys if key in told_at),
        sorted(visible_at[key] - source.given_at[key] for key in keys if key in visible_at),
        len(keys),
        standing,
        source.behind,
    )


def at(times: Sequence[float], share: float) -> float:
    """A quantile, in milliseconds."""
    return times[min(len(times) - 1, int(len(times) * share))] * 1000 if times else float("nan")


def tell(rate: int, found: Measured) -> None:
    """Print a line."""
    left = sum(found.standing.left_out.values())
    print(
        f"{rate:>7,} events/s: alert landed p50 {at(found.landed, 0.5):6.0f} ms, p99 {at(found.landed, 0.99):6.0f} ms;"
        f" told p50 {at(found.told, 0.5):6.0f} ms, p99 {at(found.told, 0.99):6.0f} ms;"
        f" row p50 {at(found.visible, 0.5):6.0f} ms, p99 {at(found.visible, 0.99):6.0f} ms; {len(found.landed)} of {found.planted} alerts,"
        f" {left:,} records left for later, reader behind {found.behind:.1f} s",
        flush=True,
    )


def replay_hours(folder: Path, hours: int, events: int) -> None:
    """Land hours of the stream in a folder, and load and process them again and again."""
    settings = Settings(
        landing=str(folder / "landing"), warehouse=folder / "warehouse.duckdb", publish=folder / "published",
        timezone=ZONE.key, pii_salt=SecretStr("salt"), threads=1,
    )  # fmt: skip
    (folder / "landing").mkdir(parents=True)
    zone, source = open_landing(settings.landing), Paced(1, 1)
    day = FIRST + timedelta(days=1)
    for hour in range(hours):
        moment = datetime(day.year, day.month, day.day, 6 + hour, tzinfo=UTC)
        first = source.number
        batch = source.batch(events // hours, moment)
        span = Span(first, source.number - 1)
        key = SHOP.segment_key(moment.astimezone(ZONE).replace(tzinfo=None), "0", span)
        zone.put_if_absent(key, write_segment([batch], stream=SHOP.name, shard="0", span=span))
    with Warehouse(settings, zone, DATASETS, load_sql_tables(DATASETS, zone=ZONE, folder=folder / "sql")) as warehouse:
        print("replaying", flush=True)
        while True:
            warehouse.load(paid, day, reload=True)
            warehouse.process(paid, day, force=True)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().split("\n")[0])
    parser.add_argument("--rate", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--replaying", action="store_true")
    parser.add_argument("--highest", action="store_true")
    parser.add_argument("--replay-hours-in", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    collect_less_often()
    if chosen.replay_hours_in is not None:
        replay_hours(chosen.replay_hours_in, 6, 600_000)
        return
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        other = None
        if chosen.replaying:
            command = [sys.executable, "-W", "ignore", __file__, "--replay-hours-in", str(place / "other")]
            other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert other.stdout is not None
            other.stdout.readline()
        try:
            rates = [5_000, 10_000, 15_000, 20_000, 25_000, 30_000] if chosen.highest else [chosen.rate]
            for rate in rates:
                found = measure(place / str(rate), rate, chosen.seconds)
                tell(rate, found)
                if chosen.highest and (at(found.landed, 0.99) > 2000 or sum(found.standing.left_out.values())):
                    break
        finally:
            if other is not None:
                other.kill()
                other.wait()


if __name__ == "__main__":
    main()
