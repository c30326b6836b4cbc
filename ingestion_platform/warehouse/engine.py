"""
DuckDB as the engine: connections in memory, and the SQL text that every module here needs.

Belongs here: opening connections (nowhere else but `catalog.py`, which writes the file that people open), quoting, in which order
and with which options rows are written. Doesn't: what is computed.

No connection ever opens a file that another process could want: DuckDB reads and writes Parquet, and holds no lock.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import duckdb

from ingestion_platform.errors import SettingsError
from ingestion_platform.warehouse.files import FileStore
from ingestion_platform.warehouse.ledger_rows import FileRow


def connect(*, threads: int = 0, memory_limit: str = "", spill: Path | None = None) -> duckdb.DuckDBPyConnection:
    """
    Open an engine of one's own, in memory.

    Args:
        threads: 0 takes one per core.
        memory_limit: as in `2GB`; empty takes DuckDB's own default.
        spill: folder for what doesn't fit into memory.
    """
    config: dict[str, str | int | bool | float | list[str]] = {
        "threads": threads or os.cpu_count() or 1,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    if memory_limit:
        config["memory_limit"] = memory_limit
    if spill is not None:
        config["temp_directory"] = str(spill)
    try:
        connection = duckdb.connect(":memory:", config=config)
    except duckdb.Error as error:
        raise SettingsError(
            f"DuckDB doesn't take the settings: {error}", "see INGESTION_MEMORY_LIMIT and INGESTION_THREADS"
        ) from error
    connection.execute("set enable_progress_bar = false")
    return connection


COPY_OPTIONS = (
    "(format parquet, parquet_version v2, compression zstd, compression_level 1, dictionary_size_limit 5000,"
    " row_group_size 122880)"
)
"""A dictionary of many values costs more than it saves, and so does zstd's third level: a quarter of the time, for 3 % of room."""
PUBLISHED_OPTIONS = "(format parquet, compression zstd, row_group_size 122880)"
"""Any reader of Parquet takes the first version of its pages."""

OBJECT_ORDER = "length(_object), _object, _row"
"""The order in which a load that finds everything there writes a day's rows, and a file of raw has them (see `ObjectRow.order`)."""
LANDING_ORDER = f"order by _landed_on, {OBJECT_ORDER}"
"""The same, of rows that landed on several days."""


def name(identifier: str) -> str:
    """*identifier*, quoted for SQL."""
    return '"' + identifier.replace('"', '""') + '"'


def text(value: str) -> str:
    """*value* as a SQL string."""
    return "'" + value.replace("'", "''") + "'"


def parquet(path: Path) -> str:
    """SQL of the rows of one file. A folder on the way that is called `shop=a` is no column."""
    return f"read_parquet({text(str(path.absolute()))}, hive_partitioning = false)"


def relation(
    store: FileStore,
    files: Sequence[FileRow],
    columns: Iterable[tuple[str, str]],
    *,
    object_column: str = "_object",
    verify: bool = True,
) -> str:
    """
    The SQL of a relation over Parquet files, rows of excluded objects left out.

    Args:
        store: where the files are.
        files: none gives a relation without rows.
        columns: `(name, type)` of the result, in order; a file that lacks one has NULLs there.
        object_column: holds the object's key, for exclusions.
        verify: hold each file against its hash first.

    Raises:
        WarehouseDamaged: a file isn't what was written.
    """
    columns = list(columns)
    empty = "select " + ", ".join(f"null::{kind} as {name(column)}" for column, kind in columns) + " where false"
    if verify:
        for file in files:
            store.verify(file.path, file.size_bytes, file.sha256)
    selected = ", ".join(name(column) for column, _ in columns)
    parts = []
    whole = [file for file in files if not file.excluded]
    if whole:
        parts.append(
            f"select * from read_parquet({_paths(store, whole)}, union_by_name = true, hive_partitioning = false)"
        )
    for file in files:
        if file.excluded:
            keys = ", ".join(text(key) for key in file.excluded)
            source = parquet(store.absolute(file.path))
            parts.append(f"select * from {source} where {name(object_column)} not in ({keys})")
    if not parts:
        return empty
    union = " union all by name ".join([empty, *parts])
    return f"select {selected} from ({union})"


def _paths(store: FileStore, files: Sequence[FileRow]) -> str:
    return "[" + ", ".join(text(str(store.absolute(file.path).absolute())) for file in files) + "]"
