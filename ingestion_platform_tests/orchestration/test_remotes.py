"""Remote files as assets: what Dagster is told of a copy, and when it is done by itself."""

import hashlib
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.defs_state.base import set_defs_state_storage
from pydantic import SecretStr

from ingestion_platform.dataset import Datasets
from ingestion_platform.errors import DeclarationError, SettingsError
from ingestion_platform.orchestration.build import build_definitions
from ingestion_platform.orchestration.graph import asset_key
from ingestion_platform.orchestration.remotes import copy_schedule
from ingestion_platform.orchestration.resource import RemotesResource, WarehouseResource
from ingestion_platform.orchestration.runs import RANGE_END, RANGE_START
from ingestion_platform.settings import RemoteSettings, Settings
from ingestion_platform.sources.local_folder import LocalFolder
from ingestion_platform.sources.opening import open_remote
from ingestion_platform.warehouse import SqlTables
from ingestion_platform_tests.orchestration.world import run
from ingestion_platform_tests.sources.copy_worlds import DAY, NOON, ZONE, FolderSender, remote
from ingestion_platform_tests.sources.sftp_server import PASSWORD, USER, serve_sftp
from ingestion_platform_tests.warehouse.test_remote_files import dataset, lines

NEXT = DAY + timedelta(days=1)
NORTH = "north/statement_20241001.csv"


class Deployment:
    """A deployment that copies from a folder."""

    def __init__(self, folder: Path, table: str = "", **declared: Any) -> None:
        self.folder = folder
        for name in ("landing", "outbox"):
            (folder / name).mkdir()
        (folder / "remotes.toml").write_text(table or f'[statements]\nurl = "{folder / "outbox"}"\n')
        self.sender = FolderSender(folder / "outbox")
        self.remote = remote(**{"schedule": "0 * * * *", **declared})
        self.datasets = Datasets([dataset(self.remote)])
        self.settings = Settings.model_validate(
            {
                "landing": str(folder / "landing"),
                "warehouse": folder / "warehouse.duckdb",
                "publish": folder / "published",
                "timezone": ZONE.key,
                "pii_salt": SecretStr("salt"),
                "remotes": folder / "remotes.toml",
            }
        )
        self.at = NOON
        self.instance = dg.DagsterInstance.ephemeral()
        self.definitions = build_definitions(
            self.settings,
            self.datasets,
            SqlTables({}),
            elsewhere=RemotesResource(self.settings, now=lambda: self.at),
            retries=dg.RetryPolicy(max_retries=0),
        )

    def run(self, *tables: str, first: date = DAY, last: date | None = None) -> dg.ExecuteInProcessResult:
        """Materialize assets for a day, or a range of them."""
        return run(self.definitions, self.instance, list(tables), first, last)

    def told(self, result: dg.ExecuteInProcessResult, day: date = DAY) -> dict[str, Any]:
        """The metadata of the landing asset's day."""
        for event in result.all_events:
            if event.is_step_materialization and event.asset_key == asset_key("landing.statements"):
                shown = event.step_materialization_data.materialization
                if shown.partition == day.isoformat():
                    return {name: value.value for name, value in shown.metadata.items()}
        raise AssertionError("nothing was told")

    def tick(self, schedule: str, at: datetime, *, under_way: bool = False) -> dg.RunRequest | str:
        """The run that a schedule asks for at a moment, or why it asks for none."""
        repository = self.definitions.get_repository_def()
        # As in `test_endpoints`: what definitions are loaded with would stay behind.
        with set_defs_state_storage(None), dg.instance_for_test() as instance:
            if under_way:
                job = self.definitions.resolve_implicit_global_asset_job_def()
                instance.create_run_for_job(
                    job,
                    status=dg.DagsterRunStatus.STARTED,
                    asset_selection=frozenset({asset_key("landing.statements")}),
                )
            with dg.build_schedule_context(instance, scheduled_execution_time=at, repository_def=repository) as context:
                data = repository.get_schedule_def(schedule).evaluate_tick(context)
        return data.run_requests[0] if data.run_requests else str(data.skip_message)

    def ids(self) -> list[tuple[object, ...]]:
        """What the processed table has."""
        resource: WarehouseResource = (self.definitions.resources or {})["warehouse"]
        with resource.opened() as warehouse:
            return sorted((one,) for one in warehouse.query("select id from processed.bookings")["id"].to_pylist())


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """A fresh one."""
    return Deployment(tmp_path)


