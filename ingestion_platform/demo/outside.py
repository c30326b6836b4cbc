"""
What others know of the example business's world: rates of exchange, the weather at its stores, a supplier's catalogue, charts of music,
reviews of products.

Belongs here: inventing facts, as plain values. Doesn't: how they are told over HTTP (`apis.py`), what happens in the stores
(`business.py`).

Each fact is a function of the seed and its day, so that any day can be asked for, in any order. Amounts are whole cents.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from random import Random

from ingestion_platform.demo.business import Business, Product, Store
from ingestion_platform.demo.plan import ZONE

_EUR_IN = {
    "USD": "1.0950", "JPY": "160.4200", "GBP": "0.8365", "CHF": "0.9405", "CNY": "7.7810", "AUD": "1.6080", "BRL": "6.0140",
    "ZAR": "19.2310",
}  # fmt: skip

REGIONS = {
    "ZA-GP": "Gauteng",
    "ZA-WC": "Western Cape",
    "ZA-KZN": "KwaZulu-Natal",
    "ZA-EC": "Eastern Cape",
    "ZA-LP": "Limpopo",
    "NA": "Namibia",
}
"""Where charts are made for: ISO 3166 code → the name of the sales region there."""

_CLIMATES = {
    "Gauteng": (14, 28), "Western Cape": (11, 21), "KwaZulu-Natal": (17, 26), "Eastern Cape": (13, 23), "Limpopo": (17, 31),
    "Namibia": (15, 32),
}  # fmt: skip

_SINGERS = (
    "Naledi K",
    "The Midnight Taxis",
    "Bra Themba",
    "Karoo Static",
    "Zola & the Tide",
    "DJ Mopane",
    "Lindiwe Blue",
    "Kaapse Wolke",
)
_SONGS = ("Sunday in Soweto", "Long Road", "Gold Dust", "Rain on Tin", "Jacaranda", "Ocean Drive")
_GENRES = ("amapiano", "gqom", "kwaito", "afro house", "maskandi", "pop")
_SUPPLIED = ("Groceries", "Dairy", "Beverages")
_WORDS = (
    "Fresh as ever.",
    "Not what it was.",
    "My children love it.",
    "Too dear for what it is.",
    "Will buy again, gladly.",
    "Fine.",
)

CHART_LENGTH = 20
NEW_FAMILY = 2
"""Which of the supplier's families is new in the catalogue on the fourth day."""
UNPRICED_FAMILY = 5
"""Which one the supplier has no prices of."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What one euro is worth, by currency; *rated_on* is the day they were set on."""

    rated_on: date
    of_one_eur: dict[str, Decimal]


@dataclass(frozen=True, slots=True)
class Weather:
    """The weather of a day: tenths of degrees Celsius, and of millimetres; None where it wasn't measured."""

    minimum: int
    average: int
    maximum: int
    rain: int | None


@dataclass(frozen=True, slots=True)
class Family:
    """What the supplier calls a product: its *variants* are the products of our shelves, by size."""

    family_id: str
    name: str
    category: str
    variants: tuple[tuple[str, Product], ...]
    listed_on: date


@dataclass(frozen=True, slots=True)
class Track:
    """A track of a chart; *streams* is how often it was played on the day."""

    track_id: str
    title: str
    artist: str
    genre: str
    streams: int


@dataclass(frozen=True, slots=True)
class Review:
    """What a customer thinks of a product. *written_at* is local time."""

    review_id: str
    written_at: datetime
    product_id: str
    stars: int
    text: str
    reviewer: str


