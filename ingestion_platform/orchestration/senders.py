"""
What a person does about senders, in Dagster: excuse one, and have each told what is wrong with what he sent.

Belongs here: the jobs and the schedule. Doesn't: the note itself (`warehouse/sender_notes.py`), ways to tell (`notices.py`).
"""

from collections.abc import Sequence
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
from pydantic import Field

from ingestion_platform.dataset import Dataset
from ingestion_platform.errors import DeclarationError, IngestionError
from ingestion_platform.orchestration.notices import Messenger, Notice, tell
from ingestion_platform.orchestration.resource import WarehouseResource
from ingestion_platform.orchestration.steps import as_failure
from ingestion_platform.warehouse import Warehouse
from ingestion_platform.warehouse.sender_notes import SenderNote, notes_for

EVERY_MORNING = "0 8 * * *"
DAYS = 7


class ExcuseConfig(dg.Config):
    """Who is excused, and by whom."""

    dataset: str = Field(description="Whose senders they are.")
    senders: list[str] = Field(description="Their ids.")
    first: str = Field(description="First day: 2024-10-01.")
    last: str = Field(default="", description="Last day, included. Empty: the first alone.")
    by: str = Field(description="Who excuses them.")
    why: str = Field(description="For those who come after.")
    withdraw: bool = Field(default=False, description="They are expected after all.")


class NotesConfig(dg.Config):
    """Which notes are told."""

    first: str = Field(default="", description="First day: 2024-10-01. Empty: a week that ends with the last.")
    last: str = Field(default="", description="Last day, included. Empty: yesterday.")
    # A default of its own, and no factory: what has none isn't shown at the launchpad.
    datasets: list[str] = Field(default=[], description="Datasets with senders that they are about; none: all.")
    again: bool = Field(default=False, description="Tell what was told before, too.")


@dg.op(name="excuse_senders", required_resource_keys={"warehouse"})
def excuse_senders(context: dg.OpExecutionContext, config: ExcuseConfig) -> None:
    """Land the excuse. What depends on it is computed again when the restatement sensor looks."""
    resource: WarehouseResource = context.resources.warehouse
    try:
        with resource.opened() as warehouse:
            first = _day(config.first)
            key = warehouse.excuse(
                _dataset(warehouse, config.dataset),
                config.senders,
                first,
                _day(config.last) if config.last else first,
                by=config.by,
                why=config.why,
                is_withdrawn=config.withdraw,
            )
    except IngestionError as error:
        raise as_failure(error, "excuse") from error
    context.log.info(f"landed as {key}")
    context.add_output_metadata({"decision": key})


@dg.job(
    name="excuse",
    description="Expect nothing of senders for some days: a strike, a flood. It lands, and a rebuild knows it.",
)
def excuse_job() -> None:
    """The one step."""
    excuse_senders()


def notes_job(to: Sequence[Messenger]) -> dg.JobDefinition:
    """Tells each sender, through the messengers, what needs his attention; nobody the same thing twice."""

    @dg.op(name="tell_senders", required_resource_keys={"warehouse"})
    def tell_senders(context: dg.OpExecutionContext, config: NotesConfig) -> None:
        """One note a sender who has something new to be told."""
        resource: WarehouseResource = context.resources.warehouse
        try:
            with resource.opened() as warehouse:
                last = _day(config.last) if config.last else resource.today() - timedelta(days=1)
                first = _day(config.first) if config.first else last - timedelta(days=DAYS - 1)
                datasets = [_dataset(warehouse, name) for name in config.datasets] or None
                told = tell_notes(
                    warehouse,
                    notes_for(warehouse, first, last, datasets=datasets),
                    to,
                    context.run_id,
                    again=config.again,
                )
        except IngestionError as error:
            raise as_failure(error, "sender_notes") from error
        context.log.info(f"{len(told):,} senders were told: {', '.join(told[:20])}")
        context.add_output_metadata({"senders_told": len(told)})

    @dg.job(
        name="sender_notes",
        description="Each sender is told which of his files and rows need attention, and why; once.",
    )
    def sender_notes() -> None:
        """The one step."""
        tell_senders()

    return sender_notes


def notes_schedule(job: dg.JobDefinition, zone: ZoneInfo) -> dg.ScheduleDefinition:
    """Every morning; switched on by whoever wants it, since a webhook may not be where senders read."""
    return dg.ScheduleDefinition(
        name="sender_notes_every_morning",
        job=job,
        cron_schedule=EVERY_MORNING,
        execution_timezone=zone.key,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Each sender is told what of the last week needs his attention.",
    )


def tell_notes(
    warehouse: Warehouse, notes: Sequence[SenderNote], to: Sequence[Messenger], run_id: str, *, again: bool = False
) -> list[str]:
    """
    Tell notes that say something new.

    Args:
        warehouse: knows what was told.
        notes: of several senders.
        to: who carries them.
        run_id: whose run tells.
        again: tell the others, too.

    Returns:
        The senders that were told.

    Raises:
        NoticeNotDelivered: a note wasn't delivered; it is told the next time, and those before it aren't.
    """
    told = []
    for note in notes:
        lines = [line.digest for line in note.lines]
        if not again and not warehouse.told_lines.has_news(note.sender, lines):
            continue
        tell(notice_of(note, run_id), to)
        warehouse.told_lines.note(note.sender, lines)
        told.append(note.sender)
    return told


def notice_of(note: SenderNote, run_id: str) -> Notice:
    """A note as sinks take it."""
    return Notice(
        kind="sender_note",
        title=note.title,
        text=note.text,
        run_id=run_id,
        job="sender_notes",
        assets=sorted({f"raw/{line.dataset}" for line in note.lines}),
        first_day=note.first.isoformat(),
        last_day=note.last.isoformat(),
        checks=[],
        sender=note.sender,
        csv=note.csv,
    )


def _dataset(warehouse: Warehouse, name: str) -> Dataset:
    if name not in warehouse.datasets:
        raise DeclarationError(f"no dataset is called {name!r}", f"datasets: {', '.join(warehouse.datasets)}")
    return warehouse.datasets[name]


def _day(told: str) -> date:
    try:
        return date.fromisoformat(told)
    except ValueError as error:
        raise DeclarationError(f"{told!r} is no day", "as in 2024-10-01") from error