def test_a_copy_shows_what_it_found_and_runs_on_to_the_table(deployment: Deployment) -> None:
    """Landing, raw and processed in one run; every file is counted."""
    deployment.sender.put(NORTH, lines("1", "2"))
    deployment.sender.put("south/statement_20241001.csv", lines("3"), NOON)
    result = deployment.run("landing.statements", "raw.bookings", "processed.bookings")
    assert result.success
    told = deployment.told(result)
    wanted = {"files_seen": 2, "files_new": 1, "files_left": 1, "files_changed": 0, "files": 1, "versions": 1}
    assert {name: told[name] for name in wanted} == wanted
    assert told["bytes_read"] == told["bytes_landed"] == told["bytes"] == len(lines("1", "2"))
    assert {"bytes_per_second", "seconds", "left"} <= set(told)
    assert deployment.ids() == [("1",), ("2",)]
    deployment.at += timedelta(minutes=2)
    deployment.sender.put(NORTH, lines("1"))
    told = deployment.told(deployment.run("landing.statements", "raw.bookings", "processed.bookings"))
    assert (told["files_new"], told["files_changed"], told["files_left"]) == (1, 1, 0)
    assert deployment.ids() == [("1",), ("3",)]


def test_what_could_not_be_copied_fails_the_check_and_nothing_else(deployment: Deployment, tmp_path: Path) -> None:
    """The names and the reasons are in the check; the other files are loaded."""
    deployment.sender.put(NORTH, lines("1"))
    (tmp_path / "secret").mkdir()
    (tmp_path / "outbox" / "out").symlink_to(tmp_path / "secret")
    result = deployment.run("landing.statements", "raw.bookings", "processed.bookings")
    assert result.success
    (check,) = [one for one in result.get_asset_check_evaluations() if one.check_name == "all_copied"]
    assert not check.passed
    assert "out: it is a symbolic link that leads out of the folder" in str(check.description)
    assert deployment.ids() == [("1",)]
    (tmp_path / "outbox" / "out").unlink()
    result = deployment.run("landing.statements")
    (check,) = [one for one in result.get_asset_check_evaluations() if one.check_name == "all_copied"]
    assert check.passed


def test_a_folder_that_is_not_there_fails_the_run(deployment: Deployment, tmp_path: Path) -> None:
    """With what to see to."""
    (tmp_path / "outbox").rename(tmp_path / "gone")
    result = deployment.run("landing.statements")
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    assert "outbox isn't there" in str(failed.step_failure_data.error)
    assert "INGESTION_REMOTES" in str(failed.step_failure_data.error)


def test_a_remote_that_the_deployment_does_not_name_is_not_copied(deployment: Deployment, tmp_path: Path) -> None:
    """What has landed stays."""
    deployment.sender.put(NORTH, lines("1"))
    assert deployment.run("landing.statements").success
    (tmp_path / "remotes.toml").write_text("[another]\n")
    deployment.sender.put("south/statement_20241001.csv", lines("3"))
    result = deployment.run("landing.statements", "raw.bookings", "processed.bookings")
    assert result.success
    assert deployment.told(result)["files"] == 1
    assert deployment.ids() == [("1",)]


