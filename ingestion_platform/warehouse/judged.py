"""
Live rules over the processed tables: what the batch says of a day, `processed.alerts_in_batch`.

Belongs here: the table as a derived one, and computing a day of it. Doesn't: the rules (`rules/`), holding it against what was raised live
(`agreement.py`).
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa

from ingestion_platform.dataset import Datasets
from ingestion_platform.errors import DeclarationError
from ingestion_platform.rules.judge import Days, Deserved, fold
from ingestion_platform.rules.knowledge import Knowledge
from ingestion_platform.rules.rule import Rules
from ingestion_platform.warehouse.contract import Contract
from ingestion_platform.warehouse.days import bounds
from ingestion_platform.warehouse.engine import name, text
from ingestion_platform.warehouse.live_rows import bind, columns_of, event_type, events_sql

TABLE = "alerts_in_batch"
ROWS = "judged_rows"
"""What the query of the table reads: the alerts of its day."""
READS_DAYS_BEFORE = 1
"""Rules look back a day at most."""

COLUMNS = {
    "alert_id": ("VARCHAR", "The same as of the alert that is raised live."),
    "rule": ("VARCHAR", "Which rule says so."),
    "about": ("VARCHAR", "What it is about, by column, as JSON; personal values masked."),
    "deserved_by": ("VARCHAR", "Key of the event that deserves it, or of the one that its episode began with."),
    "happened_at": ("TIMESTAMP", "When the event happened that shows it, UTC."),
    "priority": ("INTEGER", "Of the rule; 1 comes before 9."),
    "action": ("VARCHAR", "What is to be done."),
    "score": ("DECIMAL(4,3)", "How sure, 0 to 1."),
    "reasons": ("VARCHAR", "In words, the weightiest first, as a JSON array."),
    "details": ("VARCHAR", "Numbers behind them, as JSON."),
    "dataset": ("VARCHAR", "Whose event it is."),
}
"""Column → its type and its docs."""


def check_rules(rules: Rules, datasets: Datasets, known: Mapping[str, Mapping[str, str]], zone: ZoneInfo) -> None:
    """
    Hold rules against the tables that there are.

    Args:
        known: table → column → type.

    Raises:
        DeclarationError: one of them can't be judged.
    """
    for dataset in rules.datasets:
        if dataset not in datasets:
            raise DeclarationError(
                f"rule {rules.on(dataset)[0].name!r}: no dataset is called {dataset!r}", "declare it at top level"
            )
        bind(datasets[dataset], rules.on(dataset), zone)
    for rule in rules.values():
        if rule.known is None:
            continue
        columns = known.get(rule.known.table)
        if columns is None or not rule.known.table.startswith("processed."):
            raise DeclarationError(
                f"rule {rule.name!r} knows {rule.known.table!r}, which is no processed table with days",
                f"tables: {', '.join(sorted(table for table in known if table.startswith('processed.')))}",
            )
        missing = [column for column in (*rule.known.by, *rule.kind.asks) if column not in columns]
        if missing:
            raise DeclarationError(
                f"rule {rule.name!r}: {rule.known.table} has no column {missing[0]!r}", f"columns: {', '.join(columns)}"
            )


def digest(rules: Rules, datasets: Datasets, zone: ZoneInfo) -> str:
    """Changes whenever the same rows would deserve other alerts."""
    said = [rule.digest for rule in rules.values()] + [Contract(datasets[one], zone).digest for one in rules.datasets]
    return hashlib.sha256(repr(sorted(said)).encode()).hexdigest()


def register(
    engine: duckdb.DuckDBPyConnection,
    rules: Rules,
    datasets: Datasets,
    day: date,
    zone: ZoneInfo,
    *,
    relation: Callable[[str], str],
    known: Callable[[str, date, Sequence[str]], pa.Table | None],
) -> None:
    """
    Judge a day, and register its alerts as `ROWS`.

    Holds the day's events of one dataset in memory.

    Args:
        relation: SQL of a processed table's rows of the day and the one before.
        known: what is known beforehand; see `Knowledge`.
    """
    days = Days(lambda one: bounds(one, zone), lambda at: at.replace(tzinfo=UTC).astimezone(zone).date())
    found: list[Deserved] = []
    begins, ends = bounds(day, zone)
    for of in rules.datasets:
        dataset, on = datasets[of], rules.on(of)
        ask = Knowledge(on, known, lambda *_: None)
        longest = max(rule.kind.looks_back for rule in on)
        engine.execute(f"set TimeZone = {text(Contract(dataset, zone).time_zone)}")
        events = events_sql(dataset, on, relation(dataset.processed))
        moments = f"\"at\" >= timestamp '{begins - longest}' and \"at\" < timestamp '{ends}'"
        rows: Any = engine.sql(f"select * from ({events}) where bits > 0 and {moments}").to_arrow_table()
        at, key, _, *values, bits = [column.to_pylist() for column in rows.columns]
        made = list(map(event_type(dataset, on)._make, zip(at, key, [()] * len(at), *values, strict=True)))
        for number, rule in enumerate(on):
            wanted = (event for event, wants in zip(made, bits, strict=True) if wants >> number & 1)
            found += fold(rule, columns_of(on), wanted, day, days, ask)
    engine.execute("set TimeZone = 'UTC'")
    engine.register(ROWS, _as_table(found))


def empty_rows() -> str:
    """SQL of `ROWS` without rows."""
    return (
        "select "
        + ", ".join(f"null::{kind} as {name(column)}" for column, (kind, _) in COLUMNS.items())
        + " where false"
    )


def _as_table(found: Sequence[Deserved]) -> pa.Table:
    rows = []
    for one in found:
        alert = one.alert("raised", 0, one.finding.happened_at.replace(tzinfo=UTC))
        rows.append(
            {
                "alert_id": alert.id,
                "rule": alert.rule,
                "about": json.dumps(dict(alert.about), ensure_ascii=False, separators=(",", ":")),
                "deserved_by": alert.deserved_by,
                "happened_at": one.finding.happened_at,
                "priority": alert.priority,
                "action": alert.action,
                "score": f"{alert.score:.3f}",
                "reasons": json.dumps(list(alert.reasons), ensure_ascii=False, separators=(",", ":")),
                "details": json.dumps(dict(alert.details), ensure_ascii=False, separators=(",", ":")),
                "dataset": alert.dataset,
            }
        )
    kinds: dict[str, pa.DataType] = {"TIMESTAMP": pa.timestamp("us"), "INTEGER": pa.int32()}
    columns: list[tuple[str, pa.DataType]] = [
        (column, kinds.get(kind, pa.string())) for column, (kind, _) in COLUMNS.items()
    ]
    return pa.Table.from_pylist(rows, schema=pa.schema(columns))


def query(rules: Rules, datasets: Datasets, zone: ZoneInfo) -> str:
    """SQL of the table's day; it changes with the rules."""
    columns = ", ".join(f"cast({name(column)} as {kind}) as {name(column)}" for column, (kind, _) in COLUMNS.items())
    return f"select {columns} from {ROWS} /* rules {digest(rules, datasets, zone)[:16]} */"
