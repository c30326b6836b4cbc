"""A stream's segments for tests of the warehouse: made by hand, cut as a test wants them."""

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa

from ingestion_platform.dataset import Daily, Dataset, Datasets
from ingestion_platform.formats.segments import DENSE_ENVELOPE, write_segment
from ingestion_platform.stream import EVERYTHING_ELSE, Kafka, Span, Stream, StreamSegments
from ingestion_platform.table import INTEGER, TIMESTAMP, VARCHAR, Column
from ingestion_platform_tests.warehouse.building import DAY

POS = Stream(name="pos", description="What tills tell as it happens.", source=Kafka(topic="pos"), first_day=DAY)

_AT = Column("at", TIMESTAMP, "When.", required=True)

SALES = Dataset(
    name="pos_sales",
    description="One row per sale.",
    source=StreamSegments(POS, routed_by="type", types=("sale",)),
    columns=(Column("id", VARCHAR, "Its number.", required=True), Column("units", INTEGER, "How many."), _AT),
    primary_key=("id",),
    event_time="at",
    daily=Daily(DAY, allowed_lateness_days=2),
)

REST = Dataset(
    name="pos_rest",
    description="One row per record of another type.",
    source=StreamSegments(POS, routed_by="type", types=EVERYTHING_ELSE),
    columns=(
        Column("type", VARCHAR, "What it is."),
        Column("value", VARCHAR, "As it came.", source="@value"),
        Column("arrived_at", TIMESTAMP, "When it came.", source="@arrived_at", required=True),
    ),
    event_time="arrived_at",
    daily=Daily(DAY, allowed_lateness_days=2),
)

STREAMED = Datasets([SALES, REST])


def value(position: int, *, type_: str | None = "sale") -> bytes:
    """The record that stands at a position, always the same."""
    at = datetime(2024, 10, 1, 6, tzinfo=UTC) + timedelta(minutes=position)
    record = {"id": f"S{position}", "units": position % 7, "at": at.isoformat()}
    return json.dumps({"type": type_, **record} if type_ else record).encode()


def segment(
    first: int,
    last: int,
    *,
    shard: str = "0",
    hour: datetime | None = None,
    values: Sequence[bytes | None] | None = None,
) -> tuple[str, bytes]:
    """Key and bytes of a segment of `POS`."""
    hour = hour or datetime(DAY.year, DAY.month, DAY.day, 8)
    arrived = (hour - timedelta(hours=2)).replace(tzinfo=UTC)
    rows = [
        {
            "position": position,
            "part": None,
            "arrived_at": arrived + timedelta(microseconds=position),
            "key": f"till-{position % 3}".encode(),
            "headers": [{"name": "trace", "value": b"t"}] if position % 2 else None,
            "value": values[position - first] if values is not None else value(position),
            "schema": None,
        }
        for position in range(first, last + 1)
    ]
    span = Span(first, last)
    batch = pa.RecordBatch.from_pylist(rows, schema=DENSE_ENVELOPE)
    return POS.segment_key(hour, shard, span), write_segment([batch], stream=POS.name, shard=shard, span=span)


def day_of(number: int) -> date:
    """The test's days, from 0."""
    return DAY + timedelta(days=number)
