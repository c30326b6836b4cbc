"""The declared rules on a day with planted cases: every one is found, hardly anything else is, and live agrees with the batch."""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from ingestion_platform.alert import Alert
from ingestion_platform.assembly import declared_datasets, declared_rules, declared_sql_tables
from ingestion_platform.datasets.point_of_sale import pos
from ingestion_platform.demo import FolderProducer, Plan, tell
from ingestion_platform.demo.business import Business
from ingestion_platform.demo.plan import ZONE
from ingestion_platform.formats.segments import write_segment
from ingestion_platform.landing import open_landing
from ingestion_platform.live.engine import LiveRules
from ingestion_platform.live.landed_alerts import read_day
from ingestion_platform.orchestration.assets import agreement_of
from ingestion_platform.settings import Settings
from ingestion_platform.sources.drain import Drain
from ingestion_platform.sources.landed import LandedStream
from ingestion_platform.stream import Span
from ingestion_platform.warehouse import Agreement, Warehouse
from ingestion_platform_tests.live.planted import Planted, habits, plant
from ingestion_platform_tests.sources.memory import MemoryStream, Record, envelope

PLAN = Plan(stores=6, days=6, lines_per_store_day=20, troubles=frozenset())
DAY = PLAN.dates[-1]
SHARD = "watched"


class Judged:
    """What became of the planted day."""

    planted: Planted
    alerts: list[Alert]
    agreement: Agreement
    batch: list[dict[str, Any]]
    units: dict[tuple[str, str], tuple[int, int]]
    sold: list[dict[str, Any]]
    problem: str


def _land(zone: Any, events: Sequence[tuple[bytes, datetime]], first: int) -> int:
    """Land events of an hour or more as segments of their hours; the next position."""
    by_hour: dict[datetime, list[Record]] = defaultdict(list)
    for number, (value, at) in enumerate(sorted(events, key=lambda one: one[1])):
        hour = at.astimezone(ZONE).replace(minute=0, second=0, microsecond=0, tzinfo=None)
        by_hour[hour].append(Record(first + number, at, value))
    for hour, records in sorted(by_hour.items()):
        span = Span(records[0].position, records[-1].position)
        content = write_segment([envelope(records)], stream=pos.name, shard=SHARD, span=span)
        assert zone.put_if_absent(pos.segment_key(hour, SHARD, span), content)
    return first + len(events)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """The example business of six days; the last one is watched live, then computed."""
    folder: Path = tmp_path_factory.mktemp("planted")
    business, datasets, rules = Business(PLAN), declared_datasets(), declared_rules()
    settings = Settings(
        landing=str(folder / "landing"), warehouse=folder / "warehouse.duckdb", publish=folder / "published",
        timezone=ZONE.key, pii_salt=SecretStr("salt"), threads=2,
    )  # fmt: skip
    sql_tables = declared_sql_tables(ZONE.key)
    tell(PLAN).steps[0].land(FolderProducer(Path(settings.landing)))
    zone = open_landing(settings.landing)
    position = _land(zone, list(habits(business, PLAN.dates[:2])), 0)
    found = Judged()
    with Warehouse(settings, zone, datasets, sql_tables) as warehouse:
        for name, days in (
            ("stores", [PLAN.dates[0], DAY]),
            ("products", [PLAN.dates[0], DAY]),
            ("stock_counts", [DAY]),
            ("payments", PLAN.dates[:2]),
            ("pos_events", PLAN.dates[-3:-1]),
        ):
            for day in days:
                warehouse.load(datasets[name], day)
            for day in days:
                warehouse.process(datasets[name], day)
        warehouse.derive(sql_tables["processed.customer_habits"], PLAN.dates[1])
        warehouse.derive(sql_tables["processed.stock_watch"], DAY)
        rows = warehouse.read("processed.stock_watch", first=DAY, last=DAY).to_pylist()
    found.units = {(row["store_id"], row["product_id"]): (row["units"], row["runs_low_below"]) for row in rows}
    found.planted = plant(business, DAY, found.units)
    source = MemoryStream(batch=400)
    source.shards[SHARD] = [
        Record(position + number, at, value) for number, (value, at) in enumerate(found.planted.events)
    ]
    now = datetime(DAY.year, DAY.month, DAY.day, 23, tzinfo=ZONE)
    engine = LiveRules(
        rules, datasets, [pos], zone=zone, settings=settings, clock=lambda: now, settled_seconds=1.0, slow_seconds=300.0,
        open_warehouse=lambda: Warehouse(settings, zone, datasets, sql_tables),
    )  # fmt: skip
    stop, drain = threading.Event(), Drain(LandedStream(pos, zone, ZONE), source, watchers=[engine], clock=lambda: now)
    following = threading.Thread(target=drain.follow, args=(stop,))
    engine.start()
    following.start()
    until = time.monotonic() + 200
    while time.monotonic() < until and not (
        engine.is_settled and SHARD in drain.states() and drain.states()[SHARD].is_caught_up
    ):
        time.sleep(0.02)
    while engine.standing().queued:
        time.sleep(0.02)
    stop.set()
    following.join()
    engine.close()
    found.problem = engine.standing().problem
    found.alerts = read_day(zone, DAY)
    with Warehouse(settings, zone, datasets, sql_tables) as warehouse:
        for name in rules.datasets:
            for day in (PLAN.dates[-2], DAY):
                warehouse.load(datasets[name], day)
                warehouse.process(datasets[name], day)
        table = sql_tables["processed.alerts_in_batch"]
        warehouse.derive(table, DAY)
        agreement = agreement_of(warehouse, table, DAY)
        assert agreement is not None
        found.agreement = agreement
        found.batch = warehouse.read(table.key, first=DAY, last=DAY).to_pylist()
        found.sold = warehouse.read("processed.pos_events", first=DAY, last=DAY).to_pylist()
    return found


