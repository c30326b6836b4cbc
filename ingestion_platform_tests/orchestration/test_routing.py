"""Routing: which objects go in which run, what waits for what, and that nothing is forgotten or loaded twice on the way."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ingestion_platform.dataset import Dataset, Datasets, Routing
from ingestion_platform.errors import DeclarationError
from ingestion_platform.orchestration import sensors
from ingestion_platform.orchestration.build import build_definitions
from ingestion_platform.orchestration.runs import PRIORITY, ROUTE, only_of
from ingestion_platform.warehouse import Only, SqlTables, upkeep
from ingestion_platform_tests.orchestration.test_sensors import Sensing, days_asked
from ingestion_platform_tests.orchestration.world import TODAY, World, landed, run, shops, tills, world
from ingestion_platform_tests.warehouse.building import BUSINESS, DAY, HEADER, Bench, differences, line

YESTERDAY = TODAY - timedelta(days=1)
LARGE = 1000
ROUTING = Routing(own_run_above_bytes=LARGE, urgent=("tills/%Y/%m/%d/HQ",))


def place_with(routing: Routing) -> World:
    """A world whose tills are routed."""
    return world(datasets=(shops(), tills(routing=routing)))


def put(place: World, day: date, **sizes: int) -> None:
    """Land objects of these sizes."""
    there = place.objects.setdefault(("tills", day), [])
    there += [landed(f"tills/{day:%Y/%m/%d}/{name}.csv", size_bytes=size) for name, size in sizes.items()]


def names(only: Only) -> set[str]:
    """Of the objects that a run may load."""
    return {Path(key).stem for key in only.keys or ()}


def only(request: dg.RunRequest) -> Only:
    """What a run may load."""
    return only_of(request.run_config).get("raw.tills", Only())


def begin(sensing: Sensing, request: dg.RunRequest) -> dg.DagsterRun:
    """Put a run under way that doesn't end by itself."""
    job = sensing.definitions.resolve_implicit_global_asset_job_def()
    return sensing.instance.create_run_for_job(
        job,
        status=dg.DagsterRunStatus.STARTED,
        tags={**request.tags, "dagster/partition": str(request.partition_key)},
        run_config=request.run_config,
        asset_selection=frozenset(request.asset_selection or ()),
    )


def load(sensing: Sensing, request: dg.RunRequest) -> None:
    """Do what the run would do for raw."""
    with sensing.world.resource.opened() as warehouse:
        warehouse.load(
            sensing.world.datasets["tills"], date.fromisoformat(days_asked([request])[0][0]), only=only(request)
        )


def test_urgent_objects_come_first_small_ones_together_large_ones_alone() -> None:
    """Of all days the urgent runs are asked for first, with Dagster's priority; each large object has a run of its own."""
    place = place_with(ROUTING)
    put(place, YESTERDAY, A=10, B=LARGE, C=LARGE + 1, D=5000)
    put(place, TODAY, A=10, HQ1=10, HQ2=5000)
    asked = Sensing(place, "tills_arrives").tick()
    assert [(one.tags[ROUTE], one.partition_key) for one in asked] == [
        ("urgent", str(TODAY)),
        ("urgent", str(TODAY)),
        ("small", str(YESTERDAY)),
        ("small", str(TODAY)),
        ("large", str(YESTERDAY)),
        ("large", str(YESTERDAY)),
    ]
    assert [one.tags.get(PRIORITY) for one in asked] == ["10", "10", None, None, None, None]
    assert [names(only(one)) for one in asked] == [{"HQ1"}, {"HQ2"}, set(), set(), {"C"}, {"D"}]
    assert [only(one).up_to_bytes for one in asked] == [None, None, LARGE, LARGE, None, None]


def test_without_routing_a_day_is_one_run() -> None:
    """Nothing is limited, tagged or preferred where nothing is declared."""
    place = world()
    put(place, YESTERDAY, A=10, D=10**12)
    (asked,) = Sensing(place, "tills_arrives").tick()
    assert (asked.run_config, ROUTE in asked.tags) == ({}, False)


