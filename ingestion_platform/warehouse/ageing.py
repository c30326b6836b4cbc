"""
Ageing: what has landed goes to colder places as it is declared, and the ledger knows where it is.

Belongs here: which object is due, held against what the ledger knows of it. Doesn't: moving it (`landing/`). On S3 the bucket's rules move
objects; then what is left to do is to look where they are.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice

from ingestion_platform.errors import LandingError, ObjectChanged, ObjectCold, ObjectMissing
from ingestion_platform.landing import LandedObject, same_version
from ingestion_platform.lifecycle import PLACES, RESTORE_DAYS, RESTORE_TIER, Lifecycle, Place
from ingestion_platform.warehouse.results import Waiting, told_waiting
from ingestion_platform.warehouse.warehouse import Warehouse

log = logging.getLogger(__name__)

NOTED_AT_ONCE = 1000
MOVED_AT_A_TIME = 8


@dataclass
class Aged:
    """
    What ageing came to.

    Args:
        moved: place → objects that went there.
        bytes_moved: of all of them.
        there: place → objects that are there now, of what ages by declaration.
        left: why objects stay that were to go; those that somebody has changed meanwhile among them.
        is_elsewhere: another process is at it; nothing was done.
    """

    moved: Counter[Place] = field(default_factory=Counter)
    bytes_moved: int = 0
    there: Counter[Place] = field(default_factory=Counter)
    left: list[str] = field(default_factory=list)
    is_elsewhere: bool = False

    def __str__(self) -> str:
        if self.is_elsewhere:
            return "another process is ageing this landing zone: nothing was done"
        went = (
            ", ".join(f"{self.moved[place]:,} to {place}" for place in PLACES if self.moved[place]) or "nothing moved"
        )
        there = ", ".join(f"{self.there[place]:,} {place}" for place in PLACES)
        left = f"; {len(self.left):,} left where they are" if self.left else ""
        return f"{went} ({self.bytes_moved:,} bytes); now {there}{left}"


def age(warehouse: Warehouse, *, now: datetime | None = None, tell: Callable[[str], None] = log.info) -> Aged:
    """
    Move whatever is due, and note where everything is. Safe beside loads and producers, and after a kill: it goes on.

    Args:
        now: the moment, with a zone; default: that of the clock.
        tell: told of each object that stays though it was due.

    Raises:
        LandingError: a colder folder isn't there or can't take more. What has moved has; the rest stays where it is.
    """
    now = now or datetime.now(UTC)
    done = Aged()
    places: dict[str, Place] = {}
    with warehouse.landing.ageing() as is_ours:
        if not is_ours:
            done.is_elsewhere = True
            return done
        try:
            for root, lifecycle in sorted(warehouse.datasets.roots.items()):
                if lifecycle is None:
                    continue
                listing = warehouse.landing.list(root)
                while some := list(islice(listing, NOTED_AT_ONCE)):
                    places.clear()
                    _move(warehouse, some, lifecycle, now, places, done, tell)
                    warehouse.places.note(places)
        except LandingError:
            warehouse.places.note(places)
            raise
    return done


def _move(
    warehouse: Warehouse,
    some: Sequence[LandedObject],
    lifecycle: Lifecycle,
    now: datetime,
    places: dict[str, Place],
    done: Aged,
    tell: Callable[[str], None],
) -> None:
    """Move those of some objects that are due, several at a time: most of the time a disk is waited for."""
    with ThreadPoolExecutor(MOVED_AT_A_TIME, thread_name_prefix="age") as pool:
        moving: list[tuple[LandedObject, Future[Place] | None]] = []
        for landed in some:
            due = lifecycle.place(now - landed.landed_at)
            is_due = PLACES.index(due) > PLACES.index(landed.place)
            known = _known_sha256(warehouse, landed) if is_due else ""
            moving.append((landed, pool.submit(warehouse.landing.age, landed, due, known) if is_due else None))
        failed: LandingError | None = None
        for landed, future in moving:
            place = landed.place
            try:
                if future is not None:
                    place = future.result()
            except CancelledError:
                continue
            except (ObjectChanged, ObjectMissing) as error:
                done.left.append(str(error))
                tell(f"left where it is: {error}")
            except LandingError as error:
                # The others would fail by the same disk; those that have moved already are still counted.
                failed = failed or error
                pool.shutdown(wait=False, cancel_futures=True)
                continue
            if place != landed.place:
                done.moved[place] += 1
                done.bytes_moved += landed.size_bytes
            done.there[place] += 1
            places[landed.key] = place
    if failed is not None:
        raise failed


def _known_sha256(warehouse: Warehouse, landed: LandedObject) -> str:
    """What the ledger knows of the version that is listed; empty when no dataset has read it."""
    for dataset in warehouse.datasets.values():
        found = dataset.source.match(landed.key)
        if found is not None:
            row = warehouse.ledger.current_object(dataset.name, landed.key)
            if row is not None and row.sha256 and same_version(row.token, landed.token):
                return row.sha256
    return ""


def fetch_everything_back(warehouse: Warehouse) -> None:
    """
    Ask for everything that is in an archive and that a dataset reads, all at once.

    Raises:
        ObjectCold: some of it isn't at hand yet.
    """
    waiting = []
    days = RESTORE_DAYS
    moment = datetime.now(UTC)
    for dataset in warehouse.datasets.values():
        lifecycle = dataset.ages
        days = lifecycle.restore_days if lifecycle is not None else RESTORE_DAYS
        tier = lifecycle.restore_tier if lifecycle is not None else RESTORE_TIER
        for root in sorted({template.root for template in dataset.source.keys}):
            for landed in warehouse.landing.list(root):
                found = dataset.source.match(landed.key)
                if landed.is_at_hand or found is None or found[0] < dataset.daily.from_:
                    continue
                takes = warehouse.landing.fetch_back(landed, days=days, tier=tier)
                if takes is not None:
                    waiting.append(
                        Waiting(dataset.name, found[0], landed.key, landed.size_bytes, moment, moment + takes)
                    )
    if waiting:
        raise ObjectCold(
            told_waiting(waiting),
            f"nothing was changed: run it again then; what is fetched back stays at hand for {days} days",
        )
