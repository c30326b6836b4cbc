"""Freezers and fridges of the stores, as their sensors tell it: a type of the tills' stream, which the store's computer passes on."""

from datetime import timedelta

from ingestion_platform.dataset import Daily, Dataset
from ingestion_platform.datasets.point_of_sale import FIRST_DAY, pos
from ingestion_platform.rules import Rule
from ingestion_platform.rules.kinds import LastsLonger
from ingestion_platform.stream import StreamSegments
from ingestion_platform.table import TIMESTAMP, VARCHAR, Column, decimal

freezer_readings = Dataset(
    name="freezer_readings",
    description="One row each time that a freezer's sensor tells its temperature.",
    owners=("team:supply-chain",),
    source=StreamSegments(pos, routed_by="event_type", types=("freezer_reading",)),
    columns=(
        Column("reading_id", VARCHAR, "The sensor's own number of the reading.", required=True),
        Column("store_id", VARCHAR, "Where.", required=True, references="stores.store_id"),
        Column("freezer_id", VARCHAR, "Which freezer of the store.", required=True),
        Column("read_at", TIMESTAMP, "When.", required=True),
        Column("temperature_celsius", decimal(5, 2), "Inside.", required=True, minimum=-80, maximum=80),
        Column("limit_celsius", decimal(5, 2), "Above it goods spoil; NULL: -15."),
    ),
    primary_key=("reading_id",),
    event_time="read_at",
    daily=Daily(FIRST_DAY, allowed_lateness_days=3),
)

warm_freezer = Rule(
    name="warm_freezer",
    description="A freezer has been warmer than its limit for more than ten minutes.",
    on=freezer_readings,
    by=("store_id", "freezer_id"),
    kind=LastsLonger(
        column="temperature_celsius",
        above=-15,
        limit="limit_celsius",
        longer_than=timedelta(minutes=10),
        unit=" °C",
    ),
    priority=2,
    action="notify",
)
