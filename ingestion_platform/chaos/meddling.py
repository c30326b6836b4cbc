"""
What happens inside a worker: kills at the steps that last, files that change under it, errors of the disk, clocks that jump.

Belongs here: changing what a worker's own process meets. Doesn't: when (`faults.py`). Each of these changes the process that it is called
in, for good: that process is a fork which ends with its work.
"""

import errno
import io
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

from ingestion_platform.chaos.processes import Tally
from ingestion_platform.landing import LandedObject, LandingZone, ObjectFile
from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.warehouse import Warehouse, upkeep
from ingestion_platform.warehouse.files import FileStore
from ingestion_platform.warehouse.ledger import Conflict, Ledger

Reads: TypeAlias = Callable[[str, int, Callable[[int], bytes], int], bytes]
"""Stands between a reader and a file: key, the number of the read from 0, the file's own read, and how many bytes are wanted."""


@dataclass
class Worker:
    """
    A worker's process, before it begins.

    Args:
        warehouse: that it works on.
        landing: that it reads.
        tally: of what it meets.
        root: folder of the round.
        catch_up: what it does.
    """

    warehouse: Warehouse
    landing: LandingZone
    tally: Tally
    root: Path
    catch_up: Callable[[Warehouse], None] = upkeep.catch_up


Meddling: TypeAlias = Callable[[Worker], None]


def instead(owner: Any, name: str, made: Any) -> None:
    """Put something else in the place of an attribute, in this process: a fork that ends with its work."""
    setattr(owner, name, made)


class MeddledLanding(LocalLanding):
    """
    A folder as landing zone, of which reading can be meddled with.

    Attributes:
        opening: called with the key before an object is opened.
        reads: stands between readers and files; None: nothing does.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.opening: list[Callable[[str], None]] = []
        self.reads: Reads | None = None

    def open(self, object_: LandedObject) -> ObjectFile:
        """As a folder does."""
        with self._told(f"object {object_.key!r}"):
            for each in self.opening:
                each(object_.key)
        opened = super().open(object_)
        if self.reads is None:
            return opened
        file = _MeddledFile(self, object_.key, opened.file, self.reads)
        return ObjectFile(io.BufferedReader(file, 1024), opened.check)


class _MeddledFile(io.RawIOBase):
    def __init__(self, landing: MeddledLanding, key: str, file: Any, reads: Reads) -> None:
        self._landing, self._key, self._file, self._reads = landing, key, file, reads
        self._number = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: Any, /) -> int:
        with self._landing._told(f"object {self._key!r}"):
            found = self._reads(self._key, self._number, self._file.read, len(buffer))
        self._number += 1
        buffer[: len(found)] = found
        return len(found)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def meddled(worker: Worker) -> MeddledLanding:
    """The worker's landing zone, which is a folder."""
    assert isinstance(worker.landing, MeddledLanding), "only a folder's reads are meddled with"
    return worker.landing


# --- kills at steps

_LASTING = {"os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.truncate"}
_WRITES = os.O_WRONLY | os.O_RDWR


