"""
Streams as assets: `landing/<stream>` drains up to now, by schedule or by hand, or reads the stream again for chosen days.

Belongs here: what Dagster is told of a drain: a materialization for each day that it landed something for, lag, gaps. Doesn't: draining
(`sources/drain.py`), doing so without end (`worker.py`).
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg

from ingestion_platform.errors import DeclarationError, IngestionError, StreamGap
from ingestion_platform.orchestration import metadata as show
from ingestion_platform.orchestration.checks import Verdict, evaluation, specs
from ingestion_platform.orchestration.graph import stream_key, table_of
from ingestion_platform.orchestration.metadata import Metadata
from ingestion_platform.orchestration.partitions import daily, day_of
from ingestion_platform.orchestration.progress import DrainProgress
from ingestion_platform.orchestration.resource import StreamsResource
from ingestion_platform.orchestration.runs import CAUSE, under_way
from ingestion_platform.orchestration.steps import EVENTS_ARE_OUT, Event, as_failure
from ingestion_platform.sources.drain import Drain, Drained, LandedSegment, ShardState
from ingestion_platform.sources.landed import LandedStream
from ingestion_platform.stream import CapturedDatabase, DynamoDbStream, Kafka, Kinesis, MariaDb, Postgres, Span, Stream
from ingestion_platform.table import Check

LAG = Check("lag", "", "The stream is drained to within its declared lag.")
NO_GAPS = Check("no_gaps", "", "No record of the stream is gone before it could land.")


class DrainConfig(dg.Config):
    """Launch-time choices of a stream's landing asset."""

    replay: bool = False
    """Read the stream again for the chosen days, as far as it still has them, and land what of them isn't there."""
    anew: bool = False
    """Begin a database's capture anew, though what happened since it was lost can't be had any more: it is recorded as a gap."""


def source_kind(stream: Stream) -> str:
    """What it is read from, in Dagster's word."""
    match stream.source:
        case Kinesis():
            return "kinesis"
        case Kafka():
            return "kafka"
        case DynamoDbStream():
            return "dynamodb"
        case Postgres():
            return "postgres"
        case MariaDb():
            return "mariadb"


def checks_of(stream: Stream, time_zone: str) -> list[dg.AssetCheckSpec]:
    """The checks of a stream's asset."""
    return specs(table_of(stream_key(stream)), (LAG, NO_GAPS), daily(stream.first_day, time_zone))


