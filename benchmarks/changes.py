"""
Changes of a table: a day of them loaded and processed, the current table, and the history with its validity.

    .venv/bin/python benchmarks/changes.py                  # 8 days of 100,000 changes
    .venv/bin/python benchmarks/changes.py --days 3 --changes 10000

The current table and the history of the last day are computed twice: carried on from the day before, and from all changes. Both must
have the same rows.
"""

import argparse
import json
import os
import random
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa

from ingestion_platform.change_log import Debezium
from ingestion_platform.dataset import Changes, Daily, Dataset, Datasets
from ingestion_platform.formats import Field, read_records
from ingestion_platform.formats.dynamodb_values import decode_change
from ingestion_platform.formats.segments import ENVELOPE, write_segment
from ingestion_platform.landing import open_landing
from ingestion_platform.settings import Settings
from ingestion_platform.stream import DynamoDbChanges, DynamoDbStream, Span, Stream, StreamSegments
from ingestion_platform.table import BIGINT, TIMESTAMP, VARCHAR, Column
from ingestion_platform.warehouse import Warehouse, load_sql_tables

FIRST = date(2024, 10, 1)
KEYS = 300_000
STREAM = Stream(name="orders", description="Changes.", source=DynamoDbStream(table="orders"), first_day=FIRST)
ORDERS = Dataset(
    name="orders",
    description="One row per change of an order.",
    kind="changes",
    changes=Changes(moment="changed_at"),
    source=StreamSegments(STREAM, DynamoDbChanges()),
    columns=(
        Column("order_id", VARCHAR, "Its number.", source="keys.id", required=True),
        Column("operation", VARCHAR, "What happened.", required=True),
        Column("position", VARCHAR, "Where in the stream.", source="@position"),
        Column("changed_at", TIMESTAMP, "When."),
        Column("amount", BIGINT, "What it costs.", source="new.amount"),
    ),
    primary_key=("order_id",),
    daily=Daily(FIRST),
)


def change(chance: random.Random, number: int) -> bytes:
    """A change as DynamoDB's stream gives it; one in ten removes."""
    key = {"id": {"S": f"order-{chance.randrange(KEYS):08}"}}
    is_removed = chance.random() < 0.1
    told: dict[str, object] = {
        "ApproximateCreationDateTime": 1727762400 + number // 1000, "Keys": key, "SequenceNumber": str(10**20 + number),
        "OldImage": {**key, "amount": {"N": "1"}},
    }  # fmt: skip
    if not is_removed:
        told["NewImage"] = {**key, "amount": {"N": str(chance.randrange(10**6))}}
    return json.dumps(
        {"eventID": f"e{number}", "eventName": "REMOVE" if is_removed else "MODIFY", "dynamodb": told}
    ).encode()


