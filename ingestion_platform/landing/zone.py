"""
What a landing zone is: the object as listed, and the calls that every landing zone answers alike.

Belongs here: the contract. Doesn't: a place that keeps it (`local.py`, `s3.py`).
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Protocol

from ingestion_platform.lifecycle import Place, RestoreTier


@dataclass(frozen=True, slots=True)
class LandedObject:
    """
    One object, as a listing shows it.

    Args:
        key: relative to the landing zone's root, `/` between segments.
        size_bytes: its size when listed.
        token: changes whenever the object's content may have changed (ETag; or modification time, size and inode). Two of them are
            compared by `same_version`.
        landed_at: UTC; when it was last written.
        place: where it is by now.
        is_at_hand: False when it is in an archive: unless it was fetched back (`LandingZone.is_at_hand`), it can't be read.
    """

    key: str
    size_bytes: int
    token: str
    landed_at: datetime
    place: Place = "hot"
    is_at_hand: bool = True


AGED = "aged"
"""What stands for the inode in the token of a file that has aged: it is a copy, and only the platform writes where it is."""


def same_version(one: str, other: str) -> bool:
    """Whether two tokens are of the same version of an object: of a file that has aged, time and size decide."""
    return one == other or (
        f"-{AGED}" in (one[one.rfind("-") :], other[other.rfind("-") :])
        and one[: one.rfind("-")] == other[: other.rfind("-")]
    )


class ObjectFile:
    """
    An object open for reading; a context that closes it.

    Args:
        file: seekable, binary, at its beginning. Reading it raises `LandingError`s, no `OSError`.
        check: raises `ObjectChanged` when the file isn't the object that was listed (any more).
    """

    def __init__(self, file: BinaryIO, check: Callable[[], None]) -> None:
        self.file = file
        self._check = check

    def check(self) -> None:
        """
        See that all that was read until now was the object as it was listed. What was read counts only after this.

        Raises:
            ObjectChanged: it was not.
        """
        self._check()

    def __enter__(self) -> "ObjectFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


class LandingZone(Protocol):
    """What every landing zone can do. All calls may be made from several threads at once."""

    @property
    def url(self) -> str:
        """Where it is, for a person."""
        ...

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[LandedObject]:
        """
        Yield the objects whose key starts with *prefix* (any text, not only whole segments), by key in byte order, page by page.

        An empty root lists nothing. Keys that aren't greater than *start_after* are left out.

        Raises:
            LandingError: the root itself (the folder, the bucket) isn't there.
            LandingUnavailable: no answer after every attempt.
        """
        ...

    def read(self, object_: LandedObject) -> bytes:
        """
        Read an object whole.

        Raises:
            ObjectMissing: it is gone.
            ObjectChanged: it isn't the one that was listed (any more), or it changed while being read.
            ObjectCold: it is in an archive.
            LandingUnavailable: no answer after every attempt.
        """
        ...

    def open(self, object_: LandedObject) -> ObjectFile:
        """
        Open an object of any size, without holding it in memory.

        Raises:
            ObjectMissing: it is gone.
            ObjectChanged: it isn't the one that was listed (any more).
            ObjectCold: it is in an archive.
            LandingUnavailable: no answer after every attempt.
        """
        ...

    def put_if_absent(self, key: str, content: bytes) -> bool:
        """
        Write an object whole, unless one is under that key already.

        Returns:
            Whether it was written; False leaves what is there as it is.

        Raises:
            LandingError: the key leaves the landing zone.
            LandingUnavailable: no answer after every attempt.
        """
        ...

    # --- ageing

    def is_at_hand(self, object_: LandedObject) -> bool:
        """
        Whether an object can be read now: one in an archive, when it was fetched back.

        Raises:
            LandingUnavailable: no answer after every attempt.
        """
        ...

    def fetch_back(self, object_: LandedObject, *, days: int, tier: RestoreTier) -> timedelta | None:
        """
        Ask for an object to be fetched from the archive that it is in. Asking again changes nothing.

        Args:
            days: how long it is kept at hand then.
            tier: how fast.

        Returns:
            About how long that takes at most, counted from the first time that it was asked for; None: it is at hand.

        Raises:
            ObjectMissing: it is gone.
            LandingUnavailable: no answer after every attempt.
        """
        ...

    def ageing(self) -> AbstractContextManager[bool]:
        """
        Inside of it, objects may be moved by this process and by no other; False: another one is at it.

        What a killed one left half-done is put right first.
        """
        ...

    def age(self, object_: LandedObject, place: Place, sha256: str) -> Place:
        """
        Move an object to a colder place, where this landing zone has one and moves by itself. Its key and its token stay what they are.

        Whenever this process ends, the object can be read under its key.

        Args:
            place: where it belongs.
            sha256: of its content, as far as it is known; empty: it isn't.

        Returns:
            Where it is now.

        Raises:
            ObjectMissing: it is gone.
            ObjectChanged: it isn't the one that was listed (any more), or not the content that is known; what is under the key stays.
            LandingError: the colder place can't take it; it stays where it was.
        """
        ...

    # --- files

    def put_file_if_absent(self, key: str, file: Path, part_bytes: int) -> bool:
        """
        Write an object of any size whole, from a finished file of this machine, unless one is under that key already.

        The file is handed over: nobody may write to it any more, since a folder on the same disk makes it the object. To a store it is sent
        in parts; those that a former attempt for the same key has sent aren't sent again.

        Args:
            key: as of `put_if_absent`.
            file: what is to land.
            part_bytes: a larger file is sent in parts of this size; 5 MiB at least.

        Returns:
            Whether it was written; False leaves what is there as it is.

        Raises:
            LandingError: the key leaves the landing zone, or the file can't be read.
            LandingUnavailable: no answer after every attempt; what was sent is kept for the next one.
        """
        ...
