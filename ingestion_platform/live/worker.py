"""
Live rules as the worker has them: the engine, rows of what it lands, and whoever tells it.

Belongs here: putting these together, and a line in the log now and then. Doesn't: following streams (`orchestration/worker.py`).
"""

import logging
import time
from collections.abc import Callable, Sequence

from ingestion_platform.alert import Alert
from ingestion_platform.dataset import Datasets
from ingestion_platform.landing import LandingZone
from ingestion_platform.live.engine import LiveRules, collect_less_often
from ingestion_platform.live.visible_process import VisibleProcess
from ingestion_platform.rules.rule import Rules
from ingestion_platform.settings import Settings
from ingestion_platform.stream import Stream
from ingestion_platform.warehouse import Warehouse

log = logging.getLogger(__name__)

TOLD_SECONDS = 30.0


class LiveWorker:
    """
    The live rules of a worker.

    Args:
        rules: all of them.
        datasets: all of them.
        streams: those that are followed.
        zone: the landing zone.
        settings: of the deployment.
        open_warehouse: opens one; goes to another process, so it can be pickled.
        offer: takes alerts that have landed, to tell them.
    """

    def __init__(
        self,
        rules: Rules,
        datasets: Datasets,
        streams: Sequence[Stream],
        *,
        zone: LandingZone,
        settings: Settings,
        open_warehouse: Callable[[], Warehouse],
        offer: Callable[[Sequence[Alert]], None] | None = None,
    ) -> None:
        self._visible = VisibleProcess(open_warehouse)
        told: list[Callable[[Sequence[Alert]], None]] = [offer] if offer is not None else []
        self.rules = LiveRules(
            rules,
            datasets,
            streams,
            zone=zone,
            settings=settings,
            open_warehouse=open_warehouse,
            on_landed=told,
            on_objects=self._visible.landed,
        )
        self._told_at = time.monotonic()

    def start(self) -> None:
        """Begin to judge. The process is from then on one that holds much."""
        collect_less_often()
        self._visible.start()
        self.rules.start()

    def tell_when_due(self) -> None:
        """Log how it stands, now and then."""
        if time.monotonic() - self._told_at >= TOLD_SECONDS:
            self._told_at = time.monotonic()
            log.info("live rules: %s", self.rules.standing())

    def close(self) -> None:
        """Judge what waits, make rows of what has landed, and end."""
        self.rules.close()
        self._visible.close()
        log.info("live rules: %s", self.rules.standing())
