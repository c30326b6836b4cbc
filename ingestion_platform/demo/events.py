"""
What the tills of the example business tell as it happens: events, and what goes wrong with them.

Belongs here: the events' bytes, their order, and what should become of them. Doesn't: the broker they are sent to (`broker.py`), the
files that
the stores send at closing time (`retailer.py`).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from random import Random

from ingestion_platform.demo import files
from ingestion_platform.demo.business import Business, Line, Store
from ingestion_platform.demo.plan import ZONE

TOPIC = "pos.events"
LATE_DAYS = 2
"""How long after its day the events of the till come that was offline."""


@dataclass(frozen=True, slots=True)
class TillEvent:
    """An event as a till sends it; *at* is when the stream takes it."""

    key: str
    value: bytes
    at: datetime
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Told:
    """
    Everything that the tills tell, and what goes wrong.

    Args:
        during: events of the days, by time.
        afterwards: events of the till that was offline, which come last.
        sales: sale events, each counted as often as it was sent.
        sessions: events of tills opened and closed.
        silent: the store and day of which nothing was told.
        offline: the store and day of which everything was told late.
        offline_lines: how many sales those were.
        twice: sales that were sent twice.
        unknown: events of a type that nobody declared.
        broken: events that can't be read.
    """

    during: tuple[TillEvent, ...] = field(repr=False)
    afterwards: tuple[TillEvent, ...] = field(repr=False)
    sales: int
    sessions: int
    silent: tuple[str, date]
    offline: tuple[str, date]
    offline_lines: int
    twice: int
    unknown: int
    broken: int

    @property
    def count(self) -> int:
        """All events."""
        return len(self.during) + len(self.afterwards)


def tell_events(business: Business) -> Told:
    """Make up what the tills tell in the days of the plan. Equal plans give equal events."""
    random = Random(f"{business.plan.seed}:events")
    dates = business.plan.dates
    old = [store for store in business.stores if store.opened_on < business.plan.first_day] or list(business.stores)
    chosen = random.sample(old, min(4, len(old)))
    silent, offline, broken_at, unknown_at = (chosen * 4)[:4]
    silent_on, offline_on = dates[min(3, len(dates) - 1)], dates[min(2, len(dates) - 1)]
    during: list[TillEvent] = []
    afterwards: list[TillEvent] = []
    sales = sessions = offline_lines = twice = unknown = broken = 0
    for day in dates:
        for store in business.roster(day):
            if (store, day) == (silent, silent_on):
                continue
            is_offline = (store, day) == (offline, offline_on)
            of_store: list[TillEvent] = []
            for line in business.lines(store, day):
                event = _sale(line)
                of_store.append(event)
                sales += 1
                offline_lines += is_offline
                # A till that gets no answer sends again.
                if not is_offline and random.random() < 0.002:
                    of_store.append(event)
                    sales += 1
                    twice += 1
            of_store += _sessions(store, day)
            sessions += 2
            if store == broken_at and day == dates[0]:
                broken_ones = list(_broken(store, day))
                of_store += broken_ones
                broken += len(broken_ones)
            if store == unknown_at:
                of_store.append(_unknown(store, day))
                unknown += 1
            if is_offline:
                late = timedelta(days=LATE_DAYS)
                afterwards += [TillEvent(one.key, one.value, one.at + late, one.headers) for one in of_store]
            else:
                during += of_store
    during.sort(key=lambda one: one.at)
    afterwards.sort(key=lambda one: one.at)
    return Told(
        tuple(during), tuple(afterwards), sales, sessions, (silent.store_id, silent_on), (offline.store_id, offline_on),
        offline_lines, twice, unknown, broken,
    )  # fmt: skip


def _event(store_id: str, at: datetime, text: str, till: str = "1") -> TillEvent:
    return TillEvent(store_id, text.encode(), at + timedelta(seconds=1), {"till": f"{store_id}-{till}"})


def _sale(line: Line) -> TillEvent:
    # json.dumps would write 12.5 for 12.50, so that amounts are put in by hand
    customer = f',"loyalty":{{"customer_id":{json.dumps(line.customer_id)}}}' if line.customer_id else ""
    return _event(
        line.store_id,
        line.sold_at.replace(tzinfo=ZONE),
        f'{{"event_type":"sale","transaction_id":{json.dumps(line.transaction_id)},"store_id":{json.dumps(line.store_id)},'
        f'"sold_at":"{line.sold_at.replace(tzinfo=ZONE).isoformat()}","product_id":{json.dumps(line.product_id)},'
        f'"quantity":{line.quantity},"unit_price_zar":{files.zar(line.unit_price_cents)},'
        f'"amount_zar":{files.zar(line.amount_cents)},"payment":{{"method":{json.dumps(line.payment_method)}}}{customer}}}',
        str(line.basket % 3 + 1),
    )


def _sessions(store: Store, day: date) -> Iterator[TillEvent]:
    for kind, hour, cash in (("till_opened", 7, "500.00"), ("till_closed", 20, "1500.00")):
        at = datetime.combine(day, time(hour, 30), ZONE)
        yield _event(
            store.store_id,
            at,
            f'{{"event_type":"{kind}","event_id":"{store.store_id}-{day:%Y%m%d}-{kind}","store_id":{json.dumps(store.store_id)},'
            f'"happened_at":"{at.isoformat()}","cash_zar":{cash}}}',
        )


def _unknown(store: Store, day: date) -> TillEvent:
    at = datetime.combine(day, time(11), ZONE)
    return _event(store.store_id, at, f'{{"event_type":"price_override","by":"M07","at":"{at.isoformat()}"}}')


def _broken(store: Store, day: date) -> Iterator[TillEvent]:
    at = datetime.combine(day, time(12), ZONE)
    for content in (b'{"event_type":"sale","transaction_id":"cut', b"\x00\xff\xfe not text", b'["no", "object"]'):
        yield TillEvent(store.store_id, content, at, {"till": f"{store.store_id}-1"})
