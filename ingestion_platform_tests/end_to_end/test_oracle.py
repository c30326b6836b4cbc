"""The example with its troubles, alone and together: everything in the warehouse is what plain Python says of the same files."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from ingestion_platform.assembly import declared_datasets
from ingestion_platform.demo import Incident, Outcome, Plan, Trouble, tell
from ingestion_platform.warehouse import LedgerEntry, Warehouse, upkeep
from ingestion_platform_tests.end_to_end.agreement import disagreements
from ingestion_platform_tests.end_to_end.places import ALL, SALT, Place, stale
from ingestion_platform_tests.oracle import expected

ALONE = {
    trouble.value: Plan(stores=6, days=4, lines_per_store_day=6, troubles=frozenset({trouble})) for trouble in Trouble
}
PLANS = {"nothing": Plan(stores=3, days=3, lines_per_store_day=6), **ALONE, "everything": ALL}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
def test_everything_equals_the_independent_calculation(tmp_path: Path, plan: Plan) -> None:
    """After each step tables, quarantine, objects, reports and published files are the oracle's, and each incident ends as promised."""
    place, story = Place(tmp_path), tell(plan)
    for number, step in enumerate(story.steps, 1):
        place.land(step)
        place.catch_up()
        answer = expected(place.landing_folder, declared_datasets(), plan.dates, salt=SALT)
        with place.open() as warehouse:
            assert disagreements(warehouse, answer, plan.dates) == []
            assert stale(warehouse) == {}
            assert upkeep.verify(warehouse) == []
            is_over = number == len(story.steps)
            found = _Found(warehouse)
            for incident in story.incidents:
                assert list(_broken_promises(found, incident, is_over=is_over)) == [], incident.what
            silent = _silent(story.incidents, is_over=is_over)
            assert {(day, store) for day in plan.dates for store in found.missing("sales", day)} == silent
            for name in ("mobile_payments", "stock_counts"):
                assert not any(found.missing(name, day) for day in plan.dates)


def _silent(incidents: Sequence[Incident], *, is_over: bool) -> set[tuple[date, str]]:
    """Days and stores of which no usable sales have come, by what the incidents promise."""
    outcomes = {Outcome.MISSING, Outcome.REJECTED}
    if not is_over:
        outcomes |= {Outcome.LOADED_LATER, Outcome.REJECTED_THEN_LOADED}
    return {(incident.day, incident.store_id) for incident in incidents if incident.outcome in outcomes}


class _Found:
    """What the warehouse says of sales, asked once."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        sales = warehouse.datasets["sales"]
        entries = (warehouse.raw_day(sales, day).entries for day in warehouse.days(sales.raw))
        self.current: dict[str, LedgerEntry] = {entry.key: entry for of_day in entries for entry in of_day}
        self.rules: dict[str, dict[int, frozenset[str]]] = defaultdict(dict)
        for row in self._rows("select _object, _row, rules from platform.quarantine"):
            self.rules[row["_object"]][row["_row"]] = frozenset(row["rules"])
        former = self._rows(
            "select key, count(*) as versions from platform.ledger where state = 'replaced' group by all"
        )
        self.former = {row["key"]: row["versions"] for row in former}
        self.days: dict[str, dict[int, tuple[date, date]]] = defaultdict(dict)
        for row in self._rows("select _object, _row, _day, _landed_on from processed.sales"):
            self.days[row["_object"]][row["_row"]] = (row["_day"], row["_landed_on"])
        extra = self._rows(
            "select _object, _extra, count(*) as rows from raw.sales where _extra is not null group by all"
        )
        self.extra: dict[str, Counter[str]] = defaultdict(Counter)
        for row in extra:
            self.extra[row["_object"]].update(dict.fromkeys(json.loads(row["_extra"]), row["rows"]))

    def _rows(self, sql: str) -> list[dict[str, Any]]:
        return self._warehouse.query(sql).to_pylist()

    def missing(self, dataset: str, day: date) -> tuple[str, ...]:
        """Senders of whom nothing usable came."""
        return self._warehouse.senders(self._warehouse.datasets[dataset], day).missing


def _broken_promises(found: _Found, incident: Incident, *, is_over: bool) -> Iterator[str]:
    """What is otherwise than the incident's outcome promises, after the first step or the last."""
    key = incident.keys[0]
    entry = found.current.get(key)
    states = {
        Outcome.MISSING: None,
        Outcome.LOADED_LATER: "loaded" if is_over else None,
        Outcome.REJECTED: "rejected",
        Outcome.REJECTED_THEN_LOADED: "loaded" if is_over else "rejected",
        Outcome.DUPLICATE: "duplicate",
    }
    wanted: dict[str, object] = {
        "state": states.get(incident.outcome, "loaded"),
        "has a reason": states.get(incident.outcome) in ("rejected", "duplicate"),
        "duplicate of": incident.duplicate_of,
        "former versions": int(is_over and incident.outcome in (Outcome.REPLACED, Outcome.REJECTED_THEN_LOADED)),
    }
    there: dict[str, object] = {
        "state": entry.state if entry else None,
        "has a reason": bool(entry and entry.reason),
        "duplicate of": entry.duplicate_of if entry else None,
        "former versions": found.former.get(key, 0),
    }
    if incident.outcome is Outcome.QUARANTINED:
        wanted["quarantine"], there["quarantine"] = incident.rows, found.rules[key]
    if incident.outcome is Outcome.SUPERSEDED:
        wanted["standing"], there["standing"] = set(), set(incident.rows) & set(found.days[key])
    if incident.outcome is Outcome.OTHER_DAY:
        wanted["event days"] = dict(incident.event_days)
        there["event days"] = Counter(day for day, landed_on in found.days[key].values() if day != landed_on)
    if incident.outcome is Outcome.KEPT:
        for each in incident.keys:
            wanted[each] = (incident.column,), {incident.column: found.current[each].rows_loaded}
            there[each] = found.current[each].unknown_columns, found.extra[each]
    for what, promised in wanted.items():
        if there[what] != promised:
            yield f"{what}: {there[what]}, promised {promised}"
