"""
Raw as the declaration has it now, made of raw as it was loaded: nothing is listed and nothing read in the landing zone.

Belongs here: rewriting the files that hold values of adopted columns, and their ledger entries. Doesn't: telling what an object needs
(`shapes.py`), moving values (`moves.py`).

A file without such values stays as it is: only its objects' entries are noted anew. What can't be made of raw alone is left to the next
load, which reads it. As a load, an adoption is planned on what the ledger says, and looks again when somebody else has changed that.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from ingestion_platform.formats import LeftOver
from ingestion_platform.warehouse.contract import Contract
from ingestion_platform.warehouse.engine import parquet, relation, text
from ingestion_platform.warehouse.files import FileStore, StoredFile
from ingestion_platform.warehouse.ledger import Conflict, Ledger
from ingestion_platform.warehouse.ledger_rows import FileRow, ObjectRow
from ingestion_platform.warehouse.moves import Mover
from ingestion_platform.warehouse.raw_files import RowsFile, raw_schema
from ingestion_platform.warehouse.shapes import Need, Passage, Passages, Reader

log = logging.getLogger(__name__)

pc: Any = pyarrow.compute
"""Its stubs know nothing of columns that are neither arrays nor chunked."""

_NO_SHAPE = ""
"""The shape of an object that has to be read again."""


class _Unclear(Exception):
    """Objects whose rows can't be moved exactly."""

    def __init__(self, keys: set[str]) -> None:
        super().__init__(", ".join(sorted(keys)))
        self.keys = keys


