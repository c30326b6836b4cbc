"""
The weather at our stores, from Meteostat (https://dev.meteostat.net/api/point/daily.html): one request for each store.

Days come in a day to a week late, and are mended after that: the last week is asked for again every morning.
"""

from datetime import date

from ingestion_platform.api import Api, ApiKey, ApiPages, EachRow, Endpoint, Rate
from ingestion_platform.dataset import Daily, Dataset
from ingestion_platform.format import Json
from ingestion_platform.table import DATE, VARCHAR, Check, Column, decimal

FIRST_DAY = date(2024, 10, 1)

meteostat = Api(
    name="meteostat",
    base_url="https://meteostat.p.rapidapi.com",
    auth=ApiKey(name="X-RapidAPI-Key"),
    rate=Rate(150, 1),
)

point_daily = Endpoint(
    name="weather",
    description="The weather of a day at a place: one record, or none as long as nothing is known.",
    api=meteostat,
    path="/point/daily",
    params={"lat": "{latitude}", "lon": "{longitude}", "start": "{day}", "end": "{day}", "units": "metric"},
    format=Json("data[*]"),
    each=EachRow("stores", {"store_id": "store_id", "latitude": "latitude", "longitude": "longitude"}),
    # Around the records stands when the reply was made.
    same_when="records",
    first_day=FIRST_DAY,
    schedule="0 6 * * *",
    refetch_days=7,
    owners=("team:retail-data",),
)

weather = Dataset(
    name="weather",
    description="One row per store: the weather of the day where it is.",
    owners=("team:retail-data",),
    kind="snapshots",
    source=ApiPages(point_daily),
    columns=(
        Column(
            "store_id",
            VARCHAR,
            "The store that was asked for.",
            source="@param.store_id",
            required=True,
            references="stores.store_id",
        ),
        Column("observed_on", DATE, "The day, local.", source="date", required=True),
        Column("temperature_min_celsius", decimal(4, 1), "Lowest of the day.", source="tmin", minimum=-90, maximum=60),
        Column("temperature_avg_celsius", decimal(4, 1), "Mean of the day.", source="tavg", minimum=-90, maximum=60),
        Column("temperature_max_celsius", decimal(4, 1), "Highest of the day.", source="tmax", minimum=-90, maximum=60),
        Column("rain_mm", decimal(6, 1), "Rain and snow; NULL where it wasn't measured.", source="prcp", minimum=0),
    ),
    primary_key=("store_id",),
    daily=Daily(FIRST_DAY),
    checks=(
        Check(
            "minimum_is_below_maximum",
            "temperature_min_celsius <= temperature_max_celsius",
            "No day is colder at its warmest than at its coldest.",
            severity="warn",
        ),
    ),
)
