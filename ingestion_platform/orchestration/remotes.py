"""
Remote files as assets: `landing/<remote>` copies what is new or changed for each chosen day, by schedule or by hand.

Belongs here: what Dagster is told of a copy, and when it is done by itself. Doesn't: copying (`sources/copying.py`).
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import dagster as dg

from ingestion_platform.errors import DeclarationError
from ingestion_platform.orchestration import metadata as show
from ingestion_platform.orchestration.checks import Verdict, specs
from ingestion_platform.orchestration.digest import fingerprint
from ingestion_platform.orchestration.graph import Table, fetched_key, table_of
from ingestion_platform.orchestration.metadata import Metadata
from ingestion_platform.orchestration.partitions import daily
from ingestion_platform.orchestration.progress import CopyProgress
from ingestion_platform.orchestration.resource import RemotesResource
from ingestion_platform.orchestration.runs import CAUSE, RANGE_END, RANGE_START, busy
from ingestion_platform.orchestration.steps import Event, Outcome, run_days
from ingestion_platform.remote import RemoteFiles
from ingestion_platform.sources.bandwidth import Bandwidth
from ingestion_platform.sources.copied import LandedRemote
from ingestion_platform.sources.copying import Copied, Copy, Told
from ingestion_platform.table import Check
from ingestion_platform.warehouse import Warehouse

ALL_COPIED = Check(
    "all_copied",
    "",
    "Every file of the day that is there could be copied; what is left for the next look isn't told here.",
)
MOST_TOLD = 100
"""So many names are shown; all of them are counted."""


def remote_asset(remote: RemoteFiles, *, time_zone: str, store: str, retries: dg.RetryPolicy) -> dg.AssetsDefinition:
    """
    What has landed of *remote*, and its copying.

    Args:
        remote: which.
        time_zone: business time.
        store: `s3` or `file`, for the icon.
        retries: of a copy that fails by an error that says a retry can help.
    """
    key = fetched_key(remote)
    table = Table(table_of(key), remote.first_day, ())
    partitions = daily(remote.first_day, time_zone)
    check_specs = specs(table.key, (ALL_COPIED,), partitions)

    @dg.multi_asset(
        name=f"landing__{remote.name}",
        specs=[
            dg.AssetSpec(
                key,
                description=f"{remote.description}\n\nThe files as they stand elsewhere: `{remote.url}`, `{remote.path}`.",
                partitions_def=partitions,
                group_name="landing",
                kinds={store},
                owners=remote.owners,
                tags=remote.tags,
                metadata={"keys": dg.MetadataValue.text(remote.template.text)},
            )
        ],
        check_specs=check_specs,
        backfill_policy=dg.BackfillPolicy.single_run(),
        retry_policy=retries,
        required_resource_keys={"remotes", "warehouse"},
    )
    def copy(context: dg.AssetExecutionContext) -> Iterator[Event]:
        resource: RemotesResource = context.resources.remotes
        landed = resource.landed(remote)
        is_copied = resource.copies(remote)
        if not is_copied:
            context.log.warning(
                f"{remote.name} isn't copied from here: the file of INGESTION_REMOTES has no table [{remote.name}]."
                " What has landed of it stays"
            )
        with resource.folder(remote) if is_copied else nullcontext() as folder:
            bandwidth = Bandwidth(remote.rate_bytes_per_second)
            copier: Copy | None = None

            def work(warehouse: Warehouse, day: date | None, _is_shown: bool) -> Outcome:
                nonlocal copier
                assert day is not None
                if folder is None:
                    verdict = Verdict(ALL_COPIED, True, "not copied from here")
                    return Outcome(_landed_for(landed, day), [verdict], "", "nothing was copied")
                progress = CopyProgress(f"{table.key} {day}", context.log.info)
                if copier is None:
                    copier = Copy(
                        landed, folder, resource.spool(remote), resource.zone, bandwidth=bandwidth, now=resource.now
                    )
                copied = copier.run(day, on_read=progress.read)
                for one in copied.left:
                    context.log.info(f"{table.key} {day}: {one.path} is left for the next look: {one.reason}")
                shown = _landed_for(landed, day) | of_copy(copied)
                return Outcome(shown, [judge(copied)], _content(landed, day), story(copied))

            yield from run_days(context, table, check_specs, work)

    return copy


def _landed_for(landed: LandedRemote, day: date) -> Metadata:
    """What has landed for a day."""
    last = landed.last(day)
    return show.numbers(
        {
            "files": len(last),
            "versions": sum(one.version.number for one in last.values()),
            "bytes": sum(one.landed.size_bytes for one in last.values()),
        }
    )


def _content(landed: LandedRemote, day: date) -> str:
    """Changes when what counts of a day does."""
    return fingerprint(sorted(one.version.key for one in landed.last(day).values()))


def of_copy(copied: Copied) -> Metadata:
    """The numbers of a copy, and the names of what wasn't copied."""
    seconds = max(copied.seconds, 0.001)
    shown = show.numbers(
        {
            "files_seen": copied.seen,
            "files_new": copied.new,
            "files_changed": copied.changed,
            "files_unchanged": copied.unchanged,
            "files_touched": copied.touched,
            "files_left": len(copied.left),
            "files_refused": len(copied.refused),
            "files_failed": len(copied.failed),
            "other_names": copied.others,
            "bytes_read": copied.bytes_read,
            "bytes_resumed": copied.bytes_resumed,
            "bytes_landed": copied.bytes_landed,
            "bytes_per_second": round(copied.bytes_read / seconds),
            "seconds": round(copied.seconds, 3),
        }
    )
    for name, ones in (("left", copied.left), ("refused", copied.refused), ("failed", copied.failed)):
        if ones:
            shown[name] = _table(ones)
    return shown