class Adopter:
    """
    Brings a dataset's raw rows to the declaration.

    Args:
        contract: the dataset's.
        ledger: what raw holds.
        store: where rows are.
        engine: counts rows by processed day.
    """

    def __init__(self, contract: Contract, ledger: Ledger, store: FileStore, engine: duckdb.DuckDBPyConnection) -> None:
        self._contract = contract
        self._dataset = contract.dataset
        self._ledger = ledger
        self._store = store
        self._engine = engine
        self._reader = contract.reader()
        self._passages = Passages(ledger, self._reader, contract.shape, contract.naming)

    def adopt(self, first: date, last: date, *, run_id: str) -> tuple[set[str], int]:
        """
        Bring the raw days from *first* to *last* to the declaration, as far as raw alone tells how.

        Returns:
            The processed days touched, and how many rows were moved.
        """
        ending = f".{self._reader.homes}.{self._reader.shape}"
        touched: set[str] = set()
        rows = 0
        for day in self._ledger.days_read_otherwise(self._dataset.name, first, last, ending):
            while True:
                try:
                    more, moved = self._adopt_day(day, run_id)
                except Conflict as conflict:
                    log.info(
                        "%s %s: another run has changed %s meanwhile; looking again", self._dataset.raw, day, conflict
                    )
                    continue
                break
            touched |= more
            rows += moved
        return touched, rows

    def _adopt_day(self, day: date, run_id: str) -> tuple[set[str], int]:
        # In one state: another run may put the files together just now.
        with self._ledger.reading():
            rows = self._ledger.current(self._dataset.name, day)
            files = {file.file_id: file for file in self._ledger.files(self._dataset.raw, first=day, last=day)}
        needs = {row: need for row in rows.values() if (need := self._passages.need(row)).doing in ("note", "move")}
        if not needs:
            return set(), 0
        unclear: set[str] = set()
        written: dict[int, StoredFile] = {}
        facts: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
        try:
            for file_id in sorted({row.file_id for row, need in needs.items() if need.doing == "move" and row.file_id}):
                while True:
                    objects = {
                        row.key: (row, need)
                        for row, need in needs.items()
                        if need.doing == "move" and row.file_id == file_id and row.key not in unclear
                    }
                    if not objects:
                        break
                    try:
                        written[file_id], more = self._move(files[file_id], day, objects)
                    except _Unclear as found:
                        unclear |= found.keys
                        continue
                    facts |= more
                    break
            touched = self._commit(day, needs, files, written, unclear, facts, run_id)
        except BaseException:
            for file in written.values():
                self._store.discard(file.path)
            raise
        return touched, sum(file.rows for file in written.values())

    def _commit(
        self,
        day: date,
        needs: dict[ObjectRow, Need],
        files: dict[int, FileRow],
        written: dict[int, StoredFile],
        unclear: set[str],
        facts: dict[str, tuple[tuple[str, ...], tuple[str, ...]]],
        run_id: str,
    ) -> set[str]:
        counts = self._homes(day, needs, files, written, unclear)
        adopted = []
        for row, need in needs.items():
            former = Reader.parse(row.reader)
            reader = Reader(former.content, former.dialect, self._reader.homes, self._reader.shape)
            if row.key in unclear:
                adopted.append(replace(row, reader=str(replace(reader, shape=_NO_SHAPE))))
                continue
            row = replace(row, reader=str(reader))
            if row.state == "loaded":
                is_same_shape = former.shape == self._reader.shape
                unknown, missing = facts.get(row.key, (need.unknown or (), need.missing))
                if not is_same_shape:
                    row = replace(row, unknown_columns=json.dumps(unknown), missing_columns=json.dumps(missing))
                if row.key in counts:
                    row = replace(row, home_days=json.dumps(counts[row.key], sort_keys=True))
                if need.doing == "move":
                    row = replace(row, file_id=None, run_id=run_id)
            adopted.append(row)
        self._passages.note()
        return self._ledger.commit_adoption(
            self._dataset.name, day, found=list(needs), adopted=adopted, files=written, run_id=run_id
        )

    def _homes(
        self,
        day: date,
        needs: dict[ObjectRow, Need],
        files: dict[int, FileRow],
        written: dict[int, StoredFile],
        unclear: set[str],
    ) -> dict[str, dict[str, int]]:
        """Object → processed day → rows, of objects for which that may be otherwise now."""
        counts: dict[str, dict[str, int]] = {}
        for file in written.values():
            raw = f"select * from {parquet(self._store.absolute(file.path))}"
            counts |= count_homes(self._engine, self._contract, raw, day)
        moved_elsewhere = {
            row.key
            for row, need in needs.items()
            if need.doing == "note" and row.state == "loaded" and Reader.parse(row.reader).homes != self._reader.homes
        }
        stale = {row.file_id for row in needs if row.key in moved_elsewhere and row.file_id is not None}
        for file_id in stale:
            raw = relation(self._store, [files[file_id]], self._contract.raw_columns)
            found = count_homes(self._engine, self._contract, raw, day)
            counts |= {key: homes for key, homes in found.items() if key in moved_elsewhere}
        return counts

    def _move(
        self, file: FileRow, day: date, objects: dict[str, tuple[ObjectRow, Need]]
    ) -> tuple[StoredFile, dict[str, tuple[tuple[str, ...], tuple[str, ...]]]]:
        """
        Write rows of a file anew.

        Returns:
            The new file; and key → unknown and missing columns, of objects of which only the rows tell them.

        Raises:
            _Unclear: of these objects that can't be done.
        """
        self._store.verify(file.path, file.size_bytes, file.sha256)
        schema = raw_schema(self._contract.raw_columns)
        movers: dict[str, Mover] = {}
        by_shape: dict[str, list[str]] = {}
        for key, (row, _) in objects.items():
            by_shape.setdefault(Reader.parse(row.reader).shape, []).append(key)
        passages: dict[str, Passage] = {}
        for shape, keys in by_shape.items():
            passage = self._passages.passage(shape)
            assert passage is not None, "an object of an unknown shape is read"
            passages[shape] = passage
            takes = dict.fromkeys(name for key in keys for name in objects[key][1].takes)
            movers[shape] = Mover(passage, tuple(takes))
        explored = {
            key: LeftOver(need.takes, self._contract.naming.names or "flat")
            for key, (_, need) in objects.items()
            if need.unknown is None
        }
        rows = RowsFile(self._store, self._dataset.raw, day, schema)
        unclear: set[str] = set()
        try:
            with pq.ParquetFile(self._store.absolute(file.path)) as opened:
                for batch in opened.iter_batches():
                    table = pa.Table.from_batches([batch])
                    parts, places = [], []
                    for shape, keys in by_shape.items():
                        mask = pc.is_in(table.column("_object"), value_set=pa.array(keys, pa.string()))
                        place = pc.indices_nonzero(mask)
                        if not len(place):
                            continue
                        chosen = table if len(place) == table.num_rows else table.take(place)
                        moved, more = self._moved(chosen, movers[shape], schema)
                        unclear |= more
                        for key, extra in _pairs(chosen, explored):
                            explored[key].take(extra)
                        parts.append(moved)
                        places.append(place)
                    if parts:
                        whole = pa.concat_tables(parts)
                        # Rows stay in the order of the load.
                        order = pc.sort_indices(pa.concat_arrays(places))
                        rows.add(whole if len(parts) == 1 else whole.take(order))
            if unclear:
                raise _Unclear(unclear)
            written = rows.finish()
            assert written is not None, "objects with rows are moved, and no others"
        except BaseException:
            rows.close()
            if rows.path is not None:
                self._store.discard(rows.path)
            raise
        facts = {}
        for key, left_over in explored.items():
            row, _ = objects[key]
            facts[key] = (
                left_over.unknown_of(json.loads(row.unknown_columns)),
                passages[Reader.parse(row.reader).shape].missing(json.loads(row.missing_columns), left_over.seen),
            )
        return written, facts

    def _moved(self, table: pa.Table, mover: Mover, schema: pa.Schema) -> tuple[pa.Table, set[str]]:
        columns, extra, is_unclear = mover.move(table)
        unclear: set[str] = set()
        if pc.any(is_unclear).as_py():
            unclear = set(pc.unique(table.column("_object").filter(is_unclear)).to_pylist())
        arrays: list[Any] = []
        for column in self._dataset.columns:
            if column.capture is None:
                arrays.append(columns[column.name])
            else:
                arrays.append(self._captured(table.column("_object"), column.capture))
        arrays += [table.column(name) for name, _ in self._contract.envelope]
        arrays += [extra, table.column("_object"), table.column("_row"), table.column("_day")]
        return pa.Table.from_arrays(arrays, schema=schema), unclear

    def _captured(self, objects: Any, capture: str) -> Any:
        encoded = pc.dictionary_encode(objects.combine_chunks() if isinstance(objects, pa.ChunkedArray) else objects)
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.combine_chunks()
        values = []
        for key in encoded.dictionary.to_pylist():
            found = self._dataset.source.match(key)
            values.append(found[1][capture] if found else None)
        return pa.array(values, pa.string()).take(encoded.indices)


def _pairs(table: pa.Table, explored: dict[str, LeftOver]) -> Sequence[tuple[str, str]]:
    """Object and `_extra` of the rows that are looked into."""
    if not explored:
        return ()
    pairs = zip(table.column("_object").to_pylist(), table.column("_extra").to_pylist(), strict=True)
    return [(key, extra) for key, extra in pairs if extra is not None and key in explored]


def count_homes(
    engine: duckdb.DuckDBPyConnection, contract: Contract, raw: str, day: date
) -> dict[str, dict[str, int]]:
    """
    Count rows by object and processed day.

    Args:
        contract: the dataset's.
        raw: SQL of rows of raw, whose objects' keys are of *day*.
    """
    engine.execute(f"set TimeZone = {text(contract.time_zone)}")
    event_time = contract.dataset.event_time
    values = raw
    if event_time is not None and contract.has_late_rows(day):
        values = contract.values(raw, [contract.dataset.column(event_time)])
    rows = engine.execute(
        f"select _object, ({contract.home_day(day)})::varchar, count(*) from ({values}) group by 1, 2"
    ).fetchall()
    counts: dict[str, dict[str, int]] = {}
    for key, home, count in rows:
        counts.setdefault(key, {})[home] = count
    return counts