def stream_asset(stream: Stream, *, time_zone: str, store: str, retries: dg.RetryPolicy) -> dg.AssetsDefinition:
    """
    What has landed of *stream*, and its drain.

    Args:
        stream: which.
        time_zone: business time.
        store: `s3` or `file`, for the icon.
        retries: of a drain that fails by an error that says a retry can help.
    """
    key = stream_key(stream)
    partitions = daily(stream.first_day, time_zone)
    check_specs = checks_of(stream, time_zone)

    @dg.multi_asset(
        name=f"landing__{stream.name}",
        specs=[
            dg.AssetSpec(
                key,
                description=f"{stream.description}\n\nThe stream's records, as they came, in segments named by shard and position.",
                partitions_def=partitions,
                group_name="landing",
                kinds={store, source_kind(stream)},
                owners=stream.owners,
                tags=stream.tags,
                metadata={"keys": dg.MetadataValue.text(stream.template.text)},
            )
        ],
        check_specs=check_specs,
        backfill_policy=dg.BackfillPolicy.single_run(),
        retry_policy=retries,
        required_resource_keys={"streams"},
    )
    def drain(context: dg.AssetExecutionContext, config: DrainConfig) -> Iterator[Event]:
        resource: StreamsResource = context.resources.streams
        chosen = [day_of(partition) for partition in context.partition_keys]
        landed = resource.landed(stream)
        drained, problem = None, None
        try:
            if config.anew and not isinstance(stream.source, CapturedDatabase):
                raise DeclarationError(
                    f"{stream.name} is no database: only a database's capture can be begun anew", "leave anew out"
                )
            if resource.drains(stream):
                told = DrainProgress(stream, context.log.info)
                work = Drain(landed, resource.reader(stream), on_landed=told.landed)
                try:
                    if config.replay:
                        window = _window(chosen, resource.zone)
                        told.covers(*(moment.astimezone(resource.zone) for moment in window))
                        drained = work.replay(*window)
                    else:
                        drained = work.to_now(anew=config.anew)
                except IngestionError as error:
                    # What had been read until then has landed, and is told all the same.
                    drained, problem = work.so_far(), error
            else:
                context.log.warning(
                    f"{stream.name} isn't drained from here: INGESTION_STREAMS doesn't name it, or INGESTION_DATABASES its database."
                    " What has landed of it stays"
                )
            touched = {segment.hour.date() for segment in (drained.segments if drained else ())}
            for day in sorted(touched if problem is not None else {*chosen, *touched}):
                yield materialization(stream, day, of_day(landed, day, drained))
                for verdict in judge(stream, drained, landed.gaps(day), is_replay=config.replay):
                    if not verdict.passed:
                        context.log.error(f"{key.to_user_string()} {day}: check {verdict.check.name}: {verdict.story}")
                    yield evaluation(table_of(key), day.isoformat(), verdict)
        except IngestionError as error:
            raise as_failure(error, key.to_user_string()) from error
        if drained is not None:
            context.log.info(f"{key.to_user_string()}: {story(drained)}")
            if problem is not None:
                raise as_failure(problem, key.to_user_string()) from problem
            # Whoever begins anew knows that something is gone; the check says so of the day.
            if drained.gaps and not config.replay and not config.anew:
                raise as_failure(gap_error(stream, drained.gaps), key.to_user_string())
        for spec in check_specs:
            yield dg.Output(None, output_name=spec.get_python_identifier())
        yield dg.Output(
            None, output_name=key.to_python_identifier(), metadata={EVENTS_ARE_OUT: dg.MetadataValue.bool(True)}
        )

    return drain


