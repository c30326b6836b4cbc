"""
Deployments of the example business in folders of their own, and what lands in them.

Belongs here: settings, landing, opening. Doesn't: judging what came out (`agreement.py`).
"""

from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from pydantic import SecretStr

from ingestion_platform.assembly import open_warehouse
from ingestion_platform.demo import FolderProducer, Plan, Step, Story, tell
from ingestion_platform.demo.plan import ALL_TROUBLES
from ingestion_platform.settings import Settings
from ingestion_platform.warehouse import Warehouse, upkeep

SALT = "9f2c-a-salt-that-nobody-may-see-71b4"
ALL = Plan(stores=12, days=7, lines_per_store_day=8, troubles=ALL_TROUBLES)
"""The smallest plan in which every trouble has files of its own."""


@dataclass(frozen=True)
class Place:
    """
    A deployment.

    Args:
        root: its folder.
        landing: its landing zone; default: a folder below root.
    """

    root: Path
    landing: str = ""

    @property
    def landing_folder(self) -> Path:
        """The landing zone's folder, where it is one."""
        return Path(self.settings.landing)

    @property
    def settings(self) -> Settings:
        """Its settings."""
        return Settings(
            landing=self.landing or str(self.root / "landing"),
            warehouse=self.root / "warehouse.duckdb",
            publish=self.root / "published",
            timezone="Africa/Johannesburg",
            pii_salt=SecretStr(SALT),
            notice_webhook=None,
            sinks=None,
            threads=2,
            memory_limit="",
        )

    def beside(self, root: Path) -> "Place":
        """Another warehouse over the same landing zone."""
        return replace(self, root=root, landing=self.settings.landing)

    def open(self) -> Warehouse:
        """Another warehouse object over the same files, as another process would have it."""
        return open_warehouse(self.settings)

    def put(self, key: str, content: bytes) -> None:
        """Land an object, over what is there."""
        FolderProducer(self.landing_folder).put(key, content)

    def land(self, step: Step) -> None:
        """Land a step of a story."""
        step.land(FolderProducer(self.landing_folder))

    def tell(self, plan: Plan) -> Story:
        """Land every step of a plan."""
        story = tell(plan)
        for step in story.steps:
            self.land(step)
        return story

    def catch_up(self) -> None:
        """Load and compute whatever is new."""
        with self.open() as warehouse:
            upkeep.catch_up(warehouse)

    def published(self) -> dict[str, bytes]:
        """Every published CSV by its path."""
        folder = self.settings.publish
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.csv"))}


def stale(warehouse: Warehouse) -> dict[str, list[date | None]]:
    """Table → days that are out of date; tables without any left out."""
    tables = [*(dataset.processed for dataset in warehouse.datasets.values()), *warehouse.sql_tables]
    return {table: days for table in tables if (days := warehouse.stale_days(table))}
