"""`python -m ingestion_platform quarantine …`: look at what was set aside, and decide about it."""

import argparse
import getpass
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ingestion_platform.commands.arguments import day, in_warehouse, number
from ingestion_platform.errors import NotMaterialized, WarehouseError
from ingestion_platform.warehouse import Warehouse, quarantine
from ingestion_platform.warehouse.quarantine import Chosen

LISTED = 50


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Say what can be asked."""
    parser = commands.add_parser(
        "quarantine", help="list, count, export, redrive, discard or reopen rows that were set aside"
    )
    parser.set_defaults(run=in_warehouse(_run))
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listed = _action(actions, "list", "the rows, one a line; what they hold isn't shown")
    listed.add_argument("--limit", type=number, default=LISTED, help=f"rows at most; default {LISTED}")
    listed.add_argument("--records", action="store_true", help="show each row as it was sent, personal values too")
    counted = _action(actions, "count", "how many rows of each rule, sender, day, …")
    counted.add_argument(
        "--by", choices=["rule", "reason", "sender", "day", "object", "dataset"], default="rule", help="default: rule"
    )
    exported = _action(actions, "export", "write the rows to a file, as they were sent, personal values too")
    exported.add_argument(
        "file", type=Path, help="as in rows.csv, rows.parquet or rows.jsonl: the ending is the format"
    )
    for action, what in (
        ("redrive", "read them again from what landed, with today's declaration"),
        ("discard", "decide that they will not be loaded; they stay, with your name and reason"),
        ("reopen", "take a discard back"),
    ):
        decided = _action(actions, action, what)
        decided.add_argument("--by", default=None, help="who decides; default: who is logged in")
        decided.add_argument("--why", required=True, help="for those who come after")
        decided.add_argument(
            "--everything", action="store_true", help="all rows of the dataset, if nothing else is said"
        )
        decided.add_argument("--dry-run", action="store_true", help="only say how many rows are chosen")
    told = actions.add_parser("history", help="what was decided, by whom, and what came of it")
    told.add_argument("--dataset", default="", help="default: all")


def _action(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]", called: str, what: str
) -> argparse.ArgumentParser:
    parser = actions.add_parser(called, help=what)
    parser.add_argument("--dataset", default="", help="one dataset's")
    parser.add_argument(
        "--rule", action="append", default=[], help="with this rule, as `count` names it; may be repeated"
    )
    parser.add_argument("--reason", default="", help="with this text in a reason, whatever the case")
    parser.add_argument("--sender", default="", help="of this sender")
    parser.add_argument("--first", type=day, help="first business day")
    parser.add_argument("--last", type=day, help="last business day")
    parser.add_argument("--object", action="append", default=[], help="of this landed object; may be repeated")
    parser.add_argument("--row", action="append", default=[], type=number, help="with this number; may be repeated")
    if called in ("list", "count", "export"):
        parser.add_argument(
            "--state",
            choices=["open", "discarded", "all"],
            default="open",
            help="default: open, which nobody has decided about",
        )
    return parser


def _run(warehouse: Warehouse, chosen: argparse.Namespace) -> int:
    """Do what was asked; the answer is the exit code."""
    if chosen.action == "history":
        return _history(warehouse, chosen.dataset)
    rows = Chosen(
        dataset=chosen.dataset, rules=tuple(chosen.rule), reason=chosen.reason, sender=chosen.sender, first=chosen.first,
        last=chosen.last, objects=tuple(chosen.object), rows=tuple(chosen.row), state=getattr(chosen, "state", "open"),
    )  # fmt: skip
    if chosen.action == "list":
        return _list(warehouse, rows, chosen.limit, with_records=chosen.records)
    if chosen.action == "count":
        found = quarantine.count(warehouse, rows, chosen.by)
        for value, count in found:
            print(f"{count:>12,}  {shown(value) or '(none)'}")
        print(f"{quarantine.total(warehouse, rows):>12,}  rows in all")
        return 0
    if chosen.action == "export":
        count = quarantine.export(warehouse, rows, chosen.file, _format(chosen.file))
        print(f"{count:,} rows written to {chosen.file}, which only you can read")
        return 0
    if not rows.is_narrowed and not chosen.everything:
        raise WarehouseError(
            f"nothing says which rows to {chosen.action}",
            "--rule, --object, --first, … or --everything; `--dry-run` counts them",
        )
    if chosen.dry_run:
        state = Chosen(**{**_values(rows), "state": "discarded" if chosen.action == "reopen" else "open"})
        print(f"{quarantine.total(warehouse, state):,} rows would be chosen; nothing was done")
        return 0
    by = chosen.by if chosen.by is not None else who()
    if chosen.action == "redrive":
        return _redrive(warehouse, rows, by, chosen.why)
    return _decide(warehouse, rows, chosen.action, by, chosen.why)


def _values(rows: Chosen) -> dict[str, Any]:
    return {one: getattr(rows, one) for one in Chosen.__dataclass_fields__}


def who() -> str:
    """Who is logged in."""
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise WarehouseError("nobody is logged in under a name", "--by says who decides") from error


def _format(file: Path) -> quarantine.Format:
    match file.suffix.lower():
        case ".csv":
            return "csv"
        case ".parquet":
            return "parquet"
        case ".jsonl" | ".ndjson":
            return "jsonl"
        case other:
            raise WarehouseError(f"{file}: {other or 'no ending'} is no format", ".csv, .parquet or .jsonl")


def _list(warehouse: Warehouse, rows: Chosen, limit: int, *, with_records: bool) -> int:
    found = quarantine.rows(warehouse, rows, limit=limit).to_pylist()
    for row in found:
        discarded = ""
        if row["discarded_at"] is not None:
            discarded = f"  [discarded by {row['discarded_by']} on {row['discarded_at']:%Y-%m-%d %H:%M} UTC: {row['discarded_why']}]"
        sender = f"  {row['sender']}" if row["sender"] else ""
        reasons = "; ".join(row["reasons"])
        print(shown(f"{row['dataset']} {row['_day']}{sender}  {row['_object']}:{row['_row']}  {reasons}{discarded}"))
        if with_records:
            print(f"    {shown(row['record'] or '')}")
    count = quarantine.total(warehouse, rows)
    if not found:
        print("nothing is in quarantine that is like this")
        _tell_rules(warehouse, rows)
    elif count > len(found):
        print(f"… and {count - len(found):,} more (--limit, or `export`)")
    _tell_broken(warehouse, [rows.dataset] if rows.dataset else list(warehouse.datasets))
    return 0


def _tell_rules(warehouse: Warehouse, rows: Chosen) -> None:
    """Where a rule is asked for that no row has: which ones there are."""
    if rows.rules:
        there = [
            rule for rule, _ in quarantine.count(warehouse, Chosen(dataset=rows.dataset, state=rows.state), "rule")
        ]
        print(f"rules there: {shown(', '.join(there)) or 'none'}")


def _decide(warehouse: Warehouse, rows: Chosen, action: str, by: str, why: str) -> int:
    decide = quarantine.discard if action == "discard" else quarantine.reopen
    done = decide(warehouse, rows, by=by, why=why)
    word = "discarded" if action == "discard" else "reopened"
    if not done.rows:
        state = "discarded already" if action == "discard" else "open already"
        print(
            f"nothing to do: {done.already:,} rows are {state}"
            if done.already
            else "nothing is in quarantine that is like this"
        )
        if not done.already:
            _tell_rules(warehouse, rows)
        return 0
    print(f"{done.rows:,} rows of {done.objects:,} objects are {word} by {by}; {len(done.days):,} days computed again")
    if done.already:
        print(f"{done.already:,} more were so already")
    for key in done.keys:
        print(f"recorded as {key}")
    return 0


def _redrive(warehouse: Warehouse, rows: Chosen, by: str, why: str) -> int:
    done = quarantine.redrive(warehouse, rows, by=by, why=why, tell=print)
    if done.replayed is None:
        print("nothing is open in quarantine that is like this: nothing was read again")
        _tell_rules(warehouse, rows)
        return 0
    print(done.outcome)
    for rule, count in done.outcome.why.items():
        print(f"{count:>12,}  still: {shown(rule)}")
    for example in done.outcome.examples:
        print(f"              {shown(example)}")
    if not done.has_changed:
        print("nothing has changed: today's declaration says of them what it said before")
    for key in done.keys:
        print(f"recorded as {key}")
    return 0


def _history(warehouse: Warehouse, dataset: str) -> int:
    names: Sequence[str] = [dataset] if dataset else list(warehouse.datasets)
    found, is_whole = False, True
    for one in names:
        if one not in warehouse.datasets:
            raise WarehouseError(f"there is no dataset {one!r}", f"datasets: {', '.join(warehouse.datasets)}")
        for decided in quarantine.history(warehouse, warehouse.datasets[one]):
            found = True
            print(
                shown(
                    f"{decided.at:%Y-%m-%d %H:%M:%S} UTC  {decided.kind:<8} {one}: {decided.rows:,} rows of {decided.objects:,} objects,"
                    f" by {decided.by}: {decided.why}"
                )
            )
            try:
                today = str(quarantine.outcome_of_decision(warehouse, warehouse.datasets[one], decided))
            except NotMaterialized as error:
                # One that was cut doesn't hide the others.
                is_whole = False
                today = str(error)
            print(f"    chosen by {shown(quarantine.as_json(decided))}; today: {shown(today)}")
    if not found:
        print("nothing has been decided")
    return 1 if _tell_broken(warehouse, names) or not is_whole else 0


def _tell_broken(warehouse: Warehouse, names: Sequence[str]) -> bool:
    broken = [one for name in names for one in warehouse.discards.broken(name)]
    for one in broken:
        print(f"warning: {one.reason}", file=sys.stderr)
    return bool(broken)


def shown(text: str) -> str:
    """Text of files on a terminal: what would move the cursor or colour it is shown as what it is."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
