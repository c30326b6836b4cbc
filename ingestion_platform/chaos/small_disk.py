"""
A disk that is full, without asking anybody for one: a file system in memory of a few bytes, in a mount namespace of this process's own;
where the machine gives none, a limit on how large each file may become.

Belongs here: making room scarce. Doesn't: what is written.
"""

import ctypes
import errno
import os
import resource
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ingestion_platform.chaos.meddling import Meddling, Worker

_NEW_NAMESPACE, _NEW_USER = 0x00020000, 0x10000000
_PRIVATE, _RECURSIVE, _REMOUNT = 1 << 18, 1 << 14, 1 << 5
MOST = 1 << 40

_FULL = ("No space left", "disk is full", "ENOSPC", "File too large", "EFBIG")
_mounted: set[Path] = set()


class NoNamespace(Exception):
    """No mount namespace is given to this process, by this machine."""


def mount_here(*folders: Path) -> None:
    """
    Put a file system of its own on each of some folders, for this process and those that it forks. They go with them.

    Args:
        folders: one inside another comes after it.

    Raises:
        NoNamespace: the machine doesn't allow it.
    """
    library = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()

    def done(result: int) -> None:
        if result != 0:
            raise NoNamespace(os.strerror(ctypes.get_errno()))

    if library.unshare(_NEW_NAMESPACE) != 0:
        done(library.unshare(_NEW_NAMESPACE | _NEW_USER))
        try:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {user} 1")
            Path("/proc/self/gid_map").write_text(f"0 {group} 1")
        except OSError as error:
            raise NoNamespace(str(error)) from error
    done(library.mount(b"none", b"/", None, _PRIVATE | _RECURSIVE, None))
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        done(library.mount(b"chaos", os.fsencode(folder), b"tmpfs", 0, f"size={MOST}".encode()))
        _mounted.add(folder)


class SmallDisk:
    """
    The disk of a folder: as small as one says.

    Args:
        folder: which; with a file system of its own when `mount_here` gave it one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.is_mounted = folder in _mounted

    @contextmanager
    def limited(self, room: int) -> Iterator[None]:
        """Inside of it, there is room for so many bytes; afterwards for all."""
        self._resize(room)
        try:
            yield
        finally:
            self._resize(MOST)

    def _resize(self, room: int) -> None:
        if not self.is_mounted:
            return
        library = ctypes.CDLL(None, use_errno=True)
        size = f"size={room}".encode()
        if library.mount(b"chaos", os.fsencode(self._folder), b"tmpfs", _REMOUNT, size) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(self._folder))

    def meddlings(self, room: int) -> tuple[Meddling, ...]:
        """What a worker needs so that it meets the limit."""
        if self.is_mounted:
            return ()

        def limit(worker: Worker) -> None:
            # Without this, the system would end us instead of refusing to write.
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (max(room // 8, 4096), resource.RLIM_INFINITY))

        return (limit,)

    @staticmethod
    def was_full(said: str) -> bool:
        """Whether what a run had to say is that there was no room."""
        return any(word in said for word in (*_FULL, os.strerror(errno.ENOSPC), os.strerror(errno.EFBIG)))


def on_small_disk(folders: Sequence[Path], work: Callable[[], None]) -> Callable[[], None]:
    """Work whose *folders* have file systems of their own, as far as the machine gives them; it is done in a fork."""

    def there() -> None:
        # Without one, files are limited, one by one.
        with suppress(NoNamespace):
            mount_here(*folders)
        work()

    return there
