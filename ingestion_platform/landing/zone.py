"""
What a landing zone is: the object as listed, and the calls that every landing zone answers alike.

Belongs here: the contract. Doesn't: a place that keeps it (`local.py`, `s3.py`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol


@dataclass(frozen=True, slots=True)
class LandedObject:
    """
    One object, as a listing shows it.

    Args:
        key: relative to the landing zone's root, `/` between segments.
        size_bytes: its size when listed.
        token: changes whenever the object's content may have changed (ETag; or modification time, size and inode).
        landed_at: UTC; when it was last written.
    """

    key: str
    size_bytes: int
    token: str
    landed_at: datetime


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
            LandingUnavailable: no answer after every attempt.
        """
        ...

    def open(self, object_: LandedObject) -> ObjectFile:
        """
        Open an object of any size, without holding it in memory.

        Raises:
            ObjectMissing: it is gone.
            ObjectChanged: it isn't the one that was listed (any more).
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
