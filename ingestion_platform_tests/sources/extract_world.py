"""A PostgreSQL database that is extracted from, with a landing zone and a warehouse, for tests."""

import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from ingestion_platform.database import Database, Extract, ExtractedRows
from ingestion_platform.dataset import EXTRACTED, EXTRACTED_COLUMNS, Daily, Dataset, Datasets
from ingestion_platform.landing import LandingZone, open_landing
from ingestion_platform.sources.extract import Extracted, Extraction
from ingestion_platform.sources.extracted import LandedExtract
from ingestion_platform.sources.opening import Connections, open_database
from ingestion_platform.sources.postgres_extract import PostgresDatabase
from ingestion_platform.table import VARCHAR, Column
from ingestion_platform.warehouse import upkeep
from ingestion_platform_tests.sources.postgres_server import Server
from ingestion_platform_tests.warehouse.building import Bench

ZONE = ZoneInfo("Africa/Johannesburg")
DAY = date(2024, 10, 1)
NOON = datetime(2024, 10, 1, 10, tzinfo=UTC)


class ExtractWorld:
    """
    A database of its own, and what is extracted from it.

    Args:
        folder: of landing zone and warehouse.
        server: with other databases, too.
        statements: that make the tables.
    """

    def __init__(self, folder: Path, server: Server, *statements: str) -> None:
        self.folder = folder
        self.server = server
        self.name = server.new_database(*statements)
        self.at = NOON
        self.database = Database(name="shop")
        self.replica: Server | None = None
        self._benches: dict[str, Bench] = {}
        (folder / "landing").mkdir(parents=True, exist_ok=True)

    def run(self, *statements: str) -> None:
        """Run statements in one transaction."""
        with self.server.connect(self.name) as connection, connection.transaction():
            for statement in statements:
                connection.execute(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with self.server.connect(self.name) as connection:
            return connection.execute(query).fetchall()

    def declared(self, **changes: Any) -> Extract:
        """An extract of the table `public.things`."""
        said: dict[str, Any] = {
            "name": "things",
            "description": "Things.",
            "database": self.database,
            "table": "public.things",
            "first_day": DAY,
        }
        said |= changes
        if said.get("query") is not None:
            said["table"] = None
        return Extract(**said)

    def opened(self, extract: Extract, **properties: str) -> PostgresDatabase:
        """The database, with other properties of the client."""
        known = {**self.server.properties(self.name), **properties}
        replicas = {"shop": self.replica.properties(self.name)} if self.replica is not None else {}
        opened = open_database(extract.database, Connections(databases={"shop": known}, replicas=replicas))
        assert isinstance(opened, PostgresDatabase)
        return opened

    def landed(self, extract: Extract, landing: LandingZone | None = None) -> LandedExtract:
        """The extract in the landing zone, as a new process sees it."""
        return LandedExtract(extract, landing or open_landing(str(self.folder / "landing")))

    def extraction(self, extract: Extract, *, landing: LandingZone | None = None, **options: Any) -> Extraction:
        """What extracts, a second after the time before."""
        return Extraction(
            self.landed(extract, landing), self.opened(extract), ZONE, now=self.now, first_wait_seconds=0.01, **options
        )

    def now(self) -> datetime:
        """The moment: a second later each time."""
        self.at += timedelta(seconds=1)
        return self.at

    def extract(self, extract: Extract, day: date = DAY, **options: Any) -> Extracted:
        """Extract."""
        return self.extraction(extract).run(day, **options)

    def keys(self) -> list[str]:
        """Everything that has landed."""
        root = self.folder / "landing"
        return sorted(
            str(path.relative_to(root))
            for path in root.rglob("*")
            if path.is_file() and path.suffix in (".parquet", ".json")
        )

    def dataset(self, extract: Extract, *columns: Column | str, **changes: Any) -> Dataset:
        """A dataset of it: all texts, `id` its key, an empty text being one."""
        made = tuple(
            one if isinstance(one, Column) else Column(one, VARCHAR, one, required=one == "id", null_values=())
            for one in columns
        )
        is_changes = extract.cursor is not None
        said: dict[str, Any] = {
            "name": extract.name,
            "description": "Things.",
            "source": ExtractedRows(extract),
            "kind": "changes" if is_changes else "snapshots",
            "changes": EXTRACTED if is_changes else None,
            "columns": (*made, *(EXTRACTED_COLUMNS if is_changes else ())),
            "primary_key": ("id",),
            "daily": Daily(DAY),
        }
        return Dataset(**{**said, **changes})

    def bench(self, dataset: Dataset) -> Bench:
        """The warehouse of a dataset, with all that has landed in it."""
        if dataset.name not in self._benches:
            self._benches[dataset.name] = Bench(self.folder, datasets=Datasets([dataset]))
        bench = self._benches[dataset.name]
        upkeep.catch_up(bench.warehouse)
        return bench

    def forget_warehouse(self) -> None:
        """The disk of the warehouse is lost; the landing zone isn't."""
        self._benches = {}
        for path in self.folder.iterdir():
            if path.name != "landing":
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def table(self, dataset: Dataset, *columns: str, table: str = "") -> list[tuple[object, ...]]:
        """Columns of the processed table, sorted; of changes those of the current one."""
        suffix = "_current" if dataset.kind == "changes" else ""
        bench = self.bench(dataset)
        assert bench.rows("platform.quarantine") == []
        return bench.rows(table or f"processed.{dataset.name}{suffix}", *columns)