def test_live_and_batch_agree(judged: Judged) -> None:
    """Every alert that stands live is one of the batch, and the other way round; none was withdrawn."""
    assert judged.problem == ""
    assert judged.agreement.differences == ()
    assert judged.agreement.both == len(judged.batch) == len(judged.alerts)
    assert {(one.change, one.ordinal) for one in judged.alerts} == {("raised", 0)}


def test_every_planted_case_is_found_and_nothing_else(judged: Judged) -> None:
    """Recall 1 and precision 1 of frauds, warm freezers and spikes."""
    found: dict[str, set[str]] = defaultdict(set)
    for one in judged.alerts:
        # The example business has a stolen card and an open freezer of its own on its last day.
        if f"{DAY:%Y%m%d}" not in one.deserved_by:
            found[one.rule].add(one.deserved_by)
    for rule in ("card_fraud", "warm_freezer", "payments_jump", "payments_fail"):
        assert found[rule] == judged.planted.deserved[rule], rule


def test_every_product_that_runs_low_is_found_and_no_other(judged: Judged) -> None:
    """Low stock is what plain subtraction says, product by product; an alert says how much to order."""
    left = {place: units for place, (units, _) in judged.units.items()}
    expected, told = Counter[tuple[str, str]](), set()
    for row in sorted(judged.sold, key=lambda one: (one["sold_at"], one["transaction_id"])):
        place = row["store_id"], row["product_id"]
        if place not in left:
            continue
        before, low = left[place], judged.units[place][1]
        left[place] -= row["quantity"]
        if left[place] < low and (before >= low or place not in told):
            expected[place] += 1
        told.add(place)
    low_stock = [one for one in judged.alerts if one.rule == "low_stock"]
    assert Counter((one.about["store_id"], one.about["product_id"]) for one in low_stock) == expected
    assert {f"L{number}" for number in range(6)} <= {one.deserved_by for one in low_stock}
    assert all(int(one.details["reorder"]) > 0 for one in low_stock)


def test_an_alert_tells_what_is_to_be_done(judged: Judged) -> None:
    """Of frauds the score decides; reasons are in words, and nobody's number is in them."""
    frauds = [one for one in judged.alerts if one.rule == "card_fraud"]
    assert {one.action for one in frauds} <= {"hold", "notify", "review"}
    assert len({one.action for one in frauds}) > 1
    assert not any("LC0" in str(one.line()) or "TOKEN" in str(one.line()) for one in judged.alerts)
    assert all(one.happened_at - timedelta(days=1) < one.raised_at for one in judged.alerts)
