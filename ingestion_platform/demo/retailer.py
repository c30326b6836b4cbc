"""
What lands and when, troubles included: the story of a plan.

Belongs here: the order of arrival, each trouble, and what should become of it. Doesn't: what truly happened (`business.py`), bytes of
healthy files (`files.py`).

A trouble touches files of its own: a troubled plan differs from the healthy one in nothing but what its incidents name.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from itertools import chain
from random import Random

from ingestion_platform.demo import files
from ingestion_platform.demo.business import Business, Line, Store
from ingestion_platform.demo.customers import CustomerChange, customer_changes
from ingestion_platform.demo.events import drained, shard_sizes, tell_events
from ingestion_platform.demo.pages import fetched
from ingestion_platform.demo.plan import Plan, Trouble
from ingestion_platform.demo.producer import Producer
from ingestion_platform.errors import DeclarationError


class Outcome(StrEnum):
    """What should become of an incident."""

    MISSING = "missing"
    """Nothing is under the key; its store is among the missing senders, for good."""
    LOADED_LATER = "loaded_later"
    """As `MISSING` after the first step; loaded after the second, which restates its day."""
    REPLACED = "replaced"
    """Loaded after the first step; replaced by the second version after the second."""
    DUPLICATE = "duplicate"
    """In the ledger, not loaded: same content as `duplicate_of`."""
    REJECTED = "rejected"
    """In the ledger, not loaded: can't be read. Its store is among the missing senders."""
    REJECTED_THEN_LOADED = "rejected_then_loaded"
    """As `REJECTED` after the first step; loaded after the second."""
    QUARANTINED = "quarantined"
    """The object is loaded; `rows` are in quarantine, each under the rules named."""
    SUPERSEDED = "superseded"
    """The object is loaded; `rows` lost against another row with their key."""
    OTHER_DAY = "other_day"
    """The object is loaded; its rows of `event_days` are processed there, not under the day of its key."""
    KEPT = "kept"
    """The object is loaded; the unknown column is kept in `_extra`, and told as drift of the schema."""


@dataclass(frozen=True, slots=True)
class Incident:
    """
    One trouble that happened, and what should become of it.

    Args:
        trouble: which.
        outcome: what should become of it.
        what: one sentence for a person.
        keys: the objects concerned.
        store_id: whose they are.
        day: of the keys (the first of them).
        dataset: whose they are.
        rows: row number in the object (the first row is 1) → rules that it breaks, as quarantine names them; none for superseded rows.
        duplicate_of: the object with the same content.
        event_days: rows of other days: day → how many.
        column: the unknown column.
    """

    trouble: Trouble
    outcome: Outcome
    what: str
    keys: tuple[str, ...]
    store_id: str
    day: date
    dataset: str = "sales"
    rows: Mapping[int, frozenset[str]] = field(default_factory=dict)
    duplicate_of: str | None = None
    event_days: Mapping[date, int] = field(default_factory=dict)
    column: str | None = None


@dataclass(frozen=True, slots=True)
class Arrival:
    """An object as a sender puts it."""

    key: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Step:
    """
    What lands before the platform runs the next time.

    Args:
        name: `nightly` or `afterwards`.
        description: one sentence.
        make: makes the arrivals; each call makes the same.
    """

    name: str
    description: str
    make: Callable[[], Iterator[Arrival]] = field(repr=False, compare=False)

    @property
    def objects(self) -> Iterator[Arrival]:
        """The arrivals in order, made one by one."""
        return self.make()

    def land(self, producer: Producer) -> int:
        """Put every object of the step; the answer is how many."""
        count = 0
        for arrival in self.objects:
            producer.put(arrival.key, arrival.content)
            count += 1
        return count


@dataclass(frozen=True, slots=True)
class Story:
    """
    A plan told: land a step, run the platform, land the next, run it again.

    Args:
        plan: what was asked for.
        steps: one, or two when something arrives afterwards.
        incidents: everything that went wrong.
    """

    plan: Plan
    steps: tuple[Step, ...]
    incidents: tuple[Incident, ...]


