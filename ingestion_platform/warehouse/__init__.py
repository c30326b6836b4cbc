"""
The warehouse: who may write when, the ledger, load, process, quarantine, SQL tables. The only room that opens DuckDB.

| module | what |
|---|---|
| `warehouse` | the door: load, process, derive, and questions |
| `ledger` | every transaction: objects, files, partitions (SQLite) |
| `files` | Parquet files: written, hashed, verified, swept up |
| `engine` | DuckDB connections in memory, SQL quoting |
| `contract` | a declaration as SQL: casts, rules, days |
| `load` | landing → raw |
| `differences` | two relations compared by key, row by row |
| `raw_files` | rows on their way to raw's files |
| `standing` | which of several segments stands for a position |
| `shapes` | what an object needs when the declaration has other columns |
| `moves` | values moved out of `_extra` and between columns |
| `adopt` | raw → raw as the declaration has it now |
| `drift` | columns that come, go, change their name or type, as events |
| `process` | raw → processed and quarantine |
| `sql_tables` | the files of `sql/`, understood |
| `current` | the current table of changes, as SQL |
| `derive` | processed → SQL tables; publishes reports |
| `catalog` | the DuckDB file that people open |
| `ageing` | landed objects to colder places, and back from an archive |
| `upkeep` | catch up, verify, repair, rebuild |
| `results` | what is told about a piece of work |
"""

from ingestion_platform.warehouse.drift import DriftEvent
from ingestion_platform.warehouse.results import (
    Balance,
    LedgerEntry,
    Only,
    RawDay,
    SenderReport,
    TableDay,
    Waiting,
    told_waiting,
)
from ingestion_platform.warehouse.sql_tables import SqlTable, SqlTables, load_sql_tables
from ingestion_platform.warehouse.warehouse import ColumnDoc, Warehouse

__all__ = [
    "Balance", "ColumnDoc", "DriftEvent", "LedgerEntry", "Only", "RawDay", "SenderReport", "SqlTable", "SqlTables", "TableDay", "Waiting",
    "Warehouse", "load_sql_tables", "told_waiting",
]  # fmt: skip