def land(folder: Path, day: date, values: list[bytes], first: int) -> None:
    """Write a day's changes as one segment."""
    count = len(values)
    hour = datetime(day.year, day.month, day.day, 8)
    batch = pa.RecordBatch.from_arrays(
        [
            pa.array([str(10**20 + first + number) for number in range(count)]),
            pa.nulls(count, pa.int32()),
            pa.array([hour.replace(tzinfo=UTC)] * count, ENVELOPE.field("arrived_at").type),
            pa.array([b"k"] * count),
            pa.nulls(count, ENVELOPE.field("headers").type),
            pa.array(values, pa.binary()),
            pa.nulls(count, pa.string()),
        ],
        schema=ENVELOPE,
    )
    span = Span(10**20 + first, 10**20 + first + count - 1)
    path = folder / STREAM.segment_key(hour, "s", span)
    path.parent.mkdir(parents=True)
    path.write_bytes(write_segment([batch], stream=STREAM.name, shard="s", span=span))


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--days", type=int, default=8)
    parser.add_argument("--changes", type=int, default=100_000, help="a day")
    chosen = parser.parse_args()
    chance = random.Random(1)
    with tempfile.TemporaryDirectory(prefix="bench-") as root:
        landing = Path(root) / "landing"
        landing.mkdir()
        (Path(root) / "sql").mkdir()
        settings = Settings.model_validate(
            {"landing": str(landing), "warehouse": Path(root) / "w.duckdb", "publish": Path(root) / "published"}
        )
        datasets = Datasets([ORDERS])
        tables = load_sql_tables(datasets, zone=ZoneInfo(settings.timezone), folder=Path(root) / "sql")
        current, history = tables["processed.orders_current"], tables["processed.orders_history"]
        print(
            f"{chosen.days} days of {chosen.changes:,} changes, {os.cpu_count()} cores, DuckDB {duckdb.__version__}\n"
        )
        print(
            "| day | load s | changes s | current s | history s | rows of current | rows of the day's history |\n"
            + "|---" * 7
            + "|"
        )
        with Warehouse(settings, open_landing(str(landing)), datasets, tables) as warehouse:
            values: list[bytes] = []
            for number in range(chosen.days):
                day = FIRST + timedelta(days=number)
                first = number * chosen.changes
                values = [change(chance, first + one) for one in range(chosen.changes)]
                land(landing, day, values, first)
                moments = [time.perf_counter()]
                warehouse.load(ORDERS, day)
                moments.append(time.perf_counter())
                warehouse.process(ORDERS, day)
                moments.append(time.perf_counter())
                done = warehouse.derive(current, day)
                moments.append(time.perf_counter())
                ended = warehouse.derive(history, day)
                moments.append(time.perf_counter())
                took = " | ".join(f"{after - before:.2f}" for before, after in pairwise(moments))
                print(f"| {number + 1} | {took} | {done.rows:,} | {ended.rows:,} |", flush=True)
            for table, before in ((current, done), (history, ended)):
                began = time.perf_counter()
                again = warehouse.derive(table, day, force=True)
                print(f"\n{table.key} of the last day from all changes: {time.perf_counter() - began:.2f} s")
                if again.rows != before.rows:
                    raise SystemExit(f"carried on it has {before.rows:,} rows, from all changes {again.rows:,}")
            began = time.perf_counter()
            asked = (
                "select count(*) as rows from processed.orders_history where valid_from <= now() and valid_to is null"
            )
            found = warehouse.query(asked).to_pylist()
            print(f"\nas of now, by validity: {found[0]['rows']:,} rows in {time.perf_counter() - began:.2f} s")
        began = time.perf_counter()
        for value in values:
            decode_change(value, None)
        print(
            f"\ndecoding alone: {len(values) / (time.perf_counter() - began):,.0f} changes/s of {len(values[0])} bytes"
        )
        read_debezium(chosen.changes)


def read_debezium(count: int) -> None:
    """Read a file of so many events of Debezium, and say how fast."""
    chance = random.Random(2)
    source = {"connector": "postgresql", "db": "shop", "schema": "public", "table": "orders", "ts_ms": 1727762400000}
    lines = []
    for number in range(count):
        row = {"order_id": f"order-{chance.randrange(KEYS):08}", "amount": chance.randrange(10**6)}
        told = {"before": None, "after": row, "source": {**source, "lsn": number}, "op": "u", "ts_ms": 1727762400123}
        lines.append(json.dumps(told) + "\n")
    content = "".join(lines).encode()
    sources = ("order_id", "amount", "@operation", "@source_position", "@changed_at", "@unsent")
    read_records(Debezium("orders"), lines[0].encode(), [Field("order_id", "order_id")])
    began = time.perf_counter()
    found = read_records(Debezium("orders"), content, [Field(one, one) for one in sources])
    took = time.perf_counter() - began
    print(f"Debezium: {found.rows_loaded / took:,.0f} changes/s of {len(content) // count} bytes, on one thread")


if __name__ == "__main__":
    main()
