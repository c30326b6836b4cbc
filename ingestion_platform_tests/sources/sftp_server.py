"""
An SFTP server on 127.0.0.1 over a folder, that can be told to misbehave.

Belongs here: the server and its faults. Doesn't: what the platform makes of them.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncssh

from ingestion_platform.sources.sftp import SftpAccess, SftpFolder

USER, PASSWORD = "shop", "correct-horse"


class SftpServer:
    """
    The running server.

    Args:
        root: what it shows as `/`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = 0
        self.connections: list[asyncssh.SSHServerConnection] = []
        self.logins = 0
        self.bytes_sent = 0
        self.cut_after_bytes: int | None = None
        """Every connection is cut once, when so many more bytes have been sent."""
        self.denied: set[bytes] = set()
        self.names: list[bytes] = []
        """Names that it tells of beside those that are there."""
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self.client_key = asyncssh.generate_private_key("ssh-ed25519")
        self._loop = asyncio.new_event_loop()
        self._acceptor: asyncssh.SSHAcceptor | None = None

    @property
    def url(self) -> str:
        """Of its root."""
        return f"sftp://127.0.0.1:{self.port}/"

    @property
    def host_key(self) -> str:
        """Its public key."""
        return self.key.export_public_key().decode().strip()

    def folder(self, path: str = "", **access: str) -> SftpFolder:
        """A client of it."""
        known = {"username": USER, "password": PASSWORD, "host_key": self.host_key, **access}
        return SftpFolder(f"{self.url}{path}", SftpAccess(**known), timeout_seconds=20)

    def cut(self) -> None:
        """Cut every connection now."""
        for one in self.connections:
            one.abort()
        self.connections.clear()

    def start(self) -> None:
        """Listen on a free port."""
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(30)

    def stop(self) -> None:
        """Hang up, and stop listening."""

        async def end() -> None:
            self.cut()
            if self._acceptor is not None:
                self._acceptor.close()
                await self._acceptor.wait_closed()

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    async def _listen(self) -> None:
        server = self

        class Login(asyncssh.SSHServer):
            def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
                server.connections.append(conn)
                server.logins += 1

            def password_auth_supported(self) -> bool:
                return True

            def validate_password(self, username: str, password: str) -> bool:
                return (username, password) == (USER, PASSWORD)

            def public_key_auth_supported(self) -> bool:
                return True

            def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
                return username == USER and key.public_data == server.client_key.public_data

        class Files(asyncssh.SFTPServer):
            def __init__(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
                super().__init__(chan, chroot=str(server.root).encode())

            async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
                self._deny(path)
                async for one in super().scandir(path):
                    yield one
                for name in server.names:
                    yield asyncssh.SFTPName(name, attrs=asyncssh.SFTPAttrs(type=1, size=4, mtime=0, atime=0))

            def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> Any:
                self._deny(path)
                return super().open(path, pflags, attrs)

            def read(self, file_obj: Any, offset: int, size: int) -> Any:
                server.bytes_sent += size
                if server.cut_after_bytes is not None:
                    server.cut_after_bytes -= size
                    if server.cut_after_bytes < 0:
                        server.cut_after_bytes = None
                        server.cut()
                return super().read(file_obj, offset, size)

            def _deny(self, path: bytes) -> None:
                if path.rpartition(b"/")[2] in server.denied:
                    raise asyncssh.SFTPPermissionDenied("no")

        self._acceptor = await asyncssh.listen(
            "127.0.0.1", self.port, server_host_keys=[self.key], server_factory=Login, sftp_factory=Files
        )
        self.port = self._acceptor.get_port()


@contextmanager
def serve_sftp(root: Path) -> Iterator[SftpServer]:
    """Run an SFTP server over a folder; it ends with the context."""
    root.mkdir(parents=True, exist_ok=True)
    server = SftpServer(root)
    server.start()
    try:
        yield server
    finally:
        server.stop()
