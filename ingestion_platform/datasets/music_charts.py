"""
Charts of music by region: what is played where, for marketing.

The provider is made up, and so is its host; the settings say where it is.
"""

from datetime import date

from ingestion_platform.api import Api, ApiPages, ClientCredentials, EachValue, Endpoint, PageToken, Rate
from ingestion_platform.dataset import Daily, Dataset
from ingestion_platform.format import Json
from ingestion_platform.table import INTEGER, VARCHAR, Column

FIRST_DAY = date(2024, 10, 1)

charts = Api(
    name="music_charts",
    base_url="https://api.charts.example/v2",
    auth=ClientCredentials(token_url="oauth/token", scope="charts.read"),
    rate=Rate(20, 1),
)

daily_charts = Endpoint(
    name="trending_music",
    description="The twenty tracks that were played most in a region on a day, ten a page.",
    api=charts,
    path="/charts/{region_code}",
    params={"date": "{day}", "limit": "10"},
    format=Json("entries[*]"),
    paging=PageToken("page_token", "next_page_token"),
    # ISO 3166: the provinces that we sell in, and Namibia.
    each=EachValue("region_code", ("ZA-GP", "ZA-WC", "ZA-KZN", "ZA-EC", "ZA-LP", "NA")),
    record_key=("../chart.region.code", "track.id"),
    first_day=FIRST_DAY,
    schedule="0 7 * * *",
    owners=("team:marketing",),
)

trending_music = Dataset(
    name="trending_music",
    description="One row per region and track of its chart of the day.",
    owners=("team:marketing",),
    kind="snapshots",
    source=ApiPages(daily_charts),
    columns=(
        Column("region", VARCHAR, "Sales region.", source="../chart.region.name", required=True),
        Column("region_code", VARCHAR, "ISO 3166.", source="@param.region_code", required=True),
        Column(
            "chart_position", INTEGER, "1 was played most.", source="position", required=True, minimum=1, maximum=20
        ),
        Column("track_id", VARCHAR, "The provider's number.", source="track.id", required=True),
        Column("title", VARCHAR, "What it is called.", source="track.title", required=True),
        Column("artist", VARCHAR, "Who plays it.", source="artist.name", required=True),
        Column("genre", VARCHAR, "What the provider calls it.", source="track.genre"),
        Column("streams", INTEGER, "How often it was played on the day.", required=True, minimum=0),
    ),
    primary_key=("region", "track_id"),
    daily=Daily(FIRST_DAY),
)
