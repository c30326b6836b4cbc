"""
A deployment in a folder of its own, and workers on it.

Belongs here: what lands, who works, how they end. Doesn't: what goes wrong (`faults.py`), what is wrong in the end (`oracle.py`).
"""

import itertools
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ingestion_platform.chaos.landed import Arrival, Business
from ingestion_platform.chaos.meddling import MeddledLanding, Meddling, Worker
from ingestion_platform.chaos.oracle import Export, export, judge, size_of
from ingestion_platform.chaos.processes import Ended, Process, Tally, ask
from ingestion_platform.dataset import LandedFiles
from ingestion_platform.landing import LandingZone
from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.warehouse import Only, Warehouse, upkeep

Work = Literal["catch-up", "replay", "parts"]
"""All that is new; everything again; what is new in parts, as a routing asks for them, and then the rest."""


class Unsurvived(Exception):
    """The platform did something that no fault excuses; the message says what."""


@dataclass
class Ground:
    """
    Where a round takes place.

    Args:
        root: a folder of its own.
        business: what is put to the test.
        tally: of what is met.
        twin: what makes every worker here a broken loader; None: they are the platform's own.
        seconds: that a clean run takes.
        size_bytes: that a clean run leaves.
    """

    root: Path
    business: Business
    tally: Tally
    twin: Meddling | None = None
    seconds: float = 1.0
    size_bytes: int = 0
    zone: Callable[[], LandingZone] | None = None
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.landing_folder.mkdir(parents=True, exist_ok=True)
        self.place.mkdir(exist_ok=True)

    @property
    def landing_folder(self) -> Path:
        """Of the landing zone."""
        return self.root / "landing"

    @property
    def place(self) -> Path:
        """Of the warehouse, and of what is published."""
        return self.root / "place"

    @property
    def tables(self) -> Path:
        """Of the files that tables are made of."""
        return self.business.settings_at(self.place, "").warehouse_folder / "tables"

    # --- landing

    def path(self, key: str) -> Path:
        """Where an object is."""
        return self.landing_folder / key

    def put(self, key: str, content: bytes) -> None:
        """Land an object, over what is there, whole at once."""
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        half = self.root / f"arriving-{os.getpid()}"
        half.write_bytes(content)
        half.replace(path)

    def land(self, arrivals: Sequence[Arrival]) -> None:
        """Land objects."""
        for arrival in arrivals:
            self.put(arrival.key, arrival.content)

    def land_all(self) -> None:
        """Land everything as it is in the end."""
        self.land(self.business.arrivals)

    # --- work

    def begin(self, work: Work = "catch-up", *meddlings: Meddling) -> Process:
        """Start a worker: the whole path, over all that has landed."""
        return Process(lambda: self._work(work, meddlings), self.root / f"said-{next(self._numbers)}")

    def work(self, work: Work = "catch-up", *meddlings: Meddling) -> Ended:
        """Have a worker work to its end."""
        return self.begin(work, *meddlings).end()

    def work_well(self, work: Work = "catch-up", *meddlings: Meddling) -> None:
        """
        Have a worker work to an end that must be a good one.

        Raises:
            Unsurvived: it wasn't.
        """
        ended = self.work(work, *meddlings)
        if not ended.is_well:
            raise Unsurvived(f"a run failed that should have succeeded: {ended}")

    def _work(self, work: Work, meddlings: Sequence[Meddling]) -> None:
        landing = self.zone() if self.zone is not None else MeddledLanding(self.landing_folder)
        warehouse = self.business.open(self.place, landing)
        worker = Worker(warehouse, landing, self.tally, self.root)
        for meddling in (*((self.twin,) if self.twin is not None else ()), *meddlings):
            meddling(worker)
        with warehouse:
            if work == "replay":
                replay(warehouse)
            elif work == "parts":
                load_parts(warehouse)
            worker.catch_up(warehouse)
            warehouse.publish()

    # --- judging

    def _open(self) -> Warehouse:
        zone = self.zone() if self.zone is not None else LocalLanding(self.landing_folder)
        return self.business.open(self.place, zone)

    def export(self) -> Export:
        """What the warehouse shows now."""

        def look() -> Export:
            with self._open() as warehouse:
                return export(warehouse)

        return ask(look, self.root)

    def judge(self, clean: Export) -> list[str]:
        """What is wrong with the warehouse, by the platform's own words, not by the twin's."""

        def look() -> list[str]:
            with self._open() as warehouse:
                return judge(warehouse, clean, is_twin=self.twin is not None)

        return ask(look, self.root)

    def size(self) -> int:
        """Bytes of the warehouse and of what is published."""
        return size_of(self.place)

    def forget(self) -> None:
        """Take the warehouse away; what has landed stays."""
        shutil.rmtree(self.place)
        self.place.mkdir()

    def clear(self) -> None:
        """Take everything away."""
        shutil.rmtree(self.root, ignore_errors=True)


def load_parts(warehouse: Warehouse) -> None:
    """Load small objects before larger ones, run by run."""
    for dataset in warehouse.datasets.values():
        for day in upkeep.landed_days(warehouse, dataset) if isinstance(dataset.source, LandedFiles) else ():
            sizes = sorted({landed.size_bytes for landed in warehouse.listing(dataset, day)})
            for size in sizes[: len(sizes) // 2]:
                warehouse.load(dataset, day, only=Only(up_to_bytes=size))


def replay(warehouse: Warehouse) -> None:
    """Read every object again, and compute every day again."""
    for dataset in warehouse.datasets.values():
        for day in upkeep.landed_days(warehouse, dataset):
            warehouse.load(dataset, day, reload=True)
    for dataset in warehouse.datasets.values():
        for day in warehouse.days(dataset.processed):
            warehouse.process(dataset, day, force=True)
