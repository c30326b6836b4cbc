"""
A folder as landing zone, and the folders on other disks that its objects age into.

Belongs here: files below these roots. Doesn't: anything but regular files; symbolic links below the root aren't followed, so that nothing
outside it can be read or written and nothing is listed twice.

A file's name is bytes, a key is text. In a name that isn't UTF-8, each such byte is shown as U+FFFD and two hex digits, reversibly, so
that the file can be listed, read, rejected and told of like any other.

An object ages by a copy that is on the other disk before the original goes, so that it can be read at any moment; of several files of a
key the hotter one is the object, which is the later one wherever they differ. Nobody but the platform writes into the colder folders.
The original goes by way of a folder beside the objects (`AGEING`), which is listed and read too: there it is seen whether a producer has
put another version in its place at the last moment, which then goes back.
"""

import errno
import fcntl
import hashlib
import io
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from ingestion_platform.errors import IngestionError, LandingError, LandingUnavailable, ObjectChanged, ObjectMissing
from ingestion_platform.landing.erasing import FormerVersion
from ingestion_platform.landing.keys import AGEING, MAX_KEY_BYTES, check_key, is_temporary, temporary_name
from ingestion_platform.landing.zone import AGED, LandedObject, ObjectFile, same_version
from ingestion_platform.lifecycle import PLACES, Place, RestoreTier

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOT_UTF8 = re.compile("[\udc80-\udcff\ufffd]+")
_SHOWN_BYTE = re.compile("\ufffd([89A-F][0-9A-F])")
_COPIED_BYTES = 1024**2
_HALF_SECONDS = 3600
"""What is half-written for longer was left by a killed process."""
_GONE = (FileNotFoundError, NotADirectoryError)


@dataclass(frozen=True)
class _Tree:
    """A folder that holds objects, and what they are called there: how hot, and whether they are copies."""

    place: Place
    root: bytes

    @property
    def ageing(self) -> bytes:
        """Its folder of what is on its way."""
        return os.path.join(self.root, os.fsencode(AGEING))

    def token(self, status: os.stat_result) -> str:
        """Of a file in it."""
        inode = status.st_ino if self.place == "hot" else AGED
        return f"{status.st_mtime_ns}-{status.st_size}-{inode}"


_Entry = tuple[_Tree, "os.DirEntry[bytes]"]


