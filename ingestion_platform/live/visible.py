"""
Alerts that have landed as rows of `processed.alerts`, at once: loaded and processed by the worker itself, as anybody else would do it.

Belongs here: one thread that bundles what landed meanwhile. Doesn't: loading (`warehouse/`).
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import date

from ingestion_platform.errors import IngestionError
from ingestion_platform.warehouse import ALERTS, Warehouse

log = logging.getLogger(__name__)

PUBLISHED_SECONDS = 10.0
"""How often the file that people open is brought up to date; whoever asks the warehouse sees a row at once."""
AGAIN_SECONDS = 5.0


class VisibleAlerts:
    """
    Makes rows of landed alerts.

    Args:
        open_warehouse: opens one of its own, with the dataset `alerts`.
        on_visible: told of each day whose rows are there, and since when (`time.monotonic`) what had landed by then is.
    """

    def __init__(
        self, open_warehouse: Callable[[], Warehouse], on_visible: Callable[[date, float], None] | None = None
    ) -> None:
        self._open = open_warehouse
        self._on_visible = on_visible
        self._keys: dict[date, list[str]] = {}
        self._news = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="alerts-visible", daemon=True)

    @property
    def is_working(self) -> bool:
        """Whether what is told is done: an error that nobody foresaw ends it."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def landed(self, objects: Iterable[tuple[date, str]]) -> None:
        """Alerts have landed in objects of these days and keys."""
        with self._news:
            for day, key in objects:
                self._keys.setdefault(day, []).append(key)
            self._news.notify()

    def close(self) -> None:
        """Make rows of what is left, and end."""
        with self._news:
            self._is_closed = True
            self._news.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        warehouse = self._open()
        dataset = warehouse.datasets[ALERTS]
        published = time.monotonic()
        is_published = True
        known: set[date] = set()
        try:
            while True:
                with self._news:
                    if not self._keys and not self._is_closed:
                        self._news.wait(None if is_published else PUBLISHED_SECONDS)
                    landed, self._keys = self._keys, {}
                    is_closed = self._is_closed
                for day, keys in sorted(landed.items()):
                    began = time.monotonic()
                    try:
                        if day in known:
                            warehouse.take(dataset, day, keys)
                        else:
                            # What another worker has left, too.
                            warehouse.load(dataset, day)
                        warehouse.process(dataset, day)
                        known.add(day)
                        is_published = False
                        if self._on_visible is not None:
                            self._on_visible(day, began)
                    except IngestionError as error:
                        # They have landed: the sensor makes rows of them, too.
                        log.warning("alerts of %s aren't rows yet: %s", day, error)
                        known.discard(day)
                        if error.can_retry and not is_closed:
                            self._again(day, keys)
                if not is_published and (time.monotonic() - published >= PUBLISHED_SECONDS) and not is_closed:
                    warehouse.publish()
                    is_published, published = True, time.monotonic()
                if is_closed and not self._keys:
                    return
        finally:
            warehouse.close()

    def _again(self, day: date, keys: Sequence[str]) -> None:
        with self._news:
            self._news.wait(AGAIN_SECONDS)
            self._keys.setdefault(day, []).extend(keys)
