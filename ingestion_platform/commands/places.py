"""
`age` and `lifecycle`: what has landed long ago goes to colder places.

Belongs here: reading the command line, and telling what happened. Doesn't: the work (`warehouse/ageing.py`, `landing/rules.py`).
"""

import argparse
import json
import sys

from ingestion_platform.commands.arguments import in_warehouse
from ingestion_platform.errors import SettingsError
from ingestion_platform.landing import rules
from ingestion_platform.warehouse import Warehouse, ageing


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands."""
    age = commands.add_parser("age", help="move what has landed long ago to colder places, as is declared")
    age.set_defaults(run=in_warehouse(_age))
    lifecycle = commands.add_parser("lifecycle", help="print the bucket's lifecycle rules, as is declared, as JSON")
    lifecycle.add_argument("--apply", action="store_true", help="set them; rules of others stay")
    lifecycle.set_defaults(run=in_warehouse(_lifecycle))


def _age(warehouse: Warehouse, _: argparse.Namespace) -> int:
    print(ageing.age(warehouse, tell=print))
    return 0


def _lifecycle(warehouse: Warehouse, chosen: argparse.Namespace) -> int:
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
    if chosen.apply and changes:
        warehouse.landing.put_lifecycle(after)
        print("set", file=sys.stderr)
    return 0
