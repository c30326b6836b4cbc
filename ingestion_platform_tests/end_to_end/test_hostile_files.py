"""Files made by dice, in several rounds over each other: the warehouse is what plain Python says of what is there."""

from pathlib import Path

import pytest

from ingestion_platform.warehouse import upkeep
from ingestion_platform_tests.end_to_end.agreement import disagreements
from ingestion_platform_tests.end_to_end.hostile import HOSTILE, HostileSenders
from ingestion_platform_tests.oracle import expected
from ingestion_platform_tests.warehouse.building import Bench

ROUNDS = 2


@pytest.mark.parametrize("seed", range(5))
def test_hostile_files_give_what_plain_python_says(tmp_path: Path, seed: int) -> None:
    """After each of several rounds, in which files come, change and come again elsewhere, every row and every reason is the oracle's."""
    bench = Bench(tmp_path, HOSTILE)
    senders = HostileSenders(bench.landing_folder, seed)
    for _ in range(ROUNDS):
        senders.land()
        bench.warehouse = bench.open()
        with bench.warehouse as warehouse:
            upkeep.catch_up(warehouse)
            assert disagreements(warehouse, expected(bench.landing_folder, HOSTILE, ()), ()) == []
            assert upkeep.verify(warehouse) == []
