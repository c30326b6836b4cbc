"""
A folder as landing zone.

Belongs here: files below one root. Doesn't: anything but regular files; symbolic links below the root aren't followed, so that nothing
outside it can be read or written and nothing is listed twice.

A file's name is bytes, a key is text. In a name that isn't UTF-8, each such byte is shown as U+FFFD and two hex digits, reversibly, so
that the file can be listed, read, rejected and told of like any other.
"""

import errno
import io
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from ingestion_platform.errors import IngestionError, LandingError, LandingUnavailable, ObjectChanged, ObjectMissing
from ingestion_platform.landing.keys import MAX_KEY_BYTES, check_key, is_temporary, temporary_name
from ingestion_platform.landing.zone import LandedObject, ObjectFile

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOT_UTF8 = re.compile("[\udc80-\udcff\ufffd]+")
_SHOWN_BYTE = re.compile("\ufffd([89A-F][0-9A-F])")
_COPIED_BYTES = 1024**2
_GONE = (FileNotFoundError, NotADirectoryError)

_Entry = tuple[str, "os.DirEntry[bytes]"]


class LocalLanding:
    """
    The landing zone in the folder *root*, which needn't exist yet.

    Its token is modification time, size and inode. So a file rewritten in place, to the same size, within one tick of the file system's
    clock (1 to 10 ms) can't be told from its former self; one renamed into place always can.
    """

    def __init__(self, root: str | Path) -> None:
        if not str(root) or "\0" in str(root):
            raise LandingError("the landing zone's folder has no name, or a NUL in it", "set INGESTION_LANDING")
        self._url = str(Path(root).expanduser().absolute())
        self._root = os.fsencode(self._url)

    def __repr__(self) -> str:
        return f"LocalLanding({self._url!r})"

    @property
    def url(self) -> str:
        """The folder."""
        return self._url

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[LandedObject]:
        """
        Yield the objects whose key starts with *prefix*, by key in byte order; see `LandingZone.list`.

        Looks into a folder only if its keys can start with *prefix* and come after *start_after*: the cost doesn't depend on the rest.
        """
        folder, _, name_prefix = prefix.rpartition("/")
        names = self._names(folder) if "/" in prefix else ()
        self._require_root()
        if names is None or not self._is_folder(names):
            return
        base = f"{folder}/" if folder else ""
        pending = [iter(self._entries(base, self._join(names), name_prefix, start_after))]
        while pending:
            key, entry = next(pending[-1], (None, None))
            if key is None or entry is None:
                pending.pop()
            elif key.endswith("/"):
                pending.append(iter(self._entries(key, entry.path, "", start_after)))
            else:
                with self._told(f"object {key!r}"):
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except _GONE:
                        continue
                if stat.S_ISREG(status.st_mode):
                    yield LandedObject(key, status.st_size, _token(status), _landed_at(status))

    def read(self, object_: LandedObject) -> bytes:
        """Read an object whole; see `LandingZone.read`."""
        with self.open(object_) as opened:
            content = opened.file.read()
            opened.check()
        if len(content) != object_.size_bytes:
            raise _changed(f"object {object_.key!r}")
        return content

    def open(self, object_: LandedObject) -> ObjectFile:
        """Open an object: the file itself; see `LandingZone.open`."""
        what = f"object {object_.key!r}"
        names = self._names(object_.key)
        if names is None:
            raise ObjectMissing(f"{what}: no file can have this key", "list the landing zone again")
        with self._told(what):
            try:
                # Without O_NONBLOCK, a named pipe put in the file's place would hold us for ever.
                descriptor = os.open(self._join(names), os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            except _GONE as error:
                raise ObjectMissing(f"{what} is gone", "list the landing zone again") from error
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENXIO):  # now a symbolic link, now a socket
                    raise _changed(what) from error
                raise

        def check() -> None:
            with self._told(what):
                if _token(os.fstat(descriptor)) != object_.token:
                    raise _changed(what)

        try:
            # A folder or a pipe in the file's place ends here: its inode differs.
            check()
            file = _ToldFile(descriptor, lambda: self._told(what))
        except BaseException:
            os.close(descriptor)
            raise
        return ObjectFile(file, check)

    def put_if_absent(self, key: str, content: bytes) -> bool:
        """
        Write an object whole, unless one is under that key already; see `LandingZone.put_if_absent`.

        It is on disk, not only in memory, when this returns. A process killed meanwhile can leave a temporary file, which is never listed.
        """

        def write(temporary: bytes) -> None:
            with open(temporary, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())

        return self._put(key, write)

    def put_file_if_absent(self, key: str, file: Path, part_bytes: int) -> bool:
        """
        Write an object whole from a file, unless one is under that key already; see `LandingZone.put_file_if_absent`.

        On the same disk the file itself becomes the object, without being copied.
        """

        def write(temporary: bytes) -> None:
            with open(file, "rb") as opened:
                os.fsync(opened.fileno())
                try:
                    os.link(file, temporary)
                except OSError as error:
                    if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
                        raise
                    with open(temporary, "xb") as target:
                        shutil.copyfileobj(opened, target, _COPIED_BYTES)
                        target.flush()
                        os.fsync(target.fileno())

        return self._put(key, write)

    def _put(self, key: str, write: Callable[[bytes], None]) -> bool:
        """Have an object written under a temporary name, and give it its own; nothing, where one is there."""
        check_key(key)
        what = f"object {key!r}"
        *folders, name = (segment.encode() for segment in key.split("/"))
        with self._told(what):
            folder = self._make_folders(what, tuple(folders))
            target, temporary = os.path.join(folder, name), os.path.join(folder, temporary_name(uuid4().hex).encode())
            if _is_object(what, target):
                return False
            try:
                write(temporary)
                while True:
                    try:
                        os.link(temporary, target)
                        break
                    except FileExistsError:
                        if _is_object(what, target):
                            return False
            finally:
                if os.path.lexists(temporary):
                    os.unlink(temporary)
            _sync_folder(folder)
        return True

    def _entries(self, base: str, folder: bytes, name_prefix: str, start_after: str) -> Sequence[_Entry]:
        """The files and folders of one folder that can matter, in the order of their keys; a folder's key ends with `/`."""
        entries = []
        with self._told(f"folder {base!r}"):
            try:
                with os.scandir(folder) as found:
                    for entry in found:
                        name = _shown(entry.name)
                        if not name.startswith(name_prefix) or is_temporary(name):
                            continue
                        key = base + name
                        if entry.is_dir(follow_symlinks=False):
                            # The / counts in the order: "a-b" < "a/c" < "a0".
                            key += "/"
                            wanted = key > start_after or start_after.startswith(key)
                        else:
                            wanted = key > start_after and entry.is_file(follow_symlinks=False)
                        if wanted and len(key.encode()) <= MAX_KEY_BYTES:
                            entries.append((key, entry))
            except _GONE:
                return []
        entries.sort(key=lambda entry: entry[0])  # code points sort as their UTF-8 bytes do
        return entries

    def _names(self, key: str) -> tuple[bytes, ...] | None:
        """The names that lead to *key*, or None when nothing that is listed has it."""
        names = []
        for segment in key.split("/"):
            if segment in ("", ".", "..") or "\0" in segment:
                return None
            try:
                name = _SHOWN_BYTE.sub(lambda found: chr(0xDC00 + int(found[1], 16)), segment).encode(
                    errors="surrogateescape"
                )
            except UnicodeEncodeError:
                return None
            if _shown(name) != segment:
                return None
            names.append(name)
        return tuple(names)

    def _join(self, names: tuple[bytes, ...]) -> bytes:
        return os.path.join(self._root, *names)

    def _require_root(self) -> None:
        """A root that isn't there is most likely a disk that isn't mounted: told, and not taken for an empty landing zone."""
        with self._told("the root"):
            try:
                if stat.S_ISDIR(os.stat(self._root).st_mode):
                    return
            except FileNotFoundError:
                if not os.path.lexists(self._root):
                    raise LandingError(
                        f"landing zone {self._url} isn't there",
                        "is its disk mounted, and INGESTION_LANDING right? A new one is made with mkdir",
                    ) from None
        raise LandingError(f"landing zone {self._url}: this is no folder", "set INGESTION_LANDING")

    def _is_folder(self, names: tuple[bytes, ...]) -> bool:
        """Whether these names lead through folders only, without a symbolic link."""
        with self._told("folder"):
            for depth in range(1, len(names) + 1):
                try:
                    if not stat.S_ISDIR(os.lstat(self._join(names[:depth])).st_mode):
                        return False
                except OSError as error:
                    if isinstance(error, _GONE) or error.errno == errno.ENAMETOOLONG:
                        return False
                    raise
        return True

    def _make_folders(self, what: str, names: tuple[bytes, ...]) -> bytes:
        os.makedirs(self._root, exist_ok=True)
        folder = self._root
        for name in names:
            parent, folder = folder, os.path.join(folder, name)
            try:
                os.mkdir(folder)
            except FileExistsError:
                if not stat.S_ISDIR(os.lstat(folder).st_mode):
                    raise LandingError(
                        f"{what}: {_shown(name)!r} on its way is no folder", "choose another key, or move that away"
                    ) from None
            else:
                _sync_folder(parent)
        return folder

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Tell what the operating system refuses in the platform's words."""
        try:
            yield
        except IngestionError:
            raise
        except PermissionError as error:
            raise LandingError(
                f"landing zone {self._url}: {what}: {error.strerror}",
                "give this user access to the folder and its files",
            ) from error
        except OSError as error:
            where = f"landing zone {self._url}: {what}: {error.strerror or error}"
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise LandingError(where, "make room on that disk") from error
            if error.errno in (errno.EROFS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENAMETOOLONG, errno.ENOTDIR):
                raise LandingError(
                    where, "it must be a folder that can be written, on a file system with hard links"
                ) from error
            raise LandingUnavailable(
                where, "see whether the disk or the network share is there, then try again"
            ) from error


