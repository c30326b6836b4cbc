"""
Six hours of a stream, replayed: landed segments into raw and processed tables.

    .venv/bin/python benchmarks/replay.py                       # 21.6 million events of about 300 bytes
    .venv/bin/python benchmarks/replay.py --events 2160000      # a tenth
    .venv/bin/python benchmarks/replay.py --memory              # peak memory at growing sizes

Both sides run in children of this process, one after the other, `--rounds` times. The baseline is bare DuckDB: one
`create table as select` over the same
segments that takes the same members out of the JSON and casts them. Ours is everything: hashing, raw, envelope, routing, contract,
quarantine, one row per key. The rows must be equal before a time counts.
"""

import argparse
import os
import random
import shutil
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import sides

from ingestion_platform.dataset import Daily, Dataset, Datasets
from ingestion_platform.formats.segments import DENSE_ENVELOPE, write_segment
from ingestion_platform.stream import EVERYTHING_ELSE, Kafka, Span, Stream, StreamSegments
from ingestion_platform.table import INTEGER, TIMESTAMP, VARCHAR, Column, decimal

DAY = date(2024, 10, 1)
HOURS = 6
SHARDS = 4
SEGMENT_EVENTS = 100_000
POS = Stream(name="pos", description="What tills tell.", source=Kafka(topic="pos"), first_day=DAY)

SALES = Dataset(
    name="pos_sales",
    description="One row per till line.",
    source=StreamSegments(POS, routed_by="event_type", types=("sale",)),
    columns=(
        Column("transaction_id", VARCHAR, "As its name says.", required=True),
        Column("store_id", VARCHAR, "As its name says.", required=True),
        Column("sold_at", TIMESTAMP, "As its name says.", required=True),
        Column("product_id", VARCHAR, "As its name says.", required=True),
        Column("quantity", INTEGER, "As its name says.", required=True, minimum=-999, maximum=999),
        Column("unit_price_zar", decimal(12, 2), "As its name says.", required=True, minimum=0),
        Column("amount_zar", decimal(12, 2), "As its name says.", required=True),
        Column("payment_method", VARCHAR, "How.", source="payment.method", one_of=("cash", "card", "mobile", "voucher")),
        Column("customer_id", VARCHAR, "Loyalty card.", source="loyalty.customer_id"),
        Column("till_id", VARCHAR, "Which till.", source="@header.till"),
        Column("arrived_at", TIMESTAMP, "When the stream took it.", source="@arrived_at", required=True),
    ),
    primary_key=("transaction_id",),
    event_time="sold_at",
    daily=Daily(DAY, allowed_lateness_days=3),
)  # fmt: skip
REST = Dataset(
    name="pos_rest",
    description="One row per event of another type.",
    source=StreamSegments(POS, routed_by="event_type", types=EVERYTHING_ELSE),
    columns=(
        Column("event_type", VARCHAR, "What it is."),
        Column("event", VARCHAR, "As it came.", source="@value"),
        Column("arrived_at", TIMESTAMP, "When.", source="@arrived_at", required=True),
    ),
    event_time="arrived_at",
    daily=Daily(DAY),
)


