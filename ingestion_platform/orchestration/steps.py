"""
One step, however many days: does them in order, shows each as it finishes, and fails at the end for those that failed.

A day that finished has its materialization and its check results in Dagster's event log at once, so a run that is killed or that fails
keeps them. Dagster would add a second materialization of every partition when the step's output is yielded: so the output carries the mark
by which Dagster's own observable assets say that their events are out already.
"""

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import dagster as dg

from ingestion_platform.errors import IngestionError
from ingestion_platform.orchestration.checks import Verdict, evaluation, judge_certificate
from ingestion_platform.orchestration.graph import Table, asset_key
from ingestion_platform.orchestration.metadata import Metadata, table_of_records
from ingestion_platform.orchestration.partitions import day_of
from ingestion_platform.orchestration.progress import DaysProgress
from ingestion_platform.orchestration.resource import WarehouseResource
from ingestion_platform.warehouse import Warehouse

EVENTS_ARE_OUT = "__source_asset_observation__"
"""Dagster's mark (`dagster._core.definitions.source_asset`) on an output whose asset events the step has logged itself."""
FULLY_SHOWN = 31
"""In a longer range only the last day gets the columns and the preview: they'd be the same a thousand times."""

Event = dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckEvaluation | dg.Output[None]


@dataclass(frozen=True)
class Outcome:
    """
    What became of one day.

    Args:
        metadata: shown on the partition.
        verdicts: of the checks.
        content: changes when the partition's content does.
        story: one line for the log.
    """

    metadata: Metadata
    verdicts: Sequence[Verdict]
    content: str
    story: str


Work = Callable[[Warehouse, date | None, bool], Outcome]
"""Does one day. The third argument: whether to show everything."""


@dataclass(frozen=True)
class FailedDay:
    """A day that failed, and why."""

    day: date | None
    reason: str
    hint: str
    can_retry: bool


def run_days(
    context: dg.AssetExecutionContext, table: Table, specs: Sequence[dg.AssetCheckSpec], work: Work
) -> Iterator[Event]:
    """
    Do the step's days, one after the other.

    Raises:
        dg.Failure: days have failed; it names them. What the others gave is kept.
    """
    resource: WarehouseResource = context.resources.warehouse
    days: list[date | None] = [day_of(key) for key in context.partition_keys] if table.is_daily else [None]
    done, blocked = _of_former_attempts(context, table) if context.retry_number else (set[str | None](), False)
    failed: list[FailedDay] = []
    with resource.opened() as warehouse:
        days = _with_missing(context, warehouse, table, days)
        progress = DaysProgress(sum((day.isoformat() if day is not None else None) not in done for day in days))
        for number, day in enumerate(days, start=1):
            partition = day.isoformat() if day is not None else None
            if partition in done:
                continue
            is_shown = len(days) <= FULLY_SHOWN or number == len(days)
            try:
                outcome = work(warehouse, day, is_shown)
            except IngestionError as error:
                if len(days) == 1:
                    raise as_failure(error, f"{table.key} {partition or ''}".strip()) from error
                failed.append(FailedDay(day, error.what, error.hint, error.can_retry))
                progress.day_done()
                context.log.error(f"{partition}: {error}")
                continue
            except Exception as error:
                # One day's surprise doesn't cost the others their work; a single day fails with the whole trace. What nobody
                # foresaw comes again however often it is tried, unless it comes from outside.
                if len(days) == 1:
                    if isinstance(error, OSError):
                        raise
                    raise dg.Failure(
                        f"{table.key} {partition or ''}: {type(error).__name__}: {error}", allow_retries=False
                    ) from error
                failed.append(FailedDay(day, f"{type(error).__name__}: {error}", "", False))
                progress.day_done()
                context.log.error(f"{partition}: {traceback.format_exc()}")
                continue
            context.log.info(f"{table.key} {partition or ''}: {outcome.story}{progress.day_done()}")
            yield dg.AssetMaterialization(
                asset_key(table.key),
                metadata=outcome.metadata,
                partition=partition,
                tags={"dagster/data_version": outcome.content} if outcome.content else None,
            )
            for verdict in (*outcome.verdicts, judge_certificate(warehouse.certified(table.key, day))):
                if not verdict.passed:
                    log = context.log.error if verdict.check.severity == "error" else context.log.warning
                    log(f"{table.key} {partition or ''}: check {verdict.check.name}: {verdict.story}")
                yield evaluation(table.key, partition, verdict)
    if failed:
        raise _failed_days(table.key, failed, len(days))
    if blocked:
        raise dg.Failure(
            f"{table.key}: a blocking check failed on a day that a former attempt of this run did", allow_retries=False
        )
    for spec in specs:
        yield dg.Output(None, output_name=spec.get_python_identifier())
    yield dg.Output(
        None,
        output_name=asset_key(table.key).to_python_identifier(),
        metadata={EVENTS_ARE_OUT: dg.MetadataValue.bool(True)},
    )


def as_failure(error: IngestionError, place: str) -> dg.Failure:
    """A platform error as Dagster's: what and hint for a person, retried only where that can help."""
    hint = f"\nHint: {error.hint}" if error.hint else ""
    return dg.Failure(
        f"{place}: {error.what}{hint}",
        metadata={"error": type(error).__name__, "hint": error.hint},
        allow_retries=error.can_retry,
    )


def _with_missing(
    context: dg.AssetExecutionContext, warehouse: Warehouse, table: Table, days: Sequence[date | None]
) -> list[date | None]:
    """The days, and of a state that is carried on those never computed that each is made of, in their order."""
    if table.sql is None or not table.sql.carries_on:
        return list(days)
    found: dict[date | None, None] = {}
    for day in days:
        assert day is not None, "what is carried on has days"
        if missing := [one for one in warehouse.missing_before(table.sql, day) if one not in found]:
            told = str(missing[0]) if len(missing) == 1 else f"{len(missing):,} days from {missing[0]} to {missing[-1]}"
            context.log.info(f"{table.key} {day} carries on a state that was never computed: {told} first")
        found |= dict.fromkeys([*missing, day])
    return list(found)


def _failed_days(table: str, failed: Sequence[FailedDay], days: int) -> dg.Failure:
    named = ", ".join(str(one.day) for one in failed[:10]) + (
        f" and {len(failed) - 10} more" if len(failed) > 10 else ""
    )
    first = failed[0]
    hint = f"\nHint: {first.hint}" if first.hint else ""
    return dg.Failure(
        f"{table}: {len(failed)} of {days} days failed: {named}. The others are done and stay."
        f"\n{first.day}: {first.reason}{hint}",
        metadata={
            "failed_days": table_of_records(
                {"day": "string", "reason": "string", "hint": "string"},
                ({"day": str(one.day), "reason": one.reason, "hint": one.hint} for one in failed),
            )
        },
        allow_retries=any(one.can_retry for one in failed),
    )


def _of_former_attempts(context: dg.AssetExecutionContext, table: Table) -> tuple[set[str | None], bool]:
    """The partitions that this step has finished before it was tried again, and whether a blocking check failed on one of them."""
    key = asset_key(table.key)
    done: set[str | None] = set()
    blocked = False
    for entry in context.instance.all_logs(
        context.run.run_id,
        of_type={dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_CHECK_EVALUATION},
    ):
        event = entry.dagster_event
        if event is None:
            continue
        if event.is_step_materialization and event.asset_key == key:
            done.add(event.partition)
        elif event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            found = event.asset_check_evaluation_data
            if found.asset_key == key and not found.passed and found.blocking:
                blocked = blocked or found.severity is dg.AssetCheckSeverity.ERROR
    return done, blocked