def test_an_sftp_server_is_copied_from_by_the_settings(tmp_path: Path) -> None:
    """User, password and host key stand in the file of INGESTION_REMOTES; a range of days is one run over one connection."""
    with serve_sftp(tmp_path / "sftp") as server:
        table = (
            f'[statements]\nurl = "{server.url}outbox"\nusername = "{USER}"\npassword = "{PASSWORD}"\n'
            f'host_key = "{server.host_key}"\n'
        )
        deployment = Deployment(tmp_path, table, url="sftp://files.example.com/outbox", checksum=".sha256")
        sender = FolderSender(tmp_path / "sftp" / "outbox")
        for day in (DAY, NEXT):
            content = lines(f"{day:%d}", day=day)
            sender.put(f"north/statement_{day:%Y%m%d}.csv", content)
            sender.put(f"north/statement_{day:%Y%m%d}.csv.sha256", hashlib.sha256(content).hexdigest().encode())
        result = deployment.run("landing.statements", "raw.bookings", "processed.bookings", first=DAY, last=NEXT)
        assert result.success
        assert deployment.told(result, NEXT)["files_new"] == 1
        assert deployment.ids() == [("01",), ("02",)]
        assert server.logins == 1
        assert PASSWORD not in str([str(event) for event in result.all_events])


def test_a_schedule_copies_today_and_the_days_before(deployment: Deployment) -> None:
    """Never before the first day, and not while a copy is under way."""
    request = deployment.tick("statements_copy", datetime(2024, 10, 9, 23, tzinfo=UTC))
    assert isinstance(request, dg.RunRequest)
    assert (request.tags[RANGE_START], request.tags[RANGE_END]) == ("2024-10-07", "2024-10-10")
    assert request.asset_selection == [asset_key("landing.statements")]
    assert "begins on 2024-10-01" in str(deployment.tick("statements_copy", datetime(2024, 9, 1, tzinfo=UTC)))
    assert "under way" in str(deployment.tick("statements_copy", datetime(2024, 10, 9, tzinfo=UTC), under_way=True))
    assert copy_schedule(remote(), ZONE, is_running=True) is None
    with pytest.raises(DeclarationError, match="is no cron line"):
        copy_schedule(remote(schedule="hourly"), ZONE, is_running=True)


def test_the_close_of_the_day_copies_known_remotes(deployment: Deployment) -> None:
    """So that what came until midnight lands before the day's reports are made."""
    request = deployment.tick("close_of_the_day", datetime(2024, 10, 5, 0, tzinfo=UTC))
    assert isinstance(request, dg.RunRequest)
    assert asset_key("landing.statements") in (request.asset_selection or [])


def test_schedules_are_on_where_the_settings_know_the_remote(deployment: Deployment) -> None:
    """A machine that isn't told of a remote copies it only by hand, and then nothing."""
    for remotes, status in ((deployment.settings.remotes, "RUNNING"), (None, "STOPPED")):
        settings = deployment.settings.model_copy(update={"remotes": remotes})
        schedule = build_definitions(settings, deployment.datasets, SqlTables({})).get_repository_def()
        assert schedule.get_schedule_def("statements_copy").default_status.value == status


@pytest.mark.parametrize(
    ("url", "access", "told"),
    [
        ("outbox", {"password": "secret"}, "has no use for"),
        ("sftp://h/x", {"user": "secret"}, "has 'user', which SFTP has no use for"),
        ("sftp://h/x", {"host_key": "k"}, "has no username"),
        ("sftp://h/x", {"username": "u"}, "must have either known_hosts or host_key"),
        (
            "sftp://h/x",
            {"username": "u", "known_hosts": "a", "host_key": "b"},
            "must have either known_hosts or host_key",
        ),
        ("sftp://h/x", {"username": 7, "host_key": "b"}, "'username' is no text"),
        ("sftp://u:secret@h/x", {"username": "u"}, "holds a user or a password"),
    ],
)
def test_what_the_settings_can_not_say_of_a_remote_is_told(url: str, access: dict[str, Any], told: str) -> None:
    """Before anything is connected, and without showing a secret."""
    with pytest.raises(SettingsError, match=told) as caught:
        open_remote(remote(), {"statements": RemoteSettings(url, access)})
    assert "secret" not in str(caught.value)
    assert "[statements]" in str(caught.value)


def test_a_folder_may_be_named_in_several_ways(tmp_path: Path) -> None:
    """A path, or file://…."""
    for url in (str(tmp_path), f"file://{tmp_path}"):
        folder = open_remote(remote(), {"statements": RemoteSettings(url)})
        assert isinstance(folder, LocalFolder)
        assert folder.url == str(tmp_path)
