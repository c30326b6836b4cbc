"""
Files on their way: what has been read of a large file is kept on this machine's disk, part by part, until all of it is there.

Belongs here: going on after a kill, and that two processes don't write one file. Doesn't: reading (`copying.py`), landing.

Each file has a journal beside it with the digest of every part that is on the disk. The next process goes on after the parts that agree
with it; what follows them is thrown away, whatever a power cut has made of it. The journal is locked by whoever writes.
"""

import errno
import fcntl
import hashlib
import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ingestion_platform.errors import SourceError

FORGOTTEN_SECONDS = 7 * 86_400.0
"""What nobody has gone on with for so long is thrown away: the file has changed, or has been taken away."""
_READ_BYTES = 1024**2
_LINE_BYTES = 65


class SpooledFile:
    """
    A file on its way, open and locked.

    Args:
        path: of the file.
        journal: of its parts; locked.
        part_bytes: size of a part.
    """

    def __init__(self, path: Path, journal: io.FileIO, part_bytes: int) -> None:
        self.path = path
        self._journal = journal
        self._part_bytes = part_bytes
        self.sha256 = hashlib.sha256()
        self.md5 = hashlib.md5(usedforsecurity=False)
        self._part = hashlib.sha256()
        self.size_bytes = 0
        if path.exists() and path.stat().st_nlink > 1:
            # It has landed under another name already, and what has landed is never written to.
            path.unlink()
        self._file: BinaryIO = path.open("r+b" if path.exists() else "x+b")
        self._resume()
        self.resumed_bytes = self.size_bytes

    def _resume(self) -> None:
        """Go on after the parts that are as the journal has them."""
        good = 0
        for digest in self._journal.read().split():
            part, whole, md5 = hashlib.sha256(), self.sha256.copy(), self.md5.copy()
            left = self._part_bytes
            while left and (piece := self._file.read(min(left, _READ_BYTES))):
                left -= len(piece)
                for hashing in (part, whole, md5):
                    hashing.update(piece)
            if left or part.hexdigest().encode() != digest:
                break
            self.sha256, self.md5 = whole, md5
            good += 1
        self.size_bytes = good * self._part_bytes
        self._file.seek(self.size_bytes)
        self._file.truncate()
        self._journal.truncate(good * _LINE_BYTES)
        self._journal.seek(good * _LINE_BYTES)

    def append(self, content: bytes) -> None:
        """Add bytes; whenever a part is full, it is on the disk and in the journal before this returns."""
        view = memoryview(content)
        while view:
            room = self._part_bytes - self.size_bytes % self._part_bytes
            piece, view = view[:room], view[room:]
            self._file.write(piece)
            for hashing in (self._part, self.sha256, self.md5):
                hashing.update(piece)
            self.size_bytes += len(piece)
            if len(piece) == room:
                self.finish()
                self._journal.write(self._part.hexdigest().encode() + b"\n")
                os.fsync(self._journal.fileno())
                self._part = hashlib.sha256()

    def finish(self) -> None:
        """Put everything on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def begin_anew(self) -> None:
        """Throw away what is there: it isn't what was wanted."""
        self._file.seek(0)
        self._file.truncate()
        self._journal.truncate(0)
        self._journal.seek(0)
        self.sha256, self.md5, self._part = hashlib.sha256(), hashlib.md5(usedforsecurity=False), hashlib.sha256()
        self.size_bytes = 0

    def discard(self) -> None:
        """Delete the file and its journal: it has landed, or isn't wanted any more."""
        self.path.unlink(missing_ok=True)
        self.path.with_suffix(".parts").unlink(missing_ok=True)

    def close(self) -> None:
        """Leave it to whoever goes on."""
        self._file.close()


class Spool:
    """
    The folder for files on their way.

    Args:
        folder: of this machine; made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def opened(self, identity: str, part_bytes: int) -> Iterator[SpooledFile | None]:
        """
        The file that is kept for *identity*, with what is there of it; None while another process has it.

        Args:
            identity: the same for the same bytes only.
            part_bytes: size of a part.

        Raises:
            SourceError: the disk is full, or the folder can't be written.
        """
        name = hashlib.sha256(f"{identity}\n{part_bytes}".encode(errors="surrogateescape")).hexdigest()[:32]
        with self._told():
            self._folder.mkdir(parents=True, exist_ok=True)
            journal = self._locked(self._folder / f"{name}.parts")
            if journal is None:
                yield None
                return
            try:
                spooled = SpooledFile(self._folder / f"{name}.data", journal, part_bytes)
                try:
                    yield spooled
                finally:
                    spooled.close()
            finally:
                journal.close()

    def sweep(self) -> None:
        """Throw away what nobody goes on with."""
        with self._told():
            for path in self._folder.glob("*.parts"):
                if time.time() - path.stat().st_mtime < FORGOTTEN_SECONDS:
                    continue
                journal = self._locked(path)
                if journal is not None:
                    with journal:
                        path.with_suffix(".data").unlink(missing_ok=True)
                        path.unlink(missing_ok=True)

    @staticmethod
    def _locked(path: Path) -> io.FileIO | None:
        """The journal, locked by us; None while another process has it."""
        while True:
            journal = io.FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
            try:
                fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                journal.close()
                return None
            try:
                if os.stat(path).st_ino == os.fstat(journal.fileno()).st_ino:
                    return journal
            except FileNotFoundError:
                pass
            # Who had it before has deleted it since we opened it.
            journal.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell what the operating system refuses in the platform's words."""
        try:
            yield
        except OSError as error:
            hint = "make room on that disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "see to that folder"
            raise SourceError(
                f"files on their way are kept in {self._folder}: {error.strerror or error}", hint
            ) from error
