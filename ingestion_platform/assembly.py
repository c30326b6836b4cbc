"""
The parts, put together by the settings: where `definitions.py`, the commands and readers get their warehouse.

Belongs here: joining declarations, landing zone and warehouse. Doesn't: anything that happens in them. Nothing is read or opened
before it is asked for.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from zoneinfo import ZoneInfo

import ingestion_platform.datasets
from ingestion_platform.alert import Alert
from ingestion_platform.dataset import Datasets, find_datasets
from ingestion_platform.landing import open_landing
from ingestion_platform.live.worker import LiveWorker
from ingestion_platform.rules import Rules, find_rules
from ingestion_platform.settings import Settings
from ingestion_platform.stream import Stream
from ingestion_platform.warehouse import SqlTables, Warehouse, load_sql_tables


@lru_cache(maxsize=1)
def declared_datasets() -> Datasets:
    """
    Every dataset of `datasets/`.

    Raises:
        DeclarationError: one of them is wrong.
    """
    return find_datasets(ingestion_platform.datasets)


@lru_cache(maxsize=1)
def declared_rules() -> Rules:
    """
    Every live rule of `datasets/`.

    Raises:
        DeclarationError: one of them is wrong.
    """
    return find_rules(ingestion_platform.datasets)


@lru_cache(maxsize=4)
def declared_sql_tables(timezone: str) -> SqlTables:
    """
    Every table of `sql/`.

    Args:
        timezone: the business time zone; it decides types and windows.

    Raises:
        DeclarationError: one of them is wrong.
    """
    return load_sql_tables(declared_datasets(), zone=ZoneInfo(timezone), rules=declared_rules())


def open_warehouse(settings: Settings | None = None) -> Warehouse:
    """
    The warehouse that the settings name.

    Args:
        settings: default: those of the environment.
    """
    settings = settings or Settings.load()
    return Warehouse(
        settings, open_landing(*settings.landing_places), declared_datasets(), declared_sql_tables(settings.timezone)
    )


def open_live(
    streams: Sequence[Stream], settings: Settings, offer: Callable[[Sequence[Alert]], None] | None = None
) -> LiveWorker:
    """
    The live rules of streams that a worker follows. Nothing is read before it starts.

    Args:
        streams: those that are followed.
        settings: of the deployment.
        offer: takes alerts that have landed, to tell them.
    """
    return LiveWorker(
        declared_rules(),
        declared_datasets(),
        streams,
        zone=open_landing(*settings.landing_places),
        settings=settings,
        open_warehouse=partial(open_warehouse, settings),
        offer=offer,
    )
