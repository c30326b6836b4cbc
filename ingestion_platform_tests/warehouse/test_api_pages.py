"""Tables of an API's pages: of each day the last whole fetch, whatever landed before, beside and in between."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ingestion_platform.api import ApiPages, Cursor, EachValue, Endpoint
from ingestion_platform.dataset import Changes, Daily, Dataset, Datasets
from ingestion_platform.errors import DeclarationError, NotMaterialized, WarehouseError
from ingestion_platform.format import Json
from ingestion_platform.sources.fetch import Fetch, Fetched
from ingestion_platform.sources.fetched import LandedEndpoint
from ingestion_platform.table import BIGINT, BOOLEAN, TIMESTAMP, VARCHAR, Column
from ingestion_platform.warehouse import upkeep
from ingestion_platform_tests.sources.memory_api import PAGINGS, Killed, MemoryApi, endpoint, records
from ingestion_platform_tests.warehouse.building import DAY, Bench, differences

NEXT = DAY + timedelta(days=1)
THINGS = endpoint(PAGINGS["token"])
COLUMNS = (
    Column("thing", BIGINT, "Its number.", source="id", required=True),
    Column("name", VARCHAR, "Its name."),
    Column("is_stale", BOOLEAN, "Stands in.", source="@is_stale"),
    Column("asked_at", TIMESTAMP, "When.", source="@fetched_at"),
)


def snapshots(asked: Endpoint = THINGS, **changes: Any) -> Dataset:
    """A table of things as they are."""
    values: dict[str, Any] = {
        "name": "things", "description": "Things.", "source": ApiPages(asked), "kind": "snapshots", "columns": COLUMNS,
        "primary_key": ("thing",), "daily": Daily(DAY),
    }  # fmt: skip
    return Dataset(**{**values, **changes})


FOLLOWED = endpoint(
    PAGINGS["token"], params={"since": "{cursor}"}, cursor=Cursor(field="at", begin="2024-10-01T00:00:00Z")
)


def followed() -> Dataset:
    """A table of things as they change."""
    columns = (
        *COLUMNS[:2],
        Column("at", TIMESTAMP, "When it changed."),
        Column("position", VARCHAR, "Place.", source="@position"),
    )
    return snapshots(FOLLOWED, kind="changes", changes=Changes(operation=None), columns=columns)


class World:
    """A warehouse, an API and its endpoint."""

    def __init__(self, folder: Path, dataset: Dataset, api: MemoryApi) -> None:
        self.bench = Bench(folder, Datasets([dataset]))
        self.dataset = dataset
        self.api = api
        self.at = datetime(2024, 10, 1, 12, tzinfo=UTC)

    def fetch(self, day: date = DAY, **options: Any) -> Fetched:
        """Fetch a day."""
        self.at += timedelta(seconds=1)
        assert isinstance(self.dataset.source, ApiPages)
        landed = LandedEndpoint(self.dataset.source.endpoint, self.bench.landing)
        return Fetch(landed, self.api, ZoneInfo("Africa/Johannesburg"), now=lambda: self.at).run(day, **options)

    def settle(self, *days: date) -> None:
        """Load and process days."""
        for day in days or (DAY,):
            self.bench.load("things", day)
            self.bench.process("things", day)

    def names(self, table: str = "processed.things") -> list[tuple[object, ...]]:
        """What a table has."""
        return self.bench.rows(table, "thing", "name")

    def rebuilt(self) -> list[str]:
        """Where a warehouse made anew from the landing zone differs."""
        before = self.bench.export()
        self.bench.warehouse.close()
        upkeep.rebuild(self.bench.open)
        self.bench.warehouse = self.bench.open()
        return list(differences(before, self.bench.export()))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Makes a world."""
    made: list[World] = []

    def make(dataset: Dataset | None = None, api: MemoryApi | None = None) -> World:
        made.append(World(tmp_path, dataset or snapshots(), api or MemoryApi(records(5))))
        return made[-1]

    yield make
    for one in made:
        one.bench.warehouse.close()


