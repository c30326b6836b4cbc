"""
What truly happened in the example business: who sold, paid, delivered and counted what.

Belongs here: inventing facts, as plain values. Doesn't: how they are written down (`files.py`), what goes wrong on the way (`retailer.py`).

Every store and day has its own random numbers, so that any of them can be made alone. Amounts are whole cents.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import accumulate, islice
from random import Random

from ingestion_platform.demo.plan import Plan

_PLACES = (
    ("Gauteng", "ZA", (("Sandton", "-26.1076", "28.0567"), ("Soweto, Maponya", "-26.2606", "27.9021"), ("Midrand", "-25.9992", "28.1263"),
                       ("Benoni", "-26.1885", "28.3208"), ("Centurion", "-25.8603", "28.1894"), ("Hatfield", "-25.7487", "28.2380"),
                       ("Roodepoort", "-26.1625", "27.8725"), ("Alberton", "-26.2672", "28.1219"))),
    ("Western Cape", "ZA", (("Claremont", "-33.9806", "18.4653"), ("Kloof \"Corner\" Street", "-33.9306", "18.4102"),
                            ("Paarl", "-33.7342", "18.9621"), ("Stellenbosch", "-33.9321", "18.8602"),
                            ("George", "-33.9881", "22.4529"), ("Bellville", "-33.9022", "18.6290"))),
    ("KwaZulu-Natal", "ZA", (("Umhlanga, Gateway", "-29.7261", "31.0675"), ("Pietermaritzburg", "-29.6006", "30.3794"),
                             ("Ballito", "-29.5389", "31.2144"), ("Richards Bay", "-28.7807", "32.0383"),
                             ("Pinetown", "-29.8149", "30.8717"))),
    ("Eastern Cape", "ZA", (("Gqeberha", "-33.9608", "25.6022"), ("East London", "-33.0153", "27.9116"),
                            ("Mthatha", "-31.5889", "28.7844"), ("Jeffrey's Bay", "-34.0507", "24.9102"))),
    ("Limpopo", "ZA", (("Polokwane", "-23.9045", "29.4689"), ("Thohoyandou", "-22.9456", "30.4850"),
                       ("Bela-Bela", "-24.8843", "28.2879"))),
    ("Namibia", "NA", (("Windhoek", "-22.5609", "17.0658"), ("Lüderitz", "-26.6481", "15.1538"), ("Oshakati", "-17.7883", "15.7044"))),
)  # fmt: skip

_SHELVES = (
    ("Groceries", 1_500, ("Maize meal", "Rice", "Sugar", "Sunflower oil", "Flour; self-raising", "Rooibos tea", "Coffee", "Baked beans",
                          "Pilchards", "Peanut butter", "Chutney", "Samp")),
    ("Dairy", 2_200, ("Full cream milk", "Amasi", "Gouda", "Butter", "Yoghurt", "Eggs, 6")),
    ("Bakery", 1_400, ("White bread", "Brown bread", "Rolls", "Rusks", "Vetkoek")),
    ("Butchery", 6_500, ("Boerewors", "Chicken pieces", "Mince", "Lamb chops", "Biltong")),
    ("Beverages", 1_900, ("Cola", "Ginger beer", "Orange juice", "Water", "Energy drink")),
    ("Household", 3_800, ("Washing powder", "Dishwashing liquid", "Candles", "Batteries \"AA\"", "Bin bags", "Matches")),
    ("Airtime", 2_900, ("Airtime voucher", "Data bundle")),
)  # fmt: skip

_SIZES = (("small", 60), ("", 100), ("large", 170))
_HOURS = tuple(range(8, 20))
_HOUR_WEIGHTS = (3, 4, 5, 6, 9, 9, 6, 5, 7, 11, 8, 4)
_QUANTITIES = (1, 1, 1, 1, 2, 2, 3, 4, 6)
_METHODS = ("cash", "card", "mobile", "voucher")
_METHOD_WEIGHTS = (34, 40, 21, 5)
_WALLETS = ("PayLeaf", "MobiPurse", "Lerato Pay")
_SUPPLIERS = ("SUP1", "SUP2", "SUP3", "SUP4")
_RANGE_OF_A_STORE = 30
_FULL_SHELF_UNITS = 90
_DAYS_BETWEEN_DELIVERIES = 3
_REGULARS = 3
_VISITS_OF_REGULARS = 3
_ACCOUNTS_OF_A_STORE = 3
_MOVEMENTS_OF_A_DAY = 4
_DAYS_BEFORE_BULK = 5
_LEFT_BY_BULK = 2


@dataclass(frozen=True, slots=True)
class Store:
    """A store; *number* counts from 1, *latitude* and *longitude* are WGS 84."""

    number: int
    store_id: str
    name: str
    region: str
    country: str
    latitude: Decimal
    longitude: Decimal
    opened_on: date


@dataclass(frozen=True, slots=True)
class Product:
    """A product; its price of a day is `Business.price_cents`."""

    product_id: str
    name: str
    category: str
    base_price_cents: int


@dataclass(frozen=True, slots=True)
class Line:
    """A till line. *sold_at* is local time."""

    transaction_id: str
    store_id: str
    sold_at: datetime
    product_id: str
    quantity: int
    unit_price_cents: int
    amount_cents: int
    payment_method: str
    customer_id: str
    basket: int


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment by phone, as its provider knows it. *paid_at* is local time; *items* are transaction ids and cents."""

    payment_id: str
    store_id: str
    paid_at: datetime
    method: str
    provider: str
    amount_cents: int
    phone_number: str
    items: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A supplier's delivery. *delivered_at* is local time; *lines* are product, units and cents for one unit."""

    supplier_id: str
    manifest_number: str
    store_id: str
    delivered_at: datetime
    lines: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class Points:
    """Loyalty points that a customer earns, or asks to pay with (negative). *happened_at* is local time."""

    event_id: str
    store_id: str
    customer_id: str
    happened_at: datetime
    points: int


