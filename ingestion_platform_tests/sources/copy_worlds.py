"""Remote folders of each kind with a sender's way in, and copies of them into a landing zone, for tests."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from ingestion_platform.landing import LandingZone, open_landing
from ingestion_platform.remote import RemoteFiles, RemoteObjects
from ingestion_platform.sources.bandwidth import Bandwidth
from ingestion_platform.sources.copied import LandedRemote
from ingestion_platform.sources.copying import Copied, Copy
from ingestion_platform.sources.fsspec_folder import FsspecFolder
from ingestion_platform.sources.local_folder import LocalFolder
from ingestion_platform.sources.remotes import RemoteFolder
from ingestion_platform.sources.spool import Spool
from ingestion_platform_tests.sources.sftp_server import serve_sftp

DAY = date(2024, 10, 1)
ZONE = ZoneInfo("Africa/Johannesburg")
NOON = datetime(2024, 10, 1, 12, tzinfo=UTC)
PART = 5 * 1024**2


def remote(**changes: Any) -> RemoteFiles:
    """A remote of statements by branch."""
    values: dict[str, Any] = {
        "name": "statements", "description": "Statements.", "url": "outbox", "path": "{branch}/statement_%Y%m%d.csv",
        "first_day": DAY, "part_bytes": PART,
    }  # fmt: skip
    return RemoteFiles(**{**values, **changes})


class FolderSender:
    """Writes into a folder that is served."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, path: str, content: bytes, at: datetime = NOON - timedelta(hours=1)) -> None:
        """Write a file as of a moment."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        os.utime(file, (at.timestamp(), at.timestamp()))

    def delete(self, path: str) -> None:
        """Take a file away."""
        (self.root / path).unlink()


class MemorySender:
    """Writes into fsspec's memory."""

    def __init__(self, folder: FsspecFolder, root: str) -> None:
        self.files = folder._files
        self.root = root

    def put(self, path: str, content: bytes, at: datetime = NOON - timedelta(hours=1)) -> None:
        """Write a file as of a moment."""
        self.files.pipe_file(f"{self.root}/{path}", content)
        self.files.store[f"{self.root}/{path}"].modified = at

    def delete(self, path: str) -> None:
        """Take a file away."""
        self.files.rm_file(f"{self.root}/{path}")


Sender = FolderSender | MemorySender


@contextmanager
def local_world(folder: Path) -> Iterator[tuple[RemoteFolder, Sender]]:
    """A folder of this machine."""
    (folder / "outbox").mkdir()
    yield LocalFolder(str(folder / "outbox")), FolderSender(folder / "outbox")


@contextmanager
def memory_world(folder: Path) -> Iterator[tuple[RemoteFolder, Sender]]:
    """Fsspec's memory."""
    root = f"/{folder.name}/outbox"
    remote_folder = FsspecFolder(f"memory:/{root}", {})
    remote_folder._files.makedirs(root)
    yield remote_folder, MemorySender(remote_folder, root)


@contextmanager
def sftp_world(folder: Path) -> Iterator[tuple[RemoteFolder, Sender]]:
    """An SFTP server."""
    with serve_sftp(folder / "sftp") as server:
        (folder / "sftp" / "outbox").mkdir()
        client = server.folder("outbox")
        yield client, FolderSender(folder / "sftp" / "outbox")
        client.close()


WORLDS: dict[str, Callable[[Path], Any]] = {"local": local_world, "memory": memory_world, "sftp": sftp_world}


class Copying:
    """A remote folder, and copies of it into a landing zone."""

    def __init__(
        self, root: Path, folder: RemoteFolder, declared: RemoteFiles | None = None, landing: LandingZone | None = None
    ) -> None:
        self.root = root
        self.folder = folder
        self.remote = declared or remote()
        (root / "landing").mkdir(exist_ok=True)
        self.landing = landing or open_landing(str(root / "landing"))
        self.at = NOON
        self.slept: list[float] = []
        self.during_sleep: Callable[[], None] = lambda: None

    def copier(self, **options: Any) -> Copy:
        """What copies."""
        return Copy(
            LandedRemote(self.remote, self.landing), self.folder, Spool(self.root / "spool"), ZONE,
            **{"now": lambda: self.at, "sleep": self._sleep, "bandwidth": Bandwidth(None), **options},
        )  # fmt: skip

    def copy(self, day: date = DAY, **options: Any) -> Copied:
        """Copy a day."""
        return self.copier(**options).run(day)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.during_sleep()

    def landed(self, day: date = DAY) -> dict[str, bytes]:
        """Path → bytes of the versions that count for a day."""
        source = RemoteObjects(self.remote)
        there = {one.key: one for one in self.landing.list(self.remote.day_prefix(day))}
        counting, _ = source.choose(there)
        found = {}
        for key in counting:
            assert source.match(key) is not None
            found[key.removeprefix(self.remote.day_prefix(day)).rpartition("/")[0]] = self.landing.read(there[key])
        return found

    def keys(self) -> list[str]:
        """Everything that has landed."""
        return [one.key for one in self.landing.list()]


def numbers(copied: Copied) -> dict[str, int]:
    """What came of a copy, without what is nothing."""
    found = {name: getattr(copied, name) for name in ("seen", "new", "changed", "unchanged", "touched", "others")}
    found |= {name: len(getattr(copied, name)) for name in ("left", "refused", "failed")}
    return {name: number for name, number in found.items() if number}
