"""
A full extract of a PostgreSQL table into the landing zone, against `COPY … TO` a file by the server itself; and loading what has landed.

    .venv/bin/python benchmarks/extract.py                     # 2,000,000 rows
    .venv/bin/python benchmarks/extract.py --rows 200000       # quickly

Three tables: narrow rows of numbers and a moment; rows as people have them (names, amounts, NULLs, JSON); wide ones of a kilobyte. Beside
the extract stands what could land instead: COPY's CSV as it comes, and the same compressed. Each side is run three times, in turn, and the
median counts. The extract is also run by a cursor when a hundredth of the rows have changed, and with a sweep of all keys.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
from psycopg import sql

from ingestion_platform.database import Database, Extract, ExtractedRows, RowCursor
from ingestion_platform.dataset import Daily, Dataset, Datasets
from ingestion_platform.landing import open_landing
from ingestion_platform.sources.extract import Extracted, Extraction
from ingestion_platform.sources.extracted import LandedExtract
from ingestion_platform.sources.opening import Connections, open_database
from ingestion_platform.sources.postgres_snapshot import copy_out, in_pages, page_ranges
from ingestion_platform.table import VARCHAR, Column
from ingestion_platform_tests.sources.postgres_server import Server, serve
from ingestion_platform_tests.warehouse.building import Bench

ZONE = ZoneInfo("UTC")
TIMES = 3
TABLES = {
    "narrow": (
        "id bigint primary key, customer bigint, at timestamptz, amount numeric(12,2)",
        "i, (i::bigint * 7919) % 100000, '2024-10-01'::timestamptz + i * interval '1 second', i / 7.0",
        1,
    ),
    "usual": (
        "id bigint primary key, name text, email text, at timestamptz, amount numeric(12,2), note text, doc jsonb",
        "i, 'name ' || md5(i::text), md5((i::bigint * 3)::text) || '@example.com',"
        " '2024-10-01'::timestamptz + i * interval '1 second', i / 7.0,"
        " case when i % 3 = 0 then null else 'said \"' || md5((i::bigint * 7)::text) || '\", and more' end,"
        " jsonb_build_object('a', i, 'b', 'q')",
        2,
    ),
    "wide": (
        "id bigint primary key, at timestamptz, " + ", ".join(f"c{number} text" for number in range(30)),
        "i, '2024-10-01'::timestamptz + i * interval '1 second', "
        + ", ".join(f"md5((i::bigint * {number + 2})::text)" for number in range(30)),
        10,
    ),
}
"""Table → its columns, its values, and by what the number of rows is divided."""


def seconds(work: Callable[[], object]) -> float:
    """Wall time."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def cpu_seconds(server: Server) -> float:
    """CPU seconds that this process and the server's have taken until now, those that have ended included."""
    assert server.process is not None
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            pid, _, rest = stat.read_text().partition(" (")
            found = rest.rpartition(") ")[2].split()
            if int(pid) == server.process.pid:
                ticks += sum(map(int, found[11:15]))
            elif int(found[1]) == server.process.pid:
                ticks += sum(map(int, found[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK") + time.process_time()


def extract_of(table: str, **changes: Any) -> Extract:
    """The declaration."""
    said: dict[str, Any] = {
        "name": table,
        "description": "Rows.",
        "database": Database(name="shop", connections=2),
        "table": f"public.{table}",
        "first_day": date(2024, 10, 1),
    }
    return Extract(**{**said, **changes})


def run(server: Server, database: str, folder: Path, extract: Extract, **options: Any) -> Extracted:
    """Extract into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    opened = open_database(extract.database, Connections(databases={"shop": server.properties(database)}))
    return Extraction(LandedExtract(extract, open_landing(str(folder))), opened, ZONE).run(
        datetime.now(UTC).date(), **options
    )


def as_it_comes(server: Server, database: str, table: str, folder: Path, codec: pa.Codec | None) -> None:
    """COPY's CSV by two connections into files, each range one."""
    folder.mkdir(parents=True, exist_ok=True)
    with closing(server.connect(database)) as one:
        found = one.execute(sql.SQL("select pg_relation_size({}) / 8192").format(sql.Literal(table))).fetchone()
        assert found is not None
        ranges = list(page_ranges(int(found[0])))

    def read(number: int) -> None:
        with closing(server.connect(database)) as connection:
            for first, after in ranges[number::2]:
                query = sql.SQL("copy (select * from {} where {}) to stdout (format csv)").format(
                    sql.Identifier(table), in_pages(first, after)
                )
                with (folder / f"{first}.csv").open("wb") as file:
                    for lines in copy_out(connection, query, chunk_bytes=4 * 1024**2):
                        text = b"".join(lines)
                        file.write(codec.compress(text) if codec is not None else text)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(read, range(2)))


def measure(rows: int) -> None:
    """Print all sides."""
    with serve() as server, tempfile.TemporaryDirectory() as root:
        server_folder = server.folder
        for table, (columns, values, divided) in TABLES.items():
            count = rows // divided
            made = f"insert into {table} select {values} from generate_series(1, {count}) i"
            database = server.new_database(f"create table {table} ({columns})", made, f"vacuum analyze {table}")
            sides: dict[str, list[tuple[float, float]]] = {}
            extracted: Extracted | None = None
            with closing(server.connect(database)) as connection:
                for turn in range(TIMES):
                    place = Path(root) / table / str(turn)

                    def extract(place: Path = place / "extract", database: str = database, table: str = table) -> None:
                        nonlocal extracted
                        extracted = run(server, database, place, extract_of(table))

                    every: dict[str, Callable[[], object]] = {
                        "COPY TO a file, text": lambda table=table, turn=turn: connection.execute(
                            f"copy {table} to '{server_folder}/{table}{turn}.text'"
                        ),
                        "COPY TO a file, csv": lambda table=table, turn=turn: connection.execute(
                            f"copy {table} to '{server_folder}/{table}{turn}.csv' (format csv)"
                        ),
                        "extract": extract,
                        "csv as it comes": lambda place=place, database=database, table=table: as_it_comes(
                            server, database, table, place / "csv", None
                        ),
                        "csv, zstd": lambda place=place, database=database, table=table: as_it_comes(
                            server, database, table, place / "zstd", pa.Codec("zstd", 1)
                        ),
                    }
                    for side, work in every.items():
                        before = cpu_seconds(server)
                        took = seconds(work)
                        sides.setdefault(side, []).append((took, cpu_seconds(server) - before))
            assert extracted is not None
            assert extracted.rows == count
            text_bytes = (server_folder / f"{table}0.csv").stat().st_size
            print(f"{table}: {count:,} rows, {text_bytes / 1e6:,.0f} MB as CSV, {extracted.bytes / 1e6:,.0f} MB landed")
            limit = statistics.median(took for took, _ in sides["COPY TO a file, text"])
            for side, turns in sides.items():
                middle, cpu = (statistics.median(values) for values in zip(*turns, strict=True))
                print(
                    f"    {side:<22}{middle:>7.2f} s {middle / limit:>6.2f} x  {count / middle:>11,.0f} rows/s"
                    f"  {cpu:>6.2f} s of CPU, the server's included"
                )
            load(Path(root) / table / "0" / "extract", table, columns, count)
            if table == "usual":
                go_on(server, database, Path(root) / table / "cursor", table, count)


def load(landing: Path, table: str, columns: str, count: int) -> None:
    """Print how long loading and processing take."""
    names = [part.split()[0] for part in columns.replace("numeric(12,2)", "numeric").split(", ")]
    dataset = Dataset(
        name=table,
        description="Rows.",
        kind="snapshots",
        source=ExtractedRows(extract_of(table)),
        columns=tuple(Column(name, VARCHAR, name, required=name == "id") for name in names),
        primary_key=("id",),
        daily=Daily(date(2024, 10, 1)),
    )
    bench = Bench(landing.parent, datasets=Datasets([dataset]), overrides={"landing": str(landing), "timezone": "UTC"})
    day = datetime.now(UTC).date()
    loaded = seconds(lambda: bench.load(table, day))
    processed = seconds(lambda: bench.process(table, day))
    assert bench.rows(f"processed.{table}", "id").__len__() == count
    print(f"    {'loaded':<22}{loaded:>7.2f} s; processed {processed:.2f} s")


def go_on(server: Server, database: str, folder: Path, table: str, count: int) -> None:
    """Print what going on by a cursor takes, and a sweep."""
    extract = extract_of(table, cursor=RowCursor(column="at", overlap_seconds=600), key=("id",))
    began = seconds(lambda: run(server, database, folder, extract))
    with server.connect(database) as connection:
        connection.execute(f"create index on {table} (at)")
        connection.execute(
            f"update {table} set at = '2024-10-01'::timestamptz + ({count} + id) * interval '1 second' where id % 100 = 0"
        )
        connection.execute(f"delete from {table} where id % 1000 = 1")
        connection.execute(f"vacuum analyze {table}")
    new = seconds(lambda: run(server, database, folder, extract))
    swept: list[Extracted] = []
    sweep = seconds(lambda: swept.append(run(server, database, folder, extract, sweep=True)))
    print(
        f"    by a cursor: all {began:.2f} s; {count // 100:,} changed rows {new:.2f} s; a sweep of {swept[0].keys:,} keys {sweep:.2f} s,"
        f" {swept[0].removed:,} removed, {swept[0].missed:,} missed"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    measure(parser.parse_args().rows)
