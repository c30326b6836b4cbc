"""`python -m ingestion_platform replay …`: read days again from what landed, and certify what that has changed."""

import argparse

from ingestion_platform.commands.arguments import day, in_warehouse
from ingestion_platform.commands.quarantine import shown, who
from ingestion_platform.errors import NotMaterialized
from ingestion_platform.warehouse import Warehouse
from ingestion_platform.warehouse.replay import certified_replay, days_to_replay, replay

TOLD = 40
"""Differing partitions that are told one by one."""


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Say what can be asked."""
    parser = commands.add_parser("replay", help="read days again from what landed, compute them and everything behind")
    parser.set_defaults(run=in_warehouse(_run))
    parser.add_argument("--dataset", required=True, help="whose objects")
    parser.add_argument("--first", type=day, required=True, help="first day, of the objects' keys")
    parser.add_argument("--last", type=day, help="last day; default: the first")
    parser.add_argument(
        "--certificate",
        action="store_true",
        help="compare every table and day before and after; exit code 3 if one differs unexplained",
    )
    parser.add_argument("--by", default=None, help="who asks for the certificate; default: who is logged in")
    parser.add_argument("--why", default="replay", help="for those who read it")


def _run(warehouse: Warehouse, chosen: argparse.Namespace) -> int:
    """Do what was asked; the answer is the exit code."""
    if chosen.dataset not in warehouse.datasets:
        raise NotMaterialized(f"there is no dataset {chosen.dataset!r}", f"datasets: {', '.join(warehouse.datasets)}")
    dataset, first, last = warehouse.datasets[chosen.dataset], chosen.first, chosen.last or chosen.first
    if not chosen.certificate:
        done = replay(warehouse, dataset, days_to_replay(warehouse, dataset, first, last), force=True, tell=print)
        print(
            f"{len(done.read):,} objects read again, {len(done.computed):,} partitions computed, {len(done.changed):,} of them changed"
        )
        return 0
    by = chosen.by if chosen.by is not None else who()
    made = certified_replay(warehouse, dataset, first, last, by=by, why=chosen.why, tell=print)
    differing = [one for one in made.compared if one.verdict != "equal"]
    for one in differing[:TOLD]:
        print(shown(str(one)))
        for example in one.difference.examples:
            print(f"    {shown(_told(example))}")
    if len(differing) > TOLD:
        print(f"… and {len(differing) - TOLD:,} more: select * from platform.certificates")
    print(made)
    print(f"certificate {made.key}")
    return 0 if made.is_explained else 3


def _told(example: object) -> str:
    assert isinstance(example, dict), "as `fingerprints` makes them"
    key = ", ".join(f"{column} {value}" for column, value in example["key"].items())
    before, after = example.get("before", {}), example.get("after", {})
    changes = "; ".join(f"{column}: {before[column]!r} → {after[column]!r}" for column in before)
    return f"{example['kind']} {key}{': ' if changes else ''}{changes}"
