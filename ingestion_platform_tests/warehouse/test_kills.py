"""Invariant 3: a process killed at any moment leaves either all of an object or none of it, and the next one goes on."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from ingestion_platform.warehouse import upkeep
from ingestion_platform_tests.warehouse.building import DAY, HEADER, Bench, differences, line


def land(bench: Bench, days: int = 2, shops: int = 4) -> None:
    """A few days with doubles, late rows, bad rows and a broken file."""
    names = [f"s{number}" for number in range(shops)]
    for offset in range(days):
        day = DAY + timedelta(days=offset)
        bench.put_shops(*names, day=day)
        for name in names:
            rows = "".join(line(f"{name}{day}{number}", name, f"{day} 1{number % 10}:00:00") for number in range(50))
            late = line(f"{name}{day}late", name, f"{day - timedelta(days=1)} 12:00:00")
            bench.put(f"tills/{day}/{name}.csv", HEADER + rows + late + line("bad", units="oops") + "short\n")
        bench.put(f"tills/{day}/s0-copy.csv", (bench.landing_folder / f"tills/{day}/s0.csv").read_bytes())
        bench.put(f"tills/{day}/cut.csv", HEADER + "1,s0")


@pytest.mark.parametrize(("kills", "workers", "seed"), [(50, 1, 1), (50, 1, 2), (40, 4, 3)])
def test_killed_at_any_moment_nothing_is_lost_and_nothing_doubled(
    tmp_path: Path, kills: int, workers: int, seed: int
) -> None:
    """After a hundred kills of one worker, and of four at once, the next run makes the tables of a run that was never killed."""
    bench = Bench(tmp_path / "killed")
    land(bench)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "ingestion_platform_tests.warehouse.killing",
            str(bench.root),
            str(kills),
            str(seed),
            str(workers),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= kills
    upkeep.catch_up(bench.warehouse)
    calm = Bench(tmp_path / "calm", zone=bench.landing)
    upkeep.catch_up(calm.warehouse)
    assert not list(differences(bench.export(), calm.export()))
    assert upkeep.verify(bench.warehouse) == []
    files = {
        str(path.relative_to(bench.warehouse.folder)) for path in (bench.warehouse.folder / "tables").rglob("*.parquet")
    }
    assert files == bench.warehouse.ledger.known_paths(sorted(files)), "a killed run's files were not swept up"
