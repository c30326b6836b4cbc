"""Whether alerts are told: the check's judgement, and what the worker reports."""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from ingestion_platform.assembly import declared_datasets, open_warehouse
from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.orchestration import telling as judging
from ingestion_platform.orchestration.checks import ALERTS_ARE_TOLD, processed_checks
from ingestion_platform.orchestration.telling import TABLE, Telling, judge_status, judge_told, told_verdicts
from ingestion_platform.settings import Settings
from ingestion_platform.sinks.outbox import SinkStatus
from ingestion_platform.sinks.standing import SinkStanding
from ingestion_platform_tests.sinks.telling import land, some_alert

NOW = datetime(2024, 10, 1, 9, tzinfo=UTC)
WELL = SinkStatus("security", 9, 3, 1, 2.0, 0, 0.0, "", 1.0)
ILL = SinkStatus("security", 9, 3, 1, 2.0, 4, 600.0, "it answered 503", 60.0)


class Held:
    """An outbox of which only the status is asked."""

    def __init__(self, *statuses: SinkStatus) -> None:
        self.statuses = list(statuses)

    def status(self) -> list[SinkStatus]:
        """What is held."""
        return self.statuses


def reported(instance: dg.DagsterInstance) -> list[tuple[bool, str]]:
    """What Dagster was told, the oldest first."""
    records = instance.get_event_records(dg.EventRecordsFilter(dg.DagsterEventType.ASSET_CHECK_EVALUATION))
    found = [record.event_log_entry.dagster_event for record in records]
    evaluations = [event.asset_check_evaluation_data for event in found if event is not None]
    assert all(one.asset_key == dg.AssetKey(TABLE.split(".")) for one in evaluations)
    return [(one.passed, one.description or "") for one in evaluations][::-1]


def test_dead_letters_and_what_waits_too_long_fail_the_check() -> None:
    """Who, how many, since when, why, and what to do."""
    standings = [
        SinkStanding("audit", True, told=9, waiting=2),
        SinkStanding("security", True, 1, 5, 2, NOW - timedelta(minutes=30), 4, 1, NOW - timedelta(minutes=90), "503"),
        SinkStanding("former", False, dead=1, dead_since=NOW),
    ]
    verdict = judge_told(standings, NOW)
    assert not verdict.passed
    assert verdict.story.startswith(
        "sink security: 4 alerts in dead letters since 90 minutes (503); 2 not told, the oldest for 30 minutes."
        " sink former, not declared any more: 1 alerts in dead letters since 0 minutes ()."
    )
    assert "alerts resend" in verdict.story
    assert verdict.details["dead"].value == 5


def test_the_table_of_alerts_has_the_check_and_others_have_not(tmp_path: Path) -> None:
    """It judges by what has landed; a file of sinks that can't be read fails the check, and not the run."""
    (tmp_path / "landing").mkdir()
    settings = Settings(
        landing=str(tmp_path / "landing"), warehouse=tmp_path / "w.duckdb", sinks=tmp_path / "sinks.toml"
    )
    warehouse = open_warehouse(settings)
    datasets = declared_datasets()
    with_check = [name for name, dataset in datasets.items() if ALERTS_ARE_TOLD in processed_checks(dataset)]
    assert with_check == [TABLE.removeprefix("processed.")]
    alerts, other = datasets[with_check[0]], next(one for one in datasets.values() if one.name not in with_check)
    assert told_verdicts(warehouse, other) == []
    (verdict,) = told_verdicts(warehouse, alerts)
    assert (verdict.passed, "can't be known: INGESTION_SINKS" in verdict.story) == (False, True)
    (tmp_path / "sinks.toml").write_text('[audit]\nkind = "log"\n')
    land(LocalLanding(tmp_path / "landing"), [some_alert()], datetime.now(UTC) - timedelta(hours=1))
    (verdict,) = told_verdicts(warehouse, alerts)
    assert "sink audit: 1 not told, the oldest for 60 minutes" in verdict.story


def test_what_waits_for_a_moment_is_in_order() -> None:
    """And so is a deployment that tells nobody, which is said."""
    assert judge_told([SinkStanding("audit", True, waiting=2)], NOW).story == "2 wait; told: audit"
    assert judge_told([], NOW).story == "no sink is declared: nobody is told"
    assert judge_told([], NOW).check is ALERTS_ARE_TOLD
    assert judge_status([WELL]).passed
    assert not judge_status([WELL, ILL]).passed
    assert not judge_status([SinkStatus("slow", 0, 0, 1, 900.0, 0, 0.0, "", 9.0, is_late=True)]).passed


def test_the_worker_reports_when_it_begins_and_ceases_to_be_in_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once when all is well, each time while it isn't, and loudly in the log."""
    outbox = Held(WELL)
    with dg.DagsterInstance.ephemeral(str(tmp_path)) as instance, caplog.at_level(logging.INFO):
        telling = Telling(outbox, instance)
        for status in (WELL, WELL, ILL, ILL, WELL, WELL):
            outbox.statuses = [status]
            telling.report()
        assert [passed for passed, _ in reported(instance)] == [True, False, False, True]
        assert "4 in dead letters; takes nothing for 600 s; it answered 503" in reported(instance)[1][1]
    assert any(one.levelno == logging.ERROR and "it answered 503" in one.message for one in caplog.records)


def test_telling_goes_on_without_dagster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report that fails is made again; one isn't made before it is due."""
    outbox = Held(WELL)
    with dg.DagsterInstance.ephemeral(str(tmp_path)) as instance:
        telling = Telling(outbox, instance)
        telling.report_when_due()
        assert reported(instance) == []
        monkeypatch.setattr(judging, "REPORT_SECONDS", 0.0)

        def fails(*_: object) -> None:
            raise RuntimeError("the database is locked")

        with monkeypatch.context() as patch:
            patch.setattr(instance, "report_runless_asset_event", fails)
            telling.report_when_due()
        telling.report_when_due()
        assert len(reported(instance)) == 1
