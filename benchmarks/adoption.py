"""
A column is adopted: taken out of raw, against reading every object again.

    .venv/bin/python benchmarks/adoption.py                      # 400,000 rows in 20 files of each format
    .venv/bin/python benchmarks/adoption.py --rows 40000

Both make the same raw rows before a figure counts. CPU seconds of this process.
"""

import argparse
import io
import json
import tempfile
import time
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ingestion_platform.dataset import Daily, Dataset, Datasets, LandedFiles
from ingestion_platform.format import Csv, Format, JsonLines, Parquet
from ingestion_platform.landing import open_landing
from ingestion_platform.settings import Settings
from ingestion_platform.table import VARCHAR, Column
from ingestion_platform.warehouse import SqlTables, Warehouse

DAY = date(2024, 10, 1)
FILES = 20
NAMES = ("id", "shop", "amount", "tip")
FORMATS: dict[str, Format] = {"csv": Csv(), "jsonl": JsonLines(), "parquet": Parquet()}


def content(ending: str, first: int, rows: int) -> bytes:
    """A file of rows."""
    columns = [[f"{number}{name}" for number in range(first, first + rows)] for name in NAMES]
    if ending == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.table(dict(zip(NAMES, columns, strict=True))), sink)
        return sink.getvalue()
    table = list(zip(*columns, strict=True))
    if ending == "csv":
        return "".join(",".join(row) + "\n" for row in [NAMES, *table]).encode()
    return "".join(json.dumps(dict(zip(NAMES, row, strict=True))) + "\n" for row in table).encode()


def opened(root: Path, ending: str, names: tuple[str, ...]) -> tuple[Warehouse, Dataset]:
    """A warehouse whose dataset declares these columns."""
    dataset = Dataset(
        name="lines", description="One row per line.", kind="snapshots",
        source=LandedFiles(f"lines/%Y/%m/%d/{{shop}}.{ending}", FORMATS[ending]),
        columns=tuple(Column(name, VARCHAR, "A text.") for name in names), daily=Daily(DAY),
    )  # fmt: skip
    settings = Settings(landing=str(root / "landing"), warehouse=root / "w.duckdb", publish=root / "p")
    return Warehouse(settings, open_landing(*settings.landing_places), Datasets([dataset]), SqlTables({})), dataset


def measured(ending: str, rows: int, *, is_read_again: bool) -> tuple[float, list[tuple[object, ...]]]:
    """CPU seconds of a load after the declaration has one column more, and what raw comes to."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for number in range(FILES):
            path = root / f"landing/lines/{DAY:%Y/%m/%d}/S{number}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content(ending, number * rows // FILES, rows // FILES))
        before, dataset = opened(root, ending, NAMES[:-1])
        with before:
            before.load(dataset, DAY)
        after, dataset = opened(root, ending, NAMES)
        with after:
            began = time.process_time()
            after.load(dataset, DAY, reload=is_read_again)
            seconds = time.process_time() - began
            found = after.query(
                "select count(*), count(tip), count(_extra), sum(hash(id, shop, amount, tip)) from raw.lines"
            )
        return seconds, [tuple(row.values()) for row in found.to_pylist()]


def main() -> None:
    """Measure, and tell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--rows", type=int, default=400_000, help="of each format; default: %(default)s")
    rows = parser.parse_args().rows
    print(f"{rows:,} rows in {FILES} files, one column adopted, CPU s\n\n| | from raw | read again |\n|---|---|---|")
    for ending in FORMATS:
        measured(ending, 2_000, is_read_again=False)
        (adopted, ours), (again, theirs) = (measured(ending, rows, is_read_again=flag) for flag in (False, True))
        assert ours == theirs, f"{ending}: the rows differ"
        print(f"| {ending} | {adopted:.2f} | {again:.2f} |")


if __name__ == "__main__":
    main()
