"""
Judging a warehouse after all that it went through: the tables are those of a clean run, the ledger balances, nothing is left over, and
another run has nothing to do.

Belongs here: looking and comparing. Doesn't: mending anything.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from ingestion_platform.errors import IngestionError
from ingestion_platform.warehouse import TableDay, Warehouse, upkeep

LEDGER = "ledger"
"""What the ledger's decisions are called in an export."""
MOST_SHOWN = 3

_DECISIONS = "dataset, key, day, state, duplicate_of, sha256, rows_read, rows_loaded, rows_quarantined, unknown_columns, missing_columns"


@dataclass(frozen=True)
class Export:
    """
    Everything that a warehouse shows.

    Args:
        tables: table → a row a line, sorted: raw, processed, reports, the quarantine, and what the ledger has decided.
        published: path → bytes, of the reports' CSV files.
    """

    tables: Mapping[str, str]
    published: Mapping[str, bytes]


def export(warehouse: Warehouse) -> Export:
    """
    Every table, a row a line, sorted: equal exports, equal tables.

    What the ledger has decided leaves former versions and doubles out: that they are there is no difference.
    """
    queries = {f"{layer}.{name}": f"{layer}.{name}" for name in warehouse.datasets for layer in ("raw", "processed")}
    queries |= {key: key for key in warehouse.sql_tables}
    queries["platform.quarantine"] = "platform.quarantine"
    queries[LEDGER] = f"(select {_DECISIONS} from platform.ledger where state not in ('replaced', 'duplicate'))"
    # One query: each makes its views anew.
    rows = warehouse.query(
        " union all ".join(
            f"select '{name}' as name, to_json(one)::varchar as line from {source} as one"
            for name, source in queries.items()
        )
    )
    lines: dict[str, list[str]] = {name: [] for name in queries}
    for row in rows.to_pylist():
        lines[row["name"]].append(row["line"])
    found = {name: "\n".join(sorted(of_table)) for name, of_table in lines.items()}
    folder = warehouse.settings.publish
    return Export(
        found, {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.csv"))}
    )


def differences(found: Export, clean: Export) -> Iterator[str]:
    """In which tables and files two exports differ, with the first lines that do."""
    for table in sorted(found.tables.keys() | clean.tables.keys()):
        ours, theirs = found.tables.get(table, ""), clean.tables.get(table, "")
        if ours != theirs:
            yield f"{table} isn't the clean run's: {_lines(ours.splitlines(), theirs.splitlines())}"
    for path in sorted(found.published.keys() | clean.published.keys()):
        if found.published.get(path) != clean.published.get(path):
            yield f"what is published as {path} isn't the clean run's"


def _lines(ours: Sequence[str], theirs: Sequence[str]) -> str:
    held, wanted = set(ours), set(theirs)
    extra = [line for line in ours if line not in wanted][:MOST_SHOWN]
    missing = [line for line in theirs if line not in held][:MOST_SHOWN]
    return f"{len(ours):,} rows, expected {len(theirs):,}; too many {extra}; missing {missing}"


def unbalanced(warehouse: Warehouse) -> Iterator[str]:
    """What the ledger says that doesn't add up, by itself or against the files and the landing zone."""
    for damage in upkeep.verify(warehouse):
        yield f"{damage.table or 'the ledger'} {damage.day}: {damage.what}".strip()
    for dataset in warehouse.datasets.values():
        for day in upkeep.landed_days(warehouse, dataset):
            listed = {landed.key for landed in warehouse.listing(dataset, day)}
            entries = warehouse.raw_day(dataset, day).entries
            known = {entry.key for entry in entries}
            for key in sorted(listed - known):
                yield f"{key} has landed, and the ledger doesn't have it"
            for entry in entries:
                if entry.state == "pending":
                    yield f"{entry.key} is still to be loaded"
        for table_day in _computed(warehouse, dataset.processed):
            balance = table_day.balance
            if balance is not None and not balance.holds:
                yield f"{dataset.processed} {table_day.day}: {balance}, which doesn't balance"
    for table in [*(dataset.processed for dataset in warehouse.datasets.values()), *warehouse.sql_tables]:
        if stale := warehouse.stale_days(table):
            yield f"{table} is out of date on {len(stale)} days"


def _computed(warehouse: Warehouse, table: str) -> Iterator[TableDay]:
    days: list[date] = warehouse.days(table)
    for day in days:
        found = warehouse.table_day(table, day)
        if found is not None:
            yield found


def left_over(warehouse: Warehouse) -> Iterator[str]:
    """Files that belong to nothing."""
    folder = warehouse.folder
    files = {str(path.relative_to(folder)) for path in (folder / "tables").rglob("*") if path.is_file()}
    for path in sorted(files - warehouse.ledger.known_paths(sorted(files))):
        yield f"{path} is no part of any table"
    yield from (f"{path} was left behind" for path in sorted(warehouse.settings.warehouse.parent.rglob("*.half")))
    yield from (f"{path} was left behind" for path in sorted(folder.glob(".writer-*")))


def again(warehouse: Warehouse) -> Iterator[str]:
    """What another run would do, which is nothing."""
    before = warehouse.ledger.commits()
    upkeep.catch_up(warehouse)
    after = warehouse.ledger.commits()
    if before != after:
        yield f"another run isn't without effect: it made {after - before} commits"


def judge(warehouse: Warehouse, clean: Export, *, is_twin: bool = False) -> list[str]:
    """
    Everything that is wrong with a warehouse; nothing when it has survived.

    Args:
        warehouse: after a last run that nothing went wrong in.
        clean: what a run without faults made of the same objects.
        is_twin: a broken loader worked here. It may note versions in its own way, which alone is nothing that it is caught by.
    """
    wrong: list[str] = []
    try:
        wrong += differences(export(warehouse), clean)
        wrong += unbalanced(warehouse)
        if not is_twin:
            wrong += again(warehouse)
        warehouse.publish()
        wrong += left_over(warehouse)
    except IngestionError as error:
        wrong.append(f"it can't be read: {error}")
    return wrong


def size_of(*folders: Path) -> int:
    """Bytes of all files below."""
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())
