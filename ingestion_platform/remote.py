"""
What remote files are: files that stand elsewhere, on a server or in a folder, and are copied into the landing zone.

Belongs here: the declarations, and the names that copies have in the landing zone. Doesn't: copying (`sources/`), the tables made of them
(`dataset.py`). Users, passwords and keys aren't declared: the settings have them, by the remote's name.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from datetime import date, datetime
from functools import cached_property
from typing import Literal
from urllib.parse import urlsplit

from pydantic.dataclasses import dataclass

from ingestion_platform.change_log import ChangeLog
from ingestion_platform.errors import DeclarationError
from ingestion_platform.format import Csv, Format
from ingestion_platform.key_template import KeyTemplate
from ingestion_platform.table import IDENTIFIER, STRICT

SMALLEST_PART_BYTES = 5 * 1024**2
"""S3 takes no smaller part but the last."""

LARGEST_PART_BYTES = 256 * 1024**2
"""A part that is sent is held in memory."""

_VERSION = re.compile(r"(?P<number>[0-9]{5,9})-(?P<sha>[0-9a-f]{16})-(?P<stamp>[0-9a-f]{16})(?P<endings>(?:\.[^/]*)?)")
_MARK = "same-"
_ENDINGS = re.compile(r"(?:\.[A-Za-z0-9]{1,8}){1,2}$")
_UNSTAMPED = "0" * 16


@dataclass(frozen=True, config=STRICT, kw_only=True)
class RemoteFiles:
    """
    Files that stand elsewhere. What is new or changed among them is copied into the landing zone, each version once.

    Args:
        name: of the asset `landing/<name>`, and of the table in the file of INGESTION_REMOTES.
        description: what the files are.
        url: the folder that they stand below: `sftp://host/outbox`, a folder of this machine, or any URL that fsspec can list. The settings
            may say another one. No user and no password: the settings have those.
        path: key template below the URL: `{branch}/statement_%Y%m%d.csv.gz`.
        first_day: the first day that files are copied of.
        day: what tells a file's day: its `path`, or, of names without one, when it was `modified` (in business time).
        schedule: cron, in business time; None: by hand only.
        look_back_days: the schedule looks for files of today and of so many days before.
        settle_seconds: a file younger than that is left for the next look: it may still be being written.
        checksum: ending of the file beside each one that has its digest, by which it is known to be whole, however young it is; a file
            whose digest isn't there yet is left for the next look.
        rate_bytes_per_second: how fast files are read, all of a run together; None: as fast as it goes.
        part_bytes: a larger file is copied in parts: after an interruption only parts that are missing are read, and S3 gets it in parts.
        max_bytes: a file that is larger is refused.
        concurrency: files that are copied at a time.
        owners: `team:name` or an e-mail address.
        tags: shown in Dagster.
    """

    name: str
    description: str
    url: str
    path: str
    first_day: date
    day: Literal["path", "modified"] = "path"
    schedule: str | None = None
    look_back_days: int = 3
    settle_seconds: float = 60.0
    checksum: Literal["", ".sha256", ".md5"] = ""
    rate_bytes_per_second: int | None = None
    part_bytes: int = 16 * 1024**2
    max_bytes: int = 64 * 1024**3
    concurrency: int = 4
    owners: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._require(IDENTIFIER.fullmatch(self.name) is not None, "a name is snake_case and starts with a letter")
        self._require(bool(self.description.strip()), "it has no description", "say what the files are")
        self._check_url()
        segments = self.path.split("/")
        self._require(
            not {"", ".", ".."} & set(segments),
            f"path {self.path!r} has a segment that is empty, . or ..",
            "it is relative to the URL",
        )
        try:
            _ = self.template
        except DeclarationError as error:
            raise self._error(error.what, error.hint) from error
        self._require("{version}" not in self.path, "a capture can't be called version", "rename it")
        given = {directive for directive in ("%Y", "%m", "%d") if directive in self.path}
        if self.day == "path":
            self._require(
                len(given) == 3,
                f"path {self.path!r} doesn't give the day: %Y, %m and %d must all be in it",
                "or take the day on which a file was written: day='modified'",
            )
        else:
            self._require(
                not given and "%H" not in self.path,
                f"path {self.path!r} gives a day, and day is 'modified'",
                "leave day out, or write {…} for what may be anything",
            )
        self._require(0 <= self.look_back_days <= 366, f"look_back_days is 0 to 366, not {self.look_back_days}")
        self._require(0 <= self.settle_seconds <= 86_400, f"settle_seconds is 0 to 86,400, not {self.settle_seconds:g}")
        self._require(
            self.rate_bytes_per_second is None or self.rate_bytes_per_second >= 1,
            f"rate_bytes_per_second is 1 or more, not {self.rate_bytes_per_second}",
            "None: as fast as it goes",
        )
        self._require(
            SMALLEST_PART_BYTES <= self.part_bytes <= LARGEST_PART_BYTES,
            f"part_bytes is {SMALLEST_PART_BYTES:,} to {LARGEST_PART_BYTES:,}, not {self.part_bytes:,}",
            "S3 takes no smaller ones, and each is held in memory while it is sent",
        )
        self._require(self.max_bytes >= 1, f"max_bytes is 1 or more, not {self.max_bytes}")
        self._require(1 <= self.concurrency <= 64, f"concurrency is 1 to 64, not {self.concurrency}")

    def __hash__(self) -> int:
        return hash(self.name)

    def _check_url(self) -> None:
        try:
            parts = urlsplit(self.url)
            has_secret = parts.password is not None or parts.username is not None
        except ValueError:
            raise self._error("its url is none", "as in sftp://files.example.com/outbox") from None
        self._require(
            bool(self.url) and "\0" not in self.url, "its url is none", "as in sftp://files.example.com/outbox"
        )
        # Not shown: a password may stand in it.
        self._require(
            not has_secret,
            "its url holds a user or a password",
            "the settings have those: the file of INGESTION_REMOTES",
        )
        self._require(
            parts.scheme.lower() != "sftp" or bool(parts.hostname),
            f"url {self.url!r} names no host",
            "as in sftp://files.example.com/outbox",
        )

    def _error(self, what: str, hint: str = "") -> DeclarationError:
        return DeclarationError(f"remote {self.name!r}: {what}", hint)

    def _require(self, holds: bool, what: str, hint: str = "") -> None:
        if not holds:
            raise self._error(what, hint)

    @property
    def root(self) -> str:
        """The prefix of everything that lands of it."""
        return f"remotes/{self.name}/"

    @cached_property
    def template(self) -> KeyTemplate:
        """Of the keys of copies: the day, the file's path, and which version of it."""
        return KeyTemplate(f"{self.root}%Y/%m/%d/{self.path}/{{version}}")

    def day_prefix(self, day: date) -> str:
        """The prefix of everything that lands for a day."""
        return f"{self.root}{day.year:04}/{day:%m/%d}/"

    def has_path(self, path: str, day: date) -> bool:
        """Whether a file of *day* may have that path."""
        found = self.template.match(f"{self.day_prefix(day)}{path}/-")
        return found is not None and found[0] == day

    def segments(self, day: date | None) -> tuple[str | re.Pattern[str], ...]:
        """What the names on the way to a file of *day* (None: of any) are: the name itself, or what it looks like; the file's own last."""
        return self.template.segments(day)[self.day_prefix(self.first_day).count("/") : -1]

    def version_key(self, day: date, path: str, number: int, sha256: str, stamp: str) -> str:
        """The key of a version of a file."""
        endings = _ENDINGS.search(path)
        return f"{self.day_prefix(day)}{path}/{number:05}-{sha256[:16]}-{stamp}{endings[0] if endings else ''}"

    def mark_key(self, day: date, version: "LandedVersion", stamp: str) -> str:
        """The key of the mark that a file looked otherwise, and had the bytes of that version."""
        return f"{self.day_prefix(day)}{version.path}/{_MARK}{version.number:05}-{version.sha}-{stamp}"