def test_a_fetch_becomes_a_table(world: Callable[..., World]) -> None:
    """With what is around each record where the declaration asks for it."""
    here = world()
    here.fetch()
    here.settle()
    assert here.names() == [(one, f"thing {one}") for one in range(1, 6)]
    assert here.bench.rows("processed.things", "is_stale")[0] == (False,)
    assert here.rebuilt() == []


def test_a_later_fetch_takes_the_place_of_the_one_before(world: Callable[..., World]) -> None:
    """What the API doesn't have any more is gone from the table; nothing of the former fetch counts, and a rebuild agrees."""
    here = world()
    here.fetch()
    here.settle()
    here.api.records[0]["name"] = "another"
    del here.api.records[4]
    here.fetch()
    here.settle()
    assert here.names() == [(1, "another"), (2, "thing 2"), (3, "thing 3"), (4, "thing 4")]
    assert here.names("raw.things") == [("1", "another"), ("2", "thing 2"), ("3", "thing 3"), ("4", "thing 4")]
    assert sorted(here.bench.states("things").values()) == ["loaded", "replaced"]
    assert here.bench.warehouse.stale_days("processed.things") == []
    assert here.rebuilt() == []


def test_a_fetch_that_was_replaced_before_it_was_loaded_is_not_read(world: Callable[..., World]) -> None:
    """It is in the ledger all the same: everything that lands is."""
    here = world()
    here.fetch()
    here.api.records[0]["name"] = "another"
    here.fetch()
    loaded = here.bench.load("things")
    assert len(loaded.new_keys) == 1
    assert sorted(here.bench.states("things").values()) == ["loaded", "replaced"]
    assert here.bench.load("things").new_keys == ()


def test_a_fetch_that_was_taken_away_keeps_its_rows_until_a_rebuild(world: Callable[..., World]) -> None:
    """As any object that somebody deletes; then the one before it counts again."""
    here = world()
    here.fetch()
    here.settle()
    here.api.records[0]["name"] = "another"
    later = here.fetch().name
    here.settle()
    for file in here.bench.landing_folder.rglob(f"{later}/*"):
        file.unlink()
    here.settle()
    assert here.names()[0] == (1, "another")
    assert here.rebuilt() != []
    assert here.names()[0] == (1, "thing 1")


def test_half_a_fetch_is_in_no_table(world: Callable[..., World]) -> None:
    """Killed between two pages: what was there stays; the rest of it lands, and takes its place."""
    here = world()
    here.fetch()
    here.settle()
    here.api.records[0]["name"] = "another"

    def die(number: int) -> None:
        if number == 4:
            raise Killed

    here.api.before = die
    with pytest.raises(Killed):
        here.fetch()
    here.settle()
    assert here.names()[0] == (1, "thing 1")
    here.api.before = lambda _: None
    here.fetch()
    here.settle()
    assert here.names()[0] == (1, "another")
    assert here.rebuilt() == []


def test_nothing_is_left_of_a_day_on_which_nothing_is_asked_any_more(world: Callable[..., World]) -> None:
    """A fetch without requests is an answer too."""
    regional = endpoint(path="/things/{region}", each=EachValue("region", ("za",)))
    here = world(snapshots(regional), MemoryApi(records(3)))
    here.fetch(each=[{"region": "za"}])
    here.settle()
    here.fetch(each=[])
    here.settle()
    assert here.names() == []
    assert here.rebuilt() == []


def test_two_days_that_were_told_the_same_both_have_it(world: Callable[..., World]) -> None:
    """Equal pages of two days are no duplicates of one another."""
    here = world()
    here.fetch()
    here.fetch(NEXT)
    here.settle(DAY, NEXT)
    assert len(here.names()) == 10


