"""
Traces of a person in the warehouse's own files: found, and taken out where nothing else does it.

Belongs here: looking through Parquet files, the ledger's texts, published files; deleting what has left its table, and writing raw files
again without rows that no longer count. Doesn't: landed objects (`personal.py`), computing tables again (`forget.py`).

What is in use is never changed here but for rows that don't count: it is computed again from raw, by whoever asks.
"""

import logging
import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestion_platform.errors import WarehouseDamaged
from ingestion_platform.formats import Words
from ingestion_platform.warehouse.engine import name, parquet, text
from ingestion_platform.warehouse.files import StoredFile
from ingestion_platform.warehouse.ledger import Conflict
from ingestion_platform.warehouse.ledger_file import seal
from ingestion_platform.warehouse.ledger_rows import FileRow
from ingestion_platform.warehouse.warehouse import Warehouse

log = logging.getLogger(__name__)

INSTEAD = "forgotten"
"""What stands in texts in the place of a key."""

_UNSEALED = {"files": ("dropped_at",)}
"""Columns of a sealed table that its seal leaves out."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    What is looked for.

    Args:
        words: keys of the person, and what hashed columns show of them.
        columns: table of raw → columns, and the keys that tell in them, however short.
    """

    words: Words
    columns: dict[str, list[tuple[str, frozenset[str]]]]

    def condition(self, row: str, table: str, there: Sequence[str]) -> str:
        """SQL: whether a row has one of them."""
        found = []
        for value in self.words.values:
            pattern = rf"(^|\W){re.escape(value)}($|\W)"
            found.append(
                f"(contains({row}::varchar, {text(value)}) and regexp_matches({row}::varchar, {text(pattern)}))"
            )
        for column, values in self.columns.get(table, ()):
            if column in there:
                listed = ", ".join(text(value) for value in sorted(values))
                found.append(f"coalesce(trim({name(column)}::varchar) in ({listed}), false)")
        return " or ".join(found) or "false"


