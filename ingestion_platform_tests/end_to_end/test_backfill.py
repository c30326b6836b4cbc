"""Backfills that fail on a day, and late data: what is done stays done, and exactly the rest is done afterwards."""

import re
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest

from ingestion_platform.assembly import declared_datasets, declared_sql_tables
from ingestion_platform.demo import Outcome, Plan, Story, Trouble, tell
from ingestion_platform.orchestration.graph import asset_key
from ingestion_platform.orchestration.runs import SILENT_AFTER_SECONDS, busy
from ingestion_platform.warehouse import upkeep
from ingestion_platform_tests.end_to_end.agreement import disagreements
from ingestion_platform_tests.end_to_end.dagster_runs import Orchestra, Work
from ingestion_platform_tests.end_to_end.places import SALT, Place, stale
from ingestion_platform_tests.oracle import Expected, expected

PLAN = Plan(stores=4, days=5, lines_per_store_day=5, troubles=frozenset({Trouble.LATE_FILE}))
CHAIN = ("raw.sales", "processed.sales", "reports.daily_sales", "reports.store_comparison")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A deployment."""
    return Place(tmp_path)


@pytest.fixture
def dagster(tmp_path: Path, place: Place) -> Iterator[Orchestra]:
    """Dagster over it, with a home of its own."""
    home = tmp_path / "dagster"
    home.mkdir()
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        yield Orchestra(place, instance)


def materialized(dagster: Orchestra, table: str) -> set[str]:
    """Days that Dagster shows as materialized."""
    return set(dagster.instance.get_materialized_partitions(asset_key(table)))


def test_a_failing_day_of_a_backfill_keeps_the_others_and_is_finished_later(place: Place, dagster: Orchestra) -> None:
    """A damaged raw file fails its day alone; repaired, the same run again makes every day there is."""
    place.tell(PLAN)
    days = [str(day) for day in PLAN.dates]
    references = ("raw.stores", "processed.stores", "raw.products", "processed.products")
    assert dagster.run([*references, "raw.sales"], PLAN.dates[0], PLAN.dates[-1]).success
    with place.open() as warehouse:
        (file, *_) = warehouse.ledger.files("raw.sales", first=PLAN.dates[3], last=PLAN.dates[3])
        damaged = warehouse.store.absolute(file.path)
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2] + b"?" + whole[len(whole) // 2 + 1 :])

    result = dagster.run(CHAIN, PLAN.dates[0], PLAN.dates[-1])
    assert not result.success
    failed = days[3]
    assert materialized(dagster, "raw.sales") == set(days)
    assert materialized(dagster, "processed.sales") == set(days) - {failed}
    (told,) = [
        event.step_failure_data.user_failure_data.description
        for event in result.all_events
        if event.is_step_failure and event.step_failure_data.user_failure_data is not None
    ]
    assert told is not None
    assert f"1 of {len(days)} days failed: {failed}" in told
    assert "repair" in told or "rebuild" in told
    assert materialized(dagster, "reports.daily_sales") == set(), "reports of a run whose upstream failed aren't made"

    with place.open() as warehouse:
        assert upkeep.repair(warehouse)
    assert dagster.run(CHAIN, PLAN.dates[0], PLAN.dates[-1]).success
    for table in CHAIN:
        assert materialized(dagster, table) == set(days)
    place.catch_up()
    with place.open() as warehouse:
        answer = expected(place.landing_folder, declared_datasets(), PLAN.dates, salt=SALT)
        assert disagreements(warehouse, answer, PLAN.dates) == []


def test_a_late_file_restates_its_day_and_exactly_the_days_made_of_it(place: Place, dagster: Orchestra) -> None:
    """The arrival sensor asks for the file's day, the restatement sensor for the days that its late rows and the reports' history reach."""
    story = tell(PLAN)
    (incident,) = [one for one in story.incidents if one.outcome is Outcome.LOADED_LATER]
    place.land(story.steps[0])
    place.catch_up()
    before = expected(place.landing_folder, declared_datasets(), PLAN.dates, salt=SALT)
    sensors = [f"{name}_arrives" for name in declared_datasets()]
    for name in [*sensors, "restatement"]:
        assert dagster.tick(name) == [], f"{name} asks for runs though all is done"

    day, late_day = incident.day, incident.day - timedelta(days=1)
    place.put(incident.keys[0], with_a_late_row(story, incident.keys[0], late_day))
    after = expected(place.landing_folder, declared_datasets(), PLAN.dates, salt=SALT)
    changed = changed_days(before, after)
    assert changed == {late_day, day}

    assert dagster.tick("restatement") == [], "what hasn't been loaded changes nothing yet"
    arrived = {name: dagster.settle(name) for name in sensors}
    chain = {("raw.sales", day), ("processed.sales", day), *((key, day) for key in reports_of_sales())}
    assert arrived == {name: chain if name == "sales_arrives" else set() for name in sensors}
    restated = dagster.settle("restatement")
    assert ("processed.sales", day) not in restated, "it was done when the file arrived"
    assert restated | chain == made_of(changed) | {("raw.sales", day)}

    with place.open() as warehouse:
        assert stale(warehouse) == {}
        assert disagreements(warehouse, after, PLAN.dates) == []
    for name in [*sensors, "restatement"]:
        assert dagster.tick(name) == []


def test_a_run_that_died_without_a_word_holds_no_day_up_for_ever(dagster: Orchestra) -> None:
    """A run whose process was killed stays under way in Dagster's eyes; sensors leave its days alone for an hour, and no longer."""
    day = PLAN.dates[0]
    run = dagster.begin_and_die(["raw.sales"], day)
    found = dagster.instance.get_run_by_id(run)
    assert found is not None
    assert found.status is dg.DagsterRunStatus.STARTED
    assert busy(dagster.instance).covers("raw.sales", day)
    assert busy(dagster.instance, lambda: time.time() + SILENT_AFTER_SECONDS / 2).covers("raw.sales", day)
    assert not busy(dagster.instance, lambda: time.time() + SILENT_AFTER_SECONDS + 60).covers("raw.sales", day)


