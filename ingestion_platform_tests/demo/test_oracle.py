"""The independent calculation: it agrees with what the generator knows, and every incident comes out as its story says."""

from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ingestion_platform.dataset import Daily, Dataset, Datasets, LandedFiles
from ingestion_platform.demo import Incident, Outcome, Plan, Story
from ingestion_platform.demo.business import Business
from ingestion_platform.format import Csv
from ingestion_platform.table import INTEGER, TIMESTAMP, VARCHAR, Column, decimal
from ingestion_platform_tests.demo.conftest import HEALTHY, PLAN
from ingestion_platform_tests.oracle import Expected, expected

NOT_TOLD = {"alerts"}
"""What only a worker lands, while the business runs."""
Told = Callable[[Plan, int], tuple[Story, Expected]]


def test_a_healthy_plan_loses_nothing(told: Told, declared: Datasets) -> None:
    """Of files nothing is rejected, quarantined, superseded or a duplicate; every till line, payment and delivery is a row."""
    _, answer = told(HEALTHY, 1)
    files = [name for name, dataset in declared.items() if isinstance(dataset.source, LandedFiles)]
    days = [found for name in files for found in answer.processed[name].values()]
    assert not any(answer.rejected.values())
    assert not any(answer.duplicates[name] for name in files)
    assert not any(answer.unknown_columns[name] for name in files)
    assert not any(found.quarantined or found.superseded for found in days)
    truth = list(Business(HEALTHY).days())
    for name, count in {
        "sales": sum(len(one.lines) for one in truth),
        "mobile_payments": sum(len(one.payments) for one in truth),
        "deliveries": sum(len(one.delivery.lines) for one in truth if one.delivery),
        "stock_counts": sum(len(one.count) for one in truth),
    }.items():
        assert sum(len(found.rows) for found in answer.processed[name].values()) == count


def test_totals_equal_what_the_generator_knows(told: Told) -> None:
    """Net sales, reconciliation and stock of each store and day are the sums of the facts, to the cent and the unit."""
    _, answer = told(HEALTHY, 1)
    for one in Business(HEALTHY).days():
        (sold,) = of_store(answer, "daily_sales", one.day, one.store.store_id)
        assert sold["net_zar"] * 100 == sum(line.amount_cents for line in one.lines)
        assert sold["sales_zar"] * 100 == sum(line.amount_cents for line in one.lines if line.quantity >= 0)
        assert sold["units"] == sum(line.quantity for line in one.lines)
        assert sold["transactions"] == len(one.lines)
        assert (sold["store_name"], sold["region"]) == (one.store.name, one.store.region)
        (paid,) = of_store(answer, "reconciliation", one.day, one.store.store_id)
        assert paid["till_zar"] * 100 == sum(line.amount_cents for line in one.lines if line.payment_method == "mobile")
        assert paid["provider_zar"] * 100 == sum(payment.amount_cents for payment in one.payments)
        delivered = sum(units for _, units, _ in one.delivery.lines) if one.delivery else 0
        stock = of_store(answer, "stock_position", one.day, one.store.store_id)
        assert sum(row["units_counted"] for row in stock) == sum(one.count.values())
        assert sum(row["units_on_hand"] for row in stock) == sum(one.count.values()) + delivered - sold["units"]


def of_store(answer: Expected, report: str, day: date, store_id: str) -> list[dict[str, Any]]:
    """A report's rows of a store and day."""
    return [row for row in answer.reports[report][day] if row["store_id"] == store_id]


def test_reports_agree_with_each_other(told: Told) -> None:
    """Net sales of a day are the same by store, by payment method and in the comparison; shares add up to a hundred."""
    _, answer = told(PLAN, 2)
    for day in PLAN.dates:
        by_store = sum(row["net_zar"] for row in answer.reports["daily_sales"][day])
        assert sum(row["net_zar"] for row in answer.reports["payment_mix"][day]) == by_store
        assert sum(row["net_zar"] for row in answer.reports["store_comparison"][day]) == by_store
        gross = sum(row["sales_zar"] for row in answer.reports["daily_sales"][day])
        assert sum(row["sales_zar"] for row in answer.reports["peak_hours"][day]) == gross
        for region in {row["region"] for row in answer.reports["payment_mix"][day]}:
            shares = [row["share_pct"] for row in answer.reports["payment_mix"][day] if row["region"] == region]
            assert abs(sum(shares) - 100) <= Decimal("0.02")


