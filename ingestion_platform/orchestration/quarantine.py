"""
Decisions about the quarantine from the UI: a job whose configuration says which rows, what, who and why.

Belongs here: Dagster's job, and showing what came of a decision on the assets. Doesn't: the decision (`warehouse/quarantine.py`).
"""

from collections.abc import Iterator
from enum import Enum

import dagster as dg
from pydantic import Field

from ingestion_platform.errors import IngestionError, WarehouseError
from ingestion_platform.orchestration import metadata as show
from ingestion_platform.orchestration.graph import asset_key
from ingestion_platform.orchestration.replays import Told, day_from, events_of
from ingestion_platform.orchestration.resource import WarehouseResource
from ingestion_platform.orchestration.steps import as_failure
from ingestion_platform.warehouse import Warehouse, quarantine
from ingestion_platform.warehouse.quarantine import Chosen


class Action(Enum):
    """What is done about the chosen rows."""

    count = "count"
    redrive = "redrive"
    discard = "discard"
    reopen = "reopen"


class QuarantineConfig(dg.Config):
    """Which rows of the quarantine, and what is decided about them. Every condition that isn't empty must hold."""

    action: Action = Field(
        description="count only looks; redrive reads again; discard sets aside for good; reopen takes that back."
    )
    dataset: str = Field(description="Whose rows.")
    by: str = Field(default="", description="Who decides.")
    why: str = Field(default="", description="For those who come after.")
    # A default of their own, and no factory: what has none isn't shown at the launchpad.
    rules: list[str] = Field(default=[], description="Rows with one of these, as the count by rule names them.")
    reason: str = Field(default="", description="Text in a reason.")
    sender: str = Field(default="", description="Of this sender.")
    first: str = Field(default="", description="First business day: 2024-10-01.")
    last: str = Field(default="", description="Last business day.")
    objects: list[str] = Field(default=[], description="Keys of landed objects.")
    rows: list[int] = Field(default=[], description="Numbers of rows.")
    everything: bool = Field(default=False, description="All rows of the dataset, where nothing else is said.")

    def chosen(self) -> Chosen:
        """
        The rows.

        Raises:
            WarehouseError: a day is none, or nothing is said and not everything is meant.
        """
        found = Chosen(
            dataset=self.dataset,
            rules=tuple(self.rules),
            reason=self.reason,
            sender=self.sender,
            first=day_from(self.first, "first") if self.first else None,
            last=day_from(self.last, "last") if self.last else None,
            objects=tuple(self.objects),
            rows=tuple(self.rows),
        )
        if self.action is not Action.count and not (found.is_narrowed or self.everything):
            raise WarehouseError(
                f"nothing says which rows to {self.action.value}", "rules, objects, first, … or everything: true"
            )
        return found


@dg.op(name="decide", required_resource_keys={"warehouse"}, out=dg.Out(dg.Nothing))
def decide(context: dg.OpExecutionContext, config: QuarantineConfig) -> Iterator[Told]:
    """Do what is decided about the chosen rows, and show on the assets what came of it."""
    resource: WarehouseResource = context.resources.warehouse
    try:
        with resource.opened() as warehouse:
            yield from _decided(context, config, warehouse)
    except IngestionError as error:
        raise as_failure(error, f"quarantine of {config.dataset}, {config.action.value}") from error


def _decided(context: dg.OpExecutionContext, config: QuarantineConfig, warehouse: Warehouse) -> Iterator[Told]:
    chosen, run_id = config.chosen(), context.run_id
    shown: show.Metadata = {}
    if config.action is Action.count:
        story = f"{quarantine.total(warehouse, chosen):,} rows are open"
    elif config.action is Action.redrive:
        redriven = quarantine.redrive(
            warehouse, chosen, by=config.by, why=config.why, run_id=run_id, tell=context.log.info
        )
        outcome, story = redriven.outcome, str(redriven.outcome)
        if redriven.replayed is None:
            story = "nothing is open in quarantine that is like this: nothing was read again"
        else:
            if not redriven.has_changed:
                story += "; nothing has changed"
            yield from events_of(warehouse, redriven.replayed.computed)
            for day in sorted(redriven.replayed.raw_days):
                yield dg.AssetObservation(
                    asset_key(warehouse.datasets[config.dataset].raw), partition=day.isoformat(), description=story
                )
        shown |= show.numbers(
            {
                "chosen": outcome.chosen, "released": outcome.released, "superseded": outcome.superseded,
                "remaining": outcome.remaining, "changed_objects": outcome.changed,
            }
        )  # fmt: skip
        if outcome.why:
            shown["why"] = show.reasons(outcome.why)
        shown |= _recorded(redriven.keys)
    else:
        decide = quarantine.discard if config.action is Action.discard else quarantine.reopen
        done = decide(warehouse, chosen, by=config.by, why=config.why, run_id=run_id)
        word = "discarded" if config.action is Action.discard else "reopened"
        story = f"{done.rows:,} rows of {done.objects:,} objects are {word} by {config.by}"
        if not done.rows:
            state = "discarded" if config.action is Action.discard else "open"
            story = f"nothing to do: {done.already:,} rows are {state} already"
        processed = warehouse.datasets[config.dataset].processed
        yield from events_of(warehouse, [*((processed, day) for day in done.days), *done.behind])
        shown |= show.numbers({"rows": done.rows, "already": done.already, "days": len(done.days)})
        shown |= _recorded(done.keys)
    context.log.info(story)
    left = quarantine.count(warehouse, Chosen(dataset=config.dataset), "rule")
    if left:
        shown["open_by_rule"] = show.reasons(dict(left))
    yield dg.Output(None, metadata={"story": dg.MetadataValue.text(story), **shown})


def _recorded(keys: tuple[str, ...]) -> show.Metadata:
    return {"recorded_as": dg.MetadataValue.text(", ".join(keys))} if keys else {}


@dg.job(
    name="quarantine",
    description="Redrive, discard or reopen rows of the quarantine: the launchpad's configuration says which, who and why.",
)
def quarantine_job() -> None:
    """The one step."""
    decide()
