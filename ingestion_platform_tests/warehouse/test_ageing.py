"""Objects that have aged: no table changes, everything is read from wherever it is, and what an archive holds is waited for."""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from ingestion_platform.dataset import Dataset, Datasets, LandedFiles
from ingestion_platform.errors import DeclarationError, LandingError, ObjectCold
from ingestion_platform.format import Csv
from ingestion_platform.landing import LandedObject, LandingZone
from ingestion_platform.landing.s3 import S3Landing
from ingestion_platform.lifecycle import Lifecycle, Place
from ingestion_platform.warehouse import Only, upkeep
from ingestion_platform.warehouse.ageing import age
from ingestion_platform_tests.s3_faults import Faults, S3Server
from ingestion_platform_tests.warehouse.building import DAY, HEADER, SHOPS, TILLS, Bench, differences, line

AGEING = Lifecycle(warm_after_days=30, cold_after_days=365, restore_days=3, restore_tier="Standard")
BUSINESS = Datasets([SHOPS, replace(TILLS, lifecycle=AGEING)])
NEXT = DAY + timedelta(days=1)


def key(name: str, day: date = DAY) -> str:
    """Of a shop's file."""
    return f"tills/{day}/{name}.csv"


# --- folders


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A warehouse whose tills age; the roster doesn't."""
    return make(tmp_path)


