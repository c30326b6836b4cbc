"""Extracts as assets: what Dagster is told of one, which days can be extracted, and when it is done by itself."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._core.storage.defs_state.base import set_defs_state_storage
from pydantic import SecretStr

from ingestion_platform.database import Database, Extract, ExtractedRows, RowCursor
from ingestion_platform.dataset import EXTRACTED, EXTRACTED_COLUMNS, Daily, Dataset, Datasets
from ingestion_platform.errors import DeclarationError, SourceError, SourceUnavailable
from ingestion_platform.orchestration.build import build_definitions
from ingestion_platform.orchestration.extracts import extract_schedule
from ingestion_platform.orchestration.graph import asset_key
from ingestion_platform.orchestration.resource import DatabasesResource
from ingestion_platform.orchestration.runs import RANGE_END, RANGE_START
from ingestion_platform.settings import Settings
from ingestion_platform.sources.opening import Connections
from ingestion_platform.table import VARCHAR, Column
from ingestion_platform.warehouse import load_sql_tables
from ingestion_platform_tests.orchestration.world import run
from ingestion_platform_tests.sources.memory_database import MemoryDatabase

ZONE = ZoneInfo("Africa/Johannesburg")
DAY = date(2024, 10, 1)
NEXT = DAY + timedelta(days=1)
SHOP = Database(name="shop")
WHOLE = Extract(
    name="whole", description="All.", database=SHOP, table="public.whole", first_day=DAY, schedule="0 3 * * *"
)
NEW = Extract(
    name="new",
    description="What is new.",
    database=SHOP,
    table="public.new",
    cursor=RowCursor(column="at"),
    key=("id",),
    first_day=DAY,
)
OF_DAYS = Extract(
    name="of_days",
    description="A day's.",
    database=SHOP,
    query="select * from public.orders where ordered_on = $day",
    first_day=DAY,
    schedule="0 * * * *",
    reextract_days=2,
)


def table(extract: Extract) -> Dataset:
    """A table of an extract."""
    is_changes = extract.cursor is not None
    columns = (Column("id", VARCHAR, "Key.", required=True), Column("at", VARCHAR, "When."))
    return Dataset(
        name=f"{extract.name}_rows",
        description="Rows.",
        source=ExtractedRows(extract),
        kind="changes" if is_changes else "snapshots",
        changes=EXTRACTED if is_changes else None,
        columns=(*columns, *EXTRACTED_COLUMNS) if is_changes else columns,
        primary_key=("id",),
        daily=Daily(DAY),
    )


class Deployment:
    """A deployment whose only database is in memory."""

    def __init__(self, folder: Path) -> None:
        (folder / "landing").mkdir()
        (folder / "databases.toml").write_text('[shop]\nhost = "127.0.0.1"\n')
        self.settings = Settings.model_validate(
            {
                "landing": str(folder / "landing"),
                "warehouse": folder / "warehouse.duckdb",
                "publish": folder / "published",
                "pii_salt": SecretStr("salt"),
                "databases": folder / "databases.toml",
            }
        )
        self.folder = folder
        self.memory = MemoryDatabase(SHOP)
        self.at = datetime(2024, 10, 1, 12, tzinfo=UTC)
        self.instance = dg.DagsterInstance.ephemeral()
        self.definitions = self._definitions()

    def _definitions(self) -> dg.Definitions:
        datasets = Datasets([table(one) for one in (WHOLE, NEW, OF_DAYS)])
        return build_definitions(
            self.settings,
            datasets,
            load_sql_tables(datasets, zone=ZONE, folder=self.folder / "no-sql"),
            databases=DatabasesResource(self.settings, self._opened, self._now, first_wait_seconds=0.01),
            retries=dg.RetryPolicy(max_retries=0),
        )

    def _opened(self, _database: Database, _connections: Connections) -> MemoryDatabase:
        return self.memory

    def _now(self) -> datetime:
        self.at += timedelta(seconds=1)
        return self.at

    def forget_databases(self) -> None:
        """From here on the settings name none."""
        self.settings = self.settings.model_copy(update={"databases": None})
        self.definitions = self._definitions()

    def run(
        self,
        *tables: str,
        first: date = DAY,
        last: date | None = None,
        config: dict[str, dict[str, object]] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Materialize assets for a day, or a range of them."""
        return run(self.definitions, self.instance, list(tables), first, last, config=config)

    def tick(self, schedule: str, at: datetime, *, under_way: str = "") -> dg.RunRequest | str:
        """The run that a schedule asks for at a moment, or why it asks for none; while an extract of *under_way* is."""
        repository = self.definitions.get_repository_def()
        with set_defs_state_storage(None), dg.instance_for_test() as instance:
            if under_way:
                job = self.definitions.resolve_implicit_global_asset_job_def()
                instance.create_run_for_job(
                    job, status=dg.DagsterRunStatus.STARTED, tags={"ingestion/extract": under_way}
                )
            with dg.build_schedule_context(instance, scheduled_execution_time=at, repository_def=repository) as context:
                data = repository.get_schedule_def(schedule).evaluate_tick(context)
        return data.run_requests[0] if data.run_requests else str(data.skip_message)


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """An empty one."""
    return Deployment(tmp_path)


