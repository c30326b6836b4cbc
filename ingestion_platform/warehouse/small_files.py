"""
Many small files of a raw day as few: a dataset that is loaded every second would otherwise take longer to process with each load.

Belongs here: which files are put together, and writing them as one. Doesn't: leaving out rows of those who are forgotten
(`traces.py`), values of adopted columns (`adopt.py`).

Files of about the same size are put together, eight at a time, so that a row is written again as often as the day grows eightfold. The
rows stay as they are, and with them all that is computed of them; so do the objects' entries but for the number of their file.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ingestion_platform.warehouse.contract import QUARANTINE_COLUMNS, Contract
from ingestion_platform.warehouse.engine import OBJECT_ORDER, relation
from ingestion_platform.warehouse.files import FileStore, StoredFile
from ingestion_platform.warehouse.ledger import Conflict, Ledger
from ingestion_platform.warehouse.ledger_rows import FileRow
from ingestion_platform.warehouse.raw_files import QUARANTINE_SCHEMA, ROW_GROUP_ROWS, RowsFile, raw_schema

log = logging.getLogger(__name__)

TOGETHER = 8
"""Files of about the same number of rows that are put together."""
MOST_TOGETHER = 64
"""Files that are put together at a time, where a day has more."""
SMALL_BYTES = 4 * 1024**2
"""A larger file is read as fast as its rows are: it stays."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """Files of rows, or of records that couldn't be read."""

    role: str
    folder: str
    columns: Sequence[tuple[str, str]]
    schema: pa.Schema


class SmallFiles:
    """
    Puts a dataset's small files of raw together.

    Args:
        contract: the dataset's.
        ledger: what raw holds.
        store: where rows are.
        engine: reads them.
    """

    def __init__(self, contract: Contract, ledger: Ledger, store: FileStore, engine: duckdb.DuckDBPyConnection) -> None:
        self._contract = contract
        self._dataset = contract.dataset
        self._ledger = ledger
        self._store = store
        self._engine = engine

    def put_together(self, day: date, *, run_id: str) -> int:
        """
        Put a raw day's small files together, as far as there are many; how many there were.

        Raises:
            WarehouseDamaged: a file isn't what was written.
        """
        done = 0
        raw = self._contract.raw_columns
        kinds = (
            _Kind("rows", self._dataset.raw, raw, raw_schema(raw)),
            _Kind("quarantine", f"quarantine.{self._dataset.name}", QUARANTINE_COLUMNS, QUARANTINE_SCHEMA),
        )
        for kind in kinds:
            while group := next(self._groups(day, kind), None):
                file = self._write(group, kind, day)
                try:
                    self._ledger.replace_files(group, self._dataset.raw, kind.role, file, run_id)
                except Conflict as conflict:
                    # Another run has put them together, or taken one back.
                    log.info(
                        "%s %s: %s is another one by now; its files stay as they are", self._dataset.raw, day, conflict
                    )
                    if file is not None:
                        self._store.discard(file.path)
                    return done
                done += len(group)
        return done

    def _groups(self, day: date, kind: _Kind) -> Iterator[list[FileRow]]:
        """Files of a day that are put together, those with the fewest rows first."""
        files = self._ledger.files(self._dataset.raw, role=kind.role, first=day, last=day)
        if len(files) < TOGETHER:
            return
        by_size: dict[int, list[FileRow]] = {}
        for file in files:
            if file.size_bytes <= SMALL_BYTES:
                by_size.setdefault(int(math.log(max(file.rows, 1), TOGETHER)), []).append(file)
        for _, group in sorted(by_size.items()):
            if len(group) < TOGETHER:
                continue
            # What has other columns than are declared stays as it is.
            group = [file for file in group if self._is_as_declared(file, kind.schema)][:MOST_TOGETHER]
            if len(group) >= TOGETHER:
                yield group

    def _is_as_declared(self, file: FileRow, schema: pa.Schema) -> bool:
        self._store.verify(file.path, file.size_bytes, file.sha256)
        return bool(pq.read_schema(self._store.absolute(file.path)).equals(schema))

    def _write(self, files: Sequence[FileRow], kind: _Kind, day: date) -> StoredFile | None:
        rows = relation(self._store, files, kind.columns, verify=False)
        written = RowsFile(self._store, kind.folder, day, kind.schema)
        try:
            return put_in_order(self._engine, rows, written, kind.schema)
        except BaseException:
            written.close()
            if written.path is not None:
                self._store.discard(written.path)
            raise


def put_in_order(
    engine: duckdb.DuckDBPyConnection, rows: str, written: RowsFile, schema: pa.Schema
) -> StoredFile | None:
    """
    Write a day's rows of raw in the order in which a load that finds everything there writes them (see `ObjectRow.order`).

    Args:
        rows: SQL of a relation.
        written: where they go.
        schema: of it.
    """
    ordered = engine.sql(f"select * from ({rows}) order by {OBJECT_ORDER}")
    reader: Any = ordered.to_arrow_reader(ROW_GROUP_ROWS)
    for batch in reader:
        written.add(pa.Table.from_batches([batch]).cast(schema))
    return written.finish()
