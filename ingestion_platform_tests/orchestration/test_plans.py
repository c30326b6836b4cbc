"""The job `plan` in Dagster: what a person sees before he starts a backfill."""

from pathlib import Path

import dagster as dg
from dagster._core.execution.plan.outputs import StepOutputData

from ingestion_platform.orchestration.build import build_definitions
from ingestion_platform_tests.orchestration.world import World
from ingestion_platform_tests.warehouse.building import DAY, HEADER, Bench, line
from ingestion_platform_tests.warehouse.planning import CHANGES, bench_of, untouched
from ingestion_platform_tests.warehouse.test_plan import two_days


def run_plan(bench: Bench, **config: object) -> dg.ExecuteInProcessResult:
    """The job, once."""
    world = World(bench.datasets, bench.sql_tables)
    world.open = bench.open  # type: ignore[method-assign]
    definitions = build_definitions(bench.settings, bench.datasets, bench.sql_tables, warehouse=world.resource)
    return definitions.resolve_job_def("plan").execute_in_process(
        run_config={"ops": {"plan_backfill": {"config": config}}},
        resources={"warehouse": world.resource},
        raise_on_error=False,
    )


def test_the_plan_is_shown_and_nothing_is_done(tmp_path: Path) -> None:
    """As Markdown with what decides first, and as numbers that Dagster plots."""
    two_days(tmp_path).warehouse.close()
    bench = bench_of(tmp_path, CHANGES["a rule tightened"])
    bench.put(f"tills/{DAY}/c.csv", HEADER + line("7"))
    with untouched(tmp_path):
        result = run_plan(bench, datasets=["tills"], first=str(DAY), last=str(DAY))
    assert result.success
    (handled,) = (event for event in result.all_events if event.is_successful_output)
    assert isinstance(handled.event_specific_data, StepOutputData)
    shown = {name: value.value for name, value in handled.event_specific_data.metadata.items()}
    assert (shown["objects_read"], shown["rows_added"], shown["rows_lost"], shown["quarantined"]) == (1, 1, 1, 1)
    assert str(shown["plan"]).startswith("**The backfill reads 1 object (")
    assert "1 row that is processed now would be lost." in str(shown["plan"])
    assert "Nothing was changed." in str(shown["plan"])


def test_what_cannot_be_asked_fails_with_what_can(tmp_path: Path) -> None:
    """A dataset that isn't there, a day that is none."""
    bench = two_days(tmp_path)
    for config, told in (
        ({"datasets": ["till"]}, "datasets: shops, tills"),
        ({"first": "tomorrow"}, "as in 2024-10-01"),
    ):
        result = run_plan(bench, **config)
        (failed,) = result.get_step_failure_events()
        assert told in str(failed.step_failure_data)
