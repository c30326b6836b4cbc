"""
One day of a large chain: what the platform adds to DuckDB reading the same bytes.

    .venv/bin/python benchmarks/day.py                 # 2,900 files, 5 million rows
    .venv/bin/python benchmarks/day.py --files 290     # a tenth

Both sides run in this process's children, one after the other, `--rounds` times; what counts is the ratio of the medians. The
limit is bare DuckDB: one
`create table as select` from `read_csv` over the list of files with explicit types. Ours is everything: hashing, raw, contract,
quarantine, one row per key.
The rows must be equal before a time counts.
"""

import json
import os
import random
import shutil
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import duckdb
import sides

DAY = date(2024, 10, 1)
TYPES = {
    "transaction_id": "VARCHAR", "store_id": "VARCHAR", "sold_at": "TIMESTAMP", "product_id": "VARCHAR", "quantity": "INTEGER",
    "unit_price_zar": "DECIMAL(12,2)", "amount_zar": "DECIMAL(12,2)", "payment_method": "VARCHAR", "customer_id": "VARCHAR",
    "note": "VARCHAR",
}  # fmt: skip


def land(folder: Path, files: int, rows: int) -> None:
    """Write the day's files: *rows* in each."""
    chance = random.Random(7)
    target = folder / f"tills/{DAY:%Y/%m/%d}"
    target.mkdir(parents=True)
    header = ",".join(TYPES) + "\n"
    for number in range(files):
        store = f"S{number:05}"
        lines = [header]
        for row in range(rows):
            quantity, cents = chance.randint(1, 5), chance.randint(100, 99999)
            moment = f"{DAY} {8 + row * 12 // rows:02}:{chance.randint(0, 59):02}:{chance.randint(0, 59):02}"
            lines.append(
                f"{store}-{row:06},{store},{moment},P{chance.randint(0, 9999):05},{quantity},{cents / 100:.2f},"
                f"{quantity * cents / 100:.2f},{('cash', 'card', 'mobile')[row % 3]},C{chance.randint(0, 99999):06},\n"
            )
        (target / f"{store}.csv").write_text("".join(lines))


def limit(folder: Path, out: Path) -> int:
    """Bare DuckDB: the list of files into one table."""
    files = [str(path) for path in sorted((folder / "tills").rglob("*.csv"))]
    connection = duckdb.connect(str(out / "limit.duckdb"))
    connection.execute("set enable_progress_bar = false")
    connection.execute(
        "create table t as select * from read_csv($files, columns = $types, header = true, auto_detect = false, delim = ',', quote = '\"',"
        " filename = true)",
        {"files": files, "types": TYPES},
    ).fetchall()
    rows = connection.execute("select count(*) from t").fetchall()[0][0]
    connection.close()
    return int(rows)


def ours(folder: Path, out: Path) -> int:
    """The platform: landing to raw to processed."""
    from ingestion_platform.dataset import Daily, Dataset, Datasets, LandedFiles
    from ingestion_platform.landing import open_landing
    from ingestion_platform.settings import Settings
    from ingestion_platform.table import INTEGER, TIMESTAMP, VARCHAR, Column, decimal
    from ingestion_platform.warehouse import SqlTables, Warehouse

    kinds = {"VARCHAR": VARCHAR, "TIMESTAMP": TIMESTAMP, "INTEGER": INTEGER, "DECIMAL(12,2)": decimal(12, 2)}
    rules: dict[str, dict[str, object]] = {
        "transaction_id": {"required": True}, "quantity": {"minimum": -999, "maximum": 999}, "amount_zar": {"required": True},
        "payment_method": {"one_of": ("cash", "card", "mobile", "voucher")}, "sold_at": {"required": True},
    }  # fmt: skip
    tills = Dataset(
        name="tills",
        description="One row per till line.",
        source=LandedFiles("tills/%Y/%m/%d/{store_id}.csv"),
        columns=tuple(
            Column(name, kinds[kind], "As its name says.", **rules.get(name, {})) for name, kind in TYPES.items()
        ),  # type: ignore[arg-type]
        primary_key=("transaction_id",),
        event_time="sold_at",
        daily=Daily(DAY, allowed_lateness_days=3),
    )
    settings = Settings.model_validate(
        {"landing": str(folder), "warehouse": out / "warehouse.duckdb", "publish": out / "published"}
    )
    with Warehouse(settings, open_landing(str(folder)), Datasets([tills]), SqlTables({})) as warehouse:
        began = time.perf_counter()
        warehouse.load(tills, DAY)
        loaded = time.perf_counter()
        done = warehouse.process(tills, DAY)
        print(
            json.dumps({"load_seconds": loaded - began, "process_seconds": time.perf_counter() - loaded}),
            file=sys.stderr,
        )
    return done.rows


SIDES = {"limit": limit, "ours": ours}


def main() -> None:
    """Measure, and print a table."""
    parser = sides.parser(__doc__)
    parser.add_argument("--files", type=int, default=2900)
    parser.add_argument("--rows", type=int, default=1725, help="in each file")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    if sides.ran_as_side(chosen, SIDES):
        return
    root = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        land(root / "landing", chosen.files, chosen.rows)
        sides.measure("limit", root / "landing")
        found = sides.in_turn(SIDES, root / "landing", chosen.rounds)
    finally:
        shutil.rmtree(root)
    counts = {told["rows"] for side in found.values() for told in side}
    if counts != {chosen.files * chosen.rows}:
        raise SystemExit(f"the sides don't agree: {counts}")
    print(
        f"{chosen.files:,} files, {chosen.files * chosen.rows:,} rows, {os.cpu_count()} cores, DuckDB {duckdb.__version__}\n"
    )
    print("| side | wall s | CPU s | peak MB |\n|---|---|---|---|")
    middles = {side: sides.medians(runs) for side, runs in found.items()}
    for side, middle in middles.items():
        print(
            f"| {side} | {middle['wall_seconds']:.1f}{sides.parts(middle)} | {middle['cpu_seconds']:.1f} | {middle['peak_mb']:,.0f} |"
        )
    print(f"\nours is {middles['ours']['wall_seconds'] / middles['limit']['wall_seconds']:.2f} × the limit")


if __name__ == "__main__":
    main()
