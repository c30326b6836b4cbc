"""A worker that is killed at any moment, a hundred times, raises each alert that is deserved exactly once."""

import json
import subprocess
import sys
from pathlib import Path

KILLS = 100


def test_each_deserved_alert_is_a_row_exactly_once_through_a_hundred_kills(tmp_path: Path) -> None:
    """Kills fall between batches, before and after alerts landed; every row is one that the batch tells, raised and never withdrawn."""
    arguments = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "ingestion_platform_tests.live.killing",
        str(tmp_path),
        str(KILLS),
        "1",
    ]
    run = subprocess.run(arguments, capture_output=True, text=True, timeout=280, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    found = json.loads(run.stdout)
    assert [row[0] for row in found["rows"]] == found["batch"]
    assert {(ordinal, change) for _, ordinal, change in found["rows"]} == {(0, "raised")}
    assert found["differences"] == 0
    assert found["by_rule"]["warm"] == 2
    assert found["by_rule"]["too_fast"] > 20
    # Alerts landed on the way, and not all of them before the first kills.
    landed = found["landed_at_kills"]
    assert landed == sorted(landed)
    assert landed[0] < landed[-1]
