"""
How landed objects age: after how many days what a dataset, a stream or an endpoint has landed goes to a cheaper place.

Belongs here: the declaration. Doesn't: moving anything (`landing/`), knowing where an object is (`warehouse/`).

Nothing is ever deleted by age. An object keeps its key wherever it is.
"""

from datetime import timedelta
from typing import Literal

from pydantic.dataclasses import dataclass

from ingestion_platform.errors import DeclarationError
from ingestion_platform.table import STRICT

Place = Literal["hot", "warm", "cold"]
PLACES: tuple[Place, ...] = ("hot", "warm", "cold")
"""The hotter first."""

RestoreTier = Literal["Expedited", "Standard", "Bulk"]

RESTORE_DAYS = 7
RESTORE_TIER: RestoreTier = "Bulk"
"""The cheapest: what nobody has thought of costs no more than it must."""

SHORTEST_WARM_DAYS = 30
"""S3 takes nothing into STANDARD_IA before, and charges for as many days there."""

_RESTORE_TAKES: dict[tuple[str, str], timedelta] = {
    ("GLACIER", "Expedited"): timedelta(minutes=5),
    ("GLACIER", "Standard"): timedelta(hours=5),
    ("GLACIER", "Bulk"): timedelta(hours=12),
    ("DEEP_ARCHIVE", "Standard"): timedelta(hours=12),
    ("DEEP_ARCHIVE", "Bulk"): timedelta(hours=48),
}
"""As Amazon says, at most, as a rule."""


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Lifecycle:
    """
    When objects go where, counted in days since they landed. On S3 the bucket's own lifecycle rules move them (`python -m
    ingestion_platform lifecycle` makes those of this), in a folder the platform does (`python -m ingestion_platform age`).

    Args:
        warm_after_days: to STANDARD_IA, or the folder of INGESTION_LANDING_WARM; None: never.
        cold_after_days: to *cold_class*, or the folder of INGESTION_LANDING_COLD; None: never.
        cold_class: S3's storage class. What is in GLACIER_IR is read as anything is; what is in the other two must be fetched back first.
        restore_days: how long S3 keeps what was fetched back at hand.
        restore_tier: how fast, and how dear, it fetches it back.
    """

    warm_after_days: int | None = None
    cold_after_days: int | None = None
    cold_class: Literal["GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"] = "DEEP_ARCHIVE"
    restore_days: int = RESTORE_DAYS
    restore_tier: RestoreTier = RESTORE_TIER

    def __post_init__(self) -> None:
        warm, cold = self.warm_after_days, self.cold_after_days
        if warm is None and cold is None:
            raise DeclarationError("Lifecycle says nothing", "warm_after_days, cold_after_days; or leave it out")
        if warm is not None and warm < SHORTEST_WARM_DAYS:
            raise DeclarationError(
                f"Lifecycle: warm_after_days is {SHORTEST_WARM_DAYS} or more, not {warm}",
                "S3 takes nothing into STANDARD_IA before",
            )
        if cold is not None and cold < (1 if warm is None else warm + SHORTEST_WARM_DAYS):
            raise DeclarationError(
                f"Lifecycle: cold_after_days is {1 if warm is None else warm + SHORTEST_WARM_DAYS} or more, not {cold}",
                f"what is warm stays so for {SHORTEST_WARM_DAYS} days at least: S3 charges for them",
            )
        if self.restore_days < 1:
            raise DeclarationError(f"Lifecycle: restore_days is 1 or more, not {self.restore_days}")
        if restore_takes(self.cold_class, self.restore_tier) is None:
            raise DeclarationError(
                f"Lifecycle: nothing comes out of {self.cold_class} by {self.restore_tier}", "Standard, or Bulk"
            )

    def place(self, age: timedelta) -> Place:
        """Where an object of that age belongs."""
        if self.cold_after_days is not None and age >= timedelta(days=self.cold_after_days):
            return "cold"
        if self.warm_after_days is not None and age >= timedelta(days=self.warm_after_days):
            return "warm"
        return "hot"


def restore_takes(storage_class: str, tier: str) -> timedelta | None:
    """How long fetching back takes at most, as a rule; None where nobody offers it. From a class that is at hand it takes no time."""
    if storage_class == "GLACIER_IR":
        return timedelta(0)
    return _RESTORE_TAKES.get((storage_class, tier))