def make(folder: Path, datasets: Datasets = BUSINESS, zone: LandingZone | None = None) -> Bench:
    """A bench with colder folders."""
    for name in ("warm", "cold"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    places: dict[str, object] = {"landing_warm": str(folder / "warm"), "landing_cold": str(folder / "cold")}
    return Bench(folder, datasets, zone, overrides=places)


def land(bench: Bench) -> None:
    """Two days, with a double, late rows, a broken file and one that nobody has declared."""
    bench.put_shops()
    for day in (DAY, NEXT):
        for shop in "abc":
            rows = line(f"{shop}{day}", shop, f"{day} 10:00:00") + line(f"{shop}late{day}", shop, f"{DAY} 11:00:00")
            bench.put(key(shop, day), HEADER + rows + line("", shop) + "short\n")
        bench.put(key("again", day), (bench.landing_folder / key("a", day)).read_bytes())
    bench.put(key("cut"), HEADER + "1,")
    bench.put("tills/notes.txt", "nobody's")


def years_later(years: float = 2) -> datetime:
    """A moment at which everything is due."""
    return datetime.now(UTC) + timedelta(days=365 * years)


def test_ageing_changes_no_table_and_nothing_is_read_again(bench: Bench) -> None:
    """After every object has gone warm, then cold, a load finds nothing new, and the tables are what they were."""
    land(bench)
    upkeep.catch_up(bench.warehouse)
    before = bench.export()
    for moment, place in ((years_later(0.2), "warm"), (years_later(), "cold")):
        done = age(bench.warehouse, now=moment)
        assert dict(done.moved) == dict(done.there) == {place: 10}
        assert done.left == []
        for day in (DAY, NEXT):
            assert bench.warehouse.news(BUSINESS["tills"], day, bench.warehouse.listing(BUSINESS["tills"], day)) == ()
            again = bench.load(day=day)
            assert (again.has_changed, again.bytes_read) == (False, 0)
        upkeep.catch_up(bench.warehouse)
        assert not list(differences(before, bench.export()))
        assert {row[0] for row in bench.rows("platform.ledger", "place")} == {"hot", place}
        assert {entry.place for entry in bench.load().entries} == {place}
        assert bench.warehouse.places.of_dataset("tills") == {place: (9, sum_of(bench, "tills"))}
    assert upkeep.verify(bench.warehouse) == []
    assert (bench.landing_folder / f"shops/{DAY}.csv").exists()


def sum_of(bench: Bench, dataset: str) -> int:
    """Bytes of a dataset's objects, as the ledger has them."""
    return sum(int(str(row[1])) for row in bench.rows("platform.ledger", "dataset", "size_bytes") if row[0] == dataset)


def test_a_replay_a_rebuild_and_another_declaration_read_from_the_colder_folders(bench: Bench, tmp_path: Path) -> None:
    """Reloading, rebuilding and reading otherwise give what they give from the hot folder."""
    land(bench)
    upkeep.catch_up(bench.warehouse)
    before = bench.export()
    age(bench.warehouse, now=years_later(0.2))
    (tmp_path / "landing" / key("new")).parent.mkdir(exist_ok=True)
    age(bench.warehouse, now=years_later())
    assert bench.load(reload=True).keys("loaded") == (key("a"), key("b"), key("c"))
    assert not list(differences(before, bench.export()))
    bench.warehouse.close()
    upkeep.rebuild(bench.open)
    bench.warehouse = bench.open()
    assert not list(differences(before, bench.export()))
    assert isinstance(TILLS.source, LandedFiles)
    told = replace(TILLS, lifecycle=AGEING, source=replace(TILLS.source, format=Csv(max_columns=4_000)))
    other = make(bench.root, Datasets([SHOPS, told]))
    assert len(other.load().new_keys) == 5


def test_another_warehouse_over_the_same_folders_reads_nothing_again(bench: Bench, tmp_path: Path) -> None:
    """A version is told by the object itself, not by the ledger of whoever has moved it."""
    land(bench)
    upkeep.catch_up(bench.warehouse)
    other = make(tmp_path / "other", zone=bench.landing)
    upkeep.catch_up(other.warehouse)
    age(bench.warehouse, now=years_later())
    assert other.load().bytes_read == 0
    assert other.rows("platform.ledger", "place")[0] == ("cold",)


def test_what_lands_again_under_an_aged_key_is_loaded(bench: Bench) -> None:
    """A producer's new version replaces the rows of the one that is cold, and ages in its turn."""
    bench.put_shops()
    bench.put(key("a"), HEADER + line("1"))
    bench.load()
    age(bench.warehouse, now=years_later())
    bench.put(key("a"), HEADER + line("2"))
    bench.load()
    assert bench.rows("raw.tills", "id") == [("2",)]
    assert bench.warehouse.places.of_dataset("tills").keys() == {"hot"}
    age(bench.warehouse, now=years_later())
    assert bench.load().bytes_read == 0
    assert bench.rows("raw.tills", "id") == [("2",)]


def test_a_file_that_has_rotted_is_left_and_told(bench: Bench) -> None:
    """Held against the ledger, it stays hot; the others go."""
    land(bench)
    upkeep.catch_up(bench.warehouse)
    path = bench.landing_folder / key("b")
    status, content = path.stat(), path.read_bytes()
    with path.open("r+b") as file:
        file.write(content.replace(b"b", b"X"))
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
    told: list[str] = []
    done = age(bench.warehouse, now=years_later(), tell=told.append)
    assert done.there == {"cold": 9, "hot": 1}
    assert len(told) == len(done.left) == 1
    assert key("b") in told[0]


def test_a_disk_that_fills_up_stops_ageing_and_loses_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has moved is noted, the rest stays; with room again, it goes on."""
    land(bench)
    upkeep.catch_up(bench.warehouse)
    fsync, room = os.fsync, iter(range(6))

    def fill(descriptor: int) -> None:
        if next(room, None) is None:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr("ingestion_platform.landing.local.os.fsync", fill)
    with pytest.raises(LandingError, match="No space left"):
        age(bench.warehouse, now=years_later())
    monkeypatch.undo()
    listed = {object_.key: object_.place for object_ in bench.landing.list("tills/")}
    assert len(listed) == 10
    assert bench.warehouse.places.known("", "z") == {name: place for name, place in listed.items() if place != "hot"}
    assert age(bench.warehouse, now=years_later()).there == {"cold": 10}
    assert bench.load(reload=True).rows == 9


def test_ageing_twice_at_once_does_it_once(bench: Bench) -> None:
    """The second says that another one is at it."""
    land(bench)
    with make(bench.root).landing.ageing():
        done = age(bench.warehouse, now=years_later())
    assert (done.is_elsewhere, str(done)[:15]) == (True, "another process")
    assert age(bench.warehouse, now=years_later()).moved["cold"] == 10


def test_what_is_not_due_stays(bench: Bench) -> None:
    """Days are counted from when an object landed."""
    land(bench)
    assert age(bench.warehouse, now=datetime.now(UTC) + timedelta(days=29.9)).moved == {}
    assert age(bench.warehouse, now=datetime.now(UTC) + timedelta(days=30.1)).moved == {"warm": 10}


# --- an archive


class Store:
    """A warehouse on S3, and what the store does by itself."""

    def __init__(self, folder: Path, server: S3Server, datasets: Datasets = BUSINESS) -> None:
        self.server = server
        self.bucket = server.new_bucket()
        self.zone = S3Landing(f"s3://{self.bucket}/in", attempts=3, first_wait_seconds=0.001, longest_wait_seconds=0.01)
        self.bench = Bench(folder, datasets, self.zone)

    def put(self, name: str, content: str) -> None:
        """Land an object."""
        self.server.put(self.bucket, f"in/{name}", content.encode())

    def move(self, storage_class: str, *names: str) -> None:
        """Age objects."""
        for name in names:
            self.server.move(self.bucket, f"in/{name}", storage_class)

    def restored(self, *names: str) -> None:
        """Have objects back that were asked for."""
        for name in names:
            self.server.restored(self.bucket, f"in/{name}")

    def land(self) -> None:
        """Three shops' day."""
        self.put(f"shops/{DAY}.csv", "shop,since\na,\nb,\nc,\n")
        for shop in "abc":
            self.put(key(shop), HEADER + line(f"1{shop}", shop))

    def is_news(self, day: date = DAY) -> bool:
        """Whether a sensor would ask for a run."""
        warehouse, dataset = self.bench.warehouse, self.bench.datasets["tills"]
        return bool(warehouse.news(dataset, day, warehouse.listing(dataset, day)))


@pytest.fixture
def store(tmp_path: Path, s3_server: S3Server, faults: Faults) -> Store:
    """An empty one."""
    return Store(tmp_path, s3_server)


@pytest.mark.parametrize(
    "storage_class", ["STANDARD", "STANDARD_IA", "ONEZONE_IA", "GLACIER_IR", "INTELLIGENT_TIERING"]
)
def test_what_is_at_hand_in_any_class_is_read(store: Store, storage_class: str) -> None:
    """Only archives must be asked; where an object is, is known and changes no version."""
    store.land()
    (before,) = store.zone.list(key("a"))
    store.move(storage_class, key("a"))
    (after,) = store.zone.list(key("a"))
    assert (before.token, before.landed_at, after.is_at_hand) == (after.token, after.landed_at, True)
    assert store.bench.load().rows == 3
    expected: dict[str, Place] = {"STANDARD_IA": "warm", "ONEZONE_IA": "warm", "GLACIER_IR": "cold"}
    entry = next(entry for entry in store.bench.load().entries if entry.key == key("a"))
    assert entry.place == expected.get(storage_class, "hot")


@pytest.mark.parametrize(("storage_class", "hours"), [("GLACIER", 5), ("DEEP_ARCHIVE", 12)])
def test_a_load_asks_the_archive_and_loads_the_rest(store: Store, storage_class: str, hours: int) -> None:
    """The object that isn't at hand is asked for once, told with when and how long, and loaded at the look at which it is back."""
    store.land()
    store.move(storage_class, key("b"))
    first = store.bench.load()
    assert (first.rows, [one.key for one in first.waiting]) == (2, [key("b")])
    (waiting,) = first.waiting
    assert abs(waiting.asked_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert waiting.expected_at - waiting.asked_at == timedelta(hours=hours)
    assert store.bench.rows("platform.waiting", "key") == [(key("b"),)]
    for _ in range(3):
        assert not store.is_news()
        assert store.bench.load().waiting == first.waiting
    store.restored(key("b"))
    assert store.is_news()
    last = store.bench.load()
    assert (last.rows, last.waiting, last.new_keys) == (3, (), (key("b"),))
    assert not store.is_news()
    assert upkeep.verify(store.bench.warehouse) == []


def test_looks_cost_one_question_a_day(store: Store, faults: Faults) -> None:
    """However many objects of a day wait, a look asks about one; asking again asks S3 to restore none twice."""
    store.land()
    store.move("GLACIER", key("a"), key("b"), key("c"))
    store.bench.load()
    assert sum(one.startswith("POST") for one in faults.requests) == 3
    faults.clear()
    assert not store.is_news()
    assert [one.split()[0] for one in faults.requests] == ["GET", "HEAD"]
    store.bench.load()
    assert not any(one.startswith("POST") for one in faults.requests)


def test_what_comes_back_bit_by_bit_is_loaded_bit_by_bit(store: Store) -> None:
    """Three objects, three looks."""
    store.land()
    store.move("GLACIER", key("a"), key("b"), key("c"))
    store.bench.load()
    for number, shop in enumerate("abc", start=1):
        store.restored(key(shop))
        assert store.is_news()
        assert store.bench.load().rows == number
    assert not store.is_news()


def test_aged_objects_that_are_loaded_are_not_asked_for(store: Store, faults: Faults) -> None:
    """What the ledger knows needs nothing, wherever it is."""
    store.land()
    store.bench.load()
    before = store.bench.export()
    store.move("DEEP_ARCHIVE", key("a"), key("b"), key("c"))
    faults.clear()
    assert not store.is_news()
    assert not store.bench.load().has_changed
    assert {one.split()[0] for one in faults.requests} == {"GET"}
    assert store.bench.export() == before
    assert store.bench.warehouse.places.of_dataset("tills").keys() == {"cold"}


def test_a_replay_waits_and_then_reads_everything_again(store: Store) -> None:
    """Until the archive has given them back the rows stand; then the objects are read anew, though nobody asks a second time."""
    store.land()
    store.bench.load()
    store.move("GLACIER", key("a"), key("b"))
    replay = store.bench.load(reload=True)
    assert (replay.new_keys, len(replay.waiting), replay.rows) == ((key("c"),), 2, 3)
    store.restored(key("a"), key("b"))
    assert store.is_news()
    again = store.bench.load()
    assert (again.new_keys, again.waiting, again.rows) == ((key("a"), key("b")), (), 3)
    assert upkeep.verify(store.bench.warehouse) == []


def test_an_object_that_is_gone_is_not_waited_for(store: Store) -> None:
    """Deleted by somebody while it is waited for, it is struck out."""
    store.land()
    store.move("GLACIER", key("b"))
    store.bench.load()
    store.server.delete(store.bucket, f"in/{key('b')}")
    assert not store.is_news()
    assert store.bench.load().waiting == ()


def test_a_double_whose_original_has_changed_waits_without_end_of_loads(store: Store) -> None:
    """The one that is to take its place is in the archive: the load ends, says so, and the rows come with it."""
    store.put(key("a"), HEADER + line("1"))
    store.put(key("copy"), HEADER + line("1"))
    store.bench.load()
    assert store.bench.states() == {key("a"): "loaded", key("copy"): "duplicate"}
    store.move("GLACIER", key("copy"))
    store.put(key("a"), HEADER + line("2"))
    assert [one.key for one in store.bench.load().waiting] == [key("copy")]
    assert store.bench.states()[key("copy")] == "pending"
    store.restored(key("copy"))
    store.bench.load()
    assert store.bench.rows("raw.tills", "id") == [("1",), ("2",)]


def test_a_limited_load_asks_for_its_own(store: Store, faults: Faults) -> None:
    """What a limit leaves out isn't fetched back."""
    store.land()
    store.move("GLACIER", key("a"), key("b"))
    loaded = store.bench.warehouse.load(BUSINESS["tills"], DAY, only=Only(frozenset({key("a"), key("c")})))
    assert ([one.key for one in loaded.waiting], loaded.rows) == ([key("a")], 1)


def test_what_goes_back_before_it_is_read_is_asked_for_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The days for which it was kept at hand have passed just now: it waits once more, the others load."""
    store.land()
    read = store.zone.read

    def expire(object_: LandedObject) -> bytes:
        if object_.key == key("b"):
            store.move("GLACIER", key("b"))
        return read(object_)

    monkeypatch.setattr(store.zone, "read", expire)
    first = store.bench.load()
    monkeypatch.undo()
    assert first.rows == 2
    assert [one.key for one in store.bench.load().waiting] == [key("b")]
    store.restored(key("b"))
    assert store.bench.load().rows == 3


def test_a_rebuild_asks_for_everything_at_once_and_waits(store: Store, faults: Faults) -> None:
    """The former warehouse stays in its place until all can be read; then the rebuild equals it."""
    store.land()
    upkeep.catch_up(store.bench.warehouse)
    before = store.bench.export()
    store.move("DEEP_ARCHIVE", key("a"), key("b"), f"shops/{DAY}.csv")
    store.bench.warehouse.close()
    faults.clear()
    with pytest.raises(ObjectCold, match="3 objects") as caught:
        upkeep.rebuild(store.bench.open)
    assert sum(one.startswith("POST") for one in faults.requests) == 3
    assert (caught.value.can_retry, "run it again" in caught.value.hint) == (True, True)
    store.restored(key("a"), key("b"))
    with pytest.raises(ObjectCold, match="1 object "):
        upkeep.rebuild(store.bench.open)
    store.bench.warehouse = store.bench.open()
    assert store.bench.export() == before
    store.bench.warehouse.close()
    store.restored(f"shops/{DAY}.csv")
    assert upkeep.rebuild(store.bench.open) is not None
    store.bench.warehouse = store.bench.open()
    assert not list(differences(before, store.bench.export()))


def test_a_repair_repairs_what_it_can_and_says_what_it_waits_for(store: Store) -> None:
    """A damaged file of an archived object is asked for; the repair that follows makes it anew."""
    store.land()
    upkeep.catch_up(store.bench.warehouse)
    before = store.bench.export()
    store.move("GLACIER", key("a"), key("b"), key("c"))
    (damaged,) = (store.bench.warehouse.folder / "tables" / "raw" / "tills").rglob("*.parquet")
    damaged.write_bytes(b"x")
    with pytest.raises(ObjectCold, match="3 objects"):
        upkeep.repair(store.bench.warehouse)
    store.restored(key("a"), key("b"), key("c"))
    upkeep.repair(store.bench.warehouse)
    assert not list(differences(before, store.bench.export()))


def test_catching_up_tells_what_waits(store: Store) -> None:
    """In its dataset's line."""
    store.land()
    store.move("GLACIER", key("a"))
    told: list[str] = []
    upkeep.catch_up(store.bench.warehouse, tell=told.append)
    assert "raw.tills: 2 rows of 1 days; 1 object is" in told[1]
    assert key("a") in told[1]


def test_the_ledger_learns_where_s3_has_moved_objects(store: Store) -> None:
    """Ageing on S3 is looking where they are."""
    store.land()
    store.bench.load()
    store.move("STANDARD_IA", key("a"))
    store.move("DEEP_ARCHIVE", key("b"))
    done = age(store.bench.warehouse, now=years_later())
    assert (done.moved, done.there) == ({}, {"hot": 1, "warm": 1, "cold": 1})
    assert {place: count for place, (count, _) in store.bench.warehouse.places.of_dataset("tills").items()} == {
        "hot": 1,
        "warm": 1,
        "cold": 1,
    }
    store.move("STANDARD", key("a"), key("b"))
    age(store.bench.warehouse)
    assert store.bench.warehouse.places.of_dataset("tills").keys() == {"hot"}


def test_a_store_that_does_not_answer_leaves_nothing_asked_in_the_ledger(store: Store, faults: Faults) -> None:
    """The load fails, to be tried again; the next one asks."""
    store.land()
    store.move("GLACIER", key("a"))
    faults.refuse(403, "AccessDenied", None, method="POST")
    with pytest.raises(LandingError, match="AccessDenied") as caught:
        store.bench.load()
    assert "s3:RestoreObject" in caught.value.hint
    faults.clear()
    assert [one.key for one in store.bench.load().waiting] == [key("a")]


# --- declarations


@pytest.mark.parametrize(
    "make_one",
    [
        lambda: Lifecycle(),
        lambda: Lifecycle(warm_after_days=29),
        lambda: Lifecycle(warm_after_days=30, cold_after_days=59),
        lambda: Lifecycle(cold_after_days=0),
        lambda: Lifecycle(cold_after_days=90, restore_tier="Expedited"),
        lambda: Lifecycle(cold_after_days=90, restore_days=0),
        lambda: Datasets([replace(SHOPS, lifecycle=Lifecycle(cold_after_days=9)), nested()]),
    ],
)
def test_a_lifecycle_that_makes_no_sense_is_refused(make_one: Callable[[], object]) -> None:
    """What S3 would refuse, or what contradicts itself, fails at import."""
    with pytest.raises(DeclarationError):
        make_one()


def nested() -> Dataset:
    """A dataset whose keys begin with another one's beginning."""
    return replace(TILLS, source=LandedFiles("shops/tills/%Y-%m-%d/{shop}.csv"))
