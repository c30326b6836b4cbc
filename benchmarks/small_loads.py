"""
A day that is loaded and processed object by object, as a worker does it with alerts: what each time costs as the day grows.

    .venv/bin/python benchmarks/small_loads.py                   # 400 objects of one row
    .venv/bin/python benchmarks/small_loads.py --objects 2000

Beside it the same where the day is listed, and where its small files stay as they are. All make the same processed rows. Milliseconds,
wall time, medians of the last tenth of the objects.
"""

import argparse
import statistics
import tempfile
import time
from datetime import date
from pathlib import Path
from unittest import mock

from ingestion_platform.dataset import Daily, Dataset, Datasets, LandedFiles
from ingestion_platform.format import JsonLines
from ingestion_platform.landing import open_landing
from ingestion_platform.settings import Settings
from ingestion_platform.table import TIMESTAMP, VARCHAR, Column, decimal
from ingestion_platform.warehouse import SqlTables, Warehouse, small_files

DAY = date(2024, 10, 1)


def opened(root: Path) -> tuple[Warehouse, Dataset]:
    """A warehouse with one dataset of eight columns."""
    names = ("rule", "about", "reasons", "action", "store")
    dataset = Dataset(
        name="told", description="One row per alert.", source=LandedFiles("told_rows/%Y/%m/%d/{number}.jsonl", JsonLines()),
        columns=(
            Column("id", VARCHAR, "Its number.", required=True), Column("at", TIMESTAMP, "When.", required=True),
            Column("score", decimal(4, 3), "How sure.", minimum=0, maximum=1), *(Column(name, VARCHAR, "A text.") for name in names),
        ),
        primary_key=("id",), event_time="at", daily=Daily(DAY),
    )  # fmt: skip
    settings = Settings(landing=str(root / "landing"), warehouse=root / "w.duckdb", publish=root / "p", threads=1)
    (root / "landing").mkdir(parents=True)
    return Warehouse(settings, open_landing(*settings.landing_places), Datasets([dataset]), SqlTables({})), dataset


def measured(objects: int, *, by_name: bool, together: bool) -> tuple[list[tuple[float, float]], str]:
    """Milliseconds of loading and of processing, object by object; and the content that the day comes to."""
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(small_files, "TOGETHER", small_files.TOGETHER if together else 10**9),
    ):
        warehouse, dataset = opened(Path(folder))
        took = []
        for number in range(objects):
            key = f"told_rows/{DAY:%Y/%m/%d}/{number:06}.jsonl"
            record = f'{{"id":"A{number}","at":"{DAY} 10:00:00","score":"0.5","rule":"r","about":"a","action":"hold","store":"S1"}}\n'
            warehouse.landing.put_if_absent(key, record.encode())
            moments = [time.perf_counter()]
            if by_name:
                warehouse.take(dataset, DAY, [key])
            else:
                warehouse.load(dataset, DAY)
            moments.append(time.perf_counter())
            content = warehouse.process(dataset, DAY).content
            moments.append(time.perf_counter())
            took.append(((moments[1] - moments[0]) * 1000, (moments[2] - moments[1]) * 1000))
        warehouse.close()
    return took, content


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().split("\n")[0])
    parser.add_argument("--objects", type=int, default=400)
    objects = parser.parse_args().objects
    contents = set()
    for told, by_name, together in (
        ("by name, files put together", True, True),
        ("the day listed, files put together", False, True),
        ("the day listed, files as they are", False, False),
    ):
        took, content = measured(objects, by_name=by_name, together=together)
        contents.add(content)
        last = took[-max(1, objects // 10) :]
        load, process = (statistics.median(one[place] for one in last) for place in (0, 1))
        print(f"{told:36} after {objects:,} objects: load {load:6.1f} ms, process {process:6.1f} ms", flush=True)
    assert len(contents) == 1, "all make the same rows"


if __name__ == "__main__":
    main()
