"""
The Parquet files of the warehouse: written whole under a name of their own, hashed, swept up when their writer died before the
ledger knew them.

Belongs here: files as bytes. Doesn't: which of them count (`ledger.py`), what is in them.

Every process that writes has a *writer*: a journal that it holds an advisory lock on while it lives. It notes each path there
before it writes it. A writer
whose lock is free is dead; what its journal names and the ledger doesn't know is deleted by whoever comes next.
"""

import contextlib
import fcntl
import hashlib
import os
import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ingestion_platform.errors import WarehouseDamaged

_HIDDEN = ".writer-"

REBUILD = "python -m ingestion_platform rebuild"
"""The command that makes the warehouse anew from the landing zone."""


def _nothing(writer: str, paths: Sequence[str]) -> None:
    """There is nothing else to do."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """
    A Parquet file as it was written.

    Args:
        path: relative to the warehouse's folder.
        rows: in it.
        size_bytes: of it.
        sha256: of it, hex.
    """

    path: str
    rows: int
    size_bytes: int
    sha256: str


class FileStore:
    """
    The folder of Parquet files beside the warehouse's DuckDB file.

    Args:
        root: the folder; made when the first file is written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._journal: IO[bytes] | None = None
        self._writer = ""
        self._count = 0
        self._lock = threading.Lock()
        self._verified: set[tuple[str, int, int]] = set()

    def absolute(self, path: str) -> Path:
        """Where *path* is on this machine."""
        return self.root / path

    def new_path(self, table: str, part: str) -> str:
        """A path that no file has, noted in this process's journal; its folder exists. May be called from several threads at once."""
        with self._lock:
            journal = self._open_journal()
            self._count += 1
            layer, name = table.split(".", 1)
            path = f"tables/{layer}/{name}/{part}/{self._writer}-{self._count}.parquet"
            journal.write(path.encode() + b"\n")
            journal.flush()
            self._note(path)
        self.absolute(path).parent.mkdir(parents=True, exist_ok=True)
        return path

    def _note(self, path: str) -> None:
        """Told of each path before it has a file."""

    def begin_publishing(self, table: str, part: str) -> str:
        """Note that a partition is about to be published; the answer is this process's writer, for the names of its half-written files."""
        self.new_path(table, part)
        return self._writer

    def describe(self, path: str, rows: int) -> StoredFile:
        """Make a written file durable and hash it."""
        digest = hashlib.sha256()
        with self.absolute(path).open("rb") as file:
            os.fsync(file.fileno())
            while chunk := file.read(1 << 20):
                digest.update(chunk)
            size = file.tell()
        return StoredFile(path, rows, size, digest.hexdigest())

    def discard(self, path: str) -> None:
        """Delete a file that never was, or is no longer, part of a table."""
        self.absolute(path).unlink(missing_ok=True)

    def verify(self, path: str, size_bytes: int, sha256: str) -> None:
        """
        Hold a file against what was written; once per process and state of the file.

        Raises:
            WarehouseDamaged: it is gone, cut or changed.
        """
        absolute = self.absolute(path)
        try:
            status = absolute.stat()
        except FileNotFoundError:
            raise WarehouseDamaged(f"{absolute} is gone, though the ledger counts on it", _hint()) from None
        if status.st_size != size_bytes:
            raise WarehouseDamaged(f"{absolute} has {status.st_size:,} bytes, {size_bytes:,} were written", _hint())
        state = (path, status.st_mtime_ns, status.st_ino)
        if state in self._verified:
            return
        with absolute.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise WarehouseDamaged(
                f"{absolute} isn't what was written: SHA-256 {found[:12]}…, not {sha256[:12]}…", _hint()
            )
        self._verified.add(state)

    def sweep(
        self, is_known: Callable[[list[str]], Iterable[str]], finish: Callable[[str, Sequence[str]], None] = _nothing
    ) -> list[str]:
        """
        Delete what dead writers left.

        Args:
            is_known: given paths, those that the ledger knows.
            finish: given a dead writer and all paths of its journal, does what else it didn't come to. The journal goes after that.

        Returns:
            The paths that were deleted.
        """
        folder = self.root / "writers"
        swept: list[str] = []
        for hidden in self.root.glob(f"{_HIDDEN}*"):
            with contextlib.suppress(FileNotFoundError, BlockingIOError), hidden.open("rb") as journal:
                fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Of one who died before he wrote anything; whoever is about to lock it makes himself another one.
                hidden.unlink()
        if not folder.is_dir():
            return swept
        for entry in list(folder.iterdir()):
            if entry.name == self._writer:
                continue
            try:
                journal = entry.open("rb")
            except FileNotFoundError:
                continue
            with journal:
                try:
                    fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                if not entry.exists():
                    continue
                # A line without its end was cut by the kill, before its file was begun.
                paths = [line.decode() for line in journal.read().split(b"\n")[:-1]]
                known = set(is_known(paths))
                for path in paths:
                    if path not in known and self.absolute(path).exists():
                        self.discard(path)
                        swept.append(path)
                finish(entry.name, paths)
                entry.unlink(missing_ok=True)
        return swept

    def close(self) -> None:
        """End this process's journal. Whatever it wrote and didn't commit is for the sweep."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _open_journal(self) -> IO[bytes]:
        if self._journal is None:
            self._writer = uuid.uuid4().hex[:16]
            folder = self.root / "writers"
            folder.mkdir(parents=True, exist_ok=True)
            # Locked under another name, so that the sweep never takes a journal that is not yet held for a dead one's.
            hidden = self.root / f"{_HIDDEN}{self._writer}"
            while self._journal is None:
                journal = hidden.open("wb")
                fcntl.flock(journal, fcntl.LOCK_EX)
                try:
                    hidden.rename(folder / self._writer)
                except FileNotFoundError:
                    # A sweep came between opening and locking.
                    journal.close()
                else:
                    self._journal = journal
            self._count = 0
        return self._journal


def _hint() -> str:
    return f"`python -m ingestion_platform repair` makes what is damaged anew from the landing zone; `{REBUILD}` makes everything anew"
