"""
Whether alerts of live rules are told: judged by what the landing zone knows, and reported by the worker as it goes.

Belongs here: the check's two judgements, the worker's report. Doesn't: telling (`sinks/`), failed runs and checks (`notices.py`).
"""

import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

import dagster as dg

from ingestion_platform.dataset import Dataset
from ingestion_platform.errors import IngestionError
from ingestion_platform.orchestration import metadata as show
from ingestion_platform.orchestration.checks import ALERTS_ARE_TOLD, Verdict, evaluation
from ingestion_platform.sinks.outbox import SinkStatus
from ingestion_platform.sinks.sink import read_sinks
from ingestion_platform.sinks.standing import SinkStanding, standings
from ingestion_platform.warehouse import ALERTS, Warehouse

log = logging.getLogger(__name__)

TABLE = f"processed.{ALERTS}"
"""Of the alerts; the check is the worker's, and the runs' that process them."""
REPORT_SECONDS = 30.0


def told_verdicts(warehouse: Warehouse, dataset: Dataset) -> list[Verdict]:
    """Of the table of alerts, whether they are told; of any other table, nothing."""
    if dataset.name != ALERTS:
        return []
    now = datetime.now(UTC)
    try:
        return [judge_told(standings(warehouse.landing, read_sinks(warehouse.settings.sink_tables()), now), now)]
    except IngestionError as error:
        # The table is right whoever is told of it.
        return [Verdict(ALERTS_ARE_TOLD, False, f"whether alerts are told can't be known: {error}")]


def judge_told(standings: Sequence[SinkStanding], now: datetime) -> Verdict:
    """
    Judge by what the landing zone knows: `sinks.standing.standings`.

    Args:
        standings: of the sinks.
        now: the moment, UTC.
    """
    numbers: dict[str, int | float] = {
        "told": sum(one.told for one in standings),
        "waiting": sum(one.waiting for one in standings),
        "dead": sum(one.dead for one in standings),
        "refused": sum(one.refused for one in standings),
    }
    details = show.numbers(numbers)
    told = []
    for one in standings:
        if one.is_in_order:
            continue
        parts = []
        if one.dead:
            since = f" since {(now - one.dead_since).total_seconds() / 60:.0f} minutes" if one.dead_since else ""
            parts.append(f"{one.dead:,} alerts in dead letters{since} ({one.last_error})")
        if one.late and one.oldest_at is not None:
            minutes = (now - one.oldest_at).total_seconds() / 60
            parts.append(f"{one.late:,} not told, the oldest for {minutes:.0f} minutes")
        told.append(f"sink {one.sink}{'' if one.is_declared else ', not declared any more'}: {'; '.join(parts)}")
    if not told:
        names = ", ".join(one.sink for one in standings)
        story = f"{numbers['waiting']:,} wait; told: {names}" if names else "no sink is declared: nobody is told"
        return Verdict(ALERTS_ARE_TOLD, True, story, details)
    hint = "`python -m ingestion_platform alerts sinks` tells more, `alerts resend` tells them again, `alerts drop` gives them up"
    return Verdict(ALERTS_ARE_TOLD, False, f"{'. '.join(told)}. {hint}", details)


def judge_status(statuses: Sequence[SinkStatus]) -> Verdict:
    """Judge by what the outbox of this process knows."""
    details = show.numbers(
        {
            "told": sum(one.told for one in statuses),
            "messages": sum(one.messages for one in statuses),
            "waiting": sum(one.waiting for one in statuses),
            "dead": sum(one.dead for one in statuses),
            "seconds_left": round(max((one.seconds_left for one in statuses), default=0.0), 1),
        }
    )
    wrong = [str(one) for one in statuses if not one.is_in_order]
    if wrong:
        return Verdict(ALERTS_ARE_TOLD, False, ". ".join(wrong), details)
    return Verdict(ALERTS_ARE_TOLD, True, ". ".join(map(str, statuses)), details)


class HasStatus(Protocol):
    """An outbox, as far as it is reported on."""

    def status(self) -> list[SinkStatus]:
        """How it stands with each sink."""
        ...


class Telling:
    """
    Reports how it stands with an outbox: to the log, and to Dagster whenever it begins or ceases to be in order, and while it isn't.

    Args:
        outbox: of the worker.
        instance: of Dagster, that is told.
    """

    def __init__(self, outbox: HasStatus, instance: dg.DagsterInstance) -> None:
        self._outbox = outbox
        self._instance = instance
        self._reported = time.monotonic()
        self._was_in_order: bool | None = None
        self._told = 0

    def report_when_due(self) -> None:
        """Report when enough time has gone by."""
        if time.monotonic() - self._reported >= REPORT_SECONDS:
            self.report()

    def report(self) -> None:
        """Report now. Without Dagster, telling goes on."""
        self._reported = time.monotonic()
        statuses = self._outbox.status()
        if not statuses:
            return
        verdict = judge_status(statuses)
        told = sum(one.told for one in statuses)
        if not verdict.passed or told != self._told or any(one.waiting for one in statuses):
            log.log(logging.INFO if verdict.passed else logging.ERROR, "%s", verdict.story)
        self._told = told
        if verdict.passed and self._was_in_order:
            return
        try:
            self._instance.report_runless_asset_event(evaluation(TABLE, None, verdict))
            self._was_in_order = verdict.passed
        except Exception:
            log.exception("couldn't report to Dagster whether alerts are told; tried again in %.0f s", REPORT_SECONDS)
