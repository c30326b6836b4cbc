"""Which servers are there: tests that need one that pip doesn't install are collected only where it is."""

from pathlib import Path

SERVERS = Path(__file__).resolve().parents[2] / ".servers"

NEEDED = {
    "kinesalite": ((SERVERS / "kinesalite" / ".installed").exists(), ("test_kinesalite.py",)),
}
"""Server → whether it is there, and the modules that need it."""

collect_ignore = [module for is_there, modules in NEEDED.values() if not is_there for module in modules]


def pytest_report_header() -> list[str]:
    """Say what isn't run, and how it would be."""
    return [
        f"not run: {', '.join(modules)} (scripts/servers/{name}.sh installs it)"
        for name, (is_there, modules) in NEEDED.items()
        if not is_there
    ]