@dataclass(frozen=True, slots=True)
class Movement:
    """A deposit, or cash that is asked for (negative). *happened_at* is local time."""

    event_id: str
    store_id: str
    account_id: str
    happened_at: datetime
    amount_cents: int


@dataclass(frozen=True, slots=True)
class StoreDay:
    """All that happened in a store on a day. *counted_at* is local time; *count* is units by product before opening."""

    store: Store
    day: date
    lines: tuple[Line, ...]
    payments: tuple[Payment, ...]
    delivery: Delivery | None
    counted_at: datetime
    count: Mapping[str, int]


class Business:
    """The retail chain of a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.stores = tuple(self._store(number) for number in range(1, plan.stores + 1))
        self.products = tuple(self._products())
        self._prices: dict[date, dict[str, int]] = {}
        self._ranges: dict[str, tuple[Product, ...]] = {}

    def _random(self, *what: object) -> Random:
        return Random(":".join(str(part) for part in (self.plan.seed, *what)))

    def _store(self, number: int) -> Store:
        random = self._random("store", number)
        region, country, places = _PLACES[(number - 1) % len(_PLACES)]
        turn = (number - 1) // len(_PLACES)
        place, latitude, longitude = places[turn % len(places)]
        # A place's second store is some hundred metres to the north of its first.
        before = turn // len(places)
        name = place + (f" {before + 1}" if before else "")
        north = Decimal(latitude) + before * Decimal("0.0060")
        opened_on = date(1998, 1, 1) + timedelta(days=random.randrange(365 * 25))
        if number == self.plan.stores >= 10 and self.plan.days > 3:
            opened_on = self.plan.dates[3]
        return Store(number, f"S{number:04d}", name, region, country, north, Decimal(longitude), opened_on)

    def _products(self) -> Iterator[Product]:
        number = 0
        for category, base_cents, names in _SHELVES:
            for name in names:
                for size, pct in _SIZES:
                    number += 1
                    random = self._random("product", number)
                    cents = base_cents * pct // 100 * random.randrange(70, 140) // 100 // 10 * 10 + 9
                    yield Product(f"P{number:05d}", f"{name} {size}".strip(), category, cents)

    def roster(self, day: date) -> tuple[Store, ...]:
        """The stores that have opened by *day*."""
        return tuple(store for store in self.stores if store.opened_on <= day)

    def price_cents(self, product_id: str, day: date) -> int:
        """Price on the shelf; each day a few products are on offer."""
        if day not in self._prices:
            on_offer = {product.product_id for product in self._random("offers", day).sample(self.products, 12)}
            self._prices[day] = {
                product.product_id: product.base_price_cents * (80 if product.product_id in on_offer else 100) // 100
                for product in self.products
            }
        return self._prices[day][product_id]

    def range_of(self, store: Store) -> tuple[Product, ...]:
        """What a store sells, the best sellers first."""
        if store.store_id not in self._ranges:
            random = self._random("range", store.store_id)
            self._ranges[store.store_id] = tuple(random.sample(self.products, _RANGE_OF_A_STORE))
        return self._ranges[store.store_id]

    def lines(self, store: Store, day: date) -> tuple[Line, ...]:
        """The till lines of a store and day, by time. At least one basket is paid by phone; nothing paid by phone is returned."""
        return (*self._everyday_lines(store, day), *self._bulk(store, day))

    def _everyday_lines(self, store: Store, day: date) -> tuple[Line, ...]:
        random = self._random(store.store_id, day)
        products = self.range_of(store)
        weights = list(accumulate(1 / (rank + 4) for rank in range(len(products))))
        wanted = max(1, round(self.plan.lines_per_store_day * random.uniform(0.8, 1.2)))
        sizes: list[int] = []
        while sum(sizes) < wanted:
            sizes.append(min(random.randint(1, 5), wanted - sum(sizes)))
        hours = random.choices(_HOURS, _HOUR_WEIGHTS, k=len(sizes))
        midnight = datetime.combine(day, time())
        starts = sorted(midnight + timedelta(hours=hour, seconds=random.randrange(3600)) for hour in hours)
        methods = random.choices(_METHODS, _METHOD_WEIGHTS, k=len(sizes))
        if "mobile" not in methods:
            methods[-1] = "mobile"
        found: list[Line] = []
        for basket, (start, size, method) in enumerate(zip(starts, sizes, methods, strict=True), 1):
            customer = f"C{random.randrange(20_000):06d}" if random.random() < 0.4 else ""
            for number, product in enumerate(random.choices(products, cum_weights=weights, k=size), 1):
                quantity = random.choice(_QUANTITIES)
                if method != "mobile" and random.random() < 0.04:
                    quantity = -1
                price = self.price_cents(product.product_id, day)
                found.append(
                    Line(
                        transaction_id=f"{store.store_id}-{day:%Y%m%d}-{basket:04d}-{number:02d}",
                        store_id=store.store_id,
                        sold_at=start + timedelta(seconds=4 * number),
                        product_id=product.product_id,
                        quantity=quantity,
                        unit_price_cents=price,
                        amount_cents=price * quantity,
                        payment_method=method,
                        customer_id=customer,
                        basket=basket,
                    )
                )
        return tuple(found)

    def payments(self, store: Store, day: date, lines: Sequence[Line]) -> tuple[Payment, ...]:
        """
        What the provider of mobile payments knows of these till lines.

        On about one store and day in twenty it disagrees: a payment is missing, or its amount isn't the till's.
        """
        random = self._random(store.store_id, day, "payments")
        baskets: dict[int, list[Line]] = {}
        for line in lines:
            if line.payment_method == "mobile":
                baskets.setdefault(line.basket, []).append(line)
        payments = [
            Payment(
                payment_id=f"MP-{store.store_id}-{day:%Y%m%d}-{basket:04d}",
                store_id=store.store_id,
                paid_at=paid[-1].sold_at + timedelta(seconds=random.randrange(5, 60)),
                method=random.choice(("qr", "qr", "tap", "ussd")),
                provider=random.choice(_WALLETS),
                amount_cents=sum(line.amount_cents for line in paid),
                phone_number=f"+27000{random.randrange(1_000_000):06d}",
                items=tuple((line.transaction_id, line.amount_cents) for line in paid),
            )
            for basket, paid in baskets.items()
        ]
        chance = random.random()
        if chance < 0.03 and len(payments) > 1:
            payments.pop(random.randrange(len(payments)))
        elif chance < 0.05:
            at = random.randrange(len(payments))
            payments[at] = replace(
                payments[at], amount_cents=payments[at].amount_cents + random.choice((10, 90, 1_000))
            )
        return tuple(payments)

    def points(self, store: Store, day: date) -> tuple[Points, ...]:
        """What customers earn at the tills, a point for ten rand, and regulars redeem: at times more than they have."""
        baskets: dict[int, list[Line]] = {}
        for line in self.lines(store, day):
            if line.customer_id:
                baskets.setdefault(line.basket, []).append(line)
        stem = f"{store.store_id}-{day:%Y%m%d}"
        found = [
            Points(
                f"{stem}-P{basket:04d}",
                store.store_id,
                lines[-1].customer_id,
                lines[-1].sold_at + timedelta(seconds=2),
                points,
            )
            for basket, lines in baskets.items()
            if (points := sum(line.amount_cents for line in lines) // 1_000) > 0
        ]
        random = self._random(store.store_id, day, "points")
        for number in range(1, _VISITS_OF_REGULARS + 1):
            points = random.randrange(20, 400) if random.random() < 0.5 else -random.randrange(20, 300)
            customer = f"R{store.number:04d}{random.randrange(_REGULARS):02d}"
            at = datetime.combine(day, time(9)) + timedelta(seconds=random.randrange(10 * 3600))
            found.append(Points(f"{stem}-R{number:04d}", store.store_id, customer, at, points))
        return tuple(found)

    def movements(self, store: Store, day: date) -> tuple[Movement, ...]:
        """What customers pay into their accounts at the tills, and the cash they ask for: at times more than there is."""
        random = self._random(store.store_id, day, "movements")
        found = []
        for number in range(1, _MOVEMENTS_OF_A_DAY + 1):
            cents = random.randrange(5_000, 90_000) if random.random() < 0.5 else -random.randrange(5_000, 80_000)
            # Not everybody keeps to one store.
            home = random.randrange(1, self.plan.stores + 1) if random.random() < 0.3 else store.number
            account = f"40{home:04d}{random.randrange(_ACCOUNTS_OF_A_STORE):02d}"
            at = datetime.combine(day, time(9)) + timedelta(seconds=random.randrange(11 * 3600))
            found.append(Movement(f"M{day:%y%m%d}{store.number:04d}{number:02d}", store.store_id, account, at, cents))
        return tuple(found)

    def _delivery(self, store: Store, day: date, stock: Mapping[str, int]) -> Delivery | None:
        index = (day - self.plan.first_day).days
        if (store.number + index) % _DAYS_BETWEEN_DELIVERIES:
            return None
        random = self._random(store.store_id, day, "delivery")
        lines = tuple(
            (product_id, _FULL_SHELF_UNITS - units, self.price_cents(product_id, day) * random.randrange(55, 75) // 100)
            for product_id, units in sorted(stock.items())
            if units < _FULL_SHELF_UNITS * 2 // 3
        )
        if not lines:
            return None
        supplier = _SUPPLIERS[(store.number + index // _DAYS_BETWEEN_DELIVERIES) % len(_SUPPLIERS)]
        delivered_at = datetime.combine(day, time(7)) + timedelta(seconds=random.randrange(4 * 3600))
        return Delivery(supplier, f"{day:%y%m%d}{store.number:04d}", store.store_id, delivered_at, lines)

    def days(self) -> Iterator[StoreDay]:
        """
        Yield every store and day, by day, then by store.

        A day's count is the former one plus deliveries less sales, less what got lost or broken.
        """
        of_stores = {store.store_id: self._counts(store) for store in self.stores}
        for day in self.plan.dates:
            for store in self.roster(day):
                count, delivery, counted_at = next(of_stores[store.store_id])
                lines = self.lines(store, day)
                yield StoreDay(
                    store=store,
                    day=day,
                    lines=lines,
                    payments=self.payments(store, day, lines),
                    delivery=delivery,
                    counted_at=counted_at,
                    count=count,
                )

    def _counts(self, store: Store) -> Iterator[tuple[dict[str, int], Delivery | None, datetime]]:
        """What a store counts on each day that it is open, what is delivered then, and when it counts."""
        units: dict[str, int] = {}
        for day in self.plan.dates:
            if day < store.opened_on:
                continue
            random = self._random(store.store_id, day, "stock")
            units = units or {
                product.product_id: random.randint(_FULL_SHELF_UNITS // 2, _FULL_SHELF_UNITS)
                for product in self.range_of(store)
            }
            delivery = self._delivery(store, day, units)
            counted_at = datetime.combine(day, time(5, 30)) + timedelta(seconds=random.randrange(5_400))
            yield dict(units), delivery, counted_at
            moved = Counter[str]()
            for product_id, delivered, _ in delivery.lines if delivery else ():
                moved[product_id] += delivered
            for line in self.lines(store, day):
                moved[line.product_id] -= line.quantity
            for product_id in units:
                lost = 1 if random.random() < 0.03 else 0
                units[product_id] = max(0, units[product_id] + moved[product_id] - lost)

    def _bulk(self, store: Store, day: date) -> tuple[Line, ...]:
        """Shortly before closing on the last day somebody buys almost all that there is of the first store's slowest product."""
        if store != self.stores[0] or day != self.plan.dates[-1] or self.plan.days < _DAYS_BEFORE_BULK:
            return ()
        (count, _, _) = list(islice(self._counts(store), self.plan.days))[-1]
        product_id = self.range_of(store)[-1].product_id
        price = self.price_cents(product_id, day)
        quantity = max(1, count[product_id] - _LEFT_BY_BULK)
        return (
            Line(
                transaction_id=f"{store.store_id}-{day:%Y%m%d}-9999-01",
                store_id=store.store_id,
                sold_at=datetime.combine(day, time(19, 59, 58)),
                product_id=product_id,
                quantity=quantity,
                unit_price_cents=price,
                amount_cents=price * quantity,
                payment_method="cash",
                customer_id="",
                basket=9999,
            ),
        )