def test_small_objects_do_not_wait_for_a_large_one() -> None:
    """While a large object's run is under way, small ones of its day are loaded, and so are those that come later."""
    place = place_with(ROUTING)
    sensing = Sensing(place, "tills_arrives")
    put(place, YESTERDAY, A=10, BIG=5000)
    small, large = sensing.tick()
    begin(sensing, large)
    load(sensing, small)
    assert sensing.tick() == []
    put(place, YESTERDAY, LATER=10)
    (later,) = sensing.tick()
    assert later.tags[ROUTE] == "small"
    load(sensing, later)
    assert sorted(Path(entry.key).stem for entry in place.raw["tills", YESTERDAY].entries) == ["A", "LATER"]


def test_small_objects_wait_for_the_run_of_those_before_them() -> None:
    """What comes while the day's small ones are being loaded goes together in the run after."""
    place = place_with(ROUTING)
    sensing = Sensing(place, "tills_arrives")
    put(place, YESTERDAY, A=10)
    (first,) = sensing.tick()
    under_way = begin(sensing, first)
    put(place, YESTERDAY, B=10)
    assert sensing.tick() == []
    put(place, YESTERDAY, C=10)
    assert sensing.tick() == []
    load(sensing, first)
    put(place, YESTERDAY, D=10)
    sensing.instance.report_run_failed(under_way)
    (second,) = sensing.tick()
    load(sensing, second)
    assert len(place.raw["tills", YESTERDAY].entries) == 4
    assert sensing.tick() == []


@pytest.mark.parametrize("tags", [{}, {ROUTE: "small"}])
def test_an_urgent_object_waits_for_no_other_run(tags: dict[str, str]) -> None:
    """Neither a run of the whole day nor one of its small objects holds an urgent one up."""
    place = place_with(ROUTING)
    sensing = Sensing(place, "tills_arrives")
    put(place, YESTERDAY, A=10)
    (small,) = sensing.tick()
    begin(sensing, small._replace(tags={**{k: v for k, v in small.tags.items() if k != ROUTE}, **tags}))
    put(place, YESTERDAY, HQ=10)
    (urgent,) = sensing.tick()
    assert (urgent.tags[ROUTE], names(only(urgent))) == ("urgent", {"HQ"})
    begin(sensing, urgent)
    assert sensing.tick() == []


def test_a_large_object_waits_for_a_run_of_the_whole_day() -> None:
    """A run that nobody has limited takes it along."""
    place = place_with(ROUTING)
    sensing = Sensing(place, "tills_arrives")
    put(place, YESTERDAY, A=10)
    (small,) = sensing.tick()
    whole = begin(sensing, small._replace(tags={}, run_config={}))
    put(place, YESTERDAY, BIG=5000)
    assert sensing.tick() == []
    sensing.instance.report_run_failed(whole)
    assert {one.tags[ROUTE] for one in sensing.tick()} == {"large"}


def test_many_small_objects_are_shared_out() -> None:
    """Runs of at most so many objects, each object in one of them."""
    place = place_with(Routing(max_objects_a_run=10))
    put(place, YESTERDAY, **{f"S{number:02}": 10 for number in range(25)})
    sensing = Sensing(place, "tills_arrives")
    asked = sensing.tick()
    assert [len(names(only(one))) for one in asked] == [10, 10, 5]
    assert len(set.union(*(names(only(one)) for one in asked))) == 25
    for one in asked:
        load(sensing, one)
    assert sensing.tick() == []
    assert len(place.raw["tills", YESTERDAY].entries) == 25


def test_a_flood_of_large_objects_is_asked_for_bit_by_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more runs than may wait, the others later, each once, though none of those asked for comes to anything; urgent ones pass."""
    monkeypatch.setattr(sensors, "MOST_RUNS_WAITING", 4)
    place = place_with(ROUTING)
    put(place, YESTERDAY, **{f"S{number}": 5000 for number in range(10)})
    sensing = Sensing(place, "tills_arrives")
    asked = [sensing.tick() for _ in range(3)]
    assert [len(one) for one in asked] == [4, 4, 2]
    assert len({key for tick in asked for one in tick for key in names(only(one))}) == 10
    for one in asked[0]:
        begin(sensing, one)
    put(place, YESTERDAY, HQ=10, A=10)
    assert [one.tags[ROUTE] for one in sensing.tick()] == ["urgent"]


def test_a_flood_of_long_ago_is_asked_for_bit_by_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A day far back with more large objects than may wait is gone on with at the next look, and then the turn goes on."""
    monkeypatch.setattr(sensors, "MOST_RUNS_WAITING", 4)
    place = place_with(ROUTING)
    place.today = date(2026, 10, 20)
    place.raw.clear()
    old = date(2025, 1, 3)
    put(place, old, **{f"S{number}": 5000 for number in range(10)})
    put(place, old + timedelta(days=1), A=1)
    sensing = Sensing(place, "tills_arrives")
    found: list[set[str]] = []
    for _ in range(80):
        for one in sensing.tick():
            found.append(names(only(one)))
            load(sensing, one)
    assert sorted(map(sorted, found)) == sorted([[f"S{number}"] for number in range(10)] + [[]])


