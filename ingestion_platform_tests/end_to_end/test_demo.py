"""The demo itself, on a small plan: real runs of Dagster against its broker and its APIs, and every promise that it tells of is kept."""

import shutil
from pathlib import Path

import pytest

from ingestion_platform.demo import Plan, Trouble
from ingestion_platform.demo.driver import run

ROOT = Path(__file__).parent.parent.parent
PLAN = Plan(stores=4, days=5, lines_per_store_day=4, troubles=frozenset({Trouble.LATE_FILE, Trouble.REWRITTEN_FILE}))


def test_the_demo_keeps_its_promises_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends without a complaint; and once more on its own data, where no fetch lands a second time."""
    (tmp_path / "dagster").mkdir()
    shutil.copy(ROOT / "deploy" / "dagster.yaml", tmp_path / "dagster")
    for name, value in {
        "DAGSTER_HOME": tmp_path / "dagster",
        "INGESTION_LANDING": tmp_path / "landing",
        "INGESTION_WAREHOUSE": tmp_path / "warehouse.duckdb",
        "INGESTION_PUBLISH": tmp_path / "published",
        "INGESTION_PII_SALT": "salt",
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.chdir(ROOT)
    fetched = []
    for _ in range(2):
        said: list[str] = []
        run(PLAN, say=said.append)
        assert [line for line in said if "✗" in line] == []
        (asked,) = [line for line in said if "none came faster than declared" in line]
        assert " that their token was refused" in asked
        fetched.append(
            sorted(path.relative_to(tmp_path) for path in (tmp_path / "landing" / "apis").rglob("*.parquet"))
        )
    assert fetched[0] == fetched[1]
