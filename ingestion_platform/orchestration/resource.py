"""
The warehouse as steps and sensors get it.

Nothing is opened before the first question; each step and each sensor tick opens its own and closes it, so that what it changed is
published for readers when it ends.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from zoneinfo import ZoneInfo

from ingestion_platform.warehouse import Warehouse


class WarehouseResource:
    """
    Opens the warehouse for a step or a tick.

    Args:
        open_warehouse: makes one; does no I/O itself.
        zone: business time.
    """

    def __init__(self, open_warehouse: Callable[[], Warehouse], zone: ZoneInfo) -> None:
        self._open_warehouse = open_warehouse
        self.zone = zone

    def today(self) -> date:
        """The business day that it is now."""
        return datetime.now(self.zone).date()

    @contextmanager
    def opened(self) -> Iterator[Warehouse]:
        """A warehouse, closed at the end whatever happens."""
        warehouse = self._open_warehouse()
        try:
            yield warehouse
        finally:
            warehouse.close()
