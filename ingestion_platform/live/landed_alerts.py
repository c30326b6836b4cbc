"""
Alerts in the landing zone: how each stands by what has landed, and the changes that land next.

Belongs here: ids, ordinals and objects. Doesn't: what is deserved (`judging.py`).

An alert's changes are numbered: 0 raised, 1 withdrawn, 2 raised again. What has landed decides which comes next, so that whoever is started
anew raises nothing twice, and two who judge the same land the same.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime

from ingestion_platform import alert as alert_room
from ingestion_platform.alert import Alert
from ingestion_platform.landing import LandingZone
from ingestion_platform.rules.judge import Deserved


class LandedAlerts:
    """
    Alerts as they stand in the landing zone. Of one thread.

    Args:
        zone: where they land.
        clock: the moment in UTC.
    """

    def __init__(self, zone: LandingZone, clock: Callable[[], datetime]) -> None:
        self._zone = zone
        self._clock = clock
        self._last: dict[date, dict[str, Alert]] = {}

    def of_day(self, day: date) -> dict[str, Alert]:
        """Id → the last change of each alert of a day; listed when first asked for."""
        known = self._last.get(day)
        if known is None:
            known = self._last[day] = {}
            for one in read_day(self._zone, day):
                self._note(known, one)
        return known

    @staticmethod
    def _note(known: dict[str, Alert], one: Alert) -> None:
        last = known.get(one.id)
        if last is None or one.ordinal > last.ordinal:
            known[one.id] = one

    def changes(self, raised: Iterable[Deserved], withdrawn: Iterable[Deserved]) -> list[Alert]:
        """What of it is news, with its ordinals; withdrawn first."""
        now = self._clock()
        found: list[Alert] = []
        changed: dict[str, Alert] = {}
        for change, deserved in (("withdrawn", withdrawn), ("raised", raised)):
            for one in deserved:
                alert = one.alert(change, 0, now)
                last = changed.get(alert.id) or self.of_day(one.day).get(alert.id)
                if change == ("raised" if last is None or last.change == "withdrawn" else "withdrawn"):
                    news = one.alert(change, last.ordinal + 1 if last is not None else 0, now)
                    changed[news.id] = news
                    found.append(news)
        return sorted(found, key=lambda one: (one.priority, one.happened_at, one.ordinal))

    def withdrawals(self, ids: Iterable[str], day: date) -> list[Alert]:
        """Changes that withdraw alerts which stand."""
        now = self._clock()
        return [_withdrawn(self.of_day(day)[one], now) for one in ids]

    def land(self, alerts: Sequence[Alert]) -> list[tuple[date, str]]:
        """
        Land changes, those of a day in one object.

        Returns:
            Days and keys of these.

        Raises:
            LandingError: they can't be written; those of the days before have landed.
        """
        by_day: dict[date, list[Alert]] = defaultdict(list)
        for one in alerts:
            by_day[one.day].append(one)
        landed: list[tuple[date, str]] = []
        for day, of_day in sorted(by_day.items()):
            content = alert_room.written(of_day)
            key = alert_room.key_of(day, self._clock(), content)
            self._zone.put_if_absent(key, content)
            landed.append((day, key))
            for one in of_day:
                self._note(self.of_day(day), one)
        return landed

    def forget(self, before: date) -> None:
        """Let go of days that nothing is judged of any more."""
        for day in [one for one in self._last if one < before]:
            del self._last[day]


def read_day(zone: LandingZone, day: date) -> list[Alert]:
    """
    The changes of alerts that have landed of a day, as they are listed.

    Raises:
        LandingError: they can't be read.
    """
    found: list[Alert] = []
    for landed in zone.list(f"{alert_room.ROOT}{day:%Y/%m/%d}/"):
        found += alert_room.read(zone.read(landed), day)
    return found


def _withdrawn(alert: Alert, now: datetime) -> Alert:
    return Alert(
        rule=alert.rule, about=alert.about, deserved_by=alert.deserved_by, happened_at=alert.happened_at, day=alert.day,
        change="withdrawn", ordinal=alert.ordinal + 1, raised_at=now, priority=alert.priority, action=alert.action, score=alert.score,
        reasons=alert.reasons, dataset=alert.dataset, details=alert.details,
    )  # fmt: skip