def told(result: dg.ExecuteInProcessResult, name: str) -> dict[str | None, dict[str, Any]]:
    """Partition → metadata, of an asset's materializations."""
    found: dict[str | None, dict[str, Any]] = {}
    for event in result.all_events:
        if event.is_step_materialization and event.asset_key == asset_key(name):
            shown = event.step_materialization_data.materialization
            found[shown.partition] = {key: value.value for key, value in shown.metadata.items()}
    return found


def failure(result: dg.ExecuteInProcessResult) -> str:
    """What a failed step says."""
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    assert failed.step_failure_data.error is not None
    return str(failed.step_failure_data.error)


def test_an_extract_tells_its_numbers_and_makes_tables(deployment: Deployment) -> None:
    """One run goes from the database to the processed table."""
    deployment.memory.rows = [{"id": "1", "at": "a"}, {"id": "2", "at": "b"}]
    result = deployment.run("landing.whole", "raw.whole_rows", "processed.whole_rows")
    assert result.success
    shown = told(result, "landing.whole")[DAY.isoformat()]
    assert (shown["rows"], shown["has_landed"], shown["extracts"], shown["from_replica"]) == (2, True, 1, False)
    assert told(result, "processed.whole_rows")[DAY.isoformat()]["rows"] == 2


def test_a_sweep_and_a_restart_can_be_asked_for(deployment: Deployment) -> None:
    """The run's configuration says so."""
    deployment.memory.rows = [{"id": "1", "at": "a"}, {"id": "2", "at": "b"}]
    assert deployment.run("landing.new").success
    deployment.memory.rows = [{"id": "2", "at": "b"}]
    config: dict[str, dict[str, object]] = {"landing__new": {"sweep": True}}
    shown = told(deployment.run("landing.new", config=config), "landing.new")[DAY.isoformat()]
    assert (shown["removed_rows"], shown["compared_keys"], shown["cursor"]) == (1, 1, "b")
    config = {"landing__new": {"restart": True}}
    shown = told(deployment.run("landing.new", config=config), "landing.new")[DAY.isoformat()]
    assert shown["rows"] == 1
    result = deployment.run("raw.new_rows", "processed.new_rows")
    assert result.success


def test_a_day_that_is_over_is_not_what_the_table_is_now(deployment: Deployment) -> None:
    """A past day keeps what was extracted on it; where nothing was, that is said. A query of days is extracted."""
    deployment.memory.rows = [{"id": "1", "at": "a"}]
    assert deployment.run("landing.whole").success
    deployment.at += timedelta(days=1)
    shown = told(deployment.run("landing.whole"), "landing.whole")[DAY.isoformat()]
    assert (shown["rows"], shown["extracts"]) == (1, 1)
    deployment.at += timedelta(days=1)
    assert "can't be extracted any more" in failure(deployment.run("landing.whole", first=NEXT))
    assert told(deployment.run("landing.of_days", first=NEXT), "landing.of_days")[NEXT.isoformat()]["rows"] == 1
    assert deployment.run("landing.new", first=NEXT).success


