"""
A campaign of kills: processes that work on one warehouse, each ended by SIGKILL at a moment of its own.

Run as a program of its own, so that nothing is running in the process that forks: `python -m
ingestion_platform_tests.warehouse.killing FOLDER KILLS SEED WORKERS`.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import pandas as pd  # noqa: F401  # pyarrow imports it at its first conversion; forked, each worker would do so anew

from ingestion_platform.warehouse import Only, upkeep
from ingestion_platform_tests.warehouse.building import Bench


def campaign(folder: Path, kills: int, seed: int, workers: int) -> int:
    """
    Kill *kills* processes at random moments of their work.

    Args:
        folder: of the bench; its landing zone is there.
        kills: how many.
        seed: of the moments.
        workers: how many work at the same time.

    Returns:
        How many were killed at work; the others had ended before.
    """
    chance = random.Random(seed)
    whole = _measure(folder)
    killed = 0
    for _ in range(kills * 4):
        if killed >= kills:
            break
        children = [_fork(folder, chance.random()) for _ in range(workers)]
        time.sleep(chance.uniform(0, whole * max(1.0, workers / 2)))
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            _, status = os.waitpid(child, 0)
            if os.WIFSIGNALED(status):
                killed += 1
            elif os.WEXITSTATUS(status) != 0:
                raise SystemExit(f"a worker failed with {os.WEXITSTATUS(status)} before it was killed")
    return killed


def _measure(folder: Path) -> float:
    """Seconds that a worker needs when nobody kills it. It works on the same warehouse, so that kills meet rows that are there already."""
    began = time.monotonic()
    _, status = os.waitpid(_fork(folder, 0.0), 0)
    if status != 0:
        raise SystemExit("a worker failed that nobody killed")
    return time.monotonic() - began


def _fork(folder: Path, choice: float) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        bench = Bench(folder)
        if choice < 0.5:
            # Work that never ends of itself: a replay of every day.
            for dataset in bench.datasets.values():
                for day in upkeep.landed_days(bench.warehouse, dataset):
                    bench.warehouse.load(dataset, day, reload=True)
        elif choice < 0.8:
            # Loads of parts, as a routing asks for them, in an order of their own.
            for limit in (1000, 4000, 2000):
                for day in upkeep.landed_days(bench.warehouse, bench.datasets["tills"]):
                    bench.warehouse.load(bench.datasets["tills"], day, only=Only(up_to_bytes=limit))
        upkeep.catch_up(bench.warehouse)
        for dataset in bench.datasets.values():
            for day in bench.warehouse.days(dataset.processed):
                bench.warehouse.process(dataset, day, force=True)
        bench.warehouse.publish()
        code = 0
    finally:
        os._exit(code)


if __name__ == "__main__":
    print(campaign(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
