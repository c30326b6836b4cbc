"""`python -m ingestion_platform senders | note | excuse …`: who has sent, what to tell a sender, whom not to wait for."""

import argparse
import csv
import sys
from collections import Counter
from dataclasses import fields
from datetime import date, timedelta

from ingestion_platform.commands.arguments import day, in_warehouse
from ingestion_platform.commands.quarantine import who
from ingestion_platform.completeness import STATUSES, SenderDay
from ingestion_platform.dataset import Dataset
from ingestion_platform.errors import DeclarationError, NotMaterialized
from ingestion_platform.warehouse import Warehouse
from ingestion_platform.warehouse.sender_notes import note_for


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Say what can be asked."""
    listed = commands.add_parser("senders", help="print who was expected to send, and what came of it, as CSV")
    listed.add_argument("--sender", help="of this sender alone")
    listed.add_argument("--status", choices=STATUSES, action="append", help="with this status alone; may be said again")
    note = commands.add_parser(
        "note", help="print what a sender should know of his files: what is missing, what can't be read, and why"
    )
    note.add_argument("--sender", required=True)
    note.add_argument("--format", choices=("text", "csv"), default="text")
    for parser in (listed, note):
        parser.add_argument("--dataset", help="of this dataset alone")
        parser.add_argument("--first", type=day, help="first day; default: the last week that anything is known of")
        parser.add_argument("--last", type=day, help="last day; default: the last that anything is known of")
    excuse = commands.add_parser(
        "excuse", help="expect nothing of senders for some days; it lands, and a rebuild knows it"
    )
    excuse.add_argument("--dataset", required=True)
    excuse.add_argument("--sender", required=True, action="append", help="may be said again")
    excuse.add_argument("--first", required=True, type=day, help="first day")
    excuse.add_argument("--last", type=day, help="last day; default: the first alone")
    excuse.add_argument("--by", default=None, help="who excuses them; default: who is logged in")
    excuse.add_argument("--why", required=True, help="the reason, for those who come after")
    excuse.add_argument("--withdraw", action="store_true", help="expect them after all")
    for parser in (listed, note, excuse):
        parser.set_defaults(run=in_warehouse(_run))


def _run(warehouse: Warehouse, chosen: argparse.Namespace) -> int:
    """Do what was asked; the answer is the exit code."""
    datasets = _with_senders(warehouse, chosen.dataset)
    if chosen.command == "senders":
        _tell(warehouse, datasets, chosen)
    elif chosen.command == "note":
        first, last = _days_of(warehouse, chosen)
        note = note_for(warehouse, chosen.sender, first, last, datasets=datasets)
        sys.stdout.write(note.csv if chosen.format == "csv" else note.text)
    else:
        key = warehouse.excuse(
            datasets[0],
            chosen.sender,
            chosen.first,
            chosen.last or chosen.first,
            by=chosen.by if chosen.by is not None else who(),
            why=chosen.why,
            is_withdrawn=chosen.withdraw,
        )
        print(f"landed as {key}")
    return 0


def _tell(warehouse: Warehouse, datasets: list[Dataset], chosen: argparse.Namespace) -> None:
    """One line a sender and day; the numbers by status on the other output."""
    first, last = _days_of(warehouse, chosen)
    found = [
        row
        for dataset in datasets
        for row in warehouse.sender_days(dataset, first, last)
        if chosen.sender in (None, row.sender) and (not chosen.status or row.status in chosen.status)
    ]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    names = [field.name for field in fields(SenderDay)]
    writer.writerow(names)
    writer.writerows([getattr(row, name) for name in names] for row in found)
    counts = Counter(row.status for row in found)
    told = ", ".join(f"{counts[status]:,} {status}" for status in STATUSES if counts[status])
    print(f"{first} to {last}: {told or 'nobody'}", file=sys.stderr)


def _days_of(warehouse: Warehouse, chosen: argparse.Namespace) -> tuple[date, date]:
    """The days that are asked for; those that aren't said are the last week that anything is known of."""
    newest = [
        day
        for dataset in (warehouse.datasets.values() if warehouse.ledger.exists else ())
        if (day := warehouse.newest_day(dataset)) is not None
    ]
    last = chosen.last or max(newest, default=None)
    if last is None:
        raise NotMaterialized("nothing has been loaded yet", "`python -m ingestion_platform catch-up` does it")
    return chosen.first or last - timedelta(days=6), last


def _with_senders(warehouse: Warehouse, name: str | None) -> list[Dataset]:
    """The datasets that have senders, or the one that is asked for."""
    found = [dataset for dataset in warehouse.datasets.values() if dataset.senders is not None]
    if name is None:
        return found
    chosen = [dataset for dataset in found if dataset.name == name]
    if not chosen:
        raise DeclarationError(
            f"no dataset with senders is called {name!r}", f"those with senders: {', '.join(one.name for one in found)}"
        )
    return chosen
