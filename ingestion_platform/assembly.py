"""
The parts, put together by the settings: where `definitions.py`, the commands and readers get their warehouse.

Belongs here: joining declarations, landing zone and warehouse. Doesn't: anything that happens in them. Nothing is read or opened
before it is asked for.
"""

from functools import lru_cache
from zoneinfo import ZoneInfo

import ingestion_platform.datasets
from ingestion_platform.dataset import Datasets, find_datasets
from ingestion_platform.landing import open_landing
from ingestion_platform.settings import Settings
from ingestion_platform.warehouse import SqlTables, Warehouse, load_sql_tables


@lru_cache(maxsize=1)
def declared_datasets() -> Datasets:
    """
    Every dataset of `datasets/`.

    Raises:
        DeclarationError: one of them is wrong.
    """
    return find_datasets(ingestion_platform.datasets)


@lru_cache(maxsize=4)
def declared_sql_tables(timezone: str) -> SqlTables:
    """
    Every table of `sql/`.

    Args:
        timezone: the business time zone; it decides types and windows.

    Raises:
        DeclarationError: one of them is wrong.
    """
    return load_sql_tables(declared_datasets(), zone=ZoneInfo(timezone))


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
