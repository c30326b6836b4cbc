"""The jobs `quarantine` and `certified_replay`: what a configuration does, and what Dagster is told of it. The warehouse is a real one."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ingestion_platform.dataset import Datasets
from ingestion_platform.orchestration import checks
from ingestion_platform.orchestration.build import build_definitions
from ingestion_platform.warehouse import Certified, SqlTables
from ingestion_platform_tests.orchestration.world import World, shops, tills
from ingestion_platform_tests.warehouse.building import DAY, HEADER, Bench, line
from ingestion_platform_tests.warehouse.test_quarantine import UNITS, caught_up, mended

A = f"tills/{DAY}/a.csv"
WHO = {"by": "Thandi", "why": "a till that was being tested"}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """Keeps events."""
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def run(one: Bench, instance: dg.DagsterInstance, job: str, **config: Any) -> dg.ExecuteInProcessResult:
    """Launch a job with a configuration."""
    definitions = build_definitions(one.settings, one.datasets, one.sql_tables)
    op = "decide" if job == "quarantine" else "replay_days"
    return definitions.resolve_job_def(job).execute_in_process(
        instance=instance, run_config={"ops": {op: {"config": config}}}, raise_on_error=False
    )


def told(result: dg.ExecuteInProcessResult) -> dict[str, object]:
    """The metadata of the step's output."""
    (output,) = [event for event in result.all_events if event.is_successful_output]
    return {name: value.value for name, value in output.step_output_data.metadata.items()}


def failure(result: dg.ExecuteInProcessResult) -> str:
    """Why it failed."""
    (event,) = result.get_step_failure_events()
    error = event.step_failure_data.error
    assert error is not None
    return f"{error.message} {error.cause.message if error.cause else ''}"


def shown(result: dg.ExecuteInProcessResult) -> list[str]:
    """Tables and days that were shown as materialized."""
    events = result.get_asset_materialization_events()
    return [f"{'.'.join(event.asset_key.path)} {event.partition}" for event in events if event.asset_key is not None]


def test_rows_are_discarded_from_the_launchpad(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    """The output says how many, the asset's partitions show the new balance with their checks; again, nothing is done and said so."""
    one = caught_up(tmp_path)
    done = run(one, instance, "quarantine", action="discard", dataset="tills", rules=[UNITS], **WHO)
    found = told(done)
    assert done.success
    assert found["story"] == "3 rows of 3 objects are discarded by Thandi"
    assert (found["rows"], found["already"]) == (3, 0)
    assert str(found["recorded_as"]).startswith("decisions/discard/tills/")
    assert f"processed.tills {DAY}" in shown(done)
    assert {event.check_name for event in done.get_asset_check_evaluations() if event.partition == str(DAY)} == {
        "row_balance", "quarantine_share", "replay_certificate",
    }  # fmt: skip
    again = run(one, instance, "quarantine", action="discard", dataset="tills", rules=[UNITS], **WHO)
    assert told(again)["story"] == "nothing to do: 3 rows are discarded already"
    assert shown(again) == []


def test_rows_are_redriven_from_the_launchpad(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    """What was released, what remains and why; the reports behind are shown as computed."""
    caught_up(tmp_path).warehouse.close()
    two = Bench(tmp_path, mended(), sql=tmp_path / "sql")
    done = run(two, instance, "quarantine", action="redrive", dataset="tills", last=str(DAY), **WHO)
    found = told(done)
    assert found["story"] == "of 5 rows 3 are in the table now, 2 are still in quarantine"
    assert (found["chosen"], found["released"], found["remaining"]) == (5, 3, 2)
    assert f"reports.by_shop {DAY}" in shown(done)
    again = run(two, instance, "quarantine", action="redrive", dataset="tills", last=str(DAY), **WHO)
    assert told(again)["story"] == "of 2 rows 0 are in the table now, 2 are still in quarantine; nothing has changed"
    assert told(run(two, instance, "quarantine", action="count", dataset="tills"))["story"] == "3 rows are open"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"action": "discard", "dataset": "tills", **WHO}, "nothing says which rows to discard"),
        ({"action": "discard", "dataset": "nothing", "everything": True, **WHO}, "there is no dataset 'nothing'"),
        ({"action": "redrive", "dataset": "tills", "first": "yesterday", **WHO}, "first 'yesterday' is no day"),
        ({"action": "redrive", "dataset": "tills", "everything": True}, "by is a name"),
        ({"action": "reopen", "dataset": "tills", "everything": True, "by": "x"}, "why is a reason"),
    ],
)
def test_a_configuration_that_says_too_little_is_told_what_it_lacks(
    tmp_path: Path, instance: dg.DagsterInstance, config: dict[str, Any], said: str
) -> None:
    """The run fails with the sentence, nothing is decided, and trying again wouldn't help."""
    one = caught_up(tmp_path)
    done = run(one, instance, "quarantine", **config)
    assert not done.success
    assert said in failure(done)
    assert not (one.landing_folder / "decisions").exists()


