"""Which servers tests need that pip doesn't install, and whether they are there."""

import shutil
from pathlib import Path

SERVERS = Path(__file__).resolve().parents[2] / ".servers"

NEEDED = {
    "kafka": ((SERVERS / "kafka/libs").is_dir(), ["test_kafka_broker.py", "test_chaos_kafka.py"]),
    "kinesalite": ((SERVERS / "kinesalite/.installed").is_file(), ["test_kinesalite.py", "test_chaos_kinesis.py"]),
    "dynamodb_local": (any((SERVERS / "dynamodb_local").glob("*.installed")), ["test_dynamodb_local.py"]),
    "chromium": (
        shutil.which("chromium") is not None and shutil.which("chromedriver") is not None,
        ["test_quarantine_in_the_ui.py"],
    ),
}
"""Server → whether it is there, and the modules that need it."""


def missing() -> list[str]:
    """A line for each that isn't there."""
    return [
        f"not run: {', '.join(modules)} (scripts/servers/{server}.sh installs {server})"
        for server, (is_there, modules) in NEEDED.items()
        if not is_there
    ]
