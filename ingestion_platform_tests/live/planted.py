"""
A day of the example business with frauds, stock-outs, warm freezers and spikes planted in it: seeded, and the answer known.

Around what is planted there is an ordinary day: payments of customers with habits, sales, freezers that are cold, or warm for a short time.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from random import Random

from ingestion_platform.demo.business import Business, Store
from ingestion_platform.demo.plan import ZONE

CUSTOMERS = 60
FREEZERS = 12


@dataclass
class Planted:
    """
    What was planted.

    Args:
        events: value and when it happened, in order.
        deserved: rule → keys of the events, or beginnings of episodes, that deserve an alert; of spikes the minute (UTC).
    """

    events: list[tuple[bytes, datetime]] = field(default_factory=list)
    deserved: dict[str, set[str]] = field(default_factory=dict)

    def note(self, rule: str, key: str) -> None:
        """An alert is deserved."""
        self.deserved.setdefault(rule, set()).add(key)


def _customer(number: int) -> tuple[str, str, int, int]:
    """A customer's card number, bank card, usual hour (local) and usual amount in rand."""
    return f"LC{number:05}", f"TOKEN{number:05}", 9 + number % 8, 100 + 10 * (number % 9)


def _payment(
    key: str,
    store: Store,
    at: datetime,
    amount: float,
    customer: str | None,
    card: str,
    status: str = "approved",
) -> bytes:
    sent = {
        "event_type": "payment", "payment_id": key, "store_id": store.store_id, "region": store.region, "paid_at": at.isoformat(),
        "amount_zar": round(amount, 2), "status": status, "card": {"token": card},
    }  # fmt: skip
    return json.dumps(sent | ({"loyalty": {"customer_id": customer}} if customer else {})).encode()


def habits(business: Business, days: Sequence[date]) -> Iterator[tuple[bytes, datetime]]:
    """What customers usually pay: three payments a day each, in one store, around one hour."""
    for day in days:
        random = Random(f"{business.plan.seed}:habits:{day}")
        for number in range(CUSTOMERS):
            customer, card, hour, amount = _customer(number)
            store = business.stores[number % len(business.stores)]
            for visit in range(3):
                at = datetime(day.year, day.month, day.day, hour, 15 * visit, random.randrange(60), tzinfo=ZONE)
                value = amount * random.uniform(0.7, 1.3)
                key = f"H{day:%m%d}{number:03}{visit}"
                yield _payment(key, store, at, value, customer, card), at


def plant(business: Business, day: date, units: dict[tuple[str, str], tuple[int, int]]) -> Planted:
    """
    A day with everything planted.

    Args:
        units: store and product → units counted that morning, and the level below which it runs low.
    """
    made, random = Planted(), Random(f"{business.plan.seed}:planted")
    made.events += habits(business, [day])
    _plant_frauds(business, day, made, random)
    _plant_low_stock(day, made, units)
    _plant_freezers(business, day, made, random)
    _plant_spikes(business, day, made, random)
    made.events.sort(key=lambda one: one[1])
    return made


def _plant_frauds(business: Business, day: date, made: Planted, random: Random) -> None:
    stores = business.stores
    for number in range(0, CUSTOMERS, 6):
        customer, card, hour, amount = _customer(number)
        home = stores[number % len(stores)]
        away = next(store for store in stores if store.region != home.region)
        kind = number // 6 % 3
        at = datetime(day.year, day.month, day.day, hour, 50, random.randrange(60), tzinfo=ZONE)
        if kind == 0:
            # Far too large, at home.
            made.events.append((_payment(f"X{number}", home, at, amount * 9, customer, card), at))
            made.note("card_fraud", f"X{number}")
        elif kind == 1:
            # Elsewhere, with another card.
            made.events.append((_payment(f"X{number}", away, at, amount, customer, "STOLEN"), at))
            made.note("card_fraud", f"X{number}")
        else:
            # Seven within three minutes: from the fifth on they are too many.
            for count in range(7):
                moment = at + timedelta(seconds=25 * count)
                key = f"X{number}-{count}"
                made.events.append((_payment(key, home, moment, amount, customer, card), moment))
                if count >= 4:
                    made.note("card_fraud", key)


def _plant_low_stock(day: date, made: Planted, units: dict[tuple[str, str], tuple[int, int]]) -> None:
    enough = [place for place, (counted, low) in sorted(units.items()) if counted >= low + 3]
    for number, (store_id, product_id) in enumerate(enough[:6]):
        counted, _ = units[store_id, product_id]
        at = datetime(day.year, day.month, day.day, 21, number, tzinfo=ZONE)
        key = f"L{number}"
        sent = {
            "event_type": "sale", "transaction_id": key, "store_id": store_id, "sold_at": at.isoformat(), "product_id": product_id,
            "quantity": counted, "unit_price_zar": 1.0, "amount_zar": float(counted), "payment": {"method": "cash"},
        }  # fmt: skip
        made.events.append((json.dumps(sent).encode(), at))


def _plant_freezers(business: Business, day: date, made: Planted, random: Random) -> None:
    for freezer in range(FREEZERS):
        store = business.stores[freezer % len(business.stores)]
        begin = datetime(day.year, day.month, day.day, 8, freezer, tzinfo=ZONE)
        # Of every three one is warm for a quarter of an hour, and one for eight minutes, which is allowed.
        warm = {0: range(100, 116), 1: range(100, 109), 2: range(0)}[freezer % 3]
        for minute in range(180):
            at = begin + timedelta(minutes=minute)
            key = f"F{freezer:02}-{minute:03}"
            celsius = -4.5 if minute in warm else -20 + random.uniform(-2, 2)
            sent = {
                "event_type": "freezer_reading", "reading_id": key, "store_id": store.store_id, "freezer_id": f"FR{freezer:02}",
                "read_at": at.isoformat(), "temperature_celsius": round(celsius, 2),
            }  # fmt: skip
            made.events.append((json.dumps(sent).encode(), at))
        if len(warm) > 11:
            made.note("warm_freezer", f"F{freezer:02}-{warm[0]:03}")


def _plant_spikes(business: Business, day: date, made: Planted, random: Random) -> None:
    store = business.stores[0]
    calm = datetime(day.year, day.month, day.day, 18, 0, tzinfo=ZONE)
    number = 0

    def pay(at: datetime, status: str) -> None:
        nonlocal number
        number += 1
        made.events.append((_payment(f"S{number:05}", store, at, 50, None, "T", status), at))

    for minute in range(90):
        # Twenty a minute; at 18:30 a jump to 140, and at 19:00 errors of nearly all.
        count = 140 if minute == 30 else 20
        for one in range(count):
            at = calm + timedelta(minutes=minute, seconds=one * 60 / count)
            fails = (60 <= minute < 63 and one % 5) or random.random() < 0.01
            pay(at, "error" if fails else "approved")
    for rule, minute in (("payments_jump", 30), ("payments_fail", 60)):
        at = (calm + timedelta(minutes=minute)).astimezone(UTC).replace(tzinfo=None)
        made.note(rule, f"{at.isoformat()}Z")