def _table(ones: Sequence[Told]) -> dg.MetadataValue:
    return show.table_of_records(
        {"path": "string", "reason": "string"},
        ({"path": one.path, "reason": one.reason} for one in ones[:MOST_TOLD]),
    )


def judge(copied: Copied) -> Verdict:
    """Whether every file could be copied."""
    troubled = [*copied.failed, *copied.refused]
    if not troubled:
        left = f"; {len(copied.left):,} are left for the next look" if copied.left else ""
        return Verdict(
            ALL_COPIED, True, f"{copied.new + copied.changed:,} copied, {copied.unchanged:,} as they were{left}"
        )
    told = "; ".join(f"{one.path}: {one.reason}" for one in troubled[:10])
    more = f"; and {len(troubled) - 10:,} more" if len(troubled) > 10 else ""
    return Verdict(
        ALL_COPIED,
        False,
        f"{len(troubled):,} couldn't be copied: {told}{more}. The others have been; these are tried again at every look",
        show.numbers({"not_copied": len(troubled)}),
    )


def story(copied: Copied) -> str:
    """One line of what a copy did."""
    parts = [f"{copied.seen:,} files: {copied.new:,} new, {copied.changed:,} changed, {copied.unchanged:,} unchanged"]
    for number, words in (
        (len(copied.left), "left for the next look"),
        (len(copied.refused), "refused"),
        (len(copied.failed), "failed"),
    ):
        if number:
            parts.append(f"{number:,} {words}")
    parts.append(f"{copied.bytes_read / 1e6:,.1f} MB read")
    if copied.bytes_resumed:
        parts.append(f"{copied.bytes_resumed / 1e6:,.1f} MB were here from an interrupted copy")
    return ", ".join(parts) + f", {copied.seconds:.1f} s"


def copy_schedule(remote: RemoteFiles, zone: ZoneInfo, *, is_running: bool) -> dg.ScheduleDefinition | None:
    """
    What copies *remote* again and again; None when it declares no schedule.

    Args:
        remote: which.
        zone: business time.
        is_running: whether it is on from the start: where this deployment knows the remote.

    Raises:
        DeclarationError: the cron line isn't one.
    """
    if remote.schedule is None:
        return None
    key = fetched_key(remote)

    def run(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        today = context.scheduled_execution_time.astimezone(zone).date()
        if today < remote.first_day:
            return dg.SkipReason(f"{remote.name} begins on {remote.first_day}")
        if busy(context.instance).count([table_of(key)]):
            return dg.SkipReason(f"a copy of {remote.name} is under way")
        first = max(today - timedelta(days=remote.look_back_days), remote.first_day)
        return dg.RunRequest(
            run_key=f"{remote.name}|{context.scheduled_execution_time.isoformat()}",
            asset_selection=[key],
            tags={
                CAUSE: "copy",
                RANGE_START: first.isoformat(),
                RANGE_END: today.isoformat(),
            },
        )

    try:
        return dg.ScheduleDefinition(
            name=f"{remote.name}_copy",
            target=dg.AssetSelection.assets(key),
            cron_schedule=remote.schedule,
            execution_timezone=zone.key,
            execution_fn=run,
            default_status=dg.DefaultScheduleStatus.RUNNING if is_running else dg.DefaultScheduleStatus.STOPPED,
            description=f"Copies what is new or changed of {remote.name}, of today and {remote.look_back_days} days before.",
        )
    except dg.DagsterInvalidDefinitionError as error:
        raise DeclarationError(
            f"remote {remote.name!r}: schedule {remote.schedule!r} is no cron line", "as in '30 * * * *'"
        ) from error
