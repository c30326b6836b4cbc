"""
Whatever fsspec can list as a remote folder: memory, HTTP, FTP, zip files, stores of other clouds.

Belongs here: what of fsspec's many file systems tells size, moment and ETag of a file. Doesn't: SFTP and folders of this machine, which
have modules of their own; S3 as the landing zone.
"""

import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

import fsspec

from ingestion_platform.errors import IngestionError, SettingsError, SourceError, SourceUnavailable
from ingestion_platform.sources.remotes import MOST_NAMES, FileGone, FileRefused, RemoteFile

_MOMENTS = ("mtime", "modified", "LastModified", "last_modified", "Last-Modified", "updated", "modify", "date_time")
_SKIPPED_BYTES = 1024**2
_ETAGS = ("etag", "ETag", "md5Hash", "content_md5", "CRC")


class FsspecFolder:
    """
    The folder at a URL that fsspec knows.

    Args:
        url: without user and password.
        options: of the file system, as fsspec takes them; secrets among them.

    Raises:
        SettingsError: fsspec doesn't know the URL, or lacks a package for it.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._url = url
        self._secrets = [text for text in _texts(options) if len(text) > 3]
        self._lock = threading.Lock()
        try:
            self._files, root = fsspec.core.url_to_fs(
                url, **{"skip_instance_cache": True, "use_listings_cache": False, **options}
            )
        except ImportError as error:
            raise SettingsError(f"{url}: {error}", "install the package that it names") from error
        except (ValueError, TypeError) as error:
            raise SettingsError(
                f"{url}: {self._words(error)}", "a folder, sftp://…, or a URL that fsspec knows"
            ) from error
        except Exception as error:
            raise self._unavailable(error) from error
        self._root: str = root.rstrip("/")

    @property
    def url(self) -> str:
        """As the settings or the declaration have it."""
        return self._url

    def list(self, folder: str) -> Sequence[RemoteFile] | None:
        """The names in a folder; see `RemoteFolder.list`."""
        with self._told(), self._lock:
            place = self._place(folder)
            self._files.invalidate_cache()
            try:
                found = self._files.ls(place or self._files.root_marker, detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return None
            if len(found) > MOST_NAMES:
                raise SourceError(
                    f"{self._url}: {folder!r} has {len(found):,} names", f"at most {MOST_NAMES:,} are listed"
                )
            return [self._listed(info, folder) for info in found if info["name"].rstrip("/") != place.rstrip("/")]

    def look(self, path: str) -> RemoteFile | None:
        """A file as it is now; see `RemoteFolder.look`."""
        with self._told(), self._lock:
            self._files.invalidate_cache()
            try:
                return self._file(self._files.info(self._place(path)), path.rpartition("/")[0])
            except (FileNotFoundError, NotADirectoryError):
                return None

    def read(self, path: str, begin: int, piece_bytes: int) -> Generator[bytes, None, None]:
        """Yield a file's bytes; see `RemoteFolder.read`. What can't be read from the middle is read over."""
        with self._told():
            try:
                file = self._opened(path, begin)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
                raise FileGone from error
            with file:
                while piece := file.read(piece_bytes):
                    yield piece

    def _opened(self, path: str, begin: int) -> BinaryIO:
        """A file, at *begin*."""
        place = self._place(path)
        # Over HTTP a file is one answer, not one for each block: not every server gives parts.
        in_one = {"block_size": 0} if self._url.lower().startswith("http") else {}
        if begin:
            file = self._files.open(place, "rb")
            try:
                file.seek(begin)
                # What can't be given from the middle is told by the first byte.
                file.read(1)
                file.seek(begin)
                return cast(BinaryIO, file)
            except (ValueError, OSError, NotImplementedError):
                # A server that gives no parts: it is read from its beginning, and what fails then is told.
                file.close()
        file = self._files.open(place, "rb", **in_one)
        left = begin
        while left and (piece := file.read(min(left, _SKIPPED_BYTES))):
            left -= len(piece)
        return cast(BinaryIO, file)

    def close(self) -> None:
        """The file system's own connections end with it."""

    def _place(self, path: str) -> str:
        return "/".join(part for part in (self._root, path) if part)

    def _listed(self, info: Mapping[str, Any], folder: str) -> RemoteFile:
        """A file of a listing; a page of links tells names alone."""
        found = self._file({**info, "size": info.get("size") or 0}, folder)
        return replace(found, is_known=found.is_folder or info.get("size") is not None)

    def _file(self, info: Mapping[str, Any], folder: str) -> RemoteFile:
        place = str(info["name"]).rstrip("/")
        # A name that doesn't stand right below what was asked for is shown whole, and refused for its slashes.
        name = place.lstrip("/").removeprefix(f"{self._place(folder)}/".lstrip("/"))
        if info.get("type") == "directory":
            return RemoteFile(name, is_folder=True)
        if "url" in info and urlsplit(info["url"]).netloc != urlsplit(place).netloc:
            return RemoteFile(name, problem="is sent on to another host")
        size = info.get("size")
        if size is None:
            return RemoteFile(name, problem="has no size that the server would tell")
        etag = next((str(info[key]) for key in _ETAGS if info.get(key)), "")
        return RemoteFile(name, False, int(size), self._modified_at(place, info), etag)

    def _modified_at(self, place: str, info: Mapping[str, Any]) -> datetime | None:
        for key in _MOMENTS:
            if key in info and (moment := _moment(info[key])) is not None:
                return moment
        try:
            return _moment(self._files.modified(place))
        except (NotImplementedError, AttributeError, KeyError, TypeError):
            # Not every file system of fsspec knows, and each says so in its own way.
            return _moment(info.get("created"))

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell in the platform's words what a file system refuses: each has errors of its own."""
        try:
            yield
        except (IngestionError, FileGone, FileRefused):
            raise
        except PermissionError as error:
            raise FileRefused(f"can't be read: {self._words(error)}") from error
        except Exception as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> SourceUnavailable:
        return SourceUnavailable(
            f"{self._url}: {type(error).__name__}: {self._words(error)}", "see whether it is there, then try again"
        )

    def _words(self, error: Exception) -> str:
        """The first line of an error, without what the settings keep secret."""
        text = (str(error).strip().splitlines() or [""])[0][:300]
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _texts(value: object) -> Iterator[str]:
    """Every text in what the settings say."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)


def _moment(value: object) -> datetime | None:
    """A moment, UTC, however a file system gives it; None when it is none."""
    try:
        match value:
            case datetime():
                return value.astimezone(UTC) if value.tzinfo is not None else value.replace(tzinfo=UTC)
            case bool():
                return None
            case int() | float():
                return datetime.fromtimestamp(value, UTC)
            case tuple() | list():
                year, month, day, *time = value
                return datetime(year, month, day, *time[:3]).replace(tzinfo=UTC)
            case str() if value.isdigit() and len(value) == 14:
                return datetime.strptime(value, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
            case str() if value[:4].isdigit():
                return _moment(datetime.fromisoformat(value))
            case str():
                return _moment(parsedate_to_datetime(value))
            case _:
                return None
    except (ValueError, TypeError, OverflowError, OSError):
        return None
