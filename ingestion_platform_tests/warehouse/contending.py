"""
Processes that want the same warehouse at the same time.

Run as a program of its own, so that nothing is running in the process that forks:
`python -m ingestion_platform_tests.warehouse.contending FOLDER SCENARIO`.
It prints how many of each kind of process ended well; a process that failed prints its traceback.
"""

import functools
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pandas as pd  # noqa: F401  # pyarrow imports it at its first conversion; forked, each process would do so anew

from ingestion_platform_tests.warehouse.building import DAY, Bench

CONSISTENT = """
select (select count(*) from raw.tills) as rows,
    (select coalesce(sum(rows_loaded), 0)::bigint from platform.ledger where dataset = 'tills' and state = 'loaded') as counted,
    (select count(*) from processed.tills) as processed,
    (select coalesce(sum(rows), 0)::bigint from platform.partitions where table_name = 'processed.tills') as computed
"""
"""Raw and the ledger, processed and its partitions: each pair agrees in every committed state."""


def fork(work: Callable[[], None]) -> int:
    """Do *work* in another process; it ends with 0 when that ended well."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def is_over(folder: Path) -> bool:
    """Whether the others are done, or the process that started us is gone."""
    return (folder / "stop").exists() or os.getppid() == 1


def wait(children: list[int]) -> int:
    """How many of them ended well."""
    return sum(os.waitpid(child, 0)[1] == 0 for child in children)


def load_and_process(folder: Path, day: date) -> None:
    """What a run of one day does."""
    bench = Bench(folder)
    with bench.warehouse:
        bench.load(day=day)
        bench.process(day=day)


def look(folder: Path) -> None:
    """Read and query over and over, in a state that is always whole, and never less than before."""
    bench = Bench(folder)
    seen = looked = 0
    while not is_over(folder) or looked < 3:
        (found,) = bench.warehouse.query(CONSISTENT).to_pylist()
        assert found["rows"] == found["counted"], found
        assert found["processed"] == found["computed"], found
        assert found["rows"] >= seen, (found, seen)
        seen = found["rows"]
        if seen:
            assert bench.warehouse.read("raw.tills").num_rows >= seen
        looked += 1


def hold_open(folder: Path, read_only: bool) -> None:
    """Have the file that people open, open, as a person with a DuckDB shell has; it shows one state all along."""
    with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=read_only) as engine:
        before = engine.execute(CONSISTENT).fetchall()
        (folder / f"opened-{read_only}").touch()
        while not is_over(folder):
            assert engine.execute(CONSISTENT).fetchall() == before
            ((rows, counted, processed, computed),) = before
            assert (rows, processed) == (counted, computed)
            if not read_only:
                engine.execute("create or replace table mine as select * from processed.shops")
            time.sleep(0.05)


def open_by_a_person(folder: Path, read_only: bool) -> int:
    """Another process that has the file open until everything is over."""
    person = fork(lambda: hold_open(folder, read_only))
    until = time.monotonic() + 30
    while not (folder / f"opened-{read_only}").exists():
        if time.monotonic() > until:
            raise SystemExit("the file that people open couldn't be opened")
        time.sleep(0.01)
    return person


def contend(folder: Path, days: list[date]) -> dict[str, int]:
    """
    A worker for each day, while others read and have the file open.

    A file that one person has open for writing DuckDB gives to nobody else, until the next one is in its place: so the reader comes first.
    """
    people = [open_by_a_person(folder, True)]
    first = days[0]
    worked = wait([fork(lambda: publish_after(folder, first))])
    people.append(open_by_a_person(folder, False))
    workers = [fork(functools.partial(load_and_process, folder, day)) for day in days]
    readers = [fork(lambda: look(folder))]
    worked += wait(workers)
    (folder / "stop").touch()
    return {"workers": worked, "readers": wait(readers), "people": wait(people)}


def publish_after(folder: Path, day: date) -> None:
    """Load a day, and put the next file in the place of the one that is open."""
    bench = Bench(folder)
    bench.load(day=day)
    bench.warehouse.publish()
    bench.warehouse.close()


if __name__ == "__main__":
    place, scenario = Path(sys.argv[1]), sys.argv[2]
    days = [DAY + timedelta(days=number) for number in range(8)] if scenario == "days" else [DAY] * 4
    print(json.dumps(contend(place, days)))
