"""`python -m ingestion_platform forget …`: take a person out of everything that has landed and was made of it."""

import argparse
import sys

from ingestion_platform.commands.arguments import in_warehouse
from ingestion_platform.commands.quarantine import shown, who
from ingestion_platform.warehouse import Warehouse
from ingestion_platform.warehouse.forget import (
    Forgot,
    Plan,
    forget,
    keys_of_file,
    keys_of_lines,
    person_of,
    plan,
    who_returned,
)

STDIN = "-"


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Say what can be asked."""
    parser = commands.add_parser(
        "forget", help="take a person out of everything; says what would go, and does it with --yes"
    )
    parser.set_defaults(run=in_warehouse(_run))
    parser.add_argument(
        "key",
        nargs="*",
        metavar="KIND=VALUE",
        help="a key of the person, as in customer=C00123 or sales.customer_id=C00123; on the command line it stays in the shell's history",
    )
    parser.add_argument(
        "--from",
        dest="file",
        help="a file with a KIND=VALUE a line, which only you may read; `-`: standard input",
    )
    parser.add_argument("--again", action="store_true", help="whoever was forgotten and has come back")
    parser.add_argument("--yes", action="store_true", help="do it; landed objects are rewritten for good")
    parser.add_argument(
        "--everywhere",
        action="store_true",
        help="rows that hold a key in a column of another meaning are the person's too",
    )
    parser.add_argument(
        "--remove-objects",
        action="store_true",
        help="remove objects whole that can't be rewritten, with all their rows",
    )
    parser.add_argument("--by", default=None, help="who asks for it; default: who is logged in")
    parser.add_argument("--why", default="", help="as the number of the request; needed with --yes")


def _run(warehouse: Warehouse, chosen: argparse.Namespace) -> int:
    """Do what was asked; the answer is the exit code."""
    pairs = keys_of_lines(chosen.key)
    if chosen.file:
        pairs += keys_of_lines(sys.stdin) if chosen.file == STDIN else keys_of_file(chosen.file)
    if chosen.again:
        warehouse.forgotten.take_in()
        back = who_returned(warehouse)
        if not back and not pairs:
            print("nobody who was forgotten has come back")
            return 0
        pairs += back
    person = person_of(warehouse, pairs, everywhere=chosen.everywhere)
    if not chosen.yes:
        made = plan(warehouse, person, remove_objects=chosen.remove_objects, tell=lambda line: print(shown(line)))
        _tell_plan(made, warehouse)
        return 0
    by = chosen.by if chosen.by is not None else who()
    done = forget(
        warehouse,
        person,
        by=by,
        why=chosen.why,
        remove_objects=chosen.remove_objects,
        tell=lambda line: print(shown(line)),
    )
    return _tell_done(done)


def _tell_plan(made: Plan, warehouse: Warehouse) -> None:
    for key in made.notes:
        print(shown(f"{key}: written again without the person's keys"))
    for one in made.former:
        print(shown(f"{one.key}: its former version {one.name} is removed"))
    _tell_elsewhere(made.elsewhere)
    if made.is_empty:
        print(f"nothing of this person has landed; {made.looked_at:,} objects were looked through")
        return
    for dataset, count in sorted(made.rows.items()):
        how = "go" if warehouse.datasets[dataset].erase == "row" else "stay, without what is personal"
        print(f"{dataset}: {count:,} rows {how}")
    for kind, what in (("wait", "wait"), ("stuck", "can't be done")):
        count = len([one for one in made.objects if one.doing == kind])
        if count:
            print(f"{count:,} objects {what}: as long as they do, nobody is forgotten")
    print("nothing was done: --yes does it, with --by and --why")


def _tell_elsewhere(rows: int) -> None:
    if rows:
        print(
            f"{rows:,} rows hold a key in a column of another meaning, and stay: --everywhere takes them for the person's"
        )


def _tell_done(done: Forgot) -> int:
    _tell_elsewhere(done.elsewhere)
    for line in done.waiting:
        print(shown(f"waits: {line}"))
    for line in done.stuck:
        print(shown(f"not done: {line}"))
    if done.is_done:
        print(f"forgotten; certificate {done.certificate}")
        return 0
    print("not done yet: ask for the same person again when the above is there, or mended", file=sys.stderr)
    return 1
