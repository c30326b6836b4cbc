"""
`day`: one day of a large chain, landing to raw to processed to a report, against bare DuckDB that reads the same bytes into one table.

From a local folder, from S3 (a server on loopback), and a tenth of it against what else a user would pick. The limit on S3 fetches the
objects with threads of bare boto3 into a folder and reads that.
"""

from collections.abc import Iterator
from pathlib import Path

import object_server
import tills
from cases import Case, Ground, Side, Size, serving
from sides import Given, Steps

SIZES = {
    "full": {"files": 2900, "rows": 1725},
    "quick": {"files": 290, "rows": 500},
    "tiny": {"files": 12, "rows": 50},
}
S3_THREADS = 32


def cases(size: Size, ground: Ground) -> Iterator[Case]:
    """Local, on S3, and a tenth."""
    files, rows = SIZES[size]["files"], SIZES[size]["rows"]
    landing = ground.tills(files=files, rows=rows)
    told = f"{files:,} CSV files, {files * rows:,} rows"
    yield Case("day", "local", told, (Side("limit"), Side("ours")), {"landing": str(landing)}, rows=files * rows)
    with serving("--folder", str(landing)) as client:
        yield Case(
            "day",
            "s3",
            f"{told}, on S3",
            (
                Side("limit", "limit_on_s3", environment=lambda _: client),
                Side("ours", environment=lambda _: client),
            ),
            {"landing": f"s3://{object_server.BUCKET}"},
            rows=files * rows,
            most_rounds=3,
        )  # fmt: skip
    tenth = max(1, files // 10)
    yield Case(
        "day",
        "a tenth",
        f"{tenth:,} CSV files, {tenth * rows:,} rows",
        (
            Side("limit"),
            Side("ours"),
            Side("pandas"),
            Side("dlt, Arrow", "dlt_arrow", has_dlt=True, most_rounds=1),
            Side("dlt", "dlt_rows", has_dlt=True, most_rounds=1),
        ),
        {"landing": str(ground.tills(files=tenth, rows=rows))},
        rows=tenth * rows,
    )


def limit(given: Given) -> Steps:
    """Bare DuckDB: the list of files into one table."""
    import duckdb  # noqa: F401

    path = Path(given["out"]) / "limit.duckdb"
    yield None
    made = tills.connection(path)
    tills.read_csv(made, tills.files_under(given["landing"]))
    made.close()
    yield None
    yield tills.table_of(path)


def limit_on_s3(given: Given) -> Steps:
    """Bare boto3 in threads, to files; then as the limit."""
    from concurrent.futures import ThreadPoolExecutor

    import boto3
    import botocore.config
    import duckdb  # noqa: F401

    out = Path(given["out"])
    path = out / "limit.duckdb"
    yield None
    client = boto3.client("s3", config=botocore.config.Config(max_pool_connections=S3_THREADS))
    bucket = given["landing"].removeprefix("s3://")

    def fetch(key: str) -> str:
        target = out / key
        target.write_bytes(client.get_object(Bucket=bucket, Key=key)["Body"].read())
        return str(target)

    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="tills/")
    keys = [item["Key"] for page in pages for item in page["Contents"]]
    for folder in {(out / key).parent for key in keys}:
        folder.mkdir(parents=True)
    with ThreadPoolExecutor(S3_THREADS) as threads:
        files = list(threads.map(fetch, keys))
    made = tills.connection(path)
    tills.read_csv(made, files)
    made.close()
    yield None
    yield tills.table_of(path)


def ours(given: Given) -> Steps:
    """The platform: hashes, raw, contract, quarantine, one row per key, and a report."""
    import time

    if given["landing"].startswith("s3://"):
        import ingestion_platform.landing.s3  # noqa: F401
    parts = tills.declared()
    tills.practise()
    yield None
    took = tills.run_day(given, parts, time.perf_counter)
    yield None
    yield {**tills.processed(given["landing"], Path(given["out"]), parts), **took}


def pandas(given: Given) -> Steps:
    """What is written first: read each file with pandas, and insert the frame."""
    import duckdb  # noqa: F401
    import pandas as pd

    path = Path(given["out"]) / "pandas.duckdb"
    texts = {name: "str" for name, kind in tills.TYPES.items() if kind == "VARCHAR"}
    yield None
    made = tills.connection(path)
    made.execute(f"create table tills ({', '.join(f'{name} {kind}' for name, kind in tills.TYPES.items())})")
    for file in tills.files_under(given["landing"]):
        frame = pd.read_csv(file, dtype=texts, parse_dates=["sold_at"])
        made.register("frame", frame)
        made.execute("insert into tills select * from frame")
    made.close()
    yield None
    yield tills.table_of(path)


def dlt_rows(given: Given) -> Steps:
    """The filesystem source of dlt with `read_csv`, as its documentation shows it first."""
    from dlt.sources.filesystem import read_csv

    yield from _dlt(given, read_csv, chunksize=10_000)


def dlt_arrow(given: Given) -> Steps:
    """The filesystem source of dlt with `read_csv_duckdb` and Arrow, its faster way."""
    from dlt.sources.filesystem import read_csv_duckdb

    yield from _dlt(given, read_csv_duckdb, use_pyarrow=True, chunk_size=10_000)


def _dlt(given: Given, reader: object, **options: object) -> Steps:
    import dlt
    import duckdb  # noqa: F401
    import pandas as pd  # noqa: F401
    import pyarrow as pa  # noqa: F401
    from dlt.sources.filesystem import filesystem

    kinds = {"VARCHAR": "text", "TIMESTAMP": "timestamp", "INTEGER": "bigint", "DECIMAL(12,2)": "decimal"}
    out = Path(given["out"])
    path = out / "loaded.duckdb"
    yield None
    pipeline = dlt.pipeline(
        "tills",
        destination=dlt.destinations.duckdb(str(path)),
        dataset_name="landed",
        pipelines_dir=str(out / "pipelines"),
    )
    files = filesystem(bucket_url=given["landing"], file_glob="**/*.csv")
    resource = (files | reader(**options)).with_name("tills")  # type: ignore[operator]
    resource.apply_hints(columns={name: {"data_type": kinds[kind]} for name, kind in tills.TYPES.items()})
    pipeline.run(resource)
    yield None
    yield tills.table_of(path, "landed.tills")
