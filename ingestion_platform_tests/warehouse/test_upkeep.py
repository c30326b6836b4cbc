"""Whole-warehouse work: catching up in whatever pieces comes to the same; verify and repair leave sound things alone."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from ingestion_platform.errors import WarehouseDamaged
from ingestion_platform.warehouse import upkeep
from ingestion_platform_tests.warehouse.building import BUSINESS, DAY, HEADER, Bench, differences, line


def land(bench: Bench) -> list[date]:
    """Three days: late rows, bad rows, a double, a file that is cut."""
    days = [DAY + timedelta(days=number) for number in range(3)]
    bench.put_shops()
    for day in days:
        for shop in "ab":
            late = max(DAY, day - timedelta(days=2))
            bench.put(
                f"tills/{day}/{shop}.csv",
                HEADER
                + line(f"{shop}{day}", shop, f"{day} 10:00:00")
                + line(f"{shop}{day}late", shop, f"{late} 11:00:00")
                + line("", shop)
                + "short\n",
            )
        bench.put(f"tills/{day}/again.csv", (bench.landing_folder / f"tills/{day}/a.csv").read_bytes())
        bench.put(f"tills/{day}/cut.csv", HEADER + "1,")
    return days


def test_catching_up_in_pieces_is_catching_up_at_once(tmp_path: Path) -> None:
    """Day by day in another order, interrupted by whole catch-ups, or all together: the same tables."""
    at_once = Bench(tmp_path / "at once")
    days = land(at_once)
    upkeep.catch_up(at_once.warehouse)
    pieces = Bench(tmp_path / "pieces", zone=at_once.landing)
    for day in reversed(days):
        pieces.load(day=day)
        pieces.process(day=day)
    pieces.load("shops")
    upkeep.catch_up(pieces.warehouse)
    assert not list(differences(at_once.export(), pieces.export()))


def test_catching_up_tells_what_it_did(tmp_path: Path) -> None:
    """A line for every table; the second time, nothing is computed."""
    bench = Bench(tmp_path)
    land(bench)
    told: list[str] = []
    upkeep.catch_up(bench.warehouse, tell=told.append)
    assert told == [
        "raw.shops: 3 rows of 1 days",
        "raw.tills: 18 rows of 3 days",
        "processed.shops: 1 days computed",
        "processed.tills: 3 days computed",
    ]
    told.clear()
    upkeep.catch_up(bench.warehouse, tell=told.append)
    assert told[2:] == ["processed.shops: 0 days computed", "processed.tills: 0 days computed"]


def test_catching_up_with_an_empty_landing_zone_does_nothing(tmp_path: Path) -> None:
    """Nothing landed, nothing made, nothing wrong."""
    bench = Bench(tmp_path)
    upkeep.catch_up(bench.warehouse)
    assert upkeep.verify(bench.warehouse) == []
    assert bench.rows("raw.tills") == bench.rows("platform.ledger") == []


def test_landed_days_are_those_of_matching_keys(tmp_path: Path) -> None:
    """Other files, days before the dataset's first, and dates that don't exist are passed over."""
    bench = Bench(tmp_path)
    for key in (
        "tills/2024-10-02/a.csv",
        "tills/2024-09-30/a.csv",
        "tills/2024-10-32/a.csv",
        "tills/2024-10-03/a.txt",
        "tills/notes.csv",
    ):
        bench.put(key, HEADER)
    assert upkeep.landed_days(bench.warehouse, BUSINESS["tills"]) == [date(2024, 10, 2)]


def test_verify_and_repair_leave_a_sound_warehouse_alone(tmp_path: Path) -> None:
    """After rewritten files, doubles that took their place and restated days, nothing is reported, and nothing changes."""
    bench = Bench(tmp_path)
    days = land(bench)
    upkeep.catch_up(bench.warehouse)
    bench.put(f"tills/{days[0]}/a.csv", HEADER + line("new"))
    bench.put(f"tills/{days[1]}/b.csv", HEADER)
    bench.put(f"tills/{days[2]}/cut.csv", HEADER + line("whole now", at=f"{days[2]} 10:00:00"))
    upkeep.catch_up(bench.warehouse)
    bench.load(day=days[1], reload=True)
    commits = bench.warehouse.ledger.commits()
    assert upkeep.verify(bench.warehouse) == []
    assert upkeep.repair(bench.warehouse) == []
    assert bench.warehouse.ledger.commits() == commits


def test_verify_beside_a_run_sees_one_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A load that commits in the middle of it is no damage."""
    bench = Bench(tmp_path)
    days = land(bench)
    bench.load(day=days[0])
    other = bench.open()
    ledger = type(bench.warehouse.ledger)
    contradictions = ledger.contradictions

    def meanwhile(self: object, objects: object) -> list[str]:
        other.load(BUSINESS["tills"], days[1])
        return contradictions(self, objects)  # type: ignore[arg-type]

    monkeypatch.setattr(ledger, "contradictions", meanwhile)
    assert upkeep.verify(bench.warehouse) == []


def test_repair_of_the_ledger_says_that_only_rebuild_helps(tmp_path: Path) -> None:
    """A contradiction in the ledger isn't glossed over by making files anew."""
    bench = Bench(tmp_path)
    land(bench)
    upkeep.catch_up(bench.warehouse)
    with bench.warehouse.ledger.writing() as connection:
        connection.execute("update raw_days set rows = rows + 1")
    with pytest.raises(WarehouseDamaged, match="isn't the sum of its objects") as told:
        upkeep.repair(bench.warehouse)
    assert "rebuild" in told.value.hint


def test_rebuild_without_a_warehouse_makes_one(tmp_path: Path) -> None:
    """Nothing is set aside, and the tables are there."""
    bench = Bench(tmp_path)
    land(bench)
    assert upkeep.rebuild(bench.open) is None
    assert len(bench.rows("processed.tills", "id")) == 12


def test_rebuild_twice_in_a_second(tmp_path: Path) -> None:
    """Each former warehouse is kept under a name of its own."""
    bench = Bench(tmp_path)
    land(bench)
    asides = [upkeep.rebuild(bench.open) for _ in range(3)]
    assert asides[0] is None
    assert len({*asides}) == 3
    assert all(aside is None or (aside / "ledger.sqlite").exists() for aside in asides)
