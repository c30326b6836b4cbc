"""
Where senders put their files. Doesn't know what is in them.

Senders may overwrite what they sent; the landing zone itself has no call for it, so a producer writes past it.
"""

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from ingestion_platform.errors import LandingError
from ingestion_platform.landing import LandingZone

_DAY = re.compile(r"(20\d\d)\D{1,7}(\d\d)\D{1,5}(\d\d)\b")
"""The day in a key, whether its folders are named by numbers alone or not."""


class Producer(Protocol):
    """Puts a sender's file under a key."""

    def put(self, key: str, content: bytes) -> None:
        """Write *content* under *key*, whatever is there. What is there already with the same content isn't touched."""
        ...


class FolderProducer:
    """
    Writes into a folder that is a landing zone, and overwrites as senders do.

    Args:
        root: the landing zone's root; made when needed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, key: str, content: bytes) -> None:
        """
        Write *content* under *key* in one move, so that a half-written object is only ever one on purpose.

        Raises:
            LandingError: the key leaves the folder.
        """
        path = self.root / key
        if key.startswith("/") or ".." in key.split("/"):
            raise LandingError(f"key {key!r} leaves the landing zone {self.root}")
        if path.exists() and path.read_bytes() == content:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        partial.write_bytes(content)
        partial.replace(path)


class DatedProducer:
    """
    Writes into a folder as if each file had come at the hour at which its sender sends it: landing zones tell when an object landed.

    Args:
        folder: where.
        after: from midnight, UTC, of the day that a key says, to its file's arrival.
    """

    def __init__(self, folder: FolderProducer, after: timedelta) -> None:
        self._folder = folder
        self._after = after

    def put(self, key: str, content: bytes) -> None:
        """
        Write *content* under *key*, and date it.

        Raises:
            LandingError: the key leaves the folder.
        """
        self._folder.put(key, content)
        found = _DAY.search(key)
        if found is not None:
            year, month, day = (int(part) for part in found.groups())
            at = datetime(year, month, day, tzinfo=UTC) + self._after
            os.utime(self._folder.root / key, ns=(int(at.timestamp()) * 10**9,) * 2)


class ZoneProducer:
    """
    Writes through a landing zone's own call, which never overwrites: for S3, and for plans without rewritten or half-written files.

    Args:
        zone: the landing zone.
    """

    def __init__(self, zone: LandingZone) -> None:
        self.zone = zone

    def put(self, key: str, content: bytes) -> None:
        """
        Write *content* under *key*, unless it is there already.

        Raises:
            LandingError: something else is there.
        """
        if self.zone.put_if_absent(key, content):
            return
        for object_ in self.zone.list(key):
            if object_.key == key and self.zone.read(object_) == content:
                return
        raise LandingError(
            f"{key!r} is in {self.zone.url} already, with another content",
            "start with an empty landing zone, and leave out the troubles that rewrite files",
        )
