"""
What is put to the test: declarations, and the objects that land for them.

Belongs here: choosing datasets with all that they need, making their objects up, or copying them from a landing zone. Doesn't: what goes
wrong with them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from random import Random

from pydantic import SecretStr

from ingestion_platform.chaos.made import CantMake, Maker
from ingestion_platform.chaos.writing import written
from ingestion_platform.dataset import Dataset, Datasets, LandedFiles
from ingestion_platform.errors import DeclarationError, SettingsError
from ingestion_platform.landing import LandingZone
from ingestion_platform.settings import Settings
from ingestion_platform.stream import StreamSegments
from ingestion_platform.warehouse import SqlTables, Warehouse

DAYS, SENDERS, ROWS = 2, 3, 10
"""Of made up objects: small, because each is loaded hundreds of times."""
MOST_BYTES = 64 * 1024**2
"""Of landed objects, for the same reason."""
SALT = "chaos"


@dataclass(frozen=True)
class Arrival:
    """
    An object as it is in the end.

    Args:
        key: its key.
        content: its bytes.
        twin_key: a second key under which the same content is the same object; empty: there is none.
        may_grow: whether its sender writes it himself, so that it may be seen half-written, or be another one later.
    """

    key: str
    content: bytes
    twin_key: str = ""
    may_grow: bool = True


@dataclass(frozen=True)
class Business:
    """
    What is put to the test.

    Args:
        datasets: the declarations.
        sql_tables: that are made of these alone.
        settings: of the deployment; only time zone and salt of them hold here.
        arrivals: the objects, in the order of their keys.
        untested: dataset → why nothing of it is here.
    """

    datasets: Datasets
    sql_tables: SqlTables
    settings: Settings
    arrivals: tuple[Arrival, ...]
    untested: Mapping[str, str]

    def settings_at(self, place: Path, landing: str) -> Settings:
        """The settings of a deployment in the folder *place*."""
        return self.settings.model_copy(
            update={
                "landing": landing,
                "landing_warm": "",
                "landing_cold": "",
                "warehouse": place / "warehouse.duckdb",
                "publish": place / "published",
                "pii_salt": self.settings.pii_salt or SecretStr(SALT),
                "notice_webhook": None,
                "sinks": None,
                "threads": 2,
                "memory_limit": "",
            }
        )

    def open(self, place: Path, landing: LandingZone) -> Warehouse:
        """A warehouse over *landing*, in the folder *place*."""
        return Warehouse(self.settings_at(place, landing.url), landing, self.datasets, self.sql_tables)

    @cached_property
    def growing(self) -> tuple[Arrival, ...]:
        """Objects whose senders may be seen writing."""
        return tuple(arrival for arrival in self.arrivals if arrival.may_grow and len(arrival.content) > 1)


def chosen(datasets: Datasets, names: Sequence[str]) -> Datasets:
    """
    The named datasets, and those that they refer to; all where none is named.

    Raises:
        DeclarationError: there is no dataset of that name.
    """
    wanted: dict[str, Dataset] = {}

    def want(name: str) -> None:
        if name not in datasets:
            raise DeclarationError(f"there is no dataset {name!r}", f"one of {', '.join(sorted(datasets))}")
        dataset = datasets[name]
        if name in wanted:
            return
        wanted[name] = dataset
        for _, other, _ in dataset.references:
            want(other)
        if dataset.senders is not None:
            want(dataset.senders.dataset)

    for name in names or datasets:
        want(name)
    return Datasets(wanted.values())


def made_of(tables: SqlTables, datasets: Datasets) -> SqlTables:
    """The SQL tables that are made of these datasets alone."""
    there = {table for dataset in datasets.values() for table in (dataset.raw, dataset.processed)}
    kept = {}
    # Each stands after those it depends on.
    for key, table in tables.items():
        if set(table.depends_on) <= there and (table.of_changes is None or table.of_changes in there):
            kept[key] = table
            there.add(key)
    return SqlTables(kept)


def made_up(datasets: Datasets, tables: SqlTables, settings: Settings, seed: int) -> Business:
    """
    Objects made up from the declarations themselves.

    Raises:
        DeclarationError: nothing can be made up of any of them.
    """
    first = max(dataset.daily.from_ for dataset in datasets.values())
    maker = Maker(datasets, first, DAYS, SENDERS, ROWS, Random(seed))
    arrivals: dict[str, Arrival] = {}
    untested: dict[str, str] = {}
    for dataset in _referred_first(datasets):
        try:
            arrivals |= {one.key: one for one in _objects(dataset, maker, seed)}
        except CantMake as error:
            untested[dataset.name] = str(error)
    kept = {name: dataset for name, dataset in datasets.items() if name not in untested}
    lost = {name for name in kept if any(other in untested for other in _needed(datasets[name]))}
    if not kept or len(lost) == len(kept):
        told = "; ".join(f"{name}: {why}" for name, why in untested.items())
        raise DeclarationError(f"nothing can be made up: {told}", "take what has landed: --landed")
    remaining = Datasets(kept.values())
    return Business(
        remaining,
        made_of(tables, remaining),
        settings,
        tuple(arrivals[key] for key in sorted(arrivals)),
        untested,
    )


def _needed(dataset: Dataset) -> set[str]:
    found = {other for _, other, _ in dataset.references}
    return found | ({dataset.senders.dataset} if dataset.senders is not None else set())


def _referred_first(datasets: Datasets) -> list[Dataset]:
    done: list[Dataset] = []
    waiting = dict(datasets)
    while waiting:
        ready = [name for name in waiting if not (_needed(waiting[name]) - {name}) & waiting.keys()] or list(waiting)
        done += [waiting.pop(name) for name in ready]
    return done


def _objects(dataset: Dataset, maker: Maker, seed: int) -> Iterator[Arrival]:
    source = dataset.source
    if isinstance(source, StreamSegments):
        raise CantMake("segments of a stream aren't made up: give what has landed (--landed)")
    if not isinstance(source, LandedFiles):
        raise CantMake(f"{type(source).__name__} aren't made up: give what has landed (--landed)")
    if source.control is not None:
        raise CantMake("totals and markers of senders aren't made up: give what has landed (--landed)")
    for number, made in enumerate(maker.make(dataset)):
        template = source.keys[number % len(source.keys)]
        key = template.key(made.day, **{name: made.captures[name] for name in template.captures})
        content = written(dataset, made.rows, key, Random(f"{seed}/{key}"))
        yield Arrival(key, content, twin_key(dataset, key))


def twin_key(dataset: Dataset, key: str) -> str:
    """Another key under which the same content is a double of *key*; empty: there is none."""
    source = dataset.source
    match = source.match(key)
    if not isinstance(source, LandedFiles) or source.control is not None or dataset.kind != "events" or match is None:
        return ""
    day, captures = match
    used = {column.capture for column in dataset.columns}
    free = [name for name in captures if name not in used]
    for template in source.keys:
        found = template.match(key)
        if free and found is not None:
            # Longer, so that the first one stands for both.
            again = template.key(day, **(captures | {free[-1]: f"{captures[free[-1]]}-again"}))
            return again if source.match(again) is not None else ""
    return ""


def copied(
    datasets: Datasets,
    tables: SqlTables,
    settings: Settings,
    landing: LandingZone,
    days: int,
    most_bytes: int = MOST_BYTES,
) -> Business:
    """
    Copies of what has landed for the last days that there is anything of, and notes that stand beside it.

    Args:
        datasets: whose.
        tables: all SQL tables.
        settings: of the deployment.
        landing: the landing zone; nothing is written there.
        days: how many, of each dataset.
        most_bytes: of all of them together.

    Raises:
        SettingsError: there is nothing, or too much.
    """
    arrivals: dict[str, Arrival] = {}
    untested: dict[str, str] = {}
    size = 0
    for dataset in datasets.values():
        last = _last_day(dataset, landing)
        if last is None:
            untested[dataset.name] = "nothing of it has landed"
            continue
        is_file = isinstance(dataset.source, LandedFiles) and dataset.source.control is None
        for day in (last - timedelta(days=back) for back in range(days)):
            for prefix in sorted({template.prefix(day) for template in dataset.source.keys}):
                for landed in landing.list(prefix):
                    if landed.key in arrivals or not landed.is_at_hand:
                        continue
                    size += landed.size_bytes
                    if size > most_bytes:
                        raise SettingsError(
                            f"what has landed in {days} days is more than {most_bytes:,} bytes, and is loaded hundreds of times",
                            "take fewer days (--days), or name datasets (--dataset)",
                        )
                    is_ours = is_file and dataset.source.match(landed.key) is not None
                    arrivals[landed.key] = Arrival(
                        landed.key, landing.read(landed), twin_key(dataset, landed.key) if is_ours else "", is_ours
                    )
    for landed in landing.list("dialects/"):
        arrivals[landed.key] = Arrival(landed.key, landing.read(landed), may_grow=False)
    if not arrivals:
        raise SettingsError(f"nothing has landed in {landing.url}", "is INGESTION_LANDING right?")
    there = Datasets(dataset for dataset in datasets.values() if dataset.name not in untested or not arrivals)
    return Business(there, made_of(tables, there), settings, tuple(arrivals[key] for key in sorted(arrivals)), untested)


def _last_day(dataset: Dataset, landing: LandingZone) -> date | None:
    found: date | None = None
    for root in sorted({template.root for template in dataset.source.keys}):
        for landed in landing.list(root):
            match = dataset.source.match(landed.key)
            if match is not None and match[0] >= dataset.daily.from_:
                found = match[0] if found is None else max(found, match[0])
    return found