class _ToldFile(io.FileIO):
    """A file whose reading fails in the platform's words."""

    def __init__(self, descriptor: int, told: Callable[[], AbstractContextManager[None]]) -> None:
        super().__init__(descriptor, "rb")
        self._told = told

    def read(self, size: int | None = -1, /) -> bytes:
        """As any file."""
        with self._told():
            return super().read(size) or b""

    def readall(self) -> bytes:
        """As any file."""
        with self._told():
            return super().readall() or b""

    def readinto(self, buffer: Any, /) -> int:
        """As any file."""
        with self._told():
            return super().readinto(buffer) or 0


def _shown(name: bytes) -> str:
    """A file's name as a segment of a key."""
    try:
        text = name.decode()
        if "\ufffd" not in text:
            return text
    except UnicodeDecodeError:
        text = name.decode(errors="surrogateescape")
    return _NOT_UTF8.sub(
        lambda found: "".join(f"\ufffd{byte:02X}" for byte in found[0].encode(errors="surrogateescape")), text
    )


def _token(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns}-{status.st_size}-{status.st_ino}"


def _landed_at(status: os.stat_result) -> datetime:
    # touch -d can set a year that datetime doesn't have.
    try:
        return _EPOCH + timedelta(microseconds=status.st_mtime_ns // 1000)
    except OverflowError:
        return (datetime.max if status.st_mtime_ns > 0 else datetime.min).replace(tzinfo=UTC)


def _changed(what: str) -> ObjectChanged:
    return ObjectChanged(
        f"{what} isn't the one that was listed any more", "it may still be being written: list it again"
    )


def _is_object(what: str, path: bytes) -> bool:
    """Whether a file is there; what is there and is none is refused."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(mode):
        raise LandingError(f"{what}: a folder or link of that name is there", "choose another key, or move that away")
    return True


def _sync_folder(folder: bytes) -> None:
    """Make the names in *folder* survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
