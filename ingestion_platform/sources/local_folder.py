"""
A folder of this machine as a remote one: a share that is mounted, an inbox of another program.

Belongs here: reading below one root. Doesn't: the landing zone, which is a folder of the platform's own (`landing/local.py`).

Symbolic links that stay below the root are followed. One that leads out is told and never opened: the way to a file is resolved first,
and then gone name by name without following any link, so that one put there meanwhile isn't followed either.
"""

import errno
import os
import stat
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from ingestion_platform.errors import SourceError, SourceUnavailable
from ingestion_platform.sources.remotes import MOST_NAMES, FileGone, FileRefused, RemoteFile

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_GONE = (FileNotFoundError, NotADirectoryError)
_LEADS_OUT = "is a symbolic link that leads out of the folder"


class LocalFolder:
    """
    The folder *root*.

    Args:
        root: its path; relative to the working directory.
    """

    def __init__(self, root: str) -> None:
        self._url = os.path.abspath(os.path.expanduser(root))

    @property
    def url(self) -> str:
        """The folder."""
        return self._url

    def list(self, folder: str) -> Sequence[RemoteFile] | None:
        """The names in a folder; see `RemoteFolder.list`."""
        with self._told():
            try:
                names = os.listdir(self._resolved(folder))
            except _GONE:
                return None
            if len(names) > MOST_NAMES:
                raise SourceError(
                    f"{self._url}: {folder!r} has {len(names):,} names", f"at most {MOST_NAMES:,} are listed"
                )
            found = (self.look(os.path.join(folder, name)) for name in names)
            return [one for one in found if one is not None]

    def look(self, path: str) -> RemoteFile | None:
        """A file as it is now; see `RemoteFolder.look`."""
        name = os.path.basename(path)
        with self._told():
            try:
                status = os.stat(self._resolved(path))
            except _GONE:
                return None
            except FileRefused as error:
                return RemoteFile(name, problem=str(error))
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
                    return RemoteFile(name, problem=f"can't be opened: {error.strerror}")
                raise
        is_folder = stat.S_ISDIR(status.st_mode)
        problem = "" if is_folder or stat.S_ISREG(status.st_mode) else "is no regular file"
        modified_at = _EPOCH + timedelta(microseconds=status.st_mtime_ns // 1000)
        return RemoteFile(name, is_folder, status.st_size, modified_at, problem=problem)

    def read(self, path: str, begin: int, piece_bytes: int) -> Generator[bytes, None, None]:
        """Yield a file's bytes; see `RemoteFolder.read`."""
        with self._told():
            try:
                descriptor = self._open(path)
            except _GONE as error:
                raise FileGone from error
            with open(descriptor, "rb", buffering=0) as file:
                file.seek(begin)
                while piece := file.read(piece_bytes):
                    yield piece

    def close(self) -> None:
        """Nothing is held open."""

    def _resolved(self, path: str) -> str:
        root = os.path.realpath(self._url)
        real = os.path.realpath(os.path.join(root, path))
        if real != root and not real.startswith(root.rstrip("/") + "/"):
            raise FileRefused(_LEADS_OUT)
        return real

    def _open(self, path: str) -> int:
        root = os.path.realpath(self._url)
        *folders, name = os.path.relpath(self._resolved(path), root).split("/")
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for one in folders:
                inner = os.open(one, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
                os.close(folder)
                folder = inner
            # Without O_NONBLOCK, a named pipe put in the file's place would hold us for ever.
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise FileRefused("has become something else than a file") from error
            raise
        finally:
            os.close(folder)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileRefused("is no regular file")
        return descriptor

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell what the operating system refuses in the platform's words."""
        try:
            yield
        except PermissionError as error:
            raise FileRefused(f"can't be read: {error.strerror}") from error
        except OSError as error:
            raise SourceUnavailable(
                f"{self._url}: {error.strerror or error}", "see whether the disk or the share is there, then try again"
            ) from error