class LocalLanding:
    """
    The landing zone in the folder *root*, which needn't exist yet.

    Args:
        root: where producers put objects.
        warm: folder that objects age into; empty: none.
        cold: likewise, when they have aged more.

    Its token is modification time, size and inode. So a file rewritten in place, to the same size, within one tick of the file system's
    clock (1 to 10 ms) can't be told from its former self; one renamed into place always can.
    """

    def __init__(self, root: str | Path, *, warm: str | Path = "", cold: str | Path = "") -> None:
        if not str(root) or "\0" in f"{root}{warm}{cold}":
            raise LandingError("the landing zone's folder has no name, or a NUL in it", "set INGESTION_LANDING")
        self._url = _absolute(root)
        self._root = os.fsencode(self._url)
        self._hot = _Tree("hot", self._root)
        self._held = _Tree("hot", os.path.join(self._hot.ageing, b"held"))
        said: dict[Place, str | Path] = {"warm": warm, "cold": cold}
        self._colder = tuple(
            _Tree(place, os.fsencode(_absolute(folder))) for place, folder in said.items() if str(folder)
        )
        self._refuse_nested()

    def _refuse_nested(self) -> None:
        roots = [os.path.join(tree.root, b"") for tree in (self._hot, *self._colder)]
        for one in roots:
            for other in roots:
                if one is not other and one.startswith(other):
                    raise LandingError(
                        f"landing zone {self._url}: of the folders it ages into, one is in another, or is the same",
                        "INGESTION_LANDING, INGESTION_LANDING_WARM and INGESTION_LANDING_COLD are folders beside each other",
                    )

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
        trees = self._trees()
        if names is None:
            return
        base = f"{folder}/" if folder else ""
        pending = [(names, iter(self._entries(base, trees, names, (), name_prefix, start_after)))]
        while pending:
            names, found_here = pending[-1]
            key, entries = next(found_here, (None, ()))
            if key is None:
                pending.pop()
            elif key.endswith("/"):
                below = (*names, entries[0][1].name)
                known = [tree for tree, _ in entries]
                pending.append((below, iter(self._entries(key, trees, below, known, "", start_after))))
            else:
                with self._told(f"object {key!r}"):
                    found = self._status(entries)
                    if found is None and len(trees) > 1:
                        # It has moved on while we looked.
                        found = self._status_anywhere(key, trees)
                if found is not None:
                    tree, status = found
                    yield LandedObject(key, status.st_size, tree.token(status), _landed_at(status), tree.place)

    @staticmethod
    def _status(entries: Sequence[_Entry]) -> tuple[_Tree, os.stat_result] | None:
        for tree, entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except _GONE:
                continue
            if stat.S_ISREG(status.st_mode):
                return tree, status
        return None

    def _status_anywhere(self, key: str, trees: Sequence[_Tree]) -> tuple[_Tree, os.stat_result] | None:
        names = self._names(key)
        for tree in trees if names is not None else ():
            try:
                status = os.lstat(_join(tree, names or ()))
            except _GONE:
                continue
            if stat.S_ISREG(status.st_mode):
                return tree, status
        return None

    def read(self, object_: LandedObject) -> bytes:
        """Read an object whole; see `LandingZone.read`."""
        with self.open(object_) as opened:
            content = opened.file.read()
            opened.check()
        if len(content) != object_.size_bytes:
            raise _changed(f"object {object_.key!r}")
        return content

    def open(self, object_: LandedObject) -> ObjectFile:
        """Open an object: the file itself, wherever it has aged to since it was listed; see `LandingZone.open`."""
        what = f"object {object_.key!r}"
        names = self._names(object_.key)
        if names is None:
            raise ObjectMissing(f"{what}: no file can have this key", "list the landing zone again")
        with self._told(what):
            tree, descriptor = self._opened(what, names)

        def check() -> None:
            with self._told(what):
                if not same_version(tree.token(os.fstat(descriptor)), object_.token):
                    raise _changed(what)

        try:
            # A folder or a pipe in the file's place ends here: its inode differs.
            check()
            file = _ToldFile(descriptor, lambda: self._told(what))
        except BaseException:
            os.close(descriptor)
            raise
        return ObjectFile(file, check)

    def _opened(self, what: str, names: tuple[bytes, ...]) -> tuple[_Tree, int]:
        # A file moves to a colder tree, and is there before it goes: whoever looks in this order finds it.
        for tree in (self._hot, self._held, *self._colder) if self._has_aged() else (self._hot,):
            try:
                # Without O_NONBLOCK, a named pipe put in the file's place would hold us for ever.
                flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
                return tree, os.open(_join(tree, names), flags)
            except _GONE:
                continue
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENXIO):  # now a symbolic link, now a socket
                    raise _changed(what) from error
                raise
        raise ObjectMissing(f"{what} is gone", "list the landing zone again")

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
            if _is_object(what, target) or self._has_aged_object(key):
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

    # --- ageing

    def is_at_hand(self, object_: LandedObject) -> bool:
        """Always; see `LandingZone.is_at_hand`."""
        return True

    def fetch_back(self, object_: LandedObject, *, days: int, tier: RestoreTier) -> timedelta | None:
        """Nothing has to be; see `LandingZone.fetch_back`."""
        return None

    @contextmanager
    def ageing(self) -> Iterator[bool]:
        """Only one process moves objects at a time; see `LandingZone.ageing`."""
        if not self._colder:
            yield True
            return
        with self._told("ageing"):
            self._require_root()
            os.makedirs(self._held.root, exist_ok=True)
            lock = os.open(os.path.join(self._hot.ageing, b"lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            with self._told("ageing"):
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    is_ours = True
                except BlockingIOError:
                    is_ours = False
                if is_ours:
                    self._begin_ageing()
            yield is_ours
        finally:
            os.close(lock)

    def _begin_ageing(self) -> None:
        """Make ready, and put right what a killed one has left."""
        for tree in self._colder:
            if not os.path.isdir(tree.root):
                raise LandingError(
                    f"landing zone {self._url}: the folder {os.fsdecode(tree.root)} that objects age into isn't there",
                    "is its disk mounted? A new one is made with mkdir",
                )
            mark = self._mark(tree.place)
            if not os.path.exists(mark):
                os.makedirs(tree.ageing, exist_ok=True)
                _sync_folder(tree.root)
                # From now on a tree without its folder is taken for a disk that isn't mounted.
                descriptor = os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
                os.close(descriptor)
                _sync_folder(self._hot.ageing)
        self._trees()
        for tree in self._colder:
            for name in os.listdir(tree.ageing):
                os.unlink(os.path.join(tree.ageing, name))
        for folder, _, files in os.walk(self._held.root, topdown=False):
            for name in files:
                names = tuple(os.path.relpath(os.path.join(folder, name), self._held.root).split(b"/"))
                self._settle(names)
            if folder != self._held.root:
                os.rmdir(folder)

    def age(self, object_: LandedObject, place: Place, sha256: str) -> Place:
        """Copy, make sure, remove; see `LandingZone.age`."""
        wanted = [tree for tree in self._colder if PLACES.index(tree.place) <= PLACES.index(place)]
        target = wanted[-1] if wanted else self._hot
        names = self._names(object_.key)
        if names is None or PLACES.index(target.place) <= PLACES.index(object_.place):
            return object_.place
        what = f"object {object_.key!r}"
        with self._told(f"{what}, on its way to {os.fsdecode(target.root)}"):
            half = os.path.join(target.ageing, temporary_name(uuid4().hex).encode())
            try:
                self._copy(object_, half, sha256)
                folder = self._make_folders(what, names[:-1], target.root)
                os.rename(half, os.path.join(folder, names[-1]))
                _sync_folder(folder)
            finally:
                if os.path.lexists(half):
                    os.unlink(half)
            for tree in self._colder:
                if tree.place != target.place:
                    with suppress(*_GONE):
                        os.unlink(_join(tree, names))
            if object_.place == "hot":
                self._let_go(what, object_, names)
        return target.place

    def _copy(self, object_: LandedObject, half: bytes, sha256: str) -> None:
        """
        A copy that is on its disk, has the original's time, and reads as the original does.

        Raises:
            LandingError: it doesn't.
        """
        what = f"object {object_.key!r}"
        read = hashlib.sha256()
        with self.open(object_) as opened, open(half, "xb") as file:
            while piece := opened.file.read(_COPIED_BYTES):
                read.update(piece)
                file.write(piece)
            file.flush()
            opened.check()
            modified = int(object_.token.rsplit("-", 2)[0])
            os.utime(file.fileno(), ns=(modified, modified))
            os.fsync(file.fileno())
        if sha256 and read.hexdigest() != sha256:
            raise ObjectChanged(
                f"{what}: its content isn't what was loaded, though its size and time are: it stays where it is",
                "put the original back, or load its day with reload",
            )
        written = hashlib.sha256()
        with open(half, "rb") as file:
            while piece := file.read(_COPIED_BYTES):
                written.update(piece)
            token = _Tree("cold", b"").token(os.fstat(file.fileno()))
        if written.digest() != read.digest():
            raise LandingError(f"{what}: its copy reads differently: it stays where it is", "that disk may be failing")
        if not same_version(token, object_.token):
            raise LandingError(
                f"{what}: that disk doesn't keep times to the nanosecond, so the copy would look like another version",
                "take a file system that does, as ext4, xfs, btrfs or zfs",
            )

    def _let_go(self, what: str, object_: LandedObject, names: tuple[bytes, ...]) -> None:
        """Remove the original, unless a producer has put another version in its place."""
        self._make_folders(what, names[:-1], self._held.root)
        # Gone: it was in the folder of what is on its way, or somebody has deleted it.
        with suppress(*_GONE):
            os.rename(_join(self._hot, names), _join(self._held, names))
        if not self._settle(names):
            raise _changed(what)

    def _settle(self, names: tuple[bytes, ...]) -> bool:
        """
        Put right what stands in the folder of what is on its way: gone, where a colder tree has it; else back in its place.

        Returns:
            Whether a colder tree has it.
        """
        held, hot = _join(self._held, names), _join(self._hot, names)
        try:
            token = self._held.token(os.lstat(held))
        except _GONE:
            return True
        for tree in self._colder:
            with suppress(*_GONE):
                if same_version(tree.token(os.lstat(_join(tree, names))), token):
                    # Needn't be made to last: after a power cut it would be found here, or in its former place, once more.
                    os.unlink(held)
                    return True
        # Where a producer has been faster, what we held has been overwritten by it.
        with suppress(FileExistsError):
            os.link(held, hot)
            _sync_folder(os.path.dirname(hot))
        os.unlink(held)
        return False

    # --- erasing; see `landing/erasing.py`

    @contextmanager
    def erasing(self) -> Iterator[bool]:
        """Nobody moves objects meanwhile; see `ErasableLanding.erasing`."""
        with self._told("erasing"):
            self._require_root()
            os.makedirs(self._held.root, exist_ok=True)
            lock = os.open(os.path.join(self._hot.ageing, b"lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            with self._told("erasing"):
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    is_ours = True
                except BlockingIOError:
                    is_ours = False
                if is_ours:
                    self._begin_ageing()
                    self._sweep_halves()
            yield is_ours
        finally:
            os.close(lock)

    def _sweep_halves(self) -> None:
        """Delete what a killed one had begun to write for the place of an object."""
        with suppress(*_GONE):
            for name in os.listdir(self._hot.ageing):
                if is_temporary(os.fsdecode(name)):
                    os.unlink(os.path.join(self._hot.ageing, name))

    def replace(self, object_: LandedObject, file: Path) -> None:
        """Write a copy beside it, and give it the object's name; see `ErasableLanding.replace`."""
        what = f"object {object_.key!r}"
        with self._told(what):
            tree, names = self._place_of(what, object_)
            half = os.path.join(tree.ageing, temporary_name(uuid4().hex).encode())
            os.makedirs(tree.ageing, exist_ok=True)
            try:
                with open(file, "rb") as source, open(half, "xb") as target:
                    shutil.copyfileobj(source, target, _COPIED_BYTES)
                    target.flush()
                    modified = int(object_.token.rsplit("-", 2)[0])
                    # One nanosecond, so that its token is another one whatever its size; it landed when it did.
                    modified += -1 if modified % 1000 == 999 else 1
                    os.utime(target.fileno(), ns=(modified, modified))
                    os.fsync(target.fileno())
                self._put_in_place(what, object_, tree, names, half)
            finally:
                if os.path.lexists(half):
                    os.unlink(half)

    def remove(self, object_: LandedObject) -> None:
        """Delete it, and what is hidden under its key; see `ErasableLanding.remove`."""
        what = f"object {object_.key!r}"
        with self._told(what):
            try:
                tree, names = self._place_of(what, object_)
            except ObjectMissing:
                return
            self._put_in_place(what, object_, tree, names, None)

    def _place_of(self, what: str, object_: LandedObject) -> tuple[_Tree, tuple[bytes, ...]]:
        names = self._names(object_.key)
        trees = self._trees()
        for tree in trees if names is not None else ():
            with suppress(*_GONE):
                if not same_version(tree.token(os.lstat(_join(tree, names or ()))), object_.token):
                    raise _changed(what)
                return tree, names or ()
        raise ObjectMissing(f"{what} is gone", "list the landing zone again")

    def _put_in_place(
        self, what: str, object_: LandedObject, tree: _Tree, names: tuple[bytes, ...], half: bytes | None
    ) -> None:
        """Give a written file an object's name, or take the object away; only if it still is the one that was listed."""
        place = _join(tree, names)
        if tree is self._hot:
            # A producer may put another version there at any moment: what is moved aside is looked at once more.
            self._make_folders(what, names[:-1], self._held.root)
            held = _join(self._held, names)
            os.rename(place, held)
            if not same_version(self._held.token(os.lstat(held)), object_.token):
                self._settle(names)
                raise _changed(what)
            try:
                if half is not None:
                    os.link(half, place)
            except FileExistsError:
                os.unlink(held)
                raise _changed(what) from None
            _sync_folder(os.path.dirname(place))
            os.unlink(held)
            _sync_folder(os.path.dirname(held))
        else:
            if half is not None:
                os.rename(half, place)
            else:
                os.unlink(place)
            _sync_folder(os.path.dirname(place))
        for other in (self._held, *self._colder):
            if other is not tree:
                with suppress(*_GONE):
                    os.unlink(_join(other, names))

    def former_versions(self) -> Iterator[FormerVersion]:
        """Files that hotter ones hide, and what killed processes have half-written; see `ErasableLanding.former_versions`."""
        trees = self._trees()
        for folder, _, files in os.walk(self._root):
            for name in sorted(files):
                if is_temporary(_shown(name)):
                    path = os.path.join(folder, name)
                    with suppress(*_GONE):
                        status = os.lstat(path)
                        if time.time() - status.st_mtime > _HALF_SECONDS:
                            shown = os.path.relpath(path, self._root).split(b"/")
                            yield FormerVersion("/".join(map(_shown, shown)), self._url, status.st_size)
        for at, tree in enumerate(trees[1:], start=1):
            for folder, _, files in os.walk(tree.root):
                if tree is not self._held and os.path.samefile(folder, tree.ageing):
                    continue
                for name in sorted(files):
                    names = tuple(os.path.relpath(os.path.join(folder, name), tree.root).split(b"/"))
                    if any(os.path.lexists(_join(hotter, names)) for hotter in trees[:at]):
                        size = os.lstat(_join(tree, names)).st_size
                        yield FormerVersion("/".join(map(_shown, names)), os.fsdecode(tree.root), size)

    def open_former(self, former: FormerVersion) -> ObjectFile:
        """Open it; see `ErasableLanding.open_former`."""
        what = f"former version of {former.key!r}"
        with self._told(what):
            try:
                descriptor = os.open(self._path_of(former), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except _GONE:
                raise ObjectMissing(f"{what} is gone", "list the landing zone again") from None
        return ObjectFile(_ToldFile(descriptor, lambda: self._told(what)), lambda: None)

    def remove_former(self, former: FormerVersion) -> None:
        """Delete it; see `ErasableLanding.remove_former`."""
        with self._told(f"former version of {former.key!r}"), suppress(*_GONE):
            path = self._path_of(former)
            os.unlink(path)
            _sync_folder(os.path.dirname(path))

    def _path_of(self, former: FormerVersion) -> bytes:
        names = self._names(former.key)
        assert names is not None, "it was listed"
        return os.path.join(os.fsencode(former.name), *names)

    def _mark(self, place: Place) -> bytes:
        """The file that says that objects have aged into a tree."""
        return os.path.join(self._hot.ageing, f"{place}.used".encode())

    def _has_aged(self) -> bool:
        return os.path.isdir(self._hot.ageing)

    def _has_aged_object(self, key: str) -> bool:
        return self._has_aged() and self._status_anywhere(key, self._trees()[1:]) is not None

    def _trees(self) -> Sequence[_Tree]:
        """
        Where objects are, in the order in which they are looked for.

        Raises:
            LandingError: one of these folders isn't there, or isn't said any more: objects would seem to be gone.
        """
        self._require_root()
        with self._told("the root"):
            if not self._has_aged():
                return (self._hot,)
            there = {tree.place: tree for tree in self._colder}
            trees = [self._hot, self._held]
            for place in PLACES[1:]:
                if not os.path.exists(self._mark(place)):
                    continue
                if place not in there:
                    raise LandingError(
                        f"landing zone {self._url}: objects have aged into a folder that isn't said any more: the {place} one",
                        f"set INGESTION_LANDING_{place.upper()}",
                    )
                if not os.path.isdir(there[place].ageing):
                    raise LandingError(
                        f"landing zone {self._url}: the {place} folder {os.fsdecode(there[place].root)} isn't the one that objects"
                        " have aged into",
                        f"is its disk mounted, and INGESTION_LANDING_{place.upper()} right?",
                    )
                trees.append(there[place])
            return trees

    # --- files

    def _entries(
        self,
        base: str,
        trees: Sequence[_Tree],
        names: tuple[bytes, ...],
        known: Sequence[_Tree],
        name_prefix: str,
        start_after: str,
    ) -> Sequence[tuple[str, Sequence[_Entry]]]:
        """
        The files and folders of one folder that can matter, in the order of their keys; a folder's key ends with `/`.

        Args:
            base: what their keys begin with.
            trees: all of them, in order. One that had no such folder a moment ago may have it now, and what has moved there.
            names: of the folder.
            known: trees in which it was just seen to be a folder, and no link.
            name_prefix: what their names begin with.
            start_after: as in `list`.
        """
        found: dict[str, list[_Entry]] = {}
        with self._told(f"folder {base!r}"):
            for tree in trees:
                if tree not in known and not self._is_folder(tree, names):
                    continue
                try:
                    with os.scandir(_join(tree, names)) as entries:
                        for entry in entries:
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
                                found.setdefault(key, []).append((tree, entry))
                except _GONE:
                    continue
        return sorted(found.items(), key=lambda one: one[0])  # code points sort as their UTF-8 bytes do

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

    def _is_folder(self, tree: _Tree, names: tuple[bytes, ...]) -> bool:
        """Whether these names lead through folders only, without a symbolic link."""
        with self._told("folder"):
            for depth in range(1, len(names) + 1):
                try:
                    if not stat.S_ISDIR(os.lstat(_join(tree, names[:depth])).st_mode):
                        return False
                except OSError as error:
                    if isinstance(error, _GONE) or error.errno == errno.ENAMETOOLONG:
                        return False
                    raise
        return True

    def _make_folders(self, what: str, names: tuple[bytes, ...], root: bytes = b"") -> bytes:
        folder = root or self._root
        os.makedirs(folder, exist_ok=True)
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


def _absolute(folder: str | Path) -> str:
    return str(Path(folder).expanduser().absolute())


def _join(tree: _Tree, names: tuple[bytes, ...]) -> bytes:
    return os.path.join(tree.root, *names)


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
