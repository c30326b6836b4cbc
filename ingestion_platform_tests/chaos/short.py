"""
A short campaign over the small business of `warehouse/building.py` and a report of its own.

Run as a program, so that nothing is running in the process that forks: `python -m ingestion_platform_tests.chaos.short FOLDER PLAN`.
It prints JSON: fault → what came of it.
"""

import importlib
import json
import sys
from pathlib import Path
from random import Random

from ingestion_platform.chaos import campaign as campaign_room
from ingestion_platform.chaos.campaign import Campaign, Result
from ingestion_platform.chaos.command import WARM
from ingestion_platform.chaos.faults import FAULTS, Fault
from ingestion_platform.chaos.ground import Ground
from ingestion_platform.chaos.landed import Business, made_up
from ingestion_platform.chaos.processes import ask
from ingestion_platform.settings import Settings
from ingestion_platform.warehouse import load_sql_tables
from ingestion_platform_tests.warehouse.building import BUSINESS

REPORT = """/*
description = "What each shop sold on a day."
primary_key = ["shop"]
[columns]
shop = "Which."
units = "How many."
*/
select shop, sum(units)::bigint as units from processed.tills
where "at" >= $window_start and "at" < $window_end group by shop order by shop
"""


def business(root: Path) -> Business:
    """Two datasets, one of which refers to the other, and a report."""
    folder = root / "sql" / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "units_by_shop.sql").write_text(REPORT)
    settings = Settings.model_validate(
        {"landing": str(root / "nowhere"), "warehouse": root / "w.duckdb", "publish": root / "p"}
    )
    return made_up(BUSINESS, load_sql_tables(BUSINESS, zone=settings.zone, folder=root / "sql"), settings, 1)


def told(result: Result) -> dict[str, object]:
    """What came of a fault."""
    return {
        "rounds": result.rounds,
        "survived": result.survived,
        "met": dict(result.met),
        "is_met": result.is_met,
        "wrong": result.wrong,
        "caught": result.twin_caught,
        "needs": result.needs,
    }


def calm(fault: Fault) -> Fault:
    """A fault's twin, and nothing that happens."""

    def happens(ground: Ground, chance: Random) -> None:
        ground.land_all()

    return Fault(fault.name, "nothing happens", happens, (), fault.twin)


def main(root: Path, plan: str) -> int:
    """Run a plan: `calm`, or names of faults with a number of rounds, `kill=6,kill-at-steps=6`."""
    for module in WARM:
        importlib.import_module(module)
    campaign = Campaign(ask(lambda: business(root), root), root / "rounds", 1)
    campaign.begin()
    results: list[Result] = []
    if plan == "calm":
        campaign_room.MOST_TWIN_ROUNDS = 1
        twins = {fault.twin.told: fault for fault in FAULTS}
        results = campaign.run([calm(fault) for fault in twins.values()], rounds=1, seconds=0, at_once=2)
    else:
        for part in plan.split(","):
            name, _, rounds = part.partition("=")
            chosen = [fault for fault in FAULTS if fault.name == name]
            results += campaign.run(chosen, rounds=int(rounds), seconds=1e9, at_once=2)
    print(json.dumps({result.fault.name: told(result) for result in results}))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