class Outside:
    """
    The world around a business.

    Args:
        business: whose stores, products and seed they are.
    """

    def __init__(self, business: Business) -> None:
        self.business = business
        self.families = tuple(self._families())
        songs = [f"{song}{turn}" for turn in ("", " (Live)", " II", " Remix", " at Dawn") for song in _SONGS]
        self._tracks = tuple(
            Track(f"T{number:04d}", song, _SINGERS[number % len(_SINGERS)], _GENRES[number % len(_GENRES)], 0)
            for number, song in enumerate(songs)
        )

    def _random(self, *what: object) -> Random:
        return Random(":".join(str(part) for part in (self.business.plan.seed, "outside", *what)))

    def rates(self, day: date) -> Rates:
        """What is told on *day*: no rates are set on Saturdays and Sundays, Friday's are told then."""
        rated_on = day - timedelta(days=max(0, day.weekday() - 4))
        random = self._random("rates", rated_on)
        # By up to a hundredth and a half up or down; the last digit is a ten-thousandth.
        moved = {
            currency: int(Decimal(rate) * 10_000) * (10_000 + random.randint(-150, 150)) // 10_000
            for currency, rate in _EUR_IN.items()
        }
        return Rates(rated_on, {currency: Decimal(units) / 10_000 for currency, units in moved.items()})

    def weather(self, store: Store, day: date) -> Weather:
        """The weather at a store."""
        random = self._random("weather", store.store_id, day)
        low, high = _CLIMATES[store.region]
        minimum, maximum = 10 * low + random.randint(-40, 40), 10 * high + random.randint(-50, 50)
        rain = random.choice((None, 0, 0, 0, 0, 0, 0, 4, 26, 118, 240))
        return Weather(minimum, (minimum + maximum) // 2, maximum, rain)

    def nearest(self, latitude: Decimal, longitude: Decimal) -> Store:
        """The store that is nearest to a place."""
        return min(
            self.business.stores, key=lambda one: (one.latitude - latitude) ** 2 + (one.longitude - longitude) ** 2
        )

    def _families(self) -> Iterator[Family]:
        sizes = ("small", "regular", "large")
        supplied = [product for product in self.business.products if product.category in _SUPPLIED]
        new_on = self.business.plan.first_day + timedelta(days=3)
        for number, first in enumerate(range(0, len(supplied), len(sizes))):
            products = supplied[first : first + len(sizes)]
            yield Family(
                family_id=f"F{number + 1:03d}",
                name=products[1].name,
                category=products[1].category,
                variants=tuple(zip(sizes, products, strict=True)),
                listed_on=new_on if number == NEW_FAMILY else date(2020, 1, 1),
            )

    def prices(self, family: Family, day: date) -> tuple[tuple[int, int], ...]:
        """What the supplier asks for a case, from how many cases on: cases and cents. They change by the week."""
        if family == self.families[UNPRICED_FAMILY]:
            return ()
        random = self._random("prices", family.family_id, day.isocalendar()[:2])
        cents = sum(product.base_price_cents for _, product in family.variants) * random.randint(340, 400) // 100
        return ((1, cents), (12, cents * 97 // 100), (48, cents * 92 // 100))

    def chart(self, region: str, day: date) -> tuple[Track, ...]:
        """What is played most in a region on a day, the most played first."""
        random = self._random("chart", region, day)
        liking = self._random("taste", region)
        played = [
            replace(track, streams=liking.randint(2_000, 9_000) * random.randint(70, 160) // 100)
            for track in self._tracks
        ]
        return tuple(sorted(played, key=lambda one: (-one.streams, one.track_id))[:CHART_LENGTH])

    def reviews(self, day: date) -> tuple[Review, ...]:
        """The reviews that were written on a day, by time; the last one gives more stars than there are."""
        random = self._random("reviews", day)
        seconds = sorted(random.sample(range(86_400), 25))
        return tuple(
            Review(
                review_id=f"R{day:%Y%m%d}{number:03d}",
                written_at=datetime.combine(day, time(), ZONE) + timedelta(seconds=second),
                product_id=random.choice(self.business.products).product_id,
                stars=random.choice((1, 3, 4, 4, 5, 5)) if number < len(seconds) else 11,
                text=random.choice(_WORDS),
                reviewer=f"customer{random.randrange(10_000):04d}@mail.example",
            )
            for number, second in enumerate(seconds, 1)
        )
