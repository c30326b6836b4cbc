"""
What truly happened to the web shop's customers: who registered, moved, wants no more mail, left.

Belongs here: facts, in the order in which the shop's database wrote them. Doesn't: how they are written down (`files.py`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from random import Random
from typing import Literal

from ingestion_platform.demo.plan import Plan

_CITIES = (
    "Johannesburg",
    "Cape Town",
    "Durban",
    "Gqeberha",
    "Polokwane",
    "Mbombela",
    "Bloemfontein",
    "Windhoek",
    "Lüderitz",
)
_FIRST_CUSTOMERS = 30
_CHANGES_OF_A_DAY = 12
_CARDS = 20_000


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer of the web shop. *customer_id* is the loyalty card that the tills know, too; *joined_at* is local time."""

    customer_id: str
    name: str
    email: str
    city: str
    wants_mail: bool
    joined_at: datetime


@dataclass(frozen=True, slots=True)
class CustomerChange:
    """
    What happened to a customer.

    Args:
        position: where in the database's log; ascends.
        operation: `r`: was there when the capture began. `c`, `u`, `d`: as usual.
        at: when, local time.
        customer: as he is then; of `d` as he was.
        sends_email: whether the log has the address; it needn't where it is as before.
    """

    position: int
    operation: Literal["r", "c", "u", "d"]
    at: datetime
    customer: Customer
    sends_email: bool = True


def customer_changes(plan: Plan) -> Iterator[tuple[date, tuple[CustomerChange, ...]]]:
    """The changes of each day, in the order of the log. Those of a day depend on all days before it, and on nothing else."""
    random = Random(f"{plan.seed}:customers")
    there: dict[str, Customer] = {}
    position = 24_000_000
    for day in plan.dates:
        found: list[CustomerChange] = []
        moments = sorted(random.sample(range(12 * 3_600), _CHANGES_OF_A_DAY))
        if day == plan.first_day:
            for number in range(_FIRST_CUSTOMERS):
                begun = datetime.combine(day, time(0, 5)) + timedelta(milliseconds=number)
                joined = begun - timedelta(days=random.randrange(1, 900), seconds=random.randrange(40_000))
                customer = _new(random, there, joined)
                there[customer.customer_id] = customer
                found.append(CustomerChange(position, "r", begun, customer))
        for moment in moments:
            position += random.randrange(80, 400)
            at = datetime.combine(day, time(8)) + timedelta(seconds=moment)
            chance = random.random()
            if chance < 0.45:
                customer = _new(random, there, at)
                found.append(CustomerChange(position, "c", at, customer))
            else:
                former = there[random.choice(sorted(there))]
                if chance < 0.7:
                    customer = replace(former, city=random.choice([city for city in _CITIES if city != former.city]))
                    found.append(CustomerChange(position, "u", at, customer, sends_email=random.random() < 0.5))
                elif chance < 0.8:
                    customer = replace(former, wants_mail=not former.wants_mail)
                    found.append(CustomerChange(position, "u", at, customer))
                elif chance < 0.9:
                    customer = replace(former, email=f"{former.customer_id.lower()}.{position}@example.com")
                    found.append(CustomerChange(position, "u", at, customer))
                else:
                    found.append(CustomerChange(position, "d", at, former))
                    del there[former.customer_id]
                    continue
            there[customer.customer_id] = customer
        yield day, tuple(found)


def _new(random: Random, there: dict[str, Customer], joined_at: datetime) -> Customer:
    card = random.randrange(_CARDS)
    while f"C{card:06d}" in there:
        card = random.randrange(_CARDS)
    return Customer(
        customer_id=f"C{card:06d}",
        name=f"Customer {card}",
        email=f"c{card:06d}@example.com",
        city=random.choice(_CITIES),
        wants_mail=random.random() < 0.6,
        joined_at=joined_at.replace(microsecond=0),
    )