def test_a_certified_replay_shows_on_the_assets(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    """Each partition has the verdict, both hashes and the reasons as an observation, and the check with it."""
    one = caught_up(tmp_path)
    done = run(one, instance, "certified_replay", dataset="tills", first=str(DAY), last="2024-10-02", **WHO)
    assert told(done)["verdict"] == "8 partitions compared: all equal"
    observed = [event.asset_observation_data.asset_observation for event in done.get_asset_observation_events()]
    assert {".".join(one.asset_key.path) for one in observed} == {"raw.tills", "processed.tills", "reports.by_shop"}
    assert all(one.metadata["hash_before"] == one.metadata["hash_after"] for one in observed)
    verdicts = [one for one in done.get_asset_check_evaluations() if one.check_name == "replay_certificate"]
    assert len(verdicts) == 6
    assert all(one.passed and "Thandi had certified" in str(one.description) for one in verdicts)
    one.put(A, HEADER + line("1"))
    done = run(one, instance, "certified_replay", dataset="tills", first=str(DAY), by="Thandi")
    assert done.success
    assert "different" in str(told(done)["verdict"])


def test_a_replay_without_a_reason_for_its_difference_fails(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    """A report of random numbers: the run fails with the query that shows it, and so does the check on the asset."""
    one = caught_up(tmp_path)
    path = tmp_path / "sql" / "reports" / "by_shop.sql"
    path.write_text(
        path.read_text().replace("sum(units)::bigint", "(random() * 1e15)::bigint + 0 * sum(units)::bigint")
    )
    two = Bench(tmp_path, one.datasets, sql=tmp_path / "sql")
    assert told(run(two, instance, "certified_replay", dataset="tills", first=str(DAY), certificate=False))[
        "partitions"
    ]
    done = run(two, instance, "certified_replay", dataset="tills", first=str(DAY), **WHO)
    assert not done.success
    assert "for no reason that is known" in failure(done)
    assert "select * from platform.certificates" in failure(done)


@pytest.mark.parametrize(
    ("found", "passed", "said"),
    [
        (None, True, "no replay of it has been certified"),
        (Certified("k", datetime(2024, 10, 3, tzinfo=UTC), "Thandi", "equal"), True, "came out equal"),
        (
            Certified("k", datetime(2024, 10, 3, tzinfo=UTC), "Thandi", "differs", 1, 2, 3, ("b",)),
            True,
            "(1 rows added, 2 gone, 3 changed): b",
        ),
        (
            Certified("k", datetime(2024, 10, 3, tzinfo=UTC), "Thandi", "new", 1),
            False,
            "isn't a function of its tables",
        ),
    ],
)
def test_the_last_certificate_is_a_check(found: Certified | None, passed: bool, said: str) -> None:
    """Equal and explained pass; what differs for no reason fails, and says where to look."""
    verdict = checks.judge_certificate(found)
    assert verdict.passed is passed
    assert said in verdict.story


def test_every_run_judges_the_last_certificate(instance: dg.DagsterInstance) -> None:
    """A day that is computed again keeps saying what the last certified replay of it found."""
    day = date(2024, 10, 3)
    world = World(Datasets([shops(), tills()]), SqlTables({}))
    world.certified["processed.tills", day] = Certified("k", datetime(2024, 10, 4, tzinfo=UTC), "Thandi", "differs", 1)
    job = world.definitions().resolve_implicit_global_asset_job_def()
    done = job.execute_in_process(
        instance=instance,
        partition_key=str(day),
        asset_selection=[dg.AssetKey(["processed", "tills"])],
        raise_on_error=False,
    )
    (verdict,) = [one for one in done.get_asset_check_evaluations() if one.check_name == "replay_certificate"]
    assert not verdict.passed
    assert verdict.partition == str(day)