class Traces:
    """
    Looks through a warehouse.

    Args:
        warehouse: whose files.
        wanted: what is looked for.
    """

    def __init__(self, warehouse: Warehouse, wanted: Wanted) -> None:
        self._warehouse = warehouse
        self._store = warehouse.store
        self._ledger = warehouse.ledger
        self._wanted = wanted

    def in_file(self, path: Path, table: str) -> bool:
        """Whether a Parquet file has one."""
        try:
            return self._count(self._warehouse.engine, path, table) > 0
        except duckdb.Error as error:
            raise WarehouseDamaged(
                f"{path} can't be looked through: {str(error).splitlines()[0]}",
                "`python -m ingestion_platform repair` makes it anew from the landing zone",
            ) from error

    def _count(self, engine: duckdb.DuckDBPyConnection, path: Path, table: str) -> int:
        there = pq.read_schema(path).names
        condition = self._wanted.condition("t", table, there)
        return int(engine.execute(f"select count(*) from {parquet(path)} t where {condition}").fetchall()[0][0])

    # --- tables in use

    def tables(self) -> list[str]:
        """All that have files."""
        datasets = self._warehouse.datasets.values()
        return [
            *(dataset.raw for dataset in datasets),
            *(dataset.processed for dataset in datasets),
            *self._warehouse.sql_tables,
        ]

    def in_use(self) -> Iterator[tuple[str, str, FileRow]]:
        """Table, role and file of each that has one and is in use."""
        for table in self.tables():
            for role in ("rows", "quarantine"):
                for file in self._ledger.files(table, role=role):
                    if self.in_file(self._store.absolute(file.path), table):
                        yield table, role, file

    def compact(self, table: str, role: str, file: FileRow) -> bool:
        """
        Write one of raw's files again without the rows of objects that no longer count.

        Returns:
            Whether that was all of the traces in it.
        """
        self._store.verify(file.path, file.size_bytes, file.sha256)
        source = self._store.absolute(file.path)
        path = self._store.new_path(table if role == "rows" else f"quarantine.{table.partition('.')[2]}", file.day)
        rows = 0
        with (
            pq.ParquetFile(source) as opened,
            pq.ParquetWriter(
                self._store.absolute(path),
                opened.schema_arrow,
                compression="zstd",
                use_dictionary=["_object"],  # type: ignore[arg-type]  # the stubs know of bool only
            ) as writer,
        ):
            excluded = pa.array(file.excluded, pa.string())
            for group in range(opened.metadata.num_row_groups):
                read = opened.read_row_group(group)
                left = read.filter(pc.invert(pc.is_in(read.column("_object"), value_set=excluded)))
                rows += left.num_rows
                if left.num_rows:
                    writer.write_table(left)
        stored: StoredFile | None = self._store.describe(path, rows) if rows else None
        try:
            self._ledger.replace_files([file], table, role, stored, "")
        except Conflict:
            self._store.discard(path)
            return False
        if stored is None:
            self._store.discard(path)
            return True
        return not self.in_file(self._store.absolute(path), table)

    # --- files that have left their tables

    def purge(self) -> int:
        """
        Delete files that left their table and have one; how many.

        Who reads a former state just now fails, and reads again: that is what forgetting means.
        """
        gone = []
        for path in self._ledger.dropped_all():
            absolute = self._store.absolute(path)
            table = ".".join(path.split("/")[1:3])
            if not absolute.exists() or self.in_file(absolute, table.replace("quarantine.", "raw.")):
                gone.append(path)
        for path in gone:
            self._store.discard(path)
        self._ledger.forget(gone)
        return len(gone)

    def unknown_files(self) -> list[Path]:
        """Parquet files below the warehouse that no ledger entry names and that have one: of runs that are under way, or were killed."""
        found = []
        folder = self._store.root / "tables"
        paths = sorted(str(path.relative_to(self._store.root)) for path in folder.rglob("*.parquet"))
        known = self._ledger.known_paths(paths)
        for path in paths:
            if path in known:
                continue
            try:
                if self.in_file(self._store.absolute(path), ".".join(path.split("/")[1:3])):
                    found.append(self._store.absolute(path))
            except WarehouseDamaged:
                # Still being written: nobody can say what is in it.
                found.append(self._store.absolute(path))
        return found

    def others(self) -> list[Path]:
        """Files of any other kind below the warehouse that have one: what is being copied from elsewhere, or was spilled."""
        found = []
        root = self._store.root
        for path in sorted(root.rglob("*")) if root.is_dir() else ():
            inside = path.relative_to(root).parts
            if inside[0] == "tables" or inside[0].startswith("ledger.sqlite") or not path.is_file():
                continue
            if self._stands_in(path):
                found.append(path)
        return found

    def _stands_in(self, path: Path) -> bool:
        end = b""
        try:
            with path.open("rb") as file:
                while piece := file.read(1 << 20):
                    if self._wanted.words.hold_bytes(end + piece):
                        return True
                    end = piece[-1000:]
        except FileNotFoundError:
            # Gone meanwhile, as temporary files go.
            return False
        return False

    def in_published(self) -> list[Path]:
        """Published files that have one."""
        found = []
        folder = self._warehouse.settings.publish
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            if not path.is_file():
                continue
            if path.suffix == ".parquet":
                if self.in_file(path, ""):
                    found.append(path)
            elif self._wanted.words.hold_bytes(path.read_bytes()):
                found.append(path)
        return found

    # --- the ledger

    def blank_ledger(self) -> int:
        """Put another word in the place of keys in the ledger's own texts; how many rows that were."""
        words, count = self._wanted.words, 0
        if not words:
            return 0
        with self._ledger.writing() as connection:
            tables = [one for (one,) in connection.execute("select name from sqlite_master where type = 'table'")]
            for table in tables:
                count += self._blank_table(connection, table)
        return count

    def _blank_table(self, connection: sqlite3.Connection, table: str) -> int:
        columns = [row["name"] for row in connection.execute(f"pragma table_info({table})")]
        texts = " || ' ' || ".join(f"coalesce({name(column)}, '')" for column in columns)
        where = " or ".join("instr(line, ?) > 0" for _ in self._wanted.words.values)
        rows = connection.execute(
            f"select * from (select *, {texts} as line from {table}) where {where}", self._wanted.words.values
        ).fetchall()
        keys = [row["name"] for row in connection.execute(f"pragma table_info({table})") if row["pk"]]
        count = 0
        for row in rows:
            values = {column: row[column] for column in columns}
            left = {
                column: self._wanted.words.blanked(value, INSTEAD) if isinstance(value, str) else value
                for column, value in values.items()
            }
            if left == values:
                continue
            count += 1
            at = " and ".join(f"{name(key)} = ?" for key in keys)
            which = [values[key] for key in keys]
            if any(left[key] != values[key] for key in keys):
                # What is known by the key of something that is gone is known no more.
                connection.execute(f"delete from {table} where {at}", which)
                continue
            if "seal" in columns:
                sealed = [column for column in columns if column not in ("seal", *_UNSEALED.get(table, ()))]
                self._ledger.check_seal(row, tuple(values[column] for column in sealed), f"{table} {which}")
                left["seal"] = seal(tuple(left[column] for column in sealed))
            put = ", ".join(f"{name(column)} = ?" for column in columns)
            connection.execute(f"update {table} set {put} where {at}", [*left.values(), *which])
        return count

    def scrub_ledger(self) -> None:
        """Leave nothing in the ledger's file of rows that are gone: SQLite only marks their room as free."""
        self._ledger.scrub()

    # --- what stands beside

    def set_aside(self) -> list[Path]:
        """Former warehouses beside this one, which a rebuild has set aside."""
        folder = self._warehouse.folder
        return sorted(folder.parent.glob(f"{folder.name}.aside-*")) if folder.parent.is_dir() else []
