"""A small shop with live rules: a stream in memory, its declarations, and a deployment in a folder."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import SecretStr

from ingestion_platform.dataset import Daily, Dataset, Datasets
from ingestion_platform.datasets.alerts import alerts
from ingestion_platform.landing import open_landing
from ingestion_platform.live.engine import LiveRules
from ingestion_platform.rules import Rule, Rules
from ingestion_platform.rules.kinds import LastsLonger, Signs, TooMany
from ingestion_platform.settings import Settings
from ingestion_platform.sources.landed import LandedStream
from ingestion_platform.stream import EVERYTHING_ELSE, Kafka, Stream, StreamSegments
from ingestion_platform.table import INTEGER, TIMESTAMP, VARCHAR, Column, Mask, decimal
from ingestion_platform.warehouse import SqlTables, Warehouse, load_sql_tables

ZONE = ZoneInfo("Africa/Johannesburg")
DAY = date(2024, 10, 1)
NOON = datetime(2024, 10, 1, 10, tzinfo=UTC)
SHOP = Stream(
    name="shop",
    description="What the shop tells as it happens.",
    source=Kafka(topic="shop"),
    first_day=DAY,
    segment_seconds=0.1,
)

paid = Dataset(
    name="paid",
    description="One row per payment.",
    source=StreamSegments(SHOP, routed_by="type", types=("paid",)),
    columns=(
        Column("id", VARCHAR, "Its number.", required=True),
        Column("paid_at", TIMESTAMP, "When.", required=True),
        Column("customer", VARCHAR, "Who.", pii=Mask.HASH),
        Column("amount_zar", decimal(12, 2), "How much.", required=True, minimum=0),
    ),
    primary_key=("id",),
    event_time="paid_at",
    daily=Daily(DAY, allowed_lateness_days=2),
)

readings = Dataset(
    name="readings",
    description="One row per reading of a freezer.",
    source=StreamSegments(SHOP, routed_by="type", types=("reading",)),
    columns=(
        Column("id", VARCHAR, "Its number.", required=True),
        Column("read_at", TIMESTAMP, "When.", required=True),
        Column("freezer", VARCHAR, "Which.", required=True),
        Column("celsius", INTEGER, "Inside.", required=True),
    ),
    primary_key=("id",),
    event_time="read_at",
    daily=Daily(DAY, allowed_lateness_days=2),
)

rest = Dataset(
    name="shop_rest",
    description="One row per record of another type.",
    source=StreamSegments(SHOP, routed_by="type", types=EVERYTHING_ELSE),
    columns=(
        Column("type", VARCHAR, "What it is."),
        Column("arrived_at", TIMESTAMP, "When it came.", source="@arrived_at", required=True),
    ),
    event_time="arrived_at",
    daily=Daily(DAY),
)

too_fast = Rule(
    name="too_fast",
    description="More than two payments of a customer within a minute.",
    on=paid,
    by=("customer",),
    kind=Signs(signs=(TooMany(within=timedelta(minutes=1), more_than=2, weight=1.0),), from_score=0.5),
    priority=1,
    action="hold",
)

warm = Rule(
    name="warm",
    description="A freezer that is warm for more than ten minutes.",
    on=readings,
    by=("freezer",),
    kind=LastsLonger(column="celsius", above=-15, longer_than=timedelta(minutes=10)),
    priority=2,
    action="notify",
)

DATASETS = Datasets([paid, readings, rest, alerts])
RULES = Rules([too_fast, warm])


def payment(number: int, customer: str | None, at: datetime, amount: str = "10.00") -> bytes:
    """A payment as it is sent."""
    sent: dict[str, Any] = {"type": "paid", "id": f"P{number:06}", "paid_at": at.isoformat(), "amount_zar": amount}
    return json.dumps(sent | ({"customer": customer} if customer else {})).encode()


def reading(number: int, freezer: str, at: datetime, celsius: int) -> bytes:
    """A reading as it is sent."""
    sent = {"type": "reading", "id": f"R{number:06}", "read_at": at.isoformat(), "freezer": freezer, "celsius": celsius}
    return json.dumps(sent).encode()


class Shop:
    """
    A deployment in a folder.

    Args:
        folder: of its own.
        now: what the clock says.
        datasets: that there are.
        rules: that there are.
    """

    def __init__(self, folder: Path, now: datetime = NOON, datasets: Datasets = DATASETS, rules: Rules = RULES) -> None:
        self.now = now
        self.datasets = datasets
        self.rules = rules
        self.settings = Settings(
            landing=str(folder / "landing"), warehouse=folder / "warehouse.duckdb", publish=folder / "published",
            timezone=ZONE.key, pii_salt=SecretStr("salt"), threads=1,
        )  # fmt: skip
        Path(self.settings.landing).mkdir(parents=True, exist_ok=True)
        self.zone = open_landing(self.settings.landing)
        self.sql_tables: SqlTables = load_sql_tables(datasets, zone=ZONE, folder=folder / "sql", rules=rules)

    def landed(self) -> LandedStream:
        """The stream in the landing zone."""
        return LandedStream(SHOP, self.zone, ZONE)

    def warehouse(self) -> Warehouse:
        """A warehouse, to be closed."""
        return Warehouse(self.settings, self.zone, self.datasets, self.sql_tables)

    def engine(self, on_landed: Sequence[Callable[..., None]] = (), **options: Any) -> LiveRules:
        """Live rules, not started."""
        return LiveRules(
            self.rules, self.datasets, [SHOP], zone=self.zone, settings=self.settings, open_warehouse=self.warehouse,
            on_landed=on_landed, clock=lambda: self.now, **options,
        )  # fmt: skip
