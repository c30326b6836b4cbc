"""The batch comes to what was raised live, and what differs has a reason or is told."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ingestion_platform.formats.segments import write_segment
from ingestion_platform.orchestration.assets import agreement_of
from ingestion_platform.orchestration.checks import judge_agreement
from ingestion_platform.rules.notes import Left, Note
from ingestion_platform.stream import Span
from ingestion_platform.warehouse.agreement import NOBODY_JUDGED, Agreement, read_notes
from ingestion_platform_tests.live.shop import DAY, NOON, SHOP, Shop, payment, reading
from ingestion_platform_tests.sources.memory import Record, envelope


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A deployment of its own."""
    return Shop(tmp_path)


def land(shop: Shop, values: Sequence[tuple[bytes, datetime]], first: int = 0, shard: str = "0") -> None:
    """Land records of a shard as one segment."""
    records = [Record(first + number, at, value) for number, (value, at) in enumerate(values)]
    span = Span(first, first + len(records) - 1)
    hour = shop.landed().hour_of(values[-1][1])
    content = write_segment([envelope(records)], stream=SHOP.name, shard=shard, span=span)
    assert shop.zone.put_if_absent(SHOP.segment_key(hour, shard, span), content)


def batch(shop: Shop) -> Agreement:
    """Load and process the day, judge it, and hold it against what was raised live."""
    with shop.warehouse() as warehouse:
        for name in ("paid", "readings"):
            warehouse.load(shop.datasets[name], DAY)
            warehouse.process(shop.datasets[name], DAY)
        table = shop.sql_tables["processed.alerts_in_batch"]
        warehouse.derive(table, DAY)
        found = agreement_of(warehouse, table, DAY)
        assert found is not None
        return found


def judge_landed(shop: Shop) -> None:
    """Start live rules on what has landed, and end them."""
    engine = shop.engine()
    engine.start()
    engine.close()


def some_payments(customer: str, first: int = 0, count: int = 4) -> list[tuple[bytes, datetime]]:
    """Payments of a customer, ten seconds apart."""
    moments = [NOON + timedelta(seconds=10 * number) for number in range(count)]
    return [(payment(first + number, customer, at), at) for number, at in enumerate(moments)]


def test_live_and_batch_come_to_the_same_alerts(shop: Shop) -> None:
    """Velocity and a warm freezer, from landed segments: the same ids, and the check says so."""
    moments = [NOON + timedelta(minutes=number) for number in range(14)]
    readings = [(reading(number, "F1", at, -5 if 1 < number < 14 else -20), at) for number, at in enumerate(moments)]
    land(shop, [*some_payments("C1"), *some_payments("C2", 10, 2), *readings])
    judge_landed(shop)
    found = batch(shop)
    assert (found.both, found.differences, found.was_judged) == (3, (), True)
    verdict = judge_agreement(found)
    assert (verdict.passed, verdict.story) == (True, "all 3 alerts were raised live")
    with shop.warehouse() as warehouse:
        rows = warehouse.read("processed.alerts_in_batch").to_pylist()
    assert sorted((row["rule"], row["deserved_by"]) for row in rows) == [
        ("too_fast", "P000002"),
        ("too_fast", "P000003"),
        ("warm", "R000002"),
    ]


def test_an_event_that_the_contract_sets_aside_deserves_no_alert(shop: Shop) -> None:
    """A payment with an amount that isn't one counts neither live nor in the batch."""
    payments = some_payments("C1", count=3)
    at = payments[1][1]
    payments[1] = (
        json.dumps(
            {"type": "paid", "id": "P1", "paid_at": at.isoformat(), "customer": "C1", "amount_zar": "x"}
        ).encode(),
        at,
    )
    land(shop, payments)
    judge_landed(shop)
    found = batch(shop)
    assert (found.both, found.differences) == (0, ())


def test_a_day_that_nobody_judged_is_told_and_fails_nothing(shop: Shop) -> None:
    """Without a worker the check passes, and says that only the batch told the alerts."""
    land(shop, some_payments("C1"))
    verdict = judge_agreement(batch(shop))
    assert verdict.passed
    assert verdict.story == "no worker judged on this day: 2 alerts are told by the batch alone"


def test_events_that_came_while_nobody_judged_are_known_to_be_why(shop: Shop) -> None:
    """What arrived after the last worker had ended is a known reason."""
    land(shop, some_payments("C1", count=1))
    judge_landed(shop)
    later = [(value, at + timedelta(minutes=5)) for value, at in some_payments("C1", 10, 3)]
    land(shop, later, first=1)
    found = batch(shop)
    assert {one.why for one in found.differences} == {NOBODY_JUDGED}
    assert judge_agreement(found).passed


def test_an_alert_that_is_missing_for_no_known_reason_fails_the_check(shop: Shop) -> None:
    """Had a worker said that it judged until later, nothing explains the missing alert."""
    land(shop, some_payments("C1"))
    note = Note(DAY, NOON, NOON + timedelta(hours=1))
    shop.zone.put_if_absent(note.key, note.written())
    found = batch(shop)
    verdict = judge_agreement(found)
    assert not verdict.passed
    assert "2 for no known reason; the first: too_fast" in verdict.story
    assert "is deserved, and wasn't raised live" in verdict.story


def test_what_was_left_to_the_batch_is_known_to_be_why(shop: Shop) -> None:
    """A note says of a subject that events of it came too late."""
    land(shop, some_payments("C1"))
    with_missing = batch(shop)
    about = json.loads(with_missing.differences[0].about)
    note = Note(DAY, NOON, NOON + timedelta(hours=1), (Left("too_fast", about, "too late", 1),))
    shop.zone.put_if_absent(note.key, note.written())
    assert read_notes(shop.zone, DAY) == [note]
    found = batch(shop)
    assert {one.why for one in found.differences} == {"too late"}
    assert judge_agreement(found).passed
