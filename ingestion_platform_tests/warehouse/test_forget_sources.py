"""A person is forgotten in what comes of APIs, of files from elsewhere, of databases and of captured changes."""

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ingestion_platform.api import ApiPages
from ingestion_platform.change_log import Debezium, Dms
from ingestion_platform.database import Database, Extract, ExtractedRows
from ingestion_platform.dataset import CAPTURED, CAPTURED_COLUMNS, Daily, Dataset, Datasets, LandedFiles
from ingestion_platform.formats.extracts import RowsNote, RowsWriter
from ingestion_platform.formats.segments import ENVELOPE, write_segment
from ingestion_platform.stream import Postgres, Span, Stream, StreamSegments
from ingestion_platform.table import VARCHAR, Column, Mask
from ingestion_platform.warehouse.upkeep import catch_up, verify
from ingestion_platform_tests.sources.memory_api import MemoryApi
from ingestion_platform_tests.warehouse import test_api_pages, test_remote_files
from ingestion_platform_tests.warehouse.building import Bench, differences
from ingestion_platform_tests.warehouse.forgetting import OTHER, WHO, forgotten, found_in, hashed

DAY = date(2024, 10, 1)
KEY = Column("id", VARCHAR, "Whose.", required=True, person="customer")
NAME = Column("name", VARCHAR, "How called.", pii=Mask.REDACT)


def settled(bench: Bench) -> None:
    """Load and compute all there is."""
    with bench.open() as warehouse:
        catch_up(warehouse)


def held(bench: Bench, *more: str) -> None:
    """Forget the person; nothing is left, and a warehouse made anew agrees."""
    assert found_in(bench.root, WHO)
    done = forgotten(bench)
    assert (done.stuck, done.waiting, done.is_done) == ((), (), True)
    assert found_in(bench.root, WHO, hashed(), *more) == []
    bench.warehouse = bench.open()
    assert verify(bench.warehouse) == []
    other = Bench(bench.root.parent / "other", bench.datasets, zone=bench.landing)
    settled(other)
    assert list(differences(bench.export(), other.export())) == []


@pytest.mark.parametrize("erase", ["row", "columns"])
def test_pages_of_an_api_lose_records_and_the_counts_of_them(tmp_path: Path, erase: str) -> None:
    """Records on several pages; a fetch that says the same lands nothing, so he doesn't come back by it."""
    columns = (
        Column("thing", VARCHAR, "Its number.", source="id", required=True),
        Column("who", VARCHAR, "Whose.", pii=Mask.HASH, person="customer"),
    )
    things = test_api_pages.snapshots(columns=columns, erase=erase)
    assert isinstance(things.source, ApiPages)
    records = [{"id": one, "who": WHO if one in (1, 4, 5) else OTHER} for one in range(1, 8)]
    (tmp_path / "one").mkdir()
    world = test_api_pages.World(tmp_path / "one", things, MemoryApi(records))
    world.fetch()
    world.settle()
    held(world.bench)
    kept = [str(one) for one in range(1, 8) if erase == "columns" or one not in (1, 4, 5)]
    assert [row[0] for row in world.bench.rows("processed.things", "thing")] == kept
    assert len(world.bench.rows("processed.things")) == len(kept)


def test_all_versions_of_a_remote_file_are_cleared_and_its_name_stays(tmp_path: Path) -> None:
    """The name has the digest of what was copied: the load knows that these bytes are what is left of it; nothing is copied anew."""
    columns = (*test_remote_files.dataset().columns, Column("who", VARCHAR, "Whose.", person="customer"))
    (tmp_path / "one").mkdir()
    world = test_remote_files.World(tmp_path / "one", test_remote_files.dataset(columns=columns))
    at = f"{DAY} 10:00:00"
    world.send("north", f"id,at,who\n1,{at},{WHO}\n2,{at},{OTHER}\n".encode())
    world.send("north", f"id,at,who\n1,{at},{WHO}\n2,{at},{OTHER}\n3,{at},\n".encode())
    world.settle()
    keys = [one.key for one in world.bench.landing.list("remotes/")]
    done = forgotten(world.bench)
    assert (done.stuck, done.is_done) == ((), True)
    assert [one.key for one in world.bench.landing.list("remotes/")] == keys
    assert found_in(world.bench.root / "landing", WHO) == []
    world.bench.warehouse = world.bench.open()
    assert world.ids() == [("2", "north"), ("3", "north")]
    assert world.states() == ["loaded", "replaced"]
    assert world.rebuilt() == []
    assert world.copying.copy(DAY).new == 0


def changing(source: Any, **changes: Any) -> Dataset:
    """A table of customers as they change."""
    values: dict[str, Any] = {
        "name": "customers", "description": "One row per change.", "kind": "changes", "source": source, "columns": (KEY, NAME),
        "primary_key": ("id",), "daily": Daily(DAY),
    }  # fmt: skip
    return Dataset(**{**values, **changes})


