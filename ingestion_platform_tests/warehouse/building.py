"""Small warehouses over small businesses, and their sorted exports, for tests."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from pydantic import SecretStr

from ingestion_platform.dataset import Daily, Dataset, Datasets, LandedFiles
from ingestion_platform.landing import LandedObject, LandingZone, ObjectFile, open_landing
from ingestion_platform.lifecycle import Place, RestoreTier
from ingestion_platform.senders import Senders
from ingestion_platform.settings import Settings
from ingestion_platform.table import INTEGER, TIMESTAMP, VARCHAR, Column, Mask, decimal
from ingestion_platform.warehouse import RawDay, SqlTables, TableDay, Warehouse, load_sql_tables

DAY = date(2024, 10, 1)
HEADER = "id,shop,at,units,price_zar,card\n"

SHOPS = Dataset(
    name="shops",
    description="One row per shop.",
    kind="snapshots",
    source=LandedFiles("shops/%Y-%m-%d.csv"),
    columns=(
        Column("shop", VARCHAR, "Its number.", required=True),
        Column("since", VARCHAR, "First day."),
    ),
    primary_key=("shop",),
    daily=Daily(DAY),
)

TILLS = Dataset(
    name="tills",
    description="One row per line rung up.",
    source=LandedFiles(("tills/%Y-%m-%d/{shop}.csv", "tills/%Y-%m-%d/{shop}.csv.gz")),
    columns=(
        Column("id", VARCHAR, "The line.", required=True),
        Column("shop", VARCHAR, "Where.", required=True, references="shops.shop"),
        Column("at", TIMESTAMP, "When.", required=True),
        Column("units", INTEGER, "How many.", minimum=-9, maximum=9),
        Column("price_zar", decimal(8, 2), "What it cost."),
        Column("card", VARCHAR, "Whose.", pii=Mask.HASH),
    ),
    primary_key=("id",),
    event_time="at",
    daily=Daily(DAY, allowed_lateness_days=2),
    senders=Senders("shops", "shop"),
)

BUSINESS = Datasets([SHOPS, TILLS])


def line(
    id_: str, shop: str = "a", at: str = "2024-10-01 10:00:00", units: str = "1", price: str = "2.50", card: str = "c"
) -> str:
    """One record of `TILLS`."""
    return f"{id_},{shop},{at},{units},{price},{card}\n"


@dataclass
class Bench:
    """
    A warehouse on a folder of its own.

    Args:
        root: the folder.
        datasets: declared in it.
        zone: the landing zone; default: a folder below root.
        sql: folder of SQL tables; None: there are none.
        overrides: settings.
        clock: the moment, UTC.
    """

    root: Path
    datasets: Datasets = field(default_factory=lambda: BUSINESS)
    zone: LandingZone | None = None
    sql: Path | None = None
    overrides: dict[str, object] = field(default_factory=dict)
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def __post_init__(self) -> None:
        self.landing_folder = self.root / "landing"
        self.landing_folder.mkdir(parents=True, exist_ok=True)
        self.settings = Settings.model_validate(
            {
                "landing": str(self.landing_folder),
                "warehouse": self.root / "warehouse.duckdb",
                "publish": self.root / "published",
                "pii_salt": SecretStr("salt"),
                "threads": 2,
                **self.overrides,
            }
        )
        self.landing = self.zone or open_landing(*self.settings.landing_places)
        has_tables = self.sql is not None or any(dataset.kind == "changes" for dataset in self.datasets.values())
        folder = self.sql or self.root / "no-sql"
        tables = load_sql_tables(self.datasets, zone=self.settings.zone, folder=folder) if has_tables else SqlTables({})
        self.sql_tables = tables
        self.warehouse = self.open()

    def open(self) -> Warehouse:
        """Another warehouse object over the same files, as another process would have it."""
        return Warehouse(self.settings, self.landing, self.datasets, self.sql_tables, clock=lambda: self.clock())

    def put(self, key: str, content: str | bytes) -> None:
        """Write an object as a producer does: whatever was there before is gone."""
        path = self.landing_folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_name(f".{path.name}.arriving")
        half.write_bytes(content.encode() if isinstance(content, str) else content)
        half.replace(path)

    def put_shops(self, *shops: str, day: date = DAY) -> None:
        """Land the roster."""
        self.put(f"shops/{day}.csv", "shop,since\n" + "".join(f"{shop},\n" for shop in shops or ("a", "b", "c")))

    def load(self, name: str = "tills", day: date = DAY, *, reload: bool = False) -> RawDay:
        """Load a day."""
        return self.warehouse.load(self.datasets[name], day, reload=reload)

    def process(self, name: str = "tills", day: date = DAY, *, force: bool = False) -> TableDay:
        """Process a day."""
        return self.warehouse.process(self.datasets[name], day, force=force)

    def rows(self, table: str, *columns: str) -> list[tuple[object, ...]]:
        """A table's rows, sorted; none when nothing of it is there."""
        chosen = ", ".join(f'"{column}"' for column in columns) or "*"
        found = self.warehouse.query(f"select {chosen} from {table} order by all").to_pylist()
        return [tuple(row.values()) for row in found]

    def states(self, name: str = "tills", day: date = DAY) -> dict[str, str]:
        """Key → state, of a day's objects."""
        return {entry.key: entry.state for entry in self.warehouse.raw_day(self.datasets[name], day).entries}

    def export(self) -> dict[str, str]:
        """Every table, sorted, as CSV text: equal exports, equal tables."""
        return export(self.warehouse)


