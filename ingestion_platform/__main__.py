"""
The platform's own commands: `python -m ingestion_platform …`. What runs every night is Dagster's; these are for a person at the keyboard.

Belongs here: reading the command line, and telling what happened. Doesn't: the work.
"""

import argparse
import json
import os
import secrets
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pydantic import SecretStr

from ingestion_platform.assembly import declared_datasets, open_warehouse
from ingestion_platform.commands import forget, quarantine, replay, senders
from ingestion_platform.commands.arguments import day, number, require_order
from ingestion_platform.dataset import Dataset
from ingestion_platform.errors import IngestionError, SettingsError
from ingestion_platform.landing import rules
from ingestion_platform.lifecycle import PLACES
from ingestion_platform.settings import Settings
from ingestion_platform.warehouse import Warehouse, ageing, told_waiting, trial, upkeep
from ingestion_platform.warehouse.backfill import ask, backfill
from ingestion_platform.warehouse.plan import plan
from ingestion_platform.warehouse.plan_text import as_json, as_markdown, as_text
from ingestion_platform.warehouse.shadow import throw_away_folder
from ingestion_platform.warehouse.trial import KINDS, Allowance, baseline_of, judge, last_days, make_baseline


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ingestion_platform", description=(__doc__ or "").strip().splitlines()[0]
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("status", help="what is loaded, rejected, quarantined and stale, table by table")
    commands.add_parser("catch-up", help="load and compute whatever is new, without Dagster")
    drift = commands.add_parser(
        "drift", help="columns that came, went, changed their name or type, and what adopts them"
    )
    drift.add_argument("--dataset", help="default: all")
    commands.add_parser("verify", help="hold the ledger and every file against what was written")
    commands.add_parser("repair", help="make damaged files anew from the landing zone")
    commands.add_parser("rebuild", help="set the warehouse aside and make it anew from the landing zone")
    commands.add_parser("publish", help="make the DuckDB file that people open anew")
    commands.add_parser("age", help="move what has landed long ago to colder places, as is declared")
    lifecycle = commands.add_parser("lifecycle", help="print the bucket's lifecycle rules, as is declared, as JSON")
    lifecycle.add_argument("--apply", action="store_true", help="set them; rules of others stay")
    plan = commands.add_parser("plan", help="tell what a backfill would do, and change nothing")
    backfill = commands.add_parser("backfill", help="load days, and compute what that makes stale, without Dagster")
    for command in (plan, backfill):
        command.add_argument("--dataset", action="append", default=[], help="default: all; may be given several times")
        command.add_argument("--first", type=day, help="first day")
        command.add_argument("--last", type=day, help="last day")
        command.add_argument("--replay", action="store_true", help="read every object of the days again, known or not")
    plan.add_argument(
        "--sample-days",
        type=number,
        metavar="N",
        help="try N days of each dataset, and estimate the rest; 0: estimate everything, read nothing",
    )
    tried = commands.add_parser(
        "try", help="try changed declarations on the last landed days; fails when something is lost"
    )
    baseline = commands.add_parser(
        "baseline", help="make a warehouse of the last landed days alone, for `try --against`"
    )
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
    for command in (plan, tried):
        command.add_argument("--format", choices=("text", "markdown", "json"), default="text", help="default: text")
    read = commands.add_parser("read", help="print a table or report as CSV")
    read.add_argument("table", help="as in reports.daily_sales")
    read.add_argument("--first", type=day, help="first business day")
    read.add_argument("--last", type=day, help="last business day")
    worker = commands.add_parser("worker", help="follow streams without end, and report what lands to Dagster")
    worker.add_argument("stream", nargs="*", help="default: those of INGESTION_STREAMS")
    quarantine.add_to(commands)
    replay.add_to(commands)
    senders.add_to(commands)
    forget.add_to(commands)
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
    query = commands.add_parser("query", help="print the result of a query over all tables as CSV")
    query.add_argument("sql")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the answer is the exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        require_order(getattr(chosen, "first", None), getattr(chosen, "last", None))
        code = _run(chosen)
        sys.stdout.flush()
        return code
    except IngestionError as error:
        print(f"{type(error).__name__}: {error.what}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read us has enough. What Python still wants to write when it ends must go somewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(chosen: argparse.Namespace) -> int:
    if chosen.command == "rebuild":
        aside = upkeep.rebuild(open_warehouse, tell=print)
        if aside is not None:
            print(f"done; once you trust the new one, delete {aside}")
        return 0
    if chosen.command == "worker":
        # Only this command needs Dagster, which takes a second to import.
        from ingestion_platform.orchestration.worker import run_worker

        return run_worker(declared_datasets().streams, chosen.stream)
    if chosen.command == "plan":
        # Not entered: who leaves a warehouse makes the file anew that people open.
        warehouse = open_warehouse()
        asked = ask(
            warehouse, _chosen(warehouse, chosen.dataset), first=chosen.first, last=chosen.last, replay=chosen.replay
        )
        made = plan(warehouse, asked, sample_days=chosen.sample_days, tell=_whisper)
        print({"text": as_text, "markdown": as_markdown, "json": as_json}[chosen.format](made))
        return 1 if made.failures else 0
    if chosen.command == "try":
        return _try(chosen)
    if chosen.command == "baseline":
        warehouse = open_warehouse()
        make_baseline(warehouse, _chosen(warehouse, chosen.dataset), chosen.days, tell=_whisper)
        return 0
    if chosen.command == "chaos":
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
    with open_warehouse() as warehouse:
        if chosen.command == "backfill":
            return _backfill(warehouse, chosen)
        if chosen.command == "status":
            _tell_status(warehouse)
        elif chosen.command == "drift":
            _tell_drift(warehouse, chosen.dataset)
        elif chosen.command == "quarantine":
            return quarantine.run(warehouse, chosen)
        elif chosen.command == "replay":
            return replay.run(warehouse, chosen)
        elif chosen.command == "forget":
            return forget.run(warehouse, chosen)
        elif chosen.command == "age":
            print(ageing.age(warehouse, tell=print))
        elif chosen.command in senders.COMMANDS:
            return senders.run(warehouse, chosen)
        elif chosen.command == "lifecycle":
            _tell_lifecycle(warehouse, is_applied=chosen.apply)
        elif chosen.command == "catch-up":
            upkeep.catch_up(warehouse, tell=print)
        elif chosen.command == "publish":
            warehouse.publish()
            print(f"{warehouse.settings.warehouse} shows the newest state")
        elif chosen.command == "repair":
            damages = upkeep.repair(warehouse, tell=print)
            print(f"{len(damages)} damaged files made anew" if damages else "nothing is damaged")
        elif chosen.command == "verify":
            damages = upkeep.verify(warehouse)
            for damage in damages:
                print(f"{damage.table or 'ledger'} {damage.day}: {damage.what}")
            print(
                f"{len(damages)} damaged (hint: repair, or rebuild)" if damages else "everything is as it was written"
            )
            return 1 if damages else 0
        else:
            table = (
                warehouse.query(chosen.sql)
                if chosen.command == "query"
                else warehouse.read(chosen.table, first=chosen.first, last=chosen.last)
            )
            _print_csv(table)
    return 0


def _tell_drift(warehouse: Warehouse, name: str | None) -> None:
    chosen = None if name is None else _chosen(warehouse, [name])[0]
    events = warehouse.drift(chosen)
    for event in events:
        print(f"{event.dataset}: {event.told()}")
        if event.adopt:
            print(f"    to adopt it: {event.adopt}")
    if not events:
        print("every object has the declared columns, as far as they ever came")


def _whisper(line: str) -> None:
    """How far it is, where only a person reads it."""
    if sys.stderr.isatty():
        print(line, file=sys.stderr)


def _chosen(warehouse: Warehouse, names: Sequence[str]) -> list[Dataset]:
    unknown = sorted(set(names) - set(warehouse.datasets))
    if unknown:
        raise SettingsError(f"there is no dataset {unknown[0]!r}", f"datasets: {', '.join(warehouse.datasets)}")
    return [warehouse.datasets[name] for name in dict.fromkeys(names)]


def _backfill(warehouse: Warehouse, chosen: argparse.Namespace) -> int:
    asked = ask(
        warehouse, _chosen(warehouse, chosen.dataset), first=chosen.first, last=chosen.last, replay=chosen.replay
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
    datasets = _chosen(warehouse, chosen.dataset)
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
        made = plan(warehouse, lambda shadow: last_days(shadow, datasets, chosen.days), tell=_whisper)
    judged = judge(made, allowed)
    print({"text": trial.as_text, "markdown": trial.as_markdown, "json": trial.as_json}[chosen.format](judged))
    return 0 if judged.passed else 1


def _tell_lifecycle(warehouse: Warehouse, *, is_applied: bool) -> None:
    """The bucket's rules on standard output, and what changes on the other one."""
    roots = warehouse.datasets.roots
    if not warehouse.landing.url.startswith("s3://"):
        raise SettingsError(
            f"lifecycle rules are S3's, and {warehouse.landing.url} is a folder",
            "`python -m ingestion_platform age` moves a folder's objects",
        )
    # boto3 takes most of a second to import.
    from ingestion_platform.landing.s3 import S3Landing

    assert isinstance(warehouse.landing, S3Landing), "its URL says so"
    before = warehouse.landing.lifecycle()
    after = rules.merged(before, roots, warehouse.landing.prefix)
    print(json.dumps(after, indent=2, default=str))
    changes = rules.difference(before, after)
    print("\n".join(changes) if changes else "the bucket has these rules already", file=sys.stderr)
    for name in rules.deleting(after, warehouse.landing.prefix):
        print(f"warning: rule {name!r}, which isn't ours, deletes what has landed here", file=sys.stderr)
    if is_applied and changes:
        warehouse.landing.put_lifecycle(after)
        print("set", file=sys.stderr)


def _print_csv(table: pa.Table) -> None:
    for index, field in enumerate(table.schema):
        if pa.types.is_nested(field.type):
            values = [
                None if value is None else json.dumps(value, default=str) for value in table.column(index).to_pylist()
            ]
            table = table.set_column(index, field.name, pa.array(values, pa.string()))
    # Arrow's types, since pandas' own show whole numbers beside a missing one as 1.0, and large ones wrongly.
    table.to_pandas(types_mapper=pd.ArrowDtype).to_csv(sys.stdout, index=False)


def _tell_status(warehouse: Warehouse) -> None:
    print(f"{'table':<32}{'days':>6}{'rows':>12}{'rejected':>10}{'quarantined':>13}{'stale':>7}")
    for dataset in warehouse.datasets.values():
        days = warehouse.days(dataset.raw)
        raw = [warehouse.raw_day(dataset, day) for day in days]
        rejected = sum(len(day.keys("rejected")) for day in raw)
        rows, unread = sum(day.rows for day in raw), sum(day.rows_quarantined for day in raw)
        print(f"{dataset.raw:<32}{len(days):>6,}{rows:>12,}{rejected:>10,}{unread:>13,}")
    places = {dataset.name: warehouse.places.of_dataset(dataset.name) for dataset in warehouse.datasets.values()}
    for table in [*(dataset.processed for dataset in warehouse.datasets.values()), *warehouse.sql_tables]:
        computed = warehouse.ledger.partitions(table)
        found = [warehouse.table_day(table, date.fromisoformat(row.day) if row.day else None) for row in computed]
        quarantined = sum(day.balance.rows_open for day in found if day is not None and day.balance is not None)
        stale = len(warehouse.stale_days(table))
        print(
            f"{table:<32}{len(computed):>6,}{sum(row.rows for row in computed):>12,}{'':>10}{quarantined or '':>13}{stale or '':>7}"
        )
    if any(set(found) - {"hot"} for found in places.values()):
        print(f"\n{'objects, bytes':<32}" + "".join(f"{place:>27}" for place in PLACES))
        for name, there in places.items():
            told = (
                f"{objects:,}, {size_bytes:,}" for objects, size_bytes in (there.get(one, (0, 0)) for one in PLACES)
            )
            print(f"{name:<32}" + "".join(f"{one:>27}" for one in told))
    for dataset in warehouse.datasets.values():
        if waiting := warehouse.waiting(dataset):
            print(f"{dataset.raw}: {told_waiting(waiting)}")


if __name__ == "__main__":
    sys.exit(main())
