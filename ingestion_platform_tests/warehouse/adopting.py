"""
Adoptions that are killed, at each of their steps.

Run as a program of its own, so that nothing is running in the process that forks:
`python -m ingestion_platform_tests.warehouse.adopting FOLDER`.
It prints how many steps an adoption has, which were met, and what was wrong after a kill, as JSON.
"""

import json
import shutil
import sys
from pathlib import Path

import pandas as pd  # noqa: F401  # pyarrow imports it at its first conversion; forked, each process would do so anew

from ingestion_platform.chaos.meddling import Steps, Worker
from ingestion_platform.chaos.processes import Process, Tally, ask
from ingestion_platform.warehouse import Warehouse, upkeep
from ingestion_platform.warehouse.adopt import Adopter
from ingestion_platform_tests.warehouse.building import Bench, differences, export
from ingestion_platform_tests.warehouse.drifting import AMOUNT, FORMATS, NOTE, RENAMED, TIP, Refuses, key, only, sales
from ingestion_platform_tests.warehouse.test_adoption import WEEK, records, restate

ENDING = "jsonl"
BEFORE, AFTER = only(sales(ENDING, AMOUNT)), only(sales(ENDING, RENAMED, NOTE, TIP))
DAY = WEEK[2]


def begin(root: Path) -> None:
    """A day, loaded and computed as it was declared; each shop's file was loaded by itself."""
    bench = Bench(root, BEFORE)
    for shop in "ab":
        bench.put(key(ENDING, DAY, shop), FORMATS[ENDING][1](records(DAY, shop)))
        bench.load("sales", DAY)
    restate(bench.warehouse)
    bench.warehouse.close()


def adopted(root: Path) -> Warehouse:
    """A process under the other declaration, whose landing zone refuses whatever is asked of it."""
    bench = Bench(root, AFTER)
    return Warehouse(bench.settings, Refuses(bench.landing), AFTER, bench.sql_tables)  # type: ignore[arg-type]  # it lists nothing


def work(root: Path, tally: Tally, kill_at: int) -> None:
    """Adopt and compute, killed before a step; 0: to the end."""
    warehouse = adopted(root)
    worker = Worker(warehouse, warehouse.landing, tally, root)
    steps = Steps(kill_at)
    adopt = Adopter.adopt

    def counted(adopter: Adopter, *arguments: object, **options: object) -> object:
        tally.add("adoptions")
        return adopt(adopter, *arguments, **options)  # type: ignore[arg-type]

    Adopter.adopt = counted  # type: ignore[method-assign,assignment]  # in this process alone
    steps(worker)
    restate(warehouse)
    steps.tell(worker)


def finished(root: Path) -> tuple[str, dict[str, str]]:
    """What a killed process has left damaged, and every table when the next one has done its work; it leaves nothing over."""
    warehouse = adopted(root)
    damage = "; ".join(damage.what for damage in upkeep.verify(warehouse))
    restate(warehouse)
    assert upkeep.verify(warehouse) == []
    there = [path.relative_to(warehouse.folder).as_posix() for path in (warehouse.folder / "tables").rglob("*.parquet")]
    left = set(there) - warehouse.ledger.known_paths(there)
    assert not left, f"left over: {left}"
    return damage, export(warehouse)


def main(folder: Path) -> None:
    """Kill it before every step."""
    start, root = folder / "start", folder / "root"
    ask(lambda: begin(root), folder)
    shutil.copytree(root, start)
    tally, said = Tally(folder / "tally"), folder / "said"
    wrong = []
    ended = Process(lambda: work(root, tally, 0), said).end()
    assert ended.is_well, ended
    counts = tally.counts()
    _, expected = ask(lambda: finished(root), folder)
    met, kills = Tally(folder / "met"), 0
    for step in range(1, counts["steps"] + 1):
        shutil.rmtree(root)
        shutil.copytree(start, root)
        ended = Process(lambda step=step: work(root, met, step), said).end()  # type: ignore[misc]
        kills += ended.is_killed
        damage, found = ask(lambda: finished(root), folder)
        wrong += [f"step {step}: {one}" for one in [*differences(found, expected), damage] if one]
    what = [one.removeprefix("killed: ") for one in met.counts() if one.startswith("killed: ")]
    told = {
        "steps": counts["steps"], "kills": kills, "met": what, "wrong": wrong,
        "adoptions": counts["adoptions"],
    }  # fmt: skip
    print(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
