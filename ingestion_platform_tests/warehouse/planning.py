"""What a backfill did, told by looking at the tables before and after it: the judge of plans, which shares no code with them."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ingestion_platform.dataset import Dataset, Datasets
from ingestion_platform.landing import LandingZone
from ingestion_platform.lifecycle import RestoreTier
from ingestion_platform.table import INTEGER, VARCHAR, Column
from ingestion_platform.warehouse import Warehouse
from ingestion_platform.warehouse.plan import Plan
from ingestion_platform_tests.warehouse.building import SHOPS, TILLS, Bench, Through

REPORT = """/*
description = "What each shop sold."
primary_key = ["shop"]

[columns]
shop = "Which."
lines = "How many."
units = "Sold."
price_zar = "Taken."

[[checks]]
name = "few_lines"
expression = "lines < 3"
severity = "warn"
*/
select shop, count(*) as lines, sum(units::int)::bigint as units, sum(price_zar) as price_zar
from processed.tills where "at" >= $window_start and "at" < $window_end {more} group by shop
"""

EVER = """/*
description = "All that was ever sold."
primary_key = ["id"]

[columns]
id = "Of the line."
*/
select id from processed.tills group by id
"""


def with_column(dataset: Dataset, column: Column) -> Dataset:
    """A dataset with a column declared otherwise, or added."""
    names = [one.name for one in dataset.columns]
    columns = tuple(column if one.name == column.name else one for one in dataset.columns)
    return replace(dataset, columns=columns if column.name in names else (*columns, column))


UNITS = TILLS.column("units")
CHANGES: Mapping[str, Dataset] = {
    "nothing": TILLS,
    "a rule tightened": with_column(TILLS, replace(UNITS, maximum=1)),
    "a rule loosened": with_column(TILLS, replace(UNITS, maximum=99)),
    "a type changed": with_column(TILLS, Column("units", VARCHAR, "How many.")),
    "a column added": with_column(TILLS, Column("till", INTEGER, "Which till.")),
    "a column read from elsewhere": with_column(TILLS, replace(UNITS, source="unit_count")),
    "a column removed": replace(TILLS, columns=tuple(one for one in TILLS.columns if one.name != "card")),
    "unknown columns fail": replace(TILLS, on_unknown_column="fail"),
    "lateness": replace(TILLS, daily=replace(TILLS.daily, allowed_lateness_days=1)),
}
"""What a declaration may become."""


def write_sql(folder: Path, *, more: str = "") -> Path:
    """A report by day, and a table without days."""
    (folder / "reports").mkdir(parents=True, exist_ok=True)
    for name, query in (("by_shop", REPORT.replace("{more}", more)), ("ever", EVER)):
        path = folder / "reports" / f"{name}.sql"
        if not path.exists():
            path.write_text(query)
    return folder


def bench_of(root: Path, tills: Dataset = TILLS, *, more: str = "", zone: LandingZone | None = None) -> Bench:
    """A bench on a folder, with tills as declared and the reports; the folder may have tables already."""
    sql = write_sql(root / f"sql{hashlib.sha256(more.encode()).hexdigest()[:6]}", more=more)
    return Bench(root, datasets=Datasets([SHOPS, tills]), sql=sql, zone=zone)


def digest_of(folder: Path) -> dict[str, str]:
    """Every file below a folder, with the hash of its content and when it was written."""
    return {
        str(path.relative_to(folder)): f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_mtime_ns}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class Counted(Through):
    """A landing zone that counts what is asked of it, and takes nothing."""

    def __init__(self, zone: LandingZone) -> None:
        super().__init__(zone)
        self.asked: Counter[str] = Counter()

    def read(self, object_: Any) -> bytes:
        """As the zone does."""
        self.asked["read"] += 1
        return super().read(object_)

    def put_if_absent(self, key: str, content: bytes) -> bool:
        """Refuse."""
        raise AssertionError(f"{key} was to land")

    def put_file_if_absent(self, key: str, file: Path, part_bytes: int) -> bool:
        """Refuse."""
        raise AssertionError(f"{key} was to land")

    def fetch_back(self, object_: Any, *, days: int, tier: RestoreTier) -> Any:
        """Refuse."""
        raise AssertionError(f"{object_.key} was to be fetched back")


@contextmanager
def untouched(*folders: Path) -> Iterator[None]:
    """Nothing below these folders is written."""
    before = [digest_of(folder) for folder in folders]
    yield
    for folder, former in zip(folders, before, strict=True):
        assert digest_of(folder) == former


# --- the state of a warehouse, and what is different in a later one


@dataclass
class State:
    """
    What a warehouse holds.

    Args:
        partitions: table and day → content, and rows by key.
        quarantine: dataset and day → object and row → rules.
        objects: dataset → key → state, SHA-256, rows.
    """

    partitions: dict[tuple[str, str], tuple[str, list[dict[str, Any]]]]
    quarantine: dict[tuple[str, str], dict[tuple[str, int], tuple[str, ...]]]
    objects: dict[str, dict[str, tuple[str, str, int]]]


def state_of(warehouse: Warehouse) -> State:
    """Look at everything."""
    partitions = {}
    for row in warehouse.ledger.everything()[2]:
        (file,) = warehouse.ledger.partition_files([row])
        rows = pq.ParquetFile(warehouse.store.absolute(file.path)).read().to_pylist()
        partitions[row.table_name, row.day] = (row.content, rows)
    quarantine: dict[tuple[str, str], dict[tuple[str, int], tuple[str, ...]]] = {}
    for one in warehouse.query("select dataset, _day, _object, _row, rules from platform.quarantine").to_pylist():
        place = quarantine.setdefault((one["dataset"], str(one["_day"])), {})
        place[one["_object"], one["_row"]] = tuple(one["rules"])
    objects: dict[str, dict[str, tuple[str, str, int]]] = {name: {} for name in warehouse.datasets}
    for name in warehouse.datasets:
        for day in warehouse.ledger.object_days(name):
            for key, found in warehouse.ledger.current(name, day).items():
                objects[name][key] = (found.state, found.sha256, found.rows_loaded)
    return State(partitions, quarantine, objects)


KEYS = {
    "processed.tills": ("id",),
    "processed.shops": ("shop",),
    "reports.by_shop": ("shop",),
    "reports.ever": ("id",),
}
ORIGIN = ("_object", "_row", "_landed_on")


def counted(table: str, before: State, after: State, day: str) -> tuple[int, int, int]:
    """Rows of a partition that came, went, changed."""
    former = _by_key(table, before.partitions.get((table, day), ("", []))[1])
    later = _by_key(table, after.partitions[table, day][1])
    columns = {column for row in (*former.values(), *later.values()) for column in row}
    changed = sum(
        any(_text(former[key].get(column)) != _text(later[key].get(column)) for column in columns)
        for key in former.keys() & later.keys()
    )
    return len(later.keys() - former.keys()), len(former.keys() - later.keys()), changed


def _by_key(table: str, rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], dict[str, Any]]:
    return {
        tuple(row[column] for column in KEYS[table]): {name: row[name] for name in row if name not in ORIGIN}
        for row in rows
    }


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def agrees(plan: Plan, before: State, after: State) -> None:
    """Assert that a plan is what has happened between two states."""
    happened = {
        place for place, (content, _) in after.partitions.items() if before.partitions.get(place, ("",))[0] != content
    }
    planned = {(one.table, one.day.isoformat() if one.day else "") for one in plan.partitions if not one.is_same}
    assert planned == happened
    for one in plan.partitions:
        day = one.day.isoformat() if one.day else ""
        assert after.partitions[one.table, day][0] == one.content
        found = one.difference
        assert (found.added, found.gone, found.changed) == counted(one.table, before, after, day), (one, day)
        name = one.table.split(".")[1]
        if one.balance is None:
            continue
        replaced = {
            key
            for key, (_, sha256, _) in after.objects[name].items()
            if before.objects[name].get(key, ("", sha256))[1] != sha256
        }
        was, now = before.quarantine.get((name, day), {}), after.quarantine.get((name, day), {})
        came: Counter[str] = Counter()
        for place, rules in now.items():
            if place not in was or place[0] in replaced:
                came.update(rules)
        went: Counter[str] = Counter()
        for place, rules in was.items():
            if place not in now and place[0] not in replaced:
                went.update(rules)
        assert dict(one.quarantined) == dict(came)
        assert dict(one.released) == dict(went)
        assert one.withdrawn == sum(place[0] in replaced for place in was)
    for dataset in plan.datasets:
        name = dataset.dataset
        refused = {
            key
            for key, (state, _, _) in after.objects[name].items()
            if state == "rejected" and before.objects[name].get(key, ("",))[0] in ("loaded", "duplicate")
        }
        assert dataset.refused_count == len(refused)
        rows = [sum(one[2] for one in state.objects[name].values() if one[0] == "loaded") for state in (before, after)]
        assert dataset.rows_after - dataset.rows_before == rows[1] - rows[0]
        assert dataset.rows_added - dataset.rows_gone == rows[1] - rows[0]
        assert sum(dataset.lost.rows.values()) == _lost(name, before, after, plan)


def _lost(name: str, before: State, after: State, plan: Plan) -> int:
    """Processed rows of restated days whose key is gone, and whose object is as it was."""
    table = f"processed.{name}"
    days = {str(one.day) for one in plan.partitions if one.table == table and not one.is_same}
    is_daily = name != "tills"
    left = {
        (*(row[column] for column in KEYS[table]), day if is_daily else "")
        for (of, day), (_, rows) in after.partitions.items()
        if of == table and day in days
        for row in rows
    }
    return sum(
        (*(row[column] for column in KEYS[table]), day if is_daily else "") not in left
        and before.objects[name][row["_object"]][1] == after.objects[name][row["_object"]][1]
        for (of, day), (_, rows) in before.partitions.items()
        if of == table and day in days
        for row in rows
    )
