"""Sensors: what starts a run, what doesn't, what it costs to find out, and that a stale state isn't asked for again and again."""

from collections.abc import Sequence
from datetime import date, timedelta

import dagster as dg
import pytest

from ingestion_platform.dataset import Daily
from ingestion_platform.orchestration.arrivals import OTHER_DAYS_A_LOOK, Cursor, look, recent_days
from ingestion_platform.orchestration.graph import table_of
from ingestion_platform.orchestration.restatements import Asked
from ingestion_platform.orchestration.runs import RANGE_END, RANGE_START, busy, days_of
from ingestion_platform.warehouse import SqlTables
from ingestion_platform_tests.orchestration.world import TODAY, World, by_shop, run, tills, world

YESTERDAY = TODAY - timedelta(days=1)


def days_asked(requests: Sequence[dg.RunRequest]) -> list[tuple[str, str]]:
    """First and last day of each run that is asked for."""
    found = []
    for one in requests:
        first = one.partition_key or one.tags[RANGE_START]
        found.append((first, one.partition_key or one.tags[RANGE_END]))
    return found


def tables_asked(request: dg.RunRequest) -> set[str]:
    """Tables that a run covers."""
    return {table_of(key) for key in request.asset_selection or ()}


class Sensing:
    """A sensor with its cursor, tick after tick; Dagster's own dedupe by run key included."""

    def __init__(self, place: World, name: str, instance: dg.DagsterInstance | None = None) -> None:
        self.world = place
        self.definitions = place.definitions()
        self.repository = self.definitions.get_repository_def()
        self.sensor = self.repository.get_sensor_def(name)
        self.instance = instance or dg.DagsterInstance.ephemeral()
        self.cursor: str | None = None
        self.keys: set[str] = set()
        self.skip = ""
        self.events: Sequence[object] = ()

    def tick(self) -> list[dg.RunRequest]:
        """The runs that Dagster would start."""
        with dg.build_sensor_context(
            self.instance,
            cursor=self.cursor,
            definitions=self.definitions,
            resources={"warehouse": self.world.resource},
        ) as context:
            result = self.sensor.evaluate_tick(context)
        self.cursor = result.cursor
        self.skip = result.skip_message or ""
        self.events = result.asset_events
        new = [one for one in result.run_requests or () if one.run_key not in self.keys]
        self.keys |= {one.run_key for one in new if one.run_key}
        return new

    def load(self, request: dg.RunRequest) -> None:
        """Do what the run would do for raw."""
        first, last = days_asked([request])[0]
        assert first == last
        with self.world.resource.opened() as warehouse:
            warehouse.load(self.world.datasets["tills"], date.fromisoformat(first))


@pytest.fixture
def place() -> World:
    """An empty world."""
    return world()


@pytest.fixture
def arriving(place: World) -> Sensing:
    """The file-arrival sensor of tills."""
    return Sensing(place, "tills_arrives")


@pytest.fixture
def restating(place: World) -> Sensing:
    """The restatement sensor."""
    return Sensing(place, "restatement")


def queue(instance: dg.DagsterInstance, place: World, tables: list[str], first: date, last: date) -> None:
    """A run that is under way and doesn't end."""
    job = place.definitions().resolve_implicit_global_asset_job_def()
    instance.create_run_for_job(
        job,
        status=dg.DagsterRunStatus.STARTED,
        tags={RANGE_START: str(first), RANGE_END: str(last)},
        asset_selection=frozenset(dg.AssetKey(table.split(".")) for table in tables),
    )


def test_a_new_file_starts_one_run_of_its_day(place: World, arriving: Sensing) -> None:
    """One run for the day, from raw to every report made of it."""
    place.land("tills", YESTERDAY, "A", "B")
    asked = arriving.tick()
    assert days_asked(asked) == [(str(YESTERDAY), str(YESTERDAY))]
    assert tables_asked(asked[0]) == {"raw.tills", "processed.tills", "reports.by_shop", "reports.ever"}
    assert asked[0].partition_key == str(YESTERDAY)


def test_nothing_new_starts_nothing(place: World, arriving: Sensing) -> None:
    """A second look at the same objects gives a reason and no run."""
    place.land("tills", YESTERDAY, "A")
    arriving.load(arriving.tick()[0])
    assert arriving.tick() == []
    assert "nothing new" in arriving.skip


def test_the_same_name_with_other_content_starts_another_run(place: World, arriving: Sensing) -> None:
    """A re-delivered name has another run key, so Dagster doesn't take it for the run it has had."""
    place.land("tills", YESTERDAY, "A")
    first = arriving.tick()[0]
    arriving.load(first)
    place.land("tills", YESTERDAY, "A", token="2", minute=5)
    second = arriving.tick()
    assert len(second) == 1
    assert second[0].run_key != first.run_key


