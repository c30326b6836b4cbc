"""The example with its troubles, alone and together: everything in the warehouse is what plain Python says of the same files."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ingestion_platform.assembly import declared_datasets
from ingestion_platform.demo import Incident, Outcome, Plan, Trouble, tell
from ingestion_platform.warehouse import LedgerEntry, Warehouse, upkeep
from ingestion_platform_tests.end_to_end.agreement import disagreements
from ingestion_platform_tests.end_to_end.places import ALL, Place, stale
from ingestion_platform_tests.oracle import expected

ALONE = {trouble.value: Plan(stores=6, days=5, lines_per_store_day=6, troubles=frozenset({trouble})) for trouble in Trouble}
PLANS = {"nothing": Plan(stores=3, days=3, lines_per_store_day=6), **ALONE, "everything": ALL}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
def test_everything_equals_the_independent_calculation(tmp_path: Path, plan: Plan) -> None:
    """After each step tables, masks, quarantine, objects, reports and published files are the oracle's, and each incident ends as promised."""
    place, story = Place(tmp_path), tell(plan)
    for number, step in enumerate(story.steps, 1):
        place.land(step)
        place.catch_up()
        answer = expected(place.landing_folder, declared_datasets(), plan.dates)
        with place.open() as warehouse:
            assert disagreements(warehouse, answer, plan.dates) == []
            assert stale(warehouse) == {}
            assert upkeep.verify(warehouse) == []
            for incident in story.incidents:
                assert list(_broken_promises(warehouse, incident, is_over=number == 2)) == [], incident.what


@pytest.mark.parametrize("plan", [ALL])
def test_nobody_but_the_troubled_is_missing(tmp_path: Path, plan: Plan) -> None:
    """Missing senders of a day are exactly the stores whose incidents say so."""
    place = Place(tmp_path)
    story = place.tell(plan)
    place.catch_up()
    silent = {
        (incident.day, incident.store_id)
        for incident in story.incidents
        if incident.outcome in (Outcome.MISSING, Outcome.REJECTED)
    }
    with place.open() as warehouse:
        for name in ("sales", "mobile_payments", "stock_counts"):
            missing = {
                (day, store)
                for day in plan.dates
                for store in warehouse.senders(warehouse.datasets[name], day).missing
            }
            assert missing == (silent if name == "sales" else set())


def _broken_promises(warehouse: Warehouse, incident: Incident, *, is_over: bool) -> Iterator[str]:
    """What the ledger, the quarantine and the roster say otherwise than the incident's outcome promises, after the first step or the last."""
    dataset = warehouse.datasets[incident.dataset]
    key = incident.keys[0]
    current = {entry.key: entry for day in warehouse.days(dataset.raw) for entry in warehouse.raw_day(dataset, day).entries}
    entry = current.get(key)
    state = entry.state if entry else None
    missing = incident.store_id in warehouse.senders(dataset, incident.day).missing
    rules = {
        row["_row"]: frozenset(row["rules"])
        for row in warehouse.query(f"select _row, rules from platform.quarantine where _object = '{key}'").to_pylist()
    }
    former = warehouse.query(f"select count(*) as versions from platform.ledger where key = '{key}' and state = 'replaced'")
    versions = former.to_pylist()[0]["versions"]
    promises: dict[str, object] = {}
    match incident.outcome:
        case Outcome.MISSING:
            promises = {"state": None, "missing": True}
        case Outcome.LOADED_LATER:
            promises = {"state": "loaded", "missing": False} if is_over else {"state": None, "missing": True}
        case Outcome.REJECTED:
            promises = {"state": "rejected", "missing": True, "has a reason": True}
        case Outcome.REJECTED_THEN_LOADED:
            promises = (
                {"state": "loaded", "missing": False, "versions": 1}
                if is_over
                else {"state": "rejected", "missing": True, "has a reason": True}
            )
        case Outcome.REPLACED:
            promises = {"state": "loaded", "missing": False, "versions": int(is_over)}
        case Outcome.DUPLICATE:
            promises = {"state": "duplicate", "missing": False, "duplicate of": incident.duplicate_of}
        case Outcome.QUARANTINED:
            promises = {"state": "loaded", "quarantine": incident.rows}
        case Outcome.SUPERSEDED:
            standing = _rows_of(warehouse, dataset.processed, key)
            promises = {"state": "loaded", "standing": set()}
            yield from (f"row {row} stands" for row in standing & set(incident.rows))
        case Outcome.OTHER_DAY:
            promises = {"state": "loaded", "event days": dict(incident.event_days)}
        case Outcome.KEPT:
            promises = {"state": "loaded"}
            yield from _not_kept(warehouse, incident, current)
    found = {
        "state": state,
        "missing": missing,
        "has a reason": bool(entry and entry.reason),
        "versions": versions,
        "duplicate of": entry.duplicate_of if entry else None,
        "quarantine": rules,
        "standing": set(),
        "event days": _event_days(warehouse, dataset.processed, key),
    }
    for what, promised in promises.items():
        if found[what] != promised:
            yield f"{what}: {found[what]}, promised {promised}"


def _rows_of(warehouse: Warehouse, table: str, key: str) -> set[int]:
    return {row["_row"] for row in warehouse.query(f"select _row from {table} where _object = '{key}'").to_pylist()}


def _event_days(warehouse: Warehouse, table: str, key: str) -> dict[object, int]:
    rows = warehouse.query(
        f"select _day, count(*) as rows from {table} where _object = '{key}' and _day <> _landed_on group by all"
    ).to_pylist()
    return {row["_day"]: row["rows"] for row in rows}


def _not_kept(warehouse: Warehouse, incident: Incident, current: dict[str, LedgerEntry]) -> Iterator[str]:
    for key in incident.keys:
        if current[key].unknown_columns != (incident.column,):
            yield f"{key}: unknown columns {current[key].unknown_columns}"
        extra = warehouse.query(
            f"select count(*) as rows from raw.{incident.dataset} where _object = '{key}'"
            f" and json_extract_string(_extra, '$.{incident.column}') like '4._'"
        ).to_pylist()
        if extra[0]["rows"] != current[key].rows_loaded:
            yield f"{key}: {extra[0]['rows']} rows keep {incident.column}"