def with_a_late_row(story: Story, key: str, late_day: date) -> bytes:
    """The late file, with one more row, of a day before."""
    (content,) = [arrival.content for arrival in story.steps[1].objects if arrival.key == key]
    _, first, *_ = content.decode().splitlines(keepends=True)
    # In the store's own dialect: only the line's number and its moment are others.
    late = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", f"{late_day} 18:00:00", first.replace("-0001-01", "-late-1", 1))
    return content + late.encode()


def changed_days(before: Expected, after: Expected) -> set[date]:
    """Days of processed sales that aren't what they were; nothing else has changed."""
    for name in after.processed.keys() - {"sales"}:
        assert all(before.day(name, day) == after.day(name, day) for day in PLAN.dates)
    days = before.processed["sales"].keys() | after.processed["sales"].keys()
    return {day for day in days if before.day("sales", day) != after.day("sales", day)}


def reports_of_sales() -> list[str]:
    """Keys of what is made of sales, straight or by way of another such table."""
    tables = declared_sql_tables("Africa/Johannesburg")
    found = {"processed.sales"}
    while more := {key for key, table in tables.items() if found & set(table.depends_on)} - found:
        found |= more
    return sorted(found - {"processed.sales"})


def made_of(changed: set[date]) -> Work:
    """The changed days of processed sales, every day of a report that reads one, and all days after of a state that is carried on."""
    tables = declared_sql_tables("Africa/Johannesburg")
    found: Work = {("processed.sales", day) for day in changed}
    for key in reports_of_sales():
        for day in PLAN.dates:
            reach = timedelta.max if tables[key].carries_on else timedelta(days=tables[key].history_days)
            if any(timedelta(0) <= day - one <= reach for one in changed):
                found.add((key, day))
    return found