def fate(incident: Incident, answer: Expected) -> None:
    """Assert that an incident has come out."""
    (key, *_), sales = incident.keys, answer.processed["sales"]
    quarantined = {row.row: row.rules for found in sales.values() for row in found.quarantined if row.object == key}
    superseded = {row for found in sales.values() for object_, row in found.superseded if object_ == key}
    match incident.outcome:
        case Outcome.MISSING:
            assert key not in answer.loaded["sales"]
            assert key not in answer.rejected["sales"]
        case Outcome.REJECTED:
            assert key in answer.rejected["sales"]
        case Outcome.DUPLICATE:
            assert answer.duplicates["sales"][key] == incident.duplicate_of
            assert incident.duplicate_of in answer.loaded["sales"]
        case Outcome.QUARANTINED:
            assert quarantined == incident.rows
        case Outcome.SUPERSEDED:
            assert superseded == set(incident.rows)
        case Outcome.OTHER_DAY:
            for day, count in incident.event_days.items():
                assert sum(row["_object"] == key for row in sales[day].rows) == count
        case Outcome.KEPT:
            assert incident.column is not None
            assert all(answer.unknown_columns["sales"][each] == (incident.column,) for each in incident.keys)
        case _:
            assert key in answer.loaded["sales"]
            assert not quarantined
            assert not superseded


@pytest.mark.parametrize("seed", [PLAN.seed, 2, 3])
def test_every_incident_comes_out_as_its_story_says(told: Told, seed: int) -> None:
    """After the last step each incident's outcome is what the files give."""
    story, answer = told(Plan(14, 7, seed=seed, lines_per_store_day=25, troubles=PLAN.troubles), 2)
    for incident in story.incidents:
        fate(incident, answer)


def test_after_the_first_step_late_and_half_files_are_not_there(told: Told) -> None:
    """What arrives afterwards is missing or rejected before; a rewritten file stands in its first version."""
    story, answer = told(PLAN, 1)
    for incident in story.incidents:
        (key, *_) = incident.keys
        if incident.outcome is Outcome.LOADED_LATER:
            assert key not in answer.loaded["sales"] + answer.rejected["sales"]
        elif incident.outcome is Outcome.REJECTED_THEN_LOADED:
            assert key in answer.rejected["sales"]
        elif incident.outcome is Outcome.REPLACED:
            assert key in answer.loaded["sales"]
        else:
            fate(incident, answer)


def test_troubles_cost_the_healthy_rows_nothing(told: Told) -> None:
    """Every row that the troubled plan has in common with the healthy one's files is processed as there."""
    healthy, troubled = told(HEALTHY, 1)[1], told(PLAN, 2)[1]
    story = told(PLAN, 2)[0]
    named = {key for incident in story.incidents for key in incident.keys}
    for day in PLAN.dates:
        before = [row for row in healthy.day("sales", day).rows if row["_object"] not in named]
        after = [row for row in troubled.day("sales", day).rows if row["_object"] not in named]
        assert before == after
        for name in ("stores", "products", "mobile_payments", "deliveries", "stock_counts"):
            assert healthy.day(name, day).rows == troubled.day(name, day).rows


def test_personal_values_are_left_out(told: Told, declared: Datasets) -> None:
    """Rows have every declared column but the masked ones, which depend on the salt."""
    _, answer = told(HEALTHY, 1)
    # Without a worker nobody raises alerts.
    for name, dataset in ((name, dataset) for name, dataset in declared.items() if name != "alerts"):
        shown = {column.name for column in dataset.columns if column.pii is None}
        rows = answer.day(name, HEALTHY.dates[0]).rows
        if name in NOT_TOLD:
            assert not rows
            continue
        (row, *_) = rows
        assert set(row) == shown | {"_day", "_landed_on", "_object", "_row"}


EVENTS = Dataset(
    name="events",
    description="A line.",
    source=LandedFiles("events/%Y/%m/%d/{sender}.csv", Csv()),
    columns=(
        Column("event_id", VARCHAR, "Key.", required=True),
        Column("happened_at", TIMESTAMP, "When.", required=True),
        Column("units", INTEGER, "How many."),
        Column("amount_zar", decimal(6, 2), "How much."),
    ),
    primary_key=("event_id",),
    event_time="happened_at",
    daily=Daily(date(2024, 10, 1), allowed_lateness_days=1),
)