def _window(days: Sequence[date], zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The moments (UTC) at which the first day begins and the last one has ended, or now."""
    first = datetime.combine(min(days), datetime.min.time(), zone).astimezone(UTC)
    last = datetime.combine(max(days) + timedelta(days=1), datetime.min.time(), zone).astimezone(UTC)
    return first, min(last, datetime.now(UTC))


def gap_error(stream: Stream, gaps: Sequence[tuple[str, Span, str]]) -> IngestionError:
    """What is gone, as an error that names the first range."""
    shard, span, why = gaps[0]
    more = f", and {len(gaps) - 1} more" if len(gaps) > 1 else ""
    return StreamGap(
        f"records of stream {stream.name!r} are gone: shard {shard}, {span} ({why}){more}."
        " What came after them has landed",
        "the range is recorded in the landing zone, and the check no_gaps fails until it has landed after all; drain more often"
        " than the stream's retention, or keep it for longer",
    )


def materialization(stream: Stream, day: date, metadata: Metadata) -> dg.AssetMaterialization:
    """What a drain landed for a day, as Dagster's event."""
    return dg.AssetMaterialization(stream_key(stream), metadata=metadata, partition=day.isoformat())


def of_day(landed: LandedStream, day: date, drained: Drained | None) -> Metadata:
    """A day of a stream: what has landed for it in all, and what this drain did."""
    segments = [found for found in landed.day(day) if found.name.kind == "segment"]
    shown = show.numbers(
        {
            "segments": len(segments),
            "bytes": sum(found.size_bytes for found in segments),
            "shards": len({found.name.shard for found in segments}),
        }
    )
    if drained is not None:
        shown |= of_drain(drained.shards, [one for one in drained.segments if one.hour.date() == day], drained.seconds)
    return shown


def of_drain(shards: Mapping[str, ShardState], segments: Sequence[LandedSegment], seconds: float) -> Metadata:
    """The numbers of a drain; those with `landed` are of one day, the others of all shards together."""
    records = sum(segment.records for segment in segments)
    behind = [state.behind_records for state in shards.values() if state.behind_records is not None]
    shown = show.numbers(
        {
            "records_landed": records,
            "segments_landed": len(segments),
            "bytes_landed": sum(segment.size_bytes for segment in segments),
            "records_per_second": show.rows_per_second(records, seconds),
            "already_landed": sum(state.already_landed for state in shards.values()),
            "lag_seconds": round(max((state.behind_seconds or 0.0 for state in shards.values()), default=0.0), 3),
            "throttles": sum(state.throttles for state in shards.values()),
            "throttled_seconds": round(sum(state.throttled_seconds for state in shards.values()), 3),
            "seconds": round(seconds, 3),
        }
    )
    if behind:
        shown["lag_records"] = dg.MetadataValue.int(sum(behind))
    kept = [state.kept_bytes for state in shards.values() if state.kept_bytes is not None]
    if kept:
        shown["log_bytes_behind"] = dg.MetadataValue.int(sum(kept))
    slowest = sorted(shards.items(), key=lambda one: (-(one[1].behind_seconds or 0.0), one[0]))
    shown["by_shard"] = show.table_of_records(
        {
            "shard": "string", "records": "int", "segments": "int", "lag seconds": "string", "lag records": "string",
            "throttles": "int", "has ended": "string",
        },
        (
            {
                "shard": shard,
                "records": state.records,
                "segments": state.segments,
                "lag seconds": "unknown" if state.behind_seconds is None else f"{state.behind_seconds:.1f}",
                "lag records": "unknown" if state.behind_records is None else f"{state.behind_records}",
                "throttles": state.throttles,
                "has ended": "yes" if state.has_ended else "",
            }
            for shard, state in slowest
        ),
    )  # fmt: skip
    return shown


def judge(
    stream: Stream, drained: Drained | None, gaps: Sequence[tuple[str, Span, str]], *, is_replay: bool = False
) -> list[Verdict]:
    """
    Judge a drain.

    Args:
        stream: which.
        drained: what was done; None where this deployment doesn't drain it.
        gaps: shard, positions and note of what is gone on the day.
        is_replay: of a replay, which is behind by what it covers.
    """
    if drained is None or is_replay:
        lag = Verdict(LAG, True, "a replay: not judged" if is_replay else "not drained from here")
    else:
        lag = judge_lag(stream, drained.shards)
    return [lag, judge_gaps(gaps)]


def judge_lag(stream: Stream, shards: Mapping[str, ShardState]) -> Verdict:
    """Judge how far behind the shards are."""
    behind = {shard: state.behind_seconds or 0.0 for shard, state in shards.items()}
    seconds = max(behind.values(), default=0.0)
    details = show.numbers({"lag_seconds": round(seconds, 3), "max_lag_seconds": stream.max_lag_seconds})
    kept = max((state.kept_bytes or 0 for state in shards.values()), default=0)
    if isinstance(stream.source, Postgres):
        details |= show.numbers({"kept_log_bytes": kept, "max_slot_bytes": stream.source.max_slot_bytes})
        if kept > stream.source.max_slot_bytes:
            return Verdict(
                LAG,
                False,
                f"the database keeps {kept:,} bytes of its log for the capture; {stream.source.max_slot_bytes:,} allowed. When its disk"
                " is full it stops, or it drops the slot (max_slot_wal_keep_size): drain more often or longer, or let `make worker`"
                " follow it; a transaction that is open for hours holds its log too",
                details,
            )
    if isinstance(stream.source, MariaDb):
        details |= show.numbers({"log_bytes_behind": kept, "max_behind_bytes": stream.source.max_behind_bytes})
        if kept > stream.source.max_behind_bytes:
            return Verdict(
                LAG,
                False,
                f"{kept:,} bytes of the database's log haven't landed; {stream.source.max_behind_bytes:,} allowed. The database"
                " keeps none of it for the capture (binlog_expire_logs_seconds says how long it does): drain more often or longer, or let"
                " `make worker` follow it",
                details,
            )
    late = sorted(
        (shard for shard, lag in behind.items() if lag > stream.max_lag_seconds), key=lambda one: -behind[one]
    )
    if not late:
        return Verdict(
            LAG,
            True,
            f"{len(shards)} shards, at most {seconds:.0f} s behind; {stream.max_lag_seconds:.0f} s allowed",
            details,
        )
    named = ", ".join(f"{shard} by {behind[shard]:.0f} s" for shard in late[:5])
    return Verdict(
        LAG,
        False,
        f"{len(late)} of {len(shards)} shards are more than {stream.max_lag_seconds:.0f} s behind: {named}."
        " If it grows, drain more often or longer (drain_schedule, drain_seconds), or let `make worker` follow it",
        details,
    )


def judge_gaps(gaps: Sequence[tuple[str, Span, str]]) -> Verdict:
    """Judge what is gone."""
    details = show.numbers({"gaps": len(gaps)})
    if not gaps:
        return Verdict(NO_GAPS, True, "nothing is known to be gone", details)
    details["ranges"] = show.table_of_records(
        {"shard": "string", "first": "string", "last": "string", "note": "string"},
        ({"shard": shard, "first": str(span.first), "last": str(span.last), "note": key} for shard, span, key in gaps),
    )
    shard, span, _ = gaps[0]
    return Verdict(
        NO_GAPS,
        False,
        f"{len(gaps)} ranges are gone, the first: shard {shard}, {span}."
        " Ask the producer to send them again, or land them from wherever they still are",
        details,
    )


def story(drained: Drained) -> str:
    """One line of what a drain did."""
    size = sum(segment.size_bytes for segment in drained.segments)
    state = "caught up" if drained.is_caught_up else f"{drained.behind_seconds:.0f} s behind"
    left_out = sum(one.already_landed for one in drained.shards.values())
    known = f", {left_out:,} had landed before" if left_out else ""
    return (
        f"{drained.records:,} records in {len(drained.segments):,} segments ({size:,} bytes) of {len(drained.shards)} shards"
        f" in {drained.seconds:.1f} s{known}; {state}"
    )


def drain_schedule(stream: Stream, zone: ZoneInfo, *, is_running: bool) -> dg.ScheduleDefinition | None:
    """
    What drains *stream* again and again; None when it declares no schedule.

    Args:
        stream: which.
        zone: business time.
        is_running: whether it is on from the start: where this deployment drains the stream.

    Raises:
        DeclarationError: the cron line isn't one.
    """
    if stream.drain_schedule is None:
        return None

    def run(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        day = context.scheduled_execution_time.astimezone(zone).date()
        if day < stream.first_day:
            return dg.SkipReason(f"{stream.name} begins on {stream.first_day}")
        run_id = under_way(context.instance, "ingestion/stream", stream.name)
        if run_id is not None:
            return dg.SkipReason(f"a drain of {stream.name} is under way: {run_id}")
        return dg.RunRequest(
            run_key=f"{stream.name}|{context.scheduled_execution_time.isoformat()}",
            asset_selection=[stream_key(stream)],
            partition_key=day.isoformat(),
            tags={CAUSE: "drain", "ingestion/stream": stream.name},
        )

    try:
        return dg.ScheduleDefinition(
            name=f"{stream.name}_drain",
            target=dg.AssetSelection.assets(stream_key(stream)),
            cron_schedule=stream.drain_schedule,
            execution_timezone=zone.key,
            execution_fn=run,
            default_status=dg.DefaultScheduleStatus.RUNNING if is_running else dg.DefaultScheduleStatus.STOPPED,
            description=f"Drains {stream.name} up to now.",
        )
    except dg.DagsterInvalidDefinitionError as error:
        raise DeclarationError(
            f"stream {stream.name!r}: drain_schedule {stream.drain_schedule!r} is no cron line", "as in '*/5 * * * *'"
        ) from error
