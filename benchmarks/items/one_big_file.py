"""
`one big file`: a CSV of a gigabyte, the same packed, and the same rows as JSON lines and Parquet; and the memory that they take.

Ours goes to the end, raw, processed and the report; the limit is DuckDB's reader of the format, with explicit types, into one table.
"""

import gzip
import shutil
from collections.abc import Iterator
from pathlib import Path

import tills
from cases import Case, Ground, Side, Size
from sides import Given, Steps, measure

ROWS = {"full": 11_500_000, "quick": 200_000, "tiny": 2_000}
ENDINGS = {"csv": "csv", "gzip": "csv.gz", "json-lines": "jsonl", "parquet": "parquet"}


def cases(size: Size, ground: Ground) -> Iterator[Case]:
    """A format each."""
    rows = ROWS[size]
    landed = ground.tills(files=1, rows=rows)
    with ground.folder("big-files") as root:
        for kind, ending in ENDINGS.items():
            folder = landed if kind == "csv" else root / kind
            given = {"csv": tills.files_under(str(landed))[0], "kind": kind, "landing": str(folder)}
            if kind != "csv":
                measure("items.one_big_file", "written_otherwise", given)
            [file] = tills.files_under(str(folder), ending)
            yield Case(
                "one_big_file",
                kind,
                f"a file of {Path(file).stat().st_size / 1e6:,.0f} MB, {rows:,} rows",
                (Side("limit"), Side("ours")),
                {**given, "file": file},
                rows=rows,
                most_rounds=2 if kind in ("csv", "parquet") else 1,
                has_warm_up=False,
            )
            if kind != "csv":
                shutil.rmtree(folder)
    ground.forget(landed)


def written_otherwise(given: Given) -> Steps:
    """A side that nobody measures: the same rows in another format."""
    yield None
    target = Path(given["landing"]) / tills.key("S00000", tills.DAY, ENDINGS[given["kind"]])
    target.parent.mkdir(parents=True)
    if given["kind"] == "gzip":
        with Path(given["csv"]).open("rb") as source, gzip.open(target, "wb", compresslevel=1) as packed:
            shutil.copyfileobj(source, packed, 2**20)
    else:
        made = tills.connection(Path(":memory:"))
        source = f"read_csv('{given['csv']}', columns = {tills.TYPES}, header = true, auto_detect = false)"
        kind = "json" if given["kind"] == "json-lines" else "parquet"
        made.execute(f"copy (select * from {source}) to '{target}' (format {kind})")
        made.close()
    yield None
    yield {}


def limit(given: Given) -> Steps:
    """Bare DuckDB: the file into one table."""
    import duckdb  # noqa: F401

    path = Path(given["out"]) / "limit.duckdb"
    yield None
    made = tills.connection(path)
    if given["kind"] == "json-lines":
        made.execute(
            "create table tills as select * from read_json($file, columns = $types, format = 'newline_delimited', filename = true)",
            {"file": given["file"], "types": tills.TYPES},
        ).fetchall()
    elif given["kind"] == "parquet":
        made.execute(
            "create table tills as select * from read_parquet($file, filename = true)", {"file": given["file"]}
        )
    else:
        tills.read_csv(made, [given["file"]])
    made.close()
    yield None
    yield tills.table_of(path)


def ours(given: Given) -> Steps:
    """The platform, to the report."""
    import time

    from ingestion_platform.format import Csv, JsonLines, Parquet

    format = {"json-lines": JsonLines(), "parquet": Parquet()}.get(given["kind"], Csv())
    parts = tills.declared(format=format, ending=ENDINGS[given["kind"]])
    tills.practise()
    yield None
    took = tills.run_day(given, parts, time.perf_counter)
    yield None
    yield {**tills.processed(given["landing"], Path(given["out"]), parts), **took}