def of_events(root: Path, **contents: str) -> Expected:
    """What is expected of objects of 2024-10-02 by sender."""
    for sender, content in contents.items():
        path = root / f"events/2024/10/02/{sender}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"event_id,happened_at,units,amount_zar\n{content}")
    return expected(root, {"events": EVENTS}, ())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12.5", "12.50"),
        ("12", "12.00"),
        ("12.500", "12.50"),
        ("-9999.99", "-9999.99"),
        ("12.345", None),
        ("10000", None),
        (" 1", None),
    ],
)
def test_decimals_are_exact(tmp_path: Path, text: str, value: str | None) -> None:
    """A number with more digits than declared isn't rounded: it is no value."""
    found = of_events(tmp_path, a=f"1,2024-10-02 09:00:00,,{text}\n").day("events", date(2024, 10, 2))
    assert [str(row["amount_zar"]) for row in found.rows] == ([value] if value is not None else [])
    rules = [row.rules for row in found.quarantined]
    assert rules == ([] if value is not None else [{"amount_zar: not DECIMAL(6,2)"}])


@pytest.mark.parametrize("text", ["1.7", "1.0", "1e2", " 2", "2147483648", "0x10", "١"])
def test_integers_are_exact(tmp_path: Path, text: str) -> None:
    """What isn't a whole number in plain digits, or too large a one, is no value."""
    found = of_events(tmp_path, a=f"1,2024-10-02 09:00:00,{text},\n").day("events", date(2024, 10, 2))
    assert [row.rules for row in found.quarantined] == [{"units: not INTEGER"}]


def test_a_row_belongs_to_the_local_day_of_its_event(tmp_path: Path) -> None:
    """Offsets are honoured, texts without one are local, and the day is the business's, not UTC's."""
    answer = of_events(
        tmp_path,
        a="1,2024-10-02T00:30:00,,\n2,2024-10-01T21:59:59Z,,\n3,2024-10-01T22:00:00Z,,\n"
        "4,2024-09-30T21:59:59Z,,\n5,2024-10-03 00:00:00,,\n",
    )
    second, first = answer.day("events", date(2024, 10, 2)), answer.day("events", date(2024, 10, 1))
    assert [row["event_id"] for row in second.rows] == ["1", "3"]
    assert second.rows[0]["happened_at"] == datetime(2024, 10, 1, 22, 30)
    assert [row["event_id"] for row in first.rows] == ["2"]
    assert {row.row: row.rules for row in second.quarantined} == {
        4: {"happened_at: too late"},
        5: {"happened_at: after its object's day"},
    }


def test_the_last_row_of_a_key_stands(tmp_path: Path) -> None:
    """The later event time wins, then the later object key, then the later row; broken rows don't take part."""
    answer = of_events(
        tmp_path,
        a="1,2024-10-02 09:00:00,1,\n1,2024-10-02 10:00:00,2,\n1,2024-10-02 11:00:00,x,\n2,2024-10-02 09:00:00,1,\n",
        b="2,2024-10-02 09:00:00,2,\n2,2024-10-02 09:00:00,3,\n",
    ).day("events", date(2024, 10, 2))
    assert {row["event_id"]: row["units"] for row in answer.rows} == {"1": 2, "2": 3}
    assert answer.superseded == [
        ("events/2024/10/02/a.csv", 1),
        ("events/2024/10/02/a.csv", 4),
        ("events/2024/10/02/b.csv", 1),
    ]
    assert [row.row for row in answer.quarantined] == [3]


def test_equal_objects_count_once_unless_they_are_empty(tmp_path: Path) -> None:
    """The shorter name wins, then the first; objects without a record are no duplicates."""
    answer = of_events(tmp_path, bb="1,2024-10-02 09:00:00,,\n", c="1,2024-10-02 09:00:00,,\n", d="", e="")
    assert answer.duplicates["events"] == {"events/2024/10/02/bb.csv": "events/2024/10/02/c.csv"}
    assert [key[-5:] for key in answer.loaded["events"]] == ["c.csv", "d.csv", "e.csv"]
