"""
One copy of remote files: from what stands elsewhere to what of it is new in the landing zone.

Belongs here: which files are of a day, which of them are new or changed, reading them, and that half a file never lands. Doesn't: talking
to a server (`remotes.py` says how), what there is already (`copied.py`).

A file is copied when its size, modification time or ETag isn't what it was. It lands when all of its bytes are here, it still looks as it
did before, and its digest is what the sender says, where he does. Small files are in memory meanwhile, large ones on disk (`spool.py`).
"""

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Literal, TypeVar
from zoneinfo import ZoneInfo

from ingestion_platform.errors import LandingError, SourceError, SourceUnavailable
from ingestion_platform.landing.keys import check_key
from ingestion_platform.remote import stamp_of, tells_nothing
from ingestion_platform.sources.bandwidth import Bandwidth
from ingestion_platform.sources.copied import CopiedFile, LandedRemote
from ingestion_platform.sources.remotes import FileGone, FileRefused, RemoteFile, RemoteFolder, hostile
from ingestion_platform.sources.spool import Spool, SpooledFile

T = TypeVar("T")

IN_MEMORY_BYTES = 4 * 1024**2
"""A file up to this size is held in memory until it lands."""
PIECE_BYTES = 1024**2
ATTEMPTS = 4
"""How often a file is read on where the connection broke, before the run fails."""
FIRST_WAIT_SECONDS = 1.0
AHEAD = timedelta(days=1)
"""A modification time further in the future than this is a clock that is wrong: it tells nothing of how old a file is."""
_UNKNOWN = "0" * 64
_DIGEST_FILE_BYTES = 64 * 1024
_HEX = {".sha256": re.compile(rb"\b[0-9a-fA-F]{64}\b"), ".md5": re.compile(rb"\b[0-9a-fA-F]{32}\b")}

Fate = Literal["new", "changed", "unchanged", "left", "refused", "failed"]


