"""Live rules on a running stream: alerts land as records come, once each, and become rows."""

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ingestion_platform.alert import Alert
from ingestion_platform.live import judging
from ingestion_platform.live.landed_alerts import read_day
from ingestion_platform.live.visible import VisibleAlerts
from ingestion_platform.sources.drain import Drain
from ingestion_platform.sources.landed import LandedStream
from ingestion_platform.warehouse.agreement import read_notes
from ingestion_platform_tests.live.shop import DAY, NOON, SHOP, ZONE, Shop, payment
from ingestion_platform_tests.sources.memory import MemoryStream


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A deployment of its own."""
    return Shop(tmp_path)


class Landed:
    """Whoever wants to know what has landed."""

    def __init__(self) -> None:
        self.alerts: list[Alert] = []
        self.news = threading.Condition()

    def __call__(self, alerts: Sequence[Alert]) -> None:
        """Take note."""
        with self.news:
            self.alerts += alerts
            self.news.notify_all()

    def wait(self, count: int) -> list[Alert]:
        """Until so many have landed."""
        with self.news:
            assert self.news.wait_for(lambda: len(self.alerts) >= count, 30)
            return list(self.alerts)


def test_an_event_that_deserves_an_alert_is_a_row_of_alerts_at_once(shop: Shop) -> None:
    """The third payment within a minute lands an alert while the stream is followed, and it is in `processed.alerts`."""
    source, landed, visible_at = MemoryStream(), Landed(), threading.Event()
    visible = VisibleAlerts(shop.warehouse, lambda *_: visible_at.set())
    engine = shop.engine([landed], on_objects=visible.landed)
    stop = threading.Event()
    drain = Drain(shop.landed(), source, watchers=[engine], clock=lambda: shop.now)
    following = threading.Thread(target=drain.follow, args=(stop,))
    visible.start()
    engine.start()
    following.start()
    for number in range(4):
        at = NOON + timedelta(seconds=number)
        source.put("0", payment(number, "C1" if number != 1 else "C2", at), at)
    (alert,) = landed.wait(1)
    assert visible_at.wait(30)
    stop.set()
    for ends in (following.join, engine.close, visible.close):
        ends()
    assert (alert.rule, alert.deserved_by, alert.change, alert.ordinal) == ("too_fast", "P000003", "raised", 0)
    assert (alert.action, alert.priority, alert.day) == ("hold", 1, DAY)
    assert alert.about["customer"] != "C1"
    assert alert.reasons == ("3 events within 60 seconds, and more than 2 are too many",)
    assert read_day(shop.zone, DAY) == [alert]
    with shop.warehouse() as warehouse:
        rows = warehouse.read("processed.alerts").to_pylist()
    assert [(row["alert_id"], row["ordinal"], row["rule"]) for row in rows] == [(alert.id, 0, "too_fast")]


@pytest.mark.parametrize("segment_bytes", [1024**2, 700])
def test_what_comes_too_fast_is_judged_when_it_has_landed(shop: Shop, segment_bytes: int) -> None:
    """Records for which the queue has no room are counted, land as ever, and are judged from their segments: no alert is lost."""
    source, landed = MemoryStream(batch=10), Landed()
    engine = shop.engine([landed], most_queued=15)
    for number in range(200):
        at = NOON + timedelta(seconds=number)
        source.put("0", payment(number, f"C{number // 4}", at), at)
    stop = threading.Event()
    landed_stream = LandedStream(replace(SHOP, segment_bytes=segment_bytes), shop.zone, ZONE)
    drain = Drain(landed_stream, source, watchers=[engine], clock=lambda: shop.now)
    following = threading.Thread(target=drain.follow, args=(stop,))
    # Before it is started nothing is taken out of the queue.
    following.start()
    while not drain.states() or not drain.states()["0"].is_caught_up:
        threading.Event().wait(0.01)
    before = engine.standing()
    assert before.backlog == sum(before.left_out.values()) > 100
    assert "of the backlog left" in str(before)
    engine.start()
    alerts = landed.wait(100)
    until = time.monotonic() + 60
    while engine.standing().backlog and time.monotonic() < until:
        time.sleep(0.01)
    stop.set()
    following.join()
    engine.close()
    assert engine.standing().backlog == 0
    assert {one.deserved_by for one in alerts} == {f"P{number:06}" for number in range(200) if number % 4 > 1}
    assert len(alerts) == 100


def test_a_worker_without_a_salt_judges_nothing_and_says_so(shop: Shop) -> None:
    """Where personal values can't be hashed no alert is raised; the streams land on."""
    shop.settings = shop.settings.model_copy(update={"pii_salt": None})
    engine = shop.engine()
    engine.start()
    engine.close()
    assert "there is no salt" in engine.standing().problem


def test_shards_that_are_read_one_ahead_of_the_other_are_judged_whole(shop: Shop) -> None:
    """What a worker finds when it was away: the first shard gives its hours before the second begins. No event counts as late."""
    source, landed = MemoryStream(batch=1), Landed()
    engine = shop.engine([landed], horizon=timedelta(minutes=5))
    number = 0
    for shard in ("0", "1"):
        for minutes in (0, 60, 120):
            for second in range(3):
                at = NOON + timedelta(minutes=minutes, seconds=second)
                source.put(shard, payment(number, f"C{shard}", at), at)
                number += 1
    Drain(shop.landed(), source, watchers=[engine], clock=lambda: NOON + timedelta(hours=3)).to_now()
    engine.start()
    engine.close()
    assert engine.standing().late == 0
    assert sorted(one.deserved_by for one in landed.alerts) == [f"P{last:06}" for last in (2, 5, 8, 11, 14, 17)]


def test_an_event_that_comes_too_late_is_left_to_the_batch_and_noted(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once events are let go of, what belongs among them is counted, and its subject is in the worker's note."""
    monkeypatch.setattr(judging, "QUIET_SECONDS", 0.0)
    engine, source = shop.engine([], horizon=timedelta(minutes=5)), MemoryStream(batch=1)
    for number, minutes in enumerate((0, 1, 30, 31, 2)):
        at = NOON + timedelta(minutes=minutes)
        source.put("0", payment(number, "C1", at), NOON + timedelta(minutes=31))
    Drain(shop.landed(), source, watchers=[engine], clock=lambda: NOON + timedelta(hours=1)).to_now()
    engine.start()
    engine.close()
    (note,) = read_notes(shop.zone, DAY)
    assert [(one.rule, one.events) for one in note.left] == [("too_fast", 3)]
