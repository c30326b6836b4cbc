"""A database in memory for tests of extracts: it has the rows that it is given, and fails where it is told to."""

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import pyarrow as pa

from ingestion_platform.database import Database, Extract
from ingestion_platform.errors import IngestionError
from ingestion_platform.sources.asking import Window
from ingestion_platform.sources.extract import Rows

Row = dict[str, str | None]


class MemoryDatabase:
    """
    One table; see `extract.OpenDatabase`.

    Args:
        database: how kindly.
        rows: all alike.
    """

    def __init__(self, database: Database, rows: Sequence[Row] = ()) -> None:
        self.database = database
        self.rows = list(rows)
        self.parts = 1
        self.error: IngestionError | None = None
        self.before: Callable[[str], None] = lambda _: None
        """Called with what is about to be done."""
        self.opened = 0

    @contextmanager
    def state(self, extract: Extract, _window: Window) -> "Iterator[MemoryState]":
        """See `OpenDatabase`."""
        self.opened += 1
        if self.error is not None:
            raise self.error
        yield MemoryState(self, extract)


class MemoryState:
    """See `extract.State`."""

    def __init__(self, opened: MemoryDatabase, extract: Extract) -> None:
        self.opened = opened
        self.extract = extract
        self.rows = list(opened.rows)
        self.extracted_at = datetime(2024, 10, 1, 10, tzinfo=UTC).isoformat()
        self.is_replica = False
        self.types = dict.fromkeys(self.rows[0] if self.rows else ("id", "at"), "text")
        self.since: str | None = None
        self.greatest: str | None = None

    def begin(self, since: str | None) -> tuple[int, str | None]:
        """See `State`."""
        cursor = self.extract.cursor
        if cursor is not None:
            self.since = since
            self.greatest = max(
                [*(value for row in self.rows if (value := row[cursor.column])), *([since] if since else [])],
                default=None,
            )
        return self.opened.parts, self.greatest

    def key_parts(self) -> int:
        """See `State`."""
        return self.opened.parts

    @contextmanager
    def reader(
        self, pace: Callable[[int], None], _chunk_rows: int | None, _is_stopped: Callable[[], bool]
    ) -> "Iterator[MemoryReader]":
        """See `State`."""
        yield MemoryReader(self, pace)


class MemoryReader:
    """See `extract.Reader`."""

    def __init__(self, state: MemoryState, pace: Callable[[int], None]) -> None:
        self.state = state
        self.pace = pace

    def rows(self, part: int, known: Collection[bytes]) -> Iterator[Rows]:
        """A row at a time."""
        cursor = self.state.extract.cursor
        for row in self._of_part(part):
            self.state.opened.before(f"row {row['id']}")
            self.pace(1)
            value = row[cursor.column] if cursor is not None else None
            if self.state.since is not None and (value is None or value < self.state.since):
                continue
            digest = hashlib.blake2b(repr(row).encode(), digest_size=16).digest()
            greatest = self.state.greatest
            window = [digest] if value is not None and greatest is not None and value >= greatest else []
            if digest in known:
                yield Rows(self._table([]), b"", window, 1)
            else:
                yield Rows(self._table([row]), digest, window, 0)

    def keys(self, part: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        """All at once."""
        self.state.opened.before("keys")
        yield self._table(self._of_part(part)).select(list(columns))

    def rows_of(self, keys: pa.Table) -> Iterator[pa.Table]:
        """All at once."""
        self.state.opened.before("rows of keys")
        wanted = [tuple(row.values()) for row in keys.to_pylist()]
        yield self._table([row for row in self.state.rows if tuple(row[name] for name in keys.column_names) in wanted])

    def _of_part(self, part: int) -> list[Row]:
        return self.state.rows[part :: self.state.opened.parts]

    def _table(self, rows: Sequence[Row]) -> pa.Table:
        schema = pa.schema([(name, pa.string()) for name in self.state.types])
        return pa.Table.from_pylist(list(rows), schema=schema)
