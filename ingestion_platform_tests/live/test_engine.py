"""Live rules on a running stream: alerts land as records come, once each, and become rows."""

import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from ingestion_platform.alert import Alert
from ingestion_platform.live.landed_alerts import read_day
from ingestion_platform.live.visible import VisibleAlerts
from ingestion_platform.sources.drain import Drain
from ingestion_platform_tests.live.shop import DAY, NOON, Shop, payment
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
    visible = VisibleAlerts(shop.warehouse, lambda _: visible_at.set())
    engine = shop.engine([landed, lambda alerts: visible.landed({one.day for one in alerts})])
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
