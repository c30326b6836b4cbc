"""
Telling a person: a run that failed, a check that failed in a run that didn't, what a sender should know.

Belongs here: what is told, and the ways to tell it. Doesn't: judging (`checks.py`). A check's failure that isn't blocking leaves its run
successful, so finished runs of both kinds are looked at.
"""

import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, Protocol

import dagster as dg
from pydantic import SecretStr

from ingestion_platform.errors import IngestionError
from ingestion_platform.orchestration.checks import TOLD_BEFORE
from ingestion_platform.orchestration.runs import days_of

log = logging.getLogger("ingestion_platform.alerts")

MOST_CHECKS = 50
"""Failed checks told in one alert; the number of all is told too."""
LONGEST_TEXT = 4000


class AlertNotDelivered(IngestionError):
    """Whoever was to be told couldn't be reached."""

    can_retry = True


@dataclass(frozen=True)
class FailedCheck:
    """A check that failed, and what it said."""

    asset: str
    check: str
    partition: str | None
    severity: Literal["error", "warn"]
    story: str


@dataclass(frozen=True)
class Alert:
    """
    What is told.

    Args:
        kind: `run_failed`, `check_failed`, or `sender_note`: what one sender should know of what he sent.
        title: one line.
        text: for a person, with what to do; what chat systems show.
        run_id: in Dagster.
        job: its name.
        assets: `raw/sales`, those that the run covers.
        first_day: of the run; None without days.
        last_day: of the run.
        checks: those that failed in it.
        sender: of a note: whom it is for.
        csv: of a note: all of it, one line for each thing.
    """

    kind: Literal["run_failed", "check_failed", "sender_note"]
    title: str
    text: str
    run_id: str
    job: str
    assets: Sequence[str]
    first_day: str | None
    last_day: str | None
    checks: Sequence[FailedCheck]
    sender: str = ""
    csv: str = ""

    def as_json(self) -> bytes:
        """The alert as it is posted."""
        return json.dumps(asdict(self), ensure_ascii=False).encode()


class AlertSink(Protocol):
    """A way to tell somebody."""

    def send(self, alert: Alert) -> None:
        """
        Tell it.

        Raises:
            AlertNotDelivered: nobody was reached.
        """
        ...


class LogSink:
    """Tells the log."""

    def send(self, alert: Alert) -> None:
        """Tell it at level error; a check that warns, and a sender's note, at level warning."""
        is_warning = alert.kind != "run_failed" and all(check.severity == "warn" for check in alert.checks)
        log.log(logging.WARNING if is_warning else logging.ERROR, "%s\n%s", alert.title, alert.text)


class WebhookSink:
    """
    Posts JSON to a URL; its field `text` is what Slack, Mattermost and Teams' workflows show.

    Args:
        url: a secret: whoever has it can post. It is in no message.
        attempts: before giving up.
        pause_seconds: between attempts, doubled each time.
    """

    def __init__(self, url: SecretStr, *, attempts: int = 3, pause_seconds: float = 1.0) -> None:
        self._url = url
        self._attempts = attempts
        self._pause_seconds = pause_seconds

    def send(self, alert: Alert) -> None:
        """Post it."""
        reason = ""
        for attempt in range(self._attempts):
            if attempt:
                time.sleep(self._pause_seconds * 2 ** (attempt - 1))
            try:
                posted = urllib.request.Request(
                    self._url.get_secret_value(),
                    data=alert.as_json(),
                    headers={"Content-Type": "application/json; charset=utf-8"},
                    method="POST",
                )
                with urllib.request.urlopen(posted, timeout=10):
                    return
            except urllib.error.HTTPError as error:
                reason = f"it answered {error.code}"
                if error.code < 500 and error.code != 429:
                    break
            except (OSError, ValueError) as error:
                # The error's own text may hold the URL.
                reason = type(error).__name__
        raise AlertNotDelivered(f"the alert webhook took nothing: {reason}", "check INGESTION_ALERT_WEBHOOK")


def sinks(webhook: SecretStr | None) -> tuple[AlertSink, ...]:
    """The log always, and the webhook when there is one."""
    return (LogSink(), WebhookSink(webhook)) if webhook is not None else (LogSink(),)


