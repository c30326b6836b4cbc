"""
A folder on an SFTP server.

Belongs here: the connection, who one says one is, whose host key is trusted, and what the server's refusals mean. Doesn't: copying.

asyncssh itself, not sshfs over it: there, one name that isn't UTF-8 spoils the whole listing, and a connection that breaks needs a new
file system. One connection serves all threads, on an event loop in a thread of its own; it is made anew when it has broken.
"""

import asyncio
import threading
from collections.abc import Coroutine, Generator, Iterator, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast
from urllib.parse import unquote, urlsplit

import asyncssh

from ingestion_platform.errors import SettingsError, SourceError, SourceUnavailable
from ingestion_platform.sources.remotes import MOST_NAMES, FileGone, FileRefused, RemoteFile

T = TypeVar("T")
_Files: TypeAlias = list[RemoteFile]
_Keys: TypeAlias = list[asyncssh.SSHKey]

_GONE = (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath, asyncssh.SFTPNotADirectory)
_BROKEN = (
    asyncssh.SFTPConnectionLost,
    asyncssh.SFTPNoConnection,
    asyncssh.ConnectionLost,
    asyncssh.DisconnectError,
    asyncssh.ChannelOpenError,
    OSError,
    TimeoutError,
    FutureTimeoutError,
    asyncio.TimeoutError,
    asyncio.CancelledError,
)


@dataclass(frozen=True)
class SftpAccess:
    """
    What a deployment knows of an SFTP server.

    Args:
        username: who one is.
        known_hosts: a file of known hosts, as ssh has it.
        host_key: instead of it: the server's public key, as `ssh-ed25519 AAAA…`.
        password: of the user; empty without one.
        key_file: a private key; empty without one.
        passphrase: of that key.
    """

    username: str
    known_hosts: str = ""
    host_key: str = ""
    password: str = field(default="", repr=False)
    key_file: str = ""
    passphrase: str = field(default="", repr=False)