def test_a_day_years_ago_is_found(place: World) -> None:
    """An object for a day far before the recent ones is found in turn, and asked for once."""
    place.datasets = type(place.datasets)([place.datasets["shops"], tills(daily=Daily(date(2020, 1, 1), 3))])
    sensing = Sensing(place, "tills_arrives")
    sensing.tick()
    old = date(2021, 7, 3)
    place.land("tills", old, "A")
    history = (TODAY - date(2020, 1, 1)).days + 1
    asked: list[dg.RunRequest] = []
    for _ in range(history // OTHER_DAYS_A_LOOK + 1):
        for one in sensing.tick():
            asked.append(one)
            sensing.load(one)
    assert days_asked(asked) == [(str(old), str(old))]


def test_a_look_costs_as_much_with_ten_years_of_history(place: World) -> None:
    """Listings of a tick: the recent days and a few others, however long the history."""
    for first in (date(2024, 9, 1), date(2014, 9, 1)):
        place.datasets = type(place.datasets)([place.datasets["shops"], tills(daily=Daily(first, 3))])
        sensing = Sensing(place, "tills_arrives")
        for _ in range(3):
            place.calls.clear()
            sensing.tick()
            assert place.calls["listing"] <= 8 + 9 + OTHER_DAYS_A_LOOK
            assert place.calls["raw_day"] == 0
        assert len(sensing.cursor or "") < 1000


def test_the_recent_days_cover_the_allowed_lateness() -> None:
    """As many days are listed at every look as rows may be late, a week at least, none before the first; the first, where all is empty."""
    assert recent_days(tills(), TODAY, TODAY)[0] == TODAY - timedelta(days=7)
    late = tills(daily=Daily(date(2024, 1, 1), allowed_lateness_days=30))
    assert recent_days(late, TODAY, TODAY)[0] == TODAY - timedelta(days=30)
    assert recent_days(late, TODAY)[0] == date(2024, 1, 1)
    assert recent_days(tills(daily=Daily(TODAY, 3)), TODAY) == [TODAY]
    assert recent_days(tills(daily=Daily(TODAY + timedelta(days=1), 3)), TODAY) == []


def test_a_history_that_is_handed_over_is_watched_where_it_grows(place: World, arriving: Sensing) -> None:
    """Where the newest day there is lies long ago, the days before it are looked at every time, too."""
    place.today = date(2026, 10, 20)
    newest = date(2024, 10, 9)
    place.land("tills", newest, "A")
    with place.resource.opened() as warehouse:
        warehouse.load(place.datasets["tills"], newest)
    arriving.tick()
    place.land("tills", newest - timedelta(days=2), "B")
    assert days_asked(arriving.tick()) == [("2024-10-07", "2024-10-07")]
    place.land("tills", newest + timedelta(days=1), "A")
    assert ("2024-10-10", "2024-10-10") in days_asked(arriving.tick())


def test_a_first_look_at_loaded_history_starts_nothing(place: World) -> None:
    """A sensor without memory asks the ledger: what is loaded in this version needs no run."""
    for number in range(15):
        day = TODAY - timedelta(days=number)
        place.land("tills", day, "A")
        with place.resource.opened() as warehouse:
            warehouse.load(place.datasets["tills"], day)
    sensing = Sensing(place, "tills_arrives")
    for _ in range(4):
        assert sensing.tick() == []


def test_a_cursor_that_cannot_be_read_is_an_empty_one(place: World, arriving: Sensing) -> None:
    """Damage to the cursor costs a look at the ledger, and starts no run for what is loaded."""
    place.land("tills", YESTERDAY, "A")
    arriving.load(arriving.tick()[0])
    for broken in ("", "{", "[]", '{"seen": 3}', '{"seen": {"x": "y"}}', '{"other": 7}'):
        arriving.cursor = broken
        assert arriving.tick() == []


def test_a_day_under_way_waits(place: World) -> None:
    """What lands while a run of its day is queued or under way is found by the look after it."""
    instance = dg.DagsterInstance.ephemeral()
    sensing = Sensing(place, "tills_arrives", instance)
    queue(instance, place, ["raw.tills"], YESTERDAY, YESTERDAY)
    place.land("tills", YESTERDAY, "A")
    assert sensing.tick() == []
    for one in instance.get_runs():
        instance.report_run_failed(one)
    assert days_asked(sensing.tick()) == [(str(YESTERDAY), str(YESTERDAY))]


def test_a_run_that_came_to_nothing_is_asked_for_again_the_next_day(place: World, arriving: Sensing) -> None:
    """Objects that a run was asked for and that the ledger still doesn't know are asked for once more each business day."""
    place.land("tills", YESTERDAY, "A")
    assert len(arriving.tick()) == 1
    again = [one for _ in range(6) for one in arriving.tick()]
    assert len(again) == 1
    place.today = TODAY + timedelta(days=1)
    assert len([one for _ in range(6) for one in arriving.tick()]) == 1


def test_changed_days_are_observed(place: World, arriving: Sensing) -> None:
    """The tick tells Dagster what has landed for the days that changed."""
    place.land("tills", YESTERDAY, "A", "B")
    arriving.tick()
    assert len(arriving.events) == 1
    observed = arriving.events[0]
    assert isinstance(observed, dg.AssetObservation)
    assert observed.partition == str(YESTERDAY)
    assert observed.metadata["objects"].value == 2


def test_a_slow_landing_zone_does_not_cost_the_tick(place: World) -> None:
    """When time is up, what was seen counts, and the next look goes on with the rest."""
    for number in range(8):
        place.land("tills", TODAY - timedelta(days=number), "A")
    time = iter(range(0, 10_000, 15))
    with place.resource.opened() as warehouse:
        found = look(
            place.datasets["tills"], warehouse, Cursor(), TODAY, lambda *_: False, clock=lambda: float(next(time))
        )
    assert found.listed == 2
    assert [arrival.day for arrival in found.arrivals] == [YESTERDAY, TODAY]
    assert sorted(found.cursor.seen) == [YESTERDAY, TODAY]


def test_a_flood_of_runs_is_held_back(place: World) -> None:
    """With many runs of a dataset waiting, its sensor asks for no more."""
    instance = dg.DagsterInstance.ephemeral()
    sensing = Sensing(place, "tills_arrives", instance)
    for number in range(16):
        queue(
            instance,
            place,
            ["raw.tills"],
            date(2024, 10, 1) + timedelta(days=number),
            date(2024, 10, 1) + timedelta(days=number),
        )
    place.land("tills", TODAY, "A")
    assert sensing.tick() == []
    assert "no more for now" in sensing.skip


def test_tables_that_begin_on_different_days_go_in_one_run(place: World) -> None:
    """A run over tables of different first days has its day as a range, and Dagster runs it."""
    place.datasets = type(place.datasets)([place.datasets["shops"], tills(daily=Daily(date(2024, 10, 5), 3))])
    sensing = Sensing(place, "tills_arrives")
    place.land("tills", YESTERDAY, "A")
    asked = sensing.tick()[0]
    assert asked.partition_key is None
    assert (asked.tags[RANGE_START], asked.tags[RANGE_END]) == (str(YESTERDAY), str(YESTERDAY))
    result = run(sensing.definitions, sensing.instance, sorted(tables_asked(asked)), YESTERDAY, YESTERDAY)
    assert result.success


def test_stale_days_are_computed_again_and_no_other(place: World, restating: Sensing) -> None:
    """Stale days that stand together go in one run, with what is made of them; other days aren't touched."""
    place.stale["processed.tills"] = [date(2024, 10, 3), date(2024, 10, 4), date(2024, 10, 9)]
    asked = restating.tick()
    assert days_asked(asked) == [("2024-10-03", "2024-10-04"), ("2024-10-09", "2024-10-09")]
    assert tables_asked(asked[0]) == {"processed.tills", "reports.by_shop"}


def test_the_same_stale_state_is_asked_for_once(place: World, restating: Sensing) -> None:
    """A day that stays stale isn't asked for again, until its inputs change or another business day begins."""
    place.stale["processed.tills"] = [YESTERDAY]
    assert len(restating.tick()) == 1
    assert restating.tick() == []
    assert "asked for already" in restating.skip
    place.versions["processed.tills", YESTERDAY] += 1
    assert len(restating.tick()) == 1
    assert restating.tick() == []
    place.today = TODAY + timedelta(days=1)
    assert len(restating.tick()) == 1


def test_a_failing_day_does_not_hold_up_others(place: World, restating: Sensing) -> None:
    """A new stale day is asked for alone, though its neighbour stays stale."""
    place.stale["processed.tills"] = [YESTERDAY]
    restating.tick()
    place.stale["processed.tills"] = [YESTERDAY - timedelta(days=1), YESTERDAY]
    assert days_asked(restating.tick()) == [(str(YESTERDAY - timedelta(days=1)),) * 2]


def test_a_day_that_is_being_computed_is_left_alone(place: World) -> None:
    """A stale day with a run queued or under way for its table starts none, nor does it once that run has failed for the same state."""
    instance = dg.DagsterInstance.ephemeral()
    sensing = Sensing(place, "restatement", instance)
    place.stale["processed.tills"] = [YESTERDAY]
    assert len(sensing.tick()) == 1
    queue(instance, place, ["processed.tills"], YESTERDAY - timedelta(days=3), YESTERDAY)
    assert sensing.tick() == []
    for one in instance.get_runs():
        instance.report_run_failed(one)
    assert sensing.tick() == []


def test_what_a_blocking_check_holds_back_stays_back(place: World, restating: Sensing) -> None:
    """A stale report isn't made of a day whose blocking check fails, and the tick says by which."""
    place.unbalanced.add(("processed.tills", YESTERDAY))
    with place.resource.opened() as warehouse:
        warehouse.process(place.datasets["tills"], YESTERDAY)
    place.stale["reports.by_shop"] = [YESTERDAY]
    assert restating.tick() == []
    assert f"reports.by_shop {YESTERDAY} by processed.tills row_balance" in restating.skip
    place.unbalanced.clear()
    with place.resource.opened() as warehouse:
        warehouse.process(place.datasets["tills"], YESTERDAY)
    assert len(restating.tick()) == 1


def test_a_table_without_days_waits_for_those_with_days(place: World, restating: Sensing) -> None:
    """A stale table without days is computed once, after the days it is made of."""
    place.stale["processed.tills"] = [YESTERDAY]
    place.stale["reports.ever"] = [None]
    assert "reports.ever" not in tables_asked(restating.tick()[0])
    place.stale["processed.tills"] = []
    asked = restating.tick()
    assert [tables_asked(one) for one in asked] == [{"reports.ever"}]
    assert asked[0].partition_key is None
    assert RANGE_START not in asked[0].tags


def test_a_whole_stale_history_comes_in_few_runs(place: World) -> None:
    """Three years that are stale at once are asked for month by month, a few at a time, each day once."""
    place.datasets = type(place.datasets)([place.datasets["shops"], tills(daily=Daily(date(2021, 10, 1), 3))])
    sensing = Sensing(place, "restatement")
    days = [date(2021, 10, 1) + timedelta(days=number) for number in range(1095)]
    place.stale["processed.tills"] = list(days)
    covered: list[date] = []
    for _ in range(10):
        asked = sensing.tick()
        assert len(asked) <= 8
        for first, last in days_asked(asked):
            start = date.fromisoformat(first)
            covered += [start + timedelta(days=number) for number in range((date.fromisoformat(last) - start).days + 1)]
    assert sorted(covered) == days


def test_a_state_that_is_carried_on_is_asked_for_in_turn(place: World) -> None:
    """Of more days than a run has, the later ones are asked for when those before them are done: each is made of the one before."""
    first_day = date(2024, 9, 1)
    place.datasets = type(place.datasets)([place.datasets["shops"], tills(daily=Daily(first_day, 3))])
    carried = by_shop(layer="processed", carries_on=True, first_day=first_day)
    place.sql_tables = SqlTables({carried.key: carried})
    sensing = Sensing(place, "restatement")
    days = [first_day + timedelta(days=number) for number in range(45)]
    place.stale[carried.key] = list(days)
    (asked,) = sensing.tick()
    assert days_asked([asked]) == [("2024-09-01", "2024-10-01")]
    place.stale[carried.key] = list(days[10:])
    queue(sensing.instance, place, [carried.key], days[0], days[30])
    assert sensing.tick() == []
    (done,) = sensing.instance.get_runs()
    sensing.instance.report_run_canceled(done)
    place.stale[carried.key] = list(days[31:])
    (asked,) = sensing.tick()
    assert days_asked([asked]) == [("2024-10-02", "2024-10-15")]


def test_days_that_do_not_exist_are_not_asked_for(place: World, restating: Sensing) -> None:
    """Rows of a day before the first, or after today, start no run that Dagster couldn't place."""
    place.stale["processed.tills"] = [date(2024, 9, 30), TODAY + timedelta(days=1)]
    assert restating.tick() == []


def test_what_was_asked_survives_its_cursor() -> None:
    """A cursor reads back as it was written; one that can't be read is empty."""
    assert Asked.parse(str(Asked({"a|2024-10-01": "1"}))).states == {"a|2024-10-01": "1"}
    for broken in (None, "", "{", "3", "[1]"):
        assert Asked.parse(broken).states == {}


def test_busy_knows_tables_and_days(place: World) -> None:
    """An unfinished run covers its tables on its days; a finished one nothing."""
    instance = dg.DagsterInstance.ephemeral()
    queue(instance, place, ["raw.tills"], date(2024, 10, 3), date(2024, 10, 5))
    found = busy(instance)
    assert found.covers("raw.tills", date(2024, 10, 4))
    assert not found.covers("raw.tills", date(2024, 10, 6))
    assert not found.covers("processed.tills", date(2024, 10, 4))
    one = instance.get_runs()[0]
    assert days_of(one) == (date(2024, 10, 3), date(2024, 10, 5))
    instance.report_run_failed(one)
    assert busy(instance).runs == ()
