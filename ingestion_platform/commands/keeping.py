"""
`status`, `drift`, `catch-up`, `publish`, `verify`, `repair`, `rebuild`: how the warehouse is, and keeping it so.

Belongs here: reading the command line, and telling what happened. Doesn't: the work (`warehouse/upkeep.py`).
"""

import argparse
from datetime import date

from ingestion_platform.assembly import open_warehouse
from ingestion_platform.commands.arguments import datasets_of, in_warehouse
from ingestion_platform.lifecycle import PLACES
from ingestion_platform.warehouse import Warehouse, told_waiting, upkeep


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands."""
    status = commands.add_parser("status", help="what is loaded, rejected, quarantined and stale, table by table")
    status.set_defaults(run=in_warehouse(_status))
    catch_up = commands.add_parser("catch-up", help="load and compute whatever is new, without Dagster")
    catch_up.set_defaults(run=in_warehouse(_catch_up))
    drift = commands.add_parser(
        "drift", help="columns that came, went, changed their name or type, and what adopts them"
    )
    drift.add_argument("--dataset", help="default: all")
    drift.set_defaults(run=in_warehouse(_drift))
    verify = commands.add_parser("verify", help="hold the ledger and every file against what was written")
    verify.set_defaults(run=in_warehouse(_verify))
    repair = commands.add_parser("repair", help="make damaged files anew from the landing zone")
    repair.set_defaults(run=in_warehouse(_repair))
    rebuild = commands.add_parser("rebuild", help="set the warehouse aside and make it anew from the landing zone")
    rebuild.set_defaults(run=_rebuild)
    publish = commands.add_parser("publish", help="make the DuckDB file that people open anew")
    publish.set_defaults(run=in_warehouse(_publish))


def _status(warehouse: Warehouse, _: argparse.Namespace) -> int:
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
    today = warehouse.clock().astimezone(warehouse.settings.zone).date()
    if noted := warehouse.judged_live(today):
        left = sum(one.events for note in noted for one in note.left)
        more = f"; {left:,} events of today left to the batch" if left else ""
        print(f"live rules: {noted[-1]}{more}")
    return 0


def _drift(warehouse: Warehouse, chosen: argparse.Namespace) -> int:
    dataset = None if chosen.dataset is None else datasets_of(warehouse, [chosen.dataset])[0]
    events = warehouse.drift(dataset)
    for event in events:
        print(f"{event.dataset}: {event.told()}")
        if event.adopt:
            print(f"    to adopt it: {event.adopt}")
    if not events:
        print("every object has the declared columns, as far as they ever came")
    return 0


def _catch_up(warehouse: Warehouse, _: argparse.Namespace) -> int:
    upkeep.catch_up(warehouse, tell=print)
    return 0


def _verify(warehouse: Warehouse, _: argparse.Namespace) -> int:
    damages = upkeep.verify(warehouse)
    for damage in damages:
        print(f"{damage.table or 'ledger'} {damage.day}: {damage.what}")
    print(f"{len(damages)} damaged (hint: repair, or rebuild)" if damages else "everything is as it was written")
    return 1 if damages else 0


def _repair(warehouse: Warehouse, _: argparse.Namespace) -> int:
    damages = upkeep.repair(warehouse, tell=print)
    print(f"{len(damages)} damaged files made anew" if damages else "nothing is damaged")
    return 0


def _rebuild(_: argparse.Namespace) -> int:
    aside = upkeep.rebuild(open_warehouse, tell=print)
    if aside is not None:
        print(f"done; once you trust the new one, delete {aside}")
    return 0


def _publish(warehouse: Warehouse, _: argparse.Namespace) -> int:
    warehouse.publish()
    print(f"{warehouse.settings.warehouse} shows the newest state")
    return 0
