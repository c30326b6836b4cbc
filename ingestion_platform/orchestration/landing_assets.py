"""
What has landed, as assets that are observed and never made: objects, bytes and senders of each day.

The file-arrival sensors report what changed as they see it; observing one by hand looks at its days again.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import date

import dagster as dg

from ingestion_platform.dataset import Dataset
from ingestion_platform.errors import IngestionError
from ingestion_platform.landing import LandedObject
from ingestion_platform.orchestration.assets import format_kind
from ingestion_platform.orchestration.digest import digest
from ingestion_platform.orchestration.graph import landing_key
from ingestion_platform.orchestration.metadata import of_listing
from ingestion_platform.orchestration.partitions import daily, day_of
from ingestion_platform.orchestration.quiet import quiet
from ingestion_platform.orchestration.resource import WarehouseResource
from ingestion_platform.orchestration.steps import EVENTS_ARE_OUT, Event, as_failure


def observation(dataset: Dataset, day: date, objects: Sequence[LandedObject]) -> dg.AssetObservation:
    """What has landed for *day*, as Dagster's event."""
    return dg.AssetObservation(
        landing_key(dataset),
        metadata=of_listing(dataset, objects),
        partition=day.isoformat(),
        tags={"dagster/data_version": digest(objects)},
    )


def landing_asset(dataset: Dataset, *, time_zone: str, store: str) -> dg.AssetsDefinition:
    """
    What has landed of *dataset*.

    Args:
        dataset: whose.
        time_zone: business time.
        store: `s3` or `file`, for the icon.
    """
    key = landing_key(dataset)
    partitions = daily(dataset.daily.from_, time_zone)

    def observe(context: dg.AssetExecutionContext) -> Iterator[Event]:
        resource: WarehouseResource = context.resources.warehouse
        with resource.opened() as warehouse:
            for partition in context.partition_keys:
                try:
                    objects = warehouse.listing(dataset, day_of(partition))
                except IngestionError as error:
                    raise as_failure(error, f"{key.to_user_string()} {partition}") from error
                yield observation(dataset, day_of(partition), objects)
        yield dg.Output(
            None, output_name=key.to_python_identifier(), metadata={EVENTS_ARE_OUT: dg.MetadataValue.bool(True)}
        )

    with quiet():
        observed: Callable[[Callable[[dg.AssetExecutionContext], Iterator[Event]]], dg.AssetsDefinition]
        observed = dg.multi_observable_source_asset(
            name=f"landing__{dataset.name}",
            specs=[
                dg.AssetSpec(
                    key,
                    description=f"{dataset.description}\n\nThe objects as they were put into the landing zone.",
                    partitions_def=partitions,
                    group_name="landing",
                    kinds={store, format_kind(dataset)},
                    owners=dataset.owners,
                    tags=dataset.tags,
                    metadata={"keys": dg.MetadataValue.md("\n".join(f"- `{one.text}`" for one in dataset.source.keys))},
                )
            ],
            partitions_def=partitions,
            required_resource_keys={"warehouse"},
        )
        return observed(observe)
