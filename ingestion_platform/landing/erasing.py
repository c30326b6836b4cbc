"""
The one door through which landed objects are changed or removed: where a person is forgotten, and nowhere else.

Belongs here: what can be done to an object, the same for every landing zone. Doesn't: doing it (`local.py`, `s3.py`), deciding it
(`warehouse/forget/`, the only one that may come through here: a contract of import-linter holds it).
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from ingestion_platform.landing.zone import LandedObject, LandingZone, ObjectFile


@dataclass(frozen=True, slots=True)
class FormerVersion:
    """
    What once was an object, and is still kept somewhere: hidden in a colder folder, or as an older version of a bucket.

    Args:
        key: that it had, or has.
        name: tells it from others of the key.
        size_bytes: of it.
        is_at_hand: whether it can be read.
    """

    key: str
    name: str
    size_bytes: int
    is_at_hand: bool = True


class ErasableLanding(Protocol):
    """What can be done to landed objects."""

    def erasing(self) -> AbstractContextManager[bool]:
        """
        Inside of it, this process may change objects, and no other; False: another one is at it, or moves objects.

        What a killed one left half-done is put right first.
        """
        ...

    def replace(self, object_: LandedObject, file: Path) -> None:
        """
        Put a finished file's bytes in the place of an object's, whole or not at all. The moment at which it landed stays where that can be.

        What it was is gone afterwards, older versions that the landing zone itself keeps included.

        Args:
            object_: as it was listed.
            file: of this machine.

        Raises:
            ObjectMissing: it is gone.
            ObjectChanged: it isn't the one that was listed any more; what is under the key stays.
            LandingUnavailable: no answer after every attempt.
        """
        ...

    def remove(self, object_: LandedObject) -> None:
        """
        Remove an object, with all that it ever was; see `replace`. One that is gone is.

        Raises:
            ObjectChanged: it isn't the one that was listed any more; what is under the key stays.
            LandingUnavailable: no answer after every attempt.
        """
        ...

    def former_versions(self) -> Iterator[FormerVersion]:
        """What once were objects and is still kept, by key."""
        ...

    def open_former(self, former: FormerVersion) -> ObjectFile:
        """
        Open one of them.

        Raises:
            ObjectMissing: it is gone.
            ObjectCold: it is in an archive.
        """
        ...

    def remove_former(self, former: FormerVersion) -> None:
        """Remove one of them for good; one that is gone is."""
        ...


def erasable(landing: LandingZone) -> ErasableLanding:
    """The same landing zone, with leave to change objects."""
    # Both kinds can; the contract that everybody else sees has no call for it.
    return cast(ErasableLanding, landing)
