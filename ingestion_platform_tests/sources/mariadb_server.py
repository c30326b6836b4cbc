"""A real MariaDB server for tests: with a data directory of its own in a temporary folder, on loopback, never as root."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pymysql

from ingestion_platform_tests.sources.postgres_server import _end_with_parent, _free_port
from ingestion_platform_tests.sources.servers import mariadbd

STARTS_WITHIN_SECONDS = 120.0
PASSWORD = "open-sesame"
SYSTEM_TABLES = Path("/usr/share/mysql")
_SETTINGS = {
    "bind-address": "127.0.0.1",
    "log-bin": "changes",
    "server-id": "1",
    "binlog-format": "ROW",
    "binlog-row-metadata": "FULL",
    "binlog-checksum": "CRC32",
    "character-set-server": "utf8mb4",
    "innodb-buffer-pool-size": "64M",
    "innodb-log-file-size": "32M",
    "innodb-flush-log-at-trx-commit": "0",
    "sync-binlog": "0",
    "max-connections": "100",
    "performance-schema": "OFF",
    "skip-name-resolve": "ON",
    "lc-messages-dir": str(SYSTEM_TABLES),
}


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

    def properties(self, database: str = "mysql") -> dict[str, str]:
        """The client's, of the owner of everything; *database* is what it is connected to."""
        return {
            "kind": "mariadb", "host": "127.0.0.1", "port": str(self.port), "user": "owner", "password": PASSWORD, "database": database,
        }  # fmt: skip

    def connect(self, database: str | None = None, **changes: Any) -> "pymysql.Connection[Any]":
        """A connection, each statement a transaction of its own."""
        said = {"user": "owner", "password": PASSWORD, "database": database, **changes}
        return pymysql.connect(
            host="127.0.0.1", port=self.port, autocommit=True, charset="utf8mb4", connect_timeout=10, **said
        )

    def run(self, *statements: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """Run statements, each a transaction of its own; the rows of the last one."""
        with closing(self.connect(database)) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def new_database(self, *statements: str) -> str:
        """Make a database, and run statements there; its name."""
        name = f"d{uuid4().hex[:10]}"
        self.run(f"create database {name}")
        if statements:
            self.run(*statements, database=name)
        return name

    def start(self, **settings: str) -> None:
        """Start it, with settings beside those of every test; `_` stands for `-` in their names."""
        said = _SETTINGS | {name.replace("_", "-"): value for name, value in settings.items()}
        program = mariadbd()
        assert program is not None
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    str(program), "--no-defaults", f"--datadir={self.folder / 'data'}", f"--port={self.port}",
                    f"--socket={self.folder / 'server.socket'}", f"--pid-file={self.folder / 'server.pid'}",
                    # What a killed server has left there would be in the way of another one with its number.
                    f"--tmpdir={self.folder / 'temporary'}",
                    *(f"--{name}={value}" if value else f"--{name}" for name, value in said.items()),
                ],
                stdout=log, stderr=subprocess.STDOUT, preexec_fn=_end_with_parent, **_user(),
            )  # fmt: skip
        until = time.monotonic() + STARTS_WITHIN_SECONDS
        while time.monotonic() < until and self.process.poll() is None:
            try:
                self.connect().close()
            except pymysql.OperationalError:
                time.sleep(0.05)
                continue
            return
        raise RuntimeError(f"MariaDB didn't start:\n{(self.folder / 'server.log').read_text(errors='replace')[-3000:]}")

    def stop(self, *, within_seconds: float = 60.0) -> None:
        """Stop it in order."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(within_seconds)

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)


@contextmanager
def serve(**settings: str) -> Iterator[Server]:
    """A server, for as long as the context lasts; with settings as of `Server.start`."""
    assert mariadbd() is not None, "scripts/servers/mariadb.sh installs it"
    folder = Path(tempfile.mkdtemp(prefix="mariadb-"))
    user = _user()
    try:
        folder.chmod(0o755)
        for one in (folder, folder / "data", folder / "temporary"):
            one.mkdir(exist_ok=True)
            if user:
                shutil.chown(one, user["user"], user["group"])
        _make(folder / "data", temporary=folder / "temporary")
        server = Server(folder, _free_port())
        server.start(**settings)
        try:
            yield server
        finally:
            server.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make(data: Path, *, temporary: Path) -> None:
    """Make the system tables, and the owner of everything."""
    made = [
        "create database mysql;\nuse mysql;\n",
        *(
            (SYSTEM_TABLES / name).read_text(encoding="utf-8")
            for name in ("mysql_system_tables.sql", "mysql_system_tables_data.sql")
        ),
        "\nflush privileges;\n",
        f"create user owner@'127.0.0.1' identified by '{PASSWORD}';\n",
        "grant all on *.* to owner@'127.0.0.1' with grant option;\n",
    ]
    done = subprocess.run(
        [
            str(mariadbd()), "--no-defaults", "--bootstrap", f"--datadir={data}", f"--tmpdir={temporary}",
            "--innodb-log-file-size=32M", "--innodb-buffer-pool-size=64M", f"--lc-messages-dir={SYSTEM_TABLES}",
        ],
        input="".join(made).encode(), capture_output=True, timeout=STARTS_WITHIN_SECONDS, **_user(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-3000:]


def _user() -> dict[str, Any]:
    """Who runs it: a server should not be root's."""
    if os.geteuid() != 0:
        return {}
    found = pwd.getpwnam("nobody")
    return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
