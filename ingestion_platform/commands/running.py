"""
`worker` and `chaos`: following streams without end, and putting the path to the test.

Belongs here: reading the command line, and telling what happened. Doesn't: the work (`orchestration/worker.py`, `chaos/`).
"""

import argparse
from pathlib import Path

from ingestion_platform.assembly import declared_datasets, open_live
from ingestion_platform.commands.arguments import number


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands."""
    worker = commands.add_parser("worker", help="follow streams without end, and report what lands to Dagster")
    worker.add_argument("stream", nargs="*", help="default: those of INGESTION_STREAMS")
    worker.set_defaults(run=_worker)
    chaos = commands.add_parser(
        "chaos", help="put the path to the test: every fault we know of, against a run without any"
    )
    chaos.add_argument("--dataset", action="append", default=[], help="and what it refers to; default: all")
    chaos.add_argument("--faults", default="", help="names, separated by commas; default: all")
    chaos.add_argument("--rounds", type=number, default=100, help="of each fault at most; default: %(default)s")
    chaos.add_argument("--seed", type=int, default=1, help="of all that is left to chance; default: %(default)s")
    chaos.add_argument(
        "--seconds", type=float, default=120.0, help="after which no further round begins; default: %(default)s"
    )
    chaos.add_argument("--landed", action="store_true", help="with copies of what has landed, not with what is made up")
    chaos.add_argument("--days", type=number, default=3, help="of what has landed; default: %(default)s")
    chaos.add_argument("--keep", type=Path, help="folder in which what wasn't survived stays")
    chaos.set_defaults(run=_chaos)


def _worker(chosen: argparse.Namespace) -> int:
    # Only this command needs Dagster, which takes a second to import.
    from ingestion_platform.orchestration.worker import run_worker

    return run_worker(declared_datasets().streams, chosen.stream, live=open_live)


def _chaos(chosen: argparse.Namespace) -> int:
    # Nobody else needs it.
    from ingestion_platform.chaos.command import Wanted, run

    return run(
        Wanted(
            datasets=tuple(chosen.dataset),
            faults=tuple(name for name in chosen.faults.split(",") if name),
            rounds=chosen.rounds,
            seed=chosen.seed,
            seconds=chosen.seconds,
            landed=chosen.landed,
            days=chosen.days,
            keep=chosen.keep,
        )
    )