def test_one_endpoint_gives_several_tables(tmp_path: Path) -> None:
    """Of the same pages, by where their records are."""
    parts = snapshots(
        name="parts",
        source=ApiPages(THINGS, Json("data.items[*].parts[*]")),
        columns=(
            Column("part", VARCHAR, "Its name.", source="name"),
            Column("thing", BIGINT, "Whose.", source="../id"),
        ),
        primary_key=("part",),
    )
    bench = Bench(tmp_path, Datasets([snapshots(), parts]))
    there = [{"id": 1, "name": "a", "parts": [{"name": "x"}, {"name": "y"}]}, {"id": 2, "name": "b", "parts": []}]
    Fetch(LandedEndpoint(THINGS, bench.landing), MemoryApi(there), ZoneInfo("UTC")).run(DAY)
    for name in ("things", "parts"):
        bench.load(name)
        bench.process(name)
    assert bench.rows("processed.parts", "part", "thing") == [("x", 1), ("y", 1)]
    assert bench.rows("processed.things", "thing") == [(1,), (2,)]


def _changed(id_: int, name: str, minute: int) -> dict[str, Any]:
    return {"id": id_, "name": name, "at": f"2024-10-01T08:{minute:02}:00Z"}


def test_what_is_new_since_the_last_time_gives_a_history_and_a_current_table(world: Callable[..., World]) -> None:
    """All fetches count: every state that was seen, and of each thing the last."""
    here = world(followed(), MemoryApi([_changed(1, "a", 1), _changed(2, "b", 2)]))
    here.fetch()
    here.api.records[:] = [_changed(1, "a", 1), _changed(2, "b renamed", 5), _changed(3, "c", 6)]
    here.fetch()
    here.api.records[:] = [_changed(1, "a moved", 9), _changed(2, "b renamed", 5), _changed(3, "c", 6)]
    here.fetch(NEXT)
    here.settle(DAY, NEXT)
    current = here.bench.sql_tables["processed.things_current"]
    for day in (DAY, NEXT):
        here.bench.warehouse.derive(current, day)
    assert [name for _, name in here.names()] == ["a", "a moved", "b", "b renamed", "c", "c"]
    states = {DAY: ["a", "b renamed", "c"], NEXT: ["a moved", "b renamed", "c"]}
    for day, names in states.items():
        table = here.bench.warehouse.read("processed.things_current", last=day).sort_by("thing")
        assert table["name"].to_pylist() == names
    assert here.rebuilt() == []


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: snapshots(FOLLOWED), "has a cursor: a fetch has only what is new"),
        (lambda: snapshots(kind="changes", changes=Changes(operation=None)), "has no cursor"),
        (
            lambda: snapshots(columns=(*COLUMNS, Column("region", VARCHAR, "Where.", source="@param.region"))),
            "'@param.region' is nothing that a page of 'things' has",
        ),
        (
            lambda: Datasets([snapshots(), snapshots(endpoint(path="/others"), name="others")]),
            "is declared twice, and not alike",
        ),
    ],
)
def test_a_mistake_in_a_declaration_is_told(make: Callable[[], object], told: str) -> None:
    """At import, with what to do."""
    with pytest.raises(DeclarationError, match=told):
        make()


def test_rows_of_a_snapshot_are_given_as_they_stood_on_a_day(tmp_path: Path) -> None:
    """The newest on or before it; what is asked about with them is distinct and whole."""
    bench = Bench(tmp_path)
    shops = bench.datasets["shops"]
    with pytest.raises(NotMaterialized, match="has nothing as of 2024-10-01"):
        bench.warehouse.rows_as_of(shops, ["shop"], DAY)
    bench.put_shops("b", "a")
    bench.put_shops("c", day=NEXT)
    for day in (DAY, NEXT):
        bench.load("shops", day)
        bench.process("shops", day)
    ask = bench.warehouse.rows_as_of
    assert ask(shops, ["shop"], DAY) == [("a",), ("b",)]
    assert ask(shops, ["shop"], DAY, where="shop > 'a'") == [("b",)]
    assert ask(shops, ["shop"], NEXT + timedelta(days=9)) == [("c",)]
    assert ask(shops, ["shop", "since"], DAY) == []
    with pytest.raises(WarehouseError, match="can't be understood"):
        ask(shops, ["shop"], DAY, where="nothing ==")
