"""What the behaviour suite of captures needs of every kind of database, and the tables that it captures."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from ingestion_platform.dataset import CAPTURED, CAPTURED_COLUMNS, Daily, Dataset, Datasets
from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.sources.drain import Drain, Drained
from ingestion_platform.sources.landed import Found, LandedStream
from ingestion_platform.sources.reading import StreamReader
from ingestion_platform.stream import Stream, StreamSegments
from ingestion_platform.table import VARCHAR, Column
from ingestion_platform.warehouse import upkeep
from ingestion_platform_tests.warehouse.building import Bench

ZONE = ZoneInfo("Africa/Johannesburg")
FIRST_DAY = date(2024, 10, 1)

TABLES: Mapping[str, tuple[str, ...]] = {
    "customers": ("id", "name", "town", "notes"),
    "orders": ("id", "customer_id", "amount"),
}
"""Table → its columns; `id` is its key. `notes` may be so long that the database doesn't send it with every change."""


class DatabaseWorld(Protocol):
    """A real database of one kind on a server of its own, with `TABLES`, empty at first."""

    kind: str

    def declared(self, **changes: object) -> Stream:
        """The declaration of the capture of both tables."""
        ...

    def reader(self, stream: Stream) -> StreamReader:
        """A new reader of it."""
        ...

    def type_of(self, table: str) -> str:
        """What the capture calls a table."""
        ...

    def run(self, *statements: str) -> None:
        """Run statements in one transaction."""
        ...

    def rows(self, table: str) -> list[tuple[str | None, ...]]:
        """The rows of a table as they are now, each value as text, by key."""
        ...


def _by_id(row: Any) -> int:
    return int(row[0])


class Captured:
    """
    A capture with its landing zone and its warehouse.

    Args:
        folder: of both.
        world: the database.
        datasets: whether it has those of `TABLES`.
        changes: of the stream's declaration.
    """

    def __init__(self, folder: Path, world: DatabaseWorld, *, datasets: bool = True, **changes: object) -> None:
        self.world = world
        self.folder = folder
        self.stream = world.declared(**changes)
        self.datasets = Datasets(
            [
                Dataset(
                    name=table,
                    description=f"One row per change of {table}.",
                    kind="changes",
                    changes=CAPTURED,
                    source=StreamSegments(self.stream, routed_by="@header.table", types=(world.type_of(table),)),
                    columns=(
                        Column("id", VARCHAR, "Key.", required=True),
                        *(Column(name, VARCHAR, name) for name in columns[1:]),
                        *CAPTURED_COLUMNS,
                    ),
                    primary_key=("id",),
                    daily=Daily(FIRST_DAY),
                )
                for table, columns in (TABLES.items() if datasets else ())
            ]
        )
        self._bench: Bench | None = None

    @property
    def bench(self) -> Bench:
        """The warehouse; opened when it is needed."""
        if self._bench is None:
            self._bench = Bench(self.folder, datasets=self.datasets)
        return self._bench

    def landed(self) -> LandedStream:
        """The capture in its landing zone, as a new process sees it."""
        (self.folder / "landing").mkdir(parents=True, exist_ok=True)
        return LandedStream(self.stream, LocalLanding(self.folder / "landing"), ZONE)

    def drain(self, *, anew: bool = False) -> Drained:
        """Land what there is until now."""
        return Drain(self.landed(), self.world.reader(self.stream)).to_now(anew=anew)

    def current(self, table: str) -> list[Any]:
        """The rows of the current table, by key, after everything that has landed was loaded."""
        upkeep.catch_up(self.bench.warehouse)
        return sorted(self.bench.rows(f"processed.{table}_current", *TABLES[table]), key=_by_id)

    def history(self, table: str, *columns: str) -> list[Any]:
        """Columns of the history in the order of the changes; the capture's own beginning is left out."""
        upkeep.catch_up(self.bench.warehouse)
        rows: list[Any] = self.bench.rows(f"processed.{table}", "position", "operation", *columns)
        rows.sort(key=lambda row: int(row[0]))
        return [row[1:] for row in rows if row[1] not in ("RESTART", "SNAPSHOT")]

    def assert_same(self) -> None:
        """The current tables are the database's."""
        for table in TABLES:
            assert self.current(table) == sorted(self.world.rows(table), key=_by_id), table

    def places(self) -> list[tuple[str, int, int]]:
        """Shard, first and last position of each segment."""
        return sorted(
            (found.name.shard, found.name.span.first, found.name.span.last)
            for found in self._found()
            if found.name.kind == "segment" and found.name.span is not None
        )

    def gaps(self) -> Sequence[str]:
        """Keys of the notes of what is gone."""
        return [found.key for found in self._found() if found.name.kind == "gap"]

    def _found(self) -> tuple[Found, ...]:
        return self.landed()._list(self.stream.root)
