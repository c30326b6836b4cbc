"""
Where a warehouse isn't what the independent calculation says, in words.

Belongs here: comparing, table by table. Doesn't: calculating (`oracle.py`), and what a plan's incidents promise (`test_oracle.py`).
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow.parquet as pq

from ingestion_platform.api import ApiPages
from ingestion_platform.dataset import Dataset
from ingestion_platform.table import Column, Mask
from ingestion_platform.warehouse import Warehouse
from ingestion_platform_tests.oracle import Expected, Row

PLANTED_RULES = frozenset({"card_fraud", "warm_freezer"})
"""Of their alerts what was planted is the answer: see `live/test_planted_days.py`."""


def disagreements(warehouse: Warehouse, answer: Expected, report_days: Iterable[date]) -> list[str]:
    """
    Hold everything in a warehouse against *answer*: processed rows, masks, balances, objects, quarantine, reports, published files.

    Args:
        warehouse: which has caught up.
        answer: of the same landing zone.
        report_days: the days that *answer* has reports of.
    """
    found: list[str] = []
    for dataset in warehouse.datasets.values():
        found += _processed(warehouse, dataset, answer)
        found += _objects(warehouse, dataset, answer)
    found += _quarantine(warehouse, answer)
    for key in warehouse.sql_tables:
        found += _report(warehouse, key, answer, set(report_days))
    return found


def _processed(warehouse: Warehouse, dataset: Dataset, answer: Expected) -> Iterator[str]:
    raw = _raw_texts(warehouse, dataset)
    there = set(warehouse.days(dataset.processed))
    for day in sorted(there | set(answer.processed[dataset.name])):
        expected = answer.day(dataset.name, day)
        rows = warehouse.read(dataset.processed, first=day, last=day).to_pylist() if day in there else []
        rows.sort(key=lambda row: (row["_object"], row["_row"]))
        for row in rows:
            for column in dataset.columns:
                if column.pii is not None:
                    shown, sent = row.pop(column.name), raw[row["_object"], row["_row"]][column.name]
                    if shown != _masked(column, sent, warehouse):
                        yield f"{dataset.processed} {day}: {column.name} of {row['_object']} row {row['_row']} is shown as {shown!r}"
                elif column.type.sql == "JSON" and row[column.name] is not None:
                    row[column.name] = json.loads(row[column.name], parse_float=Decimal)
        yield from _different(f"{dataset.processed} {day}", rows, expected.rows)
        done = warehouse.table_day(dataset.processed, day)
        if done is None or done.balance is None:
            if expected.rows_raw:
                yield f"{dataset.processed} {day}: never computed"
            continue
        counted = (
            done.balance.rows_raw,
            done.balance.rows_processed,
            done.balance.rows_superseded,
            done.balance.rows_quarantined,
        )
        wanted = (expected.rows_raw, len(expected.rows), len(expected.superseded), len(expected.quarantined))
        if counted != wanted or not done.balance.holds:
            yield f"{dataset.processed} {day}: balance {counted}, expected {wanted}"


def _raw_texts(warehouse: Warehouse, dataset: Dataset) -> dict[tuple[str, int], dict[str, Any]]:
    """What was sent in personal columns, by object and row."""
    personal = [column.name for column in dataset.columns if column.pii is not None]
    if not personal:
        return {}
    names = ", ".join(f'"{name}"' for name in personal)
    rows = warehouse.query(f"select _object, _row, {names} from {dataset.raw}").to_pylist()
    return {(row["_object"], row["_row"]): row for row in rows}


def _masked(column: Column, sent: str | None, warehouse: Warehouse) -> str | None:
    if sent is None or sent in column.null_values or column.pii is Mask.REDACT:
        return None
    if column.pii is Mask.LAST4:
        return "*" * (len(sent) - 4) + sent[-4:]
    assert warehouse.settings.pii_salt is not None
    return hashlib.sha256((warehouse.settings.pii_salt.get_secret_value() + sent).encode()).hexdigest()


def _objects(warehouse: Warehouse, dataset: Dataset, answer: Expected) -> Iterator[str]:
    entries = [entry for day in warehouse.days(dataset.raw) for entry in warehouse.raw_day(dataset, day).entries]
    for state, wanted in (("loaded", answer.loaded), ("rejected", answer.rejected)):
        keys, expected = sorted(entry.key for entry in entries if entry.state == state), sorted(wanted[dataset.name])
        if keys != expected:
            yield f"{dataset.raw}: {state} {sorted(set(keys) ^ set(expected))} in one only"
    twins = {entry.key: entry.duplicate_of for entry in entries if entry.state == "duplicate"}
    if twins != answer.duplicates[dataset.name]:
        yield f"{dataset.raw}: duplicates {twins}, expected {answer.duplicates[dataset.name]}"
    decided = {"loaded", "rejected", "duplicate"}
    if isinstance(dataset.source, ApiPages):
        # A former fetch of a day.
        decided.add("replaced")
    if others := [entry.key for entry in entries if entry.state not in decided]:
        yield f"{dataset.raw}: undecided {others}"
    unknown = {
        entry.key: entry.unknown_columns for entry in entries if entry.state == "loaded" and entry.unknown_columns
    }
    if {key: tuple(sorted(names)) for key, names in unknown.items()} != answer.unknown_columns[dataset.name]:
        yield f"{dataset.raw}: unknown columns {unknown}, expected {answer.unknown_columns[dataset.name]}"
    for entry in entries:
        if entry.rows_read != entry.rows_loaded + entry.rows_quarantined:
            yield f"{entry.key}: {entry.rows_read} read, {entry.rows_loaded} + {entry.rows_quarantined} kept"


def _quarantine(warehouse: Warehouse, answer: Expected) -> Iterator[str]:
    rows = warehouse.query(
        "select dataset, _day, _object, _row, rules, reasons, record from platform.quarantine"
    ).to_pylist()
    found = sorted(
        (row["dataset"], row["_day"], row["_object"], row["_row"], tuple(sorted(row["rules"]))) for row in rows
    )
    wanted = sorted(
        (name, day, one.object, one.row, tuple(sorted(one.rules)))
        for name, days in answer.processed.items()
        for day, of_day in days.items()
        for one in of_day.quarantined
    )
    yield from (f"quarantine: {one} shouldn't be there" for one in found if one not in wanted)
    yield from (f"quarantine: {one} isn't there" for one in wanted if one not in found)
    if len(found) != len(wanted):
        yield f"quarantine: {len(found)} rows, expected {len(wanted)}"
    for row in rows:
        if not row["record"] or len(row["reasons"]) != len(row["rules"]) or not all(row["reasons"]):
            yield f"quarantine: {row['_object']} row {row['_row']} lacks its record or a reason"


def _report(warehouse: Warehouse, key: str, answer: Expected, days: set[date]) -> Iterator[str]:
    table = warehouse.sql_tables[key]
    there = set(warehouse.days(key))
    for day in sorted(there - days):
        # The state of such a day is that of the one before, and habits are those of the weeks before.
        if (
            not table.is_cumulative
            and not (table.layer == "processed" and table.history_days)
            and warehouse.read(key, first=day, last=day).num_rows
        ):
            yield f"{key} {day}: rows of a day that nothing is expected of"

    def place(row: Row) -> tuple[str, ...]:
        return tuple(str(row[column]).zfill(4) for column in table.primary_key)

    for day in sorted(days):
        wanted = sorted(answer.reports[table.name][day], key=place)
        rows = warehouse.read(key, first=day, last=day).to_pylist() if day in there else []
        # What a report says of itself is no part of the calculation.
        calculated = [{column: value for column, value in row.items() if column != "_state"} for row in rows]
        if table.judges is not None:
            calculated = [row for row in calculated if row["rule"] not in PLANTED_RULES]
        yield from _different(f"{key} {day}", sorted(calculated, key=place), wanted)
        if day in there and table.layer == "reports":
            published = warehouse.settings.publish / table.name / f"{day}.parquet"
            again = pq.read_table(published).to_pylist() if published.exists() else None
            if again != rows:
                yield f"{key} {day}: what is published isn't the table"


def _different(where: str, rows: list[Row], wanted: list[Row]) -> Iterator[str]:
    if rows == wanted:
        return
    yield f"{where}: {len(rows)} rows, expected {len(wanted)}"
    differing = ((one, other) for one, other in zip(rows, wanted, strict=False) if one != other)
    one, other = next(differing, ({}, {}))
    for column in one.keys() | other.keys():
        if one.get(column) != other.get(column):
            yield f"{where}: {column} is {one.get(column)!r}, expected {other.get(column)!r}"
