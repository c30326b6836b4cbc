"""
A shadow of a warehouse: works as the warehouse does, on the same landed objects and the same files, and leaves no trace.

Belongs here: the throw-away folder, and what keeps every write in it. Doesn't: what is done in it (`backfill.py`), what comes of it
(`plan.py`).

The ledger is copied in one committed state. Files of the warehouse are read where they are, and new ones are written to the shadow's
folder. What would land stays in memory. The folder is in the machine's place for temporary files, and has a lock that its process
holds: what a killed one left is deleted by whoever makes the next shadow.
"""

import fcntl
import heapq
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ingestion_platform.errors import LandingError
from ingestion_platform.landing import LandedObject, LandingZone, ObjectFile
from ingestion_platform.lifecycle import Place, RestoreTier, restore_takes
from ingestion_platform.warehouse.files import FileStore
from ingestion_platform.warehouse.ledger import Ledger
from ingestion_platform.warehouse.warehouse import Warehouse

PREFIX = "ingestion-shadow-"
"""Of the folders of shadows, among those of other programs."""

_LOCK = "lock"


class ShadowLanding:
    """
    A landing zone that takes nothing: what is put is kept here, and seen by this process alone.

    Args:
        zone: the real one, which is only read.
    """

    def __init__(self, zone: LandingZone) -> None:
        self._zone = zone
        self._put: dict[str, tuple[LandedObject, bytes]] = {}
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where the real one is."""
        return self._zone.url

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[LandedObject]:
        """What the real one lists, and what was put here."""
        with self._lock:
            ours = [
                landed
                for key, (landed, _) in self._put.items()
                if key.startswith(prefix) and key.encode() > start_after.encode()
            ]
        ours.sort(key=lambda landed: landed.key.encode())
        former = ""
        for landed in heapq.merge(
            ours, self._zone.list(prefix, start_after=start_after), key=lambda landed: landed.key.encode()
        ):
            if landed.key != former:
                yield landed
            former = landed.key

    def read(self, object_: LandedObject) -> bytes:
        """As the real one does."""
        found = self._put.get(object_.key)
        return found[1] if found is not None else self._zone.read(object_)

    def open(self, object_: LandedObject) -> ObjectFile:
        """As the real one does."""
        return self._zone.open(object_)

    def put_if_absent(self, key: str, content: bytes) -> bool:
        """Keep it here, unless one is under that key already."""
        if any(landed.key == key for landed in self.list(key)):
            return False
        with self._lock:
            landed = LandedObject(key, len(content), f"shadow-{len(self._put)}", datetime.now(UTC))
            self._put[key] = (landed, content)
        return True

    def is_at_hand(self, object_: LandedObject) -> bool:
        """As the real one says."""
        return self._zone.is_at_hand(object_)

    def fetch_back(self, object_: LandedObject, *, days: int, tier: RestoreTier) -> timedelta | None:
        """About how long it would take at most; nothing is asked for."""
        if self._zone.is_at_hand(object_):
            return None
        # Which archive it is in isn't told by a listing: that of the longest time.
        return restore_takes("DEEP_ARCHIVE", tier) or restore_takes("DEEP_ARCHIVE", "Standard")

    @contextmanager
    def ageing(self) -> Iterator[bool]:
        """Nothing ages in a shadow."""
        yield False

    def age(self, object_: LandedObject, place: Place, sha256: str) -> Place:
        """Nothing ages in a shadow: it stays where it is."""
        return object_.place

    def put_file_if_absent(self, key: str, file: Path, part_bytes: int) -> bool:
        """
        Refuse: what is made of landed objects lands nothing large.

        Raises:
            LandingError: always.
        """
        raise LandingError(
            f"a shadow lands no files, and {key!r} was to land", "sources drain, fetch and copy outside of plans"
        )


class ShadowStore(FileStore):
    """
    Files of the warehouse where they are, and new ones in the shadow's folder.

    Args:
        root: the shadow's folder.
        real: the warehouse's folder, which is only read.
    """

    def __init__(self, root: Path, real: Path) -> None:
        super().__init__(root)
        self._real = real
        self._made: set[str] = set()

    def absolute(self, path: str) -> Path:
        """Where *path* is on this machine."""
        return (self.root if path in self._made else self._real) / path

    def _note(self, path: str) -> None:
        """It is a shadow's from here on, and so is its folder."""
        self._made.add(path)

    def discard(self, path: str) -> None:
        """Delete a file of the shadow; those of the warehouse stay."""
        if path in self._made:
            super().discard(path)


class Shadow(Warehouse):
    """
    A warehouse that works as another one does and leaves no trace. Made by `shadow_of`.

    Args:
        real: the other one.
        folder: of the shadow, empty.
    """

    def __init__(self, real: Warehouse, folder: Path) -> None:
        changed = {"warehouse": folder / "shadow.duckdb", "publish": folder / "published"}
        settings = real.settings.model_copy(update=changed)
        super().__init__(
            settings,
            ShadowLanding(real.landing),
            real.datasets,
            real.sql_tables,
            store=ShadowStore(settings.warehouse_folder, real.folder),
            # Who is late, and whether a report is final, is judged by the moment.
            clock=real.clock,
        )
        self.before = Ledger(folder / "before" / "ledger.sqlite")
        """What the ledger said when the shadow was made. Nothing is written to it."""
        self.folder.mkdir()
        self.before.path.parent.mkdir()
        if real.ledger.exists:
            real.ledger.copy_to(self.ledger.path)
            shutil.copyfile(self.ledger.path, self.before.path)

    def publish(self) -> None:
        """Nobody opens a shadow."""

    def close(self) -> None:
        """Let go of everything."""
        self._let_go()
        self.before.close()


@contextmanager
def shadow_of(real: Warehouse) -> Iterator[Shadow]:
    """
    A shadow of a warehouse, which is deleted at the end.

    Raises:
        WarehouseError: the ledger can't be copied.
    """
    with throw_away_folder() as folder:
        shadow = Shadow(real, folder)
        try:
            yield shadow
        finally:
            shadow.close()


@contextmanager
def throw_away_folder() -> Iterator[Path]:
    """A folder of one's own among the temporary ones, which is deleted at the end; those of dead processes are deleted first."""
    sweep()
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            with (folder / _LOCK).open("wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if (folder / _LOCK).exists():
                    yield folder
                    return
                # Somebody swept it up before it was locked.
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def sweep() -> list[Path]:
    """Delete the folders of shadows whose processes are dead; which were deleted."""
    swept = []
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        # Anybody may put something under such a name into a place that all share.
        if folder.is_symlink() or not folder.is_dir() or folder.stat().st_uid != os.getuid():
            continue
        try:
            with (folder / _LOCK).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
                swept.append(folder)
        except OSError:
            # Its process lives, or another one sweeps it, or it is just being made.
            continue
    return swept
