"""
A campaign of kills among Dagster's runs: forked processes that each materialize a day, ended by SIGKILL at a moment of their own.

Run as a program of its own, so that nothing is running in the process that forks; the environment says where the deployment is, as for
any process of Dagster's: `python -m ingestion_platform_tests.end_to_end.killing KILLS SEED WORKERS DAY…`.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import dagster as dg
import pandas as pd  # noqa: F401  # pyarrow imports it at its first conversion; forked, each worker would do so anew

from ingestion_platform.definitions import defs
from ingestion_platform.orchestration.graph import asset_key

TABLES = ("raw.sales", "processed.sales", "reports.store_comparison")


def campaign(kills: int, seed: int, workers: int, days: Sequence[str]) -> int:
    """
    Kill at least *kills* process groups at random moments of their runs.

    Args:
        kills: how many.
        seed: of the moments.
        workers: how many work at the same time.
        days: that they work on.

    Returns:
        How many were killed at work; the others had ended before.
    """
    chance = random.Random(seed)
    began = time.monotonic()
    _, status = os.waitpid(_fork(days[0], is_replay=True), 0)
    if status != 0:
        raise SystemExit("a run failed that nobody killed")
    whole = time.monotonic() - began
    killed = 0
    for _ in range(kills * 4):
        if killed >= kills:
            break
        children = [_fork(day, is_replay=chance.random() < 0.7) for day in chance.sample(days, workers)]
        for child in children:
            time.sleep(chance.uniform(0, whole * 0.6))
            os.killpg(child, signal.SIGKILL)
        for child in children:
            _, status = os.waitpid(child, 0)
            if os.WIFSIGNALED(status):
                killed += 1
            elif os.WEXITSTATUS(status) != 0:
                raise SystemExit(f"a run failed with {os.WEXITSTATUS(status)} before it was killed")
    return killed


def _fork(day: str, *, is_replay: bool) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        # What a run says is Dagster's; what goes wrong with it shows in the exit code and in the run's events.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        replay: dict[str, object] = {
            table.replace(".", "__"): {"config": {"reload" if table.startswith("raw.") else "force": True}}
            for table in TABLES
        }
        with dg.DagsterInstance.from_config(os.environ["DAGSTER_HOME"]) as instance:
            result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
                instance=instance,
                asset_selection=[asset_key(table) for table in TABLES],
                partition_key=day,
                run_config={"ops": replay} if is_replay else None,
                raise_on_error=False,
            )
        code = 0 if result.success else 1
    finally:
        os._exit(code)


if __name__ == "__main__":
    assert Path(os.environ["DAGSTER_HOME"]).is_dir()
    print(campaign(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