def stamp_of(size_bytes: int, modified_at: datetime | None, etag: str) -> str:
    """
    What of a file changes whenever its content may have, as 16 hex digits.

    A file that has neither a modification time nor an ETag can't be told from its former self: all of them have the same stamp.
    """
    if modified_at is None and not etag:
        return _UNSTAMPED
    moment = modified_at.isoformat() if modified_at is not None else ""
    return hashlib.sha256(f"{size_bytes}\n{moment}\n{etag}".encode()).hexdigest()[:16]


def tells_nothing(stamp: str) -> bool:
    """Whether a stamp is that of a file which has neither a modification time nor an ETag."""
    return stamp == _UNSTAMPED


@plain_dataclass(frozen=True, slots=True)
class LandedVersion:
    """
    What a key says of one version of a file.

    Args:
        key: of the copy.
        path: of the file, below the remote's URL.
        number: 1 of the first.
        sha: the first 16 hex digits of its SHA-256.
        stamps: of the file, whenever it was found to have these bytes.
    """

    key: str
    path: str
    number: int
    sha: str
    stamps: frozenset[str]

    @property
    def name(self) -> str:
        """For a person."""
        return f"{self.number} ({self.sha})"


def versions(remote: RemoteFiles, keys: Iterable[str]) -> dict[str, list[LandedVersion]]:
    """Path → its versions, the last one last, as a day's keys tell; keys that the platform doesn't give are left out."""
    day_end = len(remote.root) + len("2024/10/01/")
    found: dict[str, list[tuple[int, str, str, str]]] = {}
    marks: dict[tuple[str, int, str], set[str]] = {}
    for key in keys:
        path, _, name = key[day_end:].rpartition("/")
        parsed = _VERSION.fullmatch(name.removeprefix(_MARK))
        if not key.startswith(remote.root) or parsed is None:
            continue
        number, sha, stamp = int(parsed["number"]), parsed["sha"], parsed["stamp"]
        if name.startswith(_MARK):
            marks.setdefault((path, number, sha), set()).add(stamp)
        else:
            found.setdefault(path, []).append((number, sha, stamp, key))
    return {
        path: [
            LandedVersion(key, path, number, sha, frozenset({stamp, *marks.get((path, number, sha), ())}))
            for number, sha, stamp, key in sorted(ones)
        ]
        for path, ones in found.items()
    }


