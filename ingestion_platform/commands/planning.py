"""
`plan`, `backfill`, `try`, `baseline`: what would be done, doing it, and what a changed declaration would do.

Belongs here: reading the command line, and telling what happened. Doesn't: the work (`warehouse/plan.py`, `backfill.py`, `trial.py`).
"""

import argparse
import secrets
import sys
from contextlib import ExitStack
from pathlib import Path

from pydantic import SecretStr

from ingestion_platform.assembly import open_warehouse
from ingestion_platform.commands.arguments import datasets_of, day, in_warehouse, number, whisper
from ingestion_platform.errors import SettingsError
from ingestion_platform.settings import Settings
from ingestion_platform.warehouse import Warehouse, trial
from ingestion_platform.warehouse.backfill import ask, backfill
from ingestion_platform.warehouse.plan import plan
from ingestion_platform.warehouse.plan_text import as_json, as_markdown, as_text
from ingestion_platform.warehouse.shadow import throw_away_folder
from ingestion_platform.warehouse.trial import KINDS, Allowance, baseline_of, judge, last_days, make_baseline


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands."""
    planned = commands.add_parser("plan", help="tell what a backfill would do, and change nothing")
    planned.set_defaults(run=_plan)
    filled = commands.add_parser("backfill", help="load days, and compute what that makes stale, without Dagster")
    filled.set_defaults(run=in_warehouse(_backfill))
    for command in (planned, filled):
        command.add_argument("--dataset", action="append", default=[], help="default: all; may be given several times")
        command.add_argument("--first", type=day, help="first day")
        command.add_argument("--last", type=day, help="last day")
        command.add_argument("--replay", action="store_true", help="read every object of the days again, known or not")
    planned.add_argument(
        "--sample-days",
        type=number,
        metavar="N",
        help="try N days of each dataset, and estimate the rest; 0: estimate everything, read nothing",
    )
    tried = commands.add_parser(
        "try", help="try changed declarations on the last landed days; fails when something is lost"
    )
    tried.set_defaults(run=_try)
    baseline = commands.add_parser(
        "baseline", help="make a warehouse of the last landed days alone, for `try --against`"
    )
    baseline.set_defaults(run=_baseline)
    for command in (tried, baseline):
        command.add_argument("--dataset", action="append", default=[], help="default: all; may be given several times")
        command.add_argument("--days", type=number, default=3, metavar="N", help="of each dataset; default: 3")
    tried.add_argument(
        "--against",
        type=Path,
        metavar="FOLDER",
        help="another checkout, whose tables of these days are made first; default: against the warehouse as it is",
    )
    tried.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="KIND=N",
        help=f"so many losses are no failure, as in rows=10 or rows=0.5%%; kinds: {', '.join(KINDS)}",
    )
    for command in (planned, tried):
        command.add_argument("--format", choices=("text", "markdown", "json"), default="text", help="default: text")


def _plan(chosen: argparse.Namespace) -> int:
    # Not entered: who leaves a warehouse makes the file anew that people open.
    warehouse = open_warehouse()
    asked = ask(
        warehouse, datasets_of(warehouse, chosen.dataset), first=chosen.first, last=chosen.last, replay=chosen.replay
    )
    made = plan(warehouse, asked, sample_days=chosen.sample_days, tell=whisper)
    print({"text": as_text, "markdown": as_markdown, "json": as_json}[chosen.format](made))
    return 1 if made.failures else 0


def _baseline(chosen: argparse.Namespace) -> int:
    warehouse = open_warehouse()
    make_baseline(warehouse, datasets_of(warehouse, chosen.dataset), chosen.days, tell=whisper)
    return 0


def _backfill(warehouse: Warehouse, chosen: argparse.Namespace) -> int:
    asked = ask(
        warehouse, datasets_of(warehouse, chosen.dataset), first=chosen.first, last=chosen.last, replay=chosen.replay
    )
    done = backfill(warehouse, asked, tell=print)
    if not (done.computed or done.failures or any(one.new_keys for one in done.loads)):
        print(
            "nothing was to be done: whatever has landed on these days is loaded and computed (--replay does it again)"
        )
    for failure in done.failures:
        print(f"{failure.table} {failure.day or ''}: {failure.what}", file=sys.stderr)
    for table, count in done.left.items():
        print(f"{table}: {count:,} partitions of other days were stale before, and are")
    return 1 if done.failures else 0


def _try(chosen: argparse.Namespace) -> int:
    allowed = dict(Allowance.parse(text) for text in chosen.allow)
    settings = Settings.load()
    if settings.pii_salt is None:
        # Hashes are compared with those of this trial, or not at all.
        settings = settings.model_copy(update={"pii_salt": SecretStr(secrets.token_hex(16))})
    warehouse = open_warehouse(settings)
    datasets = datasets_of(warehouse, chosen.dataset)
    with ExitStack() as stack:
        if chosen.against is not None:
            folder = stack.enter_context(throw_away_folder())
            baseline_of(chosen.against, warehouse, chosen.dataset, chosen.days, folder)
            warehouse = open_warehouse(settings.model_copy(update={"warehouse": folder / "warehouse.duckdb"}))
        if not warehouse.ledger.exists:
            raise SettingsError(
                f"{warehouse.folder} has no tables to hold the changed declarations against",
                "name another checkout by --against, as of `git worktree add ../before origin/main`",
            )
        made = plan(warehouse, lambda shadow: last_days(shadow, datasets, chosen.days), tell=whisper)
    judged = judge(made, allowed)
    print({"text": trial.as_text, "markdown": trial.as_markdown, "json": trial.as_json}[chosen.format](judged))
    return 0 if judged.passed else 1
