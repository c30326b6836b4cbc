"""
Telling a person: a run that failed, a check that failed in a run that didn't, what a sender should know.

Belongs here: what is told, and the ways to tell it. Doesn't: judging (`checks.py`), alerts of live rules (`sinks/`). A check's failure that
isn't blocking leaves its run successful, so finished runs of both kinds are looked at.
"""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, Protocol

import dagster as dg
from pydantic import SecretStr

from ingestion_platform.errors import IngestionError, SettingsError, SourceError
from ingestion_platform.orchestration.checks import TOLD_BEFORE
from ingestion_platform.orchestration.runs import days_of

log = logging.getLogger("ingestion_platform.notices")

MOST_CHECKS = 50
"""Failed checks told in one notice; the number of all is told too."""
LONGEST_TEXT = 4000
TIMEOUT_SECONDS = 10.0


class NoticeNotDelivered(IngestionError):
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
class Notice:
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
        """The notice as it is posted."""
        return json.dumps(asdict(self), ensure_ascii=False).encode()


class Messenger(Protocol):
    """A way to tell somebody."""

    def send(self, notice: Notice) -> None:
        """
        Tell it.

        Raises:
            NoticeNotDelivered: nobody was reached.
        """
        ...


class Log:
    """Tells the log."""

    def send(self, notice: Notice) -> None:
        """Tell it at level error; a check that warns, and a sender's note, at level warning."""
        is_warning = notice.kind != "run_failed" and all(check.severity == "warn" for check in notice.checks)
        log.log(logging.WARNING if is_warning else logging.ERROR, "%s\n%s", notice.title, notice.text)


class Webhook:
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

    def send(self, notice: Notice) -> None:
        """Post it."""
        reason = ""
        for attempt in range(self._attempts):
            if attempt:
                time.sleep(self._pause_seconds * 2 ** (attempt - 1))
            try:
                # Whoever sets the variable may mean a host of his own network; a redirect into it isn't followed.
                # Its client brings much along that a code location without notices has no use for.
                from ingestion_platform.sources.http_post import Poster

                poster = Poster(self._url.get_secret_value(), private_hosts=True, timeout_seconds=TIMEOUT_SECONDS)
                try:
                    answer = poster.post(notice.as_json(), {"content-type": "application/json; charset=utf-8"})
                finally:
                    poster.close()
            except (SourceError, SettingsError) as error:
                reason = error.what
                continue
            if 200 <= answer.status < 300:
                return
            reason = f"it answered {answer.status}"
            if answer.status < 500 and answer.status != 429:
                break
        raise NoticeNotDelivered(f"the webhook took nothing: {reason}", "check INGESTION_NOTICE_WEBHOOK")


def messengers(webhook: SecretStr | None) -> tuple[Messenger, ...]:
    """The log always, and the webhook when there is one."""
    return (Log(), Webhook(webhook)) if webhook is not None else (Log(),)


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


def notice_for(run: dg.DagsterRun, checks: Sequence[FailedCheck], reason: str | None) -> Notice:
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
    return Notice(
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


def tell(notice: Notice, to: Sequence[Messenger]) -> None:
    """
    Tell everybody, also when one can't be reached.

    Raises:
        NoticeNotDelivered: somebody wasn't reached; the others were.
    """
    missed: list[NoticeNotDelivered] = []
    for messenger in to:
        try:
            messenger.send(notice)
        except NoticeNotDelivered as error:
            missed.append(error)
    if missed:
        raise missed[0]


def failed_run_sensor(
    to: Sequence[Messenger], status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING
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
        tell(notice_for(run, failed_checks(context.instance, run.run_id), _reason(context)), to)

    return alert_failed_runs


def failed_check_sensor(
    to: Sequence[Messenger], status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING
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
            tell(notice_for(context.dagster_run, found, None), to)

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
