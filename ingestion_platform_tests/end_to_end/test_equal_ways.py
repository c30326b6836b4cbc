"""Invariants 4 and 8: whatever way the same landed objects were loaded, the sorted exports are byte for byte the same."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from random import Random

import pytest

from ingestion_platform.demo import Story, tell
from ingestion_platform.errors import DayBeforeMissing
from ingestion_platform.warehouse import Warehouse, upkeep
from ingestion_platform_tests.end_to_end.places import ALL, Place, stale
from ingestion_platform_tests.s3_faults import Faults, S3Server
from ingestion_platform_tests.warehouse.building import differences, export

Way = Callable[[Place], None]


@dataclass(frozen=True)
class Told:
    """The example with every trouble, landed to the end and loaded in one go."""

    story: Story
    place: Place
    export: dict[str, str]
    published: dict[str, bytes]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """What every other way has to come to."""
    place = Place(tmp_path_factory.mktemp("at-once"))
    story = place.tell(ALL)
    place.catch_up()
    with place.open() as warehouse:
        found = export(warehouse)
    # Without a worker nobody raises alerts.
    empty = {key for key in found if found[key].count("\n") <= 1}
    assert empty <= {"raw.alerts", "processed.alerts"}, "an empty table is equal to everything"
    return Told(story, place, found, place.published())


def compare(told: Told, place: Place) -> None:
    """Assert that nothing is stale, nothing damaged, and every table and published file is the one of the first way."""
    with place.open() as warehouse:
        assert stale(warehouse) == {}
        assert upkeep.verify(warehouse) == []
        assert list(differences(export(warehouse), told.export)) == []
    assert place.published() == told.published


def twice(place: Place) -> None:
    """Everything, and then everything again: objects read anew, days computed anew."""
    place.catch_up()
    with place.open() as warehouse:
        for dataset in warehouse.datasets.values():
            for day in ALL.dates:
                warehouse.load(dataset, day)
                warehouse.load(dataset, day, reload=True)
        for dataset in warehouse.datasets.values():
            for day in ALL.dates:
                warehouse.process(dataset, day, force=True)
        for table in warehouse.sql_tables.values():
            for day in ALL.dates:
                warehouse.derive(table, day, force=True)


def shuffled(seed: int) -> Way:
    """Every call there is, in any order, so that most come too early; then what is stale, in any order, until nothing is."""

    def way(place: Place) -> None:
        dice = Random(seed)
        with place.open() as warehouse:
            calls = [call for day in ALL.dates for call in day_calls(warehouse, day)]
            dice.shuffle(calls)
            for call in calls:
                # A state refuses to be carried on over a day that was never computed; it is stale then, as what was never asked for.
                with suppress(DayBeforeMissing):
                    call()
            while left := [(table, day) for table, days in stale(warehouse).items() for day in days]:
                table, day = dice.choice(left)
                assert day is not None
                with suppress(DayBeforeMissing):
                    compute(warehouse, table, day)

    return way


def one_call_a_day(place: Place) -> None:
    """A process of its own for each day, the newest first, each doing its day alone; one more for what they left."""
    for day in reversed(ALL.dates):
        with place.open() as warehouse:
            for call in day_calls(warehouse, day):
                call()
    place.catch_up()


def day_calls(warehouse: Warehouse, day: date) -> Iterator[Callable[[], object]]:
    """All work on a day."""
    for dataset in warehouse.datasets.values():
        yield lambda dataset=dataset: warehouse.load(dataset, day)  # type: ignore[misc]  # mypy has no words for a default in a lambda
    for dataset in warehouse.datasets.values():
        yield lambda dataset=dataset: warehouse.process(dataset, day)  # type: ignore[misc]
    for table in warehouse.sql_tables.values():
        yield lambda table=table: warehouse.derive(table, day)  # type: ignore[misc]


def compute(warehouse: Warehouse, table: str, day: date) -> None:
    """A day of a processed or report table."""
    if table in warehouse.sql_tables:
        warehouse.derive(warehouse.sql_tables[table], day)
    else:
        warehouse.process(warehouse.datasets[table.split(".", 1)[1]], day)


def rebuilt(place: Place) -> None:
    """Loaded, lost, and rebuilt."""
    place.catch_up()
    with place.open() as warehouse:
        folder = warehouse.folder
    shutil.rmtree(folder)
    shutil.rmtree(place.settings.publish)
    assert upkeep.rebuild(place.open) is None


WAYS: dict[str, Way] = {
    "twice": twice,
    "shuffled": shuffled(1),
    "one-call-a-day": one_call_a_day,
    "rebuilt": rebuilt,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_every_way_gives_the_same_tables(told: Told, tmp_path: Path, way: Way) -> None:
    """Twice, in any order, day by day, or from the landing zone alone: the same bytes in every sorted export and published file."""
    place = told.place.beside(tmp_path)
    way(place)
    compare(told, place)


def test_step_by_step_as_things_land_gives_the_same_tables(told: Told, tmp_path: Path) -> None:
    """Loading each night what that night brought, days before their late files and rewrites, ends as loading all of it at the end does."""
    place = Place(tmp_path)
    for step in told.story.steps:
        arrivals = list(step.objects)
        for half in range(2):
            for arrival in arrivals[half::2]:
                place.put(arrival.key, arrival.content)
            place.catch_up()
    compare(told, place)


class Storm(threading.Thread):
    """Lets the S3 server misbehave again and again until it is told to stop: three requests of about every dozen."""

    def __init__(self, faults: Faults) -> None:
        super().__init__(name="storm", daemon=True)
        self._faults = faults
        self._is_over = threading.Event()
        self.met = 0

    def run(self) -> None:
        """Throttle, break off in the middle of bodies, and say nothing at all."""
        last = 0
        while not self._is_over.wait(0.005):
            if len(self._faults.requests) - last < 12 and last:
                continue
            last = len(self._faults.requests) or 1
            self._faults.slow_down(1)
            self._faults.cut_body(1, after_bytes=64)
            if self.met % 2:
                self._faults.cut_before_answer(1, method="GET")
            else:
                self._faults.refuse(500, "InternalError", 1)
            self.met += 3

    def stop(self) -> None:
        """Let it behave again."""
        self._is_over.set()
        self.join()


def test_s3_in_a_storm_gives_the_tables_of_the_local_folder(
    told: Told, tmp_path: Path, s3_server: S3Server, faults: Faults
) -> None:
    """Throttled requests, cut bodies and broken connections while everything is loaded from S3 leave no trace in any table."""
    bucket = s3_server.new_bucket()
    place = Place(tmp_path, f"s3://{bucket}/landing")
    keys = set()
    for step in tell(ALL).steps:
        for arrival in step.objects:
            s3_server.put(bucket, f"landing/{arrival.key}", arrival.content)
            keys.add(arrival.key)
    storm = Storm(faults)
    storm.start()
    try:
        place.catch_up()
    finally:
        storm.stop()
    reads = [request for request in faults.requests if request.startswith("GET") and not request.endswith(bucket)]
    assert len(reads) > len(keys)
    assert storm.met > 30, "there was no storm"
    faults.clear()
    compare(told, place)