def test_a_customer_captured_from_a_log_has_no_history_any_more(tmp_path: Path) -> None:
    """All changes of him are gone, in every day; the current table and the history of others are as they were."""
    stream = Stream(
        name="shop",
        description="Changes.",
        source=Postgres(database="shop", tables=("public.customers",)),
        first_day=DAY,
    )
    customers = changing(StreamSegments(stream), changes=CAPTURED, columns=(KEY, NAME, *CAPTURED_COLUMNS))
    bench = Bench(tmp_path / "one", Datasets([customers]))
    base, number = 10**33, 0
    for day in (1, 2):
        rows = []
        for operation, who, name in (
            ("INSERT" if day == 1 else "UPDATE", WHO, f"Ann {day}"), ("INSERT" if day == 1 else "UPDATE", OTHER, f"Ben {day}"),
            ("UPDATE", WHO, f"Anne {day}"),
        ):  # fmt: skip
            number += 1
            headers = [
                {"name": "table", "value": b"public.customers"},
                {"name": "operation", "value": operation.encode()},
            ]
            at = datetime(2024, 10, day, 6, number, tzinfo=UTC)
            value = json.dumps({"id": who, "name": name}).encode()
            rows.append(
                {
                    "position": str(base + number), "part": None, "arrived_at": at, "key": None, "headers": headers, "value": value,
                    "schema": None,
                }
            )  # fmt: skip
        span = Span(base + number - 2, base + number)
        batch = pa.RecordBatch.from_pylist(rows, schema=ENVELOPE)
        bench.put(
            stream.segment_key(datetime(2024, 10, day, 8), "log", span),
            write_segment([batch], stream="shop", shard="log", span=span),
        )
    settled(bench)
    assert len(bench.rows("processed.customers_history")) == 6
    held(bench, "Anne")
    assert bench.rows("processed.customers_current", "id") == [(OTHER,)]
    assert bench.rows("processed.customers_history", "id") == [(OTHER,), (OTHER,)]


def test_change_files_lose_both_images_of_a_row(tmp_path: Path) -> None:
    """Of Debezium's lines and of DMS's, those whose row is his, before or after."""
    event = {"source": {"table": "customers", "lsn": 1}, "ts_ms": 1727769600000}
    lines = [
        {**event, "op": "c", "before": None, "after": {"id": WHO, "name": "Ann"}},
        {**event, "op": "c", "before": None, "after": {"id": OTHER, "name": "Ben"}},
        {**event, "op": "d", "before": {"id": WHO, "name": "Ann"}, "after": None},
    ]
    debezium = changing(LandedFiles("debezium/%Y-%m-%d/{file}.jsonl", Debezium()))
    dms = changing(LandedFiles("dms/%Y/%m/%d/{file}.csv", Dms(("Op", "id", "name"))), name="people")
    bench = Bench(tmp_path / "one", Datasets([debezium, dms]))
    bench.put("debezium/2024-10-01/a.jsonl", "".join(json.dumps(one) + "\n" for one in lines))
    bench.put("dms/2024/10/01/LOAD00000001.csv", f"{WHO},Ann\n{OTHER},Ben\n")
    bench.put("dms/2024/10/01/20241001-080000123.csv", f"U,{WHO},Anne\nU,{OTHER},Benn\n")
    settled(bench)
    held(bench)
    assert {row[0] for row in bench.rows("processed.customers", "id")} == {OTHER}
    assert bench.rows("processed.people_current", "id", "operation") == [(OTHER, "update")]


def test_rows_extracted_from_a_database_go(tmp_path: Path) -> None:
    """A group keeps its note, its columns and its other rows; a former extract of the day is cleared, too."""
    extract = Extract(
        name="customers", description="All.", database=Database(name="shop"), table="public.customers", first_day=DAY
    )
    customers = changing(ExtractedRows(extract), kind="snapshots")
    bench = Bench(tmp_path / "one", Datasets([customers]))
    for hour in (6, 7):
        fetch = f"20241001T0{hour}0000123456Z-1f3a9c"
        note = RowsNote(
            "customers", fetch, 1, "SNAPSHOT", f"2024-10-01T0{hour}:00:00+00:00", {"id": "text", "name": "text"}
        )
        rows = pa.table({"id": [WHO, OTHER], "name": ["Ann", f"Ben {hour}"]})
        key = extract.template.key(DAY, fetch=fetch, group="00001")
        writer = RowsWriter(rows.column_names)
        writer.add(rows)
        bench.put(key, writer.finish(note))
        bench.put(f"{key.rpartition('/')[0]}/done-1.json", "{}")
    settled(bench)
    held(bench)
    assert bench.rows("raw.customers", "id", "name") == [(OTHER, "Ben 7")]