def tell(plan: Plan, *, has_sources: bool = True) -> Story:
    """
    Make up the story of *plan*; nothing lands yet.

    Args:
        plan: what is asked for.
        has_sources: what the tills and the APIs tell lands along with the files, as drains and fetches land it; False where a broker
            and a server tell it.

    Raises:
        DeclarationError: the plan is too small for its troubles to stay apart.
    """
    business = Business(plan)
    troubles = _Troubles(business)
    steps = [
        Step(
            "nightly",
            "Every night each store, head office, the web shop, the suppliers, the bank and the provider of mobile payments send theirs.",
            lambda: chain(
                _nightly(business, troubles.instead), _customers(plan), _told(business, 1) if has_sources else ()
            ),
        )
    ]
    if troubles.afterwards:
        steps.append(
            Step(
                "afterwards",
                "Files that were late, wrong or cut arrive again, under the days they belong to.",
                lambda: chain(troubles.afterwards, _told(business, 2) if has_sources else ()),
            )
        )
    return Story(plan, tuple(steps), tuple(troubles.incidents))


def generate(producer: Producer, plan: Plan) -> Story:
    """
    Land all steps of *plan*, one after the other.

    Raises:
        DeclarationError: the plan is too small for its troubles to stay apart.
        LandingError: the landing zone refused an object.
    """
    story = tell(plan)
    for step in story.steps:
        step.land(producer)
    return story


def _nightly(business: Business, instead: Mapping[str, tuple[Arrival, ...]]) -> Iterator[Arrival]:
    """Everything of the first night to the last; *instead* of the objects under its keys come others, or none."""
    day: date | None = None
    for store_day in business.days():
        if store_day.day != day:
            day = store_day.day
            yield _movements(business, day)
            yield Arrival(files.stores_key(day), files.stores_bytes(business, day))
            yield Arrival(files.products_key(day), files.products_bytes(business, day))
        store, lines = store_day.store, store_day.lines
        key = files.sales_key(store, day)
        if key in instead:
            yield from instead[key]
        else:
            yield Arrival(key, files.sales_bytes(store, map(files.sales_row, lines)))
        yield Arrival(files.payments_key(store, day), files.payments_bytes(store_day.payments))
        if store_day.delivery is not None:
            yield Arrival(files.delivery_key(store_day.delivery, day), files.delivery_bytes(store_day.delivery))
        yield Arrival(files.count_key(store, day), files.count_bytes(store_day))


def _movements(business: Business, day: date) -> Arrival:
    """The bank's movements of a day: what happens after seven in the evening comes with those of the next."""
    closing = datetime.combine(day, BANK_CLOSES)
    found = [
        one
        for each in (day - timedelta(days=1), day)
        for store in business.roster(each)
        for one in business.movements(store, each)
        if closing - timedelta(days=1) <= one.happened_at < closing and each >= business.plan.first_day
    ]
    found.sort(key=lambda one: (one.happened_at, one.event_id))
    return Arrival(files.movements_key(day), files.movements_bytes(found))


def _customers(plan: Plan) -> Iterator[Arrival]:
    """What happened in the web shop's database; each file begins with the last change of the one before: it was told at least once."""
    before: tuple[CustomerChange, ...] = ()
    for day, changes in customer_changes(plan):
        yield Arrival(files.customers_key(day), files.customers_bytes((*before, *changes)))
        before = changes[-1:]


def _told(business: Business, step: int) -> Iterator[Arrival]:
    """The tills' events and the APIs' replies of a step."""
    told = tell_events(business)
    sent, before = (told.during, {}) if step == 1 else (told.afterwards, shard_sizes(business, told.during))
    for key, content in drained(business, sent, before):
        yield Arrival(key, content)
    for key, content in fetched(business, step):
        yield Arrival(key, content)


_PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360f8cf500f00028101800b2e2a8e0000000049454e44ae426082"
)
BANK_CLOSES = time(19)
"""What happens at the tills after that, the bank tells the next day."""

_HTML = (
    b"<!DOCTYPE html>\n<html>\n<head><title>502 Bad Gateway</title></head>\n<body>\n<h1>502 Bad Gateway</h1>\n"
    b"<p>Please sign in, and try again.</p>\n</body>\n</html>\n"
)

UNREADABLE = "record: can't be read"
"""The rule that a record breaks which doesn't have the header's number of cells."""

TOO_LATE_DAYS = 5
"""How old the row is that comes later than sales may."""