def land(folder: Path, events: int) -> tuple[int, int]:
    """Write segments with so many events in all; their bytes uncompressed, and how many are sales."""
    chance = random.Random(7)
    begin = datetime(DAY.year, DAY.month, DAY.day, 8)
    step_us = HOURS * 3600 * 1_000_000 // events
    size = sales = number = 0
    next_of = [0] * SHARDS
    while number < events:
        shard = (number // SEGMENT_EVENTS) % SHARDS
        some = min(SEGMENT_EVENTS, events - number)
        values, keys, moments = [], [], []
        hour = (begin + timedelta(microseconds=number * step_us)).replace(minute=0, second=0, microsecond=0)
        for one in range(number, number + some):
            moment = begin + timedelta(microseconds=one * step_us)
            store = f"S{one % 2900:05}"
            if one % 1000 == 999:
                values.append(f'{{"event_type":"drawer_opened","store_id":"{store}","at":"{moment.isoformat()}"}}')
            else:
                quantity, cents = chance.randint(1, 5), chance.randint(100, 99999)
                loyalty = f',"loyalty":{{"customer_id":"C{chance.randint(0, 999999):06}"}}' if one % 3 else ""
                values.append(
                    f'{{"event_type":"sale","transaction_id":"{store}-{one:09}","store_id":"{store}",'
                    f'"sold_at":"{moment.isoformat()}+02:00","product_id":"P{chance.randint(0, 9999):05}","quantity":{quantity},'
                    f'"unit_price_zar":{cents / 100:.2f},"amount_zar":{quantity * cents / 100:.2f},'
                    f'"payment":{{"method":"{("cash", "card", "mobile")[one % 3]}"}}{loyalty}}}'
                )
                sales += 1
            keys.append(store)
            moments.append(moment - timedelta(hours=2))
        size += sum(map(len, values))
        headers = [[{"name": "till", "value": f"{key}-1".encode()}] for key in keys]
        first = next_of[shard]
        next_of[shard] += some
        batch = pa.RecordBatch.from_arrays(
            [
                pa.array(range(first, first + some), pa.int64()),
                pa.nulls(some, pa.int32()),
                pa.array([one.replace(tzinfo=UTC) for one in moments], DENSE_ENVELOPE.field("arrived_at").type),
                pa.array([key.encode() for key in keys], pa.binary()),
                pa.array(headers, DENSE_ENVELOPE.field("headers").type),
                pa.array([value.encode() for value in values], pa.binary()),
                pa.nulls(some, pa.string()),
            ],
            schema=DENSE_ENVELOPE,
        )
        span = Span(first, first + some - 1)
        target = folder / POS.segment_key(hour, str(shard), span)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(write_segment([batch], stream=POS.name, shard=str(shard), span=span))
        number += some
    return size, sales


def baseline(given: sides.Given) -> sides.Steps:
    """Bare DuckDB: the same members out of the same segments."""
    import duckdb

    files = [str(path) for path in sorted((Path(given["landing"]) / "streams").rglob("*.parquet"))]
    yield None
    connection = duckdb.connect(str(Path(given["out"]) / "baseline.duckdb"))
    connection.execute("set enable_progress_bar = false")
    connection.execute(
        """
        create table t as
        select v->>'$.transaction_id' as transaction_id, v->>'$.store_id' as store_id,
            timezone('UTC', (v->>'$.sold_at')::timestamptz) as sold_at, v->>'$.product_id' as product_id,
            (v->>'$.quantity')::integer as quantity, (v->>'$.unit_price_zar')::decimal(12, 2) as unit_price_zar,
            (v->>'$.amount_zar')::decimal(12, 2) as amount_zar, v->>'$.payment.method' as payment_method,
            v->>'$.loyalty.customer_id' as customer_id, decode(headers[1].value) as till_id, arrived_at
        from (select decode(value)::json as v, headers, arrived_at from read_parquet($files))
        where v->>'$.event_type' = 'sale'
        """,
        {"files": files},
    ).fetchall()
    yield None
    rows = connection.execute("select count(*) from t").fetchall()[0][0]
    connection.close()
    yield {"rows": int(rows)}


def ours(given: sides.Given) -> sides.Steps:
    """The platform: landing to raw to processed, two tables of one stream."""
    from ingestion_platform.landing import open_landing
    from ingestion_platform.settings import Settings
    from ingestion_platform.warehouse import SqlTables, Warehouse

    out = Path(given["out"])
    settings = Settings.model_validate(
        {"landing": given["landing"], "warehouse": out / "warehouse.duckdb", "publish": out / "published"}
    )
    datasets = Datasets([SALES, REST])
    took = {"load_part_seconds": 0.0, "process_part_seconds": 0.0}
    rows = {}
    yield None
    with Warehouse(settings, open_landing(given["landing"]), datasets, SqlTables({})) as warehouse:
        for dataset in datasets.values():
            began = time.perf_counter()
            warehouse.load(dataset, DAY)
            loaded = time.perf_counter()
            rows[dataset.name] = warehouse.process(dataset, DAY).rows
            took["load_part_seconds"] += loaded - began
            took["process_part_seconds"] += time.perf_counter() - loaded
    yield None
    yield {"rows": rows[SALES.name], **took}


def measure(side: str, landing: Path) -> sides.Run:
    """One side, over what has landed, in a process and a folder of its own."""
    with tempfile.TemporaryDirectory(dir=landing.parent) as out:
        return sides.measure("replay", side, {"landing": str(landing), "out": out})


def memory(root: Path, events: int) -> None:
    """Print the peak memory of ours at growing sizes."""
    print("| events | peak MB |\n|---|---|")
    for part in (16, 8, 4, 2, 1):
        folder = root / f"landing-{part}"
        land(folder, events // part)
        print(f"| {events // part:,} | {measure('ours', folder).peak_mb:,.0f} |", flush=True)
        shutil.rmtree(folder)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--events", type=int, default=HOURS * 3600 * 1000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--memory", action="store_true")
    chosen = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        if chosen.memory:
            memory(root, chosen.events)
            return
        size, sales = land(root / "landing", chosen.events)
        found = sides.in_turn(
            {side: partial(measure, side, root / "landing") for side in ("baseline", "ours")}, chosen.rounds
        )
    finally:
        shutil.rmtree(root)
    counts = {one.told["rows"] for runs in found.values() for one in runs}
    if counts != {sales}:
        raise SystemExit(f"the sides don't agree: {counts}, and {sales:,} sales were sent")
    print(
        f"{chosen.events:,} events of {size / chosen.events:,.0f} bytes, {os.cpu_count()} cores, DuckDB {version('duckdb')}\n"
    )
    print("| side | wall s | events/s | CPU s | peak MB |\n|---|---|---|---|---|")
    middles = {side: sides.medians(runs) for side, runs in found.items()}
    for side, middle in middles.items():
        print(
            f"| {side} | {middle['wall_seconds']:.1f}{sides.parts(middle)} | {chosen.events / middle['wall_seconds']:,.0f} |"
            f" {middle['cpu_seconds']:.1f} | {middle['peak_mb']:,.0f} |"
        )
    print(f"\nours is {middles['ours']['wall_seconds'] / middles['baseline']['wall_seconds']:.2f} × the baseline")


if __name__ == "__main__":
    main()
