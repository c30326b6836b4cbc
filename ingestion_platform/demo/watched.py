"""
What the live rules of the example look at beside sales: payments by card, freezers; and what happens on the last evening: a stolen card, a
freezer whose door stays open.

Belongs here: inventing these events. Doesn't: the other events of the tills (`events.py`), playing them (`live.py`), judging (`rules/`).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time

from ingestion_platform.demo import files
from ingestion_platform.demo.business import Business, Store
from ingestion_platform.demo.event import TillEvent
from ingestion_platform.demo.plan import ZONE

CUSTOMERS = 8
PAYMENTS_A_DAY = 2
FREEZER_STORES = 4


@dataclass(frozen=True, slots=True)
class Planted:
    """
    Something that a live rule is to find.

    Args:
        what: in words.
        rule: which is to find it.
        keys: of events, one of which deserves the alert.
        events: in order.
    """

    what: str
    rule: str
    keys: frozenset[str]
    events: tuple[TillEvent, ...]


def everyday(business: Business, day: date) -> Iterator[TillEvent]:
    """Card payments of a few customers, at their own store and hours, and readings of freezers that are as cold as they should be."""
    stores = business.roster(day)
    for number in range(CUSTOMERS):
        store = stores[number % len(stores)]
        for visit in range(PAYMENTS_A_DAY):
            at = datetime.combine(day, time(10 + 4 * visit, 5 * number), ZONE)
            cents = 8_000 + 700 * number + 350 * visit
            yield _payment(f"{day:%Y%m%d}-{number:02d}-{visit}", store, at, cents, number, f"T{number:04d}")
    for store in stores[:FREEZER_STORES]:
        for hour in (8, 12, 16, 20):
            yield _reading(store, datetime.combine(day, time(hour), ZONE), "-19.50")


def planted(business: Business) -> tuple[Planted, ...]:
    """What happens on the last evening."""
    day = business.plan.dates[-1]
    stores = business.roster(day)
    thief, freezer = stores[-1], stores[min(1, len(stores) - 1)]
    paid = [
        _payment(
            f"{day:%Y%m%d}-stolen-{number}",
            thief,
            datetime.combine(day, time(20, 45 + number), ZONE),
            140_000,
            0,
            "T9999",
        )
        for number in range(6)
    ]
    readings = [
        _reading(freezer, datetime.combine(day, time(20, minute), ZONE), "-7.25") for minute in (31, 36, 41, 46, 51)
    ]
    return (
        Planted(
            "a card is stolen, and somebody pays with it far from home, six times in six minutes",
            "card_fraud",
            frozenset(f"{day:%Y%m%d}-stolen-{number}" for number in range(6)),
            tuple(paid),
        ),
        Planted(
            f"a door of store {freezer.store_id}'s freezer is left open",
            "warm_freezer",
            frozenset(f"{freezer.store_id}-F1-{day:%Y%m%d}20{minute}" for minute in (31, 36, 41, 46, 51)),
            tuple(readings),
        ),
    )


def bulk(business: Business, events: Sequence[TillEvent]) -> Planted | None:
    """The sale that takes almost all that the first store has of a product, among what its tills told; None where the plan is too small."""
    key = f"{business.stores[0].store_id}-{business.plan.dates[-1]:%Y%m%d}-9999-01"
    found = tuple(event for event in events if key.encode() in event.value)
    if not found:
        return None
    what = f"store {business.stores[0].store_id} sells almost all that it has of a product in one go"
    return Planted(what, "low_stock", frozenset({key}), found)


def _payment(number: str, store: Store, at: datetime, cents: int, customer: int, card: str) -> TillEvent:
    return TillEvent.of(
        store.store_id,
        at,
        f'{{"event_type":"payment","payment_id":"{number}","store_id":{json.dumps(store.store_id)},"paid_at":"{at.isoformat()}",'
        f'"amount_zar":{files.zar(cents)},"status":"approved","region":{json.dumps(store.region)},'
        f'"loyalty":{{"customer_id":"K{customer:05d}"}},"card":{{"token":"{card}"}}}}',
    )


def _reading(store: Store, at: datetime, celsius: str) -> TillEvent:
    return TillEvent.of(
        store.store_id,
        at,
        f'{{"event_type":"freezer_reading","reading_id":"{store.store_id}-F1-{at:%Y%m%d%H%M}","store_id":{json.dumps(store.store_id)},'
        f'"freezer_id":"F1","read_at":"{at.isoformat()}","temperature_celsius":{celsius}}}',
    )