@dataclass(frozen=True, slots=True)
class Told:
    """A file that wasn't copied, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Copied:
    """
    What came of a copy.

    Args:
        day: which.
        seen: files of the day.
        new: those that landed for the first time.
        changed: those of which another version landed.
        unchanged: those that had landed as they are.
        touched: those among them that had to be read to find that out.
        left: those that are left for the next look, and why.
        refused: names that no file may have, and what isn't a file.
        failed: those that couldn't be copied, and why.
        others: names beside them that the path doesn't fit.
        bytes_read: from the remote.
        bytes_resumed: that a former, interrupted copy had read.
        bytes_landed: size of what landed.
        seconds: wall time.
    """

    day: date
    seen: int
    new: int
    changed: int
    unchanged: int
    touched: int
    left: tuple[Told, ...]
    refused: tuple[Told, ...]
    failed: tuple[Told, ...]
    others: int
    bytes_read: int
    bytes_resumed: int
    bytes_landed: int
    seconds: float

    @property
    def has_landed(self) -> bool:
        """Whether anything has."""
        return self.new + self.changed > 0


class _Left(Exception):
    """A file is left for the next look; the text says why."""


class _Stopped(Exception):
    """Another file's copy has failed for a reason that is everybody's."""


@dataclass(slots=True)
class _Found:
    """What stands in the remote folder for a day."""

    files: dict[str, RemoteFile] = field(default_factory=dict)
    refused: list[Told] = field(default_factory=list)
    failed: list[Told] = field(default_factory=list)
    others: int = 0


@dataclass(slots=True)
class _Tally:
    """What was done until now, by all threads."""

    on_read: Callable[[int, int, int], None]
    lock: threading.Lock = field(default_factory=threading.Lock)
    done: int = 0
    todo: int = 0
    fates: dict[Fate, list[Told]] = field(default_factory=lambda: {"left": [], "refused": [], "failed": []})
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("new", "changed", "unchanged", "touched", "read", "resumed", "landed"), 0
        )
    )

    def add(self, name: str, number: int = 1) -> None:
        with self.lock:
            self.counts[name] += number

    def read(self, size_bytes: int) -> None:
        with self.lock:
            self.counts["read"] += size_bytes
            self.on_read(self.done, self.todo, self.counts["read"])

    def tell(self, fate: Fate, path: str, reason: str) -> None:
        with self.lock:
            self.fates[fate].append(Told(path, reason))

    def told(self, fate: Fate) -> tuple[Told, ...]:
        return tuple(sorted(self.fates[fate], key=lambda one: one.path))


class Copy:
    """
    Copies remote files, day after day. A folder is listed once, however many days look into it.

    Args:
        landed: the remote in the landing zone.
        folder: what stands elsewhere.
        spool: where large files are kept on their way.
        zone: business time.
        bandwidth: how fast files are read; shared by whoever is given it.
        now: the moment, UTC.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        landed: LandedRemote,
        folder: RemoteFolder,
        spool: Spool,
        zone: ZoneInfo,
        *,
        bandwidth: Bandwidth | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._landed = landed
        self._remote = landed.remote
        self._folder = folder
        self._spool = spool
        self._zone = zone
        self._bandwidth = bandwidth or Bandwidth(self._remote.rate_bytes_per_second)
        self._now = now
        self._sleep = sleep
        self._names = self._remote.segments(None)
        self._listed: dict[str, Sequence[RemoteFile] | FileRefused | None] = {}

    def run(self, day: date, *, on_read: Callable[[int, int, int], None] = lambda *_: None) -> Copied:
        """
        Copy what is new or changed of a day.

        Args:
            day: business day.
            on_read: told of each piece that was read: how many files are done by now, of how many that are to be copied, and all bytes.

        Raises:
            SourceUnavailable: the remote gave no answer; what landed until then stays, and large files go on where they stopped.
            SourceError: it doesn't let us in, or isn't there.
            LandingError: the landing zone refused.
        """
        began = time.perf_counter()
        self._spool.sweep()
        found = self._find(day)
        tally = _Tally(on_read)
        tally.fates["refused"], tally.fates["failed"] = found.refused, found.failed
        last = self._landed.last(day)
        todo: list[tuple[str, RemoteFile]] = []
        unsettled: list[tuple[str, RemoteFile]] = []
        moment = self._now()
        for path, file in sorted(found.files.items()):
            stamp = stamp_of(file.size_bytes, file.modified_at, file.etag)
            if path in last and stamp in last[path].version.stamps and not tells_nothing(stamp):
                tally.add("unchanged")
            elif self._remote.checksum:
                # Its sender's digest tells that it is whole, however young it is.
                todo.append((path, file))
            elif file.modified_at is None or file.modified_at > moment + AHEAD:
                unsettled.append((path, file))
            elif self._is_young(file):
                tally.tell(
                    "left", path, f"it was written at {file.modified_at:%Y-%m-%d %H:%M:%S} UTC, and may still be"
                )
            else:
                todo.append((path, file))
        if unsettled and self._remote.settle_seconds:
            # Nothing tells how old they are: do they stand still?
            self._sleep(self._remote.settle_seconds)
        self._copy_all(day, [*todo, *unsettled], last, tally)
        counts = tally.counts
        return Copied(
            day=day, seen=len(found.files), new=counts["new"], changed=counts["changed"], unchanged=counts["unchanged"],
            touched=counts["touched"], left=tally.told("left"), refused=tally.told("refused"), failed=tally.told("failed"),
            others=found.others, bytes_read=counts["read"], bytes_resumed=counts["resumed"], bytes_landed=counts["landed"],
            seconds=time.perf_counter() - began,
        )  # fmt: skip

    def _is_young(self, file: RemoteFile) -> bool:
        """Whether a file may still be being written, by its modification time."""
        return (
            file.modified_at is not None
            and (self._now() - file.modified_at).total_seconds() < self._remote.settle_seconds
        )

    # --- what there is

    def _find(self, day: date) -> _Found:
        found = _Found()
        *folders, name = self._remote.segments(day)
        self._walk(day, "", folders, name, found)
        if not found.files and self._list("") is None:
            raise SourceError(
                f"{self._folder.url} isn't there",
                "is its disk mounted, and its url right? See the file of INGESTION_REMOTES",
            )
        return found

    def _walk(
        self,
        day: date,
        folder: str,
        folders: Sequence[str | re.Pattern[str]],
        name: str | re.Pattern[str],
        found: _Found,
    ) -> None:
        """Look into the folders that can have files of *day*, and no others."""
        if folders and isinstance(folders[0], str):
            self._walk(day, f"{folder}{folders[0]}/", folders[1:], name, found)
            return
        try:
            listed = self._list(folder)
        except FileRefused as error:
            found.failed.append(Told(folder or "/", f"the folder {error}"))
            return
        wanted = folders[0] if folders else name
        for one in listed or ():
            shown = f"{folder}{_shown(one.name)}"
            problem = hostile(one.name)
            if problem:
                found.refused.append(Told(shown, f"its name {problem}"))
            elif not _fits(wanted, one.name):
                found.others += not one.is_folder and self._is_other(len(folders), one.name)
            elif one.problem:
                found.refused.append(Told(shown, f"it {one.problem}"))
            elif folders and one.is_folder:
                self._walk(day, f"{folder}{one.name}/", folders[1:], name, found)
            elif folders:
                found.others += 1
            elif not one.is_folder:
                self._take(day, f"{folder}{one.name}", one, found)

    def _take(self, day: date, path: str, file: RemoteFile, found: _Found) -> None:
        known: RemoteFile | None = file
        if not file.is_known:
            try:
                known = self._patiently(lambda: self._folder.look(path))
            except FileRefused as error:
                found.failed.append(Told(path, f"it {error}"))
                return
        if known is None or known.is_folder:
            return
        if known.problem:
            found.refused.append(Told(path, f"it {known.problem}"))
        elif known.size_bytes > self._remote.max_bytes:
            found.refused.append(
                Told(path, f"it has {known.size_bytes:,} bytes, and {self._remote.max_bytes:,} are allowed")
            )
        elif self._is_of(day, path, known, found):
            found.files[path] = known

    def _is_other(self, depth: int, name: str) -> bool:
        """Whether no file of any day is called so, *depth* folders above the files, and no digest of one."""
        names, ending = self._names[-1 - depth], self._remote.checksum
        is_digest = bool(ending) and not depth and _fits(names, name.removesuffix(ending))
        return not (_fits(names, name) or is_digest)

    def _is_of(self, day: date, path: str, file: RemoteFile, found: _Found) -> bool:
        if self._remote.day == "modified":
            if file.modified_at is None:
                found.refused.append(Told(path, "the remote doesn't tell when it was modified, and that is its day"))
                return False
            if file.modified_at.astimezone(self._zone).date() != day:
                return False
        if not self._remote.has_path(path, day):
            return False
        try:
            check_key(self._remote.version_key(day, path, 1, _UNKNOWN, _UNKNOWN[:16]))
        except LandingError as error:
            found.refused.append(Told(path, f"it can't land: {error.what}"))
            return False
        return True

    def _list(self, folder: str) -> Sequence[RemoteFile] | None:
        place = folder.rstrip("/")
        if place not in self._listed:
            try:
                self._listed[place] = self._patiently(lambda: self._folder.list(place))
            except FileRefused as error:
                self._listed[place] = error
        found = self._listed[place]
        if isinstance(found, FileRefused):
            raise found
        return found

    # --- copying

    def _copy_all(
        self, day: date, todo: Sequence[tuple[str, RemoteFile]], last: dict[str, CopiedFile], tally: _Tally
    ) -> None:
        stop = threading.Event()
        tally.todo = len(todo)

        def copy(path: str, file: RemoteFile) -> None:
            if stop.is_set():
                raise _Stopped
            try:
                self._copy(day, path, file, last.get(path), tally, stop)
            except _Left as left:
                tally.tell("left", path, str(left))
            except FileGone:
                tally.tell("left", path, "it vanished while it was copied")
            except FileRefused as error:
                tally.tell("failed", path, f"it {error}")
            except BaseException:
                stop.set()
                raise
            with tally.lock:
                tally.done += 1

        with ThreadPoolExecutor(self._remote.concurrency, thread_name_prefix="copy") as pool:
            futures = [pool.submit(copy, path, file) for path, file in todo]
            try:
                failures = [error for error in (future.exception() for future in futures) if error is not None]
            except BaseException:
                stop.set()
                raise
        for error in failures:
            if not isinstance(error, _Stopped):
                raise error

    def _copy(
        self, day: date, path: str, file: RemoteFile, before: CopiedFile | None, tally: _Tally, stop: threading.Event
    ) -> None:
        stamp = stamp_of(file.size_bytes, file.modified_at, file.etag)
        if self._changed(path, stamp):
            raise _Left("it has changed since it was listed")
        wanted = self._wanted_digest(path)
        if file.size_bytes <= IN_MEMORY_BYTES:
            content = b"".join(self._read(path, 0, file.size_bytes, tally, stop))
            sha256 = hashlib.sha256(content).hexdigest()
            self._check(path, file, wanted, sha256, hashlib.md5(content, usedforsecurity=False).hexdigest())
            self._land(
                day, path, stamp, sha256, len(content), before, tally, lambda key: self._landed.put(key, content)
            )
            return
        identity = f"{self._remote.name}\n{self._folder.url}\n{path}\n{stamp}"
        with self._spool.opened(identity, self._remote.part_bytes) as spooled:
            if spooled is None:
                raise _Left("another run is copying it")
            if tells_nothing(stamp):
                spooled.begin_anew()
            self._fill(path, file.size_bytes, spooled, tally, stop)
            try:
                self._check(path, file, wanted, spooled.sha256.hexdigest(), spooled.md5.hexdigest())
            except (_Left, FileRefused):
                spooled.discard()
                raise
            self._land(
                day, path, stamp, spooled.sha256.hexdigest(), spooled.size_bytes, before, tally,
                lambda key: self._landed.put_file(key, spooled.path),
            )  # fmt: skip
            spooled.discard()

    def _fill(self, path: str, size_bytes: int, spooled: SpooledFile, tally: _Tally, stop: threading.Event) -> None:
        tally.add("resumed", spooled.size_bytes)
        try:
            for piece in self._read(path, spooled.size_bytes, size_bytes, tally, stop):
                spooled.append(piece)
        except (_Left, FileGone):
            spooled.discard()
            raise
        spooled.finish()

    def _read(self, path: str, begin: int, size_bytes: int, tally: _Tally, stop: threading.Event) -> Iterator[bytes]:
        """Yield a file's bytes from *begin* to its end, going on where a connection broke."""
        attempt = 1
        while begin < size_bytes:
            try:
                with closing(self._folder.read(path, begin, self._bandwidth.piece_bytes(PIECE_BYTES))) as pieces:
                    for piece in pieces:
                        if stop.is_set():
                            raise _Stopped
                        begin += len(piece)
                        if begin > size_bytes:
                            raise _Left("it has grown while it was copied")
                        self._bandwidth.take(len(piece))
                        tally.read(len(piece))
                        attempt = 1
                        yield piece
            except SourceUnavailable:
                if attempt >= ATTEMPTS:
                    raise
                self._sleep(FIRST_WAIT_SECONDS * 2 ** (attempt - 1))
                attempt += 1
            else:
                if begin < size_bytes:
                    raise _Left("it has become shorter while it was copied")

    def _check(self, path: str, file: RemoteFile, wanted: str, sha256: str, md5: str) -> None:
        """See that what was read is the file as it was listed, and as its sender means it."""
        if self._changed(path, stamp_of(file.size_bytes, file.modified_at, file.etag)):
            raise _Left("it has changed while it was copied")
        digest = md5 if self._remote.checksum == ".md5" else sha256
        if wanted and digest != wanted:
            if self._is_young(file):
                raise _Left(f"it isn't what its {self._remote.checksum} says, and may still be being written")
            raise FileRefused(
                f"isn't what its sender says: {path}{self._remote.checksum} has {wanted}, and it is {digest}"
            )

    def _changed(self, path: str, stamp: str) -> bool:
        now = self._patiently(lambda: self._folder.look(path))
        if now is None:
            raise FileGone
        if now.problem or now.is_folder:
            raise FileRefused(now.problem or "has become a folder")
        return stamp_of(now.size_bytes, now.modified_at, now.etag) != stamp

    def _wanted_digest(self, path: str) -> str:
        """The digest that the sender has put beside a file; empty where none is declared."""
        ending = self._remote.checksum
        if not ending:
            return ""
        try:
            text = b""
            for piece in self._folder.read(f"{path}{ending}", 0, _DIGEST_FILE_BYTES):
                text += piece
                if len(text) > _DIGEST_FILE_BYTES:
                    raise FileRefused(f"has a {ending} file that is no digest: it is too long")
        except FileGone:
            raise _Left(f"its {ending} isn't there yet") from None
        name = path.rpartition("/")[2].encode(errors="surrogateescape")
        lines = text.splitlines()
        for line in [*(one for one in lines if name in one), *lines]:
            found = _HEX[ending].search(line)
            if found is not None:
                return found[0].decode().lower()
        raise _Left(f"its {ending} has no digest yet")

    def _land(
        self,
        day: date,
        path: str,
        stamp: str,
        sha256: str,
        size_bytes: int,
        before: CopiedFile | None,
        tally: _Tally,
        put: Callable[[str], bool],
    ) -> None:
        if before is not None and (before.version.sha, before.landed.size_bytes) == (sha256[:16], size_bytes):
            if stamp not in before.version.stamps:
                self._landed.mark_same(day, before.version, stamp)
            tally.add("touched")
            tally.add("unchanged")
            return
        number = before.version.number + 1 if before is not None else 1
        has_landed = put(self._remote.version_key(day, path, number, sha256, stamp))
        if not has_landed:
            # Another run was faster, with the same bytes.
            tally.add("unchanged")
            return
        tally.add("landed", size_bytes)
        tally.add("changed" if before is not None else "new")

    def _patiently(self, call: Callable[[], T]) -> T:
        attempt = 1
        while True:
            try:
                return call()
            except SourceUnavailable:
                if attempt >= ATTEMPTS:
                    raise
                self._sleep(FIRST_WAIT_SECONDS * 2 ** (attempt - 1))
                attempt += 1


def _fits(wanted: str | re.Pattern[str], name: str) -> bool:
    return name == wanted if isinstance(wanted, str) else wanted.fullmatch(name) is not None


def _shown(name: str) -> str:
    """A name as a person may see it: what it has that isn't text is written out."""
    return name.encode("unicode_escape").decode()[:200] if hostile(name) else name