def failed_checks(instance: dg.DagsterInstance, run_id: str) -> list[FailedCheck]:
    """The checks that failed in a run, errors first; those left out whose cause was told when it began."""
    found: list[FailedCheck] = []
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION):
        if entry.dagster_event is None:
            continue
        result = entry.dagster_event.asset_check_evaluation_data
        if not result.passed and TOLD_BEFORE not in result.metadata:
            is_error = result.severity is dg.AssetCheckSeverity.ERROR
            found.append(
                FailedCheck(
                    result.asset_key.to_user_string(),
                    result.check_name,
                    result.partition,
                    "error" if is_error else "warn",
                    result.description or "",
                )
            )
    return sorted(found, key=lambda check: (check.severity, check.asset, check.partition or "", check.check))


def alert_for(run: dg.DagsterRun, checks: Sequence[FailedCheck], reason: str | None) -> Alert:
    """
    What to tell of a finished run.

    Args:
        run: which.
        checks: those that failed in it.
        reason: why the run failed; None when it succeeded.
    """
    assets = sorted(key.to_user_string() for key in run.asset_selection or ())
    first, last = days_of(run)
    days = "" if first is None else f" {first}" if first == last else f" {first} to {last}"
    if reason is not None:
        title = f"Run failed: {_named(assets) or run.job_name}{days}"
    else:
        title = f"{len(checks)} check{'s' if len(checks) > 1 else ''} failed: {_named(sorted({one.asset for one in checks}))}{days}"
    lines = [title]
    if reason:
        lines.append(reason[:LONGEST_TEXT])
    lines += [
        f"{'✗' if one.severity == 'error' else '!'} {one.asset}{f' {one.partition}' if one.partition else ''} {one.check}: {one.story}"
        for one in checks[:MOST_CHECKS]
    ]
    if len(checks) > MOST_CHECKS:
        lines.append(f"… and {len(checks) - MOST_CHECKS} more")
    lines.append(f"Run {run.run_id} in Dagster's UI: /runs/{run.run_id}")
    return Alert(
        kind="check_failed" if reason is None else "run_failed",
        title=title,
        text="\n".join(lines),
        run_id=run.run_id,
        job=run.job_name,
        assets=assets,
        first_day=first.isoformat() if first else None,
        last_day=last.isoformat() if last else None,
        checks=list(checks[:MOST_CHECKS]),
    )


def tell(alert: Alert, to: Sequence[AlertSink]) -> None:
    """
    Tell everybody, also when one can't be reached.

    Raises:
        AlertNotDelivered: somebody wasn't reached; the others were.
    """
    missed: list[AlertNotDelivered] = []
    for sink in to:
        try:
            sink.send(alert)
        except AlertNotDelivered as error:
            missed.append(error)
    if missed:
        raise missed[0]


def failed_run_sensor(
    to: Sequence[AlertSink], status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING
) -> dg.SensorDefinition:
    """Tells of every run that failed, with the checks that failed in it."""

    @dg.run_failure_sensor(
        name="alert_failed_runs",
        default_status=status,
        description="Tells a person of a run that failed.",
        minimum_interval_seconds=30,
    )
    def alert_failed_runs(context: dg.RunFailureSensorContext) -> None:
        run = context.dagster_run
        tell(alert_for(run, failed_checks(context.instance, run.run_id), _reason(context)), to)

    return alert_failed_runs


def failed_check_sensor(
    to: Sequence[AlertSink], status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING
) -> dg.SensorDefinition:
    """Tells of checks that failed in a run that succeeded."""

    @dg.run_status_sensor(
        run_status=dg.DagsterRunStatus.SUCCESS,
        name="alert_failed_checks",
        default_status=status,
        description="Tells a person of a check that failed although its run succeeded.",
        minimum_interval_seconds=30,
    )
    def alert_failed_checks(context: dg.RunStatusSensorContext) -> None:
        # No SkipReason for a run in order: Dagster fails the whole tick when it gets one beside another run's reaction.
        found = failed_checks(context.instance, context.dagster_run.run_id)
        if found:
            tell(alert_for(context.dagster_run, found, None), to)

    return alert_failed_checks


def _reason(context: dg.RunFailureSensorContext) -> str:
    """The steps' own errors: the run's says only that a step failed."""
    told: list[str] = []
    for event in context.get_step_failure_events():
        data = event.step_failure_data
        if data.user_failure_data is not None and data.user_failure_data.description:
            told.append(f"{event.step_key}: {data.user_failure_data.description}")
        elif data.error is not None:
            cause = data.error.cause or data.error
            told.append(f"{event.step_key}: {cause.message.strip()}")
    return "\n".join(told) or context.failure_event.message or "no reason given"


def _named(names: Sequence[str], limit: int = 4) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
