"""
Remote files in the landing zone: which versions of which files of a day have landed, told from names alone.

Belongs here: what the keys say. Doesn't: copying (`copying.py`).
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from ingestion_platform.landing import LandedObject, LandingZone
from ingestion_platform.remote import LandedVersion, RemoteFiles, versions


@dataclass(frozen=True, slots=True)
class CopiedFile:
    """
    The last version of a file that has landed.

    Args:
        version: which.
        landed: the object.
    """

    version: LandedVersion
    landed: LandedObject


class LandedRemote:
    """
    What has landed of remote files.

    Args:
        remote: which.
        landing: where.
    """

    def __init__(self, remote: RemoteFiles, landing: LandingZone) -> None:
        self.remote = remote
        self._landing = landing

    def last(self, day: date) -> dict[str, CopiedFile]:
        """Path → its last version, of a day."""
        objects = {landed.key: landed for landed in self._landing.list(self.remote.day_prefix(day))}
        return {
            path: CopiedFile(found[-1], objects[found[-1].key])
            for path, found in versions(self.remote, objects).items()
        }

    def put(self, key: str, content: bytes) -> bool:
        """Land a version that is held in memory; see `LandingZone.put_if_absent`."""
        return self._landing.put_if_absent(key, content)

    def put_file(self, key: str, file: Path) -> bool:
        """Land a version that is on the disk; see `LandingZone.put_file_if_absent`."""
        return self._landing.put_file_if_absent(key, file, self.remote.part_bytes)

    def mark_same(self, day: date, version: LandedVersion, stamp: str) -> None:
        """Land the mark that the file looks otherwise now, and has the bytes of that version: it isn't read again for that."""
        self._landing.put_if_absent(self.remote.mark_key(day, version, stamp), b"")
