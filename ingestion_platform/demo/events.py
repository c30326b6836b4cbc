"""
What the tills of the example business tell as it happens: events, and what goes wrong with them.

Belongs here: the events' bytes, their order, and what should become of them. Doesn't: the broker they are sent to (`broker.py`), the
files that
the stores send at closing time (`retailer.py`).
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from random import Random

import pyarrow as pa

from ingestion_platform.datasets.point_of_sale import pos
from ingestion_platform.demo import files, watched
from ingestion_platform.demo.business import Business, Line, Points, Store
from ingestion_platform.demo.event import TillEvent
from ingestion_platform.demo.plan import ZONE
from ingestion_platform.formats.segments import DENSE_ENVELOPE, write_segment
from ingestion_platform.stream import Span

SHARDS = 3
BLOCK_HOURS = 6
LATE_DAYS = 2
"""How long after its day the events of the till come that was offline."""


@dataclass(frozen=True, slots=True)
class Told:
    """
    Everything that the tills tell, and what goes wrong.

    Args:
        during: events of the days, by time.
        afterwards: events of the till that was offline, which come last.
        sales: sale events, each counted as often as it was sent.
        sessions: events of tills opened and closed.
        points: events of loyalty points earned and redeemed.
        watched: payments by card and readings of freezers, those of the last evening among them.
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
    points: int
    watched: int
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
    sales = sessions = points = watched_ones = offline_lines = twice = unknown = broken = 0
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
            of_loyalty = [_points(one) for one in business.points(store, day)]
            of_store += of_loyalty
            points += len(of_loyalty)
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
        of_day = list(watched.everyday(business, day))
        if day == dates[-1]:
            of_day += [event for one in watched.planted(business) for event in one.events]
        during += of_day
        watched_ones += len(of_day)
    during.sort(key=lambda one: one.at)
    afterwards.sort(key=lambda one: one.at)
    return Told(
        tuple(during), tuple(afterwards), sales, sessions, points, watched_ones, (silent.store_id, silent_on),
        (offline.store_id, offline_on), offline_lines, twice, unknown, broken,
    )  # fmt: skip


def _sale(line: Line) -> TillEvent:
    # json.dumps would write 12.5 for 12.50, so that amounts are put in by hand
    customer = f',"loyalty":{{"customer_id":{json.dumps(line.customer_id)}}}' if line.customer_id else ""
    return TillEvent.of(
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
        yield TillEvent.of(
            store.store_id,
            at,
            f'{{"event_type":"{kind}","event_id":"{store.store_id}-{day:%Y%m%d}-{kind}","store_id":{json.dumps(store.store_id)},'
            f'"happened_at":"{at.isoformat()}","cash_zar":{cash}}}',
        )


def _points(one: Points) -> TillEvent:
    kind = "points_earned" if one.points > 0 else "points_redeemed"
    at = one.happened_at.replace(tzinfo=ZONE)
    return TillEvent.of(
        one.store_id,
        at,
        f'{{"event_type":"{kind}","event_id":{json.dumps(one.event_id)},"customer_id":{json.dumps(one.customer_id)},'
        f'"store_id":{json.dumps(one.store_id)},"happened_at":"{at.isoformat()}","points":{abs(one.points)}}}',
    )


def _unknown(store: Store, day: date) -> TillEvent:
    at = datetime.combine(day, time(11), ZONE)
    return TillEvent.of(store.store_id, at, f'{{"event_type":"price_override","by":"M07","at":"{at.isoformat()}"}}')


def _broken(store: Store, day: date) -> Iterator[TillEvent]:
    at = datetime.combine(day, time(12), ZONE)
    for content in (b'{"event_type":"sale","transaction_id":"cut', b"\x00\xff\xfe not text", b'["no", "object"]'):
        yield TillEvent(store.store_id, content, at, {"till": f"{store.store_id}-1"})


def drained(business: Business, events: Sequence[TillEvent], after: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
    """
    The segments that a drain would have landed of events, for examples without a broker: key and bytes.

    In each shard two segments overlap, as when two drains were started by mistake. A drain lands at least one an hour; here hours are put
    together, so that examples stay small.

    Args:
        business: whose tills they are.
        events: in order.
        after: shard → records that it holds already.
    """
    shards: dict[str, list[TillEvent]] = {str(number): [] for number in range(SHARDS)}
    numbers = {store.store_id: store.number for store in business.stores}
    for event in events:
        shards[str(numbers[event.key] % SHARDS)].append(event)
    for shard, of_shard in shards.items():
        begin = after.get(shard, 0)
        hours = [event.at.astimezone(ZONE).replace(minute=0, second=0, microsecond=0) for event in of_shard]
        blocks = [(hour.date(), hour.hour // BLOCK_HOURS) for hour in hours]
        edges = [0, *(index for index in range(1, len(blocks)) if blocks[index] != blocks[index - 1]), len(blocks)]
        pieces = [(first, last) for first, last in pairwise(edges) if last > first]
        if len(pieces) > 1 and pieces[0][1] - pieces[0][0] > 1:
            pieces.append((pieces[0][0] + 1, pieces[1][1]))
        for first, last in pieces:
            rows = [
                {
                    "position": begin + index,
                    "arrived_at": of_shard[index].at,
                    "key": of_shard[index].key.encode(),
                    "headers": [
                        {"name": name, "value": text.encode()} for name, text in of_shard[index].headers.items()
                    ],
                    "value": of_shard[index].value,
                }
                for index in range(first, last)
            ]
            span = Span(begin + first, begin + last - 1)
            batch = pa.RecordBatch.from_pylist(rows, schema=DENSE_ENVELOPE)
            yield (
                pos.segment_key(hours[last - 1].replace(tzinfo=None), shard, span),
                write_segment([batch], stream=pos.name, shard=shard, span=span),
            )


def shard_sizes(business: Business, events: Sequence[TillEvent]) -> dict[str, int]:
    """Shard → how many of the events `drained` puts there."""
    numbers = {store.store_id: store.number for store in business.stores}
    return dict(Counter(str(numbers[event.key] % SHARDS) for event in events))