def test_a_database_that_is_not_named_is_not_asked(deployment: Deployment) -> None:
    """What has landed stays, and the run succeeds."""
    deployment.memory.rows = [{"id": "1", "at": "a"}]
    assert deployment.run("landing.whole").success
    deployment.forget_databases()
    deployment.memory.rows = []
    shown = told(deployment.run("landing.whole"), "landing.whole")[DAY.isoformat()]
    assert shown["rows"] == 1


def test_a_database_that_refuses_fails_the_run(deployment: Deployment) -> None:
    """The failure says what it said."""
    deployment.memory.error = SourceError("PostgreSQL database 'shop': permission denied", "grant")
    assert "permission denied (hint: grant)" in failure(deployment.run("landing.whole"))


def test_a_database_that_is_down_is_not_asked_for_all_the_other_days(deployment: Deployment) -> None:
    """It is tried again for the first of them only."""
    deployment.memory.error = SourceUnavailable("PostgreSQL database 'shop': connection refused", "is it up?")
    result = deployment.run("landing.of_days", first=DAY, last=DAY + timedelta(days=3))
    assert "connection refused" in failure(result)
    assert deployment.memory.opened == 4


def test_rows_that_a_cursor_had_missed_are_told(deployment: Deployment) -> None:
    """The check all_rows warns, of them and of a table that has lost more than half of its rows."""
    deployment.memory.rows = [{"id": str(number), "at": "b"} for number in range(20)]
    assert deployment.run("landing.new", "landing.whole").success
    deployment.memory.rows = [{"id": "0", "at": "b"}, {"id": "99", "at": "a"}]
    deployment.at += timedelta(days=1)
    result = deployment.run("landing.new", "landing.whole", first=NEXT, config={"landing__new": {"sweep": True}})
    verdicts = {
        evaluation.asset_key.path[-1]: evaluation
        for evaluation in result.get_asset_check_evaluations()
        if evaluation.check_name == "all_rows"
    }
    assert not verdicts["new"].passed
    assert not verdicts["whole"].passed
    assert "had missed 1 rows" in str(verdicts["new"].description)
    assert "20 the time before" in str(verdicts["whole"].description)


def test_the_schedule_asks_for_today(deployment: Deployment) -> None:
    """And for the days before, where the query can be asked for them; not while another one is under way."""
    at = datetime(2024, 10, 5, 3, tzinfo=ZONE)
    asked = deployment.tick("whole_extract", at)
    assert isinstance(asked, dg.RunRequest)
    assert (asked.tags[RANGE_START], asked.tags[RANGE_END]) == ("2024-10-05", "2024-10-05")
    asked = deployment.tick("of_days_extract", at)
    assert isinstance(asked, dg.RunRequest)
    assert (asked.tags[RANGE_START], asked.tags[RANGE_END]) == ("2024-10-03", "2024-10-05")
    assert "is under way" in str(deployment.tick("whole_extract", at, under_way="whole"))
    assert "begins on" in str(deployment.tick("whole_extract", datetime(2024, 9, 1, tzinfo=ZONE)))


def test_a_schedule_that_is_none_is_told() -> None:
    """With the extract's name."""
    broken = Extract(name="broken", description="x", database=SHOP, table="a.b", first_day=DAY, schedule="sometimes")
    with pytest.raises(DeclarationError, match="extract 'broken': schedule 'sometimes' is no cron line"):
        extract_schedule(broken, ZONE, is_running=True)
    assert extract_schedule(NEW, ZONE, is_running=True) is None