@dataclass
class Steps:
    """
    Counts the steps that last (names given and taken, files begun and made durable, transactions begun and committed), and may kill
    the process at one of them.

    Args:
        kill_at: the number of the step before which the process is killed, from 1; 0: none.
        of_commits: count only steps that come next after a transaction of the ledger.
    """

    kill_at: int = 0
    of_commits: bool = False
    _count: int = 0
    _commits: int = 0
    _is_writing: bool = False
    _is_committed: bool = False
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __call__(self, worker: Worker) -> None:
        """Begin counting in this process."""
        self._tally = worker.tally
        inside = str(worker.root)
        is_counting = threading.local()

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if getattr(is_counting, "now", False):
                return
            is_counting.now = True
            try:
                if event == "open":
                    path, _, flags = arguments
                    if isinstance(path, str | bytes) and os.fsdecode(path).startswith(inside) and flags & _WRITES:
                        self.step("a file is begun")
                elif event in _LASTING:
                    self.step(event)
            finally:
                is_counting.now = False

        connect, fsync, describe, new_path = sqlite3.connect, os.fsync, FileStore.describe, FileStore.new_path

        def connected(*arguments: Any, **options: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(*arguments, **options)
            connection.set_trace_callback(traced)
            return connection

        def traced(statement: str) -> None:
            if statement == "begin immediate":
                self._is_writing = True
                self.step("a transaction is begun")
            elif statement == "commit" and self._is_writing:
                self._is_writing = False
                self.step("a transaction is committed")
                self._is_committed = True

        def synced(descriptor: int) -> None:
            self.step("before a file is durable")
            fsync(descriptor)
            self.step("after a file is durable")

        def described(store: FileStore, path: str, rows: int) -> Any:
            self.step("a table's file is written")
            return describe(store, path, rows)

        def noted(store: FileStore, table: str, part: str) -> str:
            path = new_path(store, table, part)
            self.step("a table's file is noted")
            return path

        instead(sqlite3, "connect", connected)
        instead(os, "fsync", synced)
        instead(FileStore, "describe", described)
        instead(FileStore, "new_path", noted)
        sys.addaudithook(hook)

    def step(self, what: str) -> None:
        """One more step."""
        with self._lock:
            self._count += 1
            self._commits += self._is_committed
            counts = not self.of_commits or self._is_committed
            self._is_committed = False
            if counts and self.kill_at == (self._commits if self.of_commits else self._count):
                self._tally.add(f"killed: {what}")
                os.kill(os.getpid(), signal.SIGKILL)

    def tell(self, worker: Worker) -> None:
        """Note in the tally how many steps there were."""
        worker.tally.add("steps", self._count)
        worker.tally.add("commits", self._commits)


def counted_steps(worker: Worker) -> None:
    """Count the worker's steps into its tally."""
    steps = Steps()
    steps(worker)
    catch_up = worker.catch_up

    def then(warehouse: Warehouse) -> None:
        catch_up(warehouse)
        steps.tell(worker)

    worker.catch_up = then


# --- files that change under the reader


@dataclass(frozen=True)
class During:
    """
    Something happens to an object while it is read, once a worker.

    Args:
        acts: key → what happens.
        met: what the tally calls it.
        at_end: when all was read that there was, and nobody has looked yet whether it is all; else after the first bytes.
    """

    acts: "dict[str, Callable[[], None]]"
    met: str
    at_end: bool = False

    def __call__(self, worker: Worker) -> None:
        """Wait for the objects to be read."""
        left = dict(self.acts)
        lock = threading.Lock()

        def reads(key: str, number: int, read: Callable[[int], bytes], wanted: int) -> bytes:
            if number == 0:
                return read(min(wanted, 64))
            found = read(wanted) if self.at_end else b""
            with lock:
                act = left.pop(key, None) if not found else None
            if act is not None:
                act()
                worker.tally.add(self.met)
            return found if self.at_end else read(wanted)

        meddled(worker).reads = reads


# --- errors of the disk that is read


@dataclass(frozen=True)
class ReadError:
    """
    The disk fails in the middle of objects, once each.

    Args:
        keys: of which.
    """

    keys: Sequence[str]

    def __call__(self, worker: Worker) -> None:
        """Wait for the objects to be read."""
        left = set(self.keys)

        def reads(key: str, number: int, read: Callable[[int], bytes], wanted: int) -> bytes:
            if number == 0:
                return read(min(wanted, 64))
            if key in left:
                left.discard(key)
                worker.tally.add("EIO")
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return read(wanted)

        meddled(worker).reads = reads


@dataclass(frozen=True)
class Denied:
    """
    Objects may not be read: by their mode where that binds us, else by an error of the same number.

    Args:
        keys: which.
    """

    keys: Sequence[str]

    def __call__(self, worker: Worker) -> None:
        """Refuse the objects."""
        refused = set(self.keys)

        def opening(key: str) -> None:
            if key in refused:
                worker.tally.add("EACCES")
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        meddled(worker).opening.append(opening)


@dataclass(frozen=True)
class Slow:
    """
    Each read takes its time, and gives few bytes.

    Args:
        seconds: of each.
        most_bytes: of each.
    """

    seconds: float
    most_bytes: int

    def __call__(self, worker: Worker) -> None:
        """Slow every read down."""

        def reads(key: str, number: int, read: Callable[[int], bytes], wanted: int) -> bytes:
            time.sleep(self.seconds)
            worker.tally.add("slow reads")
            return read(min(wanted, self.most_bytes))

        meddled(worker).reads = reads


# --- clocks


@dataclass(frozen=True)
class Clock:
    """
    The worker's clock jumps: each look at it is off by one of these.

    Args:
        offsets: how far it may be off.
        seed: decides which.
    """

    offsets: Sequence[timedelta]
    seed: int

    def __call__(self, worker: Worker) -> None:
        """Put another clock in the place of the one that the platform's modules look at."""
        chance = Random(self.seed)
        offsets, tally = self.offsets, worker.tally

        class Jumping(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> "Jumping":
                tally.add("wrong clocks")
                moment = datetime.now(tz) + chance.choice(offsets)
                return cls(*moment.timetuple()[:6], moment.microsecond, tzinfo=moment.tzinfo)

        for name, module in list(sys.modules.items()):
            is_ours = name.startswith(("ingestion_platform.warehouse", "ingestion_platform.landing"))
            if is_ours and getattr(module, "datetime", None) is datetime:
                instead(module, "datetime", Jumping)


# --- others


@dataclass(frozen=True)
class Together:
    """
    Workers meet before their first commits, so that each commits what it planned before the others did.

    Args:
        workers: how many.
        patience_seconds: how long one waits for the others, who may have failed.
    """

    workers: int
    patience_seconds: float = 10.0

    def __call__(self, worker: Worker) -> None:
        """Wait before the first commit, and count the conflicts."""
        commit, began = Ledger.commit_load, [False]
        folder = worker.root / "met"
        folder.mkdir(exist_ok=True)

        def committed(ledger: Ledger, *arguments: Any, **options: Any) -> Any:
            if not began[0]:
                began[0] = True
                (folder / str(os.getpid())).touch()
                until = time.monotonic() + self.patience_seconds
                while len(list(folder.iterdir())) < self.workers and time.monotonic() < until:
                    time.sleep(0.002)
            try:
                return commit(ledger, *arguments, **options)
            except Conflict:
                worker.tally.add("conflicts")
                raise

        instead(Ledger, "commit_load", committed)
