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
| `live_rows` | records of the running stream as the rows that the contract will make of them |
| `judged` | live rules over the processed tables |
| `agreement` | what was raised live, held against that |
| `drift` | columns that come, go, change their name or type, as events |
| `process` | raw → processed and quarantine |
| `sql_tables` | the files of `sql/`, understood |
| `current` | the current table of changes, as SQL |
| `derive` | processed → SQL tables; publishes reports |
| `catalog` | the DuckDB file that people open |
| `decided` | what people decide, put and listed in the landing zone |
| `quarantine` | rows that were set aside: looked at, redriven, discarded |
| `replay` | days read and computed again, with everything behind |
| `fingerprints` | what a partition holds as one number, and how two states differ |
| `certificates` | what a replay has changed, and why |
| `discards` | rows of the quarantine that people have discarded |
| `attendance` | who sent, who didn't, and what that makes of reports |
| `excuses` | senders whom a person has excused |
| `sender_notes` | what a sender should know of what he sent |
| `told_lines` | what he was told already |
| `receipts` | what senders' objects were before they were overwritten |
| `versions` | the history of reports, from provisional to restated |
| `ageing` | landed objects to colder places, and back from an archive |
| `backfill` | days loaded, and what that makes stale computed, without Dagster |
| `shadow` | a warehouse that works as another one does and leaves no trace |
| `plan` | what a backfill would do: it is done in a shadow, and the difference is told |
| `plan_text` | a plan in words |
| `trial` | a plan judged: what changed declarations would lose |
| `upkeep` | catch up, verify, repair, rebuild |
| `results` | what is told about a piece of work |
"""

from ingestion_platform.warehouse.agreement import Agreement
from ingestion_platform.warehouse.certificates import Certified
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
from ingestion_platform.warehouse.warehouse import ALERTS, ColumnDoc, Warehouse

__all__ = [
    "ALERTS", "Agreement", "Balance", "Certified", "ColumnDoc", "DriftEvent", "LedgerEntry", "Only", "RawDay", "SenderReport", "SqlTable",
    "SqlTables", "TableDay", "Waiting", "Warehouse", "load_sql_tables", "told_waiting",
]  # fmt: skip