class SftpFolder:
    """
    The folder at `sftp://host:port/path`. Nothing is connected before it is asked.

    Args:
        url: without user and password. The path is absolute; `/~/outbox` is below the user's home.
        access: who one is, and whose host key is trusted. A host key is always checked.
        timeout_seconds: how long to wait for a connection, and for each answer.
    """

    def __init__(self, url: str, access: SftpAccess, *, timeout_seconds: float = 60.0) -> None:
        parts = urlsplit(url)
        self._url = url
        self._host, self._port = parts.hostname or "", parts.port or 22
        path = unquote(parts.path).rstrip("/") or "/"
        # "." is where the server lets a user begin.
        self._root = ("." + path[2:]) if path == "/~" or path.startswith("/~/") else path
        self._access = access
        self._timeout = timeout_seconds
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: asyncssh.SSHClientConnection | None = None
        self._client: asyncssh.SFTPClient | None = None
        self._connecting: asyncio.Lock | None = None

    @property
    def url(self) -> str:
        """As the settings or the declaration have it."""
        return self._url

    def list(self, folder: str) -> Sequence[RemoteFile] | None:
        """The names in a folder; see `RemoteFolder.list`."""
        place = self._place(folder)
        with self._told():
            try:
                return self._run(self._list(place), patience=20)
            except _GONE:
                return None

    def look(self, path: str) -> RemoteFile | None:
        """A file as it is now; see `RemoteFolder.look`."""
        place = self._place(path)
        with self._told():
            try:
                return self._run(self._look(place, path.rpartition("/")[2]))
            except _GONE:
                return None

    def read(self, path: str, begin: int, piece_bytes: int) -> Generator[bytes, None, None]:
        """Yield a file's bytes; see `RemoteFolder.read`."""
        with self._told():
            try:
                file = self._run(self._open(self._place(path)))
            except _GONE as error:
                raise FileGone from error
            try:
                while piece := cast(bytes, self._run(file.read(piece_bytes, begin))):
                    begin += len(piece)
                    yield piece
            finally:
                # A connection that has broken can't close it, and doesn't need to.
                with suppress(asyncssh.Error, *_BROKEN):
                    self._run(file.close())

    def close(self) -> None:
        """Hang up."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is None:
            return

        async def hang_up() -> None:
            if self._connection is not None:
                self._connection.abort()
                with suppress(asyncssh.Error, *_BROKEN):
                    await asyncio.wait_for(self._connection.wait_closed(), 5)

        with suppress(*_BROKEN):
            asyncio.run_coroutine_threadsafe(hang_up(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)

    # --- on the event loop

    async def _list(self, place: bytes) -> _Files:
        client = await self._connected()
        found: _Files = []
        async for entry in client.scandir(place):
            name = entry.filename
            assert isinstance(name, bytes), "no encoding was asked for"
            if name in (b".", b".."):
                continue
            if len(found) >= MOST_NAMES:
                raise SourceError(f"{self._url}: a folder has more than {MOST_NAMES:,} names", "they aren't listed")
            attributes = entry.attrs
            if attributes.type == asyncssh.FILEXFER_TYPE_SYMLINK:
                # Where it leads is the server's business; what it leads to may be gone.
                try:
                    attributes = await client.stat(place.rstrip(b"/") + b"/" + name)
                except asyncssh.SFTPError:
                    continue
            found.append(_file(name.decode(errors="surrogateescape"), attributes))
        return found

    async def _look(self, place: bytes, name: str) -> RemoteFile:
        client = await self._connected()
        return _file(name, await client.stat(place))

    async def _open(self, place: bytes) -> asyncssh.SFTPClientFile:
        client = await self._connected()
        return await client.open(place, "rb")

    async def _connected(self) -> asyncssh.SFTPClient:
        if self._connecting is None:
            self._connecting = asyncio.Lock()
        async with self._connecting:
            if self._connection is not None and self._connection.is_closed():
                self._connection = self._client = None
            if self._client is None:
                self._connection = await asyncssh.connect(
                    self._host,
                    self._port,
                    # Nothing of the person who runs this: no configuration, no agent, no keys but what the settings name.
                    config=[],
                    agent_path=None,
                    client_keys=self._key(),
                    username=self._access.username,
                    password=self._access.password or None,
                    known_hosts=self._trusted(),
                    connect_timeout=self._timeout,
                    login_timeout=self._timeout,
                    keepalive_interval=15,
                )
                self._client = await self._connection.start_sftp_client(path_encoding=None)
            return self._client

    def _key(self) -> _Keys | None:
        if not self._access.key_file:
            return None
        try:
            return [asyncssh.read_private_key(self._access.key_file, self._access.passphrase or None)]
        except (OSError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
            raise SettingsError(
                f"{self._url}: its key_file can't be read: {type(error).__name__}",
                "name a private key, and its passphrase where it has one",
            ) from error

    def _trusted(self) -> asyncssh.SSHKnownHosts:
        if self._access.host_key:
            lines = f"* {self._access.host_key.strip()}\n"
        else:
            try:
                lines = Path(self._access.known_hosts).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError(
                    f"{self._url}: its known_hosts can't be read: {self._access.known_hosts}",
                    "name a file of known hosts",
                ) from error
        try:
            return asyncssh.import_known_hosts(lines)
        except ValueError as error:
            raise SettingsError(
                f"{self._url}: what is known of its host is none: {error}", "as ssh-keyscan prints it"
            ) from error

    # --- between the threads and the loop

    def _run(self, coroutine: Coroutine[Any, Any, T], patience: float = 2) -> T:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._serve, args=(self._loop,), name="sftp", daemon=True).start()
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(self._timeout * patience)
        except BaseException:
            future.cancel()
            raise

    @staticmethod
    def _serve(loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.run_forever()
        finally:
            loop.close()

    def _place(self, path: str) -> bytes:
        whole = f"{self._root.rstrip('/')}/{path}" if path else self._root
        return whole.encode(errors="surrogateescape")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell what the server refuses in the platform's words."""
        try:
            yield
        except asyncssh.SFTPPermissionDenied as error:
            raise FileRefused("can't be read: the server denies it") from error
        except asyncssh.HostKeyNotVerifiable as error:
            raise SourceError(
                f"{self._url}: the server's host key isn't the one that is known",
                "somebody may be listening; if the server has a new key, put that into known_hosts or host_key",
            ) from error
        except asyncssh.PermissionDenied as error:
            raise SourceError(
                f"{self._url}: the server doesn't let {self._access.username!r} in",
                "see to username, password and key_file in the file of INGESTION_REMOTES",
            ) from error
        except _BROKEN as error:
            raise SourceUnavailable(
                f"{self._url}: {type(error).__name__}: {getattr(error, 'reason', '') or error or 'no answer'}",
                "see whether the server is up, and its name and port right; then try again",
            ) from error
        except asyncssh.SFTPError as error:
            raise FileRefused(f"can't be read: the server says {error.reason[:200]!r}") from error
        except asyncssh.Error as error:
            raise SourceUnavailable(
                f"{self._url}: {type(error).__name__}: {error.reason[:200]}", "try again"
            ) from error


def _file(name: str, attributes: asyncssh.SFTPAttrs) -> RemoteFile:
    kind, modified_at = attributes.type, None
    if attributes.mtime is not None:
        # Whatever a server says, it is no reason to stop.
        with suppress(ValueError, OverflowError, OSError):
            modified_at = datetime.fromtimestamp(attributes.mtime, UTC)
    if kind == asyncssh.FILEXFER_TYPE_DIRECTORY:
        return RemoteFile(name, is_folder=True)
    if kind not in (asyncssh.FILEXFER_TYPE_REGULAR, asyncssh.FILEXFER_TYPE_UNKNOWN):
        return RemoteFile(name, problem="is no regular file")
    if attributes.size is None or attributes.size < 0:
        return RemoteFile(name, problem="has no size that the server would tell")
    return RemoteFile(name, False, attributes.size, modified_at)