class Through:
    """A landing zone that does as another one does; tests change a call of it."""

    def __init__(self, zone: LandingZone) -> None:
        self._zone = zone
        self.url = zone.url

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[LandedObject]:
        """As the zone does."""
        return self._zone.list(prefix, start_after=start_after)

    def read(self, object_: LandedObject) -> bytes:
        """As the zone does."""
        return self._zone.read(object_)

    def open(self, object_: LandedObject) -> ObjectFile:
        """As the zone does."""
        return self._zone.open(object_)

    def put_if_absent(self, key: str, content: bytes) -> bool:
        """As the zone does."""
        return self._zone.put_if_absent(key, content)

    def is_at_hand(self, object_: LandedObject) -> bool:
        """As the zone does."""
        return self._zone.is_at_hand(object_)

    def fetch_back(self, object_: LandedObject, *, days: int, tier: RestoreTier) -> timedelta | None:
        """As the zone does."""
        return self._zone.fetch_back(object_, days=days, tier=tier)

    def ageing(self) -> AbstractContextManager[bool]:
        """As the zone does."""
        return self._zone.ageing()

    def age(self, object_: LandedObject, place: Place, sha256: str) -> Place:
        """As the zone does."""
        return self._zone.age(object_, place, sha256)


def export(warehouse: Warehouse) -> dict[str, str]:
    """Every table of a warehouse, the quarantine and the ledger's decisions, sorted, as CSV text."""
    tables = {f"{layer}.{name}": "*" for name in warehouse.datasets for layer in ("raw", "processed")}
    tables |= dict.fromkeys(warehouse.sql_tables, "*")
    tables["platform.quarantine"] = "*"
    tables["(select * from platform.ledger where state <> 'replaced')"] = (
        "dataset, key, day, state, duplicate_of, sha256, rows_read, rows_loaded, rows_quarantined, unknown_columns, missing_columns"
    )
    found = {}
    for table, columns in tables.items():
        arrow = warehouse.query(f"select {columns} from {table} order by all")
        found[table] = arrow.to_pandas().to_csv(index=False)
    return found


def differences(left: Mapping[str, str], right: Mapping[str, str]) -> Iterable[str]:
    """The tables in which two exports differ, with the first lines that do."""
    for table in left:
        if left[table] != right[table]:
            ours, theirs = left[table].splitlines(), right[table].splitlines()
            only = [text for text in ours if text not in theirs][:3], [text for text in theirs if text not in ours][:3]
            yield f"{table}: {len(ours)} lines, {len(theirs)} lines; {only}"
