"""Ageing in Dagster: the nightly job, what a person sees of what waits, and that the sensor finds what is back."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.plan.outputs import StepOutputData

from ingestion_platform.dataset import Datasets
from ingestion_platform.landing.s3 import S3Landing
from ingestion_platform.orchestration.build import build_definitions
from ingestion_platform.settings import Settings
from ingestion_platform.warehouse import SqlTables
from ingestion_platform_tests.orchestration.test_sensors import Sensing, days_asked
from ingestion_platform_tests.orchestration.world import World, evaluations, run, world
from ingestion_platform_tests.s3_faults import S3Server
from ingestion_platform_tests.warehouse.building import BUSINESS, DAY, HEADER, SHOPS, Bench, line
from ingestion_platform_tests.warehouse.test_ageing import AGEING, key, land, make


def place_on(bench: Bench) -> World:
    """A world whose warehouse is the bench's."""
    real = World(bench.datasets, SqlTables({}))
    real.open = bench.open  # type: ignore[method-assign]
    real.today = DAY + timedelta(days=1)
    definitions = build_definitions(bench.settings, bench.datasets, SqlTables({}), warehouse=real.resource)
    real.definitions = lambda settings=None: definitions  # type: ignore[method-assign]
    return real


def test_the_job_moves_what_is_due_and_tells_how_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One run: objects go, and its step shows how many are where."""
    bench = make(tmp_path)
    land(bench)
    place = place_on(bench)
    monkeypatch.setattr("ingestion_platform.lifecycle.Lifecycle.place", lambda self, age: "warm")
    result = place.definitions().resolve_job_def("ageing").execute_in_process(resources={"warehouse": place.resource})
    assert result.success
    (handled,) = (event for event in result.all_events if event.is_successful_output)
    assert isinstance(handled.event_specific_data, StepOutputData)
    shown = {name: value.value for name, value in handled.event_specific_data.metadata.items()}
    assert (shown["moved_warm"], shown["objects_warm"], shown["objects_cold"], shown["left"]) == (10, 10, 0, 0)


def test_the_job_says_what_to_do_when_a_disk_is_missing(tmp_path: Path) -> None:
    """Its failure has the hint."""
    bench = make(tmp_path)
    land(bench)
    (tmp_path / "cold").rmdir()
    place = place_on(bench)
    job = place.definitions().resolve_job_def("ageing")
    result = job.execute_in_process(resources={"warehouse": place.resource}, raise_on_error=False)
    (failed,) = result.get_step_failure_events()
    assert "is its disk mounted" in str(failed.step_failure_data)


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({}, dg.DefaultScheduleStatus.STOPPED),
        ({"landing_cold": "/cold"}, dg.DefaultScheduleStatus.RUNNING),
        ({"landing": "s3://bucket"}, dg.DefaultScheduleStatus.RUNNING),
    ],
)
def test_it_runs_every_night_where_there_is_somewhere_to_go(
    settings: dict[str, str], status: dg.DefaultScheduleStatus
) -> None:
    """A deployment without colder places has the schedule, switched off; one where nothing is declared has none."""
    datasets = Datasets([SHOPS, replace(BUSINESS["tills"], lifecycle=AGEING)])
    definitions = build_definitions(Settings.model_validate(settings), datasets, SqlTables({}))
    assert definitions.resolve_schedule_def("ageing_every_night").default_status is status
    names = [one.name for one in world().definitions().get_repository_def().schedule_defs]
    assert "ageing_every_night" not in names


def test_the_sensor_finds_what_has_come_back(tmp_path: Path, s3_server: S3Server) -> None:
    """A run asks the archive and warns; three looks start nothing; the look at which it is back starts a run, the same day, once."""
    bucket = s3_server.new_bucket()
    datasets = Datasets([SHOPS, replace(BUSINESS["tills"], lifecycle=AGEING)])
    bench = Bench(tmp_path, datasets, S3Landing(f"s3://{bucket}/in"))
    s3_server.put(bucket, f"in/shops/{DAY}.csv", b"shop,since\na,\nb,\n")
    for shop in "ab":
        s3_server.put(bucket, f"in/{key(shop)}", (HEADER + line(f"1{shop}", shop)).encode())
    s3_server.move(bucket, f"in/{key('b')}", "GLACIER")
    place = place_on(bench)
    sensing = Sensing(place, "tills_arrives")
    for rows in (1, 2):
        (asked,) = sensing.tick()
        assert days_asked([asked]) == [(str(DAY), str(DAY))]
        result = run(place.definitions(), sensing.instance, ["raw.tills", "processed.tills"], DAY)
        assert result.success
        found = evaluations(result, "raw.tills", "nothing_waits")[str(DAY)]
        assert (found.passed, found.severity) == (rows == 2, dg.AssetCheckSeverity.WARN)
        if rows == 1:
            assert "1 object is being fetched back" in (found.description or "")
            assert [sensing.tick() for _ in range(3)] == [[], [], []]
            s3_server.restored(bucket, f"in/{key('b')}")
        assert bench.warehouse.raw_day(datasets["tills"], DAY).rows == rows
    assert [sensing.tick() for _ in range(3)] == [[], [], []]