def is_version(text: str) -> bool:
    """Whether a text is the name of a version."""
    return _VERSION.fullmatch(text) is not None


def digest_in(key: str) -> str:
    """The first 16 hex digits of the SHA-256 of what was copied under that key."""
    found = _VERSION.fullmatch(key.rpartition("/")[2])
    return found["sha"] if found is not None else ""


@dataclass(frozen=True, config=STRICT)
class RemoteObjects:
    """
    The copies that have landed of remote files: a dataset's source. Several datasets may be made of one remote.

    Of a day's versions of a file the last one counts.

    Args:
        remote: which.
        format: how the bytes are read.
    """

    remote: RemoteFiles
    format: Format | ChangeLog = Csv()

    @property
    def templates(self) -> str:
        """The key template of the copies."""
        return self.remote.template.text

    @property
    def keys(self) -> tuple[KeyTemplate, ...]:
        """The same, compiled."""
        return (self.remote.template,)

    @property
    def captures(self) -> frozenset[str]:
        """What a file's path tells beside the day."""
        return frozenset(self.remote.template.captures) - {"version"}

    def match(self, key: str) -> tuple[date, dict[str, str]] | None:
        """The day and the captures of a copy's key, or None when it isn't one."""
        found = self.remote.template.match(key)
        if found is None or not is_version(found[1]["version"]):
            return None
        return found[0], {name: value for name, value in found[1].items() if name != "version"}

    def choose(self, keys: Iterable[str]) -> tuple[frozenset[str], Mapping[str, str]]:
        """
        Which of a day's keys count.

        Returns:
            Those of each file's last version; and those of former ones, with the reason why they don't count.
        """
        counting: set[str] = set()
        replaced: dict[str, str] = {}
        for ones in versions(self.remote, keys).values():
            *former, last = ones
            counting.add(last.key)
            replaced |= {one.key: f"the file has changed: version {last.name} came later" for one in former}
        return frozenset(counting), replaced