def test_runs_that_came_to_nothing_are_asked_for_again_the_next_day() -> None:
    """Each object's run is asked for once more each business day, until it is loaded; the small ones' run takes an urgent one along."""
    place = place_with(ROUTING)
    put(place, YESTERDAY, A=10, HQ=10, BIG=5000)
    sensing = Sensing(place, "tills_arrives")
    first = sensing.tick()
    assert len(first) == 3
    load(sensing, first[1])
    assert [one.tags[ROUTE] for _ in range(6) for one in sensing.tick()] == ["large"]
    place.today = TODAY + timedelta(days=1)
    assert [one.tags[ROUTE] for _ in range(6) for one in sensing.tick()] == ["large"]


def test_a_cursor_without_memory_asks_for_nothing_twice() -> None:
    """Damage to what the cursor remembers of asked runs costs a look; Dagster knows their keys."""
    place = place_with(ROUTING)
    put(place, YESTERDAY, A=10, BIG=5000)
    sensing = Sensing(place, "tills_arrives")
    assert len(sensing.tick()) == 2
    for broken in ("", '{"asked": 3}', '{"asked": {"x": []}}', '{"asked": {"2024-10-19": 3}}'):
        sensing.cursor = broken
        assert [one for one in sensing.tick() if one.tags[ROUTE] == "large"] == []


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        ({}, {}),
        ({"ops": None}, {}),
        ({"ops": {"raw__tills": None}}, {}),
        ({"ops": {"raw__tills": {"config": {"keys": 3, "up_to_bytes": "x"}}}}, {}),
        ({"ops": {"raw__tills": {"config": {"keys": []}}}}, {}),
        ({"ops": {"raw__tills": {"config": {"up_to_bytes": 7}}}}, {"raw.tills": Only(up_to_bytes=7)}),
    ],
)
def test_a_run_that_somebody_configured_by_hand_is_understood(config: dict[str, Any], limit: dict[str, Only]) -> None:
    """Whatever stands in a run's configuration, the sensor goes on; what it can't read is no limit."""
    assert only_of(config) == limit


@pytest.mark.parametrize(
    "make",
    [
        lambda: Routing(),
        lambda: Routing(own_run_above_bytes=-1),
        lambda: Routing(max_objects_a_run=0),
        lambda: tills(routing=Routing(urgent=("sales/HQ",))),
        lambda: tills(routing=Routing(urgent=("",))),
        lambda: tills(routing=Routing(urgent=("tills/%Y/%j/",))),
    ],
)
def test_a_routing_that_makes_no_sense_is_refused(make: Callable[[], object]) -> None:
    """It fails at import, with what to do."""
    with pytest.raises(DeclarationError) as caught:
        make()
    assert caught.value.hint


# --- on a real warehouse


def land(bench: Bench) -> None:
    """A day of small objects, one of them a large one's twin, and two large ones."""
    bench.put_shops("a", "b", "c", "d", "hq")
    many = "".join(line(f"d{number}", "d") for number in range(200))
    bench.put(f"tills/{DAY}/d.csv", HEADER + many)
    bench.put(f"tills/{DAY}/c.csv", HEADER + "".join(line(f"c{number}", "c") for number in range(200)))
    bench.put(f"tills/{DAY}/d-copy.csv", HEADER + many)
    for shop in ("a", "b", "hq"):
        bench.put(f"tills/{DAY}/{shop}.csv", HEADER + line(f"1{shop}", shop) + line("", shop))


ORDERS = [
    [Only(up_to_bytes=1000), Only(frozenset({f"tills/{DAY}/d.csv"})), Only(frozenset({f"tills/{DAY}/c.csv"}))],
    [Only(frozenset({f"tills/{DAY}/d-copy.csv"})), Only(frozenset({f"tills/{DAY}/hq.csv"})), Only(up_to_bytes=1000)],
    [Only(frozenset({f"tills/{DAY}/{name}.csv"})) for name in ("hq", "d-copy", "d", "c", "a", "b")],
]


