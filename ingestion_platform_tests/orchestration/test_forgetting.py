"""The job `forget` and the check `forgotten`: what a configuration does, and that Dagster is told nothing of the person."""

import os
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ingestion_platform.dataset import Datasets
from ingestion_platform.orchestration.build import build_definitions
from ingestion_platform.warehouse.upkeep import catch_up
from ingestion_platform_tests.orchestration.world import evaluations
from ingestion_platform_tests.orchestration.world import run as materialize
from ingestion_platform_tests.warehouse.building import Bench
from ingestion_platform_tests.warehouse.forgetting import COMMON, DAY, WHO, found_in, hashed

OWN = Datasets([one for one in COMMON if one.name == "csv_rows"])
KEY = f"csv_rows/{DAY}/s1.csv"
CONTENT = f"id,who,units\na,{WHO},1\nb,,2\n"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A file with a row of the person, loaded."""
    bench = Bench(tmp_path / "bench", OWN)
    bench.put(KEY, CONTENT)
    with bench.open() as warehouse:
        catch_up(warehouse)
    return bench


def run(bench: Bench, instance: dg.DagsterInstance, **config: Any) -> dg.ExecuteInProcessResult:
    """Launch the job."""
    job = build_definitions(bench.settings, bench.datasets, bench.sql_tables).resolve_job_def("forget")
    ops = {"ops": {"forget_person": {"config": config}}}
    return job.execute_in_process(instance=instance, run_config=ops, raise_on_error=False)


def told(result: dg.ExecuteInProcessResult) -> dict[str, object]:
    """The metadata of the step's output."""
    (output,) = [event for event in result.all_events if event.is_successful_output]
    return {name: value.value for name, value in output.step_output_data.metadata.items()}


def test_a_person_is_forgotten_by_a_file_of_keys_and_dagster_keeps_none(bench: Bench, tmp_path: Path) -> None:
    """First what would go is told, then it goes; no event, log or configuration holds the key or its hash."""
    keys = tmp_path / "keys"
    keys.write_text(f"# request 7\n\ncustomer={WHO}\n")
    keys.chmod(0o600)
    home = tmp_path / "home"
    home.mkdir()
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        planned = run(bench, instance, file=str(keys))
        assert planned.success
        assert (told(planned)["objects"], told(planned)["stuck"]) == (1, 0)
        assert found_in(bench.root, WHO)
        done = run(bench, instance, file=str(keys), do=True, by="Ann", why="request 7")
        assert done.success
        assert str(told(done)["certificate"]).startswith("forgotten/")
        bench.put(KEY, CONTENT)
        definitions = build_definitions(bench.settings, bench.datasets, bench.sql_tables)
        again = materialize(definitions, instance, ["raw.csv_rows"], DAY)
        (verdict,) = evaluations(again, "raw.csv_rows", "forgotten").values()
        assert (verdict.passed, verdict.severity) == (False, dg.AssetCheckSeverity.WARN)
        assert "1 rows are of people who were forgotten" in str(verdict.description)
        assert run(bench, instance, again=True, do=True, by="Ann", why="he came back").success
    keys.unlink()
    assert found_in(tmp_path, WHO, hashed()) == []


def test_a_file_that_others_may_read_is_refused(bench: Bench, tmp_path: Path) -> None:
    """So is one that isn't there; what stands in it isn't told."""
    keys = tmp_path / "keys"
    keys.write_text(WHO)
    with dg.DagsterInstance.ephemeral() as instance:
        for mode in (0o644, 0o600):
            keys.chmod(mode)
            failed = run(bench, instance, file=str(keys))
            assert not failed.success
            assert all(WHO not in str(event) for event in failed.all_events)
        os.unlink(keys)
        assert not run(bench, instance, file=str(keys)).success


def test_what_is_left_fails_the_run_without_naming_the_person(bench: Bench, tmp_path: Path) -> None:
    """An object of no dataset that holds the key is named, its key blanked."""
    bench.put(f"lists/{WHO}.txt", f"call {WHO}")
    keys = tmp_path / "keys"
    keys.touch(0o600)
    keys.write_text(f"customer={WHO}\n")
    with dg.DagsterInstance.ephemeral() as instance:
        failed = run(bench, instance, file=str(keys), do=True, by="Ann", why="request 7")
        assert not failed.success
        (event,) = failed.get_step_failure_events()
        assert "lists/forgotten.txt" in str(event.event_specific_data)
        assert all(WHO not in str(one) for one in failed.all_events)
