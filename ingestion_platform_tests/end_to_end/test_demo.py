"""The demo itself, on a small plan: real runs of Dagster against its broker and its APIs, and every promise that it tells of is kept."""

import shutil
from pathlib import Path

import pytest

from ingestion_platform.demo import Plan, Trouble
from ingestion_platform.demo.driver import run

ROOT = Path(__file__).parent.parent.parent
PLAN = Plan(stores=3, days=5, lines_per_store_day=4, troubles=frozenset({Trouble.LATE_FILE, Trouble.REWRITTEN_FILE}))


@pytest.mark.timeout(900)
def test_the_demo_keeps_its_promises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends without a complaint, and tells of each source; the demo itself looks up what became of everything."""
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
    said: list[str] = []
    run(PLAN, say=said.append)
    told = "\n".join(said)
    assert "✗" not in told
    for words in ("none came faster than declared", "appeared in the catalogue", "the check fresh fails, on purpose"):
        assert f"{words}" in told
    for secret in ("demo-weather-key", "demo-catalogue-secret", "demo-charts-secret"):
        there = [path for path in tmp_path.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
        assert there == [tmp_path / "apis.toml"], secret
