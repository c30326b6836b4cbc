"""
Where senders put their files. Doesn't know what is in them.

Senders may overwrite what they sent; the landing zone itself has no call for it, so a producer writes past it.
"""

import os
from pathlib import Path
from typing import Protocol

from ingestion_platform.errors import LandingError
from ingestion_platform.landing import LandingZone


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