@pytest.mark.parametrize("order", ORDERS)
def test_loads_of_parts_come_to_the_same_as_one_of_all(tmp_path: Path, order: list[Only]) -> None:
    """In whatever order parts are loaded, a twin before or after the one that stands for it: the tables of one load."""
    parts = Bench(tmp_path / "parts")
    land(parts)
    for one in order:
        before = set(parts.states())
        parts.warehouse.load(BUSINESS["tills"], DAY, only=one)
        for key in set(parts.states()) - before:
            assert one.takes(key, (parts.landing_folder / key).stat().st_size)
        parts.process()
    upkeep.catch_up(parts.warehouse)
    whole = Bench(tmp_path / "whole", zone=parts.landing)
    upkeep.catch_up(whole.warehouse)
    assert not list(differences(parts.export(), whole.export()))
    assert upkeep.verify(parts.warehouse) == []


def test_what_a_limited_load_sets_free_takes_nothing_else_along(tmp_path: Path) -> None:
    """When the object that stood for a twin changes, the twin is loaded in its place, and another day's news stays news."""
    bench = Bench(tmp_path)
    next_day = DAY + timedelta(days=1)
    bench.put_shops()
    bench.put(f"tills/{DAY}/a.csv", HEADER + line("1"))
    bench.put(f"tills/{next_day}/a.csv", HEADER + line("1"))
    bench.load()
    bench.load(day=next_day)
    bench.put(f"tills/{DAY}/a.csv", HEADER + line("2"))
    bench.put(f"tills/{next_day}/news.csv", HEADER + line("3"))
    bench.warehouse.load(BUSINESS["tills"], DAY, only=Only(frozenset({f"tills/{DAY}/a.csv"})))
    assert bench.states(day=next_day) == {f"tills/{next_day}/a.csv": "loaded"}
    assert bench.rows("raw.tills", "id") == [("1",), ("2",)]


def test_dagster_runs_the_runs_that_the_sensor_asks_for(tmp_path: Path) -> None:
    """From the sensor's requests, in an order of our own and one of them failing halfway, to the tables of one whole load."""
    bench = Bench(tmp_path / "routed")
    land(bench)
    bench.load("shops")
    bench.process("shops")
    datasets = Datasets([BUSINESS["shops"], _routed()])
    real = World(datasets, SqlTables({}))
    real.open = lambda: bench_of(bench, datasets).warehouse  # type: ignore[method-assign]
    real.today = DAY + timedelta(days=1)
    definitions = build_definitions(bench.settings, datasets, SqlTables({}), warehouse=real.resource)
    real.definitions = lambda settings=None: definitions  # type: ignore[method-assign]
    sensing = Sensing(real, "tills_arrives")
    asked = sensing.tick()
    assert [one.tags[ROUTE] for one in asked] == ["urgent", "small", "large", "large", "large"]
    for one in (asked[3], asked[0], asked[4], asked[1]):
        config = {op: values["config"] for op, values in one.run_config["ops"].items()}
        tables = [".".join(key.path) for key in one.asset_selection or ()]
        assert run(definitions, sensing.instance, tables, DAY, config=config).success
    left = [path.stem for path in (bench.landing_folder / "tills" / str(DAY)).iterdir()]
    assert len(bench.states()) == len(left) - 1
    real.today = DAY + timedelta(days=2)
    again = [one for _ in range(3) for one in sensing.tick()]
    assert [one.tags[ROUTE] for one in again] == ["large"]
    config = {op: values["config"] for op, values in again[0].run_config["ops"].items()}
    tables = [".".join(key.path) for key in again[0].asset_selection or ()]
    assert run(definitions, sensing.instance, tables, DAY, config=config).success
    whole = Bench(tmp_path / "whole", zone=bench.landing)
    upkeep.catch_up(whole.warehouse)
    assert not list(differences(bench.export(), whole.export()))


def _routed() -> Dataset:
    routing = Routing(own_run_above_bytes=1000, urgent=("tills/%Y-%m-%d/hq",))
    return replace(BUSINESS["tills"], routing=routing)


def bench_of(bench: Bench, datasets: Datasets) -> Bench:
    """The same warehouse under these declarations."""
    return Bench(bench.root, datasets=datasets)