class _Troubles:
    """
    The troubles of a plan.

    Args:
        business: what truly happened.

    Attributes:
        instead: key → what arrives in the first step instead of it.
        afterwards: what arrives in the second.
        incidents: what happened.
    """

    def __init__(self, business: Business) -> None:
        self.business = business
        self.plan = business.plan
        self.instead: dict[str, tuple[Arrival, ...]] = {}
        self.afterwards: list[Arrival] = []
        self.incidents: list[Incident] = []
        known = [store for store in business.stores if store.opened_on < self.plan.first_day]
        self._plain = self._shuffled([store for store in known if not files.sends_gzip(store)])
        self._gzip = self._shuffled([store for store in known if files.sends_gzip(store)])
        # Each trouble has its own places among the stores, so that switching one on doesn't move another.
        for trouble, happen in (
            (Trouble.MISSING_STORE, self._missing_store),
            (Trouble.LATE_FILE, self._late_file),
            (Trouble.REWRITTEN_FILE, self._rewritten_file),
            (Trouble.SAME_BYTES_TWICE, self._same_bytes_twice),
            (Trouble.HALF_WRITTEN, self._half_written),
            (Trouble.BAD_ROWS, self._bad_rows),
            (Trouble.LATE_ROWS, self._late_rows),
            (Trouble.EXTRA_COLUMN, self._extra_column),
            (Trouble.NOT_CSV, self._not_csv),
        ):
            if trouble in self.plan.troubles:
                happen()

    def _shuffled(self, stores: list[Store]) -> list[Store]:
        Random(f"{self.plan.seed}:troubles").shuffle(stores)
        return stores

    def _store(self, place: int) -> Store:
        if not self._plain:
            raise DeclarationError("a plan with troubles needs a store that has long been open", "ask for more stores")
        return self._plain[place % len(self._plain)]

    def _day(self, index: int) -> date:
        return self.plan.dates[min(index, self.plan.days - 1)]

    def _instead(self, key: str, *contents: bytes) -> None:
        self._arrive_instead(key, *(Arrival(key, content) for content in contents))

    def _arrive_instead(self, key: str, *arrivals: Arrival) -> None:
        if key in self.instead:
            raise DeclarationError(
                f"two troubles meet in {key!r}: {self.plan.stores} stores and {self.plan.days} days are too few",
                "twelve stores and seven days are enough for all of them",
            )
        self.instead[key] = arrivals

    def _rows(self, store: Store, day: date) -> list[list[str]]:
        return [files.sales_row(line) for line in self.business.lines(store, day)]

    def _missing_store(self) -> None:
        store, day = self._store(0), self._day(2)
        key = files.sales_key(store, day)
        self._instead(key)
        self._tell(
            Trouble.MISSING_STORE, Outcome.MISSING, f"{store.store_id} sent no sales for {day}.", key, store, day
        )

    def _late_file(self) -> None:
        store, day = self._store(1), self._day(1)
        key = files.sales_key(store, day)
        self._instead(key)
        self.afterwards.append(Arrival(key, files.sales_bytes(store, self._rows(store, day))))
        what = f"{store.store_id} sent its sales of {day} two days late, under the day they belong to."
        self._tell(Trouble.LATE_FILE, Outcome.LOADED_LATER, what, key, store, day)

    def _rewritten_file(self) -> None:
        store, day = self._store(2), self._day(3)
        key = files.sales_key(store, day)
        rows = self._rows(store, day)
        wrong = [list(row) for row in rows]
        some = Random(f"{self.plan.seed}:rewritten").sample(range(len(rows)), min(3, len(rows)))
        for index in some:
            cents = self.business.lines(store, day)[index].amount_cents
            wrong[index][6] = files.zar(cents + 1_000)
        self._instead(key, files.sales_bytes(store, wrong))
        self.afterwards.append(Arrival(key, files.sales_bytes(store, rows)))
        what = f"{store.store_id} sent its sales of {day} with {len(some)} wrong amounts, and later the right ones under the same name."
        self._tell(Trouble.REWRITTEN_FILE, Outcome.REPLACED, what, key, store, day)

    def _same_bytes_twice(self) -> None:
        store, day = self._store(3), self._day(2)
        key, copy = files.sales_key(store, day), files.sales_key(store, day, "-copy")
        content = files.sales_bytes(store, self._rows(store, day))
        self._arrive_instead(key, Arrival(key, content), Arrival(copy, content))
        self.incidents.append(
            Incident(
                Trouble.SAME_BYTES_TWICE,
                Outcome.DUPLICATE,
                f"{store.store_id} sent its sales of {day} a second time, as {copy.rsplit('/', 1)[1]}.",
                (copy,),
                store.store_id,
                day,
                duplicate_of=key,
            )
        )

    def _half_written(self) -> None:
        day = self._day(4)
        for store, is_completed in (
            (self._store(4), False),
            (self._store(5), True),
            *((gz, True) for gz in self._gzip[:1]),
        ):
            key = files.sales_key(store, day)
            whole = files.sales_bytes(store, self._rows(store, day))
            # In a text, half is wherever half of the bytes end; the loop keeps the cut off a line's end.
            cut = len(whole) // 2
            while whole[cut - 1 : cut] == b"\n" or whole[cut : cut + 1] in (b"\r", b"\n"):
                cut -= 1
            self._instead(key, whole[:cut])
            what = f"The sales of {store.store_id} of {day} arrived cut after {cut:,} of {len(whole):,} bytes"
            if is_completed:
                self.afterwards.append(Arrival(key, whole))
                what, outcome = f"{what}, and whole later.", Outcome.REJECTED_THEN_LOADED
            else:
                what, outcome = f"{what}, and never whole.", Outcome.REJECTED
            self._tell(Trouble.HALF_WRITTEN, outcome, what, key, store, day)

    def _bad_rows(self) -> None:
        store, day = self._store(6), self._day(3)
        key = files.sales_key(store, day)
        lines = self.business.lines(store, day)
        good = self._rows(store, day)
        bad = list(self._bad(lines[0], day))
        # The bad ones stand among the good ones: after the first, the third, …, and the rest at the end.
        mixed: list[tuple[list[str], frozenset[str]]] = []
        for index, row in enumerate(good):
            mixed.append((row, frozenset()))
            if index % 2 == 0 and bad:
                mixed.append(bad.pop(0))
        mixed.extend(bad)
        # Sent twice word for word: the later row stands. Corrected with a later time: the correction stands.
        repeated, corrected = list(good[-1]), list(good[0])
        corrected[2] = f"{lines[0].sold_at + timedelta(minutes=5):%Y-%m-%d %H:%M:%S}"
        corrected[4], corrected[6] = "1", corrected[5]
        mixed.extend([(repeated, frozenset()), (corrected, frozenset())])
        rows = [row for row, _ in mixed]
        self._instead(key, files.sales_bytes(store, rows))
        quarantined = {number: rules for number, (_, rules) in enumerate(mixed, 1) if rules}
        superseded = {rows.index(repeated) + 1: frozenset[str](), rows.index(good[0]) + 1: frozenset[str]()}
        what = f"{store.store_id} sent {len(quarantined)} rows for {day} that break the contract, each in its own way."
        self._tell(Trouble.BAD_ROWS, Outcome.QUARANTINED, what, key, store, day, quarantined)
        what = (
            f"{store.store_id} sent 2 rows for {day} a second time: one word for word, one corrected with a later time."
        )
        self._tell(Trouble.BAD_ROWS, Outcome.SUPERSEDED, what, key, store, day, superseded)

    def _bad(self, line: Line, day: date) -> Iterator[tuple[list[str], frozenset[str]]]:
        tomorrow = datetime.combine(day + timedelta(days=1), time(9))
        changes: tuple[tuple[Mapping[int, str], tuple[str, ...]], ...] = (
            ({4: "two"}, ("quantity: not INTEGER",)),
            ({4: "1.7"}, ("quantity: not INTEGER",)),
            ({4: " 2"}, ("quantity: not INTEGER",)),
            ({5: "12.345"}, ("unit_price_zar: not DECIMAL(12,2)",)),
            ({6: "R12.50"}, ("amount_zar: not DECIMAL(12,2)",)),
            ({2: "yesterday"}, ("sold_at: not TIMESTAMP",)),
            ({4: "5000"}, ("quantity: above maximum",)),
            ({4: "-5000"}, ("quantity: below minimum",)),
            ({5: "-1.00"}, ("unit_price_zar: below minimum",)),
            ({7: "cheque"}, ("payment_method: not an allowed value",)),
            ({0: ""}, ("transaction_id: missing",)),
            ({2: ""}, ("sold_at: missing",)),
            ({1: "S9999"}, ("store_id: not in stores.store_id",)),
            ({3: "P99999"}, ("product_id: not in products.product_id",)),
            ({2: f"{tomorrow:%Y-%m-%d %H:%M:%S}"}, ("sold_at: after its object's day",)),
            ({3: "", 4: "x", 7: "IOU"}, ("product_id: missing", "quantity: not INTEGER", "payment_method: not an allowed value")),
        )  # fmt: skip
        for number, (cells, rules) in enumerate(changes, 1):
            row = files.sales_row(line)
            row[0] = f"{line.store_id}-{day:%Y%m%d}-X{number:03d}"
            for index, cell in cells.items():
                row[index] = cell
            yield row, frozenset(rules)
        row = files.sales_row(line)
        yield row[:6], frozenset({UNREADABLE})
        yield [*row, "one too many"], frozenset({UNREADABLE})

    def _late_rows(self) -> None:
        store, day = self._store(7), self._day(5)
        key = files.sales_key(store, day)
        rows = self._rows(store, day)
        event_days = {day - timedelta(days=1): 2, day - timedelta(days=2): 1}
        for event_day, count in event_days.items():
            rows.extend(self._late(store, event_day, number) for number in range(1, count + 1))
        too_late = day - timedelta(days=TOO_LATE_DAYS)
        rows.append(self._late(store, too_late, 9))
        self._instead(key, files.sales_bytes(store, rows))
        self.incidents.append(
            Incident(
                Trouble.LATE_ROWS,
                Outcome.OTHER_DAY,
                f"{store.store_id} sent {sum(event_days.values())} rows of the two days before along with its sales of {day}.",
                (key,),
                store.store_id,
                day,
                event_days=event_days,
            )
        )
        what = f"{store.store_id} sent a row of {too_late} along with its sales of {day}, later than allowed."
        late = {len(rows): frozenset({"sold_at: too late"})}
        self._tell(Trouble.LATE_ROWS, Outcome.QUARANTINED, what, key, store, day, late)

    def _late(self, store: Store, event_day: date, number: int) -> list[str]:
        line = self.business.lines(store, event_day)[0]
        row = files.sales_row(line)
        row[0] = f"{store.store_id}-{event_day:%Y%m%d}-L{number:03d}"
        row[2] = f"{datetime.combine(event_day, time(19, 30, number)):%Y-%m-%d %H:%M:%S}"
        row[7] = "cash"
        return row

    def _extra_column(self) -> None:
        store, days = self._store(8), self.plan.dates[3:]
        for day in days:
            rows = ([*row, f"4.{day.day % 3}"] for row in self._rows(store, day))
            self._instead(
                files.sales_key(store, day), files.sales_bytes(store, rows, (*files.SALES_COLUMNS, "till_version"))
            )
        self.incidents.append(
            Incident(
                Trouble.EXTRA_COLUMN,
                Outcome.KEPT,
                f"The till of {store.store_id} sends a column till_version from {days[0]} on.",
                tuple(files.sales_key(store, day) for day in days),
                store.store_id,
                days[0],
                column="till_version",
            )
        )

    def _not_csv(self) -> None:
        day = self._day(5)
        for place, content, kind in ((9, _PNG, "a picture"), (10, _HTML, "a web page")):
            store = self._store(place)
            key = files.sales_key(store, day)
            self._instead(key, content)
            what = f"What {store.store_id} sent as its sales of {day} is {kind}."
            self._tell(Trouble.NOT_CSV, Outcome.REJECTED, what, key, store, day)

    def _tell(
        self,
        trouble: Trouble,
        outcome: Outcome,
        what: str,
        key: str,
        store: Store,
        day: date,
        rows: Mapping[int, frozenset[str]] | None = None,
    ) -> None:
        self.incidents.append(Incident(trouble, outcome, what, (key,), store.store_id, day, rows=rows or {}))
